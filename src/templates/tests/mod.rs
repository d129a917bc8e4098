//! Templates as a brand meets them.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

mod hostile;
mod loading;
mod rendering;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::domain::quantity::HumanDuration;

/// A folder of templates, with nothing shipped beneath.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.put(path, text);
        self
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A mail with a subject.
    fn mail(self, name: &str, body: &str, sample: &Value) -> Self {
        self.with(&format!("mail/{name}/en/subject.hbs"), "Hello\n")
            .with(&format!("mail/{name}/en/body.html.hbs"), body)
            .with(&format!("mail/{name}/sample.json"), sample.to_string())
    }

    fn settings(&self) -> TemplateSettings {
        let render_timeout = HumanDuration(Duration::from_secs(1));
        TemplateSettings { dir: self.0.path().display().to_string(), render_timeout, ..TemplateSettings::default() }
    }

    fn load(&self) -> (Templates, Vec<String>) {
        self.load_with(&self.settings())
    }

    fn load_with(&self, settings: &TemplateSettings) -> (Templates, Vec<String>) {
        let (templates, problems) = load::load_over(files::Files::new(), settings, Vec::new());
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
