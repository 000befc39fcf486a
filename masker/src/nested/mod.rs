//! Masks inside of columns: structs, lists and JSON text, along the paths of the catalog.
//!
//! **What a path addresses** is masked by its rule, with all beneath it; by the most restrictive of the rules where several address
//! it. `null` and `redact` replace a struct or list as a whole; in a struct the other masks go down to its cells, each of
//! which must be of a type that the mask fits. **What no path addresses** follows the column's own rule. If that is a mask, a part of
//! the column which no path leads into is replaced by it; what remains shows on the way to what paths address how many elements
//! the lists have that are crossed.
//!
//! **JSON** has no types before it is read: a string is masked as text, a whole number as an `int64`, another number as a
//! `numeric`, and what a mask doesn't fit becomes null. The three masks that read no cells replace what they address whatever it
//! is. An object's member names aren't cells, so a mask that reads cells redacts an object whole. Where the column's own
//! rule is a mask, members stay only where a path has their name as its next step. What is not masked stays as it was written. A
//! text that is not JSON, or more than [`MAX_DEPTH`] deep, is masked whole: `[redacted]`, or null where the column's type is `json`.

mod json;

use crate::path::{Path, Place, Walk};
use crate::schema::ColumnType;
use crate::transform::{self, Hits, Mask, Means};
use polars::prelude::*;
use std::fmt;

/// The deepest nesting of JSON text that is looked into.
pub const MAX_DEPTH: usize = 64;

/// A path's rule, `None` for clear.
pub(crate) type PathMask<'a> = (&'a Path, Option<&'a Mask>);

/// How often a path's rule was applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Count {
    /// Cells and values that it addressed; what is taken or replaced as a whole is one.
    pub(crate) seen: u64,
    /// Those of them that were replaced.
    pub(crate) changed: u64,
    /// Hits of the detectors by class, where its rule is `detect`.
    pub(crate) hits: Hits,
}

/// What became of a column.
pub(crate) struct Nested {
    pub(crate) masked: Series,
    pub(crate) masked_type: ColumnType,
    /// For each path how often it was applied.
    pub(crate) counts: Vec<Count>,
    /// Hits in what no path addresses, where the column's own rule is `detect`.
    pub(crate) hits: Hits,
}

/// Masks a column of this type, which must hold no values beneath its nulls, by its own rule and the paths' rules.
pub(crate) fn apply(
    column: &Series,
    column_type: &ColumnType,
    own: Option<&Mask>,
    paths: &[PathMask<'_>],
    means: Means<'_>,
) -> PolarsResult<Nested> {
    let (walk, root) = Walk::new(column.name(), paths.iter().map(|(path, _)| *path));
    let masks = paths.iter().map(|(_, mask)| *mask).collect::<Vec<_>>();
    let counts = vec![Count::default(); paths.len()];
    let mut masking = Masking { walk, own, masks, means, counts, hits: Hits::new() };
    let (masked, masked_type) = masking.cells(column, column_type, root)?;
    let masked = masked.with_name(column.name().clone());
    Ok(Nested { masked, masked_type, counts: masking.counts, hits: masking.hits })
}

/// What masks one column.
struct Masking<'a> {
    walk: Walk<'a>,
    own: Option<&'a Mask>,
    masks: Vec<Option<&'a Mask>>,
    means: Means<'a>,
    counts: Vec<Count>,
    hits: Hits,
}

/// What holds at one place of the walk.
#[derive(Clone)]
struct Here {
    /// The paths that address it, as bits.
    addressed: u64,
    /// How it is masked, if it is.
    mask: Option<Mask>,
    /// Whether a path may address something beneath it that it doesn't address itself.
    leads_on: bool,
}

impl Masking<'_> {
    fn here(&self, place: Place) -> Here {
        let addressed = self.walk.addressed(place);
        let mask = if addressed == 0 { self.own.cloned() } else { joined(&self.masks, addressed) };
        Here { addressed, mask, leads_on: self.walk.leads_on(place) }
    }

    fn count(&mut self, addressed: u64, seen: usize, changed: usize) {
        for (index, (count, mask)) in self.counts.iter_mut().zip(&self.masks).enumerate() {
            if addressed >> index & 1 == 1 {
                count.seen += seen as u64;
                count.changed += if mask.is_some() { changed as u64 } else { 0 };
            }
        }
    }

    /// Masks cells that these paths address by a mask that fits them, and counts what the detectors find.
    fn transform(
        &mut self,
        mask: &Mask,
        cells: &Series,
        column_type: &ColumnType,
        addressed: u64,
    ) -> PolarsResult<Series> {
        let Some(detected) = transform::detected(mask, cells, self.means.detectors) else {
            return transform::apply(mask, cells, column_type, self.means);
        };
        let (masked, found) = detected?;
        let paths = self.counts.iter_mut().zip(&self.masks).enumerate();
        let looking = paths.filter(|(index, (_, path))| addressed >> index & 1 == 1 && *path == &Some(&Mask::Detect));
        let hits = looking.map(|(_, (count, _))| &mut count.hits);
        for hits in hits.chain((addressed == 0).then_some(&mut self.hits)) {
            found.iter().for_each(|(class, count)| *hits.entry(class.clone()).or_default() += count);
        }
        Ok(masked)
    }

    fn cells(&mut self, cells: &Series, column_type: &ColumnType, place: Place) -> PolarsResult<(Series, ColumnType)> {
        let here = self.here(place);
        let is_text = matches!(column_type, ColumnType::Text | ColumnType::Json);
        let is_json = is_text && (self.walk.spelled(place) != 0 || (*column_type == ColumnType::Json && here.leads_on));
        // What is addressed by a mask that reads nothing, or follows the column's own and has nothing addressed beneath it.
        let is_whole = here.addressed != 0 || !here.leads_on;
        let replaced = here.mask.as_ref().filter(|mask| is_whole && matches!(mask, Mask::Null | Mask::Redact));
        Ok(match column_type {
            ColumnType::List(_) | ColumnType::Struct(_) if replaced.is_some() => {
                self.count(here.addressed, cells.len(), cells.len());
                (Series::full_null(cells.name().clone(), cells.len(), cells.dtype()), column_type.clone())
            }
            ColumnType::List(inner) => {
                let lists = cells.list()?;
                let (values, inner) = self.cells(&lists.get_inner(), inner, place)?;
                (lists.with_inner_values(&values).into_series(), ColumnType::List(Box::new(inner)))
            }
            ColumnType::Struct(types) => {
                let structs = cells.struct_()?;
                let (mut fields, mut masked_types) = (Vec::new(), Vec::new());
                for (field, (name, field_type)) in structs.fields_as_series().iter().zip(types) {
                    let member = self.walk.member(place, name);
                    let (masked, masked_type) = self.cells(field, field_type, member)?;
                    fields.push(masked.with_name(name.into()));
                    masked_types.push((name.clone(), masked_type));
                }
                let masked = StructChunked::from_series(cells.name().clone(), cells.len(), fields.iter())?;
                // A mask that hides which cells are null hides it of structs, too.
                let hides_nulls = here.mask.is_some_and(|mask| !mask.reads_cells());
                let validity = structs.rechunk_validity().filter(|_| !hides_nulls);
                (masked.with_outer_validity(validity).into_series(), ColumnType::Struct(masked_types))
            }
            ColumnType::Text | ColumnType::Json if is_json && here.addressed == 0 => {
                (json::apply(self, cells.str()?, column_type, place)?, column_type.clone())
            }
            _ => self.scalars(cells, column_type, &here)?,
        })
    }

    fn scalars(&mut self, cells: &Series, column_type: &ColumnType, here: &Here) -> PolarsResult<(Series, ColumnType)> {
        let Some(mask) = &here.mask else {
            self.count(here.addressed, cells.len(), 0);
            return Ok((cells.clone(), column_type.clone()));
        };
        let mask = mask.fitted(column_type);
        let changed = if mask.reads_cells() { cells.len() - cells.null_count() } else { cells.len() };
        self.count(here.addressed, cells.len(), changed);
        let masked = self.transform(&mask, cells, column_type, here.addressed)?;
        Ok((masked, mask.output_type(column_type).unwrap_or_else(|| column_type.clone())))
    }
}

/// The most restrictive of the masks of these paths; none if all of them are clear.
fn joined(masks: &[Option<&Mask>], addressed: u64) -> Option<Mask> {
    let of_paths = masks.iter().enumerate().filter(|(index, _)| addressed >> index & 1 == 1);
    of_paths.filter_map(|(_, mask)| mask.cloned()).reduce(Mask::more_restrictive)
}

// ---------------------------------------------------------------------------------------------------------------------------
// What doesn't fit

/// A path that leads to nothing, or whose mask doesn't fit what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The path's index.
    pub(crate) path: usize,
    reason: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What of these paths' rules can't be applied to a column of this type, at most one reason for each path.
pub(crate) fn misfits(column: &str, column_type: &ColumnType, paths: &[PathMask<'_>]) -> Vec<Misfit> {
    let (walk, root) = Walk::new(column, paths.iter().map(|(path, _)| *path));
    let masks = paths.iter().map(|(_, mask)| *mask).collect();
    let mut types = Types { walk, masks, reached: 0, reasons: vec![None; paths.len()] };
    types.visit(column_type, root, &mut vec![column.to_owned()]);
    let reasons = types.reasons.into_iter().zip(paths).enumerate();
    let reasons = reasons.map(|(index, (reason, (path, _)))| {
        let is_lost = path.column().is_some() && types.reached >> index & 1 == 0;
        let lost = || format!("path `{path}` leads to nothing in column `{column}` of type {column_type}");
        reason.or_else(|| is_lost.then(lost)).map(|reason| Misfit { path: index, reason })
    });
    reasons.flatten().collect()
}

struct Types<'a> {
    walk: Walk<'a>,
    masks: Vec<Option<&'a Mask>>,
    /// The paths that lead to something.
    reached: u64,
    reasons: Vec<Option<String>>,
}

impl Types<'_> {
    fn visit(&mut self, column_type: &ColumnType, place: Place, way: &mut Vec<String>) {
        let addressed = self.walk.addressed(place);
        self.reached |= addressed;
        match column_type {
            ColumnType::List(_) | ColumnType::Struct(_)
                if addressed != 0 && matches!(joined(&self.masks, addressed), Some(Mask::Null | Mask::Redact)) => {}
            ColumnType::List(inner) => self.visit(inner, place, way),
            ColumnType::Struct(fields) => {
                for (name, field) in fields {
                    let member = self.walk.member(place, name);
                    way.push(name.clone());
                    self.visit(field, member, way);
                    way.pop();
                }
            }
            ColumnType::Json if addressed == 0 => self.visit_json(u64::MAX),
            ColumnType::Text if addressed == 0 => self.visit_json(self.walk.spelled(place)),
            _ => {
                let mask = joined(&self.masks, addressed);
                let misfit = mask.filter(|mask| mask.output_type(column_type).is_none());
                let path = addressed.trailing_zeros() as usize;
                if let (Some(mask), Some(reason)) = (misfit, self.reasons.get_mut(path)) {
                    let fitting = transform::fitting(column_type);
                    let place = way.iter().map(|name| crate::path::Step::name(name)).collect::<Vec<_>>().join(".");
                    reason.get_or_insert(format!(
                        "mask `{mask}` does not fit `{place}` of type {column_type}, fitting are {fitting}"
                    ));
                }
            }
        }
    }

    /// Paths into JSON text: whatever is there, it is a string, a number or neither.
    fn visit_json(&mut self, paths: u64) {
        self.reached |= paths;
        for (index, (mask, reason)) in self.masks.iter().zip(&mut self.reasons).enumerate() {
            let fits = |mask: &Mask| json::TYPES.iter().any(|value| mask.output_type(value).is_some());
            if let Some(mask) = mask.filter(|mask| paths >> index & 1 == 1 && !fits(mask)) {
                let [text, integer, number] = json::TYPES.map(|value| transform::fitting(&value));
                reason.get_or_insert(format!(
                    "mask `{mask}` does not fit JSON text, fitting are {text} for strings, {integer} for whole numbers, {number} \
                     for others"
                ));
            }
        }
    }
}
