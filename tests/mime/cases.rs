//! Nasty mails, each with a name.

use postern::compose::{ComposeError, Parts, compose};
use postern::domain::address::Mailbox;
use postern::domain::submission::Attachment;

/// The parts of one mail, owned.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) from: Mailbox,
    pub(crate) to: Mailbox,
    pub(crate) reply_to: Option<Mailbox>,
    pub(crate) subject: String,
    pub(crate) html: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) files: Vec<Attachment>,
}

pub(crate) const MESSAGE_ID: &str = "<0199aabbccddeeff00112233445566aa@demo.example>";
pub(crate) const DATE: &str = "2026-03-01T08:05:09+00:00";

impl Case {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            from: mailbox("Demo Brand <wallet@demo.example>"),
            to: mailbox("ann@example.com"),
            reply_to: None,
            subject: "Your card".to_owned(),
            html: None,
            text: Some("Hello".to_owned()),
            headers: Vec::new(),
            files: Vec::new(),
        }
    }

    pub(crate) fn compose(&self) -> Result<Vec<u8>, ComposeError> {
        compose(&Parts {
            from: &self.from,
            reply_to: self.reply_to.as_ref(),
            recipient: &self.to,
            subject: &self.subject,
            html: self.html.as_deref(),
            text: self.text.as_deref(),
            headers: &self.headers,
            attachments: &self.files,
            message_id: MESSAGE_ID,
            date: DATE.parse().unwrap(),
        })
    }
}

pub(crate) fn mailbox(text: &str) -> Mailbox {
    text.parse().unwrap()
}

pub(crate) fn file(name: &str, content: &[u8], content_id: Option<&str>) -> Attachment {
    Attachment {
        filename: name.to_owned(),
        content_type: "application/octet-stream".to_owned(),
        content: content.to_vec(),
        content_id: content_id.map(str::to_owned),
    }
}

fn several(kind: &str, values: Vec<String>, change: impl Fn(&mut Case, String)) -> Vec<Case> {
    let cases = values.into_iter().enumerate().map(|(number, value)| {
        let mut case = Case::new(&format!("{kind}-{number:02}"));
        change(&mut case, value);
        case
    });
    cases.collect()
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

pub(crate) fn all() -> Vec<Case> {
    let mut cases = several("subject", subjects(), |case, value| case.subject = value);
    cases.extend(several("name", names(), |case, value| {
        case.from.name = Some(value.clone());
        case.to.name = Some(value.clone());
        case.reply_to = Some(Mailbox { name: Some(value), address: mailbox("r@demo.example").address });
    }));
    cases.extend(several("address", addresses(), |case, value| {
        case.to = mailbox(&value);
        case.to.name = Some("Ann, B.".to_owned());
        case.reply_to = Some(mailbox(&value));
    }));
    cases.extend(several("text", bodies(), |case, value| case.text = Some(value)));
    cases.extend(several("html", bodies(), |case, value| case.html = Some(value)));
    cases.extend(several("derived", bodies(), |case, value| {
        case.html = Some(format!("<p>{value}"));
        case.text = None;
    }));
    cases.extend(several("file", filenames(), |case, value| case.files = vec![file(&value, b"x", None)]));
    cases.extend(several("header", header_values(), |case, value| case.headers = vec![("X-Custom".into(), value)]));
    cases.extend(structures());
    cases
}

fn subjects() -> Vec<String> {
    let mut all = texts(&[
        "",
        "Votre carte est prête 🎉",
        "مرحبا \u{202e}abc\u{202c} שלום",
        "\"quoted\" \\ back\\slash, (comment) <a@b.example>; x:y",
        "=?utf-8?q?literal?=",
        "a =?utf-8?b?YQ==?= b",
        "=?",
        " leading",
        "trailing ",
        "two  spaces and   three",
        "     ",
        "a_b=c?d",
        "é è",
        "日本語の件名 mixed with English and 한국어",
        "👨‍👩‍👧‍👦 e\u{301} \u{2028}\u{a0}\u{feff}",
        "From nobody",
        ".",
        "=",
    ]);
    all.extend(
        ["a", "é", "日", "🎉", "a ", "é ", "=?", "_", "ab cd é "].map(|unit| unit.repeat(2_000 / unit.chars().count())),
    );
    all.extend((55..80).map(|length| "x".repeat(length)));
    all
}

fn names() -> Vec<String> {
    let mut all = texts(&[
        "Plain Name",
        "Lee, Ann",
        "Ann \"the\" Lee",
        "back\\slash",
        "Zoë",
        "🎉 Party 🎉",
        "O'Hara (sales) [x]; <y>",
        "a@b.example",
        "=?utf-8?q?x?=",
        "مطعم",
        "Dr. No",
        "a.b",
        "two  spaces",
        "é, \"ü\" ",
    ]);
    all.extend(["a", "é", "日", "name ", "\""].map(|unit| unit.repeat(256 / unit.len()).trim().to_owned()));
    all
}

fn addresses() -> Vec<String> {
    let mut all = texts(&[
        "ann@bücher.example",
        "ann@例え.テスト",
        "zoë@example.com",
        "用户@例え.テスト",
        "\"a b\"@example.com",
        "o'hara+tag=1@example.com",
        "a.b-c_d@sub.example.com",
    ]);
    all.push(format!("{}@{}.example", "l".repeat(64), ["d".repeat(58), "e".repeat(58)].join(".")));
    all
}

fn bodies() -> Vec<String> {
    let mut all = texts(&[
        "",
        "\n",
        "a",
        "a\n",
        "a\n\n",
        "lf\nonly\nlines",
        "crlf\r\nlines\r\n",
        "bare\rcr\r\rand\n\rmix\r\r\n\nend\r",
        ".\n..\n.\r\n.leading\n\n.",
        ".",
        "\r\n.\r\nMAIL FROM:<x@y.example>\r\n",
        "\n.\nRCPT TO:<x@y.example>\n",
        "From nobody\nFrom  x\n>From y",
        "trailing space \ntab\t\n   \n\t\n ",
        "nul\0and\u{1}control\u{c}\u{7f}\u{85}",
        "--\n--=_a_0199aabbccddeeff00112233445566aademoexample\n--x--",
        "--=_m_0199aabbccddeeff00112233445566aademoexample--",
        "= =3D =\n=\r\n",
        "é",
        "日本語の本文です。\nこんにちは。",
        "<p>Bonjour Zo&euml; é</p>\n<br>",
        "<div><p>unclosed <b>bold <table><td>x</div></p>",
        "<a href='https://x.example/?a=1&b=2'>x</a>",
        "\u{feff}bom",
        "🎉👨‍👩‍👧‍👦",
        "\u{2028}line\u{2029}para",
    ]);
    all.push("x".repeat(100_000));
    all.push("é".repeat(50_000));
    all.push("word ".repeat(20_000));
    all.push(".".repeat(1_000));
    all.push(" ".repeat(1_000));
    all.push("\n".repeat(1_000));
    all.push("<div>".repeat(20_000));
    all.extend((70..80).map(|length| format!("{}é", "x".repeat(length)).repeat(3)));
    all.extend((70..80).map(|length| format!("{} \n", "x".repeat(length)).repeat(3)));
    all
}

fn filenames() -> Vec<String> {
    let mut all = texts(&[
        "a.pdf",
        "with space.pdf",
        "quote\".pdf",
        "semi;colon.pdf",
        "back\\slash.pdf",
        "percent%41.pdf",
        "apostrophe'.pdf",
        "star*.pdf",
        "équipe.pdf",
        "日本語.pdf",
        "🎉.pdf",
        "=?utf-8?q?x?=.pdf",
        " leading.pdf",
        "a=b.pdf",
        "../../etc/passwd",
        "utf-8''x.pdf",
        "{x}.pdf",
        "two  spaces.pdf",
    ]);
    all.extend(["a", "é", "日", "a ", "%"].map(|unit| format!("{}b", unit.repeat(254 / unit.chars().count()))));
    all
}

fn header_values() -> Vec<String> {
    let mut all = texts(&["1", "", "é", "a  b", "=?utf-8?q?x?=", "{\"json\": [1, 2]}", "日本語 text"]);
    all.push("x".repeat(900));
    all.push("word ".repeat(800).trim().to_owned());
    all.push("é ".repeat(2_000).trim().to_owned());
    all.push(format!("a{}b", " ".repeat(3_000)));
    all
}

fn structures() -> Vec<Case> {
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut related = Case::new("related");
    related.html = Some("<img src='cid:logo@demo'>".to_owned());
    related.files = vec![file("logo.png", &every_byte, Some("logo@demo"))];
    let mut everything = related.clone();
    everything.name = String::from("everything");
    everything.files.extend([file("", b"", None), file("a.bin", &every_byte, None), file("ü", b"\r\n.\r\n", None)]);
    everything.files[1].filename = String::from("empty");
    everything.files[3].content_type = String::from("text/csv; charset=\"utf-8\"; header=\"a; b\"");
    everything.headers = vec![
        (
            "References".into(),
            (0..40).map(|n| format!("<{n}.{}@demo.example>", "x".repeat(20))).collect::<Vec<_>>().join(" "),
        ),
        ("In-Reply-To".into(), "<a@demo.example>".into()),
        ("List-Unsubscribe".into(), format!("<https://demo.example/u/{}>, <mailto:u@demo.example>", "t".repeat(600))),
        ("List-Unsubscribe-Post".into(), "List-Unsubscribe=One-Click".into()),
        ("auto-submitted".into(), "no".into()),
    ];
    let mut text_and_file = Case::new("text-and-file");
    text_and_file.files = vec![file("a", b"x", None), file("b", b"", Some("unused@demo"))];
    let mut mixed = Case::new("html-and-file");
    mixed.html = Some(String::new());
    mixed.files = vec![file("a", b"x", None)];
    vec![related, everything, text_and_file, mixed]
}
