//! One batch of changes: the first try with what is believed, a look at what was otherwise, and the second try.

use crate::record::{Change, DnsName, RrSet, Zone};
use crate::wanted::{Wanted, wanted};
use crate::{ErrorKind, ProviderError, Receipt};

use super::api::Api;
use super::error::overtaken;
use super::sets::{Txt, replace};
use super::xml::Step;

/// The most values in one request, in all its steps (API reference, "Quotas": 1,000 ResourceRecord elements).
const MAX_VALUES: usize = 1_000;
/// The most characters of all those values.
const MAX_CHARACTERS: usize = 32_000;

/// Makes `changes` true, all or none; `believed` saves the look at what is there, where it is right.
pub(super) async fn apply(
    api: &Api<'_>,
    zone: &Zone,
    changes: &[Change],
    believed: &[RrSet],
) -> Result<Receipt, ProviderError> {
    let mut nodes = Node::all(changes, believed);
    // A change cannot prove that nothing is there and nothing has to be done; a look can.
    read(api, zone, &mut nodes, |node| {
        node.is_only_withdrawn_from_nothing()
    })
    .await?;
    let Some(first) = steps(&nodes, zone)? else {
        return Ok(Receipt::default());
    };
    let blame = api.blame_change(what(&nodes, zone));
    let refusal = match api.change(zone, &first, &blame).await? {
        Ok(change) => return Ok(Receipt::of(change)),
        Err(refusal) => refusal,
    };
    let Some(names) = overtaken(&refusal) else {
        return Err(blame.bad_batch(&refusal));
    };
    let is_named = |node: &Node| names.iter().any(|name| name == node.name.as_str());
    let none_is_named = !nodes.iter().any(is_named);
    read(api, zone, &mut nodes, |node| {
        none_is_named || is_named(node)
    })
    .await?;
    let Some(second) = steps(&nodes, zone)? else {
        return Ok(Receipt::default());
    };
    match api.change(zone, &second, &blame).await? {
        Ok(change) => Ok(Receipt::of(change)),
        Err(refusal) if overtaken(&refusal).is_some() => Err(blame.overtaken(&refusal)),
        Err(refusal) => Err(blame.bad_batch(&refusal)),
    }
}

/// One name of a batch: what is asked for there, and what is there as far as that is known.
struct Node {
    name: DnsName,
    wanted: Wanted,
    before: Option<Txt>,
    /// Whether `before` was read, and not only believed.
    is_read: bool,
}

impl Node {
    fn all(changes: &[Change], believed: &[RrSet]) -> Vec<Self> {
        let nodes = wanted(changes).into_iter().map(|(name, wanted)| Self {
            before: (believed.iter().find(|set| set.name == name)).and_then(Txt::believed),
            name,
            wanted,
            is_read: false,
        });
        nodes.collect()
    }

    fn is_only_withdrawn_from_nothing(&self) -> bool {
        self.before.is_none() && self.after().is_none()
    }

    fn after(&self) -> Option<Txt> {
        Txt::after(self.before.as_ref(), &self.wanted)
    }

    /// What has to be sent for it. What is believed is sent even when it is as it should be: that is how it is proved.
    fn steps(&self) -> Vec<Step> {
        let after = self.after();
        if self.is_read && self.before == after {
            return Vec::new();
        }
        replace(&self.name, self.before.clone(), after)
    }
}

async fn read(
    api: &Api<'_>,
    zone: &Zone,
    nodes: &mut [Node],
    which: impl Fn(&Node) -> bool,
) -> Result<(), ProviderError> {
    let nodes: Vec<&mut Node> = nodes.iter_mut().filter(|node| which(node)).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    let names: Vec<&DnsName> = nodes.iter().map(|node| &node.name).collect();
    let sets = api.sets(zone, &names).await?;
    for (node, set) in nodes.into_iter().zip(sets) {
        node.before = set;
        node.is_read = true;
    }
    Ok(())
}

/// The steps for all nodes; `None` when there are none. A batch that is too large is refused, and then comes in parts.
fn steps(nodes: &[Node], zone: &Zone) -> Result<Option<Vec<Step>>, ProviderError> {
    let steps: Vec<Step> = nodes.iter().flat_map(Node::steps).collect();
    let values = || {
        let sets = steps.iter().map(|step| &step.resource_record_set);
        sets.flat_map(|set| &set.resource_records.all)
    };
    let count = values().count();
    let characters: usize = values().map(|record| record.value.chars().count()).sum();
    if count > MAX_VALUES || characters > MAX_CHARACTERS {
        let message = format!(
            "changing {} takes {count} values with {characters} characters, more than the {MAX_VALUES} values and \
             {MAX_CHARACTERS} characters that Route 53 takes at once",
            what(nodes, zone)
        );
        return Err(ProviderError::new(ErrorKind::Invalid, message)
            .hint("remove values that nobody needs from the record set, or delegate the name elsewhere by a CNAME"));
    }
    Ok((!steps.is_empty()).then_some(steps))
}

/// The nodes, for sentences.
fn what(nodes: &[Node], zone: &Zone) -> String {
    let Zone { name, id } = zone;
    match nodes {
        [node] => format!("TXT at {} in zone {name} ({id})", node.name),
        _ => format!("TXT at {} names in zone {name} ({id})", nodes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{absent, ensure};
    use crate::route53::BATCH;
    use crate::route53::sets::Quoted;
    use crate::txt_set::Written as _;

    fn name(label: &str) -> DnsName {
        DnsName::parse(&format!("{label}.example.test")).unwrap()
    }

    fn zone() -> Zone {
        Zone {
            name: DnsName::parse("example.test").unwrap(),
            id: "Z1".to_owned(),
        }
    }

    #[test]
    fn a_full_batch_of_usual_names_fits_into_one_request() {
        let value = "x".repeat(43);
        let changes: Vec<Change> = (0..BATCH)
            .map(|i| ensure(&name(&format!("n{i}")), &value))
            .collect();
        let believed: Vec<RrSet> = (changes.iter())
            .map(|change| RrSet {
                name: change.name.clone(),
                ttl: Some(60),
                values: vec!["y".repeat(43)],
            })
            .collect();
        let nodes = Node::all(&changes, &believed);
        let steps = steps(&nodes, &zone()).unwrap().unwrap();
        assert_eq!(steps.len(), 2 * BATCH);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        let changes = [ensure(&name("a"), "x")];
        let mut nodes = Node::all(&changes, &[]);
        nodes[0].before = Some(Txt {
            ttl: 60,
            values: (0..600).map(|i| Quoted::of(&i.to_string())).collect(),
        });
        let error = steps(&nodes, &zone()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains("1201 values"), "{}", error.message);
    }

    #[test]
    fn a_belief_that_needs_no_change_is_proved_and_what_was_read_is_not() {
        let changes = [ensure(&name("a"), "x"), absent(&name("b"), "x")];
        let believed = [RrSet {
            name: name("a"),
            ttl: Some(60),
            values: vec!["x".to_owned()],
        }];
        let mut nodes = Node::all(&changes, &believed);
        assert_eq!(nodes[0].steps().len(), 2);
        assert!(nodes[1].is_only_withdrawn_from_nothing());
        nodes[0].is_read = true;
        assert!(nodes[0].steps().is_empty());
    }
}
