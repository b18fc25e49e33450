//! What the API keeps and how it answers: accounts' zones, records as they were sent, tokens with their rights.

use serde_json::{Map, Value, json};
use url::Url;

/// What the API says of every time.
const THEN: &str = "2026-01-02T03:04:05.678901Z";
/// What the API takes at once for a zone without a paid plan.
const BATCH: usize = 200;
/// A page has so many records unless asked otherwise.
const RECORDS_A_PAGE: usize = 100;
/// A page has so many zones unless asked otherwise, and at most this many.
const ZONES_A_PAGE: (usize, usize) = (20, 50);

type Headers = Vec<(&'static str, String)>;
type Answer = Result<Value, Refusal>;

/// Everything there is.
#[derive(Clone)]
pub struct State {
    zones: Vec<Zone>,
    tokens: Vec<Token>,
    next: u64,
    /// Requests that are left.
    pub left: u64,
    /// When there are more again, in seconds.
    pub resets: u64,
    /// Whether there is a batch call.
    pub has_batch: bool,
}

/// A zone of one account.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its id.
    pub id: String,
    /// Its apex.
    pub name: String,
    /// Whose it is.
    pub account: String,
    /// What a delegation to it names.
    pub nameservers: Vec<String>,
    /// How many records it may have.
    pub quota: usize,
    /// Its records, as a reply shows them.
    pub records: Vec<Value>,
}

/// A token and its rights.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself.
    pub secret: String,
    /// The ids of its zones; `None`: all.
    pub zones: Option<Vec<String>>,
    /// Zone / Zone / Read.
    pub reads_zones: bool,
    /// Zone / DNS / Edit, else only Read.
    pub edits: bool,
}

/// A refusal: status, code, words, and what it comes down to.
struct Refusal(u16, u32, String, Option<(u32, String)>);

fn refuse(status: u16, code: u32, words: &str) -> Refusal {
    Refusal(status, code, words.to_owned(), None)
}

fn invalid(code: u32, words: &str) -> Refusal {
    let inner = Some((code, words.to_owned()));
    Refusal(400, 1004, "DNS Validation Error".to_owned(), inner)
}

impl Token {
    /// One that may do everything that is needed, in all zones.
    pub fn usual() -> Self {
        Self {
            secret: "not-a-token-of-anybody-0123456789abcdefg".to_owned(),
            zones: None,
            reads_zones: true,
            edits: true,
        }
    }

    /// The one of whoever looks on.
    pub(super) fn observer() -> Self {
        Self {
            secret: "not-a-token-of-anybody-but-whoever-looks-on".to_owned(),
            edits: false,
            ..Self::usual()
        }
    }
}

impl State {
    /// With one token and no zones.
    pub fn new(token: Token) -> Self {
        Self {
            zones: Vec::new(),
            tokens: vec![token, Token::observer()],
            next: 0,
            left: 1_200,
            resets: 300,
            has_batch: true,
        }
    }

    /// With one more zone, of the account `account`.
    pub fn zone(mut self, name: &str, account: &str) -> Self {
        let id = self.id();
        self.zones.push(Zone {
            id,
            name: name.to_owned(),
            account: account.to_owned(),
            nameservers: ["ada", "bob"]
                .map(|it| format!("{it}.ns.{account}.test"))
                .into(),
            quota: 1_000,
            records: Vec::new(),
        });
        self
    }

    /// The id of the first zone of this name.
    pub fn zone_id(&self, name: &str) -> String {
        let found = self.zones.iter().find(|zone| zone.name == name);
        found.expect("a zone of the test").id.clone()
    }

    /// The zone with this id.
    pub fn zone_mut(&mut self, id: &str) -> &mut Zone {
        let mut zones = self.zones.iter_mut();
        zones
            .find(|zone| zone.id == id)
            .expect("a zone of the test")
    }

    /// The token that it was made with.
    pub fn token_mut(&mut self) -> &mut Token {
        self.tokens.first_mut().expect("made with one")
    }

    /// Adds a record as a person at the dashboard does.
    pub fn add(&mut self, zone: &str, kind: &str, name: &str, content: &str, ttl: u32) {
        self.add_commented(zone, kind, name, content, ttl, "");
    }

    /// The same with a comment.
    pub fn add_commented(
        &mut self,
        zone: &str,
        kind: &str,
        name: &str,
        content: &str,
        ttl: u32,
        comment: &str,
    ) {
        let record =
            json!({"type": kind, "name": name, "content": content, "ttl": ttl, "comment": comment});
        if let Err(Refusal(_, code, words, _)) = self.create(zone, &record) {
            panic!("{record} is refused with {code}: {words}");
        }
    }

    /// Name, content, TTL and comment of all records of a zone, in the order of their making.
    pub fn shown(&self, zone: &str) -> Vec<String> {
        let found = self.zones.iter().find(|it| it.id == zone);
        let records = &found.expect("a zone of the test").records;
        let text = |record: &Value, key: &str| match &record[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let shown = |record: &Value| {
            ["name", "content", "ttl", "comment"]
                .map(|key| text(record, key))
                .join(" ")
        };
        records.iter().map(shown).collect()
    }

    /// The values and the TTL that the zone's nameservers give for TXT at `name`.
    pub fn served(&self, zone: &str, name: &str) -> (Vec<String>, Option<u32>) {
        let found = self.zones.iter().find(|it| it.id == zone);
        let records = &found.expect("a zone of the test").records;
        super::dns::txt(records, name)
    }

    /// Status, headers and body for a request.
    pub(super) fn answer(
        &mut self,
        method: &str,
        path: &str,
        authorization: &str,
        body: &[u8],
    ) -> (u16, Headers, Value) {
        let answer = self.judged(method, path, authorization, body);
        let policy = "\"default\";q=1200;w=300".to_owned();
        let limit = format!("\"default\";r={};t={}", self.left, self.resets);
        let mut headers = vec![("ratelimit", limit), ("ratelimit-policy", policy)];
        match answer {
            Ok(mut whole) => {
                whole["success"] = json!(true);
                whole["errors"] = json!([]);
                whole["messages"] = json!([]);
                (200, headers, whole)
            }
            Err(Refusal(status, code, words, inner)) => {
                if status == 429 {
                    headers.push(("retry-after", self.resets.to_string()));
                }
                let mut error = json!({"code": code, "message": words});
                if let Some((code, words)) = inner {
                    error["error_chain"] = json!([{"code": code, "message": words}]);
                }
                let whole =
                    json!({"result": null, "success": false, "errors": [error], "messages": []});
                (status, headers, whole)
            }
        }
    }

    fn judged(&mut self, method: &str, path: &str, authorization: &str, body: &[u8]) -> Answer {
        let token = self.token(authorization)?.clone();
        if self.left == 0 {
            return Err(refuse(
                429,
                10100,
                "More than 1200 requests per 300 seconds reached.",
            ));
        }
        self.left -= 1;
        let url = Url::parse(&format!("http://api.test{path}")).expect("hyper passed it");
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let segments: Vec<&str> = url.path_segments().into_iter().flatten().collect();
        let sent = || -> Answer {
            let malformed = |_| refuse(400, 6007, "Malformed JSON in request body");
            serde_json::from_slice(body).map_err(malformed)
        };
        match (method, segments.as_slice()) {
            ("GET", ["zones"]) => self.list_zones(&token, &query),
            (_, ["zones", id, "dns_records", rest @ ..]) => {
                self.enter(&token, id, method != "GET")?;
                match (method, rest) {
                    ("GET", []) => self.list(id, &query),
                    ("POST", []) => Ok(json!({"result": self.create(id, &sent()?)?})),
                    ("POST", ["batch"]) if self.has_batch => self.batch(id, &sent()?),
                    ("GET", [record]) => Ok(json!({"result": self.find(id, record)?})),
                    ("DELETE", [record]) => {
                        let record = self.delete(id, record)?;
                        Ok(json!({"result": {"id": record["id"]}}))
                    }
                    _ => Err(no_route(path)),
                }
            }
            _ => Err(no_route(path)),
        }
    }

    fn token(&self, authorization: &str) -> Result<&Token, Refusal> {
        if authorization.is_empty() {
            let words = "Missing X-Auth-Key, X-Auth-Email or Authorization headers";
            return Err(refuse(400, 9106, words));
        }
        let secret = authorization.strip_prefix("Bearer ").unwrap_or_default();
        let has_form = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if secret.len() < 40 || !secret.bytes().all(has_form) {
            let inner = (6111, "Invalid format for Authorization header".to_owned());
            let words = "Invalid request headers".to_owned();
            return Err(Refusal(400, 6003, words, Some(inner)));
        }
        let known = self.tokens.iter().find(|token| token.secret == secret);
        known.ok_or_else(|| refuse(403, 9109, "Invalid access token"))
    }

    /// Whether the token lets anybody into the zone.
    fn enter(&self, token: &Token, id: &str, edits: bool) -> Result<(), Refusal> {
        if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            let words = format!(
                "Could not route to /zones/{id}/dns_records, perhaps your object identifier is invalid?"
            );
            return Err(refuse(404, 7003, &words));
        }
        let is_known = self.zones.iter().any(|zone| zone.id == id);
        if !is_known || !token.has(id) || (edits && !token.edits) {
            return Err(refuse(403, 10000, "Authentication error"));
        }
        Ok(())
    }

    fn list_zones(&self, token: &Token, query: &[(String, String)]) -> Answer {
        let known = [
            "name",
            "page",
            "per_page",
            "order",
            "direction",
            "status",
            "match",
        ];
        only(query, &known)?;
        let name = get(query, "name");
        if !token.reads_zones || (name.is_none() && token.zones.is_some()) {
            let words = "Actor 'com.cloudflare.api.token.0' requires permission 'com.cloudflare.api.account.zone.list' to list zones";
            return Err(refuse(403, 0, words));
        }
        let zones = self.zones.iter();
        let zones = zones.filter(|zone| token.has(&zone.id));
        let zones = zones.filter(|zone| name.is_none_or(|name| zone.name == name));
        let all: Vec<Value> = zones.map(Zone::shown).collect();
        let size = number(query, "per_page", ZONES_A_PAGE.0)?;
        if size > ZONES_A_PAGE.1 {
            return Err(refuse(400, 1006, "per_page must be between 5 and 50"));
        }
        page(&all, size, query)
    }

    fn list(&self, id: &str, query: &[(String, String)]) -> Answer {
        let mut known: Vec<String> = ["type", "page", "per_page", "order", "direction", "match"]
            .map(str::to_owned)
            .into();
        let filtered = ["name", "content", "comment"];
        let ways = ["exact", "startswith", "endswith", "contains"];
        for field in filtered {
            known.extend(ways.iter().map(|way| format!("{field}.{way}")));
        }
        only(query, &known.iter().map(String::as_str).collect::<Vec<_>>())?;
        let lets_through = |record: &Value| {
            query.iter().all(|(key, wanted)| {
                let (field, way) = key.split_once('.').unwrap_or((key, "exact"));
                if !filtered.contains(&field) && field != "type" {
                    return true;
                }
                let has = record[field].as_str().unwrap_or_default().to_lowercase();
                let wanted = wanted.to_lowercase();
                match way {
                    "startswith" => has.starts_with(&wanted),
                    "endswith" => has.ends_with(&wanted),
                    "contains" => has.contains(&wanted),
                    _ => has == wanted,
                }
            })
        };
        let zone = self.zones.iter().find(|zone| zone.id == id);
        let records = zone.into_iter().flat_map(|zone| &zone.records);
        let all: Vec<Value> = records.filter(|it| lets_through(it)).cloned().collect();
        page(&all, number(query, "per_page", RECORDS_A_PAGE)?, query)
    }

    fn find(&self, id: &str, record: &str) -> Answer {
        let zone = self.zones.iter().find(|zone| zone.id == id);
        let mut records = zone.into_iter().flat_map(|zone| &zone.records);
        let found = records.find(|it| it["id"] == record);
        found
            .cloned()
            .ok_or_else(|| refuse(404, 81044, "Record does not exist."))
    }

    fn create(&mut self, zone: &str, sent: &Value) -> Answer {
        let id = self.id();
        let zone = self.zone_mut(zone);
        let record = zone.record(&id, sent)?;
        zone.admit(&record)?;
        if zone.records.len() >= zone.quota {
            return Err(refuse(400, 81045, "The record quota has been exceeded."));
        }
        zone.records.push(record.clone());
        Ok(record)
    }

    fn delete(&mut self, zone: &str, record: &str) -> Answer {
        let found = self.find(zone, record)?;
        self.zone_mut(zone).records.retain(|it| it["id"] != record);
        Ok(found)
    }

    fn change(&mut self, zone: &str, sent: &Value, is_whole: bool) -> Answer {
        let id = sent["id"].as_str().unwrap_or_default().to_owned();
        let mut record = self.delete(zone, &id)?;
        if is_whole {
            record = json!({});
        }
        for (key, value) in sent.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        let zone = self.zone_mut(zone);
        let record = zone.record(&id, &record)?;
        zone.admit(&record)?;
        zone.records.push(record.clone());
        Ok(record)
    }

    /// Removals, patches, replacements, new ones, in this order: all, or none and the first error.
    fn batch(&mut self, zone: &str, sent: &Value) -> Answer {
        let of = |key: &str| sent[key].as_array().cloned().unwrap_or_default();
        let keys = ["deletes", "patches", "puts", "posts"];
        if sent
            .as_object()
            .is_none_or(|it| it.keys().any(|key| !keys.contains(&&**key)))
        {
            return Err(refuse(400, 9207, "Request body is invalid."));
        }
        let many: usize = keys.iter().map(|key| of(key).len()).sum();
        if many > BATCH {
            return Err(refuse(400, 1004, "too many operations in one batch"));
        }
        let before = self.clone();
        let mut done: Map<String, Value> = Map::new();
        let mut perform = || -> Result<(), Refusal> {
            for key in keys {
                let mut results = Vec::new();
                for one in of(key) {
                    results.push(match key {
                        "deletes" => self.delete(zone, one["id"].as_str().unwrap_or_default())?,
                        "patches" => self.change(zone, &one, false)?,
                        "puts" => self.change(zone, &one, true)?,
                        _ => self.create(zone, &one)?,
                    });
                }
                done.insert(key.to_owned(), Value::Array(results));
            }
            Ok(())
        };
        if let Err(refusal) = perform() {
            *self = before;
            return Err(refusal);
        }
        Ok(json!({"result": done}))
    }

    fn id(&mut self) -> String {
        self.next += 1;
        format!("{:032x}", 0xc1f0_0000_u64 + self.next)
    }
}

impl Token {
    fn has(&self, zone: &str) -> bool {
        let zones = self.zones.as_ref();
        zones.is_none_or(|zones| zones.iter().any(|id| id == zone))
    }
}

impl Zone {
    fn shown(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "status": "active", "type": "full", "paused": false,
            "development_mode": 0, "name_servers": self.nameservers, "original_name_servers": null,
            "original_registrar": null, "original_dnshost": null, "created_on": THEN, "modified_on": THEN,
            "activated_on": THEN, "account": {"id": self.account, "name": self.account},
            "owner": {"id": null, "type": "user", "email": null}, "permissions": ["#dns_records:edit", "#zone:read"],
            "meta": {"step": 4, "custom_certificate_quota": 0, "page_rule_quota": 3, "phishing_detected": false},
            "plan": {"id": "0", "name": "Free Website", "price": 0, "currency": "USD", "frequency": "",
                "is_subscribed": true, "can_subscribe": false, "legacy_id": "free", "legacy_discount": false,
                "externally_managed": false},
            "tenant": {"id": null, "name": null}, "tenant_unit": {"id": null},
        })
    }

    /// What is sent as it is kept. There is no `zone_id` in it since 2025.
    fn record(&self, id: &str, sent: &Value) -> Answer {
        let name = sent["name"].as_str().unwrap_or_default().to_lowercase();
        let inside = name == self.name || name.ends_with(&format!(".{}", self.name));
        let name = match name.as_str() {
            "" => return Err(invalid(9000, "DNS name is invalid.")),
            "@" => self.name.clone(),
            _ if inside => name,
            _ => format!("{name}.{}", self.name),
        };
        if name.len() > 253
            || name
                .split('.')
                .any(|label| label.is_empty() || label.len() > 63)
        {
            return Err(invalid(9000, "DNS name is invalid."));
        }
        let ttl = sent["ttl"].as_f64().unwrap_or(1.0);
        if ttl != 1.0 && !(60.0..=86_400.0).contains(&ttl) {
            let words = "TTL must be between 60 and 86400 seconds, or 1 for Automatic.";
            return Err(invalid(9021, words));
        }
        let Some(content) = sent["content"].as_str().filter(|it| !it.is_empty()) else {
            return Err(invalid(9101, "content is a required data field."));
        };
        let comment = sent["comment"].as_str().filter(|it| !it.is_empty());
        if comment.is_some_and(|it| it.chars().count() > 100) {
            return Err(invalid(9301, "the comment is too long."));
        }
        if sent["tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
            return Err(invalid(
                9300,
                "DNS record has 1 tags, exceeding the quota of 0.",
            ));
        }
        Ok(json!({
            "id": id, "name": name, "type": sent["type"], "content": content, "ttl": ttl as u32,
            "proxiable": false, "proxied": false, "comment": comment, "tags": [], "settings": {}, "meta": {},
            "created_on": THEN, "modified_on": THEN,
        }))
    }

    /// Whether the record may stand beside what is there.
    fn admit(&self, record: &Value) -> Result<(), Refusal> {
        let mut here = self
            .records
            .iter()
            .filter(|it| it["name"] == record["name"]);
        let is_same =
            |it: &Value| it["type"] == record["type"] && it["content"] == record["content"];
        if here.clone().any(is_same) {
            return Err(refuse(400, 81058, "An identical record already exists."));
        }
        if here.any(|it| it["type"] == "CNAME" || record["type"] == "CNAME") {
            return Err(refuse(
                400,
                81054,
                "A CNAME record with that host already exists.",
            ));
        }
        Ok(())
    }
}

fn no_route(path: &str) -> Refusal {
    refuse(404, 7000, &format!("No route for that URI: {path}"))
}

/// A misspelt filter is no filter at the real one, so that nobody notices; here it is a fault.
fn only(query: &[(String, String)], known: &[&str]) -> Result<(), Refusal> {
    match query.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some((key, _)) => Err(refuse(400, 9999, &format!("{key} is no parameter"))),
    }
}

fn get<'a>(query: &'a [(String, String)], key: &str) -> Option<&'a str> {
    let found = query.iter().find(|(known, _)| known == key);
    found.map(|(_, value)| value.as_str())
}

fn number(query: &[(String, String)], key: &str, default: usize) -> Result<usize, Refusal> {
    let Some(text) = get(query, key) else {
        return Ok(default);
    };
    let number = text.parse().ok().filter(|&it| it > 0);
    number.ok_or_else(|| refuse(400, 1003, &format!("{key} must be a positive integer")))
}

fn page(all: &[Value], size: usize, query: &[(String, String)]) -> Answer {
    let page = number(query, "page", 1)?;
    let begin = (page - 1).saturating_mul(size).min(all.len());
    let items = &all[begin..all.len().min(begin.saturating_add(size))];
    let info = json!({
        "page": page, "per_page": size, "count": items.len(), "total_count": all.len(),
        "total_pages": all.len().div_ceil(size),
    });
    Ok(json!({"result": items, "result_info": info}))
}
