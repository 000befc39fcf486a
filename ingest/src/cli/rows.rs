//! `countersign rows`: every row of a delivered chunk as a line that proves it alone. What is printed is the same whichever
//! format the chunk was delivered in; `countersign-verify row` checks one such line.

use crate::pipeline::encode::Format;
use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use countersign_ledger::evidence::row::{RowsOf, proof_line, row_line, row_salt};
use countersign_ledger::evidence::step::{ChunkMasked, DeliveryIntended};
use countersign_ledger::evidence::{Receipt, Salt, Step, TraceId, chunk_commitment, part_digest};
use countersign_ledger::tlog::{Hash, HashReader, LeafIndex, TreeSize, inclusion_proof, leaf_hash, node_hash, root};
use countersign_masker::rows;
use polars_io::SerReader;
use polars_io::ipc::IpcStreamReader;
use std::io::{BufWriter, Cursor, Write};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Rows {
    /// The chunk's parts, in order
    #[arg(required = true, value_name = "FILE")]
    parts: Vec<PathBuf>,
    /// The receipt that came with the last part
    #[arg(long, value_name = "R")]
    receipt: PathBuf,
    /// Print this row only, counted from 0
    #[arg(long, value_name = "N")]
    row: Option<u64>,
    /// Write the receipt without the chunk's salt to FILE, for whoever is shown single rows: with the salt he could confirm guesses at
    /// the others
    #[arg(long, value_name = "FILE")]
    hand_on: Option<PathBuf>,
}

impl Rows {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()));
        let receipt = Receipt::decode(&read(&self.receipt)?).context("the receipt")?;
        let parts = self.parts.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let chunk = Chunk::new(&receipt, &parts)?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        let wanted = match self.row {
            Some(row) => row..row + 1,
            None => 0..chunk.leaves.len() as u64,
        };
        for index in wanted {
            out.write_all(&chunk.proof(index)?)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        if let Some(path) = &self.hand_on {
            std::fs::write(path, receipt.without_salt().encode())
                .with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(())
    }
}

/// A delivered chunk, every row at hand.
pub struct Chunk {
    of: RowsOf,
    salt: Salt,
    rows: Vec<String>,
    leaves: Leaves,
}

impl Chunk {
    /// Takes the parts of a chunk apart and holds them against their receipt: they are what was recorded, and so are the rows.
    pub fn new(receipt: &Receipt, parts: &[Vec<u8>]) -> anyhow::Result<Self> {
        let Step::DeliveryIntended(intended) = &receipt.entry.body else {
            bail!("the receipt is of a `{}`, not of a delivery", receipt.entry.body.kind());
        };
        let salt = receipt.salt.context("the receipt holds no salt")?;
        let digests: Vec<Hash> = parts.iter().map(|part| part_digest(part)).collect();
        ensure!(
            chunk_commitment(&salt, &digests) == intended.chunk,
            "these parts are not the chunk of the receipt: parts are missing, too many, altered or out of order"
        );
        let account = receipt.mask_account().context("the receipt")?;
        let Step::ChunkMasked(ChunkMasked { attempt, rows: count, rows_root: Some(expected), .. }) = account.body
        else {
            bail!("the chunk has no row tree: the catalog did not ask for one (`row_tree`) when it was masked");
        };
        let of = RowsOf { request: account.trace, attempt, count };
        let rows = rows(intended, parts)?;
        let leaves = Leaves::new(&of, &salt, &rows);
        let found = root(&leaves, TreeSize::new(rows.len() as u64)).map_err(|e| anyhow!("{e:?}"))?;
        ensure!(found == expected, "the rows come to the root {found}, recorded is {expected}");
        Ok(Self { of, salt, rows, leaves })
    }

    /// The request that the chunk answers.
    pub fn request(&self) -> TraceId {
        self.of.request
    }

    /// One row with its proof, a line without its end.
    pub fn proof(&self, index: u64) -> anyhow::Result<Vec<u8>> {
        let rows = self.rows.len();
        let row = usize::try_from(index).ok().and_then(|i| self.rows.get(i));
        let row = row.with_context(|| format!("there is no row {index}: the chunk has {rows}"))?;
        let size = TreeSize::new(rows as u64);
        let path = inclusion_proof(&self.leaves, LeafIndex::new(index), size).map_err(|e| anyhow!("{e:?}"))?;
        Ok(proof_line(&row_line(&self.of, index, &row_salt(&self.salt, index), row.as_bytes()), &path))
    }
}

/// The canonical text of every row.
fn rows(intended: &DeliveryIntended, parts: &[Vec<u8>]) -> anyhow::Result<Vec<String>> {
    let format = Format::from_name(&intended.format);
    let mut rows = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let what = || format!("part {}", i + 1);
        match format {
            // What is delivered as JSON Lines is the canonical text.
            Some(Format::JsonLines) => {
                rows.extend(std::str::from_utf8(part).with_context(what)?.lines().map(str::to_owned));
            }
            Some(Format::Arrow) => {
                let frame = IpcStreamReader::new(Cursor::new(part)).finish().with_context(what)?;
                let delivered = rows::Rows::of_delivered(&frame);
                for row in 0..frame.height() {
                    let mut text = String::new();
                    delivered.write(row, &mut text).with_context(what)?;
                    rows.push(text);
                }
            }
            None => bail!("the chunk is of the format `{}`, which this version cannot read", intended.format),
        }
    }
    Ok(rows)
}

/// The leaf hashes, and above them those of all complete subtrees.
struct Leaves(Vec<Vec<Hash>>);

impl Leaves {
    fn new(of: &RowsOf, salt: &Salt, rows: &[String]) -> Self {
        let leaf =
            |(index, row): (u64, &String)| leaf_hash(&row_line(of, index, &row_salt(salt, index), row.as_bytes()));
        let mut levels = vec![(0..).zip(rows).map(leaf).collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let above = below.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
            levels.push(above);
        }
        Self(levels)
    }

    fn len(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }
}

impl HashReader for Leaves {
    type Error = (u8, u64);

    fn hash(&self, level: u8, index: u64) -> Result<Hash, (u8, u64)> {
        let hash = self.0.get(usize::from(level)).zip(usize::try_from(index).ok()).and_then(|(level, i)| level.get(i));
        hash.copied().ok_or((level, index))
    }
}
