//! Small authoritative servers on loopback, all at one port, each with its own faults.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use countersign_providers::record::DnsName;
use hickory_proto::op::{Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

pub(super) fn dns_name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn wire(text: &str) -> Name {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).unwrap()
}

/// How a server misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    /// Refuses everything.
    Refuses,
    /// Says nothing.
    Silent,
    /// Has no sockets at all.
    Dead,
    /// Cuts every answer by UDP.
    Cuts,
    /// Leaves out that it is authoritative.
    NoAuthority,
    /// Gives negative answers without an SOA, and NS records with nothing.
    Terse,
    /// Answers FORMERR to EDNS.
    OldFashioned,
    /// Answers as a resolver does.
    Resolver,
}

/// One zone as one server has it.
#[derive(Clone)]
pub(super) struct TestZone {
    apex: Name,
    serial: u32,
    records: Vec<Record>,
}

/// A zone from lines such as `www.example.test TXT value`.
pub(super) fn zone(apex: &str, serial: u32, lines: &[&str]) -> TestZone {
    let record = |line: &&str| {
        let mut words = line.splitn(3, ' ');
        let (owner, kind, data) = (
            words.next().unwrap(),
            words.next().unwrap(),
            words.next().unwrap(),
        );
        let data = match kind {
            "A" => RData::A(A(data.parse().unwrap())),
            "AAAA" => RData::AAAA(AAAA(data.parse().unwrap())),
            "NS" => RData::NS(NS(wire(data))),
            "CNAME" => RData::CNAME(CNAME(wire(data))),
            "TXT" => RData::TXT(TXT::from_bytes(data.as_bytes().chunks(255).collect())),
            other => panic!("{other}"),
        };
        Record::from_rdata(wire(owner), 60, data)
    };
    TestZone {
        apex: wire(apex),
        serial,
        records: lines.iter().map(record).collect(),
    }
}

impl TestZone {
    fn soa(&self) -> Record {
        let data = SOA::new(
            self.apex.clone(),
            self.apex.clone(),
            self.serial,
            1,
            1,
            1,
            1,
        );
        Record::from_rdata(self.apex.clone(), 1, RData::SOA(data))
    }
}

/// A server to be: its address, its fault, its zones.
pub(super) struct Plan {
    pub(super) address: &'static str,
    pub(super) fault: Fault,
    pub(super) zones: Vec<TestZone>,
}

pub(super) fn plan(address: &'static str, fault: Fault, zones: Vec<TestZone>) -> Plan {
    Plan {
        address,
        fault,
        zones,
    }
}

/// Running servers; they stop when dropped.
pub(super) struct Net {
    pub(super) port: u16,
    zones: Vec<(IpAddr, Shared)>,
    asked: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

type Shared = Arc<Mutex<Vec<TestZone>>>;

impl Net {
    pub(super) async fn start(plans: Vec<Plan>) -> Self {
        // Below the ports that the system gives out, so that nobody's question comes from one of these.
        let pid = u16::try_from(std::process::id() % 10_000).unwrap();
        for port in (10_000 + pid..32_000).step_by(7) {
            if let Some(net) = Self::try_start(&plans, port).await {
                return net;
            }
        }
        panic!("no port is free");
    }

    async fn try_start(plans: &[Plan], port: u16) -> Option<Self> {
        let mut tasks = JoinSet::new();
        let mut zones = Vec::new();
        let asked = Arc::new(Mutex::new(0));
        for plan in plans {
            let shared: Shared = Arc::new(Mutex::new(plan.zones.clone()));
            zones.push((ip(plan.address), Arc::clone(&shared)));
            let address = SocketAddr::new(ip(plan.address), port);
            // Bound even for a dead server, so that no other test gets the pair.
            let udp = UdpSocket::bind(address).await.ok()?;
            let tcp = TcpListener::bind(address).await.ok()?;
            if plan.fault == Fault::Dead {
                continue;
            }
            tasks.spawn(by_udp(
                udp,
                plan.fault,
                Arc::clone(&shared),
                Arc::clone(&asked),
            ));
            tasks.spawn(by_tcp(tcp, plan.fault, shared));
        }
        Some(Self {
            port,
            zones,
            asked,
            _tasks: tasks,
        })
    }

    /// Replaces a zone at one server.
    pub(super) fn change(&self, address: &str, zone: TestZone) {
        let (_, zones) = self
            .zones
            .iter()
            .find(|(at, _)| *at == ip(address))
            .unwrap();
        let mut zones = zones.lock().unwrap();
        zones.retain(|old| old.apex != zone.apex);
        zones.push(zone);
    }

    /// How many datagrams were received.
    pub(super) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

async fn by_udp(socket: UdpSocket, fault: Fault, zones: Shared, asked: Arc<Mutex<usize>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        *asked.lock().unwrap() += 1;
        if fault == Fault::Silent {
            continue;
        }
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let mut reply = answer(&zones.lock().unwrap(), fault, &query);
        if fault == Fault::Cuts {
            reply.metadata.truncation = true;
            reply.answers.clear();
        }
        let _ = socket.send_to(&reply.to_vec().unwrap(), peer).await;
    }
}

async fn by_tcp(listener: TcpListener, fault: Fault, zones: Shared) {
    let mut held = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        if fault == Fault::Silent {
            held.push(stream);
            continue;
        }
        let Ok(length) = stream.read_u16().await else {
            continue;
        };
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.unwrap();
        let query = Message::from_vec(&bytes).unwrap();
        let reply = answer(&zones.lock().unwrap(), fault, &query)
            .to_vec()
            .unwrap();
        let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
        let _ = stream.write_all(&[&length[..], &reply].concat()).await;
    }
}

fn answer(zones: &[TestZone], fault: Fault, query: &Message) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.add_queries(query.queries.iter().cloned());
    if fault == Fault::OldFashioned && query.edns.is_some() {
        reply.metadata.response_code = ResponseCode::FormErr;
        return reply;
    }
    let question = &query.queries[0];
    if fault != Fault::Resolver {
        assert!(!query.metadata.recursion_desired, "RD must not be set");
    }
    let covering = zones
        .iter()
        .filter(|zone| zone.apex.zone_of(&question.name));
    let zone = covering.max_by_key(|zone| zone.apex.num_labels());
    let Some(zone) = zone.filter(|_| fault != Fault::Refuses) else {
        reply.metadata.response_code = ResponseCode::Refused;
        return reply;
    };
    fill(&mut reply, zone, &question.name, question.query_type);
    if fault == Fault::Resolver {
        reply.metadata.recursion_available = true;
    }
    if matches!(fault, Fault::NoAuthority | Fault::Resolver) {
        reply.metadata.authoritative = false;
    }
    if fault == Fault::Terse {
        reply
            .authorities
            .retain(|record| record.record_type() != RecordType::SOA);
    }
    reply
}

fn fill(reply: &mut Message, zone: &TestZone, name: &Name, kind: RecordType) {
    let delegation = zone.records.iter().find(|record| {
        record.record_type() == RecordType::NS
            && record.name != zone.apex
            && record.name.zone_of(name)
    });
    if let Some(delegation) = delegation {
        let same = |record: &&Record| {
            record.name == delegation.name && record.record_type() == RecordType::NS
        };
        for record in zone.records.iter().filter(same) {
            let RData::NS(host) = &record.data else {
                unreachable!()
            };
            let glue = zone.records.iter().filter(|record| record.name == host.0);
            reply.add_additionals(glue.cloned());
            reply.add_authority(record.clone());
        }
        return;
    }
    reply.metadata.authoritative = true;
    if *name == zone.apex && kind == RecordType::SOA {
        reply.add_answer(zone.soa());
        return;
    }
    let here = || zone.records.iter().filter(|record| record.name == *name);
    let fits = |record: &&Record| {
        record.record_type() == kind || record.record_type() == RecordType::CNAME
    };
    reply.add_answers(here().filter(fits).cloned());
    if reply.answers.is_empty() {
        reply.add_authority(zone.soa());
        let exists =
            *name == zone.apex || zone.records.iter().any(|record| name.zone_of(&record.name));
        if !exists {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
    }
}
