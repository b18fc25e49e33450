//! Directories, accounts, orders, authorizations and chains, good ones and ones meant to mislead.

use super::*;

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
async fn a_url_on_another_host_is_not_trusted() {
    for field in ["finalize", "certificate"] {
        let outcome = order_said(move |asked| {
            let mut body = order_body(&asked.host, "ready");
            body[field] = "http://169.254.169.254/latest".into();
            Says::json(200, &body)
        })
        .await;
        let text = untrusted(outcome);
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
    untrusted(outcome);
}

fn untrusted<T: std::fmt::Debug>(outcome: Result<T, CaFault>) -> String {
    match outcome {
        Err(CaFault::Untrusted(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// It was made: ordering again would make another one.
#[tokio::test]
async fn an_order_that_cannot_be_read_is_known_by_its_location() {
    let fake = Fake::start(|asked, _| {
        (asked.path == "/order").then(|| {
            let mut body = order_body(&asked.host, "pending");
            body["finalize"] = "https://evil.example/finalize".into();
            Says::json(201, &body).header("location", &format!("http://{}/order/1", asked.host))
        })
    })
    .await;
    let (client, key) = (fake.client(), example_key());
    let order = client
        .new_order(&signer(&key), &names(), None)
        .await
        .unwrap();
    assert_eq!(order.status, OrderStatus::Unknown);
    assert!(order.url.ends_with("/order/1"), "{}", order.url);
}

#[tokio::test]
async fn a_directory_on_another_host_is_not_trusted() {
    let fake = Fake::start(|asked, _| {
        (asked.path == "/dir").then(|| {
            let mut body = directory(&asked.host);
            body["newOrder"] = "https://evil.example/order".into();
            Says::json(200, &body)
        })
    })
    .await;
    untrusted(fake.client().directory().await);
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
        (format!("{}/account/1", fake.base), AccountStatus::Valid)
    );
    let found = client.find_account(&key).await.unwrap().unwrap();
    assert_eq!(found.status, AccountStatus::Deactivated);
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
async fn a_profile_that_is_new_is_seen() {
    let fake = Fake::start(|asked, before| match asked.path.as_str() {
        "/dir" if before > 0 => {
            let mut body = directory(&asked.host);
            body["meta"]["profiles"]["short"] = "new".into();
            Some(Says::json(200, &body))
        }
        "/order" => {
            let url = format!("http://{}/order/1", asked.host);
            let order = order_body(&asked.host, "pending");
            Some(Says::json(201, &order).header("location", &url))
        }
        _ => None,
    })
    .await;
    let (client, key) = (fake.client(), example_key());
    client.directory().await.unwrap();
    let order = client
        .new_order(&signer(&key), &names(), Some("short"))
        .await;
    assert_eq!(order.unwrap().status, OrderStatus::Pending);
}

/// `/cert/0` is a leaf alone; its alternates are nonsense, a 404, and `/cert/3` with the issuer of the issuer.
async fn with_alternates() -> (Fake, String, String) {
    let issued = issue(&[]);
    let (short, long) = (issued.leaf.clone(), issued.leaf + &issued.intermediate);
    let (default, wanted) = (short.clone(), long.clone());
    let fake = Fake::start(move |asked, _| {
        let chain = |pem: &str| Says::new(200, "application/pem-certificate-chain", pem);
        let link = |number| format!("<http://{}/cert/{number}>;rel=\"alternate\"", asked.host);
        match asked.path.as_str() {
            "/cert/0" => Some((1..30).fold(chain(&short), |says, number| {
                says.header("link", &link(number))
            })),
            "/cert/1" => Some(chain("nonsense")),
            "/cert/3" => Some(chain(&long)),
            _ => None,
        }
    })
    .await;
    (fake, default, wanted)
}

#[tokio::test]
async fn alternates_are_fetched_until_one_has_the_preferred_issuer() {
    let (fake, default, wanted) = with_alternates().await;
    let (client, key) = (fake.client(), example_key());
    let url = format!("{}/cert/0", fake.base);
    let (signer, asked) = (signer(&key), || client.counts()[&RequestKind::Certificate]);
    let pem = |preferred| {
        let (client, signer, url) = (&client, &signer, &url);
        async move { client.download(signer, url, preferred).await.unwrap().pem }
    };
    assert_eq!(pem(None).await, default);
    assert_eq!(pem(Some("Test Intermediate")).await, default);
    assert_eq!(asked(), 2, "no alternate was needed");
    assert_eq!(pem(Some("Test Root")).await, wanted);
    assert_eq!(asked(), 6, "nonsense and a 404 are passed over");
    assert_eq!(pem(Some("Nobody")).await, default);
    assert_eq!(asked(), 17, "no more than ten alternates are tried");
}

/// What the log says at trace level names requests and outcomes, and holds no token, key or nonce.
#[test]
fn the_log_holds_no_secrets() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // With a single dispatcher alive, other tests' threads would settle what is logged for all.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let key = example_key();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let fake = Fake::start(|asked, _| match asked.path.as_str() {
                "/account" => {
                    let url = format!("http://{}/account/1", asked.host);
                    Some(Says::new(201, "", "").header("location", &url))
                }
                "/authz/1" => Some(Says::json(
                    200,
                    &authorization_body(&asked.host, "the-token-canary"),
                )),
                _ => None,
            })
            .await;
            let mac = crate::secret::Secret::new(b"bWFjLWNhbmFyeQ".to_vec());
            let external = ExternalAccount::new("kid", &mac).ok().unwrap();
            let client = fake.client();
            client
                .new_account(&key, &[], true, Some(&external))
                .await
                .unwrap();
            let url = format!("{}/authz/1", fake.base);
            client.authorization(&signer(&key), &url).await.unwrap();
        });
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("ca request") && text.contains("/authz/1") && text.contains("ca reply"));
    for secret in [
        "the-token-canary",
        &key.thumbprint(),
        "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
        "bWFjLWNhbmFyeQ",
        "mac-canary",
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
