//! The main job on real servers: Pebble of both versions, BIND with a policy that grants TXT only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::bind::{Bind, RunningBind, Zone};
use crate::support::command::Countersign;
use crate::support::knot::{self, Knot};
use crate::support::pebble::{Pebble, RunningPebble, VERSIONS, Version};
use crate::support::process::server;
use crate::support::tsig::{self, Key};
use crate::support::unbound::Unbound;
use crate::support::{dns, ports, zone};

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

pub(crate) fn with_pebble(host: &Host, pebble: &RunningPebble, certificates: &str) -> Countersign {
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

pub(crate) const ONE: &str = "  example:
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
    for version in VERSIONS {
        let (host, certificates) = fifty();
        let pebble = Pebble::new(version, host.addr()).nonce_reject(50).start();
        let program = with_pebble(&host, &pebble, &certificates);
        program.run(&["renew"]).expect_code(0);
        for n in 1..=50 {
            expect_issued(&host, &pebble, &program, n);
        }
    }
}

/// The certificate of the `n`th host is there, and nothing of ours is left at its challenge name.
fn expect_issued(host: &Host, pebble: &RunningPebble, program: &Countersign, n: usize) {
    let name = format!("h{n}.example.test");
    let out: PathBuf = program.path(&format!("out/h{n}"));
    judge(
        &out,
        &pebble.issuing_root_pem(),
        &[&name, &format!("*.{name}")],
    );
    let challenge = format!("_acme-challenge.{name}");
    assert_eq!(
        dns::txt(host.addr(), &challenge),
        ["foreign"],
        "{challenge}"
    );
    let ttl = dns::ttl(host.addr(), &challenge, hickory_proto::rr::RecordType::TXT);
    assert_eq!(ttl, Some(120), "{challenge}");
}

#[test]
fn one_forbidden_name_of_fifty_leaves_the_others_alone() {
    for version in VERSIONS {
        let (without, with) = one_forbidden_name(version);
        println!("fifty: {without:.2?}; with one forbidden name among them: {with:.2?}");
    }
}

/// How long a run of fifty takes, and one in which one name is forbidden.
fn one_forbidden_name(version: Version) -> (Duration, Duration) {
    let (host, certificates) = fifty();
    let pebble = Pebble::new(version, host.addr()).start();
    let all = with_pebble(&host, &pebble, &certificates);
    let (_, without) = timed(|| all.run(&["renew"]).expect_code(0));

    let forbidden = "  h13: {names: [forbidden.example.test]}\n";
    let kept: String = certificates
        .lines()
        .filter(|line| !line.starts_with("  h13:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let one_bad = with_pebble(&host, &pebble, &format!("{kept}{forbidden}"));
    let (said, with) = timed(|| one_bad.run(&["renew"]).expect_code(1));
    let failed: Vec<&str> = said.stderr.lines().collect();
    assert!(
        failed.len() == 1 && failed[0].starts_with("h13: "),
        "{failed:#?}"
    );
    assert!(
        said.stderr
            .contains("_acme-challenge.forbidden.example.test"),
        "{said:?}"
    );
    for n in (1..=50).filter(|n| *n != 13) {
        expect_issued(&host, &pebble, &one_bad, n);
    }
    (without, with)
}

/// How long `work` takes, to be printed; never asserted.
#[allow(clippy::disallowed_methods, reason = "the duration of a real run")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = std::time::Instant::now();
    let result = work();
    (result, began.elapsed())
}

/// The program with the built-in nameserver for `acme.test` at `own`; every server on the way has the same port.
fn with_built_in(pebble: &RunningPebble, own: SocketAddr, hosts: &str) -> Countersign {
    Countersign::new(&format!(
        "state: {{dir}}/state
authorities:
  pebble: {{agree-to-terms: true, directory: {directory}, trust: {trust}}}
nameserver:
  zone: acme.test
  listen: [\"{own}\"]
  hosts: {hosts}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
{ONE}",
        directory = pebble.directory_url(),
        trust = pebble.https_root().display(),
        port = own.port(),
    ))
}

/// A CNAME leads to the built-in nameserver; Pebble sees the DNS through Unbound.
#[test]
fn a_delegated_name_is_answered_by_the_built_in_nameserver() {
    for version in VERSIONS {
        let port = ports::free();
        let here: SocketAddr = (HERE, port.number()).into();
        let own: SocketAddr = (Ipv4Addr::new(127, 0, 0, 2), port.number()).into();
        let records = "_acme-challenge CNAME example-test.acme.test.\n";
        let zone = Zone::primary("example.test", zone::text("example.test", &[HERE], records));
        let delegation = "acme NS ns1.acme\nns1.acme A 127.0.0.2\n";
        let top = Zone::primary("test", zone::text("test", &[HERE], delegation));
        let bind = Bind::new().port(port.number()).zone(zone).zone(top).start();
        assert_eq!(bind.addr(), here);
        let unbound = Unbound::new()
            .stub("example.test", &[here])
            .stub("acme.test", &[own])
            .start();
        let pebble = Pebble::new(version, unbound.addr()).start();
        let program = with_built_in(&pebble, own, "{ns1.acme.test: [127.0.0.2]}");
        program.run(&["renew", "--log", "debug"]).expect_code(0);
        let names = ["example.test", "*.example.test"];
        judge(&program.path("out"), &pebble.issuing_root_pem(), &names);
        let status = program.run(&["status", "--json"]).expect_code(0);
        assert!(status.stdout.contains("\"records\": []"), "{status:?}");
    }
}

/// The authority looks at the secondary only, which gets the value by NOTIFY a moment after the primary.
#[test]
fn a_secondary_is_waited_for() {
    let key = Key::sha256("acme");
    let port = ports::free();
    let second = Ipv4Addr::new(127, 0, 0, 2);
    let secondary_at: SocketAddr = (second, port.number()).into();
    let zone_text = zone::text("example.test", &[HERE, second.into()], "");
    let bind = Bind::new()
        .port(port.number())
        .key(&key)
        .zone(
            Zone::primary("example.test", zone_text)
                .update_policy(&format!("grant acme name {CHALLENGE} TXT;"))
                .notify(&[secondary_at]),
        )
        .start();
    let secondary = Knot::new()
        .listen(second)
        .port(port.number())
        .zone(knot::Zone::secondary("example.test", bind.addr()))
        .start();
    let host = Host { bind, key };
    let pebble = Pebble::new(Version::Newest, secondary.addr()).start();
    let program = with_pebble(&host, &pebble, ONE);
    let said = program.run(&["renew", "--log", "debug"]).expect_code(0);
    assert!(said.stderr.contains("2 nameservers"), "{said:?}");
    judge(
        &program.path("out"),
        &pebble.issuing_root_pem(),
        &["example.test", "*.example.test"],
    );
    assert!(dns::txt(host.addr(), CHALLENGE).is_empty());
}

/// A resolver that was asked before the value was there remembers that there was nothing, as long as the zone says.
#[test]
fn a_resolver_that_remembers_that_there_was_nothing_is_waited_for() {
    let key = Key::sha256("acme");
    let text = zone::text("example.test", &[HERE], "").replace("86400 1\n", "86400 7\n");
    let policy = format!("grant acme name {CHALLENGE} TXT;");
    let zone = Zone::primary("example.test", text).update_policy(&policy);
    let bind = Bind::new().key(&key).zone(zone).start();
    let host = Host { bind, key };
    let resolver = Bind::new().resolving_at(host.addr()).start();
    let pebble = Pebble::new(Version::Newest, host.addr()).start();
    let program = with_pebble(&host, &pebble, ONE);
    let text = std::fs::read_to_string(program.config()).unwrap();
    let (before, after) = text.split_once("dns: {").unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    program.configure(&format!(
        "{before}dns: {{look: resolvers, resolvers: [\"{}\"]}}\n{after}",
        resolver.addr()
    ));
    program.run(&["renew", "--log", "debug"]).expect_code(0);
    judge(
        &program.path("out"),
        &pebble.issuing_root_pem(),
        &["example.test", "*.example.test"],
    );
    assert!(dns::txt(host.addr(), CHALLENGE).is_empty());
}

/// The zone of the built-in nameserver names two hosts, of which one does not answer.
#[test]
fn a_host_of_the_built_in_nameserver_that_is_silent_is_given_up_after_ten_seconds() {
    let port = ports::free();
    let own: SocketAddr = (Ipv4Addr::new(127, 0, 0, 2), port.number()).into();
    let records = "_acme-challenge CNAME example-test.acme.test.\n";
    let zone = Zone::primary("example.test", zone::text("example.test", &[HERE], records));
    let delegation =
        "acme NS ns1.acme\nacme NS ns2.acme\nns1.acme A 127.0.0.2\nns2.acme A 127.0.0.3\n";
    let top = Zone::primary("test", zone::text("test", &[HERE], delegation));
    let bind = Bind::new().port(port.number()).zone(zone).zone(top).start();
    let unbound = Unbound::new()
        .stub("example.test", &[bind.addr()])
        .stub("acme.test", &[own])
        .start();
    let pebble = Pebble::new(Version::Newest, unbound.addr()).start();
    let hosts = "{ns1.acme.test: [127.0.0.2], ns2.acme.test: [127.0.0.3]}";
    let program = with_built_in(&pebble, own, hosts);
    let said = program.run(&["renew"]).expect_code(0);
    assert!(said.stdout.contains("ns2.acme.test"), "{said:?}");
    let status = program.run(&["status", "--json"]).expect_code(0);
    assert!(status.stdout.contains("\"records\": []"), "{status:?}");
}

/// Files that somebody removed are put back by the next run, from what is saved.
#[test]
fn what_was_removed_from_a_target_is_put_back() {
    let host = Host::usual();
    let pebble = Pebble::new(Version::Newest, host.addr()).start();
    let program = with_pebble(&host, &pebble, ONE);
    program.run(&["renew"]).expect_code(0);
    let before = std::fs::read(program.path("out/fullchain.pem")).unwrap();
    std::fs::remove_dir_all(program.path("out")).unwrap();
    program.run(&["renew"]).expect_code(0);
    assert_eq!(
        std::fs::read(program.path("out/fullchain.pem")).unwrap(),
        before
    );
}

/// An order that was left at an authority that is not configured any more, or whose name now means another directory,
/// does not stand in the way.
#[test]
fn an_attempt_of_another_authority_is_given_up_for_the_one_that_is_configured() {
    for name in ["pebble", "other"] {
        let host = Host::usual();
        let first = Pebble::new(Version::Newest, host.addr()).start();
        let program = with_pebble(&host, &first, ONE);
        killed_with_its_record_in_place(&program);
        let pebble = Pebble::new(Version::Newest, host.addr()).start();
        let other = configuration(&host, &pebble.directory_url(), &pebble.https_root(), ONE);
        program.configure(&other.replace("  pebble:", &format!("  {name}:")));
        program.run(&["renew"]).expect_code(0);
        judge(
            &program.path("out"),
            &pebble.issuing_root_pem(),
            &["example.test", "*.example.test"],
        );
        host.expect_clean();
    }
}

/// What a certificate that is not configured any more left behind is removed.
#[test]
fn records_of_a_certificate_that_was_removed_are_withdrawn() {
    let grants = format!(
        "grant acme name {CHALLENGE} TXT; grant acme name _acme-challenge.www.example.test TXT;"
    );
    let host = Host::start("_acme-challenge 120 TXT foreign\n", &grants);
    let pebble = Pebble::new(Version::Newest, host.addr()).start();
    let program = with_pebble(&host, &pebble, ONE);
    killed_with_its_record_in_place(&program);
    assert!(dns::txt(host.addr(), CHALLENGE).len() > 1);
    let other = "  www: {names: [www.example.test]}\n";
    let other = configuration(&host, &pebble.directory_url(), &pebble.https_root(), other);
    program.configure(&other);
    program.run(&["renew"]).expect_code(0);
    host.expect_clean();
}

/// Killed when the DNS host has the values.
pub(crate) fn killed_with_its_record_in_place(program: &Countersign) {
    let running = program.start(&["renew", "--log", "trace"]);
    running.wait_for("provider reply");
    running.kill();
}
