//! `postern demo`, as somebody meets it who has nothing but the binary.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Process, postern, request, succeed, wait_for};

/// A place to stand in whose `config/` would refuse any command, and an empty place for temporary files.
struct Somewhere {
    dir: TempDir,
}

impl Somewhere {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("config/tenants")).unwrap();
        std::fs::create_dir(dir.path().join("temporary")).unwrap();
        std::fs::write(dir.path().join("config/postern.toml"), "[server\nlisten = 7").unwrap();
        std::fs::write(dir.path().join("config/tenants/demo.toml"), "colour = \"red\"").unwrap();
        Self { dir }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = postern();
        command.args(arguments).current_dir(self.dir.path());
        command.env("TMPDIR", self.temporary()).env("POSTERN_CONFIG", self.dir.path().join("config"));
        // Nor does the environment's configuration count.
        command.env("POSTERN__SERVER__LISTN", "nonsense");
        command
    }

    fn temporary(&self) -> std::path::PathBuf {
        self.dir.path().join("temporary")
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn text(url: &str) -> String {
    let answer = request("GET", url, &[], None);
    assert_eq!(answer.status, 200, "{url}");
    String::from_utf8(answer.body).unwrap()
}

#[test]
fn as_json_it_says_one_line_reads_no_configuration_and_leaves_nothing_behind() {
    let somewhere = Somewhere::new();
    let refused = somewhere.command(&["check"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "the configuration beside it is broken");

    let (mut demo, ready) = Process::start_and_read(&mut somewhere.command(&["demo", "--format", "json"]));
    let facts = ready.as_object().unwrap();
    let mut names: Vec<&str> = facts.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["console", "inbox", "key", "listen", "tenant"]);
    let fact = |name: &str| facts[name].as_str().unwrap();
    for name in ["listen", "console", "inbox"] {
        assert!(fact(name).starts_with("http://127.0.0.1:"), "{ready}");
    }
    assert_eq!(fact("tenant"), "demo");
    assert!(fact("key").starts_with("pst_"), "{ready}");
    assert_eq!(request("GET", &format!("{}/readyz", fact("listen")), &[], None).status, 200);
    assert!(text(fact("inbox")).contains("Your card is ready"), "the sample mail is there once the line is said");
    assert!(text(fact("inbox")).contains("Ann, your Demo Brand card is on your phone"), "and what follows the install");
    assert!(text(fact("console")).contains("Your card is ready"));
    assert_eq!(entries(&somewhere.temporary()).len(), 1);
    assert_eq!(entries(somewhere.dir.path()).len(), 2, "nothing is written where it stands");

    demo.signal("INT");
    let status = demo.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(demo.whole_log().len(), 1, "one line in all: {:?}", demo.whole_log());
    assert_eq!(entries(&somewhere.temporary()), [] as [&str; 0]);
}

#[test]
fn the_three_curl_lines_that_it_prints_work_as_they_stand() {
    let somewhere = Somewhere::new();
    let mut demo = Process::start_and_listen(&mut somewhere.command(&["demo"]));
    let mut curls = Vec::new();
    let mut inbox = None;
    loop {
        let line = demo.next_line();
        if line.starts_with("curl ") {
            curls.push(line);
        } else if let Some(url) = line.trim().strip_prefix("Inbox ") {
            inbox = Some(url.trim().to_owned());
        } else if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let inbox = inbox.expect("the inbox's address");
    let answers: Vec<Value> = curls
        .iter()
        .map(|line| serde_json::from_str(&succeed(Command::new("sh").args(["-c", line]))).unwrap())
        .collect();
    let [receipt, list, events] = answers.as_slice() else { panic!("three lines, not {curls:?}") };
    assert_eq!(receipt["status"], "queued", "{receipt}");
    assert_eq!(list["items"].as_array().unwrap().len(), 3, "the samples and the first line's mail: {list}");
    assert!(list["items"].as_array().unwrap().iter().any(|item| item["id"] == receipt["id"]), "{list}");
    let kinds: Vec<&Value> = events["items"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, [&json!("accepted"), &json!("attempt-committed"), &json!("relayed")], "of the sample: {events}");
    wait_for("the first line's mail to be in the inbox", || text(&inbox).contains("Hello").then_some(()));

    demo.signal("TERM");
    assert_eq!(demo.wait().code(), Some(0));
    assert_eq!(entries(&somewhere.temporary()), [] as [&str; 0]);
}

#[test]
fn it_listens_where_it_is_told_and_says_when_it_cannot() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let somewhere = Somewhere::new();
    let refused = crate::harness::finish(&mut somewhere.command(&["demo", "--listen", &address]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
    assert_eq!(entries(&somewhere.temporary()), [] as [&str; 0]);
    drop(taken);

    let (mut demo, ready) =
        Process::start_and_read(&mut somewhere.command(&["demo", "--listen", &address, "--format", "json"]));
    assert_eq!(ready["listen"], format!("http://{address}"));
    demo.signal("INT");
    assert_eq!(demo.wait().code(), Some(0));
}
