//! Which mails: the filter that the queue's commands share.

use std::str::FromStr;

use jiff::Timestamp;

use crate::domain::address::{Mailbox, domain_to_ascii};
use crate::domain::ids::{KeyId, TenantId};
use crate::domain::lane::Lane;
use crate::domain::message::{Reason, Status};
use crate::domain::quantity::HumanDuration;
use crate::store::{MessageFilter, in_angle_brackets};

/// A filter; what is not given means any.
#[derive(clap::Args)]
#[command(next_help_heading = "Which mails")]
pub(super) struct Filter {
    /// Whose
    #[arg(long, value_name = "T")]
    pub(super) tenant: Option<TenantId>,
    /// In this state: queued, deferred, held, unknown, relayed, delivered, bounced, expired, suppressed, cancelled
    #[arg(long, value_name = "S")]
    status: Option<Status>,
    /// For this reason, as the list shows it
    #[arg(long, value_name = "R")]
    reason: Option<Reason>,
    /// In this lane: urgent, standard, journey
    #[arg(long, value_name = "L")]
    lane: Option<Lane>,
    /// To this domain
    #[arg(long, value_name = "D", value_parser = domain)]
    domain: Option<String>,
    /// To this address
    #[arg(long, value_name = "A")]
    recipient: Option<Mailbox>,
    /// Of this template
    #[arg(long, value_name = "N")]
    template: Option<String>,
    /// With this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// With this pair of metadata
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Option<(String, String)>,
    /// With this queue id at the relay
    #[arg(long, value_name = "ID")]
    relay_queue_id: Option<String>,
    /// With this Message-ID
    #[arg(long, value_name = "ID", value_parser = message_id)]
    message_id: Option<String>,
    /// Sent by this journey
    #[arg(long, value_name = "N")]
    journey: Option<String>,
    /// Handed in with this key
    #[arg(long, value_name = "KEY")]
    key: Option<KeyId>,
    /// Accepted since then: a time, or a length of time ago
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Accepted before then
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
}

impl Filter {
    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.tenant.is_none() && self.asks_only_for_a_tenant()
    }

    /// Whether nothing but a tenant is asked for.
    pub(super) fn asks_only_for_a_tenant(&self) -> bool {
        let Self {
            tenant: _,
            status,
            reason,
            lane,
            domain,
            recipient,
            template,
            tag,
            metadata,
            relay_queue_id,
            message_id,
            journey,
            key,
            since,
            until,
        } = self;
        status.is_none()
            && reason.is_none()
            && lane.is_none()
            && domain.is_none()
            && recipient.is_none()
            && template.is_none()
            && tag.is_none()
            && metadata.is_none()
            && relay_queue_id.is_none()
            && message_id.is_none()
            && journey.is_none()
            && key.is_none()
            && since.is_none()
            && until.is_none()
    }

    /// As the store takes it, the tenant aside.
    pub(super) fn of_store(&self, now: Timestamp, limit: usize) -> MessageFilter {
        MessageFilter {
            recipient: self.recipient.as_ref().map(|mailbox| mailbox.address.normalized()),
            domain: self.domain.clone(),
            status: self.status,
            reason: self.reason,
            template: self.template.clone(),
            lane: self.lane,
            tag: self.tag.clone(),
            metadata: self.metadata.clone(),
            relay_queue_id: self.relay_queue_id.clone(),
            message_id: self.message_id.clone(),
            journey: self.journey.clone(),
            key: self.key,
            since: self.since.map(|when| when.before(now)),
            until: self.until.map(|when| when.before(now)),
            limit,
            ..MessageFilter::default()
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as clap asks for")]
fn message_id(text: &str) -> Result<String, &'static str> {
    Ok(in_angle_brackets(text))
}

fn domain(text: &str) -> Result<String, String> {
    domain_to_ascii(text).map_err(|error| error.to_string())
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or("write KEY=VALUE, as in order=17")
}

/// A moment, or a length of time ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum When {
    At(Timestamp),
    Ago(HumanDuration),
}

impl When {
    pub(in crate::cli) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago.0).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment = text.parse().map(Self::At).ok();
        let moment = moment.or_else(|| text.parse().map(Self::Ago).ok());
        moment.ok_or("write a time like 2026-01-31T09:00:00Z, or how long ago: 90s, 15m, 2h, 7d")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_length_of_time_ago() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let before = |text: &str| text.parse::<When>().map(|when| when.before(now).to_string());
        assert_eq!(before("2h"), Ok("2026-01-31T10:00:00Z".to_owned()));
        assert_eq!(before("2026-01-31T10:00:00+01:00"), Ok("2026-01-31T09:00:00Z".to_owned()));
        for wrong in ["", "yesterday", "2026-01-31", "-2h", "2"] {
            assert!(before(wrong).is_err(), "{wrong}");
        }
    }
}
