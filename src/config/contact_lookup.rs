//! `[contact_lookup]` of a tenant, as written, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Problems;
use super::secrets::{OneOrMany, secrets};
use crate::domain::contact_lookup::{ContactLookup, LookupUrl, Pointers};
use crate::domain::quantity::{ByteSize, HumanDuration};
use crate::domain::secret::Secret;

/// The longest time for one try.
const TIMEOUT_MAX: Duration = Duration::from_mins(1);
/// The longest time during which a CRM that does not answer is left alone.
const OPEN_MAX: Duration = Duration::from_hours(1);
/// Tries beyond the first at most.
const RETRIES_MAX: u32 = 10;
/// Questions under way at once, at most.
const CONCURRENT_MAX: usize = 1_000;
/// Customers remembered at most: it bounds memory.
const REMEMBERED_MAX: usize = 1_000_000;
/// An answer, between these.
const ANSWER_BYTES_MIN: u64 = 1 << 10;
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// `[contact_lookup]` as written.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, expecting = "a table")]
pub(super) struct ContactLookupFile {
    url: String,
    header: Option<String>,
    header_value: Option<String>,
    header_value_file: Option<PathBuf>,
    email: String,
    name: String,
    culture: String,
    timezone: String,
    timeout: HumanDuration,
    retries: u32,
    cache_for: HumanDuration,
    not_found_for: HumanDuration,
    breaker_failures: u32,
    breaker_open: HumanDuration,
    concurrent: usize,
    remembered_max: usize,
    answer_max: ByteSize,
}

impl Default for ContactLookupFile {
    fn default() -> Self {
        let minute = 60;
        Self {
            url: String::new(),
            header: None,
            header_value: None,
            header_value_file: None,
            email: "/email".to_owned(),
            name: "/name".to_owned(),
            culture: "/culture".to_owned(),
            timezone: "/timezone".to_owned(),
            timeout: HumanDuration::from_secs(5),
            retries: 1,
            cache_for: HumanDuration::from_secs(24 * 60 * minute),
            not_found_for: HumanDuration::from_secs(10 * minute),
            breaker_failures: 5,
            breaker_open: HumanDuration::from_secs(30),
            concurrent: 8,
            remembered_max: 10_000,
            answer_max: ByteSize(64 << 10),
        }
    }
}

impl ContactLookupFile {
    /// What it means; `None` when there is nobody to ask, or something is wrong.
    pub(super) fn into_lookup(self, file: &str, problems: &mut Problems) -> Option<ContactLookup> {
        if self.url.is_empty() && self.header.is_none() && self.header_value.is_none() {
            self.bounds(file, problems);
            return None;
        }
        self.bounds(file, problems);
        let url = LookupUrl::parse(&self.url).map_err(|detail| say(problems, file, "url", detail)).ok();
        let pointers = Pointers {
            email: self.email,
            name: Some(self.name).filter(|pointer| !pointer.is_empty()),
            culture: Some(self.culture).filter(|pointer| !pointer.is_empty()),
            timezone: Some(self.timezone).filter(|pointer| !pointer.is_empty()),
        };
        let value = Value { inline: self.header_value, file: self.header_value_file };
        let header = header(self.header, value, file, problems);
        Some(ContactLookup {
            url: url?,
            header,
            pointers,
            timeout: self.timeout.0,
            retries: self.retries,
            cache_for: self.cache_for.0,
            not_found_for: self.not_found_for.0,
            breaker_failures: self.breaker_failures,
            breaker_open: self.breaker_open.0,
            concurrent: self.concurrent,
            remembered_max: self.remembered_max,
            answer_max: self.answer_max.as_usize(),
        })
    }

    fn bounds(&self, file: &str, problems: &mut Problems) {
        for (key, pointer) in
            [("email", &self.email), ("name", &self.name), ("culture", &self.culture), ("timezone", &self.timezone)]
        {
            let is_unread = pointer.is_empty() && key != "email";
            if !is_unread && !pointer.starts_with('/') {
                say(problems, file, key, "must be a JSON pointer, as in /contact/email");
            }
        }
        if self.timeout.0.is_zero() || self.timeout.0 > TIMEOUT_MAX {
            say(problems, file, "timeout", "must be more than 0s and at most 1m");
        }
        if self.retries > RETRIES_MAX {
            say(problems, file, "retries", format!("must be at most {RETRIES_MAX}"));
        }
        if self.cache_for.0.is_zero() {
            say(problems, file, "cache_for", "must be more than 0s");
        }
        if self.breaker_failures == 0 {
            say(problems, file, "breaker_failures", "must be at least 1");
        }
        if self.breaker_open.0.is_zero() || self.breaker_open.0 > OPEN_MAX {
            say(problems, file, "breaker_open", "must be more than 0s and at most 1h");
        }
        if !(1..=CONCURRENT_MAX).contains(&self.concurrent) {
            say(problems, file, "concurrent", format!("must be 1 to {CONCURRENT_MAX}"));
        }
        if !(1..=REMEMBERED_MAX).contains(&self.remembered_max) {
            say(problems, file, "remembered_max", format!("must be 1 to {REMEMBERED_MAX}"));
        }
        if !(ANSWER_BYTES_MIN..=ANSWER_BYTES_MAX).contains(&self.answer_max.0) {
            say(problems, file, "answer_max", "must be 1KiB to 16MiB");
        }
    }
}

/// A header's value as written.
struct Value {
    inline: Option<String>,
    file: Option<PathBuf>,
}

/// A name and a value that HTTP can carry (RFC 9110 section 5).
fn header(name: Option<String>, value: Value, file: &str, problems: &mut Problems) -> Option<(String, Secret)> {
    let key = "contact_lookup.header_value";
    let both = value.inline.is_some() && value.file.is_some();
    if both {
        say(problems, file, "header_value_file", "give header_value or header_value_file, not both");
    }
    let inline = value.inline.map(OneOrMany::One);
    let value = secrets(key, inline, value.file.filter(|_| !both).map(OneOrMany::One), file, problems).pop();
    let token = |name: &str| {
        let other = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || other(byte))
    };
    match (name, value) {
        (None, None) => None,
        (Some(name), Some(value)) => {
            if !token(&name) {
                say(problems, file, "header", "not the name of a header");
            }
            if value.expose().bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
                say(problems, file, "header_value", "must be visible ASCII");
            }
            Some((name, value))
        }
        (Some(_), None) => {
            say(problems, file, "header_value", "is missing: give header_value or header_value_file");
            None
        }
        (None, Some(_)) => {
            say(problems, file, "header", "is missing: which header carries header_value?");
            None
        }
    }
}

fn say(problems: &mut Problems, file: &str, key: &str, detail: impl Into<String>) {
    problems.add(file, format!("contact_lookup.{key}"), detail);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn read(text: &str) -> (Option<ContactLookup>, Vec<String>) {
        let mut problems = Problems::default();
        let lookup = toml::from_str::<ContactLookupFile>(text).unwrap().into_lookup("demo.toml", &mut problems);
        (lookup, problems.iter().map(|problem| problem.key.replace("contact_lookup.", "")).collect())
    }

    #[test]
    fn nobody_is_asked_until_there_is_a_url() {
        assert_eq!(read(""), (None, Vec::new()));
        let text = "url = \"http://10.0.0.1/{customerId}\"\nheader = \"X-Key\"\nheader_value = \"s3cret\"\nname = \"\"";
        let (lookup, problems) = read(text);
        let lookup = lookup.unwrap();
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((lookup.pointers.name.as_ref(), lookup.pointers.email.as_str()), (None, "/email"));
        assert_eq!(lookup.header.as_ref().unwrap().1.expose(), "s3cret");
        assert!(!format!("{lookup:?}").contains("s3cret"));
    }

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let text = r#"
            url = "http://crm.example/"
            header = "X Key"
            header_value = "a\nb"
            email = ""
            timezone = "zone"
            timeout = "2m"
            retries = 11
            cache_for = "0s"
            breaker_failures = 0
            breaker_open = "0s"
            concurrent = 0
            remembered_max = 0
            answer_max = "17MiB"
        "#;
        let mut found = read(text).1;
        found.sort();
        let all = "answer_max breaker_failures breaker_open cache_for concurrent email header header_value remembered_max \
                   retries timeout timezone url";
        assert_eq!(found.join(" "), all);
        assert_eq!(read("url = \"http://a/{customerId}\"\nheader = \"a\"").1, ["header_value"]);
        assert_eq!(read("url = \"http://a/{customerId}\"\nheader_value = \"a\"").1, ["header"]);
    }
}
