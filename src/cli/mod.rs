//! Arguments and what people see: a command each, its words on standard output, its failure on standard error.

mod arguments;
mod logging;
mod renew;

use std::process::ExitCode;

use clap::Parser;
use countersign_providers::clock::Clock;

use crate::config::Config;
use arguments::{Arguments, Command};

/// How a command ended.
enum Ending {
    /// Done.
    Done,
    /// Something failed: one sentence, or nothing when it was said already.
    Failed(Option<String>),
    /// The arguments or the configuration are wrong.
    Usage(String),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ending = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Ending::Failed(Some(format!("the runtime cannot be started: {error}"))),
    };
    match ending {
        Ending::Done => ExitCode::SUCCESS,
        Ending::Failed(sentence) => {
            if let Some(sentence) = sentence {
                complain(&sentence);
            }
            ExitCode::from(1)
        }
        Ending::Usage(sentence) => {
            complain(&sentence);
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Ending {
    let clock = Clock::system();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(errors) => return Ending::Usage(errors.to_string()),
    };
    logging::start(config.log, arguments.log);
    match arguments.command {
        Command::Renew(options) => renew::run(&config, clock, options).await,
    }
}

#[allow(
    clippy::print_stderr,
    reason = "this is the room that speaks to people"
)]
fn complain(sentence: &str) {
    eprintln!("{sentence}");
}
