//! The battery that every store must pass, and what only the embedded one is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::*;

const TTL: Duration = Duration::from_secs(60);

/// A store and whatever must live as long.
struct Subject<S> {
    store: Arc<S>,
    _directory: Option<tempfile::TempDir>,
}

fn memory() -> Subject<MemoryStore> {
    Subject {
        store: Arc::new(MemoryStore::new("memory")),
        _directory: None,
    }
}

async fn redb() -> Subject<RedbStore> {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = testing::open(directory.path()).await.unwrap();
    Subject {
        store: Arc::new(store),
        _directory: Some(directory),
    }
}

macro_rules! battery {
    ($($name:ident),* $(,)?) => {
        mod memory_store {
            $(#[tokio::test] async fn $name() { super::$name(super::memory()).await; })*
        }
        mod redb_store {
            $(#[tokio::test] async fn $name() { super::$name(super::redb().await).await; })*
        }
    };
}

battery!(
    gives_back_what_was_put,
    a_refused_commit_changes_nothing,
    versions_rise_and_never_return,
    expects_absence,
    the_last_write_of_a_key_counts,
    scans_in_key_order_and_by_prefix,
    a_lease_excludes_others_until_it_ran_out,
    renewing_keeps_the_token,
    a_released_lease_is_free_and_fences,
    a_stale_fence_is_refused,
    an_unknown_lease_is_refused,
    leases_do_not_touch_each_other,
    takes_large_and_empty_values,
    a_thousand_commits_at_once_all_land,
    one_of_many_wins_a_race,
);

async fn gives_back_what_was_put<S: Store>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    let version = put(store, &fence, "a", b"1").await;
    let record = store.read(&key("a")).await.unwrap().unwrap();
    assert_eq!(record.value, b"1");
    assert_eq!(record.version, version);
    assert_eq!(store.read(&key("b")).await.unwrap(), None);
}

async fn a_refused_commit_changes_nothing<S: Store>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    let version = put(store, &fence, "a", b"1").await;
    let refused = store
        .commit(
            &fence,
            &[(key("a"), version), (key("b"), version)],
            &[write("a", b"2"), write("b", b"2"), Write::Delete(key("a"))],
        )
        .await;
    assert!(matches!(refused, Err(StoreError::Conflict(k)) if k == key("b")));
    let record = store.read(&key("a")).await.unwrap().unwrap();
    assert_eq!((record.version, record.value), (version, b"1".to_vec()));
    assert_eq!(store.read(&key("b")).await.unwrap(), None);
}

async fn versions_rise_and_never_return<S: Store>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    let first = put(store, &fence, "a", b"1").await;
    let second = put(store, &fence, "a", b"2").await;
    assert!(first > Version::ABSENT && second > first);
    store
        .commit(&fence, &[(key("a"), second)], &[Write::Delete(key("a"))])
        .await
        .unwrap();
    let third = put(store, &fence, "a", b"1").await;
    assert!(third > second);
    for old in [first, second] {
        let refused = store
            .commit(&fence, &[(key("a"), old)], &[write("a", b"x")])
            .await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))));
    }
}

async fn expects_absence<S: Store>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    let create = || async {
        store
            .commit(&fence, &[(key("a"), Version::ABSENT)], &[write("a", b"1")])
            .await
    };
    create().await.unwrap();
    assert!(matches!(create().await, Err(StoreError::Conflict(_))));
    store
        .commit(&fence, &[], &[Write::Delete(key("a"))])
        .await
        .unwrap();
    create().await.unwrap();
}

async fn the_last_write_of_a_key_counts<S: Store>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    store
        .commit(
            &fence,
            &[],
            &[
                write("a", b"1"),
                Write::Delete(key("a")),
                write("a", b"2"),
                write("b", b"1"),
                Write::Delete(key("b")),
            ],
        )
        .await
        .unwrap();
    assert_eq!(store.read(&key("a")).await.unwrap().unwrap().value, b"2");
    assert_eq!(store.read(&key("b")).await.unwrap(), None);
}

async fn scans_in_key_order_and_by_prefix<S: Store>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    let names = ["b/1", "a/2", "a/10", "a/1", "ab/1", "a", "c"];
    for name in names {
        put(store, &fence, name, name.as_bytes()).await;
    }
    let found = |prefix: &'static str| async move {
        let found = store.scan(prefix).await.unwrap();
        found
            .into_iter()
            .map(|(key, record)| {
                assert_eq!(record.value, key.as_str().as_bytes());
                key.as_str().to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(found("a/").await, ["a/1", "a/10", "a/2"]);
    assert_eq!(found("a").await, ["a", "a/1", "a/10", "a/2", "ab/1"]);
    assert_eq!(found("").await.len(), names.len());
    assert!(found("d").await.is_empty());
}

async fn a_lease_excludes_others_until_it_ran_out<S: Store>(subject: Subject<S>) {
    let store = &*subject.store;
    let first = store.lease("l", "one", at(0), TTL).await.unwrap();
    match store.lease("l", "two", at(59), TTL).await {
        Err(StoreError::Held { holder, until, .. }) => {
            assert_eq!((holder.as_str(), until), ("one", at(60)));
        }
        other => panic!("{other:?}"),
    }
    // It ran out, but nobody took it: no two can be acting.
    put(store, &first, "a", b"1").await;
    let second = store.lease("l", "two", at(60), TTL).await.unwrap();
    assert!(second.token > first.token);
    assert!(matches!(
        store.commit(&first, &[], &[write("a", b"2")]).await,
        Err(StoreError::Fenced(_))
    ));
    put(store, &second, "a", b"3").await;
}

async fn renewing_keeps_the_token<S: Store>(subject: Subject<S>) {
    let store = &*subject.store;
    let first = store.lease("l", "one", at(0), TTL).await.unwrap();
    let renewed = store.lease("l", "one", at(30), TTL).await.unwrap();
    assert_eq!(first, renewed);
    assert!(store.lease("l", "two", at(89), TTL).await.is_err());
    let anew = store.lease("l", "one", at(90), TTL).await.unwrap();
    assert!(anew.token > first.token);
}

async fn a_released_lease_is_free_and_fences<S: Store>(subject: Subject<S>) {
    let store = &*subject.store;
    let first = store.lease("l", "one", at(0), TTL).await.unwrap();
    store.release(&first).await.unwrap();
    assert!(matches!(
        store.commit(&first, &[], &[write("a", b"1")]).await,
        Err(StoreError::Fenced(_))
    ));
    let second = store.lease("l", "two", at(1), TTL).await.unwrap();
    assert!(second.token > first.token);
    store.release(&first).await.unwrap();
    put(store, &second, "a", b"1").await;
}

async fn a_stale_fence_is_refused<S: Store>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    for token in [0, fence.token - 1, fence.token + 1] {
        let stale = Fence {
            token,
            ..fence.clone()
        };
        assert!(matches!(
            store.commit(&stale, &[], &[write("a", b"1")]).await,
            Err(StoreError::Fenced(name)) if name == fence.lease
        ));
    }
    assert_eq!(store.read(&key("a")).await.unwrap(), None);
}

async fn an_unknown_lease_is_refused<S: Store>(subject: Subject<S>) {
    let fence = Fence {
        lease: "never".into(),
        token: 0,
    };
    let refused = subject.store.commit(&fence, &[], &[]).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))));
}

async fn leases_do_not_touch_each_other<S: Store>(subject: Subject<S>) {
    let store = &*subject.store;
    let one = store.lease("one", "a", at(0), TTL).await.unwrap();
    let two = store.lease("two", "b", at(0), TTL).await.unwrap();
    put(store, &one, "a", b"1").await;
    put(store, &two, "a", b"2").await;
}

async fn takes_large_and_empty_values<S: Store>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    put(store, &fence, "large", &large).await;
    put(store, &fence, "empty", b"").await;
    assert!(store.read(&key("large")).await.unwrap().unwrap().value == large);
    assert_eq!(store.read(&key("empty")).await.unwrap().unwrap().value, b"");
}

async fn a_thousand_commits_at_once_all_land<S: Store + 'static>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    let commits = (0..1000).map(|i| {
        let name = format!("n/{i}");
        let fence = &fence;
        async move {
            let writes = [write(&name, b"1"), write(&format!("m/{i}"), b"1")];
            store
                .commit(fence, &[(key(&name), Version::ABSENT)], &writes)
                .await
        }
    });
    let mut versions: Vec<_> = futures_util::future::join_all(commits)
        .await
        .into_iter()
        .map(|version| version.unwrap())
        .collect();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), 1000);
    assert_eq!(store.scan("n/").await.unwrap().len(), 1000);
    assert_eq!(store.scan("m/").await.unwrap().len(), 1000);
}

async fn one_of_many_wins_a_race<S: Store + 'static>(subject: Subject<S>) {
    let (store, fence) = held(&subject).await;
    let start = put(store, &fence, "a", b"start").await;
    let commits = (0..100).map(|i: u8| {
        let fence = &fence;
        async move {
            store
                .commit(fence, &[(key("a"), start)], &[write("a", &[i])])
                .await
        }
    });
    let outcomes = futures_util::future::join_all(commits).await;
    let won: Vec<_> = outcomes
        .iter()
        .enumerate()
        .filter(|(_, o)| o.is_ok())
        .collect();
    assert_eq!(won.len(), 1);
    let value = store.read(&key("a")).await.unwrap().unwrap().value;
    assert_eq!(value, [won[0].0 as u8]);
}

#[tokio::test]
async fn commits_that_wait_together_share_a_sync() {
    let subject = redb().await;
    let (store, fence) = held(&subject).await;
    let faults = store.faults();
    let before = faults.syncs.load(Ordering::SeqCst);
    put(store, &fence, "a", b"1").await;
    assert_eq!(faults.syncs.load(Ordering::SeqCst) - before, 1);
    let names: Vec<_> = (0..500).map(|i| format!("n/{i}")).collect();
    let commits = names.iter().map(|name| put(store, &fence, name, b"1"));
    futures_util::future::join_all(commits).await;
    let syncs = faults.syncs.load(Ordering::SeqCst) - before - 1;
    assert!(syncs <= 20, "{syncs} syncs for 500 commits");
}

#[tokio::test]
async fn a_refusal_and_a_mere_check_cost_no_sync() {
    let subject = redb().await;
    let (store, fence) = held(&subject).await;
    let faults = store.faults();
    let before = faults.syncs.load(Ordering::SeqCst);
    for _ in 0..10 {
        let refused = store.commit(&fence, &[(key("a"), Version(9))], &[]).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))));
    }
    assert_eq!(faults.syncs.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = testing::open(directory.path()).await.unwrap();
    let fence = store.lease("l", "one", at(0), TTL).await.unwrap();
    let version = put(&store, &fence, "a", b"1").await;
    drop(store);
    let (store, _) = testing::open(directory.path()).await.unwrap();
    let record = store.read(&key("a")).await.unwrap().unwrap();
    assert_eq!((record.version, record.value), (version, b"1".to_vec()));
    assert!(store.lease("l", "two", at(1), TTL).await.is_err());
    assert!(put(&store, &fence, "a", b"2").await > version);
}

/// Wherever the disk fails in a commit, the caller is told the truth and the store goes on.
#[tokio::test]
async fn an_error_at_any_write_leaves_the_old_state_or_the_new() {
    let subject = redb().await;
    let (store, fence) = held(&subject).await;
    let faults = store.faults();
    let mut version = put(store, &fence, "a", &[0; 9000]).await;
    put(store, &fence, "b", &[0; 9000]).await;
    let (mut failed, mut round) = (0, 0_u8);
    for nth in (1..30).flat_map(|n| [n, n]) {
        round += 1;
        let fault = if round % 2 == 0 {
            &faults.full_at_write
        } else {
            &faults.full_at_sync
        };
        fault.store(nth, Ordering::SeqCst);
        let writes = [write("a", &[round; 9000]), write("b", &[round; 9000])];
        let outcome = store.commit(&fence, &[(key("a"), version)], &writes).await;
        fault.store(0, Ordering::SeqCst);
        let a = store.read(&key("a")).await.unwrap().unwrap();
        let b = store.read(&key("b")).await.unwrap().unwrap();
        assert_eq!(a.value, b.value, "torn in round {round}");
        match outcome {
            Ok(new) => {
                assert_eq!((a.version, a.value[0]), (new, round));
                version = new;
            }
            Err(StoreError::Full(_)) => {
                failed += 1;
                assert_eq!(
                    a.version, version,
                    "a change that was denied, round {round}"
                );
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(failed >= 3, "the faults hit nothing");
}

#[tokio::test]
async fn one_too_large_for_the_disk_does_not_take_its_neighbours_along() {
    let subject = redb().await;
    let (store, fence) = held(&subject).await;
    store.faults().full_at_write.store(1, Ordering::SeqCst);
    let names: Vec<_> = (0..50).map(|i| format!("n/{i}")).collect();
    let commits = names.iter().map(|name| {
        let writes = [write(name, b"1")];
        let fence = &fence;
        async move { store.commit(fence, &[], &writes).await }
    });
    let failed = futures_util::future::join_all(commits)
        .await
        .iter()
        .filter(|outcome| outcome.is_err())
        .count();
    assert!(failed <= 1, "{failed} failed");
    assert_eq!(store.scan("n/").await.unwrap().len(), 50 - failed);
}

async fn held<S: Store>(subject: &Subject<S>) -> (&S, Fence) {
    let fence = subject.store.lease("test", "us", at(0), TTL).await.unwrap();
    (&subject.store, fence)
}

async fn put(store: &impl Store, fence: &Fence, name: &str, value: &[u8]) -> Version {
    store
        .commit(fence, &[], &[write(name, value)])
        .await
        .unwrap()
}

fn write(name: &str, value: &[u8]) -> Write {
    Write::Put(key(name), value.to_vec())
}

fn key(name: &str) -> Key {
    Key::of(&name.split('/').collect::<Vec<_>>())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}
