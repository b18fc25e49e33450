//! Sealing of private material before it is stored.
//!
//! ChaCha20-Poly1305 (RFC 8439) under one key for the whole store, a random nonce each time, and the store's and the
//! record's identity as associated data: a sealed value opens only where it was put.

use crate::clock::Clock;
use crate::secret::{Secret, SecretSource};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Key, RedbStore, Store, StoreError};

/// The version of the envelope.
const ENVELOPE: u8 = 1;
/// The length of the key.
const KEY_LEN: usize = 32;

/// Seals and opens private material of one store.
pub struct Sealer {
    store_id: String,
    key_id: String,
    key: LessSafeKey,
}

/// Sealed private material, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The version of this envelope.
    version: u8,
    /// Which key opens it.
    key: String,
    /// Base64.
    nonce: String,
    /// Base64, with the tag at the end.
    ciphertext: String,
}

impl Sealer {
    pub(super) fn new(store: &RedbStore, key: &SealKey) -> Result<Self, StoreError> {
        Self::for_store(store.id(), key)
    }

    fn for_store(store_id: &str, key: &SealKey) -> Result<Self, StoreError> {
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &*key.bytes)
            .map_err(|_| StoreError::Io("the seal key cannot be used".into()))?;
        Ok(Self {
            store_id: store_id.to_owned(),
            key_id: key.id.clone(),
            key: LessSafeKey::new(unbound),
        })
    }

    /// A sealer with a key of its own, drawn now: for a store that is gone with the process.
    pub fn ephemeral(store: &dyn Store) -> Result<Self, StoreError> {
        let (key, _) = SealKey::draw()?;
        Self::for_store(store.id(), &key)
    }

    /// Seals `plain` for the record at `record`.
    pub fn seal(&self, record: &Key, plain: &Secret) -> Result<Sealed, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        fill(&mut nonce)?;
        // Room for the tag from the start: a vector that grows would leave a copy of the plain text behind.
        let mut text = Vec::with_capacity(plain.expose().len() + CHACHA20_POLY1305.tag_len());
        text.extend_from_slice(plain.expose());
        let bound = self.bound_to(record);
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&bound),
                &mut text,
            )
            .map_err(|_| StoreError::Io(format!("{record} is too large to be sealed")))?;
        Ok(Sealed {
            version: ENVELOPE,
            key: self.key_id.clone(),
            nonce: STANDARD.encode(nonce),
            ciphertext: STANDARD.encode(text),
        })
    }

    /// Opens what was sealed for the record at `record`.
    pub fn open(&self, record: &Key, sealed: &Sealed) -> Result<Secret, StoreError> {
        let damaged = |what: &str| {
            StoreError::Damaged(format!(
                "the sealed private material of {record} cannot be opened: {what}"
            ))
        };
        if sealed.version != ENVELOPE {
            return Err(damaged(&format!(
                "its envelope has version {}, and {ENVELOPE} is known",
                sealed.version
            )));
        }
        if sealed.key != self.key_id {
            return Err(damaged(&format!(
                "it was sealed with the key {}, and the key here is {}",
                sealed.key, self.key_id
            )));
        }
        let nonce = STANDARD
            .decode(&sealed.nonce)
            .ok()
            .and_then(|bytes| Nonce::try_assume_unique_for_key(&bytes).ok())
            .ok_or_else(|| damaged("its nonce is damaged"))?;
        let mut text = Zeroizing::new(
            STANDARD
                .decode(&sealed.ciphertext)
                .map_err(|_| damaged("it is not base64"))?,
        );
        let length = self
            .key
            .open_in_place(nonce, Aad::from(self.bound_to(record)), &mut text)
            .map_err(|_| damaged("it was changed, or belongs to another record or store"))?
            .len();
        Ok(Secret::new(text[..length].to_vec()))
    }

    /// What a sealed value is bound to; each part with its length, so that no two places look alike.
    fn bound_to(&self, record: &Key) -> Vec<u8> {
        let mut bound = b"countersign sealed v1".to_vec();
        for part in [&self.store_id, &self.key_id, record.as_str()] {
            bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bound.extend_from_slice(part.as_bytes());
        }
        bound
    }
}

/// The key that seals.
pub(super) struct SealKey {
    bytes: Zeroizing<[u8; KEY_LEN]>,
    id: String,
}

impl SealKey {
    /// Draws a new one, with the text that goes into its file.
    pub(super) fn draw() -> Result<(Self, Zeroizing<String>), StoreError> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        fill(&mut *bytes)?;
        // Room for all of it from the start: a text that grows would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN));
        STANDARD.encode_string(bytes.as_slice(), &mut text);
        text.push('\n');
        Ok((Self::of(bytes), text))
    }

    /// Reads the key that the configuration names.
    pub(super) async fn read(source: &SecretSource, clock: &Clock) -> Result<Self, StoreError> {
        let secret = source.read(clock).await.map_err(|error| {
            StoreError::Io(format!(
                "the key of `seal-key` cannot be read, so the store stays closed: {error}; give the key that the store was made with"
            ))
        })?;
        Self::parse(secret.expose(), &source.describe())
    }

    /// The key in `text`: 32 bytes as they are, or as base64.
    pub(super) fn parse(text: &[u8], source: &str) -> Result<Self, StoreError> {
        if let Ok(bytes) = text.try_into() {
            return Ok(Self::of(Zeroizing::new(bytes)));
        }
        let unpadded = text.strip_suffix(b"=").unwrap_or(text);
        let decoded = Zeroizing::new(STANDARD_NO_PAD.decode(unpadded).unwrap_or_default());
        match decoded.as_slice().try_into() {
            Ok(bytes) => Ok(Self::of(Zeroizing::new(bytes))),
            Err(_) => Err(StoreError::Damaged(format!(
                "{source} holds {} bytes that are no seal key; it takes 32 random bytes in base64, as `openssl rand -base64 32` makes them",
                text.len()
            ))),
        }
    }

    /// Which key this is, without telling the key.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn of(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(b"countersign seal key id v1\0");
        digest.update(&*bytes);
        let id = hex(&digest.finish().as_ref()[..8]);
        Self { bytes, id }
    }
}

/// `bytes` in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fill(bytes: &mut [u8]) -> Result<(), StoreError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| StoreError::Io("the system gives no random bytes".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn key(byte: u8) -> SealKey {
        SealKey::of(Zeroizing::new([byte; KEY_LEN]))
    }

    fn sealer(store: &str, byte: u8) -> Sealer {
        Sealer::for_store(store, &key(byte)).unwrap()
    }

    fn record() -> Key {
        Key::of(&["attempt", "1", "key"])
    }

    fn opens(sealer: &Sealer, record: &Key, sealed: &Sealed) -> bool {
        sealer
            .open(record, sealed)
            .is_ok_and(|plain| plain.expose() == b"private")
    }

    #[test]
    fn opens_where_it_was_put_and_nowhere_else() {
        let here = sealer("a", 1);
        let sealed = here
            .seal(&record(), &Secret::new(b"private".to_vec()))
            .unwrap();
        assert!(opens(&here, &record(), &sealed));
        assert!(!opens(&here, &Key::of(&["attempt", "2", "key"]), &sealed));
        assert!(!opens(&sealer("b", 1), &record(), &sealed));
        assert!(!opens(&sealer("a", 2), &record(), &sealed));
        let renamed = Sealed {
            key: key(2).id,
            ..sealed
        };
        assert!(!opens(&sealer("a", 2), &record(), &renamed));
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let here = sealer("a", 1);
        let sealed = here
            .seal(&record(), &Secret::new(b"private".to_vec()))
            .unwrap();
        let flipped = |text: &str, bit: usize| {
            let mut bytes = STANDARD.decode(text).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            STANDARD.encode(bytes)
        };
        for bit in 0..NONCE_LEN * 8 {
            let nonce = flipped(&sealed.nonce, bit);
            assert!(!opens(
                &here,
                &record(),
                &Sealed {
                    nonce,
                    ..sealed.clone()
                }
            ));
        }
        for bit in 0..(b"private".len() + 16) * 8 {
            let ciphertext = flipped(&sealed.ciphertext, bit);
            assert!(!opens(
                &here,
                &record(),
                &Sealed {
                    ciphertext,
                    ..sealed.clone()
                }
            ));
        }
        for ciphertext in ["", "AAAA", "%"] {
            let ciphertext = ciphertext.to_owned();
            assert!(!opens(
                &here,
                &record(),
                &Sealed {
                    ciphertext,
                    ..sealed.clone()
                }
            ));
        }
    }

    #[test]
    fn is_never_the_same_twice_and_survives_json() {
        let here = Sealer::ephemeral(&MemoryStore::new("a")).unwrap();
        let plain = Secret::new(b"private".to_vec());
        let one = here.seal(&record(), &plain).unwrap();
        let two = here.seal(&record(), &plain).unwrap();
        assert_ne!(one.nonce, two.nonce);
        assert_ne!(one.ciphertext, two.ciphertext);
        let read = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
        assert!(opens(&here, &record(), &read));
    }

    #[test]
    fn a_key_is_taken_raw_and_in_base64() {
        let raw = [0xfb; KEY_LEN];
        let id = SealKey::parse(&raw, "x").unwrap().id;
        for text in [STANDARD.encode(raw), STANDARD_NO_PAD.encode(raw)] {
            assert_eq!(SealKey::parse(text.as_bytes(), "x").unwrap().id, id);
        }
        for wrong in ["", "short", &STANDARD.encode([1; 31]), &"a".repeat(64)] {
            assert!(SealKey::parse(wrong.as_bytes(), "x").is_err(), "{wrong}");
        }
    }
}
