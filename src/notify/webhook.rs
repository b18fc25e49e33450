//! Alerts by a POST: as an object of ours, or as Slack, ntfy or a reader of plain text wants them.

use async_trait::async_trait;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::{Value, json};

use super::alert::{Alert, Event, Message, time};
use super::channel::Carrier;
use super::http;
use crate::clock::Clock;
use crate::config::{Address, Template};

/// Rises when a field is changed or removed.
const SCHEMA: u32 = 1;
/// ntfy turns a longer message into a file.
const NTFY_MESSAGE: usize = 4_000;
/// Slack cuts off what is longer than this many characters.
const SLACK_MESSAGE: usize = 30_000;
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Sends to one URL.
pub(super) struct Webhook {
    pub(super) address: Address,
    pub(super) template: Template,
    pub(super) clock: Clock,
}

#[async_trait]
impl Carrier for Webhook {
    async fn carry(&self, message: Message<'_>) -> Result<(), String> {
        let post = Post::of(self.template, message);
        http::call(&self.address, &self.clock, |client, url| {
            let mut request = client.post(url).header(CONTENT_TYPE, post.kind);
            for (name, value) in post.headers {
                request = request.header(name, value);
            }
            request.body(post.body)
        })
        .await
    }
}

/// What is sent.
struct Post {
    kind: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Post {
    fn of(template: Template, message: Message<'_>) -> Self {
        let (kind, headers, body) = match template {
            Template::Json => (JSON, Vec::new(), document(message).to_string()),
            Template::Slack => {
                let text = cut(escape(&message.text()), SLACK_MESSAGE);
                let text = format!("*{}*\n{text}", escape(&message.subject()));
                (JSON, Vec::new(), json!({ "text": text }).to_string())
            }
            Template::Ntfy => (PLAIN, ntfy(message), cut(message.text(), NTFY_MESSAGE)),
            Template::Text => {
                let text = format!("{}\n\n{}", message.subject(), message.text());
                (PLAIN, Vec::new(), text)
            }
        };
        Self {
            kind,
            headers,
            body,
        }
    }
}

/// An alert as an object, schema 1: fields may be added, never changed.
#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    event: Event,
    at: String,
    certificate: &'a str,
    names: &'a [String],
    sentence: &'a str,
    whose: Option<&'static str>,
    not_after: Option<String>,
    retry_at: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    #[serde(flatten)]
    first: Body<'a>,
    /// Further alerts, where too many wait for one message each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<Body<'a>>,
}

fn document(message: Message<'_>) -> Value {
    json!(Document {
        schema: SCHEMA,
        first: body(message.first),
        more: message.more.iter().map(body).collect(),
    })
}

fn body(alert: &Alert) -> Body<'_> {
    Body {
        id: &alert.id,
        event: alert.event,
        at: time(alert.at),
        certificate: alert.certificate.as_str(),
        names: &alert.names,
        sentence: &alert.sentence,
        whose: alert.whose.map(|whose| whose.as_str()),
        not_after: alert.not_after.map(time),
        retry_at: alert.retry_at.map(time),
    }
}

/// https://docs.ntfy.sh/publish/: title, priority (5 is the highest, 3 the usual), and tags, some of which show as
/// symbols. Names of certificates are plain letters, so the title is.
fn ntfy(message: Message<'_>) -> Vec<(&'static str, String)> {
    let (priority, tag) = match message.first.event {
        Event::Failure => ("4", "warning"),
        Event::HalfLife => ("5", "rotating_light"),
        Event::Recovery => ("3", "white_check_mark"),
    };
    vec![
        ("Title", message.subject()),
        ("Priority", priority.to_owned()),
        ("Tags", tag.to_owned()),
    ]
}

/// Slack's own three: without them nobody's text can mention a channel or hide a link.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// At most so many bytes of `text`, at the end of a character.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::alert::testing::alert;
    use super::*;

    fn post(template: Template, alert: &Alert) -> Post {
        let message = Message {
            first: alert,
            more: &[],
        };
        Post::of(template, message)
    }

    #[test]
    fn the_object_is_the_contract() {
        let post = post(Template::Json, &alert("web", Event::HalfLife, 0));
        let body: Value = serde_json::from_str(&post.body).unwrap();
        assert_eq!(
            body,
            json!({
                "schema": 1,
                "id": "web.half-life.0",
                "event": "half-life",
                "at": "1970-01-01T00:00:00Z",
                "certificate": "web",
                "names": ["www.example.test", "*.example.test"],
                "sentence": "provider office: REFUSED",
                "whose": "you",
                "not_after": "1970-01-02T00:00:00Z",
                "retry_at": "1970-01-01T01:00:00Z",
            })
        );
    }

    #[test]
    fn many_are_one_object_with_the_others_in_it() {
        let (first, more) = (alert("a", Event::Failure, 0), alert("b", Event::Failure, 1));
        let message = Message {
            first: &first,
            more: &[more],
        };
        let body = document(message);
        assert_eq!(body["certificate"], "a");
        assert_eq!(body["more"][0]["certificate"], "b");
    }

    #[test]
    fn text_of_others_mentions_nobody_in_slack() {
        let mut alert = alert("web", Event::Failure, 0);
        alert.sentence = "<!channel> & <https://evil.test|here>".to_owned();
        let post = post(Template::Slack, &alert);
        let body: Value = serde_json::from_str(&post.body).unwrap();
        let text = body["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt; &amp; &lt;https"), "{text}");
        assert!(text.starts_with("*countersign: web needs you*"), "{text}");
        assert_eq!(post.kind, JSON);
    }

    #[test]
    fn ntfy_gets_a_title_a_priority_and_a_short_text() {
        let mut alert = alert("web", Event::Failure, 0);
        alert.sentence = "ü".repeat(5_000);
        let post = post(Template::Ntfy, &alert);
        let header = |name| {
            post.headers
                .iter()
                .find(|it| it.0 == name)
                .unwrap()
                .1
                .as_str()
        };
        assert_eq!(header("Title"), "countersign: web needs you");
        assert_eq!((header("Priority"), header("Tags")), ("4", "warning"));
        assert!(post.body.len() <= 4_096, "{}", post.body.len());
        assert!(post.body.starts_with("The certificate web needs you."));
    }
}
