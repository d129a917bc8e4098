//! From files to a set of templates, and every problem on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hmac::digest::Digest as _;
use serde_json::Value;
use sha2::Sha256;

use super::book::{Book, Limits};
use super::calls::{Calls, Wrong};
use super::compile::{Compiled, Flaw, compile};
use super::culture::Choice;
use super::error::{Fault, Why};
use super::settings::TemplateSettings;
use super::shelf::{Part, Shelf};
use super::threads::{Lost, Threads};
use super::{Loaded, TemplateProblem, Templates, data, files};

/// Problems told at most; after so many the rest is probably one mistake.
const PROBLEMS_MAX: usize = 1_000;

/// How long reading one file may take.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(30);

/// A file that was compiled, or has a problem.
struct Sheet<'a> {
    name: &'a str,
    part: &'a Part,
    compiled: Option<Compiled>,
}

pub(super) fn load(settings: &TemplateSettings) -> (Templates, Vec<TemplateProblem>) {
    let mut problems = Vec::new();
    let shipped = files::shipped(&mut problems);
    load_over(shipped, settings, problems)
}

/// Lays the own files over others.
pub(super) fn load_over(
    shipped: files::Files,
    settings: &TemplateSettings,
    mut problems: Vec<TemplateProblem>,
) -> (Templates, Vec<TemplateProblem>) {
    let own = files::own(settings, &mut problems);
    let fingerprint = fingerprint(settings, [&shipped, &own]);
    let shelf = Shelf::of(shipped, own, &mut problems);
    complete(&shelf, settings, &mut problems);
    let limits = Limits {
        time: settings.render_timeout.0,
        output_bytes_max: settings.output_bytes_max.as_usize(),
        depth_max: usize::from(settings.depth_max.get()),
    };
    let threads = Threads::new(settings);
    let book = Arc::new(write_book(&shelf, &threads, limits, &mut problems));
    let Shelf { mails, pages, .. } = shelf;
    let mails: BTreeMap<_, _> = mails
        .into_iter()
        .map(|(name, mail)| {
            let sample = sample(mail.sample.as_ref(), settings, &mut problems);
            (name, Arc::new(Loaded { what: mail, sample }))
        })
        .collect();
    let pages: BTreeMap<_, _> = pages
        .into_iter()
        .map(|(name, page)| {
            let sample = sample(page.sample.as_ref(), settings, &mut problems);
            (name, Arc::new(Loaded { what: page, sample }))
        })
        .collect();
    let page_thread = Threads::one(settings);
    let templates = Templates { book, mails, pages, threads, page_thread, settings: settings.clone(), fingerprint };
    rehearse(&templates, &mut problems);
    problems.sort();
    problems.dedup();
    problems.truncate(PROBLEMS_MAX);
    (templates, problems)
}

/// What is missing where something is.
fn complete(shelf: &Shelf, settings: &TemplateSettings, problems: &mut Vec<TemplateProblem>) {
    let shown = |kind: &str, name: &str| Path::new(&settings.dir).join(kind).join(name).display().to_string();
    for (name, mail) in &shelf.mails {
        let mut say = |detail: String| problems.push(TemplateProblem::new(shown("mail", name), detail));
        if mail.sample.is_none() {
            say("has no sample.json: the mail is rendered with it when it is loaded".to_owned());
        }
        if mail.editions.is_empty() {
            say("has no culture: mail/<name>/<culture>/subject.hbs and a body".to_owned());
        }
        for (culture, edition) in &mail.editions {
            if edition.subject.is_none() {
                say(format!("has no subject.hbs in {culture}"));
            }
            if edition.html.is_none() && edition.text.is_none() {
                say(format!("has no body in {culture}: body.html.hbs, body.mjml.hbs or body.text.hbs"));
            }
        }
    }
    for (name, page) in &shelf.pages {
        if page.editions.is_empty() {
            problems.push(TemplateProblem::new(shown("pages", name), "has no culture: <culture>.html.hbs"));
        }
    }
}

/// Every part of every mail and page.
fn parts(shelf: &Shelf) -> Vec<&Part> {
    let mut parts = Vec::new();
    for edition in shelf.mails.values().flat_map(|mail| mail.editions.values()) {
        parts.extend(edition.subject.as_ref());
        parts.extend(edition.html.as_ref().map(|(_, part)| part));
        parts.extend(edition.text.as_ref());
    }
    parts.extend(shelf.pages.values().flat_map(|page| page.editions.values()));
    parts
}

/// Compiles everything, and leaves out what does not pass.
fn write_book(shelf: &Shelf, threads: &Threads, limits: Limits, problems: &mut Vec<TemplateProblem>) -> Book {
    let mut sheet = |name, part| {
        let compiled = compile_one(name, part, threads, limits.depth_max, problems);
        Sheet { name, part, compiled }
    };
    let partials: Vec<Sheet<'_>> = shelf.partials.iter().map(|(name, part)| sheet(name.as_str(), part)).collect();
    let others: Vec<Sheet<'_>> = parts(shelf).into_iter().map(|part| sheet(part.path.as_str(), part)).collect();
    let broken = broken(&partials, &others, limits.depth_max, problems);
    let mut book = Book::new(limits);
    for Sheet { name, part, compiled } in partials.into_iter().chain(others) {
        let template = compiled.filter(|_| !broken.contains(name)).map(|compiled| compiled.template);
        book.add(name, &part.file.shown, template);
    }
    book
}

fn compile_one(
    name: &str,
    part: &Part,
    threads: &Threads,
    depth_max: usize,
    problems: &mut Vec<TemplateProblem>,
) -> Option<Compiled> {
    let text = part.file.text.as_deref()?;
    let is_subject = part.path.ends_with("/subject.hbs");
    // The white space around a subject is the editor's.
    let text = if is_subject { text.trim() } else { text };
    let (name, text) = (name.to_owned(), text.to_owned());
    let flaws = match threads.run_blocking(Some(COMPILE_TIMEOUT), move || compile(&name, &text, depth_max)) {
        Ok(Ok(compiled)) => return Some(compiled),
        Ok(Err(flaws)) => flaws,
        Err(Lost::GivenUp) => vec![Flaw { line: None, detail: "takes too long to be read".to_owned() }],
        Err(Lost::Panicked | Lost::Busy | Lost::Stuck) => {
            vec![Flaw { line: None, detail: "cannot be read".to_owned() }]
        }
    };
    problems.extend(flaws.into_iter().map(|Flaw { line, detail }| TemplateProblem {
        file: part.file.shown.clone(),
        line,
        detail,
    }));
    None
}

/// The files that lead into a circle or too deep: rendering one would overflow the stack.
fn broken(
    partials: &[Sheet<'_>],
    others: &[Sheet<'_>],
    depth_max: usize,
    problems: &mut Vec<TemplateProblem>,
) -> BTreeSet<String> {
    let by_name = partials.iter().map(|sheet| (sheet.name, sheet.compiled.as_ref())).collect();
    let of_others = others.iter().filter_map(|sheet| sheet.compiled.as_ref());
    let calls = Calls::new(by_name, of_others, depth_max);
    let mut broken = BTreeSet::new();
    for sheet in partials.iter().chain(others) {
        let Some(compiled) = &sheet.compiled else { continue };
        for (line, name, wrong) in calls.wrongs(compiled) {
            if wrong != Wrong::Missing {
                broken.insert(sheet.name.to_owned());
            }
            let (file, detail) = (sheet.part.file.shown.clone(), wrong.in_words(&name, depth_max));
            problems.push(TemplateProblem { file, line, detail });
        }
    }
    broken
}

fn sample(part: Option<&Part>, settings: &TemplateSettings, problems: &mut Vec<TemplateProblem>) -> Option<Value> {
    let part = part?;
    let text = part.file.text.as_deref()?;
    let mut say = |line, detail: String| {
        problems.push(TemplateProblem { file: part.file.shown.clone(), line, detail });
        None
    };
    match serde_json::from_str::<Value>(text) {
        Err(error) => say(Some(error.line()).filter(|line| *line > 0), "is not JSON here".to_owned()),
        Ok(sample) => {
            let (bytes_max, depth_max) = (settings.data_bytes_max.as_usize(), usize::from(settings.depth_max.get()));
            match data::check(&sample, bytes_max, depth_max) {
                Ok(()) => Some(sample),
                Err(why) => say(None, why),
            }
        }
    }
}

/// Renders every sample in every culture.
fn rehearse(templates: &Templates, problems: &mut Vec<TemplateProblem>) {
    for (name, mail) in &templates.mails {
        let Some(sample) = &mail.sample else { continue };
        for (culture, edition) in &mail.what.editions {
            let all = [edition.subject.as_ref(), edition.html.as_ref().map(|(_, part)| part), edition.text.as_ref()];
            let mut all = all.into_iter().flatten();
            let Some(first) = all.clone().next() else { continue };
            if templates.book.broken(&mut all).is_some() {
                continue;
            }
            let (book, loaded, sample) = (Arc::clone(&templates.book), Arc::clone(mail), sample.clone());
            let choice = Choice { culture: culture.clone(), formats: culture.clone() };
            let work = move || loaded.what.editions.get(&choice.culture).map(|one| book.mail(one, &choice, sample));
            let done = templates
                .threads
                .run_blocking(None, work)
                .map(|done| done.unwrap_or(Err(Fault::said("", "is not there"))));
            tell(templates, name, first, done.map(|done| done.map(drop)), problems);
        }
    }
    for (name, page) in &templates.pages {
        let Some(sample) = &page.sample else { continue };
        for (culture, part) in &page.what.editions {
            if templates.book.broken(std::iter::once(part)).is_some() {
                continue;
            }
            let (book, loaded, sample) = (Arc::clone(&templates.book), Arc::clone(page), sample.clone());
            let choice = Choice { culture: culture.clone(), formats: culture.clone() };
            let work = move || loaded.what.editions.get(&choice.culture).map(|part| book.page(part, &choice, sample));
            let done = templates
                .threads
                .run_blocking(None, work)
                .map(|done| done.unwrap_or(Err(Fault::said("", "is not there"))));
            tell(templates, name, part, done.map(|done| done.map(drop)), problems);
        }
    }
}

/// Tells what went wrong with a sample.
fn tell(
    templates: &Templates,
    name: &str,
    part: &Part,
    done: Result<Result<(), Fault>, Lost>,
    problems: &mut Vec<TemplateProblem>,
) {
    let slow = || format!("{name}: rendering its sample took longer than templates.render_timeout");
    let (file, line, detail) = match done {
        Ok(Ok(())) => return,
        Ok(Err(Fault { file, line, why: Why::Said(why) })) => {
            (templates.book.shown(&file), line, format!("with the sample of {name}: {why}"))
        }
        Ok(Err(Fault { file, why: Why::Late, .. })) => (templates.book.shown(&file), None, slow()),
        Err(Lost::GivenUp) => (part.file.shown.clone(), None, slow()),
        Err(Lost::Panicked) => (part.file.shown.clone(), None, format!("{name}: rendering its sample failed inside")),
        Err(Lost::Busy | Lost::Stuck) => {
            (part.file.shown.clone(), None, format!("{name}: its sample could not be rendered: too many others hang"))
        }
    };
    problems.push(TemplateProblem { file, line, detail });
}

fn fingerprint(settings: &TemplateSettings, files: [&files::Files; 2]) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Unwrap safety: settings hold texts and numbers; serialising these cannot fail.
    hash.update(serde_json::to_vec(settings).unwrap_or_default());
    for (path, file) in files.into_iter().flatten() {
        for text in [path.as_str(), file.source.as_str(), file.text.as_deref().unwrap_or_default()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.finalize().into()
}
