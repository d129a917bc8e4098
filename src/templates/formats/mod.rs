//! Dates, numbers and money as a culture writes them.
//!
//! The cultures known are those of `tables` and `calendar`: most of Europe's, with their usual countries. Any other is written so that
//! nobody misreads it: `2026-11-26`, `1,234.5`, `EUR 12.50`. A library for all cultures (ICU) would be larger than the
//! rest of the gateway together.

mod calendar;
mod decimal;
mod tables;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::Value;

use self::calendar::{Clock, Language};
use self::decimal::Decimal;
use self::tables::{Numbers, Side};
use super::culture::Culture;

/// Numbers of seconds beyond this are milliseconds: it is the year 5138.
const SECONDS_MAX: i64 = 100_000_000_000;
/// Decimals of a number for which nobody said how many, at most.
const DECIMALS_DEFAULT: usize = 3;
/// Decimals at most.
const DECIMALS_MAX: u64 = 20;

/// A moment, as much of it as was given.
struct Moment {
    date: Date,
    time: Option<Time>,
}

/// A date: `short` (numbers only), `medium`, `long` (the default), `full` (with the day of the week), `time`, or
/// `datetime` (long, with the time). A moment is told as in `zone`, without one as in UTC.
pub(super) fn date(
    value: &Value,
    format: Option<&str>,
    zone: Option<&str>,
    culture: &Culture,
) -> Result<String, String> {
    let zone = match zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|_| "zone is not a time zone, as in Europe/Paris")?,
    };
    let moment = read_moment(value, &zone).ok_or("wants a date, as in 2026-11-26 or 2026-11-26T14:30:00Z")?;
    let language = calendar::language(culture);
    let time = || {
        let time = moment.time.ok_or("this date has no time")?;
        Ok::<_, String>(write_time(time, language.clock))
    };
    match format.unwrap_or("long") {
        "short" => Ok(write_date(language.short, moment.date, language)),
        "medium" => Ok(write_date(language.medium, moment.date, language)),
        "long" => Ok(write_date(language.long, moment.date, language)),
        "full" => Ok(write_date(language.full, moment.date, language)),
        "time" => time(),
        "datetime" => Ok(format!("{}{}{}", write_date(language.long, moment.date, language), language.and, time()?)),
        _ => Err("format is none of short, medium, long, full, time and datetime".to_owned()),
    }
}

fn read_moment(value: &Value, zone: &TimeZone) -> Option<Moment> {
    let of = |at: Timestamp| {
        let at = at.to_zoned(zone.clone());
        Moment { date: at.date(), time: Some(at.time()) }
    };
    if let Some(number) = value.as_i64() {
        let at = if number.abs() > SECONDS_MAX {
            Timestamp::from_millisecond(number)
        } else {
            Timestamp::from_second(number)
        };
        return at.ok().map(of);
    }
    let text = value.as_str()?.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(of(at));
    }
    if let Ok(at) = text.parse::<Zoned>() {
        return Some(of(at.timestamp()));
    }
    // Without a zone it is told as it is. A date alone would also be read as midnight.
    if let Ok(at) = text.parse::<DateTime>()
        && text.contains(['T', 't', ' '])
    {
        return Some(Moment { date: at.date(), time: Some(at.time()) });
    }
    text.parse::<Date>().ok().map(|date| Moment { date, time: None })
}

/// Letters stand for parts: `E` the day of the week, `d` and `D` the day (`D` in two digits), `m` and `M` the month in
/// digits (`M` in two), `b` and `B` its name (`B` in full), `y` the year. Other letters are put in quotes.
fn write_date(pattern: &str, date: Date, language: &Language) -> String {
    let index = |number: i8| usize::try_from(number - 1).unwrap_or_default();
    let month = index(date.month());
    let mut written = String::new();
    let mut quoted = false;
    for c in pattern.chars() {
        match c {
            '\'' => quoted = !quoted,
            _ if quoted => written.push(c),
            'E' => written.push_str(language.weekdays[index(date.weekday().to_monday_one_offset())]),
            'd' if date.day() == 1 => written.push_str(language.first),
            'd' => written.push_str(&date.day().to_string()),
            'D' => written.push_str(&two_digits(date.day())),
            'm' => written.push_str(&date.month().to_string()),
            'M' => written.push_str(&two_digits(date.month())),
            'b' => written.push_str(language.months_short[month]),
            'B' => written.push_str(language.months[month]),
            'y' => written.push_str(&date.year().to_string()),
            _ => written.push(c),
        }
    }
    written
}

fn two_digits(number: i8) -> String {
    format!("{number:02}")
}

fn write_time(time: Time, clock: Clock) -> String {
    let (hour, minute) = (time.hour(), time.minute());
    match clock {
        Clock::Half => {
            let half = if hour < 12 { "AM" } else { "PM" };
            let hour = if hour % 12 == 0 { 12 } else { hour % 12 };
            format!("{hour}:{minute:02}\u{a0}{half}")
        }
        Clock::Colon => format!("{hour:02}:{minute:02}"),
        Clock::Dot => format!("{hour}.{minute:02}"),
        Clock::Letter => format!("{hour}\u{a0}h\u{a0}{minute:02}"),
    }
}

/// A number with `digits` decimals; without that as many as it has, three at most.
pub(super) fn number(value: &Value, digits: Option<u64>, culture: &Culture) -> Result<String, String> {
    let mut decimal = read_decimal(value)?;
    match digits {
        Some(digits) if digits > DECIMALS_MAX => return Err(format!("digits is more than {DECIMALS_MAX}")),
        Some(digits) => decimal.set_decimals(usize::try_from(digits).unwrap_or_default()),
        None => decimal.at_most(DECIMALS_DEFAULT),
    }
    let numbers = tables::numbers(culture);
    Ok(format!("{}{}", minus(&decimal, numbers), decimal.written(numbers.group, numbers.point, numbers.group_from)))
}

/// An amount of a currency, by its ISO 4217 code.
pub(super) fn money(value: &Value, currency: &str, culture: &Culture) -> Result<String, String> {
    if currency.len() != 3 || !currency.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err("the currency is not a code of three letters, as in EUR".to_owned());
    }
    let currency = currency.to_ascii_uppercase();
    let mut decimal = read_decimal(value)?;
    decimal.set_decimals(tables::decimals(&currency));
    let numbers = tables::numbers(culture);
    let amount = decimal.written(numbers.money_group, numbers.money_point, numbers.group_from);
    let symbol = tables::symbol(&currency, culture);
    let minus = minus(&decimal, numbers);
    Ok(match numbers.side {
        Side::Behind => format!("{minus}{amount}\u{a0}{symbol}"),
        Side::Before => format!("{minus}{symbol}\u{a0}{amount}"),
        Side::BeforeTight if symbol.ends_with(|c: char| c.is_alphabetic()) => {
            format!("{minus}{symbol}\u{a0}{amount}")
        }
        Side::BeforeTight => format!("{minus}{symbol}{amount}"),
    })
}

fn minus(decimal: &Decimal, numbers: &Numbers) -> &'static str {
    if decimal.is_negative() { numbers.minus } else { "" }
}

fn read_decimal(value: &Value) -> Result<Decimal, String> {
    let read = match value {
        Value::Number(number) => Decimal::read(&number.to_string()),
        Value::String(text) => Decimal::read(text.trim()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    read.ok_or_else(|| format!("wants a number of at most {} digits", decimal::DIGITS_MAX))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use serde_json::json;

    use super::*;

    fn of(name: &str) -> Culture {
        Culture::read(name).unwrap()
    }

    fn plain(text: &str) -> String {
        text.replace(['\u{a0}', '\u{202f}'], "_")
    }

    #[test]
    fn a_date_is_written_as_its_culture_writes_it() {
        let day = json!("2026-11-26");
        for (culture, short, long, full) in [
            ("en", "11/26/2026", "November 26, 2026", "Thursday, November 26, 2026"),
            ("en-GB", "26/11/2026", "26 November 2026", "Thursday 26 November 2026"),
            ("fr", "26/11/2026", "26 novembre 2026", "jeudi 26 novembre 2026"),
            ("fr-CA", "2026-11-26", "26 novembre 2026", "jeudi 26 novembre 2026"),
            ("de-AT", "26.11.2026", "26. November 2026", "Donnerstag, 26. November 2026"),
            ("es", "26/11/2026", "26 de noviembre de 2026", "jueves, 26 de noviembre de 2026"),
            ("it", "26/11/2026", "26 novembre 2026", "giovedì 26 novembre 2026"),
            ("nl", "26-11-2026", "26 november 2026", "donderdag 26 november 2026"),
            ("pt-BR", "26/11/2026", "26 de novembro de 2026", "quinta-feira, 26 de novembro de 2026"),
            ("pl", "26.11.2026", "26 listopada 2026", "czwartek, 26 listopada 2026"),
            ("sv", "2026-11-26", "26 november 2026", "torsdag 26 november 2026"),
            ("da", "26.11.2026", "26. november 2026", "torsdag den 26. november 2026"),
            ("nb", "26.11.2026", "26. november 2026", "torsdag 26. november 2026"),
            ("fi", "26.11.2026", "26. marraskuuta 2026", "torstai 26. marraskuuta 2026"),
            ("cs", "26. 11. 2026", "26. listopadu 2026", "čtvrtek 26. listopadu 2026"),
            ("ja", "2026-11-26", "2026-11-26", "2026-11-26"),
        ] {
            let write = |format| date(&day, Some(format), None, &of(culture)).unwrap();
            assert_eq!([write("short"), write("long"), write("full")], [short, long, full], "{culture}");
        }
        assert_eq!(date(&json!("2026-03-01"), None, None, &of("fr")).unwrap(), "1er mars 2026");
        assert_eq!(date(&json!("2026-03-01"), Some("medium"), None, &of("de")).unwrap(), "1. März 2026");
    }

    #[test]
    fn a_moment_is_told_in_its_zone() {
        let at = json!("2026-11-26T23:30:00Z");
        let write = |zone, culture| plain(&date(&at, Some("datetime"), zone, &of(culture)).unwrap());
        assert_eq!(write(None, "en"), "November 26, 2026, 11:30_PM");
        assert_eq!(write(Some("Europe/Paris"), "fr"), "27 novembre 2026 à 00:30");
        assert_eq!(write(Some("America/Montreal"), "fr-CA"), "26 novembre 2026 à 18_h_30");
        for same in [json!(1_795_735_800), json!(1_795_735_800_000_i64), json!("2026-11-27T00:30:00+01:00")] {
            assert_eq!(date(&same, Some("time"), None, &of("de")).unwrap(), "23:30", "{same}");
        }
        assert_eq!(date(&json!("2026-11-26T08:05:00"), Some("time"), Some("Asia/Tokyo"), &of("da")).unwrap(), "8.05");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for value in
            [json!("soon"), json!(null), json!(1.5), json!(i64::MAX), json!({}), json!("2026-02-30"), json!("")]
        {
            assert!(date(&value, None, None, &of("en")).is_err(), "{value}");
        }
        assert!(date(&json!("2026-01-01"), Some("time"), None, &of("en")).is_err());
        assert!(date(&json!("2026-01-01"), Some("%Y"), None, &of("en")).is_err());
        assert!(date(&json!("2026-01-01"), None, Some("Mars/Olympus"), &of("en")).is_err());
    }

    #[test]
    fn numbers_and_money_are_written_as_their_culture_writes_them() {
        for (culture, expected, euros) in [
            ("en", "1,234,567.891", "€1,234.50"),
            ("en-IE", "1,234,567.891", "€1,234.50"),
            ("fr", "1_234_567,891", "1_234,50_€"),
            ("fr-CA", "1_234_567,891", "1_234,50_€"),
            ("de", "1.234.567,891", "1.234,50_€"),
            ("de-AT", "1_234_567,891", "€_1.234,50"),
            ("de-CH", "1’234’567.891", "€_1’234.50"),
            ("es", "1.234.567,891", "1234,50_€"),
            ("it", "1.234.567,891", "1.234,50_€"),
            ("nl", "1.234.567,891", "€_1.234,50"),
            ("pt", "1_234_567,891", "1234,50_€"),
            ("pt-BR", "1.234.567,891", "€_1.234,50"),
            ("pl", "1_234_567,891", "1234,50_€"),
            ("sv", "1_234_567,891", "1_234,50_€"),
            ("da", "1.234.567,891", "1.234,50_€"),
            ("ja", "1,234,567.891", "EUR_1,234.50"),
        ] {
            assert_eq!(plain(&number(&json!(1_234_567.890_6), None, &of(culture)).unwrap()), expected, "{culture}");
            assert_eq!(plain(&money(&json!("1234.5"), "eur", &of(culture)).unwrap()), euros, "{culture}");
        }
        let dollars = |culture| plain(&money(&json!(-0.005), "USD", &of(culture)).unwrap());
        assert_eq!([dollars("en"), dollars("fr")], ["-$0.01", "-0,01_$US"]);
        assert_eq!(plain(&money(&json!(1234.5), "JPY", &of("en")).unwrap()), "¥1,235");
        assert_eq!(plain(&money(&json!(5), "CHF", &of("en")).unwrap()), "CHF_5.00");
        assert_eq!(plain(&money(&json!(5), "SEK", &of("sv")).unwrap()), "5,00_kr");
        assert_eq!(plain(&money(&json!(-5), "SEK", &of("fr")).unwrap()), "-5,00_SEK");
    }

    #[test]
    fn what_is_no_number_is_refused_and_a_huge_one_too() {
        for value in
            [json!("12a"), json!(null), json!([1]), json!(1e300), json!("1e999999999999"), json!("."), json!("")]
        {
            assert!(number(&value, None, &of("en")).is_err(), "{value}");
            assert!(money(&value, "EUR", &of("en")).is_err(), "{value}");
        }
        assert!(number(&json!(1), Some(21), &of("en")).is_err());
        assert!(money(&json!(1), "EURO", &of("en")).is_err());
        assert_eq!(number(&json!(2.5e-7), None, &of("en")).unwrap(), "0");
        assert_eq!(number(&json!(-0.0001), Some(2), &of("en")).unwrap(), "0.00");
        assert_eq!(number(&json!(9.999), Some(2), &of("en")).unwrap(), "10.00");
        assert_eq!(number(&json!(1e20), None, &of("en")).unwrap(), "100,000,000,000,000,000,000");
    }
}
