//! `postern backfill` against a Pass API that moves, fails and lies: afterwards we know what it knows.
//!
//! Built with `POSTERN_FULL_SIZE=1` in the environment it is tried with 100,000 passes, and its memory is measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Gateway, House, Inbox, Process, finish, request, wait_for, wait_within};
use crate::pass_api::{Fault, KEY, PassApi, SECRET, Told};

const FULL_SIZE: bool = option_env!("POSTERN_FULL_SIZE").is_some();

/// A house whose tenant's passes are read at `api`.
pub fn house(api: &PassApi, more: &str) -> House {
    // Nothing is mailed here.
    let house = House::new("127.0.0.1:9".parse().unwrap(), "");
    configure(&house, api, more);
    house
}

pub fn configure(house: &House, api: &PassApi, more: &str) {
    house.write("pass-api-key", KEY);
    let key = format!("key_file = '{}'\n", house.config().join("pass-api-key").display());
    let tenant = "from = \"Demo <wallet@demo.example>\"\nrelays = [\"primary\"]\n";
    house.write("tenants/demo.toml", &format!("{tenant}{}", api.section(&format!("{key}{more}"))));
}

const RUN: [&str; 3] = ["backfill", "--tenant", "demo"];

/// Runs it to its end, which must be good.
pub fn run(house: &House) -> Value {
    house.json(&RUN)
}

/// Runs it to an end that must be bad, and returns what it says on stderr.
pub fn failing(house: &House) -> String {
    let output = finish(&mut house.command(&RUN));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

pub fn database(house: &House) -> rusqlite::Connection {
    rusqlite::Connection::open(house.path("data/postern.db")).unwrap()
}

/// In which wallets each customer is who is in any, as we know it.
pub fn known(house: &House) -> BTreeMap<String, String> {
    let database = database(house);
    let sql = "SELECT customer, status FROM wallet_customer WHERE tenant = 'demo' AND status <> 'none'";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

pub fn truth(api: &PassApi) -> BTreeMap<String, String> {
    api.world().truth().into_iter().map(|(customer, status)| (customer, status.to_owned())).collect()
}

fn count(house: &House, table: &str) -> i64 {
    database(house).query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

pub fn assert_same(known: &BTreeMap<String, String>, truth: &BTreeMap<String, String>) {
    let differing: Vec<_> = truth
        .keys()
        .chain(known.keys())
        .filter(|customer| known.get(*customer) != truth.get(*customer))
        .map(|customer| (customer, known.get(customer), truth.get(customer)))
        .take(10)
        .collect();
    assert!(differing.is_empty(), "of {}: (customer, known, true): {differing:?}", truth.len());
}

#[test]
fn what_the_api_says_is_known_afterwards_however_it_fails_and_drifts() {
    let api = PassApi::start(3_000, 7);
    let house = house(&api, "page_size = 50\ntimeout = \"1s\"\n");
    for (request, fault) in [
        (0, Fault::Status(500)),
        (4, Fault::Status(503)),
        (9, Fault::Slower(1)),
        (15, Fault::Hang(Duration::from_secs(20))),
        (22, Fault::Cut),
        (28, Fault::NoList),
        (35, Fault::Twice),
    ] {
        api.world().faults.insert(request, fault);
    }
    let first = run(&house);
    assert_same(&known(&house), &truth(&api));
    assert_eq!(first["read"], 3_000, "{first}");
    assert_eq!((&first["complete"], &first["resumed"], &first["dryRun"]), (&true.into(), &false.into(), &false.into()));
    // Six of the faults are asked for again; the search for the end and the look at the new ones take a few.
    assert!((67..80).contains(&first["requests"].as_u64().unwrap()), "{first}");

    api.world().drift(400);
    let drifted = run(&house);
    assert_same(&known(&house), &truth(&api));
    for kind in ["installed", "removed", "new"] {
        assert!(drifted["repaired"][kind].as_u64().unwrap() > 20, "{kind}: {drifted}");
    }
    assert!(drifted["missing"].as_u64().unwrap() > 20, "{drifted}");

    let settled = run(&house);
    let mended = settled["repaired"].as_object().unwrap().values().filter(|count| **count != 0).count();
    assert_eq!((mended, &settled["missing"], &settled["unchanged"]), (0, &0.into(), &settled["read"]), "{settled}");
    assert_eq!(count(&house, "backfill_seen"), 0, "nothing is left of what was seen");
}

#[test]
fn no_pass_that_stays_is_missed_while_the_others_come_and_go_whatever_the_total_says() {
    for (told, repeats_last) in
        [(Told::Truth, false), (Told::Nothing, true), (Told::Number(1), false), (Told::Number(u64::MAX), true)]
    {
        let api = PassApi::start(1_000, 11);
        let house = house(&api, "page_size = 20\n");
        {
            let mut world = api.world();
            (world.told, world.repeats_last, world.moves) = (told, repeats_last, 2);
        }
        let moving = run(&house);
        assert_eq!(moving["complete"], true, "{moving}");
        api.world().moves = 0;
        let (known_now, stayed) = (known(&house), api.world());
        let moved: Vec<String> = stayed
            .moved
            .iter()
            .flat_map(|number| [format!("C{number}"), format!("C{}", number - number % 10 + 8)])
            .collect();
        let only_stayed = |(customer, _): &(String, String)| !moved.contains(customer);
        let right: BTreeMap<_, _> =
            stayed.truth().into_iter().map(|(c, s)| (c, s.to_owned())).filter(only_stayed).collect();
        drop(stayed);
        assert!(right.len() > 300, "{} stayed", right.len());
        assert_same(&known_now.into_iter().filter(only_stayed).collect(), &right);
        // And when it stands still again, all of it.
        run(&house);
        assert_same(&known(&house), &truth(&api));
    }
}

#[test]
fn an_api_that_keeps_no_order_is_read_until_nothing_new_is_found() {
    let api = PassApi::start(500, 3);
    let house = house(&api, "page_size = 20\n");
    api.world().newest_first = true;
    let said = run(&house);
    assert_eq!((&said["read"], &said["complete"]), (&500.into(), &true.into()), "{said}");
    assert!(said["pages"].as_u64().unwrap() >= 50, "twice: {said}");
    assert_same(&known(&house), &truth(&api));
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_stood() {
    let api = PassApi::start(2_000, 5);
    let house = house(&api, "page_size = 50\n");
    api.world().faults.insert(25, Fault::Hang(Duration::from_secs(30)));
    let process = Process::start(&mut house.command(&RUN));
    wait_for("the request that hangs", || (api.world().requests > 25).then_some(()));
    process.signal("KILL");
    drop(process);
    assert!(count(&house, "backfill_seen") >= 900, "what was seen is kept");
    // Meanwhile passes are removed: what stands behind moves towards the beginning.
    for at in 0..30 {
        api.world().passes.remove(at * 7);
    }
    let before = api.world().requests;
    let rest = run(&house);
    let requests = api.world().requests - before;
    assert_eq!((&rest["resumed"], &rest["complete"]), (&true.into(), &true.into()), "{rest}");
    assert!(requests <= 26, "it did not begin again: {requests}");
    assert!(rest["read"].as_u64().unwrap() >= 1_970, "{rest}");
    // What was read before it was removed is known until the next run.
    run(&house);
    assert_same(&known(&house), &truth(&api));
    api.world().faults.clear();
    let anew = house.json(&["backfill", "--tenant", "demo", "--restart"]);
    assert_eq!((&anew["resumed"], &anew["read"]), (&false.into(), &1_970.into()), "{anew}");
}

#[test]
fn a_dry_run_shows_what_a_run_would_do_and_changes_nothing() {
    let api = PassApi::start(300, 9);
    let house = house(&api, "page_size = 50\n");
    run(&house);
    api.world().drift(60);
    api.world().passes[0].customer = 99_999;
    let tables = ["pass_event", "wallet_pass", "audit_leaf", "backfill_seen"];
    let before: Vec<i64> = tables.iter().map(|table| count(&house, table)).collect();
    let run_before: String =
        database(&house).query_row("SELECT tally || number FROM backfill", [], |r| r.get(0)).unwrap();
    let told = house.json(&["backfill", "--tenant", "demo", "--dry-run"]);
    let shown = String::from_utf8(finish(house.command(&RUN).arg("--dry-run")).stdout).unwrap();
    assert_eq!(before, tables.iter().map(|table| count(&house, table)).collect::<Vec<_>>());
    let run_after: String =
        database(&house).query_row("SELECT tally || number FROM backfill", [], |r| r.get(0)).unwrap();
    assert_eq!(run_before, run_after);

    let done = run(&house);
    for key in ["read", "unchanged", "repaired", "notUnderstood", "missing", "pages"] {
        assert_eq!(told[key], done[key], "{key}");
    }
    let differences = told["differences"].as_array().unwrap();
    let of = |kind: &str| differences.iter().filter(|difference| difference["kind"] == kind).count() as u64;
    assert_eq!(of("missing"), done["missing"].as_u64().unwrap());
    assert_eq!(of("removed"), done["repaired"]["removed"].as_u64().unwrap());
    let other = differences.iter().find(|difference| difference["kind"] == "identifiers");
    assert_eq!(other.unwrap()["identifiers"], serde_json::json!(["customerId"]), "{told}");
    assert_eq!(shown.lines().filter(|line| line.contains("PASS")).count(), differences.len(), "{shown}");
    assert_same(&known(&house), &truth(&api));
}

#[test]
fn a_key_that_is_refused_ends_it_at_once_and_the_key_to_mend_is_named() {
    let api = PassApi::start(100, 1);
    let house = house(&api, "");
    for (status, word) in [(401, "401"), (403, "Pass.Read")] {
        api.world().status = Some(status);
        let before = api.world().requests;
        let said = failing(&house);
        assert!(
            said.contains(word) && said.contains("pass_api.key_file in ") && said.contains("tenants/demo.toml"),
            "{said}"
        );
        assert_eq!(api.world().requests - before, 1, "it was asked again");
        assert!(!said.contains(KEY), "{said}");
    }
}

#[test]
fn an_api_that_stays_away_leaves_a_run_that_can_be_gone_on_with() {
    let api = PassApi::start(300, 1);
    let house = house(&api, "page_size = 50\nretries = 1\n");
    api.world().faults.extend((6..100).map(|request| (request, Fault::Status(503))));
    let said = failing(&house);
    assert!(said.contains("say it again to go on"), "{said}");
    api.world().faults = [(8, Fault::Slower(100_000))].into();
    assert!(failing(&house).contains("go slower"), "longer than anybody waits");
    let rest = run(&house);
    assert_eq!((&rest["resumed"], &rest["read"]), (&true.into(), &300.into()), "{rest}");
    assert_same(&known(&house), &truth(&api));
}

#[test]
fn one_run_of_a_tenant_goes_on_at_a_time() {
    let api = PassApi::start(100, 1);
    let house = house(&api, "");
    api.world().faults.insert(1, Fault::Hang(Duration::from_secs(30)));
    let _first = Process::start(&mut house.command(&RUN));
    wait_for("the first to be at it", || (api.world().requests > 1).then_some(()));
    assert!(failing(&house).contains("another run"));
    let told = house.json(&["backfill", "--tenant", "demo", "--dry-run"]);
    assert_eq!(told["read"], 100, "a dry run is in nobody's way");
}

#[test]
fn passes_that_are_gone_leave_their_wallets_unless_that_is_hard_to_believe() {
    let api = PassApi::start(600, 13);
    let house = house(&api, "");
    run(&house);
    let before = known(&house);
    let all = api.world().passes.clone();
    api.world().passes.truncate(150);
    let said = failing(&house);
    assert!(said.contains("hard to believe") && said.contains("missing_max"), "{said}");
    assert_same(&known(&house), &before);
    api.world().passes = all.into_iter().skip(150).collect();
    let done = house.json(&["backfill", "--tenant", "demo", "--restart"]);
    assert!(done["missing"].as_u64().unwrap() > 80, "{done}");
    assert_same(&known(&house), &truth(&api));
}

#[test]
fn no_secret_of_a_pass_nor_the_key_is_kept_or_said() {
    let api = PassApi::start(200, 17);
    let house = house(&api, "page_size = 50\n");
    api.world().faults = [(2, Fault::NoList), (3, Fault::Cut), (4, Fault::Status(500))].into();
    let mut said = Vec::new();
    for arguments in [&["--dry-run"][..], &[], &["--format", "json"]] {
        let output = finish(house.command(&RUN).args(arguments));
        assert!(output.status.success(), "{output:?}");
        said.extend(output.stdout);
        said.extend(output.stderr);
    }
    for entry in std::fs::read_dir(house.path("data")).unwrap() {
        said.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let found = |text: &str| said.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(found("PASS17") && !found(SECRET) && !found(KEY));
}

/// The line that tells of the first reading. It may be said before the gateway says that it serves.
pub(crate) fn told_of_a_reading(gateway: &Gateway) -> Value {
    wait_for("a reading to end", || {
        let log = gateway.process.log();
        let mut lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"] == "the passes of the Pass API were read")
    })
}

#[test]
fn the_gateway_reads_the_passes_each_day_by_itself_and_its_log_names_none() {
    let api = PassApi::start(200, 19);
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    configure(&house, &api, "daily_at = \"03:30\"\ntimezone = \"Europe/Paris\"\n");
    run(&house);
    api.world().drift(50);
    // The day before yesterday, that is.
    database(&house).execute("UPDATE backfill SET started_at = started_at - 172800000", []).unwrap();
    let gateway = house.serve();
    let line = told_of_a_reading(&gateway);
    assert_eq!((&line["tenant"], &line["read"]), (&"demo".into(), &(api.world().passes.len()).into()), "{line}");
    assert_same(&known(&house), &truth(&api));
    let log = gateway.process.log().join("\n");
    assert!(!log.contains("PASS") && !log.contains("C10"), "{log}");
    let requests = api.world().requests;
    gateway.stop();
    let gateway = house.serve();
    gateway.get("/v1/alarms");
    gateway.stop();
    assert_eq!(api.world().requests, requests, "once a day");
}

#[test]
fn alarms_that_are_open_are_listed_for_their_tenant() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    assert_eq!(gateway.get("/v1/alarms").json(), serde_json::json!({"items": []}));
    let row = |id: &str, tenant: &str, closed: &str| {
        format!(
            "INSERT INTO alarm (id, tenant, kind, seen, usual, opened_at, closed_at)
             VALUES (x'0199000000007000800000000000000{id}', '{tenant}', 'uninstalls', 40, 2.0, 1893456000000, {closed})"
        )
    };
    for row in [row("1", "demo", "NULL"), row("2", "demo", "1893456000001"), row("3", "other", "NULL")] {
        database(&house).execute(&row, []).unwrap();
    }
    let items = gateway.get("/v1/alarms").json()["items"].clone();
    let alarm = serde_json::json!({
        "id": "alm_01990000000070008000000000000001", "tenant": "demo", "kind": "uninstalls", "seen": 40, "usual": 2.0,
        "openedAt": "2030-01-01T00:00:00.000Z", "closedAt": null,
    });
    assert_eq!(items, serde_json::json!([alarm]));
    let key = house.key(&["send"]);
    assert_eq!(request("GET", &gateway.url("/v1/alarms"), &[("X-API-KEY", &key)], None).status, 403);
    gateway.stop();
    // Switched off, nobody would end them.
    house.replace("[[relays]]", "[alarms]\nenabled = false\n[[relays]]");
    let gateway = house.serve();
    wait_for("the alarms to end", || {
        (gateway.get("/v1/alarms").json() == serde_json::json!({"items": []})).then_some(())
    });
    gateway.stop();
}

/// The most memory a process has had so far, in KiB.
fn peak(process: &Process) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.id().to_string()).join("status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Reads so many passes with drift; the most memory it took.
fn measured(passes: u64) -> u64 {
    let api = PassApi::start(passes, 23);
    let house = house(&api, "");
    for round in ["first", "drifted"] {
        let mut process = Process::start_and_listen(house.command(&RUN).args(["--format", "json"]));
        let mut most = 0;
        let began = std::time::Instant::now();
        wait_within(Duration::from_mins(20), "the run to end", || {
            let now = peak(&process);
            most = now.unwrap_or(0).max(most);
            // What has ended has no memory any more.
            (most > 0 && now.is_none()).then_some(())
        });
        eprintln!("{round}: {passes} passes, {:?}, at most {most} KiB: {}", began.elapsed(), process.next_line());
        assert!(process.wait().success());
        assert_same(&known(&house), &truth(&api));
        if round == "drifted" {
            return most;
        }
        api.world().drift(usize::try_from(passes / 20).unwrap());
    }
    0
}

#[test]
fn memory_does_not_grow_with_the_number_of_passes() {
    let (few, many) = if FULL_SIZE { (10_000, 100_000) } else { (200, 2_000) };
    let (few, many) = (measured(few), measured(many));
    assert!(many < few + few / 4 + 8_192, "{few} KiB, then {many} KiB");
}
