//! Where in a file each key stands, so that a problem can name its line.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::reading::{Step, key_text};

/// The lines of a file's keys, from 1, by the keys as problems name them.
pub(super) struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// Those of a text. Of one that is not TOML, none.
    pub(super) fn of(text: &str) -> Self {
        let Ok(table) = DeTable::parse(text) else { return Self(BTreeMap::new()) };
        let mut lines = BTreeMap::new();
        let mut look = Look { text, lines: &mut lines, path: Vec::new() };
        look.table(table.get_ref());
        Self(lines)
    }

    /// The line of a key; where it is missing, of what it is missing from. `None`: the whole file is meant.
    pub(super) fn of_key(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.0.get(key) {
                return Some(*line);
            }
            let end = key.rfind(['.', '['])?;
            key = &key[..end];
        }
    }
}

/// The line of a byte of a text, from 1.
pub(super) fn line_at(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count() + 1
}

struct Look<'t, 'l> {
    text: &'t str,
    lines: &'l mut BTreeMap<String, usize>,
    path: Vec<Step>,
}

impl Look<'_, '_> {
    fn table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let at = key.span().start;
            self.enter(Step::Key(key.get_ref().to_string()), at, value.get_ref());
        }
    }

    fn enter(&mut self, step: Step, at: usize, value: &DeValue<'_>) {
        self.path.push(step);
        self.lines.insert(key_text("", &self.path), line_at(self.text, at));
        match value {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.enter(Step::Index(index), item.span().start, item.get_ref());
                }
            }
            _ => {}
        }
        self.path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_line_and_a_missing_one_that_of_what_it_is_missing_from() {
        let text = "a = 1\n\n[when]\n\"b.c\" = [\n  1,\n  2,\n]\n[[step]]\nsend = \"x\"\n# é\n[[step]]\nwait = \"1d\"\nif = { x = 1,\n  y = 2 }\n";
        let lines = Lines::of(text);
        for (key, line) in [
            ("a", Some(1)),
            ("when", Some(3)),
            ("when.\"b.c\"", Some(4)),
            ("when.\"b.c\"[1]", Some(6)),
            ("when.missing", Some(3)),
            ("step[0]", Some(8)),
            ("step[0].send", Some(9)),
            ("step[1]", Some(11)),
            ("step[1].stop", Some(11)),
            ("step[1].if.y", Some(14)),
            ("step[1].if.z", Some(13)),
            ("step[2]", Some(8)),
            ("missing", None),
        ] {
            assert_eq!(lines.of_key(key), line, "{key}");
        }
        assert_eq!(Lines::of("a = ").of_key("a"), None);
    }
}
