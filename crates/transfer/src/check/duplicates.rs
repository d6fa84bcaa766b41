//! Files of equal content, and pictures that look alike.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use firstsight_data::{Groups, near_pairs_of};

use super::finding::{Finding, FindingKind, Suggestion};
use super::images::CheckedImage;
use crate::Split;

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
pub(super) fn exact(images: &[CheckedImage]) -> Vec<u32> {
    let n = images.len() as u32;
    let content = |i: u32| images[i as usize].content;
    let mut by_content: Vec<u32> =
        (0..n).filter(|&i| images[i as usize].is_sound() && content(i).is_some()).collect();
    by_content.sort_unstable_by_key(|&i| content(i));
    let mut standing: Vec<u32> = (0..n).collect();
    for equal in by_content.chunk_by(|&a, &b| content(a) == content(b)) {
        let kept = equal.iter().copied().min_by_key(|&i| rank(images, i as usize));
        equal.iter().for_each(|&i| standing[i as usize] = kept.unwrap_or(i));
    }
    standing
}

/// Pairs of images that look alike but differ in content.
pub(super) fn near(images: &[CheckedImage], standing: &[u32]) -> Vec<Pair> {
    let hash = |i: usize| match &images[i].look {
        Ok(look) if standing[i] as usize == i => Some(&look.hash),
        _ => None,
    };
    let pairs = near_pairs_of(images.len(), hash).into_iter();
    pairs
        .map(|pair| Pair {
            first: pair.first,
            second: pair.second,
            distance: pair.distance,
            similarity: None,
        })
        .collect()
}

/// Of images that show the same the one of the least rank is to be kept: one for testing rather than for training, since what was
/// measured stays comparable; the larger one; the earlier one.
fn rank(images: &[CheckedImage], i: usize) -> (Option<usize>, Reverse<u64>, usize) {
    let image = &images[i];
    let split = [Split::Test, Split::Val, Split::Train].iter().position(|split| *split == image.split);
    let area = image.facts.map_or(0, |facts| u64::from(facts.width) * u64::from(facts.height));
    (split, Reverse(area), i)
}

/// The findings: one for each image that is not the one to keep, with the one that it is most like.
pub(super) fn findings(
    images: &[CheckedImage],
    standing: &[u32],
    near: &[Pair],
    of: impl Fn(usize, FindingKind, String) -> Finding,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let compared = |i: usize, other: usize, kind: FindingKind, reason: &str| {
        let theirs = of(other, kind, String::new());
        let place = match (images[i].split, images[other].split) {
            (here, there) if here == there => String::new(),
            (here, there) => format!(": one is in {}, the other in {}", here.name(), there.name()),
        };
        Finding {
            other: theirs.path,
            other_split: theirs.split,
            other_class: theirs.class,
            other_image: Some(other),
            ..of(i, kind, format!("{reason}{place}"))
        }
    };
    let label = |i: usize| images[i].target;
    let standing = || standing.iter().map(|&kept| kept as usize).enumerate();
    let with_copies: HashSet<usize> =
        standing().filter(|(i, kept)| kept != i).map(|(_, kept)| kept).collect();
    let copies = || standing().filter(|(_, kept)| with_copies.contains(kept));
    // Of files of one content under several labels, each is named with one that has another label.
    let mut with_label: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, kept) in copies() {
        let known = with_label.entry(kept).or_default();
        if known.iter().all(|&other| label(other) != label(i)) {
            known.push(i);
        }
    }
    for (i, kept) in copies() {
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
        let lesser =
            if rank(images, pair.first) < rank(images, pair.second) { pair.second } else { pair.first };
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
    findings
}

/// How a pair was found that the hash does not find.
fn by_features(pair: &Pair) -> String {
    pair.similarity.map(|similarity| format!(" (feature similarity {similarity:.3})")).unwrap_or_default()
}

/// For each image, a number that images share which are connected by equal content or by likeness.
pub(super) fn groups(standing: &[u32], near: &[Pair]) -> Groups {
    fn find(parent: &mut [u32], mut i: u32) -> u32 {
        while parent[i as usize] != i {
            parent[i as usize] = parent[parent[i as usize] as usize];
            i = parent[i as usize];
        }
        i
    }
    let mut parent = standing.to_vec();
    for pair in near {
        let (a, b) = (find(&mut parent, pair.first as u32), find(&mut parent, pair.second as u32));
        parent[a.max(b) as usize] = a.min(b);
    }
    Groups::new((0..parent.len() as u32).map(|i| find(&mut parent, i)))
}
