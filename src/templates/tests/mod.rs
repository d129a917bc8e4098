//! Templates as a brand meets them.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A folder of templates.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// A mail with a subject.
    fn mail(self, name: &str, body: &str, sample: &Value) -> Self {
        self.with(&format!("mail/{name}/en/subject.hbs"), "Hello\n")
            .with(&format!("mail/{name}/en/body.html.hbs"), body)
            .with(&format!("mail/{name}/sample.json"), sample.to_string())
    }

    fn settings(&self) -> TemplateSettings {
        TemplateSettings { dir: self.0.path().display().to_string(), ..TemplateSettings::default() }
    }

    fn load(&self) -> (Templates, Vec<String>) {
        self.load_with(&self.settings())
    }

    fn load_with(&self, settings: &TemplateSettings) -> (Templates, Vec<String>) {
        let (templates, problems) = Templates::load(settings);
        let inside = format!("{}/", self.0.path().display());
        (templates, problems.iter().map(|problem| problem.to_string().replace(&inside, "")).collect())
    }

    /// Loads what must have no problem.
    fn templates(&self) -> Templates {
        let (templates, problems) = self.load();
        assert_eq!(problems, Vec::<String>::new());
        templates
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[tokio::test]
async fn a_mail_is_rendered_in_its_parts() {
    let folder = Folder::new()
        .with("mail/hi/en/subject.hbs", "Hello {{name}}\n")
        .with("mail/hi/en/body.html.hbs", "{{#> frame}}<p>{{name}}{{#if gone}}!{{/if}}</p>{{/frame}}")
        .with("mail/hi/en/body.text.hbs", "{{name}}")
        .with("mail/hi/fr/subject.hbs", "Bonjour {{name}}")
        .with("mail/hi/fr/body.mjml.hbs", "<mjml><mj-body><mj-section><mj-column><mj-text>{{name}}</mj-text></mj-column></mj-section></mj-body></mjml>")
        .with("mail/hi/sample.json", r#"{"name": "Ann & <Bob>"}"#)
        .with("partials/frame.hbs", "<html><head><style>p { color: red }</style></head><body>{{> @partial-block}}</body></html>");
    let templates = folder.templates();
    assert!(templates.has("hi"));
    let data = json!({"name": "Ann & <Bob>"});
    let english = templates.render("hi", &["en"], data.clone()).await.unwrap();
    assert_eq!(english.subject, "Hello Ann & <Bob>");
    assert_eq!(english.text.as_deref(), Some("Ann & <Bob>"));
    let html = english.html.unwrap();
    assert!(html.contains("Ann &amp; &lt;Bob&gt;") && html.contains("<p style=\"color: red"), "{html}");
    let french = templates.render("hi", &["fr-CA", "en"], data).await.unwrap();
    assert_eq!((french.subject.as_str(), french.culture.as_str(), french.text), ("Bonjour Ann & <Bob>", "fr", None));
    let html = french.html.unwrap();
    assert!(html.contains("Ann &amp; &lt;Bob&gt;") && html.contains("<table"), "{html}");
}
