//! The inbox's pages in a real browser: they show what came, and nothing that came runs.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{House, Inbox, succeed};

/// What a mail that runs would write, and where it would be seen.
const SUBJECT: &str = "Hello <script>document.title='ran-in-subject'</script> & <b>you</b>";

/// A colour that nothing of ours has: the mail's own background.
const SHOWN: [u8; 3] = [250, 0, 250];
const SHOWN_CSS: &str = "rgb(250,0,250)";
/// The colour it turns its background to when its script runs.
const RAN: [u8; 3] = [0, 250, 250];
const RAN_CSS: &str = "rgb(0,250,250)";

#[test]
fn a_mail_is_shown_in_its_frame_and_none_of_its_scripts_run() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    // Whoever loads anything from here was made to by the mail.
    let beacon = TcpListener::bind("127.0.0.1:0").unwrap();
    beacon.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}", beacon.local_addr().unwrap());
    let id = gateway.send_as("ann@customer.example", &json!({"Subject": SUBJECT, "Body": body(&elsewhere)}));
    let queue_id = gateway.wait_for_status(&id, "relayed")["relayQueueId"].as_str().unwrap().to_owned();
    let browser = Browser::new();
    let escaped = "Hello &lt;script&gt;document.title='ran-in-subject'&lt;/script&gt; &amp; &lt;b&gt;you&lt;/b&gt;";

    let list = browser.dom(&inbox.url("/"));
    assert!(list.contains("<title>Inbox · Postern inbox</title>"), "{list}");
    assert!(list.contains(escaped) && list.contains("ann@customer.example"), "{list}");

    let view = browser.dom(&inbox.url(&format!("/messages/{queue_id}/view")));
    assert!(view.contains(&format!("<h1>{escaped}</h1>")), "{view}");
    assert!(!view.contains("<title>ran") && !view.contains("<b>you</b>") && !view.contains("ran-in-body"), "{view}");
    assert!(view.contains("<iframe sandbox=\"\" src=\"html\""), "{view}");

    // The frame's own page, as if somebody opened it alone.
    let alone = browser.dom(&inbox.url(&format!("/messages/{queue_id}/html")));
    assert!(alone.contains("The mail itself") && !alone.contains("<title>ran"), "{alone}");
    assert!(!alone.contains("id=\"made-by-script\""), "{alone}");

    let picture = browser.picture(&inbox.url(&format!("/messages/{queue_id}/view")));
    let (shown, ran) = (picture.count(SHOWN), picture.count(RAN));
    assert!(shown > 5_000, "the mail's HTML is in the frame: {shown} of its pixels are on the picture");
    assert_eq!(ran, 0, "a script of the mail ran");
    // A page may open a connection in advance (Chromium does for a frame that it then refuses); asking is something
    // else.
    let mut loaded = Vec::new();
    while let Ok((mut stream, _)) = beacon.accept() {
        let mut said = [0; 200];
        // The browser is gone: this returns.
        let length = stream.read(&mut said).unwrap_or_default();
        loaded.extend((length > 0).then(|| String::from_utf8_lossy(&said[..length]).into_owned()));
    }
    assert!(loaded.is_empty(), "the mail made the browser ask elsewhere: {loaded:?}");
}

#[test]
fn a_subject_and_a_name_that_are_markup_stay_text_on_both_pages() {
    let inbox = Inbox::start();
    let gateway = House::new(inbox.smtp, "").serve_keeping();
    let nasty = "\"><img src=x onerror=\"document.title='ran-in-subject'\">{{title}}";
    let more = json!({"Subject": nasty, "Body": "<p>Hello</p>", "from": "\"<u>Brand</u>\" <wallet@demo.example>"});
    let id = gateway.send_as("ann@customer.example", &more);
    let queue_id = gateway.wait_for_status(&id, "relayed")["relayQueueId"].as_str().unwrap().to_owned();
    let browser = Browser::new();
    for path in ["/".to_owned(), format!("/messages/{queue_id}/view"), "/?q=%22%3E%3Cscript%3E".to_owned()] {
        let dom = browser.dom(&inbox.url(&path));
        assert!(!dom.contains("<img") && !dom.contains("<u>") && !dom.contains("<title>ran"), "{path}: {dom}");
        assert!(!dom.contains("<script"), "{path}: {dom}");
        assert!(path.contains('?') || dom.contains("{{title}}"), "{path}: {dom}");
    }
}

/// A mail whose scripts try all ways out, on a background of its own.
fn body(elsewhere: &str) -> String {
    format!(
        "<html><body style=\"margin:0;background:{SHOWN_CSS}\"><h2>The mail itself</h2>\
         <script>document.title='ran-in-body';document.body.style.background='{RAN_CSS}';\
         var made=document.createElement('i');made.id='made-by-script';document.body.append(made);\
         try{{parent.document.title='ran-in-body'}}catch(e){{}}\
         try{{top.location='{elsewhere}/top'}}catch(e){{}}</script>\
         <img src=\"{elsewhere}/pixel.png\" onerror=\"document.body.style.background='{RAN_CSS}'\">\
         <iframe src=\"{elsewhere}/frame\"></iframe><link rel=\"stylesheet\" href=\"{elsewhere}/style.css\">\
         <svg onload=\"document.body.style.background='{RAN_CSS}'\"></svg>\
         <meta http-equiv=\"refresh\" content=\"0;url={elsewhere}/refresh\">\
         <p>Some text</p></body></html>"
    )
}

/// Debian's Chromium, each time with a profile of its own.
pub struct Browser {
    dir: TempDir,
}

impl Browser {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1000,900",
            "--virtual-time-budget=4000",
        ]);
        command.arg(format!("--user-data-dir={}", self.dir.path().join("profile").display()));
        command.env("HOME", self.dir.path()).current_dir(self.dir.path());
        command
    }

    /// The document after its scripts, were there any, had their time.
    pub fn dom(&self, url: &str) -> String {
        succeed(self.command().args(["--dump-dom", url]))
    }

    /// Whether somebody would see so much of a colour, in a window of this size. The picture is kept for whoever wants to
    /// look at it.
    pub fn shows(&self, url: &str, window: (u32, u32), colour: [u8; 3], file: &Path) -> usize {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let size = format!("--window-size={},{}", window.0, window.1);
        succeed(self.command().arg(size).arg(format!("--screenshot={}", file.display())).arg(url));
        Picture::read(file).count(colour)
    }

    /// What somebody would see.
    fn picture(&self, url: &str) -> Picture {
        let file = self.dir.path().join("picture.png");
        succeed(self.command().arg(format!("--screenshot={}", file.display())).arg(url));
        Picture::read(&file)
    }
}

/// The rows of a picture, three or four bytes a pixel.
struct Picture {
    rows: Vec<Vec<u8>>,
    pixel_bytes: usize,
}

impl Picture {
    /// Reads a PNG as a browser writes it: eight bits a channel, not interlaced.
    fn read(file: &Path) -> Self {
        let png = std::fs::read(file).unwrap();
        assert!(png.len() > 1_000 && png.starts_with(b"\x89PNG\r\n\x1a\n"), "{} bytes, not a PNG", png.len());
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let (width, height) = (number(16), number(20));
        assert_eq!((png[24], png[28]), (8, 0), "bits a channel, interlacing");
        let pixel_bytes = match png[25] {
            2 => 3,
            6 => 4,
            other => panic!("colour type {other}"),
        };
        let (mut packed, mut at) = (Vec::new(), 8);
        while at < png.len() {
            let length = number(at);
            if &png[at + 4..at + 8] == b"IDAT" {
                packed.extend_from_slice(&png[at + 8..at + 8 + length]);
            }
            at += length + 12;
        }
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        let mut rows: Vec<Vec<u8>> = Vec::new();
        for line in bytes.chunks_exact(1 + width * pixel_bytes) {
            let above = rows.last().cloned().unwrap_or_else(|| vec![0; width * pixel_bytes]);
            rows.push(unfiltered(line[0], &line[1..], &above, pixel_bytes));
        }
        assert_eq!(rows.len(), height);
        Self { rows, pixel_bytes }
    }

    /// How many pixels have this colour.
    fn count(&self, colour: [u8; 3]) -> usize {
        self.rows
            .iter()
            .map(|row| row.chunks_exact(self.pixel_bytes).filter(|pixel| pixel[..3] == colour).count())
            .sum()
    }
}

/// One line of a PNG without its filter (PNG specification, section 9).
fn unfiltered(filter: u8, line: &[u8], above: &[u8], pixel_bytes: usize) -> Vec<u8> {
    let mut row = Vec::with_capacity(line.len());
    for (at, byte) in line.iter().enumerate() {
        let left = if at >= pixel_bytes { row[at - pixel_bytes] } else { 0 };
        let corner = if at >= pixel_bytes { above[at - pixel_bytes] } else { 0 };
        let guess = match filter {
            0 => 0,
            1 => left,
            2 => above[at],
            3 => u8::try_from(u16::midpoint(u16::from(left), u16::from(above[at]))).unwrap(),
            4 => paeth(left, above[at], corner),
            other => panic!("filter {other}"),
        };
        row.push(byte.wrapping_add(guess));
    }
    row
}

fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let expected = i16::from(left) + i16::from(above) - i16::from(corner);
    let distance = |byte: u8| (expected - i16::from(byte)).abs();
    let candidates = [left, above, corner];
    // The first of the nearest.
    candidates.into_iter().min_by_key(|byte| distance(*byte)).unwrap()
}
