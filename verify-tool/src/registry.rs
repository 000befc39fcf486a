//! Who is who and what is in force at one point of the ledger, as its administrative entries say up to there.

use countersign_ledger::evidence::jws::PublicKey;
use countersign_ledger::evidence::step::{Alg, IdentityRegistered};
use countersign_ledger::tlog::Hash;
use foldhash::HashMap;
use std::collections::{BTreeSet, VecDeque};

/// A registered identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The index of its registration.
    pub registered: u64,
    /// How it signs.
    pub alg: Alg,
    /// Its key's thumbprint.
    pub kid: String,
    /// Its key; `None` where the entry holds none that could be used.
    pub key: Option<PublicKey>,
    /// Whether its signature counts for changes.
    pub admin: bool,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its owner's pseudonym.
    pub owner: Option<String>,
    /// The pseudonym of the one it may act for.
    pub on_behalf_of: Option<String>,
    /// Until when its key counts, Unix seconds.
    pub not_after: u64,
    /// The index of its revocation.
    pub revoked: Option<u64>,
    /// Its name, where the record that resolves the pseudonym came with the export.
    pub name: Option<String>,
    /// The topic of its chunks, likewise.
    pub topic: Option<String>,
}

/// The versions of a text, as far as one of them may still be relied on.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Digest, and the `at` of the entry that put it in force, the newest first.
    versions: VecDeque<(Hash, u64)>,
}

/// How many versions are remembered. Only those count that were in force a minute ago.
const VERSIONS_KEPT: usize = 64;

impl InForce {
    /// A new version takes effect.
    pub fn change(&mut self, digest: Hash, at: u64) {
        self.versions.truncate(VERSIONS_KEPT);
        self.versions.push_front((digest, at));
    }

    /// The version in force now; 32 zero bytes where there is none yet.
    pub fn now(&self) -> Hash {
        self.versions.front().map_or(Hash::from_bytes([0; 32]), |(digest, _)| *digest)
    }

    /// Whether `digest` was in force at some time from `since` (an entry's `at`) until now.
    pub fn was(&self, digest: Hash, since: u64) -> bool {
        if digest == self.now() {
            return true;
        }
        // Each version ended when the one before it in this list began.
        let none = (Hash::from_bytes([0; 32]), 0);
        let older = self.versions.iter().skip(1).chain([&none]);
        self.versions.iter().zip(older).any(|((_, ended), (older, _))| *older == digest && *ended >= since)
    }
}

/// Everything that administrative entries put in force.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// How many admins must sign a change.
    pub quorum: u64,
    /// Identities by pseudonym.
    pub identities: HashMap<String, Identity>,
    /// The pseudonyms to which keys belong, by thumbprint.
    pub keys: HashMap<String, String>,
    /// The pseudonym that was last registered under each name that is known.
    names: HashMap<String, String>,
    /// Registered connections.
    pub connections: BTreeSet<String>,
    /// Policy.
    pub policy: InForce,
    /// Catalog.
    pub catalog: InForce,
}

impl Registry {
    /// An identity enters, with its name and the topic of its chunks where its record is there. In words, what is wrong with
    /// its key.
    pub fn register(
        &mut self,
        index: u64,
        s: &IdentityRegistered,
        record: Option<(String, String)>,
    ) -> Result<(), String> {
        let key = PublicKey::from_text(s.alg, &s.key);
        let mut wrong = Ok(());
        match &key {
            Err(e) => wrong = Err(e.to_string()),
            Ok(key) if key.thumbprint() != s.kid => wrong = Err(format!("a key with thumbprint {}", key.thumbprint())),
            Ok(_) => {}
        }
        if let Some(other) = self.keys.get(&s.kid) {
            wrong = Err(format!("the key of `{other}`"));
        } else {
            self.keys.insert(s.kid.clone(), s.identity.clone());
        }
        let (name, topic) = record.unzip();
        if let Some(name) = &name {
            self.names.insert(name.clone(), s.identity.clone());
        }
        let identity = Identity {
            registered: index,
            alg: s.alg,
            kid: s.kid.clone(),
            key: key.ok(),
            admin: s.admin,
            groups: s.groups.clone(),
            owner: s.owner.clone(),
            on_behalf_of: s.on_behalf_of.clone(),
            not_after: s.not_after.get(),
            revoked: None,
            name,
            topic,
        };
        self.identities.insert(s.identity.clone(), identity);
        wrong
    }

    /// Who bears a name and was not revoked, as far as names are known.
    pub fn bearer(&self, name: &str) -> Option<&str> {
        let pseudonym = self.names.get(name)?;
        self.identities.get(pseudonym).filter(|identity| identity.revoked.is_none()).map(|_| pseudonym.as_str())
    }

    /// Those who stand behind an identity: itself, its owner, the one it may act for; by pseudonym, and by name where that is
    /// known, since a new key brings a new pseudonym.
    pub fn behind(&self, pseudonym: &str) -> BTreeSet<String> {
        let identity = self.identities.get(pseudonym);
        let others = identity.into_iter().flat_map(|i| [&i.owner, &i.on_behalf_of]).flatten().map(String::as_str);
        let all: Vec<&str> = others.chain([pseudonym]).collect();
        // No name begins like that.
        let names = all.iter().filter_map(|pseudonym| self.name(pseudonym)).map(|name| format!("name {name}"));
        all.iter().map(|pseudonym| (*pseudonym).to_owned()).chain(names).collect()
    }

    /// The name behind a pseudonym, where it is known.
    pub fn name(&self, pseudonym: &str) -> Option<&str> {
        self.identities.get(pseudonym)?.name.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_counts_until_the_next_one() {
        let digest = |n| Hash::from_bytes([n; 32]);
        let mut texts = InForce::default();
        assert!(texts.was(digest(0), 0));
        assert!(!texts.was(digest(1), 0));
        texts.change(digest(1), 100);
        assert!(texts.was(digest(0), 100) && !texts.was(digest(0), 101));
        texts.change(digest(2), 200);
        texts.change(digest(3), 250);
        assert!(texts.was(digest(3), 1000));
        assert!(texts.was(digest(2), 250) && !texts.was(digest(2), 251));
        assert!(texts.was(digest(1), 200) && !texts.was(digest(1), 201));
        assert!(!texts.was(digest(0), 101) && !texts.was(digest(9), 0));
    }
}
