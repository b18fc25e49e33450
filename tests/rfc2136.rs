//! The RFC 2136 plug-in against real BIND, Knot DNS and PowerDNS: the contract's battery, and what each refusal reads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends so")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use async_trait::async_trait;
use countersign_providers::clock::{Clock, later};
use countersign_providers::contract::{self, Fixture, absent, ensure};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::rfc2136::{Algorithm, Rfc2136, Settings, Tsig};
use countersign_providers::secret::SecretSource;
use countersign_providers::{Context, ErrorKind, Provider, ProviderError};
use hickory_proto::rr::RecordType;

use crate::support::bind::{self, Bind, RunningBind};
use crate::support::knot::{self, Knot, RunningKnot};
use crate::support::powerdns::{self, PowerDns, RunningPowerDns};
use crate::support::tsig::{Key, nsupdate};
use crate::support::{dns, zone};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ZONE: &str = "example.test";
/// More than any verb needs, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);

fn acme() -> Key {
    Key::sha256("acme")
}

fn zone_text() -> String {
    let records = "alias CNAME target\n\
                   *.wild TXT \"from-the-wildcard\"\n\
                   *.cwild CNAME target\n\
                   child NS ns.elsewhere.test.\n\
                   www TXT \"public\"\n";
    zone::text(ZONE, &[HERE], records)
}

/// A BIND that lets the key change TXT everywhere but at `www` and `hidden`.
fn start_bind() -> RunningBind {
    let primary = bind::Zone::primary(ZONE, zone_text()).update_policy(
        "deny acme name www.example.test TXT; deny acme name hidden.example.test TXT; grant acme zonesub TXT;",
    );
    let closed = bind::Zone::primary("closed.test", zone::text("closed.test", &[HERE], ""));
    Bind::new().key(&acme()).zone(primary).zone(closed).start()
}

/// A Knot that lets the key change TXT at the battery's names and at those of the tests here.
fn start_knot() -> RunningKnot {
    let labels = contract::labels(ZONE);
    let owners: Vec<&str> = labels.iter().map(String::as_str).collect();
    let own = ["fresh", "alias", "a.wild", "a.cwild"];
    let primary = knot::Zone::primary(ZONE, zone_text())
        .allow_txt(&acme(), &[&own, owners.as_slice()].concat());
    Knot::new().key(&acme()).zone(primary).start()
}

/// A PowerDNS that lets the key change everything.
fn start_powerdns() -> RunningPowerDns {
    let primary = powerdns::Zone::primary(ZONE, zone_text()).allow_update(&acme());
    PowerDns::new().key(&acme()).zone(primary).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn bind_passes_the_battery() {
    let bind = start_bind();
    battery(bind.addr(), Some("hidden")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn knot_passes_the_battery() {
    let knot = start_knot();
    battery(knot.addr(), Some("hidden")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn powerdns_passes_the_battery() {
    let powerdns = start_powerdns();
    battery(powerdns.addr(), None).await;
}

async fn battery(at: SocketAddr, forbidden: Option<&str>) {
    let provider = provider(at, &acme());
    let host = Host {
        at,
        forbidden: forbidden.map(name),
    };
    let mut wanted = vec!["zone-below", "slots", "handle", "two-instances"];
    if forbidden.is_none() {
        wanted.extend(["refused-name", "beside-refused"]);
    }
    wanted.extend(["settled", "secrets"]);
    assert_eq!(contract::skipped(&provider, &host).await, wanted);
}

/// A server of these tests as the battery looks at it.
struct Host {
    at: SocketAddr,
    forbidden: Option<DnsName>,
}

#[async_trait]
impl Fixture for Host {
    fn zone(&self) -> Zone {
        zone_of(ZONE)
    }

    fn name(&self, label: &str) -> DnsName {
        name(label)
    }

    fn forbidden(&self) -> Option<DnsName> {
        self.forbidden.clone()
    }

    fn context(&self) -> Context {
        context(Clock::system())
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        RrSet {
            name: name.clone(),
            ttl: dns::ttl(self.at, name.as_str(), RecordType::TXT),
            values: dns::txt(self.at, name.as_str()),
        }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let line = format!("update add {name}. {ttl} TXT \"{quoted}\"");
        nsupdate(self.at, ZONE, Some(&acme()), &line).expect("the key may add this");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bind_refusals_each_read_differently() {
    let bind = start_bind();
    let at = bind.addr();
    let stranger = Key::sha256("stranger");
    reads(at, &stranger, Act::fresh(), ErrorKind::Auth, "SERVER answers BADKEY to the key stranger (hmac-sha256): key unknown, or not allowed to change this name").await;
    let wrong = Key::new("acme", "hmac-sha256", 9);
    reads(at, &wrong, Act::fresh(), ErrorKind::Auth, "SERVER answers BADSIG to the key acme (hmac-sha256): the secret here is not the one that the server has").await;
    let other = Key::new("acme", "hmac-sha512", 1);
    reads(at, &other, Act::fresh(), ErrorKind::Auth, "SERVER answers BADKEY to the key acme (hmac-sha512): key unknown, or not allowed to change this name").await;
    reads(at, &acme(), Act::fresh().clock(-4000), ErrorKind::Auth, "SERVER answers BADTIME to the key acme (hmac-sha256): the clock here is 4000 s behind the server's, allowed are 300 s").await;
    reads(at, &acme(), Act::fresh().clock(5000), ErrorKind::Auth, "SERVER answers BADTIME to the key acme (hmac-sha256): the clock here is 5000 s ahead of the server's, allowed are 300 s").await;
    reads(at, &acme(), Act::at("hidden.example.test"), ErrorKind::Permission, "SERVER refuses to change TXT at hidden.example.test: the key acme (hmac-sha256) is good but may not").await;
    reads(
        at,
        &acme(),
        Act::at("a.nowhere.test").zone("nowhere.test"),
        ErrorKind::ZoneMissing,
        "SERVER answers NOTAUTH: it does not hold the zone nowhere.test",
    )
    .await;
    reads(
        at,
        &acme(),
        Act::at("a.closed.test"),
        ErrorKind::Invalid,
        "SERVER answers NOTZONE: a.closed.test is not in the zone example.test",
    )
    .await;
    reads(
        at,
        &acme(),
        Act::at("alias.example.test"),
        ErrorKind::Invalid,
        "SERVER cannot hold a TXT at alias.example.test: there is a CNAME to target.example.test",
    )
    .await;
    reads(at, &acme(), Act::at("a.child.example.test"), ErrorKind::Invalid, "SERVER is not authoritative for a.child.example.test, though it was found to hold the zone example.test").await;
    assert_eq!(dns::txt(at, "fresh.example.test"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn knot_refusals_each_read_differently() {
    let knot = start_knot();
    let at = knot.addr();
    let stranger = Key::sha256("stranger");
    reads(at, &stranger, Act::fresh(), ErrorKind::Auth, "SERVER answers BADKEY to the key stranger (hmac-sha256): key unknown, or not allowed to change this name").await;
    let wrong = Key::new("acme", "hmac-sha256", 9);
    reads(at, &wrong, Act::fresh(), ErrorKind::Auth, "SERVER answers BADSIG to the key acme (hmac-sha256): the secret here is not the one that the server has").await;
    reads(at, &acme(), Act::fresh().clock(-4000), ErrorKind::Auth, "SERVER answers BADTIME to the key acme (hmac-sha256): the clock here is 4000 s behind the server's, allowed are 300 s").await;
    reads(at, &acme(), Act::at("hidden.example.test"), ErrorKind::Permission, "SERVER answers BADKEY to the key acme (hmac-sha256): key unknown, or not allowed to change this name").await;
    reads(
        at,
        &acme(),
        Act::at("a.nowhere.test").zone("nowhere.test"),
        ErrorKind::ZoneMissing,
        "SERVER answers NOTAUTH: it does not hold the zone nowhere.test",
    )
    .await;
    reads(
        at,
        &acme(),
        Act::at("alias.example.test"),
        ErrorKind::Invalid,
        "SERVER cannot hold a TXT at alias.example.test: there is a CNAME to target.example.test",
    )
    .await;
    reads(at, &acme(), Act::at("a.child.example.test"), ErrorKind::Invalid, "SERVER is not authoritative for a.child.example.test, though it was found to hold the zone example.test").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn powerdns_refusals_say_that_it_does_not_say_which() {
    let powerdns = start_powerdns();
    let at = powerdns.addr();
    let unsaid = "key, secret, clock or address refused; the server does not say which";
    for (key, act) in [
        (Key::sha256("stranger"), Act::fresh()),
        (Key::new("acme", "hmac-sha256", 9), Act::fresh()),
        (acme(), Act::fresh().clock(-4000)),
    ] {
        let sentence = format!(
            "SERVER does not accept the key {} (hmac-sha256): {unsaid}",
            key.name
        );
        reads(at, &key, act, ErrorKind::Auth, &sentence).await;
    }
    reads(
        at,
        &acme(),
        Act::at("a.nowhere.test").zone("nowhere.test"),
        ErrorKind::Permission,
        "SERVER refuses to answer for a.nowhere.test",
    )
    .await;
    reads(
        at,
        &acme(),
        Act::at("alias.example.test"),
        ErrorKind::Invalid,
        "SERVER cannot hold a TXT at alias.example.test: there is a CNAME to target.example.test",
    )
    .await;

    let other = Key::sha256("other");
    let primary = powerdns::Zone::primary(ZONE, zone_text()).allow_update(&other);
    let closed = PowerDns::new()
        .key(&acme())
        .key(&other)
        .zone(primary)
        .start();
    reads(
        closed.addr(),
        &acme(),
        Act::fresh(),
        ErrorKind::Permission,
        "SERVER refuses to change TXT at fresh.example.test: the key acme (hmac-sha256) is good but may not",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_each_server_says_that_it_wants_one() {
    let refused = "SERVER refuses to change example.test for a request without a key";
    let bind = start_bind();
    reads_without_key(bind.addr(), refused).await;
    let powerdns = start_powerdns();
    reads_without_key(powerdns.addr(), refused).await;
    let knot = start_knot();
    reads_without_key(
        knot.addr(),
        "SERVER answers NOTAUTH: it does not hold the zone example.test, or takes no updates without a key",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_a_wildcard_is_not_taken_for_an_rrset() {
    let (bind, knot, powerdns) = (start_bind(), start_knot(), start_powerdns());
    for at in [bind.addr(), knot.addr(), powerdns.addr()] {
        for owner in ["a.wild", "a.cwild"] {
            let name = name(owner);
            apply(at, &[ensure(&name, "ours")]).await.unwrap();
            assert_eq!(dns::txt(at, name.as_str()), ["ours"], "{at}");
            apply(at, &[absent(&name, "ours")]).await.unwrap();
        }
        assert_eq!(dns::txt(at, "a.wild.example.test"), ["from-the-wildcard"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_cname_keeps_its_neighbours_from_being_half_done() {
    let (bind, knot, powerdns) = (start_bind(), start_knot(), start_powerdns());
    for at in [bind.addr(), knot.addr(), powerdns.addr()] {
        let changes = [
            ensure(&name("fresh"), "ours"),
            ensure(&name("alias"), "ours"),
        ];
        let error = apply(at, &changes).await.unwrap_err();
        assert_eq!(error.code.as_deref(), Some("CNAME"), "{error:?}");
        assert_eq!(dns::txt(at, "fresh.example.test"), [""; 0], "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_zones_at_the_server_the_longer_holds_the_name() {
    let (parent, child) = (zone_text(), zone::text("child.example.test", &[HERE], ""));
    let bind = Bind::new()
        .key(&acme())
        .zone(bind::Zone::primary(ZONE, parent))
        .zone(bind::Zone::primary("child.example.test", child))
        .start();
    let provider = provider(bind.addr(), &acme());
    for (name, apex) in [
        ("_acme-challenge.a.child", "child.example.test"),
        ("child", "child.example.test"),
        ("_acme-challenge.a", ZONE),
    ] {
        let name = self::name(name);
        let found = provider.zones(&name, &context(Clock::system())).await;
        assert_eq!(found, Ok(vec![zone_of(apex).into()]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_found_out_while_looking_for_the_zone() {
    let (bind, knot) = (start_bind(), start_knot());
    for at in [bind.addr(), knot.addr()] {
        let provider = provider(at, &Key::new("acme", "hmac-sha256", 9));
        let found = provider.zones(&name("a"), &context(Clock::system())).await;
        assert_eq!(found.unwrap_err().code.as_deref(), Some("BADSIG"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_algorithm_and_both_forms_of_key_work() {
    for algorithm in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let key = Key::new("acme", algorithm, 4);
        let primary = bind::Zone::primary(ZONE, zone_text()).allow_update(&key);
        let bind = Bind::new().key(&key).zone(primary).start();
        let directory = tempfile::tempdir().unwrap();
        let file = Tsig::KeyFile(key.write_keyfile(directory.path()));
        for tsig in [file, parts(&key, directory.path())] {
            let provider = with(bind.addr(), Some(tsig));
            let there = context(Clock::system());
            let zone = zone_of(ZONE);
            let name = name("fresh");
            provider
                .apply(&zone, &[ensure(&name, "v")], &[], &there)
                .await
                .unwrap();
            provider
                .apply(&zone, &[absent(&name, "v")], &[], &there)
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_comes_between_reading_and_writing_keeps_its_ttl() {
    let (bind, knot, powerdns) = (start_bind(), start_knot(), start_powerdns());
    for at in [bind.addr(), knot.addr(), powerdns.addr()] {
        let between = overtaking(at, "update add fresh.example.test. 777 TXT \"theirs\"");
        let name = name("fresh");
        apply(between, &[ensure(&name, "ours")]).await.unwrap();
        assert_eq!(dns::txt(at, name.as_str()), ["ours", "theirs"], "{at}");
        let ttl = dns::ttl(at, name.as_str(), RecordType::TXT);
        assert_eq!(ttl, Some(777), "{at}");
    }
}

/// A relay to `at` that sends the update `line` of somebody else in front of the first update of ours.
fn overtaking(at: SocketAddr, line: &'static str) -> SocketAddr {
    let relay = TcpListener::bind((HERE, 0)).unwrap();
    let here = relay.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut ours, _) = relay.accept().unwrap();
        let mut server = TcpStream::connect(at).unwrap();
        let mut first = true;
        while let Some(request) = frame(&mut ours) {
            let is_update = request[4] >> 3 & 0x0f == 5;
            if is_update && std::mem::take(&mut first) {
                nsupdate(at, ZONE, Some(&acme()), line).unwrap();
            }
            server.write_all(&request).unwrap();
            ours.write_all(&frame(&mut server).unwrap()).unwrap();
        }
    });
    here
}

/// One message with its length in front; `None` at the end of the connection.
fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 2];
    stream.read_exact(&mut frame).ok()?;
    let length = usize::from(u16::from_be_bytes([frame[0], frame[1]]));
    frame.resize(2 + length, 0);
    stream.read_exact(&mut frame[2..]).ok()?;
    Some(frame)
}

/// What is tried.
struct Act {
    zone: &'static str,
    name: &'static str,
    clock_is_off_by: i64,
}

impl Act {
    fn at(name: &'static str) -> Self {
        Self {
            zone: ZONE,
            name,
            clock_is_off_by: 0,
        }
    }

    fn fresh() -> Self {
        Self::at("fresh.example.test")
    }

    fn zone(self, zone: &'static str) -> Self {
        Self { zone, ..self }
    }

    fn clock(self, clock_is_off_by: i64) -> Self {
        Self {
            clock_is_off_by,
            ..self
        }
    }
}

/// The act fails with this kind and sentence, give or take one second of skew.
async fn reads(at: SocketAddr, key: &Key, act: Act, kind: ErrorKind, sentence: &str) {
    let error = attempt(&provider(at, key), act).await.unwrap_err();
    assert_eq!(said(at, &error), sentence);
    assert_eq!(error.kind, kind, "{error:?}");
    let secret = &key.secret[..8];
    assert!(
        !format!("{error:?}").contains(secret),
        "a secret in {error:?}"
    );
}

async fn reads_without_key(at: SocketAddr, sentence: &str) {
    let error = attempt(&with(at, None), Act::fresh()).await.unwrap_err();
    assert_eq!(said(at, &error), sentence);
    assert_eq!(error.kind, ErrorKind::Auth, "{error:?}");
}

async fn attempt(provider: &Rfc2136, act: Act) -> Result<(), ProviderError> {
    let clock = match act.clock_is_off_by {
        0 => Clock::system(),
        seconds => {
            let shift = jiff::SignedDuration::from_secs(seconds);
            Clock::virtual_at(Clock::system().now().checked_add(shift).unwrap()).0
        }
    };
    let name = DnsName::parse(act.name).unwrap();
    provider
        .apply(
            &zone_of(act.zone),
            &[ensure(&name, "ours")],
            &[],
            &context(clock),
        )
        .await
        .map(drop)
}

fn said(at: SocketAddr, error: &ProviderError) -> String {
    let text = error.message.replace(&at.to_string(), "SERVER");
    // The two clocks may be read on different sides of a second.
    text.replace("4001 s", "4000 s").replace("4999 s", "5000 s")
}

async fn apply(at: SocketAddr, changes: &[Change]) -> Result<(), ProviderError> {
    provider(at, &acme())
        .apply(&zone_of(ZONE), changes, &[], &context(Clock::system()))
        .await
        .map(drop)
}

fn provider(at: SocketAddr, key: &Key) -> Rfc2136 {
    let secret = SecretSource::Command(vec!["echo".into(), key.secret.clone()]);
    let tsig = Tsig::Parts {
        name: DnsName::parse(&key.name).unwrap(),
        algorithm: Algorithm::parse(&key.algorithm).unwrap(),
        secret,
    };
    with(at, Some(tsig))
}

fn with(at: SocketAddr, tsig: Option<Tsig>) -> Rfc2136 {
    Rfc2136::new(Settings {
        server: at.to_string(),
        tsig,
        zone: None,
    })
}

fn parts(key: &Key, directory: &std::path::Path) -> Tsig {
    let secret = directory.join("secret");
    std::fs::write(&secret, format!("{}\n", key.secret)).unwrap();
    Tsig::Parts {
        name: DnsName::parse(&key.name).unwrap(),
        algorithm: Algorithm::parse(&key.algorithm).unwrap(),
        secret: SecretSource::File(secret),
    }
}

fn context(clock: Clock) -> Context {
    let deadline = later(clock.now(), PATIENCE);
    Context::new(clock, deadline)
}

fn name(label: &str) -> DnsName {
    DnsName::parse(&format!("{label}.{ZONE}")).unwrap()
}

fn zone_of(apex: &str) -> Zone {
    Zone {
        name: DnsName::parse(apex).unwrap(),
        id: apex.to_owned(),
    }
}
