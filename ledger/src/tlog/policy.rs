//! C2SP tlog-policy: which logs and witnesses somebody trusts, and how many of the witnesses must have cosigned a checkpoint
//! before he believes it.
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> all|any|<k> <name>…
//! quorum <name>|none
//! ```
//!
//! Words are separated by spaces and tabs; empty lines and lines beginning with `#` are ignored. A group or the quorum names what
//! stands above it. A file is read whole or not at all: what is not understood could have been a condition.

use super::{
    checkpoint::{CheckpointError, SignedCheckpoint, decimal},
    cosignature::{Cosignature, WitnessKey, cosignatures},
    note::{KeyError, Note, VerifierKey},
};
use std::collections::HashSet;

/// A policy: logs, witnesses, quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    // In the order of the file.
    parties: Vec<Party>,
    quorum: Member,
}

/// A log that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key, called as the log is.
    pub key: VerifierKey,
    /// Where it is found. An address that is not UTF-8 serves nobody and counts as none.
    pub url: Option<String>,
}

/// A witness that a policy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// What the policy calls it. Bytes that are not UTF-8 are shown as U+FFFD.
    pub name: String,
    /// Its key.
    pub key: WitnessKey,
    /// Where it takes checkpoints (tlog-witness's submission prefix). An address that is not UTF-8 counts as none.
    pub url: Option<String>,
}

/// What stands for itself in groups and the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Party {
    Witness(Box<PolicyWitness>),
    Group {
        name: String,
        needs: usize,
        // INVARIANT: positions of parties above this one.
        members: Vec<usize>,
    },
}

/// What the quorum names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    None,
    Party(usize),
}

/// Why a text is not a policy: in which line, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the policy: {fault}")]
pub struct PolicyError {
    /// The line, from 1; for what is missing from the whole, the one after the last.
    pub line: usize,
    /// What is wrong.
    pub fault: PolicyFault,
}

/// What can be wrong with a line of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// A control character other than tab and line feed.
    #[error("control character {0:#04x}")]
    Character(u8),
    /// A first word that says nothing.
    #[error("found `{0}`, required `log`, `witness`, `group` or `quorum`")]
    Keyword(String),
    /// Too few or too many words.
    #[error("required `{0}`")]
    Form(&'static str),
    /// Not a key, or not one of the kind that belongs there.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key of another line.
    #[error("the same public key stands in line {0}")]
    DuplicateKey(usize),
    /// The name of another line, or `none`.
    #[error("the name `{0}` is taken")]
    NameTaken(String),
    /// A name that no line above defines.
    #[error("no line above defines `{0}`")]
    Undefined(String),
    /// A name that another group counts already.
    #[error("`{0}` is a member of a group already")]
    MemberTwice(String),
    /// A threshold that is not a number from 1 to the number of members.
    #[error("found threshold `{found}`, required `all`, `any` or a number from 1 to {members}")]
    Threshold {
        /// What is there.
        found: String,
        /// How many members there are.
        members: usize,
    },
    /// A second quorum.
    #[error("the quorum stands in line {0} already")]
    QuorumTwice(usize),
    /// No quorum at all.
    #[error("there is no `quorum` line")]
    NoQuorum,
}

/// What witnesses say of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// Whether the quorum is reached.
    pub quorum: bool,
    /// The witnesses that cosigned, by their names in the policy, in its order.
    pub cosigned: Vec<(String, Cosignature)>,
    /// The names of those that did not.
    pub missing: Vec<String>,
    /// The quorum in words, with what was found: `group X (2 of 3): found 1`.
    pub required: String,
}

impl Policy {
    /// Reads a policy. The last line may lack its line feed.
    pub fn decode(text: &[u8]) -> Result<Self, PolicyError> {
        let mut reader = Reader::default();
        let mut line = 0;
        for bytes in text.split(|byte| *byte == b'\n') {
            line += 1;
            reader.read(line, bytes).map_err(|fault| PolicyError { line, fault })?;
        }
        match reader.quorum {
            Some((_, quorum)) => Ok(Self { logs: reader.logs, parties: reader.parties, quorum }),
            None => Err(PolicyError { line, fault: PolicyFault::NoQuorum }),
        }
    }

    /// The logs, in the order of the file. None where a policy leaves it to its user to know the log.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses, in the order of the file, those that the quorum does not need among them.
    pub fn witnesses(&self) -> impl Iterator<Item = &PolicyWitness> {
        self.parties.iter().filter_map(|party| match party {
            Party::Witness(witness) => Some(&**witness),
            Party::Group { .. } => None,
        })
    }

    /// Opens a checkpoint of one of the policy's logs, and says what witnesses say of it. Whether the quorum is reached is for
    /// the caller to look at.
    pub fn open(&self, note: &[u8]) -> Result<(SignedCheckpoint, Witnessed), CheckpointError> {
        let parsed = Note::parse(note)?;
        let origin = parsed.text.split('\n').next().unwrap_or_default();
        let keys: Vec<_> = self.logs.iter().map(|log| &log.key).filter(|key| key.name() == origin).cloned().collect();
        let signed = SignedCheckpoint::open(note, origin, &keys)?;
        let witnessed = self.witnessed(&signed)?;
        Ok((signed, witnessed))
    }

    /// What witnesses say of a checkpoint that is the log's. A bad signature under the name and id of a known witness is an
    /// error.
    pub fn witnessed(&self, signed: &SignedCheckpoint) -> Result<Witnessed, CheckpointError> {
        let known: Vec<_> = self.witnesses().map(|witness| witness.key.clone()).collect();
        let found = cosignatures(&Note::parse(signed.note())?, &known)?;
        let (mut cosigned, mut missing) = (Vec::new(), Vec::new());
        // Whether each party has witnessed it, in the order of the file: groups come after their members.
        let mut counts = Vec::<bool>::with_capacity(self.parties.len());
        let mut required = "no cosignature".to_owned();
        for (at, party) in self.parties.iter().enumerate() {
            let (reached, words) = match party {
                Party::Witness(witness) => {
                    let by = found.iter().find(|cosignature| cosignature.key == witness.key);
                    match by {
                        Some(by) => cosigned.push((witness.name.clone(), by.clone())),
                        None => missing.push(witness.name.clone()),
                    }
                    (by.is_some(), format!("witness {}: found {}", witness.name, usize::from(by.is_some())))
                }
                Party::Group { name, needs, members } => {
                    let have = members.iter().filter(|member| counts.get(**member) == Some(&true)).count();
                    (have >= *needs, format!("group {name} ({needs} of {}): found {have}", members.len()))
                }
            };
            counts.push(reached);
            if self.quorum == Member::Party(at) {
                required = words;
            }
        }
        let quorum = match self.quorum {
            Member::None => true,
            Member::Party(at) => counts.get(at) == Some(&true),
        };
        Ok(Witnessed { quorum, cosigned, missing, required })
    }
}

/// A policy while it is being read.
#[derive(Default)]
struct Reader<'a> {
    logs: Vec<PolicyLog>,
    parties: Vec<Party>,
    // Names are bytes: what they look like decides nothing.
    names: Vec<&'a [u8]>,
    members: HashSet<usize>,
    // Public keys of logs, of witnesses, each with its line.
    keys: [Vec<([u8; 32], usize)>; 2],
    quorum: Option<(usize, Member)>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, line: usize, bytes: &'a [u8]) -> Result<(), PolicyFault> {
        if let Some(bad) = bytes.iter().find(|b| (**b < 0x20 && **b != b'\t') || **b == 0x7f) {
            return Err(PolicyFault::Character(*bad));
        }
        let words: Vec<_> = bytes.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty()).collect();
        let Some((keyword, rest)) = words.split_first() else { return Ok(()) };
        match (*keyword, rest) {
            (comment, _) if comment.starts_with(b"#") => Ok(()),
            (b"log", [key, url @ ..]) if url.len() <= 1 => {
                let key: VerifierKey = shown(key).parse()?;
                self.new_key(0, key.public(), line)?;
                self.logs.push(PolicyLog { key, url: address(url) });
                Ok(())
            }
            (b"log", _) => Err(PolicyFault::Form("log <vkey> [<url>]")),
            (b"witness", [name, key, url @ ..]) if url.len() <= 1 => {
                let key: WitnessKey = shown(key).parse()?;
                self.new_key(1, key.public(), line)?;
                self.define(name, Party::Witness(Box::new(PolicyWitness { name: shown(name), key, url: address(url) })))
            }
            (b"witness", _) => Err(PolicyFault::Form("witness <name> <vkey> [<url>]")),
            (b"group", [name, threshold, members @ ..]) if !members.is_empty() => {
                let needs = match *threshold {
                    b"all" => Some(members.len()),
                    b"any" => Some(1),
                    k => decimal(&shown(k)).and_then(|k| usize::try_from(k).ok()),
                };
                let needs = needs
                    .filter(|needs| (1..=members.len()).contains(needs))
                    .ok_or_else(|| PolicyFault::Threshold { found: shown(threshold), members: members.len() })?;
                let mut found = Vec::with_capacity(members.len());
                for member in members {
                    let at = self.position(member)?;
                    if !self.members.insert(at) {
                        return Err(PolicyFault::MemberTwice(shown(member)));
                    }
                    found.push(at);
                }
                self.define(name, Party::Group { name: shown(name), needs, members: found })
            }
            (b"group", _) => Err(PolicyFault::Form("group <name> all|any|<k> <name>...")),
            (b"quorum", [name]) => {
                if let Some((line, _)) = self.quorum {
                    return Err(PolicyFault::QuorumTwice(line));
                }
                let member = if *name == b"none" { Member::None } else { Member::Party(self.position(name)?) };
                self.quorum = Some((line, member));
                Ok(())
            }
            (b"quorum", _) => Err(PolicyFault::Form("quorum <name>|none")),
            (other, _) => Err(PolicyFault::Keyword(shown(other))),
        }
    }

    fn new_key(&mut self, kind: usize, key: &[u8; 32], line: usize) -> Result<(), PolicyFault> {
        let Some(known) = self.keys.get_mut(kind) else { return Ok(()) };
        match known.iter().find(|(other, _)| other == key) {
            Some((_, line)) => Err(PolicyFault::DuplicateKey(*line)),
            None => {
                known.push((*key, line));
                Ok(())
            }
        }
    }

    fn define(&mut self, name: &'a [u8], party: Party) -> Result<(), PolicyFault> {
        if name == b"none" || self.names.contains(&name) {
            return Err(PolicyFault::NameTaken(shown(name)));
        }
        self.names.push(name);
        self.parties.push(party);
        Ok(())
    }

    fn position(&self, name: &[u8]) -> Result<usize, PolicyFault> {
        let at = self.names.iter().position(|known| *known == name);
        at.ok_or_else(|| PolicyFault::Undefined(shown(name)))
    }
}

fn address(words: &[&[u8]]) -> Option<String> {
    words.first().and_then(|url| str::from_utf8(url).ok()).map(str::to_owned)
}

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}
