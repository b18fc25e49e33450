//! Changes, values and errors: made, and in words.

use std::fmt;

use crate::record::{Change, DnsName, RrSet, Verb};
use crate::words::{listed, printable};

use super::TTL;

/// More of a value is not shown.
const SHOWN: usize = 60;

/// The `ensure` of `value` at `name`.
pub(crate) fn ensure(name: &DnsName, value: &str) -> Change {
    change(Verb::Ensure, name, value)
}

/// The `absent` of `value` at `name`.
pub(crate) fn absent(name: &DnsName, value: &str) -> Change {
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

pub(super) fn set(name: &DnsName, values: &[&str], ttl: Option<u32>) -> RrSet {
    RrSet {
        name: name.clone(),
        ttl,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

/// Changes in words.
pub(super) struct Told<'c>(pub(super) &'c [Change]);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.iter().map(|change| {
            let verb = match change.verb {
                Verb::Ensure => "ensure",
                Verb::Absent => "absent",
            };
            let value = printable(&change.value, SHOWN);
            format!("{verb} \"{value}\" at {}", change.name)
        });
        let words: Vec<String> = words.collect();
        f.write_str(&listed(&words))
    }
}

/// Values in words.
pub(super) struct Shown<'v>(pub(super) &'v [&'v str]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        let words = self
            .0
            .iter()
            .map(|value| format!("\"{}\"", printable(value, SHOWN)));
        f.write_str(&listed(&words.collect::<Vec<_>>()))
    }
}
