//! A 202 never comes before the sync of what it acknowledges: shown by the system calls.

use std::process::{Command, Stdio};

use crate::harness::{House, Inbox, Process, wait_for};

#[test]
fn no_202_leaves_before_the_write_ahead_log_is_synced() {
    const MAILS: usize = 20;
    let inbox = Inbox::start();
    let house = House::new(inbox.smtp, "");
    let gateway = house.serve();
    let trace = house.path("trace.txt");
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-y",
        "-s",
        "64",
        "-e",
        "trace=fdatasync,fsync,read,recvfrom,write,writev,sendto,sendmsg",
        "-o",
    ]);
    strace.arg(&trace).arg("-p").arg(gateway.process.id().to_string()).stdin(Stdio::null());
    let mut tracer = Process::start(&mut strace);
    // Attached when a request that is answered leaves a trace.
    wait_for("the tracer to attach", || {
        gateway.get("/livez");
        std::fs::read_to_string(&trace).is_ok_and(|text| text.contains("GET /livez")).then_some(())
    });
    for number in 0..MAILS {
        gateway.send(&format!("ann{number}@customer.example"));
    }
    tracer.signal("INT");
    tracer.wait();

    let text = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut answers = 0;
    let mut request = None;
    for (at, line) in lines.iter().enumerate() {
        if line.contains("POST /v1/emails ") {
            request = Some(at);
        }
        if line.contains("HTTP/1.1 202 Accepted") {
            let from = request.take().expect("an answer follows its request");
            answers += 1;
            assert!(synced(&lines[from..at]), "answered without a sync:\n{}", lines[from..=at].join("\n"));
        }
    }
    assert_eq!(answers, MAILS, "every answer was seen:\n{text}");
}

/// Whether a sync of the write-ahead log began and ended well within these lines.
fn synced(lines: &[&str]) -> bool {
    lines.iter().enumerate().any(|(at, line)| {
        let of_the_log = (line.contains("fdatasync(") || line.contains("fsync(")) && line.contains("postern.db-wal");
        let thread = line.split_whitespace().next().unwrap();
        let ended = |line: &&str| line.starts_with(thread) && line.contains("sync resumed>") && line.ends_with("= 0");
        of_the_log && (line.ends_with("= 0") || lines[at + 1..].iter().any(ended))
    })
}
