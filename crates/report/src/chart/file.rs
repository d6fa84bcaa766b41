//! A chart as an SVG file of its own.

use std::fmt::Write as _;

use super::svg::Canvas;
use super::{CHART_CSS, Chart, WIDE};
use crate::font;
use crate::markup::escape;
use crate::report::PAGE_CSS;

/// The white around the drawing, in CSS pixels; the same as a page's margin.
const MARGIN: f64 = 16.0;

impl Chart {
    /// The chart as in the page's light scheme, at a wide page's size. The file states its fonts and colors
    /// without variables, which few programs except browsers know.
    pub(crate) fn to_svg(&self) -> String {
        let Canvas { width, height, body } = self.draw(WIDE);
        let (width, height) = (width.ceil() + 2.0 * MARGIN, height.ceil() + 2.0 * MARGIN);
        let title = escape(&self.describe());
        let mut svg = String::with_capacity(body.len() + 8_192);
        let _ = write!(
            svg,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" \
             viewBox=\"-{MARGIN} -{MARGIN} {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
             aria-label=\"{title}\">\n<title>{title}</title>\n<style>\n{}{}</style>\n\
             <rect class=\"ground\" x=\"-{MARGIN}\" y=\"-{MARGIN}\" width=\"{width}\" height=\"{height}\" />\n{body}</svg>\n",
            font::face(&body),
            style(),
        );
        svg
    }
}

/// The charts' style with each variable filled in: a rule that depends on the series is there for each of them.
fn style() -> String {
    let own = ".chart text { font-family: var(--fonts); }\n.ground { fill: var(--paper); }\n";
    let rules = || own.lines().chain(CHART_CSS.lines()).filter(|line| line.starts_with('.'));
    let series: Vec<&str> = rules().filter(|rule| rule.contains("--c:")).collect();
    let mut style = String::new();
    for rule in rules().filter(|rule| !rule.contains("--c:")) {
        if !["var(--c)", "var(--dash)", "var(--fill)"].iter().any(|variable| rule.contains(variable)) {
            let _ = writeln!(style, "{}", fill_in(rule, PAGE_CSS));
            continue;
        }
        for (i, variables) in series.iter().enumerate() {
            let _ = writeln!(style, ".s{}{}", i + 1, fill_in(&fill_in(rule, variables), PAGE_CSS));
        }
    }
    style
}

/// `rule` with each `var(--name)` replaced by its first value in `definitions`, if it has one.
fn fill_in(rule: &str, definitions: &str) -> String {
    let mut out = String::with_capacity(rule.len());
    let mut rest = rule;
    while let Some((before, (name, after))) =
        rest.split_once("var(").and_then(|(before, after)| Some((before, after.split_once(')')?)))
    {
        out.push_str(before);
        match definitions.split_once(&format!("{name}: ")).and_then(|(_, value)| value.split_once(';')) {
            Some((value, _)) => out.push_str(value),
            None => out.push_str(&format!("var({name})")),
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_filled_in_from_the_light_scheme() {
        let style = style();
        assert!(!style.contains("var(") && !style.contains("--"), "{style}");
        assert!(
            style
                .contains(".s2.line { fill: none; stroke: #d55e00; stroke-width: 2; stroke-dasharray: 7 4; ")
        );
        assert!(style.contains(".s1.bar { fill: #0064a8; fill-opacity: .9; "));
        assert!(style.contains(".chart text { font-size: 12px; fill: #1c2024; }"));
        assert!(style.contains(".ground { fill: #fff; }"));
        assert!(style.contains("\"Firstsight Hanzi\", system-ui"));
        // Five rules for each of six series.
        assert_eq!(style.lines().filter(|rule| rule.starts_with(".s")).count(), 30);
    }
}
