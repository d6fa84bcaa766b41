//! The figures of each class.

use firstsight_report::{Column, Section, Table, number};

use super::interval;
use crate::Evaluation;

/// Precision, recall and F1 of each class, and their averages.
pub(super) fn per_class(section: &mut Section, measured: &Evaluation) {
    let figures = measured.figures();
    let columns = [
        Column::text("class"),
        Column::number("images"),
        Column::number("precision"),
        Column::number("recall"),
        Column::number("its 95 % interval"),
        Column::number("F1"),
    ];
    let mut table = Table::new(
        "Precision: the share of the images called so that are so. Recall: the share of those that are so that are \
         called so. F1: their harmonic mean. The last row is the mean of the classes that occur",
        columns,
    );
    for class in figures.per_class {
        table.row([
            class.label.into(),
            class.n.into(),
            class.precision.into(),
            class.recall.into(),
            class.accuracy_interval.map(interval).into(),
            class.f1.into(),
        ]);
    }
    table.footer([
        "mean of the classes".into(),
        measured.images.len().into(),
        figures.macro_precision.into(),
        figures.macro_recall.into(),
        "".into(),
        figures.macro_f1.into(),
    ]);
    section.table(table);
    section.text(&format!(
        "The balanced accuracy, the mean recall of the classes that have images, is {}; the accuracy is {}.",
        number::percent(figures.balanced_accuracy, 1),
        number::percent(figures.figures.accuracy, 1)
    ));
}
