//! The DNS hosts by their names.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use countersign_providers::Provider;
use countersign_providers::several::Several;

/// Between the names of several providers that stand for one; no provider has it in its name.
const BETWEEN: char = ' ';

/// The DNS hosts by their names in the configuration. One that is configured no more stays for the records that it
/// still has.
#[derive(Default)]
pub(super) struct Hosts(RwLock<BTreeMap<String, Arc<dyn Provider>>>);

impl Hosts {
    /// The host of that name, or all of those whose names it is [joined](joint_name) from.
    pub(super) fn host(&self, name: &str) -> Option<Arc<dyn Provider>> {
        let hosts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(name) {
            return Some(Arc::clone(host));
        }
        let member = |name: &str| Some((name.to_owned(), Arc::clone(hosts.get(name)?)));
        let members: Option<Vec<_>> = members(name).map(member).collect();
        Some(Arc::new(Several::new(members?)))
    }

    pub(super) fn add(&self, hosts: BTreeMap<String, Arc<dyn Provider>>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(hosts);
    }
}

/// What several providers are called that a zone is written to together, in whatever order they are given.
pub fn joint_name<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    names.join(&BETWEEN.to_string())
}

/// The same for people.
pub fn spoken(name: &str) -> String {
    members(name).collect::<Vec<_>>().join(" and ")
}

/// The providers that a name stands for: one, unless it is a joint one.
pub fn members(name: &str) -> impl Iterator<Item = &str> {
    name.split(BETWEEN)
}
