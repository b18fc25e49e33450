//! Who the plug-in is, and how long.

use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use countersign_providers::contract::ensure;
use countersign_providers::{Context, ErrorKind, Provider as _};
use serde_json::json;

use super::super::{CANARY, PATIENCE, name, nobody, without_canary};
use super::Bench;
use crate::support::clouds::Fate;
use crate::support::clouds::googlecloud::{Google, PROJECT};
use crate::support::rest::answer;

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
    hands.advance(Duration::from_secs(3_600 - 181));
    observe().await;
    assert_eq!(bench.fake.calls(), "token, 3 list");
    hands.advance(Duration::from_secs(2));
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
async fn a_machine_that_is_not_at_google_needs_a_person_and_a_broken_server_does_not() {
    let bench = Bench::with(|settings| {
        settings.credentials = None;
        settings.metadata = nobody().parse().unwrap();
    })
    .await;
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth, "{error:?}");
    let bench = Bench::with(|settings| settings.credentials = None).await;
    bench
        .fake
        .fate("metadata", Fate::Reply(answer(503, json!(""))));
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
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
