//! What an attempt wants done, and what is told to it. Data only.

use std::net::IpAddr;
use std::time::Duration;

use countersign_providers::error::ProviderError;
use countersign_providers::record::{DnsName, Zone};

use crate::engine::ledger::{Owner, RecordId};
use crate::engine::names::Identifier;
use crate::engine::order::{AuthorizationSeen, CaFault, ChallengeSeen, OrderSeen};
use crate::engine::propagation::Observation;
use crate::engine::reaction::Failure;

/// Something to do for an attempt. `part` is the authorization's place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask for an order (section 7.4).
    NewOrder,
    /// Look at the order.
    FetchOrder(String),
    /// Look at an authorization (section 7.5).
    FetchAuthorization {
        /// Which.
        part: usize,
        /// Its URL.
        url: String,
    },
    /// Find the zone, the provider and the servers of a challenge name.
    Locate {
        /// Which authorization.
        part: usize,
        /// The name, with or without a wildcard.
        identifier: Identifier,
    },
    /// Have the value put at the DNS host; answered when the host says that it has taken it.
    Present {
        /// Which authorization.
        part: usize,
        /// Who wants it.
        owner: Owner,
        /// The value and its coordinates.
        record: RecordId,
    },
    /// Wait until the host says that the value has reached all of its servers, or no longer than it usually takes.
    Settle {
        /// Which authorization.
        part: usize,
        /// The value and its coordinates.
        record: RecordId,
    },
    /// Ask authoritative servers for the value.
    Observe {
        /// Which authorization.
        part: usize,
        /// The coordinates and the value.
        record: RecordId,
        /// Whom to ask.
        servers: Vec<(String, IpAddr)>,
    },
    /// Tell the authority that it may look (section 7.5.1).
    Respond {
        /// Which authorization.
        part: usize,
        /// The challenge's URL.
        url: String,
    },
    /// Want the value no more; answered when that is saved.
    Release {
        /// Which record.
        part: usize,
        /// Who wanted it.
        owner: Owner,
        /// The value and its coordinates.
        record: RecordId,
    },
    /// Draw the leaf key and save it.
    MakeKey,
    /// Send the CSR (section 7.4).
    Finalize(String),
    /// Fetch and check the certificate, and save it.
    Download(String),
}

impl Effect {
    /// Whether it only asks, and so changes nothing at the authority, at a DNS host, or in the store.
    pub fn only_looks(&self) -> bool {
        match self {
            Self::FetchOrder(_)
            | Self::FetchAuthorization { .. }
            | Self::Locate { .. }
            | Self::Settle { .. }
            | Self::Observe { .. } => true,
            Self::NewOrder
            | Self::Present { .. }
            | Self::Respond { .. }
            | Self::Release { .. }
            | Self::MakeKey
            | Self::Finalize(_)
            | Self::Download(_) => false,
        }
    }
}

/// What happened to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The authority made or found the order.
    Ordered(Result<OrderSeen, CaFault>),
    /// The order as it is, from `FetchOrder`.
    Order(Result<OrderSeen, CaFault>),
    /// An authorization as it is.
    Authorization(usize, Result<AuthorizationSeen, CaFault>),
    /// Where a challenge name leads.
    Located(usize, Result<Located, LocateFault>),
    /// The host has taken the value.
    Presented(usize, Result<Placed, ProviderError>),
    /// All that the host tells of how far the value has come is told.
    Settled(usize),
    /// What the servers said.
    Observed(usize, Vec<Observation>),
    /// The challenge as the authority sees it after the response.
    Responded(usize, Result<ChallengeSeen, CaFault>),
    /// The ledger has saved that the record is wanted no more by this owner.
    Released(Owner),
    /// The leaf key is in the store.
    KeySaved,
    /// The order after the CSR was sent.
    Finalized(Result<OrderSeen, CaFault>),
    /// The certificate was checked; this event is saved together with it.
    Downloaded,
    /// The certificate could not be fetched.
    DownloadFailed(CaFault),
    /// What came is not the certificate that was ordered.
    CertificateWrong(String),
}

impl Event {
    /// The pause that the authority asked for.
    pub(super) fn wish(&self) -> Option<Duration> {
        self.fault().and_then(wish)
    }

    /// What went wrong with a request to the authority.
    pub fn fault(&self) -> Option<&CaFault> {
        match self {
            Self::Ordered(Err(fault))
            | Self::Order(Err(fault))
            | Self::Authorization(_, Err(fault))
            | Self::Responded(_, Err(fault))
            | Self::Finalized(Err(fault))
            | Self::DownloadFailed(fault) => Some(fault),
            _ => None,
        }
    }
}

/// How far a value has come that a host has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// As far as the host knows, it is there.
    There,
    /// The host says later when all of its servers have it.
    Spreading,
}

/// Where a challenge name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The provider's name.
    pub provider: String,
    /// The zone to change.
    pub zone: Zone,
    /// Where the record must stand, after CNAMEs.
    pub owner: DnsName,
    /// Every authoritative server of the real zone: host name and address.
    pub servers: Vec<(String, IpAddr)>,
    /// Those of them of which no address was found.
    pub nowhere: Vec<String>,
    /// How long the provider may need until every server has a value.
    pub patience: Duration,
}

/// Why a challenge name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocateFault {
    /// What was seen and whose move it is.
    pub failure: Failure,
    /// Whether asking again in a moment may help.
    pub transient: bool,
}

/// The pause that the authority asked for in a refusal.
pub(super) fn wish(fault: &CaFault) -> Option<Duration> {
    match fault {
        CaFault::Refused { retry_after, .. } => *retry_after,
        _ => None,
    }
}
