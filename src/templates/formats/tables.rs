//! What the cultures write around numbers: signs, groups, currencies. After the Unicode CLDR (version 46).

use super::super::culture::Culture;
use super::calendar;

/// Where the sign of a currency stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// 12 €
    Behind,
    /// € 12
    Before,
    /// €12
    BeforeTight,
}

/// Numbers of a culture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) group: &'static str,
    pub(super) point: &'static str,
    pub(super) money_group: &'static str,
    pub(super) money_point: &'static str,
    /// Digits from which on they are grouped.
    pub(super) group_from: usize,
    pub(super) minus: &'static str,
    pub(super) side: Side,
}

const fn numbers_of(group: &'static str, point: &'static str, side: Side) -> Numbers {
    Numbers { group, point, money_group: group, money_point: point, group_from: 4, minus: "-", side }
}

const N_ANY: Numbers = numbers_of(",", ".", Side::Before);
const N_EN: Numbers = numbers_of(",", ".", Side::BeforeTight);
const N_DOT: Numbers = numbers_of(".", ",", Side::Behind);
const N_SPACE: Numbers = numbers_of("\u{a0}", ",", Side::Behind);
const N_FR: Numbers = numbers_of("\u{202f}", ",", Side::Behind);
const N_SWISS: Numbers = numbers_of("’", ".", Side::Before);
const N_NORTH: Numbers = Numbers { minus: "\u{2212}", ..N_SPACE };

/// How numbers are written in a culture.
pub(super) fn numbers(culture: &Culture) -> &'static Numbers {
    const DE_AT: Numbers = Numbers { money_group: ".", side: Side::Before, ..N_SPACE };
    const ES: Numbers = Numbers { group_from: 5, ..N_DOT };
    const NL: Numbers = Numbers { side: Side::Before, ..N_DOT };
    const PT_BR: Numbers = Numbers { side: Side::Before, ..N_DOT };
    const WIDE: Numbers = Numbers { group_from: 5, ..N_SPACE };
    match culture.chain().collect::<Vec<_>>().as_slice() {
        [.., "en"] | ["es-MX", ..] => &N_EN,
        ["fr-CA", ..] | [.., "cs"] => &N_SPACE,
        [.., "fr"] => &N_FR,
        ["de-AT", ..] => &DE_AT,
        ["de-CH" | "de-LI" | "it-CH", ..] => &N_SWISS,
        [.., "de" | "it" | "da"] => &N_DOT,
        [.., "es"] => &ES,
        [.., "nl"] => &NL,
        ["pt-BR", ..] => &PT_BR,
        [.., "pt" | "pl"] => &WIDE,
        [.., "sv" | "nb" | "no" | "fi"] => &N_NORTH,
        _ => &N_ANY,
    }
}

/// The decimals of a currency.
pub(super) fn decimals(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV"
        | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// The sign of a currency where everybody in the culture knows it, else its code.
pub(super) fn symbol<'a>(currency: &'a str, culture: &Culture) -> &'a str {
    let (language, name) = (culture.language(), culture.as_str());
    match (currency, language) {
        // Its readers are not known either.
        _ if !calendar::is_known(culture) => currency,
        ("EUR", _) => "€",
        ("GBP", _) => "£",
        ("CAD", _) if name.ends_with("-CA") => "$",
        ("USD", "fr") => "$US",
        ("USD", _) => "$",
        ("JPY", "en" | "de" | "it" | "nl" | "pt") => "¥",
        ("SEK", "sv") | ("NOK", "nb" | "no") => "kr",
        ("DKK", "da") => "kr.",
        ("PLN", "pl") => "zł",
        ("CZK", "cs") => "Kč",
        ("BRL", "pt") => "R$",
        _ => currency,
    }
}
