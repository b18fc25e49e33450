//! Google Cloud DNS, Azure DNS and OVHcloud, each against a stand-in of its API, and the vendor's own client against the
//! same stand-in, so that one that only ours likes is found out.

mod azuredns;
mod calls;
mod googlecloud;
mod ovh;
mod peers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use countersign_providers::contract::{absent, ensure};
use countersign_providers::record::{Change, DnsName, Zone};
use countersign_providers::secret::SecretSource;
use countersign_providers::{Context, ErrorKind, Provider, ProviderError};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::rest::{Answer, answer};

const ZONE: &str = "example.test";
const VALUE: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
/// More than any verb needs, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often each of two writers changes the same names.
const ROUNDS: usize = 100;
/// What no message may show.
const CANARY: &str = "canary-7f3a9c-of-nobody";

fn context() -> Context {
    let clock = Clock::system();
    let deadline = later(clock.now(), PATIENCE);
    Context::new(clock, deadline)
}

fn name(label: &str) -> DnsName {
    DnsName::parse(&format!("{label}.{ZONE}")).unwrap()
}

fn apex() -> DnsName {
    DnsName::parse(ZONE).unwrap()
}

/// Secrets in files.
struct Secrets(TempDir);

impl Secrets {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> SecretSource {
        std::fs::write(self.path(name), format!("{text}\n")).unwrap();
        SecretSource::File(self.path(name))
    }
}

fn hundred(verb: fn(&DnsName, &str) -> Change) -> Vec<Change> {
    let name = |n| name(&format!("_acme-challenge.h{n}"));
    (0..100).map(|n| verb(&name(n), VALUE)).collect()
}

/// As the core does when somebody else was faster.
async fn insist(plugin: &dyn Provider, zone: &Zone, changes: &[Change]) {
    for _ in 0..40 {
        match plugin.apply(zone, changes, &[], &context()).await {
            Ok(_) => return,
            Err(error) if error.kind == ErrorKind::Conflict => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("overtaken forty times");
}

/// Two processes change one name, each its own value, and make names of their own.
async fn two_writers(plugins: [Arc<dyn Provider>; 2], zone: &Zone) {
    let writers = plugins.into_iter().enumerate().map(|(writer, plugin)| {
        let zone = zone.clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let (shared, own) = (name("shared"), name(&format!("own-{round}")));
                let value = format!("{writer}-{round}");
                let changes = [ensure(&shared, &value), ensure(&own, "both want this")];
                insist(&*plugin, &zone, &changes).await;
                if round > 0 {
                    let old = format!("{writer}-{}", round - 1);
                    let gone = [
                        absent(&shared, &old),
                        absent(&name(&format!("own-{}", round - 1)), &value),
                    ];
                    insist(&*plugin, &zone, &gone).await;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// Replies that are none, with the status of success.
fn no_replies() -> Vec<Answer> {
    let texts = ["", "{", "[]", "null", "17", "\u{0}", "<html>hello</html>"];
    let odd = [
        json!({"rrsets": {}, "managedZones": {}, "value": {}}),
        json!({"rrsets": [17], "managedZones": [null], "value": ["x"]}),
        json!({"rrsets": [{"name": 5}], "managedZones": [{"name": []}], "value": [{"name": 5}]}),
    ];
    let texts = texts.iter().map(|text| answer(200, json!(text)));
    texts
        .chain(odd.into_iter().map(|body| answer(200, body)))
        .collect()
}

/// The error as golden files have it.
fn shown(error: &ProviderError, host: &str) -> String {
    let code = error.code.as_deref().unwrap_or("(none)");
    let kind = format!("{:?}", error.kind);
    let kind = kind.split(' ').next().unwrap_or_default();
    let message = error.message.replace(host, "HOST");
    let hint = error.hint.as_deref().unwrap_or("(none)");
    assert!(!message.ends_with('.') && !hint.ends_with('.'), "{error:?}");
    format!("{code}: {kind}\n  {message}\n  hint: {hint}\n")
}

fn without_canary(error: &ProviderError) {
    let all = format!("{error:?}");
    assert!(!all.contains(&CANARY[..12]), "{all}");
}

/// An address that nobody listens at.
fn nobody() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", socket.local_addr().unwrap())
}

/// What else secrets are like: far longer than what is shown of a host's words, or standing where these are cut off.
fn canaries() -> [(String, String); 3] {
    let own = |text: String| (text.clone(), text);
    let late = format!("{} {CANARY}", "x".repeat(270));
    [
        own(CANARY.to_owned()),
        own(CANARY.repeat(44)),
        (CANARY.to_owned(), late),
    ]
}

/// A reply that repeats the secret in every place.
fn echo(status: u16, secret: &str) -> Answer {
    let text = format!("what a token: {secret}");
    let error = json!({
        "message": text, "code": text, "error": text, "errorCode": secret, "error_description": text,
        "errors": [{"reason": secret, "message": text}],
    });
    let mut body = error.clone();
    body["error"] = error;
    body["rrsets"] = json!(text);
    body["value"] = json!(text);
    body["managedZones"] = Value::String(text.clone());
    answer(status, body)
}
