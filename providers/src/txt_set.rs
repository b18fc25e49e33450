//! A TXT set as its host writes it, and what changes make of it, for hosts whose sets are replaced as a whole. Pure.
//!
//! Values that are not ours go back exactly as they were read.

use crate::record::{DnsName, RrSet};
use crate::wanted::Wanted;

/// One value as a host writes it.
pub(crate) trait Written: Clone + PartialEq {
    /// `text` as this plug-in writes it.
    fn of(text: &str) -> Self;

    /// What it stands for: its character-strings joined (RFC 8555 section 8.4).
    fn text(&self) -> String;
}

/// A TXT set with at least one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TxtSet<V> {
    pub(crate) ttl: u32,
    pub(crate) values: Vec<V>,
}

impl<V: Written> TxtSet<V> {
    /// What the core left at a name, as this plug-in would have written it; `None` where it left nothing.
    pub(crate) fn believed(set: &RrSet) -> Option<Self> {
        let values: Vec<V> = set.values.iter().map(|text| V::of(text)).collect();
        let ttl = set.ttl?;
        (!values.is_empty()).then_some(Self { ttl, values })
    }

    /// What is there at `name`, in plain values.
    pub(crate) fn observed(name: &DnsName, set: Option<&Self>) -> RrSet {
        let texts = set.iter().flat_map(|set| &set.values).map(V::text);
        let mut values: Vec<String> = Vec::new();
        for text in texts {
            if !values.contains(&text) {
                values.push(text);
            }
        }
        RrSet {
            name: name.clone(),
            ttl: set.map(|set| set.ttl),
            values,
        }
    }

    /// What `wanted` makes of `before`; `None` where nothing is left.
    pub(crate) fn after(before: Option<&Self>, wanted: &Wanted) -> Option<Self> {
        let stay = before.iter().flat_map(|set| &set.values);
        let stay = stay.filter(|value| !wanted.absent.contains(&value.text()));
        let mut values: Vec<V> = stay.cloned().collect();
        let ttl = match before {
            Some(set) if !values.is_empty() => set.ttl,
            _ => wanted.ttl,
        };
        for text in &wanted.ensure {
            if !values.iter().any(|value| value.text() == *text) {
                values.push(V::of(text));
            }
        }
        (!values.is_empty()).then_some(Self { ttl, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{absent, ensure};
    use crate::record::Change;
    use crate::wanted::wanted;

    /// In brackets, so that it differs from what it stands for.
    impl Written for String {
        fn of(text: &str) -> Self {
            format!("[{text}]")
        }

        fn text(&self) -> String {
            self.trim_matches(['[', ']']).to_owned()
        }
    }

    fn name() -> DnsName {
        DnsName::parse("a.test").unwrap()
    }

    fn set(ttl: u32, values: &[&str]) -> Option<TxtSet<String>> {
        let values = values.iter().map(|&it| it.to_owned()).collect();
        Some(TxtSet { ttl, values })
    }

    fn after(before: Option<TxtSet<String>>, changes: &[Change]) -> Option<TxtSet<String>> {
        TxtSet::after(before.as_ref(), &wanted(changes)[&name()])
    }

    #[test]
    fn foreign_values_and_their_ttl_stay_as_they_were_written() {
        let theirs = set(777, &["bare", "[x]"]);
        let both = after(theirs.clone(), &[ensure(&name(), "ours")]);
        assert_eq!(both, set(777, &["bare", "[x]", "[ours]"]));
        assert_eq!(after(both, &[absent(&name(), "ours")]), theirs);
    }

    #[test]
    fn a_value_is_known_however_it_is_written_and_is_never_there_twice() {
        let before = set(60, &["ours"]);
        assert_eq!(
            after(before.clone(), &[ensure(&name(), "ours")]),
            before.clone()
        );
        assert_eq!(after(before, &[absent(&name(), "ours")]), None);
    }

    #[test]
    fn the_first_value_has_its_own_ttl_also_where_it_takes_the_place_of_the_last() {
        assert_eq!(after(None, &[ensure(&name(), "a")]), set(60, &["[a]"]));
        let swap = [ensure(&name(), "new"), absent(&name(), "old")];
        assert_eq!(after(set(5, &["[old]"]), &swap), set(60, &["[new]"]));
    }

    #[test]
    fn a_belief_in_nothing_is_no_set() {
        let believed = |ttl, values: &[&str]| {
            TxtSet::<String>::believed(&RrSet {
                name: name(),
                ttl,
                values: values.iter().map(|&it| it.to_owned()).collect(),
            })
        };
        assert_eq!(believed(None, &[]), None);
        assert_eq!(believed(Some(60), &[]), None);
        assert_eq!(believed(Some(60), &["a"]), set(60, &["[a]"]));
    }
}
