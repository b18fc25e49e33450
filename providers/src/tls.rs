//! TLS as every client of ours speaks it: ring, the roots that the system trusts, and those that a person adds.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Why no TLS can be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nothing is trusted; why, in words.
    #[error(
        "this machine has no trusted root certificates ({0}); install the package `ca-certificates`"
    )]
    NoRoots(String),
    /// The roots that a person gave cannot be used; what is the matter with the file.
    #[error("{0}")]
    BadTrust(String),
    /// The library says so.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A client that trusts the system's roots, and `trust` (PEM) beside them. No roots at all is an error, unless it
/// `may_be_plain`: then only a handshake fails.
pub fn client(trust: Option<&[u8]>, may_be_plain: bool) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(pem) = trust {
        add_trust(&mut roots, pem)?;
    }
    if roots.is_empty() && !may_be_plain {
        let why = system.errors.first().map(ToString::to_string);
        return Err(TlsError::NoRoots(
            why.unwrap_or_else(|| "none found".to_owned()),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn add_trust(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), TlsError> {
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate
            .map_err(|error| TlsError::BadTrust(format!("is not PEM as it should be: {error}")))?;
        roots.add(certificate).map_err(|error| {
            TlsError::BadTrust(format!("holds a certificate that cannot be used: {error}"))
        })?;
        found += 1;
    }
    match found {
        0 => Err(TlsError::BadTrust("holds no certificate in PEM".to_owned())),
        _ => Ok(()),
    }
}
