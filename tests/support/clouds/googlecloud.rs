//! Google Cloud DNS v1, its token service, and the metadata server of a machine.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{Api, Fake};
use crate::support::process::server;
use crate::support::rest::{Answer, Ask, answer};

/// The project with the zones.
pub const PROJECT: &str = "dns-project";
/// The service account that may change them.
pub const ACCOUNT: &str = "dns@dns-project.iam.gserviceaccount.example";

/// What its tokens begin with; then comes a number.
const TOKEN: &str = "token-of-the-fake-";

/// Its state.
#[derive(Default)]
pub struct Google {
    pub zones: Vec<Zone>,
    /// Zones and sets on a page, at most.
    pub page: usize,
    /// So often a change is pending before it is done.
    pub pending: usize,
    /// How many tokens it gave.
    pub tokens: usize,
    /// How many of them are not good any more.
    pub revoked: usize,
    /// How many seconds they live.
    pub lives: u64,
    /// How many changes were refused since a set was not what it was taken for.
    pub overtaken: usize,
    changes: BTreeMap<String, usize>,
}

/// A managed zone.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// The name that its owner gave it.
    pub id: String,
    /// Its apex, with a final dot.
    pub apex: String,
    pub private: bool,
    /// By name with a final dot, and type.
    pub sets: BTreeMap<(String, String), Set>,
}

/// A record set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub ttl: u64,
    pub values: Vec<String>,
}

impl Zone {
    pub fn new(id: &str, apex: &str) -> Self {
        let set = |ttl, value: &str| Set {
            ttl,
            values: vec![value.to_owned()],
        };
        let soa = "ns-cloud-a1.test. hostmaster.test. 1 21600 3600 259200 300";
        let sets = [
            ("SOA", set(21_600, soa)),
            ("NS", set(21_600, "ns-cloud-a1.test.")),
        ];
        Self {
            id: id.to_owned(),
            apex: format!("{apex}."),
            private: false,
            sets: (sets.into_iter())
                .map(|(kind, set)| ((format!("{apex}."), kind.to_owned()), set))
                .collect(),
        }
    }

    pub fn private(self) -> Self {
        Self {
            private: true,
            ..self
        }
    }

    pub fn put(&mut self, name: &str, kind: &str, ttl: u64, values: &[&str]) {
        let values = values.iter().map(|&it| it.to_owned()).collect();
        let at = (format!("{name}."), kind.to_owned());
        self.sets.insert(at, Set { ttl, values });
    }

    pub fn txt(&self, name: &str) -> Option<&Set> {
        self.sets.get(&(format!("{name}."), "TXT".to_owned()))
    }

    /// All TXT sets, as `name ttl values`.
    pub fn shown(&self) -> Vec<String> {
        let txt = self.sets.iter().filter(|((_, kind), _)| kind == "TXT");
        txt.map(|((name, _), set)| format!("{name} {} {}", set.ttl, set.values.join(" ")))
            .collect()
    }
}

impl Google {
    /// Starts one with these zones.
    pub async fn start(zones: Vec<Zone>) -> Fake<Self> {
        let google = Self {
            zones,
            page: 100,
            lives: 3_600,
            ..Self::default()
        };
        Fake::start("", google).await
    }

    /// The zone of that name.
    pub fn zone(&mut self, id: &str) -> Option<&mut Zone> {
        self.zones.iter_mut().find(|zone| zone.id == id)
    }

    /// The key of the service account, as it is downloaded.
    pub fn key(url: &str) -> Value {
        json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "key-1",
            "private_key": rsa_key(),
            "client_email": ACCOUNT,
            "client_id": "1000",
            "token_uri": format!("{url}/token"),
        })
    }

    fn token(&mut self) -> Answer {
        self.tokens += 1;
        answer(
            200,
            json!({"access_token": format!("{TOKEN}{}", self.tokens), "expires_in": self.lives, "token_type": "Bearer"}),
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
        let refuse = |code: &str, words: &str| {
            answer(400, json!({"error": code, "error_description": words}))
        };
        if form.get("grant_type").map(String::as_str)
            != Some("urn:ietf:params:oauth:grant-type:jwt-bearer")
        {
            return refuse("unsupported_grant_type", "Invalid grant_type");
        }
        match self.judge(form.get("assertion").map_or("", String::as_str)) {
            Ok(()) => self.token(),
            Err(why) => refuse("invalid_grant", why),
        }
    }

    fn judge(&self, assertion: &str) -> Result<(), &'static str> {
        let parts: Vec<&str> = assertion.split('.').collect();
        let [head, claims, signature] = parts[..] else {
            return Err("Invalid JWT: Failed parse");
        };
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        let json = |part: &str| serde_json::from_slice::<Value>(&decoded(part)).unwrap_or_default();
        let (head, stated) = (json(head), json(claims));
        if head["alg"] != "RS256" || head["typ"] != "JWT" {
            return Err("Invalid JWT: wrong algorithm");
        }
        if stated["iss"] != ACCOUNT {
            return Err("Invalid grant: account not found");
        }
        let scope = stated["scope"].as_str().unwrap_or_default();
        if !scope.contains("/auth/ndev.clouddns.readwrite")
            && !scope.contains("/auth/cloud-platform")
        {
            return Err("Invalid JWT: no scope");
        }
        if stated["aud"] != "https://oauth2.googleapis.com/token" {
            return Err("Invalid JWT: wrong audience");
        }
        let (from, to) = (stated["iat"].as_i64(), stated["exp"].as_i64());
        if from.zip(to).is_none_or(|(from, to)| to - from > 3_600) {
            return Err(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your \
                 iat and exp values in the JWT claim.",
            );
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(rsa_key().as_bytes());
        let der = der.expect("openssl made it");
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("openssl made it");
        let public =
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        let signed = &assertion[..assertion.len() - signature.len() - 1];
        public
            .verify(signed.as_bytes(), &decoded(signature))
            .map_err(|_| "Invalid JWT Signature.")
    }

    fn metadata(&mut self, ask: &Ask) -> Answer {
        if ask.header("metadata-flavor") != Some("Google") {
            return answer(403, json!("Missing Metadata-Flavor:Google header."));
        }
        match ask.path.last().map(String::as_str) {
            Some("token") => self.token(),
            Some("project-id") => answer(200, json!(PROJECT)),
            _ => answer(404, json!("not found")),
        }
    }

    fn list_zones(&self, ask: &Ask) -> Answer {
        let wanted = ask.query("dnsName");
        let zones = self.zones.iter();
        let zones = zones.filter(|zone| wanted.is_none_or(|wanted| wanted == zone.apex));
        let zones = zones.map(|zone| {
            json!({
                "kind": "dns#managedZone",
                "id": "1",
                "name": zone.id,
                "dnsName": zone.apex,
                "creationTime": "2026-01-01T00:00:00.000Z",
                "visibility": if zone.private { "private" } else { "public" },
                "nameServers": [format!("ns-cloud-{}1.test.", zone.id), format!("ns-cloud-{}2.test.", zone.id)],
            })
        });
        self.paged(ask, "managedZones", zones.collect())
    }

    fn list_sets(&mut self, ask: &Ask, id: &str) -> Answer {
        let Some(zone) = self.zone(id).cloned() else {
            return no_zone(id);
        };
        let (name, kind) = (ask.query("name"), ask.query("type"));
        if kind.is_some() && name.is_none() {
            return refusal(400, "invalid", "Invalid value for 'parameters.name'");
        }
        let sets = zone.sets.iter().filter(|((at, of), _)| {
            name.is_none_or(|name| name == at) && kind.is_none_or(|kind| kind == of)
        });
        let sets = sets.map(|((name, kind), set)| match set.values.is_empty() {
            true => {
                json!({"name": name, "type": kind, "ttl": set.ttl, "routingPolicy": {"wrr": {}}})
            }
            false => set_json(name, kind, set),
        });
        self.paged(ask, "rrsets", sets.collect())
    }

    fn paged(&self, ask: &Ask, key: &str, all: Vec<Value>) -> Answer {
        let from = ask.number("pageToken", 0);
        let next = (from + self.page < all.len()).then(|| (from + self.page).to_string());
        let page: Vec<Value> = all.into_iter().skip(from).take(self.page).collect();
        let mut body = json!({"kind": "dns#list"});
        // What is empty is left out there.
        if !page.is_empty() {
            body[key] = Value::Array(page);
        }
        if let Some(next) = next {
            body["nextPageToken"] = json!(next);
        }
        answer(200, body)
    }

    fn change(&mut self, ask: &Ask, id: &str) -> Answer {
        let Some(zone) = self.zone(id) else {
            return no_zone(id);
        };
        let mut after = zone.sets.clone();
        let stated = |key: &str| -> Vec<((String, String), Set)> {
            let all = ask.body[key].as_array().cloned().unwrap_or_default();
            all.iter().map(stated_set).collect()
        };
        for (n, (at, set)) in stated("deletions").into_iter().enumerate() {
            let field = format!("entity.change.deletions[{n}]");
            match after.get(&at) {
                None => {
                    self.overtaken += 1;
                    let (name, kind) = at;
                    let words =
                        format!("The '{field}' resource named '{name} ({kind})' does not exist.");
                    return refusal(404, "notFound", &words);
                }
                Some(there) if !same(there, &set) => {
                    self.overtaken += 1;
                    let words = format!("Precondition not met for '{field}'");
                    return refusal(412, "conditionNotMet", &words);
                }
                Some(_) => drop(after.remove(&at)),
            }
        }
        for (n, (at, set)) in stated("additions").into_iter().enumerate() {
            let field = format!("entity.change.additions[{n}]");
            let (name, kind) = &at;
            if !name.ends_with(&format!(".{}", zone.apex)) && *name != zone.apex {
                let words = format!("Invalid value for '{field}.name': '{name}'");
                return refusal(400, "invalid", &words);
            }
            if after.contains_key(&at) {
                self.overtaken += 1;
                let words =
                    format!("The resource '{field}' named '{name} ({kind})' already exists");
                return refusal(409, "alreadyExists", &words);
            }
            let mut others = after.keys().filter(|(other, _)| other == name);
            if others.any(|(_, other)| (other == "CNAME") != (kind == "CNAME")) {
                let words = format!(
                    "The resource record set '{field}' is invalid because the DNS name '{name}' may have either one CNAME \
                     resource record set or resource record sets of other types, but not both."
                );
                return refusal(409, "cnameResourceRecordSetConflict", &words);
            }
            if let Some(bad) = set.values.iter().find(|value| !is_good(kind, value)) {
                let words = format!("Invalid value for '{field}.rrdata[0]': '{bad}'");
                return refusal(400, "invalid", &words);
            }
            after.insert(at, set);
        }
        zone.sets = after;
        let number = (self.changes.len() + 1).to_string();
        self.changes.insert(number.clone(), self.pending);
        let mut body = ask.body.clone();
        body["kind"] = json!("dns#change");
        body["id"] = json!(number);
        body["status"] = json!("pending");
        body["startTime"] = json!("2026-01-01T00:00:00.000Z");
        answer(200, body)
    }

    fn look_at_change(&mut self, id: &str, number: &str) -> Answer {
        if self.zone(id).is_none() {
            return no_zone(id);
        }
        let Some(left) = self.changes.get_mut(number) else {
            let words =
                format!("The 'parameters.changeId' resource named '{number}' does not exist.");
            return refusal(404, "notFound", &words);
        };
        let status = if *left == 0 { "done" } else { "pending" };
        *left = left.saturating_sub(1);
        let body = json!({"kind": "dns#change", "id": number, "status": status, "startTime": "2026-01-01T00:00:00.000Z"});
        answer(200, body)
    }
}

impl Api for Google {
    fn call(ask: &Ask) -> &'static str {
        let (method, path) = ask.route();
        match (method, &path[..]) {
            ("POST", ["token"]) => "token",
            ("GET", ["computeMetadata", ..]) => "metadata",
            ("GET", ["dns", "v1", "projects", _, "managedZones"]) => "zones",
            ("GET", ["dns", "v1", "projects", _, "managedZones", _, "rrsets"]) => "list",
            ("POST", ["dns", "v1", "projects", _, "managedZones", _, "changes"]) => "change",
            ("GET", ["dns", "v1", "projects", _, "managedZones", _, "changes", _]) => "look",
            _ => "undocumented",
        }
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        let call = Self::call(ask);
        match call {
            "token" => return self.exchange(ask),
            "metadata" => return self.metadata(ask),
            _ => {}
        }
        if !self.knows(ask) {
            let words = "Request had invalid authentication credentials.";
            return refusal(401, "authError", words);
        }
        let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
        if path.get(3) != Some(&PROJECT) {
            return refusal(403, "forbidden", "Forbidden");
        }
        match call {
            "zones" => self.list_zones(ask),
            "list" => self.list_sets(ask, path[5]),
            "change" => self.change(ask, path[5]),
            "look" => self.look_at_change(path[5], path[7]),
            _ => refusal(404, "notFound", "no such call"),
        }
    }
}

/// A refusal as Google writes it.
pub fn refusal(status: u16, reason: &str, words: &str) -> Answer {
    let error = json!({"message": words, "domain": "global", "reason": reason});
    answer(
        status,
        json!({"error": {"code": status, "message": words, "errors": [error]}}),
    )
}

fn no_zone(id: &str) -> Answer {
    let words = format!("The 'parameters.managedZone' resource named '{id}' does not exist.");
    refusal(404, "notFound", &words)
}

fn set_json(name: &str, kind: &str, set: &Set) -> Value {
    json!({"kind": "dns#resourceRecordSet", "name": name, "type": kind, "ttl": set.ttl, "rrdatas": set.values})
}

fn stated_set(set: &Value) -> ((String, String), Set) {
    let text = |key: &str| set[key].as_str().unwrap_or_default().to_owned();
    let values = set["rrdatas"].as_array().cloned().unwrap_or_default();
    let values = values.iter().filter_map(Value::as_str).map(str::to_owned);
    let stated = Set {
        // Some clients write it as a text.
        ttl: set["ttl"]
            .as_u64()
            .or_else(|| text("ttl").parse().ok())
            .unwrap_or_default(),
        values: values.collect(),
    };
    ((text("name"), text("type")), stated)
}

/// Values are a set, in whatever order they are stated.
fn same(there: &Set, stated: &Set) -> bool {
    let sorted = |set: &Set| {
        let mut values = set.values.clone();
        values.sort();
        values
    };
    there.ttl == stated.ttl && sorted(there) == sorted(stated)
}

/// Character-strings of at most 255 octets, each in quotes; none of this where there are no quotes at all.
fn is_good(kind: &str, value: &str) -> bool {
    kind != "TXT" || text_of(value).is_some()
}

/// What the world gets for a value.
pub fn text_of(value: &str) -> Option<String> {
    if !value.starts_with('"') {
        let is_word = !value.is_empty() && !value.contains([' ', '"']);
        return is_word.then(|| value.to_owned());
    }
    let (mut octets, mut rest) = (Vec::new(), value.as_bytes());
    while let Some(inner) = rest.strip_prefix(b"\"") {
        rest = inner;
        let begin = octets.len();
        loop {
            let (&octet, after) = rest.split_first()?;
            rest = after;
            match octet {
                b'"' => break,
                b'\\' if rest.first()?.is_ascii_digit() => {
                    let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
                    octets.push(digits.parse().ok()?);
                    rest = &rest[3..];
                }
                b'\\' => {
                    octets.push(*rest.first()?);
                    rest = &rest[1..];
                }
                octet => octets.push(octet),
            }
        }
        if octets.len() - begin > 255 {
            return None;
        }
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
    }
    rest.is_empty().then(|| String::from_utf8(octets).ok())?
}

/// One key for all tests of a run, made by openssl.
fn rsa_key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let mut command = server("openssl");
        command.args([
            "genpkey",
            "-quiet",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ]);
        let output = command.output().expect("openssl starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("PEM is text")
    })
}
