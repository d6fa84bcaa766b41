//! Writing to a hub: one in miniature that creates repositories, takes commits, and hands large files to a storage.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use firstsight_transfer::{Hub, HubConfig, HubContent, HubError, HubPush, HubUpload};
use serde_json::{Value, json};

use crate::server::{COMMIT, sha256};

/// What the hub and its storage have.
#[derive(Default)]
struct State {
    /// With whether they are private.
    repositories: BTreeMap<String, bool>,
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, Vec<u8>>,
    verified: Vec<String>,
    commits: Vec<Vec<Value>>,
    /// Length of the parts, where files are sent in parts.
    chunk: Option<usize>,
    /// Statuses of the next answers of the storage.
    faults: Vec<u16>,
    tokens: Vec<(String, Option<String>)>,
    storage: String,
    address: String,
}

#[derive(Clone)]
struct Server(Arc<Mutex<State>>);

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Server {
    fn start() -> Self {
        let server = Self(Arc::default());
        let (address, storage) = (server.listen(false), server.listen(true));
        let mut state = server.state();
        (state.address, state.storage) = (address, storage);
        drop(state);
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn listen(&self, storage: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                server.serve(&stream, storage);
            }
        });
        address
    }

    fn serve(&self, mut stream: &TcpStream, storage: bool) {
        let Some(request) = read(stream) else { return };
        let (status, header, body) = match storage {
            true => self.storage(&request),
            false => self.hub(&request),
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} -\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }

    fn hub(&self, request: &Request) -> (u16, String, Vec<u8>) {
        let mut state = self.state();
        let token = request.headers.get("authorization").cloned();
        state.tokens.push((request.path.clone(), token.clone()));
        if token.as_deref() != Some("Bearer secret") {
            return (401, "X-Error-Message: Invalid credentials\r\n".to_owned(), Vec::new());
        }
        let answer = |value: Value| (200, String::new(), value.to_string().into_bytes());
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/api/repos/create") => {
                let asked = request.json();
                assert_eq!(asked["type"], "model");
                let name = format!(
                    "{}/{}",
                    asked["organization"].as_str().unwrap(),
                    asked["name"].as_str().unwrap()
                );
                let private = asked["private"].as_bool().unwrap();
                match state.repositories.contains_key(&name) {
                    true => {
                        (409, String::new(), b"{\"error\":\"You already created this model repo\"}".to_vec())
                    }
                    false => {
                        let url = format!("{}/{name}", state.address);
                        state.repositories.insert(name, private);
                        answer(json!({"url": url}))
                    }
                }
            }
            ("POST", "/api/models/me/ants/preupload/main") => {
                let files = request.json()["files"].as_array().unwrap().clone();
                let mode = |file: &Value| {
                    let (path, size) = (file["path"].as_str().unwrap(), file["size"].as_u64().unwrap());
                    assert!(!file["sample"].as_str().unwrap().is_empty());
                    let large = path.ends_with(".safetensors") || size > 1_000_000;
                    let mode = if large { "lfs" } else { "regular" };
                    json!({"path": path, "uploadMode": mode, "shouldIgnore": path == "ignored.txt"})
                };
                answer(json!({"files": files.iter().map(mode).collect::<Vec<_>>()}))
            }
            ("POST", "/me/ants.git/info/lfs/objects/batch") => {
                assert_eq!(request.headers["content-type"], "application/vnd.git-lfs+json");
                let asked = request.json();
                assert_eq!((&asked["operation"], &asked["hash_algo"]), (&json!("upload"), &json!("sha256")));
                let objects = asked["objects"].as_array().unwrap().iter().map(|object| {
                    let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap() as usize);
                    if state.objects.contains_key(oid) {
                        return json!({"oid": oid, "size": size});
                    }
                    let storage = &state.storage;
                    let upload = match state.chunk {
                        None => json!({"href": format!("{storage}/{oid}?signature=1"), "header": {"x-signed": "yes"}}),
                        Some(chunk) => {
                            let mut header = json!({"chunk_size": chunk.to_string()});
                            for part in 1..=size.div_ceil(chunk) {
                                header[format!("{part:05}")] = json!(format!("{storage}/part/{oid}/{part:05}"));
                            }
                            json!({"href": format!("{storage}/complete/{oid}"), "header": header})
                        }
                    };
                    let verify = json!({"href": format!("{}/verify", state.address), "header": {}});
                    json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
                });
                let objects: Vec<Value> = objects.collect();
                answer(json!({"transfer": "basic", "objects": objects}))
            }
            ("POST", "/verify") => {
                let oid = request.json()["oid"].as_str().unwrap().to_owned();
                assert!(state.objects.contains_key(&oid), "not uploaded");
                state.verified.push(oid);
                (200, String::new(), Vec::new())
            }
            ("POST", "/api/models/me/ants/commit/main") => {
                assert_eq!(request.headers["content-type"], "application/x-ndjson");
                let text = String::from_utf8(request.body.clone()).unwrap();
                let lines: Vec<Value> =
                    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                for line in lines.iter().filter(|line| line["key"] == "lfsFile") {
                    assert!(state.objects.contains_key(line["value"]["oid"].as_str().unwrap()));
                }
                state.commits.push(lines);
                answer(json!({"success": true, "commitOid": COMMIT, "commitUrl": ""}))
            }
            other => panic!("{other:?}"),
        }
    }

    fn storage(&self, request: &Request) -> (u16, String, Vec<u8>) {
        let mut state = self.state();
        // A signature is enough; a token would be a leak.
        assert!(!request.headers.contains_key("authorization"));
        if let Some(status) = state.faults.pop() {
            return (status, "Retry-After: 0\r\n".to_owned(), Vec::new());
        }
        let path = request.path.split('?').next().unwrap();
        match (request.method.as_str(), path.strip_prefix("/part/"), path.strip_prefix("/complete/")) {
            ("PUT", Some(part), _) => {
                assert_eq!(request.headers["content-length"], request.body.len().to_string());
                state.parts.insert(part.to_owned(), request.body.clone());
                (200, format!("ETag: \"{}\"\r\n", &sha256(&request.body)[..8]), Vec::new())
            }
            ("POST", _, Some(oid)) => {
                let parts: Vec<(String, Vec<u8>)> = state
                    .parts
                    .iter()
                    .filter(|(name, _)| name.starts_with(oid))
                    .map(|(n, b)| (n.clone(), b.clone()))
                    .collect();
                let asked = request.json();
                for ((_, bytes), said) in parts.iter().zip(asked["parts"].as_array().unwrap()) {
                    assert_eq!(said["etag"], format!("\"{}\"", &sha256(bytes)[..8]));
                }
                assert_eq!(asked["parts"].as_array().unwrap().len(), parts.len());
                let whole: Vec<u8> = parts.into_iter().flat_map(|(_, bytes)| bytes).collect();
                assert_eq!(sha256(&whole), oid);
                state.objects.insert(oid.to_owned(), whole);
                (200, String::new(), b"{}".to_vec())
            }
            ("PUT", None, None) => {
                assert_eq!(request.headers["x-signed"], "yes");
                let oid = path.trim_start_matches('/').to_owned();
                assert_eq!(sha256(&request.body), oid);
                state.objects.insert(oid, request.body.clone());
                (200, String::new(), Vec::new())
            }
            other => panic!("{other:?}"),
        }
    }

    fn hub_with(&self, token: Option<&str>, folder: &std::path::Path) -> Hub {
        let mut config = HubConfig::new(folder.join("cache"));
        config.endpoint = self.state().address.clone();
        config.token = token.map(str::to_owned);
        config.timeout = Duration::from_secs(5);
        Hub::new(config).unwrap()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

fn weights() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn uploads(folder: &std::path::Path) -> Vec<HubUpload> {
    let path = folder.join("model.safetensors");
    std::fs::write(&path, weights()).unwrap();
    let bytes = |path: &str, text: &str| HubUpload {
        path: path.to_owned(),
        content: HubContent::Bytes(text.as_bytes().to_vec()),
    };
    vec![
        bytes("README.md", "# Ants"),
        bytes("ignored.txt", "no"),
        HubUpload { path: "model.safetensors".to_owned(), content: HubContent::File(path) },
    ]
}

fn push(files: &[HubUpload]) -> HubPush<'_> {
    HubPush { repository: "me/ants", private: true, files, message: "Ants" }
}

#[test]
fn files_become_a_commit_and_are_not_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let files = uploads(folder.path());
    let hub = server.hub_with(Some("secret"), folder.path());
    // The storage fails twice, and is asked again.
    server.state().faults = vec![503, 500];
    let mut last = (0, None);
    let done = hub.push(&push(&files), &mut |progress| last = (progress.received, progress.total)).unwrap();
    assert_eq!((done.commit.as_str(), done.sent), (COMMIT, 1_200_000));
    assert!(done.url.ends_with("/me/ants"));
    assert_eq!(last, (1_200_000, Some(1_200_000)));
    let oid = sha256(&weights());
    {
        let state = server.state();
        assert!(state.repositories["me/ants"], "private");
        assert_eq!(state.objects[&oid], weights());
        assert_eq!(state.verified, std::slice::from_ref(&oid));
        let [commit] = &state.commits[..] else { panic!("{} commits", state.commits.len()) };
        assert_eq!(commit[0]["value"]["summary"], "Ants");
        assert_eq!(
            commit[1]["value"],
            json!({"path": "README.md", "encoding": "base64", "content": "IyBBbnRz"})
        );
        let large = json!({"path": "model.safetensors", "algo": "sha256", "oid": oid, "size": 1_200_000});
        assert_eq!((commit[2]["value"].clone(), commit.len()), (large, 3));
    }
    // Again: the repository is there, and the large file as well.
    let done = hub.push(&push(&files), &mut |_| panic!("nothing is sent")).unwrap();
    assert_eq!((done.sent, server.state().commits.len()), (0, 2));
}

#[test]
fn large_files_go_in_parts_where_the_hub_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    server.state().chunk = Some(500_000);
    let files = uploads(folder.path());
    let hub = server.hub_with(Some("secret"), folder.path());
    let mut seen = Vec::new();
    hub.push(&push(&files), &mut |progress| seen.push(progress.received)).unwrap();
    assert!(seen.is_sorted() && seen.last() == Some(&1_200_000));
    assert_eq!(server.state().parts.len(), 3);
    assert_eq!(server.state().objects[&sha256(&weights())], weights());
}

#[test]
fn what_stands_in_the_way_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let mut files = uploads(folder.path());
    let said = |token: Option<&str>, push: &HubPush<'_>| {
        server.hub_with(token, folder.path()).push(push, &mut |_| ()).unwrap_err()
    };
    assert!(said(None, &push(&files)).to_string().contains("HF_TOKEN"));
    assert!(matches!(said(Some("other"), &push(&files)), HubError::Forbidden { status: 401, .. }));
    let wrong = HubPush { repository: "ants", ..push(&files) };
    assert!(matches!(said(Some("secret"), &wrong), HubError::Name { .. }));
    // A storage that stays away: nothing is committed, and the next push goes on.
    server.state().faults = vec![403];
    assert!(matches!(said(Some("secret"), &push(&files)), HubError::Forbidden { .. }));
    assert!(server.state().commits.is_empty());
    let hub = server.hub_with(Some("secret"), folder.path());
    assert_eq!(hub.push(&push(&files), &mut |_| ()).unwrap().sent, 1_200_000);
    files[2].content = HubContent::File(folder.path().join("nothing"));
    assert!(matches!(said(Some("secret"), &push(&files)), HubError::Io { .. }));
    assert_eq!(server.state().commits.len(), 1);
}
