//! Masks of numbers.

use crate::{check, column, masked, shown};
use countersign_masker::ColumnType;
use polars::prelude::*;
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

#[test]
fn integers() {
    for column_type in ["int8", "int16", "int32", "int64"] {
        let buckets =
            [("-21", "-30"), ("-20", "-20"), ("-1", "-10"), ("0", "0"), ("9", "0"), ("10", "10"), ("119", "110")];
        check(column_type, "bucket(10)", &buckets);
        let rounded =
            [("-25", "-20"), ("-26", "-30"), ("-5", "0"), ("-6", "-10"), ("4", "0"), ("5", "10"), ("115", "120")];
        check(column_type, "round(10)", &rounded);
        check(column_type, "round(3)", &[("-2", "-3"), ("-1", "0"), ("1", "0"), ("2", "3"), ("4", "3"), ("5", "6")]);
    }
    for column_type in ["uint8", "uint16", "uint32", "uint64"] {
        check(column_type, "bucket(10)", &[("0", "0"), ("9", "0"), ("10", "10"), ("255", "250")]);
        check(column_type, "round(10)", &[("0", "0"), ("4", "0"), ("5", "10"), ("246", "250")]);
    }
    // Where a step ends beyond the type, the type's own end takes the place of the multiple.
    check("int8", "bucket(10)", &[("-128", "-128"), ("-121", "-128"), ("-120", "-120"), ("127", "120")]);
    check("int8", "round(10)", &[("-128", "-128"), ("-126", "-128"), ("-125", "-120"), ("127", "127"), ("125", "127")]);
    check("uint8", "round(10)", &[("255", "255"), ("254", "250")]);
    let (min, max) = (i64::MIN.to_string(), i64::MAX.to_string());
    check("int64", "bucket(10)", &[(&min, &min), (&max, "9223372036854775800")]);
    check("int64", "round(10)", &[(&min, &min), (&max, &max)]);
    check(
        "uint64",
        "round(10)",
        &[("18446744073709551615", "18446744073709551615"), ("18446744073709551614", "18446744073709551610")],
    );
    // Steps that are longer than the type.
    check("int8", "bucket(1000)", &[("-128", "-128"), ("-1", "-128"), ("0", "0"), ("127", "0")]);
    check("uint8", "bucket(256)", &[("0", "0"), ("255", "0")]);
    check("int8", "round(200)", &[("-128", "-128"), ("-101", "-128"), ("-100", "0"), ("99", "0"), ("100", "127")]);
    check("uint8", "round(400)", &[("199", "0"), ("200", "255")]);
}

#[test]
fn decimals() {
    check(
        "decimal(5,2)",
        "bucket(0.25)",
        &[("-0.01", "-0.25"), ("0.24", "0.00"), ("0.25", "0.25"), ("999.99", "999.75")],
    );
    check("decimal(5,2)", "bucket(100)", &[("-0.01", "-100.00"), ("99.99", "0.00"), ("100.00", "100.00")]);
    check("decimal(5,2)", "bucket(1000)", &[("-0.01", "-999.99"), ("-999.99", "-999.99"), ("999.99", "0.00")]);
    check("decimal(5,2)", "round(0.1)", &[("0.05", "0.10"), ("0.04", "0.00"), ("-0.05", "0.00"), ("999.99", "999.99")]);
    let big = "99999999999999999999999999999999999999";
    check("decimal(38,0)", "bucket(1000)", &[(big, "99999999999999999999999999999999999000"), ("-1", "-1000")]);
    check("decimal(38,0)", "round(1000)", &[(big, big), ("-500", "0"), ("-501", "-1000")]);
}

#[test]
fn numerics() {
    check(
        "numeric",
        "bucket(0.5)",
        &[
            ("0.4999", "0.0"),
            ("0.5", "0.5"),
            ("-0.0001", "-0.5"),
            ("-0.5000", "-0.5"),
            ("7", "7.0"),
            ("123456789012345678901234567", "123456789012345678901234567.0"),
            ("1234567890123456789012345678", "NULL"),
            ("NaN", "NULL"),
            ("Infinity", "NULL"),
            ("1e3", "NULL"),
            ("+1", "NULL"),
            ("1.", "NULL"),
            ("", "NULL"),
        ],
    );
    check("numeric", "bucket(1)", &[("1.9", "1"), ("-1.9", "-2"), ("-2", "-2"), ("0.000000000000001", "0")]);
    check("numeric", "round(1)", &[("1.5", "2"), ("1.49999", "1"), ("-1.5", "-1"), ("-1.5001", "-2")]);
    check("numeric", "round(0.1)", &[("0.05", "0.1"), ("0.0499999", "0.0"), ("-0.05", "0.0"), ("-0.050001", "-0.1")]);
}

#[test]
fn floats() {
    for column_type in ["float32", "float64"] {
        // The floats that these texts stand for, though hardly one of them is a multiple of a tenth.
        check(
            column_type,
            "bucket(0.1)",
            &[
                ("0.3", "0.3"),
                ("0.7", "0.7"),
                ("0.299", "0.2"),
                ("1.1", "1.1"),
                ("-0.3", "-0.3"),
                ("-0.31", "-0.4"),
                ("-0", "0"),
            ],
        );
        check(column_type, "bucket(0.01)", &[("0.29", "0.29"), ("0.57", "0.57"), ("0.58", "0.58"), ("1.15", "1.15")]);
        check(
            column_type,
            "round(0.5)",
            &[("0.25", "0.5"), ("0.2", "0"), ("-0.25", "0"), ("-0.3", "-0.5"), ("7.75", "8")],
        );
        check(column_type, "round(1000)", &[("499.5", "0"), ("500", "1000"), ("-500", "0"), ("-500.5", "-1000")]);
        check(
            column_type,
            "bucket(10)",
            &[("NaN", "NULL"), ("inf", "NULL"), ("-inf", "NULL"), ("1e300", "NULL"), ("-1e-30", "-10")],
        );
        check(
            column_type,
            "bucket(10)",
            &[("1e15", "1000000000000000"), ("1.2e15", "NULL"), ("-1.2e15", "NULL")].map(|case| {
                if column_type == "float32" && case.0 == "1e15" { ("1e12", "1000000000000") } else { case }
            }),
        );
    }
}

#[test]
fn ranges() {
    let ages =
        [("-1", "(,18)"), ("17", "(,18)"), ("18", "[18,65)"), ("64", "[18,65)"), ("65", "[65,)"), ("127", "[65,)")];
    for column_type in ["int8", "int64", "float32", "float64", "decimal(5,0)", "numeric"] {
        check(column_type, "range(18, 65)", &ages);
    }
    check("uint64", "range(18)", &[("0", "(,18)"), ("18446744073709551615", "[18,)")]);
    check(
        "int32",
        "range(-1.5, 1.5)",
        &[("-2", "(,-1.5)"), ("-1", "[-1.5,1.5)"), ("1", "[-1.5,1.5)"), ("2", "[1.5,)")],
    );
    check("decimal(3,1)", "range(0.25)", &[("0.2", "(,0.25)"), ("0.3", "[0.25,)"), ("-9.9", "(,0.25)")]);
    check("decimal(38,38)", "range(-1, 1)", &[("0.00000000000000000000000000000000000000", "[-1,1)")]);
    check(
        "numeric",
        "range(0.1)",
        &[("0.0999999999999", "(,0.1)"), ("0.1", "[0.1,)"), ("-5", "(,0.1)"), ("NaN", "NULL")],
    );
    check(
        "float64",
        "range(0.1, 0.3)",
        &[("0.1", "[0.1,0.3)"), ("0.3", "[0.3,)"), ("NaN", "NULL"), ("-inf", "(,0.1)")],
    );
    check("float32", "range(0.1, 0.3)", &[("0.1", "[0.1,0.3)"), ("0.3", "[0.3,)"), ("inf", "[0.3,)")]);
}

proptest! {
    /// A float is told by the multiple below it that its text would name: the same as for a decimal.
    #[test]
    fn floats_are_told_as_decimals_are(units in -10_000_000..10_000_000i64, step in 2..5000i64, decimals in 0..4u8, rule in "bucket|round") {
        let spelled = |units: i64| {
            let digits = format!("{:05}", units.abs());
            let (whole, fraction) = digits.split_at(digits.len() - usize::from(decimals));
            format!("{}{whole}{}{fraction}", if units < 0 { "-" } else { "" }, if decimals > 0 { "." } else { "" })
        };
        let decimal = ColumnType::Decimal { precision: 18, scale: decimals };
        let rule = format!("{rule}({})", spelled(step));
        let one = |column_type: &ColumnType| {
            let (_, masked) = masked(&rule, column(column_type, &[Some(&spelled(units))]), column_type);
            shown(column_type, &masked)[0].clone().unwrap().parse::<f64>().unwrap()
        };
        prop_assert_eq!(one(&ColumnType::Float64), one(&decimal) + 0.0);
        prop_assert!(one(&decimal) <= spelled(units).parse::<f64>().unwrap() + step as f64);
    }
}

#[test]
fn nulls_hide_what_is_under_them() {
    // NaN under a null, and a slice, which has both neighbours' values beside it.
    let cells = Float64Chunked::from_slice("c".into(), &[1.0, f64::NAN, 25.0, 99.0]);
    let cells = cells.set(&BooleanChunked::from_slice("m".into(), &[false, true, false, false]), None).unwrap();
    let (_, masked) = masked("bucket(10)", cells.into_series().slice(0, 3), &ColumnType::Float64);
    assert_eq!(shown(&ColumnType::Float64, &masked), [Some("0".to_owned()), None, Some("20".to_owned())]);
}
