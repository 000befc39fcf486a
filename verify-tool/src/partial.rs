//! A part of a ledger: some entries, each held against the signed root through the tiles that came with it, and then judged as
//! far as a part can be. What may come of entries that were left out is told as *not provable*, and so is the part as such
//! unless the auditor said that he knows.

use crate::export::{Contents, Export, Fetched};
use crate::finding::{Code, Finding, Findings, Place, Verdict};
use crate::fork::{TileFault, Tiles};
use crate::log::{Options, current, open_note, required};
use crate::observe::Observer;
use crate::payload::Payloads;
use crate::report::{ClaimFacts, LogFacts, Report, StoryFacts};
use crate::story::{Judge, Terms, place_of};
use countersign_ledger::evidence::{Entry, MAX_ENTRY_BYTES};
use countersign_ledger::tlog::{
    Checkpoint, Hash, TILE_WIDTH, TileError, TileHashes, TileId, TilePath, TreeSize, leaf_hash, node_hash, root,
};
use std::collections::HashMap;

pub(crate) fn check(
    export: &Export,
    options: &Options,
    head: &Checkpoint,
    contents: &Contents,
    mut findings: Findings,
    observer: &mut dyn Observer,
    progress: &mut dyn FnMut(u64, u64),
) -> Report {
    let size = head.size;
    let mut roots = Roots::new(export, head, &mut findings);
    let rooted = roots.rooted;
    let mut judge = (!options.tree_only).then(|| {
        let (origin, keys, pinned) = (head.origin.clone(), options.keys.clone(), options.pinned.clone());
        let terms = Terms { origin, keys, pinned, part: true };
        Judge::new(terms, Payloads::new(export, contents.payloads.iter().copied()))
    });
    let of = contents.entries.len() as u64;
    // Entries of which it isn't known whether they were signed.
    let mut loose = 0u64;
    for (at, index) in contents.entries.iter().enumerate() {
        let path = format!("entry/{index}");
        let bytes = match export.read(&path, MAX_ENTRY_BYTES as u64) {
            Fetched::Bytes(bytes) => bytes,
            Fetched::Missing => {
                findings.add(Finding::new(Code::Unreadable, Place::file(path), "gone", "a file"));
                continue;
            }
            Fetched::Failed(why) => {
                findings.add(Finding::new(Code::Unreadable, Place::file(path), why, "a file"));
                continue;
            }
        };
        let leaf = leaf_hash(&bytes);
        match roots.leaf(*index) {
            Ok(signed) if signed == leaf => {}
            Ok(signed) => {
                let code = if rooted { Code::EntryAltered } else { Code::LeafMismatch };
                let place = place_of(*index, &bytes);
                findings.add(Finding::new(code, place, leaf.to_string(), signed.to_string()));
            }
            Err(finding) => {
                loose += 1;
                findings.add(*finding);
            }
        }
        if let Some(judge) = &mut judge {
            judge.entry(*index, &bytes, leaf, &Entry::decode(&bytes), observer);
        }
        progress(at as u64 + 1, of);
    }
    for (file, note) in &options.since {
        // An older checkpoint is grown from entries that are not here.
        findings.add(match open_note(note, &options.keys, Place::file(file), Code::Checkpoint) {
            Err(finding) => *finding,
            Ok(older) if older.checkpoint().size > size => {
                let expected = format!("at most {size}, the size of the evidence's checkpoint");
                let found = format!("size {}", older.checkpoint().size);
                Finding::new(Code::RolledBack, Place::file(file), found, expected)
            }
            Ok(_) => Finding::new(Code::GrowthUnproven, Place::file(file), "a part of a ledger", "the whole of it"),
        });
    }
    let anchored = rooted && loose == 0 && findings.verdict() != Verdict::Broken;
    let told = judge.map(Judge::finish).map(|mut told| {
        if !anchored {
            told.claims.unanchor();
        }
        findings.extend(std::mem::take(&mut told.findings));
        required(&options.require, &told.claims, &mut findings);
        told
    });
    if !options.partial {
        let (found, expected) = (format!("{of} of {size} entries"), "all entries, or --partial");
        findings.add(Finding::new(Code::PartialEvidence, Place::default(), found, expected));
    }
    let stories =
        if options.tree_only { "" } else { ", and as far as a part can show the stories in them obey the rules" };
    let summary = format!(
        "these {of} entries are among the {size} of {} that were signed{stories}; nothing shows what was left out",
        options.keys.origin()
    );
    let mut report = Report::new("log", summary, &findings);
    report.log = Some(LogFacts {
        origin: head.origin.clone(),
        key: current(&options.keys),
        size: size.get(),
        part: Some(of),
        root: head.root,
        anchored,
        published: 0,
        since: 0,
        witnesses: None,
    });
    report.story = told.map(|told| StoryFacts {
        from_micros: told.span.map(|(from, _)| from),
        to_micros: told.span.map(|(_, to)| to),
        traces: told.outcomes,
        claims: ClaimFacts::new(&told.claims, findings.broken()),
    });
    report
}

/// The tiles, and which of them lead to the signed root.
struct Roots<'a> {
    tiles: TileHashes<Tiles<'a>>,
    size: TreeSize,
    /// Whether the last tiles of all levels make the signed root.
    rooted: bool,
    known: HashMap<TileId, Result<(), Box<Finding>>>,
}

impl<'a> Roots<'a> {
    fn new(export: &'a Export, head: &Checkpoint, findings: &mut Findings) -> Self {
        let tiles = TileHashes::new(Tiles { export, size: head.size }, head.size);
        let rooted = match root(&tiles, head.size) {
            Ok(found) if found == head.root => true,
            Ok(found) => {
                let place = Place::file("checkpoint");
                findings.add(Finding::new(Code::RootMismatch, place, found.to_string(), head.root.to_string()));
                false
            }
            Err(error) => {
                findings.add(fault(error));
                false
            }
        };
        Self { tiles, size: head.size, rooted, known: HashMap::new() }
    }

    /// The leaf hash that stands at an index, in a tile that leads to the root.
    fn leaf(&mut self, index: u64) -> Result<Hash, Box<Finding>> {
        let id = TileId { level: 0, index: index / u64::from(TILE_WIDTH) };
        self.leads(id)?;
        self.slot(id, index)
    }

    fn slot(&self, id: TileId, index: u64) -> Result<Hash, Box<Finding>> {
        let tile = self.tiles.tile(id).map_err(|error| Box::new(fault(error)))?;
        let at = (index % u64::from(TILE_WIDTH)) as usize;
        let path = || Place::file(TilePath { id, width: id.width(self.size) });
        tile.get(at).copied().ok_or_else(|| Box::new(Finding::new(Code::MissingFile, path(), "too short", "a tile")))
    }

    /// Whether a tile leads to the root: the last one of its level does with it, and a full one through the tile above.
    fn leads(&mut self, id: TileId) -> Result<(), Box<Finding>> {
        if id.width(self.size) < TILE_WIDTH {
            // It was part of what made the root; where it did not, that has been told.
            return Ok(());
        }
        if let Some(known) = self.known.get(&id) {
            return known.clone();
        }
        let leads = self.through_above(id);
        self.known.insert(id, leads.clone());
        leads
    }

    fn through_above(&mut self, id: TileId) -> Result<(), Box<Finding>> {
        let mut hashes = self.tiles.tile(id).map_err(|error| Box::new(fault(error)))?.to_vec();
        while let (pairs @ [_, ..], _) = hashes.as_chunks::<2>() {
            hashes = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
        }
        let found = hashes.first().copied();
        let above = TileId { level: id.level + 1, index: id.index / u64::from(TILE_WIDTH) };
        self.leads(above)?;
        let signed = self.slot(above, id.index)?;
        if found == Some(signed) {
            return Ok(());
        }
        let place = Place::file(TilePath { id, width: TILE_WIDTH });
        let found = found.map(|hash| hash.to_string()).unwrap_or_default();
        Err(Box::new(Finding::new(Code::TileAltered, place, found, signed.to_string())))
    }
}

fn fault(error: TileError<TileFault>) -> Finding {
    match error {
        TileError::Read(TileFault(path, Some(why))) => Finding::new(Code::Unreadable, Place::file(path), why, "a tile"),
        TileError::Read(TileFault(path, None)) => {
            Finding::new(Code::MissingFile, Place::file(path), "no such file", "a tile")
        }
        TileError::Length { path, found, required } => {
            let expected = format!("{required} bytes");
            Finding::new(Code::TileAltered, Place::file(path), format!("{found} bytes"), expected)
        }
        TileError::Incomplete { .. } => {
            Finding::new(Code::MissingFile, Place::file("tile"), "a node that the tree lacks", "a tile")
        }
    }
}
