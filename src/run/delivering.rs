//! Drives the deliveries of one certificate: what is issued goes to every target, and whoever uses it is told.

use futures_util::future::join_all;

use super::accounts::store_failure;
use super::journal::Journal;
use super::progress::Progress;
use super::shared::{Destination, Shared, Wanted};
use super::{hands, records};
use crate::acme::csr;
use crate::deliver::{Generation, Shown, command};
use crate::engine::certificate::{Certificate, Issued};
use crate::engine::delivery::{Delivery, Effect, Event};
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::measure::{self, Went};
use crate::store::{Saved, StoreError};

/// Brings every delivery of `certificate` as far as it goes now, without the pauses after failures when a person
/// `hurries`. The first failure, if any.
pub async fn deliver(
    shared: &Shared,
    certificate: &Certificate,
    wanted: &Wanted,
    hurries: bool,
) -> Result<(), Failure> {
    let Some(issued) = &certificate.current else {
        return Ok(());
    };
    if wanted.destinations.is_empty() {
        return Ok(());
    }
    let generation = generation(shared, &certificate.name, issued).await?;
    let destinations = wanted.destinations.iter();
    let all = destinations.map(|to| bring(shared, certificate, issued, to, &generation, hurries));
    join_all(all).await.into_iter().collect()
}

/// Whether something of `certificate` is not where it should be: by what is saved, and by what the targets show.
pub async fn is_wanting(
    shared: &Shared,
    certificate: &Certificate,
    wanted: &Wanted,
) -> Result<bool, StoreError> {
    let Some(issued) = &certificate.current else {
        return Ok(false);
    };
    for to in &wanted.destinations {
        let key = records::delivery(&certificate.name, &to.name);
        let delivery = shared.session.load::<Delivery>(key).await?;
        // An installation may be on the disk of which nothing was saved: then whoever uses it was not told either.
        let done = delivery.is_some_and(|saved| {
            saved.value.is_done()
                && saved.value.failure().is_none()
                && saved.value.installed() == Some(issued.generation)
        });
        let there = match to.target.inspect().await {
            Ok(Shown::Generation {
                number,
                fault: None,
                ..
            }) => number == issued.generation,
            _ => false,
        };
        if !done || !there {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn generation(
    shared: &Shared,
    name: &CertificateName,
    issued: &Issued,
) -> Result<Generation, Failure> {
    let at = records::chain(name, issued.epoch);
    let chain = shared
        .session
        .store()
        .read(&at)
        .await
        .map_err(store_failure)?;
    let chain = chain
        .and_then(|record| String::from_utf8(record.value).ok())
        .ok_or_else(|| {
            Failure::new(
                Whose::Countersign,
                format!("the certificate chain of {name} is missing"),
            )
        })?;
    let key = hands::leaf_key(shared, name, issued.epoch).await?;
    Ok(Generation {
        number: issued.generation,
        fullchain_pem: chain,
        key_pem: csr::key_pem(&key),
    })
}

async fn bring(
    shared: &Shared,
    certificate: &Certificate,
    issued: &Issued,
    to: &Destination,
    generation: &Generation,
    hurries: bool,
) -> Result<(), Failure> {
    let name = &certificate.name;
    let key = records::delivery(name, &to.name);
    let loaded = shared
        .session
        .load::<Delivery>(key.clone())
        .await
        .map_err(store_failure)?;
    let fresh = || Saved::new(key, Delivery::new(name.clone(), to.name.clone()));
    let mut delivery = loaded.unwrap_or_else(fresh);
    let mut journal = Journal::new(name.clone(), issued.epoch);
    delivery
        .value
        .want(shared.clock.now(), issued.generation, issued.not_after);
    let was_done = delivery.value.is_done();
    if hurries {
        delivery.value.hurry();
    }
    loop {
        let now = shared.clock.now();
        let Some((id, effect)) = delivery.value.pending(now).effects.into_iter().next() else {
            break;
        };
        tracing::trace!(certificate = %name, target = to.name, effect = %id, "effect");
        // Before somebody is told, it is saved that the files are there. The rest may be done again after a crash.
        let told_next = matches!(effect, Effect::Install(_)) && to.reload.is_some();
        let event = match effect {
            Effect::Inspect => Event::Inspected(match to.target.inspect().await {
                Ok(shown) => Ok(number(&shown, generation)),
                Err(error) => Err(error.to_string()),
            }),
            Effect::Install(number) => {
                let installed = to
                    .target
                    .install(generation)
                    .await
                    .map_err(|error| error.to_string());
                if installed.is_ok() {
                    journal.note(now, format!("installed at {}", to.name));
                }
                Event::Installed(number, installed)
            }
            Effect::Reload(number) => Event::Reloaded(number, reload(shared, to, number).await),
        };
        tracing::trace!(certificate = %name, target = to.name, effect = %id, "effect done");
        delivery.value.apply(shared.clock.now(), &id, event);
        if let Some((failure, _)) = delivery.value.failure() {
            journal.note(
                now,
                format!("delivery to {} failed: {}", &to.name, failure.sentence),
            );
        }
        if told_next {
            save(shared, &mut delivery, &mut journal).await?;
        }
    }
    save(shared, &mut delivery, &mut journal).await?;
    match delivery.value.failure() {
        Some((failure, _)) => {
            measure::delivered(Went::Wrong);
            Err(failure.clone())
        }
        None => {
            if !was_done {
                measure::delivered(Went::Well);
                let told = if to.reload.is_some() {
                    ", and reloaded"
                } else {
                    ""
                };
                tracing::info!("delivered to {}{told}", to.name);
                let target = to.name.clone();
                shared.watchers.tell(name, Progress::Delivered { target });
            }
            Ok(())
        }
    }
}

async fn save(
    shared: &Shared,
    delivery: &mut Saved<Delivery>,
    journal: &mut Journal,
) -> Result<(), Failure> {
    let saved = shared.session.save(&mut [delivery], journal.take()).await;
    saved.map_err(store_failure)
}

/// The generation that is there and as it should be.
fn number(shown: &Shown, wanted: &Generation) -> Option<u64> {
    match shown {
        Shown::Nothing => None,
        Shown::Generation { number, .. } if *number == wanted.number => {
            shown.is(wanted).then_some(*number)
        }
        Shown::Generation { number, fault, .. } => fault.is_none().then_some(*number),
    }
}

/// Tells whoever uses the certificate, and removes the generation before.
async fn reload(shared: &Shared, to: &Destination, number: u64) -> Result<(), String> {
    if let Some(argv) = &to.reload {
        let told = command::run(argv, &shared.clock, command::DEADLINE).await;
        told.map_err(|error| {
            format!("the new files are in place, but whoever uses them was not told: {error}")
        })?;
    }
    to.target
        .settle(number)
        .await
        .map_err(|error| error.to_string())
}
