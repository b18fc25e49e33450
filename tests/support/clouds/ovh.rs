//! OVHcloud's API 1.0: signed calls, records that count only after a refresh.

use std::collections::BTreeMap;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

use super::{Api, Fake};
use crate::support::rest::{Answer, Ask, answer};

/// The keys.
pub const APPLICATION: &str = "applicationOfTheFake";
pub const SECRET: &str = "secret-of-the-fake";
pub const CONSUMER: &str = "consumer-of-the-fake";

/// Its state.
#[derive(Default)]
pub struct Ovh {
    /// What somebody who asks sees, by zone.
    pub zones: BTreeMap<String, Vec<Record>>,
    /// What the world sees.
    pub published: BTreeMap<String, Vec<Record>>,
    /// How far its clock is ahead.
    pub ahead: i64,
    /// Calls that the consumer key may not make.
    pub denied: Vec<&'static str>,
    last: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub id: u64,
    pub label: String,
    pub kind: String,
    pub target: String,
    pub ttl: u64,
}

impl Ovh {
    /// Starts one with these zones.
    pub async fn start(zones: &[&str]) -> Fake<Self> {
        let zones = zones.iter().map(|zone| ((*zone).to_owned(), Vec::new()));
        let ovh = Self {
            zones: zones.collect(),
            ..Self::default()
        };
        Fake::start("/1.0", ovh).await
    }

    /// Puts a record there as a person does in the control panel, which publishes it.
    pub fn add(&mut self, zone: &str, label: &str, target: &str, ttl: u64) -> u64 {
        let id = self.create(zone, label, "TXT", target, ttl).id;
        self.refresh(zone);
        id
    }

    pub fn create(
        &mut self,
        zone: &str,
        label: &str,
        kind: &str,
        target: &str,
        ttl: u64,
    ) -> Record {
        self.last += 7;
        let record = Record {
            id: 5_000_000_000 + self.last,
            label: label.to_owned(),
            kind: kind.to_owned(),
            target: target.to_owned(),
            ttl,
        };
        let records = self.zones.get_mut(zone).expect("a zone of the fake");
        records.push(record.clone());
        record
    }

    pub fn remove(&mut self, zone: &str, id: u64) -> bool {
        let records = self.zones.get_mut(zone).expect("a zone of the fake");
        let before = records.len();
        records.retain(|record| record.id != id);
        records.len() < before
    }

    pub fn refresh(&mut self, zone: &str) {
        let now = self.zones[zone].clone();
        self.published.insert(zone.to_owned(), now);
    }

    /// What the world sees at a name of a zone.
    pub fn served(&self, zone: &str, label: &str) -> Vec<Record> {
        let records = self.published.get(zone).into_iter().flatten();
        let records = records.filter(|it| it.label == label && it.kind == "TXT");
        records.cloned().collect()
    }

    #[allow(clippy::disallowed_methods, reason = "it has a clock of its own")]
    fn now(&self) -> i64 {
        jiff::Timestamp::now().as_second() + self.ahead
    }

    fn judge(&self, ask: &Ask) -> Option<Answer> {
        let header = |name: &str| ask.header(name).unwrap_or_default().to_owned();
        if header("x-ovh-application") != APPLICATION {
            return Some(refusal(
                403,
                "INVALID_KEY",
                "This application key is invalid",
            ));
        }
        if header("x-ovh-consumer").is_empty() {
            return Some(refusal(403, "NOT_CREDENTIAL", "You must login first"));
        }
        if header("x-ovh-consumer") != CONSUMER {
            return Some(refusal(
                403,
                "INVALID_CREDENTIAL",
                "This credential is not valid",
            ));
        }
        let time = header("x-ovh-timestamp");
        let seconds: i64 = time.parse().unwrap_or_default();
        if (seconds - self.now()).abs() > 30 {
            return Some(refusal(400, "QUERY_TIME_OUT", "Query out of time"));
        }
        let url = &ask.url;
        let signed = format!(
            "{SECRET}+{CONSUMER}+{}+{url}+{}+{time}",
            ask.method, ask.text
        );
        let octets = digest(&SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes());
        let hex: String = octets
            .as_ref()
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect();
        if header("x-ovh-signature") != format!("$1${hex}") {
            return Some(refusal(400, "INVALID_SIGNATURE", "Invalid signature"));
        }
        let denied = self.denied.contains(&Self::call(ask));
        denied.then(|| refusal(403, "NOT_GRANTED_CALL", "This call has not been granted"))
    }

    fn in_zone(&mut self, ask: &Ask, zone: &str, rest: &[&str]) -> Answer {
        if !self.zones.contains_key(zone) {
            return class(404, "Client::NotFound", "This service does not exist");
        }
        match (ask.method.as_str(), rest) {
            ("GET", ["record"]) => {
                let kind = ask.query("fieldType");
                let label = ask.query("subDomain");
                let found = self.zones[zone].iter().filter(|it| {
                    kind.is_none_or(|kind| kind == it.kind)
                        && label.is_none_or(|label| is_like(&it.label, label))
                });
                answer(200, found.map(|it| it.id).collect())
            }
            ("POST", ["record"]) => {
                let text = |key: &str| ask.body[key].as_str().unwrap_or_default().to_owned();
                let (label, kind, target) = (text("subDomain"), text("fieldType"), text("target"));
                let mut others = self.zones[zone].iter().filter(|it| it.label == label);
                if others.any(|it| it.kind == "CNAME") {
                    let words = "There is a CNAME record on this subdomain";
                    return class(400, "Client::BadRequest", words);
                }
                let ttl = ask.body["ttl"].as_u64().unwrap_or_default();
                let record = self.create(zone, &label, &kind, &target, ttl);
                answer(200, shown(zone, &record))
            }
            ("POST", ["refresh"]) => {
                self.refresh(zone);
                answer(200, json!("null"))
            }
            (method, ["record", id]) => {
                let id = id.parse().unwrap_or_default();
                let found = self.zones[zone].iter().find(|it| it.id == id).cloned();
                match (method, found) {
                    (_, None) => {
                        let words = format!("The requested object (id = {id}) does not exist");
                        class(404, "Client::NotFound", &words)
                    }
                    ("DELETE", Some(_)) => {
                        self.remove(zone, id);
                        answer(200, json!("null"))
                    }
                    (_, Some(record)) => answer(200, shown(zone, &record)),
                }
            }
            ("GET", []) => answer(200, json!({"name": zone, "nameServers": ["dns1.ovh.test"]})),
            _ => class(404, "Client::NotFound", "Got an invalid (or empty) URL"),
        }
    }
}

impl Api for Ovh {
    fn call(ask: &Ask) -> &'static str {
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("GET", ["auth", "time"]) => "time",
            ("GET", ["domain", "zone"]) => "zones",
            ("GET", ["domain", "zone", _, "record"]) => "list",
            ("GET", ["domain", "zone", _, "record", _]) => "get",
            ("POST", ["domain", "zone", _, "record"]) => "create",
            ("DELETE", ["domain", "zone", _, "record", _]) => "delete",
            ("POST", ["domain", "zone", _, "refresh"]) => "refresh",
            _ => "undocumented",
        }
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        if Self::call(ask) == "time" {
            return answer(200, json!(self.now()));
        }
        if let Some(refused) = self.judge(ask) {
            return refused;
        }
        let (_, path) = ask.route();
        match &path[..] {
            ["domain", "zone"] => answer(200, self.zones.keys().cloned().collect()),
            ["domain", "zone", zone, rest @ ..] => self.in_zone(ask, zone, rest),
            _ => class(404, "Client::NotFound", "Got an invalid (or empty) URL"),
        }
    }
}

/// A refusal of the gate.
pub fn refusal(status: u16, code: &str, words: &str) -> Answer {
    let body =
        json!({"errorCode": code, "httpCode": format!("{status} Refused"), "message": words});
    answer(status, body)
}

/// A refusal of a service behind it.
pub fn class(status: u16, class: &str, words: &str) -> Answer {
    answer(status, json!({"class": class, "message": words}))
}

fn shown(zone: &str, record: &Record) -> Value {
    json!({
        "id": record.id, "zone": zone, "subDomain": record.label, "fieldType": record.kind, "target": record.target,
        "ttl": record.ttl,
    })
}

/// As LIKE in SQL: an underscore is any character.
fn is_like(label: &str, pattern: &str) -> bool {
    label.len() == pattern.len()
        && (label.bytes().zip(pattern.bytes())).all(|(a, b)| a == b || b == b'_')
}
