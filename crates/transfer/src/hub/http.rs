//! Requests to the hub: redirects followed by hand, so that the token stays with the hub's own host and the headers of
//! every hop are seen.

use std::time::Duration;

use ureq::Body;
use ureq::http::header::{HeaderMap, LOCATION, RETRY_AFTER};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::TlsConfig;

use super::{HubConfig, HubError};

const MAX_REDIRECTS: usize = 10;
/// The longest silence after a document or a file was sent.
const SLOW: Duration = Duration::from_secs(120);

/// A request that did not bring what was asked for.
pub(super) enum Failure {
    /// Asking again would change nothing.
    Final(HubError),
    /// Asking again may help, perhaps after the wait that the hub asks for.
    Passing { error: HubError, wait: Option<Duration> },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Headers alone. Redirects are followed only until the file's commit and hash are known, since addresses that are
    /// signed for GET refuse HEAD.
    Head,
    /// The bytes from this place on.
    Get { from: u64 },
}

/// The last answer, with what the hops before it said about the file.
pub(super) struct Reply {
    pub(super) response: Response<Body>,
    pub(super) commit: Option<String>,
    pub(super) linked_etag: Option<String>,
    pub(super) linked_size: Option<u64>,
}

pub(super) struct Http {
    agent: ureq::Agent,
    endpoint: Uri,
    token: Option<String>,
    /// The proxy without its password.
    proxy: Option<String>,
}

impl Http {
    pub(super) fn new(config: &HubConfig) -> Result<Self, HubError> {
        let endpoint: Uri =
            config.endpoint.parse().ok().filter(|uri: &Uri| uri.host().is_some()).ok_or(HubError::Name {
                what: "endpoint",
                found: config.endpoint.clone(),
                rule: "an address such as https://huggingface.co",
            })?;
        let proxy = match &config.proxy {
            None => None,
            Some(proxy) => Some(ureq::Proxy::new(proxy).map_err(|_| HubError::Name {
                what: "proxy",
                found: proxy.clone(),
                rule: "an address such as http://proxy:3128",
            })?),
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("firstsight/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(config.authorities.roots()).build())
            .timeout_resolve(Some(config.timeout))
            .timeout_connect(Some(config.timeout))
            .timeout_recv_response(Some(config.timeout))
            .timeout_per_read(Some(config.timeout))
            .build()
            .into();
        let proxy = config.proxy.as_deref().map(|proxy| match proxy.rsplit_once('@') {
            Some((_, host)) => host.to_owned(),
            None => proxy.to_owned(),
        });
        Ok(Self { agent, endpoint, token: config.token.clone(), proxy })
    }

    pub(super) fn send(&self, method: Method, url: &str) -> Result<Reply, Failure> {
        let not_a_hub = |reason: String| Failure::Final(HubError::NotAHub { url: url.to_owned(), reason });
        let mut uri: Uri = url.parse().map_err(|e| not_a_hub(format!("{e}")))?;
        let (mut commit, mut linked_etag, mut linked_size) = (None, None, None);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.ask(method, &uri).map_err(|e| self.unreachable(&uri, &e))?;
            let headers = response.headers();
            commit = commit.or_else(|| text(headers, "x-repo-commit"));
            linked_etag = linked_etag.or_else(|| text(headers, "x-linked-etag"));
            linked_size = linked_size.or_else(|| text(headers, "x-linked-size")?.parse().ok());
            let known = commit.is_some() && linked_etag.is_some();
            if !response.status().is_redirection() || (method == Method::Head && known) {
                let refused = !response.status().is_redirection() && !response.status().is_success();
                return match refused {
                    true => Err(self.refusal(&uri, response)),
                    false => Ok(Reply { response, commit, linked_etag, linked_size }),
                };
            }
            let location = text(headers, LOCATION.as_str())
                .ok_or_else(|| not_a_hub("a redirect without address".into()))?;
            uri = join(&uri, &location)
                .ok_or_else(|| not_a_hub(format!("a redirect to '{location}', which is no address")))?;
        }
        Err(not_a_hub(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn ask(&self, method: Method, uri: &Uri) -> Result<Response<Body>, ureq::Error> {
        let mut request = match method {
            Method::Head => self.agent.head(uri),
            Method::Get { .. } => self.agent.get(uri),
        };
        // Compressed bytes would have another length and hash than the file.
        request = request.header("Accept-Encoding", "identity");
        if let Method::Get { from } = method
            && from > 0
        {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some((name, value)) = self.bearer(uri) {
            request = request.header(name, value);
        }
        request.call()
    }

    /// Sends a document and returns the answer's body.
    pub(super) fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        kind: &str,
        accept: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let uri = parsed(url)?;
        let mut request = self.agent.post(&uri).header("Content-Type", kind).header("Accept", accept);
        for (name, value) in
            headers.iter().map(|(name, value)| (name.as_str(), value.clone())).chain(self.bearer(&uri))
        {
            request = request.header(name, value);
        }
        // A commit of large files takes the hub some time.
        let request = request.config().timeout_recv_response(Some(SLOW)).build();
        let mut response = self.sent(&uri, request.send(body))?;
        let read = response.body_mut().with_config().limit(1 << 26).read_to_vec();
        read.map_err(|e| self.unreachable(&uri, &e))
    }

    /// Sends the bytes of a file to an address that is signed for it, and returns the ETag that they have there.
    pub(super) fn put(
        &self,
        url: &str,
        headers: &[(String, String)],
        length: u64,
        body: &mut dyn std::io::Read,
    ) -> Result<Option<String>, Failure> {
        let uri = parsed(url)?;
        let mut request = self.agent.put(&uri).header("Content-Length", length);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.config().timeout_recv_response(Some(SLOW)).build();
        let response = self.sent(&uri, request.send(ureq::SendBody::from_reader(&mut { body })))?;
        Ok(text(response.headers(), "etag"))
    }

    fn sent(&self, uri: &Uri, sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let response = sent.map_err(|e| self.unreachable(uri, &e))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(uri, response)) }
    }

    /// The token, for the hub alone.
    fn bearer(&self, uri: &Uri) -> Option<(&'static str, String)> {
        let is_hub = uri.authority() == self.endpoint.authority() && uri.scheme() == self.endpoint.scheme();
        let token = self.token.as_ref().filter(|_| is_hub)?;
        Some(("Authorization", format!("Bearer {token}")))
    }

    fn unreachable(&self, uri: &Uri, error: &ureq::Error) -> Failure {
        let (url, said) = (shown(uri), error.to_string());
        if let Some((_, reason)) = said.split_once("invalid peer certificate: ") {
            return Failure::Final(HubError::Certificate { url, reason: reason.to_owned() });
        }
        let reason = match &self.proxy {
            Some(proxy) if said.contains("407") => format!(
                "the proxy {proxy} wants a name and a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT ({said})"
            ),
            Some(proxy) => format!("{said}, by way of the proxy {proxy}"),
            None => format!("{said}; where a proxy leads to the internet, HTTPS_PROXY names it"),
        };
        Failure::Passing { error: HubError::Unreachable { url, reason }, wait: None }
    }

    fn refusal(&self, uri: &Uri, mut response: Response<Body>) -> Failure {
        let url = shown(uri);
        let status = response.status();
        let headers = response.headers();
        let code = text(headers, "x-error-code").unwrap_or_default();
        let wait = text(headers, RETRY_AFTER.as_str()).and_then(|s| s.trim().parse().ok());
        let wait = wait.map(Duration::from_secs);
        let said = text(headers, "x-error-message").or_else(|| short_body(&mut response));
        let message = said.map(|said| format!(": {said}")).unwrap_or_default();
        let with_token = self.token.is_some();
        let error = match (status, code.as_str()) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                HubError::Forbidden { url, status: status.as_u16(), with_token, message }
            }
            (StatusCode::NOT_FOUND, "RepoNotFound") => {
                HubError::NotFound { what: "repository", url, message }
            }
            (StatusCode::NOT_FOUND, "RevisionNotFound") => {
                HubError::NotFound { what: "revision", url, message }
            }
            (StatusCode::NOT_FOUND, "EntryNotFound") => HubError::NotFound { what: "file", url, message },
            (StatusCode::NOT_FOUND, _) => HubError::NotFound { what: "repository or file", url, message },
            (StatusCode::TOO_MANY_REQUESTS, _) => {
                let asked = wait.unwrap_or_default();
                return Failure::Passing { error: HubError::TooManyRequests { url, wait: asked }, wait };
            }
            (StatusCode::REQUEST_TIMEOUT, _) => {
                return Failure::Passing {
                    error: HubError::Status { url, status: status.as_u16(), message },
                    wait,
                };
            }
            _ if status.is_server_error() => {
                return Failure::Passing {
                    error: HubError::Status { url, status: status.as_u16(), message },
                    wait,
                };
            }
            _ => HubError::Status { url, status: status.as_u16(), message },
        };
        Failure::Final(error)
    }
}

fn parsed(url: &str) -> Result<Uri, Failure> {
    let not_a_hub = |reason: String| HubError::NotAHub { url: url.to_owned(), reason };
    url.parse().map_err(|e: ureq::http::uri::InvalidUri| Failure::Final(not_a_hub(e.to_string())))
}

pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The address without its query, which may hold a signature.
fn shown(uri: &Uri) -> String {
    let text = uri.to_string();
    text.split('?').next().unwrap_or_default().to_owned()
}

/// The first line of a refusal, if it is short and no page.
fn short_body(response: &mut Response<Body>) -> Option<String> {
    let body = response.body_mut().with_config().limit(2000).read_to_string().ok()?;
    let line = body.lines().next()?.trim();
    (!line.is_empty() && line.len() <= 300 && !line.starts_with('<')).then(|| line.to_owned())
}

/// The address that `location` is, seen from `base` (RFC 3986, section 5, without `..`).
fn join(base: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return location.parse().ok();
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let path = match location.strip_prefix('/') {
        Some(path) if path.starts_with('/') => return format!("{scheme}:{location}").parse().ok(),
        Some(path) => format!("/{path}"),
        None => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        }
    };
    format!("{scheme}://{authority}{path}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_quoted_where_it_is_a_short_line() {
        let said = |text: &str| short_body(&mut Response::new(Body::builder().data(text)));
        assert_eq!(said(" no such file \nmore").unwrap(), "no such file");
        for text in ["", "\nmore", "<!doctype html>", &"a".repeat(301)] {
            assert_eq!(said(text), None, "{text}");
        }
        assert_eq!(said(&"a".repeat(300)).unwrap().len(), 300);
    }

    #[test]
    fn addresses_are_joined_as_browsers_do() {
        let base: Uri = "https://hub.test/a/b/resolve/main/f".parse().unwrap();
        for (location, expected) in [
            ("https://cdn.test/x?sig=1", "https://cdn.test/x?sig=1"),
            ("/api/f", "https://hub.test/api/f"),
            ("//cdn.test/y", "https://cdn.test/y"),
            ("g", "https://hub.test/a/b/resolve/main/g"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), expected);
        }
    }
}
