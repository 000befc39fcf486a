//! What can happen: one struct per entry type, with its fields in the order in which they are written. `docs/formats.md`
//! describes the same types for readers who do not read Rust; a change here is a change of the ledger's format.
//!
//! No field holds personal data or anything a stranger wrote: identities are pseudonyms, names come from the catalog, the
//! policy or a source's schema, everything else is a number, a word of a closed list, or a commitment.

use super::{
    canonical::{Canonical, Reader},
    commitment::{Class, Commitment},
    day::Day,
    digest::TraceId,
};
use crate::tlog::Hash;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An integer of an entry: 0 to 2⁵³−1, which every JSON reader holds exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct Int(u64);

impl Int {
    /// The largest value, 2⁵³−1.
    pub const MAX: Self = Self((1 << 53) - 1);
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// One.
    pub const ONE: Self = Self(1);

    /// `n`, or the maximum where it is larger: for counts and sizes, which stay far below it.
    pub const fn saturating(n: u64) -> Self {
        if n > Self::MAX.0 { Self::MAX } else { Self(n) }
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next value.
    pub const fn next(self) -> Self {
        Self::saturating(self.0 + 1)
    }
}

impl TryFrom<u64> for Int {
    type Error = String;
    fn try_from(n: u64) -> Result<Self, String> {
        if n > Self::MAX.0 { Err(format!("found {n}, at most {} allowed", Self::MAX.0)) } else { Ok(Self(n)) }
    }
}

impl Canonical for Int {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.number()?.try_into().ok()
    }
}

impl fmt::Display for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text of an entry that many entries have. Up to 24 bytes, which nearly all keep to, it takes no memory of its own: a ledger
/// is read a million entries at a time.
pub type Text = compact_str::CompactString;

/// Declares a closed list of words that stand in entries.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Every word of the list, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word as it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value of that word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Canonical for $name {
            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                reader.string().and_then(Self::from_word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// Declares a struct of an entry: its members in the order in which they are written.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident $(($constant:ident = $value:literal))? { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$fdoc])* pub $field: $ty,)* }

        impl Canonical for $name {
            $(const $constant: bool = $value;)?

            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                reader.open()?;
                $(let $field = <$ty as Canonical>::member(reader, concat!("\"", stringify!($field), "\":"))?;)*
                reader.close()?;
                Some(Self { $($field,)* })
            }
        }
    };
}

words! {
    /// What an identity is.
    Kind {
        /// A service account.
        Service = "service",
        /// A workload: a job, a pod, a pipeline.
        Workload = "workload",
        /// An AI agent, which has an owner and may act on behalf of another identity.
        Agent = "agent",
        /// A person.
        Human = "human",
    }
}

words! {
    /// How an identity signs (RFC 8037, RFC 7518).
    Alg {
        /// Ed25519.
        EdDsa = "EdDSA",
        /// ECDSA over P-256 with SHA-256.
        Es256 = "ES256",
    }
}

words! {
    /// Whether the evidence holds the caller's own signature.
    Attest {
        /// The request is a JWS by the caller's registered key.
        CallerSigned = "caller-signed",
        /// The service vouches for a bearer token that it saw.
        ServiceAttested = "service-attested",
    }
}

words! {
    /// What policy answered.
    Verdict {
        /// Permitted, with an obligation per column.
        Permit = "permit",
        /// Refused.
        Deny = "deny",
        /// Permitted once every named group has approved.
        NeedsApproval = "needs_approval",
    }
}

words! {
    /// Why an identity was revoked.
    Revocation {
        /// The key is, or may be, in other hands.
        KeyCompromised = "key_compromised",
        /// A new registration takes its place.
        Superseded = "superseded",
        /// The machine or person is no longer there.
        Left = "left",
        /// Any other administrative reason.
        Administrative = "administrative",
    }
}

words! {
    /// Why something was rejected, denied, aborted or failed. The words are stable: callers, entries and metrics carry them.
    /// `docs/reason-codes.md` says what each means for the caller.
    Reason {
        // Rejected: nobody was identified, the record leaves its coordinates only.
        /// Not a compact JWS with the header and claims of a request.
        Malformed = "malformed",
        /// Larger than any request can be.
        TooLarge = "too_large",
        /// A header member that is not allowed (`crit`, `jwk`, `jku`, `x5*`, unknown or twice).
        BadHeader = "bad_header",
        /// `alg` is not the one registered for the key.
        BadAlgorithm = "bad_algorithm",
        /// `typ` is not the one this topic takes.
        BadType = "bad_type",
        /// No registered key has this `kid`.
        UnknownKey = "unknown_key",
        /// The key was revoked, or its registration has ended.
        RevokedKey = "revoked_key",
        /// The signature does not verify.
        BadSignature = "bad_signature",
        /// `aud` names another ledger or door.
        BadAudience = "bad_audience",
        /// `iss` and `sub` are not both the identity that the key is registered for.
        IssuerMismatch = "issuer_mismatch",
        /// The `jti` was used before with another body.
        JtiReused = "jti_reused",
        /// The `jti` holds less than 128 bits.
        WeakJti = "weak_jti",

        // Denied: the caller is known, and gets a status.
        /// `exp` has passed.
        Expired = "expired",
        /// `nbf` or `iat` lies in the future.
        NotYetValid = "not_yet_valid",
        /// `exp` is more than an hour after `iat`.
        LifetimeTooLong = "lifetime_too_long",
        /// A claim is missing, unknown, twice, or of the wrong form.
        BadClaims = "bad_claims",
        /// No policy permits it, or there is no such data set, table or column: the same answer.
        Forbidden = "forbidden",
        /// A policy failed while it was evaluated, which denies.
        PolicyError = "policy_error",
        /// A mask does not fit what it would mask, or a path of the catalog leads to nothing.
        MaskType = "mask_type",
        /// The purpose is not on the catalog's list.
        BadPurpose = "bad_purpose",
        /// The filter does not parse.
        FilterSyntax = "filter_syntax",
        /// A literal in the filter or range does not fit its column's type.
        FilterType = "filter_type",
        /// A filter, range or order on a column that the caller may not read clear.
        FilterNotAllowed = "filter_not_allowed",
        /// More rows asked for than policy or catalog allow.
        LimitExceeded = "limit_exceeded",
        /// The format is not one of those delivered.
        BadFormat = "bad_format",
        /// The identity has no place in Kafka to deliver to.
        NoDestination = "no_destination",
        /// The same request was received before; its status follows, its data does not.
        Repeated = "repeated",

        // Approvals.
        /// An approver said no.
        ApprovalDenied = "approval_denied",
        /// Nobody answered in time, or the answer's time is over.
        ApprovalExpired = "approval_expired",
        /// The approval was revoked before delivery.
        ApprovalRevoked = "approval_revoked",
        /// The approver is the requester, its owner, or the one it acts for.
        SelfApproval = "self_approval",
        /// The approver is not in the group that was asked, or policy does not let it approve.
        NotAnApprover = "not_an_approver",
        /// The approval is for another request digest or other obligations.
        DigestMismatch = "digest_mismatch",
        /// The approval is for a request that is not waiting.
        NotWaiting = "not_waiting",

        // Failed or aborted: permitted, and then it did not work out.
        /// The identity was revoked or changed while the request was under way.
        IdentityChanged = "identity_changed",
        /// The source cannot be reached or went away.
        SourceUnavailable = "source_unavailable",
        /// The source took too long.
        SourceTimeout = "source_timeout",
        /// The source refused or broke off the query.
        SourceFailed = "source_failed",
        /// The source's bytes are not what its format promises.
        MalformedSource = "malformed_source",
        /// The source's columns are no longer those that were decided on.
        SchemaChanged = "schema_changed",
        /// A requested column has a type that cannot be delivered.
        UnsupportedType = "unsupported_type",
        /// More rows than allowed.
        TooManyRows = "too_many_rows",
        /// More bytes than allowed.
        TooManyBytes = "too_many_bytes",
        /// One row does not fit into a record.
        RowTooLarge = "row_too_large",
        /// The masker could not rebuild the chunk.
        MaskFailed = "mask_failed",
        /// The status partition holds no record of this attempt; a new attempt follows.
        NotDelivered = "not_delivered",
        /// Kafka did not take the chunk.
        DeliveryFailed = "delivery_failed",
        /// Tried too often.
        TooManyAttempts = "too_many_attempts",
        /// A fault of the service; operators find the detail in the vault.
        Internal = "internal",
    }
}

words! {
    /// Why payloads were read.
    ReadFor {
        /// For a person who is asked to approve a request.
        Approval = "approval",
        /// For an audit of decisions, by the policy and catalog texts that they rest on.
        Audit = "audit",
        /// For operators who look for a fault.
        Fault = "fault",
    }
}

record! {
    /// The ledger that another one carries on: what its last checkpoint said.
    Continues {
        /// Its origin.
        origin: String,
        /// The verifier key that signed that checkpoint.
        key: String,
        /// Its size.
        size: Int,
        /// Its root.
        root: Hash,
    }
}

record! {
    /// An administrative change that admins signed: the change document and one signature per admin.
    Signed {
        /// Commitment to the change document (class `admin`).
        change: Commitment,
        /// The signatures, in the order of the admins' pseudonyms.
        by: Vec<SignedBy>,
    }
}

record! {
    /// One admin's signature on a change.
    SignedBy {
        /// The admin's pseudonym.
        admin: String,
        /// The RFC 7638 thumbprint of the key that signed.
        kid: String,
        /// Commitment to the compact JWS (class `admin`).
        signature: Commitment,
    }
}

record! {
    /// What one column of a decision may show.
    DecidedColumn {
        /// The column's name.
        column: Text,
        /// Its class in the catalog; `unclassified` where it has none.
        class: Text,
        /// `clear`, or the mask.
        rule: Text,
        /// What may be shown of what is inside of it, where that is decided for itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        paths: Vec<DecidedPath>,
    }
}

record! {
    /// What a part of a column may show.
    DecidedPath (LEFT_OUT = true) {
        /// Where it is, as the catalog writes it.
        path: Text,
        /// Its class in the catalog.
        class: Text,
        /// `clear`, or the mask.
        rule: Text,
    }
}

record! {
    /// What the masker did to one column.
    MaskedColumn {
        /// The column's name.
        column: Text,
        /// Its class in the catalog.
        class: Text,
        /// The rule of the obligation: `clear`, or the mask.
        rule: Text,
        /// The transform that ran, which is stronger than the rule where the rule does not fit the column's type.
        transform: Text,
        /// Cells seen.
        seen: Int,
        /// Cells whose value was replaced.
        changed: Int,
        /// What the detectors found, where the transform is `detect`: one entry a class, in the order of their names.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hits: Vec<ClassHits>,
        /// What it did to what is inside, for each path of the decision.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        paths: Vec<MaskedPath>,
    }
}

record! {
    /// How often the detectors found a class in a column.
    ClassHits (LEFT_OUT = true) {
        /// The class, such as `fin.card`.
        class: Text,
        /// Hits, one at least.
        count: Int,
    }
}

record! {
    /// What the masker did to a part of one column.
    MaskedPath (LEFT_OUT = true) {
        /// Where it is, as the catalog writes it.
        path: Text,
        /// Its class in the catalog.
        class: Text,
        /// The rule of the obligation: `clear`, or the mask.
        rule: Text,
        /// Values that the path addressed.
        seen: Int,
        /// Those of them that were replaced.
        changed: Int,
        /// What the detectors found, where the rule is `detect`, as in a column's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hits: Vec<ClassHits>,
    }
}

/// Declares the entry types: struct, wire name, and the enum that holds them all.
macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $word:literal { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* })+) => {
        $(
            record! { $(#[$doc])* $name { $($(#[$fdoc])* $field: $ty,)* } }

            impl From<$name> for Step {
                fn from(body: $name) -> Self {
                    Self::$name(body)
                }
            }
        )+

        /// One event of a trace, of any type.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Step { $($(#[$doc])* $name($name),)+ }

        impl Step {
            /// The wire names of all entry types of version 1.
            pub const TYPES: &'static [&'static str] = &[$($word,)+];

            /// The wire name of this step's type.
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => $word,)+ }
            }

            /// The body as canonical JSON.
            pub(crate) fn encode_body(&self) -> serde_json::Result<Vec<u8>> {
                let mut bytes = Vec::with_capacity(512);
                self.write_body(&mut bytes).map(|()| bytes)
            }

            /// Writes the body as canonical JSON.
            pub(super) fn write_body(&self, to: impl std::io::Write) -> serde_json::Result<()> {
                if let Some(list) = self.unsorted() {
                    return Err(serde::ser::Error::custom(format!("`{list}` is not sorted, or names one twice")));
                }
                match self { $(Self::$name(body) => serde_json::to_writer(to, body),)+ }
            }

            /// Takes the canonical body of an entry of type `kind`; `None` where it is another, or has an escape in it.
            #[inline]
            pub(super) fn take_body(kind: &str, reader: &mut Reader<'_>) -> Option<Self> {
                let body = match kind { $($word => Self::$name($name::read(reader)?),)+ _ => return None };
                if body.unsorted().is_some() { None } else { Some(body) }
            }

            /// Reads the body of an entry of type `kind`, written as any JSON; `None` where the type is unknown.
            pub(super) fn read_body(kind: &str, body: &str) -> Option<serde_json::Result<Self>> {
                match kind { $($word => Some(serde_json::from_str(body).map(Self::$name)),)+ _ => None }
            }
        }
    };
}

steps! {
    /// The first entry of every ledger.
    LogCreated = "log.created" {
        /// The log's origin: its name in checkpoints and keys, a URL without its scheme.
        origin: String,
        /// The log's verifier key (`name+id+key`, C2SP signed-note).
        key: String,
        /// How many admins must sign a change.
        quorum: Int,
        /// The ledger that this one carries on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        continues: Option<Continues>,
    }

    /// Another key signs from here on. [`rotation`](super::rotation) makes it and checks it.
    LogKeyRotated = "log.key_rotated" {
        /// The new verifier key, of the same name.
        key: String,
        /// The size at which the key before it ends and this one begins: with this entry, so its index plus one. Both keys sign
        /// the checkpoint of this size.
        size: Int,
        /// The old key's signature over the [statement](super::rotation::statement), in base64.
        old_signature: String,
        /// The new key's signature over it, in base64.
        new_signature: String,
    }

    /// A principal and its key enter.
    IdentityRegistered = "identity.registered" {
        /// The pseudonym that stands for it in every entry.
        identity: String,
        /// What it is.
        kind: Kind,
        /// Whether its signature counts for administrative changes.
        admin: bool,
        /// Its groups, sorted.
        groups: Vec<String>,
        /// The pseudonym of its owner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        /// The pseudonym of the identity that it may act for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_behalf_of: Option<String>,
        /// How it signs.
        alg: Alg,
        /// Its public key: base64url of the 32 bytes (Ed25519) or of the 65-byte uncompressed point (P-256).
        key: String,
        /// The key's RFC 7638 thumbprint.
        kid: String,
        /// Until when requests are accepted, in seconds of Unix time.
        not_after: Int,
        /// Commitment to the JWS by which the key's owner proved to hold it (class `identity`).
        possession: Commitment,
        /// Commitment to the record that resolves the pseudonym (class `identity`).
        record: Commitment,
        /// Who signed. Absent only for the first admin, who enters with the log itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signed: Option<Signed>,
    }

    /// An identity's key counts no longer.
    IdentityRevoked = "identity.revoked" {
        /// The pseudonym.
        identity: String,
        /// Why.
        reason: Revocation,
        /// Who signed.
        signed: Signed,
    }

    /// An identity's groups become these.
    GroupsChanged = "groups.changed" {
        /// The pseudonym.
        identity: String,
        /// All its groups from here on, sorted.
        groups: Vec<String>,
        /// Who signed.
        signed: Signed,
    }

    /// A new version of the policy takes effect.
    PolicyChanged = "policy.changed" {
        /// 1, 2, 3 …
        version: Int,
        /// SHA-256 of the text.
        digest: Hash,
        /// Commitment to the text (class `config`).
        document: Commitment,
        /// Who signed.
        signed: Signed,
    }

    /// A new version of the catalog takes effect.
    CatalogChanged = "catalog.changed" {
        /// 1, 2, 3 …
        version: Int,
        /// SHA-256 of the text.
        digest: Hash,
        /// Commitment to the text (class `config`).
        document: Commitment,
        /// Who signed.
        signed: Signed,
    }

    /// A connection is registered or described anew.
    ConnectionChanged = "connection.changed" {
        /// Its name.
        connection: String,
        /// `postgres` or `folder`.
        kind: String,
        /// Commitment to its description, which names where the credential is found but does not hold it (class `config`).
        document: Commitment,
        /// Who signed.
        signed: Signed,
    }

    /// Evidence was packed into one file, to be given to somebody.
    LedgerExported = "ledger.exported" {
        /// The pseudonym of the one who asked for it; absent where it was made on the service's own machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Requests received from this time on, in seconds of Unix time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Int>,
        /// Requests received before this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Int>,
        /// Requests of this pseudonym.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
        /// Requests for this data set, `connection.table`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dataset: Option<String>,
        /// This request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<TraceId>,
        /// The classes of payloads that were packed with it, in the clear, sorted.
        payloads: Vec<String>,
    }

    /// Records that nobody could be held to.
    RequestRejected = "request.rejected" {
        /// Why.
        reason: Reason,
        /// The door.
        door: String,
        /// Where the (first) record stands: topic.
        topic: String,
        /// Partition.
        partition: Int,
        /// Offset.
        offset: Int,
        /// How many records this entry stands for: more than one when they come in floods.
        count: Int,
        /// Commitment to the (first) record's bytes (class `rejected`).
        record: Commitment,
    }

    /// A request came in.
    RequestReceived = "request.received" {
        /// The door.
        door: Text,
        /// Topic.
        topic: Text,
        /// Partition.
        partition: Int,
        /// Offset.
        offset: Int,
        /// Size of the record's value in bytes.
        bytes: Int,
        /// SHA-256 of the JWS signing input: the request's digest.
        digest: Hash,
        /// Commitment to the compact JWS (class `request`).
        request: Commitment,
    }

    /// The caller is a registered identity and signed this request.
    IdentityVerified = "identity.verified" {
        /// The pseudonym.
        identity: String,
        /// The key that signed.
        kid: String,
        /// How it signed.
        alg: Alg,
        /// The index of the `identity.registered` entry that was relied on.
        registered: Int,
        /// Whose word this is.
        attest: Attest,
    }

    /// Policy was asked, and answered.
    PolicyDecided = "policy.decided" {
        /// The answer.
        verdict: Verdict,
        /// The policies that determined it, sorted.
        policies: Vec<String>,
        /// SHA-256 of the policy text.
        policy: Hash,
        /// SHA-256 of the catalog text.
        catalog: Hash,
        /// The time that policies saw, in seconds of Unix time.
        time: Int,
        /// The connection; absent when the answer is no.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<Text>,
        /// The table; absent when the answer is no.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        table: Option<Text>,
        /// The purpose, a word of the catalog's closed list; absent when it is not on it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<Text>,
        /// One obligation per column, in the order of delivery; empty when the answer is no.
        columns: Vec<DecidedColumn>,
        /// Groups that must approve, sorted.
        approval: Vec<String>,
        /// SHA-256 of the obligations' canonical JSON: columns, row filter, limits.
        obligations: Hash,
        /// Commitment to that canonical JSON (class `query`), which holds row filters.
        document: Commitment,
    }

    /// The request ends here.
    RequestDenied = "request.denied" {
        /// Why.
        reason: Reason,
    }

    /// The request waits for people.
    ApprovalRequested = "approval.requested" {
        /// The groups that are asked, sorted.
        groups: Vec<String>,
        /// The request's digest.
        request: Hash,
        /// The obligations' digest.
        obligations: Hash,
        /// Until when an answer counts, in seconds of Unix time.
        not_after: Int,
    }

    /// A person said yes. Opens a trace of its own.
    ApprovalGranted = "approval.granted" {
        /// The trace of the request.
        request: TraceId,
        /// The request's digest, as the approver computed it.
        digest: Hash,
        /// The obligations' digest, as the approver computed it.
        obligations: Hash,
        /// The approver's pseudonym.
        identity: String,
        /// The key that signed.
        kid: String,
        /// The index of the approver's `identity.registered` entry.
        registered: Int,
        /// The approver's groups that were asked, sorted.
        groups: Vec<String>,
        /// When it was signed, in seconds of Unix time.
        signed_at: Int,
        /// From when it counts, in seconds of Unix time.
        not_before: Int,
        /// Until when it counts, in seconds of Unix time.
        not_after: Int,
        /// The approver's own commitment to the reason (class `approval`).
        reason: Commitment,
        /// Commitment to the compact JWS (class `approval`).
        token: Commitment,
    }

    /// A person said no. Opens a trace of its own, and closes it.
    ApprovalDenied = "approval.denied" {
        /// The trace of the request.
        request: TraceId,
        /// The request's digest.
        digest: Hash,
        /// The obligations' digest.
        obligations: Hash,
        /// The approver's pseudonym.
        identity: String,
        /// The key that signed.
        kid: String,
        /// The index of the approver's `identity.registered` entry.
        registered: Int,
        /// The approver's groups that were asked, sorted.
        groups: Vec<String>,
        /// The approver's own commitment to the reason (class `approval`).
        reason: Commitment,
        /// Commitment to the compact JWS (class `approval`).
        token: Commitment,
    }

    /// A person takes a yes back.
    ApprovalRevoked = "approval.revoked" {
        /// The pseudonym of the one who revokes.
        identity: String,
        /// The key that signed.
        kid: String,
        /// The index of its `identity.registered` entry.
        registered: Int,
        /// Commitment to the compact JWS (class `approval`).
        token: Commitment,
    }

    /// The request relies on an approval.
    ApprovalUsed = "approval.used" {
        /// The approval's trace.
        approval: TraceId,
        /// The index of its `approval.granted` entry.
        index: Int,
        /// The leaf hash of that entry.
        leaf: Hash,
    }

    /// A query is about to be sent.
    SourceQueried = "source.queried" {
        /// 1, 2, 3 …: counts the times that this request was fetched.
        attempt: Int,
        /// The connection.
        connection: Text,
        /// The table.
        table: Text,
        /// The columns that are fetched, those used only for filtering included.
        columns: Vec<Text>,
        /// The source's name for the state it shows (a PostgreSQL snapshot; a hash of the files' names, sizes and times).
        snapshot: Text,
        /// Commitment to the exact statement with its bound values (class `query`).
        statement: Commitment,
    }

    /// The rows were masked.
    ChunkMasked = "chunk.masked" {
        /// The attempt.
        attempt: Int,
        /// Rows.
        rows: Int,
        /// One account per delivered column, in order.
        columns: Vec<MaskedColumn>,
        /// Root of the tree over the chunk's rows, where the data set has it on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows_root: Option<Hash>,
    }

    /// These bytes are about to leave.
    DeliveryIntended = "delivery.intended" {
        /// The attempt.
        attempt: Int,
        /// Commitment to the parts' digests under the chunk's salt (class `chunk`).
        chunk: Commitment,
        /// Parts (Kafka records).
        parts: Int,
        /// Bytes of all parts together.
        bytes: Int,
        /// `arrow` or `jsonl`.
        format: Text,
        /// The pseudonym that it goes to.
        to: String,
        /// Commitment to the topic (class `delivery`).
        destination: Commitment,
        /// The partition of the status topic that will hold the outcome.
        status_partition: Int,
        /// The end offset of that partition when this was written: the outcome can only stand at or after it.
        status_offset: Int,
    }

    /// The bytes were delivered.
    DeliveryCommitted = "delivery.committed" {
        /// The attempt.
        attempt: Int,
        /// The partition of the status record.
        status_partition: Int,
        /// Its offset.
        status_offset: Int,
    }

    /// The attempt is superseded; a reader of uncommitted records may have seen its bytes.
    DeliveryAborted = "delivery.aborted" {
        /// The attempt.
        attempt: Int,
        /// Why.
        reason: Reason,
    }

    /// The request was answered.
    RequestCompleted = "request.completed" {
        /// The attempt that was delivered.
        attempt: Int,
    }

    /// Rows of a table are about to be looked at, to propose classes for the catalog. A trace of its own.
    SourceSampled = "source.sampled" {
        /// 32 random hexadecimal digits, which name the trace.
        sample: String,
        /// The pseudonym of the admin who asked.
        identity: String,
        /// The admin's key.
        kid: String,
        /// The index of the admin's `identity.registered` entry.
        registered: Int,
        /// The connection.
        connection: String,
        /// The table.
        table: String,
        /// The columns that are fetched.
        columns: Vec<String>,
        /// How many rows at most.
        rows: Int,
        /// The source's name for the state it shows.
        snapshot: String,
        /// Commitment to the exact statement (class `query`).
        statement: Commitment,
    }

    /// Somebody asked for the values behind tokens, and was answered. Opens a trace of its own, and closes it.
    ReidentifyDecided = "reidentify.decided" {
        /// SHA-256 of the JWS signing input: the request's digest.
        digest: Hash,
        /// Commitment to the compact JWS (class `request`).
        request: Commitment,
        /// The caller's pseudonym.
        identity: String,
        /// The key that signed.
        kid: String,
        /// The index of the caller's `identity.registered` entry.
        registered: Int,
        /// The answer: permit or deny.
        verdict: Verdict,
        /// Why not; absent when the answer is yes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refusal: Option<Reason>,
        /// The policies that determined it, sorted.
        policies: Vec<String>,
        /// SHA-256 of the policy text.
        policy: Hash,
        /// SHA-256 of the catalog text.
        catalog: Hash,
        /// The time that policies saw, in seconds of Unix time.
        time: Int,
        /// The connection; absent when the answer is no, like the four after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
        /// The table.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        table: Option<String>,
        /// The column.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<String>,
        /// The mask that is undone; it names the key domain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// The purpose that the tokens were made for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<String>,
        /// How many values were asked for.
        count: Int,
        /// The caller's own commitment to the tokens (class `reidentify`).
        tokens: Commitment,
        /// The caller's own commitment to the reason (class `reidentify`).
        reason: Commitment,
    }

    /// The request was permitted and came to nothing.
    RequestFailed = "request.failed" {
        /// Why.
        reason: Reason,
        /// Commitment to what operators need to know (class `detail`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<Commitment>,
    }

    /// The payloads of one class and day are gone for good, keys and salts with them. What they were committed by stands.
    PayloadPurged = "payload.purged" {
        /// Their class.
        class: Class,
        /// The UTC day on which they were sealed.
        day: Day,
        /// How many there were.
        payloads: Int,
        /// How many bytes they took in the vault.
        bytes: Int,
        /// How many of that class and day stayed: held, or of a story without an end.
        kept: Int,
        /// For how many days the class is kept.
        after_days: Int,
    }

    /// A legal hold: the payloads of these traces are kept, whatever their age. Opens a trace of its own.
    PayloadHeld = "payload.held" {
        /// The hold's name: 16 hexadecimal digits.
        hold: String,
        /// The traces, sorted.
        traces: Vec<TraceId>,
        /// Commitment to the reason (class `admin`).
        reason: Commitment,
    }

    /// A legal hold is over.
    PayloadReleased = "payload.released" {
        /// The hold's name.
        hold: String,
        /// Commitment to the reason (class `admin`).
        reason: Commitment,
    }

    /// Payloads are about to be shown to somebody, in the clear. A trace of its own.
    PayloadRead = "payload.read" {
        /// 32 random hexadecimal digits, which name the trace.
        read: String,
        /// The pseudonym of the one who reads; absent where it is an operator on the service's own machine.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why.
        why: ReadFor,
        /// The trace that they belong to, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<TraceId>,
        /// Their classes, sorted by name.
        classes: Vec<Class>,
        /// How many they are.
        payloads: Int,
    }
}

impl Step {
    /// The name of a list that is not in its only order: those that the format calls sorted ascend by bytes, without
    /// repetition, so that an entry has one spelling.
    fn unsorted(&self) -> Option<&'static str> {
        let lists: &[(&'static str, &[String])] = match self {
            Self::IdentityRegistered(s) => &[("groups", &s.groups)],
            Self::GroupsChanged(s) => &[("groups", &s.groups)],
            Self::PolicyDecided(s) => &[("policies", &s.policies), ("approval", &s.approval)],
            Self::ApprovalRequested(s) => &[("groups", &s.groups)],
            Self::ApprovalGranted(s) => &[("groups", &s.groups)],
            Self::ApprovalDenied(s) => &[("groups", &s.groups)],
            _ => &[],
        };
        let unsorted = |list: &[String]| !list.is_sorted_by(|a, b| a < b);
        lists.iter().find(|(_, list)| unsorted(list)).map(|(name, _)| *name)
    }
}
