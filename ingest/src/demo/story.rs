//! What the demo plays and prints: an allowed request, a denied one, one that needs a person, one that is no request at all;
//! then the proof, and the proof failing where somebody has meddled.

use super::sample::{Customer, customers};
use super::{ORIGIN, Scene, wish};
use crate::broker;
use crate::cli::approvals::render;
use crate::cli::request::save;
use crate::client::{Answer, Client};
use crate::identity::claims::ApprovalDecision;
use crate::pipeline::status::Word;
use anyhow::{Context, bail};
use countersign_ledger::evidence::{Class, Receipt, TraceId};
use countersign_ledger::store::Selection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Tells the story; the exit code is a failure where any of it did not happen as it should.
pub(super) fn tell(scene: &Scene<'_>) -> anyhow::Result<ExitCode> {
    println!(
        "Countersign demo: ledger `{ORIGIN}`, embedded broker at {} (in memory, for trying out only)",
        scene.init.kafka
    );
    let report = scene.client("weekly-report")?;
    let bot = scene.client("support-bot")?;
    let trace = allowed(scene, &report)?;
    denied(&bot)?;
    needs_approval(scene, &bot)?;
    malformed(scene, &report)?;
    prove(scene, trace)
}

fn title(n: u8, text: &str) {
    println!("\n{n}. {text}");
}

fn outcome(answer: &Answer) -> String {
    let word = serde_json::to_value(answer.status.status).ok();
    let word = word.as_ref().and_then(Value::as_str).unwrap_or("?").to_string();
    let reason = answer.status.reason.map(|r| format!(" ({r})")).unwrap_or_default();
    let entry = answer.status.entry.map(|e| format!(", entry {e}")).unwrap_or_default();
    format!("{word}{reason}{entry}")
}

fn expect(answer: &Answer, word: Word) -> anyhow::Result<()> {
    if answer.status.status != word {
        bail!("expected {word:?}, got {}", outcome(answer));
    }
    Ok(())
}

/// Prints the first rows as they are in the source and as they were delivered.
fn before_and_after(answer: &Answer, columns: &[&str]) -> anyhow::Result<()> {
    let people = customers();
    println!("            {}", columns.join(" | "));
    let lines = answer.parts.iter().flat_map(|p| p.split(|b| *b == b'\n')).filter(|l| !l.is_empty());
    for line in lines.take(3) {
        let row: serde_json::Map<String, Value> = serde_json::from_slice(line)?;
        let person = row.get("id").and_then(Value::as_i64).and_then(|id| people.iter().find(|c| c.id == id));
        let person = person.context("a delivered row is nobody's")?;
        let clear: Vec<String> = columns.iter().map(|c| cell(person, c)).collect();
        let masked: Vec<String> = columns
            .iter()
            .map(|c| match row.get(*c) {
                Some(Value::String(s)) => s.clone(),
                Some(value) => value.to_string(),
                None => "(missing)".into(),
            })
            .collect();
        println!("   source    {}", clear.join(" | "));
        println!("   delivered {}", masked.join(" | "));
    }
    Ok(())
}

fn cell(person: &Customer, column: &str) -> String {
    match column {
        "id" => person.id.to_string(),
        "name" => person.name.clone(),
        "email" => person.email.clone(),
        "phone" => person.phone.clone(),
        "iban" => person.iban.clone(),
        "country" => person.country.into(),
        "note" => person.note.clone(),
        _ => String::new(),
    }
}

fn keep(scene: &Scene<'_>, trace: TraceId, answer: &Answer) -> anyhow::Result<()> {
    let paths = save(&scene.dir.join("chunks"), trace, answer)?;
    let receipt = Receipt::decode(&answer.receipt)?;
    println!("   receipt  entry {} of the ledger, `{}`", receipt.proof.index.get(), receipt.entry.body.kind());
    if let Some(path) = paths.last() {
        println!("            {}", path.display());
    }
    Ok(())
}

fn allowed(scene: &Scene<'_>, report: &Client) -> anyhow::Result<TraceId> {
    title(1, "weekly-report (a service account of group analysts) asks for customers, for reporting");
    let columns = ["id", "name", "email", "phone", "iban", "country", "note"];
    let mut wish = wish(&columns, "reporting");
    wish.filter = Some("country != 'JP'".into());
    wish.limit = Some(50);
    let (trace, answer) = report.request(&wish, PATIENCE, true)?;
    expect(&answer, Word::Delivered)?;
    println!("   decided  permit: analysts-read-masked, public-is-clear; `note` is in no class yet, so it is redacted");
    println!("   outcome  {}, {} rows", outcome(&answer), answer.status.rows.unwrap_or_default());
    before_and_after(&answer, &columns)?;
    keep(scene, trace, &answer)?;
    Ok(trace)
}

fn denied(bot: &Client) -> anyhow::Result<()> {
    title(2, "support-bot (an AI agent, owned by kim) asks for all orders, for reporting");
    let mut wish = wish(&["order_id", "amount"], "reporting");
    wish.dataset = "shop.orders".into();
    let (_, answer) = bot.request(&wish, PATIENCE, true)?;
    expect(&answer, Word::Denied)?;
    println!(
        "   outcome  {}: no policy permits it, and a table that does not exist gets the same answer",
        outcome(&answer)
    );
    Ok(())
}

fn needs_approval(scene: &Scene<'_>, bot: &Client) -> anyhow::Result<()> {
    title(3, "support-bot asks for names and addresses of three customers, for a support case");
    let columns = ["id", "name", "email", "country"];
    let mut wish = wish(&columns, "support");
    wish.limit = Some(3);
    wish.on_behalf_of = Some("kim".into());
    let claims = bot.claims(&wish)?;
    let (trace, token) = bot.sign_request(&claims)?;
    let mut inbox = bot.listen()?;
    bot.publish(broker::REQUESTS, token.as_bytes(), &[])?;
    let answer = inbox.wait(trace, PATIENCE, true)?;
    expect(&answer, Word::Waiting)?;
    println!("   outcome  {}: {} must say yes", outcome(&answer), answer.status.groups.join(", "));
    let dana = scene.client("dana")?;
    let waiting = dana.waiting(trace)?;
    println!("   dana, a data owner, sees:");
    for line in render(&waiting)?.lines().filter(|l| !l.starts_with("digests")) {
        println!("   | {line}");
    }
    dana.answer(&waiting, ApprovalDecision::Grant, "case 4711, customer asked for a call", Duration::from_secs(3600))?;
    println!("   dana approves, and her signature goes into the ledger");
    let answer = inbox.wait(trace, PATIENCE, false)?;
    expect(&answer, Word::Delivered)?;
    println!("   outcome  {}, {} rows", outcome(&answer), answer.status.rows.unwrap_or_default());
    before_and_after(&answer, &columns)?;
    keep(scene, trace, &answer)
}

fn malformed(scene: &Scene<'_>, report: &Client) -> anyhow::Result<()> {
    title(4, "somebody publishes a record that is no request: an unsigned token");
    let ledger = &scene.service.core.ledger;
    let mut at = ledger.size().get();
    report.publish(broker::REQUESTS, b"eyJhbGciOiJub25lIn0.e30.", &[])?;
    let deadline = std::time::Instant::now() + PATIENCE;
    let entry = loop {
        match ledger.entry(at)? {
            Some(entry) if entry.body.kind() == "request.rejected" => break entry,
            Some(_) => at += 1,
            None if std::time::Instant::now() > deadline => bail!("the rejection has left no entry"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    println!("   outcome  rejected, entry {at}: {}", String::from_utf8_lossy(&entry.encode()?));
    Ok(())
}

fn prove(scene: &Scene<'_>, trace: TraceId) -> anyhow::Result<ExitCode> {
    title(
        5,
        "the proof: the ledger is exported, and the verify tool looks at nothing but the export and the public key",
    );
    let ledger = &scene.service.core.ledger;
    let evidence = scene.dir.join("evidence");
    let classes = [Class::Request, Class::Approval, Class::Admin];
    crate::export::record(ledger, &Selection::default(), None, &classes)?;
    let summary = ledger.export(&evidence, &classes)?;
    std::fs::copy(scene.init.dir.join("ledger.vkey"), scene.dir.join("ledger.vkey"))?;
    println!("   {} entries in {}", summary.entries, evidence.display());
    let Some(tool) = verify_tool() else {
        bail!("`countersign-verify` is not beside this program: build it with `cargo build -p countersign-verify`");
    };
    let key = scene.dir.join("ledger.vkey");
    let whole = run(&tool, &["log".as_ref(), evidence.as_os_str(), "--key".as_ref(), key.as_os_str()])?;
    let chunk = chunk_files(&scene.dir.join("chunks"), trace)?;
    let mut args: Vec<&std::ffi::OsStr> = vec!["chunk".as_ref()];
    args.extend(chunk.parts.iter().map(|p| p.as_os_str()));
    args.extend(["--receipt".as_ref(), chunk.receipt.as_os_str(), "--key".as_ref(), key.as_os_str()]);
    let one = run(&tool, &args)?;
    title(6, "one bit is flipped in a copy of the evidence");
    let tampered = scene.dir.join("tampered");
    copy_folder(&evidence, &tampered)?;
    flip_one_bit(&tampered)?;
    let broken = run(&tool, &["log".as_ref(), tampered.as_os_str(), "--key".as_ref(), key.as_os_str()])?;
    println!("\nLeft in {}: evidence/, ledger.vkey, chunks/, tampered/, service/, data/, log.txt", scene.dir.display());
    println!("Try next: read the entries  (tail -c +3 {}/tile/entries/000.p/* | head)", evidence.display());
    println!("          make demo KEEP=1  to play with the live broker; README.md for a real Kafka and PostgreSQL");
    Ok(if (whole, one, broken) == (Some(0), Some(0), Some(1)) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the verify tool, shows what it says, gives its exit code.
fn run(tool: &Path, args: &[&std::ffi::OsStr]) -> anyhow::Result<Option<i32>> {
    let shown: Vec<String> = args.iter().map(|a| shorten(&a.to_string_lossy())).collect();
    println!("   $ countersign-verify {}", shown.join(" "));
    let output = Command::new(tool).args(args).output().with_context(|| format!("`{}`", tool.display()))?;
    for line in String::from_utf8_lossy(&output.stdout).lines().chain(String::from_utf8_lossy(&output.stderr).lines()) {
        println!("   | {line}");
    }
    println!("   exit code {}", output.status.code().map_or("none".into(), |c| c.to_string()));
    Ok(output.status.code())
}

fn shorten(path: &str) -> String {
    path.find("demo-run").and_then(|at| path.get(at..)).unwrap_or(path).to_string()
}

fn verify_tool() -> Option<PathBuf> {
    let tool = std::env::current_exe().ok()?.parent()?.join("countersign-verify");
    tool.exists().then_some(tool)
}

struct ChunkFiles {
    parts: Vec<PathBuf>,
    receipt: PathBuf,
}

fn chunk_files(dir: &Path, trace: TraceId) -> anyhow::Result<ChunkFiles> {
    let short: String = trace.to_string().chars().take(16).collect();
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with(&format!("{short}.part-")) {
            parts.push(path);
        }
    }
    parts.sort();
    Ok(ChunkFiles { parts, receipt: dir.join(format!("{short}.receipt")) })
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Flips a bit in the number of rows that an entry claims were masked: a lie that changes one digit.
fn flip_one_bit(dir: &Path) -> anyhow::Result<()> {
    let folder = dir.join("tile/entries/000.p");
    let bundle = std::fs::read_dir(&folder)?.next().context("no entries")??.path();
    let mut bytes = std::fs::read(&bundle)?;
    let needle = b"\"rows\":";
    let at = bytes.windows(needle.len()).position(|w| w == needle).context("no masked chunk")? + needle.len();
    let digit = bytes.get_mut(at).context("no digit")?;
    let before = char::from(*digit);
    *digit ^= 1;
    println!("   a copy now claims `\"rows\":{}…` where the ledger says `\"rows\":{before}…`", char::from(*digit));
    std::fs::write(&bundle, bytes)?;
    Ok(())
}
