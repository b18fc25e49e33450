//! One ACME account: its key drawn and saved, then registered (RFC 8555 section 7.3).
//!
//! An account belongs to (directory URL, external key id), never to the name an authority has in the configuration.

use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::order::CaFault;
use super::reaction::{CA_PATIENCE, CA_SILENCE, Failure, Reaction, Whose, to_ca_fault};
use super::{EffectId, Pending, Wanted, due};

/// After a refusal that needs a person, the account is tried again this much later.
const REFUSED_PAUSE: Duration = Duration::from_secs(3600);

/// What an account belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountId {
    /// The authority's directory.
    pub directory: String,
    /// The key id of the external account (RFC 8555 section 7.3.4).
    pub external: Option<String>,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What it belongs to.
    pub id: AccountId,
    /// The saved key's thumbprint (RFC 7638).
    thumbprint: Option<String>,
    /// The account's URL.
    url: Option<String>,
    /// Why it cannot be used.
    failure: Option<Failure>,
    /// No request before this.
    not_before: Option<Timestamp>,
    #[serde(skip)]
    turn: u32,
    /// When the first of the failures in a row was.
    #[serde(skip)]
    failing_since: Option<Timestamp>,
}

/// What an account wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Draw a key and save it.
    MakeKey,
    /// Register the key, or find it registered.
    Register,
}

/// What happened to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key is in the store; its thumbprint.
    KeySaved(String),
    /// The authority answered with the account's URL.
    Registered(Result<String, CaFault>),
}

impl Account {
    /// An account that does not exist yet.
    pub fn new(id: AccountId) -> Self {
        Self {
            id,
            thumbprint: None,
            url: None,
            failure: None,
            not_before: None,
            turn: 0,
            failing_since: None,
        }
    }

    /// What should be happening at `now`.
    pub fn pending(&self, now: Timestamp) -> Pending<Effect> {
        due(self.wanted().into_iter().collect(), now)
    }

    /// Records what happened.
    pub fn apply(&mut self, now: Timestamp, effect: &EffectId, event: Event) {
        if self.wanted().is_none_or(|wanted| wanted.id != *effect) {
            return;
        }
        match event {
            Event::KeySaved(thumbprint) => self.thumbprint = Some(thumbprint),
            Event::Registered(Ok(url)) => {
                self.url = Some(url);
                self.failure = None;
                self.not_before = None;
                self.turn = 0;
                self.failing_since = None;
            }
            Event::Registered(Err(fault)) => self.refused(now, &fault),
        }
    }

    /// The account's URL and its key's thumbprint, once registered.
    pub fn ready(&self) -> Option<(&str, &str)> {
        self.url.as_deref().zip(self.thumbprint.as_deref())
    }

    /// Why it cannot be used, and when it is tried again.
    pub fn failure(&self) -> Option<(&Failure, Option<Timestamp>)> {
        self.failure
            .as_ref()
            .map(|failure| (failure, self.not_before))
    }

    /// Forgets a wait: a person asked for a try now.
    pub fn hurry(&mut self) {
        if self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.not_before.is_none())
        {
            self.not_before = None;
        }
        self.failure = None;
        self.turn = 0;
        self.failing_since = None;
    }

    /// The authority does not know the account at `url` any more: the key is kept, and registered again.
    pub fn lost(&mut self, url: &str) {
        if self.url.as_deref() == Some(url) {
            self.url = None;
        }
    }

    fn wanted(&self) -> Option<Wanted<Effect>> {
        let (what, effect) = match (&self.thumbprint, &self.url) {
            (None, _) => ("make-key", Effect::MakeKey),
            (Some(_), None) => ("register", Effect::Register),
            (Some(_), Some(_)) => return None,
        };
        Some(Wanted {
            id: EffectId::new(what, 0, self.turn),
            effect,
            from: self.not_before,
        })
    }

    fn refused(&mut self, now: Timestamp, fault: &CaFault) {
        let reaction = to_ca_fault(fault, self.turn, "registering the account");
        self.turn += 1;
        let since = *self.failing_since.get_or_insert(now);
        let silent = self.turn > 1 && now >= later(since, CA_SILENCE);
        match reaction {
            Reaction::Again(pause) => {
                if silent || self.turn >= CA_PATIENCE || pause > Duration::from_secs(60) {
                    let mut failure = fault.failure();
                    failure.not_before = wish(fault);
                    self.failure = Some(failure);
                }
                self.not_before = Some(later(now, pause));
            }
            // There is no order to look at: an answer that makes no sense.
            Reaction::LookAtOrder => {
                self.failure = Some(Failure::new(Whose::Authority, fault.to_string()));
                self.not_before = Some(later(now, REFUSED_PAUSE));
            }
            Reaction::GiveUp(mut failure) => {
                if self.id.external.is_some() && is_refusal_of_key(fault) {
                    failure
                        .sentence
                        .push_str("; compare `key-id` and `mac-key` with what the authority gave");
                }
                self.failure = Some(failure);
                self.not_before = Some(later(now, REFUSED_PAUSE));
            }
        }
    }
}

/// Registering is signed with a fresh key, so that this can only be about the external account.
fn is_refusal_of_key(fault: &CaFault) -> bool {
    matches!(fault, CaFault::Refused { problem, .. } if matches!(problem.kind.as_str(), "unauthorized" | "malformed"))
}

fn wish(fault: &CaFault) -> Option<Duration> {
    match fault {
        CaFault::Refused { retry_after, .. } => *retry_after,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::Problem;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn account() -> Account {
        Account::new(AccountId {
            directory: "https://ca.test/directory".to_owned(),
            external: None,
        })
    }

    fn with_key() -> Account {
        let mut account = account();
        let (id, _) = effect(&account, 0).unwrap();
        account.apply(at(0), &id, Event::KeySaved("thumbprint".to_owned()));
        account
    }

    fn registered() -> Account {
        let mut account = with_key();
        let (id, _) = effect(&account, 0).unwrap();
        let url = "https://ca.test/1".to_owned();
        account.apply(at(0), &id, Event::Registered(Ok(url)));
        account
    }

    fn effect(account: &Account, second: i64) -> Option<(EffectId, Effect)> {
        account.pending(at(second)).effects.into_iter().next()
    }

    fn refuse(account: &mut Account, second: i64, status: u16, kind: &str, wait: Option<u64>) {
        let (id, _) = effect(account, second).unwrap();
        let problem = Problem {
            kind: kind.to_owned(),
            detail: "not so".to_owned(),
            status: Some(status),
            subproblems: Vec::new(),
            instance: None,
        };
        let fault = CaFault::Refused {
            problem,
            retry_after: wait.map(Duration::from_secs),
        };
        account.apply(at(second), &id, Event::Registered(Err(fault)));
    }

    #[test]
    fn saves_its_key_before_it_registers_it() {
        assert_eq!(
            effect(&account(), 0).map(|(_, effect)| effect),
            Some(Effect::MakeKey)
        );
        assert_eq!(
            effect(&with_key(), 0).map(|(_, effect)| effect),
            Some(Effect::Register)
        );
    }

    #[test]
    fn is_ready_when_the_authority_has_named_it() {
        let account = registered();
        assert_eq!(account.ready(), Some(("https://ca.test/1", "thumbprint")));
        assert_eq!(effect(&account, 0), None);
    }

    #[test]
    fn a_refusal_waits_for_a_person_or_an_hour() {
        let mut account = with_key();
        refuse(&mut account, 0, 403, "externalAccountRequired", None);
        assert_eq!(
            account.failure().map(|(failure, _)| failure.whose),
            Some(Whose::You)
        );
        assert_eq!(effect(&account, 3_599), None);
        account.hurry();
        assert!(effect(&account, 0).is_some());
    }

    #[test]
    fn nobody_hurries_past_the_authoritys_own_wish() {
        let mut account = with_key();
        refuse(&mut account, 0, 429, "rateLimited", Some(900));
        account.hurry();
        let bytes = serde_json::to_vec(&account).unwrap();
        let account: Account = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(effect(&account, 899), None);
        assert!(effect(&account, 900).is_some());
    }

    #[test]
    fn a_silent_authority_is_asked_twice_and_no_more() {
        let mut account = with_key();
        for second in [10, 21] {
            let (id, _) = effect(&account, second).unwrap();
            let fault = CaFault::Unreachable("silence".to_owned());
            assert_eq!(account.failure(), None);
            account.apply(at(second), &id, Event::Registered(Err(fault)));
        }
        assert!(account.failure().is_some());
    }

    #[test]
    fn an_account_that_the_authority_lost_is_registered_again_with_its_key() {
        let mut account = registered();
        account.lost("https://ca.test/another");
        assert!(account.ready().is_some());
        account.lost("https://ca.test/1");
        assert_eq!(account.ready(), None);
        assert_eq!(
            effect(&account, 0).map(|(_, effect)| effect),
            Some(Effect::Register)
        );
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_not_asked_for_without_a_pause() {
        let mut account = with_key();
        refuse(&mut account, 0, 403, "orderNotReady", None);
        assert_eq!(effect(&account, 0), None);
    }
}
