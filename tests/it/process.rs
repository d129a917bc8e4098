//! Processes of a test: what they say is read as they say it, waiting for them is bounded, and none outlives its test.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// No wait in a test is longer than this.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The built binary.
pub fn postern() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.stdin(Stdio::null());
    command
}

/// Looks again and again until `look` finds something, or the test fails after [`PATIENCE`].
///
/// Between looks it yields to the processes it waits for by asking them: every look is a request or a system call.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

/// Like [`wait_for`], with its own bound.
pub fn wait_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let (_keep, never) = channel::<()>();
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {limit:?} in vain for: {what}");
        // A pause that ends by time-out: nobody sends.
        let _ = never.recv_timeout(Duration::from_millis(20));
    }
}

/// Runs a command to its end and returns all it said; after [`PATIENCE`] it and its children are ended and the test
/// fails.
pub fn finish(command: &mut Command) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            from.read_to_end(&mut all).map(|_| all).unwrap()
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    let until = Instant::now() + PATIENCE;
    let ended = wait_within(PATIENCE * 2, "a command to end", || {
        let ended = child.try_wait().unwrap();
        if ended.is_none() && Instant::now() > until {
            signal("KILL", &format!("-{}", child.id()));
        }
        ended
    });
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    assert!(Instant::now() < until, "{command:?} took too long: {}", String::from_utf8_lossy(&stderr));
    Output { status: ended, stdout, stderr }
}

/// Runs a command that must end well, and returns what it said on stdout.
pub fn succeed(command: &mut Command) -> String {
    let output = finish(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn signal(name: &str, target: &str) -> bool {
    let sent = Command::new("kill").args(["-s", name, "--", target]).stderr(Stdio::null()).status();
    sent.unwrap().success()
}

/// A running process whose lines on stderr (its log) or on stdout are read; killed when dropped.
pub struct Process {
    child: Child,
    lines: Mutex<Lines>,
}

/// Lines as they come, and all that came.
struct Lines {
    coming: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(from: impl Read + Send + 'static) -> Mutex<Self> {
        let (send, coming) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Mutex::new(Self { coming, seen: Vec::new() })
    }

    /// The next line; `None` when no further will come.
    fn next(&mut self, until: Instant) -> Option<String> {
        match self.coming.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing more was said; so far:\n{}", self.seen.join("\n")),
        }
    }
}

impl Process {
    /// Starts a command whose log is read; its stdout is not.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Lines::of(child.stderr.take().unwrap());
        Self { child, lines }
    }

    /// Starts a command whose stdout is read; its log is not.
    pub fn start_and_listen(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Starts a command and returns the first line of its stdout, as JSON.
    pub fn start_and_read(command: &mut Command) -> (Self, Value) {
        let process = Self::start_and_listen(command);
        let first = process.next_line();
        (process, serde_json::from_str(&first).expect("JSON on stdout"))
    }

    /// Waits for the next line.
    pub fn next_line(&self) -> String {
        self.lines.lock().unwrap().next(Instant::now() + PATIENCE).expect("a further line")
    }

    /// Waits for a log line with this message and returns its fields.
    pub fn wait_for_log(&self, message: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        while let Some(line) = lines.next(until) {
            let fields = serde_json::from_str::<Value>(&line).unwrap_or_default();
            if fields["message"] == message {
                return fields;
            }
        }
        panic!("the log never said {message:?}; it said:\n{}", lines.seen.join("\n"))
    }

    /// All lines so far.
    pub fn log(&self) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap();
        let Lines { coming, seen } = &mut *lines;
        seen.extend(coming.try_iter());
        seen.clone()
    }

    /// All lines, once the process has closed its end: after [`Process::wait`].
    pub fn whole_log(&self) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap();
        let until = Instant::now() + PATIENCE;
        while lines.next(until).is_some() {}
        lines.seen.clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        assert!(signal(name, &self.id().to_string()), "no signal reached the process");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the process to end", || child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
