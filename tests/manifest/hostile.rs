//! The engine against hosts that mean harm: too much, too deep, wrong types, pages without end, and ways elsewhere.

use std::sync::{Arc, Mutex};

use countersign_providers::contract::{absent, ensure};
use countersign_providers::manifest::Manifest;
use countersign_providers::record::Zone;
use countersign_providers::{ErrorKind, Provider, ProviderError};
use serde_json::{Value, json};

use super::{Plugin, context, name, plugin};
use crate::support::rest::{Answer, Ask, Raw, answer};

/// Every way to page, in a host of one's own.
const OWN: &str = "
name: Own
documentation: none
endpoint: https://dns.example.net/api
secrets: {token: a token}
auth: {header: {X-Token: \"{token}\"}}
model: value
apex: \"@\"
batch: 10
propagation: 1
errors: {code: [/code], message: [/message], map: [{code: duplicate, kind: done}]}
zones:
  ask: {get: /zones}
  paging: PAGING
  items: /zones/*
  name: /name
  id: /id
records:
  ask: {get: \"/zones/{zone-id}/records\"}
  items: /records/*
  label: /name
  id: /id
  ttl: /ttl
  value: /value
create: {post: \"/zones/{zone-id}/records\", body: {name: \"{label}\", value: \"{value}\", ttl: \"{ttl}\"}}
remove: {delete: \"/zones/{zone-id}/records/{id}\"}
";

/// A host that answers as a test says, and its plug-in.
struct Host {
    raw: Raw,
    plugin: Plugin,
}

impl Host {
    async fn start(paging: &str, answers: impl Fn(&Ask) -> Answer + Send + Sync + 'static) -> Self {
        let raw = Raw::start("/api", answers).await;
        let manifest = Manifest::read(&OWN.replace("PAGING", paging)).unwrap();
        let plugin = plugin(manifest, raw.endpoint(), "top-secret", &[]);
        Self { raw, plugin }
    }

    async fn zones(&self) -> Result<usize, ProviderError> {
        let found = self
            .plugin
            .rest
            .zones(&name("a.example.test"), &context())
            .await;
        found.map(|it| it.len())
    }

    async fn fails(&self) -> String {
        let error = self.zones().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fatal, "{error:?}");
        error.message.replace(&self.raw.host(), "HOST")
    }
}

const SHORT: &str = "{query: page, size: 1}";

fn one_zone() -> Value {
    json!({"zones": [{"name": "example.test", "id": 1}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_or_too_deep_or_too_large_is_refused() {
    let host = Host::start(SHORT, |_| Answer {
        status: 200,
        body: Value::Null,
        headers: vec![],
    })
    .await;
    assert_eq!(
        host.fails().await,
        "HOST answered with something other than its manifest says: no list at `/zones`"
    );
    host.raw.say(200, "<html>maintenance</html>");
    assert!(
        host.fails()
            .await
            .starts_with("HOST answered 200 with something other than it documents")
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    host.raw.say(200, &deep);
    assert!(host.fails().await.contains("recursion limit"));
    host.raw.say(200, &format!("\"{}\"", "x".repeat(9 << 20)));
    assert_eq!(host.fails().await, "HOST answered with more than 8 MiB");
    host.raw.say(502, "<html>bad gateway</html>");
    let error = host.zones().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_types_are_refused_or_skipped_and_never_guessed() {
    let zones = [
        (json!({"zones": {}}), None),
        (json!({"zones": "example.test"}), None),
        (json!({"zones": [{"name": "example.test"}]}), None),
        (
            json!({"zones": [{"name": "example.test", "id": {"a": 1}}]}),
            None,
        ),
        (
            json!({"zones": [17, "x", null, {"name": 5, "id": 1}, {"name": "a b", "id": 1}, {"name": "", "id": 1}]}),
            Some(0),
        ),
        (
            json!({"zones": [{"name": "EXAMPLE.test.", "id": "x", "new": []}]}),
            Some(1),
        ),
    ];
    for (body, wanted) in zones {
        let reply = body.clone();
        let host = Host::start("{query: page, size: 100}", move |_| {
            answer(200, reply.clone())
        })
        .await;
        match wanted {
            Some(count) => assert_eq!(host.zones().await, Ok(count), "{body}"),
            None => drop(host.fails().await),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_never_ends_is_given_up() {
    for paging in [
        SHORT,
        "{query: page, more: /more}",
        "{query: page, pages: /pages}",
        "{query: c, cursor: /more}",
        "{link: /next}",
        "{link-header: next}",
    ] {
        let host = Host::start(paging, |_| {
            let body = json!({"zones": [{"name": "other.test", "id": 1}], "more": "again", "pages": "999999999", "next": "?again=1"});
            answer(200, body).header("link", "<?again=1>; rel=\"next\"")
        }).await;
        assert_eq!(
            host.fails().await,
            "HOST answered with something other than its manifest says: more than 500 pages when asked for its zones",
            "{paging}"
        );
        assert_eq!(host.raw.calls().len(), 500, "{paging}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_page_elsewhere_is_not_asked_for() {
    let elsewhere = Raw::start("/api", |_| answer(200, one_zone())).await;
    let links = [
        format!("{}/zones?page=2", elsewhere.endpoint()),
        "//elsewhere.example/api/zones?page=2".to_owned(),
        "/api/tokens?page=2".to_owned(),
        "../zones/1?page=2".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://[".to_owned(),
    ];
    for link in links {
        let next = link.clone();
        let host = Host::start("{link: /next}", move |_| {
            let mut body = one_zone();
            body["next"] = json!(next);
            answer(200, body)
        })
        .await;
        let seen = host.fails().await;
        assert!(
            seen.contains("a next page that is elsewhere"),
            "{link}: {seen}"
        );
        assert_eq!(host.raw.calls().len(), 1, "{link}");
    }
    assert_eq!(elsewhere.calls(), [""; 0]);
    let host = Host::start("{link: /next}", |ask| {
        let mut body = one_zone();
        if ask.query("page").is_none() {
            body["next"] = json!(format!("{}/zones?page=2&a=%26b", ask.endpoint));
        }
        answer(200, body)
    })
    .await;
    assert_eq!(host.zones().await, Ok(2));
    assert_eq!(
        host.raw.calls(),
        ["GET /api/zones", "GET /api/zones?page=2&a=%26b"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let elsewhere = Raw::start("/api", |_| answer(200, one_zone())).await;
    let target = format!("{}/zones", elsewhere.endpoint());
    let host = Host::start(SHORT, move |_| {
        answer(302, Value::Null).header("location", target.clone())
    })
    .await;
    assert_eq!(
        host.fails().await,
        "HOST answers 302 when asked for its zones: it sends elsewhere, and is not followed"
    );
    assert_eq!(elsewhere.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_says_never_shows_the_secret_nor_control_characters() {
    let host = Host::start(SHORT, |ask| {
        let token = ask.header("x-token").unwrap_or_default();
        answer(
            401,
            json!({"code": token, "message": format!("bad token '{token}'\u{1b}[31m\nsent. ")}),
        )
    })
    .await;
    let error = host.zones().await.unwrap_err();
    let message = error.message.replace(&host.raw.host(), "HOST");
    assert_eq!(
        message,
        "HOST answers 401 ((secret)) when asked for its zones: bad token '(secret)' [31m sent"
    );
    assert!(!format!("{error:?}").contains("top-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_and_names_cannot_change_a_request() {
    let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
    let seen = Arc::clone(&bodies);
    let host = Host::start(SHORT, move |ask| {
        if ask.method == "POST" {
            seen.lock().unwrap().push(ask.body.clone());
        }
        answer(200, json!({"records": []}))
    })
    .await;
    let zone = Zone {
        name: name("example.test"),
        id: "1/../2?x=#{token}&%2e".to_owned(),
    };
    let value = "{token}\", \"ttl\": 1, \"x\": \"{id}";
    let change = [ensure(&name("a.example.test"), value)];
    host.plugin
        .rest
        .apply(&zone, &change, &[], &context())
        .await
        .unwrap();
    let calls = host.raw.calls();
    let segment = "1%2F..%2F2%3Fx=%23%7Btoken%7D&%252e";
    assert_eq!(
        calls,
        [
            format!("GET /api/zones/{segment}/records"),
            format!("POST /api/zones/{segment}/records")
        ]
    );
    assert_eq!(
        *bodies.lock().unwrap(),
        [json!({"name": "a", "value": value, "ttl": 60})]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_that_would_lead_up_is_refused() {
    for id in ["..", ".", ""] {
        let host = Host::start(SHORT, move |_| {
            answer(
                200,
                json!({"records": [{"name": "a", "id": id, "ttl": 60, "value": "x"}]}),
            )
        })
        .await;
        let zone = Zone {
            name: name("example.test"),
            id: "1".to_owned(),
        };
        let change = [absent(&name("a.example.test"), "x")];
        let error = host
            .plugin
            .rest
            .apply(&zone, &change, &[], &context())
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fatal, "{error:?}");
        assert_eq!(host.raw.calls().len(), 1, "nothing was removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_did_after_the_look_is_no_error() {
    let host = Host::start(SHORT, |ask| match ask.method.as_str() {
        "GET" => answer(
            200,
            json!({"records": [{"name": "a", "id": 7, "ttl": 60, "value": "gone"}]}),
        ),
        "POST" => answer(409, json!({"code": "duplicate", "message": "it is there"})),
        _ => answer(404, json!({"code": "not_found"})),
    })
    .await;
    let zone = Zone {
        name: name("example.test"),
        id: "1".to_owned(),
    };
    let here = name("a.example.test");
    for change in [ensure(&here, "there"), absent(&here, "gone")] {
        let context = context();
        let applied = host
            .plugin
            .rest
            .apply(&zone, std::slice::from_ref(&change), &[], &context);
        assert!(applied.await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_with_a_line_end_is_not_sent() {
    let raw = Raw::start("/api", |_| answer(200, one_zone())).await;
    let manifest = Manifest::read(&OWN.replace("PAGING", SHORT)).unwrap();
    let plugin = plugin(manifest, raw.endpoint(), "two\nlines", &[]);
    let error = plugin
        .rest
        .zones(&name("a.example.test"), &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(!error.message.contains("lines"), "{error}");
    assert_eq!(raw.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_go_where_the_manifest_says_and_nowhere_else() {
    let auths = [
        ("{bearer: \"{token}\"}", "authorization: Bearer s3/cret"),
        ("{header: {X-Key: \"a {token}\"}}", "x-key: a s3/cret"),
        (
            "{basic: {username: me, password: \"{token}\"}}",
            "authorization: Basic bWU6czMvY3JldA==",
        ),
        ("{query: {key: \"{token}\"}}", "query key=s3/cret"),
        ("{body: {key: \"{token}\"}}", "body {\"key\":\"s3/cret\"}"),
    ];
    for (auth, wanted) in auths {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = Arc::clone(&seen);
        let raw = Raw::start("/api", move |ask| {
            let headers = ask.headers.iter();
            let headers = headers.map(|(name, value)| format!("{name}: {value}"));
            let query = ask.query.iter();
            let query = query.map(|(key, value)| format!("query {key}={value}"));
            let mut seen = all.lock().unwrap();
            seen.extend(headers.chain(query));
            seen.push(format!("body {}", ask.body));
            answer(200, one_zone())
        })
        .await;
        let own = OWN.replace("{header: {X-Token: \"{token}\"}}", auth);
        let own = own.replace("PAGING", "{query: page, size: 100}");
        let plugin = plugin(
            Manifest::read(&own).unwrap(),
            raw.endpoint(),
            "s3/cret",
            &[],
        );
        let found = plugin.rest.zones(&name("a.example.test"), &context()).await;
        assert_eq!(found.unwrap().len(), 1);
        let seen = seen.lock().unwrap();
        let with: Vec<&String> = seen
            .iter()
            .filter(|it| it.contains("cret") || it.contains("Basic"))
            .collect();
        assert_eq!(with, [wanted]);
    }
}

#[test]
fn a_page_that_no_host_has_is_refused() {
    let read = |size: &str| {
        let paging = format!("{{query: page, size: {size}}}");
        Manifest::read(&OWN.replace("PAGING", &paging))
    };
    assert!(read("10000").is_ok());
    for size in ["10001", "18446744073709551615"] {
        let error = read(size).err().unwrap().to_string();
        assert!(error.contains("at most 10000"), "{error}");
    }
}
