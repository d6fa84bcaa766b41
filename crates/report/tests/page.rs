//! The gallery's page as a whole: well-formed, self-contained, escaped; and how it is written to disk.

use std::collections::HashSet;
use std::fs;

use firstsight_report::{
    Arrangement, Axis, BarChart, Content, Error, Figure, HeatMap, Histogram, Image, LineChart, Measure,
    Report, Scatter, Series, Sheet, Tile,
};
use quick_xml::Reader;
use quick_xml::events::Event;

#[path = "../examples/gallery/page.rs"]
mod page;

/// An element's name and attributes.
type Element = (String, Vec<(String, String)>);

/// All elements of `html`, which must be well-formed XML too: closed, nested, quoted, escaped.
fn elements(html: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(html);
    reader.config_mut().check_end_names = true;
    let mut elements = Vec::new();
    let mut depth = 0;
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().unwrap_or_else(|error| panic!("at byte {at}: {error}"));
        let opening = match &event {
            Event::Start(start) => {
                depth += 1;
                start
            }
            Event::Empty(start) => start,
            Event::End(_) => {
                depth -= 1;
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        let name = opening.name().as_ref().to_owned();
        let attributes = opening
            .attributes()
            .map(|attribute| {
                let attribute = attribute.unwrap_or_else(|error| panic!("{name} at byte {at}: {error}"));
                let value = attribute.value.into_owned();
                assert!(!value.contains('<'), "{name} at byte {at}: {value}");
                (attribute.key.as_ref().to_owned(), value)
            })
            .collect();
        elements.push((name, attributes));
    }
    assert_eq!(depth, 0, "an element is left open");
    elements
}

fn attributes<'a>(elements: &'a [Element], name: &'a str) -> impl Iterator<Item = &'a str> {
    elements
        .iter()
        .flat_map(|(_, attributes)| attributes)
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn the_gallery_is_well_formed() {
    let html = page::gallery().unwrap().to_html();
    let elements = elements(&html);
    for (tag, expected) in [("h2", 9), ("table", 3), ("figure", 22), ("figcaption", 22), ("nav", 1)] {
        assert_eq!(elements.iter().filter(|(name, _)| name == tag).count(), expected, "{tag}");
    }
    assert!(!html.contains("NaN\"") && !html.contains("inf\""), "a coordinate is not a number");
}

#[test]
fn the_gallery_loads_nothing_and_runs_nothing() {
    let html = page::gallery().unwrap().to_html();
    let elements = elements(&html);
    for forbidden in ["script", "link", "iframe", "object", "embed", "base"] {
        assert!(elements.iter().all(|(name, _)| name != forbidden), "{forbidden}");
    }
    assert!(elements.iter().flat_map(|(_, attributes)| attributes).all(|(key, _)| !key.starts_with("on")));
    assert!(attributes(&elements, "src").count() > 40);
    assert!(attributes(&elements, "src").all(|src| src.starts_with("data:image/png;base64,")));
    assert!(!html.contains("@import"));
    assert!(html.match_indices("url(").all(|(at, _)| html[at..].starts_with("url(data:font/ttf;base64,")));
}

#[test]
fn anchors_are_unique_and_links_lead_somewhere() {
    let html = page::gallery().unwrap().to_html();
    let elements = elements(&html);
    let ids: Vec<&str> = attributes(&elements, "id").collect();
    let known: HashSet<&str> = ids.iter().copied().collect();
    assert_eq!(known.len(), ids.len());
    for target in attributes(&elements, "href").filter_map(|href| href.strip_prefix('#')) {
        assert!(known.contains(target), "{target}");
    }
    for target in attributes(&elements, "aria-labelledby") {
        assert!(known.contains(target), "{target}");
    }
}

#[test]
fn everything_to_look_at_has_words_for_it() {
    let html = page::gallery().unwrap().to_html();
    let elements = elements(&html);
    let has = |attributes: &[(String, String)], key: &str| {
        attributes.iter().any(|(name, value)| name == key && !value.is_empty())
    };
    for (name, attributes) in &elements {
        assert!(name != "img" || has(attributes, "alt"), "an img without alt");
        let chart = attributes.iter().any(|(key, value)| key == "class" && value.starts_with("chart"));
        assert!(!chart || has(attributes, "aria-label"), "a chart without label");
    }
    assert!(html.contains("<title>Line chart of loss and accuracy against epoch: train and validation; marked: best epoch: 22</title>"));
}

#[test]
fn sections_of_one_title_have_anchors_of_their_own() {
    let mut report = Report::new("t");
    report.section(None, "The data: 宁/它!");
    report.section(None, "the data 宁 它");
    report.section(None, "???");
    report.section(Some("4"), "");
    let html = report.to_html();
    let elements = elements(&html);
    let ids: Vec<&str> = attributes(&elements, "id").collect();
    assert_eq!(ids, ["section-the-data-宁-它", "section-the-data-宁-它-2", "section-", "section--2"]);
}

#[test]
fn text_of_any_kind_stays_text() {
    let hostile = "</style></title><script>alert('x')</script>\"'&\u{0}\u{202E}";
    let mut report = Report::new(hostile);
    report.subtitle(hostile).lead(hostile).facts(&[(hostile, hostile.into())]);
    let image = Image::from_pixels(1, 1, 1, &[0]).unwrap();
    let chart = BarChart::new(hostile, hostile, [hostile]).series(hostile, [1.0]).unwrap();
    report
        .section(Some(hostile), hostile)
        .text(hostile)
        .note(hostile)
        .subsection(hostile)
        .pre(hostile, hostile)
        .figure(Figure::new(chart, hostile, hostile))
        .figure(Figure::new(
            Sheet::new(vec![Tile::new(image, hostile).sublabel(hostile)], 3),
            hostile,
            hostile,
        ));
    let html = report.to_html();
    let elements = elements(&html);
    assert!(elements.iter().all(|(name, _)| name != "script"));
    assert!(!html.contains('\0'));
    assert_eq!(html.matches("</style>").count(), 1);
}

#[test]
fn the_page_carries_its_characters_and_no_others() {
    let mut report = Report::new("plain");
    report.section(None, "nothing but Latin, naïve and 🐟");
    let plain = report.to_html();
    assert!(!plain.contains("@font-face"));
    report.section(None, "垂垃垄型垒垛垢垣垦垮宁它宅守安宋完宏宕宗");
    let hanzi = report.to_html();
    assert!(hanzi.contains("unicode-range:U+5782,U+5783,"));
    let added = hanzi.len() - plain.len();
    assert!(added < 10_000, "20 characters cost {added} bytes");
}

#[test]
fn charts_of_nothing_and_of_odd_numbers_can_be_drawn() {
    let odd =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, f64::MAX, f64::MIN, 1e300, 1e-300, 5e-324];
    let none: [&str; 0] = [];
    let mut report = Report::new("t");
    let section = report.section(None, "s");
    let mut show = |content: Content| {
        section.figure(Figure::new(content, "", ""));
    };
    for values in [&odd[..], &[]] {
        let points = || Series::new("a", values.iter().map(|&x| (x, x)));
        for axis in [Axis::new("x"), Axis::new("x").logarithmic(), Axis::new("x").range(0.0, f64::INFINITY)] {
            show(LineChart::new(axis.clone()).panel(axis.clone(), vec![points()]).marker(0.0, "m").into());
            let scatter = Scatter::new(axis.clone(), axis.clone()).series(points());
            show(scatter.clone().into());
            show(scatter.identity("exact").into());
            for arrangement in [Arrangement::Overlaid, Arrangement::Stacked, Arrangement::Grouped] {
                let histogram = Histogram::new(axis.clone(), "n").arranged(arrangement);
                show(histogram.clone().into());
                show(histogram.series("a", values.iter().copied()).measured(Measure::Share).into());
            }
        }
        let labels = values.iter().map(|x| x.to_string());
        show(BarChart::new("c", "n", labels).series("a", values.iter().copied()).unwrap().into());
        let rows: Vec<String> = values.iter().map(|x| x.to_string()).collect();
        show(HeatMap::new(("r", rows), ("c", vec!["one".into()]), values.to_vec()).unwrap().into());
    }
    show(BarChart::new("c", "n", none).into());
    show(LineChart::new("x").into());
    show(Scatter::new("x", "y").into());
    show(HeatMap::confusion(none, []).unwrap().into());
    show(Sheet::new(vec![], 0).into());
    let html = report.to_html();
    for (name, attributes) in elements(&html) {
        for (key, value) in attributes {
            let broken = ["NaN", "inf"].iter().any(|word| value.contains(word));
            assert!(!broken || key == "aria-label", "{name} {key}={value}");
        }
    }
}

#[test]
fn the_same_report_is_the_same_bytes() {
    assert_eq!(page::gallery().unwrap().to_html(), page::gallery().unwrap().to_html());
}

#[test]
fn writing_replaces_the_file_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    fs::write(&path, "old").unwrap();
    let report = Report::new("new");
    report.write(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), report.to_html());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn others_may_read_the_report() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (path, plain) = (folder.path().join("report.html"), folder.path().join("plain"));
    Report::new("t").write(&path).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(path), mode(plain));
}

#[test]
fn a_report_that_cannot_be_written_names_its_path_and_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no such folder").join("report.html");
    let error = Report::new("t").write(&missing).unwrap_err();
    assert!(matches!(&error, Error::Write { path, .. } if *path == missing));
    assert!(error.to_string().starts_with(&format!("cannot write {}: ", missing.display())), "{error}");

    // A folder can't be replaced by a file.
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("kept"), "").unwrap();
    let error = Report::new("t").write(&taken).unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
    assert!(taken.join("kept").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn pixels_come_back_as_they_were() {
    let pixels: Vec<u8> = (0..5 * 7 * 3).map(|i| (i * 37 % 256) as u8).collect();
    let image = Image::from_pixels(5, 7, 3, &pixels).unwrap();
    let mut report = Report::new("t");
    report.section(None, "s").figure(Figure::new(Sheet::new(vec![Tile::new(image, "a")], 1), "c", ""));
    let html = report.to_html();
    let encoded = html.split("base64,").nth(1).unwrap().split('"').next().unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
    let mut decoded = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut decoded).unwrap();
    assert_eq!((info.height, info.width, info.color_type), (5, 7, png::ColorType::Rgb));
    assert_eq!(decoded, pixels);

    let again = Image::from_png(bytes).unwrap();
    assert_eq!((again.height(), again.width()), (5, 7));
}

#[test]
fn what_is_no_image_is_an_error_that_says_what_was_found() {
    let refused = |height, width, channels, bytes: usize| {
        Image::from_pixels(height, width, channels, &vec![0; bytes]).unwrap_err().to_string()
    };
    assert!(refused(2, 3, 1, 5).contains("2 rows, 3 columns and 1 channels"));
    assert!(refused(2, 3, 1, 5).ends_with("found 5 bytes"));
    assert!(refused(1, 1, 4, 4).contains("1 or 3 channels"));
    assert!(refused(0, 0, 1, 0).contains("at least one pixel"));
    assert!(refused(usize::MAX, 2, 1, 1).contains("found 1 bytes"));
    let error = Image::from_png(b"GIF89a".to_vec()).unwrap_err().to_string();
    assert!(error.starts_with("expected the bytes of a PNG file: "), "{error}");
}

#[test]
fn a_scatter_plot_shows_where_both_values_are_equal() {
    let mut report = Report::new("t");
    let chart = |points: Vec<(f64, f64)>| {
        Scatter::new("true", "predicted").series(Series::new("images", points)).identity("exact")
    };
    report.section(None, "s").figure(Figure::new(chart(vec![(1.0, 2.0), (3.0, 2.5)]), "", ""));
    let html = report.to_html();
    assert!(html.contains("the line of equal values: exact"), "it is described");
    // From corner to corner: both axes have the same range.
    let corners: Vec<[f64; 4]> = elements(&html)
        .into_iter()
        .filter(|(name, attributes)| {
            name == "line" && attributes.contains(&("class".into(), "marker".into()))
        })
        .map(|(_, attributes)| {
            ["x1", "y1", "x2", "y2"]
                .map(|key| attributes.iter().find(|(name, _)| name == key).unwrap().1.parse().unwrap())
        })
        .collect();
    assert!(!corners.is_empty());
    assert!(corners.iter().all(|[x1, y1, x2, y2]| x1 < x2 && y1 > y2), "{corners:?}");
}

#[test]
fn a_scatter_plot_circles_points() {
    let points = vec![(1.0, 2.0), (3.0, 2.5), (2.0, f64::NAN)];
    let chart = Scatter::new("x", "y")
        .series(Series::new("images", points.clone()))
        .circled("wrong", points[1..].to_vec());
    let mut report = Report::new("t");
    report.section(None, "s").figure(Figure::new(chart, "", ""));
    let html = report.to_html();
    assert!(html.contains("circled: wrong"), "it is described");
    let circles: Vec<_> = elements(&html)
        .into_iter()
        .filter(|(name, attributes)| {
            name == "path" && attributes.contains(&("class".into(), "circle".into()))
        })
        .map(|(_, attributes)| {
            attributes.iter().find(|(name, _)| name == "d").unwrap().1.matches('M').count()
        })
        .collect();
    assert_eq!(circles, [1, 1], "wide and narrow, without the point that is nowhere");
}
