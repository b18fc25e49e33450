//! What the plug-in makes of others who write at the same time, of faults on the way, of hostile replies and of limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use countersign_providers::contract::{absent, ensure};
use countersign_providers::meter::Meter;
use countersign_providers::record::{Change, DnsName};
use countersign_providers::{Context, ErrorKind, Provider as _};
use serde_json::json;

use super::{Bench, PATIENCE, ZONE, name, refusal};
use crate::support::cloudflare::{Fate, Token};

#[tokio::test]
async fn a_record_that_somebody_makes_between_look_and_change_is_no_failure() {
    let bench = Bench::new();
    let zone = bench.zone.id.clone();
    bench.api.decide(move |seen, state| {
        if seen.kind == "batch" && seen.nth == 1 {
            state.add(&zone, "TXT", "a.example.test", "\"same\"", 300);
        }
        Fate::Pass
    });
    let changes = [ensure(&name("a"), "same"), ensure(&name("b"), "rest")];
    bench.apply(&changes).await.unwrap();
    assert_eq!(bench.api.asked(), "list batch list batch");
    assert_eq!(bench.served(&name("a")).0, ["same"]);
    assert_eq!(bench.served(&name("b")).0, ["rest"]);
}

#[tokio::test]
async fn a_record_that_somebody_removes_between_look_and_change_is_no_failure() {
    let bench = Bench::new();
    let changes = [ensure(&name("a"), "1"), ensure(&name("b"), "2")];
    bench.apply(&changes).await.unwrap();
    bench.api.asked();
    let zone = bench.zone.id.clone();
    bench.api.decide(move |seen, state| {
        if seen.kind == "batch" && seen.nth == 1 {
            state.zone_mut(&zone).records.remove(0);
        }
        Fate::Pass
    });
    let changes = [absent(&name("a"), "1"), absent(&name("b"), "2")];
    bench.apply(&changes).await.unwrap();
    assert_eq!(bench.api.asked(), "list batch list batch");
    assert_eq!(bench.shown(), [""; 0]);
}

#[tokio::test]
async fn whoever_is_overtaken_again_and_again_leaves_it_to_the_core_to_come_again() {
    let bench = Bench::new();
    bench.api.decide(|seen, _| match seen.kind {
        "batch" => refusal(400, 81058, "An identical record already exists."),
        _ => Fate::Pass,
    });
    let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(!error.partly);
    assert_eq!(bench.api.asked(), "list batch list batch list batch");
}

#[tokio::test]
async fn a_refused_value_takes_its_whole_batch_with_it() {
    let bench = Bench::new();
    let id = &bench.zone.id;
    bench
        .api
        .state()
        .add(id, "CNAME", "alias.example.test", "www.example.test", 300);
    let changes = [ensure(&name("a"), "v"), ensure(&name("alias"), "v")];
    let error = bench.apply(&changes).await.unwrap_err();
    assert_eq!(
        (error.kind, error.code.as_deref()),
        (ErrorKind::Invalid, Some("81054"))
    );
    assert!(!error.partly && !error.outcome_unknown());
    assert_eq!(bench.shown().len(), 1);
}

#[tokio::test]
async fn one_by_one_a_refusal_says_that_some_changes_were_made() {
    let bench = Bench::new();
    bench.api.state().has_batch = false;
    let id = &bench.zone.id;
    bench
        .api
        .state()
        .add(id, "CNAME", "b.example.test", "www.example.test", 300);
    let changes = [ensure(&name("a"), "v"), ensure(&name("b"), "v")];
    let error = bench.apply(&changes).await.unwrap_err();
    assert!(error.partly && error.outcome_unknown(), "{error:?}");
    assert_eq!(bench.api.asked(), "list batch create create");
    assert_eq!(bench.served(&name("a")).0, ["v"]);
}

#[tokio::test]
async fn a_lost_reply_leaves_the_outcome_open_and_the_same_again_makes_it_good() {
    for fate in [Fate::LoseRequest, Fate::LoseReply, Fate::CutReply] {
        for (verb, left) in [(ensure as fn(&DnsName, &str) -> Change, 1), (absent, 0)] {
            let bench = Bench::new();
            if left == 0 {
                bench.apply(&[ensure(&name("a"), "v")]).await.unwrap();
                bench.api.asked();
            }
            let once = fate.clone();
            bench
                .api
                .decide(move |seen, _| match (seen.kind, seen.nth) {
                    ("batch", 1) => once.clone(),
                    _ => Fate::Pass,
                });
            let error = bench.apply(&[verb(&name("a"), "v")]).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Transient, "{fate:?}: {error:?}");
            assert!(error.outcome_unknown());
            bench.apply(&[verb(&name("a"), "v")]).await.unwrap();
            assert_eq!(bench.shown().len(), left, "{fate:?}");
        }
    }
}

#[tokio::test]
async fn a_reply_that_does_not_come_in_time_is_not_waited_for() {
    let bench = Bench::new();
    bench.api.decide(|_, _| Fate::DelayReply(PATIENCE));
    let clock = Clock::system();
    let deadline = later(clock.now(), Duration::from_millis(200));
    let context = Context::new(clock, deadline);
    let seen = bench
        .plugin
        .observe(&bench.zone, &[name("a")], &context)
        .await;
    let error = seen.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert!(error.message.ends_with("did not answer in time"), "{error}");
}

#[tokio::test]
async fn a_server_at_fault_is_somebody_elses_move_whatever_it_sends() {
    let page = "<html><title>502</title>".to_owned();
    for body in [
        page,
        String::new(),
        json!({"errors": [{"code": 10000}]}).to_string(),
    ] {
        let bench = Bench::new();
        bench.api.decide(move |_, _| Fate::Reply {
            status: 502,
            headers: vec![],
            body: body.clone(),
        });
        let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
    }
}

#[tokio::test]
async fn replies_that_are_no_replies_end_in_an_error() {
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "{\"success\": true, \"result\": {}}",
        "{\"success\": true, \"result\": [{\"id\": 1}]}",
        "\u{0}",
    ] {
        let bench = Bench::new();
        bench.api.decide(move |_, _| Fate::Reply {
            status: 200,
            headers: vec![],
            body: body.to_owned(),
        });
        let error = bench.observe(&[name("a")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fatal, "{body}: {error:?}");
    }
}

#[tokio::test]
async fn a_list_without_end_is_given_up() {
    let bench = Bench::new();
    let one = json!({"id": "1", "name": "a.example.test", "content": "v", "ttl": 60});
    let info = json!({"total_pages": 1_000_000_000});
    let body = json!({"success": true, "result": [one], "result_info": info});
    let body = body.to_string();
    bench.api.decide(move |_, _| Fate::Reply {
        status: 200,
        headers: vec![],
        body: body.clone(),
    });
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
    let error = bench.zones(ZONE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
}

#[tokio::test]
async fn a_batch_that_made_fewer_records_than_asked_for_is_not_believed() {
    let bench = Bench::new();
    bench.api.decide(|seen, _| match seen.kind {
        "batch" => Fate::Reply {
            status: 200,
            headers: vec![],
            body: json!({"success": true, "result": {"posts": []}}).to_string(),
        },
        _ => Fate::Pass,
    });
    let error = bench.apply(&[ensure(&name("a"), "v")]).await.unwrap_err();
    assert!(error.outcome_unknown(), "{error:?}");
}

#[tokio::test]
async fn nobody_with_the_token_asks_before_an_exhausted_limit_is_whole_again() {
    let bench = Bench::new();
    {
        let mut state = bench.api.state();
        (state.left, state.resets) = (2, 120);
    }
    let (clock, hands) = Clock::virtual_at("2026-01-01T00:00:00Z".parse().unwrap());
    let context = Context {
        deadline: later(clock.now(), Duration::from_secs(60)),
        meter: Meter::new(bench.plugin.traits().rate),
        clock: clock.clone(),
    };
    let ask = || bench.plugin.observe(&bench.zone, &[], &context);
    assert!(ask().await.is_ok(), "nothing to ask");
    let names = [name("a")];
    let ask = || bench.plugin.observe(&bench.zone, &names, &context);
    assert!(ask().await.is_ok());
    assert_eq!(context.meter.wait(&clock), Duration::ZERO);
    assert!(ask().await.is_ok(), "the last one that is allowed");
    assert_eq!(context.meter.wait(&clock), Duration::from_secs(120));
    let error = ask().await.unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::RateLimited { .. }),
        "{error:?}"
    );
    assert_eq!(bench.api.asked(), "list list", "it was not asked again");
    hands.advance(Duration::from_secs(120));
    bench.api.state().left = 1;
    let late = Context {
        deadline: later(clock.now(), Duration::from_secs(60)),
        ..context.clone()
    };
    let seen = bench.plugin.observe(&bench.zone, &names, &late).await;
    assert!(seen.is_ok(), "{seen:?}");
}

#[tokio::test]
async fn a_throttled_call_says_when_to_come_again() {
    let bench = Bench::new();
    {
        let mut state = bench.api.state();
        (state.left, state.resets) = (0, 77);
    }
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    let after = Some(Duration::from_secs(77));
    assert_eq!(error.kind, ErrorKind::RateLimited { after });
}

#[tokio::test]
async fn the_token_is_read_anew_at_each_use_and_never_told() {
    let bench = Bench::new();
    let wrong = "another-token-of-nobody-0123456789abcdefg";
    bench.write_token(wrong);
    let error = bench.observe(&[name("a")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(!format!("{error:?}").contains(&wrong[..12]));
    bench.write_token(&Token::usual().secret);
    assert!(bench.observe(&[name("a")]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_change_the_same_names_lose_nothing() {
    let bench = Arc::new(Bench::new());
    let rounds = Arc::new(AtomicUsize::new(0));
    let all: Vec<_> = (0..2)
        .map(|writer| {
            let (bench, rounds) = (Arc::clone(&bench), Arc::clone(&rounds));
            tokio::spawn(async move {
                for round in 0..50 {
                    let (shared, own) = (name("shared"), name(&format!("own-{round}")));
                    let value = format!("{writer}-{round}");
                    let changes = [ensure(&shared, &value), ensure(&own, "both want this")];
                    insist(&bench, &changes).await;
                    if round > 0 {
                        let old = format!("{writer}-{}", round - 1);
                        insist(&bench, &[absent(&shared, &old)]).await;
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for writer in all {
        writer.await.unwrap();
    }
    assert_eq!(rounds.load(Ordering::Relaxed), 100);
    let mut shared = bench.served(&name("shared")).0;
    shared.sort();
    assert_eq!(shared, ["0-49", "1-49"]);
    assert_eq!(bench.shown().len(), 2 + 50);
}

/// As the core does when somebody else was faster.
async fn insist(bench: &Bench, changes: &[Change]) {
    for _ in 0..20 {
        match bench.apply(changes).await {
            Ok(()) => return,
            Err(error) if error.kind == ErrorKind::Conflict => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("overtaken twenty times");
}
