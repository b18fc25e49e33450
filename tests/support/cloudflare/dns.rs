//! A zone as its nameservers give it, and a DNS server that reads what it gives from the API, call by call.

use std::io::{Error, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::Value;
use url::form_urlencoded;

use super::{BASE, Cloudflare, OBSERVER, Token};
use crate::support::ports::{self, Port};

/// What the API calls automatic.
const AUTOMATIC: u32 = 300;
/// Of what is there once and for all.
const LASTING: u32 = 60;
/// Of what is not there: nobody may remember it.
const NEGATIVE: u32 = 0;

/// A DNS server for all zones of the API, by UDP and TCP on one port of 127.0.0.1. It knows their nameservers' addresses,
/// which are its own, and nothing of the names above them. It ends with the process.
pub struct Bridge {
    port: Port,
}

/// The API as the bridge asks it.
struct Api {
    at: SocketAddr,
    token: String,
}

impl Bridge {
    /// Before `cloudflare`.
    pub fn start(cloudflare: &Cloudflare) -> Self {
        let port = ports::free();
        let api = Arc::new(Api {
            at: cloudflare.addr(),
            token: Token::observer().secret,
        });
        let here = (Ipv4Addr::LOCALHOST, port.number());
        let udp = UdpSocket::bind(here).expect("a free port");
        let tcp = TcpListener::bind(here).expect("a free port");
        let asked = Arc::clone(&api);
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Ok(reply) = asked.answer(&buffer[..length]) {
                    // An error is a client that went away.
                    let _ = udp.send_to(&reply, from);
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let api = Arc::clone(&api);
                std::thread::spawn(move || api.serve(stream));
            }
        });
        Self { port }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }
}

impl Api {
    fn serve(&self, mut stream: TcpStream) -> Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question)?;
            let reply = self.answer(&question)?;
            let length = u16::try_from(reply.len()).map_err(Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())?;
        }
    }

    fn answer(&self, question: &[u8]) -> Result<Vec<u8>> {
        let asked = Message::from_vec(question).map_err(Error::other)?;
        let query = asked.queries.first().ok_or(Error::other("no question"))?;
        let mut reply = Message::response(asked.metadata.id, OpCode::Query);
        reply.add_query(query.clone());
        reply.metadata.recursion_desired = asked.metadata.recursion_desired;
        self.fill_in(&mut reply, query.name(), query.query_type())?;
        reply.to_vec().map_err(Error::other)
    }

    fn fill_in(&self, reply: &mut Message, asked: &Name, kind: RecordType) -> Result<()> {
        let name = asked.to_ascii().to_lowercase();
        let name = name.trim_end_matches('.');
        let zones = self.get("/zones?per_page=50")?;
        let servers = |zone: &Value| -> Vec<String> {
            let all = zone["name_servers"].as_array().into_iter().flatten();
            all.filter_map(|it| it.as_str().map(str::to_owned))
                .collect()
        };
        reply.metadata.authoritative = true;
        if zones
            .iter()
            .any(|zone| servers(zone).iter().any(|it| it == name))
        {
            if kind == RecordType::A {
                let here = RData::A(A(Ipv4Addr::LOCALHOST));
                reply.add_answer(Record::from_rdata(asked.clone(), LASTING, here));
            } else {
                reply.add_authority(soa(&name[name.find('.').map_or(0, |dot| dot + 1)..]));
            }
            return Ok(());
        }
        let apex_of = |zone: &&Value| {
            let apex = zone["name"].as_str().unwrap_or_default();
            name == apex || name.ends_with(&format!(".{apex}"))
        };
        let holding = zones.iter().filter(apex_of);
        let length = |zone: &&Value| zone["name"].as_str().map(str::len);
        let Some(zone) = holding.max_by_key(length) else {
            reply.metadata.authoritative = false;
            reply.metadata.response_code = ResponseCode::Refused;
            return Ok(());
        };
        let apex = zone["name"].as_str().unwrap_or_default();
        if name == apex && kind == RecordType::SOA {
            reply.add_answer(soa(apex));
            return Ok(());
        }
        if name == apex && kind == RecordType::NS {
            for server in servers(zone) {
                let ns = RData::NS(NS(absolute(&server)));
                reply.add_answer(Record::from_rdata(asked.clone(), LASTING, ns));
            }
            return Ok(());
        }
        let id = zone["id"].as_str().unwrap_or_default();
        let here = self.records(id, "name.exact", name)?;
        let alias = here.iter().find(|it| it["type"] == "CNAME");
        if let Some(alias) = alias {
            let target = absolute(alias["content"].as_str().unwrap_or_default());
            let alias = RData::CNAME(CNAME(target));
            reply.add_answer(Record::from_rdata(asked.clone(), LASTING, alias));
            return Ok(());
        }
        let (values, ttl) = txt(&here, name);
        if kind == RecordType::TXT && !values.is_empty() {
            for value in values {
                let value = RData::TXT(TXT::new(vec![value]));
                let ttl = ttl.unwrap_or_default();
                reply.add_answer(Record::from_rdata(asked.clone(), ttl, value));
            }
            return Ok(());
        }
        let has_more = name == apex
            || !here.is_empty()
            || !(self.records(id, "name.endswith", &format!(".{name}"))?).is_empty();
        if !has_more {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        reply.add_authority(soa(apex));
        Ok(())
    }

    fn records(&self, zone: &str, filter: &str, name: &str) -> Result<Vec<Value>> {
        let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        self.get(&format!(
            "/zones/{zone}/dns_records?per_page=5000&{filter}={name}"
        ))
    }

    /// What the API lists at `path`.
    fn get(&self, path: &str) -> Result<Vec<Value>> {
        let mut stream = TcpStream::connect(self.at)?;
        // HTTP/1.0: the reply is not chunked and ends with the connection.
        write!(
            stream,
            "GET {BASE}{path} HTTP/1.0\r\nHost: {}\r\nUser-Agent: {OBSERVER}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.at, self.token
        )?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let (_, body) = (reply.split_once("\r\n\r\n")).ok_or(Error::other("no end of head"))?;
        let mut whole: Value = serde_json::from_str(body)?;
        match whole["result"].take() {
            Value::Array(all) => Ok(all),
            _ => Err(Error::other(reply)),
        }
    }
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).expect("a name of the test")
}

fn soa(apex: &str) -> Record {
    let (server, person) = (absolute("ns.test"), absolute("dns.test"));
    let data = SOA::new(server, person, 1, 3_600, 600, 86_400, NEGATIVE);
    Record::from_rdata(absolute(apex), NEGATIVE, RData::SOA(data))
}

/// The values and the TTL of the TXT RRset at `name`; servers give all records of one RRset the least TTL.
pub(super) fn txt(records: &[Value], name: &str) -> (Vec<String>, Option<u32>) {
    let here = |record: &&Value| record["type"] == "TXT" && record["name"] == name;
    let here: Vec<&Value> = records.iter().filter(here).collect();
    let ttl = |record: &&Value| match record["ttl"].as_u64().unwrap_or_default() as u32 {
        1 => AUTOMATIC,
        ttl => ttl,
    };
    let content = |record: &&Value| plain(record["content"].as_str().unwrap_or_default());
    (
        here.iter().map(content).collect(),
        here.iter().map(ttl).min(),
    )
}

/// Without the quotes of its character-strings, if it has any.
fn plain(content: &str) -> String {
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
