//! Scatter plots.

use super::scale::{Axis, Scale, say_empty, x_axis, y_axis};
use super::svg::{Area, Canvas, Swatch, WIDE, legend, mark, series_class};
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
}

impl Scatter {
    /// A chart with no points yet.
    pub fn new(x: impl Into<Axis>, y: impl Into<Axis>) -> Self {
        Self { x: x.into(), y: y.into(), series: Vec::new() }
    }

    /// Adds points.
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    pub(super) fn describe(&self) -> String {
        let points: usize = self.series.iter().map(|series| series.points.len()).sum();
        format!(
            "Scatter plot of {} against {}, {points} points: {}",
            self.y.label,
            self.x.label,
            list(self.series.iter().map(|series| series.name.as_str()))
        )
    }

    pub(super) fn draw(&self, width: f64) -> Canvas {
        let names: Vec<String> = self.series.iter().map(|series| series.name.clone()).collect();
        let mut canvas = Canvas::new(width);
        let top = legend(&mut canvas, 0.0, Swatch::Point, &names);
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let y = Scale::new(&self.y, points().map(|point| point.1), 6);
        let height = if width >= WIDE { 360.0 } else { 280.0 };
        let left = y.tick_width() + 8.0;
        let area = Area { left, top: top + 24.0, right: width - 8.0, bottom: top + height - 40.0 };
        canvas.height = top + height;
        let y = y.onto(area.bottom, area.top);
        let most = (area.width() / 55.0) as usize;
        let x = Scale::new(&self.x, points().map(|point| point.0), most).onto(area.left, area.right);
        y_axis(&mut canvas, area, &y, &self.y.label);
        x_axis(&mut canvas, area, &x, &self.x.label);
        if y.empty {
            say_empty(&mut canvas, area);
        }
        for (i, series) in self.series.iter().enumerate() {
            let marks: String = series
                .points
                .iter()
                .filter_map(|point| Some(mark(i, (x.at(point.0)?, y.at(point.1)?))))
                .collect();
            canvas.path(&format!("point {}", series_class(i)), &marks);
        }
        canvas
    }
}
