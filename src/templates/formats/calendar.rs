//! Names of months and days, and the order of a date. After the Unicode CLDR (version 46), the year always in four digits.

use super::super::culture::Culture;

/// How dates are written in a culture.
pub(super) fn language(culture: &Culture) -> &'static Language {
    const EN_CA: Language = Language { short: "y-M-D", ..EN };
    const FR_CA: Language = Language { short: "y-M-D", clock: Clock::Letter, ..FR };
    const FR_CH: Language = Language { short: "D.M.y", ..FR };
    const IT_CH: Language = Language { short: "D.M.y", ..IT };
    match culture.chain().collect::<Vec<_>>().as_slice() {
        ["en" | "en-US" | "en-PH", ..] => &EN,
        ["en-CA", ..] => &EN_CA,
        [_, .., "en"] => &EN_GB,
        ["fr-CA", ..] => &FR_CA,
        ["fr-CH", ..] => &FR_CH,
        [.., "fr"] => &FR,
        [.., "de"] => &DE,
        [.., "es"] => &ES,
        ["it-CH", ..] => &IT_CH,
        [.., "it"] => &IT,
        [.., "nl"] => &NL,
        [.., "pt"] => &PT,
        [.., "pl"] => &PL,
        [.., "sv"] => &SV,
        [.., "da"] => &DA,
        [.., "nb" | "no"] => &NB,
        [.., "fi"] => &FI,
        [.., "cs"] => &CS,
        _ => &ANY,
    }
}

/// Whether the culture is one of those here.
pub(super) fn is_known(culture: &Culture) -> bool {
    language(culture).weekdays != &NO_DAYS
}
/// How the time of day is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// 2:30 PM
    Half,
    /// 14:30
    Colon,
    /// 14.30
    Dot,
    /// 14 h 30
    Letter,
}

/// Dates of a culture. For the patterns see `write_date`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Language {
    pub(super) months: &'static [&'static str; 12],
    pub(super) months_short: &'static [&'static str; 12],
    pub(super) weekdays: &'static [&'static str; 7],
    pub(super) short: &'static str,
    pub(super) medium: &'static str,
    pub(super) long: &'static str,
    pub(super) full: &'static str,
    /// The first day of a month.
    pub(super) first: &'static str,
    /// Between a date and its time.
    pub(super) and: &'static str,
    pub(super) clock: Clock,
}

/// A month without a name.
const DIGITS: [&str; 12] = ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"];
/// Days without names.
const NO_DAYS: [&str; 7] = [""; 7];

/// Whoever reads it knows the order.
const ANY: Language = Language {
    months: &DIGITS,
    months_short: &DIGITS,
    weekdays: &NO_DAYS,
    short: "y-M-D",
    medium: "y-M-D",
    long: "y-M-D",
    full: "y-M-D",
    first: "1",
    and: " ",
    clock: Clock::Colon,
};

const EN: Language = Language {
    months: &[
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    months_short: &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    weekdays: &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    short: "m/d/y",
    medium: "b d, y",
    long: "B d, y",
    full: "E, B d, y",
    and: ", ",
    clock: Clock::Half,
    ..ANY
};

const EN_GB: Language =
    Language { short: "D/M/y", medium: "d b y", long: "d B y", full: "E d B y", clock: Clock::Colon, ..EN };

const FR: Language = Language {
    months: &[
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
    months_short: &["janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc."],
    weekdays: &["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"],
    short: "D/M/y",
    medium: "d b y",
    long: "d B y",
    full: "E d B y",
    first: "1er",
    and: " à ",
    ..ANY
};

const DE: Language = Language {
    months: &[
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ],
    months_short: &["Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."],
    weekdays: &["Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"],
    short: "D.M.y",
    medium: "d. b y",
    long: "d. B y",
    full: "E, d. B y",
    and: " um ",
    ..ANY
};

const ES: Language = Language {
    months: &[
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ],
    months_short: &["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"],
    weekdays: &["lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"],
    short: "d/m/y",
    medium: "d b y",
    long: "d 'de' B 'de' y",
    full: "E, d 'de' B 'de' y",
    and: ", ",
    ..ANY
};

const IT: Language = Language {
    months: &[
        "gennaio",
        "febbraio",
        "marzo",
        "aprile",
        "maggio",
        "giugno",
        "luglio",
        "agosto",
        "settembre",
        "ottobre",
        "novembre",
        "dicembre",
    ],
    months_short: &["gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"],
    weekdays: &["lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"],
    short: "D/M/y",
    medium: "d b y",
    long: "d B y",
    full: "E d B y",
    and: " alle ore ",
    ..ANY
};

const NL: Language = Language {
    months: &[
        "januari",
        "februari",
        "maart",
        "april",
        "mei",
        "juni",
        "juli",
        "augustus",
        "september",
        "oktober",
        "november",
        "december",
    ],
    months_short: &["jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"],
    weekdays: &["maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag"],
    short: "D-M-y",
    medium: "d b y",
    long: "d B y",
    full: "E d B y",
    and: " om ",
    ..ANY
};

const PT: Language = Language {
    months: &[
        "janeiro",
        "fevereiro",
        "março",
        "abril",
        "maio",
        "junho",
        "julho",
        "agosto",
        "setembro",
        "outubro",
        "novembro",
        "dezembro",
    ],
    months_short: &["jan.", "fev.", "mar.", "abr.", "mai.", "jun.", "jul.", "ago.", "set.", "out.", "nov.", "dez."],
    weekdays: &["segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado", "domingo"],
    short: "D/M/y",
    medium: "d 'de' b 'de' y",
    long: "d 'de' B 'de' y",
    full: "E, d 'de' B 'de' y",
    and: " às ",
    ..ANY
};

const PL: Language = Language {
    months: &[
        "stycznia",
        "lutego",
        "marca",
        "kwietnia",
        "maja",
        "czerwca",
        "lipca",
        "sierpnia",
        "września",
        "października",
        "listopada",
        "grudnia",
    ],
    months_short: &["sty", "lut", "mar", "kwi", "maj", "cze", "lip", "sie", "wrz", "paź", "lis", "gru"],
    weekdays: &["poniedziałek", "wtorek", "środa", "czwartek", "piątek", "sobota", "niedziela"],
    short: "D.M.y",
    medium: "d b y",
    long: "d B y",
    full: "E, d B y",
    and: " ",
    ..ANY
};

const SV: Language = Language {
    months: &[
        "januari",
        "februari",
        "mars",
        "april",
        "maj",
        "juni",
        "juli",
        "augusti",
        "september",
        "oktober",
        "november",
        "december",
    ],
    months_short: &["jan.", "feb.", "mars", "apr.", "maj", "juni", "juli", "aug.", "sep.", "okt.", "nov.", "dec."],
    weekdays: &["måndag", "tisdag", "onsdag", "torsdag", "fredag", "lördag", "söndag"],
    medium: "d b y",
    long: "d B y",
    full: "E d B y",
    and: " kl. ",
    ..ANY
};

const DA: Language = Language {
    months: &[
        "januar",
        "februar",
        "marts",
        "april",
        "maj",
        "juni",
        "juli",
        "august",
        "september",
        "oktober",
        "november",
        "december",
    ],
    months_short: &["jan.", "feb.", "mar.", "apr.", "maj", "jun.", "jul.", "aug.", "sep.", "okt.", "nov.", "dec."],
    weekdays: &["mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag"],
    short: "D.M.y",
    medium: "d. b y",
    long: "d. B y",
    full: "E 'den' d. B y",
    and: " kl. ",
    clock: Clock::Dot,
    ..ANY
};

const NB: Language = Language {
    months: &[
        "januar",
        "februar",
        "mars",
        "april",
        "mai",
        "juni",
        "juli",
        "august",
        "september",
        "oktober",
        "november",
        "desember",
    ],
    months_short: &["jan.", "feb.", "mars", "apr.", "mai", "juni", "juli", "aug.", "sep.", "okt.", "nov.", "des."],
    weekdays: &["mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag"],
    short: "D.M.y",
    medium: "d. b y",
    long: "d. B y",
    full: "E d. B y",
    and: " kl. ",
    ..ANY
};

const FI: Language = Language {
    months: &[
        "tammikuuta",
        "helmikuuta",
        "maaliskuuta",
        "huhtikuuta",
        "toukokuuta",
        "kesäkuuta",
        "heinäkuuta",
        "elokuuta",
        "syyskuuta",
        "lokakuuta",
        "marraskuuta",
        "joulukuuta",
    ],
    weekdays: &["maanantai", "tiistai", "keskiviikko", "torstai", "perjantai", "lauantai", "sunnuntai"],
    short: "d.m.y",
    medium: "d.m.y",
    long: "d. B y",
    full: "E d. B y",
    and: " klo ",
    clock: Clock::Dot,
    ..ANY
};

const CS: Language = Language {
    months: &[
        "ledna",
        "února",
        "března",
        "dubna",
        "května",
        "června",
        "července",
        "srpna",
        "září",
        "října",
        "listopadu",
        "prosince",
    ],
    weekdays: &["pondělí", "úterý", "středa", "čtvrtek", "pátek", "sobota", "neděle"],
    short: "d. m. y",
    medium: "d. m. y",
    long: "d. B y",
    full: "E d. B y",
    and: " v ",
    ..ANY
};
