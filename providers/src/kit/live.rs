//! A zone of a real host: names that nobody else uses, and another instance of the plug-in for somebody else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Clock, later};
use crate::record::{Change, DnsName, NameError, Verb, Zone};
use crate::{Context, Provider, RecordModel};

use super::program::Program;
use super::world::World;

/// What a verb has at a real host. A slow host with a low rate needs some of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A zone that a real host holds, or none.
pub struct Live {
    zone: Result<Zone, String>,
    /// What no other run of the kit has in its names.
    mark: String,
    second: Arc<dyn Provider>,
    program: Option<Program>,
    is_one_name: bool,
    clock: Clock,
}

impl Live {
    /// Names in `zone` with `mark` in them; `second` writes what is somebody else's. Without a zone, for the reason that
    /// is given, nothing is written.
    pub fn new(
        zone: Result<Zone, String>,
        mark: &str,
        second: Arc<dyn Provider>,
        clock: Clock,
    ) -> Self {
        Self {
            zone,
            mark: format!("cs-{mark}"),
            second,
            program: None,
            is_one_name: false,
            clock,
        }
    }

    /// With the program that the plug-in is.
    pub fn program(self, program: Program) -> Self {
        let program = Some(program);
        Self { program, ..self }
    }

    /// As the host of `provider` is: where names have slots it may know this one name, and nothing below it.
    pub async fn fitted(self, provider: &dyn Provider) -> Self {
        let is_one_name = match (&self.zone, self.name("look"), provider.traits().model) {
            (Ok(zone), Ok(below), RecordModel::Slots(_)) => {
                let held = provider.zones(&below, &self.context()).await;
                held.is_ok_and(|held| held.iter().all(|it| it.zone != *zone))
            }
            _ => false,
        };
        Self {
            is_one_name,
            ..self
        }
    }
}

#[async_trait]
impl World for Live {
    fn zone(&self) -> Result<Zone, String> {
        self.zone.clone()
    }

    fn name(&self, label: &str) -> Result<DnsName, NameError> {
        let zone = self.zone.as_ref().map_or("invalid", |it| it.name.as_str());
        if self.is_one_name {
            return DnsName::parse(zone);
        }
        DnsName::parse(&format!("_acme-challenge.{label}.{}.{zone}", self.mark))
    }

    fn context(&self) -> Context {
        let deadline = later(self.clock.now(), PATIENCE);
        Context::new(self.clock.clone(), deadline)
    }

    async fn add_foreign(
        &self,
        name: &DnsName,
        value: &str,
        ttl: u32,
    ) -> Result<Option<String>, String> {
        let zone = self.zone.as_ref().map_err(Clone::clone)?;
        let change = Change {
            verb: Verb::Ensure,
            name: name.clone(),
            value: value.to_owned(),
            ttl,
            handle: None,
        };
        let context = self.context();
        let applied = self.second.apply(zone, &[change], &[], &context).await;
        let receipt = applied.map_err(|error| error.message)?;
        Ok(receipt.handles.into_iter().next().flatten())
    }

    fn mark(&self) -> Option<&str> {
        (!self.is_one_name).then_some(self.mark.as_str())
    }

    fn is_one_name(&self) -> bool {
        self.is_one_name
    }

    fn second(&self) -> Option<&dyn Provider> {
        Some(&*self.second)
    }

    fn secrets(&self) -> Vec<String> {
        self.program
            .as_ref()
            .map_or_else(Vec::new, Program::secrets)
    }

    fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }
}
