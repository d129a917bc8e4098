//! What comes out of templates that mean well.

use serde_json::json;

use super::*;

const MJML: &str = "<mjml><mj-body><mj-section><mj-column><mj-text>{{name}}</mj-text>\
                    <mj-button href=\"{{link}}\">Go</mj-button></mj-column></mj-section></mj-body></mjml>";

#[tokio::test]
async fn a_mail_is_rendered_in_its_parts_in_the_culture_that_is_there() {
    let frame = "<html><head><style>p { color: red } @media (max-width: 9px) { p { color: blue } }</style></head>\
                 <body>{{> @partial-block}}</body></html>";
    let folder = Folder::new()
        .with("mail/hi/en/subject.hbs", "Hello {{name}}\n")
        .with("mail/hi/en/body.html.hbs", "{{#> frame}}<p>{{name}}{{#if gone}}!{{/if}}</p>{{/frame}}")
        .with("mail/hi/en/body.text.hbs", "{{name}}")
        .with("mail/hi/fr/subject.hbs", "Bonjour {{name}}")
        .with("mail/hi/fr/body.mjml.hbs", MJML)
        .with("mail/hi/sample.json", r#"{"name": "Ann & <Bob>", "link": "https://x.example/?a=1&b=2"}"#)
        .with("partials/frame.hbs", frame);
    let templates = folder.templates();
    assert!(templates.has("hi") && !templates.has("ho"));
    assert_eq!((templates.names(), templates.cultures("hi")), (vec!["hi"], vec!["en", "fr"]));
    let data = templates.sample("hi").unwrap();
    let english = templates.render(None, "hi", &["en"], data.clone()).await.unwrap();
    assert_eq!(english.subject, "Hello Ann & <Bob>");
    assert_eq!(english.text.as_deref(), Some("Ann & <Bob>"));
    let html = english.html.unwrap();
    assert!(html.contains("<p style=\"color: red") && html.contains(">Ann &amp; &lt;Bob&gt;</p>"), "{html}");
    assert!(html.contains("@media"), "what cannot be inlined stays: {html}");
    let french = templates.render(None, "hi", &["fr-CA", "en"], data.clone()).await.unwrap();
    assert_eq!((french.subject.as_str(), french.culture.as_str(), french.text), ("Bonjour Ann & <Bob>", "fr", None));
    let html = french.html.unwrap();
    assert!(html.contains("Ann &amp; &lt;Bob&gt;") && html.contains("<table"), "{html}");
    assert!(html.contains("href=\"https://x.example/?a=1&amp;b=2\""), "{html}");
    assert!(!html.contains("googleapis"), "no font of others is loaded: {html}");
}

#[tokio::test]
async fn a_page_is_rendered_and_an_unknown_name_is_an_error() {
    let folder = Folder::new()
        .with("pages/bye/en.html.hbs", "<p>Bye {{who}}</p>")
        .with("pages/bye/fr_CA.html.hbs", "<p>Salut {{who}}</p>")
        .with("pages/bye/sample.json", "{\"who\": \"x\"}");
    let templates = folder.templates();
    let page = templates.page("bye", &["fr"], json!({"who": "<i>"})).await;
    assert_eq!(page.unwrap(), "<p>Salut &lt;i&gt;</p>");
    let unknown = RenderError::Unknown { name: "hi".to_owned() };
    assert_eq!(templates.page("hi", &["fr"], json!({})).await, Err(unknown.clone()));
    assert_eq!(templates.render(None, "hi", &["fr"], json!({})).await, Err(unknown));
}

#[tokio::test]
async fn an_error_says_template_line_and_culture_and_nothing_of_the_data() {
    let folder = Folder::new()
        .mail("a", "<p>\n{{> part}}</p>", &json!({"ok": true}))
        .with("partials/part.hbs", "{{#if ok}}{{else}}\n\n{{number gone}}{{/if}}");
    let templates = folder.templates();
    let error = templates.render(None, "a", &["fr"], json!({"ok": false, "gone": "secret"})).await.unwrap_err();
    let said = error.to_string().replace(folder.path().to_str().unwrap(), "");
    assert_eq!(said, "/partials/part.hbs: line 3: number: wants a number of at most 40 digits (culture en)");
    assert!(!error.is_passing());
}

#[tokio::test]
async fn layouts_nest_and_each_block_reaches_its_own_layout() {
    let folder = Folder::new()
        .mail("a", "{{#> outer}}{{#> inner}}{{#each list}}{{this}}{{@index}}{{/each}}{{/inline-less}}", &json!({}))
        .with("partials/outer.hbs", "<o>{{> @partial-block}}</o>")
        .with("partials/inner.hbs", "<i>{{#> outer}}x{{> @partial-block}}x{{/outer}}{{> @partial-block}}</i>");
    folder.put(
        "mail/a/en/body.html.hbs",
        "{{#> outer}}{{#> inner}}{{#each list}}{{this}}{{@index}}{{/each}}{{/inner}}{{/outer}}",
    );
    folder.put("mail/a/sample.json", "{\"list\": [\"a\", \"b\"]}");
    let html = folder.templates().render(None, "a", &[], json!({"list": ["a", "b"]})).await.unwrap().html.unwrap();
    assert_eq!(html, "<o><i><o>xa0b1x</o>a0b1</i></o>");
}

#[tokio::test]
async fn an_inline_partial_fills_a_place_of_the_layout() {
    let folder = Folder::new()
        .mail("a", "{{#> frame}}{{#*inline \"foot\"}}mine {{x}}{{/inline}}body{{/frame}}", &json!({"x": 1}))
        .mail("b", "{{#> frame}}body{{/frame}}", &json!({}))
        .with("partials/frame.hbs", "{{> @partial-block}}-{{#> foot}}usual{{/foot}}");
    let templates = folder.templates();
    let html = async |name| templates.render(None, name, &[], json!({"x": 1})).await.unwrap().html.unwrap();
    assert_eq!((html("a").await, html("b").await), ("body-mine 1".to_owned(), "body-usual".to_owned()));
}

#[tokio::test]
async fn helpers_write_for_the_culture_that_was_wanted() {
    let folder = Folder::new().with("mail/a/sample.json", "{}").with("mail/a/fr/subject.hbs", "x").with(
        "mail/a/fr/body.text.hbs",
        "{{date \"2026-03-01\"}}|{{number 1234.5 digits=2}}|{{money 5 \"EUR\"}}|{{urlencode \"a b&c/é\"}}|\
         {{default none empty \"you\"}}|{{#if (eq 1 1)}}{{#if (and true (or false true))}}yes{{/if}}{{/if}}",
    );
    let templates = folder.templates();
    let text = async |culture| {
        let text = templates.render(None, "a", &[culture], json!({"empty": ""})).await.unwrap().text.unwrap();
        text.replace(['\u{a0}', '\u{202f}'], "_")
    };
    assert_eq!(text("fr").await, "1er mars 2026|1_234,50|5,00_€|a%20b%26c%2F%C3%A9|you|yes");
    assert_eq!(text("fr-CA").await, "1er mars 2026|1_234,50|5,00_€|a%20b%26c%2F%C3%A9|you|yes");
}

#[tokio::test]
async fn a_name_alone_is_the_datas_even_where_a_helper_has_it() {
    let names = ["raw", "len", "date", "number", "money", "link", "default", "lookup", "with", "if", "urlencode"];
    let body = names.map(|name| format!("{{{{{name}}}}} {{{{{{{name}}}}}}} ")).concat();
    let data: serde_json::Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), json!(name))).collect();
    let data = Value::Object(data);
    let folder = Folder::new().mail("a", &format!("<p>{body}</p>{{{{len raw}}}}"), &data);
    let html = folder.templates().render(None, "a", &[], data).await.unwrap().html.unwrap();
    let twice = names.map(|name| format!("{name} {name} ")).concat();
    assert_eq!(html, format!("<p>{twice}</p>3"));
}

#[tokio::test]
async fn a_link_from_data_is_one_that_can_be_followed_or_the_mail_is_refused_by_its_name() {
    let sample = json!({"url": "https://a.example/b?c=d"});
    let folder = Folder::new().mail("a", r#"<a href="{{link url}}">x</a>"#, &sample);
    let templates = folder.templates();
    for good in ["https://a.example/", "HTTP://a.example", "mailto:a@b.example", "tel:+33"] {
        assert!(templates.render(None, "a", &[], json!({"url": good})).await.unwrap().html.unwrap().contains(good));
    }
    for bad in [
        json!("javascript:alert(1)"),
        json!(" java\nscript:x"),
        json!("data:text/html,x"),
        json!("/a"),
        json!(""),
        json!(1),
    ] {
        let error = templates.render(None, "a", &[], json!({"url": bad})).await.unwrap_err().to_string();
        assert!(error.contains("link: url must be a whole address") && !error.contains("alert"), "{error}");
    }
}
