//! Whether the machine's clock can be believed: compared with what it said before, and with what authorities say.
//!
//! A clock that goes wrong by a year makes everything due at once, or nothing ever. So what waits for its time waits
//! also while there is a doubt, and a doubt ends when an authority was heard, whose own time is known from then on.

use std::time::Duration;

use countersign_providers::clock::{between, earlier, later};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A clock that goes ahead or back by less was only corrected.
pub const CLOCK_STEP: Duration = Duration::from_secs(300);

/// The latest time that was believed, kept over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Then.
    pub at: Timestamp,
}

/// Why the clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing contradicts it, and no authority was heard since the start.
    Unasked,
    /// It went from one time to another, and that was not time that passed.
    Jumped {
        /// What it should be.
        from: Timestamp,
        /// What it is.
        to: Timestamp,
    },
}

/// Follows the clock. It is shown the time of day and the time that has passed since some fixed instant.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    mark: Timestamp,
    /// The time that was last believed, and how much had passed then.
    believed: Option<(Timestamp, Duration)>,
    doubt: Option<Doubt>,
}

impl Timekeeper {
    /// One that begins where another process ended.
    pub fn new(mark: Option<Mark>) -> Self {
        Self {
            mark: mark.map_or(Timestamp::MIN, |mark| mark.at),
            believed: None,
            doubt: Some(Doubt::Unasked),
        }
    }

    /// Looks at the clock.
    pub fn look(&mut self, now: Timestamp, passed: Duration) {
        let expected = match self.believed {
            Some((at, then)) => later(at, passed.saturating_sub(then)),
            // While nobody was there, any time may have passed.
            None => self.mark.max(now),
        };
        if is_near(now, expected) {
            if matches!(self.doubt, Some(Doubt::Jumped { .. })) {
                // It was set right again.
                self.doubt = self.believed.is_none().then_some(Doubt::Unasked);
            }
        } else {
            self.doubt = Some(Doubt::Jumped {
                from: expected,
                to: now,
            });
        }
        if self.doubt.is_none() {
            self.believe(now, passed);
        }
    }

    /// An authority was heard since the last look: where its time is another, that is known now.
    pub fn heard(&mut self, now: Timestamp, passed: Duration) {
        self.doubt = None;
        self.believe(now, passed);
    }

    /// Why the clock is not believed, if so.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// What the next process is to know.
    pub fn mark(&self) -> Mark {
        Mark { at: self.mark }
    }

    fn believe(&mut self, now: Timestamp, passed: Duration) {
        self.mark = now;
        self.believed = Some((now, passed));
    }
}

/// What an authority said of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The time by its clock.
    pub theirs: Timestamp,
    /// The time by ours when it came.
    pub ours: Timestamp,
    /// How much had passed then since some fixed instant.
    pub passed: Duration,
}

impl Word {
    /// How much its clock is ahead of ours. Nothing when our clock has jumped since.
    pub fn ahead(&self, now: Timestamp, passed: Duration) -> Option<SignedDuration> {
        let expected = later(self.ours, passed.saturating_sub(self.passed));
        is_near(now, expected).then(|| match is_near(self.theirs, self.ours) {
            true => SignedDuration::ZERO,
            false => self.theirs.duration_since(self.ours),
        })
    }
}

/// Whether two times are the same but for a correction.
pub fn is_near(one: Timestamp, other: Timestamp) -> bool {
    between(one, other).max(between(other, one)) <= CLOCK_STEP
}

/// When, by a clock that `ahead` is added to for the right time, it is `at`.
pub fn by_own_clock(at: Timestamp, ahead: SignedDuration) -> Timestamp {
    match ahead.is_negative() {
        true => later(at, ahead.unsigned_abs()),
        false => earlier(at, ahead.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i64 = 365 * 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn passed(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One that an authority confirmed at the time 1000.
    fn sure() -> Timekeeper {
        let mut keeper = Timekeeper::new(None);
        keeper.look(at(1_000), passed(0));
        keeper.heard(at(1_000), passed(0));
        keeper
    }

    #[test]
    fn is_in_doubt_until_an_authority_was_heard() {
        let mut keeper = Timekeeper::new(None);
        keeper.look(at(1_000), passed(0));
        assert_eq!(keeper.doubt(), Some(Doubt::Unasked));
        keeper.heard(at(1_000), passed(0));
        keeper.look(at(2_000), passed(1_000));
        assert_eq!(keeper.doubt(), None);
        assert_eq!(keeper.mark().at, at(2_000));
    }

    #[test]
    fn a_jump_either_way_is_a_doubt_and_a_correction_is_none() {
        for jump in [YEAR, -YEAR, 3_600, -3_600] {
            let mut keeper = sure();
            keeper.look(at(1_010 + jump), passed(10));
            let doubt = Doubt::Jumped {
                from: at(1_010),
                to: at(1_010 + jump),
            };
            assert_eq!(keeper.doubt(), Some(doubt));
            assert_eq!(keeper.mark().at, at(1_000), "what is doubted is not kept");
        }
        let mut keeper = sure();
        keeper.look(at(1_290), passed(0));
        assert_eq!(keeper.doubt(), None);
    }

    #[test]
    fn a_clock_that_is_set_right_again_is_believed_without_asking() {
        let mut keeper = sure();
        keeper.look(at(1_010 + YEAR), passed(10));
        keeper.look(at(1_100), passed(100));
        assert_eq!(keeper.doubt(), None);
    }

    #[test]
    fn a_jump_that_an_authority_was_heard_after_is_over() {
        let mut keeper = sure();
        keeper.look(at(1_000 + 7 * 86_400), passed(10));
        keeper.heard(at(1_000 + 7 * 86_400), passed(10));
        keeper.look(at(1_001 + 7 * 86_400), passed(11));
        assert_eq!(keeper.doubt(), None);
    }

    #[test]
    fn a_start_below_what_was_believed_is_a_jump_and_one_above_is_none() {
        let mark = Some(Mark { at: at(YEAR) });
        let mut keeper = Timekeeper::new(mark);
        keeper.look(at(0), passed(0));
        let doubt = Doubt::Jumped {
            from: at(YEAR),
            to: at(0),
        };
        assert_eq!(keeper.doubt(), Some(doubt));
        keeper.heard(at(0), passed(1));
        assert_eq!(keeper.mark().at, at(0), "the mark was wrong");
        let mut keeper = Timekeeper::new(mark);
        keeper.look(at(2 * YEAR), passed(0));
        assert_eq!(keeper.doubt(), Some(Doubt::Unasked));
    }

    #[test]
    fn what_an_authority_said_holds_until_our_clock_jumps() {
        let word = Word {
            theirs: at(4_600),
            ours: at(1_000),
            passed: passed(0),
        };
        let hour = Some(SignedDuration::from_secs(3_600));
        assert_eq!(word.ahead(at(2_000), passed(1_000)), hour);
        assert_eq!(word.ahead(at(5_600), passed(1_000)), None);
        let near = Word {
            theirs: at(1_003),
            ..word
        };
        assert_eq!(near.ahead(at(1_000), passed(0)), Some(SignedDuration::ZERO));
    }

    #[test]
    fn an_instant_of_the_right_time_is_found_on_a_wrong_clock() {
        assert_eq!(
            by_own_clock(at(100), SignedDuration::from_secs(-60)),
            at(160)
        );
        assert_eq!(by_own_clock(at(100), SignedDuration::from_secs(60)), at(40));
    }
}
