//! The I/O of the ledger: gathers what is wanted of one zone, saves it, asks the DNS host once, saves what came.
//!
//! What an entry wants is decided in `engine::ledger`; here is when a batch leaves and how a refused one is split.

mod batch;
mod hosts;
mod settle;
#[cfg(test)]
mod tests;
mod zone;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::record::Zone;
use countersign_providers::{Provider, ProviderError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::attempt::Placed;
use crate::engine::ledger::{Entry, Event, Owner, RecordId};
use crate::store::{Keep, Key, Saved, Session, StoreError, Write};

use hosts::Hosts;
pub use hosts::{joint_name, members, spoken};
use settle::Spreading;
use zone::{Request, ZoneTask};

/// Under which keys entries are kept.
pub const PREFIX: &str = "ledger/";
/// Requests that one zone may have waiting; more than all certificates in flight ever make.
const QUEUE: usize = 4096;

/// Puts TXT values at DNS hosts and takes them away again. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

/// What a zone's task is asked by.
type Queue = mpsc::Sender<Request>;

struct Inner {
    session: Session,
    hosts: Arc<Hosts>,
    clock: Clock,
    zones: Mutex<HashMap<(String, Zone), Queue>>,
    /// Authorizations on their way to a DNS host.
    approaching: watch::Sender<Approaching>,
    /// Values of which the host will say when all of its servers have them.
    spreading: Spreading,
    /// Values that are to be gone and are not yet, by zone.
    leaving: watch::Sender<HashMap<(String, Zone), Leaving>>,
}

/// Authorizations on their way to a DNS host.
#[derive(Clone, Copy, Debug, Default)]
struct Approaching {
    /// Those whose value is not there yet.
    all: usize,
    /// Those of them that have already asked for it.
    asked: usize,
}

/// Values of one zone that are to be gone and are not yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// How many.
    pub values: usize,
    /// Why the host does not let them go.
    pub failure: Option<String>,
}

/// What is to be gone and is not yet, as it changes.
pub struct Departures(watch::Receiver<HashMap<(String, Zone), Leaving>>);

impl Departures {
    /// Waits until something was changed.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The ledger is gone: nothing changes any more.
            std::future::pending().await
        }
    }

    /// Whether nothing of ours is left anywhere.
    pub fn is_over(&self) -> bool {
        self.0.borrow().values().all(|zone| zone.values == 0)
    }
}

/// Why a value is not there.
#[derive(Debug, thiserror::Error)]
pub enum PresentError {
    /// The host refused or did not answer.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// It could not be saved, so the host was not asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such provider any more.
    #[error("the provider {0} is not in the configuration any more")]
    NoProvider(String),
}

/// Why a value is not known to be gone.
#[derive(Debug, thiserror::Error)]
pub enum ClearError {
    /// The host refused or did not answer; it is asked again later.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// It could not be saved, so the host was not asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such provider any more.
    #[error("the provider {0} is not in the configuration any more")]
    NoProvider(String),
    /// An order needs it.
    #[error("an order needs the value")]
    Wanted,
}

impl Ledger {
    /// Loads every entry. Owners for whom `lives` is false are forgotten, so that what a dead process left is removed.
    pub async fn start(
        session: Session,
        providers: BTreeMap<String, Arc<dyn Provider>>,
        clock: Clock,
        lives: impl Fn(&Owner) -> bool,
    ) -> Result<Self, StoreError> {
        let ledger = Self(Arc::new(Inner {
            session,
            hosts: Arc::default(),
            clock,
            zones: Mutex::default(),
            approaching: watch::Sender::default(),
            spreading: Spreading::default(),
            leaving: watch::Sender::default(),
        }));
        ledger.use_hosts(providers, lives).await?;
        Ok(ledger)
    }

    /// From now on `providers` are the hosts, whatever was known of them. The entries of those that are new are taken up.
    pub async fn use_hosts(
        &self,
        providers: BTreeMap<String, Arc<dyn Provider>>,
        lives: impl Fn(&Owner) -> bool,
    ) -> Result<(), StoreError> {
        let entries = self.0.session.load_all::<Entry>(PREFIX).await?;
        let mut by_zone: HashMap<_, Vec<Saved<Entry>>> = HashMap::new();
        for entry in entries {
            let at = (
                entry.value.record.provider.clone(),
                entry.value.record.zone.clone(),
            );
            by_zone.entry(at).or_default().push(entry);
        }
        for (requests, orphans) in self.take_up(providers, by_zone) {
            for (owner, record) in orphans.into_iter().filter(|(owner, _)| !lives(owner)) {
                let (reply, _) = oneshot::channel();
                let _ = requests
                    .send(Request::Release {
                        owner,
                        record,
                        reply,
                    })
                    .await;
            }
        }
        Ok(())
    }

    /// Has `record` put at its host; answers when the host has taken it.
    pub async fn present(
        &self,
        owner: Owner,
        record: RecordId,
        ttl: u32,
    ) -> Result<Placed, PresentError> {
        let requests = self
            .zone(&record.provider, &record.zone)
            .ok_or_else(|| PresentError::NoProvider(record.provider.clone()))?;
        tracing::debug!(name = %record.name, zone = %record.zone.name, provider = record.provider, "a TXT value is to be there");
        let (reply, answer) = oneshot::channel();
        let sent = requests
            .send(Request::Present {
                owner,
                record,
                ttl,
                reply,
            })
            .await;
        // After the request is in the queue: a batch must not leave between the two.
        let _asked = Asked::new(&self.0.approaching);
        match (sent, answer.await) {
            (Ok(()), Ok(result)) => result,
            _ => Err(PresentError::Store(StoreError::Io(
                "the ledger has stopped".to_owned(),
            ))),
        }
    }

    /// Waits until the host says that all of its servers have `record`, or no longer than it usually takes.
    pub async fn settled(&self, record: &RecordId) {
        self.0.spreading.over(record).await;
    }

    /// Wants `record` no more; answers when that is saved. Its removal goes on by itself.
    pub async fn release(&self, owner: Owner, record: RecordId) -> Result<(), StoreError> {
        let Some(requests) = self.zone(&record.provider, &record.zone) else {
            return self.note_release(owner, &record).await;
        };
        tracing::debug!(name = %record.name, zone = %record.zone.name, provider = record.provider, "a TXT value is wanted no more");
        let (reply, answer) = oneshot::channel();
        let sent = requests
            .send(Request::Release {
                owner,
                record,
                reply,
            })
            .await;
        match (sent, answer.await) {
            (Ok(()), Ok(result)) => result,
            _ => Err(StoreError::Io("the ledger has stopped".to_owned())),
        }
    }

    /// Has `record` removed at its host, whoever put it there, unless an order needs it; answers when the host says that
    /// it is gone. After a failure its removal goes on by itself, unless the host refused it and it never was ours.
    pub async fn clear(&self, record: RecordId) -> Result<(), ClearError> {
        let requests = self
            .zone(&record.provider, &record.zone)
            .ok_or_else(|| ClearError::NoProvider(record.provider.clone()))?;
        tracing::debug!(name = %record.name, zone = %record.zone.name, provider = record.provider, "a TXT value is cleared away");
        let (reply, answer) = oneshot::channel();
        let sent = requests.send(Request::Clear { record, reply }).await;
        match (sent, answer.await) {
            (Ok(()), Ok(result)) => result,
            _ => Err(StoreError::Io("the ledger has stopped".to_owned()).into()),
        }
    }

    /// Keeps no account of `record` any more, which is gone though its provider is not configured any more.
    pub async fn write_off(&self, record: &RecordId) -> Result<(), StoreError> {
        // Where there is one, its zone's task keeps account.
        if self.host(&record.provider).is_some() {
            return Ok(());
        }
        let session = &self.0.session;
        let Some(entry) = session.load::<Entry>(key(record)).await? else {
            return Ok(());
        };
        let write = Write::Delete(entry.key.clone());
        session.commit(&[entry.expectation()], &[write]).await?;
        Ok(())
    }

    /// Every value that is kept account of.
    pub async fn entries(session: &Session) -> Result<Vec<Entry>, StoreError> {
        let entries = session.load_all::<Entry>(PREFIX).await?;
        Ok(entries.into_iter().map(|entry| entry.value).collect())
    }

    /// Of a host that is not configured: whoever takes it up again finds that nobody wants the value.
    async fn note_release(&self, owner: Owner, record: &RecordId) -> Result<(), StoreError> {
        let session = &self.0.session;
        let Some(mut entry) = session.load::<Entry>(key(record)).await? else {
            return Ok(());
        };
        let now = self.0.clock.now();
        entry.value.apply(now, Event::Released(owner));
        session.save(&mut [&mut entry], Vec::new()).await
    }

    /// Notes that one attempt has `now` authorizations on their way instead of `before`.
    pub fn approach(&self, before: usize, now: usize) {
        if before != now {
            self.0
                .approaching
                .send_modify(|count| count.all = (count.all + now).saturating_sub(before));
        }
    }

    /// Tells of every change of what is to be gone.
    pub fn leaving(&self) -> Departures {
        Departures(self.0.leaving.subscribe())
    }

    /// Waits until nothing of ours is left at any host, at most `limit`; what is left then.
    pub async fn quiet(&self, limit: Duration) -> Vec<((String, Zone), Leaving)> {
        let mut leaving = self.0.leaving.subscribe();
        let gone = leaving.wait_for(|zones| zones.values().all(|zone| zone.values == 0));
        self.0.clock.timeout(limit, gone).await;
        let zones = self.0.leaving.borrow();
        let left = zones.iter().filter(|(_, zone)| zone.values > 0);
        left.map(|(at, zone)| (at.clone(), zone.clone())).collect()
    }

    /// The host of that name, which may be several.
    pub fn host(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.0.hosts.host(name)
    }

    /// Starts the tasks of the zones of new hosts that something is kept of; those of other zones go on. Nobody can begin
    /// such a zone meanwhile, without what is kept of it.
    fn take_up(
        &self,
        providers: BTreeMap<String, Arc<dyn Provider>>,
        by_zone: HashMap<(String, Zone), Vec<Saved<Entry>>>,
    ) -> Vec<(Queue, Vec<(Owner, RecordId)>)> {
        let mut zones = self.zones();
        self.0.hosts.add(providers);
        let mut new = Vec::new();
        for (at, entries) in by_zone {
            // A provider that is gone cannot be asked: its entries stay, and `status` names them.
            if zones.contains_key(&at) || self.0.hosts.host(&at.0).is_none() {
                continue;
            }
            let owners = |entry: &Saved<Entry>| {
                let entry = &entry.value;
                let owned = entry.owners().map(|it| (it.clone(), entry.record.clone()));
                owned.collect::<Vec<_>>()
            };
            let owned = entries.iter().flat_map(owners).collect();
            let queue = self.begin(at.clone(), entries);
            zones.insert(at, queue.clone());
            new.push((queue, owned));
        }
        new
    }

    fn zones(&self) -> MutexGuard<'_, HashMap<(String, Zone), Queue>> {
        self.0.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of one zone; its task is started when it is not there yet.
    fn zone(&self, provider: &str, zone: &Zone) -> Option<Queue> {
        let mut zones = self.zones();
        self.0.hosts.host(provider)?;
        let at = (provider.to_owned(), zone.clone());
        let queue = zones.entry(at.clone());
        Some(queue.or_insert_with(|| self.begin(at, Vec::new())).clone())
    }

    /// Starts the task of one zone.
    fn begin(&self, at: (String, Zone), entries: Vec<Saved<Entry>>) -> Queue {
        let (queue, requests) = mpsc::channel(QUEUE);
        let task = ZoneTask::new(&self.0, at, entries, requests);
        // Before anybody can ask whether all is quiet.
        task.publish();
        tokio::spawn(task.run());
        queue
    }
}

/// Counts one authorization as having asked, for as long as it waits for its answer.
struct Asked<'a>(&'a watch::Sender<Approaching>);

impl<'a> Asked<'a> {
    fn new(approaching: &'a watch::Sender<Approaching>) -> Self {
        approaching.send_modify(|count| count.asked += 1);
        Self(approaching)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.asked -= 1);
    }
}

impl Approaching {
    /// Whether everybody who is on the way has asked.
    fn is_complete(self) -> bool {
        self.all <= self.asked
    }
}

/// Where an entry is kept.
fn key(record: &RecordId) -> Key {
    let zone = &record.zone;
    let segments = [
        "ledger",
        &record.provider,
        zone.name.as_str(),
        &zone.id,
        record.name.as_str(),
        &record.value,
    ];
    // base64url is case-sensitive and keys are not made for upper case: it is percent-encoded, which keeps it apart.
    Key::of(&segments)
}
