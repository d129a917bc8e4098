//! A receiver of pushes: takes what is posted to it, answers as its test says, and checks signatures its own way.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::harness::wait_for;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Got {
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The event's name.
    pub fn event(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// The signature that this key makes, by RFC 2104 as it is written there.
    pub fn signature(&self, key: &[u8]) -> String {
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        let pad = |with: u8| block.map(|byte| byte ^ with);
        let content = format!("{}.{}.{}", self.id(), self.header("webhook-timestamp"), self.body);
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(content).finalize();
        let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        format!("v1,{}", STANDARD.encode(outer))
    }
}

/// What a receiver does with a request.
pub enum Does {
    /// Answers this status, with further header lines.
    Answer(u16, &'static str),
    /// Says nothing and keeps the connection.
    Hang,
}

pub const TAKES: Does = Does::Answer(204, "");

/// A receiver on a port of its own.
pub struct Receiver {
    pub at: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    stopped: Arc<AtomicBool>,
}

impl Receiver {
    /// One that does with the nth request, counted from 0, what `how` says.
    pub fn start(how: impl Fn(usize, &Got) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (got, stopped) = (Arc::<Mutex<Vec<Got>>>::default(), Arc::new(AtomicBool::new(false)));
        let (all, stop, how) = (Arc::clone(&got), Arc::clone(&stopped), Arc::new(how));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (all, how) = (Arc::clone(&all), Arc::clone(&how));
                std::thread::spawn(move || serve(&stream.ok()?, &all, &*how));
            }
        });
        Self { at, got, stopped }
    }

    /// What came so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until so many came, and returns all.
    pub fn wait_for(&self, count: usize) -> Vec<Got> {
        wait_for("pushes", || Some(self.got()).filter(|got| got.len() >= count))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        _ = TcpStream::connect(self.at);
    }
}

fn serve(mut stream: &TcpStream, all: &Mutex<Vec<Got>>, how: &dyn Fn(usize, &Got) -> Does) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let pairs = lines.iter().filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut got = Got { headers, body: String::new() };
    let mut body = vec![0; got.header("content-length").parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    got.body = String::from_utf8(body).ok()?;
    let number = {
        let mut all = all.lock().unwrap();
        all.push(got.clone());
        all.len() - 1
    };
    match how(number, &got) {
        Does::Answer(status, lines) => {
            let answer = format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).ok()
        }
        Does::Hang => reader.read_to_end(&mut Vec::new()).ok().map(drop),
    }
}
