//! Whole lives of the engine under a virtual clock, with a fault or a death before and after every effect.
//!
//! One seed is one life: certificates, an authority and a DNS host with their habits, faults from a budget, deaths at
//! chosen moments. Everything is drawn from the seed and nothing else, so a printed seed repeats its life:
//! `SEED=123 cargo test --lib engine::simulator::one_life -- --nocapture`.
//!
//! `worker`, `flight`, `feedback`, `batch` and `effects` do what the real worker does, `life` turns its clock; `authority`, `host`, `store` and `world` are what it
//! works in; `check` says what must hold; `mutants` are bugs that must be caught.

mod authority;
mod batch;
mod check;
mod effects;
mod feedback;
mod flight;
mod host;
mod life;
mod mutants;
mod store;
mod worker;
mod world;

use std::time::Duration;

use check::Violation;
use life::Life;
use mutants::Mutant;
use world::World;

/// Lives of one ordinary test run; with `COUNTERSIGN_FULL`.
const LIVES: u64 = 20_000;
const LIVES_IN_FULL: u64 = 200_000;
/// Every kind of effect is crashed so often at every moment.
const ENOUGH_CRASHES: u64 = 100;
/// A bug must be caught within so many lives.
const LIVES_PER_MUTANT: u64 = 4_000;
/// The run is divided among so many threads.
const THREADS: u64 = 2;
/// A thread stops after so many failures.
const FAILURES_SHOWN: usize = 5;

/// A kind of effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    AccountKey,
    Register,
    Begin,
    NewOrder,
    FetchOrder,
    FetchAuthorization,
    Locate,
    Present,
    Settle,
    Observe,
    Respond,
    Release,
    MakeKey,
    Finalize,
    Download,
    Ensure,
    Remove,
    Look,
    Inspect,
    Install,
    Reload,
}

impl Kind {
    const ALL: [Self; 21] = [
        Self::AccountKey,
        Self::Register,
        Self::Begin,
        Self::NewOrder,
        Self::FetchOrder,
        Self::FetchAuthorization,
        Self::Locate,
        Self::Present,
        Self::Settle,
        Self::Observe,
        Self::Respond,
        Self::Release,
        Self::MakeKey,
        Self::Finalize,
        Self::Download,
        Self::Ensure,
        Self::Remove,
        Self::Look,
        Self::Inspect,
        Self::Install,
        Self::Reload,
    ];

    /// Whether a process can die at `moment` of it: the beginning of an attempt is a commit and nothing else.
    fn has(self, moment: Moment) -> bool {
        self != Self::Begin || matches!(moment, Moment::AfterApply | Moment::AfterCommit)
    }
}

/// When a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Nothing has reached the other side.
    BeforeAct,
    /// It was done, and nobody here knows.
    AfterAct,
    /// It was applied and not saved.
    AfterApply,
    /// It was saved.
    AfterCommit,
}

impl Moment {
    const ALL: [Self; 4] = [
        Self::BeforeAct,
        Self::AfterAct,
        Self::AfterApply,
        Self::AfterCommit,
    ];
}

/// A death in wait: at the `nth` time that `kind` comes to `moment`.
struct Crash {
    kind: Kind,
    moment: Moment,
    nth: u32,
}

/// How often each kind was crashed at each moment.
#[derive(Clone, Default)]
struct Counts([[u64; Moment::ALL.len()]; Kind::ALL.len()]);

impl Counts {
    fn add(&mut self, kind: Kind, moment: Moment) {
        self.0[kind as usize][moment as usize] += 1;
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *mine += theirs;
        }
    }

    fn print(&self) {
        println!(
            "{:20} {:>10} {:>10} {:>10} {:>10}",
            "crashes", "before act", "acted", "applied", "committed"
        );
        for kind in Kind::ALL {
            let row = self.0[kind as usize]
                .map(|count| format!("{count:>10}"))
                .join(" ");
            println!("{:20} {row}", format!("{kind:?}"));
        }
    }
}

/// A small generator of draws (SplitMix64), so that a seed means the same life everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn millis(&mut self, shortest: u64, longest: u64) -> Duration {
        Duration::from_millis(shortest + self.below(longest - shortest + 1))
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// One life; what was wrong with it, if anything.
fn live(seed: u64, mutant: Option<Mutant>, counts: &mut Counts, trace: bool) -> Option<Violation> {
    let mut rng = Rng(seed);
    let crashes = draw_crashes(&mut rng);
    let mut life = Life::new(World::draw(rng), mutant, crashes, counts, trace);
    life.live();
    life.checks.violation.take()
}

fn draw_crashes(rng: &mut Rng) -> Vec<Crash> {
    let count = match rng.below(4) {
        0 => 0,
        1 => 1,
        _ => 1 + rng.below(4),
    };
    let mut crashes = Vec::new();
    while (crashes.len() as u64) < count {
        let crash = Crash {
            kind: *rng.pick(&Kind::ALL),
            moment: *rng.pick(&Moment::ALL),
            nth: 1 + u32::try_from(rng.below(4).saturating_sub(1)).unwrap(),
        };
        if crash.kind.has(crash.moment) {
            crashes.push(crash);
        }
    }
    crashes
}

/// Lives the seeds below `lives` on all threads; some failures of each thread and all counts.
fn run(lives: u64) -> (Vec<(u64, Violation)>, Counts) {
    let part = |thread: u64| {
        let mut counts = Counts::default();
        let seeds = (thread..lives).step_by(THREADS as usize);
        let failures = seeds.filter_map(|seed| {
            let violation = live(seed, None, &mut counts, false)?;
            Some((seed, violation))
        });
        let failures: Vec<_> = failures.take(FAILURES_SHOWN).collect();
        (failures, counts)
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || part(thread)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for (failed, part) in parts {
        counts.merge(&part);
        failures.extend(failed);
    }
    (failures, counts)
}

#[allow(
    clippy::disallowed_methods,
    reason = "a seed and the length of a run are given to a test from outside"
)]
fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_life_ends_well_whatever_fails_and_wherever_it_dies() {
    let lives = if asked("COUNTERSIGN_FULL") == Some(1) {
        LIVES_IN_FULL
    } else {
        LIVES
    };
    let (failures, counts) = run(lives);
    if let Some((seed, violation)) = failures.first() {
        live(*seed, None, &mut Counts::default(), true);
        for (seed, violation) in &failures {
            println!("SEED={seed} {violation}");
        }
        panic!(
            "{violation}
again: SEED={seed} cargo test --lib engine::simulator::one_life -- --nocapture"
        );
    }
    println!("{lives} lives");
    counts.print();
    for kind in Kind::ALL {
        for moment in Moment::ALL.into_iter().filter(|moment| kind.has(*moment)) {
            let count = counts.0[kind as usize][moment as usize];
            assert!(
                count >= ENOUGH_CRASHES,
                "{kind:?} was crashed {count} times {moment:?}"
            );
        }
    }
}

/// Repeats the life of `SEED`, with everything that happens in it.
#[test]
fn one_life() {
    let seed = asked("SEED").unwrap_or_default();
    let violation = live(seed, None, &mut Counts::default(), asked("SEED").is_some());
    assert!(violation.is_none(), "{violation:?}");
}

#[test]
fn catches_every_deliberate_bug() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let mut seeds = 0..LIVES_PER_MUTANT;
        let caught = seeds.find_map(|seed| {
            live(seed, Some(mutant), &mut Counts::default(), false)
                .map(|violation| (seed, violation))
        });
        match caught {
            Some((seed, violation)) => println!(
                "{:32} caught by {:20} after {:>4} lives",
                format!("{mutant:?}"),
                format!("{:?}", violation.invariant),
                seed + 1
            ),
            None => missed.push(mutant),
        }
    }
    assert!(
        missed.is_empty(),
        "not caught within {LIVES_PER_MUTANT} lives: {missed:?}"
    );
}
