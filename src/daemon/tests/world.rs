//! The daemon as it is wired, in a runtime whose time is paused: days pass in no time, while the authority and the
//! nameserver beside it speak HTTPS and DNS over loopback. Only the store is in memory.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_providers::clock::{Clock, Wall, earlier, later};
use countersign_testca::{Authority, Endpoint, Faults, Settings};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::daemon::Daemon;
use crate::engine::certificate::{Certificate, Issued};
use crate::engine::names::CertificateName;
use crate::notify::Notifier;
use crate::passed::PassedSockets;
use crate::run::overview::Overview;
use crate::run::progress::Watchers;
use crate::run::records;
use crate::run::scheduler::{self, Order, Pulse};
use crate::run::shared::{Shared, specification};
use crate::run::stop::Stop;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{Saved, Sealer, Session, Store};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// When everything begins.
pub(super) const START: &str = "2026-03-01T00:00:00Z";
/// Of what the authority issues.
pub(super) const LIFETIME: Duration = Duration::from_secs(60 * 86_400);

/// A daemon and everything around it.
pub(super) struct World {
    /// What the daemon's clock shows.
    pub(super) clock: Clock,
    /// Sets it wrong.
    pub(super) wall: Arc<Wall>,
    /// The right time, which the authority has too.
    pub(super) truth: Clock,
    true_wall: Arc<Wall>,
    store: Arc<FaultyStore>,
    pub(super) faults: Faults,
    authority: Authority,
    shared: Arc<Shared>,
    config: Config,
    session: Session,
    orders: mpsc::Sender<Order>,
    stop: Stop,
    serving: JoinHandle<()>,
    seen: Arc<Mutex<Vec<(Timestamp, String)>>>,
    notifier: Notifier,
    alerts: Arc<Mutex<Vec<String>>>,
    _directory: TempDir,
}

impl World {
    /// A daemon with a certificate for each of `ends`, issued so that it ends that long after the start.
    pub(super) async fn begin(ends: &[Duration]) -> Self {
        let start: Timestamp = START.parse().unwrap();
        let (truth, true_wall) = Clock::of_runtime(start);
        let (clock, wall) = Clock::of_runtime(start);
        let (nameserver, passed) = port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let authority = Authority::start(Settings {
            lifetime: LIFETIME,
            clock: countersign_testca::Clock::told({
                let truth = truth.clone();
                move || truth.now()
            }),
            ..Settings::asking(nameserver)
        })
        .await
        .unwrap();
        let directory = TempDir::new().unwrap();
        let alerts = Arc::new(Mutex::new(Vec::new()));
        let hook = webhook(&alerts).await;
        let mut config = configuration(&authority, nameserver, hook, &directory);
        for nth in 0..ends.len() {
            config.push_str(&format!("  c{nth}: {{names: [{}]}}\n", host(nth)));
        }
        let file = directory.path().join("countersign.yaml");
        let config = Config::parse(&file, &config).unwrap();
        let store = Arc::new(FaultyStore::new());
        let sealer = Sealer::ephemeral(&*store).unwrap();
        let fence = store.lease("worker", "test", start, Duration::ZERO).await;
        let session = Session::new(Arc::clone(&store) as Arc<dyn Store>, fence.unwrap());
        for (nth, end) in ends.iter().enumerate() {
            seed(&session, &config, nth, later(start, *end)).await;
        }
        let watchers = Watchers::default();
        let daemon = Daemon::with(&config, session.clone(), sealer, clock.clone(), watchers);
        let shared = daemon.await.unwrap().shared;
        let built_in = shared.nameserver.as_ref().unwrap();
        built_in.listen_with(&passed).await.unwrap();
        let stop = Stop::default();
        let (orders, told) = mpsc::channel(1);
        let notifier = Notifier::start(Arc::clone(&shared));
        let pulse = Pulse {
            every: Duration::from_secs(60),
            beat: Box::new(|| {}),
        };
        let serving = scheduler::serve(Arc::clone(&shared), told, stop.clone(), pulse);
        let serving = tokio::spawn(serving);
        let mut told = shared.watchers.listen();
        tokio::spawn({
            let (seen, truth) = (Arc::clone(&seen), truth.clone());
            async move {
                while let Some((name, progress)) = told.recv().await {
                    if let crate::run::progress::Progress::Issued(_) = progress {
                        let mut seen = seen.lock().unwrap();
                        seen.push((truth.now(), name.to_string()));
                    }
                }
            }
        });
        Self {
            clock,
            wall,
            truth,
            true_wall,
            store,
            faults: authority.faults(),
            authority,
            shared,
            config,
            session,
            orders,
            stop,
            serving,
            seen,
            notifier,
            alerts,
            _directory: directory,
        }
    }

    /// Lets time pass.
    pub(super) async fn pass(&self, duration: Duration) {
        assert!(
            !self.serving.is_finished(),
            "the scheduler stopped by itself"
        );
        self.truth.sleep(duration).await;
    }

    /// The machine sleeps for so many seconds: nothing runs, and the time of day goes on.
    pub(super) fn suspend(&self, seconds: i64) {
        self.wall.set(seconds);
        self.true_wall.set(seconds);
    }

    /// From now on there is no room in the store, or there is again.
    pub(super) fn fill_disk(&self, is_full: bool) {
        self.store.fail(match is_full {
            true => Fault::BeforeWriting,
            false => Fault::None,
        });
    }

    /// How often it was tried to save something on the full disk.
    pub(super) fn tries(&self) -> usize {
        self.store.refused()
    }

    /// What was issued so far: when, and which.
    pub(super) fn issued(&self) -> Vec<(Timestamp, String)> {
        self.seen.lock().unwrap().clone()
    }

    /// What was said to the webhook.
    pub(super) fn alerts(&self) -> Vec<String> {
        self.alerts.lock().unwrap().clone()
    }

    /// The names in the order in which they were ordered.
    pub(super) fn ordered(&self) -> Vec<String> {
        let orders = self.authority.orders();
        orders
            .into_iter()
            .map(|order| order.names[0].clone())
            .collect()
    }

    /// How many requests of this kind came to the authority.
    pub(super) fn requests(&self, endpoint: Endpoint) -> u64 {
        let requests: BTreeMap<_, _> = self.authority.requests();
        requests.get(&endpoint).copied().unwrap_or_default()
    }

    /// What `status` shows.
    pub(super) async fn status(&self) -> Overview {
        let at_work = self.shared.watchers.at_work();
        let session = Some(&self.session);
        let gathered = Overview::gather(&self.config, session, self.clock.now(), &at_work).await;
        let mut overview = gathered.unwrap();
        overview.notices = self.shared.notices();
        overview
    }

    /// What is to be known before anything else.
    pub(super) fn notices(&self) -> String {
        self.shared.notices().join("\n")
    }

    /// Ends the daemon as SIGTERM does, and has another one go on with the same store.
    pub(super) async fn end(self) {
        self.stop.park();
        self.serving.await.unwrap();
        self.notifier.stop().await;
        drop(self.orders);
    }
}

/// The name on the `nth` certificate.
pub(super) fn host(nth: usize) -> String {
    format!("n{nth}.hosted.test")
}

fn name(nth: usize) -> CertificateName {
    CertificateName::parse(&format!("c{nth}")).unwrap()
}

/// A certificate as if it had been issued long ago.
async fn seed(session: &Session, config: &Config, nth: usize, not_after: Timestamp) {
    let name = name(nth);
    let not_before = earlier(not_after, LIFETIME);
    let mut certificate = Certificate::new(name.clone());
    certificate.epoch = 1;
    certificate.issued(Issued {
        epoch: 1,
        generation: 1,
        specification: specification(&config.certificates[&name]),
        authority: "ca".to_owned(),
        profile: None,
        serial: format!("{nth:x}"),
        sha256: String::new(),
        issuer: "Somebody".to_owned(),
        not_before,
        not_after,
        renew_at: later(not_before, LIFETIME * 2 / 3),
    });
    let mut saved = Saved::new(records::certificate(&name), certificate);
    session.save(&mut [&mut saved], Vec::new()).await.unwrap();
}

fn configuration(
    authority: &Authority,
    nameserver: SocketAddr,
    hook: SocketAddr,
    directory: &TempDir,
) -> String {
    let trust = directory.path().join("authority.pem");
    std::fs::write(&trust, authority.https_root_pem()).unwrap();
    format!(
        "\
state: {}
authorities:
  ca: {{directory: \"{}\", trust: {}, agree-to-terms: true}}
nameserver: {{zone: hosted.test, listen: [\"{nameserver}\"], hosts: {{ns1.hosted.test: [127.0.0.1]}}}}
alerts: [{{webhook: \"http://{hook}/\"}}]
dns: {{look: roots, roots: [127.0.0.1], port: {}}}
certificates:
",
        directory.path().join("state").display(),
        authority.directory_url(),
        trust.display(),
        nameserver.port(),
    )
}

/// A webhook that takes everything.
async fn webhook(taken: &Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::clone(taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| {
                let taken = Arc::clone(&taken);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let text = String::from_utf8_lossy(&body).into_owned();
                    taken.lock().unwrap().push(text);
                    Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
                }
            });
            let _ = http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    address
}

/// A port of 127.0.0.1 by UDP and TCP, taken already: nobody else gets it meanwhile.
fn port() -> (SocketAddr, PassedSockets) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if let Ok(udp) = UdpSocket::bind(address) {
            return (address, PassedSockets::of(tcp, udp).unwrap());
        }
    }
}
