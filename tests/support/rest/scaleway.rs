//! Scaleway: Domains and DNS API, Zones and Records.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Record, Refusal, Store, TOKEN, Vendor, absolute, answer, page, quote, relative,
    undocumented, unquote,
};

/// A zone's name is in two parts; records are changed by lists of changes, all or none. Ids are texts, names relative and
/// empty for the apex, data quoted. A zone that is not there is forbidden.
pub struct Scaleway;

impl Vendor for Scaleway {
    fn base(&self) -> &'static str {
        "/domain/v2beta1"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if ask.header("x-auth-token") != Some(TOKEN) {
            return answer(
                401,
                json!({"type": "denied_authentication", "method": "api_key", "reason": "not_found", "message": "authentication is denied"}),
            );
        }
        let (method, path) = ask.route();
        let size = ask.number("page_size", 20).min(100);
        match (method, &path[..]) {
            ("GET", ["dns-zones"]) => {
                let zones = store
                    .zones()
                    .iter()
                    .filter(|it| ask.query("dns_zone").is_none_or(|zone| it.1 == zone));
                let zones: Vec<Value> = zones.map(|(_, name)| {
                    let (subdomain, domain) = match name.split('.').count() {
                        0..=2 => ("", name.as_str()),
                        _ => name.split_once('.').expect("it has a dot"),
                    };
                    json!({"domain": domain, "subdomain": subdomain, "ns": ["ns0.dom.scw.cloud", "ns1.dom.scw.cloud"], "ns_default": ["ns0.dom.scw.cloud", "ns1.dom.scw.cloud"], "ns_master": [], "status": "active", "message": null, "project_id": "p"})
                }).collect();
                let total = zones.len();
                let (items, _) = page(zones, ask.number("page", 1), size);
                answer(200, json!({"total_count": total, "dns_zones": items}))
            }
            (method, ["dns-zones", zone, "records"]) => {
                let Some(zone) = store.zone(zone) else {
                    return answer(403, json!({"message": "domain not found"}));
                };
                match method {
                    "GET" => {
                        let (name, kind) = (ask.query("name"), ask.query("type"));
                        let records = store.of(&zone).into_iter();
                        let records = records.filter(|it| {
                            name.is_none_or(|name| relative(&it.name, &zone, "") == name)
                                && kind.is_none_or(|kind| it.kind == kind)
                        });
                        let records: Vec<Value> = records.map(|it| shown(&it)).collect();
                        let total = records.len();
                        let (items, _) = page(records, ask.number("page", 1), size);
                        answer(200, json!({"total_count": total, "records": items}))
                    }
                    "PATCH" => self.change(&zone, ask, store),
                    _ => undocumented(ask, store),
                }
            }
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => answer(
                403,
                json!({"type": "permissions_denied", "details": [{"resource": "dns_zone", "action": "write"}], "message": "insufficient permissions"}),
            ),
            Refusal::RateLimited => answer(
                429,
                json!({"type": "too_many_requests", "message": "too many requests"}),
            ),
            Refusal::Invalid => answer(
                400,
                json!({"type": "invalid_arguments", "details": [{"argument_name": "data", "reason": "constraint"}], "message": "invalid argument(s)"}),
            ),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.max(60)
    }
}

impl Scaleway {
    fn change(&self, zone: &str, ask: &Ask, store: &mut Store) -> Answer {
        assert_eq!(
            ask.body["disallow_new_zone_creation"], true,
            "a typing error must not make a zone"
        );
        let changes = ask.body["changes"].as_array().cloned().unwrap_or_default();
        let mut adds = Vec::new();
        let mut ids = Vec::new();
        for change in &changes {
            if let Some(id) = change["delete"]["id"].as_str() {
                ids.push(id.trim_start_matches("f0f1-").to_owned());
                continue;
            }
            let records = change["add"]["records"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for record in records {
                let (Some("TXT"), Some(name), Some(data), Some(ttl)) = (
                    record["type"].as_str(),
                    record["name"].as_str(),
                    record["data"].as_str().and_then(unquote),
                    record["ttl"].as_u64().filter(|it| *it >= 60),
                ) else {
                    return self.refusal(Refusal::Invalid);
                };
                adds.push((absolute(name, zone), data, ttl as u32));
            }
        }
        if ids
            .iter()
            .any(|id| !store.of(zone).iter().any(|it| it.id.to_string() == *id))
        {
            return answer(
                404,
                json!({"type": "not_found", "resource": "record", "message": "resource is not found"}),
            );
        }
        for id in &ids {
            store.remove(zone, id);
        }
        for (name, value, ttl) in adds {
            store.add(zone, &name, &value, ttl);
        }
        answer(200, json!({"records": []}))
    }
}

fn shown(record: &Record) -> Value {
    let data = if record.kind == "TXT" {
        quote(&record.value)
    } else {
        record.value.clone()
    };
    json!({"id": format!("f0f1-{}", record.id), "name": relative(&record.name, &record.zone, ""), "type": record.kind, "data": data, "ttl": record.ttl, "priority": 0, "comment": null})
}
