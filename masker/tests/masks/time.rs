//! Masks of dates and timestamps.

use crate::{check, column, keys, masked, masked_with};
use countersign_masker::ColumnType;
use polars::prelude::*;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

#[test]
fn years() {
    check(
        "text",
        "year_only",
        &[
            ("2024-02-29", "2024"),
            ("2024-02-29T10:00:00Z", "2024"),
            ("2024-02-29 10:00", "2024"),
            ("2023-02-29", "NULL"),
            ("2024-02-29x", "NULL"),
            ("29.02.2024", "NULL"),
            ("2024", "NULL"),
            ("日本語日本語", "NULL"),
            ("", "NULL"),
        ],
    );
    check(
        "date",
        "year_only",
        &[("2023-11-14", "2023-01-01"), ("1969-12-31", "1969-01-01"), ("0001-01-01", "0001-01-01")],
    );
    for column_type in ["timestamp", "timestamptz"] {
        let cases =
            [("2023-11-14T10:00:00", "2023-01-01T00:00:00"), ("1969-12-31T23:59:59.999999", "1969-01-01T00:00:00")];
        check(column_type, "year_only", &cases);
    }
}

#[test]
fn units() {
    check(
        "text",
        "truncate(month)",
        &[
            ("2024-02-29", "2024-02"),
            ("2024-02-29T10:00:00Z", "2024-02"),
            ("2023-02-29", "NULL"),
            ("2024-02", "NULL"),
            ("", "NULL"),
        ],
    );
    check("text", "truncate(day)", &[("2024-02-29", "2024-02-29"), ("2024-02-29 what", "2024-02-29"), ("x", "NULL")]);
    let texts = [
        ("2024-02-29T10:34:56.5+02:00", "2024-02-29T10", "2024-02-29T10:34"),
        ("2024-02-29 10:34", "2024-02-29 10", "2024-02-29 10:34"),
        // Without a time that can be read, the day.
        ("2024-02-29", "2024-02-29", "2024-02-29"),
        ("2024-02-29T10", "2024-02-29", "2024-02-29"),
        ("2024-02-29 25:00", "2024-02-29", "2024-02-29"),
        ("2024-02-29Tsecret", "2024-02-29", "2024-02-29"),
        ("2024-02-30T10:34", "NULL", "NULL"),
        ("", "NULL", "NULL"),
    ];
    check("text", "truncate(hour)", &texts.map(|(cell, hour, _)| (cell, hour)));
    check("text", "truncate(minute)", &texts.map(|(cell, _, minute)| (cell, minute)));

    check(
        "date",
        "truncate(month)",
        &[("2024-02-29", "2024-02-01"), ("1969-12-31", "1969-12-01"), ("9999-12-31", "9999-12-01")],
    );
    // A day of a date hides nothing, so it doesn't fit.
    check("date", "truncate(day)", &[("2024-02-29", "NULL")]);
    for column_type in ["timestamp", "timestamptz"] {
        for (unit, start, early) in [
            ("month", "2024-02-01T00:00:00", "1969-12-01T00:00:00"),
            ("day", "2024-02-29T00:00:00", "1969-12-31T00:00:00"),
            ("hour", "2024-02-29T10:00:00", "1969-12-31T23:00:00"),
            ("minute", "2024-02-29T10:34:00", "1969-12-31T23:59:00"),
        ] {
            let cases = [("2024-02-29T10:34:56.789", start), ("1969-12-31T23:59:59.999999", early)];
            check(column_type, &format!("truncate({unit})"), &cases);
        }
    }
}

/// Years that nobody writes become null, and no arithmetic fails at the ends.
#[test]
fn ends() {
    let days = Int32Chunked::from_vec("c".into(), vec![i32::MAX, i32::MIN]).into_date().into_series();
    let micros = Int64Chunked::from_vec("c".into(), vec![i64::MAX, i64::MIN]);
    let micros = micros.into_datetime(TimeUnit::Microseconds, None).into_series();
    for rule in ["year_only", "truncate(month)", "date_shift(3650, d)"] {
        assert_eq!(masked(rule, days.clone(), &ColumnType::Date).1.null_count(), 2, "{rule}");
        assert_eq!(masked(rule, micros.clone(), &ColumnType::Timestamp).1.null_count(), 2, "{rule}");
    }
    assert_eq!(masked("truncate(hour)", micros, &ColumnType::Timestamp).1.null_count(), 1);
}

fn shifted(rule: &str, master: u8, purpose: &str, days: &[Option<i32>]) -> Vec<Option<i32>> {
    let column = Int32Chunked::from_iter_options("c".into(), days.iter().copied()).into_date().into_series();
    let (column_type, masked) = masked_with(&keys(master), purpose, rule, column, &ColumnType::Date);
    assert_eq!(column_type, ColumnType::Date);
    masked.date().unwrap().physical().iter().collect()
}

/// Shifts are made once and for ever; these were computed with another library, like the tokens.
#[test]
fn shifts_stay_what_they_are() {
    let column_type = ColumnType::TimestampTz;
    let dates = column(&ColumnType::Date, &[Some("2024-02-29"), None, Some("1969-12-31")]);
    let times = column(&column_type, &[Some("2024-02-29T10:34:56.789Z"), None]);
    let shown = |column_type: &ColumnType, column: Series| {
        crate::shown(column_type, &masked("date_shift(30, birth)", column, column_type).1)
    };
    let text =
        |cells: Vec<Option<String>>| cells.iter().map(|cell| cell.clone().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(text(shown(&ColumnType::Date, dates)), SHIFTED_DATES);
    assert_eq!(text(shown(&column_type, times)), SHIFTED_TIMES);
}

const SHIFTED_DATES: [&str; 3] = ["2024-02-27", "", "1969-12-10"];
const SHIFTED_TIMES: [&str; 2] = ["2024-02-04T06:57:43.066456", ""];

#[test]
fn shifts_reach_everywhere_and_split_across_domains_and_purposes() {
    let days = (0..900).map(Some).collect::<Vec<_>>();
    let base = shifted("date_shift(3, d)", 7, "reporting", &days);
    let mut reached = [0; 7];
    for (day, shifted) in days.iter().zip(&base) {
        reached[usize::try_from(shifted.unwrap() - day.unwrap() + 3).unwrap()] += 1;
    }
    // 900 draws of 7: each within six standard deviations.
    assert!(reached.iter().all(|count| (66..192).contains(count)), "{reached:?}");
    assert_eq!(base, shifted("date_shift(3, d)", 7, "reporting", &days));
    assert_ne!(base, shifted("date_shift(3, e)", 7, "reporting", &days));
    assert_ne!(base, shifted("date_shift(3, d)", 7, "support", &days));
    assert_ne!(base, shifted("date_shift(3, d)", 8, "reporting", &days));
}

proptest! {
    #[test]
    fn shifts_stay_near(day in -700_000..2_900_000i32, reach in 1..3650u16, micros in any::<u32>()) {
        let rule = format!("date_shift({reach}, d)");
        let shifted = shifted(&rule, 7, "reporting", &[Some(day), None, Some(day)]);
        prop_assert_eq!(shifted[0], shifted[2]);
        prop_assert_eq!(shifted[1], None);
        prop_assert!(shifted[0].unwrap().abs_diff(day) <= u32::from(reach));
        let instant = i64::from(day) * 86_400_000_000 + i64::from(micros);
        let column = Int64Chunked::from_vec("c".into(), vec![instant]).into_datetime(TimeUnit::Microseconds, None);
        let (_, masked) = masked(&rule, column.into_series(), &ColumnType::Timestamp);
        let shifted = masked.datetime().unwrap().physical().get(0).unwrap();
        prop_assert!(shifted.abs_diff(instant) <= u64::from(reach) * 86_400_000_000);
        prop_assert!(shifted != instant);
    }
}
