//! Checks of `googlecloud`.

use countersign_providers::googlecloud::{ENDPOINT, METADATA, Settings};
use url::Url;

use crate::config::checked::optional;
use crate::config::problems::Path;
use crate::config::raw;
use crate::config::scalars::Checker;

/// The longest name of a managed zone (API reference, "ManagedZone").
const MAX_ZONE: usize = 63;

impl Checker {
    pub(super) fn googlecloud(
        &mut self,
        at: &Path<'_>,
        settings: &raw::GoogleCloud,
    ) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::GoogleCloud>(at, &settings.unknown);
        let credentials = settings.credentials.as_ref();
        let credentials = credentials.map(|it| self.secret(&at.key("credentials"), it));
        let project = settings.project.as_ref();
        let project = project.map(|it| self.project(&at.key("project"), it));
        let zones = settings.zones.as_ref();
        let zones = zones.map(|it| self.zone_ids(&at.key("zones"), it, Self::managed_zone));
        let endpoint = settings.endpoint.as_deref().unwrap_or(ENDPOINT);
        let endpoint = self.endpoint(&at.key("endpoint"), endpoint);
        let metadata = match &settings.metadata_endpoint {
            Some(given) => self.endpoint(&at.key("metadata-endpoint"), given),
            None => Url::parse(METADATA).ok(),
        };
        Some(Settings {
            credentials: optional(credentials)?,
            project: optional(project)?,
            zones: optional(zones)?.unwrap_or_default(),
            endpoint: endpoint?,
            metadata: metadata?,
        })
    }

    /// An id of a project; old ones belong to a domain, e.g. `example.com:dns`.
    fn project(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let is_id = !text.is_empty()
            && (text.bytes())
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b))
            && text.bytes().any(|b| b != b'.');
        if !is_id {
            self.problems.value(
                at,
                format!("`{text}` is not the id of a project"),
                "copy the id from the project's page in the console; it is not the project's name",
            );
        }
        is_id.then(|| text.to_owned())
    }

    fn managed_zone(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let is_name = (1..=MAX_ZONE).contains(&text.len())
            && (text.bytes()).all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_name {
            self.problems.value(
                at,
                format!("`{text}` is not the name of a managed zone"),
                "write what `gcloud dns managed-zones list` has under NAME",
            );
        }
        is_name.then(|| text.to_owned())
    }
}
