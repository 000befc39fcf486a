//! C2SP tlog-checkpoint: the signed note by which a log commits to its size and root. Three lines, no more: extension lines
//! are read in other people's logs, and can't be written here.

use super::{
    hash::{Hash, TreeSize},
    note::{NoteError, SignerKey, VerifiedNote, VerifierKey, open, sign},
};
use std::fmt;

/// What a checkpoint says: which log, how large, which root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's origin: a URL without scheme, which is also the name of its key.
    pub origin: String,
    /// How many leaves it has.
    pub size: TreeSize,
    /// The root of its tree.
    pub root: Hash,
}

/// Why a text is not a checkpoint, or a checkpoint is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note is malformed or not signed as required.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Fewer than three lines, or an empty one.
    #[error("malformed checkpoint: required the lines origin, size and root, none of them empty")]
    Lines,
    /// More than three lines.
    #[error("the checkpoint has extension lines: found {found}, required none")]
    Extensions {
        /// How many there are.
        found: usize,
    },
    /// The second line is not a size.
    #[error("not a tree size: found `{found}`, required a decimal number below 2^64 without leading zeros")]
    Size {
        /// The line, escaped and cut after 100 characters.
        found: String,
    },
    /// The third line is not a hash.
    #[error("not a root: found `{found}`, required the base64 of 32 bytes")]
    Root {
        /// The line, escaped and cut after 100 characters.
        found: String,
    },
    /// Empty, or with a control character.
    #[error("not an origin: found `{found}`, required at least one character and no control character")]
    Origin {
        /// The origin, escaped and cut after 100 characters.
        found: String,
    },
    /// The checkpoint of another log.
    #[error("the checkpoint is of another log: found origin `{found}`, required `{required}`")]
    OtherOrigin {
        /// The origin it states.
        found: String,
        /// The origin expected.
        required: String,
    },
    /// A key that isn't called as the log is.
    #[error("the signing key is not called as the log is: found `{found}`, required `{required}`")]
    SignerName {
        /// The key's name.
        found: String,
        /// The log's origin.
        required: String,
    },
}

impl Checkpoint {
    /// Puts the three together.
    pub fn new(origin: impl Into<String>, size: TreeSize, root: Hash) -> Self {
        Self { origin: origin.into(), size, root }
    }

    /// Reads the text of a checkpoint of exactly three lines.
    pub fn decode(text: &str) -> Result<Self, CheckpointError> {
        match Self::decode_with_extensions(text)? {
            (checkpoint, extensions) if extensions.is_empty() => Ok(checkpoint),
            (_, extensions) => Err(CheckpointError::Extensions { found: extensions.len() }),
        }
    }

    /// Reads the text of a checkpoint and, after its three lines, any extension lines, whose meaning is the log's own.
    pub fn decode_with_extensions(text: &str) -> Result<(Self, Vec<String>), CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Lines);
        }
        check_origin(origin)?;
        let size = decimal(size).map(TreeSize::new).ok_or_else(|| CheckpointError::Size { found: shown(size) })?;
        let root = Hash::from_base64(root).map_err(|_| CheckpointError::Root { found: shown(root) })?;
        Ok((Self::new(origin, size, root), extensions))
    }
}

/// The text that is signed, three lines.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root.to_base64())
    }
}

/// Reads a decimal number in its one spelling: digits only, no leading zeros.
pub(super) fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn check_origin(origin: &str) -> Result<(), CheckpointError> {
    if origin.is_empty() || origin.contains(char::is_control) {
        return Err(CheckpointError::Origin { found: shown(origin) });
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.escape_debug().take(100).collect()
}

/// A checkpoint with the note that signs it. There is no way to one but signing ([`sign`](Self::sign)) or checking the
/// signatures ([`open`](Self::open)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    note: Vec<u8>,
    checkpoint: Checkpoint,
    extensions: Vec<String>,
    signers: Vec<VerifierKey>,
}

impl SignedCheckpoint {
    /// Signs a checkpoint with the log's keys, all of which must be called as the log is (that is how other people's tools
    /// find the log's own signature).
    pub fn sign(checkpoint: Checkpoint, keys: &[&SignerKey]) -> Result<Self, CheckpointError> {
        check_origin(&checkpoint.origin)?;
        if let Some(key) = keys.iter().find(|key| key.name() != checkpoint.origin) {
            let (found, required) = (key.name().to_owned(), checkpoint.origin);
            return Err(CheckpointError::SignerName { found, required });
        }
        let note = sign(&checkpoint.to_string(), keys)?;
        let signers = keys.iter().map(|key| key.verifier().clone()).collect();
        Ok(Self { note, checkpoint, extensions: Vec::new(), signers })
    }

    /// Reads a signed checkpoint of the log of that origin, which must carry a good signature by one of `keys`, the log's
    /// own. What [`note::open`](super::note::open) refuses, this refuses.
    pub fn open(note: &[u8], origin: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let VerifiedNote { text, verified: signers, .. } = open(note, keys)?;
        let (checkpoint, extensions) = Checkpoint::decode_with_extensions(&text)?;
        if checkpoint.origin != origin {
            let (found, required) = (checkpoint.origin, origin.to_owned());
            return Err(CheckpointError::OtherOrigin { found, required });
        }
        Ok(Self { note: note.to_vec(), checkpoint, extensions, signers })
    }

    /// The signed note, as it is stored, served and sent.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// The signed note, for keeping.
    pub fn into_note(self) -> Vec<u8> {
        self.note
    }

    /// What it says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The extension lines: none in our own logs.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// Which of the log's keys signed.
    pub fn signers(&self) -> &[VerifierKey] {
        &self.signers
    }
}
