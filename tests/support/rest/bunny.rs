//! bunny.net API Reference: DNS Zone.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Record, Refusal, Store, TOKEN, Vendor, absolute, answer, page, relative,
    undocumented,
};

/// A zone is read with all of its records; types are numbers (TXT is 3), keys begin with capitals, names are relative and
/// empty for the apex, values bare. `search` finds parts of names.
pub struct Bunny;

impl Vendor for Bunny {
    fn base(&self) -> &'static str {
        ""
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if ask.header("accesskey") != Some(TOKEN) {
            return answer(
                401,
                json!({"Message": "Authorization has been denied for this request."}),
            );
        }
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("GET", ["dnszone"]) => {
                let search = ask.query("search").unwrap_or_default();
                let zones = store.zones().iter().filter(|it| it.1.contains(search));
                let zones: Vec<Value> = zones.map(|(id, name)| shown(*id, name, store)).collect();
                let (total, number) = (zones.len(), ask.number("page", 1));
                let (items, pages) =
                    page(zones, number, ask.number("perPage", 1000).clamp(5, 1000));
                answer(
                    200,
                    json!({"CurrentPage": number, "TotalItems": total, "HasMoreItems": number < pages, "Items": items}),
                )
            }
            (method, ["dnszone", id, rest @ ..]) => {
                let Some(zone) = store.zone_of(id) else {
                    return error(
                        404,
                        "dnszone.not_found",
                        "Id",
                        "The requested DNS zone was not found",
                    );
                };
                match (method, rest) {
                    ("GET", []) => {
                        answer(200, shown(id.parse().expect("an id of ours"), &zone, store))
                    }
                    ("PUT", ["records"]) => {
                        let (Some(3), Some(name), Some(value), Some(ttl)) = (
                            ask.body["Type"].as_u64(),
                            ask.body["Name"].as_str(),
                            ask.body["Value"].as_str(),
                            ask.body["Ttl"].as_u64(),
                        ) else {
                            return self.refusal(Refusal::Invalid);
                        };
                        let record = store.add(&zone, &absolute(name, &zone), value, ttl as u32);
                        answer(201, shown_record(&record))
                    }
                    ("DELETE", ["records", record]) => match store.remove(&zone, record) {
                        true => answer(204, Value::Null),
                        false => error(
                            404,
                            "dnszone.record.not_found",
                            "Id",
                            "The requested DNS record was not found",
                        ),
                    },
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
                json!({"Message": "The API key is not allowed to do this."}),
            ),
            Refusal::RateLimited => answer(429, json!({"Message": "Too many requests."})),
            Refusal::Invalid => error(
                400,
                "validation_error",
                "Value",
                "The record value is invalid",
            ),
        }
    }
}

fn shown(id: u64, name: &str, store: &Store) -> Value {
    let records: Vec<Value> = store.of(name).iter().map(shown_record).collect();
    json!({"Id": id, "Domain": name, "Records": records, "Nameserver1": "kiki.bunny.net", "Nameserver2": "coco.bunny.net", "SoaEmail": "hostmaster@bunny.net", "LoggingEnabled": false})
}

fn shown_record(record: &Record) -> Value {
    let kind = if record.kind == "TXT" { 3 } else { 0 };
    json!({"Id": record.id, "Type": kind, "Ttl": record.ttl, "Value": record.value, "Name": relative(&record.name, &record.zone, ""), "Weight": 100, "Priority": 0, "Port": 0, "Flags": 0, "Tag": "", "Accelerated": false, "MonitorType": 0, "Disabled": false, "Comment": ""})
}

fn error(status: u16, key: &str, field: &str, message: &str) -> Answer {
    answer(
        status,
        json!({"ErrorKey": key, "Field": field, "Message": message}),
    )
}
