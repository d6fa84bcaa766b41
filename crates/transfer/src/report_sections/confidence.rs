//! Calibration.

use firstsight_report::{BarChart, Figure, Section, number};
use firstsight_train::Predictions;

use crate::Result;
use crate::figures::BINS;

/// The calibration error and the reliability diagram.
pub(super) fn confidence(section: &mut Section, predictions: &Predictions, source: &str) -> Result<()> {
    section.text(&format!(
        "The expected calibration error is {:.3}: so far, on average, the share of right predictions lies from the \
         confidence that they were made with.",
        predictions.expected_calibration_error(BINS)
    ));
    let caption = "The reliability diagram: predictions by their confidence, with the share of them that is right. Where \
                   the bars differ, the confidence misleads";
    section.figure(Figure::new(reliability(predictions)?, caption, source));
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
