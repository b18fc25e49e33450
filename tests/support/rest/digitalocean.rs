//! DigitalOcean API Reference: Domains, Domain Records.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Record, Refusal, Store, Vendor, absolute, answer, page, relative, undocumented,
};

/// Ids are numbers, names relative with `@`, values bare; the filter `name` is in full. A TTL is at least 30.
pub struct DigitalOcean;

impl Vendor for DigitalOcean {
    fn base(&self) -> &'static str {
        "/v2"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if !ask.has_bearer() {
            return error(401, "unauthorized", "Unable to authenticate you");
        }
        let missing = error(
            404,
            "not_found",
            "The resource you were accessing could not be found.",
        );
        let (method, path) = ask.route();
        let (["domains", zone], rest) = path.split_at(path.len().min(2)) else {
            return undocumented(ask, store);
        };
        let Some(zone) = store.zone(zone) else {
            return missing;
        };
        match (method, rest) {
            ("GET", []) => answer(
                200,
                json!({"domain": {"name": zone, "ttl": 1800, "zone_file": "$ORIGIN ..."}}),
            ),
            ("GET", ["records"]) => {
                let kind = ask.query("type");
                let name = ask.query("name");
                let records = store.of(&zone).into_iter();
                let records = records.filter(|it| {
                    kind.is_none_or(|kind| it.kind == kind)
                        && name.is_none_or(|name| it.name == name)
                });
                let all: Vec<Value> = records.map(|it| shown(&it)).collect();
                let total = all.len();
                let (number, size) = (ask.number("page", 1), ask.number("per_page", 20).min(200));
                let (items, pages) = page(all, number, size);
                let links = if number < pages {
                    let next = format!(
                        "{}/domains/{zone}/records?page={}&per_page={size}",
                        ask.endpoint,
                        number + 1
                    );
                    json!({"pages": {"next": next, "last": next}})
                } else {
                    json!({})
                };
                answer(
                    200,
                    json!({"domain_records": items, "links": links, "meta": {"total": total}}),
                )
            }
            ("POST", ["records"]) => {
                let (Some("TXT"), Some(name), Some(data), Some(ttl)) = (
                    ask.body["type"].as_str(),
                    ask.body["name"].as_str(),
                    ask.body["data"].as_str(),
                    ask.body["ttl"].as_u64(),
                ) else {
                    return error(422, "unprocessable_entity", "Data can't be blank");
                };
                if ttl < 30 {
                    return error(
                        422,
                        "unprocessable_entity",
                        "Ttl must be greater than or equal to 30",
                    );
                }
                let record = store.add(&zone, &absolute(name, &zone), data, ttl as u32);
                answer(201, json!({"domain_record": shown(&record)}))
            }
            ("DELETE", ["records", id]) => match store.remove(&zone, id) {
                true => answer(204, Value::Null),
                false => missing,
            },
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => error(
                403,
                "forbidden",
                "You do not have access for the attempted action.",
            ),
            Refusal::RateLimited => error(429, "too_many_requests", "API Rate limit exceeded.")
                .header("retry-after", "46"),
            Refusal::Invalid => error(
                422,
                "unprocessable_entity",
                "CNAME records cannot share a name with other records",
            ),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.max(30)
    }
}

fn shown(record: &Record) -> Value {
    json!({
        "id": record.id, "type": record.kind, "name": relative(&record.name, &record.zone, "@"), "data": record.value,
        "priority": null, "port": null, "ttl": record.ttl, "weight": null, "flags": null, "tag": null,
    })
}

fn error(status: u16, id: &str, message: &str) -> Answer {
    answer(status, json!({"id": id, "message": message}))
}
