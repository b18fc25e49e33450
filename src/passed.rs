//! Sockets that whoever started the process passes to it (`sd_listen_fds(3)`), found by the addresses that they have.
//!
//! With them a port below 1024 takes no capability. Whoever listens asks here first and takes a socket of its own where
//! there is none.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use listenfd::ListenFd;

/// What was passed and is not taken yet; cheap to clone.
#[derive(Clone, Default)]
pub struct PassedSockets(Arc<Mutex<Vec<Passed>>>);

enum Passed {
    Tcp(SocketAddr, TcpListener),
    Udp(SocketAddr, UdpSocket),
}

/// Something was passed that can be no listener of ours.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}; let `countersign.socket` have `ListenStream=` and `ListenDatagram=` with an address and a port each"
)]
pub struct PassedError(String);

impl PassedSockets {
    /// All that were passed. Changes the environment, so that children take them for nothing of theirs: to be called
    /// before there is a second thread.
    pub fn receive() -> Result<Self, PassedError> {
        let mut received = ListenFd::from_env();
        let all = (0..received.len()).map(|nth| Passed::nth(&mut received, nth));
        let all = all
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| PassedError(format!("a passed socket cannot be used: {error}")))?;
        Ok(Self(Arc::new(Mutex::new(all))))
    }

    /// As if these two had been passed.
    #[cfg(test)]
    pub(crate) fn of(tcp: TcpListener, udp: UdpSocket) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let all = vec![
            Passed::Tcp(tcp.local_addr()?, tcp),
            Passed::Udp(udp.local_addr()?, udp),
        ];
        Ok(Self(Arc::new(Mutex::new(all))))
    }

    /// The TCP listener for `address`, if it was passed: ready for tokio, and given once.
    pub fn tcp(&self, address: SocketAddr) -> Option<TcpListener> {
        let is_wanted = |it: &Passed| matches!(it, Passed::Tcp(at, _) if *at == address);
        match self.take(is_wanted) {
            Some(Passed::Tcp(_, listener)) => Some(listener),
            _ => None,
        }
    }

    /// The UDP socket for `address`, if it was passed: ready for tokio, and given once.
    pub fn udp(&self, address: SocketAddr) -> Option<UdpSocket> {
        let is_wanted = |it: &Passed| matches!(it, Passed::Udp(at, _) if *at == address);
        match self.take(is_wanted) {
            Some(Passed::Udp(_, socket)) => Some(socket),
            _ => None,
        }
    }

    /// A sentence about those that nobody took, and that nobody will answer at.
    pub fn unwanted(&self) -> Option<String> {
        let sockets = self.sockets();
        let left = sockets.iter().map(|it| match it {
            Passed::Tcp(at, _) => format!("TCP {at}"),
            Passed::Udp(at, _) => format!("UDP {at}"),
        });
        let left = left.collect::<Vec<_>>().join(", ");
        (!left.is_empty()).then(|| {
            format!(
                "nobody answers at {left}: passed by systemd, and no `listen` of the configuration names exactly that; correct `countersign.socket` or the configuration, and restart both"
            )
        })
    }

    fn take(&self, is_wanted: impl Fn(&Passed) -> bool) -> Option<Passed> {
        let mut sockets = self.sockets();
        let nth = sockets.iter().position(is_wanted)?;
        Some(sockets.swap_remove(nth))
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Passed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passed {
    /// Whoever passes a socket decides whether it blocks; here none may.
    fn nth(received: &mut ListenFd, nth: usize) -> io::Result<Self> {
        if let Ok(Some(listener)) = received.take_tcp_listener(nth) {
            listener.set_nonblocking(true)?;
            return Ok(Self::Tcp(listener.local_addr()?, listener));
        }
        match received.take_udp_socket(nth) {
            Ok(Some(socket)) => {
                socket.set_nonblocking(true)?;
                Ok(Self::Udp(socket.local_addr()?, socket))
            }
            Ok(None) => Err(io::ErrorKind::NotFound.into()),
            Err(_) => Err(io::Error::other("it is neither TCP nor UDP")),
        }
    }
}
