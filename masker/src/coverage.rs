//! How far a catalog covers what its sources have: what has no class, what has drifted since the catalog was written, and what is
//! masked by nothing but the default.

use crate::catalog::Table;
use crate::schema::{ColumnType, TableSchema};
use crate::transform::Mask;
use std::fmt;

/// Something that a catalog says otherwise than its source has it, or does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// The source has no such table.
    NoTable,
    /// A column without a class: redacted for everybody.
    Unclassified {
        /// The column.
        column: String,
        /// Its type.
        column_type: ColumnType,
    },
    /// A column of the catalog that the source doesn't have.
    Gone {
        /// The column.
        column: String,
        /// The only column without a class that it could be under another name.
        renamed_to: Option<String>,
    },
    /// A column that has another type than the catalog states.
    Retyped {
        /// The column.
        column: String,
        /// The type that the catalog states.
        stated: ColumnType,
        /// The type that it has.
        found: ColumnType,
    },
    /// A column whose mask doesn't fit its type: requests for it are denied.
    MaskMisfit {
        /// The column.
        column: String,
        /// The mask.
        mask: Mask,
        /// The type that it has.
        found: ColumnType,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => f.write_str("the source has no such table"),
            Self::Unclassified { column, column_type } => {
                write!(f, "`{column}` ({column_type}) has no class: it is redacted by default")
            }
            Self::Gone { column, renamed_to: None } => write!(f, "`{column}` is gone"),
            Self::Gone { column, renamed_to: Some(new) } => write!(f, "`{column}` is gone, maybe renamed to `{new}`"),
            Self::Retyped { column, stated, found } => write!(f, "`{column}` is {found}, the catalog states {stated}"),
            Self::MaskMisfit { column, mask, found } => {
                write!(f, "`{column}` is {found}, which its mask `{mask}` does not fit: requests for it are denied")
            }
        }
    }
}

/// The gaps of one table, in the order of its source, then those of the catalog alone.
pub fn gaps(table: &Table, schema: Option<&TableSchema>) -> Vec<Gap> {
    let Some(schema) = schema else { return vec![Gap::NoTable] };
    let mut gaps = Vec::new();
    let unlisted = schema.columns.iter().filter(|(name, _)| !table.columns.contains_key(name)).collect::<Vec<_>>();
    for (name, found) in &schema.columns {
        let column = || name.clone();
        match table.columns.get(name) {
            None => gaps.push(Gap::Unclassified { column: column(), column_type: found.clone() }),
            Some(entry) => {
                if let Some(stated) = entry.column_type.as_ref().filter(|stated| *stated != found) {
                    gaps.push(Gap::Retyped { column: column(), stated: stated.clone(), found: found.clone() });
                }
                if entry.mask.output_type(found).is_none() {
                    gaps.push(Gap::MaskMisfit { column: column(), mask: entry.mask.clone(), found: found.clone() });
                }
            }
        }
    }
    let gone = table.columns.iter().filter(|(name, _)| schema.column_type(name).is_none()).collect::<Vec<_>>();
    for (name, entry) in &gone {
        let fits = |found: &ColumnType| entry.column_type.as_ref().is_none_or(|stated| stated == found);
        let renamed_to = match (gone.as_slice(), unlisted.as_slice()) {
            ([_], [(new, found)]) if fits(found) => Some(new.clone()),
            _ => None,
        };
        gaps.push(Gap::Gone { column: (*name).clone(), renamed_to });
    }
    gaps
}
