//! Histograms.

use super::list;
use super::scale::{Axis, Scale, drawable, multiples, say_empty, step, x_axis, y_axis};
use super::svg::{Area, Canvas, Swatch, WIDE, coordinate, legend, series_class};
use crate::number;

/// The arrangement of the series of a [`Histogram`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrangement {
    /// Overlaid outlines.
    #[default]
    Overlaid,
    /// Stacked bars.
    Stacked,
    /// Bars side by side.
    Grouped,
}

/// The measure of a [`Histogram`]'s height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// The number of values in the bin.
    #[default]
    Count,
    /// The share of the series in the bin, to compare series of different sizes.
    Share,
}

/// Counts of values in bins, for one series or several.
///
/// A bin includes its lower edge but not its upper one; the last bin includes both, as in NumPy. Without
/// [`Histogram::edges`] there are at most about 30 bins with edges at round numbers; whole numbers get bins
/// of whole width, of which the last one too does not hold its upper edge.
///
/// ```
/// use firstsight_report::Histogram;
/// let confidence = Histogram::new("confidence", "images")
///     .edges([0.0, 0.5, 1.0])
///     .series("right", [0.7, 0.99, 1.0])
///     .series("wrong", [0.4, 0.6]);
/// assert_eq!(confidence.counts(), [[0, 3], [1, 1]]);
/// ```
#[derive(Clone, Debug)]
pub struct Histogram {
    x: Axis,
    counted: String,
    measure: Measure,
    arrangement: Arrangement,
    edges: Option<Vec<f64>>,
    series: Vec<(String, Vec<(f64, u64)>)>,
}

impl Histogram {
    /// A histogram without values: the name of the x axis, with its unit, and the name of the items counted.
    pub fn new(x: impl Into<Axis>, counted: impl Into<String>) -> Self {
        Self {
            x: x.into(),
            counted: counted.into(),
            measure: Measure::default(),
            arrangement: Arrangement::default(),
            edges: None,
            series: Vec::new(),
        }
    }

    /// Adds values. Those outside of the edges, and those that are not finite, are counted in the legend.
    pub fn series(self, name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        self.counted_series(name, values.into_iter().map(|value| (value, 1)))
    }

    /// Adds values with their counts: (value, count).
    pub fn counted_series(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = (f64, u64)>,
    ) -> Self {
        self.series.push((name.into(), values.into_iter().collect()));
        self
    }

    /// Sets the bins' edges, in ascending order; fewer than two are ignored.
    pub fn edges(mut self, edges: impl IntoIterator<Item = f64>) -> Self {
        let mut edges: Vec<f64> = edges.into_iter().filter(|edge| edge.is_finite()).collect();
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        self.edges = (edges.len() > 1).then_some(edges);
        self
    }

    /// Sets the arrangement of the series.
    pub fn arranged(mut self, arrangement: Arrangement) -> Self {
        self.arrangement = arrangement;
        self
    }

    /// Sets the measure of the height.
    pub fn measured(mut self, measure: Measure) -> Self {
        self.measure = measure;
        self
    }

    /// The bins' edges, one more than there are bins.
    pub fn bin_edges(&self) -> Vec<f64> {
        if let Some(edges) = &self.edges {
            return edges.clone();
        }
        let values =
            || self.series.iter().flat_map(|(_, values)| values).filter_map(|value| drawable(value.0));
        let (lo, hi) =
            values().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
        if lo > hi {
            return vec![0.0, 1.0];
        }
        let whole = values().all(|v| v.fract() == 0.0);
        let span = if hi > lo { hi - lo } else { lo.abs().max(1.0) };
        let mut width = step(span, 30);
        if whole {
            width = width.max(1.0);
        }
        let first = (lo / width + 1e-9).floor();
        let last =
            if whole { (hi / width).floor() + 1.0 } else { (hi / width - 1e-9).ceil().max(first + 1.0) };
        multiples(first * width, last * width, width)
    }

    /// The number of values in each bin, for each series.
    pub fn counts(&self) -> Vec<Vec<u64>> {
        let edges = self.bin_edges();
        self.series.iter().map(|(_, values)| count(values, &edges)).collect()
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "Histogram of {} of {}: {}",
            self.x.label,
            self.counted,
            list(self.series.iter().map(|(name, _)| name.as_str()))
        )
    }

    pub(super) fn draw(&self, width: f64) -> Canvas {
        let edges = self.bin_edges();
        let counts: Vec<Vec<u64>> = self.series.iter().map(|(_, values)| count(values, &edges)).collect();
        let heights: Vec<Vec<f64>> = counts.iter().map(|counts| self.heights(counts)).collect();
        let names: Vec<String> = self
            .series
            .iter()
            .zip(&counts)
            .map(|((name, values), counts)| legend_name(name, values, counts))
            .collect();

        let mut canvas = Canvas::new(width);
        let top = legend(&mut canvas, 0.0, Swatch::Bar, &names);
        canvas.height = top + if width >= WIDE { 300.0 } else { 250.0 };
        let tallest = (0..edges.len() - 1).map(|bin| {
            let column = heights.iter().filter_map(|heights| heights.get(bin).copied());
            if self.arrangement == Arrangement::Stacked { column.sum() } else { column.fold(0.0, f64::max) }
        });
        let name = match self.measure {
            Measure::Count => self.counted.clone(),
            Measure::Share => format!("share of {}, %", self.counted),
        };
        let y = Scale::new(&Axis::new(&name), tallest.chain([0.0]), 5);
        let left = y.tick_width() + 8.0;
        let area = Area { left, top: top + 24.0, right: width - 8.0, bottom: canvas.height - 40.0 };
        let y = y.onto(area.bottom, area.top);
        let (first, last) = (edges[0], edges[edges.len() - 1]);
        let axis = if self.x.range.is_some() { self.x.clone() } else { self.x.clone().range(first, last) };
        let most = (area.width() / 55.0) as usize;
        let x = Scale::new(&axis, edges.iter().copied(), most).onto(area.left, area.right);

        y_axis(&mut canvas, area, &y, &name);
        if self.arrangement == Arrangement::Overlaid {
            for (k, heights) in heights.iter().enumerate() {
                let class = format!("overlay {}", series_class(k));
                canvas.path(&class, &outline(&edges, heights, &x, &y));
            }
        } else {
            for (bin, edge) in edges.windows(2).enumerate() {
                self.draw_bin(&mut canvas, (edge[0], edge[1]), bin, &heights, &counts, (&x, &y));
            }
        }
        x_axis(&mut canvas, area, &x, &self.x.label);
        if counts.iter().flatten().all(|&n| n == 0) {
            say_empty(&mut canvas, area);
        }
        canvas
    }

    /// The bars of one bin, stacked or side by side.
    fn draw_bin(
        &self,
        canvas: &mut Canvas,
        (from, to): (f64, f64),
        bin: usize,
        heights: &[Vec<f64>],
        counts: &[Vec<u64>],
        (x, y): (&Scale, &Scale),
    ) {
        let stacked = self.arrangement == Arrangement::Stacked;
        let (mut left, right) = (x.clamped(from) + 0.5, x.clamped(to) - 0.5);
        // Groups stand apart from one another; stacks join as a histogram's bars do.
        let across = if stacked { right - left } else { (right - left) * 0.9 / counts.len() as f64 };
        let mut base = 0.0;
        for (k, ((name, _), (heights, counts))) in
            self.series.iter().zip(heights.iter().zip(counts)).enumerate()
        {
            if counts[bin] > 0 {
                let (top, bottom) = (y.clamped(base + heights[bin]), y.clamped(base));
                let bar = Area { left, top, right: left + across, bottom };
                let span = format!("{} to {}", short_edge(from), short_edge(to));
                let title = format!("{name}, {span}: {}", number::count(counts[bin]));
                canvas.rect(&format!("bar {}", series_class(k)), bar, None, &title);
            }
            if stacked {
                base += heights[bin];
            } else {
                left += across;
            }
        }
    }

    /// In the unit of the axis: a number, or percent.
    fn heights(&self, counts: &[u64]) -> Vec<f64> {
        let total: u64 = counts.iter().sum();
        let unit = match self.measure {
            Measure::Share if total > 0 => 100.0 / total as f64,
            _ => 1.0,
        };
        counts.iter().map(|&n| n as f64 * unit).collect()
    }
}

/// The series' name, its number of values, and the number of them outside of all bins.
fn legend_name(name: &str, values: &[(f64, u64)], counts: &[u64]) -> String {
    let total: u64 = values.iter().map(|value| value.1).sum();
    let inside: u64 = counts.iter().sum();
    match total - inside {
        0 => format!("{name} ({})", number::count(total)),
        outside => format!("{name} ({}, {} outside)", number::count(total), number::count(outside)),
    }
}

fn count(values: &[(f64, u64)], edges: &[f64]) -> Vec<u64> {
    let mut counts = vec![0; edges.len() - 1];
    for &(value, times) in values {
        // The number of edges at or below the value; the last edge belongs to the last bin.
        let at = edges.partition_point(|&edge| edge <= value);
        let bin = if Some(&value) == edges.last() { edges.len() - 2 } else { at.wrapping_sub(1) };
        if let Some(count) = counts.get_mut(bin) {
            *count += times;
        }
    }
    counts
}

/// The steps over the bins, from the base line and back to it.
fn outline(edges: &[f64], heights: &[f64], x: &Scale, y: &Scale) -> String {
    let mut d = format!("M{},{}", coordinate(x.clamped(edges[0])), coordinate(y.clamped(0.0)));
    for (edge, &height) in edges[1..].iter().zip(heights) {
        d.push_str(&format!("V{}H{}", coordinate(y.clamped(height)), coordinate(x.clamped(*edge))));
    }
    d.push_str(&format!("V{}", coordinate(y.clamped(0.0))));
    d
}

fn short_edge(edge: f64) -> String {
    let text = number::decimal(edge, 4);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Histogram {
        Histogram::new("x", "values").series("a", values.iter().copied())
    }

    #[test]
    fn a_bin_holds_its_lower_edge_and_the_last_one_both() {
        let histogram = of(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.1, -0.1, f64::NAN]).edges([0.0, 1.0, 2.0]);
        assert_eq!(histogram.counts(), [[2, 3]]);
        let (name, values) = &histogram.series[0];
        assert_eq!(legend_name(name, values, &histogram.counts()[0]), "a (8, 3 outside)");
    }

    #[test]
    fn edges_are_round_and_hold_everything() {
        let edges = of(&[0.013, 0.999, 1.0]).bin_edges();
        assert_eq!((edges[0], *edges.last().unwrap(), edges.len()), (0.0, 1.0, 21));
        // Widths from 23 to 152: steps of 5, the last bin [150, 155).
        let edges = of(&[23.0, 152.0]).bin_edges();
        assert_eq!((edges[0], edges[1], *edges.last().unwrap()), (20.0, 25.0, 155.0));
        // Whole numbers: a bin for each.
        let histogram = of(&[1.0, 2.0, 3.0, 3.0]);
        assert_eq!(histogram.bin_edges(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(histogram.counts(), [[1, 1, 2]]);
    }

    #[test]
    fn degenerate_data_has_bins() {
        for values in
            [&[][..], &[5.0], &[0.25, 0.25], &[f64::NAN], &[-1e9, 1e9], &[0.0], &[1e-300], &[5e-324]]
        {
            let histogram = of(values);
            let edges = histogram.bin_edges();
            assert!(edges.len() > 1 && edges.len() < 40, "{values:?}: {edges:?}");
            assert!(edges.is_sorted_by(|a, b| a < b), "{values:?}: {edges:?}");
            let finite = values.iter().filter(|v| v.is_finite()).count() as u64;
            assert_eq!(histogram.counts()[0].iter().sum::<u64>(), finite, "{values:?}: {edges:?}");
        }
    }

    #[test]
    fn counted_values_weigh() {
        let histogram =
            Histogram::new("width, pixels", "images").counted_series("train", [(20.0, 3), (21.0, 4)]);
        assert_eq!(histogram.counts(), [[3, 4]]);
    }

    #[test]
    fn shares_sum_to_a_hundred() {
        let histogram = of(&[1.0, 2.0, 2.0, 4.0]).measured(Measure::Share);
        assert_eq!(histogram.heights(&histogram.counts()[0]).iter().sum::<f64>(), 100.0);
    }
}
