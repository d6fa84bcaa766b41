//! The hub's client against a hub in miniature: every case ends in the right file or a clear error, and a second try
//! goes on.

mod certificates;
mod push;
mod python;
mod server;
mod tls;
mod web;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use firstsight_transfer::{Hub, HubConfig, HubError, HubFile, HubProgress, Pretrained};
use server::{COMMIT, Fault, Server, git_hash, sha256};
use tempfile::TempDir;

struct Scene {
    server: Server,
    folder: TempDir,
    config: HubConfig,
}

/// Bytes that no two places share, more than one read of them.
fn content(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn scene() -> Scene {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let config = HubConfig {
        endpoint: server.address.clone(),
        timeout: Duration::from_millis(500),
        retries: 1,
        longest_wait: Duration::from_secs(3),
        ..HubConfig::new(folder.path().join("hub"))
    };
    Scene { server, folder, config }
}

fn file(name: &str) -> HubFile<'_> {
    HubFile { repository: "owner/name", revision: "main", file: name, sha256: None }
}

fn quiet(_: HubProgress<'_>) {}

impl Scene {
    fn fetch(&self, file: &HubFile<'_>) -> Result<PathBuf, HubError> {
        Hub::new(self.config.clone()).unwrap().fetch(file, &mut quiet)
    }

    fn blobs(&self) -> Vec<String> {
        let blobs = self.config.cache.join("models--owner--name/blobs");
        let Ok(entries) = std::fs::read_dir(blobs) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn holds(path: &Path, bytes: &[u8]) {
    assert!(std::fs::read(path).unwrap() == bytes, "{} holds other bytes", path.display());
}

#[test]
fn small_and_large_files_land_where_python_looks() {
    let scene = scene();
    let (small, large) = (b"{\"a\": 1}".to_vec(), content(300_000));
    scene.server.add("config.json", &small, false);
    scene.server.add("model.safetensors", &large, true);
    let repo = scene.config.cache.join("models--owner--name");
    let path = scene.fetch(&file("config.json")).unwrap();
    assert_eq!(path, repo.join("snapshots").join(COMMIT).join("config.json"));
    holds(&path, &small);
    let path = scene.fetch(&file("model.safetensors")).unwrap();
    holds(&path, &large);
    assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("../../blobs").join(sha256(&large)));
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let mut blobs = [git_hash(&small), sha256(&large)];
    blobs.sort();
    assert_eq!(scene.blobs(), blobs);
}

/// The weights of a MobileNetV2, of which only the last layer's are there.
fn last_layer(value: f32) -> Vec<u8> {
    let weight = Tensor::full(value, (2, 1280), &Device::Cpu).unwrap();
    safetensors::serialize([("classifier.weight", weight)], None).unwrap()
}

#[test]
fn weights_are_of_the_commit_of_their_configuration() {
    let scene = scene();
    let config = |names: &str| {
        format!(
            r#"{{"architecture": "mobilenetv2_100", "label_names": {names}, "temperature": 2.0, "reject": {{}}}}"#
        )
    };
    scene.server.add("config.json", config(r#"["ant", "bee"]"#).as_bytes(), false);
    scene.server.add("model.safetensors", &last_layer(1.0), false);
    scene.server.add("reject.safetensors", b"old", false);
    // A first try ended before the weights were here.
    scene.fetch(&file("config.json")).unwrap();
    scene.server.move_on(&COMMIT.replace('0', "f"));
    scene.server.add("config.json", config(r#"["bee", "ant"]"#).as_bytes(), false);
    scene.server.add("model.safetensors", &last_layer(2.0), false);
    scene.server.add("reject.safetensors", b"new", false);
    let locate = || {
        let hub = Hub::new(scene.config.clone()).unwrap();
        Pretrained::hub("owner/name", &hub, &mut quiet).unwrap()
    };
    let names = |found: &Pretrained| found.label_names.as_ref().unwrap().join(" ");
    let found = locate();
    assert_eq!((names(&found), found.temperature), ("ant bee".to_owned(), Some(2.0)));
    holds(&found.weights, &last_layer(1.0));
    holds(found.reject.as_ref().unwrap(), b"old");
    std::fs::remove_dir_all(&scene.config.cache).unwrap();
    let found = locate();
    assert_eq!(names(&found), "bee ant");
    holds(&found.weights, &last_layer(2.0));
    holds(found.reject.as_ref().unwrap(), b"new");
}

#[test]
fn what_is_cached_needs_no_network() {
    let mut scene = scene();
    scene.server.add("f", b"12345", false);
    let path = scene.fetch(&file("f")).unwrap();
    scene.server.log();
    assert_eq!(scene.fetch(&file("f")).unwrap(), path);
    assert_eq!(scene.server.log(), []);
    scene.config.offline = true;
    assert_eq!(scene.fetch(&file("f")).unwrap(), path);
    let by_commit = HubFile { revision: COMMIT, ..file("f") };
    assert_eq!(scene.fetch(&by_commit).unwrap(), path);
    let error = scene.fetch(&file("g")).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }));
    let said = error.to_string();
    assert!(said.contains("owner/name") && said.contains("HF_HUB_OFFLINE") && said.contains('g'), "{said}");
    assert_eq!(scene.server.log(), []);
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let mut scene = scene();
    scene.server.add("f", &content(1000), true);
    scene.server.require_token("hf_secret");
    let error = scene.fetch(&file("f")).unwrap_err();
    assert!(matches!(error, HubError::Forbidden { status: 401, with_token: false, .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("HF_TOKEN") && said.contains("Access is restricted"), "{said}");
    scene.config.token = Some("hf_other".to_owned());
    let error = scene.fetch(&file("f")).unwrap_err();
    assert!(matches!(error, HubError::Forbidden { status: 403, with_token: true, .. }), "{error}");
    assert!(!error.to_string().contains("hf_other"));
    scene.config.token = Some("hf_secret".to_owned());
    scene.server.log();
    holds(&scene.fetch(&file("f")).unwrap(), &content(1000));
    let log = scene.server.log();
    assert!(log.iter().any(|r| r.storage));
    assert!(log.iter().all(|r| r.token.is_some() != r.storage), "{log:?}");
}

#[test]
fn relative_redirects_stay_with_the_mirror() {
    let scene = scene();
    scene.server.add("moved-file", b"moved", false);
    holds(&scene.fetch(&file("moved-file")).unwrap(), b"moved");
}

#[test]
fn a_cut_connection_is_gone_on_with() {
    let scene = scene();
    let bytes = content(200_000);
    scene.server.add("f", &bytes, true);
    scene.server.fault(Fault::CutAfter(70_000));
    holds(&scene.fetch(&file("f")).unwrap(), &bytes);
    let ranges: Vec<Option<String>> =
        scene.server.log().into_iter().filter(|r| r.storage).map(|r| r.range).collect();
    assert_eq!(ranges, [None, Some("bytes=70000-".to_owned())]);
}

#[test]
fn a_second_call_goes_on_where_the_first_gave_up() {
    let mut scene = scene();
    let bytes = content(200_000);
    scene.server.add("f", &bytes, true);
    scene.config.retries = 0;
    scene.server.fault(Fault::CutAfter(70_000));
    let error = scene.fetch(&file("f")).unwrap_err();
    assert!(
        matches!(error, HubError::BrokenOff { received: 70_000, expected: Some(200_000), .. }),
        "{error}"
    );
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert_eq!(scene.blobs(), [format!("{}.incomplete", sha256(&bytes))]);
    scene.server.log();
    let mut received = Vec::new();
    let hub = Hub::new(scene.config.clone()).unwrap();
    let path = hub.fetch(&file("f"), &mut |p| received.push((p.received, p.total))).unwrap();
    holds(&path, &bytes);
    assert_eq!(received[0], (70_000, Some(200_000)));
    assert_eq!(*received.last().unwrap(), (200_000, Some(200_000)));
    assert!(scene.server.log().iter().any(|r| r.range.as_deref() == Some("bytes=70000-")));
    assert_eq!(scene.blobs(), [sha256(&bytes)]);
}

#[test]
fn a_server_without_ranges_starts_again() {
    let scene = scene();
    let bytes = content(200_000);
    scene.server.add("f", &bytes, true);
    scene.server.fault(Fault::CutAfter(70_000));
    scene.server.fault(Fault::IgnoreRange);
    holds(&scene.fetch(&file("f")).unwrap(), &bytes);
}

#[test]
fn a_part_that_is_not_the_files_is_found_out() {
    let scene = scene();
    let bytes = content(1000);
    scene.server.add("f", &bytes, true);
    let blobs = scene.config.cache.join("models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", sha256(&bytes)));
    // Longer than the file: begun again. As long, but other bytes: refused, deleted, and right the second time.
    std::fs::write(&part, content(2000)).unwrap();
    holds(&scene.fetch(&file("f")).unwrap(), &bytes);
    std::fs::remove_dir_all(&scene.config.cache).unwrap();
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(&part, vec![7; 500]).unwrap();
    assert!(matches!(scene.fetch(&file("f")).unwrap_err(), HubError::Checksum { .. }));
    holds(&scene.fetch(&file("f")).unwrap(), &bytes);
}

#[test]
fn wrong_bytes_are_refused_and_the_next_try_is_right() {
    let scene = scene();
    let bytes = content(1000);
    scene.server.add("f", &bytes, true);
    scene.server.fault(Fault::Corrupt);
    let error = scene.fetch(&file("f")).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, HubError::Checksum { .. }) && said.contains(&sha256(&bytes)), "{said}");
    assert_eq!(scene.blobs(), [""; 0]);
    holds(&scene.fetch(&file("f")).unwrap(), &bytes);
}

#[test]
fn the_registrys_hash_binds_the_hub() {
    let scene = scene();
    scene.server.add("small", b"small", false);
    scene.server.add("large", &content(1000), true);
    for name in ["small", "large"] {
        let wrong = "0".repeat(64);
        let error = scene.fetch(&HubFile { sha256: Some(&wrong), ..file(name) }).unwrap_err();
        assert!(matches!(&error, HubError::Checksum { expected, .. } if *expected == wrong), "{error}");
    }
    let right = sha256(b"small");
    holds(&scene.fetch(&HubFile { sha256: Some(&right), ..file("small") }).unwrap(), b"small");
}

#[test]
fn patience_is_granted_up_to_a_bound() {
    let scene = scene();
    scene.server.add("f", b"12345", false);
    let busy = |wait: &str| Fault::Status(429, vec![("Retry-After", wait.to_owned())]);
    scene.server.head_fault(busy("1"));
    let started = Instant::now();
    holds(&scene.fetch(&file("f")).unwrap(), b"12345");
    assert!(started.elapsed() >= Duration::from_secs(1));
    scene.server.add("g", b"1", false);
    scene.server.head_fault(busy("3600"));
    let started = Instant::now();
    let error = scene.fetch(&file("g")).unwrap_err();
    assert!(matches!(&error, HubError::TooManyRequests { wait, .. } if wait.as_secs() == 3600), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    holds(&scene.fetch(&file("g")).unwrap(), b"1");
}

#[test]
fn passing_faults_of_the_server_are_waited_out() {
    let scene = scene();
    scene.server.add("f", &content(1000), true);
    scene.server.head_fault(Fault::Status(503, vec![]));
    scene.server.fault(Fault::Status(500, vec![]));
    holds(&scene.fetch(&file("f")).unwrap(), &content(1000));
}

#[test]
fn silence_and_a_slow_drip_end_in_time() {
    let mut scene = scene();
    let bytes = content(100_000);
    scene.server.add("f", &bytes, true);
    scene.config.retries = 0;
    for fault in [Fault::Silence(Duration::from_secs(30)), Fault::Drip(Duration::from_millis(20))] {
        scene.server.fault(fault.clone());
        let started = Instant::now();
        let error = scene.fetch(&file("f")).unwrap_err();
        assert!(matches!(error, HubError::BrokenOff { .. }), "{fault:?}: {error}");
        assert!(started.elapsed() < Duration::from_secs(4), "{fault:?} took {:?}", started.elapsed());
    }
    holds(&scene.fetch(&file("f")).unwrap(), &bytes);
}

#[test]
fn what_is_not_there_is_named() {
    let scene = scene();
    scene.server.add("f", b"1", false);
    let error = scene.fetch(&file("nothing.bin")).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("no such file") && said.contains("nothing.bin"), "{said}");
    let error = scene.fetch(&HubFile { repository: "nobody/nothing", ..file("f") }).unwrap_err();
    assert!(error.to_string().contains("no such repository"), "{error}");
    assert_eq!(scene.blobs(), [""; 0]);
}

#[test]
fn a_server_that_is_no_hub_is_told_apart() {
    let scene = scene();
    scene.server.add("f", b"1", false);
    scene.server.forget_hub_headers();
    let error = scene.fetch(&file("f")).unwrap_err();
    assert!(
        matches!(error, HubError::NotAHub { .. }) && error.to_string().contains("HF_ENDPOINT"),
        "{error}"
    );
    holds(&scene.fetch(&HubFile { revision: COMMIT, ..file("f") }).unwrap(), b"1");
}

#[test]
fn nobody_answering_is_said_soon() {
    let mut scene = scene();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    scene.config.endpoint = format!("http://127.0.0.1:{port}");
    let started = Instant::now();
    let error = scene.fetch(&file("f")).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert!(error.is_about_the_network() && started.elapsed() < Duration::from_secs(5));
}

#[test]
fn names_cannot_climb_out_of_the_cache() {
    let scene = scene();
    for repository in ["../x", "a/../b", "a", "a/b/c", "a/b--c", "a /b", ""] {
        let error = scene.fetch(&HubFile { repository, ..file("f") }).unwrap_err();
        assert!(matches!(error, HubError::Name { what: "repository", .. }), "{repository}: {error}");
    }
    for name in ["../f", "a/../../f", "/f", "", "a//b", "a\\..\\f"] {
        assert!(matches!(scene.fetch(&file(name)), Err(HubError::Name { what: "file", .. })), "{name}");
    }
    for revision in ["../f", "", "a/../b"] {
        let error = scene.fetch(&HubFile { revision, ..file("f") }).unwrap_err();
        assert!(matches!(error, HubError::Name { what: "revision", .. }), "{revision}");
    }
    assert_eq!(scene.server.log(), []);
}

#[test]
fn two_at_once_fetch_once() {
    let scene = scene();
    let bytes = content(400_000);
    scene.server.add("f", &bytes, true);
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| scene.fetch(&file("f")).unwrap())).collect();
        fetches.into_iter().for_each(|fetch| holds(&fetch.join().unwrap(), &bytes));
    });
    assert_eq!(scene.server.log().iter().filter(|r| r.storage).count(), 1);
    assert!(scene.folder.path().join("hub/.locks/models--owner--name").is_dir());
}
