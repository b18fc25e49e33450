//! The client against replies that are wrong, large, slow, cut off or meant to mislead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::fake::{Asked, Fake, Says, directory};
use super::key::tests::example_key;
use super::{AccountKey, Client, RequestKind, Settings, Signer};
use crate::clock::Clock;
use crate::engine::names::Identifier;
use crate::engine::order::{
    AuthorizationSeen, AuthorizationStatus, CaFault, ChallengeStatus, OrderSeen, OrderStatus,
    Problem,
};

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
        Err(CaFault::Unreachable(text)) => text,
        other => panic!("not unreachable: {other:?}"),
    }
}

#[tokio::test]
async fn a_good_order_is_read_and_signed_for_byte_by_byte() {
    let fake = Fake::start(|asked, _| {
        if asked.path != "/order" {
            return None;
        }
        assert_eq!(asked.payload(), json!({"identifiers": [{"type": "dns", "value": "*.example.com"}], "profile": "classic"}));
        assert_eq!(asked.protected()["kid"], ACCOUNT);
        assert_eq!(asked.protected()["url"], format!("http://{}/order", asked.host));
        let url = format!("http://{}/order/1?%41=a//b", asked.host);
        Some(Says::json(201, &order_body(&asked.host, "pending")).header("location", &url).header("retry-after", "3"))
    })
    .await;
    let (client, key) = (fake.client(), example_key());
    let order = client
        .new_order(&signer(&key), &names(), Some("classic"))
        .await
        .unwrap();
    assert_eq!(order.url, format!("{}/order/1?%41=a//b", fake.base));
    assert_eq!(order.status, OrderStatus::Pending);
    assert_eq!(order.retry_after, Some(Duration::from_secs(3)));
    assert_eq!(
        order.expires,
        Some("2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap())
    );
    let counts = client.counts();
    assert_eq!(
        (
            counts[&RequestKind::Directory],
            counts[&RequestKind::NewNonce],
            counts[&RequestKind::NewOrder]
        ),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_nonce_that_comes_back_is_used_again() {
    let fake = Fake::start(|asked, _| {
        (asked.path == "/order/1").then(|| Says::json(200, &order_body(&asked.host, "ready")))
    })
    .await;
    let (client, key) = (fake.client(), example_key());
    let url = format!("{}/order/1", fake.base);
    for _ in 0..5 {
        client.order(&signer(&key), &url).await.unwrap();
    }
    assert_eq!(fake.times("HEAD /nonce"), 1);
    assert_eq!(fake.times("GET /dir"), 1);
}

#[tokio::test]
async fn many_requests_at_once_need_few_new_nonces() {
    let fake = Fake::start(|asked, _| {
        (asked.path == "/order/1").then(|| Says::json(200, &order_body(&asked.host, "ready")))
    })
    .await;
    let (client, key) = (Arc::new(fake.client()), Arc::new(example_key()));
    let url = format!("{}/order/1", fake.base);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (client, key, url) = (Arc::clone(&client), Arc::clone(&key), url.clone());
            tokio::spawn(async move { client.order(&signer(&key), &url).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(
        fake.times("HEAD /nonce") <= 16,
        "{}",
        fake.times("HEAD /nonce")
    );
}

#[tokio::test]
async fn a_refused_nonce_is_answered_with_the_errors_own() {
    let fake = Fake::start(|asked, before| {
        if asked.path != "/order/1" {
            return None;
        }
        if before < 3 {
            return Some(
                Says::problem(400, "badNonce").header("replay-nonce", &format!("own-{before}")),
            );
        }
        assert_eq!(asked.protected()["nonce"], "own-2");
        Some(Says::json(200, &order_body(&asked.host, "ready")))
    })
    .await;
    let key = example_key();
    let url = format!("{}/order/1", fake.base);
    fake.client().order(&signer(&key), &url).await.unwrap();
    assert_eq!(fake.times("POST /order/1"), 4);
    assert_eq!(fake.times("HEAD /nonce"), 1);
}

/// Nine of ten are refused, in an order that does not repeat; twenty requests at once all come through.
#[tokio::test]
async fn a_storm_of_refused_nonces_is_weathered() {
    let draws = AtomicUsize::new(0);
    let fake = Fake::start(move |asked, _| {
        if asked.path != "/order/1" {
            return None;
        }
        let draw = draws
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(2_654_435_761)
            >> 7;
        Some(if draw % 10 < 9 {
            Says::problem(400, "badNonce")
        } else {
            Says::json(200, &order_body(&asked.host, "ready"))
        })
    })
    .await;
    let (client, key) = (Arc::new(fake.client()), Arc::new(example_key()));
    let url = format!("{}/order/1", fake.base);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (client, key, url) = (Arc::clone(&client), Arc::clone(&key), url.clone());
            tokio::spawn(async move { client.order(&signer(&key), &url).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(
        fake.times("HEAD /nonce") <= 16,
        "{}",
        fake.times("HEAD /nonce")
    );
}

/// Under a virtual clock that the server turns by a second a refusal.
#[tokio::test]
async fn refused_nonces_are_answered_for_thirty_seconds_and_no_longer() {
    let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
    let fake = Fake::start({
        let hands = Arc::clone(&hands);
        move |asked, _| {
            (asked.path == "/order/1").then(|| {
                hands.advance(Duration::from_secs(4));
                Says::problem(400, "badNonce")
            })
        }
    })
    .await;
    let key = example_key();
    let url = format!("{}/order/1", fake.base);
    let outcome = fake.client_at(clock).order(&signer(&key), &url).await;
    assert_eq!(refused(outcome).0.kind, "badNonce");
    assert_eq!(fake.times("POST /order/1"), 8);
}

#[tokio::test]
async fn a_new_nonce_reply_without_a_nonce_is_malformed() {
    for nonce in ["", "not base64url!"] {
        let fake = Fake::start(move |asked, _| {
            (asked.path == "/nonce").then(|| Says::new(200, "", "").header("replay-nonce", nonce))
        })
        .await;
        let key = example_key();
        let url = format!("{}/order/1", fake.base);
        let text = malformed(fake.client().order(&signer(&key), &url).await);
        assert_eq!(
            text,
            "the authority's reply to new-nonce has no usable `Replay-Nonce`"
        );
    }
}

#[tokio::test]
async fn a_reply_without_a_nonce_costs_a_new_one() {
    let fake = Fake::start(|asked, _| {
        (asked.path == "/order/1")
            .then(|| Says::json(200, &order_body(&asked.host, "ready")).header("replay-nonce", ""))
    })
    .await;
    let (client, key) = (fake.client(), example_key());
    let url = format!("{}/order/1", fake.base);
    client.order(&signer(&key), &url).await.unwrap();
    client.order(&signer(&key), &url).await.unwrap();
    assert_eq!(fake.times("HEAD /nonce"), 2);
}

#[tokio::test]
async fn a_huge_body_is_not_read_to_its_end() {
    let huge = || vec![b' '; 3 * 1024 * 1024];
    let text = malformed(order_said(move |_| Says::new(200, "application/json", huge())).await);
    assert_eq!(text, "the authority's reply to order is larger than 1 MiB");
    let (problem, _) = refused(order_said(move |_| Says::new(500, "text/html", huge())).await);
    assert!(problem.detail.contains("too large"), "{}", problem.detail);
}

#[tokio::test]
async fn a_body_that_drips_meets_the_deadline() {
    let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
    let fake = Fake::start(|asked, _| {
        (asked.path == "/order/1")
            .then(|| Says::json(200, &order_body(&asked.host, "ready")).hanging())
    })
    .await;
    let (client, key) = (fake.client_at(clock), example_key());
    let url = format!("{}/order/1", fake.base);
    let turn = async {
        fake.hung.notified().await;
        hands.advance(Duration::from_secs(30));
    };
    let signer = signer(&key);
    let (outcome, ()) = tokio::join!(client.order(&signer, &url), turn);
    let text = unreachable(outcome);
    assert!(
        text.ends_with("gave no complete answer to order within 30 s"),
        "{text}"
    );
}

#[tokio::test]
async fn a_body_that_is_cut_off_may_have_been_acted_on() {
    let text = unreachable(
        order_said(|asked| Says::json(200, &order_body(&asked.host, "ready")).promising(10_000))
            .await,
    );
    assert!(
        text.contains("broke off before the whole reply had come"),
        "{text}"
    );
}

#[tokio::test]
async fn a_page_instead_of_an_object_is_malformed() {
    let text = malformed(order_said(|_| Says::new(200, "text/html", "<html>hello</html>")).await);
    assert_eq!(
        text,
        "the authority's reply to order is text/html instead of application/json"
    );
    let text = malformed(order_said(|_| Says::new(200, "application/json", "<html>")).await);
    assert!(
        text.starts_with("the authority's order cannot be used"),
        "{text}"
    );
}

#[tokio::test]
async fn a_bad_gateway_says_what_it_said() {
    let (problem, retry_after) = refused(
        order_said(|_| {
            Says::new(502, "text/html", "<html><h1>502 Bad Gateway</h1></html>")
                .header("retry-after", "60")
        })
        .await,
    );
    assert_eq!((problem.kind.as_str(), problem.status), ("", Some(502)));
    assert_eq!(
        problem.detail,
        "text/html instead of a problem document: <html><h1>502 Bad Gateway</h1></html>"
    );
    assert_eq!(retry_after, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let fake = Fake::start(|asked, _| {
        (asked.path == "/order/1").then(|| Says::new(307, "", "").header("location", "/elsewhere"))
    })
    .await;
    let key = example_key();
    let url = format!("{}/order/1", fake.base);
    let (problem, _) = refused(fake.client().order(&signer(&key), &url).await);
    assert_eq!(
        problem.detail,
        "a redirect to `/elsewhere`, which ACME does not follow; check the `directory` URL"
    );
    assert_eq!(fake.times("POST /elsewhere"), 0);
}

#[tokio::test]
async fn a_rate_limit_with_a_date_is_a_time_to_wait() {
    let (clock, _hands) = Clock::virtual_at("1994-11-06T08:49:00Z".parse().unwrap());
    let fake = Fake::start(|asked, _| {
        (asked.path == "/order").then(|| {
            Says::problem(429, "rateLimited").header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")
        })
    })
    .await;
    let (client, key) = (fake.client_at(clock), example_key());
    let (problem, retry_after) = refused(client.new_order(&signer(&key), &names(), None).await);
    assert_eq!(
        (problem.kind.as_str(), problem.status),
        ("rateLimited", Some(429))
    );
    assert_eq!(retry_after, Some(Duration::from_secs(37)));
}

#[tokio::test]
async fn an_unknown_status_is_unknown() {
    let order = order_said(|asked| Says::json(200, &order_body(&asked.host, "Valid!")))
        .await
        .unwrap();
    assert_eq!(order.status, OrderStatus::Unknown);
    let authorization = authorization_said(|asked| {
        let mut body = authorization_body(&asked.host, "abc");
        body["status"] = "paused".into();
        body["challenges"][1]["status"] = "odd".into();
        Says::json(200, &body)
    })
    .await
    .unwrap();
    assert_eq!(authorization.status, AuthorizationStatus::Unknown);
    assert_eq!(
        authorization.challenge.unwrap().status,
        ChallengeStatus::Unknown
    );
}

#[tokio::test]
async fn an_authorization_is_read_beside_unknown_challenges() {
    let seen =
        authorization_said(|asked| Says::json(200, &authorization_body(&asked.host, "-_aZ09")))
            .await
            .unwrap();
    assert_eq!(
        (seen.identifier.as_str(), seen.wildcard),
        ("example.com", true)
    );
    assert_eq!(seen.challenge.unwrap().token, "-_aZ09");
}

#[tokio::test]
async fn a_valid_authorization_may_have_no_challenges() {
    let seen = authorization_said(|_| {
        Says::json(200, &json!({"status": "valid", "identifier": {"type": "dns", "value": "example.com"}, "challenges": []}))
    })
    .await
    .unwrap();
    assert_eq!(
        (seen.status, seen.challenge),
        (AuthorizationStatus::Valid, None)
    );
}

#[tokio::test]
async fn a_bad_token_is_malformed_and_not_repeated() {
    for token in ["", "a.b", "a b", "a=", "ä", "../../x", &"a".repeat(600)] {
        let token = token.to_owned();
        let shown = token.clone();
        let outcome = authorization_said(move |asked| {
            Says::json(200, &authorization_body(&asked.host, &token))
        })
        .await;
        let text = malformed(outcome);
        assert_eq!(
            text, "the authority's challenge cannot be used: has a token that is not base64url",
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_name_that_is_no_host_name_is_malformed() {
    for (kind, name) in [
        ("dns", "a..b"),
        ("dns", "a b"),
        ("ip", "192.0.2.1"),
        ("dns", "*.*.example.com"),
    ] {
        let outcome = authorization_said(move |asked| {
            let mut body = authorization_body(&asked.host, "abc");
            body["identifier"] = json!({"type": kind, "value": name});
            Says::json(200, &body)
        })
        .await;
        malformed(outcome);
    }
}

#[tokio::test]
async fn a_url_on_another_host_is_malformed() {
    for field in ["finalize", "certificate"] {
        let outcome = order_said(move |asked| {
            let mut body = order_body(&asked.host, "ready");
            body[field] = "http://169.254.169.254/latest".into();
            Says::json(200, &body)
        })
        .await;
        let text = malformed(outcome);
        assert!(
            text.contains("is not on the directory's own host"),
            "{text}"
        );
    }
    let outcome = order_said(|asked| {
        let mut body = order_body(&asked.host, "ready");
        body["authorizations"] = json!(["http://evil.example/authz"]);
        Says::json(200, &body)
    })
    .await;
    malformed(outcome);
}

#[tokio::test]
async fn a_directory_on_another_host_is_malformed() {
    let fake = Fake::start(|asked, _| {
        (asked.path == "/dir").then(|| {
            let mut body = directory(&asked.host);
            body["newOrder"] = "https://evil.example/order".into();
            Says::json(200, &body)
        })
    })
    .await;
    malformed(fake.client().directory().await);
}

#[tokio::test]
async fn an_order_or_account_without_its_location_is_malformed() {
    let fake = Fake::start(|asked, _| match asked.path.as_str() {
        "/order" => Some(Says::json(201, &order_body(&asked.host, "pending"))),
        "/account" => Some(Says::json(201, &json!({"status": "valid"}))),
        _ => None,
    })
    .await;
    let (client, key) = (fake.client(), example_key());
    let text = malformed(client.new_order(&signer(&key), &names(), None).await);
    assert_eq!(
        text,
        "the authority made the order but gave no `Location` of it"
    );
    malformed(client.new_account(&key, &[], true, None).await);
}

#[tokio::test]
async fn an_account_is_made_found_or_absent() {
    let fake = Fake::start(|asked, before| {
        if asked.path != "/account" {
            return None;
        }
        let url = format!("http://{}/account/1", asked.host);
        assert!(asked.protected()["jwk"]["x"].is_string());
        Some(match before {
            0 => {
                assert_eq!(
                    asked.payload(),
                    json!({"termsOfServiceAgreed": true, "contact": ["mailto:ops@example.com"]})
                );
                Says::new(201, "", "").header("location", &url)
            }
            1 => {
                assert_eq!(asked.payload(), json!({"onlyReturnExisting": true}));
                Says::json(200, &json!({"status": "deactivated"})).header("location", &url)
            }
            _ => Says::problem(400, "accountDoesNotExist"),
        })
    })
    .await;
    let (client, key) = (fake.client(), example_key());
    let made = client
        .new_account(&key, &["ops@example.com".into()], true, None)
        .await
        .unwrap();
    assert_eq!(
        (made.url, made.status),
        (
            format!("{}/account/1", fake.base),
            super::AccountStatus::Valid
        )
    );
    let found = client.find_account(&key).await.unwrap().unwrap();
    assert_eq!(found.status, super::AccountStatus::Deactivated);
    assert_eq!(client.find_account(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_directory_whose_urls_are_gone_is_read_again() {
    let fake = Fake::start(|_, _| None).await;
    let (client, key) = (fake.client(), example_key());
    refused(client.new_order(&signer(&key), &names(), None).await);
    refused(client.new_order(&signer(&key), &names(), None).await);
    assert_eq!(fake.times("GET /dir"), 2);
}

#[tokio::test]
async fn a_directory_is_read_again_after_a_day() {
    let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
    let fake = Fake::start(|_, _| None).await;
    let client = fake.client_at(clock);
    assert_eq!(
        client.directory().await.unwrap().caa_identities,
        ["ca.example"]
    );
    client.directory().await.unwrap();
    assert_eq!(fake.times("GET /dir"), 1);
    hands.advance(Duration::from_secs(24 * 60 * 60));
    client.directory().await.unwrap();
    assert_eq!(fake.times("GET /dir"), 2);
}

#[tokio::test]
async fn a_profile_that_is_not_offered_is_not_asked_for() {
    let fake = Fake::start(|_, _| None).await;
    let key = example_key();
    let (problem, _) = refused(
        fake.client()
            .new_order(&signer(&key), &names(), Some("short"))
            .await,
    );
    assert_eq!(problem.kind, "invalidProfile");
    assert_eq!(
        problem.detail,
        "the profile `short` is not offered; the authority offers classic"
    );
    assert_eq!(fake.times("POST /order"), 0);
}

#[tokio::test]
async fn a_certificate_must_come_as_a_chain() {
    let fake = Fake::start(|asked, _| {
        (asked.path == "/cert/1").then(|| Says::new(200, "application/pkix-cert", "x"))
    })
    .await;
    let key = example_key();
    let url = format!("{}/cert/1", fake.base);
    let text = malformed(fake.client().download(&signer(&key), &url, None).await);
    assert!(
        text.ends_with("is application/pkix-cert instead of application/pem-certificate-chain"),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_listening_and_no_such_name_are_told_apart() {
    let client = |directory: String| {
        let settings = Settings {
            directory,
            trust: None,
            insecure: true,
            hosts: Vec::new(),
            user_agent: "countersign-test".into(),
        };
        Client::new(settings, Clock::system()).ok().unwrap()
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = unreachable(client(format!("http://{free}/dir")).directory().await);
    assert_eq!(
        text,
        format!("{free} refused the connection: nothing listens there, or a firewall says no")
    );
    // A label too long for DNS: the resolver refuses it without asking anyone.
    let label = "a".repeat(64);
    let directory = format!("http://{label}.invalid/dir");
    let text = unreachable(client(directory).directory().await);
    let expected =
        format!("the name of {label}.invalid:80 was not found by this machine's resolver (");
    assert!(text.starts_with(&expected), "{text}");
}
