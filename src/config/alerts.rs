//! Checks of `alerts` and `heartbeat`: how a person hears of failures, and who hears that all is well.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use countersign_providers::secret::SecretSource;
use lettre::Address as MailAddress;
use url::{Host, Url};

use super::checked::optional;
use super::names;
use super::problems::Path;
use super::raw;
use super::scalars::Checker;

/// The port of a mail server unless it is written (RFC 6409).
const SUBMISSION: u16 = 587;
/// What a webhook is sent.
const TEMPLATES: [(&str, Template); 4] = [
    ("json", Template::Json),
    ("slack", Template::Slack),
    ("ntfy", Template::Ntfy),
    ("text", Template::Text),
];
const KINDS: &str =
    "write one of webhook, smtp and command, e.g. webhook: https://hooks.example.net/x";
const URL_HINT: &str = "write https://…, or {file: /path} when the URL is a secret";

/// One way to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertChannel {
    /// A POST to a URL.
    Webhook {
        /// The URL.
        address: Address,
        /// What is sent.
        template: Template,
    },
    /// A mail.
    Smtp(SmtpSettings),
    /// A program and its arguments.
    Command(Vec<String>),
}

/// What a webhook is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Template {
    /// The alert as an object.
    #[default]
    Json,
    /// What Slack's incoming webhooks take, and those that imitate them.
    Slack,
    /// What a topic of ntfy takes.
    Ntfy,
    /// The text for people.
    Text,
}

/// A mail server, and who gets mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpSettings {
    /// Its host name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The sender's address.
    pub from: String,
    /// The addresses of those who get it; at least one.
    pub to: Vec<String>,
    /// Who logs in, and the password.
    pub login: Option<(String, SecretSource)>,
    /// A PEM file with extra roots for its TLS.
    pub trust: Option<PathBuf>,
}

/// A URL to call, or where it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// The URL, which [`Address::judge`] accepts.
    Url(Url),
    /// Whoever knows the URL may write there: it is read at each use.
    Secret(SecretSource),
}

/// Why something is no URL to call. It repeats nothing of it but its scheme.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No URL, or one without a host.
    #[error("this is not a URL with a host")]
    NoUrl,
    /// A part that is not wanted.
    #[error("the URL has neither a user name nor a password nor a fragment")]
    Extra,
    /// Others could read it.
    #[error("plain http is refused but on loopback: anybody on the way could read it; write https")]
    PlainHttp,
    /// Another scheme.
    #[error("the scheme of the URL is https, and not {0}")]
    Scheme(String),
}

impl AlertChannel {
    /// What people call it, without what may be a secret.
    pub fn shown(&self) -> String {
        match self {
            Self::Webhook { address, .. } => format!("webhook {}", address.shown()),
            Self::Smtp(smtp) => format!("mail server {}:{}", smtp.host, smtp.port),
            Self::Command(argv) => {
                format!("command {}", argv.first().map_or("", String::as_str))
            }
        }
    }
}

impl Address {
    /// Parses a URL that may be called: https, or http on loopback.
    pub fn judge(text: &str) -> Result<Url, AddressError> {
        let url = Url::parse(text).ok().filter(Url::has_host);
        let url = url.ok_or(AddressError::NoUrl)?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(AddressError::Extra);
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if is_loopback(url.host()) => Ok(url),
            "http" => Err(AddressError::PlainHttp),
            other => Err(AddressError::Scheme(other.to_owned())),
        }
    }

    /// Where the URL is, when it is a secret.
    pub fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::Url(_) => None,
            Self::Secret(source) => Some(source),
        }
    }

    /// Which one, without what may be a secret: the host, or where the URL is.
    pub fn shown(&self) -> String {
        match self {
            Self::Url(url) => url.host_str().unwrap_or_default().to_owned(),
            Self::Secret(source) => source.describe(),
        }
    }
}

/// Without the path and the query, which may be a secret.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown())
    }
}

impl SmtpSettings {
    /// Whether nobody else can listen on the way to the server.
    pub fn is_on_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>().ok();
        self.host == "localhost" || address.is_some_and(|it| it.is_loopback())
    }
}

fn is_loopback(host: Option<Host<&str>>) -> bool {
    match host {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Checker {
    /// The ways to a person that are right, in the order of the file.
    pub(super) fn alerts(&mut self, at: &Path<'_>, alerts: &[raw::Alert]) -> Vec<AlertChannel> {
        let alerts = alerts.iter().enumerate();
        alerts
            .filter_map(|(nth, alert)| self.alert(&at.index(nth), alert))
            .collect()
    }

    fn alert(&mut self, at: &Path<'_>, alert: &raw::Alert) -> Option<AlertChannel> {
        self.problems.unknown_keys::<raw::Alert>(at, &alert.unknown);
        match (&alert.webhook, &alert.smtp, &alert.command) {
            (Some(webhook), None, None) => self.webhook(&at.key("webhook"), webhook),
            (None, Some(smtp), None) => {
                let settings = self.smtp(&at.key("smtp"), smtp);
                settings.map(AlertChannel::Smtp)
            }
            (None, None, Some(argv)) => {
                let argv = self.argv(&at.key("command"), argv);
                argv.map(AlertChannel::Command)
            }
            (None, None, None) if !alert.unknown.0.is_empty() => None,
            _ => {
                let message = "exactly one of webhook, smtp and command says how a person hears";
                self.problems.value(at, message, KINDS);
                None
            }
        }
    }

    fn webhook(&mut self, at: &Path<'_>, webhook: &raw::Webhook) -> Option<AlertChannel> {
        let form = match webhook {
            raw::Webhook::Url(address) => {
                let address = self.address_of(at, address)?;
                let template = Template::default();
                return Some(AlertChannel::Webhook { address, template });
            }
            raw::Webhook::Form(form) => form,
        };
        self.problems
            .unknown_keys::<raw::WebhookForm>(at, &form.unknown);
        if form.url.is_none() {
            self.problems.missing(at, "url", URL_HINT);
        }
        let address = (form.url.as_ref()).and_then(|it| self.address_of(&at.key("url"), it));
        let template =
            (form.template.as_ref()).map(|it| self.word(&at.key("template"), it, &TEMPLATES));
        Some(AlertChannel::Webhook {
            address: address?,
            template: optional(template)?.unwrap_or_default(),
        })
    }

    /// A URL to call, or where it is.
    pub(super) fn address_of(&mut self, at: &Path<'_>, address: &raw::Address) -> Option<Address> {
        match address {
            raw::Address::Secret(form) => self.secret_form(at, form).map(Address::Secret),
            raw::Address::Url(text) => match Address::judge(text) {
                Ok(url) => Some(Address::Url(url)),
                Err(error) => {
                    self.problems.value(at, error.to_string(), URL_HINT);
                    None
                }
            },
        }
    }

    fn smtp(&mut self, at: &Path<'_>, smtp: &raw::Smtp) -> Option<SmtpSettings> {
        self.problems.unknown_keys::<raw::Smtp>(at, &smtp.unknown);
        let required = [
            (
                "server",
                smtp.server.is_some(),
                "write e.g. server: \"mail.example.com:587\"",
            ),
            (
                "from",
                smtp.from.is_some(),
                "write the sender's address, e.g. countersign@example.com",
            ),
            (
                "to",
                smtp.to.is_some(),
                "write who gets it, e.g. [ops@example.com]",
            ),
        ];
        self.problems.required(at, &required);
        let server = (smtp.server.as_ref()).and_then(|it| self.mail_server(&at.key("server"), it));
        let from = (smtp.from.as_ref()).and_then(|it| self.mail_address(&at.key("from"), it));
        let to = (smtp.to.as_ref())
            .and_then(|it| self.each(&at.key("to"), it, "mail address", Self::mail_address));
        let login = self.login(at, smtp);
        let trust = (smtp.trust.as_ref()).map(|it| self.path(&at.key("trust"), it));
        let (host, port) = server?;
        Some(SmtpSettings {
            host,
            port,
            from: from?,
            to: to?,
            login: optional(login)?,
            trust: optional(trust)?,
        })
    }

    fn login(&mut self, at: &Path<'_>, smtp: &raw::Smtp) -> Option<Option<(String, SecretSource)>> {
        let hint = "a server that wants a login wants both; leave both out where it wants none";
        match (&smtp.username, &smtp.password) {
            (None, None) => None,
            (Some(_), None) => {
                self.problems.missing(at, "password", hint);
                Some(None)
            }
            (None, Some(_)) => {
                self.problems.missing(at, "username", hint);
                Some(None)
            }
            (Some(username), Some(password)) => {
                let username = self.text(&at.key("username"), username);
                let password = self.secret(&at.key("password"), password);
                Some(username.zip(password))
            }
        }
    }

    /// `host`, `host:port` or `[address]:port`.
    fn mail_server(&mut self, at: &Path<'_>, text: &str) -> Option<(String, u16)> {
        let parsed = parse_server(text);
        if parsed.is_none() {
            let hint = match text.contains("://") {
                true => "write host and port only, e.g. \"mail.example.com:587\"",
                false => {
                    "write host and port, e.g. \"mail.example.com:587\" or \"[2001:db8::25]:465\""
                }
            };
            self.problems
                .value(at, format!("`{text}` is not a mail server"), hint);
        }
        parsed
    }

    fn mail_address(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let address = text.parse::<MailAddress>().ok();
        if address.is_none() {
            self.problems.value(
                at,
                format!("`{text}` is not a mail address"),
                "write the address alone, e.g. ops@example.com",
            );
        }
        address.map(|address| address.to_string())
    }
}

fn parse_server(text: &str) -> Option<(String, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        return Some((address.to_string(), parse_port(port)?));
    }
    let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
    let is_host = host.parse::<IpAddr>().is_ok() || names::host(host).is_ok();
    is_host.then_some((host.to_owned(), parse_port(port)?))
}

/// `:587`, or nothing.
fn parse_port(text: &str) -> Option<u16> {
    let Some(port) = text.strip_prefix(':') else {
        return text.is_empty().then_some(SUBMISSION);
    };
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|port| is_number && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_called() {
        for good in [
            "https://hooks.example.net/x?y",
            "http://127.0.0.1:8080/x",
            "http://[::1]/",
            "http://localhost:1/",
        ] {
            assert!(Address::judge(good).is_ok(), "{good}");
        }
        for bad in [
            "http://hooks.example.net/x",
            "http://127.0.0.1.example.net/",
            "https://user@hooks.example.net/",
            "https://hooks.example.net/#x",
            "ftp://127.0.0.1/",
            "hooks.example.net",
        ] {
            assert!(Address::judge(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_never_shown_whole() {
        let url = Address::judge("https://hooks.example.net/T0/hunter2?k=hunter2").unwrap();
        let shown = format!("{:?}", Address::Url(url));
        assert_eq!(shown, "Address(hooks.example.net)");
    }

    #[test]
    fn mail_servers_have_a_port_of_their_own_or_that_of_submission() {
        let server = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(parse_server("mail.test"), server("mail.test", 587));
        assert_eq!(parse_server("mail.test:25"), server("mail.test", 25));
        assert_eq!(parse_server("192.0.2.25:465"), server("192.0.2.25", 465));
        assert_eq!(parse_server("[2001:db8::25]"), server("2001:db8::25", 587));
        for bad in [
            "",
            ":25",
            "mail.test:",
            "mail.test:0",
            "a b",
            "[::1",
            "smtp://mail.test",
        ] {
            assert_eq!(parse_server(bad), None, "{bad}");
        }
    }
}
