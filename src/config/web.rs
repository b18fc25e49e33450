//! Checks of `web`.

use std::net::IpAddr;

use super::checked::WebSettings;
use super::problems::Path;
use super::raw;
use super::scalars::Checker;

impl Checker {
    pub(super) fn web(&mut self, at: &Path<'_>, web: &raw::Web) -> Option<WebSettings> {
        self.problems.unknown_keys::<raw::Web>(at, &web.unknown);
        if web.listen.is_none() {
            let hint = "write where it listens, e.g. listen: 127.0.0.1:9180";
            self.problems.missing(at, "listen", hint);
        }
        let listen = (web.listen.as_ref()).and_then(|it| self.socket(&at.key("listen"), it));
        let hosts = web.hosts.as_ref().map_or(Some(Vec::new()), |it| {
            let what = "name or address";
            self.each(&at.key("hosts"), it, what, Self::name_or_address)
        });
        Some(WebSettings {
            listen: listen?,
            hosts: hosts?,
        })
    }

    fn name_or_address(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        match text.parse::<IpAddr>() {
            Ok(address) => Some(address.to_string()),
            Err(_) => self.host(at, text).map(|name| name.to_string()),
        }
    }
}
