//! PowerDNS, `pdns_server`, on its SQLite back end. It listens on any 127.0.0.0/8 address.
//!
//! It grants updates by zone and key, not by name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use tempfile::TempDir;

use super::dns;
use super::ports::{self, Port};
use super::process::{Process, server, servers_directory};
use super::tsig::{self, Key};
use super::zone;

/// What a `pdns_server` is started with.
#[derive(Debug, Default)]
pub struct PowerDns {
    listen: Vec<IpAddr>,
    port: Option<u16>,
    keys: Vec<Key>,
    zones: Vec<Zone>,
    options: String,
}

/// One zone of a `pdns_server`.
#[derive(Debug)]
pub struct Zone {
    name: String,
    text: String,
    metadata: Vec<(&'static str, String)>,
}

impl Zone {
    /// A zone with the text of its zone file (see [`zone::text`]).
    pub fn primary(name: &str, text: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            text: text.into(),
            metadata: vec![],
        }
    }

    /// Grants every update from loopback to one key.
    pub fn allow_update(self, key: &Key) -> Self {
        self.metadata("ALLOW-DNSUPDATE-FROM", "127.0.0.0/8")
            .metadata("TSIG-ALLOW-DNSUPDATE", &key.name)
    }

    /// Sets one kind of the zone's metadata.
    pub fn metadata(mut self, kind: &'static str, value: &str) -> Self {
        self.metadata.push((kind, value.to_owned()));
        self
    }
}

impl PowerDns {
    /// A server without zones on 127.0.0.1 and a free port.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on this address, and on 127.0.0.1 only if that is given too.
    pub fn listen(mut self, address: impl Into<IpAddr>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Listens on a port that the caller holds.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Knows a TSIG key.
    pub fn key(mut self, key: &Key) -> Self {
        self.keys.push(key.clone());
        self
    }

    /// Serves a zone.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zones.push(zone);
        self
    }

    /// Adds any setting, `name=value`.
    pub fn option(mut self, setting: &str) -> Self {
        self.options = format!("{}{setting}\n", self.options);
        self
    }

    /// Starts it and waits until every address answers for every zone.
    pub fn start(mut self) -> RunningPowerDns {
        if self.listen.is_empty() {
            self.listen.push(Ipv4Addr::LOCALHOST.into());
        }
        let reserved = self.port.is_none().then(ports::free);
        let port = self
            .port
            .or(reserved.as_ref().map(Port::number))
            .expect("one or the other");
        let addresses: Vec<_> = self
            .listen
            .iter()
            .map(|&ip| SocketAddr::new(ip, port))
            .collect();
        let directory = TempDir::with_prefix("countersign-pdns-").expect("a temporary directory");
        self.fill(directory.path(), port);

        let process = start_pdns(directory.path());
        let zones = self.zones.into_iter().map(|zone| zone.name).collect();
        let mut running = RunningPowerDns {
            process,
            addresses,
            zones,
            directory,
            _port: reserved,
        };
        running.wait();
        running
    }

    fn fill(&self, directory: &Path, port: u16) {
        std::fs::write(
            directory.join("pdns.conf"),
            self.configuration(directory, port),
        )
        .expect("a file can be written");
        std::fs::copy(
            servers_directory().join("pdns-empty.sqlite3"),
            directory.join("pdns.sqlite3"),
        )
        .expect("the empty database that tests/get-servers makes");
        for Key {
            name,
            algorithm,
            secret,
        } in &self.keys
        {
            pdnsutil(directory, &["import-tsig-key", name, algorithm, secret]);
        }
        for Zone {
            name,
            text,
            metadata,
        } in &self.zones
        {
            let file = directory.join(zone::file_name(name));
            std::fs::write(&file, text).expect("a zone file can be written");
            pdnsutil(directory, &["load-zone", name, &file.to_string_lossy()]);
            for (kind, value) in metadata {
                pdnsutil(directory, &["set-meta", name, kind, value]);
            }
        }
    }

    fn configuration(&self, directory: &Path, port: u16) -> String {
        let modules = std::fs::read_to_string(servers_directory().join("pdns-modules"))
            .expect("tests/get-servers says where the back ends are");
        let directory = directory.display();
        let listen: Vec<_> = self.listen.iter().map(ToString::to_string).collect();
        let listen = listen.join(",");
        // Without caches, so that a change is seen at once; without the daily look for security news.
        format!(
            "launch=gsqlite3
gsqlite3-database={directory}/pdns.sqlite3
gsqlite3-pragma-synchronous=0
module-dir={modules}
socket-dir={directory}
local-address={listen}
local-port={port}
daemon=no
guardian=no
write-pid=no
dnsupdate=yes
allow-dnsupdate-from=
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
domain-metadata-cache-ttl=0
zone-metadata-cache-ttl=0
receiver-threads=1
distributor-threads=1
security-poll-suffix=
{}",
            self.options
        )
    }
}

/// A running `pdns_server`; ends when dropped.
#[derive(Debug)]
pub struct RunningPowerDns {
    /// The process, for pausing and killing.
    pub process: Process,
    addresses: Vec<SocketAddr>,
    zones: Vec<String>,
    directory: TempDir,
    _port: Option<Port>,
}

impl RunningPowerDns {
    /// The first address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Every address it listens on.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends it; [`RunningPowerDns::start_again`] undoes that.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it with what it had.
    pub fn start_again(&mut self) {
        self.process.stop();
        self.process = start_pdns(self.directory.path());
        self.wait();
    }

    /// Does what a line for `pdnsutil` says.
    pub fn does(&self, line: &str) {
        let line: Vec<&str> = line.split_whitespace().collect();
        let ("pdnsutil", arguments) = line
            .split_first()
            .map(|(first, rest)| (*first, rest))
            .unwrap()
        else {
            panic!("{line:?} is for something else");
        };
        pdnsutil(self.directory.path(), arguments);
    }

    fn wait(&mut self) {
        let (addresses, zones) = (&self.addresses, &self.zones);
        self.process
            .wait_until("an answer for each zone at each address", || {
                addresses
                    .iter()
                    .all(|&at| zones.iter().all(|zone| dns::serial(at, zone).is_some()))
            });
    }
}

fn start_pdns(directory: &Path) -> Process {
    let mut command = server("pdns_server");
    command.arg(format!("--config-dir={}", directory.display()));
    Process::start("pdns_server", command, directory)
}

fn pdnsutil(directory: &Path, arguments: &[&str]) {
    let mut command = server("pdnsutil");
    command
        .arg(format!("--config-dir={}", directory.display()))
        .args(arguments);
    let output = tsig::run(command, "");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pdnsutil {arguments:?}: {said}");
}
