//! Checks of `ovh`.

use countersign_providers::ovh::{Region, Settings};

use crate::config::checked::optional;
use crate::config::problems::Path;
use crate::config::raw;
use crate::config::scalars::Checker;

/// The parts of the company.
const REGIONS: [(&str, Region); 3] = [("eu", Region::Eu), ("ca", Region::Ca), ("us", Region::Us)];
/// Where the keys come from.
const KEYS: &str = "make the keys at https://www.ovh.com/auth/api/createToken; write application-key: KEY, and \
    application-secret: {file: /path} and consumer-key: {file: /path}";
/// More than any key has.
const MAX_KEY: usize = 64;

impl Checker {
    pub(super) fn ovh(&mut self, at: &Path<'_>, settings: &raw::Ovh) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::Ovh>(at, &settings.unknown);
        let required = [
            ("application-key", settings.application_key.is_some(), KEYS),
            (
                "application-secret",
                settings.application_secret.is_some(),
                KEYS,
            ),
            ("consumer-key", settings.consumer_key.is_some(), KEYS),
        ];
        self.problems.required(at, &required);
        let key = settings.application_key.as_ref();
        let key = key.and_then(|it| self.application_key(&at.key("application-key"), it));
        let secret = settings.application_secret.as_ref();
        let secret = secret.and_then(|it| self.secret(&at.key("application-secret"), it));
        let consumer = settings.consumer_key.as_ref();
        let consumer = consumer.and_then(|it| self.secret(&at.key("consumer-key"), it));
        let region = settings.region.as_deref().unwrap_or("eu");
        let region = self.word(&at.key("region"), region, &REGIONS);
        let zones = settings.zones.as_ref();
        let zones = zones.map(|it| self.each(&at.key("zones"), it, "zone", Self::host));
        let endpoint = settings.endpoint.as_deref();
        let endpoint = endpoint.unwrap_or_else(|| region.unwrap_or_default().endpoint());
        let endpoint = self.endpoint(&at.key("endpoint"), endpoint);
        Some(Settings {
            application_key: key?,
            application_secret: secret?,
            consumer_key: consumer?,
            zones: optional(zones)?.unwrap_or_default(),
            endpoint: region.and(endpoint)?,
        })
    }

    fn application_key(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let is_key =
            (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_key {
            // It may be the secret.
            let message =
                format!("this is not an application key: 1 to {MAX_KEY} letters and digits");
            self.problems.value(at, message, KEYS);
        }
        is_key.then(|| text.to_owned())
    }
}
