//! Downloads one blob with resumption, retries and hash verification.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use firstsight_data::files::Growing;
use sha2::{Digest as _, Sha256};
use ureq::http::StatusCode;

use super::cache::create_parent;
use super::http::{Failure, Http, Method, Reply, text};
use super::{HubConfig, HubError};

/// A try that brings less counts as one that brings nothing.
const PROGRESS: u64 = 1 << 20;

/// Expected content of a blob.
pub(super) struct Expected {
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<String>,
}

/// Fetches `url` to `blob`, by way of `blob.incomplete`. `progress` is told the bytes here and the bytes in all.
pub(super) fn download(
    http: &Http,
    config: &HubConfig,
    url: &str,
    expected: &Expected,
    blob: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), HubError> {
    let mut part = Part::open(blob)?;
    if expected.size.is_some_and(|size| part.len > size) {
        part.clear()?;
    }
    progress(part.len, expected.size);
    let mut failures = 0;
    while expected.size.is_none_or(|size| part.len < size) {
        let before = part.len;
        let Err(failure) = part.go_on(http, config, url, expected, progress) else { break };
        let (error, wait) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { error, wait } => (error, wait),
        };
        failures = if part.len >= before + PROGRESS { 0 } else { failures + 1 };
        if failures > config.retries {
            return Err(broken_off(error, url, part.len, expected.size, failures));
        }
        config.pause(failures.saturating_sub(1), wait, error)?;
    }
    part.finish(url, expected, blob)
}

fn broken_off(error: HubError, url: &str, received: u64, expected: Option<u64>, tries: u32) -> HubError {
    match error {
        HubError::Unreachable { reason, .. } => {
            HubError::BrokenOff { url: url.to_owned(), received, expected, tries, reason }
        }
        error => error,
    }
}

/// The beginning of a blob, with its hash so far.
struct Part {
    path: PathBuf,
    file: Growing,
    len: u64,
    hasher: Sha256,
}

impl Part {
    /// Bytes left by an earlier attempt, ours or Python's.
    fn open(blob: &Path) -> Result<Self, HubError> {
        let mut name = blob.file_name().unwrap_or_default().to_os_string();
        name.push(".incomplete");
        let path = blob.with_file_name(name);
        create_parent(&path)?;
        let mut file = Growing::open(&path).map_err(HubError::io("write", &path))?;
        let mut hasher = Sha256::new();
        let len = std::io::copy(&mut file, &mut hasher).map_err(HubError::io("read", &path))?;
        Ok(Self { path, file, len, hasher })
    }

    fn clear(&mut self) -> Result<(), HubError> {
        self.file.truncate(0).map_err(HubError::io("write", &self.path))?;
        (self.len, self.hasher) = (0, Sha256::new());
        Ok(())
    }

    /// One request for what is missing.
    fn go_on(
        &mut self,
        http: &Http,
        config: &HubConfig,
        url: &str,
        expected: &Expected,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), Failure> {
        let passing = |reason: String| {
            let url = url.to_owned();
            Failure::Passing { error: HubError::Unreachable { url, reason }, wait: None }
        };
        let reply = match http.send(Method::Get { from: self.len }, url) {
            // The part is longer than the file, or the server can't tell.
            Err(Failure::Final(HubError::Status { status: 416, .. })) if self.len > 0 => {
                self.clear().map_err(Failure::Final)?;
                http.send(Method::Get { from: 0 }, url)?
            }
            reply => reply?,
        };
        let Reply { mut response, .. } = reply;
        if self.len > 0 && !continues(&response, self.len) {
            self.clear().map_err(Failure::Final)?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return Err(passing("the server sent another range than was asked for".to_owned()));
            }
        }
        let declared = text(response.headers(), "content-length").and_then(|n| n.parse::<u64>().ok());
        let end = expected.size.or(declared.map(|n| n + self.len));
        let mut reader = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        let mut window = (Instant::now(), 0u64);
        loop {
            let n = reader.read(&mut buffer).map_err(|e| passing(e.to_string()))?;
            if n == 0 {
                break;
            }
            if let Err(source) = self.file.write_all(&buffer[..n]) {
                return Err(Failure::Final(HubError::io("write", &self.path)(source)));
            }
            self.hasher.update(&buffer[..n]);
            self.len += n as u64;
            progress(self.len, end);
            if end.is_some_and(|end| self.len > end) {
                self.clear().map_err(Failure::Final)?;
                return Err(passing("more bytes came than the file has".to_owned()));
            }
            window.1 += n as u64;
            let seconds = window.0.elapsed().as_secs_f64();
            if seconds >= config.timeout.as_secs_f64() {
                if (window.1 as f64) < config.slowest as f64 * seconds {
                    return Err(passing(format!("only {} bytes came in {seconds:.0} s", window.1)));
                }
                window = (Instant::now(), 0);
            }
        }
        match end {
            Some(end) if self.len < end => Err(passing("the connection was closed".to_owned())),
            _ => Ok(()),
        }
    }

    /// Checks the hash where it is known, syncs, and gives the blob its name. A part with the wrong hash is deleted.
    fn finish(self, url: &str, expected: &Expected, blob: &Path) -> Result<(), HubError> {
        let found = format!("{:x}", self.hasher.finalize());
        if let Some(expected) = &expected.sha256
            && !expected.eq_ignore_ascii_case(&found)
        {
            std::fs::remove_file(&self.path).map_err(HubError::io("delete", &self.path))?;
            return Err(HubError::Checksum { url: url.to_owned(), expected: expected.clone(), found });
        }
        self.file.finish(blob).map_err(HubError::io("write", blob))
    }
}

/// Whether an answer holds the bytes from `from` on.
fn continues(response: &ureq::http::Response<ureq::Body>, from: u64) -> bool {
    let range = text(response.headers(), "content-range").unwrap_or_default();
    let start = range.trim_start_matches("bytes").trim_start().split('-').next().map(str::to_owned);
    response.status() == StatusCode::PARTIAL_CONTENT && start.and_then(|s| s.parse().ok()) == Some(from)
}
