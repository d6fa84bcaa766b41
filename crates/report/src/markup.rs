//! Escaping, and the subset of Markdown that running text may use.

/// Appends `text`, escaped for XML text and quoted attributes. Control characters,
/// which XML forbids, become the replacement character.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
}

pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_escaped(&mut out, text);
    out
}

/// [`escape`], with places after `/`, `_` and `-` where a line may break.
pub(crate) fn escape_path(text: &str) -> String {
    text.split_inclusive(['/', '_', '-']).map(escape).collect::<Vec<_>>().join("<wbr/>")
}

/// Escapes `text`, on one line, for use within text with markup: a class name in a caption
/// or in [`Section::text`](crate::Section::text), also within `**bold**` and a link's label. Not for
/// `` `code` ``, where a backslash is one, nor for titles and labels, which take any text as it is.
///
/// ```
/// use firstsight_report::escape_markup;
/// let class = "**a** [b]";
/// assert_eq!(format!("Errors of {}", escape_markup(class)), r"Errors of \*\*a\*\* \[b\]");
/// ```
pub fn escape_markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // A line that begins with a hyphen would be a list's.
            '\\' | '`' | '*' | '[' | ']' | '-' => out.extend(['\\', c]),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The text that escaped markup stands for, without the backslashes: for titles, labels and facts, which take any text as it is.
///
/// ```
/// use firstsight_report::{escape_markup, unescape_markup};
/// assert_eq!(unescape_markup(&escape_markup("vehicle-damage")), "vehicle-damage");
/// ```
pub fn unescape_markup(text: &str) -> String {
    let mut characters = text.chars();
    std::iter::from_fn(|| match characters.next() {
        Some('\\') => characters.next(),
        other => other,
    })
    .collect()
}

/// Paragraphs separated by blank lines; a paragraph whose lines all begin with `- ` is a list.
pub(crate) fn blocks(text: &str) -> String {
    let mut out = String::new();
    let text = text.replace("\r\n", "\n");
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let items: Option<Vec<&str>> = block.lines().map(|line| line.trim().strip_prefix("- ")).collect();
        match items {
            Some(items) => {
                out.push_str("<ul>\n");
                for item in items {
                    out.push_str(&format!("<li>{}</li>\n", inline(item)));
                }
                out.push_str("</ul>\n");
            }
            None => out.push_str(&format!("<p>{}</p>\n", inline(block))),
        }
    }
    out
}

/// Inline markup that ends in a full stop, unless it ends in a mark of its own.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim_end();
    let ended = text.is_empty() || text.ends_with(['.', '!', '?', ':', '…', '。', '！', '？']);
    inline(text) + if ended { "" } else { "." }
}

/// `` `code` ``, `**bold**` and `[links](address)`; a backslash makes the next character stand for itself.
/// Markup that does not close is plain text.
pub(crate) fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '`', '*', '[']) {
        push_escaped(&mut out, &rest[..at]);
        rest = &rest[at..];
        rest = if let Some((code, after)) = rest.strip_prefix('`').and_then(|rest| rest.split_once('`'))
            && !code.is_empty()
        {
            out.push_str(&format!("<code>{}</code>", escape(code)));
            after
        } else if let Some((bold, after)) = between(rest, "**", "**") {
            out.push_str(&format!("<strong>{}</strong>", inline(bold)));
            after
        } else if let Some((label, address, after)) = link(rest) {
            out.push_str(&format!(r#"<a href="{}">{}</a>"#, escape(address), inline(label)));
            after
        } else {
            let skip = usize::from(rest.starts_with('\\') && rest.len() > 1);
            let length = rest[skip..].chars().next().map_or(0, char::len_utf8);
            push_escaped(&mut out, &rest[skip..skip + length]);
            &rest[skip + length..]
        };
    }
    push_escaped(&mut out, rest);
    out
}

/// The text between `open`, with which `text` must begin, and the next `close` that no backslash takes; and
/// what follows.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let text = text.strip_prefix(open)?;
    let mut taken = false;
    for (at, c) in text.char_indices() {
        if !taken && text[at..].starts_with(close) {
            return (at > 0).then(|| (&text[..at], &text[at + close.len()..]));
        }
        taken = c == '\\' && !taken;
    }
    None
}

/// `[label](address)` whose address cannot run a script.
fn link(text: &str) -> Option<(&str, &str, &str)> {
    let (label, after) = between(text, "[", "](")?;
    let (address, after) = after.split_once(')')?;
    let known = ["https://", "http://", "mailto:", "#"].iter().any(|start| address.starts_with(start));
    (known || (!address.is_empty() && !address.contains(':'))).then_some((label, address, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_html_would_read() {
        assert_eq!(escape(r#"<b a="1">&'"#), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
        assert_eq!(escape("a\u{0}\u{1b}\u{85}\nb"), "a\u{FFFD}\u{FFFD}\u{FFFD}\nb");
    }

    #[test]
    fn inline_elements() {
        assert_eq!(
            inline("a `<b>` and **c `d`** [e & f](https://g.example/?h=1&i)"),
            "a <code>&lt;b&gt;</code> and <strong>c <code>d</code></strong> \
             <a href=\"https://g.example/?h=1&amp;i\">e &amp; f</a>"
        );
    }

    #[test]
    fn what_does_not_close_stands_for_itself() {
        for text in ["2 * 3", "**open", "`open", "[a]", "[a](b", "end\\", "``", "****", "[](x)"] {
            assert_eq!(inline(text), text);
        }
        assert_eq!(inline(r"\*\*not bold\*\* \[x](y) \`z"), "**not bold** [x](y) `z");
        assert_eq!(inline("\\é"), "é");
    }

    #[test]
    fn escaped_text_stands_for_itself_wherever_markup_is_read() {
        let alphabet = ["a", "\\", "`", "*", "[", "]", "(", ")", "-", " ", "\n"];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts =
                texts.iter().flat_map(|t| alphabet.map(|c| format!("{t}{c}"))).chain(texts.clone()).collect();
        }
        for text in &texts {
            let (escaped, shown) = (escape_markup(text), escape(text).replace('\n', " "));
            assert_eq!(inline(&escaped), shown, "{text:?}");
            assert_eq!(inline(&format!("a {escaped}*")), format!("a {shown}*"), "{text:?}");
            if shown.is_empty() {
                continue;
            }
            assert_eq!(inline(&format!("**{escaped}**")), format!("<strong>{shown}</strong>"), "{text:?}");
            assert_eq!(inline(&format!("[{escaped}](b)")), format!("<a href=\"b\">{shown}</a>"), "{text:?}");
            if !shown.trim().is_empty() {
                assert_eq!(blocks(&escaped), format!("<p>{}</p>\n", shown.trim()), "{text:?}");
            }
        }
    }

    #[test]
    fn sentences_end() {
        assert_eq!(sentence("one"), "one.");
        assert_eq!(sentence("one. "), "one.");
        assert_eq!(sentence("**one**"), "<strong>one</strong>.");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn no_link_runs_a_script() {
        assert!(!inline("[x](javascript:alert(1))").contains("href"));
        assert!(!inline("[x](data:text/html,x)").contains("href"));
        assert!(inline("[x](metrics.json)").contains(r#"href="metrics.json""#));
        assert!(inline("[x](#section)").contains(r##"href="#section""##));
    }

    #[test]
    fn paragraphs_and_lists() {
        assert_eq!(
            blocks("one\nline\n\n\n- a\n- **b**\r\n\r\ntwo"),
            "<p>one\nline</p>\n<ul>\n<li>a</li>\n<li><strong>b</strong></li>\n</ul>\n<p>two</p>\n"
        );
        assert_eq!(blocks("  \n\n "), "");
    }
}
