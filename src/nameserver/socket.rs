//! UDP and TCP of the built-in server, and what keeps strangers from exhausting it (RFC 7766, RFC 9210).
//!
//! Sockets and limits only: bytes go to `answer` and come back. One socket for each address listened on, so a
//! reply leaves from the address that was asked; a wildcard address cannot promise that on a host with several.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_providers::clock::Clock;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tracing::{debug, trace};

use crate::passed::PassedSockets;
use crate::supervise;

use super::answer::{Transport, answer};
use super::zone::Published;

/// TCP connections at once, and from one address (a /64 of IPv6).
const MAX_CONNECTIONS: usize = 256;
const MAX_PER_ADDRESS: usize = 16;
/// How long a connection may wait for its next query (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// How long one query or one reply may take to pass once it has begun.
const MESSAGE: Duration = Duration::from_secs(5);
/// How long one connection may live, however busy: so that nobody owns a slot.
const LIFE: Duration = Duration::from_secs(120);
/// How long to wait after the system refused: for free descriptors or memory, never in a busy loop.
const BACK_OFF: Duration = Duration::from_millis(100);
/// No query is larger than what UDP carries here; the rest of a larger datagram is cut off.
const MAX_QUERY: usize = 4096;
/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 128;
/// How often a free port is looked for that both UDP and TCP can have.
const PORT_TRIES: usize = 20;

/// The pair of sockets of one address.
pub(super) struct Listener {
    udp: UdpSocket,
    tcp: TcpListener,
    /// The address with the port that was really taken.
    pub(super) address: SocketAddr,
}

impl Listener {
    /// Takes `address` for UDP and TCP, each from `passed` if it is there; with port 0 the same free one for both.
    pub(super) async fn bind(address: SocketAddr, passed: &PassedSockets) -> io::Result<Self> {
        let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            let tcp = match passed.tcp(address) {
                Some(listener) => TcpListener::from_std(listener)?,
                None => open_tcp(address)?,
            };
            let taken = tcp.local_addr()?;
            tries -= 1;
            let udp = match passed.udp(taken) {
                Some(socket) => UdpSocket::from_std(socket),
                None => open_udp(taken),
            };
            match udp {
                Ok(udp) => {
                    let address = taken;
                    return Ok(Self { udp, tcp, address });
                }
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Serves until the returned tasks are aborted.
    pub(super) fn serve(
        self,
        zone: &Arc<Published>,
        guests: &Arc<Guests>,
        clock: &Clock,
    ) -> [tokio::task::JoinHandle<()>; 2] {
        let (at, udp, tcp) = (self.address, self.udp, self.tcp);
        let (answers, guests, waits) = (Arc::clone(zone), Arc::clone(guests), clock.clone());
        let by_tcp = async move {
            let what = format!("the nameserver at TCP {at}");
            while supervise::fell_over(&what, serve_tcp(&tcp, &answers, &guests, &waits)).await {
                waits.sleep(BACK_OFF).await;
            }
        };
        let (answers, waits) = (Arc::clone(zone), clock.clone());
        let by_udp = async move {
            let what = format!("the nameserver at UDP {at}");
            while supervise::fell_over(&what, serve_udp(&udp, &answers, &waits)).await {
                waits.sleep(BACK_OFF).await;
            }
        };
        [tokio::spawn(by_udp), tokio::spawn(by_tcp)]
    }
}

fn open_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(address, SocketType::DGRAM)?;
    rustix::net::bind(&socket, &address)?;
    UdpSocket::from_std(socket.into())
}

fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, SocketType::STREAM)?;
    // Connections of the process before this one must not keep the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket for one family alone, so that `0.0.0.0` and `[::]` can both be listened on.
fn open(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

async fn serve_udp(socket: &UdpSocket, zone: &Published, clock: &Clock) {
    let mut buffer = vec![0; MAX_QUERY];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "cannot receive by UDP");
                clock.sleep(BACK_OFF).await;
                continue;
            }
        };
        // A reply to port 0 can reach nobody.
        if peer.port() == 0 {
            continue;
        }
        let query = &buffer[..length];
        let reply = answer(&zone.current(), query, Transport::Udp);
        trace!(%peer, octets = length, reply = reply.as_ref().map(Vec::len), "a query by UDP");
        if let Some(reply) = reply
            && let Err(error) = socket.send_to(&reply, peer).await
        {
            trace!(%peer, %error, "cannot reply by UDP");
        }
    }
}

async fn serve_tcp(
    listener: &TcpListener,
    zone: &Arc<Published>,
    guests: &Arc<Guests>,
    clock: &Clock,
) {
    // Ends the connections with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&guests.places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "cannot accept by TCP");
                clock.sleep(BACK_OFF).await;
                continue;
            }
        };
        let Some(guest) = guests.admit(peer.ip()) else {
            trace!(%peer, "too many connections from one address");
            continue;
        };
        let (zone, clock) = (Arc::clone(zone), clock.clone());
        connections.spawn(async move {
            let (_place, _guest) = (place, guest);
            let ended = clock.timeout(LIFE, converse(stream, &zone, &clock)).await;
            trace!(%peer, ?ended, "a TCP connection ended");
        });
    }
}

/// Answers query after query until the client goes, waits too long or sends nonsense.
async fn converse(stream: TcpStream, zone: &Published, clock: &Clock) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let length = within(clock, IDLE, stream.read_u16()).await?;
        let mut query = vec![0; usize::from(length)];
        within(clock, MESSAGE, stream.read_exact(&mut query)).await?;
        let Some(reply) = answer(&zone.current(), &query, Transport::Tcp) else {
            return Ok(());
        };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let mut framed = Vec::with_capacity(reply.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&reply);
        within(clock, MESSAGE, stream.write_all(&framed)).await?;
    }
}

async fn within<T>(
    clock: &Clock,
    limit: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    clock
        .timeout(limit, step)
        .await
        .unwrap_or_else(|| Err(late()))
}

/// Who is connected by TCP, over all listeners.
pub(super) struct Guests {
    places: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Guests {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            by_address: Mutex::new(HashMap::new()),
        })
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let address = neighbourhood(address);
        let mut counts = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= MAX_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Guest {
            guests: Arc::clone(self),
            address,
        })
    }
}

/// One admitted connection; leaves when dropped.
struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self
            .guests
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// The address, or the /64 it is in: one subscriber has a whole one.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}
