//! The conversations in the specification are held, by both sides.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use countersign_providers::record::{Change, RrSet, Verb};
use countersign_providers::secret::SecretSource;
use countersign_providers::{ErrorKind, Receipt, Settled};

use super::*;

/// The conversations of the specification, each with the sides of its lines.
fn conversations() -> Vec<Vec<(char, Value)>> {
    let document = std::fs::read_to_string(root().join("providers/PROTOCOL.md")).unwrap();
    let mut all: Vec<Vec<(char, Value)>> = Vec::new();
    for block in document.split("```transcript\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            let (side, message) = line.split_once(' ').unwrap();
            let message: Value = serde_json::from_str(message).unwrap();
            if message["method"] == "initialize" {
                all.push(Vec::new());
            }
            let conversation = all.last_mut().expect("a conversation begins so");
            conversation.push((side.chars().next().unwrap(), message));
        }
    }
    assert_eq!(all.len(), 2, "conversations in the specification");
    all
}

/// Without what differs from run to run.
fn normal(mut message: Value) -> Value {
    if let Some(params) = message["params"].as_object_mut() {
        if let Some(deadline) = params.get_mut("deadline_ms") {
            assert!(deadline.as_u64().is_some_and(|it| it <= 60_000));
            *deadline = json!(0);
        }
        if let Some(host) = params.get_mut("host") {
            assert_eq!(host["version"], env!("CARGO_PKG_VERSION"));
            host["version"] = json!("");
        }
    }
    message
}

#[test]
fn the_sample_in_python_answers_as_the_specification_says() {
    let directory = TempDir::with_prefix("countersign-test-").unwrap();
    let mut sample = Command::new(root().join("providers/samples/example.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = sample.stdin.take().unwrap();
    let mut from = BufReader::new(sample.stdout.take().unwrap());
    for (side, mut message) in conversations().swap_remove(0) {
        if side == '→' {
            if message["method"] == "initialize" {
                message["params"]["config"]["file"] = json!(directory.path().join("records"));
            }
            writeln!(to, "{message}").unwrap();
        } else {
            let mut line = String::new();
            from.read_line(&mut line).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), message);
        }
    }
    // `shutdown` came last, and the pipe is still open.
    assert!(sample.wait().unwrap().success());
}

/// A plug-in that says what the specification says, and what it heard.
struct Replayed {
    directory: TempDir,
    conversation: Vec<(char, Value)>,
}

impl Replayed {
    fn new(nth: usize) -> Self {
        let conversation = conversations().swap_remove(nth);
        let lines = conversation
            .iter()
            .map(|(side, message)| format!("{side} {message}\n"));
        let directory = TempDir::with_prefix("countersign-test-").unwrap();
        std::fs::write(directory.path().join("lines"), lines.collect::<String>()).unwrap();
        std::fs::write(directory.path().join("secret"), "s3cr3t\n").unwrap();
        Self {
            directory,
            conversation,
        }
    }

    fn plugin(&self, config: Value) -> Process {
        let program = text(&root().join("tests/process/replay.py"));
        let [lines, heard] = ["lines", "heard"].map(|it| text(&self.directory.path().join(it)));
        let mut settings = settings(&[&program, &lines, &heard], config);
        if settings.config.contains_key("zone") {
            let source = SecretSource::File(self.directory.path().join("secret"));
            settings.secrets.insert("token".to_owned(), source);
        }
        Process::new(settings)
    }

    /// So far Countersign wrote what the specification says.
    fn is_heard(&self) -> bool {
        let wanted: Vec<Value> = (self.conversation.iter())
            .filter(|(side, _)| *side == '→')
            .map(|(_, message)| normal(message.clone()))
            .collect();
        let heard = std::fs::read_to_string(self.directory.path().join("heard"));
        let heard = heard.unwrap_or_default();
        let heard: Vec<Value> = (heard.lines())
            .map(|line| normal(serde_json::from_str(line).unwrap()))
            .collect();
        for (heard, wanted) in heard.iter().zip(&wanted) {
            assert_eq!(heard, wanted);
        }
        heard.len() == wanted.len()
    }
}

fn change(verb: Verb, at: &str, value: &str, ttl: u32) -> Change {
    Change {
        verb,
        name: name(at),
        value: value.to_owned(),
        ttl,
        handle: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn countersign_speaks_as_the_specification_says() {
    let replayed = Replayed::new(0);
    let plugin = replayed.plugin(json!({"zone": "example.com", "file": "FILE"}));
    let context = context(&Clock::system());
    let held = zone("example.com");
    let (www, apex) = (
        "_acme-challenge.www.example.com",
        "_acme-challenge.example.com",
    );
    let elsewhere = "_acme-challenge.example.net";
    let value = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    let zones = plugin.zones(&name(www), &context).await;
    assert_eq!(zones, Ok(vec![held.clone().into()]));
    assert_eq!(plugin.traits().batch, 500);
    let zones = plugin.zones(&name(elsewhere), &context).await;
    assert_eq!(zones, Ok(vec![]));
    let changes = [
        change(Verb::Ensure, www, value, 60),
        change(Verb::Absent, apex, "gone", 0),
    ];
    let believed = [RrSet {
        name: name(apex),
        ttl: Some(60),
        values: vec!["gone".to_owned()],
    }];
    let applied = plugin.apply(&held, &changes, &believed, &context).await;
    assert_eq!(applied, Ok(Receipt::default()));
    let changes = [change(Verb::Ensure, elsewhere, "elsewhere", 60)];
    let refused = plugin.apply(&held, &changes, &[], &context).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid);
    let words = "says: _acme-challenge.example.net is not in the zone example.com";
    assert!(refused.message.ends_with(words), "{refused}");
    let names = [name(www), name(apex)];
    let seen = plugin.observe(&held, &names, &context).await.unwrap();
    assert_eq!(
        (seen[0].ttl, &seen[0].values[..]),
        (Some(60), &[value.to_owned()][..])
    );
    assert_eq!((seen[1].ttl, seen[1].values.len()), (None, 0));
    drop(plugin);
    assert!(eventually(SOON, || replayed.is_heard()));
}

#[tokio::test(flavor = "multi_thread")]
async fn countersign_settles_and_cancels_as_the_specification_says() {
    let replayed = Replayed::new(1);
    let plugin = replayed.plugin(json!({}));
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let context = context(&clock);
    let held = plugin.zones(&name("example.com"), &context).await.unwrap();
    assert_eq!(held[0].zone.id, "Z1");
    let nameservers = ["ns1.example.net", "ns2.example.net"].map(name);
    assert_eq!(held[0].nameservers, nameservers);
    let traits = plugin.traits();
    assert_eq!(traits.model, countersign_providers::RecordModel::Slots(2));
    assert_eq!(traits.propagation, Duration::from_secs(60));
    let rate = traits.rate.unwrap();
    assert_eq!((rate.burst, rate.every), (10, Duration::from_millis(500)));
    let changes = [change(Verb::Ensure, "example.com", "v", 60)];
    let receipt = plugin.apply(&held[0].zone, &changes, &[], &context).await;
    let ticket = receipt.unwrap().ticket.unwrap();
    assert_eq!(plugin.settle(&ticket, &context).await, Ok(Settled::NotYet));
    let late = plugin.settle(&ticket, &context);
    let (late, ()) = tokio::join!(late, async { hands.advance(PATIENCE) });
    assert_eq!(late.unwrap_err().kind, ErrorKind::Transient);
    let context = super::context(&clock);
    let refused = plugin.settle(&ticket, &context).await.unwrap_err();
    let after = Some(Duration::from_secs(30));
    assert_eq!(refused.kind, ErrorKind::RateLimited { after });
    assert_eq!(refused.code.as_deref(), Some("Throttling"));
    assert_eq!(refused.hint.as_deref(), Some("ask for a higher limit"));
    // The host wants to be left alone, which everybody with this credential does.
    assert_eq!(context.meter.wait(&clock), Duration::from_secs(30));
    assert!(replayed.is_heard());
}
