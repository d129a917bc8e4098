//! The brand's own mails and pages: read, checked, compiled once, and rendered without ever harming the process.
//!
//! # Who is who
//!
//! * A **mail** is a folder `mail/<name>`: for each culture an **edition** (`subject.hbs`, `body.html.hbs` or
//!   `body.mjml.hbs`, and `body.text.hbs` where the text is not to be made from the HTML), and a `sample.json`.
//! * A **page** is `pages/<name>/<culture>.html.hbs`; a **partial** is `partials/<name>.hbs`, for all of them.
//! * **Shipped** files are part of the binary; the brand's **own** (`templates.dir`) are laid over them one by one. An own
//!   HTML body also takes away the shipped text part of its edition, which tells another mail.
//! * A **watch** (`watch`) looks at time and size while a render runs; the **threads** (`threads`) run it.
//!
//! # What flows
//!
//! ```text
//! files ─▶ shelf: what is what ─▶ compile: depth, names ─▶ calls: circles ─▶ every sample in every culture ─▶ Templates
//!      each step: problems with file and line, all of them in one run                │
//! mail, cultures, data ─▶ size and depth ─▶ thread ─▶ handlebars ─▶ [MJML ─▶ HTML] ─▶ styles inlined ─▶ Rendered
//! ```
//!
//! A set never changes. Who wants another one loads it and puts it in the place of the old one as a whole.
//!
//! # What is promised
//!
//! * [`Templates::load`] never panics and always ends, whatever the folder holds.
//! * A render ends within its time, or is given up and its thread replaced; its output, memory and stack have limits. A
//!   template that breaks one fails its mail and no other: recursion is refused when loading, time and size are looked at
//!   between any two elements, and what cannot be looked into (MJML, CSS) is measured before.
//! * Values are escaped in HTML, never in subjects and texts. A variable that the data does not have is an error, but in
//!   `{{#if}}`, `{{#unless}}`, `{{default}}` and the other helpers' values. A subject with a line break is refused.
//! * Nothing is fetched or read while rendering. No error or log line repeats anything of the data.
//!
//! # MJML
//!
//! It is turned into HTML after handlebars ran, not once when loading: only then may `{{#each}}` repeat a section or a
//! partial hold one. See `finish` for what that costs.
//!
//! Not here: who is mailed and in which culture, unsubscribe links, the text part made from HTML (`compose`).

mod book;
mod calls;
mod compile;
pub mod culture;
mod data;
mod error;
mod files;
mod finish;
mod formats;
mod load;
mod measure;
pub mod settings;
mod shelf;
#[cfg(test)]
mod tests;
mod threads;
mod turns;
mod verbs;
mod watch;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::domain::ids::TenantId;

pub use self::error::RenderError;
pub use self::files::Source;
pub use self::settings::TemplateSettings;
pub use self::shelf::Engine;

use self::book::Book;
use self::culture::{Choice, choose};
use self::error::{Fault, Why};
use self::shelf::{Mail, Page};
use self::threads::{Lost, Threads};

/// A set of templates, ready to render.
pub struct Templates {
    book: Arc<Book>,
    mails: std::collections::BTreeMap<String, Arc<Loaded<Mail>>>,
    pages: std::collections::BTreeMap<String, Arc<Loaded<Page>>>,
    threads: Threads,
    /// Nobody waits for a page because of mails.
    page_thread: Threads,
    settings: TemplateSettings,
    fingerprint: [u8; 32],
}

/// A mail or page with its sample.
struct Loaded<T> {
    what: T,
    sample: Option<Value>,
}

/// A rendered mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// With its styles where they apply.
    pub html: Option<String>,
    /// Only when its author wrote one.
    pub text: Option<String>,
    /// The culture that was taken, as in `fr-CA`.
    pub culture: String,
}

/// Something wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TemplateProblem {
    /// Its path; of a shipped one `shipped` and its path.
    pub file: String,
    /// The line, where that is known.
    pub line: Option<usize>,
    /// What is wrong and what is wanted.
    pub detail: String,
}

impl TemplateProblem {
    fn new(file: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, detail: detail.into() }
    }
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}: line {line}: {}", self.file, self.detail),
            None => write!(f, "{}: {}", self.file, self.detail),
        }
    }
}

/// One edition of a mail, to be listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// As in `fr-CA`.
    pub culture: String,
    /// Who wrote its body.
    pub source: &'static str,
    /// What its body is written in: `html`, `mjml` or `text`.
    pub engine: &'static str,
    /// Whether its author wrote a text part.
    pub has_text: bool,
}

impl Templates {
    /// Reads, checks and compiles the shipped templates with those of `settings.dir` laid over, and renders each mail's
    /// sample in each of its cultures. What has a problem is there all the same, and cannot be rendered.
    #[must_use]
    pub fn load(settings: &TemplateSettings) -> (Self, Vec<TemplateProblem>) {
        load::load(settings)
    }

    /// The mails there are, in the order of the alphabet.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.mails.keys().map(String::as_str).collect()
    }

    /// Whether there is a mail of this name.
    #[must_use]
    pub fn has(&self, mail: &str) -> bool {
        self.mails.contains_key(mail)
    }

    /// The cultures of a mail; none when there is no such mail.
    #[must_use]
    pub fn cultures(&self, mail: &str) -> Vec<&str> {
        let editions = self.mails.get(mail).map(|mail| mail.what.editions.keys());
        editions.into_iter().flatten().map(culture::Culture::as_str).collect()
    }

    /// The sample data of a mail.
    #[must_use]
    pub fn sample(&self, mail: &str) -> Option<&Value> {
        self.mails.get(mail).and_then(|mail| mail.sample.as_ref())
    }

    /// The editions of a mail.
    #[must_use]
    pub fn listed(&self, mail: &str) -> Vec<Listed> {
        let editions = self.mails.get(mail).map(|mail| &mail.what.editions);
        let listed = editions.into_iter().flatten().map(|(culture, edition)| {
            let html = edition.html.as_ref();
            let body = html.map(|(_, part)| part).or(edition.text.as_ref()).or(edition.subject.as_ref());
            Listed {
                culture: culture.to_string(),
                source: body.map_or(Source::Own, |part| part.file.source).as_str(),
                engine: html.map_or("text", |(engine, _)| engine.as_str()),
                has_text: edition.text.is_some(),
            }
        });
        listed.collect()
    }

    /// What the files and the settings say, as one number: another when any of them says something else.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Renders a mail in the first of the wanted cultures that there is, best first: each may fall back to its language
    /// (`fr-CA`, then `fr`); when there is none of them, in any. `tenant`: whose it is, so that it does not wait for the
    /// mails of others; `None`: the house's own.
    pub async fn render(
        &self,
        tenant: Option<&TenantId>,
        mail: &str,
        cultures: &[&str],
        data: Value,
    ) -> Result<Rendered, RenderError> {
        let loaded = self.mails.get(mail).ok_or_else(|| unknown(mail))?;
        let choice = choose(cultures, loaded.what.editions.keys()).ok_or_else(|| unknown(mail))?;
        self.check_data(mail, &data)?;
        let edition = loaded.what.editions.get(&choice.culture).ok_or_else(|| unknown(mail))?;
        let parts = [edition.subject.as_ref(), edition.html.as_ref().map(|(_, part)| part), edition.text.as_ref()];
        if let Some(file) = self.book.broken(parts.into_iter().flatten()) {
            return Err(RenderError::Broken { file });
        }
        let (book, loaded, taken) = (Arc::clone(&self.book), Arc::clone(loaded), choice.clone());
        let work = move || loaded.what.editions.get(&taken.culture).map(|edition| book.mail(edition, &taken, data));
        let done = self.threads.run(tenant.cloned(), work).await;
        self.answer(mail, &choice, done)
    }

    /// Renders a page; cultures as with [`Templates::render`].
    pub async fn page(&self, page: &str, cultures: &[&str], data: Value) -> Result<String, RenderError> {
        let loaded = self.pages.get(page).ok_or_else(|| unknown(page))?;
        let choice = choose(cultures, loaded.what.editions.keys()).ok_or_else(|| unknown(page))?;
        self.check_data(page, &data)?;
        if let Some(file) = self.book.broken(loaded.what.editions.get(&choice.culture).into_iter()) {
            return Err(RenderError::Broken { file });
        }
        let (book, loaded, taken) = (Arc::clone(&self.book), Arc::clone(loaded), choice.clone());
        let work = move || loaded.what.editions.get(&taken.culture).map(|part| book.page(part, &taken, data));
        let done = self.page_thread.run(None, work).await;
        self.answer(page, &choice, done)
    }

    fn check_data(&self, name: &str, data: &Value) -> Result<(), RenderError> {
        let (bytes_max, depth_max) = (self.settings.data_bytes_max, self.settings.depth_max.get());
        data::check(data, bytes_max.as_usize(), usize::from(depth_max))
            .map_err(|why| RenderError::Data { name: name.to_owned(), why })
    }

    fn answer<T>(
        &self,
        name: &str,
        choice: &Choice,
        done: Result<Option<Result<T, Fault>>, Lost>,
    ) -> Result<T, RenderError> {
        let (name, culture) = (name.to_owned(), choice.culture.to_string());
        let fault = match done {
            Ok(Some(Ok(made))) => return Ok(made),
            Ok(Some(Err(fault))) => fault,
            Ok(None) => return Err(RenderError::Unknown { name }),
            Err(Lost::GivenUp) => return Err(RenderError::TooSlow { name, culture }),
            Err(Lost::Panicked) => return Err(RenderError::Panicked { name, culture }),
            Err(Lost::Busy) => return Err(RenderError::Busy { name }),
            Err(Lost::Stuck) => return Err(RenderError::Stuck { name }),
        };
        Err(match fault.why {
            Why::Late => RenderError::TooSlow { name, culture },
            Why::Said(why) => {
                RenderError::Failed { file: self.book.shown(&fault.file), culture, line: fault.line, why }
            }
        })
    }
}

fn unknown(name: &str) -> RenderError {
    RenderError::Unknown { name: name.to_owned() }
}
