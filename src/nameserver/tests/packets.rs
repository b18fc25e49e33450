//! Odd packets and what must come back, under the RFC that says so.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};

use super::{Transport, answer, ask, snapshot};

const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const DS: u16 = 43;
const DNSKEY: u16 = 48;
const CAA: u16 = 257;
const IN: u16 = 1;

/// A query written by hand, so that it can be wrong.
#[derive(Clone)]
struct Packet {
    flags: u16,
    counts: [u16; 4],
    body: Vec<u8>,
}

impl Packet {
    fn of(name: &str, kind: u16) -> Self {
        Self::with_class(name, kind, IN)
    }

    fn with_class(name: &str, kind: u16, class: u16) -> Self {
        let mut body = wire(name);
        body.extend(kind.to_be_bytes());
        body.extend(class.to_be_bytes());
        Self {
            flags: 0,
            counts: [1, 0, 0, 0],
            body,
        }
    }

    fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    fn counts(mut self, counts: [u16; 4]) -> Self {
        self.counts = counts;
        self
    }

    /// An OPT record (RFC 6891 section 6.1.2).
    fn opt(mut self, size: u16, version: u8, flags: u16, options: &[u8]) -> Self {
        self.body.push(0);
        self.body.extend(41u16.to_be_bytes());
        self.body.extend(size.to_be_bytes());
        self.body.extend([0, version]);
        self.body.extend(flags.to_be_bytes());
        self.body
            .extend(u16::try_from(options.len()).unwrap().to_be_bytes());
        self.body.extend(options);
        self.counts[3] += 1;
        self
    }

    fn tail(mut self, bytes: &[u8]) -> Self {
        self.body.extend(bytes);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd];
        bytes.extend(self.flags.to_be_bytes());
        for count in self.counts {
            bytes.extend(count.to_be_bytes());
        }
        bytes.extend(&self.body);
        bytes
    }
}

fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

const APEX: &str = "acme.example.net";
const WWW: &str = "www.acme.example.net";
const NONE: &str = "none.acme.example.net";

/// Each odd packet: the RFC, what it is, the packet, the code wanted.
#[allow(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(&'static str, &'static str, Packet, ResponseCode)> {
    use ResponseCode::{BADVERS, FormErr, NXDomain, NoError, NotAuth, NotImp, Refused};
    let www = || Packet::of(WWW, TXT);
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    vec![
        ("1034 3.6", "a value", www(), NoError),
        ("1034 3.6", "the apex's SOA", Packet::of(APEX, SOA), NoError),
        ("1034 3.6", "the apex's NS", Packet::of(APEX, NS), NoError),
        (
            "1034 3.6",
            "a host's A",
            Packet::of("ns1.acme.example.net", A),
            NoError,
        ),
        (
            "1034 3.6",
            "a host's AAAA",
            Packet::of("ns1.acme.example.net", AAAA),
            NoError,
        ),
        (
            "1035 4.1.1",
            "two questions",
            www().counts([2, 0, 0, 0]).tail(&www().body),
            FormErr,
        ),
        (
            "1035 4.1.1",
            "65,535 questions claimed",
            www().counts([65535, 0, 0, 0]),
            FormErr,
        ),
        (
            "1035 4.1.1",
            "no question",
            Packet {
                body: vec![],
                ..www()
            }
            .counts([0; 4]),
            FormErr,
        ),
        (
            "1035 4.1.1",
            "an answer claimed, none there",
            www().counts([1, 1, 0, 0]),
            FormErr,
        ),
        (
            "1035 4.1.1",
            "65,535 records claimed",
            www().counts([1, 0, 0, 65535]),
            FormErr,
        ),
        (
            "1035 4.1.2",
            "the question is cut off",
            Packet {
                body: wire(WWW),
                ..www()
            },
            FormErr,
        ),
        (
            "1035 3.1",
            "a label of 64 octets",
            Packet {
                body: vec![64; 80],
                ..www()
            },
            FormErr,
        ),
        (
            "1035 4.1.4",
            "a name that points to itself",
            Packet {
                body: vec![0xc0, 12, 0, 16, 0, 1],
                ..www()
            },
            FormErr,
        ),
        (
            "1035 4.1.4",
            "a name that points into the header",
            Packet {
                body: vec![0xc0, 4, 0, 16, 0, 1],
                ..www()
            },
            FormErr,
        ),
        (
            "1035 4.1.4",
            "a name that points past the end",
            Packet {
                body: vec![0xc0, 200, 0, 16, 0, 1],
                ..www()
            },
            FormErr,
        ),
        ("1035 4.1.1", "opcode IQUERY", www().flags(1 << 11), NotImp),
        ("1035 4.1.1", "opcode STATUS", www().flags(2 << 11), NotImp),
        ("8906 8.2", "opcode 3", www().flags(3 << 11), NotImp),
        ("8906 8.2", "opcode 15", www().flags(15 << 11), NotImp),
        (
            "8906 8.2",
            "opcode 15, header alone",
            Packet {
                body: vec![],
                ..www()
            }
            .counts([0; 4])
            .flags(15 << 11),
            NotImp,
        ),
        (
            "1996 3.12",
            "NOTIFY",
            Packet::of(APEX, SOA).flags(4 << 11 | 0x0400),
            NotImp,
        ),
        (
            "2136 2.2",
            "UPDATE",
            Packet::of(APEX, SOA).flags(5 << 11),
            NotImp,
        ),
        (
            "8906 8.1.3",
            "an unknown type",
            Packet::of(WWW, 1000),
            NoError,
        ),
        ("3597 5", "a private type", Packet::of(WWW, 65280), NoError),
        ("8906 8.1.2", "the AD flag", www().flags(0x0020), NoError),
        ("8906 8.1.2", "the CD flag", www().flags(0x0010), NoError),
        (
            "8906 8.1.4",
            "the reserved flag Z",
            www().flags(0x0040),
            NoError,
        ),
        (
            "8906 8.1.5",
            "recursion desired",
            www().flags(0x0100),
            NoError,
        ),
        ("8906 8.2", "TC in a query", www().flags(0x0200), NoError),
        ("6891 6.1", "EDNS", www().opt(1232, 0, 0, &[]), NoError),
        (
            "6891 6.1.3",
            "EDNS version 1",
            www().opt(1232, 1, 0, &[]),
            BADVERS,
        ),
        (
            "6891 6.1.3",
            "EDNS version 255, an unknown option",
            www().opt(1232, 255, 0, &[0, 100, 0, 0]),
            BADVERS,
        ),
        (
            "6891 6.1.2",
            "an unknown EDNS option",
            www().opt(1232, 0, 0, &[0, 100, 0, 0]),
            NoError,
        ),
        (
            "6891 6.1.4",
            "unknown EDNS flags",
            www().opt(1232, 0, 0x0040, &[]),
            NoError,
        ),
        (
            "6891 6.2.3",
            "a payload size of 0",
            www().opt(0, 0, 0, &[]),
            NoError,
        ),
        (
            "6891 6.1.1",
            "two OPT records",
            www().opt(1232, 0, 0, &[]).opt(1232, 0, 0, &[]),
            FormErr,
        ),
        (
            "6891 6.1.2",
            "an option longer than its record",
            www().opt(1232, 0, 0, &[0, 100, 0, 9]),
            FormErr,
        ),
        (
            "6891 6.1.1",
            "a question for OPT",
            Packet::of(WWW, 41),
            FormErr,
        ),
        ("3225 3", "DO", www().opt(1232, 0, 0x8000, &[]), NoError),
        (
            "7873 5.2",
            "a client cookie",
            www().opt(1232, 0, 0, &cookie),
            NoError,
        ),
        (
            "5001 3",
            "NSID",
            www().opt(1232, 0, 0, &[0, 3, 0, 0]),
            NoError,
        ),
        (
            "7871 7",
            "a client subnet",
            www().opt(1232, 0, 0, &[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]),
            NoError,
        ),
        (
            "2308 2.1",
            "a name that does not exist",
            Packet::of(NONE, TXT),
            NXDomain,
        ),
        (
            "2308 2.2",
            "a type that does not exist",
            Packet::of(WWW, A),
            NoError,
        ),
        (
            "8020 2",
            "below a name with values",
            Packet::of("x.www.acme.example.net", TXT),
            NXDomain,
        ),
        (
            "4592 2.2.2",
            "an empty non-terminal",
            Packet::of("b.a.acme.example.net", TXT),
            NoError,
        ),
        (
            "9156 2.3",
            "NS at an empty non-terminal",
            Packet::of("a.acme.example.net", NS),
            NoError,
        ),
        ("8659 3", "CAA at the apex", Packet::of(APEX, CAA), NoError),
        (
            "4035 3.1.4.1",
            "DS at the apex",
            Packet::of(APEX, DS),
            NoError,
        ),
        (
            "4035 3.1",
            "DNSKEY at the apex",
            Packet::of(APEX, DNSKEY),
            NoError,
        ),
        (
            "8499",
            "outside the zone",
            Packet::of("example.net", TXT),
            Refused,
        ),
        (
            "8499",
            "a sibling that ends alike",
            Packet::of("xacme.example.net", TXT),
            Refused,
        ),
        ("8499", "the root", Packet::of("", NS), Refused),
        (
            "8499",
            "a foreign name",
            Packet::of("www.acme.example.org", TXT),
            Refused,
        ),
        (
            "4892 3",
            "CH TXT version.bind",
            Packet::with_class("version.bind", TXT, 3),
            Refused,
        ),
        (
            "1035 3.2.4",
            "class HS",
            Packet::with_class(WWW, TXT, 4),
            Refused,
        ),
        (
            "2136 1.3",
            "class NONE",
            Packet::with_class(WWW, TXT, 254),
            Refused,
        ),
        (
            "1035 3.2.5",
            "class ANY",
            Packet::with_class(WWW, TXT, 255),
            Refused,
        ),
        (
            "8482 4.2",
            "ANY",
            Packet::of("many.acme.example.net", 255),
            NoError,
        ),
        (
            "8482 4.2",
            "ANY for nothing",
            Packet::of(NONE, 255),
            NXDomain,
        ),
        ("5936 2.2.1", "AXFR", Packet::of(APEX, 252), Refused),
        ("1995 2", "IXFR", Packet::of(APEX, 251), Refused),
        ("1035 3.2.3", "MAILA", Packet::of(WWW, 254), NotImp),
        ("1035 3.2.3", "MAILB", Packet::of(WWW, 253), NotImp),
        ("2930 2", "TKEY", Packet::of(WWW, 249), FormErr),
        ("8945 5.2", "TSIG of an unknown key", tsig(www()), NotAuth),
        (
            "4343 2",
            "another case",
            Packet::of("wWw.AcMe.eXaMpLe.NeT", TXT),
            NoError,
        ),
        (
            "2181 11",
            "a name of odd octets",
            Packet::of("\u{7f}\u{1}.acme.example.net", TXT),
            NXDomain,
        ),
    ]
}

/// A TSIG record (RFC 8945 section 4.2) with a key that nobody knows.
fn tsig(packet: Packet) -> Packet {
    let mut rdata = wire("hmac-sha256");
    rdata.extend([0, 0, 0, 0, 0, 1, 1, 44, 0, 32]);
    rdata.extend([9; 32]);
    rdata.extend([0xab, 0xcd, 0, 0, 0, 0]);
    let mut record = wire("key.test");
    record.extend([0, 250, 0, 255, 0, 0, 0, 0]);
    record.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
    record.extend(rdata);
    packet.tail(&record).counts([1, 0, 0, 1])
}

#[test]
fn odd_packets_get_the_code_that_the_rfc_wants() {
    assert!(table().len() >= 60);
    for (rfc, what, packet, wanted) in table() {
        for transport in [Transport::Udp, Transport::Tcp] {
            let reply = ask(&packet.bytes(), transport)
                .unwrap_or_else(|| panic!("RFC {rfc}: {what}: silence"));
            let seen = reply.metadata.response_code;
            // By number: 16 is BADVERS in an OPT record and BADSIG in a TSIG record.
            assert_eq!(u16::from(seen), u16::from(wanted), "RFC {rfc}: {what}");
            assert_eq!(reply.metadata.id, 0xabcd, "RFC {rfc}: {what}");
            let positive = matches!(wanted, ResponseCode::NoError | ResponseCode::NXDomain);
            assert_eq!(
                reply.metadata.authoritative, positive,
                "RFC {rfc}: {what}: AA"
            );
            assert!(!reply.metadata.recursion_available, "RFC {rfc}: {what}: RA");
            assert!(!reply.metadata.authentic_data, "RFC {rfc}: {what}: AD");
            if positive && reply.answers.is_empty() && !reply.metadata.truncation {
                let soa = reply.authorities.first().expect("RFC 2308: SOA");
                assert_eq!(soa.record_type(), RecordType::SOA, "RFC {rfc}: {what}");
                assert!(
                    (1..=5).contains(&soa.ttl),
                    "RFC {rfc}: {what}: negative TTL"
                );
            }
        }
    }
}

#[test]
fn every_reply_to_a_parsed_edns_query_has_opt_and_no_other_has() {
    for (rfc, what, packet, wanted) in table() {
        let bytes = packet.bytes();
        let asked = Message::from_vec(&bytes).is_ok_and(|query| query.edns.is_some());
        let reply = ask(&bytes, Transport::Udp).unwrap();
        assert_eq!(reply.edns.is_some(), asked, "RFC {rfc}: {what}: {wanted}");
        if let Some(edns) = &reply.edns {
            assert_eq!(edns.max_payload(), 1232);
            assert_eq!(edns.version(), 0);
            assert_eq!(edns.flags().z, 0);
            assert!(edns.options().as_ref().is_empty());
        }
    }
}

#[test]
fn rfc_1035_replies_and_stumps_get_silence() {
    let packet = Packet::of(WWW, TXT);
    assert!(ask(&packet.clone().flags(0x8000).bytes(), Transport::Udp).is_none());
    for length in 0..12 {
        assert!(ask(&packet.bytes()[..length], Transport::Udp).is_none());
    }
}

#[test]
fn rfc_3225_copies_do() {
    let packet = Packet::of(WWW, TXT).opt(1232, 0, 0x8000, &[]);
    let reply = ask(&packet.bytes(), Transport::Udp).unwrap();
    assert!(reply.edns.unwrap().flags().dnssec_ok);
}

#[test]
fn rfc_4343_echoes_the_question_bit_for_bit() {
    let bytes = Packet::of("wWw.AcMe.eXaMpLe.NeT", TXT).bytes();
    let reply = answer(&snapshot(), &bytes, Transport::Udp).unwrap();
    assert_eq!(reply[12..bytes.len()], bytes[12..]);
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(texts(&reply), ["first", "second"]);
}

#[test]
fn rfc_1035_long_values_are_split_into_strings() {
    let reply = ask(
        &Packet::of("long.acme.example.net", TXT).bytes(),
        Transport::Tcp,
    )
    .unwrap();
    assert_eq!(texts(&reply), ["x".repeat(300)]);
}

#[test]
fn rfc_2181_what_does_not_fit_is_cut_whole() {
    let plain = Packet::of("many.acme.example.net", TXT);
    for (packet, limit) in [
        (plain.clone(), 512),
        (plain.clone().opt(600, 0, 0, &[]), 600),
        (plain.clone().opt(65535, 0, 0, &[]), 1232),
    ] {
        let reply = answer(&snapshot(), &packet.bytes(), Transport::Udp).unwrap();
        assert!(reply.len() <= limit);
        let message = Message::from_vec(&reply).unwrap();
        assert!(message.metadata.truncation);
        assert!(message.answers.is_empty());
        let whole = ask(&packet.bytes(), Transport::Tcp).unwrap();
        assert!(!whole.metadata.truncation);
        assert_eq!(whole.answers.len(), 64);
    }
}

#[test]
fn rfc_8482_any_is_no_amplifier() {
    let packet = Packet::of("many.acme.example.net", 255);
    let reply = answer(&snapshot(), &packet.bytes(), Transport::Udp).unwrap();
    assert!(reply.len() <= 2 * packet.bytes().len());
}

#[test]
fn rfc_1034_ns_comes_with_addresses() {
    let reply = ask(&Packet::of(APEX, NS).bytes(), Transport::Udp).unwrap();
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(reply.additionals.len(), 2);
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

/// A small, fast, repeatable source of mutations (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides
    }
}

#[test]
fn mutated_packets_neither_panic_nor_grow() {
    let zone = snapshot();
    let seeds: Vec<Vec<u8>> = table()
        .iter()
        .map(|(.., packet, _)| packet.bytes())
        .collect();
    let mut dice = Dice(0x5eed_cafe);
    let mut answered = 0;
    for _ in 0..100_000 {
        let mut packet = seeds[dice.roll(seeds.len())].clone();
        for _ in 0..=dice.roll(6) {
            match dice.roll(4) {
                0 => packet.truncate(dice.roll(packet.len() + 1)),
                1 => packet.push(u8::try_from(dice.roll(256)).unwrap()),
                _ if packet.is_empty() => {}
                _ => {
                    let at = dice.roll(packet.len());
                    packet[at] = u8::try_from(dice.roll(256)).unwrap();
                }
            }
        }
        if let Some(reply) = answer(&zone, &packet, Transport::Udp) {
            assert!(reply.len() <= 1232 && reply.len() >= 12);
            assert_eq!(reply[..2], packet[..2]);
            assert_ne!(reply[2] & 0x80, 0);
            answered += 1;
        } else {
            assert!(
                packet.len() < 12 || packet[2] & 0x80 != 0,
                "silence: {packet:?}"
            );
        }
    }
    assert!(answered > 50_000, "{answered}");
}
