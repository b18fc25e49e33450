//! A zone at two DNS hosts: two servers that know nothing of each other, and a delegation that names both.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::issuance::judge;
use crate::support::bind::{Bind, RunningBind, Zone, add_loopback};
use crate::support::command::Countersign;
use crate::support::pebble::{Pebble, RunningPebble, Version};
use crate::support::tsig::Key;
use crate::support::{dns, ports, zone};

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));
const CHALLENGE: &str = "_acme-challenge.example.test";

/// Two primaries of one zone, each with a foreign value of its own.
struct Stage {
    hosts: [RunningBind; 2],
    key: Key,
    pebble: RunningPebble,
    _port: ports::Port,
}

impl Stage {
    fn start() -> Self {
        let (key, port) = (Key::sha256("acme"), ports::free());
        let hosts = [ONE, OTHER].map(|address| {
            add_loopback(address);
            let foreign = format!("_acme-challenge 120 TXT foreign-{address}\n");
            let text = zone::text("example.test", &[ONE, OTHER], &foreign);
            let grant = format!("grant acme name {CHALLENGE} TXT;");
            let zone = Zone::primary("example.test", text).update_policy(&grant);
            let bind = Bind::new().listen(address).port(port.number());
            bind.key(&key).zone(zone).start()
        });
        // The authority asks the second one only: what is written at the first alone, it never sees.
        let second = SocketAddr::new(OTHER, port.number());
        let pebble = Pebble::new(Version::Newest, second).start();
        Self {
            hosts,
            key,
            pebble,
            _port: port,
        }
    }

    fn countersign(&self, provider: &str) -> Countersign {
        let port = self.hosts[0].addr().port();
        let host = |address: IpAddr| {
            let key = &self.key;
            format!(
                "{{rfc2136: {{server: \"{address}:{port}\", tsig: {{name: {}, algorithm: {}, secret: {{file: \"{{dir}}/tsig\"}}}}}}}}",
                key.name, key.algorithm
            )
        };
        let program = Countersign::new(&format!(
            "state: {{dir}}/state
authorities:
  pebble:
    agree-to-terms: true
    directory: {directory}
    trust: {trust}
providers:
  one: {one}
  other: {other}
dns: {{look: roots, roots: [127.0.0.2], port: {port}}}
certificates:
  example: {{names: [example.test, \"*.example.test\"], {provider}, deliver: [{{files: {{directory: \"{{dir}}/out\"}}}}]}}
",
            directory = self.pebble.directory_url(),
            trust = self.pebble.https_root().display(),
            one = host(ONE),
            other = host(OTHER),
        ));
        std::fs::write(program.path("tsig"), &self.key.secret).unwrap();
        program
    }

    fn expect_issued_by_both(&self, program: &Countersign) {
        program.run(&["renew"]).expect_code(0);
        let names = ["example.test", "*.example.test"];
        let root = self.pebble.issuing_root_pem();
        judge(&program.path("out"), &root, &names);
        let history = program.run(&["history", "example"]).expect_code(0).stdout;
        assert!(history.contains("of provider one and other"), "{history}");
        // Nothing of ours is left, and the foreign values are.
        for (host, address) in self.hosts.iter().zip([ONE, OTHER]) {
            let foreign = format!("foreign-{address}");
            assert_eq!(dns::txt(host.addr(), CHALLENGE), [foreign]);
        }
    }
}

#[test]
fn what_a_list_of_providers_names_is_written_at_all_of_them() {
    let stage = Stage::start();
    let program = stage.countersign("provider: [other, one]");
    stage.expect_issued_by_both(&program);
}

#[test]
fn a_delegation_that_names_two_holders_is_written_to_both() {
    let stage = Stage::start();
    let program = stage.countersign("key: p256");
    stage.expect_issued_by_both(&program);
}

/// One that has the zone for itself alone, with servers of its own.
#[test]
fn a_holder_whose_zone_names_other_servers_than_the_delegation_is_not_written_to() {
    let stage = Stage::start();
    let port = ports::free();
    let inside = zone::text(
        "example.test",
        &[INSIDE],
        "_acme-challenge 120 TXT inside\n",
    );
    let inside = inside.replace("ns1", "inside");
    add_loopback(INSIDE);
    let grant = format!("grant acme name {CHALLENGE} TXT;");
    let zone = Zone::primary("example.test", inside).update_policy(&grant);
    let bind = Bind::new().listen(INSIDE).port(port.number());
    let bind = bind.key(&stage.key).zone(zone).start();
    let program = stage.countersign("key: p256");
    let text = std::fs::read_to_string(program.config()).unwrap();
    let third = format!(
        "providers:\n  inside: {{rfc2136: {{server: \"{}\", tsig: {{name: {}, algorithm: {}, secret: {{file: \"{{dir}}/tsig\"}}}}}}}}",
        bind.addr(),
        stage.key.name,
        stage.key.algorithm
    );
    program.configure(&text.replacen("providers:", &third, 1));
    stage.expect_issued_by_both(&program);
    assert_eq!(dns::txt(bind.addr(), CHALLENGE), ["inside"]);
}
