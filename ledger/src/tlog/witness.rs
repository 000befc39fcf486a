//! C2SP tlog-witness, seen from the log: what to post to a witness, how to read its answer, and what to do then. No I/O and no
//! clock: who uses this brings both.
//!
//! A request is `POST <submission prefix>/add-checkpoint` with this body:
//!
//! ```text
//! old <size of the checkpoint that the witness cosigned last, 0 for none>
//! <base64 hash>             (any number of lines up to 63: the consistency proof from that size)
//!                           (an empty line)
//! <the signed checkpoint>
//! ```
//!
//! 200 answers with signature lines. 409 answers with the size that the witness cosigned last, a line feed after it: the proof has
//! to begin there. Everything else is trouble, and some of it the kind that a log exists to make visible: a witness that is ahead
//! of us or holds another root has seen a history that we do not have.

use super::{
    checkpoint::decimal,
    cosignature::{Cosignature, WitnessKey},
    hash::{Hash, TreeSize},
    note::{Note, NoteError, NoteSignature},
};

/// The most lines of a proof that a witness need take.
const HASHES_MAX: usize = 63;

/// The largest answer that is looked at, in bytes: some hundred signature lines.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The first pause after trouble, in milliseconds; it doubles from there.
const PAUSE_MIN_MS: u64 = 1_000;

/// The longest pause after trouble, in milliseconds.
const PAUSE_MAX_MS: u64 = 300_000;

/// The body of an `add-checkpoint` request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint that the witness cosigned last.
    pub old: TreeSize,
    /// The consistency proof from there; empty where `old` is 0 or the checkpoint's own size.
    pub proof: Vec<Hash>,
    /// The checkpoint, a signed note.
    pub checkpoint: Vec<u8>,
}

/// Why bytes are not the body of an `add-checkpoint` request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddCheckpointError {
    /// The first line is another one.
    #[error("malformed first line: required `old <size>` with a decimal number without leading zeros")]
    Old,
    /// A line of the proof is not a hash.
    #[error("hash {position} of the proof is malformed: required the base64 of 32 bytes")]
    Hash {
        /// Which hash, from 0.
        position: usize,
    },
    /// A longer proof than any tree asks for.
    #[error("too many hashes in the proof: required at most {HASHES_MAX}")]
    TooManyHashes,
    /// No empty line.
    #[error("the body is cut off: required an empty line and a checkpoint after the proof")]
    CutOff,
    /// What follows is not a note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl AddCheckpoint {
    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&hash.to_base64());
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads a body: its form, neither signature nor proof. Bytes that are accepted encode again to themselves.
    pub fn decode(body: &[u8]) -> Result<Self, AddCheckpointError> {
        let end = body.windows(2).position(|pair| pair == b"\n\n").ok_or(AddCheckpointError::CutOff)?;
        let (head, rest) = body.split_at_checked(end).ok_or(AddCheckpointError::CutOff)?;
        let checkpoint = rest.get(2..).ok_or(AddCheckpointError::CutOff)?;
        let mut lines = str::from_utf8(head).map_err(|_| AddCheckpointError::Old)?.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old = TreeSize::new(old.ok_or(AddCheckpointError::Old)?);
        let mut proof = Vec::new();
        for (position, line) in lines.enumerate() {
            if position == HASHES_MAX {
                return Err(AddCheckpointError::TooManyHashes);
            }
            proof.push(Hash::from_base64(line).map_err(|_| AddCheckpointError::Hash { position })?);
        }
        Note::parse(checkpoint)?;
        Ok(Self { old, proof, checkpoint: checkpoint.to_vec() })
    }
}

/// What a witness answered, or that it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 with signature lines, not checked yet.
    Signatures(Vec<NoteSignature>),
    /// 409 with the size that it cosigned last.
    Size(TreeSize),
    /// Another status, or a body that does not belong to its status.
    Status(u16),
    /// No answer: what went wrong.
    None(String),
}

impl Answer {
    /// Reads an answer by its status and body.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let text = str::from_utf8(body).ok().filter(|text| text.len() <= ANSWER_BYTES_MAX);
        let signatures = |text: &str| {
            let lines: Option<Vec<_>> = text.split_inclusive('\n').map(NoteSignature::parse).collect();
            lines.filter(|lines| !lines.is_empty()).map(Self::Signatures)
        };
        let size = |text: &str| text.strip_suffix('\n').and_then(decimal).map(TreeSize::new).map(Self::Size);
        let read = match status {
            200 => text.and_then(signatures),
            409 => text.and_then(size),
            _ => None,
        };
        read.unwrap_or(Self::Status(status))
    }
}

/// What stands between the log and a witness's cosignature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It cannot be reached.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// It does not know this log.
    #[error("it does not know this log (404)")]
    UnknownLog,
    /// It does not trust the log's key.
    #[error("it does not trust the key that signed (403)")]
    UntrustedKey,
    /// Another status than those of the protocol, or a body that doesn't belong to it.
    #[error("status {0}, or a body that does not belong to it")]
    Status(u16),
    /// It answers with a size that it was just sent, or with none that helps.
    #[error("it answers that it cosigned size {found} last, as it was told")]
    Senseless {
        /// The size.
        found: TreeSize,
    },
    /// None of its lines is a cosignature by its key on the checkpoint that it was sent.
    #[error("its answer holds no good cosignature by the key `{0}`")]
    BadCosignature(String),
    /// It has cosigned more than was ever published here: entries are missing here, or another ledger uses the same key.
    #[error(
        "it has cosigned {found} entries of this log, and {published} are published: entries were lost here, or two ledgers sign under one key"
    )]
    Ahead {
        /// The size that it cosigned last.
        found: TreeSize,
        /// The largest size that was published.
        published: TreeSize,
    },
    /// It holds another root at that size.
    #[error("it holds another root of this log at size {0}: two ledgers sign under one key, or history was rewritten")]
    OtherRoot(TreeSize),
}

impl Trouble {
    /// Whether this is evidence of a second history, which somebody has to look into.
    pub const fn is_alarm(&self) -> bool {
        matches!(self, Self::Ahead { .. } | Self::OtherRoot(_))
    }
}

/// What to do next about a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Post the checkpoint of the largest published size with the proof from `old`.
    Post {
        /// Where the proof begins.
        old: TreeSize,
    },
    /// Ask again at this time, in milliseconds of the caller's clock.
    At(u64),
    /// Nothing before something new is published.
    Nothing,
}

/// What an answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A good cosignature, to be kept.
    Cosigned(Box<Cosignature>),
    /// It told the size that the proof must begin at: post again.
    Again,
    /// Something is wrong; it is tried again later.
    Trouble(Trouble),
}

/// One witness, as the log knows it.
#[derive(Clone, Debug)]
pub struct Witness {
    key: WitnessKey,
    /// What it cosigned last, as far as we know.
    cosigned: TreeSize,
    /// The largest size whose cosignature we hold: less than `cosigned` where an answer was lost.
    held: TreeSize,
    /// Troubles since the last success.
    failures: u32,
    /// Not before this time, in milliseconds of the caller's clock.
    not_before: u64,
    trouble: Option<Trouble>,
}

impl Witness {
    /// The witness with that key, of which we hold a cosignature of that size; 0 for none.
    pub fn new(key: WitnessKey, held: TreeSize) -> Self {
        Self { key, cosigned: held, held, failures: 0, not_before: 0, trouble: None }
    }

    /// Its key.
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// The largest size whose cosignature we hold.
    pub fn held(&self) -> TreeSize {
        self.held
    }

    /// What stood in the way last; nothing after a success.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// What to do, where `published` is the largest published size and `now` the caller's clock in milliseconds.
    pub fn next(&self, published: TreeSize, now: u64) -> Next {
        if self.held >= published {
            return Next::Nothing;
        }
        if now < self.not_before { Next::At(self.not_before) } else { Next::Post { old: self.cosigned } }
    }

    /// Takes the answer to a post of the checkpoint with this text and size, whose proof began at `old`. `published` and `now` as
    /// for [`next`](Self::next), of the present.
    pub fn answered(
        &mut self,
        (text, old, size): (&str, TreeSize, TreeSize),
        answer: Answer,
        published: TreeSize,
        now: u64,
    ) -> Outcome {
        let trouble = match answer {
            Answer::Signatures(lines) => {
                let good = lines.into_iter().find_map(|line| Some((self.key.verify(text, &line)?, line)));
                if let Some((time, line)) = good {
                    (self.cosigned, self.held) = (self.cosigned.max(size), self.held.max(size));
                    (self.failures, self.not_before, self.trouble) = (0, 0, None);
                    return Outcome::Cosigned(Box::new(Cosignature { key: self.key.clone(), time, line }));
                }
                Trouble::BadCosignature(self.key.to_string())
            }
            // Anybody on the way can say so: it is not kept, and asked again later.
            Answer::Size(found) if found > published => Trouble::Ahead { found, published },
            Answer::Size(found) if found == old && old == size => Trouble::OtherRoot(size),
            Answer::Size(found) if found == old => Trouble::Senseless { found },
            Answer::Size(found) => {
                self.cosigned = found;
                // Told once, it is posted again at once; told again and again, somebody else posts too, and is let go first.
                if self.failures == 0 {
                    self.failures = 1;
                } else {
                    self.pause(now);
                }
                return Outcome::Again;
            }
            Answer::Status(422) => Trouble::OtherRoot(old),
            Answer::Status(404) => Trouble::UnknownLog,
            Answer::Status(403) => Trouble::UntrustedKey,
            Answer::Status(status) => Trouble::Status(status),
            Answer::None(why) => Trouble::NoAnswer(why),
        };
        self.pause(now);
        self.trouble = Some(trouble.clone());
        Outcome::Trouble(trouble)
    }

    fn pause(&mut self, now: u64) {
        let pause = PAUSE_MIN_MS.checked_shl(self.failures.min(16)).unwrap_or(PAUSE_MAX_MS).min(PAUSE_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(pause);
    }
}
