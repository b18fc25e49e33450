//! Every shipped manifest against a fake that was written from the host's documentation.

use async_trait::async_trait;
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::manifest::Manifest;
use countersign_providers::manifest::shipped::ALL;
use countersign_providers::record::{DnsName, RrSet, Zone};
use countersign_providers::{Context, ErrorKind, Provider, ProviderError, Receipt, Settled};

use super::{Plugin, built_in, context, name, plugin};
use crate::support::golden::{golden, normal, root};
use crate::support::rest::{Fake, Refusal, TOKEN};

const ZONE: &str = "example.test";
/// More zones than any host shows on one page, and some that only look like a parent. The right one comes last.
const OTHERS: usize = 1_100;
const TRAPS: [&str; 3] = ["ple.test", "notexample.test", "example.test.other.test"];

async fn start(vendor: &str) -> Fake {
    let others: Vec<String> = (0..OTHERS).map(|i| format!("other{i}.test")).collect();
    let others = others.iter().map(String::as_str).chain(TRAPS);
    let zones: Vec<&str> = others.chain([ZONE]).collect();
    Fake::start(vendor, &zones).await
}

/// A fake and its plug-in as the battery looks at them.
struct Host {
    fake: Fake,
    plugin: Plugin,
    zone: Zone,
}

impl Host {
    async fn start(vendor: &str) -> Self {
        let fake = start(vendor).await;
        let plugin = match vendor {
            "own" => plugin(example(), fake.endpoint(), TOKEN, &[]),
            shipped => built_in(shipped, fake.endpoint(), TOKEN),
        };
        let found = plugin.rest.zones(&name(ZONE), &context()).await.unwrap();
        let [held] = &found[..] else {
            panic!("{vendor} has {found:?}");
        };
        let zone = held.zone.clone();
        Self { fake, plugin, zone }
    }

    fn undocumented(&self) -> Vec<String> {
        self.fake.store().undocumented.clone()
    }
}

#[async_trait]
impl Fixture for Host {
    fn zone(&self) -> Zone {
        self.zone.clone()
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
        let (values, ttl) = self.fake.served(name.as_str());
        RrSet {
            name: name.clone(),
            ttl,
            values,
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        self.fake.ttl(wanted)
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        self.fake.add(ZONE, name.as_str(), value, ttl);
    }
}

async fn battery(vendor: &str) {
    let host = Host::start(vendor).await;
    let mut wanted = vec!["zone-below", "slots", "handle"];
    // A name there has at most a hundred characters before that of its zone.
    wanted.extend((vendor == "linode").then_some("name-long"));
    wanted.extend(["two-instances", "refused-name", "beside-refused"]);
    wanted.extend((vendor != "hetzner").then_some("settled"));
    wanted.push("secrets");
    assert_eq!(contract::skipped(&host.plugin.rest, &host).await, wanted);
    assert_eq!(host.undocumented(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bunny_passes_the_battery() {
    battery("bunny").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desec_passes_the_battery() {
    battery("desec").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digitalocean_passes_the_battery() {
    battery("digitalocean").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dnsimple_passes_the_battery() {
    battery("dnsimple").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gandi_passes_the_battery() {
    battery("gandi").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hetzner_passes_the_battery() {
    battery("hetzner").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ionos_passes_the_battery() {
    battery("ionos").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn linode_passes_the_battery() {
    battery("linode").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn porkbun_passes_the_battery() {
    battery("porkbun").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaleway_passes_the_battery() {
    battery("scaleway").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vultr_passes_the_battery() {
    battery("vultr").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_documentation_passes_the_battery() {
    let documentation = std::fs::read_to_string(root().join("providers/MANIFEST.md")).unwrap();
    let file = std::fs::read_to_string(root().join("config/own-dns.yaml")).unwrap();
    assert!(documentation.contains(&format!("```yaml\n{file}```\n")));
    battery("own").await;
}

fn example() -> Manifest {
    let file = std::fs::read_to_string(root().join("config/own-dns.yaml")).unwrap();
    Manifest::read(&file).unwrap()
}

/// The shipped ones that have a fake: all but PowerDNS, which is there itself.
fn faked() -> impl Iterator<Item = &'static str> {
    let names = ALL.into_iter().map(|it| it.0);
    names.filter(|it| *it != "powerdns")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apex_has_its_values_like_any_name() {
    for vendor in faked() {
        let host = Host::start(vendor).await;
        let apex = name(ZONE);
        host.fake.add(ZONE, ZONE, "v=spf1 -all", 7777);
        for (change, wanted) in [
            (ensure(&apex, "ours"), vec!["ours", "v=spf1 -all"]),
            (absent(&apex, "ours"), vec!["v=spf1 -all"]),
        ] {
            let applied = host
                .plugin
                .rest
                .apply(&host.zone, &[change], &[], &context())
                .await;
            applied.unwrap_or_else(|error| panic!("{vendor}: {error:?}"));
            let mut seen = host.fake.served(ZONE).0;
            seen.sort();
            assert_eq!(seen, wanted, "{vendor}");
        }
        assert_eq!(host.undocumented(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_on_the_last_page_is_found() {
    for vendor in faked() {
        let host = Host::start(vendor).await;
        for i in 0..1_300 {
            host.fake
                .add(ZONE, &format!("filler{i}.{ZONE}"), "filler", 3600);
        }
        let name = host.name("zz");
        host.fake.add(ZONE, name.as_str(), "there", 3600);
        let change = [ensure(&name, "there")];
        let applied = host
            .plugin
            .rest
            .apply(&host.zone, &change, &[], &context())
            .await;
        applied.unwrap_or_else(|error| panic!("{vendor}: {error:?}"));
        assert_eq!(host.fake.served(name.as_str()).0, ["there"], "{vendor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_below_a_zone_comes_first() {
    for vendor in faked() {
        let fake = Fake::start(vendor, &[ZONE, "sub.example.test"]).await;
        let plugin = built_in(vendor, fake.endpoint(), TOKEN);
        let found = plugin
            .rest
            .zones(&name("_acme-challenge.a.sub.example.test"), &context())
            .await
            .unwrap();
        let found: Vec<&str> = found.iter().map(|it| it.zone.name.as_str()).collect();
        // deSEC names the responsible one only.
        let wanted: &[&str] = if vendor == "desec" {
            &["sub.example.test"]
        } else {
            &["sub.example.test", ZONE]
        };
        assert_eq!(found, wanted, "{vendor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_names_take_no_more_calls_than_written_here() {
    let mut table = String::new();
    for vendor in faked() {
        let host = Host::start(vendor).await;
        let names: Vec<DnsName> = (0..100).map(|i| host.name(&format!("n{i}"))).collect();
        table.push_str(&format!("{vendor:<13}"));
        for verb in [ensure, absent] {
            let changes: Vec<_> = names.iter().map(|it| verb(it, "value")).collect();
            host.fake.store().calls = 0;
            for batch in changes.chunks(host.plugin.rest.traits().batch) {
                host.plugin
                    .rest
                    .apply(&host.zone, batch, &[], &context())
                    .await
                    .unwrap();
            }
            table.push_str(&format!("{:>5}", host.fake.store().calls));
        }
        table.push('\n');
    }
    golden(&root().join("tests/errors/manifest-calls.txt"), &table);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_change_is_asked_about_until_it_is_done() {
    let host = Host::start("hetzner").await;
    let rest = &host.plugin.rest;
    let changes = [
        ensure(&host.name("a"), "one"),
        ensure(&host.name("b"), "two"),
    ];
    let receipt = rest
        .apply(&host.zone, &changes, &[], &context())
        .await
        .unwrap();
    let ticket = receipt.ticket.unwrap();
    assert_eq!(rest.settle(&ticket, &context()).await, Ok(Settled::NotYet));
    assert_eq!(
        rest.settle(&ticket, &context()).await,
        Ok(Settled::Everywhere)
    );
    let again = rest
        .apply(&host.zone, &changes, &[], &context())
        .await
        .unwrap();
    assert_eq!(again, Receipt::default(), "nothing was to be done");
}

/// What a person reads when a host refuses, for every shipped manifest.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_sentence() {
    let mut table = String::new();
    for vendor in faked() {
        table.push_str(&format!("{vendor}\n"));
        let host = Host::start(vendor).await;
        let rest = &host.plugin.rest;
        let here = host.name("fresh");
        let change = [ensure(&here, "value")];
        let stranger = built_in(vendor, host.fake.endpoint(), "wrong-token");
        let refused = stranger.rest.zones(&here, &context()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Auth, "{vendor}: {refused:?}");
        add(&mut table, &refused);
        let wanted = [
            (Refusal::Permission, ErrorKind::Permission),
            (Refusal::RateLimited, ErrorKind::RateLimited { after: None }),
            (Refusal::Invalid, ErrorKind::Invalid),
        ];
        for (why, kind) in wanted {
            host.fake.refuse(Some(why));
            let refused = rest
                .apply(&host.zone, &change, &[], &context())
                .await
                .unwrap_err();
            let same = std::mem::discriminant(&refused.kind) == std::mem::discriminant(&kind);
            assert!(same, "{vendor}, {why:?}: {refused:?}");
            assert!(!refused.partly);
            add(&mut table, &refused);
        }
        host.fake.refuse(None);
        let nowhere = Zone {
            name: name("nowhere.test"),
            id: "nowhere.test".to_owned(),
        };
        let change = [ensure(&name("a.nowhere.test"), "value")];
        let refused = rest
            .apply(&nowhere, &change, &[], &context())
            .await
            .unwrap_err();
        assert_eq!(
            refused.kind,
            ErrorKind::ZoneMissing,
            "{vendor}: {refused:?}"
        );
        add(&mut table, &refused);
        assert_eq!(host.undocumented(), [""; 0]);
    }
    golden(
        &root().join("tests/errors/manifest-refusals.txt"),
        &normal(&table, &root()),
    );
}

fn add(table: &mut String, refused: &ProviderError) {
    let kind = format!("{:?}", refused.kind);
    let kind = kind.split(' ').next().unwrap_or_default();
    table.push_str(&format!("  {kind}: {refused}\n"));
    if let ErrorKind::RateLimited { after: Some(after) } = refused.kind {
        table.push_str(&format!("    after: {} s\n", after.as_secs()));
    }
    if let Some(hint) = &refused.hint {
        table.push_str(&format!("    hint: {hint}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_middle_says_that_some_changes_were_made() {
    let host = Host::start("linode").await;
    let long = name(&format!("{}.{}.{ZONE}", "x".repeat(60), "y".repeat(60)));
    let changes = [ensure(&host.name("a"), "one"), ensure(&long, "two")];
    let refused = host
        .plugin
        .rest
        .apply(&host.zone, &changes, &[], &context())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid);
    assert!(refused.partly, "{refused:?}");
    assert_eq!(host.fake.served(host.name("a").as_str()).0, ["one"]);
}
