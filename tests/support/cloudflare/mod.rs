//! A stand-in for Cloudflare's API v4 on loopback: zones, records and tokens that behave as documented, counted calls, and
//! the faults that a test chooses. The official SDK and other clients judge it in `tests/cloudflare.rs`.

pub mod dns;
mod state;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::bridge::OBSERVER;
pub use state::{State, Token};

/// Where the API begins, as at the real one.
const BASE: &str = "/client/v4";

/// One request, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `zones`, `list`, `batch`, `create`, `delete`, or `other`.
    pub kind: &'static str,
    /// The path and the query, after the base.
    pub path: String,
    /// Which request of this kind it is; the first is 1.
    pub nth: usize,
}

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is answered.
    #[default]
    Pass,
    /// The connection ends before anything is done.
    LoseRequest,
    /// It is done; the connection ends in place of a reply.
    LoseReply,
    /// It is done; the connection ends in the middle of the reply.
    CutReply,
    /// It is done; the reply comes so much later.
    DelayReply(Duration),
    /// Nothing is done; this is the reply.
    Reply {
        /// The status.
        status: u16,
        /// Headers.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
}

type Decide = dyn Fn(&Seen, &mut State) -> Fate + Send + Sync;
type Body = BoxBody<Bytes, std::io::Error>;

/// The running stand-in; ends when dropped.
pub struct Cloudflare {
    shared: Arc<Shared>,
    address: SocketAddr,
    // Dropped from async tests too, where a runtime must not be waited for.
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    state: Mutex<State>,
    seen: Mutex<Vec<Seen>>,
    decide: Mutex<Arc<Decide>>,
}

impl Cloudflare {
    /// With these zones and tokens.
    pub fn start(state: State) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            seen: Mutex::default(),
            decide: Mutex::new(Arc::new(|_, _| Fate::Pass)),
        });
        // Bound without the runtime, which cannot be waited for inside an async test.
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket of its own");
        let address = listener.local_addr().expect("bound above");
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).expect("a socket of its own")
        };
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self {
            shared,
            address,
            runtime: Some(runtime),
        }
    }

    /// The API's base address.
    pub fn url(&self) -> String {
        format!("http://{}{BASE}", self.address)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What a person at the dashboard sees, and may change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("nothing panics with it")
    }

    /// Decides about each request from now on.
    pub fn decide(&self, decide: impl Fn(&Seen, &mut State) -> Fate + Send + Sync + 'static) {
        *self.shared.decide.lock().expect("nothing panics with it") = Arc::new(decide);
    }

    /// All requests so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared
            .seen
            .lock()
            .expect("nothing panics with it")
            .clone()
    }

    /// What was asked so far, e.g. `zones list batch`; forgets it.
    pub fn asked(&self) -> String {
        let seen = std::mem::take(&mut *self.shared.seen.lock().expect("nothing panics with it"));
        let kinds: Vec<&str> = seen.iter().map(|seen| seen.kind).collect();
        kinds.join(" ")
    }
}

impl Drop for Cloudflare {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn record(&self, method: &str, path: &str, counts: bool) -> Seen {
        let bare = path.split('?').next().unwrap_or_default();
        let segments: Vec<&str> = bare.trim_matches('/').split('/').collect();
        let kind = match (method, segments.as_slice()) {
            ("GET", ["zones"]) => "zones",
            ("GET", ["zones", _, "dns_records"]) => "list",
            ("POST", ["zones", _, "dns_records"]) => "create",
            ("POST", ["zones", _, "dns_records", "batch"]) => "batch",
            ("DELETE", ["zones", _, "dns_records", _]) => "delete",
            _ => "other",
        };
        let mut all = self.seen.lock().expect("nothing panics with it");
        let seen = Seen {
            kind,
            path: path.to_owned(),
            nth: 1 + all.iter().filter(|seen| seen.kind == kind).count(),
        };
        if counts {
            all.push(seen.clone());
        }
        seen
    }

    /// An error ends the connection without a reply.
    async fn answer(&self, request: Request<Incoming>) -> std::io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let whole = head.uri.path_and_query().map_or("", |it| it.as_str());
        let path = whole.strip_prefix(BASE).unwrap_or(whole);
        let agent = head.headers.get("user-agent");
        let counts = agent.is_none_or(|agent| agent != OBSERVER);
        let seen = self.record(head.method.as_str(), path, counts);
        let body = body.collect().await.map_err(std::io::Error::other)?;
        let decide = Arc::clone(&*self.decide.lock().expect("nothing panics with it"));
        let fate = decide(
            &seen,
            &mut self.state.lock().expect("nothing panics with it"),
        );
        if fate == Fate::LoseRequest {
            return Err(lost());
        }
        if let Fate::Reply {
            status,
            headers,
            body,
        } = fate
        {
            return reply(status, &headers, whole_body(body.into()));
        }
        let authorization = head.headers.get("authorization");
        let authorization = authorization
            .and_then(|it| it.to_str().ok())
            .unwrap_or_default();
        let bytes = body.to_bytes();
        let (status, headers, json) = {
            let mut state = self.state.lock().expect("nothing panics with it");
            state.answer(head.method.as_str(), path, authorization, &bytes)
        };
        let text = json.to_string();
        match fate {
            Fate::LoseReply => Err(lost()),
            Fate::CutReply => {
                let half = Bytes::from(text[..text.len() / 2].to_owned());
                let parts = [Ok(Frame::data(half)), Err(lost())];
                let body = StreamBody::new(stream::iter(parts));
                reply(status, &headers, BodyExt::boxed(body))
            }
            Fate::DelayReply(delay) => {
                #[allow(
                    clippy::disallowed_methods,
                    reason = "the delay is what the test asks for"
                )]
                tokio::time::sleep(delay).await;
                reply(status, &headers, whole_body(text.into()))
            }
            _ => reply(status, &headers, whole_body(text.into())),
        }
    }
}

fn whole_body(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn reply(
    status: u16,
    headers: &[(&'static str, String)],
    body: Body,
) -> std::io::Result<Response<Body>> {
    let mut reply = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    for (name, value) in headers {
        reply = reply.header(*name, value);
    }
    reply.body(body).map_err(std::io::Error::other)
}

fn lost() -> std::io::Error {
    std::io::Error::other("lost on purpose")
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(request).await }
    });
    // An error is a client that went away, or a loss on purpose.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
