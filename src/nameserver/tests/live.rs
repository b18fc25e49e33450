//! The server on loopback sockets, and its zone through the provider contract.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_providers::clock::Clock;
use countersign_providers::contract::{Fixture, battery};
use countersign_providers::record::{Change, DnsName, RrSet, Verb, Zone};
use countersign_providers::{Context, ErrorKind, Provider};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{name, settings};
use crate::nameserver::{Nameserver, NameserverError, Settings};
use crate::store::Store;
use crate::store::faulty::{Fault, FaultyStore};

struct Bench {
    store: Arc<FaultyStore>,
    server: Nameserver,
    address: SocketAddr,
    context: Context,
}

impl Bench {
    async fn new() -> Self {
        Self::over(Arc::new(FaultyStore::new())).await
    }

    async fn over(store: Arc<FaultyStore>) -> Self {
        let clock = Clock::system();
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let fence = store.fence().await;
        let server = Nameserver::open(settings(), shared, fence, clock.clone())
            .await
            .unwrap();
        let address = server.listen().await.unwrap()[0];
        let deadline = Timestamp::MAX;
        Self {
            store,
            server,
            address,
            context: Context::new(clock, deadline),
        }
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    async fn apply(&self, verb: Verb, host: &str, value: &str) -> Result<(), ErrorKind> {
        let change = Change {
            verb,
            name: name(host),
            value: value.to_owned(),
            ttl: 60,
            handle: None,
        };
        let applied = self
            .server
            .provider()
            .apply(&zone(), &[change], &[], &self.context)
            .await;
        applied.map(drop).map_err(|error| error.kind)
    }

    async fn texts(&self, host: &str) -> Vec<String> {
        texts(&by_udp(self.address(), host, RecordType::TXT).await)
    }

    async fn serial(&self) -> u32 {
        let reply = by_udp(self.address(), "acme.example.net", RecordType::SOA).await;
        match &reply.answers[0].data {
            RData::SOA(soa) => soa.serial,
            other => panic!("not SOA: {other}"),
        }
    }
}

fn zone() -> Zone {
    Zone {
        name: name("acme.example.net"),
        id: "acme.example.net".to_owned(),
    }
}

fn query(id: u16, host: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    let host = Name::from_ascii(format!("{host}.")).unwrap();
    message.add_query(Query::query(host, kind));
    message.to_vec().unwrap()
}

async fn by_udp(server: SocketAddr, host: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&query(1, host, kind), server).await.unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).await.unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn read_framed(stream: &mut TcpStream) -> Message {
    let length = stream.read_u16().await.unwrap();
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

fn framed(query: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(query.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(query);
    bytes
}

fn texts(reply: &Message) -> Vec<String> {
    let text = |data: &RData| match data {
        RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).unwrap(),
        other => panic!("not TXT: {other}"),
    };
    reply
        .answers
        .iter()
        .map(|record| text(&record.data))
        .collect()
}

#[async_trait]
impl Fixture for Bench {
    fn zone(&self) -> Zone {
        zone()
    }

    fn name(&self, label: &str) -> DnsName {
        zone().name.prepend(label).unwrap()
    }

    fn forbidden(&self) -> Option<DnsName> {
        None
    }

    fn context(&self) -> Context {
        self.context.clone()
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        let reply = ask_by_tcp(self.address(), name.as_str()).await;
        RrSet {
            name: name.clone(),
            ttl: reply.answers.first().map(|record| record.ttl),
            values: texts(&reply),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.min(3_600)
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let change = Change {
            verb: Verb::Ensure,
            name: name.clone(),
            value: value.to_owned(),
            ttl,
            handle: None,
        };
        let provider = self.server.provider();
        provider
            .apply(&zone(), &[change], &[], &self.context)
            .await
            .unwrap();
    }
}

async fn ask_by_tcp(server: SocketAddr, host: &str) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream
        .write_all(&framed(&query(1, host, RecordType::TXT)))
        .await
        .unwrap();
    read_framed(&mut stream).await
}

#[tokio::test]
async fn passes_the_battery_of_every_plug_in() {
    let bench = Bench::new().await;
    battery(bench.server.provider().as_ref(), &bench).await;
}

const HOST: &str = "_acme-challenge.www.acme.example.net";

#[tokio::test]
async fn a_value_is_there_until_it_is_withdrawn() {
    let bench = Bench::new().await;
    let reply = by_udp(bench.address(), HOST, RecordType::TXT).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    bench.apply(Verb::Ensure, HOST, "one").await.unwrap();
    bench.apply(Verb::Ensure, HOST, "two").await.unwrap();
    bench.apply(Verb::Ensure, HOST, "two").await.unwrap();
    assert_eq!(bench.texts(HOST).await, ["one", "two"]);
    bench.apply(Verb::Absent, HOST, "one").await.unwrap();
    assert_eq!(bench.texts(HOST).await, ["two"]);
    bench.apply(Verb::Absent, HOST, "two").await.unwrap();
    bench.apply(Verb::Absent, HOST, "two").await.unwrap();
    let reply = by_udp(bench.address(), HOST, RecordType::TXT).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn values_and_serial_survive_a_restart() {
    let bench = Bench::new().await;
    bench.apply(Verb::Ensure, HOST, "kept").await.unwrap();
    let before = bench.serial().await;
    let Bench { store, server, .. } = bench;
    drop(server);
    let bench = Bench::over(store).await;
    assert_eq!(bench.texts(HOST).await, ["kept"]);
    assert_eq!(bench.serial().await, before);
    bench.apply(Verb::Ensure, HOST, "more").await.unwrap();
    bench.apply(Verb::Absent, HOST, "more").await.unwrap();
    assert!(bench.serial().await >= before + 2);
}

#[tokio::test]
async fn nothing_is_answered_that_the_store_did_not_take() {
    let bench = Bench::new().await;
    bench.store.fail(Fault::BeforeWriting);
    let failed = bench.apply(Verb::Ensure, HOST, "lost").await;
    assert_eq!(failed, Err(ErrorKind::Transient));
    assert!(bench.texts(HOST).await.is_empty());
    bench.store.fail(Fault::None);
    bench.apply(Verb::Ensure, HOST, "kept").await.unwrap();
    assert_eq!(bench.texts(HOST).await, ["kept"]);
}

#[tokio::test]
async fn a_value_that_was_stored_although_the_commit_failed_can_be_withdrawn() {
    let bench = Bench::new().await;
    bench.store.fail(Fault::AfterWriting);
    bench.apply(Verb::Ensure, HOST, "late").await.unwrap_err();
    bench.store.fail(Fault::None);
    bench.apply(Verb::Absent, HOST, "late").await.unwrap();
    let Bench { store, server, .. } = bench;
    drop(server);
    assert!(Bench::over(store).await.texts(HOST).await.is_empty());
}

#[tokio::test]
async fn a_value_that_was_stored_although_the_commit_failed_is_served_once_ensured_again() {
    let bench = Bench::new().await;
    bench.store.fail(Fault::AfterWriting);
    bench.apply(Verb::Ensure, HOST, "late").await.unwrap_err();
    bench.store.fail(Fault::None);
    bench.apply(Verb::Ensure, HOST, "late").await.unwrap();
    assert_eq!(bench.texts(HOST).await, ["late"]);
}

#[tokio::test]
async fn takes_64_values_a_name_and_no_more() {
    let bench = Bench::new().await;
    for n in 0..64 {
        bench
            .apply(Verb::Ensure, HOST, &format!("{n}"))
            .await
            .unwrap();
    }
    assert_eq!(
        bench.apply(Verb::Ensure, HOST, "65").await,
        Err(ErrorKind::Quota)
    );
    assert_eq!(bench.apply(Verb::Ensure, HOST, "63").await, Ok(()));
}

#[tokio::test]
async fn holds_names_of_its_zone_only() {
    let bench = Bench::new().await;
    let provider = bench.server.provider();
    let inside = provider.zones(&name(HOST), &bench.context).await.unwrap();
    assert_eq!(inside, [zone().into()]);
    let outside = provider
        .zones(&name("example.net"), &bench.context)
        .await
        .unwrap();
    assert!(outside.is_empty());
    let refused = bench.apply(Verb::Ensure, "other.example.net", "x").await;
    assert_eq!(refused, Err(ErrorKind::Invalid));
    let observed = provider
        .observe(&zone(), &[name(HOST)], &bench.context)
        .await
        .unwrap();
    assert_eq!((observed[0].ttl, observed[0].values.len()), (None, 0));
}

#[tokio::test]
async fn answers_pipelined_queries_by_tcp() {
    let bench = Bench::new().await;
    bench.apply(Verb::Ensure, HOST, "one").await.unwrap();
    let mut stream = TcpStream::connect(bench.address()).await.unwrap();
    let mut burst = Vec::new();
    for id in 0..100 {
        burst.extend(framed(&query(id, HOST, RecordType::TXT)));
    }
    stream.write_all(&burst).await.unwrap();
    for id in 0..100 {
        let reply = read_framed(&mut stream).await;
        assert_eq!(reply.metadata.id, id);
        assert_eq!(texts(&reply), ["one"]);
    }
}

#[tokio::test]
async fn one_address_gets_16_connections_and_udp_goes_on() {
    let bench = Bench::new().await;
    let mut streams = Vec::new();
    for id in 0..16 {
        let mut stream = TcpStream::connect(bench.address()).await.unwrap();
        stream
            .write_all(&framed(&query(id, HOST, RecordType::TXT)))
            .await
            .unwrap();
        read_framed(&mut stream).await;
        streams.push(stream);
    }
    let mut refused = TcpStream::connect(bench.address()).await.unwrap();
    // The refused connection is closed without a word.
    let _ = refused
        .write_all(&framed(&query(1, HOST, RecordType::TXT)))
        .await;
    let mut rest = Vec::new();
    let _ = refused.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    assert!(bench.texts(HOST).await.is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_ten_seconds() {
    let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
    let store = Arc::new(FaultyStore::new());
    let fence = store.fence().await;
    let server = Nameserver::open(settings(), store, fence, clock)
        .await
        .unwrap();
    let address = server.listen().await.unwrap()[0];
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(&framed(&query(1, HOST, RecordType::TXT)))
        .await
        .unwrap();
    read_framed(&mut stream).await;
    // Half a length, which must not restart the clock.
    stream.write_all(&[0]).await.unwrap();
    let closed = tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await.is_ok() });
    while !closed.is_finished() {
        hands.advance(std::time::Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn says_who_has_the_port() {
    let bench = Bench::new().await;
    let mut again = settings();
    again.listen = vec![bench.address()];
    let store = Arc::new(FaultyStore::new());
    let fence = store.fence().await;
    let server = Nameserver::open(again, store, fence, Clock::system())
        .await
        .unwrap();
    let error = server.listen().await.unwrap_err();
    assert!(matches!(error, NameserverError::Listen { .. }));
    assert!(error.to_string().contains(&bench.address().to_string()));
}

#[tokio::test]
async fn listens_on_both_families_at_one_port() {
    let free = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut both = settings();
    both.listen = vec![
        SocketAddr::new("0.0.0.0".parse().unwrap(), port),
        SocketAddr::new("::".parse().unwrap(), port),
    ];
    let store = Arc::new(FaultyStore::new());
    let fence = store.fence().await;
    let server = Nameserver::open(both, store, fence, Clock::system())
        .await
        .unwrap();
    assert_eq!(server.listen().await.unwrap().len(), 2);
    for (from, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let socket = UdpSocket::bind(from).await.unwrap();
        let to = SocketAddr::new(to.parse().unwrap(), port);
        socket
            .send_to(&query(1, "acme.example.net", RecordType::SOA), to)
            .await
            .unwrap();
        let mut buffer = [0; 512];
        assert!(socket.recv(&mut buffer).await.unwrap() > 12);
    }
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused() {
    let listen = |at: &str| vec![at.parse().unwrap()];
    let host = |host: &str, at: &[&str]| {
        let addresses = at.iter().map(|at| at.parse().unwrap()).collect();
        BTreeMap::from([(name(host), addresses)])
    };
    let good = "ns1.acme.example.net";
    for (listen, hosts, wanted) in [
        (
            vec![],
            host(good, &["192.0.2.1"]),
            "no address to listen on",
        ),
        (
            listen("0.0.0.0:0"),
            BTreeMap::new(),
            "does not know its own address",
        ),
        (listen("127.0.0.1:0"), host(good, &[]), "has no address"),
        (
            listen("127.0.0.1:0"),
            host("ns1.example.org", &["192.0.2.1"]),
            "is not in its zone",
        ),
    ] {
        let bad = Settings {
            zone: name("acme.example.net"),
            listen,
            hosts,
        };
        let store = Arc::new(FaultyStore::new());
        let fence = store.fence().await;
        let error = Nameserver::open(bad, store, fence, Clock::system())
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
