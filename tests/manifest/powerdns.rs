//! The manifest of PowerDNS against the real server's HTTP API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use async_trait::async_trait;
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::record::{DnsName, RrSet, Zone};
use countersign_providers::{Context, ErrorKind, Provider, RecordModel};
use hickory_proto::rr::RecordType;

use super::{Plugin, built_in, context, name};
use crate::support::ports;
use crate::support::powerdns::{self, PowerDns, RunningPowerDns};
use crate::support::tsig::{Key, nsupdate};
use crate::support::{dns, zone};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ZONE: &str = "example.test";

/// A PowerDNS with its API on, and somebody else who changes the zone by DNS UPDATE.
struct Host {
    powerdns: RunningPowerDns,
    plugin: Plugin,
    endpoint: String,
    _port: ports::Port,
}

fn somebody() -> Key {
    Key::sha256("somebody")
}

fn start() -> Host {
    let port = ports::free();
    let endpoint = format!("http://127.0.0.1:{}", port.number());
    let text = zone::text(ZONE, &[HERE], "alias CNAME target\nwww TXT \"public\"\n");
    let powerdns = PowerDns::new()
        .option("api=yes")
        .option("api-key=good")
        .option("webserver=yes")
        .option("webserver-address=127.0.0.1")
        .option(&format!("webserver-port={}", port.number()))
        .key(&somebody())
        .zone(powerdns::Zone::primary(ZONE, text).allow_update(&somebody()))
        .zone(powerdns::Zone::primary(
            "ple.test",
            zone::text("ple.test", &[HERE], ""),
        ))
        .start();
    Host {
        powerdns,
        plugin: built_in("powerdns", &endpoint, "good"),
        endpoint,
        _port: port,
    }
}

impl Host {
    fn at(&self) -> SocketAddr {
        self.powerdns.addr()
    }
}

#[async_trait]
impl Fixture for Host {
    fn zone(&self) -> Zone {
        Zone {
            name: name(ZONE),
            id: format!("{ZONE}."),
        }
    }

    fn name(&self, label: &str) -> DnsName {
        name(&format!("_acme-challenge.{label}.{ZONE}"))
    }

    fn forbidden(&self) -> Option<DnsName> {
        None
    }

    fn context(&self) -> Context {
        context()
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        RrSet {
            name: name.clone(),
            ttl: dns::ttl(self.at(), name.as_str(), RecordType::TXT),
            values: dns::txt(self.at(), name.as_str()),
        }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let line = format!("update add {name}. {ttl} TXT \"{quoted}\"");
        nsupdate(self.at(), ZONE, Some(&somebody()), &line).expect("the key may add this");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn powerdns_passes_the_battery() {
    let host = start();
    assert_eq!(host.plugin.rest.traits().model, RecordModel::Set);
    let skipped = contract::skipped(&host.plugin.rest, &host).await;
    let wanted = [
        "zone-below",
        "slots",
        "handle",
        "two-instances",
        "refused-name",
        "beside-refused",
        "settled",
        "secrets",
    ];
    assert_eq!(skipped, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn powerdns_refusals_each_read_differently() {
    let host = start();
    let change = [ensure(&host.name("fresh"), "value")];
    let refused = |plugin: Plugin, zone: Zone, at: DnsName| {
        let change = [ensure(&at, "value")];
        let endpoint = host.endpoint.clone();
        async move {
            // With its secret's file.
            let plugin = &plugin;
            let applied = plugin.rest.apply(&zone, &change, &[], &context()).await;
            let error = applied.expect_err("a refusal");
            let there = endpoint.trim_start_matches("http://");
            (error.kind, error.message.replace(there, "SERVER"))
        }
    };
    let stranger = built_in("powerdns", &host.endpoint, "wrong-token");
    assert_eq!(
        refused(stranger, host.zone(), host.name("fresh")).await,
        (
            ErrorKind::Auth,
            "SERVER answers 401 when asked for the records of example.test: Unauthorized"
                .to_owned()
        )
    );
    let nowhere = Zone {
        name: name("nowhere.test"),
        id: "nowhere.test.".to_owned(),
    };
    let plugin = built_in("powerdns", &host.endpoint, "good");
    assert_eq!(
        refused(plugin, nowhere, name("a.nowhere.test")).await,
        (
            ErrorKind::ZoneMissing,
            "SERVER answers 404 when asked for the records of nowhere.test: Not Found".to_owned()
        )
    );
    let plugin = built_in("powerdns", &host.endpoint, "good");
    let (kind, message) = refused(plugin, host.zone(), name("alias.example.test")).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert_eq!(
        message,
        "SERVER answers 422 when asked to change TXT at alias.example.test: RRset alias.example.test. IN TXT: Conflicts with pre-existing RRset"
    );
    assert!(
        host.plugin
            .rest
            .apply(&host.zone(), &change, &[], &context())
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_powerdns_keeps_and_does_not_serve_stays_so() {
    let host = start();
    let here = host.name("disabled");
    let set = serde_json::json!({"rrsets": [{
        "name": format!("{here}."), "type": "TXT", "ttl": 7777, "changetype": "REPLACE",
        "records": [{"content": "\"asleep\"", "disabled": true}, {"content": "\"awake\"", "disabled": false}],
    }]});
    let zone = format!("{}/api/v1/servers/localhost/zones/{ZONE}.", host.endpoint);
    let client = client();
    let patched = client
        .patch(&zone)
        .header("X-API-Key", "good")
        .body(set.to_string())
        .send()
        .await
        .unwrap();
    assert!(patched.status().is_success());
    for change in [
        ensure(&here, "ours"),
        absent(&here, "ours"),
        absent(&here, "asleep"),
    ] {
        host.plugin
            .rest
            .apply(&host.zone(), &[change], &[], &context())
            .await
            .unwrap();
    }
    let seen = host
        .plugin
        .rest
        .observe(&host.zone(), std::slice::from_ref(&here), &context())
        .await
        .unwrap();
    assert_eq!(seen[0].values, ["awake"]);
    let text = client
        .get(&zone)
        .header("X-API-Key", "good")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sets = kept["rrsets"].as_array().unwrap();
    let set = sets
        .iter()
        .find(|it| it["name"] == format!("{here}."))
        .unwrap();
    let asleep: Vec<&serde_json::Value> = set["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["disabled"] == true)
        .collect();
    assert_eq!(asleep.len(), 1);
    assert_eq!(asleep[0]["content"], "\"asleep\"");
}

/// A client of the test's own, for loopback.
fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
