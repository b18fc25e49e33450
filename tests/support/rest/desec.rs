//! deSEC DNS API: Retrieving and Creating DNS Records, Bulk Operations, Rate Limits.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Refusal, Store, TOKEN, Vendor, absolute, answer, page, quote, relative,
    undocumented, unquote,
};

/// RRsets that are replaced, many in one request, all or none; names relative and empty for the apex, values quoted, TTL
/// at least the domain's minimum.
pub struct Desec;

const MINIMUM_TTL: u64 = 3600;

impl Vendor for Desec {
    fn base(&self) -> &'static str {
        "/api/v1"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if ask.header("authorization") != Some(&format!("Token {TOKEN}")) {
            return answer(401, json!({"detail": "Invalid token."}));
        }
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("GET", ["domains", ""]) => {
                let owns = |zone: &str| {
                    ask.query("owns_qname")
                        .is_none_or(|name| name == zone || name.ends_with(&format!(".{zone}")))
                };
                let zones = store.zones().iter().filter(|it| owns(&it.1));
                // The responsible one only.
                let zones = zones.max_by_key(|it| it.1.len()).into_iter();
                let zones = zones.map(|(_, name)| json!({"name": name, "minimum_ttl": MINIMUM_TTL, "created": "2018-09-18T16:36:16.510368Z", "published": "2018-09-18T17:21:38.348112Z", "touched": "2018-09-18T17:21:38.348112Z"}));
                answer(200, Value::Array(zones.collect()))
            }
            (method, ["domains", zone, "rrsets", ""]) => {
                let Some(zone) = store.zone(zone) else {
                    return answer(404, json!({"detail": "Not found."}));
                };
                match method {
                    "GET" => {
                        let names = store.txt_names(&zone).into_iter();
                        let names = names.filter(|it| {
                            ask.query("subname")
                                .is_none_or(|subname| relative(it, &zone, "") == subname)
                        });
                        let names =
                            names.filter(|_| ask.query("type").is_none_or(|it| it == "TXT"));
                        let sets: Vec<Value> =
                            names.map(|name| shown(&name, &zone, store)).collect();
                        let Some(cursor) = ask.query("cursor") else {
                            return match sets.len() {
                                0..=500 => answer(200, Value::Array(sets)),
                                _ => answer(
                                    400,
                                    json!({"detail": "Pagination required. You can query up to 500 items at a time."}),
                                ),
                            };
                        };
                        let number = cursor.trim_start_matches(":c").parse().unwrap_or(1);
                        let (items, pages) = page(sets, number, 500);
                        let whole = answer(200, Value::Array(items));
                        if number == pages {
                            return whole;
                        }
                        let here = format!("{}/domains/{zone}/rrsets/", ask.endpoint);
                        whole.header("link", format!("<{here}?cursor=>; rel=\"first\", <{here}?type=TXT&cursor=%3Ac{}>; rel=\"next\"", number + 1))
                    }
                    "PATCH" => bulk(&zone, ask, store),
                    _ => undocumented(ask, store),
                }
            }
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => {
                answer(403, json!({"detail": "Insufficient token permissions."}))
            }
            Refusal::RateLimited => answer(
                429,
                json!({"detail": "Request was throttled. Expected available in 5 seconds."}),
            )
            .header("retry-after", "5"),
            Refusal::Invalid => answer(
                400,
                json!([{"ttl": ["Ensure this value is greater than or equal to 3600."]}]),
            ),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.max(MINIMUM_TTL as u32)
    }
}

fn bulk(zone: &str, ask: &Ask, store: &mut Store) -> Answer {
    let mut writes = Vec::new();
    let mut errors = Vec::new();
    for set in ask.body.as_array().cloned().unwrap_or_default() {
        let mut error = json!({});
        let values = set["records"].as_array().cloned().unwrap_or_default();
        let values = values
            .iter()
            .map(|it| unquote(it.as_str()?))
            .collect::<Option<Vec<String>>>();
        let ttl = set["ttl"].as_u64().unwrap_or(0);
        match (set["subname"].as_str(), set["type"].as_str(), values) {
            _ if ttl < MINIMUM_TTL => {
                error = json!({"ttl": ["Ensure this value is greater than or equal to 3600."]})
            }
            (Some(subname), Some("TXT"), Some(values)) => {
                writes.push((absolute(subname, zone), values, ttl))
            }
            _ => error = json!({"non_field_errors": ["Record content for type TXT malformed."]}),
        }
        errors.push(error);
    }
    if errors.iter().any(|it| *it != json!({})) {
        return answer(400, Value::Array(errors));
    }
    let mut sets = Vec::new();
    for (name, values, ttl) in writes {
        store.replace(zone, &name, &values, ttl as u32);
        if !values.is_empty() {
            sets.push(shown(&name, zone, store));
        }
    }
    answer(200, Value::Array(sets))
}

fn shown(name: &str, zone: &str, store: &Store) -> Value {
    let records = store.txt(name);
    let values: Vec<String> = records.iter().map(|it| quote(&it.value)).collect();
    json!({"created": "2018-09-18T16:36:16.510368Z", "domain": zone, "subname": relative(name, zone, ""), "name": format!("{name}."), "type": "TXT", "records": values, "ttl": records[0].ttl, "touched": "2018-09-18T17:21:38.348112Z"})
}
