//! The only SQL that is ever sent: built from a typed plan, every identifier quoted, every value bound, every column cast to the
//! type that the plan expects, so that a table altered in between gives an error and never misread bytes.
//!
//! `COPY` takes no bind parameters. Values are therefore bound to transaction-local settings first ([`BIND`]), and the statement
//! reads `current_setting('countersign.p1')` under a cast. No value ever becomes SQL text.

use std::fmt;

use countersign_ledger::evidence::TraceId;
use countersign_masker::filter::{CompareOp, Condition, Literal, Predicate};
use countersign_masker::plan::Plan;
use countersign_masker::schema::ColumnType;

use super::postgres::PgColumn;
use super::{SourceError, civil, rows_to_ask};

/// Binds all values of a statement at once, as one array of their texts.
pub(super) const BIND: &str = "SELECT pg_catalog.count(pg_catalog.set_config('countersign.p' || p.number::pg_catalog.text, \
                               p.value, true)) FROM pg_catalog.unnest($1) WITH ORDINALITY AS p(value, number)";

/// The id of the transaction's snapshot.
pub(super) const SNAPSHOT: &str = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text";

/// Ends a transaction, and takes back what a view's functions may have set for the session.
pub(super) const END: &str = "COMMIT; RESET ALL";

/// The tables, views and their like that this role may read, `schema.table`.
pub(super) const TABLES: &str = "\
SELECT n.nspname || '.' || c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
  AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
ORDER BY 1";

/// Name and type of each column of the table `$2` in the schema `$1`, domains resolved to what they are made of.
pub(super) const COLUMNS: &str = "\
WITH RECURSIVE resolved AS (
  SELECT a.attnum, a.attname, a.atttypid AS type, a.atttypmod AS modifier, a.attcollation
  FROM pg_catalog.pg_namespace n
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
  WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT r.attnum, r.attname, t.typbasetype, t.typtypmod, r.attcollation
  FROM resolved r JOIN pg_catalog.pg_type t ON t.oid = r.type WHERE t.typtype = 'd'
)
SELECT r.attname AS name, pg_catalog.format_type(t.oid, NULL) AS type, r.modifier,
  t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AS builtin, t.typtype = 'e' AS is_enum,
  e.typname AS element, coalesce(e.typnamespace = 'pg_catalog'::pg_catalog.regnamespace, false) AS element_builtin,
  coalesce(e.typtype = 'e', false) AS element_is_enum, coalesce(l.collisdeterministic, true) AS deterministic
FROM resolved r
JOIN pg_catalog.pg_type t ON t.oid = r.type
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_catalog.pg_collation l ON l.oid = r.attcollation
WHERE t.typtype <> 'd' ORDER BY r.attnum";

/// Opens the transaction: read-only, one snapshot for all statements, a time limit on each, texts that don't depend on the
/// server's settings, no notices, and `pg_catalog` first, so that no operator of another schema can take the place of `=`.
pub(super) fn begin(seconds: u64) -> String {
    let timeout_ms = seconds.saturating_mul(1_000).min(i32::MAX.unsigned_abs().into());
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
         SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL client_min_messages = error; \
         SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1; \
         SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', 'pg_catalog', \
         NULLIF(pg_catalog.current_setting('search_path'), '')), true)"
    )
}

/// A table's name in two parts.
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) table: String,
}

impl TableName {
    /// Cuts `schema.table` at its first dot.
    pub(super) fn parse(name: &str) -> Result<Self, SourceError> {
        match name.split_once('.') {
            Some((schema, table)) if !schema.is_empty() && !table.is_empty() && !name.contains('\0') => {
                Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
            }
            _ => Err(SourceError::UnknownTable(name.to_owned())),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A type as the catalog names it, any domain around it already resolved.
pub(super) struct PgType {
    /// As `format_type` writes it without a modifier.
    pub(super) name: String,
    /// Whether it is PostgreSQL's own, so that nobody's `public.text` is taken for `text`.
    pub(super) builtin: bool,
    pub(super) is_enum: bool,
    /// `atttypmod`: −1 without one.
    pub(super) modifier: i32,
    /// For arrays, the type of the elements.
    pub(super) element: Option<String>,
    pub(super) element_builtin: bool,
    pub(super) element_is_enum: bool,
}

impl PgType {
    /// Its representation; [`ColumnType::Unsupported`] with the type's name if there is none.
    pub(super) fn column_type(&self) -> ColumnType {
        let unknown = || ColumnType::Unsupported(self.name.clone());
        if self.is_enum {
            return ColumnType::Text;
        }
        if !self.builtin && self.element.is_none() {
            return unknown();
        }
        if let Some(element) = &self.element {
            let known = matches!(
                element.as_str(),
                "bool"
                    | "int2"
                    | "int4"
                    | "int8"
                    | "float4"
                    | "float8"
                    | "numeric"
                    | "text"
                    | "varchar"
                    | "bpchar"
                    | "name"
                    | "date"
                    | "timestamp"
                    | "timestamptz"
                    | "uuid"
            );
            return if self.element_is_enum || (known && self.element_builtin) {
                ColumnType::TextArray
            } else {
                unknown()
            };
        }
        match self.name.as_str() {
            "boolean" => ColumnType::Bool,
            "smallint" => ColumnType::Int16,
            "integer" => ColumnType::Int32,
            "bigint" => ColumnType::Int64,
            "real" => ColumnType::Float32,
            "double precision" => ColumnType::Float64,
            "numeric" => decimal(self.modifier).unwrap_or(ColumnType::Numeric),
            "text" | "character varying" | "character" | "bpchar" | "name" | "\"char\"" => ColumnType::Text,
            "bytea" => ColumnType::Binary,
            "date" => ColumnType::Date,
            "time without time zone" => ColumnType::Time,
            "timestamp without time zone" => ColumnType::Timestamp,
            "timestamp with time zone" => ColumnType::TimestampTz,
            "uuid" => ColumnType::Uuid,
            "json" | "jsonb" => ColumnType::Json,
            _ => unknown(),
        }
    }
}

/// The decimal that a numeric's modifier stands for; nothing without one, or if a frame's decimal cannot hold it (more than 38
/// digits, a negative scale, a scale above the precision).
fn decimal(modifier: i32) -> Option<ColumnType> {
    let modifier = modifier.checked_sub(4).filter(|m| *m >= 0)?;
    let precision = u8::try_from(modifier >> 16).ok().filter(|p| (1..=38).contains(p))?;
    // Eleven bits, of which the first is the sign.
    let scale = u8::try_from(((modifier & 0x7ff) ^ 0x400) - 0x400).ok().filter(|s| *s <= precision)?;
    Some(ColumnType::Decimal { precision, scale })
}

/// A statement and the values bound to its `countersign.p1`, `countersign.p2`, …; as it is recorded, too.
#[derive(serde::Serialize)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) values: Vec<String>,
}

/// The COPY statement for `plan`, which must have passed [`check_plan`](super::check_plan) against `columns`, those of the table.
/// `trace` must be hex.
pub(super) fn statement(
    trace: &str,
    table: &TableName,
    columns: &[PgColumn],
    plan: &Plan,
) -> Result<Statement, SourceError> {
    let find = |name: &str| {
        columns.iter().find(|column| column.name == name).ok_or_else(|| SourceError::SchemaChanged {
            column: name.to_owned(),
            found: "no such column".to_owned(),
            required: "the plan's column".to_owned(),
        })
    };
    let selected = plan.columns.iter().map(|(name, ty)| cast(name, ty)).collect::<Result<Vec<_>, _>>()?.join(", ");
    let mut writer = Filter { find: &find, values: Vec::new() };
    let filter = match &plan.predicate {
        Some(predicate) => format!(" WHERE {}", writer.condition(predicate)?),
        None => String::new(),
    };
    let order = match &plan.order_by {
        Some(name) => {
            let key = find(name)?;
            format!(" ORDER BY {} ASC NULLS LAST", sortable(&key.name, &key.ty)?)
        }
        None => String::new(),
    };
    let sql = format!(
        "{COMMENT}{trace} */ COPY (SELECT {selected} FROM {}.{}{filter}{order} LIMIT {}) TO STDOUT (FORMAT binary)",
        quoted(&table.schema),
        quoted(&table.table),
        rows_to_ask(plan).min(i64::MAX.unsigned_abs()),
    );
    Ok(Statement { sql, values: writer.values })
}

/// What the comment of a statement begins with; the trace follows.
const COMMENT: &str = "/* countersign trace=";

/// The trace that a statement's comment names.
pub(super) fn trace_of(sql: &str) -> Option<TraceId> {
    sql.strip_prefix(COMMENT)?.split_once(" */ COPY (SELECT ")?.0.parse().ok()
}

/// Whether it is, word for word, one of the statements that are sent around a fetch and fetch no rows of anybody's.
pub(super) fn fetches_nothing(sql: &str) -> bool {
    let timed = || {
        let (_, rest) = sql.split_once("SET LOCAL statement_timeout = ")?;
        let timeout_ms: u64 = rest.split_once(';')?.0.parse().ok()?;
        Some(begin(timeout_ms.div_ceil(1_000)) == sql)
    };
    // Connections that were not kept ended with the one word.
    [BIND, SNAPSHOT, TABLES, COLUMNS, END, "COMMIT"].contains(&sql) || timed() == Some(true)
}

/// An identifier in quotes: whatever it contains, it is one identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The column, cast to the PostgreSQL type whose binary form its builder reads. For a column of that type the cast costs nothing.
fn cast(name: &str, ty: &ColumnType) -> Result<String, SourceError> {
    let target = match ty {
        ColumnType::Bool => "bool",
        ColumnType::Int16 => "int2",
        ColumnType::Int32 => "int4",
        ColumnType::Int64 => "int8",
        ColumnType::Float32 => "float4",
        ColumnType::Float64 => "float8",
        ColumnType::Decimal { precision, scale } => {
            return Ok(format!("{}::pg_catalog.numeric({precision},{scale})", quoted(name)));
        }
        ColumnType::Text | ColumnType::Numeric | ColumnType::Json | ColumnType::TextArray => "text",
        ColumnType::Binary => "bytea",
        ColumnType::Date => "date",
        ColumnType::Time => "time",
        ColumnType::Timestamp => "timestamp",
        ColumnType::TimestampTz => "timestamptz",
        ColumnType::Uuid => "uuid",
        ColumnType::Int8
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64
        | ColumnType::List(_)
        | ColumnType::Struct(_)
        | ColumnType::Unsupported(_) => {
            return Err(SourceError::UnsupportedType { column: name.to_owned(), ty: ty.to_string() });
        }
    };
    Ok(format!("{}::pg_catalog.{target}", quoted(name)))
}

/// The column as something to order and compare by: numbers by value, text by its bytes.
fn sortable(name: &str, ty: &ColumnType) -> Result<String, SourceError> {
    Ok(match ty {
        ColumnType::Text | ColumnType::Json | ColumnType::TextArray => {
            format!("({} COLLATE pg_catalog.\"C\")", cast(name, ty)?)
        }
        ColumnType::Numeric => format!("{}::pg_catalog.numeric", quoted(name)),
        _ => cast(name, ty)?,
    })
}

/// Writes a condition and collects its values.
struct Filter<'a, F> {
    find: &'a F,
    values: Vec<String>,
}

impl<'a, F: Fn(&str) -> Result<&'a PgColumn, SourceError>> Filter<'_, F> {
    fn condition(&mut self, predicate: &Predicate) -> Result<String, SourceError> {
        Ok(match predicate {
            Condition::Compare { column, op, value } => {
                let left = self.left(column, *op)?;
                // `!=` and `<>` are one operator to PostgreSQL.
                format!("({left} {} {})", op.as_str(), self.bound(text(value), kind(value)))
            }
            Condition::In { column, values } => {
                let Some(first) = values.first() else { return Ok("(FALSE)".to_owned()) };
                let left = self.left(column, CompareOp::Eq)?;
                let elements: Vec<String> = values.iter().map(|value| array_element(&text(value))).collect();
                let array = self.bound(format!("{{{}}}", elements.join(",")), &format!("{}[]", kind(first)));
                format!("({left} = ANY ({array}))")
            }
            Condition::IsNull { column, negated } => {
                let column = quoted(&(self.find)(column)?.name);
                // Not `IS NOT NULL`, which for a row type asks for every field of it.
                if *negated { format!("(NOT {column} IS NULL)") } else { format!("({column} IS NULL)") }
            }
            Condition::And(parts) => self.joined(parts, " AND ", "TRUE")?,
            Condition::Or(parts) => self.joined(parts, " OR ", "FALSE")?,
            Condition::Not(part) => format!("(NOT {})", self.condition(part)?),
        })
    }

    fn joined(&mut self, parts: &[Predicate], operator: &str, empty: &str) -> Result<String, SourceError> {
        if parts.is_empty() {
            return Ok(format!("({empty})"));
        }
        let parts = parts.iter().map(|part| self.condition(part)).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("({})", parts.join(operator)))
    }

    /// The left side of a comparison.
    fn left(&self, column: &str, op: CompareOp) -> Result<String, SourceError> {
        let column = (self.find)(column)?;
        let (name, ty) = (&column.name, &column.ty);
        // Equality under a deterministic collation is equality of bytes, and leaves the column's index usable.
        let plain = *ty == ColumnType::Text && column.equal_is_identical && matches!(op, CompareOp::Eq | CompareOp::Ne);
        if plain { cast(name, ty) } else { sortable(name, ty) }
    }

    /// Binds a value, and says how the statement reads it.
    fn bound(&mut self, value: String, kind: &str) -> String {
        self.values.push(value);
        format!("pg_catalog.current_setting('countersign.p{}')::pg_catalog.{kind}", self.values.len())
    }
}

/// The PostgreSQL type that a value is read as.
fn kind(value: &Literal) -> &'static str {
    match value {
        Literal::Bool(_) => "bool",
        Literal::Int(_) => "int8",
        Literal::Float(_) => "float8",
        Literal::Decimal(_) => "numeric",
        Literal::Text(_) => "text",
        Literal::Date(_) => "date",
        Literal::Time(_) => "time",
        Literal::Timestamp(_) => "timestamp",
        Literal::TimestampTz(_) => "timestamptz",
        Literal::Uuid(_) => "uuid",
    }
}

/// A value in the form that PostgreSQL reads back exactly.
fn text(value: &Literal) -> String {
    match value {
        Literal::Bool(value) => value.to_string(),
        Literal::Int(value) => value.to_string(),
        // The shortest text that reads back to the same double.
        Literal::Float(value) => format!("{value:?}"),
        Literal::Decimal(text) | Literal::Text(text) | Literal::Uuid(text) => text.clone(),
        Literal::Date(days) => civil::date_text(*days),
        Literal::Time(us) => civil::time_text(*us),
        Literal::Timestamp(us) => civil::timestamp_text(*us),
        Literal::TimestampTz(us) => {
            let text = civil::timestamp_text(*us);
            match text.strip_suffix(" BC") {
                Some(text) => format!("{text}+00 BC"),
                None => format!("{text}+00"),
            }
        }
    }
}

/// An element of an array's text, quoted, so that even `NULL` and the empty text are themselves.
fn array_element(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
