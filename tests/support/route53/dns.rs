//! A zone as Amazon's nameservers give it; also of an API that somebody else plays.

use std::io::Result;
use std::net::SocketAddr;

use super::KEY;
use super::documents::{element, elements};
use super::store::dotted;
use crate::support::bridge::{self, Bridge, Here, Zone, plain};

/// A DNS server before the API at this address, which must let an observer look without a signature.
pub fn bridge(at: SocketAddr) -> Bridge {
    Bridge::start(Api(at))
}

struct Api(SocketAddr);

impl bridge::Api for Api {
    fn zones(&self) -> Result<Vec<Zone>> {
        let listed = self.get("/2013-04-01/hostedzone")?;
        let mut zones = Vec::new();
        for zone in elements(&listed, "HostedZone") {
            if element(zone, "PrivateZone").as_deref() == Some("true") {
                continue;
            }
            let id = element(zone, "Id").unwrap_or_default();
            let id = id.trim_start_matches("/hostedzone/").to_owned();
            let whole = self.get(&format!("/2013-04-01/hostedzone/{id}"))?;
            zones.push(Zone {
                apex: undotted(&element(zone, "Name").unwrap_or_default()),
                servers: (elements(&whole, "NameServer").iter())
                    .map(|it| undotted(it))
                    .collect(),
                id,
            });
        }
        Ok(zones)
    }

    /// Names are listed by their reversed labels: what is below a name comes right after it.
    fn look(&self, zone: &Zone, name: &str) -> Result<Here> {
        let path = format!("/2013-04-01/hostedzone/{}/rrset?name={name}.", zone.id);
        let listed = self.get(&format!("{path}&maxitems=10"))?;
        let below = format!(".{name}.");
        let mut here = Here::default();
        for set in elements(&listed, "ResourceRecordSet") {
            let owner = dotted(&element(set, "Name").unwrap_or_default());
            here.exists |= owner.ends_with(&below) || owner == below[1..];
            if owner != below[1..] {
                continue;
            }
            let values: Vec<String> = (elements(set, "ResourceRecord").iter())
                .filter_map(|it| element(it, "Value"))
                .collect();
            let ttl = element(set, "TTL").and_then(|it| it.parse().ok());
            match element(set, "Type").as_deref() {
                Some("CNAME") => here.alias = values.first().cloned(),
                Some("TXT") => {
                    here.values = values.iter().map(|it| plain(it)).collect();
                    here.ttl = ttl.unwrap_or_default();
                }
                _ => {}
            }
        }
        Ok(here)
    }
}

impl Api {
    fn get(&self, path: &str) -> Result<String> {
        // A server that plays many services knows by the scope which is meant.
        let scope = format!("{KEY}/20260101/us-east-1/route53/aws4_request");
        let head = format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none\r\n"
        );
        bridge::get(self.0, path, &head)
    }
}

fn undotted(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}
