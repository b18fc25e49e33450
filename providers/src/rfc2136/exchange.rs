//! One verb's connection to the update server: TCP first, UDP where TCP cannot be had, every address of the server.
//!
//! It carries messages and knows nothing of what they mean. Everything has a deadline and a size.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tracing::trace;

use super::Endpoint;
use super::error;
use super::message::{Reply, Request, UDP_PAYLOAD};
use super::tsig::Key;
use crate::clock::Clock;
use crate::{Context, ProviderError};

/// A server that does not take a connection within this time is asked by UDP.
const CONNECT: Duration = Duration::from_secs(2);
/// One exchange, however many messages it has, is over after this time.
const EXCHANGE: Duration = Duration::from_secs(10);
/// How long a reply by UDP is waited for before the same message is sent again.
const UDP_ROUNDS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// As many messages are under way on a TCP connection at once; small enough that writing them never blocks on a
/// server that waits for us to read.
const WINDOW: usize = 32;
/// An update by TCP is split at this size; the wire's own limit is twice that.
const TCP_SIZE: usize = 32 * 1024;
/// More addresses than a real server has are not tried.
const MAX_ADDRESSES: usize = 8;

/// The connection, and everything that its messages need.
pub(super) struct Session<'a> {
    server: &'a str,
    key: Option<&'a Key>,
    context: &'a Context,
    addresses: Vec<SocketAddr>,
    link: Link,
}

enum Link {
    Tcp(TcpStream),
    /// Why there is no TCP.
    Udp(String),
}

impl<'a> Session<'a> {
    /// Finds the server and connects.
    pub(super) async fn open(
        server: &'a str,
        key: Option<&'a Key>,
        context: &'a Context,
    ) -> Result<Self, ProviderError> {
        let addresses = resolve(server, context).await?;
        let link = match connect(&addresses, context).await {
            Ok(stream) => Link::Tcp(stream),
            Err(why) => Link::Udp(why),
        };
        Ok(Self {
            server,
            key,
            context,
            addresses,
            link,
        })
    }

    /// The largest update that should be sent in one message.
    pub(super) fn message_size(&self) -> usize {
        match self.link {
            Link::Tcp(_) => TCP_SIZE,
            Link::Udp(_) => usize::from(UDP_PAYLOAD),
        }
    }

    /// Sends `messages` and gives the reply to each, in their order.
    pub(super) async fn ask(
        &mut self,
        messages: Vec<Message>,
    ) -> Result<Vec<Reply>, ProviderError> {
        let server = self.server;
        let time = EXCHANGE.min(left(server, self.context)?);
        let requests = self.seal(messages)?;
        let clock = self.context.clock.clone();
        match clock.timeout(time, self.exchange(&requests)).await {
            None => Err(error::timeout(server, time)),
            Some(Err(fault)) => Err(error::transport(server, &fault.to_string())),
            Some(Ok(replies)) => {
                for reply in &replies {
                    trace!(server, code = %reply.code(), signature = ?reply.signature, "DNS reply");
                }
                Ok(replies)
            }
        }
    }

    fn seal(&self, messages: Vec<Message>) -> Result<Vec<Request>, ProviderError> {
        let now = u64::try_from(self.context.clock.now().as_second()).unwrap_or(0);
        let mut requests: Vec<Request> = Vec::with_capacity(messages.len());
        for mut message in messages {
            // Replies on one connection may come in any order, so every number under way is used once.
            while requests.iter().any(|r| r.id == message.metadata.id) {
                message.metadata.id = message.metadata.id.wrapping_add(1);
            }
            trace!(
                server = self.server,
                opcode = ?message.metadata.op_code,
                question = ?message.queries.first().map(|query| query.name().to_ascii()),
                changes = message.authorities.len(),
                "DNS request"
            );
            let request = Request::seal(message, self.key, now)
                .map_err(|why| error::unsendable(self.server, &why))?;
            if request.bytes.len() > usize::from(u16::MAX) {
                return Err(error::unsendable(
                    self.server,
                    "it is longer than 65535 octets",
                ));
            }
            requests.push(request);
        }
        Ok(requests)
    }

    async fn exchange(&mut self, requests: &[Request]) -> Result<Vec<Reply>, Fault> {
        match &mut self.link {
            Link::Tcp(stream) => {
                let mut replies = Replies::new(requests);
                while let Err(fault) = converse(stream, requests, self.key, &mut replies).await {
                    // Some servers close after a reply or two. Every message may be sent again: a question by nature,
                    // an update because its prerequisites no longer hold, and then everything is read again.
                    if !fault.is_lost_connection() || !replies.may_go_on() {
                        return Err(fault);
                    }
                    *stream = connect(&self.addresses, self.context)
                        .await
                        .map_err(Fault::NoConnection)?;
                }
                Ok(replies.into_all())
            }
            Link::Udp(why) => {
                let mut replies = Vec::with_capacity(requests.len());
                for request in requests {
                    let clock = &self.context.clock;
                    let reply = by_udp(&mut self.addresses, request, self.key, clock, why).await?;
                    replies.push(reply);
                }
                Ok(replies)
            }
        }
    }
}

/// Why an exchange came to nothing.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the connection broke, and a new one could not be made: {0}")]
    NoConnection(String),
    #[error("it sent something that is not the reply: {0}")]
    NotTheReply(&'static str),
    #[error("no answer by UDP, and by TCP: {0}")]
    NoAnswer(String),
    #[error("the answer does not fit into UDP, and by TCP: {0}")]
    Truncated(String),
}

impl Fault {
    fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

/// The replies so far, in the order of the requests.
struct Replies {
    replies: Vec<Option<Reply>>,
    /// How many there were when the last connection broke.
    at_break: Option<usize>,
}

impl Replies {
    fn new(requests: &[Request]) -> Self {
        Self {
            replies: requests.iter().map(|_| None).collect(),
            at_break: None,
        }
    }

    fn count(&self) -> usize {
        self.replies.iter().flatten().count()
    }

    /// Whether another connection is worth it: always the first time, later only if the last one brought something.
    fn may_go_on(&mut self) -> bool {
        let count = self.count();
        self.at_break.replace(count).is_none_or(|last| count > last)
    }

    fn into_all(self) -> Vec<Reply> {
        self.replies.into_iter().flatten().collect()
    }
}

/// Sends what has no reply yet, a window at a time, and reads the replies in whatever order they come.
async fn converse(
    stream: &mut TcpStream,
    requests: &[Request],
    key: Option<&Key>,
    replies: &mut Replies,
) -> Result<(), Fault> {
    let open: Vec<usize> = (0..requests.len())
        .filter(|&i| replies.replies[i].is_none())
        .collect();
    for window in open.chunks(WINDOW) {
        let mut frames = Vec::new();
        for &i in window {
            frames.extend(frame_length(&requests[i]));
            frames.extend(&requests[i].bytes);
        }
        stream.write_all(&frames).await?;
        for _ in window {
            let bytes = read_frame(stream).await?;
            let &i = window
                .iter()
                .find(|&&i| bytes.starts_with(&requests[i].id.to_be_bytes()))
                .ok_or(Fault::NotTheReply("it answers another message"))?;
            let reply = requests[i].reply(&bytes, key).map_err(Fault::NotTheReply)?;
            if replies.replies[i].replace(reply).is_some() {
                return Err(Fault::NotTheReply("it answers a message twice"));
            }
        }
    }
    Ok(())
}

/// The length in front of a message (RFC 1035 section 4.2.2); `seal` has checked that it fits.
fn frame_length(request: &Request) -> [u8; 2] {
    u16::try_from(request.bytes.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
}

async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Sends the same message to every address, in rounds; the address that answers is the first from then on.
async fn by_udp(
    addresses: &mut [SocketAddr],
    request: &Request,
    key: Option<&Key>,
    clock: &Clock,
    no_tcp: &str,
) -> Result<Reply, Fault> {
    for wait in UDP_ROUNDS {
        for i in 0..addresses.len() {
            let answer = clock
                .timeout(wait, datagram(addresses[i], request, key))
                .await;
            if let Some(Ok(reply)) = answer {
                addresses.swap(0, i);
                if reply.message.metadata.truncation {
                    return Err(Fault::Truncated(no_tcp.to_owned()));
                }
                return Ok(reply);
            }
        }
    }
    Err(Fault::NoAnswer(no_tcp.to_owned()))
}

/// One datagram out and the reply in. Anybody may send to the port, so what is not the reply is passed over.
async fn datagram(address: SocketAddr, request: &Request, key: Option<&Key>) -> io::Result<Reply> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    socket.send(&request.bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match request.reply(&buffer[..length], key) {
            Ok(reply) => return Ok(reply),
            Err(why) => trace!(%address, why, "a datagram that is not the reply"),
        }
    }
}

async fn connect(addresses: &[SocketAddr], context: &Context) -> Result<TcpStream, String> {
    let mut faults = Vec::new();
    for address in addresses {
        let time = CONNECT.min(context.clock.until(context.deadline));
        match context
            .clock
            .timeout(time, TcpStream::connect(address))
            .await
        {
            Some(Ok(stream)) => {
                // A request is one write, so holding it back for more gains nothing.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Some(Err(error)) => faults.push((address, error.to_string())),
            None => {
                let time = time.as_secs_f32();
                faults.push((address, format!("no connection within {time:.1} s")));
            }
        }
    }
    // Of one address the sentence speaks anyway.
    let faults: Vec<String> = match faults.as_slice() {
        [(_, why)] => vec![why.clone()],
        several => several
            .iter()
            .map(|(at, why)| format!("{at}: {why}"))
            .collect(),
    };
    let faults = faults.join(", ");
    trace!(faults, "no TCP");
    Err(faults)
}

async fn resolve(server: &str, context: &Context) -> Result<Vec<SocketAddr>, ProviderError> {
    let endpoint = Endpoint::parse(server).map_err(|why| error::bad_server(&why))?;
    let time = EXCHANGE.min(left(server, context)?);
    let (host, port) = match endpoint {
        Endpoint::Address(address) => return Ok(vec![address]),
        Endpoint::Host(host, port) => (host, port),
    };
    let looking = tokio::net::lookup_host((host.as_str(), port));
    let found = match context.clock.timeout(time, looking).await {
        None => return Err(error::timeout(server, time)),
        Some(Err(fault)) => return Err(error::no_address(server, &fault.to_string())),
        Some(Ok(found)) => found,
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.take(MAX_ADDRESSES) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.as_slice() {
        [] => Err(error::no_address(server, "the name has no address")),
        _ => Ok(addresses),
    }
}

/// How long the verb may still take.
fn left(server: &str, context: &Context) -> Result<Duration, ProviderError> {
    match context.clock.until(context.deadline) {
        Duration::ZERO => Err(error::past_deadline(server)),
        left => Ok(left),
    }
}
