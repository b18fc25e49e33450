//! The real servers start, answer and take a signed update: what every other test relies on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hickory_proto::rr::RecordType;

use crate::support::bind::{self, Bind};
use crate::support::knot::{self, Knot};
use crate::support::powerdns::{self, PowerDns};
use crate::support::process::eventually;
use crate::support::tsig::{Key, knsupdate, nsupdate};
use crate::support::{dns, ports, zone};

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
