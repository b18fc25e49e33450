//! `plugin test`: the conformance kit over one plug-in.

mod show;
mod target;

use std::path::Path;

use countersign_providers::clock::Clock;
use countersign_providers::kit::{Kit, Outcome};

use super::Ending;
use super::arguments::PluginTest;
use super::print::{Screen, out};
use super::process::Interrupts;
use super::words::count;
use show::Table;
use target::{Refused, Subject};

/// A change that was under way when it was stopped has arrived after this, or never will.
const UNDER_WAY: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) async fn run(
    options: PluginTest,
    config: &Path,
    clock: Clock,
    screen: Screen,
) -> Ending {
    let subject = match target::find(&options.target, options.live.as_deref(), config, &clock).await
    {
        Ok(subject) => subject,
        Err(Refused::Usage(sentence)) => return Ending::Usage(sentence),
        Err(Refused::Failed(sentence)) => return Ending::Failed(Some(sentence)),
    };
    let Subject {
        title,
        provider,
        world,
    } = &subject;
    let interrupts = Interrupts::listen();
    let kit = Kit::new(&**provider, &**world);
    let mut table = Table::new(&kit, screen, options.json);
    let findings = tokio::select! {
        findings = kit.run(|finding| table.tell(finding)) => Some(findings),
        () = interrupts.politely.cancelled() => None,
    };
    let Some(findings) = findings else {
        let sentence = stopped(&kit, &interrupts, &clock).await;
        let told = count(table.told(), "case");
        return Ending::Failed(Some(format!("stopped after {told}; {sentence}")));
    };
    match options.json {
        true => drop(out(show::document(title, &**provider, &**world, &findings))),
        false => table.end(&findings),
    }
    match findings
        .iter()
        .any(|it| matches!(it.outcome, Outcome::Failed(_)))
    {
        true => Ending::Failed(None),
        false => Ending::Done,
    }
}

/// Removes what was written so far, unless told to stop at once; what became of it.
async fn stopped(kit: &Kit<'_>, interrupts: &Interrupts, clock: &Clock) -> String {
    let cleaned = async {
        clock.sleep(UNDER_WAY).await;
        kit.clean().await
    };
    let left = tokio::select! {
        left = cleaned => left,
        () = interrupts.at_once.cancelled() => {
            return "what the cases wrote may be left behind".to_owned();
        }
    };
    if let Some(why) = kit.stays() {
        return format!("what the cases wrote is left: {why}");
    }
    match left.is_empty() {
        true => "nothing that the cases wrote is left".to_owned(),
        false => format!(
            "left behind, and to be removed by hand: {}",
            left.join(", ")
        ),
    }
}
