//! What the integration tests share: real servers as child processes, and small clients that look at them.
//!
//! It uses nothing of Countersign but its binary, so that it can disagree. Everything here blocks: a test that runs
//! an in-process server on tokio needs `#[tokio::test(flavor = "multi_thread")]`.

#![allow(dead_code, reason = "a helper may be between users")]
#![allow(unreachable_pub, reason = "the modules are also included by benches")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on ends so"
)]

pub mod bind;
pub mod bridge;
pub mod cloudflare;
pub mod clouds;
pub mod command;
pub mod disk;
pub mod dns;
pub mod golden;
pub mod knot;
pub mod lego;
pub mod mail;
pub mod pebble;
pub mod ports;
pub mod powerdns;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod rest;
pub mod route53;
pub mod stepwise;
pub mod tls;
pub mod tsig;
pub mod unbound;
pub mod updates;
pub mod webhook;
pub mod zone;
