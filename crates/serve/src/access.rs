//! Who may ask: names of this host, origins and tokens.

use std::net::IpAddr;

use hyper::{HeaderMap, StatusCode, Uri, header};

use crate::reply::Refusal;

/// Who may ask.
#[derive(Debug)]
pub(crate) struct Access {
    /// Names besides IP addresses by which browsers may call this host.
    pub(crate) names: Vec<String>,
    /// Whether only this machine can reach it.
    pub(crate) is_loopback: bool,
    pub(crate) token: Option<String>,
}

impl Access {
    /// Refuses requests that a page of another site makes in a browser. A name of another site that resolves to this machine (DNS
    /// rebinding) is no name of this host; a page of another site says its own origin.
    pub(crate) fn check_site(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = uri.authority().map(|authority| authority.as_str()).or(text(header::HOST)).unwrap_or("");
        if !self.is_ours(name_of(host)) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "the request is for another host",
                format!("the header Host with an IP address or one of {}", self.names.join(", ")),
                shown(host),
            ));
        }
        let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
        let is_same =
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        if is_same {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "a page of another origin makes the request",
            format!("the origin http://{host}"),
            shown(origin),
        ))
    }

    /// An address cannot be rebound, but on loopback another machine's is no name of this one.
    fn is_ours(&self, name: &str) -> bool {
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => !self.is_loopback || address.is_loopback(),
            Err(_) => self.names.iter().any(|known| known.eq_ignore_ascii_case(name)),
        }
    }

    /// Refuses requests without the token, where one is needed.
    pub(crate) fn check_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
        match given {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
                if is_equal(given, token.as_bytes()) { Ok(()) } else { Err(unauthorized("another token")) }
            }
            Some(_) => Err(unauthorized("another scheme")),
            None => Err(unauthorized("none")),
        }
    }
}

fn unauthorized(found: &str) -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "a token is needed",
        "the header Authorization: Bearer TOKEN",
        found,
    )
}

/// Whether two texts are equal, in a time that tells nothing of where they differ.
fn is_equal(given: &[u8], token: &[u8]) -> bool {
    let differing = (0..token.len()).fold(given.len() ^ token.len(), |differing, i| {
        differing | usize::from(given.get(i).copied().unwrap_or(0) ^ token[i])
    });
    std::hint::black_box(differing) == 0
}

/// The host without its port.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => authority,
    }
}

/// A header's value, cut where it is long.
fn shown(value: &str) -> String {
    value.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(is_loopback: bool) -> Access {
        let names = ["localhost", "photos.example"].map(str::to_owned).to_vec();
        Access { names, is_loopback, token: Some("abc".to_owned()) }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_names_of_this_host_are_taken() {
        let asks = |access: &Access, host| {
            access.check_site(&Uri::from_static("/"), &headers(&[("host", host)])).is_ok()
        };
        for host in [
            "photos.example",
            "localhost",
            "LocalHost:8000",
            "127.0.0.1:1",
            "127.0.0.9",
            "[::1]:8000",
            "[::1]",
        ] {
            assert!(asks(&access(true), host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8000", "192.168.0.1", "", ":8000", "localhost:x"]
        {
            assert!(!asks(&access(true), host), "{host}");
        }
        assert!(asks(&access(false), "192.168.0.1:8000") && !asks(&access(false), "evil.example"));
        assert!(access(true).check_site(&Uri::from_static("/"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn only_our_own_pages_ask() {
        let asks = |host, origin| {
            let headers = headers(&[("host", host), ("origin", origin)]);
            access(true).check_site(&Uri::from_static("/"), &headers).is_ok()
        };
        assert!(asks("localhost:8000", "http://localhost:8000"));
        // A proxy with TLS that passes its own name on.
        assert!(asks("photos.example", "https://photos.example"));
        for origin in ["http://localhost:8001", "http://127.0.0.1:8000", "null", "http://evil.example", ""] {
            assert!(!asks("localhost:8000", origin), "{origin}");
        }
    }

    #[test]
    fn a_token_is_compared_whole() {
        let asks = |value| access(false).check_token(&headers(&[("authorization", value)])).is_ok();
        assert!(asks("Bearer abc") && asks("bearer abc"));
        for value in ["Bearer ab", "Bearer abcd", "Bearer ", "Bearer", "Basic abc", "abc", "Bearer abC"] {
            assert!(!asks(value), "{value}");
        }
        assert!(access(false).check_token(&HeaderMap::new()).is_err());
    }
}
