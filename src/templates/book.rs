//! The compiled templates of one set, and one render: subject, HTML and text of a mail, or a page.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handlebars::{Context, Handlebars, RenderContext, Renderable as _, Template};
use serde_json::Value;

use super::culture::Choice;
use super::error::{Fault, Why};
use super::shelf::{Edition, Engine, Part};
use super::watch::{self, Sheet};
use super::{Rendered, finish, verbs};

/// Characters of a subject at most, as at the door.
const SUBJECT_LENGTH_MAX: usize = 2_000;

/// The compiled templates, by their paths; partials by their names.
pub(super) struct Book {
    /// What is written is HTML: values are escaped.
    html: Handlebars<'static>,
    /// Subjects and texts: values are written as they are.
    plain: Handlebars<'static>,
    /// Files as people know them, by the name of the template.
    shown: BTreeMap<String, String>,
    /// Templates that did not pass their check.
    broken: BTreeSet<String>,
    limits: Limits,
}

/// What one render may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) time: Duration,
    pub(super) output_bytes_max: usize,
    pub(super) depth_max: usize,
}

impl Book {
    pub(super) fn new(limits: Limits) -> Self {
        let mut html = Handlebars::new();
        html.set_strict_mode(true);
        html.register_escape_fn(handlebars::html_escape);
        verbs::register(&mut html);
        let mut plain = Handlebars::new();
        plain.set_strict_mode(true);
        plain.register_escape_fn(handlebars::no_escape);
        verbs::register(&mut plain);
        Self { html, plain, shown: BTreeMap::new(), broken: BTreeSet::new(), limits }
    }

    /// Adds a template; `None`: one that did not pass its check.
    pub(super) fn add(&mut self, name: &str, shown: &str, template: Option<Template>) {
        self.shown.insert(name.to_owned(), shown.to_owned());
        match template {
            Some(template) => {
                self.plain.register_template(name, template.clone());
                self.html.register_template(name, template);
            }
            None => drop(self.broken.insert(name.to_owned())),
        }
    }

    /// A file as people know it, by the name of its template.
    pub(super) fn shown(&self, name: &str) -> String {
        self.shown.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// The first of these that did not pass its check.
    pub(super) fn broken<'a>(&self, parts: impl Iterator<Item = &'a Part>) -> Option<String> {
        let mut parts = parts;
        parts.find(|part| self.broken.contains(&part.path)).map(|part| part.file.shown.clone())
    }

    /// Renders a mail, on the thread this is called on.
    pub(super) fn mail(&self, edition: &Edition, choice: &Choice, data: Value) -> Result<Rendered, Fault> {
        self.watched(choice, || {
            let context = Context::from(data);
            let (subject, html, text) = (&edition.subject, &edition.html, &edition.text);
            let subject = subject.as_ref().map(|part| self.subject(part, &context)).transpose()?.unwrap_or_default();
            let html = html.as_ref().map(|(engine, part)| self.html(*engine, part, &context)).transpose()?;
            let text = text.as_ref().map(|part| self.write(&self.plain, part, &context)).transpose()?;
            Ok(Rendered { subject, html, text, culture: choice.culture.to_string() })
        })
    }

    /// Renders a page, on the thread this is called on.
    pub(super) fn page(&self, part: &Part, choice: &Choice, data: Value) -> Result<String, Fault> {
        self.watched(choice, || self.write(&self.html, part, &Context::from(data)))
    }

    fn watched<T>(&self, choice: &Choice, work: impl FnOnce() -> T) -> T {
        watch::under(self.limits.time, self.limits.output_bytes_max, choice.formats.clone(), work)
    }

    fn subject(&self, part: &Part, context: &Context) -> Result<String, Fault> {
        let subject = self.write(&self.plain, part, context)?;
        let wrong = if subject.contains(['\r', '\n', '\0']) {
            "the subject would hold a line break or NUL"
        } else if subject.chars().count() > SUBJECT_LENGTH_MAX {
            "the subject would be longer than 2,000 characters"
        } else if subject.trim().is_empty() {
            "the subject would be empty"
        } else {
            return Ok(subject);
        };
        Err(Fault::said(&part.path, wrong))
    }

    fn html(&self, engine: Engine, part: &Part, context: &Context) -> Result<String, Fault> {
        let written = self.write(&self.html, part, context)?;
        let depth_max = self.limits.depth_max;
        let html = match engine {
            Engine::Html => written,
            Engine::Mjml => finish::mjml(&written, &part.path, depth_max)?,
        };
        let html = finish::inline(html, &part.path, depth_max)?;
        if html.len() > self.limits.output_bytes_max {
            return Err(Fault::said(&part.path, "more comes out than templates.output_bytes_max"));
        }
        Ok(html)
    }

    fn write(&self, registry: &Handlebars<'static>, part: &Part, context: &Context) -> Result<String, Fault> {
        let Some(template) = registry.get_template(&part.path) else {
            return Err(Fault { file: part.path.clone(), line: None, why: Why::Said("is not there".to_owned()) });
        };
        let mut sheet = Sheet::new();
        let mut render = RenderContext::new(template.name.as_ref());
        template.render(registry, context, &mut render, &mut sheet).map_err(|error| Fault::of(&error, &part.path))?;
        Ok(sheet.into_text())
    }
}
