//! Arguments and what people see: a command each, its words on standard output, its failure on standard error.
//!
//! Exit codes: 0 done, 1 something failed, 2 the arguments or the configuration are wrong.

mod arguments;
mod ask;
mod check;
mod clean;
mod delegate;
#[cfg(feature = "demo")]
mod demo;
mod history;
mod logging;
mod man;
mod plan;
mod plugin;
mod print;
mod process;
mod progress;
mod renew;
mod run;
mod status;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use countersign_providers::clock::Clock;
use countersign_providers::leash;

use crate::config::{Config, LogFormat};
use crate::control::ClientError;
use crate::engine::reaction::Whose;
use crate::passed::PassedSockets;
use crate::store::StoreError;
use arguments::{Arguments, Command, Level, PluginCommand};
use print::{Screen, complain, unwritten};

/// Tasks have this long to end what they started, programs of users among it.
const LEAVE: Duration = Duration::from_millis(500);

/// How a command ended.
enum Ending {
    /// Done.
    Done,
    /// Something failed: one sentence, or nothing when it was said already.
    Failed(Option<String>),
    /// The arguments or the configuration are wrong.
    Usage(String),
}

impl Ending {
    /// It could not begin or go on, and a person must act.
    fn yours(error: &dyn std::error::Error) -> Self {
        Self::Failed(Some(format!("{error} [{}]", words::whose(Whose::You))))
    }
}

/// Why nobody can say what is going on.
#[derive(Debug, thiserror::Error)]
enum AskError {
    /// Somebody holds the store, and cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody does, and it cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    if let Err(stayed) = leash::begin() {
        complain(stayed.to_string());
        return stayed.code();
    }
    process::harden();
    let arguments = Arguments::parse();
    // While there is one thread.
    let passed = match arguments.command {
        Command::Run => PassedSockets::receive(),
        _ => Ok(PassedSockets::default()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ending = match (runtime, passed) {
        (Ok(runtime), Ok(passed)) => {
            let ending = runtime.block_on(run(arguments, passed));
            // Whoever was told to stop at once does not wait for what is under way, but what it started ends with it.
            runtime.shutdown_timeout(LEAVE);
            ending
        }
        (_, Err(error)) => Ending::yours(&error),
        (Err(error), _) => Ending::Failed(Some(format!("the runtime cannot be started: {error}"))),
    };
    let unwritten = unwritten();
    if let Some(sentence) = &unwritten {
        complain(words::clean(sentence));
    }
    match ending {
        Ending::Done if unwritten.is_none() => ExitCode::SUCCESS,
        Ending::Done => ExitCode::from(1),
        Ending::Failed(sentence) => {
            if let Some(sentence) = sentence {
                complain(words::clean(&sentence));
            }
            ExitCode::from(1)
        }
        Ending::Usage(sentence) => {
            complain(words::without_numbers(&sentence));
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments, passed: PassedSockets) -> Ending {
    let clock = Clock::system();
    let screen = Screen::look();
    // These need no configuration.
    match arguments.command {
        Command::Completions(options) => return man::completions(options.shell),
        Command::Man => return man::page(),
        _ => {}
    }
    #[cfg(feature = "demo")]
    if let Command::Demo(options) = arguments.command {
        return Box::pin(demo::run(clock, screen, options, arguments.log)).await;
    }
    // A manifest or a program is tried without one.
    if let Command::Plugin(options) = arguments.command {
        let PluginCommand::Test(options) = options.command;
        // What a plug-in does wrong is told case by case.
        logging::start(LogFormat::Text, arguments.log.unwrap_or(Level::Error));
        return Box::pin(plugin::run(options, &arguments.config, clock, screen)).await;
    }
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(errors) => return Ending::Usage(errors.to_string()),
    };
    // These commands run before somebody's eyes and say themselves what they do.
    let quietest = match arguments.command {
        Command::Run => Level::Info,
        _ => Level::Warn,
    };
    let level = logging::level(config.log, arguments.log, quietest);
    let levels = logging::start(config.log.format, level);
    match arguments.command {
        Command::Run => {
            let logs = run::Logs {
                levels,
                asked: arguments.log,
            };
            run::run(config, &arguments.config, clock, passed, logs).await
        }
        Command::Renew(options) => {
            Box::pin(renew::run(&config, clock, screen, options, level)).await
        }
        Command::Status(options) => status::run(&config, &clock, screen, options).await,
        Command::Plan(options) => plan::run(&config, &clock, screen, options).await,
        Command::Clean(options) => Box::pin(clean::run(&config, &clock, screen, &options)).await,
        Command::Delegate(options) => delegate::run(&config, &clock, screen, &options).await,
        Command::Check => check::run(&config, &clock, &arguments.config).await,
        Command::History(options) => history::run(&config, &clock, screen, &options).await,
        Command::Plugin(_) | Command::Completions(_) | Command::Man => Ending::Done,
        #[cfg(feature = "demo")]
        Command::Demo(_) => Ending::Done,
    }
}
