//! Two writers of one name, in every order of their requests that a seed leads to: no value is lost, none that is
//! somebody else's is touched. `SEED=n` runs one order; `COUNTERSIGN_FULL=1` runs ten thousand.

use countersign_providers::contract::{absent, ensure};
use countersign_providers::record::{Change, RrSet};
use countersign_providers::route53::Route53;
use countersign_providers::{ErrorKind, Provider};

use crate::support::route53::store::Set;
use crate::support::route53::{Fake, Key};

use super::{context, name, served, start, with_key, zone};

/// So many orders; with `COUNTERSIGN_FULL`.
const ORDERS: u64 = 200;
const ALL_ORDERS: u64 = 10_000;
/// A writer that is overtaken tries again, as the core would; more often than this it starves.
const TRIES: usize = 40;
const WRITERS: [&str; 2] = ["AKIAWRITERAAAAAAAAAA", "AKIAWRITERBBBBBBBBBB"];
const FOREIGN: &str = "\"v=spf1\" \"-all\"";

#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says so in the environment"
)]
async fn two_writers_of_one_name_lose_no_value_in_any_order() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let full = std::env::var_os("COUNTERSIGN_FULL").is_some_and(|full| full != "0");
    let orders = match seed {
        Some(seed) => seed..seed + 1,
        None => 0..if full { ALL_ORDERS } else { ORDERS },
    };
    let fake = start();
    let writers = WRITERS.map(|id| {
        let secret = format!("secret-of-{id}");
        let key = Key {
            secret: secret.clone(),
            ..Key::default()
        };
        fake.state().keys.insert(id.to_owned(), key);
        Route53::new(with_key(&fake, id, &secret))
    });
    let mut overtaken = 0;
    for seed in orders {
        overtaken += one_order(&fake, &writers, seed).await;
    }
    assert!(overtaken > 0 || seed.is_some(), "the writers never met");
}

/// Both present, then both change their value, then both clean; after each the name has what it should have.
async fn one_order(fake: &Fake, writers: &[Route53; 2], seed: u64) -> usize {
    let at = name("_acme-challenge");
    let foreign = seed.is_multiple_of(3);
    let set = foreign.then(|| Set::txt(at.as_str(), 777, &[FOREIGN]));
    fake.state().zones[0].sets.clear();
    set.clone()
        .into_iter()
        .for_each(|set| fake.state().zones[0].put(set));
    // A writer that has run before may believe what is not so any more.
    let stale = (seed % 2 == 1).then(|| RrSet {
        name: at.clone(),
        ttl: Some(60),
        values: vec!["gone".to_owned()],
    });
    let mut overtaken = 0;
    let steps: [fn(usize) -> Vec<Change>; 3] = [
        |i| vec![ensure(&name("_acme-challenge"), &format!("first-{i}"))],
        |i| {
            let at = name("_acme-challenge");
            let (old, new) = (format!("first-{i}"), format!("second-{i}"));
            vec![ensure(&at, &new), absent(&at, &old)]
        },
        |i| vec![absent(&name("_acme-challenge"), &format!("second-{i}"))],
    ];
    for (round, changes) in steps.iter().enumerate() {
        fake.gate().close(&WRITERS, seed * 8 + round as u64);
        let write = |i: usize| {
            let changes = changes(i);
            let believed = match round {
                0 => stale.clone(),
                round => Some(RrSet {
                    name: name("_acme-challenge"),
                    ttl: Some(60),
                    values: vec![format!("{}-{i}", ["first", "second"][round - 1])],
                }),
            };
            async move {
                let believed: Vec<RrSet> = believed.into_iter().collect();
                let tries = insist(&writers[i], &changes, &believed).await;
                fake.gate().leave(WRITERS[i]);
                tries - 1
            }
        };
        let (one, other) = tokio::join!(write(0), write(1));
        overtaken += one + other;
        let mut wanted: Vec<String> = match round {
            2 => vec![],
            round => (0..2)
                .map(|i| format!("{}-{i}", ["first", "second"][round]))
                .collect(),
        };
        wanted.extend(foreign.then(|| "v=spf1-all".to_owned()));
        wanted.sort();
        let mut seen = served(fake, &at);
        seen.values.sort();
        assert_eq!(seen.values, wanted, "seed {seed}, round {round}");
        if foreign {
            assert_eq!(seen.ttl, Some(777), "seed {seed}, round {round}");
        }
    }
    let left: Vec<Set> = fake.state().zones[0].sets.values().cloned().collect();
    assert_eq!(left, Vec::from_iter(set), "seed {seed}");
    overtaken
}

async fn insist(writer: &Route53, changes: &[Change], believed: &[RrSet]) -> usize {
    for tries in 1..=TRIES {
        match writer.apply(&zone(), changes, believed, &context()).await {
            Ok(_) => return tries,
            Err(error) if error.kind == ErrorKind::Conflict => {}
            Err(error) => panic!("{changes:?}: {error:?}"),
        }
    }
    panic!("{changes:?} was overtaken {TRIES} times");
}
