//! The Route 53 plug-in against a strict fake, which boto3 judges, and against moto, which nobody here wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends so")]

mod credentials;
mod interleavings;
mod peers;
mod refusals;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use countersign_providers::clock::{Clock, later};
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::route53::{Route53, Settings, Source};
use countersign_providers::secret::SecretSource;
use countersign_providers::{
    Context, ErrorKind, Provider, ProviderError, Receipt, RecordModel, Settled,
};
use url::Url;

use crate::support::route53::store::{self, Set, text_of};
use crate::support::route53::{Fake, Fault, KEY, SECRET};

const ZONE: &str = "example.test";
const ID: &str = "Z1EXAMPLE";
/// More than any verb needs, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_strict_fake_passes_the_battery() {
    battery(&start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_pages_and_the_older_form_of_refusals_pass_the_battery() {
    let fake = start();
    fake.state().page = 2;
    fake.state().old_refusals = true;
    battery(&fake).await;
}

async fn battery(fake: &Fake) {
    let mut names: Vec<String> = (contract::labels(ZONE).iter())
        .map(|label| format!("{label}.{ZONE}"))
        .collect();
    names.push(ZONE.to_owned());
    fake.state().keys.get_mut(KEY).unwrap().names = names;
    let host = Host(fake.clone());
    let skipped = contract::skipped(&provider(fake), &host).await;
    assert_eq!(
        skipped,
        ["zone-below", "slots", "handle", "two-instances", "secrets"]
    );
}

/// The fake as the battery looks at it.
struct Host(Fake);

#[async_trait]
impl Fixture for Host {
    fn zone(&self) -> Zone {
        zone()
    }

    fn name(&self, label: &str) -> DnsName {
        name(label)
    }

    fn forbidden(&self) -> Option<DnsName> {
        Some(name("hidden"))
    }

    fn context(&self) -> Context {
        context()
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        served(&self.0, name)
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        put(&self.0, name, ttl, &[&format!("\"{quoted}\"")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_names_take_three_calls_to_present_and_one_to_clean() {
    let fake = start();
    let provider = provider(&fake);
    let names: Vec<DnsName> = (0..100).map(|i| name(&format!("n{i}"))).collect();
    let found = provider.zones(&names[0], &context()).await.unwrap();
    assert_eq!(found.len(), 1);
    let zone = &found[0].zone;
    let present: Vec<Change> = names
        .iter()
        .map(|name| ensure(name, &value(name)))
        .collect();
    let receipt = provider
        .apply(zone, &present, &[], &context())
        .await
        .unwrap();
    assert_eq!(
        provider.settle(&receipt.ticket.unwrap(), &context()).await,
        Ok(Settled::Everywhere)
    );
    assert_eq!(
        fake.calls(),
        [
            "ListHostedZonesByName",
            "ChangeResourceRecordSets",
            "GetChange"
        ]
    );

    let believed: Vec<RrSet> = names.iter().map(|name| served(&fake, name)).collect();
    let clean: Vec<Change> = names
        .iter()
        .map(|name| absent(name, &value(name)))
        .collect();
    provider
        .apply(zone, &clean, &believed, &context())
        .await
        .unwrap();
    assert_eq!(fake.calls(), ["ChangeResourceRecordSets"]);
    assert_eq!(fake.state().zones[0].sets.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apex_and_its_wildcard_come_at_once_and_each_goes_alone() {
    let fake = start();
    let at = name("_acme-challenge");
    apply(&fake, &[ensure(&at, "apex"), ensure(&at, "wildcard")], &[])
        .await
        .unwrap();
    assert_eq!(fake.calls(), ["ChangeResourceRecordSets"]);
    let both = served(&fake, &at);
    apply(&fake, &[absent(&at, "apex")], &[both]).await.unwrap();
    assert_eq!(fake.calls(), ["ChangeResourceRecordSets"]);
    assert_eq!(served(&fake, &at).values, ["wildcard"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_goes_back_exactly_as_it_was_read() {
    let fake = start();
    let at = name("shared");
    let theirs = [
        "\"v=spf1\" \"-all\"",
        "\"\\052 \\\"quoted\\\" \\303\\251\"",
        "\"\"",
    ];
    put(&fake, &at, 777, &theirs);
    let before = fake.state().zones[0].clone();
    apply(&fake, &[ensure(&at, "ours")], &[]).await.unwrap();
    let kept = fake.state().zones[0].txt(at.as_str()).unwrap().clone();
    assert_eq!(kept.ttl, Some(777));
    assert_eq!(kept.values, [&theirs[..], &["\"ours\""]].concat());
    apply(&fake, &[absent(&at, "ours")], &[]).await.unwrap();
    assert_eq!(fake.state().zones[0].sets, before.sets);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_names_that_were_overtaken_are_read_again() {
    let fake = start();
    let names: Vec<DnsName> = (0..50).map(|i| name(&format!("n{i}"))).collect();
    put(&fake, &names[7], 777, &["\"theirs\""]);
    let present: Vec<Change> = names.iter().map(|name| ensure(name, "ours")).collect();
    apply(&fake, &present, &[]).await.unwrap();
    let change = "ChangeResourceRecordSets";
    assert_eq!(fake.calls(), [change, "ListResourceRecordSets", change]);
    assert_eq!(served(&fake, &names[7]).values, ["theirs", "ours"]);
    assert_eq!(fake.state().zones[0].sets.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_believed_to_be_there_is_put_there_if_it_is_not() {
    let fake = start();
    let at = name("a");
    let believed = RrSet {
        name: at.clone(),
        ttl: Some(60),
        values: vec!["v".to_owned()],
    };
    for theirs in [&[][..], &["\"theirs\""]] {
        fake.state().zones[0].sets.clear();
        if !theirs.is_empty() {
            put(&fake, &at, 777, theirs);
        }
        apply(&fake, &[ensure(&at, "v")], std::slice::from_ref(&believed))
            .await
            .unwrap();
        assert!(served(&fake, &at).values.contains(&"v".to_owned()));
        apply(&fake, &[ensure(&at, "v")], &[served(&fake, &at)])
            .await
            .unwrap();
        assert_eq!(served(&fake, &at).values.len(), theirs.len() + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_names_no_set_has_all_of_them_read_again() {
    let fake = start();
    let words = "The resource record set already exists".to_owned();
    let fault = Fault::Refuse(400, "InvalidChangeBatch", words);
    fake.fault("ChangeResourceRecordSets", fault);
    let both = [ensure(&name("a"), "v"), ensure(&name("b"), "v")];
    put(&fake, &name("a"), 777, &["\"theirs\""]);
    put(&fake, &name("b"), 777, &["\"v\""]);
    apply(&fake, &both, &[]).await.unwrap();
    assert_eq!(served(&fake, &name("a")).values, ["theirs", "v"]);
    assert_eq!(served(&fake, &name("b")).values, ["v"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_names_are_observed_with_few_calls() {
    let fake = start();
    let names: Vec<DnsName> = (0..100).map(|i| name(&format!("n{i}"))).collect();
    for name in &names {
        put(&fake, name, 60, &["\"v\""]);
    }
    let seen = provider(&fake)
        .observe(&zone(), &names, &context())
        .await
        .unwrap();
    assert!(seen.iter().all(|set| set.values == ["v"]));
    assert_eq!(fake.calls().len(), 1);
    fake.state().page = 30;
    let seen = provider(&fake)
        .observe(&zone(), &names, &context())
        .await
        .unwrap();
    assert!(seen.iter().all(|set| set.values == ["v"]));
    assert!(fake.calls().len() <= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_host_sorts_otherwise_than_by_labels_is_found_too() {
    let fake = start();
    let names = ["a", "a-b", "x.a", "a_c"].map(name);
    for page in [300, 1] {
        fake.state().page = page;
        for name in &names {
            put(&fake, name, 60, &["\"v\""]);
        }
        let seen = provider(&fake)
            .observe(&zone(), &names, &context())
            .await
            .unwrap();
        assert!(seen.iter().all(|set| set.values == ["v"]), "{seen:?}");
        let all = names.each_ref().map(|name| absent(name, "v"));
        apply(&fake, &all, &[]).await.unwrap();
        assert!(fake.state().zones[0].sets.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_an_end_is_given_up() {
    let fake = start();
    let page = "<R><IsTruncated>true</IsTruncated><NextDNSName>example.test.</NextDNSName></R>";
    for _ in 0..1_100 {
        fake.fault(
            "ListHostedZonesByName",
            Fault::Garbage(200, page.to_owned()),
        );
    }
    let error = provider(&fake)
        .zones(&name("a"), &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
    assert!(error.message.contains("without an end"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_with_a_routing_policy_and_an_alias_are_left_alone() {
    let fake = start();
    let (weighted, alias) = (name("weighted"), name("alias"));
    let identified = Set {
        identifier: Some("blue".to_owned()),
        ..Set::txt(weighted.as_str(), 60, &["\"theirs\""])
    };
    let aliased = Set {
        ttl: None,
        ..Set::txt(alias.as_str(), 60, &[])
    };
    for set in [identified, aliased] {
        fake.state().zones[0].put(set);
    }
    let before = fake.state().zones[0].clone();
    for (at, said) in [(weighted, "routing policy"), (alias, "alias")] {
        for change in [ensure(&at, "ours"), absent(&at, "ours")] {
            let error = apply(&fake, &[change], &[]).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{error:?}");
            assert!(
                error.message.contains(said) && error.hint.is_some(),
                "{error:?}"
            );
        }
    }
    assert_eq!(fake.state().zones[0].sets, before.sets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_found_by_its_longest_name_and_not_by_half_a_label() {
    let fake = Fake::start(vec![
        store::Zone::new("Z1", ZONE),
        store::Zone::new("Z2", "sub.example.test"),
        store::Zone::new("Z3", "notexample.test"),
        store::Zone::new("Z4", "private.example.test").private(),
        store::Zone::new("Z5", "example-a.test"),
    ]);
    let found = async |at: &str| -> Vec<String> {
        let at = DnsName::parse(at).unwrap();
        let found = provider(&fake).zones(&at, &context()).await.unwrap();
        found.into_iter().map(|held| held.zone.id).collect()
    };
    for page in [300, 2, 1] {
        fake.state().page = page;
        assert_eq!(
            found("_acme-challenge.a.sub.example.test").await,
            ["Z2", "Z1"]
        );
        assert_eq!(found("_acme-challenge.private.example.test").await, ["Z1"]);
        assert_eq!(found("_acme-challenge.notexample.test").await, ["Z3"]);
        assert_eq!(found("example-a.test").await, ["Z5"]);
        assert_eq!(found("_acme-challenge.other.test").await, [""; 0]);
    }
    fake.calls();
    fake.state().page = 100;
    found("_acme-challenge.a.sub.example.test").await;
    assert_eq!(fake.calls(), ["ListHostedZonesByName"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_of_one_name_are_told_apart_by_their_name_servers() {
    let twins = (1..=5).map(|i| store::Zone::new(&format!("Z{i}"), ZONE));
    let fake = Fake::start(
        twins
            .chain([store::Zone::new("Z0", ZONE).private()])
            .collect(),
    );
    for page in [300, 2] {
        fake.state().page = page;
        let provider = provider(&fake);
        let mut seen = Vec::new();
        for held in provider.zones(&name("a"), &context()).await.unwrap() {
            let servers = provider.nameservers(&held.zone, &context()).await.unwrap();
            seen.push((held.zone.id, servers[0].to_string()));
        }
        let wanted: Vec<(String, String)> = (1..=5)
            .map(|i| (format!("Z{i}"), format!("ns-1.z{i}.test")))
            .collect();
        assert_eq!(seen, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_that_are_configured_are_not_asked_for() {
    let fake = start();
    let zones = [(ZONE, "Z1"), ("sub.example.test", "Z2")];
    let zones = zones.map(|(name, id)| (DnsName::parse(name).unwrap(), id.to_owned()));
    let provider = Route53::new(Settings {
        zones: zones.into(),
        ..settings(&fake)
    });
    let found = provider
        .zones(&name("_acme-challenge.sub"), &context())
        .await
        .unwrap();
    let ids: Vec<&str> = found.iter().map(|held| held.zone.id.as_str()).collect();
    assert_eq!(ids, ["Z2", "Z1"]);
    let elsewhere = DnsName::parse("a.other.test").unwrap();
    assert_eq!(provider.zones(&elsewhere, &context()).await, Ok(vec![]));
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_pending_until_it_is_in_sync() {
    let fake = start();
    fake.state().pending = 2;
    let receipt = apply(&fake, &[ensure(&name("a"), "v")], &[]).await.unwrap();
    let settle = async |ticket: &str| provider(&fake).settle(ticket, &context()).await;
    let ticket = receipt.ticket.unwrap();
    assert_eq!(settle(&ticket).await, Ok(Settled::NotYet));
    assert_eq!(settle(&ticket).await, Ok(Settled::NotYet));
    assert_eq!(settle(&ticket).await, Ok(Settled::Everywhere));
    assert_eq!(settle("C9999").await, Ok(Settled::Unknown));
    assert_eq!(provider(&fake).traits().model, RecordModel::SetWithProof);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_an_unknown_outcome_and_the_next_try_finds_the_value() {
    for fault in [Fault::ResetAfter, Fault::HalfReply] {
        let fake = start();
        let at = name("a");
        fake.fault("ChangeResourceRecordSets", fault);
        let change = [ensure(&at, "v")];
        let lost = apply(&fake, &change, &[]).await.unwrap_err();
        assert!(lost.outcome_unknown(), "{lost:?}");
        assert_eq!(served(&fake, &at).values, ["v"]);
        apply(&fake, &change, &[]).await.unwrap();
        assert_eq!(served(&fake, &at).values, ["v"]);
        let believed = [served(&fake, &at)];
        fake.fault("ChangeResourceRecordSets", Fault::ResetAfter);
        let change = [absent(&at, "v")];
        apply(&fake, &change, &believed).await.unwrap_err();
        apply(&fake, &change, &believed).await.unwrap();
        assert_eq!(served(&fake, &at).values, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_breaks_off_or_talks_nonsense_harms_nothing() {
    let fake = start();
    let at = name("a");
    let garbage = |status, body: &str| Fault::Garbage(status, body.to_owned());
    for (fault, kind) in [
        (Fault::ResetBefore, ErrorKind::Transient),
        (garbage(200, ""), ErrorKind::Fatal),
        (garbage(200, "<html><body>Welcome"), ErrorKind::Fatal),
        (garbage(200, "<a><ChangeInfo/></a>"), ErrorKind::Fatal),
        (garbage(200, &"<a>".repeat(100_000)), ErrorKind::Fatal),
        (garbage(301, ""), ErrorKind::Fatal),
        (garbage(400, "{}"), ErrorKind::Invalid),
        (
            garbage(502, "<html>Bad Gateway</html>"),
            ErrorKind::Transient,
        ),
        (garbage(429, ""), ErrorKind::RateLimited { after: None }),
    ] {
        fake.fault("ChangeResourceRecordSets", fault.clone());
        let error = apply(&fake, &[ensure(&at, "v")], &[]).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {error:?}");
        assert!(error.message.contains("127.0.0.1"), "{error:?}");
        assert!(error.message.len() < 500, "{error:?}");
    }
    assert_eq!(served(&fake, &at).values, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_says_nothing_is_given_up_at_the_deadline() {
    let fake = start();
    fake.fault("ChangeResourceRecordSets", Fault::Silence);
    let clock = Clock::system();
    let soon = later(clock.now(), Duration::from_millis(300));
    let context = Context::new(clock, soon);
    let (provider, change) = (provider(&fake), [ensure(&name("a"), "v")]);
    let late = provider.apply(&zone(), &change, &[], &context).await;
    assert_eq!(late.unwrap_err().kind, ErrorKind::Transient);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_asks_too_often_slows_all_of_its_verbs_down() {
    let fake = start();
    let context = context();
    let throttled = Fault::Refuse(400, "Throttling", "Rate exceeded".to_owned());
    fake.fault("ChangeResourceRecordSets", throttled);
    let change = [ensure(&name("a"), "v")];
    let error = provider(&fake)
        .apply(&zone(), &change, &[], &context)
        .await
        .unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::RateLimited { after: Some(_) }),
        "{error:?}"
    );
    assert!(!context.meter.wait(&context.clock).is_zero());
}

fn start() -> Fake {
    Fake::start(vec![store::Zone::new(ID, ZONE)])
}

fn provider(fake: &Fake) -> Route53 {
    Route53::new(settings(fake))
}

fn settings(fake: &Fake) -> Settings {
    with_key(fake, KEY, SECRET)
}

fn with_key(fake: &Fake, id: &str, secret: &str) -> Settings {
    keyed(&fake.url(), id, fake.secret_file(id, secret))
}

/// For the fake at that address, with the secret in that file.
fn keyed(url: &str, id: &str, secret: PathBuf) -> Settings {
    Settings {
        source: Source::Key {
            id: id.to_owned(),
            secret: SecretSource::File(secret),
        },
        endpoint: Some(Url::parse(url).unwrap()),
        sts_endpoint: Some(Url::parse(url).unwrap()),
        ..Settings::default()
    }
}

async fn apply(
    fake: &Fake,
    changes: &[Change],
    believed: &[RrSet],
) -> Result<Receipt, ProviderError> {
    let provider = provider(fake);
    provider.apply(&zone(), changes, believed, &context()).await
}

fn served(fake: &Fake, name: &DnsName) -> RrSet {
    let state = fake.state();
    let set = state.zones[0].txt(name.as_str());
    let values = set.map(|set| set.values.iter().map(|value| text_of(value)).collect());
    RrSet {
        name: name.clone(),
        ttl: set.and_then(|set| set.ttl),
        values: values.unwrap_or_default(),
    }
}

/// As somebody else adds values, who gives the set this TTL.
fn put(fake: &Fake, name: &DnsName, ttl: u32, values: &[&str]) {
    let mut state = fake.state();
    let mut set = Set::txt(name.as_str(), ttl, values);
    if let Some(known) = state.zones[0].txt(name.as_str()) {
        set.values.extend(known.values.clone());
    }
    state.zones[0].put(set);
}

fn value(name: &DnsName) -> String {
    let text = format!("{}-{}", name.as_str().replace('.', "-"), "x".repeat(43));
    text[..43].to_owned()
}

fn context() -> Context {
    let clock = Clock::system();
    let deadline = later(clock.now(), PATIENCE);
    Context::new(clock, deadline)
}

fn name(label: &str) -> DnsName {
    DnsName::parse(&format!("{label}.{ZONE}")).unwrap()
}

fn zone() -> Zone {
    Zone {
        name: DnsName::parse(ZONE).unwrap(),
        id: ID.to_owned(),
    }
}
