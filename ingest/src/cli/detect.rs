//! `countersign detect`: what the detectors find in texts, before they are trusted with data.

use anyhow::{Context, bail, ensure};
use clap::Args;
use countersign_masker::Catalog;
use countersign_masker::detect::{Detectors, Hint};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The longest line, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Reads JSON lines with `text` and writes the same with `spans`: `[{"class", "start", "end"}]`, in code points
#[derive(Args, Debug)]
pub(crate) struct Detect {
    /// The file, `-` for standard input
    file: PathBuf,
    /// The member of each line that names the column its text is from, which then counts as context
    #[arg(long, value_name = "MEMBER", default_value = "column")]
    column: String,
    /// A catalog whose own detectors join the built-in ones
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
}

impl Detect {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let detectors = match &self.catalog {
            None => Detectors::builtin(),
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
                Catalog::parse(&file.display().to_string(), &text)?.detectors()
            }
        };
        let mut input: Box<dyn BufRead> = if self.file == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(&self.file).with_context(|| format!("cannot read `{}`", self.file.display()))?;
            Box::new(BufReader::new(file))
        };
        let mut output = BufWriter::new(io::stdout().lock());
        match detect(&detectors, &self.column, &mut input, &mut output).and_then(|()| Ok(output.flush()?)) {
            // Whoever reads the output has seen enough.
            Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
                Ok(())
            }
            other => other.with_context(|| format!("in `{}`", self.file.display())),
        }
    }
}

/// Line by line, so that a file of any size needs the memory of one line.
fn detect(
    detectors: &Detectors,
    column: &str,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let mut hints = HashMap::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        ensure!(line.len() as u64 <= MAX_LINE_BYTES, "line {number} has more than {MAX_LINE_BYTES} bytes");
        if line.trim_ascii().is_empty() {
            continue;
        }
        // What a parser quotes of a line may be data, so only the place is told.
        let mut object: Map<String, Value> = serde_json::from_slice(&line).map_err(|error| match error.is_data() {
            true => anyhow::anyhow!("line {number} is not a JSON object"),
            false => anyhow::anyhow!("line {number} is not JSON, column {}", error.column()),
        })?;
        let Some(text) = object.get("text").and_then(Value::as_str) else {
            bail!("line {number} has no `text`, or one that is no string");
        };
        let hint: Option<&Hint> = match object.get(column) {
            Some(Value::String(name)) => Some(hints.entry(name.clone()).or_insert_with(|| detectors.hint(name))),
            Some(_) => bail!("line {number} has a `{column}` that is no string"),
            None => None,
        };
        let hits = detectors.detect(text, hint);
        let spans = hits.iter().map(|hit| json!({ "class": hit.class, "start": hit.start, "end": hit.end })).collect();
        object.insert("spans".to_owned(), spans);
        serde_json::to_writer(&mut *output, &object).map_err(io::Error::from)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, expected: Result<&str, &str>) {
        let mut output = Vec::new();
        let result = detect(&Detectors::builtin(), "column", &mut lines.as_bytes(), &mut output);
        match expected {
            Ok(expected) => {
                result.unwrap();
                assert_eq!(String::from_utf8(output).unwrap(), expected);
            }
            Err(expected) => assert_eq!(result.unwrap_err().to_string(), expected),
        }
    }

    #[test]
    fn lines_get_their_spans() {
        check(
            "{\"id\":7,\"text\":\"größe: ada@example.org\"}\n\n{\"text\":\"10115\",\"column\":\"plz\",\"spans\":[1]}",
            Ok(concat!(
                r#"{"id":7,"text":"größe: ada@example.org","spans":[{"class":"pii.email","start":7,"end":22}]}"#,
                "\n",
                r#"{"text":"10115","column":"plz","spans":[{"class":"id.de.postcode","start":0,"end":5}]}"#,
                "\n"
            )),
        );
        check("", Ok(""));
    }

    #[test]
    fn bad_lines_are_named_and_not_quoted() {
        check("{\"text\":\"a\"}\n{\"text\":", Err("line 2 is not JSON, column 8"));
        check("[\"secret\"]", Err("line 1 is not a JSON object"));
        check("{\"text\":7}", Err("line 1 has no `text`, or one that is no string"));
        check("\n{\"t\":\"a\"}", Err("line 2 has no `text`, or one that is no string"));
        check("{\"text\":\"a\",\"column\":1}", Err("line 1 has a `column` that is no string"));
    }
}
