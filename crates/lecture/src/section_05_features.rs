//! 5. What the layers learn: pictures that excite them, feature maps of an image, and Grad-CAM of mistakes.

use std::sync::atomic::Ordering;

use candle_core::ModuleT as _;
use firstsight_insight::{FeatureVisConfig, Parametrization, layer_for_evidence};
use firstsight_models::networks::{MOBILENET_V2, SMALL_CNN};
use firstsight_report::{Figure, Image, Mark, Section, Sheet, Tile, escape_markup, number};
use firstsight_train::Predictions;
use firstsight_transfer::{Pretrained, RunFolder, report_sections, training::Trained};

use super::photo::photo;
use super::{Lecture, input};
use crate::{
    Result,
    visualization::{self as show, Evidence, Subject},
    weights as hub,
};

pub(super) const NUMBER: &str = "5";
pub(super) const TITLE: &str = "What the layers learn";

/// Channels drawn of each layer of the CNN.
const SHOWN: usize = 6;

/// Number of mistakes shown.
const MISTAKES: usize = 6;

/// Fills the section. Returns whether it is whole: Ctrl-C leaves what was drawn until then.
pub(super) fn write(
    lecture: &Lecture<'_>,
    args: &crate::Settings,
    trained: &Trained,
    section: &mut Section,
) -> Result<bool> {
    section.text(
        "A filter of the first layer can be looked at. What a channel further in looks for can be drawn: starting from faint \
         noise, the picture is changed step by step along the gradient of the channel’s mean activation, the network staying as \
         it is. Two things keep such pictures from being mere noise: each is made of frequencies, of which steps change low \
         and high ones alike, and before each step it is shifted and zoomed a little, so that only what survives that pays.",
    );
    if !characters(lecture, args, trained, section)? {
        return Ok(false);
    }
    match weights(args, &lecture.context)? {
        Ok(pretrained) => photos(lecture, args, &pretrained, section),
        Err(why) => {
            section.subsection("A network for photos");
            section.note(&why);
            Ok(true)
        }
    }
}

/// The CNN of section 8.
fn characters(
    lecture: &Lecture<'_>,
    args: &crate::Settings,
    trained: &Trained,
    section: &mut Section,
) -> Result<bool> {
    section.subsection("The CNN of section 8");
    let kind = &SMALL_CNN;
    let weights = RunFolder::open(&lecture.out.join("runs").join(kind.name))?.weights();
    let (name, images) = report_sections::held_out(&lecture.splits);
    let classes = images.classes();
    let source = format!("the CNN of section 8, trained on {}", lecture.source);
    let subject =
        Subject::load(kind, &weights, input(), classes.to_vec(), source, &lecture.context.runtime.device)?;
    section.text(
        "Its first layer sees nothing but 3 × 3 pixels: edges and spots. The second and third see 8 × 8 and 18 × 18 pixels, and \
         combine strokes into corners, crossings and bars at certain distances. What raises the logit of a class holds, with \
         luck, pieces of the character, wherever they help: nothing asks the picture to look like writing.",
    );
    show::show_filters(section, &subject)?;
    let settings = FeatureVisConfig {
        steps: if args.quick { 128 } else { 256 },
        lr: 0.05,
        parametrization: Parametrization::Fourier { decay: 1.0 },
        jitter: 3.0,
        zoom: (0.95, 1.05),
        total_variation: 0.05,
        noise: show::STROKES,
        seed: lecture.context.settings.seed,
    };
    let some = show::spread(images.len(), 64).into_iter().map(|i| images.image(i));
    let some = some.collect::<Result<Vec<_>, _>>()?;
    let some: Vec<&[u8]> = some.iter().map(|image| &**image).collect();
    let mut layers = Vec::new();
    for layer in ["conv1", "conv2", "conv3"] {
        layers.push((layer, subject.most_excited(layer, &some, SHOWN)?));
    }
    layers.push((subject.network.head_name(), show::spread(classes.len(), SHOWN)));
    section.text(&format!(
        "Drawn are the {SHOWN} channels of each layer that {name} images excite most; trained networks have others that are \
         hardly used."
    ));
    if !draw(lecture, &subject, &layers, subject.size(), &settings, section)? {
        return Ok(false);
    }

    section.text("One test image, layer by layer: each map says where in the image its channel finds what it looks for.");
    let index = images.len() / 2;
    let truth = escape_markup(&classes[images.labels()[index] as usize]);
    for layer in ["conv1", "conv2", "conv3"] {
        let of = format!("image {index} of the {name} images ({truth})");
        show::show_maps(section, &subject, &images.image(index)?, layer, 16, &of)?;
    }
    let predictions =
        report_sections::predictions(&trained.network, images, &input(), &lecture.context.runtime.device)?;
    failures(lecture, &subject, &predictions, section)?;
    Ok(true)
}

/// Where the network looks when it fails: the evidence for what it says and for what it should say.
fn failures(
    lecture: &Lecture<'_>,
    subject: &Subject,
    predictions: &Predictions,
    section: &mut Section,
) -> Result<()> {
    let (name, images) = report_sections::held_out(&lecture.splits);
    let classes = images.classes();
    let mut wrong: Vec<(usize, usize, usize, f32)> = (0..predictions.len())
        .map(|i| {
            let (class, confidence) = predictions.top(i);
            (i, predictions.labels[i] as usize, class as usize, confidence)
        })
        .filter(|(_, truth, class, _)| truth != class)
        .collect();
    wrong.sort_by(|a, b| b.3.total_cmp(&a.3).then(a.0.cmp(&b.0)));
    wrong.truncate(MISTAKES);
    if wrong.is_empty() {
        section.text("There is no failure to look into.");
        return Ok(());
    }
    const LAYER: &str = "conv3";
    let pictures = wrong.iter().map(|case| images.image(case.0)).collect::<Result<Vec<_>, _>>()?;
    let about = |truly: bool| {
        let case =
            |(&(_, truth, class, _), image)| Evidence { image, class: if truly { truth } else { class } };
        let pictures = pictures.iter().map(|picture| &**picture);
        show::evidence(subject, &wrong.iter().zip(pictures).map(case).collect::<Vec<_>>(), LAYER)
    };
    let mut tiles = Vec::new();
    for ((case, said), true_one) in wrong.iter().zip(about(false)?).zip(about(true)?) {
        let &(i, truth, class, confidence) = case;
        let label = format!("{} → {}", classes[truth], classes[class]);
        tiles.push(
            Tile::new(report_sections::picture(images, i)?, label).mark(Mark::Wrong).sublabel("the image"),
        );
        let sure = number::percent(f64::from(confidence), 1);
        tiles.push(Tile::new(said, classes[class].clone()).sublabel(format!("predicted, {sure}")));
        tiles.push(Tile::new(true_one, classes[truth].clone()).sublabel("true class"));
    }
    section.text(
        "Grad-CAM weighs the maps of a layer by how much each, on average, moves the logit of a class: what speaks for the class \
         becomes red.",
    );
    let caption = format!(
        "The {} mistakes that the network is surest of, each with the evidence for what it says and for the true class, by \
         Grad-CAM at `{LAYER}`",
        wrong.len()
    );
    section.figure(Figure::new(Sheet::new(tiles, 6), caption, format!("{}, {name} images", lecture.source)));
    Ok(())
}

/// A pretrained MobileNetV2.
fn photos(
    lecture: &Lecture<'_>,
    args: &crate::Settings,
    pretrained: &Pretrained,
    section: &mut Section,
) -> Result<bool> {
    section.subsection("A network for photos");
    let source = format!("MobileNetV2 with the weights of {}", escape_markup(&pretrained.origin));
    let places = || (0..pretrained.n_classes).map(|class| format!("class {class}")).collect();
    let names = pretrained.label_names.clone().unwrap_or_else(places);
    let subject = Subject::load(
        pretrained.model,
        &pretrained.weights,
        pretrained.input.clone(),
        names,
        source.clone(),
        &lecture.context.runtime.device,
    )?;
    section.text(&format!(
        "The same for a network of {} parameters that was trained on 1.3 million photos: {source}. Its first layer has edges \
         and colors, then come textures, patterns, and parts of things.",
        number::count(subject.network.summary().total_params() as u64),
    ));
    show::show_filters(section, &subject)?;
    let (side, steps, shown) = if args.quick { (96, 48, 4) } else { (160, 256, 6) };
    let settings = FeatureVisConfig {
        steps,
        lr: 0.05,
        parametrization: Parametrization::Fourier { decay: 1.0 },
        jitter: side as f64 / 20.0,
        zoom: (0.9, 1.1),
        total_variation: 0.0,
        noise: show::COLORS,
        seed: lecture.context.settings.seed,
    };
    let layers = subject.layers((side, side))?;
    let wanted = ["blocks.1.1", "blocks.2.2", "blocks.4.2", "blocks.6.0", subject.network.head_name()];
    let with_channels: Vec<(&str, Vec<usize>)> = layers
        .iter()
        .filter(|layer| wanted.contains(&layer.name.as_str()))
        .map(|layer| (layer.name.as_str(), show::spread(layer.n_channels(), shown)))
        .collect();
    if !draw(lecture, &subject, &with_channels, (side, side), &settings, section)? {
        return Ok(false);
    }

    let (height, width) = subject.size();
    let (photo, of) = photo(args.photo.as_deref(), (height, width))?;
    for layer in ["bn1", "blocks.1.1", "blocks.2.2", "blocks.4.2"] {
        show::show_maps(section, &subject, &photo.pixels, layer, 8, &of)?;
    }
    let layers = subject.layers(subject.size())?;
    let layer = layer_for_evidence(&subject.network, &layers).map(|layer| layer.name.clone());
    let Some(layer) = layer else { return Ok(true) };
    let logits = subject.network.forward_t(&subject.batch(&[&photo.pixels])?, false)?;
    let class = logits.argmax(1)?.to_vec1::<u32>()?[0] as usize;
    let cases = [Evidence { image: &photo.pixels, class }];
    let mut tiles = vec![Tile::new(Image::from_pixels(height, width, 3, &photo.pixels)?, "the picture")];
    for picture in show::evidence(&subject, &cases, &layer)? {
        tiles.push(Tile::new(picture, subject.label_names[class].clone()));
    }
    let caption = format!(
        "Where in {of} the evidence for its most probable class is, by Grad-CAM at `{layer}`: the redder, the more"
    );
    section.figure(Figure::new(Sheet::new(tiles, 4), caption, source));
    Ok(true)
}

/// Pictures for channels of each of `layers`. Returns whether all were drawn.
fn draw(
    lecture: &Lecture<'_>,
    subject: &Subject,
    layers: &[(&str, Vec<usize>)],
    size: (usize, usize),
    settings: &FeatureVisConfig,
    section: &mut Section,
) -> Result<bool> {
    lecture.context.runtime.interrupt.with_graceful_interrupt(|pressed| {
        for (layer, channels) in layers {
            // A logit answers to anything; faint noise leaves the cleaner picture.
            let faint = FeatureVisConfig { noise: show::COLORS.min(settings.noise), ..settings.clone() };
            let settings = if *layer == subject.network.head_name() { &faint } else { settings };
            let visions = lecture.context.runtime.counted(&format!("drawing {layer}"), |report| {
                subject.draw(layer, channels, size, settings, &mut |done, total| {
                    report(done + 1, total);
                    !pressed.load(Ordering::Relaxed)
                })
            })?;
            if pressed.load(Ordering::Relaxed) {
                section.note("The drawing was interrupted.");
                return Ok(false);
            }
            show::show_visions(section, subject, layer, &visions)?;
        }
        Ok(true)
    })
}

/// MobileNetV2's weights among those that were typed, or else the published ones; or why there are none. The quick form
/// takes what lies at hand and fetches nothing.
fn weights(args: &crate::Settings, context: &crate::Context<'_>) -> Result<Result<Pretrained, String>> {
    let kind = &MOBILENET_V2;
    let how =
        "`--weights` takes a folder with `model.safetensors` and `config.json`, a file or a hub repository.";
    for text in &args.weights {
        match hub::locate(kind, Some(text), context) {
            Err(error) if hub::are_anothers(&error) => {}
            located => return Ok(Ok(located?)),
        }
    }
    if !args.weights.is_empty() {
        return Ok(Err(format!("None of the weights that were named are MobileNetV2’s. {how}")));
    }
    if args.quick {
        return Ok(hub::cached(kind, context)?.ok_or_else(|| {
            format!("No pretrained weights lie in the hub’s cache, and the quick form fetches none for pictures. {how}")
        }));
    }
    Ok(hub::locate(kind, None, context).map_err(|error| {
        let cause = escape_markup(&hub::root_cause(&error));
        format!("The pretrained weights cannot be fetched ({cause}). {how}")
    }))
}
