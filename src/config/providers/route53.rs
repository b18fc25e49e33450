//! Checks of `route53`.

use countersign_providers::route53::{AssumeRole, DEFAULT_REGION, Settings, Source};

use crate::config::checked::optional;
use crate::config::problems::Path;
use crate::config::raw;
use crate::config::scalars::Checker;

/// The longest id of a hosted zone (API reference, "HostedZone").
const MAX_ZONE_ID: usize = 32;
/// The longest name of a region.
const MAX_REGION: usize = 64;
/// The longest name of a session (API reference of the Security Token Service, "AssumeRole").
const MAX_SESSION: usize = 64;
/// The longest external id there.
const MAX_EXTERNAL_ID: usize = 1_224;
/// The ways to say which credential is meant.
const SOURCES: &str = "write profile: NAME, or access-key-id: ID and secret-access-key: {file: /path}, or none of them for the usual chain";

impl Checker {
    pub(super) fn route53(&mut self, at: &Path<'_>, settings: &raw::Route53) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::Route53>(at, &settings.unknown);
        let source = self.source(at, settings);
        let role = settings.assume_role.as_ref();
        let role = role.map(|it| self.assume_role(&at.key("assume-role"), it));
        let zones = settings.zones.as_ref();
        let zones = zones.map(|it| self.zone_ids(&at.key("zones"), it, Self::hosted_zone));
        let region = settings.region.as_deref().unwrap_or(DEFAULT_REGION);
        let region = self.region(&at.key("region"), region);
        let endpoint = settings.endpoint.as_ref();
        let endpoint = endpoint.map(|it| self.endpoint(&at.key("endpoint"), it));
        let sts_endpoint = settings.sts_endpoint.as_ref();
        let sts_endpoint = sts_endpoint.map(|it| self.endpoint(&at.key("sts-endpoint"), it));
        Some(Settings {
            source: source?,
            assume_role: optional(role)?,
            zones: optional(zones)?.unwrap_or_default(),
            region: region?,
            endpoint: optional(endpoint)?,
            sts_endpoint: optional(sts_endpoint)?,
        })
    }

    fn source(&mut self, at: &Path<'_>, settings: &raw::Route53) -> Option<Source> {
        let profile = settings.profile.as_ref();
        let profile = profile.map(|it| self.text(&at.key("profile"), it));
        let id = settings.access_key_id.as_ref();
        let id = id.map(|it| self.access_key(&at.key("access-key-id"), it));
        let secret = settings.secret_access_key.as_ref();
        let secret = secret.map(|it| self.secret(&at.key("secret-access-key"), it));
        match (profile, id, secret) {
            (None, None, None) => Some(Source::Chain),
            (Some(profile), None, None) => profile.map(Source::Profile),
            (None, Some(id), Some(secret)) => Some(Source::Key {
                id: id?,
                secret: secret?,
            }),
            (None, Some(_), None) => {
                self.problems.missing(at, "secret-access-key", SOURCES);
                None
            }
            (None, None, Some(_)) => {
                self.problems.missing(at, "access-key-id", SOURCES);
                None
            }
            (Some(_), ..) => {
                let message =
                    "a credential comes from a profile or from an access key, and not from both";
                self.problems.key(at, message, SOURCES);
                None
            }
        }
    }

    fn access_key(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let is_id = (16..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_id {
            // It may be the secret.
            self.problems.value(
                at,
                "this is not the id of an access key: 16 to 128 letters and digits",
                "it begins with AKIA; the secret goes to secret-access-key",
            );
        }
        is_id.then(|| text.to_owned())
    }

    fn assume_role(&mut self, at: &Path<'_>, role: &raw::AssumeRole) -> Option<AssumeRole> {
        self.problems
            .unknown_keys::<raw::AssumeRole>(at, &role.unknown);
        let form = "write e.g. arn: \"arn:aws:iam::123456789012:role/dns\"";
        if role.arn.is_none() {
            self.problems.missing(at, "arn", form);
        }
        let arn = (role.arn.as_ref()).and_then(|it| self.arn(&at.key("arn"), it, form));
        let external_id = (role.external_id.as_ref())
            .map(|it| self.identifier(&at.key("external-id"), it, MAX_EXTERNAL_ID, "+=,.@:/-_"));
        let session_name = (role.session_name.as_ref())
            .map(|it| self.identifier(&at.key("session-name"), it, MAX_SESSION, "+=,.@-_"));
        Some(AssumeRole {
            arn: arn?,
            external_id: optional(external_id)?,
            session_name: optional(session_name)?,
        })
    }

    fn arn(&mut self, at: &Path<'_>, text: &str, form: &str) -> Option<String> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let is_role = matches!(parts[..], ["arn", _, "iam", "", _, role] if role.starts_with("role/"))
            && !text.contains(char::is_whitespace);
        if !is_role {
            self.problems
                .value(at, format!("`{text}` is not the ARN of a role"), form);
        }
        is_role.then(|| text.to_owned())
    }

    fn identifier(&mut self, at: &Path<'_>, text: &str, most: usize, also: &str) -> Option<String> {
        let is_good = (2..=most).contains(&text.len())
            && (text.chars()).all(|c| c.is_ascii_alphanumeric() || also.contains(c));
        if !is_good {
            let message =
                format!("this has 2 to {most} letters, digits and characters out of {also}");
            self.problems.value(at, message, "");
        }
        is_good.then(|| text.to_owned())
    }

    fn region(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let is_region = (3..=MAX_REGION).contains(&text.len())
            && text.contains('-')
            && !text.starts_with('-')
            && !text.ends_with('-')
            && (text.bytes()).all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_region {
            self.problems.value(
                at,
                format!("`{text}` is not the name of a region"),
                "write e.g. eu-central-1",
            );
        }
        is_region.then(|| text.to_owned())
    }

    fn hosted_zone(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let id = text.strip_prefix("/hostedzone/").unwrap_or(text);
        let is_id = (1..=MAX_ZONE_ID).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if !is_id {
            self.problems.value(
                at,
                format!("`{text}` is not the id of a hosted zone"),
                "copy it from the zone's details in the console; it begins with Z",
            );
        }
        is_id.then(|| id.to_owned())
    }
}
