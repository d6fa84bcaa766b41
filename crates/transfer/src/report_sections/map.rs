//! Images by how their features lie to each other.

use std::collections::HashMap;

use firstsight_report::{Axis, Figure, Scatter, Section, Series, number};

use crate::{Evaluation, FeatureMap};

/// Names that have a color and a shape of their own.
const NAMED: usize = 6;
/// Points that are drawn, at most.
const POINTS: usize = 2000;

/// Adds the map of measured images to a section: each in the color of its true class, circled where it is not recognized.
pub(super) fn map(section: &mut Section, name: &str, measured: &Evaluation, map: &FeatureMap, source: &str) {
    let Evaluation { images, predictions, on_map, .. } = measured;
    let n = on_map.len();
    // All mistakes, and the others evenly from among them.
    let (wrong, right): (Vec<usize>, Vec<usize>) =
        (0..n).partition(|&i| predictions.top(i).0 != predictions.labels[i]);
    let step = right.len().div_ceil(POINTS.saturating_sub(wrong.len()).max(1)).max(1);
    let shown: Vec<usize> =
        wrong.iter().take(POINTS).copied().chain(right.into_iter().step_by(step)).collect();
    let class = |i: &usize| images.classes()[predictions.labels[*i] as usize].as_str();
    let chart = scatter(map, shown.iter().map(|i| (class(i), on_map[*i])));
    let circled = wrong.iter().take(POINTS).map(|&i| point(on_map[i]));
    let chart = chart.circled("not recognized", circled);
    let part = if shown.len() < n {
        format!("{} of the {n} {name} images", shown.len())
    } else {
        format!("The {name} images")
    };
    let caption = format!(
        "{part} by the two directions in which the features of the training images differ most ({}): neighbors look alike to the \
         network. Circled: not recognized",
        explained(map)
    );
    section.figure(Figure::new(chart, caption, source));
}

/// A chart of places on a map with the name of each one's class or folder.
pub fn places<'a>(
    section: &mut Section,
    map: &FeatureMap,
    places: impl IntoIterator<Item = (&'a str, [f32; 2])>,
    source: &str,
) {
    let caption = format!(
        "Images by the two directions in which their features differ most ({}): neighbors look alike to the network",
        explained(map)
    );
    section.figure(Figure::new(scatter(map, places), caption, source));
}

/// Points by name. Where there are more names than colors, the most frequent have one each.
fn scatter<'a>(map: &FeatureMap, places: impl IntoIterator<Item = (&'a str, [f32; 2])>) -> Scatter {
    let mut by_name: HashMap<&str, Vec<(f64, f64)>> = HashMap::new();
    for (name, place) in places {
        by_name.entry(name).or_default().push(point(place));
    }
    let mut named: Vec<_> = by_name.into_iter().collect();
    named.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(b.0)));
    let others = if named.len() > NAMED { named.split_off(NAMED - 1) } else { Vec::new() };
    named.sort_by(|a, b| a.0.cmp(b.0));
    let axis = |which: &str, share: f64| {
        Axis::new(format!("{which} component, {} of the variance", number::percent(share, 0)))
    };
    let [first, second] = map.explained;
    let chart = named
        .into_iter()
        .fold(Scatter::new(axis("first", first), axis("second", second)), |chart, (name, points)| {
            chart.series(Series::new(name, points))
        });
    match others.len() {
        0 => chart,
        n => chart
            .series(Series::new(format!("{n} others"), others.into_iter().flat_map(|(_, points)| points))),
    }
}

fn explained(map: &FeatureMap) -> String {
    let [first, second] = map.explained;
    format!("principal components, {} of the variance", number::percent(first + second, 0))
}

fn point([x, y]: [f32; 2]) -> (f64, f64) {
    (f64::from(x), f64::from(y))
}
