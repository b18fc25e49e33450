//! The five files of a generation, cut from its two texts.

use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::files::FileKind;
use super::{DeliverError, Generation};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What goes into the files of a generation.
pub(super) struct Contents {
    fullchain: Vec<u8>,
    /// Where the first certificate ends.
    cut: usize,
    key: Zeroizing<Vec<u8>>,
    bundle: Zeroizing<Vec<u8>>,
}

impl Contents {
    pub(super) fn of(generation: &Generation) -> Result<Self, DeliverError> {
        let fullchain = ending_in_newline(generation.fullchain_pem.as_bytes());
        let cut = end_of_first(&fullchain).ok_or_else(|| {
            DeliverError::Malformed(format!(
                "generation {} does not begin with a certificate in PEM",
                generation.number
            ))
        })?;
        let key = Zeroizing::new(ending_in_newline(generation.key_pem.expose()));
        if !key.starts_with(b"-----BEGIN ") {
            return Err(DeliverError::Malformed(format!(
                "the private key of generation {} is not in PEM",
                generation.number
            )));
        }
        let mut bundle = Zeroizing::new(Vec::with_capacity(key.len() + fullchain.len()));
        bundle.extend_from_slice(&key);
        bundle.extend_from_slice(&fullchain);
        Ok(Self {
            fullchain,
            cut,
            key,
            bundle,
        })
    }

    pub(super) fn file(&self, kind: FileKind) -> &[u8] {
        match kind {
            FileKind::Fullchain => &self.fullchain,
            FileKind::Cert => &self.fullchain[..self.cut],
            FileKind::Chain => &self.fullchain[self.cut..],
            FileKind::Privkey => &self.key,
            FileKind::Bundle => &self.bundle,
        }
    }
}

/// `text` with a line end at its end.
pub(super) fn ending_in_newline(text: &[u8]) -> Vec<u8> {
    let text = text.trim_ascii();
    let mut whole = Vec::with_capacity(text.len() + 1);
    whole.extend_from_slice(text);
    whole.push(b'\n');
    whole
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn end_of_first(fullchain: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(fullchain).ok()?;
    if !text.starts_with(BEGIN) {
        return None;
    }
    let end = text.find(END)? + END.len();
    let line_end = text[end..].find('\n')?;
    text[end..][..line_end]
        .trim()
        .is_empty()
        .then_some(end + line_end + 1)
}
