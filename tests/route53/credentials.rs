//! Every source of a credential: it works, it is asked no more often than it must be, and nothing of it is shown.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::guard::Guard;
use countersign_providers::route53::{AssumeRole, Route53, Settings, Source};
use countersign_providers::secret::SecretSource;
use countersign_providers::{Context, ErrorKind, Provider, ProviderError};
use ring::digest;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use crate::support::route53::{Fake, Fault, KEY, SECRET};

use super::{context, name, settings, start};

/// A machine with a home directory and variables of its own.
struct Machine {
    fake: Fake,
    home: TempDir,
    variables: HashMap<String, String>,
}

impl Machine {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".aws/sso/cache")).unwrap();
        let fake = start();
        // No test asks the machine it runs on.
        let nowhere = ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
        Self {
            variables: HashMap::from([nowhere]),
            fake,
            home,
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.home.path().join(file), text).unwrap();
    }

    fn path(&self, file: &str) -> String {
        Path::to_string_lossy(&self.home.path().join(file)).into_owned()
    }

    fn provider(&self, settings: Settings) -> Route53 {
        let provider = Route53::new(settings);
        provider.in_environment(self.variables.clone(), self.home.path().to_owned())
    }

    fn chain(&self) -> Settings {
        Settings {
            source: Source::Chain,
            ..settings(&self.fake)
        }
    }

    fn profile(&self, name: &str) -> Settings {
        Settings {
            source: Source::Profile(name.to_owned()),
            ..settings(&self.fake)
        }
    }

    /// The plug-in gets through, twice, with so many calls for its credential.
    async fn works(&self, settings: Settings, calls: &[&str]) {
        let provider = self.provider(settings);
        for _ in 0..2 {
            let found = provider.zones(&name("a"), &context()).await;
            assert_eq!(found.unwrap().len(), 1);
        }
        let seen = self.fake.calls();
        let of_credential: Vec<&str> = (seen.iter().map(String::as_str))
            .filter(|&call| call != "ListHostedZonesByName")
            .collect();
        assert_eq!(of_credential, calls);
    }

    async fn fails(&self, settings: Settings) -> ProviderError {
        let error = self
            .provider(settings)
            .zones(&name("a"), &context())
            .await
            .unwrap_err();
        assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
        error
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_is_read_at_each_use() {
    let machine = Machine::new();
    machine.write("secret", "wrong\n");
    let file = machine.home.path().join("secret");
    let source = Source::Key {
        id: KEY.to_owned(),
        secret: SecretSource::File(file),
    };
    let provider = machine.provider(Settings {
        source,
        ..machine.chain()
    });
    let refused = provider.zones(&name("a"), &context()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Auth);
    machine.write("secret", SECRET);
    provider.zones(&name("a"), &context()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_the_first_of_the_chain() {
    let mut machine = Machine::new();
    machine.write(
        ".aws/credentials",
        "[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\n",
    );
    machine.set("AWS_ACCESS_KEY_ID", KEY);
    machine.set("AWS_SECRET_ACCESS_KEY", SECRET);
    machine.works(machine.chain(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_read_from_either_file_and_shadows_the_environment() {
    let mut machine = Machine::new();
    let keys = format!("aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    machine.write(".aws/credentials", &format!("[default]\n{keys}"));
    machine.works(machine.chain(), &[]).await;
    machine.write(".aws/config", &format!("[profile dns]\n{keys}"));
    machine.set("AWS_ACCESS_KEY_ID", "AKIAOTHEROTHEROTHER1");
    machine.set("AWS_SECRET_ACCESS_KEY", "x");
    machine.works(machine.profile("dns"), &[]).await;
    let missing = machine.fails(machine.profile("other")).await;
    assert_eq!(missing.kind, ErrorKind::Auth);
    assert_eq!(
        missing.message,
        "the AWS profile `other` has no credential, or is not there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_process_is_run_and_its_output_is_not_repeated() {
    let machine = Machine::new();
    let output =
        format!("{{\"Version\":1,\"AccessKeyId\":\"{KEY}\",\"SecretAccessKey\":\"{SECRET}\"}}");
    machine.write("output", &output);
    let config = format!(
        "[profile dns]\ncredential_process = cat {}\n",
        machine.path("output")
    );
    machine.write(".aws/config", &config);
    machine.works(machine.profile("dns"), &[]).await;
    machine.write("output", &format!("{{\"Version\":\"{SECRET}\"}}"));
    let garbage = machine.fails(machine.profile("dns")).await;
    assert_eq!(
        garbage.message,
        "the profile `dns` gives no AWS credential: failed to parse credential process output"
    );
    machine.write(".aws/config", "[profile dns]\ncredential_process = false\n");
    let failed = machine.fails(machine.profile("dns")).await;
    assert!(
        failed
            .message
            .contains("the command false ended with exit status: 1"),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_taken_once_and_its_external_id_is_sent() {
    let machine = Machine::new();
    machine.fake.state().external_id = Some("shared-with-us".to_owned());
    let role = |external_id: Option<&str>| AssumeRole {
        arn: "arn:aws:iam::123456789012:role/dns".to_owned(),
        external_id: external_id.map(str::to_owned),
        session_name: None,
    };
    let with = |role| Settings {
        assume_role: Some(role),
        ..settings(&machine.fake)
    };
    machine
        .works(with(role(Some("shared-with-us"))), &["Sts"])
        .await;
    let denied = machine.fails(with(role(None))).await;
    assert_eq!(denied.kind, ErrorKind::Permission);
    assert!(
        denied.message.contains("may not take that role"),
        "{denied:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_a_role_is_sent_once_however_many_wait_for_the_session() {
    let machine = Machine::new();
    machine.write("secret", "revoked");
    let role = AssumeRole {
        arn: "arn:aws:iam::123456789012:role/dns".to_owned(),
        external_id: None,
        session_name: None,
    };
    let secret = SecretSource::File(machine.home.path().join("secret"));
    let id = KEY.to_owned();
    let provider = machine.provider(Settings {
        source: Source::Key { id, secret },
        assume_role: Some(role),
        ..settings(&machine.fake)
    });
    let guard = Guard::new(Arc::new(provider), Arc::default());
    let (name, context) = (name("a"), context());
    let all = (0..8).map(|_| guard.zones(&name, &context));
    for refused in futures_util::future::join_all(all).await {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Auth);
    }
    assert_eq!(machine.fake.calls(), ["Sts"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_takes_its_role_with_the_credential_of_another() {
    let machine = Machine::new();
    machine.fake.state().external_id = Some("shared-with-us".to_owned());
    let config = format!(
        "[profile base]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n\
         [profile dns]\nrole_arn = arn:aws:iam::123456789012:role/dns\nsource_profile = base\n\
         external_id = shared-with-us\n\
         [profile round]\nrole_arn = arn:aws:iam::123456789012:role/dns\nsource_profile = about\n\
         [profile about]\nrole_arn = arn:aws:iam::123456789012:role/dns\nsource_profile = round\n\
         [profile half]\nrole_arn = arn:aws:iam::123456789012:role/dns\n"
    );
    machine.write(".aws/config", &config);
    machine.works(machine.profile("dns"), &["Sts"]).await;
    let round = machine.fails(machine.profile("round")).await;
    assert!(round.message.contains("or itself"), "{round:?}");
    let half = machine.fails(machine.profile("half")).await;
    assert!(
        half.message
            .contains("neither source_profile nor credential_source"),
        "{half:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_is_exchanged_once() {
    let mut machine = Machine::new();
    machine.write("token", "web-token\n");
    machine.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/dns");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &machine.path("token"));
    machine.works(machine.chain(), &["Sts"]).await;
    machine.write("token", "another-token");
    let refused = machine.fails(machine.chain()).await;
    assert_eq!(refused.kind, ErrorKind::Auth);
    assert!(!refused.message.contains("another-token"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_identity_center_is_used_and_its_end_is_explained() {
    let mut machine = Machine::new();
    let portal = format!("{}sso", machine.fake.url());
    machine.set("AWS_SSO_ENDPOINT", &portal);
    let role = "sso_account_id = 123456789012\nsso_role_name = dns\n";
    let config = format!(
        "[profile own]\n{role}sso_region = us-east-1\nsso_start_url = https://start.test\n\
         [profile shared]\n{role}sso_session = work\n\
         [sso-session work]\nsso_region = us-east-1\nsso_start_url = https://start.test\n"
    );
    machine.write(".aws/config", &config);
    let token = |end: &str| format!("{{\"accessToken\":\"sso-token\",\"expiresAt\":\"{end}\"}}");
    for (profile, kept_under) in [("own", "https://start.test"), ("shared", "work")] {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, kept_under.as_bytes());
        let digest: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let file = format!(".aws/sso/cache/{digest}.json");
        machine.write(&file, &token("2099-01-01T00:00:00Z"));
        machine.works(machine.profile(profile), &["metadata"]).await;
        machine.write(&file, &token("2020-01-01T00:00:00Z"));
        let over = machine.fails(machine.profile(profile)).await;
        assert_eq!(over.kind, ErrorKind::Auth);
        assert!(over.message.contains("aws sso login"), "{over:?}");
        assert!(!format!("{over:?}").contains("sso-token"), "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_asked_once_with_its_token() {
    let mut machine = Machine::new();
    let url = format!("{}container", machine.fake.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token");
    machine.works(machine.chain(), &["metadata"]).await;
    machine.set(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "http://192.0.2.1/container",
    );
    let refused = machine.fails(machine.chain()).await;
    assert!(
        refused
            .message
            .contains("plain http would show the credential"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_asked_once_and_its_session_is_kept() {
    let mut machine = Machine::new();
    machine.variables.remove("AWS_EC2_METADATA_DISABLED");
    let url = machine.fake.url();
    machine.set(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        url.trim_end_matches('/'),
    );
    machine
        .works(machine.chain(), &["metadata", "metadata"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_answer_is_explained_with_its_hop_limit() {
    let mut machine = Machine::new();
    machine.variables.remove("AWS_EC2_METADATA_DISABLED");
    let port = crate::support::ports::free();
    let nobody = format!("http://127.0.0.1:{}", port.number());
    machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &nobody);
    let error = machine.fails(machine.chain()).await;
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(
        error.message.contains("none from the instance"),
        "{error:?}"
    );
    assert!(
        error.message.contains("refused the connection"),
        "{error:?}"
    );
    assert!(
        error
            .hint
            .unwrap()
            .contains("--http-put-response-hop-limit 2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_out_of_order_for_a_moment_is_nobodys_move() {
    let mut machine = Machine::new();
    machine.variables.remove("AWS_EC2_METADATA_DISABLED");
    let url = machine.fake.url();
    let endpoint = url.trim_end_matches('/');
    machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint);
    let oops = r#"{"Code": "InternalError", "Message": "oops"}"#.to_owned();
    for (fault, why) in [
        (Fault::Garbage(503, String::new()), "answered 503"),
        (Fault::Garbage(500, oops), "answered 500"),
        (Fault::Garbage(429, String::new()), "answered 429"),
        (
            Fault::HalfReply,
            "broke off before the whole reply had come",
        ),
    ] {
        machine.fake.fault("metadata", fault);
        let error = machine.fails(machine.chain()).await;
        assert_eq!(error.kind, ErrorKind::Transient, "{error:?}");
        assert!(error.message.contains(why), "{error:?}");
        assert!(
            error
                .hint
                .unwrap()
                .starts_with("it is asked again by itself")
        );
    }
    for said in [(401, "no token"), (404, ""), (200, "")] {
        let refusal = Fault::Garbage(said.0, said.1.to_owned());
        machine.fake.fault("metadata", refusal);
        let error = machine.fails(machine.chain()).await;
        assert_eq!(error.kind, ErrorKind::Auth, "{error:?}");
        assert!(
            error
                .hint
                .unwrap()
                .starts_with("attach an instance profile")
        );
    }
}

/// So it is from within a container, where the reply needs one hop more than it has.
#[tokio::test]
async fn an_instance_whose_reply_never_comes_is_explained_with_its_hop_limit() {
    let mut machine = Machine::new();
    machine.variables.remove("AWS_EC2_METADATA_DISABLED");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint);
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let context = Context::new(clock, jiff::Timestamp::MAX);
    let provider = machine.provider(machine.chain());
    let name = name("a");
    let hears = async {
        let (mut asked, _) = silent.accept().await.unwrap();
        asked.read_u8().await.unwrap();
        hands.advance(Duration::from_secs(5));
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        found = provider.zones(&name, &context) => found.unwrap_err(),
        () = hears => unreachable!("it is silent for ever"),
    };
    assert_eq!(error.kind, ErrorKind::Auth);
    let words = "did not answer within 5 s";
    assert!(error.message.contains(words), "{error:?}");
    let hint = error.hint.unwrap();
    assert!(hint.contains("--http-put-response-hop-limit 2"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_credential_the_places_are_named() {
    let machine = Machine::new();
    let error = machine.fails(machine.chain()).await;
    assert_eq!(error.kind, ErrorKind::Auth);
    assert_eq!(
        error.message,
        "there is no AWS credential: not in the environment, not in the profile `default`, and neither a web identity nor \
         a container's"
    );
    assert_eq!(machine.fake.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_refused_is_fetched_again() {
    let mut machine = Machine::new();
    let url = format!("{}container", machine.fake.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token");
    let provider = machine.provider(machine.chain());
    provider.zones(&name("a"), &context()).await.unwrap();
    let over = Fault::Refuse(
        403,
        "ExpiredToken",
        "The security token included in the request is expired".to_owned(),
    );
    machine.fake.fault("ListHostedZonesByName", over);
    let refused = provider.zones(&name("a"), &context()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Auth);
    provider.zones(&name("a"), &context()).await.unwrap();
    let calls = machine.fake.calls();
    assert_eq!(calls.iter().filter(|call| *call == "metadata").count(), 2);
}

/// All that is logged meanwhile; the library's own records (`log`) go nowhere.
#[tokio::test]
async fn nothing_of_a_credential_is_logged() {
    let logged = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&logged);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || Sink(Arc::clone(&sink)))
        .finish();
    // With a single dispatcher alive, other tests' threads would settle what is logged for all.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let mut machine = Machine::new();
    let url = format!("{}container", machine.fake.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token");
    let role = AssumeRole {
        arn: "arn:aws:iam::123456789012:role/dns".to_owned(),
        external_id: None,
        session_name: None,
    };
    for assume_role in [None, Some(role)] {
        let provider = machine.provider(Settings {
            assume_role,
            ..machine.chain()
        });
        provider.zones(&name("a"), &context()).await.unwrap();
    }
    let provider = machine.provider(settings(&machine.fake));
    provider.zones(&name("a"), &context()).await.unwrap();
    drop(guard);
    let logged = String::from_utf8(logged.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("API call"), "{logged}");
    for secret in [SECRET, "session-secret", "session-token", "container-token"] {
        assert!(!logged.contains(secret), "{logged}");
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
