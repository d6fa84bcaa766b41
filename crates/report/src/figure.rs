//! Figures: charts, pictures and sheets of pictures.

use std::fmt::Write as _;

use crate::Result;
use crate::chart::{
    BarChart, Chart, Grids, HeatMap, Histogram, LineChart, ParallelCoordinates, Scatter, text_width,
};
use crate::image::Image;
use crate::markup::{escape, escape_path, sentence};
use crate::raster::{ContactSheet, Framed, Pixels, Rgb};

/// A picture or chart with its caption and the source of its data.
#[derive(Clone, Debug)]
pub struct Figure {
    content: Content,
    caption: String,
    source: String,
}

impl Figure {
    /// `caption` says what the figure shows, `source` from which data; both may use the inline markup of
    /// [`Section::text`](crate::Section::text).
    pub fn new(content: impl Into<Content>, caption: impl Into<String>, source: impl Into<String>) -> Self {
        Self { content: content.into(), caption: caption.into(), source: source.into() }
    }

    /// `room` is the width available on the page: all or half of it.
    pub(crate) fn render(&self, out: &mut String, index: usize, room: Room) {
        let _ = writeln!(out, "<figure id=\"figure-{index}\">");
        match &self.content {
            Content::Chart(chart) => chart.render(out, room),
            Content::Picture(picture) => picture.render(out, &self.caption),
            Content::Sheet(sheet) => sheet.render(out),
        }
        let caption = sentence(&self.caption);
        let _ = write!(out, "<figcaption><b>Figure {index}.</b> {caption}");
        if !self.source.is_empty() {
            let _ = write!(out, " <span class=\"source\">Data: {}</span>", sentence(&self.source));
        }
        out.push_str("</figcaption>\n</figure>\n");
    }

    /// The extension of the figure's own file.
    pub(crate) fn extension(&self) -> &'static str {
        match &self.content {
            Content::Chart(_) => "svg",
            Content::Picture(_) | Content::Sheet(_) => "png",
        }
    }

    /// The figure's own file, or `None` for a sheet without tiles.
    pub(crate) fn to_file(&self) -> Result<Option<Vec<u8>>> {
        match &self.content {
            Content::Chart(chart) => Ok(Some(chart.to_svg().into_bytes())),
            Content::Picture(picture) => picture.to_png().map(Some),
            Content::Sheet(sheet) => sheet.to_png(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Whole,
    Half,
}

/// The content of a [`Figure`]; every kind converts to it with `.into()`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Content {
    /// Lines, bars, points or cells, drawn as SVG.
    Chart(Chart),
    /// One picture.
    Picture(Picture),
    /// Many small pictures with labels.
    Sheet(Sheet),
}

impl From<Picture> for Content {
    fn from(picture: Picture) -> Self {
        Self::Picture(picture)
    }
}

impl From<Sheet> for Content {
    fn from(sheet: Sheet) -> Self {
        Self::Sheet(sheet)
    }
}

macro_rules! chart_content {
    ($($kind:ident $variant:ident),*) => {$(
        impl From<$kind> for Content {
            fn from(chart: $kind) -> Self {
                Self::Chart(Chart::$variant(chart))
            }
        }
    )*};
}
chart_content!(LineChart Line, BarChart Bar, Histogram Histogram, HeatMap Heat, Scatter Scatter, Grids Grids, ParallelCoordinates Parallel);

/// One picture, as wide as its pixels or, on a narrower page, as the page.
#[derive(Clone, Debug)]
pub struct Picture {
    image: Image,
    scale: f64,
    alt: Option<String>,
}

impl Picture {
    /// A picture at its own size, smoothly scaled where the page is narrower.
    pub fn new(image: Image) -> Self {
        Self { image, scale: 1.0, alt: None }
    }

    /// A picture whose pixels are drawn as squares of `scale` CSS pixels (1/96 inch).
    pub fn pixelated(image: Image, scale: f64) -> Self {
        Self { image, scale: scale.max(1.0), alt: None }
    }

    /// The text alternative of the picture; without it, the figure's caption.
    pub fn alt(mut self, alt: impl Into<String>) -> Self {
        self.alt = Some(alt.into());
        self
    }

    fn render(&self, out: &mut String, caption: &str) {
        let (width, height) = (self.image.width(), self.image.height());
        let class = if self.scale > 1.0 { "picture crisp" } else { "picture" };
        let _ = writeln!(
            out,
            "<img class=\"{class}\" src=\"{}\" width=\"{width}\" height=\"{height}\" style=\"width:{:.0}px\" \
             alt=\"{}\" />",
            self.image.data_uri(),
            width as f64 * self.scale,
            escape(self.alt.as_deref().unwrap_or(caption)),
        );
    }

    fn to_png(&self) -> Result<Vec<u8>> {
        /// The longest side that a picture is enlarged to, in pixels.
        const LONGEST: f64 = 16_384.0;
        let longest = self.image.width().max(self.image.height()) as f64;
        let scale = self.scale.min(LONGEST / longest);
        if scale > 1.0 {
            Pixels::decode(self.image.png())?.enlarged(scale)
        } else {
            Ok(self.image.png().into())
        }
    }
}

/// Whether a [`Tile`] shows something right, something wrong, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// No mark.
    #[default]
    None,
    /// A tick.
    Right,
    /// A cross.
    Wrong,
}

impl Mark {
    /// The light scheme's `--faint`, `--right` and `--wrong`, as red, green and blue.
    fn color(self) -> Rgb {
        match self {
            Self::None => [0xd9, 0xdd, 0xe2],
            Self::Right => [0x00, 0x71, 0x4f],
            Self::Wrong => [0xc2, 0x44, 0x00],
        }
    }

    fn html(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Right => {
                "<svg class=\"mark right\" viewBox=\"0 0 12 12\" role=\"img\"><title>right</title>\
                 <path d=\"M2 6.5 5 9.5 10.5 2.5\" /></svg>"
            }
            Self::Wrong => {
                "<svg class=\"mark wrong\" viewBox=\"0 0 12 12\" role=\"img\"><title>wrong</title>\
                 <path d=\"M2.5 2.5 9.5 9.5M9.5 2.5 2.5 9.5\" /></svg>"
            }
        }
    }
}

/// A small picture with its label: a sample, a prediction, a filter.
#[derive(Clone, Debug)]
pub struct Tile {
    image: Image,
    label: String,
    sublabel: Option<String>,
    source: Option<String>,
    mark: Mark,
}

impl Tile {
    /// A tile with neither further lines nor mark.
    pub fn new(image: Image, label: impl Into<String>) -> Self {
        Self { image, label: label.into(), sublabel: None, source: None, mark: Mark::None }
    }

    /// A second, smaller line, such as the confidence.
    pub fn sublabel(mut self, text: impl Into<String>) -> Self {
        self.sublabel = Some(text.into());
        self
    }

    /// The picture's file: the last line, shortened to its end where it is long, and whole as the tile's title.
    pub fn source(mut self, path: impl Into<String>) -> Self {
        self.source = Some(path.into());
        self
    }

    /// Marks the tile as right or wrong.
    pub fn mark(mut self, mark: Mark) -> Self {
        self.mark = mark;
        self
    }
}

/// Tiles in a grid that wraps at the page's width, their pixels crisp. Pictures of different sizes are drawn at
/// one scale, except that none is drawn smaller than two fifths of the largest.
#[derive(Clone, Debug)]
pub struct Sheet {
    tiles: Vec<Tile>,
    columns: usize,
}

/// The light scheme's `--shade`, the background of a sheet's boxes.
const SHADE: Rgb = [0xf4, 0xf5, 0xf7];

/// The minimum share of its box that a picture of a sheet fills, in one direction.
const SMALLEST: f64 = 0.4;

impl Sheet {
    /// `columns` tiles in a row where the page is wide enough for tiles of at least 54 CSS pixels (up to 100
    /// where labels are long), otherwise fewer.
    pub fn new(tiles: Vec<Tile>, columns: usize) -> Self {
        Self { tiles, columns: columns.max(1) }
    }

    /// Rows and columns that hold each of the pictures.
    fn largest(&self) -> (usize, usize) {
        let height = self.tiles.iter().map(|tile| tile.image.height()).max();
        let width = self.tiles.iter().map(|tile| tile.image.width()).max();
        (height.unwrap_or(1), width.unwrap_or(1))
    }

    fn to_png(&self) -> Result<Option<Vec<u8>>> {
        /// Maximum sizes of an enlarged row and picture in pixels: a page's width at two pixels per CSS pixel.
        const ROW: usize = 1_440;
        const PICTURE: usize = 256;
        if self.tiles.is_empty() {
            return Ok(None);
        }
        let (tallest, widest) = self.largest();
        let room =
            (ROW / self.columns).saturating_sub(2 * ContactSheet::FRAME + ContactSheet::GAP).min(PICTURE);
        let factor = (room / widest).min(PICTURE / tallest).max(1);
        let pictures: Vec<Framed<'_>> = self
            .tiles
            .iter()
            .map(|tile| {
                let (height, width) = (tile.image.height() as f64, tile.image.width() as f64);
                let filled = (width / widest as f64).max(height / tallest as f64);
                let factor = factor * (SMALLEST / filled).ceil() as usize;
                Framed { png: tile.image.png(), factor, frame: tile.mark.color() }
            })
            .collect();
        let sheet = ContactSheet {
            columns: self.columns.min(self.tiles.len()),
            inner: (tallest * factor, widest * factor),
            ground: SHADE,
        };
        sheet.draw(&pictures).map(Some)
    }

    fn render(&self, out: &mut String) {
        let (tallest, widest) = self.largest();
        let (tallest, widest) = (tallest as f64, widest as f64);
        // Space for a short label next to its mark; longer ones wrap.
        let label = self.tiles.iter().map(|tile| text_width(&tile.label, 15.0)).fold(0.0, f64::max);
        let least = (label + 18.0).clamp(54.0, 100.0);
        let _ = writeln!(
            out,
            "<div class=\"sheet\" style=\"--columns:{};--shape:{:.3};--least:{least:.0}px\">",
            self.columns,
            widest / tallest
        );
        for tile in &self.tiles {
            let label = escape(&tile.label);
            let (width, height) = (tile.image.width() as f64, tile.image.height() as f64);
            let filled = (width / widest).max(height / tallest);
            let percent = 100.0 * width / widest * (SMALLEST / filled).max(1.0);
            let source = tile.source.as_deref().map(escape);
            let title = source.as_ref().map_or_else(String::new, |path| format!(" title=\"{path}\""));
            let _ = write!(
                out,
                "<div class=\"tile\"{title}><div class=\"box\"><img src=\"{}\" width=\"{width}\" height=\"{height}\" \
                 style=\"width:{percent:.1}%\" alt=\"{label}\" /></div>\
                 <div class=\"label\">{}<bdi>{label}</bdi></div>",
                tile.image.data_uri(),
                tile.mark.html(),
            );
            if let Some(text) = &tile.sublabel {
                let _ = write!(out, "<div class=\"sublabel\"><bdi>{}</bdi></div>", escape_path(text));
            }
            if let Some(path) = source {
                let _ = write!(out, "<div class=\"sublabel path\"><bdi>{path}</bdi></div>");
            }
            out.push_str("</div>\n");
        }
        out.push_str("</div>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PAGE_CSS;

    #[test]
    fn the_colors_of_sheets_are_the_light_scheme_s() {
        let (light, _) = PAGE_CSS.split_once('}').unwrap();
        let colors = [
            ("faint", Mark::None.color()),
            ("right", Mark::Right.color()),
            ("wrong", Mark::Wrong.color()),
            ("shade", SHADE),
        ];
        for (name, [r, g, b]) in colors {
            assert!(light.contains(&format!("--{name}: #{r:02x}{g:02x}{b:02x};")), "{name}");
        }
    }
}
