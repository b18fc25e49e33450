//! A nameserver for TXT and CNAME, by UDP and TCP, that can misbehave.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

pub(crate) struct Nameserver {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    /// By lower-case name without the last dot; each value as its character-strings.
    txt: HashMap<String, Vec<Vec<Vec<u8>>>>,
    cname: HashMap<String, String>,
    failing: HashSet<String>,
    /// Lines of "name value", read anew for every question: what hooks write.
    file: Option<PathBuf>,
    truncates: bool,
    follows: bool,
    over_tcp: usize,
}

impl Nameserver {
    pub(crate) async fn start() -> Nameserver {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone {
            follows: true,
            ..Zone::default()
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&zone)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Nameserver {
            address,
            zone,
            _tasks: tasks,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn txt(&self, name: &str, value: &str) {
        self.txt_strings(name, &[value.as_bytes()]);
    }

    /// One value that consists of several character-strings.
    pub(crate) fn txt_strings(&self, name: &str, strings: &[&[u8]]) {
        let value = strings.iter().map(|s| s.to_vec()).collect();
        self.zone
            .lock()
            .unwrap()
            .txt
            .entry(name.to_owned())
            .or_default()
            .push(value);
    }

    pub(crate) fn cname(&self, name: &str, target: &str) {
        self.zone
            .lock()
            .unwrap()
            .cname
            .insert(name.to_owned(), target.to_owned());
    }

    /// SERVFAIL for this name.
    pub(crate) fn fail(&self, name: &str) {
        self.zone.lock().unwrap().failing.insert(name.to_owned());
    }

    /// Over UDP only TC is answered.
    pub(crate) fn truncate(&self) {
        self.zone.lock().unwrap().truncates = true;
    }

    /// Answers a CNAME alone, without what it leads to.
    pub(crate) fn leave_targets_out(&self) {
        self.zone.lock().unwrap().follows = false;
    }

    pub(crate) fn read_file(&self, path: &Path) {
        self.zone.lock().unwrap().file = Some(path.to_owned());
    }

    pub(crate) fn questions_over_tcp(&self) -> usize {
        self.zone.lock().unwrap().over_tcp
    }
}

/// One port for both. What is free for TCP may be taken for UDP, so this may take some tries.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = vec![0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let answer = zone.lock().unwrap().answer(&buffer[..length], false);
        if let Some(answer) = answer {
            _ = socket.send_to(&answer, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    while let Ok((stream, _)) = listener.accept().await {
        _ = one_question(stream, &zone).await;
    }
}

async fn one_question(mut stream: TcpStream, zone: &Mutex<Zone>) -> std::io::Result<()> {
    let length = stream.read_u16().await?;
    let mut question = vec![0; length.into()];
    stream.read_exact(&mut question).await?;
    let answer = zone
        .lock()
        .unwrap()
        .answer(&question, true)
        .unwrap_or_default();
    stream.write_u16(answer.len() as u16).await?;
    stream.write_all(&answer).await
}

impl Zone {
    fn answer(&mut self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(question).ok()?;
        let asked = query.queries.first()?.clone();
        let mut answer = Message::new(
            query.metadata.id,
            MessageType::Response,
            query.metadata.op_code,
        );
        answer.metadata.authoritative = true;
        answer.add_query(asked.clone());
        self.over_tcp += usize::from(tcp);
        if self.truncates && !tcp {
            answer.metadata.truncation = true;
            return answer.to_vec().ok();
        }
        let mut name = text(asked.name());
        if self.failing.contains(&name) {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer.to_vec().ok();
        }
        for _ in 0..20 {
            let Some(target) = self.cname.get(&name) else {
                break;
            };
            let rdata = RData::CNAME(CNAME(owner(target)));
            answer.add_answer(Record::from_rdata(owner(&name), 1, rdata));
            name.clone_from(target);
            if !self.follows {
                return answer.to_vec().ok();
            }
        }
        let values = self.values(&name);
        if values.is_empty() && !self.cname.contains_key(&name) && name.ends_with(".gone") {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        if asked.query_type() == RecordType::TXT {
            for value in values {
                let strings = value.iter().map(Vec::as_slice).collect();
                let rdata = RData::TXT(TXT::from_bytes(strings));
                answer.add_answer(Record::from_rdata(owner(&name), 1, rdata));
            }
        }
        answer.to_vec().ok()
    }

    fn values(&self, name: &str) -> Vec<Vec<Vec<u8>>> {
        let mut values = self.txt.get(name).cloned().unwrap_or_default();
        let written = self
            .file
            .as_ref()
            .and_then(|file| std::fs::read_to_string(file).ok());
        for line in written.unwrap_or_default().lines() {
            match line.split_once(' ') {
                Some((owner, value)) if owner.trim_end_matches('.') == name => {
                    values.push(vec![value.as_bytes().to_vec()]);
                }
                _ => {}
            }
        }
        values
    }
}

fn owner(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap()
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}
