//! A hub in miniature on two local ports: the hub itself, and the storage that it sends large files' readers to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with the next answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection is closed after this many bytes of the body.
    CutAfter(usize),
    /// This status, with headers, instead of the file.
    Status(u16, Vec<(&'static str, String)>),
    /// Other bytes than the file's.
    Corrupt,
    /// The whole file, although a part was asked for.
    IgnoreRange,
    /// Nothing, for this long.
    Silence(Duration),
    /// One byte at a time, this far apart.
    Drip(Duration),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) storage: bool,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

/// By path in the repository: the bytes, and whether they lie in the storage.
type Files = BTreeMap<String, (Vec<u8>, bool)>;

#[derive(Default)]
struct State {
    commit: String,
    files: Files,
    /// The files of earlier commits.
    earlier: BTreeMap<String, Files>,
    /// For the next requests of bytes.
    faults: VecDeque<Fault>,
    /// For the next requests of headers.
    head_faults: VecDeque<Fault>,
    log: Vec<Request>,
    needs_token: Option<String>,
    is_no_hub: bool,
    storage: String,
    /// How long a file takes to come.
    takes: Duration,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let address = listen(&state, false);
        let storage = listen(&state, true);
        let server = Self { address, state };
        (server.state().storage, server.state().commit) = (storage, COMMIT.to_owned());
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The address of the storage.
    pub(crate) fn storage(&self) -> String {
        self.state().storage.clone()
    }

    /// A file of `owner/name`, in the repository itself or in the storage.
    pub(crate) fn add(&self, path: &str, bytes: &[u8], in_storage: bool) {
        self.state().files.insert(path.to_owned(), (bytes.to_vec(), in_storage));
    }

    /// Lets the branch move on to another commit, of the same files until others are added.
    #[allow(dead_code, reason = "for the hub's own tests")]
    pub(crate) fn move_on(&self, commit: &str) {
        let mut state = self.state();
        let (before, files) = (std::mem::replace(&mut state.commit, commit.to_owned()), state.files.clone());
        state.earlier.insert(before, files);
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    pub(crate) fn head_fault(&self, fault: Fault) {
        self.state().head_faults.push_back(fault);
    }

    pub(crate) fn require_token(&self, token: &str) {
        self.state().needs_token = Some(token.to_owned());
    }

    /// Lets each file take this long to come.
    #[allow(dead_code, reason = "commands are killed meanwhile")]
    pub(crate) fn slow(&self, takes: Duration) {
        self.state().takes = takes;
    }

    pub(crate) fn forget_hub_headers(&self) {
        self.state().is_no_hub = true;
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().log)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Stands for the git hash of a small file.
pub(crate) fn git_hash(bytes: &[u8]) -> String {
    sha256(bytes)[..40].to_owned()
}

fn listen(state: &Arc<Mutex<State>>, storage: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let state = state.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = state.clone();
            // A client may hang up in the middle.
            std::thread::spawn(move || {
                let _ = answer(&stream, &state, storage);
            });
        }
    });
    address
}

fn answer(stream: &TcpStream, state: &Mutex<State>, storage: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut request = Request { storage, method, path, range: None, token: None };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.token = Some(value.trim_start_matches("Bearer ").to_owned()),
            _ => {}
        }
    }
    let mut state = state.lock().unwrap();
    state.log.push(request.clone());
    if state.needs_token.is_some() && !storage && request.token != state.needs_token {
        let headers = [
            ("X-Error-Code", "GatedRepo".to_owned()),
            ("X-Error-Message", "Access is restricted".to_owned()),
        ];
        drop(state);
        return status(stream, if request.token.is_none() { 401 } else { 403 }, &headers, b"");
    }
    // What relative redirects on the hub's own host lead to.
    let path = request.path.trim_start_matches("/moved").to_owned();
    let resolved = path.strip_prefix("/owner/name/resolve/").and_then(|rest| rest.split_once('/'));
    let (revision, file) = match resolved {
        Some((revision, file)) => (revision, Some(file)),
        None => ("main", path.strip_prefix("/storage/")),
    };
    let file = file.map(|file| file.split('?').next().unwrap().to_owned());
    let commit = if revision == "main" { state.commit.clone() } else { revision.to_owned() };
    let files = if commit == state.commit { Some(&state.files) } else { state.earlier.get(&commit) };
    let found = files.zip(file.as_ref()).and_then(|(files, file)| files.get(file));
    let Some((bytes, in_storage)) = found.cloned() else {
        drop(state);
        let code = if path.starts_with("/owner/name/") { "EntryNotFound" } else { "RepoNotFound" };
        return status(stream, 404, &[("X-Error-Code", code.to_owned())], b"");
    };
    let mut headers = Vec::new();
    if !state.is_no_hub && !storage {
        headers.push(("X-Repo-Commit", commit));
    }
    if in_storage && !storage {
        headers.push(("X-Linked-Etag", format!("\"{}\"", sha256(&bytes))));
        headers.push(("X-Linked-Size", bytes.len().to_string()));
    } else {
        headers.push(("ETag", format!("W/\"{}\"", git_hash(&bytes))));
    }
    let is_head = request.method == "HEAD";
    if is_head && let Some(Fault::Status(code, headers)) = state.head_faults.pop_front() {
        drop(state);
        return status(stream, code, &headers, b"");
    }
    if file.as_ref().unwrap().starts_with("moved") && !request.path.starts_with("/moved") {
        headers.push(("Location", format!("/moved{path}")));
        drop(state);
        return status(stream, 307, &headers, b"");
    }
    if in_storage && !storage {
        headers.push(("Location", format!("{}/storage/{}?signature=s3cret", state.storage, file.unwrap())));
        drop(state);
        return status(stream, 302, &headers, b"");
    }
    if is_head && storage {
        drop(state);
        return status(stream, 403, &[], b"the signature is for GET");
    }
    let fault = if is_head { None } else { state.faults.pop_front() };
    let takes = state.takes;
    drop(state);
    body(stream, &request, &bytes, headers, fault, takes)
}

fn body(
    mut stream: &TcpStream,
    request: &Request,
    bytes: &[u8],
    mut headers: Vec<(&str, String)>,
    fault: Option<Fault>,
    takes: Duration,
) -> std::io::Result<()> {
    const PIECES: usize = 100;
    let from: usize = match &request.range {
        Some(range) => range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap(),
        None => 0,
    };
    let from = if matches!(fault, Some(Fault::IgnoreRange)) { 0 } else { from };
    let mut bytes = bytes.to_vec();
    match &fault {
        Some(Fault::Status(code, headers)) => return status(stream, *code, headers, b""),
        Some(Fault::Corrupt) => bytes.iter_mut().for_each(|b| *b ^= 1),
        Some(Fault::Silence(time)) => std::thread::sleep(*time),
        _ => {}
    }
    if from > bytes.len() {
        return status(stream, 416, &[("Content-Range", format!("bytes */{}", bytes.len()))], b"");
    }
    let code = if from > 0 { 206 } else { 200 };
    if from > 0 {
        headers.push(("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
    }
    let rest = &bytes[from..];
    if request.method == "HEAD" {
        headers.push(("Content-Length", bytes.len().to_string()));
        return head(stream, code, &headers);
    }
    headers.push(("Content-Length", rest.len().to_string()));
    head(stream, code, &headers)?;
    match fault {
        Some(Fault::CutAfter(n)) => stream.write_all(&rest[..n.min(rest.len())]),
        Some(Fault::Drip(pause)) => rest.chunks(1).try_for_each(|byte| {
            stream.write_all(byte)?;
            std::thread::sleep(pause);
            Ok(())
        }),
        _ => rest.chunks(bytes.len().div_ceil(PIECES).max(1)).try_for_each(|piece| {
            std::thread::sleep(takes / PIECES as u32);
            stream.write_all(piece)
        }),
    }
}

fn status(stream: &TcpStream, code: u16, headers: &[(&str, String)], body: &[u8]) -> std::io::Result<()> {
    let length = ("Content-Length", body.len().to_string());
    let headers: Vec<(&str, String)> = headers.iter().cloned().chain([length]).collect();
    head(stream, code, &headers)?;
    (&mut &*stream).write_all(body)
}

fn head(mut stream: &TcpStream, code: u16, headers: &[(&str, String)]) -> std::io::Result<()> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream.write_all(format!("HTTP/1.1 {code} -\r\n{lines}Connection: close\r\n\r\n").as_bytes())
}
