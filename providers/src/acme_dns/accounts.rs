//! The file of accounts as lego's provider `acme-dns` and the hook for certbot keep it: a JSON mapping from domains to
//! what the server gave when they were registered.

use std::collections::BTreeMap;

use reqwest::Url;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::error::Category;

use crate::http::said;
use crate::record::DnsName;
use crate::secret::Secret;

/// What may write at one name.
#[derive(Clone)]
pub(super) struct Account {
    /// The domains that it was registered for, as the file has them.
    pub(super) domains: Vec<String>,
    /// The name, which the CNAME of a challenge name leads to.
    pub(super) name: DnsName,
    /// What the server calls it.
    pub(super) subdomain: String,
    pub(super) username: Secret,
    pub(super) password: Secret,
}

/// An entry of the file; what else is in it is nobody's business here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Account {
        fulldomain: Option<String>,
        subdomain: Option<String>,
        username: Option<String>,
        password: Option<String>,
        server_url: Option<String>,
    },
    Other(IgnoredAny),
}

/// The accounts in `text` that are of `server`; an entry that names no server is of any. An error goes on from the name
/// of the file, and holds nothing of a secret.
pub(super) fn parse(text: &str, server: &Url) -> Result<Vec<Account>, String> {
    let entries: BTreeMap<String, Entry> = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            Category::Data => "is no mapping from domains to accounts".to_owned(),
            _ => format!("is not JSON: see line {line}, column {column}"),
        }
    })?;
    let mut accounts: Vec<Account> = Vec::new();
    for (domain, entry) in entries {
        let wrong = |what: String| format!("has an entry `{}` {what}", said(&domain));
        let Some(mut account) = account(entry, server).map_err(wrong)? else {
            continue;
        };
        let mut known = accounts.iter_mut();
        match known.find(|known| known.name == account.name) {
            None => {
                account.domains.push(domain);
                accounts.push(account);
            }
            Some(known) if known.is_like(&account) => known.domains.push(domain),
            Some(_) => {
                let name = &account.name;
                return Err(wrong(format!(
                    "for {name}, and another with a different user for the same name"
                )));
            }
        }
    }
    Ok(accounts)
}

/// The account of an entry, unless it is of another server: that one's password is not for this one.
fn account(entry: Entry, server: &Url) -> Result<Option<Account>, String> {
    let Entry::Account {
        fulldomain,
        subdomain,
        username,
        password,
        server_url,
    } = entry
    else {
        return Err("that is no account: a mapping with texts".to_owned());
    };
    if let Some(other) = server_url.filter(|it| !it.is_empty()) {
        let other = Url::parse(&other);
        let other = other.map_err(|error| format!("whose `server_url` is no URL: {error}"))?;
        if !is_same(&other, server) {
            return Ok(None);
        }
    }
    let required = |key: &str, value: Option<String>| {
        let value = value.filter(|it| !it.is_empty());
        value.ok_or_else(|| format!("without `{key}`"))
    };
    let password = Secret::new(required("password", password)?.into_bytes());
    let username = Secret::new(required("username", username)?.into_bytes());
    let name = DnsName::parse(&required("fulldomain", fulldomain)?);
    Ok(Some(Account {
        domains: Vec::new(),
        name: name.map_err(|error| format!("whose `fulldomain` is no name: {error}"))?,
        subdomain: required("subdomain", subdomain)?,
        username,
        password,
    }))
}

impl Account {
    fn is_like(&self, other: &Self) -> bool {
        let parts = |it: &Self| [it.username.clone(), it.password.clone()];
        let (ours, theirs) = (parts(self), parts(other));
        self.subdomain == other.subdomain
            && (ours.iter().zip(&theirs)).all(|(ours, theirs)| ours.expose() == theirs.expose())
    }
}

/// A slash at the end makes no other server.
fn is_same(one: &Url, other: &Url) -> bool {
    let path = |url: &Url| url.path().trim_end_matches('/').to_owned();
    one.origin() == other.origin() && path(one) == path(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Url {
        "https://auth.example.org".parse().unwrap()
    }

    fn seen(text: &str) -> String {
        match parse(text, &server()) {
            Ok(accounts) => accounts.iter().fold(String::new(), |seen, it| {
                let (user, password) = (it.username.expose_text(), it.password.expose_text());
                let (user, password) = (user.unwrap(), password.unwrap());
                format!("{seen}{} {} {user} {password}\n", it.name, it.subdomain)
            }),
            Err(error) => error,
        }
    }

    #[test]
    fn reads_what_lego_keeps() {
        let text = r#"{
          "b.test": {"fulldomain": "two.Auth.example.org.", "subdomain": "two", "username": "u2", "password": "p2",
                     "server_url": "https://AUTH.example.org:443/"},
          "a.test": {"fulldomain": "one.auth.example.org", "subdomain": "one", "username": "u1", "password": "p1",
                     "server_url": ""}
        }"#;
        let wanted = "one.auth.example.org one u1 p1\ntwo.auth.example.org two u2 p2\n";
        assert_eq!(seen(text), wanted);
    }

    #[test]
    fn reads_what_the_hook_for_certbot_keeps() {
        let text = r#"{"a.test": {"allowfrom": ["192.0.2.0/24"], "fulldomain": "one.auth.example.org",
            "password": "p", "subdomain": "one", "username": "u"}}"#;
        assert_eq!(seen(text), "one.auth.example.org one u p\n");
    }

    #[test]
    fn an_account_of_another_server_is_not_used_here() {
        let entry = |server: &str| {
            format!(
                r#"{{"a.test": {{"fulldomain": "one.x.test", "subdomain": "one", "username": "u", "password": "p", "server_url": "{server}"}}}}"#
            )
        };
        for other in [
            "http://auth.example.org",
            "https://auth.example.org:8443",
            "https://auth.example.org/other",
            "https://auth.example.com",
        ] {
            assert_eq!(seen(&entry(other)), "", "{other}");
        }
        let wrong =
            "has an entry `a.test` whose `server_url` is no URL: relative URL without a base";
        assert_eq!(seen(&entry("auth.example.org")), wrong);
    }

    #[test]
    fn two_domains_may_share_an_account_and_not_a_name() {
        let two = |user: &str| {
            let entry = |user: &str| {
                format!(
                    r#"{{"fulldomain": "one.x.test", "subdomain": "one", "username": "{user}", "password": "p"}}"#
                )
            };
            format!(r#"{{"a.test": {}, "b.test": {}}}"#, entry("u"), entry(user))
        };
        assert_eq!(seen(&two("u")), "one.x.test one u p\n");
        let wrong = "has an entry `b.test` for one.x.test, and another with a different user for the same name";
        assert_eq!(seen(&two("v")), wrong);
    }

    #[test]
    fn says_what_is_wrong_in_which_entry_and_nothing_of_a_secret() {
        for (text, wrong) in [
            ("", "is not JSON: see line 1, column 0"),
            ("{\n \"hunter2\"", "is not JSON: see line 2, column 10"),
            ("[\"hunter2\"]", "is no mapping from domains to accounts"),
            (
                r#"{"a.test": "hunter2"}"#,
                "has an entry `a.test` that is no account: a mapping with texts",
            ),
            (
                r#"{"a.test": {"password": ["hunter2"]}}"#,
                "has an entry `a.test` that is no account: a mapping with texts",
            ),
            (
                r#"{"a.test": {"password": "hunter2", "username": ""}}"#,
                "has an entry `a.test` without `username`",
            ),
            (
                r#"{"a.test": {"password": "hunter2", "username": "u", "fulldomain": "one..test"}}"#,
                "has an entry `a.test` whose `fulldomain` is no name: the label `` is empty or longer than 63 characters",
            ),
            (
                r#"{"a.test": {"password": "hunter2", "username": "u", "fulldomain": "one.test"}}"#,
                "has an entry `a.test` without `subdomain`",
            ),
        ] {
            assert_eq!(seen(text), wrong);
        }
    }
}
