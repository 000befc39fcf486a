//! Tables that are files: `people.parquet`, `people.csv`, or a folder `people` of Parquet files with one schema. Nothing outside
//! the folder is ever read, whatever a table's name or a symbolic link says. Files are read in slices, filtered slice by slice,
//! so that memory follows the plan's limits and not the file's size.
//!
//! A file is expected to be replaced (written beside and renamed), never rewritten in place: one that changed between pinning and
//! the end of reading is refused.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use countersign_masker::filter::to_polars;
use countersign_masker::plan::Plan;
use countersign_masker::schema::{ColumnType, TableSchema};
use polars::prelude::{
    BinaryChunkedBuilder, Column, DataFrame, DataType, IntoColumn, IntoLazy, IntoSeries, PolarsError, PolarsResult,
    SortMultipleOptions, StringChunkedBuilder, col,
};
use sha2::{Digest, Sha256};

use super::csv::CsvReader;
use super::parquet::{self, ParquetRows};
use super::{SourceError, check_plan, rows_to_ask, touched};

/// How many more rows than asked for are collected before an ordered scan throws away those that will not be among the first.
const TRIM_ROWS: u64 = 65_536;

/// A folder of files.
pub struct FolderSource {
    /// Canonical, so that a path can be held against it.
    root: PathBuf,
    /// The schema that was last given of each table: a plan doesn't repeat the types of CSV columns that it only filters by.
    schemas: Mutex<HashMap<String, TableSchema>>,
}

impl FolderSource {
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let root = fs::canonicalize(path).ok().filter(|root| root.is_dir()).ok_or_else(|| {
            SourceError::Unavailable(format!("`{}` is not a folder that can be read", path.display()))
        })?;
        Ok(Self { root, schemas: Mutex::default() })
    }

    pub(super) async fn tables(&self) -> Result<Vec<String>, SourceError> {
        let root = self.root.clone();
        blocking(move || {
            let unreadable = |error: std::io::Error| SourceError::Unavailable(format!("the folder: {error}"));
            let mut names = Vec::new();
            for entry in fs::read_dir(&root).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                let is_file = path.extension().is_some_and(|ending| ending == "parquet" || ending == "csv");
                let name = path.file_stem().and_then(|name| name.to_str()).filter(|_| is_file || path.is_dir());
                // What is no table under its name is left out, as a request for it would be refused.
                names.extend(name.filter(|name| Files::find(&root, name).is_ok()).map(str::to_owned));
            }
            names.sort_unstable();
            names.dedup();
            Ok(names)
        })
        .await
    }

    pub(super) async fn schema(
        &self,
        table: &str,
        stated: &HashMap<String, ColumnType>,
    ) -> Result<TableSchema, SourceError> {
        let (root, name, stated) = (self.root.clone(), table.to_owned(), stated.clone());
        let schema = blocking(move || Files::find(&root, &name)?.schema(&stated)).await?;
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        schemas.insert(table.to_owned(), schema.clone());
        Ok(schema)
    }

    pub(super) async fn prepare(&self, table: &str, plan: &Plan) -> Result<PreparedScan, SourceError> {
        let (root, name, plan) = (self.root.clone(), table.to_owned(), plan.clone());
        let mut stated: HashMap<String, ColumnType> = plan.columns.iter().cloned().collect();
        {
            let schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
            let known = schemas.get(table).map(|schema| schema.columns.clone()).unwrap_or_default();
            for (column, ty) in known {
                stated.entry(column).or_insert(ty);
            }
        }
        blocking(move || PreparedScan::new(Files::find(&root, &name)?, &stated, plan)).await
    }
}

/// The files of one table, pinned.
enum Files {
    Parquet(Vec<Pinned>),
    Csv(Pinned),
}

impl Files {
    /// Finds the files of a table.
    fn find(root: &Path, table: &str) -> Result<Self, SourceError> {
        let unknown = || SourceError::UnknownTable(table.to_owned());
        if table.is_empty() || !table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(unknown());
        }
        let parquet = root.join(format!("{table}.parquet"));
        let csv = root.join(format!("{table}.csv"));
        let folder = root.join(table);
        let there = |path: &Path| path.symlink_metadata().is_ok();
        match (there(&parquet), there(&csv), there(&folder)) {
            (true, false, false) => Ok(Self::Parquet(vec![Pinned::pin(root, &parquet).map_err(|e| e.of(&unknown))?])),
            (false, true, false) => Ok(Self::Csv(Pinned::pin(root, &csv).map_err(|e| e.of(&unknown))?)),
            (false, false, true) => Self::parts(root, &folder, table),
            (false, false, false) => Err(unknown()),
            _ => Err(SourceError::Malformed(format!(
                "table `{table}` exists twice, as a file or folder of different kinds"
            ))),
        }
    }

    /// The Parquet files in the folder `folder`, sorted by name. Files of other kinds are not part of the table; a folder inside
    /// is refused, since leaving out a partition would leave out rows in silence.
    fn parts(root: &Path, folder: &Path, table: &str) -> Result<Self, SourceError> {
        let unknown = || SourceError::UnknownTable(table.to_owned());
        let inside = fs::canonicalize(folder).is_ok_and(|path| path.starts_with(root) && path.is_dir());
        if !inside {
            return Err(unknown());
        }
        let unreadable = |error: std::io::Error| SourceError::Unavailable(format!("`{table}`: {error}"));
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.is_dir() {
                return Err(SourceError::Malformed(format!(
                    "`{table}` holds a folder, and partitions are not supported"
                )));
            }
            if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(Pinned::pin(root, &path).map_err(|e| e.of(&unknown))?);
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if files.is_empty() { Err(unknown()) } else { Ok(Self::Parquet(files)) }
    }

    fn all(&self) -> &[Pinned] {
        match self {
            Self::Parquet(files) => files,
            Self::Csv(file) => std::slice::from_ref(file),
        }
    }

    fn schema(&self, stated: &HashMap<String, ColumnType>) -> Result<TableSchema, SourceError> {
        let columns = match self {
            Self::Csv(file) => {
                let reader = CsvReader::open(&file.name, BufReader::new(file.open()?), u64::MAX)?;
                let ty = |name: &String| stated.get(name).cloned().unwrap_or(ColumnType::Text);
                reader.header().iter().map(|name| (name.clone(), ty(name))).collect()
            }
            Self::Parquet(files) => {
                let mut first: Option<Vec<(String, ColumnType)>> = None;
                for file in files {
                    let columns = parquet::columns(&file.name, file.open()?)?;
                    match &first {
                        None => first = Some(columns),
                        Some(first) => same_columns(first, &columns, &file.name)?,
                    }
                }
                first.unwrap_or_default()
            }
        };
        Ok(TableSchema { columns })
    }
}

/// Checks that a file has the columns of the table's first file, in any order.
fn same_columns(
    first: &[(String, ColumnType)],
    columns: &[(String, ColumnType)],
    file: &str,
) -> Result<(), SourceError> {
    if columns.len() != first.len() {
        let (found, required) = (columns.len(), first.len());
        let what = format!("`{file}`: found {found} columns, required the {required} of the table's first file");
        return Err(SourceError::Malformed(what));
    }
    match first.iter().find(|column| !columns.contains(column)) {
        Some((name, ty)) => Err(SourceError::Malformed(format!(
            "`{file}` has no column `{name}` of the type {ty}, which the table's first file has"
        ))),
        None => Ok(()),
    }
}

/// A file as it was when it was found.
struct Pinned {
    path: PathBuf,
    name: String,
    size: u64,
    changed: SystemTime,
}

/// Why a file cannot be pinned.
enum PinError {
    /// It is not a file, or not in the folder.
    Outside,
    Io(String),
}

impl PinError {
    /// A file outside the folder is answered like one that isn't there.
    fn of(self, unknown: &dyn Fn() -> SourceError) -> SourceError {
        match self {
            Self::Outside => unknown(),
            Self::Io(what) => SourceError::Unavailable(what),
        }
    }
}

impl Pinned {
    fn pin(root: &Path, path: &Path) -> Result<Self, PinError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = fs::canonicalize(path).map_err(|_| PinError::Outside)?;
        if !path.starts_with(root) {
            return Err(PinError::Outside);
        }
        let io = |error: std::io::Error| PinError::Io(format!("`{name}`: {error}"));
        let metadata = fs::metadata(&path).map_err(io)?;
        if !metadata.is_file() {
            return Err(PinError::Outside);
        }
        let changed = metadata.modified().map_err(io)?;
        Ok(Self { path, size: metadata.len(), changed, name })
    }

    /// Opens the file, if it is still the one that was pinned.
    fn open(&self) -> Result<File, SourceError> {
        let file =
            File::open(&self.path).map_err(|error| SourceError::Unavailable(format!("`{}`: {error}", self.name)))?;
        self.check(&file)?;
        Ok(file)
    }

    /// Refuses a file that changed since it was pinned.
    fn check(&self, file: &File) -> Result<(), SourceError> {
        let same = file
            .metadata()
            .is_ok_and(|now| now.len() == self.size && now.modified().is_ok_and(|at| at == self.changed));
        if same { Ok(()) } else { Err(SourceError::Failed(format!("`{}` changed while it was being read", self.name))) }
    }

    /// Time of the last change, in nanoseconds since 1970.
    fn changed_ns(&self) -> u128 {
        self.changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
    }
}

/// What a scan asks for, as it is recorded.
#[derive(serde::Serialize)]
struct Statement<'a> {
    files: Vec<&'a str>,
    columns: Vec<&'a str>,
    filter: Option<String>,
    order_by: Option<&'a str>,
    limit: u64,
}

/// A scan that only waits to be run.
pub(super) struct PreparedScan {
    files: Files,
    /// Name and type of every column that is read, for the result, the filter or the order.
    columns: Vec<(String, ColumnType)>,
    plan: Plan,
    text: String,
    snapshot: String,
}

impl PreparedScan {
    fn new(files: Files, stated: &HashMap<String, ColumnType>, plan: Plan) -> Result<Self, SourceError> {
        let schema = files.schema(stated)?;
        let mut columns = Vec::new();
        for name in touched(&plan) {
            let Some(ty) = schema.column_type(&name) else { continue };
            // Files compare a numeric by its text, which is not by its value.
            let by_value = plan.order_by.as_ref() == Some(&name)
                || plan.predicate.as_ref().is_some_and(|predicate| predicate.columns().contains(name.as_str()));
            let ty = match ty {
                ColumnType::Unsupported(what) => {
                    return Err(SourceError::UnsupportedType { column: name, ty: what.clone() });
                }
                ColumnType::Numeric if by_value => {
                    return Err(SourceError::UnsupportedType {
                        column: name,
                        ty: "numeric, in a filter or order".to_owned(),
                    });
                }
                ty => ty,
            };
            columns.push((name, ty.clone()));
        }
        check_plan(&plan, &|name| schema.column_type(name).cloned())?;
        let statement = Statement {
            files: files.all().iter().map(|file| file.name.as_str()).collect(),
            columns: plan.columns.iter().map(|(name, _)| name.as_str()).collect(),
            filter: plan.predicate.as_ref().map(ToString::to_string),
            order_by: plan.order_by.as_deref(),
            limit: rows_to_ask(&plan),
        };
        let text = serde_json::to_string(&statement).map_err(|_| failed("the statement cannot be written"))?;
        let mut hash = Sha256::new();
        for file in files.all() {
            hash.update(format!("{}\0{}\0{}\n", file.name, file.size, file.changed_ns()));
        }
        let snapshot = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { files, columns, plan, text, snapshot })
    }

    pub(super) fn statement(&self) -> &str {
        &self.text
    }

    pub(super) fn snapshot(&self) -> &str {
        &self.snapshot
    }

    pub(super) async fn run(self) -> Result<DataFrame, SourceError> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let _guard = Abandon(Arc::clone(&abandoned));
        let seconds = self.plan.max_seconds.max(1);
        let started = Instant::now();
        let go_on = move || {
            let late = abandoned.load(Ordering::Relaxed) || started.elapsed() >= Duration::from_secs(seconds);
            if late { Err(SourceError::Timeout { seconds }) } else { Ok(()) }
        };
        blocking(move || self.scan(&go_on)).await
    }

    /// Reads until enough is there or `go_on`, asked before every slice, says no.
    pub(super) fn scan(self, go_on: &dyn Fn() -> Result<(), SourceError>) -> Result<DataFrame, SourceError> {
        let Self { files, columns, plan, .. } = self;
        let mut rows = Rows::new(&plan, &columns);
        match &files {
            Files::Csv(pinned) => {
                let file = pinned.open()?;
                let input =
                    file.try_clone().map_err(|e| SourceError::Unavailable(format!("`{}`: {e}", pinned.name)))?;
                let mut reader = CsvReader::open(&pinned.name, BufReader::new(input), plan.max_bytes)?;
                while !rows.enough() {
                    go_on()?;
                    match reader.next_frame(&columns)? {
                        Some(frame) => rows.add(frame)?,
                        None => break,
                    }
                }
                pinned.check(&file)?;
            }
            Files::Parquet(parts) => {
                for pinned in parts {
                    if rows.enough() {
                        break;
                    }
                    let file = pinned.open()?;
                    let opened =
                        file.try_clone().map_err(|e| SourceError::Unavailable(format!("`{}`: {e}", pinned.name)))?;
                    let mut reader = ParquetRows::open(&pinned.name, opened, &columns, plan.max_seconds.max(1))?;
                    while !rows.enough() {
                        go_on()?;
                        match reader.next_frame()? {
                            Some(frame) => rows.add(frame)?,
                            None => break,
                        }
                    }
                    pinned.check(&file)?;
                }
            }
        }
        rows.finish()
    }
}

/// Tells the blocking scan to stop once nobody waits for it any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The rows that match so far.
struct Rows<'a> {
    plan: &'a Plan,
    /// The columns that are kept: the plan's, then the key, if it is not one of them.
    kept: Vec<&'a str>,
    asked: u64,
    frame: Option<DataFrame>,
    columns: &'a [(String, ColumnType)],
}

impl<'a> Rows<'a> {
    fn new(plan: &'a Plan, columns: &'a [(String, ColumnType)]) -> Self {
        let mut kept: Vec<&str> = plan.columns.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(key) = plan.order_by.as_deref().filter(|key| !kept.contains(key)) {
            kept.push(key);
        }
        Self { plan, kept, asked: rows_to_ask(plan), frame: None, columns }
    }

    fn len(&self) -> u64 {
        self.frame.as_ref().map_or(0, |frame| frame.height() as u64)
    }

    /// Whether reading on can change nothing.
    fn enough(&self) -> bool {
        // A limit's first rows in order are known only at the end; without a limit, too many are too many.
        let ordered = self.plan.order_by.is_some() && self.plan.limit.is_some();
        !ordered && self.len() >= self.asked
    }

    /// Takes the matching rows of a slice.
    fn add(&mut self, slice: DataFrame) -> Result<(), SourceError> {
        let mut matching = slice.lazy();
        if let Some(predicate) = &self.plan.predicate {
            matching = matching.filter(to_polars(predicate));
        }
        let kept: Vec<_> = self.kept.iter().map(|name| col(*name)).collect();
        // polars may quote cells in its errors, so none of its words go on.
        let matching =
            matching.select(kept).collect().and_then(compact).map_err(|_| failed("the filter cannot be applied"))?;
        match &mut self.frame {
            None => self.frame = Some(matching),
            Some(frame) => {
                frame.vstack_mut(&matching).map_err(|_| failed("the slices do not have the same columns"))?;
            }
        }
        if self.plan.order_by.is_some() && self.len() >= self.asked.saturating_add(TRIM_ROWS) {
            self.sort()?;
        }
        let found = self.frame.as_ref().map_or(0, DataFrame::estimated_size) as u64;
        if found > self.plan.max_bytes {
            return Err(SourceError::TooManyBytes { found, max: self.plan.max_bytes });
        }
        Ok(())
    }

    /// Orders the rows, nulls last as in PostgreSQL, and keeps the first that were asked for.
    fn sort(&mut self) -> Result<(), SourceError> {
        if let (Some(frame), Some(key)) = (&mut self.frame, &self.plan.order_by) {
            let options = SortMultipleOptions::default().with_nulls_last(true).with_maintain_order(true);
            let first = usize::try_from(self.asked).unwrap_or(usize::MAX);
            *frame = frame
                .sort([key.as_str()], options)
                .and_then(|sorted| compact(sorted.head(Some(first))))
                .map_err(|_| failed("the rows cannot be ordered"))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<DataFrame, SourceError> {
        self.sort()?;
        let frame = match self.frame {
            Some(frame) => frame.head(usize::try_from(self.asked).ok()),
            None => empty(&self.kept, self.columns)?,
        };
        if frame.height() as u64 > self.plan.max_rows {
            return Err(SourceError::TooManyRows { max: self.plan.max_rows });
        }
        let wanted = self.plan.columns.iter().map(|(name, _)| name.as_str());
        let frame = frame.select(wanted).map_err(|_| failed("a column is missing"))?;
        for ((name, ty), column) in self.plan.columns.iter().zip(frame.columns()) {
            if !ty.is_represented_by(column.dtype()) {
                return Err(SourceError::SchemaChanged {
                    column: name.clone(),
                    found: column.dtype().to_string(),
                    required: ty.to_string(),
                });
            }
        }
        Ok(frame)
    }
}

/// A frame without rows, for a table without any.
fn empty(kept: &[&str], columns: &[(String, ColumnType)]) -> Result<DataFrame, SourceError> {
    let types: HashMap<&str, DataType> = columns.iter().map(|(name, ty)| (name.as_str(), ty.dtype())).collect();
    let columns = kept.iter().map(|name| {
        let dtype = types.get(name).cloned().unwrap_or(DataType::Null);
        Column::new_empty((*name).into(), &dtype)
    });
    DataFrame::new(0, columns.collect()).map_err(|_| failed("a frame without rows cannot be made"))
}

/// Copies the text and bytes of a frame into buffers of its own: polars' filter and sort keep the whole buffers of the slice they
/// took from, and with them the rows that don't match.
fn compact(frame: DataFrame) -> PolarsResult<DataFrame> {
    let (height, columns) = (frame.height(), frame.columns());
    let copied = columns.iter().map(|column| {
        Ok(match column.dtype() {
            DataType::String => {
                let mut copy = StringChunkedBuilder::new(column.name().clone(), height);
                column.str()?.iter().for_each(|cell| copy.append_option(cell));
                copy.finish().into_series().into_column()
            }
            DataType::Binary => {
                let mut copy = BinaryChunkedBuilder::new(column.name().clone(), height);
                column.binary()?.iter().for_each(|cell| copy.append_option(cell));
                copy.finish().into_series().into_column()
            }
            _ => column.clone(),
        })
    });
    DataFrame::new(height, copied.collect::<Result<_, PolarsError>>()?)
}

fn failed(what: &str) -> SourceError {
    SourceError::Failed(what.to_owned())
}

/// Runs blocking work beside the runtime. A panic in it is answered as a malformed file.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            Err(SourceError::Malformed("the file contradicts its own metadata".to_owned()))
        }
        Err(_) => Err(SourceError::Failed("the service is shutting down".to_owned())),
    }
}
