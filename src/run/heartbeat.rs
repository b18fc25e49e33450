//! Shows that the scheduler goes on: it marks each of its turns, and whoever asks sees how long ago the last one was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_providers::clock::Clock;

/// So many pauses without a turn, and it stands still.
const PAUSES: u32 = 3;

/// When the scheduler had its last turn; cheap to clone.
#[derive(Clone)]
pub struct Heartbeat {
    clock: Clock,
    /// By [`Clock::elapsed`], in milliseconds.
    last: Arc<AtomicU64>,
    longest: Duration,
}

impl Heartbeat {
    /// The first turn is now; between two of them lies at most `longest`.
    pub fn new(clock: Clock, longest: Duration) -> Self {
        let heartbeat = Self {
            clock,
            last: Arc::default(),
            longest,
        };
        heartbeat.mark();
        heartbeat
    }

    /// This is a turn.
    pub fn mark(&self) {
        let now = u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// How long ago the last turn was.
    pub fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.clock.elapsed().saturating_sub(last)
    }

    /// Whether the next turn should have come long ago.
    pub fn is_late(&self) -> bool {
        self.age() > self.longest * PAUSES
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn three_pauses_without_a_turn_are_too_long() {
        let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let heartbeat = Heartbeat::new(clock, Duration::from_secs(60));
        hands.advance(Duration::from_secs(180));
        assert!(!heartbeat.is_late());
        hands.advance(Duration::from_secs(1));
        assert!(heartbeat.is_late());
        heartbeat.mark();
        assert!(!heartbeat.is_late());
    }
}
