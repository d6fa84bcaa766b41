//! Hubs behind a certificate authority of one's own, and behind proxies.

use std::net::TcpListener;

use firstsight_transfer::{Authorities, HubError};

use crate::{file, holds, scene, tls};

#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    let mut scene = scene();
    scene.server.add("f", b"12345", false);
    let ca = scene.folder.path().join("ca.pem");
    scene.config.endpoint = tls::door(&scene.server.address, &ca);
    for unknown in [Authorities::mozilla(), Authorities::system()] {
        scene.config.authorities = unknown;
        let error = scene.fetch(&file("f")).unwrap_err();
        assert!(matches!(error, HubError::Certificate { .. }) && error.is_about_the_network(), "{error}");
        let said = error.to_string();
        assert!(said.contains("UnknownIssuer") && said.contains("SSL_CERT_FILE"), "{said}");
    }
    assert!(scene.server.log().is_empty());
    let folder = scene.folder.path().join("authorities");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&ca, folder.join("company.crt")).unwrap();
    for (i, named) in [ca, folder].into_iter().enumerate() {
        scene.config.cache = scene.folder.path().join(format!("hub{i}"));
        scene.config.authorities = Authorities::files(&[named]).unwrap();
        holds(&scene.fetch(&file("f")).unwrap(), b"12345");
    }
}

#[test]
fn files_without_certificates_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    let said = || Authorities::files(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert!(said().contains("ca.crt") && said().contains("No such file"), "{}", said());
    std::fs::write(&path, "no certificate\n").unwrap();
    assert!(said().contains("ca.crt") && said().contains("BEGIN CERTIFICATE"), "{}", said());
    std::fs::write(&path, [0x30, 0x82, 3, 0]).unwrap();
    assert!(said().contains("DER") && said().contains("openssl x509"), "{}", said());
}

#[test]
fn messages_say_which_proxy_was_asked_and_keep_its_password() {
    let mut scene = scene();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.config.endpoint = format!("http://{closed}");
    let said = scene.fetch(&file("f")).unwrap_err().to_string();
    assert!(said.contains("HTTPS_PROXY"), "{said}");
    for scheme in ["http", "socks5"] {
        scene.config.proxy = Some(format!("{scheme}://me:s3cret@{closed}"));
        let said = scene.fetch(&file("f")).unwrap_err().to_string();
        assert!(said.contains(&format!("proxy {closed}")) && !said.contains("s3cret"), "{said}");
    }
}
