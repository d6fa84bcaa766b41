use candle_core::{ModuleT, Tensor, Var};
use firstsight_data::Batches;

use crate::callbacks::{BatchEnd, Callback, EpochEnd, Flow, SavedState, TrainBegin};
use crate::evaluate::evaluate;
use crate::metrics::Meter;
use crate::{Ended, Epoch, History, Loss, Metric, Optimizer, OptimizerConfig, Result, Schedule, Trainable};

/// What a training does. An experiment's numbers stand where it is run: there is no default.
#[derive(Debug, Clone)]
pub struct FitConfig {
    /// The most epochs that are run, those before a resumption included.
    pub epochs: usize,
    /// What is minimised.
    pub loss: Loss,
    /// What is reported beside it.
    pub metrics: Vec<Metric>,
    /// How.
    pub optimizer: OptimizerConfig,
    /// How its rate changes over `epochs`.
    pub schedule: Schedule,
    /// The norm that the gradients of a step are scaled down to where they exceed it.
    pub clip_norm: Option<f64>,
    /// Where an interrupted training goes on ([`Checkpoint::load`](crate::callbacks::Checkpoint::load)).
    pub resume: Option<Resume>,
}

/// Where an interrupted training stood at the end of its last finished epoch; the variables have been set.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The finished epochs.
    pub history: Vec<Epoch>,
    pub(crate) optimizer_steps: u64,
    pub(crate) state: SavedState,
    pub(crate) path: std::path::PathBuf,
}

/// Trains `model`, changing `trainable` (a list of variables, or groups of them), on the batches of `train`, and measures it on `val` after each epoch.
///
/// `callbacks` are told of the end of each batch and epoch in their order; the first that says so ends the
/// training. Variables that are not in `trainable` stay as they are.
///
/// # Errors
/// The first error of the data, the model or a callback. The variables are then as the last step left them.
pub fn fit(
    model: &impl ModuleT,
    trainable: impl Into<Trainable>,
    train: &impl Batches,
    val: &impl Batches,
    config: &FitConfig,
    callbacks: &mut [&mut dyn Callback],
) -> Result<History> {
    let mut optimizer = Optimizer::new(config.optimizer, trainable)?;
    let mut history = History::default();
    if let Some(resume) = &config.resume {
        resume.restore(&mut optimizer)?;
        history.epochs.clone_from(&resume.history);
    }
    let state = config.resume.as_ref().map(Resume::callbacks);
    let mut flow = Flow::Continue;
    for callback in callbacks.iter_mut() {
        flow = flow.or(callback.on_train_begin(&TrainBegin {
            history: &history.epochs,
            state: state.as_ref(),
            config,
        })?);
    }

    let steps = (config.epochs * train.n_batches()) as u64;
    while flow == Flow::Continue && history.epochs.len() < config.epochs {
        let epoch = history.epochs.len();
        let mut meter = Meter::new(&config.metrics);
        for (batch, examples) in train.epoch(epoch).enumerate() {
            let examples = examples?;
            let outputs = model.forward_t(&examples.inputs, true)?;
            let loss = config.loss.compute(&outputs, &examples.labels)?;
            let factor = config.schedule.factor(optimizer.steps(), steps);
            optimizer.step_scaled(&firstsight_ops::backward(&loss)?, factor, config.clip_norm)?;
            let loss = meter.add(&loss, &outputs, &examples.labels)?;
            for callback in callbacks.iter_mut() {
                let end = BatchEnd { epoch, batch, n_batches: train.n_batches(), loss };
                flow = flow.or(callback.on_batch_end(&end)?);
            }
            if flow != Flow::Continue {
                break;
            }
        }
        if flow == Flow::Continue {
            let train = meter.finish("training")?;
            let val = evaluate(model, val, config.loss, &config.metrics)?;
            history.epochs.push(Epoch { train, val });
            let mut state = SavedState::default();
            for callback in callbacks.iter_mut() {
                let end = EpochEnd { history: &history.epochs, optimizer: &optimizer, state: &state };
                flow = flow.or(callback.on_epoch_end(&end)?);
                callback.save_state(&mut state);
            }
        }
    }

    history.ended = match flow {
        Flow::Continue => Ended::AllEpochs,
        Flow::Stop => Ended::EarlyStopped,
        Flow::Interrupt => Ended::Interrupted,
    };
    for callback in callbacks.iter_mut() {
        callback.on_train_end(&history)?;
    }
    Ok(history)
}

/// One step down: the gradients of a scalar `loss`, and the optimiser's move along them. For what measures or examines
/// a single step; trainings go through [`fit`].
///
/// # Errors
/// A loss that is no scalar; errors of the optimiser.
pub fn backward_step(loss: &Tensor, optimizer: &mut Optimizer) -> Result<()> {
    optimizer.step(&firstsight_ops::backward(loss)?)
}

/// The value of a scalar `function` at `input`, and its gradient there, of `input`'s shape. For pictures of what a network
/// sees: nothing moves, and what the function holds of a network should be frozen, or the gradients of its weights are
/// computed for nothing.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[1f32, -2.0], &Device::Cpu)?;
/// let (value, slope) = firstsight_train::gradient(|x| x.sqr()?.sum_all(), &x)?;
/// assert_eq!((value.to_scalar::<f32>()?, slope.to_vec1::<f32>()?), (5.0, vec![2.0, -4.0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `function`; a value that is no scalar.
pub fn gradient(
    function: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    input: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let input = Var::from_tensor(input)?;
    let value = function(input.as_tensor())?;
    let slope = match firstsight_ops::backward(&value)?.remove(&input) {
        Some(slope) => slope,
        None => input.zeros_like()?,
    };
    Ok((value.detach(), slope))
}
