//! What many certificates cost: a store of 10,000 and of 100,000 under the real daemon, and 1,000 issued in one go by the
//! test authority. Nothing is asserted about time. `cargo bench --bench scale -- 10000` takes only that size.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench measures real time, prints what it finds, and ends when it cannot go on"
)]

mod child;
mod stage;

use std::time::{Duration, Instant};

use child::Child;
use stage::Stage;

/// Sizes of the store.
const SIZES: [usize; 2] = [10_000, 100_000];
/// Certificates that are issued in one go.
const ISSUED: usize = 1_000;
/// How long nothing is to happen.
const IDLE: Duration = Duration::from_secs(60);
/// Certificates that are added one after the other.
const ADDED: usize = 5;

fn main() {
    let wanted: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let runs = |size: &usize| wanted.is_empty() || wanted.contains(size);
    // An error says that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    for size in SIZES.iter().filter(|size| runs(size)) {
        keep(*size);
    }
    if runs(&ISSUED) {
        issue(ISSUED);
    }
}

/// A daemon that has everything and waits.
fn keep(size: usize) {
    let mut stage = Stage::build(size);
    stage.seed(size);
    println!(
        "{size} certificates, store of {:.0} MB",
        stage.store_bytes() as f64 / 1e6
    );
    let started = Instant::now();
    let child = Child::run(&stage);
    println!("  start to ready     {:>9.0} ms", millis(started.elapsed()));
    child.settle();
    let before = child.cpu();
    std::thread::sleep(IDLE);
    let idle = child.cpu() - before;
    println!(
        "  resident           {:>9.1} MB",
        child.resident() as f64 / 1e6
    );
    println!(
        "  idle               {:>9.3} % of a core, over {} s",
        100.0 * idle.as_secs_f64() / IDLE.as_secs_f64(),
        IDLE.as_secs()
    );
    let mut added: Vec<Duration> = (0..ADDED)
        .map(|nth| {
            stage.add(size + nth);
            let asked = Instant::now();
            child.reload();
            let ordered = stage.next_order() - asked;
            child.settle();
            ordered
        })
        .collect();
    added.sort_unstable();
    println!(
        "  added, to newOrder {:>9.0} ms (median of {ADDED}), {:.0} ms the slowest",
        millis(added[ADDED / 2]),
        millis(added[ADDED - 1])
    );
    println!(
        "  resident at last   {:>9.1} MB",
        child.resident() as f64 / 1e6
    );
    child.stop();
}

/// Everything is missing at once.
fn issue(many: usize) {
    let stage = Stage::build(many);
    let started = Instant::now();
    let (cpu, resident) = Child::renew(&stage);
    let took = started.elapsed();
    assert_eq!(stage.orders(), many, "one order for each");
    println!("{many} certificates issued by the test authority, both on this machine");
    println!(
        "  certificates       {:>9.1} a second",
        many as f64 / took.as_secs_f64()
    );
    println!(
        "  processor time     {:>9.2} ms each",
        millis(cpu) / many as f64
    );
    println!("  resident at most   {:>9.1} MB", resident as f64 / 1e6);
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
