use std::path::Path;

use firstsight_data::{Error, Mnist};

use crate::idx::gzip;

/// An IDX file of bytes.
fn idx(sides: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sides.len() as u8];
    bytes.extend(sides.iter().flat_map(|side| side.to_be_bytes()));
    bytes.extend(values);
    bytes
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// Three images of 2×3 to train on and one to test on.
fn write(folder: &Path) {
    let pixels: Vec<u8> = (1..=18).collect();
    std::fs::write(folder.join(TRAIN_IMAGES), idx(&[3, 2, 3], &pixels)).unwrap();
    std::fs::write(folder.join("train-labels-idx1-ubyte.gz"), gzip(&idx(&[3], &[7, 0, 9]))).unwrap();
    std::fs::write(folder.join(format!("{TEST_IMAGES}.gz")), gzip(&idx(&[1, 2, 3], &pixels[..6]))).unwrap();
    std::fs::write(folder.join(TEST_LABELS), idx(&[1], &[4])).unwrap();
}

/// The message, which must be an [`Error::Format`]'s.
fn refused(folder: &Path, side: usize) -> String {
    match Mnist::read(folder, side) {
        Err(error @ Error::Format { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_and_gzip_files_stand_beside_each_other() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!Mnist::is_in(folder.path()));
    write(folder.path());
    assert!(Mnist::is_in(folder.path()));
    let mnist = Mnist::read(folder.path(), 5).unwrap();
    assert_eq!((mnist.train.shape(), mnist.test.shape()), ((3, 5, 5, 1), (1, 5, 5, 1)));
    assert_eq!((mnist.train.labels(), mnist.test.labels()), (&[7, 0, 9][..], &[4][..]));
    assert_eq!(mnist.train.classes()[9], "9");
    // Of three further rows one is above; of two further columns one is to the left.
    let rows: [[u8; 5]; 5] = [[0; 5], [0, 7, 8, 9, 0], [0, 10, 11, 12, 0], [0; 5], [0; 5]];
    assert_eq!(*mnist.train.image(1).unwrap(), rows.concat());
}

#[test]
fn what_does_not_fit_together_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let broken = |name: &str, bytes: &[u8], side: usize| {
        write(here);
        std::fs::write(here.join(name), bytes).unwrap();
        refused(here, side)
    };
    let said = broken(TEST_LABELS, &idx(&[2], &[4, 4]), 5);
    assert!(said.contains(TEST_LABELS) && said.contains("1 images") && said.contains("found 2"), "{said}");
    let said = broken(TEST_LABELS, &idx(&[1], &[10]), 5);
    assert!(said.contains(TEST_LABELS) && said.contains("less than 10, found 10"), "{said}");
    let said = broken(TEST_LABELS, b"<html>moved</html>", 5);
    assert!(said.contains(TEST_LABELS) && said.contains("magic number"), "{said}");
    let said = broken(TRAIN_IMAGES, &idx(&[3, 2, 3], &[0; 17]), 5);
    assert!(said.contains(TRAIN_IMAGES) && said.contains("18 values") && said.contains("found 17"), "{said}");
    let said = broken(TRAIN_IMAGES, &idx(&[3, 0, 3], &[]), 5);
    assert!(said.contains(TRAIN_IMAGES) && said.contains("0x3"), "{said}");
    write(here);
    let said = refused(here, 2);
    assert!(said.contains(TRAIN_IMAGES) && said.contains("2x2, found 2x3"), "{said}");
}

#[test]
fn missing_and_corrupt_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write(here);
    let labels = here.join("train-labels-idx1-ubyte.gz");
    let mut packed = std::fs::read(&labels).unwrap();
    // The checksum of the content, before its length at the end.
    let checksum = packed.len() - 8;
    packed[checksum] ^= 1;
    std::fs::write(&labels, &packed).unwrap();
    match Mnist::read(here, 5) {
        Err(Error::Io { path, .. }) => assert_eq!(path, labels),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(&labels).unwrap();
    let said = refused(here, 5);
    for word in ["train-labels-idx1-ubyte.gz", "neither", &*here.to_string_lossy()] {
        assert!(said.contains(word), "{said}");
    }
}
