//! BIND's `named`, authoritative only.
//!
//! It listens only on addresses that an interface has: 127.0.0.1 and ::1, and others after [`add_loopback`].

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::dns;
use super::ports::{self, Port};
use super::process::{Process, server};
use super::tsig::Key;
use super::zone;

/// What a `named` is started with.
#[derive(Debug, Default)]
pub struct Bind {
    listen: Vec<IpAddr>,
    port: Option<u16>,
    keys: Vec<Key>,
    zones: Vec<Zone>,
    options: String,
    clock_ahead: i32,
    forwarder: Option<SocketAddr>,
}

/// One zone of a `named`.
#[derive(Debug)]
pub struct Zone {
    name: String,
    text: Option<String>,
    statements: String,
    awaited: bool,
}

impl Zone {
    /// A primary with the text of its zone file (see [`zone::text`]).
    pub fn primary(name: &str, text: impl Into<String>) -> Self {
        let statements = "type primary;".to_owned();
        Self {
            name: name.to_owned(),
            text: Some(text.into()),
            statements,
            awaited: true,
        }
    }

    /// A secondary that transfers from `primaries`; [`Bind::start`] waits for the first transfer.
    pub fn secondary(name: &str, primaries: &[SocketAddr]) -> Self {
        let mut statements = "type secondary; masterfile-format text; primaries {".to_owned();
        for primary in primaries {
            write!(statements, " {} port {};", primary.ip(), primary.port()).expect("a String");
        }
        statements += " };";
        Self {
            name: name.to_owned(),
            text: None,
            statements,
            awaited: true,
        }
    }

    /// Grants updates by rules, e.g. `grant acme name _acme-challenge.example.test TXT;`.
    pub fn update_policy(self, rules: &str) -> Self {
        self.statement(&format!("update-policy {{ {rules} }};"))
    }

    /// Grants every update to one key.
    pub fn allow_update(self, key: &Key) -> Self {
        self.statement(&format!("allow-update {{ key \"{}\"; }};", key.name))
    }

    /// Tells these servers of each change.
    pub fn notify(self, secondaries: &[SocketAddr]) -> Self {
        let list = secondaries.iter().fold(String::new(), |list, secondary| {
            format!("{list} {} port {};", secondary.ip(), secondary.port())
        });
        self.statement(&format!("notify explicit; also-notify {{{list} }};"))
    }

    /// Adds any statement to the zone's block.
    pub fn statement(mut self, statement: &str) -> Self {
        self.statements = format!("{} {statement}", self.statements);
        self
    }

    /// The server counts as started before it has this zone.
    pub fn not_awaited(mut self) -> Self {
        self.awaited = false;
        self
    }
}

impl Bind {
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

    /// Adds any statement to the `options` block.
    pub fn option(mut self, statement: &str) -> Self {
        self.options = format!("{}{statement}\n", self.options);
        self
    }

    /// Makes it a resolver with a cache, that asks `server` for everything.
    pub fn resolving_at(mut self, server: SocketAddr) -> Self {
        self.forwarder = Some(server);
        self
    }

    /// Gives it a clock that is so many seconds ahead of everybody's; [`RunningBind::start_again`] sets it right.
    pub fn clock_ahead(mut self, seconds: i32) -> Self {
        self.clock_ahead = seconds;
        self
    }

    /// Starts it and waits until every address answers for every zone.
    pub fn start(mut self) -> RunningBind {
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
        let directory = TempDir::with_prefix("countersign-bind-").expect("a temporary directory");
        self.write_files(directory.path(), port);

        let process = start_named(directory.path(), self.clock_ahead);
        let awaited = self
            .zones
            .into_iter()
            .filter(|zone| zone.awaited)
            .map(|zone| zone.name);
        let mut running = RunningBind {
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
        for zone in &self.zones {
            if let Some(text) = &zone.text {
                let path = directory.join(zone::file_name(&zone.name));
                std::fs::write(path, text).expect("a zone file can be written");
            }
        }
        let configuration = self.configuration(directory, port);
        std::fs::write(directory.join("named.conf"), configuration).expect("a file can be written");
    }

    fn configuration(&self, directory: &Path, port: u16) -> String {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = self.listen.iter().partition(|ip| ip.is_ipv4());
        let list = |addresses: &[IpAddr]| match addresses {
            [] => "none;".to_owned(),
            some => some
                .iter()
                .fold(String::new(), |list, ip| format!("{list}{ip}; ")),
        };
        let mut text = format!(
            "options {{
directory \"{}\";
listen-on port {port} {{ {} }};
listen-on-v6 port {port} {{ {} }};
pid-file none;
session-keyfile none;
{resolving}
dnssec-validation no;
empty-zones-enable no;
allow-transfer {{ any; }};
notify no;
notify-delay 0;
tcp-clients 1000;
{}}};
controls {{ }};
",
            directory.display(),
            list(&v4),
            list(&v6),
            self.options,
            resolving = match self.forwarder {
                None => "recursion no;".to_owned(),
                Some(at) => format!(
                    "recursion yes; forward only; forwarders {{ {} port {}; }};",
                    at.ip(),
                    at.port()
                ),
            },
        );
        for key in &self.keys {
            text += &key.keyfile();
        }
        for zone in &self.zones {
            let file = zone::file_name(&zone.name);
            writeln!(
                text,
                "zone \"{}\" {{ file \"{file}\"; {} }};",
                zone.name, zone.statements
            )
            .expect("a String");
        }
        text
    }
}

/// A running `named`; ends when dropped.
#[derive(Debug)]
pub struct RunningBind {
    /// The process, for pausing and killing.
    pub process: Process,
    addresses: Vec<SocketAddr>,
    awaited: Vec<String>,
    directory: TempDir,
    _port: Option<Port>,
}

impl RunningBind {
    /// The first address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Every address it listens on.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its zone files and journals are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it; [`RunningBind::start_again`] undoes that.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it with what it had.
    pub fn start_again(&mut self) {
        self.process.stop();
        self.process = start_named(self.directory.path(), 0);
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

fn start_named(directory: &Path, clock_ahead: i32) -> Process {
    let mut command = server("named");
    // In the foreground, with its log on stderr, two worker threads.
    command
        .args(["-g", "-n", "2", "-c"])
        .arg(directory.join("named.conf"));
    if clock_ahead != 0 {
        command
            .env("LD_PRELOAD", other_clock(directory))
            .env("COUNTERSIGN_CLOCK_AHEAD", clock_ahead.to_string());
    }
    Process::start("named", command, directory)
}

/// Builds what gives a process another clock.
fn other_clock(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/other_clock.c");
    let library = directory.join("other_clock.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]);
    let output = compiler.arg(&library).arg(source).output();
    let output = output.expect("the C compiler `cc`");
    assert!(output.status.success(), "{output:?}");
    library
}

/// Gives the loopback interface one more address, which BIND needs before it listens there; needs root.
pub fn add_loopback(address: IpAddr) {
    let length = if address.is_ipv4() { 8 } else { 128 };
    let output = Command::new("ip")
        .args([
            "address",
            "replace",
            &format!("{address}/{length}"),
            "dev",
            "lo",
        ])
        .output()
        .expect("the program `ip` (Debian: iproute2)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cannot add {address} to lo: {said}"
    );
}
