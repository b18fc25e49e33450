//! What the virtual host answers when it is asked for its zones, or for records.

use serde_json::{Value, json};

use crate::manifest::form::Kind;
use crate::manifest::plan::{Listing, Owner};
use crate::manifest::template::label;
use crate::record::{DnsName, Zone};

use super::inverse::{Caught, Incoming};
use super::operations::{Host, filled};
use super::paging::Page;
use super::refusals::Answer;
use super::store::Record;
use super::{Trouble, ZONE};

impl Host<'_> {
    pub(super) fn zones(&mut self, said: &Caught, incoming: &Incoming) -> Option<Answer> {
        let zones = &self.manifest.zones;
        let candidate = said.named.get("zone");
        let name = said
            .named
            .get("name")
            .and_then(|it| DnsName::parse(it).ok());
        let fits = |zone: &&Zone| {
            candidate.is_none_or(|it| zone.name.as_str() == it)
                && name.as_ref().is_none_or(|it| it.is_at_or_below(&zone.name))
        };
        let twin = self.twin();
        let of_host = self.store.zones.iter().map(|zone| (zone, false));
        let found = twin.iter().map(|(zone, left_out)| (zone, *left_out));
        let found: Vec<(&Zone, bool)> = found.chain(of_host).filter(|it| fits(&it.0)).collect();
        let asks_for_one = zones
            .listing
            .ask
            .path
            .iter()
            .any(|it| it.names().any(|it| it == "zone"));
        if found.is_empty() && asks_for_one {
            return Some(self.refuse(Kind::ZoneMissing, "there is no such zone"));
        }
        let items = found.into_iter().map(|(zone, is_left_out)| {
            let mut item = json!({"virtual-extra": true});
            let parts = zones.name.len();
            // Of the parts of a name only the last one is not empty.
            let name = self.written(zone.name.as_str());
            let mut is_put = zones.name.iter().enumerate().all(|(nth, way)| {
                way.put(
                    &mut item,
                    json!(if nth + 1 == parts { name.as_str() } else { "" }),
                )
            });
            if let Some(way) = &zones.id {
                is_put &= way.put(&mut item, json!(zone.id));
            }
            if let Some(way) = &zones.nameservers {
                is_put &= way.put_all(
                    &mut item,
                    vec![json!("ns1.virtual.test"), json!("ns2.virtual.test")],
                );
            }
            for (way, value) in &zones.listing.only {
                let value = match (is_left_out, value) {
                    (false, value) => value.clone(),
                    (true, Value::Null) => json!("left out"),
                    (true, _) => Value::Null,
                };
                is_put &= way.put(&mut item, value);
            }
            is_put.then_some(item)
        });
        let items = items.collect::<Option<Vec<_>>>()?;
        self.list(&zones.listing, items, incoming)
    }

    /// Another zone of the name of the virtual one, and whether the manifest leaves it out.
    fn twin(&self) -> Option<(Zone, bool)> {
        let is_left_out = match self.trouble? {
            Trouble::Twin => false,
            Trouble::TwinLeftOut => true,
            _ => return None,
        };
        let mut zones = self.store.zones.iter();
        let mut twin = zones.find(|it| it.name.as_str() == ZONE)?.clone();
        if self.manifest.zones.id.is_some() {
            twin.id.push('1');
        }
        Some((twin, is_left_out))
    }

    pub(super) fn records(&mut self, said: &Caught, incoming: &Incoming) -> Option<Answer> {
        let records = &self.manifest.records;
        let Some(zone) = self.zone(&said.named) else {
            return Some(self.refuse(Kind::ZoneMissing, "there is no such zone"));
        };
        let asked = self.name(&zone, &said.named);
        let there = self.store.of(&zone);
        let there: Vec<&Record> = there
            .into_iter()
            .filter(|it| asked.as_ref().is_none_or(|asked| it.name == *asked))
            .collect();
        if let (true, Some(status)) = (there.is_empty(), records.listing.none) {
            return Some(Answer::new(status, json!({})));
        }
        let mut items: Vec<Vec<&Record>> = Vec::new();
        for record in there {
            match items
                .iter_mut()
                .find(|it| records.values.is_some() && it[0].name == record.name)
            {
                Some(set) => set.push(record),
                None => items.push(vec![record]),
            }
        }
        let items = items
            .into_iter()
            .map(|set| self.item(&zone, &set))
            .collect::<Option<Vec<_>>>()?;
        self.list(&records.listing, items, incoming)
    }

    /// A record, or a set of them.
    fn item(&self, zone: &Zone, set: &[&Record]) -> Option<Value> {
        let records = &self.manifest.records;
        let first = set.first()?;
        let mut item = json!({"virtual-extra": [1, 2]});
        let mut is_put = match &records.owner {
            Owner::Asked => true,
            Owner::Full(way) => way.put(&mut item, json!(self.written(first.name.as_str()))),
            Owner::Relative(way) => {
                let label = label(&first.name, &zone.name, &self.manifest.apex);
                let label = if self.trouble == Some(Trouble::Shouts) {
                    label.to_ascii_uppercase()
                } else {
                    label
                };
                way.put(&mut item, json!(label))
            }
        };
        is_put &= records.ttl.put(&mut item, json!(first.ttl));
        if let Some(way) = &records.id {
            is_put &= way.put(&mut item, json!(first.id));
        }
        for (way, value) in &records.listing.only {
            is_put &= way.put(&mut item, value.clone());
        }
        match &records.values {
            None => is_put &= self.fill(&mut item, first),
            Some(way) => {
                let elements = set.iter().map(|record| self.element(record));
                is_put &= way.put_all(&mut item, elements.collect::<Option<Vec<_>>>()?);
            }
        }
        is_put.then_some(item)
    }

    /// An element of a set.
    pub(super) fn element(&self, record: &Record) -> Option<Value> {
        let mut element = Value::Null;
        self.fill(&mut element, record).then_some(element)
    }

    fn fill(&self, element: &mut Value, record: &Record) -> bool {
        let records = &self.manifest.records;
        let disabled = records.disabled.as_ref();
        disabled.is_none_or(|way| way.put(element, json!(false)))
            && records.value.put(element, json!(record.stored))
    }

    fn list(&self, listing: &Listing, items: Vec<Value>, incoming: &Incoming) -> Option<Answer> {
        let paging = listing.paging.as_ref();
        let page = Page::of(paging, incoming, items.len());
        let items: Vec<Value> = items.into_iter().skip(page.first).take(page.size).collect();
        let mut reply = self.good()?;
        listing.items.put_all(&mut reply, items).then_some(())?;
        let link = page.tell(paging, incoming, &mut reply)?;
        let answer = Answer::new(200, filled(reply));
        Some(match link {
            Some(link) => answer.header("link", link),
            None => answer,
        })
    }
}
