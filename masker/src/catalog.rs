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
//! [detectors."acme.badge"]                 # a class of the catalog's own, found in text beside the built-in ones
//! pattern = 'B-\d{6}'                      # or words = ["Blue Heron", "Grey Owl"]
//! context = ["badge", "entry"]             # optional: one of these must stand near it, or in the column's name
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
//! profile = "public"
//! [tables."shop.customers".paths]                          # what lies inside columns: structs, lists and JSON text alike
//! "profile.emergency.ssn" = "pii.ssn"                      # written as columns are, at most 64 of a table
//! "**.email" = "pii.email"                                 # at any depth in any column
//! ```
//!
//! Detectors are read as [`crate::detect`] says; their patterns have no look-around and no back-references.
//!
//! A path (see [`path`](crate::path)) that names a column must name a listed one. In a column of type text a path is taken
//! to be a way into JSON text if it names the column; other paths leave such columns alone. What is in a column that paths lead
//! into and no path addresses follows the column's own class. What several paths address gets the most restrictive of their masks.
//!
//! Purposes and classes are 1 to 64 of `a-z 0-9 _ . -`, connections 1 to 64 of `A-Z a-z 0-9 _ -`. A class names no rights:
//! those come from policies. A column of the table that isn't listed has the class [`UNCLASSIFIED`] and is redacted for
//! everybody. A mask that doesn't fit a column's stated type is an error here. Where the type is known only from the source,
//! [`Catalog::misfits`] finds it, and [`decide`](crate::decide) refuses.

use crate::detect::{Custom, Detectors, Find};
use crate::load::{LoadError, Source};
use crate::nested;
use crate::path::{MAX_PATHS, Path, PathError};
use crate::schema::{ColumnType, TableSchema};
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
    detectors: Vec<Custom>,
    file: String,
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
    /// What is classified inside of columns, in the order of the paths' texts.
    pub paths: Vec<PathRule>,
}

/// Something inside of columns that is classified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// Where it is.
    pub path: Path,
    /// Its class.
    pub class: String,
    /// The mask for those who may not see it clear: its own, or else its class's.
    pub mask: Mask,
    /// The line of the catalog that says so.
    pub line: usize,
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
    /// The line of the catalog that says how it is masked.
    pub line: usize,
}

impl Table {
    /// The rules for what lies inside a column of this type.
    pub fn paths_into<'a>(
        &'a self,
        column: &'a str,
        column_type: &ColumnType,
    ) -> impl Iterator<Item = &'a PathRule> + use<'a> {
        let (any, named) = match column_type {
            ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Json => (true, true),
            // Not every text is JSON.
            ColumnType::Text => (false, true),
            _ => (false, false),
        };
        let leads = move |rule: &&PathRule| match rule.path.column() {
            Some(name) => named && name == column,
            None => any,
        };
        self.paths.iter().filter(leads)
    }
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
        let root = loader.keys(document.get_ref(), "the catalog", &["purposes", "classes", "detectors", "tables"])?;

        let purposes = root.get("purposes").ok_or_else(|| source.error(0, "`purposes` is missing"))?;
        let purposes = loader.purposes(purposes)?;
        let mut classes = BTreeMap::new();
        if let Some(table) = root.get("classes") {
            for (name, class) in loader.table(table, "`classes`")? {
                loader.class(name, class, &mut classes)?;
            }
        }
        let mut detectors = Vec::new();
        if let Some(table) = root.get("detectors") {
            for (name, detector) in loader.table(table, "`detectors`")? {
                detectors.push(loader.detector(name, detector)?);
            }
            // Each by itself was accepted, so what is refused here is their number.
            Detectors::with_custom(detectors.clone()).map_err(|bad| loader.error(table, bad.to_string()))?;
        }
        let mut tables = BTreeMap::new();
        if let Some(table) = root.get("tables") {
            for (name, table) in loader.table(table, "`tables`")? {
                let (connection, name) = loader.table_name(name)?;
                tables.insert((connection, name), loader.table_entry(table, &classes)?);
            }
        }
        Ok(Self {
            purposes,
            classes,
            tables,
            detectors,
            file: file.to_owned(),
            digest: Sha256::digest(text.as_bytes()).into(),
        })
    }

    /// What doesn't fit a table as its source has it: masks that don't fit the type of what they mask, and paths that lead to
    /// nothing in a column whose type says what is in it. Each with the catalog's line and what would fit. Columns that the source
    /// doesn't have are no misfit: nobody gets them.
    pub fn misfits(&self, connection: &str, table: &str, schema: &TableSchema) -> Vec<LoadError> {
        let Some(table) = self.table(connection, table) else { return Vec::new() };
        let error = |line, reason| LoadError { file: self.file.clone(), line, reason };
        let mut misfits = Vec::new();
        for (name, column) in &table.columns {
            let column_type = schema.column_type(name).filter(|t| !matches!(t, ColumnType::Unsupported(_)));
            let Some(column_type) = column_type else { continue };
            if let Some(reason) = misfit(&column.mask, &format!("column `{}`", name.escape_debug()), column_type) {
                misfits.push(error(column.line, reason));
            }
            let rules = table.paths_into(name, column_type).collect::<Vec<_>>();
            let masks = rules.iter().map(|rule| (&rule.path, Some(&rule.mask))).collect::<Vec<_>>();
            for misfit in nested::misfits(name, column_type, &masks) {
                misfits.extend(rules.get(misfit.path).map(|rule| error(rule.line, misfit.to_string())));
            }
        }
        for rule in &table.paths {
            let column = rule.path.column().and_then(|name| Some((name, schema.column_type(name)?)));
            if let Some((name, column_type)) = column
                && table.paths_into(name, column_type).next().is_none()
            {
                let reason = format!(
                    "path `{}` leads into column `{name}` of type {column_type}, in which there is nothing",
                    rule.path
                );
                misfits.push(error(rule.line, reason));
            }
        }
        misfits.sort_by_key(|misfit| misfit.line);
        misfits
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

    /// The built-in detectors and the catalog's own.
    pub fn detectors(&self) -> Detectors {
        // INVARIANT: `parse` has accepted them, so none is refused.
        Detectors::with_custom(self.detectors.clone()).unwrap_or_default()
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

    fn detector(&self, key: &Key<'a>, value: &Entry<'a>) -> Result<Custom, LoadError> {
        let class = key.get_ref().to_string();
        if !is_name(&class) {
            return Err(self.error(key, format!("class `{class}` is not 1 to 64 of a-z, 0-9, `_`, `.` and `-`")));
        }
        let what = format!("detector `{class}`");
        let entries = self.keys(self.table(value, &what)?, &what, &["pattern", "words", "context"])?;
        let find = match (entries.get("pattern"), entries.get("words")) {
            (Some(pattern), None) => Find::Pattern(self.string(pattern, "`pattern`")?.to_owned()),
            (None, Some(words)) => Find::Words(self.strings(words, "`words`")?),
            _ => return Err(self.error(key, format!("{what} has not exactly one of `pattern` and `words`"))),
        };
        let context =
            entries.get("context").map(|words| self.strings(words, "`context`")).transpose()?.unwrap_or_default();
        let custom = Custom { class, find, context };
        Detectors::with_custom(vec![custom.clone()]).map_err(|bad| self.error(key, bad.to_string()))?;
        Ok(custom)
    }

    fn strings(&self, value: &Entry<'a>, what: &str) -> Result<Vec<String>, LoadError> {
        let array = value.get_ref().as_array().ok_or_else(|| self.wrong_kind(value, what, "an array"))?;
        array.iter().map(|text| self.string(text, &format!("an entry of {what}")).map(str::to_owned)).collect()
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
        let known = ["key", "max_rows", "max_bytes", "max_seconds", "row_tree", "columns", "paths"];
        let entries = self.keys(self.table(value, "a table")?, "a table", &known)?;
        let mut columns = BTreeMap::new();
        if let Some(listed) = entries.get("columns") {
            for (name, column) in self.table(listed, "`columns`")? {
                columns.insert(name.get_ref().to_string(), self.column(name, column, classes)?);
            }
        }
        let mut paths = Vec::new();
        if let Some(listed) = entries.get("paths") {
            for (path, rule) in self.table(listed, "`paths`")? {
                paths.push(self.path(path, rule, classes, &columns)?);
            }
            if paths.len() > MAX_PATHS {
                return Err(self.error(listed, format!("{} paths, at most {MAX_PATHS} allowed", paths.len())));
            }
            paths.sort_by_cached_key(|rule| rule.path.to_string());
            if let Some([one, other]) =
                paths.windows(2).find(|pair| matches!(pair, [one, other] if one.path == other.path))
            {
                let reason = format!("path `{}` stands here twice", one.path);
                return Err(LoadError { file: self.source.file.to_owned(), line: one.line.max(other.line), reason });
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
        Ok(Table { key, limits, row_tree, columns, paths })
    }

    fn path(
        &self,
        key: &Key<'a>,
        value: &Entry<'a>,
        classes: &BTreeMap<String, Mask>,
        columns: &BTreeMap<String, Column>,
    ) -> Result<PathRule, LoadError> {
        let path: Path = key.get_ref().parse().map_err(|error: PathError| self.error(key, error.to_string()))?;
        if let Some(column) = path.column().filter(|column| !columns.contains_key(*column)) {
            let column = column.escape_debug();
            return Err(self.error(key, format!("path `{path}` leads into column `{column}`, which is not listed")));
        }
        let rule = self.rule(key, value, &format!("path `{path}`"), &["class", "mask"], classes)?;
        Ok(PathRule { path, class: rule.class, mask: rule.mask, line: rule.line })
    }

    fn limit(&self, name: &str, value: &Entry<'a>) -> Result<u64, LoadError> {
        let number =
            value.get_ref().as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        number
            .filter(|number| (1..=MAX_NUMBER).contains(number))
            .ok_or_else(|| self.error(value, format!("`{name}` is not a whole number of 1 to {MAX_NUMBER}")))
    }

    fn column(&self, key: &Key<'a>, value: &Entry<'a>, classes: &BTreeMap<String, Mask>) -> Result<Column, LoadError> {
        let what = format!("column `{}`", key.get_ref().escape_debug());
        let column = self.rule(key, value, &what, &["class", "mask", "type"], classes)?;
        let misfit = column.column_type.as_ref().and_then(|column_type| misfit(&column.mask, &what, column_type));
        match misfit {
            Some(reason) => Err(LoadError { file: self.source.file.to_owned(), line: column.line, reason }),
            None => Ok(column),
        }
    }

    /// A class, or a table with a class and whatever else of `known`.
    fn rule(
        &self,
        key: &Key<'a>,
        value: &Entry<'a>,
        what: &str,
        known: &[&str],
        classes: &BTreeMap<String, Mask>,
    ) -> Result<Column, LoadError> {
        let (class, own_mask, stated_type) = match value.get_ref().as_str() {
            Some(_) => (value, None, None),
            None => {
                let table =
                    value.get_ref().as_table().ok_or_else(|| self.wrong_kind(value, what, "a string or a table"))?;
                let entries = self.keys(table, what, known)?;
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
        let line = self.source.line(own_mask.unwrap_or(value).span().start);
        Ok(Column { class: class_name.to_owned(), mask, column_type, line })
    }
}

/// Why a mask doesn't fit a type, if it doesn't.
fn misfit(mask: &Mask, what: &str, column_type: &ColumnType) -> Option<String> {
    let fits = mask.output_type(column_type).is_some();
    let fitting = || transform::fitting(column_type);
    (!fits).then(|| format!("mask `{mask}` does not fit {what} of type {column_type}, fitting are {}", fitting()))
}

/// Whether purposes and classes may be called so.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}
