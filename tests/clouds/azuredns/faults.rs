//! What the plug-in makes of faults on the way, of hostile replies and of refusals.

use countersign_providers::contract::{absent, ensure};
use countersign_providers::record::{Change, DnsName, Zone};
use countersign_providers::{ErrorKind, Provider as _};
use serde_json::json;

use super::super::{
    VALUE, ZONE, apex, canaries, context, echo, name, no_replies, shown, without_canary,
};
use super::Bench;
use crate::support::clouds::Fate;
use crate::support::clouds::azuredns::{Azure, dns_refusal, refusal};
use crate::support::golden::{golden, root};
use crate::support::rest::answer;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_the_outcome_open_and_the_same_again_makes_it_good() {
    let bench = Bench::new().await;
    for (verb, call, left) in [
        (ensure as fn(&DnsName, &str) -> Change, "put", 1),
        (absent, "delete", 0),
    ] {
        let lost = answer(502, json!("<html>bad gateway</html>"));
        bench.fake.fate(call, Fate::Done(lost));
        let error = bench.apply(&[verb(&name("a"), VALUE)]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
        assert!(error.outcome_unknown());
        bench.apply(&[verb(&name("a"), VALUE)]).await.unwrap();
        assert_eq!(bench.shown().len(), left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_no_replies_end_in_an_error() {
    for reply in no_replies() {
        let bench = Bench::new().await;
        let body = reply.body.to_string();
        bench.fake.always(Some(reply));
        let names = ["a", "b"].map(name);
        for error in [
            bench.observe(&names[..1]).await.err(),
            bench.observe(&names).await.err(),
            bench.zones(ZONE).await.err(),
            bench.apply(&[absent(&name("a"), "v")]).await.err(),
        ] {
            let error = error.unwrap_or_else(|| panic!("{body}"));
            assert_eq!(error.kind, ErrorKind::Fatal, "{body}: {error:?}");
        }
    }
    let bench = Bench::new().await;
    let records = json!({"TTL": 60, "TXTRecords": [{"value": ["v"]}]});
    let no_etag = json!({"name": "a", "properties": records});
    bench.fake.fate("get", Fate::Reply(answer(200, no_etag)));
    let error = bench.apply(&[absent(&name("a"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal, "{error:?}");
    assert_eq!(
        bench.fake.calls(),
        "token, get",
        "nothing is replaced without proof"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_page_elsewhere_is_not_asked_for() {
    let elsewhere = Azure::start(Vec::new()).await;
    let links = [
        format!("{}/subscriptions", elsewhere.url()),
        "https://management.azure.com/subscriptions".to_owned(),
        "/subscriptions?$skipToken=1".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://[".to_owned(),
    ];
    for link in links {
        let bench = Bench::new().await;
        let body = json!({"value": [], "nextLink": link});
        bench.fake.always(Some(answer(200, body)));
        let error = bench.zones(ZONE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fatal);
        assert!(
            error
                .message
                .ends_with("with a next page that is elsewhere"),
            "{error}"
        );
        assert_eq!(bench.fake.calls(), "token, zones", "{link}");
    }
    assert_eq!(elsewhere.calls(), "");
    let bench = Bench::new().await;
    let link = format!("{}/somewhere/else?$skipToken=1", bench.fake.url());
    let body = json!({"value": [], "nextLink": link});
    bench.fake.always(Some(answer(200, body)));
    let error = bench.zones(ZONE).await.unwrap_err();
    assert!(
        error.message.ends_with("with more than 500 pages"),
        "{error}"
    );
    assert_eq!(
        bench.fake.calls(),
        "token, 500 zones",
        "only the query is taken"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_whose_id_is_none_is_not_asked_about() {
    let bench = Bench::new().await;
    for id in [
        "",
        "example.test",
        "/subscriptions/../../x",
        &format!("{}/TXT", bench.zone().id),
    ] {
        let zone = Zone {
            name: apex(),
            id: id.to_owned(),
        };
        let (names, context) = ([name("a")], context());
        let error = bench
            .plugin
            .observe(&zone, &names, &context)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ZoneMissing, "{id}");
    }
    assert_eq!(bench.fake.calls(), "token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_repeats_the_token_is_not_repeated() {
    for status in [200, 400, 401, 403, 404, 409, 412, 429, 500] {
        let bench = Bench::new().await;
        for (secret, words) in canaries() {
            bench.fake.always(Some(echo(status, &words)));
            let token = json!({"access_token": secret, "expires_in": 3600, "token_type": "Bearer"});
            for zones in [true, false] {
                bench.plugin.forgive();
                bench
                    .fake
                    .fate("token", Fate::Reply(answer(200, token.clone())));
                let error = match zones {
                    true => bench.zones(ZONE).await.unwrap_err(),
                    false => bench.observe(&[name("a")]).await.unwrap_err(),
                };
                without_canary(&error);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_told_in_words() {
    let put = |status, code: &str, words: &str| ("put", refusal(status, code, words));
    let dns = |status, code: &str, words: &str| ("put", dns_refusal(status, code, words));
    let token = |error: &str, words: &str| {
        (
            "token",
            answer(401, json!({"error": error, "error_description": words})),
        )
    };
    let all = [
        put(
            401,
            "ExpiredAuthenticationToken",
            "The access token expiry is in the past.",
        ),
        put(
            401,
            "InvalidAuthenticationToken",
            "The access token is invalid.",
        ),
        put(
            401,
            "InvalidAuthenticationTokenTenant",
            "The access token is from the wrong issuer.",
        ),
        put(
            403,
            "AuthorizationFailed",
            "The client does not have authorization to perform action.",
        ),
        (
            "zones",
            refusal(
                403,
                "AuthorizationFailed",
                "The client does not have authorization.",
            ),
        ),
        (
            "get",
            refusal(
                403,
                "AuthorizationFailed",
                "The client does not have authorization.",
            ),
        ),
        put(
            403,
            "RequestDisallowedByPolicy",
            "Resource was disallowed by policy.",
        ),
        put(
            409,
            "ScopeLocked",
            "The scope cannot perform write operation because it is locked.",
        ),
        put(
            409,
            "ReadOnlyDisabledSubscription",
            "The subscription is disabled.",
        ),
        put(
            409,
            "MissingSubscriptionRegistration",
            "The subscription is not registered to use namespace.",
        ),
        put(
            404,
            "SubscriptionNotFound",
            "The subscription could not be found.",
        ),
        put(
            404,
            "ResourceGroupNotFound",
            "Resource group 'dns' could not be found.",
        ),
        put(
            404,
            "ParentResourceNotFound",
            "Can not perform requested operation on nested resource.",
        ),
        (
            "get",
            refusal(404, "ResourceNotFound", "The Resource was not found."),
        ),
        dns(
            409,
            "Conflict",
            "The record cannot be created because a CNAME record with the same name exists.",
        ),
        dns(409, "Conflict", "The request could not be completed."),
        dns(
            409,
            "CannotCreateRecordDueToCNameNamingRestriction",
            "There is an alias.",
        ),
        dns(
            400,
            "BadRequest",
            "The number of records exceeds the maximum.",
        ),
        dns(400, "BadRequest", "The value of TXTRecords is invalid."),
        put(
            400,
            "InvalidRequestContent",
            "The request content was invalid.",
        ),
        put(
            400,
            "NoRegisteredProviderFound",
            "No registered resource provider found for API version.",
        ),
        put(
            429,
            "SubscriptionRequestsThrottled",
            "Number of write requests exceeded the limit.",
        ),
        dns(429, "TooManyRequests", "The request was throttled."),
        put(500, "InternalServerError", "An error has occurred."),
        put(503, "ServerTimeout", "The request timed out."),
        put(418, "SomethingNew", "It is Tuesday."),
        ("put", answer(403, json!("<html>who are you?</html>"))),
        token(
            "invalid_client",
            "AADSTS7000215: Invalid client secret provided.",
        ),
        token(
            "invalid_client",
            "AADSTS7000222: The provided client secret keys are expired.",
        ),
        token(
            "unauthorized_client",
            "AADSTS700016: Application was not found in the directory.",
        ),
        token("invalid_request", "AADSTS90002: Tenant not found."),
        token(
            "invalid_client",
            "AADSTS700213: No matching federated identity record found.",
        ),
        token(
            "invalid_client",
            "AADSTS700024: Client assertion is not within its valid time range.",
        ),
        token(
            "unauthorized_client",
            "AADSTS7000112: Application is disabled.",
        ),
        token(
            "access_denied",
            "AADSTS53003: Access has been blocked by Conditional Access policies.",
        ),
        token(
            "invalid_resource",
            "AADSTS500011: The resource principal was not found in the tenant.",
        ),
        token("invalid_request", "Identity not found"),
        token("invalid_client", ""),
        token("new_reason", ""),
    ];
    let mut table = String::new();
    for (call, reply) in all {
        let bench = Bench::new().await;
        bench.fake.fate(call, Fate::Reply(reply));
        let error = match call {
            "zones" => bench.zones(ZONE).await.unwrap_err(),
            "get" => bench.observe(&[name("a")]).await.unwrap_err(),
            _ => bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err(),
        };
        table.push_str(&shown(&error, &bench.fake.host()));
    }
    golden(&root().join("tests/errors/azuredns.txt"), &table);
}
