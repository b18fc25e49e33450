//! The directions between the rooms of the program, as ARCHITECTURE.md draws them, read from the source itself.
//!
//! Every path in `src/` and `providers/src/` is looked at: `use` lines, paths in code and in macros. What is compiled
//! for tests only is left out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::support::golden::root;

/// Which rooms a room may use. An arrow to a room allows all that that room may use; every room but `engine` may use
/// `clock` and `secret`.
const ARROWS: &[(&str, &[&str])] = &[
    ("engine", &["records"]),
    ("measure", &["engine"]),
    ("store", &["engine", "measure"]),
    ("acme", &["engine", "measure", "wire"]),
    ("dns", &["engine"]),
    (
        "ledger",
        &["engine", "store", "providers", "measure", "supervise"],
    ),
    ("nameserver", &["store", "providers", "passed", "supervise"]),
    ("supervise", &[]),
    ("passed", &[]),
    ("deliver", &["engine", "store", "child"]),
    ("config", &["engine", "providers"]),
    (
        "run",
        &[
            "engine",
            "measure",
            "store",
            "acme",
            "dns",
            "ledger",
            "nameserver",
            "deliver",
            "config",
            "providers",
        ],
    ),
    ("notify", &["run", "store", "config", "wire"]),
    ("control", &["run"]),
    ("web", &["run", "passed"]),
    ("daemon", &["run", "notify", "control", "web", "config"]),
    (
        "cli",
        &["daemon", "run", "notify", "control", "web", "config"],
    ),
    ("main", &["cli"]),
    // Inside `providers`: the plug-ins and the contract use the leaves.
    ("providers", &["records", "clock", "secret", "wire"]),
    ("wire", &["clock", "records"]),
    ("secret", &["child"]),
    ("child", &["clock", "records"]),
    ("records", &[]),
    ("clock", &[]),
];

/// Functions of `clock` that only compute; `engine` may use these.
const PURE_CLOCK: [&str; 3] = ["later", "earlier", "between"];

/// What `engine` may not use of others, since it is pure: no I/O, no clock, no randomness, no async.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "futures_util",
    "async_trait",
    "reqwest",
    "hickory_net",
    "hickory_resolver",
    "hickory_server",
    "rand",
    "rustix",
    "redb",
    "tempfile",
    "std::fs",
    "std::io",
    "std::os",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::time::Instant",
    "std::time::SystemTime",
    "ring::rand",
];

#[test]
fn every_arrow_has_the_right_direction() {
    let mut files = 0;
    let mut wrong = Vec::new();
    for (entry, package) in [
        ("src/lib.rs", Package::Countersign),
        ("src/main.rs", Package::Countersign),
        ("providers/src/lib.rs", Package::Providers),
    ] {
        walk(
            &root().join(entry),
            Vec::new(),
            &mut |file, module, syntax| {
                files += 1;
                wrong.extend(judge(file, package, module, syntax));
            },
        );
    }
    assert!(files > 15, "only {files} files were found");
    assert!(wrong.is_empty(), "wrong arrows:\n{}", wrong.join("\n"));
}

#[test]
fn the_test_authority_depends_on_no_package_of_ours() {
    let manifest = std::fs::read_to_string(root().join("tests/ca/Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("[dependencies]").unwrap_or_default();
    assert!(
        !dependencies.contains("countersign"),
        "tests/ca must be able to disagree"
    );
}

#[test]
fn the_arrows_have_no_cycle() {
    for (room, _) in ARROWS {
        let beyond: BTreeSet<&str> = arrows_of(room).iter().flat_map(|it| reach(it)).collect();
        assert!(!beyond.contains(room), "{room} reaches itself");
    }
}

#[test]
fn a_planted_arrow_is_caught() {
    for (module, code, caught) in [
        (
            "store::redb",
            "use crate::run::worker;",
            Some("store → run"),
        ),
        (
            "store::redb",
            "use crate::{engine::names, cli};",
            Some("store → cli"),
        ),
        (
            "store::redb",
            "use super::super::acme::client;",
            Some("store → acme"),
        ),
        (
            "store::redb",
            "fn f() { crate::dns::walk::now(); }",
            Some("store → dns"),
        ),
        (
            "store::redb",
            "fn f() { let x = format!(\"{}\", crate::dns::X); }",
            Some("store → dns"),
        ),
        (
            "store::redb",
            "mod inner { use super::super::super::web; }",
            Some("store → web"),
        ),
        (
            "dns",
            "use countersign_providers::rfc2136::Settings;",
            Some("dns → providers"),
        ),
        (
            "engine::a",
            "use countersign_providers::Provider;",
            Some("engine → providers"),
        ),
        (
            "engine::a",
            "use countersign_providers::clock::Clock;",
            Some("engine → clock"),
        ),
        (
            "engine::a",
            "use crate::secret::Secret;",
            Some("engine → secret"),
        ),
        (
            "engine::a",
            "use std::net::{IpAddr, TcpStream};",
            Some("engine → std::net::TcpStream"),
        ),
        (
            "engine::a",
            "fn f() { tokio::spawn(async {}); }",
            Some("engine → tokio"),
        ),
        (
            "engine::a",
            "fn f() { let _ = std::time::Instant::now(); }",
            Some("engine → std::time::Instant"),
        ),
        (
            "engine::a",
            "use ring::{digest, rand};",
            Some("engine → ring::rand"),
        ),
        ("engine::a", "use std::*;", Some("engine → std::fs")),
        (
            "engine::a",
            "use countersign_providers::clock::{later, between};",
            None,
        ),
        (
            "engine::a",
            "use countersign_providers::record::DnsName; use std::net::IpAddr;",
            None,
        ),
        (
            "engine::a",
            "#[cfg(test)] mod tests { use crate::store::Store; }",
            None,
        ),
        (
            "store::redb",
            "use crate::clock::Clock; use crate::engine::names; use super::Key;",
            None,
        ),
        (
            "run::worker",
            "use countersign_providers::Provider; use crate::acme; use crate::store;",
            None,
        ),
    ] {
        let syntax = syn::parse_file(code).unwrap();
        let module = module.split("::").map(str::to_owned).collect::<Vec<_>>();
        let wrong = judge(
            Path::new("planted.rs"),
            Package::Countersign,
            &module,
            &syntax,
        );
        match caught {
            None => assert!(wrong.is_empty(), "{code}: {wrong:?}"),
            Some(arrow) => {
                assert!(
                    wrong.iter().any(|it| it.ends_with(&format!(": {arrow}"))),
                    "{code}: {wrong:?}"
                );
                assert!(wrong[0].starts_with("planted.rs:1: "), "{wrong:?}");
            }
        }
    }
}

#[test]
fn inside_providers_the_leaves_stay_leaves() {
    let judge = |module: &str, code: &str| {
        let syntax = syn::parse_file(code).unwrap();
        judge(
            Path::new("p.rs"),
            Package::Providers,
            &[module.to_owned()],
            &syntax,
        )
    };
    assert_eq!(
        judge("clock", "use crate::secret::Secret;"),
        ["p.rs:1: clock → secret"]
    );
    assert_eq!(
        judge("record", "use crate::Provider;"),
        ["p.rs:1: records → providers"]
    );
    assert!(
        judge(
            "rfc2136",
            "use crate::{Provider, secret::Secret, clock::Clock};"
        )
        .is_empty()
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Package {
    Countersign,
    Providers,
}

/// Calls `look` for `file` and every module file below it that is compiled into the program.
fn walk(file: &Path, module: Vec<String>, look: &mut dyn FnMut(&Path, &[String], &syn::File)) {
    let text =
        std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let syntax =
        syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    if is_test_only(&syntax.attrs) {
        return;
    }
    let room = if file.ends_with("main.rs") {
        vec!["main".to_owned()]
    } else {
        module.clone()
    };
    look(file, &room, &syntax);
    let below = directory_of_submodules(file);
    for item in &syntax.items {
        if let syn::Item::Mod(item) = item
            && item.content.is_none()
            && !is_test_only(&item.attrs)
        {
            let name = item.ident.to_string();
            let flat = below.join(format!("{name}.rs"));
            let file = if flat.exists() {
                flat
            } else {
                below.join(&name).join("mod.rs")
            };
            let mut module = module.clone();
            module.push(name);
            walk(&file, module, look);
        }
    }
}

fn directory_of_submodules(file: &Path) -> PathBuf {
    let parent = file.parent().unwrap_or(Path::new(""));
    match file.file_stem().and_then(|it| it.to_str()) {
        Some("mod" | "lib" | "main") | None => parent.to_owned(),
        Some(stem) => parent.join(stem),
    }
}

/// The wrong arrows of one file, as `file:line: room → room`.
fn judge(file: &Path, package: Package, module: &[String], syntax: &syn::File) -> Vec<String> {
    let mut reader = Reader {
        module: module.to_vec(),
        paths: BTreeMap::new(),
    };
    reader.visit_file(syntax);
    let from = room_of_module(package, module);
    // `lib.rs` is the map: it names every room and uses none.
    let Some(from) = from else { return Vec::new() };
    let shown = file.strip_prefix(root()).unwrap_or(file).display();
    let mut wrong: Vec<(usize, String)> = reader
        .paths
        .iter()
        .flat_map(|(path, line)| {
            wrong_arrows(package, &from, path)
                .into_iter()
                .map(|to| (*line, to))
        })
        .collect();
    wrong.sort();
    wrong
        .into_iter()
        .map(|(line, to)| format!("{shown}:{line}: {from} → {to}"))
        .collect()
}

/// Where a full path leads that the room `from` may not use.
fn wrong_arrows(package: Package, from: &str, path: &[String]) -> Vec<String> {
    if let Some(to) = room_of_path(package, path) {
        let pure = to == "clock"
            && path
                .last()
                .is_some_and(|last| PURE_CLOCK.contains(&last.as_str()));
        let good = to == from || reach(from).contains(to.as_str()) || (from == "engine" && pure);
        return if good { Vec::new() } else { vec![to] };
    }
    if from != "engine" {
        return Vec::new();
    }
    let text = path.join("::");
    let glob = text.strip_suffix("::*");
    IMPURE
        .iter()
        .filter(|impure| {
            text == **impure
                || text.starts_with(&format!("{impure}::"))
                || glob.is_some_and(|it| impure.starts_with(&format!("{it}::")))
        })
        .map(|impure| (*impure).to_owned())
        .collect()
}

fn arrows_of(room: &str) -> &'static [&'static str] {
    ARROWS.iter().find(|it| it.0 == room).map_or(&[], |it| it.1)
}

/// All that a room may use.
fn reach(room: &str) -> BTreeSet<&'static str> {
    let mut all = BTreeSet::new();
    let mut next: Vec<&'static str> = arrows_of(room).to_vec();
    while let Some(to) = next.pop() {
        if all.insert(to) {
            next.extend(arrows_of(to));
        }
    }
    let leaf = matches!(room, "engine" | "child" | "clock" | "secret" | "records");
    if !leaf {
        all.extend(["clock", "secret"]);
    }
    all
}

/// The room of a module, from the package's top; `None` for the top itself.
fn room_of_module(package: Package, module: &[String]) -> Option<String> {
    let first = module.first().map(String::as_str);
    match (package, first) {
        (Package::Countersign, None) => None,
        (Package::Countersign, Some(room)) => Some(room.to_owned()),
        (Package::Providers, Some("child" | "clock" | "secret")) => first.map(str::to_owned),
        (Package::Providers, Some("record" | "error" | "words")) => Some("records".to_owned()),
        // What every client of HTTP has in common.
        (Package::Providers, Some("exchange" | "tls")) => Some("wire".to_owned()),
        (Package::Providers, _) => Some("providers".to_owned()),
    }
}

/// The room that a full path leads to; `None` when it leads out of our packages.
fn room_of_path(package: Package, path: &[String]) -> Option<String> {
    let second = path.get(1..2)?;
    match (path.first()?.as_str(), package) {
        ("crate", Package::Providers) | ("countersign_providers", _) => {
            room_of_module(Package::Providers, second)
        }
        ("crate" | "countersign", Package::Countersign) => room_of_module(package, second),
        _ => None,
    }
}

/// Collects every path, made full, with the first line it stands in.
struct Reader {
    module: Vec<String>,
    paths: BTreeMap<Vec<String>, usize>,
}

impl Reader {
    fn add(&mut self, path: Vec<String>, line: usize) {
        if let Some(full) = self.full(path) {
            self.paths.entry(full).or_insert(line);
        }
    }

    /// Resolves `self` and `super`.
    fn full(&self, path: Vec<String>) -> Option<Vec<String>> {
        let first = path.first()?.as_str();
        if !matches!(first, "self" | "super") {
            return Some(path);
        }
        let ups = path.iter().filter(|it| *it == "super").count();
        let depth = self.module.len().checked_sub(ups)?;
        let rest = path
            .into_iter()
            .filter(|it| !matches!(it.as_str(), "self" | "super"));
        let base = std::iter::once("crate".to_owned()).chain(self.module[..depth].iter().cloned());
        Some(base.chain(rest).collect())
    }

    fn use_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let line = tree.span().start().line;
        let mut path = before.to_vec();
        match tree {
            syn::UseTree::Path(it) => {
                path.push(it.ident.to_string());
                self.use_tree(&it.tree, &path);
            }
            syn::UseTree::Group(it) => it.items.iter().for_each(|item| self.use_tree(item, &path)),
            syn::UseTree::Name(it) => {
                path.push(it.ident.to_string());
                self.add(path, line);
            }
            syn::UseTree::Rename(it) => {
                path.push(it.ident.to_string());
                self.add(path, line);
            }
            syn::UseTree::Glob(_) => {
                path.push("*".to_owned());
                self.add(path, line);
            }
        }
    }

    /// Paths in the tokens of a macro, which are not parsed: words with `::` between.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.add(std::mem::take(&mut path), line);
                        line = word.span().start().line;
                    }
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.add(std::mem::take(&mut path), line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.add(path, line);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test_only(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // `pub(super)` and `pub(crate)` lead nowhere.
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words = path
            .segments
            .iter()
            .map(|it| it.ident.to_string())
            .collect();
        self.add(words, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.visit_path(&item.path);
        self.tokens(item.tokens.clone());
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(it) => &it.attrs,
        syn::Item::Enum(it) => &it.attrs,
        syn::Item::Fn(it) => &it.attrs,
        syn::Item::Impl(it) => &it.attrs,
        syn::Item::Macro(it) => &it.attrs,
        syn::Item::Mod(it) => &it.attrs,
        syn::Item::Static(it) => &it.attrs,
        syn::Item::Struct(it) => &it.attrs,
        syn::Item::Trait(it) => &it.attrs,
        syn::Item::Type(it) => &it.attrs,
        syn::Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]`, also with a feature as another way in: `#[cfg(any(test, feature = "testing"))]`.
fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = match &attribute.meta {
            syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string(),
            _ => return false,
        };
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        text == "test" || text.starts_with("any(test,") || text.starts_with("all(test,")
    })
}
