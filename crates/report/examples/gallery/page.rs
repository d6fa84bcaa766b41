//! Every element of a report. All data is made up here, and the page says so.

use firstsight_report::{
    Arrangement, Axis, BarChart, Column, Figure, Grid, Grids, HeatMap, Histogram, Image, LineChart, Mark,
    Measure, ParallelCoordinates, Picture, Report, Result, Scatter, Series, Sheet, Table, Tile, number,
};

const CLASSES: &str = "垂垃垄型垒垛垢垣垦垮宁它宅守安宋完宏宕宗宙宛实审客宣室宫害容宽宿寂寄密富寒察寡寸对寺寻导寿峪峰峻庄庆庐庞废庠庶";
const MADE_UP: &str = "made up by the example, by a formula";

/// The page.
pub(crate) fn gallery() -> Result<Report> {
    let mut report = Report::new("A gallery of everything a report can hold");
    report
        .subtitle("Text, tables, charts and pictures of `firstsight-report`")
        .lead(
            "Every number and picture on this page is **made up** by the example that wrote it; nothing was \
             measured. The page is one file: it loads nothing, runs no script, and brings the Chinese \
             characters that it uses.",
        )
        .facts(&[
            ("Data", "made up".into()),
            ("Classes", CLASSES.chars().count().to_string()),
            ("Parameters", number::count(264_055)),
            ("Device", "none".into()),
            ("Seed", "123".into()),
            ("Time", number::duration(std::time::Duration::from_secs(192))),
        ]);
    text(&mut report);
    tables(&mut report);
    curves(&mut report);
    bars(&mut report)?;
    histograms(&mut report);
    matrices(&mut report)?;
    searches(&mut report)?;
    pictures(&mut report)?;
    hostile(&mut report)?;
    Ok(report)
}

/// Uniform numbers in [0, 1) from a counter: the output function of SplitMix64.
fn noise(i: u64) -> f64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Roughly normal numbers with mean 0 and deviation 1: sums of twelve uniform ones.
fn bell(i: u64) -> f64 {
    (0..12).map(|k| noise(12 * i + k)).sum::<f64>() - 6.0
}

fn classes() -> impl Iterator<Item = String> {
    CLASSES.chars().map(String::from)
}

fn text(report: &mut Report) {
    report
        .section(Some("1"), "Running text")
        .text(
            "Paragraphs may hold `code`, **bold words**, and [links](https://github.com/huggingface/candle). \
             Chinese characters such as 宁, 它 and 宅 stand in the line; they come from a font inside of the \
             page.\n\n\
             A list:\n\n\
             - the first of its items, which is long enough to be broken into two lines on a phone and \
             perhaps also here;\n\
             - the **second**.",
        )
        .note("An aside: where a number comes from, or what limits it.")
        .pre(
            "The folder tree",
            "CASIA-Dataset\n├── Train\n│   ├── 垂  (600 images)\n│   ├── 垃  (598 images)\n│   └── …\n└── Test\n    └── …",
        )
        .subsection("A subsection")
        .pre(
            "What a missing batch axis gets",
            "error: expected an input of shape (B, 1, 80, 60), found (1, 80, 60)\n  --> prediction of Test/宁/1.png",
        );
}

fn tables(report: &mut Report) {
    let metrics =
        |split: &str| ["loss", "accuracy", "top-5"].map(|name| Column::number(name).under(split)).into_iter();
    let mut models = Table::new(
        "Two models, each on three splits; the better one is set off",
        [Column::text("model"), Column::number("parameters")]
            .into_iter()
            .chain(metrics("train"))
            .chain(metrics("validation"))
            .chain(metrics("test")),
    );
    let (none, logistic) = (None::<f64>, [1.8, 0.7, 0.88, 2.4, 0.59, 0.83]);
    let row = |name: &str, parameters: i64, numbers: &[f64], rest: usize| {
        [name.into(), parameters.into()]
            .into_iter()
            .chain(numbers.iter().map(|&x| x.into()))
            .chain((0..rest).map(|_| none.into()))
            .collect::<Vec<_>>()
    };
    models.row(row("logistic", 264_055, &logistic, 3)).highlighted_row(row(
        "CNN",
        88_375,
        &[0.0123, 0.99, 1.0, 0.45, 0.93, 0.99, 0.95, 0.88, 0.98],
        0,
    ));

    let mut per_class = Table::new(
        "A long table, which scrolls under its heading",
        [Column::text("class"), Column::number("images"), Column::number("accuracy")],
    );
    let mut total = 0;
    for (i, class) in classes().enumerate() {
        let images = 480 + (noise(i as u64) * 130.0) as usize;
        total += images;
        per_class.row([class.into(), images.into(), (0.8 + 0.2 * noise(1_000 + i as u64)).into()]);
    }
    per_class.footer(["together".into(), total.into(), 0.8996.into()]);
    report.section(Some("2"), "Tables").table(models).table(per_class);
}

fn curve(from: f64, to: f64, speed: f64, shake: f64, seed: u64) -> impl Iterator<Item = f64> {
    (0..37).map(move |i| (to + (from - to) * (-speed * i as f64).exp() + shake * bell(seed + i)).abs())
}

fn curves(report: &mut Report) {
    let both = LineChart::new("epoch")
        .panel(
            "loss",
            vec![
                Series::per_epoch("train", curve(3.9, 0.02, 0.2, 0.01, 0)),
                Series::per_epoch("validation", curve(3.8, 0.47, 0.22, 0.03, 100)),
            ],
        )
        .panel(
            "accuracy",
            vec![
                Series::per_epoch("train", curve(0.1, 0.999, 0.25, 0.002, 200).map(|y| y.min(1.0))),
                Series::per_epoch("validation", curve(0.12, 0.93, 0.3, 0.006, 300)),
            ],
        )
        .marker(22.0, "best epoch: 22");
    let rates = LineChart::new("step").panel(
        Axis::new("learning rate").logarithmic(),
        [("constant", 0.0), ("decay", 0.02), ("fast decay", 0.08), ("warm", -0.01)]
            .map(|(name, speed)| {
                Series::new(
                    name,
                    (0..=100).map(move |i| (f64::from(i), 0.003 * (-speed * f64::from(i)).exp())),
                )
            })
            .into(),
    );
    let gap = LineChart::new("epoch").panel(
        "loss",
        vec![
            Series::per_epoch("stopped", [2.0, 1.5, f64::NAN, 1.2, 1.1]),
            Series::per_epoch("one epoch", [1.8]),
        ],
    );
    report
        .section(Some("3"), "Line charts")
        .figure(Figure::new(both, "Loss and accuracy of a training that never was.", MADE_UP))
        .figure_row(vec![
            Figure::new(rates, "Four schedules on a logarithmic axis.", MADE_UP),
            Figure::new(gap, "A gap where the loss was not a number, and a series of one point.", MADE_UP),
        ]);
}

fn bars(report: &mut Report) -> Result<()> {
    let counts = |seed: u64, scale: f64| {
        (0..55).map(move |i| (scale * (480.0 + 130.0 * noise(seed + i))).round()).collect::<Vec<_>>()
    };
    let characters = BarChart::new("character", "images", classes())
        .series("train", counts(0, 1.0))?
        .series("test", counts(60, 0.25))?;
    let few = BarChart::new("class", "images", ["ants", "bees"]).series("train", [123.0, 121.0])?;
    let long = BarChart::new(
        "class",
        Axis::new("accuracy").range(0.0, 1.0),
        ["BrokenWindshield", "Vandalism", "Negatives", "a class whose name is longer than any page is wide"],
    )
    .series("accuracy", [0.93, 0.85, 0.9134, 0.5])?;
    report
        .section(Some("4"), "Bar charts")
        .figure(Figure::new(characters, "Images of each character, in training and test.", MADE_UP))
        .figure_row(vec![
            Figure::new(few, "Few classes: the bars stand.", MADE_UP),
            Figure::new(long, "Long names: the bars lie.", MADE_UP),
        ]);
    Ok(())
}

fn histograms(report: &mut Report) {
    let widths = |n: u64, mean: f64, seed: u64| (0..n).map(move |i| (mean + 14.0 * bell(seed + i)).round());
    let sizes = Histogram::new("width, pixels", "images")
        .measured(Measure::Share)
        .series("train", widths(3_000, 66.0, 0))
        .series("test", widths(700, 71.0, 9_000));
    let stacked = Histogram::new("height, pixels", "images")
        .arranged(Arrangement::Stacked)
        .series("train", widths(3_000, 90.0, 20_000))
        .series("test", widths(700, 94.0, 30_000));
    let confidence = Histogram::new("confidence", "images")
        .edges((0..=10).map(|i| f64::from(i) / 10.0))
        .arranged(Arrangement::Grouped)
        .series("right", (0..900).map(|i| 1.0 - 0.9 * noise(i).powi(6)))
        .series("wrong", (0..120).map(|i| 0.2 + 0.8 * noise(5_000 + i)));
    report
        .section(Some("5"), "Histograms")
        .figure(Figure::new(
            confidence,
            "Confidence where right and where wrong: bars side by side.",
            MADE_UP,
        ))
        .figure_row(vec![
            Figure::new(sizes, "Overlaid, as shares, because the sets differ in size.", MADE_UP),
            Figure::new(stacked, "Stacked, as counts.", MADE_UP),
        ]);
}

fn confusion(n: usize) -> Vec<u64> {
    let mut counts = vec![0; n * n];
    for i in 0..n {
        counts[i * n + i] = 100 + (40.0 * noise(i as u64)) as u64;
        for k in 0..4 {
            let wrong = (noise((7 * i + k) as u64) * n as f64) as usize;
            counts[i * n + wrong] += (14.0 * noise((70_000 + 9 * i + k) as u64)) as u64;
        }
    }
    counts
}

fn matrices(report: &mut Report) -> Result<()> {
    let large = HeatMap::confusion(classes(), confusion(55))?;
    let small = HeatMap::confusion((0..10).map(|digit| digit.to_string()), confusion(10))?;
    let named = HeatMap::new(
        ("layers", ["1", "2", "3"].map(String::from).into()),
        ("units", ["8", "16", "32", "64", "128"].map(String::from).into()),
        (0..15).map(|i| (noise(i) * 100.0).round() / 100.0).collect(),
    )?;
    report
        .section(Some("6"), "Heat maps")
        .figure(Figure::new(large, "A confusion matrix of 55 characters.", MADE_UP))
        .figure_row(vec![
            Figure::new(small, "Ten classes: the counts are printed.", MADE_UP),
            Figure::new(named, "Values of a search, by two settings.", MADE_UP),
        ]);
    Ok(())
}

fn searches(report: &mut Report) -> Result<()> {
    const ACTIVATIONS: [&str; 3] = ["relu", "leaky_relu", "tanh"];
    let trial = |k: usize, i: u64| {
        let exponent = -4.0 + 2.0 * noise(100 * k as u64 + i);
        (10f64.powf(exponent), 0.33 + 0.05 * (exponent + 3.2).powi(2) + 0.01 * bell(i + 40 * k as u64))
    };
    let mut scatter = Scatter::new(Axis::new("learning rate").logarithmic(), "validation loss");
    for (k, name) in ACTIVATIONS.into_iter().enumerate() {
        scatter = scatter.series(Series::new(name, (0..30).map(|i| trial(k, i))));
    }
    let trials: Vec<(usize, u64)> = (0..3).flat_map(|k| (0..30).map(move |i| (k, i))).collect();
    let losses: Vec<f64> = trials.iter().map(|&(k, i)| trial(k, i).1).collect();
    let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(0);
    let parallel = ParallelCoordinates::new("trials")
        .axis(Axis::new("learning rate").logarithmic(), trials.iter().map(|&(k, i)| trial(k, i).0))?
        .choices("activation", ACTIVATIONS, trials.iter().map(|&(k, _)| k))?
        .choices("units", [4, 8, 16, 32, 64, 128, 256].map(|n| n.to_string()), (0..90).map(|i| i * i % 7))?
        .axis("seconds", (0..90).map(|i| 4.0 + (i * i % 7) as f64 + noise(i)))?
        .axis("validation loss", losses)?
        .mark(best, "the trial with the least loss");
    report
        .section(Some("7"), "Plots of a search")
        .figure(Figure::new(scatter, "Ninety trials of a search.", MADE_UP))
        .figure(Figure::new(parallel, "The same trials with all their settings.", MADE_UP));
    Ok(())
}

/// A disc of `radius` on a dark ground, with an open mouth where `mouth` is more than nothing.
fn disc(size: usize, mouth: f64) -> Result<Image> {
    let mut pixels = Vec::with_capacity(size * size * 3);
    for y in 0..size {
        for x in 0..size {
            let center = (size as f64 - 1.0) / 2.0;
            let (dx, dy) = (x as f64 - center, y as f64 - center);
            let inside = dx.hypot(dy) < size as f64 * 0.45 && dy.atan2(dx).abs() >= mouth;
            pixels.extend(if inside { [255, 220, 0] } else { [0, 0, 0] });
        }
    }
    Image::from_pixels(size, size, 3, &pixels)
}

fn stroke(height: usize, width: usize, seed: u64) -> Result<Image> {
    let slope = noise(seed) - 0.5;
    let mut pixels = vec![255; height * width];
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f64 / width as f64 - 0.5, y as f64 / height as f64 - 0.5);
            let distance = (v - slope * u).abs().min((u + slope * v).abs());
            let ends = u.abs().max(v.abs()) < 0.4;
            if ends && distance < 0.05 {
                pixels[y * width + x] = (distance * 2_000.0) as u8;
            }
        }
    }
    Image::from_pixels(height, width, 1, &pixels)
}

fn pictures(report: &mut Report) -> Result<()> {
    let mut samples = Vec::new();
    let mut failures = Vec::new();
    for (i, class) in classes().enumerate().take(20) {
        let seed = i as u64;
        let (height, width) = (60 + (40.0 * noise(seed)) as usize, 40 + (50.0 * noise(seed + 50)) as usize);
        samples.push(Tile::new(stroke(height, width, seed)?, class.as_str()));
        let mark = if i % 3 == 0 { Mark::Right } else { Mark::Wrong };
        failures.push(
            Tile::new(stroke(80, 60, seed)?, format!("{class} → 宅"))
                .sublabel(number::percent(0.4 + 0.6 * noise(seed), 1))
                .mark(mark),
        );
    }
    report
        .section(Some("8"), "Pictures")
        .figure_row(vec![
            Figure::new(
                Picture::pixelated(disc(16, 0.6)?, 16.0).alt("a yellow disc with an open mouth"),
                "16 × 16 pixels, each drawn as a square.",
                MADE_UP,
            ),
            Figure::new(Picture::new(disc(256, 0.6)?), "256 × 256 pixels at their own size.", MADE_UP),
        ])
        .figure(Figure::new(
            Grids::new([
                Grid::gray("bytes", 4, &(0..16).map(|i| i * 17).collect::<Vec<u8>>())?,
                Grid::new(
                    "kernel",
                    3,
                    [1, 0, -1, 2, 0, -2, 1, 0, -1].map(|weight: i16| {
                        (weight.to_string(), [(128 + 60 * weight) as u8, 128, (128 - 60 * weight) as u8])
                    }),
                )?,
            ]),
            "Numbers in colored squares.",
            MADE_UP,
        ))
        .figure(Figure::new(
            Sheet::new(samples, 10),
            "Samples of different sizes. A drawn cross stands for each character.",
            MADE_UP,
        ))
        .figure(Figure::new(
            Sheet::new(failures, 8),
            "True and predicted label, with the confidence.",
            MADE_UP,
        ));
    Ok(())
}

fn hostile(report: &mut Report) -> Result<()> {
    let labels = [
        "<script>alert(1)</script>",
        "\"quoted\" & 'single'",
        "שלום \u{202E}abc",
        "👩\u{200D}👩\u{200D}👧 🐟",
        "a\u{0}b\u{1b}[31m",
    ];
    let mut table = Table::new("Labels", [Column::text("label"), Column::number("value")]);
    for (i, label) in labels.into_iter().enumerate() {
        table.row([label.into(), (i as f64 * -1_234.5).into()]);
    }
    table.row(["not a number".into(), f64::NAN.into()]).row(["nothing".into()]);
    let chart = BarChart::new("<b>", "a & b", labels).series("\"", [1.0, 2.0, -3.0, f64::NAN, 5.0])?;
    let tiles =
        labels.map(|label| Ok(Tile::new(stroke(40, 40, 3)?, label))).into_iter().collect::<Result<_>>()?;
    report
        .section(Some("9"), "Labels that try to break <out>")
        .table(table)
        .figure(Figure::new(chart, "`<b>` & others", MADE_UP))
        .figure(Figure::new(Sheet::new(tiles, 5), "Tiles with the same labels.", MADE_UP))
        .figure(Figure::new(LineChart::new("epoch").panel("loss", vec![]), "A chart of nothing.", MADE_UP));
    Ok(())
}
