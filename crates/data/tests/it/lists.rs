//! Images that are named by tables, Parquet files, archives and patterns.

use std::fs;
use std::path::Path;

use firstsight_data::{
    ColorMode, DatasetFolder, DecodeSettings, Error, ImageDataset, ImageFolder, Labels, OnError, ScanOptions,
    SkipReason, Task, scan_images, scan_images_with,
};

use crate::support::{folder, golden, settings};

fn none() -> ScanOptions {
    ScanOptions::default()
}

fn names(folder: &ImageFolder) -> Vec<String> {
    folder
        .samples()
        .iter()
        .map(|sample| sample.path().file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// The gray of each image.
fn grays(folder: &ImageFolder) -> Vec<u8> {
    let images = ImageDataset::decode(folder, &settings(4, 5, ColorMode::Gray)).unwrap();
    (0..images.len()).map(|i| images.image(i).unwrap()[0]).collect()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// An archive of the members in their order. A number is an image of that gray.
fn shard(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, content) in members {
        let mut image = std::io::Cursor::new(Vec::new());
        let content = match content {
            [gray] if name.to_lowercase().ends_with("png") => {
                let pixels = image::GrayImage::from_pixel(5, 4, image::Luma([*gray]));
                pixels.write_to(&mut image, image::ImageFormat::Png).unwrap();
                image.get_ref()
            }
            text => *text,
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.finish().unwrap();
}

/// The message that a folder or file is refused with.
fn refusal(path: &Path, options: &ScanOptions) -> String {
    DatasetFolder::scan_with(path, options).unwrap_err().to_string()
}

#[test]
fn a_table_names_images_labels_and_splits() {
    let root = folder(&[("in/1.png", 1), ("in/2.png", 2), ("3.png", 3), ("in/4.png", 4)]);
    let path = root.path().join("photos.csv");
    for text in [
        "path,label,split,claim\nin/1.png,cat,train,17\nin/2.png,dog,train,18\n3.png,dog,val,19\nin/4.png,cat,test,17\n",
        "\u{feff}Claim;Split;FILE_NAME;Class\r\n17;Train;in/1.png;cat\r\n18;train;in\\2.png;dog\r\n19;validation;3.png;dog\r\n17;TEST;in/4.png;cat\r\n",
        "claim\tsubset\timage\ttarget\n17\ttrain\tin/1.png\tcat\n18\ttrain\tin/2.png\tdog\n19\tdev\t3.png\tdog\n17\ttest\tin/4.png\tcat\n",
    ] {
        write(&path, text);
        let data = DatasetFolder::scan(&path).unwrap();
        assert_eq!(data.classes(), ["cat", "dog"], "{text}");
        let (train, val, test) = (data.train.unwrap(), data.val.unwrap(), data.test.unwrap());
        assert_eq!((train.labels(), val.labels(), test.labels()), (&[0, 1][..], &[1][..], &[0][..]));
        assert_eq!((grays(&train), grays(&val), grays(&test)), (vec![1, 2], vec![3], vec![4]));
        let claim = test.samples()[0].cell("claim").or(test.samples()[0].cell("Claim"));
        assert_eq!(claim, Some("17"));
    }
    // Without splits all rows are training images, in the table's order.
    let table = root.path().join("tables/photos.jsonl");
    write(
        &table,
        "{\"file_name\": \"in/2.png\", \"label\": \"dog\"}\n\n{\"label\": \"cat\", \"file_name\": \"in/1.png\", \"more\": 1}\n",
    );
    let options = ScanOptions { images: Some(root.path().to_owned()), ..none() };
    let data = DatasetFolder::scan_with(&table, &options).unwrap();
    assert_eq!(
        (names(data.train.as_ref().unwrap()), data.classes()),
        (["2.png", "1.png"].map(str::to_owned).to_vec(), &["cat", "dog"].map(str::to_owned)[..])
    );
    assert!(data.val.is_none() && data.test.is_none());
    // The same images without their labels.
    let found = scan_images_with(&[table.clone(), root.path().join("3.png")], &options).unwrap();
    assert_eq!(found.samples.len(), 3);
    let error = DatasetFolder::scan(&table).unwrap_err();
    assert!(
        matches!(&error, Error::NoImages { found, .. } if found.contains("no file at any of its 2 paths")),
        "{error}"
    );
}

#[test]
fn labels_of_a_table_may_be_several_or_numbers() {
    let root = folder(&[("1.png", 1), ("2.png", 2), ("3.png", 3)]);
    let path = root.path().join("photos.csv");
    write(
        &path,
        "path,label,cost,dent,scratch\n1.png,dent|scratch,120,1,1\n2.png,,99.5,0,0\n3.png,dent,7,1,0\n",
    );
    let scan = |options: &ScanOptions| DatasetFolder::scan_with(&path, options).unwrap().train.unwrap();
    let expected = Labels::MultiLabel(vec![vec![0, 1], vec![], vec![0]]);
    let found = scan(&none());
    assert_eq!((found.classes(), found.targets()), (&["dent", "scratch"].map(str::to_owned)[..], &expected));
    let flags = scan(&ScanOptions { label_columns: vec!["dent".into(), "scratch".into()], ..none() });
    assert_eq!(flags.targets(), &expected);
    let cost = ScanOptions { label_columns: vec!["cost".into()], task: Some(Task::Regression), ..none() };
    let found = scan(&cost);
    assert_eq!(
        (found.classes(), found.targets()),
        (&["cost".to_owned()][..], &Labels::Value(vec![120.0, 99.5, 7.0]))
    );
    DatasetFolder::scan_with(&path, &cost).unwrap().check_for_training().unwrap();
}

#[test]
fn a_wrong_table_is_refused_with_its_line() {
    let root = folder(&[("1.png", 1)]);
    let path = root.path().join("photos.csv");
    for (text, line, words) in [
        ("", 1, "a header"),
        ("picture,label\n1.png,cat\n", 1, "a column called path"),
        ("path,kind\n1.png,cat\n", 1, "a column called label"),
        ("path,label\n1.png,cat\n1.png\n", 3, "2 fields"),
        ("path,label\n1.png,cat\n2.png,\n", 3, "the name of a class"),
        ("path,label\n1.png,cat\n,cat\n", 3, "the path of an image"),
        ("path,label,split\n1.png,cat,train\n1.png,cat,all\n", 3, "train, val or test"),
    ] {
        write(&path, text);
        let error = DatasetFolder::scan(&path).unwrap_err();
        let message = error.to_string();
        assert!(matches!(&error, Error::Csv { line: found, .. } if *found == line), "{text}: {message}");
        assert!(message.contains(words) && message.contains("photos.csv"), "{text}: {message}");
    }
    fs::write(&path, b"path,label\n1.png,caf\xe9\n").unwrap();
    let error = DatasetFolder::scan(&path).unwrap_err();
    assert!(matches!(&error, Error::Csv { line: 2, expected, .. } if expected == "UTF-8"), "{error}");
    let table = root.path().join("photos.jsonl");
    write(&table, "{\"path\": \"1.png\", \"label\": \"cat\"}\n[1]\n");
    let error = DatasetFolder::scan(&table).unwrap_err();
    assert!(matches!(&error, Error::Csv { line: 2, expected, .. } if expected == "a JSON object"), "{error}");
}

#[test]
fn a_missing_file_of_a_table_is_an_unreadable_image() {
    let root = folder(&[("1.png", 1)]);
    let path = root.path().join("photos.csv");
    write(&path, "path,label\n1.png,cat\ngone.png,cat\n");
    let train = DatasetFolder::scan(&path).unwrap().train.unwrap();
    assert_eq!(train.len(), 2);
    let error = ImageDataset::decode(&train, &settings(4, 5, ColorMode::Gray)).unwrap_err();
    assert!(error.to_string().contains("gone.png"), "{error}");

    // Also with a cache, which doesn't remember it.
    let cache = firstsight_data::CacheFolder::new(root.path().join("cache"));
    let skip = DecodeSettings { on_error: OnError::Skip, ..settings(4, 5, ColorMode::Gray) };
    for n in [1, 2] {
        let options = firstsight_data::DecodeOptions { cache: Some(&cache), ..Default::default() };
        assert_eq!(ImageDataset::decode_with(&train, &skip, options).unwrap().len(), n);
        fs::copy(root.path().join("1.png"), root.path().join("gone.png")).unwrap();
    }
}

#[test]
fn a_table_may_name_images_without_the_ends_of_their_names() {
    let root = folder(&[("train/ab12.png", 1)]);
    let path = root.path().join("photos.csv");
    write(&path, "id,breed\nab12,pug\n");
    let images = root.path().join("train");
    let options = ScanOptions { images: Some(images), label_columns: vec!["breed".into()], ..none() };
    let train = DatasetFolder::scan_with(&path, &options).unwrap().train.unwrap();
    assert_eq!((names(&train), train.classes()), (vec!["ab12.png".to_owned()], &["pug".to_owned()][..]));
}

#[test]
fn another_file_is_refused_with_what_is_taken() {
    let root = folder(&[("1.png", 1)]);
    let error = DatasetFolder::scan(&root.path().join("1.png")).unwrap_err().to_string();
    assert!(error.contains("expected a folder, a table (.csv"), "{error}");
    fs::write(root.path().join("photos.zip"), "PK").unwrap();
    let error = DatasetFolder::scan(&root.path().join("photos.zip")).unwrap_err().to_string();
    assert!(error.ends_with("a ZIP archive: unpack it"), "{error}");
}

#[test]
fn a_folders_metadata_is_such_a_table() {
    let root = folder(&[("1.png", 1), ("2.png", 2)]);
    write(&root.path().join("metadata.csv"), "file_name,label\n2.png,b\n1.png,a\n");
    let train = DatasetFolder::scan(root.path()).unwrap().train.unwrap();
    assert_eq!((grays(&train), train.labels()), (vec![2, 1], &[1, 0][..]));
}

/// Those that name no split are training images, whichever line names the first.
#[test]
fn objects_of_a_table_may_have_other_names() {
    let root = folder(&[("1.png", 1), ("2.png", 2), ("3.png", 3)]);
    let path = root.path().join("photos.jsonl");
    let lines = [
        r#"{"path": "1.png", "label": "x"}"#,
        r#"{"label": "x", "path": "2.png", "split": "test"}"#,
        r#"{"path": "3.png", "label": "x", "farm": 7}"#,
    ];
    write(&path, &lines.join("\n"));
    let data = DatasetFolder::scan(&path).unwrap();
    let (train, test) = (data.train.unwrap(), data.test.unwrap());
    assert_eq!((train.len(), test.len()), (2, 1));
    let farm =
        |folder: &ImageFolder| folder.samples().iter().map(|s| s.cell("farm").map(str::to_owned)).collect();
    let farms: Vec<Option<String>> = farm(&train);
    assert_eq!(farms, [None, Some("7".to_owned())]);
}

#[test]
fn options_that_the_data_have_no_use_for_are_refused() {
    let classes = folder(&[("cat/1.png", 1), ("dog/2.png", 2)]);
    let path = classes.path().with_extension("tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    archive.append_dir_all("", classes.path()).unwrap();
    archive.finish().unwrap();
    let several = ScanOptions { label_columns: vec!["a".into(), "b".into()], ..none() };
    let one = ScanOptions { label_columns: vec!["a".into()], ..none() };
    let images = ScanOptions { images: Some("elsewhere".into()), ..none() };
    let pattern = ScanOptions { label_from: Some("([0-9])".to_owned()), ..none() };
    let table = classes.path().join("flags.csv");
    write(&table, "path,a,b\ncat/1.png,0,1\ndog/2.png,1,0\n");
    let task = |task| ScanOptions { task: Some(task), ..none() };
    for (path, options, words) in [
        (path.as_path(), &several, "label column: expected one for tar archives, found a,b"),
        (&golden("lists/words.parquet"), &several, "expected one for a Parquet file, found a,b"),
        (classes.path(), &one, "found a for the class folders of"),
        (classes.path(), &images, "images: expected a table"),
        (classes.path(), &task(Task::Regression), "task: expected a table"),
        (classes.path(), &task(Task::MultiLabel), "for the class folders of"),
        (path.as_path(), &images, "images: expected a table to be read with it, found elsewhere for "),
        (&golden("lists/words.parquet"), &images, "images: expected a table"),
        (&golden("lists/animals"), &images, "images: expected a table"),
        (
            classes.path(),
            &ScanOptions { images: images.images.clone(), ..pattern.clone() },
            "images: expected",
        ),
        (
            classes.path(),
            &ScanOptions { label_columns: vec!["a".into()], ..pattern },
            "none beside labels from",
        ),
        (
            &table,
            &ScanOptions { task: Some(Task::SingleLabel), ..several.clone() },
            "task: expected multi-label for",
        ),
        (&table, &ScanOptions { task: Some(Task::Regression), ..several.clone() }, "found regression"),
    ] {
        let error = DatasetFolder::scan_with(path, options).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    DatasetFolder::scan_with(classes.path(), &task(Task::SingleLabel)).unwrap();
    DatasetFolder::scan_with(&table, &ScanOptions { task: Some(Task::MultiLabel), ..several.clone() })
        .unwrap();
    for named in [&path, classes.path(), &classes.path().join("cat/1.png"), &golden("lists/words.parquet")] {
        let error = scan_images_with(&[named.to_owned()], &images).unwrap_err().to_string();
        assert!(error.contains("images: expected a table"), "{error}");
    }
    // A folder that is missing is the first thing to say.
    let error =
        DatasetFolder::scan_with(&classes.path().join("nosuch"), &task(Task::Regression)).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn labels_come_from_a_pattern_of_the_names() {
    let root = folder(&[("train/great_dane_1.png", 1), ("train/cat_2.png", 2), ("test/cat_3.png", 3)]);
    let options = |pattern: &str| ScanOptions { label_from: Some(pattern.to_owned()), ..none() };
    let data = DatasetFolder::scan_with(root.path(), &options(r"^(.+)_\d+\.png$")).unwrap();
    assert_eq!(data.classes(), ["cat", "great_dane"]);
    assert_eq!((data.train.unwrap().counts(), data.test.unwrap().counts()), (vec![1, 1], vec![1, 0]));
    // One without a folder is of the name alone.
    let error = DatasetFolder::scan_with(root.path(), &options("^(train|test)")).unwrap_err().to_string();
    assert!(error.contains("3 of 3 that it doesn't match"), "{error}");
    // A pattern with a folder is of the path, and a table may have it too.
    let data = DatasetFolder::scan_with(root.path(), &options("^(train|test)/")).unwrap_err();
    assert!(matches!(&data, Error::UnknownClasses { .. }), "{data}");
    let table = root.path().join("photos.csv");
    write(&table, "path\ntrain/cat_2.png\ntest/cat_3.png\n");
    assert_eq!(DatasetFolder::scan_with(&table, &options("_([0-9])")).unwrap().classes(), ["2", "3"]);

    // One label, whatever signs are in it.
    let signs = folder(&[("a;b-1.png", 1)]);
    let data = DatasetFolder::scan_with(signs.path(), &options("^(.+)-")).unwrap();
    assert_eq!(data.classes(), ["a;b"]);

    for (pattern, words) in [("^(great)", "2 of 3"), ("cat", "with a group"), ("(", "with a group")] {
        let error = DatasetFolder::scan_with(root.path(), &options(pattern)).unwrap_err();
        assert!(error.to_string().contains(words), "{pattern}: {error}");
    }
}

#[test]
fn parquet_files_have_images_and_the_names_of_their_classes() {
    let data = DatasetFolder::scan(&golden("lists/animals")).unwrap();
    assert_eq!(data.classes(), ["ant", "bee"]);
    let (train, test) = (data.train.unwrap(), data.test.unwrap());
    assert_eq!(train.labels(), [0, 1, 0, 1, 0, 1, 0, 1, 1]);
    assert_eq!(grays(&train), (0..9).collect::<Vec<u8>>());
    assert_eq!((test.labels(), grays(&test)), (&[1, 0][..], vec![20, 21]));
    assert_eq!((&*names(&train)[8], train.samples()[8].cell("nest")), ("9-8.png", Some("e")));
    // One image at a time, from any row.
    let last = train.subset(&[8, 3]);
    assert_eq!(grays(&last), [8, 3]);

    let file = golden("lists/animals/data/test-00000-of-00001.parquet");
    assert_eq!(DatasetFolder::scan(&file).unwrap().test.unwrap().len(), 2);
    assert_eq!(scan_images(&[file]).unwrap().samples.len(), 2);
}

#[test]
fn parquet_files_may_hold_several_labels_words_and_gaps() {
    let several = DatasetFolder::scan(&golden("lists/labels.parquet")).unwrap().train.unwrap();
    assert_eq!(several.classes(), ["wasp", "ant", "bee"]);
    assert_eq!(several.targets(), &Labels::MultiLabel(vec![vec![1, 2], vec![], vec![0]]));

    let words = DatasetFolder::scan(&golden("lists/words.parquet")).unwrap().train.unwrap();
    assert_eq!((words.classes(), words.labels()), (&["ant", "bee"].map(str::to_owned)[..], &[0, 1, 1][..]));
    assert_eq!(grays(&words.subset(&[0, 2])), [7, 9]);
    let error = words.samples()[1].read().unwrap_err().to_string();
    assert!(error.contains("words.parquet/2") && error.contains("no image in this row"), "{error}");

    let error = DatasetFolder::scan_with(
        &golden("lists/words.parquet"),
        &ScanOptions { label_columns: vec!["kind".into()], ..none() },
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("expected a column `kind`, found the columns image, label"),
        "{error}"
    );
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cut.parquet");
    let whole = fs::read(golden("lists/words.parquet")).unwrap();
    fs::write(&path, &whole[..whole.len() - 30]).unwrap();
    let error = DatasetFolder::scan(&path).unwrap_err();
    assert!(matches!(&error, Error::Archive { path: found, .. } if *found == path), "{error}");
}

#[test]
fn rows_that_name_an_image_again_count_once_or_contradict() {
    let root = folder(&[("1.png", 1), ("2.png", 2), ("3.png", 3)]);
    let path = root.path().join("photos.csv");
    write(&path, "path,label\n1.png,cat\n2.png,dog\n./1.png,cat\n3.png,dog\n2.png,dog\n");
    let data = DatasetFolder::scan(&path).unwrap();
    assert_eq!(names(data.train.as_ref().unwrap()), ["1.png", "2.png", "3.png"]);
    let note = format!("2 rows name an image again in {} (first: line 4, as line 2)", path.display());
    assert!(data.remarks()[0].starts_with(&note), "{:?}", data.remarks());
    // Whoever asks for predictions gets one for each row.
    assert_eq!(scan_images(std::slice::from_ref(&path)).unwrap().samples.len(), 5);

    write(&path, "path,label\n1.png,cat\n2.png,dog\n1.png,dog\n");
    let error = DatasetFolder::scan(&path).unwrap_err().to_string();
    let words = ["photos.csv line 4", "the labels of line 2", "1.png, \"cat\", found \"dog\""];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");

    // Where a split is missing it is training; no label is another one than some.
    for (rows, found) in [
        ("1.png,cat,\n1.png,dog,train", "dog"),
        ("1.png,cat|dog,\n1.png,,", ""),
        ("1.png,,\n1.png,cat|dog,", "cat|dog"),
    ] {
        write(&path, &format!("path,label,split\n2.png,cat,train\n{rows}\n"));
        let error = DatasetFolder::scan(&path).unwrap_err().to_string();
        assert!(error.contains("line 4: ") && error.ends_with(&format!("found {found:?}")), "{error}");
    }
    write(&path, "path,label,split\n1.png,cat,\n1.png,cat,train\n1.png,cat,val\n2.png,dog,train\n");
    let data = DatasetFolder::scan(&path).unwrap();
    assert_eq!((data.train.unwrap().len(), data.val.unwrap().len()), (2, 1));
}

#[cfg(unix)]
#[test]
fn links_in_archives_are_left_out_with_a_reason() {
    let root = folder(&[("a/1.png", 1), ("b/2.png", 2)]);
    fs::hard_link(root.path().join("a/1.png"), root.path().join("a/9.png")).unwrap();
    std::os::unix::fs::symlink("2.png", root.path().join("b/3.png")).unwrap();
    let path = root.path().join("photos.tar");
    let mut pack = std::process::Command::new("tar");
    pack.arg("-cf").arg(&path).arg("-C").arg(root.path()).args(["a/1.png", "a/9.png", "b"]);
    if !pack.status().is_ok_and(|status| status.success()) {
        println!("skipped: there is no tar");
        return;
    }
    let data = DatasetFolder::scan(&path).unwrap();
    assert_eq!(grays(data.train.as_ref().unwrap()), [1, 2]);
    let reasons: Vec<SkipReason> = data.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [SkipReason::ArchiveLink; 2]);
    assert!(data.remarks()[0].contains("2 links in archives"), "{:?}", data.remarks());
}

#[test]
fn shards_are_read_without_unpacking() {
    let data = DatasetFolder::scan(&golden("lists/shards")).unwrap();
    assert_eq!(data.classes(), ["ant", "bee"]);
    let (train, val) = (data.train.as_ref().unwrap(), data.val.as_ref().unwrap());
    assert_eq!((train.labels(), grays(train)), (&[0, 1, 0, 1][..], vec![0, 1, 99, 3]));
    assert_eq!((val.labels(), grays(val)), (&[1][..], vec![4]));
    let name = train.samples()[0].path();
    assert!(name.ends_with("animals-train-000000.tar/a/0000.png"), "{}", name.display());
    assert!(train.samples()[0].cell("json").unwrap().contains("nest"));
    assert!(data.remarks().is_empty(), "{:?}", data.remarks());
}

#[test]
fn text_beside_images_of_shards_is_utf_8() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("photos.tar");
    // Characters over the ends of the first 32 and 512 bytes; text that begins as a bitmap does; a mark.
    let json = |n: usize| format!("{{\"caption\":\"{}\",\"label\":\"日本\"}}", "x".repeat(n));
    let over = (460..512).map(json).find(|json| !json.is_char_boundary(512)).unwrap();
    let bmw = format!("BMW{} 系列", "-".repeat(27));
    assert!(!bmw.is_char_boundary(32));
    shard(
        &path,
        &[
            ("1.json", over.as_bytes()),
            ("1.png", &[1]),
            ("2.cls", bmw.as_bytes()),
            ("2.png", &[2]),
            ("3.cls", b"\xef\xbb\xbfcat"),
            ("3.png", &[3]),
        ],
    );
    let data = DatasetFolder::scan(&path).unwrap();
    assert_eq!(data.classes(), [bmw.as_str(), "cat", "日本"]);
    let train = data.train.unwrap();
    assert_eq!((train.labels(), grays(&train)), (&[2, 0, 1][..], vec![1, 2, 3]));
    assert_eq!(train.samples()[0].cell("json"), Some(over.as_str()));

    let photos = folder(&[("a/1.png", 1)]);
    write(&photos.path().join("a/notes.txt"), &bmw);
    assert_eq!(DatasetFolder::scan(photos.path()).unwrap().train.unwrap().len(), 1);

    let long = vec![b'x'; (1 << 20) + 1];
    for (text, words) in [
        (&b"caf\xe9"[..], "1.cls: expected UTF-8, found another encoding"),
        (&long, "1.cls: expected at most 1048576 bytes"),
    ] {
        shard(&path, &[("1.cls", text), ("1.png", &[1])]);
        let error = refusal(&path, &none());
        assert!(error.contains("photos.tar/") && error.contains(words), "{error}");
        // What no image has is no matter.
        shard(&path, &[("notes.txt", text), ("a/1.png", &[1])]);
        assert_eq!(DatasetFolder::scan(&path).unwrap().classes(), ["a"]);
    }
}

#[test]
fn a_missing_or_broken_label_of_shards_is_no_folders_name() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("photos.tar");
    let label = br#"{"label": "cat"}"#;
    let column = ScanOptions { label_columns: vec!["breeed".into()], ..none() };
    for (json, options, words) in [
        (&br#"{"label": "c"#[..], none(), "data/2.json: expected JSON, found EOF while parsing"),
        (br#"{"caption": "a cat"}"#, none(), "data/2.png: expected a label, as "),
        (label, column.clone(), "data/1: expected a label called breeed, found json, label"),
        (br#""cat""#, column, "data/1: expected a label called breeed, found json"),
    ] {
        let members =
            [("data/1.json", &label[..]), ("data/1.png", &[1]), ("data/2.json", json), ("data/2.png", &[2])];
        shard(&path, &members);
        let error = refusal(&path, &options);
        assert!(error.contains("photos.tar/") && error.contains(words), "{error}");
        // Nothing asks for the labels.
        assert_eq!(scan_images(std::slice::from_ref(&path)).unwrap().samples.len(), 2);
        let pattern = ScanOptions { label_from: Some("([0-9])".to_owned()), ..none() };
        assert_eq!(DatasetFolder::scan_with(&path, &pattern).unwrap().classes(), ["1", "2"]);
    }
    // Class folders whose images have something else beside them; their names are no numbers of classes.
    write(&root.path().join("classes.txt"), "ant\nbee\n");
    shard(&path, &[("1/a.png", &[1]), ("1/a.json", b"{\"width\": 5}"), ("7/b.png", &[2])]);
    assert_eq!(DatasetFolder::scan(&path).unwrap().classes(), ["1", "7"]);
}

#[test]
fn a_mask_is_no_image_wherever_it_lies_in_a_shard() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("photos.tar");
    shard(
        &path,
        &[
            ("1.depth.png", &[9]),
            ("1.png", &[1]),
            ("1.cls", b"a"),
            ("2.PNG", &[2]),
            ("2.seg.png", &[9]),
            ("2.cls", b"b"),
        ],
    );
    let data = DatasetFolder::scan(&path).unwrap();
    assert_eq!(grays(data.train.as_ref().unwrap()), [1, 2]);
    let second: Vec<_> = data.skipped.iter().map(|skipped| (skipped.path.clone(), skipped.reason)).collect();
    assert_eq!(second, ["1.depth.png", "2.seg.png"].map(|name| (path.join(name), SkipReason::Second)));
}

#[test]
fn numbers_of_classes_stand_for_the_names_beside_shards() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("photos.tar");
    let classes = |text: &str| write(&root.path().join("classes.txt"), text);
    shard(&path, &[("1.png", &[1]), ("1.cls", b"2"), ("2.png", &[2]), ("2.cls", b"0")]);
    classes("\u{feff}wasp\r\nant\r\nbee\r\n\n");
    let data = DatasetFolder::scan(&path).unwrap();
    assert_eq!(
        (data.classes(), data.train.as_ref().unwrap().labels()),
        (&["wasp", "bee"].map(str::to_owned)[..], &[1, 0][..])
    );
    // Two classes of one name stay two.
    classes("crane\nant\ncrane\n");
    assert_eq!(DatasetFolder::scan(&path).unwrap().classes(), ["crane (0)", "crane (2)"]);
    classes("wasp\n\nant\nbee\n");
    let error = refusal(&path, &none());
    assert!(
        error.ends_with("classes.txt line 2: expected the name of a class, found an empty line"),
        "{error}"
    );
    classes("wasp\nant\n");
    let error = refusal(&path, &none());
    assert!(
        error.ends_with("photos.tar/1.png: expected the name of a class or a number from 0 to 1, found 2"),
        "{error}"
    );
    // Numbers that are values, labels from names, and images without labels have no use for the names.
    let cost =
        DatasetFolder::scan_with(&path, &ScanOptions { task: Some(Task::Regression), ..none() }).unwrap();
    assert_eq!(cost.train.unwrap().targets(), &Labels::Value(vec![2.0, 0.0]));
    let pattern = ScanOptions { label_from: Some("^([0-9])".to_owned()), ..none() };
    assert_eq!(DatasetFolder::scan_with(&path, &pattern).unwrap().classes(), ["1", "2"]);
    assert_eq!(scan_images(std::slice::from_ref(&path)).unwrap().samples.len(), 2);

    shard(
        &path,
        &[
            ("1.png", &[1]),
            ("1.json", br#"{"label": [0, 2, "wasp"]}"#),
            ("2.png", &[2]),
            ("2.json", br#"{"label": []}"#),
            ("3.png", &[3]),
            ("3.cls", b"1|2"),
        ],
    );
    classes("wasp\nant\nbee\n");
    let train = DatasetFolder::scan(&path).unwrap().train.unwrap();
    assert_eq!(train.classes(), ["wasp", "ant", "bee"]);
    assert_eq!(train.targets(), &Labels::MultiLabel(vec![vec![0, 2], vec![], vec![1, 2]]));
    classes("wasp\nant\n");
    let error = refusal(&path, &none());
    assert!(error.contains("photos.tar/1.png: ") && error.ends_with("found 2"), "{error}");
}

#[test]
fn parquet_files_of_one_data_set_have_the_same_labels() {
    let root = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| fs::copy(golden("lists").join(from), root.path().join(to)).unwrap();
    copy("animals/data/train-00000-of-00001.parquet", "train-0.parquet");
    copy("words.parquet", "train-1.parquet");
    let error = refusal(root.path(), &none());
    let words = [
        "train-1.parquet: expected wasp for class 0 of the column `label`, as in ",
        "train-0.parquet, found no name",
    ];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    copy("labels.parquet", "train-1.parquet");
    let error = refusal(root.path(), &none());
    assert!(
        error.contains("expected labels in the column `label`") && error.ends_with("found `labels`"),
        "{error}"
    );
    assert!(scan_images(&[root.path().to_owned()]).is_ok());
}

#[test]
fn an_archive_of_class_folders_has_their_names() {
    let root = folder(&[("a/1.png", 1), ("b/2.png", 2), ("b/.hidden.png", 0), ("b/notes.md", 0)]);
    fs::write(root.path().join("b/notes.md"), "words").unwrap();
    let path = root.path().join("photos.tar");
    let mut pack = std::process::Command::new("tar");
    pack.arg("-cf").arg(&path).arg("-C").arg(root.path()).args(["./a", "b"]);
    if !pack.status().is_ok_and(|status| status.success()) {
        println!("skipped: there is no tar");
        return;
    }
    let data = DatasetFolder::scan(&path).unwrap();
    let train = data.train.as_ref().unwrap();
    assert_eq!((data.classes(), grays(train)), (&["a", "b"].map(str::to_owned)[..], vec![1, 2]));
    let reasons: Vec<SkipReason> = data.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [SkipReason::Hidden, SkipReason::NotAnImage]);

    let gz = root.path().join("photos.tar.gz");
    fs::write(&gz, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).unwrap();
    let error = DatasetFolder::scan(&gz).unwrap_err();
    assert!(error.to_string().contains("an uncompressed tar archive, found gzip"), "{error}");
    fs::write(&path, [7; 2000]).unwrap();
    let error = DatasetFolder::scan(&path).unwrap_err();
    assert!(matches!(error, Error::Archive { .. }), "{error}");
}

#[test]
fn members_of_archives_are_told_apart_by_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let cache = firstsight_data::CacheFolder::new(cache.path());
    let train = DatasetFolder::scan(&golden("lists/animals")).unwrap().train.unwrap();
    for indices in [[0, 2], [4, 6], [0, 2]] {
        let options = firstsight_data::DecodeOptions { cache: Some(&cache), ..Default::default() };
        let images =
            ImageDataset::decode_with(&train.subset(&indices), &settings(4, 5, ColorMode::Gray), options);
        let images = images.unwrap();
        assert_eq!([0, 1].map(|i| images.image(i).unwrap()[0]), indices.map(|i| i as u8));
    }
}

#[test]
fn a_row_without_a_split_is_not_decided() {
    let root = folder(&[("1.png", 1), ("2.png", 2), ("3.png", 3)]);
    let path = root.path().join("photos.csv");
    let scan = |splits: [&str; 3]| {
        let [a, b, c] = splits;
        write(&path, &format!("path,label,split\n1.png,a,{a}\n2.png,b,{b}\n3.png,a,{c}\n"));
        let data = DatasetFolder::scan(&path).unwrap();
        (data.splits().map(|(name, part)| (name, part.len())).collect::<Vec<_>>(), data.remarks())
    };
    assert_eq!(scan(["", "", ""]), (vec![("train", 3)], vec![]));
    let (parts, said) = scan(["", "train", "val"]);
    assert_eq!(parts, [("train", 2), ("val", 1)]);
    assert!(said[0].contains("1 row has no split") && !said[0].contains("set aside"), "{said:?}");
    let (parts, said) = scan(["", "", "test"]);
    assert_eq!(parts, [("train", 2), ("test", 1)]);
    assert!(said[0].contains("2 rows have no split") && said[0].contains("set aside"), "{said:?}");
}

#[test]
fn a_class_that_a_tables_training_rows_lack_is_named_with_the_table() {
    let root = folder(&[("1.png", 1), ("2.png", 2)]);
    let path = root.path().join("photos.csv");
    write(&path, "path,label,split\n1.png,ants,train\n2.png,bees,val\n");
    let error = DatasetFolder::scan(&path).unwrap_err().to_string();
    assert!(
        error.starts_with("bees is in val but not in train (") && error.ends_with("photos.csv)"),
        "{error}"
    );

    let root = folder(&[("train/ants/1.png", 1), ("val/Ants/1.png", 2)]);
    let error = DatasetFolder::scan(root.path()).unwrap_err().to_string();
    assert!(error.contains("which has ants") && error.contains("letter case alone"), "{error}");
}

#[test]
fn a_table_may_name_files_in_another_of_unicodes_forms() {
    for (file, named) in [("cafe\u{301}/1.png", "caf\u{e9}/1.png"), ("caf\u{e9}.png", "cafe\u{301}.png")] {
        let root = folder(&[(file, 7)]);
        let path = root.path().join("photos.csv");
        write(&path, &format!("path,label\n{named},a\n"));
        assert_eq!(grays(&DatasetFolder::scan(&path).unwrap().train.unwrap()), [7]);
    }
}

#[test]
fn what_is_wrong_with_a_table_is_said_with_the_way_out() {
    let root = folder(&[("1.png", 1), ("2.png", 2), ("3.png", 3)]);
    let path = root.path().join("photos.csv");
    for (bytes, words) in [
        (&b"\xff\xfep\0a\0"[..], "found UTF-16: save it as CSV UTF-8"),
        (b"path,label\n1.png,caf\xe9\n", "Latin-1: save it as CSV UTF-8"),
        (b"path,label\n1.png\n", "expected 2 fields, found 1"),
        (b"path,kind\n1.png,a\n", "--label-column"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = DatasetFolder::scan(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for name in ["a.parquet", "a.tar"] {
        let path = root.path().join(name);
        write(&path, "version https://git-lfs.github.com/spec/v1\n");
        let error = DatasetFolder::scan(&path).unwrap_err().to_string();
        assert!(error.contains("a Git LFS pointer"), "{error}");
    }
    write(&path, "path,label\n1.png,1.5\n2.png,2\n3.png,7\n");
    let said = DatasetFolder::scan(&path).unwrap().remarks();
    assert!(said[0].contains("--task regression"), "{said:?}");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused() {
    let root = folder(&[("1.png", 1)]);
    let pipe = root.path().join("2.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    write(&root.path().join("photos.csv"), "path,label\n1.png,a\n2.png,b\n/dev/zero,c\n");
    let found = scan_images(&[root.path().join("photos.csv"), pipe, "/dev/zero".into()]).unwrap();
    let refused = found.samples.iter().filter_map(|sample| sample.read().err());
    let refused: Vec<String> = refused.map(|error| error.to_string()).collect();
    assert_eq!(refused.len(), 4, "{refused:?}");
    assert!(refused.iter().all(|error| error.contains("a pipe or a device")), "{refused:?}");
}
