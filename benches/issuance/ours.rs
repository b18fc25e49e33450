//! Countersign itself, in this process: the daemon's own parts, its store on a real disk with `fsync`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use countersign::acme::RequestKind;
use countersign::config::Config;
use countersign::daemon::Daemon;
use countersign::engine::attempt::Step;
use countersign::engine::names::CertificateName;
use countersign::run::progress::{Progress, Watchers};
use countersign::run::scheduler::{self, Selection};
use countersign::run::stop::Stop;
use countersign_providers::clock::Clock;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::stand::{Door, Meter, Stand};
use crate::table::{Row, shown};

/// Warm orders for the name and its wildcard.
const ORDERS: usize = 200;
/// Warm orders for the wildcard alone.
const WILDCARD_ORDERS: usize = 50;
/// Orders before the first that counts: the first of all, and those that warm caches.
const FIRST: usize = 5;
/// Certificates of the configuration: a name with its wildcard, and a wildcard alone.
const BOTH: &str = "both";
const WILDCARD: &str = "wildcard";

/// Times and counts both.
pub(crate) fn measure(stand: &Stand, runtime: &Runtime) -> Vec<Row> {
    runtime.block_on(async {
        let mut rows = Vec::new();
        for (certificate, orders) in [(BOTH, ORDERS), (WILDCARD, WILDCARD_ORDERS)] {
            let (first, at_proxy) = count(stand, certificate).await;
            rows.push(time(stand, certificate, orders, first, at_proxy).await);
        }
        rows
    })
}

/// Requests of the first order ever and of the next, as a proxy sees them; our own count must agree.
async fn count(stand: &Stand, certificate: &str) -> (usize, usize) {
    let (proxy, door) = stand.proxy();
    let mut program = Program::start(stand, &door).await;
    let mut counted = [0; 2];
    for count in &mut counted {
        loop {
            let before = proxy.seen().len();
            let order = program.order(certificate).await;
            *count = proxy.seen().len() - before;
            assert_eq!(*count, order.requests, "our own count is another");
            if !order.is_short {
                break;
            }
        }
    }
    stand.expect_clean();
    (counted[0], counted[1])
}

async fn time(
    stand: &Stand,
    certificate: &str,
    orders: usize,
    first: usize,
    at_proxy: usize,
) -> Row {
    let mut program = Program::start(stand, &stand.door()).await;
    for _ in 0..FIRST {
        program.order(certificate).await;
    }
    let mut row = Row {
        peer: format!("countersign, {certificate}"),
        times: Vec::new(),
        first,
        warm: (at_proxy, at_proxy),
        cpu: Duration::ZERO,
    };
    let mut withdrawn = Vec::new();
    let mut steps: BTreeMap<Step, Duration> = BTreeMap::new();
    while row.times.len() < orders {
        let order = program.order(certificate).await;
        if order.is_short {
            continue;
        }
        row.times.push(order.delivered);
        row.warm.0 = row.warm.0.min(order.requests);
        row.warm.1 = row.warm.1.max(order.requests);
        row.cpu += order.cpu / u32::try_from(orders).unwrap();
        withdrawn.push(order.withdrawn);
        for (step, at) in order.steps {
            *steps.entry(step).or_default() += at;
        }
    }
    stand.expect_clean();
    withdrawn.sort_unstable();
    println!(
        "{}: records gone after {} (median), {} (the slowest)",
        row.peer,
        shown(withdrawn[orders / 2]),
        shown(withdrawn[orders - 1])
    );
    for (step, sum) in steps {
        println!(
            "  {:<26} {:>8}",
            format!("{step:?}"),
            shown(sum / u32::try_from(orders).unwrap())
        );
    }
    row
}

/// What one order took.
struct Order {
    /// Until the files had their names.
    delivered: Duration,
    /// Until no record of it was left.
    withdrawn: Duration,
    /// When each step began.
    steps: Vec<(Step, Duration)>,
    requests: usize,
    /// Pebble reuses about one authorization in a hundred also when told to reuse none: such an order is no whole one.
    is_short: bool,
    cpu: Duration,
}

/// The program, running.
struct Program {
    daemon: Daemon,
    events: mpsc::UnboundedReceiver<(Instant, Progress)>,
    /// Beside the build, not in memory: `fsync` is to cost what it costs.
    _home: TempDir,
}

impl Program {
    async fn start(stand: &Stand, door: &Door) -> Self {
        let home = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        let text = configuration(stand, door).replace("{dir}", &home.path().to_string_lossy());
        std::fs::write(home.path().join("tsig"), &stand.key.secret).unwrap();
        let config = Config::parse(&home.path().join("countersign.yaml"), &text)
            .unwrap_or_else(|error| panic!("{error}"));
        let watchers = Watchers::default();
        let mut watched = watchers.listen();
        let (stamped, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some((_, progress)) = watched.recv().await {
                let _ = stamped.send((Instant::now(), progress));
            }
        });
        let daemon = Daemon::open(&config, Clock::system(), watchers).await;
        let daemon = daemon.unwrap_or_else(|error| panic!("{error}"));
        Self {
            daemon,
            events,
            _home: home,
        }
    }

    /// One order, whether it is due or not, from there until nothing of it is left at the DNS host.
    async fn order(&mut self, certificate: &str) -> Order {
        let shared = &self.daemon.shared;
        let selection = Selection {
            only: BTreeSet::from([CertificateName::parse(certificate).unwrap()]),
            force: true,
            ignore_back_off: true,
        };
        let sent = |wanted: &dyn Fn(RequestKind) -> bool| {
            let all = shared.authorities.values();
            let sent = all.flat_map(|authority| authority.client.counts());
            let sent = sent.filter(|(kind, _)| wanted(*kind)).map(|(_, sent)| sent);
            usize::try_from(sent.sum::<u64>()).unwrap()
        };
        let requests = || sent(&|_| true);
        let responses = || sent(&|kind| kind == RequestKind::Challenge);
        let before = (requests(), responses());
        let (meter, begun) = (Meter::start(), Instant::now());
        let report = scheduler::pass(shared, &selection, &Stop::default()).await;
        let left = shared.ledger.quiet(Duration::from_secs(10)).await;
        let (withdrawn, cpu) = (meter.wall(), meter.own());
        assert!(left.is_empty(), "left at the DNS host: {left:?}");
        for (name, result) in report.unwrap() {
            result.unwrap_or_else(|failure| panic!("{name}: {}", failure.sentence));
        }
        let mut order = Order {
            delivered: Duration::ZERO,
            withdrawn,
            steps: Vec::new(),
            requests: requests() - before.0,
            is_short: responses() - before.1 < names(certificate),
            cpu,
        };
        loop {
            let (at, progress) = self.events.recv().await.unwrap();
            match progress {
                Progress::Step(step) => order.steps.push((step, at - begun)),
                Progress::Delivered { .. } => order.delivered = at - begun,
                Progress::Finished(_) => break,
                _ => {}
            }
        }
        assert!(!order.delivered.is_zero(), "nothing was delivered");
        order
    }
}

/// How many names there are to prove.
fn names(certificate: &str) -> usize {
    if certificate == BOTH { 2 } else { 1 }
}

fn configuration(stand: &Stand, door: &Door) -> String {
    format!(
        "state: {{dir}}/state
authorities:
  pebble: {{agree-to-terms: true, directory: \"{directory}\", trust: \"{trust}\"}}
providers:
  bind:
    rfc2136:
      server: {server}
      tsig: {{name: {name}, algorithm: {algorithm}, secret: {{file: \"{{dir}}/tsig\"}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
  {BOTH}: {{names: [example.test, \"*.example.test\"], deliver: [{{files: {{directory: \"{{dir}}/both\"}}}}]}}
  {WILDCARD}: {{names: [\"*.example.test\"], deliver: [{{files: {{directory: \"{{dir}}/wildcard\"}}}}]}}
",
        directory = door.directory,
        trust = door.root.display(),
        server = stand.dns(),
        name = stand.key.name,
        algorithm = stand.key.algorithm,
        port = stand.dns().port(),
    )
}
