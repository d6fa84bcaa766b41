//! Grids of numbers.

use super::list;
use super::svg::{Anchor, Area, Canvas, SMALL, TEXT, coordinate, text_width};
use crate::{Error, Result};

/// The gap between grids.
const GAP: f64 = 22.0;

/// Numbers in colored squares, in grids side by side: the channels of a small image, a kernel, its
/// input and output.
///
/// ```
/// use firstsight_report::{Grid, Grids};
/// let image = Grid::gray("image", 2, &[0, 255, 128, 64])?;
/// let signs = Grid::new("sign", 2, [("−", [80, 80, 200]), ("+", [200, 80, 80]), ("0", [255; 3]), ("0", [255; 3])])?;
/// let figure = Grids::new([image, signs]);
/// # Ok::<(), firstsight_report::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Grids {
    grids: Vec<Grid>,
}

/// One grid of a [`Grids`].
#[derive(Clone, Debug)]
pub struct Grid {
    title: String,
    columns: usize,
    cells: Vec<(String, [u8; 3])>,
}

impl Grid {
    /// Cells row by row, each its text with the red, green and blue of its square.
    ///
    /// # Errors
    ///
    /// [`Error::Values`] when the cells do not fill rows of `columns`, or when there is none.
    pub fn new(
        title: impl Into<String>,
        columns: usize,
        cells: impl IntoIterator<Item = (impl Into<String>, [u8; 3])>,
    ) -> Result<Self> {
        let (title, columns) = (title.into(), columns.max(1));
        let cells: Vec<_> = cells.into_iter().map(|(text, color)| (text.into(), color)).collect();
        let expected = cells.len().div_ceil(columns).max(1) * columns;
        if cells.len() != expected {
            return Err(Error::Values { chart: format!("grid {title:?}"), expected, found: cells.len() });
        }
        Ok(Self { title, columns, cells })
    }

    /// Bytes on squares of their own gray.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn gray(title: impl Into<String>, columns: usize, bytes: &[u8]) -> Result<Self> {
        Self::new(title, columns, bytes.iter().map(|&byte| (byte.to_string(), [byte; 3])))
    }

    fn rows(&self) -> usize {
        self.cells.len() / self.columns
    }
}

impl Grids {
    /// The grids from left to right; those that do not fit start a new line.
    pub fn new(grids: impl IntoIterator<Item = Grid>) -> Self {
        Self { grids: grids.into_iter().collect() }
    }

    pub(super) fn describe(&self) -> String {
        let names: Vec<String> =
            self.grids.iter().map(|g| format!("{} ({} × {})", g.title, g.rows(), g.columns)).collect();
        format!("Grids of numbers: {}", list(names.iter().map(String::as_str)))
    }

    pub(super) fn draw(&self, width: f64) -> Canvas {
        const TITLE: f64 = 18.0;
        let texts = self.grids.iter().flat_map(|grid| &grid.cells);
        let widest = texts.map(|(text, _)| text_width(text, SMALL)).fold(0.0, f64::max);
        let columns = self.grids.iter().map(|grid| grid.columns).max().unwrap_or(1) as f64;
        // As small as the texts allow where that saves a line.
        let least = (widest + 1.5).max(20.0);
        let roomy = ((width - 2.0) / columns).min(27.0).max(least);
        let lines = |cell: f64| self.places(cell, width).iter().filter(|place| place.0 == 0).count();
        let cell = if lines(least) < lines(roomy) { least } else { roomy };

        let mut canvas = Canvas::new(width.max(columns * cell + 2.0));
        let (mut y, mut height) = (0.0, 0.0);
        for (grid, (place, x)) in self.grids.iter().zip(self.places(cell, width)) {
            if place == 0 && height > 0.0 {
                (y, height) = (y + height + GAP, 0.0);
            }
            canvas.text("label", (x, y + 11.0), Anchor::Start, &grid.title);
            grid.draw(&mut canvas, (x, y + TITLE), cell);
            height = f64::max(height, TITLE + grid.rows() as f64 * cell);
        }
        canvas.height = y + height + 1.0;
        canvas
    }

    /// For each grid its position.
    fn places(&self, cell: f64, width: f64) -> Vec<(usize, f64)> {
        let (mut place, mut x) = (0, 1.0);
        let mut places = Vec::with_capacity(self.grids.len());
        for grid in &self.grids {
            let taken = (grid.columns as f64 * cell).max(text_width(&grid.title, TEXT));
            if place > 0 && x + taken > width {
                (place, x) = (0, 1.0);
            }
            places.push((place, x));
            (place, x) = (place + 1, x + taken + GAP);
        }
        places
    }
}

impl Grid {
    fn draw(&self, canvas: &mut Canvas, (left, top): (f64, f64), cell: f64) {
        for (i, (text, color)) in self.cells.iter().enumerate() {
            let (x, y) = (left + (i % self.columns) as f64 * cell, top + (i / self.columns) as f64 * cell);
            canvas.colored_rect(Area { left: x, top: y, right: x + cell, bottom: y + cell }, *color);
            let ink = if is_light(*color) { "on-light" } else { "on-dark" };
            canvas.text(ink, (x + cell / 2.0, y + cell / 2.0 + 4.0), Anchor::Middle, text);
        }
        let right = left + self.columns as f64 * cell;
        let bottom = top + self.rows() as f64 * cell;
        let frame = [(left, top), (right, top), (right, bottom), (left, bottom)];
        let path: String = frame
            .iter()
            .enumerate()
            .map(|(i, (x, y))| {
                format!("{}{},{}", if i == 0 { "M" } else { "L" }, coordinate(*x), coordinate(*y))
            })
            .collect();
        canvas.path("frame", &(path + "z"));
    }
}

/// Whether black is easier to read on it than white: Rec. 709 luma above a half.
fn is_light([r, g, b]: [u8; 3]) -> bool {
    0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b) > 127.5
}

#[cfg(test)]
mod tests {
    use super::super::svg::{NARROW, WIDE};
    use super::*;

    #[test]
    fn rows_must_be_full() {
        let error = Grid::gray("a", 3, &[1, 2, 3, 4]).unwrap_err();
        assert_eq!(error.to_string(), "grid \"a\": expected 6 values, found 4");
        assert!(Grid::gray("a", 3, &[]).is_err());
    }

    #[test]
    fn sixteen_columns_of_bytes_fit_a_phone_and_more_scroll() {
        let grid = |columns: usize| Grids::new([Grid::gray("a", columns, &vec![200; columns]).unwrap()]);
        assert_eq!(grid(16).draw(NARROW).width, NARROW);
        assert!(grid(40).draw(NARROW).width > NARROW);
    }

    #[test]
    fn grids_stand_beside_each_other_where_there_is_room() {
        let grids = Grids::new([0, 1, 2].map(|i| Grid::gray(i.to_string(), 8, &[200; 64]).unwrap()));
        let (wide, narrow) = (grids.draw(WIDE).height, grids.draw(NARROW).height);
        assert!(narrow > 2.5 * wide, "{narrow} {wide}");
        assert!(grids.describe().contains("1 (8 × 8)"));
    }
}
