//! Replay-Nonce, RFC 8555 section 6.5: each is good once, for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock::later;

/// Nonces remembered; a public authority forgets after as many.
const MAX_NONCES: usize = 65_536;

/// How long a nonce is good.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// The nonces that are good.
#[derive(Default)]
pub(crate) struct Nonces {
    good: BTreeMap<u64, (u64, Timestamp)>,
    last: u64,
    rejections: Option<Rejections>,
}

/// Rejects a share of the good nonces, the same ones for the same seed.
struct Rejections {
    percent: u8,
    state: u64,
}

impl Nonces {
    pub(crate) fn reject(&mut self, percent: u8, seed: u64) {
        self.rejections = (percent > 0).then_some(Rejections {
            percent,
            state: seed,
        });
    }

    pub(crate) fn issue(&mut self, now: Timestamp) -> String {
        let mut random = [0; 8];
        // Without randomness the count alone would do: it is a test authority, and never repeats.
        _ = SystemRandom::new().fill(&mut random);
        if self.good.len() >= MAX_NONCES {
            self.good.pop_first();
        }
        self.last += 1;
        self.good
            .insert(self.last, (u64::from_be_bytes(random), now));
        URL_SAFE_NO_PAD.encode([self.last.to_be_bytes(), random].concat())
    }

    /// Whether the nonce is good; it is not any more afterwards.
    pub(crate) fn redeem(&mut self, nonce: &str, now: Timestamp) -> bool {
        let Some((count, random)) = parse(nonce) else {
            return false;
        };
        let Some((wanted, issued)) = self.good.get(&count).copied() else {
            return false;
        };
        if wanted != random {
            return false;
        }
        self.good.remove(&count);
        let fresh = now <= later(issued, LIFETIME);
        fresh && !self.rejections.as_mut().is_some_and(Rejections::draw)
    }
}

fn parse(nonce: &str) -> Option<(u64, u64)> {
    let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
    let (count, random) = bytes.split_at_checked(8)?;
    Some((
        u64::from_be_bytes(count.try_into().ok()?),
        u64::from_be_bytes(random.try_into().ok()?),
    ))
}

impl Rejections {
    /// SplitMix64.
    fn draw(&mut self) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 100 < u64::from(self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn is_good_once() {
        let mut nonces = Nonces::default();
        let nonce = nonces.issue(NOW);
        assert!(nonces.redeem(&nonce, NOW));
        assert!(!nonces.redeem(&nonce, NOW));
    }

    #[test]
    fn is_not_good_for_ever() {
        let mut nonces = Nonces::default();
        let nonce = nonces.issue(NOW);
        assert!(!nonces.redeem(&nonce, later(NOW, LIFETIME + Duration::from_secs(1))));
    }

    #[test]
    fn cannot_be_made_up() {
        let mut nonces = Nonces::default();
        nonces.issue(NOW);
        for guess in ["", "AAAA", "AAAAAAAAAAEAAAAAAAAAAA", "no base64!"] {
            assert!(!nonces.redeem(guess, NOW), "{guess}");
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut nonces = Nonces::default();
        let first = nonces.issue(NOW);
        let second = nonces.issue(NOW);
        for _ in 2..=MAX_NONCES {
            nonces.issue(NOW);
        }
        assert!(!nonces.redeem(&first, NOW));
        assert!(nonces.redeem(&second, NOW));
    }

    #[test]
    fn rejects_the_share_it_is_told() {
        let mut nonces = Nonces::default();
        nonces.reject(50, 7);
        let good = (0..1_000).filter(|_| {
            let nonce = nonces.issue(NOW);
            nonces.redeem(&nonce, NOW)
        });
        let good = good.count();
        assert!((400..600).contains(&good), "{good}");
    }
}
