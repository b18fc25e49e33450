//! One authoritative server, one question: which TXT values it has at a name, and the zone's serial there.

use std::net::IpAddr;

use countersign_providers::record::DnsName;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::exchange::{Exchange, Silence};
use super::reading::serial_in;
use super::walk::wire;
use crate::engine::propagation::{Observation, Outcome};

/// Asks the server at `address`, known as `host`, for the TXT RRset at `owner`. Follows nothing; an answer counts
/// only when it is authoritative.
pub(super) async fn probe(
    exchange: &Exchange,
    host: &str,
    address: IpAddr,
    owner: &DnsName,
    zone: &DnsName,
) -> Observation {
    let observation = |outcome, serial| Observation {
        host: host.to_owned(),
        address,
        outcome,
        serial,
        by_resolver: false,
    };
    let (Ok(owner), Ok(zone)) = (wire(owner), wire(zone)) else {
        let why = "the name does not fit a DNS message".to_owned();
        return observation(Outcome::Unreachable(why), None);
    };
    let (texts, soa) = tokio::join!(
        exchange.ask(address, &owner, RecordType::TXT),
        exchange.ask(address, &zone, RecordType::SOA),
    );
    let serial = soa.ok().as_ref().and_then(serial_in);
    match texts {
        Ok(message) => observation(read(&message, &owner), serial),
        Err(Silence::NoAnswer(why)) => observation(Outcome::Unreachable(why), None),
        Err(Silence::NoRoute(why)) => observation(Outcome::NoRoute(why), None),
    }
}

fn read(message: &Message, owner: &Name) -> Outcome {
    let metadata = &message.metadata;
    if !matches!(
        metadata.response_code,
        ResponseCode::NoError | ResponseCode::NXDomain
    ) {
        return Outcome::Lame(code(metadata.response_code));
    }
    if !metadata.authoritative {
        return Outcome::Lame("its answer is not authoritative".to_owned());
    }
    let here = || {
        message
            .answers
            .iter()
            .filter(|record| record.name == *owner)
    };
    for record in here() {
        if let RData::CNAME(target) = &record.data {
            return Outcome::Lame(format!("it has a CNAME to {} at {owner}", target.0));
        }
    }
    Outcome::Values(here().filter_map(|record| text(&record.data)).collect())
}

/// The value of a TXT record: its character-strings joined (RFC 8555 section 8.4). Octets that are no UTF-8 are
/// replaced; no value of ours has any.
pub(super) fn text(data: &RData) -> Option<String> {
    match data {
        RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
        _ => None,
    }
}

/// A response code in the RFCs' spelling.
pub(super) fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        other => format!("RCODE {}", u16::from(other)),
    }
}
