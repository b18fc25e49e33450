//! One question to one server and its answer: UDP first, TCP where UDP is cut or silent (RFC 1035, RFC 7766).
//!
//! RD=0, so that no resolver goes looking and fills its cache; EDNS(0) with 1232 octets (RFC 6891), without it for a
//! server that does not know it. A reply counts only from the address asked, to the port asked from, with the id and
//! the question asked (RFC 5452).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use countersign_providers::clock::Clock;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tracing::trace;

/// How long to wait for each UDP datagram's answer; one may get lost.
const UDP_TRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// How long TCP may take, connecting included.
const TCP: Duration = Duration::from_secs(2);
/// The largest UDP answer asked for: crosses any path unfragmented (RFC 9715 section 3.1).
const PAYLOAD: u16 = 1232;
/// In logs, so many values of an answer are shown, and so much of each.
const SHOWN_VALUES: usize = 8;
const LONGEST_VALUE: usize = 120;
/// Room for a UDP answer from a server that does not care.
const BUFFER: usize = 4096;

/// Carries questions to servers, all at one port.
pub(super) struct Exchange {
    clock: Clock,
    port: u16,
    random: SystemRandom,
}

/// Why there is no answer, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It did not come.
    NoAnswer(String),
    /// The question could not leave: no route from this machine.
    NoRoute(String),
}

impl Exchange {
    pub(super) fn new(clock: Clock, port: u16) -> Self {
        Self {
            clock,
            port,
            random: SystemRandom::new(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Asks the server at `address` for the `kind` RRset at `name`.
    pub(super) async fn ask(
        &self,
        address: IpAddr,
        name: &Name,
        kind: RecordType,
    ) -> Result<Message, Silence> {
        let server = SocketAddr::new(address, self.port);
        let mut answer = self.ask_with(server, name, kind, true).await;
        if let Ok(message) = &answer
            && knows_no_edns(message)
        {
            answer = self.ask_with(server, name, kind, false).await;
        }
        match &answer {
            Ok(message) => trace!(%server, %name, %kind, code = %message.metadata.response_code,
                aa = message.metadata.authoritative, answers = message.answers.len(), values = %Values(&message.answers), "a name server answered"),
            Err(silence) => trace!(%server, %name, %kind, ?silence, "a name server did not answer"),
        }
        answer
    }

    async fn ask_with(
        &self,
        server: SocketAddr,
        name: &Name,
        kind: RecordType,
        edns: bool,
    ) -> Result<Message, Silence> {
        let mut cut = false;
        for patience in UDP_TRIES {
            let question = self.question(name, kind, edns)?;
            let socket = open(server).await?;
            match self
                .clock
                .timeout(patience, by_udp(&socket, &question))
                .await
            {
                Some(Ok(message)) if !message.metadata.truncation => return Ok(message),
                Some(Ok(_)) => cut = true,
                // The port is closed for UDP, or the system forbids it; asking again tells nothing new.
                Some(Err(_)) => {}
                None => continue,
            }
            break;
        }
        let question = self.question(name, kind, edns)?;
        let why = match self.clock.timeout(TCP, by_tcp(server, &question)).await {
            Some(Ok(message)) => return Ok(message),
            Some(Err(error)) => said(&error),
            None => "no answer by UDP or TCP".to_owned(),
        };
        Err(Silence::NoAnswer(if cut {
            format!("its answer by UDP is cut off, and by TCP: {why}")
        } else {
            why
        }))
    }

    fn question(&self, name: &Name, kind: RecordType, edns: bool) -> Result<Message, Silence> {
        let mut id = [0; 2];
        self.random
            .fill(&mut id)
            .map_err(|_| Silence::NoAnswer("the system gives no random numbers".to_owned()))?;
        let id = u16::from_be_bytes(id);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name.clone(), kind));
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            message.set_edns(edns);
        }
        Ok(message)
    }
}

/// A socket of its own for each question, so that the port is another one each time (RFC 5452 section 9.2). What
/// fails here fails on this machine: nothing has been sent.
async fn open(server: SocketAddr) -> Result<UdpSocket, Silence> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let connected = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        Ok(socket)
    };
    connected
        .await
        .map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
                Silence::NoRoute(error.to_string())
            }
            // A machine without IPv6 has no such sockets at all.
            _ if server.is_ipv6() => Silence::NoRoute(error.to_string()),
            _ => Silence::NoAnswer(error.to_string()),
        })
}

async fn by_udp(socket: &UdpSocket, question: &Message) -> io::Result<Message> {
    socket.send(&encode(question)?).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(message) = decode(question, &buffer[..length]) {
            return Ok(message);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let bytes = encode(question)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes(), &bytes[..]].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    decode(question, &reply)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"))
}

fn encode(question: &Message) -> io::Result<Vec<u8>> {
    question.to_vec().map_err(io::Error::other)
}

/// The reply in `bytes`, if it is one to `question`.
pub(super) fn decode(question: &Message, bytes: &[u8]) -> Option<Message> {
    // The parser makes room for as many questions as the header claims.
    let claimed = u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    if claimed > 1 {
        return None;
    }
    let reply = match Message::from_vec(bytes) {
        Ok(reply) => reply,
        Err(error) => {
            trace!(%error, "a name server sent what is no DNS message");
            return None;
        }
    };
    let metadata = &reply.metadata;
    let same_question = match (reply.queries.as_slice(), question.queries.as_slice()) {
        ([theirs], [ours]) => theirs == ours,
        // A server that understood nothing may repeat nothing.
        ([], _) => !matches!(
            metadata.response_code,
            ResponseCode::NoError | ResponseCode::NXDomain
        ),
        _ => false,
    };
    let is_reply = metadata.id == question.metadata.id
        && metadata.message_type == MessageType::Response
        && metadata.op_code == OpCode::Query;
    (is_reply && same_question).then_some(reply)
}

/// The values of records, for logs: the first few, each cut off.
pub(super) struct Values<'a>(pub(super) &'a [Record]);

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, record) in self.0.iter().take(SHOWN_VALUES).enumerate() {
            let between = if nth > 0 { ", " } else { "" };
            let value = record.data.to_string();
            match value.char_indices().nth(LONGEST_VALUE) {
                Some((end, _)) => write!(f, "{between}{}…", &value[..end])?,
                None => write!(f, "{between}{value}")?,
            }
        }
        if self.0.len() > SHOWN_VALUES {
            f.write_str(", …")?;
        }
        Ok(())
    }
}

fn knows_no_edns(reply: &Message) -> bool {
    let code = reply.metadata.response_code;
    matches!(code, ResponseCode::FormErr | ResponseCode::NotImp) && reply.edns.is_none()
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the connection was closed without an answer".to_owned()
        }
        _ => error.to_string(),
    }
}
