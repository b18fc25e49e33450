//! The DNS hosts of a campaign: each has a foreign value at every challenge name, and can be looked at by DNS.

use std::net::SocketAddr;

use super::draw::NAMES;
use crate::issuance;
use crate::support::bridge::Bridge;
use crate::support::cloudflare::{self, Cloudflare, Token};
use crate::support::command::Countersign;
use crate::support::route53::{self, Fake, store};

const ZONE: &str = "example.test";
/// Of the foreign values.
pub(super) const TTL: u32 = 120;

/// The TXT records of one zone at one host.
pub(super) enum Host {
    Bind(issuance::Host),
    Cloudflare { api: Cloudflare, dns: Bridge },
    Route53 { api: Fake, dns: Bridge },
}

impl Host {
    pub(super) fn bind() -> Self {
        let records: String = (challenges())
            .map(|name| format!("{name}. {TTL} TXT foreign\n"))
            .collect();
        let policy = "grant acme wildcard *.example.test TXT;";
        Self::Bind(issuance::Host::start(&records, policy))
    }

    pub(super) fn cloudflare() -> Self {
        let mut state = cloudflare::State::new(Token::usual()).zone(ZONE, "acme");
        state.left = u64::MAX;
        let id = state.zone_id(ZONE);
        state.zone_mut(&id).quota = 4 * NAMES;
        for name in challenges() {
            state.add(&id, "TXT", &name, "\"foreign\"", TTL);
        }
        let api = Cloudflare::start(state);
        let dns = cloudflare::dns::bridge(&api);
        Self::Cloudflare { api, dns }
    }

    pub(super) fn route53() -> Self {
        let mut zone = store::Zone::new("Z1EXAMPLE", ZONE);
        for name in challenges() {
            zone.put(store::Set::txt(&name, TTL, &["\"foreign\""]));
        }
        let api = Fake::start(vec![zone]);
        api.state().pending = 1;
        let dns = route53::dns::bridge(api.addr());
        Self::Route53 { api, dns }
    }

    /// Where the DNS is asked.
    pub(super) fn dns(&self) -> SocketAddr {
        match self {
            Self::Bind(host) => host.addr(),
            Self::Cloudflare { dns, .. } | Self::Route53 { dns, .. } => dns.addr(),
        }
    }

    /// Where records are changed.
    pub(super) fn api(&self) -> SocketAddr {
        match self {
            Self::Bind(host) => host.addr(),
            Self::Cloudflare { api, .. } => api.addr(),
            Self::Route53 { api, .. } => api.addr(),
        }
    }

    /// The provider of a configuration that changes them through `relay`.
    pub(super) fn provider(&self, relay: SocketAddr) -> String {
        match self {
            Self::Bind(host) => format!(
                "rfc2136: {{server: \"{relay}\", tsig: {{name: {}, algorithm: {}, secret: {{file: \"{{dir}}/secret\"}}}}}}",
                host.key.name, host.key.algorithm
            ),
            Self::Cloudflare { api, .. } => {
                let url = api
                    .url()
                    .replace(&api.addr().to_string(), &relay.to_string());
                format!("cloudflare: {{endpoint: \"{url}\", token: {{file: \"{{dir}}/secret\"}}}}")
            }
            Self::Route53 { .. } => format!(
                "route53: {{endpoint: \"http://{relay}\", access-key-id: {}, secret-access-key: {{file: \"{{dir}}/secret\"}}}}",
                route53::KEY
            ),
        }
    }

    /// Writes what that provider shows the host.
    pub(super) fn write_secret(&self, program: &Countersign) {
        let secret = match self {
            Self::Bind(host) => host.key.secret.clone(),
            Self::Cloudflare { .. } => Token::usual().secret,
            Self::Route53 { .. } => route53::SECRET.to_owned(),
        };
        std::fs::write(program.path("secret"), secret).unwrap();
    }
}

fn challenges() -> impl Iterator<Item = String> {
    (0..NAMES).map(|n| format!("_acme-challenge.h{n}.{ZONE}"))
}
