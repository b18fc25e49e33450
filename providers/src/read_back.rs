//! What was written is read back at hosts that take a set, or a zone, whatever it was before: a writer who was overtaken
//! finds out by that alone.

use crate::record::{Change, DnsName, Zone};
use crate::wanted::wanted;
use crate::{Context, ErrorKind, Provider, ProviderError, RecordModel};

/// Looks whether `changes`, which `plugin` has just made in `zone`, are true, where nothing else proves it.
pub(crate) async fn read_back(
    plugin: &dyn Provider,
    zone: &Zone,
    changes: &[Change],
    context: &Context,
) -> Result<(), ProviderError> {
    if !matches!(plugin.traits().model, RecordModel::Set | RecordModel::Zone) || changes.is_empty()
    {
        return Ok(());
    }
    let wanted = wanted(changes);
    let names: Vec<DnsName> = wanted.keys().cloned().collect();
    let seen = match plugin.observe(zone, &names, context).await {
        Ok(seen) => seen,
        // Its word is all that there is.
        Err(error) if error.kind == ErrorKind::Unsupported => return Ok(()),
        Err(error) => return Err(error.partly()),
    };
    for (name, wanted) in &wanted {
        let sets = seen.iter().filter(|set| set.name == *name);
        let there: Vec<&String> = sets.flat_map(|set| &set.values).collect();
        let lacks = wanted.ensure.iter().any(|value| !there.contains(&value));
        if lacks || wanted.absent.iter().any(|value| there.contains(&value)) {
            let message =
                format!("the TXT set at {name} was changed by somebody else at the same time");
            return Err(ProviderError::new(ErrorKind::Conflict, message).partly());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use jiff::Timestamp;

    use super::*;
    use crate::clock::Clock;
    use crate::contract::{absent, ensure};
    use crate::guard::Guard;
    use crate::record::RrSet;
    use crate::{Held, Receipt, Traits};

    /// Somebody else writes the whole set right after every change.
    struct Overtaken {
        model: RecordModel,
        others: Result<&'static [&'static str], ErrorKind>,
        looks: AtomicUsize,
    }

    #[async_trait]
    impl Provider for Overtaken {
        fn traits(&self) -> Traits {
            Traits {
                model: self.model,
                batch: 10,
                rate: None,
                propagation: Duration::ZERO,
            }
        }

        async fn zones(&self, _: &DnsName, _: &Context) -> Result<Vec<Held>, ProviderError> {
            Ok(Vec::new())
        }

        async fn observe(
            &self,
            _: &Zone,
            names: &[DnsName],
            _: &Context,
        ) -> Result<Vec<RrSet>, ProviderError> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            let values = self.others.map_err(|kind| ProviderError::new(kind, "no"))?;
            let set = |name: &DnsName| RrSet {
                name: name.clone(),
                ttl: Some(60),
                values: values.iter().map(|&it| it.to_owned()).collect(),
            };
            Ok(names.iter().map(set).collect())
        }

        async fn apply(
            &self,
            _: &Zone,
            _: &[Change],
            _: &[RrSet],
            _: &Context,
        ) -> Result<Receipt, ProviderError> {
            Ok(Receipt::of("c1".to_owned()))
        }
    }

    /// What comes of `changes`, and how often the host was looked at.
    async fn apply(
        model: RecordModel,
        others: Result<&'static [&'static str], ErrorKind>,
        changes: &[Change],
    ) -> (Result<Receipt, ErrorKind>, usize) {
        let looks = AtomicUsize::default();
        let host = Arc::new(Overtaken {
            model,
            others,
            looks,
        });
        let guard = Guard::new(Arc::clone(&host) as Arc<dyn Provider>, Arc::default());
        let (clock, _hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let context = Context::new(clock, Timestamp::MAX);
        let (name, id) = (DnsName::parse("a.test").unwrap(), String::new());
        let zone = Zone { name, id };
        let applied = guard.apply(&zone, changes, &[], &context);
        let applied = applied.await.map_err(|error| {
            assert!(error.outcome_unknown(), "{error:?} was sent");
            error.kind
        });
        (applied, host.looks.load(Ordering::Relaxed))
    }

    fn name() -> DnsName {
        DnsName::parse("_acme-challenge.a.test").unwrap()
    }

    #[tokio::test]
    async fn who_was_overtaken_at_a_host_without_proof_is_told() {
        let good = || Ok(Receipt::of("c1".to_owned()));
        let ours = [ensure(&name(), "ours"), absent(&name(), "old")];
        for model in [RecordModel::Set, RecordModel::Zone] {
            let conflict = (Err(ErrorKind::Conflict), 1);
            assert_eq!(apply(model, Ok(&["theirs"]), &ours).await, conflict);
            assert_eq!(apply(model, Ok(&["ours", "old"]), &ours).await, conflict);
            assert_eq!(apply(model, Ok(&[]), &ours).await, conflict);
            assert_eq!(
                apply(model, Ok(&["ours", "theirs"]), &ours).await,
                (good(), 1)
            );
            assert_eq!(apply(model, Ok(&[]), &[]).await, (good(), 0));
        }
        for model in [
            RecordModel::Value,
            RecordModel::SetWithProof,
            RecordModel::Slots(2),
        ] {
            assert_eq!(apply(model, Ok(&[]), &ours).await, (good(), 0));
        }
    }

    #[tokio::test]
    async fn the_word_of_a_host_that_cannot_be_looked_at_counts_and_a_failed_look_does_not() {
        let ours = [ensure(&name(), "ours")];
        let refused = |kind| apply(RecordModel::Set, Err(kind), &ours);
        assert!(refused(ErrorKind::Unsupported).await.0.is_ok());
        let fault = (Err(ErrorKind::Transient), 1);
        assert_eq!(refused(ErrorKind::Transient).await, fault);
        let contradicted = [absent(&name(), "ours"), ensure(&name(), "ours")];
        let seen = apply(RecordModel::Set, Ok(&["ours"]), &contradicted).await;
        assert!(seen.0.is_ok(), "the last word counts");
    }
}
