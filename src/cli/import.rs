//! Files of any size, some hundred rows in a transaction: what the commands that import have in common.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::output::{complain, printable};
use super::{Context, Done, Failure};
use crate::contacts::rows::{Form, Row, Rows, Sheet, Unreadable};
use crate::domain::ids::TenantId;
use crate::domain::submission::FieldError;

/// Rows kept in one transaction.
const BATCH: usize = 500;
/// Refusals in the answer at most; all of them are told as they come.
const REFUSALS_SHOWN_MAX: usize = 1_000;
/// How far a file has been read, for somebody who watches.
const STYLE: &str = "{bar:40} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";

/// A file, and whose it is.
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
struct Report<C> {
    dry_run: bool,
    rows: u64,
    #[serde(flatten)]
    counts: C,
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
    /// Reads the file, keeps its rows with `keep`, which counts what became of them, and answers; `in_words` says the
    /// counts.
    pub(super) async fn run<T, C: Default + Serialize>(
        &self,
        context: &Context,
        sheet: Sheet<T>,
        mut keep: impl AsyncFnMut(Vec<T>, &mut C) -> anyhow::Result<()>,
        in_words: impl FnOnce(&C) -> String,
    ) -> Done {
        let unreadable = |what: &dyn std::fmt::Display| Failure::Usage(format!("{}: {what}", self.file.display()));
        let form = self.form().ok_or_else(|| unreadable(&"its name must end with .csv, .ndjson or .jsonl"))?;
        let file = File::open(&self.file).map_err(|error| unreadable(&error))?;
        let bytes = file.metadata().map_err(|error| unreadable(&error))?.len();
        let mut rows = Rows::open(file, form, sheet, context.clock.now()).map_err(|error| unreadable(&error))?;
        let bar = bar(bytes);
        let mut report = Report { dry_run: self.dry_run, ..Report::default() };
        let mut waiting = Vec::with_capacity(BATCH);
        let ended = loop {
            let Row { line, bytes, said } = match rows.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            report.rows += 1;
            bar.set_position(bytes);
            match said {
                Ok(_) if self.dry_run => {}
                Ok(said) => waiting.push(said),
                Err(wrong) => report.refuse(line, wrong, &bar),
            }
            if waiting.len() == BATCH {
                // What was kept before stays so, however it ends.
                keep(std::mem::replace(&mut waiting, Vec::with_capacity(BATCH)), &mut report.counts).await?;
            }
        };
        if !waiting.is_empty() {
            keep(waiting, &mut report.counts).await?;
        }
        bar.finish_and_clear();
        self.answer(context, &report, in_words, ended)
    }

    fn form(&self) -> Option<Form> {
        match self.file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Form::Csv(self.delimiter)),
            "ndjson" | "jsonl" => Some(Form::Ndjson),
            _ => None,
        }
    }

    fn answer<C: Serialize>(
        &self,
        context: &Context,
        report: &Report<C>,
        in_words: impl FnOnce(&C) -> String,
        ended: Result<(), Unreadable>,
    ) -> Done {
        context.output.answer(report, |report| {
            let Report { rows, refused, counts, .. } = report;
            if self.dry_run {
                return format!("{rows} rows, {refused} of them would be refused. Nothing was kept.");
            }
            format!("{rows} rows: {}, {refused} refused.", in_words(counts))
        })?;
        ended.with_context(|| format!("{}: the rest was not read", self.file.display()))?;
        if report.refused == 0 { Ok(()) } else { Err(Failure::Said(1)) }
    }
}

impl<C> Report<C> {
    fn refuse(&mut self, line: u64, wrong: Vec<FieldError>, bar: &ProgressBar) {
        self.refused += 1;
        for error in wrong {
            let (field, why) = (printable(error.pointer.trim_start_matches('/')), error.detail);
            let place = if field.is_empty() { String::new() } else { format!("{field}: ") };
            bar.suspend(|| complain(&format!("line {line}: {place}{why}")));
            if self.refusals.len() < REFUSALS_SHOWN_MAX {
                self.refusals.push(Refusal { line, field, why });
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
