//! Certificates that are configured no more: their material is kept for a while, since a line in a file is easily lost.

use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;

use super::records;
use crate::engine::certificate::Certificate;
use crate::engine::names::CertificateName;
use crate::store::{Keep, Key, Saved, Session, StoreError, Version, Write};

/// How long keys, chains and history are kept after a certificate was taken out of the configuration.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Notes what `is_configured` no more, forgets what was noted long ago, and takes back what is configured again. Without
/// a time that is sure (`None` for `now`) it only takes back.
pub(super) async fn sweep(
    session: &Session,
    now: Option<Timestamp>,
    is_configured: impl Fn(&CertificateName) -> bool,
) -> Result<(), StoreError> {
    let all = session.load_all(records::CERTIFICATES).await?;
    for saved in all {
        note(session, now, saved, &is_configured).await?;
    }
    Ok(())
}

/// The same for `names` alone.
pub(super) async fn look_at(
    session: &Session,
    now: Option<Timestamp>,
    names: &[CertificateName],
    is_configured: impl Fn(&CertificateName) -> bool,
) -> Result<(), StoreError> {
    for name in names {
        if let Some(saved) = session.load(records::certificate(name)).await? {
            note(session, now, saved, &is_configured).await?;
        }
    }
    Ok(())
}

async fn note(
    session: &Session,
    now: Option<Timestamp>,
    mut saved: Saved<Certificate>,
    is_configured: impl Fn(&CertificateName) -> bool,
) -> Result<(), StoreError> {
    let removed = match (is_configured(&saved.value.name), saved.value.removed, now) {
        (true, _, _) => None,
        (false, at, None) => at,
        (false, Some(at), Some(now)) if now >= later(at, KEPT) => {
            match forget(session, &saved.value.name, saved.expectation()).await {
                Ok(()) | Err(StoreError::Conflict(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        // A clock that was wrong then may have noted a time that is yet to come.
        (false, Some(at), Some(now)) => Some(at.min(now)),
        (false, None, Some(now)) => Some(now),
    };
    saved.value.removed = removed;
    match session.save(&mut [&mut saved], Vec::new()).await {
        // It is at work: the next sweep finds it again.
        Ok(()) | Err(StoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Everything of `name`, in one transaction.
async fn forget(
    session: &Session,
    name: &CertificateName,
    expectation: (Key, Version),
) -> Result<(), StoreError> {
    let mut gone = vec![Write::Delete(expectation.0.clone())];
    for prefix in records::all_of(name) {
        let records = session.store().scan(&prefix).await?;
        gone.extend(records.into_iter().map(|(key, _)| Write::Delete(key)));
    }
    session.commit(&[expectation], &gone).await?;
    tracing::info!(certificate = %name, "forgotten: it was taken out of the configuration 30 days ago");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    async fn keys(session: &Session) -> Vec<String> {
        let all = session.store().scan("").await.unwrap();
        all.into_iter().map(|(key, _)| key.to_string()).collect()
    }

    #[tokio::test]
    async fn material_is_kept_for_thirty_days_and_then_forgotten() {
        let session = crate::store::testing::session().await;
        let name = CertificateName::parse("web").unwrap();
        let other = CertificateName::parse("web-2").unwrap();
        for name in [&name, &other] {
            let mut certificate =
                Saved::new(records::certificate(name), Certificate::new(name.clone()));
            let material = [
                records::leaf_key(name, 1),
                records::chain(name, 1),
                records::history(name, 1, 1),
                records::delivery(name, "files:/srv"),
            ];
            let writes = material.map(|key| Write::Put(key, b"{}".to_vec()));
            session
                .save(&mut [&mut certificate], writes.to_vec())
                .await
                .unwrap();
        }
        let is_other = |it: &CertificateName| *it == other;
        sweep(&session, Some(at(0)), is_other).await.unwrap();
        sweep(&session, Some(at(29)), is_other).await.unwrap();
        assert_eq!(keys(&session).await.len(), 10);
        sweep(&session, Some(at(30)), is_other).await.unwrap();
        let left = keys(&session).await;
        assert_eq!(left.len(), 5, "{left:?}");
        assert!(left.iter().all(|key| key.contains("web-2")), "{left:?}");
    }

    #[tokio::test]
    async fn nothing_is_forgotten_while_nobody_knows_the_time() {
        let session = crate::store::testing::session().await;
        let name = CertificateName::parse("web").unwrap();
        let mut certificate =
            Saved::new(records::certificate(&name), Certificate::new(name.clone()));
        certificate.value.removed = Some(at(0));
        session
            .save(&mut [&mut certificate], Vec::new())
            .await
            .unwrap();
        sweep(&session, None, |_| false).await.unwrap();
        assert_eq!(keys(&session).await.len(), 1);
        sweep(&session, Some(at(400)), |_| false).await.unwrap();
        assert_eq!(keys(&session).await.len(), 0);
    }

    #[tokio::test]
    async fn one_that_is_configured_again_counts_anew() {
        let session = crate::store::testing::session().await;
        let name = CertificateName::parse("web").unwrap();
        let mut certificate =
            Saved::new(records::certificate(&name), Certificate::new(name.clone()));
        session
            .save(&mut [&mut certificate], Vec::new())
            .await
            .unwrap();
        sweep(&session, Some(at(0)), |_| false).await.unwrap();
        sweep(&session, Some(at(20)), |_| true).await.unwrap();
        sweep(&session, Some(at(40)), |_| false).await.unwrap();
        sweep(&session, Some(at(69)), |_| false).await.unwrap();
        assert_eq!(keys(&session).await.len(), 1);
    }
}
