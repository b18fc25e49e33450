//! By which names this server may be called (RFC 9110 section 7.2).
//!
//! A page of a stranger may have a browser on this machine ask here under the stranger's own name, which resolves to
//! this address for a moment (DNS rebinding), and read the answer. So only a name that is ours is answered.

use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::{Request, StatusCode};

/// By which names a server may be called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// As configured: in lower case, without a dot at the end.
    listed: Vec<String>,
}

/// Why a request is not answered.
pub(super) type Refusal = (StatusCode, &'static str);

const NO_HOST: Refusal = (
    StatusCode::BAD_REQUEST,
    "the request must say in one Host header whom it asks\n",
);
const NOT_OURS: Refusal = (
    StatusCode::MISDIRECTED_REQUEST,
    "this server is not known by that name; ask it by the address that it listens on, or list the name under `web: {hosts: [...]}`\n",
);

impl Names {
    /// Those of the configuration, besides the address that is asked.
    pub(super) fn new(listed: &[String]) -> Self {
        let listed = listed.iter().map(|name| plain(name)).collect();
        Self { listed }
    }

    /// Whether `request`, which came to the address `local`, is for us.
    pub(super) fn check<B>(&self, request: &Request<B>, local: IpAddr) -> Result<(), Refusal> {
        let mut given = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (given.next(), given.next()) else {
            return Err(NO_HOST);
        };
        let host = host.to_str().map_err(|_| NO_HOST)?;
        // The name in an absolute target is what counts (RFC 9112 section 3.2.2); ours must be both.
        let target = request.uri().authority().map(|it| it.as_str());
        let all_ours = [Some(host), target]
            .into_iter()
            .flatten()
            .all(|name| self.is_ours(name, local));
        if all_ours { Ok(()) } else { Err(NOT_OURS) }
    }

    fn is_ours(&self, host: &str, local: IpAddr) -> bool {
        let name = plain(without_port(host));
        if self.listed.contains(&name) {
            return true;
        }
        let local = local.to_canonical();
        match name.parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                address == local || (address.is_loopback() && local.is_loopback())
            }
            Err(_) => local.is_loopback() && name == "localhost",
        }
    }
}

/// The port says nothing: a tunnel may have another one.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, port)) if is_port(port) => address,
            _ => "",
        };
    }
    match host.split_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) => "",
        None => host,
    }
}

fn is_port(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    text.is_empty() || text.strip_prefix(':').is_some_and(digits)
}

fn plain(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(hosts: &[&str], local: &str, listed: &[&str]) -> Option<u16> {
        let mut request = Request::builder().uri("/metrics");
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
        let checked = Names::new(&listed).check(&request.body(()).unwrap(), local.parse().unwrap());
        checked.err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn on_loopback_its_names_and_addresses_are_ours() {
        for host in [
            "localhost",
            "LOCALHOST.:9180",
            "127.0.0.1:9180",
            "127.0.0.53",
            "[::1]:9180",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(asked(&[host], "127.0.0.1", &[]), None, "{host}");
        }
        assert_eq!(asked(&["localhost"], "::1", &[]), None);
    }

    #[test]
    fn a_strangers_name_is_misdirected() {
        for host in [
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "192.0.2.1",
            "[::1]evil",
            "localhost:x",
            "[127.0.0.1",
            "::1",
            "a@localhost",
            "",
        ] {
            assert_eq!(asked(&[host], "127.0.0.1", &[]), Some(421), "{host}");
        }
    }

    #[test]
    fn elsewhere_only_the_address_and_what_is_listed_are_ours() {
        let listed = ["monitor.example.com", "198.51.100.7"];
        for host in ["192.0.2.1:9180", "Monitor.example.com.:1", "198.51.100.7"] {
            assert_eq!(asked(&[host], "192.0.2.1", &listed), None, "{host}");
        }
        for host in ["localhost", "127.0.0.1", "192.0.2.2", "example.com"] {
            assert_eq!(asked(&[host], "192.0.2.1", &listed), Some(421), "{host}");
        }
    }

    #[test]
    fn a_request_says_once_whom_it_asks() {
        assert_eq!(asked(&[], "127.0.0.1", &[]), Some(400));
        assert_eq!(
            asked(&["localhost", "evil.test"], "127.0.0.1", &[]),
            Some(400)
        );
        let absolute = Request::builder().uri("http://evil.test/metrics");
        let absolute = absolute.header(HOST, "localhost").body(()).unwrap();
        let checked = Names::new(&[]).check(&absolute, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(checked, Err(NOT_OURS));
    }
}
