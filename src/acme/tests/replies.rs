//! Replies that are wrong, large, slow or cut off, and none at all.

use super::*;

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
        format!(
            "{free} refused the connection: nothing listens there, or a firewall says no; if it goes on, check host and port in the `directory` URL"
        )
    );
    // A label too long for DNS: the resolver refuses it without asking anyone.
    let label = "a".repeat(64);
    let directory = format!("http://{label}.invalid/dir");
    let text = unreachable(client(directory).directory().await);
    let expected =
        format!("the name of {label}.invalid:80 was not found by this machine's resolver (");
    assert!(text.starts_with(&expected), "{text}");
}

#[tokio::test]
async fn what_it_said_of_the_time_outlives_replies_that_say_nothing_of_it() {
    let (clock, _hands) = Clock::virtual_at("1994-11-06T08:00:00Z".parse().unwrap());
    let fake = Fake::start(|asked, count| {
        let says = Says::json(200, &order_body(&asked.host, "ready"));
        (asked.path == "/order/1").then(|| match count {
            0 => says.header("date", "Sun, 06 Nov 1994 09:00:00 GMT"),
            // A cache held it: the time is not of now.
            1 => (says.header("date", "Sun, 06 Nov 1994 03:00:00 GMT")).header("age", "7"),
            _ => says,
        })
    })
    .await;
    let (client, key) = (fake.client_at(clock.clone()), example_key());
    let url = format!("{}/order/1", fake.base);
    for _ in 0..3 {
        client.order(&signer(&key), &url).await.unwrap();
        let ahead = client.word().unwrap().ahead(clock.now(), clock.elapsed());
        assert_eq!(ahead, Some(jiff::SignedDuration::from_hours(1)));
    }
}
