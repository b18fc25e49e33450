//! Whom of those who hold a zone the delegation means. Pure.

use std::collections::BTreeMap;

use countersign_providers::Held;
use countersign_providers::record::{DnsName, Zone};
use countersign_providers::several::Several;

use super::{Answer, Nobody};
use crate::dns::{Server, Walk};
use crate::engine::reaction::{Failure, Whose};
use crate::ledger::joint_name;
use crate::run::BUILT_IN;

/// Whether there is more than one zone to choose from.
pub(super) fn has_choice(named: &[String], walk: &Walk, answers: &[(&str, Answer)]) -> bool {
    let fitting = answers.iter().map(|(_, answer)| {
        let held = answer.iter().flatten();
        held.filter(|it| fits(it, walk) && !it.is_claim).count()
    });
    let fitting: Vec<usize> = fitting.filter(|many| *many > 0).collect();
    fitting.iter().any(|many| *many > 1) || (named.is_empty() && fitting.len() > 1)
}

/// Whether it is the zone that the walk led to, or the name itself.
pub(super) fn fits(held: &Held, walk: &Walk) -> bool {
    held.zone.name == walk.zone || held.zone.name == walk.owner
}

/// Whom of those that gave `answers`.
pub(super) fn choose(
    named: &[String],
    walk: &Walk,
    answers: Vec<(&str, Answer)>,
) -> Result<(String, Zone), Nobody> {
    let (mut holders, mut near, mut trouble) = (BTreeMap::new(), None, None);
    for (name, answer) in answers {
        match answer {
            Ok(held) => {
                near = near.or_else(|| Some((name, held.first()?.zone.name.clone())));
                let held = held.into_iter().filter(|it| fits(it, walk));
                let held: Vec<Held> = held.collect();
                if let Some(held) = one_of(name, held, walk).map_err(Nobody::For)? {
                    holders.insert(name, held);
                }
            }
            Err(error) => trouble = Some((name, error)),
        }
    }
    if let Some(own) = holders.remove(BUILT_IN) {
        return Ok((BUILT_IN.to_owned(), own.zone));
    }
    let missing = named
        .iter()
        .find(|name| !holders.contains_key(name.as_str()));
    let is_enough = !holders.is_empty() && missing.is_none();
    match trouble {
        Some((name, error)) if !is_enough => return Err(Nobody::Trouble(name.to_owned(), error)),
        _ => {}
    }
    if holders.is_empty() {
        return Err(Nobody::For(nobody(walk, near)));
    }
    if let Some(missing) = missing {
        let sentence = format!(
            "provider {missing} does not hold the zone {} of {}; take it out of `provider`, or make the zone there",
            walk.zone, walk.owner
        );
        return Err(Nobody::For(Failure::new(Whose::You, sentence)));
    }
    let all = match named.is_empty() && holders.len() > 1 {
        true => meant(holders, walk).map_err(Nobody::For)?,
        false => holders,
    };
    Ok(together(walk, all))
}

/// Of zones of one name at one provider the one that the delegation names.
fn one_of(provider: &str, mut held: Vec<Held>, walk: &Walk) -> Result<Option<Held>, Failure> {
    if held.len() > 1 {
        let ids: Vec<String> = held.iter().map(|it| it.zone.id.clone()).collect();
        held.retain(|it| is_delegated(it, walk));
        if held.len() != 1 {
            let names = match held.is_empty() {
                true => "none",
                false => "more than one",
            };
            let sentence = format!(
                "provider {provider} holds {} zones with the name {}, {}, and the delegation names {names} of them; say which with `zones: {{{}: ID}}`, and delete the others if nobody needs them",
                ids.len(),
                walk.zone,
                ids.join(", "),
                walk.zone
            );
            return Err(Failure::new(Whose::You, sentence));
        }
    }
    Ok(held.pop())
}

/// Of several providers those that the delegation names, and those that do not say which servers they have where it names
/// others beside.
fn meant<'p>(
    mut holders: BTreeMap<&'p str, Held>,
    walk: &Walk,
) -> Result<BTreeMap<&'p str, Held>, Failure> {
    let all: Vec<&str> = holders.keys().copied().collect();
    if holders.values().any(|held| !held.is_claim) {
        holders.retain(|_, held| !held.is_claim);
    }
    if holders.values().any(|held| is_delegated(held, walk)) {
        let is_told = |server: &Server| holders.values().any(|held| has(held, server));
        let is_all_told = walk.servers.iter().all(is_told);
        holders.retain(|_, held| {
            is_delegated(held, walk) || (!is_all_told && held.nameservers.is_empty())
        });
        return Ok(holders);
    }
    if holders.len() > 1 {
        holders.retain(|_, held| held.nameservers.is_empty());
    }
    if holders.len() == 1 {
        return Ok(holders);
    }
    let sentence = format!(
        "the providers {} all hold the zone {}, and nothing tells which of them serves it; name it with `provider:`, or all of them in a list",
        all.join(", "),
        walk.zone
    );
    Err(Failure::new(Whose::You, sentence))
}

/// Whether the delegation names a server of this zone.
fn is_delegated(held: &Held, walk: &Walk) -> bool {
    walk.servers.iter().any(|server| has(held, server))
}

fn has(held: &Held, server: &Server) -> bool {
    let is_it = |host: &DnsName| server.host.eq_ignore_ascii_case(host.as_str());
    held.nameservers.iter().any(is_it)
}

fn together(walk: &Walk, all: BTreeMap<&str, Held>) -> (String, Zone) {
    let name = joint_name(all.keys().copied());
    let mut zones: Vec<Zone> = all.into_values().map(|held| held.zone).collect();
    let zone = match (zones.len(), zones.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            zones.extend(last);
            Several::zone(&walk.zone, &zones)
        }
    };
    (name, zone)
}

fn nobody(walk: &Walk, near: Option<(&str, DnsName)>) -> Failure {
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
    let near = match near {
        None => String::new(),
        Some((provider, zone)) => {
            format!("; provider {provider} holds {zone}, which is not the zone that is asked")
        }
    };
    let sentence = format!(
        "no provider holds the zone {} of {}{leads}{near}; configure the one that does, or delegate {} by CNAME to a zone that one holds",
        walk.zone, walk.owner, walk.asked
    );
    Failure::new(Whose::You, sentence)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use countersign_providers::{ErrorKind, ProviderError};

    use super::*;

    pub(in crate::run::holders) fn dns_name(text: &str) -> DnsName {
        DnsName::parse(text).unwrap()
    }

    /// A walk that ended in example.test at these servers.
    pub(in crate::run::holders) fn walk(servers: &[&str]) -> Walk {
        let owner = dns_name("_acme-challenge.example.test");
        let server = |host: &&str| Server {
            host: (*host).to_owned(),
            addresses: Vec::new(),
        };
        Walk {
            asked: owner.clone(),
            owner,
            zone: dns_name("example.test"),
            servers: servers.iter().map(server).collect(),
            chain: Vec::new(),
            by_resolvers: false,
            remembered: Duration::ZERO,
        }
    }

    pub(in crate::run::holders) fn held(id: &str, servers: &[&str]) -> Held {
        Held {
            zone: Zone {
                name: dns_name("example.test"),
                id: id.to_owned(),
            },
            nameservers: servers.iter().map(|it| dns_name(it)).collect(),
            is_claim: false,
        }
    }

    /// The one that is chosen, as `provider: zone`, or what a person is told.
    fn chosen(
        named: &[&str],
        servers: &[&str],
        answers: Vec<(&str, Answer)>,
    ) -> Result<String, String> {
        let named: Vec<String> = named.iter().map(|it| (*it).to_owned()).collect();
        match choose(&named, &walk(servers), answers) {
            Ok((provider, zone)) => Ok(format!("{provider}: {}", zone.id)),
            Err(Nobody::For(failure)) => Err(failure.sentence),
            Err(Nobody::Trouble(name, error)) => Err(format!("{name}: {error}")),
        }
    }

    fn failed() -> Answer {
        Err(ProviderError::new(ErrorKind::Auth, "the token is unknown"))
    }

    #[test]
    fn the_only_holder_is_taken_wherever_the_delegation_leads() {
        for servers in [&["ns1.a.test"][..], &["ns1.vanity.test"]] {
            let answers = vec![
                ("a", Ok(vec![held("Z1", &["ns1.a.test"])])),
                ("b", Ok(Vec::new())),
                ("c", failed()),
            ];
            assert_eq!(chosen(&[], servers, answers), Ok("a: Z1".to_owned()));
        }
    }

    #[test]
    fn of_several_holders_those_that_the_delegation_names_are_written_to() {
        let answers = || {
            vec![
                ("a", Ok(vec![held("Z1", &["ns1.a.test"])])),
                ("b", Ok(vec![held("7", &["NS1.b.test", "ns2.b.test"])])),
                ("c", Ok(vec![held("internal", &[])])),
            ]
        };
        let one = chosen(&[], &["ns2.b.test"], answers());
        assert_eq!(one, Ok("b: 7".to_owned()));
        let both = chosen(&[], &["ns1.a.test", "ns2.b.test"], answers());
        assert_eq!(both, Ok(r#"a b: ["Z1","7"]"#.to_owned()));
        let beside = chosen(&[], &["ns1.a.test", "ns1.elsewhere.test"], answers());
        assert_eq!(beside, Ok(r#"a c: ["Z1","internal"]"#.to_owned()));
        let hidden = chosen(&[], &["ns1.vanity.test"], answers());
        assert_eq!(hidden, Ok("c: internal".to_owned()));
    }

    #[test]
    fn who_only_claims_every_zone_comes_last() {
        let claim = || {
            Ok(vec![Held {
                is_claim: true,
                ..held("any", &[])
            }])
        };
        let both = vec![("a", claim()), ("b", Ok(vec![held("2", &[])]))];
        assert_eq!(chosen(&[], &["ns1.test"], both), Ok("b: 2".to_owned()));
        let alone = vec![("a", claim())];
        assert_eq!(chosen(&[], &["ns1.test"], alone), Ok("a: any".to_owned()));
    }

    #[test]
    fn several_holders_that_nothing_tells_apart_are_refused() {
        let answers = vec![
            ("a", Ok(vec![held("1", &[])])),
            ("b", Ok(vec![held("2", &[])])),
        ];
        assert_eq!(
            chosen(&[], &["ns1.test"], answers),
            Err("the providers a, b all hold the zone example.test, and nothing tells which of them serves it; name it with `provider:`, or all of them in a list".to_owned())
        );
    }

    #[test]
    fn of_zones_with_one_name_the_delegated_one_is_taken_or_none() {
        let answers = || {
            let two = vec![held("Z1", &["ns1.a.test"]), held("Z2", &["ns2.a.test"])];
            vec![("aws", Ok(two))]
        };
        assert_eq!(
            chosen(&[], &["ns2.a.test"], answers()),
            Ok("aws: Z2".to_owned())
        );
        assert_eq!(
            chosen(&[], &["ns3.a.test"], answers()),
            Err("provider aws holds 2 zones with the name example.test, Z1, Z2, and the delegation names none of them; say which with `zones: {example.test: ID}`, and delete the others if nobody needs them".to_owned())
        );
    }

    #[test]
    fn all_that_the_configuration_names_must_hold_it() {
        let answers = |second: Answer| {
            let first = Ok(vec![held("1", &["ns1.a.test"])]);
            vec![("a", first), ("b", second)]
        };
        let named = ["b", "a"];
        assert_eq!(
            chosen(
                &named,
                &["ns1.a.test"],
                answers(Ok(vec![held("2", &["x.test"])]))
            ),
            Ok(r#"a b: ["1","2"]"#.to_owned())
        );
        assert_eq!(
            chosen(&named, &["ns1.a.test"], answers(Ok(Vec::new()))),
            Err("provider b does not hold the zone example.test of _acme-challenge.example.test; take it out of `provider`, or make the zone there".to_owned())
        );
        assert_eq!(
            chosen(&named, &["ns1.a.test"], answers(failed())),
            Err("b: the token is unknown".to_owned())
        );
    }

    #[test]
    fn what_is_delegated_to_the_built_in_nameserver_goes_there() {
        let answers = vec![
            (BUILT_IN, Ok(vec![held("own", &[])])),
            ("a", Ok(vec![held("1", &["ns1.test"])])),
        ];
        let own = chosen(&["a"], &["ns1.test"], answers);
        assert_eq!(own, Ok(format!("{BUILT_IN}: own")));
    }
}
