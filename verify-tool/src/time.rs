//! Times of entries, which are microseconds since 1970 in UTC, as people read them.

/// `2025-11-23T21:00:00.000001Z`.
///
/// ```
/// assert_eq!(countersign_verify::time::utc(1_763_931_600_000_001), "2025-11-23T21:00:00.000001Z");
/// assert_eq!(countersign_verify::time::utc(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
/// ```
pub fn utc(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of the year 0, so that a leap day is the last of its year and 400 years repeat.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// `2025-11-23T21:00:00Z` of seconds of Unix time.
///
/// ```
/// assert_eq!(countersign_verify::time::seconds(1_763_931_600), "2025-11-23T21:00:00Z");
/// ```
pub fn seconds(seconds: u64) -> String {
    let text = utc(seconds.saturating_mul(1_000_000));
    text.split_once('.').map_or(text.clone(), |(text, _)| format!("{text}Z"))
}

/// `2025-11-23 21:00` of microseconds: for tables, where seconds say too much.
///
/// ```
/// assert_eq!(countersign_verify::time::minute(1_763_931_600_000_001), "2025-11-23 21:00");
/// ```
pub fn minute(micros: u64) -> String {
    let text = utc(micros);
    let date = text.split_once('T').map_or("", |(date, _)| date);
    let time = text.split_once('T').and_then(|(_, time)| time.get(..5)).unwrap_or_default();
    format!("{date} {time}")
}
