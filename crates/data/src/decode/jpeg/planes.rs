//! Images of four components with subsampling, joined from their planes as libjpeg does it (jdsample.c, jdcolor.c). The library
//! decodes the planes, but joins them only where all have one size.

use libjpeg_turbo_rs::{ColorSpace, Decoder};

use super::inverted_cmyk;
use crate::decode::failure::Failure;
use crate::decode_settings::ColorMode;
use crate::raster::Raster;

/// One component as it is stored, without the padding of its last blocks.
struct Plane {
    width: usize,
    rows: Vec<Vec<u8>>,
}

/// The pixels of an image of four components.
pub(super) fn read(bytes: &[u8], lenient: bool) -> Result<Raster, Failure> {
    let mut decoder = Decoder::new(bytes)?;
    decoder.set_lenient(lenient);
    let header = decoder.header();
    let (width, height) = (usize::from(header.width), usize::from(header.height));
    let sampling: Vec<(usize, usize)> = header
        .components
        .iter()
        .map(|c| (usize::from(c.horizontal_sampling).max(1), usize::from(c.vertical_sampling).max(1)))
        .collect();
    let across = sampling.iter().map(|s| s.0).max().unwrap_or(1);
    let down = sampling.iter().map(|s| s.1).max().unwrap_or(1);
    let is_ycck = decoder.jpeg_color_space() == ColorSpace::Ycck;
    let (raw, warnings) = decoder.decode_raw_with_warnings()?;
    if !warnings.is_empty() {
        return Err(Failure::Undecodable("the file is cut off or has errors".to_owned()));
    }
    let mut full = Vec::new();
    for (((data, stride), stored), (h, v)) in
        raw.planes.iter().zip(raw.plane_widths).zip(raw.plane_heights).zip(sampling)
    {
        let (w, rows) = ((width * h).div_ceil(across), (height * v).div_ceil(down));
        if w > stride || rows > stored || data.len() < stride * stored || across % h != 0 || down % v != 0 {
            return Err(Failure::Undecodable("the components have sizes that don't fit together".to_owned()));
        }
        let rows = data.chunks_exact(stride).take(rows).map(|row| row[..w].to_vec()).collect();
        let plane = Plane { width: w, rows };
        full.push(plane.enlarged(across / h, down / v));
    }
    let [c, m, y, k] = &full[..] else {
        return Err(Failure::Undecodable(format!("expected 4 components, found {}", full.len())));
    };
    let mut data = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        for column in 0..width {
            let ink = [c, m, y].map(|plane| plane.rows[row][column]);
            let [c, m, y] = if is_ycck { ycc_to_cmy(ink) } else { ink };
            data.extend(inverted_cmyk(&[c, m, y, k.rows[row][column]]));
        }
    }
    Ok(Raster { width: width as u32, height: height as u32, color: ColorMode::Rgb, data })
}

impl Plane {
    /// The plane at the image's size: with a triangle filter for a factor of 2, otherwise by repetition.
    fn enlarged(self, across: usize, down: usize) -> Self {
        // The filter needs more than two columns.
        let fancy = self.width > 2;
        match (across, down) {
            (1, 1) => self,
            (2, 1) if fancy => {
                Self { rows: self.rows.iter().map(|row| twice_as_wide(row)).collect(), ..self }
            }
            (2, 2) if fancy => {
                let sums = |near: usize, far: usize| -> Vec<u32> {
                    let pairs = self.rows[near].iter().zip(&self.rows[far]);
                    pairs.map(|(&near, &far)| 3 * u32::from(near) + u32::from(far)).collect()
                };
                let rows = self.row_pairs(|near, far, _| twice_as_wide_sums(&sums(near, far)));
                Self { rows, ..self }
            }
            (1, 2) => {
                let rows = self.row_pairs(|near, far, second| {
                    let bias = if second { 2 } else { 1 };
                    let pairs = self.rows[near].iter().zip(&self.rows[far]);
                    pairs
                        .map(|(&near, &far)| ((3 * u32::from(near) + u32::from(far) + bias) >> 2) as u8)
                        .collect()
                });
                Self { rows, ..self }
            }
            _ => {
                let wide = |row: &Vec<u8>| row.iter().flat_map(|&v| std::iter::repeat_n(v, across)).collect();
                let rows = self.rows.iter().map(wide);
                Self { rows: rows.flat_map(|row: Vec<u8>| std::iter::repeat_n(row, down)).collect(), ..self }
            }
        }
    }

    /// Two rows for each, made from it and the one above, then from it and the one below; at the edges from itself.
    fn row_pairs(&self, make: impl Fn(usize, usize, bool) -> Vec<u8>) -> Vec<Vec<u8>> {
        let last = self.rows.len() - 1;
        (0..=last)
            .flat_map(|row| [make(row, row.saturating_sub(1), false), make(row, (row + 1).min(last), true)])
            .collect()
    }
}

/// `h2v1_fancy_upsample`.
fn twice_as_wide(row: &[u8]) -> Vec<u8> {
    let at = |i: usize| u32::from(row[i]);
    let last = row.len() - 1;
    (0..row.len())
        .flat_map(|i| {
            let left = if i == 0 { at(0) } else { (3 * at(i) + at(i - 1) + 1) >> 2 };
            let right = if i == last { at(last) } else { (3 * at(i) + at(i + 1) + 2) >> 2 };
            [left as u8, right as u8]
        })
        .collect()
}

/// `h2v2_fancy_upsample`, from sums of two rows with the weights 3 and 1.
fn twice_as_wide_sums(sums: &[u32]) -> Vec<u8> {
    let last = sums.len() - 1;
    (0..sums.len())
        .flat_map(|i| {
            let left = if i == 0 { sums[0] * 4 + 8 } else { sums[i] * 3 + sums[i - 1] + 8 };
            let right = if i == last { sums[last] * 4 + 7 } else { sums[i] * 3 + sums[i + 1] + 7 };
            [(left >> 4) as u8, (right >> 4) as u8]
        })
        .collect()
}

/// `ycck_cmyk_convert`: YCbCr to RGB in 16 fractional bits, inverted.
fn ycc_to_cmy([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91881 * cr + HALF) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + HALF) >> 16);
    let blue = y + ((116130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| (255 - value).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ycck_is_inverted_rgb() {
        for y in (0..=255).step_by(15) {
            for cb in (0..=255).step_by(15) {
                for cr in (0..=255).step_by(15) {
                    let [luma, blue, red] = [y, cb, cr].map(f64::from);
                    let rgb = [
                        luma + 1.402 * (red - 128.0),
                        luma - 0.344_136 * (blue - 128.0) - 0.714_136 * (red - 128.0),
                        luma + 1.772 * (blue - 128.0),
                    ];
                    let found = super::ycc_to_cmy([y, cb, cr]);
                    for (found, value) in found.into_iter().zip(rgb) {
                        let expected = (255.0 - value).clamp(0.0, 255.0);
                        assert!((f64::from(found) - expected).abs() <= 0.51, "{found} against {expected}");
                    }
                }
            }
        }
    }
}
