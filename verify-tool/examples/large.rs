//! Writes a large ledger, as `countersign ledger export` leaves one: `large FOLDER ENTRIES [SEED]`. Every story in it is clean, and
//! every kind of story is in it: delivered, denied, rejected, failed, aborted and tried again, approved, refused, taken back, left
//! open; admins change policies and groups meanwhile. Made from the published formats and without the rule code, so that what
//! the verify tool says of it is not the echo of what made it. For measuring, and for looking for false alarms.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a tool for tests fails by panicking")]

use countersign_ledger::evidence::digest::sha256;
use countersign_ledger::evidence::jws::PublicKey;
use countersign_ledger::evidence::step::*;
use countersign_ledger::evidence::{Commitment, Entry, Reason, Step, TraceId};
use countersign_ledger::tlog::{
    BundlePath, Checkpoint, Frontier, Hash, SignedCheckpoint, SignerKey, TileId, TilePath, encode_bundle, leaf_hash,
};
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

const ORIGIN: &str = "ledger.example/large";
/// The ledger's first second.
const START: u64 = 1_763_931_600;
/// Microseconds from one entry to the next.
const PACE: u64 = 20_000;
const END: u64 = START + 400 * 86_400;
/// How many stories are told at the same time.
const AT_ONCE: usize = 200;
/// How often, in entries, a checkpoint is published.
const PUBLISHED: u64 = 1000;
const GROUPS: [&str; 3] = ["legal", "privacy", "stewards"];
const COLUMNS: [(&str, &str, &str); 12] = [
    ("id", "key", "clear"),
    ("email", "pii.email", "email"),
    ("full_name", "pii.name", "redact"),
    ("iban", "fin.iban", "last4"),
    ("card_number", "fin.card", "token/cards"),
    ("street", "pii.address", "redact"),
    ("city", "public", "clear"),
    ("birth_date", "pii.birth", "year"),
    ("ip_address", "pii.ip", "ip_prefix"),
    ("amount_cents", "fin.amount", "round/100"),
    ("note", "unclassified", "redact"),
    ("created_at", "public", "clear"),
];

/// SplitMix64: a seed reproduces a ledger.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// What stands for a digest or a commitment that nobody can open: like the real ones, 32 bytes that say nothing.
    fn hash(&mut self) -> Hash {
        let mut bytes = [0; 32];
        bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|chunk| *chunk = self.next().to_be_bytes());
        Hash::from_bytes(bytes)
    }

    fn commitment(&mut self) -> Commitment {
        Commitment(self.hash())
    }
}

fn signer(name: &str) -> SignerKey {
    SignerKey::generate_from_seed(name, sha256(name.as_bytes()).as_bytes()).unwrap()
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_bytes(Alg::EdDsa, signer(name).verifier().public()).unwrap()
}

fn pseudonym(name: &str) -> String {
    format!("id-{:.16}", sha256(name.as_bytes()).to_string())
}

fn int(n: u64) -> Int {
    Int::try_from(n).unwrap()
}

/// The folder, written as the tree grows: what is complete leaves memory.
struct Folder {
    dir: PathBuf,
    frontier: Frontier,
    bundle: Vec<Vec<u8>>,
    /// The unfinished tile on each level, and how many were finished there.
    tiles: Vec<(Vec<u8>, u64)>,
}

impl Folder {
    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn push(&mut self, entry: Vec<u8>) -> Hash {
        let leaf = leaf_hash(&entry);
        self.bundle.push(entry);
        let mut full = Vec::new();
        let tiles = &mut self.tiles;
        self.frontier.push_with(leaf, |level, _, hash| {
            if level % 8 == 0 {
                let level = usize::from(level / 8);
                tiles.resize_with(tiles.len().max(level + 1), Default::default);
                let (hashes, done) = &mut tiles[level];
                hashes.extend_from_slice(hash.as_bytes());
                if hashes.len() == 8192 {
                    let id = TileId { level: level as u8, index: *done };
                    full.push((TilePath { id, width: 256 }, std::mem::take(hashes)));
                    *done += 1;
                }
            }
        });
        let size = self.frontier.size().get();
        for (path, bytes) in full {
            self.put(&path.to_string(), &bytes);
        }
        if self.bundle.len() == 256 {
            let path = BundlePath { index: size / 256 - 1, width: 256 };
            let entries = std::mem::take(&mut self.bundle);
            self.put(&path.to_string(), &encode_bundle(&entries).unwrap());
        }
        if size.is_multiple_of(PUBLISHED) {
            self.put(&format!("checkpoints/{size}"), &self.checkpoint());
        }
        leaf
    }

    fn checkpoint(&self) -> Vec<u8> {
        let checkpoint = Checkpoint::new(ORIGIN, self.frontier.size(), self.frontier.root());
        SignedCheckpoint::sign(checkpoint, &[&signer(ORIGIN)]).unwrap().into_note()
    }

    fn finish(self) {
        let size = self.frontier.size().get();
        if !self.bundle.is_empty() {
            let path = BundlePath { index: size / 256, width: self.bundle.len() as u16 };
            self.put(&path.to_string(), &encode_bundle(&self.bundle).unwrap());
        }
        for (level, (hashes, done)) in self.tiles.iter().enumerate().filter(|(_, (hashes, _))| !hashes.is_empty()) {
            let id = TileId { level: level as u8, index: *done };
            self.put(&TilePath { id, width: (hashes.len() / 32) as u16 }.to_string(), hashes);
        }
        self.put(&format!("checkpoints/{size}"), &self.checkpoint());
        self.put("checkpoint", &self.checkpoint());
    }
}

/// What may happen next in a story.
#[derive(Clone, Copy)]
enum Move {
    Received,
    Verified,
    Decided(Verdict),
    Denied(Reason),
    Queried,
    Masked,
    Intended,
    Committed,
    Aborted,
    Completed,
    Failed,
    Asked,
    Granted(usize),
    Refused(usize),
    TakenBack(usize),
    Used(usize),
    /// Nothing more: the story stays open.
    Never,
}

/// One request, and the moves that are still to come.
struct Story {
    trace: TraceId,
    caller: usize,
    connection: usize,
    digest: Hash,
    obligations: Hash,
    columns: Vec<(&'static str, &'static str, &'static str)>,
    /// The groups that must approve.
    groups: Vec<usize>,
    attempt: u64,
    /// Trace, index and leaf hash of the yes of each group.
    grants: [Option<(TraceId, u64, Hash)>; 3],
    moves: VecDeque<Move>,
}

struct Ledger {
    numbers: Numbers,
    folder: Folder,
    seq: u64,
    epoch: u64,
    /// The step and head of each trace that goes on.
    heads: HashMap<TraceId, (u64, Hash)>,
    callers: Vec<(String, String, u64)>,
    stewards: Vec<(String, String, u64)>,
    admin: (String, String),
    policy: (u64, Hash),
    catalog: (u64, Hash),
    requests: u64,
}

impl Ledger {
    fn size(&self) -> u64 {
        self.folder.frontier.size().get()
    }

    fn now(&self) -> u64 {
        START + self.size() * PACE / 1_000_000
    }

    /// Appends a step; gives its index and leaf hash.
    fn append(&mut self, trace: TraceId, last: bool, body: impl Into<Step>) -> (u64, Hash) {
        let index = self.size();
        // The process is replaced now and then.
        if index.is_multiple_of(300_000) {
            (self.epoch, self.seq) = (self.epoch + 1, 0);
        }
        let (step, prev) = self.heads.remove(&trace).map_or((0, None), |(step, head)| (step, Some(head)));
        let entry = Entry {
            trace,
            step: int(step),
            prev,
            at: int(START * 1_000_000 + index * PACE),
            src: format!("5eed0123/{}", self.epoch).into(),
            seq: int(self.seq),
            body: body.into(),
        };
        self.seq += 1;
        let leaf = self.folder.push(entry.encode().unwrap());
        if !last {
            self.heads.insert(trace, (step + 1, leaf));
        }
        (index, leaf)
    }

    fn signed(&mut self) -> Signed {
        let (admin, kid) = self.admin.clone();
        let by = vec![SignedBy { admin, kid, signature: self.numbers.commitment() }];
        Signed { change: self.numbers.commitment(), by }
    }

    fn register(&mut self, name: &str, kind: Kind, groups: &[&str]) -> (String, String, u64) {
        let first = self.admin.0.is_empty();
        let (identity, key) = (pseudonym(name), public(name));
        if first {
            self.admin = (identity.clone(), key.thumbprint());
        }
        let registered = IdentityRegistered {
            identity: identity.clone(),
            kind,
            admin: first,
            groups: groups.iter().map(|group| (*group).into()).collect(),
            owner: None,
            on_behalf_of: None,
            alg: Alg::EdDsa,
            key: key.to_text(),
            kid: key.thumbprint(),
            not_after: int(END),
            possession: self.numbers.commitment(),
            record: self.numbers.commitment(),
            signed: if first { None } else { Some(self.signed()) },
        };
        let (index, _) = self.append(TraceId::identity(&identity), false, registered);
        (identity, key.thumbprint(), index)
    }

    fn change_policy(&mut self) {
        self.policy = (self.policy.0 + 1, self.numbers.hash());
        let (version, digest) = (int(self.policy.0), self.policy.1);
        let (document, signed) = (self.numbers.commitment(), self.signed());
        self.append(TraceId::policy(), false, PolicyChanged { version, digest, document, signed });
    }

    fn change_catalog(&mut self) {
        self.catalog = (self.catalog.0 + 1, self.numbers.hash());
        let (version, digest) = (int(self.catalog.0), self.catalog.1);
        let (document, signed) = (self.numbers.commitment(), self.signed());
        self.append(TraceId::catalog(), false, CatalogChanged { version, digest, document, signed });
    }

    fn change_groups(&mut self) {
        let at = self.numbers.below(self.callers.len());
        let identity = self.callers[at].0.clone();
        let groups = vec![format!("team-{}", self.numbers.below(9))];
        let signed = self.signed();
        self.append(TraceId::identity(&identity), false, GroupsChanged { identity, groups, signed });
    }

    fn reject(&mut self) {
        let offset = self.size();
        let rejected = RequestRejected {
            reason: Reason::BadSignature,
            door: "kafka".into(),
            topic: "chunk.requests".into(),
            partition: int(0),
            offset: int(offset),
            count: int(1),
            record: self.numbers.commitment(),
        };
        self.append(TraceId::rejected("chunk.requests", 0, offset), true, rejected);
    }

    /// A new story, of a kind that chance chooses.
    fn story(&mut self) -> Story {
        use Move as M;
        let delivery = [M::Queried, M::Masked, M::Intended, M::Committed, M::Completed];
        let permit = [M::Received, M::Verified, M::Decided(Verdict::Permit)];
        let mut asked = vec![M::Received, M::Verified, M::Decided(Verdict::NeedsApproval), M::Asked];
        let mut groups: Vec<usize> = (0..3).filter(|_| self.numbers.below(2) == 0).collect();
        let kind = self.numbers.below(1000);
        let moves: Vec<M> = match kind {
            0..700 => [&permit[..], &delivery].concat(),
            700..800 => {
                let reason = Reason::Forbidden;
                vec![M::Received, M::Verified, M::Decided(Verdict::Deny), M::Denied(reason)]
            }
            800..820 => vec![M::Received, M::Verified, M::Denied(Reason::Expired)],
            820..850 => [&permit[..], &[M::Queried, M::Failed]].concat(),
            850..890 => [&permit[..], &[M::Queried, M::Masked, M::Intended, M::Aborted], &delivery].concat(),
            890..900 => [&permit[..], &[M::Queried, M::Queried], &delivery].concat(),
            900..997 => {
                if groups.is_empty() {
                    groups.push(self.numbers.below(3));
                }
                asked.extend(groups.iter().map(|group| M::Granted(*group)));
                match kind {
                    900..970 => {
                        asked.extend(groups.iter().map(|group| M::Used(*group)));
                        asked.push(M::Decided(Verdict::Permit));
                        asked.extend(delivery);
                        if kind < 910 {
                            // Of no consequence, but it happens.
                            asked.push(M::TakenBack(groups[0]));
                        }
                    }
                    970..985 => {
                        asked.truncate(4);
                        asked.extend([M::Refused(groups[0]), M::Denied(Reason::ApprovalDenied)]);
                    }
                    _ => asked.extend([M::TakenBack(groups[0]), M::Failed]),
                }
                asked
            }
            _ => [&permit[..], &[M::Queried, M::Masked, M::Intended, M::Never]].concat(),
        };
        if !(900..997).contains(&kind) {
            groups.clear();
        }
        self.requests += 1;
        let caller = self.numbers.below(self.callers.len());
        let count = 3 + self.numbers.below(7);
        let first = self.numbers.below(COLUMNS.len());
        Story {
            trace: TraceId::request(&self.callers[caller].0, &self.requests.to_string()),
            caller,
            connection: self.numbers.below(4),
            digest: self.numbers.hash(),
            obligations: self.numbers.hash(),
            columns: (0..count).map(|at| COLUMNS[(first + at) % COLUMNS.len()]).collect(),
            groups,
            attempt: 0,
            grants: [None; 3],
            moves: moves.into(),
        }
    }

    /// Tells the next part of a story; whether there is more to come.
    fn tell(&mut self, story: &mut Story) -> bool {
        let Some(next) = story.moves.pop_front() else { return false };
        let (trace, now) = (story.trace, self.now());
        let groups = |at: &[usize]| at.iter().map(|at| GROUPS[*at].to_owned()).collect::<Vec<_>>();
        let connection = || format!("warehouse-{}", story.connection);
        let attempt = int(story.attempt);
        match next {
            Move::Received => {
                let received = RequestReceived {
                    door: "kafka".into(),
                    topic: "chunk.requests".into(),
                    partition: int(self.size() % 12),
                    offset: int(self.size()),
                    bytes: int(700 + self.numbers.below(400) as u64),
                    digest: story.digest,
                    request: self.numbers.commitment(),
                };
                self.append(trace, false, received);
            }
            Move::Verified => {
                let (identity, kid, registered) = self.callers[story.caller].clone();
                let (alg, attest) = (Alg::EdDsa, Attest::CallerSigned);
                let registered = int(registered);
                self.append(trace, false, IdentityVerified { identity, kid, alg, registered, attest });
            }
            Move::Decided(verdict) => {
                let yes = verdict != Verdict::Deny;
                let column = |(column, class, rule): &(&str, &str, &str)| DecidedColumn {
                    column: (*column).into(),
                    class: (*class).into(),
                    rule: (*rule).into(),
                    paths: Vec::new(),
                };
                let decided = PolicyDecided {
                    verdict,
                    policies: vec![format!("policy{}", self.numbers.below(20))],
                    policy: self.policy.1,
                    catalog: self.catalog.1,
                    time: int(now),
                    connection: yes.then(|| connection().into()),
                    table: yes.then(|| "public.customers".into()),
                    purpose: yes.then(|| "support".into()),
                    columns: if yes { story.columns.iter().map(column).collect() } else { Vec::new() },
                    approval: groups(&story.groups),
                    obligations: story.obligations,
                    document: self.numbers.commitment(),
                };
                self.append(trace, false, decided);
            }
            Move::Denied(reason) => {
                self.append(trace, true, RequestDenied { reason });
            }
            Move::Queried => {
                story.attempt += 1;
                let queried = SourceQueried {
                    attempt: int(story.attempt),
                    connection: format!("warehouse-{}", story.connection).into(),
                    table: "public.customers".into(),
                    columns: story.columns.iter().map(|(column, _, _)| (*column).into()).collect(),
                    snapshot: format!("{0:08X}-00000{1:03X}-1", self.size(), self.size() % 4096).into(),
                    statement: self.numbers.commitment(),
                };
                self.append(trace, false, queried);
            }
            Move::Masked => {
                let rows = self.numbers.below(50_000) as u64;
                let column = |(column, class, rule): &(&str, &str, &str)| MaskedColumn {
                    column: (*column).into(),
                    class: (*class).into(),
                    rule: (*rule).into(),
                    transform: (*rule).into(),
                    seen: int(rows),
                    changed: int(if *rule == "clear" { 0 } else { rows }),
                    hits: Vec::new(),
                    paths: Vec::new(),
                };
                let columns = story.columns.iter().map(column).collect();
                self.append(trace, false, ChunkMasked { attempt, rows: int(rows), columns, rows_root: None });
            }
            Move::Intended => {
                let intended = DeliveryIntended {
                    attempt,
                    chunk: self.numbers.commitment(),
                    parts: int(1 + self.numbers.below(30) as u64),
                    bytes: int(self.numbers.below(9_000_000) as u64),
                    format: "arrow".into(),
                    to: self.callers[story.caller].0.clone(),
                    destination: self.numbers.commitment(),
                    status_partition: int(3),
                    status_offset: int(self.size()),
                };
                self.append(trace, false, intended);
            }
            Move::Committed => {
                let (status_partition, status_offset) = (int(3), int(self.size()));
                self.append(trace, false, DeliveryCommitted { attempt, status_partition, status_offset });
            }
            Move::Aborted => {
                self.append(trace, false, DeliveryAborted { attempt, reason: Reason::NotDelivered });
            }
            Move::Completed => {
                self.append(trace, true, RequestCompleted { attempt });
            }
            Move::Failed => {
                let detail = Some(self.numbers.commitment());
                self.append(trace, true, RequestFailed { reason: Reason::SourceTimeout, detail });
            }
            Move::Asked => {
                let asked = ApprovalRequested {
                    groups: groups(&story.groups),
                    request: story.digest,
                    obligations: story.obligations,
                    not_after: int(now + 7 * 86_400),
                };
                self.append(trace, false, asked);
            }
            Move::Granted(group) => {
                let (identity, kid, registered) = self.stewards[group].clone();
                let granted = ApprovalGranted {
                    request: trace,
                    digest: story.digest,
                    obligations: story.obligations,
                    identity,
                    kid,
                    registered: int(registered),
                    groups: groups(&[group]),
                    signed_at: int(now),
                    not_before: int(now),
                    not_after: int(now + 7 * 86_400),
                    reason: self.numbers.commitment(),
                    token: self.numbers.commitment(),
                };
                let approval = TraceId(self.numbers.hash());
                let (index, leaf) = self.append(approval, false, granted);
                story.grants[group] = Some((approval, index, leaf));
            }
            Move::Refused(group) => {
                let (identity, kid, registered) = self.stewards[group].clone();
                let denied = ApprovalDenied {
                    request: trace,
                    digest: story.digest,
                    obligations: story.obligations,
                    identity,
                    kid,
                    registered: int(registered),
                    groups: groups(&[group]),
                    reason: self.numbers.commitment(),
                    token: self.numbers.commitment(),
                };
                let answer = TraceId(self.numbers.hash());
                self.append(answer, true, denied);
            }
            Move::TakenBack(group) => {
                let (approval, _, _) = story.grants[group].unwrap();
                let (identity, kid, registered) = self.stewards[group].clone();
                let token = self.numbers.commitment();
                let registered = int(registered);
                self.append(approval, true, ApprovalRevoked { identity, kid, registered, token });
            }
            Move::Used(group) => {
                let (approval, index, leaf) = story.grants[group].unwrap();
                self.append(trace, false, ApprovalUsed { approval, index: int(index), leaf });
            }
            Move::Never => return false,
        }
        true
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (dir, entries, seed) = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [dir, entries] => (*dir, entries.parse::<u64>().unwrap(), 1),
        [dir, entries, seed] => (*dir, entries.parse().unwrap(), seed.parse().unwrap()),
        _ => panic!("usage: large FOLDER ENTRIES [SEED]"),
    };
    let folder =
        Folder { dir: Path::new(dir).into(), frontier: Frontier::new(), bundle: Vec::new(), tiles: Vec::new() };
    let mut ledger = Ledger {
        numbers: Numbers(seed),
        folder,
        seq: 0,
        epoch: 0,
        heads: HashMap::new(),
        callers: Vec::new(),
        stewards: Vec::new(),
        admin: Default::default(),
        policy: (0, Hash::from_bytes([0; 32])),
        catalog: (0, Hash::from_bytes([0; 32])),
        requests: 0,
    };
    let key = signer(ORIGIN).verifier().to_string();
    ledger.folder.put("../large.vkey", format!("{key}\n").as_bytes());
    ledger.append(TraceId::log(), false, LogCreated { origin: ORIGIN.into(), key, quorum: int(1), continues: None });
    ledger.register("root", Kind::Human, &[]);
    for at in 0..40 {
        let caller = ledger.register(&format!("caller-{at}"), Kind::Service, &["team"]);
        ledger.callers.push(caller);
    }
    for group in GROUPS {
        let steward = ledger.register(&format!("of-{group}"), Kind::Human, &[group]);
        ledger.stewards.push(steward);
    }
    for at in 0..4 {
        let connection = format!("warehouse-{at}");
        let (document, signed) = (ledger.numbers.commitment(), ledger.signed());
        let changed = ConnectionChanged { connection: connection.clone(), kind: "postgres".into(), document, signed };
        ledger.append(TraceId::connection(&connection), false, changed);
    }
    ledger.change_catalog();
    ledger.change_policy();
    let mut stories: Vec<Story> = Vec::new();
    while ledger.size() < entries {
        match ledger.numbers.below(20_000) {
            0 => ledger.change_policy(),
            1 => ledger.change_catalog(),
            2..4 => ledger.change_groups(),
            4..80 => ledger.reject(),
            _ => {}
        }
        while stories.len() < AT_ONCE {
            let story = ledger.story();
            stories.push(story);
        }
        let at = ledger.numbers.below(stories.len());
        if !ledger.tell(&mut stories[at]) {
            stories.swap_remove(at);
        }
    }
    let size = ledger.size();
    ledger.folder.finish();
    println!("{size} entries in {dir}");
}
