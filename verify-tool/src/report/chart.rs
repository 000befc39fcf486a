//! Charts as inline SVG: stacked columns over time, and bars. Colours are classes of the style sheet, so that they follow light
//! and dark; each mark has a title that says its number, and the same numbers stand in a table.

use super::html::{Count, Html};
use super::review::{Outcome, Timeline};
use crate::time::{minute, utc};

/// Stacked columns: requests over time by how they ended.
pub(super) fn timeline(html: &mut Html, timeline: &Timeline) {
    const WIDTH: f64 = 960.0;
    const HEIGHT: f64 = 220.0;
    const LEFT: f64 = 44.0;
    const BOTTOM: f64 = 26.0;
    const TOP: f64 = 10.0;
    let most = timeline.buckets.iter().map(|bucket| bucket.requests.total()).max().unwrap_or_default();
    if most == 0 {
        html.element("p", "none", "No requests.");
        return;
    }
    let (step, top) = scale(most);
    let plot = HEIGHT - BOTTOM - TOP;
    let y = |n: u64| TOP + plot * (1.0 - n as f64 / top as f64);
    let slot = (WIDTH - LEFT) / timeline.buckets.len() as f64;
    let bar = (slot * 0.78).clamp(1.0, 46.0);
    html.open(
        "svg",
        &[
            ("class", &"timeline"),
            ("viewBox", &format!("0 0 {WIDTH} {HEIGHT}")),
            ("role", &"img"),
            ("aria-label", &"Requests over time, by outcome"),
        ],
    );
    for n in (0..=5).map(|at| step.saturating_mul(at)).filter(|n| *n <= top) {
        let at = two(y(n));
        html.open("line", &[("class", &"grid"), ("x1", &LEFT), ("x2", &WIDTH), ("y1", &at), ("y2", &at)]).close("line");
        html.open("text", &[("x", &(LEFT - 8.0)), ("y", &two(y(n) + 4.0)), ("class", &"tick end")])
            .text(Count(n))
            .close("text");
    }
    let every = timeline.buckets.len().div_ceil(8).max(1);
    for (at, bucket) in timeline.buckets.iter().enumerate() {
        let x = LEFT + slot * at as f64 + (slot - bar) / 2.0;
        let mut below = 0;
        for outcome in Outcome::ALL {
            let count = bucket.requests.of(outcome);
            if count == 0 {
                continue;
            }
            let (bottom, upper) = (y(below), y(below.saturating_add(count)));
            below = below.saturating_add(count);
            let class = format!("fill-{}", outcome.as_str());
            html.open(
                "rect",
                &[
                    ("class", &class),
                    ("x", &two(x)),
                    ("y", &two(upper)),
                    ("width", &two(bar)),
                    ("height", &two((bottom - upper).max(0.6))),
                ],
            );
            let from = minute(bucket.from_micros);
            html.element("title", "", format!("{from}: {} {}", Count(count), outcome.as_str())).close("rect");
        }
        if at % every == 0 {
            let label = label(bucket.from_micros, timeline.bucket_seconds);
            html.open("text", &[("x", &two(x + bar / 2.0)), ("y", &(HEIGHT - 8.0)), ("class", &"tick mid")])
                .text(label)
                .close("text");
        }
    }
    let base = two(y(0));
    html.open("line", &[("class", &"axis"), ("x1", &LEFT), ("x2", &WIDTH), ("y1", &base), ("y2", &base)]).close("line");
    html.close("svg");
}

/// One bar of parts side by side: class of the colour, count, words.
pub(super) fn bar(html: &mut Html, class: &'static str, parts: &[(&'static str, u64, &str)]) {
    const WIDTH: f64 = 400.0;
    let total = parts.iter().fold(0_u64, |sum, (_, count, _)| sum.saturating_add(*count));
    let words: Vec<String> =
        parts.iter().filter(|part| part.1 > 0).map(|(_, n, word)| format!("{} {word}", Count(*n))).collect();
    html.open(
        "svg",
        &[
            ("class", &class),
            ("viewBox", &format!("0 0 {WIDTH} 12")),
            ("preserveAspectRatio", &"none"),
            ("role", &"img"),
            ("aria-label", &words.join(", ")),
        ],
    );
    html.open("rect", &[("class", &"fill-none"), ("width", &WIDTH), ("height", &12)]).close("rect");
    let mut x = 0.0;
    for (class, count, word) in parts.iter().filter(|part| part.1 > 0) {
        // What is there can be seen, however little it is.
        let width = (WIDTH * *count as f64 / total as f64).max(2.0);
        html.open("rect", &[("class", class), ("x", &two(x)), ("width", &two(width)), ("height", &12)]);
        html.element("title", "", format!("{} {word}", Count(*count))).close("rect");
        x += width;
    }
    html.close("svg");
}

/// A step of 1, 2 or 5 times a power of ten, and the end of an axis of at most five of them.
fn scale(most: u64) -> (u64, u64) {
    let mut power: u64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if step.saturating_mul(5) >= most {
                return (step, most.div_ceil(step).saturating_mul(step));
            }
        }
        power = power.saturating_mul(10);
    }
}

/// What stands under a column: as much of its time as columns differ in.
fn label(micros: u64, bucket_seconds: u64) -> String {
    let text = utc(micros);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    match bucket_seconds {
        0..86_400 => format!("{} {}", part(5, 10), part(11, 16)),
        86_400..31_536_000 => part(0, 10),
        _ => part(0, 4),
    }
}

/// Two decimals: a coordinate that is the same on every machine.
fn two(x: f64) -> String {
    format!("{x:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_where_they_should() {
        let check = |most, expect| assert_eq!(scale(most), expect, "{most}");
        check(1, (1, 1));
        check(5, (1, 5));
        check(6, (2, 6));
        check(11, (5, 15));
        check(98, (20, 100));
        check(1_234, (500, 1_500));
        check(u64::MAX / 16, scale(u64::MAX / 16));
    }
}
