use std::fs;

use firstsight_data::{DatasetFolder, Error, ImageFolder, Skipped};

use crate::support::{folder, write_image};

#[test]
fn classes_and_files_are_sorted_by_code_point() {
    // By code point Z < a < ä < 東 < 𠮷; by UTF-16 unit, as some file systems sort, 𠮷 would come before ﬁ.
    let root = folder(&[
        ("𠮷/1.png", 0),
        ("ﬁ/1.png", 0),
        ("東/10.png", 0),
        ("東/2.png", 0),
        ("東/1.PNG", 0),
        ("ä b/x.jpeg", 0),
        ("a/x.webp", 0),
        ("Z/x.bmp", 0),
    ]);
    let folder = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(folder.classes(), ["Z", "a", "ä b", "東", "ﬁ", "𠮷"]);
    let names: Vec<_> = folder.samples().iter().map(|s| s.path.strip_prefix(root.path()).unwrap()).collect();
    let names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(
        names,
        ["Z/x.bmp", "a/x.webp", "ä b/x.jpeg", "東/1.PNG", "東/10.png", "東/2.png", "ﬁ/1.png", "𠮷/1.png"]
    );
    assert_eq!(folder.labels(), [0, 1, 2, 3, 3, 3, 4, 5]);
    assert_eq!(folder.counts(), [1, 1, 1, 3, 1, 1]);
    assert!(folder.skipped().is_empty());
}

#[test]
fn what_is_no_image_of_a_class_is_listed() {
    let root = folder(&[
        ("a/1.png", 0),
        ("b/1.png", 0),
        (".hidden/1.png", 0),
        ("a/.1.png", 0),
        ("a/inner/1.png", 0),
    ]);
    let path = |name: &str| root.path().join(name);
    fs::write(path("readme.txt"), "").unwrap();
    fs::write(path("b/notes.txt"), "").unwrap();
    fs::write(path("b/png"), "").unwrap();
    fs::create_dir(path("b/2.png")).unwrap();
    let folder = ImageFolder::scan(root.path()).unwrap();
    let skipped = |name: &str, reason| Skipped { path: path(name), reason };
    assert_eq!(
        folder.skipped(),
        [
            skipped(".hidden", "hidden"),
            skipped("readme.txt", "not a class folder"),
            skipped("a/.1.png", "hidden"),
            skipped("a/inner", "a folder inside a class folder"),
            skipped("b/2.png", "named like an image, but not a file"),
            skipped("b/notes.txt", "not an image's extension"),
            skipped("b/png", "not an image's extension"),
        ]
    );
    assert_eq!(folder.len(), 2);
}

#[test]
fn a_subset_keeps_the_order_given_and_the_classes() {
    let root = folder(&[("a/1.png", 0), ("a/2.png", 0), ("b/1.png", 0)]);
    let subset = ImageFolder::scan(root.path()).unwrap().subset(&[2, 0]);
    assert_eq!(subset.labels(), [1, 0]);
    assert_eq!(subset.subset(&[1]).counts(), [1, 0]);
    assert_eq!(subset.subset(&[1]).classes(), ["a", "b"]);
}

#[test]
fn a_split_folder_may_be_named_in_any_case() {
    for names in [["Train", "Test", "val"], ["train", "TEST", "Validation"], ["TRAIN", "test", "Valid"]] {
        let root = tempfile::tempdir().unwrap();
        for (split, classes) in names.iter().zip([["a", "b", "c"].as_slice(), &["c"], &["a", "c"]]) {
            for class in classes {
                write_image(&root.path().join(split).join(class).join("1.png"), 0);
            }
        }
        fs::write(root.path().join("license.txt"), "").unwrap();
        let data = DatasetFolder::scan(root.path()).unwrap();
        let (val, test) = (data.val.unwrap(), data.test.unwrap());
        assert_eq!(data.train.labels(), [0, 1, 2]);
        assert_eq!((test.labels(), val.labels()), (&[2][..], &[0, 2][..]));
        assert_eq!((test.counts(), val.classes()), (vec![0, 0, 1], data.train.classes()));
        assert_eq!(data.train.skipped()[0].path, root.path().join("license.txt"));
    }
}

#[test]
fn a_folder_of_classes_is_all_training_even_if_one_is_called_train() {
    let root = folder(&[("bus/1.png", 0), ("train/1.png", 0)]);
    let data = DatasetFolder::scan(root.path()).unwrap();
    assert_eq!(data.train.classes(), ["bus", "train"]);
    assert!(data.val.is_none() && data.test.is_none());
}

#[test]
fn two_folders_of_one_split_are_refused() {
    let root =
        folder(&[("train/a/1.png", 0), ("train/b/1.png", 0), ("val/a/1.png", 0), ("validation/a/1.png", 0)]);
    let error = DatasetFolder::scan(root.path()).unwrap_err();
    assert!(matches!(&error, Error::AmbiguousSplit { split: "val", .. }), "{error}");
}

#[test]
fn classes_that_training_lacks_are_named() {
    let root =
        folder(&[("train/a/1.png", 0), ("train/b/1.png", 0), ("test/b/1.png", 0), ("test/虫/1.png", 0)]);
    let error = DatasetFolder::scan(root.path()).unwrap_err();
    assert!(matches!(&error, Error::UnknownClasses { unknown, .. } if unknown == &["虫"]), "{error}");
    assert!(error.to_string().contains("虫") && error.to_string().contains("train"), "{error}");
}

#[test]
fn an_empty_folder_and_a_missing_one_are_refused() {
    let root = tempfile::tempdir().unwrap();
    for error in [ImageFolder::scan(root.path()).unwrap_err(), DatasetFolder::scan(root.path()).unwrap_err()]
    {
        assert!(matches!(&error, Error::NoClasses { path } if path == root.path()), "{error}");
    }
    let missing = root.path().join("missing");
    let error = DatasetFolder::scan(&missing).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");
}

#[test]
fn a_class_without_images_is_refused() {
    let root = folder(&[("a/1.png", 0), ("b/1.png", 0)]);
    fs::create_dir(root.path().join("空")).unwrap();
    fs::write(root.path().join("空/notes.txt"), "").unwrap();
    let error = ImageFolder::scan(root.path()).unwrap_err();
    assert!(matches!(&error, Error::EmptyClass { class, .. } if class == "空"), "{error}");
}

#[test]
fn one_class_is_refused() {
    let root = folder(&[("only/1.png", 0), ("only/2.png", 0)]);
    let error = ImageFolder::scan(root.path()).unwrap_err();
    assert!(matches!(&error, Error::OneClass { class, .. } if class == "only"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_class_may_be_a_link_but_not_a_loop() {
    use std::os::unix::fs::symlink;

    let root = folder(&[("data/a/1.png", 0), ("elsewhere/b/1.png", 0)]);
    let data = root.path().join("data");
    symlink(root.path().join("elsewhere/b"), data.join("b")).unwrap();
    assert_eq!(ImageFolder::scan(&data).unwrap().classes(), ["a", "b"]);

    for target in ["c", ".", ".."] {
        let link = data.join("c");
        symlink(target, &link).unwrap();
        let error = ImageFolder::scan(&data).unwrap_err();
        assert!(matches!(&error, Error::SymlinkLoop { path } if *path == link), "{target}: {error}");
        fs::remove_file(link).unwrap();
    }

    symlink("nowhere", data.join("c")).unwrap();
    let error = ImageFolder::scan(&data).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == data.join("c")), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_class_name_that_is_not_unicode_is_refused() {
    use std::os::unix::ffi::OsStrExt;

    let root = folder(&[("a/1.png", 0)]);
    write_image(&root.path().join(std::ffi::OsStr::from_bytes(b"b\xff")).join("1.png"), 0);
    let error = ImageFolder::scan(root.path()).unwrap_err();
    assert!(matches!(error, Error::NotUnicode { .. }), "{error}");
}
