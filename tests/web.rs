//! `web`: health and metrics of the real daemon, over real connections.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use countersign_testca::{Endpoint, Settings};

use crate::authority::Scene;
use crate::issuance::Host;
use crate::support::command::Running;
use crate::support::disk::Disk;
use crate::support::ports::{self, Port};
use crate::support::process::eventually;

const WITHIN: Duration = Duration::from_secs(30);
/// What hangs by then hangs for good.
const NO_ANSWER: Duration = Duration::from_secs(30);
const ONE: &str =
    "  a: {names: [a.example.test], deliver: [{files: {directory: \"{dir}/out\"}}]}\n";

/// A daemon that serves `web`, and the rest of its world.
pub(crate) struct Site {
    scene: Scene,
    port: Port,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Site {
    fn new(lifetime: Duration, certificates: &str) -> Self {
        let grant = "grant acme name _acme-challenge.a.example.test TXT;";
        let host = Host::start("_acme-challenge 120 TXT foreign\n", grant);
        let settings = Settings {
            lifetime,
            ..Settings::asking(host.addr())
        };
        let scene = Scene::with(host, settings, certificates);
        let site = Self {
            scene,
            port: ports::free(),
        };
        site.listen_on(site.address());
        site
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    fn listen_on(&self, address: SocketAddr) {
        let text = std::fs::read_to_string(self.scene.program.config()).unwrap();
        let rest: String = text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("web:"))
            .collect();
        let text = format!("web: {{listen: \"{address}\"}}\n{rest}");
        self.scene.program.configure(&text);
    }

    fn ready(&self) -> Running {
        let daemon = self.scene.program.start(&["run"]);
        daemon.wait_for("ready: ").unwrap();
        daemon
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(path, "localhost")
    }

    fn ask(&self, path: &str, host: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(NO_ANSWER)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Every series and its value.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                (series.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    fn is_idle(&self) -> bool {
        let json = self.scene.program.run(&["status", "--json"]).expect_code(0);
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let certificates = json["certificates"].as_array().unwrap();
        certificates.iter().all(|it| it["activity"] == "idle")
            && json["records"].as_array().unwrap().is_empty()
    }

    /// Readiness is looked at now and then only.
    fn becomes(&self, status: u16, saying: &str) {
        let mut last = String::new();
        let done = eventually(WITHIN, || {
            let answer = self.get("/health/ready");
            last = format!("{} {}", answer.status, answer.body);
            answer.status == status && answer.body.contains(saying)
        });
        assert!(done, "wanted {status} {saying}, got {last}");
    }
}

/// A site whose certificate is there.
pub(crate) fn issued() -> (Site, Running) {
    let site = Site::new(Duration::from_secs(86_400), ONE);
    let daemon = site.ready();
    assert!(eventually(WITHIN, || site.is_idle()));
    (site, daemon)
}

pub(crate) fn ends(daemon: Running) {
    daemon.terminate();
    let ended = daemon.finish().expect_code(0);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn metrics_after_an_issuance_say_what_happened() {
    let (site, daemon) = issued();
    let metrics = site.metrics();
    let host = site.scene.authority.directory_url();
    let host = host.split('/').nth(2).unwrap();
    let request = |kind: &str, status: u16| {
        format!(
            "countersign_authority_requests_total{{host=\"{host}\",status=\"{status}\",type=\"{kind}\"}}"
        )
    };
    let target = site.scene.program.path("out");
    let lag = format!(
        "countersign_delivery_lag_seconds{{certificate=\"a\",target=\"files:{}\"}}",
        target.display()
    );
    for (series, value) in [
        (
            r#"countersign_attempts_total{outcome="issued",step="downloading"}"#,
            1.0,
        ),
        (
            r#"countersign_attempts_total{outcome="failed",step="proving"}"#,
            0.0,
        ),
        (
            r#"countersign_attempt_duration_seconds_count{outcome="issued"}"#,
            1.0,
        ),
        (
            r#"countersign_attempt_step_duration_seconds_count{step="proving"}"#,
            1.0,
        ),
        (
            r#"countersign_propagation_duration_seconds_count{provider="office"}"#,
            1.0,
        ),
        (
            r#"countersign_provider_calls_total{call="apply",outcome="success",provider="office"}"#,
            2.0,
        ),
        (r#"countersign_deliveries_total{outcome="success"}"#, 1.0),
        (
            r#"countersign_certificate_state{certificate="a",state="valid"}"#,
            1.0,
        ),
        (
            r#"countersign_certificate_state{certificate="a",state="none"}"#,
            0.0,
        ),
        (r#"countersign_certificate_failures{certificate="a"}"#, 0.0),
        (
            r#"countersign_ledger_entries{provider="office",state="withdrawing"}"#,
            0.0,
        ),
        (r#"countersign_config_last_reload_successful"#, 1.0),
        (r#"countersign_ready"#, 1.0),
        (&lag, 0.0),
        (&request("directory", 200), 1.0),
        (&request("new-account", 201), 1.0),
        (&request("new-order", 201), 1.0),
        (&request("finalize", 200), 1.0),
        (&request("certificate", 200), 1.0),
    ] {
        assert_eq!(
            metrics.get(series),
            Some(&value),
            "{series} in {metrics:#?}"
        );
    }
    let json = site.scene.program.run(&["status", "--json"]).expect_code(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    for (field, name) in [
        ("not_before", "not_before"),
        ("not_after", "not_after"),
        ("renew_at", "renewal"),
    ] {
        let at: jiff::Timestamp = json["certificates"][0][field]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let series =
            format!("countersign_certificate_{name}_timestamp_seconds{{certificate=\"a\"}}");
        let off = metrics[&series] - at.as_duration().as_secs_f64();
        assert!(off.abs() <= 1.0, "{series}: off by {off} s");
    }
    ends(daemon);
}

#[test]
fn live_and_ready_are_two_things() {
    let (site, daemon) = issued();
    let alive = site.get("/health");
    assert_eq!((alive.status, alive.body.as_str()), (200, "alive\n"));
    let ready = site.get("/health/ready");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    assert_eq!(site.get("/").status, 404);
    let type_line = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(site.get("/metrics").head.contains(type_line));
    ends(daemon);
}

/// A certificate that never existed is no reason not to be ready; one past 5/6 of its lifetime is, until it is renewed.
#[test]
fn a_certificate_past_its_point_of_no_return_makes_it_unready() {
    let site = Site::new(Duration::from_secs(24), ONE);
    let faults = site.scene.authority.faults();
    faults.fail_http(Endpoint::NewOrder, 403, None, 1);
    let daemon = site.ready();
    daemon
        .wait_for("asking for an order")
        .or_else(|| daemon.wait_for("403"))
        .unwrap();
    site.becomes(200, "ready");
    site.scene.program.run(&["renew"]).expect_code(0);
    assert!(eventually(WITHIN, || site.is_idle()));
    assert_eq!(site.get("/health/ready").status, 200);
    faults.fail_http(Endpoint::NewOrder, 403, None, 1_000);
    site.becomes(
        503,
        "point of no return, 5/6 of the lifetime, without a newer certificate: a (since ",
    );
    site.becomes(503, "a (expired at ");
    assert_eq!(site.get("/health").status, 200);
    let metrics = site.metrics();
    let series = r#"countersign_ready_condition{condition="certificates"}"#;
    assert_eq!(metrics[series], 0.0);
    assert!(metrics[r#"countersign_attempts_total{outcome="failed",step="ordering"}"#] > 1.0);
    ends(daemon);
}

#[test]
fn a_full_disk_makes_it_unready() {
    let mut site = Site::new(Duration::from_secs(86_400), ONE);
    let disk = Disk::mount(&site.scene.program.path("state"), "16m");
    site.scene.program = disk.holds(site.scene.program);
    let daemon = site.ready();
    assert!(eventually(WITHIN, || site.is_idle()));
    site.becomes(200, "ready");
    let full = disk.fill();
    site.becomes(503, "the store");
    assert_eq!(site.get("/health").status, 200);
    assert_eq!(
        site.metrics()[r#"countersign_ready_condition{condition="store"}"#],
        0.0
    );
    drop(full);
    site.becomes(200, "ready");
    ends(daemon);
}

#[test]
fn a_request_under_a_strangers_name_is_refused() {
    let (site, daemon) = issued();
    for path in ["/health", "/health/ready", "/metrics", "/nothing"] {
        let refused = site.ask(path, "evil.test");
        assert_eq!(refused.status, 421);
        assert!(refused.body.contains("web: {hosts"), "{}", refused.body);
    }
    assert_eq!(
        site.ask("/metrics", &site.address().to_string()).status,
        200
    );
    ends(daemon);
}

/// Many who dawdle with their request or with their answer stand in nobody's way, and are gone after a while.
#[test]
fn slow_clients_hold_nobody_up() {
    let (site, daemon) = issued();
    let open = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
        files.unwrap().count()
    };
    let before = open();
    let slow: Vec<TcpStream> = (0..300)
        .map(|nth| {
            let mut stream = TcpStream::connect(site.address()).unwrap();
            let line = if nth % 2 == 0 {
                "GET /metrics HTTP/1.1\r\nHost: local"
            } else {
                "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
            };
            // It may have been ended already in favour of later ones.
            let _ = stream.write_all(line.as_bytes());
            stream
        })
        .collect();
    assert_eq!(site.get("/health").status, 200);
    assert_eq!(site.get("/metrics").status, 200);
    // Those who are too many are sent away one by one.
    let is_few = || open() < before + 80;
    assert!(
        eventually(Duration::from_secs(30), is_few),
        "{} of {before}",
        open()
    );
    let renewed = site.scene.program.run(&["renew", "--force"]).expect_code(0);
    assert!(renewed.stdout.contains("1 issued"), "{renewed:?}");
    for mut stream in slow {
        stream.set_read_timeout(Some(NO_ANSWER)).unwrap();
        let ended = stream.read_to_end(&mut Vec::new());
        let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!ended.is_err_and(|error| timed_out(&error)), "still open");
    }
    ends(daemon);
}

#[test]
fn a_port_that_is_taken_is_said_with_the_address_and_a_hint() {
    let site = Site::new(Duration::from_secs(86_400), ONE);
    let _taken = std::net::TcpListener::bind(site.address()).unwrap();
    let said = site.scene.program.run(&["run"]).expect_code(1);
    let wanted = format!(
        "`web` cannot listen on {}: Address already in use; another program has the port, see `ss -lntp`: stop it, or change `web: {{listen: …}}`",
        site.address()
    );
    assert!(said.stderr.contains(&wanted), "{}", said.stderr);
}

#[test]
fn another_address_takes_a_restart_and_the_reload_says_so() {
    let (site, daemon) = issued();
    let other = ports::free();
    site.listen_on(SocketAddr::from(([127, 0, 0, 1], other.number())));
    daemon.hang_up();
    let said = daemon.wait_for("takes a restart").unwrap();
    assert!(said.contains("`web`"), "{said}");
    assert_eq!(site.get("/health").status, 200);
    site.scene.program.configure("certificates: [");
    daemon.hang_up();
    daemon.wait_for("stays as it was").unwrap();
    let is_refused = || site.metrics()["countersign_config_last_reload_successful"] == 0.0;
    assert!(eventually(WITHIN, is_refused));
    ends(daemon);
}
