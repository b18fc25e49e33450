//! A small ACME authority (RFC 8555) for tests and for demonstrations.
//!
//! It speaks HTTPS, looks dns-01 up over real DNS packets, and issues from a root and an
//! intermediate that it makes when it starts. It shares no code with the client that it tests, so
//! that it can disagree; it is strict where the standard is, and behaves like Let's Encrypt where
//! the standard leaves room. It is no authority for anything but tests: keys live in memory and
//! one process holds everything.
//!
//! Not here: external account binding, renewal information (RFC 9773), pre-authorization, CAA,
//! rate limits, and reuse of orders or authorizations.

mod accounts;
mod clock;
mod faults;
mod http;
mod issue;
mod jws;
mod names;
mod nonces;
mod orders;
mod post;
mod problem;
mod reply;
mod state;
mod validate;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use clock::Clock;
pub use faults::{Endpoint, Faults};
pub use problem::{Kind, Problem};
pub use state::Status;

use issue::{HttpsIdentity, Issuing};
use state::State;

/// What an authority is to be like.
#[derive(Clone)]
pub struct Settings {
    /// Where HTTPS is served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The nameserver that is asked for TXT records, by UDP and TCP.
    pub nameserver: SocketAddr,
    /// From `notBefore` to `notAfter` of what is issued.
    pub lifetime: Duration,
    /// How long before the present `notBefore` lies.
    pub backdate: Duration,
    /// Where the time of day comes from.
    pub clock: Clock,
    /// How long an order may stay pending or ready.
    pub order_lifetime: Duration,
    /// Sent with orders, authorizations and challenges that are not at their end.
    pub retry_after: Option<Duration>,
    /// How many looks at an order after `finalize` it takes until it is valid.
    pub processing_looks: u32,
    /// Share of good nonces that are rejected all the same.
    pub nonce_reject_percent: u8,
    /// Decides which nonces these are.
    pub nonce_reject_seed: u64,
    /// Profiles by name with their descriptions (draft-ietf-acme-profiles).
    pub profiles: BTreeMap<String, String>,
    /// Called for every request that was answered.
    pub log: Option<LogHook>,
}

/// See [`Settings::log`].
pub type LogHook = Arc<dyn Fn(&Seen<'_>) + Send + Sync>;

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The resource.
    pub endpoint: Endpoint,
    /// The HTTP method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The HTTP status of the answer.
    pub status: u16,
}

/// An order as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderSummary {
    /// Counted from 1 in the order of making.
    pub id: u64,
    /// The account, counted likewise.
    pub account: u64,
    /// What was ordered, sorted.
    pub names: Vec<String>,
    /// Where it stands.
    pub status: Status,
    /// The serial number of what was issued, in lower-case hexadecimal.
    pub certificate: Option<String>,
}

/// A running authority. Dropping it ends every connection and task.
pub struct Authority {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
    https_root_pem: String,
}

/// The authority could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not to be had.
    #[error("the test authority cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Keys or certificates could not be made.
    #[error("the test authority cannot make its own certificates: {0}")]
    Certificates(#[from] rcgen::Error),
    /// The TLS side refuses what was made.
    #[error("the test authority cannot serve TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Settings {
    /// An authority on a free port of 127.0.0.1 that asks `nameserver`, by the system's clock.
    pub fn asking(nameserver: SocketAddr) -> Settings {
        Settings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            nameserver,
            lifetime: Duration::from_secs(90 * 86_400),
            backdate: Duration::ZERO,
            clock: Clock::system(),
            order_lifetime: Duration::from_secs(86_400),
            retry_after: None,
            processing_looks: 0,
            nonce_reject_percent: 0,
            nonce_reject_seed: 0,
            profiles: BTreeMap::new(),
            log: None,
        }
    }
}

impl Authority {
    /// Makes keys, binds the port and serves until dropped. Needs a tokio runtime.
    pub async fn start(settings: Settings) -> Result<Authority, StartError> {
        let listen = |source| StartError::Listen {
            address: settings.listen,
            source,
        };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        // TLS clients check by the system's clock, whatever the authority's own is.
        let identity = HttpsIdentity::generate(address.ip(), Clock::system().now())?;
        let tls = tls_acceptor(identity.chain, identity.key)?;
        let issuing = Issuing::generate(settings.clock.now())?;
        let mut state = State::default();
        state
            .nonces
            .reject(settings.nonce_reject_percent, settings.nonce_reject_seed);
        let shared = Arc::new(Shared {
            base: format!("https://{address}"),
            settings,
            issuing,
            state: Mutex::new(state),
            tasks: Mutex::new(JoinSet::new()),
        });
        let server = tokio::spawn(http::serve(Arc::clone(&shared), listener, tls));
        Ok(Authority {
            shared,
            server,
            https_root_pem: identity.root_pem,
        })
    }

    /// Where clients begin.
    pub fn directory_url(&self) -> String {
        self.shared.url("/directory")
    }

    /// The root to trust for the authority's own HTTPS.
    pub fn https_root_pem(&self) -> &str {
        &self.https_root_pem
    }

    /// The root of what it issues.
    pub fn issuing_root_pem(&self) -> &str {
        &self.shared.issuing.root_pem
    }

    /// How many requests came to each resource so far, refused ones included.
    pub fn requests(&self) -> BTreeMap<Endpoint, u64> {
        self.shared.state().requests.clone()
    }

    /// Every order it remembers, oldest first.
    pub fn orders(&self) -> Vec<OrderSummary> {
        let now = self.shared.now();
        let mut state = self.shared.state();
        let summary = |(id, order): (u64, &state::Order)| OrderSummary {
            id,
            account: order.account,
            names: order.names.clone(),
            status: order.status,
            certificate: order.certificate.clone(),
        };
        state.orders(now).map(summary).collect()
    }

    /// Whether the certificate with this serial number (lower-case hexadecimal) was revoked.
    pub fn is_revoked(&self, serial: &str) -> bool {
        self.shared
            .state()
            .certificate(serial)
            .is_some_and(|certificate| certificate.revoked)
    }

    /// What can be made to go wrong.
    pub fn faults(&self) -> Faults {
        Faults(Arc::clone(&self.shared))
    }

    /// Ends it and waits until the port is free again.
    pub async fn shutdown(mut self) {
        self.server.abort();
        _ = (&mut self.server).await;
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.server.abort();
        self.shared.tasks().abort_all();
    }
}

/// What every request sees.
struct Shared {
    settings: Settings,
    base: String,
    issuing: Issuing,
    state: Mutex<State>,
    /// Validations under way.
    tasks: Mutex<JoinSet<()>>,
}

impl Shared {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn now(&self) -> Timestamp {
        self.settings.clock.now()
    }

    /// `by` before now, in whole seconds.
    fn earlier(&self, by: Duration) -> Timestamp {
        let now = clock::whole_second(self.now());
        jiff::SignedDuration::try_from(by)
            .ok()
            .and_then(|by| now.checked_sub(by).ok())
            .unwrap_or(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }
}

fn tls_acceptor(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
