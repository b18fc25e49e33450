//! What must hold in every life. It keeps its own memory of what was committed and what was seen, so that a bug of the
//! worker does not blind it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use super::super::ledger::Owner;
use super::super::propagation::Outcome;
use super::Kind;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Invariant {
    /// A key is in the store before it is used, and stays while it is needed.
    NoKeyLost,
    /// Nothing of ours is at the host at the end.
    NoTxtLeft,
    /// Values of somebody else are never touched.
    ForeignUntouched,
    /// No response before every server that answers has shown the value.
    NeverUnproven,
    /// No value is withdrawn while the authority looks for it on behalf of an attempt that goes on.
    NotTooEarly,
    /// No newOrder while an order is known.
    OneOrder,
    /// Not more orders than attempts and lost replies.
    OrdersCounted,
    /// No value is added that is not saved as asked for.
    SavedBeforeAsked,
    /// Nobody is refused for the fault of another in the same batch.
    OwnFault,
    /// No request before the authority's Retry-After has passed.
    Floor,
    /// Every certificate that was issued for a known order is kept, once.
    CertificateKept,
    /// What is delivered is what is current.
    Delivered,
    /// Every certificate is had, unless the world forbids it; then it fails with a reason.
    Fulfilled,
    /// One kind of effect for one thing is never done twice at once.
    OnceAtATime,
    /// Every life ends, and nothing spins.
    Ends,
}

/// An invariant that does not hold.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.detail)
    }
}

/// An authorization of an attempt: slot and part.
type Asker = (usize, usize);

/// The memory of one life.
#[derive(Default)]
pub(super) struct Checks {
    /// The first thing that was wrong.
    pub(super) violation: Option<Violation>,
    /// Until when a slot (or the account: `None`) may send nothing.
    floors: BTreeMap<Option<usize>, Timestamp>,
    /// Orders that the store knows of, of attempts that go on, by slot.
    open: BTreeMap<usize, String>,
    /// Attempts begun, by (slot, epoch).
    attempts: BTreeSet<(usize, u64)>,
    /// Serials of saved certificates.
    kept: BTreeSet<u64>,
    /// How many were saved for each slot.
    generations: BTreeMap<usize, u32>,
    /// Who has asked for a record in this process, and since when.
    asked: BTreeMap<Owner, Timestamp>,
    /// What each server last showed to whom in this process, asked for which value.
    shown: BTreeMap<(Asker, String, usize), Outcome>,
}

impl Checks {
    pub(super) fn violated(&mut self, invariant: Invariant, detail: impl Into<String>) {
        self.violation.get_or_insert(Violation {
            invariant,
            detail: detail.into(),
        });
    }

    pub(super) fn must(
        &mut self,
        holds: bool,
        invariant: Invariant,
        detail: impl FnOnce() -> String,
    ) {
        if !holds {
            self.violated(invariant, detail());
        }
    }

    /// A process died: what it has seen is gone.
    pub(super) fn process_died(&mut self) {
        self.shown.clear();
        self.asked.clear();
    }

    /// The authority's wish was heard and saved.
    pub(super) fn floor(&mut self, who: Option<usize>, until: Timestamp) {
        let floor = self.floors.entry(who).or_insert(until);
        *floor = (*floor).max(until);
    }

    /// A request goes out.
    pub(super) fn request(&mut self, who: Option<usize>, now: Timestamp, what: Kind) {
        if let Some(until) = self.floors.get(&who).filter(|until| now < **until) {
            let detail = format!("{what:?} of {who:?} at {now}, not before {until}");
            self.violated(Invariant::Floor, detail);
        }
    }

    pub(super) fn asked(&mut self, now: Timestamp, owner: &Owner) {
        self.asked.entry(owner.clone()).or_insert(now);
    }

    pub(super) fn asked_at(&self, owner: &Owner) -> Option<Timestamp> {
        self.asked.get(owner).copied()
    }

    pub(super) fn begun(&mut self, slot: usize, epoch: u64) {
        self.attempts.insert((slot, epoch));
    }

    pub(super) fn new_order(&mut self, slot: usize) {
        if let Some(url) = self.open.get(&slot) {
            let detail = format!("newOrder for c{slot} while {url} is known");
            self.violated(Invariant::OneOrder, detail);
        }
    }

    /// What the store knows of an attempt after a commit.
    pub(super) fn order_known(&mut self, slot: usize, url: Option<&str>, ended: bool) {
        match url.filter(|_| !ended) {
            Some(url) => {
                self.open.entry(slot).or_insert_with(|| url.to_owned());
            }
            None if ended => {
                self.open.remove(&slot);
            }
            None => {}
        }
    }

    pub(super) fn kept(&mut self, slot: usize, serial: u64) {
        *self.generations.entry(slot).or_default() += 1;
        if !self.kept.insert(serial) {
            self.violated(
                Invariant::CertificateKept,
                format!("certificate {serial} was saved twice"),
            );
        }
    }

    pub(super) fn generations(&self, slot: usize) -> u32 {
        self.generations.get(&slot).copied().unwrap_or_default()
    }

    pub(super) fn has_kept(&self, serial: u64) -> bool {
        self.kept.contains(&serial)
    }

    pub(super) fn shown(&mut self, asker: Asker, value: &str, server: usize, outcome: &Outcome) {
        self.shown
            .insert((asker, value.to_owned(), server), outcome.clone());
    }

    /// A response goes out for `value`, which `servers` servers have.
    pub(super) fn respond(&mut self, asker: Asker, value: &str, servers: usize) {
        let mut agreeing = 0;
        for server in 0..servers {
            let wrong = match self.shown.get(&(asker, value.to_owned(), server)) {
                Some(Outcome::Values(values)) if values.iter().any(|shown| shown == value) => {
                    agreeing += 1;
                    continue;
                }
                Some(Outcome::Values(_)) => "has not shown",
                Some(_) => continue,
                None => "was never asked for",
            };
            return self.violated(
                Invariant::NeverUnproven,
                format!("server {server} {wrong} {value}"),
            );
        }
        self.must(agreeing > 0, Invariant::NeverUnproven, || {
            format!("no server showed {value}")
        });
    }

    /// The orders of the authority, each with its (slot, epoch) and whether nobody can be blamed for not knowing it.
    pub(super) fn orders(&mut self, orders: impl Iterator<Item = (usize, u64, bool)>) {
        let mut counted: BTreeMap<(usize, u64), u32> = BTreeMap::new();
        for (slot, epoch, _) in orders.filter(|(.., excused)| !excused) {
            *counted.entry((slot, epoch)).or_default() += 1;
        }
        for ((slot, epoch), count) in counted {
            let most = u32::from(self.attempts.contains(&(slot, epoch)));
            self.must(count <= most, Invariant::OrdersCounted, || {
                format!("{count} orders for attempt {epoch} of c{slot}")
            });
        }
    }
}
