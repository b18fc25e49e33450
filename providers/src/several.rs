//! One zone at several DNS hosts: what is written goes to all of them, since whoever asks may meet any of their servers.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::record::{Change, DnsName, RrSet, Zone};
use crate::{
    Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Remark, Settled,
    Traits,
};

/// Several plug-ins that hold the same zone.
pub struct Several(Vec<(String, Arc<dyn Provider>)>);

impl Several {
    /// All of `members`, by their names.
    pub fn new(members: Vec<(String, Arc<dyn Provider>)>) -> Self {
        Self(members)
    }

    /// `zone` at all of them: `zones` has each one's own, in the order of the members.
    pub fn zone(name: &DnsName, zones: &[Zone]) -> Zone {
        let ids: Vec<&str> = zones.iter().map(|zone| zone.id.as_str()).collect();
        Zone {
            name: name.clone(),
            id: json(&ids),
        }
    }

    /// The member's own zone among those that stand in a zone of all.
    fn parts(&self, zone: &Zone) -> Result<Vec<Zone>, ProviderError> {
        let ids: Vec<String> = serde_json::from_str(&zone.id).unwrap_or_default();
        if ids.len() != self.0.len() {
            let message = format!("{} is not a zone of all of these providers", zone.name);
            return Err(ProviderError::new(ErrorKind::Fatal, message));
        }
        let name = &zone.name;
        let zone = |id| Zone {
            name: name.clone(),
            id,
        };
        Ok(ids.into_iter().map(zone).collect())
    }

    /// What of several results counts: a failure that only a person can help with before others. Of a change that failed
    /// at one, another may have been made.
    fn all<T>(&self, results: Vec<Result<T, ProviderError>>) -> Result<Vec<T>, ProviderError> {
        let (mut good, mut worst) = (Vec::new(), None::<ProviderError>);
        for ((name, _), result) in self.0.iter().zip(results) {
            match result {
                Ok(it) => good.push(it),
                Err(error) => {
                    let message = format!("{name}: {}", error.message);
                    let error = ProviderError { message, ..error }.partly();
                    let is_worse = |worst: &ProviderError| {
                        error.kind.needs_person() && !worst.kind.needs_person()
                    };
                    if worst.as_ref().is_none_or(is_worse) {
                        worst = Some(error);
                    }
                }
            }
        }
        match worst {
            Some(error) => Err(error),
            None => Ok(good),
        }
    }
}

#[async_trait]
impl Provider for Several {
    fn traits(&self) -> Traits {
        let all: Vec<Traits> = self.0.iter().map(|(_, plugin)| plugin.traits()).collect();
        let slots = all.iter().filter_map(|traits| match traits.model {
            RecordModel::Slots(many) => Some(many),
            _ => None,
        });
        // Each member writes by its own model; what concerns whoever writes is what a name has no room for, and what may
        // come back.
        let model = match slots.min() {
            Some(least) => RecordModel::Slots(least),
            None if all.iter().any(|it| it.model.is_unproven()) => RecordModel::Set,
            None => RecordModel::Value,
        };
        Traits {
            model,
            batch: all.iter().map(|traits| traits.batch).min().unwrap_or(1),
            rate: None,
            propagation: (all.iter().map(|traits| traits.propagation).max()).unwrap_or_default(),
        }
    }

    /// A joint zone is put together from what each member said: nobody asks for it.
    async fn zones(&self, _: &DnsName, _: &Context) -> Result<Vec<Held>, ProviderError> {
        Ok(Vec::new())
    }

    /// A value is there as long as one of them has it.
    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        let parts = self.parts(zone)?;
        let asked = (self.0.iter().zip(&parts))
            .map(|((_, plugin), zone)| plugin.observe(zone, names, context));
        let mut seen = self.all(join_all(asked).await)?.into_iter();
        let mut sets = seen.next().unwrap_or_default();
        for other in seen {
            for (set, other) in sets.iter_mut().zip(other) {
                set.ttl = set.ttl.or(other.ttl);
                for value in other.values {
                    if !set.values.contains(&value) {
                        set.values.push(value);
                    }
                }
            }
        }
        Ok(sets)
    }

    async fn remarks(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<Remark>, ProviderError> {
        let parts = self.parts(zone)?;
        let asked = (self.0.iter().zip(&parts))
            .map(|((_, plugin), zone)| plugin.remarks(zone, names, context));
        Ok(self.all(join_all(asked).await)?.concat())
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        believed: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        let parts = self.parts(zone)?;
        let asked = self.0.iter().zip(&parts).enumerate();
        let asked = asked.map(|(nth, ((_, plugin), zone))| async move {
            let own = |change: &Change| Change {
                handle: (change.handle.as_deref()).and_then(|all| list(all).get(nth)?.clone()),
                ..change.clone()
            };
            let changes: Vec<Change> = changes.iter().map(own).collect();
            plugin.apply(zone, &changes, believed, context).await
        });
        let receipts = self.all(join_all(asked).await)?;
        let tickets: Vec<&Option<String>> = receipts.iter().map(|it| &it.ticket).collect();
        let handles = (0..changes.len()).map(|nth| {
            let handles = receipts.iter().map(|it| it.handles.get(nth).cloned());
            let handles: Vec<Option<String>> = handles.map(Option::flatten).collect();
            handles.iter().any(Option::is_some).then(|| json(&handles))
        });
        Ok(Receipt {
            ticket: (tickets.iter().any(|it| it.is_some())).then(|| json(&tickets)),
            handles: handles.collect(),
        })
    }

    async fn settle(&self, ticket: &str, context: &Context) -> Result<Settled, ProviderError> {
        let tickets = list(ticket);
        let asked = (self.0.iter().zip(&tickets)).filter_map(|((_, plugin), ticket)| {
            let ticket = ticket.as_deref()?;
            Some(plugin.settle(ticket, context))
        });
        let mut all = Settled::Everywhere;
        for settled in join_all(asked).await {
            match settled? {
                Settled::NotYet => return Ok(Settled::NotYet),
                Settled::Unknown => all = Settled::Unknown,
                Settled::Everywhere => {}
            }
        }
        Ok(all)
    }
}

/// A list of texts as one text.
fn json<T: serde::Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).unwrap_or_default()
}

/// The texts of such a list; none where it is none.
fn list(text: &str) -> Vec<Option<String>> {
    serde_json::from_str(text).unwrap_or_default()
}
