//! The built-in nameserver for delegated challenge names: authoritative for one zone, a provider like any other.
//!
//! `zone` holds the snapshot that queries are answered from, `answer` turns a query into a reply and does nothing
//! else, `socket` owns UDP and TCP and their limits, `provider` changes the zone. It is no resolver, has no
//! secondaries, signs nothing and takes no UPDATE.

mod answer;
mod provider;
mod socket;
#[cfg(test)]
mod tests;
mod zone;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use countersign_providers::clock::Clock;
use countersign_providers::record::DnsName;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

pub use answer::{Transport, answer};
pub use provider::BuiltIn;
pub use zone::Snapshot;

use crate::passed::PassedSockets;
use crate::store::{Fence, Store, StoreError};
use socket::{Guests, Listener};

/// What the built-in server is told by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The zone it is authoritative for.
    pub zone: DnsName,
    /// Where it listens, UDP and TCP each.
    pub listen: Vec<SocketAddr>,
    /// Host names inside the zone and their addresses; these are the zone's NS RRset too.
    pub hosts: BTreeMap<DnsName, Vec<IpAddr>>,
}

/// The server: a provider from the beginning, answering from the first [`Nameserver::listen`] on; it stops when dropped.
pub struct Nameserver {
    provider: Arc<BuiltIn>,
    listen: Vec<SocketAddr>,
    clock: Clock,
    running: OnceCell<Running>,
}

struct Running {
    addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Nameserver {
    /// Loads the values that the store holds. Changes are committed under `fence`.
    pub async fn open(
        settings: Settings,
        store: Arc<dyn Store>,
        fence: Fence,
        clock: Clock,
    ) -> Result<Self, NameserverError> {
        check(&settings)?;
        let listen = settings.listen.clone();
        let provider = BuiltIn::load(settings, store, fence, clock.now()).await?;
        Ok(Self {
            provider: Arc::new(provider),
            listen,
            clock,
            running: OnceCell::new(),
        })
    }

    /// Takes the sockets, unless that is done, and answers from then on. The addresses with the ports that were really
    /// taken, in the order of the settings.
    pub async fn listen(&self) -> Result<&[SocketAddr], NameserverError> {
        self.listen_with(&PassedSockets::default()).await
    }

    /// The same, with those of `passed` that are for its addresses.
    pub async fn listen_with(
        &self,
        passed: &PassedSockets,
    ) -> Result<&[SocketAddr], NameserverError> {
        let start = || self.start(passed);
        let running = self.running.get_or_try_init(start).await?;
        Ok(&running.addresses)
    }

    async fn start(&self, passed: &PassedSockets) -> Result<Running, NameserverError> {
        let mut listeners = Vec::new();
        for &address in &self.listen {
            let bound = Listener::bind(address, passed).await;
            listeners.push(bound.map_err(|error| cannot_listen(address, &error))?);
        }
        let guests = Guests::new();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.address).collect();
        let tasks = listeners
            .into_iter()
            .flat_map(|listener| listener.serve(self.provider.published(), &guests, &self.clock))
            .collect();
        debug!(?addresses, "the built-in nameserver answers");
        Ok(Running { addresses, tasks })
    }

    /// The server as a provider.
    pub fn provider(&self) -> Arc<BuiltIn> {
        Arc::clone(&self.provider)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Why the built-in server does not run.
#[derive(Debug, thiserror::Error)]
pub enum NameserverError {
    /// The settings contradict themselves.
    #[error("{0}")]
    Settings(String),
    /// A socket cannot be had.
    #[error("the built-in nameserver cannot listen on {address}: {reason}")]
    Listen {
        /// Where it should listen.
        address: SocketAddr,
        /// What the system said, and what to do about it.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn check(settings: &Settings) -> Result<(), NameserverError> {
    let zone = &settings.zone;
    if settings.listen.is_empty() {
        let message = format!("the built-in nameserver for {zone} is told no address to listen on");
        return Err(NameserverError::Settings(message));
    }
    let only_wildcards = settings.listen.iter().all(|at| at.ip().is_unspecified());
    if settings.hosts.is_empty() && only_wildcards {
        let message = format!(
            "the built-in nameserver for {zone} does not know its own address; set `hosts: {{ns1.{zone}: [ADDRESS]}}`"
        );
        return Err(NameserverError::Settings(message));
    }
    for (host, addresses) in &settings.hosts {
        if addresses.is_empty() {
            let message = format!("the host {host} of the built-in nameserver has no address");
            return Err(NameserverError::Settings(message));
        }
        if !host.is_at_or_below(zone) {
            let message = format!(
                "the host {host} of the built-in nameserver is not in its zone {zone}; name it `ns1.{zone}`"
            );
            return Err(NameserverError::Settings(message));
        }
    }
    for address in &settings.listen {
        if address.ip().is_unspecified() {
            warn!(%address, "on a host with several addresses, UDP replies may leave from another one than was asked; list the addresses instead");
        }
    }
    Ok(())
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> NameserverError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need a socket from systemd (`countersign.socket`) or CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrInUse => "; another program has the port, see `ss -lnptu`",
        io::ErrorKind::AddrNotAvailable => "; no interface of this host has the address",
        _ => "",
    };
    NameserverError::Listen {
        address,
        reason: format!("{error}{hint}"),
    }
}
