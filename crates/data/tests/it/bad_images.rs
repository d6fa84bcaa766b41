use std::fs;
use std::path::{Path, PathBuf};

use firstsight_data::{
    ColorMode, DecodeSettings, Error, Exif, ImageDataset, ImageFolder, OnError, Reading, ResizeMode,
    decode_image,
};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::support::{folder, golden, settings};

fn decode(path: &Path) -> Result<Vec<u8>, Error> {
    decode_image(path, &settings(8, 6, ColorMode::Rgb))
}

/// The first `keep` bytes of a golden image, in a folder of its own.
fn truncated(name: &str, keep: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, &fs::read(golden("images").join(name)).unwrap()[..keep]).unwrap();
    (folder, path)
}

#[test]
fn a_truncated_image_of_any_format_is_refused() {
    let names =
        ["rgb8.png", "420-q95.jpg", "420-progressive-q95.jpg", "palette.gif", "rgb24.bmp", "rgb-lossy.webp"];
    for name in names.iter().chain(&["grey8.png", "rgb-lossless.webp", "rle8.bmp"]) {
        let whole = fs::metadata(golden("images").join(name)).unwrap().len() as usize;
        for keep in [whole / 4, whole / 2, whole * 9 / 10] {
            let (_folder, path) = truncated(name, keep);
            match decode(&path) {
                Err(Error::Undecodable { path: named, .. }) => assert_eq!(named, path),
                other => panic!("{name}, {keep} of {whole} bytes: {:?}", other.map(|pixels| pixels.len())),
            }
        }
    }
}

/// The end-of-image marker of a thumbnail in the header is not the image's.
#[test]
fn a_truncated_jpeg_with_a_whole_thumbnail_is_refused() {
    let whole = fs::read(golden("images/420-q95.jpg")).unwrap();
    let thumbnail = fs::read(golden("images/grey-q60.jpg")).unwrap();
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1];
    bytes.extend((thumbnail.len() as u16 + 2).to_be_bytes());
    bytes.extend(&thumbnail);
    bytes.extend(&whole[2..]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.jpg");
    fs::write(&path, &bytes).unwrap();
    assert_eq!(decode(&path).unwrap(), decode(&golden("images/420-q95.jpg")).unwrap());
    fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
    assert!(matches!(decode(&path), Err(Error::Undecodable { format: "JPEG", .. })));
}

/// Bytes changed at random, and files cut off at random: an image or an error, never a panic or a huge allocation.
#[test]
fn damaged_images_are_images_or_errors() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.png");
    let settings = DecodeSettings {
        reading: Reading { max_pixels: 100_000, ..Reading::viewer() },
        ..settings(8, 6, ColorMode::Rgb)
    };
    let (mut images, mut errors) = (0, 0);
    for entry in fs::read_dir(golden("images")).unwrap() {
        let whole = fs::read(entry.unwrap().path()).unwrap();
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng.next_u32() % 4 {
                let place = (rng.next_u64() % bytes.len() as u64) as usize;
                bytes[place] = rng.next_u32() as u8;
            }
            if rng.next_u32() % 4 == 0 {
                bytes.truncate((rng.next_u64() % bytes.len() as u64) as usize);
            }
            fs::write(&path, bytes).unwrap();
            match decode_image(&path, &settings) {
                Ok(pixels) => {
                    assert_eq!(pixels.len(), 8 * 6 * 3);
                    images += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains("damaged.png"), "{error}");
                    errors += 1;
                }
            }
        }
    }
    assert!(images > 300 && errors > 300, "{images} {errors}");
}

#[test]
fn a_text_file_named_png_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.png");
    fs::write(&path, "Dear Sir or Madam").unwrap();
    let error = decode(&path).unwrap_err();
    assert!(matches!(error, Error::NotAnImage { .. }), "{error}");
    assert!(error.to_string().contains("letter.png") && error.to_string().contains("Dear Sir"), "{error}");
    fs::write(&path, "").unwrap();
    assert!(decode(&path).unwrap_err().to_string().contains("an empty file"));
}

/// A header that announces 60,000 x 60,000 pixels, 3.6 GB in gray, and nothing after it.
fn huge_headers() -> Vec<(&'static str, Vec<u8>)> {
    let side = 60_000u32;
    let mut ihdr = b"IHDR".to_vec();
    ihdr.extend(side.to_be_bytes());
    ihdr.extend(side.to_be_bytes());
    ihdr.extend([8, 0, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(&ihdr);
    png.extend(crc32fast::hash(&ihdr).to_be_bytes());

    let mut gif = b"GIF89a".to_vec();
    gif.extend((side as u16).to_le_bytes());
    gif.extend((side as u16).to_le_bytes());
    gif.extend([0, 0, 0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b]);

    let mut bmp = fs::read(golden("images/rgb24.bmp")).unwrap();
    bmp[18..22].copy_from_slice(&side.to_le_bytes());
    bmp[22..26].copy_from_slice(&side.to_le_bytes());

    let mut jpeg = fs::read(golden("images/grey-q95.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&(side as u16).to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&(side as u16).to_be_bytes());
    vec![("png", png), ("gif", gif), ("bmp", bmp), ("jpg", jpeg)]
}

#[test]
fn a_header_of_60_000_by_60_000_is_refused_by_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    for (extension, bytes) in huge_headers() {
        let path = folder.path().join("huge").with_extension(extension);
        fs::write(&path, bytes).unwrap();
        match decode(&path) {
            Err(Error::TooManyPixels { width: 60_000, height: 60_000, max_pixels, path: named }) => {
                assert_eq!(max_pixels, Reading::MAX_PIXELS);
                assert_eq!(named, path);
            }
            other => panic!("{extension}: {:?}", other.map(|pixels| pixels.len())),
        }
    }
}

/// Only the columns or rows that the crop keeps are computed: the whole would be 256 x 15,360,000.
#[test]
fn a_thin_image_is_cropped_before_it_is_scaled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thin.png");
    let settings = DecodeSettings {
        resize_mode: ResizeMode::CenterCrop,
        crop_pct: 0.875,
        ..settings(224, 224, ColorMode::Gray)
    };
    for (width, height) in [(1, 60_000), (60_000, 1)] {
        image::GrayImage::from_fn(width, height, |x, y| image::Luma([((x + y) / 240) as u8]))
            .save(&path)
            .unwrap();
        let pixels = decode_image(&path, &settings).unwrap();
        assert_eq!(pixels.len(), 224 * 224);
        assert!(pixels.iter().all(|&value| (124..=125).contains(&value)), "the center is what is kept");
    }
}

#[test]
fn an_image_one_pixel_wide_is_an_image() {
    assert_eq!(decode(&golden("images/one-pixel-wide.png")).unwrap().len(), 8 * 6 * 3);
    assert_eq!(decode(&golden("images/one-pixel.png")).unwrap().len(), 8 * 6 * 3);
}

#[test]
fn settings_out_of_range_are_refused() {
    let path = golden("images/rgb8.png");
    let good = settings(8, 6, ColorMode::Rgb);
    for bad in [
        DecodeSettings { height: 0, ..good.clone() },
        DecodeSettings { width: 0, ..good.clone() },
        DecodeSettings { resize_mode: ResizeMode::CenterCrop, crop_pct: 0.0, ..good.clone() },
        DecodeSettings { resize_mode: ResizeMode::CenterCrop, crop_pct: 1.5, ..good.clone() },
        DecodeSettings { resize_mode: ResizeMode::CenterCrop, crop_pct: f64::NAN, ..good.clone() },
        DecodeSettings { crop_pct: 0.0, ..good },
    ] {
        let error = decode_image(&path, &bad).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}

#[test]
fn dimensions_come_from_the_headers_and_name_a_bad_file() {
    let root = folder(&[("a/1.png", 0), ("b/1.png", 0)]);
    for (i, name) in
        ["420-q60.jpg", "small-frame.gif", "rgb24-top-down.bmp", "rgb-lossy.webp"].iter().enumerate()
    {
        fs::copy(golden("images").join(name), root.path().join("b").join(format!("2{i}-{name}"))).unwrap();
    }
    let folder = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(
        folder.dimensions(Exif::Ignore).unwrap(),
        [(5, 4), (5, 4), (61, 47), (31, 24), (23, 17), (61, 47)]
    );

    let bad = root.path().join("a/0.png");
    fs::write(&bad, "te\nxt").unwrap();
    let error = ImageFolder::scan(root.path()).unwrap().dimensions(Exif::Ignore).unwrap_err();
    assert!(matches!(&error, Error::NotAnImage { path, .. } if *path == bad), "{error}");
}

#[test]
fn unreadable_images_fail_or_are_excluded_and_listed() {
    let root = folder(&[("a/1.png", 10), ("a/3.png", 30), ("b/1.png", 40)]);
    let bad = [root.path().join("a/2.png"), root.path().join("b/0.png")];
    for path in &bad {
        fs::write(path, "te\nxt").unwrap();
    }
    let folder = ImageFolder::scan(root.path()).unwrap();
    let fail = settings(4, 5, ColorMode::Gray);
    let error = ImageDataset::decode(&folder, &fail).unwrap_err();
    match &error {
        Error::Unreadable { files, total: 5, .. } => {
            assert_eq!(
                files.iter().map(|(path, _)| path).collect::<Vec<_>>(),
                bad.iter().collect::<Vec<_>>()
            );
        }
        _ => panic!("{error}"),
    }
    assert!(error.to_string().contains("2 of 5 files"), "{error}");

    let exclude = DecodeSettings { on_error: OnError::Skip, ..fail };
    let decoded = ImageDataset::decode(&folder, &exclude).unwrap();
    assert_eq!(decoded.labels(), [0, 0, 1]);
    assert_eq!((0..3).map(|i| decoded.image(i).unwrap()[0]).collect::<Vec<_>>(), [10, 30, 40]);
    assert_eq!(decoded.path(1).unwrap(), root.path().join("a/3.png"));
    let listed: Vec<_> = decoded.excluded().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(listed, bad);
    assert!(decoded.excluded()[0].1.contains("begins with \"te\\nxt\""), "{}", decoded.excluded()[0].1);
}
