//! The forward pass.

use super::{
    Arguments, Attention, Normalizer, RowPanels, Rows, TransposedPanels, pack_rows, padded, transpose_tiles,
};
use crate::cpu::elementwise::add;
use crate::cpu::gemm::{TILE_ROWS, panel_width};
use crate::cpu::memory::buffer;
use crate::cpu::memory::planes::Shared;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::memory::threads::map_tasks;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::softmax::PaddedRow;
use crate::shape::AttentionShape;

impl Attention {
    /// The output, and the normalizer of each softmax, (B, heads, N).
    pub(crate) fn forward(&self, arguments: Arguments<'_>) -> (Vec<f32>, Vec<Normalizer>) {
        let AttentionShape { batch, heads, queries, keys, dim, out_dim } = self.shape;
        let mut y = buffer::zeros(batch * heads * queries * out_dim);
        let out = Shared::new(&mut y);
        let work = batch * heads * queries * keys * (dim + out_dim);
        let normalizers = map_tasks(batch * heads, work, |task| {
            let at = (task / heads, task % heads);
            dispatch(ForwardHead { attention: self, arguments, at, y: &out })
        });
        (y, normalizers.concat())
    }
}

/// A head of a sample.
struct ForwardHead<'a> {
    attention: &'a Attention,
    arguments: Arguments<'a>,
    at: (usize, usize),
    y: &'a Shared<'a>,
}

impl Kernel for ForwardHead<'_> {
    type Output = Vec<Normalizer>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<Normalizer> {
        let Self { attention, arguments: Arguments { q, k, v, bias }, at, y } = self;
        let AttentionShape { queries, keys, dim, out_dim, .. } = attention.shape;
        let width = panel_width::<S>();
        let bias = attention.bias_of(bias, at.0, at.1);
        let q = Rows::of_head(q, attention.q, at, queries, dim);
        let k = TransposedPanels::new(simd, Rows::of_head(k, attention.k, at, keys, dim));
        let v = RowPanels::new(simd, Rows::of_head(v, attention.v, at, keys, out_dim), 1.0);
        let out = attention.y.start(at.0, at.1);
        let mut packed_q = Scratch::dirty(dim * TILE_ROWS);
        let mut tiles = Scratch::dirty(k.panels.count * TILE_ROWS * width);
        let mut probabilities = Scratch::dirty(keys * TILE_ROWS);
        let mut outputs = Scratch::dirty(v.tiles_len::<S>());
        let mut normalizers = Vec::with_capacity(queries);
        for first in (0..queries).step_by(TILE_ROWS) {
            let rows = TILE_ROWS.min(queries - first);
            pack_rows(simd, q.part(first, rows), attention.scale, &mut packed_q);
            k.multiply(simd, &packed_q, &mut tiles);
            for r in 0..rows {
                let mut row = PaddedRow::new(simd, f32::NEG_INFINITY);
                for panel in 0..k.panels.count {
                    let (column, count) = k.panels.of(panel);
                    let scores = &mut tiles[(panel * TILE_ROWS + r) * width..][..padded::<S>(count)];
                    if let Some(bias) = bias {
                        add(&mut scores[..count], &bias[(first + r) * keys + column..][..count]);
                    }
                    scores[count..].fill(f32::NEG_INFINITY);
                    row.max(simd, scores);
                }
                let largest = row.maximum(simd);
                let mut row = PaddedRow::new(simd, 0.0);
                for panel in 0..k.panels.count {
                    let (_, count) = k.panels.of(panel);
                    let scores = &mut tiles[(panel * TILE_ROWS + r) * width..][..padded::<S>(count)];
                    row.exponentials(simd, scores, largest);
                }
                normalizers.push(Normalizer { largest, inverse_sum: 1.0 / row.total(simd) });
            }
            transpose_tiles(simd, &tiles, k.panels, &mut probabilities);
            v.multiply(simd, &probabilities, &mut outputs, false);
            for (r, normalizer) in normalizers[first..].iter().enumerate() {
                let start = out + (first + r) * attention.y.token;
                v.each_part::<S>(&mut outputs, r, |column, values| {
                    values.iter_mut().for_each(|value| *value *= normalizer.inverse_sum);
                    // SAFETY: this task alone writes the head's rows.
                    unsafe { y.write(start + column, values) };
                });
            }
        }
        normalizers
    }
}
