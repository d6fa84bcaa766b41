//! The figures of a report as files of their own.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use firstsight_report::{
    BarChart, Error, Figure, HeatMap, Image, Mark, Picture, Report, Sheet, Table, Tile, escape_markup,
};
use quick_xml::Reader;
use quick_xml::events::Event;

#[path = "../examples/gallery/page.rs"]
mod page;

/// (height, width) and the samples of a PNG file, as red, green and blue.
fn decode(png: &[u8]) -> ((usize, usize), Vec<[u8; 3]>) {
    let mut reader = png::Decoder::new(Cursor::new(png)).read_info().unwrap();
    let mut samples = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut samples).unwrap();
    let pixels = match info.color_type {
        png::ColorType::Rgb => samples.chunks(3).map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => samples.iter().map(|&gray| [gray; 3]).collect(),
        other => panic!("{other:?}"),
    };
    ((info.height as usize, info.width as usize), pixels)
}

fn read(path: &Path) -> ((usize, usize), Vec<[u8; 3]>) {
    decode(&fs::read(path).unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn bars() -> BarChart {
    BarChart::new("class", "images", ["宁", "它"]).series("train", [3.0, 4.0]).unwrap()
}

fn gray(height: usize, width: usize, value: u8) -> Image {
    Image::from_pixels(height, width, 1, &vec![value; height * width]).unwrap()
}

/// A report of one figure.
fn report_of(content: impl Into<firstsight_report::Content>) -> Report {
    let mut report = Report::new("t");
    report.section(None, "s").figure(Figure::new(content, "c", ""));
    report
}

fn only_picture(report: &Report) -> ((usize, usize), Vec<[u8; 3]>) {
    let folder = tempfile::tempdir().unwrap();
    let written = report.write_pictures(folder.path()).unwrap();
    assert_eq!(written, [folder.path().join("figure-01.png")]);
    read(&written[0])
}

#[test]
fn files_have_the_numbers_and_kinds_of_the_page_s_figures() {
    let report = page::gallery().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let written = report.write_pictures(folder.path()).unwrap();

    let html = report.to_html();
    let figures = html.split("<figure id=\"figure-").skip(1).map(|figure| {
        let (number, content) = figure.split_once("\">").unwrap();
        let kind = if content.split("</figure>").next().unwrap().contains("<svg class=\"chart") {
            "svg"
        } else {
            "png"
        };
        format!("figure-{number:0>2}.{kind}")
    });
    let expected: Vec<String> = figures.collect();
    assert_eq!(expected.len(), 22);
    assert!(expected.contains(&"figure-01.svg".into()) && expected.contains(&"figure-16.png".into()));
    let found: Vec<&str> = written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(found, expected);
    assert_eq!(names(folder.path()), expected);

    // What the page says of a chart, its file says too.
    for (i, figure) in html.split("<figure id=").skip(1).enumerate() {
        let Some(title) =
            figure.split("<svg class=\"chart").nth(1).and_then(|svg| svg.split("<title>").nth(1))
        else {
            continue;
        };
        let svg = fs::read_to_string(&written[i]).unwrap();
        let title = title.split("</title>").next().unwrap();
        assert!(svg.contains(&format!("<title>{title}</title>")), "{}", written[i].display());
    }
}

#[test]
fn a_chart_s_file_is_well_formed_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let written = page::gallery().unwrap().write_pictures(folder.path()).unwrap();
    let charts = written.iter().filter(|path| path.extension().unwrap() == "svg");
    let mut widths = Vec::new();
    for path in charts {
        let svg = fs::read_to_string(path).unwrap();
        let mut reader = Reader::from_str(&svg);
        reader.config_mut().check_end_names = true;
        let mut open = Vec::new();
        loop {
            match reader.read_event().unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
                Event::Start(start) => {
                    if open.is_empty() {
                        let value = |name| start.try_get_attribute(name).unwrap().unwrap().value.into_owned();
                        assert_eq!(value("xmlns"), "http://www.w3.org/2000/svg");
                        widths.push(value("width").parse::<f64>().unwrap());
                    }
                    open.push(start.name().as_ref().to_owned());
                }
                Event::End(_) => drop(open.pop()),
                Event::Eof => break,
                _ => {}
            }
        }
        assert!(open.is_empty());
        assert!(!svg.contains("var("), "{}: a variable is left", path.display());
        assert!(!svg.contains("href") && !svg.contains("@import"));
        assert!(svg.match_indices("url(").all(|(at, _)| svg[at..].starts_with("url(data:font/ttf;base64,")));
    }
    // Wide even where the page has two in a row; only the 55 classes need more.
    assert_eq!(widths.len(), 17);
    assert!(widths.iter().all(|&width| (752.0..800.0).contains(&width)), "{widths:?}");
    assert!(widths.iter().filter(|&&width| width == 752.0).count() >= 16, "{widths:?}");
}

#[test]
fn a_chart_s_file_carries_its_own_characters_and_no_others() {
    let mut report = Report::new("人");
    report.section(None, "从").figure(Figure::new(bars(), "众", "大")).figure(Figure::new(
        HeatMap::confusion(["a", "b"], [1, 2, 3, 4]).unwrap(),
        "天",
        "",
    ));
    let folder = tempfile::tempdir().unwrap();
    let written = report.write_pictures(folder.path()).unwrap();
    assert!(fs::read_to_string(&written[0]).unwrap().contains("unicode-range:U+5B81,U+5B83;"));
    assert!(!fs::read_to_string(&written[1]).unwrap().contains("@font-face"));
}

#[test]
fn a_picture_keeps_its_bytes_and_squares_are_enlarged() {
    let pixels = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9], [80, 80, 80], [1, 2, 3]];
    let image = Image::from_pixels(2, 3, 3, pixels.as_flattened()).unwrap();
    assert_eq!(only_picture(&report_of(Picture::new(image.clone()))), ((2, 3), pixels.to_vec()));

    let ((height, width), enlarged) = only_picture(&report_of(Picture::pixelated(image.clone(), 4.0)));
    assert_eq!((height, width), (8, 12));
    for (i, pixel) in enlarged.iter().enumerate() {
        assert_eq!(*pixel, pixels[i / width / 4 * 3 + i % width / 4], "{i}");
    }
    // 7.5 columns are 8, and each is the nearest pixel.
    let ((height, width), enlarged) = only_picture(&report_of(Picture::pixelated(image, 2.5)));
    assert_eq!((height, width), (5, 8));
    assert_eq!(enlarged[..8], [0, 0, 1, 1, 1, 2, 2, 2].map(|i| pixels[i]));
}

#[test]
fn no_scale_makes_a_picture_that_fills_the_memory() {
    for scale in [f64::INFINITY, 1e12] {
        let ((height, width), pixels) = only_picture(&report_of(Picture::pixelated(gray(1, 64, 7), scale)));
        assert_eq!((height, width), (256, 16_384));
        assert!(pixels.iter().all(|&pixel| pixel == [7; 3]));
    }
    assert_eq!(only_picture(&report_of(Picture::pixelated(gray(2, 2, 7), f64::NAN))).0, (2, 2));
}

#[test]
fn a_sheet_s_file_has_its_columns_frames_and_pictures() {
    const FAINT: [u8; 3] = [0xd9, 0xdd, 0xe2];
    const RIGHT: [u8; 3] = [0x00, 0x71, 0x4f];
    const WRONG: [u8; 3] = [0xc2, 0x44, 0x00];
    let tiles = vec![
        Tile::new(gray(80, 60, 10), "a").mark(Mark::Right),
        Tile::new(gray(80, 60, 20), "b").mark(Mark::Wrong),
        Tile::new(gray(40, 60, 30), "c"),
        // A quarter of the box's height: enlarged twice more, as on the page.
        Tile::new(gray(20, 15, 40), "d"),
    ];
    let ((height, width), pixels) = only_picture(&report_of(Sheet::new(tiles, 3)));
    // 256 / 80 = 3 and 256 / 60 = 4: boxes of 240 × 180, frames of 2 and gaps of 8.
    assert_eq!((height, width), (2 * (240 + 4 + 8) + 8, 3 * (180 + 4 + 8) + 8));
    let at = |y: usize, x: usize| pixels[y * width + x];
    assert_eq!((at(0, 0), at(7, 7), at(height - 1, width - 1)), ([255; 3], [255; 3], [255; 3]));
    let left = |column: usize| 8 + column * 192;
    for (column, frame) in [RIGHT, WRONG, FAINT].into_iter().enumerate() {
        assert_eq!((at(8, left(column)), at(9, left(column) + 183)), (frame, frame), "column {column}");
        assert_eq!((at(251, left(column) + 1), at(252, left(column))), (frame, [255; 3]), "column {column}");
    }
    assert_eq!((at(10, 10), at(249, 189)), ([10; 3], [10; 3]));
    assert_eq!(at(130, left(1) + 90), [20; 3]);
    // 40 rows of 80 stand in the middle, on the ground of boxes.
    assert_eq!((at(10, left(2) + 90), at(130, left(2) + 90)), ([0xf4, 0xf5, 0xf7], [30; 3]));
    assert_eq!((at(10 + 60, left(2) + 2), at(9 + 60, left(2) + 2)), ([30; 3], [0xf4, 0xf5, 0xf7]));
    // The second row begins below; its picture is 120 × 90 in 240 × 180.
    assert_eq!(
        (at(260, 8), at(262 + 60, 10 + 45), at(262 + 59, 10 + 45)),
        (FAINT, [40; 3], [0xf4, 0xf5, 0xf7])
    );
    assert_eq!((at(262 + 179, 10 + 134), at(262 + 180, 10 + 134)), ([40; 3], [0xf4, 0xf5, 0xf7]));
    // Nothing stands beside it.
    assert_eq!(at(300, left(1)), [255; 3]);
}

#[test]
fn large_and_many_tiles_are_not_enlarged() {
    let ((height, width), _) =
        only_picture(&report_of(Sheet::new(vec![Tile::new(gray(300, 200, 0), "a")], 1)));
    assert_eq!((height, width), (300 + 4 + 16, 200 + 4 + 16));
    let tiles = vec![Tile::new(gray(28, 28, 0), "a"); 60];
    let ((height, width), _) = only_picture(&report_of(Sheet::new(tiles.clone(), 50)));
    assert_eq!((height, width), (2 * 40 + 8, 50 * 40 + 8));
    assert_eq!(
        only_picture(&report_of(Sheet::new(tiles, 10))).0,
        (6 * (4 * 28 + 12) + 8, 10 * (4 * 28 + 12) + 8)
    );
}

/// A PNG file of any kind.
fn png_of(color: png::ColorType, depth: png::BitDepth, palette: Option<&[u8]>, data: &[u8]) -> Image {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if let Some(palette) = palette {
        encoder.set_palette(palette);
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    Image::from_png(bytes).unwrap()
}

#[test]
fn any_kind_of_png_can_be_a_tile() {
    use png::{BitDepth, ColorType};
    let ground = [0xf4, 0xf5, 0xf7];
    let images = [
        (png_of(ColorType::Rgba, BitDepth::Eight, None, &[9, 8, 7, 255, 1, 2, 3, 0]), [[9, 8, 7], ground]),
        (png_of(ColorType::GrayscaleAlpha, BitDepth::Eight, None, &[9, 255, 1, 0]), [[9; 3], ground]),
        (
            png_of(ColorType::Rgba, BitDepth::Eight, None, &[0, 0, 0, 51, 0, 0, 0, 255]),
            [[195, 196, 198], [0; 3]],
        ),
        (
            png_of(ColorType::Indexed, BitDepth::Two, Some(&[1, 2, 3, 4, 5, 6]), &[0b0100_0000]),
            [[4, 5, 6], [1, 2, 3]],
        ),
        (png_of(ColorType::Grayscale, BitDepth::One, None, &[0b0100_0000]), [[0; 3], [255; 3]]),
        (
            png_of(ColorType::Grayscale, BitDepth::Sixteen, None, &[0x12, 0x34, 0xab, 0xcd]),
            [[0x12; 3], [0xab; 3]],
        ),
    ];
    for (i, (image, expected)) in images.into_iter().enumerate() {
        let ((_, width), pixels) = only_picture(&report_of(Sheet::new(vec![Tile::new(image, "a")], 1)));
        // One tile of 2 × 1, 128 times as large.
        let row = (10 + 64) * width + 10;
        assert_eq!([pixels[row + 5], pixels[row + 250]], expected, "image {i}");
    }
}

#[test]
fn figures_of_an_earlier_report_go_and_other_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut long = Report::new("t");
    let section = long.section(None, "s").table(Table::new("t", []));
    section.figure_row(vec![Figure::new(bars(), "", ""), Figure::new(Picture::new(gray(1, 1, 0)), "", "")]);
    section.figure(Figure::new(bars(), "", ""));
    long.write_pictures(folder.path()).unwrap();
    assert_eq!(names(folder.path()), ["figure-01.svg", "figure-02.png", "figure-03.svg"]);

    let others = [
        "figure-1.svg",
        "figure-01.txt",
        "figure-.png",
        "figure-overview.svg",
        "figure-02.png.bak",
        "figure-2a.png",
        "my-figure-04.svg",
        "report.html",
    ];
    for name in others.iter().chain(&["figure-04.png", "figure-117.svg"]) {
        fs::write(folder.path().join(name), "kept").unwrap();
    }
    fs::create_dir(folder.path().join("figure-05.svg")).unwrap();
    report_of(Picture::new(gray(1, 1, 0))).write_pictures(folder.path()).unwrap();
    let mut expected: Vec<&str> = others.iter().copied().chain(["figure-01.png", "figure-05.svg"]).collect();
    expected.sort_unstable();
    assert_eq!(names(folder.path()), expected);

    Report::new("no figures").write_pictures(folder.path()).unwrap();
    expected.retain(|name| *name != "figure-01.png");
    assert_eq!(names(folder.path()), expected);
}

#[test]
fn the_folder_is_made_and_a_sheet_of_nothing_keeps_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("run").join("figures");
    let mut report = report_of(Sheet::new(vec![], 3));
    report.section(None, "s").figure(Figure::new(bars(), "", ""));
    assert_eq!(report.write_pictures(&inner).unwrap(), [inner.join("figure-02.svg")]);
}

#[test]
fn the_same_report_is_the_same_files() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let report = page::gallery().unwrap();
    for (a, b) in
        report.write_pictures(one.path()).unwrap().iter().zip(report.write_pictures(other.path()).unwrap())
    {
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{}", a.display());
    }
}

#[test]
fn errors_name_the_path_and_leave_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = report_of(bars()).write_pictures(folder.path()).unwrap();
    let before = fs::read(&earlier[0]).unwrap();

    // The header is whole, the pixels are not.
    let mut report = report_of(Picture::new(gray(1, 1, 0)));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 64);
    encoder.set_color(png::ColorType::Rgb);
    let noise: Vec<u8> = (0..64 * 64 * 3u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&noise).unwrap();
    bytes.truncate(bytes.len() / 2);
    let broken = Image::from_png(bytes).unwrap();
    report.section(None, "s").figure(Figure::new(Sheet::new(vec![Tile::new(broken, "a")], 1), "", ""));
    let error = report.write_pictures(folder.path()).unwrap_err();
    let path = folder.path().join("figure-02.png");
    assert!(matches!(&error, Error::Draw { path: named, .. } if *named == path));
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot draw {}: expected the bytes of a PNG", path.display()))
    );
    assert_eq!(names(folder.path()), ["figure-01.svg"]);
    assert_eq!(fs::read(&earlier[0]).unwrap(), before);

    // A file where the folder should be, and a folder where a figure should be.
    let error = report_of(bars()).write_pictures(&earlier[0]).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot write {}: ", earlier[0].display())), "{error}");
    let taken = folder.path().join("figure-01.png");
    fs::create_dir(&taken).unwrap();
    let error = report_of(Picture::new(gray(1, 1, 0))).write_pictures(folder.path()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot write {}: ", taken.display())), "{error}");
    assert_eq!(names(folder.path()), ["figure-01.png", "figure-01.svg"], "a temporary file is left");
}

#[test]
fn an_escaped_class_name_stands_for_itself_in_a_caption() {
    let name = "- **a** [b](c) `d`";
    let mut report = Report::new("t");
    let caption = format!("Errors of {}", escape_markup(name));
    report.section(None, "s").text(&escape_markup(name)).figure(Figure::new(
        bars(),
        caption,
        escape_markup(name),
    ));
    let html = report.to_html();
    assert!(html.contains(&format!("<p>{name}</p>")));
    assert!(html.contains(&format!("</b> Errors of {name}. <span class=\"source\">Data: {name}.</span>")));
}
