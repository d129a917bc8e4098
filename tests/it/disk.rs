//! A disk that is full or may not be written: nothing is taken, nothing dies, nothing taken is lost, and it recovers
//! when the disk does. Each test's disk is a small file system of its own, so the errors are the real ones.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::{Answer, Gateway, House, Inbox, finish, mail, postern, succeed, wait_for};

/// Room for a store and a few hundred mails.
const DISK: &str = "6m";

#[test]
fn a_full_disk_takes_nothing_still_reads_and_takes_again_when_there_is_room() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let disk = SmallDisk::mount(&house.path("data"));
    let gateway = house.serve();
    let before = gateway.send("ann@customer.example");
    gateway.wait_for_status(&before, "relayed");
    let accepted = accepted(&gateway);

    disk.fill();
    for number in 0..20 {
        assert_not_persisted(&gateway.post(&mail(&format!("ben{number}@customer.example"))));
    }
    let with_key = [("Idempotency-Key", "on-a-full-disk")];
    assert_not_persisted(&gateway.post_with(&mail("cid@customer.example"), &with_key));
    wait_for("/readyz to say so", || (gateway.get("/readyz").status == 503).then_some(()));
    let ready = gateway.get("/readyz").json();
    assert_eq!((&ready["status"], &ready["store"]), (&json!("not-ready"), &json!("cannot-write")), "{ready}");
    assert_eq!(gateway.get("/livez").status, 200);
    assert_eq!(self::accepted(&gateway), accepted, "nothing was accepted");
    assert_eq!(gateway.message(&before)["subject"], "Your pass");
    assert_eq!(gateway.get(&format!("/v1/emails/{before}/content")).status, 200);
    assert_eq!(gateway.kinds(&before), ["accepted", "attempt-committed", "relayed"]);

    disk.make_room();
    let answer = gateway.post_with(&mail("cid@customer.example"), &with_key);
    assert_eq!(answer.status, 202, "with room again, without anybody's doing: {}", answer.json());
    assert_eq!(answer.header("idempotent-replayed"), None, "a refusal is not remembered");
    wait_for("/readyz to say so", || (gateway.get("/readyz").status == 200).then_some(()));
    gateway.wait_for_status(answer.json()["id"].as_str().unwrap(), "relayed");
    assert_eq!(self::accepted(&gateway), accepted + 1);
    assert_eq!(inbox.total(), 2, "what was refused is not sent");
    gateway.stop();
}

#[test]
fn mails_that_fill_the_disk_are_all_sent_and_those_refused_are_not() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let disk = SmallDisk::mount(&house.path("data"));
    let gateway = house.serve();
    let mut taken = Vec::new();
    // No two alike, so that compression finds nothing.
    let body = |number: u32| {
        let letters =
            (0..40_000_u32).map(|at| char::from(b' ' + 1 + ((at ^ number).wrapping_mul(2_654_435_761) >> 26) as u8));
        letters.filter(|letter| *letter != '<').collect::<String>()
    };
    let refused = (0..1_000).find_map(|number| {
        let mut mail = mail(&format!("ann{number}@customer.example"));
        mail["Body"] = json!(body(number));
        let answer = gateway.post(&mail);
        if answer.status == 202 {
            taken.push(answer.json()["id"].as_str().unwrap().to_owned());
            return None;
        }
        Some(answer)
    });
    assert_not_persisted(&refused.expect("a full disk"));
    assert!(taken.len() > 20, "{} were taken", taken.len());
    // What is left of the room goes, too, with smaller ones: then whatever is still to be written waits.
    disk.fill();
    let refused = (0..1_000).find(|number| {
        let answer = gateway.post(&mail(&format!("ben{number}@customer.example")));
        if answer.status == 202 {
            taken.push(answer.json()["id"].as_str().unwrap().to_owned());
        }
        answer.status == 503
    });
    assert!(refused.is_some(), "the disk never filled up");
    disk.grow();
    for id in &taken {
        let message = gateway.wait_for_status(id, "relayed");
        assert_eq!(message["attempts"], 1, "{message}");
    }
    assert_eq!(inbox.total(), taken.len() as u64, "each once, and nothing else");
    gateway.stop();
}

#[test]
fn an_outcome_that_cannot_be_written_is_written_when_the_disk_has_room_and_the_mail_goes_out_once() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let disk = SmallDisk::mount(&house.path("data"));
    let gateway = house.serve();
    // The relay takes it at once and answers two seconds later.
    let slow = gateway.send("slow@customer.example");
    wait_for("the relay to have it", || (inbox.total() == 1).then_some(()));
    disk.fill();
    gateway.process.wait_for_log("an outcome cannot be written; trying until it can");
    let waiting = gateway.message(&slow);
    assert_ne!(waiting["status"], "relayed", "{waiting}");
    assert_eq!(gateway.kinds(&slow), ["accepted", "attempt-committed"]);

    disk.make_room();
    let settled = gateway.wait_for_status(&slow, "relayed");
    assert_eq!((&settled["attempts"], &settled["mayHaveBeenSent"]), (&json!(1), &json!(false)), "{settled}");
    assert!(settled["relayQueueId"].is_string(), "{settled}");
    assert_eq!(gateway.kinds(&slow), ["accepted", "attempt-committed", "relayed"]);
    let later = gateway.send("ann@customer.example");
    gateway.wait_for_status(&later, "relayed");
    assert_eq!(inbox.total(), 2, "each once");
    gateway.stop();
}

#[test]
fn a_kill_on_a_full_disk_leaves_an_unknown_that_is_settled_when_there_is_room() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "[delivery]\nretry = [\"100ms\"]\n[lanes.standard]\non_unknown = \"hold\"\n");
    let disk = SmallDisk::mount(&house.path("data"));
    let mut gateway = house.serve();
    let key = gateway.key.clone();
    let slow = gateway.send("slow@customer.example");
    wait_for("the relay to have it", || (inbox.total() == 1).then_some(()));
    disk.fill();
    gateway.process.wait_for_log("an outcome cannot be written; trying until it can");
    gateway.process.signal("KILL");
    gateway.process.wait();
    drop(gateway);

    let refused = finish(&mut house.command(&["serve"]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "nothing can be recovered on a full disk: {said}");
    assert!(said.contains("full") || said.contains("I/O"), "{said}");

    disk.make_room();
    let gateway = house.serve_with(key);
    let held = gateway.wait_for_status(&slow, "held");
    assert_eq!((&held["reason"], &held["mayHaveBeenSent"]), (&json!("unknown-held"), &json!(true)), "{held}");
    assert_eq!(inbox.total(), 1);
    gateway.stop();
}

#[test]
fn a_store_that_refuses_every_write_is_503_until_it_takes_them_again() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let key = house.key(&["send", "read"]);
    // A limit of no bytes makes every write of this process fail, wherever it goes. Without the trap it would die.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(postern().get_program());
    command.arg("--config").arg(house.config()).arg("serve");
    let gateway = House::serve_by(&mut command, key);
    let before = gateway.send("ann@customer.example");
    gateway.wait_for_status(&before, "relayed");

    let limit = |bytes: &str| {
        let pid = gateway.process.id().to_string();
        succeed(Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]));
    };
    limit("0");
    assert_not_persisted(&gateway.post(&mail("ben@customer.example")));
    wait_for("/readyz to say so", || (gateway.get("/readyz").status == 503).then_some(()));
    assert_eq!(gateway.message(&before)["status"], "relayed", "reading goes on");
    limit("unlimited");
    let after = gateway.send("cid@customer.example");
    gateway.wait_for_status(&after, "relayed");
    wait_for("/readyz to say so", || (gateway.get("/readyz").status == 200).then_some(()));
    assert_eq!((accepted(&gateway), inbox.total()), (2, 2));
    gateway.stop();
}

#[test]
fn a_read_only_file_system_is_named_at_the_start_and_served_when_it_can_be_written() {
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let disk = SmallDisk::mount(&house.path("data"));
    let gateway = house.serve();
    let key = gateway.key.clone();
    let before = gateway.send("ann@customer.example");
    gateway.wait_for_status(&before, "relayed");
    gateway.stop();

    disk.remount("ro");
    for arguments in [["serve"].as_slice(), &["keys", "list"]] {
        let refused = finish(&mut house.command(arguments));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("postern.db") && said.to_lowercase().contains("read-only"), "{arguments:?}: {said}");
    }
    let checked = finish(house.command(&["check"]).args(["--format", "json"]));
    let answer: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((checked.status.code(), &answer["problems"][0]["key"]), (Some(2), &json!("store.url")), "{answer}");

    disk.remount("rw");
    let gateway = house.serve_with(key);
    assert_eq!(gateway.message(&before)["status"], "relayed");
    let after = gateway.send("ben@customer.example");
    gateway.wait_for_status(&after, "relayed");
    gateway.stop();
}

fn assert_not_persisted(answer: &Answer) {
    let body = answer.json();
    assert_eq!(answer.status, 503, "{body}");
    assert_eq!(body["type"], "/problems/not-persisted", "{body}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let seconds: u32 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert!(!body.to_string().contains("disk"), "what is wrong with us is for our log: {body}");
}

/// How many messages the gateway keeps.
fn accepted(gateway: &Gateway) -> usize {
    let page = gateway.get("/v1/emails?limit=200").json();
    page["items"].as_array().unwrap().len()
}

/// A file system of a few MiB, in memory; unmounted when dropped.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    pub fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mounted = finish(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={DISK},mode=700")])
                .arg("postern-test")
                .arg(at),
        );
        assert!(
            mounted.status.success(),
            "this test fills a small disk of its own, for which it needs the right to mount (root with CAP_SYS_ADMIN; \
             in a container: --privileged): {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self { at: at.to_owned() }
    }

    /// Writes until nothing more can be written.
    fn fill(&self) {
        let mut filler = std::fs::File::options().create(true).append(true).open(self.at.join("filler")).unwrap();
        // The last page, too.
        for size in [64 << 10, 4 << 10, 1] {
            let chunk = vec![b'x'; size];
            loop {
                match filler.write_all(&chunk) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Writes so many bytes.
    pub fn put(&self, bytes: usize) {
        std::fs::write(self.at.join("filler"), vec![b'x'; bytes]).unwrap();
    }

    /// Takes the filler away.
    pub fn make_room(&self) {
        std::fs::remove_file(self.at.join("filler")).unwrap();
    }

    /// Makes the disk larger.
    fn grow(&self) {
        self.remount("size=64m");
    }

    fn remount(&self, option: &str) {
        succeed(Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.at));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there keeps it until its end.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
