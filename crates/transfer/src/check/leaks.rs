//! Properties of files, rather than of what they show, that tell classes apart: a network learns those instead.

use std::collections::BTreeMap;
use std::fmt;

use firstsight_data::{Colors, ImageFacts};
use serde::Serialize;

use super::finding::{Finding, FindingKind};
use super::images::CheckedImage;

/// Least number of images with a property for it to count.
const LEAST: usize = 5;
/// The probability of chance below which a property that one class alone has is told.
const CHANCE: f64 = 1e-3;
/// The least Cramér's V, corrected for bias, that is told: a strong association by Cohen's convention for a few classes.
const STRONG: f64 = 0.4;
/// How far above its expectation χ² must be, in standard deviations of the normal approximation.
const SIGNIFICANT: f64 = 5.0;
/// Different values of a property; rarer ones are taken together.
const VALUES: usize = 12;

/// The images of each class with each value of a property, where the property tells classes apart.
#[derive(Debug, Clone, Serialize)]
pub struct LeakTable {
    /// The property, such as `format`.
    pub property: &'static str,
    /// Its values.
    pub values: Vec<String>,
    /// Images by (class, value).
    pub counts: Vec<Vec<usize>>,
    /// Cramér's V, corrected for bias (Bergsma 2013): 0 for no association, 1 where one tells the other.
    pub strength: f64,
}

/// The findings and their tables.
pub(super) fn find(images: &[CheckedImage], classes: &[String]) -> (Vec<Finding>, Vec<LeakTable>) {
    let (mut findings, mut tables) = (Vec::new(), Vec::new());
    for property in PROPERTIES {
        let value = (property.value)(images);
        let valued = || labeled(images).filter_map(|(label, image)| Some((label, value(image)?)));
        let Some(table) = table(property.name, valued, classes.len()) else { continue };
        let exclusive = exclusive(property, &table, classes);
        let strong = table.strength >= STRONG;
        if strong && exclusive.is_empty() {
            let reason = difference(property, &table, classes);
            findings.push(Finding::new(FindingKind::Leak, reason).score(table.strength));
        }
        let told = strong || !exclusive.is_empty();
        findings.extend(exclusive.into_iter().map(|finding| finding.score(table.strength)));
        if told {
            tables.push(table);
        }
    }
    (findings, tables)
}

/// The images that can be read and have a class, with it.
fn labeled(images: &[CheckedImage]) -> impl Iterator<Item = (usize, &CheckedImage)> {
    let sound = images.iter().filter(|image| image.is_sound());
    sound.filter_map(|image| Some((image.label? as usize, image)))
}

struct Property {
    name: &'static str,
    /// What gives the value of an image, among all of them.
    value: fn(&[CheckedImage]) -> Values,
    /// `have transparency`: what images of a value do, after "the images of class x".
    words: fn(&str) -> String,
}

type Values = Box<dyn Fn(&CheckedImage) -> Option<Value>>;

/// A value of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Word(&'static str),
    Number(u8),
    Size(u32, u32),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Number(number) => write!(f, "{number}"),
            Self::Size(width, height) => write!(f, "{width}×{height}"),
        }
    }
}

const PROPERTIES: &[Property] = &[
    Property {
        name: "format",
        value: |_| of_facts(|facts| Value::Word(facts.format)),
        words: |v| format!("are {v}"),
    },
    Property {
        name: "colors",
        value: |_| of_facts(|facts| Value::Word(colors(facts))),
        words: |v| format!("are in {v}"),
    },
    Property {
        name: "transparency",
        value: |_| {
            Box::new(|image| {
                let transparent = image.look.as_ref().is_ok_and(|look| look.transparent);
                Some(Value::Word(if transparent { "transparency" } else { "no transparency" }))
            })
        },
        words: |v| format!("have {v}"),
    },
    Property {
        name: "bits of a channel",
        value: |_| of_facts(|facts| Value::Number(facts.bits)),
        words: |v| format!("have {v} bits a channel"),
    },
    Property {
        name: "EXIF orientation",
        value: |_| of_facts(|facts| Value::Word(if facts.orientation == 1 { "upright" } else { "turned" })),
        words: |v| format!("are {v} by their EXIF data"),
    },
    Property {
        name: "shape",
        value: |_| of_facts(|facts| Value::Word(shape(facts))),
        words: |v| format!("are of {v} shape"),
    },
    Property {
        name: "size",
        value: |_| {
            of_facts(|facts| {
                let (width, height) = facts.shown();
                Value::Size(width, height)
            })
        },
        words: |v| format!("are of {v} pixels"),
    },
    Property {
        name: "number of pixels",
        value: |images| {
            quarters(images, |image| {
                let facts = image.facts?;
                Some(f64::from(facts.width) * f64::from(facts.height))
            })
        },
        words: |v| format!("are in the {v} of the numbers of pixels"),
    },
    Property {
        name: "bytes per pixel",
        value: |images| {
            quarters(images, |image| {
                let facts = image.facts?;
                Some(image.bytes as f64 / (f64::from(facts.width) * f64::from(facts.height)).max(1.0))
            })
        },
        words: |v| format!("are in the {v} of the bytes per pixel"),
    },
];

fn of_facts(value: fn(&ImageFacts) -> Value) -> Values {
    Box::new(move |image| image.facts.as_ref().map(value))
}

fn colors(facts: &ImageFacts) -> &'static str {
    match facts.colors {
        Colors::Gray => "gray",
        Colors::Palette => "colors of a palette",
        Colors::Rgb => "full color",
        Colors::Cmyk => "CMYK",
    }
}

fn shape(facts: &ImageFacts) -> &'static str {
    let (width, height) = facts.shown();
    match width.cmp(&height) {
        std::cmp::Ordering::Less => "portrait",
        std::cmp::Ordering::Equal => "square",
        std::cmp::Ordering::Greater => "landscape",
    }
}

/// The quarter of the images in which each value lies.
fn quarters(images: &[CheckedImage], value: fn(&CheckedImage) -> Option<f64>) -> Values {
    let mut sorted: Vec<f64> = labeled(images).filter_map(|(_, image)| value(image)).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let limits = [1, 2, 3].map(|quarter| sorted.get(sorted.len() * quarter / 4).copied().unwrap_or(0.0));
    Box::new(move |image| {
        let value = value(image)?;
        let quarter = limits.iter().filter(|&&limit| value >= limit).count();
        Some(Value::Word(["lowest quarter", "second quarter", "third quarter", "highest quarter"][quarter]))
    })
}

/// The counts, with rare values taken together; `None` where all images share one value.
fn table<I: Iterator<Item = (usize, Value)>>(
    property: &'static str,
    valued: impl Fn() -> I,
    n_classes: usize,
) -> Option<LeakTable> {
    let mut totals: BTreeMap<Value, usize> = BTreeMap::new();
    for (_, value) in valued() {
        *totals.entry(value).or_default() += 1;
    }
    let mut values: Vec<(Value, String, usize)> =
        totals.into_iter().map(|(value, n)| (value, value.to_string(), n)).collect();
    values.sort_by(|a, b| b.2.cmp(&a.2).then(a.1.cmp(&b.1)));
    let many = values.len() > VALUES;
    values.truncate(if many { VALUES - 1 } else { VALUES });
    let place: BTreeMap<Value, usize> = values.iter().map(|(value, ..)| *value).zip(0..).collect();
    let mut names: Vec<String> = values.into_iter().map(|(_, name, _)| name).collect();
    if many {
        names.push("other".to_owned());
    }
    let mut counts = vec![vec![0; names.len()]; n_classes];
    for (label, value) in valued() {
        let column = place.get(&value).copied().unwrap_or(names.len() - 1);
        counts[label][column] += 1;
    }
    let strength = strength(&counts)?;
    Some(LeakTable { property, values: names, counts, strength })
}

/// Cramér's V, corrected for bias; 0 where the association may be chance, `None` where there is nothing to associate.
fn strength(counts: &[Vec<usize>]) -> Option<f64> {
    let rows: Vec<f64> =
        counts.iter().map(|row| row.iter().sum::<usize>() as f64).filter(|n| *n > 0.0).collect();
    let columns = (0..counts.first()?.len()).map(|c| counts.iter().map(|row| row[c]).sum::<usize>() as f64);
    let columns: Vec<f64> = columns.collect();
    let (r, c) = (rows.len() as f64, columns.iter().filter(|n| **n > 0.0).count() as f64);
    let n: f64 = rows.iter().sum();
    if r < 2.0 || c < 2.0 {
        return None;
    }
    let filled = counts.iter().filter(|row| row.iter().any(|n| *n > 0));
    let mut statistic = 0.0;
    for (row, total) in filled.zip(&rows) {
        for (&count, column) in row.iter().zip(&columns).filter(|(_, column)| **column > 0.0) {
            let expected = total * column / n;
            statistic += (count as f64 - expected).powi(2) / expected;
        }
    }
    // Wilson and Hilferty: the cube root of χ² over its degrees of freedom is nearly normal.
    let freedom = (r - 1.0) * (c - 1.0);
    let spread = 2.0 / (9.0 * freedom);
    if ((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt() < SIGNIFICANT {
        return Some(0.0);
    }
    let corrected = (statistic / n - freedom / (n - 1.0)).max(0.0);
    let shrunk = |k: f64| k - (k - 1.0).powi(2) / (n - 1.0);
    let least = (shrunk(r) - 1.0).min(shrunk(c) - 1.0);
    Some(if least > 0.0 { (corrected / least).sqrt().min(1.0) } else { 0.0 })
}

/// A finding for each value that one class alone has.
fn exclusive(property: &Property, table: &LeakTable, classes: &[String]) -> Vec<Finding> {
    let n: usize = table.counts.iter().flatten().sum();
    let mut findings = Vec::new();
    for (column, value) in table.values.iter().enumerate() {
        let with: Vec<usize> = (0..classes.len()).filter(|&class| table.counts[class][column] > 0).collect();
        let [class] = with[..] else { continue };
        let (count, of_class) = (table.counts[class][column], table.counts[class].iter().sum::<usize>());
        if count < LEAST || value == "other" || chance(count, of_class, n) > CHANCE {
            continue;
        }
        let (class_name, words) = (&classes[class], (property.words)(value));
        let reason = match count == of_class {
            true => format!("exactly the images of class {class_name} {words} ({count})"),
            false => format!("only images of class {class_name} {words} ({count} of {of_class})"),
        };
        findings.push(Finding::new(FindingKind::Leak, reason).of_class(&classes[class]));
    }
    findings
}

/// The probability that `count` images drawn from `n` are all among the `of_class` of one class.
fn chance(count: usize, of_class: usize, n: usize) -> f64 {
    (0..count).map(|i| of_class.saturating_sub(i) as f64 / (n - i) as f64).product()
}

/// The value and the two classes whose shares differ the most.
fn difference(property: &Property, table: &LeakTable, classes: &[String]) -> String {
    let share = |class: usize, column: usize| {
        let n: usize = table.counts[class].iter().sum();
        table.counts[class][column] as f64 / n.max(1) as f64
    };
    let large: Vec<usize> =
        (0..classes.len()).filter(|&class| table.counts[class].iter().sum::<usize>() >= LEAST).collect();
    let mut widest = (0.0, 0, 0, 0);
    for column in 0..table.values.len() {
        let by_share = |a: &&usize, b: &&usize| share(**a, column).total_cmp(&share(**b, column));
        if let (Some(&low), Some(&high)) = (large.iter().min_by(by_share), large.iter().max_by(by_share)) {
            let width = share(high, column) - share(low, column);
            if width > widest.0 {
                widest = (width, column, low, high);
            }
        }
    }
    let (_, column, low, high) = widest;
    format!(
        "the {} tells classes apart: {:.0} % of {} {}, and {:.0} % of {}",
        property.name,
        100.0 * share(high, column),
        classes[high],
        (property.words)(&table.values[column]),
        100.0 * share(low, column),
        classes[low]
    )
}

#[cfg(test)]
mod tests {
    use super::super::images::tests::image;
    use super::*;

    #[test]
    fn the_strength_is_cramers_v_without_its_bias() {
        // χ² = 60 for n = 240.
        let known = ((0.25f64 - 1.0 / 239.0) / (1.0 - 1.0 / 239.0)).sqrt();
        for counts in
            [vec![vec![90, 30], vec![30, 90]], vec![vec![30, 0, 90], vec![0, 0, 0], vec![90, 0, 30]]]
        {
            assert!((strength(&counts).unwrap() - known).abs() < 1e-12, "{counts:?}");
        }
        assert!((strength(&[vec![40, 0], vec![0, 40]]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(strength(&[vec![20, 20], vec![21, 19]]), Some(0.0), "chance");
        assert_eq!(strength(&[vec![20, 0], vec![20, 0]]), None, "one value");
        assert_eq!(strength(&[vec![20, 20], vec![0, 0]]), None, "one class");
    }

    #[test]
    fn rare_values_are_taken_together() {
        // The value i is that of 20 − i images, by turns of either class.
        let valued =
            || (0..15u8).flat_map(|i| (0..20 - usize::from(i)).map(move |n| (n % 2, Value::Number(i))));
        let table = table("number", valued, 2).unwrap();
        assert_eq!(table.values.len(), VALUES);
        assert_eq!((&*table.values[0], &*table.values[10], &*table.values[11]), ("0", "10", "other"));
        assert_eq!(table.counts.iter().map(|counts| counts[11]).sum::<usize>(), 9 + 8 + 7 + 6);
    }

    #[test]
    fn a_value_of_one_class_alone_is_told_where_five_images_have_it() {
        let classes = ["a", "b"].map(str::to_owned);
        for (count, told) in [(4, 0), (5, 1), (6, 1)] {
            let values = ["PNG", "JPEG"].map(str::to_owned).to_vec();
            let counts = vec![vec![count, 1], vec![0, 40]];
            let table = LeakTable { property: "format", values, counts, strength: 1.0 };
            assert_eq!(exclusive(&PROPERTIES[0], &table, &classes).len(), told, "{count}");
        }
    }

    #[test]
    fn quarters_begin_at_the_quartiles() {
        let images: Vec<CheckedImage> = (1..=8).map(|bytes| image([1, 1], bytes)).collect();
        let quarter = quarters(&images, |image| Some(image.bytes as f64));
        let found: Vec<String> = images.iter().map(|image| quarter(image).unwrap().to_string()).collect();
        let [lowest, second, third, highest] = ["lowest", "second", "third", "highest"];
        let expected = [lowest, lowest, second, second, third, third, highest, highest];
        assert_eq!(found, expected.map(|name| format!("{name} quarter")));
        let none = quarters(&images, |_| None);
        assert!(none(&images[0]).is_none());
    }

    #[test]
    fn the_chance_is_that_of_drawing_without_putting_back() {
        assert!((chance(2, 5, 10) - 5.0 / 10.0 * 4.0 / 9.0).abs() < 1e-12);
        assert_eq!((chance(0, 5, 10), chance(6, 5, 10), chance(10, 10, 10)), (1.0, 0.0, 1.0));
    }
}
