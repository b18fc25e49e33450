//! What a person reads of each refusal, in one golden file.

use std::fmt::Write as _;

use countersign_providers::contract::ensure;
use countersign_providers::{ErrorKind, ProviderError};
use serde_json::{Value, json};

use super::{Bench, ZONE, name};
use crate::support::cloudflare::Fate;
use crate::support::golden;

/// A refusal as the API words it: status, code, words, and what it comes down to.
type Refusal = (u16, u32, &'static str, Option<(u32, &'static str)>);

const ALL: [Refusal; 42] = [
    (
        400,
        6003,
        "Invalid request headers",
        Some((6111, "Invalid format for Authorization header")),
    ),
    (
        400,
        6003,
        "Invalid request headers",
        Some((6103, "Invalid format for X-Auth-Key header")),
    ),
    (400, 6003, "Invalid request headers", None),
    (401, 1000, "Invalid API Token", None),
    (400, 9103, "Unknown X-Auth-Key or X-Auth-Email", None),
    (
        400,
        9106,
        "Missing X-Auth-Key, X-Auth-Email or Authorization headers",
        None,
    ),
    (400, 9107, "Missing X-Auth-Key header", None),
    (403, 9109, "Invalid access token", None),
    (403, 9109, "Unauthorized to access requested resource", None),
    (
        403,
        9109,
        "Cannot use the access token from location: 192.0.2.7",
        None,
    ),
    (
        403,
        9109,
        "Max auth failures reached, please check your Authorization header.",
        None,
    ),
    (403, 10000, "Authentication error", None),
    (401, 10000, "Authentication error", None),
    (403, 10001, "Unable to authenticate request", None),
    (
        403,
        0,
        "Actor 'com.cloudflare.api.token.0' requires permission 'com.cloudflare.api.account.zone.list' to list zones",
        None,
    ),
    (400, 1009, "write refused", None),
    (
        403,
        1014,
        "You do not have permission to modify this zone",
        None,
    ),
    (
        404,
        7003,
        "Could not route to /zones/x, perhaps your object identifier is invalid?",
        Some((7000, "No route for that URI")),
    ),
    (
        400,
        7003,
        "Could not route to /zones/x, perhaps your object identifier is invalid?",
        None,
    ),
    (404, 1001, "Invalid zone identifier", None),
    (400, 1002, "Invalid or missing zone_id", None),
    (
        400,
        1011,
        "Zone file for 'example.test' could not be found",
        None,
    ),
    (
        400,
        1012,
        "Zone file for 'example.test' is not modifiable",
        None,
    ),
    (
        429,
        971,
        "Please wait and consider throttling your request speed",
        None,
    ),
    (
        429,
        10100,
        "More than 1200 requests per 300 seconds reached.",
        None,
    ),
    (
        400,
        971,
        "Please wait and consider throttling your request speed",
        None,
    ),
    (400, 81045, "The record quota has been exceeded.", None),
    (
        400,
        1004,
        "DNS Validation Error",
        Some((9300, "DNS record has 1 tags, exceeding the quota of 0.")),
    ),
    (
        400,
        81053,
        "An A, AAAA, or CNAME record with that host already exists.",
        None,
    ),
    (
        400,
        81054,
        "A CNAME record with that host already exists.",
        None,
    ),
    (
        400,
        81055,
        "An A record with that host already exists.",
        None,
    ),
    (400, 81056, "NS records with that host already exist.", None),
    (400, 81057, "The record already exists.", None),
    (400, 81058, "An identical record already exists.", None),
    (404, 81044, "Record does not exist.", None),
    (
        400,
        1004,
        "DNS Validation Error",
        Some((9000, "DNS name is invalid.")),
    ),
    (
        400,
        1004,
        "DNS Validation Error",
        Some((9020, "Invalid DNS record type")),
    ),
    (
        400,
        1004,
        "DNS Validation Error",
        Some((
            9021,
            "TTL must be between 60 and 86400 seconds, or 1 for Automatic.",
        )),
    ),
    (
        400,
        1004,
        "DNS Validation Error",
        Some((9999, "something \u{1b}[31mnew")),
    ),
    (400, 6007, "Malformed JSON in request body", None),
    (400, 12345, "a code\nof next year", None),
    (503, 10013, "An unknown error has occurred", None),
];

#[derive(Clone, Copy)]
enum Act {
    Lookup,
    Look,
    Change,
}

#[tokio::test]
async fn each_refusal_reads_differently_and_says_whose_move_it_is() {
    let mut text = String::new();
    for (status, code, words, inner) in ALL {
        let mut stated = json!({"code": code, "message": words});
        let mut title = format!("{status} {code}");
        if let Some((code, words)) = inner {
            stated["error_chain"] = json!([{"code": code, "message": words}]);
            title += &format!(" > {code}");
        }
        writeln!(text, "# {title}: {}", words.escape_default()).unwrap();
        let mut before = None;
        for act in [Act::Lookup, Act::Look, Act::Change] {
            let body =
                json!({"success": false, "errors": [stated], "messages": [], "result": null});
            let Some(error) = refused(status, &body, act).await else {
                writeln!(text, "taken for done").unwrap();
                continue;
            };
            assert!(!error.message.ends_with('.'), "{error}");
            let mut one = String::new();
            shown(&mut one, &error);
            let meaning = one.split_once(": ").map(|(_, it)| it.split_once(": "));
            let meaning = meaning.flatten().map(|(_, it)| it.to_owned());
            // Where all that differs is what was asked for, once is enough.
            if meaning != before {
                text += &one;
            }
            before = meaning;
        }
    }
    let file = golden::root().join("tests/errors/cloudflare.txt");
    golden::golden(&file, &golden::normal(&text, &golden::root()));
}

#[tokio::test]
async fn a_token_that_is_none_is_told_apart() {
    let mut text = String::new();
    for token in [
        "two\nlines-of-a-token-0123456789abcdefghijk",
        "\"not-a-token-of-anybody-0123456789abcdefg\"",
        "short",
        "",
    ] {
        let bench = Bench::new();
        bench.write_token(token);
        writeln!(text, "# {token:?}").unwrap();
        let error = bench.zones(ZONE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Auth, "{error:?}");
        let directory = bench.directory.path().to_string_lossy().into_owned();
        shown(&mut text, &error);
        text = text.replace(&directory, "DIR");
    }
    let file = golden::root().join("tests/errors/cloudflare-token.txt");
    golden::golden(&file, &golden::normal(&text, &golden::root()));
}

#[tokio::test]
async fn a_wrong_zone_id_and_a_missing_right_have_sentences_of_their_own() {
    let mut text = String::new();
    let mut bench = Bench::new();
    bench.zone.id = "not-an-id".to_owned();
    let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ZoneMissing);
    shown(&mut text, &error);
    bench.zone.id = "0123456789abcdef0123456789abcdef".to_owned();
    let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
    shown(&mut text, &error);
    let bench = Bench::new();
    bench.api.state().token_mut().reads_zones = false;
    let error = bench.zones(ZONE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
    shown(&mut text, &error);
    bench.api.state().token_mut().edits = false;
    let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
    shown(&mut text, &error);
    let file = golden::root().join("tests/errors/cloudflare-rights.txt");
    golden::golden(&file, &golden::normal(&text, &golden::root()));
}

/// `None`: there is nothing that is wrong.
async fn refused(status: u16, body: &Value, act: Act) -> Option<ProviderError> {
    let bench = Bench::new();
    let body = body.to_string();
    let wanted = match act {
        Act::Lookup => "zones",
        Act::Look => "list",
        Act::Change => "create",
    };
    // A change is shown by a single record, where no code means that there is no batch.
    bench.api.state().has_batch = false;
    bench.api.decide(move |seen, _| match seen.kind == wanted {
        true => Fate::Reply {
            status,
            headers: vec![],
            body: body.clone(),
        },
        false => Fate::Pass,
    });
    match act {
        Act::Lookup => bench.zones(ZONE).await.err(),
        Act::Look => bench.observe(&[name("a")]).await.err(),
        Act::Change => {
            let changes: Vec<_> = (0..5)
                .map(|n| ensure(&name(&format!("h{n}")), "v"))
                .collect();
            bench.apply(&changes).await.err()
        }
    }
}

fn shown(text: &mut String, error: &ProviderError) {
    let hint = error.hint.as_deref().unwrap_or("-");
    writeln!(text, "{:?}: {}\n  hint: {hint}", error.kind, error.message).unwrap();
}
