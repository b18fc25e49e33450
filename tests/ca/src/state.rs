//! Everything that the authority remembers, in memory, behind one lock, each kind with a bound.
//!
//! An order owns its authorizations: nothing is reused between orders.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::CertificateDer;

use crate::clock::later;
use crate::faults::{Endpoint, Plan};
use crate::jws::PublicKey;
use crate::nonces::Nonces;
use crate::problem::{Kind, Problem};

/// More accounts than any test makes; further ones are refused.
const MAX_ACCOUNTS: usize = 10_000;

/// Orders remembered; the oldest is forgotten, with its certificate, when another one comes.
const MAX_ORDERS: usize = 10_000;

/// The statuses of RFC 8555 section 7.1.6, of all kinds of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named as the standard names it")]
pub enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
    Expired,
    Deactivated,
}

impl Status {
    /// As it stands in a reply.
    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Ready => "ready",
            Status::Processing => "processing",
            Status::Valid => "valid",
            Status::Invalid => "invalid",
            Status::Expired => "expired",
            Status::Deactivated => "deactivated",
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    accounts: BTreeMap<u64, Account>,
    orders: BTreeMap<u64, Order>,
    certificates: HashMap<String, Certificate>,
    last_account: u64,
    last_order: u64,
    pub(crate) nonces: Nonces,
    pub(crate) faults: Plan,
    pub(crate) requests: BTreeMap<Endpoint, u64>,
}

pub(crate) struct Account {
    pub(crate) key: Arc<PublicKey>,
    pub(crate) contact: Vec<String>,
    pub(crate) status: Status,
}

pub(crate) struct Order {
    pub(crate) account: u64,
    pub(crate) names: Vec<String>,
    pub(crate) profile: Option<String>,
    pub(crate) expires: Timestamp,
    pub(crate) status: Status,
    pub(crate) authorizations: Vec<Authorization>,
    pub(crate) error: Option<Problem>,
    /// The serial number of what was issued.
    pub(crate) certificate: Option<String>,
    /// How many looks at the order still find it `processing`.
    pub(crate) looks_left: u32,
}

pub(crate) struct Authorization {
    /// Without `*.`.
    pub(crate) name: String,
    pub(crate) wildcard: bool,
    pub(crate) status: Status,
    pub(crate) token: String,
    /// Of its one challenge, dns-01.
    pub(crate) challenge: Status,
    pub(crate) validated: Option<Timestamp>,
    pub(crate) error: Option<Problem>,
}

pub(crate) struct Certificate {
    pub(crate) account: u64,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) chain_pem: Arc<str>,
    pub(crate) revoked: bool,
}

impl State {
    pub(crate) fn account(&mut self, id: u64) -> Option<&mut Account> {
        self.accounts.get_mut(&id)
    }

    pub(crate) fn account_of_key(&self, key: &PublicKey) -> Option<u64> {
        let same = |account: &Account| account.key.thumbprint == key.thumbprint;
        self.accounts
            .iter()
            .find(|(_, account)| same(account))
            .map(|(id, _)| *id)
    }

    pub(crate) fn add_account(&mut self, account: Account) -> Result<u64, Problem> {
        if self.accounts.len() >= MAX_ACCOUNTS {
            let detail = format!("the test authority holds its {MAX_ACCOUNTS} accounts already");
            return Err(Problem::new(Kind::ServerInternal, detail));
        }
        self.last_account += 1;
        self.accounts.insert(self.last_account, account);
        Ok(self.last_account)
    }

    pub(crate) fn forget_accounts(&mut self) {
        self.accounts.clear();
    }

    pub(crate) fn add_order(&mut self, order: Order) -> u64 {
        if self.orders.len() >= MAX_ORDERS
            && let Some((_, oldest)) = self.orders.pop_first()
            && let Some(serial) = oldest.certificate
        {
            self.certificates.remove(&serial);
        }
        self.last_order += 1;
        self.orders.insert(self.last_order, order);
        self.last_order
    }

    /// The order as it is at `now`: what has expired is so.
    pub(crate) fn order(&mut self, id: u64, now: Timestamp) -> Option<&mut Order> {
        let order = self.orders.get_mut(&id)?;
        order.expire(now);
        Some(order)
    }

    pub(crate) fn orders(&mut self, now: Timestamp) -> impl Iterator<Item = (u64, &Order)> {
        self.orders.iter_mut().map(move |(id, order)| {
            order.expire(now);
            (*id, &*order)
        })
    }

    pub(crate) fn add_certificate(&mut self, serial: String, certificate: Certificate) {
        self.certificates.insert(serial, certificate);
    }

    pub(crate) fn certificate(&mut self, serial: &str) -> Option<&mut Certificate> {
        self.certificates.get_mut(serial)
    }
}

impl Order {
    /// A new order with an authorization of its own for each name.
    pub(crate) fn new(
        account: u64,
        names: Vec<String>,
        profile: Option<String>,
        expires: Timestamp,
    ) -> Result<Order, Problem> {
        let authorizations = names
            .iter()
            .map(|name| Authorization::new(name))
            .collect::<Result<_, _>>()?;
        Ok(Order {
            account,
            names,
            profile,
            expires,
            status: Status::Pending,
            authorizations,
            error: None,
            certificate: None,
            looks_left: 0,
        })
    }

    /// The outcome of a validation, which decides the authorization and perhaps the order.
    pub(crate) fn validated(&mut self, index: usize, result: Result<(), Problem>, now: Timestamp) {
        let Some(authorization) = self.authorizations.get_mut(index) else {
            return;
        };
        if authorization.status != Status::Pending {
            return;
        }
        match result {
            Ok(()) => {
                authorization.challenge = Status::Valid;
                authorization.status = Status::Valid;
                authorization.validated = Some(now);
            }
            Err(problem) => {
                authorization.challenge = Status::Invalid;
                authorization.status = Status::Invalid;
                authorization.error = Some(problem.clone());
                self.fail(problem);
            }
        }
        let all_valid = self
            .authorizations
            .iter()
            .all(|a| a.status == Status::Valid);
        if self.status == Status::Pending && all_valid {
            self.status = Status::Ready;
        }
    }

    /// Ends an order that has not come to its certificate.
    pub(crate) fn fail(&mut self, problem: Problem) {
        if matches!(self.status, Status::Pending | Status::Ready) {
            self.status = Status::Invalid;
            self.error = Some(problem);
        }
    }

    fn expire(&mut self, now: Timestamp) {
        if now < self.expires || !matches!(self.status, Status::Pending | Status::Ready) {
            return;
        }
        for authorization in &mut self.authorizations {
            if matches!(authorization.status, Status::Pending | Status::Valid) {
                authorization.status = Status::Expired;
            }
        }
        self.fail(Problem::malformed(format!(
            "the order expired at {}",
            self.expires
        )));
    }
}

impl Authorization {
    fn new(name: &str) -> Result<Authorization, Problem> {
        Ok(Authorization {
            name: crate::names::base(name).to_owned(),
            wildcard: name.starts_with("*."),
            status: Status::Pending,
            token: random_text()?,
            challenge: Status::Pending,
            validated: None,
            error: None,
        })
    }
}

/// When an order that is made at `now` expires.
pub(crate) fn expiry(now: Timestamp, lifetime: Duration) -> Timestamp {
    crate::clock::whole_second(later(now, lifetime))
}

/// 256 random bits as base64url, for tokens.
pub(crate) fn random_text() -> Result<String, Problem> {
    use base64::Engine as _;
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Problem::new(Kind::ServerInternal, "no randomness to be had"))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}
