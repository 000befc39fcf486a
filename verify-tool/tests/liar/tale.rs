//! True stories: a ledger's beginning, and requests with every outcome, told at random and all at once. A seed tells the same
//! tale again.

use crate::forge::*;
use serde_json::{Value, json};

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Everybody's registration ends here.
pub(crate) const END: u64 = START + 30 * 86_400;
pub(crate) const POLICIES: [&str; 2] =
    ["permit (principal, action, resource);", "// two\npermit (principal, action, resource);"];
pub(crate) const CATALOG: &str = "purposes = [\"support\"]\n";

/// Who there is: name, kind, groups, owner, the one it acts for.
type Person = (&'static str, &'static str, &'static [&'static str], Option<&'static str>, Option<&'static str>);

pub(crate) const PEOPLE: [Person; 10] = [
    ("reports", "service", &[], None, None),
    ("nightly", "workload", &[], None, None),
    ("olga", "human", &["stewards"], None, None),
    ("petra", "human", &["privacy"], None, None),
    ("agent", "agent", &[], Some("olga"), Some("petra")),
    ("anna", "human", &["stewards"], None, None),
    ("boris", "human", &["privacy"], None, None),
    ("carol", "human", &["others"], None, None),
    ("shadow", "agent", &["stewards"], Some("petra"), None),
    ("leaver", "service", &[], None, None),
];

pub(crate) const CALLERS: [&str; 3] = ["reports", "nightly", "agent"];

/// A column, its class, its rule, and whether the rule replaces every cell.
type Column = (&'static str, &'static str, &'static str, bool);

const COLUMNS: [Column; 6] = [
    ("id", "key", "clear", false),
    ("email", "pii.email", "email", false),
    ("iban", "fin.iban", "keep_last(4)", false),
    ("note", "text", "redact", true),
    ("born", "pii.date", "null", true),
    ("country", "public", "clear", false),
];

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The label's first part, unique.
    pub(crate) name: String,
    /// What becomes of it.
    pub(crate) fate: &'static str,
    pub(crate) caller: &'static str,
    pub(crate) columns: Vec<Column>,
    pub(crate) groups: Vec<&'static str>,
    pub(crate) format: &'static str,
    pub(crate) rows: u64,
}

impl Ask {
    pub(crate) fn label(&self, step: &str) -> String {
        format!("{}/{step}", self.name)
    }

    /// 32 hexadecimal digits that name a trace.
    pub(crate) fn jti(&self) -> String {
        hex(&sha(&[self.name.as_bytes()]))[..32].to_owned()
    }

    pub(crate) fn trace(&self) -> Hash {
        tagged("trace/request", &[self.caller.as_bytes(), self.jti().as_bytes()])
    }

    pub(crate) fn claims(&self) -> Value {
        let columns: Vec<&str> = self.columns.iter().map(|c| c.0).collect();
        let mut claims = json!({"iss": self.caller, "sub": self.caller, "aud": format!("{ORIGIN}/kafka"), "iat": START,
            "exp": START + 3600, "jti": self.jti(), "dataset": "shop.customers", "columns": columns, "limit": 1000,
            "format": self.format, "purpose": "support"});
        if self.caller == "agent" {
            claims["on_behalf_of"] = json!("petra");
        }
        claims
    }

    /// What is signed, and the token.
    pub(crate) fn token(&self) -> (String, String) {
        token("request", &kid(self.caller), self.caller, &self.claims())
    }

    pub(crate) fn digest(&self) -> Hash {
        sha(&[self.token().0.as_bytes()])
    }

    pub(crate) fn obligations(&self) -> String {
        let columns = self.columns.iter().filter(|_| self.fate != "denied");
        let columns: Vec<Value> = columns.map(|c| json!({"column": c.0, "class": c.1, "rule": c.2})).collect();
        format!(r#"{{"columns":{},"rows":null,"limit":{{"rows":500,"bytes":100000,"seconds":10}}}}"#, json!(columns))
    }

    pub(crate) fn grant_label(&self, by: &str) -> String {
        self.label(&format!("granted-{by}"))
    }

    pub(crate) fn answer_trace(&self, by: &str, what: &str) -> Hash {
        tagged("trace/approval", &[by.as_bytes(), self.answer_jti(by, what).as_bytes()])
    }

    fn answer_jti(&self, by: &str, what: &str) -> String {
        hex(&sha(&[self.name.as_bytes(), by.as_bytes(), what.as_bytes()]))[..32].to_owned()
    }

    /// A person's token: `grant`, `deny` or `revoke`.
    pub(crate) fn answer(&self, by: &str, hand: &str, what: &str, more: &[(&str, Value)]) -> String {
        let request = if what == "revoke" { self.answer_trace(by, "grant") } else { self.trace() };
        let (reason, _) = commitment("approval", self.reason(by).as_bytes());
        let mut claims = json!({"iss": by, "sub": by, "aud": format!("{ORIGIN}/approvals"), "iat": START, "nbf": START,
            "exp": START + 7200, "jti": self.answer_jti(by, what), "decision": what, "request": hex(&request),
            "digest": hex(&self.digest()), "obligations": hex(&sha(&[self.obligations().as_bytes()])),
            "reason": hex(&reason)});
        more.iter().for_each(|(name, value)| claims[*name] = value.clone());
        token("approval", &kid(by), hand, &claims).1
    }

    fn reason(&self, by: &str) -> String {
        format!("{by} looked at {}", self.name)
    }

    // --- Events ---

    fn event(&self, step: &str, kind: &'static str, body: Body) -> Event {
        Event::new(self.label(step), self.trace(), kind, body)
    }

    pub(crate) fn received(&self) -> Event {
        let (token, offset) = (self.token().1, u64::from(self.trace()[0]));
        let body = vec![
            ("door", text("kafka")),
            ("topic", text("chunk.requests")),
            ("partition", J::Int(0)),
            ("offset", J::Int(offset)),
            ("bytes", J::Int(token.len() as u64)),
            ("digest", hash(self.digest())),
            ("request", J::Commit("request", token.into_bytes())),
        ];
        self.event("received", "request.received", body)
    }

    pub(crate) fn verified(&self) -> Event {
        let body = vec![
            ("identity", text(id(self.caller))),
            ("kid", text(kid(self.caller))),
            ("alg", text("EdDSA")),
            ("registered", J::Index(self.caller.into())),
            ("attest", text("caller-signed")),
        ];
        self.event("verified", "identity.verified", body)
    }

    pub(crate) fn decided(&self, step: &str, verdict: &str) -> Event {
        let column = |c: &Column| J::Object(vec![("column", text(c.0)), ("class", text(c.1)), ("rule", text(c.2))]);
        let yes = verdict != "deny";
        let mut body = vec![
            ("verdict", text(verdict)),
            ("policies", texts(&["policy0"])),
            ("policy", J::InForce("policy")),
            ("catalog", J::InForce("catalog")),
            ("time", J::Now),
        ];
        if yes {
            body.extend([("connection", text("shop")), ("table", text("customers")), ("purpose", text("support"))]);
        }
        let document = format!(r#"{{"obligations":{},"plan":null}}"#, self.obligations());
        body.extend([
            ("columns", J::List(self.columns.iter().filter(|_| yes).map(column).collect())),
            ("approval", texts(&self.groups)),
            ("obligations", hash(sha(&[self.obligations().as_bytes()]))),
            ("document", J::Commit("query", document.into_bytes())),
        ]);
        self.event(step, "policy.decided", body)
    }

    pub(crate) fn asked(&self) -> Event {
        let body = vec![
            ("groups", texts(&self.groups)),
            ("request", hash(self.digest())),
            ("obligations", hash(sha(&[self.obligations().as_bytes()]))),
            ("not_after", J::Int(START + 86_400)),
        ];
        self.event("asked", "approval.requested", body)
    }

    /// A yes (`grant`) or a no (`deny`), for these groups.
    pub(crate) fn answered(&self, what: &'static str, by: &'static str, groups: &[&str]) -> Event {
        let mut body = vec![
            ("request", hash(self.trace())),
            ("digest", hash(self.digest())),
            ("obligations", hash(sha(&[self.obligations().as_bytes()]))),
            ("identity", text(id(by))),
            ("kid", text(kid(by))),
            ("registered", J::Index(by.into())),
            ("groups", texts(groups)),
        ];
        if what == "grant" {
            body.extend([
                ("signed_at", J::Int(START)),
                ("not_before", J::Int(START)),
                ("not_after", J::Int(START + 7200)),
            ]);
        }
        body.extend([
            ("reason", J::Commit("approval", self.reason(by).into_bytes())),
            ("token", J::Commit("approval", self.answer(by, by, what, &[]).into_bytes())),
        ]);
        let (label, kind) = match what {
            "grant" => (self.grant_label(by), "approval.granted"),
            _ => (self.label(&format!("denied-{by}")), "approval.denied"),
        };
        Event::new(label, self.answer_trace(by, what), kind, body)
    }

    /// Somebody takes back what `giver` gave.
    pub(crate) fn taken_back(&self, giver: &str, by: &'static str) -> Event {
        let token = self.answer(by, by, "revoke", &[("request", json!(hex(&self.answer_trace(giver, "grant"))))]);
        let body = vec![
            ("identity", text(id(by))),
            ("kid", text(kid(by))),
            ("registered", J::Index(by.into())),
            ("token", J::Commit("approval", token.into_bytes())),
        ];
        let label = self.label(&format!("revoked-{giver}"));
        Event::new(label, self.answer_trace(giver, "grant"), "approval.revoked", body)
    }

    pub(crate) fn used(&self, by: &str) -> Event {
        let grant = self.grant_label(by);
        let body = vec![
            ("approval", hash(self.answer_trace(by, "grant"))),
            ("index", J::Index(grant.clone())),
            ("leaf", J::Leaf(grant)),
        ];
        self.event(&format!("used-{by}"), "approval.used", body)
    }

    pub(crate) fn queried(&self, attempt: u64) -> Event {
        let columns: Vec<&str> = self.columns.iter().map(|c| c.0).collect();
        let body = vec![
            ("attempt", J::Int(attempt)),
            ("connection", text("shop")),
            ("table", text("customers")),
            ("columns", texts(&columns)),
            ("snapshot", text("1:1:")),
            ("statement", J::Commit("query", format!("select … -- {} {attempt}", self.name).into_bytes())),
        ];
        self.event(&format!("queried-{attempt}"), "source.queried", body)
    }

    pub(crate) fn masked(&self, attempt: u64) -> Event {
        let column = |c: &Column| {
            let changed = match c {
                (_, _, "clear", _) => 0,
                (.., true) => self.rows,
                _ => self.rows / 2,
            };
            let (column, class, rule) = (text(c.0), text(c.1), text(c.2));
            let counts = [("transform", text(c.2)), ("seen", J::Int(self.rows)), ("changed", J::Int(changed))];
            J::Object([("column", column), ("class", class), ("rule", rule)].into_iter().chain(counts).collect())
        };
        let body = vec![
            ("attempt", J::Int(attempt)),
            ("rows", J::Int(self.rows)),
            ("columns", J::List(self.columns.iter().map(column).collect())),
        ];
        self.event(&format!("masked-{attempt}"), "chunk.masked", body)
    }

    pub(crate) fn intended(&self, attempt: u64) -> Event {
        let body = vec![
            ("attempt", J::Int(attempt)),
            ("chunk", J::Commit("chunk", self.name.clone().into_bytes())),
            ("parts", J::Int(1)),
            ("bytes", J::Int(100)),
            ("format", text(self.format)),
            ("to", text(id(self.caller))),
            ("destination", J::Commit("delivery", format!("chunk.masked.{}", self.caller).into_bytes())),
            ("status_partition", J::Int(2)),
            ("status_offset", J::Int(10)),
        ];
        self.event(&format!("intended-{attempt}"), "delivery.intended", body)
    }

    pub(crate) fn committed(&self, attempt: u64) -> Event {
        let body = vec![("attempt", J::Int(attempt)), ("status_partition", J::Int(2)), ("status_offset", J::Int(11))];
        self.event(&format!("committed-{attempt}"), "delivery.committed", body)
    }

    pub(crate) fn aborted(&self, attempt: u64) -> Event {
        let body = vec![("attempt", J::Int(attempt)), ("reason", text("not_delivered"))];
        self.event(&format!("aborted-{attempt}"), "delivery.aborted", body)
    }

    pub(crate) fn completed(&self, attempt: u64) -> Event {
        self.event("end", "request.completed", vec![("attempt", J::Int(attempt))])
    }

    pub(crate) fn denied(&self, reason: &str) -> Event {
        self.event("end", "request.denied", vec![("reason", text(reason))])
    }

    pub(crate) fn failed(&self, reason: &str) -> Event {
        let detail = J::Commit("detail", format!("detail of {}", self.name).into_bytes());
        self.event("end", "request.failed", vec![("reason", text(reason)), ("detail", detail)])
    }

    /// The last attempt, from its query to the end.
    fn delivered(&self, attempt: u64) -> Vec<Event> {
        vec![
            self.queried(attempt),
            self.masked(attempt),
            self.intended(attempt),
            self.committed(attempt),
            self.completed(attempt),
        ]
    }

    /// The whole story, as its fate has it.
    pub(crate) fn story(&self) -> Vec<Event> {
        match self.fate {
            "rejected" => return vec![self.rejected()],
            "reidentified" => return vec![self.reidentified(&[])],
            "not-reidentified" => return vec![self.not_reidentified()],
            "sampled" => return vec![self.sampled("root")],
            "held" => return vec![self.held(), self.released()],
            "read" => return vec![self.read()],
            "purged" => return vec![self.purged()],
            "exported" => return vec![self.exported()],
            _ => {}
        }
        let mut events = vec![self.received(), self.verified()];
        let asks = || vec![self.decided("decided", "needs_approval"), self.asked()];
        let givers: Vec<&'static str> = self.groups.iter().map(|group| giver(group)).collect();
        let granted = || givers.iter().zip(&self.groups).map(|(by, group)| self.answered("grant", by, &[group]));
        match self.fate {
            "delivered" => {
                events.push(self.decided("decided", "permit"));
                events.extend(self.delivered(1));
            }
            "attested" => {
                events[0].set("door", text("http"));
                events[1].set("attest", text("service-attested"));
                events.push(self.decided("decided", "permit"));
                events.extend(self.delivered(1));
            }
            "aborted" => {
                events.push(self.decided("decided", "permit"));
                events.extend([self.queried(1), self.masked(1), self.intended(1), self.aborted(1)]);
                events.push(self.queried(2));
                events.extend(self.delivered(3));
            }
            "denied" => events.extend([self.decided("decided", "deny"), self.denied("forbidden")]),
            "failed" => {
                events.extend([self.decided("decided", "permit"), self.queried(1), self.failed("source_timeout")]);
            }
            "approved" => {
                events.extend(asks());
                events.extend(granted());
                events.extend(givers.iter().map(|by| self.used(by)));
                events.push(self.decided("settled", "permit"));
                events.extend(self.delivered(1));
            }
            "refused" => {
                events.extend(asks());
                events.extend([self.answered("deny", givers[0], &[self.groups[0]]), self.denied("approval_denied")]);
            }
            "taken-back" => {
                events.extend(asks());
                events.extend(granted());
                events.extend([self.taken_back(givers[0], givers[0]), self.failed("approval_expired")]);
            }
            "waiting" => events.extend(asks()),
            "open" => {
                events.push(self.decided("decided", "permit"));
                events.extend([self.queried(1), self.masked(1), self.intended(1)]);
            }
            fate => panic!("no fate `{fate}`"),
        }
        events
    }

    /// The caller's request for the values behind tokens, and what it opens.
    pub(crate) fn reidentify_claims(&self) -> Value {
        let [tokens, reason] = [self.tokens(), self.reason(self.caller)];
        let committed = |text: &str| hex(&commitment("reidentify", text.as_bytes()).0);
        let mut claims = json!({"iss": self.caller, "sub": self.caller, "aud": format!("{ORIGIN}/http"), "iat": START,
            "exp": START + 300, "jti": self.jti(), "dataset": "shop.customers", "column": "iban", "purpose": "support",
            "tokens": committed(&tokens), "reason": committed(&reason)});
        if self.caller == "agent" {
            claims["on_behalf_of"] = json!("petra");
        }
        claims
    }

    fn tokens(&self) -> String {
        json!(["t1", "t2", self.name]).to_string()
    }

    fn reidentify_trace(&self) -> Hash {
        tagged("trace/reidentify", &[self.caller.as_bytes(), self.jti().as_bytes()])
    }

    /// Values were given back for tokens, on a request with other claims than the true ones.
    pub(crate) fn reidentified(&self, more: &[(&str, Value)]) -> Event {
        let mut claims = self.reidentify_claims();
        more.iter().for_each(|(name, value)| claims[*name] = value.clone());
        let (input, token) = token("reidentify", &kid(self.caller), self.caller, &claims);
        let body = vec![
            ("digest", hash(sha(&[input.as_bytes()]))),
            ("request", J::Commit("request", token.into_bytes())),
            ("identity", text(id(self.caller))),
            ("kid", text(kid(self.caller))),
            ("registered", J::Index(self.caller.into())),
            ("verdict", text("permit")),
            ("policies", texts(&["policy0"])),
            ("policy", J::InForce("policy")),
            ("catalog", J::InForce("catalog")),
            ("time", J::Now),
            ("connection", text("shop")),
            ("table", text("customers")),
            ("column", text("iban")),
            ("rule", text("token(iban)")),
            ("purpose", text("support")),
            ("count", J::Int(3)),
            ("tokens", J::Commit("reidentify", self.tokens().into_bytes())),
            ("reason", J::Commit("reidentify", self.reason(self.caller).into_bytes())),
        ];
        Event::new(self.label("answer"), self.reidentify_trace(), "reidentify.decided", body)
    }

    /// That was refused.
    fn not_reidentified(&self) -> Event {
        let mut event = self.reidentified(&[]);
        event.body.retain(|(name, _)| !["connection", "table", "column", "rule", "purpose"].contains(name));
        event.set("verdict", text("deny"));
        event.body.insert(6, ("refusal", text("forbidden")));
        event
    }

    /// An admin looked into a table.
    pub(crate) fn sampled(&self, by: &'static str) -> Event {
        let body = vec![
            ("sample", text(self.jti())),
            ("identity", text(id(by))),
            ("kid", text(kid(by))),
            ("registered", J::Index(by.into())),
            ("connection", text("shop")),
            ("table", text("customers")),
            ("columns", texts(&["id", "email"])),
            ("rows", J::Int(100)),
            ("snapshot", text("1:1:")),
            ("statement", J::Commit("query", format!("select … -- {}", self.name).into_bytes())),
        ];
        let trace = tagged("trace/sample", &[self.jti().as_bytes()]);
        Event::new(self.label("sample"), trace, "source.sampled", body)
    }

    fn hold(&self) -> String {
        self.jti()[..16].to_owned()
    }

    /// A legal hold begins.
    pub(crate) fn held(&self) -> Event {
        let body = vec![
            ("hold", text(self.hold())),
            ("traces", texts(&[hex(&[3; 32]), hex(&self.trace()).replacen(|_| true, "f", 1)])),
            ("reason", J::Commit("admin", format!("why {} is held", self.name).into_bytes())),
        ];
        Event::new(self.label("held"), tagged("trace/hold", &[self.hold().as_bytes()]), "payload.held", body)
    }

    /// It ends.
    pub(crate) fn released(&self) -> Event {
        let reason = J::Commit("admin", format!("why {} is not", self.name).into_bytes());
        let trace = tagged("trace/hold", &[self.hold().as_bytes()]);
        Event::new(
            self.label("released"),
            trace,
            "payload.released",
            vec![("hold", text(self.hold())), ("reason", reason)],
        )
    }

    /// Payloads are shown to somebody.
    fn read(&self) -> Event {
        let body = vec![
            ("read", text(self.jti())),
            ("by", text(id("anna"))),
            ("why", text("approval")),
            ("of", hash(self.trace())),
            ("classes", texts(&["query", "request"])),
            ("payloads", J::Int(2)),
        ];
        Event::new(self.label("read"), tagged("trace/read", &[self.jti().as_bytes()]), "payload.read", body)
    }

    /// The payloads of a day are gone.
    fn purged(&self) -> Event {
        let counts = ["payloads", "bytes", "kept", "after_days"].map(|name| (name, J::Int(9)));
        let body = [("class", text("detail")), ("day", text("2025-01-31"))].into_iter().chain(counts).collect();
        Event::new(self.label("purged"), tagged("trace/payloads", &[b"detail", b"2025-01-31"]), "payload.purged", body)
    }

    /// Evidence was packed for somebody.
    fn exported(&self) -> Event {
        let body = vec![("by", text(id("anna"))), ("from", J::Int(START)), ("payloads", texts(&["request"]))];
        Event::new(self.label("exported"), tagged("trace/exports", &[]), "ledger.exported", body)
    }

    fn rejected(&self) -> Event {
        let offset = u64::from_be_bytes(self.trace()[..8].try_into().unwrap()) >> 12;
        let trace = tagged("trace/rejected", &[b"chunk.requests", &0u64.to_be_bytes(), &offset.to_be_bytes()]);
        let body = vec![
            ("reason", text("malformed")),
            ("door", text("kafka")),
            ("topic", text("chunk.requests")),
            ("partition", J::Int(0)),
            ("offset", J::Int(offset)),
            ("count", J::Int(1)),
            ("record", J::Commit("rejected", self.name.clone().into_bytes())),
        ];
        Event::new(self.label("rejected"), trace, "request.rejected", body)
    }
}

/// Who answers for a group.
pub(crate) fn giver(group: &str) -> &'static str {
    match group {
        "privacy" => "boris",
        _ => "anna",
    }
}

pub(crate) const FATES: [&str; 18] = [
    "delivered",
    "attested",
    "aborted",
    "denied",
    "failed",
    "approved",
    "refused",
    "taken-back",
    "waiting",
    "open",
    "rejected",
    "reidentified",
    "not-reidentified",
    "sampled",
    "held",
    "read",
    "purged",
    "exported",
];

// --- Administration ---

pub(crate) fn signed(by: &[&'static str], change: Value) -> J {
    let times = (START, START + 3600);
    J::Signed(Box::new(Signatures { change, by: by.to_vec(), hand: None, another: false, times, after: None }))
}

/// The record of an identity.
fn record((name, kind, groups, owner, on_behalf_of): &Person, admin: bool, possession: &str) -> Value {
    let mut record = json!({"name": name, "pseudonym": id(name), "kind": kind, "admin": admin, "groups": groups,
        "alg": "EdDSA", "key": key_text(name), "not_after": END, "possession": possession});
    for (what, other) in [("owner", owner), ("on_behalf_of", on_behalf_of)] {
        if let Some(other) = other {
            record[what] = json!(other);
        }
    }
    record
}

/// A proof of possession, by whose hand and with which times.
pub(crate) fn possession(name: &str, hand: &str, iat: u64, exp: u64) -> String {
    let claims = json!({"iss": name, "sub": name, "aud": format!("{ORIGIN}/admin"), "iat": iat, "exp": exp,
        "jti": "0123456789abcdef0123456789abcdef", "kid": kid(name)});
    token("possession", &kid(name), hand, &claims).1
}

pub(crate) fn registered(person: &Person, admin: bool, by: Option<&[&'static str]>) -> Event {
    let (name, kind, groups, owner, on_behalf_of) = *person;
    let possession = possession(name, name, START, START + 86_400);
    let record = record(person, admin, &possession);
    let mut body =
        vec![("identity", text(id(name))), ("kind", text(kind)), ("admin", J::Bool(admin)), ("groups", texts(groups))];
    for (what, other) in [("owner", owner), ("on_behalf_of", on_behalf_of)] {
        body.extend(other.map(|other| (what, text(id(other)))));
    }
    body.extend([
        ("alg", text("EdDSA")),
        ("key", text(key_text(name))),
        ("kid", text(kid(name))),
        ("not_after", J::Int(END)),
        ("possession", J::Commit("identity", possession.into_bytes())),
        ("record", J::Commit("identity", record.to_string().into_bytes())),
    ]);
    if let Some(by) = by {
        let mut change = record;
        change["op"] = json!("register_identity");
        body.push(("signed", signed(by, change)));
    }
    Event::new(name, tagged("trace/identity", &[id(name).as_bytes()]), "identity.registered", body)
}

pub(crate) fn revoked(by: &[&'static str], name: &str) -> Event {
    let change = json!({"op": "revoke_identity", "name": name, "reason": "left"});
    let body = vec![("identity", text(id(name))), ("reason", text("left")), ("signed", signed(by, change))];
    let trace = tagged("trace/identity", &[id(name).as_bytes()]);
    Event::new(format!("revoked-{name}"), trace, "identity.revoked", body)
}

pub(crate) fn regrouped(by: &[&'static str], name: &str, groups: &[&str]) -> Event {
    let change = json!({"op": "set_groups", "name": name, "groups": groups});
    let body = vec![("identity", text(id(name))), ("groups", texts(groups)), ("signed", signed(by, change))];
    let trace = tagged("trace/identity", &[id(name).as_bytes()]);
    Event::new(format!("groups-{name}"), trace, "groups.changed", body)
}

/// Version `version` of the `policy` or `catalog`.
pub(crate) fn texted(by: &[&'static str], what: &'static str, version: u64, content: &str) -> Event {
    let op = format!("set_{what}");
    let body = vec![
        ("version", J::Int(version)),
        ("digest", hash(sha(&[content.as_bytes()]))),
        ("document", J::Commit("config", content.into())),
        ("signed", signed(by, json!({"op": op, "text": content}))),
    ];
    let kind = if what == "policy" { "policy.changed" } else { "catalog.changed" };
    Event::new(format!("{what}-{version}"), tagged(&format!("trace/{what}"), &[]), kind, body)
}

pub(crate) fn connected(by: &[&'static str], path: &str) -> Event {
    let document = json!({"name": "shop", "store": {"kind": "folder", "path": path}});
    let mut change = document.clone();
    change["op"] = json!("set_connection");
    let body = vec![
        ("connection", text("shop")),
        ("kind", text("folder")),
        ("document", J::Commit("config", document.to_string().into_bytes())),
        ("signed", signed(by, change)),
    ];
    Event::new(format!("connection-{path}"), tagged("trace/connection", &[b"shop"]), "connection.changed", body)
}

/// A ledger's events before they are written.
#[derive(Clone)]
pub(crate) struct Tale {
    pub(crate) events: Vec<Event>,
    pub(crate) asks: Vec<Ask>,
    /// The admins who sign.
    pub(crate) admins: &'static [&'static str],
}

impl Tale {
    /// Up to where requests can come.
    pub(crate) fn beginning(admins: &'static [&'static str]) -> Self {
        let created =
            vec![("origin", text(ORIGIN)), ("key", text(log_key().0)), ("quorum", J::Int(admins.len() as u64))];
        let mut events = vec![Event::new("log", tagged("trace/log", &[]), "log.created", created)];
        events.extend(admins.iter().map(|name| registered(&(*name, "human", &[], None, None), true, None)));
        events.extend(PEOPLE.iter().map(|person| registered(person, false, Some(admins))));
        events.push(connected(admins, "data"));
        events.push(texted(admins, "catalog", 1, CATALOG));
        events.push(texted(admins, "policy", 1, POLICIES[0]));
        Self { events, asks: Vec::new(), admins }
    }

    /// A request with that fate.
    pub(crate) fn ask(dice: &mut Dice, name: String, fate: &'static str) -> Ask {
        // Always one in the clear and one masked.
        let mut columns = vec![COLUMNS[0], dice.pick(&COLUMNS[1..3])];
        columns.extend(COLUMNS[3..].iter().filter(|_| dice.below(2) == 0));
        let asks = ["approved", "refused", "taken-back", "waiting"].contains(&fate);
        let groups: &[&str] = match (asks, dice.below(2)) {
            (false, _) => &[],
            // What is told of groups that are missing needs two of them.
            (true, 0) | (true, _) if fate == "approved" => &["privacy", "stewards"],
            (true, 0) => &["stewards"],
            (true, _) => &["privacy", "stewards"],
        };
        Ask {
            name,
            fate,
            caller: dice.pick(&CALLERS),
            columns,
            groups: groups.to_vec(),
            format: dice.pick(&["arrow", "jsonl"]),
            rows: dice.below(400) as u64 + 2,
        }
    }

    /// A whole ledger, with each fate once or more, all under way at once.
    pub(crate) fn random(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let admins: &'static [&'static str] = if dice.below(3) == 0 { &["root", "ruth"] } else { &["root"] };
        let mut tale = Self::beginning(admins);
        for fate in FATES {
            for n in 0..1 + dice.below(2) {
                tale.asks.push(Self::ask(&mut dice, format!("{fate}{n}"), fate));
            }
        }
        let mut threads: Vec<Vec<Event>> = tale.asks.iter().map(Ask::story).collect();
        let mut leaver = Self::ask(&mut dice, "leaver-asks".into(), "delivered");
        leaver.caller = "leaver";
        threads.push(leaver.story().into_iter().chain([revoked(admins, "leaver")]).collect());
        tale.asks.push(leaver);
        threads.push(vec![texted(admins, "policy", 2, POLICIES[1]), connected(admins, "more")]);
        threads.push(vec![regrouped(admins, "carol", &["others", "readers"]), regrouped(admins, "carol", &["others"])]);
        tale.weave(&mut dice, threads);
        tale
    }

    /// Lets stories happen at the same time, each in its own order.
    pub(crate) fn weave(&mut self, dice: &mut Dice, threads: Vec<Vec<Event>>) {
        let mut threads: Vec<_> = threads.into_iter().map(Vec::into_iter).filter(|t| t.len() > 0).collect();
        while !threads.is_empty() {
            let at = dice.below(threads.len());
            let mut event = threads[at].next().unwrap();
            event.after = dice.below(2) as u64;
            self.events.push(event);
            if threads[at].len() == 0 {
                threads.swap_remove(at);
            }
        }
    }

    pub(crate) fn at(&self, label: &str) -> usize {
        self.events.iter().position(|e| e.label == label).unwrap_or_else(|| panic!("no event `{label}`"))
    }

    pub(crate) fn event(&mut self, label: &str) -> &mut Event {
        let at = self.at(label);
        &mut self.events[at]
    }

    pub(crate) fn remove(&mut self, label: &str) -> Event {
        let at = self.at(label);
        self.events.remove(at)
    }

    /// Puts events before another.
    pub(crate) fn before(&mut self, label: &str, events: impl IntoIterator<Item = Event>) {
        let at = self.at(label);
        self.events.splice(at..at, events);
    }

    pub(crate) fn write(&self, ledger: &mut Ledger) {
        self.events.iter().for_each(|event| ledger.write(event));
    }
}
