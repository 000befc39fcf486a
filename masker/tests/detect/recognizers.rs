//! `recognizer-cases.jsonl`: positive and negative cases of 75 recognizers, from the analyzer tests of data-privacy-stack/presidio
//! (MIT licence). Each case asks one recognizer about one text, so here the text stands in a column of that name, and hits of the
//! column's class count. `count` is how many there are, `spans` where, in code points. Some cases have the verdict of the
//! recognizer's checksum instead (`valid`): true asks for a hit, false for none that a checksum proves.

use countersign_masker::detect::{Basis, Detectors};
use serde_json::Value;

/// The cases that come out otherwise, and why. The test fails if there is one more or one less.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("de_vat_id", "DE100000001", "its check digit is wrong; the cases want it found once, and not found twice"),
    ("in_gstin", "PQRST6789K", "asks whether the inner part, a PAN, is well formed; by itself it is no GSTIN"),
    ("in_pan", "A1111DFSFS", "not of the form that the tax department publishes: five letters, four digits, a letter"),
    (
        "phone",
        "My US number is (415) 555-0132, and my international one is 91-415-555-0132",
        "the cases want the second number both found and not found, depending on a setting of the recognizer",
    ),
    (
        "phone",
        "My US number is (415) 555-0132, and my international one is +91 4155 550132",
        "the second number is a valid one, in groups that one setting of the recognizer refuses",
    ),
    ("url", "\"https://presidio.dataprivacystack.org/\"", "the span wanted has the quotation marks around the URL"),
    ("za_id_number", "050101", "asks whether the first six digits are a date; they are no number of 13 digits"),
    ("za_id_number", "000229", "as above"),
];

enum Outcome {
    Same,
    Differs(String),
    NothingAsked,
}

fn judge(detectors: &Detectors, case: &Value) -> Outcome {
    let (Some(recognizer), Some(text)) = (case["recognizer"].as_str(), case["text"].as_str()) else {
        return Outcome::NothingAsked;
    };
    let hint = detectors.hint(recognizer);
    let class = detectors.named(&hint).unwrap_or_else(|| panic!("no class is called `{recognizer}`"));
    let hits = detectors.detect(text, Some(&hint));
    let hits: Vec<_> = hits.iter().filter(|hit| hit.class == class).collect();
    let spans: Vec<_> = hits.iter().map(|hit| (hit.start as u64, hit.end as u64)).collect();
    let same = match (&case["count"], &case["valid"]) {
        (Value::Number(count), _) => {
            let expected = case["spans"].as_array().map(|spans| {
                spans.iter().map(|span| (span[0].as_u64().unwrap(), span[1].as_u64().unwrap())).collect::<Vec<_>>()
            });
            spans.len() as u64 == count.as_u64().unwrap() && expected.is_none_or(|expected| expected == spans)
        }
        (_, Value::Bool(true)) => !hits.is_empty(),
        (_, Value::Bool(false)) => hits.iter().all(|hit| hit.basis != Basis::Checksum),
        _ => return Outcome::NothingAsked,
    };
    if same { Outcome::Same } else { Outcome::Differs(format!("found {spans:?}")) }
}

#[test]
fn recognizer_cases() {
    let detectors = Detectors::builtin();
    let (mut asked, mut differences) = (0, Vec::new());
    for line in include_str!("recognizer-cases.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        match judge(&detectors, &case) {
            Outcome::NothingAsked => continue,
            Outcome::Same => {}
            Outcome::Differs(found) => differences.push((case, found)),
        }
        asked += 1;
    }
    let same = asked - differences.len();
    println!("{same} of {asked} cases come out as listed: {:.2} %", 100.0 * same as f64 / asked as f64);
    let mut unexpected = Vec::new();
    for (case, found) in &differences {
        let listed =
            DIFFERENCES.iter().find(|(recognizer, text, _)| case["recognizer"] == *recognizer && case["text"] == *text);
        match listed {
            Some((_, _, reason)) => println!("differs: {case}: {found}: {reason}"),
            None => unexpected.push(format!("{case}: {found}")),
        }
    }
    assert!(unexpected.is_empty(), "unlisted differences:\n{}", unexpected.join("\n"));
    assert!(same * 100 >= asked * 99, "{same} of {asked}");
    assert_eq!(differences.len(), DIFFERENCES.len(), "a listed difference is none any more");
}
