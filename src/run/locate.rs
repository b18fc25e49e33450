//! Where a challenge name leads: the walk, then whoever holds the zone that it ends in.

use std::net::IpAddr;
use std::time::Duration;

use countersign_providers::record::DnsName;
use countersign_providers::{ErrorKind, ProviderError};

use super::BUILT_IN;
use super::holders::{Nobody, holder};
use super::shared::{Authority, Shared, Wanted};
use crate::dns::{DnsError, DnsErrorKind, Walk, Whose as Blame};
use crate::engine::attempt::{LocateFault, Located};
use crate::engine::names::Identifier;
use crate::engine::reaction::{Failure, Whose};

/// However quick a provider is: a server that does not answer is given up after ten seconds.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);

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
    let (provider, zone) =
        (holder(shared, wanted, &walk).await).map_err(|nobody| match nobody {
            Nobody::For(failure) => final_fault(failure),
            Nobody::Trouble(name, error) => provider_fault(&name, &error),
        })?;
    if let (BUILT_IN, Some(deaf)) = (provider.as_str(), deaf) {
        return Err(final_fault(Failure::new(Whose::You, deaf.to_string())));
    }
    let host = shared.ledger.host(&provider);
    let propagation = host.map_or(Duration::ZERO, |host| host.traits().propagation);
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

/// Why `name` was of no use.
pub(super) fn provider_fault(name: &str, error: &ProviderError) -> LocateFault {
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
