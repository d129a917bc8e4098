//! Templates that lead too deep, round in circles, or where they may not.

use super::*;

pub(super) fn circles() -> Vec<Case> {
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

pub(super) fn names() -> Vec<Case> {
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

pub(super) fn depths() -> Vec<Case> {
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
