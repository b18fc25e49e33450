//! One HTTP exchange with an authority: bounded in time and size, never redirected, counted, and with faults in words.
//! It knows nothing of nonces or signatures.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use countersign_providers::exchange::Unreached;
use countersign_providers::tls::{self, TlsError};
use countersign_providers::words::{chain, printable};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Url, redirect};
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::UnixTime;
use tracing::trace;

use super::header;
use crate::clock::Clock;
use crate::engine::order::CaFault;
use crate::engine::timekeeping::Word;
use crate::measure;

/// A connection is there after this, or not at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A whole exchange, reply read, takes at most this.
pub(super) const EXCHANGE_DEADLINE: Duration = Duration::from_secs(30);
/// No reply of an authority is larger.
const MAX_BODY: usize = 1024 * 1024;
/// An unused connection is closed by us before most servers do, so that no request meets a closing one.
const IDLE: Duration = Duration::from_secs(30);
/// A problem's type in a log is cut off here.
const LONGEST_TYPE: usize = 100;
/// What signed requests are (RFC 8555 section 6.2).
const JOSE: &str = "application/jose+json";

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// The directory itself.
    Directory,
    /// A nonce alone.
    NewNonce,
    /// An account made or looked up.
    NewAccount,
    /// An order made.
    NewOrder,
    /// An order looked at.
    Order,
    /// An authorization looked at.
    Authorization,
    /// A challenge responded to.
    Challenge,
    /// A CSR handed in.
    Finalize,
    /// A chain fetched.
    Certificate,
}

impl RequestKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Directory,
        Self::NewNonce,
        Self::NewAccount,
        Self::NewOrder,
        Self::Order,
        Self::Authorization,
        Self::Challenge,
        Self::Finalize,
        Self::Certificate,
    ];

    /// The kind in one word, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::NewNonce => "new-nonce",
            Self::NewAccount => "new-account",
            Self::NewOrder => "new-order",
            Self::Order => "order",
            Self::Authorization => "authorization",
            Self::Challenge => "challenge",
            Self::Finalize => "finalize",
            Self::Certificate => "certificate",
        }
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reply, its body read.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The body was longer than is read, and was left unread from there.
    pub(super) oversized: bool,
}

impl Reply {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The type of the problem that it states, for logs.
    fn problem(&self) -> Option<String> {
        if self.status < 400 {
            return None;
        }
        #[derive(serde::Deserialize)]
        struct Stated {
            r#type: String,
        }
        let stated: Stated = serde_json::from_slice(&self.body).ok()?;
        Some(printable(&stated.r#type, LONGEST_TYPE))
    }
}

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) kind: RequestKind,
    pub(super) method: Method,
    pub(super) url: Url,
    /// A signed body.
    pub(super) body: Option<String>,
    /// The media type wanted.
    pub(super) accept: &'a str,
}

/// The HTTP side of a client.
pub(super) struct Transport {
    http: reqwest::Client,
    clock: Clock,
    counts: [AtomicU64; RequestKind::ALL.len()],
    word: Mutex<Option<Word>>,
}

impl Transport {
    pub(super) fn new(user_agent: &str, tls: ClientConfig, clock: Clock) -> Result<Self, CaFault> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(user_agent)
            // An ACME URL is signed, so the reply must come from there.
            .redirect(redirect::Policy::none())
            // The environment of a daemon is not where its routes are configured; a proxy would be a setting.
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| {
                CaFault::Unreachable(format!(
                    "the HTTP client cannot be set up: {}",
                    chain(&error)
                ))
            })?;
        Ok(Self {
            http,
            clock,
            counts: Default::default(),
            word: Mutex::default(),
        })
    }

    /// Asks once. Any status is a reply.
    pub(super) async fn exchange(&self, ask: Ask<'_>) -> Result<Reply, CaFault> {
        let kind = ask.kind;
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        let host = host_of(&ask.url);
        let started = self.clock.elapsed();
        trace!(kind = kind.as_str(), method = %ask.method, url = %ask.url, "ca request");
        let outcome = self
            .clock
            .timeout(EXCHANGE_DEADLINE, self.send_and_read(ask))
            .await
            .unwrap_or_else(|| {
                let seconds = EXCHANGE_DEADLINE.as_secs();
                Err(CaFault::Unreachable(format!(
                    "{host} gave no complete answer to {kind} within {seconds} s"
                )))
            });
        let took = self.clock.elapsed() - started;
        let elapsed_ms = took.as_secs_f64() * 1_000.0;
        if let Ok(reply) = &outcome {
            self.hear(header::date(&reply.headers));
        }
        let kind = kind.as_str();
        // A URL is asked only where it stands on a host that the configuration names.
        let status = outcome.as_ref().map(|reply| reply.status);
        measure::authority_asked(&host, kind, status, took);
        match &outcome {
            Ok(reply) => {
                trace!(
                    kind,
                    status = reply.status,
                    elapsed_ms,
                    problem = reply.problem(),
                    "ca reply"
                );
            }
            Err(fault) => trace!(kind, %fault, elapsed_ms, "ca reply"),
        }
        outcome
    }

    /// How many requests of each kind were sent.
    pub(super) fn counts(&self) -> BTreeMap<RequestKind, u64> {
        RequestKind::ALL
            .into_iter()
            .map(|kind| (kind, self.counts[kind as usize].load(Ordering::Relaxed)))
            .collect()
    }

    fn hear(&self, theirs: Option<Timestamp>) {
        // A reply that does not say what the time is takes back nothing.
        if let Some(theirs) = theirs {
            let word = Word {
                theirs,
                ours: self.clock.now(),
                passed: self.clock.elapsed(),
            };
            self.recall(word);
        }
    }

    /// Takes `word` for the last one.
    pub(super) fn recall(&self, word: Word) {
        *self.word.lock().unwrap_or_else(PoisonError::into_inner) = Some(word);
    }

    /// What the last reply that told the time said of it.
    pub(super) fn word(&self) -> Option<Word> {
        *self.word.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_and_read(&self, ask: Ask<'_>) -> Result<Reply, CaFault> {
        let host = host_of(&ask.url);
        let mut request = self
            .http
            .request(ask.method, ask.url)
            .header(ACCEPT, ask.accept);
        if let Some(body) = ask.body {
            request = request.header(CONTENT_TYPE, JOSE).body(body);
        }
        let mut response = request.send().await.map_err(|error| fault(&host, &error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        let mut oversized = false;
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| fault(&host, &error))?
        {
            if body.len() + chunk.len() > MAX_BODY {
                oversized = true;
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status,
            headers,
            body,
            oversized,
        })
    }
}

/// TLS with the system's roots and the authority's own. No roots at all is an error, unless it is asked over plain http.
pub(super) fn client_config(trust: Option<&[u8]>, plain: bool) -> Result<ClientConfig, CaFault> {
    tls::client(trust, plain).map_err(|error| {
        CaFault::Untrusted(match error {
            TlsError::NoRoots(_) => {
                format!("{error}, or give the authority's root as `trust:`")
            }
            TlsError::BadTrust(what) => format!(
                "the file given as `trust:` {what}; put the root of the authority's own HTTPS there"
            ),
            TlsError::Setup(_) => error.to_string(),
        })
    })
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

/// Why there was no reply: the root cause in words.
fn fault(host: &str, error: &reqwest::Error) -> CaFault {
    match Unreached::of(error) {
        Unreached::Tls(error) => tls_fault(host, &error),
        Unreached::TooSlow => {
            let seconds = CONNECT_DEADLINE.as_secs();
            CaFault::Unreachable(format!(
                "{host} accepted no connection within {seconds} s; if it goes on, look at firewalls on the way, and at host and port in the `directory` URL"
            ))
        }
        Unreached::Unresolved(why) => CaFault::Unresolved(format!(
            "the name of {host} was not found by this machine's resolver ({why}); check the host in the `directory` URL, and this machine's DNS"
        )),
        Unreached::NoDescriptor => CaFault::Unreachable(format!(
            "no connection to {host}: this process has no file descriptor left; raise LimitNOFILE= or `ulimit -n`"
        )),
        Unreached::Refused => CaFault::Unreachable(format!(
            "{host} refused the connection: nothing listens there, or a firewall says no; if it goes on, check host and port in the `directory` URL"
        )),
        Unreached::NoConnection(why) => {
            CaFault::Unreachable(format!("no connection to {host}: {why}"))
        }
        Unreached::BrokenOff(why) => CaFault::Unreachable(format!(
            "the connection to {host} broke off before the whole reply had come: {why}"
        )),
    }
}

fn tls_fault(host: &str, error: &rustls::Error) -> CaFault {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return CaFault::Unreachable(format!("no TLS with {host}: {error}"));
    };
    let why = match certificate {
        CertificateError::UnknownIssuer => {
            "its issuer is not known to this machine; for a private authority give its root as `trust:`".to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "it expired {}; the authority must renew it, or this machine's clock is wrong",
            day(not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "it is valid only from {}; set this machine's clock",
            day(not_before)
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "it is for {}, not for {}; check the host in the `directory` URL",
            names_shown(presented),
            expected.to_str()
        ),
        // webpki's word for a self-signed CA certificate that a server shows as its own.
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "the server shows a CA certificate as its own; give the server a certificate issued by that CA, and the CA's as `trust:`".to_owned()
        }
        other => format!("{other}; if the authority is private, check its `trust:`"),
    };
    CaFault::Untrusted(format!("the certificate of {host} is not trusted: {why}"))
}

fn day(time: &UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| "at an unknown time".to_owned(), |at| at.to_string())
}

/// webpki names what a certificate is for as `DnsName("example.com")`.
fn names_shown(presented: &[String]) -> String {
    let bare = |name: &String| match name.split_once("(\"") {
        Some((_, rest)) => rest.trim_end_matches("\")").to_owned(),
        None => name.clone(),
    };
    let names: Vec<_> = presented.iter().map(bare).collect();
    match names.as_slice() {
        [] => "no name at all".to_owned(),
        names => printable(&names.join(", "), 200),
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::ServerName;

    use super::*;

    fn said(error: CertificateError) -> String {
        let fault = tls_fault("ca.example:443", &rustls::Error::InvalidCertificate(error));
        assert!(matches!(fault, CaFault::Untrusted(_)));
        let text = fault.to_string();
        let start = "the certificate of ca.example:443 is not trusted: ";
        text.strip_prefix(start).unwrap().to_owned()
    }

    #[test]
    fn each_fault_of_a_certificate_has_its_own_words() {
        let second = |number| UnixTime::since_unix_epoch(Duration::from_secs(number));
        assert_eq!(
            said(CertificateError::UnknownIssuer),
            "its issuer is not known to this machine; for a private authority give its root as `trust:`"
        );
        assert_eq!(
            said(CertificateError::ExpiredContext {
                time: second(20),
                not_after: second(10),
            }),
            "it expired 1970-01-01T00:00:10Z; the authority must renew it, or this machine's clock is wrong"
        );
        assert_eq!(
            said(CertificateError::NotValidYetContext {
                time: second(10),
                not_before: second(20),
            }),
            "it is valid only from 1970-01-01T00:00:20Z; set this machine's clock"
        );
        assert_eq!(
            said(CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("ca.example").unwrap(),
                presented: vec![
                    "DnsName(\"other.example\")".into(),
                    "DnsName(\"x.example\")".into()
                ],
            }),
            "it is for other.example, x.example, not for ca.example; check the host in the `directory` URL"
        );
        assert_eq!(
            said(CertificateError::BadSignature),
            "BadSignature; if the authority is private, check its `trust:`"
        );
    }
}
