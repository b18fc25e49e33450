//! One HTTP call for all plug-ins that speak it: bounded in time and size, never redirected, in its turn, and with
//! nothing in any word that could be a secret.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use crate::clock::{Clock, between};
use crate::exchange::{self, Unreached};
use crate::meter::LONGEST_PAUSE;
use crate::secret::{Secret, SecretSource, hide};
use crate::words::printable;
use crate::{Context, ErrorKind, ProviderError, tls};

/// A connection is there after this, or not at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// No reply that is asked for is larger.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// An unused connection is closed by us before most servers do.
const IDLE: Duration = Duration::from_secs(30);
/// What a host says of a refusal is cut off here.
const LONGEST_WORD: usize = 300;
/// What we call ourselves.
const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

/// A DNS host's API.
pub struct Http {
    base: Url,
    /// What it means that there is no connection.
    unreached: ErrorKind,
    client: OnceCell<Client>,
}

/// A request.
pub struct Ask {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

/// A reply.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Vec<u8>,
}

/// Whether `base` may be an API's address: https, or http on loopback only. An error is a sentence.
pub fn judge_endpoint(base: &Url) -> Result<(), String> {
    let host = base.host_str().unwrap_or_default();
    let is_loopback = match base.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match base.scheme() {
        _ if host.is_empty() => Err("it names no host".to_owned()),
        "https" => Ok(()),
        "http" if is_loopback => Ok(()),
        "http" => Err("plain http would show the credential to everybody on the way".to_owned()),
        other => Err(format!("it begins with {other}:, wanted is https:")),
    }
}

impl Http {
    /// The API at `base`; nothing is asked before the first call.
    pub fn new(base: Url) -> Self {
        Self {
            base,
            unreached: ErrorKind::Transient,
            client: OnceCell::new(),
        }
    }

    /// A service that tells a machine who it is. Where none listens this is no such machine, and a person has to write down
    /// a credential.
    pub(crate) fn metadata(base: Url) -> Self {
        Self {
            unreached: ErrorKind::Auth,
            ..Self::new(base)
        }
    }

    /// The host and port, for sentences.
    pub fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The reply to `ask`, whatever its status. A pause that the host asks for is kept by everybody with this credential.
    pub async fn send(&self, ask: Ask, context: &Context) -> Result<Reply, ProviderError> {
        let clock = &context.clock;
        let patience = || between(clock.now(), context.deadline);
        if patience().is_zero() {
            return Err(self.late());
        }
        context.turn(&self.host()).await?;
        let started = clock.elapsed();
        let what = format!("{} /{}", ask.method, ask.path.join("/"));
        let exchanged = clock.timeout(patience(), self.exchange(ask)).await;
        let reply = exchanged.unwrap_or_else(|| Err(self.late()));
        let elapsed_ms = (clock.elapsed() - started).as_secs_f64() * 1_000.0;
        let status = reply.as_ref().ok().map(|reply| reply.status.as_u16());
        tracing::trace!(host = self.host(), what, status, elapsed_ms, "API call");
        let reply = reply?;
        if reply.status == StatusCode::TOO_MANY_REQUESTS {
            let after = reply.retry_after(clock).unwrap_or_default();
            context.meter.pause(clock, after);
        }
        Ok(reply)
    }

    async fn exchange(&self, ask: Ask) -> Result<Reply, ProviderError> {
        let client = self.client.get_or_try_init(|| async { self.connect() });
        let mut request = client
            .await?
            .request(ask.method, self.url(&ask.path, &ask.query));
        request = request.headers(ask.headers);
        if let Some(body) = ask.body {
            request = request.body(body);
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|error| self.unreached(&error.without_url()))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) =
            (response.chunk().await).map_err(|error| self.unreached(&error.without_url()))?
        {
            if body.len() + chunk.len() > MAX_BODY {
                let most = MAX_BODY >> 20;
                let message = format!("{} answered with more than {most} MiB", self.host());
                return Err(ProviderError::new(ErrorKind::Fatal, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    /// What `ask` will be sent to, for plug-ins that sign it.
    pub fn url_of(&self, ask: &Ask) -> Url {
        self.url(&ask.path, &ask.query)
    }

    /// Each segment is made fit for a path, so that none can lead elsewhere. Without one it is the base as it stands.
    pub(crate) fn url(&self, path: &[String], query: &[(String, String)]) -> Url {
        let mut url = self.base.clone();
        if !path.is_empty()
            && let Ok(mut segments) = url.path_segments_mut()
        {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn connect(&self) -> Result<Client, ProviderError> {
        let unusable = |why: String| ProviderError::new(ErrorKind::Transient, why);
        let is_plain = self.base.scheme() == "http";
        let tls = tls::client(None, is_plain).map_err(|error| unusable(error.to_string()))?;
        Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| unusable(error.to_string()))
    }

    fn late(&self) -> ProviderError {
        let message = format!("{} did not answer in time", self.host());
        ProviderError::new(ErrorKind::Transient, message)
    }

    /// Of an error without its URL, which may hold a credential.
    fn unreached(&self, error: &reqwest::Error) -> ProviderError {
        let host = self.host();
        let unreached = Unreached::of(error);
        let kind = match &unreached {
            Unreached::TooSlow | Unreached::Refused | Unreached::NoConnection(_) => self.unreached,
            _ => ErrorKind::Transient,
        };
        let message = match unreached {
            Unreached::Tls(error) => format!("no TLS with {host}: {error}"),
            Unreached::TooSlow => format!(
                "{host} accepted no connection within {} s",
                CONNECT_DEADLINE.as_secs()
            ),
            Unreached::Unresolved(why) => {
                format!("the name of {host} was not found by this machine's resolver ({why})")
            }
            Unreached::NoDescriptor => {
                format!("no connection to {host}: this process has no file descriptor left")
            }
            Unreached::Refused => format!("{host} refused the connection"),
            Unreached::NoConnection(why) => format!("no connection to {host}: {why}"),
            Unreached::BrokenOff(why) => {
                format!("the connection to {host} broke off before the whole reply had come: {why}")
            }
        };
        ProviderError::new(kind, message)
            .hint("if it goes on, look at `endpoint` and at firewalls on the way")
    }
}

impl Ask {
    /// A request to a path, segment by segment.
    pub fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// With one more pair in its query.
    pub fn query(mut self, key: &str, value: &str) -> Self {
        self.query.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With a header that anybody may see.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With all these headers beside its own.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The method, the headers and the body so far, for plug-ins that sign them.
    pub fn parts(&self) -> (&Method, &HeaderMap, &[u8]) {
        let body = self.body.as_deref().unwrap_or_default();
        (&self.method, &self.headers, body)
    }

    /// With a body of that type.
    pub fn body(self, kind: &'static str, body: Vec<u8>) -> Self {
        self.header(CONTENT_TYPE, HeaderValue::from_static(kind))
            .raw_body(body)
    }

    /// With a body whose type is among the headers, if it has one.
    pub fn raw_body(self, body: Vec<u8>) -> Self {
        let body = Some(body);
        Self { body, ..self }
    }

    /// With a header that holds a credential, e.g. `Bearer` and then the secret. What cannot stand in a header, above
    /// all a line end, is a fault of the secret.
    pub fn credential(
        self,
        name: HeaderName,
        before: &str,
        secret: &Secret,
        source: &SecretSource,
    ) -> Result<Self, ProviderError> {
        let whole = zeroize::Zeroizing::new([before.as_bytes(), secret.expose()].concat());
        let mut value = HeaderValue::from_bytes(&whole).map_err(|_| {
            let message = format!(
                "the secret in {} holds a line end or another character that no token has",
                source.describe()
            );
            ProviderError::new(ErrorKind::Auth, message).hint("write the token alone, on one line")
        })?;
        value.set_sensitive(true);
        Ok(self.header(name, value))
    }
}

impl Reply {
    /// The body as JSON of that shape; what is said of one that is not shows none of `secrets`.
    pub fn json<'s, T: DeserializeOwned>(
        &self,
        host: &str,
        secrets: impl IntoIterator<Item = &'s Secret>,
    ) -> Result<T, ProviderError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let why = said(&hide(&error.to_string(), secrets));
            let message = format!(
                "{host} answered {} with something other than it documents: {why}",
                self.status.as_u16()
            );
            ProviderError::new(ErrorKind::Fatal, message)
        })
    }

    /// How long the host wants to be left alone, within reason.
    pub fn retry_after(&self, clock: &Clock) -> Option<Duration> {
        let after = exchange::retry_after(&self.headers, clock.now());
        after.map(|after| after.min(LONGEST_PAUSE))
    }

    /// What a status means where the host's own code says nothing.
    pub fn kind(&self, clock: &Clock) -> ErrorKind {
        match self.status.as_u16() {
            401 => ErrorKind::Auth,
            403 => ErrorKind::Permission,
            404 => ErrorKind::ZoneMissing,
            409 | 412 => ErrorKind::Conflict,
            429 => ErrorKind::RateLimited {
                after: self.retry_after(clock),
            },
            400 | 405 | 413 | 415 | 422 => ErrorKind::Invalid,
            408 | 425 | 500..=599 => ErrorKind::Transient,
            _ => ErrorKind::Fatal,
        }
    }
}

/// Text of a host, fit for a sentence.
pub fn said(text: &str) -> String {
    printable(text, LONGEST_WORD)
}
