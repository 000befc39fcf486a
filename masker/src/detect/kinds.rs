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
    CARD = "fin.card", aka ["credit card", "card number", "card", "pan", "cc number"], words ["card", "credit card", "debit card", "visa", "mastercard", "maestro", "amex", "cc", "kreditkarte", "karte", "carte", "tarjeta", "carta di credito"];
    IBAN = "fin.iban", aka ["iban", "iban code"], words ["iban", "konto", "bank account"];
    BIC = "fin.bic", aka ["bic", "swift", "swift code"], words ["bic", "swift", "swift code", "bic code"];
    CRYPTO = "fin.crypto", aka ["crypto", "bitcoin address", "wallet address"], words ["wallet", "btc", "bitcoin", "crypto", "ethereum"];
    MRZ = "id.mrz", aka ["mrz", "passport mrz"], words ["mrz", "machine readable zone"];
    MAC = "net.mac", aka ["mac", "mac address"], words ["mac", "hardware address", "ethernet", "physical address"];
    IP = "net.ip", aka ["ip", "ip address"], words ["ip", "ipv4", "ipv6", "ip address", "host", "server", "gateway"];
    PHONE = "pii.phone", aka ["phone number", "phone", "telephone", "mobile"], words [
        "phone", "telephone", "tel", "mobile", "cell", "cellphone", "fax", "call", "called", "calling", "dial", "whatsapp", "sms", "text me",
        "phone number", "contact number", "reach me", "reach us", "answering at", "messages to", "office", "hotline", "telefon", "telefonnummer", "handy", "mobil", "mobilnummer",
        "rufnummer", "téléphone", "portable", "teléfono", "móvil", "celular", "telefono", "cellulare", "telefone", "telemóvel", "telefoon",
        "puhelin", "телефон", "电话", "電話", "전화", "โทร"];
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
