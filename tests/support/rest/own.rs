//! The host of the worked example in `providers/MANIFEST.md`.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Record, Refusal, Store, TOKEN, Vendor, absolute, answer, page, relative,
    undocumented,
};

/// Ids are numbers, names relative with `@`, values bare. A TTL is at least 60.
pub struct Own;

impl Vendor for Own {
    fn base(&self) -> &'static str {
        "/api"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if ask.header("x-auth") != Some(&format!("Token {TOKEN}")) {
            return error(403, "no-token");
        }
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("GET", ["public", "zones"]) => {
                let zones = store.zones().iter();
                let zones = zones.map(|(id, name)| json!({"number": id, "apex": name}));
                let number = ask.number("page", 1);
                let (items, pages) = page(zones.collect(), number, ask.number("per_page", 10));
                answer(200, json!({"zones": items, "more": number < pages}))
            }
            (method, ["public", "zones", id, "records", rest @ ..]) => {
                let Some(zone) = store.zone_of(id) else {
                    return error(404, "no-zone");
                };
                match (method, rest) {
                    ("GET", []) => {
                        let owner = ask.query("owner").unwrap_or("@");
                        let records = store.txt(&absolute(owner, &zone));
                        let records: Vec<Value> = records.iter().map(shown).collect();
                        answer(200, json!({"records": records}))
                    }
                    ("POST", []) => {
                        let body = &ask.body;
                        let (Some(owner), Some(text), Some(ttl)) = (
                            body["owner"].as_str(),
                            body["text"].as_str(),
                            body["ttl"].as_u64().filter(|it| *it >= 60),
                        ) else {
                            return self.refusal(Refusal::Invalid);
                        };
                        let record = store.add(&zone, &absolute(owner, &zone), text, ttl as u32);
                        answer(201, shown(&record))
                    }
                    ("DELETE", [id]) => match store.remove(&zone, id) {
                        true => answer(204, Value::Null),
                        false => error(404, "no-record"),
                    },
                    _ => undocumented(ask, store),
                }
            }
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => error(403, "not-yours"),
            Refusal::RateLimited => error(429, "slowly"),
            Refusal::Invalid => error(400, "no-record"),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.max(60)
    }
}

fn shown(record: &Record) -> Value {
    json!({
        "number": record.id, "owner": relative(&record.name, &record.zone, "@"), "type": record.kind,
        "text": record.value, "ttl": record.ttl,
    })
}

fn error(status: u16, error: &str) -> Answer {
    answer(
        status,
        json!({"error": error, "text": "see the documentation"}),
    )
}
