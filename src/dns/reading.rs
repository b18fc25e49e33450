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
