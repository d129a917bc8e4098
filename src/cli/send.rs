//! `postern send`: one mail through the same intake as every other; a running gateway sends it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::keys::unknown_tenant;
use super::{Context, Done, Failure};
use crate::app::{intake, parts, templates};
use crate::domain::address::Mailbox;
use crate::domain::audit::Actor;
use crate::domain::contact::Culture;
use crate::domain::ids::TenantId;
use crate::domain::message::{Acceptance, Receipt};
use crate::domain::submission::{OwnTemplate, SUBJECT_CHARS_MAX, Submission};
use crate::intake::{Refusal, Room};
use crate::store::sqlite::Role;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  postern send --tenant demo --to ann@example.com --subject Hello --text hello.txt
  postern send --tenant demo --to ann@example.com --subject Hello --html hello.html --text hello.txt
  postern send --tenant demo --to ann@example.com --template pass-link --data data.json --culture fr")]
pub(super) struct Arguments {
    /// Whose mail: a file in tenants/ without .toml
    #[arg(long, value_name = "T")]
    tenant: TenantId,
    /// The one recipient: a@b or 'Name <a@b>'
    #[arg(long, value_name = "A")]
    to: Mailbox,
    /// The subject
    #[arg(long, value_name = "S", required_unless_present = "template")]
    subject: Option<String>,
    /// The HTML part
    #[arg(long, value_name = "FILE", required_unless_present_any = ["text", "template"])]
    html: Option<PathBuf>,
    /// The text part; made from the HTML when not given
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// One of our own templates, which writes subject, HTML and text
    #[arg(long, value_name = "NAME", conflicts_with_all = ["subject", "html", "text"])]
    template: Option<String>,
    /// What the template is given: a JSON object
    #[arg(long, value_name = "FILE", requires = "template")]
    data: Option<PathBuf>,
    /// The culture it is written in, as in fr or fr-CA; else the contact's, else the tenant's
    #[arg(long, value_name = "C", requires = "template")]
    culture: Option<Culture>,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    if !config.tenants.contains_key(&arguments.tenant) {
        return Err(unknown_tenant(&arguments.tenant, &config));
    }
    let submission = submission(&arguments, config.server.request_body_max.0)?;
    let store = parts::open_store(&config.store, Role::Command)?;
    // Nobody waits in this process: the gateway looks for itself.
    let rules = watch::Sender::new(Arc::new(config.rules()));
    // One that has a problem is refused when it is asked for.
    let templates = watch::Sender::new(templates::load(&config).0);
    let intake = intake(&rules, &templates, &context.clock, &store, &Arc::new(Notify::new()), None);
    let accepted = intake.accept(&arguments.tenant, Actor::Command("send"), submission, None, Room::Enough).await;
    store.close().await;
    let receipt = receipt(accepted)?;
    context.output.answer(&receipt, |receipt| {
        let Receipt { id, status, lane, deliver_by, message_id } = receipt;
        format!("Id          {id}\nStatus      {status}\nLane        {lane}\nDeliver by  {deliver_by:.0}\nMessage-ID  {message_id}")
    })?;
    Ok(())
}

/// What intake answered, for a person at a terminal.
pub(super) fn receipt(accepted: Result<Acceptance, Refusal>) -> Result<Receipt, Failure> {
    match accepted {
        Ok(Acceptance::Accepted(receipt) | Acceptance::Replayed(receipt) | Acceptance::Deduplicated(receipt)) => {
            Ok(receipt)
        }
        Ok(Acceptance::IdempotencyMismatch) => Err(anyhow::anyhow!("the idempotency key is taken").into()),
        Ok(Acceptance::RecipientLimited { limit, wait }) => {
            let (limit, wait) = (limit.in_words("mail"), wait.as_secs() + 1);
            Err(anyhow::anyhow!("more than {limit} to this recipient; one more may go in {wait} s").into())
        }
        Ok(Acceptance::FactTaken) => Err(anyhow::anyhow!("the fact is taken").into()),
        Err(Refusal::Invalid(errors)) => {
            let errors: Vec<_> = errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail)).collect();
            Err(Failure::Usage(errors.join("; ")))
        }
        Err(refusal) => Err(anyhow::Error::new(refusal).context("the mail was not accepted").into()),
    }
}

fn submission(arguments: &Arguments, bytes_max: u64) -> Result<Submission, Failure> {
    if let Some(template) = &arguments.template {
        let data = arguments.data.as_deref().map_or(Ok(json!({})), |path| object(path, bytes_max))?;
        let culture = arguments.culture.iter().cloned().collect();
        let own = OwnTemplate { data, culture, cultures: Vec::new(), customer: None };
        let plain = plain(arguments.to.clone(), String::new());
        return Ok(Submission { template: Some(template.clone()), own: Some(own), ..plain });
    }
    let subject = arguments.subject.as_deref().unwrap_or_default();
    let count = subject.chars().count();
    if subject.chars().any(char::is_control) || !(1..=SUBJECT_CHARS_MAX).contains(&count) {
        let what = format!("--subject: 1 to {SUBJECT_CHARS_MAX} characters, without control characters");
        return Err(Failure::Usage(what));
    }
    let part = |path: &Option<PathBuf>| path.as_deref().map(|path| read(path, bytes_max)).transpose();
    let (html, text) = (part(&arguments.html)?, part(&arguments.text)?);
    if [&html, &text].into_iter().flatten().all(String::is_empty) {
        return Err(Failure::Usage("--html or --text: the mail is empty".to_owned()));
    }
    Ok(Submission { html, text, ..plain(arguments.to.clone(), subject.to_owned()) })
}

/// A submission with a recipient and a subject and nothing else.
pub(super) fn plain(recipient: Mailbox, subject: String) -> Submission {
    Submission {
        recipient,
        template: None,
        own: None,
        subject,
        html: None,
        text: None,
        from: None,
        reply_to: None,
        headers: Vec::new(),
        attachments: Vec::new(),
        lane: None,
        deadline: None,
        send_at: None,
        dedupe: None,
        unless: None,
        tags: Vec::new(),
        metadata: BTreeMap::new(),
        data: BTreeMap::new(),
    }
}

/// The JSON object in a file.
fn object(path: &Path, bytes_max: u64) -> Result<Value, Failure> {
    let text = read(path, bytes_max)?;
    // The parser's words may quote the file; the place says enough.
    let read = serde_json::from_str(&text).map_err(|error| format!("line {} column {}", error.line(), error.column()));
    match read {
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err(Failure::Usage(format!("{}: not a JSON object", path.display()))),
        Err(place) => Err(Failure::Usage(format!("{}: not valid JSON at {place}", path.display()))),
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<String, Failure> {
    let unreadable = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > bytes_max {
        return Err(unreadable(format!("larger than server.request_body_max ({bytes_max} bytes)")));
    }
    Ok(text)
}
