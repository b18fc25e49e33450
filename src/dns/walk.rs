//! From the roots to the servers of a name: referral by referral, through CNAMEs, to the zone cut and every address.
//!
//! Iterative resolution (RFC 1034 section 5.3.3) with nothing kept between walks, so that a delegation that was
//! mended a moment ago is seen. Everything that a server says is believed only below its own zone cut. Referrals,
//! CNAMEs, nested look-ups and questions are all bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use countersign_providers::record::{DnsName, NameError};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{LowerName, Name, RecordType};
use tracing::trace;

use super::exchange::{Exchange, Silence};
use super::reading::{
    Cut, MAX_SERVERS, NameServer, Step, Useless, add, addresses_in, apex_in, interleave, judge,
    merge, name_servers, place, plain,
};
use super::{DnsError, DnsErrorKind, ROOTS, Server, Walk};

/// CNAMEs followed; Unbound, which the best-known authority uses, follows 11.
pub(super) const MAX_ALIASES: usize = 8;
/// Zone cuts on the way to one name; real names have four or five.
const MAX_REFERRALS: usize = 16;
/// Look-ups of servers' addresses inside look-ups of servers' addresses.
const MAX_DEPTH: usize = 4;
/// Questions for one walk: a hostile zone must not make us a flood.
const MAX_QUESTIONS: usize = 200;
/// How long one server may hold up a walk before the next is asked as well.
const STAGGER: Duration = Duration::from_millis(300);
/// Servers named in an error.
const SHOWN: usize = 4;

/// One walk.
pub(super) struct Walker<'a> {
    exchange: &'a Exchange,
    roots: &'a [IpAddr],
    questions: AtomicUsize,
    /// The cuts found so far, by apex, so that later look-ups of this walk begin below the roots.
    cuts: Mutex<BTreeMap<LowerName, Cut>>,
}

/// Where a look-up ended.
enum Found {
    Answer(Box<Message>, Cut),
    Alias(Name),
}

impl<'a> Walker<'a> {
    pub(super) fn new(exchange: &'a Exchange, roots: &'a [IpAddr]) -> Self {
        Self {
            exchange,
            roots,
            questions: AtomicUsize::new(0),
            cuts: Mutex::new(BTreeMap::new()),
        }
    }

    pub(super) async fn locate(&self, name: &DnsName) -> Result<Walk, DnsError> {
        let mut chain: Vec<DnsName> = Vec::new();
        let mut owner = name.clone();
        let (message, mut cut) = loop {
            match self
                .find(&wire_or_error(&owner)?, RecordType::TXT, 0)
                .await?
            {
                Found::Answer(message, cut) => break (message, cut),
                Found::Alias(target) => {
                    let target = DnsName::parse(&target.to_ascii())
                        .map_err(|_| DnsError::alias_target(&owner, &target))?;
                    chain.push(owner);
                    if chain.contains(&target) {
                        return Err(DnsError::alias_loop(&chain, &target));
                    }
                    if chain.len() > MAX_ALIASES {
                        return Err(DnsError::alias_chain(&chain));
                    }
                    owner = target;
                }
            }
        };
        let owner_wire = wire_or_error(&owner)?;
        let zone = self.zone_of(&owner_wire, &message, &mut cut).await;
        self.check_exists(&owner, &zone, &message)?;
        let zone_name =
            DnsName::parse(&zone.to_ascii()).map_err(|_| unusable_zone(&owner, &zone))?;
        let servers = self.servers(&zone, cut).await?;
        trace!(%name, %owner, zone = %zone_name, servers = servers.len(),
            questions = self.questions.load(Ordering::Relaxed), "the walk ended");
        Ok(Walk {
            asked: name.clone(),
            owner,
            chain,
            zone: zone_name,
            servers,
            by_resolvers: false,
            remembered: Duration::ZERO,
        })
    }

    /// Descends until a server answers with authority.
    fn find<'b>(
        &'b self,
        name: &'b Name,
        kind: RecordType,
        depth: usize,
    ) -> BoxFuture<'b, Result<Found, DnsError>> {
        Box::pin(async move {
            let mut cut = self.closest_cut(name);
            for _ in 0..MAX_REFERRALS {
                match self.ask_cut(&mut cut, name, kind, depth).await? {
                    Step::Answer(message) => return Ok(Found::Answer(Box::new(message), cut)),
                    Step::Alias(target) => return Ok(Found::Alias(target)),
                    Step::Referral(next) => {
                        self.remember(&next);
                        cut = next;
                    }
                }
            }
            let message = format!("more than {MAX_REFERRALS} zone cuts lie on the way to {name}");
            Err(DnsError::new(DnsErrorKind::TooMuch, message))
        })
    }

    /// Asks the servers of `cut` until one is of use; those without a known address are looked up only when the
    /// others are of none.
    async fn ask_cut(
        &self,
        cut: &mut Cut,
        name: &Name,
        kind: RecordType,
        depth: usize,
    ) -> Result<Step, DnsError> {
        let mut failures = Vec::new();
        let known = interleave(&cut.servers);
        if let Some(step) = self.race(cut, known, name, kind, &mut failures).await? {
            return Ok(step);
        }
        for index in 0..cut.servers.len() {
            let server = &cut.servers[index];
            if !server.addresses.is_empty() || depth >= MAX_DEPTH {
                continue;
            }
            let host = server.host.clone();
            // A host inside the zone that it serves cannot be found without glue.
            let found = if cut.zone.zone_of(&host) && !cut.zone.is_root() {
                Vec::new()
            } else {
                self.addresses(&host, depth + 1).await?
            };
            if found.is_empty() {
                let why = Useless::Silent("it has no address".to_owned());
                failures.push((plain(&host), why));
                continue;
            }
            cut.servers[index].addresses = found;
            self.remember(cut);
            let places = interleave(&cut.servers[index..=index]);
            if let Some(step) = self.race(cut, places, name, kind, &mut failures).await? {
                return Ok(step);
            }
        }
        Err(self.useless(cut, name, &failures))
    }

    /// Asks one place after the other, the next one as soon as one fails or is slow; takes the first useful word.
    async fn race(
        &self,
        cut: &mut Cut,
        places: Vec<(String, IpAddr)>,
        name: &Name,
        kind: RecordType,
        failures: &mut Vec<(String, Useless)>,
    ) -> Result<Option<Step>, DnsError> {
        let mut waiting = places.into_iter();
        let mut running = FuturesUnordered::new();
        let mut start_next = true;
        loop {
            if start_next && let Some((host, address)) = waiting.next() {
                self.spend(name)?;
                running.push(async move {
                    let answer = self.exchange.ask(address, name, kind).await;
                    (host, address, answer)
                });
            }
            if running.is_empty() {
                return Ok(None);
            }
            let more = waiting.len() > 0;
            tokio::select! {
                Some((host, address, answer)) = running.next() => {
                    let judged = match answer {
                        Ok(message) => judge(cut, name, kind, message),
                        Err(Silence::NoAnswer(why) | Silence::NoRoute(why)) => Err(Useless::Silent(why)),
                    };
                    match judged {
                        Ok(step) => {
                            self.prefer(cut, address);
                            return Ok(Some(step));
                        }
                        Err(why) => failures.push((place(&host, address), why)),
                    }
                    start_next = true;
                }
                () = self.exchange.clock().sleep(STAGGER), if more => start_next = true,
            }
        }
    }

    /// The apex of the zone that holds `owner`: as the SOA of a negative answer says, else as the SOA RRset does.
    async fn zone_of(&self, owner: &Name, message: &Message, cut: &mut Cut) -> Name {
        if let Some(apex) = apex_in(&message.authorities, owner, cut) {
            return apex;
        }
        let mut candidate = owner.clone();
        while cut.zone.zone_of(&candidate) && candidate != cut.zone {
            if let Ok(Step::Answer(answer)) =
                self.ask_cut(cut, &candidate, RecordType::SOA, 0).await
            {
                let records = answer.answers.iter().chain(&answer.authorities);
                if let Some(apex) = apex_in(records, owner, cut) {
                    return apex;
                }
            }
            candidate = candidate.base_name();
        }
        cut.zone.clone()
    }

    /// A registry saying that there is no such domain must not look like a zone without a value.
    fn check_exists(
        &self,
        owner: &DnsName,
        zone: &Name,
        message: &Message,
    ) -> Result<(), DnsError> {
        let missing = message.metadata.response_code == ResponseCode::NXDomain;
        let in_public_tree = self.roots == ROOTS;
        let registry = zone.is_root() || (in_public_tree && zone.num_labels() == 1);
        if !(missing && registry) {
            return Ok(());
        }
        let message =
            format!("{owner} does not exist: the servers of `{zone}` know no such domain");
        Err(DnsError::new(DnsErrorKind::NoSuchDomain, message)
            .hint("look for a typing error, or register the domain"))
    }

    /// Every server of `zone` with every address: by the zone's own NS RRset, and by its parent's.
    async fn servers(&self, zone: &Name, mut cut: Cut) -> Result<Vec<Server>, DnsError> {
        let own = match self.ask_cut(&mut cut, zone, RecordType::NS, 0).await {
            Ok(Step::Answer(message)) => name_servers(&message.answers, &message, zone, zone),
            _ => Vec::new(),
        };
        let mut servers = own;
        // A server that holds parent and child refers to neither; then the parent's RRset is out of sight.
        if cut.zone == *zone || servers.is_empty() {
            merge(&mut servers, cut.servers.clone());
        }
        servers.truncate(MAX_SERVERS);
        // Their addresses are looked up at the servers that have answered so far, which hold this zone.
        let found = join_all(servers.iter().map(|server| self.addresses(&server.host, 1))).await;
        let mut missing = Vec::new();
        for (nth, (server, found)) in servers.iter_mut().zip(found).enumerate() {
            match found {
                Ok(found) => add(&mut server.addresses, found),
                // A server left out could be the stale one.
                Err(error) if server.addresses.is_empty() => return Err(error),
                // The glue stands.
                Err(_) => {}
            }
            if server.addresses.is_empty() {
                missing.push((nth, server.host.clone()));
            }
        }
        // Once more: one that is missing for a moment could be the stale one. What stays without is told of.
        let again = missing.iter().map(|(_, host)| self.addresses(host, 1));
        let again = join_all(again).await;
        for ((nth, _), found) in missing.iter().zip(again) {
            add(&mut servers[*nth].addresses, found.unwrap_or_default());
        }
        if servers.iter().all(|server| server.addresses.is_empty()) {
            let hosts: Vec<_> = servers.iter().map(|server| plain(&server.host)).collect();
            let message = format!(
                "no name server of the zone {} has an address: {}",
                plain(zone),
                hosts.join(", ")
            );
            return Err(DnsError::new(DnsErrorKind::Lame, message));
        }
        let server = |server: NameServer| Server {
            host: plain(&server.host),
            addresses: server.addresses,
        };
        Ok(servers.into_iter().map(server).collect())
    }

    /// The A and AAAA records of a name server. No CNAME is followed: NS must not point at one (RFC 2181 section 10.3).
    async fn addresses(&self, host: &Name, depth: usize) -> Result<Vec<IpAddr>, DnsError> {
        // Configured roots have no name.
        if host.is_root() {
            return Ok(Vec::new());
        }
        let (a, aaaa) = tokio::join!(
            self.find(host, RecordType::A, depth),
            self.find(host, RecordType::AAAA, depth),
        );
        let mut addresses = Vec::new();
        let mut failure = None;
        for found in [a, aaaa] {
            match found {
                Ok(Found::Answer(message, _)) => {
                    add(&mut addresses, addresses_in(&message.answers, host));
                }
                Ok(Found::Alias(_)) => {}
                Err(error) if error.kind == DnsErrorKind::TooMuch => failure = Some(error),
                Err(error) => trace!(%host, %error, "a name server's address was not found"),
            }
        }
        match failure {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(addresses),
        }
    }

    fn closest_cut(&self, name: &Name) -> Cut {
        let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut above = LowerName::new(name);
        loop {
            if let Some(cut) = cuts.get(&above) {
                return cut.clone();
            }
            if above.is_root() {
                return self.top();
            }
            above = above.base_name();
        }
    }

    fn top(&self) -> Cut {
        let server = |address: &IpAddr| NameServer {
            host: Name::root(),
            addresses: vec![*address],
        };
        Cut {
            zone: Name::root(),
            servers: self.roots.iter().map(server).collect(),
        }
    }

    fn remember(&self, cut: &Cut) {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.insert(LowerName::new(&cut.zone), cut.clone());
    }

    /// The next question of this walk begins with the server that answered this one.
    fn prefer(&self, cut: &mut Cut, address: IpAddr) {
        let answered = |server: &NameServer| server.addresses.contains(&address);
        if cut.servers.first().is_some_and(answered) {
            return;
        }
        if let Some(index) = cut.servers.iter().position(answered) {
            cut.servers[..=index].rotate_right(1);
            self.remember(cut);
        }
    }

    fn spend(&self, name: &Name) -> Result<(), DnsError> {
        if self.questions.fetch_add(1, Ordering::Relaxed) < MAX_QUESTIONS {
            return Ok(());
        }
        let message = format!(
            "{MAX_QUESTIONS} questions were not enough to find the name servers of {}",
            plain(name)
        );
        Err(DnsError::new(DnsErrorKind::TooMuch, message))
    }

    fn useless(&self, cut: &Cut, name: &Name, failures: &[(String, Useless)]) -> DnsError {
        let said = |(place, why): &(String, Useless)| match why {
            Useless::Silent(why) | Useless::Lame(why) => format!("{place}: {why}"),
        };
        let mut list: Vec<String> = failures.iter().take(SHOWN).map(said).collect();
        if failures.len() > SHOWN {
            list.push(format!("and {} more", failures.len() - SHOWN));
        }
        let list = list.join("; ");
        let all_silent = failures
            .iter()
            .all(|(_, why)| matches!(why, Useless::Silent(_)));
        let (name, zone) = (plain(name), plain(&cut.zone));
        match (cut.zone.is_root(), all_silent) {
            (true, true) => DnsError::new(
                DnsErrorKind::Blocked,
                format!(
                    "no root server answers on port {}: outgoing DNS seems to be blocked here ({list})",
                    self.exchange.port()
                ),
            )
            .hint("allow outgoing DNS by UDP and TCP, or set `dns: {look: resolvers, resolvers: [ADDRESS]}`"),
            (true, false) => DnsError::new(
                DnsErrorKind::Blocked,
                format!("no root server knows the way to {name} ({list})"),
            )
            .hint("look at `roots` and `port` under `dns`; if those are right, this network sends DNS questions elsewhere, so set `dns: {look: resolvers, resolvers: [ADDRESS]}`"),
            (false, true) => DnsError::new(
                DnsErrorKind::Unreachable,
                format!("no name server of {zone} answers for {name} ({list})"),
            ),
            (false, false) => DnsError::new(
                DnsErrorKind::Lame,
                format!("{zone} is delegated to name servers that do not serve it ({list})"),
            )
            .hint("set the zone up at these servers, or correct the NS records at the parent"),
        }
    }
}

/// `name` for the wire.
pub(super) fn wire(name: &DnsName) -> Result<Name, NameError> {
    Name::from_ascii(format!("{name}.")).map_err(|_| NameError::TooLong(name.as_str().len()))
}

fn wire_or_error(name: &DnsName) -> Result<Name, DnsError> {
    wire(name).map_err(|error| DnsError::new(DnsErrorKind::Alias, format!("{name}: {error}")))
}

fn unusable_zone(owner: &DnsName, zone: &Name) -> DnsError {
    let message = format!(
        "{owner} lies in the zone `{}`, which cannot be used",
        plain(zone)
    );
    DnsError::new(DnsErrorKind::Lame, message)
}
