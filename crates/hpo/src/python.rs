//! Values as Python prints them, for log lines that read as Optuna's.

use serde_json::Value;

/// `repr` of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() { "nan".into() } else { format!("{}inf", if x < 0.0 { "-" } else { "" }) };
    }
    let scientific = format!("{x:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(e) if x != 0.0 && !(-4..16).contains(&e) => {
            format!("{mantissa}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
        }
        _ => format!("{x:?}"),
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(b) => if *b { "True" } else { "False" }.into(),
        Value::Number(n) if n.is_f64() => float(n.as_f64().unwrap_or(f64::NAN)),
        Value::String(s) => string(s),
        other => other.to_string(),
    }
}

fn string(s: &str) -> String {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// `repr` of a dict.
pub(crate) fn dict<'a>(items: impl Iterator<Item = (&'a str, Value)>) -> String {
    let items: Vec<String> = items.map(|(k, v)| format!("{}: {}", string(k), value(&v))).collect();
    format!("{{{}}}", items.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn prints_as_python_does() {
        // Each right side is what Python 3.11 prints for repr() of the left.
        for (x, repr) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (1e16, "1e+16"),
            (123456789012345.6, "123456789012345.6"),
            (-2.5e300, "-2.5e+300"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(super::float(x), repr);
        }
        let params = [("x", json!(0.5)), ("c", json!("it's")), ("b", json!(true)), ("n", json!(null))];
        let dict = super::dict(params.into_iter());
        assert_eq!(dict, r#"{'x': 0.5, 'c': "it's", 'b': True, 'n': None}"#);
    }
}
