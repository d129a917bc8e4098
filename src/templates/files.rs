//! The files themselves: those that are part of the binary, and the brand's own laid over them, one by one.
//!
//! The folder is anybody's: whatever it holds is read with limits, and what cannot be used is a problem with its name.
//! Links are followed within it (a mounted configuration map is made of them), but never out of it; every folder is looked into
//! once only, and not deeper than any layout goes. What blocks its reader (a pipe) is not waited for.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;
use rustix::fs::OFlags;

use super::TemplateProblem;
use super::settings::{DIR_DEFAULT, TemplateSettings};

/// Folders in folders: `mail/<name>/<culture>` is three.
const FOLDERS_DEPTH_MAX: usize = 3;
/// Folders that hold no templates of mails or pages: the gateway's own pages.
const OTHERS: &str = "console";

#[derive(RustEmbed)]
#[folder = "templates/"]
struct Shipped;

/// Who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Postern: it is part of the binary.
    Shipped,
    /// The brand: it is in `templates.dir`.
    Own,
}

impl Source {
    /// As people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shipped => "shipped",
            Self::Own => "own",
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) source: Source,
    /// As problems name it.
    pub(super) shown: String,
    /// `None`: it cannot be used, and a problem says why.
    pub(super) text: Option<String>,
}

/// The files of both, by their path with `/`; own ones stand in the place of shipped ones.
pub(super) type Files = BTreeMap<String, File>;

/// The shipped files.
pub(super) fn shipped(problems: &mut Vec<TemplateProblem>) -> Files {
    let mut files = Files::new();
    for path in Shipped::iter() {
        if path.starts_with(OTHERS) {
            continue;
        }
        let shown = format!("shipped {path}");
        let content = Shipped::get(&path).map(|file| file.data.into_owned()).unwrap_or_default();
        let text = String::from_utf8(content).ok();
        if text.is_none() {
            problems.push(TemplateProblem::new(shown.as_str(), "is not UTF-8"));
        }
        files.insert(path.into_owned(), File { source: Source::Shipped, shown, text });
    }
    files
}

/// The files in the folder of the settings.
pub(super) fn own(settings: &TemplateSettings, problems: &mut Vec<TemplateProblem>) -> Files {
    let folder = Path::new(&settings.dir);
    let mut reading = Reading {
        settings,
        root: folder,
        real_root: PathBuf::new(),
        files: Files::new(),
        count: 0,
        seen: HashSet::new(),
        problems,
    };
    if settings.dir.is_empty() {
        return reading.files;
    }
    match fs::metadata(folder).and_then(|found| Ok((found, fs::canonicalize(folder)?))) {
        Ok((found, real)) if found.is_dir() => {
            reading.real_root = real;
            reading.folder("", 0);
        }
        Ok(_) => reading.say("", "is not a folder"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && settings.dir == DIR_DEFAULT => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => reading.say("", "there is no such folder"),
        Err(error) => reading.say("", format!("cannot be read: {}", error.kind())),
    }
    reading.files
}

struct Reading<'a> {
    settings: &'a TemplateSettings,
    root: &'a Path,
    /// The same without links.
    real_root: PathBuf,
    files: Files,
    count: u32,
    /// Folders looked into, by device and number: a link may lead back.
    seen: HashSet<(u64, u64)>,
    problems: &'a mut Vec<TemplateProblem>,
}

impl Reading<'_> {
    fn shown(&self, path: &str) -> String {
        if path.is_empty() { self.root.display().to_string() } else { self.root.join(path).display().to_string() }
    }

    fn say(&mut self, path: &str, detail: impl Into<String>) {
        let shown = self.shown(path);
        self.problems.push(TemplateProblem::new(shown, detail));
    }

    fn is_full(&self) -> bool {
        self.count > self.settings.files_max.get()
    }

    fn folder(&mut self, path: &str, depth: usize) {
        let full = self.root.join(path);
        let place = fs::metadata(&full).map(|found| (found.dev(), found.ino()));
        let (entries, place) = match (fs::read_dir(&full), place) {
            (Ok(entries), Ok(place)) => (entries, place),
            (Err(error), _) | (_, Err(error)) => return self.say(path, format!("cannot be read: {}", error.kind())),
        };
        if !self.seen.insert(place) {
            return self.say(path, "is a link to a folder that was read already");
        }
        let mut names = Vec::new();
        for entry in entries {
            self.count += 1;
            if self.is_full() {
                let max = self.settings.files_max;
                return self.say("", format!("holds more than {max} files: see templates.files_max"));
            }
            let Ok(entry) = entry else { continue };
            match entry.file_name().into_string() {
                Ok(name) => names.push(name),
                Err(name) => self.say(path, format!("the name {} is not UTF-8", name.display())),
            }
        }
        names.sort();
        for name in names {
            // What editors, file managers and version control leave behind.
            if name.starts_with('.') || name.ends_with('~') {
                continue;
            }
            let inner = if path.is_empty() { name } else { format!("{path}/{name}") };
            if !self.is_full() {
                self.entry(inner, depth);
            }
        }
    }

    fn entry(&mut self, path: String, depth: usize) {
        let full = self.root.join(&path);
        let (found, real) = match fs::metadata(&full).and_then(|found| Ok((found, fs::canonicalize(&full)?))) {
            Ok(found) => found,
            Err(error) => return self.say(&path, format!("cannot be read: {}", error.kind())),
        };
        if !real.starts_with(&self.real_root) {
            return self.say(&path, "is a link that leads out of templates.dir");
        }
        let at_top = depth == 0;
        if found.is_dir() {
            match path.as_str() {
                OTHERS if at_top => {}
                "mail" | "pages" | "partials" => self.folder(&path, depth + 1),
                _ if at_top => self.say(&path, "is none of the folders mail, partials and pages"),
                _ if depth >= FOLDERS_DEPTH_MAX => self.say(&path, "is a folder where a file is wanted"),
                _ => self.folder(&path, depth + 1),
            }
        } else if at_top {
            // Notes beside the folders (README.md) are nobody's business.
        } else if found.is_file() {
            self.file(path);
        } else {
            self.say(&path, "is neither a file nor a folder");
        }
    }

    fn file(&mut self, path: String) {
        let text = self.text(&path).map_err(|problem| self.problems.push(problem)).ok();
        let shown = self.shown(&path);
        self.files.insert(path, File { source: Source::Own, shown, text });
    }

    fn text(&self, path: &str) -> Result<String, TemplateProblem> {
        let (shown, max) = (self.shown(path), self.settings.file_bytes_max);
        let mut bytes = Vec::new();
        let cannot = |error: std::io::Error| TemplateProblem::new(&shown, format!("cannot be read: {}", error.kind()));
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(self.root.join(path))
            .map_err(cannot)?;
        // What the name stands for may be another by now: the file that is open counts.
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(TemplateProblem::new(shown, "is neither a file nor a folder"));
        }
        file.take(max.0.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > max.0 {
            return Err(TemplateProblem::new(shown, format!("is larger than {max}: see templates.file_bytes_max")));
        }
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = memchr::memchr_iter(b'\n', valid).count() + 1;
            TemplateProblem { line: Some(line), ..TemplateProblem::new(shown, "is not UTF-8") }
        })
    }
}
