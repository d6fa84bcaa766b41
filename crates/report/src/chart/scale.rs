//! From values to pixels: ranges, ticks at round numbers, axes.

use super::svg::{Anchor, Area, Canvas, TEXT, text_width};
use crate::number;

/// An axis: its name, with the unit, and its scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub(super) label: String,
    pub(super) logarithmic: bool,
    pub(super) range: Option<(f64, f64)>,
}

impl Axis {
    /// A linear axis whose range is that of the data, widened to round numbers.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), logarithmic: false, range: None }
    }

    /// A logarithmic axis; values that are not above zero are left out.
    pub fn logarithmic(mut self) -> Self {
        self.logarithmic = true;
        self
    }

    /// Sets the range, both ends included; values outside are not drawn. An empty or infinite range is ignored.
    pub fn range(mut self, from: f64, to: f64) -> Self {
        self.range = drawable(from).zip(drawable(to)).filter(|(from, to)| from < to);
        self
    }
}

impl From<&str> for Axis {
    fn from(label: &str) -> Self {
        Self::new(label)
    }
}

impl From<String> for Axis {
    fn from(label: String) -> Self {
        Self::new(label)
    }
}

/// The step of 1, 2 or 5 times a power of ten that cuts `span` into at most `most` parts.
pub(super) fn step(span: f64, most: usize) -> f64 {
    let rough = span / most.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    // The last factor is there for rounding errors alone: `rough / power` is below 10.
    let factor =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| rough <= f * power * (1.0 + 1e-9)).unwrap_or(10.0);
    factor * power
}

/// `value`, limited so that arithmetic on a scale cannot overflow; tiny values become 0.
pub(super) fn drawable(value: f64) -> Option<f64> {
    match value.abs() {
        ..1e-300 => Some(0.0),
        1e-300..=1e300 => Some(value),
        _ => None,
    }
}

/// The multiples of `step` from `lo` to `hi`, both ends included.
pub(super) fn multiples(lo: f64, hi: f64, step: f64) -> Vec<f64> {
    let (first, last) = ((lo / step - 1e-6).ceil() as i64, (hi / step + 1e-6).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// `value` with as many decimals as a multiple of `step` needs.
pub(super) fn label(value: f64, step: f64) -> String {
    let places = (-(step * 1.000_001).log10().floor()).max(0.0) as usize;
    if places > 5 || step >= 1e9 { scientific(value) } else { number::decimal(value, places) }
}

/// Two decimals and a power of ten.
pub(super) fn scientific(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let mut exponent = value.abs().log10().floor() as i32;
    let mut digits = (value / 10f64.powi(exponent) * 100.0).round() / 100.0;
    if digits.abs() >= 10.0 {
        (digits, exponent) = (digits / 10.0, exponent + 1);
    }
    let superscript: String = exponent
        .to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            c => c.to_digit(10).and_then(|d| char::from_u32(0x2070 + d)).unwrap_or(c),
        })
        .collect();
    if digits == 1.0 {
        format!("10{superscript}")
    } else {
        format!("{digits}·10{superscript}").replace('-', "−")
    }
}

/// Maps values to pixels.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    lo: f64,
    hi: f64,
    logarithmic: bool,
    pixels: (f64, f64),
    ticks: Vec<(f64, String)>,
    /// Whether no value could be used.
    pub(super) empty: bool,
}

impl Scale {
    /// A scale for `values`, with at most about `most` ticks; the pixels are set by [`Scale::onto`].
    pub(super) fn new(axis: &Axis, values: impl IntoIterator<Item = f64>, most: usize) -> Self {
        let mut integers = true;
        let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.into_iter().filter_map(drawable).filter(|&v| !axis.logarithmic || v > 0.0) {
            integers &= v.fract() == 0.0;
            (lo, hi) = (lo.min(v), hi.max(v));
        }
        let empty = lo > hi;
        if empty {
            (lo, hi) = if axis.logarithmic { (1.0, 10.0) } else { (0.0, 1.0) };
            integers = false;
        }
        let scale = if axis.logarithmic {
            Self::log(axis, lo, hi)
        } else {
            Self::linear(axis, lo, hi, integers, most)
        };
        Self { empty, ..scale }
    }

    fn linear(axis: &Axis, mut lo: f64, mut hi: f64, integers: bool, most: usize) -> Self {
        if lo == hi {
            let margin = if lo == 0.0 { 1.0 } else { lo.abs() * 0.1 };
            (lo, hi) = (lo - margin, hi + margin);
        }
        if let Some(range) = axis.range {
            (lo, hi) = range;
        }
        let mut step = step(hi - lo, most);
        if integers {
            step = step.max(1.0);
        }
        if axis.range.is_none() {
            (lo, hi) = ((lo / step + 1e-6).floor() * step, (hi / step - 1e-6).ceil() * step);
        }
        let ticks = multiples(lo, hi, step).into_iter().map(|v| (v, label(v, step))).collect();
        Self { lo, hi, logarithmic: false, pixels: (0.0, 1.0), ticks, empty: false }
    }

    fn log(axis: &Axis, mut lo: f64, mut hi: f64) -> Self {
        if let Some(range) = axis.range.filter(|range| range.0 > 0.0) {
            (lo, hi) = range;
        } else {
            // To the next of 1, 2, 5 times a power of ten on each side.
            let candidates = Self::log_candidates(lo, hi);
            lo = candidates.iter().rev().copied().find(|&c| c <= lo * (1.0 + 1e-9)).unwrap_or(lo);
            hi = candidates.iter().copied().find(|&c| c >= hi * (1.0 - 1e-9) && c > lo).unwrap_or(hi);
        }
        let decades = hi.log10() - lo.log10();
        // Only the powers of ten if no more fit, and every other one if there are many.
        let every = (decades / 8.0).ceil().max(1.0);
        let shown = |c: f64| decades < 2.1 || (is_power_of_ten(c) && c.log10().round() % every == 0.0);
        let mut values: Vec<f64> = Self::log_candidates(lo, hi)
            .into_iter()
            .filter(|&c| (lo * (1.0 - 1e-9)..=hi * (1.0 + 1e-9)).contains(&c) && shown(c))
            .collect();
        if values.len() < 2 {
            values = vec![lo, hi];
        }
        let short = values.iter().all(|v| (0.000_099..1_000_001.0).contains(v));
        let label = if short { plain } else { scientific };
        let ticks = values.into_iter().map(|v| (v, label(v))).collect();
        Self { lo, hi, logarithmic: true, pixels: (0.0, 1.0), ticks, empty: false }
    }

    fn log_candidates(lo: f64, hi: f64) -> Vec<f64> {
        let (first, last) = (lo.log10().floor() as i32, hi.log10().ceil() as i32);
        let candidates = (first..=last).flat_map(|e| [1.0, 2.0, 5.0].map(|f| f * 10f64.powi(e)));
        candidates.filter(|c| c.is_normal()).collect()
    }

    pub(super) fn onto(mut self, from: f64, to: f64) -> Self {
        self.pixels = (from, to);
        self
    }

    /// The pixel of `value`, or `None` if it is not on the scale.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let margin = if self.logarithmic { 0.0 } else { (self.hi - self.lo) * 1e-9 };
        if !value.is_finite() || value < self.lo - margin || value > self.hi + margin {
            return None;
        }
        let share = if self.logarithmic {
            (value.ln() - self.lo.ln()) / (self.hi.ln() - self.lo.ln())
        } else {
            (value - self.lo) / (self.hi - self.lo)
        };
        Some(self.pixels.0 + share * (self.pixels.1 - self.pixels.0))
    }

    /// The pixel of `value`, or of the end of the scale that it lies beyond.
    pub(super) fn clamped(&self, value: f64) -> f64 {
        self.at(value.clamp(self.lo, self.hi)).unwrap_or(self.pixels.0)
    }

    /// The pixels of the ticks, with their labels.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks.iter().filter_map(|(value, text)| Some((self.at(*value)?, text.as_str())))
    }

    pub(super) fn tick_width(&self) -> f64 {
        self.ticks.iter().map(|(_, text)| text_width(text, TEXT)).fold(0.0, f64::max)
    }

    #[cfg(test)]
    fn labels(&self) -> Vec<&str> {
        self.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }
}

fn plain(value: f64) -> String {
    number::decimal(value, (-(value * 1.000_001).log10().floor()).max(0.0) as usize)
}

/// Draws the lines across `area` at the ticks of `y`, their labels to the left, and the axis's name above.
pub(super) fn y_axis(canvas: &mut Canvas, area: Area, y: &Scale, name: &str) {
    for (value, text) in &y.ticks {
        let Some(at) = y.at(*value) else { continue };
        canvas.line("grid", (area.left, at), (area.right, at));
        canvas.text("tick", (area.left - 6.0, at + 4.0), Anchor::End, text);
    }
    canvas.text("axis", (area.left - y.tick_width() - 6.0, area.top - 10.0), Anchor::Start, name);
}

/// Writes "no data".
pub(super) fn say_empty(canvas: &mut Canvas, area: Area) {
    let center = ((area.left + area.right) / 2.0, (area.top + area.bottom) / 2.0 - 6.0);
    canvas.text("note", center, Anchor::Middle, "no data");
}

/// Draws the base line of `area`, the labels of `x` below it as far as they don't touch, and the axis's
/// name below them.
pub(super) fn x_axis(canvas: &mut Canvas, area: Area, x: &Scale, name: &str) {
    canvas.line("base", (area.left, area.bottom), (area.right, area.bottom));
    let mut taken: Vec<(f64, f64)> = Vec::new();
    // On a logarithmic axis the powers of ten take precedence over the ticks between them.
    let power = |value: f64| !x.logarithmic || is_power_of_ten(value);
    let (first, second): (Vec<_>, Vec<_>) = x.ticks.iter().partition(|(value, _)| power(*value));
    for (value, text) in first.into_iter().chain(second) {
        let Some(at) = x.at(*value) else { continue };
        let half = text_width(text, TEXT) / 2.0;
        // The first and the last label stay on the canvas.
        let middle = at.min(canvas.width - half).max(half);
        canvas.line("base", (at, area.bottom), (at, area.bottom + 4.0));
        let (from, to) = (middle - half - 3.0, middle + half + 3.0);
        if taken.iter().all(|other| to <= other.0 || from >= other.1) {
            canvas.text("tick", (middle, area.bottom + 17.0), Anchor::Middle, text);
            taken.push((from, to));
        }
    }
    canvas.text("axis", ((area.left + area.right) / 2.0, area.bottom + 34.0), Anchor::Middle, name);
}

fn is_power_of_ten(value: f64) -> bool {
    let exponent = value.log10();
    (exponent - exponent.round()).abs() < 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], most: usize) -> Vec<String> {
        let scale = Scale::new(&Axis::new(""), values.iter().copied(), most);
        scale.labels().into_iter().map(String::from).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&[0.013, 0.98], 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[0.31, 0.87], 5), ["0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[1.0, 100.0], 5), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(&[-3.0, 12_345.0], 4), ["−5,000", "0", "5,000", "10,000", "15,000"]);
        assert_eq!(labels(&[0.0, 3.2e-7], 4), ["0", "10⁻⁷", "2·10⁻⁷", "3·10⁻⁷", "4·10⁻⁷"]);
        // No tick between two epochs.
        assert_eq!(labels(&[1.0, 3.0], 8), ["1", "2", "3"]);
    }

    #[test]
    fn degenerate_data_still_has_a_scale() {
        for values in [
            &[][..],
            &[f64::NAN],
            &[f64::INFINITY],
            &[0.0],
            &[7.0, 7.0],
            &[-1e-12],
            &[1e300],
            &[1e-300, 1e300],
            &[5e-324, f64::MAX],
        ] {
            for axis in [Axis::new(""), Axis::new("").logarithmic()] {
                let scale = Scale::new(&axis, values.iter().copied(), 5).onto(0.0, 100.0);
                assert!(scale.hi > scale.lo, "{values:?} {scale:?}");
                assert!(!scale.ticks.is_empty() && scale.ticks.len() < 20, "{values:?} {scale:?}");
                assert!((0.0..=100.0).contains(&scale.clamped(3.0)));
            }
        }
    }

    #[test]
    fn logarithmic_ticks() {
        let log = |lo: f64, hi: f64| Scale::new(&Axis::new("").logarithmic(), [lo, hi], 5);
        assert_eq!(
            log(1e-4, 1e-2).labels(),
            ["0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01"]
        );
        assert_eq!(log(3e-6, 20.0).labels(), ["10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰", "10¹"]);
        assert_eq!(log(30.0, 30.0).labels(), ["20", "50"]);
        assert_eq!(log(1e-9, 1e9).labels(), ["10⁻⁹", "10⁻⁶", "10⁻³", "10⁰", "10³", "10⁶", "10⁹"]);
        let narrow = Scale::new(&Axis::new("").logarithmic().range(3.0, 4.0), [3.5], 5);
        assert_eq!(narrow.labels(), ["3", "4"]);
        let scale = log(1.0, 100.0).onto(0.0, 10.0);
        assert!((scale.at(10.0).unwrap() - 5.0).abs() < 1e-12);
        assert_eq!(scale.at(0.0), None);
    }

    #[test]
    fn a_range_of_the_callers_is_kept() {
        let scale = Scale::new(&Axis::new("").range(0.0, 0.9), [0.1, 5.0], 5).onto(0.0, 90.0);
        assert_eq!(scale.labels(), ["0.0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(scale.at(5.0), None);
        assert_eq!(scale.clamped(5.0), 90.0);
        assert_eq!(Axis::new("").range(1.0, 1.0).range, None);
    }
}
