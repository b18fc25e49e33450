//! How often one credential may ask its DNS host: a token bucket, the pauses that the host asks for, and nothing for those
//! who were still waiting when it was refused.
//!
//! The core has one for each credential and hands it to every verb; whoever sends a request takes a turn first, so that
//! no plug-in counts, waits or remembers a refusal by itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ProviderError;
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
pub struct Meter {
    state: Arc<Mutex<State>>,
    /// How often the credential had been refused when whoever has this began.
    began: u64,
}

/// Why there is no turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed {
    /// It would have come after so long.
    TooLate(Duration),
    /// The credential was refused meanwhile, with these words.
    Refused(ProviderError),
}

#[derive(Debug, Default)]
struct State {
    rate: Option<Rate>,
    /// When the bucket would be full again, by the clock that never goes back.
    full_at: Duration,
    /// Nothing is sent before.
    not_before: Duration,
    /// How often the credential was refused.
    refusals: u64,
    /// The last of them, while it holds.
    refused: Option<ProviderError>,
}

impl Meter {
    /// One that lets `rate` pass.
    pub fn new(rate: Option<Rate>) -> Self {
        let state = State {
            rate,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            began: 0,
        }
    }

    /// The same meter for somebody who begins now, and so knows of the refusals until now.
    pub fn begin(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            began: self.state().refusals,
        }
    }

    /// The credential was refused: whoever had begun before sends nothing more.
    pub fn refuse(&self, error: ProviderError) {
        let mut state = self.state();
        state.refusals += 1;
        state.refused = Some(error);
    }

    /// The credential is refused no more, as far as anybody knows.
    pub fn accept(&self) {
        self.state().refused = None;
    }

    /// The refusal that holds, for those who come now.
    pub fn refused(&self) -> Option<ProviderError> {
        self.state().refused.clone()
    }

    /// The refusal that came since whoever has this began, if it holds.
    pub fn overtaken(&self) -> Option<ProviderError> {
        self.state().overtaken(self.began)
    }

    /// From now on it lets `rate` pass.
    pub fn limit(&self, rate: Option<Rate>) {
        self.state().rate = rate;
    }

    /// Waits for a turn, at most until `patience` is over: then the turn was not taken.
    pub async fn turn(&self, clock: &Clock, patience: Duration) -> Result<(), Missed> {
        let pause = self.book(clock.elapsed(), patience)?;
        if !pause.is_zero() {
            tracing::trace!(?pause, "waits for its turn at the DNS host");
            clock.sleep(pause).await;
        }
        self.overtaken()
            .map_or(Ok(()), |error| Err(Missed::Refused(error)))
    }

    /// The host wants to be left alone for so long.
    pub fn pause(&self, clock: &Clock, after: Duration) {
        let mut state = self.state();
        state.not_before = state.not_before.max(clock.elapsed() + after);
    }

    /// How long the next turn would have to wait.
    pub fn wait(&self, clock: &Clock) -> Duration {
        self.state().pause(clock.elapsed())
    }

    /// Takes the next turn, which comes after so long; not one that comes after more than `patience`.
    fn book(&self, now: Duration, patience: Duration) -> Result<Duration, Missed> {
        let mut state = self.state();
        if let Some(error) = state.overtaken(self.began) {
            return Err(Missed::Refused(error));
        }
        let pause = state.pause(now);
        if pause > patience {
            return Err(Missed::TooLate(pause));
        }
        if let Some(rate) = state.rate {
            state.full_at = state.full_at.max(now) + rate.every;
        }
        Ok(pause)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn overtaken(&self, began: u64) -> Option<ProviderError> {
        self.refused.clone().filter(|_| began < self.refusals)
    }

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
        let late = |after| Err(Missed::TooLate(after));
        assert_eq!(meter.book(Duration::ZERO, SECOND / 2), late(SECOND));
        assert_eq!(meter.book(Duration::ZERO, SECOND), Ok(SECOND));
        assert_eq!(meter.book(Duration::ZERO, SECOND), late(SECOND * 2));
    }

    #[tokio::test]
    async fn a_host_that_wants_to_be_left_alone_is_left_alone() {
        let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
        let meter = Meter::default();
        assert_eq!(meter.turn(&clock, Duration::ZERO).await, Ok(()));
        meter.pause(&clock, SECOND * 300);
        meter.pause(&clock, SECOND);
        let late = Missed::TooLate(SECOND * 300);
        assert_eq!(meter.turn(&clock, SECOND * 299).await, Err(late));
        hands.advance(SECOND * 300);
        assert_eq!(meter.turn(&clock, Duration::ZERO).await, Ok(()));
    }
}
