//! The real servers start, answer and take a signed update: what every other test relies on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::rr::RecordType;

use crate::support::bind::{self, Bind};
use crate::support::command::Countersign;
use crate::support::knot::{self, Knot};
use crate::support::pebble::{Pebble, VERSIONS};
use crate::support::powerdns::{self, PowerDns};
use crate::support::process::{eventually, guarded, server, servers_directory};
use crate::support::proxy::{Fate, Proxy};
use crate::support::tsig::{self, Key, knsupdate, nsupdate};
use crate::support::unbound::Unbound;
use crate::support::{dns, ports, tls, zone};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FOREIGN: &str = "_acme-challenge 120 TXT foreign\n";
const ADD: &str = "update add _acme-challenge.example.test. 120 TXT ours";

fn example_zone() -> String {
    zone::text("example.test", &[HERE], FOREIGN)
}

#[test]
fn bind_takes_updates_as_its_policy_grants() {
    let key = Key::sha256("acme");
    let bind = Bind::new()
        .key(&key)
        .zone(
            bind::Zone::primary("example.test", example_zone())
                .update_policy("grant acme name _acme-challenge.example.test TXT;"),
        )
        .start();
    assert_eq!(dns::serial(bind.addr(), "example.test"), Some(1));

    nsupdate(bind.addr(), "example.test", Some(&key), ADD).unwrap();
    assert_eq!(
        dns::txt(bind.addr(), "_acme-challenge.example.test"),
        ["foreign", "ours"]
    );
    assert_eq!(
        dns::ttl(bind.addr(), "_acme-challenge.example.test", RecordType::TXT),
        Some(120)
    );

    let elsewhere = "update add www.example.test. 60 TXT no";
    let refusal = nsupdate(bind.addr(), "example.test", Some(&key), elsewhere).unwrap_err();
    assert!(refusal.contains("REFUSED"), "{refusal}");
    let stranger = Key::sha256("stranger");
    let refusal = nsupdate(bind.addr(), "example.test", Some(&stranger), ADD).unwrap_err();
    assert!(refusal.contains("BADKEY"), "{refusal}");
}

#[test]
fn bind_knows_all_three_algorithms() {
    for algorithm in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let key = Key::new("acme", algorithm, 3);
        let bind = Bind::new()
            .key(&key)
            .zone(bind::Zone::primary("example.test", example_zone()).allow_update(&key))
            .start();
        knsupdate(bind.addr(), "example.test", Some(&key), ADD).unwrap();
        assert_eq!(
            dns::txt(bind.addr(), "_acme-challenge.example.test"),
            ["foreign", "ours"]
        );
    }
}

#[test]
fn bind_secondary_follows_its_primary() {
    let key = Key::sha256("acme");
    let reserved = ports::free();
    let secondary = (HERE, reserved.number()).into();
    let primary = Bind::new()
        .key(&key)
        .zone(
            bind::Zone::primary("example.test", example_zone())
                .allow_update(&key)
                .notify(&[secondary]),
        )
        .start();
    let secondary = Bind::new()
        .port(reserved.number())
        .zone(bind::Zone::secondary("example.test", &[primary.addr()]))
        .start();
    nsupdate(primary.addr(), "example.test", Some(&key), ADD).unwrap();
    assert!(crate::support::process::eventually(
        std::time::Duration::from_secs(20),
        || { dns::txt(secondary.addr(), "_acme-challenge.example.test") == ["foreign", "ours"] }
    ));
}

#[test]
fn knot_takes_updates_as_its_rules_grant() {
    let key = Key::sha256("acme");
    let knot = Knot::new()
        .key(&key)
        .zone(
            knot::Zone::primary("example.test", example_zone())
                .allow_txt(&key, &["_acme-challenge"]),
        )
        .start();
    nsupdate(knot.addr(), "example.test", Some(&key), ADD).unwrap();
    assert_eq!(
        dns::txt(knot.addr(), "_acme-challenge.example.test"),
        ["foreign", "ours"]
    );

    let elsewhere = "update add www.example.test. 60 TXT no";
    let refusal = nsupdate(knot.addr(), "example.test", Some(&key), elsewhere).unwrap_err();
    assert!(refusal.contains("NOTAUTH"), "{refusal}");
}

#[test]
fn knot_secondaries_listen_on_any_loopback_address_and_follow() {
    let key = Key::sha256("acme");
    let reserved = ports::free();
    let second: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();
    let primary = Knot::new()
        .port(reserved.number())
        .key(&key)
        .zone(
            knot::Zone::primary("example.test", example_zone())
                .allow_update(&key)
                .notify(&[(second, reserved.number()).into()]),
        )
        .start();
    let secondary = Knot::new()
        .listen(second)
        .port(reserved.number())
        .zone(knot::Zone::secondary("example.test", primary.addr()))
        .start();
    knsupdate(primary.addr(), "example.test", Some(&key), ADD).unwrap();
    assert!(eventually(Duration::from_secs(20), || {
        dns::txt(secondary.addr(), "_acme-challenge.example.test") == ["foreign", "ours"]
    }));
}

#[test]
fn powerdns_takes_updates_from_its_key_only() {
    let key = Key::sha256("acme");
    let powerdns = PowerDns::new()
        .key(&key)
        .zone(powerdns::Zone::primary("example.test", example_zone()).allow_update(&key))
        .start();
    nsupdate(powerdns.addr(), "example.test", Some(&key), ADD).unwrap();
    assert_eq!(
        dns::txt(powerdns.addr(), "_acme-challenge.example.test"),
        ["foreign", "ours"]
    );

    let stranger = Key::sha256("stranger");
    let refusal = nsupdate(powerdns.addr(), "example.test", Some(&stranger), ADD).unwrap_err();
    assert!(refusal.contains("REFUSED"), "{refusal}");
}

#[test]
fn a_stopped_server_comes_back_with_what_it_had() {
    let key = Key::sha256("acme");
    let mut bind = Bind::new()
        .key(&key)
        .zone(bind::Zone::primary("example.test", example_zone()).allow_update(&key))
        .start();
    nsupdate(bind.addr(), "example.test", Some(&key), ADD).unwrap();
    bind.stop();
    assert_eq!(dns::serial(bind.addr(), "example.test"), None);
    bind.start_again();
    assert_eq!(
        dns::txt(bind.addr(), "_acme-challenge.example.test"),
        ["foreign", "ours"]
    );
}

#[test]
fn unbound_resolves_through_a_stub_and_remembers_nothing() {
    let key = Key::sha256("acme");
    let knot = Knot::new()
        .key(&key)
        .zone(knot::Zone::primary("example.test", example_zone()).allow_update(&key))
        .start();
    let unbound = Unbound::new().stub("example.test", &[knot.addr()]).start();
    assert_eq!(
        dns::txt(unbound.addr(), "_acme-challenge.example.test"),
        ["foreign"]
    );
    assert_eq!(
        dns::txt(unbound.addr(), "_acme-challenge.www.example.test"),
        [""; 0]
    );
    let add = "update add _acme-challenge.www.example.test. 60 TXT new";
    nsupdate(knot.addr(), "example.test", Some(&key), ADD).unwrap();
    nsupdate(knot.addr(), "example.test", Some(&key), add).unwrap();
    assert_eq!(
        dns::txt(unbound.addr(), "_acme-challenge.example.test"),
        ["foreign", "ours"]
    );
    assert_eq!(
        dns::txt(unbound.addr(), "_acme-challenge.www.example.test"),
        ["new"]
    );
}

#[test]
fn both_pebbles_serve_their_directory_and_root() {
    for version in VERSIONS {
        let pebble = Pebble::new(version, (HERE, 1).into()).start();
        let directory = tls::get(pebble.addr(), pebble.https_root_pem(), "/dir").unwrap();
        let order = format!("https://{}/order-plz", pebble.addr());
        assert!(directory.contains(&order), "{version:?}: {directory}");
        let root = pebble.issuing_root_pem();
        assert!(
            root.starts_with("-----BEGIN CERTIFICATE-----"),
            "{version:?}: {root}"
        );
    }
}

#[test]
fn the_proxy_counts_and_loses_what_it_is_told() {
    for version in VERSIONS {
        let pebble = Pebble::new(version, (HERE, 1).into()).start();
        let proxy = Proxy::start(pebble.addr(), pebble.https_root_pem(), "/dir");
        let root = std::fs::read_to_string(proxy.https_root()).unwrap();
        let get = |path| tls::get(proxy.addr(), &root, path);

        let directory = get("/dir").unwrap();
        let order = format!("https://{}/order-plz", proxy.addr());
        assert!(
            directory.contains(&order),
            "the client stays at the proxy: {directory}"
        );
        get("/order-plz").unwrap_err();
        assert_eq!((proxy.count("directory"), proxy.count("newOrder")), (1, 1));

        proxy.decide(|seen| match (seen.kind.as_str(), seen.nth) {
            ("directory", 2) => Fate::LoseRequest,
            ("directory", 3) => Fate::LoseReply,
            ("directory", 4) => Fate::Reply {
                status: 200,
                headers: vec![],
                body: "replaced".to_owned(),
            },
            _ => Fate::Pass,
        });
        get("/dir").unwrap_err();
        get("/dir").unwrap_err();
        assert_eq!(get("/dir").unwrap(), "replaced");
        assert_eq!(get("/dir").unwrap(), directory);
    }
}

#[test]
fn the_program_is_run_and_heard() {
    let program = Countersign::new("state: {dir}/state");
    let text = std::fs::read_to_string(program.config()).unwrap();
    assert_eq!(
        text,
        format!("state: {}/state", program.directory().display())
    );
    program.run(&["--version"]).expect_code(0);
}

/// The servers work together as an unrelated client expects: certbot → proxy → Pebble → Unbound → BIND.
#[test]
fn certbot_gets_a_certificate_through_all_of_them() {
    let key = Key::new("acme", "hmac-sha512", 5);
    let bind = Bind::new()
        .key(&key)
        .zone(
            bind::Zone::primary("example.test", example_zone())
                .update_policy("grant acme name _acme-challenge.example.test TXT;"),
        )
        .start();
    let unbound = Unbound::new().stub("example.test", &[bind.addr()]).start();
    for version in VERSIONS {
        let pebble = Pebble::new(version, unbound.addr()).start();
        let proxy = Proxy::start(pebble.addr(), pebble.https_root_pem(), "/dir");
        let directory = tempfile::tempdir().unwrap();
        let chain = certbot(&proxy, bind.addr(), &key, directory.path());

        let root = directory.path().join("root.pem");
        std::fs::write(&root, pebble.issuing_root_pem()).unwrap();
        openssl_verify(&root, &chain);
        assert_eq!(
            proxy.count("newOrder"),
            1,
            "{version:?}: {:?}",
            proxy.seen()
        );
        assert_eq!(
            dns::txt(bind.addr(), "_acme-challenge.example.test"),
            ["foreign"]
        );
    }
}

/// Orders `example.test` and `*.example.test`; the path of the full chain.
fn certbot(proxy: &Proxy, at: SocketAddr, key: &Key, directory: &Path) -> PathBuf {
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let credentials = format!(
        "dns_rfc2136_server = {}\ndns_rfc2136_port = {}\ndns_rfc2136_name = {}.\n\
         dns_rfc2136_secret = {}\ndns_rfc2136_algorithm = {}\n",
        at.ip(),
        at.port(),
        key.name,
        key.secret,
        key.algorithm.to_uppercase(),
    );
    std::fs::write(path("credentials"), credentials).unwrap();
    let mut certbot = guarded(&servers_directory().join("venv/bin/certbot"));
    certbot
        .args(["certonly", "--non-interactive", "--agree-tos"])
        .args(["--register-unsafely-without-email", "--dns-rfc2136"])
        .args(["--dns-rfc2136-credentials", &path("credentials")])
        .args(["--dns-rfc2136-propagation-seconds", "0"])
        .args([
            "--server",
            &proxy.directory_url(),
            "--config-dir",
            &path("config"),
        ])
        .args(["--work-dir", &path("work"), "--logs-dir", &path("logs")])
        .args(["-d", "example.test", "-d", "*.example.test"])
        .env("REQUESTS_CA_BUNDLE", proxy.https_root());
    let output = tsig::run(certbot, "");
    let log = std::fs::read_to_string(path("logs/letsencrypt.log")).unwrap_or_default();
    assert!(output.status.success(), "{output:?}\n{log}");
    directory.join("config/live/example.test/fullchain.pem")
}

fn openssl_verify(root: &Path, chain: &Path) {
    let mut openssl = server("openssl");
    openssl
        .arg("verify")
        .arg("-CAfile")
        .arg(root)
        .arg("-untrusted")
        .arg(chain)
        .arg(chain);
    let output = tsig::run(openssl, "");
    assert!(output.status.success(), "{output:?}");
}
