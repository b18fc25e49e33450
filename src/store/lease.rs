//! What is stored of a lease, and the rules by which it changes hands. Pure.

use std::time::Duration;

use crate::clock::later;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Fence, StoreError};

/// A lease as stored. It stays when it was given back, so that its token goes on rising.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    /// The newest fencing token.
    token: u64,
    /// Who has it; nobody once it was given back.
    holder: Option<String>,
    /// Until when, unless renewed.
    until: Timestamp,
}

impl Lease {
    /// The lease `name` after `holder` asked for it at `now`.
    pub(super) fn take(
        found: Option<Self>,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Self, StoreError> {
        let token = match &found {
            None => 1,
            Some(lease) => match &lease.holder {
                Some(other) if lease.until > now && other != holder => {
                    return Err(StoreError::Held {
                        name: name.to_owned(),
                        holder: other.clone(),
                        until: lease.until,
                    });
                }
                Some(_) if lease.until > now => lease.token,
                _ => lease.token.saturating_add(1),
            },
        };
        Ok(Self {
            token,
            holder: Some(holder.to_owned()),
            until: later(now, ttl),
        })
    }

    /// The proof of holding it.
    pub(super) fn fence(&self, name: &str) -> Fence {
        Fence {
            lease: name.to_owned(),
            token: self.token,
        }
    }

    /// Whether `fence` holds `lease`. One that ran out still holds until somebody else takes it: only then could two
    /// act at once.
    pub(super) fn check(lease: Option<&Self>, fence: &Fence) -> Result<(), StoreError> {
        match lease {
            Some(lease) if lease.holder.is_some() && lease.token == fence.token => Ok(()),
            _ => Err(StoreError::Fenced(fence.lease.clone())),
        }
    }

    /// The lease without a holder, if `fence` holds it.
    pub(super) fn release(lease: Option<Self>, fence: &Fence) -> Option<Self> {
        Self::check(lease.as_ref(), fence).ok()?;
        lease.map(|lease| Self {
            holder: None,
            ..lease
        })
    }
}
