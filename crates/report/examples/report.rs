//! A report with a table, a chart and a confusion matrix.

use firstsight_report::{Column, Figure, HeatMap, LineChart, Report, Series, Table, number};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut report = Report::new("Two characters");
    report
        .subtitle("A small network on 宁 and 它")
        .lead("Numbers from **one** run.")
        .facts(&[("parameters", number::count(88_375)), ("seed", "123".into())]);

    let mut scores = Table::new("The result", [Column::text("split"), Column::number("accuracy")]);
    scores.row(["validation".into(), 0.9216.into()]).highlighted_row(["test".into(), 0.9133.into()]);
    let train = Series::per_epoch("train", [0.61, 0.32, 0.21]);
    let validation = Series::per_epoch("validation", [0.66, 0.41, 0.44]);
    let curves = LineChart::new("epoch").panel("loss", vec![train, validation]).marker(2.0, "best epoch: 2");
    let confusion = HeatMap::confusion(["宁", "它"], [141, 9, 17, 133])?;
    report
        .section(Some("1"), "Training")
        .text("Images of `80 × 60` pixels.")
        .table(scores)
        .figure(Figure::new(curves, "Loss after each epoch.", "the training images"))
        .figure(Figure::new(confusion, "True and predicted characters.", "the test images"));

    report.write("report.html".as_ref())?;
    Ok(())
}
