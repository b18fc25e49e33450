//! A configuration in several files: what is joined, what is refused, and where each mistake is said to be.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use countersign::config::{Config, ConfigErrors};
use countersign_providers::clock::Clock;
use tempfile::TempDir;

use crate::cli::Lab;
use crate::support::command::Countersign;
use crate::support::golden::{golden, root};
use crate::support::process::eventually;

/// A daemon takes no longer.
const WITHIN: Duration = Duration::from_secs(30);

const MAIN: &str = "include: conf.d/*.yaml
authorities: {letsencrypt: {agree-to-terms: true}}
providers: {office: {rfc2136: {server: 192.0.2.53, tsig: {keyfile: acme.key}}}}
certificates: {example: {names: [example.com]}}
";

/// A name, the file that includes others, and those.
type Case = (&'static str, String, Vec<(&'static str, String)>);

/// A directory with these files.
fn files(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::with_prefix("countersign-test-").unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

fn load(directory: &TempDir) -> Result<Config, ConfigErrors> {
    Config::load(&directory.path().join("countersign.yaml"))
}

fn authorities(config: &Config) -> Vec<&str> {
    let authorities = config.authorities.iter();
    authorities.map(|it| it.name.as_str()).collect()
}

#[test]
fn every_file_adds_its_names_in_the_order_of_the_files() {
    let directory = files(&[
        ("countersign.yaml", MAIN),
        (
            "conf.d/20-b.yaml",
            "authorities: {two: {directory: https://two.test/dir}}\n",
        ),
        (
            "conf.d/10-a.yaml",
            "authorities: {one: {directory: https://one.test/dir}}
targets: {web1: {files: {directory: certs}}}
defaults: {key: p384}
state: here
",
        ),
        (
            "conf.d/30-c.yaml",
            "certificates: {web: {names: [web.test], deliver: [web1, {files: {directory: /srv/web}}]}}\n",
        ),
        ("conf.d/40-empty.yaml", "# nothing yet\n"),
        ("conf.d/.hidden.yaml", "wrong: true\n"),
        ("conf.d/README", "no YAML: [\n"),
    ]);
    let config = load(&directory).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(authorities(&config), ["letsencrypt", "one", "two"]);
    let names: Vec<&str> = config.certificates.keys().map(|it| it.as_str()).collect();
    assert_eq!(names, ["example", "web"]);
    // A relative path begins at the file that it stands in.
    let there = directory.path().join("conf.d");
    assert_eq!(config.state, there.join("here"));
    let web = config.certificates.values().last().unwrap();
    let targets: Vec<&str> = web.deliver.iter().map(|it| it.target.as_str()).collect();
    assert_eq!(targets, ["web1", "files:/srv/web"]);
    assert_eq!(web.deliver[0].files.directory, there.join("certs"));
    assert_eq!(format!("{:?}", web.key), "P384");
}

#[test]
fn a_list_is_taken_in_its_order_and_each_file_once() {
    let directory = files(&[
        (
            "countersign.yaml",
            &MAIN.replace(
                "conf.d/*.yaml",
                "[conf.d/z.yaml, conf.d/*.yaml, none.d/*.yaml]",
            ),
        ),
        (
            "conf.d/a.yaml",
            "authorities: {a: {directory: https://a.test/dir}}\n",
        ),
        (
            "conf.d/z.yaml",
            "authorities: {z: {directory: https://z.test/dir}}\n",
        ),
    ]);
    let config = load(&directory).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(authorities(&config), ["letsencrypt", "z", "a"]);
}

/// Each case is a configuration with one mistake; the expected message is in `tests/errors/config-include-NAME.txt`.
#[test]
fn every_mistake_in_several_files_has_its_message() {
    let one = |text: &str| vec![("conf.d/one.yaml", text.to_owned())];
    let including = |include: &str| MAIN.replace("conf.d/*.yaml", include);
    let main = MAIN.to_owned();
    let cases: Vec<Case> = vec![
        (
            "value",
            main.clone(),
            one("# first\ncertificates:\n  web: {names: [192.0.2.1]}\n"),
        ),
        ("unknown-key", main.clone(), one("certificate: {}\n")),
        (
            "not-yaml",
            main.clone(),
            one("certificates: {web: {names: [*.web.test]}}\n"),
        ),
        (
            "wrong-type",
            main.clone(),
            one("certificates: {web: {names: web.test}}\n"),
        ),
        (
            "duplicate",
            main.clone(),
            one("certificates:\n  other: {names: [a.test]}\n  example: {names: [b.test]}\n"),
        ),
        (
            "duplicate-below",
            main.clone(),
            vec![
                (
                    "conf.d/a.yaml",
                    "targets: {web1: {files: {directory: /a}}}\n".to_owned(),
                ),
                (
                    "conf.d/b.yaml",
                    "targets: {web1: {files: {directory: /b}}}\n".to_owned(),
                ),
            ],
        ),
        (
            "scalar-twice",
            format!("{MAIN}state: /a\n"),
            one("log: {level: warn}\nstate: /b\n"),
        ),
        ("nested", main.clone(), one("include: more.d/*.yaml\n")),
        ("missing", including("conf.d/one.yaml"), vec![]),
        (
            "missing-in-list",
            including("[conf.d/*.yaml, /nowhere/x.yaml]"),
            vec![],
        ),
        ("any-depth", including("conf.d/**/*.yaml"), vec![]),
        ("pattern", including("conf.d/[a.yaml"), vec![]),
        ("directory", including("conf.d"), one("")),
        ("empty-text", including("\"\""), vec![]),
        ("not-text", including("{a: b}"), vec![]),
        ("misspelt", main.replace("include", "inclde"), one("")),
    ];
    let mut written = BTreeSet::new();
    for (name, main, others) in cases {
        let others = others.iter().map(|(name, text)| (*name, text.as_str()));
        let all: Vec<(&str, &str)> = [("countersign.yaml", main.as_str())]
            .into_iter()
            .chain(others)
            .collect();
        let directory = files(&all);
        let error = load(&directory)
            .err()
            .unwrap_or_else(|| panic!("{name} is accepted"));
        let message = error
            .to_string()
            .replace(&directory.path().display().to_string(), "DIR");
        let file = format!("tests/errors/config-include-{name}.txt");
        golden(&root().join(&file), &format!("{message}\n"));
        written.insert(file);
    }
    for entry in std::fs::read_dir(root().join("tests/errors")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let file = format!("tests/errors/{file}");
        let is_ours = file.starts_with("tests/errors/config-include-");
        assert!(!is_ours || written.contains(&file), "{file} has no case");
    }
}

#[test]
fn what_could_go_on_for_ever_is_not_read() {
    let directory = files(&[(
        "countersign.yaml",
        &MAIN.replace("conf.d/*.yaml", "[countersign.yaml, \"*.yaml\", /dev/zero]"),
    )]);
    let error = load(&directory).unwrap_err().to_string();
    assert!(error.contains("`/dev/zero` is not a file"), "{error}");
    assert!(!error.contains("a second time"), "not itself: {error}");
}

#[test]
fn many_large_files_are_refused() {
    let directory = files(&[("countersign.yaml", MAIN), ("conf.d/0.yaml", "")]);
    for number in 0..5 {
        let text = format!("# {}\n", "x".repeat(15 << 20));
        let path = directory.path().join(format!("conf.d/{number}.yaml"));
        std::fs::write(path, text).unwrap();
    }
    let error = load(&directory).unwrap_err().to_string();
    assert!(error.contains("more than 64 MiB"), "{error}");
}

/// Without optimisation it may take longer than the second that a release build is given.
#[test]
fn ten_thousand_certificates_in_as_many_files_are_read_in_a_second() {
    let directory = files(&[("countersign.yaml", MAIN), ("conf.d/0.yaml", "")]);
    for number in 0..10_000 {
        let text = format!(
            "targets: {{t{number}: {{files: {{directory: /srv/{number}}}}}}}\ncertificates: {{c{number}: {{names: [n{number}.example], deliver: [t{number}]}}}}\n"
        );
        let path = directory.path().join(format!("conf.d/{number}.yaml"));
        std::fs::write(path, text).unwrap();
    }
    let clock = Clock::system();
    let config = load(&directory).unwrap_or_else(|error| panic!("{error}"));
    let took = clock.elapsed();
    assert_eq!(config.certificates.len(), 10_001);
    println!("10,000 files: {took:?}");
}

/// A pattern may match nothing: then somebody wants to know.
#[test]
fn check_says_which_files_belong_to_it() {
    let program = Countersign::new(&MAIN.replace("tsig: {keyfile: acme.key}", "zone: a.test"));
    let none = program.run(&["check"]).expect_code(0).stdout;
    assert!(none.contains("\n  no file matches `include`\n"), "{none}");
    std::fs::create_dir(program.path("conf.d")).unwrap();
    for number in 1..=7 {
        let text = format!("certificates: {{c{number}: {{names: [c{number}.test]}}}}\n");
        std::fs::write(program.path(&format!("conf.d/{number}.yaml")), text).unwrap();
    }
    let some = program.run(&["check"]).expect_code(0).stdout;
    let line = some.lines().find(|it| it.contains("included")).unwrap();
    assert!(line.starts_with("  7 files included: "), "{line}");
    assert!(line.ends_with("conf.d/5.yaml and 2 more"), "{line}");
    assert!(some.contains("8 certificates with 8 names"), "{some}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_takes_over_what_changed_in_included_files() {
    let certificates = "  web: {names: [web.test], deliver: [web1]}\ninclude: conf.d/*.yaml\n";
    let lab = Lab::start(certificates).await;
    let program = &lab.program;
    let is_there = |directory: &str| {
        eventually(WITHIN, || {
            program.path(directory).join("current/cert.pem").exists()
        })
    };
    let here = program.directory().to_string_lossy().into_owned();
    let write = |name: &str, text: &str| {
        std::fs::write(program.path(name), text.replace("..", &here)).unwrap();
    };
    std::fs::create_dir(program.path("conf.d")).unwrap();
    write(
        "conf.d/targets.yaml",
        "targets: {web1: {files: {directory: ../first}}}\n",
    );
    let daemon = program.start(&["run"]);
    daemon.wait_for("ready: 1 certificate").unwrap();
    assert!(is_there("first"));

    write(
        "conf.d/targets.yaml",
        "targets: {web1: {files: {directory: ../second}}}\n",
    );
    write(
        "conf.d/shop.yaml",
        "certificates: {shop: {names: [shop.test], deliver: [{files: {directory: ../shop}}]}}\n",
    );
    daemon.hang_up();
    daemon.wait_for("reloaded: 2 certificates").unwrap();
    assert!(is_there("second") && is_there("shop"));
    let same = |name: &str| std::fs::read(program.path(name).join("cert.pem")).unwrap();
    assert_eq!(same("first"), same("second"), "delivered, not issued again");

    write("conf.d/shop.yaml", "certificates: {shop: {names: []}}\n");
    daemon.hang_up();
    daemon.wait_for("stays as it was").unwrap();
    write(
        "conf.d/shop.yaml",
        "certificates: {shop: {names: [shop.test]}}\n",
    );
    let status = program.run(&["status"]).expect_code(0).stdout;
    assert!(status.contains("conf.d/shop.yaml:1:"), "{status}");
    let details = program.run(&["status", "web"]).expect_code(0).stdout;
    assert!(details.contains("delivery    web1: installed"), "{details}");
    daemon.terminate();
    daemon.finish().expect_code(0);
}

#[test]
fn a_pattern_holds_only_where_it_stands() {
    // The directory itself has a name that would be a pattern.
    let outer = TempDir::with_prefix("countersign-[test]-").unwrap();
    let conf = outer.path().join("conf.d");
    std::fs::create_dir(&conf).unwrap();
    std::fs::write(outer.path().join("countersign.yaml"), MAIN).unwrap();
    std::fs::write(
        conf.join("a.yaml"),
        "certificates: {web: {names: [web.test]}}\n",
    )
    .unwrap();
    let file = outer.path().join("countersign.yaml");
    let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.certificates.len(), 2);
    let relative = Config::parse(Path::new("countersign.yaml"), MAIN).unwrap();
    assert_eq!(relative.certificates.len(), 1, "there is no conf.d here");
}
