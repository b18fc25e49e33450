//! `man` and `completions`: what the arguments say, for man(1) and for shells.

use std::io::{self, Write};

use clap::{Arg, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::Ending;
use super::arguments::Arguments;
use super::print::out;

/// What ends how.
const EXIT_CODES: [(&str, &str); 3] = [
    ("0", "done"),
    (
        "1",
        "something failed: one sentence on standard error says what, whose move it is and what to do",
    ),
    ("2", "the arguments or the configuration are wrong"),
];
/// What is where.
const FILES: [(&str, &str); 4] = [
    ("/etc/countersign/countersign.yaml", "the configuration"),
    (
        "/var/lib/countersign",
        "the state: store, key that seals it, socket; `state` in the configuration names another directory",
    ),
    (
        "control.sock",
        "in the state directory: `renew`, `status`, `plan` and `history` go through it while the daemon runs",
    ),
    (
        "DIRECTORY/current",
        "where a target is a directory of files: the present certificate, changed by one rename",
    ),
];
/// What is read of the environment.
const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "COUNTERSIGN_CONFIG",
        "the configuration, unless --config names one",
    ),
    ("NO_COLOR", "if it is not empty, nothing is coloured"),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "set by systemd for `run`: it is told when the daemon is ready, reloads and stops",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "set by systemd: where secrets of the kind {credential: NAME} are",
    ),
];

/// Prints what `shell` completes.
pub(super) fn completions(shell: Shell) -> Ending {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    out(String::from_utf8_lossy(&script).trim_end());
    Ending::Done
}

/// Prints the manual page.
pub(super) fn page() -> Ending {
    let mut page = Vec::new();
    match write(&mut page) {
        Ok(()) => {
            out(String::from_utf8_lossy(&page).trim_end());
            Ending::Done
        }
        Err(error) => Ending::Failed(Some(format!("the page cannot be written: {error}"))),
    }
}

fn write(page: &mut dyn Write) -> io::Result<()> {
    let mut command = Arguments::command();
    command.build();
    let man = Man::new(command.clone()).section("8").manual("Countersign");
    man.render_title(page)?;
    man.render_name_section(page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([
        bold("countersign"),
        roman(" [--config "),
        italic("FILE"),
        roman("] [--log "),
        italic("LEVEL"),
        roman("] "),
        italic("COMMAND"),
    ]);
    roff.to_writer(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in command.get_subcommands() {
        match command.has_subcommands() {
            false => section(&mut roff, command.get_name(), command),
            true => {
                for below in command.get_subcommands() {
                    let name = format!("{} {}", command.get_name(), below.get_name());
                    section(&mut roff, &name, below);
                }
            }
        }
    }
    for (title, lines) in [
        ("EXIT STATUS", &EXIT_CODES[..]),
        ("FILES", &FILES),
        ("ENVIRONMENT", &ENVIRONMENT),
    ] {
        roff.control("SH", [title]);
        for (word, meaning) in lines {
            roff.control("TP", []);
            roff.text([bold(*word)]);
            roff.text([roman(*meaning)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("systemctl(1), RFC 8555 (ACME), RFC 2136 (DNS UPDATE); config/example.yaml in the source has every key of the configuration")]);
    roff.to_writer(page)
}

/// A command by its full name, its usage, and the arguments that are its own.
fn section(roff: &mut Roff, name: &str, command: &clap::Command) {
    let mut line = vec![bold(name)];
    for argument in command.get_positionals() {
        line.extend([roman(" "), italic(argument.to_string())]);
    }
    let is_own = |it: &&Arg| !it.is_positional() && !it.is_global_set() && it.get_id() != "help";
    let own = || command.get_arguments().filter(is_own);
    for option in own() {
        line.extend([roman(" ["), bold(option.to_string()), roman("]")]);
    }
    roff.control("TP", []);
    roff.text(line);
    let about = command.get_about().map(ToString::to_string);
    roff.text([roman(about.unwrap_or_default())]);
    roff.control("RS", []);
    let arguments = command.get_positionals().chain(own());
    for argument in arguments {
        let help = argument.get_help().map(ToString::to_string);
        roff.control("TP", []);
        roff.text([bold(argument.to_string())]);
        roff.text([roman(help.unwrap_or_default())]);
    }
    roff.control("RE", []);
}
