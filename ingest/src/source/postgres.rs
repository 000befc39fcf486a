//! Rows out of PostgreSQL: each prepared statement in a `REPEATABLE READ READ ONLY` transaction of its own, SQL from
//! [`sql`](super::sql) only. A worker keeps the connection for its next transaction, a minute at most. What the server says in
//! its errors and notices may quote cells, so only SQLSTATE codes leave here.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use countersign_masker::plan::Plan;
use countersign_masker::schema::{ColumnType, TableSchema};
use futures_util::TryStreamExt;
use polars::prelude::DataFrame;
use secrecy::SecretString;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Socket};

use super::copy::CopyDecoder;
use super::sql::{self, Statement, TableName};
use super::tls::Target;
use super::{SourceError, check_plan, touched};

/// How long reading a schema may take; reading rows has the plan's own limit.
const SCHEMA_SECONDS: u64 = 30;

/// How much longer than the server's own timeout the client waits for it, so that the server's answer comes first and the
/// client's ends what the server cannot: a connection on which nothing arrives any more.
const GRACE: Duration = Duration::from_secs(2);

/// How long a connection lives: what an administrator changes about who may log in counts a minute later at the latest.
const LIFE: Duration = Duration::from_secs(60);

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(10);

/// A PostgreSQL database.
pub struct PostgresSource {
    target: Target,
    kept: Arc<Kept>,
}

impl PostgresSource {
    pub(super) fn open(url: &SecretString) -> Result<Self, SourceError> {
        Ok(Self { target: Target::parse(url)?, kept: Arc::default() })
    }

    pub(super) async fn schema(&self, table: &str) -> Result<TableSchema, SourceError> {
        let name = TableName::parse(table)?;
        let read = async {
            let link = self.begin(SCHEMA_SECONDS).await?;
            let columns = link.columns(&name, SCHEMA_SECONDS).await?;
            link.end(&self.kept).await;
            Ok(TableSchema { columns: columns.into_iter().map(|column| (column.name, column.ty)).collect() })
        };
        within(SCHEMA_SECONDS, read).await
    }

    pub(super) async fn tables(&self) -> Result<Vec<String>, SourceError> {
        let read = async {
            let link = self.begin(SCHEMA_SECONDS).await?;
            let tables = link.tables(SCHEMA_SECONDS).await?;
            link.end(&self.kept).await;
            Ok(tables)
        };
        within(SCHEMA_SECONDS, read).await
    }

    pub(super) async fn prepare(&self, trace: &str, table: &str, plan: &Plan) -> Result<PreparedCopy, SourceError> {
        let name = TableName::parse(table)?;
        let seconds = plan.max_seconds.max(1);
        let prepare = async {
            let link = self.begin(seconds).await?;
            let snapshot = link.snapshot(seconds).await?;
            let columns = link.columns(&name, seconds).await?;
            check_supported(&columns, plan)?;
            check_plan(plan, &|name| {
                columns.iter().find(|column| column.name == name).map(|column| column.ty.clone())
            })?;
            let statement = sql::statement(trace, &name, &columns, plan)?;
            let text = serde_json::to_string(&statement)
                .map_err(|_| SourceError::Failed("the statement cannot be written".to_owned()))?;
            Ok(PreparedCopy {
                link,
                kept: self.kept.clone(),
                snapshot,
                statement,
                text,
                columns: plan.columns.clone(),
                seconds,
                rows_max: plan.max_rows,
                bytes_max: plan.max_bytes,
            })
        };
        within(seconds, prepare).await
    }

    /// A connection in a new transaction.
    async fn begin(&self, seconds: u64) -> Result<Link, SourceError> {
        let begin = sql::begin(seconds);
        if let Some(link) = self.kept.take().await {
            // It may have died meanwhile. Nothing was asked on it yet, so another one will do.
            let begun = tokio::time::timeout(GRACE, link.client.batch_execute(&begin)).await;
            if matches!(begun, Ok(Ok(()))) {
                return Ok(link);
            }
        }
        let link = match &self.target.tls {
            Some(tls) => Link::connect(&self.target, tls.clone()).await?,
            None => Link::connect(&self.target, NoTls).await?,
        };
        link.client.batch_execute(&begin).await.map_err(|e| Failure::from_now(seconds).why(&e))?;
        Ok(link)
    }

    /// Takes leave of the connection that the calling thread has kept for too long.
    pub(super) async fn rest(&self) {
        if let Some(link) = self.kept.take().await {
            self.kept.put(link);
        }
    }
}

/// Whether the calling thread has a runtime of its own.
fn has_own_runtime() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

/// Connections between two transactions. One for a thread, and for threads alone that have a runtime of their own: a connection
/// moves only while the runtime does on which it was made.
#[derive(Default)]
struct Kept(Mutex<HashMap<ThreadId, Link>>);

impl Kept {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ThreadId, Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calling thread's, unless its time is over.
    async fn take(&self) -> Option<Link> {
        let link = self.lock().remove(&thread::current().id())?;
        if link.is_good() {
            return Some(link);
        }
        link.close().await;
        None
    }

    fn put(&self, link: Link) {
        self.lock().insert(thread::current().id(), link);
    }
}

/// A column as the catalog of the database describes it.
pub(super) struct PgColumn {
    pub(super) name: String,
    /// [`ColumnType::Unsupported`] with the type's own name stands for a type that has no representation.
    pub(super) ty: ColumnType,
    /// Whether `=` on it compares bytes, as it does under every deterministic collation.
    pub(super) equal_is_identical: bool,
}

/// A COPY statement that only waits to be sent, in its open transaction.
pub(super) struct PreparedCopy {
    link: Link,
    kept: Arc<Kept>,
    snapshot: String,
    statement: Statement,
    text: String,
    columns: Vec<(String, ColumnType)>,
    seconds: u64,
    rows_max: u64,
    bytes_max: u64,
}

impl PreparedCopy {
    pub(super) fn statement(&self) -> &str {
        &self.text
    }

    pub(super) fn snapshot(&self) -> &str {
        &self.snapshot
    }

    pub(super) async fn run(self) -> Result<DataFrame, SourceError> {
        let mut decoder = CopyDecoder::new(&self.columns, self.rows_max, self.bytes_max)?;
        let failed = Failure::from_now(self.seconds);
        let client = &self.link.client;
        let copy = async {
            if !self.statement.values.is_empty() {
                let values: &(dyn tokio_postgres::types::ToSql + Sync) = &self.statement.values;
                client.query_typed(sql::BIND, &[(values, Type::TEXT_ARRAY)]).await.map_err(|e| failed.why(&e))?;
            }
            let stream = client.copy_out(self.statement.sql.as_str()).await.map_err(|e| failed.why(&e))?;
            let mut stream = std::pin::pin!(stream);
            while let Some(message) = stream.try_next().await.map_err(|e| failed.why(&e))? {
                decoder.push(&message)?;
            }
            decoder.finish()
        };
        let frame = within(self.seconds, copy).await?;
        self.link.end(&self.kept).await;
        Ok(frame)
    }
}

/// Refuses a plan that touches a column without a representation, by the name of its type.
fn check_supported(columns: &[PgColumn], plan: &Plan) -> Result<(), SourceError> {
    let touched = touched(plan);
    match columns.iter().find(|c| matches!(c.ty, ColumnType::Unsupported(_)) && touched.contains(&c.name)) {
        Some(column) => Err(SourceError::UnsupportedType { column: column.name.clone(), ty: column.ty.to_string() }),
        None => Ok(()),
    }
}

/// A connection in a transaction, or between two. Dropping it drops the connection, whatever the server is doing on it, and so ends
/// the transaction: the server notices when it next writes, at the latest at its statement timeout.
struct Link {
    client: Client,
    driver: Driver,
    opened: Instant,
    /// When its last transaction ended.
    used: Instant,
}

/// The task that moves the connection's bytes.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    async fn connect<T>(target: &Target, tls: T) -> Result<Self, SourceError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, mut connection) = target.config.connect(tls).await.map_err(|e| not_connected(&e))?;
        // Driven by hand because the connection's own future logs notices, and a notice may quote cells.
        let driver = tokio::spawn(async move {
            while let Some(Ok(_)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {}
        });
        let now = Instant::now();
        Ok(Self { client, driver: Driver(driver), opened: now, used: now })
    }

    /// Whether another transaction may begin on it.
    fn is_good(&self) -> bool {
        !self.client.is_closed() && self.opened.elapsed() < LIFE && self.used.elapsed() < IDLE
    }

    /// The id of the transaction's snapshot, which asking for it takes.
    async fn snapshot(&self, seconds: u64) -> Result<String, SourceError> {
        let failed = Failure::from_now(seconds);
        let rows = self.client.query_typed(sql::SNAPSHOT, &[]).await.map_err(|e| failed.why(&e))?;
        rows.first()
            .and_then(|row| row.try_get::<_, String>(0).ok())
            .ok_or_else(|| SourceError::Failed("the database gave no snapshot id".to_owned()))
    }

    /// The tables that this role may read.
    async fn tables(&self, seconds: u64) -> Result<Vec<String>, SourceError> {
        let failed = Failure::from_now(seconds);
        let rows = self.client.query_typed(sql::TABLES, &[]).await.map_err(|e| failed.why(&e))?;
        let names = rows.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<Vec<_>, _>>();
        names.map_err(|_| SourceError::Failed("the database's catalog cannot be read".to_owned()))
    }

    /// The columns of a table.
    async fn columns(&self, table: &TableName, seconds: u64) -> Result<Vec<PgColumn>, SourceError> {
        let failed = Failure::from_now(seconds);
        let rows = self
            .client
            .query_typed(sql::COLUMNS, &[(&table.schema, Type::TEXT), (&table.table, Type::TEXT)])
            .await
            .map_err(|e| failed.why(&e))?;
        if rows.is_empty() {
            return Err(SourceError::UnknownTable(table.to_string()));
        }
        rows.iter()
            .map(|row| {
                let ty = sql::PgType {
                    name: row.try_get("type")?,
                    builtin: row.try_get("builtin")?,
                    is_enum: row.try_get("is_enum")?,
                    modifier: row.try_get("modifier")?,
                    element: row.try_get("element")?,
                    element_builtin: row.try_get("element_builtin")?,
                    element_is_enum: row.try_get("element_is_enum")?,
                };
                Ok(PgColumn {
                    name: row.try_get("name")?,
                    ty: ty.column_type(),
                    equal_is_identical: row.try_get("deterministic")?,
                })
            })
            .collect::<Result<_, tokio_postgres::Error>>()
            .map_err(|_| SourceError::Failed("the database's catalog cannot be read".to_owned()))
    }

    /// Ends the transaction, and keeps the connection if it may be used once more. There was nothing to commit, so a failure here
    /// changes nothing.
    async fn end(mut self, kept: &Kept) {
        let ended = tokio::time::timeout(GRACE, self.client.batch_execute(sql::END)).await;
        self.used = Instant::now();
        if matches!(ended, Ok(Ok(()))) && self.is_good() && has_own_runtime() {
            kept.put(self);
        } else {
            self.close().await;
        }
    }

    /// Takes leave, so that the server's log shows no broken connection.
    async fn close(self) {
        let Self { client, mut driver, .. } = self;
        drop(client);
        let _ = tokio::time::timeout(GRACE, &mut driver.0).await;
    }
}

/// Runs `work` for at most `seconds` and a little.
async fn within<T>(seconds: u64, work: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    let limit = Duration::from_secs(seconds).saturating_add(GRACE);
    tokio::time::timeout(limit, work).await.unwrap_or(Err(SourceError::Timeout { seconds }))
}

/// Turns what the driver reports about a statement into an error without the server's words.
struct Failure {
    since: Instant,
    seconds: u64,
}

impl Failure {
    fn from_now(seconds: u64) -> Self {
        Self { since: Instant::now(), seconds }
    }

    fn why(&self, error: &tokio_postgres::Error) -> SourceError {
        let Some(code) = error.code() else {
            // No answer of the server's: the connection broke, or what came over it was not PostgreSQL's protocol.
            return SourceError::Unavailable("the connection to the database broke".to_owned());
        };
        let state = code.code();
        // A timeout and a cancellation by an operator have the same code, and texts that depend on the server's language.
        if *code == SqlState::QUERY_CANCELED && self.since.elapsed() >= Duration::from_secs(self.seconds).mul_f32(0.9) {
            return SourceError::Timeout { seconds: self.seconds };
        }
        match (code, state.get(..2)) {
            (&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::CANNOT_COERCE, _) => {
                SourceError::SchemaChanged {
                    column: "*".to_owned(),
                    found: format!("a table that the statement no longer fits (SQLSTATE {state})"),
                    required: "the table that was planned for".to_owned(),
                }
            }
            (&SqlState::INSUFFICIENT_PRIVILEGE, _) => {
                SourceError::Failed(format!("the database role may not read the table (SQLSTATE {state})"))
            }
            // Connection exceptions, operator intervention, insufficient resources: the server's trouble, not the statement's.
            (_, Some("08" | "53" | "57")) => {
                SourceError::Unavailable(format!("the database broke off the statement (SQLSTATE {state})"))
            }
            _ => SourceError::Failed(format!("the database refused the statement (SQLSTATE {state})")),
        }
    }
}

/// Why no connection came about. The server's words are replaced, but the operating system's and the TLS library's are kept: they
/// know neither the URL nor a cell.
fn not_connected(error: &tokio_postgres::Error) -> SourceError {
    let what = match error.code().map(SqlState::code) {
        Some(code @ ("28P01" | "28000")) => format!("the database refused user or password (SQLSTATE {code})"),
        Some("3D000") => "the database of the connection url does not exist (SQLSTATE 3D000)".to_owned(),
        Some(code) => format!("the database refused the connection (SQLSTATE {code})"),
        None => {
            let mut cause = error.source();
            let mut words = "the connection failed".to_owned();
            while let Some(error) = cause {
                if error.is::<std::io::Error>() || error.is::<rustls::Error>() {
                    words = error.to_string();
                }
                cause = error.source();
            }
            format!("the database cannot be reached: {words}")
        }
    };
    SourceError::Unavailable(what)
}
