//! The order of restrictiveness: its laws, and that it says the truth.

use crate::{masked, timestamps};
use countersign_masker::transform::Unit;
use countersign_masker::{ColumnType, Mask};
use polars::prelude::*;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::{select, subsequence};
use std::collections::HashMap;

/// Masks of one family, few enough of each that two are often comparable.
fn family() -> impl Strategy<Value = BoxedStrategy<Mask>> {
    let parsed = |text: String| Mask::parse(&text).unwrap();
    let steps = vec!["0.1", "0.5", "1", "1.5", "2", "3", "4", "5", "6", "10", "12", "15", "20", "30", "60", "1000"];
    let bounds = vec!["-5", "-0.5", "0", "1.5", "2", "10", "18", "100"];
    let own = |domain: &str| {
        let rules =
            [format!("token({domain})"), format!("date_shift(30, {domain})"), format!("date_shift(60, {domain})")];
        let ff1 = ["digits", "digits, 16", "hex"].map(|rest| format!("ff1({domain}, {rest})"));
        rules.into_iter().chain(ff1)
    };
    let domains = own("a").chain(own("b")).collect::<Vec<_>>();
    select(vec![
        (1..=4usize).prop_map(Mask::KeepFirst).boxed(),
        (1..=4usize).prop_map(Mask::KeepLast).boxed(),
        prop_oneof![Just(Mask::YearOnly), select(Unit::ALL.to_vec()).prop_map(Mask::Truncate)].boxed(),
        (0..=31u8, 0..=127u8).prop_map(|(v4, v6)| Mask::IpPrefix { v4, v6 }).boxed(),
        select(steps.clone()).prop_map(move |step| parsed(format!("bucket({step})"))).boxed(),
        select(steps).prop_map(move |step| parsed(format!("round({step})"))).boxed(),
        subsequence(bounds, 1..=8).prop_map(move |bounds| parsed(format!("range({})", bounds.join(", ")))).boxed(),
        select(domains).prop_map(parsed).boxed(),
        "[ab]{0,1}".prop_map(Mask::Constant).boxed(),
        select(vec![Mask::Null, Mask::Redact, Mask::Detect, Mask::Email, Mask::Zip3]).boxed(),
    ])
}

/// Three masks, of one family more often than not.
fn masks() -> impl Strategy<Value = [Mask; 3]> {
    let any_mask = || family().prop_flat_map(|family| family).boxed();
    family().prop_flat_map(move |family| {
        let one = || prop_oneof![3 => family.clone(), 1 => any_mask()];
        [one().boxed(), one().boxed(), one().boxed()]
    })
}

const TYPES: &str = "text json numeric bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 decimal(4,2) \
                     decimal(18,0) decimal(38,38) date time timestamp timestamptz binary";

/// Cells of a type: many that are close to each other, and any others.
fn cells(column_type: &ColumnType) -> BoxedStrategy<Series> {
    fn nullable<T: std::fmt::Debug + Clone>(cell: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<Option<T>>> {
        vec(weighted(0.95, cell), 0..60)
    }
    let name = || PlSmallStr::from("c");
    let integers = |least: i128, most: i128| {
        let near_ends = prop_oneof![(0..40i128).prop_map(move |n| least + n), (0..40i128).prop_map(move |n| most - n)];
        nullable(
            prop_oneof![3 => (-130..130i128).prop_map(move |n| n.clamp(least, most)), 1 => near_ends, 1 => least..=most],
        )
    };
    let dtype = column_type.dtype();
    let days = prop_oneof![3 => -400..400i64, 1 => -800_000..3_000_000i64, 1 => any::<i32>().prop_map(i64::from)];
    match column_type {
        ColumnType::Bool => nullable(any::<bool>())
            .prop_map(move |cells| BooleanChunked::from_iter_options(name(), cells.into_iter()).into_series())
            .boxed(),
        ColumnType::Binary => nullable(vec(any::<u8>(), 0..20))
            .prop_map(move |cells| BinaryChunked::from_iter_options(name(), cells.into_iter()).into_series())
            .boxed(),
        ColumnType::Float32 | ColumnType::Float64 => {
            let close = prop_oneof![-40..40i32, -3000..3000i32]
                .prop_flat_map(|n| (Just(n), select(vec![1.0, 2.0, 10.0, 100.0])));
            let beside = (close, -2..3i64).prop_map(|((n, parts), ulps)| {
                f64::from_bits((f64::from(n) / parts).to_bits().wrapping_add_signed(ulps))
            });
            let cell = prop_oneof![4 => beside, 1 => any::<f64>(), 1 => select(vec![f64::NAN, f64::INFINITY, -0.0, 1e16, 3e15])];
            let series = move |cells: Vec<Option<f64>>| {
                Float64Chunked::from_iter_options(name(), cells.into_iter()).into_series()
            };
            nullable(cell).prop_map(move |cells| series(cells).cast(&dtype).unwrap()).boxed()
        }
        ColumnType::Decimal { precision, scale } => {
            let most = 10i128.pow(u32::from(*precision)) - 1;
            let (precision, scale) = (usize::from(*precision), usize::from(*scale));
            integers(-most, most)
                .prop_map(move |cells| {
                    let units = Int128Chunked::from_iter_options(name(), cells.into_iter());
                    units.into_decimal_unchecked(precision, scale).into_series()
                })
                .boxed()
        }
        ColumnType::Date => nullable(days)
            .prop_map(move |cells| {
                let days = cells.iter().map(|day| day.map(|day| i32::try_from(day).unwrap()));
                Int32Chunked::from_iter_options(name(), days).into_date().into_series()
            })
            .boxed(),
        ColumnType::Time => nullable(0..86_400_000_000_000i64)
            .prop_map(move |cells| Int64Chunked::from_iter_options(name(), cells.into_iter()).into_time().into_series())
            .boxed(),
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            let column_type = column_type.clone();
            let parts = (days, 0..86_400_000_000i64)
                .prop_map(|(day, micros)| day.saturating_mul(86_400_000_000).saturating_add(micros));
            nullable(prop_oneof![4 => parts, 1 => any::<i64>()])
                .prop_map(move |cells| {
                    timestamps(&column_type, Int64Chunked::from_iter_options(name(), cells.into_iter()))
                })
                .boxed()
        }
        ColumnType::Text | ColumnType::Json | ColumnType::Numeric => {
            let cell = prop_oneof![
                "(?s).{0,12}",
                "[abé]{0,5}",
                "-?[0-9]{1,3}(\\.[0-9]{0,3})?",
                "-?[0-9]{20,40}\\.?[0-9]{0,12}",
                "202[34]-0[1-3]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9])?(Z|\\+02:00)?)?",
                "0[0-9]{4}(-[0-9]{4})?",
                "10\\.[01]\\.[0-9]{1,3}\\.[0-9]{1,3}(/24)?",
                "(::ffff:)?10\\.[01]\\.2\\.3",
                "2001:db8:[0-9a-f]{1,4}::[0-9a-f]{1,4}",
                "[ab]{1,2}@[ab]\\.(org|com)",
                "[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4}",
            ];
            nullable(cell)
                .prop_map(move |cells| StringChunked::from_iter_options(name(), cells.into_iter()).into_series())
                .boxed()
        }
        _ => {
            let (least, most) = column_type.int_range().unwrap();
            integers(least, most)
                .prop_map(move |cells| {
                    Int128Chunked::from_iter_options(name(), cells.into_iter())
                        .into_series()
                        .strict_cast(&dtype)
                        .unwrap()
                })
                .boxed()
        }
    }
}

/// Masks, and cells of a type that `fits` the first of them.
fn masks_and_cells(fits: fn(&Mask, &ColumnType) -> bool) -> impl Strategy<Value = ([Mask; 3], (ColumnType, Series))> {
    masks().prop_flat_map(move |masks| {
        let types = TYPES.split_whitespace().map(|name| name.parse::<ColumnType>().unwrap());
        let types = types.filter(|column_type| fits(&masks[0], column_type)).collect::<Vec<_>>();
        let cells = select(types).prop_flat_map(|column_type| (Just(column_type.clone()), cells(&column_type)));
        (Just(masks), cells)
    })
}

fn spelled(cells: &Series) -> Vec<String> {
    cells.iter().map(|cell| format!("{cell:?}")).collect()
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1500))]

    /// A join-semilattice, whose order is the one that its joins say; and the text of a mask is read back.
    #[test]
    fn laws([a, b, c] in masks()) {
        let join = |a: &Mask, b: &Mask| a.clone().more_restrictive(b.clone());
        let above = |a: &Mask, b: &Mask| a.at_least_as_restrictive(b);
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&a, &join(&b, &c)), join(&join(&a, &b), &c));
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert!(above(&a, &a));
        prop_assert!(above(&join(&a, &b), &a) && above(&join(&a, &b), &b));
        // The least of those above both.
        prop_assert!(!(above(&c, &a) && above(&c, &b)) || above(&c, &join(&a, &b)));
        prop_assert!(!(above(&a, &b) && above(&b, &a)) || a == b);
        prop_assert!(!(above(&a, &b) && above(&b, &c)) || above(&a, &c));
        prop_assert!(above(&Mask::Null, &a) && (a == Mask::Null || above(&Mask::Redact, &a)));
        prop_assert_eq!(Mask::parse(&a.to_string()), Ok(a));
    }

    /// What is at least as restrictive tells nothing more: where the other's output is equal, so is its own.
    #[test]
    fn more_restrictive_tells_no_more(
        ([a, b, _], (column_type, cells)) in masks_and_cells(|mask, column_type| mask.output_type(column_type).is_some()),
    ) {
        let more = a.clone().more_restrictive(b);
        let told = |mask: &Mask| spelled(&masked(&mask.fitted(&column_type).to_string(), cells.clone(), &column_type).1);
        let mut told_by_more = HashMap::new();
        for (less, more_cell) in told(&a).into_iter().zip(told(&more)) {
            let known = told_by_more.entry(less.clone()).or_insert_with(|| more_cell.clone());
            prop_assert_eq!(&*known, &more_cell, "{} of {} is {}, {} isn't always the same", a, column_type, less, more);
        }
    }

    /// Every mask of every type gives a column of its length and output type, equal cells become equal, and nulls stay.
    #[test]
    fn any_column_is_masked(([mask, ..], (column_type, cells)) in masks_and_cells(|_, _| true)) {
        let fitted = mask.fitted(&column_type);
        prop_assert_eq!(fitted == mask, mask.output_type(&column_type).is_some() || mask == Mask::Null);
        let (output_type, masked) = masked(&mask.to_string(), cells.clone(), &column_type);
        prop_assert_eq!(Some(output_type.clone()), fitted.output_type(&column_type));
        prop_assert!(output_type.is_represented_by(masked.dtype()), "{} {}", output_type, masked.dtype());
        prop_assert_eq!(masked.len(), cells.len());
        let mut seen = HashMap::new();
        let hides_nulls = matches!(fitted, Mask::Redact | Mask::Constant(_));
        for (cell, masked) in spelled(&cells).into_iter().zip(spelled(&masked)) {
            prop_assert!(cell != "Null" || masked == "Null" || hides_nulls, "{}", mask);
            prop_assert_eq!(seen.entry(cell).or_insert_with(|| masked.clone()), &masked);
        }
    }
}
