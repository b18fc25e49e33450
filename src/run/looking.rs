//! Who has something to do, when a person asks: a look at the targets too, which may be on a file system that hangs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::job;
use super::scheduler::Selection;
use super::shared::Shared;
use crate::engine::names::CertificateName;
use crate::store::StoreError;

/// The whole look takes no longer.
const DEADLINE: Duration = Duration::from_secs(5);
/// So many are looked at together: a few that hang hold up no others.
const TOGETHER: usize = 16;

/// Those of `names` that have something to do. Whoever could not be looked at in time is among them: its own turn finds
/// out.
pub(super) async fn look(
    shared: Arc<Shared>,
    mut names: BTreeSet<CertificateName>,
    selection: Selection,
) -> Result<BTreeSet<CertificateName>, StoreError> {
    let (shared, selection) = (&shared, &selection);
    let looks = names.clone().into_iter().map(|name| async move {
        let job = job::job(shared, &name, selection).await?;
        Ok::<_, StoreError>((name, job.is_some()))
    });
    let mut looks = stream::iter(looks).buffer_unordered(TOGETHER);
    let all = async {
        while let Some(looked) = looks.next().await {
            let (name, has_something) = looked?;
            if !has_something {
                names.remove(&name);
            }
        }
        Ok(())
    };
    shared
        .clock
        .timeout(DEADLINE, all)
        .await
        .unwrap_or(Ok(()))?;
    Ok(names)
}
