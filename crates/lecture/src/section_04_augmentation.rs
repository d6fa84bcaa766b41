//! 4. Augmentation: one image many times, and what it does to accuracy.

use std::path::Path;

use candle_core::Device;
use firstsight_data::{
    Augmentation, AugmentationConfig, AugmentationPreset, Augmenter, Batches as _, Cover, Fill, ImageDataset,
    Interpolation, Loader, LoaderConfig, Mix, Normalize, Sampling, Transform,
};
use firstsight_models::networks::SMALL_CNN;
use firstsight_report::{
    Column, Figure, Image, LineChart, Report, Section, Series, Sheet, Table, Tile, number,
};
use firstsight_train::{Accuracy, Metrics};
use firstsight_transfer::{
    RunFolder, report_sections,
    training::{RunSummary, Trained},
};
use serde::Serialize;

use super::Lecture;
use super::photo::photo;
use crate::Result;

/// Height and width of the photo on the sheets.
const SIZE: (usize, usize) = (72, 96);

/// The run folder of the training without augmentation.
pub(super) const PLAIN_RUN: &str = "small-cnn-plain";

/// Number of draws of each transform.
const SHOWN: usize = 6;

/// `metrics.json`, `augmentation`.
#[derive(Serialize)]
pub(super) struct AugmentationMetrics {
    epochs: usize,
    recipe: AugmentationConfig,
    without: RunSummary,
    with: RunSummary,
    seconds_without: f64,
    seconds_with: f64,
}

/// Writes the section. Returns the figures and the training without augmentation, or nothing if a training was
/// interrupted.
pub(super) fn write(
    lecture: &Lecture<'_>,
    path: Option<&Path>,
    report: &mut Report,
) -> Result<Option<(AugmentationMetrics, Trained)>> {
    let section = report.section(Some("4"), "Augmentation");
    section.text(
        "A cat that looks to the left is a cat as much as one that looks to the right. Changes that leave the label true make \
         new examples out of old ones: in each epoch the network sees every image a little differently, and can no longer \
         learn single pixels by heart. Only training images are changed; what is measured are the images as they are. What \
         becomes of an image follows from the seed, the epoch and the image’s number alone.",
    );
    let (picture, source) = photo(path, SIZE)?;
    for group in &GROUPS {
        group.show(section, &picture.pixels, lecture.context.settings.seed, &source)?;
    }
    mixed(section, &picture.pixels, lecture.context.settings.seed, &source)?;
    one_character(section, lecture)?;
    effect(section, lecture)
}

/// Changes of one kind.
struct Group {
    title: &'static str,
    says: &'static str,
    changes: &'static [(&'static str, Transform)],
    caption: &'static str,
}

const GROUPS: [Group; 3] = [
    Group {
        title: "Place and size",
        says: "Flips happen with a probability of a half, as torchvision’s. Turns are up to 20° (torchvision’s and Keras’s \
               `RandomRotation`), zooms show 75 to 125 % of the picture’s sides (Keras’s `RandomZoom`), shifts go up to 15 % of \
               a side (Keras’s `RandomTranslation`). Pixels are read by bilinear interpolation. A crop out of the padded \
               picture is a shift by whole pixels, up to 12 of them (torchvision’s `RandomCrop` with padding); a resized crop \
               takes 30 to 100 % of the area and scales it back (`RandomResizedCrop` of torchvision and timm).",
        changes: &[
            ("flip, horizontal", Transform::FlipHorizontal { probability: 0.5 }),
            ("flip, vertical", Transform::FlipVertical { probability: 0.5 }),
            ("rotation", Transform::Rotate { degrees: (-20.0, 20.0) }),
            ("zoom", Transform::Zoom { by: (-0.25, 0.25) }),
            ("translation", Transform::Translate { down: (-0.15, 0.15), right: (-0.15, 0.15) }),
            ("crop, padded", Transform::CropPadded { padding: 12 }),
            (
                "crop, resized",
                Transform::CropResized {
                    scale: (0.3, 1.0),
                    ratio: (0.75, 1.33),
                    interpolation: Interpolation::Bilinear,
                },
            ),
        ],
        caption: "Six draws of each change of place. What is moved in from outside is the edge, going on (Keras’s fill mode \
                  `nearest`)",
    },
    Group {
        title: "Light and color",
        says: "Brightness multiplies all values, contrast moves them away from the mean gray or towards it, both by 0.6 to 1.4; \
               color jitter changes brightness, contrast, saturation and hue in a random order. All are torchvision’s \
               `ColorJitter` as it works on Pillow’s images.",
        changes: &[
            ("brightness", Transform::Brightness { factor: (0.6, 1.4) }),
            ("contrast", Transform::Contrast { factor: (0.6, 1.4) }),
            (
                "color jitter",
                Transform::ColorJitter { brightness: 0.3, contrast: 0.3, saturation: 0.5, hue: 0.1 },
            ),
        ],
        caption: "Six draws of each change of light",
    },
    Group {
        title: "Covering a part",
        says: "A rectangle of 5 to 30 % of the area is covered, by one value or by noise (torchvision’s and timm’s \
               `RandomErasing`): the network must not hang on one detail.",
        changes: &[
            (
                "erasing, gray",
                Transform::Erase {
                    probability: 1.0,
                    area: (0.05, 0.3),
                    ratio: (0.3, 3.3),
                    with: Cover::Constant(128),
                },
            ),
            (
                "erasing, noise",
                Transform::Erase {
                    probability: 1.0,
                    area: (0.05, 0.3),
                    ratio: (0.3, 3.3),
                    with: Cover::Noise,
                },
            ),
        ],
        caption: "Six draws of each",
    },
];

/// Only `transforms`, or only `mix`.
fn augmentation(seed: u64, transforms: Vec<Transform>, mix: Option<Mix>) -> Augmentation {
    let (interpolation, fill) = (Interpolation::Bilinear, Fill::Edge);
    Augmentation { seed, transforms, interpolation, fill, mix, label_smoothing: 0.0 }
}

impl Group {
    fn show(&self, section: &mut Section, pixels: &[u8], seed: u64, source: &str) -> Result<()> {
        section.subsection(self.title);
        section.text(self.says);
        let (height, width) = SIZE;
        let mut tiles = Vec::new();
        for (name, transform) in self.changes {
            let augmenter = Augmenter::new(augmentation(seed, vec![*transform], None), (height, width, 3))?;
            for epoch in 0..SHOWN {
                let changed = augmenter.apply(pixels, epoch, 0);
                tiles.push(Tile::new(Image::from_pixels(height, width, 3, &changed)?, *name));
            }
        }
        section.figure(Figure::new(Sheet::new(tiles, SHOWN), self.caption, source));
        Ok(())
    }
}

/// Mixup and cutmix of the picture with its negative.
fn mixed(section: &mut Section, pixels: &[u8], seed: u64, source: &str) -> Result<()> {
    section.subsection("Mixing two examples");
    section.text(
        "Mixup blends two examples, cutmix pastes a piece of one into the other, and the label becomes the same mixture: 0.7 \
         of one class and 0.3 of the other. The share is drawn from Beta(1, 1) for each example, the other example is the one \
         before it in the batch. Label smoothing makes soft labels without mixing: of ε = 0.1 and ten classes, the right \
         class keeps 0.91 and every other gets 0.01. The loss of a soft label is the cross-entropy weighted by its shares.",
    );
    let (height, width) = SIZE;
    let negative = pixels.iter().map(|byte| 255 - byte);
    let both: Vec<u8> = pixels.iter().copied().chain(negative).collect();
    let classes = ["picture", "negative"].map(String::from).to_vec();
    let data = ImageDataset::from_pixels(both, (height, width, 3), vec![0, 1], classes)?;
    let mut tiles = Vec::new();
    for (name, mix) in [("mixup", Mix::Mixup(1.0)), ("cutmix", Mix::Cutmix(1.0))] {
        let config = LoaderConfig {
            batch_size: 2,
            sampling: Sampling::Sequential,
            normalize: Normalize { mean: vec![0.0; 3], std: vec![1.0 / 255.0; 3] },
            prefetch: 0,
        };
        let loader = Loader::new(data.clone(), config, &Device::Cpu)?;
        let loader = loader.augmented(augmentation(seed, vec![], Some(mix)))?;
        for epoch in 0..SHOWN {
            let Some(batch) = loader.epoch(epoch).next() else { continue };
            let batch = batch?;
            let values = batch.inputs.get(0)?.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.into_iter().map(|value| value.round() as u8).collect();
            let share = f64::from(batch.labels.get(0)?.to_vec1::<f32>()?[0]);
            let tile = Tile::new(Image::from_pixels(height, width, 3, &bytes)?, name);
            tiles.push(tile.sublabel(format!("{} of the picture", number::decimal(share, 2))));
        }
    }
    section.figure(Figure::new(
        Sheet::new(tiles, SHOWN),
        "The picture mixed with its negative. Below each is its label: the share of the class “picture”",
        source,
    ));
    Ok(())
}

/// The augmentation that is measured, on one training image.
fn one_character(section: &mut Section, lecture: &Lecture<'_>) -> Result<()> {
    section.subsection("What the characters go through");
    section.text(
        "A mirrored character is another one, or none, so nothing is flipped. Writers differ in slant, size and place and in \
         the darkness of their ink: turns up to 8°, zooms of 88 to 112 %, shifts up to 6 % of a side, contrast 0.7 to 1.3.",
    );
    let images = &lecture.splits.train;
    let (_, height, width, channels) = images.shape();
    let augmentation = Augmentation::characters(lecture.context.settings.seed);
    let augmenter = Augmenter::new(augmentation, (height, width, channels))?;
    let mut tiles = Vec::new();
    for index in [0, images.len() / 2] {
        let class = &images.classes()[images.labels()[index] as usize];
        tiles.push(Tile::new(report_sections::picture(images, index)?, class.clone()).sublabel("as it is"));
        for epoch in 0..9 {
            let changed = augmenter.apply(&images.image(index)?, epoch, index);
            let image = Image::from_pixels(height, width, channels, &changed)?;
            tiles.push(Tile::new(image, class.clone()).sublabel(format!("epoch {}", epoch + 1)));
        }
    }
    section.figure(Figure::new(
        Sheet::new(tiles, 10),
        "Two training images and what the network sees of them in the first nine epochs",
        lecture.source.clone(),
    ));
    Ok(())
}

/// The CNN trained without and with augmentation, for as many epochs.
fn effect(section: &mut Section, lecture: &Lecture<'_>) -> Result<Option<(AugmentationMetrics, Trained)>> {
    section.subsection("What it does to accuracy");
    let epochs = lecture.lengths.augmentation_epochs;
    let recipe =
        AugmentationConfig { preset: AugmentationPreset::Characters, ..AugmentationConfig::default() };
    let train = |name: &str, recipe: AugmentationConfig| -> Result<Trained> {
        let mut plan = lecture.plan(&SMALL_CNN);
        (plan.epochs, plan.patience, plan.record.augmentation) = (epochs, epochs, recipe);
        let run = RunFolder::reopen(&lecture.run_path(name), lecture.resume)?;
        Ok(plan.run(&lecture.splits, &run, lecture.resume, lecture.context.runtime)?)
    };
    let without = train(PLAIN_RUN, AugmentationConfig::default())?;
    if without.interrupted() {
        section.note("The training was interrupted.");
        return Ok(None);
    }
    let with = train("small-cnn-augmented", recipe)?;
    section.text(&format!(
        "The CNN of section 8 ({} parameters) is trained twice for {epochs} epochs, once on the images as they are and once \
         on changed ones; all else is the same. Of each training the weights of the epoch with the best validation accuracy \
         are measured.",
        number::count(with.network.summary().total_params() as u64),
    ));
    curves(section, &without, &with, &lecture.source);
    let mut table = Table::new(
        format!("The CNN after {epochs} epochs without and with augmentation"),
        [
            Column::text("training images"),
            Column::number("training").under("accuracy"),
            Column::number("validation").under("accuracy"),
            Column::number("test").under("accuracy"),
            Column::number("validation").under("loss"),
            Column::number("best epoch"),
            Column::text("time"),
        ],
    );
    let accuracy = |metrics: &Metrics| metrics.get(&Accuracy);
    for (name, trained) in [("as they are", &without), ("changed", &with)] {
        table.row([
            name.into(),
            accuracy(&trained.train.metrics).into(),
            accuracy(&trained.val.metrics).into(),
            trained.test.as_ref().and_then(|test| accuracy(&test.metrics)).into(),
            trained.val.metrics.loss.into(),
            trained.best_epoch().map(|best| best + 1).into(),
            number::duration(std::time::Duration::from_secs_f64(trained.seconds)).into(),
        ]);
    }
    section.table(table);
    let (before, after) = (without.val.summary().accuracy, with.val.summary().accuracy);
    let points = 100.0 * (after - before);
    section.text(&format!(
        "On {}, augmentation changes the validation accuracy from {} to {}, by {} points.",
        lecture.source,
        number::percent(before, 2),
        number::percent(after, 2),
        number::decimal(points, 2),
    ));
    if with.interrupted() {
        section.note("The training was interrupted.");
        return Ok(None);
    }
    let metrics = AugmentationMetrics {
        epochs,
        recipe,
        without: without.summary(),
        with: with.summary(),
        seconds_without: without.seconds,
        seconds_with: with.seconds,
    };
    Ok(Some((metrics, without)))
}

fn curves(section: &mut Section, without: &Trained, with: &Trained, source: &str) {
    let accuracy = |metrics: &Metrics| metrics.get(&Accuracy).unwrap_or(f64::NAN);
    let series = |of: &dyn Fn(&Metrics) -> f64| {
        let runs = [("as they are", without), ("changed", with)];
        let each = runs.into_iter().flat_map(|(name, trained)| {
            let epochs = &trained.history.epochs;
            [
                Series::per_epoch(format!("{name}, training"), epochs.iter().map(|epoch| of(&epoch.train))),
                Series::per_epoch(
                    format!("{name}, validation"),
                    epochs.iter().map(|epoch| epoch.val.as_ref().map_or(f64::NAN, of)),
                ),
            ]
        });
        each.collect::<Vec<_>>()
    };
    let chart = LineChart::new("epoch")
        .panel("loss", series(&|metrics| metrics.loss))
        .panel("accuracy", series(&accuracy));
    section.figure(Figure::new(
        chart,
        "Loss and accuracy by epoch; the training curves are means over each epoch’s batches. A network that learns images \
         by heart is better on them than on others: the gap between training and validation, with and without augmentation",
        source,
    ));
}
