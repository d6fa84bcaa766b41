//! A street in the sun, with enough yellow, edges and colors for filters to find.

use super::{Picture, Rgb};

/// A color while shapes are laid over each other.
type Paint = [f64; 3];

const SKY: (Paint, Paint) = ([96.0, 158.0, 224.0], [206.0, 228.0, 244.0]);
const SUN: Paint = [255.0, 216.0, 20.0];
const CLOUD: Paint = [248.0, 250.0, 252.0];
const HILL: (Paint, Paint) = ([96.0, 150.0, 84.0], [62.0, 118.0, 62.0]);
const WALL: Paint = [226.0, 214.0, 196.0];
const ROOF: Paint = [176.0, 58.0, 44.0];
const GLASS: Paint = [72.0, 96.0, 124.0];
const TRUNK: Paint = [104.0, 72.0, 48.0];
const LEAF: Paint = [38.0, 104.0, 52.0];
const ROAD: Paint = [92.0, 94.0, 100.0];
const LINE: Paint = [240.0, 238.0, 230.0];
const TAXI: Paint = [250.0, 200.0, 10.0];
const DARK: Paint = [30.0, 30.0, 34.0];
const RIM: Paint = [190.0, 192.0, 198.0];

/// The scene as an RGB picture, each pixel the mean of 4×4 places within it.
pub(crate) fn scene(height: usize, width: usize) -> Picture {
    const FINE: usize = 4;
    Picture::from_fn(height, width, |x, y| {
        let mut sum = [0.0; 3];
        for place in 0..FINE * FINE {
            let fine = |pixel: usize, part: usize| pixel as f64 + (part as f64 + 0.5) / FINE as f64;
            // The scene is 4 wide and 3 high.
            let (u, v) =
                (fine(x, place % FINE) * 4.0 / width as f64, fine(y, place / FINE) * 3.0 / height as f64);
            let paint = paint(u, v);
            (0..3).for_each(|c| sum[c] += paint[c]);
        }
        let byte = |sum: f64| (sum / (FINE * FINE) as f64).round() as u8;
        Rgb::from(sum.map(byte))
    })
}

/// Color at (u, v): that of the first shape from the front that covers it.
fn paint(u: f64, v: f64) -> Paint {
    street(u, v)
        .or_else(|| house(u, v))
        .or_else(|| tree(u, v))
        .or_else(|| hills(u, v))
        .unwrap_or_else(|| sky(u, v))
}

fn in_disc((u, v): (f64, f64), center: (f64, f64), radius: f64) -> bool {
    (u - center.0).hypot(v - center.1) < radius
}

fn in_box((u, v): (f64, f64), columns: (f64, f64), rows: (f64, f64)) -> bool {
    (columns.0..columns.1).contains(&u) && (rows.0..rows.1).contains(&v)
}

/// From `a` at 0 to `b` at 1.
fn blend((a, b): (Paint, Paint), share: f64) -> Paint {
    let share = share.clamp(0.0, 1.0);
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}

fn sky(u: f64, v: f64) -> Paint {
    let cloud =
        [(1.15, 0.62, 0.16), (1.36, 0.54, 0.2), (1.58, 0.63, 0.15), (0.32, 0.36, 0.1), (0.47, 0.33, 0.12)];
    if in_disc((u, v), (3.3, 0.55), 0.3) {
        SUN
    } else if cloud.iter().any(|&(x, y, r)| in_disc((u, v), (x, y), r) && v < y + 0.6 * r) {
        CLOUD
    } else {
        blend(SKY, v / 1.6)
    }
}

fn hills(u: f64, v: f64) -> Option<Paint> {
    let far = 1.5 - 0.22 * (1.3 * u + 0.4).sin();
    let near = 1.72 - 0.16 * (1.7 * u + 2.6).sin();
    if v > near {
        Some(HILL.1)
    } else if v > far {
        Some(blend(HILL, (v - far) / 0.5))
    } else {
        None
    }
}

fn house(u: f64, v: f64) -> Option<Paint> {
    let place = (u, v);
    let in_roof = (1.02..1.4).contains(&v) && (u - 0.95).abs() < 0.2 + 1.35 * (v - 1.02);
    if in_box(place, (1.3, 1.42), (0.92, 1.2)) {
        return Some(ROOF);
    }
    if in_roof {
        // Rows of tiles.
        let shade = if (v * 18.0).fract() < 0.25 { 0.8 } else { 1.0 };
        return Some(ROOF.map(|c| c * shade));
    }
    if !in_box(place, (0.38, 1.52), (1.4, 2.14)) {
        return None;
    }
    let windows = [0.5, 1.14];
    let in_pane = |left: f64| in_box(place, (left, left + 0.26), (1.52, 1.82));
    let on_bar = |left: f64| (u - left - 0.13).abs() < 0.012 || (v - 1.67).abs() < 0.012;
    Some(match windows.into_iter().find(|&left| in_pane(left)) {
        Some(left) if on_bar(left) => LINE,
        Some(_) => GLASS,
        None if in_box(place, (0.84, 1.04), (1.68, 2.14)) => TRUNK,
        None => WALL,
    })
}

fn tree(u: f64, v: f64) -> Option<Paint> {
    let leaves = [(2.62, 1.2, 0.3), (2.42, 1.38, 0.22), (2.82, 1.4, 0.24), (2.62, 1.46, 0.24)];
    if let Some(&(x, y, r)) = leaves.iter().find(|&&(x, y, r)| in_disc((u, v), (x, y), r)) {
        // Lighter towards the sun.
        let light = ((u - x) - (v - y)) / r;
        return Some(LEAF.map(|c| c * (1.0 + 0.3 * light)));
    }
    in_box((u, v), (2.56, 2.68), (1.6, 2.14)).then_some(TRUNK)
}

fn street(u: f64, v: f64) -> Option<Paint> {
    taxi(u, v).or_else(|| {
        if v <= 2.14 {
            None
        } else if v < 2.24 {
            Some(RIM)
        } else if (v - 2.62).abs() < 0.025 && (u * 1.6).fract() < 0.55 {
            Some(LINE)
        } else {
            Some(ROAD)
        }
    })
}

fn taxi(u: f64, v: f64) -> Option<Paint> {
    let place = (u, v);
    for x in [1.72, 2.72] {
        if in_disc(place, (x, 2.5), 0.075) {
            return Some(RIM);
        }
        if in_disc(place, (x, 2.5), 0.15) {
            return Some(DARK);
        }
    }
    let in_cabin = (1.98..2.26).contains(&v) && (u - 2.18).abs() < 0.3 + 0.55 * (v - 1.98);
    let in_window = (2.03..2.22).contains(&v) && (u - 2.18).abs() < 0.24 + 0.5 * (v - 1.98);
    if in_box(place, (2.06, 2.3), (1.9, 1.98)) {
        Some(DARK)
    } else if in_window && (u - 2.18).abs() > 0.025 {
        Some(GLASS)
    } else if in_box(place, (3.02, 3.12), (2.28, 2.36)) {
        Some(LINE)
    } else if in_box(place, (1.38, 3.12), (2.38, 2.43))
        && ((u * 14.0).floor() as i64 + (v * 40.0).floor() as i64) % 2 == 0
    {
        Some(DARK)
    } else if in_cabin || in_box(place, (1.34, 3.12), (2.22, 2.5)) {
        Some(TAXI)
    } else {
        None
    }
}
