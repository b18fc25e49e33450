//! A relay before a DNS server, by UDP and TCP on one port: it counts the UPDATE messages (RFC 2136) that come by.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use super::ports::{self, Port};

/// The opcode of an UPDATE.
const UPDATE: u8 = 5;

/// A running relay; it ends with the process.
pub struct Updates {
    port: Port,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: SocketAddr,
    /// The octets of each UPDATE.
    seen: Mutex<Vec<usize>>,
}

impl Updates {
    /// Before the server at `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        let port = ports::free();
        let here = (Ipv4Addr::LOCALHOST, port.number());
        let udp = UdpSocket::bind(here).expect("a free port");
        let tcp = TcpListener::bind(here).expect("a free port");
        let seen = Mutex::default();
        let shared = Arc::new(Shared { upstream, seen });
        let by_udp = Arc::clone(&shared);
        std::thread::spawn(move || by_udp.serve_udp(&udp));
        let by_tcp = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&by_tcp);
                // An error is a side that went away.
                std::thread::spawn(move || shared.serve_tcp(stream));
            }
        });
        Self { port, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// The octets of each UPDATE since the last call, in order of arrival.
    pub fn seen(&self) -> Vec<usize> {
        let mut seen = self.shared.seen.lock().expect("nothing panics with it");
        std::mem::take(&mut *seen)
    }
}

impl Shared {
    fn hear(&self, message: &[u8]) {
        if message.get(2).is_some_and(|it| it >> 3 & 0xf == UPDATE) {
            let mut seen = self.seen.lock().expect("nothing panics with it");
            seen.push(message.len());
        }
    }

    /// One question at a time.
    fn serve_udp(&self, socket: &UdpSocket) -> std::io::Result<()> {
        let mut buffer = [0; 65_535];
        loop {
            let (length, from) = socket.recv_from(&mut buffer)?;
            self.hear(&buffer[..length]);
            let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            server.connect(self.upstream)?;
            server.send(&buffer[..length])?;
            let length = server.recv(&mut buffer)?;
            socket.send_to(&buffer[..length], from)?;
        }
    }

    fn serve_tcp(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut server = TcpStream::connect(self.upstream)?;
        let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        loop {
            let mut length = [0; 2];
            client.read_exact(&mut length)?;
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            client.read_exact(&mut message)?;
            self.hear(&message);
            server.write_all(&[&length[..], &message].concat())?;
        }
    }
}
