//! `countersign-verify row`: single rows of a chunk, held against what was recorded of it. Each line of the file is a row with
//! its proof, as `countersign rows` prints it; who has one line learns nothing of the others.

use crate::finding::{Code, Finding, Findings, Place};
use crate::report::Report;
use crate::single::open_receipt;
use countersign_ledger::evidence::row::{RowError, RowProof};
use countersign_ledger::tlog::Epochs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The longest line that is read, in bytes: a row fits into a Kafka record.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Checks every row in a file against the receipt of its chunk's delivery, or of its `chunk.masked`.
pub fn check(path: &Path, (file, receipt): (&str, &[u8]), keys: &Epochs) -> Report {
    let mut findings = Findings::default();
    let summary = summary(path, (file, receipt), keys, &mut findings);
    Report::new("row", summary.unwrap_or_default(), &findings)
}

fn summary(path: &Path, (file, text): (&str, &[u8]), keys: &Epochs, findings: &mut Findings) -> Option<String> {
    let (receipt, _) = open_receipt(file, text, keys, findings)?;
    let masked = match receipt.mask_account() {
        Ok(masked) => masked,
        Err(error) => {
            let expected = "the mask account that the delivery follows";
            findings.add(Finding::new(Code::ReceiptProof, Place::file(file), error.to_string(), expected));
            return None;
        }
    };
    let unreadable = |findings: &mut Findings, why: String| {
        findings.add(Finding::new(Code::Unreadable, Place::file(path.display()), why, "rows with their proofs"));
        None
    };
    let mut lines = match std::fs::metadata(path).and_then(|meta| Ok((meta, std::fs::File::open(path)?))) {
        Ok((meta, file)) if meta.is_file() => BufReader::new(file),
        Ok(_) => return unreadable(findings, "not a regular file".into()),
        Err(error) => return unreadable(findings, error.to_string()),
    };
    let (mut rows, mut last) = (0u64, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return unreadable(findings, error.to_string()),
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let proof =
            std::str::from_utf8(line).map_err(|_| RowError::Form("not UTF-8".into())).and_then(RowProof::decode);
        match proof.and_then(|proof| proof.verify(&masked)) {
            Ok(row) => last = row.index.get(),
            Err(error) => {
                let code = match error {
                    RowError::NoRoot { .. } => Code::RowRoot,
                    RowError::Form(_) | RowError::NotCanonical => Code::RowForm,
                    RowError::Chunk { .. } | RowError::Proof(_) => Code::RowMismatch,
                };
                let found = format!("line {}: {error}", rows + 1);
                findings.add(Finding::new(code, Place::file(path.display()), found, "a row of the receipt's chunk"));
                return None;
            }
        }
        rows += 1;
    }
    if rows == 0 {
        return unreadable(findings, "no row".into());
    }
    let of = format!("request {}, as the receipt's entry {} has it", masked.trace, receipt.proof.index);
    Some(match rows {
        1 => format!("row {last} is one of the rows that were masked for {of}"),
        _ => format!("these {rows} rows are among those that were masked for {of}"),
    })
}
