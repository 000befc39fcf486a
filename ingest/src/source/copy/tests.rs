use polars::prelude::*;
use proptest::prelude::*;

use super::*;

/// A stream of the given tuples; `None` is a null.
fn stream(tuples: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0; 8]);
    for tuple in tuples {
        bytes.extend(u16::try_from(tuple.len()).unwrap().to_be_bytes());
        for field in tuple {
            match field {
                Some(value) => {
                    bytes.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    bytes.extend(value);
                }
                None => bytes.extend((-1_i32).to_be_bytes()),
            }
        }
    }
    bytes.extend((-1_i16).to_be_bytes());
    bytes
}

fn numeric(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
    let count = u16::try_from(digits.len()).unwrap();
    let header = [count, weight.cast_unsigned(), sign, 0];
    header.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect()
}

fn decode(columns: &[(String, ColumnType)], portions: &[&[u8]]) -> Result<DataFrame, SourceError> {
    let mut decoder = CopyDecoder::new(columns, 1_000, 1 << 20)?;
    for portion in portions {
        decoder.push(portion)?;
    }
    decoder.finish()
}

fn columns(types: &[ColumnType]) -> Vec<(String, ColumnType)> {
    types.iter().enumerate().map(|(at, ty)| (format!("c{at}"), ty.clone())).collect()
}

fn all_types() -> Vec<ColumnType> {
    vec![
        ColumnType::Bool,
        ColumnType::Int16,
        ColumnType::Int32,
        ColumnType::Int64,
        ColumnType::Float32,
        ColumnType::Float64,
        ColumnType::Decimal { precision: 10, scale: 2 },
        ColumnType::Text,
        ColumnType::Binary,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::Uuid,
    ]
}

fn sample() -> Vec<u8> {
    let row = vec![
        Some(vec![1]),
        Some(7_i16.to_be_bytes().to_vec()),
        Some((-7_i32).to_be_bytes().to_vec()),
        Some(i64::MAX.to_be_bytes().to_vec()),
        Some(1.5_f32.to_be_bytes().to_vec()),
        Some(f64::NAN.to_be_bytes().to_vec()),
        Some(numeric(0, 0x4000, &[12, 3_400])),
        Some("a text that is longer than a view".as_bytes().to_vec()),
        Some(vec![0, 255]),
        Some(0_i32.to_be_bytes().to_vec()),
        Some(1_i64.to_be_bytes().to_vec()),
        Some(0_i64.to_be_bytes().to_vec()),
        Some((-1_i64).to_be_bytes().to_vec()),
        Some(vec![0xab; 16]),
    ];
    stream(&[row.clone(), vec![None; 14], row])
}

#[test]
fn however_it_is_cut_it_is_the_same_frame() {
    let (columns, bytes) = (columns(&all_types()), sample());
    let whole = decode(&columns, &[&bytes]).unwrap();
    assert_eq!(whole.height(), 3);
    for (name, ty) in &columns {
        let column = whole.column(name).unwrap();
        assert_eq!(*column.dtype(), ty.dtype());
        assert_eq!(column.null_count(), 1, "{name}");
    }
    assert_eq!(whole.column("c6").unwrap().get(0).unwrap(), AnyValue::Decimal(-1_234, 10, 2));
    assert_eq!(whole.column("c9").unwrap().get(2).unwrap(), AnyValue::Date(10_957));
    assert_eq!(whole.column("c13").unwrap().get(2).unwrap(), AnyValue::String("abababab-abab-abab-abab-abababababab"));
    for at in 0..bytes.len() {
        let (left, right) = bytes.split_at(at);
        assert!(decode(&columns, &[left, right]).unwrap().equals_missing(&whole), "cut at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert!(decode(&columns, &single).unwrap().equals_missing(&whole));
}

/// One value of one type, and what becomes of it: a cell, or words of the error.
fn check(ty: ColumnType, value: Vec<u8>, expected: Result<AnyValue<'_>, &str>) {
    let shown = format!("{ty} {value:?}");
    let result = decode(&columns(&[ty]), &[&stream(&[vec![Some(value)]])]);
    match (result, expected) {
        (Ok(frame), Ok(cell)) => assert_eq!(frame.column("c0").unwrap().get(0).unwrap(), cell, "{shown}"),
        (Err(error), Err(words)) => {
            assert_eq!(error.reason(), "malformed_source");
            assert!(error.to_string().contains(words), "{shown}: {error}");
            assert!(error.to_string().contains("column `c0`"), "{shown}: {error}");
        }
        (result, _) => panic!("{shown}: {result:?}"),
    }
}

#[test]
fn values_are_what_they_should_be_or_refused() {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    check(ColumnType::Bool, vec![2], Err("neither 0 nor 1"));
    check(ColumnType::Int32, vec![0; 5], Err("wrong length"));
    check(ColumnType::Text, vec![0xff], Err("not UTF-8"));
    check(ColumnType::Uuid, vec![0; 15], Err("wrong length"));
    check(ColumnType::Date, i32::MAX.to_be_bytes().to_vec(), Err("infinite date"));
    check(ColumnType::Date, i32::MIN.to_be_bytes().to_vec(), Err("infinite date"));
    check(ColumnType::Date, 2_145_031_948_i32.to_be_bytes().to_vec(), Err("after the year 262142"));
    check(ColumnType::Date, (-2_451_545_i32).to_be_bytes().to_vec(), Ok(AnyValue::Date(-2_440_588)));
    check(ColumnType::Timestamp, i64::MAX.to_be_bytes().to_vec(), Err("infinite timestamp"));
    check(ColumnType::TimestampTz, (i64::MAX - 1).to_be_bytes().to_vec(), Err("after the year 262142"));
    check(ColumnType::Time, 86_400_000_000_i64.to_be_bytes().to_vec(), Err("24:00:00"));
    check(ColumnType::Time, (-1_i64).to_be_bytes().to_vec(), Err("24:00:00"));

    check(decimal(4, 2), numeric(0, 0, &[]), Ok(AnyValue::Decimal(0, 4, 2)));
    check(decimal(4, 2), numeric(0, 0, &[99, 9_900]), Ok(AnyValue::Decimal(9_999, 4, 2)));
    check(decimal(4, 2), numeric(-1, 0x4000, &[100]), Ok(AnyValue::Decimal(-1, 4, 2)));
    check(decimal(4, 2), numeric(0, 0, &[100]), Err("more digits"));
    check(decimal(4, 2), numeric(-1, 0, &[10]), Err("more decimal places"));
    check(decimal(4, 2), numeric(-2, 0, &[1]), Err("more decimal places"));
    check(decimal(4, 2), numeric(0, 0xC000, &[]), Err("NaN"));
    check(decimal(4, 2), numeric(0, 0xD000, &[]), Err("infinite"));
    check(decimal(4, 2), numeric(0, 0xF000, &[]), Err("infinite"));
    check(decimal(4, 2), numeric(0, 1, &[]), Err("malformed number"));
    check(decimal(4, 2), numeric(0, 0, &[10_000]), Err("malformed number"));
    check(decimal(4, 2), vec![0, 1, 0, 0, 0, 0, 0, 0], Err("malformed number"));
    check(decimal(4, 2), numeric(i16::MAX, 0, &[1]), Err("more digits"));
    check(decimal(4, 2), numeric(i16::MAX, 0, &[0]), Ok(AnyValue::Decimal(0, 4, 2)));
    check(decimal(12, 0), numeric(2, 0, &[1]), Ok(AnyValue::Decimal(100_000_000, 12, 0)));
    let nines = [9; 38].iter().fold(0_i128, |value, digit| value * 10 + digit);
    let groups = [99, 9_999, 9_999, 9_999, 9_999, 9_999, 9_999, 9_999, 9_999, 9_999];
    check(decimal(38, 0), numeric(9, 0, &groups), Ok(AnyValue::Decimal(nines, 38, 0)));
    let groups = [9, 9_999, 9_999, 9_999, 9_999, 9_999, 9_999, 9_999, 9_999, 9_999, 9_000];
    check(decimal(38, 1), numeric(9, 0x4000, &groups), Ok(AnyValue::Decimal(-nines, 38, 1)));
    check(decimal(38, 0), numeric(9, 0, &[100, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err("more digits"));
}

#[test]
fn limits_and_framing() {
    let two = columns(&[ColumnType::Bool]);
    let tuple = || vec![Some(vec![1])];
    let reason = |rows_max, bytes_max, bytes: &[u8]| {
        let mut decoder = CopyDecoder::new(&two, rows_max, bytes_max).unwrap();
        match decoder.push(bytes).and_then(|()| decoder.finish()) {
            Ok(frame) => format!("{} rows", frame.height()),
            Err(error) => error.reason().to_owned(),
        }
    };
    let three = stream(&[tuple(), tuple(), tuple()]);
    let size = three.len() as u64;
    assert_eq!(reason(3, size, &three), "3 rows");
    assert_eq!(reason(2, size, &three), "too_many_rows");
    assert_eq!(reason(3, size - 1, &three), "too_many_bytes");
    assert_eq!(reason(3, size, &stream(&[])), "0 rows");
    assert_eq!(reason(3, size, &three[..three.len() - 2]), "malformed_source");
    assert_eq!(reason(3, size, b""), "malformed_source");
    assert_eq!(reason(3, size, b"PGCOPY\n\xff\r\n"), "malformed_source");
    assert_eq!(reason(3, size, b"id,name\n1,x\n"), "malformed_source");
    assert_eq!(reason(3, 99, &[three.clone(), vec![0]].concat()), "malformed_source");
    assert_eq!(reason(3, 99, &stream(&[vec![Some(vec![1]), None]])), "malformed_source");
    let with = |at: usize, bytes: &[u8]| {
        let mut broken = three.clone();
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        broken
    };
    assert_eq!(reason(3, size, &with(11, &[0, 1, 0, 0])), "malformed_source");
    assert_eq!(reason(3, size, &with(19, &[0xff, 0xfe])), "malformed_source");
    assert_eq!(reason(3, size, &with(21, &[0xff, 0xff, 0xff, 0xfe])), "malformed_source");
    assert_eq!(reason(3, size, &with(21, &[0x7f, 0xff, 0xff, 0xff])), "too_many_bytes");
    let mut extended = SIGNATURE.to_vec();
    extended.extend([0, 0, 0, 0, 0, 0, 0, 2, 9, 9, 0xff, 0xff]);
    assert_eq!(reason(3, size, &extended), "0 rows");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), header: bool) {
        let mut all = if header { sample()[..19].to_vec() } else { Vec::new() };
        all.extend(bytes);
        let _ = decode(&columns(&all_types()), &[&all]);
        let _ = decode(&columns(&[ColumnType::Decimal { precision: 38, scale: 38 }]), &[&all]);
    }

    #[test]
    fn mutated_streams_never_panic(at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 1..12), cut: prop::sample::Index) {
        let mut stream = sample();
        let at = at.index(stream.len());
        for (slot, byte) in stream[at..].iter_mut().zip(bytes) {
            *slot = byte;
        }
        let (left, right) = stream.split_at(cut.index(stream.len()));
        if let Ok(frame) = decode(&columns(&all_types()), &[left, right]) {
            prop_assert!(frame.height() <= 3);
        }
    }

    #[test]
    fn decimals_survive(units in -99_999_999_999_i64..=99_999_999_999, scale in 0..=11_u8) {
        // As PostgreSQL groups digits: four to each side of the point, outer zero groups left out.
        let digits = format!("{:0>12}{}", units.unsigned_abs(), "");
        let (whole, fraction) = digits.split_at(12 - usize::from(scale));
        let whole = format!("{whole:0>12}");
        let fraction = format!("{fraction:0<12}");
        let mut groups: Vec<u16> = format!("{whole}{fraction}").as_bytes().chunks(4)
            .map(|group| std::str::from_utf8(group).unwrap().parse().unwrap()).collect();
        let mut weight = 2;
        while groups.last() == Some(&0) { groups.pop(); }
        while groups.first() == Some(&0) { groups.remove(0); weight -= 1; }
        let sign = if units < 0 { 0x4000 } else { 0 };
        let ty = ColumnType::Decimal { precision: 12, scale };
        let frame = decode(&columns(&[ty]), &[&stream(&[vec![Some(numeric(weight, sign, &groups))]])]).unwrap();
        prop_assert_eq!(frame.column("c0").unwrap().get(0).unwrap(), AnyValue::Decimal(units.into(), 12, scale.into()));
    }
}
