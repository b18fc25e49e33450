//! The battery that every plug-in must pass, against the host it is for (feature `testing`).
//!
//! Each rule is a function of its own and uses names of its own, so that a plug-in's test can run them one by one;
//! [`battery`] runs them all. A broken rule panics with the rule's words.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics; this is compiled for tests only"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use crate::record::{Change, DnsName, RrSet, Verb, Zone};
use crate::{Context, ErrorKind, Provider, ProviderError};

/// Rounds of the race between four writers.
const ROUNDS: usize = 20;
/// A writer that is overtaken tries again, as the core would; more often than this it starves.
const TRIES: usize = 40;
/// How many names one `apply` has in the rule about many.
const MANY: usize = 100;
/// The TTL of our own values, unlike [`FOREIGN_TTL`].
const TTL: u32 = 60;
/// The TTL of values that somebody else put there.
const FOREIGN_TTL: u32 = 7777;

/// The host that a plug-in is tried on, seen from outside the plug-in.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The zone that the credential may change.
    fn zone(&self) -> Zone;

    /// A name in the zone that the credential may change and that nothing else uses; another one for each `label`.
    fn name(&self, label: &str) -> DnsName;

    /// A name in the zone that the credential may not change; `None` at hosts that only know rights to whole zones.
    fn forbidden(&self) -> Option<DnsName>;

    /// Time, and a deadline that is far enough away.
    fn context(&self) -> Context;

    /// The TXT RRset that the world gets from the host.
    async fn served(&self, name: &DnsName) -> RrSet;

    /// What the host makes of a TTL that it is given.
    fn ttl(&self, wanted: u32) -> u32 {
        wanted
    }

    /// Puts a value there as somebody else would. The whole RRset may get this TTL.
    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32);
}

/// Every label that the rules give to [`Fixture::name`], for hosts whose rights are listed name by name.
pub fn labels() -> Vec<String> {
    let single = [
        "zone-of",
        "twice",
        "gone",
        "never",
        "two",
        "foreign",
        "both0",
        "both1",
        "empty",
        "full",
        "octets",
        "beside-refused",
        "late",
        "belief",
        "race",
    ];
    let several = (0..3).map(|i| format!("several{i}"));
    let many = (0..MANY).map(|i| format!("many{i}"));
    let single = single.into_iter().map(str::to_owned);
    single.chain(several).chain(many).collect()
}

/// Every rule, one after another.
pub async fn battery(provider: &dyn Provider, fixture: &dyn Fixture) {
    finds_the_zone_of_a_name_and_of_its_apex(provider, fixture).await;
    finds_no_zone_for_a_name_held_elsewhere(provider, fixture).await;
    ensuring_twice_leaves_one_value(provider, fixture).await;
    withdrawing_twice_leaves_nothing(provider, fixture).await;
    withdrawing_what_never_was_succeeds(provider, fixture).await;
    two_values_live_at_one_name(provider, fixture).await;
    foreign_values_and_their_ttl_stay(provider, fixture).await;
    several_names_change_in_one_call(provider, fixture).await;
    both_verbs_work_in_one_call(provider, fixture).await;
    observing_names_without_records_answers_each(provider, fixture).await;
    what_is_believed_is_not_taken_for_the_truth(provider, fixture).await;
    values_differ_by_case_and_by_every_character(provider, fixture).await;
    a_hundred_names_change_in_one_call(provider, fixture).await;
    a_refused_name_is_refused_and_the_others_stay_possible(provider, fixture).await;
    nothing_to_do_succeeds(provider, fixture).await;
    a_deadline_in_the_past_ends_at_once(provider, fixture).await;
    four_writers_keep_every_value(provider, fixture).await;
}

/// `zones` names the apex for a name below it and for itself.
pub async fn finds_the_zone_of_a_name_and_of_its_apex(
    provider: &dyn Provider,
    fixture: &dyn Fixture,
) {
    let zone = fixture.zone();
    for name in [fixture.name("zone-of"), zone.name.clone()] {
        let found = provider.zones(&name, &fixture.context()).await.unwrap();
        let found: Vec<&Zone> = found.iter().map(|held| &held.zone).collect();
        assert_eq!(found, [&zone], "the zone of {name}");
    }
}

/// `zones` of a name that the host knows nothing of is empty, not an error.
pub async fn finds_no_zone_for_a_name_held_elsewhere(
    provider: &dyn Provider,
    fixture: &dyn Fixture,
) {
    let name = DnsName::parse("_acme-challenge.nobody-has-this.invalid").unwrap();
    let found = provider.zones(&name, &fixture.context()).await;
    assert_eq!(found, Ok(Vec::new()), "the zone of {name}");
}

/// `ensure` of a value that is there succeeds and changes nothing.
pub async fn ensuring_twice_leaves_one_value(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let name = fixture.name("twice");
    for _ in 0..2 {
        host.apply(&[ensure(&name, "once")]).await;
        host.serves(&name, &["once"], Some(TTL)).await;
    }
    host.apply(&[absent(&name, "once")]).await;
}

/// `absent` of a value that is gone succeeds.
pub async fn withdrawing_twice_leaves_nothing(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let name = fixture.name("gone");
    host.apply(&[ensure(&name, "short-lived")]).await;
    for _ in 0..2 {
        host.apply(&[absent(&name, "short-lived")]).await;
        host.serves(&name, &[], None).await;
    }
}

/// `absent` of a value at a name that has nothing, and at one that has another value, succeeds.
pub async fn withdrawing_what_never_was_succeeds(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let name = fixture.name("never");
    host.apply(&[absent(&name, "never-was")]).await;
    host.serves(&name, &[], None).await;
    host.apply(&[ensure(&name, "is")]).await;
    host.apply(&[absent(&name, "never-was")]).await;
    host.serves(&name, &["is"], Some(TTL)).await;
    host.apply(&[absent(&name, "is")]).await;
}

/// An apex and its wildcard have two values at one name; each comes and goes alone.
pub async fn two_values_live_at_one_name(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let name = fixture.name("two");
    host.apply(&[ensure(&name, "apex"), ensure(&name, "wildcard")])
        .await;
    host.serves(&name, &["apex", "wildcard"], Some(TTL)).await;
    host.apply(&[absent(&name, "apex")]).await;
    host.serves(&name, &["wildcard"], Some(TTL)).await;
    host.apply(&[ensure(&name, "apex")]).await;
    host.serves(&name, &["apex", "wildcard"], Some(TTL)).await;
    host.apply(&[absent(&name, "apex"), absent(&name, "wildcard")])
        .await;
    host.serves(&name, &[], None).await;
}

/// What somebody else has at the name keeps its value and its TTL.
pub async fn foreign_values_and_their_ttl_stay(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let name = fixture.name("foreign");
    let theirs = "v=spf1 -all; \"quoted\" \\ and a comma,";
    fixture.add_foreign(&name, theirs, FOREIGN_TTL).await;
    host.apply(&[ensure(&name, "ours")]).await;
    host.serves(&name, &["ours", theirs], Some(FOREIGN_TTL))
        .await;
    host.apply(&[absent(&name, "ours")]).await;
    host.serves(&name, &[theirs], Some(FOREIGN_TTL)).await;
    host.apply(&[absent(&name, theirs)]).await;
    host.serves(&name, &[], None).await;
}

/// One call may carry several names.
pub async fn several_names_change_in_one_call(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let names: Vec<DnsName> = (0..3)
        .map(|i| fixture.name(&format!("several{i}")))
        .collect();
    let all = |verb: fn(&DnsName, &str) -> Change| -> Vec<Change> {
        names.iter().map(|name| verb(name, "value")).collect()
    };
    host.apply(&all(ensure)).await;
    for name in &names {
        host.serves(name, &["value"], Some(TTL)).await;
    }
    host.apply(&all(absent)).await;
    for name in &names {
        host.serves(name, &[], None).await;
    }
}

/// One call may carry both verbs, at one name too.
pub async fn both_verbs_work_in_one_call(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let (one, other) = (fixture.name("both0"), fixture.name("both1"));
    host.apply(&[ensure(&one, "old"), ensure(&other, "old")])
        .await;
    host.apply(&[
        ensure(&one, "new"),
        absent(&one, "old"),
        absent(&other, "old"),
    ])
    .await;
    host.serves(&one, &["new"], Some(TTL)).await;
    host.serves(&other, &[], None).await;
    host.apply(&[absent(&one, "new")]).await;
}

/// `observe` answers every name asked for, in any number, with no values where there are none.
pub async fn observing_names_without_records_answers_each(
    provider: &dyn Provider,
    fixture: &dyn Fixture,
) {
    let host = Host { provider, fixture };
    let (empty, full) = (fixture.name("empty"), fixture.name("full"));
    host.apply(&[ensure(&full, "value")]).await;
    let seen = host.observe(&[empty.clone(), full.clone()]).await;
    assert_eq!(
        seen,
        [
            set(&empty, &[], None),
            set(&full, &["value"], Some(fixture.ttl(TTL)))
        ]
    );
    assert_eq!(host.observe(&[]).await, []);
    host.apply(&[absent(&full, "value")]).await;
}

/// A belief that is wrong in what is there, or in what is not, or in the TTL, harms nobody; one that is right is right.
pub async fn what_is_believed_is_not_taken_for_the_truth(
    provider: &dyn Provider,
    fixture: &dyn Fixture,
) {
    let host = Host { provider, fixture };
    let name = fixture.name("belief");
    let believed = |values: &[&str], ttl| [set(&name, values, Some(ttl))];
    let believe = |change: Change, belief: [RrSet; 1]| async move {
        let applied = host.try_apply_believing(&[change], &belief).await;
        applied.unwrap_or_else(|error| panic!("believing {belief:?}: {error:?}"));
    };
    fixture.add_foreign(&name, "theirs", FOREIGN_TTL).await;
    believe(ensure(&name, "one"), believed(&["lost"], TTL)).await;
    host.serves(&name, &["one", "theirs"], Some(FOREIGN_TTL))
        .await;
    believe(ensure(&name, "two"), believed(&["one"], TTL)).await;
    host.serves(&name, &["one", "two", "theirs"], Some(FOREIGN_TTL))
        .await;
    let right = believed(&["one", "two", "theirs"], FOREIGN_TTL);
    believe(absent(&name, "one"), right).await;
    host.serves(&name, &["two", "theirs"], Some(FOREIGN_TTL))
        .await;
    believe(absent(&name, "two"), believed(&["one", "two"], TTL)).await;
    host.serves(&name, &["theirs"], Some(FOREIGN_TTL)).await;
    believe(absent(&name, "theirs"), believed(&["theirs"], FOREIGN_TTL)).await;
    believe(absent(&name, "theirs"), believed(&["theirs"], FOREIGN_TTL)).await;
    host.serves(&name, &[], None).await;
}

/// Values are octets: case and every character of base64url count.
pub async fn values_differ_by_case_and_by_every_character(
    provider: &dyn Provider,
    fixture: &dyn Fixture,
) {
    let host = Host { provider, fixture };
    let name = fixture.name("octets");
    let values = [
        "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0",
        "loqxcyv8q5onbjqxbmr7sctno3tiaxdfowyjxajeux0",
        "-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-",
    ];
    let all: Vec<Change> = values.iter().map(|value| ensure(&name, value)).collect();
    host.apply(&all).await;
    host.serves(&name, &values, Some(TTL)).await;
    host.apply(&[absent(&name, values[0])]).await;
    host.serves(&name, &values[1..], Some(TTL)).await;
    host.apply(&[absent(&name, values[1]), absent(&name, values[2])])
        .await;
}

/// As many names as a large order has, in calls as large as the plug-in says it takes.
pub async fn a_hundred_names_change_in_one_call(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let value = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    let names: Vec<DnsName> = (0..MANY)
        .map(|i| fixture.name(&format!("many{i}")))
        .collect();
    for verb in [ensure, absent] {
        let changes: Vec<Change> = names.iter().map(|name| verb(name, value)).collect();
        for batch in changes.chunks(provider.traits().batch) {
            host.apply(batch).await;
        }
        for (change, set) in changes.iter().zip(host.observe(&names).await) {
            let there = set.values == [value];
            assert_eq!(there, change.verb == Verb::Ensure, "{set:?}");
        }
    }
}

/// A name that the credential may not change is an error that only a person can help with, and does no harm to a
/// name that it may change.
pub async fn a_refused_name_is_refused_and_the_others_stay_possible(
    provider: &dyn Provider,
    fixture: &dyn Fixture,
) {
    let host = Host { provider, fixture };
    let Some(forbidden) = fixture.forbidden() else {
        return;
    };
    let allowed = fixture.name("beside-refused");
    let refused = |error: ProviderError| {
        assert!(
            matches!(error.kind, ErrorKind::Permission | ErrorKind::Invalid),
            "{forbidden} is refused with {error:?}"
        );
    };
    let both = [ensure(&allowed, "value"), ensure(&forbidden, "value")];
    refused(host.try_apply(&both).await.unwrap_err());
    host.serves(&forbidden, &[], None).await;
    refused(host.try_apply(&both[1..]).await.unwrap_err());
    host.apply(&both[..1]).await;
    host.serves(&allowed, &["value"], Some(TTL)).await;
    host.apply(&[absent(&allowed, "value")]).await;
    host.serves(&allowed, &[], None).await;
}

/// No changes, no error.
pub async fn nothing_to_do_succeeds(provider: &dyn Provider, fixture: &dyn Fixture) {
    Host { provider, fixture }.apply(&[]).await;
}

/// A verb whose time is over gives up as transient, and at once.
pub async fn a_deadline_in_the_past_ends_at_once(provider: &dyn Provider, fixture: &dyn Fixture) {
    let mut context = fixture.context();
    let name = fixture.name("late");
    context.deadline = crate::clock::earlier(context.clock.now(), Duration::from_secs(1));
    let before = context.clock.elapsed();
    let change = [ensure(&name, "late")];
    let late = provider
        .apply(&fixture.zone(), &change, &[], &context)
        .await;
    let spent = context.clock.elapsed().saturating_sub(before);
    let late = late.expect_err("a deadline in the past");
    assert_eq!(late.kind, ErrorKind::Transient, "{late:?}");
    assert!(spent < Duration::from_secs(1), "gave up after {spent:?}");
}

/// Four writers of one name at once lose no value and no foreign TTL.
pub async fn four_writers_keep_every_value(provider: &dyn Provider, fixture: &dyn Fixture) {
    let host = Host { provider, fixture };
    let name = fixture.name("race");
    fixture.add_foreign(&name, "theirs", FOREIGN_TTL).await;
    let ours: [String; 4] = std::array::from_fn(|i| format!("writer-{i}"));
    let all: Vec<&str> = ours.iter().map(String::as_str).chain(["theirs"]).collect();
    for _ in 0..ROUNDS {
        for (verb, left) in [(ensure as Make, all.as_slice()), (absent, &["theirs"])] {
            let change = |i: usize| verb(&name, &ours[i]);
            tokio::join!(
                host.insist(change(0)),
                host.insist(change(1)),
                host.insist(change(2)),
                host.insist(change(3)),
            );
            host.serves(&name, left, Some(FOREIGN_TTL)).await;
        }
    }
    host.apply(&[absent(&name, "theirs")]).await;
}

type Make = fn(&DnsName, &str) -> Change;

/// The `ensure` of `value` at `name`.
pub fn ensure(name: &DnsName, value: &str) -> Change {
    change(Verb::Ensure, name, value)
}

/// The `absent` of `value` at `name`.
pub fn absent(name: &DnsName, value: &str) -> Change {
    change(Verb::Absent, name, value)
}

fn change(verb: Verb, name: &DnsName, value: &str) -> Change {
    Change {
        verb,
        name: name.clone(),
        value: value.to_owned(),
        ttl: TTL,
        handle: None,
    }
}

fn set(name: &DnsName, values: &[&str], ttl: Option<u32>) -> RrSet {
    RrSet {
        name: name.clone(),
        ttl,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

/// A plug-in and its host.
#[derive(Clone, Copy)]
struct Host<'a> {
    provider: &'a dyn Provider,
    fixture: &'a dyn Fixture,
}

impl Host<'_> {
    async fn try_apply(&self, changes: &[Change]) -> Result<(), ProviderError> {
        self.try_apply_believing(changes, &[]).await
    }

    async fn try_apply_believing(
        &self,
        changes: &[Change],
        believed: &[RrSet],
    ) -> Result<(), ProviderError> {
        let (zone, context) = (self.fixture.zone(), self.fixture.context());
        let applied = self.provider.apply(&zone, changes, believed, &context);
        applied.await.map(drop)
    }

    async fn apply(&self, changes: &[Change]) {
        if let Err(error) = self.try_apply(changes).await {
            panic!("apply of {changes:?}: {error:?}");
        }
    }

    /// What the core does when somebody else was faster.
    async fn insist(&self, change: Change) {
        for _ in 0..TRIES {
            match self.try_apply(std::slice::from_ref(&change)).await {
                Ok(()) => return,
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => panic!("apply of {change:?}: {error:?}"),
            }
        }
        panic!("{change:?} was overtaken {TRIES} times");
    }

    async fn observe(&self, names: &[DnsName]) -> Vec<RrSet> {
        self.provider
            .observe(&self.fixture.zone(), names, &self.fixture.context())
            .await
            .unwrap_or_else(|error| panic!("observe of {names:?}: {error:?}"))
    }

    /// The world and the plug-in see exactly `values`.
    async fn serves(&self, name: &DnsName, values: &[&str], ttl: Option<u32>) {
        let wanted: BTreeSet<&str> = values.iter().copied().collect();
        let ttl = ttl.map(|ttl| self.fixture.ttl(ttl));
        let observed = self.observe(std::slice::from_ref(name)).await;
        assert_eq!(observed.len(), 1, "observe answers each name once");
        for set in [self.fixture.served(name).await, observed[0].clone()] {
            let seen: BTreeSet<&str> = set.values.iter().map(String::as_str).collect();
            assert_eq!(seen, wanted, "the values at {name}");
            assert_eq!(set.values.len(), values.len(), "no value twice at {name}");
            assert_eq!(set.ttl, ttl, "the TTL at {name}");
        }
    }
}
