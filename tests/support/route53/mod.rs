//! A strict Route 53 for tests: a batch is a compare-and-swap, signatures are verified, limits are Amazon's, and what it
//! refuses it refuses in Amazon's words. boto3 judges it (`tests/route53/peers.rs`).
//!
//! It also plays what credentials come from: the Security Token Service, an instance's metadata, a container's, and the
//! portal of IAM Identity Center.

pub mod dns;
mod documents;
mod gate;
mod http;
pub mod moto;
mod signature;
pub mod store;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use tempfile::TempDir;

use super::bridge::OBSERVER;
use documents::{change_info, document, escaped, list_sets, refusal, steps, zone_xml};
use gate::Gate;
use http::{Answer, Request};
use store::{Zone, dotted, reversed, shown};

/// The access key that may do everything.
pub const KEY: &str = "AKIAFAKEFAKEFAKEFAKE";
/// Its secret.
pub const SECRET: &str = "secret-of-the-fake-route-53";

/// A running fake; its threads end with the test.
#[derive(Clone)]
pub struct Fake {
    at: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    gate: Gate,
    secrets: TempDir,
}

/// What the fake knows and does.
#[derive(Default)]
pub struct State {
    pub zones: Vec<Zone>,
    pub keys: BTreeMap<String, Key>,
    /// The names of the calls, in their order.
    pub calls: Vec<String>,
    /// What happens to the next calls of a name.
    pub faults: VecDeque<(&'static str, Fault)>,
    /// So often a change is PENDING before it is INSYNC.
    pub pending: usize,
    /// Refuses a batch as the older `InvalidChangeBatch` document, one message each.
    pub old_refusals: bool,
    /// Zones and sets on a page, at most.
    pub page: usize,
    /// The external id that roles ask for.
    pub external_id: Option<String>,
    changes: BTreeMap<String, usize>,
    sessions: usize,
}

/// An access key and what it may do.
#[derive(Clone, Debug, Default)]
pub struct Key {
    pub secret: String,
    pub token: Option<String>,
    /// Actions that it may not do.
    pub denied: Vec<&'static str>,
    /// The names, without last dot, at which it may change TXT; all where there are none.
    pub names: Vec<String>,
}

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused with this status, code and message.
    Refuse(u16, &'static str, String),
    /// It is answered with this.
    Garbage(u16, String),
    /// It is not done, and the connection breaks off.
    ResetBefore,
    /// It is done, and the connection breaks off.
    ResetAfter,
    /// It is done, and half of the reply comes.
    HalfReply,
    /// It is not done, and nothing comes.
    Silence,
}

impl Fake {
    /// One with these zones, and with [`KEY`].
    pub fn start(zones: Vec<Zone>) -> Self {
        let key = Key {
            secret: SECRET.to_owned(),
            ..Key::default()
        };
        let state = State {
            zones,
            keys: BTreeMap::from([(KEY.to_owned(), key)]),
            page: 300,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            gate: Gate::default(),
            secrets: tempfile::tempdir().expect("a directory for secrets"),
        });
        let all = Arc::clone(&shared);
        let at = http::serve(move |request| all.answer(&request));
        Self { at, shared }
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}/", self.at)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.at
    }

    /// A file that holds the secret of a key, as long as the fake lives.
    pub fn secret_file(&self, id: &str, secret: &str) -> PathBuf {
        let file = self.shared.secrets.path().join(id);
        std::fs::write(&file, secret).expect("an own directory");
        file
    }

    /// Its state, while nothing else can change it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("nothing panics with it")
    }

    /// The calls since the last look.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    /// Adds a fault.
    pub fn fault(&self, call: &'static str, fault: Fault) {
        self.state().faults.push_back((call, fault));
    }

    /// Who waits at the gate goes through one by one, in an order that depends on `seed` only.
    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }
}

impl State {
    /// The zone of that id.
    pub fn zone(&mut self, id: &str) -> Option<&mut Zone> {
        self.zones.iter_mut().find(|zone| zone.id == id)
    }

    /// The next fault of that call, which happens once.
    fn fault_of(&mut self, call: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(name, _)| *name == call)?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }
}

type Refused = (u16, &'static str, String);

impl Shared {
    fn answer(&self, request: &Request) -> Answer {
        if let Some(reply) = self.metadata(request) {
            return reply;
        }
        if request.header("user-agent") == Some(OBSERVER) {
            let mut state = self.state.lock().expect("nothing panics with it");
            return match state.perform_for(&Key::default(), call_of(request), request) {
                Ok(body) => Answer::Reply(200, body),
                Err((status, _, message)) => Answer::Reply(status, message),
            };
        }
        if let Some(claim) = signature::claim(request) {
            self.gate.pass(&claim.key);
        }
        let mut state = self.state.lock().expect("nothing panics with it");
        let call = call_of(request);
        state.calls.push(call.to_owned());
        let fault = state.fault_of(call);
        match fault {
            Some(Fault::Refuse(status, code, message)) => {
                return Answer::Reply(status, refusal(code, &message));
            }
            Some(Fault::Garbage(status, body)) => return Answer::Reply(status, body),
            Some(Fault::ResetBefore) => return Answer::Reset,
            Some(Fault::Silence) => return Answer::Silence,
            _ => {}
        }
        let done = state.perform(call, request);
        match (fault, done) {
            (Some(Fault::ResetAfter), _) => Answer::Reset,
            (Some(Fault::HalfReply), Ok(body)) => Answer::Half(body),
            (_, Ok(body)) => Answer::Reply(200, body),
            (_, Err((status, "", message))) => Answer::Reply(status, message),
            (_, Err((status, code, message))) => Answer::Reply(status, refusal(code, &message)),
        }
    }

    /// What an instance's metadata service, a container's and the portal of IAM Identity Center answer; none is signed.
    fn metadata(&self, request: &Request) -> Option<Answer> {
        let ok = |body: String| Some(Answer::Reply(200, body));
        let path = request.path.as_str();
        if path.starts_with("/latest/")
            && let Some(fault) = self
                .state
                .lock()
                .expect("nothing panics with it")
                .fault_of("metadata")
        {
            return Some(match fault {
                Fault::Garbage(status, body) => Answer::Reply(status, body),
                Fault::HalfReply => Answer::Half("metadata".to_owned()),
                _ => Answer::Silence,
            });
        }
        if path == "/latest/api/token" {
            let asked = request.method == "PUT"
                && request
                    .header("x-aws-ec2-metadata-token-ttl-seconds")
                    .is_some();
            return if asked {
                ok("metadata-token".to_owned())
            } else {
                None
            };
        }
        let role = path.strip_prefix("/latest/meta-data/iam/security-credentials/");
        if role.is_none() && path != "/container" && path != "/sso" {
            return None;
        }
        let mut state = self.state.lock().expect("nothing panics with it");
        state.calls.push("metadata".to_owned());
        let given = match path {
            "/container" => request.header("authorization") == Some("container-token"),
            "/sso" => request.header("x-amz-sso_bearer_token") == Some("sso-token"),
            _ => request.header("x-aws-ec2-metadata-token") == Some("metadata-token"),
        };
        if !given {
            return Some(Answer::Reply(401, String::new()));
        }
        if role == Some("") {
            return ok("dns-role".to_owned());
        }
        let (id, key) = state.session();
        let (secret, token) = (key.secret, key.token.unwrap_or_default());
        if path == "/sso" {
            return ok(format!(
                "{{\"roleCredentials\":{{\"accessKeyId\":\"{id}\",\"secretAccessKey\":\"{secret}\",\
                 \"sessionToken\":\"{token}\",\"expiration\":4070908800000}}}}"
            ));
        }
        ok(format!(
            "{{\"Code\":\"Success\",\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"{secret}\",\"Token\":\"{token}\",\
             \"Expiration\":\"2099-01-01T00:00:00Z\"}}"
        ))
    }
}

/// As a policy names it.
fn call_of(request: &Request) -> &'static str {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    match (request.method.as_str(), &parts[..]) {
        ("GET", ["2013-04-01", "hostedzonesbyname"]) => "ListHostedZonesByName",
        ("GET", ["2013-04-01", "hostedzone"]) => "ListHostedZones",
        ("GET", ["2013-04-01", "hostedzone", _]) => "GetHostedZone",
        ("GET", ["2013-04-01", "hostedzone", _, "rrset"]) => "ListResourceRecordSets",
        ("POST", ["2013-04-01", "hostedzone", _, "rrset"]) => "ChangeResourceRecordSets",
        ("GET", ["2013-04-01", "change", _]) => "GetChange",
        ("POST" | "GET", [""]) => "Sts",
        _ => "Unknown",
    }
}

impl State {
    fn perform(&mut self, call: &'static str, request: &Request) -> Result<String, Refused> {
        if call == "Sts" {
            return self.sts(request);
        }
        let key = self.authenticate(request, "route53")?;
        let action = format!("route53:{call}");
        if key.denied.contains(&call) {
            return Err(denied(
                &action,
                "no identity-based policy allows the action",
            ));
        }
        self.perform_for(&key, call, request)
    }

    fn perform_for(
        &mut self,
        key: &Key,
        call: &'static str,
        request: &Request,
    ) -> Result<String, Refused> {
        let id = request
            .path
            .trim_matches('/')
            .split('/')
            .nth(2)
            .unwrap_or_default();
        match call {
            "ListHostedZones" => Ok(self.list_zones(request)),
            "ListHostedZonesByName" => Ok(self.list_zones_by_name(request)),
            "GetHostedZone" => {
                let zone = self.zone(id).ok_or_else(|| no_zone(id))?;
                let servers: String = (zone.nameservers.iter())
                    .map(|name| format!("<NameServer>{name}</NameServer>"))
                    .collect();
                Ok(document(
                    "GetHostedZoneResponse",
                    &format!(
                        "{}<DelegationSet><NameServers>{servers}</NameServers></DelegationSet>",
                        zone_xml(zone)
                    ),
                ))
            }
            "ListResourceRecordSets" => {
                let page = self.page;
                let zone = self.zone(id).ok_or_else(|| no_zone(id))?;
                Ok(list_sets(zone, request, page))
            }
            "ChangeResourceRecordSets" => self.change(id, request, key, &format!("route53:{call}")),
            "GetChange" => {
                let left = self.changes.get_mut(id);
                let left = left.ok_or((
                    404,
                    "NoSuchChange",
                    format!("A change with the specified id {id} was not found."),
                ))?;
                let status = if *left == 0 { "INSYNC" } else { "PENDING" };
                *left = left.saturating_sub(1);
                Ok(document("GetChangeResponse", &change_info(id, status)))
            }
            _ => Err((404, "UnknownOperationException", "no such call".to_owned())),
        }
    }

    fn authenticate(&self, request: &Request, service: &str) -> Result<Key, Refused> {
        let incomplete = || {
            (
                403,
                "MissingAuthenticationToken",
                "Missing Authentication Token".to_owned(),
            )
        };
        let claim = signature::claim(request).ok_or_else(incomplete)?;
        let unknown = || {
            let message = "The security token included in the request is invalid.";
            (403, "InvalidClientTokenId", message.to_owned())
        };
        let key = self.keys.get(&claim.key).ok_or_else(unknown)?;
        let token = request.header("x-amz-security-token");
        if token != key.token.as_deref()
            || (token.is_some() && !claim.covers("x-amz-security-token"))
        {
            return Err(unknown());
        }
        let [_, region, named] = &claim.scope;
        let mismatch = |why: &str| (403, "SignatureDoesNotMatch", why.to_owned());
        if named != service || (service == "route53" && region != "us-east-1") {
            return Err(mismatch("Credential should be scoped to a valid region."));
        }
        if !claim.fits(request, &key.secret) {
            return Err(mismatch(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                 Access Key and signing method. Consult the service documentation for details.",
            ));
        }
        Ok(key.clone())
    }

    fn list_zones(&self, request: &Request) -> String {
        let marker = request
            .query("marker")
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        let end = (marker + self.page).min(self.zones.len());
        let zones: String = self.zones[marker..end].iter().map(zone_xml).collect();
        let more = match end < self.zones.len() {
            true => format!("<IsTruncated>true</IsTruncated><NextMarker>{end}</NextMarker>"),
            false => "<IsTruncated>false</IsTruncated>".to_owned(),
        };
        let rest = format!("<HostedZones>{zones}</HostedZones>{more}<MaxItems>100</MaxItems>");
        document("ListHostedZonesResponse", &rest)
    }

    fn list_zones_by_name(&self, request: &Request) -> String {
        let mut zones: Vec<&Zone> = self.zones.iter().collect();
        let place = |zone: &Zone| (reversed(&zone.name), zone.id.clone());
        zones.sort_by_key(|zone| place(zone));
        let name = request.query("dnsname").map(dotted).unwrap_or_default();
        let from = (
            reversed(&name),
            request.query("hostedzoneid").unwrap_or_default().to_owned(),
        );
        zones.retain(|zone| name == "." || place(zone) >= from);
        let asked = request.query("maxitems").and_then(|it| it.parse().ok());
        let most = asked.unwrap_or(100).min(self.page);
        let next = zones.get(most).map_or(String::new(), |zone| {
            format!(
                "<NextDNSName>{}</NextDNSName><NextHostedZoneId>{}</NextHostedZoneId>",
                shown(&zone.name),
                zone.id
            )
        });
        let truncated = zones.len() > most;
        let listed: String = zones.iter().take(most).map(|zone| zone_xml(zone)).collect();
        document(
            "ListHostedZonesByNameResponse",
            &format!(
                "<HostedZones>{listed}</HostedZones><DNSName>{name}</DNSName><IsTruncated>{truncated}</IsTruncated>{next}\
                 <MaxItems>{most}</MaxItems>"
            ),
        )
    }

    fn change(
        &mut self,
        id: &str,
        request: &Request,
        key: &Key,
        action: &str,
    ) -> Result<String, Refused> {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let steps = steps(&body).ok_or((400, "MalformedInput", "Unexpected element".to_owned()))?;
        for step in &steps {
            let name = step.set.name.trim_end_matches('.');
            let is_listed = step.set.kind == "TXT" && key.names.iter().any(|it| it == name);
            if !is_listed && !key.names.is_empty() {
                return Err(denied(action, "no identity-based policy allows the action"));
            }
        }
        let old_refusals = self.old_refusals;
        let zone = self.zone(id).ok_or_else(|| no_zone(id))?;
        match zone.change(&steps) {
            Ok(()) => {
                let id = format!("C{:04}", self.changes.len() + 1);
                self.changes.insert(id.clone(), self.pending);
                Ok(document(
                    "ChangeResourceRecordSetsResponse",
                    &change_info(&id, "PENDING"),
                ))
            }
            Err(wrong) if old_refusals => {
                let messages: String = (wrong.iter())
                    .map(|message| format!("<Message>{}</Message>", escaped(message)))
                    .collect();
                let rest = format!("<Messages>{messages}</Messages><RequestId>r-1</RequestId>");
                Err((400, "", document("InvalidChangeBatch", &rest)))
            }
            Err(wrong) => Err((400, "InvalidChangeBatch", format!("[{}]", wrong.join(", ")))),
        }
    }

    fn sts(&mut self, request: &Request) -> Result<String, Refused> {
        let form = http::pairs(&String::from_utf8_lossy(&request.body));
        let field = |name: &str| {
            let found = form.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        let action = field("Action").unwrap_or_default();
        match action.as_str() {
            "AssumeRole" => {
                self.authenticate(request, "sts")?;
                if field("ExternalId") != self.external_id {
                    return Err(denied("sts:AssumeRole", "the external id differs"));
                }
            }
            "AssumeRoleWithWebIdentity"
                if field("WebIdentityToken").as_deref() == Some("web-token") => {}
            _ => {
                return Err((
                    400,
                    "InvalidIdentityToken",
                    "No OpenIDConnect provider found".to_owned(),
                ));
            }
        }
        let (id, key) = self.session();
        let (secret, token) = (key.secret, key.token.unwrap_or_default());
        Ok(document(
            &format!("{action}Response"),
            &format!(
                "<{action}Result><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken>{token}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
                 </{action}Result>"
            ),
        ))
    }

    /// A new temporary key.
    fn session(&mut self) -> (String, Key) {
        self.sessions += 1;
        let id = format!("ASIAFAKEFAKEFAKE{:04}", self.sessions);
        let key = Key {
            secret: format!("session-secret-{}", self.sessions),
            token: Some(format!("session-token-{}", self.sessions)),
            ..Key::default()
        };
        self.keys.insert(id.clone(), key.clone());
        (id, key)
    }
}

fn denied(action: &str, why: &str) -> Refused {
    let message = format!(
        "User: arn:aws:iam::123456789012:user/dns is not authorized to perform: {action} because {why}"
    );
    (403, "AccessDenied", message)
}

fn no_zone(id: &str) -> Refused {
    (
        404,
        "NoSuchHostedZone",
        format!("No hosted zone found with ID: {id}"),
    )
}
