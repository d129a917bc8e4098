//! Which partial calls which: none may come back to itself, and none may lead too deep.
//!
//! Inside a template handlebars looks a name up among the inline partials that happen to be defined, then among the
//! files. So a name here is all of it: the file of that name, and every inline partial of that name in any file. That is
//! more than can be called, never less.

use std::collections::BTreeMap;

use super::compile::{Call, Compiled, Inline};

/// What is wrong with a call of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It comes back to itself on this way.
    Circle(Vec<String>),
    /// Blocks and partials, all together, nest deeper than may be.
    TooDeep,
    /// There is no such partial.
    Missing,
}

/// Everything that can be called by a name.
pub(super) struct Calls<'a> {
    /// Partial files by name; `None`: has a problem of its own.
    partials: BTreeMap<&'a str, Option<&'a Compiled>>,
    inlines: BTreeMap<&'a str, Vec<&'a Inline>>,
    depth_max: usize,
}

/// What is known of a name.
#[derive(Clone, PartialEq, Eq)]
enum Known {
    /// It is being looked at.
    Open,
    /// So deep it leads.
    Deep(usize),
    /// It leads into a circle, or too deep.
    Wrong(Wrong),
}

impl<'a> Calls<'a> {
    pub(super) fn new(
        partials: BTreeMap<&'a str, Option<&'a Compiled>>,
        others: impl Iterator<Item = &'a Compiled>,
        depth_max: usize,
    ) -> Self {
        let mut inlines: BTreeMap<&str, Vec<&Inline>> = BTreeMap::new();
        let files = partials.values().copied().flatten().chain(others);
        for inline in files.flat_map(|compiled| &compiled.inlines) {
            inlines.entry(&inline.name).or_default().push(inline);
        }
        Self { partials, inlines, depth_max }
    }

    /// What is wrong with the calls of one file, with their lines.
    pub(super) fn wrongs(&self, compiled: &'a Compiled) -> Vec<(Option<usize>, String, Wrong)> {
        let mut known = BTreeMap::new();
        let mut wrongs = Vec::new();
        let own = compiled.inlines.iter().flat_map(|inline| &inline.calls);
        for call in compiled.calls.iter().chain(own) {
            let wrong = match self.look(call, &mut known) {
                Ok(_) => self.is_missing(call).then_some(Wrong::Missing),
                Err(wrong) => Some(wrong),
            };
            wrongs.extend(wrong.map(|wrong| (call.line, call.name.clone(), wrong)));
        }
        wrongs
    }

    fn is_missing(&self, call: &Call) -> bool {
        let name = call.name.as_str();
        !call.has_fallback && !self.partials.contains_key(name) && !self.inlines.contains_key(name)
    }

    /// How deep a call leads, with the blocks around it. As many names are open at once as `depth_max` allows.
    fn look(&self, call: &'a Call, known: &mut BTreeMap<&'a str, Known>) -> Result<usize, Wrong> {
        let name = call.name.as_str();
        match known.get(name) {
            Some(Known::Open) => {
                return Err(Wrong::Circle(vec![name.to_owned()]));
            }
            Some(Known::Deep(depth)) => return self.within(call.depth + 1 + depth),
            Some(Known::Wrong(wrong)) => return Err(wrong.clone()),
            None => {}
        }
        if known.values().filter(|known| **known == Known::Open).count() > self.depth_max {
            return Err(Wrong::TooDeep);
        }
        known.insert(name, Known::Open);
        let file = self.partials.get(name).copied().flatten();
        let inlines = self.inlines.get(name).into_iter().flatten();
        let own = file.map(|file| file.depth).into_iter().chain(inlines.clone().map(|inline| inline.depth)).max();
        let calls =
            file.map(|file| file.calls.as_slice()).into_iter().chain(inlines.map(|inline| inline.calls.as_slice()));
        let mut deepest = Ok(own.unwrap_or_default());
        for inner in calls.flatten() {
            match self.look(inner, known) {
                Ok(depth) => deepest = deepest.map(|deepest: usize| deepest.max(depth)),
                Err(Wrong::Circle(mut way)) => {
                    if way.len() < 2 || way.first() != way.last() {
                        way.insert(0, name.to_owned());
                    }
                    deepest = Err(Wrong::Circle(way));
                    break;
                }
                Err(wrong) => {
                    deepest = Err(wrong);
                    break;
                }
            }
        }
        known.insert(
            name,
            match &deepest {
                Ok(depth) => Known::Deep(*depth),
                Err(wrong) => Known::Wrong(wrong.clone()),
            },
        );
        self.within(call.depth + 1 + deepest?)
    }

    fn within(&self, depth: usize) -> Result<usize, Wrong> {
        if depth > self.depth_max { Err(Wrong::TooDeep) } else { Ok(depth) }
    }
}

impl Wrong {
    /// As people read it.
    pub(super) fn in_words(&self, name: &str, depth_max: usize) -> String {
        match self {
            Self::Circle(way) => format!("the partial {name} calls itself without end: {}", way.join(" → ")),
            Self::TooDeep => {
                format!("the partial {name} leads deeper than {depth_max} partials and blocks: see templates.depth_max")
            }
            Self::Missing => format!("there is no partial {name}"),
        }
    }
}
