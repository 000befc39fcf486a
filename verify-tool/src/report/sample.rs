//! The stories that the report shows whole. Which ones is nobody's choice: of each kind those whose traces have the smallest
//! names, and a trace's name is a hash. Their entries are read once more, each with the proof that it stands under the signed
//! root, so that a reader can hold them against the checkpoint in the page itself.

use super::review::Outcome;
use crate::explain::{Word, called, entry_bytes, say};
use crate::export::Export;
use crate::fork::Tiles;
use crate::report::LogFacts;
use countersign_ledger::evidence::step::PolicyDecided;
use countersign_ledger::evidence::{Entry, Step, TraceId};
use countersign_ledger::tlog::{Hash, LeafIndex, TileHashes, TreeSize, inclusion_proof, leaf_hash, verify_inclusion};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most stories that a report shows.
pub const STORIES_MAX: usize = 200;

/// The most entries of one story that are shown: a request that was tried again and again can have any number.
const LINES_MAX: usize = 60;

/// Why a story is shown; of a story that is several of these, the first counts.
const KINDS: [&str; 8] =
    ["broken", "approved by people", "superseded attempt", "failed", "denied", "waiting", "open", "delivered"];

/// One entry of a story.
#[derive(Clone, Debug, Serialize)]
pub struct StoryLine {
    /// Its index.
    pub entry: u64,
    /// Microseconds of Unix time.
    pub at_micros: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its trace, where it is not the story's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<TraceId>,
    /// How far it can be believed.
    pub word: Word,
    /// In words.
    pub text: String,
    /// The entry itself.
    pub bytes: String,
    /// Its inclusion proof, from the leaf's sibling up: indices into [`Stories::nodes`]. None where the tiles do not give one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Vec<u32>>,
}

/// One story.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// Its trace.
    pub trace: TraceId,
    /// How it ended.
    pub outcome: Outcome,
    /// The pseudonym of the one who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What was asked for, where it was permitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Why it is shown.
    pub shown_as: &'static str,
    /// Its entries, in the order of the log.
    pub lines: Vec<StoryLine>,
    /// How many more entries it has.
    pub more: usize,
}

/// The stories that are shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stories {
    /// How many stories the ledger holds.
    pub of: u64,
    /// The hashes that inclusion proofs are made of, in base64.
    pub nodes: Vec<String>,
    /// The stories, in the order of their first entries.
    pub stories: Vec<Story>,
}

#[derive(Debug)]
struct Offered {
    outcome: Outcome,
    lines: Vec<(u64, Word)>,
}

/// Chooses while the walk goes on.
#[derive(Debug, Default)]
pub struct Sample {
    of: u64,
    kinds: BTreeMap<usize, BTreeMap<TraceId, Offered>>,
}

impl Sample {
    /// A story has ended. `is` says whether it is broken, rests on approvals, had an attempt that was superseded.
    pub fn offer(&mut self, trace: TraceId, outcome: Outcome, is: (bool, bool, bool), lines: Vec<(u64, Word)>) {
        self.of += 1;
        let kind = match (is, outcome) {
            ((true, _, _), _) => 0,
            ((_, true, _), _) => 1,
            ((_, _, true), _) => 2,
            (_, Outcome::Failed) => 3,
            (_, Outcome::Denied | Outcome::Rejected) => 4,
            (_, Outcome::Waiting) => 5,
            (_, Outcome::Open) => 6,
            (_, Outcome::Delivered) => 7,
        };
        let offers = self.kinds.entry(kind).or_default();
        if offers.len() >= STORIES_MAX {
            if offers.last_key_value().is_some_and(|(last, _)| *last <= trace) {
                return;
            }
            offers.pop_last();
        }
        offers.insert(trace, Offered { outcome, lines });
    }

    /// So many of each kind that all kinds have their share, and `max` together.
    fn chosen(self, max: usize) -> Vec<(TraceId, &'static str, Offered)> {
        let mut queues: Vec<_> = (self.kinds.into_iter())
            .map(|(kind, offers)| (KINDS.get(kind).copied().unwrap_or_default(), offers.into_iter()))
            .collect();
        let mut chosen = Vec::new();
        while chosen.len() < max {
            let before = chosen.len();
            for (kind, queue) in &mut queues {
                if chosen.len() < max
                    && let Some((trace, offered)) = queue.next()
                {
                    chosen.push((trace, *kind, offered));
                }
            }
            if chosen.len() == before {
                break;
            }
        }
        chosen
    }

    /// Reads the chosen stories.
    pub fn tell(
        self,
        export: &Export,
        log: Option<&LogFacts>,
        names: &BTreeMap<String, String>,
        max: usize,
    ) -> Stories {
        let of = self.of;
        let Some(log) = log else { return Stories { of, ..Stories::default() } };
        let mut chosen = self.chosen(max.min(STORIES_MAX));
        let mut wanted = BTreeSet::new();
        for (_, _, offered) in &mut chosen {
            offered.lines.sort_unstable();
            offered.lines.dedup_by_key(|(index, _)| *index);
            wanted.extend(offered.lines.iter().take(LINES_MAX).map(|(index, _)| *index));
        }
        let mut pool = Pool::default();
        let entries = read(export, log, &wanted, &mut pool);
        let name = |pseudonym: &str| called(pseudonym, names.get(pseudonym).map(String::as_str));
        let mut stories: Vec<Story> = (chosen.into_iter())
            .map(|(trace, shown_as, offered)| {
                let (mut identity, mut dataset) = (None, None);
                let lines: Vec<StoryLine> = (offered.lines.iter().take(LINES_MAX))
                    .filter_map(|(index, word)| {
                        let (bytes, proof) = entries.get(index)?;
                        let entry = Entry::decode(bytes.as_bytes()).ok()?;
                        match &entry.body {
                            Step::IdentityVerified(s) => identity = Some(s.identity.clone()),
                            Step::PolicyDecided(PolicyDecided { connection: Some(c), table: Some(t), .. }) => {
                                dataset = Some(format!("{c}.{t}"));
                            }
                            _ => {}
                        }
                        Some(StoryLine {
                            entry: *index,
                            at_micros: entry.at.get(),
                            kind: entry.body.kind(),
                            other: (entry.trace != trace).then_some(entry.trace),
                            word: word.anchored(log.anchored),
                            text: say(&entry.body, &name),
                            bytes: bytes.clone(),
                            proof: proof.clone(),
                        })
                    })
                    .collect();
                let more = offered.lines.len() - lines.len();
                Story { trace, outcome: offered.outcome, identity, dataset, shown_as, lines, more }
            })
            .collect();
        stories.sort_by_key(|story| (story.lines.first().map(|line| line.entry), story.trace));
        Stories { of, nodes: pool.nodes.iter().map(Hash::to_base64).collect(), stories }
    }
}

/// Hashes, each once.
#[derive(Default)]
struct Pool {
    nodes: Vec<Hash>,
    known: HashMap<Hash, u32>,
}

impl Pool {
    fn add(&mut self, hash: Hash) -> u32 {
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        *self.known.entry(hash).or_insert_with(|| {
            self.nodes.push(hash);
            next
        })
    }
}

/// The entries of these indices with their proofs, as far as they can be had.
fn read(
    export: &Export,
    log: &LogFacts,
    wanted: &BTreeSet<u64>,
    pool: &mut Pool,
) -> BTreeMap<u64, (String, Option<Vec<u32>>)> {
    let size = TreeSize::new(log.size);
    let tiles = TileHashes::new(Tiles { export, size }, size);
    let mut entries = BTreeMap::new();
    for index in wanted {
        let Some(bytes) = entry_bytes(export, *index, size) else { continue };
        let leaf = leaf_hash(&bytes);
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let proof = inclusion_proof(&tiles, LeafIndex::new(*index), size).ok();
        let proof = proof.filter(|proof| verify_inclusion(LeafIndex::new(*index), leaf, size, log.root, proof).is_ok());
        let proof = proof.map(|proof| proof.into_iter().map(|hash| pool.add(hash)).collect());
        entries.insert(*index, (text, proof));
    }
    entries
}
