//! A look into a table for the catalog: some of its rows are fetched and counted, never shown. It is access to a source like any other,
//! so it has its entry, `source.sampled`, before the query is sent; what comes of it are classes, counts and words.

use crate::http::ask::{ScanQuestion, Scanned};
use crate::identity::Identity;
use crate::pipeline::{Core, Fault};
use crate::source::SourceError;
use countersign_ledger::evidence::step::{Int, SourceSampled};
use countersign_ledger::evidence::{Class, TraceId};
use countersign_ledger::store::{Append, AppendError, Payload};
use countersign_masker::detect::Detectors;
use countersign_masker::propose;
use countersign_masker::{ColumnType, Plan};

/// The most rows of one look.
pub const MAX_ROWS: u64 = 10_000;

/// The most bytes of one look.
const MAX_BYTES: u64 = 64 << 20;

/// The longest that a look may take, in seconds.
const MAX_SECONDS: u64 = 60;

/// Why there is nothing to say.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There is no such connection.
    #[error("no connection `{0}`")]
    Connection(String),
    /// Too many rows, or none.
    #[error("found {0} rows, 1 to {MAX_ROWS} allowed")]
    Rows(u64),
    /// The table has no column that could be fetched.
    #[error("the table has no column of a supported type")]
    NoColumn,
    /// The source gave no rows.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The admin's registration has moved or ended.
    #[error("your registration has changed: try again")]
    Moving,
    /// The service's fault.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Looks into a table. Blocks.
pub fn scan(core: &Core, admin: &Identity, question: &ScanQuestion, now: u64) -> Result<Vec<Scanned>, ScanError> {
    let ScanQuestion { connection, table, rows } = question;
    if !(1..=MAX_ROWS).contains(rows) {
        return Err(ScanError::Rows(*rows));
    }
    let registry = core.registry.load_full();
    let source = core.sources.get(&registry, connection)?.ok_or_else(|| ScanError::Connection(connection.clone()))?;
    let catalog = registry.catalog.as_ref().map(|catalog| &catalog.value);
    let stated = catalog.and_then(|catalog| catalog.stated_types(connection, table)).unwrap_or_default();
    let schema = core.runtime.block_on(source.schema(table, &stated))?;
    // What cannot be fetched is proposed by its name alone.
    let (columns, others): (Vec<_>, Vec<_>) =
        schema.columns.iter().cloned().partition(|(_, column_type)| can_be_fetched(column_type));
    if columns.is_empty() {
        return Err(ScanError::NoColumn);
    }
    let plan = Plan {
        columns: columns.clone(),
        predicate: None,
        order_by: None,
        shuffle: false,
        limit: Some(*rows),
        max_rows: *rows,
        max_bytes: MAX_BYTES,
        max_seconds: MAX_SECONDS,
    };
    let mut name = [0u8; 16];
    getrandom::fill(&mut name).map_err(|e| Fault::Other(format!("no random numbers from the system: {e}")))?;
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let trace = TraceId::sample(&name);
    let prepared = core.runtime.block_on(source.prepare(&trace.to_string(), table, &plan))?;
    let statement = Payload::new(Class::Query, prepared.statement());
    let step = SourceSampled {
        sample: name,
        identity: admin.pseudonym.clone(),
        kid: admin.kid.clone(),
        registered: Int::saturating(admin.registered),
        connection: connection.clone(),
        table: table.clone(),
        columns: columns.iter().map(|(name, _)| name.clone()).collect(),
        rows: Int::saturating(*rows),
        snapshot: prepared.snapshot().into(),
        statement: statement.commitment(),
    };
    let append = Append {
        payloads: vec![statement],
        guards: vec![admin.guard()],
        deadline: Some(admin.not_after),
        ..Append::opening(trace, vec![step.into()])
    };
    match core.ledger.append(append) {
        Ok(_) => {}
        Err(AppendError::GuardMoved { .. } | AppendError::Deadline { .. }) => return Err(ScanError::Moving),
        Err(error) => return Err(Fault::from(error).into()),
    }
    tracing::info!(connection, table, rows, at = now, "a look into a table for the catalog");
    let clear = core.runtime.block_on(prepared.run())?;
    let detectors = catalog.map_or_else(Detectors::default, |catalog| catalog.detectors());
    let mut profiles = propose::profile(clear, &columns, &detectors).map_err(|e| Fault::Other(e.to_string()))?;
    profiles.extend(others.iter().map(|(name, column_type)| propose::Profile::unseen(name, column_type)));
    let place = |name: &String| schema.columns.iter().position(|(column, _)| column == name);
    profiles.sort_by_key(|profile| place(&profile.column));
    let scanned = profiles.iter().map(|profile| {
        let proposal = propose::propose(profile);
        let known = |class: &str| catalog.is_some_and(|catalog| catalog.class_mask(class).is_some());
        Scanned {
            column: profile.column.clone(),
            column_type: profile.column_type.to_string(),
            mask: proposal.class.filter(|class| !known(class)).map(|class| propose::usual_mask(class).to_owned()),
            class: proposal.class.map(str::to_owned),
            confidence: proposal.confidence,
            because: proposal.because,
        }
    });
    Ok(scanned.collect())
}

fn can_be_fetched(column_type: &ColumnType) -> bool {
    !matches!(column_type, ColumnType::Unsupported(_))
}
