//! The decision: what policies and catalog say to one chunk request. Pure and complete: the same texts, table, subject and
//! request give the same decision for ever, which is what `audit redecide` relies on.
//!
//! **Columns.** For each column Cedar is asked for `read_clear` and for `read`. A `forbid` on `read` refuses the column
//! whatever `read_clear` says; else a permit for `read_clear` gives it clear; else a permit for `read` gives it masked, by
//! the join of the determining permits' `@mask`s, or if none has one by the catalog's mask. A column that the catalog
//! doesn't list is redacted for everybody. What is inside a column and has a class of its own, by a path of the catalog, is decided
//! likewise, as if the column had that class; where that comes to a refusal, it is masked by `null`. If one requested column is refused or unknown, the whole request is, with the
//! same answer as for an unknown table: [`DenyReason::Forbidden`] and no policy names.
//!
//! **Rows.** A caller may filter by columns and take a range of a column only if he may read them clear, asked for or not.
//! The row filters of policies may use any column.
//!
//! **Obligations** come from all determining permits of all columns that are asked for, filtered by or ranged over: every
//! group must approve, every row filter holds, the smallest limits count.
//! A further `forbid` never shows more of a column; but one on `read_clear` takes away the obligations of the permits for
//! `read_clear` together with the right they were attached to, so put what must hold in any case on the permits for `read` too.
//!
//! **Faults.** If any policy fails at evaluation for any of these columns, or a policy's row filter doesn't fit the table,
//! the request is denied ([`DenyReason::PolicyError`]); so it is if a mask doesn't fit what it would mask, or a path leads to
//! nothing ([`DenyReason::MaskType`]).

use crate::access::{Access, Answers, Asking, Right};
use crate::catalog::{Catalog, Limits, PathRule, UNCLASSIFIED};
use crate::filter::{self, CompareOp, Condition, Predicate, Value};
use crate::nested;
use crate::path::Path;
use crate::plan::Plan;
use crate::policy::{Policies, PolicyFault, Subject};
use crate::schema::{ColumnType, TableSchema};
use crate::transform::Mask;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What a chunk request asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ask {
    /// The connection.
    pub connection: String,
    /// The table, as the catalog writes it after the connection.
    pub table: String,
    /// The columns, at least one, each once, in the order in which they shall leave.
    pub columns: Vec<String>,
    /// A row filter in the language of [`filter`].
    pub filter: Option<String>,
    /// A range of a column's values.
    pub range: Option<KeyRange>,
    /// The most rows wanted.
    pub limit: Option<u64>,
    /// The purpose, one of the catalog's.
    pub purpose: String,
}

/// The rows whose cell in `column` is at least `from` and less than `to`, as numbers or as strings of the filter language.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRange {
    /// The column.
    pub column: String,
    /// The first value inside; without it (or null), from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<serde_json::Value>,
    /// The first value beyond; without it (or null), to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<serde_json::Value>,
}

/// The answer to a chunk request.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Permit, deny or needs approval.
    pub verdict: Verdict,
    /// The names of the policies that determined it, sorted: permits, forbids of `read_clear` that left a column masked, and
    /// for [`DenyReason::PolicyError`] the policies that failed. Empty for all other denials.
    pub policies: Vec<String>,
    /// What holds for the answer; of a denial, nothing.
    pub obligations: Obligations,
    /// What to fetch; `None` for a denial.
    pub plan: Option<Plan>,
    /// Whether a policy reads the time, so that the time used belongs to the decision and it can't be cached.
    pub reads_time: bool,
}

/// What a decision comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Under the obligations, yes.
    Permit,
    /// Under the obligations, once someone of each of these groups has approved; sorted.
    NeedsApproval(Vec<String>),
    /// No.
    Deny(DenyReason),
}

/// Why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyReason {
    /// No right to a column, or no such connection, table or column.
    Forbidden,
    /// A policy failed at evaluation or doesn't fit the table.
    PolicyError,
    /// The mask of a column, or of a path in it, doesn't fit its type, or a path leads to nothing: catalog or policy must be mended.
    MaskType,
    /// A filter or range on a column that the caller may not read clear, or that doesn't exist.
    FilterNotAllowed,
    /// A value or operator in a filter or range doesn't fit its column.
    FilterType,
    /// The filter can't be parsed.
    FilterSyntax,
    /// More rows are wanted than one chunk may have.
    LimitExceeded,
    /// The purpose isn't one of the catalog's.
    BadPurpose,
    /// No column is named, or one twice.
    BadColumns,
}

impl DenyReason {
    /// The reason code in entries and statuses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::PolicyError => "policy_error",
            Self::MaskType => "mask_type",
            Self::FilterNotAllowed => "filter_not_allowed",
            Self::FilterType => "filter_type",
            Self::FilterSyntax => "filter_syntax",
            Self::LimitExceeded => "limit_exceeded",
            Self::BadPurpose => "bad_purpose",
            Self::BadColumns => "bad_columns",
        }
    }
}

/// What holds for the answer to a request: how each column leaves, which rows, and how much at most. Its canonical JSON is
/// what an approval signs the digest of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obligations {
    /// One for each column, in the order of the request.
    pub columns: Vec<ColumnObligation>,
    /// The canonical text of the policies' row filters, ANDed.
    pub rows: Option<String>,
    /// The smallest of the limits of table and policies.
    pub limit: Limits,
}

/// How one column leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnObligation {
    /// The column.
    pub column: String,
    /// Its class.
    pub class: String,
    /// Clear or masked.
    pub rule: Rule,
    /// How what is inside of it leaves, where that is decided for itself; in the order of the paths' texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathObligation>,
}

/// How something inside a column leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathObligation {
    /// Where it is.
    pub path: Path,
    /// Its class.
    pub class: String,
    /// Clear or masked.
    pub rule: Rule,
}

impl Rule {
    /// The mask, if there is one.
    pub fn mask(&self) -> Option<&Mask> {
        match self {
            Self::Clear => None,
            Self::Mask(mask) => Some(mask),
        }
    }
}

/// Clear or masked; written as `clear` or as the mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// As it is.
    Clear,
    /// Masked so, or by `null` where the mask doesn't fit the column's type.
    Mask(Mask),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear => f.write_str("clear"),
            Self::Mask(mask) => mask.fmt(f),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "clear" => Ok(Self::Clear),
            mask => Mask::parse(mask).map(Self::Mask).map_err(serde::de::Error::custom),
        }
    }
}

impl Obligations {
    /// Whether what detectors find makes a difference.
    pub fn detect(&self) -> bool {
        let of_paths = self.columns.iter().flat_map(|column| &column.paths).map(|path| &path.rule);
        let rules = self.columns.iter().map(|column| &column.rule).chain(of_paths);
        rules.filter_map(Rule::mask).any(|mask| *mask == Mask::Detect)
    }

    /// What holds where nothing may leave.
    pub fn none() -> Self {
        Self { columns: Vec::new(), rows: None, limit: Limits { rows: 0, bytes: 0, seconds: 0 } }
    }

    /// The JSON `{"columns":[{"column","class","rule"}…],"rows":…,"limit":{"rows","bytes","seconds"}}`, members in this order,
    /// no spaces; `rows` is null without a row filter. A column whose inside is decided for itself has a member
    /// `"paths":[{"path","class","rule"}…]` after its rule.
    pub fn canonical_json(&self) -> Vec<u8> {
        // Strings and integers always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// SHA-256 of the canonical JSON.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.canonical_json()).into()
    }

    /// In what these obligations hide less or allow more than `approved`: the names of columns that became less restricted
    /// or are new, `rows` if a row filter fell away or is another, `limit` if a limit grew. Empty means that an approval of
    /// `approved` covers these too.
    pub fn less_restricted_than(&self, approved: &Self) -> Vec<String> {
        let covers = |old: &Rule, new: &Rule| match (old, new) {
            (Rule::Clear, _) => true,
            (Rule::Mask(old), Rule::Mask(new)) => new.at_least_as_restrictive(old),
            (Rule::Mask(_), Rule::Clear) => false,
        };
        let mut less = Vec::new();
        for new in &self.columns {
            let old = approved.columns.iter().find(|old| old.column == new.column);
            // Several paths can address one place: only where they are the same is it enough to compare them one by one.
            let cover_paths = |old: &[PathObligation], new: &[PathObligation]| {
                let same = |(old, new): (&PathObligation, &PathObligation)| {
                    old.path == new.path && covers(&old.rule, &new.rule)
                };
                old.len() == new.len() && old.iter().zip(new).all(same)
            };
            if !old.is_some_and(|old| covers(&old.rule, &new.rule) && cover_paths(&old.paths, &new.paths)) {
                less.push(new.column.clone());
            }
        }
        if approved.rows.is_some() && approved.rows != self.rows {
            less.push("rows".to_owned());
        }
        if self.limit.min(approved.limit) != self.limit {
            less.push("limit".to_owned());
        }
        less
    }
}

/// Decides a request. `schema` is the table as its source has it, `None` if the source has no such table (a source whose
/// tables aren't known at the moment can't be decided on: that is the caller's error to report, not a denial).
pub fn decide(
    policies: &Policies,
    catalog: &Catalog,
    schema: Option<&TableSchema>,
    subject: &Subject,
    ask: &Ask,
) -> Decision {
    decide_with(None, policies, catalog, schema, subject, ask)
}

/// [`decide`], without asking Cedar again what it has answered before.
pub fn decide_with(
    answers: Option<&Answers>,
    policies: &Policies,
    catalog: &Catalog,
    schema: Option<&TableSchema>,
    subject: &Subject,
    ask: &Ask,
) -> Decision {
    let reads_time = policies.reads_time();
    let asking = Asking::new(policies, catalog, subject, &ask.purpose, (&ask.connection, &ask.table), answers);
    match permitted(policies, catalog, schema, asking, ask) {
        Ok(permitted) => Decision {
            verdict: match permitted.approvals {
                groups if groups.is_empty() => Verdict::Permit,
                groups => Verdict::NeedsApproval(groups.into_iter().collect()),
            },
            policies: permitted.policies.into_iter().collect(),
            obligations: permitted.obligations,
            plan: Some(permitted.plan),
            reads_time,
        },
        Err(Denied { reason, policies }) => Decision {
            verdict: Verdict::Deny(reason),
            policies,
            obligations: Obligations::none(),
            plan: None,
            reads_time,
        },
    }
}

/// Whether every column that is asked for could be read, masked or clear, if the table has it: what policy and catalog say without
/// the source. A policy that fails counts as a yes here, since [`decide`] then names it.
pub fn may_read(
    answers: Option<&Answers>,
    policies: &Policies,
    catalog: &Catalog,
    subject: &Subject,
    ask: &Ask,
) -> bool {
    let Some(table) = catalog.table(&ask.connection, &ask.table) else { return false };
    let mut asking = Asking::new(policies, catalog, subject, &ask.purpose, (&ask.connection, &ask.table), answers);
    let classed = |column: &str| table.columns.get(column).map_or(UNCLASSIFIED, |column| column.class.as_str());
    let mut may =
        |column: &str| asking.access(column, classed(column)).map_or(true, |access| access.right != Right::None);
    ask.columns.iter().all(|column| may(column))
}

struct Permitted {
    approvals: BTreeSet<String>,
    policies: BTreeSet<String>,
    obligations: Obligations,
    plan: Plan,
}

struct Denied {
    reason: DenyReason,
    policies: Vec<String>,
}

impl From<DenyReason> for Denied {
    fn from(reason: DenyReason) -> Self {
        Self { reason, policies: Vec::new() }
    }
}

impl From<PolicyFault> for Denied {
    fn from(fault: PolicyFault) -> Self {
        Self { reason: DenyReason::PolicyError, policies: fault.policies }
    }
}

impl From<filter::ResolveError> for Denied {
    fn from(error: filter::ResolveError) -> Self {
        match error {
            filter::ResolveError::UnknownColumn(_) => DenyReason::FilterNotAllowed.into(),
            filter::ResolveError::Type { .. } => DenyReason::FilterType.into(),
        }
    }
}

fn permitted(
    policies: &Policies,
    catalog: &Catalog,
    schema: Option<&TableSchema>,
    mut asking: Asking<'_>,
    ask: &Ask,
) -> Result<Permitted, Denied> {
    if !catalog.purposes().contains(&ask.purpose) {
        return Err(DenyReason::BadPurpose.into());
    }
    let distinct = ask.columns.iter().collect::<BTreeSet<_>>();
    if distinct.is_empty() || distinct.len() != ask.columns.len() {
        return Err(DenyReason::BadColumns.into());
    }
    let (Some(table), Some(schema)) = (catalog.table(&ask.connection, &ask.table), schema) else {
        return Err(DenyReason::Forbidden.into());
    };

    // All columns that the request touches, known ones only: what is unknown has no entity to ask Cedar about.
    let parsed = ask.filter.as_deref().map(filter::parse).transpose();
    let filtered = parsed.as_ref().ok().and_then(Option::as_ref).map(Condition::columns).unwrap_or_default();
    let ranged = ask.range.iter().map(|range| range.column.as_str());
    let touched = ask.columns.iter().map(String::as_str).chain(filtered.iter().copied()).chain(ranged);
    let touched = touched.filter(|column| schema.column_type(column).is_some()).collect::<BTreeSet<_>>();

    let classed = |column: &str| table.columns.get(column).map_or(UNCLASSIFIED, |column| column.class.as_str());
    let mut access = BTreeMap::new();
    for column in &ask.columns {
        if let Some(column) = touched.get(column.as_str()) {
            access.insert(*column, asking.access(column, classed(column))?);
        }
    }
    let asked = |column: &String| access.get(column.as_str()).filter(|access| access.right != Right::None);
    if !ask.columns.iter().all(|column| asked(column).is_some()) {
        return Err(DenyReason::Forbidden.into());
    }

    let filter = parsed.as_ref().map_err(|_| DenyReason::FilterSyntax)?;
    for column in &touched {
        if !access.contains_key(column) {
            access.insert(column, asking.access(column, classed(column))?);
        }
    }
    let mut inside = BTreeMap::new();
    for column in ask.columns.iter().filter(|column| table.columns.contains_key(*column)) {
        let Some(column_type) = schema.column_type(column) else { continue };
        let mut paths = Vec::new();
        for rule in table.paths_into(column, column_type) {
            paths.push((rule, asking.access(column, &rule.class)?));
        }
        inside.insert(column.as_str(), paths);
    }
    let is_clear = |column: &str| {
        table.columns.contains_key(column) && access.get(column).is_some_and(|access| access.right == Right::Clear)
    };
    let mut needed_clear = filtered.iter().copied().chain(ask.range.iter().map(|range| range.column.as_str()));
    if !needed_clear.all(is_clear) {
        return Err(DenyReason::FilterNotAllowed.into());
    }

    let of_paths = inside.values().flatten().map(|(_, access)| access);
    let determining = access.values().chain(of_paths).flat_map(|access| &access.policies).cloned();
    let determining = determining.collect::<BTreeSet<_>>();
    let terms = determining.iter().filter_map(|id| policies.terms(id).map(|terms| (id, terms)));
    let mut approvals = BTreeSet::new();
    let mut rows = BTreeMap::new();
    let mut limit = table.limits;
    for (id, terms) in terms {
        approvals.extend(terms.approval.clone());
        limit = terms.limit.map_or(limit, |other| limit.min(other));
        if let Some(condition) = &terms.rows {
            let fault = |_| PolicyFault { policies: vec![id.clone()] };
            let condition = filter::resolve(condition.clone(), schema).map_err(fault)?;
            // Sorted by text and each once, so that the order of policies makes no difference.
            rows.insert(condition.to_string(), condition);
        }
    }
    if ask.limit.is_some_and(|wanted| wanted > limit.rows) {
        return Err(DenyReason::LimitExceeded.into());
    }

    let rows = Condition::all(rows.into_values().collect());
    let mut conditions = rows.iter().cloned().collect::<Vec<_>>();
    if let Some(filter) = filter {
        conditions.push(filter::resolve(filter.clone(), schema)?);
    }
    if let Some(range) = &ask.range {
        conditions.extend(range_conditions(range, schema)?);
    }

    let masked = |access: &Access, mask: &Mask| {
        let masks = access.policies.iter().filter_map(|id| policies.terms(id)?.mask.clone());
        Rule::Mask(masks.reduce(Mask::more_restrictive).unwrap_or_else(|| mask.clone()))
    };
    let rule = |column: &str| match (table.columns.get(column), access.get(column)) {
        (Some(_), Some(access)) if access.right == Right::Clear => Rule::Clear,
        (Some(entry), Some(access)) => masked(access, &entry.mask),
        _ => Rule::Mask(Mask::Redact),
    };
    let of_path = |(path, access): &(&PathRule, Arc<Access>)| PathObligation {
        path: path.path.clone(),
        class: path.class.clone(),
        rule: match access.right {
            Right::None => Rule::Mask(Mask::Null),
            Right::Masked => masked(access, &path.mask),
            Right::Clear => Rule::Clear,
        },
    };
    let columns = ask.columns.iter().map(|column| ColumnObligation {
        column: column.clone(),
        class: classed(column).to_owned(),
        rule: rule(column),
        paths: inside.get(column.as_str()).into_iter().flatten().map(of_path).collect(),
    });
    let columns = columns.collect::<Vec<_>>();
    if let Some(misfit) =
        columns.iter().find(|column| schema.column_type(&column.column).is_some_and(|t| !column.fits(t)))
    {
        let of_paths = inside.get(misfit.column.as_str()).into_iter().flatten().map(|(_, access)| access);
        let permits =
            access.get(misfit.column.as_str()).into_iter().chain(of_paths).flat_map(|access| &access.policies);
        let masking = permits.filter(|id| policies.terms(id).is_some_and(|terms| terms.mask.is_some()));
        let policies = masking.cloned().collect::<BTreeSet<_>>().into_iter().collect();
        return Err(Denied { reason: DenyReason::MaskType, policies });
    }
    let obligations = Obligations { columns, rows: rows.as_ref().map(Predicate::to_string), limit };
    let types = ask.columns.iter().filter_map(|column| Some((column.clone(), schema.column_type(column)?.clone())));
    let order_by = table.key.clone().filter(|key| is_clear(key));
    let plan = Plan {
        columns: types.collect(),
        predicate: Condition::all(conditions),
        shuffle: order_by.is_none(),
        order_by,
        limit: ask.limit,
        max_rows: limit.rows,
        max_bytes: limit.bytes,
        max_seconds: limit.seconds,
    };
    Ok(Permitted { approvals, policies: determining, obligations, plan })
}

impl ColumnObligation {
    /// Whether its rules can be applied to a column of this type. One that can't be fetched is refused by its source.
    fn fits(&self, column_type: &ColumnType) -> bool {
        let fits = |mask: &Mask| mask.output_type(column_type).is_some();
        matches!(column_type, ColumnType::Unsupported(_))
            || (self.rule.mask().is_none_or(fits)
                && nested::misfits(&self.column, column_type, &self.path_masks().collect::<Vec<_>>()).is_empty())
    }

    /// Its paths with their masks, none for clear.
    pub(crate) fn path_masks(&self) -> impl Iterator<Item = (&Path, Option<&Mask>)> {
        self.paths.iter().map(|path| (&path.path, path.rule.mask()))
    }
}

fn range_conditions(range: &KeyRange, schema: &TableSchema) -> Result<Vec<Predicate>, Denied> {
    let bounds = [(CompareOp::Ge, &range.from), (CompareOp::Lt, &range.to)];
    let mut conditions = Vec::new();
    for (op, bound) in bounds {
        let value = match bound {
            None | Some(serde_json::Value::Null) => continue,
            Some(serde_json::Value::Number(number)) => Value::Number(number.to_string()),
            Some(serde_json::Value::String(text)) if !text.contains('\0') => Value::Text(text.clone()),
            Some(_) => return Err(DenyReason::FilterType.into()),
        };
        conditions.push(filter::resolve(Condition::Compare { column: range.column.clone(), op, value }, schema)?);
    }
    Ok(conditions)
}
