//! One journey, for people: who it is for, its steps with what became of them, its versions.

use std::collections::BTreeMap;

use crate::cli::output::printable;
use crate::domain::journey::view::DrawingView;
use crate::journeys::desk::{JourneyLine, JourneyView, VersionLine};

/// The journey as a text.
pub(super) fn text(journey: &JourneyView) -> String {
    let JourneyView { line, drawing, versions, steps } = journey;
    let JourneyLine { name, tenant, version, drawn, mode, counts, .. } = line;
    let mut lines = vec![format!("{name}  ({tenant})  {}", mode.as_str())];
    if !drawn {
        lines.push("There is no file of it any more: it takes nobody, and nobody in it goes on.".to_owned());
    }
    if let Some(drawing) = drawing {
        lines.extend(head(drawing));
    }
    lines.push(String::new());
    lines.push(format!("Entered  {}", counts.entered));
    lines.extend(
        counts.by_status.iter().filter(|(_, count)| **count > 0).map(|(status, count)| format!("  {status}  {count}")),
    );
    lines.push(String::new());
    lines.push(format!("Steps of {version}, the version that who enters now begins with"));
    // What became of each step of this version.
    let mut became: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for count in steps.iter().filter(|count| count.version == *version) {
        became.entry(count.step).or_default().push(format!("{} {}", count.count, count.outcome));
    }
    for step in drawing.iter().flat_map(|drawing| &drawing.steps) {
        let became = became.get(&step.step).map(|parts| format!("  ({})", parts.join(", "))).unwrap_or_default();
        lines.push(format!("  {}  {}{became}", step.step, printable(&step.text)));
    }
    if !versions.is_empty() {
        lines.push(String::new());
        lines.push("Versions that somebody entered".to_owned());
        lines.extend(
            versions.iter().map(|VersionLine { version, first_entered_at }| {
                format!("  {version}  first on {first_entered_at:.0}")
            }),
        );
    }
    lines.join("\n")
}

fn head(drawing: &DrawingView) -> Vec<String> {
    let exits: Vec<String> = drawing.exit_on.iter().map(ToString::to_string).collect();
    let mut lines = vec![format!("Begins with  {}, {}", drawing.trigger, drawing.entry)];
    if !exits.is_empty() {
        lines.push(format!("Ends with    {}", exits.join(", ")));
    }
    if let Some(hours) = drawing.quiet_hours {
        lines.push(format!("Quiet        {hours}"));
    }
    lines
}
