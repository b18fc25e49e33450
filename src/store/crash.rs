//! The embedded store when its process is killed, and when its disk is full.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

use super::testing::{self, Part, fill, part, say};
use super::*;

const KILLS: usize = 40;
const COUNTERS: u64 = 4;

#[test]
fn survives_kill_minus_nine() {
    if let Some(directory) = part() {
        return count_until_killed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = HashMap::new();
    for _ in 0..KILLS {
        let mut child = Part::start("store::crash::survives_kill_minus_nine", directory.path());
        for _ in 0..random(40) {
            note(&mut acknowledged, child.words.recv().ok());
        }
        // Any instant, not only just after an acknowledgement.
        let more = child
            .words
            .recv_timeout(Duration::from_micros(random(3000)));
        note(&mut acknowledged, more.ok());
        child.kill();
        for word in child.words.iter() {
            note(&mut acknowledged, Some(word));
        }
        check(directory.path(), &mut acknowledged);
    }
    assert_eq!(acknowledged.len() as u64, COUNTERS);
    let commits: u64 = acknowledged.values().sum();
    println!("{KILLS} kills, {commits} acknowledged commits, none lost");
}

#[test]
fn survives_being_killed_while_it_is_made() {
    const THIS: &str = "store::crash::survives_being_killed_while_it_is_made";
    if let Some(directory) = part() {
        return count_until_killed(Path::new(&directory));
    }
    for _ in 0..KILLS {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Part::start(THIS, directory.path());
        let wait = Duration::from_micros(random(40_000));
        let _ = child.words.recv_timeout(wait);
        child.kill();
        check_pairs(directory.path());
    }
}

#[tokio::main]
async fn check_pairs(directory: &Path) {
    let (store, _) = testing::open(directory).await.unwrap();
    for counter in 0..COUNTERS {
        let [left, right] = pair(counter);
        assert_eq!(read(&store, &left).await, read(&store, &right).await);
    }
}

/// Several tasks, each with two records that always hold the same number.
#[tokio::main]
async fn count_until_killed(directory: &Path) {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let (store, _) = testing::open(directory).await.unwrap();
    let fence = store
        .lease("count", "us", Timestamp::UNIX_EPOCH, Duration::MAX)
        .await
        .unwrap();
    let counting = (0..COUNTERS).map(|counter| count(&store, &fence, counter));
    futures_util::future::join_all(counting).await;
}

async fn count(store: &RedbStore, fence: &Fence, counter: u64) {
    let [left, right] = pair(counter);
    let mut number = read(store, &left).await;
    loop {
        number += 1;
        // Of changing size, so that the file grows, shrinks and moves pages.
        let mut value = number.to_string().into_bytes();
        value.resize(20 + (number as usize * 977) % 30_000, b' ');
        let writes = [
            Write::Put(left.clone(), value.clone()),
            Write::Put(right.clone(), value),
        ];
        store.commit(fence, &[], &writes).await.unwrap();
        say(&format!("{counter} {number}"));
    }
}

fn note(acknowledged: &mut HashMap<u64, u64>, word: Option<String>) {
    let word = word.unwrap_or_default();
    if let Some((counter, number)) = word.split_once(' ') {
        acknowledged.insert(counter.parse().unwrap(), number.parse().unwrap());
    }
}

#[tokio::main]
async fn check(directory: &Path, acknowledged: &mut HashMap<u64, u64>) {
    let (store, _) = testing::open(directory).await.unwrap();
    for counter in 0..COUNTERS {
        let [left, right] = pair(counter);
        let (left, right) = (read(&store, &left).await, read(&store, &right).await);
        assert_eq!(left, right, "a torn commit");
        let known = acknowledged.get(&counter).copied().unwrap_or(0);
        assert!(
            left == known || left == known + 1,
            "{known} was acknowledged, {left} is there"
        );
        // Seen, and so no less certain than acknowledged.
        if left > 0 {
            acknowledged.insert(counter, left);
        }
    }
}

async fn read(store: &RedbStore, key: &Key) -> u64 {
    let Some(record) = store.read(key).await.unwrap() else {
        return 0;
    };
    String::from_utf8(record.value)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

fn pair(counter: u64) -> [Key; 2] {
    let counter = counter.to_string();
    [Key::of(&["left", &counter]), Key::of(&["right", &counter])]
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).unwrap();
    u64::from_be_bytes(bytes) % below
}

#[test]
fn a_full_disk_is_named_and_the_old_state_stays() {
    const THIS: &str = "store::crash::a_full_disk_is_named_and_the_old_state_stays";
    if let Some(directory) = part() {
        return on_a_small_disk(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    Part::start_on_a_disk_of("8m", THIS, directory.path()).finish();
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::main]
async fn on_a_small_disk(disk: &Path) {
    let state = disk.join("state");
    let (store, _) = testing::open(&state).await.unwrap();
    let fence = store
        .lease("l", "us", Timestamp::UNIX_EPOCH, Duration::MAX)
        .await
        .unwrap();
    let key = Key::of(&["kept"]);
    let kept = commit(&store, &fence, &key, b"old".to_vec()).await.unwrap();

    let filler = fill(disk);
    for _ in 0..3 {
        let refused = commit(&store, &fence, &key, vec![1; 5_000_000]).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
        let record = store.read(&key).await.unwrap().unwrap();
        assert_eq!((record.version, record.value), (kept, b"old".to_vec()));
    }
    // Opening it needs no room, so that `status` can still say what is wrong.
    drop(store);
    let (store, _) = testing::open(&state).await.unwrap();
    let record = store.read(&key).await.unwrap().unwrap();
    assert_eq!((record.version, record.value), (kept, b"old".to_vec()));
    assert!(matches!(
        commit(&store, &fence, &key, vec![1; 5_000_000]).await,
        Err(StoreError::Full(_))
    ));
    // Nor can one be made there.
    let elsewhere = testing::open(&disk.join("other")).await.err();
    assert!(
        matches!(elsewhere, Some(StoreError::Full(_))),
        "{elsewhere:?}"
    );

    drop(filler);
    commit(&store, &fence, &key, vec![2; 300_000])
        .await
        .unwrap();
    drop(store);
    let (store, _) = testing::open(&state).await.unwrap();
    let value = store.read(&key).await.unwrap().unwrap().value;
    assert!(value == vec![2; 300_000]);
    testing::open(&disk.join("other")).await.unwrap();
    say("done");
}

async fn commit(
    store: &RedbStore,
    fence: &Fence,
    key: &Key,
    value: Vec<u8>,
) -> Result<Version, StoreError> {
    store
        .commit(fence, &[], &[Write::Put(key.clone(), value)])
        .await
}
