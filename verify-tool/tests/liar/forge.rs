//! A ledger as somebody writes it who holds its key and every key of its people: entries, payloads, tiles and checkpoints, from
//! `docs/formats.md` alone. Nothing of the code under test is used here, so that a mistake in a rule is not made twice.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(crate) type Hash = [u8; 32];

pub(crate) const ORIGIN: &str = "ledger.example/liar";
const WITNESS: &str = "witness.example/liar";
/// The ledger's first second.
pub(crate) const START: u64 = 1_763_931_600;

pub(crate) fn sha(parts: &[&[u8]]) -> Hash {
    let mut sha = Sha256::new();
    parts.iter().for_each(|part| sha.update(part));
    sha.finalize().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Section 6: `H(tag; fields)`.
pub(crate) fn tagged(tag: &str, fields: &[&[u8]]) -> Hash {
    let mut bytes = format!("countersign/{tag}/v1\0").into_bytes();
    for field in fields {
        bytes.extend((field.len() as u64).to_be_bytes());
        bytes.extend(*field);
    }
    sha(&[&bytes])
}

/// Section 7: the commitment, and its salt, which is random in life and here the same in every run.
pub(crate) fn commitment(class: &str, bytes: &[u8]) -> (Hash, Hash) {
    let salt = sha(&[b"salt", class.as_bytes(), bytes]);
    (sha(&[format!("countersign/{class}/v1\0").as_bytes(), &salt, bytes]), salt)
}

// --- Keys and tokens ---

pub(crate) fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&sha(&[b"key of ", name.as_bytes()]))
}

pub(crate) fn key_text(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(key(name).verifying_key().as_bytes())
}

/// The RFC 7638 thumbprint.
pub(crate) fn kid(name: &str) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, key_text(name));
    URL_SAFE_NO_PAD.encode(sha(&[jwk.as_bytes()]))
}

/// The pseudonym.
pub(crate) fn id(name: &str) -> String {
    format!("id-{}", &hex(&sha(&[name.as_bytes()]))[..16])
}

/// What is signed, and the whole token.
pub(crate) fn token(typ: &str, kid: &str, hand: &str, claims: &Value) -> (String, String) {
    let header = format!(r#"{{"alg":"EdDSA","typ":"countersign-{typ}+jwt","kid":"{kid}"}}"#);
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key(hand).sign(input.as_bytes()).to_bytes();
    (input.clone(), format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// A key of that type in its text form, and the key id (C2SP signed-note).
fn text_key(name: &str, kind: u8) -> (String, [u8; 4]) {
    let typed = [&[kind][..], &key(name).verifying_key().to_bytes()].concat();
    let id = sha(&[name.as_bytes(), b"\n", &typed]);
    (format!("{name}+{}+{}", hex(&id[..4]), STANDARD.encode(typed)), [id[0], id[1], id[2], id[3]])
}

/// The ledger's.
pub(crate) fn log_key() -> (String, [u8; 4]) {
    text_key(ORIGIN, 1)
}

/// A witness's.
pub(crate) fn witness_key() -> (String, [u8; 4]) {
    text_key(WITNESS, 4)
}

/// The line of a witness under a signed checkpoint (C2SP tlog-cosignature).
pub(crate) fn cosignature(checkpoint: &str) -> String {
    let (body, _) = checkpoint.split_once("\n\n").unwrap();
    let signature = key(WITNESS).sign(format!("cosignature/v1\ntime {START}\n{body}\n").as_bytes()).to_bytes();
    let bytes = [&witness_key().1[..], &START.to_be_bytes(), &signature].concat();
    format!("— {WITNESS} {}\n", STANDARD.encode(bytes))
}

/// A checkpoint, signed by the ledger's key.
pub(crate) fn checkpoint(size: u64, root: Hash) -> String {
    let text = format!("{ORIGIN}\n{size}\n{}\n", STANDARD.encode(root));
    let signature = key(ORIGIN).sign(text.as_bytes()).to_bytes();
    format!("{text}\n— {ORIGIN} {}\n", STANDARD.encode([&log_key().1[..], &signature].concat()))
}

// --- What stands in entries ---

/// A value in an entry. Some are known only when it is written.
#[derive(Clone, Debug)]
pub(crate) enum J {
    Int(u64),
    Text(String),
    Bool(bool),
    List(Vec<J>),
    Object(Vec<(&'static str, J)>),
    /// The commitment to these bytes, which become a payload of that class.
    Commit(&'static str, Vec<u8>),
    /// The index of the entry with that label.
    Index(String),
    /// Its leaf hash.
    Leaf(String),
    /// The second at which the entry is written.
    Now,
    /// The digest of the policy or catalog in force.
    InForce(&'static str),
    /// A signed change.
    Signed(Box<Signatures>),
}

/// Who signs a change, and how.
#[derive(Clone, Debug)]
pub(crate) struct Signatures {
    pub(crate) change: Value,
    pub(crate) by: Vec<&'static str>,
    /// Whose key it really is.
    pub(crate) hand: Option<&'static str>,
    /// Another document than the one that is committed to is signed.
    pub(crate) another: bool,
    /// The claims `iat` and `exp`.
    pub(crate) times: (u64, u64),
    /// The head that the document names, where it is not the trace's.
    pub(crate) after: Option<String>,
}

pub(crate) fn text(text: impl Into<String>) -> J {
    J::Text(text.into())
}

pub(crate) fn hash(hash: Hash) -> J {
    J::Text(hex(&hash))
}

pub(crate) fn texts<T: ToString>(texts: &[T]) -> J {
    J::List(texts.iter().map(|t| J::Text(t.to_string())).collect())
}

pub(crate) type Body = Vec<(&'static str, J)>;

/// Something that happens.
#[derive(Clone)]
pub(crate) struct Event {
    /// How lies call it.
    pub(crate) label: String,
    pub(crate) trace: Hash,
    pub(crate) kind: &'static str,
    pub(crate) body: Body,
    /// Seconds after the event before it.
    pub(crate) after: u64,
    /// A last word on the entry's text.
    pub(crate) bend: Option<Rc<dyn Fn(String) -> String>>,
}

impl Event {
    pub(crate) fn new(label: impl Into<String>, trace: Hash, kind: &'static str, body: Body) -> Self {
        Self { label: label.into(), trace, kind, body, after: 0, bend: None }
    }

    pub(crate) fn get(&mut self, member: &str) -> &mut J {
        let (label, kind) = (&self.label, self.kind);
        let found = self.body.iter_mut().find(|(name, _)| *name == member);
        &mut found.unwrap_or_else(|| panic!("`{label}` ({kind}) has no `{member}`")).1
    }

    pub(crate) fn set(&mut self, member: &str, value: J) {
        *self.get(member) = value;
    }

    pub(crate) fn drop(&mut self, member: &str) {
        self.body.retain(|(name, _)| *name != member);
    }

    pub(crate) fn bend(&mut self, bend: impl Fn(String) -> String + 'static) {
        self.bend = Some(Rc::new(bend));
    }
}

/// Section 4: the only spelling of a text.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}

// --- Writing ---

/// The tree of RFC 6962, tile by tile.
#[derive(Default)]
struct Tree {
    size: u64,
    /// The complete subtree on each level that has no sibling yet.
    lonely: Vec<Option<Hash>>,
    /// The unfinished tile on every eighth level, and how many are finished.
    tiles: Vec<(Vec<u8>, u64)>,
}

impl Tree {
    fn push(&mut self, leaf: Hash, mut full: impl FnMut(usize, u64, &[u8])) {
        self.size += 1;
        let (mut node, mut level) = (leaf, 0);
        loop {
            if level % 8 == 0 {
                if self.tiles.len() == level / 8 {
                    self.tiles.push(Default::default());
                }
                let (hashes, index) = &mut self.tiles[level / 8];
                hashes.extend(node);
                if hashes.len() == 256 * 32 {
                    full(level / 8, *index, hashes);
                    hashes.clear();
                    *index += 1;
                }
            }
            if self.lonely.len() == level {
                self.lonely.push(None);
            }
            match self.lonely[level].take() {
                None => {
                    self.lonely[level] = Some(node);
                    return;
                }
                Some(left) => node = sha(&[&[1], &left, &node]),
            }
            level += 1;
        }
    }

    fn root(&self) -> Hash {
        let join = |right: Option<Hash>, left: &Hash| Some(right.map_or(*left, |right| sha(&[&[1], left, &right])));
        self.lonely.iter().flatten().fold(None, join).unwrap_or_else(|| sha(&[]))
    }
}

/// Section 1: groups of three digits, all but the last marked with `x`.
fn number(mut n: u64) -> String {
    let mut path = format!("{:03}", n % 1000);
    while n >= 1000 {
        n /= 1000;
        path = format!("x{:03}/{path}", n % 1000);
    }
    path
}

pub(crate) fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A ledger that is being written into a folder.
pub(crate) struct Ledger {
    dir: PathBuf,
    /// Whether payloads are written as well.
    pub(crate) payloads: bool,
    /// How often a checkpoint is published, in entries.
    pub(crate) publish_every: u64,
    /// Microseconds of Unix time.
    at: u64,
    tree: Tree,
    bundle: Vec<u8>,
    traces: HashMap<Hash, (u64, Hash)>,
    /// Index and leaf hash of each label.
    pub(crate) labels: HashMap<String, (u64, Hash)>,
    policy: Hash,
    catalog: Hash,
    /// The root at each size that was published.
    pub(crate) published: Vec<(u64, Hash)>,
}

impl Ledger {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            payloads: true,
            publish_every: 64,
            at: START * 1_000_000,
            tree: Tree::default(),
            bundle: Vec::new(),
            traces: HashMap::new(),
            labels: HashMap::new(),
            policy: [0; 32],
            catalog: [0; 32],
            published: Vec::new(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.tree.size
    }

    pub(crate) fn write(&mut self, event: &Event) {
        self.at += event.after * 1_000_000 + 1;
        let index = self.tree.size;
        let head = self.traces.get(&event.trace).copied();
        let body = self.object(&event.body, event.trace);
        // A second process takes over after the first hundred entries.
        let (src, seq) = if index < 100 { ("5eed/1", index) } else { ("5eed/2", index - 100) };
        let (step, prev) = match head {
            None => (0, String::new()),
            Some((step, head)) => (step, format!(r#","prev":"{}""#, hex(&head))),
        };
        let (kind, trace, at) = (event.kind, hex(&event.trace), self.at);
        let mut entry = format!(
            r#"{{"v":1,"type":"{kind}","trace":"{trace}","step":{step}{prev},"at":{at},"src":"{src}","seq":{seq},"body":{body}}}"#
        );
        if let Some(bend) = &event.bend {
            let bent = bend(entry.clone());
            assert_ne!(bent, entry, "nothing is bent in `{}`", event.label);
            entry = bent;
        }
        let leaf = sha(&[&[0], entry.as_bytes()]);
        self.traces.insert(event.trace, (step + 1, leaf));
        if !event.label.is_empty() {
            self.labels.insert(event.label.clone(), (index, leaf));
        }
        let digest = |body: &Body| match body.iter().find(|(name, _)| *name == "digest") {
            Some((_, J::Text(text))) => {
                (0..32).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
            }
            _ => vec![0; 32],
        };
        match event.kind {
            "policy.changed" => self.policy = digest(&event.body).try_into().unwrap(),
            "catalog.changed" => self.catalog = digest(&event.body).try_into().unwrap(),
            _ => {}
        }
        self.append(entry.as_bytes(), leaf);
    }

    fn append(&mut self, entry: &[u8], leaf: Hash) {
        let dir = &self.dir;
        self.bundle.extend((entry.len() as u16).to_be_bytes());
        self.bundle.extend(entry);
        self.tree.push(leaf, |level, index, hashes| put(&dir.join(format!("tile/{level}/{}", number(index))), hashes));
        let size = self.tree.size;
        if size.is_multiple_of(256) {
            put(&dir.join(format!("tile/entries/{}", number(size / 256 - 1))), &self.bundle);
            self.bundle.clear();
        }
        if size.is_multiple_of(self.publish_every) {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let (size, root) = (self.tree.size, self.tree.root());
        put(&self.dir.join(format!("checkpoints/{size}")), checkpoint(size, root));
        self.published.push((size, root));
    }

    /// Writes what is unfinished, and the checkpoint over everything. Gives size and root.
    pub(crate) fn finish(&mut self) -> (u64, Hash) {
        let (size, root) = (self.tree.size, self.tree.root());
        if !self.bundle.is_empty() {
            let path = format!("tile/entries/{}.p/{}", number(size / 256), size % 256);
            put(&self.dir.join(path), &self.bundle);
        }
        for (level, (hashes, index)) in self.tree.tiles.iter().enumerate().filter(|(_, (hashes, _))| !hashes.is_empty())
        {
            let path = format!("tile/{level}/{}.p/{}", number(*index), hashes.len() / 32);
            put(&self.dir.join(path), hashes);
        }
        if self.published.last().is_none_or(|(last, _)| *last != size) {
            self.publish();
        }
        put(&self.dir.join("checkpoint"), checkpoint(size, root));
        (size, root)
    }

    fn object(&self, members: &Body, trace: Hash) -> String {
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("\"{name}\":{}", self.value(value, trace))).collect();
        format!("{{{}}}", members.join(","))
    }

    fn value(&self, value: &J, trace: Hash) -> String {
        let known = |label: &String| self.labels.get(label).copied().unwrap_or((0, [0; 32]));
        match value {
            J::Int(n) => n.to_string(),
            J::Text(text) => quoted(text),
            J::Bool(b) => b.to_string(),
            J::List(list) => {
                let list: Vec<String> = list.iter().map(|value| self.value(value, trace)).collect();
                format!("[{}]", list.join(","))
            }
            J::Object(members) => self.object(members, trace),
            J::Commit(class, bytes) => format!("\"{}\"", hex(&self.keep(class, bytes))),
            J::Index(label) => known(label).0.to_string(),
            J::Leaf(label) => format!("\"{}\"", hex(&known(label).1)),
            J::Now => (self.at / 1_000_000).to_string(),
            J::InForce("policy") => format!("\"{}\"", hex(&self.policy)),
            J::InForce(_) => format!("\"{}\"", hex(&self.catalog)),
            J::Signed(signatures) => self.signed(signatures, trace),
        }
    }

    fn keep(&self, class: &str, bytes: &[u8]) -> Hash {
        let (commitment, salt) = commitment(class, bytes);
        // What was committed to and is kept nowhere has no file.
        if self.payloads && !["chunk", "rejected"].contains(&class) {
            let mut file = format!("{class}\n{}\n", hex(&salt)).into_bytes();
            file.extend(bytes);
            put(&self.dir.join(format!("payload/{}", hex(&commitment))), file);
        }
        commitment
    }

    fn signed(&self, signatures: &Signatures, trace: Hash) -> String {
        let mut document = json!({"origin": ORIGIN, "change": signatures.change});
        if let Some((_, head)) = self.traces.get(&trace) {
            document["after"] = json!(hex(head));
        }
        if let Some(after) = &signatures.after {
            document["after"] = json!(after);
        }
        let document = document.to_string();
        let digest = if signatures.another { sha(&[b"another document"]) } else { sha(&[document.as_bytes()]) };
        let mut by: Vec<(String, String)> = (signatures.by.iter())
            .map(|admin| {
                let (iat, exp) = signatures.times;
                let claims = json!({"iss": admin, "sub": admin, "aud": format!("{ORIGIN}/admin"), "iat": iat, "exp": exp,
                    "jti": "0123456789abcdef0123456789abcdef", "change": hex(&digest)});
                let (_, token) = token("admin", &kid(admin), signatures.hand.unwrap_or(*admin), &claims);
                let signature = hex(&self.keep("admin", token.as_bytes()));
                (id(admin), format!(r#"{{"admin":"{}","kid":"{}","signature":"{signature}"}}"#, id(admin), kid(admin)))
            })
            .collect();
        by.sort();
        let by: Vec<String> = by.into_iter().map(|(_, by)| by).collect();
        let change = hex(&self.keep("admin", document.as_bytes()));
        format!(r#"{{"change":"{change}","by":[{}]}}"#, by.join(","))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_as_paths() {
        for (n, path) in [(0, "000"), (67, "067"), (999, "999"), (1000, "x001/000"), (1_234_067, "x001/x234/067")] {
            assert_eq!(super::number(n), path);
        }
    }
}
