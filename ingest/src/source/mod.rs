//! Where clear rows come from: PostgreSQL databases and folders of Parquet or CSV files, read-only, one bounded slice of one
//! table at a time. It relies on the masker's plan for what may be asked, and on nothing for what comes back: every name, type,
//! length and cell is checked, and no error it makes ever repeats a cell or a credential.
//!
//! The walk is always the same: [`Source::schema`] reads names and types and no rows; [`Source::prepare`] opens the read-only
//! transaction (or pins the files) and fixes the exact statement, but sends nothing; the caller commits to
//! [`Prepared::statement`] in the ledger; only then does [`Prepared::run`] fetch.

mod cells;
mod civil;
mod copy;
mod csv;
mod folder;
pub(crate) mod parquet;
pub mod pglog;
mod postgres;
pub mod reconcile;
mod sql;
mod tls;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use countersign_masker::filter::{Condition, Literal, Predicate};
use countersign_masker::frame::Clear;
use countersign_masker::plan::Plan;
use countersign_masker::schema::{ColumnType, TableSchema};
use polars::prelude::DataFrame;
use secrecy::SecretString;

/// What it takes to open a store. The caller has already read the credential from its file or variable.
#[derive(Debug)]
pub enum ConnectionSpec {
    /// A PostgreSQL database, 13 or newer.
    ///
    /// `postgres://user:password@host:port/database?…` with the parameters of libpq that tokio-postgres knows. `sslmode` decides
    /// about TLS, more strictly than libpq does:
    ///
    /// | `sslmode` | what happens |
    /// | --- | --- |
    /// | `require`, `verify-ca`, `verify-full` | TLS; certificate chain *and* host name are always verified |
    /// | `disable` | no TLS, whatever the host: the operator's explicit choice |
    /// | `prefer`, or none | no TLS to a loopback address or Unix socket; any other host is refused with advice |
    /// | `allow` | refused |
    ///
    /// `sslrootcert=FILE` (PEM) names the only authorities to trust; without it, or with `system`, those of the operating system.
    Postgres {
        /// The URL, password included.
        url: SecretString,
    },
    /// A folder in which the table `people` is `people.parquet`, `people.csv`, or a folder `people` of Parquet files.
    Folder {
        /// The folder.
        path: PathBuf,
    },
}

/// An opened store.
pub enum Source {
    /// A PostgreSQL database.
    Postgres(Box<PostgresSource>),
    /// A folder of files.
    Folder(FolderSource),
}

pub use folder::FolderSource;
pub use postgres::PostgresSource;

impl fmt::Debug for Source {
    /// Names the kind of store only: what is behind it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres(_) => "Postgres(…)",
            Self::Folder(_) => "Folder(…)",
        })
    }
}

impl Source {
    /// Checks what can be checked without touching the store's data: that the URL is well formed and its TLS settings safe, that
    /// the folder is there.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`], saying what to change.
    pub fn open(spec: ConnectionSpec) -> Result<Self, SourceError> {
        Ok(match spec {
            ConnectionSpec::Postgres { url } => Self::Postgres(Box::new(PostgresSource::open(&url)?)),
            ConnectionSpec::Folder { path } => Self::Folder(FolderSource::open(&path)?),
        })
    }

    /// Names and types of the columns of `table`, in the store's order. Reads no rows.
    ///
    /// In PostgreSQL a table is `schema.table`, cut at the first dot. `stated` are the types that the catalog states: CSV columns
    /// have those, or are text; the types of PostgreSQL and Parquet columns are their own. A column whose type cannot be
    /// represented stands as [`ColumnType::Unsupported`] with the name of its type, and is refused when it is asked for.
    ///
    /// A folder remembers the types it gave here, since a plan doesn't repeat those of columns that it only filters by: ask the
    /// same `Source` for the schema before preparing, and keep it for as long as its connection.
    ///
    /// # Errors
    /// `unknown_table`, `source_unavailable`, `source_timeout`, `source_failed`, `malformed_source`.
    pub async fn schema(&self, table: &str, stated: &HashMap<String, ColumnType>) -> Result<TableSchema, SourceError> {
        match self {
            Self::Postgres(source) => source.schema(table).await,
            Self::Folder(source) => source.schema(table, stated).await,
        }
    }

    /// Lets go of connections that the calling thread has kept and not used for ten seconds.
    pub async fn rest(&self) {
        if let Self::Postgres(source) = self {
            source.rest().await;
        }
    }

    /// The names of all tables that could be read, sorted, as catalogs write them after the connection. Reads no rows.
    ///
    /// # Errors
    /// `source_unavailable`, `source_timeout`, `source_failed`.
    pub async fn tables(&self) -> Result<Vec<String>, SourceError> {
        match self {
            Self::Postgres(source) => source.tables().await,
            Self::Folder(source) => source.tables().await,
        }
    }

    /// Opens the read-only transaction (PostgreSQL) or pins the files by name, size and time of change (folder), checks that the
    /// table still has the columns of `plan`, and fixes the statement. The statement is not sent yet.
    ///
    /// `trace` is the request's trace id in hex; it stands as a comment in the SQL so that the server's own log can be reconciled
    /// with the ledger.
    ///
    /// # Errors
    /// `unknown_table`, `schema_changed` (a column is gone or has another type), `unsupported_type`, `source_unavailable`,
    /// `source_timeout`, `source_failed`, `malformed_source`.
    pub async fn prepare(&self, trace: &str, table: &str, plan: &Plan) -> Result<Prepared, SourceError> {
        if trace.is_empty() || trace.len() > 128 || !trace.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(SourceError::Failed("the trace id is not hex".to_owned()));
        }
        if plan.columns.is_empty() {
            return Err(SourceError::Failed("the plan asks for no column".to_owned()));
        }
        Ok(Prepared(match self {
            Self::Postgres(source) => Inner::Postgres(source.prepare(trace, table, plan).await?),
            Self::Folder(source) => Inner::Folder(source.prepare(table, plan).await?),
        }))
    }
}

/// A statement that is fixed but not sent, with the snapshot it will see. Dropping it ends the transaction.
pub struct Prepared(Inner);

enum Inner {
    Postgres(postgres::PreparedCopy),
    Folder(folder::PreparedScan),
}

impl fmt::Debug for Prepared {
    /// Shows neither statement nor values: both may hold what a filter asks for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared(…)")
    }
}

impl Prepared {
    /// What will be asked, exactly and completely, as one JSON object: for PostgreSQL `{"sql", "values"}`, the SQL text and the
    /// values bound to its `countersign.p1`, `countersign.p2`, …; for a folder `{"files", "columns", "filter", "order_by",
    /// "limit"}`. It contains filter values, so it belongs behind a commitment.
    pub fn statement(&self) -> &str {
        match &self.0 {
            Inner::Postgres(copy) => copy.statement(),
            Inner::Folder(scan) => scan.statement(),
        }
    }

    /// Which state of the store the rows come from: PostgreSQL's `pg_current_snapshot()`, or the SHA-256 over the files' names,
    /// sizes and times of change.
    pub fn snapshot(&self) -> &str {
        match &self.0 {
            Inner::Postgres(copy) => copy.snapshot(),
            Inner::Folder(scan) => scan.snapshot(),
        }
    }

    /// Sends the statement and fetches the rows: exactly the plan's columns, in its order, each of the type that
    /// [`ColumnType::dtype`] names. The plan's limits on rows, bytes and seconds hold while the rows arrive.
    ///
    /// # Errors
    /// `too_many_rows`, `too_many_bytes`, `source_timeout`, `source_unavailable` (the connection broke), `schema_changed`,
    /// `malformed_source`, `source_failed`.
    pub async fn run(self) -> Result<Clear, SourceError> {
        self.frame().await.map(Clear::new)
    }

    /// The rows themselves, which outside of this module only the masker sees.
    async fn frame(self) -> Result<DataFrame, SourceError> {
        match self.0 {
            Inner::Postgres(copy) => copy.run().await,
            Inner::Folder(scan) => scan.run().await,
        }
    }
}

/// Why a source gave no rows.
///
/// INVARIANT: no variant ever holds a cell, a filter value or a credential, nor text that a store wrote about one: a database's
/// error message may quote cells, so only its SQLSTATE is kept. Names of tables, columns, types and files may stand here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no such table, or its name is not a name.
    #[error("table `{0}` is unknown")]
    UnknownTable(String),
    /// A column of the plan is gone or has another type than the plan was made for.
    #[error("column `{column}`: found {found}, required {required}")]
    SchemaChanged {
        /// The column.
        column: String,
        /// What the store has now.
        found: String,
        /// What the plan was made for.
        required: String,
    },
    /// A column that is asked for has a type without a representation.
    #[error("column `{column}` has the type `{ty}`, which is not supported")]
    UnsupportedType {
        /// The column.
        column: String,
        /// The store's own name of the type.
        ty: String,
    },
    /// The store cannot be reached, refuses us, or went away.
    #[error("{0}")]
    Unavailable(String),
    /// Reading was broken off from outside, as when the service is stopped: it is to be done again.
    #[error("{0}")]
    Interrupted(String),
    /// The plan's seconds ran out.
    #[error("the source took longer than {seconds} s")]
    Timeout {
        /// The plan's limit.
        seconds: u64,
    },
    /// The store refused or broke off the statement.
    #[error("{0}")]
    Failed(String),
    /// More rows match than the plan allows.
    #[error("found more than {max} rows, allowed {max}")]
    TooManyRows {
        /// The plan's limit.
        max: u64,
    },
    /// The rows are larger than the plan allows: bytes on the wire from PostgreSQL, bytes in memory from files.
    #[error("found {found} bytes or more, allowed {max}")]
    TooManyBytes {
        /// How far the reading had come.
        found: u64,
        /// The plan's limit.
        max: u64,
    },
    /// What the store sent, or what stands in the file, breaks its own format or types.
    #[error("{0}")]
    Malformed(String),
}

impl SourceError {
    /// The stable reason code of the error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownTable(_) => "unknown_table",
            Self::SchemaChanged { .. } => "schema_changed",
            Self::UnsupportedType { .. } => "unsupported_type",
            Self::Unavailable(_) | Self::Interrupted(_) => "source_unavailable",
            Self::Timeout { .. } => "source_timeout",
            Self::Failed(_) => "source_failed",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::TooManyBytes { .. } => "too_many_bytes",
            Self::Malformed(_) => "malformed_source",
        }
    }
}

/// How many rows a COPY stream of these columns holds, in whatever portions it comes: a way to the decoder for fuzzing, and
/// out of it comes no cell.
///
/// # Errors
/// As [`Prepared::run`].
#[doc(hidden)]
pub fn copy_rows(columns: &[(String, ColumnType)], portions: &[&[u8]]) -> Result<usize, SourceError> {
    let mut decoder = copy::CopyDecoder::new(columns, 1_000, 1 << 20)?;
    for portion in portions {
        decoder.push(portion)?;
    }
    Ok(decoder.finish()?.height())
}

/// How many rows to ask a store for: the plan's limit, and one row more than allowed where that is less, so that *too many* is
/// noticed rather than cut off.
fn rows_to_ask(plan: &Plan) -> u64 {
    let one_too_many = plan.max_rows.saturating_add(1);
    plan.limit.map_or(one_too_many, |limit| limit.min(one_too_many))
}

/// Checks a plan against the table as it is now: every column that it touches is there and has a representation, those that it
/// fetches have the types that it was made for, and those that it filters by have the types of its values. `now` gives a
/// column's present type.
fn check_plan(plan: &Plan, now: &dyn Fn(&str) -> Option<ColumnType>) -> Result<(), SourceError> {
    let gone = |column: &str, required: String| SourceError::SchemaChanged {
        column: column.to_owned(),
        found: "no such column".to_owned(),
        required,
    };
    for (column, required) in &plan.columns {
        let found = now(column).ok_or_else(|| gone(column, required.to_string()))?;
        if found != *required {
            let (found, required) = (found.to_string(), required.to_string());
            return Err(SourceError::SchemaChanged { column: column.clone(), found, required });
        }
    }
    if let Some(column) = &plan.order_by {
        now(column).ok_or_else(|| gone(column, "the column to order by".to_owned()))?;
    }
    if let Some(predicate) = &plan.predicate {
        check_condition(predicate, now)?;
    }
    Ok(())
}

fn check_condition(predicate: &Predicate, now: &dyn Fn(&str) -> Option<ColumnType>) -> Result<(), SourceError> {
    let check = |column: &str, values: &[Literal]| {
        let found = now(column);
        let misfit = values.iter().find(|value| !found.as_ref().is_some_and(|ty| compares(ty, value)));
        if found.is_some() && misfit.is_none() {
            return Ok(());
        }
        Err(SourceError::SchemaChanged {
            column: column.to_owned(),
            found: found.map_or_else(|| "no such column".to_owned(), |ty| ty.to_string()),
            required: "the type that the filter was made for".to_owned(),
        })
    };
    match predicate {
        Condition::Compare { column, value, .. } => check(column, std::slice::from_ref(value)),
        Condition::In { column, values } => check(column, values),
        Condition::IsNull { column, .. } => check(column, &[]),
        Condition::And(parts) | Condition::Or(parts) => parts.iter().try_for_each(|part| check_condition(part, now)),
        Condition::Not(part) => check_condition(part, now),
    }
}

/// Whether a value was resolved for a column of type `ty`.
fn compares(ty: &ColumnType, value: &Literal) -> bool {
    match value {
        Literal::Bool(_) => *ty == ColumnType::Bool,
        Literal::Int(value) => ty.int_range().is_some_and(|(min, max)| (min..=max).contains(value)),
        Literal::Float(_) => matches!(ty, ColumnType::Float32 | ColumnType::Float64),
        Literal::Decimal(_) => matches!(ty, ColumnType::Decimal { .. } | ColumnType::Numeric),
        Literal::Text(_) => *ty == ColumnType::Text,
        Literal::Date(_) => *ty == ColumnType::Date,
        Literal::Time(_) => *ty == ColumnType::Time,
        Literal::Timestamp(_) => *ty == ColumnType::Timestamp,
        Literal::TimestampTz(_) => *ty == ColumnType::TimestampTz,
        Literal::Uuid(_) => *ty == ColumnType::Uuid,
    }
}

/// The columns that a plan touches, each once: what it asks for, filters by and orders by.
fn touched(plan: &Plan) -> Vec<String> {
    let mut names: Vec<String> = plan.columns.iter().map(|(name, _)| name.clone()).collect();
    if let Some(predicate) = &plan.predicate {
        names.extend(predicate.columns().into_iter().map(str::to_owned));
    }
    names.extend(plan.order_by.clone());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests;
