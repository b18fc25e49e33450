//! Nonces: used again, refused, missing, many at once.

use super::*;

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
