//! Line charts.

use super::scale::{Axis, Scale, drawable, say_empty, x_axis, y_axis};
use super::svg::{
    Anchor, Area, Canvas, Swatch, TEXT, WIDE, coordinate, legend, mark, series_class, shorten, text_width,
};
use super::{Series, list};

/// Lines over a common x axis, in one panel or several, each with its own y axis. Series of one name have
/// one color and dash in all panels.
///
/// ```
/// use firstsight_report::{LineChart, Series};
/// let curves = LineChart::new("epoch")
///     .panel("loss", vec![Series::per_epoch("train", [2.1, 1.4]), Series::per_epoch("validation", [2.3, 1.9])])
///     .panel("accuracy", vec![Series::per_epoch("train", [0.41, 0.62])])
///     .marker(2.0, "best epoch: 2");
/// ```
#[derive(Clone, Debug)]
pub struct LineChart {
    x: Axis,
    panels: Vec<(Axis, Vec<Series>)>,
    marker: Option<(f64, String)>,
}

impl LineChart {
    /// A chart without panels.
    pub fn new(x: impl Into<Axis>) -> Self {
        Self { x: x.into(), panels: Vec::new(), marker: None }
    }

    /// Adds a panel; a wide page shows two side by side.
    pub fn panel(mut self, y: impl Into<Axis>, series: Vec<Series>) -> Self {
        self.panels.push((y.into(), series));
        self
    }

    /// Marks a position on the x axis, such as the best epoch, in every panel.
    pub fn marker(mut self, x: f64, label: impl Into<String>) -> Self {
        self.marker = Some((x, label.into()));
        self
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for series in self.panels.iter().flat_map(|(_, series)| series) {
            if !names.contains(&series.name) {
                names.push(series.name.clone());
            }
        }
        names
    }

    pub(super) fn describe(&self) -> String {
        let names = self.names();
        let mut text = format!(
            "Line chart of {} against {}: {}",
            list(self.panels.iter().map(|(y, _)| y.label.as_str())),
            self.x.label,
            list(names.iter().map(String::as_str))
        );
        if let Some((_, label)) = &self.marker {
            text.push_str("; marked: ");
            text.push_str(label);
        }
        text
    }

    pub(super) fn draw(&self, width: f64) -> Canvas {
        const GAP: f64 = 28.0;
        let names = self.names();
        let mut canvas = Canvas::new(width);
        let top = legend(&mut canvas, 0.0, Swatch::Line, &names);
        let columns = if width >= WIDE && self.panels.len() > 1 { 2 } else { 1 };
        let panel_width = (width - GAP * (columns - 1) as f64) / columns as f64;
        let panel_height = if width >= WIDE && columns == 1 { 320.0 } else { 260.0 };
        for (i, panel) in self.panels.iter().enumerate() {
            let left = (i % columns) as f64 * (panel_width + GAP);
            let top = top + (i / columns) as f64 * (panel_height + 14.0);
            let room = Area { left, top, right: left + panel_width, bottom: top + panel_height };
            self.draw_panel(&mut canvas, room, panel, &names);
            canvas.height = room.bottom;
        }
        canvas
    }

    fn draw_panel(
        &self,
        canvas: &mut Canvas,
        room: Area,
        (y_axis_of, series): &(Axis, Vec<Series>),
        names: &[String],
    ) {
        let points = || series.iter().flat_map(|series| series.points.iter().copied());
        let y = Scale::new(y_axis_of, points().map(|point| point.1), 6);
        let area = Area {
            left: room.left + y.tick_width() + 8.0,
            top: room.top + 24.0,
            right: room.right - 6.0,
            bottom: room.bottom - 40.0,
        };
        let y = y.onto(area.bottom, area.top);
        let most = (area.width() / 55.0) as usize;
        // The lines begin and end at the plot's sides: the range is that of the data.
        let axis = match (self.x.range, self.x.logarithmic) {
            (None, false) => {
                let (lo, hi) = points()
                    .filter_map(|point| drawable(point.0))
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)));
                self.x.clone().range(lo, hi)
            }
            _ => self.x.clone(),
        };
        let x = Scale::new(&axis, points().map(|point| point.0), most).onto(area.left, area.right);
        y_axis(canvas, area, &y, &y_axis_of.label);
        x_axis(canvas, area, &x, &self.x.label);
        if y.empty {
            say_empty(canvas, area);
        }

        let marker = self.marker.as_ref().and_then(|(value, label)| Some((*value, x.at(*value)?, label)));
        if let Some((_, at, label)) = marker {
            canvas.line("marker", (at, area.top), (at, area.bottom));
            let label = shorten(label, area.width() / 2.0, TEXT);
            let rightwards = at + 6.0 + text_width(&label, TEXT) <= area.right;
            let (at, anchor) = if rightwards { (at + 5.0, Anchor::Start) } else { (at - 5.0, Anchor::End) };
            canvas.text("note", (at, area.top + 10.0), anchor, &label);
        }
        for series in series {
            let class = names.iter().position(|name| *name == series.name).unwrap_or_default();
            let name = series_class(class);
            let pixels = series.points.iter().map(|&(px, py)| Some((x.at(px)?, y.at(py)?)));
            canvas.path(&format!("line {name}"), &polyline(pixels.clone()));
            if series.points.len() < 3 {
                let marks: String = pixels.flatten().map(|point| mark(class, point)).collect();
                canvas.path(&format!("point {name}"), &marks);
            }
            if let Some((value, ..)) = marker {
                let marks: String = series
                    .points
                    .iter()
                    .filter(|point| point.0 == value)
                    .filter_map(|point| Some(mark(class, (x.at(point.0)?, y.at(point.1)?))))
                    .collect();
                canvas.path(&format!("point {name}"), &marks);
            }
        }
    }
}

/// A path through the points, with gaps at missing ones.
fn polyline(points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
    let mut d = String::new();
    let mut pen = 'M';
    for point in points {
        let Some((x, y)) = point else {
            pen = 'M';
            continue;
        };
        d.push_str(&format!("{pen}{},{}", coordinate(x), coordinate(y)));
        pen = 'L';
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_is_a_gap() {
        let points = [Some((0.0, 1.0)), Some((1.0, 2.0)), None, Some((3.0, 4.25))];
        assert_eq!(polyline(points.into_iter()), "M0,1L1,2M3,4.3");
    }

    #[test]
    fn colors_go_by_name() {
        let chart = LineChart::new("epoch")
            .panel(
                "loss",
                vec![Series::per_epoch("a", [1.0, 2.0, 3.0]), Series::per_epoch("b", [2.0, 3.0, 4.0])],
            )
            .panel("accuracy", vec![Series::per_epoch("b", [0.2, 0.3, 0.4])]);
        assert_eq!(chart.names(), ["a", "b"]);
        let mut svg = String::new();
        chart.draw(WIDE).write(&mut svg, "", "");
        assert_eq!(svg.matches("<path class=\"line s1\"").count(), 1);
        assert_eq!(svg.matches("<path class=\"line s2\"").count(), 2);
    }
}
