//! What a person is to do by hand, at a DNS host that only people can change (`manual: {}`).

use std::collections::BTreeSet;

use crate::config::{Config, ProviderSettings};
use crate::engine::attempt::Attempt;
use crate::engine::ledger::RecordId;
use crate::engine::names::CertificateName;
use crate::ledger;

/// TXT values of one attempt that a person has to add, or to remove: owner name and value.
pub type Values = BTreeSet<(String, String)>;

/// Those that `attempt` waits for or needs.
pub fn values(config: &Config, attempt: &Attempt) -> Values {
    let is_manual = |record: &&RecordId| {
        ledger::members(&record.provider).any(|member| {
            let mut providers = config.providers.iter();
            providers.any(|(name, settings)| {
                name.as_str() == member && *settings == ProviderSettings::Manual
            })
        })
    };
    let is_open = attempt.end().is_none();
    let records = attempt.records().filter(|_| is_open).filter(is_manual);
    records
        .map(|record| (record.name.to_string(), record.value.clone()))
        .collect()
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
