//! Where in the configuration something stands, and what is wrong there. Positions in the file are found later, by
//! `yaml`, only for what is reported.

use std::collections::HashMap;
use std::fmt;

use schemars::JsonSchema;

use super::raw::{self, Unknown};

/// Keys whose values may be secrets, or hold one that was written in the wrong place.
const SENSITIVE: [&str; 22] = [
    "secret",
    "secrets",
    // Of a plug-in: only that knows what is in it.
    "config",
    "mac-key",
    "seal-key",
    "tsig",
    "external-account",
    "token",
    "accounts",
    "password",
    "secret-access-key",
    "credentials",
    "application-key",
    "application-secret",
    "consumer-key",
    "client-secret",
    // The two halves of a key are easily mixed up.
    "access-key-id",
    "client-id",
    "api-key",
    // Whoever knows the URL may write there.
    "webhook",
    "url",
    "heartbeat",
];
/// Keys below those that hold none.
const HARMLESS: [&str; 9] = [
    "keyfile",
    "name",
    "algorithm",
    "key-id",
    "file",
    "env",
    "credential",
    "command",
    "template",
];
/// Keys that a later version knows, by the type that will have them.
const LATER: [(&str, &[&str]); 1] = [("Target", &["verify", "ssh", "command"])];
/// So many words are listed.
const LISTED: usize = 20;
/// How alike two words must be for one to be offered for the other (Jaro-Winkler).
const ALIKE: f64 = 0.8;

/// A way from the top of the file to a value: a list that grows at its end, on the stack of the checks.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    /// The top of a file, by its number.
    Top(usize),
    Key(&'a str, usize),
    Index(usize),
}

/// One step of a path that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// The n-th occurrence of a key, from 0.
    Key(String, usize),
    /// The n-th element of a list, from 0.
    Index(usize),
}

impl<'a> Path<'a> {
    /// The whole of the file that the others are included by.
    pub(super) const TOP: Path<'static> = Path::top(0);

    /// The whole of a file, by its number.
    pub(super) const fn top(file: usize) -> Path<'static> {
        Path {
            parent: None,
            step: Step::Top(file),
        }
    }

    /// The number of the file that it is in.
    pub(super) fn file(&self) -> usize {
        match (self.parent, self.step) {
            (Some(parent), _) => parent.file(),
            (None, Step::Top(file)) => file,
            (None, _) => 0,
        }
    }

    /// The value of `key`.
    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        self.nth_key(key, 0)
    }

    /// The value of the n-th occurrence of `key`, from 0.
    pub(super) fn nth_key(&'a self, key: &'a str, nth: usize) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Key(key, nth),
        }
    }

    /// The element `index` of a list, from 0.
    pub(super) fn index(&'a self, index: usize) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// The path, kept.
    pub(super) fn segments(&self) -> Vec<Segment> {
        let mut segments = self.parent.map_or_else(Vec::new, Self::segments);
        match self.step {
            Step::Top(_) => {}
            Step::Key(key, nth) => segments.push(Segment::Key(key.to_owned(), nth)),
            Step::Index(index) => segments.push(Segment::Index(index)),
        }
        segments
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&path_text(&self.segments()))
    }
}

/// `certificates.example.names[1]`
pub(super) fn path_text(segments: &[Segment]) -> String {
    segments.iter().fold(String::new(), |mut text, segment| {
        match segment {
            Segment::Key(key, _) if text.is_empty() => text.push_str(key),
            Segment::Key(key, _) => text.push_str(&format!(".{key}")),
            Segment::Index(index) => text.push_str(&format!("[{index}]")),
        }
        text
    })
}

/// Whether what stands at a path, written as text, could be a secret and is therefore not shown.
pub(super) fn is_sensitive(path: &str) -> bool {
    let keys: Vec<&str> = path.split(['.', '[']).collect();
    // Below `env` are variables of a script; beside it is the name of one, where a secret is.
    let is_variable = keys.iter().rev().skip(1).any(|key| *key == "env");
    let below = is_variable || keys.iter().any(|key| SENSITIVE.contains(key));
    let harmless = keys
        .iter()
        .rev()
        .find(|key| !key.ends_with(']'))
        .is_some_and(|key| HARMLESS.contains(key));
    below && !harmless
}

/// Whether a line may show a secret after this key.
pub(super) fn is_sensitive_key(key: &str) -> bool {
    SENSITIVE.contains(&key)
}

/// Which part of an entry is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The value.
    Value,
    /// Its key; also for what is missing in the value.
    Key,
}

/// Something wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The number of the file.
    pub(super) file: usize,
    pub(super) path: Vec<Segment>,
    pub(super) part: Part,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Where the same stood before: the number of that file, and the way there.
    pub(super) before: Option<(usize, Vec<Segment>)>,
}

/// All that was found wrong.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) all: Vec<Problem>,
    /// The keys that mappings know, by type: thousands may be wrong in the same way.
    known: HashMap<&'static str, Vec<String>>,
}

impl Problems {
    /// The value at `at` is wrong.
    pub(super) fn value(
        &mut self,
        at: &Path<'_>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(at, Part::Value, message.into(), hint.into());
    }

    /// The key at `at` is wrong, or something is missing below it.
    pub(super) fn key(
        &mut self,
        at: &Path<'_>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(at, Part::Key, message.into(), hint.into());
    }

    /// The key at `at` stood at `before` already, in that file.
    pub(super) fn again(
        &mut self,
        at: &Path<'_>,
        before: (usize, Vec<Segment>),
        key: &str,
        hint: &str,
    ) {
        self.key(
            at,
            format!("the key `{key}` stands here a second time"),
            hint,
        );
        if let Some(problem) = self.all.last_mut() {
            problem.before = Some(before);
        }
    }

    /// The key `key` is missing in the mapping at `at`. Unless one was reported there that is meant to be it.
    pub(super) fn missing(&mut self, at: &Path<'_>, key: &str, hint: impl Into<String>) {
        if self.is_misspelt(at, key) {
            return;
        }
        self.key(at, format!("`{key}` is missing"), hint);
    }

    /// Those of `keys` (with whether they are given, and a hint) that are missing in the mapping at `at`.
    pub(super) fn required(&mut self, at: &Path<'_>, keys: &[(&str, bool, &str)]) {
        for (key, _, hint) in keys.iter().filter(|(_, is_given, _)| !is_given) {
            self.missing(at, key, *hint);
        }
    }

    /// The value at `at` belongs to a later version.
    pub(super) fn later(&mut self, at: &Path<'_>, what: &str, hint: impl Into<String>) {
        self.value(at, format!("{what}: not in this version"), hint);
    }

    /// Reports the keys of a `T` at `at` that it does not know.
    pub(super) fn unknown_keys<T: JsonSchema>(&mut self, at: &Path<'_>, unknown: &Unknown) {
        let later = LATER.iter().find(|(name, _)| T::schema_name() == *name);
        let later = later.map_or(&[][..], |it| it.1);
        for (index, key) in unknown.0.iter().enumerate() {
            if unknown.0[..index].contains(key) {
                continue;
            }
            let here = at.key(key);
            if later.contains(&key.as_str()) {
                self.key(
                    &here,
                    format!("the key `{key}` is not in this version"),
                    "take it out; nothing is accepted and ignored",
                );
            } else {
                let known = self.known.entry(std::any::type_name::<T>());
                let hint = nearest_hint(key, known.or_insert_with(raw::known_keys::<T>));
                self.key(&here, format!("unknown key `{key}`"), hint);
            }
        }
    }

    /// Whether an unknown key in the mapping at `at` was taken for `key`.
    pub(super) fn is_misspelt(&self, at: &Path<'_>, key: &str) -> bool {
        let (file, mapping) = (at.file(), at.segments());
        let offer = Some(did_you_mean(key));
        // Those of the same mapping were reported last.
        self.all.iter().rev().any(|problem| {
            problem.hint == offer
                && problem.part == Part::Key
                && problem.file == file
                && problem
                    .path
                    .split_last()
                    .is_some_and(|(_, parent)| parent == mapping)
        })
    }

    fn push(&mut self, at: &Path<'_>, part: Part, message: String, hint: String) {
        self.all.push(Problem {
            file: at.file(),
            path: at.segments(),
            part,
            message,
            hint: (!hint.is_empty()).then_some(hint),
            before: None,
        });
    }
}

/// `did you mean …`, or all that is known where nothing is near.
pub(super) fn nearest_hint<S: AsRef<str>>(word: &str, known: &[S]) -> String {
    match nearest(word, known) {
        Some(near) => did_you_mean(near),
        None => format!("known here: {}", listed(known)),
    }
}

fn did_you_mean(near: &str) -> String {
    format!("did you mean `{near}`?")
}

/// The known word that is most like `word`, if one is alike.
pub(super) fn nearest<'k, S: AsRef<str>>(word: &str, known: &'k [S]) -> Option<&'k str> {
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(word, known.as_ref()), known.as_ref()))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// The words with commas between; of very many the first.
pub(super) fn listed<S: AsRef<str>>(words: &[S]) -> String {
    let first = words.iter().take(LISTED).map(AsRef::as_ref);
    let first = first.collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_the_file() {
        let (certificates, example, names);
        certificates = Path::TOP.key("certificates");
        example = certificates.key("example");
        names = example.key("names");
        assert_eq!(names.index(1).to_string(), "certificates.example.names[1]");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for hidden in [
            "seal-key",
            "providers.o.rfc2136.tsig",
            "providers.o.rfc2136.tsig.secret",
            "providers.o.rfc2136.tsig.sceret",
            "authorities.a.external-account.mac-key.fiel",
            "providers.o.process.secrets.token",
            "providers.o.lego-exec.env.TOKEN",
        ] {
            assert!(is_sensitive(hidden), "{hidden}");
        }
        for shown in [
            "providers.o.rfc2136.tsig.algorithm",
            "authorities.a.external-account.mac-key.file",
            "seal-key.command[0]",
            "seal-key.env",
            "providers.o.lego-exec.env.TOKEN.env",
            "certificates.example.names[1]",
        ] {
            assert!(!is_sensitive(shown), "{shown}");
        }
    }

    #[test]
    fn a_near_word_is_offered_and_a_far_one_lists_all() {
        let known = ["names", "provider", "deliver"];
        assert_eq!(nearest_hint("name", &known), "did you mean `names`?");
        assert_eq!(
            nearest_hint("xyz", &known),
            "known here: names, provider, deliver"
        );
    }
}
