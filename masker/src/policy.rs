//! Policies: Cedar texts, validated strictly against a built-in schema when they are loaded, and the annotations that attach
//! obligations to their permits. Evaluating them is pure; the time is an argument.
//!
//! ```cedar
//! entity Group;
//! entity Identity in [Group];
//! entity Ledger;
//! entity Connection;
//! entity Table in [Connection];                    // Table::"shop.customers"
//! entity Column in [Table] { class: String };      // Column::"shop.customers.email"
//!
//! action read, read_clear appliesTo { principal: Identity, resource: Column, context: { purpose: String, …} };
//! action approve          appliesTo { principal: Identity, resource: Table };
//! action reidentify       appliesTo { principal: Identity, resource: Column, context: { purpose: String, …} };
//! action audit            appliesTo { principal: Identity, resource: [Ledger, Connection, Table] };
//! ```
//!
//! Every context has `time` (a Cedar `datetime`, UTC, whole seconds), `door` and, if the identity acts for another,
//! `on_behalf_of`; reading and re-identifying have `purpose` beside them, the latter the one that the tokens were made for. The
//! one ledger is `Ledger::"ledger"`.
//!
//! | annotation | on | meaning |
//! | --- | --- | --- |
//! | `@id("name")` | any policy | its name in decisions; 1 to 64 of `A-Z a-z 0-9 _ . -`; without it, `policy0`, `policy1`, … by place |
//! | `@approval("group")` | permits to read | someone of this group must approve |
//! | `@mask("rule")` | permits to `read` | this mask takes the place of the catalog's |
//! | `@rows("filter")` | permits to read | only these rows, in the language of [`filter`] |
//! | `@limit("rows=1000, bytes=1000000, seconds=10")` | permits to read | at most so much in one chunk; any of the three |
//! | `@limit("rate=20/hour")` | permits to read | an identity's requests that rest on it, in any hour (or `minute`); together with any of those |
//!
//! *Permits to read* are those whose scope names `read`, `read_clear` or both; annotations on a policy that could also say
//! something about another action, on a `forbid`, or of another name are errors, and so is `@mask` on a permit that
//! includes `read_clear`: nothing is ignored. So are templates, two policies of one name, whatever Cedar's validator calls
//! an error, and its warnings about a policy that can never apply.

use crate::catalog::{Limits, MAX_NUMBER};
use crate::civil;
use crate::filter;
use crate::load::{LoadError, Source};
use crate::transform::Mask;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    Policy, PolicyId, PolicySet, Request, ResourceConstraint, RestrictedExpression, Schema, ValidationMode,
    ValidationWarning, Validator,
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const SCHEMA: &str = "
entity Group;
entity Identity in [Group];
entity Ledger;
entity Connection;
entity Table in [Connection];
entity Column in [Table] { class: String };
action read, read_clear appliesTo {
    principal: Identity, resource: Column,
    context: { purpose: String, time: datetime, door: String, on_behalf_of?: String }
};
action approve appliesTo {
    principal: Identity, resource: Table, context: { time: datetime, door: String, on_behalf_of?: String }
};
action reidentify appliesTo {
    principal: Identity, resource: Column,
    context: { purpose: String, time: datetime, door: String, on_behalf_of?: String }
};
action audit appliesTo {
    principal: Identity, resource: [Ledger, Connection, Table],
    context: { time: datetime, door: String, on_behalf_of?: String }
};
";

/// Who asks, as the service has established it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The identity's registered name, `Identity::"…"` in policies.
    pub id: String,
    /// The groups it is in, `Group::"…"` in policies.
    pub groups: Vec<String>,
    /// The identity it acts for, if it is an agent that says so.
    pub on_behalf_of: Option<String>,
    /// The door the request came in by, such as `kafka`.
    pub door: String,
    /// When the request is judged, in seconds since 1970-01-01 UTC.
    pub time: u64,
}

/// What rights are about, apart from columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Answer requests that need an approval, on a table.
    Approve,
    /// See entries and evidence, of the ledger or of what concerns a connection or table.
    Audit,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Audit => "audit",
        }
    }
}

/// What a right is asked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The ledger as a whole.
    Ledger,
    /// A connection.
    Connection(&'a str),
    /// A table of a connection.
    Table(&'a str, &'a str),
}

/// A right couldn't be decided: policies failed at evaluation, or action and resource don't go together. It counts as no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the right could not be evaluated")]
pub struct PolicyFault {
    /// The names of the policies that failed, sorted.
    pub policies: Vec<String>,
}

/// Loaded policies.
#[derive(Debug, Clone)]
pub struct Policies {
    set: PolicySet,
    schema: Schema,
    terms: BTreeMap<String, Terms>,
    reads_time: bool,
    digest: [u8; 32],
}

/// What the annotations of a permit to read demand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) approval: Option<String>,
    pub(crate) mask: Option<Mask>,
    pub(crate) rows: Option<filter::Expr>,
    pub(crate) limit: Option<Limits>,
    pub(crate) rate: Option<Rate>,
}

/// How often an identity may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many requests at most …
    pub requests: u64,
    /// … in any so many seconds.
    pub seconds: u64,
}

impl Policies {
    /// Loads policies from `text`; `file` names it in errors. An empty text is valid and permits nothing.
    ///
    /// # Errors
    /// [`LoadError`] with the line of the first thing that is wrong, see the module's doc.
    pub fn parse(file: &str, text: &str) -> Result<Self, LoadError> {
        let source = Source { file, text };
        let schema = schema(source)?;
        let parsed: PolicySet = text.parse().map_err(|errors| located(source, &DetailedError::from(&errors), 0))?;
        let mut policies = parsed.policies().collect::<Vec<_>>();
        policies.sort_by_key(|policy| place_in_text(policy.id()));

        let mut set = PolicySet::new();
        let mut terms = BTreeMap::new();
        let mut starts = HashMap::new();
        let mut reads_time = false;
        let mut end = 0;
        for policy in policies {
            // Policies stand in the text one after the other, and Cedar keeps the text of each.
            let text_of_policy = policy.to_cedar().unwrap_or_default();
            let start = text.get(end..).and_then(|rest| rest.find(&text_of_policy)).map_or(end, |offset| end + offset);
            end = start + text_of_policy.len();
            let annotated = Annotated { source, policy, text: &text_of_policy, start };

            let id = annotated.id()?;
            if terms.insert(id.clone(), annotated.terms()?).is_some() {
                return Err(annotated.error("id", format!("two policies are named `{id}`")));
            }
            reads_time |= policy.to_json().map_or(true, |json| mentions_time(&json));
            let id = PolicyId::new(id);
            set.add(policy.new_id(id.clone())).map_err(|error| source.error(start, error.to_string()))?;
            starts.insert(id, start);
        }
        if parsed.templates().next().is_some() {
            let position = text.find("?principal").or_else(|| text.find("?resource")).unwrap_or(0);
            return Err(source.error(position, "templates are not supported"));
        }
        validate(source, &schema, &set, &starts)?;
        Ok(Self { set, schema, terms, reads_time, digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// SHA-256 of the text.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whether any policy reads the time, so that decisions can differ from one second to the next.
    pub fn reads_time(&self) -> bool {
        self.reads_time
    }

    /// The policies' names, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.terms.keys().map(String::as_str)
    }

    /// The rate of the policy of that name, where it has one.
    pub fn rate(&self, id: &str) -> Option<Rate> {
        self.terms.get(id)?.rate
    }

    /// The longest time over which a policy counts requests, in seconds; nothing where none does.
    pub fn longest_rate(&self) -> Option<u64> {
        self.terms.values().filter_map(|terms| Some(terms.rate?.seconds)).max()
    }

    pub(crate) fn terms(&self, id: &str) -> Option<&Terms> {
        self.terms.get(id)
    }
}

/// Whether the policies give `subject` the right.
///
/// # Errors
/// [`PolicyFault`] if any policy fails at evaluation: treat it as no.
pub fn permits(
    policies: &Policies,
    subject: &Subject,
    action: Action,
    resource: Resource<'_>,
) -> Result<bool, PolicyFault> {
    asked(policies, subject, action, resource).map(|answer| answer.allowed)
}

fn asked(
    policies: &Policies,
    subject: &Subject,
    action: Action,
    resource: Resource<'_>,
) -> Result<Answer, PolicyFault> {
    let mut world = World::new(subject);
    let resource = match resource {
        Resource::Ledger => world.add(uid("Ledger", "ledger"), None),
        Resource::Connection(connection) => world.connection(connection),
        Resource::Table(connection, table) => world.table(connection, table),
    };
    let evaluator = world.evaluator(policies, subject, None)?;
    let resource = About { uid: resource, entities: evaluator.entities.clone() };
    evaluator.ask(action.as_str(), &resource)
}

/// A column that policies are asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnOf<'a> {
    pub(crate) connection: &'a str,
    pub(crate) table: &'a str,
    pub(crate) column: &'a str,
    pub(crate) class: &'a str,
}

/// What policies say to one action on one column.
pub(crate) fn ask_on_column(
    policies: &Policies,
    subject: &Subject,
    purpose: &str,
    action: &str,
    about: ColumnOf<'_>,
) -> Result<Answer, PolicyFault> {
    let evaluator = Evaluator::of_table(policies, subject, purpose, about.connection, about.table)?;
    evaluator.ask(action, &evaluator.column(about.column, about.class)?)
}

/// The names of the policies that determine whether `subject` has the right; those that fail are among them.
pub(crate) fn met(policies: &Policies, subject: &Subject, action: Action, resource: Resource<'_>) -> BTreeSet<String> {
    match asked(policies, subject, action, resource) {
        Ok(answer) => answer.policies,
        Err(fault) => fault.policies.into_iter().collect(),
    }
}

impl Policies {
    /// Whether a policy names this identity.
    pub(crate) fn names_identity(&self, id: &str) -> bool {
        let identity = uid("Identity", id);
        self.set.policies().any(|policy| policy.entity_literals().contains(&identity))
    }

    /// The columns in the row filters of all policies.
    pub(crate) fn filtered_columns(&self) -> impl Iterator<Item = &str> {
        self.terms.values().filter_map(|terms| terms.rows.as_ref()).flat_map(filter::Expr::columns)
    }

    /// The scopes of the policies that put such a mask in the place of the catalog's.
    pub(crate) fn scopes_of_masks(&self, is: impl Fn(&Mask) -> bool) -> Scopes {
        let masking = self.set.policies().filter(|policy| {
            let terms = self.terms.get(&policy.id().to_string());
            terms.and_then(|terms| terms.mask.as_ref()).is_some_and(&is)
        });
        let scope = |policy: &Policy| match policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
            ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => Some(uid),
        };
        Scopes(masking.map(scope).collect())
    }

    /// The permits alone, and the forbids alone: Cedar names all policies whose conditions hold only if it has no others.
    pub(crate) fn halves(&self) -> [Self; 2] {
        [Effect::Permit, Effect::Forbid].map(|effect| {
            let policies = self.set.policies().filter(|policy| policy.effect() == effect).cloned();
            // A part of a set whose names are unique.
            Self { set: PolicySet::from_policies(policies).unwrap_or_default(), ..self.clone() }
        })
    }
}

/// What the scopes of some policies name: a column, or what it lies in; `None` is everything.
pub(crate) struct Scopes(Vec<Option<EntityUid>>);

impl Scopes {
    /// Whether one of them takes in this column. What their conditions say depends on who asks, so it doesn't count.
    pub(crate) fn take_in(&self, connection: &str, table: &str, column: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let table = format!("{connection}.{table}");
        let around = [uid("Column", &format!("{table}.{column}")), uid("Table", &table), uid("Connection", connection)];
        self.0.iter().any(|scope| scope.as_ref().is_none_or(|uid| around.contains(uid)))
    }
}

// ---------------------------------------------------------------------------------------------------------------------------
// Evaluation

fn uid(entity_type: &str, id: &str) -> EntityUid {
    // INVARIANT: the types are the literals in this file, all of them identifiers.
    #[expect(clippy::expect_used, reason = "the entity types are literals in this file, and tests name each of them")]
    let entity_type = entity_type.parse::<EntityTypeName>().expect("an entity type is an identifier");
    EntityUid::from_type_name_and_id(entity_type, EntityId::new(id))
}

/// The entities that one request is about.
struct World {
    entities: Vec<Entity>,
    principal: EntityUid,
}

impl World {
    fn new(subject: &Subject) -> Self {
        let groups = subject.groups.iter().map(|group| uid("Group", group)).collect::<HashSet<_>>();
        let principal = uid("Identity", &subject.id);
        let mut entities = vec![Entity::new_no_attrs(principal.clone(), groups.clone())];
        entities.extend(groups.into_iter().map(|group| Entity::new_no_attrs(group, HashSet::new())));
        Self { entities, principal }
    }

    fn add(&mut self, entity: EntityUid, parent: Option<EntityUid>) -> EntityUid {
        self.entities.push(Entity::new_no_attrs(entity.clone(), parent.into_iter().collect()));
        entity
    }

    fn connection(&mut self, connection: &str) -> EntityUid {
        self.add(uid("Connection", connection), None)
    }

    /// Adds a table and its connection.
    fn table(&mut self, connection: &str, table: &str) -> EntityUid {
        let parent = self.connection(connection);
        self.add(uid("Table", &format!("{connection}.{table}")), Some(parent))
    }

    /// Ready to ask about these entities. A purpose belongs to reading and to nothing else.
    fn evaluator<'a>(
        self,
        policies: &'a Policies,
        subject: &Subject,
        purpose: Option<&str>,
    ) -> Result<Evaluator<'a>, PolicyFault> {
        let fault = || PolicyFault { policies: Vec::new() };
        let string = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let mut context = vec![
            ("time".to_owned(), RestrictedExpression::new_datetime(datetime(subject.time).ok_or_else(fault)?)),
            ("door".to_owned(), string(&subject.door)),
        ];
        context.extend(purpose.map(|purpose| ("purpose".to_owned(), string(purpose))));
        context.extend(subject.on_behalf_of.as_deref().map(|other| ("on_behalf_of".to_owned(), string(other))));
        let context = Context::from_pairs(context).map_err(|_| fault())?;
        let entities = Entities::from_entities(self.entities, Some(&policies.schema)).map_err(|_| fault())?;
        let authorizer = Authorizer::new();
        Ok(Evaluator { policies, entities, table: None, principal: self.principal, context, authorizer })
    }
}

/// Seconds since 1970 as Cedar writes a datetime; `None` after the year 9999.
fn datetime(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok().filter(|seconds| *seconds < 253_402_300_800)?;
    Some(format!("{}Z", civil::format_timestamp(seconds * 1_000_000)))
}

/// What Cedar is asked with.
pub(crate) struct Evaluator<'a> {
    policies: &'a Policies,
    entities: Entities,
    /// The table whose columns it may be asked about.
    table: Option<EntityUid>,
    principal: EntityUid,
    context: Context,
    authorizer: Authorizer,
}

/// Cedar's answer to one question.
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    /// The names of the policies that determined it: permits if allowed, forbids or nothing if not.
    pub(crate) policies: BTreeSet<String>,
}

/// What Cedar is asked about: an entity, and all entities that there are.
pub(crate) struct About {
    uid: EntityUid,
    entities: Entities,
}

impl<'a> Evaluator<'a> {
    /// Ready to ask about the columns of a table.
    pub(crate) fn of_table(
        policies: &'a Policies,
        subject: &Subject,
        purpose: &str,
        connection: &str,
        table: &str,
    ) -> Result<Self, PolicyFault> {
        let mut world = World::new(subject);
        let table = world.table(connection, table);
        Ok(Self { table: Some(table), ..world.evaluator(policies, subject, Some(purpose))? })
    }

    /// A column of the table. It alone is known beside the table, so that an answer about it rests on no other that happens to be
    /// asked for with it.
    pub(crate) fn column(&self, column: &str, class: &str) -> Result<About, PolicyFault> {
        let fault = || PolicyFault { policies: Vec::new() };
        let table = self.table.as_ref().ok_or_else(fault)?;
        let uid = uid("Column", &format!("{}.{column}", table.id().unescaped()));
        let class = [("class".to_owned(), RestrictedExpression::new_string(class.to_owned()))];
        let entity = Entity::new(uid.clone(), class.into(), HashSet::from([table.clone()])).map_err(|_| fault())?;
        let entities =
            self.entities.clone().add_entities([entity], Some(&self.policies.schema)).map_err(|_| fault())?;
        Ok(About { uid, entities })
    }

    /// Asks Cedar. Cedar skips a policy that fails at evaluation, so any failure makes the whole answer a fault.
    pub(crate) fn ask(&self, action: &str, about: &About) -> Result<Answer, PolicyFault> {
        let request = Request::new(
            self.principal.clone(),
            uid("Action", action),
            about.uid.clone(),
            self.context.clone(),
            Some(&self.policies.schema),
        );
        let request = request.map_err(|_| PolicyFault { policies: Vec::new() })?;
        let response = self.authorizer.is_authorized(&request, &self.policies.set, &about.entities);
        let diagnostics = response.diagnostics();
        let failed = diagnostics.errors().map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
        });
        let failed = failed.collect::<BTreeSet<_>>();
        if !failed.is_empty() {
            return Err(PolicyFault { policies: failed.into_iter().collect() });
        }
        let policies = diagnostics.reason().map(ToString::to_string).collect();
        Ok(Answer { allowed: response.decision() == Decision::Allow, policies })
    }
}

// ---------------------------------------------------------------------------------------------------------------------------
// Loading

fn schema(source: Source<'_>) -> Result<Schema, LoadError> {
    let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA)
        .map_err(|error| source.error(0, format!("the built-in schema is broken: {error}")))?;
    Ok(schema)
}

/// Cedar names the policies of a text `policy0`, `policy1`, …
fn place_in_text(id: &PolicyId) -> usize {
    id.to_string().strip_prefix("policy").and_then(|place| place.parse().ok()).unwrap_or(usize::MAX)
}

/// Cedar's error at its place in the text, at `position` if it has none.
fn located(source: Source<'_>, error: &DetailedError, position: usize) -> LoadError {
    let error = error.related.first().filter(|_| error.source_locations.is_empty()).unwrap_or(error);
    let position = error.source_locations.first().map_or(position, |label| label.loc.start);
    let mut reason = error.message.replace('\n', " ");
    if let Some(help) = &error.help {
        reason = format!("{reason} ({})", help.replace('\n', " "));
    }
    source.error(position, reason)
}

fn validate(
    source: Source<'_>,
    schema: &Schema,
    set: &PolicySet,
    starts: &HashMap<PolicyId, usize>,
) -> Result<(), LoadError> {
    let result = Validator::new(schema.clone()).validate(set, ValidationMode::Strict);
    let start = |id: &PolicyId| starts.get(id).copied().unwrap_or(0);
    let errors = result.validation_errors().map(|error| located(source, &error.into(), start(error.policy_id())));
    let useless = result.validation_warnings().filter(|warning| {
        matches!(warning, ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_))
    });
    let useless = useless.map(|warning| located(source, &warning.into(), start(warning.policy_id())));
    errors.chain(useless).min_by_key(|error| error.line).map_or(Ok(()), Err)
}

/// Whether a policy, in Cedar's JSON form, looks at `context.time`. A bare `context` counts too.
fn mentions_time(json: &serde_json::Value) -> bool {
    use serde_json::Value;
    let is_context = |value: &Value| value.get("Var").and_then(Value::as_str) == Some("context");
    match json {
        Value::Object(_) if is_context(json) => true,
        Value::Object(members) => members.iter().any(|(operator, operand)| {
            let left = operand.get("left").filter(|left| is_context(left));
            match (left, operand.get("attr").and_then(Value::as_str)) {
                (Some(_), Some(attribute)) => operator == "." && attribute == "time",
                _ => mentions_time(operand),
            }
        }),
        Value::Array(items) => items.iter().any(mentions_time),
        _ => false,
    }
}

/// A policy with its place, for reading its annotations.
struct Annotated<'a> {
    source: Source<'a>,
    policy: &'a Policy,
    text: &'a str,
    start: usize,
}

impl Annotated<'_> {
    /// The error at the annotation `name`, at the policy if it has none.
    fn error(&self, name: &str, reason: impl Into<String>) -> LoadError {
        // Annotations come first in a policy, so the first `@name` followed by no further letter is the annotation.
        let needle = format!("@{name}");
        let offset = self.text.match_indices(&needle).find(|(offset, _)| {
            let rest = self.text.get(offset + needle.len()..).unwrap_or_default();
            !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
        });
        self.source.error(self.start + offset.map_or(0, |(offset, _)| offset), reason)
    }

    fn id(&self) -> Result<String, LoadError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        match self.policy.annotation("id") {
            None => Ok(self.policy.id().to_string()),
            Some(id) if (1..=64).contains(&id.len()) && id.bytes().all(allowed) => Ok(id.to_owned()),
            Some(id) => {
                let reason = format!("id `{}` is not 1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`", id.escape_debug());
                Err(self.error("id", reason))
            }
        }
    }

    fn terms(&self) -> Result<Terms, LoadError> {
        let mut terms = Terms::default();
        let mut annotations = self.policy.annotations().filter(|(name, _)| *name != "id").collect::<Vec<_>>();
        annotations.sort_unstable();
        for (name, value) in annotations {
            if !["approval", "mask", "rows", "limit"].contains(&name) {
                return Err(self.error(name, format!("unknown annotation `@{name}`")));
            }
            if self.policy.effect() == Effect::Forbid {
                return Err(self.error(name, format!("`@{name}` on a forbid has no meaning")));
            }
            self.check_actions(name)?;
            match name {
                "approval" => {
                    if value.is_empty() || value.trim() != value || value.chars().any(char::is_control) {
                        return Err(
                            self.error(name, format!("`@approval` names no group in `{}`", value.escape_debug()))
                        );
                    }
                    terms.approval = Some(value.to_owned());
                }
                "mask" => {
                    terms.mask = Some(Mask::parse(value).map_err(|unknown| self.error(name, unknown.to_string()))?);
                }
                "rows" => {
                    let rows = filter::parse(value).map_err(|error| self.error(name, format!("`@rows` {error}")))?;
                    terms.rows = Some(rows);
                }
                _ => {
                    let (limit, rate) = limits(value).map_err(|reason| self.error(name, reason))?;
                    (terms.limit, terms.rate) = (Some(limit), rate);
                }
            }
        }
        Ok(terms)
    }

    /// Annotations stand only on policies all of whose actions heed them.
    fn check_actions(&self, name: &str) -> Result<(), LoadError> {
        let actions = match self.policy.action_constraint() {
            ActionConstraint::Any => Vec::new(),
            ActionConstraint::In(actions) => actions,
            ActionConstraint::Eq(action) => vec![action],
        };
        let heeding: &[&str] = if name == "mask" { &["read"] } else { &["read", "read_clear"] };
        let heeds = |action: &EntityUid| heeding.contains(&action.id().unescaped());
        if name == "approval" && actions.iter().any(|action| action.id().unescaped() == "reidentify") {
            let reason =
                "`@approval` cannot be asked for by `reidentify`: give the right to those alone who need nobody's";
            return Err(self.error(name, reason));
        }
        if actions.is_empty() || !actions.iter().all(heeds) {
            let names = heeding.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
            return Err(
                self.error(name, format!("`@{name}` stands only on permits whose scope names no action but {names}"))
            );
        }
        Ok(())
    }
}

/// Reads `rows=1000, bytes=1000000, seconds=10, rate=20/hour`.
fn limits(text: &str) -> Result<(Limits, Option<Rate>), String> {
    let mut limits = Limits { rows: u64::MAX, bytes: u64::MAX, seconds: u64::MAX };
    let mut rate = None;
    let mut seen = BTreeSet::new();
    for part in text.split(',') {
        let (name, number) = part.split_once('=').unwrap_or((part, ""));
        let name = name.trim();
        let mut requests = 0;
        let (slot, number) = match name {
            "rows" => (&mut limits.rows, number),
            "bytes" => (&mut limits.bytes, number),
            "seconds" => (&mut limits.seconds, number),
            "rate" => (&mut requests, number.split('/').next().unwrap_or_default()),
            _ => return Err(format!("`@limit` knows rows, bytes, seconds and rate, found `{}`", name.escape_debug())),
        };
        let number = number.trim().parse().ok().filter(|number| (1..=MAX_NUMBER).contains(number));
        *slot = number.ok_or_else(|| format!("`@limit` has no whole number of 1 to {MAX_NUMBER} for `{name}`"))?;
        if !seen.insert(name) {
            return Err(format!("`@limit` names `{name}` twice"));
        }
        if name == "rate" {
            let seconds = match part.split_once('/').map(|(_, unit)| unit.trim()) {
                Some("minute") => 60,
                Some("hour") => 3600,
                _ => return Err("`@limit` has no `/minute` or `/hour` for `rate`".to_owned()),
            };
            rate = Some(Rate { requests, seconds });
        }
    }
    Ok((limits, rate))
}
