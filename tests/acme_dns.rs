//! acme-dns, on a server of a few lines with its two values a name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use countersign_providers::acme_dns::{AcmeDns, Settings};
use countersign_providers::clock::{Clock, earlier, later};
use countersign_providers::contract::{Fixture, absent, ensure, skipped};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::secret::SecretSource;
use countersign_providers::{
    Context, ErrorKind, Provider as _, ProviderError, Receipt, RecordModel,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::rest::{Answer, Ask, Raw, answer};

/// More than any verb needs, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a value of a challenge is (RFC 8555 section 8.4), and how long the server wants it.
const LENGTH: usize = 43;

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

fn full(subdomain: &str) -> DnsName {
    name(&format!("{subdomain}.auth.example.test"))
}

fn password(subdomain: &str) -> String {
    format!("c4n4ry-of-{subdomain}")
}

/// Like the value of a challenge, another one for each letter.
fn value(letter: &str) -> String {
    letter.repeat(LENGTH)
}

fn context() -> Context {
    let clock = Clock::system();
    let deadline = later(clock.now(), PATIENCE);
    Context::new(clock, deadline)
}

/// The values of each subdomain, the oldest first.
type Kept = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// A server where `one` and `two` were registered, and the file of their accounts.
struct Server {
    raw: Raw,
    kept: Kept,
    directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        let kept = Kept::default();
        let subdomains = ["one", "two"].map(|it| (it.to_owned(), Vec::new()));
        kept.lock().unwrap().extend(subdomains);
        let there = Arc::clone(&kept);
        let raw = Raw::start("/acme", move |ask| update(ask, &mut there.lock().unwrap()));
        let server = Self {
            raw: raw.await,
            kept,
            directory: TempDir::with_prefix("countersign-test-").unwrap(),
        };
        server.register(json!({
            "a.test": server.entry("one", &password("one")),
            "b.test": server.entry("two", &password("two")),
        }));
        server
    }

    /// As lego writes it down.
    fn entry(&self, subdomain: &str, password: &str) -> Value {
        json!({
            "fulldomain": full(subdomain).as_str(),
            "subdomain": subdomain,
            "username": format!("user-{subdomain}"),
            "password": password,
            "server_url": self.raw.endpoint(),
        })
    }

    fn register(&self, accounts: Value) {
        std::fs::write(self.file(), accounts.to_string()).unwrap();
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("acmedns.json")
    }

    fn plugin(&self) -> AcmeDns {
        AcmeDns::new(Settings {
            url: self.raw.endpoint().parse().unwrap(),
            accounts: SecretSource::File(self.file()),
        })
    }

    async fn apply(&self, changes: &[Change]) -> Result<Receipt, ProviderError> {
        let zone = Zone {
            name: changes[0].name.clone(),
            id: changes[0].name.to_string(),
        };
        let applied = self.plugin().apply(&zone, changes, &[], &context()).await;
        if let Err(error) = &applied {
            assert!(!format!("{error:?}").contains("c4n4ry"), "{error:?}");
        }
        applied
    }

    fn served(&self, subdomain: &str) -> Vec<String> {
        self.kept.lock().unwrap()[subdomain].clone()
    }
}

#[async_trait]
impl Fixture for Server {
    fn zone(&self) -> Zone {
        Zone {
            name: full("one"),
            id: full("one").to_string(),
        }
    }

    fn name(&self, _: &str) -> DnsName {
        // There is one account, and it is good for one name.
        full("one")
    }

    fn forbidden(&self) -> Option<DnsName> {
        Some(full("nobodys"))
    }

    fn context(&self) -> Context {
        context()
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        let subdomain = name.as_str().split('.').next().unwrap_or_default();
        let kept = self.kept.lock().unwrap();
        RrSet {
            name: name.clone(),
            ttl: kept.contains_key(subdomain).then_some(1),
            values: kept.get(subdomain).cloned().unwrap_or_default(),
        }
    }

    fn ttl(&self, _: u32) -> u32 {
        1
    }

    async fn add_foreign(&self, name: &DnsName, _: &str, _: u32) {
        panic!("nobody else can write at {name}");
    }
}

/// A value stays until two newer ones push it out, so that most cases are not about such a host.
#[tokio::test(flavor = "multi_thread")]
async fn it_passes_what_of_the_kit_is_about_slots() {
    let server = Server::start().await;
    let skipped = skipped(&server.plugin(), &server).await;
    let passed = [
        "zone-of-name",
        "zone-of-apex",
        "zone-deep",
        "zone-again",
        "zone-suffix",
        "zone-elsewhere",
        "slots",
        "nothing-to-do",
        "observe-none",
        "refused-name",
        "late-change",
        "settle-strange",
        "sentences",
    ];
    assert!(passed.iter().all(|it| !skipped.contains(it)), "{skipped:?}");
    assert_eq!(skipped.len(), 47, "{skipped:?}");
}

/// What the server does with a request, as its README has it.
fn update(ask: &Ask, kept: &mut BTreeMap<String, Vec<String>>) -> Answer {
    assert_eq!(ask.route(), ("POST", vec!["update"]));
    assert_eq!(ask.header("content-type"), Some("application/json"));
    let subdomain = ask.body["subdomain"].as_str().unwrap();
    let value = ask.body["txt"].as_str().unwrap();
    let user = ask.header("x-api-user") == Some(&format!("user-{subdomain}"));
    let key = ask.header("x-api-key") == Some(&password(subdomain));
    let Some(values) = kept.get_mut(subdomain).filter(|_| user && key) else {
        return answer(401, json!({"error": "forbidden"}));
    };
    if value.len() != LENGTH {
        return answer(400, json!({"error": "bad_txt"}));
    }
    values.push(value.to_owned());
    let older = values.len().saturating_sub(2);
    values.drain(..older);
    answer(200, json!({"txt": value}))
}

#[tokio::test]
async fn holds_the_names_of_its_accounts_and_no_others() {
    let server = Server::start().await;
    let plugin = server.plugin();
    assert_eq!(plugin.traits().model, RecordModel::Slots(2));
    let held = plugin.zones(&full("two"), &context()).await.unwrap();
    let names: Vec<&DnsName> = held.iter().map(|it| &it.zone.name).collect();
    assert_eq!(names, [&full("two")]);
    for other in ["three.auth.example.test", "auth.example.test", "b.test"] {
        let held = plugin.zones(&name(other), &context()).await;
        assert_eq!(held, Ok(vec![]), "{other}");
    }
    assert_eq!(server.raw.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn two_values_live_at_a_name_and_a_third_pushes_the_oldest_out() {
    let server = Server::start().await;
    let at = full("one");
    let both = [ensure(&at, &value("a")), ensure(&at, &value("b"))];
    assert_eq!(server.apply(&both).await, Ok(Receipt::default()));
    assert_eq!(server.served("one"), [value("a"), value("b")]);
    server.apply(&[ensure(&at, &value("c"))]).await.unwrap();
    assert_eq!(server.served("one"), [value("b"), value("c")]);
    assert_eq!(server.served("two"), Vec::<String>::new());
}

#[tokio::test]
async fn a_value_that_is_to_be_gone_stays_without_a_call() {
    let server = Server::start().await;
    let at = full("one");
    server.apply(&[ensure(&at, &value("a"))]).await.unwrap();
    server.apply(&[absent(&at, &value("a"))]).await.unwrap();
    server.apply(&[absent(&full("gone"), "x")]).await.unwrap();
    assert_eq!(server.served("one"), [value("a")]);
    assert_eq!(server.raw.calls(), ["POST /acme/update"]);
    let change = [absent(&at, &value("a")), ensure(&at, &value("b"))];
    server.apply(&change).await.unwrap();
    assert_eq!(server.served("one"), [value("a"), value("b")]);
}

#[tokio::test]
async fn the_accounts_are_read_anew_at_each_use() {
    let server = Server::start().await;
    let plugin = server.plugin();
    server.register(json!({}));
    assert_eq!(plugin.zones(&full("one"), &context()).await, Ok(vec![]));
    let error = server.apply(&[ensure(&full("one"), &value("a"))]).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ZoneMissing);
    let file = server.file();
    let wanted = format!(
        "file {} has no account for one.auth.example.test",
        file.display()
    );
    assert_eq!(error.message, wanted);
    server.register(json!({"a.test": server.entry("one", &password("one"))}));
    let held = plugin.zones(&full("one"), &context()).await.unwrap();
    assert_eq!(held.len(), 1);
    server.register(json!({"a.test": {"password": "c4n4ry"}}));
    let error = plugin.zones(&full("one"), &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    let wanted = format!(
        "the accounts of {} cannot be had: file {} has an entry `a.test` without `username`",
        server.raw.host(),
        file.display()
    );
    assert_eq!(error.message, wanted);
    std::fs::remove_file(&file).unwrap();
    let error = plugin.zones(&full("one"), &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(error.message.contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_wrong_key_is_named_and_leaves_the_other_accounts_good() {
    let server = Server::start().await;
    server.register(json!({
        "a.test": server.entry("one", "c4n4ry-wrong"),
        "b.test": server.entry("two", &password("two")),
    }));
    let error = server.apply(&[ensure(&full("one"), &value("a"))]).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permission);
    assert_eq!(error.code.as_deref(), Some("forbidden"));
    assert!(!error.partly);
    let wanted = format!(
        "{} answers /update of one.auth.example.test with 401 forbidden",
        server.raw.host()
    );
    assert_eq!(error.message, wanted);
    let change = ensure(&full("two"), &value("b"));
    server.apply(std::slice::from_ref(&change)).await.unwrap();
    let changes = [change, ensure(&full("one"), &value("a"))];
    let error = server.apply(&changes).await.unwrap_err();
    assert!(error.partly, "the first one was made");
}

#[tokio::test]
async fn a_key_that_cannot_stand_in_a_header_is_never_sent() {
    let server = Server::start().await;
    server.register(json!({"a.test": server.entry("one", "c4n4ry\nx")}));
    let error = server.apply(&[ensure(&full("one"), &value("a"))]).await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::Auth);
    assert_eq!(server.raw.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_value_of_another_length_is_refused_by_the_server() {
    let server = Server::start().await;
    let error = server.apply(&[ensure(&full("one"), "short")]).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(error.code.as_deref(), Some("bad_txt"));
    assert_eq!(server.served("one"), Vec::<String>::new());
}

#[tokio::test]
async fn hostile_replies_are_no_success_and_give_no_secret_away() {
    let server = Server::start().await;
    let key = password("one");
    let echo = json!({"error": format!("{key} \u{1b}[31m")}).to_string();
    let number = json!({"txt": [format!("{key}")]}).to_string();
    let long = "x".repeat(100_000);
    for (status, body, kind) in [
        (200, "", ErrorKind::Fatal),
        (200, "{}", ErrorKind::Fatal),
        (200, number.as_str(), ErrorKind::Fatal),
        (200, r#"{"txt": "another"}"#, ErrorKind::Fatal),
        (204, "", ErrorKind::Fatal),
        (302, "", ErrorKind::Fatal),
        (400, echo.as_str(), ErrorKind::Invalid),
        (401, key.as_str(), ErrorKind::Permission),
        (404, "<html>", ErrorKind::Invalid),
        (429, "", ErrorKind::RateLimited { after: None }),
        (500, r#"{"error": "db_error"}"#, ErrorKind::Transient),
        (502, long.as_str(), ErrorKind::Transient),
    ] {
        server.raw.say(status, body);
        let error = server.apply(&[ensure(&full("one"), &value("a"))]).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind, kind, "{status}: {error}");
        assert!(error.message.len() < 1_000, "{status}");
        assert!(!error.message.contains('\u{1b}'), "{status}");
        assert!(error.message.contains(&server.raw.host()), "{error}");
    }
}

#[tokio::test]
async fn gives_up_in_time_and_cannot_say_what_is_there() {
    let server = Server::start().await;
    let (plugin, mut context) = (server.plugin(), context());
    let zone = Zone {
        name: full("one"),
        id: String::new(),
    };
    let seen = plugin.observe(&zone, &[full("one")], &context).await;
    assert_eq!(seen.unwrap_err().kind, ErrorKind::Unsupported);
    assert_eq!(plugin.observe(&zone, &[], &context).await, Ok(vec![]));
    context.deadline = earlier(context.clock.now(), Duration::from_secs(1));
    let change = [ensure(&full("one"), &value("a"))];
    let late = plugin.apply(&zone, &change, &[], &context).await;
    assert_eq!(late.unwrap_err().kind, ErrorKind::Transient);
    assert_eq!(server.raw.calls(), Vec::<String>::new());
}
