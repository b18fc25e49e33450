//! Clean-up because a person asks: which TXT values stand at the challenge names, whose they are, and the removal of
//! those that nobody needs.
//!
//! A value goes by itself, never its RRset, and by way of the ledger: it is saved before the host is asked, and one that
//! an order needs stays. What is not ours goes only where it was named, and only if it has the form of a challenge value.

mod look;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_providers::record::DnsName;
use countersign_providers::{RecordModel, Remark};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::by_hand::is_manual;
use super::journal::Journal;
use super::locate::provider_fault;
use super::shared::Shared;
use crate::engine::ledger::{Entry, RecordId, State};
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::ledger::{ClearError, Ledger, spoken};
use crate::store::StoreError;
use look::{Saw, Spots, find, look};

/// How long a SHA-256 is, which is what a challenge value is made of (RFC 8555 section 8.4).
const DIGEST: usize = 32;

/// What a person asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// At the names of these certificates; of all, and wherever else something of ours is, when empty.
    pub only: BTreeSet<CertificateName>,
    /// Values of others that are to go; then nothing else goes.
    pub foreign: BTreeSet<RecordId>,
}

/// Whether orders go on meanwhile.
#[derive(Debug)]
pub enum Orders {
    /// They do: what they own stays.
    Run,
    /// Nobody but us has the store, and these were its entries: what stopped orders left may go, and is put back by them
    /// when they go on.
    Stand(Vec<Entry>),
}

/// What was found, and what came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cleaned {
    /// At how many challenge names it was seen what stands there.
    pub looked: usize,
    /// At how many others nobody could look.
    #[serde(default)]
    pub unseen: usize,
    /// Where something stands, in the order of the names.
    pub places: Vec<Place>,
    /// Challenge names at which nobody could look, and why.
    pub troubles: Vec<(DnsName, Failure)>,
}

/// Where values stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The challenge names that lead there.
    pub asked: BTreeSet<DnsName>,
    /// The certificates that they belong to.
    pub certificates: BTreeSet<CertificateName>,
    /// The name itself.
    pub name: DnsName,
    /// Its zone.
    pub zone: DnsName,
    /// The provider that holds it.
    pub provider: String,
    /// What stands there.
    pub values: Vec<Value>,
}

/// One value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Value {
    /// Which.
    pub record: RecordId,
    /// Whose it is.
    pub standing: Standing,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
    /// What came of it.
    pub fate: Fate,
}

/// Whose a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Ours, and an order needs it.
    InUse,
    /// Ours, by the ledger or by its mark at the host, and nobody needs it.
    LeftOver,
    /// Ours, at a host that removes nothing and lets the next value push it out.
    Kept,
    /// Somebody else's answer to a challenge.
    Foreign,
    /// An answer to a challenge that we do not know of, at a host that removes none.
    Unremovable,
    /// Something else, which is never removed.
    Other,
}

/// What came of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is there.
    Stays,
    /// It is gone.
    Removed,
    /// It was to go, and may still be there.
    Failed(Failure),
}

/// Looks, and removes what is ours and not needed, or those of `selection.foreign` that are still there.
pub async fn clean(
    shared: &Shared,
    selection: &Selection,
    orders: Orders,
) -> Result<Cleaned, StoreError> {
    let mut cleaned = Cleaned::default();
    let (before, run) = match orders {
        Orders::Run => (Ledger::entries(&shared.session).await?, true),
        Orders::Stand(entries) => (entries, false),
    };
    let (mut spots, all) = find(shared, selection, &mut cleaned).await;
    look(shared, &mut spots, &mut cleaned).await;
    let seen = spots.values().filter(|it| it.saw > Saw::Nothing);
    let looked: BTreeSet<&DnsName> = seen.flat_map(|it| &it.asked).collect();
    cleaned.looked = looked.len();
    cleaned.unseen = all.len() - looked.len();
    let mut entries = sort(selection, &mut spots, before);
    let mut renamed = renamed(shared, &mut spots);
    if run {
        // Orders put values there meanwhile. What they took away was seen for the last time.
        let now = Ledger::entries(&shared.session).await?;
        entries.extend(now.into_iter().map(|it| (it.record.clone(), it)));
    }
    let mut known: BTreeMap<(&DnsName, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in entries.values() {
        // Also what was put there by way of a provider that has another name now.
        let at = (&entry.record.name, entry.record.value.as_str());
        known.entry(at).or_default().push(entry);
    }
    for ((provider, zone, name), spot) in spots {
        let by_hand = is_manual(&shared.config, &provider);
        let values: BTreeSet<String> = match by_hand && spot.saw == Saw::Whole {
            // Nobody has put the others there, or somebody has taken them away.
            true => spot.seen,
            false => spot.seen.into_iter().chain(spot.known).collect(),
        };
        let values = values.into_iter().map(|value| {
            let record = RecordId {
                provider: provider.clone(),
                zone: zone.clone(),
                name: name.clone(),
                value,
            };
            let remark = spot.remarks.iter().find(|it| it.value == record.value);
            let known = known.get(&(&record.name, record.value.as_str()));
            let known = known.map(Vec::as_slice).unwrap_or_default();
            judged(shared, known, record.clone(), remark, run)
        });
        let mut values: Vec<Value> = values.collect();
        values.sort_by_key(|it| it.standing);
        if !values.is_empty() {
            cleaned.places.push(Place {
                asked: spot.asked,
                certificates: spot.certificates,
                provider: spoken(&provider),
                name,
                zone: zone.name,
                values,
            });
        }
    }
    cleaned.places.sort_by(|a, b| a.name.cmp(&b.name));
    let mut removals = Vec::new();
    for (nth, place) in cleaned.places.iter_mut().enumerate() {
        for value in std::mem::take(&mut place.values) {
            let entry = entries.get(&value.record).cloned();
            let certificates = place.certificates.clone();
            let at = (value.record.name.clone(), value.record.value.clone());
            let others = renamed.remove(&at).unwrap_or_default();
            removals.push(async move {
                let removal = remove(shared, selection, certificates, value, entry).await;
                (nth, others, removal)
            });
        }
    }
    // What nobody shows any more is gone.
    let is_owned = |it: &&RecordId| {
        entries
            .get(it)
            .is_some_and(|it| it.owners().next().is_some())
    };
    let gone = renamed.values().flatten();
    for record in gone.filter(|it| !(run && is_owned(it))) {
        shared.ledger.write_off(record).await?;
    }
    // All at once, so that those of one zone go together.
    for (nth, others, value) in join_all(removals).await {
        let value = value?;
        if value.fate == Fate::Removed {
            for record in &others {
                shared.ledger.write_off(record).await?;
            }
        }
        cleaned.places[nth].values.push(value);
    }
    Ok(cleaned)
}

/// Takes out what the ledger knows of under providers that are not configured any more, where another one shows all that
/// stands at the name, or the value itself: it shares the fate of what is seen there.
fn renamed(shared: &Shared, spots: &mut Spots) -> BTreeMap<(DnsName, String), Vec<RecordId>> {
    let mut shown: BTreeMap<DnsName, (BTreeSet<String>, bool)> = BTreeMap::new();
    let seen = spots.iter().filter(|(_, spot)| spot.saw > Saw::Nothing);
    for ((_, _, name), spot) in seen {
        let (values, is_whole) = shown.entry(name.clone()).or_default();
        values.extend(spot.seen.clone());
        *is_whole |= spot.saw == Saw::Whole;
    }
    let mut renamed: BTreeMap<_, Vec<RecordId>> = BTreeMap::new();
    for ((provider, zone, name), spot) in spots {
        let (None, Some((seen, is_whole))) = (shared.ledger.host(provider), shown.get(name)) else {
            continue;
        };
        spot.known.retain(|value| {
            let is_settled = *is_whole || seen.contains(value);
            if is_settled {
                let at = (name.clone(), value.clone());
                renamed.entry(at).or_default().push(RecordId {
                    provider: provider.clone(),
                    zone: zone.clone(),
                    name: name.clone(),
                    value: value.clone(),
                });
            }
            !is_settled
        });
    }
    renamed
}

/// Adds what the ledger knows of at these names and, where no certificate was named, everywhere else.
fn sort(
    selection: &Selection,
    spots: &mut Spots,
    entries: Vec<Entry>,
) -> BTreeMap<RecordId, Entry> {
    let asked: BTreeSet<DnsName> = spots.values().flat_map(|it| it.asked.clone()).collect();
    // Of any attempt: where it put something, a CNAME may have led then.
    let of_certificate: Vec<String> = selection.only.iter().map(|it| format!("{it}/")).collect();
    let is_theirs = |entry: &Entry| {
        let mut owners = entry.owners();
        owners.any(|owner| of_certificate.iter().any(|start| owner.starts_with(start)))
    };
    let mut kept = BTreeMap::new();
    for entry in entries {
        let record = &entry.record;
        let at = (
            record.provider.clone(),
            record.zone.clone(),
            record.name.clone(),
        );
        let is_meant =
            selection.only.is_empty() || asked.contains(&record.name) || is_theirs(&entry);
        if entry.state() != State::Watched && (is_meant || spots.contains_key(&at)) {
            let spot = spots.entry(at).or_default();
            spot.known.insert(record.value.clone());
        }
        kept.insert(record.clone(), entry);
    }
    kept
}

fn judged(
    shared: &Shared,
    known: &[&Entry],
    record: RecordId,
    remark: Option<&Remark>,
    run: bool,
) -> Value {
    let has_slots = || {
        let host = shared.ledger.host(&record.provider);
        host.is_some_and(|it| matches!(it.traits().model, RecordModel::Slots(_)))
    };
    let is_marked = remark.is_some_and(|it| it.is_ours);
    let is_owned = known.iter().any(|it| it.owners().next().is_some());
    let standing = match known.first() {
        Some(_) if run && is_owned => Standing::InUse,
        Some(_) if has_slots() => Standing::Kept,
        Some(_) => Standing::LeftOver,
        None if !is_challenge_value(&record.value) => Standing::Other,
        None if has_slots() => Standing::Unremovable,
        None if is_marked => Standing::LeftOver,
        None => Standing::Foreign,
    };
    let made = remark.and_then(|it| it.made);
    Value {
        since: known.iter().find_map(|it| it.since()).or(made),
        record,
        standing,
        fate: Fate::Stays,
    }
}

/// Whether `value` has the form of an answer to a challenge.
fn is_challenge_value(value: &str) -> bool {
    (URL_SAFE_NO_PAD.decode(value)).is_ok_and(|digest| digest.len() == DIGEST)
}

async fn remove(
    shared: &Shared,
    selection: &Selection,
    certificates: BTreeSet<CertificateName>,
    mut value: Value,
    entry: Option<Entry>,
) -> Result<Value, StoreError> {
    let record = &value.record;
    let is_meant = match value.standing {
        Standing::LeftOver => selection.foreign.is_empty(),
        Standing::Foreign => selection.foreign.contains(record),
        _ => false,
    };
    if !is_meant {
        return Ok(value);
    }
    let is_foreign = value.standing == Standing::Foreign;
    if is_manual(&shared.config, &record.provider) {
        // What an order owns stays its own until it is seen to be gone.
        let sentence = format!("remove by hand TXT \"{}\" at {}", record.value, record.name);
        value.fate = Fate::Failed(Failure::new(Whose::You, sentence));
        return Ok(value);
    }
    match value.standing {
        Standing::LeftOver => {
            for owner in entry.iter().flat_map(Entry::owners) {
                (shared.ledger.release(owner.clone(), record.clone())).await?;
            }
        }
        // Before it is done: what is gone cannot be looked up any more.
        _ => {
            let what = format!(
                "a person asks to remove the value {} of others at {}",
                record.value, record.name
            );
            note(shared, &certificates, &what).await?;
        }
    }
    value.fate = match shared.ledger.clear(record.clone()).await {
        Ok(()) => Fate::Removed,
        Err(ClearError::Wanted) => {
            value.standing = Standing::InUse;
            Fate::Stays
        }
        Err(ClearError::Provider(error)) => {
            Fate::Failed(provider_fault(&spoken(&record.provider), &error).failure)
        }
        Err(error @ ClearError::NoProvider(_)) => {
            let sentence = format!("{error}; delete the record there by hand");
            Fate::Failed(Failure::new(Whose::You, sentence))
        }
        Err(ClearError::Store(error)) => return Err(error),
    };
    if is_foreign {
        let came = match &value.fate {
            Fate::Removed => "is removed".to_owned(),
            Fate::Stays => "stays: an order needs it".to_owned(),
            Fate::Failed(failure) => format!("is not known to be removed: {}", failure.sentence),
        };
        let what = format!("the value {} of others {came}", value.record.value);
        note(shared, &certificates, &what).await?;
    }
    Ok(value)
}

/// Adds a line to the history of each.
async fn note(
    shared: &Shared,
    certificates: &BTreeSet<CertificateName>,
    what: &str,
) -> Result<(), StoreError> {
    let mut writes = Vec::new();
    for certificate in certificates {
        let mut journal = Journal::new(certificate.clone(), 0);
        journal.note(shared.clock.now(), what);
        writes.extend(journal.take());
    }
    shared.session.commit(&[], &writes).await?;
    Ok(())
}

impl Cleaned {
    /// What somebody else may need, and is listed before it goes.
    pub fn foreign(&self) -> impl Iterator<Item = &Value> {
        let values = self.places.iter().flat_map(|place| &place.values);
        values.filter(|it| it.standing == Standing::Foreign && it.fate == Fate::Stays)
    }

    /// Notes what came of the values of `asked` when they were asked for.
    pub fn followed_by(&mut self, later: &Self, asked: &BTreeSet<RecordId>) {
        let all = later.places.iter().flat_map(|place| &place.values);
        let fates: BTreeMap<&RecordId, &Value> = all.map(|it| (&it.record, it)).collect();
        let values = self.places.iter_mut().flat_map(|place| &mut place.values);
        for value in values.filter(|it| asked.contains(&it.record)) {
            match fates.get(&value.record) {
                Some(now) => *value = (*now).clone(),
                // Somebody was faster.
                None if later.troubles.is_empty() => value.fate = Fate::Removed,
                None => {}
            }
        }
        for trouble in &later.troubles {
            if !self.troubles.iter().any(|(name, _)| *name == trouble.0) {
                self.troubles.push(trouble.clone());
            }
        }
    }

    /// Whether everything that was to go is gone, and everybody could be asked.
    pub fn is_good(&self) -> bool {
        let mut values = self.places.iter().flat_map(|place| &place.values);
        self.troubles.is_empty() && !values.any(|it| matches!(it.fate, Fate::Failed(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::is_challenge_value;

    #[test]
    fn only_what_could_be_a_digest_has_the_form_of_an_answer() {
        assert!(is_challenge_value(&"A".repeat(43)));
        assert!(is_challenge_value(&format!("{}-_8", "a0".repeat(20))));
        let verification = format!("google-site-verification={}", "A".repeat(18));
        for other in [
            "",
            "v=spf1 -all",
            &"A".repeat(42),
            &"A".repeat(44),
            &format!("{}=", "A".repeat(43)),
            // 43 characters, of which the last has bits that no digest fills.
            &format!("{}B", "A".repeat(42)),
            &verification,
        ] {
            assert!(!is_challenge_value(other), "{other}");
        }
    }
}
