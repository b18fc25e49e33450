//! The command line as typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Proves control of domain names by ACME DNS-01, renews their certificates and delivers them
#[derive(Parser)]
#[command(version, disable_help_subcommand = true, max_term_width = 100)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "COUNTERSIGN_CONFIG",
        default_value = "/etc/countersign/countersign.yaml"
    )]
    pub(super) config: PathBuf,
    /// What is logged to standard error; else as configured, where `info` means warnings for all but `run`
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(super) log: Option<Level>,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// The daemon: renews and delivers by itself; reloads on SIGHUP, drains on SIGTERM
    Run,
    /// Issue and deliver all that is due, now
    Renew(Renew),
    /// What is issued, until when, what comes next, what is wrong and whose move it is
    Status(Status),
    /// What will happen in the next 30 days, in which order, and what makes it wait; touches nothing
    Plan(Plan),
    /// The DNS records to create for a certificate or a name, and the least privilege to grant
    Delegate(Delegate),
    /// Check the configuration and the files it names; uses no network
    Check,
    /// List the TXT values at the challenge names and remove ours that nobody needs
    Clean(Clean),
    /// Every step taken for one certificate
    History(History),
    /// For authors of plug-ins for DNS hosts
    Plugin(Plugin),
    /// What a shell completes, for `source` or the directory of its completions
    Completions(Completions),
    /// The manual page, in roff: `countersign man | man -l -`
    Man,
    /// See it work: an authority, a nameserver and a certificate, all on this machine
    #[cfg(feature = "demo")]
    Demo(Demo),
}

#[derive(Args)]
pub(super) struct Renew {
    /// Only these certificates
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// Also what is not due
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Args)]
pub(super) struct Status {
    /// Only this certificate, with everything that is known of it
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// Exit with 1 if anything is failing
    #[arg(long)]
    pub(super) exit_code: bool,
}

#[derive(Args)]
pub(super) struct Plan {
    /// For programs, with everything
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args)]
pub(super) struct Delegate {
    /// Certificates, or names on them
    #[arg(value_name = "NAME", required = true)]
    pub(super) names: Vec<String>,
    /// Delegate into this zone of a provider, in place of the built-in nameserver's
    #[arg(long, value_name = "ZONE")]
    pub(super) to: Option<String>,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args)]
pub(super) struct Clean {
    /// Only at the names of these certificates
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// Also remove challenge values of others: each is listed first, and you are asked
    #[arg(long)]
    pub(super) foreign: bool,
    /// Do not ask
    #[arg(long, requires = "foreign")]
    pub(super) yes: bool,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args)]
pub(super) struct Completions {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

#[derive(Args)]
pub(super) struct History {
    /// The certificate
    #[arg(value_name = "NAME")]
    pub(super) name: String,
}

#[derive(Args)]
pub(super) struct Plugin {
    #[command(subcommand)]
    pub(super) command: PluginCommand,
}

#[derive(Subcommand)]
pub(super) enum PluginCommand {
    /// Try a plug-in, case by case: on a virtual zone, or on a real one that has records of others too
    Test(PluginTest),
}

#[derive(Args)]
pub(super) struct PluginTest {
    /// A provider of the configuration; or a manifest, a file that ends with .yaml; or a program and its arguments, after `--` where one of them begins with a dash
    #[arg(required = true, value_name = "NAME|MANIFEST|COMMAND")]
    pub(super) target: Vec<String>,
    /// A zone of the real host to write in, below new names; all that is written is removed at the end
    #[arg(long, value_name = "ZONE")]
    pub(super) live: Option<String>,
    /// For programs, with everything
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(feature = "demo")]
#[derive(Args)]
pub(super) struct Demo {
    /// End after the first certificate
    #[arg(long)]
    pub(super) once: bool,
    /// Keep the files there; it must be empty or missing
    #[arg(long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
}
