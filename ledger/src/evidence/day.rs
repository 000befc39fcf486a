//! Days of UTC: the unit by which payloads are sealed and purged.

use super::canonical::{Canonical, Reader};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A day of UTC, counted from 1970-01-01. Shown, and in entries written, as `yyyy-mm-dd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(u32);

/// Why a text is not a day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a day: found `{0}`, required `yyyy-mm-dd`, from 1970-01-01 to 9999-12-31")]
pub struct DayError(String);

impl Day {
    /// The day of that number.
    pub const fn from_number(days: u32) -> Self {
        Self(days)
    }

    /// The day that holds this second of Unix time.
    pub fn of_unix_seconds(seconds: u64) -> Self {
        Self(u32::try_from(seconds / 86_400).unwrap_or(u32::MAX))
    }

    /// Days since 1970-01-01.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The day so many days earlier; none before 1970-01-01.
    pub fn days_before(self, days: u64) -> Option<Self> {
        u32::try_from(days).ok().and_then(|days| self.0.checked_sub(days)).map(Self)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proleptic Gregorian calendar in years that begin in March, so that a leap day ends a year (Howard Hinnant,
        // "chrono-compatible low-level date algorithms").
        let days = u64::from(self.0) + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        write!(f, "{:04}-{month:02}-{day:02}", era * 400 + year + next)
    }
}

impl std::str::FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let wrong = || DayError(text.escape_debug().take(20).collect());
        let mut parts = text.split('-').map(|part| part.parse::<u64>().ok());
        let (Some(Some(year)), Some(Some(month)), Some(Some(day)), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(wrong());
        }
        // The same calendar the other way round.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, of_era) = (year / 400, year % 400);
        let of_year = (153 * month + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        let found = days.checked_sub(719_468).and_then(|days| u32::try_from(days).ok()).map(Self);
        // What isn't in the calendar (02-30) comes out as another day.
        found.filter(|found| found.to_string() == text).ok_or_else(wrong)
    }
}

impl Canonical for Day {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.string()?.parse().ok()
    }
}

impl TryFrom<String> for Day {
    type Error = DayError;

    fn try_from(text: String) -> Result<Self, DayError> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let check = |number, expect: &str| {
            assert_eq!(Day::from_number(number).to_string(), expect);
            assert_eq!(expect.parse(), Ok(Day::from_number(number)));
        };
        check(0, "1970-01-01");
        check(59, "1970-03-01");
        check(10_956, "1999-12-31");
        check(11_016, "2000-02-29");
        check(20_000, "2024-10-04");
        check(47_540, "2100-02-28");
        check(47_541, "2100-03-01");
        assert_eq!(Day::of_unix_seconds(86_399), Day::from_number(0));
        assert_eq!(Day::of_unix_seconds(86_400), Day::from_number(1));
    }

    #[test]
    fn a_day_has_one_spelling() {
        for bad in
            ["", "2024-2-3", "2024-02-30", "2023-02-29", "1969-12-31", "2024-13-01", "+2024-01-01", "2024-01-01-"]
        {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_shows(number in 0u32..2_900_000) {
            let day = Day::from_number(number);
            prop_assert_eq!(day.to_string().parse(), Ok(day));
        }
    }
}
