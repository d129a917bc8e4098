//! A URL that an operator configures for us to call, parsed once; its path and query may be credentials and are never shown.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use url::{Host, Url};

/// Characters of a URL at most.
const CHARS_MAX: usize = 2_000;

/// `http://` or `https://`, with a host, without credentials or a fragment. Shown as scheme, host and port only.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct OutgoingUrl(Url);

impl OutgoingUrl {
    /// The whole URL, for the one who calls it.
    #[must_use]
    pub const fn expose(&self) -> &Url {
        &self.0
    }

    /// The address that stands in it in place of a name, in whatever notation it was written.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        match self.0.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        }
    }

    /// The same with more segments of the path and more pairs of the query, both encoded: nothing in them leads elsewhere.
    #[must_use]
    pub fn with(&self, segments: &[&str], query: &[(&str, &str)]) -> Self {
        let mut url = self.0.clone();
        // Cannot fail: what has a host has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments.iter().map(|segment| match *segment {
                // No path can hold these as names; left out, they would lead to what is above.
                "." => "%2E",
                ".." => "%2E%2E",
                other => other,
            }));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Self(url)
    }
}

impl FromStr for OutgoingUrl {
    type Err = String;

    /// An error never repeats the text: it may hold a credential.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().count() > CHARS_MAX {
            return Err(format!("is longer than {CHARS_MAX} characters"));
        }
        // The parser would take these away in silence.
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err("must not hold spaces, control characters or backslashes".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must begin with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user name or a password".to_owned());
        }
        if url.fragment().is_some() {
            return Err("must not hold a fragment (#)".to_owned());
        }
        match url.host_str() {
            None | Some("") => Err("must name a host".to_owned()),
            Some(_) => Ok(Self(url)),
        }
    }
}

impl TryFrom<String> for OutgoingUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for OutgoingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for OutgoingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutgoingUrl({self}/…)")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn url(text: &str) -> OutgoingUrl {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_scheme_and_the_host_are_shown() {
        let secret = url("https://hooks.example:8443/services/T0/s3cret?token=s3cret");
        assert_eq!(secret.to_string(), "https://hooks.example:8443");
        assert_eq!(format!("{secret:?}"), "OutgoingUrl(https://hooks.example:8443/…)");
        assert_eq!(secret.expose().path(), "/services/T0/s3cret");
    }

    #[test]
    fn what_is_no_plain_web_address_is_refused_without_repeating_it() {
        for text in [
            "",
            "/s3cret",
            "s3cret.example/x",
            "ftp://s3cret.example",
            "file:///s3cret",
            "data:s3cret",
            "http://",
            "http:///",
            "https://s3cret@host.example/",
            "https://user:s3cret@host.example/",
            "https://:s3cret@host.example/",
            "https://host.example/#s3cret",
            "https://host.example/#",
            " https://host.example/s3cret",
            "https://host.example/s3\ncret",
            "https:\\\\host.example\\s3cret",
            "https://host.example:99999/s3cret",
            "https://1.2.3.4.5/s3cret",
        ] {
            let error = text.parse::<OutgoingUrl>().unwrap_err();
            assert!(!error.contains("s3cret"), "{text:?}: {error}");
        }
        assert!(format!("https://host.example/{}", "a".repeat(CHARS_MAX)).parse::<OutgoingUrl>().is_err());
    }

    #[test]
    fn an_address_in_place_of_a_name_is_seen_however_it_is_written() {
        for (text, literal) in [
            ("http://127.0.0.1/", Some("127.0.0.1")),
            ("http://127.1/", Some("127.0.0.1")),
            ("http://0x7f000001/", Some("127.0.0.1")),
            ("http://2130706433/", Some("127.0.0.1")),
            ("http://[::1]:80/", Some("::1")),
            ("http://[::ffff:10.0.0.1]/", Some("::ffff:10.0.0.1")),
            ("http://localhost/", None),
            ("http://10.0.0.1.example/", None),
        ] {
            assert_eq!(url(text).literal(), literal.map(|address| address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_added_to_a_url_cannot_lead_elsewhere() {
        for (base, segments, query, whole) in [
            (
                "https://h.example",
                &["api", "t 1"][..],
                &[("a", "1&b=2")][..],
                "https://h.example/api/t%201?a=1%26b%3D2",
            ),
            ("https://h.example/v1/", &["a/b?c#d"], &[], "https://h.example/v1/a%2Fb%3Fc%23d"),
            ("https://h.example/v1?k=1", &["x"], &[("q", "ü")], "https://h.example/v1/x?k=1&q=%C3%BC"),
            ("https://h.example/v1", &[], &[], "https://h.example/v1"),
        ] {
            assert_eq!(url(base).with(segments, query).expose().as_str(), whole);
        }
        let up = url("https://h.example/api/tenant").with(&["..", "..", "x"], &[]);
        assert!(up.expose().path().starts_with("/api/tenant/"), "{}", up.expose().path());
    }
}
