//! The state that the ledger's administrative entries add up to. It is read once at start, and every change that is appended
//! later makes a new snapshot; whoever works with one keeps it, so that a decision sees one consistent state.

use super::change::{ConnectionDocument, IdentityRecord};
use arc_swap::ArcSwap;
use countersign_ledger::evidence::jws::PublicKey;
use countersign_ledger::evidence::rules::Phase;
use countersign_ledger::evidence::step::Kind;
use countersign_ledger::evidence::{Commitment, Entry, Step, TraceId};
use countersign_ledger::store::{Ledger, StoreError};
use countersign_ledger::tlog::Hash;
use countersign_ledger::vault::VaultError;
use countersign_masker::Answers;
use countersign_masker::catalog::Catalog;
use countersign_masker::policy::{Policies, Subject};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A registered principal.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name: `iss` and `sub` of its tokens, and part of its topics' names. Never in an entry.
    pub name: String,
    /// The name that stands for it in entries.
    pub pseudonym: String,
    /// What it is.
    pub kind: Kind,
    /// Whether its signature counts for changes.
    pub admin: bool,
    /// Its groups, sorted.
    pub groups: Vec<String>,
    /// Its owner's pseudonym.
    pub owner: Option<String>,
    /// The pseudonym of the one it may act for.
    pub on_behalf_of: Option<String>,
    /// Its public key.
    pub key: PublicKey,
    /// The key's thumbprint.
    pub kid: String,
    /// Until when its key counts, Unix seconds.
    pub not_after: u64,
    /// The index of its registration.
    pub registered: u64,
    /// The head of its trace: the guard of everything that relies on it.
    pub head: Hash,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Where its chunks go.
    pub chunk_topic: String,
    /// Where its statuses go.
    pub status_topic: String,
}

impl Identity {
    /// Whether its key counts at `now`, Unix seconds.
    pub fn is_active(&self, now: u64) -> bool {
        !self.revoked && now < self.not_after
    }

    /// The trace that tells its story.
    pub fn trace(&self) -> TraceId {
        TraceId::identity(&self.pseudonym)
    }

    /// The condition under which an append that relies on this identity may stand.
    pub fn guard(&self) -> (TraceId, Option<Hash>) {
        (self.trace(), Some(self.head))
    }
}

/// A text in force, with its version.
#[derive(Clone)]
pub struct InForce<T> {
    /// 1, 2, 3 …
    pub version: u64,
    /// What it says.
    pub value: Arc<T>,
    /// SHA-256 of the text.
    pub digest: Hash,
}

/// Everything that administrative entries have put in force.
#[derive(Clone, Default)]
pub struct Registry {
    quorum: u64,
    by_pseudonym: HashMap<String, Arc<Identity>>,
    /// The identity that a key belongs to, revoked ones included, so that a revoked key is told from an unknown one.
    by_kid: HashMap<String, String>,
    /// The pseudonym that a name stands for now; a revoked identity keeps its name until another takes it.
    by_name: HashMap<String, String>,
    /// The policy.
    pub policy: Option<InForce<Policies>>,
    /// The catalog.
    pub catalog: Option<InForce<Catalog>>,
    /// What policies have answered, the doors' to ask again.
    pub answers: Arc<Answers>,
    /// The connections, by name.
    pub connections: BTreeMap<String, Arc<ConnectionDocument>>,
    /// The heads of the traces of policy, catalog and connections: what the next change must name.
    heads: HashMap<TraceId, Hash>,
}

/// The registry as all parts of the service share it.
pub type Shared = Arc<ArcSwap<Registry>>;

/// Where what entries commit to is read: the vault, or an export with payloads.
pub trait Payloads {
    /// The bytes behind a commitment; nothing where they are not there, or not any more.
    fn bytes(&self, commitment: &Commitment) -> Result<Option<Vec<u8>>, String>;
}

impl Payloads for Ledger {
    fn bytes(&self, commitment: &Commitment) -> Result<Option<Vec<u8>>, String> {
        match self.payload(commitment) {
            Ok(payload) => Ok(payload.map(|payload| payload.bytes)),
            Err(StoreError::Vault(VaultError::NoKey(_))) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// An administrative entry whose payload is missing or does not say what the entry says.
#[derive(Debug, thiserror::Error)]
#[error("entry {index}: {reason}")]
pub struct RegistryError {
    /// The entry.
    pub index: u64,
    /// What is wrong.
    pub reason: String,
}

impl Registry {
    /// Reads the state from the ledger.
    pub fn load(ledger: &Ledger) -> Result<Self, RegistryError> {
        let fail = |reason: String| RegistryError { index: 0, reason };
        let mut indices = Vec::new();
        ledger
            .traces(|_, head| {
                if matches!(head.state.phase, Phase::Standing | Phase::Revoked) {
                    indices.extend(head.entries.iter().copied());
                }
            })
            .map_err(|e| fail(e.to_string()))?;
        indices.sort_unstable();
        let mut registry = Self::default();
        for index in indices {
            let at = |reason: String| RegistryError { index, reason };
            let entry = ledger.entry(index).map_err(|e| at(e.to_string()))?.ok_or_else(|| at("missing".into()))?;
            registry.apply(ledger, index, &entry)?;
        }
        Ok(registry)
    }

    /// Takes in one more entry; entries that are not administrative change nothing.
    pub fn apply(&mut self, payloads: &dyn Payloads, index: u64, entry: &Entry) -> Result<(), RegistryError> {
        let fail = |reason: String| RegistryError { index, reason };
        let text = |c: &Commitment| {
            let bytes = payloads.bytes(c).map_err(fail)?;
            let bytes = bytes.ok_or_else(|| fail(format!("payload {c} is missing from the vault")))?;
            String::from_utf8(bytes).map_err(|_| fail(format!("payload {c} is not UTF-8")))
        };
        let head = entry.leaf().map_err(|e| fail(e.to_string()))?;
        match &entry.body {
            Step::LogCreated(s) => self.quorum = s.quorum.get(),
            Step::IdentityRegistered(s) => {
                let record: IdentityRecord =
                    serde_json::from_str(&text(&s.record)?).map_err(|e| fail(e.to_string()))?;
                let key = PublicKey::from_text(s.alg, &s.key).map_err(|e| fail(e.to_string()))?;
                let identity = Identity {
                    chunk_topic: record.chunk_topic(),
                    status_topic: record.status_topic(),
                    name: record.name,
                    pseudonym: s.identity.clone(),
                    kind: s.kind,
                    admin: s.admin,
                    groups: s.groups.clone(),
                    owner: s.owner.clone(),
                    on_behalf_of: s.on_behalf_of.clone(),
                    key,
                    kid: s.kid.clone(),
                    not_after: s.not_after.get(),
                    registered: index,
                    head,
                    revoked: false,
                };
                self.by_kid.insert(identity.kid.clone(), identity.pseudonym.clone());
                self.by_name.insert(identity.name.clone(), identity.pseudonym.clone());
                self.by_pseudonym.insert(identity.pseudonym.clone(), Arc::new(identity));
            }
            Step::IdentityRevoked(s) => self.change_identity(&s.identity, |i| {
                i.revoked = true;
                i.head = head;
            }),
            Step::GroupsChanged(s) => self.change_identity(&s.identity, |i| {
                i.groups.clone_from(&s.groups);
                i.head = head;
            }),
            Step::PolicyChanged(s) => {
                let name = format!("policy v{}", s.version);
                let value = Policies::parse(&name, &text(&s.document)?).map_err(|e| fail(e.to_string()))?;
                self.policy = Some(InForce { version: s.version.get(), value: Arc::new(value), digest: s.digest });
            }
            Step::CatalogChanged(s) => {
                let name = format!("catalog v{}", s.version);
                let value = Catalog::parse(&name, &text(&s.document)?).map_err(|e| fail(e.to_string()))?;
                self.catalog = Some(InForce { version: s.version.get(), value: Arc::new(value), digest: s.digest });
            }
            Step::ConnectionChanged(s) => {
                let document: ConnectionDocument =
                    serde_json::from_str(&text(&s.document)?).map_err(|e| fail(e.to_string()))?;
                self.connections.insert(s.connection.clone(), Arc::new(document));
            }
            _ => return Ok(()),
        }
        self.heads.insert(entry.trace, head);
        Ok(())
    }

    fn change_identity(&mut self, pseudonym: &str, change: impl FnOnce(&mut Identity)) {
        if let Some(identity) = self.by_pseudonym.get_mut(pseudonym) {
            change(Arc::make_mut(identity));
        }
    }

    /// The digests of policy and catalog in force, zeros where there is none.
    pub fn digests(&self) -> (Hash, Hash) {
        let none = Hash::from_bytes([0; 32]);
        (self.policy.as_ref().map_or(none, |p| p.digest), self.catalog.as_ref().map_or(none, |c| c.digest))
    }

    fn rules_guards(&self) -> [(TraceId, Option<Hash>); 2] {
        [TraceId::policy(), TraceId::catalog()].map(|trace| (trace, self.head(trace)))
    }

    /// Those on whose registrations the answer to somebody rests: its own, and that of the one for whom it says to act.
    pub fn relied_on<'a>(
        &'a self,
        identity: &'a Identity,
        on_behalf_of: Option<&str>,
    ) -> impl Iterator<Item = &'a Identity> {
        let principal = on_behalf_of.and(identity.on_behalf_of.as_deref());
        std::iter::once(identity).chain(principal.and_then(|pseudonym| self.by_pseudonym(pseudonym)).map(|i| &**i))
    }

    /// The conditions under which an append that rests on an answer of policy may stand: those registrations, policy and catalog
    /// are still what they were when it was given.
    pub fn guards(&self, identity: &Identity, on_behalf_of: Option<&str>) -> Vec<(TraceId, Option<Hash>)> {
        self.relied_on(identity, on_behalf_of).map(Identity::guard).chain(self.rules_guards()).collect()
    }

    /// Somebody as policies see him; nobody where he says to act for one that he may not act for.
    pub fn subject(&self, identity: &Identity, on_behalf_of: Option<&str>, door: &str, now: u64) -> Option<Subject> {
        if let Some(name) = on_behalf_of {
            // An agent acts for the one it is registered for, or for nobody.
            let principal = self.by_name(name).filter(|i| i.is_active(now))?;
            identity.on_behalf_of.as_ref().filter(|pseudonym| **pseudonym == principal.pseudonym)?;
        }
        Some(Subject {
            id: identity.name.clone(),
            groups: identity.groups.clone(),
            on_behalf_of: on_behalf_of.map(str::to_owned),
            door: door.into(),
            time: now,
        })
    }

    /// How many admins must sign a change.
    pub fn quorum(&self) -> u64 {
        self.quorum
    }

    /// The identity that holds the key with this thumbprint, revoked ones included.
    pub fn by_kid(&self, kid: &str) -> Option<&Arc<Identity>> {
        self.by_pseudonym.get(self.by_kid.get(kid)?)
    }

    /// The identity of that name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Identity>> {
        self.by_pseudonym.get(self.by_name.get(name)?)
    }

    /// The identity behind a pseudonym.
    pub fn by_pseudonym(&self, pseudonym: &str) -> Option<&Arc<Identity>> {
        self.by_pseudonym.get(pseudonym)
    }

    /// All identities.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.by_pseudonym.values()
    }

    /// The head of an administrative trace, `None` where there is none yet.
    pub fn head(&self, trace: TraceId) -> Option<Hash> {
        self.heads.get(&trace).copied()
    }
}
