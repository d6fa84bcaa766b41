//! Splits and folds with every class and whole groups.

use std::collections::BTreeSet;

use firstsight_data::{Groups, Labels, stratified_folds};
use proptest::prelude::*;

/// Of one class for each example.
fn stratified_split(
    labels: &[u32],
    groups: &Groups,
    share: f64,
    seed: u32,
) -> firstsight_data::Result<(Vec<usize>, Vec<usize>)> {
    firstsight_data::stratified_split(&Labels::Class(labels.to_vec()), groups, share, seed)
}

fn of_class(side: &[usize], labels: &[u32], class: u32) -> usize {
    side.iter().filter(|&&i| labels[i] == class).count()
}

fn labels(per_class: &[usize]) -> Vec<u32> {
    (0..).zip(per_class).flat_map(|(class, &n)| std::iter::repeat_n(class, n)).collect()
}

#[test]
fn a_rare_class_is_on_both_sides_whatever_the_seed() {
    for rare in [2, 3, 5] {
        let labels = labels(&[40, rare]);
        for seed in 0..500 {
            let (train, val) = stratified_split(&labels, &Groups::single(labels.len()), 0.2, seed).unwrap();
            assert_eq!((of_class(&train, &labels, 0), of_class(&val, &labels, 0)), (32, 8));
            assert_eq!((of_class(&train, &labels, 1), of_class(&val, &labels, 1)), (rare - 1, 1));
        }
    }
}

#[test]
fn a_class_of_one_image_stays_in_training() {
    let labels = labels(&[10, 1]);
    for seed in 0..100 {
        let (train, val) = stratified_split(&labels, &Groups::single(11), 0.2, seed).unwrap();
        assert_eq!((of_class(&train, &labels, 1), val.len()), (1, 2));
    }
    let lonely = stratified_split(&[0, 1, 2], &Groups::single(3), 0.2, 1).unwrap_err();
    assert!(lonely.to_string().contains("validation images: expected a class of two images"), "{lonely}");
    let groups = Groups::new(["x", "x", "y"]);
    let lonely = stratified_split(&[0, 0, 1], &groups, 0.2, 1).unwrap_err();
    assert!(lonely.to_string().contains("found 3 images in 2 groups"), "{lonely}");
}

#[test]
fn a_split_follows_from_its_seed_and_each_image_may_be_set_aside() {
    let labels = labels(&[20, 20]);
    let split = |seed| stratified_split(&labels, &Groups::single(40), 0.2, seed).unwrap().1;
    assert_eq!(split(7), split(7));
    let set_aside: BTreeSet<usize> = (0..60).flat_map(split).collect();
    assert_eq!(set_aside.len(), 40);
}

#[test]
fn classes_keep_their_shares_with_groups_of_unequal_size() {
    // 60 patients with 1 to 9 photos, each of one class.
    let sizes: Vec<usize> = (0..60).map(|i| 1 + i * 7 % 9).collect();
    let groups = Groups::new((0..60).flat_map(|patient| vec![patient; sizes[patient]]));
    let labels: Vec<u32> = groups.numbers().iter().map(|patient| (patient % 3) as u32).collect();
    for seed in 0..50 {
        let (train, val) = stratified_split(&labels, &groups, 0.2, seed).unwrap();
        for class in 0..3 {
            let (t, v) = (of_class(&train, &labels, class), of_class(&val, &labels, class));
            let share = v as f64 / (t + v) as f64;
            assert!((share - 0.2).abs() < 0.03, "seed {seed}, class {class}: {share}");
        }
    }
}

#[test]
fn a_class_in_two_groups_is_on_both_sides_although_its_groups_are_large() {
    // Class 1 has two groups, of 30 and of 20 images; class 0 has fifty single ones.
    let groups = Groups::new((0..50).chain(vec![100; 30]).chain(vec![101; 20]));
    let labels = labels(&[50, 50]);
    for seed in 0..50 {
        let (train, val) = stratified_split(&labels, &groups, 0.2, seed).unwrap();
        assert_eq!((of_class(&train, &labels, 1), of_class(&val, &labels, 1)), (30, 20), "seed {seed}");
    }
}

#[test]
fn one_group_cannot_be_split() {
    assert!(stratified_split(&[0, 0, 1, 1], &Groups::new(["a"; 4]), 0.2, 1).is_err());
    for (k, groups) in [(1, 6), (7, 6), (3, 2)] {
        let groups = Groups::new((0..6).map(|i| i % groups));
        let error = stratified_folds(&Labels::Class(vec![0, 0, 0, 1, 1, 1]), &groups, k, 1).unwrap_err();
        assert!(error.to_string().starts_with("folds: expected"), "{error}");
    }
    for share in [0.0, 1.0, -0.5, f64::NAN] {
        assert!(stratified_split(&[0, 0, 1, 1], &Groups::single(4), share, 1).is_err());
    }
}

#[test]
fn a_share_above_one_half_keeps_training_images() {
    let labels = labels(&[10, 2, 1]);
    let (train, val) = stratified_split(&labels, &Groups::single(13), 0.7, 3).unwrap();
    assert_eq!([0, 1, 2].map(|class| of_class(&train, &labels, class)), [3, 1, 1]);
    assert_eq!([0, 1, 2].map(|class| of_class(&val, &labels, class)), [7, 1, 0]);
}

#[test]
fn folds_share_out_each_class_evenly() {
    let labels = labels(&[23, 10, 3]);
    let folds = stratified_folds(&Labels::Class(labels.clone()), &Groups::single(36), 5, 9).unwrap();
    for fold in &folds {
        let [a, b, c] = [0, 1, 2].map(|class| of_class(fold, &labels, class));
        assert!((4..=5).contains(&a) && b == 2 && c <= 1, "{a} {b} {c}");
        assert!((7..=8).contains(&fold.len()), "{}", fold.len());
    }
}

#[test]
fn each_of_several_labels_is_on_both_sides() {
    // 60 images: label 0 on half of them, 1 on a third, 2 on two, none on the rest.
    let labels = |i: usize| {
        let has = [i.is_multiple_of(2), i.is_multiple_of(3), i == 7 || i == 11];
        (0..3).filter(|&class| has[class as usize]).collect::<Vec<u32>>()
    };
    let labels = Labels::MultiLabel((0..60).map(labels).collect());
    for seed in 0..50 {
        let (train, val) =
            firstsight_data::stratified_split(&labels, &Groups::single(60), 0.2, seed).unwrap();
        let (train, val) = (labels.subset(&train).counts(3), labels.subset(&val).counts(3));
        assert_eq!((train[2], val[2]), (1, 1), "seed {seed}");
        assert!((5..=7).contains(&val[0]) && (3..=5).contains(&val[1]), "seed {seed}: {val:?}");
    }
}

#[test]
fn numbers_are_set_aside_over_their_whole_range() {
    let values: Vec<f32> = (0..100).map(|i| (i * 37 % 100) as f32).collect();
    for seed in 0..50 {
        let labels = Labels::Value(values.clone());
        let (_, val) = firstsight_data::stratified_split(&labels, &Groups::single(100), 0.2, seed).unwrap();
        let mut tenths: Vec<usize> = val.iter().map(|&i| values[i] as usize / 10).collect();
        tenths.sort_unstable();
        assert_eq!(tenths, (0..20).map(|i| i / 2).collect::<Vec<_>>(), "seed {seed}");
    }
    let few = Labels::Value(vec![1.0, 2.0, 3.0]);
    let (train, val) = firstsight_data::stratified_split(&few, &Groups::single(3), 0.2, 1).unwrap();
    assert_eq!((train.len(), val.len()), (2, 1));
}

fn examples() -> impl Strategy<Value = (Vec<u32>, Vec<usize>)> {
    (2usize..80).prop_flat_map(|n| (prop::collection::vec(0u32..4, n), prop::collection::vec(0usize..20, n)))
}

proptest! {
    #[test]
    fn groups_never_straddle_and_nothing_is_lost((labels, keys) in examples(), seed in 0u32..1000, k in 2usize..6) {
        let groups = Groups::new(&keys);
        if let Ok((train, val)) = stratified_split(&labels, &groups, 0.25, seed) {
            let keys_of = |side: &[usize]| side.iter().map(|&i| keys[i]).collect::<BTreeSet<_>>();
            prop_assert!(keys_of(&train).is_disjoint(&keys_of(&val)));
            let all: BTreeSet<usize> = train.iter().chain(&val).copied().collect();
            prop_assert_eq!(all.len(), labels.len());
            prop_assert_eq!(train.len() + val.len(), labels.len());
        }
        if let Ok(folds) = stratified_folds(&Labels::Class(labels.clone()), &groups, k, seed) {
            let mut all: Vec<usize> = folds.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            for key in &keys {
                prop_assert_eq!(folds.iter().filter(|fold| fold.iter().any(|&i| keys[i] == *key)).count(), 1);
            }
        }
    }

    #[test]
    fn joined_groups_are_the_finest_that_hold_both(pairs in prop::collection::vec((0u8..12, 0u8..12), 1..60)) {
        let (a, b): (Vec<u8>, Vec<u8>) = pairs.iter().copied().unzip();
        let joined = Groups::new(&a).joined(&Groups::new(&b));
        // The same by repeated merging.
        let mut expected: Vec<usize> = (0..pairs.len()).collect();
        for _ in 0..pairs.len() {
            for i in 0..pairs.len() {
                for j in 0..pairs.len() {
                    if a[i] == a[j] || b[i] == b[j] {
                        let low = expected[i].min(expected[j]);
                        (expected[i], expected[j]) = (low, low);
                    }
                }
            }
        }
        let expected = Groups::new(expected);
        prop_assert_eq!(joined.numbers(), expected.numbers());
    }
}
