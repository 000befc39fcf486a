//! Evidence in one file, whole or of some requests only: what [`Ledger::export_bundle`] writes. `docs/formats.md` section 3 says
//! what is in it. It is written and synced under another name, then renamed.

use super::{
    error::StoreError,
    export::{ExportSummary, payload_file, payloads},
    ledger::Ledger,
    readback::root_at,
    shared::lock,
};
use crate::{
    evidence::{
        Class, Commitment, Entry, Int, Step, TraceId,
        archive::{BLOCK, FILE_BYTES_MAX, header, padding},
        step::LedgerExported,
    },
    tlog::{BundlePath, TileId, TilePath, TreeSize, bundles_for_size, decode_bundle, tiles_for_size},
    vault::{VaultError, files::sync_parent},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Which requests are packed: those to which all that is named applies; the whole ledger where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Received from this time on, seconds of Unix time.
    #[serde(default)]
    pub from: Option<Int>,
    /// Received before this time, seconds of Unix time.
    #[serde(default)]
    pub to: Option<Int>,
    /// By this identity: its pseudonym.
    #[serde(default)]
    pub identity: Option<String>,
    /// For this data set, `connection.table`. A refusal names none, so refused requests are not found by it.
    #[serde(default)]
    pub dataset: Option<String>,
    /// This request.
    #[serde(default)]
    pub request: Option<TraceId>,
}

impl Selection {
    /// Whether it is the whole ledger.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }

    /// The step that records such an export. `by`: the pseudonym of the one who asked for it.
    pub fn step(&self, by: Option<String>, classes: &[Class]) -> Step {
        let classes: BTreeSet<&str> = classes.iter().map(|class| class.as_str()).collect();
        LedgerExported {
            by,
            from: self.from,
            to: self.to,
            identity: self.identity.clone(),
            dataset: self.dataset.clone(),
            request: self.request,
            payloads: classes.into_iter().map(str::to_owned).collect(),
        }
        .into()
    }

    fn takes(&self, trace: TraceId, tale: &Tale) -> bool {
        let time = |bound: Option<Int>| bound.map(|seconds| seconds.get().saturating_mul(1_000_000));
        let in_time = time(self.from).is_none_or(|from| tale.at >= from) && time(self.to).is_none_or(|to| tale.at < to);
        let named = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        in_time
            && match &tale.kind {
                Kind::Request { identity, dataset } => {
                    self.request.is_none_or(|request| request == trace)
                        && named(&self.identity, identity)
                        && named(&self.dataset, dataset)
                }
                Kind::OfTime => self.request.is_none() && self.identity.is_none() && self.dataset.is_none(),
                Kind::Standing | Kind::Answer(_) => false,
            }
    }
}

/// What kind of story a trace tells.
enum Kind {
    Request {
        identity: Option<String>,
        dataset: Option<String>,
    },
    /// Belongs to a time and to nothing else: a record that nobody could be held to, a hold, a look at all that waits.
    OfTime,
    /// An answer to a request, or somebody's look at it.
    Answer(TraceId),
    /// The log, identities, policy, catalog, connections, exports, purges: always packed.
    Standing,
}

/// A trace as far as choosing needs it.
struct Tale {
    at: u64,
    kind: Kind,
    entries: Vec<u64>,
}

/// An archive being written; removed again where it isn't finished.
struct Archive {
    path: PathBuf,
    out: Option<BufWriter<File>>,
    bytes: u64,
}

impl Archive {
    fn create(path: PathBuf) -> Result<Self, StoreError> {
        // In place of one that a killed process has left; never through a link that somebody put there. Payloads are in the clear.
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io("remove", &path)(e)),
            _ => (),
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(StoreError::io("create", &path))?;
        Ok(Self { path, out: Some(BufWriter::new(file)), bytes: 0 })
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        let header = header(name, size).ok_or_else(|| StoreError::ExportTarget {
            path: self.path.clone(),
            why: format!("`{name}` of {size} bytes does not fit into an archive (at most {FILE_BYTES_MAX} bytes)"),
        })?;
        let zeros = [0; BLOCK];
        let rest = zeros.get(..padding(size) as usize).unwrap_or_default();
        for part in [&header[..], bytes, rest] {
            self.put(part)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Ends the archive, syncs it and gives it its name.
    fn finish(mut self, path: &Path) -> Result<u64, StoreError> {
        self.put(&[0; 2 * BLOCK])?;
        if let Some(out) = self.out.take() {
            let file = out.into_inner().map_err(|e| StoreError::io("write", &self.path)(e.into_error()))?;
            file.sync_all().map_err(StoreError::io("sync", &self.path))?;
        }
        fs::rename(&self.path, path).map_err(StoreError::io("create", path))?;
        sync_parent(path)?;
        Ok(self.bytes)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        // Renamed when finished: then there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes the file; see the module.
pub(super) fn export(
    ledger: &Ledger,
    path: &Path,
    selection: &Selection,
    classes: &[Class],
) -> Result<ExportSummary, StoreError> {
    let shared = ledger.shared();
    let signed = std::sync::Arc::clone(&lock(&shared.published));
    let (size, root) = (signed.checkpoint().size, signed.checkpoint().root);
    let found = root_at(&shared.db, size.get())?;
    if found != root {
        let why =
            format!("at size {size} the stored tiles come to the root {found}, the published checkpoint says {root}");
        return Err(StoreError::Damaged(why));
    }
    if path.exists() {
        return Err(StoreError::ExportTarget { path: path.to_owned(), why: "it exists already".into() });
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".partial-{}", std::process::id()));
    let mut archive = Archive::create(path.with_file_name(name))?;
    let mut summary = ExportSummary::default();
    archive.write("checkpoint", signed.note())?;
    match selection.is_whole() {
        true => whole(ledger, size, classes, &mut archive, &mut summary)?,
        false => part(ledger, size, selection, classes, &mut archive, &mut summary)?,
    }
    summary.bytes = archive.finish(path)?;
    Ok(summary)
}

fn whole(
    ledger: &Ledger,
    size: TreeSize,
    classes: &[Class],
    archive: &mut Archive,
    summary: &mut ExportSummary,
) -> Result<(), StoreError> {
    summary.entries = size.get();
    for path in tiles_for_size(size) {
        tile(ledger, path, archive, summary)?;
    }
    for path in bundles_for_size(size) {
        archive.write(&path.to_string(), &bundle(ledger, path)?)?;
        summary.bundles += 1;
    }
    ledger.each_checkpoint(size, |of, note| {
        summary.checkpoints += 1;
        archive.write(&format!("checkpoints/{of}"), note)
    })?;
    if !classes.is_empty() {
        let mut without_key = 0;
        let mut written = 0;
        payloads(ledger, size, classes, &mut without_key, |name, bytes| {
            written += 1;
            archive.write(name, bytes)
        })?;
        (summary.payloads, summary.payloads_without_key) = (written, without_key);
    }
    Ok(())
}

fn part(
    ledger: &Ledger,
    size: TreeSize,
    selection: &Selection,
    classes: &[Class],
    archive: &mut Archive,
    summary: &mut ExportSummary,
) -> Result<(), StoreError> {
    let chosen = choose(ledger, size, selection)?;
    for path in tiles_towards(&chosen, size) {
        tile(ledger, path, archive, summary)?;
    }
    let mut wanted: BTreeMap<String, Commitment> = BTreeMap::new();
    for index in &chosen {
        let bytes = ledger.shared().db.entry(*index)?;
        archive.write(&format!("entry/{index}"), &bytes)?;
        summary.entries += 1;
        let entry = Entry::decode(&bytes).map_err(|e| StoreError::Damaged(format!("entry {index}: {e}")))?;
        let commitments = entry.body.commitments().into_iter().filter(|(class, _)| classes.contains(class));
        wanted.extend(commitments.map(|(_, commitment)| (format!("payload/{commitment}"), commitment)));
    }
    for (name, commitment) in wanted {
        match ledger.payload(&commitment) {
            Ok(Some(payload)) => {
                archive.write(&name, &payload_file(&payload))?;
                summary.payloads += 1;
            }
            // Not every commitment is to something that the vault keeps.
            Ok(None) => {}
            Err(StoreError::Vault(VaultError::NoKey(_))) => summary.payloads_without_key += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The entries to be packed.
fn choose(ledger: &Ledger, size: TreeSize, selection: &Selection) -> Result<BTreeSet<u64>, StoreError> {
    let mut tales: HashMap<TraceId, Tale> = HashMap::new();
    for path in bundles_for_size(size) {
        let bytes = bundle(ledger, path)?;
        let damaged = |what: String| StoreError::Damaged(format!("`{path}`: {what}"));
        for (at, bytes) in decode_bundle(&bytes).map_err(|e| damaged(e.to_string()))?.into_iter().enumerate() {
            let index = path.index * 256 + at as u64;
            let entry = Entry::decode(bytes).map_err(|e| damaged(format!("entry {index}: {e}")))?;
            let tale = tales.entry(entry.trace).or_insert_with(|| Tale {
                at: entry.at.get(),
                kind: match &entry.body {
                    Step::RequestReceived(_) => Kind::Request { identity: None, dataset: None },
                    Step::RequestRejected(_) | Step::PayloadHeld(_) => Kind::OfTime,
                    Step::PayloadRead(s) => s.of.map_or(Kind::OfTime, Kind::Answer),
                    Step::SourceSampled(s) => Kind::Request {
                        identity: Some(s.identity.clone()),
                        dataset: Some(format!("{}.{}", s.connection, s.table)),
                    },
                    Step::ReidentifyDecided(s) => Kind::Request {
                        identity: Some(s.identity.clone()),
                        dataset: s.connection.as_ref().zip(s.table.as_ref()).map(|(c, t)| format!("{c}.{t}")),
                    },
                    Step::ApprovalGranted(s) => Kind::Answer(s.request),
                    Step::ApprovalDenied(s) => Kind::Answer(s.request),
                    _ => Kind::Standing,
                },
                entries: Vec::new(),
            });
            tale.entries.push(index);
            if let Kind::Request { identity, dataset } = &mut tale.kind {
                match &entry.body {
                    Step::IdentityVerified(s) => *identity = Some(s.identity.clone()),
                    Step::PolicyDecided(s) => {
                        let named = s.connection.as_ref().zip(s.table.as_ref());
                        *dataset = named.map(|(connection, table)| format!("{connection}.{table}")).or(dataset.take());
                    }
                    _ => {}
                }
            }
        }
    }
    let taken: BTreeSet<TraceId> =
        tales.iter().filter(|(trace, tale)| selection.takes(**trace, tale)).map(|(trace, _)| *trace).collect();
    let packed = tales.iter().filter(|(trace, tale)| match &tale.kind {
        Kind::Standing => true,
        Kind::Answer(request) => taken.contains(request),
        Kind::Request { .. } | Kind::OfTime => taken.contains(trace),
    });
    Ok(packed.flat_map(|(_, tale)| tale.entries.iter().copied()).collect())
}

/// The tiles that lead from these entries to the root: their own on each level, and the last of each level.
fn tiles_towards(chosen: &BTreeSet<u64>, size: TreeSize) -> BTreeSet<TilePath> {
    let mut tiles = BTreeSet::new();
    let mut indices: BTreeSet<u64> = chosen.iter().map(|index| index / 256).collect();
    for level in 0.. {
        // The last tile of the level that holds anything.
        let nodes = size.get().checked_shr(8 * u32::from(level)).unwrap_or_default();
        if nodes == 0 {
            break;
        }
        indices.insert((nodes - 1) / 256);
        for index in &indices {
            let id = TileId { level, index: *index };
            match id.width(size) {
                // No complete subtree of this level begins there yet.
                0 => {}
                width => {
                    tiles.insert(TilePath { id, width });
                }
            }
        }
        indices = indices.iter().map(|index| index / 256).collect();
    }
    tiles
}

fn tile(ledger: &Ledger, path: TilePath, archive: &mut Archive, summary: &mut ExportSummary) -> Result<(), StoreError> {
    let missing = || StoreError::Damaged(format!("`{path}` is not complete"));
    let hashes = ledger.tile(path.id.level, path.id.index, Some(path.width))?.ok_or_else(missing)?;
    archive.write(&path.to_string(), &hashes)?;
    summary.tiles += 1;
    Ok(())
}

fn bundle(ledger: &Ledger, path: BundlePath) -> Result<Vec<u8>, StoreError> {
    let missing = || StoreError::Damaged(format!("`{path}` is not complete"));
    ledger.bundle(path.index, Some(path.width))?.ok_or_else(missing)
}
