//! Who goes next: when each certificate wants something, whom it asks, and who gets a seat when many want one. Data
//! only.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::engine::attempt::Attempt;
use crate::engine::certificate::{Certificate, Specification};
use crate::engine::names::CertificateName;
use crate::engine::reaction::Whose;

/// Certificates that one authority is asked for at the same time; also those that are only delivered.
pub const PARALLEL: usize = 32;
/// Certificates of one domain that are at work at one authority while others wait: a DNS host that is slow, or many
/// certificates behind one fault, must not take every seat.
const SHARE: usize = PARALLEL / 2;
/// Attempts at one authority that must have failed by its own fault before the next one is asked.
const FAILURES_BEFORE_NEXT: u32 = 3;
/// So many who wait are looked at for one of another domain.
const LOOKED_AT: usize = 256;

/// What is to be known of a certificate to give it its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When it wants something.
    pub at: Timestamp,
    /// When the present certificate ends: what ends first goes first, and what has none before that.
    pub ends: Option<Timestamp>,
    /// The authority that it will ask; nothing when it only wants to be delivered.
    pub authority: Option<String>,
    /// Whether it waits until that authority can be used again.
    pub waits: bool,
    /// The domain of its first name.
    pub domain: String,
}

/// Where somebody stands in a queue: when the present certificate ends, and the name.
type Place = (Option<Timestamp>, CertificateName);

/// Who waits for what.
#[derive(Default)]
pub struct Plan {
    turns: HashMap<CertificateName, Turn>,
    /// Those whose time has not come.
    later: BTreeSet<(Timestamp, CertificateName)>,
    /// Whether those who wait for their time to ask an authority are put off when it comes.
    is_doubted: bool,
    /// Those who are.
    put_off: BTreeSet<CertificateName>,
    /// Those who wait until an authority can be used again, by authority, the most urgent first.
    waiting: BTreeMap<String, BTreeSet<Place>>,
    /// Those whose time has come, by authority, the most urgent first.
    ready: BTreeMap<Option<String>, BTreeSet<Place>>,
    /// Those at work.
    at_work: BTreeMap<CertificateName, Turn>,
    /// Those of them that wait for a person.
    standing: BTreeSet<CertificateName>,
    /// Those that are given no turn for now, and by how many.
    held: BTreeMap<CertificateName, usize>,
}

impl Plan {
    /// Notes when `name` wants something. One that is at work gets its turn when it has ended, one that is held when it
    /// is released.
    pub fn set(&mut self, name: CertificateName, turn: Turn) {
        self.take_out(&name);
        if !self.at_work.contains_key(&name) && !self.held.contains_key(&name) {
            self.later.insert((turn.at, name.clone()));
        }
        if let Some(authority) = turn.authority.as_ref().filter(|_| turn.waits) {
            let queue = self.waiting.entry(authority.clone()).or_default();
            queue.insert((turn.ends, name.clone()));
        }
        self.turns.insert(name, turn);
    }

    /// What is noted of `name`.
    pub fn turn(&self, name: &CertificateName) -> Option<&Turn> {
        self.turns.get(name)
    }

    /// Forgets `name`.
    pub fn remove(&mut self, name: &CertificateName) {
        self.take_out(name);
        self.turns.remove(name);
    }

    /// The authorities that somebody waits for.
    pub fn awaited(&self) -> impl Iterator<Item = &str> {
        self.waiting.keys().map(String::as_str)
    }

    /// Those who wait for `authority`, the most urgent first.
    pub fn waiting_for(&self, authority: &str) -> impl Iterator<Item = &CertificateName> {
        let queue = self.waiting.get(authority);
        queue.into_iter().flatten().map(|(_, name)| name)
    }

    /// From now on it is doubtful what the time is, or not any more.
    pub fn doubt(&mut self, is_doubted: bool) {
        self.is_doubted = is_doubted;
        if !is_doubted {
            for name in std::mem::take(&mut self.put_off) {
                self.later.insert((self.turns[&name].at, name));
            }
        }
    }

    /// Gives `name`, who is not at work, no turn until it is released as often.
    pub fn hold(&mut self, name: &CertificateName) {
        self.take_out(name);
        *self.held.entry(name.clone()).or_default() += 1;
    }

    /// Ends one hold of `name`.
    pub fn release(&mut self, name: &CertificateName) {
        let Some(holds) = self.held.get_mut(name) else {
            return;
        };
        *holds -= 1;
        if *holds == 0 {
            self.held.remove(name);
            if let Some(turn) = self.turns.get(name).cloned() {
                self.set(name.clone(), turn);
            }
        }
    }

    /// Whether anybody is put off.
    pub fn puts_off(&self) -> bool {
        !self.put_off.is_empty()
    }

    /// When the next one wants something whose time has not come.
    pub fn wake(&self) -> Option<Timestamp> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Gives a seat to one whose time has come, the most urgent first; `None` when nobody wants one or none is free.
    pub fn start(&mut self, now: Timestamp) -> Option<CertificateName> {
        while self.wake().is_some_and(|at| at <= now)
            && let Some((_, name)) = self.later.pop_first()
        {
            let turn = &self.turns[&name];
            if self.is_doubted && turn.at > Timestamp::MIN && turn.authority.is_some() {
                self.put_off.insert(name);
                continue;
            }
            let queue = self.ready.entry(turn.authority.clone()).or_default();
            queue.insert((turn.ends, name));
        }
        let authorities: Vec<_> = self.ready.keys().cloned().collect();
        let mut free = authorities
            .into_iter()
            .filter(|authority| self.seats(authority) < PARALLEL);
        let authority = free.next()?;
        // The authority with the fewest at work first: none waits for another's crowd.
        let authority = free.fold(authority, |best, next| {
            match self.seats(&next) < self.seats(&best) {
                true => next,
                false => best,
            }
        });
        let mut crowds: HashMap<&str, usize> = HashMap::new();
        for turn in self.seated(&authority) {
            *crowds.entry(&turn.domain).or_default() += 1;
        }
        let crowded = |domain: &str| crowds.get(domain).is_some_and(|many| *many >= SHARE);
        let queue = self.ready.get(&authority)?;
        let first = queue
            .iter()
            .take(LOOKED_AT)
            .find(|(_, name)| !crowded(&self.turns[name].domain))
            .or(queue.first())
            .cloned()?;
        self.leave_queue(&authority, &first);
        let (_, name) = first;
        self.wait_no_more(&name);
        self.at_work.insert(name.clone(), self.turns[&name].clone());
        Some(name)
    }

    /// `name` is at work no more; what it wants next is to be set.
    pub fn ended(&mut self, name: &CertificateName) {
        self.at_work.remove(name);
        self.standing.remove(name);
    }

    /// `name`, if it is at work, waits for a person, which may take days: its seat is free for others meanwhile, and what
    /// it does afterwards it does without one.
    pub fn stand_up(&mut self, name: &CertificateName) {
        if self.at_work.contains_key(name) {
            self.standing.insert(name.clone());
        }
    }

    fn seats(&self, authority: &Option<String>) -> usize {
        self.seated(authority).count()
    }

    fn seated(&self, authority: &Option<String>) -> impl Iterator<Item = &Turn> {
        let sits = |(name, turn): &(&CertificateName, &Turn)| {
            turn.authority == *authority && !self.standing.contains(*name)
        };
        self.at_work.iter().filter(sits).map(|(_, turn)| turn)
    }

    fn take_out(&mut self, name: &CertificateName) {
        let Some(turn) = self.turns.get(name) else {
            return;
        };
        self.later.remove(&(turn.at, name.clone()));
        self.put_off.remove(name);
        let place = (turn.ends, name.clone());
        let authority = turn.authority.clone();
        self.leave_queue(&authority, &place);
        self.wait_no_more(name);
    }

    fn leave_queue(&mut self, authority: &Option<String>, place: &Place) {
        if let Some(queue) = self.ready.get_mut(authority) {
            queue.remove(place);
            if queue.is_empty() {
                self.ready.remove(authority);
            }
        }
    }

    fn wait_no_more(&mut self, name: &CertificateName) {
        if let Some(turn) = self.turns.get(name)
            && let Some(authority) = &turn.authority
            && let Some(queue) = self.waiting.get_mut(authority)
        {
            queue.remove(&(turn.ends, name.clone()));
            if queue.is_empty() {
                self.waiting.remove(authority);
            }
        }
    }
}

/// The authority to ask: that of an order that is known, else the first of `choices`, and after failures of its own
/// the next.
pub(super) fn authority<S: AsRef<str>>(
    choices: &[S],
    is_known: impl Fn(&str) -> bool,
    certificate: &Certificate,
    attempt: Option<&Attempt>,
) -> String {
    let asked = attempt.map(|attempt| &attempt.request.authority);
    if let Some(asked) = asked.filter(|asked| is_known(asked)) {
        return asked.clone();
    }
    let failures = match &certificate.trouble {
        Some(trouble) if trouble.failure.whose == Whose::Authority => trouble.count,
        _ => 0,
    };
    let nth = (failures / FAILURES_BEFORE_NEXT) as usize % choices.len().max(1);
    let choice = choices.get(nth).map(AsRef::as_ref);
    choice.unwrap_or_default().to_owned()
}

/// The last two labels of the first name: near enough to who runs its DNS.
pub(super) fn domain(wanted: &Specification) -> String {
    let first = wanted.identifiers.first();
    let name = first
        .map(|first| first.base.to_string())
        .unwrap_or_default();
    let mut labels = name.rsplitn(3, '.');
    match (labels.next(), labels.next()) {
        (Some(top), Some(second)) => format!("{second}.{top}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn name(text: &str) -> CertificateName {
        CertificateName::parse(text).unwrap()
    }

    fn turn(due: i64, ends: Option<i64>, authority: &str, domain: &str) -> Turn {
        Turn {
            at: at(due),
            ends: ends.map(at),
            authority: Some(authority.to_owned()),
            waits: false,
            domain: domain.to_owned(),
        }
    }

    fn started(plan: &mut Plan, now: i64) -> Vec<String> {
        std::iter::from_fn(|| plan.start(at(now)))
            .map(|name| name.to_string())
            .collect()
    }

    #[test]
    fn what_ends_first_goes_first_and_what_has_none_before_that() {
        let mut plan = Plan::default();
        plan.set(name("late"), turn(1, Some(900), "ca", "a.test"));
        plan.set(name("soon"), turn(2, Some(100), "ca", "b.test"));
        plan.set(name("none"), turn(3, None, "ca", "c.test"));
        plan.set(name("not-yet"), turn(50, None, "ca", "d.test"));
        assert_eq!(started(&mut plan, 10), ["none", "soon", "late"]);
        assert_eq!(plan.wake(), Some(at(50)));
    }

    #[test]
    fn an_authority_has_so_many_seats_and_another_one_its_own() {
        let mut plan = Plan::default();
        for n in 0..100 {
            let domain = format!("d{n}.test");
            plan.set(name(&format!("a{n}")), turn(0, None, "a", &domain));
        }
        assert_eq!(started(&mut plan, 0).len(), 32);
        plan.set(name("b"), turn(0, None, "b", "b.test"));
        assert_eq!(started(&mut plan, 0), ["b"]);
        plan.ended(&name("a0"));
        assert_eq!(started(&mut plan, 0).len(), 1);
    }

    #[test]
    fn who_waits_for_a_person_has_no_seat_and_begins_no_second_time() {
        let mut plan = Plan::default();
        for n in 0..100 {
            plan.set(name(&format!("a{n}")), turn(0, Some(1), "ca", "a.test"));
        }
        let first = started(&mut plan, 0);
        assert_eq!(first.len(), PARALLEL);
        for name in &first {
            plan.stand_up(&CertificateName::parse(name).unwrap());
        }
        let second = started(&mut plan, 0);
        assert_eq!(second.len(), PARALLEL);
        assert!(first.iter().all(|name| !second.contains(name)));
        // It takes nobody's place when it ends, and has a seat like others the next time.
        plan.ended(&name(&first[0]));
        assert!(started(&mut plan, 0).is_empty());
        plan.stand_up(&name(&first[0]));
        plan.set(name(&first[0]), turn(0, None, "ca", "a.test"));
        plan.ended(&name(&second[0]));
        assert_eq!(started(&mut plan, 0), [first[0].clone()]);
        assert!(started(&mut plan, 0).is_empty());
    }

    #[test]
    fn one_domain_takes_half_of_the_seats_while_others_wait_and_all_when_not() {
        let mut plan = Plan::default();
        for n in 0..100 {
            plan.set(name(&format!("a{n}")), turn(0, Some(1), "ca", "a.test"));
        }
        for n in 0..4 {
            plan.set(name(&format!("b{n}")), turn(0, Some(2), "ca", "b.test"));
        }
        let all = started(&mut plan, 0);
        assert_eq!(all.len(), 32);
        assert_eq!(all.iter().filter(|name| name.starts_with('b')).count(), 4);
    }

    #[test]
    fn one_at_work_gets_its_next_turn_when_it_has_ended() {
        let mut plan = Plan::default();
        plan.set(name("a"), turn(0, None, "ca", "a.test"));
        assert_eq!(started(&mut plan, 0), ["a"]);
        plan.set(name("a"), turn(0, None, "ca", "a.test"));
        assert!(started(&mut plan, 0).is_empty());
        plan.ended(&name("a"));
        plan.set(name("a"), turn(5, None, "ca", "a.test"));
        assert_eq!(started(&mut plan, 5), ["a"]);
    }

    #[test]
    fn while_the_time_is_doubtful_only_those_go_who_do_not_wait_for_it() {
        let mut plan = Plan::default();
        plan.doubt(true);
        plan.set(name("renewal"), turn(1, Some(900), "ca", "a.test"));
        let missing = Turn {
            at: Timestamp::MIN,
            ..turn(0, None, "ca", "b.test")
        };
        plan.set(name("missing"), missing);
        let delivery = Turn {
            authority: None,
            ..turn(1, Some(900), "ca", "c.test")
        };
        plan.set(name("delivery"), delivery);
        assert_eq!(started(&mut plan, 10), ["delivery", "missing"]);
        assert!(plan.puts_off());
        plan.doubt(false);
        assert!(!plan.puts_off());
        assert_eq!(started(&mut plan, 10), ["renewal"]);
    }

    #[test]
    fn the_most_urgent_of_those_who_wait_for_an_authority_is_known() {
        let mut plan = Plan::default();
        let waits = |ends| Turn {
            waits: true,
            ..turn(50, Some(ends), "ca", "a.test")
        };
        plan.set(name("late"), waits(900));
        plan.set(name("soon"), waits(100));
        plan.set(name("well"), turn(1, Some(1), "ca", "a.test"));
        assert_eq!(plan.awaited().collect::<Vec<_>>(), ["ca"]);
        let all: Vec<_> = plan.waiting_for("ca").map(ToString::to_string).collect();
        assert_eq!(all, ["soon", "late"]);
        assert_eq!(started(&mut plan, 60), ["well", "soon", "late"]);
        assert_eq!(plan.awaited().count(), 0, "those at work wait no more");
        for at_work in ["well", "soon", "late"] {
            plan.ended(&name(at_work));
        }
        plan.set(name("soon"), waits(100));
        plan.remove(&name("soon"));
        plan.set(name("late"), turn(1, None, "ca", "a.test"));
        assert_eq!(plan.awaited().count(), 0);
    }

    #[test]
    fn one_that_is_forgotten_is_never_started() {
        let mut plan = Plan::default();
        plan.set(name("a"), turn(0, None, "ca", "a.test"));
        plan.remove(&name("a"));
        assert!(started(&mut plan, 9).is_empty());
    }
}
