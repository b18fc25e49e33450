//! The plug-in for OVHcloud.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::ovh::{self, Settings};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::{Context, ErrorKind, Provider, ProviderError, Receipt};
use serde_json::json;

use super::{
    CANARY, Secrets, ZONE, apex, canaries, context, echo, hundred, name, no_replies, shown,
    two_writers, without_canary,
};
use crate::support::bridge::plain;
use crate::support::clouds::ovh::{APPLICATION, CONSUMER, Ovh, Record, SECRET, class, refusal};
use crate::support::clouds::{Fake, Fate};
use crate::support::golden::{golden, root};
use crate::support::rest::answer;

/// The stand-in with one zone among others, and the plug-in with keys.
pub(super) struct Bench {
    pub(super) fake: Fake<Ovh>,
    pub(super) plugin: ovh::Ovh,
    secrets: Secrets,
    settings: Settings,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let zones = ["notexample.test", ZONE, "other.test", "sub.example.test"];
        let (fake, secrets) = (Ovh::start(&zones).await, Secrets::new());
        let mut settings = Settings {
            application_key: APPLICATION.to_owned(),
            application_secret: secrets.put("secret", SECRET),
            consumer_key: secrets.put("consumer", CONSUMER),
            zones: Vec::new(),
            endpoint: fake.url().parse().unwrap(),
        };
        change(&mut settings);
        Self {
            plugin: ovh::Ovh::new(settings.clone()),
            fake,
            secrets,
            settings,
        }
    }

    fn zone(&self) -> Zone {
        Zone {
            name: apex(),
            id: ZONE.to_owned(),
        }
    }

    async fn apply(&self, changes: &[Change]) -> Result<Receipt, ProviderError> {
        let (zone, context) = (self.zone(), context());
        self.plugin.apply(&zone, changes, &[], &context).await
    }

    async fn observe(&self, names: &[DnsName]) -> Result<Vec<RrSet>, ProviderError> {
        self.plugin.observe(&self.zone(), names, &context()).await
    }

    async fn zones(&self, name: &str) -> Result<Vec<String>, ProviderError> {
        let name = DnsName::parse(name).unwrap();
        let held = self.plugin.zones(&name, &context()).await?;
        Ok(held.into_iter().map(|held| held.zone.id).collect())
    }

    fn add(&self, label: &str, target: &str, ttl: u64) -> u64 {
        self.fake.with(|ovh| ovh.add(ZONE, label, target, ttl))
    }

    /// What the world sees.
    fn published(&self) -> Vec<String> {
        let all = self
            .fake
            .with(|ovh| ovh.published.get(ZONE).cloned().unwrap_or_default());
        let shown = all
            .iter()
            .map(|it| format!("{} {} {}", it.label, it.target, it.ttl));
        shown.collect()
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
        let label = name.as_str().strip_suffix(ZONE).unwrap();
        let records = self
            .fake
            .with(|ovh| ovh.served(ZONE, label.trim_end_matches('.')));
        RrSet {
            name: name.clone(),
            ttl: records
                .iter()
                .map(|it| u32::try_from(it.ttl).unwrap())
                .min(),
            values: records.iter().map(|it| plain(&it.target)).collect(),
        }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let label = name.as_str().strip_suffix(ZONE).unwrap();
        // Panels and people leave the quotes out.
        self.add(label.trim_end_matches('.'), value, ttl.into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_battery() {
    let bench = Bench::new().await;
    contract::battery(&bench.plugin, &bench).await;
    assert_eq!(bench.published(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_is_published_with_one_call() {
    let bench = Bench::new().await;
    let changes: Vec<Change> = hundred(ensure)[..3].to_vec();
    let put = bench.apply(&changes).await.unwrap();
    let calls = "time, list, create, list, create, list, create, refresh";
    assert_eq!(bench.fake.calls(), calls);
    assert_eq!(bench.published().len(), 3);
    let gone: Vec<Change> = (hundred(absent).into_iter().zip(put.handles))
        .map(|(change, handle)| Change { handle, ..change })
        .collect();
    assert_eq!(gone.len(), 3, "each has an id");
    bench.apply(&gone).await.unwrap();
    assert_eq!(
        bench.fake.calls(),
        "time, get, delete, get, delete, get, delete, refresh"
    );
    assert_eq!(bench.published(), [""; 0]);
}

/// Somebody was stopped between the record and the refresh: the record is there for whoever asks, and not in the world.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_published_is_published_when_it_is_asked_for_again() {
    let bench = Bench::new().await;
    bench
        .fake
        .fate("refresh", Fate::Reply(answer(503, json!("busy"))));
    let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
    assert!(
        error.partly && error.kind == ErrorKind::Transient,
        "{error:?}"
    );
    assert_eq!(bench.published(), [""; 0]);
    assert_eq!(bench.observe(&[name("a")]).await.unwrap()[0].values, ["v"]);
    bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.published(), ["a \"v\" 60"]);
    bench
        .fake
        .fate("refresh", Fate::Reply(answer(503, json!("busy"))));
    bench.apply(&[absent(&name("a"), "v")]).await.unwrap_err();
    assert_eq!(bench.published().len(), 1);
    bench.apply(&[absent(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.published(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_an_apex_and_its_wildcard_come_and_go_together() {
    let bench = Bench::new().await;
    let here = name("_acme-challenge");
    let both = |verb: fn(&DnsName, &str) -> Change| [verb(&here, "apex"), verb(&here, "wildcard")];
    bench.apply(&both(ensure)).await.unwrap();
    assert_eq!(bench.published().len(), 2);
    bench.apply(&both(absent)).await.unwrap();
    assert_eq!(bench.published(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_at_the_apex_and_every_way_to_write_a_value_are_known() {
    let bench = Bench::new().await;
    for target in ["v", "\"v\"", "\"\" \"v\"", "\"V\""] {
        bench.add("", target, 0);
    }
    bench
        .fake
        .with(|ovh| ovh.create(ZONE, "", "A", "192.0.2.1", 60));
    let seen = bench.observe(&[apex()]).await.unwrap();
    assert_eq!(seen[0].values, ["V", "v"]);
    assert_eq!(seen[0].ttl, Some(3_600), "0 is what the zone says");
    bench.apply(&[ensure(&apex(), "w")]).await.unwrap();
    assert!(bench.published().contains(&" \"w\" 0".to_owned()));
    bench.apply(&[absent(&apex(), "v")]).await.unwrap();
    assert_eq!(bench.published(), [" \"V\" 0", " 192.0.2.1 60", " \"w\" 0"]);
}

/// The filter of the API takes an underscore for any character.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_only_alike_is_left_alone() {
    let bench = Bench::new().await;
    bench.add("x-a", "v", 60);
    bench.apply(&[absent(&name("_-a"), "v")]).await.unwrap();
    assert_eq!(bench.published(), ["x-a v 60"]);
    assert_eq!(bench.observe(&[name("_-a")]).await.unwrap()[0].ttl, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_stale_is_looked_for_and_one_that_is_none_is_not_sent() {
    let bench = Bench::new().await;
    for handle in ["17", "../../auth", ""] {
        // The name says nothing of what the host says.
        let here = name("service");
        bench.apply(&[ensure(&here, "v")]).await.unwrap();
        let handle = Some(handle.to_owned());
        let gone = [Change {
            handle,
            ..absent(&here, "v")
        }];
        bench.apply(&gone).await.unwrap();
        assert_eq!(bench.published(), [""; 0]);
    }
    assert!(!bench.fake.calls().contains("undocumented"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_a_person_has_changed_since_is_not_removed_by_its_id() {
    let change: [fn(&mut Record); 3] = [
        |record| record.target = "\"theirs\"".to_owned(),
        |record| record.label = "_acme-challenge.b".to_owned(),
        |record| record.kind = "SPF".to_owned(),
    ];
    for change in change {
        let bench = Bench::new().await;
        let put = bench.apply(&[ensure(&name("a"), "ours")]).await.unwrap();
        bench.fake.with(|ovh| {
            let records = ovh.zones.get_mut(ZONE).unwrap();
            change(&mut records[0]);
        });
        let gone = Change {
            handle: put.handles[0].clone(),
            ..absent(&name("a"), "ours")
        };
        bench.apply(&[gone]).await.unwrap();
        assert_eq!(bench.published().len(), 1, "theirs stays");
    }
}

/// Whoever looks sees what is not published; only a repetition makes it good.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_refresh_is_a_change_in_part_also_when_nothing_was_left_to_change() {
    let bench = Bench::new().await;
    bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
    bench.fake.with(|ovh| ovh.denied = vec!["refresh"]);
    for _ in 0..2 {
        let error = bench.apply(&[absent(&name("a"), "v")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Permission);
        assert!(error.partly, "{error:?}");
    }
    assert_eq!(bench.published().len(), 1);
    bench.fake.with(|ovh| ovh.denied.clear());
    bench.apply(&[absent(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.published(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_a_refusal_says_nothing_of_its_reason() {
    let bench = Bench::new().await;
    let words = "_acme-challenge.quota.cname.expired of example.test is not good";
    bench
        .fake
        .always(Some(class(400, "Client::BadRequest", words)));
    let at = name("quota.cname.expired");
    let zone = bench.zone();
    let changes = [ensure(&at, "v")];
    bench.fake.fate("time", Fate::Reply(answer(200, json!(0))));
    let error = bench
        .plugin
        .apply(&zone, &changes, &[], &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error:?}");
    assert!(error.message.contains("does not take"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_goes_between_list_and_look_is_no_failure() {
    let bench = Bench::new().await;
    let id = bench.add("a", "theirs", 60);
    bench.fake.fate(
        "get",
        Fate::Meanwhile(Box::new(move |ovh: &mut Ovh| {
            ovh.remove(ZONE, id);
        })),
    );
    bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.published(), ["a \"v\" 60"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_name_says_that_the_others_were_changed() {
    let bench = Bench::new().await;
    bench
        .fake
        .with(|ovh| ovh.create(ZONE, "b", "CNAME", "www.example.test.", 60));
    let changes = [ensure(&name("a"), "v"), ensure(&name("b"), "v")];
    let error = bench.apply(&changes).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.partly, "{error:?}");
    let elsewhere = DnsName::parse("a.notexample.test").unwrap();
    let error = bench.apply(&[ensure(&elsewhere, "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(!error.partly);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_change_the_same_names_lose_nothing() {
    let bench = Bench::new().await;
    bench.add("shared", "theirs", 777);
    let plugins: [Arc<dyn Provider>; 2] =
        std::array::from_fn(|_| Arc::new(ovh::Ovh::new(bench.settings.clone())) as Arc<_>);
    two_writers(plugins, &bench.zone()).await;
    let set = bench.served(&name("shared")).await;
    let mut values = set.values;
    values.sort();
    assert_eq!(values, ["0-99", "1-99", "theirs"]);
    assert_eq!(set.ttl, Some(777));
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_are_found_longest_first_and_those_that_are_configured_without_a_call() {
    let bench = Bench::new().await;
    let found = bench.zones("_acme-challenge.a.sub.example.test").await;
    assert_eq!(found.unwrap(), ["sub.example.test", ZONE]);
    assert_eq!(bench.fake.calls(), "time, zones");
    assert_eq!(bench.zones("a.nobody.invalid").await, Ok(vec![]));
    let bench = Bench::with(|settings| settings.zones = vec![apex()]).await;
    let found = bench.zones("_acme-challenge.a.sub.example.test").await;
    assert_eq!(found.unwrap(), [ZONE]);
    assert_eq!(bench.fake.calls(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_dated_by_the_clock_there() {
    let bench = Bench::new().await;
    for ahead in [100_000, -100_000] {
        bench.fake.with(|ovh| ovh.ahead = ahead);
        bench.observe(&[name("a")]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_anew_at_each_use_and_never_told() {
    let bench = Bench::new().await;
    for (file, right, code) in [
        ("secret", SECRET, "INVALID_SIGNATURE"),
        ("consumer", CONSUMER, "INVALID_CREDENTIAL"),
    ] {
        bench.secrets.put(file, CANARY);
        let error = bench.observe(&[name("a")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Auth);
        assert_eq!(error.code.as_deref(), Some(code));
        without_canary(&error);
        bench.secrets.put(file, &format!("{CANARY}\n{right}"));
        let error = bench.observe(&[name("a")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Auth);
        without_canary(&error);
        bench.secrets.put(file, right);
        assert!(bench.observe(&[name("a")]).await.is_ok());
    }
    std::fs::remove_file(bench.secrets.path("consumer")).unwrap();
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert!(
        error.message.starts_with("`consumer-key` cannot be read"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_the_outcome_open_and_the_same_again_makes_it_good() {
    let bench = Bench::new().await;
    let lost = || answer(502, json!("<html>bad gateway</html>"));
    for (verb, call, left) in [
        (ensure as fn(&DnsName, &str) -> Change, "create", 1),
        (absent, "delete", 0),
    ] {
        bench.fake.fate(call, Fate::Done(lost()));
        let error = bench.apply(&[verb(&name("a"), "v")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
        assert!(error.outcome_unknown());
        bench.apply(&[verb(&name("a"), "v")]).await.unwrap();
        assert_eq!(bench.published().len(), left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_no_replies_end_in_an_error() {
    for reply in no_replies() {
        let body = reply.body.to_string();
        for call in ["zones", "list", "create"] {
            let bench = Bench::new().await;
            bench.fake.fate(call, Fate::Reply(reply.clone()));
            let error = match call {
                "zones" => bench.zones(ZONE).await.err(),
                _ => bench.apply(&[ensure(&name("a"), "v")]).await.err(),
            };
            match error {
                // An empty list is one.
                None => assert!(body == "\"[]\"" && call != "create", "{call} {body}"),
                Some(error) => assert_eq!(error.kind, ErrorKind::Fatal, "{call} {body}: {error:?}"),
            }
        }
    }
    let bench = Bench::new().await;
    let many: Vec<u64> = (0..1_001).collect();
    bench
        .fake
        .fate("list", Fate::Reply(answer(200, json!(many))));
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal, "a list without an end");
    for odd in [json!({"a": 1}), json!("soon"), json!(1.5), json!(i64::MAX)] {
        bench.fake.fate("time", Fate::Reply(answer(200, odd)));
        let error = bench.observe(&[name("a")]).await.unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::Fatal | ErrorKind::Transient),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_repeats_a_key_is_not_repeated() {
    for status in [200, 400, 401, 403, 404, 409, 429, 500] {
        for file in ["secret", "consumer"] {
            let bench = Bench::new().await;
            for (secret, words) in canaries() {
                bench.secrets.put(file, &secret);
                bench.fake.always(Some(echo(status, &words)));
                for error in [
                    bench.observe(&[name("a")]).await.unwrap_err(),
                    bench.zones(ZONE).await.unwrap_err(),
                ] {
                    without_canary(&error);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_told_in_words() {
    let all = [
        (
            "create",
            refusal(403, "INVALID_KEY", "This application key is invalid"),
        ),
        (
            "create",
            refusal(400, "INVALID_SIGNATURE", "Invalid signature"),
        ),
        (
            "create",
            refusal(403, "INVALID_CREDENTIAL", "This credential is not valid"),
        ),
        (
            "create",
            refusal(403, "NOT_CREDENTIAL", "You must login first"),
        ),
        (
            "create",
            refusal(400, "QUERY_TIME_OUT", "Query out of time"),
        ),
        (
            "zones",
            refusal(403, "NOT_GRANTED_CALL", "This call has not been granted"),
        ),
        (
            "list",
            refusal(403, "NOT_GRANTED_CALL", "This call has not been granted"),
        ),
        (
            "create",
            refusal(403, "NOT_GRANTED_CALL", "This call has not been granted"),
        ),
        (
            "refresh",
            refusal(403, "NOT_GRANTED_CALL", "This call has not been granted"),
        ),
        (
            "create",
            refusal(403, "FORBIDDEN", "Your IP address is not allowed"),
        ),
        (
            "create",
            class(403, "Client::Forbidden", "You are not allowed to do this"),
        ),
        (
            "create",
            class(460, "Client::ServiceExpired", "This service is expired"),
        ),
        (
            "create",
            class(404, "Client::NotFound", "This service does not exist"),
        ),
        (
            "create",
            class(
                409,
                "Client::Conflict",
                "A task is already running on this zone",
            ),
        ),
        (
            "create",
            class(
                400,
                "Client::BadRequest",
                "There is a CNAME record on this subdomain",
            ),
        ),
        (
            "create",
            class(400, "Client::BadRequest", "Invalid value for target"),
        ),
        (
            "create",
            class(
                403,
                "Client::Quota",
                "The maximum number of records is reached",
            ),
        ),
        (
            "create",
            refusal(429, "TOO_MANY_REQUESTS", "Too many requests"),
        ),
        (
            "create",
            class(405, "Client::MethodNotAllowed", "Method not allowed"),
        ),
        (
            "create",
            refusal(500, "INTERNAL_SERVER_ERROR", "Internal server error"),
        ),
        (
            "create",
            refusal(503, "SERVICE_UNAVAILABLE", "In maintenance"),
        ),
        ("create", class(418, "Client::Teapot", "It is Tuesday")),
        ("create", answer(400, json!("<html>who are you?</html>"))),
    ];
    let mut table = String::new();
    for (call, reply) in all {
        let bench = Bench::new().await;
        bench.fake.fate(call, Fate::Reply(reply));
        let error = match call {
            "zones" => bench.zones(ZONE).await.unwrap_err(),
            _ => bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err(),
        };
        table.push_str(&shown(&error, &bench.fake.host()));
    }
    golden(&root().join("tests/errors/ovh.txt"), &table);
}
