//! Masks of numbers. They cut the line of numbers into intervals and tell which one a number is in, exactly: what is cut at
//! some points tells nothing that the same cuts and more would hide, for integers, decimals and floats alike.
//!
//! A cut is a decimal number. An integer or decimal is compared with the number itself, a float with the float that is
//! nearest to it, which is the float that the cut's text stands for.

use super::map_text;
use crate::fresh::Texts;
use crate::schema::ColumnType;
use polars::prelude::*;
use std::cmp::Ordering;
use std::fmt;

/// Digits that a number in a mask can have, and digits after its point.
const MAX_DIGITS: usize = 15;
const MAX_DECIMALS: usize = 9;
/// A float has no place for fractions beside this, so adding and taking it away rounds to whole numbers.
const WHOLE: f64 = (3u64 << 51) as f64;
/// Beyond, a float isn't masked by steps: its neighbours are too far apart.
const MAX_FLOAT: f64 = (1u64 << 50) as f64;

/// A decimal number in a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number {
    units: i64,
    /// Digits after the point, the last of them not 0.
    decimals: u8,
}

impl Number {
    /// Reads a number such as `-2.5`: at most 15 digits, 9 of them after the point.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(decimals) {
            return None;
        }
        let decimals = decimals.trim_end_matches('0');
        if whole.len() + decimals.len() > MAX_DIGITS || decimals.len() > MAX_DECIMALS {
            return None;
        }
        let units = sign * format!("{whole}{decimals}").parse::<i64>().ok()?;
        Some(Self { units, decimals: u8::try_from(decimals.len()).ok()? })
    }

    pub(super) fn is_positive(self) -> bool {
        self.units > 0
    }

    /// The number if it is a whole one of two or more.
    fn whole(self) -> Option<i64> {
        (self.decimals == 0 && self.units >= 2).then_some(self.units)
    }

    /// The least common multiple of two whole steps of two or more.
    pub(super) fn common_multiple(self, other: Self) -> Option<Self> {
        let (a, b) = (self.whole()?, other.whole()?);
        let multiple = (a / divisor(a, b)).checked_mul(b)?;
        (multiple < 10i64.pow(MAX_DIGITS as u32)).then_some(Self { units: multiple, decimals: 0 })
    }

    /// As [`common_multiple`](Self::common_multiple), if it is an odd multiple of both.
    pub(super) fn odd_common_multiple(self, other: Self) -> Option<Self> {
        let is_same = self.units.trailing_zeros() == other.units.trailing_zeros();
        self.common_multiple(other).filter(|_| is_same)
    }

    /// The number in units of 10⁻ᵈ, if it is a multiple of one.
    fn at(self, decimals: u8) -> Option<i128> {
        i128::from(self.units).checked_mul(10i128.checked_pow(decimals.checked_sub(self.decimals)?.into())?)
    }

    /// The least multiple of 10⁻ᵈ that isn't below the number, in that unit; the largest number there is for what is larger.
    fn ceil_at(self, decimals: u8) -> i128 {
        match self.decimals.checked_sub(decimals) {
            Some(surplus) => -(-i128::from(self.units)).div_euclid(10i128.pow(surplus.into())),
            None => self.at(decimals).unwrap_or(if self.units < 0 { i128::MIN } else { i128::MAX }),
        }
    }

    /// The float that is exactly the number, if there is one.
    fn float(self) -> Option<f64> {
        (self.units % 5i64.pow(self.decimals.into()) == 0).then(|| self.units as f64 / self.power())
    }

    /// What divides its units.
    fn power(self) -> f64 {
        10f64.powi(self.decimals.into())
    }
}

fn divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        // INVARIANT: 15 digits and 9 more fit.
        self.at(MAX_DECIMALS as u8).cmp(&other.at(MAX_DECIMALS as u8))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(self.units.into(), self.decimals))
    }
}

/// So many units of 10⁻ᵈ as text.
fn spelled(units: i128, decimals: u8) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let width = usize::from(decimals) + 1;
    let mut text = format!("{sign}{:0width$}", units.unsigned_abs());
    if decimals > 0 {
        text.insert(text.len() - usize::from(decimals), '.');
    }
    text
}

/// Reads the text of a `numeric` as whole units of 10⁻ᵈ, rounded down. `None` for what isn't finite or has more than 27
/// digits before the point.
fn floor_at(text: &str, decimals: u8) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || whole.len() > 27 {
        return None;
    }
    let shown = fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals.into());
    let units = whole.bytes().chain(shown).fold(0, |units, digit| units * 10 + i128::from(digit - b'0'));
    let is_exact = fraction.bytes().skip(decimals.into()).all(|digit| digit == b'0');
    Some(if negative { -units - i128::from(!is_exact) } else { units })
}

/// Evaluates `$result` with the integer column `$cells` of its own type.
macro_rules! integers {
    ($column:expr, $cells:ident => $result:expr) => {
        match $column.dtype() {
            DataType::Int8 => integers!(@ $column.i8(), $cells => $result),
            DataType::Int16 => integers!(@ $column.i16(), $cells => $result),
            DataType::Int32 => integers!(@ $column.i32(), $cells => $result),
            DataType::Int64 => integers!(@ $column.i64(), $cells => $result),
            DataType::UInt8 => integers!(@ $column.u8(), $cells => $result),
            DataType::UInt16 => integers!(@ $column.u16(), $cells => $result),
            DataType::UInt32 => integers!(@ $column.u32(), $cells => $result),
            _ => integers!(@ $column.u64(), $cells => $result),
        }
    };
    (@ $typed:expr, $cells:ident => $result:expr) => {
        $typed.map(|$cells| $result)
    };
}
pub(super) use integers;

/// A column of these numbers, of the name and type of `column`.
pub(super) fn like<T: PolarsNumericType>(
    column: &ChunkedArray<T>,
    cells: impl Iterator<Item = Option<T::Native>>,
) -> Series
where
    ChunkedArray<T>: IntoSeries,
{
    ChunkedArray::<T>::from_iter_options(column.name().clone(), cells).into_series()
}

// ---------------------------------------------------------------------------------------------------------------------------
// Steps

/// What is told of a number by steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The start of the step that it is in.
    Start,
    /// The nearest multiple of the step, the upper one of two.
    Nearest,
}

/// Whether a column of this type can be told by steps of this length, and loses something by it.
pub(super) fn steps_fit(step: Number, column: &ColumnType) -> bool {
    step.is_positive()
        && match column {
            ColumnType::Float32 | ColumnType::Float64 | ColumnType::Numeric => true,
            ColumnType::Decimal { scale, .. } => step.at(*scale).is_some_and(|units| units >= 2),
            _ => column.int_range().is_some() && step.whole().is_some(),
        }
}

pub(super) fn by_steps(told: Told, step: Number, column: &Series, column_type: &ColumnType) -> PolarsResult<Series> {
    Ok(match column_type {
        ColumnType::Float64 => {
            let (steps, cells) = (FloatSteps::new(told, step), column.f64()?);
            not_nan(match step.float() {
                Some(step) => cells.apply_values(|x| steps.of(x, |k| k * step)),
                None => cells.apply_values(|x| steps.of(x, |k| steps.cut(k))),
            })
            .into_series()
        }
        ColumnType::Float32 => {
            let steps = FloatSteps::new(told, step);
            let single = |k: f64| f64::from(steps.cut(k) as f32);
            not_nan(column.f32()?.apply_values(|x| steps.of(x.into(), single) as f32)).into_series()
        }
        ColumnType::Decimal { precision, scale } => {
            let step = step.at(*scale).unwrap_or(i128::MAX);
            let most = 10i128.saturating_pow((*precision).into()) - 1;
            let masked = column.decimal()?.physical().apply_values(|x| match (i64::try_from(x), i64::try_from(step)) {
                // Most are small, and the processor divides those itself.
                (Ok(x), Ok(step)) if told == Told::Start && x >= 0 => i128::from(x - x % step),
                _ => integer_by_steps(told, step, x).clamp(-most, most),
            });
            masked.into_decimal_unchecked((*precision).into(), (*scale).into()).into_series()
        }
        ColumnType::Numeric => {
            // One digit more than the step has, so that half a step is a whole number.
            let decimals = step.decimals + 1;
            let units = step.at(decimals).unwrap_or(i128::MAX);
            map_text(column, |text, out| {
                let masked =
                    floor_at(text, decimals).map(|x| spelled(integer_by_steps(told, units, x) / 10, step.decimals));
                out.extend(masked.as_deref());
                masked.is_some()
            })?
        }
        ColumnType::Int64 => {
            let steps = IntegerSteps::new(told, step);
            column.i64()?.apply_values(|x| steps.of(x)).into_series()
        }
        _ => {
            let (least, most) = column_type.int_range().unwrap_or_default();
            let step = i128::from(step.units);
            integers!(column, cells => match (step.try_into(), told) {
                (Ok(step), Told::Start) => cells.apply_values(|x| x.saturating_sub(x.rem_euclid(step))).into_series(),
                (Ok(step), Told::Nearest) => cells.apply_values(|x| {
                    let rest = x.rem_euclid(step);
                    if rest >= step - rest { x.saturating_add(step - rest) } else { x.saturating_sub(rest) }
                }).into_series(),
                // The step is larger than any number of the type.
                (Err(_), _) => cells.apply_values(|x| {
                    integer_by_steps(told, step, x.into()).clamp(least, most).try_into().unwrap_or_default()
                }).into_series(),
            })?
        }
    })
}

fn integer_by_steps(told: Told, step: i128, x: i128) -> i128 {
    let rest = x.rem_euclid(step);
    if told == Told::Nearest && rest >= step - rest { x.saturating_add(step - rest) } else { x.saturating_sub(rest) }
}

/// Steps of integers of 64 bits, whose division would take the processor longer than all else. A quotient is the upper half of a
/// product with the reciprocal in 128 bits: exact, since the reciprocal is too large by less than 2⁻¹²⁸ and a number below 2⁶⁴.
#[derive(Clone, Copy)]
struct IntegerSteps {
    told: Told,
    step: u64,
    reciprocal: u128,
    /// 2⁶³ modulo the step: what is looked at is a number plus 2⁶³, which is never negative.
    offset: u64,
}

impl IntegerSteps {
    /// INVARIANT: `steps_fit` has seen that the step is a whole one of two or more.
    fn new(told: Told, step: Number) -> Self {
        let step = step.units.unsigned_abs().max(2);
        let steps = Self { told, step, reciprocal: u128::MAX / u128::from(step) + 1, offset: 0 };
        Self { offset: steps.remainder(1 << 63), ..steps }
    }

    fn remainder(&self, x: u64) -> u64 {
        let low = (u128::from(self.reciprocal as u64) * u128::from(x)) >> 64;
        let high = (self.reciprocal >> 64) * u128::from(x);
        let quotient = (high.wrapping_add(low) >> 64) as u64;
        x.wrapping_sub(quotient.wrapping_mul(self.step))
    }

    fn of(&self, x: i64) -> i64 {
        let rest = self.remainder(x as u64 ^ 1 << 63);
        // As small as the step, which has at most 50 bits.
        let rest = if rest >= self.offset { rest - self.offset } else { rest + self.step - self.offset };
        if self.told == Told::Nearest && rest >= self.step - rest {
            x.saturating_add((self.step - rest) as i64)
        } else {
            x.saturating_sub(rest as i64)
        }
    }
}

/// Steps of floats.
#[derive(Clone, Copy)]
struct FloatSteps {
    told: Told,
    units: f64,
    /// Division takes the processor longer than all else.
    reciprocal: f64,
    power: f64,
}

impl FloatSteps {
    fn new(told: Told, step: Number) -> Self {
        Self { told, units: step.units as f64, reciprocal: 1.0 / step.units as f64, power: step.power() }
    }

    /// So many steps, which may be halves. Numerators and denominators are whole numbers, or halves, that a float can hold, so there
    /// is one rounding.
    fn cut(self, k: f64) -> f64 {
        k * self.units / self.power
    }

    /// What is told of `x`, NaN for nothing; `cut` gives the float of the column that is nearest to so many steps.
    fn of(self, x: f64, cut: impl Fn(f64) -> f64) -> f64 {
        let scaled = x * self.power;
        // False for NaN, too.
        let is_small = scaled.abs() < MAX_FLOAT;
        let half = if self.told == Told::Nearest { 0.5 } else { 0.0 };
        // The nearest whole number is the step or the one above it, as long as rounding errs by less than a half: of what is
        // multiplied with the reciprocal, which is inexact from three units on, at most a third of 2⁵⁰ comes here.
        let about = scaled * self.reciprocal + half + WHOLE - WHOLE;
        let k = about - f64::from(u8::from(x < cut(about - half)));
        // Adding 0 turns -0 into 0.
        if is_small { cut(k) + 0.0 } else { f64::NAN }
    }
}

/// Null in place of NaN.
fn not_nan<T: PolarsFloatType>(cells: ChunkedArray<T>) -> ChunkedArray<T> {
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    let is_nan = |x: &T::Native| x != x;
    // Without an early end, many are looked at at once.
    let any = |values: &[T::Native]| values.iter().fold(false, |any, x| any | is_nan(x));
    if !cells.downcast_iter().any(|chunk| any(chunk.values())) {
        return cells;
    }
    let kept = cells.iter().map(|cell| cell.filter(|x| !is_nan(x)));
    ChunkedArray::from_iter_options(cells.name().clone(), kept)
}

// ---------------------------------------------------------------------------------------------------------------------------
// Ranges

/// Whether a column of this type has ranges.
pub(super) fn ranges_fit(column: &ColumnType) -> bool {
    let is_fraction = matches!(column, ColumnType::Float32 | ColumnType::Float64 | ColumnType::Numeric);
    is_fraction || matches!(column, ColumnType::Decimal { .. }) || column.int_range().is_some()
}

/// In place of each number, the range that it is in, as PostgreSQL writes a `numrange`. The bounds ascend.
pub(super) fn by_range(bounds: &[Number], column: &Series, column_type: &ColumnType) -> PolarsResult<Series> {
    let name = column.name().clone();
    let labels = labels(bounds);
    let integer_cuts = |decimals| bounds.iter().map(|bound| bound.ceil_at(decimals)).collect::<Vec<_>>();
    let float_cuts = || bounds.iter().map(|bound| bound.units as f64 / bound.power());
    match column_type {
        ColumnType::Float64 => labelled(name, column.f64()?.iter(), &float_cuts().collect::<Vec<_>>(), &labels),
        ColumnType::Float32 => {
            let cuts = float_cuts().map(|cut| cut as f32).collect::<Vec<_>>();
            labelled(name, column.f32()?.iter(), &cuts, &labels)
        }
        ColumnType::Decimal { scale, .. } => {
            labelled(name, column.decimal()?.physical().iter(), &integer_cuts(*scale), &labels)
        }
        ColumnType::Numeric => {
            let cells = column.str()?.iter().map(|cell| floor_at(cell?, MAX_DECIMALS as u8));
            labelled(name, cells, &integer_cuts(MAX_DECIMALS as u8), &labels)
        }
        _ => integers!(column, cells => {
            let cells = cells.iter().map(|cell| cell.map(i128::from));
            labelled(name, cells, &integer_cuts(0), &labels)
        })?,
    }
}

fn labels(bounds: &[Number]) -> Vec<String> {
    let ends = || bounds.iter().map(Number::to_string);
    let starts = std::iter::once("(".to_owned()).chain(ends().map(|start| format!("[{start}")));
    starts.zip(ends().chain([String::new()])).map(|(start, end)| format!("{start},{end})")).collect()
}

fn labelled<T: PartialOrd>(
    name: PlSmallStr,
    cells: impl Iterator<Item = Option<T>>,
    cuts: &[T],
    labels: &[String],
) -> PolarsResult<Series> {
    // What isn't equal to itself is no number.
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    let label = |x: T| if x == x { labels.get(cuts.partition_point(|cut| *cut <= x)) } else { None };
    let mut masked = Texts::with_capacity(cells.size_hint().0, 0);
    cells.for_each(|cell| masked.push(cell.and_then(label).map(String::as_str)));
    masked.finish(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        /// The product with the reciprocal gives what division gives.
        #[test]
        fn integers_of_64_bits(x in any::<i64>(), near in -3..4i64, step in 2..999_999_999_999_999u64, small in 2..20u64) {
            for step in [step, small, 1 << (step % 49 + 1)] {
                for told in [Told::Start, Told::Nearest] {
                    let number = Number { units: step as i64, decimals: 0 };
                    for x in [x, near, i64::MIN + (near + 3), i64::MAX - (near + 3), (x / 2 / step as i64) * step as i64 + near] {
                        let expected = integer_by_steps(told, step.into(), x.into()).clamp(i64::MIN.into(), i64::MAX.into());
                        prop_assert_eq!(i128::from(IntegerSteps::new(told, number).of(x)), expected, "{} by {}", x, step);
                    }
                }
            }
        }
    }
}
