//! `include`: which files belong to a configuration, and the text of each.
//!
//! A pattern is relative to the directory of the file that it stands in. Its files come in the order of their names,
//! several patterns in the order of the list, and a file that two of them match comes once. Included files include no
//! others.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::path::{Path as FilePath, PathBuf};

use glob::{MatchOptions, Pattern};

use super::error::{ConfigError, ConfigErrors};
use super::problems::{Path, Problems};
use super::raw::OneOrMany;
use super::yaml::Source;

/// A larger file is no configuration.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// All files together are not larger: four files of that size, or 100,000 certificates twice over.
const MAX_TOTAL: usize = 64 * 1024 * 1024;
/// More are not included: a file for each certificate, where there are very many.
const MAX_FILES: usize = 20_000;
/// What makes a path a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];
/// `*` stands for a part of one name, and not for hidden files.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// An included file.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The files that `source` includes.
pub(super) fn read(source: Source<'_>, include: &OneOrMany) -> Result<Vec<File>, ConfigErrors> {
    let mut found = Found {
        base: source.file.parent().unwrap_or(FilePath::new("")),
        seen: BTreeSet::from_iter(std::fs::canonicalize(source.file)),
        paths: Vec::new(),
        problems: Problems::default(),
    };
    let at = Path::TOP.key("include");
    match include {
        OneOrMany::One(pattern) => found.add(&at, pattern),
        OneOrMany::Many(patterns) => {
            for (index, pattern) in patterns.iter().enumerate() {
                found.add(&at.index(index), pattern);
            }
        }
    }
    let refused = |problems: Problems| {
        let problems = problems.all.into_iter();
        ConfigErrors(problems.map(|it| source.locate(it)).collect())
    };
    if !found.problems.all.is_empty() {
        return Err(refused(found.problems));
    }
    let (mut files, mut total) = (Vec::new(), source.text.len());
    for path in found.paths {
        let text = text(&path, "correct `include` in the file that names it")?;
        total += text.len();
        if total > MAX_TOTAL {
            let limit = MAX_TOTAL >> 20;
            let message = format!("all files together have more than {limit} MiB");
            let mut problems = Problems::default();
            problems.key(&at, message, "name only files that belong to it");
            return Err(refused(problems));
        }
        files.push(File { path, text });
    }
    Ok(files)
}

/// What the patterns name.
struct Found<'a> {
    base: &'a FilePath,
    /// Those that are there already, and the file that includes.
    seen: BTreeSet<PathBuf>,
    paths: Vec<PathBuf>,
    problems: Problems,
}

impl Found<'_> {
    fn add(&mut self, at: &Path<'_>, pattern: &str) {
        let value = |this: &mut Self, message: String, hint: &str| {
            this.problems.value(at, message, hint);
        };
        if pattern.trim().is_empty() || pattern.contains('\0') {
            return value(
                self,
                "a path is wanted here".to_owned(),
                "write e.g. conf.d/*.yaml",
            );
        }
        if !pattern.contains(WILDCARDS) {
            let path = self.base.join(pattern);
            return match path.exists() {
                true => self.take(at, path),
                false => value(
                    self,
                    format!("there is no file `{}`", path.display()),
                    "correct the path, which begins at the directory of this file; a pattern such as conf.d/*.yaml may match nothing",
                ),
            };
        }
        if pattern.contains("**") {
            return value(
                self,
                format!("`{pattern}` goes through directories of any depth"),
                "name each directory, e.g. [conf.d/*.yaml, more.d/*.yaml]",
            );
        }
        let Some(base) = self.base.to_str() else {
            return value(
                self,
                format!("the path of {} is not UTF-8", self.base.display()),
                "name the files without a pattern, or move them",
            );
        };
        let whole = match (base, pattern.starts_with('/')) {
            ("", _) | (_, true) => pattern.to_owned(),
            (base, false) => format!("{}/{pattern}", Pattern::escape(base)),
        };
        let matches = match glob::glob_with(&whole, MATCHING) {
            Ok(matches) => matches,
            Err(error) => {
                return value(
                    self,
                    format!("`{pattern}` is not a pattern: {}", error.msg),
                    "write e.g. conf.d/*.yaml",
                );
            }
        };
        for found in matches {
            match found {
                Ok(path) => self.take(at, path),
                Err(error) => value(
                    self,
                    format!("{}: {}", error.path().display(), error.error()),
                    "let the user that runs countersign read the directory",
                ),
            }
            if self.paths.len() > MAX_FILES {
                return value(
                    self,
                    format!("more than {MAX_FILES} files are included"),
                    "name only files that belong to the configuration",
                );
            }
        }
    }

    fn take(&mut self, at: &Path<'_>, path: PathBuf) {
        // Whatever is no file might never end.
        if !path.is_file() {
            self.problems.value(
                at,
                format!("`{}` is not a file", path.display()),
                "name files, e.g. conf.d/*.yaml",
            );
            return;
        }
        let same = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if self.seen.insert(same) {
            self.paths.push(path);
        }
    }
}

/// The text of a file; `otherwise` says what to do when it is not the right one.
pub(super) fn text(file: &FilePath, otherwise: &str) -> Result<String, ConfigErrors> {
    let unreadable = |message: String, hint: &str| {
        ConfigErrors(vec![ConfigError {
            file: file.to_owned(),
            place: None,
            path: String::new(),
            value: None,
            message,
            hint: Some(hint.to_owned()),
        }])
    };
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|it| it.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::NotFound => {
                    "write one, or name another with --config or COUNTERSIGN_CONFIG"
                }
                ErrorKind::PermissionDenied => "let the user that runs countersign read it",
                _ => otherwise,
            };
            unreadable(format!("the configuration cannot be read: {error}"), hint)
        })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(
            format!("the configuration has more than {} MiB", MAX_FILE >> 20),
            otherwise,
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        unreadable(
            format!(
                "the configuration is not UTF-8: the first byte that is not stands in line {line}"
            ),
            "save the file as UTF-8",
        )
    })
}
