//! The switchboard of faults: each happens as often as asked, and then no more.

use std::time::Duration;

use countersign_testca::{Endpoint, Kind, Problem, Status};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::support::Stage;
use crate::support::client::order_payload;

#[tokio::test]
async fn orders_are_refused_as_told() {
    let stage = Stage::new().await;
    let problem = Problem::new(Kind::RateLimited, "too many").retry_after(Duration::from_secs(77));
    stage.authority.faults().reject_next_orders(&problem, 2);
    for _ in 0..2 {
        let answer = stage.client.new_order(&["x.test"]).await;
        assert_eq!(answer.problem(), (429, "rateLimited".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("77"));
    }
    assert_eq!(stage.client.new_order(&["x.test"]).await.status, 201);
}

#[tokio::test]
async fn http_fails_without_processing() {
    let stage = Stage::new().await;
    let faults = stage.authority.faults();
    faults.fail_http(Endpoint::NewOrder, 503, Some(Duration::from_secs(9)), 1);
    let answer = stage.client.new_order(&["x.test"]).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("9"))
    );
    assert_eq!(answer.header("content-type"), Some("text/html"));
    assert!(stage.authority.orders().is_empty());
    assert_eq!(stage.client.new_order(&["x.test"]).await.status, 201);
    assert_eq!(stage.authority.requests()[&Endpoint::NewOrder], 2);
}

#[tokio::test]
async fn a_lost_reply_was_processed_and_a_dropped_request_was_not() {
    let stage = Stage::new().await;
    let url = stage.client.url("newOrder");
    let payload = order_payload(&["x.test"]).to_string();
    stage
        .authority
        .faults()
        .drop_requests(Endpoint::NewOrder, 1);
    let draft = stage.client.draft(&url, &payload).await;
    assert!(stage.client.try_send(draft).await.is_err());
    assert!(stage.authority.orders().is_empty());

    stage.authority.faults().lose_replies(Endpoint::NewOrder, 1);
    let draft = stage.client.draft(&url, &payload).await;
    assert!(stage.client.try_send(draft).await.is_err());
    assert_eq!(stage.authority.orders().len(), 1);
    assert_eq!(stage.client.new_order(&["x.test"]).await.status, 201);
}

#[tokio::test]
async fn an_unknown_status_is_shown_and_passes() {
    let stage = Stage::new().await;
    stage.authority.faults().unknown_status(1);
    let order = stage.client.new_order(&["x.test"]).await;
    assert_eq!(order.status_text(), "pondering");
    let order = stage.client.get(order.header("location").unwrap()).await;
    assert_eq!(order.status_text(), "pending");
    assert_eq!(stage.authority.orders()[0].status, Status::Pending);
}

#[tokio::test]
async fn a_certificate_can_have_the_wrong_key_or_names() {
    let stage = Stage::new().await;
    stage.authority.faults().wrong_keys(1);
    let (pem, key) = stage.client.obtain(&stage.nameserver, &["x.test"]).await;
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_ne!(
        leaf.public_key().subject_public_key.data,
        key.public_key_raw()
    );

    stage.authority.faults().wrong_names(1);
    let (pem, key) = stage.client.obtain(&stage.nameserver, &["x.test"]).await;
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(
        leaf.public_key().subject_public_key.data,
        key.public_key_raw()
    );
    let sans = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(
        sans.value.general_names[0].to_string(),
        "DNSName(wrong.invalid)"
    );
}

#[tokio::test]
async fn cleared_faults_do_not_happen() {
    let stage = Stage::new().await;
    let faults = stage.authority.faults();
    faults.fail_http(Endpoint::NewOrder, 500, None, 5);
    faults.forbid_name("x.test");
    faults.clear();
    assert_eq!(stage.client.new_order(&["x.test"]).await.status, 201);
}

#[tokio::test]
async fn a_share_of_good_nonces_is_rejected() {
    let stage = Stage::with(|settings| {
        settings.nonce_reject_percent = 50;
        // With this seed the first nonce passes, so that the account comes to be.
        settings.nonce_reject_seed = 1;
    })
    .await;
    let mut rejected = 0;
    for _ in 0..100 {
        let answer = stage.client.new_order(&["x.test"]).await;
        rejected += usize::from(answer.problem() == (400, "badNonce".to_owned()));
    }
    assert!((25..75).contains(&rejected), "{rejected}");
}
