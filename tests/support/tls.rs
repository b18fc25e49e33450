//! HTTPS on loopback: a certificate for a test server, and a client of a few lines that trusts it.

use std::io::{Error, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(5);
/// More than any test server says.
const LARGEST_REPLY: u64 = 4 << 20;

/// A server's certificate and key, and the root that clients must trust (rustls takes no self-signed server
/// certificate that is also a CA).
#[derive(Debug)]
pub struct Identity {
    /// The root, PEM.
    pub root: String,
    /// The leaf, PEM.
    pub certificate: String,
    /// The leaf's key, PEM (PKCS #8).
    pub key: String,
}

impl Identity {
    /// For `localhost`, 127.0.0.1 and ::1.
    pub fn loopback() -> Self {
        Self::of(&["localhost", "127.0.0.1", "::1"])
    }

    /// For these names and addresses.
    pub fn of(names: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Countersign test HTTPS root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, new_key()).expect("a root certificate");

        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        params.use_authority_key_identifier_extension = true;
        let key = new_key();
        let leaf = params.signed_by(&key, &root).expect("a leaf certificate");
        Self {
            root: root.pem(),
            certificate: leaf.pem(),
            key: key.serialize_pem(),
        }
    }

    /// How a server of this identity talks.
    pub fn server(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS needs")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("the key is the certificate's");
        Arc::new(config)
    }

    /// Writes `root.pem`, `certificate.pem` and `key.pem`.
    pub fn write(&self, directory: &Path) {
        let parts = [
            ("root.pem", &self.root),
            ("certificate.pem", &self.certificate),
            ("key.pem", &self.key),
        ];
        for (name, text) in parts {
            std::fs::write(directory.join(name), text).expect("a file can be written");
        }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("randomness")
}

/// GETs `path` over HTTPS from a server that shows a certificate under `root`; the body of a 200.
pub fn get(at: SocketAddr, root: &str, path: &str) -> Result<String> {
    let tcp = TcpStream::connect_timeout(&at, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::from(at.ip());
    let connection = ClientConnection::new(client(root), name).map_err(Error::other)?;
    let mut stream = StreamOwned::new(connection, tcp);
    // HTTP/1.0: the reply is not chunked and ends with the connection.
    let agent = "User-Agent: countersign-tests";
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {at}\r\n{agent}\r\n\r\n"
    )?;
    let mut reply = Vec::new();
    stream.take(LARGEST_REPLY).read_to_end(&mut reply)?;
    let reply = String::from_utf8(reply).map_err(Error::other)?;
    let (head, body) = reply
        .split_once("\r\n\r\n")
        .ok_or_else(|| Error::other("no end of head"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Error::other(format!("{path}: {head}"))),
    }
}

fn client(root: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
        roots
            .add(certificate.expect("PEM"))
            .expect("a root certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS needs")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
