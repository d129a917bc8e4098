//! Clients that keep us waiting: every one of them is sent away in time, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Gateway, House, free_port, wait_for};

/// Settings with which waiting ends soon.
const BRIEF: &str = "request_timeout = \"1s\"\nkeep_alive = \"1s\"\n";
/// Nobody may stay longer: the longest of the waits (5 s after an unread body), and a slow machine.
const STAY_MAX: Duration = Duration::from_secs(20);

fn gateway(server: &str) -> Gateway {
    House::new(free_port(), server).serve_keeping()
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(STAY_MAX)).unwrap();
    stream
}

/// A connection that has sent this.
fn open(gateway: &Gateway, sent: &str) -> TcpStream {
    let mut stream = connect(gateway);
    stream.write_all(sent.as_bytes()).unwrap();
    stream
}

/// A POST whose body is announced but not sent.
fn head(key: Option<&str>, framing: &str) -> String {
    let key = key.map_or(String::new(), |key| format!("X-API-KEY: {key}\r\n"));
    format!("POST /v1/emails HTTP/1.1\r\nHost: x\r\n{key}Content-Type: application/json\r\n{framing}\r\n\r\n")
}

/// Everything the gateway says until it closes; fails when it does not within [`STAY_MAX`].
fn until_closed(mut stream: TcpStream, what: &str) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{what}: still open after {STAY_MAX:?} ({error}): {}", String::from_utf8_lossy(&said)),
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Reads one answer with a Content-Length and leaves the connection open.
fn one_answer(stream: &mut TcpStream) -> String {
    let mut said = String::new();
    let mut buffer = [0; 4096];
    wait_for("an answer", || {
        let read = stream.read(&mut buffer).expect("an answer, not a reset");
        assert_ne!(read, 0, "closed before the answer was whole: {said}");
        said.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        let (head, body) = said.split_once("\r\n\r\n")?;
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        (body.len() >= length.unwrap_or(0)).then_some(())
    });
    said
}

#[test]
fn an_answer_that_leaves_the_body_unread_ends_the_connection_soon() {
    let gateway = gateway("request_body_max = \"1MiB\"\nrequest_timeout = \"20s\"\n");
    let key = gateway.key.clone();
    let too_much = format!("{}110000\r\n{}", head(Some(&key), "Transfer-Encoding: chunked"), " ".repeat(0x11_0000 - 1));
    let clients: Vec<_> = [
        ("chunked, no key", head(None, "Transfer-Encoding: chunked"), "401"),
        ("chunked, no key, close", head(None, "Transfer-Encoding: chunked\r\nConnection: close"), "401"),
        ("a length, no key", head(None, "Content-Length: 100"), "401"),
        ("a length, no key, close", head(None, "Content-Length: 100\r\nConnection: close"), "401"),
        ("too large a length", head(Some(&key), "Content-Length: 104857600"), "413"),
        ("chunked and too large", too_much, "413"),
        ("no such path", head(None, "Transfer-Encoding: chunked").replace("/v1/emails", "/nowhere"), "404"),
        ("a GET with a body", head(None, "Transfer-Encoding: chunked").replace("POST /v1/emails", "GET /livez"), "200"),
    ]
    .map(|(what, sent, status)| (what, open(&gateway, &sent), status))
    .into();
    for (what, mut stream, status) in clients {
        let asked = Instant::now();
        let answer = one_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
        assert_eq!(until_closed(stream, what), "", "{what}");
        assert!(asked.elapsed() < STAY_MAX, "{what}");
    }
}

#[test]
fn a_client_that_drips_its_unread_body_is_not_kept_for_it() {
    let gateway = gateway("");
    let mut stream = open(&gateway, &head(None, "Transfer-Encoding: chunked"));
    one_answer(&mut stream);
    let begun = Instant::now();
    wait_for("the drip to be refused", || {
        assert!(begun.elapsed() < STAY_MAX, "still taken");
        stream.write_all(b"1\r\nx\r\n").is_err().then_some(())
    });
}

#[test]
fn a_client_that_is_still_uploading_reads_its_413() {
    let gateway = gateway("");
    for framing in ["Content-Length: 104857600", "Transfer-Encoding: chunked"] {
        let mut stream = open(&gateway, &head(Some(&gateway.key), framing));
        let mut upload = stream.try_clone().unwrap();
        let answered = AtomicBool::new(false);
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
                let mut left = 100 << 20_usize;
                while left > chunk.len() && !answered.load(Ordering::Relaxed) && upload.write_all(&chunk).is_ok() {
                    left -= chunk.len();
                }
            });
            let answer = one_answer(&mut stream);
            answered.store(true, Ordering::Relaxed);
            answer
        });
        assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with('}'), "{framing}: {answer}");
    }
}

#[test]
fn a_head_that_never_ends_is_not_waited_for_be_it_the_first_or_the_second() {
    let gateway = gateway(BRIEF);
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let clients = [
        ("nothing sent", open(&gateway, "")),
        ("half a line", open(&gateway, "GET /liv")),
        ("half a head", open(&gateway, "GET /livez HTTP/1.1\r\nHost:")),
        ("idle", open(&gateway, request)),
        ("half a line, second", open(&gateway, &format!("{request}GET /liv"))),
        ("half a head, second", open(&gateway, &format!("{request}GET /livez HTTP/1.1\r\nHost:"))),
    ];
    for (what, stream) in clients {
        until_closed(stream, what);
    }
    let mut late = open(&gateway, request);
    one_answer(&mut late);
    late.write_all(b"GET /liv").unwrap();
    until_closed(late, "half a line after an answer");
}

#[test]
fn a_client_that_never_reads_is_not_read_for_ever_and_is_sent_away() {
    let gateway = gateway(BRIEF);
    for asked in ["OPTIONS /livez", "GET /livez", "GET /nowhere"] {
        let mut stream = connect(&gateway);
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let many = format!("{asked} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(2_000);
        let mut sent = 0;
        let begun = Instant::now();
        wait_for("the connection to end", || {
            assert!(begun.elapsed() < STAY_MAX, "{asked}: still open, {sent} bytes taken");
            assert!(sent < 64 << 20, "{asked}: everything is read, nothing of the answers");
            match stream.write(many.as_bytes()) {
                Ok(bytes) => {
                    sent += bytes;
                    None
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
                Err(_) => Some(()),
            }
        });
    }
    assert_eq!(gateway.get("/livez").status, 200);
}

/// Bad connections at once: more than are allowed, and fewer than that and the kernel's queue, which drops the rest.
const CROWD: usize = 400;

/// Keeps [`CROWD`] bad connections of every kind open until told to stop.
fn besiege(address: SocketAddr, key: &str, opened: &AtomicUsize, stop: &AtomicBool) {
    let kinds = [
        String::new(),
        "GET /liv".to_owned(),
        "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        head(None, "Transfer-Encoding: chunked"),
        head(None, "Content-Length: 100"),
        head(Some(key), "Content-Length: 100"),
    ];
    let mut held = std::collections::VecDeque::new();
    for kind in kinds.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            let _ = stream.write_all(kind.as_bytes());
            held.push_back(stream);
            opened.fetch_add(1, Ordering::Relaxed);
        }
        // As many as that stay: the next comes when the gateway has sent the first away.
        while held.len() > CROWD && !stop.load(Ordering::Relaxed) {
            let first = held.front_mut().unwrap();
            first.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            match first.read(&mut [0; 4096]) {
                Ok(1..) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Ok(0) | Err(_) => drop(held.pop_front()),
            }
        }
    }
}

#[test]
fn honest_clients_are_answered_within_a_second_while_a_crowd_holds_its_connections() {
    let gateway = gateway("connections_max = 250\n");
    let (opened, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| besiege(gateway.address, &gateway.key, &opened, &stop));
        let honest = std::panic::catch_unwind(|| {
            wait_for("a crowd", || (opened.load(Ordering::Relaxed) >= 260).then_some(()));
            for n in 0..20 {
                let asked = Instant::now();
                gateway.send(&format!("ann{n}@customer.example"));
                assert!(asked.elapsed() < Duration::from_secs(1), "request {n} took {:?}", asked.elapsed());
            }
            wait_for("the whole crowd", || (opened.load(Ordering::Relaxed) >= CROWD).then_some(()));
            let asked = Instant::now();
            gateway.send("zoe@customer.example");
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        });
        stop.store(true, Ordering::Relaxed);
        honest.unwrap();
    });
}
