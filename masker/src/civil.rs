//! Dates and times as text, only as far as filters, masks and policies need them: ISO 8601, proleptic Gregorian, years 1 to
//! 9999. Days count from 1970-01-01, microseconds from its midnight.

/// Microseconds of a day.
pub(crate) const DAY_MICROS: i64 = 86_400_000_000;

/// The day number of a date (Howard Hinnant, "chrono-compatible low-level date algorithms").
pub fn days_from_date(year: i32, month: u32, day: u32) -> Option<i32> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month_from_march = i32::try_from((month + 9) % 12).ok()?;
    let day_of_year = (153 * month_from_march + 2) / 5 + i32::try_from(day).ok()? - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of a day number; the year can lie outside 1 to 9999.
pub fn date_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // INVARIANT: month is 1 to 12 and day 1 to 31 by construction.
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `YYYY-MM-DD` as a day number.
pub fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    days_from_date(i32::try_from(digits(year, 4)?).ok()?, digits(month, 2)?, digits(day, 2)?)
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.ffffff` (1 to 6 digits) as microseconds after midnight.
pub fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map(|second| digits(second, 2));
    if parts.next().is_some() || (fraction.is_some() && second.is_none()) {
        return None;
    }
    let second = second.unwrap_or(Some(0))?;
    let micros = match fraction {
        Some(fraction) if (1..=6).contains(&fraction.len()) => {
            digits(fraction, fraction.len())? * 10u32.pow(6 - u32::try_from(fraction.len()).ok()?)
        }
        Some(_) => return None,
        None => 0,
    };
    (hour < 24 && minute < 60 && second < 60)
        .then(|| i64::from(hour * 3600 + minute * 60 + second) * 1_000_000 + i64::from(micros))
}

/// A timestamp `DATE[T ]TIME` with an optional zone `Z` or `±HH:MM`: its microseconds, in UTC if it has a zone, and whether
/// it has one.
pub fn parse_timestamp(text: &str) -> Option<(i64, bool)> {
    let (date, rest) = text.split_once(['T', ' '])?;
    let (time, offset) = if let Some(time) = rest.strip_suffix('Z') {
        (time, Some(0))
    } else if let Some((time, zone)) = rest.split_once('+') {
        (time, Some(parse_offset(zone)?))
    } else if let Some((time, zone)) = rest.split_once('-') {
        (time, Some(-parse_offset(zone)?))
    } else {
        (rest, None)
    };
    let micros = i64::from(parse_date(date)?) * DAY_MICROS + parse_time(time)?;
    Some((micros - offset.unwrap_or(0), offset.is_some()))
}

fn parse_offset(zone: &str) -> Option<i64> {
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then(|| i64::from(hours * 60 + minutes) * 60_000_000)
}

fn digits(text: &str, len: usize) -> Option<u32> {
    (text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A day number as `YYYY-MM-DD`.
pub fn format_date(days: i64) -> String {
    let mut text = String::new();
    push_date(days, &mut text);
    text
}

/// Microseconds after midnight as `HH:MM:SS[.ffffff]`.
pub fn format_time(micros: i64) -> String {
    let mut text = String::new();
    push_time(micros, &mut text);
    text
}

/// Microseconds since 1970 as `YYYY-MM-DDTHH:MM:SS[.ffffff]`.
pub fn format_timestamp(micros: i64) -> String {
    let mut text = String::new();
    push_timestamp(micros, &mut text);
    text
}

/// Appends [`format_date`].
pub(crate) fn push_date(days: i64, out: &mut String) {
    let (year, month, day) = date_from_days(days);
    if year < 0 {
        out.push('-');
    }
    push_digits(year.unsigned_abs(), if year < 0 { 3 } else { 4 }, out);
    for part in [month, day] {
        out.push('-');
        push_digits(part.into(), 2, out);
    }
}

/// Appends [`format_time`].
pub(crate) fn push_time(micros: i64, out: &mut String) {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    // A time of day is never negative: polars makes null of what is none.
    let seconds = seconds.unsigned_abs();
    push_digits(seconds / 3600, 2, out);
    for part in [seconds / 60 % 60, seconds % 60] {
        out.push(':');
        push_digits(part, 2, out);
    }
    if fraction != 0 {
        out.push('.');
        push_digits(fraction.unsigned_abs(), 6, out);
    }
}

/// Appends [`format_timestamp`].
pub(crate) fn push_timestamp(micros: i64, out: &mut String) {
    push_date(micros.div_euclid(DAY_MICROS), out);
    out.push('T');
    push_time(micros.rem_euclid(DAY_MICROS), out);
}

/// At least so many digits.
fn push_digits(number: u64, width: usize, out: &mut String) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number);
    out.extend(std::iter::repeat_n('0', width.saturating_sub(digits.len())));
    out.push_str(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_read_and_write() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11016),
            ("0001-01-01", -719_162),
            ("9999-12-31", 2_932_896),
        ] {
            assert_eq!(parse_date(text), Some(days), "{text}");
            assert_eq!(format_date(days.into()), text);
        }
        for bad in [
            "",
            "1970",
            "1970-1-1",
            "1970-02-30",
            "1900-02-29",
            "0000-01-01",
            "1970-01-01-",
            "+970-01-01",
            "1970-13-01",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
        assert_eq!(parse_time("23:59:59.000001"), Some(DAY_MICROS - 999_999));
        assert_eq!(parse_time("08:30"), Some(30_600_000_000));
        for bad in ["24:00", "08", "08:60", "08:30.5", "08:30:00.", "08:30:00.1234567", "8:30"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
        assert_eq!(parse_timestamp("1970-01-01T00:00:01Z"), Some((1_000_000, true)));
        assert_eq!(parse_timestamp("1970-01-01 02:00:00+02:00"), Some((0, true)));
        assert_eq!(parse_timestamp("1969-12-31T19:00:00-05:00"), Some((0, true)));
        assert_eq!(parse_timestamp("1970-01-01T00:00:00.5"), Some((500_000, false)));
        assert_eq!(format_timestamp(-1), "1969-12-31T23:59:59.999999");
        for days in (-719_162..2_932_896).step_by(37) {
            assert_eq!(parse_date(&format_date(days.into())), Some(days));
        }
    }
}
