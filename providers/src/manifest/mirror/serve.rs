//! HTTP of the virtual host: who may come in, what goes wrong on purpose, and the answer.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming as Body};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::manifest::form::Kind;
use crate::manifest::plan::Manifest;
use crate::manifest::template::Template;
use crate::record::DnsName;

use super::inverse::{Incoming, Named};
use super::operations::{Host, Operation};
use super::refusals::{Answer, entry, refusal};
use super::store::Store;
use super::{Trouble, lock};

/// No request is larger.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// More than anybody takes.
const FLOOD: usize = 9 * 1024 * 1024;
/// Where it sends, when it sends elsewhere.
const ELSEWHERE: &str = "virtual-elsewhere";

/// What all connections share.
pub(super) struct Shared {
    pub(super) manifest: Arc<Manifest>,
    pub(super) values: Named,
    pub(super) secrets: Mutex<BTreeMap<String, String>>,
    pub(super) store: Mutex<Store>,
    pub(super) forbidden: DnsName,
    pub(super) closed: DnsName,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) trouble: Option<Trouble>,
    /// Changes that were made since the trouble began.
    pub(super) changes: usize,
    pub(super) astray: usize,
    pub(super) odd: Vec<String>,
}

/// What becomes of a request.
enum Reply {
    Answer(Answer),
    /// The connection ends without one.
    Lost,
    /// There is none.
    Never,
}

/// Serves on a free port of loopback until the task is ended.
pub(super) async fn start(shared: Arc<Shared>) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            let service = service_fn(move |request| respond(Arc::clone(&shared), request));
            // An error is a client that went away.
            connections.spawn(async move {
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok((address, server))
}

async fn respond(
    shared: Arc<Shared>,
    request: hyper::Request<Body>,
) -> io::Result<hyper::Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let answer = match shared.reply(&head, &body.to_bytes()) {
        Reply::Answer(answer) => answer,
        Reply::Lost => return Err(io::ErrorKind::ConnectionReset.into()),
        Reply::Never => return std::future::pending().await,
    };
    let mut response = hyper::Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let body = match answer.body {
        // Not JSON, where it is to be none.
        Value::String(text) => text,
        body => body.to_string(),
    };
    let response = response.body(Full::new(Bytes::from(body)));
    response.map_err(|_| io::ErrorKind::InvalidData.into())
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether the lists have room for what they list. An error is a sentence.
    pub(super) fn can_be_said(&self) -> Result<(), String> {
        let no_room = |what: &str| {
            format!(
                "the virtual host cannot tell of {what}: the ways in the manifest cross each other"
            )
        };
        let incoming = Incoming {
            method: reqwest::Method::GET,
            path: Vec::new(),
            query: Vec::new(),
            body: Value::Null,
        };
        let mut store = lock(&self.store);
        let (zone, name) = match (store.zones.last().cloned(), store.records.first()) {
            (Some(zone), Some(record)) => (zone, record.name.to_string()),
            _ => return Ok(()),
        };
        let said = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            super::inverse::Caught {
                named: pairs.collect(),
                ..Default::default()
            }
        };
        let mut host = self.host(&mut store, None);
        let zones = host.answer(
            Operation::Zones,
            &said(&[("zone", zone.name.as_str())]),
            &incoming,
        );
        zones.ok_or_else(|| no_room("its zones"))?;
        let records = said(&[("zone-id", zone.id.as_str()), ("name", &name)]);
        let records = host.answer(Operation::Records, &records, &incoming);
        records.map(drop).ok_or_else(|| no_room("its records"))
    }

    fn host<'h>(&'h self, store: &'h mut Store, trouble: Option<Trouble>) -> Host<'h> {
        Host {
            manifest: &self.manifest,
            values: &self.values,
            store,
            forbidden: &self.forbidden,
            closed: &self.closed,
            trouble,
        }
    }

    fn reply(&self, head: &hyper::http::request::Parts, body: &[u8]) -> Reply {
        let mut state = self.state();
        let errors = &self.manifest.errors;
        let refuse = |kind: Kind, words: &str| Reply::Answer(refusal(errors, kind, words));
        match state.trouble {
            Some(Trouble::Busy(after)) => {
                let answer = refusal(errors, Kind::RateLimited, "too many requests");
                let answer = Answer {
                    status: 429,
                    ..answer
                };
                return Reply::Answer(match after {
                    Some(after) => answer.header("retry-after", after.to_string()),
                    None => answer,
                });
            }
            Some(Trouble::Silent) => return Reply::Never,
            Some(Trouble::Garbage) => {
                return Reply::Answer(Answer::new(200, json!("<html>maintenance</html>")));
            }
            Some(Trouble::Flood) => {
                return Reply::Answer(Answer::new(
                    200,
                    json!(format!("\"{}\"", "x".repeat(FLOOD))),
                ));
            }
            Some(Trouble::Elsewhere) if head.uri.path().contains(ELSEWHERE) => state.astray += 1,
            Some(Trouble::Elsewhere) => {
                return Reply::Answer(
                    Answer::new(302, json!({})).header("location", format!("/{ELSEWHERE}")),
                );
            }
            _ => {}
        }
        let Some((incoming, shown)) = self.admit(head, body) else {
            return refuse(Kind::Auth, &format!("not allowed with {}", shown_of(head)));
        };
        let trouble = state.trouble;
        let mut store = lock(&self.store);
        let mut host = self.host(&mut store, trouble);
        let Some((operation, said)) = host.understand(&incoming) else {
            state.odd.push(shown);
            return Reply::Answer(Answer::new(405, json!({})));
        };
        if operation.changes() {
            match trouble {
                Some(Trouble::DownAfter(most)) if state.changes >= most => return refuse_as_down(),
                Some(Trouble::RevokedAfter(most)) if state.changes >= most => {
                    return refuse(
                        Kind::Auth,
                        &format!("not allowed any more with {}", shown_of(head)),
                    );
                }
                Some(Trouble::Entry(nth)) => {
                    let answer = entry(errors, nth, "on purpose");
                    return Reply::Answer(answer.unwrap_or_default());
                }
                _ => {}
            }
        }
        let Some(answer) = host.answer(operation, &said, &incoming) else {
            state
                .odd
                .push(format!("{shown}: there is no room for the answer"));
            return Reply::Answer(Answer::new(500, json!({})));
        };
        if operation.changes() && answer.status == 200 {
            state.changes += 1;
            if trouble == Some(Trouble::LosesReply) {
                return Reply::Lost;
            }
        }
        Reply::Answer(answer)
    }

    /// The request without its credential, and as it is shown, if the credential is right.
    fn admit(&self, head: &hyper::http::request::Parts, body: &[u8]) -> Option<(Incoming, String)> {
        let secrets = lock(&self.secrets);
        let auth = &self.manifest.auth;
        let text = |template: &Template| {
            let of = |name: &str| {
                let value = secrets.get(name).or_else(|| self.values.get(name));
                value.map(String::as_bytes)
            };
            let bytes = template.bytes(of).ok()?;
            String::from_utf8(bytes.to_vec()).ok()
        };
        for (name, template) in &auth.headers {
            let given = head
                .headers
                .get(name.as_str())
                .map(hyper::header::HeaderValue::as_bytes);
            (given == text(template).as_deref().map(str::as_bytes)).then_some(())?;
        }
        if let Some((username, password)) = &auth.basic {
            let pair = format!("{}:{}", text(username)?, text(password)?);
            let wanted = format!("Basic {}", STANDARD.encode(pair));
            let given = head
                .headers
                .get(hyper::header::AUTHORIZATION)
                .map(hyper::header::HeaderValue::as_bytes);
            (given == Some(wanted.as_bytes())).then_some(())?;
        }
        let url = url::Url::parse(&format!("http://virtual{}", head.uri)).ok()?;
        let mut query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        for (key, template) in &auth.query {
            let wanted = (key.clone(), text(template)?);
            query.contains(&wanted).then_some(())?;
            query.retain(|it| it.0 != *key);
        }
        let mut body: Value = match body {
            [] => Value::Null,
            body => serde_json::from_slice(body).ok()?,
        };
        for (key, template) in &auth.body {
            let removed = body.as_object_mut().and_then(|it| it.remove(key));
            (removed == Some(json!(text(template)?))).then_some(())?;
        }
        let path = url.path().strip_prefix('/').unwrap_or_default();
        let shown = format!("{} /{path} {query:?} {body}", head.method);
        let incoming = Incoming {
            method: head.method.clone(),
            path: path.split('/').map(decoded).collect(),
            query,
            body,
        };
        Some((incoming, shown))
    }
}

fn refuse_as_down() -> Reply {
    Reply::Answer(Answer::new(503, json!("<html>out of order</html>")))
}

/// What a host that is not careful repeats in its refusal.
fn shown_of(head: &hyper::http::request::Parts) -> String {
    let headers = head.headers.iter().filter(|it| it.0 != hyper::header::HOST);
    let headers = headers.filter_map(|(_, value)| value.to_str().ok());
    let mut words: Vec<&str> = headers.filter(|it| it.contains("virtual")).collect();
    words.extend(head.uri.query());
    words.join(", ")
}

/// A segment of a path without its escapes.
fn decoded(segment: &str) -> String {
    let as_query = format!("x={}", segment.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(as_query.as_bytes());
    pairs.next().map(|it| it.1.into_owned()).unwrap_or_default()
}
