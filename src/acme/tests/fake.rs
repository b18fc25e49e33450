//! A tiny HTTP server on loopback that says what a test tells it to, right or wrong. It checks nothing; judging our
//! requests is the test authority's part.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::acme::{Client, Settings};
use crate::clock::Clock;

/// What was asked.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    /// The `Host` header.
    pub(super) host: String,
    body: Vec<u8>,
}

impl Asked {
    /// The protected header of the JWS.
    pub(super) fn protected(&self) -> Value {
        self.part("protected")
    }

    /// The payload of the JWS; `Null` for a POST-as-GET.
    pub(super) fn payload(&self) -> Value {
        self.part("payload")
    }

    fn part(&self, name: &str) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let text = URL_SAFE_NO_PAD
            .decode(body[name].as_str().unwrap())
            .unwrap();
        if text.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&text).unwrap()
    }
}

/// What to answer.
pub(super) struct Says {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    then: Then,
}

enum Then {
    Done,
    /// A length of this is promised.
    Promise(usize),
    /// Half the body, then nothing, the connection open.
    Hang,
}

impl Says {
    pub(super) fn new(status: u16, media: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), media.into())],
            body: body.into(),
            then: Then::Done,
        }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    pub(super) fn problem(status: u16, kind: &str) -> Self {
        let body = serde_json::json!({
            "type": format!("urn:ietf:params:acme:error:{kind}"),
            "detail": format!("{kind} it is"),
        });
        Self::new(status, "application/problem+json", body.to_string())
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Promises `length` bytes and closes after the body.
    pub(super) fn promising(mut self, length: usize) -> Self {
        self.then = Then::Promise(length);
        self
    }

    /// Sends half the body and then nothing more.
    pub(super) fn hanging(mut self) -> Self {
        self.then = Then::Hang;
        self
    }
}

type Script = dyn Fn(&Asked, usize) -> Option<Says> + Send + Sync;

/// The server; it ends with the test's runtime.
pub(super) struct Fake {
    /// `http://127.0.0.1:PORT`.
    pub(super) base: String,
    /// `METHOD path` of everything asked so far.
    pub(super) log: Arc<Mutex<Vec<String>>>,
    /// Told when half an answer hangs.
    pub(super) hung: Arc<Notify>,
}

impl Fake {
    /// Starts it. `script` gets each request and how many came before it for the same path, and what it leaves
    /// unanswered gets the usual: a directory, fresh nonces, 404.
    pub(super) async fn start(
        script: impl Fn(&Asked, usize) -> Option<Says> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            log: Arc::default(),
            hung: Arc::default(),
        };
        let (log, hung) = (Arc::clone(&fake.log), Arc::clone(&fake.hung));
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log, hung) =
                    (Arc::clone(&script), Arc::clone(&log), Arc::clone(&hung));
                tokio::spawn(async move {
                    let _ = serve(stream, &*script, &log, &hung).await;
                });
            }
        });
        fake
    }

    /// A client of it.
    pub(super) fn client(&self) -> Client {
        self.client_at(Clock::system())
    }

    /// A client of it with its own clock.
    pub(super) fn client_at(&self, clock: Clock) -> Client {
        let settings = Settings {
            directory: format!("{}/dir", self.base),
            trust: None,
            insecure: true,
            hosts: Vec::new(),
            user_agent: "countersign-test".into(),
        };
        Client::new(settings, clock).ok().unwrap()
    }

    /// How often `METHOD path` was asked.
    pub(super) fn times(&self, line: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|seen| *seen == line).count()
    }
}

async fn serve(
    stream: TcpStream,
    script: &Script,
    log: &Mutex<Vec<String>>,
    hung: &Notify,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(asked) = request(&mut read).await? {
        let line = format!("{} {}", asked.method, asked.path);
        let (before, number) = {
            let mut log = log.lock().unwrap();
            let before = log.iter().filter(|seen| **seen == line).count();
            log.push(line);
            (before, log.len())
        };
        let says = script(&asked, before).unwrap_or_else(|| usual(&asked));
        let length = match says.then {
            Then::Promise(length) => length,
            Then::Done | Then::Hang => says.body.len(),
        };
        let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {length}\r\n", says.status);
        if !says.headers.iter().any(|(name, _)| name == "replay-nonce") {
            head.push_str(&format!("replay-nonce: nonce-{number}\r\n"));
        }
        for (name, value) in says.headers.iter().filter(|(_, value)| !value.is_empty()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        write.write_all(head.as_bytes()).await?;
        let body = if asked.method == "HEAD" {
            &[]
        } else {
            says.body.as_slice()
        };
        if matches!(says.then, Then::Hang) {
            write.write_all(&body[..body.len() / 2]).await?;
            hung.notify_one();
            std::future::pending::<()>().await;
        }
        write.write_all(body).await?;
        if matches!(says.then, Then::Promise(_)) {
            break;
        }
    }
    Ok(())
}

async fn request(
    read: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if read.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let (mut length, mut host) = (0, String::new());
    loop {
        let mut field = String::new();
        read.read_line(&mut field).await?;
        let Some((name, value)) = field.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "host" => host = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    read.read_exact(&mut body).await?;
    Ok(Some(Asked {
        method,
        path,
        host,
        body,
    }))
}

fn usual(asked: &Asked) -> Says {
    match asked.path.as_str() {
        "/dir" => Says::json(200, &directory(&asked.host)),
        "/nonce" => Says::new(200, "", ""),
        _ => Says::problem(404, "malformed"),
    }
}

/// A directory with an unknown key in it, as Boulder's.
pub(super) fn directory(host: &str) -> Value {
    serde_json::json!({
        "newNonce": format!("http://{host}/nonce"),
        "newAccount": format!("http://{host}/account"),
        "newOrder": format!("http://{host}/order"),
        "Zq4xJ0": "https://community.example/unknown-entry",
        "meta": {"profiles": {"classic": "the usual"}, "caaIdentities": ["ca.example"]},
    })
}
