//! Gandi Public API: LiveDNS.

use serde_json::{Value, json};

use super::{
    Answer, Ask, Refusal, Store, Vendor, absolute, answer, page, quote, relative, undocumented,
    unquote,
};

/// RRsets that are replaced as a whole; names relative with `@`, values quoted, TTL 300 to 2592000.
pub struct Gandi;

impl Vendor for Gandi {
    fn base(&self) -> &'static str {
        "/v5/livedns"
    }

    fn answer(&self, ask: &Ask, store: &mut Store) -> Answer {
        if !ask.has_bearer() {
            return error(
                401,
                "Unauthorized",
                "The server could not verify that you authorized to access the document you requested.",
            );
        }
        let missing = error(404, "Not Found", "The resource could not be found.");
        let (method, path) = ask.route();
        if let ("GET", ["domains"]) = (method, &path[..]) {
            let zones = store.zones().iter().map(|(_, name)| {
                json!({"fqdn": name, "domain_href": format!("{}/domains/{name}", ask.endpoint), "domain_records_href": format!("{}/domains/{name}/records", ask.endpoint)})
            });
            let (items, _) = page(
                zones.collect(),
                ask.number("page", 1),
                ask.number("per_page", 100).min(1000),
            );
            return answer(200, Value::Array(items));
        }
        let ["domains", zone, "records", label, "TXT"] = path[..] else {
            return undocumented(ask, store);
        };
        let Some(zone) = store.zone(zone) else {
            return missing;
        };
        let name = absolute(label, &zone);
        let there = store.txt(&name);
        match method {
            "GET" | "DELETE" if there.is_empty() => missing,
            "GET" => {
                let values: Vec<String> = there.iter().map(|it| quote(&it.value)).collect();
                let label = relative(&name, &zone, "@");
                answer(
                    200,
                    json!({"rrset_name": label, "rrset_type": "TXT", "rrset_ttl": there[0].ttl, "rrset_values": values, "rrset_href": format!("{}/domains/{zone}/records/{label}/TXT", ask.endpoint)}),
                )
            }
            "PUT" => {
                let values = ask.body["rrset_values"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let values = values.iter().map(|it| {
                    it.as_str()
                        .map(|it| unquote(it).unwrap_or_else(|| it.to_owned()))
                });
                let values = values
                    .collect::<Option<Vec<String>>>()
                    .filter(|it| !it.is_empty());
                let ttl = ask.body["rrset_ttl"]
                    .as_u64()
                    .filter(|it| (300..=2_592_000).contains(it));
                let (Some(values), Some(ttl)) = (values, ttl) else {
                    return self.refusal(Refusal::Invalid);
                };
                store.replace(&zone, &name, &values, ttl as u32);
                answer(201, json!({"message": "DNS Record Created"}))
            }
            "DELETE" => {
                store.replace(&zone, &name, &[], 0);
                answer(204, Value::Null)
            }
            _ => undocumented(ask, store),
        }
    }

    fn refusal(&self, why: Refusal) -> Answer {
        match why {
            Refusal::Permission => error(403, "Forbidden", "Access was denied to this resource."),
            Refusal::RateLimited => error(
                429,
                "Too Many Requests",
                "You have reached the limit of requests.",
            )
            .header("retry-after", "30"),
            Refusal::Invalid => answer(
                400,
                json!({"status": "error", "code": 400, "object": "HTTPBadRequest", "cause": "Bad Request", "errors": [{"location": "body", "name": "rrset_ttl", "description": "60 is less than minimum value 300"}]}),
            ),
        }
    }

    fn ttl(&self, wanted: u32) -> u32 {
        wanted.clamp(300, 2_592_000)
    }
}

fn error(code: u16, cause: &str, message: &str) -> Answer {
    let object = format!("HTTP{}", cause.replace(' ', ""));
    answer(
        code,
        json!({"code": code, "message": message, "object": object, "cause": cause}),
    )
}
