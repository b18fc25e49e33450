//! The configuration as users meet it: the files in `config/`, and one golden message in `tests/errors/` for each
//! mistake.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::collections::BTreeSet;
use std::path::Path;

use countersign::config::{Config, Severity, schema};
use countersign_providers::clock::Clock;

use crate::support::golden::{golden, root};

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

fn minimal() -> String {
    read("config/minimal.yaml")
}

/// The least configuration with one thing changed.
fn changed(from: &str, to: &str) -> String {
    let text = minimal();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

fn names(list: &str) -> String {
    changed("[example.com, \"*.example.com\"]", list)
}

fn provider(rfc2136: &str) -> String {
    changed(
        "{server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}",
        rfc2136,
    )
}

fn cloudflare(settings: &str) -> String {
    changed(
        "rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}",
        &format!("cloudflare: {settings}"),
    )
}

fn route53(settings: &str) -> String {
    changed(
        "rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}",
        &format!("route53: {settings}"),
    )
}

fn rest(plugin: &str) -> String {
    let rfc2136 = "rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}";
    changed(rfc2136, plugin)
}

fn authorities(list: &str) -> String {
    changed("{letsencrypt: {agree-to-terms: true}}", list)
}

/// With one way to a person.
fn alerts(alert: &str) -> String {
    top(&format!("alerts: [{alert}]"))
}

fn top(line: &str) -> String {
    format!("{}{line}\n", minimal())
}

/// A target `web1` with these files, and where the certificate goes.
fn target(files: &str, deliver: &str) -> String {
    let certificate = with(&format!("deliver: {deliver}"));
    format!("targets: {{web1: {{files: {files}}}}}\n{certificate}")
}

fn with(rest: &str) -> String {
    names(&format!("[example.com], {rest}"))
}

/// With a plug-in of somebody's own.
fn process(settings: &str) -> String {
    plugin(&format!("{{process: {settings}}}"))
}

/// With another plug-in.
fn plugin(provider: &str) -> String {
    let known = "{rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}}";
    changed(known, provider)
}

fn cases() -> Vec<(&'static str, String)> {
    let tsig = |tsig: &str| provider(&format!("{{server: 192.0.2.53, tsig: {tsig}}}"));
    let files = |rest: &str| {
        with(&format!(
            "deliver: [{{files: {{directory: /srv/x, {rest}}}}}]"
        ))
    };
    vec![
        ("bad-yaml", "authorities:\n  a: {b: c\nproviders: [\n".to_owned()),
        ("bad-yaml-tab", "authorities:\n\ta: b\n".to_owned()),
        ("two-documents", format!("{}---\nstate: /x\n", minimal())),
        ("empty", "# nothing yet\n\n".to_owned()),
        ("not-a-mapping", "- a\n- b\n".to_owned()),
        ("unquoted-wildcard", names("[example.com, *.example.com]")),
        ("unquoted-wildcard-block", names("\n    - example.com\n    - *.example.com\n").replace("{names: \n", "\n    names:\n").replace("\n}", "\n")),
        ("unquoted-wildcard-alias", names("[*example]")),
        ("unknown-key", changed("agree-to-terms", "agree-to-term")),
        ("unknown-key-top", changed("certificates:", "certificate:")),
        ("unknown-key-far", top("zzz: 1")),
        ("unknown-keys", format!("{}stat: /x\nlog: {{colour: red}}\n", changed("keyfile", "keyfil"))),
        ("duplicate-key", top("state: /a\nstate: /b")),
        ("duplicate-certificate", top("  example: {names: [b.test]}")),
        ("duplicate-unknown", changed("{names:", "{nams: 1, nams: 2, names:")),
        ("misspelt-names", changed("{names:", "{nmaes:")),
        ("deep", format!("{}a: {}{}", minimal(), "[".repeat(5000), "]".repeat(5000))),
        ("laughs", format!("a: &a [x,x,x,x,x,x,x,x,x]\n{}", "bcdefghijklm".chars().zip("abcdefghijkl".chars()).map(|(n, o)| format!("{n}: &{n} [*{o},*{o},*{o},*{o},*{o},*{o},*{o},*{o},*{o}]\n")).collect::<String>())),
        ("wrong-type", with("deliver: /srv/certs")),
        ("wrong-type-bool", changed("true", "yes")),
        ("wrong-type-text", with("key: [p256]")),
        ("wrong-type-secret", tsig("hunter2")),
        ("bare-secret", tsig("{name: k, algorithm: hmac-sha256, secret: hunter2}")),
        ("bare-secret-block", tsig("{name: k, algorithm: hmac-sha256,\n  secret:\n    hunter2}")),
        ("bare-secret-number", top("seal-key: 1234567")),
        ("secret-form", tsig("{name: k, algorithm: hmac-sha256, secret: {value: hunter2}}")),
        ("secret-two-forms", top("seal-key: {file: /a, env: B}")),
        ("secret-env", top("seal-key: {env: $SEAL}")),
        ("secret-credential", top("seal-key: {credential: ../seal}")),
        ("secret-command", top("seal-key: {command: pass show seal}")),
        ("alert-kinds", alerts("{webhook: https://hooks.test/x, command: [mail]}")),
        ("alert-none", alerts("{}")),
        ("alert-unknown-kind", alerts("{webhok: https://hooks.test/x}")),
        ("alert-plain-http", alerts("{webhook: \"http://hooks.test/hunter2\"}")),
        ("alert-not-a-url", alerts("{webhook: {url: hunter2}}")),
        ("alert-password-in-url", alerts("{webhook: {url: \"https://hunter2:hunter2@hooks.test/x\"}}")),
        ("alert-scheme", alerts("{webhook: \"mailto://hunter2/x\"}")),
        ("alert-no-url", alerts("{webhook: {template: json}}")),
        ("alert-template", alerts("{webhook: {url: https://hooks.test/x, template: jsn}}")),
        ("alert-url-form", alerts("{webhook: {url: {value: hunter2}}}")),
        ("alert-command", alerts("{command: []}")),
        ("alert-command-line", alerts("{command: mail -s x}")),
        ("alert-smtp-missing", alerts("{smtp: {}}")),
        ("alert-smtp-server", alerts("{smtp: {server: \"smtp://mail.test:587\", from: a@mail.test, to: [b@mail.test]}}")),
        ("alert-smtp-port", alerts("{smtp: {server: \"mail.test:0\", from: a@mail.test, to: [b@mail.test]}}")),
        ("alert-smtp-addresses", alerts("{smtp: {server: mail.test, from: \"Ops <a@mail.test>\", to: [\"b@mail.test\\r\\nBcc: c@mail.test\"]}}")),
        ("alert-smtp-nobody", alerts("{smtp: {server: mail.test, from: a@mail.test, to: []}}")),
        ("alert-smtp-no-password", alerts("{smtp: {server: mail.test, from: a@mail.test, to: [b@mail.test], username: a}}")),
        ("alert-smtp-no-username", alerts("{smtp: {server: mail.test, from: a@mail.test, to: [b@mail.test], password: {env: X}}}")),
        ("alert-smtp-password", alerts("{smtp: {server: mail.test, from: a@mail.test, to: [b@mail.test], username: a, password: hunter2}}")),
        ("heartbeat", top("heartbeat: http://hc.test/hunter2")),
        ("ip-name", names("[example.com, 192.0.2.1]")),
        ("ip-name-6", names("[\"2001:db8::1\"]")),
        ("covered-name", names("[\"*.example.com\", WWW.Example.com., example.com]")),
        ("duplicate-name", names("[bücher.example, xn--bcher-kva.example.]")),
        ("inner-wildcard", names("[\"a.*.example.com\"]")),
        ("not-a-host-name", names("[\"https://example.com/\"]")),
        ("several-bad-names", names("[exa mple.com, -a.test, \"\"]")),
        ("no-names", changed("{names: [example.com, \"*.example.com\"]}", "{key: p256}")),
        ("empty-names", names("[]")),
        ("undefined-provider", with("provider: ofice")),
        ("undefined-provider-none", with("provider: x").replacen("providers:", "nameserver: {zone: a.test, listen: [\"127.0.0.1:53\"], hosts: {ns.a.test: [127.0.0.1]}}\n#", 1)),
        ("undefined-authority", with("authorities: [letsencrypt, corp]")),
        ("provider-list", with("provider: [office, office2, office]")),
        ("no-certificates", minimal().split("certificates:").next().unwrap().to_owned()),
        ("empty-certificates", minimal().split("\n  example").next().unwrap().to_owned()),
        ("no-authorities", authorities("{}")),
        ("no-providers", minimal().lines().filter(|it| !it.starts_with("providers")).collect::<Vec<_>>().join("\n")),
        ("certificate-name", changed("  example:", "  Example.com:")),
        ("terms", authorities("{letsencrypt: }")),
        ("no-directory", authorities("{letsencript: {agree-to-terms: true}}")),
        ("no-directory-far", authorities("{corp: {}}")),
        ("plain-http", authorities("{corp: {directory: \"http://ca.test/dir\"}}")),
        ("not-a-url", authorities("{corp: {directory: ca.test/dir}}")),
        ("url-scheme", authorities("{corp: {directory: \"ftp://ca.test/dir\"}}")),
        ("url-password", authorities("{corp: {directory: \"https://user:hunter2@ca.test/dir\"}}")),
        ("contact", authorities("{corp: {directory: \"https://ca.test/dir\", contact: [ops, \"a@b.test,c@d.test\"]}}")),
        ("authority-hosts", authorities("{corp: {directory: \"https://ca.test/dir\", hosts: [\"files.ca.test:8443\", \"https://ca.test/x\"]}}")),
        ("external-account", authorities("{corp: {directory: \"https://ca.test/dir\", external-account: {key-id: a}}}")),
        ("target-verify", top("targets: {web1: {files: {directory: /x}, verify: [{tls: \"127.0.0.1:443\"}]}}")),
        ("target-name", top("targets: {\"files:/x\": {files: {directory: /x}}}")),
        ("target-wrong", target("{directory: /x, mode: rw}", "[web1]")),
        ("target-undefined", target("{directory: /x}", "[web2, {files: {directory: /y}}]")),
        ("target-undefined-far", target("{directory: /x}", "[database]")),
        ("target-undefined-none", with("deliver: [web1]")),
        ("target-shared", format!("{}  other: {{names: [b.test], deliver: [web1]}}\n", target("{directory: /srv/x}", "[{files: {directory: /srv/x/}}]"))),
        ("target-twice", target("{directory: /x}", "[web1, web1]")),
        ("target-state", target("{directory: /var/lib/countersign/x}", "[web1]")),
        ("later-verify", with("deliver: [{files: {directory: /x}, verify: [{tls: \"127.0.0.1:443\"}]}]")),
        ("later-key", with("key: rsa2048")),
        ("later-doh", top("dns: {look: doh}")),
        ("manual-takes-nothing", changed("rfc2136: {", "manual: {")),
        ("rest-missing", rest("digitalocean: {}")),
        ("rest-misspelt", rest("digitalocean: {tokne: {file: /x}}")),
        ("rest-bare-secret", rest("digitalocean: {token: hunter2}")),
        ("rest-bare-key", rest("porkbun: {api-key: hunter2, secret: {file: /x}}")),
        ("rest-endpoint", rest("digitalocean: {token: {file: /x}, endpoint: \"http://dns.example.net\"}")),
        ("rest-endpoint-form", rest("digitalocean: {token: {file: /x}, endpoint: {file: /y}}")),
        ("rest-no-endpoint", rest("powerdns: {token: {file: /x}}")),
        ("rest-no-setting", rest("dnsimple: {token: {file: /x}, acount: 1}")),
        ("rest-twice", rest("digitalocean: {token: {file: /x}, token: {file: /y}}")),
        ("rest-type", rest("digitalocean: {token: [hunter2]}")),
        ("rest-no-manifest", rest("manifest: {token: {file: /x}}")),
        ("rest-manifest-missing", rest("manifest: {file: tests/manifest/wrong/missing.yaml}")),
        ("rest-manifest-key", rest("manifest: {file: tests/manifest/wrong/key.yaml}")),
        ("rest-manifest-name", rest("manifest: {file: tests/manifest/wrong/name.yaml}")),
        ("rest-manifest-no-yaml", rest("manifest: {file: tests/manifest/wrong/no-yaml.yaml}")),
        ("rest-manifest-path", rest("manifest: {file: tests/manifest/wrong/path.yaml}")),
        ("rest-manifest-secret", rest("manifest: {file: tests/manifest/wrong/secret.yaml}")),
        ("rest-manifest-model", rest("manifest: {file: tests/manifest/wrong/model.yaml}")),
        ("unknown-plugin", changed("rfc2136: {", "rfc2163: {")),
        ("unknown-plugin-manul", changed("rfc2136: {", "manul: {")),
        ("no-plugin", changed("{office: {rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}}}", "{office: {}}")),
        ("process-no-command", process("{comand: [/usr/local/bin/dns]}")),
        ("process-relative", process("{command: [our-dns, --verbose]}")),
        ("process-line", process("{command: /usr/local/bin/dns --verbose}")),
        ("process-config", process("{command: [/usr/local/bin/dns], config: [hunter2]}")),
        ("process-bare-secret", process("{command: [/usr/local/bin/dns], secrets: {token: hunter2}}")),
        ("process-secret-twice", process("{command: [/usr/local/bin/dns], secrets: {a: {env: A}, a: {env: B}}}")),
        ("exec-no-command", plugin("{lego-exec: {}}")),
        ("exec-zones", plugin("{lego-exec: {command: [/usr/local/bin/dns.sh], zones: [\"*.example.test\"]}}")),
        ("exec-env", plugin("{lego-exec: {command: [/usr/local/bin/dns.sh], env: {TOKEN: hunter2}}}")),
        ("exec-env-name", plugin("{lego-exec: {command: [/usr/local/bin/dns.sh], env: {\"A=B\": {env: C}}}}")),
        ("httpreq-endpoint", plugin("{lego-httpreq: {endpoint: \"http://dns.test/acme\"}}")),
        ("httpreq-login", plugin("{lego-httpreq: {endpoint: \"https://dns.test\", username: a}}")),
        ("acme-dns-missing", plugin("{acme-dns: {urll: \"https://auth.example.org\"}}")),
        ("acme-dns-url", plugin("{acme-dns: {url: \"http://auth.example.org\", accounts: {file: /x}}}")),
        ("acme-dns-bare", plugin("{acme-dns: {url: \"https://auth.example.org\", accounts: hunter2}}")),
        ("acme-sh-missing", plugin("{acme-sh: {}}")),
        ("acme-sh-script", plugin("{acme-sh: {home: /opt/acme.sh, script: \"dns_nic; id\"}}")),
        ("hooks-missing", plugin("{certbot-hooks: {auth: [put.sh]}}")),
        ("bad-server", provider("{server: \"http://192.0.2.53\"}")),
        ("bad-server-port", provider("{server: \"192.0.2.53:dns\"}")),
        ("no-server", provider("{tsig: {keyfile: /k}}")),
        ("bad-algorithm", tsig("{name: k, algorithm: hmac-md5, secret: {env: K}}")),
        ("cloudflare-missing", cloudflare("{zones: {example.com: \"\"}}")),
        ("cloudflare-zones", cloudflare("{token: {env: T}, zones: {example.com: example.com, \"*.b.test\": \"0123456789abcdef0123456789abcdef\"}}")),
        ("cloudflare-bare-token", cloudflare("{token: hunter2}")),
        ("endpoint-plain-http", cloudflare("{token: {env: T}, endpoint: \"http://api.test/v4\"}")),
        ("endpoint-not-a-url", cloudflare("{token: {env: T}, endpoint: api.test}")),
        ("endpoint-password", cloudflare("{token: {env: T}, endpoint: \"https://user:hunter2@api.test/v4\"}")),
        ("route53-source", route53("{profile: dns, access-key-id: AKIAIOSFODNN7EXAMPLE}")),
        ("route53-half-a-key", route53("{access-key-id: AKIAIOSFODNN7EXAMPLE}")),
        ("route53-no-key", route53("{secret-access-key: {env: S}}")),
        ("route53-key", route53("{access-key-id: \"hunter2/hunter2+hunter2/hunter2\", secret-access-key: hunter2}")),
        ("route53-role", route53("{assume-role: {arn: dns, external-id: \"a b\", session-name: x}}")),
        ("route53-no-role", route53("{assume-role: {externl-id: shared}}")),
        ("route53-zones", route53("{zones: {example.com: example.com, \"*.b.test\": Z0123456789EXAMPLE}}")),
        ("route53-region", route53("{region: Frankfurt}")),
        ("route53-endpoint", route53("{endpoint: \"http://route53.test\", sts-endpoint: sts.test}")),
        ("googlecloud-bare-key", plugin("{googlecloud: {credentials: hunter2}}")),
        ("googlecloud-wrong", plugin("{googlecloud: {project: My Project, zones: {example.com: Example}, metadata-endpoint: \"http://metadata.test\"}}")),
        ("googlecloud-misspelt", plugin("{googlecloud: {credential: {file: /k}}}")),
        ("ovh-missing", plugin("{ovh: {aplication-key: x}}")),
        ("ovh-wrong", plugin("{ovh: {application-key: \"hunter2 hunter2\", application-secret: hunter2, consumer-key: hunter2, region: uk, zones: [\"*.b.test\"]}}")),
        ("azuredns-missing", plugin("{azuredns: {subscripton: x}}")),
        ("azuredns-twice", plugin("{azuredns: {subscription: 00000000-0000-0000-0000-000000000000, client-secret: {env: S}, managed-identity: {}}}")),
        ("azuredns-half", plugin("{azuredns: {subscription: prod, client-id: \"hunter2\", client-secret: hunter2}}")),
        ("azuredns-workload", plugin("{azuredns: {subscription: 00000000-0000-0000-0000-000000000000, workload-identity: {tenant: a_b}, cloud: germany}}")),
        ("azuredns-wrong", plugin("{azuredns: {subscription: 00000000-0000-0000-0000-000000000000, managed-identity: {}, resource-group: a/b, zones: {example.com: example.com}, endpoint: \"http://arm.test\"}}")),
        ("tsig-both", tsig("{keyfile: /k, name: k}")),
        ("tsig-neither", tsig("{}")),
        ("tsig-parts", tsig("{name: k}")),
        ("bad-key", with("key: p265")),
        ("bad-mode", files("mode: \"0680\"")),
        ("bad-mode-text", files("mode: rw-r-----")),
        ("bad-mode-bits", files("cert-mode: \"4755\"")),
        ("file-name", files("names: {fullchain: ../x, cert: .hidden, chain: current}")),
        ("file-name-twice", files("names: {fullchain: cert.pem}")),
        ("file-name-unknown", files("names: {full: x}")),
        ("same-directory", format!("{}  other: {{names: [b.test], deliver: [{{files: {{directory: /srv//x/}}}}]}}\n", with("deliver: [{files: {directory: /srv/x}}]"))),
        ("directory-state", with("deliver: [{files: {directory: /var/lib/countersign/out}}]")),
        ("directory-dots", with("deliver: [{files: {directory: /srv/../etc}}]")),
        ("no-directory-of-files", with("deliver: [{files: {}}]")),
        ("no-files", with("deliver: [{reload: [systemctl, reload, nginx]}]")),
        ("reload-line", with("deliver: [{files: {directory: /x}, reload: systemctl reload nginx}]")),
        ("reload-empty", with("deliver: [{files: {directory: /x}, reload: []}]")),
        ("nameserver", top("nameserver: {zone: acme.example.net, listen: [203.0.113.5], hosts: {ns1.example.com: [x]}}")),
        ("nameserver-missing", top("nameserver: {listen: []}")),
        ("dns-port", top("dns: {port: 70000}")),
        ("dns-addresses", top("dns: {roots: [a.root-servers.net, \"1.2.3.4:53\"], resolvers: [\"1.2.3.4:0\"]}")),
        ("dns-roots-unused", top("dns: {look: resolvers, roots: [192.0.2.1]}")),
        ("log", top("log: {format: xml, level: debgu}")),
        ("web", top("web: {listen: 9180, hosts: [\"https://monitor.example.com/\", 192.0.2.1]}")),
        ("web-missing", top("web: {host: [monitor.example.com]}")),
    ]
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
