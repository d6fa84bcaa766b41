//! Reports and their sections.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use firstsight_files::Draft;

use crate::chart::CHART_CSS;
use crate::figure::{Figure, Room};
use crate::font;
use crate::markup::{blocks, escape, inline};
use crate::table::Table;
use crate::{Error, Result};

pub(crate) const PAGE_CSS: &str = include_str!("page.css");

/// A report: a head with a title, a lead and the run's facts, and sections, in one HTML file that loads
/// nothing and runs no script.
///
/// ```
/// use firstsight_report::Report;
/// let mut report = Report::new("Two classes");
/// report.lead("Ants and bees, told apart.").facts(&[("seed", "123".into())]);
/// report.section(Some("1"), "Data").text("397 photos, of **two** classes.");
/// let html = report.to_html();
/// assert!(html.starts_with("<!DOCTYPE html>"));
/// assert!(html.contains("<strong>two</strong>"));
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    subtitle: Option<String>,
    lead: String,
    facts: Vec<(String, String)>,
    sections: Vec<Section>,
}

impl Report {
    /// A report with no sections yet.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.into(),
            subtitle: None,
            lead: String::new(),
            facts: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// Sets the line under the title.
    pub fn subtitle(&mut self, text: &str) -> &mut Self {
        self.subtitle = Some(text.into());
        self
    }

    /// Adds a paragraph or more before the first section, in the markup of [`Section::text`].
    pub fn lead(&mut self, text: &str) -> &mut Self {
        self.lead.push_str(&blocks(text));
        self
    }

    /// Adds facts about the run: its date, machine, data, device, seeds, time. Names and values are plain text.
    pub fn facts(&mut self, facts: &[(&str, String)]) -> &mut Self {
        self.facts.extend(facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self
    }

    /// Adds a section, which the table of contents lists.
    pub fn section(&mut self, number: Option<&str>, title: &str) -> &mut Section {
        let section = Section { number: number.map(Into::into), title: title.into(), blocks: Vec::new() };
        let last = self.sections.len();
        self.sections.push(section);
        &mut self.sections[last]
    }

    /// The section of this number, to add to it.
    pub fn numbered(&mut self, number: &str) -> Option<&mut Section> {
        self.sections.iter_mut().find(|section| section.number.as_deref() == Some(number))
    }

    /// The whole page.
    pub fn to_html(&self) -> String {
        let body = self.body();
        let mut page = String::with_capacity(body.len() + 65_536);
        let _ = write!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n\
             <meta name=\"color-scheme\" content=\"light dark\" />\n<title>{}</title>\n<style>\n\
             {}{PAGE_CSS}{CHART_CSS}</style>\n\
             </head>\n",
            escape(&self.title),
            font::face(&body),
        );
        page.push_str(&body);
        page.push_str("</html>\n");
        page
    }

    /// Writes the page to `path` atomically: a reader finds the old page or all of the new one.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], which names the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        Pending::write(path, self.to_html().as_bytes())?.commit()
    }

    /// Writes each figure as a file of its own into `folder`, which is created if it does not exist, and returns the
    /// paths in the order of the page. A file has its figure's number: `figure-01.svg`, `figure-05.png`.
    ///
    /// - A chart is an SVG file in the page's light colors on white, at a wide page's size regardless of its
    ///   size on the page. It names its fonts and embeds the Chinese characters that it uses, for programs that read
    ///   fonts from SVG (browsers do); others need a Chinese font on the machine.
    /// - A picture is a PNG file of its own pixels. One [made of squares](crate::Picture::pixelated) is enlarged
    ///   by its scale, each pixel the nearest one, to a side of 16,384 pixels at most.
    /// - A [sheet](crate::Sheet) is one PNG file with its columns, row by row, enlarged by a whole factor to a row
    ///   of about 1,440 pixels and pictures of 256 at most. A thin frame is green for right and orange for wrong;
    ///   labels are in the page alone. A sheet of no tiles has no file.
    ///
    /// Nothing in `folder` changes before all figures are drawn and stored in temporary files, which are then
    /// renamed. At the end, figures of an earlier report that have no successor are removed: files named `figure-`,
    /// two digits or more, `.svg` or `.png`. Other files are left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Draw`] when a [PNG file given](crate::Image::from_png) cannot be decoded, [`Error::Write`], and
    /// [`Error::Remove`]; each names the path.
    ///
    /// ```
    /// use firstsight_report::{BarChart, Figure, Image, Picture, Report};
    /// let mut report = Report::new("Ants and bees");
    /// let counts = BarChart::new("class", "images", ["ants", "bees"]).series("train", [123.0, 121.0])?;
    /// let checkerboard = Picture::pixelated(Image::from_pixels(2, 2, 1, &[0, 255, 255, 0])?, 8.0);
    /// report
    ///     .section(None, "Data")
    ///     .figure(Figure::new(counts, "Images of each class.", "the training photos"))
    ///     .figure(Figure::new(checkerboard, "Four pixels.", "made up"));
    ///
    /// let folder = tempfile::tempdir()?;
    /// let written = report.write_pictures(folder.path())?;
    /// assert_eq!(written, ["figure-01.svg", "figure-02.png"].map(|name| folder.path().join(name)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_pictures(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let unwritten = |source| Error::Write { path: folder.into(), source };
        fs::create_dir_all(folder).map_err(unwritten)?;
        let mut files = Vec::new();
        for (i, figure) in self.figures().enumerate() {
            let path = folder.join(format!("figure-{:02}.{}", i + 1, figure.extension()));
            let drawn =
                figure.to_file().map_err(|error| Error::Draw { path: path.clone(), source: error.into() })?;
            if let Some(bytes) = drawn {
                files.push(Pending::write(&path, &bytes)?);
            }
        }
        let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
        for file in files {
            file.commit()?;
        }
        for entry in fs::read_dir(folder).map_err(unwritten)? {
            let entry = entry.map_err(unwritten)?;
            let path = entry.path();
            let stale = entry.file_name().to_str().is_some_and(is_figure) && !paths.contains(&path);
            if stale && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                fs::remove_file(&path).map_err(|source| Error::Remove { path, source })?;
            }
        }
        Ok(paths)
    }

    /// The figures in the order of the page, which is that of their numbers.
    fn figures(&self) -> impl Iterator<Item = &Figure> {
        let blocks = self.sections.iter().flat_map(|section| &section.blocks);
        blocks.flat_map(|block| match block {
            Block::Figures(figures) => figures.as_slice(),
            Block::Html(_) | Block::Table(_) => &[],
        })
    }

    fn body(&self) -> String {
        let anchors = self.anchors();
        let mut out = String::from("<body>\n<header>\n");
        let _ = writeln!(out, "<h1>{}</h1>", escape(&self.title));
        if let Some(subtitle) = &self.subtitle {
            let _ = writeln!(out, "<p class=\"subtitle\">{}</p>", inline(subtitle));
        }
        if !self.lead.is_empty() {
            let _ = write!(out, "<div class=\"lead\">\n{}</div>\n", self.lead);
        }
        if !self.facts.is_empty() {
            out.push_str("<dl class=\"facts\">\n");
            for (name, value) in &self.facts {
                let (name, value) = (escape(name), escape(value));
                let _ = writeln!(out, "<div><dt>{name}</dt><dd><bdi>{value}</bdi></dd></div>");
            }
            out.push_str("</dl>\n");
        }
        out.push_str("</header>\n");
        if self.sections.len() > 1 {
            out.push_str("<nav aria-label=\"Contents\">\n<p>Contents</p>\n<ol>\n");
            for (section, anchor) in self.sections.iter().zip(&anchors) {
                let _ = writeln!(out, "<li><a href=\"#{anchor}\">{}</a></li>", section.heading());
            }
            out.push_str("</ol>\n</nav>\n");
        }
        out.push_str("<main>\n");
        let mut numbers = Numbers::default();
        for (section, anchor) in self.sections.iter().zip(&anchors) {
            let _ = writeln!(out, "<section>\n<h2 id=\"{anchor}\">{}</h2>", section.heading());
            for block in &section.blocks {
                block.render(&mut out, &mut numbers);
            }
            out.push_str("</section>\n");
        }
        out.push_str("</main>\n</body>\n");
        out
    }

    /// An anchor for each section, made of its title's letters and digits, so that links to it last.
    fn anchors(&self) -> Vec<String> {
        let mut taken = HashSet::new();
        self.sections
            .iter()
            .map(|section| {
                let words: Vec<String> = section
                    .title
                    .split(|c: char| !c.is_alphanumeric())
                    .filter(|word| !word.is_empty())
                    .map(str::to_lowercase)
                    .collect();
                // `section-` sets them apart from the anchors of tables and figures.
                let name = format!("section-{}", words.join("-"));
                let mut anchor = name.clone();
                let mut copy = 1;
                while !taken.insert(anchor.clone()) {
                    copy += 1;
                    anchor = format!("{name}-{copy}");
                }
                anchor
            })
            .collect()
    }
}

/// Whether a file's name is one that [`Report::write_pictures`] gives.
fn is_figure(name: &str) -> bool {
    let stem = name.strip_suffix(".svg").or_else(|| name.strip_suffix(".png"));
    let number = stem.and_then(|stem| stem.strip_prefix("figure-"));
    number.is_some_and(|number| number.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A file that is written but does not yet replace the one at `path`.
struct Pending {
    file: Draft,
    path: PathBuf,
}

impl Pending {
    fn write(path: &Path, bytes: &[u8]) -> Result<Self> {
        let write = || {
            let mut file = Draft::create(path)?;
            file.write_all(bytes)?;
            Ok(file)
        };
        let path = path.to_owned();
        match write() {
            Ok(file) => Ok(Self { file, path }),
            Err(source) => Err(Error::Write { path, source }),
        }
    }

    fn commit(self) -> Result<()> {
        let Self { file, path } = self;
        file.commit().map(drop).map_err(|source| Error::Write { path, source })
    }
}

/// The numbers of tables and figures so far.
#[derive(Default)]
struct Numbers {
    tables: usize,
    figures: usize,
}

#[derive(Clone, Debug)]
enum Block {
    Html(String),
    Table(Table),
    Figures(Vec<Figure>),
}

impl Block {
    fn render(&self, out: &mut String, numbers: &mut Numbers) {
        match self {
            Self::Html(html) => out.push_str(html),
            Self::Table(table) => {
                numbers.tables += 1;
                table.render(out, numbers.tables);
            }
            Self::Figures(figures) => {
                let room = if figures.len() > 1 { Room::Half } else { Room::Whole };
                if room == Room::Half {
                    out.push_str("<div class=\"row\">\n");
                }
                for figure in figures {
                    numbers.figures += 1;
                    figure.render(out, numbers.figures, room);
                }
                if room == Room::Half {
                    out.push_str("</div>\n");
                }
            }
        }
    }
}

/// A part of a [`Report`]; its content keeps the order in which it is added.
#[derive(Clone, Debug)]
pub struct Section {
    number: Option<String>,
    title: String,
    blocks: Vec<Block>,
}

impl Section {
    /// Adds running text: paragraphs separated by blank lines, lists of lines that begin with `- `,
    /// `` `code` ``, `**bold**` and `[links](https://…)`. A backslash makes the next character stand for
    /// itself. HTML in the text is shown as text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.html(blocks(text))
    }

    /// Adds a heading below the section's own.
    pub fn subsection(&mut self, title: &str) -> &mut Self {
        self.html(format!("<h3>{}</h3>\n", escape(title)))
    }

    /// Adds text that keeps its lines and spaces: a folder tree, an error message, a listing.
    pub fn pre(&mut self, title: &str, text: &str) -> &mut Self {
        let (title, text) = (inline(title), escape(text));
        // HTML drops a line end that follows the tag; `code` keeps the text's own first line.
        self.html(format!(
            "<div class=\"listing\">\n<p class=\"caption\">{title}</p>\n<pre tabindex=\"0\"><code>{text}</code></pre>\n</div>\n"
        ))
    }

    /// Adds an aside: a limit, a warning, where a number comes from.
    pub fn note(&mut self, text: &str) -> &mut Self {
        self.html(format!("<aside>\n{}</aside>\n", blocks(text)))
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) -> &mut Self {
        self.blocks.push(Block::Table(table));
        self
    }

    /// Adds a figure of the page's width.
    pub fn figure(&mut self, figure: Figure) -> &mut Self {
        self.figure_row(vec![figure])
    }

    /// Adds figures side by side, as many in a row as fit.
    pub fn figure_row(&mut self, figures: Vec<Figure>) -> &mut Self {
        self.blocks.push(Block::Figures(figures));
        self
    }

    fn html(&mut self, html: String) -> &mut Self {
        self.blocks.push(Block::Html(html));
        self
    }

    fn heading(&self) -> String {
        match &self.number {
            Some(number) => {
                format!("<span class=\"number\">{}</span> {}", escape(number), escape(&self.title))
            }
            None => escape(&self.title),
        }
    }
}
