//! API keys: who may come in by which door.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{KeyId, TenantId};
use super::quantity::Limit;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Submit mail.
    Send,
    /// Report pass events and bounces.
    Events,
    /// Read messages and their events.
    Read,
    /// Read the contents of messages.
    Content,
    /// Steer: cancel, hold, release, retry.
    Manage,
}

impl Scope {
    /// All scopes, in the order they are documented.
    pub const ALL: [Self; 5] = [Self::Send, Self::Events, Self::Read, Self::Content, Self::Manage];

    /// The word used in JSON, rows and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Events => "events",
            Self::Read => "read",
            Self::Content => "content",
            Self::Manage => "manage",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| "a scope is send, events, read, content or manage".to_owned())
    }
}

/// An API key as kept: its secret is known only as a MAC.
#[derive(Clone)]
pub struct ApiKey {
    /// Its name in lists and in the audit.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What people call it, at most 100 characters.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// What its requests are limited to, when not by `limits.per_key`.
    pub limit: Option<Limit>,
    /// HMAC-SHA-256 of the secret under the store's own key.
    pub mac: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked; `None` while it is good.
    pub revoked_at: Option<Timestamp>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
