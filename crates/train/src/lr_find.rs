//! Learning rate range test.

use std::ops::ControlFlow;

use candle_core::{Result as CandleResult, Tensor};
use firstsight_data::{Batch, Batches};

use crate::callbacks::{BatchEnd, Callback};
use crate::{FitConfig, Model, Result, Schedule, StopReason, TrainingLength, fit};

/// The loss at each learning rate of a range test.
#[derive(Debug, Clone, PartialEq)]
pub struct LrCurve {
    /// (learning rate, smoothed loss), by rising learning rate.
    pub points: Vec<(f64, f64)>,
}

impl LrCurve {
    /// A learning rate to train with: a tenth of the one with the lowest loss, at which the loss is about to rise again
    /// (Smith 2017, section 3.3). `None` if the loss never fell below its first value.
    pub fn suggestion(&self) -> Option<f64> {
        let (_, first) = self.points.first()?;
        let (lr, lowest) = self.points.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        (lowest < first).then_some(lr / 10.0)
    }
}

/// Trains for `steps` steps while the learning rate rises from the configured one × `range.0` to × `range.1`, then
/// restores all variables of `model`.
///
/// The test ends early when the loss exceeds four times its lowest value or is not finite. `config`'s epochs and
/// schedule are not used.
///
/// # Errors
///
/// Those of [`fit()`].
pub fn lr_find(
    model: &impl Model,
    train: &dyn Batches,
    config: &FitConfig,
    range: (f64, f64),
    steps: usize,
) -> Result<LrCurve> {
    let vars = model.named_vars();
    let saved = vars.iter().map(|(_, var)| var.copy()).collect::<CandleResult<Vec<Tensor>>>()?;
    let lr = config.optimizer.lr();
    let mut curve = Curve { lr, range, steps, smoothed: 0.0, points: Vec::new() };
    let schedule = Schedule::Exponential { from: range.0, to: range.1 };
    let config = FitConfig { epochs: 1, schedule, accumulation_steps: 1, ..config.clone() };
    let result = fit(model, &Repeated { batches: train, steps }, None, &config, &mut [&mut curve]);
    for ((_, var), saved) in vars.iter().zip(&saved) {
        var.set(saved)?;
    }
    result?;
    Ok(LrCurve { points: curve.points })
}

/// Records learning rate and loss, the loss as a bias-corrected exponential average.
struct Curve {
    lr: f64,
    range: (f64, f64),
    steps: usize,
    smoothed: f64,
    points: Vec<(f64, f64)>,
}

impl Callback for Curve {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> Result<ControlFlow<StopReason>> {
        const KEPT: f64 = 0.9;
        let stop = ControlFlow::Break(StopReason::Callback("end of the range test".to_owned()));
        if !end.loss.is_finite() {
            return Ok(stop);
        }
        let step = self.points.len();
        self.smoothed = KEPT * self.smoothed + (1.0 - KEPT) * end.loss;
        let loss = self.smoothed / (1.0 - KEPT.powi(step as i32 + 1));
        let schedule = Schedule::Exponential { from: self.range.0, to: self.range.1 };
        let length = TrainingLength { epochs: 1, steps_per_epoch: self.steps };
        self.points.push((self.lr * schedule.lr_scale(step as u64, length), loss));
        let lowest = self.points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
        Ok(if loss > 4.0 * lowest { stop } else { ControlFlow::Continue(()) })
    }
}

/// The first `steps` batches of consecutive epochs.
struct Repeated<'a> {
    batches: &'a dyn Batches,
    steps: usize,
}

impl Batches for Repeated<'_> {
    fn epoch(&self, _epoch: usize) -> Box<dyn Iterator<Item = firstsight_data::Result<Batch>> + '_> {
        let epochs = self.steps.div_ceil(self.batches.n_batches().max(1));
        Box::new((0..epochs).flat_map(|epoch| self.batches.epoch(epoch)).take(self.steps))
    }

    fn n_batches(&self) -> usize {
        self.steps
    }

    fn n_examples(&self) -> usize {
        self.batches.n_examples()
    }
}
