//! A zone as its nameservers give it.

use std::io::{Error, Result};
use std::net::SocketAddr;

use serde_json::Value;
use url::form_urlencoded;

use super::{BASE, Cloudflare, Token};
use crate::support::bridge::{self, Bridge, Here, Zone, plain};

/// What the API calls automatic.
const AUTOMATIC: u32 = 300;

/// A DNS server before the API.
pub fn bridge(cloudflare: &Cloudflare) -> Bridge {
    Bridge::start(Api {
        at: cloudflare.addr(),
        head: format!("Authorization: Bearer {}\r\n", Token::observer().secret),
    })
}

struct Api {
    at: SocketAddr,
    head: String,
}

impl bridge::Api for Api {
    fn zones(&self) -> Result<Vec<Zone>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = self.get("/zones?per_page=50")?;
        let zone = |zone: &Value| Zone {
            id: text(&zone["id"]),
            apex: text(&zone["name"]),
            servers: (zone["name_servers"].as_array().into_iter().flatten())
                .map(text)
                .collect(),
        };
        Ok(all.iter().map(zone).collect())
    }

    fn look(&self, zone: &Zone, name: &str) -> Result<Here> {
        let here = self.records(&zone.id, "name.exact", name)?;
        let alias = here.iter().find(|it| it["type"] == "CNAME");
        let (values, ttl) = txt(&here, name);
        let exists = !here.is_empty()
            || !(self.records(&zone.id, "name.endswith", &format!(".{name}"))?).is_empty();
        Ok(Here {
            alias: alias.map(|it| it["content"].as_str().unwrap_or_default().to_owned()),
            values,
            ttl: ttl.unwrap_or_default(),
            exists,
        })
    }
}

impl Api {
    fn records(&self, zone: &str, filter: &str, name: &str) -> Result<Vec<Value>> {
        let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        self.get(&format!(
            "/zones/{zone}/dns_records?per_page=5000&{filter}={name}"
        ))
    }

    /// What the API lists at `path`.
    fn get(&self, path: &str) -> Result<Vec<Value>> {
        let body = bridge::get(self.at, &format!("{BASE}{path}"), &self.head)?;
        let mut whole: Value = serde_json::from_str(&body)?;
        match whole["result"].take() {
            Value::Array(all) => Ok(all),
            _ => Err(Error::other(body)),
        }
    }
}

/// The values and the TTL of the TXT RRset at `name`; servers give all records of one RRset the least TTL.
pub(super) fn txt(records: &[Value], name: &str) -> (Vec<String>, Option<u32>) {
    let here = |record: &&Value| record["type"] == "TXT" && record["name"] == name;
    let here: Vec<&Value> = records.iter().filter(here).collect();
    let ttl = |record: &&Value| match record["ttl"].as_u64().unwrap_or_default() as u32 {
        1 => AUTOMATIC,
        ttl => ttl,
    };
    let content = |record: &&Value| plain(record["content"].as_str().unwrap_or_default());
    (
        here.iter().map(content).collect(),
        here.iter().map(ttl).min(),
    )
}
