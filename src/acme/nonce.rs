//! The pool of replay nonces of one authority (RFC 8555 section 6.5). It decides who uses a kept nonce, who waits for
//! one that is on its way, and who fetches a new one; fetching itself is the client's.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;

/// Boulder forgets a nonce after about 65,536 later ones, which is minutes at a large authority.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// More are never needed: fewer requests than this run at once.
const CAPACITY: usize = 64;
/// newNonce requests at once: Let's Encrypt allows bursts of ten per address.
const MAX_FETCHING: usize = 4;
/// While requests are under way that will bring a nonce back, one of them is waited for this long. On a fast link that
/// saves the extra request, on a slow one it costs little.
const PATIENCE: Duration = Duration::from_millis(20);
/// A waiter looks again after this, should it have missed a word.
const RECHECK: Duration = Duration::from_secs(1);

/// The pool.
#[derive(Default)]
pub(super) struct Nonces {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// With the time of arrival; the newest is last and used first.
    kept: Vec<(String, Duration)>,
    /// Requests that will bring a nonce back.
    under_way: usize,
    /// Those of them that fetch nothing else.
    fetching: usize,
}

/// Whose turn it is to do what.
pub(super) enum Turn<'a> {
    /// Use this one.
    Use(String, UnderWay<'a>),
    /// Fetch one; say [`UnderWay::fetched`] when it has come.
    Fetch(UnderWay<'a>),
}

impl Nonces {
    /// A kept nonce, one that comes back while we wait, or the right to fetch one. The guard lives until the request
    /// that uses the nonce has its reply.
    pub(super) async fn turn(&self, clock: &Clock) -> Turn<'_> {
        let since = clock.elapsed();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let waited = clock.elapsed().saturating_sub(since);
            if let Some(turn) = self.try_turn(clock.elapsed(), waited >= PATIENCE) {
                return turn;
            }
            let patience = PATIENCE.saturating_sub(waited);
            let wait = if patience.is_zero() {
                RECHECK
            } else {
                patience
            };
            clock.timeout(wait, changed).await;
        }
    }

    fn try_turn(&self, now: Duration, impatient: bool) -> Option<Turn<'_>> {
        let mut state = self.lock();
        state
            .kept
            .retain(|(_, arrived)| now.saturating_sub(*arrived) < LIFETIME);
        if let Some((nonce, _)) = state.kept.pop() {
            state.under_way += 1;
            return Some(Turn::Use(nonce, self.guard(false)));
        }
        let nothing_will_come = state.under_way == 0;
        if state.fetching < MAX_FETCHING && (nothing_will_come || impatient) {
            state.under_way += 1;
            state.fetching += 1;
            return Some(Turn::Fetch(self.guard(true)));
        }
        None
    }

    /// Keeps a nonce that came with a reply at `now`.
    pub(super) fn keep(&self, nonce: String, now: Duration) {
        let mut state = self.lock();
        if state.kept.len() >= CAPACITY {
            state.kept.remove(0);
        }
        state.kept.push((nonce, now));
        drop(state);
        self.changed.notify_waiters();
    }

    /// Drops what had come before `sent`, when a request left whose nonce was refused: a whole backend of nonces may
    /// be gone. What has come since is from after that.
    pub(super) fn drop_older_than(&self, sent: Duration) {
        self.lock().kept.retain(|(_, arrived)| *arrived > sent);
    }

    fn guard(&self, fetching: bool) -> UnderWay<'_> {
        UnderWay {
            nonces: self,
            fetching,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that will bring a nonce back, or fail.
pub(super) struct UnderWay<'a> {
    nonces: &'a Nonces,
    fetching: bool,
}

impl UnderWay<'_> {
    /// The nonce has come; the request that uses it follows.
    pub(super) fn fetched(&mut self) {
        if std::mem::take(&mut self.fetching) {
            self.nonces.lock().fetching -= 1;
            self.nonces.changed.notify_waiters();
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.nonces.lock();
        state.under_way -= 1;
        state.fetching -= usize::from(self.fetching);
        drop(state);
        self.nonces.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;

    const T0: Duration = Duration::ZERO;

    fn used(turn: Option<Turn<'_>>) -> Option<String> {
        match turn {
            Some(Turn::Use(nonce, _)) => Some(nonce),
            _ => None,
        }
    }

    #[test]
    fn the_newest_is_used_first_and_the_old_are_forgotten() {
        let nonces = Nonces::default();
        nonces.keep("old".into(), T0);
        nonces.keep("new".into(), Duration::from_secs(10));
        assert_eq!(
            used(nonces.try_turn(Duration::from_secs(20), false)).as_deref(),
            Some("new")
        );
        assert_eq!(used(nonces.try_turn(LIFETIME, false)), None);
    }

    #[test]
    fn the_pool_is_bounded() {
        let nonces = Nonces::default();
        for number in 0..CAPACITY * 2 {
            nonces.keep(number.to_string(), T0);
        }
        let kept: Vec<_> = std::iter::from_fn(|| used(nonces.try_turn(T0, false))).collect();
        assert_eq!(kept.len(), CAPACITY);
        assert_eq!(kept[0], (CAPACITY * 2 - 1).to_string());
    }

    #[test]
    fn a_refused_nonce_takes_those_before_it_along() {
        let nonces = Nonces::default();
        nonces.keep("before".into(), Duration::from_secs(1));
        nonces.keep("after".into(), Duration::from_secs(3));
        nonces.drop_older_than(Duration::from_secs(2));
        assert_eq!(used(nonces.try_turn(T0, false)).as_deref(), Some("after"));
        assert_eq!(used(nonces.try_turn(T0, false)), None);
    }

    #[test]
    fn at_most_four_fetch_at_once() {
        let nonces = Nonces::default();
        let fetching: Vec<_> = (0..10).filter_map(|_| nonces.try_turn(T0, true)).collect();
        assert_eq!(fetching.len(), MAX_FETCHING);
        drop(fetching);
        assert!(nonces.try_turn(T0, false).is_some());
    }

    #[tokio::test]
    async fn a_waiter_takes_what_another_request_brings_back() {
        let (clock, _hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let nonces = Arc::new(Nonces::default());
        let request = nonces.try_turn(T0, false).unwrap();
        let waiter = tokio::spawn({
            let (clock, nonces) = (clock.clone(), Arc::clone(&nonces));
            async move { used(Some(nonces.turn(&clock).await)) }
        });
        tokio::task::yield_now().await;
        nonces.keep("back".into(), clock.elapsed());
        drop(request);
        assert_eq!(waiter.await.unwrap().as_deref(), Some("back"));
    }

    #[tokio::test]
    async fn a_waiter_fetches_when_patience_is_over() {
        let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let nonces = Arc::new(Nonces::default());
        let _request = nonces.try_turn(T0, false).unwrap();
        let waiter = tokio::spawn({
            let (clock, nonces) = (clock.clone(), Arc::clone(&nonces));
            async move { matches!(nonces.turn(&clock).await, Turn::Fetch(_)) }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        hands.advance(PATIENCE);
        assert!(waiter.await.unwrap());
    }
}
