//! Makes an authority's account ready: key drawn and saved, then registered.

use std::collections::BTreeMap;

use countersign_providers::clock::Clock;
use countersign_providers::secret::Secret;

use super::records;
use super::shared::{Authority, Shared};
use crate::acme::{AccountKey, ExternalAccount};
use crate::config;
use crate::engine::account::{Account, AccountId, Effect, Event};
use crate::engine::is_ahead;
use crate::engine::order::CaFault;
use crate::engine::reaction::{Failure, Whose};
use crate::store::{Key, Saved, Sealed, Session, StoreError, Write};

/// An account that can be used.
pub struct Ready {
    /// What it belongs to.
    pub id: AccountId,
    /// Its URL.
    pub url: String,
    /// Its key's thumbprint.
    pub thumbprint: String,
    /// Its key.
    pub key: AccountKey,
}

/// The URLs of the accounts that are registered, by the names of their authorities.
pub async fn registered(
    session: &Session,
    authorities: &[config::Authority],
) -> Result<BTreeMap<String, String>, StoreError> {
    let mut registered = BTreeMap::new();
    for authority in authorities {
        let key = records::account(&id(authority));
        let account = session.load::<Account>(key).await?;
        let ready = account.as_ref().and_then(|it| it.value.ready());
        let url = ready.map(|(url, _)| (authority.name.to_string(), url.to_owned()));
        registered.extend(url);
    }
    Ok(registered)
}

/// Brings the account of `authority` as far as it goes now. Whoever waited while somebody else tried in vain is told
/// the same. A person who `hurries` does not wait until the last failure is an hour old.
pub async fn ready(
    shared: &Shared,
    authority: &Authority,
    hurries: bool,
) -> Result<Ready, Failure> {
    let asked = shared.clock.elapsed();
    let mut last = authority.account.lock().await;
    if let Some((at, failure)) = last.as_ref()
        && *at > asked
    {
        return Err(failure.clone());
    }
    let result = make_ready(shared, authority, hurries).await;
    if let Err(failure) = &result {
        *last = Some((shared.clock.elapsed(), failure.clone()));
    }
    result
}

async fn make_ready(
    shared: &Shared,
    authority: &Authority,
    hurries: bool,
) -> Result<Ready, Failure> {
    let id = id(&authority.settings);
    let key = records::account(&id);
    let loaded = shared
        .session
        .load::<Account>(key.clone())
        .await
        .map_err(store_failure)?;
    let mut account = loaded.unwrap_or_else(|| Saved::new(key, Account::new(id.clone())));
    if let Some((failure, Some(again))) = account.value.failure()
        && is_ahead(again, shared.clock.now())
        && (!hurries || failure.not_before.is_some())
    {
        let mut failure = named(authority, failure);
        // Our own pause is no wish of the authority's.
        failure.not_before = failure.not_before.map(|_| shared.clock.until(again));
        return Err(failure);
    }
    account.value.hurry();
    loop {
        if let Some((url, thumbprint)) = account.value.ready() {
            let (url, thumbprint) = (url.to_owned(), thumbprint.to_owned());
            return Ok(Ready {
                key: load_key(shared, &id).await?,
                id,
                url,
                thumbprint,
            });
        }
        if let Some((failure, _)) = account.value.failure() {
            return Err(named(authority, failure));
        }
        let pending = account.value.pending(shared.clock.now());
        let Some((effect_id, effect)) = pending.effects.into_iter().next() else {
            wait(&shared.clock, pending.wake).await;
            continue;
        };
        let mut writes = Vec::new();
        let event = match effect {
            Effect::MakeKey => {
                let secret = AccountKey::generate().map_err(internal)?;
                let thumbprint = AccountKey::load(&secret).map_err(internal)?.thumbprint();
                let at = records::account_key(&id);
                let sealed = shared.sealer.seal(&at, &secret).map_err(store_failure)?;
                writes.push(Write::Put(
                    at,
                    serde_json::to_vec(&sealed).map_err(internal)?,
                ));
                Event::KeySaved(thumbprint)
            }
            Effect::Register => Event::Registered(register(shared, authority, &id).await?),
        };
        account.value.apply(shared.clock.now(), &effect_id, event);
        shared
            .session
            .save(&mut [&mut account], writes)
            .await
            .map_err(store_failure)?;
    }
}

/// Notes that the authority does not know `account` any more: the next attempt registers its key again.
pub(super) async fn lost(shared: &Shared, account: &Ready) -> Result<(), Failure> {
    let loaded = shared
        .session
        .load::<Account>(records::account(&account.id))
        .await
        .map_err(store_failure)?;
    let Some(mut saved) = loaded else {
        return Ok(());
    };
    saved.value.lost(&account.url);
    match shared.session.save(&mut [&mut saved], Vec::new()).await {
        // Another attempt noted it, or registers it again already.
        Ok(()) | Err(StoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(store_failure(error)),
    }
}

/// What the account of `authority` belongs to.
pub fn id(settings: &config::Authority) -> AccountId {
    let external = settings.external_account.as_ref();
    AccountId {
        directory: settings.directory.clone(),
        external: external.map(|external| external.key_id.clone()),
    }
}

async fn register(
    shared: &Shared,
    authority: &Authority,
    id: &AccountId,
) -> Result<Result<String, CaFault>, Failure> {
    let key = load_key(shared, id).await?;
    let settings = &authority.settings;
    let external = match &settings.external_account {
        Some(external) => {
            let mac = external.mac_key.read(&shared.clock).await;
            let unusable = |why: String| {
                let failure = Failure::new(Whose::You, format!("`mac-key`: {why}"));
                named(authority, &failure)
            };
            let mac = mac.map_err(|error| unusable(error.to_string()))?;
            let external = ExternalAccount::new(&external.key_id, &mac);
            Some(external.map_err(|error| unusable(error.to_string()))?)
        }
        None => None,
    };
    let answer = authority
        .client
        .new_account(
            &key,
            &settings.contact,
            settings.agree_to_terms,
            external.as_ref(),
        )
        .await;
    Ok(answer.map(|account| account.url))
}

async fn load_key(shared: &Shared, id: &AccountId) -> Result<AccountKey, Failure> {
    let whose = format!("the account at {}", id.directory);
    let secret = open(shared, records::account_key(id), &whose).await?;
    AccountKey::load(&secret).map_err(internal)
}

/// The sealed key at `at`, which is that of `whose`.
pub(super) async fn open(shared: &Shared, at: Key, whose: &str) -> Result<Secret, Failure> {
    let sealed = shared.session.load::<Sealed>(at.clone()).await;
    let sealed = sealed.map_err(store_failure)?.ok_or_else(|| {
        let sentence = format!("the key of {whose} is missing");
        Failure::new(Whose::Countersign, sentence)
    })?;
    let secret = shared.sealer.open(&at, &sealed.value);
    secret.map_err(store_failure)
}

fn named(authority: &Authority, failure: &Failure) -> Failure {
    let sentence = format!(
        "authority {}: {}",
        authority.settings.name, failure.sentence
    );
    Failure {
        sentence,
        ..failure.clone()
    }
}

async fn wait(clock: &Clock, wake: Option<jiff::Timestamp>) {
    if let Some(wake) = wake {
        clock
            .sleep(clock.until(wake).min(super::LONGEST_SLEEP))
            .await;
    }
}

/// The store's failure: a person must make room, or look at the disk.
pub(super) fn store_failure(error: crate::store::StoreError) -> Failure {
    Failure::new(Whose::You, error.to_string())
}

/// A failure of our own making.
pub(super) fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Whose::Countersign, error.to_string())
}
