//! A value that is made for whoever asks, and for all who ask soon after.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::Clock;
use tokio::sync::{Mutex, watch};

/// One value at a time; cheap to clone.
#[derive(Clone)]
pub(super) struct Recent<T> {
    fresh: Duration,
    clock: Clock,
    /// The value, and when it was made by [`Clock::elapsed`].
    made: watch::Sender<Option<(Duration, T)>>,
    /// Held by whoever makes it.
    turn: Arc<Mutex<()>>,
}

impl<T: Clone + Send + Sync + 'static> Recent<T> {
    /// A value is made anew when it is older than `fresh`.
    pub(super) fn new(fresh: Duration, clock: Clock) -> Self {
        Self {
            fresh,
            clock,
            made: watch::Sender::new(None),
            turn: Arc::default(),
        }
    }

    /// The value that there is, or what `make` gives; `None` when that panics. It is made to its end and kept also when
    /// whoever asked goes away, and by one at a time: however often and by how many it is asked for, and however long
    /// it takes, nothing piles up.
    pub(super) async fn get(&self, make: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let asked = self.clock.elapsed();
        let is_fresh = |since: Duration| asked.saturating_sub(since) < self.fresh;
        if let Some((_, value)) = self.made.borrow().as_ref().filter(|made| is_fresh(made.0)) {
            return Some(value.clone());
        }
        if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
            let recent = self.clone();
            let task = tokio::spawn(async move {
                let _turn = turn;
                let value = make.await;
                let made = (recent.clock.elapsed(), value.clone());
                recent.made.send_replace(Some(made));
                value
            });
            return task.await.ok();
        }
        let mut made = self.made.subscribe();
        let new = made
            .wait_for(|made| made.as_ref().is_some_and(|made| made.0 >= asked))
            .await;
        new.ok()?.as_ref().map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::Timestamp;

    use super::*;

    #[tokio::test]
    async fn is_made_once_for_all_who_ask_soon_and_also_when_they_go_away() {
        let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let recent = Recent::new(Duration::from_secs(3), clock.clone());
        let count = Arc::new(AtomicU32::new(0));
        let get = || {
            let (recent, count, clock) = (recent.clone(), Arc::clone(&count), clock.clone());
            let make = async move {
                clock.sleep(Duration::from_secs(1)).await;
                count.fetch_add(1, Ordering::SeqCst) + 1
            };
            async move { recent.get(make).await }
        };
        let mut gone = Box::pin(get());
        tokio::select! {
            biased;
            _ = &mut gone => unreachable!("it sleeps"),
            () = tokio::task::yield_now() => {}
        }
        drop(gone);
        let asked = tokio::spawn(futures_util::future::join(get(), get()));
        tokio::task::yield_now().await;
        hands.advance(Duration::from_secs(1));
        assert_eq!(asked.await.unwrap(), (Some(1), Some(1)));
        hands.advance(Duration::from_secs(3));
        let asked = tokio::spawn(get());
        while count.load(Ordering::SeqCst) < 2 {
            hands.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        assert_eq!(asked.await.unwrap(), Some(2));
    }
}
