//! A TCP relay before the server of a DNS host: it tells of every reply before it passes it on, and may take its time.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Hear = dyn Fn() + Send + Sync;

/// A running relay; takes no more connections when dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: SocketAddr,
    delay: Duration,
    ended: AtomicBool,
    hear: Mutex<Arc<Hear>>,
}

impl Relay {
    /// Before `upstream`, every reply of which is passed on so much later.
    pub fn start(upstream: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound above");
        let shared = Arc::new(Shared {
            upstream,
            delay,
            ended: AtomicBool::new(false),
            hear: Mutex::new(Arc::new(|| {})),
        });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if all.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&all);
                // An error is a side that went away.
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Where it listens, by TCP only.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// From now on, calls `hear` when the server has replied and the reply is not passed on yet.
    pub fn on_reply(&self, hear: impl Fn() + Send + Sync + 'static) {
        *self
            .shared
            .hear
            .lock()
            .expect("nothing panics with this lock") = Arc::new(hear);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut server = TcpStream::connect(self.upstream)?;
        let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
        std::thread::spawn(move || {
            // What was sent before the client died arrives, as it would without a relay.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let mut buffer = vec![0; 65_536];
        loop {
            // Replies on loopback come in one piece; of one that does not, each piece is told of.
            let length = server.read(&mut buffer)?;
            if length == 0 {
                return client.shutdown(Shutdown::Write);
            }
            let hear = Arc::clone(&*self.hear.lock().expect("nothing panics with this lock"));
            hear();
            #[allow(
                clippy::disallowed_methods,
                reason = "the delay is what the test asks for"
            )]
            std::thread::sleep(self.delay);
            client.write_all(&buffer[..length])?;
        }
    }
}
