//! Administrative changes: the document that is signed, the signatures, and the entry that they become.
//!
//! A change document is JSON that names the ledger (`origin`) and the head of the trace that it extends (`after`, absent for
//! the first entry of a trace). The second is what makes a signed change good for one use: once it, or another, has been
//! appended, the head has moved and the ledger refuses it. Each admin signs a JWT over the document's SHA-256.

use super::claims::{self, AdminClaims, PossessionClaims};
use super::key::PrivateKey;
use super::registry::{Identity, Registry, Shared};
use crate::config::CredentialRef;
use countersign_ledger::evidence::digest::sha256;
use countersign_ledger::evidence::jws::{self, PublicKey, Unverified};
use countersign_ledger::evidence::step::{
    Alg, CatalogChanged, ConnectionChanged, GroupsChanged, IdentityRegistered, IdentityRevoked, Int, Kind,
    PolicyChanged, Revocation, Signed, SignedBy,
};
use countersign_ledger::evidence::{Class, Reason, Step, TraceId};
use countersign_ledger::store::{Append, AppendError, Ledger, Payload};
use countersign_ledger::tlog::Hash;
use countersign_masker::catalog::Catalog;
use countersign_masker::policy::Policies;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What admins sign.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The ledger that it is for.
    pub origin: String,
    /// The head of the trace that it extends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Hash>,
    /// What changes.
    pub change: Operation,
}

/// The kinds of change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// A principal enters.
    RegisterIdentity(IdentityRecord),
    /// A principal's key counts no longer.
    RevokeIdentity {
        /// Its name.
        name: String,
        /// Why.
        reason: Revocation,
    },
    /// A principal's groups become these.
    SetGroups {
        /// Its name.
        name: String,
        /// All its groups.
        groups: Vec<String>,
    },
    /// A new policy.
    SetPolicy {
        /// The Cedar text.
        text: String,
    },
    /// A new catalog.
    SetCatalog {
        /// The TOML text.
        text: String,
    },
    /// A connection is registered or described anew.
    SetConnection(ConnectionDocument),
}

/// Who stands behind a pseudonym: the record that `identity.registered` commits to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRecord {
    /// Its name: `[a-z0-9]`, `-` and `_`, up to 64 characters, so that it can stand in a topic's name.
    pub name: String,
    /// The pseudonym that stands for it in entries, chosen at random.
    pub pseudonym: String,
    /// What it is.
    pub kind: Kind,
    /// Whether its signature counts for changes.
    pub admin: bool,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its owner's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The name of the one it may act for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// How it signs.
    pub alg: Alg,
    /// Its public key, as in `identity.registered`.
    pub key: String,
    /// Until when its key counts, Unix seconds.
    pub not_after: u64,
    /// Where its chunks go; `chunk.masked.<name>` unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The JWS by which the key's owner proves to hold it.
    pub possession: String,
}

impl IdentityRecord {
    /// The topic of its chunks.
    pub fn chunk_topic(&self) -> String {
        self.destination.clone().unwrap_or_else(|| format!("chunk.masked.{}", self.name))
    }

    /// The topic of its statuses.
    pub fn status_topic(&self) -> String {
        format!("chunk.status.{}", self.name)
    }
}

/// A registered store. The credential is not part of it, only where the service finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionDocument {
    /// Its name: `[a-z0-9]`, `-` and `_`; no dot, since `name.table` is split at the first.
    pub name: String,
    /// What it is.
    pub store: StoreDocument,
}

/// The kinds of store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum StoreDocument {
    /// A PostgreSQL database, by a URL that the service reads from a file or variable.
    Postgres {
        /// Where the URL is found.
        url: CredentialRef,
    },
    /// A folder of Parquet and CSV files.
    Folder {
        /// Its path on the service's machine.
        path: PathBuf,
    },
}

impl StoreDocument {
    /// The word in `connection.changed`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Postgres { .. } => "postgres",
            Self::Folder { .. } => "folder",
        }
    }
}

/// A change with its signatures, as it is handed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The change document's exact text.
    pub change: String,
    /// One compact JWS per admin.
    pub signatures: Vec<String>,
}

/// Why a change is refused. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Not a change document.
    #[error("not a change document: {0}")]
    Document(String),
    /// For another ledger.
    #[error("the change is for `{found}`, this ledger is `{required}`")]
    Origin {
        /// The origin that it names.
        found: String,
        /// The origin here.
        required: String,
    },
    /// A signature that does not count.
    #[error("signature {at} does not count: {reason}")]
    Signature {
        /// Its position, from 1.
        at: usize,
        /// Why not.
        reason: Reason,
    },
    /// Too few admins.
    #[error("signed by {found} admins, required {required}")]
    Quorum {
        /// How many signed.
        found: usize,
        /// How many must.
        required: u64,
    },
    /// The change itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Something else has changed the same thing since the document was made.
    #[error("the change was made for another state: something has changed since; make and sign it anew")]
    Stale,
    /// The ledger did not take it.
    #[error(transparent)]
    Ledger(#[from] AppendError),
    /// No random numbers from the system.
    #[error("no random numbers from the system: {0}")]
    Random(#[from] getrandom::Error),
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, ChangeError> {
    Err(ChangeError::Invalid(reason.into()))
}

impl Submission {
    /// A change signed by one admin; others may add their signatures.
    pub fn new(change: &Change, admin: &str, key: &PrivateKey, now: u64) -> Result<Self, ChangeError> {
        let text = serde_json::to_string(change).map_err(|e| ChangeError::Document(e.to_string()))?;
        let mut submission = Self { change: text, signatures: Vec::new() };
        submission.sign(admin, key, now)?;
        Ok(submission)
    }

    /// Adds an admin's signature.
    pub fn sign(&mut self, admin: &str, key: &PrivateKey, now: u64) -> Result<(), ChangeError> {
        let document: Change = serde_json::from_str(&self.change).map_err(|e| ChangeError::Document(e.to_string()))?;
        let claims = AdminClaims {
            iss: admin.into(),
            sub: admin.into(),
            aud: format!("{}/admin", document.origin),
            iat: now,
            exp: now + 3600,
            jti: claims::new_jti()?,
            change: sha256(self.change.as_bytes()),
        };
        let token = key.sign(jws::TYP_ADMIN, &claims).map_err(|e| ChangeError::Document(e.to_string()))?;
        self.signatures.push(token);
        Ok(())
    }
}

/// The proof that `key`'s owner holds it, for the registration of `name`.
pub fn prove_possession(origin: &str, name: &str, key: &PrivateKey, now: u64) -> Result<String, ChangeError> {
    let claims = PossessionClaims {
        iss: name.into(),
        sub: name.into(),
        aud: format!("{origin}/admin"),
        iat: now,
        exp: now + 86_400,
        jti: claims::new_jti()?,
        kid: key.kid().into(),
    };
    key.sign(jws::TYP_POSSESSION, &claims).map_err(|e| ChangeError::Document(e.to_string()))
}

/// A pseudonym nobody has: `id-` and 64 random bits.
pub fn new_pseudonym() -> Result<String, ChangeError> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes)?;
    Ok(format!("id-{:016x}", u64::from_be_bytes(bytes)))
}

type Signers<'a> = Vec<(Arc<Identity>, &'a str)>;

/// What a submission asks for, and the admins who signed it, who are enough.
pub fn authentic<'a>(
    registry: &Registry,
    origin: &str,
    submission: &'a Submission,
    now: u64,
) -> Result<(Change, Signers<'a>), ChangeError> {
    let change: Change = serde_json::from_str(&submission.change).map_err(|e| ChangeError::Document(e.to_string()))?;
    if change.origin != origin {
        return Err(ChangeError::Origin { found: change.origin, required: origin.into() });
    }
    let admins = verify_signatures(registry, &change.origin, submission, now)?;
    Ok((change, admins))
}

/// Checks a submission against the registry, appends it, and puts it in force. Gives the index of its entry.
pub fn apply(ledger: &Ledger, shared: &Shared, submission: &Submission, now: u64) -> Result<u64, ChangeError> {
    let registry = shared.load_full();
    let (change, admins) = authentic(&registry, ledger.origin(), submission, now)?;
    let document = Payload::new(Class::Admin, submission.change.as_bytes());
    let change_commitment = document.commitment();
    let mut payloads = vec![document];
    let mut by = Vec::new();
    for (admin, token) in &admins {
        let payload = Payload::new(Class::Admin, token.as_bytes());
        let signature = payload.commitment();
        by.push(SignedBy { admin: admin.pseudonym.clone(), kid: admin.kid.clone(), signature });
        payloads.push(payload);
    }
    let signed = Signed { change: change_commitment, by };
    if let Operation::RegisterIdentity(record) = &change.change {
        check_possession(record, &change.origin, now)?;
    }
    let (trace, step, more) = to_step(&registry, &change.change, Some(signed), now)?;
    payloads.extend(more);
    if registry.head(trace) != change.after {
        return Err(ChangeError::Stale);
    }
    let guards = admins.iter().map(|(admin, _)| admin.guard()).collect();
    let append = Append { expected_head: change.after, payloads, guards, ..Append::opening(trace, vec![step]) };
    let appended = match ledger.append(append) {
        Ok(appended) => appended,
        Err(AppendError::HeadMoved { .. } | AppendError::GuardMoved { .. }) => return Err(ChangeError::Stale),
        Err(error) => return Err(error.into()),
    };
    let Some(durable) = appended.entries.last() else { return invalid("the ledger acknowledged nothing") };
    put_in_force(ledger, shared, durable.index().get(), durable.entry())?;
    Ok(durable.index().get())
}

/// Makes a new snapshot with one more entry in it.
fn put_in_force(
    ledger: &Ledger,
    shared: &Shared,
    index: u64,
    entry: &countersign_ledger::evidence::Entry,
) -> Result<(), ChangeError> {
    let mut failed = None;
    shared.rcu(|registry| {
        let mut next = Registry::clone(registry);
        failed = next.apply(ledger, index, entry).err();
        next
    });
    failed.map_or(Ok(()), |error| Err(ChangeError::Invalid(error.to_string())))
}

fn verify_signatures<'a>(
    registry: &Registry,
    origin: &str,
    submission: &'a Submission,
    now: u64,
) -> Result<Signers<'a>, ChangeError> {
    let digest = sha256(submission.change.as_bytes());
    let mut admins: Vec<(Arc<Identity>, &str)> = Vec::new();
    for (i, token) in submission.signatures.iter().enumerate() {
        let refuse = |reason| ChangeError::Signature { at: i + 1, reason };
        let unverified = Unverified::parse(token.as_bytes()).map_err(refuse)?;
        let identity = registry.by_kid(&unverified.header.kid).ok_or_else(|| refuse(Reason::UnknownKey))?.clone();
        claims::expect_typ::<AdminClaims>(&unverified).map_err(refuse)?;
        let verified = unverified.verify(&identity.key).map_err(refuse)?;
        let claims: AdminClaims = verified.claims().map_err(refuse)?;
        claims::expect_names(&claims, origin, &identity.name).map_err(refuse)?;
        claims::expect_time(&claims, now).map_err(refuse)?;
        if !identity.is_active(now) {
            return Err(refuse(Reason::RevokedKey));
        }
        if !identity.admin {
            return Err(refuse(Reason::Forbidden));
        }
        if claims.change != digest {
            return Err(refuse(Reason::DigestMismatch));
        }
        if !admins.iter().any(|(a, _)| a.pseudonym == identity.pseudonym) {
            admins.push((identity, token));
        }
    }
    if (admins.len() as u64) < registry.quorum().max(1) {
        return Err(ChangeError::Quorum { found: admins.len(), required: registry.quorum().max(1) });
    }
    admins.sort_by(|(a, _), (b, _)| a.pseudonym.cmp(&b.pseudonym));
    Ok(admins)
}

/// The first admins' registrations, which enter with the log itself and are signed by nobody.
pub fn first_admins(origin: &str, records: Vec<IdentityRecord>, now: u64) -> Result<Vec<Append>, ChangeError> {
    let registry = Registry::default();
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    let mut appends = Vec::with_capacity(records.len());
    for record in records {
        check_possession(&record, origin, now)?;
        // The registry that would notice is still empty.
        if !names.insert(record.name.clone()) || !keys.insert(record.key.clone()) {
            return invalid(format!("first admin `{}` has the name or the key of another", record.name));
        }
        let change = Operation::RegisterIdentity(IdentityRecord { admin: true, ..record });
        let (trace, step, payloads) = to_step(&registry, &change, None, now)?;
        appends.push(Append { payloads, ..Append::opening(trace, vec![step]) });
    }
    Ok(appends)
}

fn check_possession(record: &IdentityRecord, origin: &str, now: u64) -> Result<PublicKey, ChangeError> {
    let key = PublicKey::from_text(record.alg, &record.key).map_err(|e| ChangeError::Invalid(e.to_string()))?;
    let refuse = |reason: Reason| ChangeError::Invalid(format!("the proof of possession does not count: {reason}"));
    let unverified = Unverified::parse(record.possession.as_bytes()).map_err(refuse)?;
    claims::expect_typ::<PossessionClaims>(&unverified).map_err(refuse)?;
    let claims: PossessionClaims = unverified.verify(&key).map_err(refuse)?.claims().map_err(refuse)?;
    claims::expect_names(&claims, origin, &record.name).map_err(refuse)?;
    claims::expect_time(&claims, now).map_err(refuse)?;
    if claims.kid != key.thumbprint() {
        return Err(refuse(Reason::DigestMismatch));
    }
    Ok(key)
}

fn is_name(name: &str, max: usize) -> bool {
    !name.is_empty()
        && name.len() <= max
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn sorted_groups(groups: &[String]) -> Result<Vec<String>, ChangeError> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    if let Some(bad) = groups.iter().find(|g| !is_name(g, 64)) {
        return invalid(format!("group `{bad}`: use lower-case letters, digits, `-` and `_`, at most 64"));
    }
    Ok(groups)
}

type StepWithPayloads = (TraceId, Step, Vec<Payload>);

fn to_step(
    registry: &Registry,
    operation: &Operation,
    signed: Option<Signed>,
    now: u64,
) -> Result<StepWithPayloads, ChangeError> {
    if let Operation::RegisterIdentity(record) = operation {
        return register(registry, record, signed, now);
    }
    let Some(signed) = signed else { return invalid("only the first admins enter without a signature") };
    Ok(match operation {
        Operation::RegisterIdentity(_) => return invalid("handled above"),
        Operation::RevokeIdentity { name, reason } => {
            let identity = existing(registry, name)?;
            let admins = registry.identities().filter(|i| i.admin && i.is_active(now)).count() as u64;
            if identity.admin && admins <= registry.quorum().max(1) {
                return invalid(format!(
                    "`{name}` cannot be revoked: {admins} admins are left, {} must be able to sign",
                    registry.quorum().max(1)
                ));
            }
            let step = IdentityRevoked { identity: identity.pseudonym.clone(), reason: *reason, signed };
            (identity.trace(), step.into(), Vec::new())
        }
        Operation::SetGroups { name, groups } => {
            let identity = existing(registry, name)?;
            let groups = sorted_groups(groups)?;
            (
                identity.trace(),
                GroupsChanged { identity: identity.pseudonym.clone(), groups, signed }.into(),
                Vec::new(),
            )
        }
        Operation::SetPolicy { text } => {
            let policies = Policies::parse("policy", text).map_err(|e| ChangeError::Invalid(e.to_string()))?;
            let payload = Payload::new(Class::Config, text.as_bytes());
            let step = PolicyChanged {
                version: Int::saturating(registry.policy.as_ref().map_or(0, |p| p.version) + 1),
                digest: Hash::from_bytes(policies.digest()),
                document: payload.commitment(),
                signed,
            };
            (TraceId::policy(), step.into(), vec![payload])
        }
        Operation::SetCatalog { text } => {
            let catalog = Catalog::parse("catalog", text).map_err(|e| ChangeError::Invalid(e.to_string()))?;
            let payload = Payload::new(Class::Config, text.as_bytes());
            let step = CatalogChanged {
                version: Int::saturating(registry.catalog.as_ref().map_or(0, |c| c.version) + 1),
                digest: Hash::from_bytes(catalog.digest()),
                document: payload.commitment(),
                signed,
            };
            (TraceId::catalog(), step.into(), vec![payload])
        }
        Operation::SetConnection(document) => {
            if !is_name(&document.name, 64) {
                return invalid(format!(
                    "connection `{}`: use lower-case letters, digits, `-` and `_`, at most 64",
                    document.name
                ));
            }
            let bytes = serde_json::to_vec(document).map_err(|e| ChangeError::Document(e.to_string()))?;
            let payload = Payload::new(Class::Config, bytes);
            let step = ConnectionChanged {
                connection: document.name.clone(),
                kind: document.store.kind().into(),
                document: payload.commitment(),
                signed,
            };
            (TraceId::connection(&document.name), step.into(), vec![payload])
        }
    })
}

fn existing<'a>(registry: &'a Registry, name: &str) -> Result<&'a Arc<Identity>, ChangeError> {
    match registry.by_name(name) {
        Some(identity) if !identity.revoked => Ok(identity),
        Some(_) => invalid(format!("`{name}` is revoked")),
        None => invalid(format!("no identity `{name}`")),
    }
}

fn register(
    registry: &Registry,
    record: &IdentityRecord,
    signed: Option<Signed>,
    now: u64,
) -> Result<StepWithPayloads, ChangeError> {
    if !is_name(&record.name, 64) {
        return invalid(format!("identity `{}`: use lower-case letters, digits, `-` and `_`, at most 64", record.name));
    }
    let hex = record.pseudonym.strip_prefix("id-").unwrap_or_default();
    if hex.len() != 16 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return invalid(format!("pseudonym `{}`: not `id-` and 16 hex digits", record.pseudonym));
    }
    if registry.by_name(&record.name).is_some_and(|i| !i.revoked) {
        return invalid(format!("`{}` is registered already: revoke it first", record.name));
    }
    if record.not_after <= now {
        return invalid("`not_after` has passed");
    }
    if record.kind == Kind::Agent && record.owner.is_none() {
        return invalid("an agent needs an owner");
    }
    let key = PublicKey::from_text(record.alg, &record.key).map_err(|e| ChangeError::Invalid(e.to_string()))?;
    let kid = key.thumbprint();
    if registry.by_kid(&kid).is_some() {
        return invalid("the key is, or was, registered for another identity");
    }
    // Two identities never share a destination: what the one may see the other need not.
    let topic = record.chunk_topic();
    let is_topic = |t: &str| t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let reserved = record.destination.as_deref().is_some_and(|d| d.starts_with("chunk."));
    let dots = topic.bytes().all(|b| b == b'.');
    if topic.is_empty() || topic.len() > 200 || !is_topic(&topic) || dots || reserved {
        return invalid(format!("destination `{topic}`: not a topic name, or one that begins with `chunk.`"));
    }
    if registry.identities().any(|i| i.chunk_topic == topic && i.name != record.name) {
        return invalid(format!("destination `{topic}` belongs to another identity"));
    }
    let pseudonym_of = |name: &Option<String>| match name {
        Some(name) => existing(registry, name).map(|i| Some(i.pseudonym.clone())),
        None => Ok(None),
    };
    let bytes = serde_json::to_vec(record).map_err(|e| ChangeError::Document(e.to_string()))?;
    let record_payload = Payload::new(Class::Identity, bytes);
    let possession = Payload::new(Class::Identity, record.possession.as_bytes());
    let step = IdentityRegistered {
        identity: record.pseudonym.clone(),
        kind: record.kind,
        admin: record.admin,
        groups: sorted_groups(&record.groups)?,
        owner: pseudonym_of(&record.owner)?,
        on_behalf_of: pseudonym_of(&record.on_behalf_of)?,
        alg: record.alg,
        key: record.key.clone(),
        kid,
        not_after: Int::try_from(record.not_after).map_err(ChangeError::Invalid)?,
        possession: possession.commitment(),
        record: record_payload.commitment(),
        signed,
    };
    Ok((TraceId::identity(&record.pseudonym), step.into(), vec![record_payload, possession]))
}
