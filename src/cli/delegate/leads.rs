//! Where the challenge names lead today: what is a CNAME already is written at its target.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_providers::clock::Clock;
use countersign_providers::record::DnsName;
use futures_util::future::join_all;

use super::Subject;
use super::records::challenge;
use crate::cli::words::clean;
use crate::daemon::looks;

/// The DNS has this long: without an answer the names themselves are said.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where each challenge name leads, as far as could be found.
#[derive(Default)]
pub(super) struct Leads {
    ends: BTreeMap<DnsName, End>,
    /// Why not everything could be found.
    pub(super) trouble: Option<String>,
}

/// Where one challenge name leads.
pub(super) struct End {
    /// The name at which its values are written: the target of its CNAME, if it is one.
    pub(super) owner: DnsName,
    /// The zone of that.
    pub(super) zone: DnsName,
}

impl Leads {
    /// Asks the DNS, unless `--to` says where the names are to lead.
    pub(super) async fn find(subject: &Subject<'_>, clock: &Clock) -> Self {
        let authorities = subject.authorities();
        let (None, Some(authority)) = (&subject.to, authorities.first()) else {
            return Self::default();
        };
        let dns = looks(subject.config, authority, clock);
        let look = async |name: DnsName| {
            let found = clock.timeout(PATIENCE, dns.locate(&name)).await;
            let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
            let found = found.map(|it| it.map_err(|error| clean(&error.message)));
            (name, found.unwrap_or_else(late))
        };
        let names = subject.bases().into_iter().filter_map(challenge);
        let mut leads = Self::default();
        for (name, found) in join_all(names.map(look)).await {
            match found {
                Ok(walk) => {
                    let (owner, zone) = (walk.owner, walk.zone);
                    leads.ends.insert(name, End { owner, zone });
                }
                Err(why) => {
                    leads.trouble.get_or_insert(why);
                }
            }
        }
        leads
    }

    /// Where the challenge `name` leads, if that could be found.
    pub(super) fn end(&self, name: &DnsName) -> Option<&End> {
        self.ends.get(name)
    }
}
