//! Checks of `acme-dns`.

use countersign_providers::acme_dns::Settings;

use crate::config::problems::Path;
use crate::config::raw;
use crate::config::scalars::Checker;

/// What the server looks like.
const URL: &str = "write its address, e.g. url: \"https://auth.example.org\"";
/// What the accounts look like.
const ACCOUNTS: &str =
    "write where the accounts are, e.g. accounts: {file: /etc/countersign/acmedns.json}";

impl Checker {
    pub(super) fn acme_dns(&mut self, at: &Path<'_>, settings: &raw::AcmeDns) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::AcmeDns>(at, &settings.unknown);
        let required = [
            ("url", settings.url.is_some(), URL),
            ("accounts", settings.accounts.is_some(), ACCOUNTS),
        ];
        self.problems.required(at, &required);
        let url = (settings.url.as_ref()).and_then(|it| self.endpoint(&at.key("url"), it));
        let accounts =
            (settings.accounts.as_ref()).and_then(|it| self.secret(&at.key("accounts"), it));
        Some(Settings {
            url: url?,
            accounts: accounts?,
        })
    }
}
