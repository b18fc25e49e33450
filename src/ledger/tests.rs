//! Plug-ins with faults, slots, handles and tickets, and what the ledger of their zone makes of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use countersign_providers::clock::{Clock, VirtualClock};
use countersign_providers::record::{Change, DnsName, RrSet, Verb, Zone};
use countersign_providers::{
    Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Settled, Traits,
};

use super::*;
use crate::store::testing::session;

/// A host that answers as it is told, and well when it is told nothing.
struct Host {
    model: RecordModel,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the next calls come to.
    answers: VecDeque<Answer>,
    /// What the next looks at tickets come to.
    settles: VecDeque<Settled>,
    calls: Vec<Seen>,
    /// The names of each look.
    looks: Vec<Vec<String>>,
    settled: usize,
}

enum Answer {
    Fault,
    Silence,
    Refuse(ErrorKind),
    Ticket(&'static str),
    Handle(&'static str),
}

/// One call: a word for each change, and what was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    changes: Vec<String>,
    believed: Vec<String>,
}

impl Host {
    fn new(model: RecordModel) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Self { model, state })
    }

    fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().answers.extend(answers);
    }

    fn calls(&self) -> Vec<Seen> {
        self.state.lock().unwrap().calls.clone()
    }

    fn changes(&self) -> Vec<Vec<String>> {
        let calls = self.calls();
        calls.into_iter().map(|seen| seen.changes).collect()
    }
}

#[async_trait]
impl Provider for Host {
    fn traits(&self) -> Traits {
        Traits {
            model: self.model,
            batch: 10,
            rate: None,
            propagation: Duration::from_secs(60),
        }
    }

    async fn zones(&self, _: &DnsName, _: &Context) -> Result<Vec<Held>, ProviderError> {
        Ok(Vec::new())
    }

    async fn observe(
        &self,
        _: &Zone,
        names: &[DnsName],
        _: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        let names = names.iter().map(ToString::to_string).collect();
        self.state.lock().unwrap().looks.push(names);
        Ok(Vec::new())
    }

    async fn apply(
        &self,
        _: &Zone,
        changes: &[Change],
        believed: &[RrSet],
        _: &Context,
    ) -> Result<Receipt, ProviderError> {
        let word = |change: &Change| {
            let verb = match change.verb {
                Verb::Ensure => "+",
                Verb::Absent => "-",
            };
            let handle = change.handle.as_deref().unwrap_or_default();
            format!("{verb}{}{handle}", change.value)
        };
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.calls.push(Seen {
                changes: changes.iter().map(word).collect(),
                believed: believed.iter().flat_map(|set| set.values.clone()).collect(),
            });
            state.answers.pop_front()
        };
        match answer {
            None => Ok(Receipt::default()),
            Some(Answer::Fault) => panic!("a fault in a plug-in"),
            Some(Answer::Silence) => std::future::pending().await,
            Some(Answer::Refuse(kind)) => Err(ProviderError::new(kind, "no")),
            Some(Answer::Ticket(ticket)) => Ok(Receipt::of(ticket.to_owned())),
            Some(Answer::Handle(handle)) => Ok(Receipt {
                ticket: None,
                handles: vec![Some(handle.to_owned()); changes.len()],
            }),
        }
    }

    async fn settle(&self, ticket: &str, _: &Context) -> Result<Settled, ProviderError> {
        assert_eq!(ticket, "c1");
        let mut state = self.state.lock().unwrap();
        state.settled += 1;
        Ok(state.settles.pop_front().unwrap_or(Settled::Everywhere))
    }
}

async fn ledger(hosts: &[(&str, &Arc<Host>)], clock: Clock) -> Ledger {
    let hosts: BTreeMap<String, Arc<dyn Provider>> = (hosts.iter())
        .map(|(name, host)| ((*name).to_owned(), Arc::clone(host) as Arc<dyn Provider>))
        .collect();
    Ledger::start(session().await, hosts, clock, |_| true)
        .await
        .unwrap()
}

fn record(provider: &str, id: &str, value: &str) -> RecordId {
    let name = |text: &str| DnsName::parse(text).unwrap();
    RecordId {
        provider: provider.to_owned(),
        zone: Zone {
            name: name("example.test"),
            id: id.to_owned(),
        },
        name: name("_acme-challenge.example.test"),
        value: value.to_owned(),
    }
}

fn owner(number: usize) -> Owner {
    format!("web/{number}/0")
}

/// Has so much time go by.
async fn time_passes_for(hands: &VirtualClock, long: Duration) {
    let steps = std::cell::Cell::new(0);
    let end = long.as_millis() / 100;
    let is_over = || {
        steps.set(steps.get() + 1);
        steps.get() > end
    };
    time_passes(hands, is_over).await;
}

/// Has time go by until `is_so`.
async fn time_passes(hands: &VirtualClock, is_so: impl Fn() -> bool) -> Duration {
    const STEP: Duration = Duration::from_millis(100);
    let mut passed = Duration::ZERO;
    while !is_so() {
        hands.advance(STEP);
        passed += STEP;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(passed < Duration::from_secs(3_600), "it never was");
    }
    passed
}

#[tokio::test]
async fn after_a_fault_in_a_plug_in_its_zone_goes_on() {
    let host = Host::new(RecordModel::Value);
    host.answer([Answer::Fault]);
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    let record = record("host", "", "value");
    let first = ledger.present(owner(1), record.clone(), 60).await;
    assert!(matches!(first, Err(PresentError::Store(_))), "{first:?}");
    let second = ledger.present(owner(1), record.clone(), 60).await;
    assert!(second.is_ok(), "{second:?}");
    ledger.release(owner(1), record).await.unwrap();
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    assert!(host.calls().len() >= 3);
}

#[tokio::test]
async fn who_was_overtaken_tries_again_and_believes_nothing_then() {
    let host = Host::new(RecordModel::SetWithProof);
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    ledger
        .present(owner(1), record("host", "", "a"), 60)
        .await
        .unwrap();
    host.answer([
        Answer::Refuse(ErrorKind::Conflict),
        Answer::Refuse(ErrorKind::Conflict),
    ]);
    ledger
        .present(owner(2), record("host", "", "b"), 60)
        .await
        .unwrap();
    let believed: Vec<Vec<String>> = host.calls().into_iter().map(|it| it.believed).collect();
    let nothing = Vec::new();
    assert_eq!(
        believed,
        [&nothing, &vec!["a".to_owned()], &nothing, &nothing].map(Clone::clone)
    );
}

#[tokio::test]
async fn who_is_always_overtaken_is_told_so() {
    let host = Host::new(RecordModel::SetWithProof);
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    host.answer((0..100).map(|_| Answer::Refuse(ErrorKind::Conflict)));
    let overtaken = ledger.present(owner(1), record("host", "", "a"), 60).await;
    let Err(PresentError::Provider(error)) = overtaken else {
        panic!("{overtaken:?}");
    };
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert_eq!(host.calls().len(), 6);
}

#[tokio::test]
async fn what_the_host_calls_a_value_is_given_back_with_its_removal() {
    let host = Host::new(RecordModel::Value);
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    host.answer([Answer::Handle("#17")]);
    let record = record("host", "", "a");
    ledger.present(owner(1), record.clone(), 60).await.unwrap();
    ledger.release(owner(1), record).await.unwrap();
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    assert_eq!(host.changes(), [["+a"], ["-a#17"]]);
}

#[tokio::test]
async fn a_value_spreads_until_the_host_says_that_it_is_everywhere() {
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let host = Host::new(RecordModel::SetWithProof);
    host.answer([Answer::Ticket("c1")]);
    host.state.lock().unwrap().settles = [Settled::NotYet, Settled::NotYet].into();
    let ledger = ledger(&[("host", &host)], clock).await;
    let a = record("host", "", "a");
    let present = {
        let (ledger, a) = (ledger.clone(), a.clone());
        tokio::spawn(async move { ledger.present(owner(1), a, 60).await })
    };
    time_passes(&hands, || present.is_finished()).await;
    assert_eq!(present.await.unwrap().unwrap(), Placed::Spreading);
    let second = {
        let (ledger, a) = (ledger.clone(), a.clone());
        tokio::spawn(async move { ledger.present(owner(2), a, 60).await })
    };
    let settled = {
        let (ledger, a) = (ledger.clone(), a.clone());
        tokio::spawn(async move { ledger.settled(&a).await })
    };
    let passed = time_passes(&hands, || settled.is_finished()).await;
    let second = second.await.unwrap().unwrap();
    assert_eq!(second, Placed::Spreading, "it follows the same change");
    let third = ledger.present(owner(3), a, 60).await.unwrap();
    assert_eq!(third, Placed::There);
    assert_eq!(host.state.lock().unwrap().settled, 3);
    // Looks after 2, 3 and 4.5 s.
    let passed = passed.as_millis();
    assert!((9_500..11_000).contains(&passed), "{passed}");
}

#[tokio::test]
async fn whoever_is_answered_does_not_wait_for_the_rest_of_the_batch() {
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let host = Host::new(RecordModel::Value);
    let ledger = ledger(&[("host", &host)], clock).await;
    // Eleven names in two calls, of which the second hangs.
    let slow = [Answer::Ticket("c1"), Answer::Silence];
    host.answer(slow);
    let present = |n: usize| {
        let ledger = ledger.clone();
        let record = RecordId {
            name: DnsName::parse(&format!("n{n:02}.example.test")).unwrap(),
            ..record("host", "", "a")
        };
        tokio::spawn(async move { ledger.present(owner(n), record, 60).await })
    };
    let all: Vec<_> = (0..11).map(present).collect();
    let first = || all.iter().filter(|it| it.is_finished()).count() == 10;
    let passed = time_passes(&hands, first).await;
    assert!(passed < Duration::from_secs(5), "{passed:?}");
}

#[tokio::test]
async fn nobody_waits_for_a_plug_in_that_falls_over_while_it_is_asked_how_far_it_is() {
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let host = Host::new(RecordModel::Value);
    host.answer([Answer::Ticket("another")]);
    let ledger = ledger(&[("host", &host)], clock).await;
    let a = record("host", "", "a");
    let placed = ledger.present(owner(1), a.clone(), 60).await.unwrap();
    assert_eq!(placed, Placed::Spreading);
    let settled = {
        let (ledger, a) = (ledger.clone(), a.clone());
        tokio::spawn(async move { ledger.settled(&a).await })
    };
    time_passes(&hands, || settled.is_finished()).await;
    let again = ledger.present(owner(2), a, 60).await.unwrap();
    assert_eq!(again, Placed::There);
}

#[tokio::test]
async fn what_another_writer_may_bring_back_is_looked_for_after_its_removal() {
    for (model, looks) in [(RecordModel::Set, 4), (RecordModel::SetWithProof, 0)] {
        let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
        let host = Host::new(model);
        let ledger = ledger(&[("host", &host)], clock).await;
        let a = record("host", "", "a");
        ledger.present(owner(1), a.clone(), 60).await.unwrap();
        let released = {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.release(owner(1), a).await })
        };
        time_passes(&hands, || released.is_finished()).await;
        let looked = || host.state.lock().unwrap().looks.len();
        time_passes(&hands, || host.changes().len() == 2).await;
        if looks > 0 {
            let passed = time_passes(&hands, || looked() == looks).await;
            assert!(passed.as_secs().abs_diff(600) < 20, "{passed:?}");
        }
        time_passes_for(&hands, Duration::from_secs(900)).await;
        assert_eq!(looked(), looks, "{model:?}");
        assert_eq!(host.changes(), [["+a"], ["-a"]]);
    }
}

#[tokio::test]
async fn a_late_write_is_looked_for_once_a_name_and_in_parts_that_the_host_takes() {
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let host = Host::new(RecordModel::Value);
    let ledger = ledger(&[("host", &host)], clock).await;
    // Two values at each of twelve names, in three calls without a reply.
    host.answer((0..3).map(|_| Answer::Refuse(ErrorKind::Transient)));
    let records = (0..12).flat_map(|n| ["a", "b"].map(|value| (n, value)));
    let records: Vec<RecordId> = records
        .map(|(n, value)| RecordId {
            name: DnsName::parse(&format!("n{n}.example.test")).unwrap(),
            ..record("host", "", value)
        })
        .collect();
    let all = records.iter().cloned().map(|record| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.present(owner(1), record, 60).await })
    });
    let all: Vec<_> = all.collect();
    time_passes(&hands, || all.iter().all(|it| it.is_finished())).await;
    let all = records.into_iter().map(|record| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.release(owner(1), record).await })
    });
    let all: Vec<_> = all.collect();
    time_passes(&hands, || all.iter().all(|it| it.is_finished())).await;
    let looks = || host.state.lock().unwrap().looks.clone();
    time_passes(&hands, || looks().len() == 2).await;
    let mut names = looks().concat();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 12);
    assert_eq!(looks().iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
}

#[tokio::test]
async fn a_host_that_says_nothing_is_not_asked_for_all_of_a_batch() {
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let host = Host::new(RecordModel::Value);
    let ledger = ledger(&[("host", &host)], clock).await;
    host.answer((0..10).map(|_| Answer::Silence));
    ledger.approach(0, 50);
    let all = (0..50).map(|n| {
        let (ledger, record) = (ledger.clone(), record("host", "", &format!("v{n}")));
        tokio::spawn(async move { ledger.present(owner(n), record, 60).await })
    });
    let all: Vec<_> = all.collect();
    time_passes(&hands, || all.iter().all(|it| it.is_finished())).await;
    for result in all {
        let result = result.await.unwrap();
        assert!(
            matches!(result, Err(PresentError::Provider(_))),
            "{result:?}"
        );
    }
    assert_eq!(host.calls().len(), 3);
}

#[tokio::test]
async fn a_name_with_room_for_one_value_has_the_next_one_wait_for_it() {
    let host = Host::new(RecordModel::Slots(1));
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    let (a, b) = (record("host", "", "a"), record("host", "", "b"));
    ledger.present(owner(1), a.clone(), 60).await.unwrap();
    let second = {
        let (ledger, b) = (ledger.clone(), b.clone());
        tokio::spawn(async move { ledger.present(owner(2), b, 60).await })
    };
    // Its own value once more is none beyond it.
    ledger.present(owner(3), a.clone(), 60).await.unwrap();
    assert!(!second.is_finished());
    ledger.release(owner(1), a.clone()).await.unwrap();
    assert!(!second.is_finished());
    ledger.release(owner(3), a).await.unwrap();
    second.await.unwrap().unwrap();
    ledger.release(owner(2), b).await.unwrap();
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    assert_eq!(host.changes(), [["+a"], ["+a"], ["-a"], ["+b"], ["-b"]]);
}

#[tokio::test]
async fn a_value_that_is_written_again_does_not_push_out_the_other_one() {
    let host = Host::new(RecordModel::Slots(2));
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    let (a, b) = (record("host", "", "a"), record("host", "", "b"));
    ledger.present(owner(1), a.clone(), 60).await.unwrap();
    // Its reply is lost: it may be there, and a second one of it would take the place of `a`.
    host.answer([Answer::Refuse(ErrorKind::Transient)]);
    let lost = ledger.present(owner(2), b.clone(), 60).await;
    assert!(matches!(lost, Err(PresentError::Provider(_))), "{lost:?}");
    ledger.present(owner(2), b.clone(), 60).await.unwrap();
    assert_eq!(host.changes()[..2], [["+a"], ["+b"]]);
    assert_eq!(host.changes()[2], ["+b", "+a"]);
    // One that is not there for certain is written alone.
    ledger.release(owner(1), a).await.unwrap();
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    let c = record("host", "", "c");
    ledger.present(owner(3), c, 60).await.unwrap();
    assert_eq!(host.changes().last().unwrap(), &["+c"]);
    ledger.release(owner(2), b).await.unwrap();
}

#[tokio::test]
async fn a_zone_at_two_hosts_is_written_at_both() {
    let (one, other) = (Host::new(RecordModel::Value), Host::new(RecordModel::Value));
    let ledger = ledger(&[("one", &one), ("other", &other)], Clock::system()).await;
    let both = joint_name(["other", "one"]);
    let record = record(&both, r#"["1","2"]"#, "a");
    one.answer([Answer::Handle("#1")]);
    ledger.present(owner(1), record.clone(), 60).await.unwrap();
    ledger.release(owner(1), record.clone()).await.unwrap();
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    assert_eq!(one.changes(), [["+a"], ["-a#1"]]);
    assert_eq!(other.changes(), [["+a"], ["-a"]]);
    // What one refuses may be at the other.
    other.answer([Answer::Refuse(ErrorKind::Permission)]);
    let refused = ledger.present(owner(2), record.clone(), 60).await;
    assert!(
        matches!(refused, Err(PresentError::Provider(_))),
        "{refused:?}"
    );
    ledger.release(owner(2), record).await.unwrap();
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    assert_eq!(one.changes().last().unwrap(), &["-a"]);
}

#[tokio::test]
async fn a_value_of_others_is_cleared_once_it_is_saved_and_alone() {
    let host = Host::new(RecordModel::Value);
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    let (ours, theirs) = (record("host", "", "ours"), record("host", "", "theirs"));
    ledger.present(owner(1), ours, 60).await.unwrap();
    host.answer([Answer::Refuse(ErrorKind::Transient)]);
    let refused = ledger.clear(theirs.clone()).await;
    assert!(
        matches!(refused, Err(ClearError::Provider(_))),
        "{refused:?}"
    );
    let kept = Ledger::entries(&ledger.0.session).await.unwrap();
    assert!(kept.iter().any(|entry| entry.record == theirs), "{kept:?}");
    ledger.clear(theirs).await.unwrap();
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    let changes: BTreeSet<String> = host.changes().concat().into_iter().collect();
    let wanted = ["+ours", "-theirs"].map(str::to_owned);
    assert_eq!(changes, wanted.into());
    assert_eq!(Ledger::entries(&ledger.0.session).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_value_that_an_order_needs_is_never_cleared() {
    let host = Host::new(RecordModel::Value);
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    let record = record("host", "", "a");
    ledger.present(owner(1), record.clone(), 60).await.unwrap();
    let refused = ledger.clear(record).await;
    assert!(matches!(refused, Err(ClearError::Wanted)), "{refused:?}");
    assert_eq!(host.changes(), [["+a"]]);
}

#[tokio::test]
async fn a_value_of_others_that_the_host_keeps_does_not_become_ours() {
    let host = Host::new(RecordModel::Value);
    let ledger = ledger(&[("host", &host)], Clock::system()).await;
    host.answer([Answer::Refuse(ErrorKind::Permission)]);
    let refused = ledger.clear(record("host", "", "theirs")).await;
    assert!(
        matches!(refused, Err(ClearError::Provider(_))),
        "{refused:?}"
    );
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    assert_eq!(host.changes(), [["-theirs"]]);
}
