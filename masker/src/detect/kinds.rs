//! The classes whose hits take more than a pattern: each has a reader of its own in this folder. Beside each class stand the
//! names and words that a column or a sentence announces it with.

use super::identifiers::RULES;

/// A class that a reader of its own finds.
pub(super) struct Kind {
    pub(super) class: &'static str,
    pub(super) aka: &'static [&'static str],
    pub(super) words: &'static [&'static str],
}

/// Declares the kinds, and a constant for the place of each among all classes: those of the rules come first.
macro_rules! kinds {
    ($($name:ident = $class:literal, aka $aka:expr, words $words:expr;)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "only counts the names")]
        enum Place { $($name,)+ }
        $(pub(super) const $name: usize = RULES.len() + Place::$name as usize;)+
        pub(super) const KINDS: &[Kind] = &[$(Kind { class: $class, aka: &$aka, words: &$words },)+];
    };
}

kinds! {
    PEM = "secret.private_key", aka ["private key"], words [];
    JWT = "secret.jwt", aka ["jwt"], words [];
    KEY = "secret.key", aka ["api key", "secret key", "access key"], words ["aws_secret_access_key", "secret_access_key", "secret access key", "secretaccesskey"];
    URL_CREDENTIALS = "secret.url_credentials", aka [], words [];
    EMAIL = "pii.email", aka ["email", "mail", "email address", "e mail"], words ["e-mail", "email", "mail"];
    CARD = "fin.card", aka ["credit card", "card number", "card", "pan", "cc number"], words ["card", "credit card", "debit card", "cardholder", "cvv", "cvc", "paid with", "pay with", "charged to", "declined", "visa", "mastercard", "maestro", "amex", "cc", "kreditkarte", "karte", "carte", "tarjeta", "carta di credito"];
    IBAN = "fin.iban", aka ["iban", "iban code"], words ["iban", "konto", "bank account"];
    BIC = "fin.bic", aka ["bic", "swift", "swift code"], words ["bic", "swift", "swift code", "bic code"];
    CRYPTO = "fin.crypto", aka ["crypto", "bitcoin address", "wallet address"], words ["wallet", "btc", "bitcoin", "crypto", "ethereum"];
    MRZ = "id.mrz", aka ["mrz", "passport mrz"], words ["mrz", "machine readable zone"];
    MAC = "net.mac", aka ["mac", "mac address"], words ["mac", "hardware address", "ethernet", "physical address"];
    IP = "net.ip", aka ["ip", "ip address"], words ["ip", "ipv4", "ipv6", "ip address", "host", "server", "gateway"];
    PHONE = "pii.phone", aka ["phone number", "phone", "telephone", "mobile"], words [
        "phone", "telephone", "tel", "mobile", "cell", "cellphone", "landline", "fax", "call", "called", "calling", "callback", "dial", "whatsapp", "sms", "text me",
        "phone number", "contact number", "my number", "our number", "his number", "her number", "ring me", "reach me", "reach us", "reach him", "reach her", "reach them",
        "reach you", "reach our", "reached at", "be reached", "reachable", "answering at", "message me", "message to", "messages to", "message on", "messages on", "hotline", "toll-free", "toll free", "voicemail",
        "telefon", "telefonnummer", "telefonisch", "handy", "handynummer", "mobil", "mobilnummer", "mobiltelefon", "rufnummer", "anruf", "anrufen", "angerufen", "meine nummer",
        "téléphone", "téléphonique", "téléphoner", "portable", "appel", "appels", "appeler", "appelez", "appelle", "appelé", "joignable", "joindre", "au numéro",
        "teléfono", "telefónico", "telefónica", "móvil", "celular", "llamar", "llame", "llámame", "llamada", "al número",
        "telefono", "telefonico", "telefonica", "cellulare", "chiamare", "chiamami", "chiamata", "telefone", "telemóvel", "ligar", "ligue", "chamada",
        "telefoon", "telefoonnummer", "mobiel", "bellen", "mobilen", "telefonu", "telefonie", "komórka", "komórkowy", "zadzwoń", "dzwonić", "puhelin", "puhelinnumero",
        "телефон", "телефону", "позвонить", "电话号", "电话是", "电话为", "手机号", "手机是", "手机为", "联系电话", "联系方式", "联系人", "電話番号", "電話號碼", "手機號碼", "携帯電話", "전화번호", "휴대폰", "휴대전화", "연락처",
        "โทร", "มือถือ"];
    BIRTH_DATE = "pii.birth_date", aka ["birth date", "date of birth"], words [
        "born", "birth", "birthday", "birthdate", "date of birth", "dob", "d.o.b", "d.o.b.", "geboren", "geb", "geburtsdatum", "geburtstag", "né le", "née le",
        "naissance", "date de naissance", "nacimiento", "fecha de nacimiento", "nacido", "nacida", "nato il", "nata il", "nascita",
        "data di nascita", "nascimento", "nascido", "geboortedatum", "födelsedatum", "född", "syntymäaika", "doğum tarihi", "doğum",
        "data urodzenia", "urodzony", "urodzona", "生年月日", "出生日期", "생년월일", "дата рождения"];
    DATE = "pii.date", aka ["date"], words [];
    URL = "net.url", aka ["url"], words ["url", "website", "homepage"];
}

/// Words that name another kind of number: what follows one is not what an earlier word announced.
#[rustfmt::skip]
pub(super) const OTHER_NUMBERS: &[&str] = &[
    "order", "order number", "order no", "order id", "invoice", "ticket", "tracking", "sku", "isbn", "ean", "upc", "gtin", "barcode", "build", "version", "commit",
    "timestamp", "batch", "job", "pid", "port", "issue", "transaction", "reference", "ref", "serial", "article", "item", "bestellung", "bestellnummer", "rechnung",
];

/// Words that say of a number right behind them that it is one of another kind, in whatever groups it is written; of the classes
/// that they are words for it may still be. Among them are the designators of parts of buildings, after USPS Publication 28, C2.
#[rustfmt::skip]
pub(super) const NAMED_NUMBERS: &[&str] = &[
    "npi", "imei", "mrn", "medical record", "chart", "order number", "order no", "order id", "invoice number", "invoice no", "ticket number", "tracking number", "serial number",
    "part number", "model number", "case number", "claim number", "policy number", "reference number", "confirmation number", "passport number", "passport no",
    "license number", "licence number", "driver license", "drivers license", "driver's license", "driving license", "driving licence", "prawo jazdy", "prawa jazdy",
    "vat", "nip", "regon", "pesel", "krs", "siren", "siret", "tfn", "tax file number", "abn", "acn", "bsb", "steuer-id", "steuernummer", "nhs number",
    "personnummer", "organisationsnummer", "aadhaar", "id card", "identity card",
    "apartment", "apt", "building", "bldg", "floor", "suite", "ste", "unit", "room", "rm", "lot", "p.o. box", "po box",
];

/// Words that speak for a class right beside a number, as labels do, and anywhere else mean something other; and those of two
/// letters in scripts without spaces, which as folded are too like others to be looked for everywhere.
#[rustfmt::skip]
pub(super) const LABELS: &[(&str, usize)] = &[
    ("contact", PHONE), ("office", PHONE), ("home", PHONE), ("work", PHONE),
    ("电话", PHONE), ("手机", PHONE), ("致电", PHONE), ("拨打", PHONE), ("联系", PHONE), ("電話", PHONE), ("手機", PHONE), ("携帯", PHONE), ("전화", PHONE),
];
