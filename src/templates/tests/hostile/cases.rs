//! The hostile templates themselves.

use serde_json::{Value, json};

use super::Rendered;

/// How it ends.
pub(super) enum Fate {
    /// When it is loaded, with these words.
    Refused(&'static str),
    /// When it is rendered, with these words.
    Fails(&'static str),
    /// It is rendered, and harmless.
    Renders(fn(&Rendered) -> bool),
}

/// One hostile mail, called `bad`.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) data: Option<Value>,
    pub(super) fate: Fate,
}

use Fate::{Fails, Refused, Renders};

const CIRCLE: &str = "calls itself without end";
const DEEP: &str = "see templates.depth_max";
pub(super) const SLOW: &str = "longer than templates.render_timeout";
pub(super) const LARGE: &str = "more comes out than templates.output_bytes_max";

/// A mail of these files beside a subject, a body and a sample that are fine.
fn mail(name: &'static str, files: &[(&str, &[u8])], data: Option<Value>, fate: Fate) -> Case {
    let mut all = vec![
        ("mail/bad/en/subject.hbs".to_owned(), b"Hi".to_vec()),
        ("mail/bad/sample.json".to_owned(), b"{}".to_vec()),
    ];
    let has_body = files.iter().any(|(path, _)| path.contains("/body."));
    if !has_body {
        all.push(("mail/bad/en/body.html.hbs".to_owned(), b"<p>x</p>".to_vec()));
    }
    all.extend(files.iter().map(|(path, text)| ((*path).to_owned(), text.to_vec())));
    Case { name, files: all, data, fate }
}

/// An HTML body.
fn body(name: &'static str, text: &str, fate: Fate) -> Case {
    mail(name, &[("mail/bad/en/body.html.hbs", text.as_bytes())], None, fate)
}

/// An HTML body with its sample.
fn with(name: &'static str, text: &str, sample: &Value, fate: Fate) -> Case {
    let sample = sample.to_string();
    let files = [("mail/bad/en/body.html.hbs", text.as_bytes()), ("mail/bad/sample.json", sample.as_bytes())];
    mail(name, &files, None, fate)
}

/// An HTML body that is fine with `sample` and meets `data`.
fn meets(name: &'static str, text: &str, sample: &Value, data: Value, fate: Fate) -> Case {
    Case { data: Some(data), ..with(name, text, sample, fate) }
}

fn mjml(name: &'static str, text: &str, fate: Fate) -> Case {
    mail(name, &[("mail/bad/en/body.mjml.hbs", text.as_bytes())], None, fate)
}

fn subject(name: &'static str, text: &str, sample: &Value, data: Value, fate: Fate) -> Case {
    let sample = sample.to_string();
    let files = [("mail/bad/en/subject.hbs", text.as_bytes()), ("mail/bad/sample.json", sample.as_bytes())];
    mail(name, &files, Some(data), fate)
}

fn sample(name: &'static str, text: &[u8], fate: Fate) -> Case {
    mail(name, &[("mail/bad/sample.json", text)], None, fate)
}

fn partials(name: &'static str, all: &[(&str, &str)], fate: Fate) -> Case {
    let files: Vec<(String, &[u8])> =
        all.iter().map(|(name, text)| (format!("partials/{name}.hbs"), text.as_bytes())).collect();
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    files.push(("mail/bad/en/body.html.hbs", b"{{> a}}"));
    mail(name, &files, None, fate)
}

fn nested(open: &str, inside: &str, close: &str, times: usize) -> String {
    format!("{}{inside}{}", open.repeat(times), close.repeat(times))
}

fn in_mjml(inside: &str) -> String {
    format!("<mjml><mj-body><mj-section><mj-column>{inside}</mj-column></mj-section></mj-body></mjml>")
}

fn numbers(count: u32) -> Value {
    json!({ "list": (0..count).collect::<Vec<_>>(), "more": {"none": null, "some": 1} })
}

pub(super) fn cases() -> Vec<Case> {
    [circles(), names(), depths(), elements(), syntax(), subjects(), samples(), time_and_size(), data(), odd_data()]
        .into_iter()
        .flatten()
        .collect()
}

fn circles() -> Vec<Case> {
    vec![
        partials("a partial that calls itself", &[("a", "{{> a}}")], Refused(CIRCLE)),
        partials("two that call each other", &[("a", "{{> b}}"), ("b", "{{> a}}")], Refused(CIRCLE)),
        partials("three in a round", &[("a", "{{> b}}"), ("b", "{{> c}}"), ("c", "{{> a}}")], Refused(CIRCLE)),
        partials("a circle in an else", &[("a", "{{#if x}}{{else}}{{> a}}{{/if}}")], Refused(CIRCLE)),
        partials("a circle in a branch not taken", &[("a", "{{#if x}}{{> a}}{{/if}}")], Refused(CIRCLE)),
        partials("a circle in a loop", &[("a", "{{#each x}}{{> a}}{{/each}}")], Refused(CIRCLE)),
        partials(
            "a circle through a block",
            &[("a", "{{#> b}}{{> a}}{{/b}}"), ("b", "{{> @partial-block}}")],
            Refused(CIRCLE),
        ),
        partials("a circle through a fallback", &[("a", "{{#> none}}{{> a}}{{/none}}")], Refused(CIRCLE)),
        body("an inline partial that calls itself", "{{#*inline \"i\"}}{{> i}}{{/inline}}{{> i}}", Refused(CIRCLE)),
        body(
            "two inline partials that call each other",
            "{{#*inline \"i\"}}{{> j}}{{/inline}}{{#*inline \"j\"}}{{> i}}{{/inline}}{{> i}}",
            Refused(CIRCLE),
        ),
        partials(
            "an inline partial in the place of one it calls",
            &[("a", "{{#*inline \"b\"}}{{> a}}{{/inline}}{{> b}}"), ("b", "fine")],
            Refused(CIRCLE),
        ),
        partials(
            "an inline partial defined in a block and called by the layout",
            &[("a", "{{#> b}}{{#*inline \"c\"}}{{> b}}{{/inline}}{{/b}}"), ("b", "{{> c}}"), ("c", "")],
            Refused(CIRCLE),
        ),
        body(
            "an inline partial inside itself",
            "{{#*inline \"i\"}}{{#*inline \"i\"}}{{> i}}{{/inline}}{{> i}}{{/inline}}{{> i}}",
            Refused(CIRCLE),
        ),
    ]
}

fn names() -> Vec<Case> {
    vec![
        with(
            "a partial named by the data",
            "{{> (lookup this \"p\")}}",
            &json!({"p": "good"}),
            Refused("must be written out"),
        ),
        body("a partial named by a helper", "{{> (default \"a\")}}", Refused("must be written out")),
        body("a helper named by a helper", "{{(default \"if\") 1}}", Refused("")),
        body("a decorator", "{{*set x=1}}", Refused("decorators")),
        body("a decorator with a block", "{{#*set x=1}}{{/set}}", Refused("decorators")),
        with(
            "an inline partial named by the data",
            "{{#*inline p}}x{{/inline}}",
            &json!({"p": "i"}),
            Refused("in quotes"),
        ),
        body("a partial outside of the folder", "{{> ../../../../etc/passwd}}", Refused("there is no partial")),
        body("a partial by its full path", "{{> /etc/passwd}}", Refused("there is no partial")),
        body("another mail as a partial", "{{> mail/good/en/body.html.hbs}}", Refused("there is no partial")),
        body("itself as a partial", "{{> mail/bad/en/body.html.hbs}}", Refused("there is no partial")),
        body("a partial that is not there", "{{> none}}", Refused("there is no partial none")),
        body("a block of nobody", "{{> @partial-block}}", Refused("called without a block")),
        body("an unknown helper", "{{shell \"id\"}}", Refused("there is no helper shell")),
        body("an unknown block helper", "{{#shell}}id{{/shell}}", Refused("there is no helper shell")),
        body("an unknown helper inside", "{{#if (shell \"id\")}}{{/if}}", Refused("there is no helper shell")),
        with("data into the log", "{{log secret}}", &json!({"secret": "s"}), Refused("there is no helper log")),
        mail(
            "a name that a shell would read",
            &[("mail/b$d/en/subject.hbs", b"x")],
            None,
            Refused("is not made of letters"),
        ),
        mail(
            "a name with a line break",
            &[("mail/a\nb/en/subject.hbs", b"x")],
            None,
            Refused("is not made of letters"),
        ),
        mail("a culture that climbs", &[("mail/bad/en..fr/subject.hbs", b"x")], None, Refused("is not a culture")),
        mail("a partial with a space", &[("partials/a b.hbs", b"x")], None, Refused("is not made of letters")),
    ]
}

fn depths() -> Vec<Case> {
    let chain = format!("{{{{#if a}}}}{}{{{{/if}}}}", "{{else if a}}x".repeat(600));
    let partial_chain: Vec<(String, String)> =
        (0..300).map(|number| (format!("p{number}"), format!("{{{{> p{}}}}}", number + 1))).collect();
    let mut partial_chain: Vec<(&str, &str)> =
        partial_chain.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    partial_chain.extend([("p300", "end"), ("a", "{{> p0}}")]);
    let block_chain = nested("{{#if true}}", "{{> b}}", "{{/if}}", 60);
    let values = format!("{{{{and {}}}}}", "x ".repeat(10_000));
    vec![
        body("10,000 nested blocks", &nested("{{#if true}}", "x", "{{/if}}", 10_000), Refused(DEEP)),
        body("10,000 nested loops", &nested("{{#each x}}", "x", "{{/each}}", 10_000), Refused(DEEP)),
        body("10,000 blocks nobody closes", &"{{#if true}}".repeat(10_000), Refused(DEEP)),
        body("10,000 blocks nobody opened", &"{{/if}}".repeat(10_000), Refused("is not handlebars here")),
        body(
            "nested blocks behind false ends",
            &format!("{}x{}", "{{#if true}}{{!{{/if}}".repeat(1_000), "{{/if}}".repeat(1_000)),
            Refused(""),
        ),
        body("nested blocks with tildes", &nested("{{~#if true~}}", "x", "{{~/if~}}", 5_000), Refused(DEEP)),
        body("nested blocks of partials", &nested("{{#> none}}", "x", "{{/none}}", 5_000), Refused(DEEP)),
        body("nested inline partials", &nested("{{#*inline \"i\"}}", "x", "{{/inline}}", 5_000), Refused(DEEP)),
        body("blocks just too deep", &nested("{{#if true}}", "x", "{{/if}}", 102), Refused(DEEP)),
        body("10,000 nested expressions", &format!("{{{{{}}}}}", nested("(not ", "x", ")", 10_000)), Refused(DEEP)),
        body(
            "expressions just too deep",
            &format!("{{{{#if {}}}}}{{{{/if}}}}", nested("(not ", "x", ")", 150)),
            Refused(DEEP),
        ),
        body("10,000 expressions nobody closes", &format!("{{{{#if {}", "(not ".repeat(10_000)), Refused("")),
        body(
            "nested named values",
            &format!("{{{{default {}1{}}}}}", "(default x=".repeat(5_000), ")".repeat(5_000)),
            Refused(DEEP),
        ),
        body("a chain of 600 elses", &chain, Refused(DEEP)),
        body("10,000 values in one expression", &values, Refused("values in one expression")),
        body(
            "a list in a list in a list",
            &format!("{{{{default {}}}}}", nested("[", "1", "]", 10_000)),
            Refused(DEEP),
        ),
        body(
            "an object in an object",
            &format!("{{{{default {}}}}}", nested("{\"a\":", "1", "}", 10_000)),
            Refused(""),
        ),
        partials("a chain of 300 partials", &partial_chain, Refused(DEEP)),
        partials(
            "partials and blocks, together too deep",
            &[("a", &block_chain), ("b", &nested("{{#if true}}", "x", "{{/if}}", 60))],
            Refused(DEEP),
        ),
        body("a path of 50,000 steps", &format!("{{{{#if {}a}}}}{{{{/if}}}}", "../".repeat(50_000)), Renders(|_| true)),
    ]
}

fn elements() -> Vec<Case> {
    let flat_carousel =
        in_mjml(&format!("<mj-carousel>{}</mj-carousel>", "<mj-carousel-image src=\"x\"/>".repeat(500)));
    let heavy = format!(
        "<mjml><mj-head><mj-attributes><mj-all css-class=\"{}\"/></mj-attributes></mj-head><mj-body>{}</mj-body></mjml>",
        "x".repeat(20_000),
        "<mj-section/>".repeat(4_000)
    );
    let styled = format!("<style>p {{ {} }}</style>{}", "color:red;".repeat(7_000), "<p>".repeat(1_000));
    let selectors = format!("<style>{} {{ color: red }}</style><p>x", nested(":not(", "a", ")", 150));
    let layers = format!("<style>{}</style><p>x", nested("@layer a {", "p { color: red }", "}", 1_000));
    let comments = format!("<style>{} {{ color: red }}</style><p>x", nested(":not(/*)*/", "a", ")", 100));
    vec![
        body("20,000 nested divs", &nested("<div>", "x", "</div>", 20_000), Refused(DEEP)),
        body("20,000 elements nobody closes", &"<b>".repeat(5_000), Refused(DEEP)),
        body("nested divs behind false ends", &"<div title=\"</div>\">".repeat(3_000), Refused(DEEP)),
        body("nested divs behind misplaced ends", &"<b><div></b>".repeat(3_000), Refused(DEEP)),
        body("nested divs in a style of SVG", &format!("<svg><style>{}", "<g>".repeat(3_000)), Refused(DEEP)),
        body("nested tables", &nested("<table><tr><td>", "x", "</td></tr></table>", 1_000), Refused(DEEP)),
        body("nested lists", &nested("<ul><li>", "x", "</li></ul>", 1_000), Refused(DEEP)),
        body("nested templates", &"<template>".repeat(3_000), Refused(DEEP)),
        with("divs nested by a loop", "{{#each list}}<div>{{/each}}", &numbers(20_000), Refused(DEEP)),
        body("selectors in selectors", &selectors, Refused("brackets")),
        body("20,000 selectors in selectors", &format!("<style>{}", ":not(".repeat(20_000)), Refused(DEEP)),
        body("selectors in selectors behind comments", &comments, Refused("brackets")),
        body("layers in layers", &layers, Refused("brackets")),
        body("styles for far too many", &styled, Refused("too many elements for styles so long")),
        body("styles nobody closes", &format!("<style>{}", "p { color: ".repeat(5_000)), Refused("brackets")),
        body(
            "a stylesheet from elsewhere",
            "<link rel=\"stylesheet\" href=\"file:///etc/passwd\"><style>p{color:red}</style><p>x",
            Renders(|mail| !mail.html.as_ref().is_some_and(|html| html.contains("root:"))),
        ),
        body(
            "a stylesheet over HTTP",
            "<link rel=\"stylesheet\" href=\"http://127.0.0.1:9/x.css\"><style>@import url(http://127.0.0.1:9/y.css); p{color:red}</style><p>x",
            Renders(|_| true),
        ),
        mjml(
            "nested MJML",
            &format!("<mjml><mj-body>{}</mj-body></mjml>", nested("<mj-wrapper>", "", "</mj-wrapper>", 2_000)),
            Refused(DEEP),
        ),
        mjml(
            "nested HTML in MJML",
            &in_mjml(&format!("<mj-text>{}</mj-text>", nested("<div>", "x", "</div>", 2_000))),
            Refused(DEEP),
        ),
        mjml(
            "nested HTML in raw MJML",
            &in_mjml(&format!("<mj-raw>{}</mj-raw>", nested("<div>", "x", "</div>", 2_000))),
            Refused(DEEP),
        ),
        mjml("MJML nobody closes", &format!("<mjml><mj-body>{}", "<mj-section>".repeat(2_000)), Refused(DEEP)),
        mjml("pictures in a carousel", &flat_carousel, Refused("pictures in carousels")),
        mjml("attributes for far too many", &heavy, Refused("attributes so long")),
        mjml(
            "MJML that includes a file",
            "<mjml><mj-body><mj-include path=\"/etc/passwd\"/></mj-body></mjml>",
            Refused("mj-include is not possible"),
        ),
        mjml(
            "MJML that includes a URL",
            "<mjml><mj-body><mj-include path=\"http://127.0.0.1:9/x\"/></mj-body></mjml>",
            Refused("mj-include is not possible"),
        ),
        mjml(
            "MJML that includes styles",
            "<mjml><mj-head><mj-include path=\"/etc/passwd\" type=\"css\"/></mj-head><mj-body></mj-body></mjml>",
            Refused("mj-include is not possible"),
        ),
        mjml("MJML that ends early", "<mjml><mj-body><mj-section>", Refused("MJML")),
        mjml("no MJML at all", "just words", Refused("MJML")),
        mjml("HTML instead of MJML", "<html><body><p>x</p></body></html>", Refused("MJML")),
        mjml("MJML with a broken tag", "<mjml><mj-body <</mj-body></mjml>", Refused("MJML")),
        mjml("MJML with a column nowhere", "<mjml><mj-column/></mjml>", Refused("MJML")),
    ]
}

fn syntax() -> Vec<Case> {
    vec![
        body("an expression nobody closes", "{{name", Refused("is not handlebars here")),
        body("a block nobody closes", "{{#if x}}", Refused("is not handlebars here")),
        body("a block closed by another", "{{#if x}}{{/each}}", Refused("\"if\" was opened, but \"each\" is closing")),
        body("an end without a beginning", "x{{/if}}", Refused("is not handlebars here")),
        body("a raw block nobody closes", "{{{{raw}}}} {{x}}", Refused("is not handlebars here")),
        body(
            "a raw block",
            "{{{{raw}}}} {{x}} {{{{/raw}}}}",
            Renders(|mail| mail.html.as_ref().is_some_and(|html| html.contains("{{x}}"))),
        ),
        body("an else in nothing", "{{else}}", Refused("is not handlebars here")),
        body("an else with a tilde before an if", "{{#if a}}x{{~else if b}}y{{/if}}", Renders(|_| true)),
        body("braces, many", &"{".repeat(100_000), Refused("is not handlebars here")),
        body("backslashes before braces", &"\\{{x}}".repeat(10_000), Renders(|_| true)),
        mail(
            "a file that is too large",
            &[("mail/bad/en/body.html.hbs", &[b'x'; (256 << 10) + 1])],
            None,
            Refused("is larger than 256KiB"),
        ),
        mail(
            "a file that is not UTF-8",
            &[("mail/bad/en/body.html.hbs", b"a\n\xc3\x28")],
            None,
            Refused("line 2: is not UTF-8"),
        ),
        mail(
            "a partial that is not UTF-8",
            &[("partials/a.hbs", b"\xff"), ("mail/bad/en/body.html.hbs", b"{{> a}}")],
            None,
            Refused("is not UTF-8"),
        ),
        mail("a file in no place", &[("mail/bad/en/body.html", b"x")], None, Refused("is none of subject.hbs")),
        mail("a script beside the mails", &[("scripts/run.sh", b"x")], None, Refused("is none of the folders")),
    ]
}

fn subjects() -> Vec<Case> {
    let breaks = "the subject would hold a line break or NUL";
    let plain = || json!({"x": "fine"});
    vec![
        subject("a line break in the subject's file", "a\r\nBcc: x@y.example", &plain(), plain(), Refused(breaks)),
        subject("a NUL in the subject's file", "a\0b", &plain(), plain(), Refused(breaks)),
        subject("a subject of 2,001 letters", &"é".repeat(2_001), &plain(), plain(), Refused("longer than 2,000")),
        subject(
            "a subject that grows",
            "{{#each list}}x{{/each}}",
            &numbers(2_001),
            plain(),
            Refused("longer than 2,000"),
        ),
        subject("an empty subject", " \n", &plain(), plain(), Refused("would be empty")),
        subject(
            "a line break in the subject's data",
            "a{{x}}",
            &plain(),
            json!({"x": "\r\nBcc: x@y.example"}),
            Fails(breaks),
        ),
        subject("a carriage return in the subject's data", "{{x}}", &plain(), json!({"x": "a\rb"}), Fails(breaks)),
        subject("a line feed at the subject's end", "{{x}}", &plain(), json!({"x": "a\n"}), Fails(breaks)),
        subject("a NUL in the subject's data", "{{x}}", &plain(), json!({"x": "a\0b"}), Fails(breaks)),
        subject(
            "a long subject by data",
            "{{x}}",
            &plain(),
            json!({"x": "x".repeat(2_001)}),
            Fails("longer than 2,000"),
        ),
        subject("an empty subject by data", "{{x}}", &plain(), json!({"x": "  "}), Fails("would be empty")),
        subject(
            "a subject of 2,000 letters",
            "{{x}}",
            &plain(),
            json!({"x": "é".repeat(2_000)}),
            Renders(|mail| mail.subject.chars().count() == 2_000),
        ),
        subject(
            "markup in the subject's data",
            "{{x}}",
            &plain(),
            json!({"x": "<b>&\"'="}),
            Renders(|mail| mail.subject == "<b>&\"'="),
        ),
    ]
}

fn samples() -> Vec<Case> {
    let deep = nested("{\"a\":", "1", "}", 10_000);
    let rather_deep = nested("{\"a\":", "1", "}", 110);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(200_000));
    let wide = format!("{{\"a\":[{}0]}}", "0,".repeat(100_000));
    let escaped = format!("{{\"a\":\"{}\"}}", "\\u0000".repeat(40_000));
    let missing = Case {
        files: vec![
            ("mail/bad/en/subject.hbs".to_owned(), b"Hi".to_vec()),
            ("mail/bad/en/body.html.hbs".to_owned(), b"x".to_vec()),
        ],
        ..sample("no sample", b"", Refused("has no sample.json"))
    };
    vec![
        missing,
        sample("a sample that is not JSON", b"{\n\"a\": nope}", Refused("line 2: is not JSON here")),
        sample("an empty sample", b"", Refused("is not JSON here")),
        sample("a sample that is a list", b"[1, 2]", Refused("is not an object")),
        sample("a sample 10,000 deep", deep.as_bytes(), Refused("is not JSON here")),
        sample("a sample a little too deep", rather_deep.as_bytes(), Refused(DEEP)),
        sample("a sample with half a character", b"{\"a\": \"\\ud800\"}", Refused("is not JSON here")),
        sample("a sample with a number beyond all", b"{\"a\": 1e999}", Refused("is not JSON here")),
        sample("a sample that begins with a mark", b"\xef\xbb\xbf{}", Refused("is not JSON here")),
        sample("a sample that is not UTF-8", b"{\"a\": \"\xff\"}", Refused("is not UTF-8")),
        sample("a sample with two values", b"{} {}", Refused("is not JSON here")),
        sample("a large sample", large.as_bytes(), Renders(|_| true)),
        sample("a wide sample", wide.as_bytes(), Renders(|_| true)),
        sample("a sample of NULs", escaped.as_bytes(), Renders(|_| true)),
    ]
}

fn time_and_size() -> Vec<Case> {
    let loops = |depth: usize, inside: &str| nested("{{#each @root.list}}", inside, "{{/each}}", depth);
    let laughs = |last: &str| -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> =
            (1..30).map(|number| (format!("l{number}"), format!("{{{{> l{0}}}}}{{{{> l{0}}}}}", number + 1))).collect();
        all.push(("l30".to_owned(), last.to_owned()));
        all.push(("a".to_owned(), "{{> l1}}".to_owned()));
        all
    };
    let laughing = |name, last: &str, fate| {
        let all = laughs(last);
        let all: Vec<(&str, &str)> = all.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        partials(name, &all, fate)
    };
    let doubling: Vec<(String, String)> = (1..30)
        .map(|number| {
            (
                format!("d{number}"),
                format!("{{{{#> d{}}}}}{{{{> @partial-block}}}}{{{{> @partial-block}}}}{{{{/d{0}}}}}", number + 1),
            )
        })
        .chain([("d30".to_owned(), "x".to_owned()), ("a".to_owned(), "{{#> d1}}0123456789{{/d1}}".to_owned())])
        .collect();
    let doubling: Vec<(&str, &str)> = doubling.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let wide = json!({"list": (0..500).collect::<Vec<_>>(), "text": "x".repeat(100_000), "more": {"text": "x".repeat(100_000)}});
    let keys = json!({"keys": (0..500).map(|key| (key.to_string(), json!(key))).collect::<serde_json::Map<_, _>>()});
    let same = "{{#if (eq @root.text @root.text)}}{{/if}}".repeat(50);
    let many: String = (0..300).map(|number| format!("--p{number}:red;")).collect();
    let inflated = format!("<style>p {{ {many} }}</style>{}", "<p>x".repeat(500));
    let sink = format!("{{{{#> wrap}}}}{}{{{{/wrap}}}}", loops(4, "0123456789"));
    vec![
        with("a gigabyte", &loops(3, &"x".repeat(1_000)), &numbers(100), Refused(LARGE)),
        with("an endless loop that writes nothing", &loops(6, ""), &numbers(500), Refused(SLOW)),
        with("an endless loop that only asks", &loops(6, "{{#if (eq this 7)}}{{/if}}"), &numbers(500), Refused(SLOW)),
        with(
            "an endless loop that writes emptiness",
            &loops(6, "{{{@root.none.[0]}}}{{default \"\"}}"),
            &numbers(500),
            Refused(""),
        ),
        with("loops over keys", &nested("{{#each @root.keys}}", "", "{{/each}}", 6), &keys, Refused(SLOW)),
        with(
            "loops over keys that write",
            &nested("{{#each @root.keys}}", "{{@key}}", "{{/each}}", 6),
            &keys,
            Refused(LARGE),
        ),
        with(
            "loops with blocks inside",
            &loops(5, "{{#with @root.more}}{{#unless none}}{{/unless}}{{/with}}"),
            &numbers(500),
            Refused(SLOW),
        ),
        laughing("a billion laughs", "ha", Refused(LARGE)),
        laughing("a billion laughs nobody hears", "", Refused(SLOW)),
        laughing("a billion laughs in a branch", "{{#if x}}ha{{/if}}", Refused(SLOW)),
        partials("blocks that double", &doubling, Refused(LARGE)),
        with(
            "a loop into a block nobody shows",
            &format!("{{{{#*inline \"wrap\"}}}}gone{{{{/inline}}}}{sink}"),
            &numbers(100),
            Refused(LARGE),
        ),
        with("a long text again and again", &loops(2, "{{@root.text}}"), &wide, Refused(LARGE)),
        with("a long text unescaped again and again", &loops(2, "{{{@root.text}}}"), &wide, Refused(LARGE)),
        with("a long text into a URL again and again", &loops(2, "{{urlencode @root.text}}"), &wide, Refused(LARGE)),
        with(
            "a long text looked up again and again",
            &loops(2, "{{lookup @root.more \"text\"}}"),
            &wide,
            Refused(LARGE),
        ),
        with("a long text compared again and again", &loops(2, &same), &wide, Refused(SLOW)),
        with("a long list counted again and again", &loops(3, "{{#if (len @root.text)}}{{/if}}"), &wide, Refused(SLOW)),
        with(
            "a partial in a loop in a partial",
            &format!("{{{{#*inline \"p\"}}}}{}{{{{/inline}}}}{}", loops(3, ""), loops(3, "{{> p}}")),
            &numbers(500),
            Refused(SLOW),
        ),
        body("styles that swell", &inflated, Refused(LARGE)),
        meets(
            "a loop that only the data makes long",
            &nested("{{#each @root.list}}", "", "{{/each}}", 6),
            &numbers(2),
            numbers(500),
            Fails(SLOW),
        ),
        meets(
            "a mail that only the data makes large",
            &loops(3, "0123456789"),
            &numbers(2),
            numbers(500),
            Fails(LARGE),
        ),
        meets(
            "quotes that swell when escaped",
            "{{x}}",
            &json!({"x": "x"}),
            json!({"x": "\"".repeat(120_000)}),
            Renders(|mail| mail.html.as_ref().is_some_and(|html| html.len() == 720_000)),
        ),
        meets(
            "data that nests the elements",
            "{{{x}}}",
            &json!({"x": "x"}),
            json!({"x": "<div>".repeat(10_000)}),
            Fails(DEEP),
        ),
    ]
}

fn data() -> Vec<Case> {
    let script = "<script>alert(1)</script>";
    let out = |mail: &Rendered, wanted: &str| mail.html.as_ref().is_some_and(|html| html.contains(wanted));
    let _ = out;
    vec![
        meets(
            "a script in the data",
            "<p>{{x}}</p>",
            &json!({"x": "x"}),
            json!({"x": script}),
            Renders(|mail| mail.html.as_deref() == Some("<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>")),
        ),
        meets(
            "an attribute that breaks out",
            "<a href=\"{{x}}\">",
            &json!({"x": "x"}),
            json!({"x": "\" onclick=\"x"}),
            Renders(|mail| !mail.html.as_ref().is_some_and(|html| html.contains("\" onclick"))),
        ),
        meets(
            "an attribute in single quotes that breaks out",
            "<a href='{{x}}'>",
            &json!({"x": "x"}),
            json!({"x": "' onclick='x"}),
            Renders(|mail| !mail.html.as_ref().is_some_and(|html| html.contains("' onclick"))),
        ),
        meets(
            "a template in the data",
            "{{x}}",
            &json!({"x": "x"}),
            json!({"x": "{{#each this}}{{y}}{{/each}}"}),
            Renders(|mail| mail.html.as_ref().is_some_and(|html| html.contains("{{#each this}}"))),
        ),
        Case {
            data: Some(json!({"x": script})),
            files: vec![
                ("mail/bad/en/subject.hbs".to_owned(), b"Hi".to_vec()),
                ("mail/bad/en/body.mjml.hbs".to_owned(), in_mjml("<mj-text>{{x}}</mj-text>").into_bytes()),
                ("mail/bad/sample.json".to_owned(), b"{\"x\": \"x\"}".to_vec()),
            ],
            ..mjml(
                "a script in the data of MJML",
                "",
                Renders(|mail| {
                    mail.html
                        .as_ref()
                        .is_some_and(|html| html.contains("&lt;script&gt;") && !html.contains("<script>alert"))
                }),
            )
        },
        Case {
            data: Some(json!({"x": "</mj-text><mj-include path=\"/etc/passwd\"/>"})),
            files: vec![
                ("mail/bad/en/subject.hbs".to_owned(), b"Hi".to_vec()),
                ("mail/bad/en/body.mjml.hbs".to_owned(), in_mjml("<mj-text>{{x}}</mj-text>").into_bytes()),
                ("mail/bad/sample.json".to_owned(), b"{\"x\": \"x\"}".to_vec()),
            ],
            ..mjml(
                "MJML in the data",
                "",
                Renders(|mail| mail.html.as_ref().is_some_and(|html| html.contains("&lt;/mj-text&gt;"))),
            )
        },
        Case {
            data: Some(json!({"x": "\" onclick=\"alert(1)"})),
            files: vec![
                ("mail/bad/en/subject.hbs".to_owned(), b"Hi".to_vec()),
                (
                    "mail/bad/en/body.mjml.hbs".to_owned(),
                    in_mjml("<mj-button href=\"{{x}}\">x</mj-button>").into_bytes(),
                ),
                ("mail/bad/sample.json".to_owned(), b"{\"x\": \"x\"}".to_vec()),
            ],
            ..mjml(
                "an attribute of MJML that breaks out",
                "",
                Renders(|mail| !mail.html.as_ref().is_some_and(|html| html.contains("\" onclick"))),
            )
        },
        meets(
            "an end of style in the data",
            "<style>p { color: {{x}} }</style><p>x",
            &json!({"x": "red"}),
            json!({"x": "red}</style><script>"}),
            Renders(|mail| !mail.html.as_ref().is_some_and(|html| html.contains("<script>"))),
        ),
        meets("a variable that is not there", "{{x}}", &json!({"x": 1}), json!({}), Fails("the data has no x")),
        meets(
            "a step that is not there",
            "{{x.y.z}}",
            &json!({"x": {"y": {"z": 1}}}),
            json!({"x": {}}),
            Fails("the data has no x.y.z"),
        ),
        meets("a loop over nothing", "{{#each x}}{{/each}}", &json!({"x": []}), json!({}), Fails("the data has no x")),
        meets("a loop over a text", "{{#each x}}{{/each}}", &json!({"x": []}), json!({"x": "text"}), Fails("")),
        meets(
            "a look into nothing",
            "{{lookup x \"y\"}}",
            &json!({"x": {"y": 1}}),
            json!({"x": {}}),
            Fails("the data has nothing there"),
        ),
        meets(
            "a list asked for a name",
            "{{x.y}}",
            &json!({"x": {"y": 1}}),
            json!({"x": [1]}),
            Fails("a list is asked for a name"),
        ),
        meets(
            "a question about nothing",
            "{{#if x}}a{{else}}b{{/if}}",
            &json!({"x": 1}),
            json!({}),
            Renders(|mail| mail.html.as_deref() == Some("b")),
        ),
    ]
}

fn odd_data() -> Vec<Case> {
    let mut deep = json!(1);
    for _ in 0..2_000 {
        deep = Value::Array(vec![deep]);
    }
    let all = "{{number x}}{{date y}}{{money x \"EUR\"}}";
    let fine = || json!({"x": 1, "y": "2026-01-01"});
    let dated = |name, y: Value| meets(name, all, &fine(), json!({"x": 1, "y": y}), Fails("date: wants a date"));
    vec![
        meets(
            "data 2,000 deep",
            "x",
            &json!({}),
            Value::Object([("x".to_owned(), deep)].into_iter().collect()),
            Fails(DEEP),
        ),
        meets(
            "data of a megabyte",
            "x",
            &json!({}),
            json!({"x": "x".repeat(1 << 20)}),
            Fails("see templates.data_bytes_max"),
        ),
        meets("data of a million numbers", "x", &json!({}), numbers(1_000_000), Fails("see templates.data_bytes_max")),
        meets("data that is a text", "x", &json!({}), json!("x"), Fails("is not an object")),
        meets("data that is nothing", "x", &json!({}), Value::Null, Fails("is not an object")),
        meets("a huge number", all, &fine(), json!({"x": 1e308, "y": "2026-01-01"}), Fails("number: wants a number")),
        meets("a tiny number", "{{number x}}", &fine(), json!({"x": 5e-324}), Fails("number: wants a number")),
        meets(
            "the least number",
            "{{number x}}",
            &fine(),
            json!({"x": i64::MIN}),
            Renders(|mail| mail.html.as_deref() == Some("-9,223,372,036,854,775,808")),
        ),
        dated("a moment beyond time", json!(i64::MAX)),
        dated("a date that is no date", json!("2026-13-99")),
        dated("a long date", json!("2".repeat(100_000))),
        dated("a date that is an object", json!({"a": 1})),
        meets(
            "a format by data",
            "{{date y format=f}}",
            &json!({"y": "2026-01-01", "f": "short"}),
            json!({"y": "2026-01-01", "f": "%999999999d"}),
            Fails("format is none of"),
        ),
        meets(
            "a zone by data",
            "{{date y zone=z}}",
            &json!({"y": "2026-01-01", "z": "UTC"}),
            json!({"y": "2026-01-01", "z": "../../etc/passwd"}),
            Fails("zone is not a time zone"),
        ),
        meets(
            "a billion decimals",
            "{{number x digits=d}}",
            &json!({"x": 1, "d": 1}),
            json!({"x": 1, "d": 1_000_000_000}),
            Fails("digits is more than"),
        ),
        meets(
            "a currency by data",
            "{{money x c}}",
            &json!({"x": 1, "c": "EUR"}),
            json!({"x": 1, "c": "<script>"}),
            Fails("is not a code of three letters"),
        ),
        meets(
            "keys that mean something elsewhere",
            "{{x.__proto__}}{{x.constructor}}",
            &json!({"x": {"__proto__": 1, "constructor": 2}}),
            json!({"x": {}}),
            Fails("the data has no"),
        ),
        meets(
            "a key named as a helper",
            "{{#if if}}{{if.if}}{{/if}}",
            &json!({"if": {"if": 1}}),
            json!({"if": {"if": 2}}),
            Renders(|_| true),
        ),
        meets(
            "letters that turn the writing round",
            "{{x}}",
            &json!({"x": "x"}),
            json!({"x": "\u{202e}\u{2066}\u{feff}\u{fffd}"}),
            Renders(|mail| mail.html.as_deref() == Some("\u{202e}\u{2066}\u{feff}\u{fffd}")),
        ),
        meets(
            "a list written out",
            "{{x}}",
            &json!({"x": []}),
            json!({"x": [[["<b>"]]]}),
            Renders(|mail| mail.html.as_deref() == Some("[[[&lt;b&gt;]]]")),
        ),
    ]
}
