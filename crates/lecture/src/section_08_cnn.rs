//! 8. The convolutional network.

use candle_core::{ModuleT as _, Tensor};
use firstsight_report::{Column, Figure, Picture, Report, Section, Table, escape_markup, number};
use firstsight_train::Predictions;
use firstsight_transfer::{report_sections, training::Trained};

use super::{Lecture, reference};
use crate::Result;

pub(super) fn write(lecture: &Lecture<'_>, trained: &Trained, report: &mut Report) -> Result<()> {
    let summary = trained.network.summary();
    let section = report.section(Some("8"), "The convolutional network");
    section.text(&format!(
        "Three convolutions of 16, 32 and 64 filters of 3 × 3 pixels, each followed by ReLU and max pooling, look for strokes \
         and their combinations wherever they are; two dense layers decide. That takes {} parameters. The last layer gives logits; the training is the same.",
        number::count(summary.total_params() as u64),
    ));
    report_sections::layers(section, &summary);
    report_sections::curves(section, trained, &lecture.source);
    report_sections::figures(section, &lecture.rows(&reference::CNN, trained), "the CNN");
    lecture.say_what_the_lecture_used(section);

    let (name, measured) = trained.held_out();
    let source = format!("{}, {name} images", lecture.source);
    one_image(lecture, trained, &measured.predictions, section, &source)?;
    section.subsection("What it gets wrong, and how sure it is");
    Ok(report_sections::mistakes(section, measured, &lecture.splits.root, &source)?)
}

fn one_image(
    lecture: &Lecture<'_>,
    trained: &Trained,
    predictions: &Predictions,
    section: &mut Section,
    source: &str,
) -> Result<()> {
    section.subsection("One image");
    let (name, images) = report_sections::held_out(&lecture.splits);
    let index = images.len() / 2;
    let classes = images.classes();
    let truth = &classes[images.labels()[index] as usize];
    let caption =
        format!("Image {index} of the {name} images, 80 × 60 pixels. It shows {}", escape_markup(truth));
    section.figure(Figure::new(
        Picture::pixelated(report_sections::picture(images, index)?, 4.0),
        caption,
        source,
    ));
    let mut table = Table::new(
        "The most probable classes for it",
        [Column::text("class"), Column::number("probability")],
    );
    for (class, probability) in predictions.ranked(index, 5) {
        let cells = [classes[class].as_str().into(), probability.into()];
        if &classes[class] == truth {
            table.highlighted_row(cells)
        } else {
            table.row(cells)
        };
    }
    section.table(table);

    let pixels: Vec<f32> = images.image(index)?.iter().map(|&byte| f32::from(byte)).collect();
    let alone = Tensor::from_vec(pixels, (1, 80, 60), &lecture.context.runtime.device)?;
    if let Err(error) = trained.network.forward_t(&alone, false) {
        section.text(
            "A network takes batches, (B, C, H, W). One image alone, (C, H, W), lacks the batch axis, and the error says so; \
             `unsqueeze(0)` adds it.",
        );
        let message = error.to_string();
        section
            .pre("The error for one image without a batch axis", message.lines().next().unwrap_or_default());
    }
    Ok(())
}
