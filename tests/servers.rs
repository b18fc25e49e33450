//! The real servers start, answer and take a signed update: what every other test relies on.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::RecordType;

use crate::support::bind::{self, Bind};
use crate::support::tsig::{Key, knsupdate, nsupdate};
use crate::support::{dns, zone};

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
    let reserved = crate::support::ports::free();
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
