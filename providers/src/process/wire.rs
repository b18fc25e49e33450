//! The lines of the protocol: JSON-RPC 2.0, one object a line. No I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::ErrorKind;
use crate::meter::LONGEST_PAUSE;
use crate::record::{Change, DnsName, RrSet, Verb, Zone};

/// The version of the protocol that is spoken here.
pub(super) const VERSION: u64 = 1;
/// No line is longer, either way, without its end.
pub(crate) const MAX_LINE: usize = 1 << 20;
/// JSON-RPC's "method not found".
const NO_METHOD: i64 = -32601;

/// A whole line with its end. It may hold secrets.
pub(super) type Line = Zeroizing<Vec<u8>>;

/// What stands in every message to a plug-in.
#[derive(Serialize)]
struct Outgoing<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    params: P,
}

/// The parameters of a request: its own, and the time that is left.
#[derive(Serialize)]
struct Timed<'a, P> {
    #[serde(flatten)]
    params: &'a P,
    deadline_ms: u64,
}

/// A request that is to be answered within `patience`.
pub(super) fn request(
    id: u64,
    method: &str,
    params: &impl Serialize,
    patience: Duration,
) -> Result<Line, serde_json::Error> {
    let deadline_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    line(&Outgoing {
        jsonrpc: "2.0",
        id: Some(id),
        method,
        params: Timed {
            params,
            deadline_ms,
        },
    })
}

/// Nobody waits for the answer to `id` any more.
pub(super) fn cancel(id: u64) -> Result<Line, serde_json::Error> {
    #[derive(Serialize)]
    struct Params {
        id: u64,
    }
    notification("cancel", Params { id })
}

/// Nothing more will be asked.
pub(super) fn shutdown() -> Result<Line, serde_json::Error> {
    #[derive(Serialize)]
    struct Params {}
    notification("shutdown", Params {})
}

fn notification(method: &str, params: impl Serialize) -> Result<Line, serde_json::Error> {
    line(&Outgoing {
        jsonrpc: "2.0",
        id: None,
        method,
        params,
    })
}

/// The answer to whatever a plug-in asks: it has nothing to ask in this version.
pub(super) fn unsupported(id: &Value) -> Result<Line, serde_json::Error> {
    let message = "countersign answers nothing in this version of the protocol";
    line(&serde_json::json!({
        "jsonrpc": "2.0", "id": id, "error": {"code": NO_METHOD, "message": message},
    }))
}

fn line(message: &impl Serialize) -> Result<Line, serde_json::Error> {
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer(&mut *line, message)?;
    line.push(b'\n');
    Ok(line)
}

// --- what is asked ---------------------------------------------------------------------------------------------------

#[derive(Serialize)]
pub(super) struct ZonesParams<'a> {
    pub(super) name: &'a DnsName,
}

#[derive(Serialize)]
pub(super) struct ObserveParams<'a> {
    pub(super) zone: &'a Zone,
    pub(super) names: &'a [DnsName],
}

#[derive(Serialize)]
pub(super) struct ApplyParams<'a> {
    zone: &'a Zone,
    changes: Vec<WireChange<'a>>,
    believed: Vec<WireSet<'a>>,
}

#[derive(Serialize)]
pub(super) struct SettleParams<'a> {
    pub(super) receipt: &'a str,
}

#[derive(Serialize)]
struct WireChange<'a> {
    verb: &'static str,
    name: &'a DnsName,
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<&'a str>,
    ttl: u32,
}

#[derive(Serialize)]
struct WireSet<'a> {
    name: &'a DnsName,
    ttl: Option<u32>,
    values: &'a [String],
}

impl<'a> ApplyParams<'a> {
    pub(super) fn new(zone: &'a Zone, changes: &'a [Change], believed: &'a [RrSet]) -> Self {
        let change = |change: &'a Change| WireChange {
            verb: match change.verb {
                Verb::Ensure => "ensure",
                Verb::Absent => "absent",
            },
            name: &change.name,
            value: &change.value,
            ttl: change.ttl,
            handle: change.handle.as_deref(),
        };
        let set = |set: &'a RrSet| WireSet {
            name: &set.name,
            ttl: set.ttl,
            values: &set.values,
        };
        Self {
            zone,
            changes: changes.iter().map(change).collect(),
            believed: believed.iter().map(set).collect(),
        }
    }
}

// --- what is answered ------------------------------------------------------------------------------------------------

/// A line of a plug-in.
pub(super) enum Message {
    /// The answer to the request of that number.
    Answer(u64, Result<Value, Refusal>),
    /// A request of its own, with its `id`.
    Request(Value),
    /// Something that it says without being asked.
    Notification,
}

#[derive(Deserialize)]
struct Incoming {
    jsonrpc: String,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    error: Option<Refusal>,
}

/// The `error` of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    code: i64,
    pub(super) message: String,
    #[serde(default)]
    data: Value,
}

/// What `data` says of an error.
#[derive(Default, Deserialize)]
pub(super) struct Details {
    kind: Option<String>,
    retry_after: Option<f64>,
    /// The vendor's code.
    pub(super) code: Option<String>,
    pub(super) hint: Option<String>,
    #[serde(default)]
    pub(super) partly: bool,
}

/// The message on `line`; an error is what the plug-in did instead, in words.
pub(super) fn parse(line: &[u8]) -> Result<Message, String> {
    let no_message = |why: &dyn std::fmt::Display| {
        format!("wrote a line that is no message of the protocol ({why})")
    };
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(no_message(&"no JSON object"));
    }
    let incoming: Incoming = serde_json::from_slice(line).map_err(|error| no_message(&error))?;
    if incoming.jsonrpc != "2.0" {
        return Err("wrote a message that is not of JSON-RPC 2.0".to_owned());
    }
    let answer = match (incoming.method, incoming.result, incoming.error) {
        (Some(_), None, None) if incoming.id.is_null() => return Ok(Message::Notification),
        (Some(_), None, None) => return Ok(Message::Request(incoming.id)),
        (None, Some(result @ Value::Object(_)), None) => Ok(result),
        (None, None, Some(refusal)) => Err(refusal),
        _ => {
            return Err(
                "wrote a message that has neither an object as result nor an error".to_owned(),
            );
        }
    };
    match incoming.id.as_u64() {
        Some(id) => Ok(Message::Answer(id, answer)),
        None => Err("wrote an answer without the number of a request".to_owned()),
    }
}

impl Refusal {
    /// The class of the error, and what else is said of it; an error here is what the plug-in did wrong.
    pub(super) fn details(&self) -> Result<(ErrorKind, Details), String> {
        if self.code == NO_METHOD && self.data.is_null() {
            return Ok((ErrorKind::Unsupported, Details::default()));
        }
        let code = self.code;
        let details: Option<Details> = serde_json::from_value(self.data.clone())
            .map_err(|error| format!("the `data` of an error {code} is something else: {error}"))?;
        let details = details.unwrap_or_default();
        let Some(kind) = &details.kind else {
            return Err(format!("an error {code} has no `data.kind`"));
        };
        let longest = LONGEST_PAUSE.as_secs_f64();
        let after = details.retry_after.map(|after| after.min(longest));
        let after = after.and_then(|after| Duration::try_from_secs_f64(after).ok());
        let kind = match kind.as_str() {
            "auth" => ErrorKind::Auth,
            "permission" => ErrorKind::Permission,
            "zone-missing" => ErrorKind::ZoneMissing,
            "zone-ambiguous" => ErrorKind::ZoneAmbiguous,
            "conflict" => ErrorKind::Conflict,
            "rate-limited" => ErrorKind::RateLimited { after },
            "quota" => ErrorKind::Quota,
            "invalid" => ErrorKind::Invalid,
            "transient" => ErrorKind::Transient,
            "unsupported" => ErrorKind::Unsupported,
            "fatal" => ErrorKind::Fatal,
            other => return Err(format!("`{other}` is no kind of error")),
        };
        Ok((kind, details))
    }
}
