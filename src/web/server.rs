//! The sockets, and what keeps strangers from exhausting them: few connections, each small, short and for one request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use countersign_providers::clock::Clock;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::host::Names;
use super::{Served, routes};
use crate::config::WebSettings;
use crate::passed::PassedSockets;
use crate::supervise;

/// Connections at once; a further one ends the oldest, so that whoever dawdles stands in nobody's way.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may last, from its first byte to the last one of the reply; Prometheus waits that long too.
const LIFE: Duration = Duration::from_secs(10);
/// A request line with its headers is no larger.
const MAX_HEAD: usize = 16 * 1024;
/// Nor has it more headers.
const MAX_HEADERS: usize = 64;
/// After the system refused a connection: for free descriptors, never in a busy loop.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The socket of `web`.
pub struct Server {
    listener: TcpListener,
    names: Arc<Names>,
}

/// A server that answers until this is dropped.
pub struct Running(JoinHandle<()>);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[error("`web` cannot listen on {address}: {error}{}", hint(.error))]
pub struct WebError {
    address: SocketAddr,
    error: io::Error,
}

impl Server {
    /// Takes the socket: one that was passed for its address, else one of its own.
    pub async fn bind(settings: &WebSettings, passed: &PassedSockets) -> Result<Self, WebError> {
        let address = settings.listen;
        let listener = match passed.tcp(address) {
            Some(listener) => TcpListener::from_std(listener),
            None => TcpListener::bind(address).await,
        };
        Ok(Self {
            listener: listener.map_err(|error| WebError { address, error })?,
            names: Arc::new(Names::new(&settings.hosts)),
        })
    }

    /// Answers from now on.
    pub fn start(self, served: Served) -> Running {
        Running(tokio::spawn(async move {
            let clock = served.clock.clone();
            while supervise::fell_over("the web server", self.accept(served.clone())).await {
                clock.sleep(BACK_OFF).await;
            }
        }))
    }

    async fn accept(&self, served: Served) {
        let clock = served.clock.clone();
        let routes = routes(served);
        let mut connections = JoinSet::new();
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let (stream, local) = match self.listener.accept().await.and_then(|(stream, _)| {
                let local = stream.local_addr()?;
                Ok((stream, local))
            }) {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!("web: {error}");
                    clock.sleep(BACK_OFF).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            open.retain(|connection| !connection.is_finished());
            if open.len() >= MAX_CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            let (routes, names) = (routes.clone(), Arc::clone(&self.names));
            let answer = answer(stream, local.ip(), routes, names, clock.clone());
            open.push_back(connections.spawn(answer));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers the one request of a connection that came to `local`.
pub(super) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    local: IpAddr,
    routes: Router,
    names: Arc<Names>,
    clock: Clock,
) {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request: Request<Incoming>| {
        let checked = names.check(&request, local);
        let answer = checked.map(|()| routes.call(request));
        async move {
            match answer {
                Ok(answer) => answer.await,
                Err(refusal) => Ok::<Response, Infallible>(refusal.into_response()),
            }
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever asked is gone, or sends what is no HTTP, or takes too long: there is nobody to tell.
    if let Some(Err(error)) = clock.timeout(LIFE, connection).await {
        tracing::debug!("web: {error}");
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrInUse => {
            "; another program has the port, see `ss -lntp`: stop it, or change `web: {listen: …}`"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this host has the address",
        _ => "",
    }
}
