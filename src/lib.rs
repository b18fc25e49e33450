//! Countersign proves control of domain names by ACME DNS-01, obtains, renews and delivers certificates.
//!
//! The map, from the pure core outward:
//!
//! - [`engine`]: what should happen next, from saved state alone. No I/O, no clock, no randomness.
//! - [`store`]: one atomic transaction over many keys, leases with fencing tokens, sealed private material.
//! - [`acme`]: RFC 8555 over HTTPS.
//! - [`dns`]: the walk from the roots to every authoritative address, and the probes of each.
//! - [`ledger`]: performs what the engine's ledger wants, a batch a zone.
//! - [`nameserver`]: the built-in server for delegated challenge names; a provider like any other.
//! - [`passed`]: sockets that systemd passes to the daemon.
//! - [`supervise`]: what comes after a fault of our own in one task.
//! - [`deliver`]: puts certificates where they are used.
//! - [`config`]: as typed, then checked once.
//! - [`run`]: decides what runs next, performs effects, feeds events back.
//! - [`control`]: the local socket of whoever holds the store.
//! - [`notify`]: alerts to people, and the heartbeat.
//! - [`web`]: health and metrics over HTTP; [`measure`] counts and times what it shows.
//! - [`daemon`]: puts it all together from a configuration.
//! - [`cli`]: arguments and what people see.

pub mod acme;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod deliver;
pub mod dns;
pub mod engine;
pub mod ledger;
pub mod measure;
pub mod nameserver;
pub mod notify;
pub mod passed;
pub mod run;
pub mod store;
pub mod supervise;
pub mod web;

pub use countersign_providers::{clock, secret};
