//! dns-01, RFC 8555 section 8.4: asks the configured nameserver for the TXT records, over real
//! sockets, and compares byte for byte.
//!
//! Not a resolver: every question, also one about the target of a CNAME, goes to the one address.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::clock::deadline;
use crate::problem::{Kind, Problem};

/// CNAMEs followed before the authority gives up, as many as the longest chains seen in use.
const MAX_HOPS: usize = 8;

/// How long one question may take, and how often it is asked over UDP.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 3;

/// What fits in one datagram without fragments (DNS flag day 2020).
const DATAGRAM: u16 = 1232;

/// Found values named in a refusal; there may be many more.
const NAMED: usize = 3;

/// Whether `_acme-challenge.<name>` has a TXT record that is `wanted`.
pub(crate) async fn dns01(nameserver: SocketAddr, name: &str, wanted: &str) -> Result<(), Problem> {
    let owner = format!("_acme-challenge.{name}");
    let values = look_up(nameserver, &owner).await?;
    if values.iter().any(|value| value == wanted.as_bytes()) {
        return Ok(());
    }
    if values.is_empty() {
        return Err(Problem::unauthorized(format!(
            "No TXT record found at {owner}"
        )));
    }
    let found: Vec<_> = values
        .iter()
        .take(NAMED)
        .map(|v| format!("{:?}", String::from_utf8_lossy(v)))
        .collect();
    let more = match values.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let found = found.join(", ");
    Err(Problem::unauthorized(format!(
        "Incorrect TXT record {found}{more} found at {owner}"
    )))
}

/// The TXT values at `owner`, through CNAMEs.
async fn look_up(nameserver: SocketAddr, owner: &str) -> Result<Vec<Vec<u8>>, Problem> {
    let failed = |detail: String| dns(format!("DNS problem: {detail} looking up TXT for {owner}"));
    let mut at = Name::from_ascii(format!("{owner}.")).map_err(|e| failed(e.to_string()))?;
    let mut hops = 0;
    loop {
        let answer = ask(nameserver, &at).await.map_err(&failed)?;
        let before = hops;
        while let Some(target) = alias(&answer, &at) {
            hops += 1;
            if hops > MAX_HOPS {
                return Err(failed(format!("more than {MAX_HOPS} CNAMEs")));
            }
            at = target;
        }
        let values = texts(&answer, &at);
        // A CNAME whose target the answer leaves open (another zone) is a question of its own.
        if values.is_empty() && hops > before {
            continue;
        }
        return match answer.metadata.response_code {
            ResponseCode::NoError => Ok(values),
            ResponseCode::NXDomain => Err(failed(format!("NXDOMAIN at {at}"))),
            other => Err(failed(format!("{other} at {at}"))),
        };
    }
}

fn alias(answer: &Message, at: &Name) -> Option<Name> {
    answer.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *at => Some(target.0.clone()),
        _ => None,
    })
}

/// Each value with its character-strings joined.
fn texts(answer: &Message, at: &Name) -> Vec<Vec<u8>> {
    let values = answer.answers.iter().filter(|record| record.name == *at);
    values
        .filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        })
        .collect()
}

/// One question: UDP a few times, TCP where the answer was cut short.
async fn ask(nameserver: SocketAddr, name: &Name) -> Result<Message, String> {
    let mut trouble = String::new();
    for _ in 0..TRIES {
        let query = question(name);
        trouble = match deadline(PATIENCE, over_udp(nameserver, &query)).await {
            Some(Ok(answer)) if answer.metadata.truncation => {
                return deadline(PATIENCE, over_tcp(nameserver, &query))
                    .await
                    .unwrap_or_else(|| Err(format!("no TCP answer from {nameserver}")));
            }
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(trouble)) => trouble,
            None => format!("query timed out at {nameserver}"),
        };
    }
    Err(trouble)
}

fn question(name: &Name) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), RecordType::TXT));
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM);
    message.set_edns(edns);
    message
}

async fn over_udp(nameserver: SocketAddr, query: &Message) -> Result<Message, String> {
    let local = match nameserver {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(local).await.map_err(|e| e.to_string())?;
    socket
        .connect(nameserver)
        .await
        .map_err(|e| e.to_string())?;
    let bytes = query.to_vec().map_err(|e| e.to_string())?;
    socket
        .send(&bytes)
        .await
        .map_err(|e| format!("{e} at {nameserver}"))?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket
            .recv(&mut buffer)
            .await
            .map_err(|e| format!("{e} at {nameserver}"))?;
        // A datagram that does not answer this question is somebody else's, or a forgery.
        if let Some(answer) = buffer.get(..length).and_then(|bytes| answers(query, bytes)) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(nameserver: SocketAddr, query: &Message) -> Result<Message, String> {
    let text = |e: std::io::Error| format!("{e} at {nameserver} over TCP");
    let mut stream = TcpStream::connect(nameserver).await.map_err(text)?;
    let bytes = query.to_vec().map_err(|e| e.to_string())?;
    let length = u16::try_from(bytes.len()).map_err(|e| e.to_string())?;
    stream
        .write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat())
        .await
        .map_err(text)?;
    let length = stream.read_u16().await.map_err(text)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(text)?;
    answers(query, &buffer).ok_or_else(|| format!("unreadable answer from {nameserver} over TCP"))
}

/// The message, if it answers `query`.
fn answers(query: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same_question = match (answer.queries.as_slice(), query.queries.as_slice()) {
        ([theirs], [ours]) => {
            theirs.name() == ours.name()
                && theirs.query_type() == ours.query_type()
                && theirs.query_class() == DNSClass::IN
        }
        // An error may come without its question.
        ([], _) => answer.metadata.response_code != ResponseCode::NoError,
        _ => false,
    };
    let fits = answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == OpCode::Query;
    (fits && same_question).then_some(answer)
}

fn dns(detail: String) -> Problem {
    Problem::new(Kind::Dns, detail)
}
