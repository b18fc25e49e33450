//! Checks of `rfc2136`.

use countersign_providers::record::DnsName;
use countersign_providers::rfc2136::{Algorithm, Settings, Tsig};

use crate::config::checked::optional;
use crate::config::problems::Path;
use crate::config::raw;
use crate::config::scalars::Checker;

/// The algorithms of TSIG keys.
const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("hmac-sha256", Algorithm::HmacSha256),
    ("hmac-sha384", Algorithm::HmacSha384),
    ("hmac-sha512", Algorithm::HmacSha512),
];
/// The two forms of a key.
const TSIG_FORMS: &str = "write tsig: {keyfile: /path}, or tsig: {name: …, algorithm: hmac-sha256, secret: {file: /path}}";

impl Checker {
    pub(super) fn rfc2136(&mut self, at: &Path<'_>, settings: &raw::Rfc2136) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::Rfc2136>(at, &settings.unknown);
        if settings.server.is_none() {
            self.problems.missing(
                at,
                "server",
                "write the server that takes updates, e.g. server: \"192.0.2.53:53\"",
            );
        }
        let server = (settings.server.as_ref()).and_then(|it| self.server(&at.key("server"), it));
        let tsig = (settings.tsig.as_ref()).map(|it| self.tsig(&at.key("tsig"), it));
        let zone = (settings.zone.as_ref()).map(|it| self.host(&at.key("zone"), it));
        Some(Settings {
            server: server?,
            tsig: optional(tsig)?,
            zone: optional(zone)?,
        })
    }

    fn tsig(&mut self, at: &Path<'_>, tsig: &raw::Tsig) -> Option<Tsig> {
        self.problems.unknown_keys::<raw::Tsig>(at, &tsig.unknown);
        let parts = tsig.name.is_some() || tsig.algorithm.is_some() || tsig.secret.is_some();
        match (&tsig.keyfile, parts) {
            (Some(file), false) => self.path(&at.key("keyfile"), file).map(Tsig::KeyFile),
            (None, true) => self.tsig_parts(at, tsig),
            (Some(_), true) => {
                self.problems.key(
                    at,
                    "a key comes from a keyfile or from its parts, and not from both",
                    TSIG_FORMS,
                );
                None
            }
            (None, false) => {
                if tsig.unknown.0.is_empty() {
                    self.problems.key(
                        at,
                        "the key is missing: a keyfile, or its parts",
                        TSIG_FORMS,
                    );
                }
                None
            }
        }
    }

    fn tsig_parts(&mut self, at: &Path<'_>, tsig: &raw::Tsig) -> Option<Tsig> {
        for (key, given) in [
            ("name", tsig.name.is_some()),
            ("algorithm", tsig.algorithm.is_some()),
            ("secret", tsig.secret.is_some()),
        ] {
            if !given {
                self.problems.missing(at, key, TSIG_FORMS);
            }
        }
        let name = (tsig.name.as_ref()).and_then(|it| self.key_name(&at.key("name"), it));
        let algorithm =
            (tsig.algorithm.as_ref()).and_then(|it| self.algorithm(&at.key("algorithm"), it));
        let secret = (tsig.secret.as_ref()).and_then(|it| self.secret(&at.key("secret"), it));
        Some(Tsig::Parts {
            name: name?,
            algorithm: algorithm?,
            secret: secret?,
        })
    }

    fn key_name(&mut self, at: &Path<'_>, text: &str) -> Option<DnsName> {
        let name = DnsName::parse(text);
        if let Err(error) = &name {
            self.problems.value(
                at,
                format!("`{text}` is not the name of a key: {error}"),
                "write the name exactly as the server has it",
            );
        }
        name.ok()
    }

    fn algorithm(&mut self, at: &Path<'_>, text: &str) -> Option<Algorithm> {
        self.word(at, &text.to_ascii_lowercase(), &ALGORITHMS)
    }
}
