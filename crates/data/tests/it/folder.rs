use std::fs;

use firstsight_data::SkipReason::{
    BrokenLink, Empty, Hidden, Junk, NoClass, NoSplit, NotAnImage, Repeated, UnknownClass, Unsupported,
};
use firstsight_data::{DatasetFolder, Error, Exif, ImageFolder, Skipped, scan_images};

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
    let names: Vec<_> =
        folder.samples().iter().map(|s| s.path().strip_prefix(root.path()).unwrap().to_owned()).collect();
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
fn what_is_no_image_of_a_class_is_listed_with_its_reason() {
    let root = folder(&[("a/1.png", 0), ("b/1.png", 0), (".hidden/1.png", 0), ("a/.1.png", 0), ("1.png", 0)]);
    let path = |name: &str| root.path().join(name);
    for junk in
        ["__MACOSX/a", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "a/@eaDir"]
    {
        write_image(&path(junk).join("1.png"), 0);
    }
    fs::write(path("readme.txt"), "words").unwrap();
    fs::write(path("b/Thumbs.db"), "").unwrap();
    fs::write(path("b/notes.txt"), "BM is how a bitmap begins").unwrap();
    fs::write(path("b/empty"), "").unwrap();
    fs::write(path("b/1.jpg.crdownload"), "").unwrap();
    fs::write(path("b/x.heic"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();
    fs::write(path("b/renamed.jpg"), b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif").unwrap();
    fs::write(path("b/x.CR2"), b"II*\0raw").unwrap();
    let folder = ImageFolder::scan(root.path()).unwrap();
    let skipped = |name: &str, reason| Skipped { path: path(name), reason };
    assert_eq!(
        folder.skipped(),
        [
            skipped("$RECYCLE.BIN", Junk),
            skipped(".hidden", Hidden),
            skipped("1.png", NoClass),
            skipped("@eaDir", Junk),
            skipped("System Volume Information", Junk),
            skipped("__MACOSX", Junk),
            skipped("a/.1.png", Hidden),
            skipped("a/@eaDir", Junk),
            skipped("b/1.jpg.crdownload", Junk),
            skipped("b/Thumbs.db", Junk),
            skipped("b/empty", Empty),
            skipped("b/notes.txt", NotAnImage),
            skipped("b/renamed.jpg", Unsupported("AVIF")),
            skipped("b/x.CR2", Unsupported("raw photo")),
            skipped("b/x.heic", Unsupported("HEIC")),
            skipped("lost+found", Junk),
            skipped("readme.txt", NotAnImage),
        ]
    );
    assert_eq!(folder.len(), 2);
    let said = folder.remarks().join("\n");
    assert!(said.starts_with("left out 17 of 19 files in "), "{said}");
    for part in [
        "1 HEIC file (b/x.heic)",
        "2 that are no image (b 1)",
        "2 hidden (a 1)",
        "1 outside of class folders (1.png)",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn plain_words_are_classes_and_only_files_are_unfinished() {
    let root = folder(&[
        ("Organic/1.png", 0),
        ("Recycled/1.png", 0),
        ("recycler/1.png", 0),
        ("spare.part/1.png", 0),
    ]);
    let unfinished = root.path().join("spare.part/2.PNG.part");
    fs::write(&unfinished, "").unwrap();
    let folder = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(folder.classes(), ["Organic", "Recycled", "recycler", "spare.part"]);
    assert_eq!(folder.skipped(), [Skipped { path: unfinished, reason: Junk }]);
}

#[test]
fn images_are_told_by_content_at_any_depth() {
    let names =
        ["a/1.jpg?width=640", "a/2.jpg.1", "a/m0007", "a/x/y/1.png", "a/x/notes.txt", "b/2.png/1.png"];
    let root = folder(&names.map(|name| (name, 0)));
    let folder = ImageFolder::scan(root.path()).unwrap();
    assert_eq!((folder.counts(), folder.skipped()), (vec![5, 1], &[][..]));
}

#[test]
fn a_file_that_is_only_named_like_an_image_is_left_to_decoding() {
    let root = folder(&[("a/1.png", 0)]);
    let path = |name: &str| root.path().join(name);
    for name in ["a/empty.png", "a/404.jpg?width=640", "a/PAGE.JPG.2"] {
        fs::write(path(name), if name.contains("empty") { "" } else { "<!DOCTYPE html>" }).unwrap();
    }
    let folder = ImageFolder::scan(root.path()).unwrap();
    assert_eq!((folder.len(), folder.skipped()), (4, &[][..]));
    let unreadable =
        folder.each_dimensions(Exif::Ignore).iter().filter(|dimensions| dimensions.is_err()).count();
    assert_eq!(unreadable, 3);
}

#[test]
fn class_names_are_composed_and_folders_of_one_name_are_one_class() {
    let (composed, decomposed) = ("Spr\u{fc}nge", "Spru\u{308}nge");
    let root = folder(&[("Z/1.png", 0)]);
    write_image(&root.path().join(decomposed).join("1.png"), 0);
    let scanned = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(scanned.classes(), [composed, "Z"]);
    assert!(scanned.remarks().is_empty());

    write_image(&root.path().join(composed).join("2.png"), 0);
    if fs::read_dir(root.path()).unwrap().count() < 3 {
        println!("skipped: the file system composes names itself");
        return;
    }
    let scanned = ImageFolder::scan(root.path()).unwrap();
    assert_eq!((scanned.classes().len(), scanned.counts()), (2, vec![2, 1]));
    assert!(scanned.remarks()[0].contains("one class"), "{:?}", scanned.remarks());

    let (mapped, unknown) = scanned.with_classes(&["Z".to_owned(), decomposed.to_owned()]);
    assert_eq!((mapped.counts(), unknown), (vec![1, 2], vec![]));
}

#[test]
fn labels_follow_a_networks_classes_and_the_others_are_left_out() {
    let root = folder(&[("bees/1.png", 0), ("wasps/1.png", 0), ("wasps/2.png", 0), ("ants/1.png", 0)]);
    let network = ["hornets", "bees", "ants"].map(str::to_owned);
    let (mapped, unknown) = ImageFolder::scan(root.path()).unwrap().with_classes(&network);
    assert_eq!((mapped.labels(), mapped.counts()), (&[2, 1][..], vec![0, 1, 1]));
    assert_eq!((mapped.classes(), unknown), (&network[..], vec!["wasps".to_owned()]));
    assert_eq!(mapped.skipped().iter().filter(|skipped| skipped.reason == UnknownClass).count(), 2);
    assert!(mapped.remarks()[0].contains("2 of classes that the network doesn't know (wasps)"));
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
    for names in [
        ["Train", "Test", "val"],
        ["train", "TEST", "Validation"],
        ["TRAIN", "test", "Valid"],
        ["Training", "Testing", "dev"],
    ] {
        let root = tempfile::tempdir().unwrap();
        for (split, classes) in names.iter().zip([["a", "b", "c"].as_slice(), &["c"], &["a", "c"]]) {
            for class in classes {
                write_image(&root.path().join(split).join(class).join("1.png"), 0);
            }
        }
        fs::write(root.path().join("license.txt"), "").unwrap();
        let data = DatasetFolder::scan(root.path()).unwrap();
        let (val, test) = (data.val.unwrap(), data.test.unwrap());
        let train = data.train.unwrap();
        assert_eq!(train.labels(), [0, 1, 2]);
        assert_eq!((test.labels(), val.labels()), (&[2][..], &[0, 2][..]));
        assert_eq!((test.counts(), val.classes()), (vec![0, 0, 1], train.classes()));
        assert_eq!(data.skipped, [Skipped { path: root.path().join("license.txt"), reason: NoSplit }]);
    }
}

#[test]
fn a_folder_of_classes_is_all_training_even_if_one_is_called_train() {
    let root = folder(&[("bus/1.png", 0), ("train/1.png", 0)]);
    let data = DatasetFolder::scan(root.path()).unwrap();
    assert_eq!(data.classes(), ["bus", "train"]);
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
        assert!(matches!(&error, Error::NoClasses { path, .. } if path == root.path()), "{error}");
    }
    for (class, words) in [("a", "1 folder without images, "), ("b", "2 folders without images, ")] {
        fs::create_dir(root.path().join(class)).unwrap();
        fs::write(root.path().join("notes.txt"), "").unwrap();
        let error = ImageFolder::scan(root.path()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let missing = root.path().join("missing");
    let error = DatasetFolder::scan(&missing).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");
}

#[test]
fn a_class_without_images_is_refused_for_training() {
    let root = folder(&[("a/1.png", 0), ("b/1.png", 0)]);
    fs::create_dir(root.path().join("空")).unwrap();
    fs::write(root.path().join("空/notes.txt"), "").unwrap();
    let scanned = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(scanned.classes(), ["a", "b"]);
    let error = scanned.check_for_training().unwrap_err();
    assert!(matches!(&error, Error::EmptyClass { class, .. } if class == "空"), "{error}");
}

#[test]
fn one_class_is_scanned_but_refused_for_training() {
    let root = folder(&[("only/1.png", 0), ("only/2.png", 0)]);
    let scanned = DatasetFolder::scan(root.path()).unwrap();
    assert_eq!(scanned.train.as_ref().unwrap().counts(), [2]);
    let error = scanned.check_for_training().unwrap_err();
    assert!(matches!(&error, Error::OneClass { class, .. } if class == "only"), "{error}");
}

#[test]
fn a_test_split_alone_is_scanned_but_refused_for_training() {
    let root = folder(&[("test/ants/1.png", 0), ("test/bees/1.png", 0)]);
    let data = DatasetFolder::scan(root.path()).unwrap();
    assert_eq!(data.test.as_ref().unwrap().classes(), ["ants", "bees"]);
    assert!(data.train.is_none() && data.val.is_none());
    let error = data.check_for_training().unwrap_err();
    assert!(matches!(&error, Error::NoTraining { found, .. } if found == &["test"]), "{error}");

    // With validation images of other classes, both have the classes of both.
    write_image(&root.path().join("val/cats/1.png"), 0);
    let data = DatasetFolder::scan(root.path()).unwrap();
    assert_eq!(data.val.unwrap().counts(), [0, 0, 1]);
    assert_eq!(data.test.unwrap().counts(), [1, 1, 0]);
}

#[test]
fn an_empty_class_of_a_held_out_split_is_a_missing_one() {
    let root = folder(&[("train/a/1.png", 0), ("train/b/1.png", 0), ("val/b/1.png", 0)]);
    fs::create_dir(root.path().join("val/a")).unwrap();
    fs::create_dir(root.path().join("val/never heard of")).unwrap();
    let data = DatasetFolder::scan(root.path()).unwrap();
    data.check_for_training().unwrap();
    assert_eq!(data.val.as_ref().unwrap().counts(), [0, 1]);
    assert!(
        data.remarks().iter().any(|said| said.starts_with("class a has no image")),
        "{:?}",
        data.remarks()
    );

    fs::remove_file(root.path().join("val/b/1.png")).unwrap();
    let data = DatasetFolder::scan(root.path()).unwrap();
    assert!(data.val.is_none() && data.train.is_some());
}

#[test]
fn a_test_folder_of_unlabeled_images_is_left_out_and_said() {
    let root = folder(&[("train/a/1.png", 0), ("train/b/1.png", 0), ("test/1.png", 0), ("test/2.png", 0)]);
    let data = DatasetFolder::scan(root.path()).unwrap();
    assert!(data.train.is_some() && data.test.is_none());
    assert!(data.remarks()[0].contains("found 2 outside of class folders"), "{:?}", data.remarks());
}

#[test]
fn splits_of_unlabeled_images_are_no_classes() {
    let root = folder(&[("train/1.png", 0), ("train/2.png", 0), ("test/3.png", 0)]);
    let error = DatasetFolder::scan(root.path()).unwrap_err();
    assert!(matches!(&error, Error::NoClasses { .. }), "{error}");
    assert!(error.to_string().contains("train has no class folders with images: found 2 outside"), "{error}");
}

#[test]
fn images_without_class_folders_are_counted_in_the_error() {
    let root = folder(&[("1.png", 0), ("2.png", 0)]);
    let error = DatasetFolder::scan(root.path()).unwrap_err().to_string();
    assert!(error.ends_with("found 2 outside of class folders"), "{error}");
}

#[test]
fn a_folder_that_holds_nothing_but_another_is_that_one() {
    for (inner, names) in [
        ("photos", ["photos/a/1.png", "photos/b/1.png"]),
        ("x/y", ["x/y/a/1.png", "x/y/b/1.png"]),
        ("x", ["x/train/a/1.png", "x/train/b/1.png"]),
    ] {
        let root = folder(&names.map(|name| (name, 0)));
        fs::create_dir(root.path().join("__MACOSX")).unwrap();
        let data = DatasetFolder::scan(root.path()).unwrap();
        assert_eq!(data.classes(), ["a", "b"], "{inner}");
        assert!(data.remarks().iter().any(|said| said.contains("holds nothing but the folder")), "{inner}");
    }
    let root = folder(&[("train/train/a/1.png", 0), ("train/train/b/1.png", 0), ("val/val/a/1.png", 0)]);
    let data = DatasetFolder::scan(root.path()).unwrap();
    assert_eq!((data.classes().len(), data.val.unwrap().counts()), (2, vec![1, 0]));
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_no_folder_is_counted_twice() {
    use std::os::unix::fs::symlink;

    let root = folder(&[("data/z/1.png", 0), ("elsewhere/b/1.png", 0), ("elsewhere/b/deep/2.png", 0)]);
    let data = root.path().join("data");
    symlink(root.path().join("elsewhere/b"), data.join("b")).unwrap();
    symlink(data.join("z/1.png"), data.join("b/linked.png")).unwrap();
    // Back to itself, to folders above, to a folder that counts under its own name, and to nowhere.
    for (target, link) in
        [("c", "c"), (".", "d"), ("..", "e"), ("z", "a"), ("../elsewhere/b", "f"), ("nowhere", "g")]
    {
        symlink(target, data.join(link)).unwrap();
    }
    symlink("nowhere.png", data.join("z/2.png")).unwrap();
    let folder = ImageFolder::scan(&data).unwrap();
    assert_eq!((folder.classes(), folder.counts()), (&["b", "z"].map(str::to_owned)[..], vec![3, 2]));
    let reasons: Vec<_> = folder
        .skipped()
        .iter()
        .map(|skipped| (skipped.path.file_name().unwrap().to_str().unwrap(), skipped.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            ("a", Repeated),
            ("c", BrokenLink),
            ("d", Repeated),
            ("e", Repeated),
            ("f", Repeated),
            ("g", BrokenLink)
        ]
    );
    // A photo that isn't there is unreadable.
    assert_eq!(
        folder.each_dimensions(Exif::Ignore).iter().filter(|dimensions| dimensions.is_err()).count(),
        1
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_opened() {
    let root = folder(&[("a/1.png", 0)]);
    let pipe = root.path().join("a/2.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let folder = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(folder.skipped(), [Skipped { path: pipe, reason: NotAnImage }]);
}

#[test]
fn images_without_labels_are_the_same_files() {
    let root =
        folder(&[("in/b/1.png", 0), ("in/a/x", 0), ("in/a/.ipynb_checkpoints/1.png", 0), ("in/3.png", 0)]);
    let path = |name: &str| root.path().join(name);
    fs::write(path("in/a/._1.png"), "\0\x05\x16\x07").unwrap();
    fs::write(path("in/a/bad.png"), "").unwrap();
    fs::write(path("named.txt"), "").unwrap();
    let named = [path("named.txt"), path("in"), path("in/b"), path("in/3.png"), path("named.txt")];
    let found = scan_images(&named).unwrap();
    let names: Vec<_> = found
        .samples
        .iter()
        .map(|s| s.path().strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned())
        .collect();
    // Files as often as they are named, folders once.
    assert_eq!(
        names,
        ["named.txt", "in/3.png", "in/a/bad.png", "in/a/x", "in/b/1.png", "in/3.png", "named.txt"]
    );
    assert_eq!(found.skipped.len(), 2);
    assert!(found.remarks[0].contains("left out 2 of 6 files"), "{:?}", found.remarks);

    fs::create_dir(path("empty")).unwrap();
    fs::write(path("empty/notes.txt"), "words").unwrap();
    let error = scan_images(&[path("empty")]).unwrap_err();
    assert!(
        matches!(&error, Error::NoImages { .. }) && error.to_string().contains("1 that is no image"),
        "{error}"
    );
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

#[test]
fn runs_and_reports_are_no_classes() {
    let root = folder(&[
        ("a/1.png", 0),
        ("b/1.png", 0),
        ("run/pictures/1.png", 0),
        ("folds/fold-1/1.png", 0),
        ("checkpoint/1.png", 0),
        ("visualize/1.png", 0),
        ("pages/1.png", 0),
    ]);
    for (name, text) in [
        ("run/config.json", "{}"),
        ("run/split.csv", ""),
        ("folds/cross-validation.json", "{}"),
        ("checkpoint/last.safetensors", ""),
        (
            "visualize/report.html",
            "<meta name=\"color-scheme\" content=\"light dark\" />\n<title>Firstsight: seen</title>",
        ),
        ("pages/report.html", "<title>Bees of Kent</title>"),
    ] {
        fs::write(root.path().join(name), text).unwrap();
    }
    let data = DatasetFolder::scan(root.path()).unwrap();
    assert_eq!(data.classes(), ["a", "b", "pages"]);
    let said = data.remarks().join("\n");
    assert!(said.contains("9 files of runs or reports"), "{said}");
    assert_eq!(scan_images(&[root.path().to_owned()]).unwrap().samples.len(), 3);
}

#[test]
fn every_picture_that_is_not_read_is_an_image_without_labels() {
    let root = folder(&[("1.png", 0)]);
    for name in ["2.psd", "3.tga", "4.ico", "5.cr2", "6.svg", "7.nef"] {
        fs::copy(root.path().join("1.png"), root.path().join(name)).unwrap();
    }
    fs::write(root.path().join("2.psd"), "8BPS").unwrap();
    fs::write(root.path().join("3.tga"), [0, 0, 2, 0]).unwrap();
    fs::write(root.path().join("4.ico"), [0, 0, 1, 0]).unwrap();
    fs::write(root.path().join("6.svg"), "<svg/>").unwrap();
    fs::write(root.path().join("notes.txt"), "words").unwrap();
    let found = scan_images(&[root.path().to_owned()]).unwrap();
    assert_eq!(found.samples.len(), 7);
    let settings = firstsight_data::DecodeSettings::gray(4, 4);
    let read = |sample: &firstsight_data::Sample| {
        firstsight_data::decode_bytes(&sample.path(), &sample.read().unwrap(), &settings).is_ok()
    };
    assert_eq!(found.samples.iter().filter(|sample| read(sample)).count(), 1);
}
