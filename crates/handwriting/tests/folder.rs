//! The data set on disk.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use firstsight_handwriting::{CHARACTERS, Error, Manifest, Settings, Split, generate};

const SMALL: Settings = Settings { seed: 123, scale: 0.01 };

fn make(out: &Path, settings: &Settings) -> Result<Manifest, Error> {
    generate(out, settings, &|_, _| ())
}

/// Every file below a folder, sorted, with its bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                found.push((path.clone(), fs::read(path).unwrap()))
            }
        }
    }
    found.sort();
    found.iter_mut().for_each(|(path, _)| *path = path.strip_prefix(folder).unwrap().to_owned());
    found
}

#[test]
fn the_folder_is_as_its_manifest_says() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/characters");
    let (calls, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let manifest = generate(&out, &SMALL, &|done, all| {
        assert_eq!(all, 322 + 110);
        calls.fetch_add(1, Ordering::Relaxed);
        most.fetch_max(done, Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!((calls.into_inner(), most.into_inner()), (432, 432));
    assert_eq!(manifest.images(), 432);
    assert_eq!(manifest.settings, SMALL);

    let mut expected = HashSet::from([PathBuf::from("manifest.json")]);
    for split in Split::ALL {
        for (character, n) in SMALL.counts(split).unwrap() {
            expected.extend((1..=n).map(|i| PathBuf::from(format!("{split}/{character}/{i}.png"))));
        }
    }
    let files = files(&out);
    assert_eq!(files.iter().map(|(path, _)| path.clone()).collect::<HashSet<_>>(), expected);
    assert_eq!(
        files.iter().map(|(_, bytes)| bytes).collect::<HashSet<_>>().len(),
        files.len(),
        "two images are equal"
    );
    let bytes: usize =
        files.iter().filter(|(p, _)| p.extension().unwrap() == "png").map(|(_, b)| b.len()).sum();
    assert_eq!(bytes as u64, manifest.bytes);
    let written: Manifest = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(written, manifest);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn pngs_are_gray_and_hold_the_rendered_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    make(&out, &SMALL).unwrap();
    let file = fs::File::open(out.join("Test/虎/2.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let info = reader.info();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Grayscale, png::BitDepth::Eight));
    let (width, height) = (info.width, info.height);
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let writer = firstsight_handwriting::Writer::new(123, Split::Test, 1);
    let image = firstsight_handwriting::render('虎', &writer, 0).unwrap();
    assert_eq!((width, height, pixels), (image.width, image.height, image.pixels));
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let dir = tempfile::tempdir().unwrap();
    let sets = [1, 2, 7].map(|threads| {
        let out = dir.path().join(threads.to_string());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| make(&out, &SMALL)).unwrap();
        files(&out)
    });
    assert!(sets[0] == sets[1] && sets[1] == sets[2]);
}

/// The very pixels, on every platform: a change here is a new version of the data set (`KIND` in folder.rs).
#[test]
fn pixels_are_those_of_the_version() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(make(&dir.path().join("out"), &SMALL).unwrap().checksum, "1444f877dbf835a4");
}

#[test]
fn a_smaller_set_holds_the_first_images_of_a_larger_one() {
    let dir = tempfile::tempdir().unwrap();
    let [small, large] = [0.001, 0.01].map(|scale| {
        let out = dir.path().join(scale.to_string());
        make(&out, &Settings { scale, ..SMALL }).unwrap();
        files(&out)
    });
    for file in small.iter().filter(|(path, _)| path.extension().unwrap() == "png") {
        assert!(large.contains(file), "{}", file.0.display());
    }
    assert_eq!(small.len(), 2 * 2 * CHARACTERS.len() + 1);
}

#[test]
fn a_complete_set_is_left_alone_and_an_incomplete_or_other_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let image = out.join("Train/人/1.png");
    let first = make(&out, &SMALL).unwrap();
    let before = (files(&out), fs::metadata(&image).unwrap().modified().unwrap());
    assert_eq!(generate(&out, &SMALL, &|_, _| panic!("written again")).unwrap(), first);
    assert_eq!((files(&out), fs::metadata(&image).unwrap().modified().unwrap()), before);

    fs::remove_file(&image).unwrap();
    make(&out, &SMALL).unwrap();
    assert_eq!(files(&out), before.0);

    fs::write(&image, b"").unwrap();
    make(&out, &SMALL).unwrap();
    assert_eq!(files(&out), before.0);

    let other = make(&out, &Settings { seed: 124, ..SMALL }).unwrap();
    assert_eq!(other.counts, first.counts);
    assert_ne!(other.checksum, first.checksum);
}

#[test]
fn an_empty_folder_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &Settings { scale: 0.001, ..SMALL }).unwrap();
    assert!(dir.path().join("Test/虫/2.png").exists());
}

#[test]
fn foreign_files_are_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let refused = |settings: &Settings, file: &Path| {
        let error = make(&out, settings).unwrap_err();
        assert!(matches!(&error, Error::Foreign { found, .. } if found == file), "{error}");
        assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
        assert!(file.exists());
    };
    // A folder of something else, with and without a manifest of its own; a file in the folder's place.
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.tex"), "Introduction").unwrap();
    refused(&SMALL, &out.join("thesis.tex"));
    fs::write(out.join("manifest.json"), r#"{"name": "thesis"}"#).unwrap();
    refused(&SMALL, &out.join("manifest.json"));
    fs::remove_dir_all(&out).unwrap();
    fs::write(&out, "a file").unwrap();
    refused(&SMALL, &out);
    fs::remove_file(&out).unwrap();

    // Something else among our own files.
    make(&out, &SMALL).unwrap();
    for name in ["notes.txt", "Train/notes", "Train/人/notes.txt", "Train/人/7.png", "Train/人/0.png"] {
        fs::write(out.join(name), "mine").unwrap();
        refused(&SMALL, &out.join(name));
        refused(&Settings { seed: 5, ..SMALL }, &out.join(name));
        fs::remove_file(out.join(name)).unwrap();
    }
    make(&out, &SMALL).unwrap();
}

#[test]
fn an_unwritable_place_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let out = file.join("out");
    let error = make(&out, &SMALL).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == out), "{error}");
    assert!(error.to_string().contains(&*out.to_string_lossy()), "{error}");
}

#[test]
fn a_scale_out_of_range_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for scale in [0.0, 1.5, f64::NAN] {
        let error = make(&out, &Settings { scale, ..SMALL }).unwrap_err();
        assert!(matches!(error, Error::Scale { .. }));
        assert!(error.to_string().contains(&scale.to_string()));
    }
    assert!(!out.exists());
}
