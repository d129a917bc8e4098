//! `tenants/<id>.toml`: one brand as written, and the tenant it describes.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::Problems;
use super::check::per_recipient_problem;
use super::contact_lookup::ContactLookupFile;
use super::outbound::{OutboundFile, outbounds};
use super::pass_api::PassApiFile;
use super::secrets::{OneOrMany, secrets};
use crate::domain::address::{EmailAddress, Mailbox, domain_to_ascii};
use crate::domain::contact::ZoneName;
use crate::domain::ids::{RelayName, TenantId};
use crate::domain::lane::Lane;
use crate::domain::pass_event::IDENTIFIER_NAME_CHARS_MAX;
use crate::domain::quantity::Limit;
use crate::domain::return_path::ReturnPathDomain;
use crate::domain::tenant::{RecipientRule, Tenant};
use crate::domain::wallet::BY_PASS;
use crate::limits::settings::LimitsSettings;

/// `soft_bounces_max` at most: so many mails are walked for each report.
const SOFT_BOUNCES_MAX: u32 = 100;

/// A tenant as written.
#[derive(Deserialize)]
#[serde(expecting = "a table")]
pub(super) struct TenantFile {
    #[serde(default)]
    name: Option<String>,
    from: String,
    #[serde(default)]
    return_path_domain: String,
    #[serde(default = "default_soft_bounces_max")]
    soft_bounces_max: u32,
    #[serde(default)]
    from_allowed: Vec<String>,
    relays: Vec<String>,
    #[serde(default = "default_culture")]
    default_culture: String,
    #[serde(default = "default_timezone")]
    timezone: String,
    #[serde(default)]
    recipients_allowed: Vec<String>,
    #[serde(default)]
    lanes: Patterns,
    #[serde(default)]
    data_kept: Vec<String>,
    #[serde(default = "default_identifiers")]
    identifiers: Vec<String>,
    #[serde(default)]
    webhook_secret: Option<OneOrMany<String>>,
    #[serde(default)]
    webhook_secret_file: Option<OneOrMany<PathBuf>>,
    #[serde(default)]
    outbound: Vec<OutboundFile>,
    #[serde(default)]
    limits: TenantLimitsFile,
    #[serde(default)]
    contact_lookup: ContactLookupFile,
    #[serde(default)]
    pass_api: PassApiFile,
}

/// `[limits]` of a tenant: what is not the same for all, and what only a tenant has.
#[derive(Deserialize)]
#[serde(default, expecting = "a table")]
pub(super) struct TenantLimitsFile {
    per_tenant: Option<Limit>,
    per_recipient: Option<Limit>,
    journey_mails: Limit,
}

impl Default for TenantLimitsFile {
    fn default() -> Self {
        Self { per_tenant: None, per_recipient: None, journey_mails: Limit::Unlimited }
    }
}

/// What `postern.toml` says that a tenant's file refers to, or may say otherwise.
pub(super) struct Shared<'a> {
    /// The names of all relays.
    pub(super) relays: &'a [String],
    /// The limits of all tenants.
    pub(super) limits: &'a LimitsSettings,
}

fn default_culture() -> String {
    "en".to_owned()
}

fn default_soft_bounces_max() -> u32 {
    5
}

fn default_timezone() -> String {
    ZoneName::utc().as_str().to_owned()
}

fn default_identifiers() -> Vec<String> {
    ["customerId", "accountId", "email"].map(str::to_owned).to_vec()
}

/// `[lanes]` in the order written: the first pattern that matches counts.
#[derive(Default)]
struct Patterns(Vec<(String, Lane)>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of template name patterns and lanes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns, A::Error> {
                let mut patterns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    patterns.push(entry);
                }
                Ok(Patterns(patterns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl TenantFile {
    /// The tenant, when every value makes sense. Problems never hold an address.
    pub(super) fn into_tenant(
        self,
        id: TenantId,
        shared: &Shared<'_>,
        file: &str,
        problems: &mut Problems,
    ) -> Option<Tenant> {
        let from: Option<Mailbox> = self.from.parse().map_err(|error| say(problems, file, "from", error)).ok();
        let from_allowed = each(&self.from_allowed, "from_allowed", file, problems, |domain| {
            domain_to_ascii(domain).map_err(|_| "not a domain".to_owned())
        });
        let recipients_allowed = each(&self.recipients_allowed, "recipients_allowed", file, problems, recipient_rule);
        let relays = each(&self.relays, "relays", file, problems, |name| {
            let name: RelayName = name.parse()?;
            if shared.relays.iter().any(|known| known == name.as_str()) {
                Ok(name)
            } else {
                Err(format!("there is no relay {name} in postern.toml"))
            }
        });
        if self.relays.is_empty() {
            say(problems, file, "relays", "at least one relay is needed");
        }
        if !is_culture(&self.default_culture) {
            say(problems, file, "default_culture", "not a culture: write en, fr-CA …");
        }
        let name = self.name.unwrap_or_else(|| id.to_string());
        if name.is_empty() || name.chars().any(char::is_control) {
            say(problems, file, "name", "must be text without control characters");
        }
        let identifiers = each(&self.identifiers, "identifiers", file, problems, identifier_name);
        if self.identifiers.is_empty() {
            say(problems, file, "identifiers", "at least one is needed");
        }
        let webhook_secrets = secrets("webhook_secret", self.webhook_secret, self.webhook_secret_file, file, problems);
        let per_recipient = self.limits.per_recipient.unwrap_or(shared.limits.per_recipient);
        if let Some(detail) = self.limits.per_recipient.and_then(per_recipient_problem) {
            say(problems, file, "limits.per_recipient", detail);
        }
        let journey_mails = self.limits.journey_mails;
        if let Some(detail) = per_recipient_problem(journey_mails) {
            say(problems, file, "limits.journey_mails", detail);
        }
        let timezone = self.timezone.parse().map_err(|error: String| say(problems, file, "timezone", error)).ok();
        let return_path_domain = return_path_domain(&self.return_path_domain, file, problems);
        if self.soft_bounces_max > SOFT_BOUNCES_MAX {
            say(problems, file, "soft_bounces_max", format!("must be 0 to {SOFT_BOUNCES_MAX}"));
        }
        let contact_lookup = self.contact_lookup.into_lookup(file, problems);
        let pass_api = self.pass_api.into_pass_api(file, problems);
        Some(Tenant {
            id,
            name,
            return_path_domain,
            soft_bounces_max: self.soft_bounces_max,
            from: from?,
            from_allowed,
            relays,
            default_culture: self.default_culture,
            timezone: timezone?,
            journey_mails,
            recipients_allowed,
            lanes: self.lanes.0,
            data_kept: self.data_kept,
            identifiers,
            outbound: outbounds(self.outbound, file, problems),
            webhook_secrets,
            per_tenant: self.limits.per_tenant.unwrap_or(shared.limits.per_tenant),
            per_recipient,
            contact_lookup,
            pass_api,
        })
    }
}

/// Where reports come back; empty: to the sender.
fn return_path_domain(text: &str, file: &str, problems: &mut Problems) -> Option<ReturnPathDomain> {
    if text.is_empty() {
        return None;
    }
    text.parse().map_err(|error: String| say(problems, file, "return_path_domain", error)).ok()
}

/// The name of an identifier on a pass; it may hold dots.
fn identifier_name(text: &str) -> Result<String, String> {
    let fits = (1..=IDENTIFIER_NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits && text != BY_PASS { Ok(text.to_owned()) } else { Err("not the name of an identifier".to_owned()) }
}

/// A domain, or an address.
fn recipient_rule(text: &str) -> Result<RecipientRule, String> {
    if text.contains('@') {
        let address: EmailAddress = text.parse().map_err(|error| format!("not an address: {error}"))?;
        return Ok(RecipientRule::Address(address.normalized()));
    }
    domain_to_ascii(text).map(RecipientRule::Domain).map_err(|_| "neither a domain nor an address".to_owned())
}

/// Language, then optionally script and region, as in `fr`, `fr-CA`, `zh-Hant-TW`.
fn is_culture(text: &str) -> bool {
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_alphabetic())
        && parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn each<T>(
    texts: &[String],
    key: &str,
    file: &str,
    problems: &mut Problems,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let mut parsed = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match parse(text) {
            Ok(value) => parsed.push(value),
            Err(detail) => problems.add(file, format!("{key}[{index}]"), detail),
        }
    }
    parsed
}

fn say(problems: &mut Problems, file: &str, key: &str, detail: impl fmt::Display) {
    problems.add(file, key, detail.to_string());
}
