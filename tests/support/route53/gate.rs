//! Writers that take turns, request by request, in an order that depends on a seed only.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

/// Lets requests of several writers through one at a time.
#[derive(Default)]
pub struct Gate {
    turns: Mutex<Turns>,
    moved: Condvar,
}

#[derive(Default)]
struct Turns {
    /// Access keys that are at work, and whether each waits at the gate.
    writers: BTreeMap<String, bool>,
    next: Option<String>,
    seed: u64,
}

impl Gate {
    /// From now on these take turns.
    pub fn close(&self, keys: &[&str], seed: u64) {
        let mut turns = self.turns.lock().expect("nothing panics with it");
        turns.writers = keys.iter().map(|&key| (key.to_owned(), false)).collect();
        turns.next = None;
        turns.seed = seed;
    }

    /// That one is done.
    pub fn leave(&self, key: &str) {
        let mut turns = self.turns.lock().expect("nothing panics with it");
        turns.writers.remove(key);
        turns.choose();
        self.moved.notify_all();
    }

    pub fn pass(&self, key: &str) {
        let mut turns = self.turns.lock().expect("nothing panics with it");
        let Some(waits) = turns.writers.get_mut(key) else {
            return;
        };
        *waits = true;
        turns.choose();
        self.moved.notify_all();
        while turns.next.as_deref() != Some(key) {
            turns = self.moved.wait(turns).expect("nothing panics with it");
        }
        turns.next = None;
        turns.writers.insert(key.to_owned(), false);
    }
}

impl Turns {
    /// When all wait, one of them is next.
    fn choose(&mut self) {
        if self.next.is_some()
            || self.writers.is_empty()
            || !self.writers.values().all(|&waits| waits)
        {
            return;
        }
        // A step of splitmix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let at = (mixed ^ (mixed >> 31)) as usize % self.writers.len();
        self.next = self.writers.keys().nth(at).cloned();
    }
}
