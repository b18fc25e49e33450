//! Effects on their way: started, acted, answered. Several are in flight at once, one id never twice.

use std::time::Duration;

use super::super::EffectId;
use super::super::account;
use super::super::attempt;
use super::super::delivery;
use super::authority::Leaf;
use super::batch::Batch;
use super::check::Invariant;
use super::life::{Item, Life};
use super::worker::{COMMIT_PAUSE, Thing};
use super::{Kind, Moment};

/// Something on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) work: Work,
    pub(super) news: Option<News>,
    /// The process that started it is dead.
    pub(super) orphan: bool,
    /// An order that it made.
    pub(super) made: Option<usize>,
    pub(super) key: Option<u64>,
    pub(super) leaf: Option<Leaf>,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Account(EffectId, account::Effect),
    Attempt {
        slot: usize,
        epoch: u64,
        id: EffectId,
        effect: attempt::Effect,
    },
    Delivery {
        slot: usize,
        id: EffectId,
        effect: delivery::Effect,
    },
    Batch(Batch),
}

#[derive(Clone, Debug)]
pub(super) enum News {
    Account(account::Event),
    Attempt(attempt::Event),
    Delivery(delivery::Event),
    Batch(super::batch::Outcome),
}

impl Life<'_> {
    pub(super) fn launch(&mut self, work: Work) {
        self.check_start(&work);
        if let (Some(thing), Some(worker)) = (work.thing(), &mut self.worker) {
            worker.running.insert(thing);
        }
        let (shortest, longest) = work.latency();
        let latency = self.world.rng.millis(shortest, longest);
        self.note(|| format!("start {work:?}"));
        self.sequence += 1;
        let number = self.sequence;
        self.flights.insert(
            number,
            Flight {
                work,
                news: None,
                orphan: false,
                made: None,
                key: None,
                leaf: None,
            },
        );
        self.schedule(latency, Item::Act(number));
    }

    pub(super) fn check_start(&mut self, work: &Work) {
        match work {
            Work::Account(_, account::Effect::Register) => {
                self.checks.request(None, self.now, Kind::Register)
            }
            Work::Attempt {
                slot,
                epoch,
                effect,
                ..
            } => {
                let kind = Kind::of(effect);
                let part = part(effect);
                let same = |flight: &Flight| {
                    matches!(&flight.work, Work::Attempt { slot: s, epoch: e, effect, .. }
                        if s == slot && e == epoch && Kind::of(effect) == kind && self::part(effect) == part)
                        && !flight.orphan
                };
                // Releases are told apart by their owner, which is in their id.
                if kind != Kind::Release && self.flights.values().any(same) {
                    self.checks
                        .violated(Invariant::OnceAtATime, format!("{work:?}"));
                }
                if kind.asks_authority() {
                    self.checks.request(Some(*slot), self.now, kind);
                }
                match effect {
                    attempt::Effect::NewOrder => self.checks.new_order(*slot),
                    attempt::Effect::Present { owner, .. } => self.checks.asked(self.now, owner),
                    attempt::Effect::Respond { part, url } => {
                        self.check_response(*slot, *part, url)
                    }
                    attempt::Effect::Release { owner, .. } => {
                        // Whoever releases a record waits for it no more.
                        self.flights.retain(|_, flight| {
                            !matches!(&flight.work, Work::Attempt { effect: attempt::Effect::Present { owner: waiting, .. }, .. } if waiting == owner)
                        });
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn check_response(&mut self, slot: usize, part: usize, challenge: &str) {
        self.responses
            .insert(challenge.to_owned(), self.incarnation);
        let Some(attempt) = self
            .worker
            .as_ref()
            .and_then(|worker| worker.slots[slot].attempt.as_ref())
        else {
            return;
        };
        let (identifier, value) = self
            .world
            .authority
            .value(challenge, &attempt.request.thumbprint);
        let (_, name) = self.world.host.place(&identifier);
        self.checks
            .respond((slot, part), &value, self.world.host.servers.len());
        let tampered = self
            .world
            .host
            .tampered
            .contains(&(name.clone(), value.clone()));
        let there = self.world.host.values(self.now, &name).contains(&value);
        self.checks
            .must(there || tampered, Invariant::NeverUnproven, || {
                format!("{value} is not at the host when responding")
            });
    }

    pub(super) fn act(&mut self, number: u64) {
        let Some(flight) = self.flights.get(&number) else {
            return;
        };
        let (work, orphan) = (flight.work.clone(), flight.orphan);
        if !orphan && self.dies(&work.kinds(), Moment::BeforeAct) {
            return;
        }
        let news = match &work {
            Work::Account(_, effect) => Some(News::Account(self.act_account(number, *effect))),
            Work::Attempt {
                slot,
                effect: attempt::Effect::Present { owner, record, .. },
                ..
            } => {
                return self.present(number, *slot, owner, record);
            }
            Work::Attempt {
                effect: attempt::Effect::Release { owner, record, .. },
                ..
            } => {
                return self.release(number, owner, record);
            }
            Work::Attempt {
                slot,
                epoch,
                effect,
                ..
            } => Some(News::Attempt(
                self.act_attempt(number, *slot, *epoch, effect),
            )),
            Work::Delivery { slot, effect, .. } => {
                Some(News::Delivery(self.act_delivery(*slot, *effect)))
            }
            Work::Batch(batch) => Some(News::Batch(self.act_batch(batch, orphan))),
        };
        self.note(|| format!("acted {work:?}: {news:?}"));
        if orphan {
            let flight = self.flights.remove(&number);
            if let Some(made) = flight.and_then(|flight| flight.made) {
                self.world.authority.orders[made].excused = true;
            }
            return;
        }
        self.flights.get_mut(&number).unwrap().news = news;
        let (shortest, longest) = work.latency();
        let latency = self.world.rng.millis(shortest, longest);
        self.schedule(latency, Item::Done(number));
    }

    pub(super) fn answer(&mut self, number: u64, event: attempt::Event) {
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.news = Some(News::Attempt(event));
            self.schedule(Duration::from_millis(1), Item::Done(number));
        }
    }

    pub(super) fn try_again(&mut self, item: Item) {
        self.schedule(COMMIT_PAUSE, item);
    }

    pub(super) fn note_made(&mut self, number: u64, made: Option<usize>, lost: bool) {
        if let Some(made) = made {
            self.world.authority.orders[made].excused |= lost;
            if !lost && let Some(flight) = self.flights.get_mut(&number) {
                flight.made = Some(made);
            }
        }
    }

    pub(super) fn hold_key(&mut self, number: u64, key: u64) {
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.key = Some(key);
        }
    }

    pub(super) fn hold_leaf(&mut self, number: u64, leaf: Leaf) {
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.leaf = Some(leaf);
        }
    }

    pub(super) fn late_key(&self, slot: usize) -> Option<u64> {
        self.worker
            .as_ref()
            .and_then(|worker| worker.late_keys.get(&slot).copied())
    }

    pub(super) fn installed(&self, slot: usize) -> Option<u64> {
        self.worker
            .as_ref()
            .and_then(|worker| worker.slots[slot].delivery.installed())
    }
}

impl Work {
    pub(super) fn thing(&self) -> Option<(Thing, EffectId)> {
        Some(match self {
            Self::Account(id, _) => (Thing::Account, id.clone()),
            Self::Attempt {
                slot, epoch, id, ..
            } => (Thing::Attempt(*slot, *epoch), id.clone()),
            Self::Delivery { slot, id, .. } => (Thing::Delivery(*slot), id.clone()),
            Self::Batch(_) => return None,
        })
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        match self {
            Self::Account(_, account::Effect::MakeKey) => vec![Kind::AccountKey],
            Self::Account(_, account::Effect::Register) => vec![Kind::Register],
            Self::Attempt { effect, .. } => vec![Kind::of(effect)],
            Self::Delivery { effect, .. } => vec![match effect {
                delivery::Effect::Inspect => Kind::Inspect,
                delivery::Effect::Install(_) => Kind::Install,
                delivery::Effect::Reload(_) => Kind::Reload,
            }],
            Self::Batch(batch) => batch.kinds(),
        }
    }

    /// Whether the ledger does it, so that acting already changes what the worker knows.
    pub(super) fn is_ledgers(&self) -> bool {
        use attempt::Effect as E;
        matches!(
            self,
            Self::Attempt {
                effect: E::Present { .. } | E::Release { .. },
                ..
            }
        )
    }

    /// Whether it reaches somebody else, so that it may still happen when its process is dead.
    pub(super) fn arrives_without_us(&self) -> bool {
        match self {
            Self::Account(_, effect) => *effect == account::Effect::Register,
            Self::Attempt { effect, .. } => Kind::of(effect).asks_authority(),
            Self::Delivery { .. } => false,
            Self::Batch(_) => true,
        }
    }

    /// Shortest and longest way to or from the other side, in milliseconds.
    pub(super) fn latency(&self) -> (u64, u64) {
        match self {
            Self::Account(..) => (1, 100),
            Self::Attempt { effect, .. } => match effect {
                attempt::Effect::MakeKey
                | attempt::Effect::Present { .. }
                | attempt::Effect::Release { .. } => (0, 3),
                attempt::Effect::Observe { .. } | attempt::Effect::Locate { .. } => (1, 60),
                attempt::Effect::Settle { .. } => (1, 20_000),
                _ => (1, 100),
            },
            Self::Delivery { .. } => (0, 5),
            Self::Batch(_) => (1, 200),
        }
    }
}

fn part(effect: &attempt::Effect) -> usize {
    use attempt::Effect as E;
    match effect {
        E::FetchAuthorization { part, .. }
        | E::Locate { part, .. }
        | E::Present { part, .. }
        | E::Settle { part, .. }
        | E::Observe { part, .. }
        | E::Respond { part, .. }
        | E::Release { part, .. } => *part,
        _ => 0,
    }
}
