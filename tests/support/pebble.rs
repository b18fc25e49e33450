//! Pebble, the ACME test authority of Let's Encrypt, in two versions: they differ in what they check and offer.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::ports::{self, Port};
use super::process::{Process, server};
use super::tls::{self, Identity};

/// Which Pebble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Debian's, years old: no ARI, no profiles, no Retry-After.
    Debian,
    /// The newest, built by `tests/get-servers`.
    Newest,
}

/// Both, for tests that must pass with each.
pub const VERSIONS: [Version; 2] = [Version::Debian, Version::Newest];

/// What a `pebble` is started with.
#[derive(Debug)]
pub struct Pebble {
    version: Version,
    dns: SocketAddr,
    config: Map<String, Value>,
    environment: Vec<(&'static str, String)>,
    strict: bool,
}

impl Pebble {
    /// An authority that asks `dns` (a resolver, or a server that has all the zones), validates without delay, rejects
    /// no good nonce and reuses no authorization.
    pub fn new(version: Version, dns: SocketAddr) -> Self {
        Self {
            version,
            dns,
            config: Map::new(),
            environment: vec![],
            strict: false,
        }
        .environment("PEBBLE_VA_NOSLEEP", "1")
        .nonce_reject(0)
        .authz_reuse(0)
    }

    /// Rejects so many percent of good nonces.
    pub fn nonce_reject(self, percent: u8) -> Self {
        self.environment("PEBBLE_WFE_NONCEREJECT", &percent.to_string())
    }

    /// Reuses valid authorizations in so many percent of cases.
    pub fn authz_reuse(self, percent: u8) -> Self {
        self.environment("PEBBLE_AUTHZREUSE", &percent.to_string())
    }

    /// Sets a variable (`PEBBLE_VA_SLEEPTIME`, `PEBBLE_CHAIN_LENGTH`, `PEBBLE_ALTERNATE_ROOTS`, …).
    pub fn environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Sets a key of its configuration (`certificateValidityPeriod`, `domainBlocklist`, `retryAfter`, …).
    pub fn config(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// Asks for an external account with this key id and base64url MAC key.
    pub fn external_account(self, key_id: &str, mac_key: &str) -> Self {
        self.config("externalAccountBindingRequired", json!(true))
            .config("externalAccountMACKeys", json!({ key_id: mac_key }))
    }

    /// Turns on upcoming API changes.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Starts it and waits until its directory answers.
    pub fn start(mut self) -> RunningPebble {
        let (port, management_port) = (ports::free(), ports::free());
        let local = |port: &Port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let (address, management) = (local(&port), local(&management_port));
        let directory = TempDir::with_prefix("countersign-pebble-").expect("a temporary directory");
        let identity = Identity::loopback();
        identity.write(directory.path());
        self.fill_in(directory.path(), address, management);
        let file = directory.path().join("pebble.json");
        std::fs::write(&file, json!({ "pebble": self.config }).to_string())
            .expect("a file can be written");

        let mut command = server(match self.version {
            Version::Debian => "pebble-debian",
            Version::Newest => "pebble-newest",
        });
        command
            .arg("-config")
            .arg(file)
            .args(["-dnsserver", &self.dns.to_string()]);
        if self.strict {
            command.arg("-strict");
        }
        command.envs(self.environment);
        let mut process = Process::start("pebble", command, directory.path());
        process.wait_until("its directory", || {
            tls::get(address, &identity.root, "/dir").is_ok()
        });
        RunningPebble {
            process,
            address,
            management,
            identity,
            directory,
            _ports: [port, management_port],
        }
    }

    fn fill_in(&mut self, directory: &Path, address: SocketAddr, management: SocketAddr) {
        let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let needed = [
            ("listenAddress", json!(address.to_string())),
            ("managementListenAddress", json!(management.to_string())),
            ("certificate", json!(file("certificate.pem"))),
            ("privateKey", json!(file("key.pem"))),
            // For challenges that nobody here answers.
            ("httpPort", json!(1)),
            ("tlsPort", json!(1)),
            ("ocspResponderURL", json!("")),
            ("externalAccountBindingRequired", json!(false)),
        ];
        for (key, value) in needed {
            self.config.entry(key).or_insert(value);
        }
    }
}

/// A running `pebble`; ends when dropped, and forgets everything.
#[derive(Debug)]
pub struct RunningPebble {
    /// The process, for pausing and killing.
    pub process: Process,
    address: SocketAddr,
    management: SocketAddr,
    identity: Identity,
    directory: TempDir,
    _ports: [Port; 2],
}

impl RunningPebble {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The ACME directory.
    pub fn directory_url(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The root of its own HTTPS certificate, a PEM file.
    pub fn https_root(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// The text of [`RunningPebble::https_root`].
    pub fn https_root_pem(&self) -> &str {
        &self.identity.root
    }

    /// The root that issues: PEM, made anew at each start.
    pub fn issuing_root_pem(&self) -> String {
        self.manage("/roots/0")
    }

    /// What the management interface says at `path`, e.g. `/intermediates/0`.
    pub fn manage(&self, path: &str) -> String {
        tls::get(self.management, &self.identity.root, path).expect("the management interface")
    }
}
