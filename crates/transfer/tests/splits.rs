//! Splits of folders, and their record. The files are named like images, and none is decoded.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use firstsight_data::{DatasetFolder, train_test_split};
use firstsight_transfer::{Duplicates, GroupBy, Runtime, SplitConfig, SplitRecord, Splits};
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, content) in files {
        write(root.path(), name, content);
    }
    root
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn numbered(n: usize) -> TempDir {
    let root = folder(&[]);
    for i in 0..n {
        write(root.path(), &format!("{}/{i:03}.png", ["ants", "bees"][i % 2]), &format!("image {i}"));
    }
    root
}

fn runtime() -> Runtime {
    Runtime::new(Device::Cpu)
}

fn record(root: &Path) -> SplitRecord {
    SplitRecord::new(&Splits::scan(root, 1).unwrap())
}

#[test]
fn scikit_learns_split_stays_index_for_index() {
    let root = numbered(50);
    let splits = Splits::scan_with(root.path(), SplitConfig::scikit_learn(123), &runtime()).unwrap();
    let (train, val) = train_test_split(50, 0.2, 123).unwrap();
    let all = DatasetFolder::scan(root.path()).unwrap().train.unwrap();
    assert_eq!(splits.train.samples(), all.subset(&train).samples());
    assert_eq!(splits.val.samples(), all.subset(&val).samples());
}

#[test]
fn the_short_form_sets_a_fifth_of_each_class_aside() {
    let root = numbered(50);
    let splits = Splits::scan(root.path(), 7).unwrap();
    assert_eq!((splits.train.counts(), splits.val.counts()), (vec![20, 20], vec![5, 5]));
    let same = Splits::scan_with(root.path(), SplitConfig::stratified(7), &runtime()).unwrap();
    assert_eq!(SplitRecord::new(&splits), SplitRecord::new(&same));
}

#[test]
fn a_record_is_the_same_when_it_is_read_again() {
    let root = numbered(20);
    write(root.path(), "ants/a, \"quoted\".png", "comma");
    let record = record(root.path());
    let path = root.path().join("split.csv");
    record.write(&path).unwrap();
    assert_eq!(SplitRecord::read(&path).unwrap(), record);
    assert_eq!(record.changes(&record), None);
    for (text, word) in [
        ("file,sha256,label,split\na.png,,ants,holdout\n", "holdout"),
        ("file,sha256,label,split\na.png,12,ants,val\n", "line 2"),
        ("file,label\na.png,ants\n", "line 1"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = SplitRecord::read(&path).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("split.csv"), "{error}");
    }
}

#[test]
fn changes_are_told_apart() {
    let root = numbered(20);
    let before = record(root.path());
    let changes = |change: &dyn Fn()| {
        change();
        before.changes(&record(root.path())).unwrap()
    };
    let path = |name: &str| root.path().join(name);
    let copied = changes(&|| {
        std::fs::copy(path("ants/000.png"), path("ants/copy.png")).unwrap();
    });
    assert_eq!(copied, "1 image added (first: ants/copy.png)");
    let moved = changes(&|| {
        std::fs::remove_file(path("ants/copy.png")).unwrap();
        std::fs::rename(path("ants/000.png"), path("bees/000.png")).unwrap();
    });
    assert_eq!(moved, "1 image moved or renamed (first: ants/000.png)");
    let changed = changes(&|| {
        std::fs::rename(path("bees/000.png"), path("ants/000.png")).unwrap();
        write(root.path(), "bees/001.png", "another");
    });
    assert_eq!(changed, "1 image changed (first: bees/001.png)");
    write(root.path(), "bees/001.png", "image 1");
    let other = SplitRecord::new(&Splits::scan(root.path(), 2).unwrap());
    assert!(before.changes(&other).unwrap().contains("in another split"));
}

#[test]
fn files_that_have_not_changed_are_not_read_again() {
    let root = numbered(20);
    let cache = tempfile::tempdir().unwrap();
    let runtime = runtime().cache(cache.path());
    let record =
        || SplitRecord::new(&Splits::scan_with(root.path(), SplitConfig::stratified(1), &runtime).unwrap());
    let hours_ago = |name: &str, hours: u64| {
        let file = std::fs::File::options().append(true).open(root.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600))
            .unwrap();
    };
    let first = record();
    // These were just written, so nothing is known for sure.
    write(root.path(), "ants/000.png", "IMAGE 0");
    let second = record();
    assert_eq!(first.changes(&second).unwrap(), "1 image changed (first: ants/000.png)");
    for i in 0..20 {
        hours_ago(&format!("{}/{i:03}.png", ["ants", "bees"][i % 2]), 1);
    }
    assert_eq!(record(), second);
    // The size is the same, the time is not.
    write(root.path(), "ants/000.png", "image 0");
    hours_ago("ants/000.png", 2);
    assert_eq!(record(), first);
    // Damage is no harm.
    let file = std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(file.extension().unwrap(), "hashes");
    std::fs::write(file, "some,words\n").unwrap();
    assert_eq!(record(), first);
}

#[test]
fn duplicates_are_found_in_order() {
    let root = folder(&[
        ("train/a/1.png", "x"),
        ("train/a/2.png", "y"),
        ("train/b/1.png", "x"),
        ("train/b/2.png", "z"),
        ("val/a/1.png", "y"),
        ("val/b/9.png", "v"),
        ("test/a/1.png", "y"),
        ("test/b/1.png", "v"),
        ("test/b/2.png", "new"),
    ]);
    let dataset = DatasetFolder::scan(root.path()).unwrap();
    let said = Duplicates::of(&dataset, &runtime()).sentences(root.path());
    assert_eq!(
        said,
        [
            "1 image of val is also in train (first: val/a/1.png is train/a/2.png)",
            "1 image of test is also in train (first: test/a/1.png is train/a/2.png)",
            "1 image of test is also in val (first: test/b/1.png is val/b/9.png)",
            "1 image has two labels (first: train/a/1.png is train/b/1.png)",
        ]
    );
}

#[test]
fn folds_hold_each_image_once_and_leave_test_images_alone() {
    let root = folder(&[]);
    for i in 0..12 {
        for class in ["a", "b"] {
            write(root.path(), &format!("train/{class}/p{}_{i}.png", i / 2), &format!("{class}{i}"));
        }
    }
    for class in ["a", "b"] {
        write(root.path(), &format!("val/{class}/p9_0.png"), &format!("val {class}"));
        write(root.path(), &format!("test/{class}/p8_0.png"), &format!("test {class}"));
    }
    let dataset = DatasetFolder::scan(root.path()).unwrap();
    let config = SplitConfig::stratified(3).grouped(GroupBy::new("^p([0-9]+)_"));
    let folds = Splits::folds(root.path(), dataset, &config, 3, &runtime()).unwrap();
    let mut seen = Vec::new();
    for fold in &folds {
        let names = |folder: &firstsight_data::ImageFolder| -> BTreeSet<_> {
            folder.samples().iter().map(|sample| sample.path()).collect()
        };
        assert!(names(&fold.train).is_disjoint(&names(&fold.val)));
        assert_eq!(fold.train.len() + fold.val.len(), 26);
        assert_eq!(fold.test.as_ref().unwrap().len(), 2);
        seen.extend(names(&fold.val));
    }
    assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (26, 26));
    assert_eq!(folds[1].describe(), "fold 2 of 3, seed 3");
}

#[test]
fn groups_are_in_one_of_the_splits_that_are_given() {
    let root = folder(&[]);
    for (split, first) in [("train", 0), ("val", 8), ("test", 12)] {
        for i in first..first + 4 {
            write(root.path(), &format!("{split}/{}/p{i}.png", ["a", "b"][i % 2]), &format!("{i}"));
        }
    }
    let config = SplitConfig::stratified(3).grouped(GroupBy::new("^p([0-9]+)"));
    let new = || {
        let dataset = DatasetFolder::scan(root.path()).unwrap();
        Splits::new(root.path(), dataset, config.clone(), &runtime()).map_err(|error| error.to_string())
    };
    let folds = || {
        let dataset = DatasetFolder::scan(root.path()).unwrap();
        Splits::folds(root.path(), dataset, &config, 2, &runtime()).map_err(|error| error.to_string())
    };
    assert!(new().is_ok() && folds().is_ok());
    let straddles = |file: &str, words: [&str; 2], is_fold: bool| {
        write(root.path(), file, "another");
        let error = if is_fold { folds().unwrap_err() } else { new().unwrap_err() };
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        std::fs::remove_file(root.path().join(file)).unwrap();
    };
    let first = "1 that are in both (first: 0)";
    straddles("val/a/p0.png", ["in training or in validation", first], false);
    straddles("test/a/p0.png", ["in training or in test", first], false);
    straddles("test/a/p8.png", ["in validation or in test", "(first: 8)"], false);
    straddles("test/a/p0.png", ["in training or in test", first], true);
    straddles("test/a/p8.png", ["in training or in test", "(first: 8)"], true);
}

#[test]
fn what_the_names_of_files_tell_is_refused_before_they_are_read() {
    let folder = numbered(20);
    let root = folder.path();
    let is_quiet = |of: &dyn Fn(DatasetFolder, &Runtime) -> Result<(), firstsight_transfer::Error>| {
        let reports = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&reports);
        let runtime = runtime().progress(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let refused = of(DatasetFolder::scan(root).unwrap(), &runtime).is_err();
        (refused, reports.load(Ordering::Relaxed) == 0)
    };
    let split = |pattern: &'static str| {
        is_quiet(&move |dataset, runtime| {
            let config = SplitConfig::stratified(1).grouped(GroupBy::new(pattern));
            Splits::new(root, dataset, config, runtime).map(|_| ())
        })
    };
    let folds = |k| {
        is_quiet(&move |dataset, runtime| {
            Splits::folds(root, dataset, &SplitConfig::stratified(1), k, runtime).map(|_| ())
        })
    };
    assert_eq!((split("("), split("^q"), folds(21)), ((true, true), (true, true), (true, true)));
    assert_eq!((split("^([0-9]+)"), folds(2)), ((false, false), (false, false)));
}

#[test]
fn a_class_in_one_group_cannot_be_cross_validated() {
    let root = folder(&[]);
    for i in 0..8 {
        write(root.path(), &format!("a/p{i}.png"), &format!("a{i}"));
        write(root.path(), &format!("b/q_{i}.png"), &format!("b{i}"));
    }
    let dataset = DatasetFolder::scan(root.path()).unwrap();
    let config = SplitConfig::stratified(3).grouped(GroupBy::new("^(p[0-9]+|q)"));
    let error = Splits::folds(root.path(), dataset, &config, 3, &runtime()).unwrap_err();
    assert!(error.to_string().contains("has no training image of class b"), "{error}");
}
