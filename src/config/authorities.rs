//! Checks of `authorities`.

use url::Url;

use super::checked::{Authority, ExternalAccount, optional};
use super::names::AuthorityName;
use super::problems::{Path, nearest};
use super::raw;
use super::scalars::Checker;

/// The directories of authorities that need no `directory`.
const BUILT_IN: [(&str, &str); 4] = [
    (
        "letsencrypt",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "letsencrypt-staging",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
    ("google", "https://dv.acme-v02.api.pki.goog/directory"),
    ("zerossl", "https://acme.zerossl.com/v2/DV90"),
];

impl Checker {
    /// The authorities that are right, in the order of the files.
    pub(super) fn authorities(&mut self, roots: &[raw::Root]) -> Vec<Authority> {
        let given = |root: &raw::Root| root.authorities.as_ref().is_some_and(|it| !it.0.is_empty());
        if !roots.iter().any(given) && !self.is_misspelt_at_top(roots, "authorities") {
            self.problems.key(
                &Path::TOP.key("authorities"),
                "no authority is configured",
                "write e.g. authorities: {letsencrypt: {agree-to-terms: true}}",
            );
        }
        let nothing = raw::Authority::default();
        let mut checked = Vec::new();
        self.entries(
            roots,
            "authorities",
            |it| it.authorities.as_ref(),
            |this, here, name, authority| {
                checked.extend(this.authority(here, name, authority.unwrap_or(&nothing)));
            },
        );
        checked
    }

    fn authority(
        &mut self,
        at: &Path<'_>,
        name: &str,
        authority: &raw::Authority,
    ) -> Option<Authority> {
        self.problems
            .unknown_keys::<raw::Authority>(at, &authority.unknown);
        let parsed = AuthorityName::parse(name);
        if parsed.is_none() {
            self.problems.key(
                at,
                format!("`{name}` is not a name for an authority"),
                "a name has 1 to 63 printable characters without spaces",
            );
        }
        let directory = self.directory_url(at, name, authority);
        let written = |list: &'_ &Vec<String>| !list.is_empty();
        let contact = (authority.contact.as_ref().filter(written))
            .map(|it| self.each(&at.key("contact"), it, "mail address", Self::contact));
        let hosts = (authority.hosts.as_ref().filter(written))
            .map(|it| self.each(&at.key("hosts"), it, "host", Self::origin));
        let profile = (authority.profile.as_ref()).map(|it| self.text(&at.key("profile"), it));
        let chain = (authority.chain.as_ref()).map(|it| self.text(&at.key("chain"), it));
        let trust = (authority.trust.as_ref()).map(|it| self.path(&at.key("trust"), it));
        let dns = (authority.dns.as_ref()).map(|it| self.dns(&at.key("dns"), it));
        let external_account = (authority.external_account.as_ref())
            .map(|it| self.external_account(&at.key("external-account"), it));
        Some(Authority {
            name: parsed?,
            directory: directory?,
            agree_to_terms: authority.agree_to_terms.unwrap_or(false),
            contact: optional(contact)?.unwrap_or_default(),
            profile: optional(profile)?,
            external_account: optional(external_account)?,
            chain: optional(chain)?,
            trust: optional(trust)?,
            dns: optional(dns)?,
            insecure: authority.insecure.unwrap_or(false),
            hosts: optional(hosts)?.unwrap_or_default(),
        })
    }

    fn directory_url(
        &mut self,
        at: &Path<'_>,
        name: &str,
        authority: &raw::Authority,
    ) -> Option<String> {
        if let Some(url) = &authority.directory {
            return self.url(&at.key("directory"), url, authority.insecure == Some(true));
        }
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
        let Some((_, url)) = built_in else {
            let known = BUILT_IN.map(|it| it.0);
            let hint = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`? else write the URL of its directory"),
                None => format!(
                    "write its URL; built in are only those of {}",
                    known.join(", ")
                ),
            };
            self.problems.missing(at, "directory", hint);
            return None;
        };
        // A built-in authority is known to have terms; of any other the directory itself says so.
        let agreed = authority.agree_to_terms == Some(true);
        if !agreed && !self.problems.is_misspelt(at, "agree-to-terms") {
            self.problems.key(
                at,
                format!("{name} issues only to those who agree to its terms of service"),
                "read them, then write agree-to-terms: true",
            );
        }
        Some((*url).to_owned())
    }

    fn url(&mut self, at: &Path<'_>, text: &str, insecure: bool) -> Option<String> {
        let hint = "write the URL of its directory, e.g. https://ca.example/acme/directory";
        let url = match Url::parse(text) {
            Ok(url) if url.has_host() => url,
            _ => {
                self.problems
                    .value(at, "this is not a URL with a host", hint);
                return None;
            }
        };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            self.problems.value(
                at,
                "the URL of a directory has neither a user name nor a password nor a fragment",
                hint,
            );
            return None;
        }
        match url.scheme() {
            "https" => Some(text.to_owned()),
            "http" if insecure => Some(text.to_owned()),
            "http" => {
                self.problems.value(
                    at,
                    "a directory over plain http is refused: anybody on the way could answer for the authority",
                    "write https, or insecure: true beside it for a test authority",
                );
                None
            }
            other => {
                self.problems.value(
                    at,
                    format!("the scheme of a directory is https, and not {other}"),
                    hint,
                );
                None
            }
        }
    }

    /// `name` or `name:port`.
    fn origin(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let url = Url::parse(&format!("https://{text}/")).ok();
        let good = url.is_some_and(|url| {
            url.has_host()
                && url.path() == "/"
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if !good {
            self.problems.value(
                at,
                format!("`{text}` is not a host"),
                "write name or name:port, e.g. files.ca.example:8443",
            );
        }
        good.then(|| text.to_owned())
    }

    /// RFC 8555 section 7.3: one address, no header fields.
    fn contact(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let address = text.strip_prefix("mailto:").unwrap_or(text);
        let good = address
            .split_once('@')
            .is_some_and(|(user, domain)| !user.is_empty() && super::names::host(domain).is_ok())
            && address
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, ',' | '?' | '%' | ':' | '<' | '>'));
        if !good {
            self.problems.value(
                at,
                format!("`{text}` is not a mail address"),
                "write one address, e.g. ops@example.com",
            );
        }
        good.then(|| format!("mailto:{address}"))
    }

    fn external_account(
        &mut self,
        at: &Path<'_>,
        account: &raw::ExternalAccount,
    ) -> Option<ExternalAccount> {
        self.problems
            .unknown_keys::<raw::ExternalAccount>(at, &account.unknown);
        let hint = "the authority gives key-id and mac-key together";
        if account.key_id.is_none() {
            self.problems.missing(at, "key-id", hint);
        }
        if account.mac_key.is_none() {
            self.problems.missing(at, "mac-key", hint);
        }
        let key_id = (account.key_id.as_ref()).and_then(|it| self.text(&at.key("key-id"), it));
        let mac_key = (account.mac_key.as_ref()).and_then(|it| self.secret(&at.key("mac-key"), it));
        Some(ExternalAccount {
            key_id: key_id?,
            mac_key: mac_key?,
        })
    }
}
