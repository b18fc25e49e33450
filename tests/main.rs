//! The one integration test binary: tests that need the real program or real servers.
//!
//! `tests/run` gets the servers and runs everything; after `tests/get-servers`, `cargo test --test all NAME` runs some.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on ends so"
)]

mod acme_dns;
mod architecture;
mod authority;
mod canary;
mod clean;
mod cli;
mod cloudflare;
mod clouds;
mod config;
mod control;
mod daemon;
mod delegate;
mod demo;
mod dependencies;
mod hosts;
mod hundred;
mod includes;
mod issuance;
mod kill;
mod kit;
mod logs;
mod manifest;
mod monitoring;
mod notify;
mod plan;
mod process;
mod rfc2136;
mod route53;
mod runners;
mod screens;
mod servers;
mod several;
mod support;
mod systemd;
mod web;
mod wrong_input;
