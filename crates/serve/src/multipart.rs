//! Forms of several files (RFC 7578), whole in memory.

use memchr::memmem;

/// A part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// The name of its file, or else of its field.
    pub(crate) name: String,
    pub(crate) content: &'a [u8],
}

/// The boundary that a `Content-Type` states.
pub(crate) fn boundary(content_type: &str) -> Result<&str, String> {
    let found = parameter(content_type, "boundary").unwrap_or("");
    match found.len() {
        1..=70 => Ok(found),
        n => Err(format!("a boundary of {n} characters")),
    }
}

/// The parts of a form, or what is wrong with it.
pub(crate) fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, String> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = match body.strip_prefix(&delimiter.as_bytes()[2..]) {
        Some(rest) => rest,
        None => split(body, delimiter.as_bytes()).ok_or("no boundary")?.1,
    };
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        let line_end = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = rest[line_end..].strip_prefix(b"\r\n").ok_or("a boundary that does not end its line")?;
        // A part without headers begins with the empty line.
        let (headers, content) = match rest.strip_prefix(b"\r\n") {
            Some(content) => (&[][..], content),
            None => split(rest, b"\r\n\r\n").ok_or("a part whose headers do not end")?,
        };
        let headers = std::str::from_utf8(headers).map_err(|_| "headers that are not UTF-8")?;
        let (content, after) =
            split(content, delimiter.as_bytes()).ok_or("a part that does not end with the boundary")?;
        let name = name(headers).unwrap_or_else(|| format!("image {}", parts.len() + 1));
        parts.push(Part { name, content });
        rest = after;
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = memmem::find(bytes, at)?;
    Some((&bytes[..place], &bytes[place + at.len()..]))
}

fn name(headers: &str) -> Option<String> {
    let disposition = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let name = parameter(disposition, "filename").or_else(|| parameter(disposition, "name"))?;
    Some(file_name(name)).filter(|name| !name.is_empty())
}

/// The last part of a client's path, without what a terminal would obey.
pub(crate) fn file_name(path: &str) -> String {
    let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The value of a parameter such as `; name="value"`.
fn parameter<'a>(header: &'a str, wanted: &str) -> Option<&'a str> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(';').map_or((after, ""), |(value, rest)| (value.trim_end(), rest)),
        };
        if name.trim_matches([' ', ';', '\t']).eq_ignore_ascii_case(wanted) {
            return Some(value.trim_end());
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_its_files() {
        let body = b"preamble\r\n--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"C:\\a\\1.jpg\"\r\n\
            Content-Type: image/jpeg\r\n\r\n\xff\xd8\r\n--\r\n\r\n--x \r\ncontent-disposition: form-data; name=b\r\n\r\n\
            \r\n--x\r\n\r\nnameless\r\n--x--\r\n";
        let boundary = boundary("multipart/form-data; charset=utf-8; boundary=\"x\"").unwrap();
        let parts = parts(body, boundary).unwrap();
        let found: Vec<_> = parts.iter().map(|part| (part.name.as_str(), part.content)).collect();
        assert_eq!(found, [("1.jpg", &b"\xff\xd8\r\n--\r\n"[..]), ("b", b""), ("image 3", b"nameless")]);
    }

    #[test]
    fn what_is_no_form_is_said() {
        for (body, reason) in [
            (&b""[..], "no boundary"),
            (b"--x", "does not end its line"),
            (b"--x\r\nA: b", "headers do not end"),
            (b"--x\r\n\xff: b\r\n\r\n", "not UTF-8"),
            (b"--x\r\n\r\ncontent", "does not end with the boundary"),
            (b"--x\r\n\r\ncontent\r\n--xyz--", "does not end its line"),
        ] {
            let said = parts(body, "x").unwrap_err();
            assert!(said.contains(reason), "{body:?}: {said}");
        }
        assert_eq!(parts(b"--x--", "x"), Ok(Vec::new()));
        for header in
            ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"a"]
        {
            assert!(boundary(header).is_err(), "{header}");
        }
        assert!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(71))).is_err());
    }
}
