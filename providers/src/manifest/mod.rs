//! A DNS host by its manifest: one YAML file that says how the host's REST API lists, adds and removes TXT records.
//! The form is in `providers/MANIFEST.md`; the manifests of well-known hosts are built in ([`shipped`]).
//!
//! A manifest is data. It can fill in requests and find things in replies, and nothing else: it has no conditions, and
//! nothing that comes from a name, a value or a reply can change the shape of a request, its host or its path.

mod check;
mod check_parts;
mod form;
pub mod mirror;
mod mistakes;
mod paging;
mod plan;
mod pointer;
mod records;
mod refusal;
mod session;
mod set;
pub mod shipped;
mod template;
mod txt;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use url::Url;

use crate::clock::between;
use crate::http::Http;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::secret::SecretSource;
use crate::{
    Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Settled, Traits,
};

pub use plan::Manifest;
use session::{Answer, Session};
use template::Values;

/// A manifest and what the configuration adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Where the API is.
    pub endpoint: Url,
    /// What the manifest's settings are.
    pub values: BTreeMap<String, String>,
    /// Where its secrets are.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// Why a manifest cannot be used: a sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The line in its file, where that is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What could be done.
    pub hint: Option<String>,
}

impl ManifestError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            line: None,
            message: message.into(),
            hint: None,
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// The names of the secrets that the configuration gives.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// The names of the settings that the configuration may give, with their defaults.
    pub fn settings(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let settings = self.settings.iter();
        settings.map(|(name, (_, default))| (name.as_str(), default.as_deref()))
    }

    /// What a secret or a setting is, for a person.
    pub fn about(&self, name: &str) -> &str {
        let setting = self.settings.get(name).map(|it| &it.0);
        setting
            .or(self.secrets.get(name))
            .map_or("", String::as_str)
    }

    /// Where the API is, unless each user has another.
    pub fn endpoint(&self) -> Option<&Url> {
        self.endpoint.as_ref()
    }
}

/// The plug-in: one credential at one host.
pub struct Rest {
    settings: Settings,
    http: Http,
    /// Sets are read, merged and replaced by one at a time.
    turn: Mutex<()>,
}

impl Rest {
    /// Takes the settings; nothing is read or asked before the first verb.
    pub fn new(settings: Settings) -> Self {
        Self {
            http: Http::new(settings.endpoint.clone()),
            settings,
            turn: Mutex::default(),
        }
    }

    async fn session<'s>(&'s self, context: &'s Context) -> Result<Session<'s>, ProviderError> {
        Session::open(&self.http, &self.settings, context).await
    }

    fn manifest(&self) -> &Manifest {
        &self.settings.manifest
    }
}

#[async_trait]
impl Provider for Rest {
    fn traits(&self) -> Traits {
        let manifest = self.manifest();
        Traits {
            model: match manifest.change {
                plan::Change::Value { .. } => RecordModel::Value,
                plan::Change::Set { .. } => RecordModel::Set,
            },
            batch: manifest.batch,
            rate: manifest.rate,
            propagation: manifest.propagation,
        }
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        let session = self.session(context).await?;
        let mut held = Vec::new();
        if self.manifest().zones.one_by_one {
            let candidates = name.and_above();
            for candidate in candidates {
                // A zone right below the root is private to somebody, and then there is no other.
                if candidate.labels() > 1 || held.is_empty() {
                    records::zones(&session, self.manifest(), name, Some(&candidate), &mut held)
                        .await?;
                }
            }
        } else {
            records::zones(&session, self.manifest(), name, None, &mut held).await?;
        }
        held.sort_by_key(|it| std::cmp::Reverse(it.zone.name.labels()));
        Ok(held)
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        let session = self.session(context).await?;
        let found = records::find(&session, self.manifest(), zone, names).await?;
        Ok(names.iter().map(|name| found.set(name)).collect())
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        _: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        if changes.is_empty() {
            return Ok(Receipt::default());
        }
        let session = self.session(context).await?;
        match &self.manifest().change {
            plan::Change::Value { create, remove } => {
                value::apply(&session, self.manifest(), (create, remove), zone, changes).await
            }
            plan::Change::Set { write, clear } => {
                let patience = between(context.clock.now(), context.deadline);
                let turn = context.clock.timeout(patience, self.turn.lock()).await;
                let Some(_turn) = turn else {
                    let message = format!(
                        "another change at {} was still under way at the deadline",
                        self.http.host()
                    );
                    return Err(ProviderError::new(ErrorKind::Transient, message));
                };
                let requests = (write, clear.as_ref());
                set::apply(&session, self.manifest(), requests, zone, changes).await
            }
        }
    }

    async fn settle(&self, ticket: &str, context: &Context) -> Result<Settled, ProviderError> {
        let Some(settle) = &self.manifest().settle else {
            return Ok(Settled::Unknown);
        };
        let session = self.session(context).await?;
        let mut all = Settled::Everywhere;
        for receipt in ticket.split(' ') {
            let values = Values {
                receipt: Some(receipt),
                ..session.values()
            };
            let doing = format!("asked how far the change {receipt} is");
            let Answer::Good(reply) = session.ask(&settle.ask, &values, &[], &doing).await? else {
                continue;
            };
            let state = settle.state.text_of(&reply);
            match state.as_deref() {
                Some(state) if state == settle.done => {}
                Some(state) if state == settle.failed => {
                    return Err(session.failed(receipt, &reply));
                }
                Some(_) => all = Settled::NotYet,
                None => return Err(session.odd("a change without a state")),
            }
        }
        Ok(all)
    }
}
