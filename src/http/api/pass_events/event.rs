//! One pass event: whatever a script, a form or the platform wrote becomes a [`PassEvent`], or a list of what is wrong.
//!
//! Names are `camelCase`, `PascalCase` or `snake_case`; what the event is about stands beside its name or in an object of
//! its own. What only informs (where an install came from) is cut to measure, and left out when it is something else;
//! what identifies is refused when it does not fit, since cut it would be somebody else's.

use hmac::digest::Digest as _;
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;

use super::super::lenient::{
    Field, Fields, Node, Object, Problems, is_line, is_listed, is_lost, items, name, only, text, unfolded,
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

/// Where senders write what happened; the first that is an event counts.
const EVENT: [&str; 4] = ["eventType", "event", "type", "name"];
/// Where senders write what it is about, if not beside it.
const DATA: [&str; 3] = ["properties", "data", "payload"];
/// Where senders write when it happened.
const TIMES: [&str; 5] = ["occurredAt", "timestamp", "eventTime", "time", "date"];
/// How the platform's events begin that are not ours.
const TOPICS: [&str; 3] = ["pass.", "customer.", "redirect."];
/// What the sample connector calls the customer.
const CUSTOMER_ID: &str = "customerId";

/// An event's fields: what it is about, then what stands around it.
struct Places<'a>(Vec<Fields<'a>>);

impl<'a> Places<'a> {
    fn of(objects: &[(&str, &'a Object)]) -> Self {
        Self(objects.iter().map(|(base, object)| Fields::in_any_writing(*base, object)).collect())
    }

    /// What is given of these names, one after the other, in the innermost places first.
    fn each_given(&self, names: &[&str]) -> impl Iterator<Item = Vec<Field<'a>>> {
        let each = names.iter().flat_map(|name| self.0.iter().map(|place| place.given(name)));
        each.filter(|given| !given.is_empty())
    }

    /// The first of them.
    fn given(&self, names: &[&str]) -> Vec<Field<'a>> {
        self.each_given(names).next().unwrap_or_default()
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

    /// What only informs: without control characters, cut to its measure, nothing when it is no text.
    fn remark(&self, names: &[&str], chars_max: usize) -> Option<String> {
        let aside = &mut Problems::default();
        let found = cut(&name(&self.one(names, aside)?, aside)?, chars_max);
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
    let names_customer = tenant.identifiers.iter().any(|known| identifiers.contains_key(known));
    if pass.is_none() && !names_customer {
        names_nobody(&places, way, problems);
    }
    // The platform cannot mend its ids; without one an event is known by what it says.
    let mut aside = Problems::default();
    let ids_problems = if way == Way::Webhook { &mut aside } else { &mut *problems };
    let event_id = places.name(&["eventId"], ID_CHARS_MAX, ids_problems);
    let event = PassEvent {
        pass_type: places.remark(&["passType"], WORD_CHARS_MAX),
        occurred_at: occurred_at(&places, way, problems),
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

/// An event of nobody's, unless it was said what is wrong with the field that names somebody.
fn names_nobody(places: &Places<'_>, way: Way, problems: &mut Problems) {
    let (naming, detail) = match way {
        Way::Installation => (CUSTOMER_ID, "required"),
        Way::Hook | Way::Webhook | Way::Backfill => ("passId", "required: this, or an identifier of the customer"),
    };
    let pointer = places.given(&[naming]).pop().map_or_else(|| places.missing(naming), |field| field.pointer);
    if !problems.know_of(&pointer) {
        problems.add(pointer, detail);
    }
}

/// When it happened: the first time that can be read as one. A script can mend what it calls `occurredAt`; whatever else
/// cannot be read counts as none.
fn occurred_at(places: &Places<'_>, way: Way, problems: &mut Problems) -> Option<Timestamp> {
    if way != Way::Webhook
        && let Some(field) = places.one(&TIMES[..1], problems)
    {
        return moment(field, problems);
    }
    let mut read = places.each_given(&TIMES).map(|given| {
        let mut aside = Problems::default();
        let at = only(given, &mut aside).and_then(|field| moment(field, &mut aside));
        (at, aside)
    });
    read.find_map(|(at, aside)| aside.is_empty().then_some(at)).flatten()
}

/// What happened: an install or a removal, and nothing else.
fn kind(envelope: &Places<'_>, places: &Places<'_>, problems: &mut Problems) -> Option<EventKind> {
    let mut first = None;
    for given in envelope.each_given(&EVENT).chain(places.each_given(&EVENT)) {
        let field = only(given, problems)?;
        let name = text(&field, &mut Problems::default()).map_or(Named::Other, |word| named(&word));
        match name {
            Named::PassEvent(kind) => return Some(kind),
            Named::OtherEvent => {
                first.get_or_insert(field);
                break;
            }
            Named::Other => _ = first.get_or_insert(field),
        }
    }
    match first {
        None => problems.add(envelope.missing("event"), "required"),
        // What a script lost is said to be lost.
        Some(field) if text(&field, problems).is_none() => {}
        Some(field) => problems.add(field.pointer, "must be installed or uninstalled"),
    }
    None
}

/// What a name is that may be an event's.
enum Named {
    /// An install or a removal.
    PassEvent(EventKind),
    /// Another event of the platform: what else has a name is not what happened.
    OtherEvent,
    /// Something else: `webhook`, a customer's or a card's name.
    Other,
}

/// The event of a name: `Pass:Installed`, `pass.installed`, `installed`.
fn named(word: &str) -> Named {
    let word = word.trim().to_lowercase().replace([':', '_', '-', ' '], ".");
    let word = word.strip_prefix("on").unwrap_or(&word);
    let event = word.strip_prefix("pass").unwrap_or(word);
    match event.strip_prefix('.').unwrap_or(event).parse() {
        Ok(kind) => Named::PassEvent(kind),
        Err(_) if TOPICS.iter().any(|topic| word.starts_with(topic)) => Named::OtherEvent,
        Err(_) => Named::Other,
    }
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

/// A part that is an object, or its JSON text; none if it is something else. What a script lost is worth mending.
fn part<'a>(places: &Places<'a>, name: &str, problems: &mut Problems) -> Option<Field<'a>> {
    let aside = &mut Problems::default();
    let field = only(places.given(&[name]), aside)?;
    let lost = is_lost(&field.node);
    unfolded(field, "an object", if lost { problems } else { aside })
}

fn counts(places: &Places<'_>, problems: &mut Problems) -> RegistrationCounts {
    let Some(information) = part(places, "registrationInformation", problems) else {
        return RegistrationCounts::default();
    };
    let Some(information) = as_object(&information) else { return RegistrationCounts::default() };
    let places = Places::of(&[information]);
    let count = |of: &str| {
        let aside = &mut Problems::default();
        name(&places.one(&[of], aside)?, aside)?.parse().ok()
    };
    RegistrationCounts { active: count("activeRegistrationCount"), total: count("totalRegistrationCount") }
}

fn source(places: &Places<'_>, problems: &mut Problems) -> Source {
    let Some(source) = part(places, "registrationSource", problems) else { return Source::default() };
    let Some(source) = as_object(&source) else { return Source::default() };
    let places = Places::of(&[source]);
    Source {
        tags: tags(&places),
        medium: places.remark(&["medium"], WORD_CHARS_MAX),
        origin: places.remark(&["origin"], SOURCE_CHARS_MAX),
        user_agent: places.remark(&["userAgent"], SOURCE_CHARS_MAX),
    }
}

/// A list, its JSON text, one tag, or a form's `tags=a&tags=b`; what is no text in it is left out.
fn tags(places: &Places<'_>) -> Vec<String> {
    let (mut tags, problems) = (Vec::new(), &mut Problems::default());
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
