//! Mistakes, each a small change of the least configuration, by the names of their golden messages.

use super::read;

pub(super) fn minimal() -> String {
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

pub(super) fn cases() -> Vec<(&'static str, String)> {
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
