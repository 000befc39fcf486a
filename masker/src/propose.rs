//! What class a column could have: from its name, its type, and what the detectors find in a sample of its cells. A sample is
//! consumed here; what is left of it are counts. A proposal is for people to review, so it says why, in words and counts, and
//! never with a value.

use crate::detect::{Basis, Detectors};
use crate::frame::Clear;
use crate::schema::ColumnType;
use polars::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// What a sample tells of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The column.
    pub column: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Cells looked at.
    pub cells: u64,
    /// Those of them that are null.
    pub nulls: u64,
    /// How many different values the others have.
    pub distinct: u64,
    /// Hits by class.
    pub hits: BTreeMap<String, Hits>,
}

/// In how many cells a class was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits {
    /// The cell is nothing else.
    pub whole: u64,
    /// It stands in it among other text.
    pub inside: u64,
    /// Those of both whose checksum holds.
    pub proven: u64,
}

impl Profile {
    /// The profile of a column that was not looked into.
    pub fn unseen(column: &str, column_type: &ColumnType) -> Self {
        Self {
            column: column.to_owned(),
            column_type: column_type.clone(),
            cells: 0,
            nulls: 0,
            distinct: 0,
            hits: BTreeMap::new(),
        }
    }
}

/// Counts what is in a sample, column by column. Cells of other types than text and integers are only counted.
///
/// # Errors
/// polars' own, which name columns; this should not happen.
pub fn profile(sample: Clear, columns: &[(String, ColumnType)], detectors: &Detectors) -> PolarsResult<Vec<Profile>> {
    let mut profiles = Vec::with_capacity(columns.len());
    for (name, column_type) in columns {
        let column = sample.frame().column(name)?.as_materialized_series();
        let mut profile = Profile {
            cells: column.len() as u64,
            nulls: column.null_count() as u64,
            ..Profile::unseen(name, column_type)
        };
        if column_type.is_text() || column_type.int_range().is_some() {
            let hint = detectors.hint(name);
            let text = column.cast(&DataType::String)?;
            let mut values = HashSet::new();
            for cell in text.str()?.iter().flatten() {
                values.insert(cell);
                // A class counts once per cell, however often it stands in it.
                let mut here: BTreeMap<&str, Hits> = BTreeMap::new();
                let length = cell.trim().chars().count();
                for hit in detectors.detect(cell, Some(&hint)) {
                    let is_whole = hit.end - hit.start == length;
                    let counted = here.entry(hit.class).or_default();
                    *counted = Hits {
                        whole: u64::from(is_whole),
                        inside: u64::from(!is_whole),
                        proven: counted.proven.max(u64::from(hit.basis == Basis::Checksum)),
                    };
                }
                for (class, found) in here {
                    let hits = profile.hits.entry(class.to_owned()).or_default();
                    hits.whole += found.whole;
                    hits.inside += found.inside;
                    hits.proven += found.proven;
                }
            }
            profile.distinct = values.len() as u64;
        } else if !matches!(column_type, ColumnType::List(_) | ColumnType::Struct(_)) {
            profile.distinct = column.n_unique()?.saturating_sub(usize::from(column.null_count() > 0)) as u64;
        }
        profiles.push(profile);
    }
    Ok(profiles)
}

/// A class for a column, as far as anything speaks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal<'a> {
    /// The class.
    pub class: Option<&'a str>,
    /// How sure that is, in percent.
    pub confidence: u8,
    /// Why.
    pub because: String,
}

/// What types a name's class goes with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    Text,
    Date,
    Number,
    Any,
}

impl Goes {
    fn with(self, column_type: &ColumnType) -> bool {
        let is_date = matches!(column_type, ColumnType::Date | ColumnType::Timestamp | ColumnType::TimestampTz);
        let is_number = column_type.int_range().is_some()
            || matches!(
                column_type,
                ColumnType::Decimal { .. } | ColumnType::Numeric | ColumnType::Float32 | ColumnType::Float64
            );
        match self {
            Self::Text => column_type.is_text(),
            Self::Date => is_date || *column_type == ColumnType::Text,
            Self::Number => is_number,
            Self::Any => true,
        }
    }
}

/// Parts of names, the most telling first, and what they say.
const NAMES: &[(&[&str], &str, Goes)] = &[
    (&["email", "e_mail", "mail"], "pii.email", Goes::Text),
    (&["password", "passwd", "secret", "api_key", "apikey", "token", "private_key"], "secret", Goes::Any),
    (&["ssn", "social_security"], "id.us.ssn", Goes::Any),
    (&["iban"], "fin.iban", Goes::Text),
    (&["card_number", "credit_card", "card_no", "pan"], "fin.card", Goes::Any),
    (&["phone", "mobile", "telephone", "tel", "fax"], "pii.phone", Goes::Any),
    (&["birth", "birthday", "dob", "born", "date_of_birth"], "pii.birth", Goes::Date),
    (
        &[
            "first_name",
            "last_name",
            "surname",
            "family_name",
            "given_name",
            "full_name",
            "firstname",
            "lastname",
            "name",
        ],
        "pii.name",
        Goes::Text,
    ),
    (&["street", "address", "city", "zip", "zipcode", "postcode", "postal_code", "plz"], "pii.address", Goes::Any),
    (&["ip", "ip_address", "ipaddr", "remote_addr"], "net.ip", Goes::Text),
    (&["salary", "balance", "income", "amount", "price", "wage"], "fin.amount", Goes::Number),
    (&["diagnosis", "icd", "medication", "disease", "patient"], "health", Goes::Any),
    (&["note", "notes", "comment", "comments", "description", "message", "body", "remarks"], "text.free", Goes::Text),
];

/// The words of a name: `billingEmail2` is `billing_email`.
fn plain(name: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for char in name.chars() {
        let boundary = char.is_uppercase() && (before.is_lowercase() || before.is_numeric());
        if (boundary || !char.is_alphabetic()) && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        if char.is_alphabetic() {
            out.extend(char.to_lowercase());
        }
        before = char;
    }
    out.trim_matches('_').to_owned()
}

fn by_name(column: &str, column_type: &ColumnType) -> Option<(&'static str, bool)> {
    let name = plain(column);
    let framed = format!("_{name}_");
    let says = |parts: &[&str]| parts.iter().any(|part| framed.contains(&format!("_{part}_")));
    let (_, class, goes) = NAMES.iter().find(|(parts, _, goes)| says(parts) && goes.with(column_type))?;
    Some((class, *goes == Goes::Date || *goes == Goes::Number))
}

/// Proposes a class.
pub fn propose(profile: &Profile) -> Proposal<'_> {
    let seen = profile.cells.saturating_sub(profile.nulls);
    let share = |part: u64| part.saturating_mul(100).checked_div(seen).unwrap_or(0);
    let named = by_name(&profile.column, &profile.column_type);
    // The class that is most of the column; cells that are nothing else count more than cells that hold it among other text.
    let weight = |hits: &Hits| hits.whole * 4 + hits.inside;
    let most = profile.hits.iter().max_by_key(|(class, hits)| (weight(hits), std::cmp::Reverse(*class)));
    let in_words = |class: &str, hits: &Hits| {
        let Hits { whole, inside, proven } = hits;
        format!("{whole} of {seen} cells are `{class}` and {inside} hold one, {proven} with a right checksum")
    };
    if let Some((class, hits)) = most {
        let whole = share(hits.whole);
        let agrees = named.is_some_and(|(name, _)| related(name, class));
        // A checksum is hardly ever right by chance; a form alone may be a number of another kind.
        let ceiling = if share(hits.proven) >= 50 || agrees { 99 } else { 85 };
        if whole >= 50 {
            let confidence = (whole + if agrees { 20 } else { 0 }).min(ceiling);
            let because = in_words(class, hits) + if agrees { "; the name agrees" } else { "" };
            return Proposal { class: Some(class), confidence: percent(confidence), because };
        }
        if share(hits.whole + hits.inside) >= 1 && profile.column_type.is_text() {
            let found = profile.hits.iter().map(|(class, hits)| in_words(class, hits)).collect::<Vec<_>>();
            let confidence = 60 + share(hits.whole + hits.inside) / 3;
            let because = format!("text that holds identifiers: {}", found.join("; "));
            return Proposal { class: Some("text.free"), confidence: percent(confidence.min(95)), because };
        }
    }
    if let Some((class, by_type)) = named {
        let because = format!("the name says so{}", if by_type { ", and the type fits" } else { "" });
        return Proposal { class: Some(class), confidence: if by_type { 75 } else { 60 }, because };
    }
    let few = profile.distinct <= 20 && seen >= 10 * profile.distinct.max(1);
    if seen > 0 && few && !profile.column_type.is_text() || seen >= 100 && few {
        let because = format!("{} different values in {seen} cells, and nothing found in them", profile.distinct);
        return Proposal { class: Some("public"), confidence: 30, because };
    }
    let because = format!("{} different values in {seen} cells, and nothing says what they are", profile.distinct);
    Proposal { class: None, confidence: 0, because }
}

fn percent(n: u64) -> u8 {
    u8::try_from(n.min(100)).unwrap_or(100)
}

/// Whether a name and a hit mean the same: one class is the other, or a kind of it.
fn related(name: &str, class: &str) -> bool {
    class == name || class.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
}

/// How a class of that name is usually masked; for a catalog that does not have it.
pub fn usual_mask(class: &str) -> &'static str {
    match class {
        "pii.email" => "email",
        "pii.name" => "keep_first(1)",
        "pii.birth" => "year_only",
        "fin.card" | "fin.iban" => "keep_last(4)",
        "net.ip" => "ip_prefix(16, 48)",
        "fin.amount" => "null",
        _ => "redact",
    }
}
