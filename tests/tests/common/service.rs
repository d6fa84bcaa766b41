//! A service in a process of its own, asked over sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::command;

/// A service in a process of its own, which ends with this value.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) port: u16,
    /// What it printed after the first line.
    pub(crate) token: Option<String>,
}

impl Service {
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Self {
        let args = [&["serve", "--port", "0"], args].concat();
        let mut child = command(folder, &args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.split_whitespace().next().unwrap();
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let token = args.contains(&"0.0.0.0").then(|| lines.nth(1).unwrap().unwrap());
        Self { child, port, token: token.map(|line| line.rsplit_once(' ').unwrap().1.to_owned()) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes as they are and reads an answer.
    pub(crate) fn raw(&self, request: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // A server that has refused it may have closed its side.
        let _ = stream.write_all(request);
        Answer::read(&mut stream)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        self.raw(&request(method, path, headers, body)).expect("an answer")
    }

    pub(crate) fn predict(&self, kind: &str, body: &[u8]) -> Answer {
        self.ask("POST", "/predict", &[&format!("Content-Type: {kind}")], body)
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.ask("GET", "/metrics", &[], b"").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Bytes of memory that the process has; 0 where no Linux tells.
    pub(crate) fn memory(&self) -> u64 {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())) else {
            return 0;
        };
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        head.push_str("Host: localhost\r\n");
    }
    if !headers.iter().any(|header| header.starts_with("Transfer-Encoding:")) {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
    [head.as_bytes(), b"\r\n", body].concat()
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |n| n.parse().unwrap());
                while bytes.len() < end + 4 + length {
                    // The answer to HEAD has no body.
                    let Some(n) = stream.read(&mut buffer).ok().filter(|n| *n > 0) else { break };
                    bytes.extend_from_slice(&buffer[..n]);
                }
                let status = head.split(' ').nth(1)?.parse().ok()?;
                return Some(Self { status, head, body: bytes[end + 4..].to_vec() });
            }
            let n = stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
            bytes.extend_from_slice(&buffer[..n]);
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.head, self.text()))
    }

    /// Asserts a refusal whose document says `words`, and nothing of where the service lives.
    pub(crate) fn refused(&self, status: u16, words: &[&str]) {
        let said = self.text();
        assert_eq!(self.status, status, "{said}");
        for key in ["error", "expected", "found"] {
            assert!(self.json()[key].is_string(), "{key}: {said}");
        }
        for word in words {
            assert!(said.contains(word), "should say {word:?}: {said}");
        }
        assert!(!said.contains("/tmp") && !said.contains("photos/"), "{said}");
        let openapi = include_str!("../../../crates/serve/assets/openapi.json");
        assert!(status == 404 || openapi.contains(&format!("\"{status}\"")), "{status} is not documented");
    }
}

pub(crate) fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in files {
        let head = format!(
            "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x--\r\n");
    body
}

pub(crate) const FORM: &str = "multipart/form-data; boundary=x";

/// Asserts the same keys, names and, up to rounding, probabilities.
pub(crate) fn assert_near(ours: &Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5, "{ours} is not {theirs}");
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{ours} is not {theirs}");
            a.iter().zip(b).for_each(|(a, b)| assert_near(a, b));
        }
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
            a.values().zip(b.values()).for_each(|(a, b)| assert_near(a, b));
        }
        _ => assert_eq!(ours, theirs),
    }
}
