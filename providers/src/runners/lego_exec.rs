//! A script for lego's provider `exec`: its arguments are `present` or `cleanup`, the name with a final dot, the value.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Writer, run};
use crate::record::{Change, Verb};
use crate::secret::SecretSource;
use crate::{Context, ProviderError};

/// What the configuration says of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegoExec {
    /// The script, by its absolute path, and arguments before those of lego.
    pub command: Vec<String>,
    /// Variables of its environment, read anew at each run.
    pub env: BTreeMap<String, SecretSource>,
}

#[async_trait]
impl Writer for LegoExec {
    fn title(&self) -> String {
        self.command.first().cloned().unwrap_or_default()
    }

    async fn write(
        &self,
        change: &Change,
        context: &Context,
    ) -> Result<Option<String>, ProviderError> {
        let verb = match change.verb {
            Verb::Ensure => "present",
            Verb::Absent => "cleanup",
        };
        let words = [
            verb.to_owned(),
            format!("{}.", change.name),
            change.value.clone(),
        ];
        let argv = [self.command.clone(), words.to_vec()].concat();
        run(&self.title(), &argv, &[], &self.env, change, context).await?;
        Ok(None)
    }
}
