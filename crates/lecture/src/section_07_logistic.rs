//! 7. Logistic regression on pixels.

use firstsight_report::{Report, number};
use firstsight_transfer::{
    report_sections::{self, ReferenceRow},
    training::Trained,
};

use super::{Lecture, reference};
use crate::Result;

pub(super) fn write(lecture: &Lecture<'_>, trained: &Trained, report: &mut Report) -> Result<()> {
    let summary = trained.network.summary();
    let section = report.section(Some("7"), "Logistic regression");
    section.text(&format!(
        "The simplest classifier weighs every pixel for every class and adds up: 80 · 60 weights and a bias for each of {} \
         classes, {} parameters. It is trained by Adam (learning rate 0.001) in batches of 128, for at most {} epochs; when \
         the validation accuracy has not risen for {} epochs, training stops and the best weights come back.",
        lecture.splits.n_classes(),
        number::count(summary.total_params() as u64),
        lecture.lengths.epochs,
        lecture.lengths.patience,
    ));
    report_sections::layers(section, &summary);
    report_sections::curves(section, trained, &lecture.source);
    report_sections::figures(section, &lecture.rows(&reference::LOGISTIC, trained), "logistic regression");
    lecture.say_what_the_lecture_used(section);
    Ok(())
}

impl Lecture<'_> {
    /// Our figures, with the lecture's where the characters are its own.
    pub(super) fn rows(&self, reference: &reference::Reference, trained: &Trained) -> Vec<ReferenceRow> {
        let mut rows = reference.rows(trained);
        if !self.lectures_characters {
            rows.iter_mut().for_each(|row| row.reference = None);
        }
        rows
    }

    pub(super) fn say_what_the_lecture_used(&self, section: &mut firstsight_report::Section) {
        if self.lectures_characters {
            section.note(&format!(
                "The lecture's figures are Keras's on real handwriting of the same 55 characters, 25,764 training, 6,442 \
                 validation and 7,684 test images; ours are on {}.",
                self.source
            ));
        }
    }
}
