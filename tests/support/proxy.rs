//! An HTTPS proxy before an ACME authority: it counts what is asked, and loses, delays or replaces what a test chooses.
//!
//! It passes the client's Host on. Pebble and others build their URLs from it, so the client stays at the proxy.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::tls::{self, Identity};

/// One request, as the proxy saw it arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `directory`, or its name in the directory (`newNonce`, `newAccount`, `newOrder`, …), else the first segment of
    /// the path, which for Pebble is `authZ`, `chalZ`, `my-order`, `finalize-order` or `certZ`.
    pub kind: String,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// Which request of this kind it is; the first is 1.
    pub nth: usize,
}

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on, and so is the reply.
    #[default]
    Pass,
    /// The connection ends before the authority hears of it.
    LoseRequest,
    /// The authority acts on it; the connection ends in place of a reply.
    LoseReply,
    /// The authority acts on it; the reply comes so much later.
    DelayReply(Duration),
    /// The authority does not hear of it; this is the reply.
    Reply {
        /// The status.
        status: u16,
        /// Headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
}

type Decide = dyn Fn(&Seen) -> Fate + Send + Sync;
type Hear = dyn Fn(&Seen, u16) + Send + Sync;

/// A running proxy; ends when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    directory_path: String,
    files: TempDir,
    // Dropped from async tests too, where a runtime must not be waited for.
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    upstream: SocketAddr,
    client: reqwest::Client,
    /// Path → name, from the authority's directory.
    kinds: HashMap<String, String>,
    seen: Mutex<Vec<Seen>>,
    answered: Mutex<Vec<(Seen, u16)>>,
    hear: Mutex<Arc<Hear>>,
    decide: Mutex<Arc<Decide>>,
}

impl Proxy {
    /// Before the authority whose directory is at `path` of `upstream`, over HTTPS under `upstream_root` (PEM).
    pub fn start(upstream: SocketAddr, upstream_root: &str, path: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared {
            upstream,
            client: client(upstream_root),
            kinds: kinds(
                &tls::get(upstream, upstream_root, path).expect("the directory"),
                path,
            ),
            seen: Mutex::default(),
            answered: Mutex::default(),
            hear: Mutex::new(Arc::new(|_, _| {})),
            decide: Mutex::new(Arc::new(|_| Fate::Pass)),
        });
        let files = TempDir::with_prefix("countersign-proxy-").expect("a temporary directory");
        let identity = Identity::loopback();
        identity.write(files.path());
        // Bound without the runtime, which cannot be waited for inside an async test.
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket of its own");
        let address = listener.local_addr().expect("bound above");
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).expect("a socket of its own")
        };
        runtime.spawn(accept(listener, acceptor(&identity), Arc::clone(&shared)));
        Self {
            shared,
            address,
            directory_path: path.to_owned(),
            files,
            runtime: Some(runtime),
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The authority's directory, through the proxy.
    pub fn directory_url(&self) -> String {
        format!("https://{}{}", self.address, self.directory_path)
    }

    /// The root of the proxy's own HTTPS certificate, a PEM file.
    pub fn https_root(&self) -> PathBuf {
        self.files.path().join("root.pem")
    }

    /// Decides about each request from now on.
    pub fn decide(&self, decide: impl Fn(&Seen) -> Fate + Send + Sync + 'static) {
        *self
            .shared
            .decide
            .lock()
            .expect("nothing panics with this lock") = Arc::new(decide);
    }

    /// All requests so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared
            .seen
            .lock()
            .expect("nothing panics with this lock")
            .clone()
    }

    /// How many requests of this kind came so far.
    pub fn count(&self, kind: &str) -> usize {
        self.seen().iter().filter(|seen| seen.kind == kind).count()
    }

    /// Every request that the authority answered, with the status, in the order of the answers.
    pub fn answered(&self) -> Vec<(Seen, u16)> {
        self.shared
            .answered
            .lock()
            .expect("nothing panics with this lock")
            .clone()
    }

    /// From now on, calls `hear` when the authority has answered and the answer is not passed on yet.
    pub fn on_answer(&self, hear: impl Fn(&Seen, u16) + Send + Sync + 'static) {
        *self
            .shared
            .hear
            .lock()
            .expect("nothing panics with this lock") = Arc::new(hear);
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared
            .seen
            .lock()
            .expect("nothing panics with this lock")
            .clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn record(&self, method: &str, path: &str) -> Seen {
        let first_segment = || path.split('/').nth(1).unwrap_or_default().to_owned();
        let kind = self.kinds.get(path).cloned().unwrap_or_else(first_segment);
        let mut all = self.seen.lock().expect("nothing panics with this lock");
        let nth = 1 + all.iter().filter(|seen| seen.kind == kind).count();
        let seen = Seen {
            kind,
            method: method.to_owned(),
            path: path.to_owned(),
            nth,
        };
        all.push(seen.clone());
        seen
    }

    /// An error ends the connection without a reply.
    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
    ) -> std::io::Result<Response<Full<Bytes>>> {
        let seen = self.record(request.method().as_str(), request.uri().path());
        let decide = Arc::clone(&*self.decide.lock().expect("nothing panics with this lock"));
        match decide(&seen) {
            Fate::Pass => self.forward(seen, request).await,
            Fate::LoseRequest => Err(lost()),
            Fate::LoseReply => self.forward(seen, request).await.and(Err(lost())),
            Fate::DelayReply(delay) => {
                let reply = self.forward(seen, request).await;
                #[allow(
                    clippy::disallowed_methods,
                    reason = "the delay is what the test asks for"
                )]
                tokio::time::sleep(delay).await;
                reply
            }
            Fate::Reply {
                status,
                headers,
                body,
            } => {
                let mut reply = Response::builder().status(status);
                for (name, value) in headers {
                    reply = reply.header(name, value);
                }
                reply.body(Full::from(body)).map_err(std::io::Error::other)
            }
        }
    }

    /// Once the request is here the authority gets it, and its answer is noted, even if the client dies meanwhile.
    async fn forward(
        self: &Arc<Self>,
        seen: Seen,
        request: Request<Incoming>,
    ) -> std::io::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(std::io::Error::other)?
            .to_bytes();
        let shared = Arc::clone(self);
        let exchange = tokio::spawn(async move {
            let reply = shared.exchange(head, body).await?;
            shared.heard(seen, reply.status().as_u16());
            Ok(reply)
        });
        exchange.await.map_err(std::io::Error::other)?
    }

    fn heard(&self, seen: Seen, status: u16) {
        let hear = Arc::clone(&*self.hear.lock().expect("nothing panics with this lock"));
        let mut answered = self.answered.lock().expect("nothing panics with this lock");
        answered.push((seen.clone(), status));
        drop(answered);
        hear(&seen, status);
    }

    async fn exchange(&self, head: Parts, body: Bytes) -> std::io::Result<Response<Full<Bytes>>> {
        let url = format!("https://{}{}", self.upstream, head.uri);
        let reply = self
            .client
            .request(head.method, url)
            .headers(head.headers)
            .body(body);
        let reply = reply.send().await.map_err(std::io::Error::other)?;
        let (status, mut headers) = (reply.status(), reply.headers().clone());
        // Framing is between two neighbours only.
        headers.remove("transfer-encoding");
        headers.remove("connection");
        let body = reply.bytes().await.map_err(std::io::Error::other)?;
        // A HEAD's length says what a GET would bring.
        if !body.is_empty() {
            headers.remove("content-length");
        }
        let mut passed = Response::new(Full::new(body));
        *passed.status_mut() = status;
        *passed.headers_mut() = headers;
        Ok(passed)
    }
}

fn lost() -> std::io::Error {
    std::io::Error::other("lost on purpose")
}

fn kinds(directory: &str, path: &str) -> HashMap<String, String> {
    let directory: HashMap<String, serde_json::Value> =
        serde_json::from_str(directory).expect("a directory is a JSON object");
    let named = directory.into_iter().filter_map(|(name, url)| {
        let after_scheme = url.as_str()?.strip_prefix("https://")?.to_owned();
        let path = after_scheme
            .find('/')
            .map(|slash| after_scheme[slash..].to_owned())?;
        Some((path, name))
    });
    named
        .chain([(path.to_owned(), "directory".to_owned())])
        .collect()
}

fn client(root: &str) -> reqwest::Client {
    // An error says that another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = reqwest::Certificate::from_pem(root.as_bytes()).expect("PEM");
    reqwest::Client::builder()
        .tls_certs_only([root])
        // HTTP/2 would have no Host of the client's.
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client")
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    TlsAcceptor::from(identity.server())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(request).await }
    });
    // An error is a client that went away, or a loss on purpose.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
