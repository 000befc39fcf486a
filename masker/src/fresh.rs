//! Columns in fresh buffers: nothing is in them but the values that are not null, and zeros under the nulls. What a buffer of the
//! source holds beside the cells that are read stays where it is.

use polars::chunked_array::builder::AnonymousOwnedListBuilder;
use polars::prelude::*;
use polars_arrow::array::builder::{ShareStrategy, StaticArrayBuilder};
use polars_arrow::array::{
    Array, BinaryViewArrayGeneric, BinaryViewArrayGenericBuilder, MutableBinaryViewArray, Utf8Array, ValueSize, View,
    ViewType,
};
use polars_arrow::bitmap::{Bitmap, BitmapBuilder};
use polars_arrow::datatypes::ArrowDataType;

// ---------------------------------------------------------------------------------------------------------------------------
// Built cell by cell

/// A text column that is built cell by cell. All cells are written into one text, which polars then makes views of: that is
/// faster than its own builders, which copy each cell once more and wait for it.
pub(crate) struct Texts {
    text: String,
    /// Where each cell begins, and where the last one ends.
    bounds: Vec<i64>,
    present: BitmapBuilder,
}

impl Texts {
    /// For so many rows, whose texts have about so many bytes together.
    pub(crate) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut bounds = Vec::with_capacity(rows + 1);
        bounds.push(0);
        Self { text: String::with_capacity(bytes), bounds, present: BitmapBuilder::with_capacity(rows) }
    }

    /// For as many rows as a column has, whose texts are about as long.
    pub(crate) fn like(column: &StringChunked) -> Self {
        // Many cells can share one text.
        let bytes = column.downcast_iter().map(|chunk| chunk.total_buffer_len() + 12 * chunk.len()).sum::<usize>();
        Self::with_capacity(column.len(), bytes.min(column.get_values_size()))
    }

    /// Adds the cell that `write` appends, or null if it returns `false`.
    #[inline]
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut String) -> bool) {
        let start = self.text.len();
        let is_present = write(&mut self.text);
        if !is_present {
            self.text.truncate(start);
        }
        self.bounds.push(self.text.len() as i64);
        self.present.push(is_present);
    }

    #[inline]
    pub(crate) fn push(&mut self, cell: Option<&str>) {
        self.write(|text| {
            text.push_str(cell.unwrap_or_default());
            cell.is_some()
        });
    }

    pub(crate) fn finish(self, name: PlSmallStr) -> PolarsResult<Series> {
        let (bounds, text) = (self.bounds.try_into()?, self.text.into_bytes().into());
        let cells = Utf8Array::try_new(ArrowDataType::LargeUtf8, bounds, text, self.present.into_opt_validity())?;
        Series::from_arrow(name, cells.boxed())
    }
}

/// A text of at most twelve ASCII bytes, which polars keeps in the view itself.
#[derive(Clone, Copy)]
pub(crate) struct Short {
    /// The first byte is the lowest, zeros follow the last.
    bytes: u128,
    length: u32,
}

impl Short {
    /// The `length` lowest of these bytes; `None` if those are too many, or one isn't ASCII.
    #[inline]
    pub(crate) fn new(bytes: u128, length: u32) -> Option<Self> {
        const NOT_ASCII: u128 = (u128::MAX / 255) << 7;
        let bytes = bytes & (1u128 << (8 * length.min(View::MAX_INLINE_SIZE))).wrapping_sub(1);
        (length <= View::MAX_INLINE_SIZE && bytes & NOT_ASCII == 0).then_some(Self { bytes, length })
    }

    /// A text that is known to be such a one.
    pub(crate) const fn of(text: &str) -> Self {
        assert!(text.is_ascii() && text.len() <= View::MAX_INLINE_SIZE as usize, "not short");
        let (mut bytes, mut rest) = (0, text.as_bytes());
        while let Some((last, before)) = rest.split_last() {
            bytes = bytes << 8 | *last as u128;
            rest = before;
        }
        Self { bytes, length: text.len() as u32 }
    }

    /// Up to eight bytes, as [`new`](Self::new) takes them.
    #[inline]
    pub(crate) fn word(bytes: &[u8]) -> u64 {
        match bytes.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)),
        }
    }

    fn view(self) -> View {
        let part = |nth: u32| (self.bytes >> (32 * nth)) as u32;
        View { length: self.length, prefix: part(0), buffer_idx: part(1), offset: part(2) }
    }
}

/// A text column of which nearly all cells are [`Short`]: `short` makes such a cell, and where it can't, `write` appends the cell.
/// Null cells stay null.
pub(crate) fn shorts(
    column: &StringChunked,
    short: impl Fn(&str) -> Option<Short>,
    mut write: impl FnMut(&str, &mut String),
) -> Series {
    let mut cells = MutableBinaryViewArray::<str>::with_capacity(column.len());
    // A view is copied as a whole, and the processor has to wait for one that was written in parts just now: so some wait here.
    let mut views = Vec::with_capacity(64);
    let flush = |views: &mut Vec<View>, cells: &mut MutableBinaryViewArray<str>| {
        cells.extend_non_null_views(views.drain(..), &[]);
    };
    let mut text = String::new();
    for cell in column.downcast_iter().flat_map(|chunk| chunk.iter()) {
        if let Some(short) = cell.and_then(&short) {
            if views.len() == views.capacity() {
                flush(&mut views, &mut cells);
            }
            views.push(short.view());
            continue;
        }
        flush(&mut views, &mut cells);
        match cell {
            None => cells.push_null(),
            Some(cell) => {
                text.clear();
                write(cell, &mut text);
                cells.push_value(&text);
            }
        }
    }
    flush(&mut views, &mut cells);
    StringChunked::with_chunk(column.name().clone(), cells.freeze()).into_series()
}

// ---------------------------------------------------------------------------------------------------------------------------
// Rebuilt

/// Why a column couldn't be rebuilt.
pub(crate) enum Rebuild {
    /// The name of the type that can't be.
    Unsupported(String),
    Polars,
}

impl From<PolarsError> for Rebuild {
    fn from(_: PolarsError) -> Self {
        Self::Polars
    }
}

/// The name of the first type in `dtype` that [`rebuild`] can't rebuild.
pub(crate) fn unsupported(dtype: &DataType) -> Option<String> {
    use DataType as D;
    match dtype {
        D::List(inner) => unsupported(inner),
        D::Struct(fields) => fields.iter().find_map(|field| unsupported(field.dtype())),
        D::Null | D::Boolean | D::String | D::Binary | D::Date | D::Time | D::Datetime(..) | D::Duration(_) => None,
        D::Decimal(..) | D::Float32 | D::Float64 | D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Int128 => None,
        D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 => None,
        other => Some(other.to_string()),
    }
}

/// A column with the same values and none of its buffers: nothing in it but the values that are not null.
pub(crate) fn rebuild(column: &Series) -> Result<Series, Rebuild> {
    let name = column.name().clone();
    Ok(match column.dtype() {
        DataType::Null => Series::new_null(name, column.len()),
        DataType::Boolean => BooleanChunked::from_iter_options(name, column.bool()?.iter()).into_series(),
        DataType::Int8 => numbers(column.i8()?).into_series(),
        DataType::Int16 => numbers(column.i16()?).into_series(),
        DataType::Int32 => numbers(column.i32()?).into_series(),
        DataType::Int64 => numbers(column.i64()?).into_series(),
        DataType::Int128 => numbers(column.i128()?).into_series(),
        DataType::UInt8 => numbers(column.u8()?).into_series(),
        DataType::UInt16 => numbers(column.u16()?).into_series(),
        DataType::UInt32 => numbers(column.u32()?).into_series(),
        DataType::UInt64 => numbers(column.u64()?).into_series(),
        DataType::Float32 => numbers(column.f32()?).into_series(),
        DataType::Float64 => numbers(column.f64()?).into_series(),
        DataType::Decimal(precision, scale) => {
            numbers(column.decimal()?.physical()).into_decimal_unchecked(*precision, *scale).into_series()
        }
        DataType::Date => numbers(column.date()?.physical()).into_date().into_series(),
        DataType::Time => numbers(column.time()?.physical()).into_time().into_series(),
        DataType::Datetime(unit, zone) => {
            numbers(column.datetime()?.physical()).into_datetime(*unit, zone.clone()).into_series()
        }
        DataType::Duration(unit) => numbers(column.duration()?.physical()).into_duration(*unit).into_series(),
        DataType::String => StringChunked::with_chunk(name, views(column.str()?)).into_series(),
        DataType::Binary => BinaryChunked::with_chunk(name, views(column.binary()?)).into_series(),
        DataType::List(inner) => lists(column.list()?, inner)?,
        DataType::Struct(_) => structs(column)?,
        other => return Err(Rebuild::Unsupported(other.to_string())),
    })
}

/// The column's validity, none if no cell is null. A copy of a bitmap has no bits beyond its length.
fn validity<T: PolarsDataType>(column: &ChunkedArray<T>) -> Option<Bitmap> {
    if column.null_count() == 0 {
        return None;
    }
    let mut present = BitmapBuilder::with_capacity(column.len());
    for chunk in column.downcast_iter() {
        present.subslice_extend_from_opt_validity(chunk.validity(), 0, chunk.len());
    }
    Some(present.freeze())
}

fn numbers<T: PolarsNumericType>(column: &ChunkedArray<T>) -> ChunkedArray<T> {
    let mut values = Vec::with_capacity(column.len());
    for chunk in column.downcast_iter() {
        match chunk.validity() {
            None => values.extend_from_slice(chunk.values()),
            Some(present) => {
                let cells = chunk.values_iter().zip(present);
                values.extend(cells.map(|(value, is_present)| if is_present { *value } else { T::Native::default() }));
            }
        }
    }
    ChunkedArray::from_vec_validity(column.name().clone(), values, validity(column))
}

/// Texts or bytes. What is null becomes empty.
fn views<V: ViewType + ?Sized, T>(column: &ChunkedArray<T>) -> T::Array
where
    T: PolarsDataType<Array = BinaryViewArrayGeneric<V>>,
{
    let is_inline =
        |view: &View| view.length <= View::MAX_INLINE_SIZE && view.as_u128() >> 32 >> (8 * view.length) == 0;
    // Without an early end, many are looked at at once.
    let all_inline = |views: &[View]| views.iter().fold(true, |all, view| all & is_inline(view));
    let mut chunks = column.downcast_iter();
    if column.null_count() == 0 && chunks.all(|chunk| chunk.total_buffer_len() == 0 && all_inline(chunk.views())) {
        // Views that are all there is to a text.
        let mut cells = MutableBinaryViewArray::<V>::with_capacity(column.len());
        column.downcast_iter().for_each(|chunk| cells.extend_from_array(chunk));
        return cells.freeze().with_validity(None);
    }
    let mut cells = BinaryViewArrayGenericBuilder::<V>::new(V::DATA_TYPE);
    cells.reserve(column.len());
    column.downcast_iter().for_each(|chunk| cells.extend(chunk, ShareStrategy::Never));
    cells.freeze()
}

fn lists(column: &ListChunked, inner: &DataType) -> Result<Series, Rebuild> {
    let mut values = Series::new_empty(PlSmallStr::EMPTY, inner);
    let mut lengths = Vec::with_capacity(column.len());
    for list in column.series_iter() {
        if let Some(list) = &list
            && !list.is_empty()
        {
            values.append(list)?;
        }
        lengths.push(list.map(|list| list.len()));
    }
    let values = rebuild(&values)?;
    let mut builder = AnonymousOwnedListBuilder::new(column.name().clone(), column.len(), Some(inner.clone()));
    let mut start: i64 = 0;
    for length in lengths {
        match length {
            None => builder.append_null(),
            Some(0) => builder.append_empty(),
            Some(length) => {
                builder.append_series(&values.slice(start, length))?;
                start = start.saturating_add_unsigned(length as u64);
            }
        }
    }
    Ok(builder.finish().into_series())
}

fn structs(column: &Series) -> Result<Series, Rebuild> {
    // A null struct's fields may still hold values: make them null first, so that rebuilding writes zeros.
    let column = column.propagate_nulls().unwrap_or_else(|| column.clone());
    let fields = column.struct_()?.fields_as_series();
    let fields = fields.iter().map(rebuild).collect::<Result<Vec<_>, _>>()?;
    let fresh = StructChunked::from_series(column.name().clone(), column.len(), fields.iter())?;
    if column.null_count() == 0 {
        return Ok(fresh.into_series());
    }
    let present = column.is_not_null();
    let present =
        BooleanChunked::from_iter_values(PlSmallStr::EMPTY, present.iter().map(|present| present == Some(true)));
    let validity = present.downcast_iter().next().map(|chunk| chunk.values().clone());
    Ok(fresh.with_outer_validity(validity).into_series())
}
