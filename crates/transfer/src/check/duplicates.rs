//! Files of equal content, and pictures that look alike.

use std::collections::HashMap;

use firstsight_data::{Groups, ImageHash, near_pairs};

use super::finding::{Finding, FindingKind, Suggestion};
use super::images::CheckedImage;
use crate::ContentHash;

/// Images that show the same.
#[derive(Debug, Clone)]
pub(super) struct Duplicates {
    pub(super) findings: Vec<Finding>,
    /// For each image, a number that images of the same content or look share.
    pub(super) groups: Groups,
}

/// Two images that show the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) first: usize,
    pub(super) second: usize,
    /// Bits by which the hashes differ; the limit for pairs that features alone found.
    pub(super) distance: u32,
    /// The similarity of features, where they found the pair.
    pub(super) similarity: Option<f32>,
}

/// Images of equal content: for each the image that stands for them.
pub(super) fn exact(images: &[CheckedImage]) -> Vec<usize> {
    let mut first: HashMap<ContentHash, usize> = HashMap::new();
    let mut standing: Vec<usize> = (0..images.len()).collect();
    for (i, image) in images.iter().enumerate().filter(|(_, image)| image.is_sound()) {
        if let Some(content) = image.content {
            let kept = first.entry(content).or_insert(i);
            if is_kept_over(images, i, *kept) {
                *kept = i;
            }
        }
    }
    for (i, image) in images.iter().enumerate().filter(|(_, image)| image.is_sound()) {
        if let Some(kept) = image.content.and_then(|content| first.get(&content)) {
            standing[i] = *kept;
        }
    }
    standing
}

/// Pairs of images that look alike but differ in content.
pub(super) fn near(images: &[CheckedImage], standing: &[usize]) -> Vec<Pair> {
    let distinct: Vec<(usize, ImageHash)> = images
        .iter()
        .enumerate()
        .filter(|&(i, _)| standing[i] == i)
        .filter_map(|(i, image)| Some((i, image.look.as_ref().ok()?.hash)))
        .collect();
    let hashes: Vec<ImageHash> = distinct.iter().map(|(_, hash)| *hash).collect();
    let pairs = near_pairs(&hashes).into_iter();
    pairs
        .map(|pair| Pair {
            first: distinct[pair.first].0,
            second: distinct[pair.second].0,
            distance: pair.distance,
            similarity: None,
        })
        .collect()
}

/// Whether of two images that show the same the first is to be kept: one for testing rather than for training, since what was
/// measured stays comparable; the larger one; the earlier one.
fn is_kept_over(images: &[CheckedImage], a: usize, b: usize) -> bool {
    let rank = |i: usize| {
        let image = &images[i];
        let split = ["test", "val", "train"].iter().position(|split| *split == image.split);
        let area = image.facts.map_or(0, |facts| u64::from(facts.width) * u64::from(facts.height));
        (split, std::cmp::Reverse(area), i)
    };
    rank(a) < rank(b)
}

/// The findings: one for each image that is not the one to keep, with the one that it is most like.
pub(super) fn findings(
    images: &[CheckedImage],
    standing: &[usize],
    near: &[Pair],
    of: impl Fn(usize, FindingKind, String) -> Finding,
) -> Duplicates {
    let mut findings = Vec::new();
    let compared = |i: usize, other: usize, kind: FindingKind, reason: &str| {
        let theirs = of(other, kind, String::new());
        let place = match (images[i].split, images[other].split) {
            (here, there) if here == there => String::new(),
            (here, there) => format!(": one is in {here}, the other in {there}"),
        };
        Finding {
            other: theirs.path,
            other_split: theirs.split,
            other_class: theirs.class,
            other_image: Some(other),
            ..of(i, kind, format!("{reason}{place}"))
        }
    };
    let label = |i: usize| &images[i].target;
    // Of files of one content under several labels, each is named with one that has another label.
    let mut with_label: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, &kept) in standing.iter().enumerate() {
        let known = with_label.entry(kept).or_default();
        if known.iter().all(|&other| label(other) != label(i)) {
            known.push(i);
        }
    }
    for (i, &kept) in standing.iter().enumerate() {
        let other =
            with_label.get(&kept).and_then(|known| known.iter().find(|&&other| label(other) != label(i)));
        if let Some(&other) = other {
            let finding =
                compared(i, other, FindingKind::ConflictingLabels, "the same file under another label");
            findings.push(finding.suggest(Suggestion::Look).score(0.0));
        } else if kept != i {
            let finding = compared(i, kept, FindingKind::ExactDuplicate, "the same file");
            findings.push(finding.suggest(Suggestion::Remove).score(0.0));
        }
    }

    let mut nearest: HashMap<usize, Pair> = HashMap::new();
    let mut nearest_conflict: HashMap<usize, Pair> = HashMap::new();
    for &pair in near {
        let conflict = label(pair.first) != label(pair.second);
        let known = if conflict { &mut nearest_conflict } else { &mut nearest };
        let lesser = if is_kept_over(images, pair.first, pair.second) { pair.second } else { pair.first };
        let kept = known.entry(lesser).or_insert(pair);
        if pair.distance < kept.distance {
            *kept = pair;
        }
    }
    let sides = |i: usize, pair: &Pair| if pair.first == i { pair.second } else { pair.first };
    for (i, pair) in nearest_conflict {
        let reason = format!("nearly the same picture under another label{}", by_features(&pair));
        let finding = compared(i, sides(i, &pair), FindingKind::ConflictingLabels, &reason);
        findings.push(finding.suggest(Suggestion::Look).score(f64::from(pair.distance)));
    }
    for (i, pair) in nearest {
        let reason = format!("nearly the same picture{}", by_features(&pair));
        let finding = compared(i, sides(i, &pair), FindingKind::NearDuplicate, &reason);
        let fix = if finding.is_across_splits() { Suggestion::Remove } else { Suggestion::Look };
        findings.push(finding.suggest(fix).score(f64::from(pair.distance)));
    }
    Duplicates { findings, groups: groups(standing, near) }
}

/// How a pair was found that the hash does not find.
fn by_features(pair: &Pair) -> String {
    pair.similarity.map(|similarity| format!(" (feature similarity {similarity:.3})")).unwrap_or_default()
}

/// Images connected by equal content or by likeness.
fn groups(standing: &[usize], near: &[Pair]) -> Groups {
    fn find(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut parent = standing.to_vec();
    for pair in near {
        let (a, b) = (find(&mut parent, pair.first), find(&mut parent, pair.second));
        parent[a.max(b)] = a.min(b);
    }
    Groups::new((0..parent.len()).map(|i| find(&mut parent, i)))
}
