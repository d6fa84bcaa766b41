//! Depth, with and without residual connections.

use std::time::{Duration, Instant};

use firstsight_data::{ImageDataset, InputSpec, Sampling};
use firstsight_models::networks::{RESNET_SMALL, SmallResNet, SmallResNetConfig};
use firstsight_models::{ImageClassifier, Init, InputShape, Params};
use firstsight_report::{Column, Figure, LineChart, Section, Series, Table, number};
use firstsight_train::callbacks::{Interrupt, StopOnNan};
use firstsight_train::{Accuracy, Callback, FitConfig, Metrics, Monitor, OptimizerConfig, Trainable, fit};
use serde::Serialize;

use firstsight_transfer as images;
use firstsight_transfer::training::{self, LOSS};

use crate::{
    Context, Result,
    digits::{Digits, SIDE},
};

/// The networks and the amount of data.
struct Experiment {
    /// Blocks a stage of the shallow and of the deep networks: 6n + 2 layers.
    blocks: [usize; 2],
    images: usize,
    epochs: usize,
}

const FULL: Experiment = Experiment { blocks: [1, 9], images: 4000, epochs: 8 };
const QUICK: Experiment = Experiment { blocks: [1, 4], images: 480, epochs: 3 };

/// Pixels on a side: half of the digits'.
const SMALL: usize = SIDE / 2;
const BATCH: usize = 16;
const RATE: f64 = 0.001;

/// `metrics.json`, `networks.depth`.
#[derive(Serialize)]
pub(super) struct DepthMetrics {
    images: usize,
    epochs: usize,
    runs: Vec<DepthRun>,
}

#[derive(Serialize)]
struct DepthRun {
    layers: usize,
    residual: bool,
    params: usize,
    train_losses: Vec<f64>,
    train_accuracy: f64,
    val_accuracy: f64,
    seconds: f64,
}

/// Returns the figures and whether a training was interrupted.
pub(super) fn write(
    section: &mut Section,
    digits: &Digits,
    quick: bool,
    context: &Context<'_>,
) -> Result<(DepthMetrics, bool)> {
    let experiment = if quick { QUICK } else { FULL };
    let (epochs, source) = (experiment.epochs, digits.source.as_str());
    let splits = digits.first(experiment.images, 500, 0).splits;
    let (train, val) = (halved(&splits.train)?, halved(&splits.val)?);
    says(section, &experiment, train.len());
    let mut metrics = DepthMetrics { images: train.len(), epochs, runs: Vec::new() };
    let mut interrupted = false;
    for blocks in experiment.blocks {
        for residual in [false, true] {
            if interrupted {
                continue;
            }
            let config = SmallResNetConfig { channels: 1, residual, ..SmallResNetConfig::of(blocks) };
            let (run, stopped) = run(config, &train, &val, epochs, context)?;
            metrics.runs.extend(run);
            interrupted |= stopped;
        }
    }
    show(section, &metrics, source);
    Ok((metrics, interrupted))
}

/// Each image's means of 2×2 pixels.
fn halved(images: &ImageDataset) -> Result<ImageDataset> {
    let mut pixels = Vec::with_capacity(images.len() * SMALL * SMALL);
    for i in 0..images.len() {
        let image = images.image(i)?;
        let at = |y: usize, x: usize| u16::from(image[y * SIDE + x]);
        for (y, x) in (0..SMALL * SMALL).map(|place| (place / SMALL * 2, place % SMALL * 2)) {
            pixels.push(((at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1) + 2) / 4) as u8);
        }
    }
    let (labels, classes) = (images.labels().to_vec(), images.classes().to_vec());
    Ok(ImageDataset::from_pixels(pixels, (SMALL, SMALL, 1), labels, classes)?)
}

fn says(section: &mut Section, experiment: &Experiment, images: usize) {
    let [shallow, deep] = experiment.blocks.map(|blocks| SmallResNetConfig::of(blocks).depth());
    section.subsection("Depth, and the residual connection");
    section.text(&format!(
        "A deeper network can do all that a shallow one can: its further layers need only pass on what they get. Yet plain \
         stacks of layers become harder to train as they grow, and not because they learn by heart: the loss on the very \
         images that they train on stays higher. A **residual connection** adds each block’s input to its output, so that a \
         block that has learned nothing yet passes its input on, and gradients find a way around it (He et al. 2016). Here are \
         the paper’s small networks (its section 4.2) of {shallow} and {deep} layers, with and without the connections, which \
         have no parameters of their own. All are trained on the same {} digits, scaled to {SMALL} × {SMALL} pixels, for {} \
         epochs by Adam at {RATE} in batches of {BATCH}, from the same seed.",
        number::count(images as u64),
        experiment.epochs,
    ));
}

/// Trains one network; returns whether it was interrupted. There is no run if that was before its first epoch ended.
fn run(
    config: SmallResNetConfig,
    train: &ImageDataset,
    val: &ImageDataset,
    epochs: usize,
    context: &Context<'_>,
) -> Result<(Option<DepthRun>, bool)> {
    let started = Instant::now();
    let input = InputSpec::bytes(1, SMALL, SMALL);
    let params = Params::seeded(context.settings.seed, &context.runtime.device);
    let (model, init) = (&RESNET_SMALL, Init::Kaiming);
    let network = ImageClassifier::from_network(
        model,
        SmallResNet::new(&config, init, &params.builder_for(init))?,
        (model.head)(train.classes().len()),
        InputShape::from(&input),
        init,
        &params,
    )?;
    let order = Sampling::Shuffled { seed: context.settings.seed };
    let batches = images::loader(train, &input, BATCH, order, &context.runtime.device)?;
    let val = training::in_order(val, &input, &context.runtime.device)?;
    let fit_config = FitConfig::new(epochs, LOSS, OptimizerConfig::adam_torch(RATE)).metric(Accuracy);
    let model = Trainable::new(&network, params.named());
    let mut progress = context.runtime.training(&name(config.depth(), config.residual));
    let history = context.runtime.interrupt.with_graceful_interrupt(|pressed| {
        let mut interrupt = Interrupt(pressed);
        let callbacks: &mut [&mut dyn Callback] = &mut [&mut StopOnNan, &mut interrupt, &mut progress];
        fit(&model, &batches, Some(&val), &fit_config, callbacks)
    })?;
    let accuracy = |metrics: &Metrics| metrics.get(&Accuracy).unwrap_or(f64::NAN);
    let epochs = &history.epochs;
    let run = epochs.last().map(|last| DepthRun {
        layers: config.depth(),
        residual: config.residual,
        params: network.summary().total_params(),
        train_losses: epochs.iter().map(|epoch| epoch.train.loss).collect(),
        train_accuracy: accuracy(&last.train),
        val_accuracy: Monitor::val(Accuracy).value(last),
        seconds: started.elapsed().as_secs_f64(),
    });
    Ok((run, history.interrupted()))
}

fn name(layers: usize, residual: bool) -> String {
    format!("{layers} layers, {}", if residual { "residual" } else { "plain" })
}

fn show(section: &mut Section, metrics: &DepthMetrics, source: &str) {
    let series = metrics
        .runs
        .iter()
        .map(|run| Series::per_epoch(name(run.layers, run.residual), run.train_losses.iter().copied()));
    section.figure(Figure::new(
        LineChart::new("epoch").panel("training loss", series.collect()),
        "The mean training loss over each epoch’s batches of shallow and deep networks",
        source,
    ));
    let mut table = Table::new(
        format!(
            "Shallow and deep networks after {} epochs on {} digits; loss and accuracy in training are means over the last \
             epoch’s batches",
            metrics.epochs,
            number::count(metrics.images as u64),
        ),
        [
            Column::number("layers"),
            Column::text("connections"),
            Column::number("parameters"),
            Column::number("loss").under("training"),
            Column::number("accuracy").under("training"),
            Column::number("accuracy").under("validation"),
            Column::text("time"),
        ],
    );
    for run in &metrics.runs {
        table.row([
            run.layers.into(),
            if run.residual { "residual" } else { "plain" }.into(),
            run.params.into(),
            run.train_losses.last().copied().into(),
            run.train_accuracy.into(),
            run.val_accuracy.into(),
            number::duration(Duration::from_secs_f64(run.seconds)).into(),
        ]);
    }
    section.table(table);
}
