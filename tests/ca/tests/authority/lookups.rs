//! dns-01 over real packets, RFC 8555 section 8.4.

use std::net::UdpSocket;

use countersign_testca::{Authority, Settings};
use serde_json::Value;

use crate::support::Stage;
use crate::support::client::Client;

const OWNER: &str = "_acme-challenge.x.test";

/// An order for x.test: the URL of its authorization, and the value to publish.
async fn ordered(client: &Client) -> (String, String) {
    let order = client.new_order(&["x.test"]).await.json();
    let url = order["authorizations"][0].as_str().unwrap().to_owned();
    let authorization = client.get(&url).await.json();
    let value = client.value(&authorization);
    (url, value)
}

/// The problem of a decided authorization: type and detail.
fn error(authorization: &Value) -> (String, String) {
    assert_eq!(authorization["status"], "invalid", "{authorization}");
    let error = &authorization["challenges"][0]["error"];
    let kind = error["type"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    (kind, error["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn one_right_value_among_others_is_enough() {
    let stage = Stage::new().await;
    let (url, value) = ordered(&stage.client).await;
    for n in 0..20 {
        stage.nameserver.txt(OWNER, &format!("left over {n}"));
    }
    stage.nameserver.txt(OWNER, &value);
    assert_eq!(stage.client.validate(&url).await["status"], "valid");
}

#[tokio::test]
async fn character_strings_are_joined() {
    let stage = Stage::new().await;
    let (url, value) = ordered(&stage.client).await;
    let (head, tail) = value.as_bytes().split_at(20);
    stage.nameserver.txt_strings(OWNER, &[head, tail]);
    assert_eq!(stage.client.validate(&url).await["status"], "valid");
}

#[tokio::test]
async fn values_are_compared_byte_for_byte() {
    let stage = Stage::new().await;
    for change in [
        (|v: &str| v.to_ascii_lowercase()) as fn(&str) -> String,
        |v| format!("{v} "),
        |v| format!("\"{v}\""),
        |v| format!("{v}="),
    ] {
        let (url, value) = ordered(&stage.client).await;
        let wrong = change(&value);
        stage.nameserver.txt(OWNER, &wrong);
        let (kind, detail) = error(&stage.client.validate(&url).await);
        assert_eq!(kind, "unauthorized");
        assert!(
            detail.contains("Incorrect TXT record") && detail.contains(OWNER),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_refusal_names_what_was_found_and_the_order_fails() {
    let stage = Stage::new().await;
    let (url, _) = ordered(&stage.client).await;
    stage.nameserver.txt(OWNER, "something else");
    let (kind, detail) = error(&stage.client.validate(&url).await);
    assert_eq!(kind, "unauthorized");
    assert!(detail.contains("something else"), "{detail}");
    let order = url.replace("/authorization/", "/order/");
    let order = stage.client.get(order.trim_end_matches("/0")).await.json();
    assert_eq!(order["status"], "invalid");
    assert_eq!(order["error"]["detail"], detail);
}

#[tokio::test]
async fn no_record_no_name_and_no_server_are_told_apart() {
    let stage = Stage::new().await;
    let (url, _) = ordered(&stage.client).await;
    let (kind, detail) = error(&stage.client.validate(&url).await);
    assert_eq!(
        (kind.as_str(), detail.contains("No TXT record")),
        ("unauthorized", true)
    );

    let (url, _) = ordered(&stage.client).await;
    stage.nameserver.cname(OWNER, "target.gone");
    let (kind, detail) = error(&stage.client.validate(&url).await);
    assert_eq!(
        (kind.as_str(), detail.contains("NXDOMAIN")),
        ("dns", true),
        "{detail}"
    );

    let (url, _) = ordered(&stage.client).await;
    stage.nameserver.fail(OWNER);
    let (kind, detail) = error(&stage.client.validate(&url).await);
    assert_eq!(
        (kind.as_str(), detail.contains("Server Failure")),
        ("dns", true),
        "{detail}"
    );

    // A port that was free a moment ago: refused at once.
    let free = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let authority = Authority::start(Settings::asking(free)).await.unwrap();
    let client = Client::new(&authority).await.registered().await;
    let (url, _) = ordered(&client).await;
    let (kind, detail) = error(&client.validate(&url).await);
    assert_eq!(
        (kind.as_str(), detail.contains("refused")),
        ("dns", true),
        "{detail}"
    );
}

#[tokio::test]
async fn a_cname_is_followed_within_an_answer_and_beyond_it() {
    let stage = Stage::new().await;
    for n in 0..8 {
        let from = if n == 0 {
            OWNER.to_owned()
        } else {
            format!("hop{n}.test")
        };
        stage.nameserver.cname(&from, &format!("hop{}.test", n + 1));
    }
    for leave_out in [false, true] {
        if leave_out {
            stage.nameserver.leave_targets_out();
        }
        let (url, value) = ordered(&stage.client).await;
        stage.nameserver.txt("hop8.test", &value);
        let authorization = stage.client.validate(&url).await;
        assert_eq!(authorization["status"], "valid", "{authorization}");
    }
    // One more is one too many, and a loop ends.
    stage.nameserver.cname("hop8.test", "hop9.test");
    let (url, _) = ordered(&stage.client).await;
    let (kind, detail) = error(&stage.client.validate(&url).await);
    assert_eq!(
        (kind.as_str(), detail.contains("more than 8 CNAMEs")),
        ("dns", true),
        "{detail}"
    );
    stage.nameserver.cname(OWNER, OWNER);
    let (url, _) = ordered(&stage.client).await;
    assert_eq!(error(&stage.client.validate(&url).await).0, "dns");
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let stage = Stage::new().await;
    stage.nameserver.truncate();
    let (url, value) = ordered(&stage.client).await;
    stage.nameserver.txt(OWNER, &value);
    assert_eq!(stage.client.validate(&url).await["status"], "valid");
    assert_eq!(stage.nameserver.questions_over_tcp(), 1);
}
