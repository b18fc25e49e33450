//! An attempt step by step, each behaviour by itself.

mod spreading;
mod together;

use std::net::IpAddr;

use countersign_providers::clock::later;
use countersign_providers::error::{ErrorKind, ProviderError};
use countersign_providers::record::{DnsName, Zone};

use super::super::names::challenge_value;
use super::super::order::{CaFault, ChallengeSeen, ChallengeStatus, Problem};
use super::super::propagation::{Observation, Outcome};
use super::super::reaction::Whose;
use super::*;

const ORDER: &str = "https://ca.test/order/1";

/// An attempt and the instant it is at.
struct Stage {
    attempt: Attempt,
    now: Timestamp,
}

impl Stage {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let request = Request {
            certificate: CertificateName::parse("web").unwrap(),
            epoch: 1,
            identifiers: vec![Identifier::parse("*.example.com").unwrap()],
            profile: None,
            key: KeyType::P256,
            authority: "main".to_owned(),
            account: "https://ca.test/account/1".to_owned(),
            thumbprint: "thumbprint".to_owned(),
        };
        Self {
            attempt: Attempt::new(request, now),
            now,
        }
    }

    /// An attempt whose order with `parts` authorizations is known and whose key is saved.
    fn ordered(parts: usize) -> Self {
        let mut stage = Self::new();
        stage.answer(
            "new-order",
            Event::Ordered(Ok(order(OrderStatus::Pending, parts))),
        );
        stage.answer("make-key", Event::KeySaved);
        stage
    }

    /// One whose value is proven.
    fn proven() -> Self {
        let mut stage = Self::ordered(1);
        stage.answer("authorization", seen(0, AuthorizationStatus::Pending));
        stage.answer("locate", Event::Located(0, Ok(located())));
        stage.answer("present", Event::Presented(0, Ok(Placed::There)));
        let value = stage.value();
        stage.answer("observe", observed(&[&value]));
        stage
    }

    fn value(&self) -> String {
        challenge_value("token-0", &self.attempt.request.thumbprint)
    }

    fn ids(&self) -> Vec<String> {
        let effects = self.attempt.pending(self.now).effects;
        effects.iter().map(|(id, _)| id.to_string()).collect()
    }

    /// The kinds of what is wanted now, without numbers.
    fn kinds(&self) -> Vec<String> {
        let kind = |id: String| id.split('/').next().unwrap().to_owned();
        self.ids().into_iter().map(kind).collect()
    }

    /// Answers the first effect of a kind that is wanted now.
    fn answer(&mut self, kind: &str, event: Event) {
        let pending = self.attempt.pending(self.now);
        let (id, _) = pending
            .effects
            .iter()
            .find(|(id, _)| id.to_string().starts_with(kind))
            .unwrap_or_else(|| panic!("{kind} is not wanted, but {:?}", pending.effects));
        self.attempt.apply(self.now, id, event);
    }

    /// Lets time pass until the attempt wants something, at most what it asked for.
    fn wake(&mut self) -> Duration {
        let wake = self.attempt.pending(self.now).wake.expect("nothing waits");
        let pause = between(self.now, wake);
        self.now = wake;
        pause
    }

    fn pass(&mut self, seconds: u64) {
        self.now = later(self.now, Duration::from_secs(seconds));
    }

    /// What is left after a crash.
    fn restart(&mut self) {
        let bytes = serde_json::to_vec(&self.attempt).unwrap();
        self.attempt = serde_json::from_slice(&bytes).unwrap();
    }

    fn failure(&self) -> &Failure {
        match self.attempt.end() {
            Some(End::Failed(failure)) => failure,
            other => panic!("it has not failed, but {other:?}"),
        }
    }
}

fn order(status: OrderStatus, parts: usize) -> OrderSeen {
    let valid = status == OrderStatus::Valid;
    OrderSeen {
        url: ORDER.to_owned(),
        status,
        authorizations: (0..parts).map(authorization_url).collect(),
        finalize: "https://ca.test/finalize/1".to_owned(),
        certificate: valid.then(|| "https://ca.test/certificate/1".to_owned()),
        error: None,
        expires: None,
        retry_after: None,
    }
}

fn authorization_url(part: usize) -> String {
    format!("https://ca.test/authorization/{part}")
}

fn authorization(part: usize, status: AuthorizationStatus) -> AuthorizationSeen {
    AuthorizationSeen {
        url: authorization_url(part),
        status,
        identifier: DnsName::parse("example.com").unwrap(),
        wildcard: part == 0,
        challenge: Some(challenge(part, ChallengeStatus::Pending)),
        expires: None,
        retry_after: None,
    }
}

fn challenge(part: usize, status: ChallengeStatus) -> ChallengeSeen {
    ChallengeSeen {
        url: format!("https://ca.test/challenge/{part}"),
        token: format!("token-{part}"),
        status,
        error: None,
    }
}

fn seen(part: usize, status: AuthorizationStatus) -> Event {
    Event::Authorization(part, Ok(authorization(part, status)))
}

fn responded() -> Event {
    Event::Responded(0, Ok(challenge(0, ChallengeStatus::Processing)))
}

fn located() -> Located {
    let apex = DnsName::parse("example.com").unwrap();
    Located {
        provider: "dns".to_owned(),
        owner: apex.prepend("_acme-challenge").unwrap(),
        zone: Zone {
            id: apex.to_string(),
            name: apex,
        },
        nowhere: Vec::new(),
        servers: vec![("ns1.example.net".to_owned(), IpAddr::from([192, 0, 2, 1]))],
        patience: Duration::from_secs(120),
    }
}

fn observed(values: &[&str]) -> Event {
    Event::Observed(
        0,
        vec![Observation {
            host: "ns1.example.net".to_owned(),
            address: IpAddr::from([192, 0, 2, 1]),
            outcome: Outcome::Values(values.iter().map(|&value| value.to_owned()).collect()),
            serial: None,
            by_resolver: false,
        }],
    )
}

fn problem(status: u16, kind: &str) -> Problem {
    Problem {
        kind: kind.to_owned(),
        detail: "in the authority's words".to_owned(),
        status: Some(status),
        subproblems: Vec::new(),
        instance: None,
    }
}

fn refused(status: u16, kind: &str, retry_after: Option<u64>) -> CaFault {
    CaFault::Refused {
        problem: problem(status, kind),
        retry_after: retry_after.map(Duration::from_secs),
    }
}

fn cut() -> CaFault {
    CaFault::Unreachable("the connection was cut".to_owned())
}

#[test]
fn asks_a_quick_authority_seven_times_and_no_more() {
    let mut stage = Stage::new();
    let mut requests = Vec::new();
    while stage.attempt.outcome().is_none() {
        let pending = stage.attempt.pending(stage.now);
        let Some((id, effect)) = pending.effects.into_iter().next() else {
            stage.wake();
            continue;
        };
        let decided = requests.contains(&"Respond");
        let (request, event) = match effect {
            Effect::NewOrder => (
                "NewOrder",
                Event::Ordered(Ok(order(OrderStatus::Pending, 1))),
            ),
            Effect::FetchAuthorization { .. } if decided => {
                ("FetchAuthorization", seen(0, AuthorizationStatus::Valid))
            }
            Effect::FetchAuthorization { .. } => {
                ("FetchAuthorization", seen(0, AuthorizationStatus::Pending))
            }
            Effect::Respond { .. } => ("Respond", responded()),
            Effect::Finalize(_) => (
                "Finalize",
                Event::Finalized(Ok(order(OrderStatus::Processing, 1))),
            ),
            Effect::FetchOrder(_) => ("FetchOrder", Event::Order(Ok(order(OrderStatus::Valid, 1)))),
            Effect::Download(_) => ("Download", Event::Downloaded),
            Effect::Locate { .. } => ("", Event::Located(0, Ok(located()))),
            Effect::Present { .. } => ("", Event::Presented(0, Ok(Placed::There))),
            Effect::Settle { .. } => ("", Event::Settled(0)),
            Effect::Observe { .. } => ("", observed(&[&stage.value()])),
            Effect::Release { owner, .. } => ("", Event::Released(owner)),
            Effect::MakeKey => ("", Event::KeySaved),
        };
        if !request.is_empty() {
            requests.push(request);
        }
        stage.attempt.apply(stage.now, &id, event);
    }
    let warm = [
        "NewOrder",
        "FetchAuthorization",
        "Respond",
        "FetchAuthorization",
        "Finalize",
        "FetchOrder",
        "Download",
    ];
    assert_eq!(requests, warm);
    assert_eq!(stage.attempt.outcome(), Some(&End::Issued));
}

#[test]
fn asks_the_authority_again_after_a_restart_and_never_for_another_order() {
    let mut stage = Stage::proven();
    stage.answer("respond", responded());
    stage.restart();
    assert_eq!(stage.kinds(), ["order"]);
    stage.answer("order", Event::Order(Ok(order(OrderStatus::Pending, 1))));
    assert_eq!(stage.kinds(), ["authorization"]);
}

#[test]
fn proves_again_after_a_restart_before_it_responds() {
    let mut stage = Stage::proven();
    assert_eq!(stage.kinds(), ["respond"]);
    stage.restart();
    stage.answer("order", Event::Order(Ok(order(OrderStatus::Pending, 1))));
    stage.answer("authorization", seen(0, AuthorizationStatus::Pending));
    assert_eq!(stage.kinds(), ["locate"]);
}

#[test]
fn does_not_finalize_before_the_key_is_saved() {
    let mut stage = Stage::new();
    stage.answer(
        "new-order",
        Event::Ordered(Ok(order(OrderStatus::Ready, 1))),
    );
    assert_eq!(stage.kinds(), ["make-key"]);
    stage.answer("make-key", Event::KeySaved);
    assert_eq!(stage.kinds(), ["finalize"]);
}

#[test]
fn looks_whether_a_response_arrived_when_its_reply_was_lost() {
    let mut stage = Stage::proven();
    stage.answer("respond", Event::Responded(0, Err(cut())));
    stage.wake();
    assert_eq!(stage.kinds(), ["authorization"]);
    let mut processing = authorization(0, AuthorizationStatus::Pending);
    processing.challenge = Some(challenge(0, ChallengeStatus::Processing));
    stage.answer("authorization", Event::Authorization(0, Ok(processing)));
    stage.wake();
    assert_eq!(
        stage.kinds(),
        ["authorization"],
        "it must not respond again"
    );
}

#[test]
fn responds_again_when_the_response_never_arrived() {
    let mut stage = Stage::proven();
    stage.answer("respond", Event::Responded(0, Err(cut())));
    stage.wake();
    stage.answer("authorization", seen(0, AuthorizationStatus::Pending));
    assert_eq!(stage.kinds(), ["respond"]);
}

#[test]
fn a_fault_elsewhere_does_not_make_a_response_another_one() {
    let mut stage = Stage::proven();
    let before = stage.ids();
    stage.attempt.known.turn = 1;
    assert_eq!(stage.ids(), before);
}

#[test]
fn asks_authorizations_for_the_reason_of_an_invalid_order() {
    let mut stage = Stage::proven();
    stage.answer("respond", responded());
    stage.restart();
    stage.answer("order", Event::Order(Ok(order(OrderStatus::Invalid, 1))));
    assert_eq!(stage.kinds(), ["authorization"]);
    let mut invalid = authorization(0, AuthorizationStatus::Invalid);
    let mut failed = challenge(0, ChallengeStatus::Invalid);
    failed.error = Some(problem(403, "unauthorized"));
    invalid.challenge = Some(failed);
    stage.answer("authorization", Event::Authorization(0, Ok(invalid)));
    let failure = stage.failure();
    assert!(failure.sentence.contains("in the authority's words"));
    assert_eq!(failure.whose, Whose::DnsHost);
    assert_eq!(stage.kinds(), ["release"]);
}

#[test]
fn goes_straight_to_the_csr_when_every_authorization_is_reused() {
    let mut stage = Stage::ordered(2);
    stage.answer("authorization/0/0", seen(0, AuthorizationStatus::Valid));
    stage.answer("authorization/0/1", seen(1, AuthorizationStatus::Valid));
    assert_eq!(stage.kinds(), ["finalize"]);
}

#[test]
fn looks_at_the_order_when_it_is_not_ready_yet() {
    let mut stage = Stage::ordered(1);
    stage.answer("authorization", seen(0, AuthorizationStatus::Valid));
    stage.answer(
        "finalize",
        Event::Finalized(Err(refused(403, "orderNotReady", None))),
    );
    stage.wake();
    assert_eq!(stage.kinds(), ["order"]);
}

#[test]
fn lets_the_order_say_whether_a_csr_arrived() {
    let mut stage = Stage::ordered(1);
    stage.answer("authorization", seen(0, AuthorizationStatus::Valid));
    stage.answer("finalize", Event::Finalized(Err(cut())));
    stage.wake();
    stage.answer("order", Event::Order(Ok(order(OrderStatus::Valid, 1))));
    assert_eq!(stage.kinds(), ["download"]);
}

#[test]
fn releases_everything_when_suspended_and_resumes_the_same_order() {
    let mut stage = Stage::proven();
    stage.attempt.suspend();
    let effects = stage.attempt.pending(stage.now).effects;
    let [(id, Effect::Release { owner, .. })] = effects.as_slice() else {
        panic!("only a release is wanted, but {effects:?}");
    };
    stage
        .attempt
        .apply(stage.now, id, Event::Released(owner.clone()));
    assert!(stage.ids().is_empty());
    stage.restart();
    let effects = stage.attempt.pending(stage.now).effects;
    assert!(matches!(effects.as_slice(), [(_, Effect::FetchOrder(url))] if url == ORDER));
}

#[test]
fn looks_early_and_then_as_the_authority_asks() {
    let mut stage = Stage::proven();
    stage.answer("respond", responded());
    let mut pauses = Vec::new();
    for _ in 0..5 {
        pauses.push(stage.wake().as_millis());
        let mut waiting = authorization(0, AuthorizationStatus::Pending);
        waiting.challenge = Some(challenge(0, ChallengeStatus::Processing));
        waiting.retry_after = Some(Duration::from_secs(86_400));
        stage.answer("authorization", Event::Authorization(0, Ok(waiting)));
    }
    assert_eq!(pauses, [10, 30, 100, 60_000, 60_000], "a day is clamped");
}

#[test]
fn a_retry_after_is_a_floor_that_survives_a_restart() {
    let mut stage = Stage::new();
    let limit = refused(429, "rateLimited", Some(900));
    stage.answer("new-order", Event::Ordered(Err(limit)));
    stage.restart();
    assert!(stage.ids().is_empty());
    assert_eq!(stage.wake(), Duration::from_secs(900));
    assert_eq!(stage.kinds(), ["new-order"]);
}

#[test]
fn a_shorter_wish_does_not_shorten_a_longer_one() {
    let mut stage = Stage::ordered(2);
    let limit =
        |part, seconds| Event::Authorization(part, Err(refused(429, "rateLimited", Some(seconds))));
    stage.answer("authorization/0/0", limit(0, 900));
    // The other request was already on its way.
    let other = EffectId::new("authorization/0", 1, 0);
    stage.attempt.apply(stage.now, &other, limit(1, 5));
    assert_eq!(stage.wake(), Duration::from_secs(900));
}

#[test]
fn hears_a_wish_that_comes_with_stale_news() {
    let mut stage = Stage::ordered(1);
    let limit = refused(503, "", Some(60));
    let stale = EffectId::new("authorization/9", 0, 0);
    stage
        .attempt
        .apply(stage.now, &stale, Event::Authorization(0, Err(limit)));
    assert!(stage.ids().is_empty());
    assert_eq!(stage.wake(), Duration::from_secs(60));
}

#[test]
fn hands_the_floor_on_to_the_next_attempt() {
    let mut stage = Stage::ordered(2);
    let limit = refused(429, "rateLimited", Some(900));
    stage.answer("authorization/0/0", Event::Authorization(0, Err(limit)));
    let other = EffectId::new("authorization/0", 1, 0);
    let invalid = seen(1, AuthorizationStatus::Revoked);
    stage.attempt.apply(stage.now, &other, invalid);
    assert_eq!(stage.failure().not_before, Some(Duration::from_secs(900)));
}

#[test]
fn has_a_vanished_value_added_again() {
    let mut stage = Stage::ordered(1);
    stage.answer("authorization", seen(0, AuthorizationStatus::Pending));
    stage.answer("locate", Event::Located(0, Ok(located())));
    stage.answer("present", Event::Presented(0, Ok(Placed::There)));
    stage.answer("observe", observed(&[]));
    stage.pass(31);
    stage.answer("observe", observed(&[]));
    assert_eq!(stage.kinds(), ["present"]);
}

#[test]
fn names_the_server_that_is_behind_when_patience_ends() {
    let mut stage = Stage::ordered(1);
    stage.answer("authorization", seen(0, AuthorizationStatus::Pending));
    stage.answer("locate", Event::Located(0, Ok(located())));
    stage.answer("present", Event::Presented(0, Ok(Placed::There)));
    stage.answer("observe", observed(&["old"]));
    stage.pass(121);
    stage.answer("observe", observed(&["old"]));
    let sentence = &stage.failure().sentence;
    assert!(
        sentence.contains("ns1.example.net (192.0.2.1)"),
        "{sentence}"
    );
    assert!(sentence.contains("\"old\""), "{sentence}");
}

#[test]
fn asks_a_host_again_that_did_not_answer_and_not_one_that_refuses() {
    let error = |kind| ProviderError {
        partly: false,
        theirs: false,
        kind,
        code: None,
        message: "the host said so".to_owned(),
        hint: None,
    };
    let presenting = || {
        let mut stage = Stage::ordered(1);
        stage.answer("authorization", seen(0, AuthorizationStatus::Pending));
        stage.answer("locate", Event::Located(0, Ok(located())));
        stage
    };
    let mut stage = presenting();
    stage.answer(
        "present",
        Event::Presented(0, Err(error(ErrorKind::Transient))),
    );
    assert_eq!(stage.wake(), Duration::from_secs(1));
    assert_eq!(stage.kinds(), ["present"]);
    let mut stage = presenting();
    stage.answer("present", Event::Presented(0, Err(error(ErrorKind::Auth))));
    assert_eq!(stage.failure().whose, Whose::You);
}

#[test]
fn ends_only_when_every_record_is_released() {
    let mut stage = Stage::proven();
    stage
        .attempt
        .abandon(Failure::new(Whose::You, "not wanted any more"));
    assert!(stage.attempt.outcome().is_none());
    let pending = stage.attempt.pending(stage.now);
    let [(id, Effect::Release { owner, .. })] = pending.effects.as_slice() else {
        panic!("only a release is wanted, but {pending:?}");
    };
    stage
        .attempt
        .apply(stage.now, id, Event::Released(owner.clone()));
    assert!(stage.attempt.outcome().is_some());
}

#[test]
fn keeps_an_order_that_it_hears_of_too_late() {
    let mut stage = Stage::new();
    let pending = stage.attempt.pending(stage.now);
    let (id, _) = pending.effects.first().unwrap();
    stage.attempt.suspend();
    stage.attempt.apply(
        stage.now,
        id,
        Event::Ordered(Ok(order(OrderStatus::Pending, 1))),
    );
    assert_eq!(stage.attempt.order_url(), Some(ORDER));
}

#[test]
fn an_answer_that_makes_no_sense_is_not_asked_for_without_a_pause() {
    let not_ready = || refused(403, "orderNotReady", None);
    let mut stage = Stage::new();
    stage.answer("new-order", Event::Ordered(Err(not_ready())));
    assert_eq!(stage.failure().whose, Whose::Authority);

    let mut stage = Stage::ordered(1);
    stage.restart();
    let mut passed = Duration::ZERO;
    for _ in 0..20 {
        stage.answer("order", Event::Order(Err(not_ready())));
        passed += stage.wake();
    }
    assert!(
        passed >= Duration::from_secs(60),
        "{passed:?} for twenty requests"
    );
}
