//! Classes with few images, and classes of very different sizes.

use firstsight_data::DatasetFolder;

use super::finding::{Finding, FindingKind};
use super::images::CheckedImage;

/// Images of a class below which little can be learned, and less be measured.
const FEW: usize = 10;
/// How many times as many images the largest class may have as the smallest.
const RATIO: usize = 10;

/// The findings, from the images that can be read.
pub(super) fn find(data: &DatasetFolder, images: &[CheckedImage]) -> Vec<Finding> {
    let classes = data.classes();
    let mut findings = Vec::new();
    for (split, _) in data.splits() {
        let mut counts = vec![0usize; classes.len()];
        let sound = images.iter().filter(|image| image.split == split && image.is_sound());
        for label in sound.filter_map(|image| image.label) {
            counts[label as usize] += 1;
        }
        for (class, &n) in classes.iter().zip(&counts) {
            let reason = match (split, n) {
                (_, 0) => format!("{class} has no image in {split}"),
                ("train", 1) => format!("{class} has one image in train: nothing can be set aside"),
                ("train", 2..FEW) => format!("{class} has {n} images in train"),
                _ => continue,
            };
            let finding = Finding::new(FindingKind::SmallClass, reason).of_class(class).score(n as f64);
            findings.push(Finding { split: Some(split), ..finding });
        }
        let extremes =
            (0..counts.len()).min_by_key(|&c| counts[c]).zip((0..counts.len()).max_by_key(|&c| counts[c]));
        if let Some((least, most)) = extremes
            && counts[most] >= RATIO * counts[least].max(1)
        {
            let ratio = counts[most] as f64 / counts[least].max(1) as f64;
            let reason = format!(
                "{split} has {} images of {} and {} of {}",
                counts[most], classes[most], counts[least], classes[least]
            );
            let finding = Finding::new(FindingKind::Imbalance, reason).of_class(&classes[least]).score(ratio);
            findings.push(Finding { split: Some(split), ..finding });
        }
    }
    findings
}
