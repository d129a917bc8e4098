//! `[pass_api]` of a tenant: where its passes can be read, as written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use serde::Deserialize;

use super::Problems;
use super::files::read_secret;
use crate::domain::outgoing_url::OutgoingUrl;
use crate::domain::pass_api::{Daily, Manners, PassApi};
use crate::domain::quantity::{ByteSize, HumanDuration, Limit, Rate, Share};
use crate::domain::secret::Secret;

/// Passes in one page, between these. Of fewer nobody can tell whether they come in order.
const PAGE_SIZE_MIN: u32 = 10;
const PAGE_SIZE_MAX: u32 = 1_000;
/// Bytes of one page, between these.
const PAGE_BYTES_MIN: u64 = 64 << 10;
const PAGE_BYTES_MAX: u64 = 256 << 20;
/// One request takes no longer.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);
/// A request is made again this often at most.
const RETRIES_MAX: u32 = 100;
/// One run takes no longer, and is gone on with no longer.
const RUN_MAX: Duration = Duration::from_hours(7 * 24);
/// Characters of a name in the URL at most.
const NAME_CHARS_MAX: usize = 200;

/// As written. Without `url`, `tenant` and a key there is no Pass API.
#[derive(Deserialize)]
#[serde(default, expecting = "a table")]
pub(super) struct PassApiFile {
    url: Option<String>,
    tenant: Option<String>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    page_size: u32,
    page_bytes_max: ByteSize,
    direction: String,
    rate: Limit,
    timeout: HumanDuration,
    retries: u32,
    missing_max: Share,
    missing_believed: u32,
    run_max: HumanDuration,
    run_age_max: HumanDuration,
    daily_at: Option<String>,
    timezone: String,
}

impl Default for PassApiFile {
    fn default() -> Self {
        Self {
            url: None,
            tenant: None,
            key: None,
            key_file: None,
            page_size: 100,
            page_bytes_max: ByteSize(16 << 20),
            direction: "asc".to_owned(),
            rate: Limit::AtMost(Rate { count: 5, per: Duration::from_secs(1), burst: None }),
            timeout: HumanDuration::from_secs(30),
            retries: 5,
            missing_max: Share::HALF,
            missing_believed: 10,
            run_max: HumanDuration::from_secs(6 * 60 * 60),
            run_age_max: HumanDuration::from_secs(24 * 60 * 60),
            daily_at: None,
            timezone: "UTC".to_owned(),
        }
    }
}

impl PassApiFile {
    /// The API, when there is one and every value makes sense.
    pub(super) fn into_pass_api(self, file: &str, problems: &mut Problems) -> Option<PassApi> {
        let mut say = |key: &str, detail: &str| problems.add(file, format!("pass_api.{key}"), detail);
        let manners = self.manners(&mut say);
        let daily = self.daily(&mut say);
        let is_meant = self.url.is_some() || self.tenant.is_some() || self.key.is_some() || self.key_file.is_some();
        if !is_meant {
            return None;
        }
        let key = key(self.key, self.key_file.as_deref(), &mut say);
        let url = self.url.as_deref().and_then(|text| match text.parse::<OutgoingUrl>() {
            Ok(url) if url.expose().query().is_none() => Some(url),
            Ok(_) => {
                say("url", "must be without a query");
                None
            }
            Err(detail) => {
                say("url", &detail);
                None
            }
        });
        if self.url.is_none() {
            say("url", "is missing");
        }
        match self.tenant.as_deref() {
            None => say("tenant", "is missing"),
            Some(tenant) if !is_name(tenant) => say("tenant", "must be letters, digits, \"-\", \"_\" and \".\""),
            Some(_) => {}
        }
        let (key, written) = key?;
        let key_written = format!("pass_api.{written} in {file}");
        Some(PassApi { url: url?, tenant: self.tenant?, key, key_written, manners, daily })
    }

    fn manners(&self, say: &mut impl FnMut(&str, &str)) -> Manners {
        if !(PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&self.page_size) {
            say("page_size", &format!("must be {PAGE_SIZE_MIN} to {PAGE_SIZE_MAX}"));
        }
        if !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&self.page_bytes_max.0) {
            say("page_bytes_max", "must be 64KiB to 256MiB");
        }
        if !is_name(&self.direction) {
            say("direction", "must be a word");
        }
        if self.timeout.0.is_zero() || self.timeout.0 > TIMEOUT_MAX {
            say("timeout", "must be more than 0s and at most 10m");
        }
        if self.retries > RETRIES_MAX {
            say("retries", &format!("must be at most {RETRIES_MAX}"));
        }
        for (key, length) in [("run_max", self.run_max), ("run_age_max", self.run_age_max)] {
            if length.0.is_zero() || length.0 > RUN_MAX {
                say(key, "must be more than 0s and at most 7d");
            }
        }
        Manners {
            page_size: self.page_size,
            page_bytes_max: self.page_bytes_max.as_usize(),
            direction: self.direction.clone(),
            rate: self.rate,
            timeout: self.timeout.0,
            retries: self.retries,
            missing_max: self.missing_max,
            missing_believed: self.missing_believed,
            run_max: self.run_max.0,
            run_age_max: self.run_age_max.0,
        }
    }

    fn daily(&self, say: &mut impl FnMut(&str, &str)) -> Option<Daily> {
        let zone = TimeZone::get(&self.timezone);
        if zone.is_err() {
            say("timezone", "there is no such time zone here: write one as in \"Europe/Paris\"");
        }
        let text = self.daily_at.as_deref()?;
        let at = Time::strptime("%H:%M", text);
        if at.is_err() {
            say("daily_at", "must be a time of day, as in \"03:30\"");
        }
        Some(Daily { at: at.ok()?, zone: zone.ok()? })
    }
}

/// The key, and the name of what it was written under.
fn key(
    inline: Option<String>,
    path: Option<&Path>,
    say: &mut impl FnMut(&str, &str),
) -> Option<(Secret, &'static str)> {
    match (inline, path) {
        (Some(_), Some(_)) => say("key_file", "give key or key_file, not both"),
        (None, None) => say("key", "is missing: give key or key_file"),
        (Some(text), None) if is_header_value(&text) => return Some((Secret::from(SecretString::from(text)), "key")),
        (Some(_), None) => say("key", "must be printable characters"),
        (None, Some(path)) => match read_secret(path).map(Secret::from) {
            Ok(secret) if is_header_value(secret.expose()) => return Some((secret, "key_file")),
            Ok(_) => say("key_file", "the file must hold printable characters"),
            Err(detail) => say("key_file", &detail),
        },
    }
    None
}

fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed) && !text.bytes().all(|b| b == b'.')
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::super::reading::{Origin, read};
    use super::*;

    /// The API of a section with these keys, and what is wrong with it.
    fn section(keys: &str, problems: &mut Problems) -> Option<PassApi> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            pass_api: PassApiFile,
        }
        let table: toml::Table = format!("[pass_api]\n{keys}").parse().unwrap();
        let origin = Origin { file: "demo.toml", within: "", overrides: Vec::new() };
        let file: File = read(origin, table, problems)?;
        file.pass_api.into_pass_api("demo.toml", problems)
    }

    #[test]
    fn a_pass_api_needs_its_url_its_tenant_and_one_key_and_says_the_defaults() {
        let whole = "url = \"https://app.example\"\ntenant = \"brand\"\nkey = \"hunter2\"\n";
        let read = |keys: &str| {
            let mut problems = Problems::default();
            let read = section(keys, &mut problems);
            assert!(problems.is_empty(), "{problems}");
            read.unwrap()
        };
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tenants/demo.toml");
        let shipped = std::fs::read_to_string(shipped).unwrap();
        let written = shipped.split("[pass_api]").nth(1).unwrap().split("\n[").next().unwrap();
        let (short, long) = (read(whole), read(&format!("{whole}{written}")));
        assert_eq!((short.manners, short.daily), (long.manners, long.daily));
        assert!(short.key_written == "pass_api.key in demo.toml");
        for (wrong, key) in [
            ("tenant = \"brand\"\nkey = \"hunter2\"\n", "url: is missing"),
            ("url = \"https://app.example\"\nkey = \"hunter2\"\n", "tenant: is missing"),
            ("url = \"https://app.example\"\ntenant = \"brand\"\n", "key: is missing"),
            (&format!("{whole}key_file = \"x\"\n"), "key_file: give key or key_file"),
            (&whole.replace("https:", "ftp:"), "url: must begin"),
            (&whole.replace(".example", ".example/?hunter2"), "url: must be without a query"),
            (&whole.replace("brand", "../brand"), "tenant: must be letters"),
            (&whole.replace("hunter2", "hunter2\\n"), "key: must be printable"),
            (&whole.replace("\"hunter2\"", "[\"hunter2\"]"), "key: must be text"),
            (&format!("{whole}page_size = 5\n"), "page_size: must be 10 to 1000"),
            (&format!("{whole}page_bytes_max = \"1KiB\"\n"), "page_bytes_max"),
            (&format!("{whole}direction = \"\"\n"), "direction: must be a word"),
            (&format!("{whole}timeout = \"0s\"\n"), "timeout"),
            (&format!("{whole}retries = 1000\n"), "retries"),
            (&format!("{whole}missing_max = 2.0\n"), "missing_max"),
            (&format!("{whole}missing_believed = -1\n"), "missing_believed"),
            (&format!("{whole}run_max = \"0s\"\n"), "run_max: must be more"),
            (&format!("{whole}run_age_max = \"8d\"\n"), "run_age_max: must be more"),
            (&format!("{whole}daily_at = \"25:00\"\n"), "daily_at: must be a time of day"),
            (&format!("{whole}timezone = \"Mars/Base\"\n"), "timezone: there is no such time zone"),
        ] {
            let mut found = Problems::default();
            section(wrong, &mut found);
            let told = found.to_string();
            assert!(told.starts_with(&format!("demo.toml: pass_api.{key}")), "{told}");
            // Of what is no text it is also said that it is missing.
            assert!(found.iter().count() <= 2 && !told.contains("hunter2"), "{wrong}: {told}");
        }
    }
}
