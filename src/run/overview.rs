//! What there is to say of every certificate: from the configuration, the store, and what is going on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::shared::specification;
use super::{BUILT_IN, plan, records};

use crate::config::{self, Config};
use crate::engine::attempt::{Attempt, Step};
use crate::engine::certificate::{Certificate, Issued};
use crate::engine::delivery::{Delivery, State as DeliveryState};
use crate::engine::ledger::Entry;
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::engine::renewal::Due;
use crate::ledger;
use crate::store::{Session, StoreError};

/// Everything at one instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// Then.
    pub now: Timestamp,
    /// What is to be known before anything else: a sentence each.
    pub notices: Vec<String>,
    /// Those of the configuration, in the order of their names.
    pub certificates: Vec<View>,
    /// TXT values of ours that are still at a DNS host although nobody wants them.
    pub left: Vec<Left>,
}

/// One certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// Its name in the configuration.
    pub name: CertificateName,
    /// As configured.
    pub names: Vec<String>,
    /// What is issued.
    pub state: State,
    /// What is going on.
    pub activity: Activity,
    /// The step of the order that is under way.
    pub step: Option<Step>,
    /// The certificate.
    pub current: Option<Issued>,
    /// When the next attempt is due, and why.
    pub due: Due,
    /// Whom it asks.
    pub ahead: Ahead,
    /// The order that was begun and not ended.
    pub parked: Option<Attempt>,
    /// What went wrong last.
    pub failure: Option<Failing>,
    /// Where it goes, in the order of the configuration.
    pub deliveries: Vec<Delivered>,
}

/// What the next attempt has to do with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ahead {
    /// The authority that is asked.
    pub authority: String,
    /// The domain of its first name.
    pub domain: String,
    /// The other side wants to be left alone until then, whoever asks.
    pub floor: Option<Timestamp>,
}

/// What is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing.
    None,
    /// A certificate that is valid.
    Valid,
    /// One that has ended.
    Expired,
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Nothing to do until the renewal.
    Idle,
    /// Something is due, or is tried again.
    Waiting,
    /// An order is under way.
    Issuing,
    /// It is issued and not everywhere yet.
    Delivering,
    /// A person must act first.
    Blocked,
}

/// What went wrong last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failing {
    /// What, and whose move it is.
    pub failure: Failure,
    /// When it is tried again.
    pub retry_at: Option<Timestamp>,
    /// How often in a row.
    pub count: u32,
}

/// One delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivered {
    /// The target.
    pub target: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// The generation that should be there.
    pub generation: Option<u64>,
    /// Since when it stands so.
    pub since: Option<Timestamp>,
    /// Why it is not there, and when it is tried again.
    pub failure: Option<(Failure, Option<Timestamp>)>,
}

/// A TXT value that should be gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left {
    /// As configured, or as it was.
    pub provider: String,
    /// Whether that is in the configuration.
    pub is_configured: bool,
    /// The zone.
    pub zone: String,
    /// The owner name.
    pub name: String,
    /// The value.
    pub value: String,
    /// Why it is still there.
    pub failure: Option<String>,
}

impl State {
    /// As written in `status --json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Valid => "valid",
            Self::Expired => "expired",
        }
    }
}

impl Activity {
    /// As written in `status --json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Issuing => "issuing",
            Self::Delivering => "delivering",
            Self::Blocked => "blocked",
        }
    }
}

impl View {
    /// Whether it needs to be looked at.
    pub fn is_failing(&self) -> bool {
        self.failure.is_some() || self.state == State::Expired
    }
}

impl Overview {
    /// Everything; with nothing but the configuration where there is no store yet.
    pub async fn gather(
        config: &Config,
        session: Option<&Session>,
        now: Timestamp,
        at_work: &BTreeMap<CertificateName, Step>,
    ) -> Result<Self, StoreError> {
        let mut certificates = Vec::new();
        for (name, wanted) in &config.certificates {
            certificates.push(view(config, name, wanted, session, now, at_work).await?);
        }
        let left = match session {
            Some(session) => left(config, session).await?,
            None => Vec::new(),
        };
        Ok(Self {
            now,
            notices: Vec::new(),
            certificates,
            left,
        })
    }

    /// Whether anything needs to be looked at.
    pub fn is_failing(&self) -> bool {
        self.certificates.iter().any(View::is_failing)
            || self
                .left
                .iter()
                .any(|left| !left.is_configured || left.failure.is_some())
    }
}

async fn view(
    config: &Config,
    name: &CertificateName,
    wanted: &config::Certificate,
    session: Option<&Session>,
    now: Timestamp,
    at_work: &BTreeMap<CertificateName, Step>,
) -> Result<View, StoreError> {
    let step = at_work.get(name).copied();
    let (mut certificate, mut parked) = (Certificate::new(name.clone()), None);
    if let Some(session) = session {
        if let Some(saved) = session.load(records::certificate(name)).await? {
            certificate = saved.value;
        }
        let saved = session.load::<Attempt>(records::attempt(name)).await?;
        parked = saved.map(|saved| saved.value);
    }
    let mut deliveries = Vec::new();
    for to in &wanted.deliver {
        deliveries.push(delivery(name, &to.target, session, certificate.current.as_ref()).await?);
    }
    let state = match &certificate.current {
        None => State::None,
        Some(issued) if issued.not_after <= now => State::Expired,
        Some(_) => State::Valid,
    };
    let specification = specification(wanted);
    let due = certificate.due(now, &specification, &config.profiles());
    let is_known = |name: &str| config.authorities.iter().any(|it| it.name.as_str() == name);
    let trouble = certificate.trouble.as_ref();
    let ahead = Ahead {
        authority: plan::authority(&wanted.authorities, is_known, &certificate, parked.as_ref()),
        domain: plan::domain(&specification),
        floor: trouble.and_then(|trouble| trouble.floor(now)),
    };
    let failure = failing(&certificate, &deliveries);
    let undelivered = state != State::None
        && deliveries
            .iter()
            .any(|delivery| delivery.state != DeliveryState::Installed);
    let activity = match &failure {
        _ if step.is_some_and(|step| step < Step::Closing) => Activity::Issuing,
        Some(failing) if failing.failure.whose == Whose::You => Activity::Blocked,
        _ if undelivered => Activity::Delivering,
        None if due.at > now && parked.is_none() => Activity::Idle,
        _ => Activity::Waiting,
    };
    Ok(View {
        name: name.clone(),
        names: wanted.names.iter().map(ToString::to_string).collect(),
        state,
        activity,
        step,
        current: certificate.current,
        due,
        ahead,
        parked,
        failure,
        deliveries,
    })
}

/// The certificate's own trouble first: without a certificate there is nothing to deliver.
fn failing(certificate: &Certificate, deliveries: &[Delivered]) -> Option<Failing> {
    if let Some(trouble) = &certificate.trouble {
        return Some(Failing {
            failure: trouble.failure.clone(),
            retry_at: Some(trouble.retry_at),
            count: trouble.count,
        });
    }
    let (failure, retry_at) = deliveries.iter().find_map(|it| it.failure.clone())?;
    Some(Failing {
        failure,
        retry_at,
        count: 1,
    })
}

async fn delivery(
    name: &CertificateName,
    target: &str,
    session: Option<&Session>,
    current: Option<&Issued>,
) -> Result<Delivered, StoreError> {
    let saved = match session {
        Some(session) => {
            let key = records::delivery(name, target);
            session.load::<Delivery>(key).await?
        }
        None => None,
    };
    let newest = current.map(|issued| issued.generation);
    let known = saved.filter(|saved| saved.value.wanted() == newest);
    Ok(match known {
        Some(saved) => Delivered {
            target: target.to_owned(),
            state: saved.value.state(),
            generation: saved.value.wanted(),
            since: saved.value.since(),
            failure: saved
                .value
                .failure()
                .map(|(failure, again)| (failure.clone(), again)),
        },
        // What is issued was not taken there yet.
        None => Delivered {
            target: target.to_owned(),
            state: DeliveryState::Wanted,
            generation: newest,
            since: None,
            failure: None,
        },
    })
}

/// Values that nobody wants any more, and those whose host is not configured any more.
async fn left(config: &Config, session: &Session) -> Result<Vec<Left>, StoreError> {
    let attempts = session.load_all::<Attempt>(records::ATTEMPTS).await?;
    let alive: Vec<String> = attempts
        .iter()
        .map(|attempt| attempt.value.request.owner_prefix())
        .collect();
    let is_held = |entry: &Entry| {
        let mut owners = entry.owners();
        owners.any(|owner| alive.iter().any(|prefix| owner.starts_with(prefix)))
    };
    let is_configured = |provider: &str| match provider {
        BUILT_IN => config.nameserver.is_some(),
        other => config.providers.keys().any(|known| known.as_str() == other),
    };
    // Of one that is removed and owned by nobody, only a late write is awaited.
    let is_there = |entry: &Entry| entry.is_withdrawing() || entry.owners().next().is_some();
    let entries = session.load_all::<Entry>(ledger::PREFIX).await?;
    let entries = entries.into_iter().map(|saved| saved.value);
    let left = entries.filter_map(|entry| {
        let is_configured = is_configured(&entry.record.provider);
        let is_left = !is_configured || (is_there(&entry) && !is_held(&entry));
        is_left.then(|| Left {
            provider: entry.record.provider.clone(),
            is_configured,
            zone: entry.record.zone.name.to_string(),
            name: entry.record.name.to_string(),
            value: entry.record.value.clone(),
            failure: entry.failure.as_ref().map(|it| it.sentence.clone()),
        })
    });
    Ok(left.collect())
}
