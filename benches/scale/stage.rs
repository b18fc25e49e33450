//! What the program under measurement works with: an authority, a configuration, a store.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use countersign::config::Config;
use countersign::daemon::open_store;
use countersign::engine::certificate::{Certificate, Issued};
use countersign::engine::names::CertificateName;
use countersign::run::records;
use countersign::run::shared::specification;
use countersign::store::{Keep, Saved, Write};
use countersign_providers::clock::{Clock, earlier, later};
use countersign_testca::{Authority, Endpoint, Settings};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Records that are saved together.
const BATCH: usize = 500;
/// Lines of history that each certificate has.
const LINES: u32 = 10;
/// About what a chain of two takes.
const CHAIN: usize = 3_000;
const DAY: Duration = Duration::from_secs(86_400);

/// The authority and the files; the authority ends with it.
pub(crate) struct Stage {
    pub(crate) home: TempDir,
    pub(crate) file: PathBuf,
    authority: Authority,
    ordered: mpsc::Receiver<Instant>,
    runtime: Runtime,
}

impl Stage {
    /// A configuration with `many` certificates; nothing is in the store yet.
    pub(crate) fn build(many: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let nameserver = free_port();
        let (orders, ordered) = mpsc::channel();
        let authority = Authority::start(Settings {
            log: Some(Arc::new(move |seen| {
                if seen.endpoint == Endpoint::NewOrder && seen.status == 201 {
                    let _ = orders.send(Instant::now());
                }
            })),
            ..Settings::asking(nameserver)
        });
        let authority = runtime.block_on(authority).unwrap();
        // Beside the build, not in memory: `fsync` is to cost what it costs.
        let home = TempDir::with_prefix_in("scale-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        let file = home.path().join("countersign.yaml");
        std::fs::write(
            home.path().join("authority.pem"),
            authority.https_root_pem(),
        )
        .unwrap();
        let mut text = format!(
            "state: state
authorities: {{ca: {{directory: \"{}\", trust: authority.pem, agree-to-terms: true}}}}
nameserver: {{zone: hosted.test, listen: [\"{nameserver}\"], hosts: {{ns1.hosted.test: [127.0.0.1]}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {}}}
certificates:
",
            authority.directory_url(),
            nameserver.port(),
        );
        for nth in 0..many {
            text.push_str(&line(nth));
        }
        std::fs::write(&file, text).unwrap();
        Self {
            home,
            file,
            authority,
            ordered,
            runtime,
        }
    }

    /// Puts a certificate in the store for everyone of the configuration, none of them due.
    pub(crate) fn seed(&self, many: usize) {
        let clock = Clock::system();
        let config = Config::load(&self.file).unwrap_or_else(|errors| panic!("{errors}"));
        let now = clock.now();
        let chain = format!("-----BEGIN CERTIFICATE-----\n{}\n", "A".repeat(CHAIN));
        self.runtime.block_on(async {
            let (session, sealer) = open_store(&config, &clock).await.unwrap();
            let all: Vec<usize> = (0..many).collect();
            for batch in all.chunks(BATCH) {
                let mut certificates = Vec::new();
                let mut writes = Vec::new();
                for nth in batch {
                    let name = CertificateName::parse(&format!("c{nth}")).unwrap();
                    let at = records::leaf_key(&name, 1);
                    let key = countersign::secret::Secret::new(vec![7; 138]);
                    let sealed = sealer.seal(&at, &key).unwrap();
                    writes.push(Write::Put(at, serde_json::to_vec(&sealed).unwrap()));
                    writes.push(Write::Put(records::chain(&name, 1), chain.clone().into_bytes()));
                    for nth in 0..LINES {
                        let line = format!(
                            "{{\"at\":\"{now}\",\"epoch\":1,\"what\":\"the TXT record at _acme-challenge.{name}.hosted.test is wanted no more\"}}"
                        );
                        let at = records::history(&name, now.as_microsecond(), nth);
                        writes.push(Write::Put(at, line.into_bytes()));
                    }
                    let mut certificate = Certificate::new(name.clone());
                    certificate.epoch = 1;
                    certificate.issued(Issued {
                        epoch: 1,
                        generation: 1,
                        specification: specification(&config.certificates[&name]),
                        authority: "ca".to_owned(),
                        profile: None,
                        serial: format!("{nth:032x}"),
                        sha256: format!("{nth:064x}"),
                        issuer: "CN=Somebody".to_owned(),
                        not_before: earlier(now, DAY),
                        not_after: later(now, DAY * 89),
                        renew_at: later(now, DAY * 59),
                    });
                    certificates.push(Saved::new(records::certificate(&name), certificate));
                }
                let mut kept: Vec<&mut dyn Keep> = Vec::new();
                for certificate in &mut certificates {
                    kept.push(certificate);
                }
                session.save(&mut kept, writes).await.unwrap();
            }
        });
    }

    /// Adds the `nth` certificate to the configuration.
    pub(crate) fn add(&mut self, nth: usize) {
        let mut text = std::fs::read_to_string(&self.file).unwrap();
        text.push_str(&line(nth));
        std::fs::write(&self.file, text).unwrap();
        while self.ordered.try_recv().is_ok() {}
    }

    /// When the next order came.
    pub(crate) fn next_order(&self) -> Instant {
        self.ordered.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    /// How many orders there were.
    pub(crate) fn orders(&self) -> usize {
        let _in = self.runtime.enter();
        self.authority.orders().len()
    }

    /// The size of the store's files.
    pub(crate) fn store_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.home.path().join("state")).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    }
}

fn line(nth: usize) -> String {
    let mut text = String::new();
    writeln!(text, "  c{nth}: {{names: [n{nth}.hosted.test]}}").unwrap();
    text
}

/// A port of 127.0.0.1 that is free by UDP and TCP.
fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
