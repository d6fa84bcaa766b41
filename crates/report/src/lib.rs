//! Reports as one HTML file: running text, tables, charts and pictures, readable on a screen, on a phone, in
//! the dark and in print.
//!
//! ```
//! use firstsight_report::{Column, Figure, LineChart, Report, Series, Table};
//!
//! let mut report = Report::new("Ants and bees");
//! report.lead("A network of **two layers** on 397 photos.").facts(&[("seed", "123".into())]);
//!
//! let mut scores = Table::new("The result", [Column::text("split"), Column::number("accuracy")]);
//! scores.row(["train".into(), 0.9875.into()]).row(["validation".into(), 0.9216.into()]);
//! let curves = LineChart::new("epoch")
//!     .panel("loss", vec![Series::per_epoch("train", [0.61, 0.32, 0.2])])
//!     .marker(3.0, "best epoch: 3");
//! report
//!     .section(Some("1"), "Training")
//!     .text("The loss falls.")
//!     .figure(Figure::new(curves, "Loss after each epoch.", "the training photos"))
//!     .table(scores);
//!
//! let folder = tempfile::tempdir()?;
//! report.write(&folder.path().join("report.html"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is in the file
//!
//! Nothing is loaded from elsewhere and no script runs. Pictures are PNG data URIs, charts are inline SVG.
//! All text is escaped; labels may be any Unicode. A reader who can't see a chart or picture is told what it
//! is. Colours follow the reader's light or dark scheme and are told apart by any colour vision; series also
//! differ in dash, shape or fill, so that a grey print can be read.
//!
//! # Why the charts are not plotters'
//!
//! The `plotters` crate writes SVG whose colours and fonts are attributes of every element, with no classes
//! to style: it can't follow a dark scheme or a print style. It draws for one size, so that on a phone either
//! the page scrolls or the text is a third of its size, where a chart here is laid out once for a page and
//! once for a phone. And it measures text with a font of the machine that draws, where the report is read
//! with the fonts of another. What remains to be written without it, ticks and rectangles, is short.
//!
//! # Chinese characters
//!
//! A page shows its Chinese characters on a machine with no font for them: the glyphs that it uses, and no
//! others, are embedded as a font. They come from `fonts/firstsight-hanzi.ttf`, 877 kB, a subset of Noto Sans
//! CJK SC with the 3,755 characters of GB 2312 level 1 and a few more (made by `fonts/make.py`, under the
//! SIL Open Font License beside it). Characters that it lacks are left to the reader's fonts. The page's own
//! font comes first for those it has, so that a character looks the same for every reader.
//!
//! The crate `font-subset` cuts the font: it has no dependencies and writes the `cmap` and `OS/2` tables that
//! browsers ask for. Of the others, `subsetter` drops `cmap`, which PDF does not need; `allsorts` and `skera`
//! do much more and bring 42 and 23 further crates. Fifty-five characters cost a page about 16 kB.

mod chart;
mod error;
mod figure;
mod font;
mod image;
mod markup;
pub mod number;
mod raster;
mod report;
mod table;

pub use chart::{
    Arrangement, Axis, BarChart, Chart, Grid, Grids, HeatMap, Histogram, LineChart, Measure,
    ParallelCoordinates, Scatter, Series,
};
pub use error::{Error, Result};
pub use figure::{Content, Figure, Mark, Picture, Sheet, Tile};
pub use image::Image;
pub use markup::escape_markup;
pub use report::{Report, Section};
pub use table::{Cell, Column, Table};

/// The examples of README.md compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
