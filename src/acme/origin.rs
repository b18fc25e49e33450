//! Which URLs an authority may send us to: https, on the directory's own host and port, or on a host that the operator
//! listed. What is signed and what is asked are the same bytes, or the URL is refused.

use countersign_providers::words::printable;
use reqwest::Url;

use crate::engine::order::CaFault;

/// The longest URL that is accepted; known authorities stay below 200.
const MAX_URL: usize = 2_000;

/// The hosts that one authority may name.
pub(super) struct Origins {
    insecure: bool,
    own: (String, u16),
    listed: Vec<(String, u16)>,
}

impl Origins {
    /// The directory's own host, and `hosts` (`name` or `name:port`).
    pub(super) fn new(directory: &str, hosts: &[String], insecure: bool) -> Result<Self, CaFault> {
        let url = parse(directory)
            .map_err(|why| CaFault::Malformed(format!("the directory URL {why}")))?;
        if url.scheme() != "https" && !insecure {
            return Err(CaFault::Untrusted(format!(
                "the directory {} is not https; an authority over plain http needs `insecure: true`",
                shown(directory)
            )));
        }
        let mut listed = Vec::with_capacity(hosts.len());
        let (own, scheme) = (host_and_port(&url), url.scheme());
        for host in hosts {
            let url = parse(&format!("{scheme}://{host}/")).map_err(|why| {
                CaFault::Malformed(format!("`{host}` is not a host or host:port: it {why}"))
            })?;
            listed.push(host_and_port(&url));
        }
        Ok(Self {
            insecure,
            own,
            listed,
        })
    }

    /// The directory's own URL. Nothing is signed for it, so it need not be asked byte for byte as it was typed.
    pub(super) fn directory(&self, text: &str) -> Result<Url, CaFault> {
        parse(text).map_err(|why| CaFault::Malformed(format!("the directory URL {why}")))
    }

    /// `text` as something that can be asked; the caller signs `text` itself. `what` says where it was found.
    pub(super) fn check(&self, what: &str, text: &str) -> Result<Url, CaFault> {
        let refused = |why: String| CaFault::Malformed(format!("the authority's {what} {why}"));
        let url = parse(text).map_err(refused)?;
        if !same_bytes(&url, text) {
            return Err(refused(format!(
                "{} would be asked for as {}; the signature covers the first, so neither is used",
                shown(text),
                shown(url.as_str())
            )));
        }
        if url.scheme() != "https" && !self.insecure {
            return Err(refused(format!("{} is not https", shown(text))));
        }
        let origin = host_and_port(&url);
        if origin != self.own && !self.listed.contains(&origin) {
            return Err(CaFault::Untrusted(format!(
                "the authority's {what} {} is not on the directory's own host {}:{}; if it belongs to the authority, list {}:{} under its \
                 `hosts` in the configuration",
                shown(text),
                self.own.0,
                self.own.1,
                origin.0,
                origin.1,
            )));
        }
        Ok(url)
    }
}

/// Parses an absolute URL.
fn parse(text: &str) -> Result<Url, String> {
    if text.len() > MAX_URL {
        return Err(format!(
            "has {} bytes, more than {MAX_URL}: {}",
            text.len(),
            shown(text)
        ));
    }
    let url = Url::parse(text).map_err(|error| format!("{} is no URL: {error}", shown(text)))?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(format!("{} is not an https URL", shown(text)));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!("{} holds a user or a fragment", shown(text)));
    }
    Ok(url)
}

/// Whether `text` is what will be asked. Writing out the scheme's own port asks for the same thing at the same place:
/// some authorities behind proxies do.
fn same_bytes(url: &Url, text: &str) -> bool {
    if url.as_str() == text {
        return true;
    }
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    let rest = text.strip_prefix(&format!("{}://{host}:{port}", url.scheme()));
    let query = url.query().map(|query| format!("?{query}"));
    let asked = format!("{}{}", url.path(), query.unwrap_or_default());
    url.port().is_none() && rest == Some(asked.as_str())
}

fn host_and_port(url: &Url) -> (String, u16) {
    let host = url.host_str().unwrap_or_default().to_owned();
    (host, url.port_or_known_default().unwrap_or_default())
}

fn shown(text: &str) -> String {
    format!("`{}`", printable(text, 200))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(directory: &str, hosts: &[&str]) -> Origins {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        Origins::new(directory, &hosts, false).ok().unwrap()
    }

    fn refusal(origins: &Origins, text: &str) -> String {
        origins.check("order URL", text).unwrap_err().to_string()
    }

    #[test]
    fn own_host_and_listed_hosts_are_accepted() {
        let origins = origins(
            "https://ca.example/dir",
            &["other.example", "ca.example:8443"],
        );
        for good in [
            "https://ca.example/acme/order/1?x=%2F",
            "https://ca.example:443/acme/order/1",
            "https://other.example/1",
            "https://ca.example:8443/1",
        ] {
            assert!(origins.check("order URL", good).is_ok(), "{good}");
        }
    }

    #[test]
    fn another_host_port_or_scheme_is_refused() {
        let origins = origins("https://ca.example/dir", &["other.example"]);
        assert_eq!(
            refusal(&origins, "https://evil.example/x"),
            "the authority's order URL `https://evil.example/x` is not on the directory's own host ca.example:443; \
             if it belongs to the authority, list evil.example:443 under its `hosts` in the configuration"
        );
        for bad in [
            "http://ca.example/x",
            "https://ca.example:444/x",
            "https://u@ca.example/x",
            "https://ca.example/x#y",
            "file:///etc/passwd",
            "/acme/order/1",
            "",
        ] {
            refusal(&origins, bad);
        }
    }

    #[test]
    fn a_url_that_would_be_rewritten_is_refused() {
        let origins = origins("https://ca.example/dir", &[]);
        for bad in [
            "https://ca.example/a/../b",
            "https://CA.example/b",
            "https://ca.example/a b",
            "https://ca.example",
            "https://ca.example/\u{e4}",
            "https:ca.example/b",
            "https://ca.example:0443/b",
            "https://ca.example/b\n",
        ] {
            assert!(
                refusal(&origins, bad).contains("would be asked for as"),
                "{bad}"
            );
        }
        refusal(
            &origins,
            &format!("https://ca.example/{}", "a".repeat(MAX_URL)),
        );
    }

    #[test]
    fn plain_http_needs_the_word_for_it() {
        let error = Origins::new("http://ca.example/dir", &[], false)
            .err()
            .unwrap();
        assert!(matches!(&error, CaFault::Untrusted(text) if text.contains("`insecure: true`")));
        assert!(Origins::new("http://ca.example/dir", &[], true).is_ok());
    }
}
