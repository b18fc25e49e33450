//! The authority from outside: over HTTPS and DNS on loopback, as its clients meet it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod faults;
mod flow;
mod judged;
mod lookups;
mod program;
mod strict;
mod support;
