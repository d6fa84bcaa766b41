//! What the normalizations by a sample's own values share.

use super::WeightedGrads;

/// A normalization with γ and β per feature or channel.
pub(crate) trait Norm {
    /// Name in errors.
    const NAME: &'static str;

    fn forward(&self, x: &[f32], gamma: &[f32], beta: &[f32]) -> Vec<f32>;

    /// The gradients from `grad`, that of the output.
    fn backward(&self, x: &[f32], gamma: &[f32], grad: &[f32]) -> WeightedGrads;
}

/// The gradients of γ and β over the values of a task.
pub(crate) struct NormSums {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
}

impl NormSums {
    /// The gradients over all tasks, of `n` values each, with the input's.
    pub(crate) fn grads(parts: &[Self], n: usize, x_grad: Vec<f32>) -> WeightedGrads {
        let total = |part: fn(&Self) -> &[f32]| {
            let mut total = vec![0.0f64; n];
            for sums in parts {
                total.iter_mut().zip(part(sums)).for_each(|(total, &sum)| *total += f64::from(sum));
            }
            total.into_iter().map(|total| total as f32).collect()
        };
        WeightedGrads {
            x: Some(x_grad),
            weight: Some(total(|sums| &sums.gamma)),
            bias: Some(total(|sums| &sums.beta)),
        }
    }
}
