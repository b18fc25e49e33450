//! What a server meant by its reply: an answer, a CNAME, a referral, or nothing of use (RFC 1034 section 4.3.2, RFC 2308
//! section 2.2). Pure; what a server says counts only below its own zone cut.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::probe::code;

/// Servers of one zone, and addresses of one server, that are looked at.
pub(super) const MAX_SERVERS: usize = 32;
const MAX_ADDRESSES: usize = 8;

/// A zone and the servers it is delegated to.
#[derive(Clone)]
pub(super) struct Cut {
    pub(super) zone: Name,
    pub(super) servers: Vec<NameServer>,
}

#[derive(Clone)]
pub(super) struct NameServer {
    pub(super) host: Name,
    pub(super) addresses: Vec<IpAddr>,
}

/// What a server of a cut said to a question.
pub(super) enum Step {
    /// It is authoritative: records, or that there are none.
    Answer(Message),
    /// It is authoritative and has a CNAME there.
    Alias(Name),
    /// Others know.
    Referral(Cut),
}

/// Why one server was of no use.
pub(super) enum Useless {
    Silent(String),
    Lame(String),
}

/// What a server of `cut` meant by `message`.
pub(super) fn judge(
    cut: &Cut,
    name: &Name,
    kind: RecordType,
    message: Message,
) -> Result<Step, Useless> {
    let metadata = &message.metadata;
    let negative = metadata.response_code == ResponseCode::NXDomain;
    if !negative && metadata.response_code != ResponseCode::NoError {
        return Err(Useless::Lame(code(metadata.response_code)));
    }
    if metadata.authoritative {
        let mut here = message.answers.iter().filter(|record| record.name == *name);
        if here.clone().any(|record| record.record_type() == kind) {
            return Ok(Step::Answer(message));
        }
        if let Some(target) = here.find_map(alias) {
            return Ok(Step::Alias(target));
        }
    }
    if !message.answers.is_empty() {
        return Err(Useless::Lame(match metadata.authoritative {
            true => "it answers another question".to_owned(),
            false => "its answer is not authoritative".to_owned(),
        }));
    }
    let has_soa = |record: &Record| record.record_type() == RecordType::SOA;
    if !negative
        && !message.authorities.iter().any(has_soa)
        && let Some(next) = referral(cut, name, &message)
    {
        return Ok(Step::Referral(next));
    }
    if metadata.authoritative {
        return Ok(Step::Answer(message));
    }
    Err(Useless::Lame("its answer is not authoritative".to_owned()))
}

fn alias(record: &Record) -> Option<Name> {
    match &record.data {
        RData::CNAME(target) => Some(target.0.clone()),
        _ => None,
    }
}

/// The delegation in `message`, if it leads from `cut` downward and towards `name`.
fn referral(cut: &Cut, name: &Name, message: &Message) -> Option<Cut> {
    let zone = message
        .authorities
        .iter()
        .find(|record| record.record_type() == RecordType::NS)
        .map(|record| record.name.clone())?;
    let downward = cut.zone.zone_of(&zone) && zone != cut.zone && zone.zone_of(name);
    downward.then(|| Cut {
        servers: name_servers(&message.authorities, message, &zone, &cut.zone),
        zone,
    })
}

/// The NS RRset of `zone` in `records`, with those addresses in `message` that a server of `bailiwick` may give.
pub(super) fn name_servers(
    records: &[Record],
    message: &Message,
    zone: &Name,
    bailiwick: &Name,
) -> Vec<NameServer> {
    let mut servers: Vec<NameServer> = Vec::new();
    for record in records.iter().filter(|record| record.name == *zone) {
        let RData::NS(host) = &record.data else {
            continue;
        };
        let glue = if bailiwick.zone_of(&host.0) {
            addresses_in(&message.additionals, &host.0)
        } else {
            Vec::new()
        };
        let server = NameServer {
            host: host.0.to_lowercase(),
            addresses: glue,
        };
        merge(&mut servers, vec![server]);
    }
    servers.truncate(MAX_SERVERS);
    servers
}

pub(super) fn addresses_in(records: &[Record], host: &Name) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for record in records.iter().filter(|record| record.name == *host) {
        let address: IpAddr = match &record.data {
            RData::A(a) => a.0.into(),
            RData::AAAA(aaaa) => aaaa.0.into(),
            _ => continue,
        };
        add(&mut addresses, vec![address]);
    }
    addresses
}

pub(super) fn merge(servers: &mut Vec<NameServer>, more: Vec<NameServer>) {
    for server in more {
        match servers
            .iter_mut()
            .find(|known| known.host == server.host && !server.host.is_root())
        {
            Some(known) => add(&mut known.addresses, server.addresses),
            None => servers.push(server),
        }
    }
}

pub(super) fn add(addresses: &mut Vec<IpAddr>, more: Vec<IpAddr>) {
    for address in more {
        let usable = !address.is_unspecified() && !address.is_multicast();
        if usable && !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
            addresses.push(address);
        }
    }
}

/// Every address with its server's name, the families in turn, so that a machine without one of them loses no time.
pub(super) fn interleave(servers: &[NameServer]) -> Vec<(String, IpAddr)> {
    let all = servers.iter().flat_map(|server| {
        let host = if server.host.is_root() {
            String::new()
        } else {
            plain(&server.host)
        };
        server
            .addresses
            .iter()
            .map(move |&address| (host.clone(), address))
    });
    let (v4, v6): (Vec<_>, Vec<_>) = all.partition(|(_, address)| address.is_ipv4());
    let mut mixed = Vec::with_capacity(v4.len() + v6.len());
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    loop {
        let before = mixed.len();
        mixed.extend(v4.next());
        mixed.extend(v6.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}

/// The owner of an SOA record that is the apex over `owner`, not above `cut`.
pub(super) fn apex_in<'r>(
    records: impl IntoIterator<Item = &'r Record>,
    owner: &Name,
    cut: &Cut,
) -> Option<Name> {
    let fits = |record: &&Record| {
        record.record_type() == RecordType::SOA
            && record.name.zone_of(owner)
            && cut.zone.zone_of(&record.name)
    };
    records
        .into_iter()
        .find(fits)
        .map(|record| record.name.clone())
}

/// The serial in an SOA record of `message`.
pub(super) fn serial_in(message: &Message) -> Option<u32> {
    let mut records = message.answers.iter().chain(&message.authorities);
    records.find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    })
}

/// A name as people write it.
pub(super) fn plain(name: &Name) -> String {
    let text = name.to_ascii();
    match text.strip_suffix('.') {
        Some(front) if !front.is_empty() => front.to_owned(),
        _ => text,
    }
}

pub(super) fn place(host: &str, address: IpAddr) -> String {
    if host.is_empty() {
        address.to_string()
    } else {
        format!("{host} ({address})")
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, TXT};

    use super::*;
    use crate::dns::exchange::decode;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn question() -> Message {
        let mut question = Message::new(7, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(name("www.example.test."), RecordType::TXT));
        question
    }

    fn cut() -> Cut {
        Cut {
            zone: name("test."),
            servers: Vec::new(),
        }
    }

    fn reply(answers: &[(&str, RData)], authorities: &[(&str, RData)]) -> Message {
        let mut reply = Message::new(7, MessageType::Response, OpCode::Query);
        reply.metadata.authoritative = true;
        reply.add_queries(question().queries);
        let record =
            |(owner, data): &(&str, RData)| Record::from_rdata(name(owner), 60, data.clone());
        reply.add_answers(answers.iter().map(record));
        reply.add_authorities(authorities.iter().map(record));
        reply
    }

    fn ns(host: &str) -> RData {
        RData::NS(NS(name(host)))
    }

    fn judged(message: Message) -> Result<Step, Useless> {
        judge(&cut(), &name("www.example.test."), RecordType::TXT, message)
    }

    #[test]
    fn refers_only_downward_and_towards_the_name() {
        for (owner, leads) in [
            ("example.test.", true),
            ("www.example.test.", true),
            ("test.", false),
            (".", false),
            ("other.test.", false),
            ("example.org.", false),
        ] {
            let mut message = reply(&[], &[(owner, ns("ns1.example.test."))]);
            message.metadata.authoritative = false;
            let referred = matches!(judged(message), Ok(Step::Referral(_)));
            assert_eq!(referred, leads, "{owner}");
        }
    }

    #[test]
    fn believes_glue_only_below_the_cut_that_gives_it() {
        let hosts = ["ns1.example.test.", "ns1.example.org."];
        let mut message = reply(&[], &hosts.map(|host| ("example.test.", ns(host))));
        message.metadata.authoritative = false;
        for host in hosts {
            let address = RData::A(A("192.0.2.1".parse().unwrap()));
            message.add_additional(Record::from_rdata(name(host), 60, address));
        }
        let Ok(Step::Referral(next)) = judged(message) else {
            panic!("no referral");
        };
        let glue: Vec<usize> = next
            .servers
            .iter()
            .map(|server| server.addresses.len())
            .collect();
        assert_eq!(glue, [1, 0]);
    }

    #[test]
    fn an_answer_about_another_name_is_of_no_use() {
        let text = RData::TXT(TXT::new(vec!["x".to_owned()]));
        let message = reply(&[("mail.example.test.", text)], &[]);
        assert!(matches!(judged(message), Err(Useless::Lame(_))));
    }

    /// A small, repeatable source of mutations (xorshift, Marsaglia 2003).
    fn roll(dice: &mut u64, sides: usize) -> usize {
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        usize::try_from(*dice >> 11).unwrap() % sides
    }

    #[test]
    fn mutated_replies_do_not_panic() {
        let (apex, www) = ("example.test.", "www.example.test.");
        let soa = SOA::new(name(apex), name(apex), 1, 1, 1, 1, 1);
        let mut seeds = [
            reply(
                &[(www, RData::TXT(TXT::new(vec!["value".to_owned()])))],
                &[],
            ),
            reply(&[(www, RData::CNAME(CNAME(name("a.example.test."))))], &[]),
            reply(&[], &[(apex, RData::SOA(soa))]),
            reply(
                &[],
                &[
                    (apex, ns("ns1.example.test.")),
                    (apex, ns("ns2.example.test.")),
                ],
            ),
        ];
        seeds.iter_mut().for_each(|seed| {
            seed.set_edns(hickory_proto::op::Edns::new());
        });
        let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec().unwrap()).collect();
        let (mut dice, mut read) = (0x5eed_cafe, 0);
        for _ in 0..100_000 {
            let mut bytes = seeds[roll(&mut dice, seeds.len())].clone();
            for _ in 0..=roll(&mut dice, 4) {
                let at = roll(&mut dice, bytes.len());
                bytes[at] = u8::try_from(roll(&mut dice, 256)).unwrap();
            }
            if let Some(message) = decode(&question(), &bytes) {
                read += 1;
                let _ = serial_in(&message);
                let _ = judged(message);
            }
        }
        assert!(read > 10_000, "{read}");
    }
}
