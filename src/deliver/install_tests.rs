//! Delivery to a directory: what it looks like, what is refused, and what a crash at any step leaves.

use std::cell::Cell;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::secret::Secret;

use super::files::{FileKind, Files, Settings};
use super::install::Place;
use super::*;
use crate::store::testing::{Part, fill, part, say};

/// Puts something into a directory.
type Make<'a> = &'a dyn Fn(&Path);

const FAR: u64 = 1_900_000_000_000;

#[tokio::test]
async fn lays_the_files_out_as_documented() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    install(&directory, 7).await.unwrap();
    let cert = block("CERTIFICATE", "leaf 7");
    let chain = block("CERTIFICATE", "issuer 7");
    let key = block("PRIVATE KEY", "key 7");
    let expected = [
        ("fullchain.pem", format!("{cert}{chain}"), 0o644),
        ("cert.pem", cert.clone(), 0o644),
        ("chain.pem", chain.clone(), 0o644),
        ("privkey.pem", key.clone(), 0o600),
        ("bundle.pem", format!("{key}{cert}{chain}"), 0o600),
    ];
    for (name, text, mode) in expected {
        let link = std::fs::read_link(directory.join(name)).unwrap();
        assert_eq!(link, Path::new("current").join(name));
        assert_eq!(std::fs::read_to_string(directory.join(name)).unwrap(), text);
        assert_eq!(mode_of(&directory.join(name)), mode, "{name}");
    }
    let current = std::fs::read_link(directory.join("current")).unwrap();
    assert_eq!(current, Path::new(".gen-7"));
    for path in [
        &directory,
        &parent.path().join("a"),
        &directory.join(".gen-7"),
    ] {
        assert_eq!(mode_of(path), 0o755, "{}", path.display());
    }
    assert_eq!(directory.read_dir().unwrap().count(), 7);
}

#[tokio::test]
async fn a_repetition_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    install(directory.path(), 7).await.unwrap();
    let inode = || {
        directory
            .path()
            .join("bundle.pem")
            .metadata()
            .unwrap()
            .ino()
    };
    let before = inode();
    install(directory.path(), 7).await.unwrap();
    assert_eq!(inode(), before);
}

#[tokio::test]
async fn the_previous_generation_stays_until_settled() {
    let directory = tempfile::tempdir().unwrap();
    for number in [7, 8, 9] {
        install(directory.path(), number).await.unwrap();
    }
    std::fs::create_dir(directory.path().join(".gen-6.new")).unwrap();
    std::fs::write(directory.path().join(".gen-note"), "not ours").unwrap();
    let files = files(directory.path());
    // What is in place stays, whatever is asked for.
    files.settle(8).await.unwrap();
    assert_eq!(
        generations(directory.path()),
        [".gen-8", ".gen-9", ".gen-note"]
    );
    files.settle(FAR).await.unwrap();
    assert_eq!(generations(directory.path()), [".gen-9", ".gen-note"]);
}

#[tokio::test]
async fn an_older_generation_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    install(directory.path(), 9).await.unwrap();
    let error = install(directory.path(), 8).await.unwrap_err();
    assert!(matches!(
        error,
        DeliverError::Older {
            found: 9,
            wanted: 8,
            ..
        }
    ));
    assert_eq!(in_place(directory.path()), Some(9));
}

#[tokio::test]
async fn the_fixed_links_can_have_other_names() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path());
    settings
        .names
        .insert(FileKind::Fullchain, "server.crt".into());
    let files = Files::new(settings);
    files.install(&generation(7)).await.unwrap();
    let link = std::fs::read_link(directory.path().join("server.crt")).unwrap();
    assert_eq!(link, Path::new("current/fullchain.pem"));
    assert!(
        directory
            .path()
            .join("fullchain.pem")
            .symlink_metadata()
            .is_err()
    );
}

#[tokio::test]
async fn names_that_lead_elsewhere_or_collide_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "current",
        ".gen-1",
        "key.pem\0",
        "privkey.pem",
    ] {
        let mut settings = settings(directory.path());
        settings.names.insert(FileKind::Cert, name.into());
        let error = Files::new(settings)
            .install(&generation(7))
            .await
            .unwrap_err();
        assert!(
            matches!(error, DeliverError::Malformed(_)),
            "{name}: {error}"
        );
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn owner_group_and_modes_are_as_configured() {
    let directory = tempfile::tempdir().unwrap();
    let root = rustix::process::geteuid().is_root();
    // Only root can give files away.
    let (uid, gid) = if root {
        (12345, 23456)
    } else {
        (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )
    };
    let mut settings = settings(directory.path());
    settings.owner = Some(uid.to_string());
    settings.group = Some(gid.to_string());
    settings.mode = 0o640;
    settings.cert_mode = 0o444;
    let files = Files::new(settings);
    files.install(&generation(7)).await.unwrap();
    for kind in FileKind::ALL {
        let metadata = directory
            .path()
            .join(kind.default_name())
            .metadata()
            .unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid));
    }
    assert_eq!(mode_of(&directory.path().join("bundle.pem")), 0o640);
    assert_eq!(mode_of(&directory.path().join("chain.pem")), 0o444);
    assert!(files.inspect().await.unwrap().is(&generation(7)));
}

#[tokio::test]
async fn changed_access_is_a_fault_that_installing_again_puts_right() {
    let directory = tempfile::tempdir().unwrap();
    install(directory.path(), 7).await.unwrap();
    let mut settings = settings(directory.path());
    settings.mode = 0o640;
    let files = Files::new(settings);
    assert!(!files.inspect().await.unwrap().is(&generation(7)));
    files.install(&generation(7)).await.unwrap();
    assert!(files.inspect().await.unwrap().is(&generation(7)));
    assert_eq!(mode_of(&directory.path().join("privkey.pem")), 0o640);
}

#[tokio::test]
async fn an_unknown_user_or_group_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path());
    settings.group = Some("no-such-group".into());
    let error = Files::new(settings)
        .install(&generation(7))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("there is no group `no-such-group`"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_not_ours_is_refused_untouched() {
    let foreign: [(&str, Make<'_>); 4] = [
        ("privkey.pem", &|path| {
            std::fs::write(path, "theirs").unwrap()
        }),
        ("bundle.pem", &|path| symlink("../elsewhere", path).unwrap()),
        ("current", &|path| symlink("../elsewhere", path).unwrap()),
        ("current", &|path| symlink(".gen-007", path).unwrap()),
    ];
    for (name, make) in foreign {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        make(&path);
        let error = install(directory.path(), 7).await.unwrap_err();
        assert!(
            matches!(&error, DeliverError::Foreign { path: at } if *at == path.display().to_string())
        );
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);

        let mut settings = settings(directory.path());
        settings.take_over = true;
        let files = Files::new(settings);
        files.install(&generation(7)).await.unwrap();
        assert!(files.inspect().await.unwrap().is(&generation(7)));
    }
}

#[tokio::test]
async fn a_directory_is_never_replaced() {
    for name in ["current", "cert.pem"] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(name)).unwrap();
        let mut settings = settings(directory.path());
        settings.take_over = true;
        let error = Files::new(settings)
            .install(&generation(7))
            .await
            .unwrap_err();
        assert!(matches!(error, DeliverError::InTheWay { .. }), "{error}");
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}

#[tokio::test]
async fn planted_links_are_not_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("privkey.pem");
    std::fs::write(&victim, "precious").unwrap();
    for name in [".gen-7", ".gen-7.new", ".link.new"] {
        let directory = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), directory.path().join(name)).unwrap();
        install(directory.path(), 6).await.unwrap();
        install(directory.path(), 7).await.unwrap();
        assert_eq!(in_place(directory.path()), Some(7), "{name}");
        assert!(
            directory
                .path()
                .join(".gen-7")
                .symlink_metadata()
                .unwrap()
                .is_dir()
        );
    }
    // A link inside a generation of ours.
    let directory = tempfile::tempdir().unwrap();
    install(directory.path(), 7).await.unwrap();
    let planted = directory.path().join(".gen-7/privkey.pem");
    std::fs::remove_file(&planted).unwrap();
    symlink(&victim, &planted).unwrap();
    install(directory.path(), 7).await.unwrap();
    assert_eq!(in_place(directory.path()), Some(7));
    // The directory itself.
    let link = directory.path().join("link");
    symlink(elsewhere.path(), &link).unwrap();
    let error = install(&link, 7).await.unwrap_err();
    assert!(matches!(error, DeliverError::InTheWay { .. }), "{error}");

    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(elsewhere.path().read_dir().unwrap().count(), 1);
}

#[tokio::test]
async fn inspection_tells_what_is_wrong_and_installing_again_repairs_it() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let missing = Files::new(settings(&directory.path().join("missing")));
    assert_eq!(missing.inspect().await.unwrap(), Shown::Nothing);
    assert_eq!(files.inspect().await.unwrap(), Shown::Nothing);
    let damages: [(&str, Make<'_>); 6] = [
        (".gen-7 is missing", &|at| {
            std::fs::remove_dir_all(at.join(".gen-7")).unwrap()
        }),
        ("privkey.pem is missing", &|at| {
            std::fs::remove_file(at.join(".gen-7/privkey.pem")).unwrap()
        }),
        ("bundle.pem was changed", &|at| {
            std::fs::write(at.join("bundle.pem"), "x").unwrap()
        }),
        ("chain.pem was changed", &|at| {
            std::fs::write(at.join("chain.pem"), "").unwrap()
        }),
        ("does not begin with a certificate", &|at| {
            std::fs::write(at.join("fullchain.pem"), "").unwrap()
        }),
        ("the link cert.pem is missing", &|at| {
            std::fs::remove_file(at.join("cert.pem")).unwrap()
        }),
    ];
    for (expected, damage) in damages {
        files.install(&generation(7)).await.unwrap();
        assert!(files.inspect().await.unwrap().is(&generation(7)));
        assert!(!files.inspect().await.unwrap().is(&generation(8)));
        damage(directory.path());
        match files.inspect().await.unwrap() {
            Shown::Generation {
                number: 7,
                fault: Some(fault),
                ..
            } => {
                assert!(fault.contains(expected), "{fault}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    files.install(&generation(7)).await.unwrap();
    assert!(files.inspect().await.unwrap().is(&generation(7)));
}

#[tokio::test]
async fn what_is_no_certificate_with_a_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for chain in ["", "junk", "-----BEGIN CERTIFICATE-----\n"] {
        let wrong = Generation {
            fullchain_pem: chain.into(),
            ..generation(7)
        };
        let error = files(directory.path()).install(&wrong).await.unwrap_err();
        assert!(matches!(error, DeliverError::Malformed(_)));
    }
    let wrong = Generation {
        key_pem: Secret::new(b"\x30\x82".to_vec()),
        ..generation(7)
    };
    let error = files(directory.path()).install(&wrong).await.unwrap_err();
    assert!(matches!(error, DeliverError::Malformed(_)));
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

/// From nothing, from an older generation, from a damaged one, and over files of somebody else.
#[test]
fn a_crash_before_any_step_leaves_the_old_or_the_new() {
    let starts: [(Option<u64>, Make<'_>); 4] = [
        (None, &|_| ()),
        (Some(7), &|at| install_now(at, 7).unwrap()),
        (Some(8), &|at| {
            install_now(at, 8).unwrap();
            std::fs::remove_file(at.join(".gen-8/chain.pem")).unwrap();
        }),
        (None, &|at| {
            std::fs::write(at.join("bundle.pem"), "theirs").unwrap();
            symlink("../elsewhere", at.join("current")).unwrap();
        }),
    ];
    for (before, make) in starts {
        let mut steps = 0;
        loop {
            let directory = tempfile::tempdir().unwrap();
            make(directory.path());
            let done = crash_before_step(directory.path(), 8, steps);
            let seen = in_place(directory.path());
            assert!(
                seen == before || seen == Some(8),
                "{seen:?} after step {steps}"
            );
            let mut settings = settings(directory.path());
            settings.take_over = true;
            let place = Place::make(&settings).unwrap();
            place.install(&generation(8)).unwrap();
            assert!(
                place.inspect().unwrap().is(&generation(8)),
                "after step {steps}"
            );
            place.settle(8).unwrap();
            assert_eq!(generations(directory.path()), [".gen-8"]);
            assert_eq!(directory.path().read_dir().unwrap().count(), 7);
            if done {
                break;
            }
            steps += 1;
        }
        println!("{steps} crashes from {before:?}");
        assert!(steps > 30);
    }
}

/// Whether it came to the end without one.
fn crash_before_step(directory: &Path, number: u64, step: u32) -> bool {
    let left = Cell::new(step);
    let before = || match left.get().checked_sub(1) {
        Some(fewer) => {
            left.set(fewer);
            Ok(())
        }
        None => Err(DeliverError::Malformed("crash".into())),
    };
    let mut settings = settings(directory);
    settings.take_over = true;
    let mut place = Place::make(&settings).unwrap();
    place.before = Some(&before);
    place.install_steps(&generation(number)).is_ok()
}

/// Reads a file as a server would. One that is put to sleep in the middle of opening it, while two newer generations
/// come and the one it was led to goes, finds nothing, and finds the newest when it looks again.
fn read(bundle: &Path) -> String {
    let tries = (0..3).find_map(|_| std::fs::read_to_string(bundle).ok());
    tries.expect("the bundle is always there")
}

#[test]
fn a_reader_never_sees_a_mixed_pair() {
    const INSTALLS: u64 = 500;
    let directory = tempfile::tempdir().unwrap();
    install_now(directory.path(), 1).unwrap();
    let over = AtomicBool::new(false);
    let bundle = directory.path().join("bundle.pem");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut last, mut reads, mut changes) = (0, 0_u32, 0_u32);
            while !over.load(Ordering::Relaxed) {
                let number = number_of_pair(&read(&bundle));
                assert!(number >= last, "{last}, then {number}");
                changes += u32::from(number != last);
                (last, reads) = (number, reads + 1);
            }
            (reads, changes)
        });
        let settings = settings(directory.path());
        let place = Place::make(&settings).unwrap();
        let outcome = (2..=INSTALLS).try_for_each(|number| {
            place.install(&generation(number))?;
            place.settle(number - 1)
        });
        over.store(true, Ordering::Relaxed);
        outcome.unwrap();
        let (reads, changes) = reader.join().unwrap();
        println!("{reads} reads saw {changes} generations");
        assert!(changes > 20);
    });
    assert_eq!(generations(directory.path()).len(), 2);
}

#[test]
fn a_full_disk_is_named_and_the_old_generation_stays() {
    const THIS: &str = "deliver::install_tests::a_full_disk_is_named_and_the_old_generation_stays";
    if let Some(disk) = part() {
        return on_a_small_disk(Path::new(&disk));
    }
    let directory = tempfile::tempdir().unwrap();
    Part::start_on_a_disk_of("1m", THIS, directory.path()).finish();
}

fn on_a_small_disk(disk: &Path) {
    // A process of its own: nobody else gets this mask. Modes must not depend on it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let directory = disk.join("certs");
    install_now(&directory, 7).unwrap();
    assert_eq!(mode_of(&directory), 0o755);
    assert_eq!(mode_of(&directory.join("current/")), 0o755);
    assert_eq!(mode_of(&directory.join("cert.pem")), 0o644);
    let filler = fill(disk);
    for _ in 0..2 {
        let error = install_now(&directory, 8).unwrap_err();
        assert!(matches!(error, DeliverError::Full { .. }), "{error}");
        assert_eq!(in_place(&directory), Some(7));
        assert_eq!(generations(&directory), [".gen-7"]);
    }
    drop(filler);
    install_now(&directory, 8).unwrap();
    assert_eq!(in_place(&directory), Some(8));
    say("done");
}

fn settings(directory: &Path) -> Settings {
    Settings::new(directory.to_owned())
}

fn files(directory: &Path) -> Files {
    Files::new(settings(directory))
}

async fn install(directory: &Path, number: u64) -> Result<(), DeliverError> {
    files(directory).install(&generation(number)).await
}

fn install_now(directory: &Path, number: u64) -> Result<(), DeliverError> {
    let settings = settings(directory);
    Place::make(&settings)?.install(&generation(number))
}

fn generation(number: u64) -> Generation {
    let leaf = block("CERTIFICATE", &format!("leaf {number}"));
    let issuer = block("CERTIFICATE", &format!("issuer {number}"));
    Generation {
        number,
        fullchain_pem: format!("{leaf}{issuer}"),
        key_pem: Secret::new(block("PRIVATE KEY", &format!("key {number}")).into_bytes()),
    }
}

fn block(label: &str, text: &str) -> String {
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// The generation that `bundle.pem` is of; it must be one, and whole.
fn in_place(directory: &Path) -> Option<u64> {
    std::fs::read_link(directory.join("bundle.pem")).ok()?;
    let text = std::fs::read_to_string(directory.join("bundle.pem")).ok()?;
    Some(number_of_pair(&text))
}

fn number_of_pair(bundle: &str) -> u64 {
    let number = |word: &str| -> u64 {
        let line = bundle.lines().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_else(|| panic!("no {word}: {bundle}"))
            .trim()
            .parse()
            .unwrap()
    };
    let (key, leaf, issuer) = (number("key"), number("leaf"), number("issuer"));
    assert!(key == leaf && leaf == issuer, "a mixed pair: {bundle}");
    key
}

fn generations(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = directory
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".gen"))
        .collect();
    names.sort();
    names
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}
