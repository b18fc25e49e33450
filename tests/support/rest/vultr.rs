//! Vultr API v2: DNS.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Record, Refusal, Store, Vendor, absolute, answer, page, quote, relative,
    undocumented, unquote,
};

/// Ids are texts, names relative and empty for the apex; TXT data must be quoted. Pages go on by a cursor.
pub struct Vultr;

impl Vendor for Vultr {
    fn base(&self) -> &'static str {
        "/v2"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if !ask.has_bearer() {
            return error(401, "Invalid API token.");
        }
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("GET", ["domains"]) => {
                let zones = store.zones().iter().map(|(_, name)| json!({"domain": name, "date_created": "2020-10-10T01:56:20+00:00", "dns_sec": "disabled"}));
                listed("domains", zones.collect(), ask)
            }
            (method, ["domains", zone, "records", rest @ ..]) => {
                let Some(zone) = store.zone(zone) else {
                    return error(404, "Invalid domain.");
                };
                match (method, rest) {
                    ("GET", []) => {
                        listed("records", store.of(&zone).iter().map(shown).collect(), ask)
                    }
                    ("POST", []) => {
                        let Some(data) = ask.body["data"].as_str().and_then(unquote) else {
                            return self.refusal(Refusal::Invalid);
                        };
                        let (Some("TXT"), Some(name), Some(ttl)) = (
                            ask.body["type"].as_str(),
                            ask.body["name"].as_str(),
                            ask.body["ttl"].as_u64().filter(|it| *it >= 120),
                        ) else {
                            return error(400, "Invalid TTL");
                        };
                        let record = store.add(&zone, &absolute(name, &zone), &data, ttl as u32);
                        answer(201, json!({"record": shown(&record)}))
                    }
                    ("DELETE", [id]) => {
                        match store.remove(&zone, id.trim_start_matches("cb676a46-")) {
                            true => answer(204, Value::Null),
                            false => error(404, "Invalid record ID."),
                        }
                    }
                    _ => undocumented(ask, store),
                }
            }
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => error(401, "Unauthorized IP address: 192.0.2.1"),
            Refusal::RateLimited => error(429, "Rate limit exceeded"),
            Refusal::Invalid => error(400, "Record data must be enclosed in quotes"),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.max(120)
    }
}

fn listed(key: &str, items: Vec<Value>, ask: &Ask) -> Answer {
    let size = ask.number("per_page", 100).min(500);
    let number = ask.query("cursor").map_or(1, |it| {
        it.trim_start_matches("bmV4dF9f")
            .parse()
            .expect("a cursor of ours")
    });
    let total = items.len();
    let (items, pages) = page(items, number, size);
    let next = if number < pages {
        format!("bmV4dF9f{}", number + 1)
    } else {
        String::new()
    };
    answer(
        200,
        json!({key: items, "meta": {"total": total, "links": {"next": next, "prev": ""}}}),
    )
}

fn shown(record: &Record) -> Value {
    let data = if record.kind == "TXT" {
        quote(&record.value)
    } else {
        record.value.clone()
    };
    json!({"id": format!("cb676a46-{}", record.id), "type": record.kind, "name": relative(&record.name, &record.zone, ""), "data": data, "priority": -1, "ttl": record.ttl})
}

fn error(status: u16, error: &str) -> Answer {
    answer(status, json!({"error": error, "status": status}))
}
