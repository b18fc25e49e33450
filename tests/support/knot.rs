//! Knot DNS, `knotd`. It listens on any 127.0.0.0/8 address.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use tempfile::TempDir;

use super::dns;
use super::ports::{self, Port};
use super::process::{Process, server};
use super::tsig::Key;
use super::zone;

/// What a `knotd` is started with.
#[derive(Debug, Default)]
pub struct Knot {
    listen: Vec<IpAddr>,
    port: Option<u16>,
    keys: Vec<Key>,
    zones: Vec<Zone>,
}

/// One zone of a `knotd`.
#[derive(Debug)]
pub struct Zone {
    name: String,
    source: Source,
    rules: Vec<Rule>,
    acls: Vec<(String, String)>,
    notify: Vec<SocketAddr>,
    awaited: bool,
}

#[derive(Debug)]
enum Source {
    Text(String),
    Primary(SocketAddr),
}

#[derive(Debug)]
struct Rule {
    key: String,
    owners: Vec<String>,
}

impl Zone {
    /// A primary with the text of its zone file (see [`zone::text`]).
    pub fn primary(name: &str, text: impl Into<String>) -> Self {
        Self::new(name, Source::Text(text.into()))
    }

    /// A secondary that transfers from `primary`; [`Knot::start`] waits for the first transfer.
    pub fn secondary(name: &str, primary: SocketAddr) -> Self {
        Self::new(name, Source::Primary(primary))
    }

    fn new(name: &str, source: Source) -> Self {
        Self {
            name: name.to_owned(),
            source,
            rules: vec![],
            acls: vec![],
            notify: vec![],
            awaited: true,
        }
    }

    /// Grants every update to one key.
    pub fn allow_update(mut self, key: &Key) -> Self {
        self.rules.push(Rule {
            key: key.name.clone(),
            owners: vec![],
        });
        self
    }

    /// Grants TXT updates at these owner names (absolute or relative to the zone) to one key.
    pub fn allow_txt(mut self, key: &Key, owners: &[&str]) -> Self {
        let owners = owners.iter().map(|&owner| owner.to_owned()).collect();
        self.rules.push(Rule {
            key: key.name.clone(),
            owners,
        });
        self
    }

    /// Grants what the access list `id` grants, whose section `text` is.
    pub fn acl(mut self, id: &str, text: &str) -> Self {
        self.acls.push((id.to_owned(), text.to_owned()));
        self
    }

    /// Tells these servers of each change.
    pub fn notify(mut self, secondaries: &[SocketAddr]) -> Self {
        self.notify.extend(secondaries);
        self
    }

    /// The server counts as started before it has this zone.
    pub fn not_awaited(mut self) -> Self {
        self.awaited = false;
        self
    }
}

impl Knot {
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

    /// Starts it and waits until every address answers for every zone.
    pub fn start(mut self) -> RunningKnot {
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
        let directory = TempDir::with_prefix("countersign-knot-").expect("a temporary directory");
        self.write_files(directory.path(), port);

        let process = start_knotd(directory.path());
        let awaited = self
            .zones
            .into_iter()
            .filter(|zone| zone.awaited)
            .map(|zone| zone.name);
        let mut running = RunningKnot {
            process,
            addresses,
            awaited: awaited.collect(),
            directory,
            _port: reserved,
        };
        running.wait();
        running
    }

    fn write_files(&self, directory: &Path, port: u16) {
        std::fs::create_dir(directory.join("db")).expect("a directory for the journal");
        for zone in &self.zones {
            if let Source::Text(text) = &zone.source {
                let path = directory.join(zone::file_name(&zone.name));
                std::fs::write(path, text).expect("a zone file can be written");
            }
        }
        let configuration = self.configuration(directory, port);
        std::fs::write(directory.join("knot.conf"), configuration).expect("a file can be written");
    }

    fn configuration(&self, directory: &Path, port: u16) -> String {
        let directory = directory.display();
        let mut text = format!(
            "server:
  rundir: {directory}
  udp-workers: 1
  tcp-workers: 2
  background-workers: 1
  tcp-max-clients: 1000
"
        );
        for address in &self.listen {
            writeln!(text, "  listen: {address}@{port}").unwrap();
        }
        writeln!(
            text,
            "log:\n- target: stderr\n  any: info\ndatabase:\n  storage: {directory}/db"
        )
        .unwrap();
        if !self.keys.is_empty() {
            text += "key:\n";
        }
        for Key {
            name,
            algorithm,
            secret,
        } in &self.keys
        {
            writeln!(
                text,
                "- id: {name}\n  algorithm: {algorithm}\n  secret: {secret}"
            )
            .unwrap();
        }
        text += &self.remotes();
        text += "acl:\n- id: transfer\n  action: [transfer, notify]\n";
        for (z, zone) in self.zones.iter().enumerate() {
            for (r, Rule { key, owners }) in zone.rules.iter().enumerate() {
                writeln!(text, "- id: update-{z}-{r}\n  key: {key}\n  action: update").unwrap();
                if !owners.is_empty() {
                    let owners = owners.join(", ");
                    writeln!(text, "  update-type: TXT\n  update-owner: name").unwrap();
                    writeln!(
                        text,
                        "  update-owner-match: equal\n  update-owner-name: [{owners}]"
                    )
                    .unwrap();
                }
            }
        }
        for (_, section) in self.zones.iter().flat_map(|zone| &zone.acls) {
            writeln!(text, "{section}").unwrap();
        }
        // Each change is answered when it is in the zone; the file is left as it was.
        writeln!(
            text,
            "template:\n- id: default\n  storage: {directory}\n  zonefile-sync: -1"
        )
        .unwrap();
        writeln!(text, "  journal-content: all\nzone:").unwrap();
        for (z, zone) in self.zones.iter().enumerate() {
            text += &zone.statement(z);
        }
        text
    }

    /// The servers that zones transfer from, or that they tell of changes.
    fn remotes(&self) -> String {
        let mut text = String::new();
        for (z, zone) in self.zones.iter().enumerate() {
            if let Source::Primary(at) = zone.source {
                writeln!(
                    text,
                    "- id: primary-{z}\n  address: {}@{}",
                    at.ip(),
                    at.port()
                )
                .unwrap();
            }
            for (n, at) in zone.notify.iter().enumerate() {
                writeln!(
                    text,
                    "- id: notify-{z}-{n}\n  address: {}@{}",
                    at.ip(),
                    at.port()
                )
                .unwrap();
            }
        }
        if text.is_empty() {
            text
        } else {
            format!("remote:\n{text}")
        }
    }
}

impl Zone {
    fn statement(&self, z: usize) -> String {
        let rules = (0..self.rules.len()).map(|r| format!(", update-{z}-{r}"));
        let acls = self.acls.iter().map(|(id, _)| format!(", {id}"));
        let acl: String = rules.chain(acls).collect();
        let file = zone::file_name(&self.name);
        let mut text = format!(
            "- domain: \"{}\"\n  file: {file}\n  acl: [transfer{acl}]\n",
            self.name
        );
        if let Source::Primary(_) = self.source {
            writeln!(text, "  master: primary-{z}").unwrap();
        }
        let notify: Vec<_> = (0..self.notify.len())
            .map(|n| format!("notify-{z}-{n}"))
            .collect();
        if !notify.is_empty() {
            writeln!(text, "  notify: [{}]", notify.join(", ")).unwrap();
        }
        text
    }
}

/// A running `knotd`; ends when dropped.
#[derive(Debug)]
pub struct RunningKnot {
    /// The process, for pausing and killing.
    pub process: Process,
    addresses: Vec<SocketAddr>,
    awaited: Vec<String>,
    directory: TempDir,
    _port: Option<Port>,
}

impl RunningKnot {
    /// The first address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Every address it listens on.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends it; [`RunningKnot::start_again`] undoes that.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it with what it had.
    pub fn start_again(&mut self) {
        self.process.stop();
        self.process = start_knotd(self.directory.path());
        self.wait();
    }

    fn wait(&mut self) {
        let (addresses, zones) = (&self.addresses, &self.awaited);
        self.process
            .wait_until("an answer for each zone at each address", || {
                addresses
                    .iter()
                    .all(|&at| zones.iter().all(|zone| dns::serial(at, zone).is_some()))
            });
    }
}

fn start_knotd(directory: &Path) -> Process {
    let mut command = server("knotd");
    command.arg("-c").arg(directory.join("knot.conf"));
    Process::start("knotd", command, directory)
}
