//! Secrets stay where they belong: whole lives with a marked value in every credential, then everything that anybody
//! else could read is searched for them and for the private keys that were made.
//!
//! Searched are all output at trace level, error messages, arguments and environments of children, and every file but
//! those that must hold the secret. A piece of twelve octets counts, raw and in every usual encoding.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use countersign::store::{Sealed, Store as _, open_state};
use countersign_providers::clock::Clock;
use countersign_providers::secret::SecretSource;

use crate::issuance::{Host, configuration};
use crate::support::command::{Countersign, Finished};
use crate::support::pebble::{Pebble, RunningPebble, Version};

/// A piece of a secret of this many octets is a leak.
const PIECE: usize = 12;
/// Pieces begin at every octet that is a multiple of this.
const STEP: usize = 4;

// --- what is searched for --------------------------------------------------------------------------------------------

/// Finds pieces of secrets in every usual encoding.
#[derive(Default)]
pub(crate) struct Search {
    /// By their first octets: the whole piece, whose it is, and how it is written.
    pieces: HashMap<[u8; KEY], Vec<(Vec<u8>, String)>>,
}

const KEY: usize = 8;

impl Search {
    pub(crate) fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(
            secret.len() >= PIECE,
            "{name} is too short to be told from chance"
        );
        for at in (0..=secret.len() - PIECE).step_by(STEP) {
            for (way, form) in encodings(&secret[at..at + PIECE]) {
                let key = *form.first_chunk().expect("no encoding is shorter");
                let known = self.pieces.entry(key).or_default();
                known.push((form, format!("{name}, octets from {at}, {way}")));
            }
        }
    }

    /// What is found in `text`, as it is and without white space (encoders break lines).
    fn find(&self, text: &[u8]) -> Vec<&str> {
        let dense: Vec<u8> = text
            .iter()
            .copied()
            .filter(|octet| !octet.is_ascii_whitespace())
            .collect();
        let mut found: Vec<&str> = [text, &dense]
            .iter()
            .flat_map(|text| self.find_in(text))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn find_in<'a>(&'a self, text: &[u8]) -> Vec<&'a str> {
        let mut found = Vec::new();
        for (at, key) in text.windows(KEY).enumerate() {
            let Some(pieces) = self.pieces.get(key) else {
                continue;
            };
            let here = pieces
                .iter()
                .filter(|(piece, _)| text[at..].starts_with(piece));
            found.extend(here.map(|(_, what)| what.as_str()));
        }
        found
    }

    fn expect_none(&self, place: &str, text: &[u8]) {
        let found = self.find(text);
        assert!(found.is_empty(), "{place} shows {found:#?}");
    }
}

fn encodings(piece: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("raw".to_owned(), piece.to_vec())];
    let mut add = |way: &str, text: String| all.push((way.to_owned(), text.into_bytes()));
    let each = |format: &dyn Fn(&u8) -> String, between: &str| {
        piece.iter().map(format).collect::<Vec<_>>().join(between)
    };
    for (case, hex) in [
        (
            "lower",
            &(|octet: &u8| format!("{octet:02x}")) as &dyn Fn(&u8) -> String,
        ),
        ("upper", &|octet: &u8| format!("{octet:02X}")),
    ] {
        add(&format!("hex in {case} case"), each(hex, ""));
        add(&format!("hex with colons in {case} case"), each(hex, ":"));
        add(
            &format!("percent-encoded in {case} case"),
            format!("%{}", each(hex, "%")),
        );
        add(
            &format!("escaped in {case} case"),
            format!("\\x{}", each(hex, "\\x")),
        );
    }
    // As `Debug` and JSON write octets.
    add(
        "a list of numbers",
        each(&|octet: &u8| octet.to_string(), ","),
    );
    let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.~".contains(octet);
    let escaped = |octet: &u8| match is_plain(octet) {
        true => char::from(*octet).to_string(),
        false => format!("%{octet:02X}"),
    };
    add("percent-encoded where needed", each(&escaped, ""));
    // Where a piece stands in a longer text decides how it comes out; its edges mix with its neighbours.
    for shift in 0..3 {
        let shifted = [vec![0; shift], piece.to_vec()].concat();
        let first = (shift * 8).div_ceil(6);
        let end = shifted.len() * 8 / 6;
        for (way, text) in [
            ("base64", STANDARD_NO_PAD.encode(&shifted)),
            ("base64url", URL_SAFE_NO_PAD.encode(&shifted)),
        ] {
            add(&format!("{way} at {shift}"), text[first..end].to_owned());
        }
    }
    all
}

#[test]
fn the_search_finds_what_is_planted() {
    let secret: Vec<u8> = (0..32_u8)
        .map(|n| n.wrapping_mul(37).wrapping_add(11))
        .collect();
    let mut search = Search::default();
    search.add("it", &secret);
    let hex: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
    let base64 = STANDARD.encode([b"x".as_slice(), &secret, b"yz"].concat());
    let wrapped = format!("{}\n{}", &base64[..20], &base64[20..]);
    let percent: String = secret.iter().map(|octet| format!("%{octet:02X}")).collect();
    let planted: [(&str, Vec<u8>); 9] = [
        ("raw", secret.clone()),
        ("a piece", secret[7..24].to_vec()),
        ("hex", hex.clone().into_bytes()),
        ("HEX", hex.to_uppercase().into_bytes()),
        ("base64", base64.into_bytes()),
        ("wrapped base64", wrapped.into_bytes()),
        ("base64url", URL_SAFE_NO_PAD.encode(&secret).into_bytes()),
        ("percent", percent.into_bytes()),
        ("debug", format!("{secret:?}").into_bytes()),
    ];
    for (way, text) in planted {
        let text = [b"before ".as_slice(), &text, b" after"].concat();
        assert!(!search.find(&text).is_empty(), "{way} is not found");
    }
    let other: Vec<u8> = secret.iter().map(|octet| octet ^ 1).collect();
    assert_eq!(search.find(&other), [""; 0]);
}

// --- where the secrets are -------------------------------------------------------------------------------------------

/// A secret of 48 octets that looks like nothing else.
pub(crate) fn marked(seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed).wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..48).map(|_| next()).collect()
}

/// How a secret is given.
#[derive(Clone, Copy, Debug)]
enum Form {
    File,
    Env,
    Credential,
    Command,
    /// One in the environment, the others from commands, which must not see it.
    Mixed,
}

/// Names of the files that hold the secrets of a scene.
const SECRETS: [&str; 3] = ["tsig", "mac", "seal"];
/// And that of other tests' only secret. None is searched.
const SECRET: &str = "secret";
/// Files of a delivered generation that hold the leaf key.
const KEY_FILES: [&str; 2] = ["privkey.pem", "bundle.pem"];

impl Form {
    fn source(self, name: &str) -> String {
        match self.of(name) {
            Self::File => format!("{{file: \"{{dir}}/{name}\"}}"),
            Self::Env => format!("{{env: CANARY_{}}}", name.to_uppercase()),
            Self::Credential => format!("{{credential: {name}}}"),
            Self::Command | Self::Mixed => {
                format!("{{command: [\"{{dir}}/spy\", \"{{dir}}/{name}\"]}}")
            }
        }
    }

    fn of(self, name: &str) -> Self {
        match (self, name) {
            (Self::Mixed, "tsig") => Self::Env,
            (Self::Mixed, _) => Self::Command,
            (form, _) => form,
        }
    }
}

/// Servers that want a TSIG key and an external account.
struct Scene {
    host: Host,
    pebble: RunningPebble,
    mac: String,
}

impl Scene {
    fn start() -> Self {
        let host = Host::usual();
        let mac = URL_SAFE_NO_PAD.encode(marked(1));
        let pebble = Pebble::new(Version::Newest, host.addr())
            .external_account("kid-1", &mac)
            .start();
        Self { host, pebble, mac }
    }

    /// The program with every secret in the given form.
    fn program(&self, form: Form, log: &str) -> Countersign {
        let secrets = [
            ("tsig", self.host.key.secret.clone()),
            ("mac", self.mac.clone()),
            ("seal", STANDARD.encode(&marked(2)[..32])),
        ];
        let mut program = Countersign::new(&self.configuration(form, log));
        for (name, secret) in &secrets {
            match form.of(name) {
                Form::Env => {
                    program = program.env(&format!("CANARY_{}", name.to_uppercase()), secret)
                }
                Form::File | Form::Credential | Form::Command | Form::Mixed => {
                    std::fs::write(program.path(name), secret).unwrap()
                }
            }
        }
        write_spy(&program);
        let credentials = program.directory().to_string_lossy().into_owned();
        program.env("CREDENTIALS_DIRECTORY", &credentials)
    }

    fn configuration(&self, form: Form, log: &str) -> String {
        let certificate = "  example:
    names: [example.test, \"*.example.test\"]
    deliver: [{files: {directory: \"{dir}/out\"}, reload: [\"{dir}/spy\"]}]
";
        let directory = self.pebble.directory_url();
        let text = configuration(
            &self.host,
            &directory,
            &self.pebble.https_root(),
            certificate,
        );
        let external = format!(
            "agree-to-terms: true\n    external-account: {{key-id: kid-1, mac-key: {}}}",
            form.source("mac")
        );
        let head = format!(
            "log: {{format: {log}, level: trace}}\nseal-key: {}\n",
            form.source("seal")
        );
        head + &text
            .replace("{file: \"{dir}/tsig\"}", &form.source("tsig"))
            .replace("agree-to-terms: true", &external)
    }

    /// What no run may show, whatever happens.
    fn search(&self) -> Search {
        let mut search = Search::default();
        search.add(
            "the TSIG secret as written",
            self.host.key.secret.as_bytes(),
        );
        search.add(
            "the TSIG secret",
            &STANDARD.decode(&self.host.key.secret).unwrap(),
        );
        search.add("the MAC key as written", self.mac.as_bytes());
        search.add("the MAC key", &marked(1));
        search.add(
            "the seal key as written",
            STANDARD.encode(&marked(2)[..32]).as_bytes(),
        );
        search.add("the seal key", &marked(2)[..32]);
        search
    }
}

/// A child that writes down its arguments, its environment and its parent's arguments, then prints the file that it is
/// told to.
pub(crate) fn write_spy(program: &Countersign) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = program.path("spy");
    let script = "#!/bin/sh
cat /proc/$$/cmdline /proc/$$/environ /proc/$PPID/cmdline >\"${0%/*}/seen-by-child-$$\"
if [ $# -gt 0 ]; then exec cat \"$1\"; fi
";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// Nothing in what a command said.
pub(crate) fn search_output(search: &Search, what: &str, finished: &Finished) {
    search.expect_none(&format!("stdout of {what}"), finished.stdout.as_bytes());
    search.expect_none(&format!("stderr of {what}"), finished.stderr.as_bytes());
}

/// The daemon with a lost certificate, until it is delivered anew.
fn run_once(program: &Countersign) -> Finished {
    std::fs::remove_dir_all(program.path("state")).unwrap();
    std::fs::remove_dir_all(program.path("out")).unwrap();
    let daemon = program.start(&["run"]);
    daemon.wait_for("delivered to").unwrap();
    daemon.terminate();
    daemon.finish().expect_code(0)
}

/// Nothing in any file below `directory` but those that must hold a secret. How many were searched.
pub(crate) fn search_files(search: &Search, directory: &Path) -> usize {
    files(directory)
        .iter()
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_given =
                path.parent() == Some(directory) && (name == SECRET || SECRETS.contains(&&*name));
            !is_given && !KEY_FILES.contains(&&*name)
        })
        .map(|path| search.expect_none(&path.display().to_string(), &std::fs::read(path).unwrap()))
        .count()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    // A link's name and aim could tell something, but hold nothing that its aim does not.
    all.retain(|path| path.is_file());
    all
}

/// The private number of an elliptic curve key in PKCS#8 (RFC 5915: version 1, then an octet string).
fn scalar(pkcs8: &[u8]) -> &[u8] {
    let mark = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = pkcs8.windows(mark.len()).position(|window| window == mark);
    let from = at.expect("a P-256 key in PKCS#8") + mark.len();
    &pkcs8[from..from + 32]
}

fn delivered_key(program: &Countersign) -> Vec<u8> {
    let pem = std::fs::read_to_string(program.path("out/privkey.pem")).unwrap();
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    scalar(&STANDARD.decode(body).unwrap()).to_vec()
}

/// Every sealed record of the store, opened.
async fn opened_keys(program: &Countersign) -> Vec<(String, Vec<u8>)> {
    let source = program.path("seal-for-the-test");
    std::fs::write(&source, STANDARD.encode(&marked(2)[..32])).unwrap();
    let (state, clock) = (program.path("state"), Clock::system());
    let (store, sealer) = open_state(&state, Some(&SecretSource::File(source.clone())), &clock)
        .await
        .unwrap();
    let mut keys = Vec::new();
    for (key, record) in store.scan("").await.unwrap() {
        if let Ok(sealed) = serde_json::from_slice::<Sealed>(&record.value) {
            let secret = sealer.open(&key, &sealed).unwrap();
            keys.push((key.to_string(), scalar(secret.expose()).to_vec()));
        }
    }
    std::fs::remove_file(source).unwrap();
    keys
}

// --- lives -----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_seen_while_all_goes_well() {
    let scene = Scene::start();
    for (form, log) in [
        (Form::File, "text"),
        (Form::Env, "json"),
        (Form::Credential, "json"),
        (Form::Command, "text"),
        (Form::Mixed, "text"),
    ] {
        let program = scene.program(form, log);
        let mut said = vec![("renew", program.run(&["renew"]).expect_code(0))];
        let first_leaf = delivered_key(&program);
        for (what, arguments) in [
            (
                "renew --force",
                ["--log", "trace", "renew", "--force"].as_slice(),
            ),
            ("check", &["--log", "trace", "check"]),
            ("status", &["--log", "trace", "status", "example"]),
            ("status --json", &["--log", "trace", "status", "--json"]),
            ("history", &["--log", "trace", "history", "example"]),
        ] {
            said.push((what, program.run(arguments).expect_code(0)));
        }
        let mut kept = opened_keys(&program).await;
        let forced_leaf = delivered_key(&program);
        said.push(("run", run_once(&program)));
        for told in [
            "ca request",
            "ca reply",
            "a name server answered",
            "provider call",
            "effect",
        ] {
            for (what, finished) in [&said[0], &said[said.len() - 1]] {
                assert!(
                    finished.stderr.contains(told),
                    "{what} does not log `{told}`"
                );
            }
        }

        let mut search = scene.search();
        search.add("the leaf key of the first generation", &first_leaf);
        search.add("the leaf key of the second generation", &forced_leaf);
        search.add("the leaf key", &delivered_key(&program));
        kept.extend(opened_keys(&program).await);
        for kind in ["account-key/", "key/"] {
            assert!(
                kept.iter().any(|(key, _)| key.starts_with(kind)),
                "no {kind} in the store"
            );
        }
        for (key, secret) in &kept {
            search.add(&format!("the key in the record {key}"), secret);
        }
        for (what, finished) in &said {
            search_output(&search, &format!("{what} ({form:?})"), finished);
        }
        let searched = search_files(&search, program.directory());
        let seen = files(program.directory())
            .iter()
            .filter(|path| path.to_string_lossy().contains("seen-by-child-"))
            .count();
        assert!(seen >= 2, "only {seen} children were spied on");
        assert!(searched > seen, "no other file was searched");
    }
}

#[test]
fn no_secret_is_seen_when_something_is_wrong() {
    let scene = Scene::start();
    let wrong = STANDARD.encode(marked(3));
    let torn = format!("!{}!", URL_SAFE_NO_PAD.encode(marked(4)));
    let mut search = scene.search();
    search.add("the wrong secret as written", wrong.as_bytes());
    search.add("the wrong secret", &marked(3));
    search.add("the torn secret", torn.as_bytes());
    for log in ["text", "json"] {
        for name in SECRETS {
            for text in [&wrong, &torn] {
                let program = scene.program(Form::File, log);
                std::fs::write(program.path(name), text).unwrap();
                let what = format!("renew with a wrong {name}");
                search_output(&search, &what, &program.run(&["renew"]).expect_code(1));
                search_output(&search, "history", &program.run(&["history", "example"]));
                search_output(&search, "status", &program.run(&["status", "--json"]));
                search_output(&search, "check", &program.run(&["check"]));
                search_files(&search, program.directory());
            }
        }
    }
}

/// What a command says beside its end is not repeated, since it may be the secret.
#[test]
fn no_secret_is_seen_when_its_command_fails() {
    let scene = Scene::start();
    let program = scene.program(Form::File, "text");
    let loud = "{command: [sh, -c, \"cat tsig; cat tsig >&2; exit 3\"]}";
    let text = scene.configuration(Form::File, "text");
    program.configure(&text.replace("{file: \"{dir}/tsig\"}", loud));
    let finished = program.run(&["renew"]).expect_code(1);
    search_output(&scene.search(), "renew", &finished);
    search_files(&scene.search(), program.directory());
}

/// A key file that cannot be read as one is not quoted.
#[test]
fn no_secret_is_seen_of_a_broken_key_file() {
    let scene = Scene::start();
    let parts = format!(
        "{{name: {}, algorithm: {}, secret: {{file: \"{{dir}}/tsig\"}}}}",
        scene.host.key.name, scene.host.key.algorithm
    );
    let text = scene
        .configuration(Form::File, "text")
        .replace(&parts, "{keyfile: \"{dir}/tsig\"}");
    let whole = scene.host.key.keyfile();
    let search = scene.search();
    for broken in [
        whole.replace("secret ", "secrets "),
        whole.replace("};", ""),
        whole.replace('"', ""),
        whole.replace("hmac-sha256", "hmac-md5"),
        whole.replace(';', "!"),
    ] {
        let program = scene.program(Form::File, "text");
        program.configure(&text);
        std::fs::write(program.path("tsig"), &broken).unwrap();
        search_output(
            &search,
            &format!("renew with {broken}"),
            &program.run(&["renew"]),
        );
        search_files(&search, program.directory());
    }
}
