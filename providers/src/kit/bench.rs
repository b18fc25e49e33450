//! A plug-in and its world as cases use them: every verb with its failure in words, and a list of what was written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::record::{Change, DnsName, RrSet, Verb, Zone};
use crate::words::listed;
use crate::{Context, ErrorKind, Provider, ProviderError, Receipt, RecordModel};

use super::told::{Shown, Told, absent};
use super::world::World;
use super::{FOREIGN_TTL, TTL};

/// A host that asks to be left alone is asked again so often.
const PATIENCE: usize = 5;
/// A pause where it does not say how long.
const PAUSE: Duration = Duration::from_secs(1);
/// What is left is removed in so many rounds.
const CLEANINGS: usize = 3;
/// It is not waited longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// A writer that is overtaken tries again, as the core would; more often than this it starves.
const TRIES: usize = 40;

/// Values by their names.
type Written = BTreeMap<DnsName, BTreeSet<String>>;

/// Why a case ended before its end.
pub(super) enum Stop {
    Failed(String),
    Skipped(String),
}

impl Stop {
    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }
}

/// `Err` with what was seen.
pub(super) fn failed<T>(seen: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(seen.into()))
}

/// The words and the error of a verb that failed where it should not.
pub(super) fn refused(verb: &str, error: &ProviderError) -> Stop {
    Stop::Failed(format!(
        "`{verb}` fails as {}: {}",
        error.kind.as_str(),
        error.message
    ))
}

/// A plug-in and its world.
pub(super) struct Bench<'a> {
    pub(super) provider: &'a dyn Provider,
    pub(super) world: &'a dyn World,
    /// Whether the plug-in can say what is there, and whether the world can.
    observes: AtomicBool,
    is_seen: AtomicBool,
    /// What was written and not yet seen to be gone.
    due: Mutex<Written>,
    /// What of it was only written in calls that were refused outright.
    refused: Mutex<BTreeSet<(DnsName, String)>>,
    /// Every error, and every word that the plug-in gave to be kept.
    pub(super) errors: Mutex<Vec<ProviderError>>,
    pub(super) receipts: Mutex<Vec<Receipt>>,
    /// What the plug-in calls the values that it put there.
    handles: Mutex<BTreeMap<(DnsName, String), String>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(provider: &'a dyn Provider, world: &'a dyn World) -> Self {
        Self {
            provider,
            world,
            observes: AtomicBool::new(true),
            is_seen: AtomicBool::new(false),
            due: Mutex::default(),
            refused: Mutex::default(),
            errors: Mutex::default(),
            receipts: Mutex::default(),
            handles: Mutex::default(),
        }
    }

    /// Finds out who can see what is there.
    pub(super) async fn look_around(&self) {
        let (Ok(zone), Ok(name)) = (self.world.zone(), self.world.name("look")) else {
            return;
        };
        let is_seen = self.world.served(&name).await.is_some();
        self.is_seen.store(is_seen, Ordering::Relaxed);
        let context = self.world.context();
        let seen = self.provider.observe(&zone, &[name], &context).await;
        let cannot = seen.is_err_and(|error| error.kind == ErrorKind::Unsupported);
        self.observes.store(!cannot, Ordering::Relaxed);
    }

    pub(super) fn observes(&self) -> bool {
        self.observes.load(Ordering::Relaxed)
    }

    pub(super) fn has_view(&self) -> bool {
        self.observes() || self.is_seen.load(Ordering::Relaxed)
    }

    /// The zone; cases that need one are not run without.
    pub(super) fn zone(&self) -> Result<Zone, Stop> {
        self.world.zone().map_err(Stop::Skipped)
    }

    pub(super) fn name(&self, label: &str) -> Result<DnsName, Stop> {
        let name = self.world.name(label);
        name.map_err(|error| Stop::skipped(format!("there is no such name in this zone: {error}")))
    }

    /// Makes `changes` true, in as many tries as the host's rate wants.
    pub(super) async fn try_apply(
        &self,
        changes: &[Change],
        believed: &[RrSet],
    ) -> Result<Receipt, ProviderError> {
        self.apply_by(self.provider, changes, believed).await
    }

    async fn apply_by(
        &self,
        provider: &dyn Provider,
        changes: &[Change],
        believed: &[RrSet],
    ) -> Result<Receipt, ProviderError> {
        let zone = self.world.zone();
        let zone = zone.map_err(|why| ProviderError::new(ErrorKind::Unsupported, why))?;
        let new = self.note(changes);
        let mut tries = 0;
        loop {
            let context = self.world.context();
            let applied = self
                .call(provider, &zone, changes, believed, &context)
                .await;
            match &applied {
                Ok(receipt) => {
                    lock(&self.receipts).push(receipt.clone());
                    if !self.observes() {
                        self.forget(changes);
                    }
                }
                Err(error) => {
                    tries += 1;
                    if self.has_waited(error, tries, &context).await {
                        continue;
                    }
                    if is_outright(error) {
                        lock(&self.refused).extend(new);
                    }
                }
            }
            return applied;
        }
    }

    /// One call, whatever comes of it. As the core does, it gives back what the plug-in called a value that is to go.
    pub(super) async fn call(
        &self,
        provider: &dyn Provider,
        zone: &Zone,
        changes: &[Change],
        believed: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        let changes: Vec<Change> = changes.iter().map(|it| self.with_handle(it)).collect();
        let applied = provider.apply(zone, &changes, believed, context).await;
        if let Ok(receipt) = &applied {
            let made = changes.iter().enumerate();
            for (nth, change) in made.filter(|(_, it)| it.verb == Verb::Ensure) {
                let handle = receipt.handles.get(nth).cloned().flatten();
                self.keep_handle(&change.name, &change.value, handle);
            }
        }
        applied
    }

    fn with_handle(&self, change: &Change) -> Change {
        let key = (change.name.clone(), change.value.clone());
        let known = match (change.verb, &change.handle) {
            (Verb::Absent, None) => lock(&self.handles).get(&key).cloned(),
            _ => None,
        };
        Change {
            handle: known.or_else(|| change.handle.clone()),
            ..change.clone()
        }
    }

    fn keep_handle(&self, name: &DnsName, value: &str, handle: Option<String>) {
        let (key, mut handles) = ((name.clone(), value.to_owned()), lock(&self.handles));
        match handle {
            Some(handle) => drop(handles.insert(key, handle)),
            None => drop(handles.remove(&key)),
        }
    }

    /// The same, where a failure is one of the case.
    pub(super) async fn apply(&self, changes: &[Change]) -> Result<Receipt, Stop> {
        self.apply_believing(changes, &[]).await
    }

    pub(super) async fn apply_believing(
        &self,
        changes: &[Change],
        believed: &[RrSet],
    ) -> Result<Receipt, Stop> {
        let applied = self.try_apply(changes, believed).await;
        applied.map_err(|error| refused(&format!("apply {}", Told(changes)), &error))
    }

    /// The same by the second instance.
    pub(super) async fn apply_second(&self, changes: &[Change]) -> Result<(), Stop> {
        let none = || Stop::skipped("there is one instance of the plug-in only");
        let second = self.world.second().ok_or_else(none)?;
        let applied = self.apply_by(second, changes, &[]).await;
        let verb = || format!("apply {} by another instance", Told(changes));
        applied.map(drop).map_err(|error| refused(&verb(), &error))
    }

    /// What the core does when somebody else was faster.
    pub(super) async fn insist(&self, change: Change) -> Result<(), Stop> {
        let change = [change];
        for _ in 0..TRIES {
            match self.try_apply(&change, &[]).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(refused(&format!("apply {}", Told(&change)), &error)),
            }
        }
        failed(format!(
            "`apply {}` was overtaken {TRIES} times",
            Told(&change)
        ))
    }

    /// What the plug-in says is at `names`; an answer to each.
    pub(super) async fn observe(&self, names: &[DnsName]) -> Result<Vec<RrSet>, Stop> {
        let sets = self.try_observe(names).await;
        let sets = sets.map_err(|error| refused("observe", &error))?;
        let answered: Vec<&DnsName> = sets.iter().map(|set| &set.name).collect();
        if answered != names.iter().collect::<Vec<_>>() {
            return failed(format!(
                "`observe` was asked for {} and answers for {}",
                listed(names),
                listed(&answered)
            ));
        }
        Ok(sets)
    }

    async fn try_observe(&self, names: &[DnsName]) -> Result<Vec<RrSet>, ProviderError> {
        let zone = self.world.zone();
        let zone = zone.map_err(|why| ProviderError::new(ErrorKind::Unsupported, why))?;
        let mut tries = 0;
        loop {
            let context = self.world.context();
            let seen = self.provider.observe(&zone, names, &context).await;
            match &seen {
                Ok(sets) => self.seen(sets),
                Err(error) => {
                    tries += 1;
                    if self.has_waited(error, tries, &context).await {
                        continue;
                    }
                }
            }
            return seen;
        }
    }

    /// Notes `error`; whether it was no more than a wish for a pause, which was kept.
    async fn has_waited(&self, error: &ProviderError, tries: usize, context: &Context) -> bool {
        lock(&self.errors).push(error.clone());
        let ErrorKind::RateLimited { after } = error.kind else {
            return false;
        };
        if tries < PATIENCE {
            let pause = after.unwrap_or(PAUSE).min(LONGEST_PAUSE);
            context.clock.sleep(pause).await;
        }
        tries < PATIENCE
    }

    /// The plug-in, and the world where it can, see exactly `values` at `name`, with that TTL; without one, with what
    /// the host makes of ours.
    pub(super) async fn serves(
        &self,
        name: &DnsName,
        values: &[&str],
        ttl: Option<u32>,
    ) -> Result<(), Stop> {
        if self.observes() {
            let seen = self.observe(std::slice::from_ref(name)).await?;
            for set in &seen {
                self.judge("`observe` shows", set, values, ttl)?;
            }
        }
        match self.world.served(name).await {
            Some(set) => self.judge("the host serves", &set, values, ttl),
            None => Ok(()),
        }
    }

    fn judge(&self, who: &str, set: &RrSet, values: &[&str], ttl: Option<u32>) -> Result<(), Stop> {
        let mut wanted: Vec<&str> = values.to_vec();
        let mut seen: Vec<&str> = set.values.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        seen.sort_unstable();
        let name = &set.name;
        if seen != wanted {
            let (seen, wanted) = (Shown(&seen), Shown(&wanted));
            return failed(format!("{who} {seen} at {name}, wanted is {wanted}"));
        }
        let ttl = ttl.or_else(|| self.world.ttl(TTL));
        match (values.is_empty(), set.ttl, ttl) {
            (true, None, _) | (false, Some(_), None) => Ok(()),
            (false, Some(seen), Some(wanted)) if seen == wanted => Ok(()),
            (true, Some(seen), _) => {
                failed(format!("{who} a TTL of {seen} at {name}, where is nothing"))
            }
            (false, None, _) => failed(format!("{who} no TTL at {name}")),
            (false, Some(seen), Some(wanted)) => failed(format!(
                "{who} the TTL {seen} at {name}, wanted is {wanted}"
            )),
        }
    }

    /// Has somebody else put `value` at `name`, and gives the TTL that it has there.
    pub(super) async fn foreign(&self, name: &DnsName, value: &str) -> Result<Option<u32>, Stop> {
        self.due()
            .entry(name.clone())
            .or_default()
            .insert(value.to_owned());
        let added = self.world.add_foreign(name, value, FOREIGN_TTL).await;
        let handle = added.map_err(|why| {
            Stop::Failed(format!(
                "somebody else could not put a value at {name}: {why}"
            ))
        })?;
        self.keep_handle(name, value, handle);
        if let known @ Some(_) = self.world.ttl(FOREIGN_TTL) {
            return Ok(known);
        }
        if !self.observes() {
            return Ok(None);
        }
        let seen = self.observe(std::slice::from_ref(name)).await?;
        Ok(seen.first().and_then(|set| set.ttl))
    }

    /// Why what was written stays there, where it does.
    pub(super) fn stays(&self) -> Option<String> {
        match self.provider.traits().model {
            RecordModel::Slots(slots) => Some(format!(
                "it has room for {slots} at a name, where a value stays until newer ones push it out"
            )),
            _ => None,
        }
    }

    /// Removes what is left of what was written; what could not be removed, in words.
    pub(super) async fn clean(&self) -> Vec<String> {
        if self.stays().is_some() {
            return Vec::new();
        }
        for nth in 0..CLEANINGS {
            let left = self.due().clone();
            if left.is_empty() {
                break;
            }
            if nth > 0 {
                self.world.context().clock.sleep(PAUSE).await;
            }
            let all = left
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |value| absent(name, value)));
            let all: Vec<Change> = all.collect();
            for batch in all.chunks(self.provider.traits().batch.max(1)) {
                // What fails is tried again, and told of at the end.
                if self.try_apply(batch, &[]).await.is_err() && batch.len() > 1 {
                    self.clean_one_by_one(batch).await;
                }
            }
            let names: Vec<DnsName> = left.into_keys().collect();
            if self.observes() && self.try_observe(&names).await.is_err() {
                for name in &names {
                    let _ = self.try_observe(std::slice::from_ref(name)).await;
                }
            }
            self.forget_refused().await;
        }
        let left = self.due();
        let told = left.iter().map(|(name, values)| {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            format!("{} at {name}", Shown(&values))
        });
        told.collect()
    }

    /// One that cannot be removed keeps no others there.
    async fn clean_one_by_one(&self, batch: &[Change]) {
        for change in batch {
            let _ = self.try_apply(std::slice::from_ref(change), &[]).await;
        }
    }

    /// What was never taken, and may not be removed either, is not there.
    async fn forget_refused(&self) {
        let refused: Vec<(DnsName, String)> = lock(&self.refused).iter().cloned().collect();
        for (name, value) in refused {
            let is_due = (self.due().get(&name)).is_some_and(|values| values.contains(&value));
            let gone = [absent(&name, &value)];
            if !is_due {
                continue;
            }
            if (self.try_apply(&gone, &[]).await).is_err_and(|error| is_outright(&error)) {
                self.forget(&gone);
            }
        }
    }

    /// Writes down what may be there from now on; what of it was not so far.
    pub(super) fn note(&self, changes: &[Change]) -> Vec<(DnsName, String)> {
        let (mut due, mut new) = (self.due(), Vec::new());
        for change in changes.iter().filter(|it| it.verb == Verb::Ensure) {
            let values = due.entry(change.name.clone()).or_default();
            let noted = (change.name.clone(), change.value.clone());
            // Another call may be taken where the first was not.
            let was_refused = lock(&self.refused).remove(&noted);
            if values.insert(change.value.clone()) || was_refused {
                new.push(noted);
            }
        }
        new
    }

    /// Where nobody can look, success is all that can be had.
    fn forget(&self, changes: &[Change]) {
        let mut due = self.due();
        for change in changes.iter().filter(|it| it.verb == Verb::Absent) {
            if let Some(values) = due.get_mut(&change.name) {
                values.remove(&change.value);
            }
        }
        due.retain(|_, values| !values.is_empty());
    }

    fn seen(&self, sets: &[RrSet]) {
        let mut due = self.due();
        for set in sets {
            if let Some(values) = due.get_mut(&set.name) {
                values.retain(|value| set.values.contains(value));
            }
        }
        due.retain(|_, values| !values.is_empty());
    }

    fn due(&self) -> MutexGuard<'_, Written> {
        lock(&self.due)
    }
}

/// Whether nothing was done, and nothing will be.
fn is_outright(error: &ProviderError) -> bool {
    error.kind.needs_person() && !error.outcome_unknown()
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
