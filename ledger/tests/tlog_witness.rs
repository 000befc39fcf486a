//! Cosignatures, policies and the witness protocol: what each reader accepts and refuses, what counts towards a quorum, and a log
//! and a witness that talk to each other through every kind of answer.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use countersign_ledger::tlog::{
    witness::{AddCheckpoint, Answer, Next, Outcome, Trouble, Witness},
    *,
};
use proptest::prelude::*;
use std::{collections::BTreeSet, convert::Infallible};

const ORIGIN: &str = "ledger.example/one";

fn log() -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[1; 32]).unwrap()
}

fn witness(n: u8) -> CosignerKey {
    CosignerKey::generate_from_seed(&format!("witness.example/w{n}"), &[100 + n; 32]).unwrap()
}

fn signed(size: u64) -> SignedCheckpoint {
    let root = Hash::from_bytes([size as u8; 32]);
    SignedCheckpoint::sign(Checkpoint::new(ORIGIN, TreeSize::new(size), root), &[&log()]).unwrap()
}

/// The checkpoint with these witnesses' cosignatures after the log's own line.
fn cosigned(size: u64, by: &[u8]) -> Vec<u8> {
    let mut note = Note::parse(signed(size).note()).unwrap();
    note.signatures.extend(by.iter().map(|n| witness(*n).cosign(&note.text, 1_700_000_000 + u64::from(*n))));
    note.encode().unwrap()
}

#[test]
fn the_key_of_a_witness() {
    let key = witness(1).verifier().clone();
    let text = key.to_string();
    assert_eq!(text.parse::<WitnessKey>().unwrap(), key);
    let check = |text: &str, expect: &str| {
        assert_eq!(text.parse::<WitnessKey>().unwrap_err().to_string(), expect);
    };
    check(
        &log().verifier().to_string(),
        "key type of `ledger.example/one`: found 0x01, required 0x04 (Ed25519 cosignature)",
    );
    let ml_dsa = {
        use base64::{Engine, engine::general_purpose::STANDARD};
        format!("w+00000000+{}", STANDARD.encode([&[6][..], &[0; 1312]].concat()))
    };
    check(&ml_dsa, "key type of `w`: found 0x06, required 0x04 (Ed25519 cosignature)");
    let id = format!("{:08x}", key.id());
    check(&text.replace(&id, "00000000"), &format!("key id of `witness.example/w1`: found 00000000, required {id}"));
    check("PRIVATE+KEY+x+00000000+AAAA", "a private key stands where a verifier key is required");
    let seed = [101; 32];
    let as_log = SignerKey::generate_from_seed("witness.example/w1", &seed).unwrap();
    assert_eq!(as_log.verifier().public(), key.public());
    assert_ne!(as_log.id(), key.id(), "log and witness keys must not be taken for each other");
}

/// What tlog-cosignature prints as the message of its own example.
#[test]
fn the_message_of_the_specification() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let message = format!("cosignature/v1\ntime 1679315147\n{text}");
    let line = witness(1).cosign(text, 1_679_315_147);
    let (time, signature) = line.signature.split_at(8);
    assert_eq!(time, [0, 0, 0, 0, 0x64, 0x18, 0x50, 0xcb]);
    // A plain Ed25519 key over those bytes says the same.
    let plain = VerifierKey::new("any", witness(1).verifier().public()).unwrap();
    assert!(plain.verify(message.as_bytes(), signature));
    assert_eq!(witness(1).verifier().verify(text, &line), Some(1_679_315_147));
}

#[test]
fn no_bit_of_a_cosignature_can_be_turned() {
    let text = signed(7);
    let text = &Note::parse(text.note()).unwrap().text;
    let good = witness(1).cosign(text, 5);
    for at in 0..good.signature.len() * 8 {
        let mut line = good.clone();
        line.signature[at / 8] ^= 1 << (at % 8);
        assert_eq!(witness(1).verifier().verify(text, &line), None, "bit {at}");
    }
    for end in 0..good.signature.len() {
        let line = NoteSignature { signature: good.signature[..end].to_vec(), ..good.clone() };
        assert_eq!(witness(1).verifier().verify(text, &line), None, "cut at {end}");
    }
    assert_eq!(witness(1).verifier().verify(&text.replace('7', "8"), &good), None);
    assert_eq!(witness(2).verifier().verify(text, &good), None);
    let late = witness(1).cosign(text, 1 << 63);
    assert_eq!(witness(1).verifier().verify(text, &late), None, "a time of 2^63");
}

#[test]
fn cosignatures_of_a_note() {
    let known: Vec<_> = [1, 2].map(|n| witness(n).verifier().clone()).into();
    let check = |note: &[u8], expect: Result<&[u64], &str>| {
        let found = cosignatures(&Note::parse(note).unwrap(), &known);
        let times = found.map(|c| c.iter().map(|c| c.time - 1_700_000_000).collect::<Vec<_>>());
        assert_eq!(times.map_err(|e| e.to_string()), expect.map(<[u64]>::to_vec).map_err(str::to_owned));
    };
    check(&cosigned(5, &[]), Ok(&[]));
    check(&cosigned(5, &[2, 3, 1]), Ok(&[2, 1]));
    check(&cosigned(5, &[1, 1]), Ok(&[1]));
    // As in every note: a bad signature under a known name is no note at all.
    let mut note = Note::parse(&cosigned(5, &[1])).unwrap();
    note.signatures[1].signature[20] ^= 1;
    let id = witness(1).verifier().id();
    let bad = format!("the signature by `witness.example/w1` (key id {id:08x}) does not verify");
    check(&note.encode().unwrap(), Err(&bad));
    note.signatures[1].id ^= 1;
    check(&note.encode().unwrap(), Ok(&[]));
}

/// A policy's text, with `L`, `M` for logs' and `1` to `9` for witnesses' keys after an `@`.
fn policy(text: &str) -> Result<Policy, String> {
    let mut text = text.to_owned();
    for (letter, seed) in [('L', 1), ('M', 2)] {
        let key = SignerKey::generate_from_seed(ORIGIN, &[seed; 32]).unwrap();
        text = text.replace(&format!("@{letter}"), &key.verifier().to_string());
    }
    for n in 1..=9 {
        text = text.replace(&format!("@{n}"), &witness(n).verifier().to_string());
    }
    Policy::decode(text.as_bytes()).map_err(|e| e.to_string())
}

const THREE: &str = "witness a @1\nwitness b @2\nwitness c @3\n";

#[test]
fn policies_that_are_refused() {
    let check = |text: &str, expect: &str| {
        assert_eq!(policy(text).unwrap_err(), format!("line {expect}"), "{text}");
    };
    check("", "1 of the policy: there is no `quorum` line");
    check("log @L\n", "2 of the policy: there is no `quorum` line");
    check("quorum none\n\nquorum none\n", "3 of the policy: the quorum stands in line 1 already");
    check("quorum\n", "1 of the policy: required `quorum <name>|none`");
    check("quorum a b\n", "1 of the policy: required `quorum <name>|none`");
    check("quorum a\nwitness a @1\n", "1 of the policy: no line above defines `a`");
    check("# fine\nLog @L\n", "2 of the policy: found `Log`, required `log`, `witness`, `group` or `quorum`");
    check("log\n", "1 of the policy: required `log <vkey> [<url>]`");
    check("log @L https://a b\n", "1 of the policy: required `log <vkey> [<url>]`");
    check("log nothing\n", "1 of the policy: not a verifier key: required `<name>+<key id>+<base64>`");
    check("log @1\n", "1 of the policy: key type of `witness.example/w1`: found 0x04, required 0x01 (Ed25519)");
    check("log @L\nlog @L\n", "2 of the policy: the same public key stands in line 1");
    check("witness a\n", "1 of the policy: required `witness <name> <vkey> [<url>]`");
    check(
        "witness a @L\n",
        "1 of the policy: key type of `ledger.example/one`: found 0x01, required 0x04 (Ed25519 cosignature)",
    );
    check("witness a @1\nwitness b @1\n", "2 of the policy: the same public key stands in line 1");
    check("witness a @1\nwitness a @2\n", "2 of the policy: the name `a` is taken");
    check("witness none @1\n", "1 of the policy: the name `none` is taken");
    let check = |group: &str, expect: &str| check(&format!("{THREE}{group}\n"), &format!("4 of the policy: {expect}"));
    check("group g", "required `group <name> all|any|<k> <name>...`");
    check("group g any", "required `group <name> all|any|<k> <name>...`");
    check("group g 0 a b", "found threshold `0`, required `all`, `any` or a number from 1 to 2");
    check("group g 3 a b", "found threshold `3`, required `all`, `any` or a number from 1 to 2");
    check("group g 02 a b", "found threshold `02`, required `all`, `any` or a number from 1 to 2");
    check("group g most a b", "found threshold `most`, required `all`, `any` or a number from 1 to 2");
    check("group g any a d", "no line above defines `d`");
    check("group g any a none", "no line above defines `none`");
    check("group g any a g", "no line above defines `g`");
    check("group g any a a", "`a` is a member of a group already");
    check("group a any a b", "the name `a` is taken");
    check("group g any a \u{7f}", "control character 0x7f");
    check("group g any a\r", "control character 0x0d");
}

#[test]
fn a_member_counts_once() {
    let text = format!("{THREE}group g any a b\ngroup h all a c\nquorum h\n");
    assert_eq!(policy(&text).unwrap_err(), "line 5 of the policy: `a` is a member of a group already");
}

#[test]
fn quorums() {
    // The example of the specification.
    let two_levels = "log @L\n\nwitness X1 @1\nwitness X2 @2\nwitness X3 @3\ngroup X-witnesses 2 X1 X2 X3\n
        witness Y1 @4 \n\twitness Y2 @5\nwitness Y3 @6\ngroup Y-witnesses any Y1 Y2 Y3\n # a remark
        group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y";
    let check = |text: &str, by: &[u8], quorum: bool, required: &str| {
        let (signed, found) = policy(text).unwrap().open(&cosigned(9, by)).unwrap();
        assert_eq!(signed.checkpoint().size.get(), 9);
        assert_eq!((found.quorum, found.required.as_str()), (quorum, required), "{by:?}");
    };
    check(two_levels, &[], false, "group X-and-Y (2 of 2): found 0");
    check(two_levels, &[1, 2, 3], false, "group X-and-Y (2 of 2): found 1");
    check(two_levels, &[1, 4, 5, 6], false, "group X-and-Y (2 of 2): found 1");
    check(two_levels, &[6, 3, 1], true, "group X-and-Y (2 of 2): found 2");
    check("log @L\nquorum none\n", &[], true, "no cosignature");
    let one = format!("log @L\n{THREE}quorum b\n");
    check(&one, &[1, 3], false, "witness b: found 0");
    check(&one, &[2], true, "witness b: found 1");
    let all = format!("log @L\n{THREE}group g all a b c\nquorum g\n");
    check(&all, &[1, 2], false, "group g (3 of 3): found 2");
    check(&all, &[1, 2, 3], true, "group g (3 of 3): found 3");
    // The same witness twice is one witness.
    check(&all, &[1, 1, 1], false, "group g (3 of 3): found 1");
}

#[test]
fn what_a_policy_says_of_a_checkpoint() {
    let named = "witness \u{212a} @1 https://w.example/1\nwitness K @2\ngroup g any \u{212a}\nquorum g\n";
    let read = policy(&format!("log @M\nlog @L https://l.example\n{named}")).unwrap();
    assert_eq!(read.logs().iter().map(|l| l.url.as_deref()).collect::<Vec<_>>(), [None, Some("https://l.example")]);
    let names: Vec<_> = read.witnesses().map(|w| (w.name.as_str(), w.url.as_deref())).collect();
    assert_eq!(names, [("\u{212a}", Some("https://w.example/1")), ("K", None)]);
    let (_, found) = read.open(&cosigned(3, &[2])).unwrap();
    assert!(!found.quorum, "a name that only looks the same counted");
    assert_eq!(found.missing, ["\u{212a}"]);
    assert_eq!((found.cosigned[0].0.as_str(), found.cosigned[0].1.time), ("K", 1_700_000_002));
    // Another log, or a note that no log of the policy signed.
    let check = |policy: &Policy, expect: &str| {
        let error = policy.open(&cosigned(3, &[1])).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(&policy("log @M\nquorum none\n").unwrap(), "no signature by a known key");
    check(&policy("quorum none\n").unwrap(), "no signature by a known key");
    let without = policy(named).unwrap();
    assert!(without.logs().is_empty() && without.witnessed(&signed(3)).is_ok_and(|w| !w.quorum));
    // Who opened the checkpoint with a key of his own has its cosignatures judged all the same.
    let opened = SignedCheckpoint::open(&cosigned(3, &[1]), ORIGIN, &[log().verifier().clone()]).unwrap();
    assert!(without.witnessed(&opened).unwrap().quorum);
    assert!(Policy::decode(b"witness \xff @\n").is_err());
}

#[test]
fn requests_and_answers() {
    let request = AddCheckpoint {
        old: TreeSize::new(3),
        proof: vec![Hash::from_bytes([1; 32]), Hash::from_bytes([2; 32])],
        checkpoint: signed(5).into_note(),
    };
    let body = request.encode();
    let one = Hash::from_bytes([1; 32]).to_base64();
    assert!(body.starts_with(format!("old 3\n{one}\n").as_bytes()));
    assert_eq!(AddCheckpoint::decode(&body).unwrap(), request);
    let first = AddCheckpoint { old: TreeSize::new(0), proof: vec![], ..request.clone() };
    assert!(first.encode().starts_with(b"old 0\n\nledger.example/one\n5\n"));
    assert_eq!(AddCheckpoint::decode(&first.encode()).unwrap(), first);
    let check = |from: &str, to: &str, expect: &str| {
        let bad = String::from_utf8(body.clone()).unwrap().replacen(from, to, 1);
        let error = AddCheckpoint::decode(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expect), "{to}: {error}");
    };
    check("old 3", "old 03", "malformed first line");
    check("old 3", "old -3", "malformed first line");
    check("old 3", "Old 3", "malformed first line");
    check(&one, one.strip_prefix(|_: char| true).unwrap(), "hash 0 of the proof is malformed");
    check(&one, &format!("{one}\n").repeat(64), "too many hashes");
    check("\n\n", "\n", "hash 2 of the proof is malformed");
    assert!(AddCheckpoint::decode(b"old 3\n").is_err());

    let line = witness(1).cosign("x\n", 1);
    let lines = format!("{line}{line}");
    assert_eq!(Answer::read(200, lines.as_bytes()), Answer::Signatures(vec![line.clone(), line]));
    assert_eq!(Answer::read(409, b"17\n"), Answer::Size(TreeSize::new(17)));
    for (status, body) in
        [(200, &b""[..]), (200, b"\xff\n"), (200, b"hello\n"), (409, b"17"), (409, b"017\n"), (500, b"17\n")]
    {
        assert_eq!(Answer::read(status, body), Answer::Status(status));
    }
    assert_eq!(Answer::read(200, &[b'a'; 70_000]), Answer::Status(200));
}

/// A log's hashes in memory.
struct Leaves(Vec<Hash>);

impl HashReader for Leaves {
    type Error = Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        let (first, count) = ((index << level) as usize, 1usize << level);
        let mut frontier = Frontier::new();
        self.0[first..first + count].iter().for_each(|leaf| frontier.push(*leaf));
        Ok(frontier.root())
    }
}

/// A witness that follows the protocol to the letter.
struct Strict {
    key: CosignerKey,
    latest: (TreeSize, Hash),
}

impl Strict {
    fn new() -> Self {
        Self { key: witness(1), latest: (TreeSize::new(0), EMPTY_ROOT) }
    }

    fn post(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        let request = AddCheckpoint::decode(body).unwrap();
        let signed = SignedCheckpoint::open(&request.checkpoint, ORIGIN, &[log().verifier().clone()]).unwrap();
        let (size, root) = (signed.checkpoint().size, signed.checkpoint().root);
        if request.old > size {
            return (400, vec![]);
        }
        if request.old != self.latest.0 || (request.old == size && root != self.latest.1) {
            return (409, format!("{}\n", self.latest.0).into_bytes());
        }
        if verify_consistency(request.old, size, self.latest.1, root, &request.proof).is_err() {
            return (422, vec![]);
        }
        self.latest = (size, root);
        let text = signed.checkpoint().to_string();
        (200, self.key.cosign(&text, 1_700_000_000 + size.get()).to_string().into_bytes())
    }
}

/// What a log does about one witness for one published size, with its own tree.
fn step(leaves: &Leaves, state: &mut Witness, strict: &mut Strict, size: u64, now: u64) -> Option<Outcome> {
    let size = TreeSize::new(size);
    let Next::Post { old } = state.next(size, now) else { return None };
    let root = root(leaves, size).unwrap();
    let signed = SignedCheckpoint::sign(Checkpoint::new(ORIGIN, size, root), &[&log()]).unwrap();
    let proof = consistency_proof(leaves, old, size).unwrap();
    let body = AddCheckpoint { old, proof, checkpoint: signed.note().to_vec() }.encode();
    let (status, answer) = strict.post(&body);
    let text = signed.checkpoint().to_string();
    Some(state.answered((&text, old, size), Answer::read(status, &answer), size, now))
}

fn leaves(n: u64) -> Leaves {
    Leaves((0..n).map(|n| leaf_hash(&n.to_be_bytes())).collect())
}

#[test]
fn a_log_and_a_witness() {
    let (tree, mut strict) = (leaves(100), Strict::new());
    let fresh = || Witness::new(witness(1).verifier().clone(), TreeSize::new(0));
    let mut state = fresh();
    let cosigned = |outcome: Option<Outcome>| matches!(outcome, Some(Outcome::Cosigned(_)));
    assert!(cosigned(step(&tree, &mut state, &mut strict, 10, 0)));
    assert_eq!(step(&tree, &mut state, &mut strict, 10, 0), None, "posted what is cosigned already");
    assert!(cosigned(step(&tree, &mut state, &mut strict, 33, 0)));
    // We forgot: it tells the size, and the proof begins there.
    let mut state = fresh();
    assert_eq!(step(&tree, &mut state, &mut strict, 40, 0), Some(Outcome::Again));
    assert!(cosigned(step(&tree, &mut state, &mut strict, 40, 0)));
    assert_eq!((state.held().get(), state.trouble()), (40, None));
    // Its answer was lost: it cosigned what we hold no cosignature of, and cosigns it again.
    let mut state = fresh();
    assert_eq!(step(&tree, &mut state, &mut strict, 40, 0), Some(Outcome::Again));
    assert!(cosigned(step(&tree, &mut state, &mut strict, 40, 0)));
    // A ledger put back from an old backup.
    let mut state = fresh();
    let Some(Outcome::Trouble(trouble)) = step(&tree, &mut state, &mut strict, 20, 0) else { panic!() };
    assert_eq!(trouble, Trouble::Ahead { found: TreeSize::new(40), published: TreeSize::new(20) });
    assert!(trouble.is_alarm());
    // It is asked again, if not at once: a forged answer must not be the last word.
    assert!(matches!(state.next(TreeSize::new(20), 0), Next::At(_)));
    assert_eq!(state.next(TreeSize::new(20), u64::MAX), Next::Post { old: TreeSize::new(0) });
    // Grown again, on the same history or on another one.
    assert_eq!(step(&tree, &mut state, &mut strict, 41, 1_000_000), Some(Outcome::Again));
    assert!(cosigned(step(&tree, &mut state, &mut strict, 41, 2_000_000)));
    let mut other = leaves(100);
    other.0[30] = leaf_hash(b"another story");
    let mut state = fresh();
    assert_eq!(step(&other, &mut state, &mut strict, 50, 0), Some(Outcome::Again));
    let forked = |size| Some(Outcome::Trouble(Trouble::OtherRoot(TreeSize::new(size))));
    assert_eq!(step(&other, &mut state, &mut strict, 50, 0), forked(41));
    let mut state = fresh();
    assert_eq!(step(&other, &mut state, &mut strict, 41, 0), Some(Outcome::Again));
    assert_eq!(step(&other, &mut state, &mut strict, 41, 0), forked(41));
}

#[test]
fn trouble_waits_longer_each_time_and_is_forgotten_after_a_success() {
    let mut state = Witness::new(witness(1).verifier().clone(), TreeSize::new(0));
    let (size, text) = (TreeSize::new(5), signed(5).checkpoint().to_string());
    let mut answer = |answer: Answer, now| {
        let outcome = state.answered((&text, TreeSize::new(0), size), answer, size, now);
        (outcome, state.next(size, now))
    };
    let trouble = |outcome: Outcome| match outcome {
        Outcome::Trouble(trouble) => trouble.to_string(),
        other => panic!("{other:?}"),
    };
    let mut now = 0;
    for (given, expect) in [
        (Answer::None("refused".into()), "no answer: refused"),
        (Answer::Status(500), "status 500, or a body that does not belong to it"),
        (Answer::Status(404), "it does not know this log (404)"),
        (Answer::Status(403), "it does not trust the key that signed (403)"),
        (Answer::Size(TreeSize::new(0)), "it answers that it cosigned size 0 last, as it was told"),
        (Answer::Signatures(vec![witness(2).cosign(&text, 1)]), "its answer holds no good cosignature by the key `"),
        (Answer::Signatures(vec![witness(1).cosign("x\n", 1)]), "its answer holds no good cosignature by the key `"),
    ] {
        let (outcome, next) = answer(given, now);
        let found = trouble(outcome);
        assert!(found.starts_with(expect), "{found}");
        let Next::At(at) = next else { panic!("{next:?}") };
        assert!(at >= now * 2 + 1_000 && at <= now + 300_000, "{now} {at}");
        now = at;
    }
    assert!(matches!(answer(Answer::Signatures(vec![witness(1).cosign(&text, 1)]), now).0, Outcome::Cosigned(_)));
    assert_eq!((state.trouble(), state.next(size, now)), (None, Next::Nothing));
    assert_eq!(state.next(TreeSize::new(6), now), Next::Post { old: size });
}

proptest! {
    /// Any witnesses, any threshold: a quorum is reached exactly where enough of the group cosigned.
    #[test]
    fn a_threshold_counts(needs in 1usize..=6, by in proptest::collection::vec(1u8..=9, 0..12)) {
        let text: String = (1..=9).map(|n| format!("witness w{n} @{n}\n")).collect();
        let text = format!("log @L\n{text}group g {needs} w1 w2 w3 w4 w5 w6\nquorum g\n");
        let different: BTreeSet<_> = by.iter().copied().collect();
        let (_, found) = policy(&text).unwrap().open(&cosigned(2, &by)).unwrap();
        prop_assert_eq!(found.quorum, different.iter().filter(|n| **n <= 6).count() >= needs);
        prop_assert_eq!(found.cosigned.len(), different.len());
        prop_assert_eq!(found.missing.len(), 9 - different.len());
    }

    /// Whatever the order of sizes at which we remember or forget, the witness ends up with the last one.
    #[test]
    fn a_witness_catches_up(sizes in proptest::collection::btree_set(1u64..80, 1..10), forget in any::<u16>()) {
        let (tree, mut strict) = (leaves(80), Strict::new());
        let mut state = Witness::new(witness(1).verifier().clone(), TreeSize::new(0));
        for (at, size) in sizes.iter().enumerate() {
            if forget >> at & 1 == 1 {
                state = Witness::new(witness(1).verifier().clone(), TreeSize::new(0));
            }
            for _ in 0..2 {
                step(&tree, &mut state, &mut strict, *size, 0);
            }
            prop_assert_eq!(state.held().get(), *size);
            prop_assert_eq!(strict.latest.0.get(), *size);
        }
    }

    #[test]
    fn readers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), status in any::<u16>()) {
        let _ = Policy::decode(&bytes);
        let _ = Answer::read(status, &bytes);
        if let Ok(request) = AddCheckpoint::decode(&bytes) {
            prop_assert_eq!(request.encode(), bytes);
        }
    }
}
