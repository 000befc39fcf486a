//! `countersign-verify log`: one walk over a whole export, every entry read once. Each bundle of 256 entries is hashed, held
//! against its tile, pushed into the tree and told to the judge; checkpoints are met when the tree has their size.

use crate::export::{BUNDLE_BYTES_MAX, Contents, Export, Fetched, NOTE_BYTES_MAX, TILE_BYTES_MAX};
use crate::finding::{Code, Finding, Findings, Place};
use crate::observe::Observer;
use crate::partial;
use crate::payload::Payloads;
use crate::report::{ClaimFacts, LogFacts, Report, StoryFacts};
use crate::story::{Claim, Judge, Terms, place_of};
use crate::tree::{Pin, Unmatched, Walk, Walked, first_difference, lowest, walk_tiles};
use countersign_ledger::tlog::{
    BundleError, BundlePath, EMPTY_ROOT, Hash, SignedCheckpoint, TreeSize, VerifierKey, bundles_for_size,
    decode_bundle, leaf_hash,
};
use std::collections::BTreeSet;
use std::iter::Peekable;

/// After so many missing bundles the walk gives up: a checkpoint can claim any size, and time is not endless.
const MISSING_MAX: u64 = 64;

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's key.
    pub key: VerifierKey,
    /// Older checkpoints: where they come from, and their bytes.
    pub since: Vec<(String, Vec<u8>)>,
    /// Leave the entries alone: the log may be anybody's.
    pub tree_only: bool,
    /// Thumbprints that the auditor knows, if he says so.
    pub pinned: Option<BTreeSet<String>>,
    /// Claims that must be proven.
    pub require: Vec<Claim>,
    /// A part of a ledger will do.
    pub partial: bool,
}

/// Checks an export. `observer` hears every entry and what it came to, in order, unless only the tree is checked; `progress` is
/// told how many entries are done, of how many.
pub fn check(
    export: &Export,
    options: &Options,
    observer: &mut dyn Observer,
    mut progress: impl FnMut(u64, u64),
) -> Report {
    let mut findings = Findings::default();
    let Some(head) = head(options, export, &mut findings) else {
        return Report::new("log", "", &findings);
    };
    let (size, root) = (head.checkpoint().size, head.checkpoint().root);
    let contents = export.contents(size);
    strangers(&contents, options.tree_only, &mut findings);
    if !contents.entries.is_empty() {
        return partial::check(export, options, head.checkpoint(), &contents, findings, observer, &mut progress);
    }
    let pins = pins(options, &contents, size, &mut findings);
    let judge = (!options.tree_only).then(|| {
        let terms = Terms {
            origin: head.checkpoint().origin.clone(),
            key: options.key.to_string(),
            pinned: options.pinned.clone(),
            part: false,
        };
        Judge::new(terms, Payloads::new(export, contents.payloads.iter().copied()))
    });
    let mut pass = Pass {
        export,
        key: &options.key,
        size,
        pins: pins.into_iter().peekable(),
        walk: Walk::new(export, size),
        judge,
        findings: Findings::default(),
        leaves: Vec::new(),
        missing: 0,
        lost: false,
        published: 0,
        since: 0,
    };
    pass.run(observer, &mut progress);
    let Pass { walk, judge, findings: met, leaves, lost, published, since, .. } = pass;
    findings.extend(met);
    let walked = walk.finish();
    let before = findings.kept().len();
    let anchored = conclude(export, size, root, &walked, &leaves, lost, &mut findings);
    let forks =
        findings.kept().iter().skip(before).filter(|f| f.code == Code::Fork).filter_map(|f| f.place.file.as_ref());
    let (forked, forked_since): (Vec<_>, Vec<_>) = forks.partition(|file| file.starts_with("checkpoints/"));
    let (published, since) =
        (published.saturating_sub(forked.len() as u64), since.saturating_sub(forked_since.len() as u64));
    earlier(export, &contents, &mut findings);
    let told = judge.map(Judge::finish);
    let mut claims = None;
    if let Some(mut told) = told {
        if !anchored {
            told.claims.unanchor();
        }
        findings.extend(told.findings);
        required(&options.require, &told.claims, &mut findings);
        claims = Some((told.claims, told.outcomes, told.span));
    }
    let mut report = Report::new("log", summary(size, options), &findings);
    report.log = Some(LogFacts {
        origin: head.checkpoint().origin.clone(),
        key: options.key.to_string(),
        size: size.get(),
        part: None,
        root,
        anchored,
        published,
        since,
    });
    report.story = claims.map(|(claims, traces, span)| StoryFacts {
        from_micros: span.map(|(from, _)| from),
        to_micros: span.map(|(_, to)| to),
        traces,
        claims: ClaimFacts::new(&claims, findings.broken()),
    });
    report
}

fn summary(size: TreeSize, options: &Options) -> String {
    let stories = if options.tree_only { "" } else { ", and every story in them obeys the rules" };
    format!("the {size} entries of {} are those that were signed{stories}", options.key.name())
}

/// The checkpoint that everything else is held against.
fn head(options: &Options, export: &Export, findings: &mut Findings) -> Option<SignedCheckpoint> {
    let place = || Place::file("checkpoint");
    let note = match export.read("checkpoint", NOTE_BYTES_MAX) {
        Fetched::Bytes(note) => note,
        Fetched::Missing => {
            let found = format!("no checkpoint in `{}`", export.name());
            findings.add(Finding::new(Code::Unreadable, place(), found, "the folder of an export"));
            return None;
        }
        Fetched::Failed(why) => {
            findings.add(Finding::new(Code::Unreadable, place(), why, "a checkpoint"));
            return None;
        }
    };
    open(&note, options)
        .map_err(|found| findings.add(Finding::new(Code::Checkpoint, place(), found, signed_by(&options.key))))
        .ok()
}

fn open(note: &[u8], options: &Options) -> Result<SignedCheckpoint, String> {
    let opened = open_note(note, &options.key)?;
    // Other people's logs may extend their checkpoints; ours must not.
    if !options.tree_only && !opened.extensions().is_empty() {
        return Err(format!("{} extension lines", opened.extensions().len()));
    }
    Ok(opened)
}

/// Opens a checkpoint of the log that `key` is named after; in words, why not.
pub fn open_note(note: &[u8], key: &VerifierKey) -> Result<SignedCheckpoint, String> {
    let opened = SignedCheckpoint::open(note, key.name(), std::slice::from_ref(key)).map_err(|e| e.to_string())?;
    let checkpoint = opened.checkpoint();
    if checkpoint.size.get() == 0 && checkpoint.root != EMPTY_ROOT {
        return Err("size 0 with a root that is not the empty tree's".into());
    }
    Ok(opened)
}

/// What a checkpoint should have been, in words.
pub fn signed_by(key: &VerifierKey) -> String {
    format!("a checkpoint of `{}` signed by {key}", key.name())
}

/// Files that have no place in an export, and folders that keep what is in them to themselves.
fn strangers(contents: &Contents, tree_only: bool, findings: &mut Findings) {
    for (folder, why) in &contents.unlisted {
        findings.add(Finding::new(Code::Unreadable, Place::file(folder), why, "a folder that can be listed"));
    }
    for path in &contents.unexpected {
        // Other people's logs keep other things beside their tiles.
        if tree_only && !path.starts_with("tile/") {
            continue;
        }
        let place = Place::file(path);
        findings.add(Finding::new(Code::UnexpectedFile, place, "a file", "only what an export holds"));
    }
}

/// A signed statement that the walk will come by.
#[derive(Clone, Debug)]
enum Waymark {
    /// A file under `checkpoints/`, read when its size is reached: there can be very many.
    Published(u64),
    /// One that was given with `--since`.
    Since(Pin),
}

impl Waymark {
    const fn size(&self) -> u64 {
        match self {
            Self::Published(size) => *size,
            Self::Since(pin) => pin.size,
        }
    }
}

/// What the walk will come by, ascending by size.
fn pins(options: &Options, contents: &Contents, size: TreeSize, findings: &mut Findings) -> Vec<Waymark> {
    let mut pins: Vec<Waymark> = contents.checkpoints.iter().copied().map(Waymark::Published).collect();
    for (file, note) in &options.since {
        match open(note, options) {
            Ok(opened) => {
                let checkpoint = opened.checkpoint();
                let (size, root) = (checkpoint.size.get(), checkpoint.root);
                pins.push(Waymark::Since(Pin { file: file.clone(), size, root }));
            }
            Err(found) => {
                findings.add(Finding::new(Code::Checkpoint, Place::file(file), found, signed_by(&options.key)));
            }
        }
    }
    pins.sort_by_key(Waymark::size);
    pins.retain(|pin| {
        let within = pin.size() <= size.get();
        if !within {
            let (file, found) = match pin {
                Waymark::Published(size) => (format!("checkpoints/{size}"), *size),
                Waymark::Since(pin) => (pin.file.clone(), pin.size),
            };
            let expected = format!("at most {size}, the size of the export's checkpoint");
            findings.add(Finding::new(Code::RolledBack, Place::file(file), format!("size {found}"), expected));
        }
        within
    });
    pins
}

/// An entry whose leaf hash is not the one in its tile.
#[derive(Clone, Debug)]
struct LeafDiff {
    place: Place,
    entry: Hash,
    tile: Hash,
    path: String,
}

/// The state of the one walk over all entries.
struct Pass<'a> {
    export: &'a Export,
    key: &'a VerifierKey,
    size: TreeSize,
    pins: Peekable<std::vec::IntoIter<Waymark>>,
    walk: Walk<'a>,
    judge: Option<Judge<'a>>,
    findings: Findings,
    leaves: Vec<LeafDiff>,
    missing: u64,
    /// A leaf hash is known neither from an entry nor from a tile: no root can be computed from here on.
    lost: bool,
    published: u64,
    since: u64,
}

/// How many differing leaves are remembered one by one.
const LEAVES_MAX: usize = 1000;

impl Pass<'_> {
    fn run(&mut self, observer: &mut dyn Observer, progress: &mut impl FnMut(u64, u64)) {
        self.meet();
        for path in bundles_for_size(self.size) {
            if self.missing > MISSING_MAX {
                let found = format!("{} bundles missing up to here", self.missing);
                let place = Place::file(path.to_string());
                self.findings.add(Finding::new(Code::MissingFile, place, found, "the rest is not looked for"));
                self.lost = true;
                break;
            }
            self.bundle(path, observer);
            progress(path.index * 256 + u64::from(path.width), self.size.get());
        }
    }

    fn fetch(&mut self, path: String, limit: u64) -> Option<Vec<u8>> {
        match self.export.read(&path, limit) {
            Fetched::Bytes(bytes) => return Some(bytes),
            Fetched::Missing => {
                self.findings.add(Finding::new(Code::MissingFile, Place::file(path), "no such file", "a file"));
            }
            Fetched::Failed(why) => {
                self.findings.add(Finding::new(Code::Unreadable, Place::file(path), why, "a file"));
            }
        }
        None
    }

    fn bundle(&mut self, path: BundlePath, observer: &mut dyn Observer) {
        let tile_path = lowest(path.index, path.width).to_string();
        let bundle = self.fetch(path.to_string(), BUNDLE_BYTES_MAX);
        let tile = self.fetch(tile_path.clone(), TILE_BYTES_MAX);
        self.missing += u64::from(bundle.is_none());
        let hashes: Vec<Hash> = (tile.as_deref().unwrap_or_default().as_chunks::<32>().0.iter())
            .map(|hash| Hash::from_bytes(*hash))
            .collect();
        if let Some(found) = tile.as_ref().map(Vec::len).filter(|found| *found != usize::from(path.width) * 32) {
            let expected = format!("{} bytes", usize::from(path.width) * 32);
            let place = Place::file(&tile_path);
            self.findings.add(Finding::new(Code::TileAltered, place, format!("{found} bytes"), expected));
        }
        let entries = bundle.as_deref().map(split).unwrap_or_default();
        if bundle.is_some() && (entries.0.len() != usize::from(path.width) || entries.1.is_some()) {
            let found = entries.1.map_or_else(|| format!("{} entries", entries.0.len()), |e| e.to_string());
            let expected = format!("{} entries", path.width);
            let place = Place::file(path.to_string());
            self.findings.add(Finding::new(Code::BundleMalformed, place, found, expected));
        }
        for slot in 0..usize::from(path.width) {
            let index = path.index * 256 + slot as u64;
            let tile = hashes.get(slot).copied();
            let leaf = match entries.0.get(slot) {
                Some(bytes) => {
                    let leaf = leaf_hash(bytes);
                    if let Some(tile) = tile.filter(|tile| *tile != leaf)
                        && self.leaves.len() < LEAVES_MAX
                    {
                        let place = place_of(index, bytes);
                        self.leaves.push(LeafDiff { place, entry: leaf, tile, path: tile_path.clone() });
                    }
                    if let Some(judge) = &mut self.judge {
                        judge.entry(index, bytes, leaf, observer);
                    }
                    Some(leaf)
                }
                // The tile stands in: if it leads to the signed root, the other entries are proven nevertheless.
                None => {
                    if let Some(judge) = &mut self.judge {
                        judge.skip();
                    }
                    tile
                }
            };
            match leaf.filter(|_| !self.lost) {
                Some(leaf) => {
                    self.walk.push(leaf);
                    self.meet();
                }
                None => self.lost = true,
            }
        }
    }

    /// Holds the signed statements about the present size against the tree.
    fn meet(&mut self) {
        while let Some(pin) = self.pins.next_if(|pin| pin.size() <= self.walk.size()) {
            let size = match pin {
                Waymark::Since(pin) => {
                    self.since += 1;
                    self.walk.meet(pin);
                    continue;
                }
                Waymark::Published(size) => size,
            };
            let file = format!("checkpoints/{size}");
            let Some(note) = self.fetch(file.clone(), NOTE_BYTES_MAX) else { continue };
            let opened = open_note(&note, self.key).and_then(|opened| {
                let checkpoint = opened.checkpoint();
                match checkpoint.size.get() {
                    found if found == size => Ok(checkpoint.root),
                    found => Err(format!("a checkpoint of size {found}")),
                }
            });
            match opened {
                Ok(root) => {
                    self.published += 1;
                    self.walk.meet(Pin { file, size, root });
                }
                Err(found) => {
                    let expected = format!("{}, of size {size}", signed_by(self.key));
                    let finding = Finding::new(Code::PublishedCheckpoint, Place::file(file), found, expected);
                    self.findings.add(finding);
                }
            }
        }
    }
}

/// The entries of a bundle up to the first that is cut off, and what is wrong there.
fn split(bytes: &[u8]) -> (Vec<&[u8]>, Option<BundleError>) {
    let error = match decode_bundle(bytes) {
        Ok(entries) => return (entries, None),
        Err(error) => error,
    };
    let mut entries = Vec::new();
    let mut rest = bytes;
    while entries.len() < 256
        && let Some((length, tail)) = rest.split_first_chunk::<2>()
        && let Some((entry, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))
    {
        entries.push(entry);
        rest = tail;
    }
    (entries, Some(error))
}

/// Says what the hashes come to; whether the entries are anchored by the signed root.
fn conclude(
    export: &Export,
    size: TreeSize,
    root: Hash,
    walked: &Walked,
    leaves: &[LeafDiff],
    lost: bool,
    findings: &mut Findings,
) -> bool {
    for path in &walked.missing {
        findings.add(Finding::new(Code::MissingFile, Place::file(path), "no such file", "a file"));
    }
    for (path, why) in &walked.failed {
        findings.add(Finding::new(Code::Unreadable, Place::file(path), why, "a file"));
    }
    let computed = walked.root.filter(|_| !lost);
    let anchored = computed == Some(root);
    if anchored && leaves.is_empty() && walked.tiles.is_empty() && walked.unmatched.is_empty() {
        return true;
    }
    if anchored {
        for leaf in leaves {
            let place = Place { file: Some(leaf.path.clone()), ..leaf.place.clone() };
            findings.add(Finding::new(Code::TileAltered, place, leaf.tile.to_string(), leaf.entry.to_string()));
        }
        upper_tiles(walked, findings);
        forks(&walked.unmatched, findings);
        return true;
    }
    // The entries do not lead to the signed root. Do the tiles?
    let pins: Vec<Pin> = walked.unmatched.iter().map(|unmatched| unmatched.pin.clone()).collect();
    let by_tiles = if lost { None } else { walk_tiles(export, size, &pins) };
    if let Some(by_tiles) = by_tiles.filter(|by_tiles| by_tiles.root == Some(root)) {
        for leaf in leaves {
            let (found, expected) = (leaf.entry.to_string(), leaf.tile.to_string());
            findings.add(Finding::new(Code::EntryAltered, leaf.place.clone(), found, expected));
        }
        upper_tiles(&by_tiles, findings);
        forks(&by_tiles.unmatched, findings);
        return false;
    }
    if let Some(computed) = computed {
        let place = Place::file("checkpoint");
        findings.add(Finding::new(Code::RootMismatch, place, computed.to_string(), root.to_string()));
    }
    for leaf in leaves {
        let (found, expected) = (leaf.entry.to_string(), leaf.tile.to_string());
        findings.add(Finding::new(Code::LeafMismatch, leaf.place.clone(), found, expected));
    }
    forks(&walked.unmatched, findings);
    false
}

fn upper_tiles(walked: &Walked, findings: &mut Findings) {
    for tile in &walked.tiles {
        findings.add(Finding::new(Code::TileAltered, Place::file(&tile.path), &tile.found, &tile.expected));
    }
}

fn forks(unmatched: &[Unmatched], findings: &mut Findings) {
    for Unmatched { pin, computed } in unmatched {
        let (found, expected) = (format!("root {} at size {}", pin.root, pin.size), format!("root {computed}"));
        findings.add(Finding::new(Code::Fork, Place::file(&pin.file), found, expected));
    }
}

/// Partial tiles and bundles of earlier sizes are prefixes of their fuller selves.
fn earlier(export: &Export, contents: &Contents, findings: &mut Findings) {
    for (path, fuller) in &contents.earlier {
        let mut bytes = |path: &str| match export.read(path, BUNDLE_BYTES_MAX) {
            Fetched::Bytes(bytes) => Some(bytes),
            Fetched::Missing => {
                findings.add(Finding::new(Code::MissingFile, Place::file(path), "no such file", "a file"));
                None
            }
            Fetched::Failed(why) => {
                findings.add(Finding::new(Code::Unreadable, Place::file(path), why, "a file"));
                None
            }
        };
        let (Some(found), Some(whole)) = (bytes(path), bytes(fuller)) else { continue };
        let expected = expected_prefix(path, &whole);
        if expected.is_none_or(|expected| expected != found) {
            let (found, expected) = first_difference(&found, expected.unwrap_or_default());
            let code = if path.starts_with("tile/entries/") { Code::BundleMalformed } else { Code::TileAltered };
            let expected = format!("{expected}, as `{fuller}` begins");
            findings.add(Finding::new(code, Place::file(path), found, expected));
        }
    }
}

/// The prefix of a full tile or bundle that the partial one at `path` must be.
fn expected_prefix<'a>(path: &str, whole: &'a [u8]) -> Option<&'a [u8]> {
    let width: usize = path.rsplit_once(".p/")?.1.parse().ok()?;
    if !path.starts_with("tile/entries/") {
        return whole.get(..width * 32);
    }
    let (entries, _) = split(whole);
    let length = entries.get(..width)?.iter().map(|entry| 2 + entry.len()).sum();
    whole.get(..length)
}

/// What had to be proven and is not.
pub(crate) fn required(require: &[Claim], claims: &crate::story::Claims, findings: &mut Findings) {
    for claim in require {
        let count = claims.of(*claim);
        if count.attested > 0 {
            let place = count.first_attested.map_or_else(Place::default, Place::entry);
            let found = format!("{} of {} attested", count.attested, count.attested + count.proven);
            let expected = format!("all {} proven", claim.as_str());
            findings.add(Finding::new(Code::RequiredAttested, place, found, expected));
        }
    }
}
