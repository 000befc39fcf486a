//! The table of `docs/masks.md`, run row by row.

use crate::{column, masked, shown};
use countersign_masker::{ColumnType, Mask};

const TYPES: &str = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 decimal(9,2) numeric text binary date time \
                     timestamp timestamptz uuid json text_array";

fn group(name: &str) -> &'static str {
    match name {
        "every type" => TYPES,
        "texts" => "text uuid json numeric text_array",
        "text" => "text",
        "integers" => "int8 int16 int32 int64 uint8 uint16 uint32 uint64",
        "wide integers" => "int32 int64 uint32 uint64",
        "numbers" => "int64 int8 int16 int32 uint8 uint16 uint32 uint64 float32 float64 decimal(9,2) numeric",
        "dates" => "date timestamp timestamptz",
        "timestamps" => "timestamp timestamptz",
        other => panic!("`{other}` is no group of types"),
    }
}

/// What stands between backquotes; `null` without them is none.
fn quoted(text: &str) -> Option<String> {
    if text == "null" {
        return None;
    }
    let inner = text.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
    Some(inner.unwrap_or_else(|| panic!("{text}")).to_owned())
}

/// Texts that each mask tells the same of, and which differ in length.
const ALIKE: [[&str; 3]; 8] = [
    ["Lovelace", "Loce", "Lo and behold: a much longer text that ends in ce"],
    ["ada@mail.example.org", "a.lovelace@x.org", "alonso@a.very.long.example.org"],
    ["02139", "02139-4307", "021394307"],
    ["10.1.2.3", "10.1.200.100", "10.1.2.3/24"],
    ["2024-02-29", "2024-02-29 what", "2024-02-29T25:00:00"],
    ["2024-02-29T10:34", "2024-02-29T10:34:56", "2024-02-29T10:34:56.789Z"],
    ["4111111111111111", "411111", "41111111111111111111111111111111"],
    ["not this kind", "nor this", "and this one neither, whatever is asked of it"],
];

#[test]
fn the_table_is_true() {
    let doc = include_str!("../../../docs/masks.md");
    let rows =
        doc.lines().skip_while(|line| !line.starts_with("| --- ")).skip(1).take_while(|line| line.starts_with('|'));
    let mut names = Vec::new();
    for row in rows {
        let cells = row.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>();
        let [rule, fits, null, empty, hides, example, _] = cells.as_slice() else { panic!("{row}") };
        let rule = quoted(rule).unwrap();
        let mask = Mask::parse(&rule).unwrap();
        names.push(rule.split('(').next().unwrap().to_owned());

        let fitting = fits.split(", ").flat_map(|name| group(name).split(' ')).collect::<Vec<_>>();
        for name in TYPES.split_whitespace() {
            let column_type: ColumnType = name.parse().unwrap();
            assert_eq!(mask.output_type(&column_type).is_some(), fitting.contains(&name), "{rule} of {name}");
        }
        let nested = ColumnType::List(Box::new(ColumnType::Text));
        assert_eq!(mask.output_type(&nested).is_some(), *fits == "every type", "{rule} of lists");

        let sample: ColumnType = if fitting.contains(&"text") { "text" } else { fitting[0] }.parse().unwrap();
        let made = |cell: Option<&str>| {
            let (output, masked) = masked(&rule, column(&sample, &[cell]), &sample);
            shown(&output, &masked)[0].clone()
        };
        assert_eq!(made(None), quoted(null), "{rule} of null");
        if sample == ColumnType::Text {
            assert_eq!(made(Some("")), quoted(empty), "{rule} of empty text");
        } else {
            assert_eq!(*empty, "–", "{rule} takes no text");
        }
        let (cell, expected) = example.split_once(" → ").unwrap();
        assert_eq!(made(quoted(cell).as_deref()), quoted(expected), "{rule} of {cell}");

        if sample == ColumnType::Text {
            let one_length = |cells: &[&str; 3]| {
                let lengths = cells.map(|cell| made(Some(cell)).map(|text| text.len()));
                lengths.iter().all(|length| *length == lengths[0])
            };
            assert_eq!(ALIKE.iter().all(one_length), *hides == "yes", "{rule} hides the length");
        }
    }
    // Every mask that there is has a row.
    let known = Mask::parse("no mask").unwrap_err().to_string();
    let (_, known) = known.split_once("known are ").unwrap();
    // Arguments aside, at whose commas the list is split as well.
    let known = known.split(", ").filter(|name| name.len() > 1 && (name.contains('(') || !name.ends_with(')')));
    for name in known.map(|name| name.split('(').next().unwrap()) {
        assert!(names.iter().any(|documented| documented == name), "`{name}` is missing in docs/masks.md");
    }
}
