//! The built-in server as a provider: values go to the store first and to the snapshot after, so that what was
//! answered once is answered after a crash too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_providers::record::{Change, DnsName, RrSet, Verb, Zone};
use countersign_providers::{
    Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Traits,
};
use jiff::Timestamp;
use tokio::sync::Mutex;
use tracing::trace;

use super::zone::{Published, Snapshot, Values};
use super::{NameserverError, Settings};
use crate::store::{Fence, Key, Store, StoreError, Write};

/// Values at one name: many orders may run for it at once.
const MAX_VALUES: usize = 64;
/// Octets of one value; 64 of them and their overhead fit one TCP message.
const MAX_VALUE: usize = 512;
/// Names with values: a bound on memory and on the time a snapshot takes to make.
const MAX_NAMES: usize = 10_000;
/// The longest TTL a value is given; a longer one would keep withdrawn values alive.
const MAX_TTL: u32 = 3600;
/// Changes in one `apply`.
const BATCH: usize = 100;

/// The built-in server, written to.
pub struct BuiltIn {
    settings: Settings,
    store: Arc<dyn Store>,
    fence: Fence,
    published: Arc<Published>,
    /// What the store holds; `None` after a commit whose outcome is unknown, until it is read again.
    contents: Mutex<Option<Contents>>,
}

#[derive(Clone)]
struct Contents {
    serial: u32,
    names: BTreeMap<DnsName, Values>,
}

impl BuiltIn {
    /// Loads what the store holds and publishes it.
    pub(super) async fn load(
        settings: Settings,
        store: Arc<dyn Store>,
        fence: Fence,
        now: Timestamp,
    ) -> Result<Self, NameserverError> {
        let contents = read(&settings.zone, store.as_ref(), now).await?;
        let snapshot = Snapshot::new(&settings, contents.serial, &contents.names)
            .map_err(|error| NameserverError::Settings(error.to_string()))?;
        Ok(Self {
            settings,
            store,
            fence,
            published: Arc::new(Published::new(snapshot)),
            contents: Mutex::new(Some(contents)),
        })
    }

    pub(super) fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// What the store holds. After a doubt it is read again, and published: the commit may have been made.
    async fn current(
        &self,
        contents: &Option<Contents>,
        now: Timestamp,
    ) -> Result<Contents, ProviderError> {
        if let Some(contents) = contents {
            return Ok(contents.clone());
        }
        let zone = &self.settings.zone;
        let contents = read(zone, self.store.as_ref(), now)
            .await
            .map_err(|error| unavailable(zone, &error))?;
        self.published.publish(self.snapshot(&contents)?);
        Ok(contents)
    }

    fn snapshot(&self, contents: &Contents) -> Result<Snapshot, ProviderError> {
        Snapshot::new(&self.settings, contents.serial, &contents.names)
            .map_err(|error| fatal(&self.settings.zone, &error))
    }

    async fn save(
        &self,
        before: &Contents,
        after: &Contents,
        changed: &[&DnsName],
    ) -> Result<(), ProviderError> {
        let zone = &self.settings.zone;
        let mut writes = vec![Write::Put(
            serial_key(zone),
            after.serial.to_string().into_bytes(),
        )];
        for &name in changed {
            match after.names.get(name) {
                Some(values) => {
                    let bytes = serde_json::to_vec(values).map_err(|error| fatal(zone, &error))?;
                    writes.push(Write::Put(name_key(zone, name), bytes));
                }
                None if before.names.contains_key(name) => {
                    writes.push(Write::Delete(name_key(zone, name)));
                }
                None => {}
            }
        }
        self.store
            .commit(&self.fence, &[], &writes)
            .await
            .map(|_| ())
            .map_err(|error| unavailable(zone, &error.into()))
    }

    fn check(&self, change: &Change) -> Result<(), ProviderError> {
        let zone = &self.settings.zone;
        if !change.name.is_at_or_below(zone) {
            let message = format!(
                "the built-in nameserver holds {zone}; {} is not in it",
                change.name
            );
            return Err(error(ErrorKind::Invalid, message));
        }
        if change.value.len() > MAX_VALUE {
            let message = format!(
                "the value for {} has {} octets; the built-in nameserver takes at most {MAX_VALUE}",
                change.name,
                change.value.len()
            );
            return Err(error(ErrorKind::Invalid, message));
        }
        Ok(())
    }
}

#[async_trait]
impl Provider for BuiltIn {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::Value,
            batch: BATCH,
            rate: None,
            propagation: Duration::ZERO,
        }
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        self.is_in_time(context)?;
        let zone = &self.settings.zone;
        Ok(name
            .is_at_or_below(zone)
            .then(|| Zone {
                name: zone.clone(),
                id: zone.to_string(),
            })
            .map(Held::from)
            .into_iter()
            .collect())
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        self.is_in_time(context)?;
        self.is_mine(zone)?;
        let mut guard = self.contents.lock().await;
        let contents = self.current(&guard, context.clock.now()).await?;
        let rrset = |name: &DnsName| {
            let held = contents.names.get(name);
            RrSet {
                name: name.clone(),
                ttl: held.map(|values| values.ttl),
                values: held.map(|values| values.values.clone()).unwrap_or_default(),
            }
        };
        let rrsets = names.iter().map(rrset).collect();
        *guard = Some(contents);
        Ok(rrsets)
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        _: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        self.is_in_time(context)?;
        self.is_mine(zone)?;
        for change in changes {
            self.check(change)?;
        }
        let now = context.clock.now();
        let mut guard = self.contents.lock().await;
        let before = self.current(&guard, now).await?;
        let mut after = before.clone();
        for change in changes {
            enact(&mut after.names, change)?;
        }
        if after.names == before.names {
            *guard = Some(before);
            return Ok(Receipt::default());
        }
        after.serial = next_serial(before.serial, now);
        let mut changed: Vec<&DnsName> = changes.iter().map(|change| &change.name).collect();
        changed.sort_unstable();
        changed.dedup();
        let snapshot = self.snapshot(&after)?;
        *guard = None;
        let saved = self.save(&before, &after, &changed).await;
        trace!(zone = %self.settings.zone, serial = after.serial, changes = changes.len(), ok = saved.is_ok(), "the built-in nameserver changed its zone");
        saved?;
        self.published.publish(snapshot);
        *guard = Some(after);
        Ok(Receipt::default())
    }
}

impl BuiltIn {
    fn is_in_time(&self, context: &Context) -> Result<(), ProviderError> {
        if context.clock.now() < context.deadline {
            return Ok(());
        }
        let message = format!(
            "the deadline was over before the built-in nameserver looked at {}",
            self.settings.zone
        );
        Err(error(ErrorKind::Transient, message))
    }

    fn is_mine(&self, zone: &Zone) -> Result<(), ProviderError> {
        if zone.name == self.settings.zone {
            return Ok(());
        }
        let message = format!(
            "the built-in nameserver holds {}, not {}",
            self.settings.zone, zone.name
        );
        Err(error(ErrorKind::ZoneMissing, message))
    }
}

fn enact(names: &mut BTreeMap<DnsName, Values>, change: &Change) -> Result<(), ProviderError> {
    let full = |message: String| Err(error(ErrorKind::Quota, message));
    match change.verb {
        Verb::Ensure => {
            if !names.contains_key(&change.name) && names.len() >= MAX_NAMES {
                return full(format!(
                    "the built-in nameserver holds values at {MAX_NAMES} names, its limit"
                ));
            }
            let held = names.entry(change.name.clone()).or_insert_with(|| Values {
                ttl: change.ttl.min(MAX_TTL),
                values: Vec::new(),
            });
            if held.values.contains(&change.value) {
                return Ok(());
            }
            if held.values.len() >= MAX_VALUES {
                return full(format!(
                    "{} has {MAX_VALUES} values, the limit of the built-in nameserver",
                    change.name
                ));
            }
            held.values.push(change.value.clone());
        }
        Verb::Absent => {
            if let Some(held) = names.get_mut(&change.name) {
                held.values.retain(|value| *value != change.value);
                if held.values.is_empty() {
                    names.remove(&change.name);
                }
            }
        }
    }
    Ok(())
}

/// Rising, also where the store was lost: the time in seconds, or one more than before (RFC 1982 wraps it).
fn next_serial(before: u32, now: Timestamp) -> u32 {
    clock_serial(now).max(before.wrapping_add(1))
}

fn clock_serial(now: Timestamp) -> u32 {
    u32::try_from(now.as_second()).unwrap_or(1)
}

async fn read(
    zone: &DnsName,
    store: &dyn Store,
    now: Timestamp,
) -> Result<Contents, NameserverError> {
    let serial = match store.read(&serial_key(zone)).await? {
        Some(record) => parse(&serial_key(zone), &record.value)?,
        None => clock_serial(now),
    };
    let prefix = format!("{}/", Key::of(&["nameserver", zone.as_str(), "names"]));
    let mut names = BTreeMap::new();
    for (key, record) in store.scan(&prefix).await? {
        let name = key.as_str().strip_prefix(&prefix).unwrap_or_default();
        let name = DnsName::parse(name).map_err(|_| damaged(&key))?;
        names.insert(name, parse(&key, &record.value)?);
    }
    Ok(Contents { serial, names })
}

fn parse<T: serde::de::DeserializeOwned>(key: &Key, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|_| damaged(key))
}

fn damaged(key: &Key) -> StoreError {
    StoreError::Damaged(format!(
        "the record {key} of the built-in nameserver cannot be read"
    ))
}

fn serial_key(zone: &DnsName) -> Key {
    Key::of(&["nameserver", zone.as_str(), "serial"])
}

fn name_key(zone: &DnsName, name: &DnsName) -> Key {
    Key::of(&["nameserver", zone.as_str(), "names", name.as_str()])
}

fn error(kind: ErrorKind, message: String) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind,
        code: None,
        message,
        hint: None,
    }
}

fn unavailable(zone: &DnsName, cause: &NameserverError) -> ProviderError {
    let message = format!("the built-in nameserver could not keep its zone {zone}: {cause}");
    error(ErrorKind::Transient, message)
}

fn fatal(zone: &DnsName, cause: &dyn std::error::Error) -> ProviderError {
    let message = format!("the built-in nameserver could not make its zone {zone}: {cause}");
    error(ErrorKind::Fatal, message)
}
