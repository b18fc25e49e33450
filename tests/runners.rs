//! What people wrote for other clients: a script for lego, a server for lego, and certbot's hooks.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_providers::clock::{Clock, earlier, later};
use countersign_providers::contract::{absent, ensure};
use countersign_providers::record::{Change, DnsName, Zone};
use countersign_providers::runners::{
    AcmeSh, CertbotHooks, LegoExec, LegoHttpreq, WriteOnly, Writer,
};
use countersign_providers::secret::SecretSource;
use countersign_providers::{Context, ErrorKind, Provider as _, ProviderError, Receipt};
use serde_json::json;
use tempfile::TempDir;

use crate::support::webhook::{Answer, Webhook};

/// More than any verb needs, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "c4n4ry-0123456789";

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

fn challenge() -> DnsName {
    name("_acme-challenge.www.example.test")
}

fn context() -> Context {
    let clock = Clock::system();
    let deadline = later(clock.now(), PATIENCE);
    Context::new(clock, deadline)
}

async fn apply<W: Writer>(writer: W, changes: &[Change]) -> Result<Receipt, ProviderError> {
    let zone = Zone {
        name: name("example.test"),
        id: "example.test".to_owned(),
    };
    let host = WriteOnly::new(writer, Vec::new());
    host.apply(&zone, changes, &[], &context()).await
}

/// A script in a directory of its own, where it may leave something.
struct Script {
    directory: TempDir,
    program: PathBuf,
}

impl Script {
    /// `{out}` in it stands for a file.
    fn new(lines: &str) -> Self {
        let directory = TempDir::with_prefix("countersign-test-").unwrap();
        let program = directory.path().join("script");
        let out = directory.path().join("out");
        let lines = lines.replace("{out}", out.to_str().unwrap());
        std::fs::write(&program, format!("#!/bin/sh\n{lines}\n")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        std::fs::write(directory.path().join("secret"), SECRET).unwrap();
        Self { directory, program }
    }

    fn command(&self) -> Vec<String> {
        vec![self.program.to_str().unwrap().to_owned()]
    }

    fn env(&self) -> BTreeMap<String, SecretSource> {
        let secret = SecretSource::File(self.directory.path().join("secret"));
        [("DNS_TOKEN".to_owned(), secret)].into()
    }

    fn exec(&self) -> LegoExec {
        LegoExec {
            command: self.command(),
            env: self.env(),
        }
    }

    fn hooks(&self) -> CertbotHooks {
        let hook = |word: &str| [self.command(), vec![word.to_owned()]].concat();
        CertbotHooks {
            auth: hook("auth"),
            cleanup: hook("cleanup"),
            env: self.env(),
        }
    }

    fn out(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("out")).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_script_for_lego_gets_verb_name_and_value() {
    let script = Script::new("printf '%s|' \"$@\" \"$DNS_TOKEN\" \"${CARGO_PKG_NAME-}\" >>{out}");
    let name = challenge();
    let changes = [ensure(&name, "-$(id) \"x\""), absent(&name, "old")];
    apply(script.exec(), &changes).await.unwrap();
    let fqdn = "_acme-challenge.www.example.test.";
    let wanted = format!("present|{fqdn}|-$(id) \"x\"|{SECRET}||cleanup|{fqdn}|old|{SECRET}||");
    assert_eq!(script.out(), wanted);
}

#[tokio::test]
async fn a_script_that_fails_says_why_without_its_secrets() {
    let lines = "[ $1 = present ] && exit 0; echo \"bad token $DNS_TOKEN\" >&2; exit 3";
    let script = Script::new(lines);
    let name = challenge();
    let error = apply(script.exec(), &[absent(&name, "old")])
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.partly), (ErrorKind::Transient, false));
    let program = &script.command()[0];
    let words = "ended with exit status 3 for _acme-challenge.www.example.test: bad token (secret)";
    assert_eq!(error.message, format!("{program} {words}"));
    let changes = [ensure(&name, "new"), absent(&name, "old")];
    let error = apply(script.exec(), &changes).await.unwrap_err();
    assert!(error.partly, "the first one was made");
}

#[tokio::test]
async fn a_script_that_cannot_be_run_or_has_no_time_is_named() {
    let script = Script::new("exit 0");
    let mut gone = script.exec();
    gone.command = vec!["/no/such/script".to_owned()];
    let change = [ensure(&challenge(), "v")];
    let error = apply(gone, &change).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
    assert!(
        error
            .message
            .starts_with("/no/such/script could not be started: ")
    );
    let mut secretless = script.exec();
    let missing = SecretSource::File("/no/such/secret".into());
    secretless.env.insert("DNS_KEY".to_owned(), missing);
    let error = apply(secretless, &change).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(
        error.message.starts_with("the variable DNS_KEY of "),
        "{error}"
    );
    let host = WriteOnly::new(script.exec(), Vec::new());
    let mut late = context();
    late.deadline = earlier(late.clock.now(), Duration::from_secs(1));
    let zone = Zone {
        name: name("example.test"),
        id: String::new(),
    };
    let error = host.apply(&zone, &change, &[], &late).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert_eq!(script.out(), "");
}

#[tokio::test]
async fn certbot_hooks_are_told_in_their_environment() {
    let lines = "{ echo \"$1 $DNS_TOKEN\"; env | grep ^CERTBOT_ | sort; } >>{out}; echo handle";
    let script = Script::new(lines);
    let name = challenge();
    let put = apply(script.hooks(), &[ensure(&name, "new")])
        .await
        .unwrap();
    let gone = Change {
        handle: put.handles[0].clone(),
        ..absent(&name, "new")
    };
    apply(script.hooks(), &[gone]).await.unwrap();
    let told = |value: &str, more: &str| {
        format!(
            "CERTBOT_ALL_DOMAINS=www.example.test\nCERTBOT_ALL_IDENTIFIERS=www.example.test\n{more}\
             CERTBOT_DOMAIN=www.example.test\nCERTBOT_IDENTIFIER=www.example.test\n\
             CERTBOT_REMAINING_CHALLENGES=0\nCERTBOT_VALIDATION={value}\n"
        )
    };
    let (put, taken) = (told("new", ""), told("new", "CERTBOT_AUTH_OUTPUT=handle\n"));
    let wanted = format!("auth {SECRET}\n{put}cleanup {SECRET}\n{taken}");
    assert_eq!(script.out(), wanted);
}

/// As a shell drops it: else the value could never be taken away.
#[tokio::test]
async fn a_nul_that_a_certbot_hook_prints_does_not_keep_the_other_one_from_running() {
    let script = Script::new("printf 'id\\0-7\\n'; echo \"$1 $CERTBOT_AUTH_OUTPUT\" >>{out}");
    let name = challenge();
    let put = apply(script.hooks(), &[ensure(&name, "new")]).await;
    let gone = Change {
        handle: put.unwrap().handles[0].clone(),
        ..absent(&name, "new")
    };
    apply(script.hooks(), &[gone]).await.unwrap();
    assert_eq!(script.out(), "auth \ncleanup id-7\n");
}

#[tokio::test]
async fn what_a_certbot_hook_prints_is_kept_without_its_secrets() {
    let long = "x".repeat(2030);
    for (prints, kept) in [
        ("echo id-$DNS_TOKEN-7", "id-(secret)-7"),
        ("echo $DNS_TOKEN", "(secret)"),
        // More than 2048 octets are not kept, and this cut is in the secret.
        (&format!("echo {long}id$DNS_TOKEN-7"), &format!("{long}id")),
    ] {
        let script = Script::new(prints);
        let change = [ensure(&challenge(), "new")];
        let put = apply(script.hooks(), &change).await.unwrap();
        assert_eq!(put.handles, [Some(kept.to_owned())]);
    }
}

#[tokio::test]
async fn certbot_hooks_write_at_challenge_names_only() {
    let script = Script::new("exit 0");
    let change = [ensure(&name("acme.elsewhere.test"), "v")];
    let error = apply(script.hooks(), &change).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("acme.elsewhere.test"), "{error}");
}

/// An acme.sh of a few lines, as its contract with `dnsapi` has it: sourced without arguments it prints and leaves
/// functions behind; a script gets what is kept by one helper and saves it by others.
pub(crate) const ACME_SH: &str = r#"
[ $# = 0 ] || exit 9
_initpath() { ACCOUNT_CONF_PATH="$LE_WORKING_DIR/account.conf"; LOG_FILE="$LE_WORKING_DIR/log"; }
_readaccountconf_mutable() { sed -n "s/^SAVED_$1=//p" "$ACCOUNT_CONF_PATH"; }
_save_conf() { echo "$2=$3" >>"$1"; }
_saveaccountconf() { _save_conf "$ACCOUNT_CONF_PATH" "$1" "$2"; }
_saveaccountconf_mutable() { _save_conf "$ACCOUNT_CONF_PATH" "SAVED_$1" "$2"; }
_savedomainconf() { _save_conf "$ACCOUNT_CONF_PATH" "$1" "$2"; }
_info() { echo "$1"; [ -z "$LOG_FILE" ] || echo "$1" >>"$LOG_FILE"; }
_err() { echo "$1" >&2; [ -z "$LOG_FILE" ] || echo "$1" >>"$LOG_FILE"; }
echo "usage: acme.sh"
"#;
/// A script for it.
const DNS_NIC: &str = r#"
dns_nic_add() {
  NIC_Token="${NIC_Token:-$(_readaccountconf_mutable NIC_Token)}"
  NIC_View="${NIC_View:-$(_readaccountconf_mutable NIC_View)}"
  _saveaccountconf_mutable NIC_Token "$NIC_Token"
  _saveaccountconf NIC_Token "$NIC_Token"
  _savedomainconf NIC_Token "$NIC_Token"
  _info "token $NIC_Token"
  [ "$2" != refused ] || { _err "token $NIC_Token refused"; return 1; }
  printf '%s|' add "$1" "$2" "$NIC_Token" "$NIC_View" "${CARGO_PKG_NAME-}" >>"$LE_WORKING_DIR/out"
}
dns_nic_rm() { printf '%s|' rm "$1" "$2" >>"$LE_WORKING_DIR/out"; }
"#;
const ACCOUNT_CONF: &str = "SAVED_NIC_View=internal\n";

/// An installed acme.sh, in the directory of `script`.
fn acme_sh(script: &Script, at: &str) -> AcmeSh {
    let home = script.directory.path();
    std::fs::create_dir_all(home.join("dnsapi")).unwrap();
    std::fs::write(home.join("acme.sh"), ACME_SH).unwrap();
    std::fs::write(home.join(at), DNS_NIC).unwrap();
    std::fs::write(home.join("account.conf"), ACCOUNT_CONF).unwrap();
    let secret = SecretSource::File(home.join("secret"));
    AcmeSh {
        home: home.to_owned(),
        script: "dns_nic".to_owned(),
        env: [("NIC_Token".to_owned(), secret)].into(),
    }
}

#[tokio::test]
async fn a_script_of_acme_sh_gets_name_and_value_and_saves_nothing() {
    for at in ["dnsapi/dns_nic.sh", "dns_nic.sh"] {
        let script = Script::new("");
        let writer = acme_sh(&script, at);
        let name = challenge();
        let odd = "-$(id) \"x\" '; id #";
        let changes = [ensure(&name, odd), absent(&name, "old")];
        apply(writer, &changes).await.unwrap();
        let wanted = format!("add|{name}|{odd}|{SECRET}|internal||rm|{name}|old|");
        assert_eq!(script.out(), wanted, "{at}");
        let home = script.directory.path();
        let conf = std::fs::read_to_string(home.join("account.conf")).unwrap();
        assert_eq!(conf, ACCOUNT_CONF);
        assert!(!home.join("log").exists());
    }
}

#[tokio::test]
async fn a_script_of_acme_sh_that_fails_says_why_without_its_secrets() {
    let script = Script::new("");
    let writer = acme_sh(&script, "dnsapi/dns_nic.sh");
    let change = [ensure(&challenge(), "refused")];
    let error = apply(writer.clone(), &change).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    let words = "the script dns_nic of acme.sh ended with exit status 1 for _acme-challenge.www.example.test: token (secret) refused";
    assert_eq!(error.message, words);
    let missing = AcmeSh {
        script: "dns_none".to_owned(),
        ..writer.clone()
    };
    let error = apply(missing, &change).await.unwrap_err();
    assert!(error.message.contains("dnsapi/dns_none.sh"), "{error}");
    let home = script.directory.path().join("none");
    let error = apply(AcmeSh { home, ..writer }, &change).await;
    assert!(error.unwrap_err().message.contains("none/acme.sh"));
}

#[tokio::test]
async fn what_is_no_name_of_a_script_is_never_run() {
    let script = Script::new("");
    for name in [
        "dns_nic; id",
        "../dns_nic",
        "dns_nic/x",
        "id",
        "",
        "dns_a.b",
    ] {
        let writer = AcmeSh {
            script: name.to_owned(),
            ..acme_sh(&script, "dnsapi/dns_nic.sh")
        };
        let error = apply(writer, &[ensure(&challenge(), "v")]).await;
        assert_eq!(error.unwrap_err().kind, ErrorKind::Fatal, "{name}");
    }
    assert_eq!(script.out(), "");
}

fn httpreq(server: &Webhook, script: &Script) -> LegoHttpreq {
    let password = SecretSource::File(script.directory.path().join("secret"));
    let login = Some(("user".to_owned(), password));
    LegoHttpreq::new(server.url("/acme").parse().unwrap(), login)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_for_lego_gets_name_and_value_and_a_login() {
    let (server, script) = (Webhook::start(), Script::new(""));
    let name = challenge();
    let changes = [ensure(&name, "new"), absent(&name, "old")];
    apply(httpreq(&server, &script), &changes).await.unwrap();
    let login = format!("Basic {}", STANDARD.encode(format!("user:{SECRET}")));
    for (path, value) in [("/acme/present", "new"), ("/acme/cleanup", "old")] {
        let taken = server.taken(path);
        assert_eq!(taken.len(), 1, "{path}");
        assert_eq!(taken[0].method, "POST");
        let fqdn = "_acme-challenge.www.example.test.";
        assert_eq!(taken[0].json(), json!({"fqdn": fqdn, "value": value}));
        assert_eq!(taken[0].header("authorization"), Some(login.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_is_named_with_its_answer() {
    let (server, script) = (Webhook::start(), Script::new(""));
    for (status, kind) in [
        (401, ErrorKind::Auth),
        (403, ErrorKind::Permission),
        (422, ErrorKind::Invalid),
        (429, ErrorKind::RateLimited { after: None }),
        (500, ErrorKind::Transient),
    ] {
        server.answer(Answer::Status(status));
        let change = [ensure(&challenge(), "v")];
        let error = apply(httpreq(&server, &script), &change).await.unwrap_err();
        assert_eq!(error.kind, kind);
        let words = format!("answers /present of _acme-challenge.www.example.test with {status}");
        assert!(error.message.contains(&words), "{error}");
        assert!(!format!("{error:?}").contains("c4n4ry"));
    }
}

#[tokio::test]
async fn a_host_that_can_only_be_written_to_holds_what_it_is_said_to_hold() {
    let script = Script::new("");
    let context = context();
    let held = async |zones: &[&str]| {
        let zones = zones.iter().map(|it| name(it)).collect();
        let host = WriteOnly::new(script.exec(), zones);
        let held = host.zones(&challenge(), &context).await.unwrap();
        let names = held.into_iter().map(|held| held.zone.name.to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        held(&["example.test", "test.example"]).await,
        "example.test"
    );
    let any = "_acme-challenge.www.example.test www.example.test example.test test";
    assert_eq!(held(&[]).await, any);
    let host = WriteOnly::new(script.exec(), Vec::new());
    let zone = Zone {
        name: name("example.test"),
        id: String::new(),
    };
    let seen = host.observe(&zone, &[challenge()], &context).await;
    assert_eq!(seen.unwrap_err().kind, ErrorKind::Unsupported);
    assert_eq!(host.observe(&zone, &[], &context).await, Ok(vec![]));
}
