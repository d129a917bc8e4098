//! A stand-in for the platform's Pass API: a real server of generated passes, which moves while it is read, fails,
//! throttles, hangs and lies, request by request as a test says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// What every pass's secret begins with; it may be found nowhere.
pub const SECRET: &str = "pass-secret-";
/// The key that may read passes.
pub const KEY: &str = "pass-api-key-4711";

/// One pass.
#[derive(Debug, Clone)]
pub struct Pass {
    pub number: u64,
    pub customer: u64,
    pub apple: bool,
    pub google: bool,
}

/// What the server does to a request instead of answering it.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    Slower(u64),
    /// Nothing is answered for so long.
    Hang(Duration),
    /// The head promises more than the body has.
    Cut,
    /// A whole answer that is not a list.
    NoList,
    /// The first pass of the page stands there twice.
    Twice,
}

/// What the server says of its total.
#[derive(Debug, Clone, Copy)]
pub enum Told {
    Truth,
    Nothing,
    Number(u64),
}

/// The passes there are, and how the server behaves.
pub struct World {
    pub passes: Vec<Pass>,
    pub next: u64,
    pub faults: BTreeMap<u64, Fault>,
    pub told: Told,
    /// A page behind the last one is the last one again.
    pub repeats_last: bool,
    /// The newest first, whatever was asked for.
    pub newest_first: bool,
    /// Passes made and removed before each request.
    pub moves: usize,
    /// Passes of which anything was changed, made or removed by these moves.
    pub moved: BTreeSet<u64>,
    /// Requests so far.
    pub requests: u64,
    /// Passes from this number on stand there without an id.
    pub nameless_from: u64,
    /// All passes stand on each page.
    pub page_size_ignored: bool,
    /// The status of every answer, if it is not 200.
    pub status: Option<u16>,
    random: fastrand::Rng,
}

/// A running server.
pub struct PassApi {
    pub address: SocketAddr,
    world: Arc<Mutex<World>>,
}

impl World {
    fn made(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        // Some customers have several passes.
        let customer = if number % 10 == 9 { number - 1 } else { number };
        let (apple, google) = (self.random.u8(..) < 140, self.random.u8(..) < 110);
        self.passes.push(Pass { number, customer, apple, google });
        number
    }

    /// Changes so many passes at random: into wallets, out of wallets, away, and as many new ones.
    pub fn drift(&mut self, count: usize) {
        for _ in 0..count {
            let at = self.random.usize(..self.passes.len());
            match self.random.u8(..4) {
                0 => drop(self.passes.remove(at)),
                1 => self.passes[at].apple ^= true,
                2 => self.passes[at].google ^= true,
                _ => _ = self.made(),
            }
        }
    }

    /// What happens between two requests.
    fn move_on(&mut self) {
        for _ in 0..self.moves {
            let number = self.made();
            self.moved.insert(number);
            let at = self.random.usize(..self.passes.len());
            let gone = self.passes.remove(at);
            self.moved.insert(gone.number);
        }
    }

    /// In which wallets each customer is who is in any.
    pub fn truth(&self) -> BTreeMap<String, &'static str> {
        let mut customers: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
        for pass in &self.passes {
            let (apple, google) = customers.entry(pass.customer).or_default();
            *apple |= pass.apple;
            *google |= pass.google;
        }
        let status = |(apple, google)| match (apple, google) {
            (true, true) => "both",
            (true, false) => "apple",
            (false, true) => "google",
            (false, false) => "none",
        };
        let all = customers.into_iter().map(|(customer, wallets)| (format!("C{customer}"), status(wallets)));
        all.filter(|(_, status)| *status != "none").collect()
    }

    fn written(&self, pass: &Pass) -> Value {
        let mut value = written(pass);
        if pass.number >= self.nameless_from {
            value.as_object_mut().unwrap().remove("id");
        }
        value
    }

    fn page(&self, index: usize, size: usize) -> Vec<Value> {
        let size = if self.page_size_ignored { self.passes.len() } else { size };
        let newest_first: Vec<&Pass> = self.passes.iter().rev().collect();
        let oldest_first: Vec<&Pass> = self.passes.iter().collect();
        let all = if self.newest_first { newest_first } else { oldest_first };
        let pages = all.len().div_ceil(size);
        let index = if self.repeats_last { index.min(pages.saturating_sub(1)) } else { index };
        all.into_iter().skip(index.saturating_mul(size)).take(size).map(|pass| self.written(pass)).collect()
    }
}

/// A pass as the platform writes it; how it says where it is differs from pass to pass.
fn written(pass: &Pass) -> Value {
    let Pass { number, customer, apple, google } = pass;
    let created = jiff::Timestamp::from_second(1_700_000_000 + i64::try_from(*number).unwrap()).unwrap();
    let said = |is_there: bool, way: u64| match (is_there, way % 4) {
        (true, 0) => json!(created),
        (true, 1) => json!({"installationDate": created}),
        (true, 2) => json!(true),
        (true, _) => json!(created.as_millisecond()),
        (false, 0 | 1) => json!(null),
        (false, _) => json!(false),
    };
    let names = if number % 3 == 0 { ("apple", "google") } else { ("AppleWallet", "google_wallet") };
    json!({
        "id": format!("PASS{number}"), "secret": format!("{SECRET}{number}"), "creationDate": created,
        "lastUpdateDate": created, "passType": "loyalty",
        "identifiers": {"customerId": format!("C{customer}"), "shop.code": number % 7},
        "metadata": {"tier": "gold"}, "additionalData": null,
        "providers": {names.0: said(*apple, *number), names.1: said(*google, number / 4)},
    })
}

impl PassApi {
    /// Starts one with so many passes, generated from a seed.
    pub fn start(count: u64, seed: u64) -> Self {
        let mut world = World {
            passes: Vec::new(),
            next: 0,
            faults: BTreeMap::new(),
            told: Told::Truth,
            repeats_last: false,
            newest_first: false,
            moves: 0,
            moved: BTreeSet::new(),
            requests: 0,
            nameless_from: u64::MAX,
            page_size_ignored: false,
            status: None,
            random: fastrand::Rng::with_seed(seed),
        };
        for _ in 0..count {
            world.made();
        }
        let world = Arc::new(Mutex::new(world));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&world);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let world = Arc::clone(&shared);
                std::thread::spawn(move || while answer(&stream, &world).is_some() {});
            }
        });
        Self { address, world }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The section of a tenant's file that leads here, with further keys.
    pub fn section(&self, more: &str) -> String {
        format!("[pass_api]\nurl = \"http://{}\"\ntenant = \"brand\"\nrate = \"none\"\n{more}\n", self.address)
    }
}

/// Answers one request; `None` when the connection has ended.
fn answer(mut stream: &TcpStream, world: &Mutex<World>) -> Option<()> {
    let (mut path, mut key) = (String::new(), String::new());
    let mut lines = BufReader::new(stream).lines();
    loop {
        let line = lines.next()?.ok()?;
        if path.is_empty() {
            line.split(' ').nth(1)?.clone_into(&mut path);
        } else if let Some((name, value)) = line.split_once(':') {
            if name.eq_ignore_ascii_case("x-api-key") {
                value.trim().clone_into(&mut key);
            }
        } else if line.is_empty() {
            break;
        }
    }
    let reply = |status: &str, headers: &str, body: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let (fault, text) = {
        let mut world = world.lock().unwrap();
        let number = world.requests;
        world.requests += 1;
        world.move_on();
        let fault = world.faults.get(&number).copied();
        let (status, headers, body) = ask(&world, &path, &key, fault);
        let length = if matches!(fault, Some(Fault::Cut)) { body.len() * 2 + 1 } else { body.len() };
        (fault, reply(&status, &headers, &body, length))
    };
    if let Some(Fault::Hang(length)) = fault {
        // The other end gives up, or is killed, meanwhile.
        stream.set_read_timeout(Some(length)).unwrap();
        _ = BufReader::new(stream).fill_buf();
        return None;
    }
    stream.write_all(text.as_bytes()).ok()?;
    (!matches!(fault, Some(Fault::Cut))).then_some(())
}

/// Status line, further header lines and body.
fn ask(world: &World, path: &str, key: &str, fault: Option<Fault>) -> (String, String, String) {
    let failed = |status: u16, headers: String| (format!("{status} Failed"), headers, "{}".to_owned());
    match (world.status, fault) {
        (Some(status), _) | (None, Some(Fault::Status(status))) => return failed(status, String::new()),
        (None, Some(Fault::Slower(seconds))) => return failed(429, format!("Retry-After: {seconds}\r\n")),
        (None, Some(Fault::NoList)) => return ("200 OK".to_owned(), String::new(), "{\"items\":[]}".to_owned()),
        (None, Some(Fault::Hang(_) | Fault::Cut | Fault::Twice) | None) => {}
    }
    let (route, query) = path.split_once('?').unwrap_or((path, ""));
    if key != KEY {
        return failed(401, String::new());
    }
    if route != "/api/brand/passes" {
        return failed(404, String::new());
    }
    let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let wanted = [("sortBy[0].field", "creationDate"), ("sortBy[0].direction", "asc")];
    if wanted.iter().any(|(name, value)| query.get(*name).map(String::as_str) != Some(value)) {
        return failed(400, String::new());
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok()).unwrap();
    let mut page = world.page(number("pageIndex"), number("pageSize"));
    if matches!(fault, Some(Fault::Twice)) {
        page.extend(page.first().cloned());
    }
    let total = match world.told {
        Told::Truth => Some(world.passes.len() as u64),
        Told::Nothing => None,
        Told::Number(number) => Some(number),
    };
    let headers = total.map(|total| format!("x-pagination-total: {total}\r\n")).unwrap_or_default();
    ("200 OK".to_owned(), headers, Value::Array(page).to_string())
}
