//! One-file HTML reports.
#![warn(missing_docs)]

mod chart;
mod error;
mod figure;
mod font;
mod image;
mod markup;
pub mod number;
mod report;
mod table;

pub use chart::{
    Arrangement, Axis, BarChart, Chart, HeatMap, Histogram, LineChart, Measure, Scatter, Series,
};
pub use error::{Error, Result};
pub use figure::{Content, Figure, Mark, Picture, Sheet, Tile};
pub use image::Image;
pub use report::{Report, Section};
pub use table::{Cell, Column, Table};
