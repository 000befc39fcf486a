//! The identifiers that a pattern and a check describe, one rule each, by country. `docs/detectors.md` says of each class where
//! its format is published. Order matters only between hits that are alike in all else: the earlier rule wins.

use super::checks::*;
use super::rules::Needs::{Context, Groups, Proof};
use super::rules::{Rule, Verdict};

macro_rules! rule {
    ($class:literal, aka $aka:expr, words $words:expr, forms $forms:expr, by $separators:literal, $needs:expr, $check:expr) => {
        Rule {
            class: $class,
            aka: &$aka,
            words: &$words,
            forms: &$forms,
            separators: $separators,
            needs: $needs,
            check: $check,
        }
    };
}

fn any(_: &[u8]) -> Verdict {
    Verdict::Form
}

fn at(text: &[u8], index: usize) -> u8 {
    text.get(index).copied().unwrap_or(0)
}

fn part(text: &[u8], from: usize, to: usize) -> &[u8] {
    text.get(from..to).unwrap_or_default()
}

fn within(text: &[u8], from: usize, to: usize, set: &str) -> bool {
    part(text, from, to).iter().all(|byte| set.as_bytes().contains(byte))
}

/// The letter of an alphabet at a remainder.
fn letter(alphabet: &str, remainder: u32) -> u8 {
    alphabet.as_bytes().get(remainder as usize).copied().unwrap_or(0)
}

/// Day, month and two digits of a year, in this order.
fn day_month(text: &[u8]) -> bool {
    is_date(number(text, 4, 2), number(text, 2, 2), number(text, 0, 2))
}

/// Two digits of a year, month and day, in this order.
fn year_month(text: &[u8]) -> bool {
    is_date(number(text, 0, 2), number(text, 2, 2), number(text, 4, 2))
}

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    // ------------------------------------------------------------------------------------------------------- everywhere
    rule!("id.vin", aka ["vin", "chassis number"], words ["vin", "vehicle identification", "chassis", "fahrgestellnummer", "fin-nummer"],
        forms ["XXXXXXXXXXXXXXXXX"], by "", Proof, vin),
    rule!("id.imei", aka ["imei"], words ["imei", "device id", "handset"],
        forms ["999999999999999", "99~999999~999999~9"], by " -/", Proof, imei),

    // ------------------------------------------------------------------------------------------------------- United States
    rule!("id.us.ssn", aka ["us ssn", "social security"], words ["ssn", "ssns", "social security", "social sec", "soc sec", "ssid", "ss#"],
        forms ["999999999", "999 99 9999", "99999 9999?", "999 999999?"], by " -.", Groups, ssn),
    rule!("id.us.itin", aka ["us itin"], words ["itin", "taxpayer", "tax id", "taxid", "tin", "individual taxpayer"],
        forms ["999~99~9999"], by " -", Context, |t| {
            let group = number(t, 3, 2);
            Verdict::form(at(t, 0) == b'9' && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99))
        }),
    rule!("id.us.ein", aka ["us ein"], words ["ein", "employer identification", "fein", "federal tax id", "tax id"],
        forms ["99~9999999"], by "-", Context, |t| Verdict::form(matches!(number(t, 0, 2),
            1..=6 | 10..=16 | 20..=27 | 30..=48 | 50..=68 | 71..=77 | 80..=88 | 90..=95 | 98 | 99))),
    rule!("id.us.npi", aka ["us npi", "provider id"], words ["npi", "national provider", "provider", "provider identifier", "provider id", "taxonomy"],
        forms ["9999999999", "9999 999 999"], by " -", Context, |t| Verdict::strict(
            matches!(at(t, 0), b'1' | b'2') && !is_one_repeated(part(t, 0, 9)) && luhn_from(t, 24))),
    rule!("id.us.dea", aka ["certificate number", "dea number", "medical license"], words ["dea", "dea number", "prescriber", "medical license", "medical licence", "certificate"],
        forms ["AX9999999"], by "", Proof, |t| Verdict::strict(
            within(t, 0, 1, "ABCDEFGHJKLMPRSTUX") && (at(t, 1).is_ascii_uppercase() || at(t, 1) == b'9')
            && (weighted(part(t, 2, 8), &[1, 2, 1, 2, 1, 2])) % 10 == digit(t, 8))),
    rule!("id.us.mbi", aka ["us mbi", "medicare id"], words ["mbi", "medicare", "beneficiary", "cms", "medicaid", "hicn"],
        forms ["9AX9AX9AA99", "9AX9 AX9 AA99"], by "-", Groups, |t| Verdict::form(
            at(t, 0) != b'0' && t.iter().all(|byte| !b"SLOIBZ".contains(byte)))),
    rule!("fin.aba", aka ["aba routing", "routing number"], words ["aba", "routing", "rtn", "bank routing", "transit number"],
        forms ["999999999", "9999 9999 9"], by "-", Context, |t| Verdict::strict(
            matches!(number(t, 0, 2), 0..=12 | 21..=32 | 61..=72 | 80) && weighted(t, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
            && t.iter().any(|byte| *byte != b'0'))),
    rule!("fin.us.account", aka ["us bank", "us bank number", "bank account"], words ["account", "acct", "account number", "bank account", "checking", "savings", "debit"],
        forms ["9{8,17}"], by "", Context, any),
    rule!("id.us.passport", aka ["us passport"], words ["passport", "us passport", "travel document"],
        forms ["999999999", "A99999999"], by "", Context, any),
    rule!("id.us.driving_licence", aka ["us driver license", "drivers license", "driver license"],
        words ["driver license", "drivers license", "driver's license", "driver licence", "driving license", "dl number", "dl#", "cdl", "lic#", "license number"],
        forms ["A9{3,14}", "A9{18,18}", "AA9{2,7}", "99AAA9{5,6}", "A999999r", "999999999A", "AA999999A", "99999999AA", "999AA9999",
            "A9A9A", "9999999A", "99999999A", "9{6,14}", "9{16,16}", "A999 9999 9999", "A999 999 99 999 9", "A9999 99999 99999", "AA 99 9999"],
        by " -", Context, any),

    // ------------------------------------------------------------------------------------------------------- Australia
    rule!("id.au.abn", aka ["au abn"], words ["abn", "australian business number"],
        forms ["99999999999", "99 999 999 999"], by " ", Context, |t| Verdict::strict({
            let sum = weighted(t, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
            at(t, 0) != b'0' && (sum - 10).is_multiple_of(89)
        })),
    rule!("id.au.acn", aka ["au acn"], words ["acn", "australian company number"],
        forms ["999999999", "999 999 999"], by " ", Context, |t| Verdict::strict(
            (10 - weighted(t, &[8, 7, 6, 5, 4, 3, 2, 1]) % 10) % 10 == digit(t, 8))),
    rule!("id.au.medicare", aka ["au medicare"], words ["medicare", "medicare card"],
        forms ["9999999999", "9999 99999 9"], by " -", Context, |t| Verdict::strict(
            within(t, 0, 1, "23456") && weighted(t, &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == digit(t, 8))),
    rule!("id.au.tfn", aka ["au tfn"], words ["tfn", "tax file number"],
        forms ["999999999", "999 999 999"], by " ", Context, |t| Verdict::strict(
            weighted(t, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11) && !is_one_repeated(t))),

    // ------------------------------------------------------------------------------------------------------- Canada
    rule!("id.ca.sin", aka ["ca sin"], words ["sin", "social insurance", "nas", "assurance sociale", "canada"],
        forms ["999999999", "999 999 999"], by " -", Context, |t| Verdict::strict(within(t, 0, 1, "12345679") && luhn(t))),

    // ------------------------------------------------------------------------------------------------------- Finland
    rule!("id.fi.hetu", aka ["fi personal identity code", "hetu"], words ["hetu", "henkilötunnus", "personbeteckning", "personbeteckningen", "personal identity code", "finnish id"],
        forms ["999999A999X", "999999 999X"], by "-+", Proof, |t| {
            let (century, body, check) = if t.len() == 11 { (at(t, 6), 7, 10) } else { (b'-', 6, 9) };
            let sum = number(t, 0, 6) * 1000 + number(t, body, 3);
            Verdict::strict(b"-+ABCDEFYXWVU".contains(&century) && day_month(t)
                && letter("0123456789ABCDEFHJKLMNPRSTUVWXY", sum % 31) == at(t, check))
        }),

    // ------------------------------------------------------------------------------------------------------- Germany
    rule!("id.de.tax_id", aka ["de tax id", "steuer id"], words ["steueridentifikationsnummer", "steuer-id", "steuerid", "steuerliche identifikationsnummer", "idnr", "steuer-idnr", "steueridentnummer", "tin", "tax id"],
        forms ["99999999999", "99 999 999 999"], by " ", Context, |t| {
            let most = (b'0'..=b'9').map(|d| part(t, 0, 10).iter().filter(|byte| **byte == d).count()).max().unwrap_or(0);
            Verdict::strict(at(t, 0) != b'0' && most <= 3 && mod11_10(t))
        }),
    rule!("id.de.tax_number", aka ["de tax number", "steuernummer"], words ["steuernummer", "steuer-nr", "steuer nr", "st.-nr", "st-nr", "finanzamt", "steuerbescheid"],
        forms ["9999999999999", "999 999 99999", "99 999 99999", "999 9999 9999", "99 9999 9999", "999 9999 99999", "99 9999 99999", "999 999 9999", "99 999 9999"], by "/", Context,
        |t| Verdict::form(t.len() != 13 || matches!(number(t, 0, 2), 1..=16))),
    rule!("id.de.vat", aka ["de vat id", "ust id"], words ["umsatzsteuer", "ust-idnr", "ust-id", "ustidnr", "vat", "vat id", "mehrwertsteuer", "umsatzsteuer-id"],
        forms ["de~999~999~999", "de 999999999"], by " -.", Proof, |t| Verdict::strict(at(t, 2) != b'0' && mod11_10(part(t, 2, 11)))),
    rule!("id.de.insurance", aka ["de social security", "rentenversicherungsnummer"], words ["rentenversicherungsnummer", "sozialversicherungsnummer", "versicherungsnummer", "rvnr", "svnr", "sv-nummer", "rentenversicherung", "sozialversicherung"],
        forms ["99~999999~A~999", "99999999A999"], by " ", Proof, |t| {
            let (day, month) = (number(t, 2, 2), number(t, 4, 2));
            let place = base36(at(t, 8)) - 9;
            let sum = |number: u32| number / 10 + number % 10;
            let body: u32 = [2, 1, 2, 5, 7, 1, 2, 1].iter().enumerate().map(|(i, w)| sum(digit(t, i) * w)).sum();
            let rest = sum(place / 10 * 2) + sum(place % 10) + sum(digit(t, 9) * 2) + sum(digit(t, 10));
            Verdict::strict((matches!(day, 1..=31 | 51..=81)) && matches!(month, 1..=12) && (body + rest) % 10 == digit(t, 11))
        }),
    rule!("id.de.health_insurance", aka ["de health insurance", "kvnr"], words ["krankenversicherungsnummer", "krankenversichertennummer", "versichertennummer", "kvnr", "krankenkasse", "krankenversicherung", "gesundheitskarte", "egk", "versichertenkarte"],
        forms ["A999999999"], by "", Proof, |t| {
            let place = base36(at(t, 0)) - 9;
            let sum = |number: u32| number / 10 + number % 10;
            let body: u32 = (1..9).map(|i| sum(digit(t, i) * (2 - i as u32 % 2))).sum();
            Verdict::strict((sum(place / 10) + sum(place % 10 * 2) + body) % 10 == digit(t, 9))
        }),
    rule!("id.de.id_card", aka ["de id card", "personalausweis"], words ["personalausweis", "ausweis", "personalausweisnummer", "ausweisnummer", "dokumentennummer", "seriennummer", "npa", "identity card"],
        forms ["AXXXXXXX9"], by "", Context, |t| match (at(t, 0), part(t, 1, 9).iter().all(u8::is_ascii_digit)) {
            (b'T', true) => Verdict::Form,
            _ => icao_document(t),
        }),
    rule!("id.de.passport", aka ["de passport", "reisepass"], words ["reisepass", "passnummer", "reisepassnummer", "pass-nr", "passport", "dokumentennummer"],
        forms ["AXXXXXXX9"], by "", Context, icao_document),
    rule!("id.de.driving_licence", aka ["de fuehrerschein", "führerschein"], words ["führerschein", "fuehrerschein", "führerscheinnummer", "fahrerlaubnis", "driving licence", "driver license", "licence number"],
        forms ["AA99999999X"], by "", Context, any),
    rule!("id.de.doctor", aka ["de lanr"], words ["arztnummer", "lanr", "arzt-nr", "arzt nr", "vertragsarzt", "kassenarzt", "hausarzt", "facharzt"],
        forms ["999999999"], by "", Context, |t| Verdict::strict(
            (10 - weighted(part(t, 0, 6), &[4, 9, 4, 9, 4, 9]) % 10) % 10 == digit(t, 6))),
    rule!("id.de.practice", aka ["de bsnr"], words ["betriebsstättennummer", "bsnr", "betriebsstätte", "praxisnummer", "arztpraxis", "praxis"],
        forms ["999999999"], by "", Context, |t| Verdict::form(!is_one_repeated(t))),
    rule!("id.de.company", aka ["de handelsregister"], words ["handelsregister", "amtsgericht", "registergericht", "hrb", "hra", "firma", "gmbh"],
        forms ["hra~9{1,6}", "hrb~9{1,6}"], by " ", Context, any),
    rule!("id.de.plate", aka ["de kfz", "kennzeichen"], words ["kennzeichen", "kfz", "nummernschild", "fahrzeug", "zulassung", "pkw", "lkw"],
        forms ["A{1,3} A{1,2} 9{1,4}", "A{1,3} A{1,2} 9{1,4}e", "A{1,3} A{1,2} 9{1,4}h"], by " -*", Context, any),
    rule!("id.de.postcode", aka ["de plz"], words ["plz", "postleitzahl", "postanschrift", "wohnort", "anschrift", "adresse", "postfach"],
        forms ["99999"], by "", Context, |t| Verdict::form(matches!(number(t, 0, 5), 1001..=99998))),

    // ------------------------------------------------------------------------------------------------------- India
    rule!("id.in.aadhaar", aka ["in aadhaar"], words ["aadhaar", "aadhar", "uidai", "uid"],
        forms ["9999~9999~9999"], by " -:", Groups, |t| Verdict::strict(
            at(t, 0) >= b'2' && verhoeff(t) && !t.iter().eq(t.iter().rev()))),
    rule!("id.in.gstin", aka ["in gstin"], words ["gstin", "gst", "goods and services tax", "tax identification"],
        forms ["99XXXXX9999AXzX", "99~AAAAA~9999~AX~zX"], by " -", Proof, gstin),
    rule!("id.in.pan", aka ["in pan"], words ["permanent account number", "pan", "pan card", "pan number"],
        forms ["AAAAA9999A"], by "", Context, any),
    rule!("id.in.passport", aka ["in passport"], words ["passport", "indian passport"],
        forms ["A99~99999"], by " ", Context, |t| Verdict::form(at(t, 1) != b'0' && at(t, 7) != b'0')),
    rule!("id.in.plate", aka ["in vehicle registration"], words ["rto", "vehicle", "plate", "registration", "number plate"],
        forms ["A9999", "AA9999", "i99999", "AAA9999", "AA~9~A{1,3}~9999", "AA~99~A{1,3}~9999", "9{1,3}cd9{2,4}", "9{1,3}cc9{2,4}", "9{1,3}un9{2,4}", "99bh9999A{1,2}", "99A999999A"],
        by " -", Context, |t| Verdict::form(!t.ends_with(b"0000"))),
    rule!("id.in.voter", aka ["in voter"], words ["voter", "epic", "elector", "electoral"],
        forms ["AAA9999999"], by "", Context, any),

    // ------------------------------------------------------------------------------------------------------- Italy
    rule!("id.it.fiscal_code", aka ["it fiscal code", "codice fiscale"], words ["codice fiscale", "cod. fisc", "c.f.", "cf", "fiscal code"],
        forms ["AAAAAA~XX~AXX~AXXXA"], by " ", Proof, fiscal_code),
    rule!("id.it.vat", aka ["it vat code", "partita iva"], words ["piva", "partita iva", "p.iva", "p. iva", "vat"],
        forms ["99999999999", "999 9999 9999", "99999 99999 9"], by " _", Context, |t| Verdict::strict(!is_one_repeated(t) && luhn(t))),
    rule!("id.it.passport", aka ["it passport"], words ["passaporto", "passport", "viaggio"],
        forms ["AA9999999"], by "", Context, any),
    rule!("id.it.id_card", aka ["it identity card"], words ["carta d'identità", "carta di identità", "carta identità", "identità", "cie", "documento"],
        forms ["AA~9999999", "9999999AA", "AA99999AA"], by " ", Context, any),
    rule!("id.it.driving_licence", aka ["it driver license", "patente"], words ["patente", "patente di guida", "licenza di guida"],
        forms ["AA9999999A", "u1XXXXXXXA"], by "", Context, any),

    // ------------------------------------------------------------------------------------------------------- Korea
    rule!("id.kr.rrn", aka ["kr rrn"], words ["rrn", "resident registration", "주민등록번호", "주민번호"],
        forms ["999999~9999999"], by "-", Groups, |t| registration(t, "1234", 11)),
    rule!("id.kr.frn", aka ["kr frn"], words ["frn", "foreigner registration", "alien registration", "외국인등록번호", "외국인번호"],
        forms ["999999~9999999"], by "-", Groups, |t| registration(t, "5678", 13)),
    rule!("id.kr.brn", aka ["kr brn"], words ["brn", "business registration", "사업자등록번호", "사업자번호", "사업자"],
        forms ["9999999999", "999 99 99999"], by "-", Groups, |t| {
            let last = digit(t, 8) * 5;
            let sum = weighted(part(t, 0, 8), &[1, 3, 7, 1, 3, 7, 1, 3]) + last / 10 + last;
            Verdict::strict((10 - sum % 10) % 10 == digit(t, 9))
        }),
    rule!("id.kr.driving_licence", aka ["kr driver license"], words ["운전면허", "운전면허번호", "면허번호", "korean driver", "driver license", "driver's license"],
        forms ["99~99~999999~99"], by " -", Context, |t| Verdict::form(matches!(number(t, 0, 2), 11..=26 | 28))),
    rule!("id.kr.passport", aka ["kr passport"], words ["korean passport", "여권", "여권번호", "passport"],
        forms ["A999A9999", "A99999999"], by "", Context, |t| Verdict::form(within(t, 0, 1, "MSROD"))),

    // ------------------------------------------------------------------------------------------------------- Nigeria, Philippines
    rule!("id.ng.nin", aka ["ng nin"], words ["nin", "nimc", "national identification number", "national identity number", "nigeria"],
        forms ["99999999999"], by "", Context, |t| Verdict::strict(verhoeff(t))),
    rule!("id.ng.plate", aka ["ng vehicle registration"], words ["plate number", "vehicle registration", "number plate", "license plate", "plate", "vehicle"],
        forms ["AAA~999AA"], by " -", Context, any),
    rule!("id.ph.tin", aka ["ph tin"], words ["tin", "taxpayer identification", "bir", "taxpayer id", "tax id"],
        forms ["999999999", "999 999 999", "999999999999", "999 999 999 999"], by "-", Context,
        |t| Verdict::strict(weighted(t, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11 == digit(t, 8))),
    rule!("pii.phone.ph", aka ["ph mobile number"], words ["philippine mobile", "numero ng telepono", "telepono", "selpon"],
        forms ["0999~999~9999", "63~999~999~9999"], by " -.", Context, |t| Verdict::form(at(t, t.len().saturating_sub(10)) == b'9')),

    // ------------------------------------------------------------------------------------------------------- Poland, Singapore
    rule!("id.pl.pesel", aka ["pl pesel"], words ["pesel"],
        forms ["99999999999"], by "", Context, |t| {
            let month = number(t, 2, 2) % 20;
            Verdict::strict(matches!(month, 1..=12) && matches!(number(t, 4, 2), 1..=31)
                && (10 - weighted(part(t, 0, 10), &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10) % 10 == digit(t, 10))
        }),
    rule!("id.sg.nric", aka ["sg fin", "nric"], words ["nric", "fin", "nric#", "fin#", "singapore"],
        forms ["A9999999A"], by "", Proof, |t| {
            let sum = weighted(part(t, 1, 8), &[2, 7, 6, 5, 4, 3, 2]);
            let expected = match at(t, 0) {
                b'S' => letter("JZIHGFEDCBA", sum % 11),
                b'T' => letter("JZIHGFEDCBA", (sum + 4) % 11),
                b'F' => letter("XWUTRQPNMLK", sum % 11),
                b'G' => letter("XWUTRQPNMLK", (sum + 4) % 11),
                b'M' => letter("KLJNPQRTUWX", 10 - (sum + 3) % 11),
                _ => 0,
            };
            Verdict::lenient(expected == at(t, 8))
        }),
    rule!("id.sg.uen", aka ["sg uen"], words ["uen", "unique entity number", "business registration", "acra"],
        forms ["99999999A", "999999999A", "A99AA9999A"], by "", Proof, uen),

    // ------------------------------------------------------------------------------------------------------- South Africa, Spain
    rule!("id.za.id", aka ["za id number", "rsa id"], words ["south african id", "rsa id", "identity number", "id number", "smart id", "national id", "id"],
        forms ["9999999999999", "999999 9999 999", "999999 9999 99 9"], by " ", Context, |t| Verdict::strict(
            year_month(t) && within(t, 10, 11, "012") && within(t, 11, 12, "89") && luhn(t))),
    rule!("id.es.nie", aka ["es nie"], words ["nie", "número de identificación de extranjero", "extranjero"],
        forms ["A~9999999~A"], by " -", Proof, |t| {
            let first = match at(t, 0) { b'X' => 0, b'Y' => 1, b'Z' => 2, _ => return Verdict::No };
            Verdict::strict(letter("TRWAGMYFPDXBNJZSQVHLCKE", (first * 10_000_000 + number(t, 1, 7)) % 23) == at(t, 8))
        }),
    rule!("id.es.nif", aka ["es nif", "dni"], words ["dni", "nif", "documento nacional de identidad", "identificación"],
        forms ["99999999~A", "9999999~A", "99 999 999 A"], by " -.*", Proof, |t| {
            let digits = t.len() - 1;
            Verdict::strict(letter("TRWAGMYFPDXBNJZSQVHLCKE", number(t, 0, digits) % 23) == at(t, digits))
        }),
    rule!("id.es.passport", aka ["es passport"], words ["pasaporte", "número de pasaporte", "passport"],
        forms ["AAA999999"], by "", Context, any),

    // ------------------------------------------------------------------------------------------------------- Sweden, Thailand
    rule!("id.se.personnummer", aka ["se personnummer"], words ["personnummer", "pnr", "svensk id", "samordningsnummer", "personal identity"],
        forms ["999999~9999", "99999999~9999"], by "-+", Groups, |t| {
            let last = part(t, t.len().saturating_sub(10), t.len());
            let day = number(last, 4, 2);
            let day = if day > 60 { day - 60 } else { day };
            Verdict::strict(is_date(number(last, 0, 2), number(last, 2, 2), day) && luhn(last)
                && (t.len() == 10 || matches!(number(t, 0, 2), 18..=20)))
        }),
    rule!("id.se.organisation", aka ["se organisationsnummer"], words ["organisationsnummer", "orgnr", "org nr", "org.nr", "företagsnummer"],
        forms ["999999~9999"], by "-", Groups, |t| Verdict::strict(number(t, 2, 1) >= 2 && luhn(t))),
    rule!("id.th.id", aka ["th tnin"], words ["thai national id", "thai id", "tnin", "เลขประจำตัวประชาชน", "เลขบัตรประชาชน"],
        forms ["9999999999999", "9 9999 99999 99 9"], by " -", Context, |t| {
            let region = number(t, 1, 2);
            let sum = weighted(t, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
            Verdict::strict(at(t, 0) != b'0' && matches!(region, 10..=27 | 30..=58 | 60..=67 | 70..=77 | 80..=86 | 90..=96)
                && (11 - sum) % 10 == digit(t, 12))
        }),

    // ------------------------------------------------------------------------------------------------------- Turkey
    rule!("id.tr.id", aka ["tr national id", "tckn"], words ["tc kimlik", "kimlik no", "kimlik numarası", "tckn", "tc no", "turkish id", "türk kimlik", "nüfus cüzdanı"],
        forms ["99999999999"], by "", Proof, |t| {
            let odd: u32 = [0, 2, 4, 6, 8].iter().map(|i| digit(t, *i)).sum();
            let even: u32 = [1, 3, 5, 7].iter().map(|i| digit(t, *i)).sum();
            let all: u32 = odd + even + digit(t, 9);
            Verdict::strict(at(t, 0) != b'0' && (odd * 7 + 100 - even) % 10 == digit(t, 9) && all % 10 == digit(t, 10))
        }),
    rule!("id.tr.plate", aka ["tr license plate", "plaka"], words ["plaka", "plakası", "license plate", "number plate", "plate"],
        forms ["99~A{1,3}~9{2,4}"], by " -", Context, |t| Verdict::form(
            matches!(number(t, 0, 2), 1..=81) && t.iter().all(|byte| !b"QWX".contains(byte)))),
    rule!("pii.phone.tr", aka ["tr phone number"], words ["telefon numaram", "cep no", "cep telefonu", "cep", "telefon numarası"],
        forms ["0~999~999~99~99", "0~999~999~9999", "999~999~99~99", "999~999~9999", "90~999~999~99~99", "90~999~999~9999"], by " -.", Context,
        |t| Verdict::form(matches!(at(t, t.len().saturating_sub(10)), b'2'..=b'5'))),

    // ------------------------------------------------------------------------------------------------------- United Kingdom
    rule!("id.uk.nino", aka ["uk nino"], words ["national insurance", "ni number", "nino", "ni no"],
        forms ["AA~99~99~99~A", "AA999999 A", "AA 999999~A"], by " -", Groups, |t| Verdict::form(
            within(t, 0, 1, "ABCEGHJKLMNOPRSTWXYZ") && within(t, 1, 2, "ABCEGHJKLMNPRSTWXYZ") && within(t, 8, 9, "ABCD")
            && !matches!(part(t, 0, 2), b"BG" | b"GB" | b"NK" | b"KN" | b"NT" | b"TN" | b"ZZ"))),
    rule!("id.uk.nhs", aka ["uk nhs"], words ["nhs", "national health service", "health authority", "nhs number"],
        forms ["999~999~9999"], by " -", Context, |t| Verdict::strict(
            weighted(t, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11) && !is_one_repeated(t))),
    rule!("id.uk.driving_licence", aka ["uk driving licence"], words ["driving licence", "driving license", "driver's licence", "driver licence", "dvla", "licence number"],
        forms ["XXXXX~999999~XXXAA"], by " -", Groups, uk_licence),
    rule!("id.uk.passport", aka ["uk passport"], words ["passport", "travel document", "hmpo", "british passport"],
        forms ["AA9999999"], by "", Context, any),
    rule!("id.uk.postcode", aka ["uk postcode"], words ["postcode", "post code", "postal code", "zip", "address", "delivery", "shipping"],
        forms ["gir~0aa", "A9~9AA", "A99~9AA", "AA9~9AA", "AA99~9AA", "A9A~9AA", "AA9A~9AA"], by " ", Context, uk_postcode),
    rule!("id.uk.plate", aka ["uk vehicle registration"], words ["vehicle", "registration", "number plate", "licence plate", "license plate", "car reg", "reg no", "reg number", "vrn", "dvla", "v5c"],
        forms ["AA99~AAA", "A9{1,3}~AAA", "AAA~9{1,3}~A"], by " -", Context, uk_plate),
];

fn vin(t: &[u8]) -> Verdict {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let letters = t.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    if t.iter().any(|byte| b"IOQ".contains(byte)) || letters < 2 || !part(t, 13, 17).iter().all(u8::is_ascii_digit) {
        return Verdict::No;
    }
    let value = |byte: u8| match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        b'A'..=b'H' => u32::from(byte - b'A') + 1,
        b'J'..=b'R' => u32::from(byte - b'J') + 1,
        _ => u32::from(byte.wrapping_sub(b'S')) + 2,
    };
    let sum: u32 = t.iter().zip(WEIGHTS).map(|(byte, weight)| value(*byte) * weight).sum();
    Verdict::lenient(letter("0123456789X", sum % 11) == at(t, 8))
}

fn imei(t: &[u8]) -> Verdict {
    // The reporting bodies that give out type allocation codes today; older ones need context.
    match (luhn(t), number(t, 0, 2)) {
        (true, 1 | 35 | 86 | 99) => Verdict::Proven,
        (true, _) => Verdict::Form,
        _ => Verdict::No,
    }
}

fn ssn(t: &[u8]) -> Verdict {
    let (area, group, serial) = (number(t, 0, 3), number(t, 3, 2), number(t, 5, 4));
    let advertised =
        matches!((area, group, serial), (78, 5, 1120) | (219, 9, 9999) | (123, 45, 6789) | (987, 65, 4320..=4329));
    Verdict::form(!matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !advertised && !is_one_repeated(t))
}

fn icao_document(t: &[u8]) -> Verdict {
    const SET: &str = "CFGHJKLMNPRTVWXYZ0123456789";
    Verdict::strict(within(t, 0, 8, SET) && icao(part(t, 0, 8), at(t, 8)))
}

fn gstin(t: &[u8]) -> Verdict {
    let letters = part(t, 2, 7).iter().filter(|byte| byte.is_ascii_uppercase()).count();
    if t.len() != 15 || !matches!(number(t, 0, 2), 1..=37) || letters < 3 {
        return Verdict::No;
    }
    let sum: u32 = part(t, 0, 14)
        .iter()
        .enumerate()
        .map(|(i, byte)| {
            let product = base36(*byte) * (1 + i as u32 % 2);
            product / 36 + product % 36
        })
        .sum();
    Verdict::lenient((36 - sum % 36) % 36 == base36(at(t, 14)))
}

fn fiscal_code(t: &[u8]) -> Verdict {
    // Digits may stand as letters where two people would share a code (omocodia).
    const ODD: [u32; 36] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16,
        10, 22, 25, 24, 23,
    ];
    let digits = |from, to| within(t, from, to, "0123456789LMNPQRSTUV");
    if !digits(6, 8) || !within(t, 8, 9, "ABCDEHLMPRST") || !digits(9, 11) || !digits(12, 15) {
        return Verdict::No;
    }
    let sum: u32 = part(t, 0, 15)
        .iter()
        .enumerate()
        .map(|(i, byte)| {
            let value = base36(*byte);
            if i % 2 == 0 {
                ODD.get(value as usize).copied().unwrap_or(0)
            } else if value > 9 {
                value - 10
            } else {
                value
            }
        })
        .sum();
    Verdict::lenient(u32::from(at(t, 15)) == u32::from(b'A') + sum % 26)
}

/// Korean registration numbers; those given out since October 2020 have no check digit.
fn registration(t: &[u8], kinds: &str, minuend: u32) -> Verdict {
    if !year_month(t) || !within(t, 6, 7, kinds) {
        return Verdict::No;
    }
    let sum = weighted(part(t, 0, 12), &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]);
    Verdict::lenient((minuend - sum % 11) % 10 == digit(t, 12))
}

fn uen(t: &[u8]) -> Verdict {
    const KINDS: &str = "LP LL FC PF RF MQ MM NB CC CS MB FM GS DP CP NR CM CD MD HS VH CH MH CL XL CX HC RP TU TC FB FN PA PB SS MC SM GA GB";
    if t.len() == 9 {
        return Verdict::strict(
            letter("XMKECAWLJDB", weighted(part(t, 0, 8), &[10, 4, 9, 3, 8, 2, 7, 1]) % 11) == at(t, 8),
        );
    }
    if at(t, 0).is_ascii_digit() {
        let sum = weighted(part(t, 0, 9), &[10, 8, 6, 4, 9, 7, 5, 3, 1]);
        return Verdict::strict(matches!(number(t, 0, 4), 1800..=2099) && letter("ZKCMDNERGWH", sum % 11) == at(t, 9));
    }
    const ALPHABET: &str = "ABCDEFGHJKLMNPQRSTUVWX0123456789";
    let known = KINDS.as_bytes().chunks(3).any(|kind| kind.starts_with(part(t, 3, 5)));
    let place = |byte: u8| ALPHABET.bytes().position(|other| other == byte).unwrap_or(0) as u32;
    let sum: u32 =
        part(t, 0, 9).iter().zip([4, 3, 5, 3, 10, 2, 2, 5, 7]).map(|(byte, weight)| place(*byte) * weight).sum();
    Verdict::strict(known && within(t, 0, 1, "TSR") && letter(ALPHABET, (sum + 11 * 32 - 5) % 11) == at(t, 9))
}

fn uk_licence(t: &[u8]) -> Verdict {
    let nines = t.iter().take(5).rev().take_while(|byte| **byte == b'9').count();
    let (month, day) = (number(t, 6, 2), number(t, 8, 2));
    Verdict::form(
        t.len() == 16
            && nines < 5
            && part(t, 0, 5 - nines).iter().all(u8::is_ascii_uppercase)
            && part(t, 5, 11).iter().all(u8::is_ascii_digit)
            && matches!(month, 1..=12 | 51..=62)
            && matches!(day, 1..=31)
            && part(t, 11, 13).iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'9')
            && part(t, 14, 16).iter().all(u8::is_ascii_uppercase),
    )
}

fn uk_postcode(t: &[u8]) -> Verdict {
    if t == b"GIR0AA" {
        return Verdict::Form;
    }
    let (outward, inward) = t.split_at(t.len().saturating_sub(3));
    let second = at(outward, 1).is_ascii_uppercase();
    let last = outward.last().copied().unwrap_or(0);
    let third = match (second, outward.len(), last.is_ascii_uppercase()) {
        (false, 3, true) => b"ABCDEFGHJKPSTUW".contains(&last),
        (true, 4, true) => b"ABEHMNPRVWXY".contains(&last),
        (_, _, true) => false,
        _ => true,
    };
    Verdict::form(
        within(t, 0, 1, "ABCDEFGHIJKLMNOPRSTUWYZ")
            && (!second || within(t, 1, 2, "ABCDEFGHKLMNOPQRSTUVWXY"))
            && third
            && within(inward, 1, 3, "ABDEFGHJLNPQRSTUWXYZ"),
    )
}

fn uk_plate(t: &[u8]) -> Verdict {
    const ALL: &str = "ABCDEFGHJKLMNOPRSTUVWXYZ";
    const NO_Z: &str = "ABCDEFGHJKLMNOPRSTUVWXY";
    const YEARS: &str = "ABCDEFGHJKLMNPRSTVWXY";
    let length = t.len();
    Verdict::form(match (at(t, 1).is_ascii_uppercase(), at(t, 2).is_ascii_uppercase()) {
        (true, false) => within(t, 0, 2, NO_Z) && matches!(number(t, 2, 2), 2..=29 | 51..=79) && within(t, 4, 7, ALL),
        (true, true) => within(t, 0, 3, ALL) && within(t, length - 1, length, YEARS),
        _ => within(t, 0, 1, YEARS) && within(t, length - 3, length - 2, NO_Z) && within(t, length - 2, length, ALL),
    })
}
