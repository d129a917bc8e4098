//! Renders that would cost too much time, memory or output.

use super::*;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn time_and_size() -> Vec<Case> {
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
    let many = (0..300).map(|number| format!("--p{number}:red;")).collect::<Vec<_>>().concat();
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
