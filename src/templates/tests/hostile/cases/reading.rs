//! Files, syntax, elements and samples that cannot be what they say.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn elements() -> Vec<Case> {
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

pub(super) fn syntax() -> Vec<Case> {
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

pub(super) fn samples() -> Vec<Case> {
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
