//! `countersign run`: renews by itself, reloads on SIGHUP, drains on SIGTERM. Real servers, short-lived certificates.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_testca::{Settings, Status};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::Scene;
use crate::issuance::{Host, judge};
use crate::support::command::Running;
use crate::support::process::eventually;
use crate::wrong_input::is_full_run;

const LIFETIME: Duration = Duration::from_secs(60);
const WITHIN: Duration = Duration::from_secs(20);

/// Certificates for `names` of example.test, each delivered to a directory of its name.
fn certificates(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("  {name}: {{names: [{name}.example.test], deliver: [{{files: {{directory: \"{{dir}}/out/{name}\"}}}}]}}\n"))
        .collect()
}

fn scene(names: &[&str]) -> Scene {
    let grants: String = ["a", "b", "c"]
        .iter()
        .map(|name| format!("grant acme name _acme-challenge.{name}.example.test TXT; "))
        .collect();
    let host = Host::start("_acme-challenge 120 TXT foreign\n", &grants);
    let settings = Settings {
        lifetime: LIFETIME,
        ..Settings::asking(host.addr())
    };
    Scene::with(host, settings, &certificates(names))
}

impl Scene {
    /// The certificates of the configuration are `names` from now on.
    fn configure_certificates(&self, lines: &str) {
        let text = std::fs::read_to_string(self.program.config()).unwrap();
        let (before, _) = text.split_once("certificates:\n").unwrap();
        self.program
            .configure(&format!("{before}certificates:\n{lines}"));
    }

    fn has(&self, name: &str) -> bool {
        self.program
            .path(&format!("out/{name}/current/cert.pem"))
            .exists()
    }
}

/// Whether the pair in `directory` fits and is valid now, as one finds who opens `current` once.
fn is_good(directory: &Path) -> Result<(), String> {
    let current = std::fs::canonicalize(directory.join("current")).map_err(|e| e.to_string())?;
    let chain = std::fs::read(current.join("fullchain.pem")).map_err(|e| e.to_string())?;
    let key = std::fs::read(current.join("privkey.pem")).map_err(|e| e.to_string())?;
    let leaf = CertificateDer::from_pem_slice(&chain).map_err(|e| e.to_string())?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).map_err(|e| e.to_string())?;
    if !leaf.validity().is_valid() {
        return Err(format!("not valid now: {:?}", leaf.validity()));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| e.to_string())?;
    let key = rcgen::KeyPair::try_from(&key).map_err(|e| e.to_string())?;
    let public = &leaf.public_key().subject_public_key.data;
    match public.as_ref() == rcgen::PublicKeyData::der_bytes(&key) {
        true => Ok(()),
        false => Err("the key is another".to_owned()),
    }
}

/// Looks at `directory` ten times a second until told to stop; what was wrong.
fn poll(directory: &Path, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<(u32, Vec<String>)> {
    let (directory, stop) = (directory.to_owned(), Arc::clone(stop));
    std::thread::spawn(move || {
        let (mut looks, mut wrong) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            looks += 1;
            wrong.extend(is_good(&directory).err());
            pause(Duration::from_millis(100));
        }
        (looks, wrong)
    })
}

#[allow(clippy::disallowed_methods, reason = "the poller's own beat")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

fn ready(scene: &Scene) -> Running {
    let daemon = scene.program.start(&["run"]);
    daemon.wait_for("ready: ").unwrap();
    daemon
}

/// The daemon ends well within five seconds, and says nothing but what it should.
fn ends(daemon: Running) {
    daemon.terminate();
    let ended = daemon.finish().expect_code(0);
    assert!(ended.stderr.contains("stopped"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn serves_a_valid_pair_at_every_instant_while_it_renews_and_is_reconfigured() {
    let scene = scene(&["a", "b"]);
    let daemon = ready(&scene);
    assert!(eventually(WITHIN, || scene.has("a") && scene.has("b")));
    let stop = Arc::new(AtomicBool::new(false));
    let poller = poll(&scene.program.path("out/a"), &stop);
    let long = is_full_run();
    let rounds = if long { 300 } else { 60 };
    let orders = scene.authority.orders().len();
    for second in 0..rounds {
        let mut open: BTreeMap<Vec<String>, u32> = BTreeMap::new();
        for order in scene.authority.orders() {
            if !matches!(order.status, Status::Valid | Status::Invalid) {
                *open.entry(order.names).or_default() += 1;
            }
        }
        assert!(open.values().all(|open| *open <= 1), "{open:?}");
        match second {
            5 => scene.configure_certificates(&certificates(&["a", "b", "c"])),
            10 => scene.configure_certificates("  a: {names: [broken"),
            15 => scene.configure_certificates(&certificates(&["a", "c"])),
            20 => {
                let both = "[a.example.test, c.example.test]";
                let lines = certificates(&["a", "c"]).replacen("[a.example.test]", both, 1);
                scene.configure_certificates(&lines);
            }
            25 => judge(
                &scene.program.path("out/a"),
                scene.authority.issuing_root_pem(),
                &["a.example.test", "c.example.test"],
            ),
            _ => {}
        }
        if matches!(second, 5 | 10 | 15 | 20) {
            daemon.hang_up();
        }
        if second == 14 {
            assert!(scene.has("c"), "one that was added is issued");
        }
        pause(Duration::from_secs(1));
    }
    stop.store(true, Ordering::Relaxed);
    let (looks, wrong) = poller.join().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {looks}: {:?}",
        wrong.len(),
        wrong.first()
    );
    let renewed = scene.authority.orders().len() - orders;
    println!("{looks} looks, {renewed} orders after the first");
    assert!(renewed > 2, "{renewed}");
    // One that was removed is not renewed, and its files stay.
    assert!(scene.has("b"));
    assert!(is_good(&scene.program.path("out/b")).is_err());
    ends(daemon);
    scene.host.expect_clean();
}

#[test]
fn goes_on_by_itself_when_the_dns_host_is_back_and_names_it_until_then() {
    let mut scene = scene(&["a"]);
    let daemon = ready(&scene);
    assert!(eventually(WITHIN, || scene.has("a")));
    let orders = scene.authority.orders().len();
    scene.host.bind.stop();
    // BIND is also where the walk begins.
    let server = format!("on port {}: ", scene.host.addr().port());
    let is_told = || {
        let json = scene.program.run(&["status", "--json"]).expect_code(0);
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let failure = &json["certificates"][0]["failure"];
        let sentence = failure["sentence"].as_str().unwrap_or_default();
        sentence.contains(&server)
            && sentence.contains("127.0.0.1: connection refused")
            && !failure["retry_at"].is_null()
    };
    assert!(eventually(LIFETIME, is_told));
    scene.host.bind.start_again();
    let is_renewed = || {
        let orders = scene.authority.orders().split_off(orders);
        orders.iter().any(|order| order.status == Status::Valid)
    };
    assert!(eventually(LIFETIME, is_renewed));
    let is_well = || {
        let status = scene.program.run(&["status", "--exit-code"]);
        status.code == Some(0) && status.stdout.contains("valid")
    };
    assert!(eventually(LIFETIME, is_well));
    ends(daemon);
    scene.host.expect_clean();
}

#[test]
fn says_what_is_going_on_and_does_what_it_is_asked_through_its_socket() {
    let scene = scene(&["a", "b"]);
    let daemon = ready(&scene);
    let is_idle = || {
        let json = scene.program.run(&["status", "--json"]).expect_code(0);
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let certificates = json["certificates"].as_array().unwrap();
        certificates
            .iter()
            .all(|it| it["state"] == "valid" && it["activity"] == "idle")
            && json["records"].as_array().unwrap().is_empty()
    };
    assert!(eventually(WITHIN, is_idle));
    let history = scene.program.run(&["history", "a"]).expect_code(0);
    assert!(history.stdout.contains("issued: serial"), "{history:?}");
    let nothing = scene.program.run(&["renew"]).expect_code(0);
    assert!(
        nothing.stdout.contains("nothing is due; next is"),
        "{nothing:?}"
    );
    let orders = scene.authority.orders().len();
    let forced = scene.program.run(&["renew", "a", "--force"]).expect_code(0);
    assert!(forced.stdout.contains("a: done in"), "{forced:?}");
    assert!(forced.stdout.contains("1 issued"), "{forced:?}");
    assert_eq!(scene.authority.orders().len(), orders + 1);

    scene.configure_certificates("  a: {names: [broken");
    daemon.hang_up();
    daemon.wait_for("stays as it was").unwrap();
    scene.configure_certificates(&certificates(&["a", "b"]));
    let status = scene.program.run(&["status"]).expect_code(0);
    assert!(status.stdout.contains("was not reloaded"), "{status:?}");
    ends(daemon);
    let status = scene.program.run(&["status"]).expect_code(0);
    assert!(!status.stdout.contains("was not reloaded"), "{status:?}");
}

#[test]
fn a_socket_that_a_killed_daemon_left_stands_in_nobodys_way() {
    let scene = scene(&["a"]);
    let daemon = ready(&scene);
    assert!(eventually(WITHIN, || scene.has("a")));
    daemon.kill();
    assert!(scene.program.path("state/control.sock").exists());
    scene.program.run(&["status"]).expect_code(0);
    let daemon = ready(&scene);
    scene.program.run(&["status"]).expect_code(0);
    ends(daemon);
    assert!(!scene.program.path("state/control.sock").exists());
}

/// Whatever is sent, the socket answers the next one, and only those may ask who may open it.
#[test]
fn hostile_input_at_the_socket_is_refused() {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let scene = scene(&["a"]);
    let daemon = ready(&scene);
    let socket = scene.program.path("state/control.sock");
    let mode = socket.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let long = vec![b'a'; 2 << 20];
    let deep = format!("{}\n", "[".repeat(100_000));
    let lines: [&[u8]; 8] = [
        b"\n",
        b"{}\n",
        b"\xff\xfe\n",
        b"{\"version\":2,\"ask\":\"status\"}\n",
        b"{\"version\":1,\"ask\":{\"history\":\"../../etc\"}}\n",
        b"{\"version\":1,\"ask\":{\"renew\":{\"names\":[\"unknown\"],\"force\":true}}}\n",
        deep.as_bytes(),
        &long,
    ];
    for line in lines {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // It may hang up before it has read all of it.
        let _ = stream.write_all(line);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let shown = String::from_utf8_lossy(&line[..line.len().min(60)]);
        assert!(
            answer.is_empty() || answer.contains("refused"),
            "{shown}: {answer}"
        );
    }
    scene.program.run(&["status"]).expect_code(0);
    ends(daemon);
}

#[test]
fn systemd_hears_when_it_is_ready_reloads_lives_and_stops() {
    use std::os::unix::net::UnixDatagram;
    let mut scene = scene(&["a"]);
    let path = scene.program.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    let heard = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).expect(wanted);
            let said = String::from_utf8_lossy(&buffer[..length]);
            if said.lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    scene.program = (scene.program)
        .env("NOTIFY_SOCKET", &path.to_string_lossy())
        .env("WATCHDOG_USEC", "400000");
    let daemon = scene.program.start(&["run"]);
    heard("READY=1");
    heard("WATCHDOG=1");
    daemon.hang_up();
    heard("RELOADING=1");
    heard("READY=1");
    heard("WATCHDOG=1");
    daemon.terminate();
    heard("STOPPING=1");
    daemon.finish().expect_code(0);
}
