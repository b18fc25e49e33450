//! The answers to the verbs, judged against what was asked: what goes beyond it is never used.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::record::{DnsName, RrSet, Zone};
use crate::words::printable;
use crate::{Held, Receipt, Settled};

/// The identifier of a zone or of a change is no longer than this.
const LONGEST_ID: usize = 1024;
/// A zone has no more nameservers than this.
const MOST_NAMESERVERS: usize = 100;

/// The result of `zones`.
#[derive(Deserialize)]
pub(super) struct Zones {
    zones: Vec<SaidZone>,
}

#[derive(Deserialize)]
struct SaidZone {
    name: DnsName,
    id: Option<String>,
    #[serde(default)]
    nameservers: Vec<DnsName>,
}

impl Zones {
    /// The zones, longest apex first; an error is what is wrong with them, in words.
    pub(super) fn judged(self, asked: &DnsName) -> Result<Vec<Held>, String> {
        let mut held: Vec<Held> = Vec::new();
        for said in self.zones {
            let name = said.name;
            if !asked.is_at_or_below(&name) {
                return Err(format!(
                    "answers zones of {asked} with the zone {name}, which does not hold that name"
                ));
            }
            let id = said.id.unwrap_or_else(|| name.to_string());
            judge_id("zones", &id)?;
            if said.nameservers.len() > MOST_NAMESERVERS {
                return Err(format!("answers zones with {name} at too many nameservers"));
            }
            let zone = Zone { name, id };
            if held.iter().any(|it| it.zone == zone) {
                return Err(format!("answers zones with {} twice", zone.name));
            }
            held.push(Held {
                nameservers: said.nameservers,
                ..Held::from(zone)
            });
        }
        held.sort_by_key(|held| std::cmp::Reverse(held.zone.name.labels()));
        Ok(held)
    }
}

/// The result of `observe`.
#[derive(Deserialize)]
pub(super) struct Observed {
    sets: Vec<SaidSet>,
}

#[derive(Deserialize)]
struct SaidSet {
    name: DnsName,
    ttl: Option<u32>,
    values: Vec<String>,
}

impl Observed {
    /// The RRset at each name that was asked for, in that order; an error is what is wrong with them, in words.
    pub(super) fn judged(self, asked: &[DnsName]) -> Result<Vec<RrSet>, String> {
        let wanted: HashSet<&DnsName> = asked.iter().collect();
        let mut seen: HashMap<DnsName, RrSet> = HashMap::new();
        for set in self.sets {
            let SaidSet { name, ttl, values } = set;
            let ttl = match (values.is_empty(), ttl) {
                (true, _) => None,
                (false, Some(ttl)) => Some(ttl),
                (false, None) => {
                    return Err(format!("answers observe with values at {name} and no ttl"));
                }
            };
            if !wanted.contains(&name) {
                return Err(format!(
                    "answers observe with {name}, which was not asked for"
                ));
            }
            let set = RrSet {
                name: name.clone(),
                ttl,
                values,
            };
            if let Some(before) = seen.insert(name, set) {
                return Err(format!("answers observe with {} twice", before.name));
            }
        }
        let missing = |name| format!("answers observe without {name}, which was asked for");
        let set = |name| seen.get(name).cloned().ok_or_else(|| missing(name));
        asked.iter().map(set).collect()
    }
}

/// The result of `apply`.
#[derive(Deserialize)]
pub(super) struct Applied {
    receipt: Option<String>,
    #[serde(default)]
    handles: Vec<Option<String>>,
}

impl Applied {
    /// The receipt of so many changes.
    pub(super) fn judged(self, changes: usize) -> Result<Receipt, String> {
        for id in self.receipt.iter().chain(self.handles.iter().flatten()) {
            judge_id("apply", id)?;
        }
        if self.handles.len() > changes {
            let handles = self.handles.len();
            return Err(format!(
                "answers apply of {changes} changes with {handles} handles"
            ));
        }
        Ok(Receipt {
            ticket: self.receipt,
            handles: self.handles,
        })
    }
}

/// The result of `settle`.
#[derive(Deserialize)]
pub(super) struct SettledAnswer {
    pub(super) settled: SaidSettled,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SaidSettled {
    Everywhere,
    NotYet,
    Unknown,
}

impl From<SaidSettled> for Settled {
    fn from(said: SaidSettled) -> Self {
        match said {
            SaidSettled::Everywhere => Self::Everywhere,
            SaidSettled::NotYet => Self::NotYet,
            SaidSettled::Unknown => Self::Unknown,
        }
    }
}

/// An identifier is kept, shown and given back: it is one short line.
fn judge_id(verb: &str, id: &str) -> Result<(), String> {
    let is_good = !id.is_empty() && id.len() <= LONGEST_ID && printable(id, LONGEST_ID) == id;
    match is_good {
        true => Ok(()),
        false => Err(format!(
            "answers {verb} with an identifier that is not 1 to {LONGEST_ID} printable characters"
        )),
    }
}
