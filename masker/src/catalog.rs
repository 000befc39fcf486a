//! The catalog: which tables can be reached, the class of each of their columns, and how a class is masked. It is a TOML
//! text that people write and review; loading it is all or nothing, and what it doesn't list doesn't exist.
//!
//! ```toml
//! purposes = ["reporting", "support"]      # the closed list that a request's purpose is taken from
//!
//! [classes."pii.email"]                    # every class says how it is masked for those who may `read` but not `read_clear`
//! mask = "email"
//! [classes.public]
//! mask = "redact"
//!
//! [tables."shop.customers"]                # connection.table, split at the first dot: "warehouse.public.customers" is the
//! key = "id"                               # table `public.customers` of the connection `warehouse`
//! max_rows = 100000                        # limits of one chunk; these are the defaults
//! max_bytes = 67108864
//! max_seconds = 60
//! row_tree = true                          # each row of a chunk can be proved by itself; false by default
//! [tables."shop.customers".columns]
//! id = { class = "public", type = "int64" }                # a type is needed for CSV only, where a column without one is text
//! email = "pii.email"                                      # short for { class = "pii.email" }
//! iban = { class = "pii.email", mask = "keep_last(4)" }    # takes the place of the class's mask
//! ```
//!
//! Purposes and classes are 1 to 64 of `a-z 0-9 _ . -`, connections 1 to 64 of `A-Z a-z 0-9 _ -`. A class names no rights:
//! those come from policies. A column of the table that isn't listed has the class [`UNCLASSIFIED`] and is redacted for
//! everybody. A mask that doesn't fit a column's stated type is an error here; where the type is known only later, `null`
//! takes its place.

use crate::load::{LoadError, Source};
use crate::schema::ColumnType;
use crate::transform::{self, Mask};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// The class of a column that the catalog doesn't list.
pub const UNCLASSIFIED: &str = "unclassified";

/// The largest number that may stand in evidence (2⁵³ − 1).
pub(crate) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A loaded catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    purposes: Vec<String>,
    classes: BTreeMap<String, Mask>,
    tables: BTreeMap<(String, String), Table>,
    digest: [u8; 32],
}

/// A table that can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The column that orders the table and whose ranges slice it; it is among `columns`.
    pub key: Option<String>,
    /// The limits of one chunk of this table.
    pub limits: Limits,
    /// Whether each row of a chunk can be proved by itself.
    pub row_tree: bool,
    /// The classified columns.
    pub columns: BTreeMap<String, Column>,
}

/// A classified column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its class.
    pub class: String,
    /// The mask for those who may not see it clear: its own, or else its class's.
    pub mask: Mask,
    /// Its type, if the catalog states one.
    pub column_type: Option<ColumnType>,
}

/// The limits of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// The most rows.
    pub rows: u64,
    /// The most bytes, as delivered.
    pub bytes: u64,
    /// The longest that fetching may take, in seconds.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 100_000, bytes: 64 * 1024 * 1024, seconds: 60 }
    }
}

impl Limits {
    /// The smaller of each.
    pub fn min(self, other: Self) -> Self {
        Self {
            rows: self.rows.min(other.rows),
            bytes: self.bytes.min(other.bytes),
            seconds: self.seconds.min(other.seconds),
        }
    }
}

impl Catalog {
    /// Loads a catalog from `text`; `file` names it in errors.
    ///
    /// # Errors
    /// [`LoadError`] with the line of the first thing that is wrong: TOML that doesn't parse, an unknown or missing key, a
    /// bad name, an unknown class, mask or type, a mask that doesn't fit a stated type, a key that isn't a listed column.
    pub fn parse(file: &str, text: &str) -> Result<Self, LoadError> {
        let source = Source { file, text };
        let document = DeTable::parse(text).map_err(|error| {
            source.error(error.span().map_or(0, |span| span.start), error.message().replace('\n', ", "))
        })?;
        let loader = Loader { source };
        let root = loader.keys(document.get_ref(), "the catalog", &["purposes", "classes", "tables"])?;

        let purposes = root.get("purposes").ok_or_else(|| source.error(0, "`purposes` is missing"))?;
        let purposes = loader.purposes(purposes)?;
        let mut classes = BTreeMap::new();
        if let Some(table) = root.get("classes") {
            for (name, class) in loader.table(table, "`classes`")? {
                loader.class(name, class, &mut classes)?;
            }
        }
        let mut tables = BTreeMap::new();
        if let Some(table) = root.get("tables") {
            for (name, table) in loader.table(table, "`tables`")? {
                let (connection, name) = loader.table_name(name)?;
                tables.insert((connection, name), loader.table_entry(table, &classes)?);
            }
        }
        Ok(Self { purposes, classes, tables, digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// SHA-256 of the text.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The purposes a request may name.
    pub fn purposes(&self) -> &[String] {
        &self.purposes
    }

    /// The table, if it can be reached.
    pub fn table(&self, connection: &str, table: &str) -> Option<&Table> {
        self.tables.get(&(connection.to_owned(), table.to_owned()))
    }

    /// The types that the catalog states for a table's columns, `None` where the table cannot be reached.
    pub fn stated_types(&self, connection: &str, table: &str) -> Option<HashMap<String, ColumnType>> {
        let table = self.table(connection, table)?;
        Some(table.columns.iter().filter_map(|(name, c)| Some((name.clone(), c.column_type.clone()?))).collect())
    }

    /// All tables that can be reached: connection, table, entry.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str, &Table)> {
        self.tables.iter().map(|((connection, table), entry)| (connection.as_str(), table.as_str(), entry))
    }

    /// The mask of a class.
    pub fn class_mask(&self, class: &str) -> Option<&Mask> {
        self.classes.get(class)
    }
}

type Key<'a> = Spanned<DeString<'a>>;
type Entry<'a> = Spanned<DeValue<'a>>;

struct Loader<'a> {
    source: Source<'a>,
}

impl<'a> Loader<'a> {
    fn error<T>(&self, at: &Spanned<T>, reason: impl Into<String>) -> LoadError {
        self.source.error(at.span().start, reason)
    }

    /// The entries of a table, all of whose keys must be known.
    fn keys<'t>(
        &self,
        table: &'t DeTable<'a>,
        what: &str,
        known: &[&str],
    ) -> Result<BTreeMap<String, &'t Entry<'a>>, LoadError> {
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            if !known.contains(&name.as_str()) {
                return Err(self.error(key, format!("unknown key `{name}` in {what}, known are {}", known.join(", "))));
            }
            entries.insert(name, value);
        }
        Ok(entries)
    }

    fn table<'t>(&self, value: &'t Entry<'a>, what: &str) -> Result<&'t DeTable<'a>, LoadError> {
        value.get_ref().as_table().ok_or_else(|| self.wrong_kind(value, what, "a table"))
    }

    fn string<'t>(&self, value: &'t Entry<'a>, what: &str) -> Result<&'t str, LoadError> {
        value.get_ref().as_str().ok_or_else(|| self.wrong_kind(value, what, "a string"))
    }

    fn wrong_kind(&self, value: &Entry<'a>, what: &str, required: &str) -> LoadError {
        self.error(value, format!("{what} has a wrong kind, found {}, required {required}", value.get_ref().type_str()))
    }

    fn purposes(&self, value: &Entry<'a>) -> Result<Vec<String>, LoadError> {
        let array = value.get_ref().as_array().ok_or_else(|| self.wrong_kind(value, "`purposes`", "an array"))?;
        let mut purposes = Vec::new();
        for value in array {
            let purpose = self.string(value, "a purpose")?;
            if !is_name(purpose) {
                return Err(
                    self.error(value, format!("purpose `{purpose}` is not 1 to 64 of a-z, 0-9, `_`, `.` and `-`"))
                );
            }
            if purposes.iter().any(|other| other == purpose) {
                return Err(self.error(value, format!("purpose `{purpose}` stands here twice")));
            }
            purposes.push(purpose.to_owned());
        }
        Ok(purposes)
    }

    fn class(&self, key: &Key<'a>, value: &Entry<'a>, classes: &mut BTreeMap<String, Mask>) -> Result<(), LoadError> {
        let name = key.get_ref().to_string();
        if !is_name(&name) {
            return Err(self.error(key, format!("class `{name}` is not 1 to 64 of a-z, 0-9, `_`, `.` and `-`")));
        }
        if name == UNCLASSIFIED {
            return Err(self.error(key, format!("class `{UNCLASSIFIED}` is the one of columns that are not listed")));
        }
        let entries =
            self.keys(self.table(value, &format!("class `{name}`"))?, &format!("class `{name}`"), &["mask"])?;
        let mask = entries.get("mask").ok_or_else(|| self.error(key, format!("class `{name}` has no `mask`")))?;
        classes.insert(name, self.mask(mask)?);
        Ok(())
    }

    fn mask(&self, value: &Entry<'a>) -> Result<Mask, LoadError> {
        Mask::parse(self.string(value, "`mask`")?).map_err(|unknown| self.error(value, unknown.to_string()))
    }

    fn table_name(&self, key: &Key<'a>) -> Result<(String, String), LoadError> {
        let name = key.get_ref().to_string();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match name.split_once('.') {
            Some((connection, table))
                if (1..=64).contains(&connection.len())
                    && connection.bytes().all(allowed)
                    && (1..=256).contains(&table.len())
                    && !table.chars().any(char::is_control) =>
            {
                Ok((connection.to_owned(), table.to_owned()))
            }
            _ => Err(self.error(key, format!("table `{}` is not written as `connection.table`", name.escape_debug()))),
        }
    }

    fn table_entry(&self, value: &Entry<'a>, classes: &BTreeMap<String, Mask>) -> Result<Table, LoadError> {
        let known = ["key", "max_rows", "max_bytes", "max_seconds", "row_tree", "columns"];
        let entries = self.keys(self.table(value, "a table")?, "a table", &known)?;
        let mut columns = BTreeMap::new();
        if let Some(listed) = entries.get("columns") {
            for (name, column) in self.table(listed, "`columns`")? {
                columns.insert(name.get_ref().to_string(), self.column(name, column, classes)?);
            }
        }
        let key = match entries.get("key") {
            Some(value) => {
                let key = self.string(value, "`key`")?;
                if !columns.contains_key(key) {
                    return Err(self.error(value, format!("key `{key}` is not among the table's columns")));
                }
                Some(key.to_owned())
            }
            None => None,
        };
        let limit = |name: &str, default: u64| match entries.get(name) {
            Some(value) => self.limit(name, value),
            None => Ok(default),
        };
        let default = Limits::default();
        let limits = Limits {
            rows: limit("max_rows", default.rows)?,
            bytes: limit("max_bytes", default.bytes)?,
            seconds: limit("max_seconds", default.seconds)?,
        };
        let row_tree = match entries.get("row_tree") {
            Some(value) => {
                value.get_ref().as_bool().ok_or_else(|| self.wrong_kind(value, "`row_tree`", "true or false"))?
            }
            None => false,
        };
        Ok(Table { key, limits, row_tree, columns })
    }

    fn limit(&self, name: &str, value: &Entry<'a>) -> Result<u64, LoadError> {
        let number =
            value.get_ref().as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        number
            .filter(|number| (1..=MAX_NUMBER).contains(number))
            .ok_or_else(|| self.error(value, format!("`{name}` is not a whole number of 1 to {MAX_NUMBER}")))
    }

    fn column(&self, key: &Key<'a>, value: &Entry<'a>, classes: &BTreeMap<String, Mask>) -> Result<Column, LoadError> {
        let name = key.get_ref().to_string();
        let what = format!("column `{}`", name.escape_debug());
        let (class, own_mask, stated_type) = match value.get_ref().as_str() {
            Some(_) => (value, None, None),
            None => {
                let table =
                    value.get_ref().as_table().ok_or_else(|| self.wrong_kind(value, &what, "a string or a table"))?;
                let entries = self.keys(table, &what, &["class", "mask", "type"])?;
                let class = *entries.get("class").ok_or_else(|| self.error(key, format!("{what} has no `class`")))?;
                (class, entries.get("mask").copied(), entries.get("type").copied())
            }
        };
        let class_name = self.string(class, "`class`")?;
        let class_mask = classes.get(class_name).ok_or_else(|| {
            self.error(class, format!("class `{}` is not defined in `classes`", class_name.escape_debug()))
        })?;
        let mask = own_mask.map(|mask| self.mask(mask)).transpose()?.unwrap_or_else(|| class_mask.clone());
        let column_type = match stated_type {
            Some(value) => Some(
                (self.string(value, "`type`")?.parse::<ColumnType>())
                    .map_err(|unknown| self.error(value, unknown.to_string()))?,
            ),
            None => None,
        };
        if let Some(column_type) = &column_type
            && mask.output_type(column_type).is_none()
        {
            let fitting = transform::fitting(column_type);
            let reason = format!("mask `{mask}` does not fit {what} of type {column_type}, fitting are {fitting}");
            return Err(self.error(own_mask.unwrap_or(value), reason));
        }
        Ok(Column { class: class_name.to_owned(), mask, column_type })
    }
}

/// Whether purposes and classes may be called so.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}
