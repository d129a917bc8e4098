//! `postern bench`: its figures add up, its failures are failures, and nothing of it stays behind.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Inbox, Process, finish, free_port, postern, wait_for};

/// A bench whose temporary files, and children, are found by this folder.
fn bench(temporary: &TempDir, arguments: &[&str]) -> Command {
    let mut command = postern();
    command.args(["bench", "--size", "2KiB", "--connections", "8", "--format", "json"]).args(arguments);
    command.env("TMPDIR", temporary.path());
    command
}

/// Processes that were started with something in this folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    let lines = all.filter_map(|path| std::fs::read(path).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(folder)).collect()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// What must hold of every run.
fn check_figures(figures: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("a number in {figures}"));
    for name in ["acceptsPerSecond", "endToEndPerSecond", "cpuSecondsPer1000", "peakMemoryBytes"] {
        assert!(number(&figures[name]) > 0.0, "{name}: {figures}");
    }
    assert!(number(&figures["endToEndPerSecond"]) <= number(&figures["acceptsPerSecond"]), "{figures}");
    let millis = ["p50", "p99", "p999", "max"].map(|name| number(&figures["acceptMillis"][name]));
    assert!(millis[0] > 0.0 && millis.is_sorted(), "{figures}");
    assert_eq!((&figures["refused"], &figures["notRelayed"]), (&json!(0), &json!(0)), "{figures}");
}

#[test]
fn every_mail_of_a_bench_reaches_the_given_relay_and_the_figures_are_one_object() {
    let (temporary, relay) = (TempDir::new().unwrap(), Inbox::start());
    let smtp = relay.smtp.to_string();
    let done = finish(&mut bench(&temporary, &["--messages", "200", "--relay", &smtp, "--sessions", "4"]));
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
    check_figures(&report);
    assert_eq!((&report["messages"], &report["sizeBytes"]), (&json!(200), &json!(2_048)));
    assert_eq!((&report["connections"], &report["sessions"]), (&json!(8), &json!(4)));
    assert_eq!(report["relay"], smtp);
    assert_eq!(report["runs"].as_array().unwrap().len(), 1);
    assert_eq!(relay.total(), 200);
    let domains: std::collections::BTreeSet<String> = relay
        .messages(200)
        .iter()
        .map(|mail| mail["envelope"]["recipients"][0].as_str().unwrap().split_once('@').unwrap().1.to_owned())
        .collect();
    assert_eq!(domains.len(), 50);
    assert!(is_empty(temporary.path()) && processes_of(temporary.path()).is_empty());
}

#[test]
fn several_runs_into_its_own_inbox_are_told_one_by_one() {
    let temporary = TempDir::new().unwrap();
    let done = finish(&mut bench(&temporary, &["--messages", "60", "--runs", "2"]));
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
    check_figures(&report);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &report["relay"]), (2, &json!("own inbox")));
    for run in runs {
        check_figures(run);
        assert_eq!(run["captured"], 60, "{run}");
    }
    assert!(is_empty(temporary.path()) && processes_of(temporary.path()).is_empty());
}

#[test]
fn a_relay_that_takes_nothing_makes_it_fail_in_time_with_its_figures_said() {
    let temporary = TempDir::new().unwrap();
    let relay = free_port().to_string();
    let failed = finish(&mut bench(&temporary, &["--messages", "20", "--relay", &relay, "--timeout", "1s"]));
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("0 mails were not accepted, 20 not relayed within 1s"), "{said}");
    let report: Value = serde_json::from_slice(&failed.stdout).expect("one JSON object");
    assert_eq!((&report["refused"], &report["notRelayed"]), (&json!(0), &json!(20)));
    assert_eq!(report["endToEndPerSecond"], Value::Null);
    assert!(report["acceptsPerSecond"].as_f64().unwrap() > 0.0, "{report}");
    assert!(is_empty(temporary.path()) && processes_of(temporary.path()).is_empty());
}

#[test]
fn without_a_relay_accepting_alone_is_measured() {
    let temporary = TempDir::new().unwrap();
    let done = finish(&mut bench(&temporary, &["--messages", "20", "--accept-only"]));
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
    assert_eq!((&report["relay"], &report["endToEndPerSecond"]), (&json!("none"), &Value::Null));
    assert!(report["acceptsPerSecond"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn a_bench_that_is_interrupted_or_killed_leaves_no_process() {
    for (signal, cleans_up) in [("INT", true), ("KILL", false)] {
        let temporary = TempDir::new().unwrap();
        let relay = free_port().to_string();
        let mut process = Process::start(&mut bench(&temporary, &["--messages", "20", "--relay", &relay]));
        wait_for("its gateway", || (!processes_of(temporary.path()).is_empty()).then_some(()));
        process.signal(signal);
        let status = process.wait();
        assert_eq!(status.code(), cleans_up.then_some(1), "{status}");
        wait_for("its gateway to end", || processes_of(temporary.path()).is_empty().then_some(()));
        assert!(is_empty(temporary.path()) == cleans_up);
    }
}

#[test]
fn what_cannot_be_measured_is_a_mistake_in_the_command() {
    let temporary = TempDir::new().unwrap();
    for wrong in [
        &["--messages", "0"][..],
        &["--size", "8MiB"],
        &["--connections", "401"],
        &["--relay", "localhost"],
        &["--relay", "localhost:25", "--accept-only"],
    ] {
        let mut command = postern();
        let refused = finish(command.arg("bench").args(wrong).env("TMPDIR", temporary.path()));
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
    }
    assert!(is_empty(temporary.path()));
}
