//! Lines of round dots, drawn as gray pixels or as outlines.

use std::fmt::Write as _;
use std::io;

use crate::random::Random;
use crate::strokes::{Kind, Stroke};

/// A gray image: dark ink on white (255).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height` bytes, row by row from the top left.
    pub pixels: Vec<u8>,
}

impl Image {
    /// Writes the image as a PNG file: 8-bit gray, no metadata.
    ///
    /// # Errors
    ///
    /// The error of the writer; `InvalidInput` if the number of pixels is not `width * height`.
    pub fn write_png(&self, to: impl io::Write) -> io::Result<()> {
        let mut encoder = png::Encoder::new(to, self.width, self.height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        // Drawing takes a third of the time that stronger compression would; files are a quarter larger.
        encoder.set_compression(png::Compression::Fast);
        let written = encoder.write_header().and_then(|mut png| {
            png.write_image_data(&self.pixels)?;
            png.finish()
        });
        written.map_err(|error| match error {
            png::EncodingError::IoError(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidInput, other),
        })
    }
}

/// The look of a line on the paper.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ink {
    /// Depth of the ink; 1 is black.
    pub(crate) depth: f32,
    /// Standard deviation of the depth from pixel to pixel.
    pub(crate) grain: f32,
    /// Width of the edge over which ink turns to paper, in pixels.
    pub(crate) edge: f32,
}

/// The pen's position and half the line's width, in pixels.
pub(crate) struct Dot {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) radius: f32,
}

/// A brush's width relative to the nib's at the share `s` of a stroke's length: straight lines between
/// the knots (share, width).
pub(crate) fn pressure(kind: Kind, s: f32) -> f32 {
    let knots: &[(f32, f32)] = match kind {
        Kind::Heng => &[(0.0, 0.9), (0.5, 0.75), (1.0, 1.0)],
        Kind::Shu => &[(0.0, 1.05), (0.5, 0.9), (1.0, 0.85)],
        Kind::ShuGou => &[(0.0, 1.05), (0.8, 0.9), (1.0, 0.3)],
        Kind::Pie => &[(0.0, 1.05), (0.4, 0.95), (1.0, 0.25)],
        Kind::HengPie => &[(0.0, 0.8), (0.5, 1.0), (1.0, 0.25)],
        Kind::Na => &[(0.0, 0.4), (0.8, 1.3), (1.0, 0.5)],
        Kind::Dian => &[(0.0, 0.4), (0.75, 1.25), (1.0, 0.9)],
        Kind::Ti => &[(0.0, 1.0), (1.0, 0.3)],
        Kind::Zhe => &[(0.0, 0.95), (1.0, 0.9)],
        Kind::ZheGou => &[(0.0, 0.95), (0.9, 0.9), (1.0, 0.3)],
    };
    let next = knots.iter().position(|knot| knot.0 >= s).unwrap_or(knots.len() - 1).max(1);
    let ((s0, w0), (s1, w1)) = (knots[next - 1], knots[next]);
    w0 + (w1 - w0) * ((s - s0) / (s1 - s0))
}

/// Draws lines on paper that ends `margins` pixels (left, top, right, bottom) from the ink.
pub(crate) fn draw(lines: &[Vec<Dot>], ink: &Ink, margins: [f32; 4], random: &mut Random) -> Image {
    let dots = || lines.iter().flatten();
    let left = dots().map(|d| d.x - d.radius).fold(f32::INFINITY, f32::min) - margins[0];
    let top = dots().map(|d| d.y - d.radius).fold(f32::INFINITY, f32::min) - margins[1];
    let right = dots().map(|d| d.x + d.radius).fold(f32::NEG_INFINITY, f32::max) + margins[2];
    let bottom = dots().map(|d| d.y + d.radius).fold(f32::NEG_INFINITY, f32::max) + margins[3];
    let width = (right - left).ceil() as usize;
    let height = (bottom - top).ceil() as usize;

    // The share of ink in each pixel: the most that any piece of a line leaves there.
    let mut cover = vec![0.0f32; width * height];
    for (a, b) in lines.iter().flat_map(|line| line.iter().zip(line.iter().skip(1))) {
        let (ax, ay, bx, by) = (a.x - left, a.y - top, b.x - left, b.y - top);
        let reach = a.radius.max(b.radius) + 0.5 * ink.edge;
        let from = |low: f32| (low - reach).max(0.0) as usize;
        let upto = |high: f32, end: usize| ((high + reach).max(0.0) as usize + 1).min(end);
        let (dx, dy) = (bx - ax, by - ay);
        let length2 = (dx * dx + dy * dy).max(1e-12);
        for row in from(ay.min(by))..upto(ay.max(by), height) {
            for column in from(ax.min(bx))..upto(ax.max(bx), width) {
                let (x, y) = (column as f32 + 0.5 - ax, row as f32 + 0.5 - ay);
                let t = ((x * dx + y * dy) / length2).clamp(0.0, 1.0);
                let (x, y) = (x - t * dx, y - t * dy);
                let inside = a.radius + t * (b.radius - a.radius) - (x * x + y * y).sqrt();
                let share = (inside / ink.edge + 0.5).clamp(0.0, 1.0);
                let pixel = &mut cover[row * width + column];
                *pixel = pixel.max(share);
            }
        }
    }
    let gray = |share: f32, random: &mut Random| {
        if share == 0.0 {
            return 255;
        }
        let depth = (ink.depth + random.bell(ink.grain)).clamp(0.0, 1.0);
        (255.0 * (1.0 - share * depth) + 0.5) as u8
    };
    let pixels = cover.into_iter().map(|share| gray(share, random)).collect();
    Image { width: width as u32, height: height as u32, pixels }
}

/// The strokes as a brush of width `nib` writes them: SVG path data to be filled with the rule `nonzero`, a closed
/// outline for each stroke between its corners. The unit square becomes 30..970, so that the outlines stay in 0..1000.
pub(crate) fn outline(strokes: &[Stroke], nib: f32) -> String {
    /// The cosine of the turn between two steps from which it is a corner; on a curve they turn less.
    const CORNER: f32 = 0.7;
    let mut path = String::new();
    for stroke in strokes {
        let last = stroke.line.len() - 1;
        let ways: Vec<[f32; 2]> = stroke.line.windows(2).map(|pair| unit(pair[0], pair[1])).collect();
        let straight = |i: usize| ways[i - 1][0] * ways[i][0] + ways[i - 1][1] * ways[i][1] > CORNER;
        let mut start = 0;
        for end in 1..=last {
            if end < last && straight(end) {
                continue;
            }
            let dots: Vec<_> = (start..=end)
                .map(|i| {
                    let (before, after) = (ways[i.max(start + 1) - 1], ways[i.min(end - 1)]);
                    let way = unit([0.0; 2], [before[0] + after[0], before[1] + after[1]]);
                    let half = 470.0 * nib * pressure(stroke.kind, i as f32 / last as f32);
                    let [x, y] = stroke.line[i].map(|v| 30.0 + 940.0 * v);
                    ([x, y], [-way[1] * half, way[0] * half], half)
                })
                .collect();
            outline_leg(&mut path, &dots);
            start = end;
        }
    }
    path
}

/// Adds the outline of one leg: for each of its dots the position, the direction to its left edge, and the radius.
fn outline_leg(path: &mut String, dots: &[([f32; 2], [f32; 2], f32)]) {
    let left = dots.iter().map(|([x, y], side, radius)| (x + side[0], y + side[1], radius));
    let right = dots.iter().rev().map(|([x, y], side, radius)| (x - side[0], y - side[1], radius));
    // Along the left edge, half a circle around the end, back along the right edge, half a circle around the start.
    let steps = left.clone().chain(right).chain(left.take(1));
    for (step, (x, y, radius)) in steps.enumerate() {
        // Writing to a string doesn't fail.
        let _ = if step == 0 {
            write!(path, "M{x:.0} {y:.0}")
        } else if step % dots.len() == 0 {
            write!(path, "A{radius:.0} {radius:.0} 0 0 0 {x:.0} {y:.0}")
        } else {
            write!(path, "L{x:.0} {y:.0}")
        };
    }
    path.push('Z');
}

/// The direction from `a` to `b`, of length 1.
fn unit(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    let (x, y) = (b[0] - a[0], b[1] - a[1]);
    let length = (x * x + y * y).sqrt();
    [x / length, y / length]
}
