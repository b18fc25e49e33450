//! How often one credential may ask its DNS host: a token bucket, and the pauses that the host asks for.
//!
//! The core has one for each credential and hands it to every verb; whoever sends a request takes a turn first, so that
//! no plug-in counts, waits or remembers a refusal by itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// A pause that a DNS host asks for beyond this is taken as this: nothing may be put off for days by one header.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// So many requests at once, and then one more after each pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests that may follow each other at once.
    pub burst: u32,
    /// How long it takes until one more may be sent.
    pub every: Duration,
}

/// The meter of one credential; cheap to clone, all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rate: Option<Rate>,
    /// When the bucket would be full again, by the clock that never goes back.
    full_at: Duration,
    /// Nothing is sent before.
    not_before: Duration,
}

impl Meter {
    /// One that lets `rate` pass.
    pub fn new(rate: Option<Rate>) -> Self {
        Self(Arc::new(Mutex::new(State {
            rate,
            ..State::default()
        })))
    }

    /// From now on it lets `rate` pass.
    pub fn limit(&self, rate: Option<Rate>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.rate = rate;
    }

    /// Waits for a turn, at most until `patience` is over: then the turn was not taken, and would have come so much
    /// later.
    pub async fn turn(&self, clock: &Clock, patience: Duration) -> Result<(), Duration> {
        let pause = self.book(clock.elapsed(), patience)?;
        if !pause.is_zero() {
            tracing::trace!(?pause, "waits for its turn at the DNS host");
            clock.sleep(pause).await;
        }
        Ok(())
    }

    /// The host wants to be left alone for so long.
    pub fn pause(&self, clock: &Clock, after: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.not_before = state.not_before.max(clock.elapsed() + after);
    }

    /// How long the next turn would have to wait.
    pub fn wait(&self, clock: &Clock) -> Duration {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.pause(clock.elapsed())
    }

    /// Takes the next turn, which comes after so long; not one that comes after more than `patience`.
    fn book(&self, now: Duration, patience: Duration) -> Result<Duration, Duration> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = state.pause(now);
        if pause > patience {
            return Err(pause);
        }
        if let Some(rate) = state.rate {
            state.full_at = state.full_at.max(now) + rate.every;
        }
        Ok(pause)
    }
}

impl State {
    fn pause(&self, now: Duration) -> Duration {
        let empty = self.rate.map_or(Duration::ZERO, |rate| {
            // What is booked beyond a full bucket comes one by one.
            let spare = rate.every * rate.burst.saturating_sub(1);
            self.full_at.saturating_sub(spare).saturating_sub(now)
        });
        empty.max(self.not_before.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn meter(burst: u32) -> Meter {
        Meter::new(Some(Rate {
            burst,
            every: SECOND,
        }))
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let meter = meter(3);
        let pauses: Vec<u64> = (0..6)
            .map(|_| meter.book(Duration::ZERO, SECOND * 60).unwrap().as_secs())
            .collect();
        assert_eq!(pauses, [0, 0, 0, 1, 2, 3]);
        assert_eq!(meter.book(SECOND * 100, SECOND), Ok(Duration::ZERO));
    }

    #[test]
    fn a_turn_that_comes_too_late_is_not_taken() {
        let meter = meter(1);
        assert_eq!(meter.book(Duration::ZERO, SECOND), Ok(Duration::ZERO));
        assert_eq!(meter.book(Duration::ZERO, SECOND / 2), Err(SECOND));
        assert_eq!(meter.book(Duration::ZERO, SECOND), Ok(SECOND));
        assert_eq!(meter.book(Duration::ZERO, SECOND), Err(SECOND * 2));
    }

    #[tokio::test]
    async fn a_host_that_wants_to_be_left_alone_is_left_alone() {
        let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
        let meter = Meter::default();
        assert_eq!(meter.turn(&clock, Duration::ZERO).await, Ok(()));
        meter.pause(&clock, SECOND * 300);
        meter.pause(&clock, SECOND);
        assert_eq!(meter.turn(&clock, SECOND * 299).await, Err(SECOND * 300));
        hands.advance(SECOND * 300);
        assert_eq!(meter.turn(&clock, Duration::ZERO).await, Ok(()));
    }
}
