//! Files that lie elsewhere than on the hub, by the same downloads.

use std::fs::File;
use std::path::Path;

use super::cache::create_parent;
use super::download::{Expected, download};
use super::http::Http;
use super::{HubConfig, HubError};

/// A file of the web whose content is known beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFile<'a> {
    /// Its address.
    pub url: &'a str,
    /// Its length in bytes.
    pub size: u64,
    /// The hash of its content, in hexadecimal.
    pub sha256: &'a str,
}

impl WebFile<'_> {
    /// Fetches the file to `path`, unless it is there. Of `config` the proxy, the time-outs and the retries count; its
    /// token is sent to nobody.
    ///
    /// A download goes on where an earlier one stopped (`path` with `.incomplete` at its end), and gets its final name
    /// only when it is whole and its hash right. `progress` is told the bytes here and the bytes in all.
    ///
    /// # Errors
    /// [`HubError::Checksum`] for other bytes than `sha256` says; any other [`HubError`] for what the network and the
    /// disk do.
    pub fn fetch(
        &self,
        config: &HubConfig,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        create_parent(path)?;
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".lock");
        let lock_path = path.with_file_name(name);
        let lock = File::create(&lock_path).map_err(HubError::io("open", &lock_path))?;
        lock.lock().map_err(HubError::io("lock", &lock_path))?;
        if path.is_file() {
            return Ok(());
        }
        let config = HubConfig { token: None, ..config.clone() };
        let http = Http::new(&config)?;
        let expected = Expected { size: Some(self.size), sha256: Some(self.sha256.to_owned()) };
        download(&http, &config, self.url, &expected, path, &mut |received, _| progress(received, self.size))
    }
}
