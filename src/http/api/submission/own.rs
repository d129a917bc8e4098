//! A mail that a template of our own writes: what it is given, and the cultures it may be written in.

use std::borrow::Cow;

use serde_json::Value;

use super::super::lenient::{Field, Fields, Node, Problems, below, is_lost};
use super::unless;
use crate::domain::contact::{Culture, CustomerId};
use crate::domain::submission::OwnTemplate;

/// Cultures listened to, of each field.
const CULTURES_MAX: usize = 50;

/// Whether `emailTemplate` names one of our own: nothing was rendered elsewhere. Who sends an `email` that holds nothing
/// has lost one, and does not mean ours.
pub(super) fn is_wanted(fields: &Fields<'_>) -> bool {
    let is_absent = |name: &&str| fields.given(name).is_empty();
    !fields.given("emailTemplate").is_empty() && ["Subject", "Body", "text", "email"].iter().all(is_absent)
}

/// What the template is given. `customer` is who `unless` asks about, if it asks.
pub(super) fn own(
    fields: &Fields<'_>,
    data: Option<&Field<'_>>,
    customer: Option<String>,
    problems: &mut Problems,
) -> OwnTemplate {
    let customer = match customer {
        None if fields.given("unless").is_empty() => unless::customer(fields, problems),
        given => given,
    };
    if let Some(Field { pointer, node }) = data
        && let Node::Object(object) = &**node
    {
        for (key, values) in object {
            for value in values {
                is_whole(&below(pointer, key), value, problems);
            }
        }
    }
    let data = data.and_then(|data| serde_json::to_value(&data.node).ok()).filter(Value::is_object);
    let mut culture = Vec::new();
    for field in fields.given("culture") {
        for word in words(&field.node) {
            match word.parse() {
                Ok(one) => culture.push(one),
                Err(detail) => problems.add(&field.pointer, detail),
            }
        }
    }
    let named = fields.given("cultures");
    let cultures = named.iter().flat_map(|field| words(&field.node));
    OwnTemplate {
        data: data.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        culture: culture.into_iter().take(CULTURES_MAX).collect(),
        // What the platform's engine calls its own cultures may be none that we know.
        cultures: cultures.filter_map(|word| word.parse::<Culture>().ok()).take(CULTURES_MAX).collect(),
        customer: customer.and_then(|customer| customer.parse::<CustomerId>().ok()),
    }
}

/// Notes what a script lost, at any depth: a mail would show it. And what is there twice: nobody knows which was meant.
fn is_whole(pointer: &str, node: &Node, problems: &mut Problems) {
    match node {
        Node::Text(_) if is_lost(node) => {
            problems.add(pointer, "the script lost the value and sent \"[object Object]\": send data as JSON");
        }
        Node::List(items) => items.iter().for_each(|item| is_whole(pointer, item, problems)),
        Node::Object(object) => {
            for (key, values) in object {
                let pointer = below(pointer, key);
                if values.windows(2).any(|pair| pair[0] != pair[1]) {
                    problems.add(&pointer, "given more than once with different values");
                }
                for value in values {
                    is_whole(&pointer, value, problems);
                }
            }
        }
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {}
    }
}

/// Notes what is no culture and no list of them, whether it is used or not.
pub(super) fn are_cultures(fields: &Fields<'_>, problems: &mut Problems) {
    for name in ["cultures", "culture"] {
        for field in fields.given(name) {
            let fits = match &*field.node {
                Node::Text(_) => true,
                Node::List(items) => items.iter().all(|item| matches!(item, Node::Text(_) | Node::Null)),
                Node::Object(object) => object.values().flatten().all(|item| matches!(item, Node::Text(_))),
                Node::Null | Node::Bool(_) | Node::Number(_) => false,
            };
            if !fits {
                problems.add(field.pointer, "must be a culture such as fr-FR, or a list of them");
            }
        }
    }
}

/// The cultures of a field, as written: one, a list, its JSON text, or several with commas between.
fn words(node: &Node) -> Vec<String> {
    let node = match node {
        Node::Text(text) if text.trim_start().starts_with('[') => {
            Node::from_json(text).map_or(Cow::Borrowed(node), Cow::Owned)
        }
        _ => Cow::Borrowed(node),
    };
    let texts: Vec<&str> = match &*node {
        Node::Text(text) => text.split(',').collect(),
        Node::List(items) => items.iter().filter_map(as_text).collect(),
        Node::Object(object) => object.values().flatten().filter_map(as_text).collect(),
        Node::Null | Node::Bool(_) | Node::Number(_) => Vec::new(),
    };
    texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

fn as_text(node: &Node) -> Option<&str> {
    match node {
        Node::Text(text) => Some(text),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::List(_) | Node::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use serde_json::json;

    use super::super::parse;
    use super::*;
    use crate::domain::submission::Submission;
    use crate::http::api::lenient::{Media, ParseError};

    fn read(body: &Value) -> Result<Submission, ParseError> {
        parse(Media::Json, body.to_string().as_bytes())
    }

    fn pointers(result: Result<Submission, ParseError>) -> Vec<String> {
        match result {
            Err(ParseError::Invalid(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// A mail of ours that is fine but for what `more` adds.
    fn with(more: &Value) -> Value {
        let mut body = json!({"recipient": "a@b.example", "emailTemplate": "welcome"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    #[test]
    fn the_same_data_and_cultures_are_read_however_they_are_written() {
        let data = json!({"name": "Zoë", "pass": {"id": "P1", "points": [1, 2.5, {"a": null}]}, "vip": true});
        let wanted = read(&with(&json!({"data": data, "cultures": ["fr-FR", "en"], "culture": "fr-CA"}))).unwrap();
        let own = wanted.own.as_ref().unwrap();
        assert_eq!(own.data, data);
        assert_eq!(own.culture, ["fr-CA".parse().unwrap()]);
        assert_eq!(own.cultures, ["fr-FR", "en"].map(|culture| culture.parse().unwrap()));
        assert_eq!(own.customer, None);
        let text = data.to_string();
        for more in [
            json!({"DATA": text, "Cultures": "[\"fr_fr\",\"EN\"]", "CULTURE": "FR_ca"}),
            json!({"data": data, "cultures": "fr-FR, en", "culture": ["fr-CA"]}),
            json!({"data": data, "cultures": ["fr-FR", null, "iv-ariant-culture-none!", "en"], "culture": "fr-CA"}),
        ] {
            assert_eq!(read(&with(&more)).unwrap(), wanted, "{more}");
        }
        let form =
            format!("recipient=a@b.example&emailtemplate=welcome&data={text}&cultures=fr-FR&cultures=en&culture=fr_CA");
        assert_eq!(parse(Media::Form, form.as_bytes()).unwrap(), wanted);
        let form = "recipient=a@b.example&emailTemplate=welcome&Subject=&Body=null&data[pass][id]=P1&customerId=C-1";
        let own = parse(Media::Form, form.as_bytes()).unwrap().own.unwrap();
        assert_eq!((own.data, own.customer), (json!({"pass": {"id": "P1"}}), Some("C-1".parse().unwrap())));
        let none = read(&with(&json!({"data": []}))).unwrap().own.unwrap();
        assert_eq!((none.data, none.culture, none.cultures), (json!({}), vec![], vec![]));
    }

    #[test]
    fn a_mail_that_somebody_rendered_or_lost_while_rendering_is_never_one_of_ours() {
        assert_eq!(read(&with(&json!({"Subject": "s", "Body": "b"}))).unwrap().own, None);
        assert_eq!(pointers(read(&with(&json!({"Subject": "s"})))), ["/Body"]);
        assert_eq!(pointers(read(&with(&json!({"Body": "b"})))), ["/Subject"]);
        assert_eq!(pointers(read(&with(&json!({"text": "b"})))), ["/Subject"]);
        for email in [json!({}), json!({"Subject": "", "Body": null})] {
            assert_eq!(pointers(read(&with(&json!({"email": email})))), ["/Subject", "/Body"], "{email}");
        }
        assert_eq!(pointers(read(&json!({"recipient": "a@b.example"}))), ["/Subject", "/Body"]);
    }

    #[test]
    fn what_would_make_another_mail_is_refused_and_never_repeated() {
        let lost = "secret [object Object]";
        for (more, pointer) in [
            (json!({"culture": "secret!"}), "/culture"),
            (json!({"cultures": [7]}), "/cultures"),
            (json!({"data": "secret"}), "/data"),
            (json!({"data": [1]}), "/data"),
            (json!({"data": {"customer": lost}}), "/data/customer"),
            (json!({"data": {"pass": {"items": [lost]}}}), "/data/pass/items"),
            (json!({"customerId": ["secret"]}), "/customerId"),
        ] {
            let Err(ParseError::Invalid(errors)) = read(&with(&more)) else { panic!("{more}") };
            assert_eq!(errors.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(), [pointer], "{more}");
            assert!(!errors[0].detail.contains("secret"), "{errors:?}");
        }
        let twice = r#"{"recipient":"a@b.example","emailTemplate":"welcome","data":{"p":{"id":"1","id":"2"}}}"#;
        assert_eq!(pointers(parse(Media::Json, twice.as_bytes())), ["/data/p/id"]);
    }

    #[test]
    fn a_key_is_bound_to_the_template_its_data_and_its_cultures() {
        let written = |more: &Value| serde_json::to_string(&read(&with(more)).unwrap()).unwrap();
        let one = json!({"data": {"a": {"x": 1, "y": 2}}, "cultures": ["fr", "en"], "culture": "fr"});
        let same = r#"{"culture":"FR","cultures":["FR","EN"],"data":{"a":{"y":2,"x":1}},"emailTemplate":"welcome","recipient":"a@b.example"}"#;
        assert_eq!(written(&one), serde_json::to_string(&parse(Media::Json, same.as_bytes()).unwrap()).unwrap());
        for other in [
            json!({"data": {"a": {"x": 1, "y": 3}}, "cultures": ["fr", "en"], "culture": "fr"}),
            json!({"data": {"a": {"x": 1, "y": 2}}, "cultures": ["en", "fr"], "culture": "fr"}),
            json!({"data": {"a": {"x": 1, "y": 2}}, "cultures": ["fr", "en"]}),
            json!({"data": {"a": {"x": 1, "y": 2}}, "cultures": ["fr", "en"], "culture": "fr", "customerId": "C-1"}),
            json!({"data": {"a": {"x": 1, "y": 2}}, "cultures": ["fr", "en"], "culture": "fr", "emailTemplate": "tips"}),
        ] {
            assert_ne!(written(&one), written(&other), "{other}");
        }
    }
}
