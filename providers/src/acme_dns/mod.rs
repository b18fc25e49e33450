//! acme-dns (<https://github.com/joohoi/acme-dns>): a nameserver for challenge values and nothing else, which CNAMEs lead
//! to. An account there is good for one name.
//!
//! Nothing is registered here: the accounts are those that another client got. The server keeps the two newest values
//! of a name and cannot take one away, so that a value that is to be gone stays until two newer ones push it out. One
//! that is written twice takes both places.

mod accounts;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderName;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;

use accounts::Account;

use crate::clock::Clock;
use crate::http::{Ask, Http, Reply, said};
use crate::record::{Change, DnsName, RrSet, Verb, Zone};
use crate::secret::{SecretSource, hide};
use crate::{Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Traits};

/// How many values the server keeps at a name.
const SLOTS: usize = 2;
/// One call is one value; more than the room at a name is never wanted at once.
const BATCH: usize = 2 * SLOTS;
/// The server answers from what it was just told.
const PROPAGATION: Duration = Duration::from_secs(10);
const USER: HeaderName = HeaderName::from_static("x-api-user");
const KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What to do about a file of accounts.
const HINT: &str = "correct `accounts` in the configuration, or the file that it names";

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the API is.
    pub url: Url,
    /// Where the accounts are.
    pub accounts: SecretSource,
}

impl Settings {
    /// Whether there are accounts of this server. An error is a sentence.
    pub async fn judge(&self, clock: &Clock) -> Result<(), String> {
        let accounts = self.read(clock).await?;
        if accounts.is_empty() {
            let from = self.accounts.describe();
            return Err(format!("{from} has no account of {}", self.url));
        }
        Ok(())
    }

    /// Where the CNAME of each challenge is to point to, by the domain that an account was registered for. An error is a
    /// sentence.
    pub async fn targets(&self, clock: &Clock) -> Result<BTreeMap<DnsName, DnsName>, String> {
        let mut targets = BTreeMap::new();
        for account in self.read(clock).await? {
            let domains = account.domains.iter();
            let domains = domains.filter_map(|it| DnsName::parse(it).ok());
            targets.extend(domains.map(|domain| (domain, account.name.clone())));
        }
        Ok(targets)
    }

    async fn read(&self, clock: &Clock) -> Result<Vec<Account>, String> {
        let text = self.accounts.read(clock).await;
        let text = text.map_err(|error| error.to_string())?;
        let text = text.expose_text().map_err(|error| error.to_string())?;
        let parsed = accounts::parse(text, &self.url);
        parsed.map_err(|what| format!("{} {what}", self.accounts.describe()))
    }
}

/// An acme-dns server.
pub struct AcmeDns {
    settings: Settings,
    http: Http,
}

/// What the server says to a new value.
#[derive(Deserialize)]
struct Updated {
    txt: String,
}

/// What it says when it refuses one.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl AcmeDns {
    /// The server of these settings; nothing is asked before the first call.
    pub fn new(settings: Settings) -> Self {
        Self {
            http: Http::new(settings.url.clone()),
            settings,
        }
    }

    async fn accounts(&self, context: &Context) -> Result<Vec<Account>, ProviderError> {
        let accounts = self.settings.read(&context.clock).await;
        accounts.map_err(|why| {
            let message = format!("the accounts of {} cannot be had: {why}", self.http.host());
            ProviderError::new(ErrorKind::Auth, message).hint(HINT)
        })
    }

    async fn update(
        &self,
        account: &Account,
        value: &str,
        context: &Context,
    ) -> Result<(), ProviderError> {
        let source = &self.settings.accounts;
        let body = json!({"subdomain": account.subdomain, "txt": value});
        let ask = Ask::new(Method::POST, &["update"])
            .body("application/json", body.to_string().into_bytes())
            .credential(USER, "", &account.username, source)?
            .credential(KEY, "", &account.password, source)?;
        let sent = self.http.send(ask, context).await;
        let reply = sent.map_err(|error| match error.hint {
            Some(_) => error.hint("if it goes on, look at `url` and at firewalls on the way"),
            None => error,
        })?;
        if reply.status != StatusCode::OK {
            return Err(self.refusal(&reply, account, context));
        }
        let host = self.http.host();
        let updated: Updated = reply.json(&host, [&account.username, &account.password])?;
        if updated.txt != value {
            let name = &account.name;
            let message = format!("{host} took another value for {name} than it was given");
            return Err(ProviderError::new(ErrorKind::Fatal, message));
        }
        Ok(())
    }

    fn refusal(&self, reply: &Reply, account: &Account, context: &Context) -> ProviderError {
        let status = reply.status;
        // The server may say anything, also what it was told.
        let said = |words: &str| said(&hide(words, [&account.username, &account.password]));
        let (code, words) = match serde_json::from_slice::<Refused>(&reply.body) {
            Ok(refused) => (said(&refused.error), said(&refused.error)),
            Err(_) => {
                let words = said(&String::from_utf8_lossy(&reply.body));
                (status.as_u16().to_string(), words)
            }
        };
        let message = format!(
            "{} answers /update of {} with {} {words}",
            self.http.host(),
            account.name,
            status.as_u16()
        );
        let message = message.trim_end().to_owned();
        let (kind, hint) = match status {
            // An account is one of many and not the credential of the host: the others stay good.
            StatusCode::UNAUTHORIZED => (
                ErrorKind::Permission,
                Some(
                    "compare its account with what the server gave, and see whether its `allowfrom` has this machine's address",
                ),
            ),
            StatusCode::NOT_FOUND => (
                ErrorKind::Invalid,
                Some("correct `url` in the configuration: it is what stands before /update"),
            ),
            _ => (reply.kind(&context.clock), None),
        };
        let error = ProviderError::new(kind, message).code(code);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[async_trait]
impl Provider for AcmeDns {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::Slots(SLOTS),
            batch: BATCH,
            rate: None,
            propagation: PROPAGATION,
        }
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        let accounts = self.accounts(context).await?;
        let held = accounts.into_iter().filter(|it| it.name == *name);
        let held = held.map(|account| Zone {
            id: account.name.to_string(),
            name: account.name,
        });
        Ok(held.map(Held::from).collect())
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        _: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let message = format!("{} cannot say what is at {}", self.http.host(), zone.name);
        Err(ProviderError::new(ErrorKind::Unsupported, message))
    }

    async fn apply(
        &self,
        _: &Zone,
        changes: &[Change],
        _: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        let new = changes.iter().filter(|it| it.verb == Verb::Ensure);
        let new: Vec<&Change> = new.collect();
        if new.is_empty() {
            return Ok(Receipt::default());
        }
        let accounts = self.accounts(context).await?;
        for (nth, change) in new.into_iter().enumerate() {
            let partly = |error: ProviderError| if nth > 0 { error.partly() } else { error };
            let account = accounts.iter().find(|it| it.name == change.name);
            let account = account.ok_or_else(|| {
                let from = self.settings.accounts.describe();
                let message = format!("{from} has no account for {}", change.name);
                partly(ProviderError::new(ErrorKind::ZoneMissing, message).hint(HINT))
            })?;
            let updated = self.update(account, &change.value, context).await;
            updated.map_err(partly)?;
        }
        Ok(Receipt::default())
    }
}
