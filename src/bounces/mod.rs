//! Bounces: reports that come back on mails the relay had taken, from wherever they come in.
//!
//! ```text
//! the relay, or who came after it ─▶ report to bounce+<mail><tag>@return_path_domain
//!     a pipe or a script ─▶ POST /v1/bounces ┐
//!     delivered into a folder ─▶ `folder`    ├─▶ read ─▶ whose tag is it? ─▶ store: the mail, leaves, suppression
//!     delivered by LMTP ─▶ `lmtp`            ┘                │
//!                                                             └─ nobody's, or no report: nothing changes
//! ```
//!
//! What comes in may be anything: mail to these addresses is open to the world. It is believed for one mail alone, and
//! only when it names that mail's return path with its tag ([`crate::domain::return_path`]). What a report changes is
//! decided in [`crate::domain::bounce`], and done in one transaction. A report may be faster than our own word of its mail
//! (the relay answers and bounces at once): then it is to come again, and every way in knows how.
//!
//! Promised: a report that was taken is on disk; one that could not be taken is still where it came from.

mod folder;
mod lmtp;
pub mod settings;

use std::sync::Arc;

use tokio::sync::watch;

pub use self::folder::Folder;
pub use self::lmtp::Lmtp;
use crate::clock::Clock;
use crate::domain::audit::Actor;
use crate::domain::bounce::{Finding, Read};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::rules::Rules;
use crate::store::{Heard, Reported, Store, StoreError};

/// Whose mails a report may be about.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'w> {
    /// One tenant's: it was handed in with their key.
    Tenant(&'w TenantId),
    /// Anybody's: it came in by mail.
    Anybodys,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// What was found.
    pub heard: Heard,
    /// The mail it is about, if that is known.
    pub message: Option<MessageId>,
}

/// Where reports are taken.
#[derive(Clone)]
pub struct Bounces {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rules: watch::Receiver<Arc<Rules>>,
}

impl Bounces {
    /// One for the tenants that these rules name.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, rules: watch::Receiver<Arc<Rules>>) -> Self {
        Self { store, clock, rules }
    }

    /// Takes one mail that may be a report (RFC 5322, whole). On disk when this returns; [`Heard::InFlight`]: it is to come
    /// again.
    pub async fn take(&self, whose: Whose<'_>, actor: Actor, mail: &[u8]) -> Result<Taken, StoreError> {
        let Read { paths, said } = Read::of(mail);
        let rules = Arc::clone(&self.rules.borrow());
        let tenants = rules.tenants.values().filter(|tenant| match whose {
            Whose::Tenant(id) => tenant.id == *id,
            Whose::Anybodys => true,
        });
        let ours = tenants
            .flat_map(|tenant| paths.iter().map(move |path| (tenant, path)))
            .find(|(tenant, path)| self.store.return_path_tag(&tenant.id, path.message).is(&path.tag));
        let Some((tenant, path)) = ours else {
            return Ok(Taken { heard: Heard::Found(Finding::NoReturnPath), message: None });
        };
        let message = path.message;
        let Some(said) = said else {
            return Ok(Taken { heard: Heard::Found(Finding::NoReport), message: Some(message) });
        };
        let soft_bounces_max = tenant.soft_bounces_max;
        let reported = Reported { message, said, actor, soft_bounces_max, at: self.clock.now() };
        let heard = self.store.report(&tenant.id, reported).await?;
        if let Heard::Found(finding) = heard {
            tracing::info!(delivery.id = %message, found = finding.as_str(), "a report came back");
        }
        Ok(Taken { heard, message: Some(message) })
    }
}
