//! `postern inbox`: the capture SMTP server alone, for trials.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::json;

use super::parent::Parent;
use super::{Context, Done};
use crate::app::parts::{self, InboxAt};
use crate::lifecycle::{Ending, HARD_GRACE, Lifecycle};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  postern inbox
  postern inbox --smtp 127.0.0.1:2600 --http 127.0.0.1:8600
  postern inbox --smtp 127.0.0.1:0 --http 127.0.0.1:0 --format json

Takes every mail, keeps it in memory and shows it on its page. It misbehaves when the recipient's local part says so:
temperror@ permerror@ 421@ 450@ 550@ slow@ silent@ dropdata@ dropreply@, or by phase: rcpt-450@ data-550@ mail-421@")]
pub(super) struct Arguments {
    /// Where SMTP listens; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525")]
    smtp: SocketAddr,
    /// Where its pages are; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8025")]
    http: SocketAddr,
    #[command(flatten)]
    parent: Parent,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let wishes = arguments.parent.wishes()?;
    let life = Lifecycle::new(HARD_GRACE);
    let wanted = InboxAt { smtp: arguments.smtp, http: arguments.http };
    let at = parts::start_inbox(wanted, &context.clock, life.tasks(), life.tasks().soft())
        .await
        .context("starting the inbox")?;
    let answer = json!({ "smtp": at.smtp.to_string(), "http": format!("http://{}", at.http) });
    context.output.answer(&answer, |_| format!("SMTP  {}\nPage  http://{}\nCtrl-C ends it.", at.smtp, at.http))?;
    match life.run(&*context.clock, wishes).await {
        Ending::Asked => Ok(()),
        Ending::Failed => Err(anyhow::anyhow!("stopped because of a failure; see the log").into()),
    }
}
