//! Authorities that cannot be used: each is asked now and then whether it can be again, so that nobody who waits for it
//! waits as long as his own pauses have grown meanwhile.
//!
//! An answer is a hint only, since a directory is easily served by an authority in trouble. So the most urgent one tries
//! first, and its success lets the others follow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::shared::Shared;

/// One request in this time is no burden to an authority in trouble.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(600);

/// The authorities that are asked.
#[derive(Default)]
pub(super) struct Outages {
    /// When each is asked next, as time passed.
    next: BTreeMap<String, Duration>,
    asking: JoinSet<Option<String>>,
}

impl Outages {
    /// Asks those of `awaited` whose time has come; forgets those that nobody waits for any more.
    pub(super) fn ask<'a>(&mut self, shared: &Shared, awaited: impl Iterator<Item = &'a str>) {
        let passed = shared.clock.elapsed();
        let mut next = BTreeMap::new();
        for name in awaited {
            let at = self.next.get(name).copied();
            let due = at.is_some_and(|at| at <= passed);
            let at = at.filter(|_| !due).unwrap_or(passed + BETWEEN_QUESTIONS);
            next.insert(name.to_owned(), at);
            let Some(authority) = shared.authorities.get(name).filter(|_| due) else {
                continue;
            };
            let (name, authority) = (name.to_owned(), Arc::clone(authority));
            self.asking
                .spawn(async move { authority.client.greet().await.is_ok().then_some(name) });
        }
        self.next = next;
    }

    /// Waits until one has answered; for ever while none is asked.
    pub(super) async fn answered(&mut self) -> String {
        loop {
            match self.asking.join_next().await {
                Some(Ok(Some(name))) => return name,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }
}
