#![doc = include_str!("../README.md")]
//!
//! # The file
//!
//! Nothing is loaded from elsewhere and no script runs. Pictures are PNG data URIs, charts are inline SVG. All text
//! is escaped; labels may be any Unicode. Charts and pictures have a text alternative. Colors follow the reader's
//! light or dark scheme and are told apart by any color vision; series also differ in dash, shape or fill, so that a
//! gray print can be read.
//!
//! # Charts without plotters
//!
//! The `plotters` crate writes SVG whose colors and fonts are attributes of every element, with no classes
//! to style, so they cannot follow a dark scheme or a print style. It draws for one size, so that on a phone either
//! the page scrolls or the text is a third of its size, whereas a chart here is laid out once for a page and
//! once for a phone. And it measures text with a font of the machine that draws, but the report is read
//! with the fonts of another. The code that replaces it, ticks and rectangles, is short.
//!
//! # Chinese characters
//!
//! A page shows its Chinese characters on a machine without a font for them: the glyphs that it uses, and no
//! others, are embedded as a font. They come from `fonts/firstsight-hanzi.ttf`, 877 kB, a subset of Noto Sans
//! CJK SC with the 3,755 characters of GB 2312 level 1 and a few more (made by `fonts/make.py`, under the
//! SIL Open Font License). Characters that it lacks are left to the reader's fonts. The embedded
//! font takes precedence, so that a character looks the same for every reader.
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
pub use markup::{escape_markup, unescape_markup};
pub use report::{Report, Section};
pub use table::{Cell, Column, Table};
