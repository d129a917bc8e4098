//! Rules between values, and limits on values that any text or number of the right type would break.

use std::time::Duration;

use super::files::postern_file;
use super::{Config, Problems};
use crate::domain::lane::Lane;
use crate::domain::quantity::{HumanDuration, Share};

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
/// No wait of ours on a person or a network is configured longer than this.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// Adds a problem for every rule that is broken.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    let file = postern_file(&config.folder);
    let mut say = |key: &str, detail: String| problems.add(&file, key, detail);
    server(config, &mut say);
    if let Err(detail) = config.store.sqlite_path() {
        say("store.url", detail);
    }
    delivery(config, &mut say);
    lanes(config, &mut say);
}

fn server(config: &Config, say: &mut impl FnMut(&str, String)) {
    let server = &config.server;
    let rest = server.public_url.strip_prefix("http://").or_else(|| server.public_url.strip_prefix("https://"));
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>' | '\\' | '@');
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain)) {
        say("server.public_url", "must be http://HOST or https://HOST, without a query".to_owned());
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
