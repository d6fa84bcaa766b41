//! 6. The character data: folders, counts, sizes, decoding, the split, samples.

use std::fmt::Write as _;

use firstsight_data::{Exif, ImageFolder};
use firstsight_report::{
    BarChart, Column, Figure, Histogram, Measure, Report, Section, Sheet, Table, Tile, number,
};
use firstsight_transfer::{VALIDATION_SHARE, report_sections};

use super::{Lecture, SPLIT_SEED};
use crate::Result;

pub(super) fn write(lecture: &Lecture<'_>, report: &mut Report) -> Result<()> {
    let section = report.section(Some("6"), "The character data");
    let classes = lecture.splits.train.classes();
    section.text(&format!(
        "Each class is a folder of images, and the folder's name is its label. There are {} classes; labels are numbered in \
         the order of their code points.",
        classes.len()
    ));
    section.pre("The folders", &tree(lecture));
    counts(lecture, section)?;
    sizes(lecture, section)?;
    decoding(lecture, section);
    samples(lecture, section)
}

/// The splits as they lie in the folder: training images before any were set aside for validation.
fn folders<'a>(lecture: &'a Lecture<'_>) -> Vec<(&'static str, Vec<&'a ImageFolder>)> {
    let folders = &lecture.folders;
    let mut all = if folders.val_is_split_off {
        vec![("train", vec![&folders.train, &folders.val])]
    } else {
        vec![("train", vec![&folders.train]), ("validation", vec![&folders.val])]
    };
    all.extend(folders.test.as_ref().map(|test| ("test", vec![test])));
    all
}

fn counted(folders: &[&ImageFolder]) -> Vec<usize> {
    let mut sums = vec![0; folders[0].classes().len()];
    for folder in folders {
        sums.iter_mut().zip(folder.counts()).for_each(|(sum, n)| *sum += n);
    }
    sums
}

fn tree(lecture: &Lecture<'_>) -> String {
    const SHOWN: usize = 6;
    let mut text = String::new();
    for (split, folders) in folders(lecture) {
        let counts = counted(&folders);
        let _ = writeln!(
            text,
            "{split}/  {} images in {} folders",
            number::count(counts.iter().sum::<usize>() as u64),
            counts.len()
        );
        for (class, n) in folders[0].classes().iter().zip(&counts).take(SHOWN) {
            let _ = writeln!(text, "  {class}/  {n} images");
        }
        if counts.len() > SHOWN {
            let _ = writeln!(text, "  … {} more", counts.len() - SHOWN);
        }
    }
    text
}

fn counts(lecture: &Lecture<'_>, section: &mut Section) -> Result<()> {
    section.subsection("Images per class");
    let all = folders(lecture);
    let classes = lecture.splits.train.classes();
    let mut chart = BarChart::new("class", "images", classes.to_vec());
    for (split, folders) in &all {
        chart = chart.series(*split, counted(folders).into_iter().map(|n| n as f64))?;
    }
    section.figure(Figure::new(chart, "How many images each class has", lecture.source.clone()));
    let mut histogram = Histogram::new("images of a class", "classes");
    let mut columns = vec![Column::text("class")];
    for (split, folders) in &all {
        histogram = histogram.series(*split, counted(folders).into_iter().map(|n| n as f64));
        columns.push(Column::number(*split));
    }
    section.figure(Figure::new(
        histogram,
        "The classes by the number of their images",
        lecture.source.clone(),
    ));
    let mut table = Table::new("Images per class", columns);
    let counts: Vec<Vec<usize>> = all.iter().map(|(_, folders)| counted(folders)).collect();
    for (i, class) in classes.iter().enumerate() {
        table.row(std::iter::once(class.as_str().into()).chain(counts.iter().map(|c| c[i].into())));
    }
    table
        .footer(std::iter::once("total".into()).chain(counts.iter().map(|c| c.iter().sum::<usize>().into())));
    section.table(table);
    Ok(())
}

fn sizes(lecture: &Lecture<'_>, section: &mut Section) -> Result<()> {
    section.subsection("Heights and widths");
    let mut heights = Histogram::new("height in pixels", "images").measured(Measure::Share);
    let mut widths = Histogram::new("width in pixels", "images").measured(Measure::Share);
    let extent = ["least", "median", "most"];
    let mut columns = vec![Column::text("split"), Column::number("images")];
    columns.extend(extent.map(|name| Column::number(name).under("height")));
    columns.extend(extent.map(|name| Column::number(name).under("width")));
    let mut table = Table::new("Sizes in pixels", columns);
    for (split, folders) in folders(lecture) {
        let mut sizes = Vec::new();
        for folder in folders {
            sizes.extend(folder.dimensions(Exif::Ignore)?);
        }
        let mut h: Vec<u32> = sizes.iter().map(|size| size.1).collect();
        let mut w: Vec<u32> = sizes.iter().map(|size| size.0).collect();
        heights = heights.series(split, h.iter().map(|&v| f64::from(v)));
        widths = widths.series(split, w.iter().map(|&v| f64::from(v)));
        h.sort_unstable();
        w.sort_unstable();
        let n = sizes.len();
        table.row([
            split.into(),
            n.into(),
            h[0].into(),
            h[n / 2].into(),
            h[n - 1].into(),
            w[0].into(),
            w[n / 2].into(),
            w[n - 1].into(),
        ]);
    }
    section.figure_row(vec![
        Figure::new(heights, "Heights before resizing, as shares of each split", lecture.source.clone()),
        Figure::new(widths, "Widths before resizing, as shares of each split", lecture.source.clone()),
    ]);
    section.table(table);
    Ok(())
}

fn decoding(lecture: &Lecture<'_>, section: &mut Section) {
    section.subsection("Tensors");
    section.text(
        "Every image is read in grayscale and stretched to 80 × 60 pixels (height × width) with a Lanczos filter, as Pillow \
         does it.",
    );
    if lecture.folders.val_is_split_off {
        section.text(&format!(
            "A fifth of the training images (`test_size={VALIDATION_SHARE}`, `random_state={SPLIT_SEED}`) is set aside for \
             validation: the same images, index for index, that scikit-learn's `train_test_split` picks."
        ));
    }
    let mut table = Table::new(
        "Shapes (images, height, width, channels)",
        [Column::text("images"), Column::text("shape"), Column::text("labels")],
    );
    let splits = &lecture.splits;
    let rows =
        [("x_train", Some(&splits.train)), ("x_val", Some(&splits.val)), ("test", splits.test.as_ref())];
    for (name, images) in rows {
        if let Some(images) = images {
            let (n, h, w, c) = images.shape();
            table.row([name.into(), format!("({n}, {h}, {w}, {c}) uint8").into(), format!("({n},)").into()]);
        }
    }
    section.table(table);
}

fn samples(lecture: &Lecture<'_>, section: &mut Section) -> Result<()> {
    section.subsection("Samples");
    let images = &lecture.splits.train;
    let labels = images.labels();
    let mut tiles = Vec::new();
    for (class, name) in images.classes().iter().enumerate() {
        if let Some(i) = labels.iter().position(|&label| label as usize == class) {
            tiles.push(Tile::new(report_sections::picture(images, i)?, name.clone()));
        }
    }
    let caption = "One training image of each class, as the networks see it, with its label";
    section.figure(Figure::new(Sheet::new(tiles, 11), caption, lecture.source.clone()));
    Ok(())
}
