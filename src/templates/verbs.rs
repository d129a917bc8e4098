//! What a template may call: handlebars' own helpers but `log`, and ours.
//!
//! `{{date value}}`, `{{number value}}`, `{{money value "EUR"}}` write for the culture of the mail (`formats`),
//! `{{urlencode value}}` for a place in a URL, `{{link value}}` a whole one that is safe to follow,
//! `{{default value "otherwise"}}` takes the first value that says anything. A name alone (`{{date}}`) is the data's.
//! `log` is not here: it would write data into the log.

use handlebars::{
    Context, Handlebars, Helper, HelperDef, JsonRender as _, JsonTruthy as _, RenderContext, RenderError,
    RenderErrorReason, ScopedJson,
};
use serde_json::Value;
use url::Url;

use super::formats;
use super::watch::{self, TICK, Tick, WATCHED, Watched};

/// Handlebars' own.
const BUILT_IN: [&str; 16] =
    ["if", "unless", "each", "with", "lookup", "raw", "eq", "ne", "gt", "gte", "lt", "lte", "and", "or", "not", "len"];
/// Ours.
const OWN: [(&str, Work); 6] = [
    ("date", date),
    ("number", number),
    ("money", money),
    ("urlencode", urlencode),
    ("link", link),
    ("default", default),
];
/// What a link may begin with; anything else may be a program.
const LINK_SCHEMES: [&str; 4] = ["http", "https", "mailto", "tel"];

/// From the values and the named values of a call to what it writes; or what is wrong with them, without saying them.
type Work = fn(&Given<'_, '_>) -> Result<Value, String>;

/// Whether there is a helper of this name.
pub(super) fn is_known(name: &str) -> bool {
    BUILT_IN.contains(&name) || OWN.iter().any(|(own, _)| *own == name)
}

/// Makes the helpers known to a registry.
pub(super) fn register(registry: &mut Handlebars<'static>) {
    registry.unregister_helper("log");
    registry.register_helper(TICK, Box::new(Tick));
    registry.register_helper(WATCHED, Box::new(Watched));
    for (name, work) in OWN {
        registry.register_helper(name, Box::new(Verb { name, work }));
    }
}

struct Verb {
    name: &'static str,
    work: Work,
}

/// What a helper is given.
pub(super) struct Given<'a, 'rc> {
    helper: &'a Helper<'rc>,
}

impl Given<'_, '_> {
    fn first(&self) -> Result<&Value, String> {
        self.helper.param(0).map(handlebars::PathAndJson::value).ok_or_else(|| "wants a value".to_owned())
    }

    fn second(&self) -> Option<&Value> {
        self.helper.param(1).map(handlebars::PathAndJson::value)
    }

    fn named(&self, name: &str) -> Option<&Value> {
        self.helper.hash_get(name).map(handlebars::PathAndJson::value)
    }

    fn text(&self, name: &str) -> Result<Option<&str>, String> {
        match self.named(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name} must be a text")),
        }
    }
}

impl HelperDef for Verb {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let made = (self.work)(&Given { helper });
        made.map(ScopedJson::Derived)
            .map_err(|wrong| RenderErrorReason::Other(format!("{}: {wrong}", self.name)).into())
    }
}

fn date(given: &Given<'_, '_>) -> Result<Value, String> {
    let written = formats::date(given.first()?, given.text("format")?, given.text("zone")?, &watch::culture())?;
    Ok(Value::String(written))
}

fn number(given: &Given<'_, '_>) -> Result<Value, String> {
    let digits = match given.named("digits") {
        None | Some(Value::Null) => None,
        Some(digits) => Some(digits.as_u64().ok_or("digits must be a whole number")?),
    };
    formats::number(given.first()?, digits, &watch::culture()).map(Value::String)
}

fn money(given: &Given<'_, '_>) -> Result<Value, String> {
    let currency = given.second().or_else(|| given.named("currency"));
    let currency = currency.and_then(Value::as_str).ok_or("wants a currency, as in {{money price \"EUR\"}}")?;
    formats::money(given.first()?, currency, &watch::culture()).map(Value::String)
}

fn urlencode(given: &Given<'_, '_>) -> Result<Value, String> {
    let text = given.first()?.render();
    // A space is %20: right in a path and in a query, which + is not.
    let written: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    Ok(Value::String(written.replace('+', "%20")))
}

fn link(given: &Given<'_, '_>) -> Result<Value, String> {
    let value = given.first()?;
    let is_safe = |text: &str| Url::parse(text).is_ok_and(|url| LINK_SCHEMES.contains(&url.scheme()));
    if value.as_str().is_some_and(is_safe) {
        return Ok(value.clone());
    }
    let name = given.helper.param(0).and_then(handlebars::PathAndJson::relative_path);
    let name = name.map_or("its value", String::as_str);
    if value.is_null() {
        return Err(format!("the data has no {name}"));
    }
    let schemes = LINK_SCHEMES.map(|scheme| format!("{scheme}:")).join(" ");
    Err(format!("{name} must be a whole address that begins with one of {schemes}"))
}

fn default(given: &Given<'_, '_>) -> Result<Value, String> {
    given.first()?;
    let says_something = |value: &&Value| value.is_truthy(true) || value.is_boolean();
    let mut values = given.helper.params().iter().map(handlebars::PathAndJson::value);
    let found = values.clone().find(says_something).or_else(|| values.next_back());
    Ok(found.cloned().unwrap_or_default())
}
