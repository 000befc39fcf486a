//! Reads one Parquet file through polars, a slice of a row group at a time. It takes nothing from the file's metadata on trust that
//! could change which rows are delivered: the claim that a column is sorted, which polars would use to shorten comparisons, is
//! dropped, and every column must have as many rows as its slice. Nor anything that could end the process: see [`claims`].

mod claims;
#[cfg(test)]
mod tests;

use std::fs::File;

use countersign_masker::schema::ColumnType;
use polars::prelude::{
    Column, DataFrame, DataType, IntoColumn, IntoSeries, PolarsResult, SchemaExt, Series, StructChunked, TimeUnit,
    TimeZone,
};
use polars::series::IsSorted;
use polars_io::SerReader;
use polars_io::parquet::metadata::FileMetadataRef;
use polars_io::parquet::read::{ParallelStrategy, ParquetReader};

use super::SourceError;

/// The most rows of a slice.
const SLICE_ROWS: usize = 65_536;

/// The most bytes of a slice, if its rows are of the row group's average size.
const SLICE_BYTES: usize = 32 << 20;

/// An opened Parquet file, and how far it has been read.
pub(super) struct ParquetFile {
    name: String,
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
    pub(super) fn open(name: &str, file: File) -> Result<Self, SourceError> {
        let malformed = |what: &str| SourceError::Malformed(format!("`{name}` {what}"));
        let clone = file.try_clone().map_err(|error| SourceError::Unavailable(format!("`{name}`: {error}")))?;
        claims::check_schema(&clone).map_err(|what| malformed(&what))?;
        let mut reader = ParquetReader::new(clone);
        let footer = (|| -> PolarsResult<_> { Ok((reader.get_metadata()?.clone(), reader.schema()?)) })();
        let (metadata, schema) =
            footer.map_err(|_| malformed("is not a whole Parquet file: its footer cannot be read"))?;
        let schema = polars::prelude::Schema::from_arrow_schema(schema.as_ref());
        let types = schema.iter().map(|(name, dtype)| (name.to_string(), dtype.clone())).collect();
        Ok(Self { name: name.to_owned(), file, metadata, types, group: 0, group_start: 0, group_read: 0 })
    }

    /// Names and types of the columns; a type without a representation as [`ColumnType::Unsupported`].
    pub(super) fn columns(&self) -> Result<Vec<(String, ColumnType)>, SourceError> {
        let mut seen = std::collections::HashSet::new();
        if let Some((name, _)) = self.types.iter().find(|(name, _)| !seen.insert(name)) {
            return Err(SourceError::Malformed(format!("`{}` has two columns `{name}`", self.name)));
        }
        let ty = |dtype: &DataType| match dtype {
            // Whatever zone it is to be shown in, what is stored are points in time.
            DataType::Datetime(_, Some(_)) => ColumnType::TimestampTz,
            dtype => ColumnType::from_dtype(dtype).unwrap_or_else(|| ColumnType::Unsupported(dtype.to_string())),
        };
        Ok(self.types.iter().map(|(name, dtype)| (name.clone(), ty(dtype))).collect())
    }

    /// The next rows, of the given columns; nothing at the end of the file.
    pub(super) fn next_frame(&mut self, columns: &[(String, ColumnType)]) -> Result<Option<DataFrame>, SourceError> {
        let (start, rows) = loop {
            let Some(group) = self.metadata.row_groups.get(self.group) else { return Ok(None) };
            let left = group.num_rows().saturating_sub(self.group_read);
            if left > 0 {
                let row_bytes = group.total_byte_size().checked_div(group.num_rows()).unwrap_or(0).max(1);
                let rows = (SLICE_BYTES / row_bytes).clamp(1, SLICE_ROWS);
                if self.group_read == 0 {
                    let names = columns.iter().map(|(name, _)| name.as_str());
                    claims::check_group(&self.file, group, names, rows).map_err(|what| {
                        let number = self.group + 1;
                        SourceError::Malformed(format!("`{}`, row group {number}: {what}", self.name))
                    })?;
                }
                break (self.group_start + self.group_read, left.min(rows));
            }
            self.group_start += group.num_rows();
            self.group_read = 0;
            self.group += 1;
        };
        self.group_read += rows;
        let last = start + rows;
        let malformed =
            |_| SourceError::Malformed(format!("`{}`: rows {} to {last} cannot be read", self.name, start + 1));
        self.slice(start, rows, columns).map(Some).map_err(malformed)
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
