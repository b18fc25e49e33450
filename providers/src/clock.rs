//! Time: the system's, or a virtual one for tests. The only place that reads a clock or sleeps.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

/// A clock, cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System(Instant),
    Virtual(Arc<VirtualClock>),
    Runtime(tokio::time::Instant, Arc<Wall>),
}

impl Clock {
    /// The machine's clock.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the room that reads the clock"
    )]
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that stands still until [`VirtualClock::advance`].
    pub fn virtual_at(start: Timestamp) -> (Self, Arc<VirtualClock>) {
        let hands = Arc::new(VirtualClock {
            start,
            passed: Mutex::new(Duration::ZERO),
            moved: Notify::new(),
        });
        (Self(Source::Virtual(Arc::clone(&hands))), hands)
    }

    /// A clock that begins at `start` and goes as the runtime's timers go: where these are paused, a day passes in no
    /// time. Only [`Wall::set`] sets the time of day.
    pub fn of_runtime(start: Timestamp) -> (Self, Arc<Wall>) {
        let wall = Arc::new(Wall(Mutex::new(start)));
        let begin = tokio::time::Instant::now();
        (Self(Source::Runtime(begin, Arc::clone(&wall))), wall)
    }

    /// The wall-clock time.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the room that reads the clock"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System(_) => Timestamp::now(),
            Source::Virtual(hands) => later(hands.start, hands.passed()),
            Source::Runtime(begin, wall) => later(wall.start(), begin.elapsed()),
        }
    }

    /// Time passed since the clock was made; never goes back.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the room that reads the clock"
    )]
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System(since) => since.elapsed(),
            Source::Virtual(hands) => hands.passed(),
            Source::Runtime(begin, _) => begin.elapsed(),
        }
    }

    /// Waits for `duration`.
    #[allow(clippy::disallowed_methods, reason = "this is the room that sleeps")]
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Source::System(_) | Source::Runtime(..) => tokio::time::sleep(duration).await,
            Source::Virtual(hands) => {
                let until = hands.passed() + duration;
                loop {
                    let moved = hands.moved.notified();
                    if hands.passed() >= until {
                        return;
                    }
                    moved.await;
                }
            }
        }
    }

    /// `future`'s output, or `None` when `duration` is over first.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.sleep(duration) => None,
        }
    }

    /// How long it is until `deadline`; zero when it has passed.
    pub fn until(&self, deadline: Timestamp) -> Duration {
        between(self.now(), deadline)
    }
}

/// The hands of a virtual clock.
pub struct VirtualClock {
    start: Timestamp,
    passed: Mutex<Duration>,
    moved: Notify,
}

impl VirtualClock {
    /// Lets `duration` pass and wakes every sleeper whose time has come.
    pub fn advance(&self, duration: Duration) {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner) += duration;
        self.moved.notify_waiters();
    }

    fn passed(&self) -> Duration {
        *self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of day of a clock that goes as the runtime's timers go.
pub struct Wall(Mutex<Timestamp>);

impl Wall {
    /// Sets the time of day ahead by `seconds`, or back; no time passes by that.
    pub fn set(&self, seconds: i64) {
        let mut start = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by = Duration::from_secs(seconds.unsigned_abs());
        *start = match seconds < 0 {
            true => earlier(*start, by),
            false => later(*start, by),
        };
    }

    fn start(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `at` plus `duration`, at most the last instant that can be written.
pub fn later(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `at` minus `duration`, at least the first instant that can be written.
pub fn earlier(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// The time from `from` to `to`; zero when `to` is not after `from`.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_virtual_sleeper_wakes_when_its_time_has_come() {
        let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(5)).await }
        });
        tokio::task::yield_now().await;
        hands.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hands.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now().as_second(), 5);
    }
}
