//! What runs next: which certificates are due, in which order, how many at once. One pass over what is due now, or for
//! as long as the daemon runs.

mod reload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument;

use super::LONGEST_SLEEP;
use super::clockwatch::Clockwatch;
use super::job::{self, Job};
use super::looking;
use super::outages::Outages;
use super::plan::{Plan, Turn};
use super::progress::{Progress, Told};
use super::shared::Shared;
use super::stop::Stop;
use super::worker::is_interruption;
use crate::engine::names::CertificateName;
use crate::engine::reaction::Failure;
use crate::store::StoreError;

/// A certificate whose turn failed gets the next one no sooner, whatever is saved of it: perhaps nothing could be.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// And one whose turn went well.
const AFTER_SUCCESS: Duration = Duration::from_secs(1);
/// What is configured no more is looked at so often; what a reload changes, at once.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(86_400);
/// Asked to leave, everybody has this long to save what is under way.
const DRAIN: Duration = Duration::from_secs(4);

/// What one pass is to do.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only these; all when empty.
    pub only: BTreeSet<CertificateName>,
    /// Also what is not due.
    pub force: bool,
    /// Whether stored pauses after failures are skipped: a person asked.
    pub ignore_back_off: bool,
}

impl Selection {
    /// Those of the configuration that are meant.
    fn names(&self, shared: &Shared) -> Vec<CertificateName> {
        let names = shared.certificates.keys();
        names.filter(|name| self.means(name)).cloned().collect()
    }

    /// Whether `name` is meant.
    pub fn means(&self, name: &CertificateName) -> bool {
        self.only.is_empty() || self.only.contains(name)
    }
}

/// What one pass came to, a certificate each.
pub type Report = Vec<(CertificateName, Result<(), Failure>)>;

/// One pass: everything that is due is issued and delivered, the most urgent first, as many at once as each authority
/// bears. One bad certificate delays no other.
pub async fn pass(
    shared: &Arc<Shared>,
    selection: &Selection,
    stop: &Stop,
) -> Result<Report, StoreError> {
    let mut crew = Crew::new(Arc::clone(shared), stop.clone());
    let mut jobs = HashMap::new();
    for name in selection.names(shared) {
        if let Some(job) = job::job(shared, &name, selection).await? {
            let at = Timestamp::MIN;
            let turn = job::turn(shared, &name).await?;
            crew.plan.set(name.clone(), Turn { at, ..turn });
            jobs.insert(name, job);
        }
    }
    let mut report = Vec::new();
    loop {
        while let Some(name) = crew.plan.start(shared.clock.now()) {
            let job = jobs.remove(&name);
            crew.begin(name, job);
        }
        tokio::select! {
            biased;
            Some((name, _)) = crew.by_hand.recv() => crew.plan.stand_up(&name),
            // Only the joining may be cut off.
            joined = crew.tasks.join_next_with_id() => {
                let Some(joined) = joined else {
                    return Ok(report);
                };
                if let Some((name, result)) = crew.heard(joined).await {
                    crew.plan.remove(&name);
                    report.push((name, result));
                }
            }
        }
    }
}

/// When the first certificate wants something; `None` when there is none.
pub async fn next(shared: &Shared) -> Result<Option<Timestamp>, StoreError> {
    let mut next: Option<Timestamp> = None;
    for name in shared.certificates.keys() {
        let at = job::turn(shared, name).await?.at;
        next = Some(next.map_or(at, |next| next.min(at)));
    }
    Ok(next)
}

/// Those that have something to do.
pub type Begun = Result<Vec<CertificateName>, StoreError>;

/// What the daemon is told while it runs.
pub enum Order {
    /// There is another configuration.
    Reload(Arc<Shared>),
    /// A person asks for a pass.
    Renew {
        /// Over these.
        selection: Selection,
        /// Who has something to do in it.
        reply: oneshot::Sender<Begun>,
    },
}

/// Shows from outside that certificates are given their turns.
pub struct Pulse {
    /// At least this often.
    pub every: Duration,
    /// Called each time.
    pub beat: Box<dyn Fn() + Send>,
}

/// Gives every certificate its turns until asked to stop; orders are left as they are then, for the next start.
pub async fn serve(
    shared: Arc<Shared>,
    mut orders: mpsc::Receiver<Order>,
    stop: Stop,
    pulse: Pulse,
) {
    let longest = LONGEST_SLEEP.min(pulse.every);
    let mut crew = Crew::new(shared, stop.clone());
    crew.plan_all().await;
    let mut sweep: Option<Duration> = None;
    let (mut leaving, mut was_at_rest) = (crew.shared.ledger.leaving(), false);
    let mut next_try = Duration::ZERO;
    let mut outages = Outages::default();
    let mut watch = Clockwatch::open(&crew.shared).await;
    while !stop.is_asked() {
        let look = watch.look(&crew.shared).await;
        crew.plan.doubt(look.is_doubted);
        if look.is_other {
            crew.plan_all().await;
        }
        if look.is_back {
            crew.begin_anew();
        }
        // Before anybody begins, who would find it changed; and then with the right time.
        if sweep.is_none_or(|at| look.is_sure && crew.shared.clock.elapsed() >= at) {
            let (now, passed) = (crew.shared.clock.now(), crew.shared.clock.elapsed());
            sweep = Some(
                passed
                    + if look.is_sure {
                        BETWEEN_SWEEPS
                    } else {
                        Duration::ZERO
                    },
            );
            crew.sweep(look.is_sure.then_some(now)).await;
        }
        // While nothing can be saved, one after the other finds out whether it can again.
        let is_unsaved = crew.shared.session.trouble().is_some();
        while !is_unsaved || crew.shared.clock.elapsed() >= next_try {
            let Some(name) = crew.plan.start(crew.shared.clock.now()) else {
                break;
            };
            crew.begin(name, None);
            next_try = crew.shared.clock.elapsed() + AFTER_FAILURE;
        }
        if is_unsaved && crew.shared.clock.elapsed() >= next_try {
            // Nobody has anything to save.
            watch.try_to_save(&crew.shared).await;
            next_try = crew.shared.clock.elapsed() + AFTER_FAILURE;
        }
        watch.ask(&crew.shared, crew.plan.puts_off());
        outages.ask(&crew.shared, crew.plan.awaited());
        (pulse.beat)();
        let is_at_rest = crew.tasks.is_empty() && crew.looks.is_empty() && leaving.is_over();
        if is_at_rest && !was_at_rest {
            tracing::trace!("at rest");
        }
        was_at_rest = is_at_rest;
        let pause = match crew.plan.wake() {
            _ if is_unsaved => next_try.saturating_sub(crew.shared.clock.elapsed()),
            Some(wake) => crew.shared.clock.until(wake).min(longest),
            None => longest,
        };
        let clock = crew.shared.clock.clone();
        tokio::select! {
            biased;
            () = stop.asked() => {}
            Some(order) = orders.recv() => match order {
                Order::Reload(shared) => {
                    crew.take_over(shared).await;
                }
                Order::Renew { selection, reply } => {
                    crew.look(selection, reply);
                }
            },
            Some((name, _)) = crew.by_hand.recv() => crew.plan.stand_up(&name),
            Some(looked) = crew.looks.join_next_with_id() => crew.hurry(looked).await,
            // Only the joining may be cut off by another branch, not what is made of it.
            Some(joined) = crew.tasks.join_next_with_id() => {
                let Some((name, result)) = crew.heard(joined).await else {
                    continue;
                };
                let failure = result.err().filter(|it| !is_interruption(it));
                if let Some(failure) = &failure {
                    crew.log_failure(&name, failure).await;
                }
                crew.plan_again(name, failure.is_none()).await;
            }
            () = watch.answered(&crew.shared) => {}
            authority = outages.answered() => crew.follow(&authority, 1),
            () = leaving.changed() => {}
            () = clock.sleep(pause) => {}
        }
    }
    watch.close(&crew.shared).await;
    let clock = crew.shared.clock.clone();
    let all = async {
        while let Some(joined) = crew.tasks.join_next_with_id().await {
            crew.heard(joined).await;
        }
    };
    clock.timeout(DRAIN, all).await;
}

/// What a person asked for, until it is known who has something to do.
struct Asked {
    selection: Selection,
    reply: oneshot::Sender<Begun>,
    /// Those that were at work already.
    at_work: Vec<CertificateName>,
    /// Those that are looked at, and begin nothing meanwhile.
    held: BTreeSet<CertificateName>,
}

/// How a look ended.
type Looked = Result<(Id, Result<BTreeSet<CertificateName>, StoreError>), JoinError>;
/// How a task ended.
type Joined = Result<(Id, Ended), JoinError>;

/// What came of one at work, and the authority that issued what it has now, if one did.
struct Ended {
    issued_by: Option<String>,
    result: Result<(), Failure>,
}

/// Those at work, and who goes next.
struct Crew {
    shared: Arc<Shared>,
    plan: Plan,
    tasks: JoinSet<Ended>,
    names: HashMap<Id, CertificateName>,
    /// What a person asked of those whose turn has not come yet.
    asked: HashMap<CertificateName, Selection>,
    looks: JoinSet<Result<BTreeSet<CertificateName>, StoreError>>,
    looking: HashMap<Id, Asked>,
    stops: BTreeMap<CertificateName, Stop>,
    /// Those at work whose targets were changed meanwhile.
    look_again: BTreeSet<CertificateName>,
    /// Those at work that are configured no more and only give up what they have.
    leaving: BTreeSet<CertificateName>,
    /// Those at work for which a person is to do something.
    by_hand: UnboundedReceiver<Told>,
    stop: Stop,
}

impl Crew {
    fn new(shared: Arc<Shared>, stop: Stop) -> Self {
        let by_hand = (shared.watchers).listen_for(|it| matches!(it, Progress::ByHand(_)));
        Self {
            shared,
            plan: Plan::default(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
            asked: HashMap::new(),
            looks: JoinSet::new(),
            looking: HashMap::new(),
            stops: BTreeMap::new(),
            look_again: BTreeSet::new(),
            leaving: BTreeSet::new(),
            by_hand,
            stop,
        }
    }

    /// Has `name` do what it has to do; `job` when that is known already.
    fn begin(&mut self, name: CertificateName, job: Option<Job>) {
        let shared = Arc::clone(&self.shared);
        let stop = self.stop.child();
        // Whoever has its turn for a delivery orders nothing: for that it has no seat, and no time that is sure.
        let turn = self.plan.turn(&name);
        let is_asked = job.is_some() || self.asked.contains_key(&name);
        let only_delivers = !is_asked && turn.is_some_and(|turn| turn.authority.is_none());
        let selection = self.asked.remove(&name).unwrap_or_default();
        self.stops.insert(name.clone(), stop.clone());
        let span = job::span(&name);
        let task = self.tasks.spawn({
            let name = name.clone();
            let work = async move {
                let mut issued_by = None;
                let job = match job {
                    Some(job) => Ok(Some(job)),
                    None => job::job(&shared, &name, &selection).await,
                };
                let result = match job.map_err(super::accounts::store_failure) {
                    Ok(Some(job)) if only_delivers => {
                        job::perform(&shared, job.without_order(), stop, &mut issued_by).await
                    }
                    Ok(Some(job)) => job::perform(&shared, job, stop, &mut issued_by).await,
                    Ok(None) => Ok(()),
                    Err(failure) => Err(failure),
                };
                Ended { issued_by, result }
            };
            work.instrument(span)
        });
        self.names.insert(task.id(), name);
    }

    /// What came of one that has ended.
    async fn heard(&mut self, joined: Joined) -> Option<(CertificateName, Result<(), Failure>)> {
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let name = self.names.remove(&id)?;
        self.stops.remove(&name);
        self.plan.ended(&name);
        let Ended { issued_by, result } = match joined {
            Ok((_, ended)) => ended,
            Err(error) => Ended {
                issued_by: None,
                result: Err(job::fell_over(&self.shared, &name, &error).await),
            },
        };
        let watchers = &self.shared.watchers;
        if let Err(failure) = &result {
            let progress = Progress::Failed {
                failure: failure.clone(),
                again: job::again(&self.shared, &name, failure).await,
            };
            watchers.tell(&name, progress);
        }
        watchers.tell(&name, Progress::Finished(result.is_ok()));
        if let Some(authority) = issued_by {
            self.follow(&authority, usize::MAX);
        }
        Some((name, result))
    }

    async fn log_failure(&self, name: &CertificateName, failure: &Failure) {
        let whose = failure.whose.as_str();
        let sentence = &failure.sentence;
        let again = job::again(&self.shared, name, failure).await;
        let again = match again {
            Some(again) => format!("; tried again at {again:.0}"),
            None => String::new(),
        };
        job::span(name).in_scope(|| tracing::warn!(whose, "failed: {sentence}{again}"));
    }

    /// Finds out who in `selection` has something to do. Nobody waits for it but those that are looked at.
    fn look(&mut self, selection: Selection, reply: oneshot::Sender<Begun>) {
        self.shared.look_anew();
        let names = selection.names(&self.shared).into_iter();
        let (at_work, idle): (Vec<_>, Vec<_>) =
            names.partition(|name| self.stops.contains_key(name));
        let held: BTreeSet<CertificateName> = idle.into_iter().collect();
        held.iter().for_each(|name| self.plan.hold(name));
        let look = looking::look(Arc::clone(&self.shared), held.clone(), selection.clone());
        let task = self.looks.spawn(look);
        let asked = Asked {
            selection,
            reply,
            at_work,
            held,
        };
        self.looking.insert(task.id(), asked);
    }

    /// Gives everybody who has something to do the next turn. Those that were at work are among them.
    async fn hurry(&mut self, looked: Looked) {
        let id = looked.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(asked) = self.looking.remove(&id) else {
            return;
        };
        let wanting = match looked {
            Ok((_, wanting)) => wanting,
            Err(error) => Err(StoreError::Io(format!("the look was cut short: {error}"))),
        };
        let begun = match wanting {
            Ok(wanting) => self.plan_now(&asked, wanting).await,
            Err(error) => Err(error),
        };
        asked.held.iter().for_each(|name| self.plan.release(name));
        // Whoever asked may have gone; the work is done all the same.
        let _ = asked.reply.send(begun);
    }

    async fn plan_now(&mut self, asked: &Asked, wanting: BTreeSet<CertificateName>) -> Begun {
        let mut begun = asked.at_work.clone();
        for name in wanting {
            // There may be another configuration by now.
            if !self.shared.certificates.contains_key(&name) {
                continue;
            }
            let turn = job::turn(&self.shared, &name).await?;
            let at = Timestamp::MIN;
            self.plan.set(name.clone(), Turn { at, ..turn });
            self.asked.insert(name.clone(), asked.selection.clone());
            begun.push(name);
        }
        begun.sort();
        Ok(begun)
    }

    /// `authority` can be used again: so many of those who wait for that go now, the most urgent first.
    fn follow(&mut self, authority: &str, many: usize) {
        let names: Vec<CertificateName> = self
            .plan
            .waiting_for(authority)
            .take(many)
            .cloned()
            .collect();
        let at = self.shared.clock.now();
        for name in names {
            if let Some(turn) = self.plan.turn(&name) {
                let waits = false;
                let turn = Turn {
                    at,
                    waits,
                    ..turn.clone()
                };
                self.plan.set(name.clone(), turn);
                let selection = Selection {
                    ignore_back_off: true,
                    ..Selection::default()
                };
                self.asked.entry(name).or_insert(selection);
            }
        }
    }

    /// Has those at work leave and begin again: they count from an instant that is yet to come.
    fn begin_anew(&self) {
        for stop in self.stops.values() {
            stop.withdraw();
        }
    }

    /// The first turn of everybody who is not at work.
    async fn plan_all(&mut self) {
        let names: Vec<CertificateName> = self.shared.certificates.keys().cloned().collect();
        for name in names {
            if !self.stops.contains_key(&name) && !self.asked.contains_key(&name) {
                self.plan_at_start(name).await;
            }
        }
    }

    /// The first turn of `name`: at once where there is something to be compared with the targets.
    async fn plan_at_start(&mut self, name: CertificateName) {
        let wanted = &self.shared.certificates[&name];
        let has_targets = !wanted.destinations.is_empty();
        let now = self.shared.clock.now();
        let mut turn = self.turn(&name, now).await;
        if has_targets && turn.ends.is_some() && turn.at > now {
            turn.at = now;
            turn.authority = None;
            turn.waits = false;
        }
        self.plan.set(name, turn);
    }

    /// The turn after one that has ended.
    async fn plan_again(&mut self, name: CertificateName, is_good: bool) {
        let has_left = self.leaving.remove(&name);
        if !self.shared.certificates.contains_key(&name) {
            if !has_left {
                self.forget(name);
            }
            return;
        }
        if self.look_again.remove(&name) {
            return self.plan_at_start(name).await;
        }
        let pause = if is_good {
            AFTER_SUCCESS
        } else {
            AFTER_FAILURE
        };
        let soonest = later(self.shared.clock.now(), pause);
        let mut turn = self.turn(&name, soonest).await;
        turn.at = turn.at.max(soonest);
        self.plan.set(name, turn);
    }

    /// By what is saved; at `otherwise` when that cannot be read.
    async fn turn(&self, name: &CertificateName, otherwise: Timestamp) -> Turn {
        match job::turn(&self.shared, name).await {
            Ok(turn) => turn,
            Err(error) => {
                tracing::error!(certificate = %name, "{error}");
                Turn {
                    at: otherwise,
                    ends: None,
                    authority: None,
                    waits: false,
                    domain: String::new(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
