//! Archives in the published formats, written here, and the folders that become of them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use firstsight_data::convert::{Archive, Content, convert, published};
use firstsight_data::{DatasetFolder, DecodeSettings, Error, Reading, decode_image};
use flate2::Compression;
use flate2::write::GzEncoder;

/// A sample of a .gnt file, by the published table: size, character, width, height, pixels.
fn sample(character: [u8; 2], (width, height): (u16, u16), pixels: &[u8]) -> Vec<u8> {
    let mut bytes = (10 + pixels.len() as u32).to_le_bytes().to_vec();
    bytes.extend(character);
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend(pixels);
    bytes
}

/// 啊, 中, A and a full stop.
const CHARACTERS: [[u8; 2]; 4] = [[0xb0, 0xa1], [0xd6, 0xd0], [b'A', 0], [b'.', 0]];
const FOLDERS: [&str; 4] = ["啊", "中", "U+0041", "U+002E"];

/// The gray of pixel `i` of a writer's picture.
fn gray(writer: usize, picture: usize, i: usize) -> u8 {
    (writer * 31 + picture * 7 + i * 13) as u8
}

fn pixels(writer: usize, picture: usize) -> Vec<u8> {
    (0..(2 + picture) * 3).map(|i| gray(writer, picture, i)).collect()
}

/// Four pictures of 2 × 3, 3 × 3, 4 × 3 and 5 × 3 pixels.
fn writer(writer: usize) -> Vec<u8> {
    let of = |(i, &character): (usize, &[u8; 2])| sample(character, (2 + i as u16, 3), &pixels(writer, i));
    CHARACTERS.iter().enumerate().flat_map(of).collect()
}

fn to(folder: &Path, source: &Path) -> Result<(PathBuf, Content), Error> {
    let out = folder.join("out");
    let content = convert(&Archive::open(source)?, &out, &mut |_, _| ())?;
    Ok((out, content))
}

/// The pixels of a file as they are stored.
fn stored(path: &Path, (height, width): (usize, usize), gray: bool) -> Vec<u8> {
    let settings =
        if gray { DecodeSettings::gray(height, width) } else { DecodeSettings::rgb(height, width) };
    decode_image(path, &DecodeSettings { reading: Reading::pillow(), ..settings }).unwrap()
}

#[test]
fn characters_become_folders_pixel_for_pixel() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("HWDB1.1");
    for (part, names) in [("HWDB1.1trn_gnt", ["1001-c", "1002-c"]), ("HWDB1.1tst_gnt", ["1241-c", "1242-c"])]
    {
        fs::create_dir_all(source.join(part)).unwrap();
        for (i, name) in names.iter().enumerate() {
            fs::write(source.join(part).join(format!("{name}.gnt")), writer(i)).unwrap();
        }
    }
    fs::write(source.join("readme.txt"), "of others").unwrap();
    let (out, content) = to(folder.path(), &source).unwrap();
    assert_eq!(content.images(), 16);
    for (split, writers) in [("train", ["1001-c", "1002-c"]), ("test", ["1241-c", "1242-c"])] {
        assert_eq!(content.splits[split].values().sum::<usize>(), 8);
        for (picture, class) in FOLDERS.iter().enumerate() {
            for (i, name) in writers.iter().enumerate() {
                let path = out.join(split).join(class).join(format!("{name}-{:05}.png", picture + 1));
                assert_eq!(stored(&path, (3, 2 + picture), true), pixels(i, picture), "{}", path.display());
            }
        }
    }
    let data = DatasetFolder::scan(&out).unwrap();
    assert_eq!(data.train.unwrap().len(), 8);
    assert_eq!(data.test.unwrap().len(), 8);
    assert!(!folder.path().join("out.partial").exists());
}

#[test]
fn a_zip_of_characters_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("Gnt1.1TrainPart1.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&source).unwrap());
    for (name, method) in
        [("1002-c", zip::CompressionMethod::Deflated), ("1001-c", zip::CompressionMethod::Stored)]
    {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("part/{name}.gnt"), options).unwrap();
        zip.write_all(&writer(usize::from(name == "1002-c"))).unwrap();
    }
    zip.finish().unwrap();
    let (out, content) = to(folder.path(), &source).unwrap();
    assert_eq!(content.splits.keys().collect::<Vec<_>>(), ["train"]);
    assert_eq!(stored(&out.join("train/中/1002-c-00002.png"), (3, 3), true), pixels(1, 1));
}

#[test]
fn what_is_wrong_with_a_sample_is_said_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("1001-c.gnt");
    let good = writer(0);
    let cases: [(Vec<u8>, &[&str]); 6] = [
        (good[..good.len() - 1].to_vec(), &["the pixels of sample 4 of 15 bytes", "found 14"]),
        (good[..4].to_vec(), &["the header of sample 1 of 10 bytes", "found 4"]),
        (sample([0xb0, 0xa1], (3, 3), &[0; 8]), &["19 bytes for 3 × 3", "18 in sample 1, at byte 0"]),
        (
            [good.clone(), sample([0xff, 0xff], (1, 1), &[0])].concat(),
            &["GB2312", "0xff 0xff in sample 5, at byte 82"],
        ),
        (sample([0xb0, 0xa1], (0, 3), &[]), &["1 to 4096 pixels", "0 × 3"]),
        (sample([7, 0], (1, 1), &[0]), &["a character of GB2312", "0x07"]),
    ];
    for (bytes, words) in cases {
        fs::write(&source, bytes).unwrap();
        let error = to(folder.path(), &source).unwrap_err().to_string();
        let says = |word: &&str| error.contains(*word);
        assert!(error.contains("1001-c.gnt") && words.iter().all(says), "{error} {words:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is written");
    }
}

#[test]
fn a_conversion_that_was_cut_short_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("1001-c.gnt");
    fs::write(&source, writer(0)).unwrap();
    // One picture is whole, one cut off.
    let (out, _) = to(folder.path(), &source).unwrap();
    let partial = folder.path().join("out.partial");
    fs::rename(&out, &partial).unwrap();
    let cut = partial.join("中/1001-c-00002.png");
    let whole = fs::read(&cut).unwrap();
    fs::write(&cut, &whole[..20]).unwrap();
    fs::remove_file(partial.join("U+0041/1001-c-00003.png")).unwrap();
    let kept = fs::metadata(partial.join("啊/1001-c-00001.png")).unwrap().modified().unwrap();
    to(folder.path(), &source).unwrap();
    assert_eq!(fs::read(out.join("中/1001-c-00002.png")).unwrap(), whole);
    assert_eq!(stored(&out.join("U+0041/1001-c-00003.png"), (3, 4), true), pixels(0, 2));
    assert_eq!(fs::metadata(out.join("啊/1001-c-00001.png")).unwrap().modified().unwrap(), kept);

    let error = to(folder.path(), &source).unwrap_err();
    assert!(matches!(&error, Error::Occupied { path } if *path == out), "{error}");
    // What another archive left would be among the images.
    fs::rename(&out, &partial).unwrap();
    fs::write(partial.join("啊/other.png"), b"").unwrap();
    let error = to(folder.path(), &source).unwrap_err().to_string();
    assert!(error.contains("expected 1 images, found 2 files"), "{error}");
}

/// A record of CIFAR: labels, then red, green and blue by itself.
fn record(labels: &[u8], seed: usize) -> Vec<u8> {
    let planes = (0..3072).map(|i| (seed * 5 + i * 3 + i / 1024 * 40) as u8);
    labels.iter().copied().chain(planes).collect()
}

fn interleaved(record: &[u8]) -> Vec<u8> {
    (0..1024).flat_map(|i| [record[i], record[1024 + i], record[2048 + i]]).collect()
}

#[test]
fn cifar_has_its_names_and_colors() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("cifar-10-binary.tar.gz");
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    let files = [
        ("data_batch_2.bin", [record(&[9], 1), record(&[0], 2)].concat()),
        ("test_batch.bin", record(&[3], 3)),
        ("batches.meta.txt", names.as_bytes().to_vec()),
        ("data_batch_1.bin", Vec::new()),
        ("data_batch_3.bin", Vec::new()),
        ("data_batch_4.bin", Vec::new()),
        ("data_batch_5.bin", Vec::new()),
    ];
    let mut tar = tar::Builder::new(GzEncoder::new(fs::File::create(&source).unwrap(), Compression::fast()));
    for (name, bytes) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    let found = published(&source).unwrap();
    assert!(found.len() == 1 && !found[0].is_same(), "{found:?}");
    let (out, content) = to(folder.path(), &source).unwrap();
    assert_eq!(content.images(), 3);
    let truck = stored(&out.join("train/truck/data_batch_2-00001.png"), (32, 32), false);
    assert_eq!(truck, interleaved(&record(&[], 1)));
    assert!(out.join("test/cat/test_batch-00001.png").exists());

    // CIFAR-100: the fine label is the second.
    let source = folder.path().join("cifar-100-binary");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("train.bin"), record(&[3, 99], 4)).unwrap();
    let error = Archive::open(&source).unwrap().content().unwrap_err().to_string();
    assert!(error.contains("all of train.bin, test.bin, found no test.bin"), "{error}");
    fs::write(source.join("test.bin"), record(&[3, 0], 5)).unwrap();
    let out = folder.path().join("hundred");
    convert(&Archive::open(&source).unwrap(), &out, &mut |_, _| ()).unwrap();
    assert!(out.join("train/99/train-00001.png").exists(), "numbers where no file has the names");
    fs::write(source.join("test.bin"), record(&[3, 100], 4)).unwrap();
    let error = Archive::open(&source).unwrap().content().unwrap_err().to_string();
    assert!(error.contains("test.bin") && error.contains("100 in record 1"), "{error}");
    fs::remove_file(source.join("test.bin")).unwrap();
    fs::write(source.join("fine_label_names.txt"), "../out\n".repeat(100)).unwrap();
    let error = Archive::open(&source).unwrap().content().unwrap_err().to_string();
    assert!(error.contains("fine_label_names.txt") && error.contains("../out"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_to_files_and_folders_are_followed() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let (source, elsewhere) = (folder.path().join("cifar"), folder.path().join("elsewhere"));
    fs::create_dir(&source).unwrap();
    fs::create_dir_all(elsewhere.join("more")).unwrap();
    for (number, name) in ["1", "2", "3", "4", "5"].into_iter().zip(["", "", "", "more", "more"]) {
        let place = if number == "1" { source.clone() } else { elsewhere.join(name) };
        fs::write(place.join(format!("data_batch_{number}.bin")), record(&[1], 1)).unwrap();
    }
    symlink(elsewhere.join("data_batch_2.bin"), source.join("data_batch_2.bin")).unwrap();
    symlink(elsewhere.join("data_batch_3.bin"), source.join("data_batch_3.bin")).unwrap();
    symlink("../elsewhere/more", source.join("more")).unwrap();
    symlink("../../cifar", elsewhere.join("more/back")).unwrap();
    symlink("test.bin", elsewhere.join("more/test_batch.bin")).unwrap();
    let content = || Archive::open(&source).and_then(|archive| archive.content());
    let error = content().unwrap_err().to_string();
    assert!(error.contains("more/test_batch.bin"), "a link to nothing is no reason to go on: {error}");
    fs::remove_file(elsewhere.join("more/test_batch.bin")).unwrap();
    let error = content().unwrap_err().to_string();
    assert!(error.contains("found no test_batch.bin"), "{error}");
    fs::write(elsewhere.join("more/test_batch.bin"), record(&[1], 1)).unwrap();
    assert_eq!(content().unwrap().images(), 6);
}

#[test]
fn mnist_files_become_digits() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("mnist");
    fs::create_dir(&source).unwrap();
    let images = |n: u8| {
        let header = [0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 2, 0, 0, 0, 3];
        header.into_iter().chain((0..n * 6).map(|i| i * 3)).collect::<Vec<u8>>()
    };
    let labels = |of: &[u8]| [&[0, 0, 8, 1, 0, 0, 0, of.len() as u8], of].concat();
    fs::write(source.join("train-images-idx3-ubyte"), images(3)).unwrap();
    fs::write(source.join("train-labels-idx1-ubyte"), labels(&[5, 0, 5])).unwrap();
    fs::write(source.join("t10k-images-idx3-ubyte"), images(1)).unwrap();
    fs::write(source.join("t10k-labels-idx1-ubyte"), labels(&[9])).unwrap();
    let (out, content) = to(folder.path(), &source).unwrap();
    assert_eq!(content.splits["train"]["5"], 2);
    assert_eq!(stored(&out.join("train/5/00003.png"), (2, 3), true), [36, 39, 42, 45, 48, 51]);
    assert!(out.join("test/9/00001.png").exists());
    fs::remove_dir_all(&out).unwrap();
    fs::write(source.join("train-images-idx3-ubyte"), [images(3), vec![0]].concat()).unwrap();
    let error = to(folder.path(), &source).unwrap_err().to_string();
    assert!(error.contains("expected 3 images, found more"), "{error}");
    fs::remove_file(source.join("t10k-labels-idx1-ubyte")).unwrap();
    let error = to(folder.path(), &source).unwrap_err().to_string();
    assert!(error.contains("t10k-labels-idx1-ubyte"), "the one that is missing: {error}");
}

#[test]
fn what_is_no_archive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), "hello").unwrap();
    for source in [folder.path().to_owned(), folder.path().join("a.txt")] {
        let error = Archive::open(&source).unwrap_err().to_string();
        assert!(error.contains(".gnt") && error.contains("CIFAR"), "{error}");
    }
    assert!(matches!(Archive::open(&folder.path().join("none")), Err(Error::Io { .. })));
}
