//! TSIG (RFC 8945): where a key comes from, how a request is signed, what a reply's TSIG says.
//!
//! A reply is read before it is verified, so that an unsigned or half-signed refusal keeps its meaning; nothing but a
//! refusal is ever believed without a good signature.

use std::path::Path;

use base64::Engine;
use hickory_proto::op::Message;
use hickory_proto::rr::TSigner;
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use zeroize::Zeroizing;

use super::message::wire_name;
use super::{Algorithm, Tsig};
use crate::clock::Clock;
use crate::record::{DnsName, NameError};
use crate::secret::{SecretError, SecretSource};

/// How far the two clocks may be apart, in seconds (the value that RFC 8945 section 10 recommends).
pub(super) const FUDGE: u16 = 300;

/// A key that is ready to sign.
pub(super) struct Key {
    /// Its name, as the server knows it.
    pub(super) name: DnsName,
    /// How it signs.
    pub(super) algorithm: Algorithm,
    signer: TSigner,
}

impl Key {
    /// Reads the key from where it is kept, now.
    pub(super) async fn read(tsig: &Tsig, clock: &Clock) -> Result<Self, KeyError> {
        match tsig {
            Tsig::KeyFile(path) => {
                let source = SecretSource::File(path.clone());
                let text = source.read(clock).await?;
                let parts = parse_key_file(text.expose_text()?)
                    .map_err(|fault| KeyError::in_file(path, fault))?;
                Self::new(parts.name, parts.algorithm, parts.secret)
                    .map_err(|fault| KeyError::in_file(path, fault))
            }
            Tsig::Parts {
                name,
                algorithm,
                secret,
            } => {
                let text = secret.read(clock).await?;
                Self::new(name.clone(), *algorithm, text.expose_text()?.trim()).map_err(|fault| {
                    KeyError::Content {
                        place: secret.describe(),
                        fault,
                    }
                })
            }
        }
    }

    fn new(name: DnsName, algorithm: Algorithm, base64: &str) -> Result<Self, KeyFault> {
        let mut secret = Zeroizing::new(Vec::new());
        base64::engine::general_purpose::STANDARD
            .decode_vec(base64, &mut secret)
            .map_err(|_| KeyFault::NotBase64)?;
        if secret.is_empty() {
            return Err(KeyFault::Missing("secret"));
        }
        let owner = wire_name(&name).map_err(|_| KeyFault::NameTooLong)?;
        let signer = TSigner::new(
            std::mem::take(&mut *secret),
            wire_algorithm(algorithm),
            owner,
            FUDGE,
        )
        .map_err(|_| KeyFault::Algorithm(algorithm.as_str().to_owned()))?;
        Ok(Self {
            name,
            algorithm,
            signer,
        })
    }

    /// Signs `message` as of `now` (Unix seconds) and gives the MAC, which the reply is bound to.
    pub(super) fn sign(&self, message: &mut Message, now: u64) -> Result<Vec<u8>, String> {
        message
            .finalize(&self.signer, now)
            .map_err(|error| error.to_string())?;
        Ok(message
            .signature()
            .map(|record| record.data.mac.clone())
            .unwrap_or_default())
    }

    /// What the TSIG of `message`, received as `bytes`, says about the request with `request_mac` made at `signed_at`.
    pub(super) fn judge(
        &self,
        message: &Message,
        bytes: &[u8],
        request_mac: &[u8],
        signed_at: u64,
    ) -> Signature {
        let Some(record) = message.signature() else {
            return Signature::Absent;
        };
        let tsig = &record.data;
        // The library subtracts the fudge from the time without looking.
        let verified = tsig.time >= u64::from(tsig.fudge)
            && self
                .signer
                .verify_message_byte(bytes, Some(request_mac), true)
                .is_ok();
        if let Some(error) = tsig.error {
            return Signature::Fault {
                error,
                server_time: server_time(&tsig.other).filter(|_| verified),
            };
        }
        let fresh = tsig.time.abs_diff(signed_at) <= u64::from(FUDGE);
        if verified && fresh {
            Signature::Good
        } else {
            Signature::Wrong
        }
    }
}

/// What a reply's TSIG says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// The request was not signed, so nothing is expected.
    NotWanted,
    /// None, though the request was signed.
    Absent,
    /// It is the server's, for this reply to this request.
    Good,
    /// It does not fit.
    Wrong,
    /// The server could not accept the request's own (RFC 8945 section 5.2).
    Fault {
        /// Why.
        error: TsigError,
        /// The server's clock in Unix seconds; only from a BADTIME reply whose signature is good.
        server_time: Option<u64>,
    },
}

/// Why there is no key to sign with. Never holds any part of a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    /// Not readable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Readable, but not a key.
    #[error("{place}: {fault}")]
    Content {
        /// The file, or the source of the secret.
        place: String,
        /// What is wrong.
        fault: KeyFault,
    },
}

impl KeyError {
    fn in_file(path: &Path, fault: KeyFault) -> Self {
        Self::Content {
            place: path.display().to_string(),
            fault,
        }
    }
}

/// What is wrong with a key or a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyFault {
    #[error(
        "this is no key file; wanted is what `tsig-keygen` or `keymgr -t` print, e.g. `key \"name\" {{ algorithm hmac-sha256; secret \"…\"; }};`"
    )]
    NotAKeyFile,
    #[error("the file holds more than one key; wanted is exactly one")]
    SeveralKeys,
    #[error("the key has no {0}")]
    Missing(&'static str),
    #[error("the key has more than one {0}")]
    Twice(&'static str),
    #[error(
        "the algorithm `{0}` is not supported; wanted is hmac-sha256, hmac-sha384 or hmac-sha512"
    )]
    Algorithm(String),
    #[error("the key's name is not a DNS name: {0}")]
    Name(NameError),
    #[error("the key's name is too long for a DNS name")]
    NameTooLong,
    #[error("the secret is not base64")]
    NotBase64,
}

/// A key file's content; the secret is still base64 and borrowed, so that no copy of it is made.
struct KeyParts<'a> {
    name: DnsName,
    algorithm: Algorithm,
    secret: &'a str,
}

/// Reads BIND's `key "name" { algorithm …; secret "…"; };` or Knot's YAML of `keymgr -t`.
fn parse_key_file(text: &str) -> Result<KeyParts<'_>, KeyFault> {
    let tokens = tokens(text)?;
    let mut rest = tokens.as_slice();
    let parts = match rest {
        [
            Token::Word("key"),
            Token::Word(name),
            Token::Mark('{'),
            after @ ..,
        ] => {
            rest = after;
            bind_body(name, &mut rest)?
        }
        [Token::Word("key:"), after @ ..] => {
            rest = after;
            knot_body(&mut rest)?
        }
        _ => return Err(KeyFault::NotAKeyFile),
    };
    match rest {
        [] => Ok(parts),
        [Token::Word("key" | "key:" | "-"), ..] => Err(KeyFault::SeveralKeys),
        _ => Err(KeyFault::NotAKeyFile),
    }
}

/// The fields of one key while they are being collected.
#[derive(Default)]
struct Fields<'a> {
    algorithm: Option<&'a str>,
    secret: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, field: &str, value: &'a str) -> Result<(), KeyFault> {
        let (slot, name) = match field {
            "algorithm" => (&mut self.algorithm, "algorithm"),
            "secret" => (&mut self.secret, "secret"),
            _ => return Err(KeyFault::NotAKeyFile),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(KeyFault::Twice(name)),
        }
    }

    fn finish(self, name: &str) -> Result<KeyParts<'a>, KeyFault> {
        let algorithm = self.algorithm.ok_or(KeyFault::Missing("algorithm"))?;
        Ok(KeyParts {
            name: DnsName::parse(name).map_err(KeyFault::Name)?,
            algorithm: Algorithm::parse(algorithm)
                .ok_or_else(|| KeyFault::Algorithm(algorithm.chars().take(40).collect()))?,
            secret: self.secret.ok_or(KeyFault::Missing("secret"))?,
        })
    }
}

fn bind_body<'a>(name: &str, rest: &mut &[Token<'a>]) -> Result<KeyParts<'a>, KeyFault> {
    let mut fields = Fields::default();
    loop {
        match rest {
            [
                Token::Word(field),
                Token::Word(value),
                Token::Mark(';'),
                after @ ..,
            ] => {
                fields.set(field, value)?;
                *rest = after;
            }
            [Token::Mark('}'), Token::Mark(';'), after @ ..] => {
                *rest = after;
                return fields.finish(name);
            }
            _ => return Err(KeyFault::NotAKeyFile),
        }
    }
}

fn knot_body<'a>(rest: &mut &[Token<'a>]) -> Result<KeyParts<'a>, KeyFault> {
    let [
        Token::Word("-"),
        Token::Word("id:"),
        Token::Word(name),
        after @ ..,
    ] = rest
    else {
        return Err(KeyFault::NotAKeyFile);
    };
    *rest = after;
    let mut fields = Fields::default();
    while let [Token::Word(field), Token::Word(value), after @ ..] = rest {
        let Some(field) = field.strip_suffix(':').filter(|field| *field != "key") else {
            break;
        };
        fields.set(field, value)?;
        *rest = after;
    }
    fields.finish(name)
}

/// A word (its quotes gone) or a mark of BIND's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Mark(char),
}

/// Splits `text`, leaving out `#`, `//` and `/* */` comments.
fn tokens(text: &str) -> Result<Vec<Token<'_>>, KeyFault> {
    let mut rest = text.trim_start_matches('\u{feff}');
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        if first == '#' || rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let (_, after) = comment.split_once("*/").ok_or(KeyFault::NotAKeyFile)?;
            rest = after;
        } else if matches!(first, '{' | '}' | ';') {
            tokens.push(Token::Mark(first));
            rest = &rest[first.len_utf8()..];
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let (word, after) = quoted.split_once('"').ok_or(KeyFault::NotAKeyFile)?;
            tokens.push(Token::Word(word));
            rest = after;
        } else {
            let end = rest
                .find(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"'))
                .unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..end]));
            rest = &rest[end..];
        }
    }
}

fn wire_algorithm(algorithm: Algorithm) -> TsigAlgorithm {
    match algorithm {
        Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
        Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
        Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
    }
}

/// The 48-bit time of a BADTIME reply (RFC 8945 section 4.2, Other Data).
fn server_time(other: &[u8]) -> Option<u64> {
    let octets: [u8; 6] = other.try_into().ok()?;
    Some(
        octets
            .iter()
            .fold(0, |time, octet| time << 8 | u64::from(*octet)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Algorithm, String) {
        let parts = parse_key_file(text).ok().unwrap();
        (
            parts.name.to_string(),
            parts.algorithm,
            parts.secret.to_owned(),
        )
    }

    fn fault(text: &str) -> KeyFault {
        parse_key_file(text).err().unwrap()
    }

    #[test]
    fn reads_what_tsig_keygen_prints() {
        let text = "key \"acme-key\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0\";\n};\n";
        let wanted = ("acme-key".into(), Algorithm::HmacSha256, "c2VjcmV0".into());
        assert_eq!(parsed(text), wanted);
    }

    #[test]
    fn reads_what_keymgr_prints() {
        let text = "# hmac-sha512:foo:c2VjcmV0\nkey:\n  - id: foo\n    algorithm: hmac-sha512\n    secret: c2VjcmV0\n";
        let wanted = ("foo".into(), Algorithm::HmacSha512, "c2VjcmV0".into());
        assert_eq!(parsed(text), wanted);
    }

    #[test]
    fn reads_comments_and_any_order() {
        let text =
            "// a\n/* b\n*/ key k.example. { secret c2VjcmV0; # c\n algorithm \"HMAC-SHA384\"; };";
        let wanted = ("k.example".into(), Algorithm::HmacSha384, "c2VjcmV0".into());
        assert_eq!(parsed(text), wanted);
    }

    #[test]
    fn refuses_what_is_not_exactly_one_key() {
        let one = "key \"a\" { algorithm hmac-sha256; secret \"AA==\"; };";
        assert_eq!(fault(&format!("{one}{one}")), KeyFault::SeveralKeys);
        let knot = "key:\n- id: a\n  algorithm: hmac-sha256\n  secret: AA==\n";
        assert_eq!(
            fault(&format!("{knot}- id: b\n  algorithm: hmac-sha256\n")),
            KeyFault::SeveralKeys
        );
        assert_eq!(fault(""), KeyFault::NotAKeyFile);
        assert_eq!(fault("-----BEGIN PRIVATE KEY-----"), KeyFault::NotAKeyFile);
        assert_eq!(
            fault("key \"a\" { secret \"AA==\"; }"),
            KeyFault::NotAKeyFile
        );
        assert_eq!(
            fault("key \"a\" { algorithm hmac-sha256; };"),
            KeyFault::Missing("secret")
        );
        assert_eq!(
            fault("key \"a\" { secret \"AA==\"; secret \"AA==\"; };"),
            KeyFault::Twice("secret")
        );
    }

    #[test]
    fn names_the_algorithm_that_is_not_supported() {
        let text = "key \"a\" { algorithm hmac-md5; secret \"AA==\"; };";
        assert_eq!(
            fault(text).to_string(),
            "the algorithm `hmac-md5` is not supported; wanted is hmac-sha256, hmac-sha384 or hmac-sha512"
        );
    }

    #[test]
    fn never_repeats_a_secret_that_is_not_base64() {
        let name = DnsName::parse("k").unwrap();
        let error = Key::new(name, Algorithm::HmacSha256, "hush!")
            .err()
            .unwrap();
        assert_eq!(error.to_string(), "the secret is not base64");
    }

    #[test]
    fn reads_the_time_of_a_badtime_reply_only_in_full() {
        assert_eq!(server_time(&[0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(server_time(&[0, 0, 1, 2]), None);
    }
}
