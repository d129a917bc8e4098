//! What a folder may hold: problems with file and line, all at once, and own files over shipped ones.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::super::files::{File, Files};
use super::*;

fn shipped(files: &[(&str, &str)]) -> Files {
    let of = |(path, text): &(&str, &str)| {
        let file = File { source: Source::Shipped, shown: format!("shipped {path}"), text: Some((*text).to_owned()) };
        ((*path).to_owned(), file)
    };
    files.iter().map(of).collect()
}

#[test]
fn every_problem_is_told_at_once_with_file_and_line() {
    let folder = Folder::new()
        .mail("one", "<p>\n{{#if x}}\n", &json!({}))
        .mail("two", "ok\n{{missing}}", &json!({}))
        .with("mail/two/en/body.html", "typo")
        .with("mail/three/en/subject.hbs", "no body, no sample")
        .with("mail/four/english-of-the-kings/subject.hbs", "x")
        .with("mail/five/en/subject.hbs", b"ok\n\xff")
        .with("mail/five/en/body.text.hbs", "x")
        .with("mail/five/sample.json", "{\n\"a\": }")
        .with("partials/loop.hbs", "a\n{{> loop}}")
        .with("partials/sub/x.hbs", "x")
        .with("mails/x.hbs", "x")
        .with("README.md", "notes are nobody's business")
        .with(".git/config", "nor is this");
    let (_, problems) = folder.load();
    assert_eq!(
        problems,
        [
            "mail/five/en/subject.hbs: line 2: is not UTF-8",
            "mail/five/sample.json: line 2: is not JSON here",
            "mail/four/english-of-the-kings/subject.hbs: \"english-of-the-kings\" is not a culture, as in en or fr-CA",
            "mail/one/en/body.html.hbs: line 3: is not handlebars here: {{#if}} of line 2 is open",
            "mail/three: has no body in en: body.html.hbs, body.mjml.hbs or body.text.hbs",
            "mail/three: has no sample.json: the mail is rendered with it when it is loaded",
            "mail/two/en/body.html: is none of subject.hbs, body.html.hbs, body.mjml.hbs and body.text.hbs",
            "mail/two/en/body.html.hbs: line 2: with the sample of two: the data has no missing",
            "mails: is none of the folders mail, partials and pages",
            "partials/loop.hbs: line 2: the partial loop calls itself without end: loop → loop",
            "partials/sub/x.hbs: a partial is partials/<name>.hbs",
        ]
    );
}

#[tokio::test]
async fn own_files_are_laid_over_shipped_ones_one_by_one() {
    let beneath = shipped(&[
        ("mail/hi/en/subject.hbs", "Shipped {{brand}}"),
        ("mail/hi/en/body.html.hbs", "<p>shipped</p>"),
        ("mail/hi/en/body.text.hbs", "shipped text"),
        ("mail/hi/fr/subject.hbs", "Livré"),
        ("mail/hi/fr/body.mjml.hbs", "<mjml><mj-body></mj-body></mjml>"),
        ("mail/hi/sample.json", "{\"brand\": \"B\"}"),
    ]);
    let folder = Folder::new().with("mail/hi/EN/body.html.hbs", "<p>own</p>");
    let (templates, problems) = load::load_over(beneath.clone(), &folder.settings(), Vec::new());
    assert_eq!(problems, []);
    let mail = templates.render(None, "hi", &["en"], json!({"brand": "B"})).await.unwrap();
    assert_eq!((mail.subject.as_str(), mail.html.as_deref()), ("Shipped B", Some("<p>own</p>")));
    assert_eq!(mail.text, None, "the shipped text tells the shipped mail");
    let of = |culture: &str, source, engine| Listed { culture: culture.to_owned(), source, engine, has_text: false };
    assert_eq!(templates.listed("hi"), [of("en", "own", "html"), of("fr", "shipped", "mjml")]);

    let (alone, problems) =
        load::load_over(beneath, &TemplateSettings { dir: String::new(), ..folder.settings() }, vec![]);
    assert!(problems.is_empty() && alone.fingerprint() != templates.fingerprint());
    let mail = alone.render(None, "hi", &["en"], json!({"brand": "B"})).await.unwrap();
    assert_eq!(mail.text.as_deref(), Some("shipped text"));
}

#[test]
fn a_folder_that_is_missing_is_a_problem_only_when_somebody_asked_for_it() {
    let folder = Folder::new();
    let dir = folder.path().join("none").display().to_string();
    let (_, problems) = folder.load_with(&TemplateSettings { dir, ..folder.settings() });
    assert_eq!(problems, ["none: there is no such folder"]);
    folder.put("file", "x");
    let dir = folder.path().join("file").display().to_string();
    let (_, problems) = folder.load_with(&TemplateSettings { dir, ..folder.settings() });
    assert_eq!(problems, ["file: is not a folder"]);
    let (_, problems) = folder.load_with(&TemplateSettings { dir: String::new(), ..folder.settings() });
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn links_folders_as_files_and_files_as_folders_are_told_and_do_no_harm() {
    let folder = Folder::new().mail("ok", "fine", &json!({}));
    symlink(folder.path(), folder.path().join("mail/ok/en/again")).unwrap();
    symlink("mail", folder.path().join("pages")).unwrap();
    symlink("nowhere", folder.path().join("mail/dangling")).unwrap();
    fs::create_dir_all(folder.path().join("mail/dir/en/subject.hbs/deep/deeper")).unwrap();
    folder.put("partials", "a file");
    let (templates, problems) = folder.load();
    assert_eq!(
        problems,
        [
            "mail/dangling: cannot be read: entity not found",
            "mail/dir/en/subject.hbs: is a folder where a file is wanted",
            "mail/ok/en/again: is a folder where a file is wanted",
            "pages: is a link to a folder that was read already",
        ]
    );
    assert!(templates.has("ok"));
}

#[test]
fn a_link_out_of_the_folder_is_told_and_not_followed_and_a_pipe_is_not_waited_for() {
    let folder = Folder::new().mail("ok", "fine", &json!({}));
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("subject.hbs"), "secret").unwrap();
    symlink("/", folder.path().join("mail/root")).unwrap();
    symlink("/proc", folder.path().join("partials")).unwrap();
    symlink(outside.path(), folder.path().join("mail/ok/fr")).unwrap();
    symlink(outside.path().join("subject.hbs"), folder.path().join("mail/ok/en/body.text.hbs")).unwrap();
    fs::create_dir_all(folder.path().join("mail/pipe/en")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("mail/pipe/en/subject.hbs"), mode).unwrap();
    let (templates, problems) = folder.load();
    let out = "is a link that leads out of templates.dir";
    assert_eq!(
        problems,
        [
            format!("mail/ok/en/body.text.hbs: {out}"),
            format!("mail/ok/fr: {out}"),
            "mail/pipe/en/subject.hbs: is neither a file nor a folder".to_owned(),
            format!("mail/root: {out}"),
            format!("partials: {out}"),
        ]
    );
    assert!(templates.has("ok") && !templates.has("root"));
}

#[test]
fn a_folder_that_is_mounted_as_links_within_itself_is_read() {
    let folder =
        Folder::new().with("..2026_11/mail/ok/en/subject.hbs", "Hi").with("..2026_11/mail/ok/en/body.text.hbs", "x");
    folder.put("..2026_11/mail/ok/sample.json", "{}");
    symlink("..2026_11", folder.path().join("..data")).unwrap();
    symlink("..data/mail", folder.path().join("mail")).unwrap();
    assert!(folder.templates().has("ok"));
    let real = folder.path().display().to_string();
    let elsewhere = TempDir::new().unwrap();
    let dir = elsewhere.path().join("templates");
    symlink(real, &dir).unwrap();
    let (templates, problems) =
        folder.load_with(&TemplateSettings { dir: dir.display().to_string(), ..folder.settings() });
    assert!(templates.has("ok") && problems.is_empty(), "{problems:?}");
}

#[test]
fn too_many_files_are_a_problem_and_not_a_long_wait() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().join("partials")).unwrap();
    for number in 0..10_000 {
        fs::write(folder.path().join(format!("partials/p{number}.hbs")), "x").unwrap();
    }
    let (_, problems) = folder.load();
    assert!(problems[0].ends_with("holds more than 2000 files: see templates.files_max"), "{problems:?}");
}

#[test]
fn two_files_for_one_place_are_told() {
    let folder = Folder::new()
        .mail("a", "html", &json!({}))
        .with("mail/a/en/body.mjml.hbs", "<mjml><mj-body></mj-body></mjml>")
        .with("mail/a/EN/subject.hbs", "x");
    let (_, problems) = folder.load();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.contains("stands in the same place as")), "{problems:?}");
}

#[test]
fn another_text_or_limit_is_another_fingerprint() {
    let folder = Folder::new().mail("a", "one", &json!({}));
    let one = folder.templates().fingerprint();
    assert_eq!(one, folder.templates().fingerprint());
    let (other, _) = folder.load_with(&TemplateSettings { threads: std::num::NonZeroU8::MIN, ..folder.settings() });
    assert_ne!(one, other.fingerprint());
    folder.put("mail/a/en/body.html.hbs", "two");
    assert_ne!(one, folder.templates().fingerprint());
}
