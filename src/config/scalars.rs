//! Checks of single values that several parts of the configuration share.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path as FilePath, PathBuf};

use countersign_providers::record::DnsName;
use countersign_providers::secret::SecretSource;

use crate::engine::key::KeyType;

use super::names;
use super::problems::{Path, Problems, nearest_hint};
use super::raw::{Secret, SecretForm};

/// The four ways to say where a secret is.
const SECRET_FORMS: &str = "write where it is: {file: /path}, {env: NAME}, {credential: NAME} (systemd) or {command: [program, argument]}";
/// Keys that a later version makes.
const LATER_KEYS: [&str; 3] = ["rsa2048", "rsa3072", "rsa4096"];
/// Keys that this version makes.
const KEYS: [(&str, KeyType); 2] = [("p256", KeyType::P256), ("p384", KeyType::P384)];

/// What the checks of values need: where relative paths begin, and where to say what is wrong.
pub(super) struct Checker {
    /// The directory of each file, by its number.
    pub(super) bases: Vec<PathBuf>,
    pub(super) problems: Problems,
}

impl Checker {
    /// A text that is there and not empty.
    pub(super) fn text(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        if text.trim().is_empty() {
            self.problems
                .value(at, "a text is wanted here, and this is empty", "");
            return None;
        }
        Some(text.to_owned())
    }

    /// One of a fixed set of words.
    pub(super) fn word<T: Copy>(
        &mut self,
        at: &Path<'_>,
        text: &str,
        known: &[(&str, T)],
    ) -> Option<T> {
        let value = known.iter().find(|(word, _)| *word == text).map(|it| it.1);
        if value.is_none() {
            let words: Vec<&str> = known.iter().map(|it| it.0).collect();
            self.problems.value(
                at,
                format!("`{text}` is none of {}", words.join(", ")),
                nearest_or_nothing(text, &words),
            );
        }
        value
    }

    /// The kind of a certificate's key.
    pub(super) fn key_type(&mut self, at: &Path<'_>, text: &str) -> Option<KeyType> {
        if LATER_KEYS.contains(&text) {
            self.problems.later(
                at,
                &format!("keys of the kind {text}"),
                "write p256 or p384",
            );
            return None;
        }
        self.word(at, text, &KEYS)
    }

    /// A path; a relative one begins at the directory of the file that it stands in.
    pub(super) fn path(&mut self, at: &Path<'_>, text: &str) -> Option<PathBuf> {
        let text = self.text(at, text)?;
        if text.contains('\0') {
            self.problems.value(at, "a path has no NUL in it", "");
            return None;
        }
        let base = self.bases.get(at.file());
        Some(base.map_or_else(|| PathBuf::from(&text), |base| base.join(&text)))
    }

    /// The path of a directory, without `.` and without a slash at its end, so that two ways to write one directory
    /// are found out.
    pub(super) fn directory(&mut self, at: &Path<'_>, text: &str) -> Option<PathBuf> {
        let path = self.path(at, text)?;
        if FilePath::new(text)
            .components()
            .any(|it| it == Component::ParentDir)
        {
            self.problems.value(
                at,
                format!("the directory `{text}` has `..` in it"),
                "write the path without it, so that it means one place only",
            );
            return None;
        }
        Some(path.components().collect())
    }

    /// Permission bits in octal.
    pub(super) fn mode(&mut self, at: &Path<'_>, text: &str) -> Option<u32> {
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|_| octal);
        match mode {
            Some(mode) if mode > 0o777 => {
                self.problems.value(
                    at,
                    format!("the mode `{text}` has more than permission bits"),
                    "write three digits for user, group and others, e.g. \"0640\"",
                );
                None
            }
            Some(mode) if mode & 0o400 == 0 => {
                self.problems.value(
                    at,
                    format!("with the mode `{text}` its owner could not read the file"),
                    "write a mode such as \"0640\"",
                );
                None
            }
            Some(mode) => Some(mode),
            None => {
                self.problems.value(
                    at,
                    format!("`{text}` is not a mode in octal"),
                    "write three digits from 0 to 7 for user, group and others, with a 0 in front, e.g. \"0640\"",
                );
                None
            }
        }
    }

    /// An address without a port.
    pub(super) fn address(&mut self, at: &Path<'_>, text: &str) -> Option<IpAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            let hint = match text.parse::<SocketAddr>() {
                Ok(_) => "leave the port out here",
                Err(_) => "write an IPv4 or IPv6 address, e.g. 192.0.2.53 or \"2001:db8::53\"",
            };
            self.problems
                .value(at, format!("`{text}` is not an IP address"), hint);
        }
        address
    }

    /// An address with a port.
    pub(super) fn socket(&mut self, at: &Path<'_>, text: &str) -> Option<SocketAddr> {
        let socket = text.parse().ok().filter(|it: &SocketAddr| it.port() != 0);
        if socket.is_none() {
            self.problems.value(
                at,
                format!("`{text}` is not an IP address with a port"),
                "write both, e.g. \"203.0.113.5:53\" or \"[2001:db8::5]:53\"",
            );
        }
        socket
    }

    /// A host name.
    pub(super) fn host(&mut self, at: &Path<'_>, text: &str) -> Option<DnsName> {
        names::host(text)
            .map_err(|bad| self.problems.value(at, bad.message, bad.hint))
            .ok()
    }

    /// `host`, `host:port`, `address`, `address:port` or `[address]:port`.
    pub(super) fn server(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        if is_server(text) {
            return Some(text.to_owned());
        }
        let hint = if text.contains("://") {
            "write host and port only, e.g. \"ns1.example.com:53\""
        } else {
            "write a host name or an address, with a port if it is not 53, e.g. \"192.0.2.53:53\" or \"[2001:db8::53]:53\""
        };
        self.problems
            .value(at, format!("`{text}` is not a server"), hint);
        None
    }

    /// A program and its arguments.
    pub(super) fn argv(&mut self, at: &Path<'_>, argv: &[String]) -> Option<Vec<String>> {
        if argv.first().is_none_or(|program| program.trim().is_empty()) {
            self.problems.value(
                at,
                "a program and its arguments are wanted here, and there is no program",
                "write e.g. [systemctl, reload, nginx]",
            );
            return None;
        }
        if argv.iter().any(|argument| argument.contains('\0')) {
            self.problems.value(at, "an argument has no NUL in it", "");
            return None;
        }
        Some(argv.to_vec())
    }

    /// Where a secret comes from.
    pub(super) fn secret(&mut self, at: &Path<'_>, secret: &Secret) -> Option<SecretSource> {
        match secret {
            Secret::Bare => {
                self.problems.value(
                    at,
                    "a secret is not written into the configuration",
                    SECRET_FORMS,
                );
                None
            }
            Secret::Form(form) => self.secret_form(at, form),
        }
    }

    pub(super) fn secret_form(&mut self, at: &Path<'_>, form: &SecretForm) -> Option<SecretSource> {
        let given = usize::from(form.file.is_some())
            + usize::from(form.env.is_some())
            + usize::from(form.credential.is_some())
            + usize::from(form.command.is_some())
            + form.unknown.0.len();
        // Keys that nobody knows are not named: one may be the secret.
        if given != 1 || !form.unknown.0.is_empty() {
            self.problems.value(
                at,
                "exactly one of file, env, credential and command says where a secret is",
                SECRET_FORMS,
            );
            return None;
        }
        if let Some(path) = &form.file {
            return self.path(&at.key("file"), path).map(SecretSource::File);
        }
        if let Some(name) = &form.env {
            return self.variable(&at.key("env"), name);
        }
        if let Some(name) = &form.credential {
            return self.credential(&at.key("credential"), name);
        }
        let command = form.command.as_ref()?;
        self.argv(&at.key("command"), command)
            .map(SecretSource::Command)
    }

    fn variable(&mut self, at: &Path<'_>, name: &str) -> Option<SecretSource> {
        if name.is_empty() || name.contains(['=', '\0', '$']) {
            self.problems.value(
                at,
                format!("`{name}` is not the name of an environment variable"),
                "write the name alone, e.g. TSIG_SECRET",
            );
            return None;
        }
        Some(SecretSource::Env(name.to_owned()))
    }

    fn credential(&mut self, at: &Path<'_>, name: &str) -> Option<SecretSource> {
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            self.problems.value(
                at,
                format!("`{name}` is not the name of a systemd credential"),
                "write the name that LoadCredential= in the unit gives it",
            );
            return None;
        }
        Some(SecretSource::Credential(name.to_owned()))
    }
}

fn nearest_or_nothing(text: &str, words: &[&str]) -> String {
    let hint = nearest_hint(text, words);
    // The message lists them already.
    if hint.starts_with("did you mean") {
        hint
    } else {
        format!("write {}", words.join(" or "))
    }
}

fn is_server(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return address.parse::<Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host = host.parse::<IpAddr>().is_ok() || names::host(host).is_ok();
    host && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_five_forms() {
        for good in [
            "192.0.2.53",
            "192.0.2.53:5353",
            "2001:db8::53",
            "[2001:db8::53]",
            "[2001:db8::53]:53",
            "ns1.example.com",
            "ns1.example.com:53",
            "localhost:1",
        ] {
            assert!(is_server(good), "{good}");
        }
        for bad in [
            "",
            ":53",
            "host:",
            "host:0",
            "host:65536",
            "host:+53",
            "http://host",
            "[2001:db8::53",
            "[::1]53",
            "[192.0.2.1]:53",
            "192.0.2.256",
            "a b",
        ] {
            assert!(!is_server(bad), "{bad}");
        }
    }

    #[test]
    fn modes_are_octal_permission_bits() {
        let mode = |text: &str| {
            let mut checker = Checker {
                bases: Vec::new(),
                problems: Problems::default(),
            };
            checker.mode(&Path::TOP, text)
        };
        assert_eq!(mode("0640"), Some(0o640));
        assert_eq!(mode("600"), Some(0o600));
        for bad in [
            "",
            "0",
            "64",
            "0o640",
            "0680",
            "rw-r-----",
            "4755",
            "00640",
            "-640",
            "0040",
        ] {
            assert_eq!(mode(bad), None, "{bad}");
        }
    }
}
