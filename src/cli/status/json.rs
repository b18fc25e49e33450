//! `status --json`, schema 1: fields may be added, never changed.

use serde::Serialize;

use crate::cli::words::rfc3339;
use crate::engine::delivery::State as DeliveryState;
use crate::run::overview::{Delivered, Failing, Left, Overview, View};

/// Rises when a field is changed or removed.
const SCHEMA: u32 = 1;

/// The whole document.
pub(super) fn document(overview: &Overview) -> String {
    let document = Document {
        schema: SCHEMA,
        now: rfc3339(overview.now),
        notices: &overview.notices,
        certificates: overview.certificates.iter().map(certificate).collect(),
        records: overview.left.iter().map(record).collect(),
    };
    serde_json::to_string_pretty(&document).expect("text, numbers and lists make JSON")
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    now: String,
    /// What is to be known of the whole: a sentence each.
    notices: &'a [String],
    certificates: Vec<Certificate<'a>>,
    /// TXT values of ours that are still at a DNS host although nobody wants them.
    records: Vec<Record<'a>>,
}

#[derive(Serialize)]
struct Certificate<'a> {
    name: &'a str,
    names: &'a [String],
    state: &'a str,
    activity: &'a str,
    authority: Option<&'a str>,
    serial: Option<&'a str>,
    sha256: Option<&'a str>,
    not_before: Option<String>,
    not_after: Option<String>,
    renew_at: Option<String>,
    failure: Option<Failure<'a>>,
    deliveries: Vec<Delivery<'a>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    sentence: &'a str,
    whose: &'a str,
    retry_at: Option<String>,
    count: u32,
}

#[derive(Serialize)]
struct Delivery<'a> {
    target: &'a str,
    state: DeliveryState,
    generation: Option<u64>,
    since: Option<String>,
}

#[derive(Serialize)]
struct Record<'a> {
    provider: &'a str,
    configured: bool,
    zone: &'a str,
    name: &'a str,
    value: &'a str,
    failure: Option<&'a str>,
}

fn certificate(view: &View) -> Certificate<'_> {
    let current = view.current.as_ref();
    Certificate {
        name: view.name.as_str(),
        names: &view.names,
        state: view.state.as_str(),
        activity: view.activity.as_str(),
        authority: current.map(|issued| issued.authority.as_str()),
        serial: current.map(|issued| issued.serial.as_str()),
        sha256: current.map(|issued| issued.sha256.as_str()),
        not_before: current.map(|issued| rfc3339(issued.not_before)),
        not_after: current.map(|issued| rfc3339(issued.not_after)),
        renew_at: current.map(|issued| rfc3339(issued.renew_at)),
        failure: view.failure.as_ref().map(failure),
        deliveries: view.deliveries.iter().map(delivery).collect(),
    }
}

fn failure(failing: &Failing) -> Failure<'_> {
    Failure {
        sentence: &failing.failure.sentence,
        whose: failing.failure.whose.as_str(),
        retry_at: failing.retry_at.map(rfc3339),
        count: failing.count,
    }
}

fn delivery(delivered: &Delivered) -> Delivery<'_> {
    Delivery {
        target: &delivered.target,
        state: delivered.state,
        generation: delivered.generation,
        since: delivered.since.map(rfc3339),
    }
}

fn record(left: &Left) -> Record<'_> {
    Record {
        provider: &left.provider,
        configured: left.is_configured,
        zone: &left.zone,
        name: &left.name,
        value: &left.value,
        failure: left.failure.as_deref(),
    }
}
