//! The master keys of tokens, as files in the keyring: `tokens.key` is version 1, `tokens-2.key` version 2, and so on. The newest makes
//! tokens; the others are kept so that older ones can be turned back. A version that is missing between two others ends the start,
//! since its tokens would be lost without a word.

use crate::service::read_secret;
use anyhow::{anyhow, bail};
use countersign_ledger::tlog::Hash;
use countersign_ledger::vault::files;
use countersign_masker::TokenKeys;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The most versions that there can be.
const MAX_VERSIONS: usize = 10_000;

fn path(keyring: &Path, version: usize) -> PathBuf {
    keyring.join(if version == 1 { "tokens.key".to_owned() } else { format!("tokens-{version}.key") })
}

/// The versions in the keyring, in order.
fn versions(keyring: &Path) -> anyhow::Result<Vec<usize>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(keyring) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => bail!("`{}`: {error}", keyring.display()),
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(middle) = name.to_str().and_then(|n| n.strip_prefix("tokens")?.strip_suffix(".key")) else { continue };
        let number = middle.strip_prefix('-').filter(|number| !number.starts_with(['0', '+']));
        let version = if middle.is_empty() { Some(1) } else { number.and_then(|n| n.parse().ok()).filter(|n| *n > 1) };
        match version.filter(|version| *version <= MAX_VERSIONS) {
            Some(version) => found.push(version),
            None => bail!("`{}` is no name of a token key", keyring.join(&name).display()),
        }
    }
    found.sort_unstable();
    if let Some(missing) = (1..=found.len()).find(|version| found.get(version - 1) != Some(version)) {
        bail!("`{}` is missing: tokens of that version could not be turned back", path(keyring, missing).display());
    }
    Ok(found)
}

fn make(keyring: &Path, version: usize) -> anyhow::Result<()> {
    let mut master = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *master).map_err(|e| anyhow!("no random numbers from the system: {e}"))?;
    let hex: Zeroizing<String> = Zeroizing::new(master.iter().map(|b| format!("{b:02x}")).collect());
    files::create_folder(keyring)?;
    // Whole or not at all, and never over another.
    Ok(files::create(&path(keyring, version), hex.as_bytes())?)
}

fn read(keyring: &Path, version: usize) -> anyhow::Result<[u8; 32]> {
    let path = path(keyring, version);
    let text = read_secret(&path)?;
    let master = Hash::from_hex(text.trim()).map_err(|_| anyhow!("`{}` is not 64 hex digits", path.display()))?;
    Ok(*master.as_bytes())
}

/// All versions; the first is made where there is none.
pub fn load_or_make(keyring: &Path) -> anyhow::Result<TokenKeys> {
    let mut found = versions(keyring)?;
    if found.is_empty() {
        make(keyring, 1)?;
        found.push(1);
    }
    let mut keys = TokenKeys::new(read(keyring, 1)?);
    for version in found.into_iter().skip(1) {
        keys = keys.rotated(read(keyring, version)?);
    }
    Ok(keys)
}

/// Makes one more version, which makes tokens from the service's next start on. Gives its number.
pub fn rotate(keyring: &Path) -> anyhow::Result<usize> {
    // Everything that is there must be usable: a new key beside a broken one would only hide it.
    load_or_make(keyring)?;
    let next = versions(keyring)?.len() + 1;
    make(keyring, next)?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_tokens_stay_reversible() {
        let folder = tempfile::tempdir().unwrap();
        let keyring = folder.path().join("keyring");
        let first = load_or_make(&keyring).unwrap();
        assert_eq!((first.version(), load_or_make(&keyring).unwrap().version()), (1, 1));
        assert_eq!((rotate(&keyring).unwrap(), rotate(&keyring).unwrap()), (2, 3));
        assert_eq!(load_or_make(&keyring).unwrap().version(), 3);

        std::fs::remove_file(keyring.join("tokens-2.key")).unwrap();
        let error = load_or_make(&keyring).unwrap_err().to_string();
        assert!(error.contains("tokens-2.key` is missing"), "{error}");
        assert!(rotate(&keyring).is_err());
        std::fs::write(keyring.join("tokens-02.key"), "").unwrap();
        let error = load_or_make(&keyring).unwrap_err().to_string();
        assert!(error.contains("tokens-02.key` is no name"), "{error}");
    }
}
