//! Classes that no training takes, classes with few images, and classes of very different sizes.

use firstsight_data::{DatasetFolder, ImageFolder, Task};

use super::finding::{Finding, FindingKind};
use super::images::{CheckedImage, parts};
use crate::Split;
use crate::splits::alike;

/// Images of a class below which little can be learned, and less be measured.
const FEW: usize = 10;
/// How many times as many images the largest class may have as the smallest.
const RATIO: usize = 10;

/// The findings, from the images that can be read.
pub(super) fn find(data: &DatasetFolder, images: &[CheckedImage]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some((_, first)) = data.splits().next() else { return findings };
    if first.targets().task() == Task::Regression {
        return findings;
    }
    unfit(first, &mut findings);
    for (split, folder) in parts(data) {
        sizes(split, folder, images, &mut findings);
    }
    findings
}

/// What [`Splits::check_classes`](crate::Splits::check_classes) refuses, in the training images or else the first split.
fn unfit(folder: &ImageFolder, findings: &mut Vec<Finding>) {
    let mut add = |class: &str, reason: String| {
        findings.push(Finding::new(FindingKind::UnfitClass, reason).of_class(class));
    };
    let classes = folder.classes();
    if let ([class], Task::SingleLabel) = (classes, folder.targets().task()) {
        add(class, format!("{class} is the only class"));
    }
    for (class, path) in folder.empty_classes() {
        add(class, format!("{class} has no image in {}", path.display()));
    }
    for (class, other) in alike(classes) {
        add(other, format!("'{class}' and '{other}' differ in letter case or blanks alone"));
    }
}

fn sizes(split: Split, folder: &ImageFolder, images: &[CheckedImage], findings: &mut Vec<Finding>) {
    let classes = folder.classes();
    let of_split = images.iter().filter(|image| image.split == split).enumerate();
    let sound: Vec<usize> = of_split.filter(|(_, image)| image.is_sound()).map(|(i, _)| i).collect();
    let counts = folder.targets().subset(&sound).counts(classes.len());
    for (class, &n) in classes.iter().zip(&counts) {
        let name = split.name();
        let reason = match (name, n) {
            (_, 0) => format!("{class} has no image in {name}"),
            ("train", 1) => format!("{class} has one image in train: nothing can be set aside"),
            ("train", 2..FEW) => format!("{class} has {n} images in train"),
            _ => continue,
        };
        let finding = Finding::new(FindingKind::SmallClass, reason).of_class(class).score(n as f64);
        findings.push(Finding { split: Some(name), ..finding });
    }
    let extremes =
        (0..counts.len()).min_by_key(|&c| counts[c]).zip((0..counts.len()).max_by_key(|&c| counts[c]));
    if let Some((least, most)) = extremes
        && counts[most] >= RATIO * counts[least].max(1)
    {
        let ratio = counts[most] as f64 / counts[least].max(1) as f64;
        let reason = format!(
            "{} has {} images of {} and {} of {}",
            split.name(),
            counts[most],
            classes[most],
            counts[least],
            classes[least]
        );
        let finding = Finding::new(FindingKind::Imbalance, reason).of_class(&classes[least]).score(ratio);
        findings.push(Finding { split: Some(split.name()), ..finding });
    }
}
