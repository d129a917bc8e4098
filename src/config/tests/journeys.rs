//! Drawings as brands write them: the shipped one, and everything that can be wrong with one.

use super::*;
use crate::config::journeys::written;
use crate::domain::journey::rule::When;
use crate::domain::journey::{Action, EntryRule, Journey, Trigger};

/// A folder with one journey, `j.toml`.
fn with_journey(text: &str) -> TempDir {
    let folder = folder(RELAY, &[("demo.toml", TENANT)]);
    fs::create_dir(folder.path().join("journeys")).unwrap();
    fs::write(folder.path().join("journeys/j.toml"), text).unwrap();
    folder
}

fn read(text: &str) -> (Config, Vec<String>) {
    let folder = with_journey(text);
    let (config, problems) = Config::read(folder.path(), &Environment::default());
    let inside = format!("{}/journeys/", folder.path().display());
    (config, problems.iter().map(|problem| problem.to_string().replace(&inside, "")).collect())
}

fn drawn(text: &str) -> Journey {
    let (config, problems) = read(text);
    assert_eq!(problems, Vec::<String>::new(), "{text}");
    config.journeys.values().next().unwrap().journey.clone()
}

const HEAD: &str = "tenant = \"demo\"\ntrigger = \"pass.first-install\"\n";

/// The problems of these lines below a correct head, which is lines 1 and 2.
fn wrong(lines: &str) -> Vec<String> {
    read(&format!("{HEAD}{lines}")).1
}

#[test]
fn the_shipped_journey_is_what_its_comments_say() {
    let config = Config::load(&shipped(), &Environment::default()).map_err(|p| p.to_string()).unwrap();
    let welcome = &config.journeys[&"welcome".parse().unwrap()];
    let Journey { tenant, trigger, entry, exit_on, quiet_hours, contact_within, when, steps, .. } = &welcome.journey;
    assert_eq!((tenant.as_str(), *trigger, *entry), ("demo", Trigger::FirstInstall, EntryRule::OncePerCustomer));
    assert_eq!(exit_on.iter().copied().collect::<Vec<_>>(), [Trigger::Removed]);
    assert_eq!(
        (*quiet_hours, contact_within.to_string().as_str()),
        (None, "7d"),
        "who tries it out by night is welcomed"
    );
    assert_eq!(*when, When::default());
    assert_eq!(steps.len(), 4);
    assert_eq!(welcome.journey.templates().collect::<Vec<_>>(), ["welcome", "tips"]);
    let named: Vec<_> =
        config.templates_named.iter().map(|named| (named.key.as_str(), named.template.as_str())).collect();
    assert_eq!(named, [("step[0].send", "welcome"), ("step[3].send", "tips")]);
    // What is a default there is one here.
    let short = drawn(&format!("{HEAD}[[step]]\nsend = \"welcome\"\n"));
    assert_eq!((short.entry, short.contact_within, &short.when), (*entry, *contact_within, when));
    assert_eq!((short.exit_on.len(), short.quiet_hours), (0, None));
}

#[test]
fn every_example_in_the_shipped_journey_is_a_known_key_and_every_key_is_there() {
    let text = fs::read_to_string(shipped().join("journeys/welcome.toml")).unwrap();
    let text = with_examples(&text);
    assert_eq!(read(&text).1, Vec::<String>::new());
    let table: toml::Table = text.parse().unwrap();
    let sorted = |value: &toml::Value| {
        let mut keys: Vec<_> = value.as_table().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(sorted(&toml::Value::Table(table.clone())), fields::of::<written::JourneyFile>());
    assert_eq!(sorted(&table["when"]), fields::of::<written::WhenFile>());
    let comments: String = text.lines().filter(|line| line.starts_with('#')).collect();
    for key in fields::of::<written::StepFile>() {
        assert!(comments.contains(&key) || text.contains(&format!("{key} =")), "{key} is not documented");
    }
    for key in fields::of::<written::ConditionFile>() {
        assert!(comments.contains(&key), "{key} is not documented");
    }
}

#[test]
fn all_that_can_be_drawn_is_read_as_meant() {
    let journey = drawn(
        r#"
tenant = "demo"
trigger = "pass.reinstall"
entry = "cooldown:30d"
exit_on = ["pass.removed", "pass.additional-device"]
contact_within = "0s"
[when]
pass_type = ["loyalty"]
device = "google"
[[step]]
wait_until = { field = "validUntil", before = "7d", at = "09:00" }
[[step]]
send = "soon"
if = { contact = { tier = ["gold", 3, true, 1.5], culture = ["fr"] }, wallet_status = ["apple", "both"] }
unless = { tags_any = ["vip"], medium = ["sms"], device = "google", pass_type = ["loyalty"] }
[[step]]
stop = true
if = { wallet_status = ["none"] }
[[step]]
wait_until = { field = "validUntil" }
[[step]]
wait_until = { field = "birthday", after = "12h" }
[[step]]
send = "late"
[[step]]
stop = true
"#,
    );
    assert_eq!(journey.entry.to_string(), "cooldown:30d");
    let written = serde_json::to_string(&journey.steps).unwrap();
    assert_eq!(
        written,
        "[{\"action\":{\"wait_for_date\":{\"field\":\"validUntil\",\"before\":\"7d\",\"at\":\"09:00\"}}},\
         {\"action\":{\"send\":{\"template\":\"soon\"}},\
         \"if\":{\"wallet_status\":[\"apple\",\"both\"],\"contact\":{\"culture\":[\"fr\"],\"tier\":[\"1.5\",\"3\",\"gold\",\"true\"]}},\
         \"unless\":{\"device\":\"google\",\"pass_type\":[\"loyalty\"],\"tags_any\":[\"vip\"],\"medium\":[\"sms\"]}},\
         {\"action\":\"stop\",\"if\":{\"wallet_status\":[\"none\"]}},\
         {\"action\":{\"wait_for_date\":{\"field\":\"validUntil\"}}},\
         {\"action\":{\"wait_for_date\":{\"field\":\"birthday\",\"after\":\"12h\"}}},\
         {\"action\":{\"send\":{\"template\":\"late\"}}},{\"action\":\"stop\"}]"
    );
    assert!(matches!(journey.steps[6].action, Action::Stop));
}

#[test]
fn a_drawing_that_means_the_same_is_the_same_version_and_any_other_another() {
    let version = |text: &str| drawn(&format!("{HEAD}{text}")).version();
    let one =
        version("exit_on = [\"pass.removed\", \"pass.reinstall\"]\n[[step]]\nwait = \"60s\"\n[[step]]\nsend = \"a\"\n");
    let same = "# moved\nexit_on = [\"pass.reinstall\", \"pass.removed\"]\nentry = \"once-per-customer\"\nstep = [{ wait = \"1m\" }, { send = \"a\" }]\n";
    assert_eq!(one, version(same));
    assert_ne!(one, version(&same.replace("1m", "2m")));
}

/// Every mistake there is.
const EVERYTHING_WRONG: &str = r#"tenant = "dmeo"
triger = "pass.first-install"
entry = "cooldown:0s"
exit_on = ["pass.gone", "pass.removed"]
quiet_hours = "21:00-21:00"
contact_within = "soon"
[when]
device = "ios"
medium = ["email", ""]
colour = ["red"]

[[step]]
send = "welcome"
wait = "3d"
[[step]]
wait = "0s"
[[step]]
wait = "three days"
[[step]]
if = { wallet_status = ["both", "bath"], tag = ["x"] }
[[step]]
send = "tips"
unless = {}
[[step]]
wait_until = "9:00"
[[step]]
wait_until = { feld = "validUntil", before = "7d", after = "1d", at = "25:00" }
[[step]]
stop = false
if = { contact = { tier = [] } }
[[step]]
send = "x"
if = { device = "apple" }
unless = { device = "apple" }
[[step]]
stop = true
[[step]]
send = "never"
[[step]]
send = "never"
"#;

#[test]
fn everything_wrong_with_a_drawing_is_found_in_one_run_with_its_line() {
    let (_, found) = read(EVERYTHING_WRONG);
    let expected = [
        "j.toml: trigger: is missing: write one of pass.first-install, pass.reinstall, pass.additional-device, pass.removed",
        "j.toml: line 1: tenant: there is no tenant dmeo",
        "j.toml: line 2: triger: unknown key",
        "j.toml: line 3: entry: a cooldown must be more than 0s",
        "j.toml: line 4: exit_on[0]: must be one of pass.first-install, pass.reinstall, pass.additional-device, \
         pass.removed",
        "j.toml: line 5: quiet_hours: begins when it ends",
        "j.toml: line 6: contact_within: \"soon\" is not a duration: write a number and ms, s, m, h or d, as in \"90s\"",
        "j.toml: line 8: when.device: must be one of any, apple, google",
        "j.toml: line 9: when.medium: holds an empty text",
        "j.toml: line 10: when.colour: unknown key",
        "j.toml: line 12: step[0]: does more than one thing (send, wait): write a step for each",
        "j.toml: line 16: step[1].wait: must be more than 0s",
        "j.toml: line 18: step[2].wait: \"three days\" is not a duration: write a number and ms, s, m, h or d, as in \"90s\"",
        "j.toml: line 20: step[3].if.wallet_status[1]: must be one of none, apple, google, both",
        "j.toml: line 20: step[3].if.tag: unknown key",
        "j.toml: line 23: step[4].unless: asks for nothing",
        "j.toml: line 25: step[5].wait_until: not a time of day: write 09:00, up to 23:59",
        "j.toml: line 27: step[6].wait_until.feld: unknown key",
        "j.toml: line 27: step[6].wait_until.at: not a time of day: write 09:00, up to 23:59",
        "j.toml: line 27: step[6].wait_until.field: is missing: the pass's identifier, or the contact's field, with a date",
        "j.toml: line 27: step[6].wait_until: write before or after, not both",
        "j.toml: line 29: step[7].stop: must be true, or not be there",
        "j.toml: line 30: step[7].if.contact: tier: name at least one value",
        "j.toml: line 31: step[8]: is never taken: if and unless ask for the same",
        "j.toml: line 37: step[10]: is never reached: step[9] ends it for everybody",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_step_that_can_never_be_is_refused() {
    for (lines, problem) in [
        ("", "j.toml: step: is missing: write at least one [[step]]"),
        ("step = 3\n", "j.toml: line 3: step: invalid type: integer `3`, expected a sequence"),
        ("step = [{ send = \"a\" }, 3]\n", "j.toml: line 3: step[1]: invalid type: integer `3`, expected a table"),
        ("[[step]]\n", "j.toml: line 3: step[0]: does nothing: write send, wait, wait_until or stop"),
        ("[[step]]\nwait = \"1d\"\n", "j.toml: line 3: step: no step sends anything"),
        (
            "exit_on = [\"pass.first-install\"]\n[[step]]\nsend = \"a\"\n",
            "j.toml: line 3: exit_on: pass.first-install begins this journey: it cannot end it, too",
        ),
        (
            "[when]\ndevice = \"apple\"\n[[step]]\nsend = \"a\"\nif = { device = \"google\" }\n",
            "j.toml: line 7: step[0].if.device: never holds: when.device lets none of that in",
        ),
        (
            "[when]\npass_type = [\"a\"]\n[[step]]\nsend = \"a\"\nunless = { pass_type = [\"b\"] }\n",
            "j.toml: line 7: step[0].unless.pass_type: never holds: when.pass_type lets none of that in",
        ),
        ("[[step]]\nsend = \"a\"\nif = { device = \"any\" }\n", "j.toml: line 5: step[0].if: asks for nothing"),
        ("[[step]]\nsend = 3\n", "j.toml: line 4: step[0].send: invalid type: integer `3`, expected a string"),
        ("[[step]\n", "j.toml: line 3: unclosed array table, expected `]`"),
    ] {
        let found = wrong(lines);
        assert!(found.iter().any(|found| found == problem), "{problem}\nin {found:#?}");
        let also_nothing_sent = found.iter().filter(|found| !found.ends_with("no step sends anything")).count();
        assert!(also_nothing_sent <= 1, "{found:#?}");
    }
    let many = "[[step]]\nsend = \"a\"\n".repeat(101);
    assert_eq!(wrong(&many), ["j.toml: line 203: step[100]: there are more than 100 steps"]);
}

#[test]
fn a_template_that_is_none_is_named_where_it_is_written() {
    let (config, _) = read(&format!("{HEAD}[[step]]\n[[step]]\nsend = \"welcom\"\n[[step]]\nsend = \"tips\"\n"));
    let problems = config.missing_templates(|template| template == "tips");
    assert_eq!(problems.iter().count(), 1);
    let text = problems.to_string();
    assert!(text.ends_with("j.toml: line 5: step[1].send: there is no template \"welcom\""), "{text}");
}

#[test]
fn a_file_whose_name_is_none_and_a_tenant_that_cannot_be_read_are_told_once() {
    let house = folder(RELAY, &[("demo.toml", "from = 3\nrelays = [\"primary\"]\n")]);
    fs::create_dir(house.path().join("journeys")).unwrap();
    fs::write(house.path().join("journeys/Welcome.toml"), format!("{HEAD}[[step]]\nsend = \"a\"\n")).unwrap();
    let found = problems(&house, &Environment::default());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("tenants/demo.toml: from"), "{found:?}");
    assert!(found[1].starts_with("journeys/Welcome.toml: the file's name is not a journey's"), "{found:?}");
}
