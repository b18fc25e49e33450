//! Text → [`Root`], and places in the text.
//!
//! The parser tells where an error stands only for errors raised while it deserialises. So a place is found by
//! deserialising once more along the path, and raising an error on arrival. That costs a second pass for each error
//! that is shown and nothing for a configuration without errors.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{ConfigError, ConfigErrors, Place, without_secrets};
use super::problems::{Part, Problem, Segment, is_sensitive, path_text};
use super::raw::Root;

/// What an empty configuration wants.
const EMPTY_HINT: &str = "it needs authorities, certificates, and providers or a nameserver";

/// The text of a file.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a std::path::Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// Reads the text; that of an included file may be empty.
    pub(super) fn read(&self, is_included: bool) -> Result<Root, ConfigErrors> {
        let error = if is_blank(self.text) {
            match is_included {
                true => return Ok(Root::default()),
                false => whole("the configuration is empty", EMPTY_HINT),
            }
        } else {
            match serde_yaml::from_str(self.text) {
                Ok(root) => return Ok(root),
                Err(error) => explain(self.text, &error),
            }
        };
        Err(ConfigErrors(vec![ConfigError {
            file: self.file.to_owned(),
            ..error
        }]))
    }

    /// Where a key stands.
    pub(super) fn key_at(&self, path: &[Segment]) -> Option<(usize, usize)> {
        let found = find(self.text, path, Part::Key)?;
        Some((found.place.line, found.place.column))
    }

    /// The problem with its place, its value, and the file's name.
    pub(super) fn locate(&self, problem: Problem) -> ConfigError {
        let found = match &problem.path[..] {
            [] => None,
            path => find(self.text, path, problem.part),
        };
        let (place, value) = found.map_or((None, None), |it| (Some(it.place), it.value));
        ConfigError {
            place,
            value,
            ..self.name(problem)
        }
    }

    /// The problem with the file's name only.
    pub(super) fn name(&self, problem: Problem) -> ConfigError {
        ConfigError {
            file: self.file.to_owned(),
            place: None,
            path: path_text(&problem.path),
            value: None,
            message: without_secrets(&problem.message),
            hint: problem.hint,
        }
    }
}

/// Whether there are only comments.
fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    })
}

/// Something wrong with the file as a whole.
fn whole(message: &str, hint: &str) -> ConfigError {
    ConfigError {
        file: PathBuf::new(),
        place: None,
        path: String::new(),
        value: None,
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

/// A place, and the scalar there.
struct Found {
    place: Place,
    value: Option<String>,
}

/// The place of `part` of what stands at `path`; `None` when there is no such thing.
fn find(text: &str, path: &[Segment], part: Part) -> Option<Found> {
    let (path, part) = match path.last() {
        Some(Segment::Key(..)) => (path, part),
        // Elements of a list and the file itself have no key.
        _ => (path, Part::Value),
    };
    let scalar = RefCell::new(None);
    let seek = Seek {
        path,
        part,
        scalar: &scalar,
    };
    let error = seek
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    let location = error.location()?;
    // An error of the parser itself is not an arrival.
    if !error.to_string().contains(ARRIVED) {
        return None;
    }
    let value = scalar.into_inner();
    let hide = part == Part::Value && is_sensitive(&path_text(path));
    let width = value
        .as_deref()
        .map_or(1, |value: &str| value.chars().count());
    let (line, column) = (location.line(), location.column());
    let width = width + 2 * usize::from(is_quoted(text, line, column));
    Some(Found {
        place: Place::of(text, line, column, width, hide),
        value: value
            .filter(|_| part == Part::Value && !hide)
            .map(|it| without_secrets(&it)),
    })
}

fn is_quoted(text: &str, line: usize, column: usize) -> bool {
    text.lines()
        .nth(line.saturating_sub(1))
        .and_then(|line| line.chars().nth(column.saturating_sub(1)))
        .is_some_and(|c| matches!(c, '"' | '\''))
}

const ARRIVED: &str = "arrived at the place looked for";

/// Goes along a path and raises an error at its end.
struct Seek<'a> {
    path: &'a [Segment],
    part: Part,
    scalar: &'a RefCell<Option<String>>,
}

impl Seek<'_> {
    fn arrive<E: serde::de::Error>(&self, scalar: Option<String>) -> E {
        *self.scalar.borrow_mut() = scalar;
        E::custom(ARRIVED)
    }

    fn on(&self) -> Seek<'_> {
        Seek {
            path: self.path.get(1..).unwrap_or_default(),
            part: self.part,
            scalar: self.scalar,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path.first() {
            None => deserializer.deserialize_any(self),
            Some(Segment::Key(..)) => deserializer.deserialize_map(self),
            Some(Segment::Index(_)) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some(Segment::Key(wanted, nth)) = self.path.first() else {
            return Err(self.arrive(None));
        };
        let mut seen = 0;
        let stop_at_key = self.part == Part::Key && self.path.len() == 1;
        loop {
            let stop = (stop_at_key && seen == *nth).then_some((wanted.as_str(), &self));
            match map.next_key_seed(Key(stop))? {
                None => return Ok(()),
                Some(key) if key != *wanted => drop(map.next_value::<IgnoredAny>()?),
                Some(_) if seen < *nth => {
                    seen += 1;
                    map.next_value::<IgnoredAny>()?;
                }
                Some(_) => return map.next_value_seed(self.on()),
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some(Segment::Index(wanted)) = self.path.first() else {
            return Err(self.arrive(None));
        };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(self.on()).map(drop)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        Err(self.arrive(Some(text.to_owned())))
    }
    fn visit_bool<E: serde::de::Error>(self, flag: bool) -> Result<(), E> {
        Err(self.arrive(Some(flag.to_string())))
    }
    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        Err(self.arrive(Some(number.to_string())))
    }
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        Err(self.arrive(Some(number.to_string())))
    }
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        Err(self.arrive(Some(number.to_string())))
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.arrive(None))
    }
}

/// Reads a key; raises the error when it is the one to stop at.
struct Key<'a>(Option<(&'a str, &'a Seek<'a>)>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        match self.0 {
            Some((wanted, seek)) if wanted == text => Err(seek.arrive(Some(text.to_owned()))),
            _ => Ok(text.to_owned()),
        }
    }
}

/// The parser's error in our words.
fn explain(text: &str, error: &serde_yaml::Error) -> ConfigError {
    let full = error.to_string();
    let at = error.location().map(|it| (it.line(), it.column()));
    if let Some((path, rest)) = split_path(&full, "duplicate field `") {
        let key = rest.split('`').next().unwrap_or_default();
        return duplicate(text, path, key);
    }
    if let Some((path, rest)) =
        split_path(&full, "invalid type: ").or_else(|| split_path(&full, "invalid value: "))
    {
        return mismatch(text, path, rest, at);
    }
    not_yaml(text, &full, at)
}

/// Splits `certificates.x: invalid type: …` at the words of the error.
fn split_path<'t>(full: &'t str, words: &str) -> Option<(&'t str, &'t str)> {
    let (path, rest) = full.split_once(words)?;
    Some((path.strip_suffix(": ").unwrap_or(path), rest))
}

fn duplicate(text: &str, path: &str, key: &str) -> ConfigError {
    let mut segments = parse_path(path);
    segments.push(Segment::Key(key.to_owned(), 0));
    let first = find(text, &segments, Part::Key).map(|found| found.place.line);
    if let Some(Segment::Key(_, nth)) = segments.last_mut() {
        *nth = 1;
    }
    let first = first.map_or_else(String::new, |line| format!("; first in line {line}"));
    ConfigError {
        file: PathBuf::new(),
        place: find(text, &segments, Part::Key).map(|found| found.place),
        path: path_text(&segments),
        value: None,
        message: format!("the key `{key}` stands here a second time{first}"),
        hint: Some("keep one of the two".to_owned()),
    }
}

fn mismatch(text: &str, path: &str, rest: &str, at: Option<(usize, usize)>) -> ConfigError {
    let (found, wanted) = rest.rsplit_once(", expected ").unwrap_or((rest, ""));
    let wanted = wanted.split(" at line ").next().unwrap_or(wanted);
    let wanted = match wanted {
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "i64" => "a whole number",
        other => other,
    };
    let word = found.split([' ', '`']).next().unwrap_or_default();
    let found = match word {
        "string" => "a text",
        "map" => "a mapping",
        "sequence" => "a list",
        "integer" | "floating" => "a number",
        "boolean" => "true or false",
        "unit" => "nothing",
        other => other,
    };
    let segments = parse_path(path);
    let seen = find(text, &segments, Part::Value);
    let (place, value) = match seen {
        Some(found) => (Some(found.place), found.value),
        None => (
            at.map(|(line, column)| Place::of(text, line, column, 1, is_sensitive(path))),
            None,
        ),
    };
    ConfigError {
        file: PathBuf::new(),
        place,
        path: path.to_owned(),
        value,
        message: format!("{wanted} is wanted here, and this is {found}"),
        hint: mismatch_hint(path, wanted, found),
    }
}

fn mismatch_hint(path: &str, wanted: &str, found: &str) -> Option<String> {
    let last = path.rsplit(['.', '[']).next().unwrap_or_default();
    let hint = match (wanted, found) {
        ("a list", "a text") if matches!(last, "reload" | "command") => {
            "write the program and its arguments as a list, e.g. [systemctl, reload, nginx]; no shell is involved"
        }
        ("true or false", "a text") => "write true or false, without quotes",
        ("a list", _) => "write it in brackets, e.g. [one, two]",
        ("a text", "a list" | "a mapping") => {
            "a text that begins with `[` or `{` or holds `: ` needs quotes"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// A path as the parser writes it. A key with a dot in it comes apart; then the place is not found, and the parser's
/// own is taken.
fn parse_path(path: &str) -> Vec<Segment> {
    path.split('.')
        .flat_map(|part| {
            let mut pieces = part.split('[');
            let key = pieces.next().filter(|key| !key.is_empty());
            let indices = pieces.filter_map(|it| it.strip_suffix(']')?.parse().ok());
            key.map(|key| Segment::Key(key.to_owned(), 0))
                .into_iter()
                .chain(indices.map(Segment::Index))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn not_yaml(text: &str, full: &str, at: Option<(usize, usize)>) -> ConfigError {
    if full.contains("more than one document") {
        return whole(
            "the configuration has more than one YAML document",
            "take out the line `---` between them",
        );
    }
    let (place, message, hint) = match at.and_then(|(line, column)| star_word(text, line, column)) {
        Some((place, word)) => (
            Some(place),
            format!("an unquoted `{word}` is an alias in YAML, not a name"),
            Some(format!("quote names that begin with `*`: \"{word}\"")),
        ),
        None => (
            at.map(|(line, column)| Place::of(text, line, column, 1, false)),
            format!("this is not YAML that can be read: {}", words_only(full)),
            at.and_then(|(line, _)| tab_hint(text, line)),
        ),
    };
    ConfigError {
        file: PathBuf::new(),
        place,
        path: String::new(),
        value: None,
        message,
        hint,
    }
}

fn tab_hint(text: &str, line: usize) -> Option<String> {
    let source = text.lines().nth(line.checked_sub(1)?)?;
    let indent: String = source.chars().take_while(|c| c.is_whitespace()).collect();
    indent
        .contains('\t')
        .then(|| "indent with spaces; YAML takes no tabs".to_owned())
}

/// The unquoted word beginning with `*` at or just before a place.
fn star_word(text: &str, line: usize, column: usize) -> Option<(Place, String)> {
    let source: Vec<char> = text.lines().nth(line.checked_sub(1)?)?.chars().collect();
    let before = column.min(source.len());
    let start = source[..before].iter().rposition(|&c| c == '*')?;
    let between = &source[start..before];
    let bounded = start == 0 || matches!(source[start - 1], ' ' | '[' | ',' | '\t');
    if !bounded || between.iter().any(|c| matches!(c, ',' | ']' | ' ')) {
        return None;
    }
    let word: String = source[start..]
        .iter()
        .take_while(|c| !matches!(c, ',' | ']' | '}' | ' ' | '\t' | '#'))
        .collect();
    let place = Place::of(text, line, start + 1, word.chars().count(), false);
    Some((place, word))
}

/// The parser's words without the places in them, which are shown already, and without what it repeats of the text.
fn words_only(full: &str) -> String {
    full.split(", ")
        .map(|part| part.split(" at line ").next().unwrap_or(part))
        .collect::<Vec<_>>()
        .join(", ")
}
