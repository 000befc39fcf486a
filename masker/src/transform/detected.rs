//! Text in which the detectors' hits are replaced by their class: `call [pii.phone], card [fin.card]`.

use super::{Hits, map_text};
use crate::detect::Detectors;
use polars::prelude::*;

/// The masked column, and how many hits there were of each class. The column's name is what the detectors take as its name.
pub(crate) fn column(column: &Series, detectors: &Detectors) -> PolarsResult<(Series, Hits)> {
    let hint = detectors.hint(column.name());
    let mut counts = Hits::new();
    let masked = map_text(column, |text, out| {
        let mut characters = text.chars();
        let mut place = 0;
        for hit in detectors.detect(text, Some(&hint)) {
            out.extend(characters.by_ref().take(hit.start - place));
            out.push('[');
            out.push_str(hit.class);
            out.push(']');
            if let Some(last) = (hit.end - hit.start).checked_sub(1) {
                characters.nth(last);
            }
            place = hit.end;
            match counts.get_mut(hit.class) {
                Some(count) => *count += 1,
                None => drop(counts.insert(hit.class.to_owned(), 1)),
            }
        }
        out.push_str(characters.as_str());
        true
    })?;
    Ok((masked, counts))
}
