//! What a list of changes comes to, name by name.

use std::collections::BTreeMap;

use crate::record::{Change, DnsName, Verb};

/// What is to be true at one name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) ensure: Vec<String>,
    pub(crate) absent: Vec<String>,
    /// Of the first value at the name.
    pub(crate) ttl: u32,
}

/// Sorts `changes` by name; of two that contradict each other the later counts.
pub(crate) fn wanted(changes: &[Change]) -> BTreeMap<DnsName, Wanted> {
    let mut all: BTreeMap<DnsName, Wanted> = BTreeMap::new();
    for change in changes {
        let wanted = all.entry(change.name.clone()).or_default();
        wanted.ensure.retain(|value| *value != change.value);
        wanted.absent.retain(|value| *value != change.value);
        match change.verb {
            Verb::Ensure => {
                wanted.ensure.push(change.value.clone());
                wanted.ttl = change.ttl;
            }
            Verb::Absent => wanted.absent.push(change.value.clone()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{absent, ensure};

    #[test]
    fn the_last_word_on_a_value_counts() {
        let name = DnsName::parse("a.test").unwrap();
        let all = wanted(&[
            ensure(&name, "1"),
            absent(&name, "1"),
            absent(&name, "2"),
            ensure(&name, "2"),
        ]);
        assert_eq!(all[&name].absent, ["1"]);
        assert_eq!(all[&name].ensure, ["2"]);
    }
}
