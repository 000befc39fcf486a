//! The keys of a log whose key was replaced, from one of them: read off the entries `log.key_rotated`, each of which the key before it
//! and the key after it have signed.
//!
//! Nothing here vouches for an entry. Whoever has an earlier key follows signatures of keys that he has or has followed; whoever has a
//! later one learns what came before it, and believes that once the tree that his key signed turns out to hold these entries.

use crate::bundle::split;
use crate::export::{BUNDLE_BYTES_MAX, Export, Fetched, NOTE_BYTES_MAX};
use countersign_ledger::evidence::{Entry, MAX_ENTRY_BYTES, Step, rotation};
use countersign_ledger::tlog::{Checkpoint, Epochs, Note, TILE_WIDTH, TreeSize, VerifierKey, bundles_for_size};

/// How an entry of that type begins.
const ROTATED: &[u8] = br#"{"v":1,"type":"log.key_rotated","#;

/// The keys of the export's log, of which `key` is one; that key alone where nothing else can be told.
pub fn follow(export: &Export, key: VerifierKey) -> Epochs {
    match followed(export, &key) {
        Some(epochs) if epochs.knows(&key) => epochs,
        _ => Epochs::single(key),
    }
}

fn followed(export: &Export, key: &VerifierKey) -> Option<Epochs> {
    let note = Note::parse(&read(export, "checkpoint", NOTE_BYTES_MAX)?).ok()?;
    let (checkpoint, _) = Checkpoint::decode_with_extensions(&note.text).ok()?;
    let first = first(export, checkpoint.size)?;
    if first == *key && !note.signatures.iter().any(|line| line.name == key.name() && line.id != key.id()) {
        // One key from the first entry to the last: no need to look further.
        return Some(Epochs::single(first));
    }
    let mut epochs = Epochs::single(first);
    // In evidence in part these entries stand alone.
    let single = export.contents(checkpoint.size).entries;
    for index in &single {
        hear(&mut epochs, *index, &read(export, &format!("entry/{index}"), MAX_ENTRY_BYTES as u64)?)?;
    }
    if !single.is_empty() {
        return Some(epochs);
    }
    for path in bundles_for_size(checkpoint.size) {
        let bundle = read(export, &path.to_string(), BUNDLE_BYTES_MAX)?;
        for (index, (from, to)) in (path.index * u64::from(TILE_WIDTH)..).zip(split(&bundle).0) {
            hear(&mut epochs, index, bundle.get(from..to)?)?;
        }
    }
    Some(epochs)
}

/// The key that the log began with.
fn first(export: &Export, size: TreeSize) -> Option<VerifierKey> {
    let entry = match read(export, "entry/0", MAX_ENTRY_BYTES as u64) {
        Some(alone) => alone,
        None => {
            let bundle = read(export, &bundles_for_size(size).next()?.to_string(), BUNDLE_BYTES_MAX)?;
            let (from, to) = *split(&bundle).0.first()?;
            bundle.get(from..to)?.to_vec()
        }
    };
    match Entry::decode(&entry).ok()?.body {
        Step::LogCreated(step) => step.key.parse().ok(),
        _ => None,
    }
}

fn hear(epochs: &mut Epochs, index: u64, entry: &[u8]) -> Option<()> {
    if entry.starts_with(ROTATED)
        && let Step::LogKeyRotated(step) = Entry::decode(entry).ok()?.body
    {
        rotation::follow(epochs, index, &step).ok()?;
    }
    Some(())
}

fn read(export: &Export, path: &str, limit: u64) -> Option<Vec<u8>> {
    match export.read(path, limit) {
        Fetched::Bytes(bytes) => Some(bytes),
        Fetched::Missing | Fetched::Failed(_) => None,
    }
}
