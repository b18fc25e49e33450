//! Which records are to be created: the delegation of the challenges, CAA, and dns-persist-01. Pure.

use std::collections::{BTreeMap, BTreeSet};

use countersign_providers::record::DnsName;
use serde::Serialize;

use super::{Facts, Subject};
use crate::config::NameserverSettings;
use crate::engine::names::{CertificateName, Identifier};

/// The longest character-string of a TXT record (RFC 1035 section 3.3).
const LONGEST_STRING: usize = 255;
/// The label of dns-persist-01.
const PERSIST_LABEL: &str = "_validation-persist";

/// Records that belong together.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    /// What they are for, in one word.
    pub(super) kind: &'static str,
    /// Where they go and what they do: sentences.
    pub(super) notes: Vec<String>,
    /// The records.
    pub(super) records: Vec<Record>,
    /// What stands against records that are missing: sentences.
    pub(super) missing: Vec<String>,
}

/// A record in the form of zone files.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    /// Its owner.
    pub(super) name: DnsName,
    /// Its type.
    pub(super) r#type: &'static str,
    /// The rest.
    pub(super) data: String,
}

impl Section {
    fn new(kind: &'static str, note: impl Into<String>) -> Self {
        Self {
            kind,
            notes: vec![note.into()],
            records: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn add(&mut self, name: &DnsName, r#type: &'static str, data: String) {
        let name = name.clone();
        self.records.push(Record { name, r#type, data });
    }
}

/// Everything that is to be created for `subject`; `trouble` says why no account could be looked up.
pub(super) fn sections(
    subject: &Subject<'_>,
    facts: &BTreeMap<&str, Facts>,
    trouble: Option<&str>,
) -> Vec<Section> {
    let mut sections = vec![delegation(subject)];
    if let (Some(nameserver), None) = (&subject.config.nameserver, &subject.to) {
        sections.push(own_zone(nameserver));
    }
    sections.push(caa(subject, facts, trouble.is_none()));
    sections.push(persist(subject, facts));
    if let Some(trouble) = trouble {
        for section in sections.iter_mut().rev().take(2) {
            let sentence = format!("The accounts could not be looked up: {trouble}.");
            section.missing.push(sentence);
        }
    }
    sections
}

/// The challenge name of `base`, where it is not too long for one.
pub(super) fn challenge(base: &DnsName) -> Option<DnsName> {
    let base = base.clone();
    let name = Identifier {
        base,
        wildcard: false,
    };
    name.challenge_name().ok()
}

fn delegation(subject: &Subject<'_>) -> Section {
    let Some(zone) = subject.zone() else {
        let names: Vec<&str> = subject.names.keys().map(|it| it.as_str()).collect();
        let note = format!(
            "Delegation: none is needed where a provider may change these names itself, see the rights below. To keep it out of these zones, delegate the challenges into a small zone of a provider: `countersign delegate {} --to ZONE` prints the CNAME records.",
            names.join(" ")
        );
        let mut section = Section::new("delegation", note);
        acme_dns(subject, &mut section);
        return section;
    };
    let mut section = match &subject.to {
        Some(to) => {
            let note = format!(
                "Delegation into {to}, which a configured provider must hold. In the zone of each name:"
            );
            Section::new("delegation", note)
        }
        None => Section::new(
            "delegation",
            "Delegation to the built-in nameserver. In the zone of each name:",
        ),
    };
    for base in subject.bases() {
        let Some(challenge) = challenge(base) else {
            section.missing.push(format!(
                "{base} is too long for a challenge name before it, and cannot be proven by DNS."
            ));
            continue;
        };
        if challenge.is_at_or_below(zone) {
            let sentence = format!("{challenge} is in {zone} already and needs no delegation.");
            section.missing.push(sentence);
            continue;
        }
        match subject.target(base, zone) {
            Some(target) => section.add(&challenge, "CNAME", format!("{target}.")),
            None => section.missing.push(format!(
                "{challenge}: its own name with {zone} behind it is too long; point a CNAME to any shorter name below {zone} that no other name uses."
            )),
        }
    }
    section
}

/// What a CNAME into an acme-dns server points to is that server's choice: known where the name is registered.
fn acme_dns(subject: &Subject<'_>, section: &mut Section) {
    for (provider, targets) in &subject.registered {
        let targets = match targets {
            Ok(targets) => targets,
            Err(why) => {
                section.missing.push(format!(
                    "The accounts of provider {provider} cannot be read, and so where CNAMEs into its server point to: {why}."
                ));
                continue;
            }
        };
        for base in subject.bases() {
            match (challenge(base), targets.get(base)) {
                (Some(challenge), Some(target)) => {
                    section.add(&challenge, "CNAME", format!("{target}."));
                }
                (Some(challenge), None) => section.missing.push(format!(
                    "Provider {provider} has no account for {base}: where it is to prove this name, register it there, and point the CNAME {challenge} to its `fulldomain`."
                )),
                (None, _) => {}
            }
        }
    }
}

fn own_zone(nameserver: &NameserverSettings) -> Section {
    let zone = &nameserver.zone;
    let above = zone.parent();
    let above = above.map_or(".".to_owned(), |above| above.to_string());
    let note = format!(
        "The zone of the built-in nameserver, once: in the zone that holds {above}, with the addresses as glue. It answers for {zone} and what is below, so NS records at a single challenge name would lead nowhere: use the CNAME."
    );
    let mut section = Section::new("nameserver", note);
    for host in nameserver.hosts.keys() {
        section.add(zone, "NS", format!("{host}."));
    }
    for (host, addresses) in &nameserver.hosts {
        for address in addresses {
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            section.add(host, kind, address.to_string());
        }
    }
    section
}

/// Who may issue for one name, and for the wildcard over it.
#[derive(Default)]
struct Issuers<'c> {
    name: BTreeSet<&'c str>,
    wildcard: BTreeSet<&'c str>,
}

/// Who may issue for each base name, by every certificate of the configuration: a record for one must not lock out
/// another.
fn issuers<'c>(subject: &Subject<'c>) -> BTreeMap<&'c DnsName, Issuers<'c>> {
    let bases = subject.bases();
    let mut issuers: BTreeMap<_, Issuers<'_>> = BTreeMap::new();
    for certificate in subject.config.certificates.values() {
        let names = certificate.names.iter();
        for name in names.filter(|name| bases.contains(&name.base)) {
            let both = issuers.entry(&name.base).or_default();
            let one = match name.wildcard {
                true => &mut both.wildcard,
                false => &mut both.name,
            };
            one.extend(certificate.authorities.iter().map(|it| it.as_str()));
        }
    }
    issuers
}

/// The accounts were looked up, or nobody knows whether there are some.
fn caa(subject: &Subject<'_>, facts: &BTreeMap<&str, Facts>, were_looked_up: bool) -> Section {
    let note = "CAA: only these authorities, this account and DNS-01 (RFC 8659, RFC 8657). A record binds every name below that has none of its own: leave it out where others get certificates elsewhere. Let's Encrypt obeys both parameters; of other authorities ask before relying on them.";
    let mut section = Section::new("caa", note);
    let issuers = issuers(subject);
    // Those whose record would let in every account where another's names one.
    let mut left_out = BTreeSet::new();
    for (base, both) in &issuers {
        for (property, names) in [("issue", &both.name), ("issuewild", &both.wildcard)] {
            let asked = subject.config.authorities.iter();
            let asked = asked.filter(|it| names.contains(it.name.as_str()));
            let known = asked.filter_map(|it| {
                let facts = facts.get(it.name.as_str())?;
                let issuer = facts.issuer.as_deref().ok()?;
                Some((it.name.as_str(), issuer, account(facts)))
            });
            let known: Vec<_> = known.collect();
            let mut said = BTreeSet::new();
            for &(name, issuer, account) in &known {
                let mut others = known.iter().filter(|(_, other, _)| *other == issuer);
                if account.is_none() && others.any(|(_, _, account)| account.is_some()) {
                    left_out.insert(name);
                } else if said.insert((issuer, account)) {
                    let account = account.map_or(String::new(), |it| format!(" accounturi={it};"));
                    let value = format!("{issuer};{account} validationmethods=dns-01");
                    section.add(base, "CAA", format!("0 {property} \"{value}\""));
                }
            }
        }
    }
    for (name, facts) in facts {
        match (&facts.issuer, &facts.account) {
            (Err(why), _) => section.missing.push(format!(
                "What {name} looks for in CAA could not be known ({why}): ask whoever runs it. These records alone would lock it out."
            )),
            (Ok(_), Some(url)) if parameter(url).is_none() => section.missing.push(format!(
                "The account's URL at {name} cannot stand in a CAA record."
            )),
            (Ok(issuer), None) if left_out.contains(name) => section.missing.push(format!(
                "There is no account at {name} yet. Without an accounturi its record would let every account at {issuer} in, so it is left out: these records alone lock it out. After the first `countersign renew`, which makes the account, this command adds its record."
            )),
            (Ok(_), None) if were_looked_up => section.missing.push(format!(
                "There is no account at {name} yet; after the first `countersign renew` this command adds its accounturi."
            )),
            _ => {}
        }
    }
    section.missing.extend(locked_out(subject, &issuers));
    section
}

/// Names of other certificates below these, which their CAA would bind, with an authority that it does not allow.
fn locked_out<'s>(
    subject: &'s Subject<'_>,
    issuers: &'s BTreeMap<&DnsName, Issuers<'_>>,
) -> impl Iterator<Item = String> + 's {
    let names = (subject.config.certificates.iter())
        .flat_map(|(certificate, it)| it.names.iter().map(move |name| (certificate, it, name)));
    names.filter_map(|(certificate, settings, name)| {
        if issuers.contains_key(&name.base) {
            return None;
        }
        let mut above = std::iter::successors(name.base.parent(), DnsName::parent);
        let (above, allowed) = above.find_map(|it| issuers.get_key_value(&it))?;
        let allowed = match name.wildcard && !allowed.wildcard.is_empty() {
            true => &allowed.wildcard,
            false => &allowed.name,
        };
        let mut asked = settings.authorities.iter();
        let is_bound = !allowed.is_empty();
        let other = asked.find(|it| is_bound && !allowed.contains(it.as_str()))?;
        Some(format!(
            "{name} of the certificate {certificate} asks {other}, which the records at {above} do not allow: create the records that `countersign delegate {certificate}` prints too."
        ))
    })
}

fn persist(subject: &Subject<'_>, facts: &BTreeMap<&str, Facts>) -> Section {
    let note = "dns-persist-01 (draft-ietf-acme-dns-persist, form of its versions 00 and 01): a standing permission for the account. This version of Countersign does not use it, so create these only for a client that does. Let's Encrypt had it in staging only when this was written; of other authorities it is not known. Version 02 puts a digest in place of the account's URL, and takes no such record.";
    let mut section = Section::new("dns-persist-01", note);
    let mut wanted: BTreeMap<(&DnsName, &str), bool> = BTreeMap::new();
    for (certificate, names) in &subject.names {
        for name in names {
            for authority in authorities(subject, certificate) {
                *wanted.entry((&name.base, authority)).or_default() |= name.wildcard;
            }
        }
    }
    let mut without = BTreeSet::new();
    for ((base, authority), wildcard) in wanted {
        let facts = facts.get(authority);
        let issuer = facts.and_then(|it| it.issuer.as_ref().ok());
        let account = facts.and_then(account);
        let (Some(issuer), Some(account)) = (issuer, account) else {
            without.insert(authority);
            continue;
        };
        let policy = if wildcard { "; policy=wildcard" } else { "" };
        let value = format!("{issuer}; accounturi={account}{policy}");
        match base.prepend(PERSIST_LABEL) {
            Ok(name) => section.add(&name, "TXT", strings(&value)),
            Err(error) => section.missing.push(format!("{base}: {error}.")),
        }
    }
    section.missing.extend(without.into_iter().map(|authority| {
        format!("None for {authority}: it takes the authority's own name and the URL of an account there, which are not both known.")
    }));
    section
}

/// The account's URL, if there is one that can stand in a record.
fn account(facts: &Facts) -> Option<&str> {
    facts.account.as_deref().and_then(parameter)
}

fn authorities<'c>(subject: &Subject<'c>, certificate: &CertificateName) -> Vec<&'c str> {
    let authorities = &subject.config.certificates[certificate].authorities;
    authorities.iter().map(|it| it.as_str()).collect()
}

/// `text`, if it can be the value of a parameter (RFC 8659 section 4.2) inside quotes.
fn parameter(text: &str) -> Option<&str> {
    let fits =
        |byte: u8| matches!(byte, 0x21..=0x3A | 0x3C..=0x7E) && !matches!(byte, b'"' | b'\\');
    (!text.is_empty() && text.bytes().all(fits)).then_some(text)
}

/// `value`, which is ASCII, as the character-strings of a TXT record.
fn strings(value: &str) -> String {
    let chunks = value.as_bytes().chunks(LONGEST_STRING);
    let strings = chunks.map(|it| format!("\"{}\"", String::from_utf8_lossy(it)));
    strings.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// What is said of CAA where three authorities look for one name, and these have an account.
    fn said(accounts: &[&str]) -> Section {
        let text = "state: /s
authorities:
  one: {agree-to-terms: true, directory: \"https://one.test/\"}
  two: {agree-to-terms: true, directory: \"https://two.test/\"}
  three: {agree-to-terms: true, directory: \"https://three.test/\"}
providers: {person: {manual: {}}}
certificates: {example: {names: [example.test]}}
";
        let config = Config::parse(Path::new("c.yaml"), text).unwrap();
        let names = config.certificates.iter();
        let subject = Subject {
            config: &config,
            names: names
                .map(|(name, it)| (name, it.names.iter().collect()))
                .collect(),
            to: None,
            own: None,
            registered: BTreeMap::new(),
        };
        let fact = |name| {
            let account = accounts.contains(&name);
            let facts = Facts {
                issuer: Ok("ca.test".to_owned()),
                account: account.then(|| format!("https://{name}.test/1")),
            };
            (name, facts)
        };
        caa(&subject, &["one", "three", "two"].map(fact).into(), true)
    }

    fn data(section: &Section) -> Vec<&str> {
        section.records.iter().map(|it| it.data.as_str()).collect()
    }

    #[test]
    fn a_record_for_every_account_is_left_out_beside_one_for_a_single_account() {
        let section = said(&["two"]);
        let single = "0 issue \"ca.test; accounturi=https://two.test/1; validationmethods=dns-01\"";
        assert_eq!(data(&section), [single]);
        let left_out = section
            .missing
            .iter()
            .filter(|it| it.contains("is left out"));
        assert_eq!(left_out.count(), 2, "{:?}", section.missing);
    }

    #[test]
    fn one_record_is_said_once_for_all_authorities_that_look_for_it() {
        let every = "0 issue \"ca.test; validationmethods=dns-01\"";
        assert_eq!(data(&said(&[])), [every]);
        assert_eq!(said(&["one", "two", "three"]).records.len(), 3);
    }
}
