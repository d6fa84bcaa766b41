//! Learning rate schedules.

use std::f64::consts::PI;

/// The scale of the learning rate at each step; a pure function of the step and the length of the training.
///
/// ```
/// use firstsight_train::{Schedule, TrainingLength};
///
/// let schedule = Schedule::WarmupCosine { warmup: 0.1, floor: 0.0 };
/// let length = TrainingLength { epochs: 4, steps_per_epoch: 25 };
/// assert_eq!(schedule.lr_scale(0, length), 0.1);
/// assert_eq!(schedule.lr_scale(9, length), 1.0);
/// assert!((schedule.lr_scale(55, length) - 0.5).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// 1.
    Constant,
    /// A linear rise, then a cosine. With n = ⌈warmup · steps⌉ and t the step, from 0: (t + 1) / n while t < n
    /// (Goyal et al. 2017), then floor + (1 − floor) · (1 + cos(π (t − n) / (steps − n))) / 2
    /// (Loshchilov and Hutter 2017, equation 5, one period).
    WarmupCosine {
        /// The share of all steps in which the learning rate rises.
        warmup: f64,
        /// The scale that the cosine falls to.
        floor: f64,
    },
    /// A cosine from 1 / div_factor to 1 over the first steps, then one to 1 / (div_factor · final_div_factor): PyTorch's
    /// `OneCycleLR(cycle_momentum=False)`, the configured learning rate being its `max_lr` (Smith and Topin 2018).
    OneCycle {
        /// The share of all steps in which the learning rate rises.
        pct_start: f64,
        /// The highest learning rate over the first one.
        div_factor: f64,
        /// The first learning rate over the last one.
        final_div_factor: f64,
    },
    /// gamma^⌊epoch / epochs⌋: PyTorch's `StepLR`.
    Step {
        /// The number of epochs between two changes, at least 1.
        epochs: usize,
        /// The factor of each change.
        gamma: f64,
    },
    /// gamma to the number of milestones that the epoch has reached: PyTorch's `MultiStepLR`.
    MultiStep {
        /// Epochs, from 0, from which on the learning rate is lower.
        milestones: Vec<usize>,
        /// The factor of each change.
        gamma: f64,
    },
    /// from · (to / from)^(t / (steps − 1)): the range test of [`lr_find`](crate::lr_find()).
    Exponential {
        /// The first scale.
        from: f64,
        /// The last scale.
        to: f64,
    },
}

/// The number of epochs of a training, and of the optimizer steps in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingLength {
    /// Epochs.
    pub epochs: usize,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: usize,
}

impl Schedule {
    /// [`Schedule::OneCycle`] with PyTorch's defaults: 30 % of rise, from 1/25 of the highest learning rate, to 1e-4 of
    /// the first.
    pub fn one_cycle() -> Self {
        Self::OneCycle { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 }
    }

    /// The scale of the learning rate at `step`, counted from 0.
    pub fn lr_scale(&self, step: u64, length: TrainingLength) -> f64 {
        let TrainingLength { epochs, steps_per_epoch } = length;
        let (t, total) = (step as f64, (epochs * steps_per_epoch) as f64);
        let epoch = step as usize / steps_per_epoch.max(1);
        match *self {
            Self::Constant => 1.0,
            Self::WarmupCosine { warmup, floor } => {
                let n = (warmup * total).ceil();
                if t < n {
                    return (t + 1.0) / n;
                }
                let done = ((t - n) / (total - n).max(1.0)).min(1.0);
                floor + (1.0 - floor) * (1.0 + (PI * done).cos()) / 2.0
            }
            Self::OneCycle { pct_start, div_factor, final_div_factor } => {
                let (first, last) = (1.0 / div_factor, 1.0 / (div_factor * final_div_factor));
                let (top, end) = (pct_start * total - 1.0, total - 1.0);
                match t < top {
                    true => cosine(first, 1.0, t / top),
                    false => cosine(1.0, last, (t - top.max(0.0)) / (end - top.max(0.0)).max(1.0)),
                }
            }
            Self::Step { epochs, gamma } => gamma.powi((epoch / epochs.max(1)) as i32),
            Self::MultiStep { ref milestones, gamma } => {
                gamma.powi(milestones.iter().filter(|&&milestone| milestone <= epoch).count() as i32)
            }
            Self::Exponential { from, to } => from * (to / from).powf(t / (total - 1.0).max(1.0)),
        }
    }
}

/// Half a cosine from `from`, at 0, to `to`, at 1 and beyond.
fn cosine(from: f64, to: f64, done: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * done.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales(schedule: &Schedule, steps: usize) -> Vec<f64> {
        let length = TrainingLength { epochs: 1, steps_per_epoch: steps };
        (0..steps as u64).map(|t| schedule.lr_scale(t, length)).collect()
    }

    #[test]
    fn the_rate_rises_to_one_and_falls_to_the_floor() {
        let schedule = Schedule::WarmupCosine { warmup: 0.25, floor: 0.1 };
        let found = scales(&schedule, 8);
        assert_eq!(found[..3], [0.5, 1.0, 1.0]);
        assert!(found[2..].windows(2).all(|w| w[1] < w[0]), "{found:?}");
        let end = schedule.lr_scale(8, TrainingLength { epochs: 1, steps_per_epoch: 8 });
        assert!((end - 0.1).abs() < 1e-12);
        assert_eq!(scales(&Schedule::WarmupCosine { warmup: 0.0, floor: 0.0 }, 1), [1.0]);
    }

    #[test]
    fn the_range_is_covered_geometrically() {
        let found = scales(&Schedule::Exponential { from: 1e-4, to: 1.0 }, 5);
        for (scale, expected) in found.iter().zip([1e-4, 1e-3, 1e-2, 1e-1, 1.0]) {
            assert!((scale / expected - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn short_trainings_have_a_scale_at_each_step() {
        for steps in 1..5 {
            let found = scales(&Schedule::one_cycle(), steps);
            assert!(found.iter().all(|scale| scale.is_finite() && *scale > 0.0), "{found:?}");
        }
    }
}
