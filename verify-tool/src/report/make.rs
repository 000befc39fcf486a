//! From evidence to a page: one walk, one review, one rendering. The same evidence, key and options give the same bytes, which
//! is how a page is checked that somebody else made.

use super::Report;
use super::page;
use super::review::{Context, Gatherer, Review};
use crate::export::{Export, Fetched, NOTE_BYTES_MAX};
use crate::finding::{Code, Finding, Place, Verdict};
use crate::log::{self, Options};

/// The largest page that is compared, in bytes.
pub const PAGE_BYTES_MAX: u64 = 256 << 20;

/// Walks over the evidence. Gives what the walk found, and what a reviewer is shown.
pub fn review(
    export: &Export,
    options: &Options,
    stories_max: usize,
    progress: impl FnMut(u64, u64),
) -> (Report, Review) {
    let mut gatherer = Gatherer::default();
    let mut report = log::check(export, options, &mut gatherer, progress);
    report.command = "report";
    let checkpoint = match export.read("checkpoint", NOTE_BYTES_MAX) {
        Fetched::Bytes(note) => String::from_utf8_lossy(&note).into_owned(),
        Fetched::Missing | Fetched::Failed(_) => String::new(),
    };
    let context = Context { export: export.clone(), checkpoint, options: words(options), stories_max };
    let review = gatherer.finish(&report, context);
    (report, review)
}

/// The options that change the verdict, without names of files: those differ from desk to desk.
fn words(options: &Options) -> Vec<String> {
    let mut words = Vec::new();
    if !options.since.is_empty() {
        words.push(format!("--since ({} checkpoints)", options.since.len()));
    }
    if options.policy.is_some() {
        words.push("--policy".to_owned());
    }
    if let Some(pinned) = &options.pinned {
        words.push(format!("--identities ({} thumbprints)", pinned.len()));
    }
    if !options.require.is_empty() {
        let claims: Vec<&str> = options.require.iter().map(|claim| claim.as_str()).collect();
        words.push(format!("--require {}", claims.join(",")));
    }
    if options.partial {
        words.push("--partial".to_owned());
    }
    words
}

/// Holds a page that somebody made against the one that this evidence gives, byte for byte.
pub fn compare(file: &str, found: &[u8], report: &mut Report, review: &Review) {
    let made = page::render(review);
    if found == made.as_bytes() {
        if let Some(summary) = &mut report.summary {
            *summary += "; the page is what they give, byte for byte";
        }
        return;
    }
    let at = found.iter().zip(made.as_bytes()).take_while(|(a, b)| a == b).count();
    let line = made.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    let around = |bytes: &[u8]| {
        let from = at.saturating_sub(40).min(bytes.len());
        let part = bytes.get(from..(at + 80).min(bytes.len())).unwrap_or_default();
        format!("line {line}, byte {at}: …{}…", String::from_utf8_lossy(part))
    };
    let finding = Finding::new(Code::PageDiffers, Place::file(file), around(found), around(made.as_bytes()));
    report.findings.insert(0, finding);
    report.findings_total += 1;
    (report.verdict, report.exit, report.summary) = (Verdict::Broken, Verdict::Broken.exit(), None);
}
