//! The training loop, single steps and gradients.

use candle_core::{Tensor, Var};
use firstsight_data::{Batch, Batches};

use crate::callbacks::{BatchEnd, Callback, EpochEnd, Notifier, SavedState, TrainBegin, TrainEnd};
use crate::evaluate::evaluate_any;
use crate::metric::Meter;
use crate::model::param_groups;
use crate::optim::Accumulation;
use crate::sharding::{Pass, Sharding, Step};
use crate::{Epoch, Error, FitConfig, History, Metric, Model, Optimizer, Result, TrainingLength};

/// Trains `model` on the batches of `train`, and measures it on those of `val` after each epoch.
///
/// The optimizer changes the variables of [`Model::param_groups`]. Callbacks are notified in their order; any of them
/// may end the training.
///
/// # Errors
///
/// The first error of the data, the model or a callback, which leaves the variables as after the last step.
/// [`Error::UnnamedVariable`](crate::Error::UnnamedVariable) if the groups have a variable that
/// [`Model::named_vars`] does not have. [`Error::Shards`](crate::Error::Shards) for shards that the
/// [processes](FitConfig::communicator) cannot share out; what fails in one process fails in all.
pub fn fit(
    model: &impl Model,
    train: &dyn Batches,
    val: Option<&dyn Batches>,
    config: &FitConfig,
    callbacks: &mut [&mut dyn Callback],
) -> Result<History> {
    let vars = model.named_vars();
    let metrics: Vec<&dyn Metric> = config.metrics.iter().map(|metric| &**metric).collect();
    let mut optimizer = Optimizer::new(config.optimizer, param_groups(model, &vars)?)?;
    let sharding = Sharding::new(config, optimizer.vars(), &vars)?;
    let mut callbacks = Notifier::new(callbacks, &*config.communicator);
    let (epochs, restarted, state) = callbacks.resume(&vars, &mut optimizer)?;
    sharding.check_start(config, train, val, &epochs, &vars)?;
    let mut history = History { epochs, stopped: None };
    callbacks.notify(|callback| {
        let history = &history.epochs;
        callback.on_train_begin(&TrainBegin { history, restarted, vars: &vars, state: &state, config })
    })?;

    let mut accumulation = Accumulation::new(config.accumulation_steps, optimizer.vars());
    let length = TrainingLength {
        epochs: config.epochs.saturating_sub(restarted),
        steps_per_epoch: train.n_batches().div_ceil(config.accumulation_steps.max(1)),
    };
    let mut lr = config.optimizer.lr();
    while callbacks.stopped.is_none() && history.epochs.len() < config.epochs {
        let epoch = history.epochs.len();
        callbacks.tell(|callback| callback.on_epoch_begin(&vars))?;
        let mut meter = Meter::new(&metrics);
        for (batch, shards) in sharding.epoch(train, epoch).enumerate() {
            let pass = |shard: &Batch, share: f64| {
                let pass = || -> Result<Pass> {
                    let outputs = model.forward_t(&shard.inputs, true)?;
                    let loss = config.loss.compute(&outputs, &shard.labels)?;
                    let loss = if share < 1.0 { (loss * share)? } else { loss };
                    Ok(Pass { gradients: firstsight_ops::backward(&loss)?, outputs, loss })
                };
                pass().map_err(Error::on(&shard.inputs))
            };
            let Step { loss, outputs, labels, gradients } = sharding.step(shards, pass)?;
            let is_last = batch + 1 == train.n_batches();
            let weight = config.loss.weight(&labels)?;
            let gradients = accumulation.add(gradients, weight, is_last)?;
            if let Some(gradients) = &gradients {
                let lr_scale = config.schedule.lr_scale(optimizer.steps(), length);
                lr = config.optimizer.lr() * lr_scale;
                optimizer.step_scaled(gradients, lr_scale, config.clip_norm)?;
            }
            let step = gradients.map(|_| optimizer.steps());
            meter.add((loss, weight), &outputs, &labels)?;
            let end = BatchEnd { epoch, batch, n_batches: train.n_batches(), loss, step, vars: &vars };
            callbacks.notify(|callback| callback.on_batch_end(&end))?;
            if callbacks.stopped.is_some() {
                break;
            }
        }
        if callbacks.stopped.is_none() {
            callbacks.tell(|callback| callback.on_validation_begin(&vars))?;
            let train = meter.finish("training")?;
            let val = val.map(|val| evaluate_any(model, val, config, &metrics)).transpose()?;
            history.epochs.push(Epoch { train, val });
            let mut state = SavedState::new();
            callbacks.notify(|callback| {
                let (history, vars, optimizer) = (&history.epochs, &vars, &optimizer);
                let flow =
                    callback.on_epoch_end(&EpochEnd { history, vars, optimizer, lr, state: &state })?;
                callback.save_state(&mut state);
                Ok(flow)
            })?;
        }
    }

    history.stopped = callbacks.stopped.take();
    callbacks.tell(|callback| callback.on_train_end(&TrainEnd { history: &history, vars: &vars }))?;
    Ok(history)
}

/// Takes one optimizer step along the gradients of a scalar `loss`, for code that measures or examines single steps;
/// trainings go through [`fit`].
///
/// # Errors
///
/// A loss that is not a scalar; errors of the optimizer.
pub fn backward_step(loss: &Tensor, optimizer: &mut Optimizer) -> Result<()> {
    optimizer.step(&firstsight_ops::backward(loss)?)
}

/// The value of a scalar `function` at `input`, and its gradient there, of the shape of `input`.
///
/// For saliency maps and the like. Freeze the network inside `function`, or the gradients of its weights are computed
/// for nothing.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[1f32, -2.0], &Device::Cpu)?;
/// let (value, gradient) = firstsight_train::gradient(|x| x.sqr()?.sum_all(), &x)?;
/// assert_eq!((value.to_scalar::<f32>()?, gradient.to_vec1::<f32>()?), (5.0, vec![2.0, -4.0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of `function`; a value that is not a scalar.
pub fn gradient(
    function: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    input: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let input = Var::from_tensor(input)?;
    let value = function(input.as_tensor())?;
    let gradient = match firstsight_ops::backward(&value)?.remove(&input) {
        Some(gradient) => gradient,
        None => input.zeros_like()?,
    };
    Ok((value.detach(), gradient))
}
