//! Where everything is kept.

use crate::engine::account::AccountId;
use crate::engine::names::CertificateName;
use crate::store::Key;

/// Begins the keys of certificates.
pub const CERTIFICATES: &str = "certificate/";
/// Begins the keys of running attempts.
pub const ATTEMPTS: &str = "attempt/";
/// Begins the keys of deliveries.
pub const DELIVERIES: &str = "delivery/";

/// The latest time that was believed.
pub fn clock() -> Key {
    Key::of(&["clock"])
}

/// Begins the keys of what was announced of certificates.
pub const ALERTS: &str = "alert/";

/// A certificate of the configuration.
pub fn certificate(name: &CertificateName) -> Key {
    Key::of(&["certificate", name.as_str()])
}

/// Its running attempt; there is at most one.
pub fn attempt(name: &CertificateName) -> Key {
    Key::of(&["attempt", name.as_str()])
}

/// The sealed leaf key of one attempt.
pub fn leaf_key(name: &CertificateName, epoch: u64) -> Key {
    Key::of(&["key", name.as_str(), &epoch.to_string()])
}

/// The chain that one attempt got, in PEM.
pub fn chain(name: &CertificateName, epoch: u64) -> Key {
    Key::of(&["chain", name.as_str(), &epoch.to_string()])
}

/// Begins the keys of everything else that is kept of one certificate.
pub(super) fn all_of(name: &CertificateName) -> [String; 4] {
    ["key", "chain", "delivery", "history"]
        .map(|kind| format!("{}/", Key::of(&[kind, name.as_str()])))
}

/// An account.
pub fn account(id: &AccountId) -> Key {
    Key::of(&[
        "account",
        &id.directory,
        id.external.as_deref().unwrap_or("-"),
    ])
}

/// Its sealed key.
pub fn account_key(id: &AccountId) -> Key {
    Key::of(&[
        "account-key",
        &id.directory,
        id.external.as_deref().unwrap_or("-"),
    ])
}

/// What was announced of one certificate, and what is still to be sent.
pub fn alert(name: &CertificateName) -> Key {
    Key::of(&["alert", name.as_str()])
}

/// One certificate at one target.
pub fn delivery(name: &CertificateName, target: &str) -> Key {
    Key::of(&["delivery", name.as_str(), target])
}

/// Begins the keys of one certificate's history.
pub fn history_of(name: &CertificateName) -> String {
    format!("{}/", Key::of(&["history", name.as_str()]))
}

/// One line of history; `microsecond` orders them.
pub fn history(name: &CertificateName, microsecond: i64, nth: u32) -> Key {
    Key::of(&[
        "history",
        name.as_str(),
        &format!("{microsecond:020}"),
        &format!("{nth:010}"),
    ])
}
