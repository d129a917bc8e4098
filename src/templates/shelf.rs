//! Which file is what: mails with their cultures and parts, pages, partials; and which files are nothing of that.

use std::collections::BTreeMap;

use super::TemplateProblem;
use super::culture::Culture;
use super::files::{File, Files, Source};

/// Letters of a mail's, page's or partial's name at most.
const NAME_LENGTH_MAX: usize = 100;

/// What an HTML body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// HTML.
    Html,
    /// MJML, which becomes HTML.
    Mjml,
}

impl Engine {
    /// As people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Mjml => "mjml",
        }
    }
}

/// A file by its path: the name under which its template is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) path: String,
    pub(super) file: File,
}

/// A mail in one culture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Edition {
    pub(super) subject: Option<Part>,
    pub(super) html: Option<(Engine, Part)>,
    pub(super) text: Option<Part>,
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mail {
    pub(super) editions: BTreeMap<Culture, Edition>,
    pub(super) sample: Option<Part>,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Page {
    pub(super) editions: BTreeMap<Culture, Part>,
    pub(super) sample: Option<Part>,
}

/// All of them by name.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) mails: BTreeMap<String, Mail>,
    pub(super) pages: BTreeMap<String, Page>,
    pub(super) partials: BTreeMap<String, Part>,
}

/// What a path names.
enum Place {
    Sample { of: Of, name: String },
    Mail { name: String, culture: Culture, what: What },
    Page { name: String, culture: Culture },
    Partial { name: String },
}

#[derive(Clone, Copy)]
enum Of {
    Mail,
    Page,
}

#[derive(Clone, Copy)]
enum What {
    Subject,
    Html(Engine),
    Text,
}

impl Shelf {
    /// Puts every file in its place, own ones over shipped ones.
    pub(super) fn of(shipped: Files, own: Files, problems: &mut Vec<TemplateProblem>) -> Self {
        let mut shelf = Self::default();
        for (path, file) in shipped {
            shelf.put(path, file, problems);
        }
        for (path, file) in own {
            shelf.put(path, file, problems);
        }
        shelf
    }

    fn put(&mut self, path: String, file: File, problems: &mut Vec<TemplateProblem>) {
        let place = match place_of(&path) {
            Ok(place) => place,
            Err(detail) => return problems.push(TemplateProblem::new(&file.shown, detail)),
        };
        let part = Part { path, file };
        let taken = match place {
            Place::Partial { name } => lay(self.partials.entry(name).or_insert_with(|| part.clone()), part),
            Place::Page { name, culture } => {
                let editions = &mut self.pages.entry(name).or_default().editions;
                lay(editions.entry(culture).or_insert_with(|| part.clone()), part)
            }
            Place::Sample { of: Of::Mail, name } => lay_in(&mut self.mails.entry(name).or_default().sample, part),
            Place::Sample { of: Of::Page, name } => lay_in(&mut self.pages.entry(name).or_default().sample, part),
            Place::Mail { name, culture, what } => {
                self.mails.entry(name).or_default().editions.entry(culture).or_default().put(what, part)
            }
        };
        if let Err(Taken { file, by }) = taken {
            problems.push(TemplateProblem::new(file, format!("stands in the same place as {by}: remove one of them")));
        }
    }
}

impl Edition {
    fn put(&mut self, what: What, part: Part) -> Result<(), Taken> {
        match what {
            What::Subject => lay_in(&mut self.subject, part),
            What::Text => lay_in(&mut self.text, part),
            What::Html(engine) => {
                let over_shipped = part.file.source == Source::Own
                    && self.html.as_ref().is_none_or(|(_, old)| old.file.source == Source::Shipped);
                if over_shipped && self.text.as_ref().is_some_and(|text| text.file.source == Source::Shipped) {
                    // The shipped text says what the shipped HTML said.
                    self.text = None;
                }
                match &self.html {
                    Some((_, old)) if old.file.source == part.file.source => Err(taken(&part, old)),
                    _ => {
                        self.html = Some((engine, part));
                        Ok(())
                    }
                }
            }
        }
    }
}

/// Two files of one source for one place.
struct Taken {
    file: String,
    by: String,
}

fn taken(part: &Part, by: &Part) -> Taken {
    Taken { file: part.file.shown.clone(), by: by.file.shown.clone() }
}

fn lay_in(place: &mut Option<Part>, part: Part) -> Result<(), Taken> {
    if let Some(old) = place {
        return lay(old, part);
    }
    *place = Some(part);
    Ok(())
}

/// An own file takes the place of a shipped one; two of one source are one too many, unless they are the same.
fn lay(old: &mut Part, part: Part) -> Result<(), Taken> {
    if old.file.source == part.file.source && old.path != part.path {
        return Err(taken(&part, old));
    }
    *old = part;
    Ok(())
}

fn place_of(path: &str) -> Result<Place, String> {
    let steps: Vec<&str> = path.split('/').collect();
    match steps.as_slice() {
        ["mail", name, "sample.json"] => Ok(Place::Sample { of: Of::Mail, name: checked(name)? }),
        ["mail", name, culture, file] => {
            let what = match *file {
                "subject.hbs" => What::Subject,
                "body.html.hbs" => What::Html(Engine::Html),
                "body.mjml.hbs" => What::Html(Engine::Mjml),
                "body.text.hbs" => What::Text,
                _ => return Err("is none of subject.hbs, body.html.hbs, body.mjml.hbs and body.text.hbs".to_owned()),
            };
            Ok(Place::Mail { name: checked(name)?, culture: read_culture(culture)?, what })
        }
        ["mail", ..] => Err("a mail is mail/<name>/sample.json and mail/<name>/<culture>/<part>.hbs".to_owned()),
        ["pages", name, "sample.json"] => Ok(Place::Sample { of: Of::Page, name: checked(name)? }),
        ["pages", name, file] => {
            let culture = file.strip_suffix(".html.hbs").ok_or("is none of <culture>.html.hbs and sample.json")?;
            Ok(Place::Page { name: checked(name)?, culture: read_culture(culture)? })
        }
        ["pages", ..] => Err("a page is pages/<name>/<culture>.html.hbs".to_owned()),
        ["partials", file] => {
            let name = file.strip_suffix(".hbs").ok_or("is not a partial: <name>.hbs")?;
            Ok(Place::Partial { name: checked(name)? })
        }
        _ => Err("a partial is partials/<name>.hbs".to_owned()),
    }
}

fn checked(name: &str) -> Result<String, String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if name.is_empty() || name.len() > NAME_LENGTH_MAX || !plain || name.starts_with('.') {
        return Err(format!("the name {name:?} is not made of letters, digits, - _ and ."));
    }
    Ok(name.to_owned())
}

fn read_culture(text: &str) -> Result<Culture, String> {
    Culture::read(text).ok_or_else(|| format!("{text:?} is not a culture, as in en or fr-CA"))
}
