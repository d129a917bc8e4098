//! What somebody says of a customer, as a JSON object: read strictly, with everything that is wrong named at once.
//!
//! The door and the import read the same. No value is ever repeated in a problem.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::domain::address::EmailAddress;
use crate::domain::contact::{
    CONSENT_SOURCE_CHARS_MAX, CONSENTS_MAX, Culture, CustomerId, FIELD_CHARS_MAX, FIELDS_MAX, GivenConsent,
    KEY_CHARS_MAX, NAME_CHARS_MAX, NewContact, Origin, ZoneName, line,
};
use crate::domain::submission::FieldError;

/// The fields there are.
const KNOWN: &str = "email, name, culture, timezone, consent and fields";

/// What was said of a customer.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// Their address.
    pub email: EmailAddress,
    /// Their name.
    pub name: Option<String>,
    /// Their language.
    pub culture: Option<Culture>,
    /// Where their clock is.
    pub timezone: Option<ZoneName>,
    /// What they agreed to, by name.
    pub consent: BTreeMap<String, GivenConsent>,
    /// What else the brand wants to find here.
    pub fields: BTreeMap<String, Value>,
}

impl Details {
    /// As a contact of this customer.
    #[must_use]
    pub fn into_contact(self, customer: CustomerId, origin: Origin, at: Timestamp) -> NewContact {
        let Self { email, name, culture, timezone, consent, fields } = self;
        NewContact { customer, email, name, culture, timezone, consent, fields, origin, at }
    }
}

/// Reads what was said. A field that is null counts as not said; one that is not known is refused.
pub fn read(said: &Map<String, Value>, now: Timestamp) -> Result<Details, Vec<FieldError>> {
    let mut reading = Reading { said, now, wrong: Vec::new() };
    for name in said.keys() {
        if !matches!(name.as_str(), "email" | "name" | "culture" | "timezone" | "consent" | "fields") {
            reading.say(pointer("", name), format!("unknown; a contact has {KNOWN}"));
        }
    }
    let address = |text: &str| text.trim().parse::<EmailAddress>().map_err(|error| error.to_string());
    let email = reading.parsed("email", address);
    if email.is_none() && reading.given("email").is_none() {
        reading.say("/email".to_owned(), "required");
    }
    let name = reading.parsed("name", |text| line(text, NAME_CHARS_MAX));
    let culture = reading.parsed("culture", str::parse);
    let timezone = reading.parsed("timezone", str::parse);
    let consent = reading.consent();
    let fields = reading.fields();
    match email {
        Some(email) if reading.wrong.is_empty() => Ok(Details { email, name, culture, timezone, consent, fields }),
        _ => Err(reading.wrong),
    }
}

struct Reading<'s> {
    said: &'s Map<String, Value>,
    now: Timestamp,
    wrong: Vec<FieldError>,
}

impl<'s> Reading<'s> {
    fn say(&mut self, pointer: String, detail: impl Into<String>) {
        self.wrong.push(FieldError::new(pointer, detail));
    }

    fn given(&self, name: &str) -> Option<&'s Value> {
        self.said.get(name).filter(|value| !value.is_null())
    }

    fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match self.given(name)? {
            Value::String(text) => parse(text),
            _ => Err("must be text".to_owned()),
        };
        parsed.map_err(|detail| self.say(format!("/{name}"), detail)).ok()
    }

    /// The entries of an object whose keys fit.
    fn entries(&mut self, name: &str, count_max: usize) -> Vec<(&'s String, &'s Value)> {
        let entries = match self.given(name) {
            None => return Vec::new(),
            Some(Value::Object(entries)) => entries,
            Some(_) => {
                self.say(format!("/{name}"), "must be an object");
                return Vec::new();
            }
        };
        if entries.len() > count_max {
            self.say(format!("/{name}"), format!("more than {count_max}"));
            return Vec::new();
        }
        let mut fit = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match line(key, KEY_CHARS_MAX) {
                Ok(written) if written == *key => fit.push((key, value)),
                Ok(_) => self.say(pointer(name, key), "a name without white space around it"),
                Err(detail) => self.say(pointer(name, key), format!("a name {detail}")),
            }
        }
        fit
    }

    fn fields(&mut self) -> BTreeMap<String, Value> {
        let mut fields = BTreeMap::new();
        for (key, value) in self.entries("fields", FIELDS_MAX) {
            let wrong = match value {
                Value::Null => continue,
                Value::String(text) if text.contains('\0') => Some("NUL is not allowed".to_owned()),
                Value::String(text) if text.chars().count() > FIELD_CHARS_MAX => {
                    Some(format!("longer than {FIELD_CHARS_MAX} characters"))
                }
                Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
                Value::Array(_) | Value::Object(_) => Some("must be text, a number, true or false".to_owned()),
            };
            match wrong {
                Some(detail) => self.say(pointer("fields", key), detail),
                None => drop(fields.insert(key.clone(), value.clone())),
            }
        }
        fields
    }

    fn consent(&mut self) -> BTreeMap<String, GivenConsent> {
        let mut consents = BTreeMap::new();
        for (key, value) in self.entries("consent", CONSENTS_MAX) {
            let base = pointer("consent", key);
            let Value::Object(given) = value else {
                self.say(base, "must be an object of granted, at and source");
                continue;
            };
            if let Some(consent) = self.one_consent(&base, given) {
                consents.insert(key.clone(), consent);
            }
        }
        consents
    }

    fn one_consent(&mut self, base: &str, given: &Map<String, Value>) -> Option<GivenConsent> {
        let mut consent = GivenConsent { granted: false, at: None, source: None };
        let mut granted = None;
        for (name, value) in given {
            let read = match (name.as_str(), value) {
                ("granted", Value::Bool(word)) => {
                    granted = Some(*word);
                    Ok(())
                }
                ("granted", _) => Err("must be true or false".to_owned()),
                ("at" | "source", Value::Null) => Ok(()),
                ("at", Value::String(text)) => self.time(text).map(|at| consent.at = Some(at)),
                ("source", Value::String(text)) => {
                    line(text, CONSENT_SOURCE_CHARS_MAX).map(|source| consent.source = Some(source))
                }
                ("at" | "source", _) => Err("must be text".to_owned()),
                _ => Err("unknown; a consent has granted, at and source".to_owned()),
            };
            if let Err(detail) = read {
                self.say(format!("{base}{}", pointer("", name)), detail);
            }
        }
        if granted.is_none() && !given.contains_key("granted") {
            self.say(format!("{base}/granted"), "required");
        }
        Some(GivenConsent { granted: granted?, ..consent })
    }

    fn time(&self, text: &str) -> Result<Timestamp, String> {
        let at: Timestamp =
            text.parse().map_err(|_| "not a time with its offset, as in 2026-01-31T09:00:00Z".to_owned())?;
        if at <= self.now { Ok(at) } else { Err("lies ahead".to_owned()) }
    }
}

/// A JSON pointer (RFC 6901) to a key below `base`; to `base` itself when the key is not fit to be shown: too long, with
/// control characters, or perhaps an address.
fn pointer(base: &str, key: &str) -> String {
    let base = if base.is_empty() { String::new() } else { format!("/{base}") };
    let fits = key.chars().count() <= KEY_CHARS_MAX && !key.chars().any(|c| c.is_control() || c == '@');
    if fits { format!("{base}/{}", key.replace('~', "~0").replace('/', "~1")) } else { base }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-03-01T00:00:00Z".parse().unwrap()
    }

    fn given(said: &Value) -> Result<Details, Vec<FieldError>> {
        read(said.as_object().unwrap(), now())
    }

    #[test]
    fn everything_there_is_to_say_is_read() {
        let details = given(&json!({
            "email": " Ann@Customer.Example ", "name": " Ann ", "culture": "fr_ca", "timezone": "europe/paris",
            "consent": {"newsletter": {"granted": true, "at": "2026-01-31T10:00:00+01:00", "source": "till"}, "sms": {"granted": false, "at": null}},
            "fields": {"tier": "gold", "points": 7, "vip": true, "gone": null},
        }));
        let details = details.unwrap();
        assert_eq!(details.email.as_str(), "Ann@customer.example");
        assert_eq!((details.name.as_deref(), details.culture.unwrap().as_str()), (Some("Ann"), "fr-CA"));
        assert_eq!(details.timezone.unwrap().as_str(), "Europe/Paris");
        assert_eq!(details.consent["newsletter"].at.unwrap().to_string(), "2026-01-31T09:00:00Z");
        assert_eq!(details.consent["sms"], GivenConsent { granted: false, at: None, source: None });
        assert_eq!(json!(details.fields), json!({"tier": "gold", "points": 7, "vip": true}));
        assert!(given(&json!({"email": "a@b.example", "name": null})).is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once_and_no_value_repeated() {
        let wrong = given(&json!({
            "email": "zq", "name": "zq\nzq", "culture": "zq zq", "timezone": "Zq/Zq", "eMail": "zq", "zq@zq.example": 1,
            "consent": {
                "a": true, "b": {}, "c": {"granted": "zq", "at": "zq", "by": "zq"}, "d": {"granted": true, "at": "2027-01-01T00:00:00Z"},
            },
            "fields": {"list": ["zq"], "long": "zq".repeat(501), " zq": 1, "x".repeat(101): 1},
        }));
        let wrong = wrong.unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/eMail",
                "",
                "/email",
                "/name",
                "/culture",
                "/timezone",
                "/consent/a",
                "/consent/b/granted",
                "/consent/c/at",
                "/consent/c/by",
                "/consent/c/granted",
                "/consent/d/at",
                "/fields/ zq",
                "/fields",
                "/fields/list",
                "/fields/long",
            ]
        );
        assert!(wrong.iter().all(|error| !error.detail.to_lowercase().contains("zq")), "{wrong:?}");
        assert_eq!(given(&json!({})).unwrap_err(), [FieldError::new("/email", "required")]);
        let many: Map<String, Value> = (0..51).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(given(&json!({"email": "a@b.example", "fields": many})).unwrap_err().len(), 1);
    }
}
