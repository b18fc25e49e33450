//! DNSimple API v2: Zones, Zone Records.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Record, Refusal, Store, Vendor, absolute, answer, page, quote, relative,
    undocumented, unquote,
};

/// The account is in the path; ids are numbers, names relative and empty for the apex. TXT is taken bare or quoted and
/// given back quoted.
pub struct Dnsimple;

impl Vendor for Dnsimple {
    fn base(&self) -> &'static str {
        "/v2"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if !ask.has_bearer() {
            return error(401, "Authentication failed");
        }
        let (method, path) = ask.route();
        let ["1010", "zones", zone, rest @ ..] = &path[..] else {
            return undocumented(ask, store);
        };
        let Some(zone) = store.zone(zone) else {
            return error(404, &format!("Zone `{zone}` not found"));
        };
        match (method, rest) {
            ("GET", []) => answer(
                200,
                json!({"data": {"id": 1, "account_id": 1010, "name": zone, "reverse": false, "secondary": false, "active": true}}),
            ),
            ("GET", ["records"]) => {
                let (name, kind) = (ask.query("name"), ask.query("type"));
                let records = store.of(&zone).into_iter();
                let records = records.filter(|it| {
                    name.is_none_or(|name| relative(&it.name, &zone, "") == name)
                        && kind.is_none_or(|kind| it.kind == kind)
                });
                let all: Vec<Value> = records.map(|it| shown(&it)).collect();
                let (total, number, size) = (
                    all.len(),
                    ask.number("page", 1),
                    ask.number("per_page", 30).min(100),
                );
                let (items, pages) = page(all, number, size);
                answer(
                    200,
                    json!({"data": items, "pagination": {"current_page": number, "per_page": size, "total_entries": total, "total_pages": pages}}),
                )
            }
            ("POST", ["records"]) => {
                let (Some("TXT"), Some(name), Some(content), Some(ttl)) = (
                    ask.body["type"].as_str(),
                    ask.body["name"].as_str(),
                    ask.body["content"].as_str(),
                    ask.body["ttl"].as_u64().filter(|it| *it >= 60),
                ) else {
                    return self.refusal(Refusal::Invalid);
                };
                let value = unquote(content).unwrap_or_else(|| content.to_owned());
                let record = store.add(&zone, &absolute(name, &zone), &value, ttl as u32);
                answer(201, json!({"data": shown(&record)}))
            }
            ("DELETE", ["records", id]) => match store.remove(&zone, id) {
                true => answer(204, Value::Null),
                false => error(404, &format!("Record `{id}` not found")),
            },
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => error(403, "Permission Denied. Required Scope: zones:*:write"),
            Refusal::RateLimited => error(429, "quota exceeded"),
            Refusal::Invalid => answer(
                400,
                json!({"message": "Validation failed", "errors": {"content": ["can't be blank"]}}),
            ),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.max(60)
    }
}

fn shown(record: &Record) -> Value {
    let content = if record.kind == "TXT" {
        quote(&record.value)
    } else {
        record.value.clone()
    };
    json!({"id": record.id, "zone_id": record.zone, "parent_id": null, "name": relative(&record.name, &record.zone, ""), "content": content, "ttl": record.ttl, "priority": null, "type": record.kind, "regions": ["global"], "system_record": false})
}

fn error(status: u16, message: &str) -> Answer {
    answer(status, json!({"message": message}))
}
