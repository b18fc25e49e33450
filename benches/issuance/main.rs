//! What one certificate for a name and its wildcard costs: Countersign beside lego, certbot and a small program on
//! instant-acme, all against the same Pebble and the same BIND, one after the other.
//!
//! Times are taken without anything between client and authority; requests are counted in rounds of their own, at a
//! proxy. Nothing is asserted about time. `cargo bench --bench issuance -- PEER…` runs only those peers.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench measures real time, prints what it finds, and ends when it cannot go on"
)]

mod instant;
mod ours;
mod programs;
mod stand;
mod table;

#[path = "../../tests/support/mod.rs"]
mod support;

use stand::Stand;
use table::Row;

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let runs = |peer: &str| wanted.is_empty() || wanted.iter().any(|name| name == peer);
    // An error says that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let stand = Stand::start();
    let mut rows: Vec<Row> = Vec::new();
    if runs("countersign") {
        rows.extend(ours::measure(&stand, &runtime));
    }
    if runs("instant-acme") {
        rows.push(instant::measure(&stand, &runtime));
    }
    if runs("certbot") {
        rows.push(programs::certbot(&stand));
    }
    if runs("lego") {
        rows.push(programs::lego(&stand));
    }
    table::print(&rows);
}
