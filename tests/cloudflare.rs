//! The Cloudflare plug-in against a stand-in for the API, and other clients of the API against the same stand-in, so that
//! one that only ours likes is found out.

mod clients;
mod end_to_end;
mod errors;
mod faults;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_providers::clock::{Clock, later};
use countersign_providers::cloudflare::{self, Settings};
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::secret::SecretSource;
use countersign_providers::{Context, ErrorKind, Held, Provider, ProviderError, Receipt};
use serde_json::json;
use tempfile::TempDir;

use crate::support::cloudflare::{Cloudflare, Fate, State, Token};

const ZONE: &str = "example.test";
const VALUE: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
/// More than any verb needs, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The stand-in with one zone among others, and the plug-in with a token for it.
struct Bench {
    api: Arc<Cloudflare>,
    plugin: cloudflare::Cloudflare,
    zone: Zone,
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(settings: impl FnOnce(&mut Settings)) -> Self {
        let state = State::new(Token::usual())
            .zone("notexample.test", "acme")
            .zone(ZONE, "acme")
            .zone("other.test", "acme");
        let (api, directory) = (Arc::new(Cloudflare::start(state)), TempDir::new().unwrap());
        let file = directory.path().join("token");
        std::fs::write(&file, format!("{}\n", Token::usual().secret)).unwrap();
        let mut all = Settings {
            token: SecretSource::File(file),
            zones: BTreeMap::new(),
            endpoint: api.url().parse().unwrap(),
            owner: None,
        };
        settings(&mut all);
        let zone = Zone {
            name: DnsName::parse(ZONE).unwrap(),
            id: api.state().zone_id(ZONE),
        };
        Self {
            plugin: cloudflare::Cloudflare::new(all),
            api,
            zone,
            directory,
        }
    }

    fn write_token(&self, text: &str) {
        std::fs::write(self.directory.path().join("token"), text).unwrap();
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), ProviderError> {
        self.receipt(changes).await.map(drop)
    }

    async fn receipt(&self, changes: &[Change]) -> Result<Receipt, ProviderError> {
        let context = context();
        self.plugin.apply(&self.zone, changes, &[], &context).await
    }

    async fn zones(&self, name: &str) -> Result<Vec<Held>, ProviderError> {
        let name = DnsName::parse(name).unwrap();
        self.plugin.zones(&name, &context()).await
    }

    async fn observe(&self, names: &[DnsName]) -> Result<Vec<RrSet>, ProviderError> {
        self.plugin.observe(&self.zone, names, &context()).await
    }

    /// Puts a record there as a person does.
    fn add(&self, name: &DnsName, content: &str, ttl: u32) {
        let id = &self.zone.id;
        self.api.state().add(id, "TXT", name.as_str(), content, ttl);
    }

    fn shown(&self) -> Vec<String> {
        self.api.state().shown(&self.zone.id)
    }

    fn served(&self, name: &DnsName) -> (Vec<String>, Option<u32>) {
        self.api.state().served(&self.zone.id, name.as_str())
    }
}

#[async_trait]
impl Fixture for Bench {
    fn zone(&self) -> Zone {
        self.zone.clone()
    }

    fn name(&self, label: &str) -> DnsName {
        name(label)
    }

    fn forbidden(&self) -> Option<DnsName> {
        None
    }

    fn context(&self) -> Context {
        context()
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        let (values, ttl) = Bench::served(self, name);
        let name = name.clone();
        RrSet { name, ttl, values }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        self.add(name, &format!("\"{quoted}\""), ttl);
    }
}

fn context() -> Context {
    let clock = Clock::system();
    let deadline = later(clock.now(), PATIENCE);
    Context::new(clock, deadline)
}

fn name(label: &str) -> DnsName {
    DnsName::parse(&format!("{label}.{ZONE}")).unwrap()
}

fn hundred(verb: fn(&DnsName, &str) -> Change) -> Vec<Change> {
    let name = |n| name(&format!("_acme-challenge.h{n}"));
    (0..100).map(|n| verb(&name(n), VALUE)).collect()
}

/// Cases that this fake has nothing for.
const SKIPPED: [&str; 7] = [
    "zone-below",
    "slots",
    "two-instances",
    "refused-name",
    "beside-refused",
    "settled",
    "secrets",
];

#[tokio::test]
async fn it_passes_the_battery() {
    let bench = Bench::new();
    bench.api.state().left = u64::MAX;
    assert_eq!(contract::skipped(&bench.plugin, &bench).await, SKIPPED);
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test]
async fn it_passes_the_battery_where_there_is_no_batch() {
    let bench = Bench::new();
    bench.api.state().has_batch = false;
    bench.api.state().left = u64::MAX;
    assert_eq!(contract::skipped(&bench.plugin, &bench).await, SKIPPED);
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test]
async fn a_hundred_names_take_three_calls_to_present_and_one_to_clean() {
    let bench = Bench::new();
    assert_eq!(bench.zones(ZONE).await.unwrap()[0].zone, bench.zone);
    let put = bench.receipt(&hundred(ensure)).await.unwrap();
    assert_eq!(bench.api.asked(), "zones list batch");
    assert_eq!(bench.shown().len(), 100);
    let gone = with_handles(hundred(absent), &put);
    bench.apply(&gone).await.unwrap();
    assert_eq!(bench.api.asked(), "batch");
    assert_eq!(bench.shown(), [""; 0]);
    bench.apply(&gone).await.unwrap();
    assert_eq!(bench.api.asked(), "batch list");
}

/// The ids are of records that somebody else removed and made again.
#[tokio::test]
async fn ids_that_are_stale_are_looked_for_and_harm_nobody() {
    let bench = Bench::new();
    let (ours, other) = (name("_acme-challenge.a"), name("_acme-challenge.b"));
    let values = |verb: fn(&DnsName, &str) -> Change| [verb(&ours, "1"), verb(&other, "2")];
    let put = bench.receipt(&values(ensure)).await.unwrap();
    bench.add(&other, "\"theirs\"", 120);
    bench.apply(&[absent(&ours, "1")]).await.unwrap();
    bench.apply(&[ensure(&ours, "1")]).await.unwrap();
    bench.api.asked();
    let gone = with_handles(values(absent).to_vec(), &put);
    bench.apply(&gone).await.unwrap();
    assert_eq!(bench.api.asked(), "batch list batch");
    assert_eq!(bench.shown().len(), 1);
    let (values, _) = bench.served(&other);
    assert_eq!(values, ["theirs"]);
}

/// The changes as the ledger asks for them.
fn with_handles(changes: Vec<Change>, put: &Receipt) -> Vec<Change> {
    let handles = put.handles.iter().cloned();
    let both = changes.into_iter().zip(handles);
    both.map(|(change, handle)| Change { handle, ..change })
        .collect()
}

#[tokio::test]
async fn a_zone_whose_id_is_configured_is_not_looked_up() {
    let id = "0123456789abcdef0123456789abcdef";
    let zones = |names: &[&str]| {
        names
            .iter()
            .map(|it| (DnsName::parse(it).unwrap(), id.to_owned()))
            .collect()
    };
    let bench = Bench::with(|it| {
        it.zones = zones(&["example.com", "sub.example.com", "notsub.example.com"])
    });
    bench.write_token("no token that anybody knows");
    let held = bench
        .zones("_acme-challenge.www.sub.example.com")
        .await
        .unwrap();
    let apexes: Vec<&str> = held.iter().map(|held| held.zone.name.as_str()).collect();
    assert_eq!(apexes, ["sub.example.com", "example.com"]);
    assert_eq!(held[0].zone.id, id);
    assert_eq!(bench.api.asked(), "");
}

#[tokio::test]
async fn every_zone_that_could_hold_a_name_is_found_longest_first() {
    let bench = Bench::new();
    {
        let mut state = bench.api.state();
        *state = state.clone().zone("sub.example.test", "acme");
    }
    let held = bench
        .zones("_acme-challenge.a.sub.example.test")
        .await
        .unwrap();
    let apexes: Vec<&str> = held.iter().map(|held| held.zone.name.as_str()).collect();
    assert_eq!(apexes, ["sub.example.test", ZONE]);
    assert_eq!(bench.api.asked(), "zones zones zones zones");
    let held = bench.zones("sub.example.test").await.unwrap();
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(bench.api.asked(), "zones");
    assert_eq!(bench.zones("a.nobody.invalid").await, Ok(vec![]));
}

#[tokio::test]
async fn zones_of_one_name_in_several_accounts_are_all_found_and_told_apart_by_their_servers() {
    let bench = Bench::new();
    {
        let mut state = bench.api.state();
        *state = (0..60).fold(state.clone(), |state, n| {
            state.zone(ZONE, &format!("account{n}"))
        });
    }
    let held = bench.zones(ZONE).await.unwrap();
    assert_eq!(held.len(), 61);
    let last = &held[60].nameservers;
    assert_eq!(last[0].as_str(), "ada.ns.account59.test");
    assert_eq!(bench.api.asked(), "zones zones", "two pages");
}

#[tokio::test]
async fn a_token_that_is_refused_every_name_but_its_own_finds_its_zone() {
    let bench = Bench::new();
    bench.api.decide(|seen, _| {
        let is_own = seen.path.contains("name=example.test&");
        match seen.kind == "zones" && !is_own {
            true => refusal(
                403,
                0,
                "requires permission 'com.cloudflare.api.account.zone.list'",
            ),
            false => Fate::Pass,
        }
    });
    let held = bench
        .zones("_acme-challenge.www.example.test")
        .await
        .unwrap();
    assert_eq!(held[0].zone, bench.zone);
    let error = bench.zones("www.other.test").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
}

fn refusal(status: u16, code: u32, words: &str) -> Fate {
    let body =
        json!({"success": false, "errors": [{"code": code, "message": words}], "result": null});
    Fate::Reply {
        status,
        headers: vec![],
        body: body.to_string(),
    }
}

#[tokio::test]
async fn values_of_an_apex_and_its_wildcard_come_and_go_in_one_batch() {
    let bench = Bench::new();
    let here = name("_acme-challenge");
    let both = |verb: fn(&DnsName, &str) -> Change| [verb(&here, "apex"), verb(&here, "wildcard")];
    bench.apply(&both(ensure)).await.unwrap();
    assert_eq!(bench.served(&here).0, ["apex", "wildcard"]);
    bench.apply(&both(absent)).await.unwrap();
    assert_eq!(bench.api.asked(), "list batch list batch");
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test]
async fn a_record_says_whose_it_is_and_has_its_content_in_quotes() {
    let bench = Bench::with(|it| it.owner = Some(format!("store-7 {}", "x".repeat(200))));
    bench.apply(&[ensure(&name("a"), "value")]).await.unwrap();
    let shown = bench.shown().remove(0);
    let wanted = "a.example.test \"value\" 60 countersign store-7 xxx";
    assert!(shown.starts_with(wanted), "{shown}");
    let bench = Bench::new();
    bench.apply(&[ensure(&name("a"), "value")]).await.unwrap();
    assert_eq!(bench.shown(), ["a.example.test \"value\" 60 countersign"]);
}

#[tokio::test]
async fn every_way_to_write_a_value_is_known_and_removed_with_it() {
    let bench = Bench::new();
    let here = name("a");
    for content in ["value", "\"value\"", "\"val\" \"ue\"", "\"VALUE\""] {
        bench.add(&here, content, 120);
    }
    bench.apply(&[ensure(&here, "value")]).await.unwrap();
    assert_eq!(bench.api.asked(), "list", "it is there already");
    let seen = bench.observe(std::slice::from_ref(&here)).await.unwrap();
    assert_eq!(seen[0].values, ["VALUE", "value"]);
    assert_eq!(seen[0].ttl, Some(120));
    bench.apply(&[absent(&here, "value")]).await.unwrap();
    assert_eq!(bench.shown(), ["a.example.test \"VALUE\" 120 null"]);
}

#[tokio::test]
async fn a_ttl_that_a_person_left_to_the_api_is_joined_and_shown_in_seconds() {
    let bench = Bench::new();
    let here = name("a");
    bench.add(&here, "\"theirs\"", 1);
    bench.apply(&[ensure(&here, "ours")]).await.unwrap();
    assert_eq!(bench.shown()[1], "a.example.test \"ours\" 1 countersign");
    assert_eq!(bench.observe(&[here]).await.unwrap()[0].ttl, Some(300));
}

#[tokio::test]
async fn a_ttl_that_the_api_does_not_take_is_brought_within_its_bounds() {
    let bench = Bench::new();
    for (label, ttl) in [("low", 1), ("high", 1_000_000)] {
        let change = ensure(&name(label), "v");
        bench.apply(&[Change { ttl, ..change }]).await.unwrap();
    }
    assert_eq!(bench.served(&name("low")).1, Some(60));
    assert_eq!(bench.served(&name("high")).1, Some(86_400));
}

#[tokio::test]
async fn names_between_which_far_more_stands_are_listed_one_by_one() {
    let bench = Bench::new();
    bench.add(&name("host"), "\"theirs\"", 300);
    {
        let mut state = bench.api.state();
        let records = &mut state.zone_mut(&bench.zone.id).records;
        let many = (0..10_001).map(|n| {
            let mut record = records[0].clone();
            record["name"] = json!(format!("host-{n}.{ZONE}"));
            record
        });
        *records = many.collect();
    }
    let names = [name("host-7"), name("host-none")];
    let seen = bench.observe(&names).await.unwrap();
    assert_eq!(seen[0].values, ["theirs"]);
    assert_eq!(seen[1].values, [""; 0]);
    assert_eq!(bench.api.asked(), "list list list");
    let names: Vec<DnsName> = (0..5).map(|n| name(&format!("host-{n}"))).collect();
    let seen = bench.observe(&names).await.unwrap();
    assert!(seen.iter().all(|set| set.values == ["theirs"]));
    assert_eq!(
        bench.api.asked(),
        "list list list",
        "three pages for five names"
    );
}

#[tokio::test]
async fn a_name_of_another_zone_is_refused_before_the_api_makes_one_below_this_zone_of_it() {
    let bench = Bench::new();
    let stranger = DnsName::parse("_acme-challenge.other.test").unwrap();
    let error = bench.apply(&[ensure(&stranger, "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        error.message,
        "_acme-challenge.other.test is not in the zone example.test"
    );
    assert_eq!(bench.api.asked(), "");
}
