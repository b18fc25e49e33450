//! The plug-in for Azure DNS.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_providers::azuredns::{AzureDns, Cloud, Login, Settings};
use countersign_providers::clock::{Clock, later};
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::{Context, ErrorKind, Provider, ProviderError};
use serde_json::{Value, json};

use super::{
    CANARY, PATIENCE, Secrets, VALUE, ZONE, apex, context, echo, hundred, insist, name, no_replies,
    shown, two_writers, without_canary,
};
use crate::support::clouds::azuredns::{
    Azure, CLIENT, FEDERATED, SECRET, SUBSCRIPTION, TENANT, Zone as Stored, dns_refusal, refusal,
};
use crate::support::clouds::{Fake, Fate};
use crate::support::golden::{golden, root};
use crate::support::rest::answer;

/// The stand-in with one zone among others, and the plug-in with a secret.
pub(super) struct Bench {
    pub(super) fake: Fake<Azure>,
    pub(super) plugin: AzureDns,
    secrets: Secrets,
    settings: Settings,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings, &Secrets)) -> Self {
        let zones = vec![
            Stored::new("dns", "other.test"),
            Stored::new("inside", ZONE).private(),
            Stored::new("dns", ZONE),
            Stored::new("dns", "notexample.test"),
        ];
        let (fake, secrets) = (Azure::start(zones).await, Secrets::new());
        let mut settings = Settings {
            login: Login::Secret {
                tenant: TENANT.to_owned(),
                client: CLIENT.to_owned(),
                secret: secrets.put("secret", SECRET),
            },
            subscription: SUBSCRIPTION.to_owned(),
            resource_group: None,
            zones: BTreeMap::new(),
            cloud: Cloud::Public,
            endpoint: fake.url().parse().unwrap(),
            login_endpoint: fake.url().parse().unwrap(),
            metadata: fake.url().parse().unwrap(),
        };
        change(&mut settings, &secrets);
        Self {
            plugin: AzureDns::new(settings.clone()),
            fake,
            secrets,
            settings,
        }
    }

    fn zone(&self) -> Zone {
        Zone {
            name: apex(),
            id: Stored::new("dns", ZONE).id(),
        }
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), ProviderError> {
        self.believing(changes, &[]).await
    }

    async fn believing(&self, changes: &[Change], believed: &[RrSet]) -> Result<(), ProviderError> {
        let (zone, context) = (self.zone(), context());
        let applied = self.plugin.apply(&zone, changes, believed, &context).await;
        applied.map(drop)
    }

    async fn observe(&self, names: &[DnsName]) -> Result<Vec<RrSet>, ProviderError> {
        self.plugin.observe(&self.zone(), names, &context()).await
    }

    async fn zones(&self, name: &str) -> Result<Vec<String>, ProviderError> {
        let name = DnsName::parse(name).unwrap();
        let held = self.plugin.zones(&name, &context()).await?;
        Ok(held.into_iter().map(|held| held.zone.id).collect())
    }

    fn put(&self, label: &str, ttl: u64, records: &[&[&str]]) {
        self.fake
            .with(|azure| azure.put(ZONE, label, ttl, records, Value::Null));
    }

    fn shown(&self) -> Vec<String> {
        self.fake.with(|azure| azure.zone(ZONE).shown())
    }
}

#[async_trait]
impl Fixture for Bench {
    fn zone(&self) -> Zone {
        Bench::zone(self)
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
        let label = name.as_str().strip_suffix(&format!(".{ZONE}")).unwrap();
        let set = self
            .fake
            .with(|azure| azure.zone(ZONE).sets.get(label).cloned());
        RrSet {
            name: name.clone(),
            ttl: set.as_ref().map(|set| u32::try_from(set.ttl).unwrap()),
            values: set.map(|set| set.texts()).unwrap_or_default(),
        }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let mut values = self.served(name).await.values;
        values.push(value.to_owned());
        let strings: Vec<[&str; 1]> = values.iter().map(|value| [value.as_str()]).collect();
        let records: Vec<&[&str]> = strings.iter().map(|it| &it[..]).collect();
        let label = name.as_str().strip_suffix(&format!(".{ZONE}")).unwrap();
        self.put(label, ttl.into(), &records);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_battery() {
    let bench = Bench::new().await;
    contract::battery(&bench.plugin, &bench).await;
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_takes_one_call_to_make_and_one_look_for_many_to_clean() {
    let bench = Bench::new().await;
    let ten = |verb: fn(&DnsName, &str) -> Change| hundred(verb)[..10].to_vec();
    bench.apply(&ten(ensure)).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, 10 put");
    bench.apply(&ten(absent)).await.unwrap();
    assert_eq!(bench.fake.calls(), "list, 10 delete");
    bench.apply(&ten(absent)).await.unwrap();
    assert_eq!(bench.fake.calls(), "list");
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_an_apex_and_its_wildcard_come_and_go_in_one_call_each() {
    let bench = Bench::new().await;
    let here = name("_acme-challenge");
    let both = |verb: fn(&DnsName, &str) -> Change| [verb(&here, "apex"), verb(&here, "wildcard")];
    bench.apply(&both(ensure)).await.unwrap();
    assert_eq!(
        bench.shown(),
        ["_acme-challenge 60 [\"apex\"] [\"wildcard\"] null"]
    );
    bench.apply(&both(absent)).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, put, get, delete");
    let at_apex = [ensure(&apex(), "v")];
    bench.apply(&at_apex).await.unwrap();
    assert_eq!(bench.shown(), ["@ 60 [\"v\"] null"]);
    assert_eq!(bench.observe(&[apex()]).await.unwrap()[0].values, ["v"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_values_their_ttl_and_their_notes_stay_as_they_were() {
    let bench = Bench::new().await;
    let notes = json!({"owner": "somebody"});
    bench.fake.with(|azure| {
        azure.put(ZONE, "a", 777, &[&["v=spf1", " -all"]], notes);
    });
    bench.apply(&[ensure(&name("a"), "ours")]).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, put, get, put");
    let theirs = "a 777 [\"v=spf1\",\" -all\"]";
    let notes = "{\"owner\":\"somebody\"}";
    assert_eq!(bench.shown(), [format!("{theirs} [\"ours\"] {notes}")]);
    assert_eq!(
        bench.observe(&[name("a")]).await.unwrap()[0].values,
        ["v=spf1 -all", "ours"]
    );
    bench.apply(&[absent(&name("a"), "ours")]).await.unwrap();
    assert_eq!(bench.shown(), [format!("{theirs} {notes}")]);
    let long = "x".repeat(600);
    bench.apply(&[ensure(&name("b"), &long)]).await.unwrap();
    assert_eq!(bench.observe(&[name("b")]).await.unwrap()[0].values, [long]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_overtaken_looks_once_and_then_leaves_it_to_the_core_to_come_again() {
    let bench = Bench::new().await;
    bench.apply(&[ensure(&name("before"), "v")]).await.unwrap();
    bench.fake.calls();
    for round in 0..2 {
        let theirs = format!("theirs-{round}");
        bench.fake.fate(
            "put",
            Fate::Meanwhile(Box::new(move |azure: &mut Azure| {
                azure.put(ZONE, "z", 300, &[&[&theirs]], Value::Null);
            })),
        );
    }
    let changes = [ensure(&name("z"), "ours")];
    let error = bench.apply(&changes).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(!error.outcome_unknown());
    assert_eq!(bench.fake.calls(), "put, get, put");
    insist(&bench.plugin, &bench.zone(), &changes).await;
    assert_eq!(bench.shown()[1], "z 300 [\"theirs-1\"] [\"ours\"] null");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_somebody_removes_after_the_look_is_made_anew() {
    let bench = Bench::new().await;
    bench.put("a", 300, &[&["theirs"]]);
    let left = |values: &[&str]| {
        let values = values.iter().map(|it| (*it).to_owned()).collect();
        [RrSet {
            name: name("a"),
            ttl: Some(300),
            values,
        }]
    };
    bench.fake.fate(
        "put",
        Fate::Meanwhile(Box::new(|azure: &mut Azure| {
            azure.zone(ZONE).sets.clear();
        })),
    );
    let changes = [ensure(&name("a"), "v")];
    bench.believing(&changes, &left(&["theirs"])).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, get, put, get, put");
    assert_eq!(bench.shown(), ["a 60 [\"v\"] null"]);
    bench.fake.fate(
        "delete",
        Fate::Meanwhile(Box::new(|azure: &mut Azure| {
            azure.put(ZONE, "a", 60, &[&["v"], &["theirs"]], Value::Null);
        })),
    );
    bench.apply(&[absent(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.shown(), ["a 60 [\"theirs\"] null"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_change_the_same_names_lose_nothing() {
    let bench = Bench::new().await;
    bench.put("shared", 777, &[&["theirs"]]);
    let plugins: [Arc<dyn Provider>; 2] =
        std::array::from_fn(|_| Arc::new(AzureDns::new(bench.settings.clone())) as Arc<_>);
    two_writers(plugins, &bench.zone()).await;
    let set = bench.served(&name("shared")).await;
    let mut values = set.values;
    values.sort();
    assert_eq!(values, ["0-99", "1-99", "theirs"]);
    assert_eq!(set.ttl, Some(777));
    assert!(
        bench.fake.with(|azure| azure.overtaken) > 0,
        "they never met"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_public_zone_that_could_hold_a_name_is_found_longest_first() {
    let bench = Bench::new().await;
    let (twin, below) = (
        Stored::new("twin", ZONE),
        Stored::new("dns", "sub.example.test"),
    );
    let wanted = [below.id(), bench.zone().id, twin.id()];
    bench.fake.with(|azure| azure.zones.extend([twin, below]));
    let found = bench.zones("_acme-challenge.a.sub.example.test").await;
    assert_eq!(found.unwrap(), wanted);
    assert_eq!(bench.fake.calls(), "token, zones");
    bench.fake.with(|azure| azure.page = 2);
    let held = bench.plugin.zones(&name("a"), &context()).await.unwrap();
    let servers: Vec<&str> = (held.iter())
        .map(|held| held.nameservers[0].as_str())
        .collect();
    assert_eq!(
        servers,
        ["ns1-dns.azure-dns.test", "ns1-twin.azure-dns.test"]
    );
    assert_eq!(bench.fake.calls(), "3 zones");
    assert_eq!(bench.zones("a.nobody.invalid").await, Ok(vec![]));
    let bench =
        Bench::with(|settings, _| settings.resource_group = Some("nothing".to_owned())).await;
    assert_eq!(bench.zones(ZONE).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_configured_is_not_looked_up() {
    let id = Stored::new("elsewhere", ZONE).id();
    let zones = BTreeMap::from([(apex(), id.clone())]);
    let bench = Bench::with(|settings, _| settings.zones = zones).await;
    assert_eq!(
        bench.zones("_acme-challenge.a.example.test").await,
        Ok(vec![id])
    );
    assert_eq!(bench.fake.calls(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_zone_is_not_read_for_a_few_names() {
    let bench = Bench::new().await;
    for n in 0..500 {
        bench.put(&format!("x{n}"), 60, &[&["v"]]);
    }
    let names = ["a", "b", "c", "x7"].map(name);
    let seen = bench.observe(&names).await.unwrap();
    assert_eq!(seen[3].values, ["v"]);
    assert_eq!(bench.fake.calls(), "token, 2 list, 4 get");
    let names: Vec<DnsName> = (0..20).map(|n| name(&format!("x{}", n * 25))).collect();
    let seen = bench.observe(&names).await.unwrap();
    assert!(seen.iter().all(|set| set.values == ["v"]));
    assert_eq!(bench.fake.calls(), "5 list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_name_says_that_the_others_were_changed() {
    let bench = Bench::new().await;
    bench
        .fake
        .with(|azure| azure.zone(ZONE).aliases.push("b".to_owned()));
    let error = bench.apply(&[ensure(&name("b"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(!error.partly);
    let changes = [ensure(&name("a"), "v"), ensure(&name("b"), "v")];
    let error = bench.apply(&changes).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.partly, "{error:?}");
    let elsewhere = DnsName::parse("a.notexample.test").unwrap();
    let error = bench.apply(&[ensure(&elsewhere, "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
}

// --- tokens ----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_kept_until_shortly_before_its_end() {
    let bench = Bench::new().await;
    let (clock, hands) = Clock::virtual_at("2026-11-22T12:00:00Z".parse().unwrap());
    let observe = async || {
        let deadline = later(clock.now(), PATIENCE);
        let context = Context::new(clock.clone(), deadline);
        let (zone, names) = (bench.zone(), [name("a")]);
        bench.plugin.observe(&zone, &names, &context).await.unwrap();
    };
    observe().await;
    hands.advance(std::time::Duration::from_secs(3_599 - 181));
    observe().await;
    assert_eq!(bench.fake.calls(), "token, 2 get");
    hands.advance(std::time::Duration::from_secs(2));
    observe().await;
    assert_eq!(bench.fake.calls(), "token, get");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_refused_is_not_used_again() {
    let bench = Bench::new().await;
    bench.observe(&[name("a")]).await.unwrap();
    bench.fake.with(|azure| azure.revoked = azure.tokens);
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    bench.observe(&[name("a")]).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, 2 get, token, get");
    bench.plugin.forgive();
    bench.observe(&[name("a")]).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, get");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_issuer_or_the_machine_will_do() {
    let bench = Bench::with(|settings, secrets| {
        settings.login = Login::Federated {
            tenant: TENANT.to_owned(),
            client: CLIENT.to_owned(),
            token: secrets.put("token", FEDERATED),
        };
    })
    .await;
    bench.observe(&[name("a")]).await.unwrap();
    bench.secrets.put("token", CANARY);
    bench.plugin.forgive();
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("AADSTS70021"));
    without_canary(&error);
    for (client, is_known) in [(None, true), (Some(CLIENT), true), (Some("nobody"), false)] {
        let client = client.map(str::to_owned);
        let login = Login::Machine { client };
        let bench = Bench::with(|settings, _| settings.login = login).await;
        let seen = bench.observe(&[name("a")]).await;
        match seen {
            Ok(_) => assert!(is_known),
            Err(error) => assert!(!is_known && error.kind == ErrorKind::Auth, "{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_read_anew_and_never_told() {
    let bench = Bench::new().await;
    bench.secrets.put("secret", CANARY);
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert_eq!(error.code.as_deref(), Some("AADSTS7000215"));
    bench.fake.fate("token", Fate::Reply(echo(401, CANARY)));
    without_canary(&bench.observe(&[name("a")]).await.unwrap_err());
    bench.secrets.put("secret", SECRET);
    assert!(bench.observe(&[name("a")]).await.is_ok());
    bench.plugin.forgive();
    std::fs::remove_file(bench.secrets.path("secret")).unwrap();
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert!(
        error.message.starts_with("`client-secret` cannot be read"),
        "{error}"
    );
}

// --- faults ----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_the_outcome_open_and_the_same_again_makes_it_good() {
    let bench = Bench::new().await;
    for (verb, call, left) in [
        (ensure as fn(&DnsName, &str) -> Change, "put", 1),
        (absent, "delete", 0),
    ] {
        let lost = answer(502, json!("<html>bad gateway</html>"));
        bench.fake.fate(call, Fate::Done(lost));
        let error = bench.apply(&[verb(&name("a"), VALUE)]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
        assert!(error.outcome_unknown());
        bench.apply(&[verb(&name("a"), VALUE)]).await.unwrap();
        assert_eq!(bench.shown().len(), left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_no_replies_end_in_an_error() {
    for reply in no_replies() {
        let bench = Bench::new().await;
        let body = reply.body.to_string();
        bench.fake.always(Some(reply));
        let names = ["a", "b"].map(name);
        for error in [
            bench.observe(&names[..1]).await.err(),
            bench.observe(&names).await.err(),
            bench.zones(ZONE).await.err(),
            bench.apply(&[absent(&name("a"), "v")]).await.err(),
        ] {
            let error = error.unwrap_or_else(|| panic!("{body}"));
            assert_eq!(error.kind, ErrorKind::Fatal, "{body}: {error:?}");
        }
    }
    let bench = Bench::new().await;
    let records = json!({"TTL": 60, "TXTRecords": [{"value": ["v"]}]});
    let no_etag = json!({"name": "a", "properties": records});
    bench.fake.fate("get", Fate::Reply(answer(200, no_etag)));
    let error = bench.apply(&[absent(&name("a"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal, "{error:?}");
    assert_eq!(
        bench.fake.calls(),
        "token, get",
        "nothing is replaced without proof"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_page_elsewhere_is_not_asked_for() {
    let elsewhere = Azure::start(Vec::new()).await;
    let links = [
        format!("{}/subscriptions", elsewhere.url()),
        "https://management.azure.com/subscriptions".to_owned(),
        "/subscriptions?$skipToken=1".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://[".to_owned(),
    ];
    for link in links {
        let bench = Bench::new().await;
        let body = json!({"value": [], "nextLink": link});
        bench.fake.always(Some(answer(200, body)));
        let error = bench.zones(ZONE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fatal);
        assert!(
            error
                .message
                .ends_with("with a next page that is elsewhere"),
            "{error}"
        );
        assert_eq!(bench.fake.calls(), "token, zones", "{link}");
    }
    assert_eq!(elsewhere.calls(), "");
    let bench = Bench::new().await;
    let link = format!("{}/somewhere/else?$skipToken=1", bench.fake.url());
    let body = json!({"value": [], "nextLink": link});
    bench.fake.always(Some(answer(200, body)));
    let error = bench.zones(ZONE).await.unwrap_err();
    assert!(
        error.message.ends_with("with more than 500 pages"),
        "{error}"
    );
    assert_eq!(
        bench.fake.calls(),
        "token, 500 zones",
        "only the query is taken"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_whose_id_is_none_is_not_asked_about() {
    let bench = Bench::new().await;
    for id in [
        "",
        "example.test",
        "/subscriptions/../../x",
        &format!("{}/TXT", bench.zone().id),
    ] {
        let zone = Zone {
            name: apex(),
            id: id.to_owned(),
        };
        let (names, context) = ([name("a")], context());
        let error = bench
            .plugin
            .observe(&zone, &names, &context)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ZoneMissing, "{id}");
    }
    assert_eq!(bench.fake.calls(), "token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_repeats_the_token_is_not_repeated() {
    for status in [200, 400, 401, 403, 404, 409, 412, 429, 500] {
        let bench = Bench::new().await;
        bench.fake.always(Some(echo(status, CANARY)));
        let token = json!({"access_token": CANARY, "expires_in": 3600, "token_type": "Bearer"});
        for zones in [true, false] {
            bench.plugin.forgive();
            bench
                .fake
                .fate("token", Fate::Reply(answer(200, token.clone())));
            let error = match zones {
                true => bench.zones(ZONE).await.unwrap_err(),
                false => bench.observe(&[name("a")]).await.unwrap_err(),
            };
            without_canary(&error);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_told_in_words() {
    let put = |status, code: &str, words: &str| ("put", refusal(status, code, words));
    let dns = |status, code: &str, words: &str| ("put", dns_refusal(status, code, words));
    let token = |error: &str, words: &str| {
        (
            "token",
            answer(401, json!({"error": error, "error_description": words})),
        )
    };
    let all = [
        put(
            401,
            "ExpiredAuthenticationToken",
            "The access token expiry is in the past.",
        ),
        put(
            401,
            "InvalidAuthenticationToken",
            "The access token is invalid.",
        ),
        put(
            401,
            "InvalidAuthenticationTokenTenant",
            "The access token is from the wrong issuer.",
        ),
        put(
            403,
            "AuthorizationFailed",
            "The client does not have authorization to perform action.",
        ),
        (
            "zones",
            refusal(
                403,
                "AuthorizationFailed",
                "The client does not have authorization.",
            ),
        ),
        (
            "get",
            refusal(
                403,
                "AuthorizationFailed",
                "The client does not have authorization.",
            ),
        ),
        put(
            403,
            "RequestDisallowedByPolicy",
            "Resource was disallowed by policy.",
        ),
        put(
            409,
            "ScopeLocked",
            "The scope cannot perform write operation because it is locked.",
        ),
        put(
            409,
            "ReadOnlyDisabledSubscription",
            "The subscription is disabled.",
        ),
        put(
            409,
            "MissingSubscriptionRegistration",
            "The subscription is not registered to use namespace.",
        ),
        put(
            404,
            "SubscriptionNotFound",
            "The subscription could not be found.",
        ),
        put(
            404,
            "ResourceGroupNotFound",
            "Resource group 'dns' could not be found.",
        ),
        put(
            404,
            "ParentResourceNotFound",
            "Can not perform requested operation on nested resource.",
        ),
        (
            "get",
            refusal(404, "ResourceNotFound", "The Resource was not found."),
        ),
        dns(
            409,
            "Conflict",
            "The record cannot be created because a CNAME record with the same name exists.",
        ),
        dns(409, "Conflict", "The request could not be completed."),
        dns(
            409,
            "CannotCreateRecordDueToCNameNamingRestriction",
            "There is an alias.",
        ),
        dns(
            400,
            "BadRequest",
            "The number of records exceeds the maximum.",
        ),
        dns(400, "BadRequest", "The value of TXTRecords is invalid."),
        put(
            400,
            "InvalidRequestContent",
            "The request content was invalid.",
        ),
        put(
            400,
            "NoRegisteredProviderFound",
            "No registered resource provider found for API version.",
        ),
        put(
            429,
            "SubscriptionRequestsThrottled",
            "Number of write requests exceeded the limit.",
        ),
        dns(429, "TooManyRequests", "The request was throttled."),
        put(500, "InternalServerError", "An error has occurred."),
        put(503, "ServerTimeout", "The request timed out."),
        put(418, "SomethingNew", "It is Tuesday."),
        ("put", answer(403, json!("<html>who are you?</html>"))),
        token(
            "invalid_client",
            "AADSTS7000215: Invalid client secret provided.",
        ),
        token(
            "invalid_client",
            "AADSTS7000222: The provided client secret keys are expired.",
        ),
        token(
            "unauthorized_client",
            "AADSTS700016: Application was not found in the directory.",
        ),
        token("invalid_request", "AADSTS90002: Tenant not found."),
        token(
            "invalid_client",
            "AADSTS700213: No matching federated identity record found.",
        ),
        token(
            "invalid_client",
            "AADSTS700024: Client assertion is not within its valid time range.",
        ),
        token(
            "unauthorized_client",
            "AADSTS7000112: Application is disabled.",
        ),
        token(
            "access_denied",
            "AADSTS53003: Access has been blocked by Conditional Access policies.",
        ),
        token(
            "invalid_resource",
            "AADSTS500011: The resource principal was not found in the tenant.",
        ),
        token("invalid_request", "Identity not found"),
        token("invalid_client", ""),
        token("new_reason", ""),
    ];
    let mut table = String::new();
    for (call, reply) in all {
        let bench = Bench::new().await;
        bench.fake.fate(call, Fate::Reply(reply));
        let error = match call {
            "zones" => bench.zones(ZONE).await.unwrap_err(),
            "get" => bench.observe(&[name("a")]).await.unwrap_err(),
            _ => bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err(),
        };
        table.push_str(&shown(&error, &bench.fake.host()));
    }
    golden(&root().join("tests/errors/azuredns.txt"), &table);
}
