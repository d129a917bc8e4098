//! Times of day on ordinary days and on those on which clocks change; quiet hours over midnight and over a change.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_time_of_day_comes_next_by_the_clock_of_the_place_on_every_day_of_the_year() {
    for (place, now, time, next) in [
        // An ordinary day: today if it is still to come, now if it is now, else tomorrow.
        ("Europe/Paris", "2026-07-01T05:00:00Z", "09:00", "2026-07-01T07:00:00Z"),
        ("Europe/Paris", "2026-07-01T07:00:00Z", "09:00", "2026-07-01T07:00:00Z"),
        ("Europe/Paris", "2026-07-01T07:00:00.001Z", "09:00", "2026-07-02T07:00:00Z"),
        // Over the night in which Paris goes forward, and back.
        ("Europe/Paris", "2026-03-28T12:00:00Z", "09:00", "2026-03-29T07:00:00Z"),
        ("Europe/Paris", "2026-10-24T12:00:00Z", "09:00", "2026-10-25T08:00:00Z"),
        // In New York these nights are others.
        ("America/New_York", "2026-03-07T18:00:00Z", "09:00", "2026-03-08T13:00:00Z"),
        ("America/New_York", "2026-10-31T18:00:00Z", "09:00", "2026-11-01T14:00:00Z"),
        // 02:30 does not exist that night: it is 03:30 then.
        ("Europe/Paris", "2026-03-29T00:00:00Z", "02:30", "2026-03-29T01:30:00Z"),
        ("America/New_York", "2026-03-08T06:00:00Z", "02:30", "2026-03-08T07:30:00Z"),
        // And comes twice that night: the first is meant, and after it the next day's.
        ("Europe/Paris", "2026-10-25T00:00:00Z", "02:30", "2026-10-25T00:30:00Z"),
        ("Europe/Paris", "2026-10-25T00:45:00Z", "02:30", "2026-10-26T01:30:00Z"),
        ("America/New_York", "2026-11-01T05:00:00Z", "01:30", "2026-11-01T05:30:00Z"),
        // Where midnight itself is skipped, and where a whole day was.
        ("America/Santiago", "2026-09-06T03:59:00Z", "00:00", "2026-09-06T04:00:00Z"),
        ("Pacific/Apia", "2011-12-30T09:30:00Z", "09:00", "2011-12-30T19:00:00Z"),
    ] {
        let time: DayTime = time.parse().unwrap();
        assert_eq!(time.next(at(now), &zone(place)), at(next), "{place} {now} {time}");
    }
}

#[test]
fn quiet_hours_end_on_the_same_morning_whatever_the_night() {
    for (place, hours, now, end) in [
        ("UTC", "21:00-08:00", "2026-07-01T20:59:59Z", None),
        ("UTC", "21:00-08:00", "2026-07-01T21:00:00Z", Some("2026-07-02T08:00:00Z")),
        ("UTC", "21:00-08:00", "2026-07-02T00:00:00Z", Some("2026-07-02T08:00:00Z")),
        ("UTC", "21:00-08:00", "2026-07-02T07:59:59Z", Some("2026-07-02T08:00:00Z")),
        ("UTC", "21:00-08:00", "2026-07-02T08:00:00Z", None),
        ("UTC", "12:00-14:00", "2026-07-02T13:00:00Z", Some("2026-07-02T14:00:00Z")),
        ("UTC", "12:00-14:00", "2026-07-02T14:00:00Z", None),
        ("UTC", "00:00-06:00", "2026-07-02T00:00:00Z", Some("2026-07-02T06:00:00Z")),
        // The nights of the changes are an hour shorter, and longer; the morning is the same.
        ("Europe/Paris", "21:00-08:00", "2026-03-28T20:00:00Z", Some("2026-03-29T06:00:00Z")),
        ("Europe/Paris", "21:00-08:00", "2026-10-24T19:00:00Z", Some("2026-10-25T07:00:00Z")),
        ("America/New_York", "21:00-08:00", "2026-03-08T02:00:00Z", Some("2026-03-08T12:00:00Z")),
        ("America/New_York", "21:00-08:00", "2026-11-01T01:00:00Z", Some("2026-11-01T13:00:00Z")),
        // Hours that end, or begin, in the hour that is skipped.
        ("Europe/Paris", "23:00-02:30", "2026-03-29T00:59:00Z", Some("2026-03-29T01:30:00Z")),
        ("Europe/Paris", "02:30-05:00", "2026-03-29T01:15:00Z", None),
        ("Europe/Paris", "02:30-05:00", "2026-03-29T01:30:00Z", Some("2026-03-29T03:00:00Z")),
    ] {
        let quiet: QuietHours = hours.parse().unwrap();
        assert_eq!(quiet.end(at(now), &zone(place)), end.map(at), "{place} {hours} {now}");
    }
}

#[test]
fn what_is_no_time_and_no_hours_is_refused() {
    for wrong in ["", "9:00", "24:00", "09:60", "09-00", "+9:00", "09:000", "0９:00"] {
        assert!(wrong.parse::<DayTime>().is_err(), "{wrong}");
    }
    for wrong in ["", "21:00", "21:00-21:00", "21:00-8", "-", "21:00-08:00-09:00"] {
        assert!(wrong.parse::<QuietHours>().is_err(), "{wrong}");
    }
    assert_eq!(" 21:00 - 08:00 ".trim().parse::<QuietHours>().unwrap().to_string(), "21:00-08:00");
}

const PLACES: [&str; 8] = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Auckland",
];

fn day_time() -> impl Strategy<Value = DayTime> {
    (0..DAY_MINUTES).prop_map(|minutes| DayTime { minutes })
}

proptest! {
    #[test]
    fn the_next_time_is_not_past_within_two_days_and_shown_by_the_clock_unless_it_was_skipped(
        place in prop::sample::select(&PLACES[..]), second in 1_700_000_000_i64..2_000_000_000, time in day_time()
    ) {
        let (zone, now) = (zone(place), Timestamp::from_second(second).unwrap());
        let next = time.next(now, &zone);
        prop_assert!(next >= now);
        prop_assert!(next.duration_since(now).as_hours() < 49);
        let shown = next.to_zoned(zone.clone()).time();
        let is_skipped = zone.to_ambiguous_zoned(next.to_zoned(zone.clone()).date().to_datetime(time.time())).is_ambiguous();
        prop_assert!(shown == time.time() || is_skipped, "{shown}");
        // Asked again at that moment it is now.
        prop_assert_eq!(time.next(next, &zone), next);
    }

    #[test]
    fn the_end_of_quiet_hours_is_to_come_and_is_not_quiet(
        place in prop::sample::select(&PLACES[..]), second in 1_700_000_000_i64..2_000_000_000,
        from in day_time(), until in day_time()
    ) {
        prop_assume!(from != until);
        let (zone, now) = (zone(place), Timestamp::from_second(second).unwrap());
        let hours = QuietHours { from, until };
        if let Some(end) = hours.end(now, &zone) {
            prop_assert!(end > now);
            prop_assert!(end.duration_since(now).as_hours() < 26);
            let shown = end.to_zoned(zone.clone()).time();
            prop_assert!(shown == until.time() || hours.end(end, &zone).is_none());
        }
    }
}
