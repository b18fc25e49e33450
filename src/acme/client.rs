//! The requests of RFC 8555 to one authority, one method each. The client keeps the directory and a pool of nonces,
//! nothing of orders: what it returns is what the authority says now, and when to ask again is the engine's.
//!
//! A request is sent once. Only a refused nonce is answered by sending again, since such a request did nothing; after
//! a broken connection the caller decides, because the request may have arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::exchange::retry_after;
use countersign_providers::words::printable;
use reqwest::Method;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Mutex, Semaphore};
use tracing::debug;

use super::chain;
use super::header::{links, location, media_type, replay_nonce};
use super::jws::{self, Identity, POST_AS_GET};
use super::key::{AccountKey, ExternalAccount, KeyError};
use super::nonce::{Nonces, Turn, UnderWay};
use super::origin::Origins;
use super::payload;
use super::problem;
use super::resource::{self, AccountStatus, Directory};
use super::transport::{Ask, Reply, RequestKind, Transport, client_config};
use crate::clock::Clock;
use crate::engine::names::Identifier;
use crate::engine::order::{AuthorizationSeen, CaFault, ChallengeSeen, OrderSeen};
use crate::engine::timekeeping::Word;
use crate::measure;

/// Requests to one authority at once.
const MAX_AT_ONCE: usize = 16;
/// A directory is read again after this.
const DIRECTORY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Refused nonces are answered for this long. The RFC sets no limit; an authority in trouble recovers in less or not.
const NONCE_DEADLINE: Duration = Duration::from_secs(30);
/// From this many refusals in a row on, a short pause is made before the next answer.
const NONCE_PATIENCE: u32 = 10;
/// More alternate chains are not fetched.
const MAX_ALTERNATES: usize = 10;

const JSON: &str = "application/json";
const PEM_CHAIN: &str = "application/pem-certificate-chain";

/// How an authority is reached.
#[derive(Clone)]
pub struct Settings {
    /// The URL of its directory.
    pub directory: String,
    /// A root for its own HTTPS, in PEM, beside those of the system.
    pub trust: Option<Vec<u8>>,
    /// Whether plain http will do.
    pub insecure: bool,
    /// Hosts (`name` or `name:port`) that its URLs may be on, beside the directory's own.
    pub hosts: Vec<String>,
    /// What we call ourselves (RFC 8555 section 6.1 wants it).
    pub user_agent: String,
}

/// A client of one authority. Share it: the limits and the nonces are per client.
pub struct Client {
    directory_url: String,
    directory: Mutex<Option<Cached>>,
    origins: Origins,
    transport: Transport,
    nonces: Nonces,
    permits: Semaphore,
    random: SystemRandom,
    clock: Clock,
}

struct Cached {
    directory: Arc<Directory>,
    since: Duration,
}

/// Who signs for an account.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// Its key.
    pub key: &'a AccountKey,
    /// Its URL.
    pub kid: &'a str,
}

/// An account at the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its URL, byte for byte as given: the `kid` of later requests.
    pub url: String,
    /// Where it stands.
    pub status: AccountStatus,
}

/// A certificate chain as it came; [`chain::check`] has not seen it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The text.
    pub pem: String,
}

impl Client {
    /// Sets a client up; nothing is asked yet.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, CaFault> {
        let origins = Origins::new(&settings.directory, &settings.hosts, settings.insecure)?;
        let plain = settings.directory.starts_with("http:");
        let tls = client_config(settings.trust.as_deref(), plain)?;
        Ok(Self {
            transport: Transport::new(&settings.user_agent, tls, clock.clone())?,
            directory_url: settings.directory,
            directory: Mutex::new(None),
            origins,
            nonces: Nonces::default(),
            permits: Semaphore::new(MAX_AT_ONCE),
            random: SystemRandom::new(),
            clock,
        })
    }

    /// The directory (section 7.1.1), read again after a day, or when the authority no longer knows a URL in it.
    pub async fn directory(&self) -> Result<Arc<Directory>, CaFault> {
        // Held while it is fetched: those who come meanwhile need the same.
        let mut cached = self.directory.lock().await;
        if let Some(cached) = cached.as_ref()
            && self.clock.elapsed().saturating_sub(cached.since) < DIRECTORY_LIFETIME
        {
            return Ok(Arc::clone(&cached.directory));
        }
        let directory = Arc::new(self.fetch_directory().await?);
        *cached = Some(Cached {
            directory: Arc::clone(&directory),
            since: self.clock.elapsed(),
        });
        Ok(directory)
    }

    /// Makes an account for `key`, or finds the one that it has (section 7.3). `contact` holds mail addresses or URLs.
    pub async fn new_account(
        &self,
        key: &AccountKey,
        contact: &[String],
        agree_to_terms: bool,
        external: Option<&ExternalAccount>,
    ) -> Result<Account, CaFault> {
        let directory = self.directory().await?;
        let binding = external
            .map(|external| jws::bind(external, key, &directory.new_account))
            .transpose()
            .map_err(unsigned)?;
        let payload = payload::new_account(contact, agree_to_terms, binding);
        self.ask_account(key, &payload).await
    }

    /// The account that `key` has, or `None`; none is made (section 7.3.1).
    pub async fn find_account(&self, key: &AccountKey) -> Result<Option<Account>, CaFault> {
        match self.ask_account(key, &payload::find_account()).await {
            Ok(account) => Ok(Some(account)),
            Err(CaFault::Refused { problem, .. }) if problem.kind == "accountDoesNotExist" => {
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Orders a certificate for `names` (section 7.4). A profile that the directory does not list is not asked for.
    pub async fn new_order(
        &self,
        signer: &Signer<'_>,
        names: &[Identifier],
        profile: Option<&str>,
    ) -> Result<OrderSeen, CaFault> {
        let mut directory = self.directory().await?;
        if let Some(profile) = profile
            && offers(&directory, profile).is_err()
        {
            // It may be newer than our copy of the directory.
            *self.directory.lock().await = None;
            directory = self.directory().await?;
            offers(&directory, profile)?;
        }
        let payload = payload::new_order(names, profile);
        let url = directory.new_order.as_str();
        let reply = self
            .post(RequestKind::NewOrder, url, signer.identity(), &payload)
            .await;
        let reply = self.forget_directory_if_gone(reply).await?;
        let url = self.location(&reply, "order")?;
        Ok(self.order_in(&reply, url).unwrap_or_else(|fault| {
            // It is there, whatever it says of itself: it is looked at again rather than ordered again.
            debug!(%fault, url, "an order that cannot be read");
            OrderSeen::unread(url)
        }))
    }

    /// The order at `url` as it is now.
    pub async fn order(&self, signer: &Signer<'_>, url: &str) -> Result<OrderSeen, CaFault> {
        let reply = self.look(RequestKind::Order, signer, url).await?;
        self.order_in(&reply, url)
    }

    /// The authorization at `url` as it is now (section 7.5).
    pub async fn authorization(
        &self,
        signer: &Signer<'_>,
        url: &str,
    ) -> Result<AuthorizationSeen, CaFault> {
        let reply = self.look(RequestKind::Authorization, signer, url).await?;
        let body = self.json_body(RequestKind::Authorization, &reply)?;
        resource::authorization(body, url, self.retry_after(&reply), &self.origins)
    }

    /// Tells the authority that the challenge at `url` is ready to be looked at (section 7.5.1).
    pub async fn respond(&self, signer: &Signer<'_>, url: &str) -> Result<ChallengeSeen, CaFault> {
        let reply = self
            .post(
                RequestKind::Challenge,
                url,
                signer.identity(),
                payload::RESPONSE,
            )
            .await?;
        let body = self.json_body(RequestKind::Challenge, &reply)?;
        resource::challenge(body, &self.origins)
    }

    /// Hands `csr` (DER) in at `finalize`, the URL in the order at `order` (section 7.4).
    pub async fn finalize(
        &self,
        signer: &Signer<'_>,
        order: &str,
        finalize: &str,
        csr: &[u8],
    ) -> Result<OrderSeen, CaFault> {
        let payload = payload::finalize(csr);
        let reply = self
            .post(RequestKind::Finalize, finalize, signer.identity(), &payload)
            .await?;
        self.order_in(&reply, order)
    }

    /// The chain at `url` (section 7.4.2). With `preferred`, the common name of an issuer, alternates are fetched until
    /// one has it; if none has, the authority's own choice is taken.
    pub async fn download(
        &self,
        signer: &Signer<'_>,
        url: &str,
        preferred: Option<&str>,
    ) -> Result<Chain, CaFault> {
        let reply = self.look(RequestKind::Certificate, signer, url).await?;
        let first = chain_in(&reply)?;
        let Some(preferred) = preferred else {
            return Ok(first);
        };
        if chain::is_issued_by(&first.pem, preferred) {
            return Ok(first);
        }
        for alternate in links(&reply.headers, "alternate")
            .into_iter()
            .take(MAX_ALTERNATES)
        {
            match self.alternate(signer, alternate).await {
                Ok(chain) if chain::is_issued_by(&chain.pem, preferred) => return Ok(chain),
                Ok(_) => {}
                Err(fault) => debug!(%fault, "an alternate chain is passed over"),
            }
        }
        debug!(
            preferred,
            "no chain has the preferred issuer; the default is taken"
        );
        Ok(first)
    }

    /// What it said last of the time.
    pub fn word(&self) -> Option<Word> {
        self.transport.word()
    }

    /// Knows from a client before this one what it said of the time.
    pub fn recall(&self, word: Word) {
        self.transport.recall(word);
    }

    /// Reads the directory again, so that something is heard.
    pub async fn greet(&self) -> Result<(), CaFault> {
        let directory = Arc::new(self.fetch_directory().await?);
        *self.directory.lock().await = Some(Cached {
            directory,
            since: self.clock.elapsed(),
        });
        Ok(())
    }

    /// How many requests of each kind were sent since the client was made.
    pub fn counts(&self) -> BTreeMap<RequestKind, u64> {
        self.transport.counts()
    }

    async fn fetch_directory(&self) -> Result<Directory, CaFault> {
        let kind = RequestKind::Directory;
        let url = self.origins.directory(&self.directory_url)?;
        let reply = self.transport.exchange(get(kind, Method::GET, url)).await?;
        let reply = self
            .accepted(reply)
            .map_err(|fault| no_directory(fault, &self.directory_url))?;
        resource::directory(self.json_body(kind, &reply)?, &self.origins)
    }

    async fn ask_account(&self, key: &AccountKey, payload: &str) -> Result<Account, CaFault> {
        let directory = self.directory().await?;
        let url = directory.new_account.as_str();
        let reply = self
            .post(RequestKind::NewAccount, url, Identity::Key(key), payload)
            .await;
        let reply = self.forget_directory_if_gone(reply).await?;
        Ok(Account {
            url: self.location(&reply, "account")?.to_owned(),
            status: resource::account_status(&reply.body),
        })
    }

    async fn alternate(&self, signer: &Signer<'_>, url: &str) -> Result<Chain, CaFault> {
        chain_in(&self.look(RequestKind::Certificate, signer, url).await?)
    }

    /// A POST-as-GET (section 6.3).
    async fn look(
        &self,
        kind: RequestKind,
        signer: &Signer<'_>,
        url: &str,
    ) -> Result<Reply, CaFault> {
        self.post(kind, url, signer.identity(), POST_AS_GET).await
    }

    /// A signed request, sent again for as long as its nonce is refused.
    async fn post(
        &self,
        kind: RequestKind,
        url: &str,
        identity: Identity<'_>,
        payload: &str,
    ) -> Result<Reply, CaFault> {
        self.origins.check(kind.as_str(), url)?;
        let _permit = self.permits.acquire().await;
        let started = self.clock.elapsed();
        let mut refused = 0;
        let (mut nonce, mut under_way) = self.nonce().await?;
        loop {
            let sent = self.clock.elapsed();
            let reply = self.post_once(kind, url, identity, &nonce, payload).await?;
            let fresh = replay_nonce(&reply.headers);
            let fault = match self.accepted(reply) {
                Err(fault) if is_bad_nonce(&fault) => fault,
                outcome => {
                    if let Some(nonce) = fresh {
                        self.nonces.keep(nonce, self.clock.elapsed());
                    }
                    return outcome;
                }
            };
            self.nonces.drop_older_than(sent);
            if self.clock.elapsed().saturating_sub(started) >= NONCE_DEADLINE {
                return Err(fault);
            }
            refused += 1;
            measure::nonce_retried();
            if refused >= NONCE_PATIENCE {
                self.clock.sleep(self.pause()).await;
            }
            // The answer must use the nonce that came with the error (section 6.5).
            nonce = match fresh {
                Some(fresh) => fresh,
                None => {
                    drop(under_way);
                    let fetched = self.nonce().await?;
                    under_way = fetched.1;
                    fetched.0
                }
            };
        }
    }

    async fn post_once(
        &self,
        kind: RequestKind,
        url: &str,
        identity: Identity<'_>,
        nonce: &str,
        payload: &str,
    ) -> Result<Reply, CaFault> {
        let body = jws::sign(identity, nonce, url, payload).map_err(unsigned)?;
        self.transport
            .exchange(Ask {
                kind,
                method: Method::POST,
                url: self.origins.check(kind.as_str(), url)?,
                body: Some(payload::json(&body)),
                accept: if kind == RequestKind::Certificate {
                    PEM_CHAIN
                } else {
                    JSON
                },
            })
            .await
    }

    /// A nonce to use, and the guard that tells others that one will come back.
    async fn nonce(&self) -> Result<(String, UnderWay<'_>), CaFault> {
        // First, since others wait for whoever has the right to fetch a nonce.
        let directory = self.directory().await?;
        let mut under_way = match self.nonces.turn(&self.clock).await {
            Turn::Use(nonce, guard) => return Ok((nonce, guard)),
            Turn::Fetch(guard) => guard,
        };
        let kind = RequestKind::NewNonce;
        let url = self.origins.check("newNonce URL", &directory.new_nonce)?;
        let reply = self.transport.exchange(get(kind, Method::HEAD, url)).await;
        let reply = reply.and_then(|reply| self.accepted(reply));
        let reply = self.forget_directory_if_gone(reply).await?;
        let nonce = replay_nonce(&reply.headers).ok_or_else(|| {
            CaFault::Malformed(
                "the authority's reply to new-nonce has no usable `Replay-Nonce`".to_owned(),
            )
        })?;
        under_way.fetched();
        Ok((nonce, under_way))
    }

    /// A reply with a success status, or why there is none.
    fn accepted(&self, reply: Reply) -> Result<Reply, CaFault> {
        if reply.is_success() {
            return Ok(reply);
        }
        let problem = problem::of_reply(&reply);
        measure::problem_seen(&problem.kind);
        Err(CaFault::Refused {
            problem,
            retry_after: self.retry_after(&reply),
        })
    }

    /// What the directory says is out of date when one of its URLs is gone, or a profile.
    async fn forget_directory_if_gone(
        &self,
        reply: Result<Reply, CaFault>,
    ) -> Result<Reply, CaFault> {
        if let Err(CaFault::Refused { problem, .. }) = &reply
            && (matches!(problem.status, Some(404 | 405 | 410)) || problem.kind == "invalidProfile")
        {
            *self.directory.lock().await = None;
        }
        reply
    }

    fn order_in(&self, reply: &Reply, url: &str) -> Result<OrderSeen, CaFault> {
        let body = self.json_body(RequestKind::Order, reply)?;
        resource::order(body, url, self.retry_after(reply), &self.origins)
    }

    fn location<'r>(&self, reply: &'r Reply, what: &str) -> Result<&'r str, CaFault> {
        let url = location(&reply.headers).ok_or_else(|| {
            CaFault::Malformed(format!(
                "the authority made the {what} but gave no `Location` of it"
            ))
        })?;
        self.origins.check(&format!("{what} URL"), url)?;
        Ok(url)
    }

    fn json_body<'r>(&self, kind: RequestKind, reply: &'r Reply) -> Result<&'r [u8], CaFault> {
        body_of(reply, kind, JSON)
    }

    fn retry_after(&self, reply: &Reply) -> Option<Duration> {
        retry_after(&reply.headers, self.clock.now())
    }

    /// 50 to 200 ms.
    fn pause(&self) -> Duration {
        let mut byte = [0];
        // Without randomness the pause is the shortest; nothing depends on it.
        let _ = self.random.fill(&mut byte);
        Duration::from_millis(50 + u64::from(byte[0]) * 150 / 255)
    }
}

impl<'a> Signer<'a> {
    fn identity(&self) -> Identity<'a> {
        Identity::Account(self.key, self.kid)
    }
}

fn get(kind: RequestKind, method: Method, url: reqwest::Url) -> Ask<'static> {
    Ask {
        kind,
        method,
        url,
        body: None,
        accept: JSON,
    }
}

fn chain_in(reply: &Reply) -> Result<Chain, CaFault> {
    let body = body_of(reply, RequestKind::Certificate, PEM_CHAIN)?;
    let pem = std::str::from_utf8(body)
        .map_err(|_| CaFault::Malformed("the authority's certificate is not text".to_owned()))?;
    Ok(Chain {
        pem: pem.to_owned(),
    })
}

/// The whole body, if it is of the media type wanted.
fn body_of<'r>(reply: &'r Reply, kind: RequestKind, wanted: &str) -> Result<&'r [u8], CaFault> {
    let malformed =
        |what: String| CaFault::Malformed(format!("the authority's reply to {kind} {what}"));
    if reply.oversized {
        return Err(malformed("is larger than 1 MiB".to_owned()));
    }
    let media = media_type(&reply.headers);
    if media.as_deref() != Some(wanted) {
        let seen = media.unwrap_or_else(|| "of no stated type".to_owned());
        return Err(malformed(format!(
            "is {} instead of {wanted}",
            printable(&seen, 80)
        )));
    }
    Ok(&reply.body)
}

fn is_bad_nonce(fault: &CaFault) -> bool {
    matches!(fault, CaFault::Refused { problem, .. } if problem.kind == "badNonce")
}

fn offers(directory: &Directory, profile: &str) -> Result<(), CaFault> {
    if directory.profiles.contains_key(profile) {
        return Ok(());
    }
    let offered: Vec<_> = directory.profiles.keys().map(String::as_str).collect();
    let offered = if offered.is_empty() {
        "no profiles at all".to_owned()
    } else {
        offered.join(", ")
    };
    Err(CaFault::Refused {
        problem: problem::own(
            "invalidProfile",
            format!("the profile `{profile}` is not offered; the authority offers {offered}"),
        ),
        retry_after: None,
    })
}

/// A refusal that is no problem document says at least where the directory should have been.
fn no_directory(mut fault: CaFault, url: &str) -> CaFault {
    if let CaFault::Refused { problem, .. } = &mut fault
        && problem.kind.is_empty()
    {
        problem.detail = format!("no directory at {url} but {}", problem.detail);
    }
    fault
}

fn unsigned(error: KeyError) -> CaFault {
    CaFault::Unreachable(format!("the request could not be signed: {error}"))
}
