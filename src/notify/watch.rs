//! Looks at certificates when something happened to them or a time has come, saves which alerts are due, and has them
//! sent. The only one who writes what is stored of alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::{between, later};
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::alert::{self, Alert};
use super::channel;
use super::heartbeat::{Heart, Rounds};
use super::looks::Looks;
use super::outbox::{Outbox, Taken, Told};
use super::rules::{self, Outgoing, Record};
use crate::clock::Clock;
use crate::config::{Address, AlertChannel};
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::engine::timekeeping::Doubt;
use crate::run::overview::{self, Failing};
use crate::run::progress::{self, Progress};
use crate::run::records;
use crate::run::shared::Shared;
use crate::store::{Keep, Saved, StoreError, Version, Write};
use crate::supervise;

/// A sleep lasts at most this long; then the wall clock is read again.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// What the store refused is done again after this.
const AFTER_ERROR: Duration = Duration::from_secs(60);
/// Asked to stop, messages on their way have this long to be taken.
const DRAIN: Duration = Duration::from_secs(3);

/// Alerts and heartbeat at work.
pub struct Notifier {
    configured: UnboundedSender<Arc<Shared>>,
    rounds: Rounds,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Notifier {
    /// Everything that happens from now on is heard, and everything is looked at once.
    pub fn start(shared: Arc<Shared>) -> Self {
        let (configured, reloads) = unbounded_channel();
        let (rounds, stop) = (Rounds::default(), CancellationToken::new());
        let told = (shared.watchers)
            .listen_for(|it| matches!(it, Progress::Finished(_) | Progress::ByHand(_)));
        let watch = Watch::new(shared, rounds.clone(), stop.clone());
        Self {
            configured,
            rounds,
            stop,
            task: tokio::spawn(watch.serve(told, reloads)),
        }
    }

    /// From now on `shared` holds.
    pub fn reload(&self, shared: Arc<Shared>) {
        // It is gone only after a fault that was logged.
        let _ = self.configured.send(shared);
    }

    /// What the scheduler tells that it is alive.
    pub fn rounds(&self) -> Rounds {
        self.rounds.clone()
    }

    /// Lets messages on their way be taken, for a moment; the rest is for the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!("alerts: {error}");
        }
    }
}

/// A channel at work.
struct Sending {
    settings: AlertChannel,
    tell: UnboundedSender<Told>,
    stop: CancellationToken,
    /// The ids of the alerts that it was told, until it is saved that they were taken.
    handed: BTreeSet<String>,
}

impl Sending {
    /// Has the channel forget what it was told of `name` and is not in `outbox` any more: more came than are kept.
    fn give_up(&mut self, name: &CertificateName, outbox: &[Outgoing]) {
        let Some(first) = outbox.first().filter(|it| it.alert.left_out > 0) else {
            return;
        };
        let kept: BTreeSet<&String> = outbox.iter().map(|it| &it.alert.id).collect();
        let prefix = alert::prefix(name);
        let told = self.handed.range(prefix.clone()..);
        let told = told.take_while(|id| id.starts_with(&prefix));
        let ids: BTreeSet<String> = told.filter(|id| !kept.contains(id)).cloned().collect();
        if ids.is_empty() {
            return;
        }
        self.handed.retain(|id| !ids.contains(id));
        let first = Box::new(first.alert.clone());
        // A channel that has ended is about to be replaced.
        let _ = self.tell.send(Told::GiveUp { ids, first });
    }
}

struct Watch {
    shared: Arc<Shared>,
    clock: Clock,
    /// When this process began to watch.
    begun: Timestamp,
    looks: Looks,
    /// The channels of the configuration, by their ids.
    channels: BTreeMap<String, Sending>,
    taken: UnboundedSender<Taken>,
    heard: UnboundedReceiver<Taken>,
    /// What was taken and could not be saved.
    unsaved: Vec<Taken>,
    /// Records that could not be saved: what they hold was announced all the same.
    unkept: BTreeMap<CertificateName, Saved<Record>>,
    /// Certificates that are failing, have expired or cannot be looked at.
    unwell: BTreeSet<CertificateName>,
    health: watch::Sender<bool>,
    heart: Option<(Address, CancellationToken)>,
    rounds: Rounds,
    stop: CancellationToken,
}

impl Watch {
    fn new(shared: Arc<Shared>, rounds: Rounds, stop: CancellationToken) -> Self {
        let (taken, heard) = unbounded_channel();
        let clock = shared.clock.clone();
        Self {
            begun: clock.now(),
            looks: Looks::default(),
            channels: BTreeMap::new(),
            taken,
            heard,
            unsaved: Vec::new(),
            unkept: BTreeMap::new(),
            unwell: BTreeSet::new(),
            health: watch::Sender::new(false),
            heart: None,
            rounds,
            stop,
            clock,
            shared,
        }
    }

    async fn serve(
        mut self,
        mut told: UnboundedReceiver<progress::Told>,
        mut reloads: UnboundedReceiver<Arc<Shared>>,
    ) {
        // After a fault everything is looked at anew: what is due stands in the store.
        while supervise::fell_over("the alerts", self.watch(&mut told, &mut reloads)).await {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.clock.sleep(AFTER_ERROR) => {}
            }
        }
        self.drain().await;
    }

    async fn watch(
        &mut self,
        told: &mut UnboundedReceiver<progress::Told>,
        reloads: &mut UnboundedReceiver<Arc<Shared>>,
    ) {
        let stop = self.stop.clone();
        self.take_over().await;
        loop {
            let clock = self.clock.clone();
            let wake = self.looks.wake().filter(|_| !self.is_lost_in_time());
            let wake = wake.map(|at| between(self.shared.now(), at));
            let pause = wake.map_or(LONGEST_SLEEP, |wake| wake.min(LONGEST_SLEEP));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(shared) = reloads.recv() => {
                    self.shared = shared;
                    self.take_over().await;
                }
                Some(taken) = self.heard.recv() => self.note(taken).await,
                // What it came to is saved by then.
                Some((name, _)) = told.recv() => self.look(&name).await,
                () = clock.sleep(pause) => self.look_at_due().await,
            }
            self.tell_health();
        }
    }

    /// Has channels and heart as they are configured, and looks at everything once.
    async fn take_over(&mut self) {
        self.use_channels();
        self.use_heart();
        // What is left of them is found by the next start.
        if let Err(error) = self.forget_gone().await {
            tracing::error!("alerts: {error}");
        }
        let config = Arc::clone(&self.shared.config);
        (self.unwell).retain(|name| config.certificates.contains_key(name));
        (self.unkept).retain(|name, _| config.certificates.contains_key(name));
        for name in config.certificates.keys() {
            if self.stop.is_cancelled() {
                return;
            }
            self.look(name).await;
        }
        self.tell_health();
    }

    fn use_channels(&mut self) {
        let configured: BTreeMap<String, AlertChannel> = (self.shared.config.alerts.iter())
            .map(|settings| (channel::id(settings), settings.clone()))
            .collect();
        self.channels.retain(|id, sending| {
            let stays = configured.get(id) == Some(&sending.settings);
            if !stays {
                sending.stop.cancel();
            }
            stays
        });
        for (id, settings) in configured {
            if self.channels.contains_key(&id) {
                continue;
            }
            let ((tell, told), stop) = (unbounded_channel(), self.stop.child_token());
            let outbox = Outbox {
                id: id.clone(),
                name: settings.shown(),
                carrier: channel::carrier(&settings, &self.clock),
                told,
                taken: self.taken.clone(),
                notice: self.shared.notices.speaker("alerts"),
                clock: self.clock.clone(),
                stop: stop.clone(),
            };
            tokio::spawn(outbox.serve());
            let sending = Sending {
                settings,
                tell,
                stop,
                handed: BTreeSet::new(),
            };
            self.channels.insert(id, sending);
        }
    }

    fn use_heart(&mut self) {
        let configured = self.shared.config.heartbeat.clone();
        let present = self.heart.as_ref().map(|(address, _)| address);
        if configured.as_ref() == present {
            return;
        }
        if let Some((_, stop)) = self.heart.take() {
            stop.cancel();
        }
        self.heart = configured.map(|address| {
            let stop = self.stop.child_token();
            let heart = Heart {
                address: address.clone(),
                health: self.health.subscribe(),
                rounds: self.rounds.clone(),
                notice: self.shared.notices.speaker("heartbeat"),
                clock: self.clock.clone(),
                stop: stop.clone(),
            };
            tokio::spawn(heart.serve());
            (address, stop)
        });
    }

    /// Of a certificate that is configured no more nothing is sent.
    async fn forget_gone(&mut self) -> Result<(), StoreError> {
        let session = &self.shared.session;
        let all = session.load_all::<Record>(records::ALERTS).await?;
        let configured = self.shared.config.certificates.keys();
        let configured: BTreeSet<_> = configured.map(records::alert).collect();
        for saved in all {
            if configured.contains(&saved.key) {
                continue;
            }
            self.delete(&saved).await?;
            for outgoing in saved.value.outbox {
                for sending in self.channels.values_mut() {
                    sending.handed.remove(&outgoing.alert.id);
                    let name = outgoing.alert.certificate.clone();
                    let _ = sending.tell.send(Told::Drop(name));
                }
            }
        }
        Ok(())
    }

    /// Looks at every certificate whose time has come, and does again what the store refused.
    /// While nobody knows what the time is, nobody is told that something is late.
    async fn look_at_due(&mut self) {
        if self.is_lost_in_time() {
            return;
        }
        for taken in std::mem::take(&mut self.unsaved) {
            match self.shared.session.trouble() {
                None => self.note(taken).await,
                // The looks below find out when there is room again.
                Some(_) => self.unsaved.push(taken),
            }
        }
        while let Some(name) = self.looks.next(self.shared.now()) {
            self.look(&name).await;
        }
    }

    async fn look(&mut self, name: &CertificateName) {
        let next = match self.try_look(name).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(certificate = %name, "alerts: {error}");
                self.unwell.insert(name.clone());
                Some(later(self.shared.now(), AFTER_ERROR))
            }
        };
        self.looks.set(name, next);
    }

    /// When to look again though nothing happens.
    async fn try_look(&mut self, name: &CertificateName) -> Result<Option<Timestamp>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let wanted = shared.config.certificates.get(name);
        let is_asked = !self.channels.is_empty() || self.heart.is_some();
        let Some(wanted) = wanted.filter(|_| is_asked) else {
            self.unwell.remove(name);
            return Ok(None);
        };
        if self.is_lost_in_time() {
            // Once that is known again.
            return Ok(Some(Timestamp::MIN));
        }
        let (session, now) = (Some(&shared.session), shared.now());
        let nobody = BTreeMap::new();
        let mut view = overview::view(&shared.config, name, wanted, session, now, &nobody).await?;
        if let Some(why) = shared.session.trouble().filter(|_| view.due.at <= now) {
            // Its failure is one of those things that cannot be saved.
            view.failure.get_or_insert(Failing {
                failure: Failure::new(Whose::You, why),
                retry_at: None,
                count: 1,
            });
        }
        match rules::is_unwell(&view) {
            true => self.unwell.insert(name.clone()),
            false => self.unwell.remove(name),
        };
        let mut saved = self.load(name).await?;
        let next = saved.value.look(&view, now, self.begun);
        if !self.channels.is_empty() {
            self.save(name, saved).await?;
        }
        Ok(next)
    }

    fn is_lost_in_time(&self) -> bool {
        matches!(self.shared.doubt(), Some(Doubt::Jumped { .. }))
    }

    /// Notes what a channel has taken.
    async fn note(&mut self, taken: Taken) {
        let mut rest = taken.alerts.into_iter();
        while let Some(alert) = rest.next() {
            if let Err(error) = self.try_note(&taken.channel, &alert).await {
                tracing::error!(certificate = %alert.certificate, "alerts: {error}");
                let alerts = [alert].into_iter().chain(rest).collect();
                let channel = taken.channel;
                self.unsaved.push(Taken { channel, alerts });
                return;
            }
        }
    }

    async fn try_note(&mut self, channel: &str, alert: &Alert) -> Result<(), StoreError> {
        let mut saved = self.load(&alert.certificate).await?;
        saved.value.sent(&alert.id, channel);
        self.save(&alert.certificate, saved).await?;
        if let Some(sending) = self.channels.get_mut(channel) {
            sending.handed.remove(&alert.id);
        }
        tracing::debug!(certificate = %alert.certificate, alert = alert.id, channel, "alert taken");
        Ok(())
    }

    async fn load(&self, name: &CertificateName) -> Result<Saved<Record>, StoreError> {
        if let Some(saved) = self.unkept.get(name) {
            return Ok(saved.clone());
        }
        let key = records::alert(name);
        let saved = self.shared.session.load(key.clone()).await?;
        Ok(saved.unwrap_or_else(|| Saved::new(key, Record::default())))
    }

    /// Saves what is to be kept, and then has sent what is to be sent: also what a process before this one left.
    async fn save(
        &mut self,
        name: &CertificateName,
        mut saved: Saved<Record>,
    ) -> Result<(), StoreError> {
        self.unkept.remove(name);
        saved.value.settle(self.channels.keys());
        if saved.value.is_empty() {
            return self.delete(&saved).await;
        }
        let session = &self.shared.session;
        // A person must hear also when nothing can be saved, and most of all then: at worst he hears it twice.
        let kept = session.save(&mut [&mut saved], Vec::new()).await;
        for (id, sending) in &mut self.channels {
            sending.give_up(name, &saved.value.outbox);
            for outgoing in &saved.value.outbox {
                let alert = &outgoing.alert;
                if !outgoing.sent.contains(id) && sending.handed.insert(alert.id.clone()) {
                    // A channel that has ended is about to be replaced.
                    let _ = sending.tell.send(Told::Send(Box::new(alert.clone())));
                }
            }
        }
        if kept.is_err() {
            self.unkept.insert(name.clone(), saved);
        }
        kept
    }

    async fn delete(&self, saved: &Saved<Record>) -> Result<(), StoreError> {
        let (key, version) = saved.expectation();
        if version != Version::ABSENT {
            let gone = [Write::Delete(key.clone())];
            let session = &self.shared.session;
            session.commit(&[(key, version)], &gone).await?;
        }
        Ok(())
    }

    fn tell_health(&self) {
        let is_working = self.shared.session.trouble().is_none() && !self.is_lost_in_time();
        let is_healthy = self.unwell.is_empty() && is_working;
        self.health.send_if_modified(|health| {
            let was = std::mem::replace(health, is_healthy);
            was != is_healthy
        });
    }

    /// Saves what is taken while the channels end.
    async fn drain(mut self) {
        let clock = self.clock.clone();
        // Their ends close what is heard, once ours is gone.
        self.taken = unbounded_channel().0;
        let all = async {
            while let Some(taken) = self.heard.recv().await {
                self.note(taken).await;
            }
        };
        clock.timeout(DRAIN, all).await;
    }
}

#[cfg(test)]
mod tests;
