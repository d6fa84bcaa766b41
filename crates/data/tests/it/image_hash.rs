//! Near pictures are found, and different ones are not.

use std::io::Cursor;

use firstsight_data::{ImageHash, NearPair, near_pairs};
use image::{DynamicImage, ImageFormat, RgbImage, imageops};

/// A scene of soft spots of any color, different for each seed.
fn scene(seed: u32, width: u32, height: u32) -> RgbImage {
    let mut state = u64::from(seed) * 2 + 1;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let spots: Vec<[f32; 6]> = (0..24).map(|_| std::array::from_fn(|_| random())).collect();
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
        let mut color = [90.0, 100.0, 110.0];
        for [cx, cy, radius, r, g, b] in &spots {
            let near = (-((x - cx).powi(2) + (y - cy).powi(2)) / (0.002 + 0.03 * radius)).exp();
            for (channel, spot) in color.iter_mut().zip([r, g, b]) {
                *channel += near * (spot * 400.0 - 200.0);
            }
        }
        image::Rgb(color.map(|value| value.clamp(0.0, 255.0) as u8))
    })
}

fn hash(picture: &RgbImage) -> ImageHash {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    picture.save(&path).unwrap();
    ImageHash::new(&firstsight_data::decode_image(&path, &ImageHash::decode_settings()).unwrap()).unwrap()
}

fn recompressed(picture: &RgbImage) -> RgbImage {
    let mut bytes = Cursor::new(Vec::new());
    // GIF's 256 colors stand for a strong loss; the tests have no JPEG encoder.
    DynamicImage::from(picture.clone()).write_to(&mut bytes, ImageFormat::Gif).unwrap();
    image::load_from_memory(&bytes.into_inner()).unwrap().into_rgb8()
}

fn cropped(picture: &RgbImage, share: f32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let keep = |side: u32| (side as f32 * (1.0 - share)) as u32;
    let corner = |side: u32| (side - keep(side)) / 2;
    imageops::crop_imm(picture, corner(width), corner(height), keep(width), keep(height)).to_image()
}

#[test]
fn copies_that_were_recompressed_resized_brightened_or_slightly_cropped_are_near() {
    for seed in 0..10 {
        let picture = scene(seed, 240, 160);
        let original = hash(&picture);
        let resize =
            |width, height| imageops::resize(&picture, width, height, imageops::FilterType::Triangle);
        let copies = [
            ("recompressed", recompressed(&picture)),
            ("half as large", resize(120, 80)),
            ("stretched", resize(100, 100)),
            ("larger", resize(500, 333)),
            ("brighter", imageops::brighten(&picture, 20)),
            ("cropped by 2 %", cropped(&picture, 0.02)),
            ("cropped by 3 %", cropped(&picture, 0.03)),
        ];
        for (change, copy) in copies {
            let distance = original.distance(&hash(&copy));
            assert!(distance <= ImageHash::NEAR, "{change}: {distance} bits, seed {seed}");
        }
    }
}

#[test]
fn the_search_finds_what_comparing_all_pairs_finds() {
    let mut pictures: Vec<RgbImage> = (0..60).map(|seed| scene(seed, 90, 70)).collect();
    pictures.push(cropped(&pictures[7], 0.02));
    pictures.push(recompressed(&pictures[30]));
    let hashes: Vec<ImageHash> = pictures.iter().map(hash).collect();
    let mut all = Vec::new();
    for (first, a) in hashes.iter().enumerate() {
        for (second, b) in hashes.iter().enumerate().skip(first + 1) {
            let distance = a.distance(b);
            if distance <= ImageHash::NEAR {
                all.push(NearPair { first, second, distance });
            }
        }
    }
    assert_eq!(near_pairs(&hashes), all);
    let found: Vec<(usize, usize)> = all.iter().map(|pair| (pair.first, pair.second)).collect();
    assert_eq!(found, [(7, 60), (30, 61)]);
}

#[test]
fn pictures_of_one_color_are_not_near_each_other() {
    let plain = |gray| hash(&RgbImage::from_pixel(40, 30, image::Rgb([gray; 3])));
    let hashes = [plain(10), plain(200), plain(200)];
    assert!(hashes.iter().all(|hash| hash.detail() < ImageHash::LEAST_DETAIL));
    assert_eq!(near_pairs(&hashes), []);
}

#[test]
fn many_copies_of_one_picture_stay_connected_and_take_little_memory() {
    let hashes = vec![hash(&scene(1, 64, 64)); 3000];
    let pairs = near_pairs(&hashes);
    assert!(pairs.len() <= 16 * 3000);
    // Every picture but the last has a later one.
    for first in 0..2999 {
        assert!(pairs.iter().any(|pair| pair.first == first), "{first}");
    }
}

#[test]
fn another_number_of_bytes_is_refused() {
    let error = ImageHash::new(&[0; 100]).unwrap_err().to_string();
    assert!(error.contains("12288") && error.contains("100"), "{error}");
}
