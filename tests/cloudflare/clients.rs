//! Other clients of the API against the stand-in: Cloudflare's own SDK and certbot's plug-in.

use std::process::Command;

use countersign_providers::contract::{absent, ensure};

use super::{Bench, VALUE, ZONE, name};
use crate::support::cloudflare::Token;
use crate::support::golden;
use crate::support::process::{guarded, servers_directory};
use crate::support::tsig;

#[tokio::test(flavor = "multi_thread")]
async fn cloudflares_own_sdk_takes_every_reply_of_the_stand_in() {
    let bench = Bench::new();
    let mut sdk = python("sdk.py", &bench);
    sdk.arg(ZONE);
    let output = tsig::run(sdk, "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn certbot_does_the_same_at_the_stand_in_in_many_more_calls() {
    let bench = Bench::new();
    let names: Vec<String> = (0..5).map(|n| format!("h{n}.{ZONE}")).collect();
    let run = |act: &str| {
        let mut certbot = python("certbot_plugin.py", &bench);
        certbot.arg(act);
        certbot.args(names.iter().map(|name| format!("{name}={VALUE}")));
        let output = tsig::run(certbot, "");
        assert!(output.status.success(), "{output:?}");
    };
    run("present");
    let theirs = bench.api.asked();
    let here = name("_acme-challenge.h3");
    assert_eq!(bench.served(&here).0, [VALUE]);
    assert_eq!(theirs.split(' ').count(), 25, "{theirs}");

    // What certbot wrote, without quotes, is there for us too, and goes as ours.
    bench.apply(&[ensure(&here, VALUE)]).await.unwrap();
    assert_eq!(bench.api.asked(), "list");
    bench.apply(&[absent(&here, VALUE)]).await.unwrap();
    assert_eq!(bench.shown().len(), 4);
    bench.api.asked();

    run("clean");
    let theirs = bench.api.asked();
    assert_eq!(theirs.split(' ').count(), 23, "{theirs}");
    assert_eq!(bench.shown(), [""; 0]);
}

fn python(script: &str, bench: &Bench) -> Command {
    let mut command = guarded(&servers_directory().join("venv/bin/python"));
    command.arg(golden::root().join("tests/cloudflare").join(script));
    command
        .env("CLOUDFLARE_BASE_URL", bench.api.url())
        .env("CLOUDFLARE_API_TOKEN", Token::usual().secret)
        .env("TOKEN", Token::usual().secret);
    command
}
