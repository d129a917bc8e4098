//! A tenant: one brand, its senders, lanes and relays.

use super::address::{EmailAddress, Mailbox};
use super::contact::ZoneName;
use super::contact_lookup::ContactLookup;
use super::ids::{RelayName, TenantId};
use super::lane::Lane;
use super::pass_api::PassApi;
use super::push::Outbound;
use super::quantity::Limit;
use super::return_path::ReturnPathDomain;
use super::secret::Secret;

/// A tenant's rules, as its file in `config/tenants` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name in URLs, rows and keys.
    pub id: TenantId,
    /// What people call it.
    pub name: String,
    /// Where reports on its mails come back, each to an address of its mail's own; `None`: to the sender.
    pub return_path_domain: Option<ReturnPathDomain>,
    /// So many mails in a row that come back end in a suppression of their recipient; 0: none does for that alone.
    pub soft_bounces_max: u32,
    /// The default sender.
    pub from: Mailbox,
    /// Domains (A-labels) a submission may use in From.
    pub from_allowed: Vec<String>,
    /// Relays in order of preference.
    pub relays: Vec<RelayName>,
    /// The culture used when none fits.
    pub default_culture: String,
    /// Where the clock of a customer is of whom nothing else is known.
    pub timezone: ZoneName,
    /// How many mails of all journeys together a recipient may have within the rate's time; its burst does not count.
    pub journey_mails: Limit,
    /// When not empty, only these domains and addresses are mailed.
    pub recipients_allowed: Vec<RecipientRule>,
    /// Template name patterns (`*` stands for any run of characters) and their lanes; the first match counts.
    pub lanes: Vec<(String, Lane)>,
    /// Keys of the platform's `data` that are kept as metadata.
    pub data_kept: Vec<String>,
    /// Names of the pass identifiers that customers are known by, the best first. They may hold dots.
    pub identifiers: Vec<String>,
    /// Who is told of what happens, by our own calls.
    pub outbound: Vec<Outbound>,
    /// With which the platform signs its webhooks, several while they change; without one it may send none.
    pub webhook_secrets: Vec<Secret>,
    /// How many submissions all its keys together may make.
    pub per_tenant: Limit,
    /// How many mails may be accepted for one recipient within the rate's time; its burst does not count.
    pub per_recipient: Limit,
    /// How its CRM is asked for customers whose address is not known; `None`: it is not.
    pub contact_lookup: Option<ContactLookup>,
    /// Where its passes can be read.
    pub pass_api: Option<PassApi>,
}

/// An entry of `recipients_allowed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientRule {
    /// Everybody at this domain (A-labels).
    Domain(String),
    /// This address, normalised.
    Address(String),
}

#[cfg(test)]
impl Tenant {
    /// A tenant for tests, without rules of its own: no relays, no limits, nobody to call.
    pub(crate) fn plain(id: &str) -> Self {
        #[expect(clippy::unwrap_used, reason = "a test may stop at once")]
        let (id, from) = (id.parse().unwrap(), "wallet@demo.example".parse().unwrap());
        Self {
            id,
            name: "Demo".to_owned(),
            return_path_domain: None,
            soft_bounces_max: 0,
            from,
            from_allowed: Vec::new(),
            relays: Vec::new(),
            default_culture: "en".to_owned(),
            timezone: ZoneName::utc(),
            journey_mails: Limit::Unlimited,
            recipients_allowed: Vec::new(),
            lanes: Vec::new(),
            data_kept: Vec::new(),
            identifiers: vec!["customerId".to_owned()],
            outbound: Vec::new(),
            webhook_secrets: Vec::new(),
            per_tenant: Limit::Unlimited,
            per_recipient: Limit::Unlimited,
            contact_lookup: None,
            pass_api: None,
        }
    }
}

impl Tenant {
    /// Whether this recipient may be mailed at all.
    #[must_use]
    pub fn allows_recipient(&self, recipient: &EmailAddress) -> bool {
        self.recipients_allowed.is_empty()
            || self.recipients_allowed.iter().any(|rule| match rule {
                RecipientRule::Domain(domain) => domain == recipient.domain(),
                RecipientRule::Address(address) => *address == recipient.normalized(),
            })
    }

    /// Whether a submission may write this sender into From. The default sender always may.
    #[must_use]
    pub fn allows_sender(&self, from: &EmailAddress) -> bool {
        *from == self.from.address || self.from_allowed.iter().any(|domain| domain == from.domain())
    }

    /// Whether any receiver wants events of this name.
    #[must_use]
    pub fn tells(&self, event: &str) -> bool {
        self.outbound.iter().any(|outbound| outbound.wants(event))
    }

    /// The lane of a template, by the first pattern that matches its name whatever the case.
    #[must_use]
    pub fn lane_of(&self, template: Option<&str>) -> Lane {
        let Some(template) = template else { return Lane::Standard };
        let template = template.to_lowercase();
        let found = self.lanes.iter().find(|(pattern, _)| matches_pattern(&pattern.to_lowercase(), &template));
        found.map_or(Lane::Standard, |(_, lane)| *lane)
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any run of characters. Linear in pattern × text, no recursion.
pub(super) fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // Unwrap safety: split yields at least one part.
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut ended = !pattern.contains('*');
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        ended = false;
    }
    ended && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, fits) in [
            ("*challenge*", "login-challenge-fr", true),
            ("*challenge*", "challenge", true),
            ("challenge", "challenge", true),
            ("challenge", "challenge2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches_pattern(pattern, text), fits, "{pattern} {text}");
        }
    }
}
