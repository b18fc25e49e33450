//! The daemon over days and years that never were: an authority that is down, clocks that are wrong, a disk that is full.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_providers::clock::later;
use countersign_testca::Endpoint;

use world::{DAY, HOUR, LIFETIME, START, World, host};

const YEAR: i64 = 365 * 86_400;
/// Before the end of a certificate, its renewal is due.
const REST: Duration = Duration::from_secs(20 * 86_400);
/// Certificates at work at the same time: so many places one may be out of the order of urgency.
const SEATS: usize = 32;

/// The long campaign has as many certificates as the promise names.
#[allow(
    clippy::disallowed_methods,
    reason = "the test is told by its environment how much to do"
)]
fn many() -> usize {
    match std::env::var_os("COUNTERSIGN_FULL") {
        Some(_) => 1_000,
        None => 120,
    }
}

/// Half of them become due in three days, a tenth of them end then, the rest is for later.
fn ends(many: usize) -> Vec<Duration> {
    let end = |nth: usize| {
        let share = DAY * 3 * u32::try_from(nth % 100).unwrap() / 100;
        match nth % 10 {
            0 => HOUR + share,
            1..5 => REST + share,
            _ => REST + DAY * 4 + share,
        }
    };
    // Urgency has nothing to do with the order of names.
    (0..many).map(|nth| end(nth * 37 % many)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_renewed_and_what_is_not_is_left_alone() {
    let world = World::begin(&[LIFETIME / 4, LIFETIME / 2]).await;
    world.pass(HOUR).await;
    assert_eq!(world.ordered(), [host(0)]);
    assert_eq!(world.issued().len(), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_three_days_without_the_authority_all_that_is_due_is_renewed_within_an_hour_by_urgency()
 {
    let ends = ends(many());
    let world = World::begin(&ends).await;
    world.faults.set_down(true);
    world.pass(DAY * 3).await;
    let status = world.status().await;
    let failing = status
        .certificates
        .iter()
        .filter_map(|view| view.failure.as_ref());
    let sentences: BTreeSet<&str> = failing.map(|it| it.failure.sentence.as_str()).collect();
    assert!(!sentences.is_empty());
    for sentence in sentences {
        assert!(sentence.starts_with("authority ca: "), "{sentence}");
    }
    assert_eq!(world.requests(Endpoint::NewOrder), 0);
    let alerts = world.alerts();
    assert!(!alerts.is_empty());
    assert!(alerts.iter().all(|alert| !alert.contains("recovery")));

    let back = world.truth.now();
    world.faults.set_down(false);
    world.pass(HOUR).await;
    let is_due = |nth: &usize| later(START.parse().unwrap(), ends[*nth]) <= later(back, REST);
    let mut due: Vec<usize> = (0..ends.len()).filter(is_due).collect();
    due.sort_by_key(|nth| ends[*nth]);
    let ordered = world.ordered();
    for (place, nth) in due.iter().enumerate() {
        let was = ordered.iter().position(|name| *name == host(*nth));
        let was = was.unwrap_or_else(|| panic!("{} was not renewed", host(*nth)));
        assert!(
            was <= place + SEATS,
            "{} is the {place}th by urgency and was the {was}th",
            host(*nth)
        );
    }
    let renewed: BTreeSet<&String> = ordered.iter().collect();
    assert_eq!(renewed.len(), ordered.len(), "one order each");
    let later_ones = ordered.len() - due.len();
    assert!(
        later_ones <= ends.len() / 50,
        "{later_ones} that were not due"
    );
    assert_eq!(world.issued().len(), ordered.len());
    assert!(!world.status().await.is_failing());
    let said = world.alerts().split_off(alerts.len());
    assert!(!said.is_empty());
    assert!(said.iter().all(|alert| alert.contains("recovery")));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_makes_no_storm_and_renewals_go_by_the_authoritys() {
    for wrong in [YEAR, -YEAR, 3_600, -3_600] {
        // One for each of the next forty days.
        let ends: Vec<Duration> = (0..40).map(|day| REST + DAY * day + HOUR * 12).collect();
        let world = World::begin(&ends).await;
        world.pass(DAY).await;
        assert_eq!(world.ordered(), [host(0)], "{wrong}");
        world.wall.set(wrong);
        world.pass(DAY).await;
        let notice = world.notices();
        assert!(
            notice.contains("this machine's clock says "),
            "{wrong}: {notice}"
        );
        assert!(
            notice.contains(" and that of authority ca 2026-03-0"),
            "{wrong}: {notice}"
        );
        world.pass(DAY * 3).await;
        assert_eq!(world.ordered().len(), 5, "{wrong}: one a day");
        world.wall.set(-wrong);
        world.pass(DAY * 3).await;
        assert_eq!(world.notices(), "", "{wrong}");
        assert_eq!(world.ordered().len(), 8, "{wrong}: one a day");
        assert!(!world.status().await.is_failing());
        assert_eq!(world.alerts(), [""; 0], "{wrong}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_nobody_can_say_what_the_time_is_nothing_begins_and_then_all_goes_on() {
    let ends: Vec<Duration> = (0..40).map(|day| REST + DAY * day + HOUR * 12).collect();
    for wrong in [YEAR, -YEAR] {
        let world = World::begin(&ends).await;
        world.pass(DAY).await;
        world.faults.set_down(true);
        world.wall.set(wrong);
        world.pass(HOUR * 6).await;
        let (notice, status) = (world.notices(), world.status().await);
        assert!(
            notice.contains("this machine's clock went from 2026-03-02"),
            "{notice}"
        );
        assert!(
            notice.contains("is held back; set the clock if it is wrong"),
            "{notice}"
        );
        assert!(
            status
                .certificates
                .iter()
                .all(|view| view.failure.is_none()),
            "{wrong}"
        );
        world.wall.set(-wrong);
        world.pass(Duration::from_secs(120)).await;
        assert_eq!(
            world.notices(),
            "",
            "{wrong}: it is set right, and nobody need be asked"
        );
        assert_eq!(world.alerts(), [""; 0], "{wrong}");
        world.faults.set_down(false);
        world.pass(DAY * 2).await;
        assert_eq!(world.ordered().len(), 3, "{wrong}: one a day");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_for_a_week_renews_what_became_due_and_says_nothing() {
    let ends: Vec<Duration> = (0..40).map(|day| REST + DAY * day + HOUR * 12).collect();
    let world = World::begin(&ends).await;
    world.pass(DAY).await;
    world.suspend(7 * 86_400);
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(world.ordered().len(), 8);
    assert_eq!(world.notices(), "");
    world.pass(DAY).await;
    assert_eq!(world.ordered().len(), 9);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_for_an_hour_delays_what_is_due_and_loses_nothing() {
    let ends: Vec<Duration> = (0..40).map(|nth| HOUR * (3 + nth)).collect();
    let world = World::begin(&ends).await;
    world.fill_disk(true);
    world.pass(HOUR).await;
    assert_eq!(world.requests(Endpoint::NewOrder), 0);
    let notice = world.notices();
    assert!(notice.contains("nothing can be saved"), "{notice}");
    // Every five seconds one of them finds out whether there is room; not all of them, nor all the time.
    let tries = world.tries();
    assert!((300..10_000).contains(&tries), "{tries}");
    let alerts = world.alerts();
    assert!(
        alerts.iter().any(|alert| alert.contains("/nowhere")),
        "{alerts:?}"
    );
    // Of each its failure, and that half of its time is gone; each once.
    assert!(alerts.len() <= 80, "{alerts:?}");
    world.fill_disk(false);
    world.pass(HOUR).await;
    assert_eq!(world.issued().len(), 40);
    assert_eq!(world.ordered().len(), 40);
    assert_eq!(world.notices(), "");
    world.end().await;
}
