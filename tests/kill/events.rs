//! What the log of a run tells: what happened, in which order, and what was durable before the next thing was done.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::proxy::Seen;

/// Kind of every instant that the log knows of.
pub(super) const ANYWHERE: &str = "any line of the log";

/// What happens at one instant: a line of the log is several things when it is a commit of several keys.
pub(super) type Kinds = Vec<String>;

/// The log of one run, a line each.
#[derive(Default)]
pub(super) struct Log(pub(super) Vec<Value>);

impl Log {
    /// An effect of a certificate whose order is not in the store yet: save before act. What only looks changes nothing,
    /// and need not wait.
    pub(super) fn acted_before_saved(&self) -> Option<String> {
        let mut named: BTreeSet<String> = BTreeSet::new();
        for line in &self.0 {
            let field = |name: &str| line["fields"][name].as_str().unwrap_or_default();
            let certificate = field("certificate");
            match field("message") {
                "committed" => named.retain(|name| !saves(line, name)),
                "effect" if named.contains(certificate) && !only_looks(field("effect")) => {
                    return Some(line.to_string());
                }
                message if message.starts_with("order https://") => {
                    named.insert(certificate.to_owned());
                }
                _ => {}
            }
        }
        None
    }

    /// newOrder requests that may have made an order of which the store does not know: neither refused nor saved.
    pub(super) fn orders_not_committed(&self) -> usize {
        let (mut open, mut named) = (0, BTreeSet::<String>::new());
        for line in &self.0 {
            let fields = &line["fields"];
            let field = |name: &str| fields[name].as_str().unwrap_or_default();
            match (field("message"), field("kind")) {
                ("ca request", "new-order") => open += 1,
                ("ca reply", "new-order") if fields["status"].as_u64() >= Some(400) => open -= 1,
                ("committed", _) => {
                    let before = named.len();
                    named.retain(|name| !saves(line, name));
                    open -= before - named.len();
                }
                (message, _) if message.starts_with("order https://") => {
                    named.insert(field("certificate").to_owned());
                }
                _ => {}
            }
        }
        open
    }

    /// The end of what it logged, to be read by a person.
    pub(super) fn told(&self) -> String {
        let from = self.0.len().saturating_sub(40);
        let lines = self.0[from..].iter().map(|line| match line {
            Value::String(text) => text.clone(),
            line => format!(
                "{} {}",
                line["timestamp"].as_str().unwrap_or_default(),
                line["fields"]
            ),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// What a line of the log tells.
pub(super) fn kinds_of_line(line: &Value) -> Kinds {
    let field = |name: &str| line["fields"][name].as_str().unwrap_or_default();
    let mut kinds = vec![ANYWHERE.to_owned()];
    match field("message") {
        "ca request" => kinds.push(format!("ca {}: 1 request", field("kind"))),
        "ca reply" => kinds.push(format!("ca {}: 3 reply read", field("kind"))),
        "commit" => kinds.extend(keys(line).map(|kind| format!("commit {kind}: 1 begun"))),
        "committed" => kinds.extend(keys(line).map(|kind| format!("commit {kind}: 2 done"))),
        "provider call" => kinds.push("provider: 1 call".to_owned()),
        "provider reply" => kinds.push("provider: 3 call over".to_owned()),
        "effect" => kinds.extend(effect(line).map(|what| format!("effect {what}: 1 begun"))),
        "effect done" => kinds.extend(effect(line).map(|what| format!("effect {what}: 2 done"))),
        step @ ("store: making the seal key"
        | "store: making it"
        | "store: opening it"
        | "files: writing"
        | "files: linking") => kinds.push(step.to_owned()),
        _ => {}
    }
    kinds.sort();
    kinds.dedup();
    kinds
}

/// The kinds of keys of a commit; a removal is a kind of its own.
fn keys(line: &Value) -> impl Iterator<Item = String> {
    let keys = line["fields"]["keys"].as_str().unwrap_or_default();
    keys.split(' ')
        .filter_map(|key| Some(key.split_once('/')?.0.to_owned()))
}

/// Whether an instant is one of those at which TXT records come and go.
pub(super) fn is_of_records(kind: &str) -> bool {
    let parts = [
        "provider:",
        "commit ledger:",
        "commit -ledger:",
        "effect locate:",
        "effect present:",
        "effect observe:",
        "effect release:",
    ];
    parts.iter().any(|part| kind.starts_with(part))
}

/// What is done; `install` of `install/1795316447088/0`. Requests to the authority are kinds of their own.
fn effect(line: &Value) -> Option<&str> {
    let asks = [
        "authorization",
        "download",
        "finalize",
        "new-order",
        "order",
        "respond",
    ];
    let what = line["fields"]["effect"].as_str()?.split('/').next()?;
    (!asks.contains(&what)).then_some(what)
}

/// What the authority has answered.
pub(super) fn kind_of_answer(seen: &Seen) -> String {
    let kind = match seen.kind.as_str() {
        "newNonce" => "new-nonce",
        "newAccount" => "new-account",
        "newOrder" => "new-order",
        "authZ" => "authorization",
        "chalZ" => "challenge",
        "my-order" => "order",
        "finalize-order" => "finalize",
        "certZ" => "certificate",
        other => other,
    };
    format!("ca {kind}: 2 answered, reply on its way")
}

/// Whether a commit saved the attempt for `certificate`.
fn saves(committed: &Value, certificate: &str) -> bool {
    let fields = &committed["fields"];
    let keys = fields["keys"].as_str().unwrap_or_default();
    let attempt = format!("attempt/{certificate}");
    fields["ok"] == true && keys.split(' ').any(|key| key == attempt)
}

/// Whether an effect changes nothing at the authority, at a DNS host, or in the store.
fn only_looks(effect: &str) -> bool {
    let looks = ["authorization/", "locate/", "observe/", "order/"];
    looks.iter().any(|look| effect.starts_with(look))
}
