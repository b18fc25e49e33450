//! What there is to say of every certificate: from the configuration, the store, and what is going on.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::shared::specification;
use super::{BUILT_IN, plan, records};

use super::by_hand;
use crate::config::{self, Config};
use crate::engine::attempt::{Attempt, Step};
use crate::engine::certificate::{Certificate, Issued};
use crate::engine::delivery::{Delivery, State as DeliveryState};
use crate::engine::ledger::Entry;
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::engine::renewal::Due;
use crate::ledger;
use crate::store::{Key, Session, StoreError};

/// Everything at one instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// Then.
    pub now: Timestamp,
    /// Whether a daemon is at work, which does by itself what is due.
    pub by_itself: bool,
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
    /// Whether that says what a person is to do by hand at a DNS host, each time anew.
    #[serde(default)]
    pub by_hand: bool,
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
    /// When what is served there ends; where nothing was ever told, or it is not known, none.
    pub serves_until: Option<Timestamp>,
    /// Since when it stands so.
    pub since: Option<Timestamp>,
    /// Why it is not there, and when it is tried again.
    pub failure: Option<(Failure, Option<Timestamp>)>,
    /// How often it failed in a row.
    pub failures: u32,
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
    /// Every one.
    pub const ALL: [Self; 3] = [Self::None, Self::Valid, Self::Expired];

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
    /// When the first certificate ends that somebody is served: the present one, or the one before it at a target that
    /// does not have the present one.
    pub fn served_until(&self) -> Option<Timestamp> {
        let present = self.current.as_ref()?.not_after;
        let waiting = (self.deliveries.iter()).filter(|it| it.state != DeliveryState::Installed);
        let ends = waiting.filter_map(|it| it.serves_until);
        Some(ends.fold(present, Timestamp::min))
    }

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
        let kept = match session {
            Some(session) => Kept::load(session).await?,
            None => Kept::default(),
        };
        let certificates = config.certificates.iter();
        let certificates = certificates
            .map(|(name, wanted)| view_of(config, name, wanted, &kept, now, at_work))
            .collect();
        let left = match session {
            Some(session) => left(config, session).await?,
            None => Vec::new(),
        };
        Ok(Self {
            now,
            by_itself: false,
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

/// What the store keeps of all certificates: few large reads, however many there are.
#[derive(Default)]
struct Kept {
    certificates: HashMap<Key, Certificate>,
    attempts: HashMap<Key, Attempt>,
    deliveries: HashMap<Key, Delivery>,
}

impl Kept {
    async fn load(session: &Session) -> Result<Self, StoreError> {
        Ok(Self {
            certificates: by_key(session, records::CERTIFICATES).await?,
            attempts: by_key(session, records::ATTEMPTS).await?,
            deliveries: by_key(session, records::DELIVERIES).await?,
        })
    }

    /// What there is of one.
    async fn load_one(
        session: &Session,
        name: &CertificateName,
        wanted: &config::Certificate,
    ) -> Result<Self, StoreError> {
        let mut kept = Self::default();
        if let Some(saved) = session.load(records::certificate(name)).await? {
            kept.certificates.insert(saved.key, saved.value);
        }
        if let Some(saved) = session.load(records::attempt(name)).await? {
            kept.attempts.insert(saved.key, saved.value);
        }
        for to in &wanted.deliver {
            let key = records::delivery(name, &to.target);
            if let Some(saved) = session.load(key).await? {
                kept.deliveries.insert(saved.key, saved.value);
            }
        }
        Ok(kept)
    }
}

async fn by_key<T: Serialize + DeserializeOwned>(
    session: &Session,
    prefix: &str,
) -> Result<HashMap<Key, T>, StoreError> {
    let all = session.load_all(prefix).await?.into_iter();
    Ok(all.map(|saved| (saved.key, saved.value)).collect())
}

/// One certificate of `config`, without all the others.
pub async fn view(
    config: &Config,
    name: &CertificateName,
    wanted: &config::Certificate,
    session: Option<&Session>,
    now: Timestamp,
    at_work: &BTreeMap<CertificateName, Step>,
) -> Result<View, StoreError> {
    let kept = match session {
        Some(session) => Kept::load_one(session, name, wanted).await?,
        None => Kept::default(),
    };
    Ok(view_of(config, name, wanted, &kept, now, at_work))
}

fn view_of(
    config: &Config,
    name: &CertificateName,
    wanted: &config::Certificate,
    kept: &Kept,
    now: Timestamp,
    at_work: &BTreeMap<CertificateName, Step>,
) -> View {
    let step = at_work.get(name).copied();
    let certificate = kept.certificates.get(&records::certificate(name)).cloned();
    let certificate = certificate.unwrap_or_else(|| Certificate::new(name.clone()));
    let parked = kept.attempts.get(&records::attempt(name)).cloned();
    let targets = wanted.deliver.iter().map(|to| to.target.as_str());
    let deliveries: Vec<Delivered> = targets
        .map(|target| delivery(name, target, kept, certificate.current.as_ref()))
        .collect();
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
    let by_hand = parked.as_ref().map(|it| by_hand::values(config, it));
    // From then on every server has them.
    let is_done = step.is_some_and(|step| step > Step::Proving);
    let by_hand = by_hand.filter(|values| !values.is_empty() && !is_done);
    let failure = match &by_hand {
        Some(values) => Some(Failing {
            failure: Failure::new(Whose::You, by_hand::add(name, values)),
            retry_at: None,
            count: 1,
        }),
        None => failing(&certificate, &deliveries),
    };
    let undelivered = state != State::None
        && deliveries
            .iter()
            .any(|delivery| delivery.state != DeliveryState::Installed);
    let activity = match &failure {
        _ if by_hand.is_some() => Activity::Blocked,
        _ if step.is_some_and(|step| step < Step::Closing) => Activity::Issuing,
        Some(failing) if failing.failure.whose == Whose::You => Activity::Blocked,
        _ if undelivered => Activity::Delivering,
        None if due.at > now && parked.is_none() => Activity::Idle,
        _ => Activity::Waiting,
    };
    View {
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
        by_hand: by_hand.is_some(),
        deliveries,
    }
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
    let failing = deliveries.iter().find(|it| it.failure.is_some())?;
    let (failure, retry_at) = failing.failure.clone()?;
    Some(Failing {
        failure,
        retry_at,
        count: failing.failures,
    })
}

fn delivery(
    name: &CertificateName,
    target: &str,
    kept: &Kept,
    current: Option<&Issued>,
) -> Delivered {
    let kept = kept.deliveries.get(&records::delivery(name, target));
    let newest = current.map(|issued| issued.generation);
    let serves_until = kept.and_then(Delivery::serves_until);
    match kept.filter(|kept| kept.wanted() == newest) {
        Some(kept) => Delivered {
            target: target.to_owned(),
            state: kept.state(),
            generation: kept.wanted(),
            serves_until,
            since: kept.since(),
            failures: kept.failures(),
            failure: kept
                .failure()
                .map(|(failure, again)| (failure.clone(), again)),
        },
        // What is issued was not taken there yet.
        None => Delivered {
            target: target.to_owned(),
            state: DeliveryState::Wanted,
            generation: newest,
            serves_until,
            since: None,
            failure: None,
            failures: 0,
        },
    }
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
        other => ledger::members(other).all(|member| {
            config
                .providers
                .keys()
                .any(|known| known.as_str() == member)
        }),
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
