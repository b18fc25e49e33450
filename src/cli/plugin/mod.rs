//! `plugin test`: the conformance kit over one plug-in.

mod show;
mod target;

use std::path::Path;
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::kit::{Kit, World};

use super::Ending;
use super::arguments::PluginTest;
use super::print::{Screen, complain, out};
use super::process::Interrupts;
use super::words::{clean, count};
use show::Table;
use target::{Refused, Subject};

/// A change that was under way when it was stopped has arrived after this, or never will.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// A plug-in that has not answered after this is told of: a person would wonder.
const SLOW: Duration = Duration::from_secs(3);

pub(super) async fn run(
    options: PluginTest,
    config: &Path,
    clock: Clock,
    screen: Screen,
) -> Ending {
    let interrupts = Interrupts::listen();
    let title = options.target.join(" ");
    let found = tokio::select! {
        found = target::find(&options.target, options.live.as_deref(), config, &clock) => found,
        never = tell_if_slow(&title, &clock) => match never {},
        () = interrupts.politely.cancelled() => Err(Refused::Failed(
            "stopped before the first case; nothing was written".to_owned(),
        )),
    };
    let Subject { provider, world } = &match found {
        Ok(subject) => subject,
        Err(Refused::Usage(sentence)) => return Ending::Usage(sentence),
        Err(Refused::Failed(sentence)) => {
            if options.json {
                out(show::not_begun(&title, &sentence));
            }
            return Ending::Failed(Some(sentence));
        }
    };
    let kit = Kit::new(&**provider, &**world);
    let mut table = Table::new(&kit, screen, options.json);
    let is_whole = tokio::select! {
        _ = kit.run(|finding| table.tell(finding)) => true,
        () = interrupts.politely.cancelled() => false,
    };
    if !is_whole {
        let told = count(table.findings().len(), "case");
        let (sentence, left) = stopped(&kit, &**world, &interrupts, &clock).await;
        complain(clean(&format!("stopped after {told}; {sentence}")));
        left.iter().for_each(|line| complain(clean(line)));
        table.skip_rest(&kit);
    }
    match (options.json, is_whole) {
        (true, _) => drop(out(show::document(
            &title,
            &**provider,
            &**world,
            table.findings(),
        ))),
        (false, true) => table.end(),
        (false, false) => {}
    }
    match is_whole && !table.has_failed() {
        true => Ending::Done,
        false => Ending::Failed(None),
    }
}

/// Says once what is waited for, and never ends.
async fn tell_if_slow(title: &str, clock: &Clock) -> std::convert::Infallible {
    clock.sleep(SLOW).await;
    let title = clean(title);
    complain(format!(
        "waiting for {title} to start and answer; Ctrl-C ends it"
    ));
    std::future::pending().await
}

/// Removes what was written so far, unless told to stop at once: what became of it, and what is left, by name.
async fn stopped(
    kit: &Kit<'_>,
    world: &dyn World,
    interrupts: &Interrupts,
    clock: &Clock,
) -> (String, Vec<String>) {
    let cleaned = async {
        clock.sleep(UNDER_WAY).await;
        kit.clean().await
    };
    let left = tokio::select! {
        left = cleaned => left,
        () = interrupts.at_once.cancelled() => {
            let place = match (world.mark(), world.zone()) {
                (Some(mark), Ok(zone)) => format!(", at names that end with {mark}.{}", zone.name),
                _ => String::new(),
            };
            return (format!("what the cases wrote may be left behind{place}"), Vec::new());
        }
    };
    let sentence = match (kit.stays(), left.is_empty()) {
        (Some(why), _) => format!("what the cases wrote is left: {why}"),
        (None, true) => "nothing that the cases wrote is left".to_owned(),
        (None, false) => "left behind, and to be removed by hand:".to_owned(),
    };
    (sentence, left)
}
