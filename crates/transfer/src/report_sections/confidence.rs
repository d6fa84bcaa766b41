//! Calibration.

use firstsight_report::{BarChart, Figure, Section, number};
use firstsight_train::Calibrated;

use crate::figures::BINS;
use crate::{Evaluation, Result};

/// The calibration error and the reliability diagram, before and after temperature scaling.
pub(super) fn confidence(section: &mut Section, measured: &Evaluation, source: &str) -> Result<()> {
    let own = measured.predictions.calibrated(None);
    let error = |predictions: Calibrated<'_>| predictions.expected_calibration_error(BINS);
    section.text(&format!(
        "On average, confidence and accuracy differ by {:.3} ({BINS} bins): the expected calibration error.",
        error(own)
    ));
    let caption = "The reliability diagram: predictions by their confidence, with the share of them that is right. Where \
                   the bars differ, the confidence misleads";
    let before = reliability(own)?;
    let Some(temperature) = measured.temperature else {
        section.text(
            "There is no temperature: it would not help. Learned from four fifths of the validation images it does not clearly \
             lower the loss of the other fifth, or there is no mistake among them to learn it from. `predict` gives the \
             network's own probabilities.",
        );
        section.figure(Figure::new(before, caption, source));
        return Ok(());
    };
    let calibrated = measured.calibrated();
    let figures = |predictions: Calibrated<'_>, loss: f64| {
        (format!("{:.3}", error(predictions)), number::decimal(loss, 4))
    };
    let (own, scaled) =
        (figures(own, measured.metrics.loss), figures(calibrated, calibrated.cross_entropy()));
    let effect = match own == scaled {
        true => "changes neither this nor the loss here".to_owned(),
        false if own.1 == scaled.1 => format!("makes it {}; the loss stays {}", scaled.0, own.1),
        false => format!("makes it {}, and the loss {} instead of {}", scaled.0, scaled.1, own.1),
    };
    section.text(&format!(
        "Dividing the logits by a temperature of {temperature:.2}, which suits the validation images best, {effect}. No \
         prediction changes, only its probability. `predict` gives these probabilities; the figures above are those of the \
         network itself.",
    ));
    let after = reliability(calibrated)?;
    section.figure_row(vec![
        Figure::new(before, caption, source),
        Figure::new(after, format!("The same at temperature {temperature:.2}"), source),
    ]);
    Ok(())
}

fn reliability(predictions: Calibrated<'_>) -> Result<BarChart> {
    let bins: Vec<_> = predictions.reliability(BINS).into_iter().filter(|bin| bin.n > 0).collect();
    let names = bins
        .iter()
        .map(|bin| format!("{} to {} ({})", number::percent(bin.from, 0), number::percent(bin.to, 0), bin.n));
    Ok(BarChart::new("confidence (images)", "share", names.collect::<Vec<_>>())
        .series("right", bins.iter().map(|bin| bin.accuracy.unwrap_or(f64::NAN)))?
        .series("mean confidence", bins.iter().map(|bin| bin.confidence.unwrap_or(f64::NAN)))?)
}
