//! The transforms compared with Pillow, torchvision and Keras; goldens/augment.py describes the arrays.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::affine::{Affine, resample};
use super::crop::{self, Part};
use super::erase;
use super::random::{Purpose, Random};
use super::{Fill, color};
use crate::decode_settings::Interpolation;

struct Golden {
    arrays: HashMap<String, Tensor>,
}

/// (H, W, C) bytes.
struct Bytes {
    values: Vec<u8>,
    size: (usize, usize),
    channels: usize,
}

impl Golden {
    fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/augment.safetensors");
        Self { arrays: candle_core::safetensors::load(path, &Device::Cpu).unwrap() }
    }

    fn bytes(&self, key: &str) -> Bytes {
        let array = &self.arrays[key];
        let (height, width, channels) = array.dims3().unwrap();
        let values = array.flatten_all().unwrap().to_vec1().unwrap();
        Bytes { values, size: (height, width), channels }
    }

    /// For each key of `kind`: the parts of the key behind it, the image that went in, and what came out.
    fn each(&self, kind: &str, count: usize, check: impl Fn(&[&str], Bytes, &Tensor)) {
        let mut found = 0;
        for (key, array) in &self.arrays {
            let parts: Vec<&str> = key.split('/').collect();
            if parts[0] == kind {
                check(&parts[1..], self.bytes(&format!("image/{}", parts[1])), array);
                found += 1;
            }
        }
        assert_eq!(found, count, "arrays of {kind}");
    }
}

fn expected(array: &Tensor) -> Vec<u8> {
    assert_eq!(array.dtype(), DType::U8);
    array.flatten_all().unwrap().to_vec1().unwrap()
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn affine(coefficients: &str) -> Affine {
    let c: Vec<f64> = coefficients.split(',').map(number).collect();
    Affine { x: [c[0], c[1], c[2]], y: [c[3], c[4], c[5]] }
}

fn resampled(image: &Bytes, map: Affine, interpolation: Interpolation, fill: Fill) -> Vec<u8> {
    let mut target = vec![0; image.values.len()];
    match image.channels {
        1 => resample::<1>(&image.values, image.size, map, interpolation, fill, &mut target),
        _ => resample::<3>(&image.values, image.size, map, interpolation, fill, &mut target),
    }
    target
}

#[test]
fn rotations_are_torchvisions() {
    let golden = Golden::load();
    golden.each("rotate", 24, |parts, image, array| {
        let [_, interpolation, fill, degrees] = parts[..] else { panic!("{parts:?}") };
        let map = Affine::rotate(number(degrees), image.size);
        let (interpolation, allowed) = match interpolation {
            // Pillow looks up neighbors in 16.16 fixed point.
            "nearest" => (Interpolation::Nearest, image.values.len() / 200),
            _ => (Interpolation::Bilinear, 0),
        };
        let found = resampled(&image, map, interpolation, Fill::Constant(number(fill)));
        let differ = found.iter().zip(expected(array)).filter(|(a, b)| *a != b).count();
        assert!(differ <= allowed, "{parts:?}: {differ} bytes differ");
    });
}

#[test]
fn affine_maps_are_pillows() {
    Golden::load().each("affine", 20, |parts, image, array| {
        let found =
            resampled(&image, affine(parts[2]), Interpolation::Bilinear, Fill::Constant(number(parts[1])));
        assert_eq!(found, expected(array), "{parts:?}");
    });
}

#[test]
fn other_fills_are_kerass() {
    Golden::load().each("keras", 30, |parts, image, array| {
        let fill = match parts[1] {
            "nearest" => Fill::Edge,
            "reflect" => Fill::Symmetric,
            "wrap" => Fill::Wrap,
            other => panic!("{other}"),
        };
        let found = resampled(&image, affine(parts[2]), Interpolation::Bilinear, fill);
        let expected: Vec<f32> = array.flatten_all().unwrap().to_vec1().unwrap();
        for (found, expected) in found.iter().zip(expected) {
            // Ours are rounded down; Keras computes in f32.
            let above = expected - f32::from(*found);
            assert!((-0.01..1.01).contains(&above), "{parts:?}: {found} for {expected}");
        }
    });
}

#[test]
fn flips_and_padded_crops_are_torchvisions() {
    let golden = Golden::load();
    golden.each("flip", 4, |parts, image, array| {
        let map = match parts[1] {
            "h" => Affine::flip_horizontal(image.size),
            _ => Affine::flip_vertical(image.size),
        };
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
            assert_eq!(resampled(&image, map, interpolation, Fill::Edge), expected(array));
        }
    });
    golden.each("crop", 24, |parts, image, array| {
        let [_, mode, padding, top, left] = parts[..] else { panic!("{parts:?}") };
        let fill = match mode {
            "constant" => Fill::Constant(77),
            "edge" => Fill::Edge,
            "reflect" => Fill::Reflect,
            _ => Fill::Symmetric,
        };
        let shift = |corner: &str| number::<f64>(padding) - number::<f64>(corner);
        let map = Affine::translate(shift(top), shift(left));
        assert_eq!(resampled(&image, map, Interpolation::Bilinear, fill), expected(array), "{parts:?}");
    });
}

#[test]
fn resized_crops_are_torchvisions() {
    Golden::load().each("resized", 24, |parts, image, array| {
        let interpolation = match parts[1] {
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            _ => Interpolation::Lanczos,
        };
        let sides: Vec<usize> = parts[2].split(',').map(number).collect();
        let part = Part { top: sides[0], left: sides[1], height: sides[2], width: sides[3] };
        let (height, width) = image.size;
        let found =
            crop::resized(&image.values, (width, image.channels), part, (height, width), interpolation);
        assert_eq!(found, expected(array), "{parts:?}");
    });
}

#[test]
fn colors_are_torchvisions() {
    let golden = Golden::load();
    type Change = fn(&mut [u8], f64);
    let kinds: [(&str, usize, Change); 4] = [
        ("brightness", 12, color::brightness),
        ("contrast", 12, |_, _| ()),
        ("saturation", 6, color::saturation),
        ("hue", 6, color::hue),
    ];
    for (kind, count, change) in kinds {
        golden.each(kind, count, |parts, mut image, array| {
            let factor = number(parts[1]);
            match (kind, image.channels) {
                ("contrast", 1) => color::contrast::<1>(&mut image.values, factor),
                ("contrast", _) => color::contrast::<3>(&mut image.values, factor),
                _ => change(&mut image.values, factor),
            }
            assert_eq!(image.values, expected(array), "{kind} {parts:?}");
        });
    }
    let colors = || {
        let levels = || (0u8..=255).step_by(17);
        levels().flat_map(move |r| levels().flat_map(move |g| levels().flat_map(move |b| [r, g, b])))
    };
    for factor in ["0.0", "0.2", "-0.4"] {
        let mut turned: Vec<u8> = colors().collect();
        color::hue(&mut turned, number(factor));
        assert_eq!(turned, golden.bytes(&format!("colors/hue/{factor}")).values, "{factor}");
    }
}

/// One resampling by the composed map equals two resamplings, where no pixel falls between pixels.
#[test]
fn composed_maps_do_the_first_first() {
    let size = (5, 8);
    let image = Bytes { values: (0..40).collect(), size, channels: 1 };
    let fill = Fill::Constant(99);
    let maps = [
        Affine::flip_horizontal(size),
        Affine::translate(1.0, -3.0),
        Affine::flip_vertical(size),
        Affine::translate(-2.0, 1.0),
    ];
    for first in maps {
        for second in maps {
            let once = resampled(&image, first.then(second), Interpolation::Bilinear, fill);
            let halfway = Bytes { values: resampled(&image, first, Interpolation::Bilinear, fill), ..image };
            let twice = resampled(&halfway, second, Interpolation::Bilinear, fill);
            // What leaves the image on the way comes back in the composition.
            let same = once.iter().zip(&twice).filter(|(a, b)| a == b || **b == 99).count();
            assert_eq!(same, 40, "{first:?} then {second:?}");
            assert!(twice.iter().filter(|&&byte| byte != 99).count() >= 4);
        }
    }
}

#[test]
fn parts_have_the_area_and_the_ratio_asked_for_or_fall_back_to_the_center() {
    let mut random = Random::new(1, Purpose::Image, 0, 0);
    for _ in 0..500 {
        let Part { top, left, height, width } =
            crop::draw(&mut random, (80, 60), (0.2, 0.6), (0.75, 4.0 / 3.0));
        assert!(top + height <= 80 && left + width <= 60);
        let (area, ratio) = ((height * width) as f64 / 4800.0, width as f64 / height as f64);
        assert!((0.19..0.62).contains(&area) && (0.72..1.38).contains(&ratio), "{area} {ratio}");
    }
    // A part ten times as wide as high can't have nine tenths of the area.
    let part = crop::draw(&mut random, (80, 60), (0.9, 0.9), (10.0, 10.0));
    assert_eq!(part, Part { top: 37, left: 0, height: 6, width: 60 });
}

#[test]
fn crops_reach_every_place_and_stay_inside() {
    let (mut tops, mut lefts) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for index in 0..200 {
        let mut random = Random::new(5, Purpose::Image, 0, index);
        // A part of 2 x 2 of 4 x 6.
        let part = crop::draw(&mut random, (4, 6), (4.0 / 24.0, 4.0 / 24.0), (1.0, 1.0));
        assert_eq!((part.height, part.width), (2, 2));
        tops.insert(part.top);
        lefts.insert(part.left);
    }
    assert_eq!((tops.len(), tops.last()), (3, Some(&2)));
    assert_eq!((lefts.len(), lefts.last()), (5, Some(&4)));
}

#[test]
fn erased_rectangles_reach_every_place_and_stay_inside() {
    let (mut tops, mut lefts) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for index in 0..200 {
        let mut random = Random::new(5, Purpose::Image, 0, index);
        let part = erase::draw(&mut random, (4, 6), (4.0 / 24.0, 4.0 / 24.0), (1.0, 1.0)).unwrap();
        assert_eq!((part.height, part.width), (2, 2));
        tops.insert(part.top);
        lefts.insert(part.left);
    }
    assert_eq!((tops.len(), tops.last()), (3, Some(&2)));
    assert_eq!((lefts.len(), lefts.last()), (5, Some(&4)));
    let mut random = Random::new(5, Purpose::Image, 0, 0);
    assert_eq!(erase::draw(&mut random, (4, 6), (1.0, 1.0), (1.0, 1.0)), None, "as high as the image");
}
