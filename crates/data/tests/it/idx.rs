use std::io::Write;
use std::path::PathBuf;

use firstsight_data::{Error, idx};

fn write(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data-idx");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const IMAGES: [u8; 22] = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
const LABELS: [u8; 11] = [0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];

#[test]
fn plain_and_gzip_files_are_read() {
    for bytes in [IMAGES.to_vec(), gzip(&IMAGES)] {
        let (_folder, path) = write(&bytes);
        let images = idx::read_images(&path).unwrap();
        assert_eq!((images.shape, images.pixels), ((1, 2, 3), vec![1, 2, 3, 4, 5, 6]));
    }
    let (_folder, path) = write(&gzip(&LABELS));
    assert_eq!(idx::read_labels(&path).unwrap(), [7, 8, 9]);
}

#[test]
fn another_magic_number_or_length_is_refused() {
    let longer = [&IMAGES[..], &[0]].concat();
    let mut huge = IMAGES;
    huge[4..8].fill(0xff);
    for bytes in [&IMAGES[..21], &longer, &huge, &LABELS, &IMAGES[..3], &IMAGES[..10], b"", b"text, not IDX"]
    {
        for bytes in [bytes.to_vec(), gzip(bytes)] {
            let (_folder, path) = write(&bytes);
            match idx::read_images(&path) {
                Err(Error::Format { path: named, .. }) => assert_eq!(named, path),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
    }
    let (_folder, path) = write(&IMAGES);
    assert!(matches!(idx::read_labels(&path), Err(Error::Format { .. })));
    let (_folder, path) = write(&gzip(&IMAGES)[..20]);
    assert!(matches!(idx::read_images(&path), Err(Error::Io { .. })));
}

/// A gigabyte of zeros is a megabyte of gzip.
#[test]
fn more_than_memory_should_hold_is_refused_by_the_header() {
    let mut header = [0, 0, 8, 3, 0, 1, 0, 0, 0, 0, 0x80, 0, 0, 0, 0x80, 0];
    let refused = |header: &[u8]| {
        let (_folder, path) = write(&gzip(header));
        idx::read_images(&path).unwrap_err().to_string()
    };
    assert!(
        refused(&header).contains("at most 1073741824 values, found 70368744177664"),
        "{}",
        refused(&header)
    );
    // No images of any size.
    header[4..].fill(0xff);
    header[4..8].fill(0);
    let (folder, path) = write(&header);
    assert_eq!(idx::read_images(&path).unwrap().pixels, [0u8; 0]);
    for name in ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"] {
        std::fs::copy(&path, folder.path().join(name)).unwrap();
    }
    for name in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        std::fs::write(folder.path().join(name), [0, 0, 8, 1, 0, 0, 0, 0]).unwrap();
    }
    let error = firstsight_data::convert::Archive::open(folder.path()).unwrap().content().unwrap_err();
    assert!(error.to_string().contains("at most 16777216 values"), "{error}");
}
