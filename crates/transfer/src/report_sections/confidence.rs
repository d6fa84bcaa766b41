//! Calibration.

use firstsight_report::{BarChart, Figure, Section, number};
use firstsight_train::Predictions;

use crate::figures::BINS;
use crate::{Evaluation, Result};

/// The calibration error and the reliability diagram, before and after temperature scaling.
pub(super) fn confidence(section: &mut Section, measured: &Evaluation, source: &str) -> Result<()> {
    let error = |predictions: &Predictions| predictions.expected_calibration_error(BINS);
    section.text(&format!(
        "The expected calibration error is {:.3}: so far, on average, the share of right predictions lies from the \
         confidence that they were made with.",
        error(&measured.predictions)
    ));
    let caption = "The reliability diagram: predictions by their confidence, with the share of them that is right. Where \
                   the bars differ, the confidence misleads";
    let before = reliability(&measured.predictions)?;
    let Some(temperature) = measured.temperature else {
        section.figure(Figure::new(before, caption, source));
        return Ok(());
    };
    let calibrated = measured.calibrated();
    section.text(&format!(
        "Dividing the logits by a temperature of {temperature:.2}, which suits the validation images best, makes it {:.3}, \
         and the loss {} instead of {}. No prediction changes, only its probability. `predict` gives these probabilities; \
         the figures above are those of the network itself.",
        error(&calibrated),
        number::decimal(calibrated.cross_entropy(), 4),
        number::decimal(measured.metrics.loss, 4)
    ));
    let after = reliability(&calibrated)?;
    section.figure_row(vec![
        Figure::new(before, caption, source),
        Figure::new(after, format!("The same at temperature {temperature:.2}"), source),
    ]);
    Ok(())
}

fn reliability(predictions: &Predictions) -> Result<BarChart> {
    let bins: Vec<_> = predictions.reliability(BINS).into_iter().filter(|bin| bin.n > 0).collect();
    let names = bins
        .iter()
        .map(|bin| format!("{} to {} ({})", number::percent(bin.from, 0), number::percent(bin.to, 0), bin.n));
    Ok(BarChart::new("confidence (images)", "share", names.collect::<Vec<_>>())
        .series("right", bins.iter().map(|bin| bin.accuracy.unwrap_or(f64::NAN)))?
        .series("mean confidence", bins.iter().map(|bin| bin.confidence.unwrap_or(f64::NAN)))?)
}
