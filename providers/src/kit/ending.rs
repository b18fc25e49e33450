//! Cases about all that went before: accepted changes, the words of errors, and what is left.

use std::time::Duration;

use futures_util::FutureExt as _;

use crate::Settled;
use crate::words::printable;

use super::bench::{Bench, Stop, failed, lock, refused};
use super::told::{absent, ensure};
use super::{Case, Needs, Verdict};

const GROUP: &str = "the end";

pub(super) static CASES: [Case; 5] = [
    Case::new(
        GROUP,
        "settled",
        Needs::Values,
        "an accepted change is everywhere in the end, where the host tells",
        |it| settled(it).boxed(),
    ),
    Case::new(
        GROUP,
        "settle-strange",
        Needs::Zone,
        "`settle` of what is no change of ours says so, and never that it is everywhere",
        |it| strange(it).boxed(),
    ),
    Case::new(
        GROUP,
        "sentences",
        Needs::Nothing,
        "every error so far is a sentence for one line, without a full stop",
        |it| sentences(it).boxed(),
    ),
    Case::new(
        GROUP,
        "secrets",
        Needs::Nothing,
        "no error and no receipt so far shows a secret",
        |it| secrets(it).boxed(),
    ),
    Case::new(
        GROUP,
        "nothing-left",
        Needs::Zone,
        "everything that the cases wrote is gone",
        |it| nothing_left(it).boxed(),
    ),
];

/// Every change has at least this long to be everywhere, also where the host says that it needs less.
const LEAST: Duration = Duration::from_secs(30);
/// It is asked about after this, and then after ever longer pauses,
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// but no longer ones than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// No sentence is longer.
const LONGEST: usize = 2_000;

async fn settled(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("settled")?;
    let receipt = bench.apply(&[ensure(&name, "value")]).await?;
    bench.apply(&[absent(&name, "value")]).await?;
    let none = || Stop::skipped("it does not tell when a change is everywhere");
    let ticket = receipt.ticket.ok_or_else(none)?;
    let patience = (bench.provider.traits().propagation * 2).max(LEAST);
    let clock = bench.world.context().clock;
    let (begin, mut pause) = (clock.elapsed(), FIRST_PAUSE);
    while clock.elapsed().saturating_sub(begin) <= patience {
        let context = bench.world.context();
        match bench.provider.settle(&ticket, &context).await {
            Ok(Settled::Everywhere) => return Ok(()),
            Ok(Settled::Unknown) => return Err(none()),
            Ok(Settled::NotYet) => clock.sleep(pause).await,
            Err(error) => return Err(refused("settle", &error)),
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
    failed(format!(
        "`settle` still says not-yet after {} s",
        patience.as_secs()
    ))
}

async fn strange(bench: &Bench<'_>) -> Verdict {
    let context = bench.world.context();
    match bench.provider.settle("no-change-of-ours", &context).await {
        Ok(Settled::Everywhere) => failed("`settle` of no change says everywhere"),
        Ok(Settled::NotYet | Settled::Unknown) => Ok(()),
        Err(error) => {
            lock(&bench.errors).push(error);
            Ok(())
        }
    }
}

async fn sentences(bench: &Bench<'_>) -> Verdict {
    let errors = lock(&bench.errors);
    if errors.is_empty() {
        return Err(Stop::skipped("there was no error so far"));
    }
    for error in errors.iter() {
        for words in std::iter::once(&error.message)
            .chain(&error.hint)
            .chain(&error.code)
        {
            let is_line =
                *words == printable(words, LONGEST) && words.chars().any(char::is_alphanumeric);
            if !is_line {
                return failed(format!(
                    "an error says {:?}, which is not one line of words",
                    printable(words, LONGEST)
                ));
            }
        }
        if error.message.ends_with('.') {
            return failed(format!("an error ends with a full stop: {}", error.message));
        }
    }
    Ok(())
}

async fn secrets(bench: &Bench<'_>) -> Verdict {
    let secrets = bench.world.secrets();
    if secrets.is_empty() {
        return Err(Stop::skipped("the kit does not know the secrets"));
    }
    let errors = format!("{:?}", lock(&bench.errors));
    let receipts = format!("{:?}", lock(&bench.receipts));
    for (where_, words) in [("an error", errors), ("a receipt", receipts)] {
        if secrets.iter().any(|it| words.contains(it)) {
            return failed(format!("{where_} shows a secret"));
        }
    }
    Ok(())
}

async fn nothing_left(bench: &Bench<'_>) -> Verdict {
    if let Some(why) = bench.stays() {
        return Err(Stop::skipped(why));
    }
    let left = bench.clean().await;
    match left.is_empty() {
        true => Ok(()),
        // All of it, since nobody else knows these names: a line each.
        false => failed(format!(
            "left behind, and to be removed by hand:\n{}",
            left.join("\n")
        )),
    }
}
