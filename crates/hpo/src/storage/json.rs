//! JSON as Python writes it: with NaN and infinities.

use serde_json::Value;

/// The text of a float.
pub(super) fn float(x: f64) -> String {
    if x.is_finite() {
        Value::from(x).to_string()
    } else if x.is_nan() {
        "NaN".into()
    } else if x > 0.0 {
        "Infinity".into()
    } else {
        "-Infinity".into()
    }
}

/// A float as an attribute: one of the words of [`parse`] where JSON has none for it.
pub(crate) fn from_float(x: f64) -> Value {
    if x.is_finite() { Value::from(x) } else { Value::from(float(x)) }
}

/// The text of a system attribute. One that is as [`from_float`] makes it is a float again.
pub(super) fn system_attr(value: &Value) -> String {
    match as_float(value) {
        Some(x) if !x.is_finite() => float(x),
        _ => value.to_string(),
    }
}

/// Reads text in which NaN, Infinity and -Infinity may stand for numbers; they become strings.
pub(super) fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| match quote_non_finite(text) {
        Some(quoted) => serde_json::from_str(&quoted),
        None => Err(error),
    })
}

/// A float, or one of the strings that [`parse`] makes.
pub(crate) fn as_float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// Puts quotes around numbers that JSON lacks, outside strings. `None` if there are none.
fn quote_non_finite(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut rest, mut found) = (text, false);
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let end = string_end(rest)?;
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        match ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| rest.starts_with(word)) {
            Some(word) => {
                out.extend(["\"", word, "\""]);
                rest = &rest[word.len()..];
                found = true;
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    found.then_some(out)
}

/// The end of the string at the start of the text.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_numbers_survive() {
        let value = parse(r#"{"a": [NaN, -Infinity, 1.5], "b": "NaN \" Infinity", "c": Infinity}"#).unwrap();
        assert!(as_float(&value["a"][0]).unwrap().is_nan());
        assert_eq!(as_float(&value["a"][1]), Some(f64::NEG_INFINITY));
        assert_eq!(as_float(&value["c"]), Some(f64::INFINITY));
        assert_eq!(value["b"], "NaN \" Infinity");
        assert!(parse("{\"a\": Nan}").is_err());
        assert_eq!(float(f64::NEG_INFINITY), "-Infinity");
    }
}
