//! What a file may be of: its columns, and what a row of it says.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::contacts::{given, suppressed};
use crate::domain::contact::{CustomerId, NewContact, Origin};
use crate::domain::submission::FieldError;
use crate::domain::suppression::{NewSuppression, Source};

/// What the rows of a file say.
pub struct Sheet<T> {
    /// The columns there are, for whoever named another.
    pub(super) columns: &'static str,
    /// Fields with a column of their name, in any case.
    pub(super) fields: &'static [&'static str],
    /// Those without which nothing can be said.
    pub(super) required: &'static [&'static str],
    /// Whether there are columns of the brand's own: `consent.NAME` and `fields.NAME`.
    pub(super) has_own: bool,
    /// What a row says, or everything that is wrong with it.
    pub(super) read: Read<T>,
}

/// Reads a row that was dated so.
type Read<T> = fn(&mut Map<String, Value>, Timestamp) -> Result<T, Vec<FieldError>>;

impl Sheet<NewContact> {
    /// A file of contacts.
    pub const CONTACTS: Self = Self {
        columns: "customerId, email, name, culture, timezone, consent.NAME, consent.NAME.at, consent.NAME.source and \
                  fields.NAME",
        fields: &["customerId", "email", "name", "culture", "timezone"],
        required: &["customerId", "email"],
        has_own: true,
        read: contact,
    };
}

impl Sheet<NewSuppression> {
    /// A file of suppressions.
    pub const SUPPRESSIONS: Self = Self {
        columns: "recipient, scope, because and expiresAt",
        fields: &suppressed::FIELDS,
        required: &["recipient"],
        has_own: false,
        read: suppression,
    };
}

fn contact(said: &mut Map<String, Value>, now: Timestamp) -> Result<NewContact, Vec<FieldError>> {
    let customer = match said.remove("customerId") {
        None | Some(Value::Null) => Err("required".to_owned()),
        Some(Value::String(text)) => text.parse::<CustomerId>(),
        // A number that is kept as anything but itself would be another customer's.
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string().parse(),
        Some(Value::Number(_)) => Err("is a number that cannot be kept as it is: write it as text".to_owned()),
        Some(_) => Err("must be text".to_owned()),
    };
    match (customer, given::read(said, now)) {
        (Ok(customer), Ok(details)) => Ok(details.into_contact(customer, Origin::Import, now)),
        (Ok(_), Err(wrong)) => Err(wrong),
        (Err(detail), read) => {
            let mut wrong = vec![FieldError::new("/customerId", detail)];
            wrong.extend(read.err().unwrap_or_default());
            Err(wrong)
        }
    }
}

fn suppression(said: &mut Map<String, Value>, now: Timestamp) -> Result<NewSuppression, Vec<FieldError>> {
    suppressed::read(said, now).map(|said| said.into_suppression(Source::Import, now))
}
