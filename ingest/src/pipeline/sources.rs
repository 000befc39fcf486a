//! The connections, opened as the registry describes them and kept while the description stays the same, and what is known of
//! their tables' columns. A schema is looked up before policy is asked, since an unknown column and a forbidden one get the
//! same answer; the lookup reads names and types, never rows.

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

type Open = HashMap<String, (Arc<ConnectionDocument>, Arc<Source>)>;
type Schemas = HashMap<(String, String), (Instant, Arc<ConnectionDocument>, Arc<TableSchema>)>;

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

    /// The columns of a table that the catalog lists, `None` where there is no such connection or table.
    pub async fn schema(
        &self,
        registry: &Registry,
        catalog: &Catalog,
        connection: &str,
        table: &str,
    ) -> Result<Option<Arc<TableSchema>>, SourceError> {
        let Some(document) = registry.connections.get(connection) else { return Ok(None) };
        let Some(stated) = catalog.stated_types(connection, table) else { return Ok(None) };
        let key = (connection.to_string(), table.to_string());
        if let Some((at, known, schema)) = lock(&self.schemas).get(&key)
            && at.elapsed() < FRESH
            && known == document
        {
            return Ok(Some(schema.clone()));
        }
        let Some(source) = self.get(registry, connection)? else { return Ok(None) };
        let schema = match source.schema(table, &stated).await {
            Ok(schema) => Arc::new(schema),
            Err(error) if error.reason() == "unknown_table" => return Ok(None),
            Err(error) => return Err(error),
        };
        lock(&self.schemas).insert(key, (Instant::now(), document.clone(), schema.clone()));
        Ok(Some(schema))
    }

    /// Forgets what is known of the tables: types that a new catalog states must take effect at once.
    pub fn forget_schemas(&self) {
        lock(&self.schemas).clear();
    }
}
