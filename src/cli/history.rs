//! `history`: every step that was taken for one certificate.

use countersign_providers::clock::Clock;

use super::Ending;
use super::arguments::History;
use super::print::{Screen, out};
use super::words::{clean, known};
use crate::config::Config;
use crate::daemon::open_store;
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
    if !store::exists(&config.state) {
        out(format!("{name}: nothing was done yet"));
        return Ending::Done;
    }
    let session = match open_store(config, clock).await {
        Ok((session, _)) => session,
        Err(error) => return Ending::yours(&error),
    };
    match journal::history(&session, &name).await {
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
