//! `postern templates`: see which mails there are, render one, and look at all of them in a browser.

mod preview;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{self, printable, table};
use super::{Context, Done, Failure};
use crate::app::templates;
use crate::config::{Config, Problems};
use crate::templates::{Rendered, Templates};

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern templates list
  postern templates render welcome --culture fr-CA
  postern templates preview --out /tmp/mails

What is wrong with a template is told by \"postern check\"."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The mails there are: cultures, engine, and who wrote each
    #[command(after_help = "\
Examples:
  postern templates list
  postern templates list --format json")]
    List,
    /// Render one mail with its sample, or with data of yours
    #[command(after_help = "\
Examples:
  postern templates render welcome
  postern templates render welcome --culture fr-CA --data customer.json
  echo '{\"name\": \"Ann\"}' | postern templates render tips --data - --format json")]
    Render {
        /// The mail: a folder in mail/
        name: String,
        /// The culture wanted; several, best first. Default: any
        #[arg(long = "culture", value_name = "C")]
        cultures: Vec<String>,
        /// A file of JSON, or - for standard input. Default: the mail's sample.json
        #[arg(long, value_name = "FILE")]
        data: Option<PathBuf>,
    },
    /// Write every mail in every culture as HTML files to look at, with an index
    #[command(after_help = "\
Examples:
  postern templates preview --out /tmp/mails
  postern templates preview welcome tips --out /tmp/mails

Written again it replaces its own files; a folder that holds others is refused.")]
    Preview(preview::Preview),
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = config(&context)?;
    let (templates, problems) = templates::load(&config);
    match arguments.verb {
        Verb::List => list(&context, &templates)?,
        Verb::Render { name, cultures, data } => {
            let data_bytes_max = config.templates.data_bytes_max.0;
            let data = data.map(|path| read_data(&path, data_bytes_max)).transpose()?;
            let rendered = render(&templates, &name, &cultures, data).await?;
            context.output.answer(&rendered, for_people)?;
        }
        Verb::Preview(preview) => preview.run(&context, &templates).await?,
    }
    tell_of(&problems);
    Ok(())
}

/// What `[templates]` says. Who designs a mail need not have a relay, nor a configuration at all.
fn config(context: &Context) -> Result<Config, Failure> {
    let (config, found) = Config::read(&context.folder, &context.environment);
    let file = context.folder.join("postern.toml");
    let is_there = file.exists();
    let file = file.display().to_string();
    let mut problems = Problems::default();
    for problem in found.iter() {
        let whole_file = problem.file == file && problem.key.is_empty() && is_there;
        let is_ours = problem.key.starts_with("templates") || problem.key.starts_with("POSTERN__TEMPLATES");
        if whole_file || is_ours {
            problems.add(&problem.file, problem.key.as_str(), problem.detail.as_str());
        }
    }
    if problems.is_empty() { Ok(config) } else { Err(Failure::Configuration(problems)) }
}

/// Problems of other templates are no failure of this command.
fn tell_of(problems: &Problems) {
    let count = problems.iter().count();
    if count > 0 {
        output::complain(&format!("{count} problems in the templates: see postern check"));
    }
}

fn list(context: &Context, templates: &Templates) -> Done {
    let mut rows = Vec::new();
    let mut answer = Vec::new();
    for name in templates.names() {
        for edition in templates.listed(name) {
            let text = if edition.has_text { "own" } else { "from HTML" };
            rows.push([name, &edition.culture, edition.engine, text, edition.source].map(str::to_owned));
            answer.push(json!({
                "name": name,
                "culture": edition.culture,
                "engine": edition.engine,
                "text": edition.has_text,
                "source": edition.source,
            }));
        }
    }
    context.output.answer(&answer, |_| table(["NAME", "CULTURE", "ENGINE", "TEXT", "FROM"], &rows))?;
    Ok(())
}

fn read_data(path: &Path, bytes_max: u64) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(bytes_max + 1).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text))
    };
    let shown = path.display();
    read.with_context(|| format!("reading {shown}"))?;
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("{shown}: is not JSON: {error}")))
}

/// Renders a mail with `data`, or with its sample.
async fn render(
    templates: &Arc<Templates>,
    name: &str,
    cultures: &[String],
    data: Option<Value>,
) -> Result<Rendered, Failure> {
    if !templates.has(name) {
        let known = templates.names().join(" ");
        return Err(Failure::Usage(format!("there is no mail template {}; there are: {known}", printable(name))));
    }
    let data = data.or_else(|| templates.sample(name).cloned());
    let data = data.ok_or_else(|| anyhow!("{name} has no sample.json that can be used: give --data"))?;
    let cultures: Vec<&str> = cultures.iter().map(String::as_str).collect();
    Ok(templates.render(None, name, &cultures, data).await?)
}

fn for_people(rendered: &Rendered) -> String {
    let lines = |text: &str| text.lines().map(printable).collect::<Vec<_>>().join("\n");
    let text = rendered.text.as_deref().map_or_else(|| "(made from the HTML when it is sent)".to_owned(), lines);
    let html = rendered.html.as_deref().map_or_else(|| "(none)".to_owned(), lines);
    let Rendered { subject, culture, .. } = rendered;
    format!("Culture: {culture}\nSubject: {}\n\n--- text\n{text}\n\n--- html\n{html}", printable(subject))
}
