//! Texts in which the spans are marked: `«fin.card:4111 1111 1111 1111»`. `column: ` in front of `|` names the column.

use countersign_masker::detect::{Custom, Detectors, Find};

/// Detects in the text without its marks, and compares with them.
fn check(marked: &str) {
    check_with(&Detectors::builtin(), marked);
}

fn check_with(detectors: &Detectors, marked: &str) {
    let (column, marked_text) = match marked.split_once(" | ") {
        Some((column, text)) => (Some(column), text),
        None => (None, marked),
    };
    let (mut text, mut expected, mut open) = (String::new(), Vec::new(), None);
    let mut rest = marked_text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        let place = text.chars().count();
        match character {
            '«' => {
                let (class, after) = rest.split_once(':').unwrap();
                open = Some((class, place));
                rest = after;
            }
            '»' => {
                let (class, start) = open.take().unwrap();
                expected.push((class.to_owned(), start, place));
            }
            other => text.push(other),
        }
    }
    let hint = column.map(|column| detectors.hint(column));
    let hits = detectors.detect(&text, hint.as_ref());
    let found: Vec<_> = hits.iter().map(|hit| (hit.class.to_owned(), hit.start, hit.end)).collect();
    assert_eq!(found, expected, "in `{marked}`");
}

fn all(marked: &[&str]) {
    marked.iter().for_each(|marked| check(marked));
}

#[test]
fn cards() {
    all(&[
        "paid with «fin.card:4111 1111 1111 1111», thanks",
        "«fin.card:5500-0000-0000-0004» and «fin.card:340000000000009»",
        "«fin.card:4111\u{a0}1111\u{a0}1111\u{a0}1111» «fin.card:4111–1111–1111–1111» «fin.card:４１１１１１１１１１１１１１１１»",
        "<td>«fin.card:4111</td><td>1111</td><td>1111</td><td>1111»</td>",
        "«fin.card:4111&nbsp;1111&nbsp;1111&nbsp;1111» **«fin.card:4111** **1111** **1111** **1111»**",
        "«fin.card:٤١١١ ١١١١ ١١١١ ١١١١»",
        "4111 1111 1111 1112 and 0.4111111111111111 and 41111111111111111",
        "order 4006381333931, but card «fin.card:4222222222222»",
        // A number of a person in China and an IMEI have the length of such cards, and the latter their check digit.
        "220105195001011234, ID card number 220105195001011234, but card «fin.card:220105195001011234»",
        "630495060000007, but card «fin.card:630495060000007»",
    ]);
}

#[test]
fn accounts() {
    all(&[
        "IBAN «fin.iban:DE89 3704 0044 0532 0130 00», BIC: «fin.bic:COBADEFFXXX»",
        "send to «fin.iban:gb29nwbk60161331926819» please",
        "DE88 3704 0044 0532 0130 00",
        "the SWIFT response came from INTERNAL",
        "routing number «fin.aba:121000358», but order 121000358",
    ]);
}

#[test]
fn united_states() {
    all(&[
        "my ssn is «id.us.ssn:078051123»; «id.us.ssn:078-05-1123» «id.us.ssn:078 05 1123»",
        "078051123 666-05-1123 078-00-1123 900-05-1123 123-45-6789",
        "«id.us.ssn:078&#45;05&#45;1123» «id.us.ssn:078‑05‑1123» «id.us.ssn:078-<b>05</b>-1123»",
        "ITIN «id.us.itin:911-53-1234», EIN «id.us.ein:12-3456789»",
        "NPI «id.us.npi:1234567893» DEA «id.us.dea:BB1388568»",
        "Medicare «id.us.mbi:1EG4-TE5-MK73»",
        "order 112-3456789-1234567 of 2024-01-02 12:30:00, ticket 123456789",
        "Suite 412 36 7022, Oak Lane; apt. number 412 36 7022",
        "passport number «id.us.passport:117487215» and social security number «id.us.ssn:078-05-1123»",
        "job 117487215 done. SSN: «id.us.ssn:078-05-1123»",
    ]);
}

#[test]
fn net() {
    all(&[
        "from «net.ip:10.1.2.3» to «net.ip:fe80::1%eth0/64», gateway [«net.ip:2001:db8::1»]:80",
        "version 10.1.2.3, v1.2.3.4, Chrome/118.0.0.0, (X11; rv:1.9.2.20), 1.2.3, 1.2.3.4.5, std::vec and 12:30:45",
        "«net.mac:00:1A:2B:3C:4D:5E» «net.mac:aabb.ccdd.eef0» «net.mac:AA-BB-CC-DD-EE-FF»",
        "write to «pii.email:ada.lovelace+x@mail.example.org». Or <«pii.email:josé@exämple.de»>!",
        "«pii.email:info＠example.com» but not info@example or @handle or a@b..c",
        "可通过邮箱«pii.email:ada@example.com»或手机«pii.phone:13812345678»联系。邮箱«pii.email:ada@example.com»。她的",
        "postgres://«secret.url_credentials:app:s3cr3t»@db.example.com:5432/x",
        "550e8400-e29b-41d4-a716-446655440000",
    ]);
}

#[test]
fn phones() {
    all(&[
        "call «pii.phone:+1 415 555 0132» or «pii.phone:(415) 555-0132» or «pii.phone:415.555.0132 x12»",
        "«pii.phone:+49 (0)30 1234567», «pii.phone:+44 20 7946 0958», «pii.phone:001-415-555-0132x1234»",
        "my phone is «pii.phone:4155550132», the order 4155550132",
        "Telefon: «pii.phone:030/1234567»",
        "2024-01-02 2024-01-02 03:04 12-31-2024 1700000000 1700000000000 1.2.3",
        "il a appelé sa mère au «pii.phone:0412345678», teléfono «pii.phone:912 345 678», «pii.phone:52 91 76» office",
        "office: «pii.phone:35512046», but the office is at 35512046 Main Street and the office, 12.345678 or 52.1234567",
        "call «pii.phone:+0412345678»",
        "call 12 05 99 or 490154203237518",
        "FV 0412/03/2026 for the call centre",
        "04 8736369, NIP: 060-270-26-31, but «pii.phone:044 668 18 00», «pii.phone:07700 900123» and «pii.phone:(04) 8736369»",
        "leave a message on the machine, level 2 - 12/09/2025; phone «pii.phone:0412 345 678», TFN: 107563388, ABN: 12 345 678 901",
        "chart 415-555-0132, NPI: 415-555-0132, call NPI 7275784461",
        // Of several words, the nearest says what it is.
        "my account is closed. Call me at «pii.phone:327206131», my account is «fin.us.account:327206131»",
        r"Tel:\n«pii.phone:415-555-0132»\nfax\t«pii.phone:415-555-0133» mail:\n«pii.email:ada@example.org»\n",
    ]);
}

#[test]
fn dates_of_birth() {
    all(&[
        "born on «pii.birth_date:5 March 1980» in Bonn, moved on 5 March 1990. She works there since 1 May 2001.",
        "DOB: «pii.birth_date:03/05/1980»",
        "geboren am «pii.birth_date:5. März 1980»",
        "date_of_birth | «pii.birth_date:1980-03-05»",
        "the meeting is on 03/05/2024",
    ]);
}

#[test]
fn devices() {
    all(&[
        "VIN «id.vin:1HGCM82633A004352»",
        "«id.imei:490154203237518» is the IMEI",
        "wallet «fin.crypto:16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ» and «fin.crypto:0x52908400098527886E0F7030069857D2E4169EE7»",
    ]);
}

#[test]
fn secrets() {
    let key = format!("AKIA{}", "IOSFODNN7EXAMPLE");
    let token = format!("ghp_{}", "0123456789abcdefghij0123456789abcdef");
    check(&format!("id «secret.key:{key}» token «secret.key:{token}»"));
    let pem = |label: &str| format!("-----BEGIN {label}-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END {label}-----");
    check(&format!("key: «secret.private_key:{}» end", pem("PRIVATE KEY")));
    check(&pem("CERTIFICATE"));
    let jwt = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl";
    check(&format!("Bearer «secret.jwt:{jwt}»."));
}

/// One of each kind of key, put together here so that no scanner takes this file for a leak.
#[test]
fn keys_of_every_issuer() {
    let tail = "0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2yZ3aB4cD5eF6gH7iJ8kL9mN0oP1qR2sT3uV4wX5yZ6aB7cD8eF9gH0iJ";
    let keys: &[(&str, usize)] = &[
        ("AIza", 35),
        ("GOCSPX-", 28),
        ("ya29.", 40),
        ("ghp_", 36),
        ("gho_", 36),
        ("ghu_", 36),
        ("ghs_", 36),
        ("ghr_", 36),
        ("github_pat_", 82),
        ("glpat-", 20),
        ("xoxb-", 40),
        ("xoxp-", 40),
        ("xoxa-", 40),
        ("xoxr-", 40),
        ("xoxs-", 40),
        ("xapp-", 40),
        ("sk_live_", 24),
        ("sk_test_", 24),
        ("rk_live_", 24),
        ("rk_test_", 24),
        ("whsec_", 32),
        ("sk-ant-", 40),
        ("sk-proj-", 40),
        ("npm_", 36),
        ("pypi-AgE", 60),
        ("hf_", 34),
        ("SG.", 66),
        ("shpat_", 32),
        ("shpss_", 32),
        ("dop_v1_", 64),
        ("AccountKey=", 86),
        ("SharedAccessKey=", 43),
        ("hooks.slack.com/services/", 44),
    ];
    for (prefix, length) in keys {
        check(&format!("key «secret.key:{prefix}{}» end", &tail[..*length]));
        check(&format!("no {prefix}{} key", &tail[..3]));
    }
    for prefix in ["AKIA", "ASIA", "AROA", "AIDA", "ABIA", "ACCA"] {
        check(&format!("key «secret.key:{prefix}IOSFODNN7EXAMPLE» end, {prefix}IOSFODNN7EXAMPL"));
    }
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    for before in
        ["aws_secret_access_key = ", "AWS_SECRET_ACCESS_KEY=", "\"SecretAccessKey\": \"", "secretAccessKey: '"]
    {
        check(&format!("{before}«secret.key:{secret}»\n"));
        check(&format!("{before}{secret}x"));
        check(&format!("{before}{}", &secret[1..]));
    }
}

/// Numbers with right check digits, made at random, in the words of their countries; the last line of each pair has a wrong digit.
#[test]
fn national_identifiers() {
    all(&[
        "our ABN is «id.au.abn:53 173 584 802», ACN «id.au.acn:648 176 649», TFN: «id.au.tfn:145995430»",
        "our ABN is 53 173 584 803, TFN: 145995431",
        "mon NAS: «id.ca.sin:135 463 214»",
        "mon NAS: 135 463 215",
        "henkilötunnus «id.fi.hetu:070974-511B», also alone: «id.fi.hetu:070974A511B»",
        "henkilötunnus 070974-511C",
        "Steuer-IdNr. «id.de.tax_id:72689542022», USt-IdNr. «id.de.vat:DE 419 878 099», Kennzeichen «id.de.plate:B-AB 1234»",
        "Steuer-IdNr. 72689542023, USt-IdNr. DE 419 878 098",
        "Personalausweis «id.de.id_card:L01X00T44», IK Krankenkasse «id.de.health_insurance:A123456780»",
        "Rentenversicherungsnummer «id.de.insurance:65 070803 A 019»",
        "aadhaar «id.in.aadhaar:6749 9467 6669», PAN «id.in.pan:SUEHI1774Y», GSTIN «id.in.gstin:35WRZPC9031D1Z3»",
        "aadhaar 6749 9467 6661",
        "partita IVA «id.it.vat:35845670500», codice fiscale «id.it.fiscal_code:RSSMRA36M09H501A»",
        "PESEL: «id.pl.pesel:34211650497»",
        "PESEL: 34211650498",
        "organisationsnummer «id.se.organisation:617292-7284», personnummer «id.se.personnummer:120310-4995»",
        "DNI «id.es.nif:93275779S» y NIE «id.es.nie:Y-0925720-F»",
        "DNI 93275779T y NIE Y-0925720-G",
        "เลขประจำตัวประชาชน «id.th.id:7647923602931»",
        "TC Kimlik No: «id.tr.id:60700897782», plaka «id.tr.plate:34 ABC 1234»",
        "NHS number «id.uk.nhs:242 772 3827», NI number «id.uk.nino:AA 12 34 56 C», postcode «id.uk.postcode:SW1A 1AA»",
        "NHS number 2427723828",
        "RSA ID «id.za.id:5202037848089»",
        "주민등록번호는 «id.kr.rrn:810614-2281813»입니다, 여권번호는 «id.kr.passport:M789C1234»입니다",
        "사업자등록번호 «id.kr.brn:104-86-56659»",
        "UEN «id.sg.uen:39316472A», NRIC «id.sg.nric:S1234567D»",
    ]);
}

#[test]
fn machine_readable_zone() {
    // The specimen of ICAO 9303 part 4, appendix B.
    let lines = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10";
    check(&format!("scan:\n«id.mrz:{lines}»\n"));
    check(&lines.replace("7408122", "7408123"));
}

#[test]
fn columns_name_classes() {
    all(&[
        "ssn | «id.us.ssn:078051123»",
        "customerSsn | «id.us.ssn:078051123»",
        "plz | «id.de.postcode:10115»",
        "note | 10115",
        "phone_number | «pii.phone:4155550132»",
        "swift_code | «fin.bic:COBADEFF»",
    ]);
}

fn custom(class: &str, find: Find, context: &[&str]) -> Custom {
    Custom { class: class.to_owned(), find, context: context.iter().map(|word| (*word).to_owned()).collect() }
}

#[test]
fn custom_detectors() {
    let pattern = |text: &str| Find::Pattern(text.to_owned());
    let words = |words: &[&str]| Find::Words(words.iter().map(|word| (*word).to_owned()).collect());
    let detectors = Detectors::with_custom(vec![
        custom("acme.badge", pattern(r"\bB-\d{6}\b"), &[]),
        custom("acme.room", pattern(r"room (?<hit>[A-Z]\d+)"), &[]),
        custom("acme.shelf", pattern(r"\b\d{4}\b"), &["shelf", "régál"]),
        custom("acme.project", words(&["Blue Heron", "naïve"]), &[]),
    ])
    .unwrap();
    check_with(
        &detectors,
        "«acme.badge:B-123456» in room «acme.room:A12», für «acme.project:BLUE HERON», blue herons, «acme.project:Naïve»",
    );
    check_with(&detectors, "shelf «acme.shelf:1234», Regal «acme.shelf:1234»");
    check_with(&detectors, "1234");
    check_with(&detectors, "shelf_no | «acme.shelf:1234»");
}

#[test]
fn custom_detectors_are_bounded() {
    let refused = |find, expected: &str| {
        let error = Detectors::with_custom(vec![custom("x", find, &[])]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(Find::Pattern("(".into()), "pattern of `x` is not accepted");
    refused(Find::Pattern(r"(a)\1".into()), "pattern of `x` is not accepted");
    refused(Find::Pattern("a*".into()), "matches empty text");
    refused(Find::Pattern(r"(\w{1,100}){1,100}".into()), "pattern of `x` is not accepted");
    refused(Find::Pattern("a".repeat(5000)), "too long a pattern, found 5000, at most 4096 allowed");
    refused(Find::Words(vec![String::new()]), "matches empty text");
    refused(Find::Words(vec!["a".into(); 100_001]), "too many words");
}

#[test]
fn every_class_is_documented() {
    let page = include_str!("../../../docs/detectors.md");
    for class in Detectors::builtin().classes() {
        let row = page.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{class}`")));
        assert!(row.is_some(), "`{class}` has no row in docs/detectors.md");
    }
}
