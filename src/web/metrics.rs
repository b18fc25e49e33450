//! What Prometheus scrapes: what is counted ([`measure`]), and gauges of what is known when it is looked at, so that
//! none is left of what the configuration does not have any more.

use std::collections::BTreeMap;

use countersign_providers::clock::{between, earlier};
use jiff::Timestamp;

use super::Served;
use super::ready::Readiness;
use super::text::Text;
use crate::engine::certificate::generated_at;
use crate::engine::delivery::State as DeliveryState;
use crate::engine::ledger::{Entry, State as EntryState};
use crate::engine::renewal::point_of_no_return;
use crate::ledger;
use crate::measure;
use crate::run::overview::{Activity, Overview, State, View};
use crate::run::plan::PARALLEL;
use crate::run::shared::Shared;
use crate::store::StoreError;

/// Everything; `None` when the store cannot be read and the log says why.
pub(super) async fn text(served: &Served, readiness: &Readiness) -> Option<String> {
    match gather(served, readiness).await {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::warn!("metrics: {error}");
            None
        }
    }
}

async fn gather(served: &Served, readiness: &Readiness) -> Result<String, StoreError> {
    let shared = served.shared();
    let now = shared.clock.now();
    let at_work = shared.watchers.at_work();
    let overview = Overview::gather(&shared.config, Some(&shared.session), now, &at_work).await?;
    let entries = shared.session.load_all::<Entry>(ledger::PREFIX).await?;
    let entries: Vec<Entry> = entries.into_iter().map(|saved| saved.value).collect();
    let mut text = Text::default();
    process(&mut text, served, readiness, now);
    certificates(&mut text, &overview.certificates);
    deliveries(&mut text, &overview.certificates, now);
    authorities(&mut text, &shared, &overview.certificates);
    values(&mut text, &shared, &entries, now);
    text.push(&measure::text());
    Ok(text.finish())
}

fn process(text: &mut Text, served: &Served, readiness: &Readiness, now: Timestamp) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let help = "Always 1; the label says which version runs.";
    text.gauges("countersign_build_info", help)
        .sample(&version, 1);
    let help = "When the process started.";
    text.gauge(
        "countersign_start_timestamp_seconds",
        help,
        seconds(served.since),
    );
    let help = "What this machine's clock says.";
    text.gauge("countersign_clock_timestamp_seconds", help, seconds(now));
    let help = "When the scheduler had its last turn.";
    let turn = earlier(now, served.heartbeat.age());
    text.gauge(
        "countersign_scheduler_last_turn_timestamp_seconds",
        help,
        seconds(turn),
    );
    let help = "Whether /health/ready says ready: 1 or 0.";
    let is_ready = flag(readiness.reasons().is_empty());
    text.gauge("countersign_ready", help, is_ready);
    let help = "What readiness is made of, each 1 or 0.";
    let mut gauges = text.gauges("countersign_ready_condition", help);
    for (condition, wrong) in readiness.conditions() {
        gauges.sample(&[("condition", condition)], flag(wrong.is_none()));
    }
}

fn certificates(text: &mut Text, views: &[View]) {
    let instant = |text: &mut Text, name, help, of: &dyn Fn(&View) -> Option<Timestamp>| {
        let mut gauges = text.gauges(name, help);
        for view in views {
            if let Some(at) = of(view) {
                gauges.sample(&[("certificate", view.name.as_str())], seconds(at));
            }
        }
    };
    instant(
        text,
        "countersign_certificate_not_before_timestamp_seconds",
        "When the certificate began to be valid.",
        &|view| Some(view.current.as_ref()?.not_before),
    );
    instant(
        text,
        "countersign_certificate_not_after_timestamp_seconds",
        "When the certificate expires.",
        &|view| Some(view.current.as_ref()?.not_after),
    );
    instant(
        text,
        "countersign_certificate_renewal_timestamp_seconds",
        "When the renewal of the certificate is due.",
        &|view| Some(view.current.as_ref()?.renew_at),
    );
    instant(
        text,
        "countersign_certificate_point_of_no_return_timestamp_seconds",
        "When 5/6 of the lifetime of the certificate have passed: a newer one should be there by then.",
        &|view| {
            let issued = view.current.as_ref()?;
            Some(point_of_no_return(issued.not_before, issued.not_after))
        },
    );
    instant(
        text,
        "countersign_certificate_next_attempt_timestamp_seconds",
        "When the next attempt for the certificate is due; 0 when that is at once.",
        &|view| Some(view.due.at.max(Timestamp::UNIX_EPOCH)),
    );
    let help = "What is issued: 1 for the state that holds, 0 for the others.";
    let mut gauges = text.gauges("countersign_certificate_state", help);
    for view in views {
        for state in State::ALL {
            let labels = [
                ("certificate", view.name.as_str()),
                ("state", state.as_str()),
            ];
            gauges.sample(&labels, flag(view.state == state));
        }
    }
    let mut number = |name, help, of: &dyn Fn(&View) -> u32| {
        let mut gauges = text.gauges(name, help);
        for view in views {
            gauges.sample(&[("certificate", view.name.as_str())], of(view));
        }
    };
    number(
        "countersign_certificate_failures",
        "Failures in a row of attempts and deliveries of the certificate.",
        &|view| view.failure.as_ref().map_or(0, |failing| failing.count),
    );
    number(
        "countersign_certificate_needs_person",
        "Whether a person must act before the certificate can be had: 1 or 0.",
        &|view| flag(view.activity == Activity::Blocked),
    );
}

fn deliveries(text: &mut Text, views: &[View], now: Timestamp) {
    let help = "How long ago the certificate was issued that the target does not have yet; 0 when it has it.";
    let mut gauges = text.gauges("countersign_delivery_lag_seconds", help);
    for view in views {
        let issued = view.current.as_ref();
        for delivery in &view.deliveries {
            let labels = [
                ("certificate", view.name.as_str()),
                ("target", delivery.target.as_str()),
            ];
            let lag = match (issued, delivery.state) {
                (None, _) | (_, DeliveryState::Installed) => 0.0,
                (Some(issued), _) => between(generated_at(issued.generation), now).as_secs_f64(),
            };
            gauges.sample(&labels, lag);
        }
    }
}

fn authorities(text: &mut Text, shared: &Shared, views: &[View]) {
    let help = "Attempts that are under way at each authority.";
    let mut gauges = text.gauges("countersign_authority_attempts_in_progress", help);
    let mut under_way: BTreeMap<&str, u32> = BTreeMap::new();
    for view in views.iter().filter(|view| view.step.is_some()) {
        if let Some(attempt) = &view.parked {
            *under_way.entry(&attempt.request.authority).or_default() += 1;
        }
    }
    for name in shared.authorities.keys() {
        let many = under_way.get(name.as_str()).copied().unwrap_or_default();
        gauges.sample(&[("authority", name)], many);
    }
    let help = "Attempts that may be under way at one authority at the same time.";
    text.gauge("countersign_authority_attempts_limit", help, PARALLEL);
}

fn values(text: &mut Text, shared: &Shared, entries: &[Entry], now: Timestamp) {
    let hosts = shared.providers.keys().map(String::as_str);
    let of_entries = entries.iter().map(|entry| entry.record.provider.as_str());
    let mut all: BTreeMap<(&str, EntryState), (u32, f64)> = hosts
        .chain(of_entries)
        .flat_map(|provider| EntryState::ALL.map(|state| ((provider, state), (0, 0.0))))
        .collect();
    for entry in entries {
        let age = entry
            .since()
            .map_or(0.0, |since| between(since, now).as_secs_f64());
        let (many, oldest) = all
            .entry((entry.record.provider.as_str(), entry.state()))
            .or_default();
        *many += 1;
        *oldest = oldest.max(age);
    }
    let help = "TXT values of ours by DNS host and state: wanted, present, withdrawing, or gone and still watched.";
    let mut gauges = text.gauges("countersign_ledger_entries", help);
    for ((provider, state), (many, _)) in &all {
        gauges.sample(&labels(provider, *state), many);
    }
    let help = "How long the oldest TXT value of ours has been in its state; 0 when there is none.";
    let mut gauges = text.gauges("countersign_ledger_oldest_entry_age_seconds", help);
    for ((provider, state), (_, oldest)) in &all {
        gauges.sample(&labels(provider, *state), oldest);
    }
}

fn labels(provider: &str, state: EntryState) -> [(&'static str, &str); 2] {
    [("provider", provider), ("state", state.as_str())]
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn flag(is: bool) -> u32 {
    u32::from(is)
}
