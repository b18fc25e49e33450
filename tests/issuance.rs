//! The main job on real servers: Pebble of both versions, BIND with a policy that grants TXT only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::support::bind::{Bind, RunningBind, Zone};
use crate::support::command::Countersign;
use crate::support::pebble::{Pebble, RunningPebble, VERSIONS, Version};
use crate::support::process::server;
use crate::support::tsig::{self, Key};
use crate::support::{dns, zone};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CHALLENGE: &str = "_acme-challenge.example.test";

/// BIND with `example.test`, in which a key may change the TXT records of challenge names only.
pub(crate) struct Host {
    pub(crate) bind: RunningBind,
    pub(crate) key: Key,
}

impl Host {
    /// `records` stand in the zone already; the key may change the TXT records that `policy` grants.
    pub(crate) fn start(records: &str, policy: &str) -> Self {
        let key = Key::sha256("acme");
        let zone = Zone::primary("example.test", zone::text("example.test", &[HERE], records))
            .update_policy(policy);
        let bind = Bind::new().key(&key).zone(zone).start();
        Self { bind, key }
    }

    /// One challenge name with a foreign value, and the right to change its TXT records.
    pub(crate) fn usual() -> Self {
        let grant = format!("grant acme name {CHALLENGE} TXT;");
        Self::start("_acme-challenge 120 TXT foreign\n", &grant)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.bind.addr()
    }

    /// No TXT value at any challenge name but `foreign`, whose TTL is untouched.
    pub(crate) fn expect_clean(&self) {
        assert_eq!(dns::txt(self.addr(), CHALLENGE), ["foreign"]);
        let ttl = dns::ttl(self.addr(), CHALLENGE, hickory_proto::rr::RecordType::TXT);
        assert_eq!(ttl, Some(120));
    }
}

/// The configuration for these servers; `certificates` are lines under that key.
pub(crate) fn configuration(
    host: &Host,
    directory: &str,
    trust: &Path,
    certificates: &str,
) -> String {
    format!(
        "state: {{dir}}/state
authorities:
  pebble:
    agree-to-terms: true
    directory: {directory}
    trust: {trust}
providers:
  office:
    rfc2136:
      server: {server}
      tsig: {{name: {name}, algorithm: {algorithm}, secret: {{file: \"{{dir}}/tsig\"}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
{certificates}",
        trust = trust.display(),
        server = host.addr(),
        name = host.key.name,
        algorithm = host.key.algorithm,
        port = host.addr().port(),
    )
}

/// The program, set up for `host` and an authority.
pub(crate) fn countersign(
    host: &Host,
    directory: &str,
    trust: &Path,
    certificates: &str,
) -> Countersign {
    let program = Countersign::new(&configuration(host, directory, trust, certificates));
    std::fs::write(program.path("tsig"), &host.key.secret).unwrap();
    program
}

fn with_pebble(host: &Host, pebble: &RunningPebble, certificates: &str) -> Countersign {
    countersign(
        host,
        &pebble.directory_url(),
        &pebble.https_root(),
        certificates,
    )
}

/// `openssl` accepts the chain under `root`, the key fits, and the names are exactly `names`.
pub(crate) fn judge(delivered: &Path, root: &str, names: &[&str]) {
    let path = |name: &str| delivered.join(name).to_string_lossy().into_owned();
    let root_file = delivered
        .parent()
        .unwrap()
        .join("root-of-the-authority.pem");
    std::fs::write(&root_file, root).unwrap();
    let root_file = root_file.to_string_lossy().into_owned();
    openssl(&[
        "verify",
        "-CAfile",
        &root_file,
        "-untrusted",
        &path("chain.pem"),
        &path("cert.pem"),
    ]);
    let of_key = openssl(&["pkey", "-in", &path("privkey.pem"), "-pubout"]);
    let of_certificate = openssl(&["x509", "-in", &path("cert.pem"), "-noout", "-pubkey"]);
    assert_eq!(of_key, of_certificate);
    let said = openssl(&[
        "x509",
        "-in",
        &path("cert.pem"),
        "-noout",
        "-ext",
        "subjectAltName",
    ]);
    let mut found: Vec<&str> = said
        .lines()
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().strip_prefix("DNS:"))
        .collect();
    found.sort_unstable();
    let mut names = names.to_vec();
    names.sort_unstable();
    assert_eq!(found, names);
}

fn openssl(arguments: &[&str]) -> String {
    let mut command = server("openssl");
    command.args(arguments);
    let output = tsig::run(command, "");
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const ONE: &str = "  example:
    names: [example.test, \"*.example.test\"]
    deliver: [{files: {directory: \"{dir}/out\"}}]
";

#[test]
fn apex_and_wildcard_in_one_certificate_from_both_pebbles() {
    for version in VERSIONS {
        let host = Host::usual();
        let pebble = Pebble::new(version, host.addr()).start();
        let program = with_pebble(&host, &pebble, ONE);
        program.run(&["renew", "--log", "debug"]).expect_code(0);
        let names = ["example.test", "*.example.test"];
        judge(&program.path("out"), &pebble.issuing_root_pem(), &names);
        host.expect_clean();
    }
}

/// Fifty names, each with the right to its own challenge name.
fn fifty() -> (Host, String) {
    let grants: String = (1..=50)
        .map(|n| format!("grant acme name _acme-challenge.h{n}.example.test TXT; "))
        .collect();
    let records: String = (1..=50)
        .map(|n| format!("_acme-challenge.h{n} 120 TXT foreign\n"))
        .collect();
    let certificates = (1..=50)
        .map(|n| {
            format!(
                "  h{n}: {{names: [h{n}.example.test, \"*.h{n}.example.test\"], deliver: [{{files: {{directory: \"{{dir}}/out/h{n}\"}}}}]}}\n"
            )
        })
        .collect();
    (Host::start(&records, &grants), certificates)
}

#[test]
fn fifty_at_once_while_half_of_the_nonces_are_rejected() {
    let (host, certificates) = fifty();
    let pebble = Pebble::new(Version::Newest, host.addr())
        .nonce_reject(50)
        .start();
    let program = with_pebble(&host, &pebble, &certificates);
    program.run(&["renew"]).expect_code(0);
    let root = pebble.issuing_root_pem();
    for n in 1..=50 {
        let out: PathBuf = program.path(&format!("out/h{n}"));
        let name = format!("h{n}.example.test");
        judge(&out, &root, &[&name, &format!("*.{name}")]);
        let challenge = format!("_acme-challenge.{name}");
        assert_eq!(
            dns::txt(host.addr(), &challenge),
            ["foreign"],
            "{challenge}"
        );
    }
}
