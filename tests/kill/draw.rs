//! Which instants: drawn from what happens in lives without a kill.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::events::{ANYWHERE, Kinds};

/// Every kind of instant is hit at least so often.
pub(super) const HITS: usize = 3;
/// Names that the zone has; a scenario uses up to three.
pub(super) const NAMES: usize = 1500;
/// A certificate survives so many kills in a row at most.
const MOST_KILLS: usize = 4;

/// The `nth` time that something of this kind happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instant {
    pub(super) kind: String,
    pub(super) nth: usize,
}

/// One life: killed at each of these instants in turn, then run to its end.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) number: usize,
    pub(super) kills: Vec<Instant>,
    pub(super) certificates: usize,
    pub(super) rejects_nonces: bool,
    pub(super) slow: bool,
}

impl Scenario {
    pub(super) fn undisturbed(number: usize, certificates: usize) -> Self {
        Self {
            number,
            kills: Vec::new(),
            certificates,
            rejects_nonces: false,
            slow: false,
        }
    }

    /// The certificates' names in the configuration.
    pub(super) fn names(&self) -> Vec<String> {
        let first = 3 * self.number;
        (first..first + self.certificates)
            .map(|n| format!("h{n}"))
            .collect()
    }

    /// What stands under `certificates`.
    pub(super) fn certificates(&self) -> String {
        let mut text = String::new();
        for name in self.names() {
            writeln!(
                text,
                "  {name}:
    names: [{name}.example.test, \"*.{name}.example.test\"]
    deliver: [{{files: {{directory: \"{{dir}}/out/{name}\"}}, reload: [/usr/bin/touch, \"{{dir}}/told-{name}\"]}}]"
            )
            .expect("a String");
        }
        text
    }
}

/// A small generator (SplitMix64): the same numbers everywhere for one seed.
pub(super) struct Draw(pub(super) u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// What happens in lives without a kill, in order.
pub(super) struct Usual {
    /// With one certificate.
    pub(super) one: Vec<Kinds>,
    /// With three.
    pub(super) three: Vec<Kinds>,
}

impl Usual {
    /// The same with these kinds of instants only, and those that nobody has thought of.
    pub(super) fn only(mut self, keeps: impl Fn(&str) -> bool) -> Self {
        for kinds in self.one.iter_mut().chain(&mut self.three) {
            kinds.retain(|kind| kind == ANYWHERE || keeps(kind));
        }
        self
    }

    pub(super) fn kinds(&self) -> BTreeSet<String> {
        self.one.iter().flatten().cloned().collect()
    }
}

/// Scenarios by which every kind of `usual` is hit at least [`HITS`] times, with at least `least` kills in all.
/// `planned` says what is sure already; the scenarios are counted on from `next`.
pub(super) fn plan(
    draw: &mut Draw,
    usual: &Usual,
    planned: &mut BTreeMap<String, usize>,
    least: usize,
    next: &mut usize,
) -> Vec<Scenario> {
    for kind in usual.kinds() {
        planned.entry(kind).or_default();
    }
    let mut scenarios = Vec::new();
    let mut kills = 0;
    while kills < least || planned.values().any(|count| *count < HITS) {
        let (certificates, events) = match draw.one_in(4) {
            true => (3, &usual.three),
            false => (1, &usual.one),
        };
        let instants = life(draw, events, planned);
        kills += instants.len();
        scenarios.push(Scenario {
            number: *next,
            kills: instants,
            certificates,
            rejects_nonces: draw.one_in(4),
            slow: draw.one_in(4),
        });
        *next += 1;
        assert!(3 * *next < NAMES, "the zone has too few names");
    }
    scenarios
}

/// The instants of one life: the first is of a kind that was planned least, or anywhere; those of the runs after it
/// are of what comes later in a life without a kill.
fn life(draw: &mut Draw, usual: &[Kinds], planned: &mut BTreeMap<String, usize>) -> Vec<Instant> {
    // There may be instants that nobody has thought of.
    let kind = match draw.one_in(5) {
        true => ANYWHERE.to_owned(),
        false => rarest(draw, usual, planned).expect("a life has events"),
    };
    let places: Vec<usize> = (0..usual.len())
        .filter(|at| usual[*at].contains(&kind))
        .collect();
    let mut place = places[draw.below(places.len())];
    let so_far = usual[..=place].iter();
    let nth = so_far.filter(|kinds| kinds.contains(&kind)).count();
    for kind in &usual[place] {
        *planned.entry(kind.clone()).or_default() += 1;
    }
    let mut instants = vec![Instant { kind, nth }];
    while instants.len() < MOST_KILLS && !draw.one_in(3) {
        let later = &usual[place + 1..];
        let Some(kind) = rarest(draw, later, planned) else {
            break;
        };
        let next = later.iter().position(|kinds| kinds.contains(&kind));
        place += 1 + next.expect("drawn from there");
        *planned.entry(kind.clone()).or_default() += 1;
        instants.push(Instant { kind, nth: 1 });
    }
    instants
}

/// One of the kinds in `events` that were planned least.
fn rarest(draw: &mut Draw, events: &[Kinds], planned: &BTreeMap<String, usize>) -> Option<String> {
    let kinds: BTreeSet<&String> = events.iter().flatten().collect();
    let count = |kind: &String| planned.get(kind).copied().unwrap_or(0);
    let fewest = kinds.iter().map(|kind| count(kind)).min()?;
    let rare: Vec<&&String> = kinds.iter().filter(|kind| count(kind) == fewest).collect();
    Some(rare[draw.below(rare.len())].to_string())
}
