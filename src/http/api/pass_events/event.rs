//! One pass event: whatever a script, a form or the platform wrote becomes a [`PassEvent`], or a list of what is wrong.
//!
//! Names are `camelCase`, `PascalCase` or `snake_case`; what the event is about stands beside its name or in an object of
//! its own. What only informs (where an install came from) is cut to measure; what identifies is refused when it does not
//! fit, since cut it would be somebody else's.

use hmac::digest::Digest as _;
use serde_json::json;
use sha2::Sha256;

use super::super::lenient::{
    Field, Fields, Node, Object, Problems, is_line, is_listed, items, name, only, text, unfolded,
};
use super::identifiers::identifiers;
use super::moment::moment;
use crate::domain::audit::hex;
use crate::domain::pass_event::{
    EventKind, ID_CHARS_MAX, PassEvent, RegistrationCounts, SOURCE_CHARS_MAX, SOURCE_TAGS_MAX, Source, WORD_CHARS_MAX,
    Wallet, Way,
};
use crate::domain::tenant::Tenant;
use crate::domain::time;

/// Where senders write what happened; the first that is there counts.
const EVENT: [&str; 4] = ["eventType", "event", "type", "name"];
/// Where senders write what it is about, if not beside it.
const DATA: [&str; 3] = ["properties", "data", "payload"];
/// Where senders write when it happened.
const TIMES: [&str; 5] = ["occurredAt", "timestamp", "eventTime", "time", "date"];
/// What the sample connector calls the customer.
const CUSTOMER_ID: &str = "customerId";

/// An event's fields: what it is about, then what stands around it.
struct Places<'a>(Vec<Fields<'a>>);

impl<'a> Places<'a> {
    fn of(objects: &[(&str, &'a Object)]) -> Self {
        Self(objects.iter().map(|(base, object)| Fields::in_any_writing(*base, object)).collect())
    }

    /// The first of these names that is given, in the innermost place that has it.
    fn given(&self, names: &[&str]) -> Vec<Field<'a>> {
        let each = names.iter().flat_map(|name| self.0.iter().map(|place| place.given(name)));
        each.into_iter().find(|given| !given.is_empty()).unwrap_or_default()
    }

    fn one(&self, names: &[&str], problems: &mut Problems) -> Option<Field<'a>> {
        only(self.given(names), problems)
    }

    /// A pointer to a field that is not there.
    fn missing(&self, name: &str) -> String {
        self.0.first().map(|place| place.pointer(name)).unwrap_or_default()
    }

    /// What names something, within its measure.
    fn name(&self, names: &[&str], chars_max: usize, problems: &mut Problems) -> Option<String> {
        let field = self.one(names, problems)?;
        let found = name(&field, problems).filter(|found| !found.is_empty())?;
        is_line(&field.pointer, &found, chars_max, problems).then_some(found)
    }

    /// What only informs: without control characters, cut to its measure.
    fn remark(&self, names: &[&str], chars_max: usize, problems: &mut Problems) -> Option<String> {
        let field = self.one(names, problems)?;
        let found = cut(&name(&field, problems)?, chars_max);
        Some(found).filter(|found| !found.is_empty())
    }
}

fn cut(remark: &str, chars_max: usize) -> String {
    remark.trim().chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

/// Reads one event of a tenant that stands at `base`. Problems are noted; with any of them there is no event.
pub(super) fn event(base: &str, node: &Node, tenant: &Tenant, way: Way, problems: &mut Problems) -> Option<PassEvent> {
    let Node::Object(outer) = node else {
        problems.add(base, "must be an object");
        return None;
    };
    let envelope = Places::of(&[(base, outer)]);
    let data = envelope.one(&DATA, problems).and_then(|field| unfolded(field, "an object", problems));
    let mut objects: Vec<(&str, &Object)> = vec![(base, outer)];
    if let Some(data) = &data {
        match as_object(data) {
            Some(inner) => objects.insert(0, inner),
            None => problems.add(&data.pointer, "must be an object"),
        }
    }
    let places = Places::of(&objects);
    let kind = match way {
        Way::Installation => is_installed(&places, problems),
        Way::Hook | Way::Webhook | Way::Backfill => kind(&envelope, &places, problems),
    };
    let wallet = wallet(&places, problems);
    let mut identifiers = identifiers(&objects, &tenant.identifiers, problems);
    if way == Way::Installation {
        for field in places.given(&[CUSTOMER_ID]) {
            identifiers.add(customer_identifier(tenant), &field.pointer, &field.node, problems);
        }
    }
    let additional = part(&places, "additionalInformation", problems);
    if let Some((pointer, object)) = additional.as_ref().and_then(as_object) {
        objects.insert(0, (pointer, object));
    }
    let within = Places::of(&objects);
    let (counts, source) = (counts(&within, problems), source(&within, problems));
    let identifiers = identifiers.into_map();
    let pass = places.name(&["passId"], ID_CHARS_MAX, problems);
    let (naming, detail) = match way {
        Way::Installation => (CUSTOMER_ID, "required"),
        Way::Hook | Way::Webhook | Way::Backfill => ("passId", "required: this, or an identifier of the customer"),
    };
    let names_customer = tenant.identifiers.iter().any(|known| identifiers.contains_key(known));
    if pass.is_none() && !names_customer && places.given(&[naming]).is_empty() {
        problems.add(places.missing(naming), detail);
    }
    let event_id = places.name(&["eventId"], ID_CHARS_MAX, problems);
    let event = PassEvent {
        pass_type: places.name(&["passType"], WORD_CHARS_MAX, problems),
        occurred_at: places.one(&TIMES, problems).and_then(|field| moment(field, problems)),
        kind: kind?,
        wallet: wallet?,
        pass,
        identifiers,
        counts,
        source,
        since: None,
        key: None,
        way,
    };
    let key = key(event_id, &event, node);
    Some(PassEvent { key, ..event })
}

fn as_object<'f>(field: &'f Field<'_>) -> Option<(&'f str, &'f Object)> {
    match &*field.node {
        Node::Object(object) => Some((&field.pointer, object)),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) | Node::List(_) => None,
    }
}

/// What happened: an install or a removal, and nothing else.
fn kind(envelope: &Places<'_>, places: &Places<'_>, problems: &mut Problems) -> Option<EventKind> {
    let mut given = envelope.given(&EVENT);
    if given.is_empty() {
        given = places.given(&EVENT);
    }
    let Some(field) = only(given, problems) else {
        problems.add(envelope.missing("event"), "required");
        return None;
    };
    let word = text(&field, problems)?;
    let kind = named(&word);
    if kind.is_none() {
        problems.add(field.pointer, "must be installed or uninstalled");
    }
    kind
}

/// The event of a name: `Pass:Installed`, `pass.installed`, `installed`.
fn named(word: &str) -> Option<EventKind> {
    let word = word.trim().to_lowercase().replace([':', '_', '-', ' '], ".");
    let word = word.strip_prefix("on").unwrap_or(&word);
    let word = word.strip_prefix("pass").unwrap_or(word);
    word.strip_prefix('.').unwrap_or(word).parse().ok()
}

/// What an event calls itself, for those that look at one that is no pass event.
pub(super) fn event_name(object: &Object) -> Option<String> {
    let field = Places::of(&[("", object)]).given(&EVENT).pop()?;
    let Node::Text(word) = &*field.node else { return None };
    Some(cut(word, WORD_CHARS_MAX)).filter(|word| !word.is_empty())
}

/// What the sample connector says: a flag. One that was changed may name the event instead.
fn is_installed(places: &Places<'_>, problems: &mut Problems) -> Option<EventKind> {
    let Some(field) = places.one(&["isInstalled"], problems) else {
        if places.given(&EVENT).is_empty() {
            problems.add(places.missing("isInstalled"), "required");
            return None;
        }
        return kind(places, places, problems);
    };
    match field.node.to_text().trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(EventKind::Installed),
        "false" | "0" | "no" => Some(EventKind::Uninstalled),
        _ => {
            problems.add(field.pointer, "must be true or false");
            None
        }
    }
}

fn wallet(places: &Places<'_>, problems: &mut Problems) -> Option<Wallet> {
    let Some(field) = places.one(&["device", "wallet"], problems) else {
        problems.add(places.missing("device"), "required");
        return None;
    };
    let word = text(&field, problems)?;
    word.parse().map_err(|detail: String| problems.add(field.pointer, detail)).ok()
}

/// What the sample connector's `customerId` is among the tenant's identifiers.
fn customer_identifier(tenant: &Tenant) -> &str {
    let own = tenant.identifiers.iter().find(|known| *known == CUSTOMER_ID);
    own.or(tenant.identifiers.first()).map_or(CUSTOMER_ID, String::as_str)
}

/// A part that is an object, or its JSON text.
fn part<'a>(places: &Places<'a>, name: &str, problems: &mut Problems) -> Option<Field<'a>> {
    let field = unfolded(places.one(&[name], problems)?, "an object", problems)?;
    if as_object(&field).is_none() {
        problems.add(&field.pointer, "must be an object");
    }
    Some(field)
}

fn counts(places: &Places<'_>, problems: &mut Problems) -> RegistrationCounts {
    let Some(information) = part(places, "registrationInformation", problems) else {
        return RegistrationCounts::default();
    };
    let Some(information) = as_object(&information) else { return RegistrationCounts::default() };
    let places = Places::of(&[information]);
    let mut count = |names: &str| {
        let field = places.one(&[names], problems)?;
        let count = name(&field, problems)?.parse();
        count.map_err(|_| problems.add(&field.pointer, "must be a count")).ok()
    };
    RegistrationCounts { active: count("activeRegistrationCount"), total: count("totalRegistrationCount") }
}

fn source(places: &Places<'_>, problems: &mut Problems) -> Source {
    let Some(source) = part(places, "registrationSource", problems) else { return Source::default() };
    let Some(source) = as_object(&source) else { return Source::default() };
    let places = Places::of(&[source]);
    Source {
        tags: tags(&places, problems),
        medium: places.remark(&["medium"], WORD_CHARS_MAX, problems),
        origin: places.remark(&["origin"], SOURCE_CHARS_MAX, problems),
        user_agent: places.remark(&["userAgent"], SOURCE_CHARS_MAX, problems),
    }
}

/// A list, its JSON text, one tag, or a form's `tags=a&tags=b`.
fn tags(places: &Places<'_>, problems: &mut Problems) -> Vec<String> {
    let mut tags = Vec::new();
    for field in places.given(&["tags"]) {
        let is_one = matches!(&*field.node, Node::Text(text) if !text.trim_start().starts_with('['));
        let field = if is_one { Some(field) } else { unfolded(field, "a list", problems) };
        let Some(field) = field else { continue };
        let nodes = if is_listed(&field.node) { items(&field, problems) } else { vec![&*field.node] };
        for node in nodes.into_iter().filter(|node| !node.is_absent()).take(SOURCE_TAGS_MAX) {
            let item = Field { pointer: field.pointer.clone(), node: std::borrow::Cow::Borrowed(node) };
            let tag = name(&item, problems).map(|tag| cut(&tag, WORD_CHARS_MAX)).unwrap_or_default();
            if !tag.is_empty() && !tags.contains(&tag) && tags.len() < SOURCE_TAGS_MAX {
                tags.push(tag);
            }
        }
    }
    tags
}

/// By what a repeat of an event is known. The first letters keep different kinds of it apart.
///
/// Hooks without an id are known by nothing: an install, a removal and the same install again are three changes, and what
/// is no news the ledger tells by the state it finds. The platform's webhooks are repeated as they were.
fn key(event_id: Option<String>, event: &PassEvent, node: &Node) -> Option<String> {
    let digest = |text: String| hex(&Sha256::digest(text.as_bytes()));
    match (event_id, event.way) {
        (Some(id), _) => Some(format!("id:{id}")),
        (None, Way::Hook | Way::Installation | Way::Backfill) => None,
        (None, Way::Webhook) => Some(match event.occurred_at {
            Some(at) => {
                let whose = event.pass.is_none().then_some(&event.identifiers);
                let named = json!([event.kind, event.wallet, event.pass, whose, time::text(at)]);
                format!("at:{}", digest(named.to_string()))
            }
            None => format!("body:{}", digest(node.to_text())),
        }),
    }
}

#[cfg(test)]
mod tests;
