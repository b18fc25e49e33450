//! The order engine: pure. No I/O, no clock, no randomness, no async.
//!
//! A thing that lives (attempt, account, ledger entry, delivery) is data plus two functions: `pending(&self, now)`
//! says what should be happening, from the saved state alone; `apply(&mut self, now, event)` records what did.

pub mod key;
pub mod names;
pub mod order;
pub mod propagation;
