//! How a tenant's CRM is asked for a customer whose address is not known here.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use secrecy::SecretString;

use super::contact::CustomerId;
use super::outgoing_url::OutgoingUrl;
use super::secret::Secret;

/// What stands for the customer in a URL.
const PLACE: &str = "{customerId}";

/// What a tenant's file says of its CRM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactLookup {
    /// Whom to ask.
    pub url: LookupUrl,
    /// A header that proves who asks: its name and its value.
    pub header: Option<(String, Secret)>,
    /// Where in the answer everything stands.
    pub pointers: Pointers,
    /// How long one try may take, and how long a customer waits for a free place.
    pub timeout: Duration,
    /// How often it is tried again at most.
    pub retries: u32,
    /// How long what was found holds.
    pub cache_for: Duration,
    /// How long nobody asks again for one who was not found.
    pub not_found_for: Duration,
    /// Customers in a row without an answer after which nobody is asked for a while.
    pub breaker_failures: u32,
    /// How long that is; then one customer tries it.
    pub breaker_open: Duration,
    /// Questions under way at once.
    pub concurrent: usize,
    /// Customers remembered who were not found.
    pub remembered_max: usize,
    /// Bytes of an answer at most.
    pub answer_max: usize,
}

/// JSON pointers (RFC 6901) into an answer; `None`: not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointers {
    /// To the address.
    pub email: String,
    /// To the name.
    pub name: Option<String>,
    /// To the culture.
    pub culture: Option<String>,
    /// To the time zone.
    pub timezone: Option<String>,
}

/// A URL with a place for the customer. It may hold a credential, so it is never shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupUrl(Secret);

impl LookupUrl {
    /// A URL whose path or query holds `{customerId}`; an error never repeats it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let first = text.find(PLACE).ok_or_else(|| format!("must hold {PLACE}"))?;
        let filled: OutgoingUrl = text.replace(PLACE, "C1").parse()?;
        let host_ends = text.find("://").map_or(text.len(), |at| {
            let rest = &text[at + 3..];
            at + 3 + rest.find(['/', '?']).unwrap_or(rest.len())
        });
        if first < host_ends || filled.expose().host_str().is_none() {
            return Err(format!("{PLACE} must stand in the path or the query"));
        }
        Ok(Self(Secret::from(SecretString::from(text))))
    }

    /// The URL of a customer. Nothing in their identifier leads elsewhere: every character that could is percent-encoded,
    /// and the two names that no path can hold have none.
    pub fn of(&self, customer: &CustomerId) -> Result<OutgoingUrl, Unaskable> {
        let customer = customer.as_str();
        if matches!(customer, "." | "..") {
            return Err(Unaskable::NoName);
        }
        // With another customer it was a URL: what can be wrong with this one is its length.
        self.0.expose().replace(PLACE, &encoded(customer)).parse().map_err(|_| Unaskable::TooLong)
    }

    /// The address that stands in it in place of a name.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        self.0.expose().replace(PLACE, "C1").parse::<OutgoingUrl>().ok()?.literal()
    }
}

/// Why a customer cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unaskable {
    /// No path can hold the identifier.
    NoName,
    /// The URL would be longer than any may be.
    TooLong,
}

/// Everything but unreserved characters (RFC 3986 section 2.3) percent-encoded.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    #[test]
    fn a_customer_s_identifier_stays_where_it_was_put() {
        let url = LookupUrl::parse("https://crm.example/v1/customers/{customerId}?key=s3cret").unwrap();
        for (customer, path) in [
            ("C-1", "/v1/customers/C-1"),
            ("ann@customer.example", "/v1/customers/ann%40customer.example"),
            ("a/../b", "/v1/customers/a%2F..%2Fb"),
            ("a?b#c&d=%2F e\u{e9}", "/v1/customers/a%3Fb%23c%26d%3D%252F%20e%C3%A9"),
            ("a\\b", "/v1/customers/a%5Cb"),
            ("...", "/v1/customers/..."),
        ] {
            let asked = url.of(&customer.parse().unwrap()).unwrap();
            assert_eq!(asked.expose().path(), path, "{customer}");
            assert_eq!(asked.expose().query(), Some("key=s3cret"), "{customer}");
        }
        for customer in [".", ".."] {
            assert_eq!(url.of(&customer.parse().unwrap()), Err(Unaskable::NoName));
        }
        assert_eq!(url.of(&"\u{20ac}".repeat(250).parse().unwrap()), Err(Unaskable::TooLong));
        assert_eq!(url.literal(), None);
        let literal = LookupUrl::parse("http://127.1/{customerId}").unwrap().literal();
        assert_eq!(literal, Some("127.0.0.1".parse().unwrap()));
        assert!(!format!("{url:?}").contains("s3cret"));
    }

    #[test]
    fn a_url_without_a_place_for_the_customer_or_with_it_in_the_host_is_refused() {
        for text in [
            "",
            "https://crm.example/s3cret",
            "https://{customerId}.example/s3cret",
            "https://crm.example:{customerId}/s3cret",
            "{customerId}://s3cret",
            "ftp://crm.example/s3cret/{customerId}",
        ] {
            let error = LookupUrl::parse(text).unwrap_err();
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
        assert!(LookupUrl::parse("http://10.0.0.7:8080/find?id={customerId}").is_ok());
    }
}
