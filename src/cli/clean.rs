//! `clean`: which TXT values stand at the challenge names; ours that nobody needs go, those of others when a person
//! says so.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use countersign_providers::clock::Clock;
use serde::Serialize;

use super::Ending;
use super::arguments::Clean;
use super::print::{Screen, complain, out};
use super::process::Interrupts;
use super::words::{self, count, day, rfc3339, select};
use crate::config::Config;
use crate::control::{Ask, Client, ClientError, Reply};
use crate::daemon::{Daemon, OpenError, open_store};
use crate::engine::ledger::{Entry, RecordId};
use crate::engine::names::CertificateName;
use crate::engine::reaction::Failure;
use crate::ledger::Ledger;
use crate::run::clean::{self, Cleaned, Fate, Orders, Place, Selection, Standing, Value};
use crate::run::progress::Watchers;
use crate::store::StoreError;

/// Removals of what a dead process left elsewhere get this long.
const QUIET: Duration = Duration::from_secs(10);
/// Tasks of this process that still use the store get this long, a call to a DNS host among them.
const RELEASE: Duration = Duration::from_secs(40);
const RELEASE_PAUSE: Duration = Duration::from_millis(20);
/// Rises when a field is changed or removed.
const SCHEMA: u32 = 1;
/// What a person types who agrees.
const YES: &str = "yes";
/// The width of what came of a value.
const FATE: usize = 7;

/// Why it could not begin or go on.
#[derive(Debug, thiserror::Error)]
enum CleanError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) async fn run(config: &Config, clock: &Clock, screen: Screen, options: &Clean) -> Ending {
    let only = match select(config, &options.names) {
        Ok(only) => only,
        Err(sentence) => return Ending::Usage(sentence),
    };
    if options.foreign && !options.yes && !io::stdin().is_terminal() {
        let sentence = "`clean --foreign` asks before it removes what is not ours, and nobody is there to answer; look at what `clean` lists, then add --yes";
        return Ending::Usage(sentence.to_owned());
    }
    let interrupts = Interrupts::listen();
    let performed = tokio::select! {
        performed = perform(config, clock, screen, options, only) => performed,
        () = interrupts.politely.cancelled() => return Ending::Failed(Some(
            "interrupted; what was to go may still be there: `clean` again says so".to_owned(),
        )),
    };
    performed.unwrap_or_else(|error| Ending::yours(&error))
}

async fn perform(
    config: &Config,
    clock: &Clock,
    screen: Screen,
    options: &Clean,
    only: BTreeSet<CertificateName>,
) -> Result<Ending, CleanError> {
    let selection = Selection {
        only,
        foreign: BTreeSet::new(),
    };
    let mut hand = Hand::find(config, clock).await?;
    let mut cleaned = hand.clean(&selection).await?;
    // A person may think for as long as it takes: nobody waits for the store meanwhile.
    drop(hand);
    let foreign: BTreeSet<RecordId> = cleaned.foreign().map(|it| it.record.clone()).collect();
    if options.foreign && !foreign.is_empty() && (options.yes || agrees(&cleaned).await) {
        let selection = Selection {
            foreign: foreign.clone(),
            ..selection
        };
        let later = Hand::again(config, clock).await?.clean(&selection).await?;
        cleaned.followed_by(&later, &foreign);
    }
    match options.json {
        true => drop(out(document(&cleaned))),
        false => tell(&cleaned, screen, options.foreign),
    }
    for (name, failure) in troubles(&cleaned) {
        let sentence = words::clean(&failure.sentence);
        complain(format!(
            "{name}: {sentence} [{}]",
            words::whose(failure.whose)
        ));
    }
    Ok(match cleaned.is_good() {
        true => Ending::Done,
        false => Ending::Failed(None),
    })
}

/// Who does it: whoever holds the store, else this process.
enum Hand {
    Other(Client),
    Own {
        daemon: Daemon,
        /// What was kept account of before anything was begun.
        before: Option<Vec<Entry>>,
    },
}

impl Hand {
    async fn find(config: &Config, clock: &Clock) -> Result<Self, CleanError> {
        if let Some(client) = Client::connect(&config.state, clock).await? {
            return Ok(Self::Other(client));
        }
        let (session, sealer) = open_store(config, clock).await?;
        // What a dead process left begins to go as soon as the ledger starts.
        let before = Some(Ledger::entries(&session).await?);
        let watchers = Watchers::default();
        let daemon = Daemon::with(config, session, sealer, clock.clone(), watchers).await?;
        Ok(Self::Own { daemon, before })
    }

    /// Once more, after another hand was dropped, whose store is free as soon as the last of its tasks has ended.
    async fn again(config: &Config, clock: &Clock) -> Result<Self, CleanError> {
        let end = clock.elapsed() + RELEASE;
        loop {
            match Self::find(config, clock).await {
                Err(CleanError::Store(StoreError::InUse { pid, .. }))
                    if pid == std::process::id() && clock.elapsed() < end => {}
                found => return found,
            }
            clock.sleep(RELEASE_PAUSE).await;
        }
    }

    async fn clean(&mut self, selection: &Selection) -> Result<Cleaned, CleanError> {
        match self {
            Self::Other(client) => {
                let ask = Ask::Clean {
                    names: selection.only.iter().cloned().collect(),
                    foreign: selection.foreign.iter().cloned().collect(),
                };
                let Reply::Begun(_) = client.ask(ask).await? else {
                    return Err(client.odd().into());
                };
                match client.next().await? {
                    Some(Reply::Cleaned(cleaned)) => Ok(*cleaned),
                    _ => Err(client.odd().into()),
                }
            }
            Self::Own { daemon, before } => {
                let entries = match before.take() {
                    Some(entries) => entries,
                    None => Ledger::entries(&daemon.shared.session).await?,
                };
                let orders = Orders::Stand(entries);
                let cleaned = clean::clean(&daemon.shared, selection, orders).await?;
                daemon.shared.ledger.quiet(QUIET).await;
                Ok(cleaned)
            }
        }
    }
}

/// Lists what would go, and asks.
async fn agrees(cleaned: &Cleaned) -> bool {
    for value in cleaned.foreign() {
        let record = &value.record;
        complain(format!("{}  {}", record.name, words::clean(&record.value)));
    }
    let many = count(cleaned.foreign().count(), "value");
    let question = format!(
        "{many} that Countersign did not put there: another client may wait for its validation.\nType `{YES}` to remove: "
    );
    let answer = tokio::task::spawn_blocking(move || {
        let mut stderr = io::stderr().lock();
        // Whoever sees nothing will not agree.
        let _ = stderr
            .write_all(question.as_bytes())
            .and_then(|()| stderr.flush());
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    matches!(answer.await, Ok(Ok(answer)) if answer.trim() == YES)
}

fn tell(cleaned: &Cleaned, screen: Screen, is_foreign_asked: bool) {
    let mut removed = 0;
    for place in &cleaned.places {
        out(screen.wrap(&head(place), 0, 4));
        for value in &place.values {
            removed += usize::from(value.fate == Fate::Removed);
            out(line(value, screen));
        }
    }
    let names = looked(cleaned);
    if cleaned.places.is_empty() {
        out(format!("no TXT value at {names}"));
        return;
    }
    out(format!(
        "{} removed at {names}",
        count(removed, "TXT value")
    ));
    let foreign = cleaned.foreign().count();
    if foreign > 0 && !is_foreign_asked {
        let many = count(foreign, "value");
        out(screen.wrap(
            &format!("{many} of others: `clean --foreign` removes them after asking"),
            0,
            0,
        ));
    }
}

/// At which names something was seen, or not.
fn looked(cleaned: &Cleaned) -> String {
    let names = count(cleaned.looked, "challenge name");
    match cleaned.unseen {
        0 => names,
        unseen => format!("{names}, {unseen} could not be looked at"),
    }
}

fn head(place: &Place) -> String {
    let mut asked = place.asked.iter().filter(|name| **name != place.name);
    let from = match asked.next() {
        None => String::new(),
        Some(first) => match asked.count() {
            0 => format!("{first} → "),
            more => format!("{first} and {more} more → "),
        },
    };
    let head = format!(
        "{from}{} in the zone {} of provider {}",
        place.name, place.zone, place.provider
    );
    words::clean(&head)
}

fn line(value: &Value, screen: Screen) -> String {
    let fate = super::print::pad(fate(&value.fate), FATE);
    let fate = match value.fate {
        Fate::Stays => fate,
        Fate::Removed => screen.good(&fate),
        Fate::Failed(_) => screen.bad(&fate),
    };
    let since = match (value.since, value.standing) {
        (Some(at), _) => format!(", since {}", day(at)),
        (None, Standing::Foreign) => ", age not known".to_owned(),
        (None, _) => String::new(),
    };
    let said = format!(
        "{}{since}: {}",
        standing(value.standing),
        words::clean(&value.record.value)
    );
    let indent = FATE + 4;
    format!("  {fate}  {}", screen.wrap(&said, indent, indent))
}

fn fate(fate: &Fate) -> &'static str {
    match fate {
        Fate::Stays => "stays",
        Fate::Removed => "removed",
        Fate::Failed(_) => "failed",
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::InUse => "ours, an order needs it",
        Standing::LeftOver => "ours, left over",
        Standing::Kept => "ours, at a host that removes none",
        Standing::Foreign => "of others",
        Standing::Unremovable => "a challenge value not known here, at a host that removes none",
        Standing::Other => "no challenge value, never removed",
    }
}

/// What could not be done, by the name where.
fn troubles(cleaned: &Cleaned) -> Vec<(String, &Failure)> {
    let values = cleaned.places.iter().flat_map(|place| &place.values);
    let failed = values.filter_map(|value| match &value.fate {
        Fate::Failed(failure) => Some((value.record.name.to_string(), failure)),
        _ => None,
    });
    let troubles = cleaned.troubles.iter();
    let troubles = troubles.map(|(name, failure)| (name.to_string(), failure));
    let mut all: Vec<_> = troubles.chain(failed).collect();
    // One line for all values of a name that a host does not let go.
    all.dedup();
    all
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    names: usize,
    values: Vec<Line<'a>>,
    failures: Vec<Trouble<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    provider: &'a str,
    zone: &'a str,
    name: &'a str,
    value: &'a str,
    certificates: Vec<&'a str>,
    standing: Standing,
    since: Option<String>,
    outcome: &'static str,
}

#[derive(Serialize)]
struct Trouble<'a> {
    name: String,
    sentence: &'a str,
    whose: &'static str,
}

/// The whole document.
fn document(cleaned: &Cleaned) -> String {
    let values = cleaned.places.iter().flat_map(|place| {
        let certificates: Vec<&str> = place.certificates.iter().map(|it| it.as_str()).collect();
        place.values.iter().map(move |value| Line {
            provider: &place.provider,
            zone: place.zone.as_str(),
            name: place.name.as_str(),
            value: &value.record.value,
            certificates: certificates.clone(),
            standing: value.standing,
            since: value.since.map(rfc3339),
            outcome: fate(&value.fate),
        })
    });
    let failures = troubles(cleaned)
        .into_iter()
        .map(|(name, failure)| Trouble {
            name,
            sentence: &failure.sentence,
            whose: failure.whose.as_str(),
        });
    let document = Document {
        schema: SCHEMA,
        names: cleaned.looked,
        values: values.collect(),
        failures: failures.collect(),
    };
    serde_json::to_string_pretty(&document).expect("text, numbers and lists make JSON")
}
