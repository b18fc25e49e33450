//! Tests: the plug-in against servers that lie, break off, say nothing, or refuse in ways that real ones only do when
//! they are set up so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TSIG, TsigAlgorithm, TsigError};
use hickory_proto::rr::{Name, Record};
use hickory_proto::rr::{TSigResponseContext, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::clock::{Clock, later};
use crate::contract::ensure;
use crate::{ErrorKind, Provider};

const SECRET: &[u8] = b"thirty-two octets of a test key.";
const BASE64: &str = "dGhpcnR5LXR3byBvY3RldHMgb2YgYSB0ZXN0IGtleS4=";

/// What a server does with a request: the octets it sends back.
type Answer = fn(&Message, &[u8]) -> Vec<u8>;

/// A server on a free port of 127.0.0.1; it ends with the test's runtime.
struct Server {
    at: SocketAddr,
}

impl Server {
    async fn tcp(answer: Answer) -> Self {
        Self::tcp_that_closes_after(usize::MAX, answer).await
    }

    async fn tcp_that_closes_after(replies: usize, answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, replies, answer));
            }
        });
        Self { at }
    }

    async fn udp(answer: fn(&Message, &[u8]) -> Vec<Vec<u8>>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let message = Message::from_vec(&buffer[..length]).unwrap();
                for reply in answer(&message, &buffer[..length]) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        Self { at }
    }

    fn provider(&self, key: Option<&str>) -> Rfc2136 {
        let secret = SecretSource::Command(vec!["echo".into(), BASE64.into()]);
        Rfc2136::new(Settings {
            server: self.at.to_string(),
            tsig: key.map(|name| Tsig::Parts {
                name: DnsName::parse(name).unwrap(),
                algorithm: Algorithm::HmacSha256,
                secret,
            }),
            zone: None,
        })
    }

    /// How adding a value ends, and the sentence without the server's address.
    async fn refusal(&self, key: Option<&str>) -> (ErrorKind, String) {
        let context = context(Clock::system());
        let error = self
            .provider(key)
            .apply(&zone(), &[ensure(&name(), "v")], &[], &context)
            .await
            .unwrap_err();
        let said = error.message.replace(&self.at.to_string(), "SERVER");
        (error.kind, said)
    }
}

async fn talk(mut stream: TcpStream, replies: usize, answer: Answer) {
    for _ in 0..replies {
        let Ok(length) = stream.read_u16().await else {
            return;
        };
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.unwrap();
        let reply = answer(&Message::from_vec(&bytes).unwrap(), &bytes);
        let mut frame = u16::try_from(reply.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(reply);
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

fn zone() -> Zone {
    Zone {
        name: DnsName::parse("example.test").unwrap(),
        id: "example.test".into(),
    }
}

fn name() -> DnsName {
    DnsName::parse("_acme-challenge.example.test").unwrap()
}

fn context(clock: Clock) -> Context {
    let deadline = later(clock.now(), Duration::from_secs(60));
    Context::new(clock, deadline)
}

fn reply(request: &Message, code: ResponseCode) -> Message {
    let mut reply = request.clone().into_response();
    reply.signature = None;
    reply.answers.clear();
    reply.authorities.clear();
    reply.metadata.authoritative = true;
    reply.metadata.response_code = code;
    reply
}

fn unsigned(request: &Message, code: ResponseCode) -> Vec<u8> {
    reply(request, code).to_vec().unwrap()
}

/// A reply signed as `at` seconds of Unix time, by the right key, perhaps with an error in the TSIG.
fn signed(request: &Message, code: ResponseCode, at: u64) -> Vec<u8> {
    let asked = request.signature().unwrap();
    let algorithm = TsigAlgorithm::HmacSha256;
    let signer = TSigner::new(SECRET.to_vec(), algorithm, asked.name.clone(), 300).unwrap();
    let mut reply = reply(request, code);
    let mac = asked.data.mac.clone();
    let context = TSigResponseContext::new(request.metadata.id, at, signer, mac, None);
    let signature = context.sign(&reply.to_vec().unwrap()).unwrap();
    reply.set_signature(signature);
    reply.to_vec().unwrap()
}

/// Nothing at any name, signed; updates as `update` says.
fn good_but(update: ResponseCode, request: &Message) -> Vec<u8> {
    let at = request.signature().unwrap().data.time;
    match request.metadata.op_code {
        OpCode::Update => signed(request, update, at),
        _ => signed(request, ResponseCode::NoError, at),
    }
}

#[tokio::test]
async fn what_is_not_the_reply_is_transient_and_named() {
    let cases: [(Answer, &str); 7] = [
        (|_, _| Vec::new(), "it answers another message"),
        (|_, _| vec![0xff; 65_535], "it answers another message"),
        (
            |_, bytes| [&bytes[..2], &[0xff; 65_000]].concat(),
            "it is not a DNS message",
        ),
        (
            |_, bytes| bytes[..bytes.len() - 1].to_vec(),
            "it is not a DNS message",
        ),
        (|_, bytes| bytes.to_vec(), "it is not a reply"),
        (
            |request, _| {
                let mut reply = reply(request, ResponseCode::NoError);
                reply.metadata.id = reply.metadata.id.wrapping_add(1);
                reply.to_vec().unwrap()
            },
            "it answers another message",
        ),
        (
            |request, _| {
                let mut reply = reply(request, ResponseCode::NoError);
                reply.queries[0].set_name(Name::from_ascii("other.test.").unwrap());
                reply.to_vec().unwrap()
            },
            "it answers another question",
        ),
    ];
    for (answer, why) in cases {
        let server = Server::tcp(answer).await;
        let sentence =
            format!("SERVER cannot be asked: it sent something that is not the reply: {why}");
        assert_eq!(server.refusal(None).await, (ErrorKind::Transient, sentence));
    }
}

#[tokio::test]
async fn an_answer_without_its_signature_is_not_believed() {
    let server = Server::tcp(|request, _| unsigned(request, ResponseCode::NoError)).await;
    let sentence = "SERVER answers without a signature, though asked with the key k (hmac-sha256)";
    let wanted = (ErrorKind::Transient, sentence.to_owned());
    assert_eq!(server.refusal(Some("k")).await, wanted);
}

#[tokio::test]
async fn an_answer_with_a_signature_of_something_else_is_not_believed() {
    let sentence = "SERVER answers with a signature that does not fit, though asked with the key k (hmac-sha256)";
    let answers: [Answer; 3] = [
        // The request's own.
        |request, _| {
            let mut reply = reply(request, ResponseCode::NoError);
            reply.signature = request.signature.clone();
            reply.to_vec().unwrap()
        },
        // A good one, long ago; long enough that less the fudge it would be before time began.
        |request, _| signed(request, ResponseCode::NoError, 7),
        |request, _| {
            let at = request.signature().unwrap().data.time;
            signed(request, ResponseCode::NoError, at - 301)
        },
    ];
    for answer in answers {
        let server = Server::tcp(answer).await;
        let wanted = (ErrorKind::Transient, sentence.to_owned());
        assert_eq!(server.refusal(Some("k")).await, wanted);
    }
}

#[tokio::test]
async fn a_skew_that_is_not_proven_is_not_printed() {
    let server = Server::tcp(|request, _| {
        let mut reply = reply(request, ResponseCode::NotAuth);
        let asked = request.signature().unwrap();
        let tsig = TSIG::new(
            TsigAlgorithm::HmacSha256,
            asked.data.time,
            300,
            vec![0; 32],
            asked.data.oid,
            Some(TsigError::BadTime),
            vec![0; 6],
        );
        let mut record = Record::from_rdata(asked.name.clone(), 0, tsig);
        record.dns_class = asked.dns_class;
        reply.set_signature(Box::new(record));
        reply.to_vec().unwrap()
    })
    .await;
    let (kind, said) = server.refusal(Some("k")).await;
    assert_eq!(kind, ErrorKind::Auth);
    assert_eq!(
        said,
        "SERVER answers BADTIME to the key k (hmac-sha256): the clocks differ by more than 300 s; the reply does not prove by how much"
    );
}

#[tokio::test]
async fn refusals_of_an_update_read_differently() {
    let cases: [(Answer, ErrorKind, &str); 5] = [
        (
            |request, _| match request.metadata.op_code {
                OpCode::Update => unsigned(request, ResponseCode::Refused),
                _ => good_but(ResponseCode::NoError, request),
            },
            ErrorKind::Permission,
            "SERVER refuses to change example.test: key, secret, clock or address refused; the server does not say which",
        ),
        (
            |request, _| good_but(ResponseCode::NotImp, request),
            ErrorKind::Unsupported,
            "SERVER answers NOTIMP: it takes no updates of the zone example.test",
        ),
        (
            |request, _| good_but(ResponseCode::ServFail, request),
            ErrorKind::Transient,
            "SERVER answers SERVFAIL to a change of example.test",
        ),
        (
            |request, _| good_but(ResponseCode::YXRRSet, request),
            ErrorKind::Conflict,
            "somebody else changed the TXT at _acme-challenge.example.test on SERVER twice between reading and writing",
        ),
        (
            |request, _| good_but(ResponseCode::NoError, request),
            ErrorKind::Transient,
            "SERVER says that it added the TXT v at _acme-challenge.example.test, but does not show it",
        ),
    ];
    for (answer, kind, sentence) in cases {
        let server = Server::tcp(answer).await;
        assert_eq!(server.refusal(Some("k")).await, (kind, sentence.to_owned()));
    }
}

#[tokio::test]
async fn a_server_that_closes_after_each_reply_is_asked_to_the_end() {
    let server =
        Server::tcp_that_closes_after(1, |request, _| unsigned(request, ResponseCode::NoError))
            .await;
    let names: Vec<DnsName> = (0..5)
        .map(|i| DnsName::parse(&format!("n{i}.example.test")).unwrap())
        .collect();
    let sets = server
        .provider(None)
        .observe(&zone(), &names, &context(Clock::system()))
        .await;
    assert_eq!(sets.unwrap().len(), 5);
}

#[tokio::test]
async fn a_server_that_closes_without_a_reply_is_given_up() {
    let server = Server::tcp_that_closes_after(0, |_, _| Vec::new()).await;
    let (kind, said) = server.refusal(None).await;
    assert_eq!(kind, ErrorKind::Transient);
    assert!(said.contains("the connection broke"), "{said}");
}

#[tokio::test]
async fn udp_serves_where_tcp_does_not_and_passes_over_forgeries() {
    let server = Server::udp(|request, bytes| {
        let mut forged = unsigned(request, ResponseCode::Refused);
        forged[1] = forged[1].wrapping_add(1);
        let good = unsigned(request, ResponseCode::NoError);
        vec![vec![0; 3], bytes.to_vec(), forged, good]
    })
    .await;
    let sets = server
        .provider(None)
        .observe(&zone(), &[name()], &context(Clock::system()))
        .await;
    assert_eq!(sets.unwrap()[0].values, [""; 0]);
}

#[tokio::test]
async fn every_address_of_the_server_is_tried() {
    let server = Server::tcp(|request, _| unsigned(request, ResponseCode::NoError)).await;
    let provider = Rfc2136::new(Settings {
        // Where the machine has IPv6 its first address is ::1, where nobody listens.
        server: format!("localhost:{}", server.at.port()),
        tsig: None,
        zone: None,
    });
    let sets = provider
        .observe(&zone(), &[name()], &context(Clock::system()))
        .await;
    assert_eq!(sets.map(|sets| sets.len()), Ok(1));
}

#[tokio::test]
async fn a_truncated_answer_by_udp_is_not_half_believed() {
    let server = Server::udp(|request, _| {
        let mut reply = reply(request, ResponseCode::NoError);
        reply.metadata.truncation = true;
        vec![reply.to_vec().unwrap()]
    })
    .await;
    let (kind, said) = server.refusal(None).await;
    assert_eq!(kind, ErrorKind::Transient);
    assert!(
        said.contains("does not fit into UDP, and by TCP:"),
        "{said}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_transient() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let (kind, said) = Server { at }.refusal(None).await;
    assert_eq!(kind, ErrorKind::Transient);
    assert!(said.contains("no answer by UDP, and by TCP:"), "{said}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_ten_seconds() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (clock, hands) = Clock::virtual_at("2026-01-01T00:00:00Z".parse().unwrap());
    let provider = Arc::new(Server { at }.provider(None));
    let asking = tokio::spawn({
        let (provider, context) = (Arc::clone(&provider), context(clock.clone()));
        async move { provider.observe(&zone(), &[name()], &context).await }
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    // The question is here, so the plug-in waits for the reply.
    stream.read_u16().await.unwrap();
    hands.advance(Duration::from_millis(9_900));
    tokio::task::yield_now().await;
    assert!(!asking.is_finished());
    hands.advance(Duration::from_millis(100));
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert!(
        error.message.ends_with("no answer within 10.0 s"),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_named_without_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("acme.key");
    std::fs::write(&path, format!("key \"k\" {{ secret \"{BASE64}\"; }};")).unwrap();
    let provider = Rfc2136::new(Settings {
        server: "127.0.0.1:1".into(),
        tsig: Some(Tsig::KeyFile(path.clone())),
        zone: None,
    });
    let error = provider
        .zones(&name(), &context(Clock::system()))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert_eq!(
        error.message,
        format!(
            "the TSIG key cannot be used: {}: the key has no algorithm",
            path.display()
        )
    );
}

#[tokio::test]
async fn a_configured_zone_needs_no_server() {
    let provider = Rfc2136::new(Settings {
        server: "127.0.0.1:1".into(),
        tsig: None,
        zone: Some(zone().name),
    });
    let there = context(Clock::system());
    assert_eq!(
        provider.zones(&name(), &there).await,
        Ok(vec![zone().into()])
    );
    let elsewhere = DnsName::parse("other.test").unwrap();
    assert_eq!(provider.zones(&elsewhere, &there).await, Ok(Vec::new()));
}
