//! The keys of a log whose key was replaced, from one of them: read off the entries `log.key_rotated`, each of which the key before it
//! and the key after it have signed.
//!
//! Nothing here vouches for an entry. Whoever has an earlier key follows signatures of keys that he has or has followed; whoever has a
//! later one learns what came before it, and believes that once the tree that his key signed turns out to hold these entries.

use crate::bundle::split;
use crate::export::{BUNDLE_BYTES_MAX, Export, Fetched, NOTE_BYTES_MAX};
use countersign_ledger::evidence::{Entry, Step, rotation};
use countersign_ledger::tlog::{Checkpoint, Epochs, Note, TILE_WIDTH, VerifierKey, bundles_for_size};

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
    let mut epochs: Option<Epochs> = None;
    for path in bundles_for_size(checkpoint.size) {
        let bundle = read(export, &path.to_string(), BUNDLE_BYTES_MAX)?;
        let (entries, _) = split(&bundle);
        for (index, (from, to)) in (path.index * u64::from(TILE_WIDTH)..).zip(entries) {
            let bytes = bundle.get(from..to)?;
            match &mut epochs {
                None => {
                    let Step::LogCreated(step) = Entry::decode(bytes).ok()?.body else { return None };
                    let first: VerifierKey = step.key.parse().ok()?;
                    let others = |line: &&countersign_ledger::tlog::NoteSignature| {
                        line.name == key.name() && line.id != key.id()
                    };
                    if first == *key && !note.signatures.iter().any(|line| others(&line)) {
                        // One key from the first entry to the last: no need to look further.
                        return Some(Epochs::single(first));
                    }
                    epochs = Some(Epochs::single(first));
                }
                Some(epochs) if bytes.starts_with(ROTATED) => {
                    let Step::LogKeyRotated(step) = Entry::decode(bytes).ok()?.body else { return None };
                    rotation::follow(epochs, index, &step).ok()?;
                }
                Some(_) => (),
            }
        }
    }
    epochs
}

fn read(export: &Export, path: &str, limit: u64) -> Option<Vec<u8>> {
    match export.read(path, limit) {
        Fetched::Bytes(bytes) => Some(bytes),
        Fetched::Missing | Fetched::Failed(_) => None,
    }
}
