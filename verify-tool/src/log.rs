//! `countersign-verify log`: one walk over a whole export, every entry read once. All cores prepare bundles of 256 entries
//! ([`bundle`](crate::bundle)); one by one, in order, they are told to the judge and pushed into the tree, and checkpoints are met
//! when the tree has their size.

use crate::bundle::{self, Bundle, LeafDiff, Task, split};
use crate::export::{BUNDLE_BYTES_MAX, Contents, Export, Fetched, NOTE_BYTES_MAX};
use crate::finding::{Code, Finding, Findings, Place};
use crate::fork;
use crate::observe::Observer;
use crate::partial;
use crate::payload::Payloads;
use crate::report::{ClaimFacts, Cosigned, LogFacts, Report, StoryFacts, WitnessFacts};
use crate::story::{Claim, Judge, Terms};
use crate::tree::{Pin, Unmatched, Walk, Walked, first_difference, walk_tiles};
use countersign_ledger::evidence::ForkProof;
use countersign_ledger::tlog::{EMPTY_ROOT, EpochError, Epochs, Hash, Policy, SignedCheckpoint, TreeSize, VerifierKey};
use std::collections::BTreeSet;
use std::iter::Peekable;

/// After so many missing bundles the walk gives up: a checkpoint can claim any size, and time is not endless.
const MISSING_MAX: u64 = 64;

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's keys, and which sizes each signs.
    pub keys: Epochs,
    /// Whom to believe besides the log: enough of these witnesses must have cosigned the export's checkpoint.
    pub policy: Option<Policy>,
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

impl Options {
    /// The log of that key, with nothing more given.
    pub fn new(key: VerifierKey) -> Self {
        let keys = Epochs::single(key);
        Self {
            keys,
            policy: None,
            since: Vec::new(),
            tree_only: false,
            pinned: None,
            require: Vec::new(),
            partial: false,
        }
    }
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
    let witnesses = options.policy.as_ref().and_then(|policy| witnesses(policy, &head, &mut findings));
    let contents = export.contents(size);
    strangers(&contents, options.tree_only, &mut findings);
    if !contents.entries.is_empty() {
        let head = head.checkpoint();
        let report = partial::check(export, options, head, &contents, findings, observer, &mut progress);
        return Report { log: report.log.map(|log| LogFacts { witnesses, ..log }), ..report };
    }
    let Waymarks { since, published, together } = waymarks(options, &contents, size, &mut findings);
    let judge = (!options.tree_only).then(|| {
        let terms = Terms {
            origin: head.checkpoint().origin.clone(),
            keys: options.keys.clone(),
            pinned: options.pinned.clone(),
            part: false,
        };
        Judge::new(terms, Payloads::new(export, contents.payloads.iter().copied()))
    });
    let mut pass = Pass {
        size,
        since: since.into_iter().peekable(),
        walk: Walk::new(export, size),
        judge,
        findings: Findings::default(),
        leaves: Vec::new(),
        missing: 0,
        lost: false,
        published: 0,
        extends: 0,
    };
    let task = Task { export, keys: &options.keys, published: &published, decode: !options.tree_only };
    pass.run(&task, observer, &mut progress);
    let Pass { walk, judge, findings: met, leaves, lost, published, extends: since, .. } = pass;
    findings.extend(met);
    let walked = walk.finish();
    let before = findings.kept().len();
    let Conclusion { anchored, unmatched } = conclude(export, size, root, walked, &leaves, lost, &mut findings);
    let forked_by = together.or_else(|| fork::first(export, &unmatched, &head, &options.keys));
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
        key: current(&options.keys),
        size: size.get(),
        part: None,
        root,
        anchored,
        published,
        since,
        witnesses,
    });
    report.fork_proof = forked_by.and_then(|proof| String::from_utf8(proof.encode()).ok());
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
    format!("the {size} entries of {} are those that were signed{stories}", options.keys.origin())
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
    open(&note, options, place(), Code::Checkpoint).map_err(|finding| findings.add(*finding)).ok()
}

fn open(note: &[u8], options: &Options, place: Place, code: Code) -> Result<SignedCheckpoint, Box<Finding>> {
    let opened = open_note(note, &options.keys, place.clone(), code)?;
    // Other people's logs may extend their checkpoints; ours must not.
    if !options.tree_only && !opened.extensions().is_empty() {
        let found = format!("{} extension lines", opened.extensions().len());
        return Err(Box::new(Finding::new(code, place, found, signed_by(&options.keys))));
    }
    Ok(opened)
}

/// Opens a checkpoint of the log of these keys. One that is not is a finding of that code, unless it is signed by a key of the
/// log's that does not sign at its size.
pub fn open_note(note: &[u8], keys: &Epochs, place: Place, code: Code) -> Result<SignedCheckpoint, Box<Finding>> {
    let (code, found) = match keys.open(note) {
        Ok(opened) if opened.checkpoint().size.get() > 0 || opened.checkpoint().root == EMPTY_ROOT => {
            return Ok(opened);
        }
        Ok(_) => (code, "size 0 with a root that is not the empty tree's".to_owned()),
        Err(error @ EpochError::OutOfEpoch { .. }) => (Code::KeyEnded, error.to_string()),
        Err(error) => (code, error.to_string()),
    };
    Err(Box::new(Finding::new(code, place, found, signed_by(keys))))
}

/// What a checkpoint should have been, in words.
pub fn signed_by(keys: &Epochs) -> String {
    let list: Vec<String> = keys.iter().map(|epoch| epoch.key.to_string()).collect();
    format!("a checkpoint of `{}` signed by {}", keys.origin(), list.join(", then by "))
}

/// The key that signs now, as text.
pub(crate) fn current(keys: &Epochs) -> String {
    keys.current().to_string()
}

/// What the policy's witnesses say of the export's checkpoint.
fn witnesses(policy: &Policy, head: &SignedCheckpoint, findings: &mut Findings) -> Option<WitnessFacts> {
    let place = || Place::file("checkpoint");
    let witnessed = match policy.witnessed(head) {
        Ok(witnessed) => witnessed,
        Err(error) => {
            let expected = "good cosignatures wherever a witness of the policy is named";
            findings.add(Finding::new(Code::Cosignature, place(), error.to_string(), expected));
            return None;
        }
    };
    if !witnessed.quorum {
        let found = match witnessed.missing.as_slice() {
            [] => witnessed.required.clone(),
            missing => format!("{}; no cosignature by {}", witnessed.required, missing.join(", ")),
        };
        findings.add(Finding::new(Code::WitnessQuorum, place(), found, "the quorum of the policy"));
    }
    let cosigned = witnessed.cosigned.into_iter().map(|(name, by)| Cosigned { name, time: by.time }).collect();
    Some(WitnessFacts { quorum: witnessed.quorum, cosigned, missing: witnessed.missing })
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

/// What was signed of sizes that the walk will come by, ascending.
struct Waymarks {
    /// The checkpoints that were given.
    since: Vec<Pin>,
    /// The sizes of those that were published: they are read when their size is reached, for there can be very many.
    published: Vec<u64>,
    /// The proof that two of those given cannot both be true, whatever the export holds.
    together: Option<ForkProof>,
}

fn waymarks(options: &Options, contents: &Contents, size: TreeSize, findings: &mut Findings) -> Waymarks {
    let mut opened = Vec::new();
    for (file, note) in &options.since {
        match open(note, options, Place::file(file), Code::Checkpoint) {
            Ok(signed) => opened.push((file, signed)),
            Err(finding) => findings.add(*finding),
        }
    }
    opened.sort_by_key(|(_, signed)| signed.checkpoint().size);
    let mut together = None;
    for pair in opened.windows(2) {
        let [(_, first), (file, second)] = pair else { continue };
        let (one, other) = (first.checkpoint(), second.checkpoint());
        if one.size == other.size && one.root != other.root {
            let shown = |root: Hash| format!("root {root} at size {}", one.size);
            findings.add(Finding::new(Code::Fork, Place::file(file), shown(other.root), shown(one.root)));
            together = together.or_else(|| fork::prove(None, first, second, &options.keys));
        }
    }
    let mut within = |file: &dyn Fn() -> String, found: u64| {
        if found > size.get() {
            let expected = format!("at most {size}, the size of the export's checkpoint");
            findings.add(Finding::new(Code::RolledBack, Place::file(file()), format!("size {found}"), expected));
        }
        found <= size.get()
    };
    let since = opened.into_iter().map(|(file, signed)| {
        let (size, root) = (signed.checkpoint().size.get(), signed.checkpoint().root);
        Pin { file: file.clone(), size, root, note: signed.into_note() }
    });
    let since = since.filter(|pin| within(&|| pin.file.clone(), pin.size)).collect();
    let published = contents.checkpoints.iter().copied();
    let published = published.filter(|size| within(&|| format!("checkpoints/{size}"), *size)).collect();
    Waymarks { since, published, together }
}

/// The state of the one walk over all entries.
struct Pass<'a> {
    size: TreeSize,
    since: Peekable<std::vec::IntoIter<Pin>>,
    walk: Walk<'a>,
    judge: Option<Judge<'a>>,
    findings: Findings,
    leaves: Vec<LeafDiff>,
    missing: u64,
    /// A leaf hash is known neither from an entry nor from a tile: no root can be computed from here on.
    lost: bool,
    published: u64,
    extends: u64,
}

/// How many differing leaves are remembered one by one.
const LEAVES_MAX: usize = 1000;

impl Pass<'_> {
    fn run(&mut self, task: &Task<'_>, observer: &mut dyn Observer, progress: &mut impl FnMut(u64, u64)) {
        // What was signed of the empty tree.
        let mut findings = Vec::new();
        let published = task.published(0, 0, &mut findings);
        self.push(&[], None, published);
        findings.into_iter().for_each(|finding| self.findings.add(finding));
        bundle::each(task, self.size, |bundle| {
            let path = bundle.path;
            if self.missing > MISSING_MAX {
                let found = format!("{} bundles missing up to here", self.missing);
                let place = Place::file(path.to_string());
                self.findings.add(Finding::new(Code::MissingFile, place, found, "the rest is not looked for"));
                self.lost = true;
                return false;
            }
            self.missing += u64::from(bundle.missing);
            bundle.findings.drain(..).for_each(|finding| self.findings.add(finding));
            let room = LEAVES_MAX.saturating_sub(self.leaves.len());
            self.leaves.extend(bundle.diffs.drain(..).take(room));
            self.judge(bundle, observer);
            if !self.lost {
                self.push(&bundle.leaves, bundle.subtree, std::mem::take(&mut bundle.published));
                self.lost = bundle.leaves.len() < usize::from(path.width);
            }
            progress(path.index * 256 + u64::from(path.width), self.size.get());
            true
        });
    }

    fn judge(&mut self, bundle: &Bundle, observer: &mut dyn Observer) {
        let Some(judge) = &mut self.judge else { return };
        let first = bundle.path.index * 256;
        for ((slot, leaf), decoded) in bundle.leaves.iter().enumerate().zip(&bundle.decoded) {
            let bytes = bundle.entry(slot).unwrap_or_default();
            judge.entry(first + slot as u64, bytes, *leaf, decoded, observer);
        }
        if bundle.decoded.len() < usize::from(bundle.path.width) {
            judge.skip();
        }
    }

    /// Adds leaves to the tree, and holds what was signed about the sizes on the way against it.
    fn push(&mut self, leaves: &[Hash], subtree: Option<Hash>, published: Vec<Result<Pin, Finding>>) {
        let after = self.walk.size() + leaves.len() as u64;
        let mut pins: Vec<Pin> = std::iter::from_fn(|| self.since.next_if(|pin| pin.size <= after)).collect();
        self.extends += pins.len() as u64;
        for opened in published {
            match opened {
                Ok(pin) if pin.size > after => {}
                Ok(pin) => {
                    self.published += 1;
                    pins.push(pin);
                }
                Err(finding) => self.findings.add(finding),
            }
        }
        pins.sort_by_key(|pin| pin.size);
        self.walk.push(leaves, subtree, pins);
    }
}

/// What the hashes come to.
struct Conclusion {
    /// The entries are those under the signed root.
    anchored: bool,
    /// What was signed and is not true of the tree under the signed root.
    unmatched: Vec<Unmatched>,
}

/// Says what the hashes come to.
fn conclude(
    export: &Export,
    size: TreeSize,
    root: Hash,
    walked: Walked,
    leaves: &[LeafDiff],
    lost: bool,
    findings: &mut Findings,
) -> Conclusion {
    for path in &walked.missing {
        findings.add(Finding::new(Code::MissingFile, Place::file(path), "no such file", "a file"));
    }
    for (path, why) in &walked.failed {
        findings.add(Finding::new(Code::Unreadable, Place::file(path), why, "a file"));
    }
    let computed = walked.root.filter(|_| !lost);
    let anchored = computed == Some(root);
    if anchored {
        for leaf in leaves {
            let place = Place { file: Some(leaf.path.clone()), ..leaf.place.clone() };
            findings.add(Finding::new(Code::TileAltered, place, leaf.tile.to_string(), leaf.entry.to_string()));
        }
        upper_tiles(&walked, findings);
        forks(&walked.unmatched, findings);
        return Conclusion { anchored, unmatched: walked.unmatched };
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
        return Conclusion { anchored, unmatched: by_tiles.unmatched };
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
    // No tree is known that this would be said of.
    Conclusion { anchored, unmatched: Vec::new() }
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
    let (_, end) = *split(whole).0.get(width.checked_sub(1)?)?;
    whole.get(..end)
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
