//! What is to be tried: a provider of the configuration, a manifest, or a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_providers::clock::Clock;
use countersign_providers::kit::{Live, Program, VirtualZone, World};
use countersign_providers::manifest::Manifest;
use countersign_providers::manifest::mirror::{Mirror, ZONE};
use countersign_providers::process::Process;
use countersign_providers::record::{DnsName, Zone};
use countersign_providers::{Context, ErrorKind, Provider};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::cli::words::{clean, nearest};
use crate::config::{Config, ProviderName, ProviderSettings};
use crate::daemon;

/// Whose the records are, where a plug-in writes that down.
const OWNER: &str = "plugin-test";
/// More of a file is not read; a manifest is far smaller.
const MAX_FILE: u64 = 1024 * 1024;
/// A host has so long to say which zones it holds.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A plug-in and what it is tried on.
pub(super) struct Subject {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) world: Box<dyn World>,
}

/// Why there is none: a sentence.
pub(super) enum Refused {
    Usage(String),
    Failed(String),
}

/// What the words of the command line mean.
enum Target {
    Name(ProviderSettings),
    Manifest(PathBuf),
    Command(Vec<String>),
}

/// The plug-in that `words` name, on the zone `live` of the real host or on a virtual one.
pub(super) async fn find(
    words: &[String],
    live: Option<&str>,
    config: &Path,
    clock: &Clock,
) -> Result<Subject, Refused> {
    let live = live.map(|zone| {
        let parsed = DnsName::parse(zone);
        parsed.map_err(|error| Refused::Usage(format!("--live {}: {error}", clean(zone))))
    });
    let live = live.transpose()?;
    let made = match target(words, config)? {
        Target::Name(settings) => named(&settings, live, clock).await,
        Target::Manifest(_) if live.is_some() => Err(Refused::Usage(
            "a manifest alone has no credential for --live; put it under `providers` of the configuration and name it so"
                .to_owned(),
        )),
        Target::Manifest(file) => virtual_zone(Arc::new(read(&file)?), clock).await,
        Target::Command(command) => {
            let zone = live.as_ref().map_or(ZONE, DnsName::as_str);
            let program = Program::new(command, zone, clock.clone());
            let failed = |error| Refused::Failed(format!("no directory for the plug-in's records: {error}"));
            process(program.map_err(failed)?, live, clock).await
        }
    };
    let (provider, world) = made?;
    Ok(Subject { provider, world })
}

type Made = (Arc<dyn Provider>, Box<dyn World>);

fn target(words: &[String], config: &Path) -> Result<Target, Refused> {
    let [first, rest @ ..] = words else {
        return Err(Refused::Usage("there is nothing to try".to_owned()));
    };
    let word = clean(first);
    let path = Path::new(first);
    let is_yaml = path
        .extension()
        .is_some_and(|it| it == "yaml" || it == "yml");
    let is_manifest = is_yaml && path.is_file();
    let program = program(first).filter(|_| !is_yaml);
    let mut names = Vec::new();
    // What is followed by arguments is a program, if there is one.
    let may_be_name = !first.contains('/') && (rest.is_empty() || program.is_none());
    if may_be_name && config.exists() {
        match Config::load(config) {
            Ok(config) => {
                if let Some(settings) = config.providers.get(first.as_str()) {
                    return match (is_manifest, rest) {
                        (true, _) => Err(Refused::Usage(format!(
                            "`{word}` is a provider of the configuration and a file; write ./{word} for the file"
                        ))),
                        (false, []) => Ok(Target::Name(settings.clone())),
                        (false, [more, ..]) => {
                            Err(alone(&word, "a provider of the configuration", more))
                        }
                    };
                }
                names.extend(config.providers.into_keys());
            }
            // Neither a manifest nor a program needs it.
            Err(_) if is_manifest || program.is_some() => {}
            Err(errors) => return Err(Refused::Usage(errors.to_string())),
        }
    }
    match (program, rest) {
        (_, [more, ..]) if is_manifest => Err(alone(&word, "a manifest", more)),
        (_, []) if is_manifest => Ok(Target::Manifest(path.to_owned())),
        (Some(program), rest) => {
            let program = program.to_string_lossy().into_owned();
            let rest = rest.iter().map(|word| absolute(word));
            let command = std::iter::once(program).chain(rest);
            Ok(Target::Command(command.collect()))
        }
        (None, _) => Err(Refused::Usage(nothing(first, is_yaml, &names, config))),
    }
}

/// It takes no arguments, and has some.
fn alone(word: &str, what: &str, more: &str) -> Refused {
    let more = clean(more);
    Refused::Usage(format!(
        "`{word}` is {what}, which takes no arguments, and here is `{more}` after it"
    ))
}

/// What was looked for, and the nearest name that is known.
fn nothing(word: &str, is_yaml: bool, names: &[ProviderName], config: &Path) -> String {
    let near = nearest(word, names.iter().map(ProviderName::as_str));
    let file = config.display();
    let hint = match (near, names) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) if !config.exists() => {
            format!("there is no configuration at {file}: --config FILE says where it is")
        }
        (None, []) => format!("{file} defines no provider"),
        (None, names) => {
            let names: Vec<&str> = names.iter().map(ProviderName::as_str).collect();
            format!("{file} has {}", names.join(", "))
        }
    };
    let word = clean(word);
    match (is_yaml, word.contains('/')) {
        (true, true) => format!("there is no manifest `{word}`"),
        (true, false) => format!(
            "`{word}` is no provider of the configuration, and there is no such manifest here; {hint}"
        ),
        (false, true) => format!(
            "there is no program `{word}`, and a provider of the configuration has no slash in its name"
        ),
        (false, false) => format!(
            "`{word}` is no provider of the configuration, no manifest (a file that ends with .yaml) and no program; {hint}"
        ),
    }
}

/// The program of this name, by its absolute path: it will run in another directory.
fn program(word: &str) -> Option<PathBuf> {
    let found = match word.contains('/') {
        true => std::path::absolute(word).ok(),
        false => std::env::split_paths(&path_variable())
            .map(|directory| directory.join(word))
            .find(|it| it.is_file()),
    };
    found.filter(|it| it.is_file())
}

/// An argument as it is, or the absolute path of the file that it names from here: the program will run elsewhere.
fn absolute(word: &str) -> String {
    let path = Path::new(word);
    let absolute = std::path::absolute(path)
        .ok()
        .filter(|_| path.is_relative() && path.is_file());
    absolute.map_or_else(
        || word.to_owned(),
        |path| path.to_string_lossy().into_owned(),
    )
}

#[allow(
    clippy::disallowed_methods,
    reason = "where programs are is said by the environment"
)]
fn path_variable() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

fn read(file: &Path) -> Result<Manifest, Refused> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|it| it.take(MAX_FILE).read_to_string(&mut text));
    let place = file.display();
    read.map_err(|error| Refused::Usage(format!("{place} cannot be read: {error}")))?;
    Manifest::read(&text).map_err(|error| {
        let hint = error.hint.iter().map(|hint| format!("\n  hint: {hint}"));
        Refused::Usage(format!("{place}: {error}{}", hint.collect::<String>()))
    })
}

async fn named(
    settings: &ProviderSettings,
    live: Option<DnsName>,
    clock: &Clock,
) -> Result<Made, Refused> {
    if let ProviderSettings::Process(settings) = settings {
        return process(Program::of(settings.clone(), clock.clone()), live, clock).await;
    }
    if let (ProviderSettings::Rest { settings, .. }, None) = (settings, &live) {
        return virtual_zone(Arc::clone(&settings.manifest), clock).await;
    }
    if matches!(settings, ProviderSettings::Manual) {
        return Err(Refused::Usage(
            "`manual` is a person: there is no plug-in that could be tried".to_owned(),
        ));
    }
    let instance = || daemon::provider(settings, OWNER, Arc::default());
    let provider = instance();
    let Some(zone) = live else {
        return Err(Refused::Usage(
            "it has no virtual zone, and nothing would be tried; name a zone that it holds with --live ZONE"
                .to_owned(),
        ));
    };
    let zone = held(&*provider, zone, clock).await?;
    let world = Live::new(Ok(zone), &mark()?, instance(), clock.clone());
    let world = world.fitted(&*provider).await;
    Ok((provider, Box::new(world)))
}

async fn virtual_zone(manifest: Arc<Manifest>, clock: &Clock) -> Result<Made, Refused> {
    match Mirror::start(manifest).await {
        Ok(mirror) => {
            let world = VirtualZone::new(mirror, clock.clone());
            Ok((Arc::new(world.plugin()), Box::new(world)))
        }
        Err(why) => Err(Refused::Failed(why)),
    }
}

/// A plug-in that is a program is tried at the zone that it is told, also where it has no host behind it.
async fn process(program: Program, live: Option<DnsName>, clock: &Clock) -> Result<Made, Refused> {
    program.try_start().map_err(|error| {
        let name = program.settings().command.into_iter().next().unwrap_or_default();
        let name = clean(&name);
        Refused::Usage(format!(
            "{name} could not be started: {error}\n  hint: see whether you may run it, and whether the program after `#!` in its first line is there"
        ))
    })?;
    let instance = || Arc::new(Process::new(program.settings()));
    let provider: Arc<dyn Provider> = instance();
    let zone = match live {
        Some(zone) => Ok(held(&*provider, zone, clock).await?),
        None => virtual_one(&*provider, clock).await?,
    };
    let world = Live::new(zone, &mark()?, instance(), clock.clone());
    let world = world.program(program).fitted(&*provider).await;
    Ok((provider, Box::new(world)))
}

/// The zone that a program is told without a real one; why it has none. A program that does not run has no case to try.
async fn virtual_one(
    provider: &dyn Provider,
    clock: &Clock,
) -> Result<Result<Zone, String>, Refused> {
    let name = DnsName::parse(ZONE).map_err(|error| Refused::Failed(error.to_string()))?;
    let held = match provider.zones(&name, &context(clock)).await {
        Ok(held) => held,
        Err(error) if error.kind == ErrorKind::Transient => {
            return Err(Refused::Failed(error.message));
        }
        Err(error) => {
            let why = error.message;
            return Ok(Err(format!("it could not be asked for its zones: {why}")));
        }
    };
    let mut zones = held.into_iter().map(|it| it.zone);
    let found = zones.find(|it| it.name == name);
    Ok(found
        .ok_or_else(|| format!("it does not hold {ZONE}: name a zone that it holds with --live")))
}

/// The zone of that name at the host.
async fn held(provider: &dyn Provider, name: DnsName, clock: &Clock) -> Result<Zone, Refused> {
    let held = provider.zones(&name, &context(clock)).await;
    let held = held.map_err(|error| {
        let hint = error.hint.iter().map(|hint| format!("; {hint}"));
        Refused::Failed(format!("{}{}", error.message, hint.collect::<String>()))
    })?;
    let mut zones = held.into_iter().map(|it| it.zone);
    let found = zones.find(|it| it.name == name);
    found.ok_or_else(|| Refused::Failed(format!("the zone {name} is not held there")))
}

fn context(clock: &Clock) -> Context {
    let deadline = countersign_providers::clock::later(clock.now(), PATIENCE);
    Context::new(clock.clone(), deadline)
}

/// What no other run has in its names.
fn mark() -> Result<String, Refused> {
    let mut bytes = [0; 5];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Refused::Failed("the system gives no random numbers".to_owned()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_an_argument_names_is_found_from_elsewhere() {
        let here = std::path::absolute("Cargo.toml").unwrap();
        assert_eq!(absolute("./Cargo.toml"), here.to_string_lossy());
        for other in ["--flag", "no-such-file", "src", "/etc/hosts"] {
            assert_eq!(absolute(other), other);
        }
    }
}
