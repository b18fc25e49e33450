//! DNS hosts that only a person can change. Nothing is done here: the core says what is to be done by hand, watches the
//! authoritative servers, and goes on by itself.

use std::time::Duration;

use async_trait::async_trait;

use crate::record::{Change, DnsName, RrSet, Zone};
use crate::{
    Context, ErrorKind, Held, Provider, ProviderError, Receipt, RecordModel, Traits, claimed,
};

/// How long a person has: public authorities keep a pending authorization for a week.
const PATIENCE: Duration = Duration::from_secs(6 * 86_400);
/// A person may be given any number of values at once.
const BATCH: usize = 1_000;

/// A person.
pub struct Manual;

#[async_trait]
impl Provider for Manual {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::Value,
            batch: BATCH,
            rate: None,
            propagation: PATIENCE,
        }
    }

    /// A person may be able to change any zone.
    async fn zones(&self, name: &DnsName, _: &Context) -> Result<Vec<Held>, ProviderError> {
        Ok(claimed(name))
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        _: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let message = format!("nobody can be asked what is in the zone {}", zone.name);
        Err(ProviderError::new(ErrorKind::Unsupported, message))
    }

    /// A person was told, or will be.
    async fn apply(
        &self,
        _: &Zone,
        _: &[Change],
        _: &[RrSet],
        _: &Context,
    ) -> Result<Receipt, ProviderError> {
        Ok(Receipt::default())
    }
}
