//! DNS hosts behind what people wrote for other ACME clients. They put a value there and take it away; they can neither
//! list zones nor show what is there.

mod acme_sh;
mod certbot_hooks;
mod lego_exec;
mod lego_httpreq;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

pub use acme_sh::{AcmeSh, is_script};
pub use certbot_hooks::CertbotHooks;
pub use lego_exec::LegoExec;
pub use lego_httpreq::LegoHttpreq;

use crate::child::{self, Given, KEPT_OUTPUT, Unfinished, ending};
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::secret::{Secret, SecretSource, hide};
use crate::words::printable;
use crate::{
    Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Traits, claimed,
};

/// Nobody knows how long the host needs.
const PROPAGATION: Duration = Duration::from_secs(120);

/// So many octets of a secret tell something of it.
const TELLING: usize = 4;

/// Writes one value.
#[async_trait]
pub trait Writer: Send + Sync {
    /// What sentences call it.
    fn title(&self) -> String;

    /// Makes `change` true; what is to be given back when the value is to go.
    async fn write(
        &self,
        change: &Change,
        context: &Context,
    ) -> Result<Option<String>, ProviderError>;
}

/// A host that can only be written to, one value at a time.
pub struct WriteOnly<W> {
    writer: W,
    /// The zones that it holds; empty when it was not said, and then it takes any.
    zones: Vec<DnsName>,
}

impl<W: Writer> WriteOnly<W> {
    /// The host behind `writer`, which holds these zones; any, if there are none.
    pub fn new(writer: W, zones: Vec<DnsName>) -> Self {
        Self { writer, zones }
    }
}

#[async_trait]
impl<W: Writer> Provider for WriteOnly<W> {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::Value,
            // One run is one value, and each has the whole of its time.
            batch: 1,
            rate: None,
            propagation: PROPAGATION,
        }
    }

    async fn zones(&self, name: &DnsName, _: &Context) -> Result<Vec<Held>, ProviderError> {
        let mut held = claimed(name);
        if !self.zones.is_empty() {
            held.retain(|it| self.zones.contains(&it.zone.name));
            held.iter_mut().for_each(|it| it.is_claim = false);
        }
        Ok(held)
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        _: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let message = format!(
            "{} cannot say what is in the zone {}",
            self.writer.title(),
            zone.name
        );
        Err(ProviderError::new(ErrorKind::Unsupported, message))
    }

    async fn apply(
        &self,
        _: &Zone,
        changes: &[Change],
        _: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        let mut handles = Vec::new();
        for (nth, change) in changes.iter().enumerate() {
            let written = self.writer.write(change, context).await;
            let partly = |error: ProviderError| if nth > 0 { error.partly() } else { error };
            handles.push(written.map_err(partly)?);
        }
        Ok(Receipt {
            ticket: None,
            handles,
        })
    }
}

/// Runs what sentences call `program`, which writes `change`, with these variables and those that hold secrets; the
/// beginning of what it prints, without the secrets.
async fn run(
    program: &str,
    argv: &[String],
    variables: &[(&str, &str)],
    secrets: &BTreeMap<String, SecretSource>,
    change: &Change,
    context: &Context,
) -> Result<String, ProviderError> {
    let clock = &context.clock;
    let mut environment: Vec<(&str, String)> = (variables.iter())
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    let mut read = Vec::new();
    for (name, source) in secrets {
        let unreadable = |error: &dyn std::fmt::Display| {
            let message = format!("the variable {name} of {program} cannot be had: {error}");
            ProviderError::new(ErrorKind::Auth, message)
                .hint("correct `env` in the configuration, or what it names")
        };
        let secret = source.read(clock).await.map_err(|it| unreadable(&it))?;
        let text = secret.expose_text().map_err(|it| unreadable(&it))?;
        environment.push((name, text.to_owned()));
        read.push(secret);
    }
    let patience = clock.until(context.deadline);
    let late = || {
        let message = format!("{program} had not ended in time for {}", change.name);
        ProviderError::new(ErrorKind::Transient, message)
    };
    if patience.is_zero() {
        return Err(late());
    }
    let given = Given {
        environment: &environment,
        input: &[],
    };
    let finished = match child::run(argv, &given, KEPT_OUTPUT, clock, patience).await {
        Ok(finished) => finished,
        Err(Unfinished::TooSlow(_)) => return Err(late()),
        Err(Unfinished::NotStarted(error)) => {
            let message = format!("{program} could not be started: {error}");
            let error = ProviderError::new(ErrorKind::Fatal, message);
            return Err(error.hint("check its path and who may run it").theirs());
        }
    };
    if finished.status.success() {
        let printed = String::from_utf8_lossy(&finished.stdout);
        let whole = match finished.is_cut {
            true => without_begun(&printed, &read),
            false => &printed,
        };
        return Ok(hide(whole, &read));
    }
    let how = ending(finished.status);
    let words = hide(without_half(&finished.stderr, &read), &read);
    let words = printable(&words, KEPT_OUTPUT);
    let said = if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    };
    let message = format!("{program} ended with {how} for {}{said}", change.name);
    // It says no more than that it failed.
    Err(ProviderError::new(ErrorKind::Transient, message)
        .hint("if it goes on, run it by hand to see why"))
}

/// The end of an output, without the rest of a secret that its beginning was cut from.
fn without_half<'o>(output: &'o str, secrets: &[Secret]) -> &'o str {
    let half = of_a_secret(output, secrets, |text| {
        let mut ends = text.char_indices().map(|(at, _)| &text[at..]);
        ends.find(|end| output.starts_with(end))
    });
    &output[half..]
}

/// The beginning of an output, without the beginning of a secret that its end was cut from.
fn without_begun<'o>(output: &'o str, secrets: &[Secret]) -> &'o str {
    // A character may have been cut too.
    let output = output.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let begun = of_a_secret(output, secrets, |text| {
        let mut begins = text.char_indices().rev().map(|(at, _)| &text[..at]);
        begins.find(|begin| output.ends_with(begin))
    });
    &output[..output.len() - begun]
}

/// So many octets of an output that was cut may be a part of a secret; `part` finds the longest where it was cut.
fn of_a_secret<'s>(
    output: &str,
    secrets: &'s [Secret],
    part: impl Fn(&'s str) -> Option<&'s str>,
) -> usize {
    let texts = secrets.iter().filter_map(|it| it.expose_text().ok());
    let parts = texts.map(|text| match text.contains(output) {
        true => output.len(),
        false => part(text).map_or(0, str::len),
    });
    parts.filter(|len| *len >= TELLING).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_secret_is_not_shown_where_an_output_is_cut_in_it() {
        let secrets = [Secret::new(b"hunter2hunter3".to_vec())];
        let more = "x".repeat(KEPT_OUTPUT);
        let output = format!("ter3 {more}");
        assert_eq!(without_half(&output, &secrets), format!(" {more}"));
        assert_eq!(without_half("3 is bad", &secrets), "3 is bad");
        let long = [Secret::new(more.repeat(2).into_bytes())];
        assert_eq!(without_half(&more, &long), "");
    }

    #[test]
    fn the_beginning_of_a_secret_is_not_kept_where_an_output_is_cut_in_it() {
        let secrets = [Secret::new("hunter2hüpft".as_bytes().to_vec())];
        for begun in ["hunt", "hunter2h\u{FFFD}", "hunter2hüpf"] {
            let output = format!("token {begun}");
            assert_eq!(without_begun(&output, &secrets), "token ");
        }
        assert_eq!(without_begun("a hun", &secrets), "a hun");
        assert_eq!(without_begun("ter2", &secrets), "");
    }
}
