//! Walks, probes and verdicts over servers on loopback with one fault each.

mod verdicts;
mod walks;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use jiff::Timestamp;

use super::testing::{Fault, Net, Plan, TestZone, dns_name, ip, plan, zone};
use super::{Dns, DnsError, DnsErrorKind, Look, Settings, Walk, Whose};
use crate::engine::propagation::{Outcome, Verdict, Watch};

const NAME: &str = "_acme-challenge.example.test";

fn from_roots(net: &Net, roots: &[&str]) -> Dns {
    from_roots_by(Clock::system(), net.port, roots)
}

fn from_roots_by(clock: Clock, port: u16, roots: &[&str]) -> Dns {
    let roots = roots.iter().map(|root| ip(root)).collect();
    let look = Look::Roots {
        roots,
        port,
        fallback: Vec::new(),
    };
    Dns::new(Settings { look }, clock)
}

async fn locate(dns: &Dns, name: &str) -> Result<Walk, DnsError> {
    dns.locate(&dns_name(name)).await
}

fn addresses(walk: &Walk) -> Vec<(String, Vec<IpAddr>)> {
    let mut servers: Vec<_> = walk
        .servers
        .iter()
        .map(|server| {
            let mut addresses = server.addresses.clone();
            addresses.sort_unstable();
            (server.host.clone(), addresses)
        })
        .collect();
    servers.sort();
    servers
}

fn server(host: &str, at: &[&str]) -> (String, Vec<IpAddr>) {
    (host.to_owned(), at.iter().map(|at| ip(at)).collect())
}

/// A root that delegates `example.test` to `ns1`, `ns2` and `ns3` with glue.
fn root(addresses: [&str; 3]) -> TestZone {
    let [one, two, three] = addresses.map(|address| {
        let kind = if address.contains(':') { "AAAA" } else { "A" };
        format!("{kind} {address}")
    });
    zone(
        ".",
        1,
        &[
            "example.test NS ns1.example.test",
            "example.test NS ns2.example.test",
            "example.test NS ns3.example.test",
            &format!("ns1.example.test {one}"),
            &format!("ns2.example.test {two}"),
            &format!("ns3.example.test {three}"),
        ],
    )
}

/// `example.test` with the same three servers and `values` at the challenge name.
fn example(serial: u32, addresses: [&str; 3], values: &[&str]) -> TestZone {
    let mut lines: Vec<String> = Vec::new();
    for (n, address) in (1..).zip(addresses) {
        let kind = if address.contains(':') { "AAAA" } else { "A" };
        lines.push(format!("example.test NS ns{n}.example.test"));
        lines.push(format!("ns{n}.example.test {kind} {address}"));
    }
    lines.extend(values.iter().map(|value| format!("{NAME} TXT {value}")));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    zone("example.test", serial, &lines)
}

const THREE: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];

/// A root at 127.0.0.1 and three servers, the third of which has `fault` and `third`'s values.
async fn three(fault: Fault, third: TestZone, values: &[&str]) -> Net {
    Net::start(vec![
        plan("127.0.0.1", Fault::None, vec![root(THREE)]),
        plan("127.0.0.2", Fault::None, vec![example(2, THREE, values)]),
        plan("127.0.0.3", Fault::None, vec![example(2, THREE, values)]),
        plan("127.0.0.4", fault, vec![third]),
    ])
    .await
}

/// A watch for `new` over every address of `walk`, each asked once.
async fn watch(dns: &Dns, walk: &Walk) -> Watch {
    let servers = walk.servers.iter().flat_map(|server| {
        let places = server.addresses.iter();
        places.map(|&address| (server.host.clone(), address))
    });
    let mut watch = Watch::new("new".to_owned(), servers.collect(), Vec::new());
    watch.record(Timestamp::UNIX_EPOCH, dns.observe(walk, &[]).await);
    watch
}

/// Asks every address once and judges after `seconds`.
async fn verdict_after(dns: &Dns, walk: &Walk, seconds: u64) -> Verdict {
    let now = later(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds));
    watch(dns, walk).await.verdict(now)
}

fn waits(verdict: Verdict) -> String {
    match verdict {
        Verdict::Waiting { reason } => reason,
        other => panic!("not waiting: {other:?}"),
    }
}

fn likely(verdict: Verdict) -> String {
    match verdict {
        Verdict::Likely { reason } => reason,
        other => panic!("not likely: {other:?}"),
    }
}
