//! The messages: questions and updates that go out, and what a reply to one says (RFC 1035, RFC 2136 sections 2 and 3).

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::tsig::{Key, Signature};
use crate::record::DnsName;

/// What our questions say about the size of UDP replies; no fragmentation up to here.
pub(super) const UDP_PAYLOAD: u16 = 1232;
/// The longest character-string (RFC 1035 section 3.3).
const MAX_STRING: usize = 255;

/// `name` for the wire.
pub(super) fn wire_name(name: &DnsName) -> Result<Name, NotOnWire> {
    let mut wire = Name::from_ascii(name.as_str()).map_err(|_| NotOnWire)?;
    wire.set_fqdn(true);
    Ok(wire)
}

/// A name that has no wire form, i.e. more than 255 octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotOnWire;

/// The question for the RRset of `kind` at `name`, for this server alone (RD=0).
pub(super) fn question(name: Name, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    message.set_edns(edns);
    message
}

/// An update of `zone` (RFC 2136 section 2).
pub(super) fn update(zone: Name, prerequisites: Vec<Record>, updates: Vec<Record>) -> Message {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.add_query(Query::query(zone, RecordType::SOA));
    message.answers = prerequisites;
    message.authorities = updates;
    message
}

/// `value` as the RDATA of one TXT record.
pub(super) fn txt(value: &str) -> TXT {
    let octets = value.as_bytes();
    if octets.is_empty() {
        return TXT::from_bytes(vec![b""]);
    }
    TXT::from_bytes(octets.chunks(MAX_STRING).collect())
}

/// The octets of a TXT record, its character-strings joined.
pub(super) fn joined(txt: &TXT) -> Vec<u8> {
    txt.txt_data.concat()
}

/// Prerequisite: the RRset at `name` is exactly this one, together with the others for the same name
/// (RFC 2136 section 2.4.2).
pub(super) fn exists_with(name: Name, txt: TXT) -> Record {
    Record::from_rdata(name, 0, RData::TXT(txt))
}

/// Prerequisite: there is no RRset of `kind` at `name` (RFC 2136 section 2.4.3).
pub(super) fn does_not_exist(name: Name, kind: RecordType) -> Record {
    let mut record = Record::update0(name, 0, kind);
    record.dns_class = DNSClass::NONE;
    record
}

/// Update: one more record in the RRset (RFC 2136 section 2.5.1).
pub(super) fn add(name: Name, ttl: u32, txt: TXT) -> Record {
    Record::from_rdata(name, ttl, RData::TXT(txt))
}

/// Update: this one record out of the RRset (RFC 2136 section 2.5.4).
pub(super) fn delete(name: Name, txt: TXT) -> Record {
    let mut record = Record::from_rdata(name, 0, RData::TXT(txt));
    record.dns_class = DNSClass::NONE;
    record
}

/// A message in its final form, and what is needed to judge the reply.
pub(super) struct Request {
    /// As it goes out.
    pub(super) bytes: Vec<u8>,
    /// The message's number, which the reply repeats.
    pub(super) id: u16,
    opcode: OpCode,
    question: Query,
    mac: Vec<u8>,
    signed_at: u64,
}

impl Request {
    /// Signs `message` with `key`, as of `now` in Unix seconds, and encodes it.
    pub(super) fn seal(mut message: Message, key: Option<&Key>, now: u64) -> Result<Self, String> {
        let mac = match key {
            Some(key) => key.sign(&mut message, now)?,
            None => Vec::new(),
        };
        let bytes = message.to_vec().map_err(|error| error.to_string())?;
        let question = message
            .queries
            .first()
            .cloned()
            .ok_or("a message without a question")?;
        Ok(Self {
            bytes,
            id: message.metadata.id,
            opcode: message.metadata.op_code,
            question,
            mac,
            signed_at: now,
        })
    }

    /// Reads `bytes` as the reply to this request; an error says why they are none.
    pub(super) fn reply(&self, bytes: &[u8], key: Option<&Key>) -> Result<Reply, &'static str> {
        let message = Message::from_vec(bytes).map_err(|_| "it is not a DNS message")?;
        if message.metadata.id != self.id {
            return Err("it answers another message");
        }
        if message.metadata.message_type != MessageType::Response {
            return Err("it is not a reply");
        }
        if message.metadata.op_code != self.opcode {
            return Err("it answers another operation");
        }
        match message.queries.as_slice() {
            // An error, or any answer to an update, may leave the question out (RFC 2136 section 3.8).
            [] if self.opcode == OpCode::Update
                || !means_answer(message.metadata.response_code) => {}
            [one] if *one == self.question => {}
            _ => return Err("it answers another question"),
        }
        let signature = match key {
            None => Signature::NotWanted,
            Some(key) => key.judge(&message, bytes, &self.mac, self.signed_at),
        };
        Ok(Reply {
            message,
            signature,
            asked_at: self.signed_at,
        })
    }
}

/// A reply that belongs to its request, whatever it says.
#[derive(Debug)]
pub(super) struct Reply {
    /// The message.
    pub(super) message: Message,
    /// What its TSIG says.
    pub(super) signature: Signature,
    /// When the request was made, in Unix seconds.
    pub(super) asked_at: u64,
}

impl Reply {
    /// The response code.
    pub(super) fn code(&self) -> ResponseCode {
        self.message.metadata.response_code
    }

    /// Whether the content may be believed: signed well, or no signature wanted.
    pub(super) fn trusted(&self) -> bool {
        matches!(self.signature, Signature::Good | Signature::NotWanted)
    }

    /// Whether the server is authoritative for the name asked.
    pub(super) fn authoritative(&self) -> bool {
        self.message.metadata.authoritative
    }

    /// Whether the server says that `name` itself is the apex of a zone it is authoritative for.
    pub(super) fn is_apex(&self, name: &Name) -> bool {
        self.code() == ResponseCode::NoError
            && self.authoritative()
            && self
                .message
                .answers
                .iter()
                .any(|record| record.record_type() == RecordType::SOA && record.name == *name)
    }

    /// The servers that the answer names for the zone with the apex `name`.
    pub(super) fn nameservers(&self, name: &Name) -> Vec<DnsName> {
        let answers = self.message.answers.iter().filter(|it| it.name == *name);
        let servers = answers.filter_map(|record| match &record.data {
            RData::NS(server) => DnsName::parse(&server.0.to_ascii()).ok(),
            _ => None,
        });
        servers.collect()
    }

    /// What the answer says about TXT at `name`.
    pub(super) fn node(&self, name: &Name) -> Node {
        let mut node = Node::default();
        for record in self.message.answers.iter().filter(|r| r.name == *name) {
            match &record.data {
                RData::TXT(txt) => {
                    node.ttl = Some(node.ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
                    if !node.txt.contains(txt) {
                        node.txt.push(txt.clone());
                    }
                }
                RData::CNAME(target) => node.cname = Some(target.0.to_ascii()),
                _ => {}
            }
        }
        node
    }
}

/// What a server says about one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// The TXT records as they are on the wire.
    pub(super) txt: Vec<TXT>,
    /// The TTL of the TXT RRset.
    pub(super) ttl: Option<u32>,
    /// Where a CNAME at the name leads.
    pub(super) cname: Option<String>,
}

impl Node {
    /// Whether one of the records holds `value`.
    pub(super) fn holds(&self, value: &str) -> bool {
        self.txt.iter().any(|txt| joined(txt) == value.as_bytes())
    }
}

/// Whether the code is that of an answer, as against an error.
fn means_answer(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        wire_name(&DnsName::parse(text).unwrap()).ok().unwrap()
    }

    fn asked() -> (Message, Request) {
        let message = question(name("a.example.test"), RecordType::TXT);
        let request = Request::seal(message.clone(), None, 0).ok().unwrap();
        (message, request)
    }

    fn refused(request: &Request, reply: &Message) -> &'static str {
        request.reply(&reply.to_vec().unwrap(), None).err().unwrap()
    }

    #[test]
    fn accepts_only_the_reply_to_its_own_question() {
        let (message, request) = asked();
        let good = message.clone().into_response();
        assert!(request.reply(&good.to_vec().unwrap(), None).is_ok());

        assert_eq!(refused(&request, &message), "it is not a reply");
        let mut other = good.clone();
        other.metadata.id = good.metadata.id.wrapping_add(1);
        assert_eq!(refused(&request, &other), "it answers another message");
        let mut other = good.clone();
        other.metadata.op_code = OpCode::Update;
        assert_eq!(refused(&request, &other), "it answers another operation");
        let mut other = good.clone();
        other.queries[0].set_name(name("b.example.test"));
        assert_eq!(refused(&request, &other), "it answers another question");
        let mut other = good.clone();
        other.queries.clear();
        assert_eq!(refused(&request, &other), "it answers another question");
        let twice = good.queries[0].clone();
        let mut other = good;
        other.add_query(twice);
        assert_eq!(refused(&request, &other), "it answers another question");
    }

    #[test]
    fn survives_every_truncation_and_every_flipped_octet() {
        let (message, request) = asked();
        let mut reply = message.into_response();
        reply.add_answer(add(name("a.example.test"), 60, txt("value")));
        let bytes = reply.to_vec().unwrap();
        for end in 0..bytes.len() {
            assert!(request.reply(&bytes[..end], None).is_err());
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(reply) = request.reply(&bytes, None) {
                    reply.node(&name("a.example.test"));
                }
            }
        }
    }

    #[test]
    fn an_error_may_leave_the_question_out() {
        let (message, request) = asked();
        let mut reply = message.into_response();
        reply.queries.clear();
        reply.metadata.response_code = ResponseCode::FormErr;
        assert!(request.reply(&reply.to_vec().unwrap(), None).is_ok());
    }

    #[test]
    fn takes_only_the_records_of_the_name_itself() {
        let (message, request) = asked();
        let mut reply = message.into_response();
        let target = hickory_proto::rr::rdata::CNAME(name("b.example.test"));
        reply.add_answer(Record::from_rdata(
            name("a.example.test"),
            60,
            RData::CNAME(target),
        ));
        reply.add_answer(add(name("b.example.test"), 60, txt("elsewhere")));
        let reply = request.reply(&reply.to_vec().unwrap(), None).unwrap();
        let node = reply.node(&name("a.example.test"));
        assert_eq!(node.cname.as_deref(), Some("b.example.test."));
        assert!(node.txt.is_empty());
    }

    #[test]
    fn a_long_value_is_split_into_strings_and_joined_again() {
        let value = "x".repeat(600);
        let record = txt(&value);
        assert_eq!(record.txt_data.len(), 3);
        assert_eq!(joined(&record), value.as_bytes());
    }
}
