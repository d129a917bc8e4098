//! A page of the Pass API, read leniently and without the passes' secrets.
//!
//! What a pass's `providers` looks like is documented only as "the installation date per wallet". All of a date, null, a
//! boolean and an object are taken, under any of the words for a wallet; anything else is said to be not understood, and
//! nothing is made of it. Fields that nobody needs, `secret` first of all, are skipped while reading: they never become a
//! value of ours.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::domain::pass_api::{ApiPass, ApiWallet};
use crate::domain::pass_event::{
    ID_CHARS_MAX, IDENTIFIER_NAME_CHARS_MAX, IDENTIFIERS_MAX, WORD_CHARS_MAX, Wallet, normalized_identifier,
};

/// Numbers from here on are milliseconds since 1970, smaller ones seconds: the year 5138, or March 1973.
const MILLIS_FROM: i64 = 100_000_000_000;
/// Words for the moment of an installation, without case.
const SINCE: [&str; 9] = [
    "installationdate",
    "installedat",
    "installeddate",
    "installdate",
    "installedon",
    "installed",
    "date",
    "createdat",
    "creationdate",
];
/// Words for whether it is there, without case.
const IS_INSTALLED: [&str; 2] = ["installed", "isinstalled"];
/// Words for the moment of a removal, without case.
const REMOVED: [&str; 4] = ["uninstallationdate", "uninstalledat", "removedat", "deletedat"];

/// What was on a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Its passes.
    pub(super) passes: Vec<ApiPass>,
    /// Items, those without a usable id included.
    pub(super) items: usize,
    /// A number for each item without a usable id that has a date, made of what else is read of it: it stands in for the
    /// id where pages are told apart. Without a date two items may look the same and be two.
    pub(super) nameless: Vec<u64>,
    /// Things that were not understood and belong to no pass's wallet: items without an id, wallets nobody knows.
    pub(super) strange: u64,
}

/// A body that is not a list of passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not a list of passes")]
pub(super) struct NotAPage;

impl Page {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, NotAPage> {
        let items: Vec<Item> = serde_json::from_slice(body).map_err(|_| NotAPage)?;
        let mut page = Self { items: items.len(), ..Self::default() };
        for item in items {
            let Some(id) = item.id.clone().and_then(id_text) else {
                page.strange += 1;
                page.nameless.extend(item.created_at.is_some().then(|| item.number()));
                continue;
            };
            let wallets = Wallets::read(item.providers);
            page.strange += wallets.strange;
            page.passes.push(ApiPass {
                id,
                created_at: item.created_at.as_ref().and_then(time),
                pass_type: item.pass_type.and_then(word),
                identifiers: identifiers(item.identifiers),
                apple: wallets.apple,
                google: wallets.google,
            });
        }
        Ok(page)
    }
}

/// An item of the list: what is needed of it.
#[derive(Default, Hash)]
struct Item {
    id: Option<Value>,
    created_at: Option<Value>,
    pass_type: Option<Value>,
    identifiers: Option<Value>,
    providers: Option<Value>,
}

impl Item {
    fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pass")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                let mut item = Item::default();
                while let Some(name) = map.next_key::<String>()? {
                    let member = match plain(&name).as_str() {
                        "id" | "passid" => &mut item.id,
                        "creationdate" => &mut item.created_at,
                        "passtype" => &mut item.pass_type,
                        "identifiers" => &mut item.identifiers,
                        "providers" => &mut item.providers,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *member = Some(map.next_value()?);
                }
                Ok(item)
            }

            fn visit_unit<E: de::Error>(self) -> Result<Item, E> {
                Ok(Item::default())
            }
        }
        deserializer.deserialize_any(Members)
    }
}

/// What `providers` says.
struct Wallets {
    apple: ApiWallet,
    google: ApiWallet,
    strange: u64,
}

impl Wallets {
    fn read(providers: Option<Value>) -> Self {
        let mut found = Self { apple: ApiWallet::Absent, google: ApiWallet::Absent, strange: 0 };
        match providers {
            Some(Value::Null) => {}
            Some(Value::Object(members)) => found.read_members(members),
            // That nothing is said is not that it is in no wallet.
            None | Some(_) => (found.apple, found.google) = (ApiWallet::NotUnderstood, ApiWallet::NotUnderstood),
        }
        found
    }

    fn read_members(&mut self, members: Map<String, Value>) {
        let mut told = Vec::new();
        for (name, value) in members {
            let Ok(wallet) = name.parse::<Wallet>() else {
                self.strange += u64::from(!value.is_null());
                continue;
            };
            let slot = match wallet {
                Wallet::Apple => &mut self.apple,
                Wallet::Google => &mut self.google,
            };
            let said = in_wallet(&value);
            // Two words for one wallet that do not say the same say nothing.
            *slot = if told.contains(&wallet) && *slot != said { ApiWallet::NotUnderstood } else { said };
            told.push(wallet);
        }
    }
}

fn in_wallet(value: &Value) -> ApiWallet {
    match value {
        Value::Null | Value::Bool(false) => ApiWallet::Absent,
        Value::Bool(true) => ApiWallet::Installed(None),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "" | "false" => ApiWallet::Absent,
            "true" => ApiWallet::Installed(None),
            _ => by_date(value),
        },
        Value::Number(_) => by_date(value),
        Value::Object(members) => in_object(members),
        Value::Array(_) => ApiWallet::NotUnderstood,
    }
}

fn by_date(value: &Value) -> ApiWallet {
    match time(value) {
        // What .NET writes for no date at all.
        Some(at) if at.to_zoned(TimeZone::UTC).year() <= 1 => ApiWallet::Absent,
        Some(at) => ApiWallet::Installed(Some(at)),
        None => ApiWallet::NotUnderstood,
    }
}

/// An object says it by a flag, by the date of the installation, and by that of the removal: of two dates the later one
/// holds. A removal is read as an installation is, so that no date, however it is written, is no removal.
fn in_object(members: &Map<String, Value>) -> ApiWallet {
    if let Some(at) = seconds_and_nanos(members) {
        return ApiWallet::Installed(Some(at));
    }
    // The word that says it most plainly comes first.
    let of = |words: &[&str], fits: fn(&Value) -> bool| {
        let named = |word: &&str| members.iter().find(|(name, value)| plain(name) == **word && fits(value));
        words.iter().find_map(named).map(|(_, value)| value)
    };
    let flag = of(&IS_INSTALLED, Value::is_boolean).and_then(Value::as_bool);
    if flag == Some(false) {
        return ApiWallet::Absent;
    }
    let installed = match (of(&SINCE, |value| !value.is_boolean()), flag) {
        (Some(Value::Null), None) => ApiWallet::Absent,
        (Some(Value::Null) | None, Some(true)) => ApiWallet::Installed(None),
        (Some(date), _) => by_date(date),
        (None, _) => ApiWallet::NotUnderstood,
    };
    match (installed, removed(members)) {
        (said, ApiWallet::Absent) => said,
        (_, ApiWallet::NotUnderstood) => ApiWallet::NotUnderstood,
        (ApiWallet::Installed(Some(since)), ApiWallet::Installed(Some(until))) if since > until => installed,
        // A flag that says it is there, and a removal after which it was not installed: only one can be right.
        (_, ApiWallet::Installed(_)) if flag == Some(true) => ApiWallet::NotUnderstood,
        // A date of the installation that cannot be read may be the later one.
        (ApiWallet::NotUnderstood, ApiWallet::Installed(_)) if of(&SINCE, |_| true).is_some() => installed,
        (_, ApiWallet::Installed(_)) => ApiWallet::Absent,
    }
}

/// The last removal that is told: `Installed` with its date, `Absent` if there is none.
fn removed(members: &Map<String, Value>) -> ApiWallet {
    let told = members.iter().filter(|(name, _)| REMOVED.contains(&plain(name).as_str()));
    told.map(|(_, value)| in_wallet(value)).fold(ApiWallet::Absent, |last, said| match (last, said) {
        (ApiWallet::NotUnderstood, _) | (_, ApiWallet::NotUnderstood) => ApiWallet::NotUnderstood,
        (ApiWallet::Absent, said) => said,
        (last, ApiWallet::Absent) => last,
        // One without a date may be the later one.
        (ApiWallet::Installed(one), ApiWallet::Installed(other)) => {
            ApiWallet::Installed(one.zip(other).map(|(one, other)| one.max(other)))
        }
    })
}

/// A name without case, dashes and underscores.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// A moment, however it is written; one without an offset is in UTC.
fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            let civil = || text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from)).ok();
            let in_utc = || civil()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
            text.parse().ok().or_else(in_utc)
        }
        Value::Number(number) => {
            let number = number.as_i64().filter(|number| *number > 0)?;
            let millis = if number >= MILLIS_FROM { Some(number) } else { number.checked_mul(1_000) };
            Timestamp::from_millisecond(millis?).ok()
        }
        Value::Object(members) => seconds_and_nanos(members),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

fn seconds_and_nanos(members: &Map<String, Value>) -> Option<Timestamp> {
    let number = |wanted: &str| members.iter().find(|(name, _)| plain(name) == wanted).and_then(|(_, it)| it.as_i64());
    let nanos = number("nanos").unwrap_or_default();
    Timestamp::new(number("seconds")?, i32::try_from(nanos).ok()?).ok()
}

/// An id that may be kept: a number or text of some characters.
fn id_text(value: Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        // Any other number would be kept as another one.
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let fits = (1..=ID_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then_some(text)
}

fn word(value: Value) -> Option<String> {
    id_text(value).filter(|word| word.chars().count() <= WORD_CHARS_MAX)
}

/// Identifiers that may be kept; the others, and what is more than a pass may have, are left out.
fn identifiers(value: Option<Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(members)) = value else { return BTreeMap::new() };
    let kept = members.into_iter().filter_map(|(name, value)| {
        let text = match value {
            Value::Bool(flag) => flag.to_string(),
            other => id_text(other)?,
        };
        let named = (1..=IDENTIFIER_NAME_CHARS_MAX).contains(&name.chars().count()) && !name.contains(char::is_control);
        let value = normalized_identifier(&text);
        (named && !value.is_empty()).then_some((name, value))
    });
    kept.take(IDENTIFIERS_MAX).collect()
}

#[cfg(test)]
mod tests;
