//! The command line as typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Proves control of domain names by ACME DNS-01, renews their certificates and delivers them.
#[derive(Parser)]
#[command(version)]
pub(super) struct Arguments {
    /// The configuration.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "COUNTERSIGN_CONFIG",
        default_value = "/etc/countersign/countersign.yaml"
    )]
    pub(super) config: PathBuf,
    /// What is logged, to standard error.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(super) log: Option<Level>,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How much is logged.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Issue and deliver all that is due, in the foreground.
    Renew(Renew),
}

#[derive(Args)]
pub(super) struct Renew {
    /// Only these certificates.
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// Also what is not due.
    #[arg(long)]
    pub(super) force: bool,
}
