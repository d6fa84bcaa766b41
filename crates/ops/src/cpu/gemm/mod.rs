//! Matrix products for convolutions and dense layers (BLAS's GEMM and GEMV).
//!
//! The scheme is that of Goto and van de Geijn (2008): both sides are packed into panels in the order
//! in which the innermost loop reads them, [`TILE_ROWS`] rows of the left side and [`TILE_VECTORS`] vectors of
//! columns of the right. One tile of that size stays in registers while a block of the shared
//! dimension is summed. The right side of a convolution is the unfolded input (im2col), which is never
//! written as a whole: unfolding happens while its panels are packed. Panels of a map that is read as it is, as by a pointwise
//! convolution, are not packed at all.

mod gemv;
mod microkernel;
mod multiply;
mod pack;
mod packed;
mod reduce;

pub(crate) use self::gemv::{MAX_ROWS, gemv};
pub(crate) use self::microkernel::{RhsPanel, multiply_tile};
pub(crate) use self::multiply::{GemmOutput, gemm_into, gemm_rows_into};
pub(crate) use self::pack::{
    Im2colView, PackedLhs, PackedRhs, PixelLayout, TILE_ROWS, TILE_VECTORS, blocks, copy, panel_width,
};
pub(crate) use self::packed::{multiply_packed, multiply_packed_into};
pub(crate) use self::reduce::gemm_over_pixels;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Activation;

    #[test]
    fn products_are_sums_of_products() {
        // (rows, row_offsets, samples, height, width of the padded map, output rows and columns, stride)
        for (rows, channels, samples, (h, w), (oh, ow), (sh, sw)) in [
            (1, 1, 1, (1, 1), (1, 1), (1, 1)),
            (13, 5, 3, (7, 9), (5, 7), (1, 1)),
            (8, 50, 2, (9, 11), (4, 5), (2, 2)),
            (70, 9, 1, (40, 33), (13, 16), (3, 2)),
            (5, 130, 5, (5, 5), (3, 3), (1, 1)),
            (77, 60, 1, (9, 9), (7, 7), (1, 1)),
        ] {
            let (kh, kw) = (h - (oh - 1) * sh, w - (ow - 1) * sw);
            let (kh, kw) = (kh.min(3), kw.min(3));
            let data: Vec<f32> =
                (0..samples * channels * h * w).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let row_offsets: Vec<usize> =
                (0..channels * kh * kw).map(|t| (t / (kh * kw)) * h * w + t / kw % kh * w + t % kw).collect();
            let pixels = PixelLayout {
                count: oh * ow,
                run: ow,
                step: sw,
                run_stride: sh * w,
                sample_stride: channels * h * w,
            };
            let rhs = Im2colView::new(&data, &row_offsets, pixels, samples);
            let value = |r: usize, n: usize| {
                let (sample, p) = (n / (oh * ow), n % (oh * ow));
                f64::from(data[sample * channels * h * w + row_offsets[r] + p / ow * sh * w + p % ow * sw])
            };
            let weight: Vec<f32> =
                (0..rows * row_offsets.len()).map(|i| ((i * 53) % 89) as f32 - 44.0).collect();
            let bias: Vec<f32> = (0..rows).map(|i| i as f32).collect();
            let lhs = PackedLhs::from_rows(&weight, (rows, row_offsets.len()), None);
            let mut out = vec![f32::NAN; samples * rows * oh * ow];
            let flat = PixelLayout::flat(oh * ow, rows * oh * ow);
            let output = GemmOutput::new(&mut out, rows, oh * ow, flat, samples);
            gemm_into(&lhs, &rhs, Some(&bias), Activation::Identity, &output);
            let close = |found: f32, expected: f64, scale: f64| {
                assert!((f64::from(found) - expected).abs() <= 4e-6 * scale, "{found} {expected}");
            };
            for n in 0..samples * oh * ow {
                for m in 0..rows {
                    let products = |k: usize| f64::from(weight[m * row_offsets.len() + k]) * value(k, n);
                    let expected = (0..row_offsets.len()).map(products).sum::<f64>() + m as f64;
                    let scale = (0..row_offsets.len()).map(|k| products(k).abs()).sum::<f64>() + m as f64;
                    let (sample, p) = (n / (oh * ow), n % (oh * ow));
                    close(out[(sample * rows + m) * oh * ow + p], expected, scale);
                }
            }
            let out_taps: Vec<usize> = (0..rows).map(|m| m * oh * ow).collect();
            let outs = Im2colView::new(&out, &out_taps, flat, samples);
            let over = gemm_over_pixels(&outs, &rhs);
            for m in 0..rows {
                for k in 0..row_offsets.len() {
                    let products = |n: usize| {
                        let (sample, p) = (n / (oh * ow), n % (oh * ow));
                        f64::from(out[(sample * rows + m) * oh * ow + p]) * value(k, n)
                    };
                    let all = 0..samples * oh * ow;
                    let expected = all.clone().map(products).sum::<f64>();
                    let scale = all.map(|n| products(n).abs()).sum::<f64>();
                    close(over[m * row_offsets.len() + k], expected, scale);
                }
            }
        }
    }
}
