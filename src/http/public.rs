//! `/u/{token}`: where somebody unsubscribes who got a mail of a journey. No key: whoever has the mail has the link.
//!
//! GET shows what the link stops and changes nothing, whoever looks: a mail program, a scanner. POST acts. What a mail
//! program posts by itself (RFC 8058) is answered at once: no page before it, no cookie, no redirect. A token that no mail
//! carried gets the same page whether it looks like one or not. Tokens are never logged; the access line has the pattern of
//! the route.

use actix_web::http::header::{
    AcceptLanguage, CONTENT_SECURITY_POLICY, ContentType, HeaderName, HeaderValue, Preference, REFERRER_POLICY,
};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, mime, web};
use serde_json::{Map, Value, json};

use super::AppState;
use super::body;
use super::limit;
use super::problem::{Problem, nothing_here};
use crate::domain::suppression::link::UnsubscribeToken;
use crate::domain::suppression::{LinkView, Wish};

/// The page, among the templates.
const PAGE: &str = "unsubscribe";
/// Bytes of what is posted: a name and a value, perhaps as `multipart/form-data`.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Languages of a browser that are looked at.
const CULTURES_MAX: usize = 10;
/// What is there when nothing else is wanted.
const CULTURE: &str = "en";
/// Nothing runs, nothing is sent elsewhere, nobody frames it. The page's own style stands in it; a brand's may show its
/// logo.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src https: data:; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");

/// What a mail program posts (RFC 8058 section 3.2).
const ONE_CLICK: &str = "List-Unsubscribe";
/// What the page's own forms post: how much is to be stopped, or that nothing is any more.
const SCOPE: &str = "scope";
const ALL_JOURNEYS: &str = "journeys";
const UNDO: &str = "undo";

type App = web::Data<AppState>;
type Path = web::Path<String>;

// --- GET /u/{token} ---

/// What the link stops, and a button.
pub async fn show(app: App, path: Path, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let token = token(&path);
    let link = app.store.link(token).await?;
    Ok(page(&app, &request, token, link).await)
}

// --- POST /u/{token} ---

/// Does what the link is for, or what the page's form says.
pub async fn act(app: App, path: Path, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let token = token(&path);
    let limits = app.body_limits.at_most(BODY_BYTES_MAX);
    let posted = body::raw(&request, payload, limits).await?.decoded(limits).await?;
    let wish = wish(&fields(&request, &posted));
    // What is as wanted already, or nobody's, costs no write.
    let known = app.store.link(token).await?;
    if !known.as_ref().is_some_and(|link| would_change(link, wish)) {
        return Ok(page(&app, &request, token, known).await);
    }
    if wish == Wish::TakeBack {
        limit::link(&app, &request, token)?;
    }
    let now = app.contacts.now();
    let link = app.store.follow_link(token, wish, now).await?;
    Ok(page(&app, &request, token, link).await)
}

/// The token of a path. What is none is as unknown as one that nobody has.
fn token(path: &Path) -> UnsubscribeToken {
    path.parse().unwrap_or(UnsubscribeToken::NOBODYS)
}

fn would_change(link: &LinkView, wish: Wish) -> bool {
    use crate::domain::suppression::SuppressionScope::Journeys;
    match wish {
        Wish::AsLinked => link.stopped.is_none(),
        Wish::AllJourneys => !link.stopped.as_ref().is_some_and(|stopped| stopped.covers(&Journeys)),
        Wish::TakeBack => link.said_here,
    }
}

/// What a form wants. Anything that is posted unsubscribes, whatever else it says: who wants no more mails must not fail
/// by a letter.
fn wish(fields: &[(String, String)]) -> Wish {
    let has = |name: &str, value: &str| fields.iter().any(|(key, said)| key == name && said == value);
    let one_click = fields.iter().any(|(key, _)| key.eq_ignore_ascii_case(ONE_CLICK));
    if one_click {
        Wish::AsLinked
    } else if has(UNDO, "1") {
        Wish::TakeBack
    } else if has(SCOPE, ALL_JOURNEYS) {
        Wish::AllJourneys
    } else {
        Wish::AsLinked
    }
}

/// The fields of a form, in either of its two codings; none of what cannot be read.
fn fields(request: &HttpRequest, body: &[u8]) -> Vec<(String, String)> {
    let mime = request.mime_type().ok().flatten();
    let boundary = mime
        .filter(|mime| mime.type_() == mime::MULTIPART)
        .and_then(|mime| mime.get_param(mime::BOUNDARY).map(|boundary| boundary.as_str().to_owned()));
    if let Some(boundary) = boundary {
        return parts(&String::from_utf8_lossy(body), &boundary);
    }
    let pairs = form_urlencoded::parse(body.trim_ascii());
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// The fields of `multipart/form-data` (RFC 7578): small texts, no files.
fn parts(body: &str, boundary: &str) -> Vec<(String, String)> {
    let delimiter = format!("--{boundary}");
    let field = |part: &str| {
        let (head, value) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n"))?;
        let (_, name) = head.split_once("name=\"")?;
        let (name, _) = name.split_once('"')?;
        Some((name.to_owned(), value.trim_end_matches(['\r', '\n']).to_owned()))
    };
    body.split(&delimiter).skip(1).filter_map(field).collect()
}

// --- the page ---

/// The page of a link as it stands; of none, one that says so.
async fn page(app: &App, request: &HttpRequest, token: UnsubscribeToken, link: Option<LinkView>) -> HttpResponse {
    let rules = app.rules.borrow().clone();
    let tenant = link.as_ref().and_then(|link| rules.tenants.get(&link.tenant));
    let languages = AcceptLanguage::ranked_of(request);
    let mut cultures: Vec<&str> = languages.iter().map(String::as_str).collect();
    cultures.extend(tenant.map(|tenant| tenant.default_culture.as_str()));
    cultures.push(CULTURE);
    let brand = tenant.map(|tenant| tenant.name.as_str());
    let templates = app.templates.borrow().clone();
    let rendered = templates.page(PAGE, &cultures, data(token, link.as_ref(), brand)).await;
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((ROBOTS, HeaderValue::from_static("noindex, nofollow")));
    let page = match rendered {
        Ok(html) => answer.insert_header(ContentType::html()).body(html),
        Err(error) => {
            // What was asked for is done all the same.
            tracing::error!(%error, page = PAGE, "a page could not be rendered");
            answer.insert_header(ContentType::plaintext()).body(in_words(link.as_ref()))
        }
    };
    if link.is_some() { page } else { nothing_here(page) }
}

const fn in_words(link: Option<&LinkView>) -> &'static str {
    match link {
        Some(LinkView { stopped: Some(_), .. }) => "You are unsubscribed.\n",
        Some(_) => "You are subscribed. POST here to unsubscribe.\n",
        None => "This link is not valid.\n",
    }
}

/// What the page's template is told: `brand {name}?`, `journey?`, `scope`, `state`, `action`, `canUndo`, `canWiden`.
fn data(token: UnsubscribeToken, link: Option<&LinkView>, brand: Option<&str>) -> Value {
    let mut data = Map::new();
    let mut tell = |name: &str, value: Value| drop(data.insert(name.to_owned(), value));
    let Some(link) = link else {
        // The same for every token that is none.
        tell("state", json!("unknown"));
        tell("scope", json!(""));
        tell("action", json!(""));
        return Value::Object(data);
    };
    // Behind a proxy this server's paths may stand behind others: the last part of the path is the form's own address.
    tell("action", json!(token.to_string()));
    if let Some(name) = brand {
        tell("brand", json!({ "name": name }));
    }
    let scope = link.stopped.as_ref().unwrap_or(&link.scope);
    if let Some(journey) = scope.journey() {
        tell("journey", json!(journey));
    }
    tell("scope", json!(scope));
    tell("state", json!(if link.stopped.is_some() { "done" } else { "ask" }));
    tell("canUndo", json!(link.said_here));
    // There is more to stop than the link is for.
    tell("canWiden", json!(scope.journey().is_some()));
    Value::Object(data)
}

/// The languages a browser wants, the best first.
trait Ranked {
    fn ranked_of(request: &HttpRequest) -> Vec<String>;
}

impl Ranked for AcceptLanguage {
    fn ranked_of(request: &HttpRequest) -> Vec<String> {
        let Ok(wanted) = <Self as actix_web::http::header::Header>::parse(request) else { return Vec::new() };
        let languages = wanted.ranked().into_iter().filter_map(|preference| match preference {
            Preference::Specific(language) => Some(language.to_string()),
            Preference::Any => None,
        });
        languages.take(CULTURES_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE};
    use actix_web::test::TestRequest;

    fn posted(content_type: &str, body: &str) -> Wish {
        let request = TestRequest::post().insert_header((CONTENT_TYPE, content_type)).to_http_request();
        wish(&fields(&request, body.as_bytes()))
    }

    #[test]
    fn whatever_is_posted_unsubscribes_but_what_says_otherwise() {
        let form = "application/x-www-form-urlencoded";
        for (body, wanted) in [
            ("List-Unsubscribe=One-Click", Wish::AsLinked),
            ("list-unsubscribe=one-click&undo=1", Wish::AsLinked),
            ("", Wish::AsLinked),
            ("scope=link", Wish::AsLinked),
            ("scope=journeys", Wish::AllJourneys),
            ("scope=everything", Wish::AsLinked),
            ("undo=1&scope=journeys", Wish::TakeBack),
            ("undo=0", Wish::AsLinked),
            ("\u{fffd}%zz&&=", Wish::AsLinked),
        ] {
            assert_eq!(posted(form, body), wanted, "{body}");
            assert_eq!(posted("text/plain", body), wanted, "{body}");
        }
    }

    #[test]
    fn a_form_may_come_in_parts() {
        let part = |name: &str, value: &str| {
            format!("--x.y\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let whole = |parts: &[String]| format!("{}--x.y--\r\n", parts.concat());
        let kind = "multipart/form-data; boundary=\"x.y\"";
        for (body, wanted) in [
            (whole(&[part("List-Unsubscribe", "One-Click")]), Wish::AsLinked),
            (whole(&[part("a", "b"), part("scope", "journeys")]), Wish::AllJourneys),
            (whole(&[part("undo", "1")]), Wish::TakeBack),
            (whole(&[]), Wish::AsLinked),
            ("--x.y".to_owned(), Wish::AsLinked),
            (part("undo", "1").replace("\r\n", "\n"), Wish::TakeBack),
        ] {
            assert_eq!(posted(kind, &body), wanted, "{body}");
            assert_eq!(posted("multipart/form-data", &body), Wish::AsLinked, "without a boundary");
        }
    }

    #[test]
    fn languages_are_taken_as_the_browser_ranks_them() {
        let of = |header: &str| {
            let request = TestRequest::get().insert_header((ACCEPT_LANGUAGE, header)).to_http_request();
            AcceptLanguage::ranked_of(&request)
        };
        assert_eq!(of("de;q=0.5, fr-CA, fr;q=0.9, *;q=0.1"), ["fr-CA", "fr", "de"]);
        assert!(of("!!!").is_empty());
        assert_eq!(of(&"fr,".repeat(100)).len(), CULTURES_MAX);
    }
}
