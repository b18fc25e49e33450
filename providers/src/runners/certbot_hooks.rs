//! Scripts for certbot's `--manual-auth-hook` and `--manual-cleanup-hook`.
//!
//! They are told in their environment what to write. What the first one printed is kept with the value, without the
//! secrets that it was given, and the second one finds it in `CERTBOT_AUTH_OUTPUT`.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Writer, run};
use crate::record::{Change, Verb};
use crate::secret::SecretSource;
use crate::{Context, ErrorKind, ProviderError};

/// What a challenge name begins with (RFC 8555 section 8.4); the scripts write it before the domain by themselves.
const CHALLENGE: &str = "_acme-challenge.";

/// What the configuration says of the scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertbotHooks {
    /// What puts a value there: a program by its absolute path, and its arguments.
    pub auth: Vec<String>,
    /// What takes it away.
    pub cleanup: Vec<String>,
    /// Variables of their environment, read anew at each run.
    pub env: BTreeMap<String, SecretSource>,
}

#[async_trait]
impl Writer for CertbotHooks {
    fn title(&self) -> String {
        self.auth.first().cloned().unwrap_or_default()
    }

    async fn write(
        &self,
        change: &Change,
        context: &Context,
    ) -> Result<Option<String>, ProviderError> {
        let Some(domain) = change.name.as_str().strip_prefix(CHALLENGE) else {
            let message = format!(
                "{} cannot write at {}: a certbot hook writes at names that begin with {CHALLENGE}",
                self.title(),
                change.name
            );
            return Err(ProviderError::new(ErrorKind::Invalid, message)
                .hint("lead the CNAME to a name that begins so, or use another plug-in"));
        };
        // As a shell takes an output into a variable.
        let printed = change.handle.as_deref().unwrap_or_default();
        let printed = printed.replace('\0', "");
        let mut variables = vec![
            ("CERTBOT_DOMAIN", domain),
            ("CERTBOT_IDENTIFIER", domain),
            ("CERTBOT_VALIDATION", &change.value),
            ("CERTBOT_ALL_DOMAINS", domain),
            ("CERTBOT_ALL_IDENTIFIERS", domain),
            ("CERTBOT_REMAINING_CHALLENGES", "0"),
        ];
        let argv = match change.verb {
            Verb::Ensure => &self.auth,
            Verb::Absent => {
                variables.push(("CERTBOT_AUTH_OUTPUT", &printed));
                &self.cleanup
            }
        };
        let program = argv.first().map_or("(none)", String::as_str);
        let printed = run(program, argv, &variables, &self.env, change, context).await?;
        let printed = printed.trim_end_matches(['\r', '\n']).to_owned();
        Ok((change.verb == Verb::Ensure && !printed.is_empty()).then_some(printed))
    }
}
