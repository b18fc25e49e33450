//! What the plug-in makes of faults on the way, of hostile replies and of refusals.

use countersign_providers::contract::{absent, ensure};
use countersign_providers::record::{Change, DnsName, RrSet};
use countersign_providers::secret::SecretSource;
use countersign_providers::{ErrorKind, Provider as _};
use serde_json::json;

use super::super::{
    CANARY, ZONE, canaries, echo, hundred, name, no_replies, shown, without_canary,
};
use super::Bench;
use crate::support::clouds::Fate;
use crate::support::clouds::googlecloud::refusal;
use crate::support::golden::{golden, root};
use crate::support::rest::answer;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_the_outcome_open_and_the_same_again_makes_it_good() {
    for (verb, left) in [(ensure as fn(&DnsName, &str) -> Change, 1), (absent, 0)] {
        let bench = Bench::new().await;
        if left == 0 {
            bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
        }
        let lost = answer(502, json!("<html>bad gateway</html>"));
        bench.fake.fate("change", Fate::Done(lost));
        let error = match left {
            0 => {
                let believed = [RrSet {
                    name: name("a"),
                    ttl: Some(60),
                    values: vec!["v".to_owned()],
                }];
                bench.believing(&[verb(&name("a"), "v")], &believed).await
            }
            _ => bench.apply(&[verb(&name("a"), "v")]).await,
        };
        let error = error.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
        assert!(error.outcome_unknown());
        bench.apply(&[verb(&name("a"), "v")]).await.unwrap();
        assert_eq!(bench.shown().len(), left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_no_replies_end_in_an_error() {
    for reply in no_replies() {
        let bench = Bench::new().await;
        let body = reply.body.to_string();
        bench.fake.always(Some(reply));
        for error in [
            bench.observe(&[name("a")]).await.err(),
            bench.zones(ZONE).await.err(),
            bench.apply(&[ensure(&name("a"), "v")]).await.err(),
        ] {
            let error = error.unwrap_or_else(|| panic!("{body}"));
            assert_eq!(error.kind, ErrorKind::Fatal, "{body}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_service_that_answers_nonsense_is_told_without_what_it_said() {
    let odd = [
        json!(CANARY),
        json!({"access_token": CANARY}),
        json!({"access_token": CANARY, "expires_in": "soon"}),
        json!({"access_token": [CANARY], "expires_in": 1}),
        json!({"access_token": "", "expires_in": 1}),
        json!({"access_token": format!("{CANARY}\nX-More: 1"), "expires_in": 3600}),
    ];
    for body in odd {
        let bench = Bench::new().await;
        bench
            .fake
            .fate("token", Fate::Reply(answer(200, body.clone())));
        let error = bench.observe(&[name("a")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fatal, "{body}");
        without_canary(&error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_without_an_end_are_given_up() {
    let bench = Bench::new().await;
    let body = json!({"rrsets": [], "managedZones": [], "nextPageToken": "again"});
    bench.fake.always(Some(answer(200, body)));
    let error = bench.zones(ZONE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
    let names: Vec<DnsName> = hundred(ensure).into_iter().map(|it| it.name).collect();
    let seen = bench.observe(&names).await;
    assert!(
        seen.is_ok(),
        "name by name, and none has more than one set: {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_repeats_the_token_is_not_repeated() {
    for status in [200, 400, 401, 403, 404, 409, 429, 500] {
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
    let call = |status, reason, words: &'static str| ("change", refusal(status, reason, words));
    let modern = |reason: &str, words: &str| {
        let details =
            json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
        answer(
            403,
            json!({"error": {"code": 403, "message": words, "status": "PERMISSION_DENIED", "details": details}}),
        )
    };
    let token = |code: &str, words: &str| {
        (
            "token",
            answer(400, json!({"error": code, "error_description": words})),
        )
    };
    let all = [
        call(401, "authError", "Invalid Credentials"),
        call(
            401,
            "required",
            "Request is missing required authentication credential.",
        ),
        call(403, "forbidden", "Forbidden"),
        call(
            403,
            "insufficientPermissions",
            "Request had insufficient authentication scopes.",
        ),
        call(403, "accessNotConfigured", "Access not configured"),
        call(
            403,
            "inactiveBillingState",
            "Project dns-project cannot accept requests while in an inactive billing state.",
        ),
        (
            "change",
            modern(
                "SERVICE_DISABLED",
                "Cloud DNS API has not been used in project 1 before or it is disabled.",
            ),
        ),
        (
            "change",
            modern("CONSUMER_INVALID", "Project 'nobody' not found or deleted."),
        ),
        (
            "change",
            modern(
                "SECURITY_POLICY_VIOLATED",
                "Request is prohibited by organization's policy.",
            ),
        ),
        (
            "change",
            modern(
                "IAM_PERMISSION_DENIED",
                "Permission 'dns.changes.create' denied.",
            ),
        ),
        call(403, "rateLimitExceeded", "Rate Limit Exceeded"),
        call(403, "dailyLimitExceeded", "Daily Limit Exceeded"),
        call(
            429,
            "RATE_LIMIT_EXCEEDED",
            "Quota exceeded for quota metric 'Write requests'",
        ),
        call(
            403,
            "quotaExceeded",
            "The resource limit was exceeded: 'rrsetsPerManagedZone'",
        ),
        call(
            404,
            "notFound",
            "The 'parameters.managedZone' resource named 'example-test' does not exist.",
        ),
        call(
            404,
            "notFound",
            "The 'parameters.project' resource named 'nobody' does not exist.",
        ),
        call(
            409,
            "cnameResourceRecordSetConflict",
            "The resource record set 'entity.change.additions[0]' is invalid.",
        ),
        call(
            400,
            "invalid",
            "Invalid value for 'entity.change.additions[0].name'",
        ),
        call(
            400,
            "invalidValue",
            "Invalid value for 'entity.change.additions[0].rrdata[0]'",
        ),
        call(400, "managedZoneIsReadOnly", "The zone is read-only."),
        call(400, "parseError", "Parse Error"),
        call(500, "internalError", "Internal Error"),
        call(503, "backendError", "Backend Error"),
        call(400, "somethingNew", "It is Tuesday"),
        ("change", answer(403, json!("<html>who are you?</html>"))),
        token("invalid_grant", "Invalid JWT Signature."),
        token("invalid_grant", "Invalid grant: account not found"),
        token(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
        ),
        token("invalid_client", "The OAuth client was not found."),
        token("disabled_client", "The OAuth client was disabled."),
        token("invalid_scope", "Some requested scopes were invalid."),
        token(
            "admin_policy_enforced",
            "Access to your account data is restricted by policies.",
        ),
        token("new_reason", ""),
    ];
    let mut table = String::new();
    for (name_of_call, reply) in all {
        let bench = Bench::new().await;
        bench.fake.fate(name_of_call, Fate::Reply(reply));
        let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
        table.push_str(&shown(&error, &bench.fake.host()));
    }
    for (call, at) in [("zones", ZONE), ("list", "a.example.test")] {
        let bench = Bench::new().await;
        bench
            .fake
            .fate(call, Fate::Reply(refusal(403, "forbidden", "Forbidden")));
        let error = match call {
            "zones" => bench.zones(at).await.unwrap_err(),
            _ => bench.observe(&[name("a")]).await.unwrap_err(),
        };
        table.push_str(&shown(&error, &bench.fake.host()));
    }
    golden(&root().join("tests/errors/googlecloud.txt"), &table);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_is_named() {
    let bench = Bench::with(|settings| {
        settings.credentials = Some(SecretSource::File("/nowhere/key.json".into()));
    })
    .await;
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(
        error
            .message
            .starts_with("`credentials` cannot be read: /nowhere/key.json"),
        "{error}"
    );
}
