//! Hetzner Cloud API: Zones, Zone RRSets, Zone RRSet Actions, Actions.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Refusal, Store, Vendor, absolute, answer, page, quote, relative, undocumented,
    unquote,
};

/// RRSets of quoted values, `@` for the apex; changes are actions, accepted first and done later. A value that joins an
/// RRSet has its TTL.
pub struct Hetzner;

impl Vendor for Hetzner {
    fn base(&self) -> &'static str {
        "/v1"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if !ask.has_bearer() {
            return error(401, "unauthorized", "unable to authenticate");
        }
        let (method, path) = ask.route();
        let size = ask.number("per_page", 25).min(50);
        match (method, &path[..]) {
            ("GET", ["zones"]) => {
                let name = ask.query("name");
                let zones = store
                    .zones()
                    .iter()
                    .filter(|it| name.is_none_or(|name| it.1 == name));
                let zones = zones.map(|(id, name)| {
                    json!({
                        "id": id, "name": name, "mode": "primary", "ttl": 10800, "status": "ok", "labels": {},
                        "authoritative_nameservers": {"assigned": ["hydrogen.ns.hetzner.com.", "oxygen.ns.hetzner.com."]},
                    })
                });
                listed("zones", zones.collect(), ask.number("page", 1), size)
            }
            ("GET", ["actions", id]) => {
                let Some((id, polls)) = store.polls.iter_mut().find(|it| it.0.to_string() == *id)
                else {
                    return error(404, "not_found", "action not found");
                };
                *polls += 1;
                let status = if *polls > 1 { "success" } else { "running" };
                answer(200, json!({"action": action(*id, status)}))
            }
            (method, ["zones", zone, rest @ ..]) => {
                let Some(zone) = store.zone_of(zone).or_else(|| store.zone(zone)) else {
                    return error(
                        404,
                        "not_found",
                        &format!("zone with ID '{zone}' not found"),
                    );
                };
                self.zone(method, rest, &zone, ask, store)
            }
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => error(
                403,
                "token_readonly",
                "token is only allowed to perform GET requests",
            ),
            Refusal::RateLimited => error(
                429,
                "rate_limit_exceeded",
                "limit of 3600 requests per hour reached",
            ),
            Refusal::Invalid => error(422, "invalid_input", "invalid input in field 'records'"),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.max(60)
    }
}

impl Hetzner {
    fn zone(
        &self,
        method: &str,
        rest: &[&str],
        zone: &str,
        ask: &Ask,
        store: &mut Store,
    ) -> Answer {
        match (method, rest) {
            ("GET", ["rrsets"]) => {
                let (name, kind) = (ask.query("name"), ask.query("type"));
                let names = store.txt_names(zone).into_iter();
                let names =
                    names.filter(|it| name.is_none_or(|name| relative(it, zone, "@") == name));
                let sets = names.filter(|_| kind.is_none_or(|kind| kind == "TXT"));
                let sets = sets.map(|name| {
                    let records = store.txt(&name);
                    let label = relative(&name, zone, "@");
                    let values: Vec<Value> = records.iter().map(|it| json!({"value": quote(&it.value), "comment": ""})).collect();
                    json!({"id": format!("{label}/TXT"), "name": label, "type": "TXT", "ttl": records[0].ttl, "labels": {}, "protection": {"change": false}, "records": values, "zone": 42})
                });
                let sets = sets.collect();
                listed(
                    "rrsets",
                    sets,
                    ask.number("page", 1),
                    ask.number("per_page", 25).min(50),
                )
            }
            (
                "POST",
                [
                    "rrsets",
                    label,
                    "TXT",
                    "actions",
                    verb @ ("add_records" | "remove_records"),
                ],
            ) => {
                let name = absolute(label, zone);
                let records = ask.body["records"].as_array().cloned().unwrap_or_default();
                let values = records.iter().map(|it| unquote(it["value"].as_str()?));
                let Some(values) = values
                    .collect::<Option<Vec<String>>>()
                    .filter(|it| !it.is_empty())
                else {
                    return error(422, "invalid_input", "invalid input in field 'records'");
                };
                let there = store.txt(&name);
                if *verb == "remove_records" {
                    if there.is_empty() {
                        return error(404, "not_found", "rrset not found");
                    }
                    for record in there.iter().filter(|it| values.contains(&it.value)) {
                        store.remove(zone, &record.id.to_string());
                    }
                } else {
                    let ttl = ask.body["ttl"].as_u64().map_or(10800, |it| it as u32);
                    if ttl < 60 || there.first().is_some_and(|it| it.ttl != ttl) {
                        return error(422, "invalid_input", "invalid input in field 'ttl'");
                    }
                    if there.iter().any(|it| values.contains(&it.value)) {
                        return error(409, "uniqueness_error", "record already exists");
                    }
                    for value in values {
                        store.add(zone, &name, &value, ttl);
                    }
                }
                let id = store.next_id();
                store.polls.push((id, 0));
                answer(201, json!({"action": action(id, "running")}))
            }
            _ => undocumented(ask, store),
        }
    }
}

fn action(id: u64, status: &str) -> Value {
    json!({"id": id, "command": "add_rrset_records", "status": status, "progress": 50, "started": "2016-01-30T23:55:00+00:00", "finished": null, "resources": [{"id": 42, "type": "zone"}], "error": null})
}

fn listed(key: &str, items: Vec<Value>, number: usize, size: usize) -> Answer {
    let total = items.len();
    let (items, pages) = page(items, number, size);
    let next = (number < pages).then_some(number + 1);
    let pagination = json!({"page": number, "per_page": size, "previous_page": null, "next_page": next, "last_page": pages, "total_entries": total});
    answer(200, json!({key: items, "meta": {"pagination": pagination}}))
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    answer(
        status,
        json!({"error": {"code": code, "message": message, "details": null}}),
    )
}
