//! Masks of dates and timestamps: the start of a unit that they lie in, or another time near them.

use super::map_text;
use super::token::TokenKeys;
use crate::civil::{self, DAY_MICROS};
use crate::schema::ColumnType;
use aes::Block;
use aes::cipher::BlockCipherEncrypt;
use polars::prelude::*;
use std::fmt;

/// What a time is truncated to. A year is what `year_only` is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Its month.
    Month,
    /// Its day.
    Day,
    /// Its hour.
    Hour,
    /// Its minute.
    Minute,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Month, Self::Day, Self::Hour, Self::Minute];

    fn name(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Minute => "minute",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    fn micros(self) -> i64 {
        match self {
            Self::Month | Self::Day => DAY_MICROS,
            Self::Hour => DAY_MICROS / 24,
            Self::Minute => DAY_MICROS / 24 / 60,
        }
    }

    /// How much of an ISO text it takes, and whether there must be a time for that.
    fn text(self) -> (usize, bool) {
        match self {
            Self::Month => (7, false),
            Self::Day => (10, false),
            Self::Hour => (13, true),
            Self::Minute => (16, true),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether the type is a date or timestamp.
pub(super) fn is_dated(column: &ColumnType) -> bool {
    matches!(column, ColumnType::Date) || is_timestamp(column)
}

/// Whether the type is a timestamp.
pub(super) fn is_timestamp(column: &ColumnType) -> bool {
    matches!(column, ColumnType::Timestamp | ColumnType::TimestampTz)
}

pub(super) fn year_only(column: &Series, column_type: &ColumnType) -> PolarsResult<Series> {
    if *column_type == ColumnType::Text {
        return map_text(column, |text, out| {
            let year = date_of(text).and_then(|date| date.get(..4));
            out.extend(year);
            year.is_some()
        });
    }
    map_days(column, column_type, |days| {
        civil::days_from_date(i32::try_from(civil::date_from_days(days).0).ok()?, 1, 1)
    })
}

pub(super) fn truncate(unit: Unit, column: &Series, column_type: &ColumnType) -> PolarsResult<Series> {
    if *column_type == ColumnType::Text {
        let (end, is_timed) = unit.text();
        return map_text(column, |text, out| {
            let start = match date_of(text) {
                // Of a time that can't be read, only the day is told.
                Some(date) if is_timed && civil::parse_timestamp(text).is_none() => Some(date),
                Some(_) => text.get(..end),
                None => None,
            };
            out.extend(start);
            start.is_some()
        });
    }
    if unit == Unit::Month {
        return map_days(column, column_type, |days| {
            let (year, month, _) = civil::date_from_days(days);
            civil::days_from_date(i32::try_from(year).ok()?, month, 1)
        });
    }
    let length = unit.micros();
    map_micros(column, column_type, |micros| micros.checked_sub(micros.rem_euclid(length)))
}

/// The ISO date that a text starts with, where a time or nothing follows it.
fn date_of(text: &str) -> Option<&str> {
    let (date, _) = text.split_at_checked(10).filter(|(_, rest)| rest.is_empty() || rest.starts_with(['T', ' ']))?;
    civil::parse_date(date).map(|_| date)
}

/// Maps the days of dates, or of timestamps, which become midnights.
fn map_days(column: &Series, column_type: &ColumnType, map: impl Fn(i64) -> Option<i32>) -> PolarsResult<Series> {
    if is_timestamp(column_type) {
        return map_micros(column, column_type, |micros| {
            Some(i64::from(map(micros.div_euclid(DAY_MICROS))?) * DAY_MICROS)
        });
    }
    let mapped = column.date()?.physical().iter().map(|days| map(i64::from(days?)));
    Ok(Int32Chunked::from_iter_options(column.name().clone(), mapped).into_date().into_series())
}

fn map_micros(column: &Series, column_type: &ColumnType, map: impl Fn(i64) -> Option<i64>) -> PolarsResult<Series> {
    let mapped = column.datetime()?.physical().iter().map(|micros| map(micros?));
    Ok(timestamps(Int64Chunked::from_iter_options(column.name().clone(), mapped), column_type))
}

fn timestamps(micros: Int64Chunked, column_type: &ColumnType) -> Series {
    let zone = (*column_type == ColumnType::TimestampTz).then_some(TimeZone::UTC);
    micros.into_datetime(TimeUnit::Microseconds, zone).into_series()
}

// ---------------------------------------------------------------------------------------------------------------------------
// Shifts

/// The days from 0001-01-01 to 9999-12-31.
const CALENDAR: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// Shifts each date by whole days, each timestamp by microseconds, evenly drawn from `days` before to `days` after it. What is
/// drawn depends on the value and the key alone: it is the AES of the value and its unit, modulo the number of places.
pub(super) fn date_shift(
    days: u16,
    domain: &str,
    purpose: &str,
    keys: &TokenKeys,
    column: &Series,
    column_type: &ColumnType,
) -> PolarsResult<Series> {
    let unit = if is_timestamp(column_type) { DAY_MICROS } else { 1 };
    let reach = i64::from(days) * unit;
    let values = match column_type {
        ColumnType::Date => column.date()?.physical().iter().map(|days| days.map(i64::from)).collect::<Vec<_>>(),
        _ => column.datetime()?.physical().iter().collect(),
    };
    let block = |value: &i64| Block::from((u128::from(*value as u64) << 64 | u128::from(unit as u64)).to_be_bytes());
    let mut drawn = values.iter().flatten().map(block).collect::<Vec<_>>();
    keys.date_shift(domain, purpose).encrypt_blocks(&mut drawn);
    let mut drawn = drawn.iter().map(|block| u128::from_be_bytes((*block).into()) % (2 * reach as u128 + 1));
    let shifted = values.iter().map(|value| {
        let value = (*value)?;
        let shifted = value.checked_add(i64::try_from(drawn.next()?).ok()? - reach)?;
        CALENDAR.contains(&shifted.div_euclid(unit)).then_some(shifted)
    });
    let name = column.name().clone();
    Ok(match column_type {
        ColumnType::Date => {
            let shifted = shifted.map(|days| i32::try_from(days?).ok());
            Int32Chunked::from_iter_options(name, shifted).into_date().into_series()
        }
        _ => timestamps(Int64Chunked::from_iter_options(name, shifted), column_type),
    })
}
