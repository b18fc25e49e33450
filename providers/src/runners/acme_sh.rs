//! A script of the user's own acme.sh from its `dnsapi`, run by that acme.sh in a shell of its own.
//!
//! acme.sh keeps the credentials that its scripts are given, in clear; here its saving does nothing. The rest of its
//! configuration is read as always.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;

use super::{Writer, run};
use crate::record::{Change, Verb};
use crate::secret::SecretSource;
use crate::{Context, ErrorKind, ProviderError};

/// What the shell does. Nothing from outside is ever part of it: that comes as arguments. acme.sh, when it has no
/// arguments itself, prints how it is used and leaves its functions behind.
const DRIVE: &str = r#"
countersign_home=$1 countersign_script=$2 countersign_verb=$3 countersign_name=$4 countersign_value=$5
set --
LE_WORKING_DIR=$countersign_home
. "$countersign_home/acme.sh" >/dev/null
_initpath
if [ -f "$countersign_home/$countersign_script.sh" ]; then
  . "$countersign_home/$countersign_script.sh"
else
  . "$countersign_home/dnsapi/$countersign_script.sh"
fi
_save_conf() { :; }
_clear_conf() { :; }
_saveaccountconf() { :; }
_saveaccountconf_mutable() { :; }
_clearaccountconf() { :; }
_clearaccountconf_mutable() { :; }
_savedomainconf() { :; }
_cleardomainconf() { :; }
_migratedomainconf() { :; }
LOG_FILE=
"${countersign_script}_${countersign_verb}" "$countersign_name" "$countersign_value"
"#;

/// What the configuration says of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSh {
    /// Where acme.sh is installed.
    pub home: PathBuf,
    /// The script's name, for which [`is_script`] holds, e.g. `dns_nic`.
    pub script: String,
    /// Variables of its environment, read anew at each run.
    pub env: BTreeMap<String, SecretSource>,
}

/// Whether `name` can be the name of a script: it is part of a path and of a function's name.
pub fn is_script(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.starts_with("dns_") && name.bytes().all(is_plain)
}

#[async_trait]
impl Writer for AcmeSh {
    fn title(&self) -> String {
        format!("the script {} of acme.sh", self.script)
    }

    async fn write(
        &self,
        change: &Change,
        context: &Context,
    ) -> Result<Option<String>, ProviderError> {
        let home = self.home.to_str().filter(|_| is_script(&self.script));
        let Some(home) = home else {
            let message = format!(
                "{} cannot be run: its name or its home is not a plain text",
                self.title()
            );
            return Err(ProviderError::new(ErrorKind::Fatal, message).theirs());
        };
        let verb = match change.verb {
            Verb::Ensure => "add",
            Verb::Absent => "rm",
        };
        let name = change.name.as_str();
        let argv = [
            "/bin/sh",
            "-c",
            DRIVE,
            "countersign",
            home,
            &self.script,
            verb,
            name,
            &change.value,
        ];
        let argv = argv.map(str::to_owned);
        run(&self.title(), &argv, &[], &self.env, change, context).await?;
        Ok(None)
    }
}
