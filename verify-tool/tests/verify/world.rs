//! A ledger with every outcome, made by hand: entries, payloads, tiles and signed checkpoints, from the published formats and
//! without the rule code. Events can be changed, removed, moved and added before it is written, and everything is then
//! chained, counted and signed anew: what the holder of the ledger's key can do.

use countersign_ledger::evidence::digest::sha256;
use countersign_ledger::evidence::jws::{self, PublicKey};
use countersign_ledger::evidence::step::*;
use countersign_ledger::evidence::{
    Class, Commitment, Entry, Reason, Salt, Step, TraceId, chunk_commitment, part_digest,
};
use countersign_ledger::tlog::{
    Checkpoint, Frontier, Hash, SignedCheckpoint, SignerKey, TreeSize, bundles_for_size, encode_bundle, leaf_hash,
    tiles_for_size,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

pub(crate) const ORIGIN: &str = "ledger.example/test";
/// The ledger's first second.
pub(crate) const START: u64 = 1_763_931_600;
pub(crate) const END: u64 = START + 30 * 86_400;
const POLICIES: [&str; 2] =
    ["permit (principal, action, resource);", "// second\npermit (principal, action, resource);"];
const CATALOG: &str = "[classes]\n";

/// A key of the service or of a principal.
pub(crate) fn signer(name: &str) -> SignerKey {
    SignerKey::generate_from_seed(name, sha256(name.as_bytes()).as_bytes()).unwrap()
}

pub(crate) fn public(name: &str) -> PublicKey {
    PublicKey::from_bytes(Alg::EdDsa, signer(name).verifier().public()).unwrap()
}

pub(crate) fn kid(name: &str) -> String {
    public(name).thumbprint()
}

/// The pseudonym of a name.
pub(crate) fn id(name: &str) -> String {
    format!("id-{:.16}", sha256(name.as_bytes()).to_string())
}

pub(crate) fn int(n: u64) -> Int {
    Int::try_from(n).unwrap()
}

pub(crate) fn token(typ: &str, name: &str, claims: &serde_json::Value) -> Vec<u8> {
    let input = jws::signing_input(Alg::EdDsa, typ, &kid(name), claims.to_string().as_bytes());
    jws::compact(&input, &signer(name).sign(input.as_bytes())).into_bytes()
}

/// Bytes that an entry commits to.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) class: Class,
    pub(crate) salt: Salt,
    pub(crate) bytes: Vec<u8>,
}

impl Payload {
    pub(crate) fn new(class: Class, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        // Random in life; here the same in every run.
        Self { class, salt: *sha256(&bytes).as_bytes(), bytes }
    }

    pub(crate) fn commitment(&self) -> Commitment {
        Commitment::to(self.class, &self.salt, &self.bytes)
    }
}

/// What is known when an event becomes an entry.
pub(crate) struct Context<'a> {
    /// The head of its trace.
    pub(crate) prev: Option<Hash>,
    /// The trace, index, leaf hash and step of every earlier entry.
    pub(crate) earlier: &'a [(TraceId, u64, Hash, Step)],
    pub(crate) payloads: &'a mut Vec<Payload>,
}

impl Context<'_> {
    fn keep(&mut self, class: Class, bytes: impl Into<Vec<u8>>) -> Commitment {
        let payload = Payload::new(class, bytes);
        let commitment = payload.commitment();
        self.payloads.push(payload);
        commitment
    }

    fn registered(&self, name: &str) -> Int {
        let is = |step: &Step| matches!(step, Step::IdentityRegistered(s) if s.identity == id(name));
        int(self.earlier.iter().find(|(_, _, _, step)| is(step)).map_or(0, |(_, index, _, _)| *index))
    }

    fn signed(&mut self, admins: &[&str], change: serde_json::Value) -> Signed {
        let mut document = json!({"origin": ORIGIN, "change": change});
        if let Some(prev) = self.prev {
            document["after"] = json!(prev);
        }
        let document = document.to_string();
        let mut by: Vec<SignedBy> = admins
            .iter()
            .map(|admin| {
                let claims = json!({"iss": admin, "sub": admin, "aud": format!("{ORIGIN}/admin"), "iat": START,
                    "exp": START + 3600, "jti": "admin-jti-0123456789abcdef", "change": sha256(document.as_bytes())});
                let signature = self.keep(Class::Admin, token(jws::TYP_ADMIN, admin, &claims));
                SignedBy { admin: id(admin), kid: kid(admin), signature }
            })
            .collect();
        by.sort_by(|a, b| a.admin.cmp(&b.admin));
        Signed { change: self.keep(Class::Admin, document), by }
    }
}

/// Changes the body of an event: `tweak!(world, "label", Type, |s| s.field = …)`.
macro_rules! tweak {
    ($world:expr, $label:expr, $kind:ident, |$s:ident| $change:expr) => {
        $world.tweak($label, move |step| match step {
            countersign_ledger::evidence::Step::$kind($s) => $change,
            other => panic!("`{}` is a {}", $label, other.kind()),
        })
    };
}
pub(crate) use tweak;

type Make = Rc<dyn Fn(&mut Context<'_>) -> Step>;
type Tweak = Rc<dyn Fn(&mut Step)>;

/// Something that happens.
#[derive(Clone)]
pub(crate) struct Event {
    /// How tests call it.
    pub(crate) label: String,
    pub(crate) trace: TraceId,
    /// Seconds after the event before it.
    pub(crate) after: u64,
    make: Make,
    tweak: Option<Tweak>,
}

impl Event {
    pub(crate) fn new(
        label: impl Into<String>,
        trace: TraceId,
        make: impl Fn(&mut Context<'_>) -> Step + 'static,
    ) -> Self {
        Self { label: label.into(), trace, after: 1, make: Rc::new(make), tweak: None }
    }
}

/// The columns, groups and words of one request.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) name: &'static str,
    pub(crate) caller: &'static str,
    pub(crate) groups: &'static [&'static str],
}

impl Ask {
    pub(crate) fn jti(self) -> String {
        format!("jti-0123456789abcdef-{}", self.name)
    }

    pub(crate) fn trace(self) -> TraceId {
        TraceId::request(self.caller, &self.jti())
    }

    pub(crate) fn token(self) -> Vec<u8> {
        let claims = json!({"iss": self.caller, "sub": self.caller, "aud": format!("{ORIGIN}/kafka"), "iat": START,
            "exp": START + 3600, "jti": self.jti(), "dataset": "shop.customers", "columns": ["id", "email"],
            "format": "arrow", "purpose": "support"});
        token(jws::TYP_REQUEST, self.caller, &claims)
    }

    pub(crate) fn digest(self) -> Hash {
        let token = String::from_utf8(self.token()).unwrap();
        sha256(token.rsplit_once('.').unwrap().0.as_bytes())
    }

    fn obligations(permitted: bool) -> String {
        let columns = if permitted {
            json!([{"column": "id", "class": "key", "rule": "clear", "paths": [{"path": "id.ssn", "class": "pii.ssn", "rule": "redact"}]},
                   {"column": "email", "class": "pii.email", "rule": "email"}])
        } else {
            json!([])
        };
        format!(r#"{{"columns":{columns},"rows":null,"limit":{{"rows":100,"bytes":1000,"seconds":10}}}}"#)
    }

    pub(crate) fn obligations_digest() -> Hash {
        sha256(Self::obligations(true).as_bytes())
    }
}

/// The parts of a chunk, as they are delivered.
pub(crate) const PARTS: [&[u8]; 2] = [b"first part", b"second part"];
pub(crate) const CHUNK_SALT: Salt = [9; 32];

pub(crate) fn chunk() -> Commitment {
    chunk_commitment(&CHUNK_SALT, &PARTS.map(part_digest))
}

/// A ledger before it is written.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) events: Vec<Event>,
    pub(crate) quorum: u64,
    /// How often, in entries, a checkpoint is published.
    pub(crate) publish_every: u64,
}

/// A ledger as it was written.
pub(crate) struct Written {
    pub(crate) leaves: Vec<Hash>,
    pub(crate) entries: Vec<Vec<u8>>,
    /// The index of each label.
    pub(crate) index: BTreeMap<String, u64>,
}

impl World {
    /// The log's verifier key.
    pub(crate) fn key() -> String {
        signer(ORIGIN).verifier().to_string()
    }

    /// Every outcome there is.
    pub(crate) fn full() -> Self {
        let mut world = Self::empty();
        world.admin("root");
        world.register("root", "reports", Kind::Service, &[], None);
        world.register("root", "olga", Kind::Human, &["stewards"], None);
        world.register("root", "agent", Kind::Agent, &[], Some("olga"));
        world.register("root", "anna", Kind::Human, &["stewards"], None);
        world.register("root", "boris", Kind::Human, &["privacy"], None);
        world.register("root", "carol", Kind::Human, &["others"], None);
        world.register("root", "old", Kind::Service, &[], None);
        world.connection("root", "shop");
        world.catalog("root", 1);
        world.policy("root", 1);
        let plain = |name| Ask { name, caller: "reports", groups: &[] };
        let asks = |name, caller| Ask { name, caller, groups: &["privacy", "stewards"] };
        world.permitted(plain("plain"));
        world.delivered(plain("plain"), 1);
        world.denied(plain("denied"));
        world.rejected(17);
        world.asked(asks("approved", "agent"));
        world.grant("grant-anna", asks("approved", "agent"), "anna", &["stewards"]);
        world.policy("root", 2);
        world.grant("grant-boris", asks("approved", "agent"), "boris", &["privacy"]);
        world.settled(asks("approved", "agent"), &["grant-anna", "grant-boris"]);
        world.delivered(asks("approved", "agent"), 1);
        world.permitted(plain("failed"));
        world.query(plain("failed"), 1);
        world.fail(plain("failed"), Reason::SourceTimeout);
        world.permitted(plain("aborted"));
        world.query(plain("aborted"), 1);
        world.mask(plain("aborted"), 1);
        world.intend(plain("aborted"), 1);
        world.abort(plain("aborted"), 1);
        world.delivered(plain("aborted"), 2);
        world.asked(asks("refused", "reports"));
        world.deny("deny-anna", asks("refused", "reports"), "anna", &["stewards"]);
        world.add("refused/end", asks("refused", "reports").trace(), |_| {
            RequestDenied { reason: Reason::ApprovalDenied }.into()
        });
        world.asked(asks("taken-back", "reports"));
        world.grant("grant-olga", asks("taken-back", "reports"), "olga", &["stewards"]);
        world.revoke_grant("grant-olga", asks("taken-back", "reports"), "anna");
        world.fail(asks("taken-back", "reports"), Reason::ApprovalExpired);
        world.permitted(Ask { caller: "old", ..plain("by-old") });
        world.delivered(Ask { caller: "old", ..plain("by-old") }, 1);
        world.revoke("root", "old");
        world.set_groups("root", "carol", &["others", "stewards"]);
        world.reidentified("reidentified", "anna", Verdict::Permit);
        world.reidentified("not-reidentified", "reports", Verdict::Deny);
        world.sampled("sampled", "root");
        for name in FILLERS {
            world.denied(plain(name));
        }
        world.add("export", TraceId::exports(), |_| {
            let payloads = vec!["identity".to_owned(), "request".to_owned()];
            let (by, from, to) = (Some(id("root")), Some(int(START)), Some(int(END)));
            let (identity, dataset) = (Some(id("reports")), Some("shop.customers".to_owned()));
            let request = Some(Ask { name: "plain", caller: "reports", groups: &[] }.trace());
            LedgerExported { by, from, to, identity, dataset, request, payloads }.into()
        });
        world.asked(asks("waiting", "reports"));
        world.permitted(plain("open"));
        world.query(plain("open"), 1);
        world.mask(plain("open"), 1);
        world.intend(plain("open"), 1);
        world
    }

    /// A log that was created and nothing more.
    pub(crate) fn empty() -> Self {
        let mut world = Self { events: Vec::new(), quorum: 1, publish_every: 50 };
        world.add("log", TraceId::log(), |_| {
            LogCreated { origin: ORIGIN.into(), key: Self::key(), quorum: int(1), continues: None }.into()
        });
        world
    }

    pub(crate) fn add(
        &mut self,
        label: impl Into<String>,
        trace: TraceId,
        make: impl Fn(&mut Context<'_>) -> Step + 'static,
    ) {
        self.events.push(Event::new(label, trace, make));
    }

    /// Where an event stands.
    pub(crate) fn at(&self, label: &str) -> usize {
        self.events.iter().position(|e| e.label == label).unwrap_or_else(|| panic!("no event `{label}`"))
    }

    /// Takes events out, everything from here on included in `made`: what `make` adds is put before `label`.
    pub(crate) fn before(&mut self, label: &str, make: impl FnOnce(&mut Self)) {
        let at = self.at(label);
        let rest = self.events.split_off(at);
        make(self);
        self.events.extend(rest);
    }

    pub(crate) fn remove(&mut self, label: &str) {
        let at = self.at(label);
        self.events.remove(at);
    }

    /// Changes the step that an event becomes.
    pub(crate) fn tweak(&mut self, label: &str, change: impl Fn(&mut Step) + 'static) {
        let at = self.at(label);
        self.events[at].tweak = Some(Rc::new(change));
    }

    /// Lets so many seconds pass before an event.
    pub(crate) fn wait(&mut self, label: &str, seconds: u64) {
        let at = self.at(label);
        self.events[at].after = seconds;
    }

    // --- Administration ---

    fn record(name: &str, admin: bool, kind: Kind, groups: &[&str], owner: Option<&str>) -> serde_json::Value {
        let claims = json!({"iss": name, "sub": name, "aud": format!("{ORIGIN}/admin"), "iat": START,
            "exp": START + 86_400, "jti": "possession-0123456789abcdef", "kid": kid(name)});
        let possession = String::from_utf8(token(jws::TYP_POSSESSION, name, &claims)).unwrap();
        let mut record = json!({"name": name, "pseudonym": id(name), "kind": kind, "admin": admin, "groups": groups,
            "alg": "EdDSA", "key": public(name).to_text(), "not_after": END, "possession": possession});
        if let Some(owner) = owner {
            record["owner"] = json!(owner);
        }
        record
    }

    fn registration(
        context: &mut Context<'_>,
        signers: Option<&[&str]>,
        (name, kind, admin): (&str, Kind, bool),
        groups: &[&str],
        owner: Option<&str>,
    ) -> Step {
        let record = Self::record(name, admin, kind, groups, owner);
        let mut change = record.clone();
        change["op"] = json!("register_identity");
        let signed = signers.map(|signers| context.signed(signers, change));
        IdentityRegistered {
            identity: id(name),
            kind,
            admin,
            groups: groups.iter().map(|g| (*g).into()).collect(),
            owner: owner.map(id),
            on_behalf_of: None,
            alg: Alg::EdDsa,
            key: public(name).to_text(),
            kid: kid(name),
            not_after: int(END),
            possession: context.keep(Class::Identity, record["possession"].as_str().unwrap()),
            record: context.keep(Class::Identity, record.to_string()),
            signed,
        }
        .into()
    }

    /// The first admin.
    pub(crate) fn admin(&mut self, name: &'static str) {
        self.add(name, TraceId::identity(&id(name)), move |c| {
            Self::registration(c, None, (name, Kind::Human, true), &[], None)
        });
    }

    /// One more admin, signed by another.
    pub(crate) fn more_admin(&mut self, by: &'static [&'static str], name: &'static str) {
        self.add(name, TraceId::identity(&id(name)), move |c| {
            Self::registration(c, Some(by), (name, Kind::Human, true), &[], None)
        });
    }

    pub(crate) fn register(
        &mut self,
        by: &'static str,
        name: &'static str,
        kind: Kind,
        groups: &'static [&'static str],
        owner: Option<&'static str>,
    ) {
        self.add(name, TraceId::identity(&id(name)), move |c| {
            Self::registration(c, Some(&[by]), (name, kind, false), groups, owner)
        });
    }

    pub(crate) fn revoke(&mut self, by: &'static str, name: &'static str) {
        self.add(format!("revoke-{name}"), TraceId::identity(&id(name)), move |c| {
            let signed = c.signed(&[by], json!({"op": "revoke_identity", "name": name, "reason": "left"}));
            IdentityRevoked { identity: id(name), reason: Revocation::Left, signed }.into()
        });
    }

    pub(crate) fn set_groups(&mut self, by: &'static str, name: &'static str, groups: &'static [&'static str]) {
        self.add(format!("groups-{name}"), TraceId::identity(&id(name)), move |c| {
            let signed = c.signed(&[by], json!({"op": "set_groups", "name": name, "groups": groups}));
            let groups = groups.iter().map(|g| (*g).into()).collect();
            GroupsChanged { identity: id(name), groups, signed }.into()
        });
    }

    pub(crate) fn policy(&mut self, by: &'static str, version: usize) {
        self.add(format!("policy-{version}"), TraceId::policy(), move |c| {
            let text = POLICIES[version - 1];
            PolicyChanged {
                version: int(version as u64),
                digest: sha256(text.as_bytes()),
                document: c.keep(Class::Config, text),
                signed: c.signed(&[by], json!({"op": "set_policy", "text": text})),
            }
            .into()
        });
    }

    pub(crate) fn catalog(&mut self, by: &'static str, version: u64) {
        self.add(format!("catalog-{version}"), TraceId::catalog(), move |c| {
            CatalogChanged {
                version: int(version),
                digest: sha256(CATALOG.as_bytes()),
                document: c.keep(Class::Config, CATALOG),
                signed: c.signed(&[by], json!({"op": "set_catalog", "text": CATALOG})),
            }
            .into()
        });
    }

    pub(crate) fn connection(&mut self, by: &'static str, name: &'static str) {
        self.add(format!("connection-{name}"), TraceId::connection(name), move |c| {
            let document = json!({"name": name, "store": {"kind": "folder", "path": "data"}});
            let mut change = document.clone();
            change["op"] = json!("set_connection");
            ConnectionChanged {
                connection: name.into(),
                kind: "folder".into(),
                document: c.keep(Class::Config, document.to_string()),
                signed: c.signed(&[by], change),
            }
            .into()
        });
    }

    // --- Requests ---

    /// A request up to policy's answer, `verdict`.
    fn opened(&mut self, ask: Ask, verdict: Verdict) {
        let trace = ask.trace();
        self.add(format!("{}/received", ask.name), trace, move |c| {
            let token = ask.token();
            RequestReceived {
                door: "kafka".into(),
                topic: "chunk.requests".into(),
                partition: int(0),
                offset: int(c.earlier.len() as u64),
                bytes: int(token.len() as u64),
                digest: ask.digest(),
                request: c.keep(Class::Request, token),
            }
            .into()
        });
        self.add(format!("{}/verified", ask.name), trace, move |c| {
            IdentityVerified {
                identity: id(ask.caller),
                kid: kid(ask.caller),
                alg: Alg::EdDsa,
                registered: c.registered(ask.caller),
                attest: Attest::CallerSigned,
            }
            .into()
        });
        self.decide(format!("{}/decided", ask.name), ask, verdict);
    }

    pub(crate) fn decide(&mut self, label: impl Into<String>, ask: Ask, verdict: Verdict) {
        self.add(label, ask.trace(), move |c| {
            let yes = verdict != Verdict::Deny;
            let obligations = Ask::obligations(yes);
            let policy = c.earlier.iter().rev().find_map(|(_, _, _, s)| match s {
                Step::PolicyChanged(s) => Some(s.digest),
                _ => None,
            });
            let column = |column: &str, class: &str, rule: &str| DecidedColumn {
                column: column.into(),
                class: class.into(),
                rule: rule.into(),
                paths: Vec::new(),
            };
            let mut columns = vec![column("id", "key", "clear"), column("email", "pii.email", "email")];
            let inside = DecidedPath { path: "id.ssn".into(), class: "pii.ssn".into(), rule: "redact".into() };
            columns[0].paths.push(inside);
            PolicyDecided {
                verdict,
                policies: vec!["policy0".into()],
                policy: policy.unwrap_or(Hash::from_bytes([0; 32])),
                catalog: sha256(CATALOG.as_bytes()),
                time: int(START),
                connection: yes.then(|| "shop".into()),
                table: yes.then(|| "customers".into()),
                purpose: yes.then(|| "support".into()),
                columns: if yes { columns } else { Vec::new() },
                approval: ask.groups.iter().map(|g| (*g).into()).collect(),
                obligations: sha256(obligations.as_bytes()),
                document: c.keep(Class::Query, format!(r#"{{"obligations":{obligations},"plan":null}}"#)),
            }
            .into()
        });
    }

    pub(crate) fn permitted(&mut self, ask: Ask) {
        self.opened(ask, Verdict::Permit);
    }

    pub(crate) fn denied(&mut self, ask: Ask) {
        self.opened(ask, Verdict::Deny);
        self.add(format!("{}/end", ask.name), ask.trace(), |_| RequestDenied { reason: Reason::Forbidden }.into());
    }

    pub(crate) fn rejected(&mut self, offset: u64) {
        self.add(format!("rejected-{offset}"), TraceId::rejected("chunk.requests", 0, offset), move |_| {
            RequestRejected {
                reason: Reason::Malformed,
                door: "kafka".into(),
                topic: "chunk.requests".into(),
                partition: int(0),
                offset: int(offset),
                count: int(1),
                record: Payload::new(Class::Rejected, "not a request").commitment(),
            }
            .into()
        });
    }

    /// A request that waits for approval.
    pub(crate) fn asked(&mut self, ask: Ask) {
        self.opened(ask, Verdict::NeedsApproval);
        self.add(format!("{}/asked", ask.name), ask.trace(), move |_| {
            ApprovalRequested {
                groups: ask.groups.iter().map(|g| (*g).into()).collect(),
                request: ask.digest(),
                obligations: Ask::obligations_digest(),
                not_after: int(START + 86_400),
            }
            .into()
        });
    }

    pub(crate) fn grant_trace(label: &str, by: &str) -> TraceId {
        TraceId::approval(by, &format!("jti-0123456789abcdef-{label}"))
    }

    fn answer(label: &str, decision: &str, request: Hash, ask: Ask, by: &str, reason: Commitment) -> Vec<u8> {
        let claims = json!({"iss": by, "sub": by, "aud": format!("{ORIGIN}/approvals"), "iat": START, "nbf": START,
            "exp": START + 7200, "jti": format!("jti-0123456789abcdef-{label}"), "decision": decision,
            "request": request, "digest": ask.digest(), "obligations": Ask::obligations_digest(), "reason": reason});
        token(jws::TYP_APPROVAL, by, &claims)
    }

    pub(crate) fn grant(&mut self, label: &'static str, ask: Ask, by: &'static str, groups: &'static [&'static str]) {
        self.add(label, Self::grant_trace(label, by), move |c| {
            let reason = c.keep(Class::Approval, format!("reason of {label}"));
            ApprovalGranted {
                request: ask.trace(),
                digest: ask.digest(),
                obligations: Ask::obligations_digest(),
                identity: id(by),
                kid: kid(by),
                registered: c.registered(by),
                groups: groups.iter().map(|g| (*g).into()).collect(),
                signed_at: int(START),
                not_before: int(START),
                not_after: int(START + 7200),
                reason,
                token: c.keep(Class::Approval, Self::answer(label, "grant", ask.trace().0, ask, by, reason)),
            }
            .into()
        });
    }

    pub(crate) fn deny(&mut self, label: &'static str, ask: Ask, by: &'static str, groups: &'static [&'static str]) {
        self.add(label, Self::grant_trace(label, by), move |c| {
            let reason = c.keep(Class::Approval, format!("reason of {label}"));
            ApprovalDenied {
                request: ask.trace(),
                digest: ask.digest(),
                obligations: Ask::obligations_digest(),
                identity: id(by),
                kid: kid(by),
                registered: c.registered(by),
                groups: groups.iter().map(|g| (*g).into()).collect(),
                reason,
                token: c.keep(Class::Approval, Self::answer(label, "deny", ask.trace().0, ask, by, reason)),
            }
            .into()
        });
    }

    pub(crate) fn revoke_grant(&mut self, grant: &'static str, ask: Ask, by: &'static str) {
        let giver = grant.strip_prefix("grant-").unwrap();
        let trace = Self::grant_trace(grant, giver);
        self.add(format!("revoke-{grant}"), trace, move |c| {
            let reason = Payload::new(Class::Approval, "no longer").commitment();
            ApprovalRevoked {
                identity: id(by),
                kid: kid(by),
                registered: c.registered(by),
                token: c.keep(Class::Approval, Self::answer("revocation", "revoke", trace.0, ask, by, reason)),
            }
            .into()
        });
    }

    /// The approvals are used, and policy permits.
    pub(crate) fn settled(&mut self, ask: Ask, grants: &[&'static str]) {
        for grant in grants {
            let trace = Self::grant_trace(grant, grant.strip_prefix("grant-").unwrap());
            self.add(format!("{}/use-{grant}", ask.name), ask.trace(), move |c| {
                let found = c.earlier.iter().find(|(t, _, _, _)| *t == trace);
                let (index, leaf) = found.map_or((0, Hash::from_bytes([0; 32])), |(_, index, leaf, _)| (*index, *leaf));
                ApprovalUsed { approval: trace, index: int(index), leaf }.into()
            });
        }
        self.decide(format!("{}/settled", ask.name), ask, Verdict::Permit);
    }

    pub(crate) fn query(&mut self, ask: Ask, attempt: u64) {
        self.add(format!("{}/queried-{attempt}", ask.name), ask.trace(), move |c| {
            let statement = format!("select id, email from customers -- {} {attempt}", ask.name);
            SourceQueried {
                attempt: int(attempt),
                connection: "shop".into(),
                table: "customers".into(),
                columns: vec!["id".into(), "email".into()],
                snapshot: "1:1:".into(),
                statement: c.keep(Class::Query, statement),
            }
            .into()
        });
    }

    pub(crate) fn mask(&mut self, ask: Ask, attempt: u64) {
        self.add(format!("{}/masked-{attempt}", ask.name), ask.trace(), move |_| {
            let column = |column: &str, class: &str, rule: &str, changed| MaskedColumn {
                column: column.into(),
                class: class.into(),
                rule: rule.into(),
                transform: rule.into(),
                seen: int(3),
                changed: int(changed),
                hits: Vec::new(),
                paths: Vec::new(),
            };
            let mut columns = vec![column("id", "key", "clear", 0), column("email", "pii.email", "email", 3)];
            let (path, class, rule) = ("id.ssn".into(), "pii.ssn".into(), "redact".into());
            columns[0].paths.push(MaskedPath { path, class, rule, seen: int(5), changed: int(4), hits: Vec::new() });
            ChunkMasked { attempt: int(attempt), rows: int(3), columns, rows_root: None }.into()
        });
    }

    pub(crate) fn intend(&mut self, ask: Ask, attempt: u64) {
        self.add(format!("{}/intended-{attempt}", ask.name), ask.trace(), move |c| {
            DeliveryIntended {
                attempt: int(attempt),
                chunk: chunk(),
                parts: int(2),
                bytes: int(PARTS.iter().map(|p| p.len() as u64).sum()),
                format: "arrow".into(),
                to: id(ask.caller),
                destination: c.keep(Class::Delivery, format!("chunk.masked.{}", ask.caller)),
                status_partition: int(0),
                status_offset: int(5),
            }
            .into()
        });
    }

    pub(crate) fn commit(&mut self, ask: Ask, attempt: u64) {
        self.add(format!("{}/committed-{attempt}", ask.name), ask.trace(), move |_| {
            DeliveryCommitted { attempt: int(attempt), status_partition: int(0), status_offset: int(7) }.into()
        });
        self.add(format!("{}/end", ask.name), ask.trace(), move |_| RequestCompleted { attempt: int(attempt) }.into());
    }

    pub(crate) fn abort(&mut self, ask: Ask, attempt: u64) {
        self.add(format!("{}/aborted-{attempt}", ask.name), ask.trace(), move |_| {
            DeliveryAborted { attempt: int(attempt), reason: Reason::NotDelivered }.into()
        });
    }

    pub(crate) fn delivered(&mut self, ask: Ask, attempt: u64) {
        self.query(ask, attempt);
        self.mask(ask, attempt);
        self.intend(ask, attempt);
        self.commit(ask, attempt);
    }

    pub(crate) fn fail(&mut self, ask: Ask, reason: Reason) {
        self.add(format!("{}/end", ask.name), ask.trace(), move |c| {
            RequestFailed { reason, detail: Some(c.keep(Class::Detail, format!("detail of {}", ask.name))) }.into()
        });
    }

    /// Values were given back for two tokens, or that was refused.
    pub(crate) fn reidentified(&mut self, label: &'static str, by: &'static str, verdict: Verdict) {
        self.reidentified_with(label, by, verdict, &[]);
    }

    /// The same, with more claims in its token, or others.
    pub(crate) fn reidentified_with(
        &mut self,
        label: &'static str,
        by: &'static str,
        verdict: Verdict,
        more: &'static [(&str, u64, &str)],
    ) {
        let jti = format!("jti-0123456789abcdef-{label}");
        self.add(label, TraceId::reidentify(by, &jti), move |c| {
            let tokens = c.keep(Class::Reidentify, r#"["tok_AAAA","tok_BBBB"]"#);
            let reason = c.keep(Class::Reidentify, format!("reason of {label}"));
            let mut claims = json!({"iss": by, "sub": by, "aud": format!("{ORIGIN}/http"), "iat": START,
                "exp": START + 300, "jti": jti, "dataset": "shop.customers", "column": "email",
                "purpose": "support", "tokens": tokens, "reason": reason});
            for (name, number, text) in more {
                claims[*name] = if text.is_empty() { json!(number) } else { json!(text) };
            }
            let request = token(jws::TYP_REIDENTIFY, by, &claims);
            let text = String::from_utf8(request.clone()).unwrap();
            let policy = c.earlier.iter().rev().find_map(|(_, _, _, s)| match s {
                Step::PolicyChanged(s) => Some(s.digest),
                _ => None,
            });
            let said = |text: &str| (verdict == Verdict::Permit).then(|| text.to_owned());
            ReidentifyDecided {
                digest: sha256(text.rsplit_once('.').unwrap().0.as_bytes()),
                request: c.keep(Class::Request, request),
                identity: id(by),
                kid: kid(by),
                registered: c.registered(by),
                verdict,
                refusal: (verdict == Verdict::Deny).then_some(Reason::Forbidden),
                policies: vec!["policy0".into()],
                policy: policy.unwrap(),
                catalog: sha256(CATALOG.as_bytes()),
                time: int(START),
                connection: said("shop"),
                table: said("customers"),
                column: said("email"),
                rule: said("token(people)"),
                purpose: said("support"),
                count: int(2),
                tokens,
                reason,
            }
            .into()
        });
    }

    /// An admin looked into a table.
    pub(crate) fn sampled(&mut self, label: &'static str, by: &'static str) {
        let sample = format!("{:.32}", sha256(label.as_bytes()).to_string());
        self.add(label, TraceId::sample(&sample), move |c| {
            SourceSampled {
                sample: sample.clone(),
                identity: id(by),
                kid: kid(by),
                registered: c.registered(by),
                connection: "shop".into(),
                table: "customers".into(),
                columns: vec!["id".into(), "email".into()],
                rows: int(100),
                snapshot: "1:1:".into(),
                statement: c.keep(Class::Query, "select id, email from customers limit 100"),
            }
            .into()
        });
    }

    // --- Writing ---

    /// Chains, counts, signs and writes everything into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Written {
        self.write_with(dir, |_, _| {})
    }

    /// The same, with a last word on each entry: its label and its bytes.
    pub(crate) fn write_with(&self, dir: &Path, change: impl Fn(&str, &mut Vec<u8>)) -> Written {
        let mut earlier = Vec::new();
        let mut heads: BTreeMap<TraceId, (u64, Hash)> = BTreeMap::new();
        let mut payloads = Vec::new();
        let mut written = Written { leaves: Vec::new(), entries: Vec::new(), index: BTreeMap::new() };
        let mut at = START;
        for event in &self.events {
            at += event.after;
            let index = written.entries.len() as u64;
            let (step, prev) = heads.get(&event.trace).map_or((0, None), |(step, head)| (*step, Some(*head)));
            let mut body = (event.make)(&mut Context { prev, earlier: &earlier, payloads: &mut payloads });
            if let (0, Step::LogCreated(s)) = (index, &mut body) {
                s.quorum = int(self.quorum);
            }
            if let Some(tweak) = &event.tweak {
                tweak(&mut body);
            }
            let entry = Entry {
                trace: event.trace,
                step: int(step),
                prev,
                at: int(at * 1_000_000 + index),
                // A second process takes over half-way.
                src: if index < 100 { "5eed/1" } else { "5eed/2" }.into(),
                seq: int(if index < 100 { index } else { index - 100 }),
                body: body.clone(),
            };
            let mut bytes = entry.encode().unwrap();
            change(&event.label, &mut bytes);
            let leaf = leaf_hash(&bytes);
            heads.insert(event.trace, (step + 1, leaf));
            earlier.push((event.trace, index, leaf, body));
            written.index.insert(event.label.clone(), index);
            written.leaves.push(leaf);
            written.entries.push(bytes);
        }
        write_tree(dir, &written.entries, self.publish_every);
        for payload in payloads {
            let name = dir.join(format!("payload/{}", payload.commitment()));
            let mut bytes = format!("{}\n{}\n", payload.class, Hash::from_bytes(payload.salt)).into_bytes();
            bytes.extend_from_slice(&payload.bytes);
            put(&name, &bytes);
        }
        written
    }
}

/// Requests that are refused, to make the log longer than a tile.
const FILLERS: [&str; 50] = [
    "f00", "f01", "f02", "f03", "f04", "f05", "f06", "f07", "f08", "f09", "f10", "f11", "f12", "f13", "f14", "f15",
    "f16", "f17", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28", "f29", "f30", "f31",
    "f32", "f33", "f34", "f35", "f36", "f37", "f38", "f39", "f40", "f41", "f42", "f43", "f44", "f45", "f46", "f47",
    "f48", "f49",
];

pub(crate) fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A checkpoint signed by the log.
pub(crate) fn checkpoint(size: u64, root: Hash) -> Vec<u8> {
    let checkpoint = Checkpoint::new(ORIGIN, TreeSize::new(size), root);
    SignedCheckpoint::sign(checkpoint, &[&signer(ORIGIN)]).unwrap().into_note()
}

/// The root of these leaves.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// Writes entries as bundles, tiles and checkpoints.
pub(crate) fn write_tree(dir: &Path, entries: &[Vec<u8>], publish_every: u64) {
    let size = TreeSize::new(entries.len() as u64);
    let mut levels: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let mut frontier = Frontier::new();
    for entry in entries {
        frontier.push_with(leaf_hash(entry), |level, _, hash| {
            if level % 8 == 0 {
                levels.entry(level / 8).or_default().extend_from_slice(hash.as_bytes());
            }
        });
        let size = frontier.size().get();
        if size.is_multiple_of(publish_every) || size == entries.len() as u64 {
            put(&dir.join(format!("checkpoints/{size}")), &checkpoint(size, frontier.root()));
        }
    }
    for bundle in bundles_for_size(size) {
        let first = bundle.index as usize * 256;
        let bytes = encode_bundle(&entries[first..first + bundle.width as usize]).unwrap();
        put(&dir.join(bundle.to_string()), &bytes);
    }
    for tile in tiles_for_size(size) {
        let first = tile.id.index as usize * 8192;
        put(&dir.join(tile.to_string()), &levels[&tile.id.level][first..first + tile.width as usize * 32]);
    }
    put(&dir.join("checkpoint"), &checkpoint(size.get(), frontier.root()));
}
