//! What the network would take for none of its classes.

use firstsight_report::{Section, number};

use crate::{Evaluation, Rejection, Thresholds};

/// The thresholds, and what they reject of images of the classes.
pub(super) fn none_of_these(
    section: &mut Section,
    name: &str,
    measured: &Evaluation,
    thresholds: &Thresholds,
) {
    let improbable = (thresholds.least_probability > 0.0)
        .then(|| format!("in which no class has a probability of {:.3}", thresholds.least_probability));
    let far = thresholds
        .largest_distance
        .map(|distance| format!("whose features are farther than {distance:.3} from those of every class"));
    let when: Vec<String> = improbable.into_iter().chain(far).collect();
    let (low, high) = thresholds.interval();
    section.text(&format!(
        "With `predict --reject`, an image {} is answered with 'none of \
         these'. The {} validation images set these thresholds so that about {} of new images of the classes are \
         accepted, with their true class among those of that probability (split conformal prediction; 95 % interval {} to {}); \
         `--reject=0.8` asks for another share.",
        when.join(", or "),
        number::count(thresholds.images as u64),
        number::percent(thresholds.coverage, 1),
        number::percent(low, 1),
        number::percent(high, 1),
    ));
    let rejections = measured.rejections(thresholds);
    let of = |reason: Rejection| rejections.iter().filter(|found| **found == Some(reason)).count();
    let (far, improbable) = (of(Rejection::FarFromAllClasses), of(Rejection::NoProbableClass));
    let wrong = |i: usize| measured.predictions.top(i).0 != measured.predictions.labels[i];
    let rejected_wrong = (0..rejections.len()).filter(|&i| wrong(i) && rejections[i].is_some()).count();
    section.text(&format!(
        "Of the {} {name} images, {} would be rejected: {far} as far from all classes, {improbable} for want of a probable \
         class. {rejected_wrong} of them are among the {} that are not recognized.",
        number::count(rejections.len() as u64),
        far + improbable,
        (0..rejections.len()).filter(|&i| wrong(i)).count(),
    ));
}
