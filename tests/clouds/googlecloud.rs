//! The plug-in for Google Cloud DNS.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_providers::clock::{Clock, later};
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::googlecloud::{GoogleCloud, Settings};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::secret::SecretSource;
use countersign_providers::{Context, ErrorKind, Provider, ProviderError, Settled};
use serde_json::json;

use super::{
    CANARY, PATIENCE, Secrets, VALUE, ZONE, apex, context, echo, hundred, insist, name, no_replies,
    shown, two_writers, without_canary,
};
use crate::support::clouds::googlecloud::{Google, PROJECT, Zone as Stored, refusal, text_of};
use crate::support::clouds::{Fake, Fate};
use crate::support::golden::{golden, root};
use crate::support::rest::answer;

const ID: &str = "example-test";

/// The stand-in with one zone among others, and the plug-in with a key.
pub(super) struct Bench {
    pub(super) fake: Fake<Google>,
    pub(super) plugin: GoogleCloud,
    secrets: Secrets,
    settings: Settings,
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let zones = vec![
            Stored::new("other", "other.test"),
            Stored::new("inside", ZONE).private(),
            Stored::new(ID, ZONE),
            Stored::new("looks-alike", "notexample.test"),
        ];
        let (fake, secrets) = (Google::start(zones).await, Secrets::new());
        let key = secrets.put("key", &Google::key(fake.url()).to_string());
        let mut settings = Settings {
            credentials: Some(key),
            project: None,
            zones: BTreeMap::new(),
            endpoint: format!("{}/dns/v1", fake.url()).parse().unwrap(),
            metadata: fake.url().parse().unwrap(),
        };
        change(&mut settings);
        Self {
            plugin: GoogleCloud::new(settings.clone()),
            fake,
            secrets,
            settings,
        }
    }

    fn zone(&self) -> Zone {
        Zone {
            name: apex(),
            id: ID.to_owned(),
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

    async fn zones(&self, name: &str) -> Result<Vec<(String, String)>, ProviderError> {
        let name = DnsName::parse(name).unwrap();
        let held = self.plugin.zones(&name, &context()).await?;
        let held = held.into_iter().map(|held| held.zone);
        Ok(held.map(|zone| (zone.name.to_string(), zone.id)).collect())
    }

    fn put(&self, name: &DnsName, kind: &str, ttl: u64, values: &[&str]) {
        self.fake.with(|google| {
            google
                .zone(ID)
                .unwrap()
                .put(name.as_str(), kind, ttl, values)
        });
    }

    fn shown(&self) -> Vec<String> {
        self.fake.with(|google| google.zone(ID).unwrap().shown())
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
        let set = self
            .fake
            .with(|google| google.zone(ID).unwrap().txt(name.as_str()).cloned());
        let values = set.iter().flat_map(|set| &set.values);
        RrSet {
            name: name.clone(),
            ttl: set.as_ref().map(|set| u32::try_from(set.ttl).unwrap()),
            values: values.map(|value| text_of(value).unwrap()).collect(),
        }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let quoted = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let mut values = self
            .fake
            .with(|google| google.zone(ID).unwrap().txt(name.as_str()).cloned())
            .map(|set| set.values)
            .unwrap_or_default();
        values.push(quoted);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        self.put(name, "TXT", ttl.into(), &values);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_battery() {
    let bench = Bench::new().await;
    contract::battery(&bench.plugin, &bench).await;
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_names_take_one_call_to_present_and_one_to_clean() {
    let bench = Bench::new().await;
    assert_eq!(bench.zones(ZONE).await.unwrap().len(), 1);
    bench.apply(&hundred(ensure)).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, zones, change");
    assert_eq!(bench.shown().len(), 100);
    let gone = hundred(absent);
    let believed: Vec<RrSet> = (gone.iter())
        .map(|change| RrSet {
            name: change.name.clone(),
            ttl: Some(60),
            values: vec![VALUE.to_owned()],
        })
        .collect();
    bench.believing(&gone, &believed).await.unwrap();
    assert_eq!(bench.fake.calls(), "change");
    assert_eq!(bench.shown(), [""; 0]);
    bench.apply(&gone).await.unwrap();
    assert_eq!(
        bench.fake.calls(),
        "list",
        "a look proves that they are gone"
    );
    bench.apply(&hundred(ensure)).await.unwrap();
    bench.apply(&gone).await.unwrap();
    assert_eq!(
        bench.fake.calls(),
        "change, 2 list, change",
        "102 sets are two pages"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_an_apex_and_its_wildcard_come_and_go_in_one_change() {
    let bench = Bench::new().await;
    let here = name("_acme-challenge");
    let both = |verb: fn(&DnsName, &str) -> Change| [verb(&here, "apex"), verb(&here, "wildcard")];
    bench.apply(&both(ensure)).await.unwrap();
    let wanted = "_acme-challenge.example.test. 60 \"apex\" \"wildcard\"";
    assert_eq!(bench.shown(), [wanted]);
    bench.apply(&both(absent)).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, change, list, change");
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_values_go_back_as_they_were_written_and_keep_their_ttl() {
    let bench = Bench::new().await;
    let theirs = ["\"v=spf1\" \"-all\"", "bare"];
    bench.put(&name("a"), "TXT", 777, &theirs);
    bench.apply(&[ensure(&name("a"), "ours")]).await.unwrap();
    assert_eq!(
        bench.shown(),
        ["a.example.test. 777 \"v=spf1\" \"-all\" bare \"ours\""]
    );
    assert_eq!(bench.fake.calls(), "token, change, list, change");
    bench.apply(&[absent(&name("a"), "ours")]).await.unwrap();
    assert_eq!(
        bench.shown(),
        ["a.example.test. 777 \"v=spf1\" \"-all\" bare"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_overtaken_looks_once_and_then_leaves_it_to_the_core_to_come_again() {
    let bench = Bench::new().await;
    let here = name("a");
    for round in 0..2 {
        bench.fake.fate(
            "change",
            Fate::Meanwhile(Box::new(move |google: &mut Google| {
                let values = [format!("\"theirs-{round}\"")];
                let zone = google.zone(ID).unwrap();
                zone.put("a.example.test", "TXT", 300, &[&values[0]]);
            })),
        );
    }
    let error = bench.apply(&[ensure(&here, "ours")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(!error.outcome_unknown());
    assert_eq!(bench.fake.calls(), "token, change, list, change");
    insist(&bench.plugin, &bench.zone(), &[ensure(&here, "ours")]).await;
    assert_eq!(bench.shown(), ["a.example.test. 300 \"theirs-1\" \"ours\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_change_the_same_names_lose_nothing() {
    let bench = Bench::new().await;
    bench.put(&name("shared"), "TXT", 777, &["\"theirs\""]);
    let plugins: [Arc<dyn Provider>; 2] =
        std::array::from_fn(|_| Arc::new(GoogleCloud::new(bench.settings.clone())) as Arc<_>);
    two_writers(plugins, &bench.zone()).await;
    let set = bench.served(&name("shared")).await;
    let mut values = set.values;
    values.sort();
    assert_eq!(values, ["0-99", "1-99", "theirs"]);
    assert_eq!(set.ttl, Some(777));
    assert!(
        bench.fake.with(|google| google.overtaken) > 0,
        "they never met"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_public_zone_that_could_hold_a_name_is_found_longest_first() {
    let bench = Bench::new().await;
    bench
        .fake
        .with(|google| google.zones.push(Stored::new("below", "sub.example.test")));
    let wanted = [("sub.example.test", "below"), (ZONE, ID)];
    let wanted = wanted.map(|(name, id)| (name.to_owned(), id.to_owned()));
    let held = bench.zones("_acme-challenge.a.sub.example.test").await;
    assert_eq!(held.unwrap(), wanted);
    assert_eq!(bench.fake.calls(), "token, zones");
    bench.fake.with(|google| {
        let more = (0..250).map(|n| Stored::new(&format!("z{n}"), &format!("z{n}.test")));
        google.zones.extend(more);
    });
    let held = bench.zones("_acme-challenge.a.sub.example.test").await;
    assert_eq!(held.unwrap(), wanted);
    assert_eq!(
        bench.fake.calls(),
        "5 zones",
        "the first page, then name by name"
    );
    assert_eq!(bench.zones("a.nobody.invalid").await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_of_one_name_are_told_apart_by_their_servers() {
    let bench = Bench::new().await;
    bench.fake.with(|google| {
        google.page = 1;
        google.zones.push(Stored::new("twin", ZONE));
    });
    let held = bench.plugin.zones(&name("a"), &context()).await.unwrap();
    let servers: Vec<&str> = (held.iter())
        .map(|held| held.nameservers[0].as_str())
        .collect();
    assert_eq!(
        servers,
        ["ns-cloud-example-test1.test", "ns-cloud-twin1.test"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_configured_is_not_looked_up() {
    let zones = BTreeMap::from([(apex(), "mine".to_owned())]);
    let bench = Bench::with(|settings| settings.zones = zones).await;
    let held = bench.zones("_acme-challenge.a.example.test").await.unwrap();
    assert_eq!(held, [(ZONE.to_owned(), "mine".to_owned())]);
    assert_eq!(bench.fake.calls(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_zone_is_not_read_for_a_few_names() {
    let bench = Bench::new().await;
    for n in 0..500 {
        bench.put(&name(&format!("x{n}")), "A", 60, &["192.0.2.1"]);
    }
    bench.put(&name("zz"), "TXT", 60, &["\"here\""]);
    let names = ["a", "b", "c", "zz"].map(name);
    let seen = bench.observe(&names).await.unwrap();
    assert_eq!(seen[3].values, ["here"]);
    assert_eq!(
        bench.fake.calls(),
        "token, 6 list",
        "two pages, then name by name"
    );
    let seen = bench.observe(&names[3..]).await.unwrap();
    assert_eq!(seen[0].ttl, Some(60));
    assert_eq!(bench.fake.calls(), "list");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_change_is_asked_about_until_it_is_done() {
    let bench = Bench::new().await;
    bench.fake.with(|google| google.pending = 1);
    let (zone, context) = (bench.zone(), context());
    let change = [ensure(&name("a"), "v")];
    let receipt = bench.plugin.apply(&zone, &change, &[], &context).await;
    let ticket = receipt.unwrap().ticket.unwrap();
    assert_eq!(ticket, "example-test/1");
    let settle = async |ticket: &str| bench.plugin.settle(ticket, &context).await.unwrap();
    assert_eq!(settle(&ticket).await, Settled::NotYet);
    assert_eq!(settle(&ticket).await, Settled::Everywhere);
    for unknown in ["example-test/99", "gone/1", "1"] {
        assert_eq!(settle(unknown).await, Settled::Unknown, "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_with_a_routing_policy_and_a_name_elsewhere_are_left_alone() {
    let bench = Bench::new().await;
    bench.put(&name("a"), "TXT", 60, &[]);
    let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("routing policy"), "{error}");
    bench.fake.calls();
    let elsewhere = DnsName::parse("a.notexample.test").unwrap();
    let error = bench.apply(&[ensure(&elsewhere, "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(bench.fake.calls(), "");
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
    observe().await;
    hands.advance(std::time::Duration::from_secs(3_600 - 181));
    observe().await;
    assert_eq!(bench.fake.calls(), "token, 3 list");
    hands.advance(std::time::Duration::from_secs(2));
    observe().await;
    assert_eq!(bench.fake.calls(), "token, list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_refused_is_not_used_again() {
    let bench = Bench::new().await;
    bench.observe(&[name("a")]).await.unwrap();
    bench.fake.with(|google| google.revoked = google.tokens);
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert_eq!(bench.fake.calls(), "token, 2 list");
    bench.observe(&[name("a")]).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, list");
    bench.plugin.forgive();
    bench.observe(&[name("a")]).await.unwrap();
    assert_eq!(bench.fake.calls(), "token, list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_at_google_needs_no_key() {
    let bench = Bench::with(|settings| settings.credentials = None).await;
    bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.fake.calls(), "2 metadata, change");
    let bench = Bench::with(|settings| {
        settings.credentials = None;
        settings.project = Some(PROJECT.to_owned());
    })
    .await;
    bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
    assert_eq!(bench.fake.calls(), "metadata, change");
    bench
        .fake
        .fate("metadata", Fate::Reply(answer(404, json!(""))));
    bench.plugin.forgive();
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(
        error.message.contains("knows no service account"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_told_without_its_content() {
    let bench = Bench::new().await;
    let key = Google::key(bench.fake.url());
    let with = |name: &str, value: &str| {
        let mut key = key.clone();
        key[name] = json!(value);
        key.to_string()
    };
    let wrong = [
        (
            CANARY.to_owned(),
            "is not the key of a service account in JSON",
        ),
        (format!("{{\"type\": [\"{CANARY}\"]}}"), "is not the key"),
        (
            with("type", "authorized_user"),
            "is of the type `authorized_user`",
        ),
        (with("client_email", ""), "names no client_email"),
        (
            with("private_key", CANARY),
            "holds no private_key that can be used",
        ),
        (
            with("token_uri", "http://tokens.test/"),
            "plain http would show",
        ),
        (
            with("token_uri", "nonsense"),
            "has a token_uri that is none",
        ),
    ];
    for (text, wanted) in wrong {
        bench.secrets.put("key", &text);
        let error = bench.observe(&[name("a")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Auth, "{error:?}");
        assert!(error.message.contains(wanted), "{error}");
        without_canary(&error);
    }
    assert_eq!(bench.fake.calls(), "");
    bench.secrets.put("key", &with("project_id", PROJECT));
    assert!(bench.observe(&[name("a")]).await.is_ok(), "it is read anew");
}

// --- faults ----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_the_outcome_open_and_the_same_again_makes_it_good() {
    for (verb, left) in [(ensure as fn(&DnsName, &str) -> Change, 1), (absent, 0)] {
        let bench = Bench::new().await;
        if left == 0 {
            bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
        }
        let lost = answer(502, json!("<html>bad gateway</html>"));
        bench.fake.fate("change", Fate::Done(lost));
        let error = match left {
            0 => {
                let believed = [RrSet {
                    name: name("a"),
                    ttl: Some(60),
                    values: vec!["v".to_owned()],
                }];
                bench.believing(&[verb(&name("a"), "v")], &believed).await
            }
            _ => bench.apply(&[verb(&name("a"), "v")]).await,
        };
        let error = error.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
        assert!(error.outcome_unknown());
        bench.apply(&[verb(&name("a"), "v")]).await.unwrap();
        assert_eq!(bench.shown().len(), left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_no_replies_end_in_an_error() {
    for reply in no_replies() {
        let bench = Bench::new().await;
        let body = reply.body.to_string();
        bench.fake.always(Some(reply));
        for error in [
            bench.observe(&[name("a")]).await.err(),
            bench.zones(ZONE).await.err(),
            bench.apply(&[ensure(&name("a"), "v")]).await.err(),
        ] {
            let error = error.unwrap_or_else(|| panic!("{body}"));
            assert_eq!(error.kind, ErrorKind::Fatal, "{body}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_that_answers_nonsense_is_told_without_what_it_said() {
    let odd = [
        json!(CANARY),
        json!({"access_token": CANARY}),
        json!({"access_token": CANARY, "expires_in": "soon"}),
        json!({"access_token": [CANARY], "expires_in": 1}),
        json!({"access_token": "", "expires_in": 1}),
        json!({"access_token": format!("{CANARY}\nX-More: 1"), "expires_in": 3600}),
    ];
    for body in odd {
        let bench = Bench::new().await;
        bench
            .fake
            .fate("token", Fate::Reply(answer(200, body.clone())));
        let error = bench.observe(&[name("a")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fatal, "{body}");
        without_canary(&error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_without_an_end_are_given_up() {
    let bench = Bench::new().await;
    let body = json!({"rrsets": [], "managedZones": [], "nextPageToken": "again"});
    bench.fake.always(Some(answer(200, body)));
    let error = bench.zones(ZONE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
    let names: Vec<DnsName> = hundred(ensure).into_iter().map(|it| it.name).collect();
    let seen = bench.observe(&names).await;
    assert!(
        seen.is_ok(),
        "name by name, and none has more than one set: {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_repeats_the_token_is_not_repeated() {
    for status in [200, 400, 401, 403, 404, 409, 429, 500] {
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
    let call = |status, reason, words: &'static str| ("change", refusal(status, reason, words));
    let modern = |reason: &str, words: &str| {
        let details =
            json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
        answer(
            403,
            json!({"error": {"code": 403, "message": words, "status": "PERMISSION_DENIED", "details": details}}),
        )
    };
    let token = |code: &str, words: &str| {
        (
            "token",
            answer(400, json!({"error": code, "error_description": words})),
        )
    };
    let all = [
        call(401, "authError", "Invalid Credentials"),
        call(
            401,
            "required",
            "Request is missing required authentication credential.",
        ),
        call(403, "forbidden", "Forbidden"),
        call(
            403,
            "insufficientPermissions",
            "Request had insufficient authentication scopes.",
        ),
        call(403, "accessNotConfigured", "Access not configured"),
        call(
            403,
            "inactiveBillingState",
            "Project dns-project cannot accept requests while in an inactive billing state.",
        ),
        (
            "change",
            modern(
                "SERVICE_DISABLED",
                "Cloud DNS API has not been used in project 1 before or it is disabled.",
            ),
        ),
        (
            "change",
            modern("CONSUMER_INVALID", "Project 'nobody' not found or deleted."),
        ),
        (
            "change",
            modern(
                "SECURITY_POLICY_VIOLATED",
                "Request is prohibited by organization's policy.",
            ),
        ),
        (
            "change",
            modern(
                "IAM_PERMISSION_DENIED",
                "Permission 'dns.changes.create' denied.",
            ),
        ),
        call(403, "rateLimitExceeded", "Rate Limit Exceeded"),
        call(403, "dailyLimitExceeded", "Daily Limit Exceeded"),
        call(
            429,
            "RATE_LIMIT_EXCEEDED",
            "Quota exceeded for quota metric 'Write requests'",
        ),
        call(
            403,
            "quotaExceeded",
            "The resource limit was exceeded: 'rrsetsPerManagedZone'",
        ),
        call(
            404,
            "notFound",
            "The 'parameters.managedZone' resource named 'example-test' does not exist.",
        ),
        call(
            404,
            "notFound",
            "The 'parameters.project' resource named 'nobody' does not exist.",
        ),
        call(
            409,
            "cnameResourceRecordSetConflict",
            "The resource record set 'entity.change.additions[0]' is invalid.",
        ),
        call(
            400,
            "invalid",
            "Invalid value for 'entity.change.additions[0].name'",
        ),
        call(
            400,
            "invalidValue",
            "Invalid value for 'entity.change.additions[0].rrdata[0]'",
        ),
        call(400, "managedZoneIsReadOnly", "The zone is read-only."),
        call(400, "parseError", "Parse Error"),
        call(500, "internalError", "Internal Error"),
        call(503, "backendError", "Backend Error"),
        call(400, "somethingNew", "It is Tuesday"),
        ("change", answer(403, json!("<html>who are you?</html>"))),
        token("invalid_grant", "Invalid JWT Signature."),
        token("invalid_grant", "Invalid grant: account not found"),
        token(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
        ),
        token("invalid_client", "The OAuth client was not found."),
        token("disabled_client", "The OAuth client was disabled."),
        token("invalid_scope", "Some requested scopes were invalid."),
        token(
            "admin_policy_enforced",
            "Access to your account data is restricted by policies.",
        ),
        token("new_reason", ""),
    ];
    let mut table = String::new();
    for (name_of_call, reply) in all {
        let bench = Bench::new().await;
        bench.fake.fate(name_of_call, Fate::Reply(reply));
        let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
        table.push_str(&shown(&error, &bench.fake.host()));
    }
    for (call, at) in [("zones", ZONE), ("list", "a.example.test")] {
        let bench = Bench::new().await;
        bench
            .fake
            .fate(call, Fate::Reply(refusal(403, "forbidden", "Forbidden")));
        let error = match call {
            "zones" => bench.zones(at).await.unwrap_err(),
            _ => bench.observe(&[name("a")]).await.unwrap_err(),
        };
        table.push_str(&shown(&error, &bench.fake.host()));
    }
    golden(&root().join("tests/errors/googlecloud.txt"), &table);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_is_named() {
    let bench = Bench::with(|settings| {
        settings.credentials = Some(SecretSource::File("/nowhere/key.json".into()));
    })
    .await;
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(
        error
            .message
            .starts_with("`credentials` cannot be read: /nowhere/key.json"),
        "{error}"
    );
}
