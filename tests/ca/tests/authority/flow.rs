//! The way from an account to a certificate, and what belongs to it: RFC 8555 section 7.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testca::{Clock, Endpoint, Status};
use jiff::Timestamp;
use reqwest::Method;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::support::Stage;
use crate::support::client::{csr, csr_named, jwk, sign};

const NOON: i64 = 1_800_000_000;

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(Result::unwrap)
        .collect()
}

fn verifies(root: &str, chain: &[CertificateDer<'static>], name: &str, at: i64) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(self::chain(root).remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], at)
        .is_ok()
}

#[tokio::test]
async fn issues_for_a_name_and_its_wildcard() {
    let stage = Stage::with(|settings| {
        settings.clock = Clock::virtual_at(Timestamp::from_second(NOON).unwrap());
        settings.lifetime = Duration::from_secs(60);
        settings.backdate = Duration::from_secs(10);
    })
    .await;
    let names = ["x.test", "*.x.test"];
    let (pem, key) = stage.client.obtain(&stage.nameserver, &names).await;

    let chain = chain(&pem);
    assert_eq!(chain.len(), 2, "leaf and intermediate");
    let root = stage.authority.issuing_root_pem();
    assert!(verifies(root, &chain, "x.test", NOON));
    assert!(verifies(root, &chain, "a.x.test", NOON));
    assert!(!verifies(root, &chain, "y.test", NOON));
    assert!(!verifies(root, &chain, "x.test", NOON + 51));

    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let sans = leaf.subject_alternative_name().unwrap().unwrap();
    let sans: Vec<_> = sans
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(sans, ["DNSName(*.x.test)", "DNSName(x.test)"]);
    assert_eq!(leaf.subject().iter().count(), 0, "no common name");
    assert_eq!(leaf.validity().not_before.timestamp(), NOON - 10);
    assert_eq!(leaf.validity().not_after.timestamp(), NOON + 50);
    assert_eq!(
        leaf.public_key().subject_public_key.data,
        key.public_key_raw()
    );
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any);
    let ids: Vec<_> = leaf
        .extensions()
        .iter()
        .map(|e| e.oid.to_id_string())
        .collect();
    assert!(
        ids.contains(&"2.5.29.14".to_owned()),
        "subject key identifier: {ids:?}"
    );
    assert!(
        ids.contains(&"2.5.29.35".to_owned()),
        "authority key identifier: {ids:?}"
    );
    assert!(!leaf.is_ca());

    let orders = stage.authority.orders();
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].names, ["*.x.test", "x.test"]);
    assert_eq!(orders[0].status, Status::Valid);
    assert_eq!(stage.authority.requests()[&Endpoint::NewOrder], 1);
}

#[tokio::test]
async fn directory_has_terms_and_a_key_that_means_nothing() {
    let stage = Stage::with(|settings| {
        settings
            .profiles
            .insert("short".to_owned(), "An hour".to_owned());
    })
    .await;
    let directory = stage.client.directory.as_object().unwrap();
    let known = [
        "newNonce",
        "newAccount",
        "newOrder",
        "revokeCert",
        "keyChange",
        "meta",
    ];
    let unknown = directory
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .count();
    assert_eq!(unknown, 1);
    assert!(directory["meta"]["termsOfService"].is_string());
    assert_eq!(directory["meta"]["profiles"]["short"], "An hour");
}

#[tokio::test]
async fn new_nonce_by_head_and_get() {
    let stage = Stage::new().await;
    let url = stage.client.url("newNonce");
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204)] {
        let answer = stage.client.plain(method, &url).await;
        assert_eq!(answer.status, status);
        assert!(answer.header("replay-nonce").is_some());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn a_wildcard_authorization_names_its_base() {
    let stage = Stage::new().await;
    let order = stage.client.new_order(&["*.x.test"]).await.json();
    let authorization = stage
        .client
        .get(order["authorizations"][0].as_str().unwrap())
        .await
        .json();
    assert_eq!(
        authorization["identifier"],
        json!({"type": "dns", "value": "x.test"})
    );
    assert_eq!(authorization["wildcard"], true);
    assert_eq!(authorization["status"], "pending");

    let order = stage.client.new_order(&["x.test"]).await.json();
    let authorization = stage
        .client
        .get(order["authorizations"][0].as_str().unwrap())
        .await
        .json();
    assert!(authorization.get("wildcard").is_none());
}

#[tokio::test]
async fn new_account_finds_the_one_of_the_same_key() {
    let mut stage = Stage::new().await;
    let first = stage.client.kid.clone();
    let again = stage.client.register().await;
    assert_eq!(
        (again.status, again.header("location")),
        (200, Some(first.as_str()))
    );
    let found = stage
        .client
        .new_account(&json!({"onlyReturnExisting": true}))
        .await;
    assert_eq!(
        (found.status, found.header("location")),
        (200, Some(first.as_str()))
    );

    let mut other = stage.client.sibling();
    let created = other.register().await;
    assert_eq!(created.status, 201);
    assert_ne!(created.header("location"), Some(first.as_str()));
}

#[tokio::test]
async fn account_can_be_changed_and_given_up() {
    let stage = Stage::new().await;
    let kid = stage.client.kid.clone();
    let contact = json!({"contact": ["mailto:a@x.test"]});
    assert_eq!(
        stage.client.post(&kid, &contact).await.json()["contact"],
        contact["contact"]
    );
    for (contact, kind) in [
        ("tel:1", "unsupportedContact"),
        ("mailto:a,b@x", "invalidContact"),
    ] {
        let answer = stage
            .client
            .post(&kid, &json!({"contact": [contact]}))
            .await;
        assert_eq!(answer.problem(), (400, kind.to_owned()));
    }
    let answer = stage.client.post(&kid, &json!({"status": "revoked"})).await;
    assert_eq!(answer.problem(), (400, "malformed".to_owned()));

    let answer = stage
        .client
        .post(&kid, &json!({"status": "deactivated"}))
        .await;
    assert_eq!(
        (answer.status, answer.status_text().as_str()),
        (200, "deactivated")
    );
    let refused = (403, "unauthorized".to_owned());
    assert_eq!(stage.client.new_order(&["x.test"]).await.problem(), refused);
    assert_eq!(
        stage.client.new_account(&json!({})).await.problem(),
        refused
    );
}

#[tokio::test]
async fn account_lists_its_orders() {
    let stage = Stage::new().await;
    let order = stage.client.new_order(&["x.test"]).await;
    let list = stage
        .client
        .get(&format!("{}/orders", stage.client.kid))
        .await;
    assert_eq!(
        list.json(),
        json!({"orders": [order.header("location").unwrap()]})
    );
}

#[tokio::test]
async fn key_change_takes_the_new_key_and_forgets_the_old() {
    let mut stage = Stage::new().await;
    let new_key = rcgen::KeyPair::generate().unwrap();
    let url = stage.client.url("keyChange");
    let inner = |account: &str, old_key: Value| {
        let header = json!({"alg": "ES256", "jwk": jwk(&new_key), "url": url});
        sign(
            &new_key,
            &header,
            &json!({"account": account, "oldKey": old_key}).to_string(),
        )
    };
    let old = jwk(&stage.client.key);
    for wrong in [
        inner("https://wrong.test/1", old.clone()),
        inner(&stage.client.kid, jwk(&new_key)),
    ] {
        let answer = stage.client.post(&url, &wrong).await;
        assert_eq!(answer.problem(), (400, "malformed".to_owned()));
    }
    let answer = stage
        .client
        .post(&url, &inner(&stage.client.kid, old))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = stage.client.new_order(&["x.test"]).await;
    assert_eq!(
        answer.problem(),
        (400, "malformed".to_owned()),
        "the old key is dead"
    );
    stage.client.key = new_key;
    assert_eq!(stage.client.new_order(&["x.test"]).await.status, 201);
}

#[tokio::test]
async fn key_change_to_the_key_of_another_account_is_a_conflict() {
    let stage = Stage::new().await;
    let mut other = stage.client.sibling();
    other.register().await;
    let url = stage.client.url("keyChange");
    let header = json!({"alg": "ES256", "jwk": jwk(&other.key), "url": url});
    let payload = json!({"account": stage.client.kid, "oldKey": jwk(&stage.client.key)});
    let answer = stage
        .client
        .post(&url, &sign(&other.key, &header, &payload.to_string()))
        .await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.header("location"), Some(other.kid.as_str()));
}

#[tokio::test]
async fn revokes_for_the_account_and_for_the_key_and_only_once() {
    let stage = Stage::new().await;
    let url = stage.client.url("revokeCert");
    let (pem, _) = stage.client.obtain(&stage.nameserver, &["x.test"]).await;
    let payload = |pem: &str| json!({"certificate": URL_SAFE_NO_PAD.encode(&chain(pem)[0])});

    let mut stranger = stage.client.sibling();
    stranger.register().await;
    let answer = stranger.post(&url, &payload(&pem)).await;
    assert_eq!(answer.problem(), (403, "unauthorized".to_owned()));
    let mut bad_reason = payload(&pem);
    bad_reason["reason"] = json!(2);
    let answer = stage.client.post(&url, &bad_reason).await;
    assert_eq!(answer.problem(), (400, "badRevocationReason".to_owned()));
    assert_eq!(stage.client.post(&url, &payload(&pem)).await.status, 200);
    let answer = stage.client.post(&url, &payload(&pem)).await;
    assert_eq!(answer.problem(), (400, "alreadyRevoked".to_owned()));
    let serial = stage.authority.orders()[0].certificate.clone().unwrap();
    assert!(stage.authority.is_revoked(&serial));

    let (pem, key) = stage.client.obtain(&stage.nameserver, &["y.test"]).await;
    let mut by_key = stage.client.sibling();
    by_key.key = key;
    let mut draft = by_key.draft(&url, &payload(&pem).to_string()).await;
    draft.by_key(&by_key.key);
    assert_eq!(by_key.send(draft).await.status, 200);
}

#[tokio::test]
async fn an_order_expires_with_its_authorizations() {
    let clock = Clock::virtual_at(Timestamp::from_second(NOON).unwrap());
    let stage = Stage::with(|settings| {
        settings.clock = clock.clone();
        settings.order_lifetime = Duration::from_secs(600);
    })
    .await;
    let answer = stage.client.new_order(&["x.test"]).await;
    let order = answer.json();
    assert_eq!(
        order["expires"],
        Timestamp::from_second(NOON + 600).unwrap().to_string()
    );
    clock.advance(Duration::from_secs(600));
    let order_now = stage.client.get(answer.header("location").unwrap()).await;
    assert_eq!(order_now.status_text(), "invalid");
    let authorization = order["authorizations"][0].as_str().unwrap();
    assert_eq!(
        stage.client.get(authorization).await.status_text(),
        "expired"
    );
}

#[tokio::test]
async fn a_deactivated_authorization_ends_the_order() {
    let stage = Stage::new().await;
    let answer = stage.client.new_order(&["x.test"]).await;
    let order = answer.json();
    let url = order["authorizations"][0].as_str().unwrap();
    let gone = stage
        .client
        .post(url, &json!({"status": "deactivated"}))
        .await;
    assert_eq!(gone.status_text(), "deactivated");
    let order = stage.client.get(answer.header("location").unwrap()).await;
    assert_eq!(order.status_text(), "invalid");
}

#[tokio::test]
async fn processing_takes_as_many_looks_as_it_is_told() {
    let stage = Stage::with(|settings| {
        settings.processing_looks = 3;
        settings.retry_after = Some(Duration::from_millis(1_500));
    })
    .await;
    let (url, order) = stage
        .client
        .ready_order(&stage.nameserver, &["x.test"])
        .await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut answer = stage.client.finalize(&order, &csr(&key, &["x.test"])).await;
    for _ in 0..3 {
        assert_eq!(answer.status_text(), "processing");
        assert_eq!(answer.header("retry-after"), Some("2"));
        assert!(answer.json().get("certificate").is_none());
        answer = stage.client.get(&url).await;
    }
    assert_eq!(answer.status_text(), "valid");
    assert_eq!(answer.header("retry-after"), None);
    assert!(answer.json()["certificate"].is_string());
}

#[tokio::test]
async fn a_common_name_in_the_csr_is_not_copied() {
    let stage = Stage::new().await;
    let (_, order) = stage
        .client
        .ready_order(&stage.nameserver, &["x.test"])
        .await;
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = csr_named(&key, &["x.test"], Some("x.test"));
    let order = stage.client.finalize(&order, &csr).await.json();
    let pem = stage
        .client
        .get(order["certificate"].as_str().unwrap())
        .await
        .text;
    let chain = chain(&pem);
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    assert_eq!(leaf.subject().iter_common_name().count(), 0);
}

#[tokio::test]
async fn a_known_profile_is_shown_in_the_order() {
    let stage = Stage::with(|settings| {
        settings
            .profiles
            .insert("short".to_owned(), "An hour".to_owned());
    })
    .await;
    let mut payload = crate::support::client::order_payload(&["x.test"]);
    payload["profile"] = json!("short");
    let url = stage.client.url("newOrder");
    assert_eq!(
        stage.client.post(&url, &payload).await.json()["profile"],
        "short"
    );
    payload["profile"] = json!("other");
    let answer = stage.client.post(&url, &payload).await;
    assert_eq!(answer.problem(), (400, "invalidProfile".to_owned()));
}

#[tokio::test]
async fn shutdown_frees_the_port() {
    let Stage {
        authority, client, ..
    } = Stage::new().await;
    let url = authority.directory_url();
    let address = url
        .trim_start_matches("https://")
        .trim_end_matches("/directory")
        .to_owned();
    authority.shutdown().await;
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    drop(client);
}

#[tokio::test]
async fn the_log_hook_sees_each_answer() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let stage = Stage::with(|settings| {
        settings.log = Some(Arc::new(move |request| {
            let line = (request.endpoint, request.method.to_owned(), request.status);
            log.lock().unwrap().push(line);
        }));
    })
    .await;
    stage.client.new_order(&["x.test"]).await;
    let expected = [
        (Endpoint::Directory, "GET", 200),
        (Endpoint::NewNonce, "HEAD", 200),
        (Endpoint::NewAccount, "POST", 201),
        (Endpoint::NewOrder, "POST", 201),
    ];
    let expected = expected.map(|(endpoint, method, status)| (endpoint, method.to_owned(), status));
    assert_eq!(*seen.lock().unwrap(), expected);
}
