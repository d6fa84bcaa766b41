//! Charts, drawn as SVG; the crate's documentation says why without a library.
//!
//! A chart that has the whole width of the page is drawn twice, for wide pages and for phones, and the
//! page's style shows the one that fits; so text keeps its size. Colors are CSS variables, or their values in
//! a file of its own.

mod bar;
mod file;
mod grids;
mod heat;
mod histogram;
mod line;
mod parallel;
mod scale;
mod scatter;
mod svg;

pub use bar::BarChart;
pub use grids::{Grid, Grids};
pub use heat::HeatMap;
pub use histogram::{Arrangement, Histogram, Measure};
pub use line::LineChart;
pub use parallel::ParallelCoordinates;
pub use scale::Axis;
pub use scatter::Scatter;

use crate::figure::Room;
pub(crate) use svg::text_width;
use svg::{Canvas, NARROW, WIDE};

pub(crate) const CHART_CSS: &str = include_str!("chart/chart.css");

/// A named row of points, in the order in which a line joins them.
#[derive(Clone, Debug)]
pub struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Series {
    /// Points (x, y). One that is not finite is left out, and the line has a gap there.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect() }
    }

    /// One value per epoch, the first at x = 1.
    pub fn per_epoch(name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        Self::new(name, values.into_iter().enumerate().map(|(i, y)| ((i + 1) as f64, y)))
    }
}

/// Any chart.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Chart {
    /// Lines over a common x axis.
    Line(LineChart),
    /// A bar for each category.
    Bar(BarChart),
    /// Counts of values in bins.
    Histogram(Histogram),
    /// A colored cell for each row and column.
    Heat(HeatMap),
    /// Points.
    Scatter(Scatter),
    /// Lines over several axes.
    Parallel(ParallelCoordinates),
    /// Numbers in colored squares.
    Grids(Grids),
}

impl Chart {
    fn draw(&self, width: f64) -> Canvas {
        match self {
            Self::Line(chart) => chart.draw(width),
            Self::Bar(chart) => chart.draw(width),
            Self::Histogram(chart) => chart.draw(width),
            Self::Heat(chart) => chart.draw(width),
            Self::Scatter(chart) => chart.draw(width),
            Self::Parallel(chart) => chart.draw(width),
            Self::Grids(chart) => chart.draw(width),
        }
    }

    /// The text alternative of the chart.
    fn describe(&self) -> String {
        match self {
            Self::Line(chart) => chart.describe(),
            Self::Bar(chart) => chart.describe(),
            Self::Histogram(chart) => chart.describe(),
            Self::Heat(chart) => chart.describe(),
            Self::Scatter(chart) => chart.describe(),
            Self::Parallel(chart) => chart.describe(),
            Self::Grids(chart) => chart.describe(),
        }
    }

    pub(crate) fn render(&self, out: &mut String, room: Room) {
        let title = self.describe();
        let narrow = self.draw(NARROW);
        if narrow.width > NARROW {
            // It can't be made narrow: it is drawn once and scrolls sideways.
            out.push_str("<div class=\"scroll\" tabindex=\"0\">\n");
            self.draw(WIDE).write(out, "chart fixed", &title);
            out.push_str("</div>\n");
        } else if room == Room::Half {
            narrow.write(out, "chart", &title);
        } else {
            self.draw(WIDE).write(out, "chart wide", &title);
            narrow.write(out, "chart narrow", &title);
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
