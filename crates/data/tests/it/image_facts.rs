//! Headers are read as the decoders read them.

use firstsight_data::{Colors, ImageFacts};
use image::{DynamicImage, ImageFormat};

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// EXIF data with an orientation alone.
fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// The start of a JPEG file of 7×5 pixels: EXIF, then a frame header.
fn jpeg(components: u8, orientation: u8) -> Vec<u8> {
    let exif = exif(orientation);
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1, 0, (exif.len() + 8) as u8];
    bytes.extend(b"Exif\0\0");
    bytes.extend(exif);
    // A fill byte may precede a marker.
    bytes.extend([0xff, 0xff, 0xc2, 0, 8 + 3 * components, 8, 0, 5, 0, 7, components]);
    bytes.extend(vec![0; 3 * usize::from(components)]);
    bytes
}

#[test]
fn the_facts_of_png_files_are_those_of_their_headers() {
    let cases = [
        (DynamicImage::new_luma8(3, 5), Colors::Gray, false, 8),
        (DynamicImage::new_luma_a8(3, 5), Colors::Gray, true, 8),
        (DynamicImage::new_rgb8(3, 5), Colors::Rgb, false, 8),
        (DynamicImage::new_rgba8(3, 5), Colors::Rgb, true, 8),
        (DynamicImage::new_luma16(3, 5), Colors::Gray, false, 16),
        (DynamicImage::new_rgb16(3, 5), Colors::Rgb, false, 16),
    ];
    for (image, colors, alpha, bits) in cases {
        let facts = ImageFacts::read(&encoded(&image, ImageFormat::Png)).unwrap();
        assert_eq!((facts.format, facts.width, facts.height), ("PNG", 3, 5));
        assert_eq!((facts.colors, facts.alpha, facts.bits, facts.orientation), (colors, alpha, bits, 1));
    }
}

#[test]
fn the_facts_of_gif_bmp_and_webp_files_are_those_of_their_headers() {
    let image = DynamicImage::new_rgb8(31, 17);
    for (format, name, colors) in [
        (ImageFormat::Gif, "GIF", Colors::Palette),
        (ImageFormat::Bmp, "BMP", Colors::Rgb),
        (ImageFormat::WebP, "WebP", Colors::Rgb),
    ] {
        let facts = ImageFacts::read(&encoded(&image, format)).unwrap();
        assert_eq!((facts.format, facts.width, facts.height, facts.colors), (name, 31, 17, colors));
        assert!(!facts.alpha, "{name}");
    }
    let mut clear = image::RgbaImage::from_pixel(31, 17, image::Rgba([9, 9, 9, 255]));
    clear.put_pixel(3, 3, image::Rgba([0, 0, 0, 0]));
    for format in [ImageFormat::Gif, ImageFormat::WebP] {
        assert!(ImageFacts::read(&encoded(&clear.clone().into(), format)).unwrap().alpha, "{format:?}");
    }
}

#[test]
fn a_jpeg_file_tells_its_colors_and_its_orientation() {
    for (components, colors) in [(1, Colors::Gray), (3, Colors::Rgb), (4, Colors::Cmyk)] {
        let facts = ImageFacts::read(&jpeg(components, 6)).unwrap();
        assert_eq!((facts.format, facts.width, facts.height, facts.colors), ("JPEG", 7, 5, colors));
        assert_eq!((facts.orientation, facts.shown()), (6, (5, 7)));
    }
    assert_eq!(ImageFacts::read(&jpeg(3, 9)).unwrap().orientation, 1, "there is no orientation 9");
}

/// A TIFF file's header alone: 7×5 pixels of three channels, turned.
#[test]
fn a_tiff_file_tells_the_first_of_values_that_lie_elsewhere() {
    let entries: [(u16, u32, [u8; 4]); 5] = [
        (256, 1, [0, 7, 0, 0]),
        (257, 1, [0, 5, 0, 0]),
        // Three values of 16 bits, behind the directory.
        (258, 3, [0, 0, 0, 70]),
        (262, 1, [0, 2, 0, 0]),
        (274, 1, [0, 8, 0, 0]),
    ];
    let mut bytes = b"MM\0\x2a\0\0\0\x08\0\x05".to_vec();
    for (tag, count, value) in entries {
        bytes.extend([&tag.to_be_bytes()[..], &3u16.to_be_bytes(), &count.to_be_bytes(), &value].concat());
    }
    bytes.extend([0, 16, 0, 16, 0, 16]);
    let facts = ImageFacts::read(&bytes).unwrap();
    assert_eq!((facts.format, facts.width, facts.height, facts.colors), ("TIFF", 7, 5, Colors::Rgb));
    assert_eq!((facts.bits, facts.orientation, facts.shown()), (16, 8, (5, 7)));
}

#[test]
fn cut_and_foreign_files_have_no_facts_and_nothing_panics() {
    assert_eq!(ImageFacts::read(b""), None);
    assert_eq!(ImageFacts::read(b"<!DOCTYPE html>"), None);
    let image = DynamicImage::new_rgba8(9, 9);
    let mut files = vec![jpeg(3, 6)];
    files.extend(
        [ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP].map(|f| encoded(&image, f)),
    );
    files.push([b"II\x2a\0\x08\0\0\0\xff\xff".as_slice(), &[0xff; 40]].concat());
    for file in &files {
        for length in 0..file.len() {
            ImageFacts::read(&file[..length]);
        }
        for i in 0..file.len() {
            let mut damaged = file.clone();
            damaged[i] = 0xff;
            ImageFacts::read(&damaged);
        }
    }
}
