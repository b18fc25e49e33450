//! A small DNS client that asks one server and believes what it says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// A loopback server that has not answered by then will not.
const PATIENCE: Duration = Duration::from_secs(2);

/// The TXT values at `name`, sorted; empty for NODATA and NXDOMAIN. Panics when there is no answer.
pub fn txt(at: SocketAddr, name: &str) -> Vec<String> {
    let mut values: Vec<_> = answers(at, name, RecordType::TXT)
        .into_iter()
        .filter_map(|record| match record.data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        })
        .collect();
    values.sort();
    values
}

/// The TTL of the RRset of `kind` at `name`, if there is one.
pub fn ttl(at: SocketAddr, name: &str, kind: RecordType) -> Option<u32> {
    answers(at, name, kind).first().map(|record| record.ttl)
}

/// The zone's serial; `None` when this server does not answer for `zone` with authority.
pub fn serial(at: SocketAddr, zone: &str) -> Option<u32> {
    let reply = query(at, zone, RecordType::SOA)
        .ok()
        .filter(|reply| reply.metadata.authoritative)?;
    reply.answers.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    })
}

/// Records of `kind` at `name`. Panics when there is no answer, or one that is neither NOERROR nor NXDOMAIN.
pub fn answers(at: SocketAddr, name: &str, kind: RecordType) -> Vec<Record> {
    let reply = query(at, name, kind)
        .unwrap_or_else(|error| panic!("{at} does not answer {name} {kind}: {error}"));
    let code = reply.metadata.response_code;
    assert!(
        matches!(code, ResponseCode::NoError | ResponseCode::NXDomain),
        "{at} answers {name} {kind} with {code}"
    );
    reply
        .answers
        .into_iter()
        .filter(|record| record.record_type() == kind)
        .collect()
}

/// One question by UDP, again by TCP when truncated.
pub fn query(at: SocketAddr, name: &str, kind: RecordType) -> std::io::Result<Message> {
    let reply = exchange_udp(at, &question(name, kind))?;
    if reply.metadata.truncation {
        query_tcp(at, name, kind)
    } else {
        Ok(reply)
    }
}

/// One question by TCP.
pub fn query_tcp(at: SocketAddr, name: &str, kind: RecordType) -> std::io::Result<Message> {
    exchange_tcp(at, &question(name, kind))
}

/// A question with RD set, so that resolvers take it too.
pub fn question(name: &str, kind: RecordType) -> Message {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let name =
        Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).expect("a name in a test");
    let mut message = Message::new(
        NEXT.fetch_add(1, Ordering::Relaxed),
        MessageType::Query,
        OpCode::Query,
    );
    message.metadata.recursion_desired = true;
    let mut query = Query::query(name, kind);
    query.set_query_class(DNSClass::IN);
    message.add_query(query);
    message
}

/// Sends `message` by UDP; replies with another id are ignored.
pub fn exchange_udp(at: SocketAddr, message: &Message) -> std::io::Result<Message> {
    let socket = UdpSocket::bind(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(at)?;
    socket.send(&encode(message)?)?;
    let mut buffer = [0; 65_535];
    loop {
        let length = socket.recv(&mut buffer)?;
        let reply = decode(&buffer[..length])?;
        if reply.metadata.id == message.metadata.id {
            return Ok(reply);
        }
    }
}

/// Sends `message` by TCP.
pub fn exchange_tcp(at: SocketAddr, message: &Message) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let bytes = encode(message)?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    decode(&reply)
}

fn encode(message: &Message) -> std::io::Result<Vec<u8>> {
    message.to_vec().map_err(std::io::Error::other)
}

fn decode(bytes: &[u8]) -> std::io::Result<Message> {
    Message::from_vec(bytes).map_err(std::io::Error::other)
}
