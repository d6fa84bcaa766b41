use candle_core::{ModuleT, Tensor, Var};
use firstsight_data::{Batch, Batches};

use crate::callbacks::{BatchEnd, Callback, Flow};
use crate::{Error, FitConfig, Result, Schedule, Trainable, fit};

/// The loss at each learning rate of a range test.
#[derive(Debug, Clone, PartialEq)]
pub struct RateCurve {
    /// (rate, smoothed loss), the rates rising.
    pub points: Vec<(f64, f64)>,
}

impl RateCurve {
    /// A rate to train with: a tenth of the one with the lowest loss, by when the loss is about to rise again (Smith
    /// 2017, section 3.3). `None` where the loss never fell below its first value.
    pub fn suggestion(&self) -> Option<f64> {
        let (_, first) = self.points.first()?;
        let (rate, lowest) = self.points.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        (lowest < first).then_some(rate / 10.0)
    }
}

/// Trains for `steps` steps while the rate rises from `config`'s optimiser's rate × `range.0` to × `range.1`, and brings
/// the variables back as they were. The training ends sooner where the loss exceeds four times its lowest.
///
/// `restored` are all variables that a step changes, running statistics included. `config`'s epochs, schedule and
/// resumption are not used.
///
/// # Errors
/// Those of [`fit`], but for a loss that is not finite, which ends the curve.
pub fn find_rate(
    model: &impl ModuleT,
    trainable: impl Into<Trainable>,
    restored: &[Var],
    train: &impl Batches,
    config: &FitConfig,
    range: (f64, f64),
    steps: usize,
) -> Result<RateCurve> {
    let saved = restored.iter().map(|var| var.copy()).collect::<candle_core::Result<Vec<Tensor>>>()?;
    let rate = config.optimizer.rate();
    let mut curve = Curve { rate, range, steps, smoothed: 0.0, points: Vec::new() };
    let config = FitConfig {
        epochs: 1,
        schedule: Schedule::Exponential { from: range.0, to: range.1 },
        resume: None,
        ..config.clone()
    };
    let batches = Repeated { of: train, steps };
    let result = fit(model, trainable, &batches, &NoBatches, &config, &mut [&mut curve]);
    for (var, saved) in restored.iter().zip(&saved) {
        var.set(saved)?;
    }
    match result {
        Ok(_) | Err(Error::Empty(_)) => Ok(RateCurve { points: curve.points }),
        Err(error) => Err(error),
    }
}

/// Records rate and loss, the loss averaged exponentially with the bias taken out.
struct Curve {
    rate: f64,
    range: (f64, f64),
    steps: usize,
    smoothed: f64,
    points: Vec<(f64, f64)>,
}

impl Callback for Curve {
    fn on_batch_end(&mut self, end: &BatchEnd) -> Result<Flow> {
        const KEPT: f64 = 0.9;
        if !end.loss.is_finite() {
            return Ok(Flow::Stop);
        }
        let step = self.points.len();
        self.smoothed = KEPT * self.smoothed + (1.0 - KEPT) * end.loss;
        let loss = self.smoothed / (1.0 - KEPT.powi(step as i32 + 1));
        let schedule = Schedule::Exponential { from: self.range.0, to: self.range.1 };
        self.points.push((self.rate * schedule.factor(step as u64, self.steps as u64), loss));
        let lowest = self.points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
        Ok(if loss > 4.0 * lowest || step + 1 == self.steps { Flow::Stop } else { Flow::Continue })
    }
}

/// The first `steps` batches of the epochs one after the other.
struct Repeated<'a, B> {
    of: &'a B,
    steps: usize,
}

impl<B: Batches> Batches for Repeated<'_, B> {
    fn epoch(&self, _epoch: usize) -> Box<dyn Iterator<Item = firstsight_data::Result<Batch>> + '_> {
        let epochs = self.steps.div_ceil(self.of.n_batches().max(1));
        Box::new((0..epochs).flat_map(|epoch| self.of.epoch(epoch)).take(self.steps))
    }

    fn n_batches(&self) -> usize {
        self.steps
    }

    fn n_examples(&self) -> usize {
        self.of.n_examples()
    }
}

struct NoBatches;

impl Batches for NoBatches {
    fn epoch(&self, _epoch: usize) -> Box<dyn Iterator<Item = firstsight_data::Result<Batch>> + '_> {
        Box::new(std::iter::empty())
    }

    fn n_batches(&self) -> usize {
        0
    }

    fn n_examples(&self) -> usize {
        0
    }
}
