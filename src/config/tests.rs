//! The configuration as an operator meets it: shipped files, mistakes, secrets, the environment.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

mod fields;
mod journeys;
mod overrides;

use std::fs;

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::*;
use crate::domain::ids::RelayName;
use crate::domain::lane::Lane;

const RELAY: &str = "[[relays]]\nname = \"primary\"\nhost = \"127.0.0.1\"\nport = 2525\ntls = \"none\"\n";
const TENANT: &str = "from = \"Demo <wallet@demo.example>\"\nrelays = [\"primary\"]\n";

fn folder(postern: &str, tenants: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("postern.toml"), postern).unwrap();
    fs::create_dir(folder.path().join("tenants")).unwrap();
    for (name, text) in tenants {
        fs::write(folder.path().join("tenants").join(name), text).unwrap();
    }
    folder
}

/// `key: detail` of every problem, without the folder's name.
fn problems(folder: &TempDir, environment: &Environment) -> Vec<String> {
    let (_, problems) = Config::read(folder.path(), environment);
    let inside = format!("{}/", folder.path().display());
    problems.iter().map(|problem| problem.to_string().replace(&inside, "")).collect()
}

fn problems_of(postern: &str) -> Vec<String> {
    problems(&folder(postern, &[]), &Environment::default())
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// Every `#key = …` line becomes active; one that stands again after a default takes its place.
fn with_examples(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let example =
            line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
        let Some(example) = example else {
            lines.push(line.to_owned());
            continue;
        };
        let key = format!("{} =", example.split(" =").next().unwrap());
        if lines.last().is_some_and(|last| last.starts_with(&key)) {
            lines.pop();
        }
        lines.push(example.to_owned());
    }
    lines.join("\n")
}

#[test]
fn the_shipped_files_say_the_defaults() {
    let config = Config::load(&shipped(), &Environment::default()).map_err(|p| p.to_string()).unwrap();
    let defaults = Config::defaults();
    assert!(config.server == defaults.server);
    assert!(config.store == defaults.store);
    assert!(config.delivery == defaults.delivery);
    assert!(config.lanes == defaults.lanes);
    assert!(config.limits == defaults.limits);
    assert!(config.brake == defaults.brake);
    assert!(config.wallet == defaults.wallet);
    assert!(config.push == defaults.push);
    assert!(config.outgoing == defaults.outgoing);
    assert!(config.templates == defaults.templates);
    assert!(config.alarms == defaults.alarms);
    assert!(config.audit == defaults.audit);
    assert!(config.log == defaults.log);
    assert!(config.missing_for_serving().is_empty());
    assert_eq!(config.tenants.keys().map(TenantId::as_str).collect::<Vec<_>>(), ["demo"]);
}

#[test]
fn the_shipped_relay_and_tenant_say_the_defaults_where_there_are_any() {
    let shortest = folder(RELAY, &[("demo.toml", TENANT)]);
    let short = Config::load(shortest.path(), &Environment::default()).map_err(|p| p.to_string()).unwrap();
    let long = Config::load(&shipped(), &Environment::default()).map_err(|p| p.to_string()).unwrap();
    let (short_relay, long_relay) = (&short.relays[0], &long.relays[0]);
    assert_eq!(short_relay.sessions, long_relay.sessions);
    assert_eq!(short_relay.messages_per_session, long_relay.messages_per_session);
    assert_eq!(short_relay.session_age_max, long_relay.session_age_max);
    assert_eq!(short_relay.idle_max, long_relay.idle_max);
    assert_eq!(short_relay.connect_timeout, long_relay.connect_timeout);
    assert_eq!(short_relay.greeting_timeout, long_relay.greeting_timeout);
    assert_eq!(short_relay.command_timeout, long_relay.command_timeout);
    assert_eq!(short_relay.data_timeout, long_relay.data_timeout);
    let demo: TenantId = "demo".parse().unwrap();
    let (short, long) = (&short.tenants[&demo], &long.tenants[&demo]);
    assert_eq!(short.name, "demo");
    assert_eq!(short.default_culture, long.default_culture);
    assert_eq!(short.recipients_allowed, long.recipients_allowed);
    assert_eq!(short.data_kept, long.data_kept);
    assert_eq!((short.per_tenant, short.per_recipient), (long.per_tenant, long.per_recipient));
    assert_eq!((&short.timezone, short.journey_mails), (&long.timezone, long.journey_mails));
    let tenant: toml::Table = fs::read_to_string(shipped().join("tenants/demo.toml")).unwrap().parse().unwrap();
    let lookup: contact_lookup::ContactLookupFile = tenant["contact_lookup"].clone().try_into().unwrap();
    assert_eq!(lookup, contact_lookup::ContactLookupFile::default());
    assert!(short.pass_api.is_none() && long.pass_api.is_none());
}

#[test]
fn every_commented_example_is_a_known_key_of_the_right_type() {
    let postern = with_examples(&fs::read_to_string(shipped().join("postern.toml")).unwrap());
    let tenant = with_examples(&fs::read_to_string(shipped().join("tenants/demo.toml")).unwrap());
    let found = problems(&folder(&postern, &[("demo.toml", &tenant)]), &Environment::default());
    let both = |file: &str, key: &str| {
        format!("{file}: {key}_file: give {} or {0}_file, not both", key.rsplit('.').next().unwrap())
    };
    let unreadable = |problem: &String| problem.contains("secret_file: cannot be read");
    let (found, files): (Vec<_>, Vec<_>) = found.into_iter().partition(|problem| problem.contains("not both"));
    let of_tenant = |key| both("tenants/demo.toml", key);
    assert_eq!(
        found,
        [
            both("postern.toml", "relays[0].password"),
            of_tenant("webhook_secret"),
            of_tenant("contact_lookup.header_value"),
            of_tenant("pass_api.key"),
            of_tenant("outbound[0].secret"),
        ]
    );
    assert!(files.iter().all(unreadable), "{files:?}");
}

#[test]
fn every_key_is_documented() {
    let postern = with_examples(&fs::read_to_string(shipped().join("postern.toml")).unwrap());
    let tenant = with_examples(&fs::read_to_string(shipped().join("tenants/demo.toml")).unwrap());
    let postern: toml::Table = postern.parse().unwrap();
    let tenant: toml::Table = tenant.parse().unwrap();
    let keys = |table: &toml::Value| table.as_table().unwrap().keys().cloned().collect::<Vec<_>>();
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    let fields_of_file = fields::of::<files::PosternFile>();
    assert_eq!(sorted(postern.keys().filter(|key| *key != "relays").cloned().collect()), fields_of_file);
    assert_eq!(sorted(keys(&postern["server"])), fields::of::<ServerSettings>());
    assert_eq!(sorted(keys(&postern["store"])), fields::of::<StoreSettings>());
    assert_eq!(sorted(keys(&postern["delivery"])), fields::of::<DeliverySettings>());
    assert_eq!(sorted(keys(&postern["limits"])), fields::of::<LimitsSettings>());
    assert_eq!(sorted(keys(&postern["brake"])), fields::of::<BrakeSettings>());
    assert_eq!(sorted(keys(&postern["wallet"])), fields::of::<WalletSettings>());
    assert_eq!(sorted(keys(&postern["push"])), fields::of::<PushSettings>());
    assert_eq!(sorted(keys(&postern["outgoing"])), fields::of::<OutgoingSettings>());
    assert_eq!(sorted(keys(&postern["templates"])), fields::of::<TemplateSettings>());
    assert_eq!(sorted(keys(&postern["alarms"])), fields::of::<AlarmSettings>());
    assert_eq!(sorted(keys(&postern["audit"])), fields::of::<AuditSettings>());
    assert_eq!(sorted(keys(&tenant["pass_api"])), fields::of::<pass_api::PassApiFile>());
    assert_eq!(sorted(keys(&postern["log"])), fields::of::<LogSettings>());
    assert_eq!(sorted(keys(&postern["relays"][0])), fields::of::<RelaySettings>());
    for lane in Lane::ALL {
        assert_eq!(sorted(keys(&postern["lanes"][lane.as_str()])), fields::of::<lanes::LaneFile>());
    }
    assert_eq!(sorted(keys(&tenant["outbound"][0])), fields::of::<outbound::OutboundFile>());
    assert_eq!(sorted(keys(&tenant["limits"])), fields::of::<tenants::TenantLimitsFile>());
    assert_eq!(sorted(keys(&tenant["contact_lookup"])), fields::of::<contact_lookup::ContactLookupFile>());
    assert_eq!(sorted(tenant.keys().cloned().collect()), fields::of::<tenants::TenantFile>());
}

#[test]
fn every_problem_is_found_in_one_run_and_named_as_in_the_file() {
    let postern = r#"
surprise = 1
[server]
listen = "nowhere"
lisen = "127.0.0.1:1"
[delivery]
window = "many"
retry = ["1s", "soon", "2s", "later", "0s"]
[lanes.urgent]
reserved = 1.5
[lanes.fast]
reserved = 0.1
[[relays]]
name = "a"
port = 99999
colour = "red"
[[relays]]
name = "b"
host = "127.0.0.1"
port = 25
tls = "maybe"
[[relays]]
name = "b"
host = "relay.example"
port = 25
tls = "none"
"#;
    let tenant = "from = \"nobody\"\nfrom_allowed = [\"demo.example\", \"a b\"]\nrelays = [\"a\", \"c\"]\nform = 1\n\
                  recipients_allowed = [\"x y\", \"a@b@c\"]\n[lanes]\n\"*code*\" = \"fast\"\n";
    let found = problems(&folder(postern, &[("demo.toml", tenant), ("Up.toml", TENANT)]), &Environment::default());
    for expected in [
        "postern.toml: surprise: unknown key",
        "postern.toml: server.listen: invalid socket address",
        "postern.toml: server.lisen: unknown key",
        "postern.toml: delivery.window: invalid type: string \"many\"",
        "postern.toml: delivery.retry[1]: \"soon\" is not a duration",
        "postern.toml: delivery.retry[3]: \"later\" is not a duration",
        "postern.toml: lanes.urgent.reserved: 1.5 is not a share",
        "postern.toml: lanes.fast: unknown key",
        "postern.toml: relays[0].port: invalid value: integer `99999`",
        "postern.toml: relays[0].host: is missing",
        "postern.toml: relays[0].colour: unknown key",
        "postern.toml: relays[1].tls: must be one of",
        "postern.toml: relays[2].name: there is another relay of this name",
        "postern.toml: relays[0].tls: is missing",
        "postern.toml: relays[2].tls: \"none\" would send mail",
        "postern.toml: delivery.retry: every delay",
        "tenants/Up.toml: the file's name is not a tenant's",
        "tenants/demo.toml: form: unknown key",
        "tenants/demo.toml: lanes.\"*code*\": must be one of",
        "tenants/demo.toml: from: not an address",
        "tenants/demo.toml: from_allowed[1]: not a domain",
        "tenants/demo.toml: recipients_allowed[0]: neither a domain nor an address",
        "tenants/demo.toml: recipients_allowed[1]: not an address",
        "tenants/demo.toml: relays[1]: there is no relay c",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}\nin {found:#?}");
    }
    assert_eq!(found.len(), 24, "nothing is said twice or made up: {found:#?}");
}

#[test]
fn rates_of_domains_are_read_however_they_are_spelt_and_a_wrong_one_names_its_key() {
    let text =
        format!("{RELAY}[limits]\nrelay_domains = {{ \"Gmail.com\" = \"20/s\", \"bücher.example\" = \"1/m\" }}\n");
    let rates = Config::load(folder(&text, &[]).path(), &Environment::default()).map_err(|p| p.to_string()).unwrap();
    let count = |domain| rates.limits.relay_domains.of(domain).map(|rate| rate.count);
    assert_eq!(count("gmail.com"), Some(20));
    assert_eq!(count("xn--bcher-kva.example"), Some(1));
    assert_eq!(count("other.example"), None);
    for (written, problem) in [
        ("{ \"a b\" = \"20/s\" }", "postern.toml: limits.relay_domains: \"a b\" is not a domain, nor \"*\""),
        (
            "{ \"A.example\" = \"1/s\", \"a.example\" = \"2/s\" }",
            "postern.toml: limits.relay_domains: \"a.example\" is written twice",
        ),
    ] {
        assert_eq!(problems_of(&format!("[limits]\nrelay_domains = {written}\n")), [problem]);
    }
    let found = problems_of("[limits]\nrelay_domains = { \"*\" = \"fast\" }\n");
    assert!(found.len() == 1 && found[0].starts_with("postern.toml: limits.relay_domains"), "{found:?}");
    assert_eq!(problems_of("[delivery]\ndomains_max = 0\nback_off_max = \"0s\"\n").len(), 2);
}

#[test]
fn a_webhook_secret_is_one_or_several_in_the_file_or_beside_it() {
    let secrets = |keys: &str| {
        let folder = folder(RELAY, &[("demo.toml", &format!("{TENANT}{keys}"))]);
        fs::write(folder.path().join("a"), "first\n").unwrap();
        fs::write(folder.path().join("b"), "second").unwrap();
        let keys = fs::read_to_string(folder.path().join("tenants/demo.toml")).unwrap();
        let keys = keys.replace("HERE", folder.path().to_str().unwrap());
        fs::write(folder.path().join("tenants/demo.toml"), keys).unwrap();
        let config = Config::load(folder.path(), &Environment::default());
        let config =
            config.map_err(|problems| problems.iter().map(|problem| problem.key.clone()).collect::<Vec<_>>())?;
        let tenant = &config.tenants[&"demo".parse().unwrap()];
        Ok::<_, Vec<String>>(tenant.webhook_secrets.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(secrets(""), Ok(vec![]));
    assert_eq!(secrets("webhook_secret = \"one\"\n"), Ok(vec!["one".to_owned()]));
    assert_eq!(secrets("webhook_secret = [\"one\", \"two\"]\n"), Ok(vec!["one".to_owned(), "two".to_owned()]));
    assert_eq!(secrets("webhook_secret_file = \"HERE/a\"\n"), Ok(vec!["first".to_owned()]));
    let files = "webhook_secret_file = [\"HERE/a\", \"HERE/b\"]\n";
    assert_eq!(secrets(files), Ok(vec!["first".to_owned(), "second".to_owned()]));
    for (wrong, key) in [
        ("webhook_secret = \"\"\n", "webhook_secret"),
        ("webhook_secret = 7\n", "webhook_secret"),
        ("webhook_secret = { hunter2 = 1 }\n", "webhook_secret"),
        ("webhook_secret_file = \"HERE/none\"\n", "webhook_secret_file"),
        ("webhook_secret = \"one\"\nwebhook_secret_file = \"HERE/a\"\n", "webhook_secret_file"),
    ] {
        assert_eq!(secrets(wrong), Err(vec![key.to_owned()]), "{wrong}");
    }
}

#[test]
fn a_syntax_error_names_the_line_and_never_shows_it() {
    let found = problems_of("[server]\nlisten = \"127.0.0.1:1\"\npassword = hunter2\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("postern.toml: line 3: ") && !found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn no_problem_repeats_a_secret() {
    for password in ["password = 4242", "password = [\"4242\"]", "password = { x = 4242 }", "password = \"4242"] {
        let found = problems_of(&format!("{RELAY}username = \"u\"\n{password}\n"));
        assert!(!found.is_empty() && found.iter().all(|problem| !problem.contains("4242")), "{found:?}");
    }
}

#[test]
fn a_secret_may_stand_in_a_file_without_its_last_newline() {
    let secrets = TempDir::new().unwrap();
    let path = secrets.path().join("password");
    fs::write(&path, "hunter2 \n").unwrap();
    let postern = format!("{RELAY}username = \"u\"\nallow_plaintext = true\npassword_file = {path:?}\n");
    let folder = folder(&postern, &[]);
    let config = Config::load(folder.path(), &Environment::default()).map_err(|p| p.to_string()).unwrap();
    assert_eq!(config.relays[0].password.as_ref().unwrap().expose_secret(), "hunter2 ");

    fs::write(&path, "\n").unwrap();
    assert_eq!(problems_of(&postern), ["postern.toml: relays[0].password_file: the file is empty"]);
    fs::remove_file(&path).unwrap();
    assert!(problems_of(&postern)[0].starts_with("postern.toml: relays[0].password_file: cannot be read"));
}

#[test]
fn the_order_of_lane_patterns_is_kept() {
    let lanes = "\"*z*\" = \"urgent\"\n\"*a*\" = \"journey\"\n\"*\" = \"standard\"\n\"*b*\" = \"urgent\"\n";
    let folder = folder(RELAY, &[("demo.toml", &format!("{TENANT}[lanes]\n{lanes}"))]);
    let config = Config::load(folder.path(), &Environment::default()).map_err(|p| p.to_string()).unwrap();
    let tenant = config.tenants.values().next().unwrap();
    let patterns: Vec<_> = tenant.lanes.iter().map(|(pattern, _)| pattern.as_str()).collect();
    assert_eq!(patterns, ["*z*", "*a*", "*", "*b*"]);
    assert_eq!(tenant.lane_of(Some("az")), Lane::Urgent);
    assert_eq!(tenant.relays, ["primary".parse::<RelayName>().unwrap()]);
}

#[test]
fn a_tenant_has_the_limits_of_all_unless_its_file_says_otherwise() {
    let postern = format!("[limits]\nper_recipient = \"7/d\"\n{RELAY}");
    let own = format!("{TENANT}[limits]\nper_tenant = \"50/s\"\nper_recipient = \"none\"\n");
    let folder = folder(&postern, &[("common.toml", TENANT), ("own.toml", &own)]);
    let config = Config::load(folder.path(), &Environment::default()).map_err(|p| p.to_string()).unwrap();
    let of = |id: &str| {
        let tenant = &config.tenants[&id.parse::<TenantId>().unwrap()];
        [tenant.per_tenant, tenant.per_recipient].map(|limit| limit.to_string())
    };
    assert_eq!((of("common"), of("own")), (["none", "7/d"].map(str::to_owned), ["50/s", "none"].map(str::to_owned)));
    let wrong = format!("{TENANT}[limits]\nper_recipient = \"9/h,burst=3\"\nper_key = \"1/s\"\n");
    let found = problems(&self::folder(RELAY, &[("demo.toml", &wrong)]), &Environment::default());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("tenants/demo.toml: limits.per_key: unknown key"), "{found:?}");
    assert!(found[1].starts_with("tenants/demo.toml: limits.per_recipient: has no burst"), "{found:?}");
}

#[test]
fn a_folder_that_is_not_there_is_a_problem_and_serving_needs_a_relay_and_a_tenant() {
    let nowhere = TempDir::new().unwrap();
    let (config, problems) = Config::read(&nowhere.path().join("none"), &Environment::default());
    assert_eq!(problems.iter().count(), 1);
    assert_eq!(config.missing_for_serving().iter().count(), 2);
}

#[test]
fn impossible_values_are_refused() {
    for (text, key) in [
        ("[server]\npublic_url = \"ftp://x\"", "server.public_url"),
        ("[server]\npublic_url = \"http://x/?q\"", "server.public_url"),
        ("[server]\nrequest_body_max = \"1B\"", "server.request_body_max"),
        ("[server]\nrequest_timeout = \"0s\"", "server.request_timeout"),
        ("[delivery]\nretry = []", "delivery.retry"),
        ("[delivery]\nwindow = 1", "delivery.window"),
        ("[delivery]\nbreaker_failures = 0", "delivery.breaker_failures"),
        ("[delivery]\ndomain_share = 0.0", "delivery.domain_share"),
        ("[server]\ntrusted_proxies = [\"10.0.0.1/8\"]", "server.trusted_proxies[0]"),
        ("[server]\nrequests_in_flight_max = 0", "server.requests_in_flight_max"),
        ("[limits]\nper_key = \"many\"", "limits.per_key"),
        ("[limits]\nper_recipient = \"20/h,burst=40\"", "limits.per_recipient"),
        ("[limits]\nper_recipient = \"20/h,burst=1\"", "limits.per_recipient"),
        ("[limits]\nper_recipient = \"5000/d\"", "limits.per_recipient"),
        ("[limits]\ntracked_max = 100000000", "limits.tracked_max"),
        ("[limits]\nqueue_max = 0", "limits.queue_max"),
        ("[lanes.standard]\ndeliver_within = \"0s\"", "lanes.standard.deliver_within"),
        ("[lanes.standard]\nreserved = 0.8", "lanes: the lanes reserve"),
        ("[brake]\nwindow = \"0s\"", "brake.window"),
        ("[brake]\nfactor = 0.5", "brake.factor"),
        ("[brake]\nfactor = nan", "brake.factor"),
        ("[brake]\nmin_mails = 0", "brake.min_mails"),
        ("[brake]\nlimit = \"100/h,burst=7\"", "brake.limit"),
        ("[brake]\nlimit = \"often\"", "brake.limit"),
        ("[brake]\nsame_recipient = 0", "brake.same_recipient"),
        ("[brake]\nbounce_share = 0.0", "brake.bounce_share"),
        ("[brake]\nbounce_min = 0", "brake.bounce_min"),
        ("[brake]\ncalm = \"0s\"", "brake.calm"),
        ("[brake]\nforget = \"0s\"", "brake.forget"),
        ("[brake]\nstreams_max = 0", "brake.streams_max"),
        ("[brake]\nrecipients_max = 2000000", "brake.recipients_max"),
        ("[wallet]\nhistory_max = 0", "wallet.history_max"),
        ("[wallet]\npasses_max = 0", "wallet.passes_max"),
        ("[wallet]\nevents_max = 0", "wallet.events_max"),
        ("[wallet]\nevents_max = 10001", "wallet.events_max"),
        ("[wallet]\nwebhook_body_max = \"0B\"", "wallet.webhook_body_max"),
        ("[wallet]\nwebhooks_in_flight_max = 0", "wallet.webhooks_in_flight_max"),
        ("[wallet]\nunknown_max = 0", "wallet.unknown_max"),
        ("[wallet]\nunknown_bytes_max = \"0B\"", "wallet.unknown_bytes_max"),
        ("[alarms]\nsilence_expected = 0.5", "alarms.silence_expected"),
        ("[alarms]\nuninstall_factor = nan", "alarms.uninstall_factor"),
        ("[alarms]\nuninstall_min = 0", "alarms.uninstall_min"),
        ("[audit]\ncheckpoint_every = \"0s\"", "audit.checkpoint_every"),
        ("[audit]\ncheckpoint_leaves = 0", "audit.checkpoint_leaves"),
        ("[audit]\nkey_file = \"\"", "audit.key_file"),
        ("[templates]\nthreads = 0", "templates.threads"),
        ("[templates]\nthreads = 65", "templates.threads"),
        ("[templates]\ndepth_max = 15", "templates.depth_max"),
        ("[templates]\nstack = \"1MiB\"", "templates.stack"),
        ("[templates]\nrender_timeout = \"0s\"", "templates.render_timeout"),
        ("[templates]\nwait_max = \"2m\"", "templates.wait_max"),
        ("[templates]\noutput_bytes_max = \"1GiB\"", "templates.output_bytes_max"),
        ("relays = \"primary\"", "relays"),
        ("relays = [\"primary\"]", "relays[0]"),
        ("server = \"x\"", "server"),
        ("[delivery.window]", "delivery.window"),
    ] {
        let found = problems_of(text);
        assert!(found.len() == 1 && found[0].starts_with(&format!("postern.toml: {key}")), "{text}: {found:?}");
    }
}
