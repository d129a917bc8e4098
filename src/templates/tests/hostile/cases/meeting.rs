//! Data that is not what the template hoped for.

use super::*;

pub(super) fn subjects() -> Vec<Case> {
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

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn data() -> Vec<Case> {
    let script = "<script>alert(1)</script>";
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

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn odd_data() -> Vec<Case> {
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
