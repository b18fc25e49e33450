//! What is known of one certificate of the configuration: what is issued, what failed, what comes next.

use std::collections::BTreeMap;

use countersign_providers::clock::{between, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::key::KeyType;
use super::names::{CertificateName, Identifier};
use super::reaction::{Failure, Whose};
use super::renewal::{self, Due};
use super::timekeeping::CLOCK_STEP;

/// What a certificate must be, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specification {
    /// The names, sorted.
    pub identifiers: Vec<Identifier>,
    /// The kind of its key.
    pub key: KeyType,
}

/// The profile that each authority of the configuration is asked for (draft-ietf-acme-profiles), by its name there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles(BTreeMap<String, Option<String>>);

impl Profiles {
    /// Whether the authority of `issued` would be asked for another profile now. One that is not configured any more
    /// is asked for nothing: that is for the next renewal.
    pub(super) fn differ(&self, issued: &Issued) -> bool {
        let wanted = self.0.get(&issued.authority);
        wanted.is_some_and(|wanted| *wanted != issued.profile)
    }
}

impl FromIterator<(String, Option<String>)> for Profiles {
    fn from_iter<I: IntoIterator<Item = (String, Option<String>)>>(profiles: I) -> Self {
        Self(profiles.into_iter().collect())
    }
}

/// One certificate of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its name in the configuration.
    pub name: CertificateName,
    /// What is issued.
    pub current: Option<Issued>,
    /// The number of the newest attempt.
    pub epoch: u64,
    /// Why the newest attempts failed.
    pub trouble: Option<Trouble>,
    /// When it was found to be configured no more.
    #[serde(default)]
    pub removed: Option<Timestamp>,
}

/// An issued certificate. The chain and the key are stored beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The attempt that got it.
    pub epoch: u64,
    /// Rises with every certificate; the number in the target's directory.
    pub generation: u64,
    /// What was asked for.
    pub specification: Specification,
    /// The authority's name in the configuration.
    pub authority: String,
    /// The profile that it was asked for.
    #[serde(default)]
    pub profile: Option<String>,
    /// Lower-case hex.
    pub serial: String,
    /// SHA-256 of the leaf's DER, lower-case hex.
    pub sha256: String,
    /// Who signed it.
    pub issuer: String,
    /// Begins.
    pub not_before: Timestamp,
    /// Ends.
    pub not_after: Timestamp,
    /// When its renewal is due, drawn when it was saved.
    pub renew_at: Timestamp,
}

/// Failures in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The last one.
    pub failure: Failure,
    /// How many.
    pub count: u32,
    /// When the last one was.
    pub since: Timestamp,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

impl Trouble {
    /// Before when it must not be tried again, whoever asks: the other side said so.
    pub fn floor(&self, now: Timestamp) -> Option<Timestamp> {
        let pause = self.failure.not_before.filter(|_| !self.is_ahead(now))?;
        Some(later(self.since, pause))
    }

    /// When it is tried again.
    pub fn due(&self, now: Timestamp) -> Timestamp {
        match self.is_ahead(now) {
            true => now,
            false => self.retry_at,
        }
    }

    /// Whether the clock was wrong when it was noted, and set right since: then it says nothing of when.
    fn is_ahead(&self, now: Timestamp) -> bool {
        self.since > later(now, CLOCK_STEP)
    }
}

impl Certificate {
    /// A certificate that was never asked for.
    pub fn new(name: CertificateName) -> Self {
        Self {
            name,
            current: None,
            epoch: 0,
            trouble: None,
            removed: None,
        }
    }

    /// When the next attempt is due and why.
    pub fn due(&self, now: Timestamp, wanted: &Specification, profiles: &Profiles) -> Due {
        let is_other = |issued: &Issued| issued.specification != *wanted || profiles.differ(issued);
        renewal::due(now, self.current.as_ref(), self.trouble.as_ref(), is_other)
    }

    /// Records a new certificate.
    pub fn issued(&mut self, issued: Issued) {
        self.current = Some(issued);
        self.trouble = None;
    }

    /// Records a failed attempt.
    pub fn failed(&mut self, now: Timestamp, failure: Failure) {
        let count = self
            .trouble
            .as_ref()
            .map_or(0, |trouble| trouble.count)
            .saturating_add(1);
        let end = self.current.as_ref().map(|issued| issued.not_after);
        let retry_at = renewal::retry_at(now, count, end, failure.not_before);
        self.trouble = Some(Trouble {
            failure,
            count,
            since: now,
            retry_at,
        });
    }

    /// The other side asked, after the newest attempt had failed, not to be asked again before `until`.
    pub fn held(&mut self, until: Timestamp) {
        if let Some(trouble) = &mut self.trouble {
            trouble.retry_at = trouble.retry_at.max(until);
            let pause = between(trouble.since, until);
            trouble.failure.not_before = trouble.failure.not_before.max(Some(pause));
        }
    }

    /// Whether a person must act before anything can go on.
    pub fn needs_person(&self) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|trouble| trouble.failure.whose == Whose::You)
    }
}

/// The number of the generation after `last`: never one that was used, and telling of its time (milliseconds).
pub fn generation(last: u64, now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond())
        .unwrap_or(0)
        .max(last + 1)
}

/// When a generation was made, as its number tells.
pub fn generated_at(generation: u64) -> Timestamp {
    let milliseconds = i64::try_from(generation).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_providers::clock::later;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn failures_in_a_row_wait_longer_and_never_less_than_the_authority_asks() {
        let mut certificate = Certificate::new(CertificateName::parse("web").unwrap());
        certificate.failed(at(0), Failure::new(Whose::Authority, "no"));
        certificate.failed(at(0), Failure::new(Whose::Authority, "no"));
        let trouble = certificate.trouble.as_ref().unwrap();
        assert_eq!((trouble.count, trouble.retry_at), (2, at(600)));
        let mut failure = Failure::new(Whose::Authority, "not before an hour");
        failure.not_before = Some(Duration::from_secs(36_000));
        certificate.failed(at(0), failure);
        let retry_at = certificate.trouble.map(|trouble| trouble.retry_at);
        assert_eq!(retry_at, Some(later(at(0), Duration::from_secs(36_000))));
    }

    #[test]
    fn a_wish_that_comes_after_the_end_is_a_floor_too() {
        let mut certificate = Certificate::new(CertificateName::parse("web").unwrap());
        certificate.failed(at(0), Failure::new(Whose::DnsHost, "no"));
        certificate.held(at(82));
        let trouble = certificate.trouble.as_ref().unwrap();
        assert_eq!(
            (trouble.due(at(1)), trouble.floor(at(1))),
            (at(82), Some(at(82)))
        );
        certificate.held(at(30));
        assert_eq!(certificate.trouble.unwrap().retry_at, at(82));
    }

    #[test]
    fn a_failure_that_a_wrong_clock_dated_ahead_is_no_reason_to_wait() {
        let mut certificate = Certificate::new(CertificateName::parse("web").unwrap());
        let mut failure = Failure::new(Whose::Authority, "no");
        failure.not_before = Some(Duration::from_secs(3_600));
        certificate.failed(at(31_536_000), failure);
        let trouble = certificate.trouble.as_ref().unwrap();
        assert_eq!((trouble.due(at(0)), trouble.floor(at(0))), (at(0), None));
        // A second that was set back is nothing.
        assert!(trouble.due(at(31_535_999)) > at(31_536_000));
    }

    #[test]
    fn another_profile_is_a_change_and_another_authority_is_none() {
        let mut certificate = Certificate::new(CertificateName::parse("web").unwrap());
        let specification = Specification {
            identifiers: Vec::new(),
            key: KeyType::P256,
        };
        certificate.issued(Issued {
            epoch: 1,
            generation: 1,
            specification: specification.clone(),
            authority: "corp".to_owned(),
            profile: Some("short".to_owned()),
            serial: String::new(),
            sha256: String::new(),
            issuer: String::new(),
            not_before: at(0),
            not_after: at(90),
            renew_at: at(60),
        });
        let reason = |authority: &str, profile: Option<&str>| {
            let one = (authority.to_owned(), profile.map(str::to_owned));
            let profiles = [one].into_iter().collect();
            certificate.due(at(0), &specification, &profiles).reason
        };
        assert_eq!(reason("corp", Some("short")), renewal::Reason::Renewal);
        assert_eq!(reason("corp", None), renewal::Reason::Changed);
        assert_eq!(reason("other", None), renewal::Reason::Renewal);
    }

    #[test]
    fn a_generation_is_never_used_twice() {
        assert_eq!(generation(0, at(5)), 5_000);
        assert_eq!(generation(9_000, at(5)), 9_001);
        assert_eq!(generated_at(5_000), at(5));
    }
}
