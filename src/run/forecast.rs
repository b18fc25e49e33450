//! What will happen: the coming turns of every certificate, in the order and at the times that the scheduler gives
//! them, if all goes well from now on. From an [`Overview`] alone; it changes nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use countersign_providers::clock::{between, later};
use jiff::Timestamp;

use super::overview::{Overview, View};
use super::plan::{PARALLEL, Plan, Turn};
use crate::config::place;
use crate::engine::attempt::Step;
use crate::engine::delivery::State as DeliveryState;
use crate::engine::names::CertificateName;
use crate::engine::reaction::Whose;
use crate::engine::renewal::Reason;

/// How far it looks ahead.
pub const AHEAD: Duration = Duration::from_secs(30 * 86_400);
/// What an order is taken to last, to say when the next one gets its seat.
const ORDER: Duration = Duration::from_secs(60);

/// What happens until some instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// From then on.
    pub now: Timestamp,
    /// To then.
    pub until: Timestamp,
    /// In this order.
    pub events: Vec<Event>,
    /// Certificates for which nothing happens until then.
    pub idle: usize,
    /// What happens first after that.
    pub after: Option<(Timestamp, CertificateName)>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it begins: at the soonest, where many wait for a seat.
    pub at: Timestamp,
    /// To what.
    pub certificate: CertificateName,
    /// What.
    pub action: Action,
    /// Who is asked; nobody for a delivery.
    pub authority: Option<String>,
    /// Why.
    pub reason: String,
    /// What makes it wait.
    pub bound: Option<Bound>,
    /// How often it happens again.
    pub again: Option<Again>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The first certificate is had.
    Issue,
    /// The next one is had.
    Renew,
    /// What failed is tried again.
    Retry,
    /// What is issued is put where it goes.
    Deliver,
}

/// What makes something wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The pause after so many failures; a person need not wait for it.
    BackOff(u32),
    /// The other side asked for it.
    RetryAfter(Whose),
    /// So many at once are asked of one authority, or delivered, and others go first.
    Seats(usize),
}

/// How something goes on after it happened once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// As long after each other.
    pub every: Duration,
    /// So often until the end of the forecast, after the first time.
    pub times: u64,
}

impl Action {
    /// As written in `plan --json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Renew => "renew",
            Self::Retry => "retry",
            Self::Deliver => "deliver",
        }
    }
}

impl Bound {
    /// As written in `plan --json`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::BackOff(_) => "back-off",
            Self::RetryAfter(_) => "retry-after",
            Self::Seats(_) => "seats",
        }
    }
}

impl Forecast {
    /// What follows from `overview`.
    pub fn of(overview: &Overview) -> Self {
        let now = overview.now;
        let mut forecast = Self {
            now,
            until: later(now, AHEAD),
            events: Vec::new(),
            idle: 0,
            after: None,
        };
        let mut waiting = Waiting::default();
        // Those at work have their seats.
        let (at_work, others): (Vec<&View>, Vec<&View>) =
            (overview.certificates.iter()).partition(|view| view.step.is_some());
        for view in at_work {
            waiting.add(view, now);
        }
        waiting.start(now, &mut forecast);
        for view in others {
            waiting.add(view, now);
        }
        let mut instant = now;
        while instant <= forecast.until {
            waiting.end(instant, now);
            waiting.start(instant, &mut forecast);
            match waiting.next() {
                Some(next) => instant = next.max(instant),
                None => break,
            }
        }
        let happening: BTreeSet<&CertificateName> =
            forecast.events.iter().map(|it| &it.certificate).collect();
        let idle = overview.certificates.iter();
        let idle = idle.filter(|view| !happening.contains(&view.name));
        (forecast.idle, forecast.after) = (
            idle.clone().count(),
            idle.map(|view| (view.due.at, view.name.clone())).min(),
        );
        forecast
    }
}

/// Everybody who wants something, by the rules of the scheduler.
#[derive(Default)]
struct Waiting<'a> {
    plan: Plan,
    wants: HashMap<&'a CertificateName, (&'a View, VecDeque<Event>)>,
    /// When those who have a seat leave it.
    seated: BTreeSet<(Timestamp, CertificateName)>,
}

impl<'a> Waiting<'a> {
    fn add(&mut self, view: &'a View, now: Timestamp) {
        let mut wants = Vec::from([attempt(view, now)]);
        wants.extend(delivery(view, now));
        // One thing after the other; what is under way first.
        wants.sort_by_key(|event| event.at);
        self.wants.insert(&view.name, (view, wants.into()));
        self.set(&view.name, now);
    }

    /// Has `name` wait for what it wants next.
    fn set(&mut self, name: &CertificateName, now: Timestamp) {
        let Some((view, wants)) = self.wants.get(name) else {
            return;
        };
        if let Some(want) = wants.front() {
            let turn = Turn {
                at: want.at.max(now),
                ends: view.current.as_ref().map(|issued| issued.not_after),
                authority: want.authority.clone(),
                waits: false,
                domain: view.ahead.domain.clone(),
            };
            self.plan.set(name.clone(), turn);
        }
    }

    /// Whoever gets a seat at `instant` begins.
    fn start(&mut self, instant: Timestamp, forecast: &mut Forecast) {
        while let Some(name) = self.plan.start(instant) {
            let wants = self.wants.get_mut(&name);
            let Some(mut event) = wants.and_then(|(_, wants)| wants.pop_front()) else {
                continue;
            };
            if instant > event.at {
                event.at = instant;
                event.bound = Some(Bound::Seats(PARALLEL));
            }
            if event.at > forecast.until {
                continue;
            }
            if let Some(again) = &mut event.again {
                let left = between(event.at, forecast.until).as_secs();
                again.times = left / again.every.as_secs().max(1);
            }
            self.seated.insert((later(instant, ORDER), name));
            forecast.events.push(event);
        }
    }

    /// Whoever is done by `instant` leaves.
    fn end(&mut self, instant: Timestamp, now: Timestamp) {
        while let Some((at, _)) = self.seated.first()
            && *at <= instant
            && let Some((_, name)) = self.seated.pop_first()
        {
            self.plan.ended(&name);
            self.set(&name, now);
        }
    }

    /// When something changes next.
    fn next(&self) -> Option<Timestamp> {
        let leaves = self.seated.first().map(|(at, _)| *at);
        let wakes = self.plan.wake();
        [leaves, wakes].into_iter().flatten().min()
    }
}

/// The next attempt.
fn attempt(view: &View, now: Timestamp) -> Event {
    let is_parked = view.parked.is_some();
    let failing = view.failure.as_ref();
    let is_retry = view.due.reason == Reason::Retry;
    let action = match (&view.current, is_retry) {
        (_, true) => Action::Retry,
        (None, false) => Action::Issue,
        (Some(_), false) => Action::Renew,
    };
    let authority = &view.ahead.authority;
    let (at, reason) = match view.step {
        Some(step) if step < Step::Closing => (now, format!("under way: {}", step.as_str())),
        _ if is_parked && !is_retry => (now, "its order goes on".to_owned()),
        _ => (view.due.at.max(now), reason(view.due.reason).to_owned()),
    };
    let floor = view
        .ahead
        .floor
        .filter(|floor| *floor >= at && *floor > now);
    let bound = match (floor, failing) {
        (Some(_), Some(failing)) => Some(Bound::RetryAfter(failing.failure.whose)),
        (None, Some(failing)) if is_retry && at > now => Some(Bound::BackOff(failing.count)),
        _ => None,
    };
    let again = view.current.as_ref().map(|issued| Again {
        every: between(issued.not_before, issued.renew_at),
        times: 0,
    });
    Event {
        at: floor.unwrap_or(at),
        certificate: view.name.clone(),
        action,
        authority: Some(authority.clone()),
        reason,
        bound,
        again: again.filter(|it| !it.every.is_zero()),
    }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "not issued yet",
        Reason::Changed => "its names, key or profile changed",
        Reason::Renewal => "renewal due",
        Reason::Retry => "the last attempt failed",
    }
}

/// The delivery of what is issued, where it is not everywhere yet.
fn delivery(view: &View, now: Timestamp) -> Option<Event> {
    view.current.as_ref()?;
    let undelivered = view.deliveries.iter();
    let undelivered = undelivered.filter(|it| it.state != DeliveryState::Installed);
    let at = |failure: &Option<(_, Option<Timestamp>)>| match failure {
        Some((_, Some(again))) => (*again).max(now),
        _ => now,
    };
    let first = undelivered.min_by_key(|it| at(&it.failure))?;
    let (at, place) = (at(&first.failure), place(&first.target));
    let has_failed = first.failure.is_some();
    Some(Event {
        at,
        certificate: view.name.clone(),
        action: match has_failed {
            true => Action::Retry,
            false => Action::Deliver,
        },
        authority: None,
        reason: match has_failed {
            true => format!("the delivery to {place} failed"),
            false => format!("it is not at {place} yet"),
        },
        bound: (has_failed && at > now).then_some(Bound::BackOff(1)),
        again: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::overview::Delivered;
    use crate::run::testing::{DAY, at, failing, issued, missing};

    fn forecast(certificates: Vec<View>) -> Forecast {
        Forecast::of(&Overview {
            now: at(0),
            by_itself: false,
            notices: Vec::new(),
            certificates,
            left: Vec::new(),
        })
    }

    /// Who, what, and after how many seconds.
    fn told(forecast: &Forecast) -> Vec<(&str, &str, i64)> {
        let events = forecast.events.iter();
        events
            .map(|it| {
                let (name, action) = (it.certificate.as_str(), it.action.as_str());
                (name, action, it.at.as_second())
            })
            .collect()
    }

    #[test]
    fn what_has_none_goes_first_then_what_ends_first() {
        let forecast = forecast(vec![
            issued("later", 90, 3 * DAY),
            issued("late", 90, -DAY),
            missing("new"),
            issued("far", 90, 40 * DAY),
        ]);
        assert_eq!(
            told(&forecast),
            [
                ("new", "issue", 0),
                ("late", "renew", 0),
                ("later", "renew", 3 * DAY)
            ]
        );
        assert_eq!(forecast.idle, 1);
        let far = CertificateName::parse("far").unwrap();
        assert_eq!(forecast.after, Some((at(40 * DAY), far)));
    }

    #[test]
    fn a_crowd_waits_for_its_seats_and_another_authority_does_not() {
        let mut crowd: Vec<View> = (0..70).map(|n| missing(&format!("a{n:02}"))).collect();
        let mut other = missing("other");
        other.ahead.authority = "other-ca".to_owned();
        crowd.push(other);
        let forecast = forecast(crowd);
        let begins = |second: i64| {
            let events = forecast.events.iter();
            events.filter(|it| it.at == at(second)).count()
        };
        assert_eq!((begins(0), begins(60), begins(120)), (33, 32, 6));
        for event in &forecast.events {
            let waits = event.bound == Some(Bound::Seats(PARALLEL));
            assert_eq!(waits, event.at > at(0), "{event:?}");
        }
    }

    #[test]
    fn one_at_work_has_its_seat() {
        let mut all: Vec<View> = (0..32).map(|n| missing(&format!("a{n:02}"))).collect();
        let mut working = issued("working", 90, -DAY);
        working.step = Some(Step::AwaitingValidation);
        all.push(working);
        let forecast = forecast(all);
        assert_eq!(told(&forecast)[0], ("working", "renew", 0));
        assert!(forecast.events[0].reason.starts_with("under way: "));
        assert_eq!(forecast.events[32].bound, Some(Bound::Seats(PARALLEL)));
    }

    #[test]
    fn a_short_life_repeats_on_one_line() {
        let forecast = forecast(vec![issued("short", 6, DAY), issued("long", 60, DAY)]);
        let again: Vec<Again> = forecast.events.iter().filter_map(|it| it.again).collect();
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(
            again,
            [
                Again {
                    every: days(4),
                    times: 7
                },
                Again {
                    every: days(40),
                    times: 0
                }
            ]
        );
    }

    #[test]
    fn a_pause_is_named_and_so_is_who_asked_for_it() {
        let mut asked = failing(missing("asked"), 600, Whose::Authority);
        asked.ahead.floor = Some(at(7_200));
        let forecast = forecast(vec![failing(missing("own"), 600, Whose::You), asked]);
        assert_eq!(
            told(&forecast),
            [("own", "retry", 600), ("asked", "retry", 7_200)]
        );
        let bounds: Vec<Option<Bound>> = forecast.events.into_iter().map(|it| it.bound).collect();
        let wanted = [Bound::BackOff(2), Bound::RetryAfter(Whose::Authority)];
        assert_eq!(bounds, wanted.map(Some));
    }

    #[test]
    fn what_is_not_delivered_comes_before_the_renewal() {
        let mut view = issued("web", 90, 5 * DAY);
        view.deliveries.push(Delivered {
            failures: 0,
            target: "files:/srv/web".to_owned(),
            state: DeliveryState::Wanted,
            generation: Some(1),
            serves_until: None,
            since: None,
            failure: None,
        });
        let forecast = forecast(vec![view]);
        assert_eq!(
            told(&forecast),
            [("web", "deliver", 0), ("web", "renew", 5 * DAY)]
        );
        assert_eq!(forecast.events[0].reason, "it is not at /srv/web yet");
        assert_eq!(forecast.events[0].authority, None);
    }
}
