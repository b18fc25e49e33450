//! What the virtual host does with a request that it understands.

use serde_json::{Map, Value, json};

use crate::manifest::form::Kind;
use crate::manifest::plan::{Change, Manifest, Request};
use crate::manifest::txt;
use crate::record::{DnsName, Zone};

use super::Trouble;
use super::inverse::{Caught, Incoming, Named, caught, fixed};
use super::paging::body_key;
use super::refusals::{Answer, refusal};
use super::store::{Record, Store};

/// The TTL of a record that was written without one.
const DEFAULT_TTL: u32 = 3600;
/// What the state of a change is called that is under way.
const PENDING: &str = "virtual-pending";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Zones,
    Records,
    Create,
    Remove,
    Write,
    Clear,
    Settle,
}

impl Operation {
    pub(super) fn changes(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Remove | Self::Write | Self::Clear
        )
    }
}

/// What of the host the answers to requests need.
pub(super) struct Host<'h> {
    pub(super) manifest: &'h Manifest,
    pub(super) values: &'h Named,
    pub(super) store: &'h mut Store,
    /// The names and the zone that nobody may change.
    pub(super) forbidden: &'h DnsName,
    pub(super) closed: &'h DnsName,
    /// What it does wrong.
    pub(super) trouble: Option<Trouble>,
}

impl Host<'_> {
    /// What `incoming` asks for, and what it says; the request with the most that is fixed, of several that fit.
    pub(super) fn understand(&self, incoming: &Incoming) -> Option<(Operation, Caught)> {
        let manifest = self.manifest;
        let mut requests: Vec<(Operation, &Request, Option<&str>)> = vec![
            (
                Operation::Zones,
                &manifest.zones.listing.ask,
                body_key(manifest.zones.listing.paging.as_ref()),
            ),
            (
                Operation::Records,
                &manifest.records.listing.ask,
                body_key(manifest.records.listing.paging.as_ref()),
            ),
        ];
        match &manifest.change {
            Change::Value { create, remove } => {
                requests.push((Operation::Create, create, None));
                requests.push((Operation::Remove, remove, None));
            }
            Change::Set { write, clear } => {
                requests.push((Operation::Write, write, None));
                requests.extend(clear.as_ref().map(|it| (Operation::Clear, it, None)));
            }
        }
        requests.extend(
            manifest
                .settle
                .as_ref()
                .map(|it| (Operation::Settle, &it.ask, None)),
        );
        let fits = requests
            .into_iter()
            .filter_map(|(operation, request, extra)| {
                let said = caught(request, incoming, self.values, extra)?;
                Some((fixed(request), operation, said))
            });
        let best = fits.max_by_key(|it| it.0);
        best.map(|(_, operation, said)| (operation, said))
    }

    /// The answer; `None` where the manifest leaves no room for it.
    pub(super) fn answer(
        &mut self,
        operation: Operation,
        said: &Caught,
        incoming: &Incoming,
    ) -> Option<Answer> {
        match operation {
            Operation::Zones => self.zones(said, incoming),
            Operation::Records => self.records(said, incoming),
            Operation::Settle => self.settle(said),
            Operation::Create | Operation::Remove | Operation::Write | Operation::Clear => {
                let zone = self.zone(&said.named);
                let Some(zone) = zone else {
                    return Some(self.refuse(Kind::ZoneMissing, "there is no such zone"));
                };
                let single = [said.clone()];
                let items = if said.each.is_empty() {
                    &single[..]
                } else {
                    &said.each
                };
                // All of them or none.
                for item in items {
                    if let Some(refused) = self.judge(operation, &zone, &item.named) {
                        return Some(refused);
                    }
                }
                for item in items {
                    self.change(operation, &zone, item);
                }
                self.accepted()
            }
        }
    }

    pub(super) fn refuse(&self, kind: Kind, words: &str) -> Answer {
        refusal(&self.manifest.errors, kind, words)
    }

    /// A good reply so far.
    pub(super) fn good(&self) -> Option<Value> {
        let mut reply = Value::Null;
        let mut success = self.manifest.success.iter();
        success
            .all(|(way, value)| way.put(&mut reply, value.clone()))
            .then_some(reply)
    }

    /// Why a change is refused, if it is.
    fn judge(&self, operation: Operation, zone: &Zone, named: &Named) -> Option<Answer> {
        let name = self.name(zone, named);
        let is_forbidden = zone.name == *self.closed || name.as_ref() == Some(self.forbidden);
        if is_forbidden {
            return Some(self.refuse(Kind::Permission, "this credential may not change that"));
        }
        let outside = name
            .as_ref()
            .is_some_and(|it| !it.is_at_or_below(&zone.name));
        if outside || (name.is_none() && operation != Operation::Remove) {
            return Some(self.refuse(Kind::Invalid, "this name is not in the zone"));
        }
        let is_there = |stored: String| {
            self.store
                .of(zone)
                .iter()
                .any(|it| Some(&it.name) == name.as_ref() && it.stored == stored)
        };
        if operation == Operation::Create && stored(named).is_some_and(is_there) {
            return Some(self.refuse(Kind::Done, "it is there already"));
        }
        None
    }

    fn change(&mut self, operation: Operation, zone: &Zone, item: &Caught) {
        let name = self.name(zone, &item.named);
        let ttl = item.named.get("ttl").or(item.named.get("ttl-text"));
        let ttl = ttl.and_then(|it| it.parse().ok()).unwrap_or(DEFAULT_TTL);
        match (operation, name) {
            (Operation::Create, Some(name)) => {
                let stored = stored(&item.named).unwrap_or_default();
                self.store.add(zone, &name, &stored, ttl);
            }
            (Operation::Remove, name) => {
                let (id, stored) = (item.named.get("id"), stored(&item.named));
                self.store.records.retain(|it| {
                    let is_meant = it.zone == zone.id
                        && name.as_ref().is_none_or(|name| it.name == *name)
                        && id.is_none_or(|id| it.id == *id)
                        && stored.as_ref().is_none_or(|stored| it.stored == *stored);
                    !is_meant
                });
            }
            (Operation::Write, Some(name)) => {
                let before: Vec<Record> = self.store.at(&name).into_iter().cloned().collect();
                let shown: Vec<(Value, String)> = (before.iter())
                    .filter_map(|it| Some((self.element(it)?, it.stored.clone())))
                    .collect();
                let new = item.values.iter().flatten().filter_map(|(element, named)| {
                    let kept = shown
                        .iter()
                        .find(|it| it.0 == *element)
                        .map(|it| it.1.clone());
                    kept.or_else(|| stored(named.as_ref()?))
                });
                let new: Vec<String> = new.collect();
                self.store.records.retain(|it| it.name != name);
                for stored in new {
                    self.store.add(zone, &name, &stored, ttl);
                }
            }
            (Operation::Clear, Some(name)) => self.store.records.retain(|it| it.name != name),
            _ => {}
        }
    }

    fn accepted(&mut self) -> Option<Answer> {
        let mut reply = self.good()?;
        if let Some(settle) = &self.manifest.settle {
            let id = self.store.id();
            settle.receipt.put(&mut reply, json!(id)).then_some(())?;
            self.store.asked.insert(id, 0);
        }
        Some(Answer::new(200, filled(reply)))
    }

    /// A change is under way when it is asked about first, and done after that.
    fn settle(&mut self, said: &Caught) -> Option<Answer> {
        let settle = self.manifest.settle.as_ref()?;
        let known = said
            .named
            .get("receipt")
            .and_then(|it| self.store.asked.get_mut(it));
        let Some(looks) = known else {
            return Some(Answer::new(404, json!({})));
        };
        *looks += 1;
        let state = match *looks {
            _ if self.trouble == Some(Trouble::Fails) => settle.failed.as_str(),
            1 => PENDING,
            _ => settle.done.as_str(),
        };
        let mut reply = self.good()?;
        settle.state.put(&mut reply, json!(state)).then_some(())?;
        Some(Answer::new(200, reply))
    }

    pub(super) fn zone(&self, named: &Named) -> Option<Zone> {
        let (name, id) = (named.get("zone"), named.get("zone-id"));
        let mut zones = self.store.zones.iter();
        let is_meant = |zone: &&Zone| {
            name.is_none_or(|it| zone.name.as_str() == it) && id.is_none_or(|it| zone.id == *it)
        };
        let found = zones.find(is_meant)?;
        // Without either the request is not about one of them.
        (name.is_some() || id.is_some()).then(|| found.clone())
    }

    pub(super) fn name(&self, zone: &Zone, named: &Named) -> Option<DnsName> {
        if let Some(name) = named.get("name") {
            return DnsName::parse(name).ok();
        }
        let label = named.get("label")?;
        match *label == self.manifest.apex {
            true => Some(zone.name.clone()),
            false => zone.name.prepend(label).ok(),
        }
    }

    pub(super) fn written(&self, name: &str) -> String {
        match self.trouble == Some(Trouble::Shouts) {
            true => format!("{}.", name.to_ascii_uppercase()),
            false => name.to_owned(),
        }
    }
}

/// A value as the request has it written.
fn stored(named: &Named) -> Option<String> {
    let written = ["stored", "quoted-value", "value"]
        .iter()
        .find_map(|it| named.get(*it));
    written.cloned()
}

/// Hosts answer with an object where they have nothing to say.
pub(super) fn filled(reply: Value) -> Value {
    match reply {
        Value::Null => Value::Object(Map::new()),
        reply => reply,
    }
}

/// How a value is written by requests that add one.
pub(super) fn stores_quoted(manifest: &Manifest) -> bool {
    let request = match &manifest.change {
        Change::Value { create, .. } => create,
        Change::Set { write, .. } => write,
    };
    let mut templates = request.templates().into_iter();
    templates.any(|(_, template)| template.names().any(|it| it == "quoted-value"))
}

/// `value` as somebody else writes it.
pub(super) fn foreign(manifest: &Manifest, value: &str) -> String {
    match stores_quoted(manifest) {
        true => txt::quoted(value),
        false => value.to_owned(),
    }
}
