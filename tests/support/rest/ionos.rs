//! IONOS Developer: DNS API v1.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Record, Refusal, Store, TOKEN, Vendor, answer, quote, undocumented, unquote,
};

/// Ids are texts, names in full, values quoted; records are made by lists of them, errors come in lists. TTL at least 60.
pub struct Ionos;

/// What stands before the numbers in its ids.
const ID: &str = "22af3414-abbe-9e11-5df5-";

impl Vendor for Ionos {
    fn base(&self) -> &'static str {
        "/dns/v1"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if ask.header("x-api-key") != Some(TOKEN) {
            return error(
                401,
                "UNAUTHORIZED",
                "The customer is not authorized to do this operation.",
            );
        }
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("GET", ["zones"]) => {
                let zones = store.zones().iter().map(
                    |(id, name)| json!({"name": name, "id": format!("{ID}{id}"), "type": "NATIVE"}),
                );
                answer(200, Value::Array(zones.collect()))
            }
            (method, ["zones", id, rest @ ..]) => {
                let Some(zone) = store.zone_of(id.trim_start_matches(ID)) else {
                    return error(404, "ZONE_NOT_FOUND", "Zone does not exist.");
                };
                match (method, rest) {
                    ("GET", []) => {
                        let (name, kind) = (ask.query("recordName"), ask.query("recordType"));
                        let records = store.of(&zone).into_iter();
                        let records = records.filter(|it| {
                            name.is_none_or(|name| it.name == name)
                                && kind.is_none_or(|kind| it.kind == kind)
                        });
                        let records: Vec<Value> = records.map(|it| shown(&it)).collect();
                        answer(
                            200,
                            json!({"id": id, "name": zone, "type": "NATIVE", "records": records}),
                        )
                    }
                    ("POST", ["records"]) => {
                        let mut made = Vec::new();
                        for record in ask.body.as_array().cloned().unwrap_or_default() {
                            let (Some("TXT"), Some(name), Some(content), Some(ttl)) = (
                                record["type"].as_str(),
                                record["name"].as_str(),
                                record["content"].as_str(),
                                record["ttl"].as_u64().filter(|it| *it >= 60),
                            ) else {
                                return self.refusal(Refusal::Invalid);
                            };
                            if name != zone && !name.ends_with(&format!(".{zone}")) {
                                return self.refusal(Refusal::Invalid);
                            }
                            let value = unquote(content).unwrap_or_else(|| content.to_owned());
                            made.push(shown(&store.add(&zone, name, &value, ttl as u32)));
                        }
                        answer(201, Value::Array(made))
                    }
                    ("DELETE", ["records", record]) => {
                        match store.remove(&zone, record.trim_start_matches(ID)) {
                            true => answer(200, Value::Null),
                            false => error(404, "RECORD_NOT_FOUND", "Record does not exist."),
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
            Refusal::Permission => error(403, "FORBIDDEN", "The API key may not do this."),
            Refusal::RateLimited => error(429, "RATE_LIMIT_EXCEEDED", "Too many requests."),
            Refusal::Invalid => error(400, "INVALID_RECORD", "Record is invalid."),
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
    json!({"id": format!("{ID}{}", record.id), "name": record.name, "rootName": record.zone, "type": record.kind, "content": content, "changeDate": "2019-12-09T13:04:25.772Z", "ttl": record.ttl, "prio": 0, "disabled": false})
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    answer(status, json!([{"code": code, "message": message}]))
}
