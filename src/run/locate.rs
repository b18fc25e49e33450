//! Where a challenge name leads: the walk, then whoever holds the zone that it ends in.

use std::net::IpAddr;

use countersign_providers::clock::later;
use countersign_providers::record::{DnsName, Zone};
use countersign_providers::{Context, ErrorKind, ProviderError};

use futures_util::future::join_all;

use super::BUILT_IN;
use super::shared::{Authority, Shared, Wanted};
use crate::dns::{DnsError, DnsErrorKind, Walk, Whose as Blame};
use crate::engine::attempt::{LocateFault, Located};
use crate::engine::names::Identifier;
use crate::engine::reaction::{Failure, Whose};
use crate::measure::{self, Call};

/// A provider has this long to say which zones it holds.
const ZONES_DEADLINE: std::time::Duration = std::time::Duration::from_secs(15);

/// However quick a provider is: a server that does not answer is given up after ten seconds.
const LEAST_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Finds the owner name, the zone, its provider and its servers.
pub async fn locate(
    shared: &Shared,
    authority: &Authority,
    wanted: &Wanted,
    identifier: &Identifier,
) -> Result<(Located, Walk), LocateFault> {
    let name = identifier
        .challenge_name()
        .map_err(|error| final_fault(Failure::new(Whose::You, format!("{identifier}: {error}"))))?;
    // The walk may lead to the built-in nameserver. Whoever it does not lead there needs none.
    let deaf = match &shared.nameserver {
        Some(nameserver) => nameserver.listen().await.err(),
        None => None,
    };
    let walk = (authority.dns.locate(&name).await).map_err(|error| {
        let mut fault = dns_fault(&error);
        if let Some(deaf) = &deaf {
            fault.failure.sentence.push_str(&format!("; and {deaf}"));
        }
        fault
    })?;
    tracing::trace!(%name, owner = %walk.owner, zone = %walk.zone, "located");
    let (provider, zone) = holder(shared, wanted, &walk).await?;
    if let (BUILT_IN, Some(deaf)) = (provider.as_str(), deaf) {
        return Err(final_fault(Failure::new(Whose::You, deaf.to_string())));
    }
    let propagation = shared.providers[&provider].traits().propagation;
    let patience = propagation.max(LEAST_PATIENCE) + walk.remembered;
    let servers = walk.servers.iter().flat_map(|server| {
        server
            .addresses
            .iter()
            .map(|address| (server.host.clone(), *address))
    });
    let nowhere = walk.servers.iter();
    let nowhere = nowhere.filter(|server| server.addresses.is_empty());
    let nowhere = nowhere.map(|server| server.host.clone());
    let located = Located {
        provider,
        zone,
        owner: walk.owner.clone(),
        servers: servers.collect::<Vec<(String, IpAddr)>>(),
        nowhere: nowhere.collect(),
        patience,
    };
    Ok((located, walk))
}

/// Who holds the zone that the walk ended in: the one that the configuration names, else whoever says so.
async fn holder(
    shared: &Shared,
    wanted: &Wanted,
    walk: &Walk,
) -> Result<(String, Zone), LocateFault> {
    let mut held = Vec::new();
    let mut trouble = None;
    let candidates = shared
        .providers
        .iter()
        .filter(|(name, _)| match &wanted.provider {
            // What is delegated to the built-in nameserver goes there, whatever else is configured.
            Some(only) => *name == only || *name == BUILT_IN,
            None => true,
        });
    let deadline = later(shared.clock.now(), ZONES_DEADLINE);
    let context = Context::new(shared.clock.clone(), deadline);
    let asked = candidates.map(|(name, provider)| {
        let context = &context;
        async move {
            let asked = context.clock.elapsed();
            let zones = provider.zones(&walk.owner, context).await;
            let refused = zones.as_ref().err().map(|error| error.kind);
            let took = context.clock.elapsed() - asked;
            measure::provider_called(name, Call::Zones, refused, took);
            let found = zones.as_ref().map_or(0, Vec::len);
            let error = zones.as_ref().err().map(tracing::field::display);
            tracing::trace!(provider = name, owner = %walk.owner, found, error, "provider zones");
            (name, zones)
        }
    });
    for (name, zones) in join_all(asked).await {
        match zones {
            Ok(zones) => held.extend(zones.into_iter().map(|held| (name.clone(), held.zone))),
            Err(error) => trouble = Some((name.clone(), error)),
        }
    }
    if let Some(found) = held.iter().find(|(_, zone)| zone.name == walk.zone) {
        return Ok(found.clone());
    }
    match trouble {
        Some((name, error)) => Err(provider_fault(&name, &error)),
        None => Err(final_fault(nobody(walk, &held))),
    }
}

fn nobody(walk: &Walk, held: &[(String, Zone)]) -> Failure {
    if !walk.zone.as_str().contains('.') {
        let sentence = format!(
            "the servers of the top-level zone {} know no domain for {}; it is misspelt, not registered, or not delegated",
            walk.zone, walk.owner
        );
        return Failure::new(Whose::You, sentence);
    }
    let leads = match walk.owner == walk.asked {
        true => String::new(),
        false => format!(", where {} leads,", walk.asked),
    };
    let near = match held.first() {
        None => String::new(),
        Some((provider, zone)) => {
            format!(
                "; provider {provider} holds {}, which is not the zone that is asked",
                zone.name
            )
        }
    };
    let sentence = format!(
        "no provider holds the zone {} of {}{leads}{near}; configure the one that does, or delegate {} by CNAME to a zone that one holds",
        walk.zone, walk.owner, walk.asked
    );
    Failure::new(Whose::You, sentence)
}

fn dns_fault(error: &DnsError) -> LocateFault {
    let whose = match error.kind.whose() {
        Blame::You => Whose::You,
        Blame::DnsHost => Whose::DnsHost,
    };
    let failure = Failure::new(whose, with_hint(&error.message, error.hint.as_deref()));
    let transient = matches!(
        error.kind,
        DnsErrorKind::Lame | DnsErrorKind::Unreachable | DnsErrorKind::TooMuch
    );
    LocateFault { failure, transient }
}

fn provider_fault(name: &str, error: &ProviderError) -> LocateFault {
    let whose = if error.kind.needs_person() {
        Whose::You
    } else {
        Whose::DnsHost
    };
    let sentence = format!(
        "provider {name}: {}",
        with_hint(&error.message, error.hint.as_deref())
    );
    let transient = matches!(
        error.kind,
        ErrorKind::Transient | ErrorKind::RateLimited { .. }
    );
    LocateFault {
        failure: Failure::new(whose, sentence),
        transient,
    }
}

fn final_fault(failure: Failure) -> LocateFault {
    LocateFault {
        failure,
        transient: false,
    }
}

fn with_hint(message: &str, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{message}; {hint}"),
        None => message.to_owned(),
    }
}

/// The owner names of a walk, in the order in which they were followed.
pub fn path(walk: &Walk) -> Vec<&DnsName> {
    let mut path: Vec<&DnsName> = walk.chain.iter().collect();
    path.push(&walk.owner);
    path
}
