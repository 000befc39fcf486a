//! The sources against real stores. These tests stand inside the module because what a source hands out, a `Clear`, can by design
//! not be looked into from outside.

mod agree;
mod folder;
mod postgres;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;

use countersign_masker::filter;
use polars::prelude::DataFrame;

use super::*;

/// A plan that fetches `columns` of a table, with limits that nothing here reaches unless it wants to.
fn plan(schema: &TableSchema, columns: &[&str]) -> Plan {
    let ty = |name: &str| schema.column_type(name).cloned().unwrap_or(ColumnType::Text);
    Plan {
        columns: columns.iter().map(|name| ((*name).to_owned(), ty(name))).collect(),
        predicate: None,
        order_by: None,
        shuffle: false,
        limit: None,
        max_rows: 1_000_000,
        max_bytes: 1 << 30,
        max_seconds: 20,
    }
}

/// A filter, read and resolved against the table.
fn predicate(text: &str, schema: &TableSchema) -> Predicate {
    filter::resolve(filter::parse(text).unwrap(), schema).unwrap()
}

/// The part's password, which no error may show.
fn password(url: &str) -> &str {
    url.split_once('@').and_then(|(start, _)| start.rsplit_once(':')).unwrap().1
}

async fn fetch(source: &Source, table: &str, plan: &Plan) -> Result<DataFrame, SourceError> {
    source.prepare("0a1b2c", table, plan).await?.frame().await
}

/// The cells of an integer column of any width.
fn numbers(frame: &DataFrame, column: &str) -> Vec<Option<i64>> {
    let column = frame.column(column).unwrap().cast(&polars::prelude::DataType::Int64).unwrap();
    column.i64().unwrap().iter().collect()
}

async fn open_schema(source: &Source, table: &str) -> TableSchema {
    source.schema(table, &HashMap::new()).await.unwrap()
}
