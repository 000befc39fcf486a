//! From fetched rows to rows that may leave. [`Clear`] is what a source fetched, [`mask`] applies the obligations of a
//! decision to it, and [`MaskedChunk::part`] makes the frames that encoders write: [`Masked`], which nothing outside this
//! module can make.
//!
//! Every column of a [`Masked`] frame, clear ones too, is built anew from the values that may leave: a slice of a frame
//! carries its neighbours' text, a cell made null by its validity bit carries its value, and so does a dictionary entry that
//! no row uses. A rebuilt column has zeros under its nulls and shares no buffer with the source. Types for which nothing here
//! knows how to do that (dictionaries, fixed-size lists, objects) are refused by name.

use crate::decide::{Obligations, Rule};
use crate::fresh::{Rebuild, rebuild, unsupported};
use crate::nested;
use crate::plan::Plan;
use crate::schema::ColumnType;
use crate::transform::{self, Mask, Means};
use polars::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Fetched rows, in the clear. It has no `Debug` and no way to look into it: the only thing to do with it is to [`mask`] it.
pub struct Clear {
    frame: DataFrame,
}

impl Clear {
    /// Wraps what a source fetched: the plan's columns by name, in any order, each represented as its type says. Columns
    /// that the plan doesn't name never come out again.
    pub fn new(frame: DataFrame) -> Self {
        Self { frame }
    }

    /// The rows, for what counts them and keeps none; nothing outside of this crate sees them.
    pub(crate) fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.frame.height()
    }

    /// The size in memory, in bytes, roughly.
    pub fn estimated_bytes(&self) -> usize {
        self.frame.estimated_size()
    }
}

/// Why rows were not masked. It names columns and types, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// The source didn't fetch a column of the plan.
    #[error("column `{0}` is missing from the fetched rows")]
    MissingColumn(String),
    /// A column isn't represented as its type says.
    #[error("column `{column}` has a wrong representation, found {found}, required {required}")]
    Representation {
        /// The column.
        column: String,
        /// The representation found.
        found: String,
        /// The type in the plan.
        required: String,
    },
    /// Plan and obligations don't name the same columns in the same order.
    #[error("column `{0}` has no obligation, or an obligation has no column")]
    Obligation(String),
    /// A column's representation can't be rebuilt from fresh buffers.
    #[error("column `{column}` has a representation that cannot be rebuilt, found {found}")]
    Unsupported {
        /// The column.
        column: String,
        /// The representation found, or the nested one that can't be rebuilt.
        found: String,
    },
    /// More rows were fetched than the plan allows.
    #[error("too many rows, found {found}, at most {required} allowed")]
    TooManyRows {
        /// Rows found.
        found: u64,
        /// Rows allowed.
        required: u64,
    },
    /// A part outside the chunk was asked for.
    #[error("rows {offset} to {end} were asked for, found {rows} rows")]
    Range {
        /// First row of the part.
        offset: usize,
        /// The row after the part's last.
        end: usize,
        /// Rows of the chunk.
        rows: usize,
    },
    /// polars failed on a column in a way that shouldn't be possible.
    #[error("column `{0}` could not be processed")]
    Internal(String),
}

/// What happened to one column of a chunk, for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnAccount {
    /// The column.
    pub column: String,
    /// Its class, `unclassified` if the catalog has none.
    pub class: String,
    /// What the decision asked for: `clear` or a mask.
    pub rule: String,
    /// What was done: `clear`, or the mask that was applied. It differs from the rule where the rule didn't fit the column's
    /// type and `null` took its place.
    pub transform: String,
    /// Cells looked at: the chunk's rows.
    pub seen: u64,
    /// Cells replaced: none of a clear column; all cells for masks that hide even nulls, else the cells that weren't null.
    pub changed: u64,
    /// Hits of the detectors by class, where the transform is `detect`; those of paths are counted there.
    pub hits: BTreeMap<String, u64>,
    /// What happened to what is inside of it, for each path of the obligation.
    pub paths: Vec<PathAccount>,
}

/// What happened to what a path addresses in a column of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathAccount {
    /// The path.
    pub path: String,
    /// Its class.
    pub class: String,
    /// What the decision asked for: `clear` or a mask. Where several paths address one thing, the most restrictive counts.
    pub rule: String,
    /// Cells and values that it addressed; what was taken or replaced as a whole is one.
    pub seen: u64,
    /// Those of them that were replaced.
    pub changed: u64,
    /// Hits of the detectors by class, where the rule is `detect`. What several such paths address counts for each.
    pub hits: BTreeMap<String, u64>,
}

/// A chunk after masking, in the order in which its rows leave.
pub struct MaskedChunk {
    frame: DataFrame,
    columns: Vec<(String, ColumnType)>,
    account: Vec<ColumnAccount>,
}

/// Rows that may leave, built from fresh buffers. Only [`MaskedChunk::part`] makes one.
pub struct Masked {
    frame: DataFrame,
}

impl Masked {
    /// The frame to encode. Write IPC with `CompatLevel::oldest()`, so that no view type appears in it.
    pub fn frame(&self) -> &DataFrame {
        &self.frame
    }
}

/// Applies `obligations` to the fetched rows. The columns come out in the plan's order and, where the plan says so, the
/// rows in an order that depends on `seed` and their number only. `purpose` is the request's and separates its tokens from
/// those of other purposes.
///
/// # Errors
/// [`MaskError`], if the rows aren't what the plan asked for or contain a type that can't be rebuilt; nothing comes out.
pub fn mask(
    clear: Clear,
    obligations: &Obligations,
    plan: &Plan,
    means: Means<'_>,
    seed: [u8; 32],
) -> Result<MaskedChunk, MaskError> {
    let rows = clear.height();
    let allowed = plan.limit.unwrap_or(plan.max_rows).min(plan.max_rows).min(IdxSize::MAX.into());
    if rows as u64 > allowed {
        return Err(MaskError::TooManyRows { found: rows as u64, required: allowed });
    }
    if let Some(obligation) = obligations.columns.get(plan.columns.len()) {
        return Err(MaskError::Obligation(obligation.column.clone()));
    }
    let order = plan.shuffle.then(|| IdxCa::from_vec(PlSmallStr::EMPTY, permutation(rows, seed)));

    let mut masked = Vec::with_capacity(plan.columns.len());
    let mut columns = Vec::with_capacity(plan.columns.len());
    let mut account = Vec::with_capacity(plan.columns.len());
    for (index, (name, column_type)) in plan.columns.iter().enumerate() {
        let obligation = (obligations.columns.get(index).filter(|obligation| obligation.column == *name))
            .ok_or_else(|| MaskError::Obligation(name.clone()))?;
        let column = clear.frame.column(name).map_err(|_| MaskError::MissingColumn(name.clone()))?;
        let column = column.as_materialized_series();
        if !column_type.is_represented_by(column.dtype()) {
            let (found, required) = (column.dtype().to_string(), column_type.to_string());
            return Err(MaskError::Representation { column: name.clone(), found, required });
        }
        let applied = match &obligation.rule {
            Rule::Clear => None,
            Rule::Mask(mask) => Some(mask.fitted(column_type)),
        };
        let internal = |_| MaskError::Internal(name.clone());
        let in_order = || match &order {
            Some(order) => column.take(order).map_err(internal),
            None => Ok(column.clone()),
        };
        let paths = obligation.path_masks().collect::<Vec<_>>();
        let mut counts = Vec::new();
        let mut hits = BTreeMap::new();
        let (series, output_type, changed) = match &applied {
            _ if !paths.is_empty() => {
                let column = in_order()?;
                let not_rebuilt = |error: Rebuild| error.of(name);
                let column = if column_type.is_nested() { rebuild(&column).map_err(not_rebuilt)? } else { column };
                let own = applied.as_ref();
                let nested = nested::apply(&column, column_type, own, &paths, means).map_err(internal)?;
                (counts, hits) = (nested.counts, nested.hits);
                let changed = match own {
                    None => 0,
                    Some(mask) if mask.reads_cells() => rows - column.null_count(),
                    Some(_) => rows,
                };
                (nested.masked, nested.masked_type, changed)
            }
            None => (in_order()?, column_type.clone(), 0),
            Some(mask) => {
                let (series, changed) = if mask.reads_cells() {
                    let cells = in_order()?;
                    let series = match transform::detected(mask, &cells, means.detectors) {
                        Some(detected) => {
                            let (series, counts) = detected.map_err(internal)?;
                            hits = counts;
                            series
                        }
                        None => transform::apply(mask, &cells, column_type, means).map_err(internal)?,
                    };
                    (series, rows - column.null_count())
                } else {
                    (transform::apply(mask, column, column_type, means).map_err(internal)?, rows)
                };
                (series, mask.output_type(column_type).unwrap_or_else(|| column_type.clone()), changed)
            }
        };
        if let Some(found) = unsupported(series.dtype()) {
            return Err(MaskError::Unsupported { column: name.clone(), found });
        }
        masked.push(series.into_column());
        columns.push((name.clone(), output_type));
        account.push(ColumnAccount {
            column: name.clone(),
            class: obligation.class.clone(),
            rule: obligation.rule.to_string(),
            transform: applied.as_ref().map_or_else(|| "clear".to_owned(), Mask::to_string),
            seen: rows as u64,
            changed: changed as u64,
            hits,
            paths: obligation
                .paths
                .iter()
                .zip(counts)
                .map(|(path, count)| PathAccount {
                    path: path.path.to_string(),
                    class: path.class.clone(),
                    rule: path.rule.to_string(),
                    seen: count.seen,
                    changed: count.changed,
                    hits: count.hits,
                })
                .collect(),
        });
    }
    let frame = DataFrame::new(rows, masked).map_err(|_| MaskError::Internal(String::new()))?;
    Ok(MaskedChunk { frame, columns, account })
}

impl MaskedChunk {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.frame.height()
    }

    /// Names and types of the columns as they leave; masks change some types (an integer's token is text).
    pub fn columns(&self) -> &[(String, ColumnType)] {
        &self.columns
    }

    /// What happened to each column, in the plan's order.
    pub fn account(&self) -> &[ColumnAccount] {
        &self.account
    }

    /// The rows `offset` to `offset + len`, every column rebuilt from fresh buffers. A chunk without rows has one part
    /// without rows, `part(0, 0)`.
    ///
    /// # Errors
    /// [`MaskError::Range`] if the chunk has no such rows.
    pub fn part(&self, offset: usize, len: usize) -> Result<Masked, MaskError> {
        let rows = self.rows();
        let end = offset.checked_add(len).filter(|end| *end <= rows);
        let (Some(_), Ok(start)) = (end, i64::try_from(offset)) else {
            return Err(MaskError::Range { offset, end: offset.saturating_add(len), rows });
        };
        let columns = self.frame.columns().iter().map(|column| {
            let column = column.as_materialized_series();
            rebuild(&column.slice(start, len)).map(Series::into_column).map_err(|error| error.of(column.name()))
        });
        let columns = columns.collect::<Result<_, _>>()?;
        let frame = DataFrame::new(len, columns).map_err(|_| MaskError::Internal(String::new()))?;
        Ok(Masked { frame })
    }
}

impl Rebuild {
    /// As an error of the column of that name.
    fn of(self, column: &str) -> MaskError {
        match self {
            Self::Unsupported(found) => MaskError::Unsupported { column: column.to_owned(), found },
            Self::Polars => MaskError::Internal(column.to_owned()),
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------------
// Order

/// A permutation of `0..rows` drawn uniformly (Fisher-Yates) from a stream of SHA-256(seed ‖ counter).
fn permutation(rows: usize, seed: [u8; 32]) -> Vec<IdxSize> {
    // INVARIANT: `mask` has checked that the rows can be counted by an `IdxSize`.
    let mut order: Vec<IdxSize> = (0..IdxSize::try_from(rows).unwrap_or(0)).collect();
    let mut stream = Stream { seed, counter: 0, block: [0; 32], used: 32 };
    for end in (1..order.len()).rev() {
        order.swap(end, stream.below(end as u64 + 1) as usize);
    }
    order
}

struct Stream {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Stream {
    fn next(&mut self) -> u32 {
        if self.used == self.block.len() {
            let digest = Sha256::new_with_prefix(self.seed).chain_update(self.counter.to_be_bytes()).finalize();
            (self.block, self.used, self.counter) = (digest.into(), 0, self.counter + 1);
        }
        let bytes = self.block.iter().skip(self.used).take(4);
        self.used += 4;
        bytes.fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    /// A number below `bound`, which is at most 2³²; draws that would favour the small ones are thrown away.
    fn below(&mut self, bound: u64) -> u64 {
        let fair = (1 << 32) / bound * bound;
        loop {
            let drawn = u64::from(self.next());
            if drawn < fair {
                return drawn % bound;
            }
        }
    }
}
