//! Two processes that write one name, in every order of their requests that a seed leads to: no value is lost, none that
//! is somebody else's is touched. `SEED=n` runs one order; `COUNTERSIGN_FULL=1` runs ten thousand.
//!
//! Each writer is this test binary once more, with a plug-in and a credential of its own. It takes its work as lines and
//! answers each with how often it had to try. The fake stays here, and decides whose request is next.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use countersign_providers::contract::{absent, ensure};
use countersign_providers::record::{Change, RrSet};
use countersign_providers::route53::Route53;
use countersign_providers::{ErrorKind, Provider};
use serde::{Deserialize, Serialize};

use crate::support::process::{guarded, spawn};
use crate::support::route53::store::Set;
use crate::support::route53::{Fake, Key};

use super::{context, keyed, name, served, start, zone};

/// So many orders; with `COUNTERSIGN_FULL`.
const ORDERS: u64 = 200;
const ALL_ORDERS: u64 = 10_000;
/// A writer that is overtaken tries again, as the core would; more often than this it starves.
const TRIES: usize = 40;
const WRITERS: [&str; 2] = ["AKIAWRITERAAAAAAAAAA", "AKIAWRITERBBBBBBBBBB"];
const FOREIGN: &str = "\"v=spf1\" \"-all\"";
/// The name that both write.
const LABEL: &str = "_acme-challenge";
/// Holds an [`Account`], and makes this binary the writer that uses it.
const WRITER: &str = "COUNTERSIGN_TEST_WRITER";

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says so in the environment"
)]
fn two_processes_that_write_one_name_lose_no_value_in_any_order() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let full = std::env::var_os("COUNTERSIGN_FULL").is_some_and(|full| full != "0");
    let orders = match seed {
        Some(seed) => seed..seed + 1,
        None => 0..if full { ALL_ORDERS } else { ORDERS },
    };
    let fake = start();
    let mut writers = WRITERS.map(|id| Writer::start(&fake, id));
    let mut overtaken = 0;
    for seed in orders {
        overtaken += one_order(&fake, &mut writers, seed);
    }
    assert!(overtaken > 0 || seed.is_some(), "the writers never met");
}

/// Both present, then both change their value, then both clean; after each the name has what it should have.
fn one_order(fake: &Fake, writers: &mut [Writer; 2], seed: u64) -> usize {
    let at = name(LABEL);
    let foreign = seed.is_multiple_of(3);
    let set = foreign.then(|| Set::txt(at.as_str(), 777, &[FOREIGN]));
    fake.state().zones[0].sets.clear();
    set.clone()
        .into_iter()
        .for_each(|set| fake.state().zones[0].put(set));
    // A writer that has run before may believe what is not so any more.
    let stale = (seed % 2 == 1).then(|| "gone".to_owned());
    let (first, second) = (
        |i| Some(format!("first-{i}")),
        |i| Some(format!("second-{i}")),
    );
    let steps: [&dyn Fn(usize) -> Work; 3] = [
        &|i| Work::new(first(i), None, stale.clone()),
        &|i| Work::new(second(i), first(i), first(i)),
        &|i| Work::new(None, second(i), second(i)),
    ];
    let mut overtaken = 0;
    for (round, work) in steps.iter().enumerate() {
        fake.gate().close(&WRITERS, seed * 8 + round as u64);
        let (one, other) = (work(0), work(1));
        let mut wanted: Vec<String> = [&one, &other]
            .into_iter()
            .filter_map(|work| work.ensure.clone())
            .collect();
        let [a, b] = &mut *writers;
        let tries = std::thread::scope(|scope| {
            let other = scope.spawn(|| b.write(fake, &other));
            [a.write(fake, &one), other.join().unwrap()]
        });
        for tries in tries {
            overtaken +=
                tries.unwrap_or_else(|why| panic!("seed {seed}, round {round}: {why}")) - 1;
        }
        wanted.extend(foreign.then(|| "v=spf1-all".to_owned()));
        wanted.sort();
        let mut seen = served(fake, &at);
        seen.values.sort();
        assert_eq!(seen.values, wanted, "seed {seed}, round {round}");
        if foreign {
            assert_eq!(seen.ttl, Some(777), "seed {seed}, round {round}");
        }
    }
    let left: Vec<Set> = fake.state().zones[0].sets.values().cloned().collect();
    assert_eq!(left, Vec::from_iter(set), "seed {seed}");
    overtaken
}

/// What a writer uses; a line says no secret, only where one is.
#[derive(Serialize, Deserialize)]
struct Account {
    url: String,
    id: String,
    secret: PathBuf,
}

/// A line to a writer: the values that it is to put at the name and to take from there, and what it believes is there.
#[derive(Serialize, Deserialize)]
struct Work {
    ensure: Option<String>,
    absent: Option<String>,
    believed: Option<String>,
}

impl Work {
    fn new(ensure: Option<String>, absent: Option<String>, believed: Option<String>) -> Self {
        Self {
            ensure,
            absent,
            believed,
        }
    }

    fn changes(&self) -> Vec<Change> {
        let at = name(LABEL);
        let put = self.ensure.iter().map(|value| ensure(&at, value));
        let taken = self.absent.iter().map(|value| absent(&at, value));
        put.chain(taken).collect()
    }

    fn believed(&self) -> Vec<RrSet> {
        let set = |value: &String| RrSet {
            name: name(LABEL),
            ttl: Some(60),
            values: vec![value.clone()],
        };
        self.believed.iter().map(set).collect()
    }
}

/// The line that answers it: how often the writer tried, or why it gave up.
type Tries = Result<usize, String>;

/// A writer's process. Dropping it ends it.
struct Writer {
    id: &'static str,
    child: Child,
    work: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    fn start(fake: &Fake, id: &'static str) -> Self {
        let secret = format!("secret-of-{id}");
        let account = Account {
            url: fake.url(),
            id: id.to_owned(),
            secret: fake.secret_file(id, &secret),
        };
        let key = Key {
            secret,
            ..Key::default()
        };
        fake.state().keys.insert(id.to_owned(), key);
        let mut command = guarded(&std::env::current_exe().unwrap());
        command
            .args(["--exact", "route53::interleavings::writer"])
            .args(["--include-ignored", "--nocapture"])
            .env(WRITER, serde_json::to_string(&account).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(command).unwrap();
        Self {
            id,
            work: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Has it do this, and lets the other one go on.
    fn write(&mut self, fake: &Fake, work: &Work) -> Tries {
        let answer = self.ask(work);
        fake.gate().leave(self.id);
        answer
    }

    fn ask(&mut self, work: &Work) -> Tries {
        let line = serde_json::to_string(work).map_err(|error| error.to_string())?;
        writeln!(self.work, "{line}").map_err(|error| error.to_string())?;
        // The test harness writes there too, of the writer as of any test.
        let lines = self.answers.by_ref().lines().map_while(Result::ok);
        let mut answers = lines.filter_map(|line| serde_json::from_str(&line).ok());
        answers.next().unwrap_or(Err("the writer ended".to_owned()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An error says that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Only for the test above: writes what it is told until there is no more.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is started by another test"]
#[allow(clippy::disallowed_methods, reason = "how that test says who it is")]
async fn writer() {
    let Ok(account) = std::env::var(WRITER) else {
        return;
    };
    let account: Account = serde_json::from_str(&account).unwrap();
    let plugin = Route53::new(keyed(&account.url, &account.id, account.secret));
    // Ends the line that the test harness has begun.
    println!();
    for line in std::io::stdin().lines() {
        let work = serde_json::from_str(&line.unwrap()).unwrap();
        let tries = insist(&plugin, &work).await;
        println!("{}", serde_json::to_string(&tries).unwrap());
    }
}

async fn insist(plugin: &Route53, work: &Work) -> Tries {
    let (changes, believed) = (work.changes(), work.believed());
    for tries in 1..=TRIES {
        match plugin.apply(&zone(), &changes, &believed, &context()).await {
            Ok(_) => return Ok(tries),
            Err(error) if error.kind == ErrorKind::Conflict => {}
            Err(error) => return Err(format!("{changes:?}: {error:?}")),
        }
    }
    Err(format!("{changes:?} was overtaken {TRIES} times"))
}
