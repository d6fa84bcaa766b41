//! Parallel coordinates.

use super::list;
use super::scale::{Axis, Scale, say_empty};
use super::svg::{Anchor, Area, Canvas, SMALL, TEXT, WIDE, coordinate, shorten, text_width};
use crate::{Error, Result};

/// Lines over several axes side by side, one line for each item with a value on every axis: the trials of a search,
/// for example, with their settings and results. On a phone the axes lie below one another.
///
/// ```
/// use firstsight_report::{Axis, ParallelCoordinates};
/// let trials = ParallelCoordinates::new("trials")
///     .axis(Axis::new("learning rate").logarithmic(), [0.0001, 0.003, 0.0009])?
///     .choices("activation", ["relu", "tanh"], [0, 1, 0])?
///     .axis("validation loss", [0.41, 0.33, 0.35])?
///     .mark(1, "the best trial");
/// # Ok::<(), firstsight_report::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ParallelCoordinates {
    what: String,
    axes: Vec<Coordinate>,
    marked: Option<(usize, String)>,
}

#[derive(Clone, Debug)]
enum Coordinate {
    Number { axis: Axis, values: Vec<f64> },
    Choice { label: String, labels: Vec<String>, places: Vec<usize> },
}

/// An axis from 0 to 1, as it is drawn.
struct Drawn<'a> {
    name: &'a str,
    ticks: Vec<(f64, String)>,
    lines: Vec<Option<f64>>,
}

impl ParallelCoordinates {
    /// A chart without axes; `what` names the lines, in the plural.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), axes: Vec::new(), marked: None }
    }

    /// Adds an axis of numbers, one for each line. A line ends before a number that is not on the axis.
    ///
    /// # Errors
    ///
    /// [`Error::Values`] when there are more or fewer numbers than on the first axis.
    pub fn axis(self, axis: impl Into<Axis>, values: impl IntoIterator<Item = f64>) -> Result<Self> {
        let (axis, values) = (axis.into(), values.into_iter().collect());
        self.push(Coordinate::Number { axis, values })
    }

    /// Adds an axis of choices, the first lowest, with the index of each line's choice.
    ///
    /// # Errors
    ///
    /// [`Error::Values`] if there are more or fewer indices than values on the first axis.
    pub fn choices(
        self,
        label: impl Into<String>,
        labels: impl IntoIterator<Item = impl Into<String>>,
        places: impl IntoIterator<Item = usize>,
    ) -> Result<Self> {
        let labels = labels.into_iter().map(Into::into).collect();
        self.push(Coordinate::Choice { label: label.into(), labels, places: places.into_iter().collect() })
    }

    /// Marks a line, by its index. The further the others are from it on the last axis, the
    /// fainter they are.
    pub fn mark(mut self, line: usize, label: impl Into<String>) -> Self {
        self.marked = Some((line, label.into()));
        self
    }

    fn push(mut self, axis: Coordinate) -> Result<Self> {
        let found = axis.len();
        let expected = self.axes.first().map_or(found, Coordinate::len);
        if expected != found {
            let chart = format!("parallel coordinates, axis {}", axis.name());
            return Err(Error::Values { chart, expected, found });
        }
        self.axes.push(axis);
        Ok(self)
    }

    pub(super) fn describe(&self) -> String {
        let n = self.axes.first().map_or(0, Coordinate::len);
        let mut text = format!(
            "Parallel coordinates of {n} {} over {}",
            self.what,
            list(self.axes.iter().map(Coordinate::name))
        );
        if let Some((_, label)) = &self.marked {
            text.push_str("; marked: ");
            text.push_str(label);
        }
        text
    }

    pub(super) fn draw(&self, width: f64) -> Canvas {
        let mut canvas = Canvas::new(width);
        let axes: Vec<Drawn<'_>> = self.axes.iter().map(Coordinate::drawn).collect();
        let top = self.draw_legend(&mut canvas);
        if width >= WIDE {
            self.draw_upright(&mut canvas, top, &axes)
        } else {
            self.draw_lying(&mut canvas, top, &axes)
        }
        canvas
    }

    fn draw_legend(&self, canvas: &mut Canvas) -> f64 {
        let Some((_, label)) = &self.marked else { return 0.0 };
        canvas.line("line s2 strong", (0.0, 7.0), (20.0, 7.0));
        canvas.text("label", (26.0, 11.0), Anchor::Start, &shorten(label, canvas.width - 26.0, TEXT));
        24.0
    }

    /// Axes from left to right, for wide pages.
    fn draw_upright(&self, canvas: &mut Canvas, top: f64, axes: &[Drawn<'_>]) {
        const HEIGHT: f64 = 340.0;
        canvas.height = top + HEIGHT;
        let last_ticks = axes.last().map_or(0.0, Drawn::tick_width);
        let area = Area {
            left: 8.0,
            top: top + 34.0,
            right: canvas.width - last_ticks - 12.0,
            bottom: top + HEIGHT - 12.0,
        };
        let gap = area.width() / axes.len().saturating_sub(1).max(1) as f64;
        let at = |k: usize, t: f64| (area.left + k as f64 * gap, area.bottom - t * area.height());
        self.draw_lines(canvas, area, axes, at);
        for (k, axis) in axes.iter().enumerate() {
            let (x, _) = at(k, 0.0);
            canvas.line("base", (x, area.top), (x, area.bottom));
            // A name may extend to the next axis, the last one to the edge.
            let last = k > 0 && k + 1 == axes.len();
            let (anchor, from) = if last { (Anchor::End, canvas.width) } else { (Anchor::Start, x - 4.0) };
            canvas.text("axis", (from, area.top - 14.0), anchor, &shorten(axis.name, gap - 12.0, TEXT));
            for (t, text) in &axis.ticks {
                let (_, y) = at(k, *t);
                canvas.line("base", (x, y), (x + 4.0, y));
                let room = if last { f64::INFINITY } else { gap - 20.0 };
                canvas.text("tick halo", (x + 7.0, y + 4.0), Anchor::Start, &shorten(text, room, TEXT));
            }
        }
    }

    /// Axes below one another, for phones.
    fn draw_lying(&self, canvas: &mut Canvas, top: f64, axes: &[Drawn<'_>]) {
        const ROW: f64 = 84.0;
        let n = axes.len().saturating_sub(1) as f64;
        canvas.height = top + 18.0 + n * ROW + 26.0;
        let area =
            Area { left: 16.0, top: top + 18.0, right: canvas.width - 16.0, bottom: top + 18.0 + n * ROW };
        let at = |k: usize, t: f64| (area.left + t * area.width(), area.top + k as f64 * ROW);
        self.draw_lines(canvas, area, axes, at);
        for (k, axis) in axes.iter().enumerate() {
            let (_, y) = at(k, 0.0);
            canvas.line("base", (area.left, y), (area.right, y));
            canvas.text("axis halo", (0.0, y - 7.0), Anchor::Start, &shorten(axis.name, canvas.width, TEXT));
            let mut taken = f64::NEG_INFINITY;
            for (t, text) in &axis.ticks {
                let (x, _) = at(k, *t);
                canvas.line("base", (x, y), (x, y + 4.0));
                let half = text_width(text, SMALL) / 2.0;
                let middle = x.min(canvas.width - half).max(half);
                if middle - half > taken {
                    canvas.text("small halo", (middle, y + 16.0), Anchor::Middle, text);
                    taken = middle + half + 4.0;
                }
            }
        }
    }

    /// The lines, the marked one last.
    fn draw_lines(
        &self,
        canvas: &mut Canvas,
        area: Area,
        axes: &[Drawn<'_>],
        at: impl Fn(usize, f64) -> (f64, f64),
    ) {
        let Some(last) = axes.last().filter(|axis| !axis.lines.is_empty()) else {
            return say_empty(canvas, area);
        };
        let marked = self.marked.as_ref().map(|(line, _)| *line);
        let best = marked.and_then(|line| *last.lines.get(line)?);
        let path = |line: usize| {
            let mut d = String::new();
            for (k, axis) in axes.iter().enumerate() {
                let Some(t) = axis.lines.get(line).copied().flatten() else { break };
                let ((x, y), pen) = (at(k, t), if k == 0 { 'M' } else { 'L' });
                d.push_str(&format!("{pen}{},{}", coordinate(x), coordinate(y)));
            }
            d
        };
        for line in (0..last.lines.len()).filter(|line| Some(*line) != marked) {
            let distance = match (best, last.lines[line]) {
                (Some(best), Some(own)) => (best - own).abs(),
                (Some(_), None) => 1.0,
                (None, _) => 0.5,
            };
            canvas.faint_path("line s1 fine", &path(line), 0.75 - 0.6 * distance);
        }
        if let Some(line) = marked {
            canvas.path("line s2 strong", &path(line));
        }
    }
}

impl Coordinate {
    fn len(&self) -> usize {
        match self {
            Self::Number { values, .. } => values.len(),
            Self::Choice { places, .. } => places.len(),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Number { axis, .. } => &axis.label,
            Self::Choice { label, .. } => label,
        }
    }

    fn drawn(&self) -> Drawn<'_> {
        match self {
            Self::Number { axis, values } => {
                let scale = Scale::new(axis, values.iter().copied(), 6).onto(0.0, 1.0);
                let ticks = scale.ticks().map(|(t, text)| (t, text.to_owned())).collect();
                Drawn { name: self.name(), ticks, lines: values.iter().map(|&v| scale.at(v)).collect() }
            }
            Self::Choice { labels, places, .. } => {
                // The choices stand apart from the axis's ends.
                let place = |i: usize| (i as f64 + 0.5) / labels.len() as f64;
                let ticks = labels.iter().enumerate().map(|(i, label)| (place(i), label.clone())).collect();
                let lines = places.iter().map(|&i| (i < labels.len()).then(|| place(i))).collect();
                Drawn { name: self.name(), ticks, lines }
            }
        }
    }
}

impl Drawn<'_> {
    fn tick_width(&self) -> f64 {
        self.ticks.iter().map(|(_, text)| text_width(text, TEXT)).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::NARROW;
    use super::*;

    fn chart() -> ParallelCoordinates {
        ParallelCoordinates::new("trials")
            .axis(Axis::new("rate").logarithmic(), [1e-4, 1e-3, 1e-2])
            .unwrap()
            .choices("kind", ["relu", "tanh"], [0, 1, 7])
            .unwrap()
            .axis("loss", [0.0, 1.0, 0.5])
            .unwrap()
            .mark(0, "the best trial")
    }

    #[test]
    fn a_line_for_each_trial_and_one_of_them_marked() {
        for width in [WIDE, NARROW] {
            let body = chart().draw(width).body;
            assert_eq!(body.matches("<path class=\"line s1 fine\"").count(), 2, "{body}");
            assert_eq!(body.matches("<path class=\"line s2 strong\"").count(), 1);
            assert!(body.contains("relu") && body.contains("tanh") && !body.contains("NaN"));
            // The second is as far from the best as can be.
            assert!(body.contains("stroke-opacity=\"0.15\""), "{body}");
        }
    }

    #[test]
    fn a_line_ends_before_a_value_that_is_not_on_the_axis() {
        let canvas = chart().draw(WIDE);
        let points: Vec<usize> =
            canvas.body.lines().filter(|l| l.contains("line s1")).map(|l| l.matches(',').count()).collect();
        assert_eq!(points, [3, 1]);
    }

    #[test]
    fn as_many_values_on_every_axis() {
        let error = chart().axis("time", [1.0]).unwrap_err();
        assert_eq!(error.to_string(), "parallel coordinates, axis time: expected 3 values, found 1");
        let empty = ParallelCoordinates::new("trials").draw(WIDE);
        assert!(empty.body.contains("no data"));
    }

    #[test]
    fn what_a_reader_who_cannot_see_it_is_told() {
        assert_eq!(
            chart().describe(),
            "Parallel coordinates of 3 trials over rate, kind and loss; marked: the best trial"
        );
    }
}
