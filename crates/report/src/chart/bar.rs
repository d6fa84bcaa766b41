//! Bar charts.

use super::list;
use super::scale::{Axis, Scale, scientific, x_axis, y_axis};
use super::svg::{Anchor, Area, Canvas, SMALL, Swatch, WIDE, legend, series_class, shorten, text_width};
use crate::{Error, Result, number};

/// A bar, or one for each series, for each category. The bars are vertical if the labels fit below them,
/// otherwise horizontal.
///
/// ```
/// use firstsight_report::BarChart;
/// let counts = BarChart::new("class", "images", ["ants", "bees"])
///     .series("train", [123.0, 121.0])?
///     .series("validation", [70.0, 83.0])?;
/// # Ok::<(), firstsight_report::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BarChart {
    category: String,
    value: Axis,
    labels: Vec<String>,
    series: Vec<(String, Vec<f64>)>,
}

impl BarChart {
    /// A chart without bars: the names of the two axes, and the categories.
    pub fn new(
        category: impl Into<String>,
        value: impl Into<Axis>,
        labels: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let labels = labels.into_iter().map(Into::into).collect();
        Self { category: category.into(), value: value.into(), labels, series: Vec::new() }
    }

    /// Adds a value for each category. One that is not finite has no bar.
    ///
    /// # Errors
    ///
    /// [`Error::Values`] when there are more or fewer values than categories.
    pub fn series(mut self, name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Result<Self> {
        let (name, values): (String, Vec<f64>) = (name.into(), values.into_iter().collect());
        let (expected, found) = (self.labels.len(), values.len());
        if expected != found {
            return Err(Error::Values { chart: format!("bar chart, series {name}"), expected, found });
        }
        self.series.push((name, values));
        Ok(self)
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "Bar chart of {} for each of {} {}: {}",
            self.value.label,
            self.labels.len(),
            self.category,
            list(self.series.iter().map(|(name, _)| name.as_str()))
        )
    }

    pub(super) fn draw(&self, width: f64) -> Canvas {
        let names: Vec<String> = self.series.iter().map(|(name, _)| name.clone()).collect();
        let mut canvas = Canvas::new(width);
        let top = legend(&mut canvas, 0.0, Swatch::Bar, &names);
        let values = self.series.iter().flat_map(|(_, values)| values.iter().copied());
        let scale = Scale::new(&self.value, values.chain([0.0]), 6);
        let widest = self.labels.iter().map(|label| text_width(label, SMALL)).fold(0.0, f64::max);
        let slot = (width - scale.tick_width() - 14.0) / self.labels.len().max(1) as f64;
        if widest <= slot {
            self.draw_standing(&mut canvas, top, scale);
        } else {
            self.draw_lying(&mut canvas, top, widest);
        }
        canvas
    }

    fn draw_standing(&self, canvas: &mut Canvas, top: f64, y: Scale) {
        let height = if canvas.width >= WIDE { 300.0 } else { 250.0 };
        canvas.height = top + height;
        let left = y.tick_width() + 8.0;
        let area = Area { left, top: top + 24.0, right: canvas.width - 6.0, bottom: canvas.height - 40.0 };
        let y = y.onto(area.bottom, area.top);
        y_axis(canvas, area, &y, &self.value.label);
        let slot = area.width() / self.labels.len().max(1) as f64;
        let thickness = (slot * 0.8).min(64.0) / self.series.len().max(1) as f64;
        let base = y.clamped(0.0);
        for (i, label) in self.labels.iter().enumerate() {
            let middle = area.left + (i as f64 + 0.5) * slot;
            canvas.text("small", (middle, area.bottom + 15.0), Anchor::Middle, label);
            let first = middle - thickness * self.series.len() as f64 / 2.0;
            for (k, (_, values)) in self.series.iter().enumerate() {
                let Some(&value) = values.get(i).filter(|value| value.is_finite()) else { continue };
                let (left, end) = (first + k as f64 * thickness, y.clamped(value));
                let bar = Area { left, top: end.min(base), right: left + thickness, bottom: end.max(base) };
                self.bar(canvas, bar, k, i, value);
                let text = short(value);
                if self.series.len() == 1 && text_width(&text, SMALL) + 4.0 <= slot {
                    canvas.text("small", (middle, bar.top - 4.0), Anchor::Middle, &text);
                }
            }
        }
        canvas.line("base", (area.left, base), (area.right, base));
        let middle = (area.left + area.right) / 2.0;
        canvas.text("axis", (middle, area.bottom + 34.0), Anchor::Middle, &self.category);
    }

    fn draw_lying(&self, canvas: &mut Canvas, top: f64, widest: f64) {
        let per_bar = if self.series.len() > 1 { 8.0 } else { 11.0 };
        let row = (per_bar * self.series.len() as f64 + 5.0).max(SMALL + 4.0);
        let left = widest.min(canvas.width * 0.4) + 8.0;
        let bottom = top + 20.0 + row * self.labels.len() as f64;
        // Space for the value next to the longest bar.
        let values = || self.series.iter().flat_map(|(_, values)| values.iter().copied());
        let beside = if self.series.len() == 1 {
            values().filter(|v| v.is_finite()).map(|v| text_width(&short(v), SMALL)).fold(0.0, f64::max) + 4.0
        } else {
            8.0
        };
        let area = Area { left, top: top + 20.0, right: canvas.width - beside, bottom };
        canvas.height = bottom + 40.0;
        let most = (area.width() / 60.0) as usize;
        let x = Scale::new(&self.value, values().chain([0.0]), most).onto(area.left, area.right);
        canvas.text("axis", (0.0, top + 10.0), Anchor::Start, &self.category);
        x_axis(canvas, area, &x, &self.value.label);
        let base = x.clamped(0.0);
        for (i, label) in self.labels.iter().enumerate() {
            let top = area.top + i as f64 * row;
            let text = shorten(label, left - 8.0, SMALL);
            canvas.text("small", (left - 6.0, top + row / 2.0 + 4.0), Anchor::End, &text);
            for (k, (_, values)) in self.series.iter().enumerate() {
                let Some(&value) = values.get(i).filter(|value| value.is_finite()) else { continue };
                let top = top + (row - per_bar * self.series.len() as f64) / 2.0 + k as f64 * per_bar;
                let end = x.clamped(value);
                let bar =
                    Area { left: end.min(base), top, right: end.max(base), bottom: top + per_bar - 1.0 };
                self.bar(canvas, bar, k, i, value);
                if self.series.len() == 1 {
                    canvas.text("small", (bar.right + 4.0, top + 9.0), Anchor::Start, &short(value));
                }
            }
        }
        canvas.line("base", (base, area.top), (base, area.bottom));
    }

    fn bar(&self, canvas: &mut Canvas, area: Area, series: usize, category: usize, value: f64) {
        let name = match self.series.as_slice() {
            [_] => String::new(),
            many => many.get(series).map(|(name, _)| format!("{name}, ")).unwrap_or_default(),
        };
        let label = self.labels.get(category).map(String::as_str).unwrap_or_default();
        let title = format!("{name}{label}: {}", short(value));
        canvas.rect(&format!("bar {}", series_class(series)), area, None, &title);
    }
}

/// A count as such, anything else with four decimals, or a power of ten where that would be long.
pub(super) fn short(value: f64) -> String {
    if value.abs() >= 1e12 {
        return scientific(value);
    }
    number::decimal(value, if value.fract() == 0.0 { 0 } else { 4 })
}

#[cfg(test)]
mod tests {
    use super::super::svg::NARROW;
    use super::*;

    #[test]
    fn bars_lie_where_labels_are_too_wide() {
        let labels: Vec<String> = "宁它宅守安宋完宏宕宗宙宛实审客宣室宫害容宽宿寂寄密富寒察寡寸对寺寻导寿峪峰峻庄庆庐庞废庠庶垂垃垄型垒垛垢垣垦垮"
            .chars()
            .map(String::from)
            .collect();
        assert_eq!(labels.len(), 55);
        let chart = BarChart::new("character", "images", labels).series("train", [600.0; 55]).unwrap();
        assert_eq!(chart.draw(WIDE).height, 300.0);
        assert!(chart.draw(NARROW).height > 55.0 * 15.0);
    }

    #[test]
    fn a_value_too_few_is_an_error_that_says_so() {
        let error = BarChart::new("class", "images", ["a", "b"]).series("train", [1.0]).unwrap_err();
        assert_eq!(error.to_string(), "bar chart, series train: expected 2 values, found 1");
    }
}
