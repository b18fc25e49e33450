//! What a person is to do by hand, at a DNS host that only people can change (`manual: {}`).

use std::collections::BTreeSet;

use crate::config::{Config, ProviderSettings};
use crate::engine::attempt::Attempt;
use crate::engine::ledger::RecordId;
use crate::engine::names::CertificateName;
use crate::ledger;

/// TXT values of one attempt that a person has to add, or to remove: owner name and value.
pub type Values = BTreeSet<(String, String)>;

/// Whether only a person can change what stands at `provider`, or at one of those that it joins.
pub fn is_manual(config: &Config, provider: &str) -> bool {
    ledger::members(provider).any(|member| {
        let mut providers = config.providers.iter();
        providers.any(|(name, settings)| {
            name.as_str() == member && *settings == ProviderSettings::Manual
        })
    })
}

/// Those that `attempt` waits for or needs.
pub fn values(config: &Config, attempt: &Attempt) -> Values {
    let is_manual = |record: &&RecordId| is_manual(config, &record.provider);
    let is_open = attempt.end().is_none();
    let records = attempt.records().filter(|_| is_open).filter(is_manual);
    records
        .map(|record| (record.name.to_string(), record.value.clone()))
        .collect()
}

/// What is to be said of `attempt` to whoever was `told` of these values, which are brought up to date. One that is
/// suspended comes back with the same values: they may stay.
pub fn news(config: &Config, attempt: &Attempt, told: &mut Values) -> Vec<String> {
    let now = values(config, attempt);
    let mut said = Vec::new();
    // All at once, when every name was located.
    if attempt.approaching() == 0 && !now.is_subset(told) {
        let new = now.difference(told).cloned().collect();
        said.push(add(&attempt.request.certificate, &new));
        told.extend(new);
    }
    let gone: Values = told.difference(&now).cloned().collect();
    if !gone.is_empty() && !attempt.is_suspended() {
        said.push(remove(&gone));
        told.retain(|value| now.contains(value));
    }
    said
}

/// What to do, for the certificate `name`.
pub fn add(name: &CertificateName, values: &Values) -> String {
    format!(
        "add by hand {}; it is seen there, and the rest goes by itself; `countersign delegate {name}` shows how to do \
         this once and never again",
        said(values)
    )
}

/// What may be undone.
pub fn remove(values: &Values) -> String {
    format!("remove by hand {}, of no more use", said(values))
}

fn said(values: &Values) -> String {
    let said = |(owner, value): &(String, String)| format!("TXT \"{value}\" at {owner}");
    let all: Vec<String> = values.iter().map(said).collect();
    all.join(" and ")
}
