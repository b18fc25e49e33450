//! Unbound, the resolver. It remembers nothing, and asks only the servers it is told of.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use tempfile::TempDir;

use super::dns;
use super::ports::{self, Port};
use super::process::{Process, server};

/// Answered by Unbound itself, so that a test need not wait for the servers behind it.
const READY: &str = "ready.unbound.alt";

/// What an `unbound` is started with.
#[derive(Debug, Default)]
pub struct Unbound {
    listen: Option<IpAddr>,
    zones: String,
    options: String,
}

impl Unbound {
    /// A resolver on 127.0.0.1 and a free port that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on this address instead; any of 127.0.0.0/8 will do.
    pub fn listen(mut self, address: impl Into<IpAddr>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Asks these authoritative servers (RD=0) for `zone` and what is below it. Delegations inside lead to port 53,
    /// so a zone that is served on another port needs a stub of its own.
    pub fn stub(self, zone: &str, servers: &[SocketAddr]) -> Self {
        self.ask("stub", zone, servers)
    }

    /// Asks these resolvers (RD=1) for `zone` and what is below it.
    pub fn forward(self, zone: &str, servers: &[SocketAddr]) -> Self {
        self.ask("forward", zone, servers)
    }

    fn ask(mut self, kind: &str, zone: &str, servers: &[SocketAddr]) -> Self {
        writeln!(
            self.zones,
            "{kind}-zone:\n  name: \"{zone}\"\n  {kind}-no-cache: yes"
        )
        .unwrap();
        for server in servers {
            writeln!(
                self.zones,
                "  {kind}-addr: {}@{}",
                server.ip(),
                server.port()
            )
            .unwrap();
        }
        self
    }

    /// Adds any setting to the `server:` section.
    pub fn option(mut self, setting: &str) -> Self {
        self.options = format!("{}  {setting}\n", self.options);
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> RunningUnbound {
        let port = ports::free();
        let ip = self.listen.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let address = SocketAddr::new(ip, port.number());
        let directory =
            TempDir::with_prefix("countersign-unbound-").expect("a temporary directory");
        let file = directory.path().join("unbound.conf");
        std::fs::write(&file, self.configuration(directory.path(), address))
            .expect("a file can be written");

        let mut command = server("unbound");
        command.args(["-d", "-c"]).arg(file);
        let mut process = Process::start("unbound", command, directory.path());
        process.wait_until("an answer", || {
            dns::query(address, READY, hickory_proto::rr::RecordType::TXT)
                .is_ok_and(|reply| !reply.answers.is_empty())
        });
        RunningUnbound {
            process,
            address,
            _directory: directory,
            _port: port,
        }
    }

    fn configuration(&self, directory: &Path, address: SocketAddr) -> String {
        // `.test` is one of the names that Unbound answers itself unless told otherwise (RFC 6761).
        format!(
            "server:
  interface: {ip}
  port: {port}
  do-daemonize: no
  username: \"\"
  chroot: \"\"
  directory: \"{directory}\"
  pidfile: \"\"
  use-syslog: no
  verbosity: 1
  num-threads: 1
  module-config: \"iterator\"
  do-not-query-localhost: no
  access-control: 0.0.0.0/0 refuse
  access-control: 127.0.0.0/8 allow
  access-control: ::1/128 allow
  qname-minimisation: no
  cache-max-ttl: 0
  cache-max-negative-ttl: 0
  infra-host-ttl: 1
  local-zone: \"test.\" nodefault
  local-zone: \"{READY}.\" static
  local-data: \"{READY}. 0 IN TXT yes\"
{options}{zones}remote-control:
  control-enable: no
",
            ip = address.ip(),
            port = address.port(),
            directory = directory.display(),
            options = self.options,
            zones = self.zones,
        )
    }
}

/// A running `unbound`; ends when dropped.
#[derive(Debug)]
pub struct RunningUnbound {
    /// The process, for pausing and killing.
    pub process: Process,
    address: SocketAddr,
    _directory: TempDir,
    _port: Port,
}

impl RunningUnbound {
    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}
