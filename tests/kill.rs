//! `kill -9` at every kind of instant of `renew` and of the daemon, then the same again: nothing is lost, left behind or
//! asked for twice. At BIND whatever the instant, at other DNS hosts while records come and go.
//!
//! One run without a kill shows which events there are; the instants are drawn from them so that every kind is hit
//! at least three times. Where records are what it is about, it goes on until enough kills were at them. `SEED=n` repeats
//! a draw, `COUNTERSIGN_FULL=1` makes many more.

mod draw;
mod events;
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant as Moment};

use rustix::process::Pid;
use serde_json::Value;

use draw::{Draw, HITS, Instant, Scenario, Usual, plan};
use events::{Kinds, Log, is_of_records, kind_of_answer, kinds_of_line};
use host::{Host, TTL};

use crate::issuance::judge;
use crate::support::command::Countersign;
use crate::support::dns;
use crate::support::pebble::{Pebble, RunningPebble, Version};
use crate::support::process::eventually;
use crate::support::proxy::Proxy;
use crate::support::relay::Relay;
use crate::support::stepwise::{self, Stepwise};

/// So many kills at least; with `COUNTERSIGN_FULL`.
const KILLS: usize = 40;
const KILLS_IN_FULL: usize = 400;
/// So many of them at least while records come and go, where that is what it is about.
const AT_RECORDS: usize = 30;
const AT_RECORDS_IN_FULL: usize = 200;
/// After a restart nothing of ours is left for longer.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// Scenarios at the same time: most of one is waiting.
const AT_ONCE: usize = 6;
/// How long a slow DNS host takes for a reply.
const SLOW: Duration = Duration::from_millis(40);
/// An instant that a run may miss (its polls differ) is drawn anew so often.
const ROUNDS: usize = 5;
/// After so many failures the others would say the same.
const ENOUGH: usize = 4;

#[test]
fn whatever_the_instant_of_a_kill_the_next_run_finishes_the_job() {
    println!("{}", campaign(&["renew"], Host::bind(), Aim::Anywhere));
}

#[test]
fn whatever_the_instant_of_a_kill_the_next_daemon_finishes_the_job() {
    println!("{}", campaign(&["run"], Host::bind(), Aim::Anywhere));
}

#[test]
fn whenever_it_is_killed_at_bind_the_next_daemon_leaves_nothing_of_ours() {
    let told = campaign(&["run"], Host::bind(), Aim::Records);
    println!("{told}");
}

#[test]
fn whenever_it_is_killed_at_cloudflare_the_next_daemon_leaves_nothing_of_ours() {
    let told = campaign(&["run"], Host::cloudflare(), Aim::Records);
    println!("{told}");
}

#[test]
fn whenever_it_is_killed_at_route_53_the_next_daemon_leaves_nothing_of_ours() {
    let told = campaign(&["run"], Host::route53(), Aim::Records);
    println!("{told}");
}

/// At which instants the kills of a campaign are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    Anywhere,
    Records,
}

/// Lives of this command that end at such instants: how often what was hit. A daemon ends when it is at rest.
fn campaign(command: &'static [&'static str], host: Host, aim: Aim) -> String {
    let (seed, full) = settings();
    let at_records = match (aim, full) {
        (Aim::Anywhere, _) => 0,
        (Aim::Records, false) => AT_RECORDS,
        (Aim::Records, true) => AT_RECORDS_IN_FULL,
    };
    let world = World::start(command, host);
    let usual = Usual {
        one: world.baseline(Scenario::undisturbed(0, 1)),
        three: world.baseline(Scenario::undisturbed(1, 3)),
    };
    let usual = usual.only(|kind| aim == Aim::Anywhere || is_of_records(kind));
    let mut draw = Draw(seed);
    let mut planned: BTreeMap<String, usize> = BTreeMap::new();
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut next = 2;
    for round in 0..ROUNDS {
        let least = match (round, full) {
            (0, true) => KILLS_IN_FULL,
            (0, false) => KILLS,
            // Some lives miss their instant.
            _ => 2 * at_records.saturating_sub(world.tally().at_records),
        };
        let scenarios = plan(&mut draw, &usual, &mut planned, least, &mut next);
        if scenarios.is_empty() {
            break;
        }
        for (scenario, outcome) in world.play_all(&scenarios) {
            match outcome {
                Ok(hit) => {
                    for kind in hit {
                        *hits.entry(kind).or_default() += 1;
                    }
                }
                Err(why) => failures.push(format!("{scenario:?}\n{why}")),
            }
        }
        if !failures.is_empty() {
            break;
        }
        // What was missed is planned again.
        planned = usual
            .kinds()
            .into_iter()
            .map(|kind| (kind.clone(), hits.get(&kind).copied().unwrap_or(0)))
            .collect();
    }
    let told = format!("SEED={seed}\n{}", table(&usual, &hits, &world));
    assert!(
        failures.is_empty(),
        "{told}\n{} scenarios failed\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    let rare: Vec<_> = planned.iter().filter(|(_, hits)| **hits < HITS).collect();
    assert!(rare.is_empty(), "{told}\nhit too rarely: {rare:?}");
    let hit = world.tally().at_records;
    assert!(hit >= at_records, "{told}\n{hit} kills at records only");
    told
}

#[allow(
    clippy::disallowed_methods,
    reason = "how a person repeats a draw, and how tests/run --full asks for more; a seed is the time"
)]
fn settings() -> (u64, bool) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| now.expect("after 1970").as_micros() as u64);
    let full = std::env::var_os("COUNTERSIGN_FULL").is_some_and(|full| full != "0");
    (seed, full)
}

#[allow(clippy::disallowed_methods, reason = "real servers live in real time")]
fn now() -> Moment {
    Moment::now()
}

/// The challenge name of the certificate `name`.
fn challenge(name: &str) -> String {
    format!("_acme-challenge.{name}.example.test")
}

fn table(usual: &Usual, hits: &BTreeMap<String, usize>, world: &World) -> String {
    let mut text = String::from("hits  instant\n");
    for kind in usual.kinds() {
        let count = hits.get(&kind).copied().unwrap_or(0);
        writeln!(text, "{count:>4}  {kind}").expect("a String");
    }
    writeln!(text, "{:?}", *world.tally()).expect("a String");
    text
}

/// The servers, and what was counted in all lives.
struct World {
    command: &'static [&'static str],
    host: Host,
    pebble: RunningPebble,
    rejecting: RunningPebble,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    lives: usize,
    kills: usize,
    /// Of these while records came and went.
    at_records: usize,
    certificates: usize,
    orders: usize,
    /// newOrder requests whose reply was not committed.
    replies_not_committed: usize,
}

impl World {
    fn start(command: &'static [&'static str], host: Host) -> Self {
        let pebble = |percent| Pebble::new(Version::Newest, host.dns()).nonce_reject(percent);
        let (pebble, rejecting) = (pebble(0).start(), pebble(30).start());
        Self {
            command,
            host,
            pebble,
            rejecting,
            tally: Mutex::default(),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("nothing panics with this lock")
    }

    /// The events of a life without a kill.
    fn baseline(&self, scenario: Scenario) -> Vec<Kinds> {
        let stage = Stage::new(self, &scenario);
        let run = stage.run(self.command, None);
        assert_eq!(run.code, Some(0), "{}", run.log.told());
        stage.expect_done();
        run.events
    }

    /// Plays every scenario, several at a time; each gives what it hit, or what went wrong.
    fn play_all<'a>(
        &self,
        scenarios: &'a [Scenario],
    ) -> Vec<(&'a Scenario, Result<Kinds, String>)> {
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outcomes = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if failed.load(Ordering::Relaxed) >= ENOUGH {
                            return;
                        }
                        let outcome = self.play(scenario);
                        failed.fetch_add(usize::from(outcome.is_err()), Ordering::Relaxed);
                        let mut all = outcomes.lock().expect("nothing panics with this lock");
                        all.push((scenario, outcome));
                    }
                });
            }
        });
        outcomes
            .into_inner()
            .expect("nothing panics with this lock")
    }

    fn play(&self, scenario: &Scenario) -> Result<Kinds, String> {
        let runs = Mutex::new(Vec::new());
        let played =
            std::panic::catch_unwind(AssertUnwindSafe(|| Stage::new(self, scenario).play(&runs)));
        played.map_err(|panic| {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let mut text = why.unwrap_or_default();
            let runs = runs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            for (nth, run) in runs.iter().enumerate() {
                write!(text, "\n-- run {}:\n{}", nth + 1, run.log.told()).expect("a String");
            }
            text
        })
    }
}

/// One configuration and its state, and who listens between it and the servers.
struct Stage<'a> {
    world: &'a World,
    scenario: &'a Scenario,
    pebble: &'a RunningPebble,
    proxy: Proxy,
    relay: Relay,
    program: Countersign,
}

/// What one run came to.
struct Run {
    code: Option<i32>,
    /// What was hit, if the kill came.
    hit: Option<Kinds>,
    events: Vec<Kinds>,
    log: Log,
}

/// Waits for the instant, and kills.
#[derive(Default)]
struct Watch {
    pid: Option<Pid>,
    instant: Option<Instant>,
    seen: usize,
    hit: Option<Kinds>,
    events: Vec<Kinds>,
}

impl Watch {
    fn see(&mut self, kinds: Kinds) {
        if let (Some(pid), Some(instant)) = (self.pid, &self.instant) {
            self.seen += usize::from(kinds.contains(&instant.kind));
            if self.hit.is_none() && self.seen == instant.nth {
                stepwise::kill(pid);
                self.hit = Some(kinds.clone());
            }
        }
        self.events.push(kinds);
    }
}

impl<'a> Stage<'a> {
    fn new(world: &'a World, scenario: &'a Scenario) -> Self {
        let pebble = if scenario.rejects_nonces {
            &world.rejecting
        } else {
            &world.pebble
        };
        let proxy = Proxy::start(pebble.addr(), pebble.https_root_pem(), "/dir");
        let delay = if scenario.slow { SLOW } else { Duration::ZERO };
        let relay = Relay::start(world.host.api(), delay);
        // Nameservers are asked directly, changes go through the relay.
        let program = Countersign::new(&format!(
            "log: {{format: json, level: trace}}
state: {{dir}}/state
authorities: {{pebble: {{agree-to-terms: true, directory: \"{directory}\", trust: {trust}}}}}
providers: {{office: {{{provider}}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
{certificates}",
            directory = proxy.directory_url(),
            trust = proxy.https_root().display(),
            provider = world.host.provider(relay.addr()),
            port = world.host.dns().port(),
            certificates = scenario.certificates(),
        ));
        world.host.write_secret(&program);
        Self {
            world,
            scenario,
            pebble,
            proxy,
            relay,
            program,
        }
    }

    /// Runs the program, killed at `instant` if it comes.
    fn run(&self, arguments: &[&str], instant: Option<Instant>) -> Run {
        let watch = Arc::new(Mutex::new(Watch {
            instant,
            ..Watch::default()
        }));
        let see = {
            let watch = Arc::clone(&watch);
            move |kinds| {
                watch
                    .lock()
                    .expect("nothing panics with this lock")
                    .see(kinds)
            }
        };
        let hear = see.clone();
        self.proxy
            .on_answer(move |seen, _| hear(vec![kind_of_answer(seen)]));
        let hear = see.clone();
        self.relay
            .on_reply(move || hear(vec!["provider: 2 answered, reply on its way".to_owned()]));
        let program = Stepwise::start(self.program.command(arguments));
        let pid = program.pid();
        let locked = || watch.lock().expect("nothing panics with this lock");
        locked().pid = Some(pid);
        let mut log = Log::default();
        let ended = program.run(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
            if line["fields"]["message"] == "at rest" {
                stepwise::terminate(pid);
            }
            see(kinds_of_line(&line));
            log.0.push(line);
        });
        let mut watch = locked();
        // Late replies must not be taken for this run's, nor a new process for this one.
        watch.pid = None;
        assert!(
            watch.hit.is_some() || !ended.was_killed(),
            "{:?}",
            watch.instant
        );
        // It may have ended by itself after its last line, before the kill came.
        if !ended.was_killed() {
            watch.hit = None;
        }
        Run {
            code: ended.code(),
            hit: watch.hit.take(),
            events: std::mem::take(&mut watch.events),
            log,
        }
    }

    fn play(&self, runs: &Mutex<Vec<Run>>) -> Kinds {
        let keep = |run| {
            runs.lock()
                .expect("nothing panics with this lock")
                .push(run)
        };
        let (mut hit, mut kills, mut at_records, mut not_committed) = (Vec::new(), 0, 0, 0);
        for instant in &self.scenario.kills {
            let mut run = self.run(self.world.command, Some(instant.clone()));
            let ended_well = run.code == Some(0);
            not_committed += run.log.orders_not_committed();
            let (hits, too_early) = (run.hit.take(), run.log.acted_before_saved());
            keep(run);
            assert_eq!(too_early, None, "acted before the order was saved");
            match hits {
                Some(hits) => {
                    at_records += usize::from(hits.iter().any(|kind| is_of_records(kind)));
                    hit.extend(hits);
                    kills += 1;
                }
                None => assert!(ended_well, "the run that {instant:?} missed has failed"),
            }
        }
        let restarted = now();
        let run = self.run(self.world.command, None);
        let (code, left) = (run.code, run.log.orders_not_committed());
        let too_early = run.log.acted_before_saved();
        keep(run);
        assert_eq!(too_early, None, "acted before the order was saved");
        assert_eq!(code, Some(0), "the last run has failed");
        assert_eq!(left, 0, "orders that an undisturbed run did not save");
        self.expect_gone_by(restarted + GONE_WITHIN);
        self.expect_done();
        let orders = self.expect_orders(not_committed);
        self.expect_nothing_to_do();
        let mut tally = self.world.tally();
        tally.lives += 1;
        tally.kills += kills;
        tally.at_records += at_records;
        tally.certificates += self.scenario.certificates;
        tally.orders += orders;
        tally.replies_not_committed += not_committed;
        hit
    }

    /// No TXT value of ours is left before it is too late.
    fn expect_gone_by(&self, deadline: Moment) {
        let rest = deadline.checked_duration_since(now());
        let is_gone = || {
            let mut names = self.scenario.names().into_iter();
            names.all(|name| dns::txt(self.world.host.dns(), &challenge(&name)) == ["foreign"])
        };
        let in_time = rest.is_some_and(|rest| eventually(rest, is_gone));
        assert!(in_time, "not gone {GONE_WITHIN:?} after the restart");
    }

    /// Every certificate is where it belongs, with its key; whoever uses it was told; no TXT value of ours is left.
    fn expect_done(&self) {
        let root = self.pebble.issuing_root_pem();
        for name in self.scenario.names() {
            let host = format!("{name}.example.test");
            let out = self.program.path(&format!("out/{name}"));
            judge(&out, &root, &[&host, &format!("*.{host}")]);
            let changed = |path| std::fs::symlink_metadata(path).and_then(|found| found.modified());
            let told = changed(self.program.path(&format!("told-{name}"))).expect("never told");
            let installed = changed(out.join("current")).expect("never installed");
            assert!(told >= installed, "{name}: told before it was installed");
            let entries = std::fs::read_dir(&out).unwrap();
            let entries = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let generations: Vec<String> = entries.filter(|name| name.starts_with('.')).collect();
            assert_eq!(generations.len(), 1, "{generations:?}");
            let challenge = challenge(&name);
            let at = self.world.host.dns();
            assert_eq!(dns::txt(at, &challenge), ["foreign"], "{challenge}");
            let ttl = dns::ttl(at, &challenge, hickory_proto::rr::RecordType::TXT);
            assert_eq!(ttl, Some(TTL), "{challenge}");
        }
    }

    /// No more orders than certificates and lost replies, one finalized order a certificate, one account: so nothing
    /// that the authority made was forgotten, and every issued certificate is the one that was delivered.
    fn expect_orders(&self, not_committed: usize) -> usize {
        let answered = self.proxy.answered();
        let of = |kind: &str, status: u16| {
            let matching = answered
                .iter()
                .filter(|(seen, got)| seen.kind == kind && *got == status);
            matching
                .map(|(seen, _)| seen.path.clone())
                .collect::<Vec<String>>()
        };
        let orders = of("newOrder", 201).len();
        let certificates = self.scenario.certificates;
        assert!(
            orders <= certificates + not_committed,
            "{orders} orders for {certificates} certificates, {not_committed} replies not committed"
        );
        let finalized: BTreeSet<String> = of("finalize-order", 200).into_iter().collect();
        assert_eq!(
            finalized.len(),
            certificates,
            "orders finalized: {finalized:?}"
        );
        let accounts = of("newAccount", 201).len();
        assert_eq!(accounts, 1, "accounts made");
        orders
    }

    /// Another run asks nobody for anything, and `status` says why.
    fn expect_nothing_to_do(&self) {
        let before = self.proxy.seen().len();
        let run = self.run(&["renew"], None);
        assert_eq!(run.code, Some(0), "{}", run.log.told());
        let after = self.proxy.seen();
        assert_eq!(after[before..], [], "a run with nothing to do");
        let said = self
            .program
            .run(&["status", "--json"])
            .expect_code(0)
            .stdout;
        let status: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(status["records"], Value::Array(vec![]), "{said}");
        let certificates = status["certificates"].as_array().expect("a list");
        assert_eq!(certificates.len(), self.scenario.certificates, "{said}");
        for certificate in certificates {
            assert_eq!(certificate["state"], "valid", "{said}");
            assert_eq!(certificate["activity"], "idle", "{said}");
            assert_eq!(certificate["failure"], Value::Null, "{said}");
            assert_eq!(certificate["deliveries"][0]["state"], "installed", "{said}");
        }
    }
}
