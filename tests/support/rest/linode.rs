//! Linode API: Domains, Domain records.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Record, Refusal, Store, Vendor, absolute, answer, page, relative, undocumented,
};

/// The TTLs that are kept; any other becomes the nearest.
const TTLS: [u32; 12] = [
    300, 3600, 7200, 14400, 28800, 57600, 86400, 172800, 345600, 604800, 1209600, 2419200,
];

/// Ids are numbers, names relative and empty for the apex, values bare; pages of 25 to 500.
pub struct Linode;

impl Vendor for Linode {
    fn base(&self) -> &'static str {
        "/v4"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if !ask.has_bearer() {
            return error(401, "Invalid Token");
        }
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("GET", ["domains"]) => {
                let zones = store.zones().iter().map(|(id, name)| {
                    json!({"id": id, "domain": name, "type": "master", "status": "active", "soa_email": "admin@example.test", "ttl_sec": 0, "tags": []})
                });
                listed(zones.collect(), ask)
            }
            (method, ["domains", id, "records", rest @ ..]) => {
                let Some(zone) = store.zone_of(id) else {
                    return error(404, "Not found");
                };
                match (method, rest) {
                    ("GET", []) => listed(store.of(&zone).iter().map(shown).collect(), ask),
                    ("POST", []) => {
                        let (Some("TXT"), Some(name), Some(target), Some(ttl)) = (
                            ask.body["type"].as_str(),
                            ask.body["name"].as_str(),
                            ask.body["target"].as_str(),
                            ask.body["ttl_sec"].as_u64(),
                        ) else {
                            return self.refusal(Refusal::Invalid);
                        };
                        if name.len() > 100 {
                            return self.refusal(Refusal::Invalid);
                        }
                        let record =
                            store.add(&zone, &absolute(name, &zone), target, self.ttl(ttl as u32));
                        answer(200, shown(&record))
                    }
                    ("DELETE", [id]) => match store.remove(&zone, id) {
                        true => answer(200, json!({})),
                        false => error(404, "Not found"),
                    },
                    _ => undocumented(ask, store),
                }
            }
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => error(
                401,
                "Your OAuth token is not authorized to use this endpoint.",
            ),
            Refusal::RateLimited => error(429, "Too many requests").header("retry-after", "60"),
            Refusal::Invalid => answer(
                400,
                json!({"errors": [{"field": "name", "reason": "Invalid hostname"}]}),
            ),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        TTLS.into_iter()
            .min_by_key(|it| it.abs_diff(wanted))
            .expect("there are some")
    }
}

fn listed(items: Vec<Value>, ask: &Ask) -> Answer {
    let size = ask.number("page_size", 100);
    if !(25..=500).contains(&size) {
        return error(400, "page_size must be between 25 and 500");
    }
    let (total, number) = (items.len(), ask.number("page", 1));
    let (items, pages) = page(items, number, size);
    answer(
        200,
        json!({"data": items, "page": number, "pages": pages, "results": total}),
    )
}

fn shown(record: &Record) -> Value {
    json!({
        "id": record.id, "type": record.kind, "name": relative(&record.name, &record.zone, ""), "target": record.value,
        "priority": 0, "weight": 0, "port": 0, "service": null, "protocol": null, "ttl_sec": record.ttl, "tag": null,
    })
}

fn error(status: u16, reason: &str) -> Answer {
    answer(status, json!({"errors": [{"reason": reason}]}))
}
