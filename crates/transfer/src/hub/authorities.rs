//! The certificate authorities that may vouch for a hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use ureq::tls::{Certificate, RootCerts};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use super::HubError;

/// The certificate authorities that may vouch for a hub, a mirror or a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// In DER; none for Mozilla's.
    certificates: Option<Arc<Vec<Vec<u8>>>>,
}

impl Authorities {
    /// Mozilla's list, which is compiled in.
    pub fn mozilla() -> Self {
        Self { certificates: None }
    }

    /// Mozilla's list and this machine's store, to which companies add their own authority. In place of the store, the
    /// crate that reads it takes what SSL_CERT_FILE and SSL_CERT_DIR name, as OpenSSL does.
    pub fn system() -> Self {
        let CertificateResult { certs, errors, .. } = load_native_certs();
        for error in errors {
            tracing::debug!(%error, "the system's certificates");
        }
        let all = TLS_SERVER_ROOT_CERTS.iter().chain(&certs).map(|certificate| certificate.to_vec());
        Self { certificates: Some(Arc::new(all.collect())) }
    }

    /// The certificates in these files and folders, in PEM, and no others.
    ///
    /// # Errors
    /// [`HubError::Authorities`] names a file or folder without a readable certificate.
    pub fn files(paths: &[PathBuf]) -> Result<Self, HubError> {
        let mut certificates = Vec::new();
        for path in paths {
            let folder = path.is_dir().then_some(path.as_path());
            let file = folder.is_none().then_some(path.as_path());
            let CertificateResult { certs, errors, .. } = load_certs_from_paths(file, folder);
            if certs.is_empty() {
                let reason = match errors.first() {
                    Some(error) => error.to_string(),
                    None => without_certificates(path),
                };
                return Err(HubError::Authorities { path: path.clone(), reason });
            }
            certificates.extend(certs.into_iter().map(|certificate| certificate.to_vec()));
        }
        Ok(Self { certificates: Some(Arc::new(certificates)) })
    }

    /// The certificates in DER, or `None` for Mozilla's.
    pub fn der(&self) -> Option<&[Vec<u8>]> {
        self.certificates.as_deref().map(Vec::as_slice)
    }

    pub(super) fn roots(&self) -> RootCerts {
        match &self.certificates {
            None => RootCerts::WebPki,
            Some(certificates) => {
                RootCerts::from(certificates.iter().map(|der| Certificate::from_der(der).to_owned()))
            }
        }
    }
}

/// Why a file that can be read holds no certificate.
fn without_certificates(path: &Path) -> String {
    let is_der = std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(&[0x30, 0x82]));
    match is_der {
        true => {
            "it holds a certificate in DER; PEM is expected: openssl x509 -inform der -in FILE -out ca.pem"
                .to_owned()
        }
        false => "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned(),
    }
}
