//! Walks to a name's zone and servers, and what is said when one leads nowhere.

use super::*;

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
