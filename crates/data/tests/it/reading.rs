//! Photos as people have them: turned, damaged, transparent, of 16 bits, too large, and files that break codecs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use firstsight_data::{
    Alpha, ColorMode, DecodeSettings, DecodedImage, Error, Exif, Interpolation, Reading, ResizeMode,
    decode_bytes,
};

use crate::support::{golden, settings};

fn bytes(name: &str) -> Vec<u8> {
    fs::read(golden("images").join(name)).unwrap()
}

/// Decodes at the image's own size.
fn decode(bytes: &[u8], reading: Reading) -> Result<DecodedImage, Error> {
    let small = DecodeSettings { reading, ..settings(1, 1, ColorMode::Rgb) };
    let (width, height) = decode_bytes(Path::new("photo"), bytes, &small)?.size;
    let own = DecodeSettings { reading, ..settings(height as usize, width as usize, ColorMode::Rgb) };
    decode_bytes(Path::new("photo"), bytes, &own)
}

fn viewed(bytes: &[u8]) -> DecodedImage {
    decode(bytes, Reading::viewer()).unwrap()
}

/// EXIF data with an orientation, as a TIFF structure.
fn exif(orientation: u8, is_big_endian: bool) -> Vec<u8> {
    match is_big_endian {
        true => [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], b"\0\0\0\0\0\0"]
            .concat(),
        false => [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[orientation], b"\0\0\0\0\0\0\0"]
            .concat(),
    }
}

fn jpeg_with(segment: &[u8]) -> Vec<u8> {
    let whole = bytes("rgb-q95.jpg");
    let length = (segment.len() as u16 + 2).to_be_bytes();
    [&whole[..2], &[0xff, 0xe1], &length, segment, &whole[2..]].concat()
}

fn png_with(exif: &[u8]) -> Vec<u8> {
    let whole = bytes("rgb8.png");
    let chunk = [b"eXIf", exif].concat();
    let length = (exif.len() as u32).to_be_bytes();
    [&whole[..33], &length, &chunk, &crc32fast::hash(&chunk).to_be_bytes(), &whole[33..]].concat()
}

fn webp_with(exif: &[u8]) -> Vec<u8> {
    let whole = bytes("rgb-lossless.webp");
    let (width, height) = (61u32 - 1, 47u32 - 1);
    let mut body = b"WEBPVP8X\x0a\0\0\0\x08\0\0\0".to_vec();
    body.extend(&width.to_le_bytes()[..3]);
    body.extend(&height.to_le_bytes()[..3]);
    body.extend(&whole[12..]);
    body.extend(b"EXIF");
    body.extend((exif.len() as u32).to_le_bytes());
    body.extend(exif);
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// The pixel of the upright image at (x, y), as the EXIF standard words each value.
fn source(orientation: u8, (width, height): (usize, usize), x: usize, y: usize) -> (usize, usize) {
    let (right, bottom) = (width - 1, height - 1);
    match orientation {
        1 => (x, y),
        2 => (right - x, y),
        3 => (right - x, bottom - y),
        4 => (x, bottom - y),
        5 => (y, x),
        6 => (y, bottom - x),
        7 => (right - y, bottom - x),
        _ => (right - y, x),
    }
}

#[test]
fn photos_stand_upright_whatever_format_and_value() {
    type Make = fn(&[u8]) -> Vec<u8>;
    let in_jpeg: Make = |exif| jpeg_with(&[b"Exif\0\0", exif].concat());
    for (make, is_big_endian) in [(in_jpeg, true), (in_jpeg, false), (png_with, true), (webp_with, false)] {
        for orientation in 1..=8 {
            let file = make(&exif(orientation, is_big_endian));
            let stored = decode(&file, Reading { exif: Exif::Ignore, ..Reading::viewer() }).unwrap();
            let upright = viewed(&file);
            let (width, height) = (stored.size.0 as usize, stored.size.1 as usize);
            let turned = if orientation >= 5 { (height, width) } else { (width, height) };
            assert_eq!(upright.size, (turned.0 as u32, turned.1 as u32), "{orientation}");
            for y in 0..turned.1 {
                for x in 0..turned.0 {
                    let (column, row) = source(orientation, (width, height), x, y);
                    let found = &upright.pixels[(y * turned.0 + x) * 3..][..3];
                    assert_eq!(
                        found,
                        &stored.pixels[(row * width + column) * 3..][..3],
                        "{orientation}: {x} {y}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_bigtiff_file_is_read_as_a_tiff_file() {
    // Stored as 23 rows of 17 pixels.
    assert_eq!(viewed(&bytes("turned-big.tif")).size, (23, 17));
    assert_eq!(viewed(&bytes("palette-big.tif")).pixels, viewed(&bytes("palette.tif")).pixels);
    // Places and counts beyond the file.
    let file = bytes("turned-big.tif");
    for at in 8..file.len().min(200) {
        let mut broken = file.clone();
        broken[at..at + 8].fill(0xff);
        let _ = decode(&broken, Reading::viewer());
    }
}

#[test]
fn broken_exif_data_leaves_a_photo_as_it_is() {
    let stored = viewed(&bytes("rgb-q95.jpg"));
    let whole = exif(6, true);
    let mut cases: Vec<Vec<u8>> = (0..whole.len() - 6).map(|n| whole[..n].to_vec()).collect();
    cases.extend([exif(0, true), exif(9, false), vec![0xff; 40]]);
    cases.push([&b"MM\0*\xff\xff\xff\xff"[..], &[0; 30]].concat());
    cases.push([&b"MM\0*\0\0\0\x08\xff\xff"[..], &[0; 30]].concat());
    for exif in cases {
        assert_eq!(viewed(&jpeg_with(&[b"Exif\0\0", &exif[..]].concat())).pixels, stored.pixels, "{exif:?}");
    }
}

#[test]
fn gray_of_16_bits_keeps_its_shades_or_is_clipped_as_by_pillow() {
    for name in ["grey16.png", "grey16.tif", "grey16.pgm"] {
        let scaled = viewed(&bytes(name));
        let clipped = decode(&bytes(name), Reading::pillow()).unwrap();
        let distinct =
            |image: &DecodedImage| image.pixels.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!(distinct(&scaled) > 100 && distinct(&clipped) < 10, "{name}");
        assert_eq!(scaled.note, None);
        assert!(clipped.note.unwrap().starts_with("clipped: 16-bit gray"));
    }
}

#[test]
fn transparency_lies_over_white_or_is_dropped_and_said() {
    for name in
        ["rgba8.png", "rgba16.png", "palette8-transparent.png", "transparent.gif", "rgba-lossless.webp"]
    {
        let blended = viewed(&bytes(name));
        let dropped = decode(&bytes(name), Reading { alpha: Alpha::Drop, ..Reading::viewer() }).unwrap();
        assert!(blended.pixels.iter().zip(&dropped.pixels).all(|(over, under)| over >= under), "{name}");
        assert_ne!(blended.pixels, dropped.pixels, "{name}");
        assert_eq!(blended.note, None, "{name}");
        assert!(dropped.note.unwrap().starts_with("transparent:"), "{name}");
    }
    // What is hidden makes no difference.
    let hidden = |color: u8| {
        let image = image::RgbaImage::from_fn(8, 8, |x, _| {
            image::Rgba([color, color, color, if x < 4 { 0 } else { 255 }])
        });
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, image::ImageFormat::Png).unwrap();
        viewed(&png.into_inner()).pixels
    };
    assert_eq!(hidden(0)[..12], [255; 12]);
    assert_eq!(hidden(0)[..12], hidden(200)[..12]);
}

/// The first `keep` of ten parts of a file.
fn cut(name: &str, keep: f64) -> Vec<u8> {
    let whole = bytes(name);
    whole[..(whole.len() as f64 * keep) as usize].to_vec()
}

#[test]
fn what_viewers_repair_is_read_and_said() {
    for name in
        ["rgb-q95.jpg", "420-q95.jpg", "420-restart-q95.jpg", "grey-q95.jpg", "420-progressive-q95.jpg"]
    {
        let whole = bytes(name);
        let sound = viewed(&whole);
        assert_eq!(sound.note, None);
        assert_eq!(decode(&whole, Reading::pillow()).unwrap().pixels, sound.pixels);

        let without_end = &whole[..whole.len() - 2];
        assert!(decode(without_end, Reading::pillow()).is_err());
        let repaired = viewed(without_end);
        assert!(repaired.note.unwrap().starts_with("repaired: "), "{name}");
        assert_eq!(repaired.pixels, sound.pixels, "{name}");

        let newline = [b"\r\n", &whole[..]].concat();
        assert!(decode(&newline, Reading::pillow()).is_err());
        assert_eq!(viewed(&newline).pixels, sound.pixels);
        assert_eq!(viewed(&newline).note.unwrap(), "repaired: 2 stray bytes before the start");

        assert!(decode(&cut(name, 0.3), Reading::viewer()).is_err(), "{name}");
    }
    // Restart markers tell where segments are, and how many are missing.
    let restarts = bytes("420-restart-q95.jpg");
    let error = decode(&restarts[..restarts.len() * 6 / 10], Reading::viewer()).unwrap_err();
    assert!(error.to_string().contains("blocks are missing"), "{error}");
    // A large photo that has lost its last bytes: equal but for the last rows, which are gray.
    let whole = large_jpeg(400, 300);
    let sound = viewed(&whole);
    let repaired = viewed(&whole[..whole.len() - whole.len() / 20]);
    assert!(repaired.note.as_deref().unwrap().starts_with("repaired: "), "{:?}", repaired.note);
    assert_eq!(repaired.pixels[..400 * 3 * 256], sound.pixels[..400 * 3 * 256]);
    assert_ne!(repaired.pixels, sound.pixels);
    let error = decode(&whole[..whole.len() / 2], Reading::viewer()).unwrap_err();
    assert!(error.to_string().contains("blocks are missing"), "{error}");
}

#[test]
fn segments_between_restarts_are_missing_one_by_one() {
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
    let pixels: Vec<u8> = (0..400 * 300 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let encoder = Encoder::new(&pixels, 400, 300, PixelFormat::Rgb).subsampling(Subsampling::S420);
    // 19 rows of 25 blocks.
    let rows = encoder.restart_rows(1).encode().unwrap();
    for (keep, about) in [(50, 237), (80, 95)] {
        let error = decode(&rows[..rows.len() * keep / 100], Reading::viewer()).unwrap_err().to_string();
        let words: Vec<&str> = error.split(' ').collect();
        let of = words.iter().position(|word| *word == "of").unwrap();
        assert_eq!(words[of + 1], "475", "{error}");
        let missing: usize = words[of - 1].parse().unwrap();
        assert!(missing.abs_diff(about) <= 40, "{error}");
    }
    let note = viewed(&rows[..rows.len() * 95 / 100]).note.unwrap();
    assert!(note.ends_with("of 475 blocks are missing"), "{note}");
}

#[test]
fn an_interval_of_0_is_no_restart() {
    let whole = large_jpeg(400, 300);
    let said = [&whole[..2], &[0xff, 0xdd, 0, 4, 0, 0], &whole[2..]].concat();
    assert_eq!(viewed(&said).pixels, viewed(&whole).pixels);
    let (cut, said) = (&whole[..whole.len() * 95 / 100], &said[..6 + whole.len() * 95 / 100]);
    assert!(viewed(cut).note.unwrap().ends_with("blocks are missing"));
    assert_eq!(viewed(said), viewed(cut));
}

#[test]
fn a_bad_code_in_a_jpeg_is_read_and_said() {
    let whole = large_jpeg(400, 300);
    let mut repaired = 0;
    for place in (whole.len() * 9 / 10..whole.len() - 8).step_by(3) {
        let mut damaged = whole.clone();
        damaged[place] = 0x55;
        damaged[place + 1] = 0xfe;
        if let Ok(DecodedImage { note: Some(note), .. }) = decode(&damaged, Reading::viewer()) {
            assert!(note.starts_with("repaired: "), "{note}");
            repaired += 1;
        }
    }
    assert!(repaired >= 5, "{repaired}");
}

#[test]
fn rows_that_are_cut_off_are_gray() {
    for (name, keep) in [
        ("scene.png", 0.95),
        ("rgb24.bmp", 0.96),
        ("rgb.ppm", 0.96),
        ("palette.gif", 0.98),
        ("interlaced.gif", 0.98),
        ("rgb.tif", 0.95),
        ("grey16.tif", 0.96),
        ("palette.tif", 0.99),
    ] {
        let sound = viewed(&bytes(name));
        let damaged = cut(name, keep);
        assert!(decode(&damaged, Reading::pillow()).is_err(), "{name}");
        let repaired = viewed(&damaged);
        let note = repaired.note.unwrap();
        assert!(note.starts_with("repaired: ") && note.ends_with("rows are missing"), "{name}: {note}");
        let same = repaired.pixels.iter().zip(&sound.pixels).filter(|(a, b)| a == b).count();
        assert!(same * 10 >= sound.pixels.len() * 8, "{name}: {same} of {}", sound.pixels.len());
        let error = decode(&cut(name, 0.6), Reading::viewer()).unwrap_err();
        assert!(matches!(error, Error::Undecodable { .. }), "{name}: {error}");
    }
}

#[test]
fn wrong_bytes_are_told_from_missing_ones() {
    for name in ["scene.png", "palette.gif"] {
        let mut damaged = bytes(name);
        let place = damaged.len() * 8 / 10;
        damaged[place..place + 20].fill(0xff);
        let error = decode(&damaged, Reading::viewer()).unwrap_err().to_string();
        assert!(error.contains("unreadable: the file is corrupt"), "{name}: {error}");
        let error = decode(&cut(name, 0.8), Reading::viewer()).unwrap_err().to_string();
        assert!(error.contains("missing: the file is cut off"), "{name}: {error}");
    }
}

#[test]
fn an_end_without_pixels_is_said_to_be_missing() {
    for (name, bytes_gone, note) in [
        ("palette.gif", 1, "repaired: the end is missing"),
        ("interlaced.gif", 1, "repaired: the end is missing"),
        ("420-progressive-q95.jpg", 2, "repaired: the end marker is missing"),
        ("420-progressive-q95.jpg", 60, "repaired: the file is cut off, and fine detail is missing"),
    ] {
        let whole = bytes(name);
        let repaired = viewed(&whole[..whole.len() - bytes_gone]);
        assert_eq!(repaired.note.as_deref(), Some(note), "{name}");
        if bytes_gone < 3 {
            assert_eq!(repaired.pixels, viewed(&whole).pixels, "{name}");
        }
    }
    // Pillow reads a GIF without its last byte like any other.
    let whole = bytes("palette.gif");
    assert_eq!(decode(&whole[..whole.len() - 1], Reading::pillow()).unwrap().note, None);
}

#[test]
fn tiff_files_that_are_not_read_say_why() {
    let whole = bytes("rgb-lzw.tif");
    let error = decode(&whole[..whole.len() - 20], Reading::viewer()).unwrap_err().to_string();
    assert!(error.ends_with("the file is cut off"), "{error}");
    // The directory's entry of the compression: a 16-bit number, 5 for LZW.
    let entry = [3, 1, 3, 0, 1, 0, 0, 0, 5, 0];
    let at = whole.windows(10).position(|bytes| bytes == entry).unwrap() + 8;
    for (method, word) in [(7u16, "JPEG"), (50_000, "ZSTD")] {
        let mut other = whole.clone();
        other[at..at + 2].copy_from_slice(&method.to_le_bytes());
        let error = decode(&other, Reading::viewer()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("without compression, or as PNG"), "{error}");
    }
}

#[test]
fn planes_of_a_tiff_file_that_are_stored_one_after_the_other_are_read() {
    let (width, height) = (3u16, 2u16);
    let pixels: Vec<u8> = (0..18).map(|i| 10 * i + 3).collect();
    // Entries of numbers, 16 or 32 bits wide, behind a header of eight bytes; what does not fit follows them.
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    let end = 8 + 2 + 10 * 12 + 4;
    let entries: [(u16, u16, u32, u32); 10] = [
        (256, 3, 1, width.into()),
        (257, 3, 1, height.into()),
        (258, 3, 3, end),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 3, end + 6),
        (277, 3, 1, 3),
        (278, 3, 1, height.into()),
        (279, 4, 3, end + 18),
        (284, 3, 1, 2),
    ];
    file.extend(10u16.to_le_bytes());
    for (tag, kind, count, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file.extend([8u16; 3].map(u16::to_le_bytes).concat());
    file.extend([0u32, 6, 12].map(|plane| (end + 30 + plane).to_le_bytes()).concat());
    file.extend([6u32; 3].map(u32::to_le_bytes).concat());
    file.extend((0..18).map(|i| pixels[i % 6 * 3 + i / 6]));
    assert_eq!(viewed(&file).pixels, pixels);
}

/// A JPEG of smooth color.
fn large_jpeg(width: usize, height: usize) -> Vec<u8> {
    use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        [(x * 3 + y) as u8, (y * 5 % 251) as u8, ((x ^ y) % 256) as u8]
    };
    let pixels: Vec<u8> = (0..width * height).flat_map(pixel).collect();
    compress(&pixels, width, height, PixelFormat::Rgb, 90, Subsampling::S420).unwrap()
}

#[test]
fn a_panorama_is_decoded_at_a_part_of_its_sides() {
    use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
    let (width, height) = (16_000usize, 3_200usize);
    let pixels: Vec<u8> = (0..width * height).map(|i| (i % width / 80 + i / width / 40) as u8).collect();
    let file = compress(&pixels, width, height, PixelFormat::Grayscale, 80, Subsampling::S444).unwrap();
    let cropped = DecodeSettings {
        resize_mode: ResizeMode::CenterCrop,
        crop_pct: 0.875,
        reading: Reading::viewer(),
        ..settings(64, 64, ColorMode::Gray)
    };
    let found = decode_bytes(Path::new("panorama"), &file, &cropped).unwrap();
    assert_eq!(found.size, (16_000, 3_200));
    assert_eq!(found.note.unwrap(), "reduced: 16000x3200 decoded at 1/8 of its sides");
    // The center of a slope: 100 + 40, to within the rounding of blocks.
    let center = found.pixels[32 * 64 + 32];
    assert!(center.abs_diff(140) <= 3, "{center}");

    // Above the limit it is read where a part of it is within.
    let little =
        DecodeSettings { reading: Reading { max_pixels: 1_000_000, ..Reading::viewer() }, ..cropped.clone() };
    assert_eq!(decode_bytes(Path::new("panorama"), &file, &little).unwrap().pixels, found.pixels);
    let large = DecodeSettings { height: 600, width: 600, ..little };
    let error = decode_bytes(Path::new("panorama"), &file, &large).unwrap_err();
    assert!(matches!(error, Error::TooManyPixels { width: 16_000, height: 3_200, .. }), "{error}");
    assert!(error.to_string().contains("--max-pixels"), "{error}");
}

/// All coefficients of a progressive photo are held, however few pixels are made of them.
#[test]
fn a_progressive_photo_may_have_four_times_the_limit() {
    use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress_progressive};
    let pixels: Vec<u8> = (0..800 * 800).map(|i| (i * 7 % 251) as u8).collect();
    let progressive =
        compress_progressive(&pixels, 800, 800, PixelFormat::Grayscale, 80, Subsampling::S444).unwrap();
    let read = |file: &[u8], max_pixels| {
        let reading = Reading { max_pixels, ..Reading::viewer() };
        let settings = DecodeSettings { reading, ..settings(64, 64, ColorMode::Gray) };
        decode_bytes(Path::new("photo"), file, &settings)
    };
    assert!(read(&progressive, 160_000).is_ok());
    assert!(matches!(read(&progressive, 159_999), Err(Error::TooManyPixels { .. })));
    assert!(read(&large_jpeg(800, 800), 159_999).is_ok());
}

/// A palette of four bytes breaks the PNG library, a frame smaller than its data the WebP library.
#[test]
fn a_file_that_breaks_a_codec_is_an_error() {
    let png = bytes("palette8.png");
    let plte = png.windows(4).position(|name| name == b"PLTE").unwrap();
    let length = u32::from_be_bytes(png[plte - 4..plte].try_into().unwrap()) as usize;
    let chunk = b"PLTE\x01\x02\x03\x04";
    let short = [
        &png[..plte - 4],
        &4u32.to_be_bytes(),
        chunk,
        &crc32fast::hash(chunk).to_be_bytes(),
        &png[plte + 8 + length..],
    ]
    .concat();
    let mut webp = bytes("animated.webp");
    let frame = webp.windows(4).position(|name| name == b"ANMF").unwrap();
    webp[frame + 14..frame + 20].copy_from_slice(&[1, 0, 0, 1, 0, 0]);
    for (name, file) in [("png", short), ("webp", webp)] {
        for reading in [Reading::viewer(), Reading::pillow()] {
            let error = decode(&file, reading).unwrap_err();
            assert!(matches!(error, Error::Undecodable { .. }), "{name}: {error}");
        }
    }
}

/// A header of 100x100 over data of 14,000x14,000.
#[test]
fn limits_are_of_what_is_decoded() {
    let data = {
        let mut data = vec![0x30, 0, 0, 0x9d, 0x01, 0x2a];
        data.extend(14_000u16.to_le_bytes());
        data.extend(14_000u16.to_le_bytes());
        data.resize(4096, 0x55);
        data
    };
    let mut body = b"WEBPVP8X\x0a\0\0\0\0\0\0\0\x63\0\0\x63\0\0VP8 ".to_vec();
    body.extend((data.len() as u32).to_le_bytes());
    body.extend(&data);
    let file = [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat();
    let started = Instant::now();
    let error = decode(&file, Reading { max_pixels: 20_000, ..Reading::viewer() }).unwrap_err();
    assert!(error.to_string().contains("14000x14000"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_format_that_is_not_read_is_named_with_the_way_out() {
    for (start, words) in [
        (&b"\0\0\0\x1cftypheic\0\0\0\0"[..], ["HEIC", "convert"]),
        (b"\0\0\0\x1cftypavif\0\0\0\0", ["AVIF", "convert"]),
        (b"\0\0\0\x0cJXL \r\n\x87\n", ["JPEG XL", "convert"]),
        (b"\0\0\0\x0cjP  \r\n\x87\n", ["JPEG 2000", "convert"]),
        (b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>", ["SVG", "render"]),
        (b"<!DOCTYPE html><html>404", ["HTML", "download"]),
        (b"FUJIFILMCCD-RAW 0201", ["raw", "JPEG or TIFF"]),
    ] {
        let error = decode(start, Reading::viewer()).unwrap_err();
        assert!(matches!(error, Error::NotAnImage { .. }), "{error}");
        assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
    }
}

#[test]
fn a_turned_photo_is_scaled_as_it_is_shown() {
    let at = |bytes: &[u8], height, width| {
        let settings = DecodeSettings {
            reading: Reading::viewer(),
            interpolation: Interpolation::Bilinear,
            ..settings(height, width, ColorMode::Rgb)
        };
        decode_bytes(Path::new("photo"), bytes, &settings).unwrap().pixels
    };
    let upright = at(&bytes("rgb8.png"), 20, 30);
    // By a quarter to the right. Rows and columns are scaled in the other order, which rounds otherwise.
    let turned = at(&png_with(&exif(6, true)), 30, 20);
    for (y, row) in turned.chunks_exact(20 * 3).enumerate() {
        for (i, found) in row.iter().enumerate() {
            let (x, channel) = (i / 3, i % 3);
            let expected = upright[((19 - x) * 30 + y) * 3 + channel];
            assert!(found.abs_diff(expected) <= 2, "{found} against {expected} at {x}, {y}");
        }
    }
}
