//! How the log's key is replaced: the entry `log.key_rotated`, which both keys sign, ends the old key at a size and begins the new one.
//!
//! Both sign this statement (Ed25519, over its bytes, line feeds included):
//!
//! ```text
//! countersign/log.key_rotated/v1
//! <the old verifier key>
//! <the new verifier key>
//! <the size>
//! ```
//!
//! The size is that of the tree which the entry completes. The checkpoint of that size is signed by both keys, so that whoever knows
//! the old key can follow to the new one, and whoever knows the new one can go back.

use super::step::{Int, LogKeyRotated};
use crate::tlog::{Epochs, EpochsError, KeyError, SignerKey, TreeSize, VerifierKey};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Why a rotation does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// Not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key of another log, or one that was in use before.
    #[error(transparent)]
    Epochs(#[from] EpochsError),
    /// A signature is missing, malformed, or not that key's over the statement.
    #[error("the {which} key `{key}` did not sign that it passes over at size {size}")]
    Signature {
        /// `old` or `new`.
        which: &'static str,
        /// The key.
        key: Box<VerifierKey>,
        /// The size.
        size: u64,
    },
    /// It names another size than the one that it completes.
    #[error("the rotation names size {found}, it completes size {required}")]
    Size {
        /// The size that it names.
        found: u64,
        /// Its index plus one.
        required: u64,
    },
}

/// What both keys sign.
pub fn statement(old: &VerifierKey, new: &VerifierKey, size: TreeSize) -> String {
    format!("countersign/log.key_rotated/v1\n{old}\n{new}\n{size}\n")
}

/// The entry by which `new` follows `old` from that size on, signed by both. Whether they are keys of one log is for
/// [`check`] to say.
pub fn rotate(old: &SignerKey, new: &SignerKey, size: TreeSize) -> LogKeyRotated {
    let text = statement(old.verifier(), new.verifier(), size);
    LogKeyRotated {
        key: new.verifier().to_string(),
        size: Int::saturating(size.get()),
        old_signature: STANDARD.encode(old.sign(text.as_bytes())),
        new_signature: STANDARD.encode(new.sign(text.as_bytes())),
    }
}

/// Checks a rotation away from the key `old`: another key of the same name, and both signatures. Gives the new key.
pub fn check(old: &str, step: &LogKeyRotated) -> Result<VerifierKey, RotationError> {
    let (old, new): (VerifierKey, VerifierKey) = (old.parse()?, step.key.parse()?);
    let size = TreeSize::new(step.size.get());
    Epochs::single(old.clone()).rotate(size, new.clone())?;
    let text = statement(&old, &new, size);
    for (which, key, signature) in [("old", &old, &step.old_signature), ("new", &new, &step.new_signature)] {
        let signature = STANDARD.decode(signature).unwrap_or_default();
        if !key.verify(text.as_bytes(), &signature) {
            return Err(RotationError::Signature { which, key: Box::new(key.clone()), size: size.get() });
        }
    }
    Ok(new)
}

/// Takes the epochs of a log past the rotation that stands at `index`.
pub fn follow(epochs: &mut Epochs, index: u64, step: &LogKeyRotated) -> Result<(), RotationError> {
    let (found, required) = (step.size.get(), index.saturating_add(1));
    if found != required {
        return Err(RotationError::Size { found, required });
    }
    let old = epochs.current().to_string();
    let new = check(&old, step)?;
    Ok(epochs.rotate(TreeSize::new(found), new)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "ledger.example/one";

    fn key(name: &str, n: u8) -> SignerKey {
        SignerKey::generate_from_seed(name, &[n; 32]).unwrap()
    }

    fn after(first: &SignerKey, steps: &[(u64, LogKeyRotated)]) -> Result<String, String> {
        let mut epochs = Epochs::single(first.verifier().clone());
        for (index, step) in steps {
            follow(&mut epochs, *index, step).map_err(|e| e.to_string())?;
        }
        Ok(epochs.to_string())
    }

    #[test]
    fn keys_follow_each_other() {
        let (a, b, c) = (key(ORIGIN, 1), key(ORIGIN, 2), key(ORIGIN, 3));
        let steps = [(6, rotate(&a, &b, TreeSize::new(7))), (9, rotate(&b, &c, TreeSize::new(10)))];
        let expect = format!("{} 7\n{} 10\n{}\n", a.verifier(), b.verifier(), c.verifier());
        assert_eq!(after(&a, &steps), Ok(expect));
    }

    #[test]
    fn nothing_else_counts() {
        let (a, b, other) = (key(ORIGIN, 1), key(ORIGIN, 2), key("other", 2));
        let good = rotate(&a, &b, TreeSize::new(7));
        let check = |index, step: LogKeyRotated, expect: &str| {
            let error = after(&a, &[(index, step)]).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check(7, good.clone(), "names size 7, it completes size 8");
        check(7, LogKeyRotated { size: Int::saturating(8), ..good.clone() }, "the old key");
        check(6, LogKeyRotated { old_signature: good.new_signature.clone(), ..good.clone() }, "the old key");
        check(6, LogKeyRotated { new_signature: String::new(), ..good.clone() }, "the new key");
        check(6, LogKeyRotated { new_signature: good.old_signature.clone(), ..good.clone() }, "the new key");
        check(6, LogKeyRotated { key: "x".into(), ..good.clone() }, "not a verifier key");
        check(6, rotate(&b, &a, TreeSize::new(7)), "was in use before");
        check(6, rotate(&a, &other, TreeSize::new(7)), "a key of another log");
        // A key that was in use before the last one doesn't come back either.
        let back = rotate(&b, &a, TreeSize::new(8));
        let error = after(&a, &[(6, good), (7, back)]).unwrap_err();
        assert!(error.contains("was in use before"), "{error}");
    }
}
