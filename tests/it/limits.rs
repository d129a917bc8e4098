//! Limits at the door: who is refused, how that is said, what is forgotten by a restart and what is not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::disk::SmallDisk;
use crate::harness::{Answer, Gateway, House, finish, free_port, mail, request, wait_for};

/// A gateway whose relay is not there, with these lines in `[limits]`.
fn limited(limits: &str) -> House {
    House::new(free_port(), &format!("[limits]\ndisk_free_min = \"0B\"\n{limits}\n"))
}

fn assert_limited(answer: &Answer, detail: &str) -> u64 {
    let body = answer.json();
    assert_eq!((answer.status, &body["type"]), (429, &json!("/problems/rate-limited")), "{body}");
    assert_eq!(body["detail"], detail);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    answer.header("retry-after").expect("Retry-After").parse().unwrap()
}

/// What `RateLimit` says is left under this name, and for how long that is all.
fn left(answer: &Answer, name: &str) -> (u64, u64) {
    let field = answer.header("ratelimit").unwrap_or_else(|| panic!("no RateLimit: {answer:?}"));
    let item = field.split(", ").find_map(|item| item.strip_prefix(&format!("\"{name}\";r=")));
    let (remaining, reset) = item.unwrap_or_else(|| panic!("{name} in {field}")).split_once(";t=").unwrap();
    (remaining.parse().unwrap(), reset.parse().unwrap())
}

fn post_as(gateway: &Gateway, key: &str, recipient: &str) -> Answer {
    let headers = [("X-API-KEY", key), ("Content-Type", "application/json")];
    request("POST", &gateway.url("/v1/emails"), &headers, Some(mail(recipient).to_string().as_bytes()))
}

#[test]
fn every_answer_says_what_is_left_and_who_has_used_it_up_is_told_when_to_come_back() {
    let house = limited("per_key = \"1/m,burst=4\"");
    let reader = house.key(&["read"]);
    let gateway = house.serve();
    let answers = [
        gateway.post(&mail("ann@customer.example")),
        gateway.post(&json!({"recipient": "nobody"})),
        gateway.get("/v1/emails"),
        gateway.get("/v1/emails/msg_1"),
    ];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [202, 422, 200, 404]);
    for (used, answer) in answers.iter().enumerate() {
        assert_eq!(answer.header("ratelimit-policy"), Some("\"per-key\";q=4;w=240"), "{answer:?}");
        let (remaining, reset) = left(answer, "per-key");
        assert_eq!(remaining, 3 - used as u64);
        assert!((60 * used as u64..=60 * (used as u64 + 1)).contains(&reset), "{reset}");
    }
    for refused in [gateway.get("/v1/emails"), gateway.post(&mail("ann@customer.example"))] {
        let wait = assert_limited(&refused, "more than 1 request a minute with this key");
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(left(&refused, "per-key"), (0, wait));
    }
    let other = request("GET", &gateway.url("/v1/emails"), &[("X-API-KEY", &reader)], None);
    assert_eq!((other.status, left(&other, "per-key").0), (200, 3), "another key has its own");
    for path in ["/livez", "/readyz"] {
        let answer = gateway.get(path);
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None), "{path}");
    }
    gateway.stop();
}

#[test]
fn a_key_may_have_a_limit_of_its_own_which_is_listed() {
    let house = limited("per_key = \"none\"");
    let create = ["keys", "create", "--tenant", "demo", "--name", "slow", "--scope", "send", "--limit", "1/h,burst=2"];
    let slow = house.json(&create)["key"].as_str().unwrap().to_owned();
    let refused = finish(house.command(&create[..8]).args(["--limit", "often"]));
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    let gateway = house.serve();
    let limits: Vec<_> =
        house.json(&["keys", "list"]).as_array().unwrap().iter().map(|key| key["limit"].clone()).collect();
    assert_eq!(limits, [json!("1/h,burst=2"), json!(null)]);
    for number in 0..2 {
        assert_eq!(post_as(&gateway, &slow, &format!("ann{number}@customer.example")).status, 202);
    }
    let wait =
        assert_limited(&post_as(&gateway, &slow, "ann@customer.example"), "more than 1 request an hour with this key");
    assert!((3_590..=3_600).contains(&wait), "{wait}");
    for number in 0..20 {
        let answer = gateway.post(&mail(&format!("ben{number}@customer.example")));
        assert_eq!((answer.status, answer.header("ratelimit")), (202, None), "no limit, nothing to tell");
    }
    gateway.stop();
}

#[test]
fn the_keys_of_a_tenant_share_its_limit_on_mails_and_still_read() {
    let house = limited("per_key = \"100/s\"\nper_tenant = \"1/h,burst=9\"");
    let tenant = house.config().join("tenants/demo.toml");
    let text = std::fs::read_to_string(&tenant).unwrap();
    std::fs::write(&tenant, format!("{text}[limits]\nper_tenant = \"1/h,burst=2\"\n")).unwrap();
    let second = house.key(&["send"]);
    let gateway = house.serve();
    let first = gateway.post(&mail("ann@customer.example"));
    assert_eq!(first.header("ratelimit-policy"), Some("\"per-key\";q=100;w=1, \"per-tenant\";q=2;w=7200"));
    assert_eq!((first.status, left(&first, "per-tenant").0), (202, 1));
    assert_eq!(post_as(&gateway, &second, "ben@customer.example").status, 202);
    for refused in [gateway.post(&mail("cid@customer.example")), post_as(&gateway, &second, "cid@customer.example")] {
        assert_limited(&refused, "more than 1 mail an hour of this tenant");
    }
    assert_eq!(gateway.get("/v1/emails").status, 200);
    gateway.stop();
}

#[test]
fn a_recipient_gets_so_many_mails_an_hour_and_a_restart_does_not_forget() {
    let house = limited("per_key = \"none\"\nper_recipient = \"3/h\"");
    let mut gateway = house.serve();
    let key = gateway.key.clone();
    let repeat = [("Idempotency-Key", "order-17")];
    assert_eq!(gateway.post_with(&mail("ann@customer.example"), &repeat).status, 202);
    gateway.send("Ann <ANN@customer.example>");
    gateway.send("ann@customer.example");
    let over = |gateway: &Gateway| {
        let refused = gateway.post(&mail("Ann@customer.example"));
        let wait = assert_limited(&refused, "more than 3 mails an hour to this recipient");
        assert!((3_500..=3_600).contains(&wait), "{wait}");
        assert_eq!(refused.header("ratelimit-policy"), Some("\"per-recipient\";q=3;w=3600"));
        assert_eq!(left(&refused, "per-recipient"), (0, wait));
        let again = gateway.post_with(&mail("ann@customer.example"), &repeat);
        assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")), "a repeat is no mail");
    };
    over(&gateway);
    gateway.send("ben@customer.example");
    gateway.process.signal("KILL");
    gateway.process.wait();
    drop(gateway);

    let gateway = house.serve_with(key);
    over(&gateway);
    let text = house.path("text");
    std::fs::write(&text, "hello").unwrap();
    let mut send =
        house.command(&["send", "--tenant", "demo", "--to", "ann@customer.example", "--subject", "S", "--text"]);
    let refused = finish(send.arg(&text));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("more than 3 mails an hour to this recipient"), "{said}");
    let listed = gateway.get("/v1/emails?recipient=ann@customer.example").json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "what was refused is not kept");
    gateway.stop();
}

#[test]
fn a_recipient_may_be_mailed_again_once_the_time_that_was_told_has_passed() {
    let house = limited("per_key = \"none\"\nper_recipient = \"1/s\"");
    let gateway = house.serve();
    gateway.send("ann@customer.example");
    // The second may come late on a busy machine; of a few at once one is certainly too early.
    let early =
        (0..50).find_map(|_| Some(gateway.post(&mail("ann@customer.example"))).filter(|answer| answer.status == 429));
    assert_eq!(assert_limited(&early.expect("a refusal"), "more than 1 mail a second to this recipient"), 1);
    wait_for("the second to pass", || (gateway.post(&mail("ann@customer.example")).status == 202).then_some(()));
    gateway.stop();
}

/// A request with this key that comes by way of a proxy.
fn by_proxy(gateway: &Gateway, key: &str, forwarded: &str) -> Answer {
    request("GET", &gateway.url("/v1/emails"), &[("X-API-KEY", key), ("X-Forwarded-For", forwarded)], None)
}

/// A secret of the right form that names no key.
fn guess() -> String {
    format!("pst_{}{}", "0".repeat(32), "A".repeat(43))
}

#[test]
fn failed_authentications_are_limited_by_the_address_that_a_trusted_proxy_names() {
    let house = House::new(
        free_port(),
        "trusted_proxies = [\"127.0.0.0/8\"]\n[limits]\nper_key = \"none\"\ndisk_free_min = \"0B\"\nfailed_auth = \"1/m,burst=3\"\n",
    );
    let gateway = house.serve();
    let wrong_secret = format!("{}{}", &gateway.key[..36], "A".repeat(43));
    for key in [guess().as_str(), wrong_secret.as_str(), ""] {
        assert_eq!(by_proxy(&gateway, key, "203.0.113.9").status, 401);
    }
    let too_many = "too many requests without a valid key from this address";
    for (key, forwarded) in [
        (guess().as_str(), "203.0.113.9"),
        (&wrong_secret, "203.0.113.9"),
        ("", "203.0.113.9"),
        (&guess(), "198.51.100.1, 203.0.113.9"),
        (&guess(), "198.51.100.1, 203.0.113.9, 127.0.0.7"),
    ] {
        let refused = by_proxy(&gateway, key, forwarded);
        let wait = assert_limited(&refused, too_many);
        assert!((1..=60).contains(&wait), "{wait}");
        assert!(!refused.json().to_string().contains("203.0.113"), "no address in an answer");
    }
    assert_eq!(by_proxy(&gateway, &guess(), "198.51.100.1").status, 401, "another address has its own");
    assert_eq!(by_proxy(&gateway, &gateway.key, "203.0.113.9").status, 200, "a good key comes in from anywhere");
    let made = house.key(&["read"]);
    wait_for("a key made meanwhile to be known", || {
        (by_proxy(&gateway, &made, "203.0.113.9").status == 200).then_some(())
    });
    for host in 1..=3 {
        assert_eq!(by_proxy(&gateway, &guess(), &format!("2001:db8:1:2::{host}")).status, 401);
    }
    assert_limited(&by_proxy(&gateway, &guess(), "2001:db8:1:2::4"), too_many);
    assert_eq!(by_proxy(&gateway, &guess(), "2001:db8:1:3::1").status, 401);
    let told = gateway.process.wait_for_log("refused: too many without a valid key from their address");
    assert!(told["requests"].as_u64().unwrap() >= 1, "{told}");
    let lines = gateway.process.log();
    let counted = |line: &&String| line.contains("request answered") && line.contains("\"status\":429");
    assert_eq!(lines.iter().filter(counted).count(), 0, "a stranger does not fill the log");
    gateway.stop();
}

#[test]
fn what_a_stranger_says_of_its_address_is_not_believed() {
    let house = limited("per_key = \"none\"\nfailed_auth = \"1/m,burst=3\"");
    let gateway = house.serve();
    let statuses: Vec<u16> =
        (1..=5).map(|host| by_proxy(&gateway, &guess(), &format!("203.0.113.{host}")).status).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    assert_eq!(gateway.get("/v1/emails").status, 200);
    gateway.stop();
}

#[test]
fn too_many_requests_at_once_are_refused_before_their_body_is_read() {
    let house = House::new(free_port(), "requests_in_flight_max = 1\n");
    let gateway = house.serve();
    let body = mail("ann@customer.example").to_string();
    let mut slow = TcpStream::connect(gateway.address).unwrap();
    let head = format!(
        "POST /v1/emails HTTP/1.1\r\nHost: x\r\nX-API-KEY: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        gateway.key,
        body.len()
    );
    slow.write_all(head.as_bytes()).unwrap();
    // Asked at a door that is not counted: another request could have the place when the slow one comes.
    let ready = wait_for("the slow one to be under way", || {
        Some(gateway.get("/readyz")).filter(|answer| answer.json()["requests"] == "full")
    });
    assert_eq!(ready.status, 200, "{}", ready.json());
    let refused = gateway.get("/v1/emails");
    assert_eq!((refused.status, &refused.json()["type"]), (503, &json!("/problems/busy")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Nothing of this body is ever sent, and it is answered.
    let mut other = TcpStream::connect(gateway.address).unwrap();
    other.write_all(head.as_bytes()).unwrap();
    let mut answered = [0; 12];
    other.read_exact(&mut answered).unwrap();
    assert_eq!(&answered, b"HTTP/1.1 503");
    drop(other);
    assert_eq!(gateway.get("/livez").status, 200);
    slow.write_all(body.as_bytes()).unwrap();
    slow.read_exact(&mut answered).unwrap();
    assert_eq!(&answered, b"HTTP/1.1 202", "the slow one is served");
    drop(slow);
    wait_for("a place to be free", || (gateway.get("/v1/emails").status == 200).then_some(()));
    assert_eq!(gateway.get("/readyz").json()["requests"], "ok");
    gateway.stop();
}

fn assert_no_room(answer: &Answer) {
    let body = answer.json();
    assert_eq!((answer.status, &body["type"]), (503, &json!("/problems/not-persisted")), "{body}");
    assert_eq!(answer.header("retry-after"), Some("5"));
}

#[test]
fn a_full_queue_takes_no_more_mail_until_one_has_left_it_and_says_so() {
    let house = limited("per_key = \"none\"\nqueue_max = 3");
    let gateway = house.serve();
    let key = gateway.key.clone();
    let ready = || gateway.get("/readyz").json()["queue"].clone();
    assert_eq!(ready(), "ok");
    let mut ids: Vec<String> = (0..2).map(|number| gateway.send(&format!("ann{number}@customer.example"))).collect();
    let named = [("Idempotency-Key", "the last that fits")];
    let last = gateway.post_with(&mail("ann@customer.example"), &named);
    ids.push(last.json()["id"].as_str().unwrap().to_owned());
    // The count of the first second may not be there yet.
    wait_for("the queue to be counted", || (ready() == "full").then_some(()));
    assert_no_room(&gateway.post(&mail("ben@customer.example")));
    assert_no_room(&gateway.post_with(&mail("ben@customer.example"), &[("Idempotency-Key", "a new one")]));
    let again = gateway.post_with(&mail("ann@customer.example"), &named);
    assert_eq!((again.status, again.json()["id"].as_str()), (202, Some(ids[2].as_str())), "accepted before");
    let answer = gateway.get("/readyz");
    assert_eq!((answer.status, &answer.json()["disk"]), (200, &json!("ok")), "mails can be looked up and steered");
    gateway.stop();

    let gateway = house.serve_with(key);
    wait_for("the queue to be counted", || (gateway.get("/readyz").json()["queue"] == "full").then_some(()));
    assert_no_room(&gateway.post(&mail("ben@customer.example")));
    let cancel = gateway.url(&format!("/v1/emails/{}/cancel", ids[0]));
    assert_eq!(request("POST", &cancel, &[("X-API-KEY", &gateway.key)], None).status, 200);
    wait_for("a place in the queue", || (gateway.post(&mail("ben@customer.example")).status == 202).then_some(()));
    gateway.stop();
}

#[test]
fn a_disk_with_too_little_room_takes_no_more_mail_before_it_is_full() {
    let house = House::new(free_port(), "[limits]\nper_key = \"none\"\ndisk_free_min = \"3MiB\"\n");
    let disk = SmallDisk::mount(&house.path("data"));
    let gateway = house.serve();
    gateway.send("ann@customer.example");
    disk.put(3 << 20);
    let low =
        wait_for("/readyz to say so", || Some(gateway.get("/readyz")).filter(|answer| answer.json()["disk"] == "low"));
    assert_eq!((low.status, &low.json()["store"]), (200, &json!("ok")), "it can still write: outcomes, holds");
    assert_no_room(&gateway.post(&mail("ben@customer.example")));
    disk.make_room();
    wait_for("room for a mail", || (gateway.post(&mail("ben@customer.example")).status == 202).then_some(()));
    assert_eq!(gateway.get("/readyz").json()["disk"], "ok");
    gateway.stop();
}
