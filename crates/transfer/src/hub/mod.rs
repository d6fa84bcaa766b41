//! Files of the Hugging Face hub, through the cache that Python's `huggingface_hub` keeps.
//!
//! A file lies under `blobs/` by its hash; `snapshots/COMMIT/FILE` is a symbolic link to it, and `refs/REVISION` holds
//! the commit that a branch or tag stood for. A partial file lies next to the blobs as `.incomplete` and is resumed.

mod authorities;
mod cache;
mod download;
mod error;
mod http;
mod push;
mod web;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Repo, RepoType};

pub use self::authorities::Authorities;
use self::cache::CachedRepo;
use self::download::{Expected, download};
pub use self::error::HubError;
use self::http::{Failure, Http, Method, Reply, text};
pub use self::push::{HubCommit, HubContent, HubPush, HubUpload};
pub use self::web::WebFile;

/// Connection settings and cache folder of the Hub. Nothing is read from the environment: the caller does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// The hub or a mirror of it: `https://huggingface.co`.
    pub endpoint: String,
    /// The cache, shared with Python: `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// For gated and private repositories. It is sent to the endpoint's host alone.
    pub token: Option<String>,
    /// Use the cache and never the network.
    pub offline: bool,
    /// An HTTP or SOCKS proxy.
    pub proxy: Option<String>,
    /// Who may vouch for the hub.
    pub authorities: Authorities,
    /// The longest silence, while connecting and between bytes.
    pub timeout: Duration,
    /// The fewest bytes a second, over any `timeout` long, that count as a living connection.
    pub slowest: u64,
    /// Tries in a row, beyond the first, that may bring less than a mebibyte.
    pub retries: u32,
    /// The longest wait between tries; a hub that asks for more gets an error.
    pub longest_wait: Duration,
}

impl HubConfig {
    /// The public hub without a token, with time-outs for ordinary lines and Mozilla's list of authorities.
    pub fn new(cache: PathBuf) -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            cache,
            token: None,
            offline: false,
            proxy: None,
            authorities: Authorities::mozilla(),
            timeout: Duration::from_secs(15),
            slowest: 1000,
            retries: 4,
            longest_wait: Duration::from_secs(120),
        }
    }
}

/// A file of a model repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    /// A branch, tag or commit.
    pub revision: &'a str,
    /// The path in the repository.
    pub file: &'a str,
    /// The hash that the content must have, in hexadecimal, where it is known beforehand.
    pub sha256: Option<&'a str>,
}

/// Progress of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubProgress<'a> {
    /// The file's path in the repository.
    pub file: &'a str,
    /// Bytes that are here, those of earlier tries included.
    pub received: u64,
    /// Bytes in all, where the hub says.
    pub total: Option<u64>,
}

/// A client of the hub.
///
/// ```no_run
/// use firstsight_transfer::{Hub, HubConfig, HubFile};
///
/// let hub = Hub::new(HubConfig::new("/home/me/.cache/huggingface/hub".into()))?;
/// let file = HubFile {
///     repository: "timm/mobilenetv2_100.ra_in1k",
///     revision: "main",
///     file: "model.safetensors",
///     sha256: None,
/// };
/// let path = hub.fetch(&file, &mut |progress| eprintln!("{} bytes", progress.received))?;
/// # Ok::<(), firstsight_transfer::HubError>(())
/// ```
pub struct Hub {
    config: HubConfig,
    http: Http,
}

impl Hub {
    /// A client; nothing is asked of the network yet.
    ///
    /// # Errors
    /// [`HubError::Name`] for an endpoint or proxy that is no address.
    pub fn new(config: HubConfig) -> Result<Self, HubError> {
        let http = Http::new(&config)?;
        Ok(Self { config, http })
    }

    /// The settings.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// Where the file lies in the cache, if it does. The network is not asked.
    ///
    /// # Errors
    /// [`HubError::Name`].
    pub fn cached(&self, file: &HubFile<'_>) -> Result<Option<PathBuf>, HubError> {
        check(file)?;
        Ok(self.repo(file).cached(file.revision, file.file))
    }

    /// Where the file lies in the cache, after it was fetched if it did not.
    ///
    /// A cached file is used without asking the network whether the branch has moved on. A download resumes where an
    /// earlier one stopped, waits as long as the hub asks, and gets its final name only when it is whole and its hash
    /// right. `progress` is called at every piece.
    ///
    /// # Errors
    /// Every kind of [`HubError`].
    pub fn fetch(
        &self,
        file: &HubFile<'_>,
        progress: &mut dyn FnMut(HubProgress<'_>),
    ) -> Result<PathBuf, HubError> {
        if let Some(path) = self.cached(file)? {
            return Ok(path);
        }
        if self.config.offline {
            return Err(HubError::Offline {
                repository: file.repository.to_owned(),
                file: file.file.to_owned(),
                cache: self.config.cache.clone(),
            });
        }
        let url = self.url(file);
        let found = self.look_up(file, &url)?;
        let repo = self.repo(file);
        let blob = repo.blob(&found.etag);
        let _lock = repo.lock(&found.etag, self.config.longest_wait)?;
        if !blob.is_file() {
            let sha256 = file.sha256.map(str::to_owned).or(found.sha256());
            let expected = Expected { size: found.size, sha256 };
            download(&self.http, &self.config, &url, &expected, &blob, &mut |received, total| {
                progress(HubProgress { file: file.file, received, total });
            })?;
        }
        repo.publish(&blob, file.revision, &found.commit, file.file)
    }

    fn repo(&self, file: &HubFile<'_>) -> CachedRepo {
        CachedRepo::new(&self.config.cache, hub_repo(file))
    }

    fn url(&self, file: &HubFile<'_>) -> String {
        let repo = hub_repo(file);
        let endpoint = self.config.endpoint.trim_end_matches('/');
        format!("{endpoint}/{}/resolve/{}/{}", repo.url(), repo.url_revision(), percent_encoded(file.file))
    }

    /// Asks which commit, hash and size the file has.
    fn look_up(&self, file: &HubFile<'_>, url: &str) -> Result<Found, HubError> {
        let reply = self.config.persistently(&mut || self.http.send(Method::Head, url))?;
        let Reply { response, commit, linked_etag, linked_size } = reply;
        let headers = response.headers();
        let not_a_hub = |reason: &str| HubError::NotAHub { url: url.to_owned(), reason: reason.to_owned() };
        let commit = commit
            .or_else(|| is_commit(file.revision).then(|| file.revision.to_owned()))
            .filter(|commit| is_commit(commit))
            .ok_or_else(|| not_a_hub("no sound X-Repo-Commit header"))?;
        let size = linked_size.or_else(|| match response.status().is_success() {
            true => text(headers, "content-length")?.parse().ok(),
            false => None,
        });
        let etag =
            linked_etag.or_else(|| text(headers, "etag")).ok_or_else(|| not_a_hub("no ETag header"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let sound = !etag.is_empty() && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !sound {
            return Err(not_a_hub("a malformed ETag header"));
        }
        let found = Found { commit, etag, size };
        match (file.sha256, found.sha256()) {
            (Some(expected), Some(found)) if !expected.eq_ignore_ascii_case(&found) => {
                Err(HubError::Checksum { url: url.to_owned(), expected: expected.to_owned(), found })
            }
            _ => Ok(found),
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HubConfig { endpoint, cache, offline, .. } = &self.config;
        f.debug_struct("Hub")
            .field("endpoint", endpoint)
            .field("cache", cache)
            .field("offline", offline)
            .finish_non_exhaustive()
    }
}

impl HubConfig {
    /// Asks again after failures that pass. Where nobody answers, once more only: without a network the user should
    /// not wait long to hear so.
    fn persistently<T>(&self, ask: &mut dyn FnMut() -> Result<T, Failure>) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing { error, wait }) => {
                    let unreachable = matches!(error, HubError::Unreachable { .. });
                    let allowed = if unreachable { self.retries.min(1) } else { self.retries };
                    if failures >= allowed {
                        return Err(error);
                    }
                    self.pause(failures, wait, error)?;
                    failures += 1;
                }
            }
        }
    }

    /// Waits as long as the hub asks, or else 1, 2, 4, … seconds.
    fn pause(&self, failures: u32, asked: Option<Duration>, error: HubError) -> Result<(), HubError> {
        let wait = asked.unwrap_or(Duration::from_secs(1 << failures.min(6)));
        if asked.is_some_and(|asked| asked > self.longest_wait) {
            return Err(error);
        }
        tracing::info!(%error, seconds = wait.as_secs(), "trying again");
        std::thread::sleep(wait.min(self.longest_wait));
        Ok(())
    }
}

/// The Hub's description of a file.
struct Found {
    commit: String,
    etag: String,
    size: Option<u64>,
}

impl Found {
    /// The etag of a large file is its sha256, that of a small one its git hash.
    fn sha256(&self) -> Option<String> {
        let is_sha256 = self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit());
        is_sha256.then(|| self.etag.clone())
    }
}

/// The commit of a file's path in the cache, which [`Hub::fetch`] gave.
pub(crate) fn commit_of<'a>(path: &'a Path, file: &str) -> Option<&'a str> {
    path.ancestors().nth(file.split('/').count())?.file_name()?.to_str().filter(|name| is_commit(name))
}

fn hub_repo(file: &HubFile<'_>) -> Repo {
    Repo::with_revision(file.repository.to_owned(), RepoType::Model, file.revision.to_owned())
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Names become parts of addresses and of paths in the cache: nothing may climb out of either.
fn check(file: &HubFile<'_>) -> Result<(), HubError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part =
        |s: &str| !s.is_empty() && s.chars().all(plain) && !s.contains("..") && !s.starts_with(['.', '-']);
    if !is_repository(file.repository) {
        let found = file.repository.to_owned();
        return Err(HubError::Name {
            what: "repository",
            found,
            rule: "owner/name, of letters, digits, '-', '_' and '.'",
        });
    }
    if !file.revision.split('/').all(part) {
        let found = file.revision.to_owned();
        return Err(HubError::Name { what: "revision", found, rule: "a branch, tag or commit" });
    }
    let component = |s: &str| !s.is_empty() && s != "." && s != ".." && !s.contains(['\\', '\0', ':']);
    if !file.file.split('/').all(component) {
        let found = file.file.to_owned();
        return Err(HubError::Name { what: "file", found, rule: "a path within the repository" });
    }
    Ok(())
}

/// Whether `text` may be a repository's name, `owner/name`.
pub fn is_repository(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part = |s: &str| {
        let ends = |c: &str| s.starts_with(c) || s.ends_with(c);
        !s.is_empty()
            && s.len() <= 96
            && s.chars().all(plain)
            && !s.contains("..")
            && !s.contains("--")
            && !ends(".")
    };
    let parts: Vec<&str> = text.split('/').collect();
    parts.len() == 2 && parts.iter().all(|s| part(s))
}

fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(byte as char)
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::is_commit;

    #[test]
    fn a_commit_is_forty_digits_of_sixteen() {
        let commit = "0123456789abcdefABCDEF0123456789abcdef01";
        assert!(is_commit(commit));
        assert!(!is_commit("cafe") && !is_commit(&commit[1..]) && !is_commit(&commit.replace('a', "g")));
    }
}
