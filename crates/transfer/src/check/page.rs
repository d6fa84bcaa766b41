//! The page of a check.

use std::path::Path;

use firstsight_data::{DecodeSettings, Interpolation, Task, decode_bytes};
use firstsight_report::{
    BarChart, Column, Figure, Image, Mark, Report, Section, Sheet, Table, Tile, escape_markup, number,
};

use super::{CheckResult, Finding, FindingKind};
use crate::Result;
use crate::report_sections::labels;

/// Longer side of a picture, in pixels.
const SIDE: u32 = 96;
/// Space between two pictures that are compared.
const GAP: usize = 4;
/// Pictures on a sheet.
const PICTURES: usize = 48;
/// Rows of a table.
const ROWS: usize = 500;
/// Classes of a chart.
const CLASSES: usize = 60;

impl CheckResult {
    /// The page: what was found, with pictures and paths, and what could be done about it.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Report`] for a picture that cannot be encoded.
    pub fn report(&self) -> Result<Report> {
        let mut report = Report::new("What is wrong with these data?");
        report.subtitle(&escape_markup(&self.data));
        report.lead(&self.lead());
        let images: Vec<String> =
            self.splits().iter().map(|(split, n)| format!("{} {split}", number::count(*n as u64))).collect();
        report.facts(&[
            ("images", images.join(", ")),
            labels(self.task, &self.classes),
            ("findings", number::count(self.findings.len() as u64)),
        ]);
        self.overview(report.section(None, "Overview"));
        for kind in FindingKind::ALL {
            let findings: Vec<&Finding> = self.of_kind(kind).collect();
            if !findings.is_empty() {
                let section = report.section(None, &title(kind));
                self.findings_of(section, kind, &findings)?;
            }
        }
        if self.task != Task::Regression {
            self.class_sizes(report.section(None, "Classes"))?;
        }
        let section = report.section(None, "How it was done");
        section.text(&escape_markup(&self.labels.how)).text(METHOD);
        Ok(report)
    }

    fn lead(&self) -> String {
        let across = self
            .findings
            .iter()
            .filter(|finding| finding.image.is_some() && finding.is_across_splits())
            .count();
        let mut sentences = Vec::new();
        match self.n_broken() {
            0 => sentences.push("Every file can be read.".to_owned()),
            1 => sentences.push("**One file cannot be read.**".to_owned()),
            n => sentences.push(format!("**{n} files cannot be read.**")),
        }
        if across > 0 {
            let are = if across == 1 { "image of one split is" } else { "images of one split are" };
            sentences
                .push(format!("**{across} {are} also in another**, so what is measured there is too good."));
        }
        for finding in self.of_kind(FindingKind::Leak).take(3) {
            sentences.push(format!("**A leak: {}.**", escape_markup(&finding.reason)));
        }
        let others = self.counts().into_iter().filter(|(kind, _)| *kind != FindingKind::Broken);
        let others: Vec<String> = others.map(|(kind, n)| format!("{} ({n})", kind.meaning())).collect();
        sentences.push(match others.is_empty() {
            true => "Nothing else was found.".to_owned(),
            false => format!("Found: {}.", others.join(", ")),
        });
        sentences.push("Nothing was changed.".to_owned());
        sentences.join(" ")
    }

    fn overview(&self, section: &mut Section) {
        let columns = [
            Column::text("finding"),
            Column::number("number"),
            Column::text("meaning"),
            Column::number("across splits"),
        ];
        let mut table = Table::new("What was found", columns);
        for (kind, n) in self.counts() {
            let across = self.of_kind(kind).filter(|finding| finding.is_across_splits()).count();
            table.row([
                kind.name().into(),
                n.into(),
                kind.meaning().into(),
                (across > 0).then_some(across).into(),
            ]);
        }
        if self.findings.is_empty() {
            section.text("Nothing was found.");
        } else {
            section.table(table);
        }
        for remark in &self.remarks {
            section.note(&escape_markup(remark));
        }
    }

    fn findings_of(&self, section: &mut Section, kind: FindingKind, findings: &[&Finding]) -> Result<()> {
        section.text(advice(kind));
        match kind {
            FindingKind::Leak | FindingKind::Imbalance => {
                let list: Vec<String> =
                    findings.iter().map(|finding| format!("- {}", escape_markup(&finding.reason))).collect();
                section.text(&list.join("\n"));
                if kind == FindingKind::Leak {
                    self.leak_tables(section);
                }
            }
            FindingKind::SmallClass | FindingKind::UnfitClass => {
                let mut table = Table::new(
                    "Classes",
                    [Column::text("class"), Column::text("split"), Column::text("what")],
                );
                for finding in findings.iter().take(ROWS) {
                    let class = finding.class.clone().unwrap_or_default();
                    table.row([
                        class.into(),
                        finding.split.unwrap_or_default().into(),
                        finding.reason.clone().into(),
                    ]);
                }
                section.table(table);
            }
            _ => {
                self.pictures(section, kind, findings)?;
                self.paths(section, kind, findings);
            }
        }
        Ok(())
    }

    fn leak_tables(&self, section: &mut Section) {
        for leak in &self.leaks {
            let columns = std::iter::once(Column::text("class"))
                .chain(leak.values.iter().map(|value| Column::number(value.clone()).under(leak.property)));
            let caption = format!(
                "Images of each class by {}: Cramér's V is {}",
                leak.property,
                number::decimal(leak.strength, 2)
            );
            let mut table = Table::new(caption, columns);
            for (class, counts) in self.classes.iter().zip(&leak.counts).take(ROWS) {
                table.row(std::iter::once(class.as_str().into()).chain(counts.iter().map(|&n| n.into())));
            }
            section.table(table);
        }
    }

    /// The pictures of findings, as far as they can be shown: alone, or beside the one that they are compared with.
    fn pictures(&self, section: &mut Section, kind: FindingKind, findings: &[&Finding]) -> Result<()> {
        let mut tiles = Vec::new();
        for finding in findings {
            if tiles.len() == PICTURES {
                break;
            }
            let Some(picture) = finding.image.and_then(|image| self.picture(image)) else { continue };
            let other = finding.other_image.and_then(|image| self.picture(image));
            let class = finding.class.clone().unwrap_or_default();
            let path = self.short(finding.path.as_deref().unwrap_or_default());
            let (label, below) = match (kind, &finding.other) {
                (_, Some(other)) => {
                    let other_class = finding.other_class.clone().unwrap_or_default();
                    let label = if class == other_class { class } else { format!("{class} | {other_class}") };
                    (label, format!("{path} | {}", self.short(other)))
                }
                (FindingKind::SuspectedLabel, _) => {
                    let suggested = finding.looks_like.as_deref().unwrap_or("?");
                    let score = finding.score.unwrap_or(f64::NAN);
                    (
                        format!("{class} → {suggested}"),
                        format!("{path} ({class}: {})", number::decimal(score, 3)),
                    )
                }
                _ => (class, path),
            };
            let image = match other {
                Some(other) => beside(&picture, &other)?,
                None => Image::from_pixels(picture.height, picture.width, 3, &picture.pixels)?,
            };
            let wrong = matches!(kind, FindingKind::SuspectedLabel | FindingKind::ConflictingLabels);
            tiles.push(Tile::new(image, label).sublabel(below).mark(if wrong {
                Mark::Wrong
            } else {
                Mark::None
            }));
        }
        if tiles.is_empty() {
            return Ok(());
        }
        let shown = tiles.len();
        let columns = if findings.iter().any(|finding| finding.other.is_some()) { 4 } else { 6 };
        let meaning = kind.meaning();
        let caption = match shown < findings.len() {
            true => format!("The first {shown} of {}: {meaning}", number::count(findings.len() as u64)),
            false if shown == 1 => meaning.to_owned(),
            false => format!("All {shown}: {meaning}"),
        };
        section.figure(Figure::new(Sheet::new(tiles, columns), caption, escape_markup(&self.data)));
        Ok(())
    }

    fn paths(&self, section: &mut Section, kind: FindingKind, findings: &[&Finding]) {
        let compared = findings.iter().any(|finding| finding.other.is_some());
        let score = score_name(kind).filter(|_| findings.iter().any(|finding| finding.score.is_some()));
        let label = match self.task {
            Task::SingleLabel => "class",
            Task::MultiLabel => "labels",
            Task::Regression => "number",
        };
        let mut columns = vec![Column::path("file"), Column::text("split"), Column::text(label)];
        columns.extend(match compared {
            true => {
                let its = Column::text(format!("its {label}"));
                vec![Column::path("other file"), Column::text("its split"), its]
            }
            false => vec![Column::text("what")],
        });
        columns.extend(score.map(Column::number));
        let caption = match findings.len() > ROWS {
            true => format!("The first {ROWS} of {}: the others are in the CSV file", findings.len()),
            false => "The files".to_owned(),
        };
        let mut table = Table::new(caption, columns);
        for finding in findings.iter().take(ROWS) {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let path = |value: &Option<String>| self.short(value.as_deref().unwrap_or_default());
            let mut cells = vec![
                path(&finding.path).into(),
                finding.split.unwrap_or_default().into(),
                text(&finding.class).into(),
            ];
            if compared {
                cells.push(path(&finding.other).into());
                cells.push(finding.other_split.unwrap_or_default().into());
                cells.push(text(&finding.other_class).into());
            } else {
                cells.push(finding.reason.clone().into());
            }
            match kind {
                _ if score.is_none() => {}
                FindingKind::ConflictingLabels | FindingKind::NearDuplicate => {
                    cells.push(finding.score.map(|bits| bits as u32).into());
                }
                _ => cells.push(finding.score.into()),
            }
            table.row(cells);
        }
        section.table(table);
    }

    fn class_sizes(&self, section: &mut Section) -> Result<()> {
        let splits = self.splits();
        let count = |split: &str, class: usize| {
            let of = |image: &&super::CheckedImage| {
                image.split.name() == split && image.label == Some(class as u32) && image.is_sound()
            };
            self.images.iter().filter(of).count()
        };
        if self.images.iter().all(|image| image.label.is_none()) {
            section.text("The images have no single class each.");
            return Ok(());
        }
        if self.classes.len() <= CLASSES {
            let mut chart = BarChart::new("class", "images", self.classes.clone());
            for (split, _) in &splits {
                let values: Vec<f64> =
                    (0..self.classes.len()).map(|class| count(split, class) as f64).collect();
                chart = chart.series(*split, values)?;
            }
            section.figure(Figure::new(chart, "Readable images of each class", escape_markup(&self.data)));
            return Ok(());
        }
        let columns = std::iter::once(Column::text("class"))
            .chain(splits.iter().map(|(split, _)| Column::number(*split)));
        let mut table = Table::new("Readable images of each class", columns);
        for (class, name) in self.classes.iter().enumerate() {
            let counts = splits.iter().map(|(split, _)| count(split, class).into());
            table.row(std::iter::once(name.as_str().into()).chain(counts));
        }
        section.table(table);
        Ok(())
    }

    /// A path below the data set's folder.
    fn short(&self, path: &str) -> String {
        let below = Path::new(path).strip_prefix(&self.root).unwrap_or(Path::new(path));
        below.display().to_string()
    }

    /// An image as it is shown: at most 96 pixels wide and high.
    fn picture(&self, image: usize) -> Option<Shown> {
        let image = &self.images[image];
        let (width, height) = image.facts.map_or((1, 1), |facts| match self.reading.exif {
            firstsight_data::Exif::Apply => facts.shown(),
            firstsight_data::Exif::Ignore => (facts.width, facts.height),
        });
        let longer = width.max(height).max(1);
        let scaled = |side: u32| (side * SIDE.min(longer)).div_ceil(longer).max(1) as usize;
        let (height, width) = (scaled(height), scaled(width));
        let settings = DecodeSettings {
            reading: self.reading,
            interpolation: Interpolation::Bilinear,
            ..DecodeSettings::rgb(height, width)
        };
        let decoded = decode_bytes(&image.sample.path(), &image.sample.read().ok()?, &settings).ok()?;
        Some(Shown { height, width, pixels: decoded.pixels })
    }
}

struct Shown {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

/// Two pictures side by side on white.
fn beside(left: &Shown, right: &Shown) -> Result<Image> {
    let (height, width) = (left.height.max(right.height), left.width + GAP + right.width);
    let mut pixels = vec![255; 3 * height * width];
    for (picture, start) in [(left, 0), (right, left.width + GAP)] {
        for (y, row) in picture.pixels.chunks_exact(3 * picture.width).enumerate() {
            pixels[3 * (y * width + start)..][..row.len()].copy_from_slice(row);
        }
    }
    Ok(Image::from_pixels(height, width, 3, &pixels)?)
}

fn title(kind: FindingKind) -> String {
    let name = kind.name().replace('-', " ");
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What a finding's score is, where the page shows it.
fn score_name(kind: FindingKind) -> Option<&'static str> {
    match kind {
        FindingKind::SuspectedLabel => Some("probability of its class"),
        FindingKind::Outlier => Some("distance"),
        FindingKind::ConflictingLabels | FindingKind::NearDuplicate => Some("difference"),
        _ => None,
    }
}

/// What to do about findings of a kind.
fn advice(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Broken => "These files cannot be read. Fetch them again or remove them.",
        FindingKind::UnfitClass => {
            "Training needs two classes or more, images of each, and names that differ in more than letter case or blanks."
        }
        FindingKind::Repaired => {
            "These files are damaged. What viewers show of them is used. Look whether enough of each is left."
        }
        FindingKind::LeftOut => "These files and folders are not used. Convert or move those that should be.",
        FindingKind::ConflictingLabels => {
            "The same picture, or nearly, is in two classes. At most one of the labels is right, unless pictures may have \
             several."
        }
        FindingKind::ExactDuplicate => {
            "These files are byte for byte the same as others. A copy in another split makes what is measured there too \
             good: remove the one for training. Copies within a split count several times."
        }
        FindingKind::NearDuplicate => {
            "These pictures look like others: the same photo at another size or compression, slightly cropped, or taken a \
             moment later. Copies across splits make what is measured too good."
        }
        FindingKind::SuspectedLabel => {
            "The label that each of these has is improbable for a network that was not trained on it. The surest stand \
             first. Look at each: it may also be a rare sight of its class."
        }
        FindingKind::Outlier => "These pictures are unlike all others. They may not belong here.",
        FindingKind::Leak => {
            "A network that can tell classes apart by how a file was made need not look at what it shows, and will fail on \
             files that were made otherwise. Treat all classes alike: convert, crop or resize them in the same way."
        }
        FindingKind::SmallClass => {
            "Little can be learned from a few images, and less can be measured on them. Collect more, or join classes."
        }
        FindingKind::Imbalance => {
            "A network tends to the large classes. Look at figures by class, and try `--class-balanced`."
        }
        FindingKind::Blank => "These pictures are of one color.",
        FindingKind::OddSize => {
            "These images are of another size or shape than most. They may not belong here."
        }
        FindingKind::Turned => {
            "Cameras note how they were held. `--exif apply` turns these photos upright, as viewers do; `--exif ignore` leaves \
             them on their side. Training and prediction must do the same."
        }
        FindingKind::Transparent => {
            "`--alpha blend` shows these images on white, as viewers do. `--alpha drop` takes the hidden colors, which \
             nobody sees."
        }
        FindingKind::SixteenBit => {
            "`--sixteen-bit scale` takes the upper byte. `--sixteen-bit clip` is Pillow's way and makes most of them white."
        }
    }
}

const METHOD: &str = "Copies are found by the SHA-256 of files. Pictures that look alike are found by PDQ, a hash of 256 bits of the \
    lowest frequencies: they differ in 54 bits at most. Wrong labels are found by confident learning (Northcutt, Jiang and \
    Chuang 2021) on probabilities of five-fold cross-validation in which copies stay together. Outliers have a mean cosine \
    distance to their ten nearest images beyond the third quartile by three times the distance between the quartiles. Leaks \
    are properties with a Cramér's V of 0.4 or more, corrected for bias, and properties that one class alone has.";
