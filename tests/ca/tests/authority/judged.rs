//! Judged by others: certbot and lego, which know nothing of this project, go the whole way with
//! the authority. `tests/run` provides them; without them these tests fail, and say so.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use countersign_testca::{Authority, Settings, Status};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::nameserver::Nameserver;

/// Either client takes some seconds; a busy machine makes it more.
const PATIENCE: Duration = Duration::from_secs(180);

/// An authority, a nameserver that reads what hooks write, and a directory for the client.
struct Court {
    authority: Authority,
    nameserver: Nameserver,
    home: TempDir,
}

impl Court {
    async fn open() -> Court {
        let nameserver = Nameserver::start().await;
        let mut settings = Settings::asking(nameserver.address());
        settings.processing_looks = 1;
        let authority = Authority::start(settings).await.unwrap();
        let home = TempDir::new().unwrap();
        std::fs::write(
            home.path().join("https-root.pem"),
            authority.https_root_pem(),
        )
        .unwrap();
        std::fs::write(home.path().join("root.pem"), authority.issuing_root_pem()).unwrap();
        nameserver.read_file(&home.path().join("txt"));
        Court {
            authority,
            nameserver,
            home,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A shell script of one line, which has the file of TXT values as `$TXT`.
    fn hook(&self, name: &str, line: &str) -> PathBuf {
        let path = self.path(name);
        let txt = self.path("txt");
        std::fs::write(
            &path,
            format!("#!/bin/sh\nTXT='{}'\n{line}\n", txt.display()),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// As a third party sees the chain: `openssl verify`, and the names.
    async fn verify(&self, chain: &Path, names: &[&str]) {
        let mut verify = Command::new("openssl");
        verify
            .arg("verify")
            .arg("-CAfile")
            .arg(self.path("root.pem"));
        verify.args([
            "-purpose",
            "sslserver",
            "-x509_strict",
            "-verify_hostname",
            names[0],
        ]);
        run(verify.arg("-untrusted").arg(chain).arg(chain)).await;
        let mut show = Command::new("openssl");
        show.args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
            .arg(chain);
        let shown = run(&mut show).await;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        for name in names {
            assert!(
                shown.contains(&format!("DNS:{name}")),
                "{name} is not in {shown}"
            );
        }
    }

    fn statuses(&self) -> Vec<Status> {
        self.authority
            .orders()
            .iter()
            .map(|order| order.status)
            .collect()
    }

    fn certbot(&self, subcommand: &str) -> Command {
        let mut command = Command::new(provided("COUNTERSIGN_CERTBOT", "certbot"));
        command
            .arg(subcommand)
            .args(["--non-interactive", "--server"]);
        command.arg(self.authority.directory_url());
        for directory in ["config", "work", "logs"] {
            command
                .arg(format!("--{directory}-dir"))
                .arg(self.path(directory));
        }
        command.env("REQUESTS_CA_BUNDLE", self.path("https-root.pem"));
        command
    }

    fn lego(&self, key_type: &str, hook: &Path, names: &[&str]) -> Command {
        let mut command = Command::new(provided("COUNTERSIGN_LEGO", "lego"));
        command.args([
            "--accept-tos",
            "--email",
            "a@x.test",
            "--dns",
            "exec",
            "--dns.disable-cp",
        ]);
        command.args([
            "--key-type",
            key_type,
            "--server",
            &self.authority.directory_url(),
        ]);
        command.args([
            "--dns.resolvers",
            &self.nameserver.address().to_string(),
            "--path",
        ]);
        command.arg(self.path("lego"));
        for name in names {
            command.args(["--domains", name]);
        }
        command.env("LEGO_CA_CERTIFICATES", self.path("https-root.pem"));
        command.env("EXEC_PATH", hook);
        // The provider waits 60 s between two names and 2 s between two looks unless told.
        command
            .env("EXEC_SEQUENCE_INTERVAL", "1")
            .env("EXEC_POLLING_INTERVAL", "1");
        command
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "`tests/run` says by the environment what it made"
)]
fn provided(variable: &str, program: &str) -> PathBuf {
    let path = std::env::var_os(variable).map(PathBuf::from).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|dir| dir.join(program))
            .find(|file| file.is_file())
    });
    match path {
        Some(path) if path.is_file() => path,
        Some(path) => panic!(
            "{variable} is {}, which is no file: run tests/run",
            path.display()
        ),
        None => panic!("{program} is neither in {variable} nor on PATH: run tests/run"),
    }
}

/// Runs a client to its end, whatever it is.
#[allow(
    clippy::disallowed_methods,
    reason = "a client that hangs must not hang the tests"
)]
async fn ended(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    command.env("NO_PROXY", "127.0.0.1");
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output.expect("the client ends in time").unwrap()
}

async fn run(command: &mut Command) -> Output {
    let output = ended(command).await;
    assert!(
        output.status.success(),
        "{:?} ended with {}\n{}\n{}",
        command.as_std().get_program(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output
}

#[tokio::test]
async fn certbot_obtains_revokes_and_leaves() {
    let court = Court::open().await;
    let hook = court.hook(
        "present",
        r#"echo "_acme-challenge.$CERTBOT_DOMAIN $CERTBOT_VALIDATION" >> "$TXT""#,
    );
    let mut obtain = court.certbot("certonly");
    obtain.args([
        "--agree-tos",
        "--register-unsafely-without-email",
        "--manual",
    ]);
    obtain.args([
        "--preferred-challenges",
        "dns",
        "-d",
        "x.test",
        "-d",
        "*.x.test",
    ]);
    run(obtain.arg("--manual-auth-hook").arg(hook)).await;
    court
        .verify(
            &court.path("config/live/x.test/fullchain.pem"),
            &["x.test", "*.x.test"],
        )
        .await;
    assert_eq!(court.statuses(), [Status::Valid]);

    let mut revoke = court.certbot("revoke");
    run(revoke.args(["--cert-name", "x.test", "--no-delete-after-revoke"])).await;
    let serial = court.authority.orders()[0].certificate.clone().unwrap();
    assert!(court.authority.is_revoked(&serial));
    run(&mut court.certbot("unregister")).await;
}

#[tokio::test]
async fn lego_obtains_with_p256_and_p384_and_revokes() {
    for key_type in ["ec256", "ec384"] {
        let court = Court::open().await;
        let hook = court.hook(
            "exec",
            r#"[ "$1" = present ] && echo "$2 $3" >> "$TXT"; true"#,
        );
        run(court
            .lego(key_type, &hook, &["x.test", "*.x.test"])
            .arg("run"))
        .await;
        let chain = court.path("lego/certificates/x.test.crt");
        court.verify(&chain, &["x.test", "*.x.test"]).await;
        assert_eq!(court.statuses(), [Status::Valid]);

        // It revokes by file, and the file has the first name.
        run(court.lego(key_type, &hook, &["x.test"]).arg("revoke")).await;
        let serial = court.authority.orders()[0].certificate.clone().unwrap();
        assert!(court.authority.is_revoked(&serial));
    }
}

#[tokio::test]
async fn lego_is_refused_when_the_record_is_wrong() {
    let court = Court::open().await;
    let hook = court.hook(
        "exec",
        r#"[ "$1" = present ] && echo "$2 wrong" >> "$TXT"; true"#,
    );
    let mut command = court.lego("ec256", &hook, &["x.test"]);
    let output = ended(command.arg("run")).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Incorrect TXT record \"wrong\""), "{said}");
    assert_eq!(court.statuses(), [Status::Invalid]);
}
