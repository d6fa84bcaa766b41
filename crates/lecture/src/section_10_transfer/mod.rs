//! 10. Transfer learning: a pretrained network, a new last layer, then all of it at a low rate.

mod stages;
mod task;
mod weights;

use candle_core::Device;
use firstsight_models::networks::{MOBILENET_V2, SMALL_CNN};
use firstsight_models::summary::Style;
use firstsight_models::{Framework, ImageClassifier, Init, InputShape, Params};
use firstsight_report::{
    Column, Figure, LineChart, Mark, Report, Section, Series, Sheet, Table, Tile, escape_markup, number,
    unescape_markup,
};
use firstsight_train::{Accuracy, Metrics};
use firstsight_transfer::{
    DecodedSplits, Evaluation, Pretrained, RunFolder, report_sections,
    training::{RunSummary, Trained},
};
use serde::Serialize;

use self::stages::{Epochs, LOW_RATE, Stage, Transferred, transfer};
use self::task::{Task, restrict};
use self::weights::{SIDE, Weights};
use super::{Lecture, Settings};
use crate::Result;

/// The section's part of `metrics.json`.
#[derive(Serialize)]
pub(super) struct TransferMetrics {
    /// Why the published weights were not used.
    without_hub: Option<String>,
    /// The report's own pretraining on other characters.
    pretraining: Option<RunSummary>,
    transfers: Vec<TransferJson>,
}

#[derive(Serialize)]
struct TransferJson {
    model: &'static str,
    weights: String,
    data: String,
    classes: usize,
    /// 1 where two classes are told apart by one logit and binary cross-entropy.
    outputs: usize,
    train: usize,
    val: usize,
    frozen: StageJson,
    fine_tuned: StageJson,
    from_scratch: Option<FiguresJson>,
}

#[derive(Serialize)]
struct StageJson {
    epochs: usize,
    trained_params: usize,
    train: FiguresJson,
    val: FiguresJson,
    seconds: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct FiguresJson {
    loss: f64,
    accuracy: f64,
}

impl FiguresJson {
    fn new(metrics: &Metrics) -> Self {
        let accuracy = metrics.values.first().map_or(f64::NAN, |(_, value)| *value);
        Self { loss: metrics.loss, accuracy }
    }
}

impl StageJson {
    fn new(stage: &Stage) -> Self {
        Self {
            epochs: stage.history.len(),
            trained_params: stage.trained_params,
            train: FiguresJson::new(&stage.train),
            val: FiguresJson::new(&stage.val),
            seconds: stage.seconds,
        }
    }
}

/// Amount of training.
struct Amount {
    /// Epochs of the report's own pretraining, and images a step.
    pretraining: (usize, usize),
    /// From ImageNet's weights.
    imagenet: Epochs,
    /// From the report's own, where an epoch of a few images is a few steps.
    own: Epochs,
    /// Epochs of the same network from random weights.
    scratch: usize,
    /// Training images of each new character: few, since that is when transfer pays.
    per_class: usize,
}

impl Amount {
    fn new(quick: bool) -> Self {
        let scratch = 60;
        if quick {
            let (imagenet, own) = (Epochs { frozen: 20, all: 3 }, Epochs { frozen: 150, all: 5 });
            Self { pretraining: (8, 32), imagenet, own, scratch, per_class: 10 }
        } else {
            let (imagenet, own) = (Epochs { frozen: 20, all: 10 }, Epochs { frozen: 150, all: 10 });
            Self { pretraining: (15, 128), imagenet, own, scratch, per_class: 10 }
        }
    }
}

/// Characters that the report's own network does not see before it is transferred to them.
const NEW_CHARACTERS: usize = 10;

/// Writes the section; nothing for `metrics.json` if it was interrupted.
pub(super) fn write(
    args: &Settings,
    lecture: &Lecture<'_>,
    report: &mut Report,
) -> Result<Option<TransferMetrics>> {
    let section = report.section(Some("10"), "Transfer learning");
    section.text(
        "A network that has learned to tell a million photos apart has learned to see edges, textures and parts; a new task \
         needs a new last layer, and perhaps a little adjustment of the rest. First the network is **frozen**: it runs once \
         over the images, and a new last layer learns from what comes out. Then **all of it** is trained on at a rate of \
         0.00001, so low that it adjusts what it knows and does not unlearn it; batch norm keeps the statistics of the \
         pretraining, which a few small batches would spoil.",
    );
    listing(section)?;
    let amount = Amount::new(args.quick);
    match weights::find(&args.weights, args.quick, &lecture.context)? {
        Weights::Pretrained(found) => of_imagenet(args, lecture, &found, &amount, section),
        Weights::Own(reason) => {
            section.note(&format!(
                "**The published ImageNet weights are not used here**: {}. What follows starts from a network that this \
                 report trains itself. `--weights` takes weights from a folder, a file or another hub repository.",
                escape_markup(&reason)
            ));
            of_our_own(lecture, reason, &amount, section)
        }
    }
}

/// MobileNetV2's layers without the last, as Keras names and counts them.
fn listing(section: &mut Section) -> Result<()> {
    let params = Params::seeded(0, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: SIDE, width: SIDE };
    let (model, framework) = (&MOBILENET_V2, Framework::Keras);
    let network = ImageClassifier::with_framework(model, framework, input, 1000, Init::Keras, &params)?;
    let summary = network.summary_as(Style::Keras).without_head();
    section.subsection(&format!("MobileNetV2, layer by layer: {}", summary.rows.len()));
    section.text(&format!(
        "As Keras lists it without the last layers (the command `summary mobilenet-v2 --style keras --no-head`): {} \
         parameters, of which {} are running statistics.",
        number::count(summary.total_params() as u64),
        number::count(summary.buffers() as u64)
    ));
    section.pre("The layers, for photos of 150 × 150 pixels", &summary.to_string());
    Ok(())
}

/// From ImageNet's weights to photos, or to two characters.
fn of_imagenet(
    args: &Settings,
    lecture: &Lecture<'_>,
    found: &[Pretrained],
    amount: &Amount,
    section: &mut Section,
) -> Result<Option<TransferMetrics>> {
    let mut transfers = Vec::new();
    for pretrained in found {
        let task = Task::for_pretrained(args, lecture, &pretrained.input)?;
        let Some(done) = transfer(pretrained, &task, amount.imagenet, &lecture.context)? else {
            section.note("The training was interrupted.");
            return Ok(None);
        };
        section.subsection(&format!("{} on {}", pretrained.model, task.classes()));
        let license = pretrained.license.map_or_else(String::new, |license| format!(" (license: {license})"));
        section.text(&format!("The weights are those of {}{license}.", escape_markup(&pretrained.origin)));
        show(pretrained, &task, &done, None, section)?;
        transfers.push(json(pretrained, &task, &done, None));
    }
    Ok(Some(TransferMetrics { without_hub: None, pretraining: None, transfers }))
}

/// From characters that the report's own network has learned to others that it has not seen.
fn of_our_own(
    lecture: &Lecture<'_>,
    reason: String,
    amount: &Amount,
    section: &mut Section,
) -> Result<Option<TransferMetrics>> {
    let names = lecture.splits.train.classes();
    let n_new = NEW_CHARACTERS.min(names.len() / 3);
    if n_new < 2 {
        section.note(
            "There are too few classes here to learn some of them first and others afterwards: at least six are needed.",
        );
        return Ok(Some(TransferMetrics { without_hub: Some(reason), pretraining: None, transfers: vec![] }));
    }
    let new: Vec<usize> = (0..n_new).map(|i| i * names.len() / n_new).collect();
    let old: Vec<usize> = (0..names.len()).filter(|class| !new.contains(class)).collect();

    let (trained, pretrained) = pretrain(lecture, &old, amount)?;
    if trained.interrupted() {
        section.note("The training was interrupted.");
        return Ok(None);
    }
    section.text(&format!(
        "The CNN of section 8 learns {} of the {} characters in {} epochs, from {} images, and recognizes {} of the \
         validation images. It has not seen the other {}.",
        old.len(),
        names.len(),
        trained.history.epochs.len(),
        number::count(trained.train.metrics.n as u64),
        number::percent(trained.val.metrics.get(&Accuracy).unwrap_or(f64::NAN), 1),
        new.len(),
    ));
    let mut transfers = Vec::new();
    for (classes, most) in [(&new[..], amount.per_class), (&new[..2], usize::MAX)] {
        let task = Task::of_characters(lecture, classes, most)?;
        let Some(done) = transfer(&pretrained, &task, amount.own, &lecture.context)? else {
            section.note("The training was interrupted.");
            return Ok(None);
        };
        let scratch = match task.n_outputs() {
            1 => None,
            _ => Some(from_scratch(lecture, &task, amount.scratch)?),
        };
        section.subsection(&format!("To {} of them: {}", classes.len(), task.classes()));
        section.text(&format!(
            "{} training images, {} a character, and {} for validation.",
            task.train.len(),
            task.train.len() / classes.len(),
            task.val.len()
        ));
        show(&pretrained, &task, &done, scratch.as_ref(), section)?;
        transfers.push(json(&pretrained, &task, &done, scratch.as_ref()));
    }
    Ok(Some(TransferMetrics { without_hub: Some(reason), pretraining: Some(trained.summary()), transfers }))
}

/// The CNN trained on some of the characters, and its weights as pretrained ones.
fn pretrain(lecture: &Lecture<'_>, classes: &[usize], amount: &Amount) -> Result<(Trained, Pretrained)> {
    let train = restrict(&lecture.splits.train, classes, usize::MAX)?;
    let val = restrict(&lecture.splits.val, classes, usize::MAX)?;
    let splits =
        DecodedSplits { root: lecture.splits.root.clone(), ..DecodedSplits::in_memory(train, val, None) };
    let mut plan = lecture.plan(&SMALL_CNN);
    (plan.epochs, plan.record.batch_size) = amount.pretraining;
    plan.patience = plan.epochs;
    let path = lecture.out.join("runs").join("small-cnn-before-transfer");
    let run = RunFolder::reopen(&path, lecture.resume)?;
    let trained = plan.run(&splits, &run, lecture.resume, lecture.context.runtime)?;
    let source = format!("{}, {} of the characters", lecture.source, classes.len());
    report_sections::run_report(&plan, &splits, &trained, &source, lecture.context.runtime)?
        .write(&run.report())?;
    let mut pretrained = Pretrained::local(plan.model, &path)?;
    pretrained.origin = "this report's own training on other characters".to_owned();
    Ok((trained, pretrained))
}

/// The same network on the same images from random weights, at the usual rate.
fn from_scratch(lecture: &Lecture<'_>, task: &Task, epochs: usize) -> Result<Metrics> {
    let mut plan = lecture.plan(&SMALL_CNN);
    plan.epochs = epochs;
    plan.record.batch_size = 32;
    let runtime = &lecture.context.runtime;
    let splits = DecodedSplits::in_memory(task.train.clone(), task.val.clone(), None);
    let network = plan.network(&splits, &runtime.device)?;
    plan.fit(&network, &splits, runtime, &mut [])?;
    Ok(Evaluation::measure(&network, task.val.clone(), &plan.input, None, runtime)?.metrics)
}

/// Curves, figures and pictures of one transfer.
fn show(
    pretrained: &Pretrained,
    task: &Task,
    done: &Transferred,
    scratch: Option<&Metrics>,
    section: &mut Section,
) -> Result<()> {
    let objective = match task.n_outputs() {
        1 => {
            "One logit tells the two classes apart: above 0 it means the second; the loss is binary cross-entropy"
        }
        _ => "The last layer has a logit a class; the loss is softmax cross-entropy",
    };
    section.text(&format!(
        "{objective}. Adam trains {} parameters at 0.001 for {} epochs while {} are frozen, then all {} at {LOW_RATE} for {}.",
        number::count(done.frozen.trained_params as u64),
        done.frozen.history.len(),
        number::count(done.frozen_params as u64),
        number::count(done.all.trained_params as u64),
        done.all.history.len(),
    ));
    curves(task, done, section);
    let mut table = Table::new(
        format!("{} on {}: loss and accuracy after each stage", pretrained.model, task.classes()),
        [
            Column::text("after"),
            Column::number("trained parameters"),
            Column::number("loss").under("training"),
            Column::number("accuracy").under("training"),
            Column::number("loss").under("validation"),
            Column::number("accuracy").under("validation"),
            Column::text("time"),
        ],
    );
    for (name, stage) in [("the last layer alone", &done.frozen), ("all at a low rate", &done.all)] {
        let (train, val) = (FiguresJson::new(&stage.train), FiguresJson::new(&stage.val));
        table.row([
            name.into(),
            stage.trained_params.into(),
            train.loss.into(),
            train.accuracy.into(),
            val.loss.into(),
            val.accuracy.into(),
            number::duration(std::time::Duration::from_secs_f64(stage.seconds)).into(),
        ]);
    }
    section.table(table);
    if let Some(scratch) = scratch {
        let ours = FiguresJson::new(&done.all.val).accuracy;
        section.text(&format!(
            "The same network from random weights, trained on the same images at 0.001, recognizes {} of the validation \
             images; transferred, {}.",
            number::percent(FiguresJson::new(scratch).accuracy, 1),
            number::percent(ours, 1),
        ));
    }
    if task.n_outputs() == 1 {
        pictures(task, done, section)?;
    }
    Ok(())
}

fn curves(task: &Task, done: &Transferred, section: &mut Section) {
    let epochs: Vec<_> = done.frozen.history.iter().chain(&done.all.history).collect();
    let series = |of: &dyn Fn(&Metrics) -> f64| {
        vec![
            Series::per_epoch("training", epochs.iter().map(|epoch| of(&epoch.train))),
            Series::per_epoch(
                "validation",
                epochs.iter().map(|epoch| epoch.val.as_ref().map_or(f64::NAN, of)),
            ),
        ]
    };
    let chart = LineChart::new("epoch")
        .panel("loss", series(&|metrics| metrics.loss))
        .panel("accuracy", series(&|metrics| FiguresJson::new(metrics).accuracy))
        .marker(done.frozen.history.len() as f64, "unfrozen");
    let caption = "Loss and accuracy by epoch, the last layer's and then the whole network's; the training curve is the mean \
                   over the epoch's batches";
    section.figure(Figure::new(chart, caption, task.source.clone()));
}

/// Validation images, the least certain first, with how probable their own class is thought to be.
fn pictures(task: &Task, done: &Transferred, section: &mut Section) -> Result<()> {
    let second = stages::probabilities(&done.model, task)?;
    let (classes, labels) = (task.val.classes(), task.val.labels());
    let of_truth = |i: usize| if labels[i] == 1 { second[i] } else { 1.0 - second[i] };
    let mut order: Vec<usize> = (0..task.val.len()).collect();
    order.sort_by(|&a, &b| of_truth(a).total_cmp(&of_truth(b)));
    let tile = |&i: &usize| -> Result<Tile> {
        let mark = if of_truth(i) > 0.5 { Mark::Right } else { Mark::Wrong };
        let tile = Tile::new(report_sections::picture(&task.val, i)?, classes[labels[i] as usize].clone());
        Ok(tile.sublabel(number::percent(f64::from(of_truth(i)), 1)).mark(mark))
    };
    let tiles = order.iter().take(16).map(tile).collect::<Result<Vec<_>>>()?;
    section.figure(Figure::new(
        Sheet::new(tiles, 8),
        "The validation images that the network is least sure of: the true class, and how probable it thinks that",
        task.source.clone(),
    ));
    Ok(())
}

fn json(pretrained: &Pretrained, task: &Task, done: &Transferred, scratch: Option<&Metrics>) -> TransferJson {
    TransferJson {
        model: pretrained.model.name,
        weights: pretrained.origin.clone(),
        data: unescape_markup(&task.source),
        classes: task.train.classes().len(),
        outputs: task.n_outputs(),
        train: task.train.len(),
        val: task.val.len(),
        frozen: StageJson::new(&done.frozen),
        fine_tuned: StageJson::new(&done.all),
        from_scratch: scratch.map(FiguresJson::new),
    }
}
