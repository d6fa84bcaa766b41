//! Files from elsewhere, through the same server's storage.

use std::path::PathBuf;

use firstsight_transfer::{HubError, WebFile};

use crate::server::{Fault, sha256};
use crate::{Scene, content, holds, scene};

/// A server with `bytes` at the address that comes with it, and where they shall lie.
fn served(bytes: &[u8]) -> (Scene, String, PathBuf) {
    let scene = scene();
    scene.server.add("digits.gz", bytes, true);
    let url = format!("{}/storage/digits.gz", scene.server.storage());
    let path = scene.folder.path().join("data/digits.gz");
    (scene, url, path)
}

#[test]
fn a_file_is_fetched_once_and_without_the_token() {
    let bytes = content(200_000);
    let (mut scene, url, path) = served(&bytes);
    scene.config.token = Some("s3cret".to_owned());
    // Even where the file lies on the endpoint's own host.
    scene.config.endpoint = scene.server.storage();
    let hash = sha256(&bytes);
    let file = WebFile { url: &url, size: 200_000, sha256: &hash };
    let mut last = (0, 0);
    file.fetch(&scene.config, &path, &mut |received, of| last = (received, of)).unwrap();
    holds(&path, &bytes);
    assert_eq!(last, (200_000, 200_000));
    file.fetch(&scene.config, &path, &mut |_, _| ()).unwrap();
    let log = scene.server.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0].token, None);
}

#[test]
fn a_broken_download_is_gone_on_with() {
    let bytes = content(300_000);
    let (scene, url, path) = served(&bytes);
    let hash = sha256(&bytes);
    let file = WebFile { url: &url, size: 300_000, sha256: &hash };
    for cut in [100_000, 50_000] {
        scene.server.fault(Fault::CutAfter(cut));
    }
    match file.fetch(&scene.config, &path, &mut |_, _| ()) {
        Err(HubError::BrokenOff { received: 150_000, expected: Some(300_000), .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(!path.exists());
    scene.server.log();
    file.fetch(&scene.config, &path, &mut |_, _| ()).unwrap();
    holds(&path, &bytes);
    assert_eq!(scene.server.log()[0].range.as_deref(), Some("bytes=150000-"));
}

#[test]
fn other_bytes_than_expected_are_refused_and_deleted() {
    let bytes = content(5_000);
    let (scene, url, path) = served(&bytes);
    let hash = sha256(b"something else");
    match (WebFile { url: &url, size: 5_000, sha256: &hash }).fetch(&scene.config, &path, &mut |_, _| ()) {
        Err(HubError::Checksum { expected, found, .. }) => {
            assert_eq!((expected, found), (hash, sha256(&bytes)));
        }
        other => panic!("{other:?}"),
    }
    assert!(!path.exists() && !path.with_file_name("digits.gz.incomplete").exists());
}

#[test]
fn another_length_than_expected_is_refused() {
    let bytes = content(5_000);
    let (scene, url, path) = served(&bytes);
    let hash = sha256(&bytes);
    for size in [4_999, 5_001] {
        let file = WebFile { url: &url, size, sha256: &hash };
        let error = file.fetch(&scene.config, &path, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, HubError::BrokenOff { .. }), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let scene = scene();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/digits.gz", listener.local_addr().unwrap());
    drop(listener);
    let file = WebFile { url: &url, size: 1, sha256: "00" };
    let path = scene.folder.path().join("digits.gz");
    let error = file.fetch(&scene.config, &path, &mut |_, _| ()).unwrap_err();
    assert!(error.is_about_the_network() && error.to_string().contains(&url), "{error}");
}
