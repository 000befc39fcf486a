//! Dates and times between text and the integers that frames hold: days and microseconds since 1970-01-01, in the proleptic
//! Gregorian calendar. CSV cells are read with it, and filter values are written with it in the form that PostgreSQL reads.

/// Microseconds in one day.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// The last day a frame may hold, 262142-12-31: polars formats dates through chrono, which ends there, while PostgreSQL goes
/// on to the year 5874897.
pub(super) const LAST_DAY: i32 = 95_026_236;

/// The first day a frame may hold, the 4713-11-24 BC on which PostgreSQL's own dates begin.
pub(super) const FIRST_DAY: i32 = -2_440_588;

/// The first and the last microsecond of the days above.
pub(super) const FIRST_US: i64 = FIRST_DAY as i64 * DAY_US;
pub(super) const LAST_US: i64 = (LAST_DAY as i64 + 1) * DAY_US - 1;

/// Days since 1970-01-01 of a civil date. Years count from 1; year 0 is 1 BC.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The number that exactly `width` ASCII digits spell.
fn digits(text: &str, width: usize) -> Option<i64> {
    (text.len() == width && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `YYYY-MM-DD`, year 0001 to 9999, as days since 1970-01-01; nothing for a day that the calendar lacks.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let count = days(year, month, day);
    let real = parts.next().is_none() && year >= 1 && (1..=12).contains(&month) && civil(count) == (year, month, day);
    real.then(|| i32::try_from(count).ok())?
}

/// `HH:MM:SS`, with at most six digits after a point, as microseconds since midnight.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut parts = clock.split(':');
    let (hour, minute, second) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let real = parts.next().is_none() && hour < 24 && minute < 60 && second < 60;
    let micros = match fraction {
        None => 0,
        Some(f) if (1..=6).contains(&f.len()) => digits(f, f.len())? * 10_i64.pow(6 - u32::try_from(f.len()).ok()?),
        Some(_) => return None,
    };
    real.then_some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// A date and a time with a blank or `T` between them, as microseconds since 1970-01-01 00:00.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    Some(i64::from(parse_date(date)?) * DAY_US + parse_time(time)?)
}

/// A timestamp with its offset (`Z`, `+HH`, `+HH:MM` or `+HHMM`), as microseconds since 1970-01-01 00:00 UTC.
pub(super) fn parse_timestamptz(text: &str) -> Option<i64> {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return parse_timestamp(local);
    }
    // The date holds `-` too, so the sign is looked for behind the time's first colon.
    let clock = text.find(':')?;
    let sign_at = clock + text.get(clock..)?.find(['+', '-'])?;
    let (local, offset) = text.split_at_checked(sign_at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let offset: String = offset.chars().skip(1).collect();
    let (hours, minutes) = match offset.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if offset.len() == 4 => offset.split_at_checked(2)?,
        None => (offset.as_str(), "00"),
    };
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    let real = hours < 16 && minutes < 60;
    real.then_some(parse_timestamp(local)? - sign * (hours * 60 + minutes) * 60_000_000)
}

/// A day as PostgreSQL reads it in every `DateStyle`: `YYYY-MM-DD`, with ` BC` behind years before 1.
pub(super) fn date_text(days: i32) -> String {
    let (year, month, day) = civil(i64::from(days));
    if year > 0 { format!("{year:04}-{month:02}-{day:02}") } else { format!("{:04}-{month:02}-{day:02} BC", 1 - year) }
}

/// Microseconds since midnight as `HH:MM:SS.ffffff`.
pub(super) fn time_text(us: i64) -> String {
    let (seconds, micros) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Microseconds since 1970-01-01 00:00 as PostgreSQL reads them, without an offset.
pub(super) fn timestamp_text(us: i64) -> String {
    // A whole i64 of microseconds is less than 2^27 days, so the day always fits.
    let day = i32::try_from(us.div_euclid(DAY_US)).unwrap_or(i32::MAX);
    let date = date_text(day);
    let time = time_text(us.rem_euclid(DAY_US));
    match date.strip_suffix(" BC") {
        Some(date) => format!("{date} {time} BC"),
        None => format!("{date} {time}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_is_real_and_nothing_else() {
        let dates: [(&str, Option<i32>); 10] = [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(11_016)),
            ("0001-01-01", Some(-719_162)),
            ("9999-12-31", Some(2_932_896)),
            ("1900-02-29", None),
            ("2021-13-01", None),
            ("2021-1-01", None),
            ("0000-01-01", None),
            ("2021-01-01x", None),
            ("+021-01-01", None),
        ];
        for (text, days) in dates {
            assert_eq!(parse_date(text), days, "{text}");
        }
        let times = [
            ("00:00:00", Some(0)),
            ("23:59:59.999999", Some(DAY_US - 1)),
            ("12:00:00.5", Some(43_200_500_000)),
            ("24:00:00", None),
            ("12:00", None),
            ("12:00:00.", None),
            ("12:00:00.1234567", None),
        ];
        for (text, us) in times {
            assert_eq!(parse_time(text), us, "{text}");
        }
        let stamps = [
            ("1970-01-01T00:00:01Z", Some(1_000_000)),
            ("1970-01-01 02:00:00+02", Some(0)),
            ("1970-01-01 02:30:00+02:30", Some(0)),
            ("1969-12-31 19:00:00-0500", Some(0)),
            ("1970-01-01 02:00:00", None),
            ("1970-01-01 02:00:00+2", None),
            ("1970-01-01 02:00:00+é9", None),
        ];
        for (text, us) in stamps {
            assert_eq!(parse_timestamptz(text), us, "{text}");
        }
        assert_eq!(date_text(-719_163), "0001-12-31 BC");
        assert_eq!(date_text(FIRST_DAY), "4714-11-24 BC");
        assert_eq!(date_text(LAST_DAY), "262142-12-31");
        assert_eq!(timestamp_text(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(timestamp_text(i64::from(-719_163) * DAY_US), "0001-12-31 00:00:00.000000 BC");
    }

    proptest! {
        #[test]
        fn every_date_and_time_survives_text(days in -719_162..=2_932_896_i32, us in 0..DAY_US) {
            let stamp = i64::from(days) * DAY_US + us;
            prop_assert_eq!(parse_date(&date_text(days)), Some(days));
            prop_assert_eq!(parse_time(&time_text(us)), Some(us));
            prop_assert_eq!(parse_timestamp(&timestamp_text(stamp)), Some(stamp));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", days: i32, us: i64) {
            let _ = (parse_date(&text), parse_time(&text), parse_timestamp(&text), parse_timestamptz(&text));
            let _ = (date_text(days), time_text(us), timestamp_text(us));
        }
    }
}
