//! Heat maps and confusion matrices.

use super::bar::short;
use super::svg::{Anchor, Area, Canvas, SMALL, TEXT, shorten, text_width};
use crate::{Error, Result, number};

/// A colored cell for each row and column, such as the confusion matrix of a classifier.
///
/// ```
/// use firstsight_report::HeatMap;
/// // Of ten ants, one is taken for a bee.
/// let matrix = HeatMap::confusion(["ants", "bees"], [9, 1, 0, 12])?;
/// # Ok::<(), firstsight_report::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeatMap {
    row_label: String,
    column_label: String,
    rows: Vec<String>,
    columns: Vec<String>,
    values: Vec<f64>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Deeper for larger values.
    Values,
    /// Deeper for a larger share of the row; the diagonal in one color and the rest in another.
    Confusion,
}

impl HeatMap {
    /// A heat map of values at or above zero, row by row; colors go from none at zero to full at the largest.
    /// Values below zero, and those that are not finite, have no cell.
    ///
    /// # Errors
    ///
    /// [`Error::Values`] when there are not rows × columns values.
    pub fn new(
        (row_label, rows): (&str, Vec<String>),
        (column_label, columns): (&str, Vec<String>),
        values: Vec<f64>,
    ) -> Result<Self> {
        let (expected, found) = (rows.len() * columns.len(), values.len());
        if expected != found {
            return Err(Error::Values { chart: "heat map".into(), expected, found });
        }
        let (row_label, column_label) = (row_label.to_owned(), column_label.to_owned());
        Ok(Self { row_label, column_label, rows, columns, values, kind: Kind::Values })
    }

    /// A confusion matrix: row by row, for each true class the number of its items predicted as each
    /// class. Right and wrong predictions differ in color; its depth is the share of the row.
    ///
    /// # Errors
    ///
    /// [`Error::Values`] when there are not classes × classes counts.
    pub fn confusion(
        classes: impl IntoIterator<Item = impl Into<String>>,
        counts: impl IntoIterator<Item = u64>,
    ) -> Result<Self> {
        let classes: Vec<String> = classes.into_iter().map(Into::into).collect();
        let values = counts.into_iter().map(|n| n as f64).collect();
        let map = Self::new(("true class", classes.clone()), ("predicted class", classes), values)?;
        Ok(Self { kind: Kind::Confusion, ..map })
    }

    pub(super) fn describe(&self) -> String {
        match self.kind {
            Kind::Confusion => format!("Confusion matrix of {} classes", self.rows.len()),
            Kind::Values => format!(
                "Heat map of {} {} by {} {}",
                self.rows.len(),
                self.row_label,
                self.columns.len(),
                self.column_label
            ),
        }
    }

    pub(super) fn draw(&self, width: f64) -> Canvas {
        let widest = |labels: &[String]| labels.iter().map(|l| text_width(l, SMALL)).fold(0.0, f64::max);
        let dense = self.rows.len() > 30;
        let row_room = widest(&self.rows).min(width * 0.3) + 8.0;
        // Dense matrices carry their labels on all four sides.
        let beside = if dense { row_room } else { 0.0 };
        let columns = self.columns.len().max(1) as f64;
        let cell = ((width - row_room - beside - 2.0) / columns).clamp(SMALL + 0.5, 44.0);
        let upright = widest(&self.columns) > cell;
        let column_room = if upright { widest(&self.columns).min(110.0) + 6.0 } else { SMALL + 6.0 };

        let mut canvas = Canvas::new((row_room + cell * columns + beside + 2.0).max(width));
        let top = self.draw_key(&mut canvas);
        let area = Area {
            left: row_room,
            top: top + column_room,
            right: row_room + cell * columns,
            bottom: top + column_room + cell * self.rows.len() as f64,
        };
        canvas.height = area.bottom + if dense { column_room } else { 4.0 };
        self.draw_labels(&mut canvas, area, cell, upright, dense);
        self.draw_cells(&mut canvas, area, cell);
        canvas
    }

    /// Draws the legend of colors and of rows and columns; returns its end.
    fn draw_key(&self, canvas: &mut Canvas) -> f64 {
        const STEPS: u8 = 6;
        const STEP: f64 = 8.0;
        let (ramps, end): (&[_], _) = match self.kind {
            Kind::Confusion => (&[("s1", "right"), ("s2", "wrong")], "0 to 100 % of the row".to_owned()),
            Kind::Values => (&[("s1", "")], format!("0 to {}", short(self.largest()))),
        };
        let (mut x, mut y) = (0.0, 0.0);
        for (class, name) in ramps {
            canvas.text("label", (x, y + 11.0), Anchor::Start, name);
            x += if name.is_empty() { 0.0 } else { text_width(name, TEXT) + 5.0 };
            for i in 1..=STEPS {
                let area = Area { left: x, top: y + 1.0, right: x + STEP, bottom: y + 13.0 };
                canvas.rect(&format!("cell {class}"), area, Some(depth(f64::from(i) / f64::from(STEPS))), "");
                x += STEP;
            }
            x += 8.0;
        }
        if x + text_width(&end, TEXT) > canvas.width {
            (x, y) = (0.0, y + 18.0);
        }
        canvas.text("label", (x, y + 11.0), Anchor::Start, &end);
        let names = format!("↓ {}, → {}", self.row_label, self.column_label);
        canvas.text("axis", (0.0, y + 33.0), Anchor::Start, &names);
        y + 44.0
    }

    fn largest(&self) -> f64 {
        self.values.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max)
    }

    fn draw_labels(&self, canvas: &mut Canvas, area: Area, cell: f64, upright: bool, dense: bool) {
        for (j, label) in self.columns.iter().enumerate() {
            let middle = area.left + (j as f64 + 0.5) * cell;
            if upright {
                canvas.text_upwards("small", (middle + 4.0, area.top - 4.0), &shorten(label, 110.0, SMALL));
                continue;
            }
            canvas.text("small", (middle, area.top - 4.0), Anchor::Middle, label);
            if dense {
                canvas.text("small", (middle, area.bottom + SMALL + 2.0), Anchor::Middle, label);
            }
        }
        for (i, label) in self.rows.iter().enumerate() {
            let y = area.top + (i as f64 + 0.5) * cell + 4.0;
            let label = shorten(label, area.left - 8.0, SMALL);
            canvas.text("small", (area.left - 5.0, y), Anchor::End, &label);
            if dense {
                canvas.text("small", (area.right + 5.0, y), Anchor::Start, &label);
            }
        }
    }

    fn draw_cells(&self, canvas: &mut Canvas, area: Area, cell: f64) {
        let columns = self.columns.len().max(1);
        let print_values = cell >= 30.0;
        self.draw_grid(canvas, area, cell);
        for (class, diagonal) in [("cell s1", true), ("cell s2", false)] {
            canvas.open(class);
            for (i, (row, label)) in self.values.chunks(columns).zip(&self.rows).enumerate() {
                let full = match self.kind {
                    Kind::Values => self.largest(),
                    Kind::Confusion => row.iter().sum(),
                };
                for (j, (&value, column)) in row.iter().zip(&self.columns).enumerate() {
                    let first = self.kind == Kind::Values || i == j;
                    if !value.is_finite() || value <= 0.0 || first != diagonal {
                        continue;
                    }
                    let (left, top) = (area.left + j as f64 * cell, area.top + i as f64 * cell);
                    let square = Area { left, top, right: left + cell, bottom: top + cell };
                    let depth = depth(value / full);
                    let title = match self.kind {
                        Kind::Values => format!("{label}, {column}: {}", short(value)),
                        Kind::Confusion => format!(
                            "true {label}, predicted {column}: {} ({})",
                            short(value),
                            number::percent(value / full, 1)
                        ),
                    };
                    canvas.rect("", square, Some(depth), &title);
                    if print_values {
                        let ink = if depth > 0.6 { "value inverse" } else { "value" };
                        let text =
                            if value.fract() == 0.0 { short(value) } else { number::decimal(value, 2) };
                        let at = (left + cell / 2.0, top + cell / 2.0 + 4.0);
                        canvas.text(ink, at, Anchor::Middle, &text);
                    }
                }
            }
            canvas.close();
        }
    }

    /// A frame, and lines that lead the eye from a label to its row: at every cell, or at every fifth.
    fn draw_grid(&self, canvas: &mut Canvas, area: Area, cell: f64) {
        let every = if self.rows.len().max(self.columns.len()) > 20 { 5 } else { 1 };
        for i in (0..=self.rows.len()).filter(|i| i % every == 0 || *i == self.rows.len()) {
            let y = area.top + i as f64 * cell;
            canvas.line("grid", (area.left, y), (area.right, y));
        }
        for j in (0..=self.columns.len()).filter(|j| j % every == 0 || *j == self.columns.len()) {
            let x = area.left + j as f64 * cell;
            canvas.line("grid", (x, area.top), (x, area.bottom));
        }
    }
}

/// The opacity for a share of the whole: its square root, which keeps rare confusions visible.
fn depth(share: f64) -> f64 {
    share.sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::svg::{NARROW, WIDE};
    use super::*;

    #[test]
    fn the_counts_must_be_a_square() {
        let error = HeatMap::confusion(["a", "b"], [1, 2, 3]).unwrap_err();
        assert_eq!(error.to_string(), "heat map: expected 4 values, found 3");
    }

    #[test]
    fn a_small_matrix_is_made_narrow_and_a_large_one_keeps_its_labels_apart() {
        let matrix = |n: usize| HeatMap::confusion((0..n).map(|i| i.to_string()), vec![1; n * n]).unwrap();
        assert_eq!(matrix(10).draw(NARROW).width, NARROW);
        assert!(matrix(55).draw(NARROW).width > 55.0 * SMALL);
        assert_eq!(matrix(55).draw(WIDE).width, WIDE);
    }

    #[test]
    fn zeros_are_not_drawn_and_an_empty_row_divides_by_nothing() {
        let mut svg = String::new();
        HeatMap::confusion(["a", "b"], [3, 1, 0, 0]).unwrap().draw(WIDE).write(&mut svg, "", "");
        assert_eq!(svg.matches("<title>true ").count(), 2);
        assert!(svg.contains("true a, predicted b: 1 (25.0 %)"));
        assert!(!svg.contains("NaN"));
    }
}
