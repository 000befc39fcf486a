//! A ledger as a busy quarter leaves it: many identities, data sets and policies, every outcome, requests spread over the days.
//! Made from a seed without the rule code, of any size, for reports to be read and to be timed.

use crate::world::*;
use countersign_ledger::evidence::digest::sha256;
use countersign_ledger::evidence::jws;
use countersign_ledger::evidence::step::*;
use countersign_ledger::evidence::{Class, Commitment, Entry, Reason, Step, TraceId};
use countersign_ledger::tlog::{Hash, leaf_hash};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Days that the ledger spans.
const DAYS: u64 = 91;
const ADMINS: [&str; 2] = ["ines", "tomas"];

/// Callers: name, kind, owner, purpose, data sets, how often out of a hundred.
type Caller = (&'static str, Kind, Option<&'static str>, &'static str, &'static [usize], u64);
const CALLERS: [Caller; 6] = [
    ("weekly-report", Kind::Service, None, "reporting", &[0, 1], 34),
    ("support-bot", Kind::Agent, Some("kim"), "support", &[0, 2], 27),
    ("fraud-model", Kind::Workload, None, "fraud_prevention", &[1, 3], 19),
    ("billing-export", Kind::Service, None, "billing", &[3], 10),
    ("seed-staging", Kind::Workload, None, "testing", &[0, 1, 2], 7),
    ("research-agent", Kind::Agent, Some("dana"), "analytics", &[0, 2], 3),
];
const PEOPLE: [(&str, &[&str]); 4] =
    [("kim", &["support-leads"]), ("dana", &["data-owners"]), ("priya", &["privacy"]), ("leon", &["data-owners"])];

/// Data sets: connection, table, policy, the groups that must approve, columns with class and rule.
type Column = (&'static str, &'static str, &'static str);
type DataSet = (&'static str, &'static str, &'static str, &'static [&'static str], &'static [Column]);
const SETS: [DataSet; 4] = [
    (
        "shop",
        "customers",
        "analysts-read-masked",
        &[],
        &[
            ("id", "key", "clear"),
            ("name", "pii.name", "initial"),
            ("email", "pii.email", "email"),
            ("phone", "pii.phone", "last4"),
            ("country", "public", "clear"),
            ("note", "unclassified", "redact"),
        ],
    ),
    (
        "shop",
        "orders",
        "public-is-clear",
        &[],
        &[
            ("order_id", "key", "clear"),
            ("customer_id", "key", "token"),
            ("total", "fin.amount", "clear"),
            ("iban", "fin.iban", "token"),
            ("placed_at", "public", "clear"),
        ],
    ),
    (
        "crm",
        "tickets",
        "support-reads-own-region",
        &["data-owners"],
        &[
            ("ticket", "key", "clear"),
            ("customer_email", "pii.email", "clear"),
            ("subject", "free_text", "redact"),
            ("opened_at", "public", "clear"),
        ],
    ),
    (
        "billing",
        "invoices",
        "finance-with-approval",
        &["data-owners", "privacy"],
        &[
            ("invoice", "key", "clear"),
            ("amount", "fin.amount", "clear"),
            ("card", "fin.card", "token"),
            ("vat_id", "fin.tax", "last4"),
            ("address", "pii.address", "zip3"),
        ],
    ),
];

/// A ledger in the making.
pub(crate) struct Fair {
    entries: Vec<Vec<u8>>,
    heads: HashMap<TraceId, (u64, Hash)>,
    registered: HashMap<&'static str, u64>,
    payloads: BTreeMap<Commitment, Payload>,
    with_payloads: bool,
    at: u64,
    random: u64,
    policy: Hash,
    catalog: Hash,
}

impl Fair {
    /// A ledger of so many requests, with or without its payloads.
    pub(crate) fn new(requests: u64, with_payloads: bool) -> Self {
        let none = Hash::from_bytes([0; 32]);
        let mut fair = Self {
            entries: Vec::new(),
            heads: HashMap::new(),
            registered: HashMap::new(),
            payloads: BTreeMap::new(),
            with_payloads,
            at: START * 1_000_000,
            random: 0x9e37_79b9_7f4a_7c15,
            policy: none,
            catalog: none,
        };
        fair.begin();
        for n in 0..requests {
            fair.pass_time(n, requests);
            fair.request(n);
            if n * 3 == requests - requests % 3 {
                fair.change_policy(2);
            }
            if n == requests / 2 {
                fair.revoke("seed-staging");
            }
        }
        fair
    }

    /// Writes it.
    pub(crate) fn write(&self, dir: &Path) {
        write_tree(dir, &self.entries, (self.entries.len() as u64 / 40).max(50));
        for (commitment, payload) in &self.payloads {
            let mut bytes = format!("{}\n{}\n", payload.class, Hash::from_bytes(payload.salt)).into_bytes();
            bytes.extend_from_slice(&payload.bytes);
            put(&dir.join(format!("payload/{commitment}")), &bytes);
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % n
    }

    fn push(&mut self, trace: TraceId, body: impl Into<Step>) -> u64 {
        let index = self.entries.len() as u64;
        let (step, prev) = self.heads.get(&trace).map_or((0, None), |(step, head)| (*step, Some(*head)));
        self.at += 1 + self.below(900);
        let entry = Entry {
            trace,
            step: int(step),
            prev,
            at: int(self.at),
            src: "5eed/1".into(),
            seq: int(index),
            body: body.into(),
        };
        let bytes = entry.encode().unwrap();
        self.heads.insert(trace, (step + 1, leaf_hash(&bytes)));
        self.entries.push(bytes);
        index
    }

    fn keep(&mut self, class: Class, bytes: impl Into<Vec<u8>>) -> Commitment {
        let payload = Payload::new(class, bytes);
        let commitment = payload.commitment();
        if self.with_payloads {
            self.payloads.insert(commitment, payload);
        }
        commitment
    }

    fn signed(&mut self, trace: TraceId, mut change: serde_json::Value, op: &str) -> Signed {
        change["op"] = json!(op);
        let mut document = json!({"origin": ORIGIN, "change": change});
        if let Some((_, head)) = self.heads.get(&trace) {
            document["after"] = json!(head);
        }
        let document = document.to_string();
        let mut by: Vec<SignedBy> = ADMINS
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

    fn register(&mut self, name: &'static str, kind: Kind, groups: &[&str], owner: Option<&str>, first: bool) {
        let admin = ADMINS.contains(&name);
        let claims = json!({"iss": name, "sub": name, "aud": format!("{ORIGIN}/admin"), "iat": START,
            "exp": START + 86_400, "jti": "possession-0123456789abcdef", "kid": kid(name)});
        let possession = String::from_utf8(token(jws::TYP_POSSESSION, name, &claims)).unwrap();
        let not_after = START + 400 * 86_400;
        let mut record = json!({"name": name, "pseudonym": id(name), "kind": kind, "admin": admin, "groups": groups,
            "alg": "EdDSA", "key": public(name).to_text(), "not_after": not_after, "possession": possession});
        if let Some(owner) = owner {
            record["owner"] = json!(owner);
        }
        let trace = TraceId::identity(&id(name));
        let signed = (!first).then(|| self.signed(trace, record.clone(), "register_identity"));
        let step = IdentityRegistered {
            identity: id(name),
            kind,
            admin,
            groups: groups.iter().map(|g| (*g).into()).collect(),
            owner: owner.map(id),
            on_behalf_of: None,
            alg: Alg::EdDsa,
            key: public(name).to_text(),
            kid: kid(name),
            not_after: int(not_after),
            possession: self.keep(Class::Identity, possession),
            record: self.keep(Class::Identity, record.to_string()),
            signed,
        };
        let index = self.push(trace, step);
        self.registered.insert(name, index);
    }

    fn begin(&mut self) {
        self.push(
            TraceId::log(),
            LogCreated { origin: ORIGIN.into(), key: World::key(), quorum: int(2), continues: None },
        );
        ADMINS.into_iter().for_each(|admin| self.register(admin, Kind::Human, &[], None, true));
        PEOPLE.into_iter().for_each(|(name, groups)| self.register(name, Kind::Human, groups, None, false));
        CALLERS.into_iter().for_each(|(name, kind, owner, ..)| self.register(name, kind, &[], owner, false));
        for connection in ["shop", "crm", "billing"] {
            let document = json!({"name": connection, "store": {"kind": "postgres", "url": {"env": "URL"}}});
            let trace = TraceId::connection(connection);
            let signed = self.signed(trace, document.clone(), "set_connection");
            let document = self.keep(Class::Config, document.to_string());
            let step = ConnectionChanged { connection: connection.into(), kind: "postgres".into(), document, signed };
            self.push(trace, step);
        }
        let text = "[classes]\n";
        let signed = self.signed(TraceId::catalog(), json!({"text": text}), "set_catalog");
        self.catalog = sha256(text.as_bytes());
        let (digest, document) = (self.catalog, self.keep(Class::Config, text));
        self.push(TraceId::catalog(), CatalogChanged { version: int(1), digest, document, signed });
        self.change_policy(1);
    }

    fn change_policy(&mut self, version: u64) {
        let text = format!("// version {version}\npermit (principal, action, resource);\n");
        let signed = self.signed(TraceId::policy(), json!({"text": text}), "set_policy");
        self.policy = sha256(text.as_bytes());
        let (digest, document) = (self.policy, self.keep(Class::Config, text));
        self.push(TraceId::policy(), PolicyChanged { version: int(version), digest, document, signed });
    }

    fn revoke(&mut self, name: &'static str) {
        let trace = TraceId::identity(&id(name));
        let signed = self.signed(trace, json!({"name": name, "reason": "superseded"}), "revoke_identity");
        self.push(trace, IdentityRevoked { identity: id(name), reason: Revocation::Superseded, signed });
        self.registered.remove(name);
    }

    /// Requests are spread over the days, fewer at weekends.
    fn pass_time(&mut self, n: u64, requests: u64) {
        let day = n * DAYS / requests;
        let share = (n * DAYS % requests) * 86_400 / requests;
        let weekend = matches!(day % 7, 5 | 6);
        let seconds = day * 86_400 + if weekend { share / 3 } else { share };
        self.at = self.at.max((START + seconds) * 1_000_000);
    }

    fn request(&mut self, n: u64) {
        if self.below(70) == 0 {
            let record = Payload::new(Class::Rejected, n.to_string()).commitment();
            let reason = [Reason::BadSignature, Reason::UnknownKey, Reason::Malformed, Reason::RevokedKey]
                [self.below(4) as usize];
            let (topic, count) = ("chunk.requests".to_owned(), int(1 + self.below(3)));
            let step = RequestRejected {
                reason,
                door: "kafka".into(),
                topic: topic.clone(),
                partition: int(0),
                offset: int(n),
                count,
                record,
            };
            self.push(TraceId::rejected(&topic, 0, n), step);
            return;
        }
        let mut pick = self.below(100);
        let (mut name, .., mut purpose, mut sets, _) = CALLERS[0];
        for (caller, _, _, why, which, share) in CALLERS {
            if pick < share && self.registered.contains_key(caller) {
                (name, purpose, sets) = (caller, why, which);
                break;
            }
            pick = pick.saturating_sub(share);
        }
        let set = SETS[sets[self.below(sets.len() as u64) as usize]];
        self.story(n, name, purpose, set);
    }

    fn story(&mut self, n: u64, name: &'static str, purpose: &str, (connection, table, policy, groups, all): DataSet) {
        let columns: Vec<Column> = all.iter().copied().take(2 + self.below(all.len() as u64 - 1) as usize).collect();
        let jti = format!("jti-0123456789abcdef-{n}");
        let trace = TraceId::request(name, &jti);
        let names: Vec<&str> = columns.iter().map(|(column, ..)| *column).collect();
        let claims = json!({"iss": name, "sub": name, "aud": format!("{ORIGIN}/kafka"), "iat": START, "exp": START + 3600,
            "jti": jti, "dataset": format!("{connection}.{table}"), "columns": names, "format": "arrow", "purpose": purpose});
        let bytes =
            if self.with_payloads { token(jws::TYP_REQUEST, name, &claims) } else { claims.to_string().into_bytes() };
        let text = String::from_utf8(bytes.clone()).unwrap();
        let digest = sha256(text.rsplit_once('.').map_or(text.as_bytes(), |(input, _)| input.as_bytes()));
        let step = RequestReceived {
            door: "kafka".into(),
            topic: "chunk.requests".into(),
            partition: int(n % 4),
            offset: int(n),
            bytes: int(bytes.len() as u64),
            digest,
            request: self.keep(Class::Request, bytes),
        };
        self.push(trace, step);
        let registered = int(self.registered[name]);
        let attest = Attest::CallerSigned;
        self.push(trace, IdentityVerified { identity: id(name), kid: kid(name), alg: Alg::EdDsa, registered, attest });
        let luck = self.below(100);
        if luck < 7 {
            let (policies, reason) = match luck {
                0 | 1 => (vec!["no-exports-of-cards".to_owned()], Reason::Forbidden),
                2 => (Vec::new(), Reason::BadPurpose),
                _ => (Vec::new(), Reason::Forbidden),
            };
            self.decided(trace, Verdict::Deny, policies, None, &[], &[]);
            self.push(trace, RequestDenied { reason });
            return;
        }
        let what = Some((connection, table, purpose));
        let policies = vec![policy.to_owned()];
        if groups.is_empty() {
            self.decided(trace, Verdict::Permit, policies, what, &columns, &[]);
        } else {
            let obligations = self.decided(trace, Verdict::NeedsApproval, policies.clone(), what, &columns, groups);
            let not_after = int(self.at / 1_000_000 + 86_400);
            let owned: Vec<String> = groups.iter().map(|g| (*g).into()).collect();
            self.push(trace, ApprovalRequested { groups: owned, request: digest, obligations, not_after });
            if luck == 99 {
                return;
            }
            for group in groups {
                let asked = (n, trace, digest, obligations);
                match self.answer(asked, group, luck == 98) {
                    Some((approval, index, leaf)) => {
                        self.push(trace, ApprovalUsed { approval, index: int(index), leaf });
                    }
                    None => {
                        self.push(trace, RequestDenied { reason: Reason::ApprovalDenied });
                        return;
                    }
                }
            }
            self.decided(trace, Verdict::Permit, policies, what, &columns, groups);
        }
        if luck == 97 {
            self.query(trace, 1, connection, table, &names);
            self.push(trace, RequestFailed { reason: Reason::SourceTimeout, detail: None });
            return;
        }
        let aborted = luck == 96;
        if aborted {
            self.attempt(trace, 1, name, connection, table, &columns);
            self.push(trace, DeliveryAborted { attempt: int(1), reason: Reason::NotDelivered });
        }
        let attempt = 1 + u64::from(aborted);
        self.attempt(trace, attempt, name, connection, table, &columns);
        let (status_partition, status_offset) = (int(0), int(n + 7));
        self.push(trace, DeliveryCommitted { attempt: int(attempt), status_partition, status_offset });
        self.push(trace, RequestCompleted { attempt: int(attempt) });
    }

    fn decided(
        &mut self,
        trace: TraceId,
        verdict: Verdict,
        policies: Vec<String>,
        what: Option<(&str, &str, &str)>,
        columns: &[Column],
        approval: &[&str],
    ) -> Hash {
        let list = columns.iter().map(|(column, class, rule)| DecidedColumn {
            column: (*column).into(),
            class: (*class).into(),
            rule: (*rule).into(),
            paths: Vec::new(),
        });
        let columns: Vec<DecidedColumn> = list.collect();
        let text = format!(
            r#"{{"columns":{},"rows":null,"limit":{{"rows":100,"bytes":1000,"seconds":10}}}}"#,
            serde_json::to_string(&columns).unwrap()
        );
        let obligations = sha256(text.as_bytes());
        let step = PolicyDecided {
            verdict,
            policies,
            policy: self.policy,
            catalog: self.catalog,
            time: int(self.at / 1_000_000),
            connection: what.map(|(connection, ..)| connection.into()),
            table: what.map(|(_, table, _)| table.into()),
            purpose: what.map(|(.., purpose)| purpose.into()),
            columns,
            approval: approval.iter().map(|g| (*g).into()).collect(),
            obligations,
            document: self.keep(Class::Query, format!(r#"{{"obligations":{text},"plan":null}}"#)),
        };
        self.push(trace, step);
        obligations
    }

    fn answer(
        &mut self,
        (n, request, digest, obligations): (u64, TraceId, Hash, Hash),
        group: &str,
        no: bool,
    ) -> Option<(TraceId, u64, Hash)> {
        let who: Vec<&'static str> =
            PEOPLE.iter().filter(|(_, groups)| groups.contains(&group)).map(|(n, _)| *n).collect();
        // Nobody approves what an agent of his own asks for.
        let by = who[n as usize % who.len()];
        let by = if by == "dana" { who[who.len() - 1] } else { by };
        let jti = format!("jti-0123456789abcdef-{n}-{group}");
        let trace = TraceId::approval(by, &jti);
        let now = self.at / 1_000_000;
        let reason = self.keep(Class::Approval, format!("reason {n}"));
        let decision = if no { "deny" } else { "grant" };
        let claims = json!({"iss": by, "sub": by, "aud": format!("{ORIGIN}/approvals"), "iat": now, "nbf": now,
            "exp": now + 7200, "jti": jti, "decision": decision, "request": request.0, "digest": digest,
            "obligations": obligations, "reason": reason});
        let bytes =
            if self.with_payloads { token(jws::TYP_APPROVAL, by, &claims) } else { claims.to_string().into_bytes() };
        let token = self.keep(Class::Approval, bytes);
        let (identity, kid, registered) = (id(by), kid(by), int(self.registered[by]));
        let groups = vec![group.to_owned()];
        if no {
            self.push(
                trace,
                ApprovalDenied { request, digest, obligations, identity, kid, registered, groups, reason, token },
            );
            return None;
        }
        let step = ApprovalGranted {
            request,
            digest,
            obligations,
            identity,
            kid,
            registered,
            groups,
            signed_at: int(now),
            not_before: int(now),
            not_after: int(now + 7200),
            reason,
            token,
        };
        let index = self.push(trace, step);
        Some((trace, index, self.heads[&trace].1))
    }

    fn query(&mut self, trace: TraceId, attempt: u64, connection: &str, table: &str, columns: &[&str]) {
        let statement =
            self.keep(Class::Query, format!("select {} from {table} -- {trace} {attempt}", columns.join(", ")));
        let step = SourceQueried {
            attempt: int(attempt),
            connection: connection.into(),
            table: table.into(),
            columns: columns.iter().map(|c| (*c).into()).collect(),
            snapshot: "1:1:".into(),
            statement,
        };
        self.push(trace, step);
    }

    fn attempt(&mut self, trace: TraceId, attempt: u64, name: &str, connection: &str, table: &str, columns: &[Column]) {
        let names: Vec<&str> = columns.iter().map(|(column, ..)| *column).collect();
        self.query(trace, attempt, connection, table, &names);
        let rows = 20 + self.below(480);
        let account = columns.iter().map(|(column, class, rule)| {
            let changed = if *rule == "clear" { 0 } else { rows - rows / 9 };
            MaskedColumn {
                column: (*column).into(),
                class: (*class).into(),
                rule: (*rule).into(),
                transform: (*rule).into(),
                seen: int(rows),
                changed: int(changed),
                hits: Vec::new(),
                paths: Vec::new(),
            }
        });
        let step = ChunkMasked { attempt: int(attempt), rows: int(rows), columns: account.collect(), rows_root: None };
        self.push(trace, step);
        let step = DeliveryIntended {
            attempt: int(attempt),
            chunk: Payload::new(Class::Chunk, format!("{trace} {attempt}")).commitment(),
            parts: int(1),
            bytes: int(rows * 40 * columns.len() as u64),
            format: "arrow".into(),
            to: id(name),
            destination: self.keep(Class::Delivery, format!("chunk.masked.{name}")),
            status_partition: int(0),
            status_offset: int(0),
        };
        self.push(trace, step);
    }
}
