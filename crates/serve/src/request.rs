//! Bodies of requests, read within limits.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use hyper::{StatusCode, header};
use tokio::time::{Instant, timeout_at};

use crate::reply::Refusal;

/// The value of a header, empty where it is missing or no text.
pub(crate) fn header(parts: &Parts, name: header::HeaderName) -> &str {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The whole body, of at most `limit` bytes, by the deadline.
pub(crate) async fn body(incoming: &mut Incoming, limit: usize, deadline: Instant) -> Result<Bytes, Refusal> {
    let too_large = |found: String| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large",
            format!("at most {limit} bytes"),
            found,
        )
    };
    let stated = incoming.size_hint().exact();
    if let Some(length) = stated.filter(|length| *length > limit as u64) {
        return Err(too_large(format!("{length} bytes")));
    }
    let mut bytes = Vec::with_capacity(stated.map_or(0, |length| length as usize));
    loop {
        let frame = timeout_at(deadline, incoming.frame()).await.map_err(|_| {
            Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the request took too long to arrive",
                "a body that arrives in time",
                format!("{} bytes until then", bytes.len()),
            )
        })?;
        match frame {
            None => return Ok(bytes.into()),
            Some(Err(error)) => {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "the body cannot be read",
                    "a whole body",
                    error.to_string(),
                ));
            }
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                if bytes.len() + data.len() > limit {
                    return Err(too_large("more".to_owned()));
                }
                bytes.extend_from_slice(&data);
            }
        }
    }
}

/// Reads what is left of a refused request's body, as far as `limit` bytes, so that a client that is still sending sees the answer.
pub(crate) async fn discard(parts: &Parts, incoming: &mut Incoming, limit: usize, deadline: Instant) {
    if parts.headers.contains_key(header::EXPECT) {
        return;
    }
    let mut n = 0;
    while n < limit {
        match timeout_at(deadline, incoming.frame()).await {
            Ok(Some(Ok(frame))) => n += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}

/// The value of a key of the query.
pub(crate) fn query(parts: &Parts, key: &str) -> Option<String> {
    let mut pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| decoded(value))
}

/// Text whose bytes may be written as `%20`.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte =
            digits.filter(|digits| !digits.starts_with('+')).and_then(|d| u8::from_str_radix(d, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn percents_are_bytes() {
        for (text, plain) in
            [("a%20b", "a b"), ("%C3%A9%2f", "é/"), ("100%", "100%"), ("%zz%+1", "%zz%+1"), ("", "")]
        {
            assert_eq!(decoded(text), plain);
        }
    }
}
