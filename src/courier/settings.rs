//! What an operator says about a relay: `[[relays]]`.

use std::net::IpAddr;
use std::path::PathBuf;

use hmac::digest::Digest as _;
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;

use super::notify::Notify;
use crate::domain::ids::RelayName;
use crate::domain::quantity::{ByteSize, HumanDuration, Rate};

/// No relay is given more sessions than this.
pub const SESSIONS_MAX: u32 = 1_000;

/// `log_bytes_max`, between these.
const LOG_BYTES_MIN: u64 = 64 << 10;
const LOG_BYTES_MAX: u64 = 4 << 30;

/// One relay.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySettings {
    /// What tenants call it.
    pub name: RelayName,
    /// Host name or address.
    pub host: String,
    /// TCP port: 465 for implicit TLS and 587 for STARTTLS, by custom.
    pub port: u16,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// The name its certificate must carry, when that is not `host`.
    #[serde(default)]
    pub tls_server_name: Option<String>,
    /// Certificates (PEM) that alone may vouch for the relay; without it those the operating system trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain (PEM), for a relay that asks for one.
    #[serde(default)]
    pub client_cert_file: Option<PathBuf>,
    /// The key (PEM) of `client_cert_file`.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// Whether mail and credentials may go out unencrypted.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// The account at the relay; none: no AUTH.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password, or its access token for XOAUTH2.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// A file that holds the password; whoever reads the configuration puts its content into `password`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The mechanism; default: PLAIN, or else LOGIN, whichever the relay offers.
    #[serde(default)]
    pub auth: Option<AuthMechanism>,
    /// Most connections open at once.
    #[serde(default = "default_sessions")]
    pub sessions: u32,
    /// Most mails sent over one connection.
    #[serde(default = "default_messages_per_session")]
    pub messages_per_session: u32,
    /// No new mail goes over a connection older than this.
    #[serde(default = "default_session_age_max")]
    pub session_age_max: HumanDuration,
    /// No new mail goes over a connection unused for longer than this.
    #[serde(default = "default_idle_max")]
    pub idle_max: HumanDuration,
    /// Which reports it is asked for on each mail, where it offers DSN; default: none is asked for.
    #[serde(default)]
    pub notify: Option<Notify>,
    /// Most attempts; default: no limit.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// What we call ourselves in EHLO; default: our address on that connection, `[192.0.2.1]` (RFC 5321 section 4.1.4).
    #[serde(default)]
    pub hello_name: Option<String>,
    /// Longest look-up and connect.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// Longest wait for the greeting.
    #[serde(default = "default_greeting_timeout")]
    pub greeting_timeout: HumanDuration,
    /// Longest wait for the answer to a command, for the TLS handshake, and for any progress while content is sent.
    #[serde(default = "default_command_timeout")]
    pub command_timeout: HumanDuration,
    /// Longest time the content may take, and longest wait for the answer to its final dot (RFC 5321 section 4.5.3.2.6).
    #[serde(default = "default_data_timeout")]
    pub data_timeout: HumanDuration,
    /// Its log (Postfix's lines, as syslog writes them), to look up what became of mails in doubt.
    #[serde(default)]
    pub log_file: Option<PathBuf>,
    /// A command that prints such lines: a program and its arguments, no shell. `{since}` in one of them stands for the
    /// time from which on lines are wanted, in seconds since 1970.
    #[serde(default)]
    pub log_command: Option<Vec<String>>,
    /// So much of the log's end is looked through at most.
    #[serde(default = "default_log_bytes_max")]
    pub log_bytes_max: ByteSize,
    /// Longest time one look may take.
    #[serde(default = "default_log_timeout")]
    pub log_timeout: HumanDuration,
}

fn default_log_bytes_max() -> ByteSize {
    ByteSize(64 << 20)
}

fn default_log_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn default_sessions() -> u32 {
    20
}

fn default_messages_per_session() -> u32 {
    200
}

fn default_session_age_max() -> HumanDuration {
    HumanDuration::from_secs(300)
}

fn default_idle_max() -> HumanDuration {
    HumanDuration::from_secs(30)
}

fn default_connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn default_greeting_timeout() -> HumanDuration {
    HumanDuration::from_secs(60)
}

fn default_command_timeout() -> HumanDuration {
    HumanDuration::from_secs(60)
}

fn default_data_timeout() -> HumanDuration {
    HumanDuration::from_secs(600)
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// TLS after STARTTLS (RFC 3207); never without.
    Starttls,
    /// Not at all.
    None,
}

/// How we prove who we are (RFC 4954).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMechanism {
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN, never standardised, widely offered.
    Login,
    /// XOAUTH2: an access token.
    Xoauth2,
}

impl AuthMechanism {
    /// The mechanism of this name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::Login, Self::Xoauth2].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// As in AUTH.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::Xoauth2 => "XOAUTH2",
        }
    }
}

impl RelaySettings {
    /// Another one whenever a session would be opened or used otherwise: by another value, by another password in the
    /// same file, by other certificates in the same files. Kept in memory only.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        };
        // All but the secret, which hides itself.
        add(format!("{self:?}").as_bytes());
        add(self.password.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default().as_bytes());
        for file in [&self.ca_file, &self.client_cert_file, &self.client_key_file].into_iter().flatten() {
            // One that cannot be read is a problem that is told elsewhere.
            let mut content = std::fs::read(file).unwrap_or_default();
            add(&content);
            content.zeroize();
        }
        hash.finalize().into()
    }

    /// Whether its log can be looked through.
    #[must_use]
    pub const fn has_log(&self) -> bool {
        self.log_file.is_some() || self.log_command.is_some()
    }

    /// Every key whose value cannot work, with what is wrong; empty when the relay can be tried.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut wrong = |is_wrong: bool, key, what: &str| {
            if is_wrong {
                problems.push((key, what.to_owned()));
            }
        };
        wrong(self.host.is_empty() || !is_one_word(&self.host), "host", "write a host name or an address");
        wrong(self.port == 0, "port", "write a port from 1 to 65535");
        wrong(!(1..=SESSIONS_MAX).contains(&self.sessions), "sessions", "write 1 to 1000");
        wrong(self.messages_per_session == 0, "messages_per_session", "write at least 1");
        wrong(
            self.hello_name.as_deref().is_some_and(|name| name.is_empty() || !is_one_word(name)),
            "hello_name",
            "write a host name, or an address in brackets",
        );
        for (key, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("greeting_timeout", self.greeting_timeout),
            ("command_timeout", self.command_timeout),
            ("data_timeout", self.data_timeout),
            ("log_timeout", self.log_timeout),
        ] {
            wrong(timeout.0.is_zero(), key, "a time-out is longer than nothing");
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        wrong(self.username.is_some() && !has_password, "username", "needs password or password_file");
        wrong(self.username.is_none() && has_password, "password", "needs username");
        wrong(self.auth.is_some() && self.username.is_none(), "auth", "needs username and password");
        self.tls_problems(&mut wrong);
        self.log_problems(&mut wrong);
        problems
    }

    fn log_problems(&self, wrong: &mut impl FnMut(bool, &'static str, &str)) {
        wrong(
            self.log_file.is_some() && self.log_command.is_some(),
            "log_command",
            "there is log_file: give one of them",
        );
        let names_nothing = |command: &Vec<String>| command.first().is_none_or(String::is_empty);
        wrong(self.log_command.as_ref().is_some_and(names_nothing), "log_command", "write a program and its arguments");
        wrong(self.log_file.as_ref().is_some_and(|file| file.as_os_str().is_empty()), "log_file", "must not be empty");
        let fits = (LOG_BYTES_MIN..=LOG_BYTES_MAX).contains(&self.log_bytes_max.0);
        wrong(!fits, "log_bytes_max", "must be 64KiB to 4GiB");
    }

    fn tls_problems(&self, wrong: &mut impl FnMut(bool, &'static str, &str)) {
        let plain = self.tls == TlsMode::None;
        wrong(
            plain && self.username.is_some() && !self.allow_plaintext,
            "tls",
            "\"none\" would send the password unencrypted: use TLS, or set allow_plaintext = true",
        );
        wrong(
            plain && !is_loopback(&self.host) && !self.allow_plaintext,
            "tls",
            "\"none\" would send mail unencrypted to another machine: use TLS, or set allow_plaintext = true",
        );
        wrong(
            self.client_cert_file.is_some() && self.client_key_file.is_none(),
            "client_cert_file",
            "needs client_key_file",
        );
        wrong(
            self.client_key_file.is_some() && self.client_cert_file.is_none(),
            "client_key_file",
            "needs client_cert_file",
        );
        for (key, is_set) in [
            ("tls_server_name", self.tls_server_name.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("client_cert_file", self.client_cert_file.is_some()),
        ] {
            wrong(plain && is_set, key, "means nothing with tls = \"none\"");
        }
        if !plain && let Err((key, what)) = super::tls::client(self) {
            wrong(true, key, &what);
        }
    }
}

/// Whether a text can stand in a command without becoming two.
fn is_one_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
