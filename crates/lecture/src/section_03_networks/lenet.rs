//! LeNet-5 trained on digits, without and with augmentation.

use std::path::Path;
use std::time::Duration;

use firstsight_data::{AugmentationConfig, AugmentationPreset, InputSpec};
use firstsight_models::SaveDtype;
use firstsight_models::networks::LENET5;
use firstsight_report::{Column, Figure, LineChart, Section, Series, Sheet, Table, Tile, number};
use firstsight_train::{Accuracy, Epoch, Metrics, Monitor};
use firstsight_transfer::{
    Evaluation, RunFolder, TrainingRecord, report_sections,
    training::{Optimization, RunSummary, Trained, Training},
};
use serde::Serialize;

use crate::{
    Context, Result, SPLIT_SEED,
    digits::{Digits, SIDE},
};

/// Weight decay.
const DECAY: f64 = 0.1;

/// `metrics.json`, `networks.lenet5`.
#[derive(Serialize)]
pub(super) struct LenetMetrics {
    params: usize,
    runs: Vec<LenetRun>,
}

#[derive(Serialize)]
struct LenetRun {
    augmentation: AugmentationConfig,
    #[serde(flatten)]
    metrics: RunSummary,
    seconds: f64,
}

/// The trainings: what becomes of the training digits, in words, by name, and the folder of the run.
const RUNS: [(&str, AugmentationPreset, &str); 2] = [
    ("as they are", AugmentationPreset::None, "lenet5"),
    ("changed", AugmentationPreset::Digits, "lenet5-augmented"),
];

/// Returns the figures and whether a training was interrupted.
pub(super) fn write(
    section: &mut Section,
    digits: &Digits,
    quick: bool,
    out: &Path,
    resume: bool,
    context: &Context<'_>,
) -> Result<(LenetMetrics, bool)> {
    section.subsection("LeNet-5 reads digits");
    samples(section, digits)?;
    let mut runs: Vec<(&str, Trained)> = Vec::new();
    let mut metrics = LenetMetrics { params: 0, runs: Vec::new() };
    for (name, changes, folder) in RUNS {
        let plan = plan(
            AugmentationConfig { preset: changes, ..AugmentationConfig::default() },
            quick,
            context.settings.seed,
        );
        if runs.is_empty() {
            says(section, &plan, digits);
        }
        let run = RunFolder::reopen(&out.join("runs").join(folder), resume)?;
        let trained = plan.run(&digits.splits, &run, resume, context.runtime)?;
        let page =
            report_sections::run_report(&plan, &digits.splits, &trained, &digits.source, context.runtime)?;
        page.write(&run.report())?;
        metrics.params = trained.network.summary().total_params();
        metrics.runs.push(LenetRun {
            augmentation: plan.record.augmentation,
            metrics: trained.summary(),
            seconds: trained.seconds,
        });
        runs.push((name, trained));
        if runs.iter().any(|(_, trained)| trained.interrupted()) {
            break;
        }
    }
    curves(section, &runs, digits);
    table(section, &runs);
    mistakes(section, &runs, digits)?;
    Ok((metrics, runs.iter().any(|(_, trained)| trained.interrupted())))
}

fn plan(augmentation: AugmentationConfig, quick: bool, seed: u64) -> Training {
    let epochs = if quick { 6 } else { 20 };
    Training {
        model: &LENET5,
        input: InputSpec::bytes(1, SIDE, SIDE),
        epochs,
        // No training stops early: the rate has to fall.
        patience: epochs,
        optimization: Optimization::AdamWCosine { decay: DECAY },
        save_dtype: SaveDtype::Float32,
        record: TrainingRecord {
            seed,
            split_seed: SPLIT_SEED,
            batch_size: 64,
            shards: 1,
            learning_rate: 0.003,
            augmentation,
        },
    }
}

fn samples(section: &mut Section, digits: &Digits) -> Result<()> {
    if let Some(why) = &digits.drawn {
        section.note(&format!(
            "The digits are not MNIST’s ({why}), but **drawn by this program** in their form: light on black, fitted into \
             20 × 20 pixels, the center of mass in the middle. Other writers drew the test digits. `--mnist DIR` trains on \
             MNIST’s four files."
        ));
    }
    let images = &digits.splits.train;
    let mut tiles = Vec::new();
    for take in 0..2 {
        for (digit, name) in images.classes().iter().enumerate() {
            let place = (0..images.len()).filter(|&i| images.labels()[i] as usize == digit).nth(take);
            if let Some(i) = place {
                tiles.push(Tile::new(report_sections::picture(images, i)?, name.as_str()));
            }
        }
    }
    section.figure(Figure::new(
        Sheet::new(tiles, 10),
        "Training digits, 32 × 32 pixels with their border",
        digits.source.as_str(),
    ));
    Ok(())
}

fn says(section: &mut Section, plan: &Training, digits: &Digits) {
    let TrainingRecord { batch_size, learning_rate, .. } = plan.record;
    let n = |images: usize| number::count(images as u64);
    section.text(&format!(
        "LeNet-5 with a dense output is trained on {} digits for {} epochs by AdamW in batches of {batch_size}. The rate \
         rises to {learning_rate} over the first twentieth of the steps, then falls along a cosine to a hundredth of it; \
         weight decay is {DECAY}. It is trained twice: on the digits as they are, and on digits that are turned by up to \
         12°, zoomed to 88 to 112 % and shifted by up to 7 % of a side, anew in each epoch. The weights of the epoch that \
         is best on the {} validation digits are measured on the {} test digits, which nothing is chosen by.",
        n(digits.splits.train.len()),
        plan.epochs,
        n(digits.splits.val.len()),
        n(digits.splits.test.as_ref().map_or(0, firstsight_data::ImageDataset::len)),
    ));
}

fn accuracy(metrics: &Metrics) -> f64 {
    metrics.get(&Accuracy).unwrap_or(f64::NAN)
}

fn curves(section: &mut Section, runs: &[(&str, Trained)], digits: &Digits) {
    let series = |of: &dyn Fn(&Epoch) -> f64| {
        let each = runs.iter().map(|(name, run)| Series::per_epoch(*name, run.history.epochs.iter().map(of)));
        each.collect::<Vec<_>>()
    };
    let chart = LineChart::new("epoch")
        .panel("training loss", series(&|epoch| epoch.train.loss))
        .panel("validation accuracy", series(&|epoch| Monitor::val(Accuracy).value(epoch)));
    section.figure(Figure::new(
        chart,
        "LeNet-5 on digits as they are and on changed ones: the mean loss over each epoch’s batches, and the accuracy on \
         the validation digits after it",
        digits.source.as_str(),
    ));
}

fn table(section: &mut Section, runs: &[(&str, Trained)]) {
    let params = runs.first().map_or(0, |(_, trained)| trained.network.summary().total_params());
    let mut table = Table::new(
        format!("LeNet-5 ({} parameters), the best epoch’s weights", number::count(params as u64)),
        [
            Column::text("training digits"),
            Column::number("training").under("accuracy"),
            Column::number("validation").under("accuracy"),
            Column::number("test").under("accuracy"),
            Column::number("wrong test digits"),
            Column::number("best epoch"),
            Column::text("time"),
        ],
    );
    for (name, trained) in runs {
        let test = trained.test.as_ref().map(Evaluation::summary);
        let wrong = test.as_ref().map(|test| ((1.0 - test.accuracy) * test.n as f64).round() as usize);
        table.row([
            (*name).into(),
            accuracy(&trained.train.metrics).into(),
            accuracy(&trained.val.metrics).into(),
            test.map(|test| test.accuracy).into(),
            wrong.into(),
            trained.best_epoch().map(|best| best + 1).into(),
            number::duration(Duration::from_secs_f64(trained.seconds)).into(),
        ]);
    }
    section.table(table);
}

/// The test digits that the last network takes for others.
fn mistakes(section: &mut Section, runs: &[(&str, Trained)], digits: &Digits) -> Result<()> {
    let Some((name, trained)) = runs.last() else { return Ok(()) };
    let Some(test) = &trained.test else { return Ok(()) };
    let source = format!("{}, training digits {name}", digits.source);
    Ok(report_sections::surest_mistakes(section, test, 20, &digits.splits.root, &source)?)
}
