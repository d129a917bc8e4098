//! `postern templates preview`: files to look at in a browser, which nothing in a mail can make do anything.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use handlebars::Handlebars;
use serde::Serialize;

use super::super::output::printable;
use super::super::{Context, Done, Failure};
use super::render;
use crate::templates::Templates;

/// The page that shows all of them.
const INDEX: &str = include_str!("../../../templates/console/preview.hbs");
/// Lists the files that are ours in the folder.
const MANIFEST: &str = ".postern-preview";
/// In each mail's own file: what would run or reach out does not.
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data: http: https:; \
                      style-src 'unsafe-inline'; font-src http: https:; form-action 'none'; base-uri 'none'\">";

#[derive(clap::Args)]
pub(super) struct Preview {
    /// The mails; without a name all of them
    names: Vec<String>,
    /// The folder to write to; made when it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A mail in a culture, as the index shows it.
#[derive(Serialize)]
struct Shown {
    name: String,
    culture: String,
    engine: &'static str,
    source: &'static str,
    file: Option<String>,
    subject: String,
    html: Option<String>,
    text: Option<String>,
    problem: Option<String>,
}

impl Preview {
    pub(super) async fn run(self, context: &Context, templates: &Arc<Templates>) -> Done {
        let names: Vec<String> =
            if self.names.is_empty() { templates.names().into_iter().map(str::to_owned).collect() } else { self.names };
        let mut shown = Vec::new();
        for name in names {
            if !templates.has(&name) {
                return Err(Failure::Usage(format!("there is no mail template {}", printable(&name))));
            }
            for edition in templates.listed(&name) {
                let rendered = render(templates, &name, std::slice::from_ref(&edition.culture), None).await;
                let mut one = Shown {
                    file: None,
                    subject: String::new(),
                    html: None,
                    text: None,
                    problem: None,
                    name: name.clone(),
                    culture: edition.culture,
                    engine: edition.engine,
                    source: edition.source,
                };
                match rendered {
                    Ok(rendered) => {
                        one.file = rendered.html.as_ref().map(|_| format!("{name}.{}.html", one.culture));
                        (one.subject, one.html, one.text) = (rendered.subject, rendered.html, rendered.text);
                    }
                    Err(Failure::Failed(error)) => one.problem = Some(error.to_string()),
                    Err(other) => return Err(other),
                }
                shown.push(one);
            }
        }
        let written = write(&self.out, &shown)?;
        let failed = shown.iter().filter(|one| one.problem.is_some()).count();
        context
            .output
            .answer(&written, |written| format!("{} mails: look at {}", shown.len(), printable(&written.index)))?;
        if failed > 0 {
            Err(anyhow::anyhow!("{failed} of them could not be rendered; the index says why").into())
        } else {
            Ok(())
        }
    }
}

/// What was written.
#[derive(Serialize)]
struct Written {
    index: String,
    files: Vec<String>,
}

fn write(folder: &Path, shown: &[Shown]) -> Result<Written, Failure> {
    let mut files: Vec<(String, String)> = Vec::new();
    for one in shown {
        if let (Some(file), Some(html)) = (&one.file, &one.html) {
            files.push((file.clone(), guarded(html)));
        }
    }
    let index = Handlebars::new().render_template(INDEX, &serde_json::json!({ "mails": shown }));
    files.push(("index.html".to_owned(), index.context("writing the index")?));
    let old = ours(folder)?;
    for (name, _) in &files {
        let path = folder.join(name);
        if !old.contains(name) && fs::symlink_metadata(&path).is_ok() {
            let shown = path.display();
            return Err(Failure::Usage(format!("{shown} is not from an earlier preview: give another folder")));
        }
    }
    let names: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    // First of all, so that what follows is known as ours even if it ends halfway.
    let manifest: Vec<&str> = old.union(&names).map(String::as_str).collect();
    put(folder, MANIFEST, &manifest.join("\n"))?;
    for stale in old.difference(&names) {
        _ = fs::remove_file(folder.join(stale));
    }
    for (name, content) in &files {
        put(folder, name, content)?;
    }
    put(folder, MANIFEST, &names.iter().map(String::as_str).collect::<Vec<_>>().join("\n"))?;
    Ok(Written { index: folder.join("index.html").display().to_string(), files: names.into_iter().collect() })
}

/// A new file: not what a link of this name leads to.
fn put(folder: &Path, name: &str, content: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    let write = || {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::write(&path, content)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// The files an earlier preview wrote here. A folder that holds only others is not ours.
fn ours(folder: &Path) -> Result<BTreeSet<String>, Failure> {
    let shown = folder.display();
    match fs::read_to_string(folder.join(MANIFEST)) {
        // Plain names only: nothing outside the folder is ever removed.
        Ok(text) => {
            let plain = |name: &&str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
            return Ok(text.lines().filter(plain).map(str::to_owned).collect());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(anyhow::Error::new(error).context(format!("reading {shown}")).into()),
    }
    let is_empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(anyhow::Error::new(error).context(format!("reading {shown}")).into()),
    };
    if is_empty {
        return Ok(BTreeSet::new());
    }
    Err(Failure::Usage(format!("{shown} holds files that are not from an earlier preview: give another folder")))
}

/// The mail with its policy in its head, where it has one: before the doctype it would change how the page is laid out.
fn guarded(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let head = lower.find("<head").and_then(|at| lower[at..].find('>').map(|end| at + end + 1));
    match head {
        Some(at) => format!("{}{POLICY}{}", &html[..at], &html[at..]),
        None => format!("<!doctype html><html><head>{POLICY}<meta charset=\"utf-8\"></head><body>{html}</body></html>"),
    }
}
