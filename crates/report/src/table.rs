//! Tables.

use std::fmt::Write as _;

use crate::markup::{escape, escape_path, sentence};
use crate::number;

/// A column of a [`Table`].
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    group: Option<String>,
    numbers: bool,
    paths: bool,
}

impl Column {
    /// A left-aligned column.
    pub fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), group: None, numbers: false, paths: false }
    }

    /// A right-aligned column with digits of one width.
    pub fn number(name: impl Into<String>) -> Self {
        Self { name: name.into(), group: None, numbers: true, paths: false }
    }

    /// A left-aligned column of paths, which may break anywhere, first after `/`, `_` and `-`, so that a long one leaves room for the other columns.
    pub fn path(name: impl Into<String>) -> Self {
        Self { paths: true, ..Self::text(name) }
    }

    /// Neighboring columns under the same group share a heading above their own.
    pub fn under(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    fn class(&self) -> &'static str {
        match (self.numbers, self.paths) {
            (true, _) => r#" class="n""#,
            (_, true) => r#" class="path-cell""#,
            _ => "",
        }
    }
}

/// A cell of a [`Table`]; made with `.into()` from text and numbers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cell {
    /// Plain text.
    Text(String),
    /// A whole number, its thousands separated.
    Integer(i64),
    /// A number with four decimals; NaN is printed as `NaN`.
    Decimal(f64),
    /// A dash: no value.
    Missing,
}

impl Cell {
    fn html(&self) -> String {
        match self {
            Self::Text(text) => format!("<bdi>{}</bdi>", escape(text)),
            Self::Integer(n) => number::integer(*n),
            Self::Decimal(x) => number::decimal(*x, 4),
            Self::Missing => "–".into(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(x: f64) -> Self {
        Self::Decimal(x)
    }
}

impl From<f32> for Cell {
    fn from(x: f32) -> Self {
        Self::Decimal(x.into())
    }
}

impl From<i64> for Cell {
    fn from(n: i64) -> Self {
        Self::Integer(n)
    }
}

impl From<i32> for Cell {
    fn from(n: i32) -> Self {
        Self::Integer(n.into())
    }
}

impl From<u32> for Cell {
    fn from(n: u32) -> Self {
        Self::Integer(n.into())
    }
}

impl From<usize> for Cell {
    fn from(n: usize) -> Self {
        Self::Integer(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

/// A table with a caption. On a narrow screen it scrolls sideways under its fixed first column; one of more
/// than 30 rows scrolls under its fixed heading. In print it is whole.
///
/// A row may be shorter than the columns (empty cells fill it). Cells beyond the last column are
/// left out.
///
/// ```
/// use firstsight_report::{Column, Table};
/// let mut table = Table::new("The two models", [Column::text("model"), Column::number("parameters")]);
/// table.row(["logistic".into(), 264_055.into()]).highlighted_row(["CNN".into(), 88_375.into()]);
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    caption: String,
    columns: Vec<Column>,
    rows: Vec<(Vec<Cell>, Kind)>,
    footer: Option<Vec<Cell>>,
    folded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Highlighted,
}

impl Table {
    /// A table with no rows yet. The caption may use the inline markup of [`Section::text`](crate::Section::text).
    pub fn new(caption: impl Into<String>, columns: impl IntoIterator<Item = Column>) -> Self {
        let columns = columns.into_iter().collect();
        Self { caption: caption.into(), columns, rows: Vec::new(), footer: None, folded: false }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> &mut Self {
        self.rows.push((cells.into_iter().collect(), Kind::Plain));
        self
    }

    /// Adds a highlighted row, such as the best result.
    pub fn highlighted_row(&mut self, cells: impl IntoIterator<Item = Cell>) -> &mut Self {
        self.rows.push((cells.into_iter().collect(), Kind::Highlighted));
        self
    }

    /// Sets the row of totals, below a line.
    pub fn footer(&mut self, cells: impl IntoIterator<Item = Cell>) -> &mut Self {
        self.footer = Some(cells.into_iter().collect());
        self
    }

    /// Folds the table away under its caption, for long lists; a click or a printer unfolds it.
    pub fn folded(&mut self) -> &mut Self {
        self.folded = true;
        self
    }

    pub(crate) fn render(&self, out: &mut String, index: usize) {
        let tall = if self.rows.len() > 30 { " tall" } else { "" };
        let many = if self.columns.len() > 7 { " class=\"many\"" } else { "" };
        let caption = sentence(&self.caption);
        let (element, open, close) = match self.folded {
            true => ("details", "<summary>", "</summary>"),
            false => ("div", "", ""),
        };
        // The caption stands outside of the scrolled part, so that it stays in sight and wraps at its width.
        let _ = writeln!(
            out,
            "<{element} class=\"table\">\n\
             {open}<p class=\"caption\" id=\"table-{index}\"><b>Table {index}.</b> {caption}</p>{close}\n\
             <div class=\"scroll{tall}\" tabindex=\"0\" role=\"region\" aria-labelledby=\"table-{index}\">\n\
             <table{many}>\n<thead>"
        );
        self.render_groups(out);
        out.push_str("<tr>");
        for column in &self.columns {
            let _ = write!(out, "<th scope=\"col\"{}>{}</th>", column.class(), escape(&column.name));
        }
        out.push_str("</tr>\n</thead>\n<tbody>\n");
        for (cells, kind) in &self.rows {
            let class = if *kind == Kind::Highlighted { " class=\"best\"" } else { "" };
            let _ = write!(out, "<tr{class}>");
            self.render_cells(out, cells);
        }
        out.push_str("</tbody>\n");
        if let Some(cells) = &self.footer {
            out.push_str("<tfoot>\n<tr>");
            self.render_cells(out, cells);
            out.push_str("</tfoot>\n");
        }
        let _ = write!(out, "</table>\n</div>\n</{element}>\n");
    }

    fn render_groups(&self, out: &mut String) {
        if self.columns.iter().all(|column| column.group.is_none()) {
            return;
        }
        out.push_str("<tr class=\"groups\">");
        for run in self.columns.chunk_by(|a, b| a.group.is_some() && a.group == b.group) {
            let group = run.first().and_then(|column| column.group.as_deref());
            match group {
                Some(group) => {
                    let _ = write!(
                        out,
                        "<th scope=\"colgroup\" colspan=\"{}\">{}</th>",
                        run.len(),
                        escape(group)
                    );
                }
                None => out.push_str("<td></td>"),
            }
        }
        out.push_str("</tr>\n");
    }

    fn render_cells(&self, out: &mut String, cells: &[Cell]) {
        for (i, column) in self.columns.iter().enumerate() {
            let html = match cells.get(i) {
                Some(Cell::Text(path)) if column.paths => format!("<bdi>{}</bdi>", escape_path(path)),
                cell => cell.map(Cell::html).unwrap_or_default(),
            };
            let (tag, scope) = if i == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
            let _ = write!(out, "<{tag}{scope}{}>{html}</{tag}>", column.class());
        }
        out.push_str("</tr>\n");
    }
}
