//! What the parts send each other, from their own trace events: every outside request is one.

use std::fmt;
use std::time::Duration;

use countersign_providers::clock::Clock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer};

/// One thing that happened.
pub(super) struct Seen {
    /// When, on the clock's own scale.
    pub(super) at: Duration,
    /// What it was.
    pub(super) step: Step,
}

/// What a trace event says.
pub(super) struct Step {
    /// Between whom.
    pub(super) between: &'static str,
    /// What it means.
    pub(super) said: String,
    /// What was really sent, in a word or two.
    pub(super) sent: String,
    /// The rest of it, where there is room.
    pub(super) more: String,
}

/// A layer that sees, and where to hear of it.
pub(super) fn listen<S: Subscriber>(
    clock: Clock,
) -> (Box<dyn Layer<S> + Send + Sync>, UnboundedReceiver<Seen>)
where
    S: for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let (sender, receiver) = unbounded_channel();
    let both = Targets::new()
        .with_target("countersign", Level::TRACE)
        .with_target("countersign_testca", Level::TRACE);
    let layer = Wire { clock, sender }.with_filter(both).boxed();
    (layer, receiver)
}

struct Wire {
    clock: Clock,
    sender: UnboundedSender<Seen>,
}

impl<S: Subscriber> Layer<S> for Wire {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(step) = fields.retold() {
            let at = self.clock.elapsed();
            // Whoever does not listen any more misses nothing.
            let _ = self.sender.send(Seen { at, step });
        }
    }
}

/// The fields of one event.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

const TO_AUTHORITY: &str = "→ authority";
const TO_NAMESERVER: &str = "→ nameserver";
const BY_AUTHORITY: &str = "authority → ns";
const OWN: &str = "countersign";

impl Fields {
    fn value(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The step that an event tells of; `None` for what only matters inside.
    fn retold(&self) -> Option<Step> {
        match self.value("message") {
            "ca reply" => Some(self.answered_by_authority()),
            "a name server answered" => Some(self.answered_by_nameserver()),
            "the built-in nameserver changed its zone" => Some(step(
                OWN,
                "changes the TXT records of its zone",
                "",
                format!(
                    "zone {}, serial {}",
                    self.value("zone"),
                    self.value("serial")
                ),
            )),
            "validated dns-01" => Some(match self.value("ok") {
                "true" => step(BY_AUTHORITY, "sees the value for itself", "TXT", ""),
                _ => step(BY_AUTHORITY, "does not find the value", "TXT", ""),
            }),
            "effect" if self.value("effect").starts_with("make-key") => Some(step(
                OWN,
                "draws a private key and seals it",
                "",
                "ECDSA P-256, saved before its first use",
            )),
            message if message.starts_with("installed at ") => Some(step(
                OWN,
                "puts the files in their place",
                "",
                "one rename: no mixed pair is ever seen",
            )),
            _ => None,
        }
    }

    fn answered_by_authority(&self) -> Step {
        let (said, more) = match self.value("kind") {
            "directory" => ("what do you offer, and where?", "GET, HTTPS"),
            "new-nonce" => ("a first nonce, please", "HEAD, HTTPS"),
            "new-account" => ("an account for my key, please", "POST, signed"),
            "new-order" => ("an order for both names, please", "POST, signed"),
            "order" => ("how is the order?", "POST-as-GET, signed"),
            "authorization" => ("what of the proof of this name?", "POST-as-GET, signed"),
            "challenge" => ("the proof is in the DNS, have a look", "POST, signed"),
            "finalize" => ("here is the CSR for both names", "POST, signed"),
            "certificate" => ("the certificate, please", "POST-as-GET, signed"),
            _ => ("a request", ""),
        };
        let sent = format!("{} {}", self.value("kind"), self.value("status"));
        step(TO_AUTHORITY, said, sent, more)
    }

    fn answered_by_nameserver(&self) -> Step {
        let (kind, answers) = (self.value("kind"), self.value("answers"));
        let said = match (kind, answers) {
            ("TXT", "0") => "what is at the challenge name? nothing",
            ("TXT", "1") => "is the value there? 1 value",
            ("TXT", "2") => "are the values there? 2 values",
            ("SOA", _) => "is that still its zone?",
            ("NS", _) => "which servers have that zone?",
            ("A", _) => "at which IPv4 addresses?",
            ("AAAA", _) => "and at which IPv6 ones?",
            _ => "a question",
        };
        let name = self.value("name").trim_end_matches('.');
        let more = format!("UDP, {kind} {name}, {}", self.value("code"));
        step(TO_NAMESERVER, said, kind, more)
    }
}

fn step(
    between: &'static str,
    said: &str,
    sent: impl Into<String>,
    more: impl Into<String>,
) -> Step {
    Step {
        between,
        said: said.to_owned(),
        sent: sent.into(),
        more: more.into(),
    }
}
