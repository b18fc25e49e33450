//! Walks, probes and verdicts over servers on loopback with one fault each.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use jiff::Timestamp;

use super::testing::{Fault, Net, Plan, TestZone, dns_name, ip, plan, zone};
use super::{Dns, DnsError, DnsErrorKind, Look, Settings, Walk, Whose};
use crate::engine::propagation::{History, Outcome, Verdict};

const NAME: &str = "_acme-challenge.example.test";

fn from_roots(net: &Net, roots: &[&str]) -> Dns {
    from_roots_by(Clock::system(), net.port, roots)
}

fn from_roots_by(clock: Clock, port: u16, roots: &[&str]) -> Dns {
    let roots = roots.iter().map(|root| ip(root)).collect();
    let look = Look::Roots { roots, port };
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

/// Asks every address once and judges after `seconds`.
async fn verdict_after(dns: &Dns, walk: &Walk, seconds: u64) -> Verdict {
    let mut history = History::default();
    let start = Timestamp::UNIX_EPOCH;
    history.record(start, dns.observe(walk, &[]).await);
    let now = later(start, Duration::from_secs(seconds));
    history.verdict(&["new".to_owned()], now)
}

fn waits(verdict: Verdict) -> (String, Vec<IpAddr>) {
    match verdict {
        Verdict::Waiting {
            reason, ask_again, ..
        } => (reason, ask_again),
        other => panic!("not waiting: {other:?}"),
    }
}

fn likely(verdict: Verdict) -> String {
    match verdict {
        Verdict::Likely { reason } => reason,
        other => panic!("not likely: {other:?}"),
    }
}

#[tokio::test]
async fn finds_the_zone_and_every_address() {
    let net = three(Fault::None, example(2, THREE, &[]), &[]).await;
    let walk = locate(&from_roots(&net, &["127.0.0.1"]), NAME)
        .await
        .unwrap();
    assert_eq!(walk.owner, dns_name(NAME));
    assert_eq!(walk.zone, dns_name("example.test"));
    assert!(walk.chain.is_empty());
    assert_eq!(
        addresses(&walk),
        [
            server("ns1.example.test", &["127.0.0.2"]),
            server("ns2.example.test", &["127.0.0.3"]),
            server("ns3.example.test", &["127.0.0.4"]),
        ]
    );
    assert!(net.asked() <= 30, "{} questions", net.asked());
}

#[tokio::test]
async fn ready_when_all_three_have_the_value() {
    let net = three(Fault::None, example(2, THREE, &["new"]), &["new"]).await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    assert_eq!(verdict_after(&dns, &walk, 0).await, Verdict::Ready);
}

#[tokio::test]
async fn a_stale_server_blocks_and_is_named_with_what_it_says() {
    let net = three(Fault::None, example(1, THREE, &["old"]), &["new"]).await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    let (reason, ask_again) = waits(verdict_after(&dns, &walk, 3600).await);
    assert_eq!(
        reason,
        "ns3.example.test (127.0.0.4) still serves serial 1 without our value; it says \"old\""
    );
    assert_eq!(ask_again, [ip("127.0.0.4")]);
    net.change("127.0.0.4", example(2, THREE, &["old", "new"]));
    let again = dns.observe(&walk, &ask_again).await;
    assert_eq!(again.len(), 1);
    assert_eq!(verdict_after(&dns, &walk, 0).await, Verdict::Ready);
}

#[tokio::test]
async fn a_dead_server_blocks_for_ten_seconds() {
    let net = three(Fault::Dead, example(2, THREE, &[]), &["new"]).await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    let (reason, _) = waits(verdict_after(&dns, &walk, 9).await);
    assert_eq!(
        reason,
        "ns3.example.test (127.0.0.4) cannot be reached: connection refused"
    );
    let reason = likely(verdict_after(&dns, &walk, 10).await);
    assert!(reason.starts_with("ns3.example.test (127.0.0.4) cannot be reached"));
}

#[tokio::test]
async fn a_lame_server_blocks_for_ten_seconds() {
    for (fault, word) in [
        (Fault::Refuses, "REFUSED"),
        (Fault::NoAuthority, "its answer is not authoritative"),
    ] {
        let net = three(fault, example(2, THREE, &["new"]), &["new"]).await;
        let dns = from_roots(&net, &["127.0.0.1"]);
        let walk = locate(&dns, NAME).await.unwrap();
        let (reason, _) = waits(verdict_after(&dns, &walk, 9).await);
        assert_eq!(
            reason,
            format!("ns3.example.test (127.0.0.4) is not authoritative for the zone: {word}")
        );
        likely(verdict_after(&dns, &walk, 10).await);
    }
}

#[tokio::test]
async fn a_server_that_cuts_udp_is_asked_by_tcp() {
    let net = three(Fault::Cuts, example(2, THREE, &["new"]), &["new"]).await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    assert_eq!(verdict_after(&dns, &walk, 0).await, Verdict::Ready);
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without() {
    let net = three(Fault::OldFashioned, example(2, THREE, &["new"]), &["new"]).await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    assert_eq!(verdict_after(&dns, &walk, 0).await, Verdict::Ready);
}

#[tokio::test]
async fn servers_with_ipv6_only_are_found_and_asked() {
    let lines = [
        "example.test NS ns1.example.test",
        "ns1.example.test AAAA ::1",
        "_acme-challenge.example.test TXT new",
    ];
    let net = Net::start(vec![
        plan("127.0.0.1", Fault::None, vec![zone(".", 1, &lines[..2])]),
        plan("::1", Fault::None, vec![zone("example.test", 2, &lines)]),
    ])
    .await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    assert_eq!(addresses(&walk), [server("ns1.example.test", &["::1"])]);
    assert_eq!(verdict_after(&dns, &walk, 0).await, Verdict::Ready);
}

#[tokio::test]
async fn one_stale_server_of_another_family_blocks() {
    let mixed = ["127.0.0.2", "127.0.0.3", "::1"];
    let net = Net::start(vec![
        plan("127.0.0.1", Fault::None, vec![root(mixed)]),
        plan("127.0.0.2", Fault::None, vec![example(2, mixed, &["new"])]),
        plan("127.0.0.3", Fault::None, vec![example(2, mixed, &["new"])]),
        plan("::1", Fault::None, vec![example(1, mixed, &[])]),
    ])
    .await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    let (reason, _) = waits(verdict_after(&dns, &walk, 60).await);
    assert_eq!(
        reason,
        "ns3.example.test (::1) still serves serial 1 without our value; it has no TXT record"
    );
}

#[tokio::test]
async fn a_long_value_in_several_strings_is_joined() {
    let long = "v".repeat(600);
    let net = three(Fault::None, example(2, THREE, &[&long]), &[&long]).await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    for observation in dns.observe(&walk, &[]).await {
        assert_eq!(observation.outcome, Outcome::Values(vec![long.clone()]));
        assert_eq!(observation.serial, Some(2));
    }
}

/// A root that delegates `test` and `provider`; `test` delegates `example.test` to hosts of the provider, without
/// glue; `_acme-challenge.example.test` is a CNAME into the provider's zone.
fn across() -> Vec<Plan> {
    let top = zone(
        ".",
        1,
        &[
            "test NS a.nic.test",
            "a.nic.test A 127.0.0.2",
            "provider NS ns.provider",
            "ns.provider A 127.0.0.3",
        ],
    );
    let test = zone(
        "test",
        1,
        &[
            "test NS a.nic.test",
            "a.nic.test A 127.0.0.2",
            "example.test NS ns.provider",
        ],
    );
    let example = zone(
        "example.test",
        7,
        &[
            "example.test NS ns.provider",
            "_acme-challenge.example.test CNAME here.acme.provider",
        ],
    );
    let provider = zone(
        "provider",
        9,
        &[
            "provider NS ns.provider",
            "ns.provider A 127.0.0.3",
            "acme.provider NS deep.acme.provider",
            "deep.acme.provider A 127.0.0.4",
        ],
    );
    let acme = zone(
        "acme.provider",
        11,
        &[
            "acme.provider NS deep.acme.provider",
            "deep.acme.provider A 127.0.0.4",
        ],
    );
    vec![
        plan("127.0.0.1", Fault::None, vec![top]),
        plan("127.0.0.2", Fault::None, vec![test]),
        plan("127.0.0.3", Fault::None, vec![provider, example]),
        plan("127.0.0.4", Fault::None, vec![acme]),
    ]
}

#[tokio::test]
async fn follows_a_cname_across_zones_and_referrals_without_glue() {
    let net = Net::start(across()).await;
    let walk = locate(&from_roots(&net, &["127.0.0.1"]), NAME)
        .await
        .unwrap();
    assert_eq!(walk.asked, dns_name(NAME));
    assert_eq!(walk.chain, [dns_name(NAME)]);
    assert_eq!(walk.owner, dns_name("here.acme.provider"));
    assert_eq!(walk.zone, dns_name("acme.provider"));
    assert_eq!(
        addresses(&walk),
        [server("deep.acme.provider", &["127.0.0.4"])]
    );
}

#[tokio::test]
async fn finds_servers_that_the_parent_names_without_glue() {
    let net = Net::start(across()).await;
    let walk = locate(&from_roots(&net, &["127.0.0.1"]), "www.example.test")
        .await
        .unwrap();
    assert_eq!(walk.zone, dns_name("example.test"));
    assert_eq!(addresses(&walk), [server("ns.provider", &["127.0.0.3"])]);
}

#[tokio::test]
async fn a_root_need_not_serve_the_root() {
    let lines = [
        "example.test NS ns1.example.test",
        "ns1.example.test A 127.0.0.2",
    ];
    let inner = "_acme-challenge.example.test TXT new";
    for values in [&lines[..], &[lines[0], lines[1], inner]] {
        let net = Net::start(vec![plan(
            "127.0.0.2",
            Fault::None,
            vec![zone("example.test", 1, values)],
        )])
        .await;
        let walk = locate(&from_roots(&net, &["127.0.0.2"]), NAME)
            .await
            .unwrap();
        assert_eq!(walk.zone, dns_name("example.test"));
        assert_eq!(
            addresses(&walk),
            [server("ns1.example.test", &["127.0.0.2"])]
        );
    }
}

#[tokio::test]
async fn finds_the_cut_between_zones_of_one_server() {
    let parent = zone(
        "example.test",
        1,
        &[
            "example.test NS ns1.example.test",
            "ns1.example.test A 127.0.0.2",
            "_acme-challenge.example.test NS ns1.example.test",
        ],
    );
    let lines = [
        "_acme-challenge.example.test NS ns1.example.test",
        "_acme-challenge.example.test TXT new",
    ];
    let child = zone(NAME, 5, &lines);
    let net = Net::start(vec![plan("127.0.0.2", Fault::None, vec![parent, child])]).await;
    let walk = locate(&from_roots(&net, &["127.0.0.2"]), NAME)
        .await
        .unwrap();
    assert_eq!(walk.zone, dns_name(NAME));
    assert_eq!(
        addresses(&walk),
        [server("ns1.example.test", &["127.0.0.2"])]
    );
}

#[tokio::test]
async fn finds_the_zone_at_servers_that_leave_out_the_soa() {
    let net = Net::start(vec![plan(
        "127.0.0.2",
        Fault::Terse,
        vec![example(3, ["127.0.0.2"; 3], &[])],
    )])
    .await;
    let name = "_acme-challenge.a.b.example.test";
    let walk = locate(&from_roots(&net, &["127.0.0.2"]), name)
        .await
        .unwrap();
    assert_eq!(walk.zone, dns_name("example.test"));
}

#[tokio::test]
async fn takes_the_union_of_the_parents_and_the_zones_own_servers() {
    let parent = zone(
        ".",
        1,
        &[
            "example.test NS ns1.example.test",
            "ns1.example.test A 127.0.0.2",
            "example.test NS gone.example.test",
            "gone.example.test A 127.0.0.9",
        ],
    );
    let child = zone(
        "example.test",
        1,
        &[
            "example.test NS ns1.example.test",
            "ns1.example.test A 127.0.0.2",
            "example.test NS hidden.example.test",
            "hidden.example.test A 127.0.0.3",
        ],
    );
    let net = Net::start(vec![
        plan("127.0.0.1", Fault::None, vec![parent]),
        plan("127.0.0.2", Fault::None, vec![child]),
    ])
    .await;
    let walk = locate(&from_roots(&net, &["127.0.0.1"]), NAME)
        .await
        .unwrap();
    assert_eq!(
        addresses(&walk),
        [
            server("gone.example.test", &["127.0.0.9"]),
            server("hidden.example.test", &["127.0.0.3"]),
            server("ns1.example.test", &["127.0.0.2"]),
        ]
    );
}

#[tokio::test]
async fn a_circle_of_cnames_is_named() {
    let lines = [
        "_acme-challenge.example.test CNAME a.example.test",
        "a.example.test CNAME b.example.test",
        "b.example.test CNAME a.example.test",
    ];
    let net = Net::start(vec![plan(
        "127.0.0.2",
        Fault::None,
        vec![zone("example.test", 1, &lines)],
    )])
    .await;
    let error = locate(&from_roots(&net, &["127.0.0.2"]), NAME)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.kind.whose()),
        (DnsErrorKind::Alias, Whose::You)
    );
    assert_eq!(
        error.message,
        "the CNAMEs lead in a circle: _acme-challenge.example.test → a.example.test → \
         b.example.test → a.example.test"
    );
}

#[tokio::test]
async fn eight_cnames_are_followed_and_no_ninth() {
    let lines: Vec<String> = (0..9)
        .map(|n| format!("n{n}.example.test CNAME n{}.example.test", n + 1))
        .collect();
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.extend([
        "example.test NS ns1.example.test",
        "ns1.example.test A 127.0.0.2",
    ]);
    let net = Net::start(vec![plan(
        "127.0.0.2",
        Fault::None,
        vec![zone("example.test", 1, &lines)],
    )])
    .await;
    let dns = from_roots(&net, &["127.0.0.2"]);
    let error = locate(&dns, "n0.example.test").await.unwrap_err();
    assert_eq!(
        error.message,
        "more than 8 CNAMEs follow each other from n0.example.test"
    );
    let walk = locate(&dns, "n1.example.test").await.unwrap();
    assert_eq!(walk.owner, dns_name("n9.example.test"));
}

#[tokio::test]
async fn a_lame_delegation_names_the_servers() {
    let net = Net::start(vec![
        plan("127.0.0.1", Fault::None, vec![root(["127.0.0.2"; 3])]),
        plan("127.0.0.2", Fault::None, vec![]),
    ])
    .await;
    let error = locate(&from_roots(&net, &["127.0.0.1"]), NAME)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.kind.whose()),
        (DnsErrorKind::Lame, Whose::DnsHost)
    );
    assert_eq!(
        error.message,
        "example.test is delegated to name servers that do not serve it \
         (ns1.example.test (127.0.0.2): REFUSED; ns2.example.test (127.0.0.2): REFUSED; \
         ns3.example.test (127.0.0.2): REFUSED)"
    );
}

#[tokio::test]
async fn servers_that_do_not_answer_are_named() {
    let net = Net::start(vec![
        plan("127.0.0.1", Fault::None, vec![root(["127.0.0.2"; 3])]),
        plan("127.0.0.2", Fault::Dead, vec![]),
    ])
    .await;
    let error = locate(&from_roots(&net, &["127.0.0.1"]), NAME)
        .await
        .unwrap_err();
    assert_eq!(error.kind, DnsErrorKind::Unreachable);
    assert!(
        error
            .message
            .contains("ns1.example.test (127.0.0.2): connection refused")
    );
}

#[tokio::test]
async fn a_name_that_the_root_does_not_know_does_not_exist() {
    let net = three(Fault::None, example(1, THREE, &[]), &[]).await;
    let error = locate(&from_roots(&net, &["127.0.0.1"]), "www.example.tset")
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.kind.whose()),
        (DnsErrorKind::NoSuchDomain, Whose::You)
    );
    assert_eq!(
        error.message,
        "www.example.tset does not exist: the servers of `.` know no such domain"
    );
}

#[tokio::test]
async fn a_dead_root_delays_but_does_not_stop() {
    let net = Net::start(vec![
        plan("127.0.0.1", Fault::Silent, vec![]),
        plan("127.0.0.2", Fault::None, vec![example(1, THREE, &[])]),
    ])
    .await;
    let dns = from_roots(&net, &["127.0.0.1", "127.0.0.2"]);
    assert!(locate(&dns, NAME).await.is_ok());
}

#[tokio::test]
async fn a_blocked_port_has_its_own_sentence() {
    let net = Net::start(vec![plan("127.0.0.1", Fault::Silent, vec![])]).await;
    let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
    let dns = from_roots_by(clock, net.port, &["127.0.0.1"]);
    let walk = tokio::spawn(async move { locate(&dns, NAME).await });
    while !walk.is_finished() {
        hands.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    let error = walk.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind, error.kind.whose()),
        (DnsErrorKind::Blocked, Whose::You)
    );
    assert_eq!(
        error.message,
        format!(
            "no root server answers on port {}: outgoing DNS seems to be blocked here \
             (127.0.0.1: no answer by UDP or TCP)",
            net.port
        )
    );
    assert!(error.hint.unwrap().contains("look: resolvers"));
}

#[tokio::test]
async fn a_zone_that_never_ends_is_left_after_a_bounded_number_of_questions() {
    // Every name is delegated one label deeper, each time to hosts that need a look-up of their own.
    let lines: Vec<String> = (0..32)
        .flat_map(|n| (0..4).map(move |m| format!("h{n}.test NS h{}.h{m}.test", (n + 1) % 32)))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let net = Net::start(vec![plan(
        "127.0.0.1",
        Fault::None,
        vec![zone("test", 1, &lines)],
    )])
    .await;
    let error = locate(&from_roots(&net, &["127.0.0.1"]), "x.h0.test")
        .await
        .unwrap_err();
    assert!(net.asked() <= 200, "{}", net.asked());
    assert!(
        matches!(
            error.kind,
            DnsErrorKind::TooMuch | DnsErrorKind::Unreachable
        ),
        "{error}"
    );
}

#[tokio::test]
async fn resolvers_find_and_see_but_are_only_likely() {
    let lines = [
        "example.test NS ns1.example.test",
        "_acme-challenge.example.test CNAME there.example.test",
        "there.example.test TXT new",
    ];
    let net = Net::start(vec![plan(
        "127.0.0.2",
        Fault::Resolver,
        vec![zone("example.test", 1, &lines)],
    )])
    .await;
    let resolver = SocketAddr::new(ip("127.0.0.2"), net.port);
    let look = Look::Resolvers {
        addresses: vec![resolver],
    };
    let dns = Dns::new(Settings { look }, Clock::system());
    let walk = locate(&dns, NAME).await.unwrap();
    assert_eq!(walk.owner, dns_name("there.example.test"));
    assert_eq!(walk.chain, [dns_name(NAME)]);
    assert_eq!(walk.zone, dns_name("example.test"));
    assert_eq!(
        likely(verdict_after(&dns, &walk, 0).await),
        "only resolvers were asked, not the authoritative servers: resolver (127.0.0.2) has the value"
    );
    net.change("127.0.0.2", zone("example.test", 2, &lines[..2]));
    let (reason, _) = waits(verdict_after(&dns, &walk, 0).await);
    assert_eq!(
        reason,
        "resolver (127.0.0.2) still answers without our value; it has no TXT record"
    );
}
