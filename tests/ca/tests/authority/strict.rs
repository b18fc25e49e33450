//! What is refused, and how: each with the problem type and HTTP status of the standard.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testca::Clock;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;

use crate::support::Stage;
use crate::support::client::{Answer, Draft, csr, csr_named, order_payload};

/// Sends a `newOrder` that is good but for one thing.
async fn spoiled(stage: &Stage, spoil: impl FnOnce(&mut Draft)) -> Answer {
    let payload = order_payload(&["x.test"]).to_string();
    let mut draft = stage
        .client
        .draft(&stage.client.url("newOrder"), &payload)
        .await;
    spoil(&mut draft);
    stage.client.send(draft).await
}

fn is(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(
        answer.problem(),
        (status, kind.to_owned()),
        "{}",
        answer.text
    );
    assert!(
        answer.header("replay-nonce").is_some(),
        "every refusal brings a fresh nonce"
    );
}

#[tokio::test]
async fn a_used_nonce() {
    let stage = Stage::new().await;
    let nonce = stage.client.nonce().await;
    let answer = spoiled(&stage, |draft| draft.header["nonce"] = json!(nonce)).await;
    assert_eq!(answer.status, 201);
    let answer = spoiled(&stage, |draft| draft.header["nonce"] = json!(nonce)).await;
    is(&answer, 400, "badNonce");
    // The nonce of the refusal itself is good.
    let fresh = answer.header("replay-nonce").unwrap().to_owned();
    let answer = spoiled(&stage, |draft| draft.header["nonce"] = json!(fresh)).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn an_unknown_nonce_and_none() {
    let stage = Stage::new().await;
    let made_up = URL_SAFE_NO_PAD.encode([1; 16]);
    is(
        &spoiled(&stage, |draft| draft.header["nonce"] = json!(made_up)).await,
        400,
        "badNonce",
    );
    let answer = spoiled(&stage, |draft| draft.header["nonce"] = json!(null)).await;
    is(&answer, 400, "badNonce");
}

#[tokio::test]
async fn a_nonce_of_yesterday() {
    let clock = Clock::virtual_at(Timestamp::from_second(1_800_000_000).unwrap());
    let stage = Stage::with(|settings| settings.clock = clock.clone()).await;
    let nonce = stage.client.nonce().await;
    clock.advance(std::time::Duration::from_secs(86_400));
    let answer = spoiled(&stage, |draft| draft.header["nonce"] = json!(nonce)).await;
    is(&answer, 400, "badNonce");
}

#[tokio::test]
async fn a_bad_request_does_not_spend_its_nonce() {
    let stage = Stage::new().await;
    let nonce = stage.client.nonce().await;
    let answer = spoiled(&stage, |draft| {
        draft.header["nonce"] = json!(nonce);
        draft.spoil_signature = true;
    });
    is(&answer.await, 400, "malformed");
    let answer = spoiled(&stage, |draft| draft.header["nonce"] = json!(nonce)).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn a_wrong_url() {
    let stage = Stage::new().await;
    let other = stage.client.url("newAccount");
    is(
        &spoiled(&stage, |draft| draft.header["url"] = json!(other)).await,
        403,
        "unauthorized",
    );
    let answer = spoiled(&stage, |draft| draft.header["url"] = json!(null)).await;
    is(&answer, 400, "malformed");
}

#[tokio::test]
async fn a_bad_signature() {
    let stage = Stage::new().await;
    is(
        &spoiled(&stage, |draft| draft.spoil_signature = true).await,
        400,
        "malformed",
    );
}

#[tokio::test]
async fn a_wrong_algorithm() {
    let stage = Stage::new().await;
    for algorithm in ["HS256", "none", "RS256", "ES384"] {
        let answer = spoiled(&stage, |draft| draft.header["alg"] = json!(algorithm)).await;
        is(&answer, 400, "badSignatureAlgorithm");
        assert_eq!(
            answer.json()["algorithms"],
            json!(["ES256", "ES384", "RS256"])
        );
    }
}

#[tokio::test]
async fn another_media_type() {
    let stage = Stage::new().await;
    let answer = spoiled(&stage, |draft| draft.content_type = "application/json").await;
    is(&answer, 415, "malformed");
}

#[tokio::test]
async fn a_key_where_an_account_is_wanted_and_the_reverse() {
    let stage = Stage::new().await;
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
        &stage.client.key.serialized_der().into(),
        stage.client.key.algorithm(),
    )
    .unwrap();
    is(
        &spoiled(&stage, |draft| draft.by_key(&key)).await,
        400,
        "malformed",
    );
    let url = stage.client.url("newAccount");
    is(&stage.client.post(&url, &json!({})).await, 400, "malformed");
    let answer = spoiled(&stage, |draft| {
        let kid = draft.header["kid"].clone();
        draft.by_key(&key);
        draft.header["kid"] = kid;
    });
    is(&answer.await, 400, "malformed");
}

#[tokio::test]
async fn an_unknown_account() {
    let stage = Stage::new().await;
    for kid in [
        stage.client.kid.clone() + "0",
        "https://elsewhere.test/account/1".to_owned(),
    ] {
        let answer = spoiled(&stage, |draft| draft.header["kid"] = json!(kid)).await;
        is(&answer, 400, "accountDoesNotExist");
    }
    let stranger = stage.client.sibling();
    let answer = stranger
        .new_account(&json!({"onlyReturnExisting": true}))
        .await;
    is(&answer, 400, "accountDoesNotExist");
}

#[tokio::test]
async fn terms_that_were_not_agreed_to() {
    let stage = Stage::new().await;
    let answer = stage.client.sibling().new_account(&json!({})).await;
    is(&answer, 403, "userActionRequired");
    let links: Vec<_> = answer.headers.get_all("link").iter().collect();
    assert!(
        links
            .iter()
            .any(|link| link.to_str().unwrap().contains("terms-of-service"))
    );
}

#[tokio::test]
async fn a_body_that_is_too_large() {
    let stage = Stage::new().await;
    let url = stage.client.url("newOrder");
    let body = "x".repeat(70_000);
    let answer = stage
        .client
        .send_body(&url, body, "application/jose+json")
        .await
        .unwrap();
    is(&answer, 413, "malformed");
}

#[tokio::test]
async fn a_body_that_is_no_jws() {
    let stage = Stage::new().await;
    let url = stage.client.url("newOrder");
    for body in [
        "",
        "{",
        "[]",
        r#"{"protected":"!","payload":"","signature":""}"#,
    ] {
        let answer = stage
            .client
            .send_body(&url, body.to_owned(), "application/jose+json")
            .await
            .unwrap();
        is(&answer, 400, "malformed");
    }
}

#[tokio::test]
async fn a_plain_get() {
    let stage = Stage::new().await;
    let order = stage.client.new_order(&["x.test"]).await;
    for url in [
        order.header("location").unwrap(),
        &stage.client.url("newOrder"),
    ] {
        let answer = stage.client.plain(Method::GET, url).await;
        assert_eq!(answer.problem(), (405, "malformed".to_owned()));
        assert_eq!(answer.header("allow"), Some("POST"));
    }
}

#[tokio::test]
async fn a_request_without_user_agent() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    let stage = Stage::new().await;
    let url = stage.authority.directory_url();
    let address = url
        .trim_start_matches("https://")
        .trim_end_matches("/directory")
        .to_owned();
    let mut roots = rustls::RootCertStore::empty();
    let pem = stage.authority.https_root_pem().as_bytes();
    use rustls::pki_types::pem::PemObject as _;
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let mut tls = TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let request =
        format!("GET /directory HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server may close without close_notify; what counts is what it said.
    _ = tls.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn names_that_cannot_be_ordered() {
    let stage = Stage::new().await;
    stage.authority.faults().forbid_name("evil.test");
    for (name, kind) in [
        ("192.0.2.1", "malformed"),
        ("a_b.test", "malformed"),
        ("localhost", "rejectedIdentifier"),
        ("evil.test", "rejectedIdentifier"),
    ] {
        let answer = stage.client.new_order(&["good.test", name]).await;
        is(&answer, 400, kind);
        assert_eq!(answer.json()["subproblems"][0]["identifier"]["value"], name);
    }
    is(
        &stage.client.new_order(&["*.x.test", "a.x.test"]).await,
        400,
        "malformed",
    );
    is(&stage.client.new_order(&[]).await, 400, "malformed");
    let url = stage.client.url("newOrder");
    let ip = json!({"identifiers": [{"type": "ip", "value": "192.0.2.1"}]});
    is(
        &stage.client.post(&url, &ip).await,
        400,
        "unsupportedIdentifier",
    );
    let mut dated = order_payload(&["x.test"]);
    dated["notAfter"] = json!("2030-01-01T00:00:00Z");
    is(&stage.client.post(&url, &dated).await, 400, "malformed");
    assert!(stage.authority.orders().is_empty());
}

#[tokio::test]
async fn an_answer_to_a_challenge_that_is_not_the_empty_object() {
    let stage = Stage::new().await;
    let order = stage.client.new_order(&["x.test"]).await.json();
    let authorization = stage
        .client
        .get(order["authorizations"][0].as_str().unwrap())
        .await
        .json();
    let challenge = authorization["challenges"][0]["url"].as_str().unwrap();
    for payload in [
        json!({"keyAuthorization": "x"}),
        json!([]),
        json!(null),
        json!(""),
    ] {
        is(
            &stage.client.post(challenge, &payload).await,
            400,
            "malformed",
        );
    }
    assert_eq!(stage.client.get(challenge).await.status_text(), "pending");
}

#[tokio::test]
async fn finalize_before_ready_and_after() {
    let stage = Stage::new().await;
    let order = stage.client.new_order(&["x.test"]).await.json();
    let key = rcgen::KeyPair::generate().unwrap();
    is(
        &stage.client.finalize(&order, &csr(&key, &["x.test"])).await,
        403,
        "orderNotReady",
    );

    let (_, order) = stage
        .client
        .ready_order(&stage.nameserver, &["x.test"])
        .await;
    assert_eq!(
        stage
            .client
            .finalize(&order, &csr(&key, &["x.test"]))
            .await
            .status,
        200
    );
    is(
        &stage.client.finalize(&order, &csr(&key, &["x.test"])).await,
        403,
        "orderNotReady",
    );
}

#[tokio::test]
async fn a_csr_that_does_not_fit_the_order() {
    let stage = Stage::new().await;
    let (url, order) = stage
        .client
        .ready_order(&stage.nameserver, &["x.test", "*.x.test"])
        .await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut broken = csr(&key, &["x.test", "*.x.test"]);
    *broken.last_mut().unwrap() ^= 1;
    for csr in [
        csr(&key, &["x.test"]),
        csr(&key, &["x.test", "*.x.test", "y.test"]),
        csr(&key, &["x.test", "y.test"]),
        csr(&key, &[]),
        csr(&key, &["x.test", "192.0.2.1"]),
        csr_named(&key, &["x.test", "*.x.test"], Some("y.test")),
        csr(&stage.client.key, &["x.test", "*.x.test"]),
        broken,
        b"no CSR".to_vec(),
    ] {
        is(&stage.client.finalize(&order, &csr).await, 400, "badCSR");
        assert_eq!(
            stage.client.get(&url).await.status_text(),
            "ready",
            "it may be tried again"
        );
    }
    let good = csr(&key, &["*.x.test", "x.test"]);
    assert_eq!(stage.client.finalize(&order, &good).await.status, 200);
}

#[tokio::test]
async fn what_belongs_to_another_account() {
    let stage = Stage::new().await;
    let (_, order) = stage
        .client
        .ready_order(&stage.nameserver, &["x.test"])
        .await;
    let key = rcgen::KeyPair::generate().unwrap();
    let done = stage.client.finalize(&order, &csr(&key, &["x.test"])).await;
    let mut stranger = stage.client.sibling();
    stranger.register().await;
    for url in [
        done.header("location").unwrap(),
        order["authorizations"][0].as_str().unwrap(),
        done.json()["certificate"].as_str().unwrap(),
        &stage.client.kid,
    ] {
        is(&stranger.get(url).await, 403, "unauthorized");
    }
}

#[tokio::test]
async fn what_does_not_exist() {
    let stage = Stage::new().await;
    let base = stage.authority.directory_url().replace("/directory", "");
    for path in [
        "/order/77",
        "/authorization/1/0",
        "/certificate/00",
        "/nothing",
        "/order/x",
    ] {
        is(
            &stage.client.get(&format!("{base}{path}")).await,
            404,
            "malformed",
        );
    }
}
