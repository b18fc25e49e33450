//! Alerts by mail: plain text, handed to one server (RFC 6409), over TLS unless the server is this machine.

use std::time::SystemTime;

use async_trait::async_trait;
use countersign_providers::tls;
use countersign_providers::words::printable;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::alert::Message;
use super::channel::Carrier;
use super::outbox::DEADLINE;
use crate::clock::Clock;
use crate::config::SmtpSettings;

/// TLS from the start (RFC 8314 section 3.3); on every other port it begins with STARTTLS.
const IMPLICIT_TLS: u16 = 465;
/// More of a reason helps nobody.
const REASON: usize = 300;

/// Hands mail to one server.
pub(super) struct Smtp {
    pub(super) settings: SmtpSettings,
    pub(super) clock: Clock,
}

#[async_trait]
impl Carrier for Smtp {
    async fn carry(&self, message: Message<'_>) -> Result<(), String> {
        let mail = mail(&self.settings, message)?;
        let transport = self.transport().await?;
        let sent = transport.send(mail).await;
        sent.map(drop).map_err(|error| reason(&error))
    }
}

impl Smtp {
    async fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
        let settings = &self.settings;
        let from: Address = parse(&settings.from)?;
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(settings.host.as_str())
                .port(settings.port)
                .tls(security(settings)?)
                .timeout(Some(DEADLINE))
                .hello_name(ClientId::Domain(from.domain().to_owned()));
        if let Some((username, password)) = &settings.login {
            let password = password.read(&self.clock).await;
            let password = password.map_err(|error| error.to_string())?;
            let password = password.expose_text().map_err(|error| error.to_string())?;
            let login = Credentials::new(username.clone(), password.to_owned());
            builder = builder.credentials(login);
        }
        Ok(builder.build())
    }
}

/// Never in the clear over a network; on this machine only with a root of its own to trust.
fn security(settings: &SmtpSettings) -> Result<Tls, String> {
    let is_implicit = settings.port == IMPLICIT_TLS;
    if settings.is_on_loopback() && settings.trust.is_none() && !is_implicit {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.trust {
        let unusable = |why: String| format!("the `trust` {}: {why}", path.display());
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        // Says what is wrong with it.
        tls::client(Some(&pem), true).map_err(|error| unusable(error.to_string()))?;
        let root = Certificate::from_pem(&pem).map_err(|error| unusable(error.to_string()))?;
        parameters = parameters.add_root_certificate(root);
    }
    let parameters = parameters.build().map_err(|error| reason(&error))?;
    Ok(match is_implicit {
        true => Tls::Wrapper(parameters),
        false => Tls::Required(parameters),
    })
}

/// The same mail each time, so that a repetition is recognised by its Message-ID (RFC 5322 section 3.6.4).
fn mail(settings: &SmtpSettings, message: Message<'_>) -> Result<Mail, String> {
    let from: Address = parse(&settings.from)?;
    // With others it is another mail than without.
    let others = match message.more.last() {
        Some(last) => format!(".{}.{}", message.more.len(), last.id),
        None => String::new(),
    };
    let id = format!("<{}{others}@{}>", message.first.id, from.domain());
    let mut mail = Mail::builder()
        .from(Mailbox::new(Some("Countersign".to_owned()), from))
        .subject(message.subject())
        .date(SystemTime::from(message.first.at))
        .message_id(Some(id))
        // RFC 3834 section 5: nobody on holiday answers.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(ContentType::TEXT_PLAIN);
    for to in &settings.to {
        mail = mail.to(Mailbox::new(None, parse(to)?));
    }
    let body = message.text();
    mail.body(body).map_err(|error| error.to_string())
}

fn parse(address: &str) -> Result<Address, String> {
    address
        .parse()
        .map_err(|error| format!("the mail address {address}: {error}"))
}

/// What the server or the system said; never the password, which nobody repeats.
fn reason(error: &lettre::transport::smtp::Error) -> String {
    printable(&error.to_string(), REASON)
}

#[cfg(test)]
mod tests {
    use super::super::alert::Event;
    use super::super::alert::testing::alert;
    use super::*;

    fn settings(host: &str, port: u16) -> SmtpSettings {
        SmtpSettings {
            host: host.to_owned(),
            port,
            from: "cs@example.test".to_owned(),
            to: vec!["a@example.test".to_owned(), "b@example.test".to_owned()],
            login: None,
            trust: None,
        }
    }

    fn formatted(second: i64) -> String {
        let alert = alert("web", Event::Failure, second);
        let message = Message {
            first: &alert,
            more: &[],
        };
        let mail = mail(&settings("mail.test", 587), message).unwrap();
        String::from_utf8(mail.formatted()).unwrap()
    }

    #[test]
    fn a_repetition_is_the_same_mail() {
        let first = formatted(7);
        assert_eq!(first, formatted(7));
        assert!(first.contains("Message-ID: <web.failure.7@example.test>\r\n"));
        assert!(first.contains("Date: Thu, 01 Jan 1970 00:00:07 +0000\r\n"));
        assert!(first.contains("Auto-Submitted: auto-generated\r\n"));
        assert!(first.contains("Subject: countersign: web needs you\r\n"));
        assert!(first.contains("To: a@example.test, b@example.test\r\n"));
    }

    #[test]
    fn only_this_machine_is_told_in_the_clear() {
        let tls = |host, port| security(&settings(host, port)).unwrap();
        assert!(matches!(tls("127.0.0.1", 587), Tls::None));
        assert!(matches!(tls("localhost", 25), Tls::None));
        assert!(matches!(tls("mail.test", 25), Tls::Required(_)));
        assert!(matches!(tls("mail.test", 587), Tls::Required(_)));
        assert!(matches!(tls("mail.test", 465), Tls::Wrapper(_)));
        assert!(matches!(tls("127.0.0.1", 465), Tls::Wrapper(_)));
    }
}
