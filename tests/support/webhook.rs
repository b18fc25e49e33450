//! An HTTP server of a few lines that keeps what it is sent, and answers as it is told: well, with an error, or not.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::tls::Identity;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Answers with this status.
    Status(u16),
    /// Reads it and says nothing.
    Nothing,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `POST`, …
    pub method: String,
    /// Its path and query.
    pub path: String,
    /// Its header fields, the names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

impl Request {
    /// The value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }
}

type Hear = dyn Fn() + Send + Sync;

/// A running server; it ends with the process.
pub struct Webhook {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Mutex<Answer>,
    /// Those that were answered with success.
    taken: Mutex<Vec<Request>>,
    hear: Mutex<Arc<Hear>>,
    tls: Option<Arc<ServerConfig>>,
}

impl Webhook {
    /// One that answers 200.
    pub fn start() -> Self {
        Self::with(None)
    }

    /// The same over HTTPS.
    pub fn https(identity: &Identity) -> Self {
        Self::with(Some(identity.server()))
    }

    fn with(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound above");
        let shared = Arc::new(Shared {
            answer: Mutex::new(Answer::Status(200)),
            taken: Mutex::default(),
            hear: Mutex::new(Arc::new(|| {})),
            tls,
        });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&all);
                // An error is a client that went away.
                std::thread::spawn(move || match &shared.tls {
                    None => shared.serve(stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(Arc::clone(tls));
                        let connection = connection.map_err(std::io::Error::other)?;
                        shared.serve(StreamOwned::new(connection, stream))
                    }
                });
            }
        });
        Self { address, shared }
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        let scheme = match self.shared.tls {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{}{path}", self.address)
    }

    /// From now on it answers so.
    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().expect("nothing panics with it") = answer;
    }

    /// From now on, calls `hear` when a request came and was not answered yet.
    pub fn on_request(&self, hear: impl Fn() + Send + Sync + 'static) {
        *self.shared.hear.lock().expect("nothing panics with it") = Arc::new(hear);
    }

    /// What it answered with success, at `path`.
    pub fn taken(&self, path: &str) -> Vec<Request> {
        let taken = self.shared.taken.lock().expect("nothing panics with it");
        let there = taken.iter().filter(|request| request.path == path);
        there.cloned().collect()
    }

    /// Forgets what it took.
    pub fn forget(&self) {
        let taken = &self.shared.taken;
        taken.lock().expect("nothing panics with it").clear();
    }
}

impl Shared {
    fn serve(&self, stream: impl Read + Write) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut request = Request {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            ..Request::default()
        };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            request.headers.push((name, value));
        }
        let length = request
            .header("content-length")
            .and_then(|it| it.parse().ok());
        let mut body = vec![0; length.unwrap_or_default()];
        reader.read_exact(&mut body)?;
        request.body = String::from_utf8_lossy(&body).into_owned();
        let hear = Arc::clone(&self.hear.lock().expect("nothing panics with it"));
        let answer = *self.answer.lock().expect("nothing panics with it");
        // Whoever sees it here has it, though the sender may never hear of that.
        if let Answer::Status(200..300) = answer {
            self.taken
                .lock()
                .expect("nothing panics with it")
                .push(request);
        }
        hear();
        match answer {
            Answer::Status(status) => {
                let stream = reader.get_mut();
                write!(
                    stream,
                    "HTTP/1.1 {status} Said\r\nLocation: /elsewhere\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                )?;
                stream.flush()
            }
            // Until the client gives up.
            Answer::Nothing => reader.read(&mut [0]).map(drop),
        }
    }
}
