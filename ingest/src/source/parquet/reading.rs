//! The process that reads one Parquet file: it has the file as its standard input and answers on its standard output. Nothing here
//! is careful about memory or the stack, since polars isn't: what a damaged file does to this process it does to nobody else.
//!
//! Of what the file says of itself nothing is taken on trust that could change which rows are delivered: the claim that a column is
//! sorted, which polars would use to shorten comparisons, is dropped, and every column must have as many rows as its slice.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use countersign_masker::schema::ColumnType;
use polars::prelude::{
    Column, CompatLevel, DataFrame, DataType, IntoColumn, IntoSeries, PolarsResult, SchemaExt, Series, StructChunked,
    TimeUnit, TimeZone,
};
use polars::series::IsSorted;
use polars_io::ipc::IpcStreamWriter;
use polars_io::parquet::metadata::FileMetadataRef;
use polars_io::parquet::read::{ParallelStrategy, ParquetReader};
use polars_io::{SerReader, SerWriter};

use super::{Said, TOO_LATE};

/// Answers with the file's columns, or where some are asked for with their rows, slice by slice. Ends by itself after `seconds`.
///
/// # Errors
/// Nobody listens any more.
pub(crate) fn answer(columns: Option<&str>, seconds: u64) -> io::Result<()> {
    // Where memory gets short, this process is the one to end. It is no matter where that can't be said.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(seconds));
        std::process::exit(TOO_LATE);
    });
    let mut out = io::stdout().lock();
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    match answers(file, columns, &mut out)? {
        Ok(()) => say(&mut out, Said::End, &[]),
        Err(what) => say(&mut out, Said::Wrong, what.as_bytes()),
    }
}

/// What is wrong with the file, as the rest of a sentence about it.
type Wrong = String;

fn answers(file: File, columns: Option<&str>, out: &mut impl Write) -> io::Result<Result<(), Wrong>> {
    let mut file = match ParquetFile::open(file) {
        Ok(file) => file,
        Err(what) => return Ok(Err(what)),
    };
    let Some(columns) = columns else {
        return match file.columns() {
            Ok(columns) => say(out, Said::Columns, &serde_json::to_vec(&columns)?).map(Ok),
            Err(what) => Ok(Err(what)),
        };
    };
    let columns: Vec<(String, ColumnType)> = serde_json::from_str(columns)?;
    loop {
        let mut frame = match file.next_frame(&columns) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Ok(())),
            Err(what) => return Ok(Err(what)),
        };
        let mut bytes = Vec::new();
        let mut writer = IpcStreamWriter::new(&mut bytes).with_compat_level(CompatLevel::newest());
        writer.finish(&mut frame).map_err(io::Error::other)?;
        say(out, Said::Rows, &bytes)?;
    }
}

/// A word, how many bytes follow, and those.
fn say(out: &mut impl Write, said: Said, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&[said as u8])?;
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)?;
    out.flush()
}

/// The most rows of a slice.
const SLICE_ROWS: usize = 65_536;

/// The most bytes of a slice, if its rows are of the row group's average size.
const SLICE_BYTES: usize = 32 << 20;

/// An opened Parquet file, and how far it has been read.
struct ParquetFile {
    file: File,
    metadata: FileMetadataRef,
    /// Name and polars type of each column.
    types: Vec<(String, DataType)>,
    /// The row group that is being read, its first row in the file, and how many of its rows have been read.
    group: usize,
    group_start: usize,
    group_read: usize,
}

impl ParquetFile {
    /// Reads the footer.
    fn open(file: File) -> Result<Self, Wrong> {
        let mut reader = ParquetReader::new(file.try_clone().map_err(|error| format!("cannot be read: {error}"))?);
        let footer = (|| -> PolarsResult<_> { Ok((reader.get_metadata()?.clone(), reader.schema()?)) })();
        let (metadata, schema) = footer.map_err(|_| "is not a whole Parquet file: its footer cannot be read")?;
        let schema = polars::prelude::Schema::from_arrow_schema(schema.as_ref());
        let types = schema.iter().map(|(name, dtype)| (name.to_string(), dtype.clone())).collect();
        Ok(Self { file, metadata, types, group: 0, group_start: 0, group_read: 0 })
    }

    /// Names and types of the columns; a type without a representation as [`ColumnType::Unsupported`].
    fn columns(&self) -> Result<Vec<(String, ColumnType)>, Wrong> {
        let mut seen = std::collections::HashSet::new();
        if let Some((name, _)) = self.types.iter().find(|(name, _)| !seen.insert(name)) {
            return Err(format!("has two columns `{name}`"));
        }
        let ty = |dtype: &DataType| match dtype {
            // Whatever zone it is to be shown in, what is stored are points in time.
            DataType::Datetime(_, Some(_)) => ColumnType::TimestampTz,
            dtype => ColumnType::from_dtype(dtype).unwrap_or_else(|| ColumnType::Unsupported(dtype.to_string())),
        };
        Ok(self.types.iter().map(|(name, dtype)| (name.clone(), ty(dtype))).collect())
    }

    /// The next rows, of the given columns; nothing at the end of the file.
    fn next_frame(&mut self, columns: &[(String, ColumnType)]) -> Result<Option<DataFrame>, Wrong> {
        let (start, rows) = loop {
            let Some(group) = self.metadata.row_groups.get(self.group) else { return Ok(None) };
            let left = group.num_rows().saturating_sub(self.group_read);
            if left > 0 {
                let row_bytes = group.total_byte_size().checked_div(group.num_rows()).unwrap_or(0).max(1);
                let rows = (SLICE_BYTES / row_bytes).clamp(1, SLICE_ROWS);
                break (self.group_start + self.group_read, left.min(rows));
            }
            self.group_start += group.num_rows();
            self.group_read = 0;
            self.group += 1;
        };
        self.group_read += rows;
        let last = start + rows;
        self.slice(start, rows, columns)
            .map(Some)
            .map_err(|_| format!("has rows {} to {last} that cannot be read", start + 1))
    }

    fn slice(&self, start: usize, rows: usize, columns: &[(String, ColumnType)]) -> PolarsResult<DataFrame> {
        let mut reader = ParquetReader::new(self.file.try_clone()?)
            .with_slice(Some((start, rows)))
            .with_columns(Some(columns.iter().map(|(name, _)| name.clone()).collect()))
            .read_parallel(ParallelStrategy::RowGroups);
        reader.set_metadata(self.metadata.clone());
        let frame = reader.finish()?;
        let columns =
            columns.iter().map(|(name, ty)| represented(frame.column(name)?, ty)).collect::<PolarsResult<_>>()?;
        DataFrame::new(rows, columns)
    }
}

/// The column in the representation of its type.
fn represented(column: &Column, ty: &ColumnType) -> PolarsResult<Column> {
    let mut series = cast(column.as_materialized_series(), ty)?;
    series.set_sorted_flag(IsSorted::Not);
    Ok(series.into_column())
}

fn cast(series: &Series, ty: &ColumnType) -> PolarsResult<Series> {
    Ok(match (series.dtype(), ty) {
        (DataType::Categorical(..) | DataType::Enum(..), ColumnType::Text) => series.cast(&DataType::String)?,
        (DataType::Datetime(unit, Some(_)), ColumnType::TimestampTz) => {
            // Cast without the zone, then named UTC: without polars' `timezones` feature a cast may lose the zone.
            let instants = series.to_physical_repr().i64()?.clone().into_datetime(*unit, None).into_series();
            let instants = instants.cast(&ColumnType::Timestamp.dtype())?.to_physical_repr().into_owned();
            instants.i64()?.clone().into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)).into_series()
        }
        (DataType::Datetime(..), ColumnType::Timestamp) => series.cast(&ty.dtype())?,
        (DataType::Array(inner, _), ColumnType::List(_)) => cast(&series.cast(&DataType::List(inner.clone()))?, ty)?,
        (dtype, ColumnType::List(inner)) if *dtype != ty.dtype() => {
            series.list()?.apply_to_inner(&|values| cast(&values, inner))?.into_series()
        }
        (dtype, ColumnType::Struct(types)) if *dtype != ty.dtype() => {
            let column = series.struct_()?;
            let fields = column.fields_as_series();
            let fields = fields.iter().zip(types).map(|(field, (_, ty))| cast(field, ty));
            let fields = fields.collect::<PolarsResult<Vec<_>>>()?;
            let cast = StructChunked::from_series(series.name().clone(), series.len(), fields.iter())?;
            cast.with_outer_validity(column.rechunk_validity()).into_series()
        }
        _ => series.clone(),
    })
}
