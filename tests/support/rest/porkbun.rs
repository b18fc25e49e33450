//! Porkbun API v3 Documentation: Domain List All, DNS Functionality.

use serde_json::{Value, json};

use super::{Answer, Ask, Record, Refusal, Store, TOKEN, Vendor, absolute, answer, undocumented};

/// POST only, with both keys in the body; ids and TTLs are texts, names in full when read and relative when written,
/// values bare. A TTL is at least 600.
pub struct Porkbun;

impl Vendor for Porkbun {
    fn base(&self) -> &'static str {
        "/api/json/v3"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if ask.body["apikey"] != TOKEN || ask.body["secretapikey"] != TOKEN {
            return error("Invalid API key. (002)");
        }
        let (method, path) = ask.route();
        if let ("POST", ["domain", "listAll"]) = (method, &path[..]) {
            let start = ask.body["start"]
                .as_str()
                .map_or(0, |it| it.parse().unwrap_or(0));
            let zones = store.zones().iter().skip(start).take(1000);
            let zones: Vec<Value> = zones.map(|(_, name)| json!({"domain": name, "status": "ACTIVE", "tld": "test", "securityLock": "1", "autoRenew": 0, "notLocal": 0})).collect();
            return answer(200, json!({"status": "SUCCESS", "domains": zones}));
        }
        let ("POST", ["dns", verb, zone, rest @ ..]) = (method, &path[..]) else {
            return undocumented(ask, store);
        };
        let Some(zone) = store.zone(zone) else {
            return error("Invalid domain.");
        };
        match (*verb, rest) {
            ("retrieve", []) => {
                let records: Vec<Value> = store.of(&zone).iter().map(shown).collect();
                answer(
                    200,
                    json!({"status": "SUCCESS", "cloudflare": "enabled", "records": records}),
                )
            }
            ("create", []) => {
                let (Some("TXT"), Some(content), Some(ttl)) = (
                    ask.body["type"].as_str(),
                    ask.body["content"].as_str(),
                    ask.body["ttl"].as_str().and_then(|it| it.parse().ok()),
                ) else {
                    return self.refusal(Refusal::Invalid);
                };
                if ttl < 600 {
                    return self.refusal(Refusal::Invalid);
                }
                let label = ask.body["name"].as_str().unwrap_or_default();
                let record = store.add(&zone, &absolute(label, &zone), content, ttl);
                answer(
                    200,
                    json!({"status": "SUCCESS", "id": record.id.to_string()}),
                )
            }
            ("delete", [id]) => match store.remove(&zone, id) {
                true => answer(200, json!({"status": "SUCCESS"})),
                false => error("Invalid record ID."),
            },
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => error("Domain is not opted in to API access."),
            Refusal::RateLimited => answer(
                429,
                json!({"status": "ERROR", "message": "Rate limit exceeded."}),
            )
            .header("retry-after", "10"),
            Refusal::Invalid => error("Create error: We were unable to create the DNS record."),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.max(600)
    }
}

fn shown(record: &Record) -> Value {
    json!({"id": record.id.to_string(), "name": record.name, "type": record.kind, "content": record.value, "ttl": record.ttl.to_string(), "prio": "0", "notes": ""})
}

fn error(message: &str) -> Answer {
    answer(400, json!({"status": "ERROR", "message": message}))
}
