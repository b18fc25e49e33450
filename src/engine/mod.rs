//! The order engine: pure. No I/O, no clock, no randomness, no async.
//!
//! A thing that lives (attempt, account, ledger entry, delivery) is data plus two functions. `pending(&self, now)`
//! says, from the saved state alone, what should be happening; `apply(&mut self, now, event)` records what did happen.
//! Whoever drives it performs the effects, feeds the events back, saves, and asks again. So a restart is not a special
//! path: load, ask, go on.
//!
//! What a thing knows beyond its saved state (what the authority or the nameservers last said) is not saved: it is
//! `#[serde(skip)]`, and not knowing it means asking again.

pub mod account;
pub mod attempt;
pub mod certificate;
pub mod delivery;
pub mod key;
pub mod ledger;
pub mod names;
pub mod order;
pub mod propagation;
pub mod reaction;
pub mod renewal;
#[cfg(test)]
mod simulator;
pub mod timekeeping;

use std::fmt;
use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What should be happening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending<E> {
    /// To be performed now, at the same time, each id at most once at a time.
    pub effects: Vec<(EffectId, E)>,
    /// When to ask again although nothing happened.
    pub wake: Option<Timestamp>,
}

/// Names one effect of one thing; the same state gives the same id, and a repeat after a failure has another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId(String);

impl EffectId {
    /// An id from what is done, to which part, for the how-manieth time.
    fn new(what: &str, part: usize, turn: u32) -> Self {
        Self(format!("{what}/{part}/{turn}"))
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An effect that is wanted, from an instant on.
struct Wanted<E> {
    id: EffectId,
    effect: E,
    from: Option<Timestamp>,
}

/// Nothing is put off for longer by one failure or one wish: an instant further ahead was noted by a clock that was wrong.
const LONGEST_PAUSE: Duration = Duration::from_secs(8 * 86_400);

/// Whether to wait at `now` until `from`.
pub fn is_ahead(from: Timestamp, now: Timestamp) -> bool {
    from > now && from <= later(now, LONGEST_PAUSE)
}

/// Splits what is wanted into what is due at `now` and when the rest is.
fn due<E>(wanted: Vec<Wanted<E>>, now: Timestamp) -> Pending<E> {
    let mut pending = Pending {
        effects: Vec::new(),
        wake: None,
    };
    for item in wanted {
        match item.from {
            Some(from) if is_ahead(from, now) => {
                pending.wake = Some(pending.wake.map_or(from, |wake| wake.min(from)));
            }
            _ => pending.effects.push((item.id, item.effect)),
        }
    }
    pending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_only_a_wrong_clock_can_have_noted_is_over() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let wanted = |from| Wanted {
            id: EffectId::new("look", 0, 0),
            effect: (),
            from: Some(at(from)),
        };
        let later = due(vec![wanted(86_400)], at(0));
        assert_eq!((later.effects.len(), later.wake), (0, Some(at(86_400))));
        let a_year = due(vec![wanted(365 * 86_400)], at(0));
        assert_eq!((a_year.effects.len(), a_year.wake), (1, None));
    }
}
