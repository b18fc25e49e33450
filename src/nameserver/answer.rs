//! A query's bytes → the reply's bytes. Pure: no socket, no clock, no log.
//!
//! Authoritative only (RFC 1034, 1035), with negative answers by RFC 2308, EDNS(0) by RFC 6891, a small answer to ANY
//! by RFC 8482, and a reply to everything that RFC 8906 section 8 sends. Every byte of a query is hostile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_net::xfer::Protocol;
use hickory_proto::op::{Edns, LowerQuery, Message, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use hickory_server::server::Request;

use super::zone::{NEGATIVE_TTL, Snapshot};

/// The largest UDP reply, which crosses any path unfragmented (RFC 9715 section 3.1).
const MAX_UDP: u16 = 1232;
/// The largest UDP reply to a client that says nothing (RFC 1035 section 4.2.1).
const PLAIN_UDP: u16 = 512;
/// The header (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
/// Query types that ask for other things than records (RFC 6895 section 3.1).
const MAILB: RecordType = RecordType::Unknown(253);
const MAILA: RecordType = RecordType::Unknown(254);
const TKEY: RecordType = RecordType::Unknown(249);

/// What a query came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram; long answers are cut.
    Udp,
    /// A stream; up to 65,535 octets.
    Tcp,
}

/// The reply to `query`; `None` where silence is right: no whole header, or a reply itself.
pub fn answer(zone: &Snapshot, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let header: &[u8; HEADER] = query.first_chunk()?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    let is_query = header[2] & 0x78 == 0;
    let questions = u16::from_be_bytes([header[4], header[5]]);
    let broken = if is_query {
        ResponseCode::FormErr
    } else {
        ResponseCode::NotImp
    };
    // The parser would make room for as many questions as the header claims.
    if questions > 1 {
        return Some(bare(header, broken));
    }
    let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let Ok(request) = Request::from_bytes(query.to_vec(), nobody, protocol(transport)) else {
        return Some(bare(header, broken));
    };
    let reply = decide(zone, &request);
    Some(emit(&request, reply, transport).unwrap_or_else(|| bare(header, ResponseCode::ServFail)))
}

/// What a reply holds besides what it copies from the query.
#[derive(Default)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Reply {
    fn refusal(code: ResponseCode) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }
}

fn decide(zone: &Snapshot, request: &Request) -> Reply {
    if request.metadata.op_code != OpCode::Query {
        return Reply::refusal(ResponseCode::NotImp);
    }
    let [query] = request.queries.queries() else {
        return Reply::refusal(ResponseCode::FormErr);
    };
    if !is_plain_name(request.queries.as_bytes()) {
        return Reply::refusal(ResponseCode::FormErr);
    }
    if request.version() > 0 {
        return Reply::refusal(ResponseCode::BADVERS);
    }
    if request.signature.is_some() {
        // No key is known here (RFC 8945 section 5.2).
        return Reply::refusal(ResponseCode::NotAuth);
    }
    match query.query_type() {
        RecordType::OPT | RecordType::TSIG | TKEY => {
            return Reply::refusal(ResponseCode::FormErr);
        }
        MAILA | MAILB => return Reply::refusal(ResponseCode::NotImp),
        RecordType::AXFR | RecordType::IXFR => return Reply::refusal(ResponseCode::Refused),
        _ => {}
    }
    if query.query_class() != DNSClass::IN || !zone.holds(query.name()) {
        return Reply::refusal(ResponseCode::Refused);
    }
    look_up(zone, query)
}

fn look_up(zone: &Snapshot, query: &LowerQuery) -> Reply {
    let mut reply = Reply {
        authoritative: true,
        ..Reply::default()
    };
    let Some(node) = zone.node(query.name()) else {
        reply.code = ResponseCode::NXDomain;
        reply.authorities.push(zone.negative_soa().clone());
        return reply;
    };
    // The owner is written as it was asked for, so that it compresses whatever its case.
    let asked = &query.original().name;
    if query.query_type() == RecordType::ANY && !node.is_empty() {
        let hinfo = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
        let record = Record::from_rdata(asked.clone(), NEGATIVE_TTL, hinfo);
        reply.answers.push(record);
        return reply;
    }
    for record in node {
        if record.record_type() == query.query_type() {
            let mut record = record.clone();
            record.name = asked.clone();
            if let RData::NS(host) = &record.data {
                reply.additionals.extend(zone.addresses(&host.0).cloned());
            }
            reply.answers.push(record);
        }
    }
    if reply.answers.is_empty() {
        reply.authorities.push(zone.negative_soa().clone());
    }
    reply
}

/// A name in the question has nothing before it that it could point to.
fn is_plain_name(question: &[u8]) -> bool {
    let mut rest = question;
    while let Some((&length, after)) = rest.split_first() {
        match length {
            0 => return after.len() == 4,
            1..=63 => rest = after.get(usize::from(length)..).unwrap_or_default(),
            _ => return false,
        }
    }
    false
}

/// Writes the reply: whole, else without the optional addresses, else nothing but "ask by TCP".
fn emit(request: &Request, reply: Reply, transport: Transport) -> Option<Vec<u8>> {
    let limit = match (transport, &request.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => PLAIN_UDP,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP, MAX_UDP),
    };
    let fits = |bytes: &Vec<u8>| bytes.len() <= usize::from(limit);
    let mut message = message(request, reply);
    if let Some(whole) = encode(&message).filter(fits) {
        return Some(whole);
    }
    message.additionals.clear();
    if let Some(lean) = encode(&message).filter(fits) {
        return Some(lean);
    }
    // Part of an RRset is worse than none (RFC 2181 section 9).
    message.answers.clear();
    message.authorities.clear();
    message.metadata.truncation = true;
    encode(&message)
}

fn message(request: &Request, reply: Reply) -> Message {
    let metadata = Metadata::response_from_request(&request.metadata);
    let mut message = Message::new(metadata.id, metadata.message_type, metadata.op_code);
    message.metadata = metadata;
    message.metadata.response_code = reply.code;
    message.metadata.authoritative = reply.authoritative;
    let questions = request.queries.queries().iter();
    message.add_queries(questions.map(|question| question.original().clone()));
    message.answers = reply.answers;
    message.authorities = reply.authorities;
    message.additionals = reply.additionals;
    message.edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP)
            .set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
    message
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(u16::MAX);
    message.emit(&mut encoder).ok()?;
    Some(bytes)
}

/// A header alone: for what could not be parsed.
fn bare(header: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    let mut reply = vec![0; HEADER];
    reply[..2].copy_from_slice(&header[..2]);
    // QR, and of the query's flags opcode and RD (RFC 1035 section 4.1.1) and CD (RFC 4035 section 3.1.6).
    reply[2] = 0x80 | (header[2] & 0x79);
    reply[3] = (header[3] & 0x10) | code.low();
    reply
}

fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    }
}
