//! Signed notes, checkpoints and proofs: the published example, and tables of what each parser must accept and refuse. The
//! forger of these tests has everything but the key.
#![expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_ledger::tlog::*;
use proptest::prelude::*;
use std::{convert::Infallible, slice::from_ref};

const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const TEXT: &str = "This is an example message.\n";
const SIGNATURE: &str = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=";
const ORIGIN: &str = "ledger.example/one";

fn key(text: &str) -> VerifierKey {
    text.parse().unwrap()
}

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey::generate_from_seed(name, &[seed; 32]).unwrap()
}

fn log() -> SignerKey {
    signer(ORIGIN, 1)
}

/// A note's bytes: text, an empty line, signature lines.
fn note(text: &str, lines: &[&str]) -> Vec<u8> {
    format!("{text}\n{}", lines.concat()).into_bytes()
}

#[test]
fn the_published_example() {
    let bytes = note(TEXT, &[&format!("— example.com/foo {SIGNATURE}\n")]);
    let opened = open(&bytes, &[key(KEY)]).unwrap();
    assert_eq!((opened.text.as_str(), opened.verified, opened.unverified), (TEXT, vec![key(KEY)], vec![]));
    let parsed = Note::parse(&bytes).unwrap();
    assert_eq!(parsed.signatures[0].id, 0x530d903a);
    assert_eq!(parsed.encode().unwrap(), bytes);
}

#[test]
fn no_bit_of_a_signed_note_can_be_turned() {
    let bytes = note(TEXT, &[&format!("— example.com/foo {SIGNATURE}\n")]);
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        assert!(open(&changed, &[key(KEY)]).is_err(), "bit {at}");
    }
    for end in 0..bytes.len() {
        assert!(open(&bytes[..end], &[key(KEY)]).is_err(), "cut at {end}");
    }
}

#[test]
fn verifier_keys() {
    assert_eq!(key(KEY).to_string(), KEY);
    let check = |text: &str, expect: &str| assert_eq!(text.parse::<VerifierKey>().unwrap_err().to_string(), expect);
    let form = "not a verifier key: required `<name>+<key id>+<base64>`";
    check("", form);
    check("example.com/foo", form);
    check("example.com/foo+530d903a", form);
    check("example.com/foo+530d903a+", form);
    check("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2", form);
    check(&format!("{KEY}\n"), form);
    check(&KEY.replace("530d903a", "530D903A"), "key id of `example.com/foo`: found 530D903A, required 530d903a");
    check(&KEY.replace("530d903a", "530d903b"), "key id of `example.com/foo`: found 530d903b, required 530d903a");
    check(&KEY.replace("foo", "bar"), "key id of `example.com/bar`: found 530d903a, required c6fb2e3e");
    check(&KEY.replace("example.com/", "a b"), &name_error("a bfoo"));
    check(&KEY.replace("example.com/foo", ""), &name_error(""));
    let with = |bytes: &[u8]| format!("n+00000000+{}", STANDARD.encode(bytes));
    check(&with(&[1; 32]), "wrong length of the key of `n`: found 31 bytes, required 32 after the type");
    check(&with(&[1; 34]), "wrong length of the key of `n`: found 33 bytes, required 32 after the type");
    check(&with(&[1; 99]), "wrong length of the key of `n`: found 98 bytes, required 32 after the type");
    check(&with(&[4; 33]), "key type of `n`: found 0x04, required 0x01 (Ed25519)");
    // The identity point: with it as key, one signature fits every text.
    let identity = [&[1, 1][..], &[0; 31]].concat();
    check(&with(&identity), "the key of `n` is not a valid Ed25519 public key");
}

fn name_error(name: &str) -> String {
    format!("not a key name: found `{name}`, required at least one character and no space, plus or control character")
}

#[test]
fn signer_keys_keep_their_secret() {
    let signer = log();
    let secret = signer.secret_text();
    let text = str::from_utf8(secret.as_bytes()).unwrap();
    let seed = STANDARD.encode([1; 33]);
    assert_eq!(text, format!("PRIVATE+KEY+{ORIGIN}+{:08x}+{seed}", signer.id()));
    let again: SignerKey = text.parse().unwrap();
    assert_eq!(again.verifier(), signer.verifier());
    assert_eq!(again.sign(b"x"), signer.sign(b"x"));

    assert_eq!(format!("{signer:?} {secret:?}"), format!("SignerKey({ORIGIN}+{:08x}) SecretText(..)", signer.id()));
    let id = format!("{:08x}", signer.id());
    let bad = [
        text.replace(&id, "00000000"),
        text.replace(ORIGIN, "other"),
        text[..text.len() - 1].to_owned(),
        text[8..].to_owned(),
    ];
    for bad in bad {
        let error = bad.parse::<SignerKey>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("AQEB"), "{error}");
    }
    assert_eq!(text.parse::<VerifierKey>(), Err(KeyError::Private));
    assert!(KEY.parse::<SignerKey>().is_err());
    for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\u{7f}b"] {
        assert!(SignerKey::generate_from_seed(name, &[1; 32]).is_err(), "{name:?}");
    }
}

#[test]
fn the_form_of_a_note() {
    let line = format!("— example.com/foo {SIGNATURE}\n");
    let line = line.as_str();
    let check = |bytes: &[u8], expect: Result<usize, &str>| {
        let found = Note::parse(bytes).map(|note| note.signatures.len()).map_err(|e| e.to_string());
        assert_eq!(found, expect.map_err(str::to_owned), "{}", String::from_utf8_lossy(bytes));
    };
    let malformed = "signature line 1 of the note is malformed: required `— <key name> <base64>` and a line feed";
    let unsigned = "the note has no signatures: required an empty line and at least one signature line after the text";
    check(&note(TEXT, &[line]), Ok(1));
    check(&note(TEXT, &[line; 100]), Ok(100));
    check(&note(TEXT, &[line; 101]), Err("too many signatures: found 101, required at most 100"));
    check(&note("\n", &[line]), Ok(1));
    check(&note("two\n\nparts\n", &[line]), Ok(1));
    check(&note("ends empty\n\n", &[line]), Ok(1));
    check("é 日本\n\n— n AAAAAAA=\n".as_bytes(), Ok(1));
    check(b"", Err(unsigned));
    check(TEXT.as_bytes(), Err(unsigned));
    check(&note(TEXT, &[]), Err(unsigned));
    check(&note(TEXT, &[line, "\n"]), Err(unsigned));
    check(&note(TEXT, &[line.trim_end()]), Err(malformed));
    check(&note(TEXT, &[line, "x\n"]), Err(&malformed.replace('1', "2")));
    check(&note(TEXT, &[&line.replace('—', "-")]), Err(malformed));
    check(&note(TEXT, &[&line.replace("— ", "—")]), Err(malformed));
    check(&note(TEXT, &[&line.replace("foo ", "foo  ")]), Err(malformed));
    check(&note(TEXT, &[&line.replace("/foo", "+foo")]), Err(malformed));
    check(&note(TEXT, &[&line.replace("/foo", "\u{a0}foo")]), Err(malformed));
    check(&note(TEXT, &["—  AAAAAAA=\n"]), Err(malformed));
    check(&note(TEXT, &["— n AAAAAA==\n"]), Err(malformed));
    check(&note(TEXT, &["— n AAAAAAB=\n"]), Err(malformed));
    check(&note(TEXT, &["— n AAAAAAA\n"]), Err(malformed));
    check(&note(TEXT, &["— n AAAAAAA= \n"]), Err(malformed));
    check(&note("tab\t\n", &[line]), Err("the note has a control character at byte 3"));
    check(&note("cr\r\n", &[line]), Err("the note has a control character at byte 2"));
    check(b"\xff\n\n", Err("the note is not UTF-8 at byte 0"));
}

#[test]
fn what_cannot_be_read_back_is_not_signed() {
    let key = log();
    for text in ["", "no line feed", "tab\t\n", "nul\0\n"] {
        assert!(sign(text, &[&key]).is_err(), "{text:?}");
    }
    assert_eq!(sign(TEXT, &[]), Err(NoteError::NoSignatures));
    assert_eq!(sign(TEXT, &[&key; 101]), Err(NoteError::TooManySignatures { found: 101 }));
    let bad = |name: &str, signature| NoteSignature { name: name.to_owned(), id: 0, signature };
    for signature in [bad("a b", vec![1]), bad("", vec![1]), bad("a", vec![])] {
        let note = Note { text: TEXT.to_owned(), signatures: vec![signature] };
        assert!(note.encode().is_err(), "{note:?}");
    }
}

#[test]
fn who_signed() {
    let (a, b, stranger) = (signer("a", 1), signer("b", 2), signer("c", 3));
    let (a_key, b_key) = (a.verifier().clone(), b.verifier().clone());
    let check = |note: &[u8], keys: &[VerifierKey], expect: Result<(&[&str], usize), &str>| {
        let opened = open(note, keys).map_err(|e| e.to_string());
        let names = opened.as_ref().map(|note| note.verified.iter().map(VerifierKey::name).collect::<Vec<_>>());
        match expect {
            Ok((verified, unverified)) => {
                assert_eq!(names, Ok(verified.to_vec()));
                assert_eq!(opened.map(|note| note.unverified.len()), Ok(unverified));
            }
            Err(expect) => assert_eq!(opened, Err(expect.to_owned())),
        }
    };
    let both = sign(TEXT, &[&a, &stranger, &b]).unwrap();
    check(&both, &[b_key.clone(), a_key.clone()], Ok((&["a", "b"], 1)));
    check(&both, from_ref(&b_key), Ok((&["b"], 2)));
    check(&both, &[a_key.clone(), a_key.clone()], Ok((&["a"], 2)));
    check(&sign(TEXT, &[&a, &a]).unwrap(), from_ref(&a_key), Ok((&["a"], 0)));
    let ids = format!("`a` ({:08x})", a.id());
    check(
        &both,
        &[],
        Err(&format!(
            "no signature by a known key: found {ids}, `c` ({:08x}), `b` ({:08x}), required one of none",
            stranger.id(),
            b.id()
        )),
    );
    // A known name over an unknown key is a stranger like any other.
    check(&both, &[signer("a", 9).verifier().clone(), b_key.clone()], Ok((&["b"], 2)));

    // A good signature doesn't outweigh a bad one in a known key's name, whoever comes first.
    let mut forged = Note::parse(&both).unwrap();
    forged.signatures[2].signature[0] ^= 1;
    let forged = forged.encode().unwrap();
    let bad = format!("the signature by `b` (key id {:08x}) does not verify", b.id());
    check(&forged, &[a_key.clone(), b_key], Err(&bad));
    check(&forged, from_ref(&a_key), Ok((&["a"], 2)));
    for length in [1, 63, 65, 4627] {
        let mut other = Note::parse(&both).unwrap();
        other.signatures[0].signature = vec![1; length];
        assert!(matches!(open(&other.encode().unwrap(), from_ref(&a_key)), Err(NoteError::BadSignature { .. })));
    }
}

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint::new(ORIGIN, TreeSize::new(size), leaf_hash(b"x"))
}

#[test]
fn the_form_of_a_checkpoint() {
    let root = leaf_hash(b"x").to_base64();
    let text = format!("{ORIGIN}\n20852163\n{root}\n");
    assert_eq!(checkpoint(20852163).to_string(), text);
    assert_eq!(Checkpoint::decode(&text), Ok(checkpoint(20852163)));
    assert_eq!(Checkpoint::decode(&text.replace("20852163", "0")), Ok(checkpoint(0)));
    assert_eq!(Checkpoint::decode(&text.replace("20852163", &u64::MAX.to_string())), Ok(checkpoint(u64::MAX)));

    let extended = format!("{text}one\ntwo 2\n");
    let extensions = vec!["one".to_owned(), "two 2".to_owned()];
    assert_eq!(Checkpoint::decode(&extended), Err(CheckpointError::Extensions { found: 2 }));
    assert_eq!(Checkpoint::decode_with_extensions(&extended), Ok((checkpoint(20852163), extensions)));

    let lines = "malformed checkpoint: required the lines origin, size and root, none of them empty";
    let size =
        |found| format!("not a tree size: found `{found}`, required a decimal number below 2^64 without leading zeros");
    let check = |text: &str, expect: &str| {
        assert_eq!(Checkpoint::decode_with_extensions(text).unwrap_err().to_string(), expect, "{text:?}");
    };
    check("", lines);
    check(ORIGIN, lines);
    check(&format!("{ORIGIN}\n1\n"), lines);
    check(text.trim_end(), lines);
    check(&format!("{text}\n"), lines);
    check(&format!("{text}\nx\n"), lines);
    check(
        &text.replace(ORIGIN, ""),
        "not an origin: found ``, required at least one character and no control character",
    );
    for bad in ["", "00", "020852163", "+1", "-1", "1 ", "0x1", "18446744073709551616", "１"] {
        check(&text.replace("20852163", bad), &size(bad));
    }
    for bad in ["", "AAAA", root.trim_end_matches('='), &format!("{root} "), &format!("{}B=", "A".repeat(42))] {
        check(&text.replace(&root, bad), &format!("not a root: found `{bad}`, required the base64 of 32 bytes"));
    }
}

#[test]
fn signed_checkpoints() {
    let key = log();
    let keys = [key.verifier().clone()];
    let signed = SignedCheckpoint::sign(checkpoint(7), &[&key]).unwrap();
    assert_eq!(signed.checkpoint(), &checkpoint(7));
    assert_eq!(SignedCheckpoint::open(signed.note(), ORIGIN, &keys), Ok(signed.clone()));
    // A checkpoint is an ordinary note.
    assert_eq!(open(signed.note(), &keys).unwrap().text, checkpoint(7).to_string());

    // The successor's key is called the same.
    let next = signer(ORIGIN, 2);
    let rotated = SignedCheckpoint::sign(checkpoint(7), &[&key, &next]).unwrap();
    for keys in [&keys[..], &[next.verifier().clone()]] {
        assert_eq!(SignedCheckpoint::open(rotated.note(), ORIGIN, keys).unwrap().signers(), keys);
    }
    let other = SignedCheckpoint::open(signed.note(), "ledger.example/two", &keys).unwrap_err().to_string();
    assert_eq!(
        other,
        "the checkpoint is of another log: found origin `ledger.example/one`, required `ledger.example/two`"
    );
    assert!(SignedCheckpoint::open(signed.note(), ORIGIN, &[next.verifier().clone()]).is_err());
    assert!(SignedCheckpoint::open(signed.note(), ORIGIN, &[]).is_err());
    assert!(SignedCheckpoint::sign(checkpoint(7), &[&key, &signer("else", 1)]).is_err());
    assert!(SignedCheckpoint::sign(checkpoint(7), &[]).is_err());
    // A signed text that is no checkpoint stays none.
    assert!(SignedCheckpoint::open(&sign(TEXT, &[&key]).unwrap(), ORIGIN, &keys).is_err());
    let extended = sign(&format!("{}more\n", checkpoint(7)), &[&key]).unwrap();
    let extended = SignedCheckpoint::open(&extended, ORIGIN, &keys).unwrap();
    assert_eq!((extended.checkpoint(), extended.extensions()), (&checkpoint(7), &["more".to_owned()][..]));
}

struct Leaves(Vec<Hash>);

impl HashReader for Leaves {
    type Error = Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        let mut subtree = Frontier::new();
        let range = (index << level) as usize..((index + 1) << level) as usize;
        self.0[range].iter().for_each(|leaf| subtree.push(*leaf));
        Ok(subtree.root())
    }
}

/// A log of 11 entries and the proof of its entry 4.
fn proven(extra: Option<&[u8]>) -> (TlogProof, Hash, [VerifierKey; 1]) {
    let leaves = Leaves((0..11).map(|n| leaf_hash(&[n])).collect());
    let (index, size) = (LeafIndex::new(4), TreeSize::new(11));
    let signed =
        SignedCheckpoint::sign(Checkpoint::new(ORIGIN, size, root(&leaves, size).unwrap()), &[&log()]).unwrap();
    let hashes = inclusion_proof(&leaves, index, size).unwrap();
    let proof = TlogProof { extra: extra.map(<[u8]>::to_vec), index, hashes, checkpoint: signed.into_note() };
    (proof, leaves.0[4], [log().verifier().clone()])
}

#[test]
fn a_proof_proves() {
    let (proof, leaf, keys) = proven(Some(b"hello"));
    let text = String::from_utf8(proof.encode()).unwrap();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra aGVsbG8=\nindex 4\n"), "{text}");
    assert_eq!(text.lines().nth(7), Some(""));
    assert_eq!(text.lines().nth(8), Some(ORIGIN));
    assert_eq!(TlogProof::decode(text.as_bytes()), Ok(proof.clone()));
    assert_eq!(proof.verify(leaf, ORIGIN, &keys).unwrap().size, TreeSize::new(11));

    assert!(proof.verify(leaf_hash(&[5]), ORIGIN, &keys).is_err());
    assert!(proof.verify(leaf, "ledger.example/two", &keys).is_err());
    assert!(proof.verify(leaf, ORIGIN, &[signer(ORIGIN, 2).verifier().clone()]).is_err());
    for index in (0..12).filter(|index| *index != 4) {
        assert!(TlogProof { index: LeafIndex::new(index), ..proof.clone() }.verify(leaf, ORIGIN, &keys).is_err());
    }
}

/// Every bit outside `extra`, which is carried and not proven.
#[test]
fn no_bit_of_a_proof_can_be_turned() {
    let (proof, leaf, keys) = proven(None);
    let bytes = proof.encode();
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        let verdict = TlogProof::decode(&changed).and_then(|proof| proof.verify(leaf, ORIGIN, &keys));
        assert!(verdict.is_err(), "bit {at}");
    }
    for end in 0..bytes.len() {
        assert!(TlogProof::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn the_form_of_a_proof() {
    let (proof, ..) = proven(Some(b"hello"));
    let text = String::from_utf8(proof.encode()).unwrap();
    let hash = &format!("{}\n", proof.hashes[0].to_base64());
    let check = |from: &str, to: &str, expect: TlogProofError| {
        assert!(text.contains(from));
        assert_eq!(TlogProof::decode(text.replacen(from, to, 1).as_bytes()), Err(expect), "{from:?} -> {to:?}");
    };
    check("@v1", "@v2", TlogProofError::Header);
    check("c2sp", " c2sp", TlogProofError::Header);
    check("@v1\n", "@v1\r\n", TlogProofError::Header);
    check("extra aGVsbG8=\n", "extra \n", TlogProofError::Extra);
    check("aGVsbG8=", "aGVsbG8", TlogProofError::Extra);
    check("aGVsbG8=", "aGVsbG9=", TlogProofError::Extra);
    check("extra aGVsbG8=\n", "extra aGVsbG8=\nextra aGVsbG8=\n", TlogProofError::Index);
    check("extra aGVsbG8=\n", "\n", TlogProofError::Index);
    for bad in [
        "index 04",
        "index +4",
        "index -4",
        "index 4 ",
        "index  4",
        "index",
        "index ",
        "Index 4",
        "index 99999999999999999999",
    ] {
        check("index 4", bad, TlogProofError::Index);
    }
    check("index 4\n", "index 4\nindex 4\n", TlogProofError::Hash { position: 0 });
    check(hash, &format!("{hash}{hash}x\n"), TlogProofError::Hash { position: 2 });
    check(hash, &hash.repeat(65), TlogProofError::TooManyHashes);
    check(&format!("\n\n{ORIGIN}"), &format!("\n{ORIGIN}"), TlogProofError::Hash { position: 4 });
    let lines = TlogProofError::Checkpoint(CheckpointError::Lines);
    check(&format!("{ORIGIN}\n11\n"), "11\n", lines);
    let unsigned = TlogProofError::Checkpoint(NoteError::NoSignatures.into());
    check("\n\n—", "\n—", unsigned);
    assert_eq!(TlogProof::decode(b"c2sp.org/tlog-proof@v1\nindex 0\n"), Err(TlogProofError::CutOff));
    assert_eq!(TlogProof::decode(b""), Err(TlogProofError::Header));

    // No extra data is written, and read back, as none.
    let (empty, ..) = proven(Some(b""));
    assert_eq!(TlogProof::decode(&empty.encode()), Ok(proven(None).0));
}

/// Bytes that are nearly a proof: a real one with some of its parts replaced.
fn nearly(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len();
    prop::collection::vec((0..length, 0..4usize, prop::collection::vec(any::<u8>(), 0..4)), 0..4).prop_map(
        move |edits| {
            let mut bytes = bytes.clone();
            for (at, gone, new) in edits {
                let at = at.min(bytes.len());
                let end = (at + gone).min(bytes.len());
                bytes.splice(at..end, new);
            }
            bytes
        },
    )
}

proptest! {
    /// Whatever the bytes, parsers answer, and what they accept has one spelling.
    #[test]
    fn any_bytes(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        ".*".prop_map(String::into_bytes),
        nearly(proven(Some(b"hello")).0.encode()),
        nearly(proven(None).0.checkpoint),
        nearly(KEY.as_bytes().to_vec()),
    ]) {
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.encode().unwrap(), bytes.as_slice());
        }
        if let Ok(proof) = TlogProof::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes.as_slice());
        }
        let _ = open(&bytes, &[key(KEY)]);
        let _ = SignedCheckpoint::open(&bytes, ORIGIN, &[log().verifier().clone()]);
        if let Ok(text) = str::from_utf8(&bytes) {
            if let Ok(checkpoint) = Checkpoint::decode(text) {
                prop_assert_eq!(checkpoint.to_string(), text);
            }
            if let Ok(key) = text.parse::<VerifierKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
            let _ = text.parse::<SignerKey>();
            let _ = format!("PRIVATE+KEY+{text}").parse::<SignerKey>();
        }
    }

    #[test]
    fn what_is_signed_opens(text in "(\\PC|\n){0,80}\n", name in "[a-z./0-9é]{1,20}", seed in any::<[u8; 32]>()) {
        let signer = SignerKey::generate_from_seed(&name, &seed).unwrap();
        let note = sign(&text, &[&signer]).unwrap();
        let verified = open(&note, &[signer.verifier().to_string().parse().unwrap()]).unwrap();
        prop_assert_eq!(verified.text, text);
    }
}
