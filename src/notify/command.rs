//! Alerts by a program of the person's own: the text on its standard input, the parts in its environment.

use std::time::Duration;

use async_trait::async_trait;

use super::alert::{Message, time};
use super::channel::Carrier;
use crate::clock::Clock;
use crate::deliver::command::{Given, run_with};

/// How long it may take.
const DEADLINE: Duration = super::outbox::DEADLINE;

/// Runs one program.
pub(super) struct Command {
    pub(super) argv: Vec<String>,
    pub(super) clock: Clock,
}

#[async_trait]
impl Carrier for Command {
    async fn carry(&self, message: Message<'_>) -> Result<(), String> {
        let environment = environment(message);
        let text = message.text();
        let given = Given {
            environment: &environment,
            input: text.as_bytes(),
        };
        let ran = run_with(&self.argv, &given, &self.clock, DEADLINE).await;
        ran.map_err(|error| error.to_string())
    }
}

/// What `config/example.yaml` says that it gets; a variable whose value is not known is not there.
fn environment(message: Message<'_>) -> Vec<(&'static str, String)> {
    let alert = message.first;
    let mut variables = vec![
        ("COUNTERSIGN_SUBJECT", message.subject()),
        ("COUNTERSIGN_ID", alert.id.clone()),
        ("COUNTERSIGN_EVENT", alert.event.as_str().to_owned()),
        ("COUNTERSIGN_CERTIFICATE", alert.certificate.to_string()),
        ("COUNTERSIGN_NAMES", alert.names.join(" ")),
        ("COUNTERSIGN_SENTENCE", alert.sentence.clone()),
    ];
    let whose = alert.whose.map(|whose| whose.as_str().to_owned());
    variables.extend(whose.map(|whose| ("COUNTERSIGN_WHOSE", whose)));
    variables.extend(
        alert
            .not_after
            .map(|at| ("COUNTERSIGN_NOT_AFTER", time(at))),
    );
    variables.extend(alert.retry_at.map(|at| ("COUNTERSIGN_RETRY_AT", time(at))));
    variables
}
