use crate::{Metric, Metrics};

/// What a training went through.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// One record a finished epoch, in order.
    pub epochs: Vec<Epoch>,
    /// Why it ended.
    pub ended: Ended,
}

/// A finished epoch.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Epoch {
    /// Means over the epoch's training batches, each measured before its step.
    pub train: Metrics,
    /// On the validation batches after the epoch.
    pub val: Metrics,
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ended {
    /// It ran for all its epochs.
    #[default]
    AllEpochs,
    /// A callback ended it: no further improvement, or not worth going on with.
    EarlyStopped,
    /// The user interrupted it; the epoch under way is not in the history.
    Interrupted,
}

/// What is watched to tell better epochs from worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Monitor {
    /// Lower validation loss is better.
    ValLoss,
    /// A higher validation metric is better.
    Val(Metric),
}

impl Monitor {
    /// The watched value of an epoch. NaN, also for a metric that was not asked for, is never better.
    pub fn value(self, epoch: &Epoch) -> f64 {
        match self {
            Self::ValLoss => epoch.val.loss,
            Self::Val(metric) => epoch.val.get(metric).unwrap_or(f64::NAN),
        }
    }

    /// The index of the best epoch so far: strictly better than all before it.
    pub fn best(self, epochs: &[Epoch]) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (i, epoch) in epochs.iter().enumerate() {
            let value = self.value(epoch);
            let better = |than: f64| match self {
                Self::ValLoss => value < than,
                Self::Val(_) => value > than,
            };
            if !value.is_nan() && best.is_none_or(|(_, than)| better(than)) {
                best = Some((i, value));
            }
        }
        best.map(|(i, _)| i)
    }
}
