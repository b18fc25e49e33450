//! Changes of TXT values at the update server: read, plan, send, read back.
//!
//! Servers give a whole RRset the TTL of the record that joined it last, and taking that record out does not bring the
//! old TTL back. So a value joins with the TTL that is there, guarded by a prerequisite on exactly what was read.

use std::collections::BTreeMap;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use super::error::{self, Blame};
use super::exchange::Session;
use super::message::{self, Node, NotOnWire, Reply, question, update, wire_name};
use super::tsig::Key;
use crate::record::{Change, DnsName, Zone};
use crate::wanted::{Wanted, wanted};
use crate::{ErrorKind, ProviderError};

/// One verb's work on one zone.
pub(super) struct Editor<'a> {
    session: Session<'a>,
    server: &'a str,
    key: Option<&'a Key>,
    zone: &'a DnsName,
    wire_zone: Name,
}

impl<'a> Editor<'a> {
    /// Works on `zone` over `session`.
    pub(super) fn new(
        session: Session<'a>,
        server: &'a str,
        key: Option<&'a Key>,
        zone: &'a Zone,
    ) -> Result<Self, ProviderError> {
        Ok(Self {
            session,
            server,
            key,
            zone: &zone.name,
            wire_zone: wire_name(&zone.name).map_err(|_| error::name_too_long(&zone.name))?,
        })
    }

    /// What the server says about TXT at each of `names`.
    pub(super) async fn read(&mut self, names: &[DnsName]) -> Result<Vec<Node>, ProviderError> {
        let wire = wire_names(names)?;
        let questions = wire
            .iter()
            .map(|name| question(name.clone(), RecordType::TXT))
            .collect();
        let replies = self.session.ask(questions).await?;
        let mut nodes = Vec::with_capacity(names.len());
        for ((name, wire), reply) in names.iter().zip(&wire).zip(&replies) {
            let blame = Blame::of_question(self.server, self.key, name);
            blame.unless_answer(reply)?;
            blame.unless_trusted(reply)?;
            if !reply.authoritative() {
                return Err(blame.not_authoritative(self.zone));
            }
            nodes.push(reply.node(wire));
        }
        Ok(nodes)
    }

    /// Makes `changes` true; a prerequisite that no longer holds is answered once by reading again.
    pub(super) async fn apply(&mut self, changes: &[Change]) -> Result<(), ProviderError> {
        let wanted = wanted(changes);
        let names: Vec<DnsName> = wanted.keys().cloned().collect();
        let mut sent_before = false;
        for attempt in [Attempt::First, Attempt::Second] {
            let mut nodes = self.current(&names).await?;
            if attempt == Attempt::Second {
                self.tell_wildcards_apart(&names, &mut nodes, &wanted)
                    .await?;
            }
            let edits = plan(&wanted, &nodes)?;
            if edits.is_empty() {
                return Ok(());
            }
            match self.send(edits, &mut sent_before).await? {
                Outcome::Done => return self.read_back(&wanted, &names).await,
                Outcome::Overtaken => {}
            }
        }
        Err(self.blame(&names).overtaken())
    }

    /// Reads every name. Where the server will not say, its verdict on an update that changes nothing tells more.
    async fn current(&mut self, names: &[DnsName]) -> Result<Vec<Node>, ProviderError> {
        let (inside, outside): (Vec<DnsName>, Vec<DnsName>) = names
            .iter()
            .cloned()
            .partition(|name| name.is_at_or_below(self.zone));
        let nodes = match self.read(&inside).await {
            Ok(nodes) => nodes,
            Err(fault) if !matches!(fault.kind, ErrorKind::Auth | ErrorKind::Transient) => {
                return Err(match self.verdict().await {
                    Err(verdict) if verdict.code.as_deref() != Some("REFUSED") => verdict,
                    _ => fault,
                });
            }
            Err(fault) => return Err(fault),
        };
        let mut all: BTreeMap<DnsName, Node> = inside.into_iter().zip(nodes).collect();
        // What is outside the zone goes to the server unread: the refusal is the server's to make.
        all.extend(outside.into_iter().map(|name| (name, Node::default())));
        Ok(all.into_values().collect())
    }

    /// Whether the server would take an update of the zone at all.
    async fn verdict(&mut self) -> Result<(), ProviderError> {
        let empty = update(self.wire_zone.clone(), Vec::new(), Vec::new());
        let replies = self.session.ask(vec![empty]).await?;
        for reply in &replies {
            self.blame(&[]).unless_done(reply)?;
        }
        Ok(())
    }

    /// An answer made from a wildcard looks like an RRset at the name, but a prerequisite sees that there is none
    /// (RFC 2136 section 7.8 leaves wildcards alone). Asks so for every name that showed something.
    async fn tell_wildcards_apart(
        &mut self,
        names: &[DnsName],
        nodes: &mut [Node],
        wanted: &BTreeMap<DnsName, Wanted>,
    ) -> Result<(), ProviderError> {
        let mut probes = Vec::new();
        for (i, (name, node)) in names.iter().zip(nodes.iter()).enumerate() {
            let wire = wire_name(name).map_err(|_| error::name_too_long(name))?;
            if !node.txt.is_empty() {
                probes.push((i, RecordType::TXT, wire.clone()));
            }
            if node.cname.is_some() {
                probes.push((i, RecordType::CNAME, wire));
            }
        }
        let messages = probes.iter().map(|(_, kind, name)| {
            let absent = message::does_not_exist(name.clone(), *kind);
            update(self.wire_zone.clone(), vec![absent], Vec::new())
        });
        let replies = self.session.ask(messages.collect()).await?;
        for ((i, kind, _), reply) in probes.into_iter().zip(&replies) {
            let there = reply.code() == ResponseCode::YXRRSet;
            if !there {
                self.blame(&[]).unless_done(reply)?;
            }
            match kind {
                RecordType::TXT if !there => nodes[i].txt.clear(),
                RecordType::CNAME if !there => nodes[i].cname = None,
                RecordType::CNAME
                    if wanted
                        .get(&names[i])
                        .is_some_and(|it| !it.ensure.is_empty()) =>
                {
                    let target = nodes[i].cname.clone().unwrap_or_default();
                    return Err(self.blame(&names[i..=i]).shadowed(&target));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn send(
        &mut self,
        edits: Vec<Edit>,
        sent_before: &mut bool,
    ) -> Result<Outcome, ProviderError> {
        for batch in batches(edits, self.envelope(), self.session.message_size()) {
            let names: Vec<DnsName> = batch.iter().map(|edit| edit.name.clone()).collect();
            let reply = self.session.ask(vec![self.message(batch)]).await;
            let verdict = reply.and_then(|replies| self.verdict_on(&replies, &names));
            match verdict {
                Ok(Outcome::Done) => *sent_before = true,
                Ok(Outcome::Overtaken) => return Ok(Outcome::Overtaken),
                Err(fault) if *sent_before => return Err(error::partly_done(fault)),
                Err(fault) => return Err(fault),
            }
        }
        Ok(Outcome::Done)
    }

    fn verdict_on(&self, replies: &[Reply], names: &[DnsName]) -> Result<Outcome, ProviderError> {
        for reply in replies {
            if error::is_unmet_prerequisite(reply) {
                return Ok(Outcome::Overtaken);
            }
            self.blame(names).unless_done(reply)?;
        }
        Ok(Outcome::Done)
    }

    /// What a message holds beside its records: header, zone, and a TSIG record without its key's name.
    fn envelope(&self) -> usize {
        const FIXED: usize = 12 + 6 + 128;
        let key = self.key.map_or(0, |key| key.name.as_str().len());
        FIXED + self.zone.as_str().len() + key
    }

    fn message(&self, batch: Vec<Edit>) -> Message {
        let (mut prerequisites, mut updates) = (Vec::new(), Vec::new());
        for edit in batch {
            prerequisites.extend(edit.prerequisites);
            updates.extend(edit.updates);
        }
        update(self.wire_zone.clone(), prerequisites, updates)
    }

    /// NOERROR is no proof: BIND and Knot drop a TXT at a CNAME without a word.
    async fn read_back(
        &mut self,
        wanted: &BTreeMap<DnsName, Wanted>,
        names: &[DnsName],
    ) -> Result<(), ProviderError> {
        let nodes = self.read(names).await?;
        for ((name, wanted), node) in wanted.iter().zip(nodes) {
            let one = std::slice::from_ref(name);
            if let Some(missing) = wanted.ensure.iter().find(|value| !node.holds(value)) {
                return Err(match &node.cname {
                    Some(target) => self.blame(one).shadowed(target),
                    None => self.blame(one).missing_after(missing),
                });
            }
            if let Some(left) = wanted.absent.iter().find(|value| node.holds(value)) {
                return Err(self.blame(one).left_after(left));
            }
        }
        Ok(())
    }

    fn blame<'b>(&'b self, names: &'b [DnsName]) -> Blame<'b> {
        Blame::of_update(self.server, self.key, self.zone, names)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Second,
}

enum Outcome {
    Done,
    /// Something changed between reading and writing; nothing was written.
    Overtaken,
}

/// What has to be sent for one name.
struct Edit {
    name: DnsName,
    prerequisites: Vec<Record>,
    updates: Vec<Record>,
}

impl Edit {
    /// Its size on the wire, at most: names are written in full here and shortened in a message.
    fn size(&self) -> usize {
        self.prerequisites
            .iter()
            .chain(&self.updates)
            .map(size)
            .sum()
    }
}

/// What takes each name from its state to what is wanted; names that are there already need nothing.
fn plan(wanted: &BTreeMap<DnsName, Wanted>, nodes: &[Node]) -> Result<Vec<Edit>, ProviderError> {
    let mut edits = Vec::new();
    for ((name, wanted), node) in wanted.iter().zip(nodes) {
        let wire = wire_name(name).map_err(|_| error::name_too_long(name))?;
        let new: Vec<&String> = wanted.ensure.iter().filter(|v| !node.holds(v)).collect();
        let mut updates = Vec::new();
        for txt in &node.txt {
            let octets = message::joined(txt);
            if wanted.absent.iter().any(|value| value.as_bytes() == octets) {
                updates.push(message::delete(wire.clone(), txt.clone()));
            }
        }
        // Taking a value out commutes with whatever else happens; joining an RRset does not, because of its TTL.
        let prerequisites = match new.is_empty() {
            true => Vec::new(),
            false => guards(&wire, node),
        };
        let ttl = match node.txt.is_empty() {
            true => wanted.ttl,
            false => node.ttl.unwrap_or(wanted.ttl),
        };
        updates.extend(
            new.into_iter()
                .map(|value| message::add(wire.clone(), ttl, message::txt(value))),
        );
        if !updates.is_empty() {
            edits.push(Edit {
                name: name.clone(),
                prerequisites,
                updates,
            });
        }
    }
    Ok(edits)
}

/// The prerequisites under which a value may join what was read.
fn guards(name: &Name, node: &Node) -> Vec<Record> {
    let mut guards: Vec<Record> = node
        .txt
        .iter()
        .map(|txt| message::exists_with(name.clone(), txt.clone()))
        .collect();
    if guards.is_empty() {
        guards.push(message::does_not_exist(name.clone(), RecordType::TXT));
    }
    if node.cname.is_some() {
        // A CNAME at the name would swallow the value; one that a wildcard made up does not.
        guards.push(message::does_not_exist(name.clone(), RecordType::CNAME));
    }
    guards
}

/// Cuts `edits` into messages of at most `limit` octets; one name is never cut.
fn batches(edits: Vec<Edit>, envelope: usize, limit: usize) -> Vec<Vec<Edit>> {
    let mut batches: Vec<Vec<Edit>> = Vec::new();
    let mut size = limit;
    for edit in edits {
        let more = edit.size();
        match batches.last_mut() {
            Some(last) if size + more <= limit => {
                last.push(edit);
                size += more;
            }
            _ => {
                size = envelope + more;
                batches.push(vec![edit]);
            }
        }
    }
    batches
}

fn size(record: &Record) -> usize {
    let mut bytes = Vec::new();
    match record.emit(&mut BinEncoder::new(&mut bytes)) {
        Ok(()) => bytes.len(),
        Err(_) => usize::from(u16::MAX),
    }
}

fn wire_names(names: &[DnsName]) -> Result<Vec<Name>, ProviderError> {
    let wire = |name| wire_name(name).map_err(|NotOnWire| error::name_too_long(name));
    names.iter().map(wire).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{absent, ensure};

    fn name(text: &str) -> DnsName {
        DnsName::parse(text).unwrap()
    }

    fn edits(count: usize) -> Vec<Edit> {
        let changes: Vec<Change> = (0..count)
            .map(|i| ensure(&name(&format!("n{i:03}.example.test")), "value"))
            .collect();
        plan(&wanted(&changes), &vec![Node::default(); count]).unwrap()
    }

    #[test]
    fn a_value_joins_with_the_ttl_that_is_there_guarded_by_what_was_read() {
        let name = name("a.test");
        let node = Node {
            txt: vec![message::txt("foreign")],
            ttl: Some(777),
            cname: None,
        };
        let edits = plan(&wanted(&[ensure(&name, "v")]), &[node]).unwrap();
        assert_eq!(edits[0].updates[0].ttl, 777);
        let wire = wire_name(&name).ok().unwrap();
        let guard = message::exists_with(wire, message::txt("foreign"));
        assert_eq!(edits[0].prerequisites, [guard]);
    }

    #[test]
    fn what_is_true_already_needs_no_message() {
        let name = name("a.test");
        let node = Node {
            txt: vec![message::txt("v")],
            ttl: Some(60),
            cname: None,
        };
        let changes = wanted(&[ensure(&name, "v"), absent(&name, "gone")]);
        assert!(plan(&changes, &[node]).unwrap().is_empty());
    }

    #[test]
    fn edits_are_cut_at_the_limit_and_none_is_lost() {
        let limit = 2000;
        let batches = batches(edits(100), 200, limit);
        assert!(batches.len() > 1);
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 100);
        for batch in batches {
            assert!(200 + batch.iter().map(Edit::size).sum::<usize>() <= limit);
        }
    }

    #[test]
    fn an_edit_larger_than_the_limit_still_goes_out_alone() {
        assert_eq!(batches(edits(3), 0, 1).len(), 3);
    }

    #[test]
    fn a_full_batch_of_usual_names_is_one_message() {
        let changes: Vec<Change> = (0..super::super::BATCH)
            .map(|i| {
                let name = name(&format!("_acme-challenge.host-{i}.department.example.test"));
                ensure(&name, "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0")
            })
            .collect();
        let nodes = vec![Node::default(); changes.len()];
        let edits = plan(&wanted(&changes), &nodes).unwrap();
        assert_eq!(batches(edits, 200, 32 * 1024).len(), 1);
    }
}
