//! `queue export`: all mails that a filter finds, one to a line.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

use super::super::Done;
use super::super::output::{complain, new_file_or_stdout};
use super::Queue;
use super::filter::Filter;
use crate::domain::ids::TenantId;
use crate::domain::message::sheet::Form;
use crate::store::{MessageFilter, MessagePage};

/// Mails read at once.
const BATCH: usize = 500;
const STYLE: &str = "{bar:30} {pos}/{len} mails, {eta} left";

#[derive(clap::Args)]
pub(super) struct Export {
    /// csv (for spreadsheets: no text runs as a formula), or ndjson (a JSON object to a line)
    #[arg(long, value_name = "FORM", default_value = "ndjson")]
    form: Form,
    /// A new file; without it all goes to the standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
}

impl Export {
    pub(super) async fn run(self, queue: &Queue<'_>) -> Done {
        let filter = self.filter.of_store(queue.context.clock.now(), BATCH);
        let tenants = queue.tenants(self.filter.tenant.as_ref()).await?;
        let mut target = new_file_or_stdout(self.output.as_deref())?;
        let written = self.write(queue, &tenants, &filter, &mut target).await;
        match written {
            Ok(count) => {
                if self.output.is_some() {
                    complain(&format!("{count} mails"));
                }
                Ok(())
            }
            // Whoever reads has had enough.
            Err(error) if is_broken_pipe(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(
        &self,
        queue: &Queue<'_>,
        tenants: &[TenantId],
        filter: &MessageFilter,
        target: &mut (dyn Write + Send),
    ) -> anyhow::Result<u64> {
        let bar = self.bar(queue, tenants, filter).await?;
        let mut text = self.form.head();
        let mut count = 0;
        for tenant in tenants {
            let mut page = filter.clone();
            loop {
                let read = queue.store.messages(tenant, page.clone()).await;
                let MessagePage { messages, next } = read.context("reading the mails")?;
                for message in &messages {
                    self.form.write(message, &mut text);
                }
                target.write_all(text.as_bytes()).context("writing the mails")?;
                text.clear();
                count += u64::try_from(messages.len()).unwrap_or_default();
                bar.set_position(count);
                match next {
                    Some(_) => page.before = next,
                    None => break,
                }
            }
        }
        target.write_all(text.as_bytes()).and_then(|()| target.flush()).context("writing the mails")?;
        bar.finish_and_clear();
        Ok(count)
    }

    /// A bar on the terminal, or nothing.
    async fn bar(
        &self,
        queue: &Queue<'_>,
        tenants: &[TenantId],
        filter: &MessageFilter,
    ) -> anyhow::Result<ProgressBar> {
        let is_watched = io::stderr().is_terminal() && (self.output.is_some() || !io::stdout().is_terminal());
        if !is_watched {
            return Ok(ProgressBar::hidden());
        }
        let mut total = 0;
        for tenant in tenants {
            let counts = queue.store.count(tenant, filter.clone()).await.map_err(|error| anyhow!(error))?;
            total += counts.values().sum::<u64>();
        }
        let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
        Ok(ProgressBar::new(total).with_style(style))
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
