//! A fake REST server for DNS hosts. What each host's API is like is written down in a file of its own, from the
//! host's documentation; here is only what they share: records, counters, and HTTP.

mod bunny;
mod desec;
mod digitalocean;
mod dnsimple;
mod gandi;
mod hetzner;
mod ionos;
mod linode;
mod own;
mod porkbun;
mod scaleway;
mod vultr;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What every fake takes for the right credential.
pub const TOKEN: &str = "good";

/// An API as its documentation has it.
pub trait Vendor: Send + Sync {
    /// The path before that of every route.
    fn base(&self) -> &'static str;
    /// The reply to a request.
    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer;
    /// What it documents for a refusal that has no cause in what is stored.
    fn refusal(&self, why: Refusal) -> Answer;
    /// What it makes of a TTL that it is given.
    fn ttl(&self, wanted: u32) -> u32 {
        wanted
    }
}

/// A refusal that a test asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The credential is good and may not do this.
    Permission,
    /// Too many requests.
    RateLimited,
    /// The record is not one that it takes.
    Invalid,
}

/// Every vendor by the name of its manifest; PowerDNS is there itself.
pub fn vendor(name: &str) -> Arc<dyn Vendor> {
    match name {
        "bunny" => Arc::new(bunny::Bunny),
        "desec" => Arc::new(desec::Desec),
        "digitalocean" => Arc::new(digitalocean::DigitalOcean),
        "dnsimple" => Arc::new(dnsimple::Dnsimple),
        "gandi" => Arc::new(gandi::Gandi),
        "hetzner" => Arc::new(hetzner::Hetzner),
        "ionos" => Arc::new(ionos::Ionos),
        "linode" => Arc::new(linode::Linode),
        "own" => Arc::new(own::Own),
        "porkbun" => Arc::new(porkbun::Porkbun),
        "scaleway" => Arc::new(scaleway::Scaleway),
        "vultr" => Arc::new(vultr::Vultr),
        other => panic!("no fake of {other}"),
    }
}

/// A request.
#[derive(Debug)]
pub struct Ask {
    /// `GET`, …
    pub method: String,
    /// The decoded segments after the base.
    pub path: Vec<String>,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as JSON; null where there is none, or another kind.
    pub body: Value,
    /// The body as it is.
    pub text: String,
    /// `http://host:port` and the base.
    pub endpoint: String,
    /// What was asked for, as it was written.
    pub url: String,
}

impl Ask {
    /// Method and path, to match on.
    pub fn route(&self) -> (&str, Vec<&str>) {
        let path = self.path.iter().map(String::as_str).collect();
        (&self.method, path)
    }

    /// A parameter of the query.
    pub fn query(&self, key: &str) -> Option<&str> {
        let mut found = self.query.iter().filter(|it| it.0 == key);
        found.next().map(|it| it.1.as_str())
    }

    /// A parameter that is a number.
    pub fn number(&self, key: &str, default: usize) -> usize {
        self.query(key)
            .map_or(default, |it| it.parse().unwrap_or(default))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|it| it.0 == name);
        found.map(|it| it.1.as_str())
    }

    /// Whether it has `Authorization: Bearer` with the right token.
    pub fn has_bearer(&self) -> bool {
        self.header("authorization") == Some(&format!("Bearer {TOKEN}"))
    }
}

/// A reply.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body; null for none.
    pub body: Value,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// With this header too.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A reply with a JSON body.
pub fn answer(status: u16, body: Value) -> Answer {
    Answer {
        status,
        body,
        headers: Vec::new(),
    }
}

/// A record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Unique at the host.
    pub id: u64,
    /// The apex of its zone.
    pub zone: String,
    /// The owner in full.
    pub name: String,
    /// `TXT`, …
    pub kind: String,
    /// The value itself, without quotes.
    pub value: String,
    /// In seconds.
    pub ttl: u32,
}

/// What a host has.
#[derive(Default)]
pub struct Store {
    zones: Vec<(u64, String)>,
    records: Vec<Record>,
    last: u64,
    /// How many requests there were.
    pub calls: usize,
    /// Requests that the documentation knows nothing of.
    pub undocumented: Vec<String>,
    refuses: Option<Refusal>,
    /// Accepted changes that were asked about so many times.
    pub polls: Vec<(u64, u32)>,
}

impl Store {
    fn id(&mut self) -> u64 {
        // Ids of different hosts and things do not look alike.
        self.last += 7;
        4000 + self.last
    }

    /// The next id for something that is no record.
    pub fn next_id(&mut self) -> u64 {
        self.id()
    }

    /// All zones with their ids.
    pub fn zones(&self) -> &[(u64, String)] {
        &self.zones
    }

    /// The zone of this name.
    pub fn zone(&self, name: &str) -> Option<String> {
        let mut found = self.zones.iter().filter(|it| it.1 == name);
        found.next().map(|it| it.1.clone())
    }

    /// The name of the zone with this id.
    pub fn zone_of(&self, id: &str) -> Option<String> {
        let mut found = self.zones.iter().filter(|it| it.0.to_string() == id);
        found.next().map(|it| it.1.clone())
    }

    /// The records of a zone.
    pub fn of(&self, zone: &str) -> Vec<Record> {
        let found = self.records.iter().filter(|it| it.zone == zone);
        found.cloned().collect()
    }

    /// The TXT records at a name.
    pub fn txt(&self, name: &str) -> Vec<Record> {
        let found = self.records.iter();
        let found = found.filter(|it| it.name == name && it.kind == "TXT");
        found.cloned().collect()
    }

    /// The names with TXT records in a zone, each once.
    pub fn txt_names(&self, zone: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .of(zone)
            .into_iter()
            .filter(|it| it.kind == "TXT")
            .map(|it| it.name)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Adds a TXT record.
    pub fn add(&mut self, zone: &str, name: &str, value: &str, ttl: u32) -> Record {
        let record = Record {
            id: self.id(),
            zone: zone.to_owned(),
            name: name.to_owned(),
            kind: "TXT".to_owned(),
            value: value.to_owned(),
            ttl,
        };
        self.records.push(record.clone());
        record
    }

    /// Removes a record of a zone; whether it was there.
    pub fn remove(&mut self, zone: &str, id: &str) -> bool {
        let before = self.records.len();
        self.records
            .retain(|it| it.zone != zone || it.id.to_string() != id);
        self.records.len() < before
    }

    /// Replaces the TXT set of a name.
    pub fn replace(&mut self, zone: &str, name: &str, values: &[String], ttl: u32) {
        self.records
            .retain(|it| it.name != name || it.kind != "TXT");
        for value in values {
            self.add(zone, name, value, ttl);
        }
    }
}

/// `name` relative to `zone`.
pub fn relative<'n>(name: &'n str, zone: &str, apex: &'n str) -> &'n str {
    match name.strip_suffix(zone) {
        Some("") => apex,
        Some(front) => front.trim_end_matches('.'),
        None => panic!("{name} is not in {zone}"),
    }
}

/// The full name of a relative one.
pub fn absolute(label: &str, zone: &str) -> String {
    match label {
        "" | "@" => zone.to_owned(),
        label => format!("{label}.{zone}"),
    }
}

/// `value` as one character-string in quotes.
pub fn quote(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The value of character-strings in quotes; `None` if it is none.
pub fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            // The next string follows.
            '"' if chars.as_str().starts_with(" \"") => drop(chars.nth(1)),
            '"' => return None,
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
    Some(value)
}

/// One page of `items`, and how many there are; pages count from 1.
pub fn page(items: Vec<Value>, page: usize, size: usize) -> (Vec<Value>, usize) {
    let pages = items.len().div_ceil(size).max(1);
    let items = items.into_iter().skip((page - 1) * size).take(size);
    (items.collect(), pages)
}

/// A running fake; it ends with the runtime.
pub struct Fake {
    raw: Raw,
    vendor: Arc<dyn Vendor>,
    store: Arc<Mutex<Store>>,
}

impl Fake {
    /// Starts the fake of `vendor` with some zones.
    pub async fn start(name: &str, zones: &[&str]) -> Self {
        let vendor = vendor(name);
        let mut store = Store::default();
        for zone in zones {
            let id = store.id();
            store.zones.push((id, (*zone).to_owned()));
            // What other records there are is nobody's business here.
            let id = store.id();
            store.records.push(Record {
                id,
                zone: (*zone).to_owned(),
                name: format!("www.{zone}"),
                kind: "A".to_owned(),
                value: "192.0.2.1".to_owned(),
                ttl: 3600,
            });
        }
        let store = Arc::new(Mutex::new(store));
        let (answers, stored) = (Arc::clone(&vendor), Arc::clone(&store));
        let raw = Raw::start(vendor.base(), move |ask| {
            let mut store = stored.lock().expect("nothing panics with it");
            store.calls += 1;
            match store.refuses.filter(|_| changes(ask)) {
                Some(why) => answers.refusal(why),
                None => answers.answer(ask, &mut store),
            }
        });
        Self {
            raw: raw.await,
            vendor,
            store,
        }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &str {
        self.raw.endpoint()
    }

    /// What it has.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nothing panics with it")
    }

    /// From now on every request that changes something is refused so, or none.
    pub fn refuse(&self, why: Option<Refusal>) {
        self.store().refuses = why;
    }

    /// What the world sees at a name: values and TTL. All records of a set have one TTL, or somebody was careless.
    pub fn served(&self, name: &str) -> (Vec<String>, Option<u32>) {
        let records = self.store().txt(name);
        let ttl = records.first().map(|it| it.ttl);
        assert!(
            records.iter().all(|it| Some(it.ttl) == ttl),
            "several TTLs in {records:?}"
        );
        (records.into_iter().map(|it| it.value).collect(), ttl)
    }

    /// Adds a TXT record as somebody else would.
    pub fn add(&self, zone: &str, name: &str, value: &str, ttl: u32) {
        let ttl = self.vendor.ttl(ttl);
        let mut store = self.store();
        store.add(zone, name, value, ttl);
        let there = store.records.iter_mut();
        let there = there.filter(|it| it.name == name && it.kind == "TXT");
        there.for_each(|it| it.ttl = ttl);
    }

    /// What the host makes of a TTL.
    pub fn ttl(&self, wanted: u32) -> u32 {
        self.vendor.ttl(wanted)
    }
}

type Answers = dyn Fn(&Ask) -> Answer + Send + Sync;

/// A running HTTP server that answers as it is told.
pub struct Raw {
    endpoint: String,
    shared: Arc<Shared>,
}

struct Shared {
    base: &'static str,
    endpoint: String,
    answers: Box<Answers>,
    /// Said instead, whatever is asked.
    said: Mutex<Option<(u16, String)>>,
    calls: Mutex<Vec<String>>,
}

impl Raw {
    /// Starts one whose paths begin with `base`.
    pub async fn start(
        base: &'static str,
        answers: impl Fn(&Ask) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let at = listener.local_addr().expect("bound above");
        let endpoint = format!("http://{at}{base}");
        let shared = Arc::new(Shared {
            base,
            endpoint: endpoint.clone(),
            answers: Box::new(answers),
            said: Mutex::default(),
            calls: Mutex::default(),
        });
        let all = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&all);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(shared.serve(request).await) }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // An error is a client that went away.
                tokio::spawn(connection);
            }
        });
        Self { endpoint, shared }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its address and port.
    pub fn host(&self) -> String {
        let rest = self.endpoint.trim_start_matches("http://");
        rest.split('/').next().unwrap_or_default().to_owned()
    }

    /// From now on it says this, whatever it is asked.
    pub fn say(&self, status: u16, body: &str) {
        let mut said = self.shared.said.lock().expect("nothing panics with it");
        *said = Some((status, body.to_owned()));
    }

    /// Every request: method, path and query.
    pub fn calls(&self) -> Vec<String> {
        let calls = self.shared.calls.lock().expect("nothing panics with it");
        calls.clone()
    }
}

impl Shared {
    async fn serve(&self, request: hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a whole request").to_bytes();
        let call = format!("{} {}", head.method, head.uri);
        self.calls
            .lock()
            .expect("nothing panics with it")
            .push(call);
        let said = self.said.lock().expect("nothing panics with it").clone();
        if let Some((status, body)) = said {
            let response = hyper::Response::builder().status(status);
            return response
                .body(Full::new(Bytes::from(body)))
                .expect("a response");
        }
        let url = url::Url::parse(&format!("http://fake{}", head.uri)).expect("a URL");
        let path = url.path().strip_prefix(self.base).unwrap_or_default();
        let pairs = url.query_pairs();
        let headers = head.headers.iter();
        let ask = Ask {
            method: head.method.to_string(),
            path: path
                .trim_start_matches('/')
                .split('/')
                .map(decoded)
                .collect(),
            query: pairs
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
            headers: headers
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            text: String::from_utf8_lossy(&body).into_owned(),
            url: format!("{}{}", self.endpoint.trim_end_matches(self.base), head.uri),
            endpoint: self.endpoint.clone(),
        };
        let answer = (self.answers)(&ask);
        let mut response = hyper::Response::builder().status(answer.status);
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        let body = match answer.body {
            Value::Null => String::new(),
            // What is no JSON document stands for itself.
            Value::String(text) => text,
            body => body.to_string(),
        };
        response
            .body(Full::new(Bytes::from(body)))
            .expect("a response")
    }
}

/// Whether a request changes something; at a host that only knows POST, by what it is called.
fn changes(ask: &Ask) -> bool {
    ask.method != "GET"
        && !ask
            .path
            .iter()
            .any(|it| matches!(it.as_str(), "retrieve" | "listAll"))
}

fn decoded(segment: &str) -> String {
    let as_query = format!("x={}", segment.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(as_query.as_bytes());
    pairs.next().map(|it| it.1.into_owned()).unwrap_or_default()
}

/// The answer to what no documentation has; tests look that there was none.
pub fn undocumented(ask: &Ask, store: &mut Store) -> Answer {
    store.undocumented.push(format!(
        "{} /{} {:?} {}",
        ask.method,
        ask.path.join("/"),
        ask.query,
        ask.body
    ));
    answer(405, json!({"message": "no such route"}))
}
