//! How the learning rate changes from step to step: scales by which every group's rate is multiplied.

use std::f64::consts::PI;

/// A factor for each step; a pure function of the step and of the number of steps in all.
///
/// ```
/// use firstsight_train::Schedule;
///
/// let schedule = Schedule::WarmupCosine { warmup: 0.1, floor: 0.0 };
/// assert_eq!(schedule.lr_scale(0, 100), 0.1);
/// assert_eq!(schedule.lr_scale(9, 100), 1.0);
/// assert!((schedule.lr_scale(55, 100) - 0.5).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// 1.
    Constant,
    /// With n = ⌈warmup · steps⌉ and t the step, from 0: (t + 1) / n while t < n (Goyal et al. 2017), then
    /// floor + (1 − floor) · (1 + cos(π (t − n) / (steps − n))) / 2 (Loshchilov and Hutter 2017, eq. 5, one period).
    WarmupCosine {
        /// The share of all steps in which the rate rises.
        warmup: f64,
        /// The factor that the cosine falls to.
        floor: f64,
    },
    /// from · (to / from)^(t / (steps − 1)): the range test of [`find_rate`](crate::find_rate).
    Exponential {
        /// The first factor.
        from: f64,
        /// The last one.
        to: f64,
    },
}

impl Schedule {
    /// The factor of step `step`, counted from 0, of `steps`.
    pub fn lr_scale(self, step: u64, steps: u64) -> f64 {
        let (t, total) = (step as f64, steps as f64);
        match self {
            Self::Constant => 1.0,
            Self::WarmupCosine { warmup, floor } => {
                let n = (warmup * total).ceil();
                if t < n {
                    return (t + 1.0) / n;
                }
                let done = ((t - n) / (total - n).max(1.0)).min(1.0);
                floor + (1.0 - floor) * (1.0 + (PI * done).cos()) / 2.0
            }
            Self::Exponential { from, to } => from * (to / from).powf(t / (total - 1.0).max(1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_one_and_falls_to_the_floor() {
        let schedule = Schedule::WarmupCosine { warmup: 0.25, floor: 0.1 };
        let scales: Vec<f64> = (0..8).map(|t| schedule.lr_scale(t, 8)).collect();
        assert_eq!(scales[..3], [0.5, 1.0, 1.0]);
        assert!(scales[2..].windows(2).all(|w| w[1] < w[0]), "{scales:?}");
        assert!((schedule.lr_scale(8, 8) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule::WarmupCosine { warmup: 0.0, floor: 0.0 }.lr_scale(0, 1), 1.0);
    }

    #[test]
    fn the_range_is_covered_geometrically() {
        let schedule = Schedule::Exponential { from: 1e-4, to: 1.0 };
        let scales: Vec<f64> = (0..5).map(|t| schedule.lr_scale(t, 5)).collect();
        for (factor, expected) in scales.iter().zip([1e-4, 1e-3, 1e-2, 1e-1, 1.0]) {
            assert!((factor / expected - 1.0).abs() < 1e-12);
        }
    }
}
