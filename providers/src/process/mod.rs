//! A DNS host behind a program of somebody's own: a process that speaks the protocol of `providers/PROTOCOL.md` over its
//! standard input and output.
//!
//! What a plug-in does wrong harms that plug-in alone: its lines are capped, its answers are judged against what was
//! asked, and it is killed and started anew, each time after a longer pause, when it breaks the protocol.

mod answers;
mod attendant;
mod child;
mod descriptor;
mod lines;
mod log;
mod start;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::record::{Change, DnsName, RrSet, Zone};
use crate::secret::SecretSource;
use crate::{
    Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Settled, Traits,
};

use answers::{Applied, Observed, SettledAnswer, Zones};
use child::Connection;
pub(crate) use descriptor::Descriptor;
pub(crate) use lines::{Lines, Next};
use start::Starter;
pub(crate) use wire::MAX_LINE;

/// A plug-in that has not said yet what it can do is asked for one change after another.
const BEFORE_IT_SAID: Traits = Traits {
    model: RecordModel::Set,
    batch: 1,
    rate: None,
    propagation: Duration::from_secs(120),
};

/// What the configuration says of a plug-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The program, by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// What it is told of the configuration when it starts.
    pub config: Map<String, Value>,
    /// What it is told besides, read anew at each start.
    pub secrets: BTreeMap<String, SecretSource>,
}

impl Settings {
    /// What sentences call the plug-in.
    fn program(&self) -> &str {
        self.command.first().map_or("(none)", String::as_str)
    }
}

/// A DNS host behind a program.
pub struct Process {
    starter: Starter,
    /// As the plug-in said when it was started last.
    traits: Mutex<Traits>,
}

impl Process {
    /// The plug-in of `settings`; nothing is started before the first verb.
    pub fn new(settings: Settings) -> Self {
        Self {
            starter: Starter::new(settings),
            traits: Mutex::new(BEFORE_IT_SAID),
        }
    }

    /// The answer of the running plug-in, which is started if there is none.
    async fn ask<A: DeserializeOwned>(
        &self,
        connection: &Arc<Connection>,
        method: &'static str,
        params: &impl Serialize,
        context: &Context,
    ) -> Result<A, ProviderError> {
        let clock = &context.clock;
        context.turn(self.starter.program()).await?;
        let asked = clock.elapsed();
        let patience = clock.until(context.deadline);
        let answer = connection.call(method, params, clock, patience).await;
        let elapsed_ms = (clock.elapsed() - asked).as_secs_f64() * 1_000.0;
        let program = self.starter.program();
        tracing::trace!(program, method, ok = answer.is_ok(), elapsed_ms, "plug-in");
        match answer {
            Ok(answer) => serde_json::from_value(answer).map_err(|error| {
                let what = format!("answers {method} with something else: {error}");
                connection.broke(&what)
            }),
            Err(error) => {
                match error.kind {
                    // The next one to start reads the secrets anew.
                    ErrorKind::Auth => self.starter.retire(connection),
                    ErrorKind::RateLimited { after: Some(after) } => {
                        context.meter.pause(clock, after);
                    }
                    _ => {}
                }
                Err(error)
            }
        }
    }

    async fn connection(&self, context: &Context) -> Result<Arc<Connection>, ProviderError> {
        let connection = self.starter.connection(context).await?;
        let traits = connection.descriptor().traits;
        *self.traits.lock().unwrap_or_else(PoisonError::into_inner) = traits;
        Ok(connection)
    }
}

#[async_trait]
impl Provider for Process {
    fn traits(&self) -> Traits {
        *self.traits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        let connection = self.connection(context).await?;
        let params = wire::ZonesParams { name };
        let zones: Zones = self.ask(&connection, "zones", &params, context).await?;
        zones.judged(name).map_err(|what| connection.broke(&what))
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.connection(context).await?;
        let params = wire::ObserveParams { zone, names };
        let seen: Observed = self.ask(&connection, "observe", &params, context).await?;
        seen.judged(names).map_err(|what| connection.broke(&what))
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        believed: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        if changes.is_empty() {
            return Ok(Receipt::default());
        }
        let connection = self.connection(context).await?;
        let params = wire::ApplyParams::new(zone, changes, believed);
        let applied: Applied = self.ask(&connection, "apply", &params, context).await?;
        applied
            .judged(changes.len())
            .map_err(|what| connection.broke(&what))
    }

    async fn settle(&self, receipt: &str, context: &Context) -> Result<Settled, ProviderError> {
        let connection = self.connection(context).await?;
        if !connection.descriptor().settles {
            return Ok(Settled::Unknown);
        }
        let params = wire::SettleParams { receipt };
        let answer: SettledAnswer = self.ask(&connection, "settle", &params, context).await?;
        Ok(answer.settled.into())
    }
}
