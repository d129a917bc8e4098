//! `[[outbound]]` of a tenant: one receiver of pushes as written, and the endpoint it describes.

use std::path::PathBuf;

use serde::Deserialize;

use super::Problems;
use super::secrets::{OneOrMany, secrets};
use crate::domain::ids::EndpointName;
use crate::domain::outgoing_url::OutgoingUrl;
use crate::domain::push::{Outbound, SigningKey, is_event_pattern};

/// Receivers of one tenant at most.
const OUTBOUND_MAX: usize = 20;
/// Secrets of one receiver at most: a rotation needs two.
const SECRETS_MAX: usize = 5;
/// What the only receiver of a tenant need not be called.
const NAME: &str = "default";

/// A receiver as written.
#[derive(Deserialize)]
#[serde(expecting = "a table")]
pub(super) struct OutboundFile {
    #[serde(default = "default_name")]
    name: EndpointName,
    url: String,
    secret: Option<OneOrMany<String>>,
    secret_file: Option<OneOrMany<PathBuf>>,
    #[serde(default = "all_events")]
    events: Vec<String>,
}

fn default_name() -> EndpointName {
    // Unwrap safety: a constant that is a name; a test reads it.
    NAME.parse().unwrap_or_else(|_| unreachable!("{NAME} is a name"))
}

fn all_events() -> Vec<String> {
    vec!["*".to_owned()]
}

/// The receivers of a tenant whose values make sense. Problems never hold a URL or a secret.
pub(super) fn outbounds(written: Vec<OutboundFile>, file: &str, problems: &mut Problems) -> Vec<Outbound> {
    if written.len() > OUTBOUND_MAX {
        problems.add(file, "outbound", format!("must be at most {OUTBOUND_MAX}"));
    }
    let mut outbounds: Vec<Outbound> = Vec::new();
    for (index, written) in written.into_iter().take(OUTBOUND_MAX).enumerate() {
        let key = |key: &str| format!("outbound[{index}].{key}");
        let OutboundFile { name, url, secret, secret_file, events } = written;
        if outbounds.iter().any(|known| known.name == name) {
            problems.add(file, key("name"), "there is another outbound of this name");
        }
        if secret.is_none() && secret_file.is_none() {
            problems.add(file, key("secret"), "is missing: give secret or secret_file");
        }
        let secrets = secrets(&key("secret"), secret, secret_file, file, problems);
        if secrets.len() > SECRETS_MAX {
            problems.add(file, key("secret"), format!("must be at most {SECRETS_MAX}"));
        }
        let signing = secrets.into_iter().filter_map(|secret| {
            SigningKey::new(secret).map_err(|detail| problems.add(file, key("secret"), detail)).ok()
        });
        let keys = signing.collect();
        for (at, pattern) in events.iter().enumerate() {
            if !is_event_pattern(pattern) {
                problems.add(file, format!("outbound[{index}].events[{at}]"), "no event has such a name");
            }
        }
        match url.parse::<OutgoingUrl>() {
            Ok(url) => outbounds.push(Outbound { name, url, keys, events }),
            Err(detail) => problems.add(file, key("url"), detail),
        }
    }
    outbounds
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn read(texts: &[&str]) -> (Vec<Outbound>, Vec<String>) {
        let mut problems = Problems::default();
        let written = texts.iter().map(|text| toml::from_str(text).unwrap()).collect();
        let outbounds = outbounds(written, "demo.toml", &mut problems);
        (outbounds, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_receiver_needs_a_url_and_a_secret_and_wants_everything() {
        let (outbounds, problems) = read(&["url = \"https://crm.example/s3cret\"\nsecret = [\"one\", \"whsec_AQI=\"]"]);
        assert_eq!(problems, Vec::<String>::new());
        let [outbound] = outbounds.as_slice() else { unreachable!("one was written") };
        assert_eq!((outbound.name.as_str(), outbound.keys.len()), ("default", 2));
        assert!(outbound.wants("wallet.changed") && outbound.wants("message.relayed"));
        assert!(!format!("{outbound:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_wrong_with_a_receiver_is_named_without_its_url_or_secret() {
        let good = "url = \"https://crm.example/s3cret\"\nsecret = \"s3cret\"\n";
        for (texts, problem) in [
            (
                vec!["url = \"https://crm.example/s3cret\""],
                "outbound[0].secret: is missing: give secret or secret_file",
            ),
            (vec!["url = \"ftp://s3cret\"\nsecret = \"x\""], "outbound[0].url: must begin with http:// or https://"),
            (vec![good, good], "outbound[1].name: there is another outbound of this name"),
            (
                vec!["url = \"http://h/\"\nsecret = \"whsec_s3cret!\""],
                "outbound[0].secret: what follows whsec_ must be base64",
            ),
            (
                vec!["url = \"http://h/\"\nsecret = \"x\"\nevents = [\"message.*\", \"mail.sent\"]"],
                "outbound[0].events[1]: no event has such a name",
            ),
        ] {
            assert_eq!(read(&texts).1, [format!("demo.toml: {problem}")]);
        }
        let secrets = "url = \"http://h/\"\nsecret = [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\"]";
        assert_eq!(read(&[secrets]).1, ["demo.toml: outbound[0].secret: must be at most 5"]);
    }
}
