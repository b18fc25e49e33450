//! The main job with Pebble: its DNS, and ours, is read from the API, never from what Countersign keeps.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::ZONE;
use crate::canary::{Search, search_files, search_output};
use crate::issuance::judge;
use crate::support::bridge::Bridge;
use crate::support::cloudflare::{Cloudflare, Fate, State, Token, dns};
use crate::support::command::Countersign;
use crate::support::pebble::{Pebble, RunningPebble, Version};

const CHALLENGE: &str = "_acme-challenge.example.test";

struct Scene {
    api: Cloudflare,
    bridge: Bridge,
    pebble: RunningPebble,
    secrets: TempDir,
}

impl Scene {
    fn new() -> Self {
        let state = State::new(Token::usual()).zone(ZONE, "acme");
        let state = state.zone("other.test", "acme");
        let api = Cloudflare::start(state);
        let bridge = dns::bridge(&api);
        let pebble = Pebble::new(Version::Newest, bridge.addr()).start();
        let scene = Self {
            api,
            bridge,
            pebble,
            secrets: TempDir::new().unwrap(),
        };
        scene.write_token(&Token::usual().secret);
        scene
    }

    fn program(&self, more: &str, names: &str) -> Countersign {
        Countersign::new(&format!(
            "state: {{dir}}/state
authorities: {{pebble: {{agree-to-terms: true, directory: \"{directory}\", trust: {trust}}}}}
providers: {{cf: {{cloudflare: {{token: {{file: {token}}}, endpoint: \"{url}\"{more}}}}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
  example: {{names: {names}, deliver: [{{files: {{directory: \"{{dir}}/out\"}}}}]}}
",
            token = self.secrets.path().join("token").display(),
            directory = self.pebble.directory_url(),
            trust = self.pebble.https_root().display(),
            url = self.api.url(),
            port = self.bridge.addr().port(),
        ))
    }

    fn write_token(&self, text: &str) {
        std::fs::write(self.secrets.path().join("token"), text).unwrap();
    }
}

#[test]
fn apex_and_wildcard_are_issued_through_cloudflare_and_nothing_of_ours_is_left() {
    let scene = Scene::new();
    let id = scene.api.state().zone_id(ZONE);
    scene
        .api
        .state()
        .add(&id, "TXT", CHALLENGE, "\"foreign\"", 120);
    let program = scene.program("", "[example.test, \"*.example.test\"]");
    program.run(&["renew", "--log", "debug"]).expect_code(0);
    let names = ["example.test", "*.example.test"];
    judge(
        &program.path("out"),
        &scene.pebble.issuing_root_pem(),
        &names,
    );
    let left = [format!("{CHALLENGE} \"foreign\" 120 null")];
    assert_eq!(scene.api.state().shown(&id), left);
}

#[test]
fn a_token_that_only_edits_dns_is_enough_for_a_zone_with_its_id() {
    let scene = Scene::new();
    let id = scene.api.state().zone_id(ZONE);
    {
        let mut state = scene.api.state();
        let token = state.token_mut();
        token.zones = Some(vec![id.clone()]);
        token.reads_zones = false;
    }
    let program = scene.program(
        &format!(", zones: {{{ZONE}: \"{id}\"}}"),
        "[www.example.test]",
    );
    program.run(&["renew"]).expect_code(0);
    assert_eq!(scene.api.asked(), "list batch batch");
    assert_eq!(scene.api.state().shown(&id), [""; 0]);
}

#[test]
fn the_usual_order_takes_few_calls_and_each_record_says_whose_it_is() {
    let scene = Scene::new();
    let id = scene.api.state().zone_id(ZONE);
    let shown = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&shown);
    scene.api.decide(move |_, state| {
        seen.lock().unwrap().extend(state.shown(&id));
        Fate::Pass
    });
    let program = scene.program("", "[www.example.test]");
    program.run(&["renew"]).expect_code(0);
    let shown = shown.lock().unwrap();
    let (_, owner) = shown[0].split_once(" 60 countersign ").unwrap();
    assert!(owner.len() >= 16, "the store's id: {owner}");
    assert_eq!(scene.api.asked(), "zones list batch batch");
}

#[test]
fn the_token_is_seen_nowhere_whether_it_is_taken_or_refused() {
    let scene = Scene::new();
    let program = scene.program("", "[www.example.test]");
    let mut search = Search::default();
    let token = Token::usual().secret;
    let wrong = token.chars().rev().collect::<String>();
    search.add("the token", token.as_bytes());
    search.add("the wrong token", wrong.as_bytes());
    let run = |code| {
        let done = program.run(&["renew", "--log", "trace"]).expect_code(code);
        search_output(&search, "renew", &done);
        done
    };
    scene.write_token(&wrong);
    let told = run(1).stderr;
    let sentence = "the token is unknown, expired or switched off";
    assert!(told.contains(sentence), "{told}");
    scene.write_token(&format!("{wrong}\n{token}"));
    let told = run(1).stderr;
    assert!(told.contains("holds a line end"), "{told}");
    scene.write_token(&token);
    run(0);
    assert!(search_files(&search, program.directory()) > 5);
}
