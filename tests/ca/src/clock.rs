//! The authority's own clock: the system's, or one that a test turns.
//!
//! Lifetimes, expiries and nonce ages are read from here. Deadlines on sockets are not: a peer
//! that says nothing costs real time, whatever the time of day is said to be.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Where the authority reads the time of day.
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Virtual(Arc<Mutex<Timestamp>>),
    Told(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] turns it. Clones turn together.
    pub fn virtual_at(start: Timestamp) -> Clock {
        Clock(Source::Virtual(Arc::new(Mutex::new(start))))
    }

    /// A clock that shows what `tell` says.
    pub fn told(tell: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock(Source::Told(Arc::new(tell)))
    }

    /// The time of day.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's time"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Virtual(now) => *now.lock().unwrap_or_else(PoisonError::into_inner),
            Source::Told(tell) => tell(),
        }
    }

    /// Turns a virtual clock forward. The system's clock is left as it is.
    pub fn advance(&self, by: Duration) {
        if let Source::Virtual(now) = &self.0 {
            let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = later(*now, by);
        }
    }
}

/// `by` after `at`, or the end of time where there is no such instant.
pub(crate) fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The same instant without its fraction: X.509 and most readers of RFC 3339 know whole seconds.
pub(crate) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// `work`, or `None` where a peer took longer than `limit` of real time.
#[allow(
    clippy::disallowed_methods,
    reason = "a deadline on a socket, in real time on purpose"
)]
pub(crate) async fn deadline<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_virtual_clock_turn_together() {
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        let clock = Clock::virtual_at(start);
        let other = clock.clone();
        clock.advance(Duration::from_secs(90));
        assert_eq!(other.now().as_second(), 1_700_000_090);
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        assert_eq!(later(Timestamp::MAX, Duration::MAX), Timestamp::MAX);
    }
}
