//! Who the plug-in is, and how long.

use std::time::Duration;

use countersign_providers::azuredns::Login;
use countersign_providers::clock::{Clock, later};
use countersign_providers::{Context, ErrorKind, Provider as _};

use super::super::{CANARY, PATIENCE, echo, name, nobody, without_canary};
use super::Bench;
use crate::support::clouds::Fate;
use crate::support::clouds::azuredns::{CLIENT, FEDERATED, SECRET, TENANT};

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
    hands.advance(Duration::from_secs(3_599 - 181));
    observe().await;
    assert_eq!(bench.fake.calls(), "token, 2 get");
    hands.advance(Duration::from_secs(2));
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
async fn a_machine_that_is_not_at_azure_needs_a_person() {
    let bench = Bench::with(|settings, _| {
        settings.login = Login::Machine { client: None };
        settings.metadata = nobody().parse().unwrap();
    })
    .await;
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth, "{error:?}");
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
