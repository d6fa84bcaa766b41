//! Affine maps, and images resampled by them.

use super::Fill;
use crate::decode_settings::Interpolation;

/// An affine map from an output pixel's center (x + ½, y + ½) to its source, (a·x + b·y + c, d·x + e·y + f): Pillow's
/// coefficients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine {
    pub(super) x: [f64; 3],
    pub(super) y: [f64; 3],
}

impl Affine {
    pub(super) const IDENTITY: Self = Self { x: [1.0, 0.0, 0.0], y: [0.0, 1.0, 0.0] };

    /// The linear map (a, b; d, e) about the center of an image.
    fn about_center([a, b, d, e]: [f64; 4], (height, width): (usize, usize)) -> Self {
        let (cx, cy) = (width as f64 / 2.0, height as f64 / 2.0);
        Self { x: [a, b, a * -cx + b * -cy + cx], y: [d, e, d * -cx + e * -cy + cy] }
    }

    pub(super) fn flip_horizontal(size: (usize, usize)) -> Self {
        Self::about_center([-1.0, 0.0, 0.0, 1.0], size)
    }

    pub(super) fn flip_vertical(size: (usize, usize)) -> Self {
        Self::about_center([1.0, 0.0, 0.0, -1.0], size)
    }

    /// A counterclockwise rotation, with y pointing down.
    pub(super) fn rotate(degrees: f64, size: (usize, usize)) -> Self {
        let (sin, cos) = (-degrees.to_radians()).sin_cos();
        // Pillow rounds to 15 decimals, which makes quarter turns exact.
        let round = |x: f64| (x * 1e15).round() / 1e15;
        let (sin, cos) = (round(sin), round(cos));
        Self::about_center([cos, sin, -sin, cos], size)
    }

    /// A zoom that shows `factor` of the height and width.
    pub(super) fn zoom(factor: f64, size: (usize, usize)) -> Self {
        Self::about_center([factor, 0.0, 0.0, factor], size)
    }

    /// A translation by pixels.
    pub(super) fn translate(down: f64, right: f64) -> Self {
        Self { x: [1.0, 0.0, -right], y: [0.0, 1.0, -down] }
    }

    /// First `self`, then `next`: an output pixel is looked up through `next`, then through `self`.
    pub(super) fn then(self, next: Self) -> Self {
        let row = |[a, b, c]: [f64; 3]| {
            let ([p, q, r], [s, t, u]) = (next.x, next.y);
            [a * p + b * s, a * q + b * t, a * r + b * u + c]
        };
        Self { x: row(self.x), y: row(self.y) }
    }

    /// The translation (down, right) in whole pixels, if the map only flips and translates.
    fn whole_pixels(self) -> Option<(i64, i64)> {
        let ([a, b, c], [d, e, f]) = (self.x, self.y);
        let whole =
            b == 0.0 && d == 0.0 && a.abs() == 1.0 && e.abs() == 1.0 && c.fract() == 0.0 && f.fract() == 0.0;
        (whole && c.abs() < 1e9 && f.abs() < 1e9).then_some((f as i64, c as i64))
    }
}

/// An image's pixels: `C` bytes each, row by row.
struct Source<'a, const C: usize> {
    pixels: &'a [[u8; C]],
    width: usize,
    height: usize,
}

/// Resamples `source`, (H, W, C), by `map` into `target` of the same shape.
pub(super) fn resample<const C: usize>(
    source: &[u8],
    (height, width): (usize, usize),
    map: Affine,
    interpolation: Interpolation,
    fill: Fill,
    target: &mut [u8],
) {
    let source = Source::<C> { pixels: source.as_chunks().0, width, height };
    let target = target.as_chunks_mut::<C>().0;
    match (map.whole_pixels(), interpolation) {
        (Some((down, right)), _) => source.copy(map, down, right, fill, target),
        (None, Interpolation::Nearest) => source.nearest(map, fill, target),
        // No other filter passes the check of an `Augmentation`.
        (None, _) => source.bilinear(map, fill, target),
    }
}

/// The index in 0..n that `i` stands for beyond the edge; `None` where a constant fills.
fn index(i: i64, n: usize, fill: Fill) -> Option<usize> {
    let n = n as i64;
    if (0..n).contains(&i) {
        return Some(i as usize);
    }
    let mirrored = |i: i64, period: i64, last: i64| {
        let i = i.rem_euclid(period);
        if i < n { i } else { last - i }
    };
    let index = match fill {
        Fill::Constant(_) => return None,
        Fill::Edge => i.clamp(0, n - 1),
        Fill::Symmetric => mirrored(i, 2 * n, 2 * n - 1),
        Fill::Reflect if n == 1 => 0,
        Fill::Reflect => mirrored(i, 2 * n - 2, 2 * n - 2),
        Fill::Wrap => i.rem_euclid(n),
    };
    Some(index as usize)
}

/// ⌊x⌋, faster than `f64::floor`, which is a function call unless the target has the instruction.
#[inline(always)]
fn floor(x: f64) -> i64 {
    let truncated = x as i64;
    truncated - i64::from(x < truncated as f64)
}

impl<const C: usize> Source<'_, C> {
    fn at(&self, x: i64, y: i64, fill: Fill) -> [u8; C] {
        match (index(x, self.width, fill), index(y, self.height, fill), fill) {
            (Some(x), Some(y), _) => self.pixels[y * self.width + x],
            (_, _, Fill::Constant(value)) => [value; C],
            _ => [0; C],
        }
    }

    /// Resamples by a map that only flips and translates by whole pixels.
    fn copy(&self, map: Affine, down: i64, right: i64, fill: Fill, target: &mut [[u8; C]]) {
        // The center of a pixel flipped about 0 is the center of the previous pixel.
        let along = |i: usize, sign: f64| if sign < 0.0 { -1 - i as i64 } else { i as i64 };
        let columns: Vec<i64> = (0..self.width).map(|x| along(x, map.x[0]) + right).collect();
        for (y, row) in target.chunks_exact_mut(self.width).enumerate() {
            let y = along(y, map.y[1]) + down;
            for (pixel, &x) in row.iter_mut().zip(&columns) {
                *pixel = self.at(x, y, fill);
            }
        }
    }

    fn nearest(&self, map: Affine, fill: Fill, target: &mut [[u8; C]]) {
        self.for_each_position(map, target, |x, y| self.at(floor(x), floor(y), fill));
    }

    /// Bilinear, as `BILINEAR_BODY` in Pillow's libImaging/Geometry.c.
    fn bilinear(&self, map: Affine, fill: Fill, target: &mut [[u8; C]]) {
        let (columns, rows) = (self.width as i64 - 1, self.height as i64 - 1);
        let (wide, high) = (self.width as f64, self.height as f64);
        self.for_each_position(map, target, |x_in, y_in| {
            let (x_at, y_at) = (x_in - 0.5, y_in - 0.5);
            let (x, y) = (floor(x_at), floor(y_at));
            let (dx, dy) = (x_at - x as f64, y_at - y as f64);
            if 0 <= x && x < columns && 0 <= y && y < rows {
                let upper = &self.pixels[y as usize * self.width + x as usize..][..self.width + 2];
                return blend([upper[0], upper[1], upper[self.width], upper[self.width + 1]], dx, dy);
            }
            if let Fill::Constant(value) = fill {
                let inside = (0.0..wide).contains(&x_in) && (0.0..high).contains(&y_in);
                if !inside {
                    return [value; C];
                }
                // Within half a pixel of the edge, the edge is repeated.
                return self.blend_at(x, y, dx, dy, Fill::Edge);
            }
            self.blend_at(x, y, dx, dy, fill)
        });
    }

    fn blend_at(&self, x: i64, y: i64, dx: f64, dy: f64, fill: Fill) -> [u8; C] {
        let corners = [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)];
        blend(corners.map(|(x, y)| self.at(x, y, fill)), dx, dy)
    }

    /// Sets each target pixel to the value of `read` at its position in the source.
    #[inline(always)]
    fn for_each_position(&self, map: Affine, target: &mut [[u8; C]], read: impl Fn(f64, f64) -> [u8; C]) {
        let ([a, b, c], [d, e, f]) = (map.x, map.y);
        for (y, row) in target.chunks_exact_mut(self.width).enumerate() {
            let y = y as f64 + 0.5;
            let (by, ey) = (b * y, e * y);
            for (x, pixel) in row.iter_mut().enumerate() {
                let x = x as f64 + 0.5;
                *pixel = read(a * x + by + c, d * x + ey + f);
            }
        }
    }
}

/// Interpolates between four neighbors: upper left, upper right, lower left, lower right.
#[inline(always)]
fn blend<const C: usize>([a, b, c, d]: [[u8; C]; 4], dx: f64, dy: f64) -> [u8; C] {
    std::array::from_fn(|channel| {
        let value = |pixel: [u8; C]| f64::from(pixel[channel]);
        let upper = value(a) + (value(b) - value(a)) * dx;
        let lower = value(c) + (value(d) - value(c)) * dx;
        (upper + (lower - upper) * dy) as i32 as u8
    })
}
