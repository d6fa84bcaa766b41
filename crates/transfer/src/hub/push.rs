//! Files to the hub, by its HTTP interface: small ones in the commit itself, large ones by the protocol of Git LFS. It is
//! what `huggingface_hub` does in `create_repo` and `create_commit`.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Hub, HubError, HubProgress, is_repository};

/// A file for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubUpload {
    /// The path in the repository.
    pub path: String,
    /// The file's content.
    pub content: HubContent,
}

/// Content of a [`HubUpload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubContent {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Those of a file, which must not change.
    File(PathBuf),
}

/// Files that become one commit of a model's repository, which is created where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPush<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    /// Whether a repository that is created is private.
    pub private: bool,
    /// The files. Others that the repository has stay.
    pub files: &'a [HubUpload],
    /// The commit's message.
    pub message: &'a str,
}

/// What a push has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubCommit {
    /// The address of the repository.
    pub url: String,
    /// The commit, in hexadecimal.
    pub commit: String,
    /// Bytes that were sent of large files. Those that the hub had already are not sent again.
    pub sent: u64,
}

const BRANCH: &str = "main";
/// Bytes of a file by which the hub decides where it belongs.
const SAMPLE: usize = 512;
const JSON: &str = "application/json";
const LFS_JSON: &str = "application/vnd.git-lfs+json";

impl Hub {
    /// Writes files to a repository. Where it is interrupted, the same push goes on: large files that have arrived are not
    /// sent again, and nothing is seen in the repository before the commit at the end. `progress` is told the bytes of large
    /// files.
    ///
    /// # Errors
    ///
    /// [`HubError::Token`] without a token, [`HubError::Name`], [`HubError::Io`] for files that cannot be read; those of
    /// [`Hub::fetch`] for what the network does.
    pub fn push(
        &self,
        push: &HubPush<'_>,
        progress: &mut dyn FnMut(HubProgress<'_>),
    ) -> Result<HubCommit, HubError> {
        let Some((owner, name)) = push.repository.split_once('/').filter(|_| is_repository(push.repository))
        else {
            return Err(HubError::Name {
                what: "repository",
                found: push.repository.to_owned(),
                rule: "owner/name, of letters, digits, '-', '_' and '.'",
            });
        };
        if self.config.token.is_none() {
            return Err(HubError::Token { repository: push.repository.to_owned() });
        }
        if self.config.offline {
            return Err(HubError::PushOffline { repository: push.repository.to_owned() });
        }
        let files = push.files.iter().map(Content::open).collect::<Result<Vec<_>, _>>()?;
        let endpoint = self.config.endpoint.trim_end_matches('/');

        let create = json!({"type": "model", "organization": owner, "name": name, "private": push.private});
        self.create(&format!("{endpoint}/api/repos/create"), &create)?;

        let api = format!("{endpoint}/api/models/{}", push.repository);
        let samples: Vec<Value> = files.iter().map(Content::sample).collect();
        let url = format!("{api}/preupload/{BRANCH}");
        let modes: Preupload = self.post(&url, JSON, &json!({"files": samples}))?;

        let mut lines = vec![json!({"key": "header", "value": {"summary": push.message, "description": ""}})];
        let mut large = Vec::new();
        for file in &files {
            let mode = modes.files.iter().find(|mode| mode.path == file.path);
            match mode {
                Some(mode) if mode.should_ignore => {}
                Some(mode) if mode.upload_mode == "lfs" => {
                    large.push(file);
                    let value =
                        json!({"path": file.path, "algo": "sha256", "oid": file.sha256, "size": file.size});
                    lines.push(json!({"key": "lfsFile", "value": value}));
                }
                _ => {
                    let content = STANDARD.encode(file.bytes()?);
                    let value = json!({"path": file.path, "encoding": "base64", "content": content});
                    lines.push(json!({"key": "file", "value": value}));
                }
            }
        }
        let lfs = format!("{endpoint}/{}.git/info/lfs/objects/batch", push.repository);
        let sent = self.send_large(&lfs, &large, progress)?;

        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let url = format!("{api}/commit/{BRANCH}");
        let commit: Commit = self.post_bytes(&url, "application/x-ndjson", JSON, body.as_bytes())?;
        Ok(HubCommit { url: format!("{endpoint}/{}", push.repository), commit: commit.commit_oid, sent })
    }

    /// Creates a repository, if there is none.
    fn create(&self, url: &str, body: &Value) -> Result<(), HubError> {
        match self.post::<Value>(url, JSON, body) {
            Err(HubError::Status { status: 409, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn post<T: for<'de> Deserialize<'de>>(&self, url: &str, kind: &str, body: &Value) -> Result<T, HubError> {
        self.post_bytes(url, kind, kind, body.to_string().as_bytes())
    }

    fn post_bytes<T: for<'de> Deserialize<'de>>(
        &self,
        url: &str,
        kind: &str,
        accept: &str,
        body: &[u8],
    ) -> Result<T, HubError> {
        let answer = self.config.persistently(&mut || self.http.post(url, &[], kind, accept, body))?;
        serde_json::from_slice(&answer)
            .map_err(|e| HubError::NotAHub { url: url.to_owned(), reason: format!("its JSON: {e}") })
    }

    /// Sends those of the files that the hub lacks, and returns the number of bytes.
    fn send_large(
        &self,
        url: &str,
        files: &[&Content<'_>],
        progress: &mut dyn FnMut(HubProgress<'_>),
    ) -> Result<u64, HubError> {
        if files.is_empty() {
            return Ok(0);
        }
        let objects: Vec<Value> =
            files.iter().map(|file| json!({"oid": file.sha256, "size": file.size})).collect();
        let asked = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "objects": objects,
            "hash_algo": "sha256", "ref": {"name": BRANCH},
        });
        let batch: Batch = self.post(url, LFS_JSON, &asked)?;
        let mut sent = 0;
        for object in &batch.objects {
            let Some(file) = files.iter().find(|file| file.sha256 == object.oid) else { continue };
            if let Some(error) = &object.error {
                let (status, message) = (error.code, format!(": {}", error.message));
                return Err(HubError::Status { url: url.to_owned(), status, message });
            }
            // Without actions, the hub has it.
            let Some(Actions { upload, verify }) = &object.actions else { continue };
            self.upload(file, upload, progress)?;
            sent += file.size;
            if let Some(verify) = verify {
                let body = json!({"oid": file.sha256, "size": file.size}).to_string();
                let headers = verify.headers();
                let verify =
                    &mut || self.http.post(&verify.href, &headers, LFS_JSON, LFS_JSON, body.as_bytes());
                self.config.persistently(verify)?;
            }
        }
        Ok(sent)
    }

    fn upload(
        &self,
        file: &Content<'_>,
        action: &Action,
        progress: &mut dyn FnMut(HubProgress<'_>),
    ) -> Result<(), HubError> {
        let (name, total) = (file.path, Some(file.size));
        let Some(chunk) = action.chunk_size() else {
            let headers = action.headers();
            let mut report = |received| progress(HubProgress { file: name, received, total });
            let put = &mut || file.put(self, &action.href, &headers, 0..file.size, &mut report);
            return self.config.persistently(put).map(drop);
        };
        let mut parts = Vec::new();
        for (number, from) in (1u32..).zip((0..file.size).step_by(chunk as usize)) {
            let reason = || format!("no address for part {number} of {name}");
            let part = action.part(number);
            let part =
                part.ok_or_else(|| HubError::NotAHub { url: action.href.clone(), reason: reason() })?;
            let range = from..file.size.min(from + chunk);
            let mut report =
                |received| progress(HubProgress { file: name, received: from + received, total });
            let put = &mut || file.put(self, part, &[], range.clone(), &mut report);
            let etag = self.config.persistently(put)?;
            parts.push(json!({"partNumber": number, "etag": etag.unwrap_or_default()}));
        }
        let body = json!({"oid": file.sha256, "parts": parts}).to_string();
        let whole = &mut || self.http.post(&action.href, &[], LFS_JSON, LFS_JSON, body.as_bytes());
        self.config.persistently(whole).map(drop)
    }
}

/// A file with its hash.
struct Content<'a> {
    path: &'a str,
    content: &'a HubContent,
    size: u64,
    sha256: String,
    start: Vec<u8>,
}

impl<'a> Content<'a> {
    fn open(file: &'a HubUpload) -> Result<Self, HubError> {
        let mut hash = Sha256::new();
        let (mut size, mut start) = (0, Vec::new());
        let mut add = |bytes: &[u8]| {
            start.extend(bytes.iter().take(SAMPLE - start.len().min(SAMPLE)));
            hash.update(bytes);
            size += bytes.len() as u64;
        };
        match &file.content {
            HubContent::Bytes(bytes) => add(bytes),
            HubContent::File(path) => {
                let mut reader = File::open(path).map_err(HubError::io("read", path))?;
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match reader.read(&mut buffer).map_err(HubError::io("read", path))? {
                        0 => break,
                        n => add(&buffer[..n]),
                    }
                }
            }
        }
        let sha256 = format!("{:x}", hash.finalize());
        Ok(Self { path: &file.path, content: &file.content, size, sha256, start })
    }

    fn sample(&self) -> Value {
        json!({"path": self.path, "sample": STANDARD.encode(&self.start), "size": self.size})
    }

    fn bytes(&self) -> Result<Vec<u8>, HubError> {
        match self.content {
            HubContent::Bytes(bytes) => Ok(bytes.clone()),
            HubContent::File(path) => std::fs::read(path).map_err(HubError::io("read", path)),
        }
    }

    /// Sends these bytes, and returns the ETag that the storage gives them.
    fn put(
        &self,
        hub: &Hub,
        url: &str,
        headers: &[(String, String)],
        range: std::ops::Range<u64>,
        report: &mut dyn FnMut(u64),
    ) -> Result<Option<String>, super::Failure> {
        let length = range.end - range.start;
        match self.content {
            HubContent::Bytes(bytes) => {
                let part = &bytes[range.start as usize..range.end as usize];
                hub.http.put(url, headers, length, &mut Counted { reader: part, n: 0, report })
            }
            HubContent::File(path) => {
                let opened = File::open(path).and_then(|mut file| {
                    file.seek(SeekFrom::Start(range.start))?;
                    Ok(file)
                });
                let unread = |error| super::Failure::Final(HubError::io("read", path)(error));
                let file = opened.map_err(unread)?;
                hub.http.put(url, headers, length, &mut Counted { reader: file.take(length), n: 0, report })
            }
        }
    }
}

/// Tells how many bytes were read.
struct Counted<'a, R> {
    reader: R,
    n: u64,
    report: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.n += n as u64;
        (self.report)(self.n);
        Ok(n)
    }
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Commit {
    commit_oid: String,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u16,
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Action,
    verify: Option<Action>,
}

/// An address with headers. Where a file is sent in parts, these are the length of a part and the parts' addresses.
#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Map<String, Value>,
}

impl Action {
    fn headers(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.header.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
    }

    /// The address of a part, whose number the hub writes with zeros before it.
    fn part(&self, number: u32) -> Option<&str> {
        let mut parts = self.header.iter().filter(|(name, _)| name.parse() == Ok(number));
        parts.next()?.1.as_str()
    }

    fn chunk_size(&self) -> Option<u64> {
        let size = self.header.get("chunk_size")?;
        size.as_u64().or_else(|| size.as_str()?.parse().ok()).filter(|&size| size > 0)
    }
}
