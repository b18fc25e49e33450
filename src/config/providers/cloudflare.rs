//! Checks of `cloudflare`.

use countersign_providers::cloudflare::{ENDPOINT, Settings};

use crate::config::checked::optional;
use crate::config::problems::Path;
use crate::config::raw;
use crate::config::scalars::Checker;

/// How many characters the id of a zone has.
const ZONE_ID: usize = 32;

impl Checker {
    pub(super) fn cloudflare(
        &mut self,
        at: &Path<'_>,
        settings: &raw::Cloudflare,
    ) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::Cloudflare>(at, &settings.unknown);
        if settings.token.is_none() {
            self.problems.missing(
                at,
                "token",
                "write where the API token is, e.g. token: {file: /etc/countersign/cloudflare.token}",
            );
        }
        let token = (settings.token.as_ref()).and_then(|it| self.secret(&at.key("token"), it));
        let zones =
            (settings.zones.as_ref()).map(|it| self.zone_ids(&at.key("zones"), it, Self::zone_id));
        let endpoint = settings.endpoint.as_deref().unwrap_or(ENDPOINT);
        let endpoint = self.endpoint(&at.key("endpoint"), endpoint);
        Some(Settings {
            token: token?,
            zones: optional(zones)?.unwrap_or_default(),
            endpoint: endpoint?,
            owner: None,
        })
    }

    fn zone_id(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let is_id = text.len() == ZONE_ID && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_id {
            self.problems.value(
                at,
                format!(
                    "`{text}` is not the id of a zone: {ZONE_ID} digits and letters from a to f"
                ),
                "copy it from the zone's overview page, and write it in quotes",
            );
        }
        is_id.then(|| text.to_ascii_lowercase())
    }
}
