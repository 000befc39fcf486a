//! The demo's data: customers as Parquet, orders as CSV. Every person is made up of words that cannot be taken for a real one.

use anyhow::Context;
use polars::prelude::*;
use polars_io::parquet::write::ParquetWriter;
use std::fmt::Write;
use std::path::Path;

/// How many customers.
pub(super) const CUSTOMERS: usize = 240;

const FIRST: [&str; 12] = [
    "Anemone",
    "Bramble",
    "Clover",
    "Dandelion",
    "Elderberry",
    "Fennel",
    "Ginger",
    "Hazel",
    "Iris",
    "Juniper",
    "Kumquat",
    "Lavender",
];
const LAST: [&str; 10] =
    ["Sample", "Placeholder", "Testperson", "Madeup", "Fakename", "Nobody", "Specimen", "Mockley", "Pretend", "Dummy"];
const COUNTRIES: [&str; 5] = ["DE", "FR", "AT", "US", "JP"];

/// One made-up customer.
pub(super) struct Customer {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) phone: String,
    /// Days since 1970-01-01.
    pub(super) born: i32,
    pub(super) iban: String,
    pub(super) country: &'static str,
    /// Cents.
    pub(super) balance: i128,
    pub(super) note: String,
}

fn pick<'a>(list: &[&'a str], n: usize) -> &'a str {
    list.get(n % list.len().max(1)).copied().unwrap_or_default()
}

/// All customers, the same in every run.
pub(super) fn customers() -> Vec<Customer> {
    (0..CUSTOMERS)
        .map(|n| {
            let (first, last) = (pick(&FIRST, n), pick(&LAST, n / FIRST.len() + n));
            let id = 1000 + i64::try_from(n).unwrap_or(0);
            Customer {
                id,
                name: format!("{first} {last}"),
                email: format!("{}.{}{n}@example.com", first.to_lowercase(), last.to_lowercase()),
                phone: format!("+00 555 01{n:05}"),
                born: i32::try_from(n).unwrap_or(0) * 53 - 3650,
                iban: format!("XX00 FAKE 0000 {:04} {:04}", n / 7, n * 31 % 10_000),
                country: pick(&COUNTRIES, n),
                balance: i128::try_from(n * 7919 % 1_000_000).unwrap_or(0),
                note: format!("called about order {}, wants {first} tea", 5000 + n),
            }
        })
        .collect()
}

/// Writes `customers.parquet` and `orders.csv`.
pub(super) fn write(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    let people = customers();
    let text =
        |name: &str, of: fn(&Customer) -> &str| Column::new(name.into(), people.iter().map(of).collect::<Vec<&str>>());
    let ids: Vec<i64> = people.iter().map(|c| c.id).collect();
    let born = Column::new("born".into(), people.iter().map(|c| c.born).collect::<Vec<i32>>()).cast(&DataType::Date)?;
    let cents: Vec<i128> = people.iter().map(|c| c.balance).collect();
    let balance = Int128Chunked::from_vec("balance".into(), cents).into_decimal(12, 2)?.into_column();
    let mut frame = DataFrame::new(
        people.len(),
        vec![
            Column::new("id".into(), ids),
            text("name", |c| &c.name),
            text("email", |c| &c.email),
            text("phone", |c| &c.phone),
            born,
            text("iban", |c| &c.iban),
            text("country", |c| c.country),
            balance,
            text("note", |c| &c.note),
        ],
    )?;
    ParquetWriter::new(std::fs::File::create(dir.join("customers.parquet"))?).finish(&mut frame)?;
    let mut orders = String::from("order_id,customer_id,placed,amount,ship_to\n");
    for (n, customer) in people.iter().enumerate() {
        let (id, name) = (customer.id, &customer.name);
        writeln!(orders, "{},{id},2026-0{}-{:02},{}.{:02},{name}", 5000 + n, n % 9 + 1, n % 28 + 1, n % 300, n % 100)?;
    }
    std::fs::write(dir.join("orders.csv"), orders)?;
    Ok(())
}
