//! What a refusal of Cloudflare means, whose move it is, and the sentence a person reads.
//!
//! Its codes are documented here and there only, and one code means several things: then the words that come with it, or
//! what was asked for, decide. A code that is not known here is told by its HTTP status and in Cloudflare's own words.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::clock::Clock;
use crate::http::{Reply, said};
use crate::record::{DnsName, Zone};
use crate::secret::{Secret, hide};
use crate::words::listed;
use crate::{ErrorKind, ProviderError};

/// What the token must be allowed, in the words of the page where tokens are made.
const RIGHTS: &str =
    "give the token the permissions Zone / DNS / Edit and Zone / Zone / Read for this zone";
/// What is the matter with a token that the API no longer takes.
const UNKNOWN: &str = "the token is unknown, expired or switched off";
/// What to do about it.
const NEW_TOKEN: &str = "make a new API token, and write it to where `token` points";
/// Where zone ids are found.
const ZONE_ID: &str =
    "copy the id from the zone's overview page into `zones`, or leave it out there";

/// A call that came to nothing.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: ProviderError,
    pub(super) meaning: Meaning,
}

/// What a refusal says about what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The record is there already.
    There,
    /// The record is not there.
    Gone,
    /// There is no such call here.
    NoSuchCall,
    /// Anything else.
    Failure,
}

/// What was asked for, for the sentence about its refusal.
#[derive(Clone, Copy, Debug)]
pub(super) enum About<'a> {
    /// The zone of this name.
    Lookup(&'a DnsName),
    /// What is there at these names.
    Look(&'a Zone, &'a [DnsName]),
    /// A change of these names.
    Change(&'a Zone, &'a [DnsName]),
}

/// A refusal as it is written.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<Stated>,
}

#[derive(Deserialize)]
struct Stated {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    message: String,
    /// What it comes down to.
    #[serde(default)]
    error_chain: Vec<Stated>,
}

impl Stated {
    /// Before anything is cut off it.
    fn hide(&mut self, token: &Secret) {
        self.message = hide(&self.message, [token]);
        self.error_chain.iter_mut().for_each(|it| it.hide(token));
    }
}

/// Class, sentence and hint of a code.
struct Known {
    kind: ErrorKind,
    what: String,
    hint: &'static str,
}

impl From<ProviderError> for Fault {
    fn from(error: ProviderError) -> Self {
        let meaning = Meaning::Failure;
        Self { error, meaning }
    }
}

impl Fault {
    pub(super) fn into_error(self) -> ProviderError {
        self.error
    }
}

impl About<'_> {
    /// What `reply` of `host` says; `after` is when a limit that is reached is whole again.
    pub(super) fn refusal(
        &self,
        host: &str,
        reply: &Reply,
        after: Option<Duration>,
        token: &Secret,
        clock: &Clock,
    ) -> Fault {
        let mut refusal: Refusal = serde_json::from_slice(&reply.body).unwrap_or_default();
        refusal.errors.iter_mut().for_each(|it| it.hide(token));
        let stated = innermost_first(&refusal.errors);
        let kind = match reply.kind(clock) {
            ErrorKind::RateLimited { after: None } => ErrorKind::RateLimited { after },
            kind => kind,
        };
        // What the status says outright, no code makes something else of.
        let is_plain = matches!(kind, ErrorKind::RateLimited { .. } | ErrorKind::Transient);
        let known = stated.iter().find_map(|stated| {
            let known = self.known(reply.status, stated, after)?;
            Some((stated.code, known))
        });
        let error = match known {
            Some((code, known)) => {
                let kind = if is_plain { kind } else { known.kind };
                let message = format!("{host} answers {code} to {self}: {}", known.what);
                let error = ProviderError::new(kind, message).code(code.to_string());
                match known.hint {
                    "" => error,
                    hint => error.hint(hint),
                }
            }
            None => self.unknown(host, reply.status, kind, stated.first().copied()),
        };
        Fault {
            error,
            meaning: meaning(reply.status, &stated),
        }
    }

    fn known(&self, status: StatusCode, stated: &Stated, after: Option<Duration>) -> Option<Known> {
        let words = stated.message.to_ascii_lowercase();
        let known = self.of_token(status, stated.code, &words);
        known.or_else(|| self.of_zone_and_record(stated, after))
    }

    fn of_token(&self, status: StatusCode, code: u32, words: &str) -> Option<Known> {
        let known = match code {
            6003 | 6103 | 6111 => auth(
                "what is there for a token has not the form of one",
                "write the API token alone, on one line, without a line end, space or quote inside; a Global API Key is none",
            ),
            1000 => auth("it knows no such token", NEW_TOKEN),
            9103 => auth(
                "it takes what `token` points to for a Global API Key, and knows none like it",
                "use an API token, not the Global API Key",
            ),
            9106 | 9107 => auth(
                "no credential reached it",
                "look for something between here and there that takes the header Authorization away",
            ),
            9109 if words.contains("location") => permission(
                "the token may not be used from this machine's address",
                "allow the address in the token's client IP address filtering",
            ),
            9109 if words.contains("max auth") => auth(
                "too many wrong credentials came from here; it listens again in a while",
                "correct the token first; whoever else uses a wrong one here keeps it shut",
            ),
            9109 if words.contains("token") => auth(UNKNOWN, NEW_TOKEN),
            10001 => auth("it cannot tell whose the token is", NEW_TOKEN),
            10000 if status == StatusCode::UNAUTHORIZED => auth(UNKNOWN, NEW_TOKEN),
            10000 => match self {
                Self::Lookup(_) => permission(
                    "the token is unknown, or has no right to look zones up",
                    RIGHTS,
                ),
                Self::Change(..) => self.right(),
                Self::Look(..) => permission(
                    &format!(
                        "the token has no right to the {}, or this is not its id",
                        self.place()
                    ),
                    RIGHTS,
                ),
            },
            0 if words.contains("requires permission") => self.right(),
            9109 => self.right(),
            _ => return None,
        };
        Some(known)
    }

    /// A good token without a right.
    fn right(&self) -> Known {
        match self {
            Self::Lookup(_) => permission(
                "the token may not look zones up",
                "give it the permission Zone / Zone / Read, or write the zone's id under `zones`: then nothing is looked up",
            ),
            Self::Look(..) => permission(
                &format!("the token may not read the records of the {}", self.place()),
                RIGHTS,
            ),
            Self::Change(..) => permission(
                &format!(
                    "the token may not change the records of the {}",
                    self.place()
                ),
                RIGHTS,
            ),
        }
    }

    fn of_zone_and_record(&self, stated: &Stated, after: Option<Duration>) -> Option<Known> {
        let place = self.place();
        let known = match stated.code {
            1009 | 1014 => self.right(),
            7000 | 7003 | 1001 | 1002 | 1011 => of(
                ErrorKind::ZoneMissing,
                &format!("it knows no {place}"),
                ZONE_ID,
            ),
            1012 => permission(
                &format!("the {place} cannot be changed there: it is a copy, or on hold"),
                "change the zone where it is kept, or ask whoever manages the account",
            ),
            971 | 10100 => of(
                ErrorKind::RateLimited { after },
                "it was asked too often with this token",
                "",
            ),
            81045 => of(
                ErrorKind::Quota,
                &format!("the {place} has as many records as its plan allows"),
                "remove records that nobody needs, or take a larger plan",
            ),
            9300 => of(
                ErrorKind::Quota,
                "the plan allows no more tags on records",
                "remove tags that nobody needs",
            ),
            81053 | 81055 => invalid(
                "there is an A, AAAA or CNAME record where the TXT record should be",
                "remove it, or put the value where the CNAME leads",
            ),
            81054 => invalid(
                "there is a CNAME where the TXT record should be",
                "remove the CNAME, or put the value where it leads",
            ),
            81056 => invalid(
                "the name is delegated by NS records",
                "change it at the servers that it is delegated to",
            ),
            81057 | 81058 => of(
                ErrorKind::Conflict,
                "somebody else made the same record meanwhile",
                "",
            ),
            81044 => of(
                ErrorKind::Conflict,
                "somebody else removed a record meanwhile",
                "",
            ),
            9000 => invalid("it says that this is no name for a record", ""),
            9020 => invalid("it takes no TXT records here", ""),
            9021 => invalid(
                "it refuses the TTL; the plan decides what is allowed",
                "use 60 to 86400 seconds",
            ),
            6007 | 9207 => of(
                ErrorKind::Fatal,
                "it does not understand the request",
                "look for something between here and there that rewrites requests; else this is a fault of Countersign",
            ),
            1004 => {
                let inner = stated.error_chain.first().unwrap_or(stated);
                invalid(
                    &format!("it refuses a record ({})", said(&inner.message)),
                    "",
                )
            }
            _ => return None,
        };
        Some(known)
    }

    fn unknown(
        &self,
        host: &str,
        status: StatusCode,
        kind: ErrorKind,
        stated: Option<&Stated>,
    ) -> ProviderError {
        let status = status.as_u16();
        match stated {
            Some(stated) => {
                let (code, words) = (stated.code, said(&stated.message));
                let message = format!("{host} answers {status} to {self}: {words} ({code})");
                ProviderError::new(kind, message).code(code.to_string())
            }
            None => {
                let message =
                    format!("{host} answers {status} to {self}, without a reason that can be read");
                ProviderError::new(kind, message)
            }
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Lookup(name) => format!("zone {name}"),
            Self::Look(zone, _) | Self::Change(zone, _) => {
                format!("zone {} with the id {}", zone.name, said(&zone.id))
            }
        }
    }

    /// One that nothing was sent for.
    pub(super) fn outside(zone: &Zone, name: &DnsName) -> ProviderError {
        let message = format!("{name} is not in the zone {}", zone.name);
        ProviderError::new(ErrorKind::Invalid, message)
    }
}

impl std::fmt::Display for About<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lookup(name) => write!(f, "the search for the zone {name}"),
            Self::Look(_, names) => write!(f, "a look at {}", listed(names)),
            Self::Change(_, names) => write!(f, "a change of {}", listed(names)),
        }
    }
}

fn meaning(status: StatusCode, stated: &[&Stated]) -> Meaning {
    let has = |codes: &[u32]| stated.iter().any(|stated| codes.contains(&stated.code));
    match status.as_u16() {
        _ if has(&[81057, 81058]) => Meaning::There,
        _ if has(&[81044]) => Meaning::Gone,
        404 | 405 | 501 => Meaning::NoSuchCall,
        _ if has(&[7000, 7001, 7003]) => Meaning::NoSuchCall,
        _ => Meaning::Failure,
    }
}

/// What each error comes down to, then what it is wrapped in.
fn innermost_first(errors: &[Stated]) -> Vec<&Stated> {
    let inner = errors.iter().flat_map(|error| &error.error_chain);
    inner.chain(errors).collect()
}

fn of(kind: ErrorKind, what: &str, hint: &'static str) -> Known {
    let what = what.to_owned();
    Known { kind, what, hint }
}

fn auth(what: &str, hint: &'static str) -> Known {
    of(ErrorKind::Auth, what, hint)
}

fn permission(what: &str, hint: &'static str) -> Known {
    of(ErrorKind::Permission, what, hint)
}

fn invalid(what: &str, hint: &'static str) -> Known {
    of(ErrorKind::Invalid, what, hint)
}
