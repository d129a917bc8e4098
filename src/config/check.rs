//! Rules between values, and limits on values that any text or number of the right type would break.

use std::time::Duration;

use super::files::postern_file;
use super::{Config, Problems};
use crate::domain::lane::Lane;
use crate::domain::quantity::{HumanDuration, Limit, Share};
use crate::sweep::settings::Keep;

/// Entries of a retry table at most.
const RETRIES_MAX: usize = 100;
/// `delivery.window` at least: every lane needs a few places.
const WINDOW_MIN: usize = 10;
/// `delivery.window` at most: it bounds memory.
const WINDOW_MAX: usize = 1_000_000;
/// `delivery.domains_max` at most: it bounds memory.
const DOMAINS_MAX: usize = 1_000_000;
/// `server.request_body_max`, between these.
const BODY_BYTES_MIN: u64 = 1 << 10;
const BODY_BYTES_MAX: u64 = 256 << 20;
/// `server.public_url` at most: with what follows it a link must stand in one line of a mail.
const PUBLIC_URL_CHARS_MAX: usize = 400;
/// `limits.tracked_max` at most: it bounds memory.
const TRACKED_MAX: u32 = 10_000_000;
/// Mails of one recipient that are counted at most: they are walked at each acceptance.
const PER_RECIPIENT_MAX: u32 = 1_000;
/// No wait of ours on a person or a network is configured longer than this.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// `brake.window`, between these.
const BRAKE_WINDOW_MIN: Duration = Duration::from_secs(1);
const BRAKE_WINDOW_MAX: Duration = Duration::from_hours(24);
/// `brake.factor` at most.
const FACTOR_MAX: f64 = 1_000_000.0;
/// Streams and recipients remembered at most: it bounds memory.
const REMEMBERED_MAX: usize = 1_000_000;

/// Events, passes and what else `[wallet]` counts at most: they are walked.
const WALLET_MAX: usize = 1_000_000;
/// `wallet.events_max` at most: they are one transaction.
const EVENTS_MAX: usize = 10_000;

/// `audit.checkpoint_leaves` at most: it bounds memory.
const CHECKPOINT_LEAVES_MAX: u64 = 1_000_000;

/// `retention.batch` at most: it is one transaction.
const RETENTION_BATCH_MAX: usize = 10_000;

/// `bounces.report_max`, between these.
const REPORT_BYTES_MIN: u64 = 16 << 10;
const REPORT_BYTES_MAX: u64 = 64 << 20;

/// `[journeys]` counts at most: it bounds memory.
const JOURNEY_STEPS_MAX: usize = 10_000;

/// `push.in_flight_max` at most: each is a connection.
const PUSHES_IN_FLIGHT_MAX: usize = 1_000;
/// `push.kept_max` at most.
const PUSHES_KEPT_MAX: u64 = 10_000_000;

/// Sizes of `[templates]`, between these.
const TEMPLATE_BYTES_MIN: u64 = 1 << 10;
const TEMPLATE_BYTES_MAX: u64 = 64 << 20;
/// `templates.render_timeout` and `templates.wait_max` at most.
const RENDER_WAIT_MAX: Duration = Duration::from_mins(1);
/// `templates.threads` and `templates.lost_threads_max` at most.
const RENDER_THREADS_MAX: u8 = 64;
/// `templates.depth_max` at least: a page of a mail is a table in a table.
const TEMPLATE_DEPTH_MIN: u8 = 16;

/// Adds a problem for every rule that is broken.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    let file = postern_file(&config.folder);
    let mut say = |key: &str, detail: String| problems.add(&file, key, detail);
    server(config, &mut say);
    if let Err(detail) = config.store.sqlite_path() {
        say("store.url", detail);
    }
    delivery(config, &mut say);
    limits(config, &mut say);
    lanes(config, &mut say);
    brake(config, &mut say);
    wallet(config, &mut say);
    alarms(config, &mut say);
    audit(config, &mut say);
    retention(config, &mut say);
    bounces(config, &mut say);
    journeys(config, &mut say);
    push(config, &mut say);
    templates(config, &mut say);
    wait("outgoing.connect_timeout", config.outgoing.connect_timeout, &mut say);
}

fn server(config: &Config, say: &mut impl FnMut(&str, String)) {
    let server = &config.server;
    let rest = server.public_url.strip_prefix("http://").or_else(|| server.public_url.strip_prefix("https://"));
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>' | '\\' | '@');
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain)) {
        say("server.public_url", "must be http://HOST or https://HOST, without a query".to_owned());
    } else if server.public_url.len() > PUBLIC_URL_CHARS_MAX {
        say("server.public_url", format!("must have at most {PUBLIC_URL_CHARS_MAX} characters"));
    }
    let body = server.request_body_max.0;
    if !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&body) {
        say("server.request_body_max", "must be 1KiB to 256MiB".to_owned());
    }
    wait("server.request_timeout", server.request_timeout, say);
    wait("server.keep_alive", server.keep_alive, say);
}

fn delivery(config: &Config, say: &mut impl FnMut(&str, String)) {
    let delivery = &config.delivery;
    retry("delivery.retry", &delivery.retry, say);
    if !(WINDOW_MIN..=WINDOW_MAX).contains(&delivery.window) {
        say("delivery.window", format!("must be {WINDOW_MIN} to {WINDOW_MAX}"));
    }
    if delivery.shutdown_grace.0 > WAIT_MAX {
        say("delivery.shutdown_grace", "must be at most 1h".to_owned());
    }
    if delivery.breaker_failures == 0 {
        say("delivery.breaker_failures", "must be at least 1".to_owned());
    }
    wait("delivery.breaker_open_max", delivery.breaker_open_max, say);
    if delivery.domain_share == Share::NONE {
        say("delivery.domain_share", "must be more than 0.0".to_owned());
    }
    if !(1..=DOMAINS_MAX).contains(&delivery.domains_max) {
        say("delivery.domains_max", format!("must be 1 to {DOMAINS_MAX}"));
    }
    wait("delivery.back_off_max", delivery.back_off_max, say);
}

fn limits(config: &Config, say: &mut impl FnMut(&str, String)) {
    if let Some(detail) = per_recipient_problem(config.limits.per_recipient) {
        say("limits.per_recipient", detail);
    }
    if config.limits.tracked_max.get() > TRACKED_MAX {
        say("limits.tracked_max", format!("must be 1 to {TRACKED_MAX}"));
    }
}

/// What is wrong with a limit on the mails of one recipient, which are counted over a whole time: no burst.
pub(super) fn per_recipient_problem(limit: Limit) -> Option<String> {
    let rate = limit.rate()?;
    if rate.burst.is_some() {
        return Some("has no burst: so many are taken within any such time, however fast they come".to_owned());
    }
    (rate.count > PER_RECIPIENT_MAX).then(|| format!("must be at most {PER_RECIPIENT_MAX}, or \"none\""))
}

fn lanes(config: &Config, say: &mut impl FnMut(&str, String)) {
    let mut reserved = 0.0;
    for lane in Lane::ALL {
        let rules = config.lanes.get(lane);
        if rules.deliver_within.0.is_zero() {
            say(&format!("lanes.{lane}.deliver_within"), "must be more than 0s".to_owned());
        }
        if let Some(delays) = &rules.retry {
            retry(&format!("lanes.{lane}.retry"), delays, say);
        }
        reserved += f64::from(rules.reserved);
    }
    if reserved > 1.0 {
        say("lanes", format!("the lanes reserve {reserved} of the sessions together: at most 1.0"));
    }
}

fn brake(config: &Config, say: &mut impl FnMut(&str, String)) {
    let brake = &config.brake;
    if !(BRAKE_WINDOW_MIN..=BRAKE_WINDOW_MAX).contains(&brake.window.0) {
        say("brake.window", "must be 1s to 1d".to_owned());
    }
    if !(1.0..=FACTOR_MAX).contains(&brake.factor) {
        say("brake.factor", format!("must be 1.0 to {FACTOR_MAX}"));
    }
    for (key, count) in [
        ("brake.min_mails", brake.min_mails),
        ("brake.same_recipient", brake.same_recipient),
        ("brake.bounce_min", brake.bounce_min),
    ] {
        if count == 0 {
            say(key, "must be at least 1".to_owned());
        }
    }
    if brake.bounce_share == Share::NONE {
        say("brake.bounce_share", "must be more than 0.0".to_owned());
    }
    if brake.limit.is_some_and(|limit| limit.burst.is_some()) {
        say("brake.limit", "has no burst: all of it may come at once".to_owned());
    }
    for (key, length) in [("brake.calm", brake.calm), ("brake.forget", brake.forget)] {
        if length.0.is_zero() {
            say(key, "must be more than 0s".to_owned());
        }
    }
    for (key, count) in [("brake.streams_max", brake.streams_max), ("brake.recipients_max", brake.recipients_max)] {
        if !(1..=REMEMBERED_MAX).contains(&count) {
            say(key, format!("must be 1 to {REMEMBERED_MAX}"));
        }
    }
}

fn wallet(config: &Config, say: &mut impl FnMut(&str, String)) {
    let wallet = &config.wallet;
    for (key, count, max) in [
        ("wallet.history_max", wallet.history_max, WALLET_MAX),
        ("wallet.passes_max", wallet.passes_max, WALLET_MAX),
        ("wallet.events_max", wallet.events_max, EVENTS_MAX),
        ("wallet.unknown_max", wallet.unknown_max, WALLET_MAX),
    ] {
        if !(1..=max).contains(&count) {
            say(key, format!("must be 1 to {max}"));
        }
    }
    for (key, size) in
        [("wallet.webhook_body_max", wallet.webhook_body_max), ("wallet.unknown_bytes_max", wallet.unknown_bytes_max)]
    {
        if !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&size.0) {
            say(key, "must be 1KiB to 256MiB".to_owned());
        }
    }
}

fn audit(config: &Config, say: &mut impl FnMut(&str, String)) {
    let audit = &config.audit;
    wait("audit.checkpoint_every", audit.checkpoint_every, say);
    wait("audit.push_timeout", audit.push_timeout, say);
    if !(1..=CHECKPOINT_LEAVES_MAX).contains(&audit.checkpoint_leaves) {
        say("audit.checkpoint_leaves", format!("must be 1 to {CHECKPOINT_LEAVES_MAX}"));
    }
    for (key, path) in [("audit.key_file", &audit.key_file), ("audit.dir", &audit.dir)] {
        if path.as_os_str().is_empty() {
            say(key, "must not be empty".to_owned());
        }
    }
}

fn retention(config: &Config, say: &mut impl FnMut(&str, String)) {
    let retention = &config.retention;
    if retention.audit != Keep::Forever {
        say("retention.audit", "must be \"forever\": leaves name nobody, and each proof needs them".to_owned());
    }
    if !(1..=RETENTION_BATCH_MAX).contains(&retention.batch) {
        say("retention.batch", format!("must be 1 to {RETENTION_BATCH_MAX}"));
    }
}

fn bounces(config: &Config, say: &mut impl FnMut(&str, String)) {
    let bounces = &config.bounces;
    if bounces.folder.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
        say("bounces.folder", "must not be empty".to_owned());
    }
    if !(REPORT_BYTES_MIN..=REPORT_BYTES_MAX).contains(&bounces.report_max.0) {
        say("bounces.report_max", "must be 16KiB to 64MiB".to_owned());
    }
    wait("bounces.every", bounces.every, say);
    wait("bounces.lmtp_idle_max", bounces.lmtp_idle_max, say);
    if bounces.lmtp_listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        say("bounces.lmtp_listen", "must be on loopback: whoever reaches it may hand in reports".to_owned());
    }
}

fn alarms(config: &Config, say: &mut impl FnMut(&str, String)) {
    let alarms = &config.alarms;
    for (key, value) in
        [("alarms.silence_expected", alarms.silence_expected), ("alarms.uninstall_factor", alarms.uninstall_factor)]
    {
        if !(1.0..=FACTOR_MAX).contains(&value) {
            say(key, format!("must be 1.0 to {FACTOR_MAX}"));
        }
    }
    if alarms.uninstall_min == 0 {
        say("alarms.uninstall_min", "must be at least 1".to_owned());
    }
}

fn journeys(config: &Config, say: &mut impl FnMut(&str, String)) {
    let journey = &config.journey;
    for (key, count) in [("journeys.batch", journey.batch), ("journeys.in_flight_max", journey.in_flight_max)] {
        if !(1..=JOURNEY_STEPS_MAX).contains(&count) {
            say(key, format!("must be 1 to {JOURNEY_STEPS_MAX}"));
        }
    }
    retry("journeys.retry", &journey.retry, say);
}

fn push(config: &Config, say: &mut impl FnMut(&str, String)) {
    let push = &config.push;
    retry("push.retry", &push.retry, say);
    wait("push.timeout", push.timeout, say);
    wait("push.pause_max", push.pause_max, say);
    if !(1..=PUSHES_IN_FLIGHT_MAX).contains(&push.in_flight_max) {
        say("push.in_flight_max", format!("must be 1 to {PUSHES_IN_FLIGHT_MAX}"));
    }
    if !(1..=push.in_flight_max.max(1)).contains(&push.in_flight_per_endpoint) {
        say("push.in_flight_per_endpoint", "must be 1 to push.in_flight_max".to_owned());
    }
    if push.kept.0.is_zero() {
        say("push.kept", "must be more than 0s".to_owned());
    }
    if !(1..=PUSHES_KEPT_MAX).contains(&push.kept_max) {
        say("push.kept_max", format!("must be 1 to {PUSHES_KEPT_MAX}"));
    }
}

fn templates(config: &Config, say: &mut impl FnMut(&str, String)) {
    let templates = &config.templates;
    for (key, size) in [
        ("templates.file_bytes_max", templates.file_bytes_max),
        ("templates.data_bytes_max", templates.data_bytes_max),
        ("templates.output_bytes_max", templates.output_bytes_max),
    ] {
        if !(TEMPLATE_BYTES_MIN..=TEMPLATE_BYTES_MAX).contains(&size.0) {
            say(key, "must be 1KiB to 64MiB".to_owned());
        }
    }
    for (key, length) in
        [("templates.render_timeout", templates.render_timeout), ("templates.wait_max", templates.wait_max)]
    {
        if length.0.is_zero() || length.0 > RENDER_WAIT_MAX {
            say(key, "must be more than 0s and at most 1m".to_owned());
        }
    }
    for (key, count) in
        [("templates.threads", templates.threads), ("templates.lost_threads_max", templates.lost_threads_max)]
    {
        if count.get() > RENDER_THREADS_MAX {
            say(key, format!("must be 1 to {RENDER_THREADS_MAX}"));
        }
    }
    if templates.depth_max.get() < TEMPLATE_DEPTH_MIN {
        say("templates.depth_max", format!("must be {TEMPLATE_DEPTH_MIN} to 255"));
    }
    if let Some(detail) = templates.stack_problem() {
        say("templates.stack", detail);
    }
}

fn retry(key: &str, delays: &[HumanDuration], say: &mut impl FnMut(&str, String)) {
    if delays.is_empty() || delays.len() > RETRIES_MAX {
        say(key, format!("must hold 1 to {RETRIES_MAX} delays"));
    }
    if delays.iter().any(|delay| delay.0.is_zero()) {
        say(key, "every delay must be more than 0s".to_owned());
    }
}

fn wait(key: &str, length: HumanDuration, say: &mut impl FnMut(&str, String)) {
    if length.0.is_zero() || length.0 > WAIT_MAX {
        say(key, "must be more than 0s and at most 1h".to_owned());
    }
}
