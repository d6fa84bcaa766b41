//! Brightness, contrast, saturation and hue of bytes, computed as by Pillow's `ImageEnhance` and torchvision.

use crate::raster::luma;

/// Pillow's `Image.blend(degenerate, image, factor)` for one byte: in f32, rounded down.
fn blend(degenerate: u8, byte: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(degenerate), f32::from(byte));
    // `as` saturates to 0..=255.
    (from + factor * (to - from)) as u8
}

/// Blends with black, or extrapolates away from it.
pub(super) fn brightness(pixels: &mut [u8], factor: f64) {
    let table: [u8; 256] = std::array::from_fn(|byte| blend(0, byte as u8, factor as f32));
    pixels.iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

/// Blends with the mean gray, or extrapolates away from it.
pub(super) fn contrast<const C: usize>(pixels: &mut [u8], factor: f64) {
    let (sum, n) = match C {
        3 => {
            let pixels = pixels.as_chunks::<3>().0;
            (pixels.iter().map(|pixel| u64::from(luma(pixel))).sum::<u64>(), pixels.len())
        }
        _ => (pixels.iter().map(|&byte| u64::from(byte)).sum(), pixels.len()),
    };
    let mean = (sum as f64 / n as f64 + 0.5) as u8;
    let table: [u8; 256] = std::array::from_fn(|byte| blend(mean, byte as u8, factor as f32));
    pixels.iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

/// Blends with gray, or extrapolates away from it.
pub(super) fn saturation(pixels: &mut [u8], factor: f64) {
    for pixel in pixels.as_chunks_mut::<3>().0 {
        let gray = luma(pixel);
        *pixel = pixel.map(|byte| blend(gray, byte, factor as f32));
    }
}

/// Rotates the color wheel by `turns`, in steps of 1/256.
pub(super) fn hue(pixels: &mut [u8], turns: f64) {
    let steps = (turns * 255.0) as i32 as u8;
    for pixel in pixels.as_chunks_mut::<3>().0 {
        let [h, s, v] = to_hsv(*pixel);
        *pixel = to_rgb([h.wrapping_add(steps), s, v]);
    }
}

/// `rgb2hsv_row` of Pillow's libImaging/Convert.c.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [rc, gc, bc] = [r, g, b].map(|byte| f32::from(most - byte) / range);
    let hue = if r == most {
        bc - gc
    } else if g == most {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    let byte = |share: f32| (f64::from(share) * 255.0) as i32 as u8;
    [byte(hue), byte(saturation), most]
}

/// `hsv2rgb` of Pillow's libImaging/Convert.c.
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sixths = f64::from(f32::from(h)) * 6.0 / 255.0;
    let sector = sixths.floor();
    let f = (sixths - sector) as f32;
    let s = (f64::from(f32::from(s)) / 255.0) as f32;
    let scaled = |share: f64| (f64::from(v) * share).round() as u8;
    let (s, f) = (f64::from(s), f64::from(f));
    let (p, q, t) = (scaled(1.0 - s), scaled(1.0 - s * f), scaled(1.0 - s * (1.0 - f)));
    match sector as i32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}
