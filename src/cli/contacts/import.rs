//! `contacts import`: a file of any size, some hundred rows in a transaction, and what became of them.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::super::output::{complain, printable};
use super::super::{Context, Done, Failure};
use crate::contacts::rows::{Form, Row, Rows, Unreadable};
use crate::domain::audit::Actor;
use crate::domain::contact::{NewContact, Set};
use crate::domain::ids::TenantId;
use crate::store::Store;

/// Contacts kept in one transaction.
const BATCH: usize = 500;
/// Refusals in the answer at most; all of them are told as they come.
const REFUSALS_SHOWN_MAX: usize = 1_000;
/// How far a file has been read, for somebody who watches.
const STYLE: &str = "{bar:40} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";

#[derive(clap::Args)]
pub(super) struct Import {
    /// The file: .csv, .ndjson or .jsonl
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose customers
    #[arg(long, value_name = "T")]
    pub(super) tenant: TenantId,
    /// What separates the fields of a CSV file
    #[arg(long, value_name = "C", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// Only say what is wrong with the file
    #[arg(long)]
    dry_run: bool,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [one] if one.is_ascii_punctuation() && *one != b'"' => Ok(*one),
        b"\t" | b"\\t" => Ok(b'\t'),
        _ => Err("one character, such as ; or \\t".to_owned()),
    }
}

/// What became of a file.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    dry_run: bool,
    rows: u64,
    created: u64,
    changed: u64,
    unchanged: u64,
    refused: u64,
    refusals: Vec<Refusal>,
}

/// One thing wrong with one row.
#[derive(Debug, Serialize)]
struct Refusal {
    line: u64,
    field: String,
    why: String,
}

impl Import {
    pub(super) async fn run(self, context: &Context, store: &dyn Store) -> Done {
        let unreadable = |what: &dyn std::fmt::Display| Failure::Usage(format!("{}: {what}", self.file.display()));
        let form = self.form().ok_or_else(|| unreadable(&"its name must end with .csv, .ndjson or .jsonl"))?;
        let file = File::open(&self.file).map_err(|error| unreadable(&error))?;
        let bytes = file.metadata().map_err(|error| unreadable(&error))?.len();
        let mut rows = Rows::open(file, form, context.clock.now()).map_err(|error| unreadable(&error))?;
        let bar = bar(bytes);
        let mut report = Report { dry_run: self.dry_run, ..Report::default() };
        let mut waiting = Vec::with_capacity(BATCH);
        let ended = loop {
            let Row { line, bytes, contact } = match rows.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            report.rows += 1;
            bar.set_position(bytes);
            match contact {
                Ok(contact) => waiting.push(contact),
                Err(wrong) => {
                    let refusals = wrong.into_iter().map(|error| {
                        let field = printable(error.pointer.trim_start_matches('/'));
                        Refusal { line, field, why: error.detail }
                    });
                    report.refuse(refusals.collect(), &bar);
                }
            }
            if waiting.len() == BATCH {
                self.keep(store, &mut report, &mut waiting).await?;
            }
        };
        self.keep(store, &mut report, &mut waiting).await?;
        bar.finish_and_clear();
        self.answer(context, &report, ended)
    }

    fn form(&self) -> Option<Form> {
        match self.file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Form::Csv(self.delimiter)),
            "ndjson" | "jsonl" => Some(Form::Ndjson),
            _ => None,
        }
    }

    /// One transaction. What was kept before it stays so, however it ends.
    async fn keep(&self, store: &dyn Store, report: &mut Report, waiting: &mut Vec<NewContact>) -> Done {
        if waiting.is_empty() || self.dry_run {
            waiting.clear();
            return Ok(());
        }
        let batch = std::mem::replace(waiting, Vec::with_capacity(BATCH));
        let kept = store.set_contacts(&self.tenant, Actor::Command("contacts"), batch).await;
        let so_far = report.created + report.changed + report.unchanged;
        for set in
            kept.with_context(|| format!("keeping contacts stopped; {so_far} are kept, say it again to go on"))?
        {
            match set {
                Set::Created => report.created += 1,
                Set::Changed => report.changed += 1,
                // A file is the brand's own word: nothing stands above it.
                Set::Unchanged | Set::Kept => report.unchanged += 1,
            }
        }
        Ok(())
    }

    fn answer(&self, context: &Context, report: &Report, ended: Result<(), Unreadable>) -> Done {
        context.output.answer(report, |report| {
            let Report { rows, created, changed, unchanged, refused, .. } = report;
            if self.dry_run {
                return format!("{rows} rows, {refused} of them would be refused. Nothing was kept.");
            }
            format!("{rows} rows: {created} new, {changed} changed, {unchanged} as known, {refused} refused.")
        })?;
        ended.with_context(|| format!("{}: the rest was not read", self.file.display()))?;
        if report.refused == 0 { Ok(()) } else { Err(Failure::Said(1)) }
    }
}

impl Report {
    fn refuse(&mut self, refusals: Vec<Refusal>, bar: &ProgressBar) {
        self.refused += 1;
        for refusal in refusals {
            let Refusal { line, field, why } = &refusal;
            let place = if field.is_empty() { String::new() } else { format!("{field}: ") };
            bar.suspend(|| complain(&format!("line {line}: {place}{why}")));
            if self.refusals.len() < REFUSALS_SHOWN_MAX {
                self.refusals.push(refusal);
            }
        }
    }
}

/// A bar on the terminal, or nothing.
fn bar(bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style)
}
