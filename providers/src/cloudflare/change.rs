//! Changes of one zone: look at what is there, send what is missing and what is too much as one transaction.
//!
//! The look gives the ids that a removal needs, the TTL that a value joins, and what need not be sent at all. When the API
//! says that somebody else was there between the look and the change, nothing was changed: the next look decides anew.

use std::collections::{BTreeMap, BTreeSet};

use super::TTLS;
use super::api::{Api, Delete, Filter, Post, Record};
use super::error::{About, Fault, Meaning};
use crate::record::{Change, DnsName, RrSet, Verb, Zone};
use crate::wanted::{Wanted, wanted};
use crate::{ProviderError, Remark, content};

/// So often what was looked at may have changed before it is left to the core to come again.
const ROUNDS: usize = 3;
/// What the API takes in one transaction for a zone without a paid plan.
pub(super) const BATCH: usize = 200;
/// A TTL that the API calls automatic; a person may have chosen it.
const AUTOMATIC: u32 = 1;
/// How many seconds that is.
const AUTOMATIC_SECONDS: u32 = 300;

/// One verb's work on one zone.
pub(super) struct Editor<'a> {
    pub(super) api: Api<'a>,
    pub(super) zone: &'a Zone,
    /// What every record of ours says of itself.
    pub(super) comment: String,
}

/// What there is to do.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    deletes: Vec<Delete>,
    posts: Vec<Post>,
}

/// The id of each value at each name.
type Ids = BTreeMap<(DnsName, String), String>;

/// How far a plan came.
enum Outcome {
    Done,
    /// What was looked at is no longer so.
    Overtaken(ProviderError),
}

impl Editor<'_> {
    /// What is there at each of `names`.
    pub(super) async fn observe(&self, names: &[DnsName]) -> Result<Vec<RrSet>, ProviderError> {
        let there = self.look(names).await?;
        let sets = names.iter().map(|name| {
            let records = there.get(name).map(Vec::as_slice).unwrap_or_default();
            let values: BTreeSet<String> = (records.iter())
                .map(|record| content::value(&record.content))
                .collect();
            RrSet {
                name: name.clone(),
                ttl: ttl(records).map(seconds),
                values: values.into_iter().collect(),
            }
        });
        Ok(sets.collect())
    }

    /// What is told of each value at `names` besides.
    pub(super) async fn remarks(&self, names: &[DnsName]) -> Result<Vec<Remark>, ProviderError> {
        let there = self.look(names).await?;
        let asked = names.iter().filter_map(|name| there.get_key_value(name));
        let remarks = asked.flat_map(|(name, records)| {
            records.iter().map(|record| Remark {
                name: name.clone(),
                value: content::value(&record.content),
                is_ours: record.comment.as_str() == Some(&self.comment),
                made: (record.created_on.as_str()).and_then(|it| it.parse().ok()),
            })
        });
        Ok(remarks.collect())
    }

    /// Makes `changes` true; the id of each value that is there now, where it is known.
    pub(super) async fn apply(
        &self,
        changes: &[Change],
    ) -> Result<Vec<Option<String>>, ProviderError> {
        let wanted = wanted(changes);
        let names: Vec<DnsName> = wanted.keys().cloned().collect();
        // The API would take a name of another zone for one below this zone.
        if let Some(name) = names
            .iter()
            .find(|name| !name.is_at_or_below(&self.zone.name))
        {
            return Err(About::outside(self.zone, name));
        }
        let about = About::Change(self.zone, &names);
        if self.removed_by_id(changes, &about).await? {
            return Ok(Vec::new());
        }
        let (mut changed, mut ids) = (false, Ids::new());
        let mut round = 1;
        loop {
            let there = (self.look(&names).await).map_err(|error| after(changed, error))?;
            for record in there.values().flatten() {
                note(&mut ids, &record.name, &record.content, Some(&record.id));
            }
            let plan = self.plan(&wanted, &there);
            match self.perform(plan, &about, &mut changed, &mut ids).await {
                Ok(Outcome::Done) => {
                    let id = |it: &Change| match it.verb {
                        Verb::Ensure => ids.get(&(it.name.clone(), it.value.clone())).cloned(),
                        Verb::Absent => None,
                    };
                    return Ok(changes.iter().map(id).collect());
                }
                Ok(Outcome::Overtaken(_)) if round < ROUNDS => round += 1,
                Ok(Outcome::Overtaken(error)) | Err(error) => return Err(after(changed, error)),
            }
        }
    }

    /// Removes without a look, where that is all that is wanted and the id of each record is known. Whether it did: what
    /// is gone, or has another id by now, is to be looked for.
    async fn removed_by_id(
        &self,
        changes: &[Change],
        about: &About<'_>,
    ) -> Result<bool, ProviderError> {
        let delete = |it: &Change| {
            let id = it.handle.clone().filter(|_| it.verb == Verb::Absent)?;
            Some(Delete { id })
        };
        let Some(deletes) = changes.iter().map(delete).collect::<Option<Vec<Delete>>>() else {
            return Ok(false);
        };
        if deletes.is_empty() {
            return Ok(true);
        }
        match (self.api.batch(&self.zone.id, &deletes, &[], about)).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.meaning == Meaning::Failure => Err(fault.error),
            Err(_) => Ok(false),
        }
    }

    /// The TXT records at each of `names`: of all names between one beginning and one end in one list, unless that has more
    /// pages than a list for each name would take calls.
    async fn look(
        &self,
        names: &[DnsName],
    ) -> Result<BTreeMap<DnsName, Vec<Record>>, ProviderError> {
        let about = About::Look(self.zone, names);
        let mut there: BTreeMap<DnsName, Vec<Record>> = BTreeMap::new();
        let Some(all) = between(names) else {
            return Ok(there);
        };
        let listed = self.api.records(&self.zone.id, &all, names.len(), &about);
        let mut records = Vec::new();
        match listed.await? {
            Some(listed) => records = listed,
            None => {
                for name in names {
                    let one = Filter::Name(name.to_string());
                    let listed = self.api.records(&self.zone.id, &one, usize::MAX, &about);
                    records.extend(listed.await?.unwrap_or_default());
                }
            }
        }
        for record in records {
            // What is no name here cannot be one that was asked for.
            if let Ok(name) = DnsName::parse(&record.name) {
                there.entry(name).or_default().push(record);
            }
        }
        Ok(there)
    }

    /// What takes each name from what is there to what is wanted.
    fn plan(
        &self,
        wanted: &BTreeMap<DnsName, Wanted>,
        there: &BTreeMap<DnsName, Vec<Record>>,
    ) -> Plan {
        let mut plan = Plan::default();
        for (name, wanted) in wanted {
            let records = there.get(name).map(Vec::as_slice).unwrap_or_default();
            let (leave, stay): (Vec<&Record>, Vec<&Record>) = records
                .iter()
                .partition(|record| wanted.absent.contains(&content::value(&record.content)));
            plan.deletes.extend(leave.iter().map(|record| Delete {
                id: record.id.clone(),
            }));
            let ttl =
                ttl(stay.iter().copied()).unwrap_or(wanted.ttl.clamp(*TTLS.start(), *TTLS.end()));
            let values: BTreeSet<String> = (stay.iter())
                .map(|record| content::value(&record.content))
                .collect();
            let missing = wanted.ensure.iter().filter(|it| !values.contains(*it));
            plan.posts.extend(missing.map(|value| Post {
                kind: "TXT",
                name: name.to_string(),
                content: content::quoted(value),
                ttl,
                comment: self.comment.clone(),
            }));
        }
        plan
    }

    /// Sends what is to be done; `changed` says whether any of it was.
    async fn perform(
        &self,
        plan: Plan,
        about: &About<'_>,
        changed: &mut bool,
        ids: &mut Ids,
    ) -> Result<Outcome, ProviderError> {
        for part in plan.parts() {
            let sent = self
                .api
                .batch(&self.zone.id, &part.deletes, &part.posts, about);
            match sent.await {
                Ok(made) => {
                    *changed = true;
                    for made in made {
                        note(ids, &made.name, &made.content, made.id.as_ref());
                    }
                }
                Err(Fault { error, meaning }) => match meaning {
                    Meaning::There | Meaning::Gone => return Ok(Outcome::Overtaken(error)),
                    Meaning::NoSuchCall => self.one_by_one(&part, about, changed, ids).await?,
                    Meaning::Failure => return Err(error),
                },
            }
        }
        Ok(Outcome::Done)
    }

    /// Where there is no batch.
    async fn one_by_one(
        &self,
        plan: &Plan,
        about: &About<'_>,
        changed: &mut bool,
        ids: &mut Ids,
    ) -> Result<(), ProviderError> {
        for delete in &plan.deletes {
            match self.api.delete(&self.zone.id, delete, about).await {
                Ok(()) => *changed = true,
                Err(fault) if fault.meaning == Meaning::Gone => {}
                Err(fault) => return Err(fault.error),
            }
        }
        for post in &plan.posts {
            match self.api.create(&self.zone.id, post, about).await {
                Ok(made) => {
                    *changed = true;
                    let made = made.unwrap_or_default();
                    note(ids, &made.name, &made.content, made.id.as_ref());
                }
                Err(fault) if fault.meaning == Meaning::There => {}
                Err(fault) => return Err(fault.error),
            }
        }
        Ok(())
    }
}

impl Plan {
    /// In parts that the API takes each; one, unless values stand there more than once.
    fn parts(self) -> Vec<Self> {
        if self.deletes.len() + self.posts.len() <= BATCH {
            let is_empty = self == Self::default();
            return if is_empty { vec![] } else { vec![self] };
        }
        let deletes = self.deletes.chunks(BATCH).map(|deletes| Self {
            deletes: deletes.to_vec(),
            posts: Vec::new(),
        });
        let posts = self.posts.chunks(BATCH).map(|posts| Self {
            deletes: Vec::new(),
            posts: posts.to_vec(),
        });
        deletes.chain(posts).collect()
    }
}

/// The narrowest filter that lets all of `names` through.
fn between(names: &[DnsName]) -> Option<Filter> {
    let (first, rest) = names.split_first()?;
    let first = first.as_str();
    let (mut begin, mut end) = (first.len(), first.len());
    for name in rest.iter().map(DnsName::as_str) {
        let same = |(a, b): &(u8, u8)| a == b;
        begin = begin.min(first.bytes().zip(name.bytes()).take_while(same).count());
        let back = first.bytes().rev().zip(name.bytes().rev());
        end = end.min(back.take_while(same).count());
    }
    // Names are ASCII, so that they can be cut anywhere.
    let (begin, end) = (&first[..begin], &first[first.len() - end..]);
    Some(match begin == first && end == first {
        true => Filter::Name(first.to_owned()),
        false => Filter::Between(begin.to_owned(), end.to_owned()),
    })
}

/// The TTL of the RRset that these records are: servers give all of them the least.
fn ttl<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<u32> {
    let ttls = records.into_iter().map(|record| record.ttl as u32);
    ttls.min()
}

/// What the world sees of a TTL as the API has it.
fn seconds(ttl: u32) -> u32 {
    match ttl {
        AUTOMATIC => AUTOMATIC_SECONDS,
        seconds => seconds,
    }
}

/// Notes the id of a record that the API told of.
fn note(ids: &mut Ids, name: &str, content: &str, id: Option<&String>) {
    if let (Ok(name), Some(id)) = (DnsName::parse(name), id) {
        ids.insert((name, content::value(content)), id.clone());
    }
}

fn after(changed: bool, error: ProviderError) -> ProviderError {
    match changed {
        true => error.partly(),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<DnsName> {
        all.iter()
            .map(|name| DnsName::parse(name).unwrap())
            .collect()
    }

    #[test]
    fn one_filter_lets_all_names_through() {
        let filter = |all: &[&str]| match between(&names(all)) {
            None => "nothing".to_owned(),
            Some(Filter::Name(name)) => name,
            Some(Filter::Between(begin, end)) => format!("{begin}…{end}"),
        };
        assert_eq!(filter(&[]), "nothing");
        assert_eq!(filter(&["_a.x.test", "_a.x.test"]), "_a.x.test");
        assert_eq!(filter(&["_a.h1.x.test", "_a.h22.x.test"]), "_a.h….x.test");
        assert_eq!(filter(&["_a.x.test", "_a.b.x.test"]), "_a.….x.test");
        assert_eq!(filter(&["x.test", "a.x.test"]), "…x.test");
        assert_eq!(filter(&["a.x.test", "b.y.test"]), "….test");
    }

    #[test]
    fn a_plan_beyond_one_batch_is_sent_in_parts_and_removals_go_first() {
        let delete = |n: usize| Delete { id: n.to_string() };
        let plan = Plan {
            deletes: (0..BATCH + 1).map(delete).collect(),
            posts: Vec::new(),
        };
        let sizes: Vec<usize> = plan.parts().iter().map(|part| part.deletes.len()).collect();
        assert_eq!(sizes, [BATCH, 1]);
        assert_eq!(Plan::default().parts(), []);
    }
}
