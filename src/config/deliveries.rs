//! Checks of `targets` and of `deliver`.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use super::checked::{Delivery, FileKind, FilesSettings, optional};
use super::problems::Path;
use super::raw::{self, Deliver};
use super::scalars::Checker;

/// The mode of private key and bundle unless configured.
const KEY_MODE: u32 = 0o600;
/// The mode of the other files unless configured.
const CERT_MODE: u32 = 0o644;
/// The longest name of a file.
const MAX_FILE_NAME: usize = 200;
/// Begins what a target that is written in place is called; no name of a target has it.
pub(super) const IN_PLACE: &str = "files:";
/// The longest name of a target.
const MAX_TARGET_NAME: usize = 63;

/// What people call a target: its name, or its directory when it is written in place.
pub fn place(target: &str) -> &str {
    target.strip_prefix(IN_PLACE).unwrap_or(target)
}

/// Where certificates may go.
pub(super) struct Places<'a> {
    /// By the names in the files; nothing for those that are wrong, which is told once.
    targets: BTreeMap<&'a str, Option<Delivery>>,
    /// The state directory, if it is right.
    state: Option<&'a FilePath>,
    /// Who writes to a directory.
    directories: BTreeMap<PathBuf, String>,
}

impl Checker {
    /// The targets with names.
    pub(super) fn targets<'a>(
        &mut self,
        roots: &'a [raw::Root],
        state: Option<&'a FilePath>,
    ) -> Places<'a> {
        let nothing = raw::Target::default();
        let mut places = Places {
            targets: BTreeMap::new(),
            state,
            directories: BTreeMap::new(),
        };
        self.entries(
            roots,
            "targets",
            |it| it.targets.as_ref(),
            |this, here, name, target| {
                let is_name = is_target_name(name);
                if !is_name {
                    this.problems.key(
                        here,
                        format!("`{name}` is not a name for a target"),
                        "a name has 1 to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or a digit",
                    );
                }
                let target = this.target(here, target.unwrap_or(&nothing), state);
                let target = target.filter(|_| is_name).map(|target| Delivery {
                    target: name.to_owned(),
                    ..target
                });
                places.targets.insert(name, target);
            },
        );
        places
    }

    /// Where one certificate goes.
    pub(super) fn deliveries(
        &mut self,
        at: &Path<'_>,
        items: &[Deliver],
        places: &mut Places<'_>,
    ) -> Option<Vec<Delivery>> {
        let mut checked = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let here = at.index(index);
            let delivery = match item {
                Deliver::InPlace(target) => self.target(&here, target, places.state),
                Deliver::Named(name) => self.named(&here, name, places),
            };
            let claimed =
                delivery.filter(|it| self.is_free(&here, &it.files.directory, item, places));
            checked.extend(claimed);
        }
        (checked.len() == items.len()).then_some(checked)
    }

    fn named(&mut self, at: &Path<'_>, name: &str, places: &Places<'_>) -> Option<Delivery> {
        match places.targets.get(name) {
            Some(target) => target.clone(),
            None => {
                let defined: Vec<&str> = places.targets.keys().copied().collect();
                self.reference(at, name, "target", &defined)?;
                None
            }
        }
    }

    /// Whether no other delivery writes to a directory; from now on this one does.
    fn is_free(
        &mut self,
        at: &Path<'_>,
        directory: &FilePath,
        item: &Deliver,
        places: &mut Places<'_>,
    ) -> bool {
        let Some(other) = places.directories.get(directory) else {
            places
                .directories
                .insert(directory.to_owned(), at.to_string());
            return true;
        };
        let directory = directory.display();
        let hint = "give each certificate a directory of its own";
        match item {
            Deliver::InPlace(_) => self.problems.value(
                &at.key("files").key("directory"),
                format!("`{directory}` is written to by {other} already"),
                hint,
            ),
            Deliver::Named(name) => self.problems.value(
                at,
                format!("`{name}` writes to `{directory}`, and so does {other}"),
                hint,
            ),
        }
        false
    }

    fn target(
        &mut self,
        at: &Path<'_>,
        target: &raw::Target,
        state: Option<&FilePath>,
    ) -> Option<Delivery> {
        self.problems
            .unknown_keys::<raw::Target>(at, &target.unknown);
        if target.files.is_none() {
            self.problems.missing(
                at,
                "files",
                "write e.g. files: {directory: /srv/certs/example}",
            );
        }
        let files = (target.files.as_ref()).and_then(|it| self.files(&at.key("files"), it, state));
        let reload = (target.reload.as_ref()).map(|it| self.argv(&at.key("reload"), it));
        let files = files?;
        Some(Delivery {
            target: format!("{IN_PLACE}{}", files.directory.display()),
            files,
            reload: optional(reload)?,
        })
    }

    fn files(
        &mut self,
        at: &Path<'_>,
        files: &raw::Files,
        state: Option<&FilePath>,
    ) -> Option<FilesSettings> {
        self.problems.unknown_keys::<raw::Files>(at, &files.unknown);
        if files.directory.is_none() {
            self.problems.missing(
                at,
                "directory",
                "write where the files go, e.g. directory: /srv/certs/example",
            );
        }
        let directory =
            (files.directory.as_ref()).and_then(|it| self.outside(&at.key("directory"), it, state));
        let owner = (files.owner.as_ref()).map(|it| self.text(&at.key("owner"), it));
        let group = (files.group.as_ref()).map(|it| self.text(&at.key("group"), it));
        let mode =
            (files.mode.as_ref()).map_or(Some(KEY_MODE), |it| self.mode(&at.key("mode"), it));
        let cert_mode = (files.cert_mode.as_ref())
            .map_or(Some(CERT_MODE), |it| self.mode(&at.key("cert-mode"), it));
        let names = (files.names.as_ref()).map_or(Some(BTreeMap::new()), |it| {
            self.file_names(&at.key("names"), it)
        });
        Some(FilesSettings {
            directory: directory?,
            owner: optional(owner)?,
            group: optional(group)?,
            mode: mode?,
            cert_mode: cert_mode?,
            names: names?,
            take_over: files.take_over.unwrap_or(false),
        })
    }

    /// A directory that is not where secrets are.
    fn outside(&mut self, at: &Path<'_>, text: &str, state: Option<&FilePath>) -> Option<PathBuf> {
        let directory = self.directory(at, text)?;
        let Some(state) = state.filter(|state| directory.starts_with(state)) else {
            return Some(directory);
        };
        self.problems.value(
            at,
            format!(
                "`{}` is in the state directory, where secrets are",
                directory.display()
            ),
            format!("name a directory outside of {}", state.display()),
        );
        None
    }

    fn file_names(
        &mut self,
        at: &Path<'_>,
        names: &raw::FileNames,
    ) -> Option<BTreeMap<FileKind, String>> {
        self.problems
            .unknown_keys::<raw::FileNames>(at, &names.unknown);
        let kinds = [
            ("fullchain", FileKind::Fullchain, &names.fullchain),
            ("cert", FileKind::Cert, &names.cert),
            ("chain", FileKind::Chain, &names.chain),
            ("privkey", FileKind::Privkey, &names.privkey),
            ("bundle", FileKind::Bundle, &names.bundle),
        ];
        let given = || {
            kinds
                .iter()
                .filter_map(|(word, kind, name)| Some((*word, *kind, name.as_ref()?)))
        };
        let mut taken: BTreeMap<String, &str> = kinds
            .iter()
            .filter(|(_, _, name)| name.is_none())
            .map(|(word, _, _)| (format!("{word}.pem"), *word))
            .collect();
        let mut checked = BTreeMap::new();
        for (word, kind, name) in given() {
            let here = at.key(word);
            let Some(name) = self.file_name(&here, name) else {
                continue;
            };
            if let Some(other) = taken.insert(name.clone(), word) {
                self.problems.value(
                    &here,
                    format!("`{name}` is the name of `{other}` already"),
                    "give each file a name of its own",
                );
                continue;
            }
            checked.insert(kind, name);
        }
        (checked.len() == given().count()).then_some(checked)
    }

    fn file_name(&mut self, at: &Path<'_>, name: &str) -> Option<String> {
        let plain = !name.is_empty() && name.len() <= MAX_FILE_NAME && !name.contains(['/', '\0']);
        if !plain {
            self.problems.value(
                at,
                format!("`{name}` is not a plain file name"),
                "write a name without `/`, e.g. server.crt",
            );
            return None;
        }
        if name.starts_with('.') || name == "current" {
            self.problems.value(
                at,
                format!("the name `{name}` is needed by Countersign itself"),
                "choose one that is not `current` and does not begin with a dot",
            );
            return None;
        }
        Some(name.to_owned())
    }
}

fn is_target_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= MAX_TARGET_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
}
