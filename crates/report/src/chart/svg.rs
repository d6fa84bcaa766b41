//! A canvas of SVG elements, and the width of text.

use std::fmt::Write as _;

use crate::markup::{escape, push_escaped};

/// Widths for which charts are drawn, in CSS pixels: the page's text column, and a phone or a half of it.
pub(super) const WIDE: f64 = 720.0;
pub(super) const NARROW: f64 = 352.0;

/// The size of a chart's text, as chart.css sets it.
pub(super) const TEXT: f64 = 12.0;
/// The font size of dense labels, such as classes below bars or next to cells.
pub(super) const SMALL: f64 = 11.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Elements in the order in which they are drawn.
#[derive(Debug)]
pub(super) struct Canvas {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) body: String,
}

impl Canvas {
    pub(super) fn new(width: f64) -> Self {
        Self { width, height: 0.0, body: String::new() }
    }

    pub(super) fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y) = (coordinate(at.0), coordinate(at.1));
        let _ = write!(self.body, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>");
        push_escaped(&mut self.body, text);
        self.body.push_str("</text>\n");
    }

    /// Text that reads upwards from `at`.
    pub(super) fn text_upwards(&mut self, class: &str, at: (f64, f64), text: &str) {
        let (x, y) = (coordinate(at.0), coordinate(at.1));
        let _ = write!(self.body, "<text class=\"{class}\" transform=\"translate({x} {y}) rotate(-90)\">");
        push_escaped(&mut self.body, text);
        self.body.push_str("</text>\n");
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" />",
            coordinate(from.0),
            coordinate(from.1),
            coordinate(to.0),
            coordinate(to.1)
        );
    }

    pub(super) fn path(&mut self, class: &str, d: &str) {
        if !d.is_empty() {
            let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{d}\" />");
        }
    }

    /// A translucent path.
    pub(super) fn faint_path(&mut self, class: &str, d: &str, opacity: f64) {
        if !d.is_empty() {
            let opacity = (opacity * 100.0).round() / 100.0;
            let _ = writeln!(self.body, "<path class=\"{class}\" stroke-opacity=\"{opacity}\" d=\"{d}\" />");
        }
    }

    /// A rectangle with a tooltip; `opacity` is the fill's.
    pub(super) fn rect(&mut self, class: &str, area: Area, opacity: Option<f64>, title: &str) {
        self.body.push_str("<rect");
        if !class.is_empty() {
            let _ = write!(self.body, " class=\"{class}\"");
        }
        let _ = write!(
            self.body,
            " x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
            coordinate(area.left),
            coordinate(area.top),
            coordinate(area.width().max(0.0)),
            coordinate(area.height().max(0.0))
        );
        if let Some(opacity) = opacity {
            let _ = write!(self.body, " fill-opacity=\"{}\"", (opacity * 100.0).round() / 100.0);
        }
        if title.is_empty() {
            self.body.push_str(" />\n");
        } else {
            let _ = writeln!(self.body, "><title>{}</title></rect>", escape(title));
        }
    }

    /// A rectangle in a color of its own, whatever the reader's scheme.
    pub(super) fn colored_rect(&mut self, area: Area, [r, g, b]: [u8; 3]) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#{r:02x}{g:02x}{b:02x}\" />",
            coordinate(area.left),
            coordinate(area.top),
            coordinate(area.width()),
            coordinate(area.height())
        );
    }

    pub(super) fn open(&mut self, class: &str) {
        let _ = writeln!(self.body, "<g class=\"{class}\">");
    }

    pub(super) fn close(&mut self) {
        self.body.push_str("</g>\n");
    }

    pub(super) fn write(&self, out: &mut String, class: &str, title: &str) {
        let (width, height) = (self.width.ceil(), self.height.ceil());
        let title = escape(title);
        let _ = write!(
            out,
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n{}</svg>\n",
            self.body
        );
    }
}

/// Rounds to a tenth of a pixel, in the fewest digits.
pub(super) fn coordinate(x: f64) -> f64 {
    // Adding zero turns −0 into 0.
    (x * 10.0).round() / 10.0 + 0.0
}

/// The class that gives element number `i` its color, dash and shape.
pub(super) fn series_class(i: usize) -> String {
    format!("s{}", i % 6 + 1)
}

/// A point's mark as a path of its own shape, about 7 pixels in size.
pub(super) fn mark(i: usize, (x, y): (f64, f64)) -> String {
    let (x, y) = (coordinate(x), coordinate(y));
    match i % 6 {
        0 => format!("M{},{y}a3,3 0 1 0 6,0a3,3 0 1 0 -6,0", coordinate(x - 3.0)),
        1 => format!("M{x},{}l3.5,6h-7z", coordinate(y - 3.5)),
        2 => format!("M{},{}h5.4v5.4h-5.4z", coordinate(x - 2.7), coordinate(y - 2.7)),
        3 => format!("M{x},{}l3.8,3.8l-3.8,3.8l-3.8,-3.8z", coordinate(y - 3.8)),
        4 => format!("M{x},{}l-3.5,-6h7z", coordinate(y + 3.5)),
        _ => format!("M{},{}h2v-2h2v2h2v2h-2v2h-2v-2h-2z", coordinate(x - 3.0), coordinate(y - 1.0)),
    }
}

/// A circle around a point's mark.
pub(super) fn circle((x, y): (f64, f64)) -> String {
    format!("M{},{}a6,6 0 1 0 12,0a6,6 0 1 0 -12,0", coordinate(x - 6.0), coordinate(y))
}

/// The symbol of a series in a legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swatch {
    Line,
    Bar,
    Point,
}

/// Draws a legend from `top` on, its lines broken at the canvas's width; returns its end.
pub(super) fn legend(canvas: &mut Canvas, top: f64, swatch: Swatch, names: &[String]) -> f64 {
    const ROW: f64 = 18.0;
    const SAMPLE: f64 = 26.0;
    if names.len() < 2 {
        return top;
    }
    let (mut x, mut y) = (0.0, top);
    for (i, name) in names.iter().enumerate() {
        let name = shorten(name, canvas.width - SAMPLE, TEXT);
        let width = SAMPLE + text_width(&name, TEXT);
        if x > 0.0 && x + width > canvas.width {
            (x, y) = (0.0, y + ROW);
        }
        let class = series_class(i);
        let middle = y + 7.0;
        match swatch {
            Swatch::Line => canvas.line(&format!("line {class}"), (x, middle), (x + 20.0, middle)),
            Swatch::Bar => {
                let area = Area { left: x + 3.0, top: middle - 5.0, right: x + 17.0, bottom: middle + 5.0 };
                canvas.rect(&format!("bar {class}"), area, None, "");
            }
            Swatch::Point => canvas.path(&format!("point {class}"), &mark(i, (x + 12.0, middle))),
        }
        canvas.text("label", (x + SAMPLE, y + 11.0), Anchor::Start, &name);
        x += width + 18.0;
    }
    y + ROW + 6.0
}

/// An upper estimate of the width of `text` in a sans-serif font of `size`.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.32,
            ' ' | 'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | 'I' => 0.4,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.95,
            'A'..='Z' | '−' | '+' | '=' | '<' | '>' | '…' => 0.75,
            '\u{300}'..='\u{36F}' | '\u{200B}'..='\u{200F}' | '\u{FE00}'..='\u{FE0F}' => 0.0,
            '\u{1100}'..='\u{11FF}' | '\u{2E80}'..='\u{D7FF}' | '\u{F900}'..='\u{FFFF}' => 1.0,
            c if c >= '\u{1F000}' => 1.3,
            _ => 0.6,
        })
        .sum();
    em * size
}

/// `text`, cut with an ellipsis where it is wider than `width`; never between a character and the marks
/// and joiners that belong to it.
pub(super) fn shorten(text: &str, width: f64, size: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let room = width - text_width("…", size);
    let mut kept = 0;
    let mut joined = false;
    for (at, c) in text.char_indices() {
        let joins = matches!(c, '\u{300}'..='\u{36F}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}' | '\u{1F3FB}'..='\u{1F3FF}');
        if !joins && !joined {
            kept = at;
        }
        if text_width(&text[..at + c.len_utf8()], size) > room {
            break;
        }
        joined = c == '\u{200D}';
    }
    format!("{}…", text[..kept].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_text_fits_and_keeps_characters_whole() {
        assert_eq!(shorten("short", 100.0, 12.0), "short");
        let cut = shorten("a rather long class name", 60.0, 12.0);
        assert!(cut.ends_with('…') && text_width(&cut, 12.0) <= 60.0, "{cut}");
        let family = "👩\u{200D}👩\u{200D}👧";
        assert_eq!(shorten(&format!("ab{family}cd"), 50.0, 12.0), "ab…");
        assert_eq!(shorten("abcde\u{301}fgh", 44.0, 12.0), "abcd…");
        assert_eq!(shorten("any", 0.0, 12.0), "…");
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!(coordinate(12.3456).to_string(), "12.3");
        assert_eq!(coordinate(-0.01).to_string(), "0");
        assert_eq!(coordinate(100.0).to_string(), "100");
    }
}
