//! The connections, opened as the registry describes them and kept while the description stays the same, and what is known of
//! their tables' columns. A schema is looked up before policy gives its answer, since an unknown column and a forbidden one get
//! the same; the lookup reads names and types, never rows. It is made for those alone who may read what they name, and what it
//! comes to is remembered, a failure too, so that nobody can have a source asked as often as he likes.

use crate::identity::Registry;
use crate::identity::change::{ConnectionDocument, StoreDocument};
use crate::source::{ConnectionSpec, Source, SourceError};
use countersign_masker::catalog::Catalog;
use countersign_masker::schema::TableSchema;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a schema is taken for true. A fetch checks the types it meets, so a stale one is found out.
const FRESH: Duration = Duration::from_secs(30);

/// How long it is taken for true that there is no such table, or that the source does not answer.
const FAILED: Duration = Duration::from_secs(2);

type Open = HashMap<String, (Arc<ConnectionDocument>, Arc<Source>)>;
type Schemas = HashMap<(String, String), (Instant, Arc<ConnectionDocument>, Found)>;

/// What a lookup came to.
#[derive(Clone)]
enum Found {
    Table(Arc<TableSchema>),
    NoTable,
    Failed(String),
}

impl Found {
    fn is_fresh(&self, since: Instant) -> bool {
        since.elapsed() < if matches!(self, Self::Table(_)) { FRESH } else { FAILED }
    }

    fn answer(self) -> Result<Option<Arc<TableSchema>>, SourceError> {
        match self {
            Self::Table(schema) => Ok(Some(schema)),
            Self::NoTable => Ok(None),
            Self::Failed(why) => Err(SourceError::Unavailable(why)),
        }
    }
}

/// All open connections.
#[derive(Default)]
pub struct Sources {
    open: Mutex<Open>,
    schemas: Mutex<Schemas>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The maps hold whole values only, so one that another thread left behind while it panicked is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sources {
    /// The source behind a registered connection, `None` where there is no such connection.
    pub fn get(&self, registry: &Registry, connection: &str) -> Result<Option<Arc<Source>>, SourceError> {
        let Some(document) = registry.connections.get(connection) else { return Ok(None) };
        if let Some((known, source)) = lock(&self.open).get(connection)
            && known == document
        {
            return Ok(Some(source.clone()));
        }
        let spec = match &document.store {
            StoreDocument::Folder { path } => ConnectionSpec::Folder { path: path.clone() },
            StoreDocument::Postgres { url } => match url.resolve() {
                Ok(url) => ConnectionSpec::Postgres { url },
                Err(error) => {
                    tracing::error!(connection, %error, "the credential cannot be read");
                    return Err(SourceError::Unavailable("the credential cannot be read".into()));
                }
            },
        };
        let source = Arc::new(Source::open(spec)?);
        lock(&self.open).insert(connection.into(), (document.clone(), source.clone()));
        Ok(Some(source))
    }

    /// Lets go of connections that the calling thread has kept and does not use.
    pub async fn rest(&self) {
        let open: Vec<Arc<Source>> = lock(&self.open).values().map(|(_, source)| source.clone()).collect();
        for source in open {
            source.rest().await;
        }
    }

    /// The columns of a table that the catalog lists, `None` where there is no such connection or table. The source is asked
    /// only if nothing is known and `wanted` says that it is worth asking; otherwise there is no such table.
    pub async fn schema(
        &self,
        registry: &Registry,
        catalog: &Catalog,
        connection: &str,
        table: &str,
        wanted: impl FnOnce() -> bool,
    ) -> Result<Option<Arc<TableSchema>>, SourceError> {
        let Some(document) = registry.connections.get(connection) else { return Ok(None) };
        let Some(stated) = catalog.stated_types(connection, table) else { return Ok(None) };
        let key = (connection.to_string(), table.to_string());
        if let Some((at, known, found)) = lock(&self.schemas).get(&key)
            && found.is_fresh(*at)
            && known == document
        {
            return found.clone().answer();
        }
        if !wanted() {
            return Ok(None);
        }
        let asked = async {
            let Some(source) = self.get(registry, connection)? else { return Ok(None) };
            source.schema(table, &stated).await.map(Some)
        };
        let found = match asked.await {
            Ok(Some(schema)) => Found::Table(Arc::new(schema)),
            Ok(None) => return Ok(None),
            Err(error) if error.reason() == "unknown_table" => Found::NoTable,
            Err(error) => {
                tracing::warn!(connection, table, %error, "the columns of a table cannot be read");
                Found::Failed(error.to_string())
            }
        };
        lock(&self.schemas).insert(key, (Instant::now(), document.clone(), found.clone()));
        found.answer()
    }

    /// Forgets what is known of the tables: types that a new catalog states must take effect at once.
    pub fn forget_schemas(&self) {
        lock(&self.schemas).clear();
    }
}
