//! Pixels against Pillow's: goldens/images.py makes the files and says what Pillow reads.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use firstsight_data::{ColorMode, DecodeSettings, Interpolation, ResizeMode, decode_image};

use crate::support::{golden, settings};

fn goldens() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(golden("pillow.safetensors"), &Device::Cpu).unwrap()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    assert_eq!(tensor.dtype(), DType::U8);
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn color(mode: &str) -> ColorMode {
    if mode == "L" { ColorMode::Gray } else { ColorMode::Rgb }
}

/// The largest difference of a byte.
fn distance(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// What is allowed, which is what was measured: 16-bit BMP's five and six bits become eight by rounding, where Pillow
/// truncates.
fn tolerance(key: &str) -> u8 {
    u8::from(key.starts_with("rgb5"))
}

#[test]
fn every_format_and_mode_is_decoded_as_pillow_does() {
    let mut wrong = BTreeMap::new();
    let mut compared = 0;
    for (key, expected) in goldens() {
        let Some((file, mode @ ("L" | "RGB"))) = key.split_once('/') else { continue };
        let (height, width) = (expected.dim(0).unwrap(), expected.dim(1).unwrap());
        let settings = settings(height, width, color(mode));
        match decode_image(&golden("images").join(file), &settings) {
            Ok(found) => {
                let distance = distance(&found, &bytes(&expected));
                if distance > tolerance(&key) {
                    wrong.insert(key, distance.to_string());
                }
            }
            Err(error) => {
                wrong.insert(key, error.to_string());
            }
        }
        compared += 1;
    }
    assert_eq!(compared, 2 * std::fs::read_dir(golden("images")).unwrap().count());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn resizing_is_pillows_bit_for_bit() {
    let mut compared = 0;
    for (key, expected) in goldens() {
        let Some(case) = key.strip_prefix("resize/") else { continue };
        let [mode, filter, _, file] = case.split('/').collect::<Vec<_>>()[..] else { panic!("{key}") };
        let interpolation = match filter {
            "nearest" => Interpolation::Nearest,
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            _ => Interpolation::Lanczos,
        };
        let (height, width) = (expected.dim(0).unwrap(), expected.dim(1).unwrap());
        let settings = DecodeSettings { interpolation, ..settings(height, width, color(mode)) };
        let found = decode_image(&golden("images").join(file), &settings).unwrap();
        assert_eq!(found, bytes(&expected), "{key}");
        compared += 1;
    }
    assert_eq!(compared, 3 * 2 * 4 * 8);
}

#[test]
fn crops_are_timms() {
    let mut compared = 0;
    for (key, expected) in goldens() {
        let Some(case) = key.strip_prefix("timm/") else { continue };
        let [mode, file, _, pct] = case.split('/').collect::<Vec<_>>()[..] else { panic!("{key}") };
        let (height, width) = (expected.dim(0).unwrap(), expected.dim(1).unwrap());
        let crop_pct = pct.parse().unwrap();
        let settings = DecodeSettings {
            resize_mode: if mode == "center" { ResizeMode::CenterCrop } else { ResizeMode::Squash },
            crop_pct,
            interpolation: Interpolation::Bicubic,
            ..settings(height, width, ColorMode::Rgb)
        };
        let found = decode_image(&golden("images").join(file), &settings).unwrap();
        assert_eq!(found, bytes(&expected), "{key}");
        compared += 1;
    }
    assert_eq!(compared, 2 * 4 * (4 + 2));
}
