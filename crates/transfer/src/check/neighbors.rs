//! The nearest neighbors of each image in feature space: outliers have none near.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::Result;

/// Neighbors that an image's distance is the mean of, as in cleanlab's outlier detection.
pub(super) const NEIGHBORS: usize = 10;
/// Rows whose distances to all others are computed at a time.
const ROWS: usize = 256;
/// Images below which no distance is unusual.
const LEAST: usize = 30;

/// What is near an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Neighbors {
    /// The mean cosine distance to the nearest images.
    pub(super) distance: f64,
    /// The nearest image, with the cosine similarity.
    pub(super) nearest: (usize, f32),
}

/// The neighbors of each row of `rows` (N, F), whose rows have length 1, by comparing all with all.
pub(super) fn neighbors(rows: &Tensor, progress: &dyn Fn(usize, usize)) -> Result<Vec<Neighbors>> {
    let n = rows.dim(0)?;
    let all = rows.t()?.contiguous()?;
    let mut found = Vec::with_capacity(n);
    for start in (0..n).step_by(ROWS) {
        let block = rows.narrow(0, start, ROWS.min(n - start))?.matmul(&all)?.to_vec2::<f32>()?;
        let near = |(i, mut similarities): (usize, Vec<f32>)| {
            similarities[start + i] = f32::NEG_INFINITY;
            let mut order: Vec<usize> = (0..n).collect();
            let k = NEIGHBORS.min(n - 1).max(1);
            let descending =
                |a: &usize, b: &usize| similarities[*b].total_cmp(&similarities[*a]).then(a.cmp(b));
            order.select_nth_unstable_by(k - 1, descending);
            order.truncate(k);
            order.sort_by(descending);
            let sum: f64 = order.iter().map(|&j| f64::from(1.0 - similarities[j])).sum();
            Neighbors { distance: sum / k as f64, nearest: (order[0], similarities[order[0]]) }
        };
        found.par_extend(block.into_par_iter().enumerate().map(near));
        progress(found.len(), n);
    }
    Ok(found)
}

/// The indices of those that are far out by Tukey's rule: beyond the third quartile by three times the distance between the
/// quartiles.
pub(super) fn far_out(distances: &[f64]) -> Vec<usize> {
    if distances.len() < LEAST {
        return Vec::new();
    }
    let mut sorted = distances.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, third) = (sorted[sorted.len() / 4], sorted[sorted.len() * 3 / 4]);
    let limit = third + 3.0 * (third - first);
    let mut far: Vec<usize> = (0..distances.len()).filter(|&i| distances[i] > limit).collect();
    far.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]));
    far
}

#[cfg(test)]
mod tests {
    use super::far_out;

    #[test]
    fn far_out_is_three_times_the_quartiles_distance_beyond_the_third() {
        // The quartiles of all 43 are 10 and 32.
        let near = (0..40).map(f64::from);
        let distances: Vec<f64> = near.clone().chain([97.9, 98.1, 200.0]).collect();
        assert_eq!(far_out(&distances), [42, 41]);
        assert_eq!(far_out(&distances[14..]), [0; 0], "too few");
        assert_eq!(far_out(&near.collect::<Vec<_>>()), [0; 0]);
    }
}
