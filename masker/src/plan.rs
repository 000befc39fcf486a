//! What a source is asked for: the columns, the rows and their order, and the limits that hold for it. A plan is part of a
//! [`Decision`](crate::Decision); it holds nothing that the decision didn't allow.

use crate::filter::Predicate;
use crate::schema::ColumnType;

/// One query of one table.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The columns to fetch, in the order in which they leave, with the types they have in the source.
    pub columns: Vec<(String, ColumnType)>,
    /// The rows to fetch: the policies' row filters, the caller's filter and his range, ANDed. It may use columns that are
    /// not fetched.
    pub predicate: Option<Predicate>,
    /// The column to order by: the table's key, if the caller may see it clear and it is among the columns that he asked
    /// for or filters by.
    pub order_by: Option<String>,
    /// Whether the rows leave in a seeded random order, since there is no key to order by that the caller may see.
    pub shuffle: bool,
    /// How many rows the caller asked for, at most `max_rows`.
    pub limit: Option<u64>,
    /// The most rows that may leave. A source that finds more (when `limit` is not set) fails instead of cutting off.
    pub max_rows: u64,
    /// The most bytes that may leave, as delivered.
    pub max_bytes: u64,
    /// The longest that the source may take, in seconds.
    pub max_seconds: u64,
}
