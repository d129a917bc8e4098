//! `suppressions export`: all suppressions of a tenant, one to a line, as `import` takes them.

use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::json;

use super::super::Done;
use super::super::output::{complain, new_file_or_stdout};
use crate::domain::csv;
use crate::domain::ids::TenantId;
use crate::domain::suppression::Suppression;
use crate::domain::time;
use crate::store::{Store, SuppressionFilter};

/// Suppressions read at once.
const BATCH: usize = 500;

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Csv,
    Ndjson,
}

#[derive(clap::Args)]
pub(super) struct Export {
    /// Whose
    #[arg(long, value_name = "T")]
    pub(super) tenant: TenantId,
    /// csv, or ndjson (a JSON object to a line)
    #[arg(long, value_name = "FORM", default_value = "csv")]
    form: Form,
    /// A new file; without it all goes to the standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self, store: &dyn Store, at: Timestamp) -> Done {
        let mut target = new_file_or_stdout(self.output.as_deref())?;
        let (mut written, mut nameless) = (0_u64, 0_u64);
        let mut text = String::new();
        if self.form == Form::Csv {
            csv::line(["recipient", "scope", "because", "expiresAt"], &mut text);
        }
        let mut before = None;
        loop {
            let filter = SuppressionFilter { at: Some(at), before, limit: BATCH, ..SuppressionFilter::default() };
            let page = store.suppressions(&self.tenant, filter).await.context("reading the suppressions")?;
            for listed in &page {
                match &listed.suppression.recipient {
                    Some(recipient) => {
                        self.write(recipient, &listed.suppression, &mut text);
                        written += 1;
                    }
                    None => nameless += 1,
                }
            }
            target.write_all(text.as_bytes()).context("writing the suppressions")?;
            text.clear();
            match page.last() {
                Some(last) if page.len() == BATCH => before = Some(last.number),
                _ => break,
            }
        }
        target.flush().context("writing the suppressions")?;
        complain(&format!("{written} suppressions; {nameless} of people who were erased are not among them"));
        Ok(())
    }

    fn write(&self, recipient: &str, one: &Suppression, text: &mut String) {
        let (scope, because) = (one.scope.to_string(), one.because.as_deref());
        let expires_at = one.expires_at.map(time::text);
        match self.form {
            Form::Csv => {
                let cells = [recipient, &scope, because.unwrap_or_default(), expires_at.as_deref().unwrap_or_default()];
                csv::line(cells, text);
            }
            Form::Ndjson => {
                let line = json!({
                    "recipient": recipient, "scope": scope, "because": because, "expiresAt": expires_at,
                });
                text.push_str(&line.to_string());
                text.push('\n');
            }
        }
    }
}
