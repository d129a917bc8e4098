//! Cultures (`fr`, `fr-CA`): how they are written, compared, and which of several is taken.

use std::fmt;

/// Letters of a culture's name at most.
const LENGTH_MAX: usize = 35;

/// A culture. `fr_ca` and `FR-ca` are the same as `fr-CA`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Culture(String);

impl Culture {
    /// Reads a name. `None` when it is none: a language of two or three letters, then parts of one to eight letters or
    /// digits behind `-` or `_`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > LENGTH_MAX {
            return None;
        }
        let mut name = String::with_capacity(text.len());
        for (index, part) in text.split(['-', '_']).enumerate() {
            let written = part.chars().all(|c| c.is_ascii_alphanumeric());
            if index == 0 {
                if !(2..=3).contains(&part.len()) || !part.chars().all(|c| c.is_ascii_alphabetic()) {
                    return None;
                }
                name.push_str(&part.to_ascii_lowercase());
                continue;
            }
            if part.is_empty() || part.len() > 8 || !written {
                return None;
            }
            name.push('-');
            match part.len() {
                2 => name.push_str(&part.to_ascii_uppercase()),
                4 if part.chars().all(|c| c.is_ascii_alphabetic()) => {
                    name.push_str(&part[..1].to_ascii_uppercase());
                    name.push_str(&part[1..].to_ascii_lowercase());
                }
                _ => name.push_str(&part.to_ascii_lowercase()),
            }
        }
        Some(Self(name))
    }

    /// The name, as in `fr-CA`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The language: `fr` of `fr-CA`.
    #[must_use]
    pub fn language(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }

    /// This one, then those it is a kind of: `fr-CA`, `fr`.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        let mut rest = Some(self.0.as_str());
        std::iter::from_fn(move || {
            let now = rest?;
            rest = now.rfind('-').map(|at| &now[..at]);
            Some(now)
        })
    }
}

impl Default for Culture {
    /// Formats of no country in particular are read by most as English.
    fn default() -> Self {
        Self("en".to_owned())
    }
}

impl fmt::Display for Culture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is taken of what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// The one there is.
    pub(super) culture: Culture,
    /// How dates and numbers are written: as was wanted, when that is the same language.
    pub(super) formats: Culture,
}

/// Takes one of `there`: for each of the wanted ones, best first, it or what it is a kind of (`fr-CA`, then `fr`), else
/// another of the same language; when nothing of that is there, the first in the alphabet. Names that are no culture are
/// passed over.
pub(super) fn choose<'a>(wanted: &[&str], there: impl Iterator<Item = &'a Culture> + Clone) -> Option<Choice> {
    for wanted in wanted.iter().filter_map(|text| Culture::read(text)) {
        let exact = wanted.chain().find_map(|name| there.clone().find(|one| one.as_str() == name));
        let found = exact.or_else(|| there.clone().find(|one| one.language() == wanted.language()));
        if let Some(culture) = found {
            return Some(Choice { culture: culture.clone(), formats: wanted });
        }
    }
    let mut there = there;
    there.next().map(|culture| Choice { culture: culture.clone(), formats: culture.clone() })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn taken(wanted: &[&str], there: &[&str]) -> String {
        let mut there: Vec<Culture> = there.iter().map(|name| Culture::read(name).unwrap()).collect();
        there.sort();
        choose(wanted, there.iter()).unwrap().culture.to_string()
    }

    #[test]
    fn a_culture_is_compared_without_case_and_dashes() {
        for text in ["fr-CA", "fr_CA", "FR-ca", "fr_ca"] {
            assert_eq!(Culture::read(text).unwrap().as_str(), "fr-CA");
        }
        assert_eq!(Culture::read("ZH_hant_tw").unwrap().as_str(), "zh-Hant-TW");
        for text in
            ["", "f", "french", "fr-", "fr--CA", "../en", "fr/CA", "en US", "e\u{301}n", "fr-CA-".repeat(9).as_str()]
        {
            assert_eq!(Culture::read(text), None, "{text}");
        }
    }

    #[test]
    fn the_best_wanted_culture_that_is_there_is_taken_else_its_language_else_the_next() {
        assert_eq!(taken(&["fr-CA", "en"], &["en", "fr", "fr-CA"]), "fr-CA");
        assert_eq!(taken(&["fr_ca", "en"], &["en", "fr"]), "fr");
        assert_eq!(taken(&["fr", "en"], &["en", "fr-CA"]), "fr-CA");
        assert_eq!(taken(&["de-AT", "it", "FR"], &["en", "fr"]), "fr");
        assert_eq!(taken(&["nonsense!", "fr"], &["en", "fr"]), "fr");
        assert_eq!(taken(&["de"], &["en", "fr"]), "en");
        assert_eq!(taken(&[], &["fr", "it"]), "fr");
    }
}
