//! What is said of three servers of which one is stale, dead, lame or of the other family.

use super::*;

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
    let reason = waits(verdict_after(&dns, &walk, 3600).await);
    assert_eq!(
        reason,
        "ns3.example.test (127.0.0.4), at serial 1, does not have the value yet; it has \"old\""
    );
    let (behind, _) = watch(&dns, &walk).await.next();
    assert_eq!(behind, [("ns3.example.test".to_owned(), ip("127.0.0.4"))]);
    net.change("127.0.0.4", example(2, THREE, &["old", "new"]));
    let again = dns.observe(&walk, &[ip("127.0.0.4")]).await;
    assert_eq!(again.len(), 1);
    assert_eq!(verdict_after(&dns, &walk, 0).await, Verdict::Ready);
}

#[tokio::test]
async fn a_dead_server_blocks_for_ten_seconds() {
    let net = three(Fault::Dead, example(2, THREE, &[]), &["new"]).await;
    let dns = from_roots(&net, &["127.0.0.1"]);
    let walk = locate(&dns, NAME).await.unwrap();
    let reason = waits(verdict_after(&dns, &walk, 9).await);
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
        let reason = waits(verdict_after(&dns, &walk, 9).await);
        assert_eq!(
            reason,
            format!("ns3.example.test (127.0.0.4) does not answer for the zone: {word}")
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
    let reason = waits(verdict_after(&dns, &walk, 60).await);
    assert_eq!(
        reason,
        "ns3.example.test (::1), at serial 1, does not have the value yet; it has no TXT record there"
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
        "only resolvers were asked"
    );
    net.change("127.0.0.2", zone("example.test", 2, &lines[..2]));
    let reason = waits(verdict_after(&dns, &walk, 0).await);
    assert_eq!(
        reason,
        "resolver (127.0.0.2) does not have the value yet; it has no TXT record there"
    );
}

#[tokio::test]
async fn where_no_dns_gets_out_the_resolvers_are_asked() {
    let lines = [
        "example.test NS ns1.example.test",
        "_acme-challenge.example.test TXT new",
    ];
    let net = Net::start(vec![plan(
        "127.0.0.2",
        Fault::Resolver,
        vec![zone("example.test", 1, &lines)],
    )])
    .await;
    // Nothing listens there.
    let look = Look::Roots {
        roots: vec![ip("127.0.0.9")],
        port: net.port,
        fallback: vec![SocketAddr::new(ip("127.0.0.2"), net.port)],
    };
    let dns = Dns::new(Settings { look }, Clock::system());
    let walk = locate(&dns, NAME).await.unwrap();
    assert!(walk.by_resolvers);
    likely(verdict_after(&dns, &walk, 0).await);
}
