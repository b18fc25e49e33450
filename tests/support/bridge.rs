//! A DNS server that answers with what a DNS host's API says, asked anew for every question: so that whoever proves names
//! sees what the host holds, never what Countersign keeps.

use std::io::{Error, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::ports::{self, Port};

/// How the API is told that a test looks on, which is counted nowhere.
pub const OBSERVER: &str = "countersign-tests-dns";
/// Of what is there once and for all.
const LASTING: u32 = 60;
/// Of what is not there: nobody may remember it.
const NEGATIVE: u32 = 0;

/// An API as the bridge asks it.
pub trait Api: Send + Sync + 'static {
    /// All public zones.
    fn zones(&self) -> Result<Vec<Zone>>;

    /// What is at a name of a zone.
    fn look(&self, zone: &Zone, name: &str) -> Result<Here>;
}

/// A zone; names are without their last dots.
pub struct Zone {
    pub id: String,
    pub apex: String,
    /// What a delegation to it names.
    pub servers: Vec<String>,
}

/// What is at a name.
#[derive(Default)]
pub struct Here {
    /// The target of its CNAME.
    pub alias: Option<String>,
    /// The values of its TXT RRset.
    pub values: Vec<String>,
    /// Their TTL.
    pub ttl: u32,
    /// Whether there is any record here or below.
    pub exists: bool,
}

/// The running server, for all zones of the API, by UDP and TCP on one port of 127.0.0.1. It knows their nameservers'
/// addresses, which are its own, and nothing of the names above them. It ends with the process.
pub struct Bridge {
    port: Port,
}

impl Bridge {
    /// Before `api`.
    pub fn start(api: impl Api) -> Self {
        let (port, api) = (ports::free(), Arc::new(api));
        let here = (Ipv4Addr::LOCALHOST, port.number());
        let udp = Arc::new(UdpSocket::bind(here).expect("a free port"));
        let tcp = TcpListener::bind(here).expect("a free port");
        let asked = Arc::clone(&api);
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                // Nobody waits for the calls that another's question takes.
                let (udp, asked) = (Arc::clone(&udp), Arc::clone(&asked));
                let question = buffer[..length].to_vec();
                std::thread::spawn(move || {
                    if let Ok(reply) = answer(&*asked, &question) {
                        // An error is a client that went away.
                        let _ = udp.send_to(&reply, from);
                    }
                });
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let api = Arc::clone(&api);
                std::thread::spawn(move || serve(&*api, stream));
            }
        });
        Self { port }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }
}

/// The body of the reply to a GET with these lines of a head. HTTP/1.0: it is not chunked, and ends with the connection.
pub fn get(at: SocketAddr, path: &str, head: &str) -> Result<String> {
    let mut stream = TcpStream::connect(at)?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nConnection: close\r\nUser-Agent: {OBSERVER}\r\n{head}\r\n"
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (_, body) = (reply.split_once("\r\n\r\n")).ok_or(Error::other("no end of head"))?;
    Ok(body.to_owned())
}

/// A TXT value without the quotes of its character-strings, if it has any.
pub fn plain(content: &str) -> String {
    if !content.starts_with('"') {
        return content.to_owned();
    }
    let (mut text, mut inside) = (String::new(), false);
    let mut rest = content.chars();
    while let Some(next) = rest.next() {
        match next {
            '"' => inside = !inside,
            '\\' => text.extend(rest.next()),
            _ if inside => text.push(next),
            _ => {}
        }
    }
    text
}

fn serve(api: &dyn Api, mut stream: TcpStream) -> Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question)?;
        let reply = answer(api, &question)?;
        let length = u16::try_from(reply.len()).map_err(Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())?;
    }
}

fn answer(api: &dyn Api, question: &[u8]) -> Result<Vec<u8>> {
    let asked = Message::from_vec(question).map_err(Error::other)?;
    let query = asked.queries.first().ok_or(Error::other("no question"))?;
    let mut reply = Message::response(asked.metadata.id, OpCode::Query);
    reply.add_query(query.clone());
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    fill_in(api, &mut reply, query.name(), query.query_type())?;
    reply.to_vec().map_err(Error::other)
}

fn fill_in(api: &dyn Api, reply: &mut Message, asked: &Name, kind: RecordType) -> Result<()> {
    let name = asked.to_ascii().to_lowercase();
    let name = name.trim_end_matches('.');
    let zones = api.zones()?;
    reply.metadata.authoritative = true;
    let is_server = |zone: &Zone| zone.servers.iter().any(|it| it == name);
    if zones.iter().any(is_server) {
        if kind == RecordType::A {
            let here = RData::A(A(Ipv4Addr::LOCALHOST));
            reply.add_answer(Record::from_rdata(asked.clone(), LASTING, here));
        } else {
            reply.add_authority(soa(&name[name.find('.').map_or(0, |dot| dot + 1)..]));
        }
        return Ok(());
    }
    let holds = |zone: &&Zone| name == zone.apex || name.ends_with(&format!(".{}", zone.apex));
    let Some(zone) = zones.iter().filter(holds).max_by_key(|it| it.apex.len()) else {
        reply.metadata.authoritative = false;
        reply.metadata.response_code = ResponseCode::Refused;
        return Ok(());
    };
    if name == zone.apex && kind == RecordType::SOA {
        reply.add_answer(soa(&zone.apex));
        return Ok(());
    }
    if name == zone.apex && kind == RecordType::NS {
        for server in &zone.servers {
            let ns = RData::NS(NS(absolute(server)));
            reply.add_answer(Record::from_rdata(asked.clone(), LASTING, ns));
        }
        return Ok(());
    }
    let here = api.look(zone, name)?;
    if let Some(target) = &here.alias {
        let alias = RData::CNAME(CNAME(absolute(target)));
        reply.add_answer(Record::from_rdata(asked.clone(), LASTING, alias));
        return Ok(());
    }
    if kind == RecordType::TXT && !here.values.is_empty() {
        for value in here.values {
            let value = RData::TXT(TXT::new(vec![value]));
            reply.add_answer(Record::from_rdata(asked.clone(), here.ttl, value));
        }
        return Ok(());
    }
    if name != zone.apex && !here.exists {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    reply.add_authority(soa(&zone.apex));
    Ok(())
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).expect("a name of the test")
}

fn soa(apex: &str) -> Record {
    let (server, person) = (absolute("ns.test"), absolute("dns.test"));
    let data = SOA::new(server, person, 1, 3_600, 600, 86_400, NEGATIVE);
    Record::from_rdata(absolute(apex), NEGATIVE, RData::SOA(data))
}
