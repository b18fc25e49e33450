//! The client against a server that says anything, and against the test authority.

mod fake;
mod flow;
mod nonces;
mod objects;
mod replies;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chain::tests::issue;
use super::key::tests::example_key;
use super::{AccountKey, AccountStatus, Client, ExternalAccount, RequestKind, Settings, Signer};
use crate::clock::Clock;
use crate::engine::names::Identifier;
use crate::engine::order::{
    AuthorizationSeen, AuthorizationStatus, CaFault, ChallengeStatus, OrderSeen, OrderStatus,
    Problem,
};
use fake::{Asked, Fake, Says, directory};

const ACCOUNT: &str = "http://127.0.0.1/account/1";

fn signer(key: &AccountKey) -> Signer<'_> {
    Signer { key, kid: ACCOUNT }
}

fn names() -> Vec<Identifier> {
    vec![Identifier::parse("*.example.com").unwrap()]
}

fn order_body(host: &str, status: &str) -> Value {
    json!({
        "status": status,
        "expires": "2030-01-01T00:00:00Z",
        "authorizations": [format!("http://{host}/authz/1")],
        "finalize": format!("http://{host}/finalize/1"),
    })
}

fn authorization_body(host: &str, token: &str) -> Value {
    json!({
        "status": "pending",
        "identifier": {"type": "dns", "value": "example.com"},
        "wildcard": true,
        "challenges": [
            {"type": "dns-persist-01", "url": "no token at all", "issuer-domain-names": ["ca.example"]},
            {"type": "dns-01", "url": format!("http://{host}/chall/1"), "status": "pending", "token": token},
        ],
    })
}

/// Asks for the order at `/order/1`, which `says` answers.
async fn order_said(
    says: impl Fn(&Asked) -> Says + Send + Sync + 'static,
) -> Result<OrderSeen, CaFault> {
    let fake = Fake::start(move |asked, _| (asked.path == "/order/1").then(|| says(asked))).await;
    let key = example_key();
    let url = format!("{}/order/1", fake.base);
    fake.client().order(&signer(&key), &url).await
}

async fn authorization_said(
    says: impl Fn(&Asked) -> Says + Send + Sync + 'static,
) -> Result<AuthorizationSeen, CaFault> {
    let fake = Fake::start(move |asked, _| (asked.path == "/authz/1").then(|| says(asked))).await;
    let key = example_key();
    let url = format!("{}/authz/1", fake.base);
    fake.client().authorization(&signer(&key), &url).await
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, CaFault>) -> (Problem, Option<Duration>) {
    match outcome {
        Err(CaFault::Refused {
            problem,
            retry_after,
        }) => (problem, retry_after),
        other => panic!("not refused: {other:?}"),
    }
}

fn malformed<T: std::fmt::Debug>(outcome: Result<T, CaFault>) -> String {
    match outcome {
        Err(CaFault::Malformed(text)) => text,
        other => panic!("not malformed: {other:?}"),
    }
}

fn unreachable<T: std::fmt::Debug>(outcome: Result<T, CaFault>) -> String {
    match outcome {
        Err(CaFault::Unreachable(text) | CaFault::Unresolved(text)) => text,
        other => panic!("not unreachable: {other:?}"),
    }
}
