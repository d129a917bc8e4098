//! Who is not to be mailed, or is again, as a JSON object says it: read strictly, everything that is wrong named at once.
//!
//! The door and the import read the same. No value is ever repeated in a problem.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::domain::address::{EmailAddress, Mailbox};
use crate::domain::submission::FieldError;
use crate::domain::suppression::{NewSuppression, Source, SuppressionScope};
use crate::domain::verb::Because;
use crate::store::Lift;

/// What a table program would take for a formula when it opens a list of these.
const FORMULA_STARTS: [char; 4] = ['=', '+', '-', '@'];

/// What may be said.
pub const FIELDS: [&str; 4] = ["recipient", "scope", "because", "expiresAt"];
const TIME_WANTED: &str = "must be a time as in RFC 3339: 2027-01-31T12:00:00Z";

/// What was said of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whom.
    pub recipient: EmailAddress,
    /// Of which mails; `None`: not said.
    pub scope: Option<SuppressionScope>,
    /// Why.
    pub because: Option<Because>,
    /// Until when; `None`: for good.
    pub expires_at: Option<Timestamp>,
}

impl Said {
    /// As a suppression: of everything, if nothing else was said.
    #[must_use]
    pub fn into_suppression(self, source: Source, at: Timestamp) -> NewSuppression {
        let Self { recipient, scope, because, expires_at } = self;
        let scope = scope.unwrap_or(SuppressionScope::Everything);
        NewSuppression { recipient, scope, source, because, expires_at, at }
    }

    /// As the end of one: of all of theirs, if nothing else was said.
    #[must_use]
    pub fn into_lift(self, at: Timestamp) -> Lift {
        let Self { recipient, scope, because, .. } = self;
        Lift { recipient, scope, because, at }
    }
}

/// Reads what was said at `now`. A field that is null counts as not said; one that is not known is refused.
pub fn read(said: &Map<String, Value>, now: Timestamp) -> Result<Said, Vec<FieldError>> {
    let mut wrong = Vec::new();
    for name in said.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        wrong.push(FieldError::new(pointer(name), "unknown; there are recipient, scope, because and expiresAt"));
    }
    let recipient = text(said, "recipient", &mut wrong, |text| {
        text.trim().parse::<Mailbox>().map(|to| to.address).map_err(|error| error.to_string())
    });
    if recipient.is_none() && said.get("recipient").is_none_or(Value::is_null) {
        wrong.push(FieldError::new("/recipient", "required"));
    }
    let scope = text(said, "scope", &mut wrong, |text| text.trim().parse());
    let because = text(said, "because", &mut wrong, because);
    let expires_at = text(said, "expiresAt", &mut wrong, |text| match text.trim() {
        // A column that is empty in this row.
        "" => Ok(None),
        text => text.parse().map_err(|_| TIME_WANTED.to_owned()).and_then(|at| later(at, now)).map(Some),
    });
    match recipient {
        Some(recipient) if wrong.is_empty() => Ok(Said { recipient, scope, because, expires_at: expires_at.flatten() }),
        _ => Err(wrong),
    }
}

fn later(at: Timestamp, now: Timestamp) -> Result<Timestamp, String> {
    if at > now { Ok(at) } else { Err("must be later than now".to_owned()) }
}

fn because(text: &str) -> Result<Because, String> {
    if text.trim_start().starts_with(FORMULA_STARTS) {
        return Err("must not begin like a formula (= + - @)".to_owned());
    }
    text.parse()
}

fn text<T>(
    said: &Map<String, Value>,
    name: &'static str,
    wrong: &mut Vec<FieldError>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let parsed = match said.get(name)? {
        Value::Null => return None,
        Value::String(text) => parse(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err("must be text".to_owned()),
    };
    parsed.map_err(|detail| wrong.push(FieldError::new(format!("/{name}"), detail))).ok()
}

/// A key as a JSON pointer (RFC 6901), at most as long as a key of ours could be.
#[must_use]
pub fn pointer(key: &str) -> String {
    let key: String = key.chars().filter(|c| !c.is_control() && *c != '@').take(32).collect();
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use serde_json::json;

    fn said(value: &Value) -> Result<Said, Vec<FieldError>> {
        read(value.as_object().unwrap(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn everything_is_meant_unless_less_is_said() {
        let said = said(&json!({ "recipient": " Ann <ann@customer.example> ", "scope": null })).unwrap();
        let new = said.clone().into_suppression(Source::Operator, Timestamp::UNIX_EPOCH);
        assert_eq!((new.recipient.as_str(), new.scope), ("ann@customer.example", SuppressionScope::Everything));
        assert_eq!(said.into_lift(Timestamp::UNIX_EPOCH).scope, None, "all of theirs");
    }

    #[test]
    fn one_may_end_by_itself_but_not_in_the_past() {
        let until = |at: &str| said(&json!({ "recipient": "ann@customer.example", "expiresAt": at }));
        let at = "2027-01-31T12:00:00Z";
        assert_eq!(until(at).unwrap().expires_at, Some(at.parse().unwrap()));
        assert_eq!(until(" ").unwrap().expires_at, None);
        for wrong in ["1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "30d"] {
            assert_eq!(until(wrong).unwrap_err()[0].pointer, "/expiresAt", "{wrong}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once_and_never_repeated() {
        let wrong = said(&json!({ "recipient": "zq", "scope": "zq", "because": "=zq()", "zq@x": 1, "email": "zq" }));
        let wrong = wrong.unwrap_err();
        let mut pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/because", "/email", "/recipient", "/scope", "/zqx"]);
        assert!(wrong.iter().all(|error| !error.detail.contains("zq")), "{wrong:?}");
        assert_eq!(said(&json!({})).unwrap_err(), [FieldError::new("/recipient", "required")]);
        assert_eq!(said(&json!({ "recipient": 7 })).unwrap_err(), [FieldError::new("/recipient", "must be text")]);
    }
}
