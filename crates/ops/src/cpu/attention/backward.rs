//! The backward pass: with P the probabilities and g the gradient of y, the gradients are Pᵀ·g of v, and scale·dS·k of q and
//! scale·dSᵀ·q of k with dS = P∘(g·vᵀ − the sum of P∘(g·vᵀ) over keys), which is the gradient of the bias.

use super::{
    Arguments, Attention, BiasShape, Layout, Normalizer, RowPanels, Rows, TransposedPanels, pack_rows,
    transpose_tiles,
};
use crate::cpu::elementwise::{add, exp_of_negative};
use crate::cpu::gemm::{TILE_ROWS, panel_width};
use crate::cpu::memory::planes::Shared;
use crate::cpu::memory::scratch::Scratch;
use crate::cpu::memory::threads::map_tasks;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::softmax::dot;
use crate::shape::AttentionShape;

/// Number of queries whose probabilities are kept together.
const QUERIES: usize = 8 * TILE_ROWS;

/// The buffers of the gradients of q, k and v, laid out as the arguments are.
#[derive(Clone, Copy)]
pub(crate) struct GradBuffers<'a> {
    pub(crate) q: &'a Shared<'a>,
    pub(crate) k: &'a Shared<'a>,
    pub(crate) v: &'a Shared<'a>,
}

impl Attention {
    /// Writes the gradients of q, k and v from `grad`, that of the output, and returns that of the bias if it is wanted.
    pub(crate) fn backward(
        &self,
        arguments: Arguments<'_>,
        normalizers: &[Normalizer],
        grad: &[f32],
        into: GradBuffers<'_>,
        wants_bias: bool,
    ) -> Option<Vec<f32>> {
        let AttentionShape { batch, heads, queries, keys, dim, out_dim } = self.shape;
        // Samples of one bias are a task each, unless the bias's gradient adds up over them.
        let (groups, bias_heads) = match self.bias {
            Some(BiasShape { groups, heads }) if wants_bias => (groups, heads),
            _ => (batch, heads),
        };
        let work = 3 * batch * heads * queries * keys * (dim + out_dim);
        let parts = map_tasks(groups * heads, work, |task| {
            let (group, head) = (task / heads, task % heads);
            let mut bias_grad = wants_bias.then(|| vec![0.0; queries * keys]);
            for sample in (group..batch).step_by(groups) {
                let normalizers = &normalizers[(sample * heads + head) * queries..][..queries];
                let (at, bias_grad) = ((sample, head), bias_grad.as_deref_mut());
                dispatch(BackwardHead { attention: self, arguments, at, normalizers, grad, into, bias_grad });
            }
            bias_grad
        });
        if !wants_bias {
            return None;
        }
        let parts: Vec<Vec<f32>> = parts.into_iter().flatten().collect();
        if bias_heads == heads {
            return Some(parts.concat());
        }
        let of_all_heads = parts.chunks(heads).flat_map(|parts| {
            let mut total = vec![0.0; queries * keys];
            parts.iter().for_each(|part| add(&mut total, part));
            total
        });
        Some(of_all_heads.collect())
    }
}

/// A head of a sample.
struct BackwardHead<'a> {
    attention: &'a Attention,
    arguments: Arguments<'a>,
    at: (usize, usize),
    /// One per query of the head.
    normalizers: &'a [Normalizer],
    grad: &'a [f32],
    into: GradBuffers<'a>,
    /// The sum of the gradients of the bias so far, (N, M).
    bias_grad: Option<&'a mut [f32]>,
}

impl Kernel for BackwardHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { attention, arguments, at, normalizers, grad, into, mut bias_grad } = self;
        let AttentionShape { queries, keys, dim, out_dim, .. } = attention.shape;
        let (width, scale) = (panel_width::<S>(), attention.scale);
        let bias = attention.bias_of(arguments.bias, at.0, at.1);
        let q = Rows::of_head(arguments.q, attention.q, at, queries, dim);
        let k = Rows::of_head(arguments.k, attention.k, at, keys, dim);
        let v = Rows::of_head(arguments.v, attention.v, at, keys, out_dim);
        let grad = Rows::of_head(grad, attention.y, at, queries, out_dim);
        let (k_transposed, v_transposed) = (TransposedPanels::new(simd, k), TransposedPanels::new(simd, v));
        let k_rows = RowPanels::new(simd, k, scale);
        let panels = k_transposed.panels;
        let tiles_len = panels.count * TILE_ROWS * width;
        let (mut packed_q, mut packed_grad) =
            (Scratch::dirty(dim * TILE_ROWS), Scratch::dirty(out_dim * TILE_ROWS));
        let (mut probabilities, mut score_grads) = (Scratch::dirty(tiles_len), Scratch::dirty(tiles_len));
        let mut transposed = Scratch::dirty(keys * TILE_ROWS);
        let mut q_grads = Scratch::dirty(k_rows.tiles_len::<S>());
        let key_tiles = keys.div_ceil(TILE_ROWS);
        // By eight keys: [query][8].
        let (mut p_by_key, mut s_by_key) = (
            Scratch::zeroed(key_tiles * QUERIES * TILE_ROWS),
            Scratch::zeroed(key_tiles * QUERIES * TILE_ROWS),
        );
        let tiles_of = |len: usize| super::Panels::new::<S>(len).count * TILE_ROWS * width;
        let mut k_grads = Scratch::dirty(key_tiles * tiles_of(dim));
        let mut v_grads = Scratch::dirty(key_tiles * tiles_of(out_dim));
        for block in (0..queries).step_by(QUERIES) {
            let count = QUERIES.min(queries - block);
            let q_block = RowPanels::new(simd, q.part(block, count), scale);
            let grad_block = RowPanels::new(simd, grad.part(block, count), 1.0);
            for first in (block..block + count).step_by(TILE_ROWS) {
                let rows = TILE_ROWS.min(block + count - first);
                pack_rows(simd, q.part(first, rows), scale, &mut packed_q);
                pack_rows(simd, grad.part(first, rows), 1.0, &mut packed_grad);
                k_transposed.multiply(simd, &packed_q, &mut probabilities);
                v_transposed.multiply(simd, &packed_grad, &mut score_grads);
                for r in 0..rows {
                    let query = first + r;
                    let parts = || (0..panels.count).map(|panel| (panel, panels.of(panel)));
                    let at = |panel, count| {
                        (panel * TILE_ROWS + r) * width..(panel * TILE_ROWS + r) * width + count
                    };
                    let Normalizer { largest, inverse_sum } = normalizers[query];
                    let mut mean = 0.0;
                    for (panel, (column, count)) in parts() {
                        let p = &mut probabilities[at(panel, count)];
                        if let Some(bias) = bias {
                            add(p, &bias[query * keys + column..][..count]);
                        }
                        for p in p.iter_mut() {
                            *p = exp_of_negative::<S>(*p - largest, 0.0) * inverse_sum;
                        }
                        mean += dot(p, &score_grads[at(panel, count)]);
                    }
                    for (panel, (column, count)) in parts() {
                        let p = &probabilities[at(panel, count)];
                        let score_grads = &mut score_grads[at(panel, count)];
                        for (grad, p) in score_grads.iter_mut().zip(p) {
                            *grad = p * (*grad - mean);
                        }
                        if let Some(bias_grad) = &mut bias_grad {
                            add(&mut bias_grad[query * keys + column..][..count], score_grads);
                        }
                        // Panels hold multiples of eight keys.
                        let pairs = p.chunks(TILE_ROWS).zip(score_grads.chunks(TILE_ROWS));
                        for (i, (p, grads)) in pairs.enumerate() {
                            let to = ((column / TILE_ROWS + i) * QUERIES + query - block) * TILE_ROWS;
                            p_by_key[to..][..p.len()].copy_from_slice(p);
                            s_by_key[to..][..p.len()].copy_from_slice(grads);
                        }
                    }
                }
                transpose_tiles(simd, &score_grads, panels, &mut transposed);
                k_rows.multiply(simd, &transposed, &mut q_grads, false);
                write_rows::<S>(&k_rows, &mut q_grads, into.q, attention.q, at, first, rows);
            }
            for tile in 0..key_tiles {
                let of_tile = tile * QUERIES * TILE_ROWS..(tile * QUERIES + count) * TILE_ROWS;
                let (k_len, v_len) = (q_block.tiles_len::<S>(), grad_block.tiles_len::<S>());
                let k_grads = &mut k_grads[tile * k_len..][..k_len];
                q_block.multiply(simd, &s_by_key[of_tile.clone()], k_grads, block > 0);
                let v_grads = &mut v_grads[tile * v_len..][..v_len];
                grad_block.multiply(simd, &p_by_key[of_tile], v_grads, block > 0);
                if block + count == queries {
                    let (first, rows) = (tile * TILE_ROWS, TILE_ROWS.min(keys - tile * TILE_ROWS));
                    write_rows::<S>(&q_block, k_grads, into.k, attention.k, at, first, rows);
                    write_rows::<S>(&grad_block, v_grads, into.v, attention.v, at, first, rows);
                }
            }
        }
    }
}

/// Writes rows of tiles as the vectors of a head's tokens from `first` on.
#[inline(always)]
fn write_rows<S: Simd>(
    panels: &RowPanels,
    tiles: &mut [f32],
    into: &Shared<'_>,
    layout: Layout,
    (sample, head): (usize, usize),
    first: usize,
    rows: usize,
) {
    for row in 0..rows {
        let start = layout.start(sample, head) + (first + row) * layout.token;
        panels.each_part::<S>(tiles, row, |column, values| {
            // SAFETY: this task alone writes the head's vectors of this argument.
            unsafe { into.write(start + column, values) };
        });
    }
}
