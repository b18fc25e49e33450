//! `history`: every step that was taken for one certificate.

use countersign_providers::clock::Clock;

use super::arguments::History;
use super::print::{Screen, out};
use super::words::{clean, known};
use super::{AskError, Ending};
use crate::config::Config;
use crate::control::{Ask, Client, Reply};
use crate::daemon::open_store;
use crate::engine::names::CertificateName;
use crate::run::journal::{self, Line};
use crate::store;

/// The width of a time, with the spaces around it.
const TIME: usize = 28;

pub(super) async fn run(
    config: &Config,
    clock: &Clock,
    screen: Screen,
    options: &History,
) -> Ending {
    let name = match known(config, &options.name) {
        Ok(name) => name,
        Err(sentence) => return Ending::Usage(sentence),
    };
    match lines(config, clock, &name).await {
        Ok(lines) if lines.is_empty() => {
            out(format!("{name}: nothing was done yet"));
            Ending::Done
        }
        Ok(lines) => {
            show(&lines, screen);
            Ending::Done
        }
        Err(error) => Ending::yours(&error),
    }
}

/// From whoever holds the store, else from the store.
async fn lines(
    config: &Config,
    clock: &Clock,
    name: &CertificateName,
) -> Result<Vec<Line>, AskError> {
    if let Some(mut client) = Client::connect(&config.state, clock).await? {
        return match client.ask(Ask::History(name.clone())).await? {
            Reply::History(lines) => Ok(lines),
            _ => Err(client.odd().into()),
        };
    }
    if !store::exists(&config.state) {
        return Ok(Vec::new());
    }
    let (session, _) = open_store(config, clock).await?;
    Ok(journal::history(&session, name).await?)
}

fn show(lines: &[Line], screen: Screen) {
    let mut epoch = None;
    for line in lines {
        if epoch != Some(line.epoch) {
            if epoch.is_some() {
                out("");
            }
            out(screen.strong(&match line.epoch {
                0 => "outside an attempt".to_owned(),
                attempt => format!("attempt {attempt}"),
            }));
            epoch = Some(line.epoch);
        }
        let at = line.at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        let what = screen.wrap(&clean(&line.what), TIME, TIME);
        if !out(format!("  {}  {what}", screen.faint(&at))) {
            return;
        }
    }
}
