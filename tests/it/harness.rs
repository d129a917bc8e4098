//! Starts the built binary as users do, talks to it, and stops it again; nothing outlives its test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub use crate::process::{PATIENCE, Process, finish, postern, succeed, wait_for, wait_within};

/// A configuration folder of its own, with one relay and the tenant `demo`.
pub struct House {
    dir: TempDir,
}

impl House {
    /// A house whose relay is at `relay`, without limits. `extra` is further keys of `[server]`, then further sections.
    pub fn new(relay: SocketAddr, extra: &str) -> Self {
        Self::with_relay(relay, extra, "")
    }

    /// Like [`House::new`], with further keys for the relay.
    pub fn with_relay(relay: SocketAddr, extra: &str, relay_extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let house = Self { dir };
        house.write("tenants/demo.toml", DEMO_TENANT);
        let store = house.path("data/postern.db");
        // A test sends as fast as it can, to few people, on whatever disk there is; a test of limits says its own.
        let limits = if extra.contains("[limits]") {
            ""
        } else {
            "[limits]\nper_key = \"none\"\nper_recipient = \"none\"\ndisk_free_min = \"0B\"\n"
        };
        let toml = format!(
            "[store]\nurl = \"sqlite:{}\"\n{limits}[log]\nformat = \"json\"\n[server]\nlisten = \"127.0.0.1:0\"\n{extra}\n\
             [[relays]]\nname = \"primary\"\nhost = \"{}\"\nport = {}\ntls = \"none\"\n{relay_extra}\n",
            store.display(),
            relay.ip(),
            relay.port()
        );
        house.write("postern.toml", &toml);
        house
    }

    /// Changes the relay's `tls`.
    pub fn use_tls(&self, tls: &str) {
        self.replace("tls = \"none\"", &format!("tls = \"{tls}\""));
    }

    /// Changes `postern.toml`.
    pub fn replace(&self, from: &str, to: &str) {
        let path = self.config().join("postern.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in:\n{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Writes a file of the configuration.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.config().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// The configuration folder.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// A path in the house's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of the binary with this configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = postern();
        command.arg("--config").arg(self.config()).args(arguments);
        // Paths of a configuration are relative to the working directory, which is everybody's here.
        command.env("POSTERN__AUDIT__KEY_FILE", self.path("data/audit.key"));
        command.env("POSTERN__AUDIT__DIR", self.path("data/audit"));
        command
    }

    /// Holds the store against its log: everything must be as it was logged.
    pub fn verify(&self) -> Value {
        let said = finish(self.command(&["audit", "verify", "--format", "json"]).stdin(std::process::Stdio::null()));
        let verdict: Value = serde_json::from_slice(&said.stdout).unwrap_or(Value::Null);
        assert_eq!(verdict["findings"], json!([]), "{verdict} {said:?}");
        assert!(said.status.success(), "{said:?}");
        verdict
    }

    /// Runs a command to its end and reads the JSON it prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = succeed(self.command(arguments).args(["--format", "json"]));
        serde_json::from_str(&said).expect("one JSON value on stdout")
    }

    /// Makes a key with these scopes and returns its secret.
    pub fn key(&self, scopes: &[&str]) -> String {
        self.key_of("demo", scopes)
    }

    /// Makes a key of a tenant.
    pub fn key_of(&self, tenant: &str, scopes: &[&str]) -> String {
        let mut arguments = vec!["keys", "create", "--tenant", tenant, "--name", "test"];
        for scope in scopes {
            arguments.extend(["--scope", scope]);
        }
        self.json(&arguments)["key"].as_str().unwrap().to_owned()
    }

    /// Starts `serve`, makes a key for everything, and waits until it is ready.
    pub fn serve(&self) -> Gateway {
        let key = self.key(&["send", "events", "read", "content", "manage"]);
        self.serve_with(key)
    }

    /// Starts `serve` again with a key made before.
    pub fn serve_with(&self, key: String) -> Gateway {
        Self::serve_by(&mut self.command(&["serve"]), key)
    }

    /// Starts `serve` by a command of the caller's making.
    pub fn serve_by(command: &mut Command, key: String) -> Gateway {
        let process = Process::start(command);
        let address = process.wait_for_log("serving")["listen"].as_str().unwrap().parse().unwrap();
        Gateway { process, address, key, _house: None }
    }

    /// Starts `serve`; the house lives as long as the gateway.
    pub fn serve_keeping(self) -> Gateway {
        let gateway = self.serve();
        Gateway { _house: Some(self), ..gateway }
    }
}

pub const DEMO_TENANT: &str = r#"
name = "Demo Brand"
from = "Demo Brand <wallet@demo.example>"
from_allowed = ["demo.example"]
relays = ["primary"]
default_culture = "en"
[lanes]
"*challenge*" = "urgent"
"*verification*" = "urgent"
"*journey*" = "journey"
"#;

/// A running gateway.
pub struct Gateway {
    pub process: Process,
    pub address: SocketAddr,
    pub key: String,
    _house: Option<House>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `null` when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// One HTTP request; every status is an answer.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
    try_request(method, url, headers, body).unwrap()
}

/// Like [`request`], for a server that may be gone.
pub fn try_request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Answer, ureq::Error> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
    let agent: ureq::Agent = config.build().into();
    let mut builder = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let mut response = agent.run(builder.body(body.unwrap_or_default()).unwrap())?;
    let headers = response.headers();
    let headers =
        headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let headers = headers.collect();
    let body = response.body_mut().with_config().limit(256 << 20).read_to_vec()?;
    Ok(Answer { status: response.status().as_u16(), headers, body })
}

impl Gateway {
    /// A URL of this gateway.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// GET with the gateway's key.
    pub fn get(&self, path: &str) -> Answer {
        request("GET", &self.url(path), &[("X-API-KEY", &self.key)], None)
    }

    /// POST JSON to `/v1/emails` with the gateway's key.
    pub fn post(&self, body: &Value) -> Answer {
        self.post_with(body, &[])
    }

    /// The same, with further headers.
    pub fn post_with(&self, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("X-API-KEY", self.key.as_str()), ("Content-Type", "application/json")];
        all.extend(headers);
        request("POST", &self.url("/v1/emails"), &all, Some(body.to_string().as_bytes()))
    }

    /// Sends a plain mail to `recipient` and returns its id.
    pub fn send(&self, recipient: &str) -> String {
        self.send_as(recipient, &json!({}))
    }

    /// Sends a mail to `recipient` with further fields and returns its id.
    pub fn send_as(&self, recipient: &str, more: &Value) -> String {
        let mut body = mail(recipient);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.post(&body);
        assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The message as it is now.
    pub fn message(&self, id: &str) -> Value {
        self.get(&format!("/v1/emails/{id}")).json()
    }

    /// Waits until the message has this status.
    pub fn wait_for_status(&self, id: &str, status: &str) -> Value {
        let mut last = Value::Null;
        let limit = Instant::now() + PATIENCE;
        wait_within(PATIENCE + Duration::from_secs(1), "a status", || {
            last = self.message(id);
            assert!(Instant::now() < limit, "waited for {status:?} of {last}");
            (last["status"] == status).then(|| last.clone())
        })
    }

    /// The kinds of the message's events, oldest first.
    pub fn kinds(&self, id: &str) -> Vec<String> {
        let events = self.get(&format!("/v1/emails/{id}/events")).json();
        events["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// Stops it as an init system would, and insists on success.
    pub fn stop(mut self) {
        self.process.signal("TERM");
        let status = self.process.wait();
        assert!(status.success(), "{status}: {:?}", self.process.log());
    }
}

/// A plain mail.
pub fn mail(recipient: &str) -> Value {
    json!({"recipient": recipient, "emailTemplate": "registration", "Subject": "Your pass", "Body": "<p>Your pass is ready.</p>"})
}

/// A running capture inbox.
pub struct Inbox {
    _process: Process,
    pub smtp: SocketAddr,
    http: String,
}

impl Inbox {
    /// Starts one on free ports.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts one with its SMTP side at a given address.
    pub fn start_on(smtp: &str) -> Self {
        let mut command = postern();
        command.args(["inbox", "--smtp", smtp, "--http", "127.0.0.1:0", "--format", "json"]);
        let (process, facts) = Process::start_and_read(&mut command);
        let smtp = facts["smtp"].as_str().unwrap().parse().unwrap();
        Self { _process: process, smtp, http: facts["http"].as_str().unwrap().trim_end_matches('/').to_owned() }
    }

    /// A URL of its pages.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.http)
    }

    /// What it captured, newest first, at most `limit`.
    pub fn messages(&self, limit: usize) -> Vec<Value> {
        let answer = request("GET", &self.url(&format!("/messages?limit={limit}")), &[], None);
        answer.json()["items"].as_array().unwrap().clone()
    }

    /// How many it captured.
    pub fn total(&self) -> u64 {
        request("GET", &self.url("/messages?limit=1"), &[], None).json()["total"].as_u64().unwrap()
    }

    /// Its counters.
    pub fn counters(&self) -> Value {
        request("GET", &self.url("/counters"), &[], None).json()
    }

    /// The raw bytes of a captured mail.
    pub fn raw(&self, id: &str) -> Vec<u8> {
        request("GET", &self.url(&format!("/messages/{id}/raw")), &[], None).body
    }
}

/// A port nobody listens on right now.
pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Submits many mails from several connections at once and returns their ids, in no order.
///
/// `recipient` names the nth mail's recipient. What is refused for want of a gateway is left out.
pub fn send_many(
    gateway: &Gateway,
    count: usize,
    more: &Value,
    recipient: impl Fn(usize) -> String + Sync,
) -> Vec<String> {
    const CONNECTIONS: usize = 16;
    let (url, key) = (gateway.url("/v1/emails"), gateway.key.as_str());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let agent: ureq::Agent =
                        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
                    let mut ids = Vec::new();
                    loop {
                        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if number >= count {
                            return ids;
                        }
                        let mut body = mail(&recipient(number));
                        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                        let answer = agent.post(&url).header("X-API-KEY", key).send_json(body);
                        if let Ok(mut answer) = answer
                            && let Ok(receipt) = answer.body_mut().read_json::<Value>()
                        {
                            ids.push(receipt["id"].as_str().unwrap().to_owned());
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}
