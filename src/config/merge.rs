//! Several files, one configuration: mappings of names are joined, everything else stands in one of them.
//!
//! The files are known by their numbers, 0 is the one that includes the others.

use std::collections::HashMap;

use super::problems::Path;
use super::raw::{Entries, Root};
use super::scalars::Checker;

impl Checker {
    /// Checks what stands in one file only; reports where it stands again.
    pub(super) fn only<T, U>(
        &mut self,
        roots: &[Root],
        key: &str,
        of: impl Fn(&Root) -> Option<&T>,
        check: impl FnOnce(&mut Self, &Path<'_>, &T) -> U,
    ) -> Option<U> {
        let mut given = roots
            .iter()
            .enumerate()
            .filter_map(|(file, root)| Some((file, of(root)?)));
        let (first, value) = given.next()?;
        let top = Path::top(first);
        let at = top.key(key);
        for (file, _) in given {
            let hint = "keep it in one of the two files";
            let before = (first, at.segments());
            self.problems
                .again(&Path::top(file).key(key), before, key, hint);
        }
        Some(check(self, &at, value))
    }

    /// Checks each entry of a mapping that may stand in every file, in their order; reports those that stand again.
    pub(super) fn entries<'r, T: 'r>(
        &mut self,
        roots: &'r [Root],
        key: &str,
        of: impl Fn(&'r Root) -> Option<&'r Entries<T>>,
        mut check: impl FnMut(&mut Self, &Path<'_>, &'r str, Option<&'r T>),
    ) {
        let mut seen = HashMap::new();
        for (file, root) in roots.iter().enumerate() {
            let top = Path::top(file);
            let at = top.key(key);
            for (name, entry) in of(root).map_or(&[][..], |it| &it.0) {
                if !self.is_repeated(&at, name, &mut seen) {
                    check(self, &at.key(name), name, entry.as_ref());
                }
            }
        }
    }

    /// Reports a key that stood in the same mapping before; `seen` has the file of each.
    pub(super) fn is_repeated<'k>(
        &mut self,
        at: &Path<'_>,
        key: &'k str,
        seen: &mut HashMap<&'k str, usize>,
    ) -> bool {
        let Some(first) = seen.get(key).copied() else {
            seen.insert(key, at.file());
            return false;
        };
        let hint = "keep one of the two, or give one another name";
        let nth = usize::from(first == at.file());
        let before = (first, at.key(key).segments());
        self.problems
            .again(&at.nth_key(key, nth), before, key, hint);
        true
    }

    /// Whether an unknown key at the top of any file was taken for `key`.
    pub(super) fn is_misspelt_at_top(&self, roots: &[Root], key: &str) -> bool {
        (0..roots.len()).any(|file| self.problems.is_misspelt(&Path::top(file), key))
    }
}
