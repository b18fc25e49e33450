//! Decides what runs next, performs effects, feeds events back.

pub mod accounts;
pub mod by_hand;
mod clockwatch;
pub mod delivering;
pub mod forecast;
mod hands;
pub mod heartbeat;
pub mod holders;
mod job;
pub mod journal;
pub mod locate;
mod looking;
mod outages;
pub mod overview;
pub mod plan;
pub mod progress;
pub mod records;
mod removed;
pub mod scheduler;
pub mod shared;
pub mod stop;
#[cfg(test)]
pub(crate) mod testing;
pub mod worker;

/// The built-in nameserver's name among the providers; no name in the configuration begins with a colon.
pub const BUILT_IN: &str = ":nameserver";
/// A sleep lasts at most this long; then the wall clock is read again.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_secs(60);
