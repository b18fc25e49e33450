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
    /// Between whom.
    pub(super) between: &'static str,
    /// What it means.
    pub(super) said: String,
    /// What was really sent.
    pub(super) sent: String,
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
        if let Some((between, said, sent)) = fields.retold() {
            // Whoever does not listen any more misses nothing.
            let _ = self.sender.send(Seen {
                at: self.clock.elapsed(),
                between,
                said,
                sent,
            });
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

    /// Between whom, what it means, what was sent; `None` for what happens inside.
    fn retold(&self) -> Option<(&'static str, String, String)> {
        match self.value("message") {
            "ca reply" => {
                let kind = self.value("kind");
                Some((
                    TO_AUTHORITY,
                    asked(kind).to_owned(),
                    format!("{kind} {}", self.value("status")),
                ))
            }
            "a name server answered" => {
                let (name, kind) = (self.value("name").trim_end_matches('.'), self.value("kind"));
                let said = match kind {
                    "TXT" => format!("what is at {name}? {}", answers(self.value("answers"))),
                    "SOA" => "which zone is it in?".to_owned(),
                    "NS" => "which servers have the zone?".to_owned(),
                    _ => "at which address is that server?".to_owned(),
                };
                Some((
                    TO_NAMESERVER,
                    said,
                    format!("{kind}, {}", self.value("code")),
                ))
            }
            "the built-in nameserver changed its zone" => Some((
                OWN,
                "changes the TXT records of its zone".to_owned(),
                format!("serial {}", self.value("serial")),
            )),
            "validated dns-01" => {
                let found = match self.value("ok") {
                    "true" => "the value is there",
                    _ => "the value is not there",
                };
                Some((
                    BY_AUTHORITY,
                    format!("looks for itself: {found}"),
                    "TXT".to_owned(),
                ))
            }
            "files: done" => Some((
                OWN,
                "puts the files in their place".to_owned(),
                String::new(),
            )),
            "effect" if self.value("effect").starts_with("make-key") => Some((
                OWN,
                "draws a private key, keeps it sealed".to_owned(),
                "P-256".to_owned(),
            )),
            _ => None,
        }
    }
}

fn asked(kind: &str) -> &'static str {
    match kind {
        "directory" => "what do you offer, and where?",
        "new-nonce" => "a first nonce, please",
        "new-account" => "an account for my key, please",
        "new-order" => "an order for both names, please",
        "order" => "how is the order?",
        "authorization" => "what of this name's proof?",
        "challenge" => "the proof is in the DNS, have a look",
        "finalize" => "the names are proven; here is the CSR",
        "certificate" => "the certificate, please",
        _ => "a request",
    }
}

fn answers(number: &str) -> String {
    match number {
        "0" => "nothing yet".to_owned(),
        "1" => "1 value".to_owned(),
        more => format!("{more} values"),
    }
}
