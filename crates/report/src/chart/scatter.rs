//! Scatter plots.

use super::scale::{Axis, Scale, say_empty, x_axis, y_axis};
use super::svg::{Anchor, Area, Canvas, Swatch, WIDE, circle, legend, mark, series_class};
use super::{Series, list};

/// Points, each series with a color and a shape of its own.
///
/// ```
/// use firstsight_report::{Axis, Scatter, Series};
/// let trials = Scatter::new(Axis::new("learning rate").logarithmic(), "validation loss")
///     .series(Series::new("relu", [(0.0001, 0.41), (0.003, 0.35)]));
/// ```
#[derive(Clone, Debug)]
pub struct Scatter {
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    identity: Option<String>,
    circled: Option<(String, Vec<(f64, f64)>)>,
}

impl Scatter {
    /// A chart with no points yet.
    pub fn new(x: impl Into<Axis>, y: impl Into<Axis>) -> Self {
        Self { x: x.into(), y: y.into(), series: Vec::new(), identity: None, circled: None }
    }

    /// Adds points.
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Draws the line on which x and y are equal, called `label`. Both axes then have the same range, that of all values.
    pub fn identity(mut self, label: impl Into<String>) -> Self {
        self.identity = Some(label.into());
        self
    }

    /// Circles points, which are `what`.
    pub fn circled(mut self, what: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.circled = Some((what.into(), points.into_iter().collect()));
        self
    }

    /// The axes, with one range for both where there is a line of equal values.
    fn axes(&self) -> (Axis, Axis) {
        let (x, y) = (self.x.clone(), self.y.clone());
        if self.identity.is_none() {
            return (x, y);
        }
        let points = self.series.iter().flat_map(|series| &series.points);
        let (lo, hi) = points
            .flat_map(|point| [point.0, point.1])
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), value| (lo.min(value), hi.max(value)));
        (x.range(lo, hi), y.range(lo, hi))
    }

    pub(super) fn describe(&self) -> String {
        let points: usize = self.series.iter().map(|series| series.points.len()).sum();
        format!(
            "Scatter plot of {} against {}, {points} points: {}",
            self.y.label,
            self.x.label,
            list(self.series.iter().map(|series| series.name.as_str()))
        ) + &self
            .identity
            .as_ref()
            .map_or_else(String::new, |label| format!("; the line of equal values: {label}"))
            + &self
                .circled
                .as_ref()
                .map_or_else(String::new, |(what, points)| format!("; {} circled: {what}", points.len()))
    }

    pub(super) fn draw(&self, width: f64) -> Canvas {
        let names: Vec<String> = self.series.iter().map(|series| series.name.clone()).collect();
        let mut canvas = Canvas::new(width);
        let top = legend(&mut canvas, 0.0, Swatch::Point, &names);
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let (x_axis_of, y_axis_of) = self.axes();
        let y = Scale::new(&y_axis_of, points().map(|point| point.1), 6);
        let height = if width >= WIDE { 360.0 } else { 280.0 };
        let left = y.tick_width() + 8.0;
        let area = Area { left, top: top + 24.0, right: width - 8.0, bottom: top + height - 40.0 };
        canvas.height = top + height;
        let y = y.onto(area.bottom, area.top);
        let most = (area.width() / 55.0) as usize;
        let x = Scale::new(&x_axis_of, points().map(|point| point.0), most).onto(area.left, area.right);
        y_axis(&mut canvas, area, &y, &self.y.label);
        x_axis(&mut canvas, area, &x, &self.x.label);
        if y.empty {
            say_empty(&mut canvas, area);
        }
        if let (Some(label), Some((lo, hi))) = (&self.identity, y_axis_of.range) {
            let at = |value: f64| Some((x.at(value)?, y.at(value)?));
            if let (Some(from), Some(to)) = (at(lo), at(hi)) {
                canvas.line("marker", from, to);
                canvas.text("note", (to.0 - 5.0, to.1 + 14.0), Anchor::End, label);
            }
        }
        for (i, series) in self.series.iter().enumerate() {
            let marks: String = series
                .points
                .iter()
                .filter_map(|point| Some(mark(i, (x.at(point.0)?, y.at(point.1)?))))
                .collect();
            canvas.path(&format!("point {}", series_class(i)), &marks);
        }
        let circles = self.circled.iter().flat_map(|(_, points)| points);
        let circles = circles.filter_map(|point| Some(circle((x.at(point.0)?, y.at(point.1)?))));
        canvas.path("circle", &circles.collect::<String>());
        canvas
    }
}
