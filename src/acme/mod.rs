//! RFC 8555 and its relatives over HTTPS.
//!
//! A client of one authority: it asks, and says what came in the engine's own words ([`crate::engine::order`]). It
//! keeps no state of orders and decides nothing about them: when to look again is the engine's.
//!
//! - [`client`]: the requests, one method each; [`transport`]: one bounded HTTP exchange, faults in words.
//! - [`nonce`]: the pool of replay nonces; [`jws`]: signed request bodies; [`key`]: account keys;
//!   [`payload`]: what we send.
//! - [`origin`]: which URLs an authority may send us to.
//! - [`header`], [`problem`], [`resource`]: what came, parsed strictly.
//! - [`csr`]: leaf keys and requests; [`chain`]: what was issued is checked before it is kept.

pub mod chain;
pub mod client;
pub mod csr;
mod header;
mod jws;
pub mod key;
mod nonce;
mod origin;
mod payload;
mod problem;
pub mod resource;
pub mod transport;

#[cfg(test)]
mod tests;

pub use chain::{ChainError, Leaf};
pub use client::{Account, Chain, Client, Settings, Signer};
pub use key::{AccountKey, ExternalAccount, KeyError};
pub use resource::{AccountStatus, Directory};
pub use transport::RequestKind;
