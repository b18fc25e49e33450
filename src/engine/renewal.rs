//! When the next attempt is due: share of the lifetime, changed specification, back-off.

use std::time::Duration;

use countersign_providers::clock::{between, earlier, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::certificate::{Issued, Trouble};

/// Pauses after the first failures in a row; after them, daily (Let's Encrypt's integration guide).
const LADDER: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(6_000),
];
/// The pause that the ladder ends with.
const DAILY: Duration = Duration::from_secs(86_400);
/// With a certificate that runs out, a pause is at most this part of what is left.
const SHARE_OF_REST: u32 = 10;
/// The jitter is at most this part of the lifetime, before two thirds of it have passed.
const JITTER_SHARE: u32 = 100;

/// When an attempt is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// From then on; the first instant there is when it is due at once.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// Why an attempt is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// There is no certificate.
    Missing,
    /// Names, key or profile are others now.
    Changed,
    /// Its time has come.
    Renewal,
    /// The last attempt failed.
    Retry,
}

/// When the next attempt for a certificate is due; `is_other` says whether something else is wanted now.
pub fn due(
    now: Timestamp,
    current: Option<&Issued>,
    trouble: Option<&Trouble>,
    is_other: impl Fn(&Issued) -> bool,
) -> Due {
    let (at, reason) = match (trouble, current) {
        // Also when it is not due by itself: then a person asked for it, and still wants it.
        (Some(trouble), _) => (trouble.due(now), Reason::Retry),
        (None, None) => (Timestamp::MIN, Reason::Missing),
        (None, Some(issued)) if is_other(issued) => (Timestamp::MIN, Reason::Changed),
        (None, Some(issued)) => (issued.renew_at, Reason::Renewal),
    };
    Due { at, reason }
}

/// When to renew a certificate: at two thirds of its lifetime, less `draw` (0 to 1) of a hundredth of it, so that
/// certificates of one hour do not come back in one second.
pub fn renew_at(
    now: Timestamp,
    not_before: Timestamp,
    not_after: Timestamp,
    draw: f64,
) -> Timestamp {
    let lifetime = between(not_before, not_after);
    let jitter = (lifetime / JITTER_SHARE).mul_f64(draw.clamp(0.0, 1.0));
    let at = earlier(later(not_before, lifetime * 2 / 3), jitter);
    match at > now {
        true => at,
        // It came late, or is dated back far: never again at once.
        false => later(now, between(now, not_after) * 2 / 3),
    }
}

/// From when on a certificate that has no successor will hardly get one in time: at 5/6 of its lifetime, and renewals
/// are never later than that by themselves.
pub fn point_of_no_return(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    later(not_before, between(not_before, not_after) * 5 / 6)
}

/// When to try again after the `count`th failure in a row.
pub fn retry_at(
    now: Timestamp,
    count: u32,
    not_after: Option<Timestamp>,
    floor: Option<Duration>,
) -> Timestamp {
    let step = (count.max(1) - 1) as usize;
    let mut pause = LADDER.get(step).copied().unwrap_or(DAILY);
    if let Some(end) = not_after.filter(|end| *end > now) {
        pause = pause.min(between(now, end) / SHARE_OF_REST);
    }
    later(now, pause.max(floor.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn renews_at_two_thirds_less_at_most_a_hundredth() {
        let (begin, end) = (at(0), at(90 * 86_400));
        assert_eq!(renew_at(begin, begin, end, 0.0), at(60 * 86_400));
        assert_eq!(renew_at(begin, begin, end, 1.0), at(60 * 86_400 - 77_760));
    }

    #[test]
    fn a_renewal_comes_before_the_point_of_no_return() {
        let (begin, end) = (at(0), at(90 * 86_400));
        let point = point_of_no_return(begin, end);
        assert_eq!(point, at(75 * 86_400));
        assert!(renew_at(begin, begin, end, 0.0) < point);
    }

    #[test]
    fn one_that_came_late_is_not_due_at_once() {
        assert_eq!(renew_at(at(80), at(0), at(110), 0.0), at(100));
    }

    #[test]
    fn backs_off_by_the_ladder_without_a_certificate() {
        let pauses: Vec<i64> = (1..=5)
            .map(|n| retry_at(at(0), n, None, None).as_second())
            .collect();
        assert_eq!(pauses, [60, 600, 6_000, 86_400, 86_400]);
    }

    #[test]
    fn hurries_when_little_is_left() {
        assert_eq!(retry_at(at(0), 4, Some(at(3_600)), None), at(360));
        assert_eq!(retry_at(at(0), 4, Some(at(-1)), None), at(86_400));
    }

    #[test]
    fn never_comes_before_the_authority_allows() {
        let floor = Some(Duration::from_secs(7_200));
        assert_eq!(retry_at(at(0), 1, None, floor), at(7_200));
    }
}
