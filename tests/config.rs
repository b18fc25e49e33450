//! The configuration as users meet it: the files in `config/`, and one golden message in `tests/errors/` for each
//! mistake.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod mistakes;

use std::collections::BTreeSet;
use std::path::Path;

use countersign::config::{Config, Severity, schema};
use countersign_providers::clock::Clock;

use crate::support::golden::{golden, root};
use mistakes::{cases, minimal};

#[test]
fn the_least_configuration_works() {
    let config = load("config/minimal.yaml");
    assert_eq!(
        config.authorities[0].directory,
        "https://acme-v02.api.letsencrypt.org/directory"
    );
    let (name, certificate) = config.certificates.first_key_value().unwrap();
    assert_eq!(name.as_str(), "example");
    let names: Vec<String> = certificate.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["example.com", "*.example.com"]);
    assert_eq!(config.state, Path::new("/var/lib/countersign"));
}

#[test]
fn the_example_shows_every_key() {
    let config = load("config/example.yaml");
    assert_eq!(config.certificates.len(), 1);
    let names: Vec<&str> = config
        .authorities
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["letsencrypt", "google", "zerossl", "corp", "lab"],
        "the order of the file"
    );
    let text = read("config/example.yaml");
    let value: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let mut shown = BTreeSet::new();
    keys_of_value(&value, &mut shown);
    let mut known = BTreeSet::new();
    keys_of_schema(&schema(), &mut known);
    let missing: Vec<_> = known.difference(&shown).collect();
    assert!(
        missing.is_empty(),
        "config/example.yaml does not show {missing:?}"
    );
}

#[test]
fn the_schema_is_fresh() {
    let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    golden(&root().join("config/schema.json"), &text);
}

/// Each case is a configuration with one mistake; the expected message is in `tests/errors/config-NAME.txt`.
#[test]
fn every_mistake_has_its_message() {
    for (name, text) in cases() {
        let error = Config::parse(Path::new("countersign.yaml"), &text)
            .err()
            .unwrap_or_else(|| panic!("{name} is accepted"));
        assert!(!error.0.is_empty(), "{name}");
        let message = format!("{error}\n");
        assert!(
            !message.contains("hunter2"),
            "{name} shows a secret:\n{message}"
        );
        golden(
            &root().join(format!("tests/errors/config-{name}.txt")),
            &message,
        );
    }
}

/// Files that end in the middle, or lack a line, are refused or read, and never show what stands after a key of a
/// secret.
#[test]
fn damaged_files_are_only_refused() {
    let secrets = "
authorities: {corp: {directory: https://ca.test/dir, external-account: {key-id: a, mac-key: 'hunter2'}}}
seal-key:
  hunter2
providers:
  a:
    rfc2136:
      server: 127.0.0.1
      tsig:
        name: k
        \"secret\": |
          hunter2
        algorithm: hmac-sha256
  b: {rfc2136: {server: x, tsig: {secret: hunter2, name: k}}}
certificates: {x: {names: [x.test], mode: [}}}
";
    for text in [read("config/example.yaml").as_str(), secrets] {
        let ends = (0..text.len()).filter(|it| text.is_char_boundary(*it));
        let cut = ends.map(|end| text[..end].to_owned());
        let lines: Vec<&str> = text.lines().collect();
        // A secret that lost its key cannot be told from any other word.
        let first = if text == secrets { lines.len() } else { 0 };
        let less =
            (first..lines.len()).map(|it| [&lines[..it], &lines[it + 1..]].concat().join("\n"));
        for damaged in cut.step_by(3).chain(less) {
            let Err(error) = Config::parse(Path::new("c.yaml"), &damaged) else {
                continue;
            };
            let message = error.to_string();
            assert!(!message.is_empty());
            assert!(!message.contains("hunter"), "{message}");
        }
    }
}

#[test]
fn every_golden_message_has_its_case() {
    let names: BTreeSet<String> = cases()
        .into_iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    let loaded = ["missing-file", "not-utf8", "huge"].map(str::to_owned);
    for entry in std::fs::read_dir(root().join("tests/errors")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file
            .strip_prefix("config-")
            .and_then(|it| it.strip_suffix(".txt"));
        if let Some(name) = name {
            // Those of several files have their cases beside them.
            let is_of_several = name.starts_with("include-");
            assert!(
                is_of_several || names.contains(name) || loaded.contains(&name.to_owned()),
                "{file}"
            );
        }
    }
}

#[test]
fn files_that_are_no_text_have_their_messages() {
    let directory = tempfile::tempdir().unwrap();
    let not_utf8 = directory.path().join("not-utf8.yaml");
    std::fs::write(&not_utf8, b"state: /x\nlog: \xff\n").unwrap();
    let huge = directory.path().join("huge.yaml");
    std::fs::File::create(&huge)
        .unwrap()
        .set_len(17 << 20)
        .unwrap();
    for (name, file) in [
        ("missing-file", directory.path().join("missing.yaml")),
        ("not-utf8", not_utf8),
        ("huge", huge),
    ] {
        let error = Config::load(&file).unwrap_err().to_string();
        let message = error.replace(&directory.path().display().to_string(), "DIRECTORY");
        golden(
            &root().join(format!("tests/errors/config-{name}.txt")),
            &format!("{message}\n"),
        );
    }
}

#[test]
fn relative_paths_begin_at_the_file() {
    let text = minimal().replace("authorities:", "state: here\nauthorities:");
    let config = Config::parse(Path::new("/etc/countersign/countersign.yaml"), &text).unwrap();
    assert_eq!(config.state, Path::new("/etc/countersign/here"));
}

#[tokio::test]
async fn a_look_at_the_files_finds_what_is_missing_and_what_is_open() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    std::fs::write(&open, "secret").unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(directory.path().join("closed"), "secret").unwrap();
    let closed = directory.path().join("closed");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).unwrap();
    let accounts = directory.path().join("accounts");
    let entry = r#"{"username": "u", "password": "p", "fulldomain": "a.test", "subdomain": "a", "server_url": "https://auth.test"}"#;
    std::fs::write(&accounts, format!(r#"{{"x.test": {entry}}}"#)).unwrap();
    std::fs::set_permissions(&accounts, std::fs::Permissions::from_mode(0o600)).unwrap();
    let hook = directory.path().join("hook");
    std::fs::write(&hook, "https://hooks.test/x\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = "
alerts:
  - webhook: {url: {file: open}}
  - webhook: {url: {file: hook}}
  - smtp: {server: mail.test, from: a@mail.test, to: [b@mail.test], username: a, password: {env: NO_SUCH}, trust: closed}
heartbeat: {file: no-hook}
authorities: {corp: {directory: https://ca.test/dir, trust: closed, insecure: true}}
providers:
  a: {rfc2136: {server: 127.0.0.1, tsig: {keyfile: open}}}
  b: {rfc2136: {server: 127.0.0.1, tsig: {keyfile: closed}}}
  c: {rfc2136: {server: 127.0.0.1, tsig: {keyfile: missing}}}
  d: {rfc2136: {server: 127.0.0.1, tsig: {name: k, algorithm: hmac-sha256, secret: {command: [/bin/false]}}}}
  e: {cloudflare: {token: {file: no-token}}}
  i: {process: {command: [/bin/sh, -x], secrets: {token: {env: NO_TOKEN}}}}
  f: {process: {command: [/no/such]}}
  g: {process: {command: [/etc/passwd]}}
  h: {process: {command: [/etc]}}
  j: {acme-dns: {url: https://auth.example.org, accounts: {file: closed}}}
  k: {acme-dns: {url: https://auth.example.org, accounts: {file: accounts}}}
certificates: {x: {names: [x.test]}}
";
    let config = Config::parse(&directory.path().join("c.yaml"), text).unwrap();
    let findings = config.check_files(&Clock::system()).await;
    let seen: Vec<(Severity, String)> = findings
        .into_iter()
        .map(|it| {
            let message = it
                .message
                .replace(&directory.path().display().to_string(), "D");
            (it.severity, message)
        })
        .collect();
    let expected = [
        (
            Severity::Warning,
            "providers.a.rfc2136.tsig.keyfile: D/open can be read by others (mode 0644)",
        ),
        (
            Severity::Error,
            "providers.c.rfc2136.tsig.keyfile: D/missing: No such file or directory (os error 2)",
        ),
        (
            Severity::Error,
            "providers.e.cloudflare.token: D/no-token: No such file or directory (os error 2)",
        ),
        (
            Severity::Error,
            "providers.i.process.secrets.token: the environment variable NO_TOKEN is not set",
        ),
        (
            Severity::Error,
            "alerts[2].smtp.password: the environment variable NO_SUCH is not set",
        ),
        (
            Severity::Error,
            "heartbeat: D/no-hook: No such file or directory (os error 2)",
        ),
        (
            Severity::Error,
            "alerts[0].webhook.url: file D/open: this is not a URL with a host",
        ),
        (
            Severity::Error,
            "providers.a.rfc2136.tsig: D/open: this is no key file; wanted is what `tsig-keygen` or `keymgr -t` print, e.g. `key \"name\" { algorithm hmac-sha256; secret \"…\"; };`",
        ),
        (
            Severity::Error,
            "providers.b.rfc2136.tsig: D/closed: this is no key file; wanted is what `tsig-keygen` or `keymgr -t` print, e.g. `key \"name\" { algorithm hmac-sha256; secret \"…\"; };`",
        ),
        (
            Severity::Error,
            "providers.f.process.command: /no/such: No such file or directory (os error 2)",
        ),
        (
            Severity::Error,
            "providers.g.process.command: /etc/passwd: Permission denied (os error 13)",
        ),
        (
            Severity::Error,
            "providers.h.process.command: /etc: this is not a program",
        ),
        (
            Severity::Error,
            "providers.j.acme-dns.accounts: file D/closed is not JSON: see line 1, column 1",
        ),
        (
            Severity::Error,
            "providers.k.acme-dns.accounts: file D/accounts has no account of https://auth.example.org/",
        ),
        (
            Severity::Error,
            "alerts[2].smtp.trust: D/closed has no certificate in it",
        ),
        (
            Severity::Error,
            "authorities.corp.trust: D/closed has no certificate in it",
        ),
        (
            Severity::Warning,
            "authorities.corp.insecure: it allows plain http, and the directory is https anyway",
        ),
    ];
    let seen: Vec<_> = seen
        .iter()
        .map(|(severity, message)| (*severity, message.as_str()))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn ten_thousand_certificates_are_read() {
    let mut text = minimal();
    for number in 0..10_000 {
        text.push_str(&format!(
            "  c{number}: {{names: [n{number}.example, \"*.n{number}.example\"], provider: office, key: p256, deliver: [{{files: {{directory: /srv/certs/c{number}, mode: \"0640\"}}, reload: [systemctl, reload, nginx]}}]}}\n"
        ));
    }
    let clock = Clock::system();
    let config = Config::parse(Path::new("c.yaml"), &text).unwrap();
    let took = clock.elapsed();
    assert_eq!(config.certificates.len(), 10_001);
    println!("10,000 certificates: {took:?}");
}

/// Also when most of them are wrong, in each way that is compared with what would be right.
#[test]
fn thousands_of_mistakes_are_counted_and_the_first_are_shown() {
    let targets: String = (0..3_000)
        .map(|number| format!("  t{number}: {{files: {{directory: /srv/{number}}}}}\n"))
        .collect();
    let text = format!("targets:\n{targets}{}", minimal());
    for (wrong, first) in [
        ("names: [192.0.2.1]", "certificates.c0.names[0]: "),
        ("nmaes: [a.test]", "certificates.c0.nmaes: "),
        (
            "names: [a.test], deliver: [x]",
            "certificates.c0.deliver[0]: ",
        ),
        ("key: p256", "certificates.c0: `names` is missing"),
    ] {
        let mut text = text.clone();
        for number in 0..3_000 {
            text.push_str(&format!("  c{number}: {{{wrong}}}\n"));
        }
        let clock = Clock::system();
        let error = Config::parse(Path::new("c.yaml"), &text).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("c.yaml:3007:"), "{message}");
        assert!(message.contains(first), "{message}");
        assert!(message.ends_with("and 2980 more"), "{message}");
        assert!(clock.elapsed().as_secs() < 60);
    }
}

fn load(file: &str) -> Config {
    Config::load(&root().join(file)).unwrap_or_else(|error| panic!("{error}"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

fn keys_of_value(value: &serde_yaml::Value, keys: &mut BTreeSet<String>) {
    match value {
        serde_yaml::Value::Mapping(mapping) => {
            for (key, value) in mapping {
                keys.extend(key.as_str().map(str::to_owned));
                keys_of_value(value, keys);
            }
        }
        serde_yaml::Value::Sequence(list) => list.iter().for_each(|it| keys_of_value(it, keys)),
        _ => {}
    }
}

fn keys_of_schema(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            if let Some(serde_json::Value::Object(properties)) = object.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            object.values().for_each(|it| keys_of_schema(it, keys));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|it| keys_of_schema(it, keys)),
        _ => {}
    }
}
