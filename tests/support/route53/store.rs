//! The zones of the fake Route 53 and the rules of a change batch, as Amazon's API reference and its replies have them.

use std::collections::BTreeMap;

/// Values in one request; UPSERT counts twice.
const MAX_VALUES: usize = 1_000;
/// Characters of all values in one request; UPSERT counts twice.
const MAX_CHARACTERS: usize = 32_000;

/// A hosted zone.
#[derive(Clone, Debug)]
pub struct Zone {
    pub id: String,
    /// With its last dot.
    pub name: String,
    pub private: bool,
    pub nameservers: Vec<String>,
    pub sets: BTreeMap<Key, Set>,
}

/// Where a set stands in a list: reversed labels with the last dot, type, identifier.
pub type Key = (String, String, String);

/// A record set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub kind: String,
    pub identifier: Option<String>,
    /// `None` for an alias.
    pub ttl: Option<u32>,
    pub values: Vec<String>,
}

impl Set {
    pub fn txt(name: &str, ttl: u32, values: &[&str]) -> Self {
        Self {
            name: dotted(name),
            kind: "TXT".to_owned(),
            identifier: None,
            ttl: Some(ttl),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        }
    }

    pub fn key(&self) -> Key {
        let identifier = self.identifier.clone().unwrap_or_default();
        (reversed(&self.name), self.kind.clone(), identifier)
    }
}

/// One element of a batch.
#[derive(Clone, Debug)]
pub struct Step {
    pub action: String,
    pub set: Set,
}

impl Zone {
    pub fn new(id: &str, name: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: dotted(name),
            private: false,
            nameservers: vec![format!("ns-1.{id}.test").to_lowercase()],
            sets: BTreeMap::new(),
        }
    }

    pub fn private(self) -> Self {
        Self {
            private: true,
            ..self
        }
    }

    pub fn put(&mut self, set: Set) {
        self.sets.insert(set.key(), set);
    }

    /// The simple TXT set at a name.
    pub fn txt(&self, name: &str) -> Option<&Set> {
        let key = (reversed(&dotted(name)), "TXT".to_owned(), String::new());
        self.sets.get(&key)
    }

    /// Makes all steps, or none and says everything that is wrong with them.
    pub fn change(&mut self, steps: &[Step]) -> Result<(), Vec<String>> {
        let weight = |step: &Step| if step.action == "UPSERT" { 2 } else { 1 };
        let values: usize = (steps.iter())
            .map(|step| weight(step) * step.set.values.len())
            .sum();
        if values > MAX_VALUES {
            return Err(vec![format!(
                "Number of records limit of {MAX_VALUES} exceeded."
            )]);
        }
        let characters: usize = (steps.iter())
            .map(|step| weight(step) * step.set.values.iter().map(String::len).sum::<usize>())
            .sum();
        if characters > MAX_CHARACTERS {
            return Err(vec![format!(
                "Number of characters limit of {MAX_CHARACTERS} exceeded."
            )]);
        }
        let mut after = self.sets.clone();
        let mut wrong = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let twice =
                |other: &Step| other.action == step.action && other.set.key() == step.set.key();
            if steps[..at].iter().any(twice) {
                let Set { name, kind, .. } = &step.set;
                wrong.push(format!(
                    "The request contains an invalid set of changes for a resource record set '{kind} {}'",
                    shown(name)
                ));
                continue;
            }
            if let Err(why) = self.step(&mut after, step) {
                wrong.push(why);
            }
        }
        if wrong.is_empty() {
            self.sets = after;
            return Ok(());
        }
        Err(wrong)
    }

    fn step(&self, sets: &mut BTreeMap<Key, Set>, step: &Step) -> Result<(), String> {
        let set = &step.set;
        let what = format!(
            "resource record set [name='{}', type='{}']",
            shown(&set.name),
            set.kind
        );
        let known = sets.get(&set.key());
        match (step.action.as_str(), known) {
            ("DELETE", None) => return Err(format!("Tried to delete {what} but it was not found")),
            ("DELETE", Some(known)) if !same(known, set) => {
                return Err(format!(
                    "Tried to delete {what} but the values provided do not match the current values"
                ));
            }
            ("DELETE", Some(_)) => {
                sets.remove(&set.key());
                return Ok(());
            }
            ("CREATE", Some(_)) => {
                return Err(format!("Tried to create {what} but it already exists"));
            }
            ("CREATE" | "UPSERT", _) => {}
            (other, _) => return Err(format!("Invalid action {other}")),
        }
        self.judge(sets, set)?;
        sets.insert(set.key(), set.clone());
        Ok(())
    }

    fn judge(&self, sets: &BTreeMap<Key, Set>, set: &Set) -> Result<(), String> {
        let (name, kind, zone) = (shown(&set.name), &set.kind, &self.name);
        let below = set.name == *zone || set.name.ends_with(&format!(".{zone}"));
        if !below {
            return Err(format!(
                "RRSet with DNS name {name} is not permitted in zone {zone}"
            ));
        }
        let mut others = sets.values().filter(|other| other.name == set.name);
        if let Some(other) = others.find(|other| (other.kind == "CNAME") != (kind == "CNAME")) {
            return Err(format!(
                "RRSet of type {kind} with DNS name {name} is not permitted because a conflicting RRSet of type {} with \
                 the same DNS name already exists in zone {zone}",
                other.kind
            ));
        }
        let mut others = sets
            .values()
            .filter(|other| other.name == set.name && other.kind == *kind);
        if others.any(|other| other.identifier.is_some() != set.identifier.is_some()) {
            let identifier = set.identifier.as_deref().unwrap_or("null");
            return Err(format!(
                "RRSet with DNS name {name}, type {kind}, SetIdentifier {identifier} cannot be created as other RRSets \
                 exist with the same name and type."
            ));
        }
        if set.values.is_empty() {
            return Err("Expected at least one ResourceRecord".to_owned());
        }
        for (at, value) in set.values.iter().enumerate() {
            if set.values[..at].contains(value) {
                return Err(format!("Duplicate Resource Record: '{value}'"));
            }
            if kind == "TXT" {
                judge_text(value)?;
            }
        }
        Ok(())
    }
}

/// Values are a set, in whatever order they are stated.
fn same(known: &Set, stated: &Set) -> bool {
    let sorted = |set: &Set| {
        let mut values = set.values.clone();
        values.sort();
        values
    };
    known.ttl == stated.ttl && sorted(known) == sorted(stated)
}

/// Character-strings in quotes with a space between them, of at most 255 octets each.
fn judge_text(value: &str) -> Result<(), String> {
    let invalid = |what: &str| {
        Err(format!(
            "Invalid Resource Record: 'FATAL problem: {what} encountered with '{value}''"
        ))
    };
    let mut rest = value;
    loop {
        let Some(inner) = rest.strip_prefix('"') else {
            return invalid("InvalidCharacterString (Value should be enclosed in quotation marks)");
        };
        let Some((octets, after)) = character_string(inner) else {
            return invalid("InvalidCharacterString (Value is not properly quoted)");
        };
        if octets.len() > 255 {
            return invalid("CharacterStringTooLong (Value is too long)");
        }
        match after.strip_prefix(' ') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(()),
            None => return invalid("InvalidCharacterString (Value is not properly quoted)"),
        }
    }
}

/// The octets up to the closing quote, and what follows it.
fn character_string(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut octets = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some((octets, &text[at + 1..])),
            b'\\' => {
                let digits = text.get(at + 1..at + 4);
                match digits.map(|digits| u8::from_str_radix(digits, 8)) {
                    Some(Ok(octet)) => {
                        octets.push(octet);
                        at += 4;
                    }
                    _ => {
                        octets.push(*bytes.get(at + 1)?);
                        at += 2;
                    }
                }
            }
            byte if byte.is_ascii_graphic() || *byte == b' ' => {
                octets.push(*byte);
                at += 1;
            }
            _ => return None,
        }
    }
}

/// What the world gets for a value.
pub fn text_of(value: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = value;
    while let Some(inner) = rest.trim_start().strip_prefix('"') {
        let (string, after) = character_string(inner).expect("judged when it was put there");
        octets.extend(string);
        rest = after;
    }
    String::from_utf8(octets).expect("the tests put text there")
}

pub fn dotted(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_lowercase())
}

/// As Route 53 sorts: `com.example.www.`
pub fn reversed(name: &str) -> String {
    let labels: Vec<&str> = name.trim_end_matches('.').rsplit('.').collect();
    labels.join(".") + "."
}

/// As it is shown: what is not a letter, a digit, a hyphen, an underscore or a dot as three octal digits.
pub fn shown(name: &str) -> String {
    (name.bytes())
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("\\{byte:03o}"),
        })
        .collect()
}
