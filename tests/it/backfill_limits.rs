//! What ends a reading of the Pass API, and what is not believed of it.

use std::time::Duration;

use crate::backfill::{assert_same, configure, database, failing, house, known, run, told_of_a_reading, truth};
use crate::harness::{House, Inbox, finish, wait_for};
use crate::pass_api::{Fault, PassApi};

#[test]
fn an_api_that_says_it_has_no_pass_is_not_believed_however_few_there_were() {
    for passes in [5, 80] {
        let api = PassApi::start(passes, 13);
        let house = house(&api, "");
        run(&house);
        let before = known(&house);
        assert!(!before.is_empty());
        let all = std::mem::take(&mut api.world().passes);
        let said = failing(&house);
        assert!(said.contains("no pass at all") && said.contains("hard to believe"), "{said}");
        assert_same(&known(&house), &before);
        // Most of them gone: believed of a handful only.
        api.world().passes = all.into_iter().take(1).collect();
        let restart = ["backfill", "--tenant", "demo", "--restart"];
        if passes == 5 {
            house.json(&restart);
            assert_same(&known(&house), &truth(&api));
        } else {
            let output = finish(&mut house.command(&restart));
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(1) && said.contains("hard to believe"), "{said}");
            assert_same(&known(&house), &before);
            configure(&house, &api, "missing_believed = 100\n");
            house.json(&restart);
            assert_same(&known(&house), &truth(&api));
        }
    }
}

#[test]
fn a_last_page_without_a_usable_id_is_no_reason_to_read_it_for_ever() {
    for repeats_last in [false, true] {
        let api = PassApi::start(115, 13);
        let house = house(&api, "page_size = 100\n");
        {
            let mut world = api.world();
            (world.nameless_from, world.repeats_last) = (100, repeats_last);
        }
        let said = run(&house);
        assert_eq!((&said["read"], &said["complete"]), (&100.into(), &true.into()), "{said}");
        assert!(said["requests"].as_u64().unwrap() < 30, "{said}");
    }
}

#[test]
fn a_run_that_takes_longer_than_it_may_ends_and_can_be_gone_on_with() {
    let api = PassApi::start(300, 1);
    let house = house(&api, "page_size = 50\nrun_max = \"1s\"\n");
    api.world().faults.insert(9, Fault::Hang(Duration::from_secs(25)));
    let said = failing(&house);
    assert!(said.contains("pass_api.run_max") && said.contains("say it again to go on"), "{said}");
    let rest = run(&house);
    assert_eq!((&rest["resumed"], &rest["read"]), (&true.into(), &300.into()), "{rest}");
    assert_same(&known(&house), &truth(&api));
}

#[test]
fn a_page_that_ignores_its_size_is_refused_by_name() {
    let api = PassApi::start(1_200, 1);
    let house = house(&api, "page_size = 100\n");
    api.world().page_size_ignored = true;
    let said = failing(&house);
    assert!(said.contains("holds 1200 passes although pass_api.page_size asks for 100"), "{said}");
    assert_eq!(api.world().requests, 1, "asked again");
}

#[test]
fn an_api_that_hangs_keeps_no_other_tenant_from_its_daily_reading() {
    let (stuck, api) = (PassApi::start(50, 1), PassApi::start(50, 2));
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    configure(&house, &api, "daily_at = \"03:30\"\n");
    let demo = std::fs::read_to_string(house.config().join("tenants/demo.toml")).unwrap();
    let other = demo.replace(&api.address.to_string(), &stuck.address.to_string());
    // The first in the order of their names.
    house.write("tenants/aa.toml", &other.replace("demo.example", "aa.example"));
    run(&house);
    house.json(&["backfill", "--tenant", "aa"]);
    database(&house).execute("UPDATE backfill SET started_at = started_at - 172800000", []).unwrap();
    let begun = stuck.world().requests;
    stuck.world().faults.extend((begun..begun + 100).map(|request| (request, Fault::Hang(Duration::from_mins(1)))));
    let gateway = house.serve();
    wait_for("the first to hang", || (stuck.world().requests > begun).then_some(()));
    let line = told_of_a_reading(&gateway);
    assert_eq!(line["tenant"], "demo", "{line}");
    gateway.stop();
}
