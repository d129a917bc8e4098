//! `[[relays]]`: where a relay is, how it is spoken to, and how much it is asked.

use std::net::IpAddr;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::domain::ids::RelayName;
use crate::domain::quantity::{HumanDuration, Rate};

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS, required.
    Starttls,
    /// Plain text.
    None,
}

/// How we authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMechanism {
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN.
    Login,
    /// XOAUTH2: the password is an access token.
    Xoauth2,
}

/// One `[[relays]]` in `postern.toml`.
#[derive(Clone, Deserialize)]
#[serde(expecting = "a table")]
pub struct RelaySettings {
    /// Its name, unique.
    pub name: RelayName,
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Encryption.
    #[serde(default = "defaults::tls")]
    pub tls: TlsMode,
    /// Sessions open at once.
    #[serde(default = "defaults::sessions")]
    pub sessions: u32,
    /// Mails carried before a session is closed.
    #[serde(default = "defaults::messages_per_session")]
    pub messages_per_session: u32,
    /// Age at which a session is closed.
    #[serde(default = "defaults::session_age_max")]
    pub session_age_max: HumanDuration,
    /// Idle time after which a session is closed.
    #[serde(default = "defaults::idle_max")]
    pub idle_max: HumanDuration,
    /// Attempts at most; without it there is no limit.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// User name for AUTH.
    #[serde(default)]
    pub username: Option<String>,
    /// Password, or access token for XOAUTH2.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// File holding the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Mechanism; without it the best of what the relay offers.
    #[serde(default)]
    pub auth: Option<AuthMechanism>,
    /// PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// PEM file of our certificate.
    #[serde(default)]
    pub client_cert_file: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// The name in the relay's certificate, when it is not `host`.
    #[serde(default)]
    pub tls_server_name: Option<String>,
    /// Agrees to credentials, or a host elsewhere, without encryption.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The name said in EHLO; default the machine's.
    #[serde(default)]
    pub hello_name: Option<String>,
    /// Time for the name look-up and the TCP connect.
    #[serde(default = "defaults::connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// Time for the greeting and the TLS handshake.
    #[serde(default = "defaults::greeting_timeout")]
    pub greeting_timeout: HumanDuration,
    /// Time for one command's reply.
    #[serde(default = "defaults::command_timeout")]
    pub command_timeout: HumanDuration,
    /// Time for the content and the reply to its final dot.
    #[serde(default = "defaults::data_timeout")]
    pub data_timeout: HumanDuration,
}

/// Defaults, one function each, as serde wants them.
mod defaults {
    use super::TlsMode;
    use crate::domain::quantity::HumanDuration;

    pub(super) fn tls() -> TlsMode {
        TlsMode::Starttls
    }
    pub(super) fn sessions() -> u32 {
        20
    }
    pub(super) fn messages_per_session() -> u32 {
        200
    }
    pub(super) fn session_age_max() -> HumanDuration {
        HumanDuration::from_secs(300)
    }
    pub(super) fn idle_max() -> HumanDuration {
        HumanDuration::from_secs(30)
    }
    pub(super) fn connect_timeout() -> HumanDuration {
        HumanDuration::from_secs(10)
    }
    pub(super) fn greeting_timeout() -> HumanDuration {
        HumanDuration::from_secs(30)
    }
    pub(super) fn command_timeout() -> HumanDuration {
        HumanDuration::from_secs(30)
    }
    pub(super) fn data_timeout() -> HumanDuration {
        HumanDuration::from_secs(120)
    }
}

impl RelaySettings {
    /// What is wrong, as key and detail. Never holds a secret.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let mut say = |key, detail: &str| wrong.push((key, detail.to_owned()));
        if self.host.is_empty() || self.host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            say("host", "not a host name or an IP address");
        }
        if self.port == 0 {
            say("port", "must not be 0");
        }
        if self.sessions == 0 || self.sessions > 1_000 {
            say("sessions", "must be 1 to 1000");
        }
        if self.messages_per_session == 0 {
            say("messages_per_session", "must be at least 1");
        }
        let secret = self.password.as_ref().map(|password| !password.expose_secret().is_empty());
        if self.username.is_some() != secret.is_some() {
            say("username", "user name and password come together");
        }
        if self.auth.is_some() && self.username.is_none() {
            say("auth", "needs a username");
        }
        if self.client_cert_file.is_some() != self.client_key_file.is_some() {
            say("client_cert_file", "certificate and key come together");
        }
        let here = self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if self.tls == TlsMode::None && !self.allow_plaintext && (self.username.is_some() || !here) {
            say("tls", "none with credentials, or to another machine, needs allow_plaintext = true");
        }
        wrong
    }
}
