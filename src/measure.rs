//! What is counted and timed wherever it happens, for `web` to show: one set of counters and histograms a process.
//!
//! What a label says comes from a closed list or from the configuration, never from the other side of a connection,
//! so that nobody else decides how many series there are. What can be known when it is looked at is not kept here.

use std::sync::LazyLock;
use std::time::Duration;

use countersign_providers::error::ErrorKind;
use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::engine::attempt::Step;
use crate::engine::order::CaFault;

/// Bounds for what takes milliseconds to seconds: requests and calls.
const QUICK: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds for what takes seconds to a day: attempts and what they wait for.
const SLOW: &[f64] = &[
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0,
    86_400.0,
];
/// An attempt that could not begin was at no step.
const BEGINNING: &str = "beginning";
/// What is in none of the closed lists.
const OTHER: &str = "other";
/// Error types of RFC 8555 section 6.7, RFC 9773 section 7.4 and draft-ietf-acme-profiles.
const PROBLEMS: [&str; 27] = [
    "accountDoesNotExist",
    "alreadyReplaced",
    "alreadyRevoked",
    "badCSR",
    "badNonce",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "caa",
    "compound",
    "connection",
    "dns",
    "externalAccountRequired",
    "incorrectResponse",
    "invalidContact",
    "invalidProfile",
    "malformed",
    "orderNotReady",
    "rateLimited",
    "rejectedIdentifier",
    "serverInternal",
    "tls",
    "unauthorized",
    "unsupportedContact",
    "unsupportedIdentifier",
    "userActionRequired",
    OTHER,
];
/// HTTP statuses that ACME uses (RFC 8555), and those of whatever stands in front of an authority.
const STATUSES: [(u16, &str); 19] = [
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (301, "301"),
    (302, "302"),
    (307, "307"),
    (308, "308"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (409, "409"),
    (415, "415"),
    (429, "429"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// How an attempt was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a certificate.
    Issued,
    /// Without one, for good.
    Failed,
    /// It goes on another time.
    Postponed,
}

/// What a DNS host is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Which zones it has.
    Zones,
    /// Changes.
    Apply,
    /// What is there.
    Observe,
    /// Whether a change is everywhere.
    Settle,
}

/// Whether something went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// It did.
    Well,
    /// It did not.
    Wrong,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Issued, Self::Failed, Self::Postponed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Failed => "failed",
            Self::Postponed => "postponed",
        }
    }
}

impl Call {
    fn as_str(self) -> &'static str {
        match self {
            Self::Zones => "zones",
            Self::Apply => "apply",
            Self::Observe => "observe",
            Self::Settle => "settle",
        }
    }
}

impl Went {
    /// Of a result.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Well,
            Err(_) => Self::Wrong,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Well => "success",
            Self::Wrong => "failure",
        }
    }
}

/// An attempt was left at `step`; `None` when it could not even begin.
pub fn attempt_left(outcome: Outcome, step: Option<Step>) {
    let step = step.map_or(BEGINNING, Step::as_word);
    let labels = [outcome.as_str(), step];
    MEASURES.attempts.with_label_values(&labels).inc();
}

/// An attempt is over, `took` after it began.
pub fn attempt_over(outcome: Outcome, took: Duration) {
    let timed = &MEASURES.attempt_durations;
    timed
        .with_label_values(&[outcome.as_str()])
        .observe(took.as_secs_f64());
}

/// An attempt was at `step` for so long.
pub fn step_over(step: Step, took: Duration) {
    let timed = &MEASURES.step_durations;
    timed
        .with_label_values(&[step.as_word()])
        .observe(took.as_secs_f64());
}

/// Every authoritative nameserver has a value, so long after its DNS host was first asked for it.
pub fn propagated(provider: &str, took: Duration) {
    let timed = &MEASURES.propagation_durations;
    timed
        .with_label_values(&[provider])
        .observe(took.as_secs_f64());
}

/// A DNS host was asked.
pub fn provider_called(provider: &str, call: Call, refused: Option<ErrorKind>, took: Duration) {
    let outcome = refused.map_or("success", ErrorKind::as_str);
    let labels = [provider, call.as_str(), outcome];
    MEASURES.provider_calls.with_label_values(&labels).inc();
    let timed = &MEASURES.provider_durations;
    timed
        .with_label_values(&labels[..2])
        .observe(took.as_secs_f64());
}

/// An authority was asked at `host`, one that the configuration names; with the HTTP status, or why there was none.
pub fn authority_asked(
    host: &str,
    kind: &'static str,
    outcome: Result<u16, &CaFault>,
    took: Duration,
) {
    let labels = [host, kind, outcome.map_or_else(fault, status)];
    MEASURES.requests.with_label_values(&labels).inc();
    let timed = &MEASURES.request_durations;
    timed
        .with_label_values(&labels[..2])
        .observe(took.as_secs_f64());
}

/// An authority refused a request with a problem of this type.
pub fn problem_seen(kind: &str) {
    let known = PROBLEMS.into_iter().find(|known| *known == kind);
    let labels = [known.unwrap_or(OTHER)];
    MEASURES.problems.with_label_values(&labels).inc();
}

/// A request was signed once more because its nonce was refused.
pub fn nonce_retried() {
    MEASURES.nonce_retries.inc();
}

/// A certificate was taken to a target, or could not be.
pub fn delivered(went: Went) {
    MEASURES
        .deliveries
        .with_label_values(&[went.as_str()])
        .inc();
}

/// The store made changes durable, or did not.
pub fn committed(went: Went) {
    MEASURES.commits.with_label_values(&[went.as_str()]).inc();
}

/// The configuration was read at the start or again; where that went wrong, the one before holds.
pub fn configured(went: Went, now: Timestamp) {
    MEASURES.reloads.with_label_values(&[went.as_str()]).inc();
    MEASURES
        .last_reload
        .set(if went == Went::Well { 1.0 } else { 0.0 });
    if went == Went::Well {
        MEASURES
            .last_good_reload
            .set(now.as_duration().as_secs_f64());
    }
}

/// All of it in Prometheus's text format 0.0.4.
pub fn text() -> String {
    let families = MEASURES.registry.gather();
    // It fails for families without a sample only, and those are not gathered.
    TextEncoder::new()
        .encode_to_string(&families)
        .unwrap_or_default()
}

static MEASURES: LazyLock<Measures> = LazyLock::new(Measures::new);

struct Measures {
    registry: Registry,
    attempts: IntCounterVec,
    attempt_durations: HistogramVec,
    step_durations: HistogramVec,
    propagation_durations: HistogramVec,
    provider_calls: IntCounterVec,
    provider_durations: HistogramVec,
    requests: IntCounterVec,
    request_durations: HistogramVec,
    problems: IntCounterVec,
    nonce_retries: IntCounter,
    deliveries: IntCounterVec,
    commits: IntCounterVec,
    reloads: IntCounterVec,
    last_reload: Gauge,
    last_good_reload: Gauge,
}

impl Measures {
    fn new() -> Self {
        let registry = Registry::new();
        let counters = |name, help, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels);
            registered(&registry, made)
        };
        let times = |name, help, bounds: &[f64], labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
            registered(&registry, HistogramVec::new(options, labels))
        };
        let gauge = |name, help| registered(&registry, Gauge::new(name, help));
        let measures = Self {
            attempts: counters(
                "countersign_attempts_total",
                "Attempts to get a certificate, by how and at which step they were left. A postponed one goes on another time.",
                &["outcome", "step"],
            ),
            attempt_durations: times(
                "countersign_attempt_duration_seconds",
                "Time from the beginning of an attempt to its end, restarts and pauses included.",
                SLOW,
                &["outcome"],
            ),
            step_durations: times(
                "countersign_attempt_step_duration_seconds",
                "Time that attempts spent at each step.",
                SLOW,
                &["step"],
            ),
            propagation_durations: times(
                "countersign_propagation_duration_seconds",
                "Time from asking a DNS host for a TXT value until every authoritative nameserver had it.",
                SLOW,
                &["provider"],
            ),
            provider_calls: counters(
                "countersign_provider_calls_total",
                "Calls of DNS hosts by their outcome.",
                &["provider", "call", "outcome"],
            ),
            provider_durations: times(
                "countersign_provider_call_duration_seconds",
                "Time that calls of DNS hosts took.",
                QUICK,
                &["provider", "call"],
            ),
            requests: counters(
                "countersign_authority_requests_total",
                "Requests to authorities by type and HTTP status, or why there was none.",
                &["host", "type", "status"],
            ),
            request_durations: times(
                "countersign_authority_request_duration_seconds",
                "Time that requests to authorities took.",
                QUICK,
                &["host", "type"],
            ),
            problems: counters(
                "countersign_authority_problems_total",
                "Problem documents of authorities by their type in RFC 8555.",
                &["type"],
            ),
            nonce_retries: registered(
                &registry,
                IntCounter::new(
                    "countersign_authority_nonce_retries_total",
                    "Requests that were signed once more because their nonce was refused.",
                ),
            ),
            deliveries: counters(
                "countersign_deliveries_total",
                "Certificates taken to their targets, by outcome.",
                &["outcome"],
            ),
            commits: counters(
                "countersign_store_commits_total",
                "Transactions of the store by their outcome.",
                &["outcome"],
            ),
            reloads: counters(
                "countersign_config_loads_total",
                "Times that the configuration was read, at the start and at reloads, by outcome.",
                &["outcome"],
            ),
            last_reload: gauge(
                "countersign_config_last_reload_successful",
                "Whether the configuration that was read last holds: 1, or 0 when it was refused.",
            ),
            last_good_reload: gauge(
                "countersign_config_last_reload_success_timestamp_seconds",
                "When the configuration that holds was read.",
            ),
            registry,
        };
        measures.begin();
        measures
    }

    /// Series whose labels are known are there from the start, so that their first event is a rise.
    fn begin(&self) {
        let steps = Step::ALL.map(Step::as_word);
        for outcome in Outcome::ALL.map(Outcome::as_str) {
            for step in steps.into_iter().chain([BEGINNING]) {
                self.attempts.with_label_values(&[outcome, step]);
            }
            self.attempt_durations.with_label_values(&[outcome]);
        }
        for step in steps {
            self.step_durations.with_label_values(&[step]);
        }
        for problem in PROBLEMS {
            self.problems.with_label_values(&[problem]);
        }
        for went in [Went::Well, Went::Wrong].map(Went::as_str) {
            self.deliveries.with_label_values(&[went]);
            self.commits.with_label_values(&[went]);
            self.reloads.with_label_values(&[went]);
        }
    }
}

/// Names, labels and bounds stand above, and every test that looks at the metrics makes all of them.
fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let collector = made.expect("the names, labels and bounds in this file are good");
    registry
        .register(Box::new(collector.clone()))
        .expect("the names in this file are different");
    collector
}

fn status(status: u16) -> &'static str {
    let known = STATUSES.into_iter().find(|known| known.0 == status);
    known.map_or(OTHER, |known| known.1)
}

fn fault(fault: &CaFault) -> &'static str {
    match fault {
        CaFault::Refused { .. } => OTHER,
        CaFault::Unreachable(_) => "unreachable",
        CaFault::Unresolved(_) => "unresolved",
        CaFault::Untrusted(_) => "untrusted",
        CaFault::Malformed(_) => "malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody else decides how many series there are.
    #[test]
    fn what_an_authority_says_makes_no_series() {
        problem_seen("urn:example:0001");
        problem_seen("dns\"} 1\ncountersign_evil 1");
        authority_asked("ca.test:443", "order", Ok(299), Duration::ZERO);
        let text = text();
        for said in ["urn:example", "countersign_evil", "\"299\""] {
            assert!(!text.contains(said), "{said}");
        }
        assert!(text.contains(
            r#"countersign_authority_requests_total{host="ca.test:443",status="other",type="order"} 1"#
        ));
    }
}
