//! The hostile templates themselves.

mod costing;
mod leading;
mod meeting;
mod reading;

use serde_json::{Value, json};

use super::Rendered;

/// How it ends.
pub(super) enum Fate {
    /// When it is loaded, with these words.
    Refused(&'static str),
    /// When it is rendered, with these words.
    Fails(&'static str),
    /// It is rendered, and harmless.
    Renders(fn(&Rendered) -> bool),
}

/// One hostile mail, called `bad`.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) data: Option<Value>,
    pub(super) fate: Fate,
}

use Fate::{Fails, Refused, Renders};

const CIRCLE: &str = "calls itself without end";
const DEEP: &str = "see templates.depth_max";
pub(super) const SLOW: &str = "longer than templates.render_timeout";
pub(super) const LARGE: &str = "more comes out than templates.output_bytes_max";

/// A mail of these files beside a subject, a body and a sample that are fine.
fn mail(name: &'static str, files: &[(&str, &[u8])], data: Option<Value>, fate: Fate) -> Case {
    let mut all = vec![
        ("mail/bad/en/subject.hbs".to_owned(), b"Hi".to_vec()),
        ("mail/bad/sample.json".to_owned(), b"{}".to_vec()),
    ];
    let has_body = files.iter().any(|(path, _)| path.contains("/body."));
    if !has_body {
        all.push(("mail/bad/en/body.html.hbs".to_owned(), b"<p>x</p>".to_vec()));
    }
    all.extend(files.iter().map(|(path, text)| ((*path).to_owned(), text.to_vec())));
    Case { name, files: all, data, fate }
}

/// An HTML body.
fn body(name: &'static str, text: &str, fate: Fate) -> Case {
    mail(name, &[("mail/bad/en/body.html.hbs", text.as_bytes())], None, fate)
}

/// An HTML body with its sample.
fn with(name: &'static str, text: &str, sample: &Value, fate: Fate) -> Case {
    let sample = sample.to_string();
    let files = [("mail/bad/en/body.html.hbs", text.as_bytes()), ("mail/bad/sample.json", sample.as_bytes())];
    mail(name, &files, None, fate)
}

/// An HTML body that is fine with `sample` and meets `data`.
fn meets(name: &'static str, text: &str, sample: &Value, data: Value, fate: Fate) -> Case {
    Case { data: Some(data), ..with(name, text, sample, fate) }
}

fn mjml(name: &'static str, text: &str, fate: Fate) -> Case {
    mail(name, &[("mail/bad/en/body.mjml.hbs", text.as_bytes())], None, fate)
}

fn subject(name: &'static str, text: &str, sample: &Value, data: Value, fate: Fate) -> Case {
    let sample = sample.to_string();
    let files = [("mail/bad/en/subject.hbs", text.as_bytes()), ("mail/bad/sample.json", sample.as_bytes())];
    mail(name, &files, Some(data), fate)
}

fn sample(name: &'static str, text: &[u8], fate: Fate) -> Case {
    mail(name, &[("mail/bad/sample.json", text)], None, fate)
}

fn partials(name: &'static str, all: &[(&str, &str)], fate: Fate) -> Case {
    let files: Vec<(String, &[u8])> =
        all.iter().map(|(name, text)| (format!("partials/{name}.hbs"), text.as_bytes())).collect();
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    files.push(("mail/bad/en/body.html.hbs", b"{{> a}}"));
    mail(name, &files, None, fate)
}

fn nested(open: &str, inside: &str, close: &str, times: usize) -> String {
    format!("{}{inside}{}", open.repeat(times), close.repeat(times))
}

fn in_mjml(inside: &str) -> String {
    format!("<mjml><mj-body><mj-section><mj-column>{inside}</mj-column></mj-section></mj-body></mjml>")
}

fn numbers(count: u32) -> Value {
    json!({ "list": (0..count).collect::<Vec<_>>(), "more": {"none": null, "some": 1} })
}

pub(super) fn cases() -> Vec<Case> {
    [
        leading::circles(),
        leading::names(),
        leading::depths(),
        reading::elements(),
        reading::syntax(),
        reading::samples(),
        costing::time_and_size(),
        meeting::subjects(),
        meeting::data(),
        meeting::odd_data(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
