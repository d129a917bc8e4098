//! `journeys/<name>.toml`: what follows when a brand's pass is added or removed, as drawn there.
//!
//! A file is read as written (`written`), then it must make sense (`drawing`); every mistake is named with its line. Which
//! templates there are is not known here: what a journey names is listed for whoever knows.

mod drawing;
pub(super) mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use self::drawing::Sheet;
use self::written::JourneyFile;
use super::files::{parse_table, read_file, stem, toml_files};
use super::lines::Lines;
use super::reading::{Origin, read};
use super::{Problem, Problems, TemplateNamed};
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::{Drawn, Journey};

/// Journeys at most.
const JOURNEYS_MAX: usize = 10_000;

/// What the folder says.
#[derive(Default)]
pub(super) struct Drawings {
    pub(super) journeys: BTreeMap<JourneyName, Arc<Drawn>>,
    pub(super) templates_named: Vec<TemplateNamed>,
}

/// Reads every journey. A tenant that is none is a mistake; `tenants` are all there are files of.
pub(super) fn read_journeys(folder: &Path, tenants: &BTreeSet<TenantId>, problems: &mut Problems) -> Drawings {
    let mut drawings = Drawings::default();
    for path in toml_files(folder, JOURNEYS_MAX, "journeys", problems) {
        let file = path.display().to_string();
        let Some(text) = read_file(&path, problems) else { continue };
        let (lines, mut found) = (Lines::of(&text), Problems::default());
        let mut sheet = Sheet { file: &file, problems: &mut found, tenants, sends: Vec::new() };
        let journey = read_journey(&mut sheet, stem(&path), &text);
        for (key, template) in sheet.sends {
            let line = lines.of_key(&key);
            drawings.templates_named.push(TemplateNamed { template, file: file.clone(), line, key });
        }
        problems.append(in_order(found, &lines));
        drawings.journeys.extend(journey.map(|journey| (journey.name.clone(), Arc::new(Drawn::from(journey)))));
    }
    drawings
}

fn read_journey(sheet: &mut Sheet<'_>, name: &str, text: &str) -> Option<Journey> {
    let name: Option<JourneyName> = name
        .parse()
        .map_err(|detail: String| sheet.say("", format!("the file's name is not a journey's: {detail}")))
        .ok();
    let table = parse_table(sheet.file, text, sheet.problems)?;
    let origin = Origin { file: sheet.file, within: "", overrides: Vec::new() };
    let written: JourneyFile = read(origin, table, sheet.problems)?;
    sheet.draw(name, written)
}

/// Problems of one file as one reads it, each with its line.
fn in_order(found: Problems, lines: &Lines) -> Problems {
    let mut found = found.0;
    for problem in &mut found {
        problem.line = problem.line.or_else(|| lines.of_key(&problem.key));
    }
    found.sort_by_key(|Problem { line, .. }| *line);
    Problems(found)
}
