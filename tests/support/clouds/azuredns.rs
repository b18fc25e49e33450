//! Azure Resource Manager as far as Azure DNS needs it, Microsoft Entra's tokens, and the metadata server of a machine.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Api, Fake};
use crate::support::rest::{Answer, Ask, answer};

pub const SUBSCRIPTION: &str = "11111111-2222-3333-4444-555555555555";
pub const TENANT: &str = "example.onmicrosoft.test";
pub const CLIENT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
pub const SECRET: &str = "secret-of-the-application";
/// The token of another issuer that Entra trusts.
pub const FEDERATED: &str = "token-of-the-cluster";
/// What its tokens begin with; then comes a number.
const TOKEN: &str = "token-of-the-fake-";

/// Its state.
#[derive(Default)]
pub struct Azure {
    pub zones: Vec<Zone>,
    /// Things on a page, at most.
    pub page: usize,
    /// How many tokens it gave.
    pub tokens: usize,
    /// How many of them are not good any more.
    pub revoked: usize,
    /// How many changes were refused since a set was not what it was taken for.
    pub overtaken: usize,
    last: u64,
}

/// A zone.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    pub group: String,
    pub apex: String,
    pub private: bool,
    /// TXT sets by relative name.
    pub sets: BTreeMap<String, Set>,
    /// Names with a CNAME.
    pub aliases: Vec<String>,
}

/// A TXT set.
#[derive(Clone, Debug, Default)]
pub struct Set {
    pub ttl: u64,
    pub records: Vec<Value>,
    pub metadata: Value,
    pub etag: String,
}

impl Zone {
    pub fn new(group: &str, apex: &str) -> Self {
        Self {
            group: group.to_owned(),
            apex: apex.to_owned(),
            ..Self::default()
        }
    }

    pub fn private(self) -> Self {
        Self {
            private: true,
            ..self
        }
    }

    pub fn id(&self) -> String {
        let (group, apex) = (&self.group, &self.apex);
        format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Network/dnszones/{apex}"
        )
    }

    /// All sets, as `name ttl values metadata`.
    pub fn shown(&self) -> Vec<String> {
        let sets = self.sets.iter();
        sets.map(|(name, set)| {
            let values: Vec<String> = set
                .records
                .iter()
                .map(|it| it["value"].to_string())
                .collect();
            format!("{name} {} {} {}", set.ttl, values.join(" "), set.metadata)
        })
        .collect()
    }
}

impl Set {
    /// The values, each joined.
    pub fn texts(&self) -> Vec<String> {
        let records = self.records.iter();
        records
            .map(|it| {
                let strings = it["value"].as_array().expect("an array of strings");
                strings.iter().filter_map(Value::as_str).collect()
            })
            .collect()
    }
}

impl Azure {
    /// Starts one with these zones.
    pub async fn start(zones: Vec<Zone>) -> Fake<Self> {
        let azure = Self {
            zones,
            page: 100,
            ..Self::default()
        };
        Fake::start("", azure).await
    }

    /// The first zone of that name that is public.
    pub fn zone(&mut self, apex: &str) -> &mut Zone {
        let mut zones = self.zones.iter_mut();
        zones
            .find(|zone| zone.apex == apex && !zone.private)
            .expect("a zone of the fake")
    }

    /// Puts a set there as a person does.
    pub fn put(&mut self, apex: &str, name: &str, ttl: u64, records: &[&[&str]], metadata: Value) {
        let etag = self.etag();
        let records = records.iter().map(|strings| json!({"value": strings}));
        let set = Set {
            ttl,
            records: records.collect(),
            metadata,
            etag,
        };
        self.zone(apex).sets.insert(name.to_owned(), set);
    }

    fn etag(&mut self) -> String {
        self.last += 1;
        format!("etag-{}", self.last)
    }

    fn token(&mut self, lives: Value) -> Answer {
        self.tokens += 1;
        let token = format!("{TOKEN}{}", self.tokens);
        answer(
            200,
            json!({"token_type": "Bearer", "expires_in": lives, "access_token": token}),
        )
    }

    fn knows(&self, ask: &Ask) -> bool {
        let token = ask.header("authorization");
        let number = token.and_then(|it| {
            it.strip_prefix("Bearer ")?
                .strip_prefix(TOKEN)?
                .parse()
                .ok()
        });
        number.is_some_and(|number: usize| number > self.revoked && number <= self.tokens)
    }

    fn exchange(&mut self, ask: &Ask) -> Answer {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(ask.text.as_bytes())
            .into_owned()
            .collect();
        let given = |key: &str| form.get(key).map(String::as_str);
        let refuse = |error: &str, words: &str| {
            answer(
                401,
                json!({"error": error, "error_description": words, "error_codes": [1]}),
            )
        };
        if ask.path[0] != TENANT {
            return refuse("invalid_request", "AADSTS90002: Tenant 'x' not found.");
        }
        if given("client_id") != Some(CLIENT) {
            return refuse(
                "unauthorized_client",
                "AADSTS700016: Application was not found.",
            );
        }
        if given("scope") != Some("https://management.azure.com/.default")
            || given("grant_type") != Some("client_credentials")
        {
            return refuse(
                "invalid_scope",
                "AADSTS1002012: The provided value for scope is not valid.",
            );
        }
        let federated = given("client_assertion_type")
            == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        match (given("client_secret"), given("client_assertion")) {
            (Some(SECRET), None) => self.token(json!(3_599)),
            (None, Some(FEDERATED)) if federated => self.token(json!(3_599)),
            (Some(_), _) => refuse(
                "invalid_client",
                "AADSTS7000215: Invalid client secret provided.",
            ),
            _ => refuse(
                "invalid_client",
                "AADSTS70021: No matching federated identity record found.",
            ),
        }
    }

    fn metadata(&mut self, ask: &Ask) -> Answer {
        let is_asked = ask.header("metadata") == Some("true")
            && ask.query("api-version") == Some("2018-02-01")
            && ask.query("resource") == Some("https://management.azure.com/");
        match ask.query("client_id") {
            _ if !is_asked => answer(400, json!({"error": "invalid_request"})),
            None | Some(CLIENT) => self.token(json!("86399")),
            Some(_) => answer(
                400,
                json!({"error": "invalid_request", "error_description": "Identity not found"}),
            ),
        }
    }

    fn list_zones(&self, ask: &Ask, group: Option<&str>) -> Answer {
        let zones = self.zones.iter();
        let zones = zones.filter(|zone| group.is_none_or(|group| group == zone.group));
        let zones = zones.map(|zone| {
            let kind = if zone.private { "Private" } else { "Public" };
            let servers = [format!("ns1-{}.azure-dns.test.", zone.group)];
            json!({
                "id": zone.id(), "name": zone.apex, "type": "Microsoft.Network/dnszones", "etag": "z",
                "location": "global", "properties": {"zoneType": kind, "nameServers": servers},
            })
        });
        self.paged(ask, zones.collect())
    }

    fn paged(&self, ask: &Ask, all: Vec<Value>) -> Answer {
        let from = ask.number("$skipToken", 0);
        let mut body = json!({"value": all.iter().skip(from).take(self.page).collect::<Vec<_>>()});
        if from + self.page < all.len() {
            let path = ask.path.join("/");
            let next = from + self.page;
            let link = format!(
                "{}/{path}?api-version=2018-05-01&$skipToken={next}",
                ask.endpoint
            );
            body["nextLink"] = json!(link);
        }
        answer(200, body)
    }

    fn in_zone(&mut self, ask: &Ask, group: &str, apex: &str, rest: &[&str]) -> Answer {
        let Some(at) = (self.zones.iter()).position(|it| it.group == group && it.apex == apex)
        else {
            let words = format!("The Resource 'Microsoft.Network/dnszones/{apex}' was not found.");
            return refusal(404, "ResourceNotFound", &words);
        };
        let etag = self.etag();
        let page = |azure: &Self, all| azure.paged(ask, all);
        let zone = &self.zones[at];
        match (ask.method.as_str(), rest) {
            ("GET", ["TXT"]) => {
                let sets = zone.sets.iter();
                let all = sets.map(|(name, set)| shown(zone, name, set)).collect();
                page(self, all)
            }
            ("GET", ["TXT", name]) => match zone.sets.get(*name) {
                Some(set) => answer(200, shown(zone, name, set)),
                None => {
                    let words =
                        format!("The resource record '{name}' does not exist in this zone.");
                    dns_refusal(404, "NotFound", &words)
                }
            },
            (method @ ("PUT" | "DELETE"), ["TXT", name]) => {
                let known = zone.sets.get(*name);
                if method == "DELETE" && known.is_none() {
                    return answer(204, Value::Null);
                }
                if let Some(refused) = condition(ask, known) {
                    self.overtaken += 1;
                    return refused;
                }
                if method == "DELETE" {
                    self.zones[at].sets.remove(*name);
                    return answer(200, Value::Null);
                }
                if zone.aliases.iter().any(|alias| alias == name) {
                    let words = format!(
                        "The record '{name}' cannot be created because a CNAME record with the same name exists."
                    );
                    return dns_refusal(409, "Conflict", &words);
                }
                let properties = &ask.body["properties"];
                let records = properties["TXTRecords"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                if !records.iter().all(is_good) || records.len() > 20 {
                    return dns_refusal(400, "BadRequest", "The value of TXTRecords is invalid.");
                }
                let status = if known.is_some() { 200 } else { 201 };
                let set = Set {
                    ttl: properties["TTL"].as_u64().unwrap_or_default(),
                    records,
                    metadata: properties["metadata"].clone(),
                    etag,
                };
                let reply = shown(zone, name, &set);
                self.zones[at].sets.insert((*name).to_owned(), set);
                answer(status, reply)
            }
            _ => refusal(404, "InvalidResourceType", "no such call"),
        }
    }
}

impl Api for Azure {
    fn call(ask: &Ask) -> &'static str {
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("POST", [_, "oauth2", "v2.0", "token"]) => "token",
            ("GET", ["metadata", "identity", "oauth2", "token"]) => "token",
            ("GET", ["subscriptions", _, "providers", _, _]) => "zones",
            ("GET", ["subscriptions", _, "resourceGroups", _, "providers", _, _]) => "zones",
            ("GET", [.., "TXT"]) => "list",
            ("GET", [.., "TXT", _]) => "get",
            ("PUT", [.., "TXT", _]) => "put",
            ("DELETE", [.., "TXT", _]) => "delete",
            _ => "undocumented",
        }
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        let (_, path) = ask.route();
        match &path[..] {
            [_, "oauth2", ..] => return self.exchange(ask),
            ["metadata", ..] => return self.metadata(ask),
            _ => {}
        }
        if ask.query("api-version") != Some("2018-05-01") {
            return refusal(
                400,
                "InvalidApiVersionParameter",
                "The api-version is invalid.",
            );
        }
        if !self.knows(ask) {
            return refusal(
                401,
                "InvalidAuthenticationToken",
                "The access token is invalid.",
            );
        }
        match &path[..] {
            [
                "subscriptions",
                SUBSCRIPTION,
                "providers",
                "Microsoft.Network",
                _,
            ] => self.list_zones(ask, None),
            [
                "subscriptions",
                SUBSCRIPTION,
                "resourceGroups",
                group,
                "providers",
                _,
                _,
            ] => self.list_zones(ask, Some(group)),
            [
                "subscriptions",
                SUBSCRIPTION,
                "resourceGroups",
                group,
                _,
                _,
                _,
                apex,
                rest @ ..,
            ] => self.in_zone(ask, group, apex, rest),
            _ => refusal(
                404,
                "SubscriptionNotFound",
                "The subscription could not be found.",
            ),
        }
    }
}

/// A refusal of Resource Manager.
pub fn refusal(status: u16, code: &str, words: &str) -> Answer {
    answer(status, json!({"error": {"code": code, "message": words}}))
}

/// A refusal of Azure DNS.
pub fn dns_refusal(status: u16, code: &str, words: &str) -> Answer {
    answer(status, json!({"code": code, "message": words}))
}

fn condition(ask: &Ask, known: Option<&Set>) -> Option<Answer> {
    let (wanted, none) = (ask.header("if-match"), ask.header("if-none-match"));
    let is_met = match (wanted, none) {
        (Some(etag), None) => known.is_some_and(|set| set.etag == etag),
        (None, Some("*")) => known.is_none(),
        _ => true,
    };
    let words = "The condition in the If-Match or If-None-Match header was not satisfied.";
    (!is_met).then(|| dns_refusal(412, "PreconditionFailed", words))
}

fn shown(zone: &Zone, name: &str, set: &Set) -> Value {
    let fqdn = format!("{name}.{}.", zone.apex);
    let mut properties = json!({"TTL": set.ttl, "TXTRecords": set.records, "fqdn": fqdn, "targetResource": {}, "provisioningState": "Succeeded"});
    if !set.metadata.is_null() {
        properties["metadata"] = set.metadata.clone();
    }
    json!({
        "id": format!("{}/TXT/{name}", zone.id()), "name": name, "type": "Microsoft.Network/dnszones/TXT",
        "etag": set.etag, "properties": properties,
    })
}

/// Strings of at most 255 octets.
fn is_good(record: &Value) -> bool {
    let strings = record["value"].as_array();
    strings.is_some_and(|strings| {
        !strings.is_empty()
            && strings
                .iter()
                .all(|it| it.as_str().is_some_and(|it| it.len() <= 255))
    })
}
