//! A plug-in ends with whoever needs it, however that ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use super::*;
use crate::support::command::Countersign;
use crate::support::process::spawn;

/// Where the owner that is killed finds its plug-ins.
const OWNED: &str = "COUNTERSIGN_TEST_OWNED";

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_needed_no_more_is_told_to_end() {
    let hostile = Hostile::new("good");
    let plugin = hostile.plugin();
    assert!(zones(&plugin, &context(&Clock::system())).await.is_ok());
    let pid = hostile.number("start ");
    drop(plugin);
    hostile.expect("shutdown");
    hostile.expect("end of input");
    assert!(is_gone(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_killed_with_all_that_it_started() {
    let hostile = Hostile::new("leaves-a-child");
    let plugin = hostile.plugin();
    assert!(zones(&plugin, &context(&Clock::system())).await.is_ok());
    let child = hostile.number("child ");
    drop(plugin);
    assert!(is_gone(child));
}

#[test]
fn it_is_killed_when_the_runtime_ends() {
    let hostile = Hostile::new("hang");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let plugin = hostile.plugin();
    let settled = runtime.block_on(async {
        let context = context(&Clock::system());
        plugin
            .observe(&zone("example.test"), &[name("example.test")], &context)
            .await
    });
    assert!(settled.is_ok());
    drop(runtime);
    assert!(is_gone(hostile.number("start ")));
}

/// The program with a plug-in of that command.
fn program(command: &[String]) -> Countersign {
    let provider = json!({"process": {"command": command}});
    let authority = json!({"agree-to-terms": true, "directory": "https://127.0.0.1:1/"});
    let certificate =
        json!({"names": ["example.test"], "deliver": [{"files": {"directory": "{dir}/out"}}]});
    let configuration = json!({
        "state": "{dir}/state",
        "authorities": {"nobody": authority},
        "providers": {"ours": provider},
        "certificates": {"example": certificate},
    });
    Countersign::new(&configuration.to_string())
}

#[test]
fn one_that_heeds_nothing_is_killed_with_the_program() {
    let hostile = Hostile::new("heeds-nothing");
    let program = program(&hostile.settings.command);
    let running = program.start(&["plugin", "test", "ours"]);
    hostile.expect("heeds nothing");
    let pid = hostile.number("start ");
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let told = hostile.settings.command.join("\0");
    assert!(line.ends_with(&format!("{told}\0")), "{line:?}");
    assert!(!line.contains("--in-place-of"), "{line:?}");
    assert_eq!(running.kill().signal, Some(9));
    assert!(is_gone(pid));
}

#[test]
fn one_that_cannot_be_started_is_named_with_the_reason() {
    let directory = TempDir::with_prefix("countersign-test-").unwrap();
    let file = |name: &str, mode| {
        let path = directory.path().join(name);
        std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        text(&path)
    };
    let (missing, closed) = ("No such file or directory", "Permission denied");
    for (command, why) in [
        ("/no/such/plug-in".to_owned(), missing),
        (file("not-executable", 0o644), closed),
        (file("no-interpreter", 0o755), missing),
    ] {
        let command = [command];
        let tested = program(&command).run(&["plugin", "test", "ours"]);
        let words = format!("{} could not be started: {why}\n", command[0]);
        assert!(tested.stderr.contains(&words), "{}", tested.stderr);
        tested.expect_code(2);
    }
}

/// Runs itself as an owner, kills that, and looks whether the samples end by themselves.
#[test]
fn the_samples_end_when_their_owner_is_killed() {
    let directory = TempDir::with_prefix("countersign-test-").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "process::ends::owner", "--include-ignored"])
        .env(OWNED, directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut owner = spawn(command).unwrap();
    assert!(eventually(SOON, || directory.path().join("ready").exists()));
    let plugins = children(owner.id());
    assert_eq!(plugins.len(), 2);
    owner.kill().unwrap();
    owner.wait().unwrap();
    for pid in plugins {
        assert!(is_gone(pid));
    }
}

/// Only for the test above: owns both samples until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is started by another test"]
#[allow(clippy::disallowed_methods, reason = "how that test says where")]
async fn owner() {
    let Some(directory) = std::env::var_os(OWNED).map(PathBuf::from) else {
        return;
    };
    let mut plugins = Vec::new();
    for sample in ["example.py", "example.sh"] {
        let program = text(&root().join("providers/samples").join(sample));
        let config = json!({"zone": "example.test", "file": directory.join(sample)});
        let plugin = Process::new(settings(&[&program], config));
        let held = zones(&plugin, &context(&Clock::system())).await;
        assert_eq!(held.unwrap().len(), 1);
        plugins.push(plugin);
    }
    std::fs::write(directory.join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

/// The processes that this one started.
fn children(of: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        after_name.split(' ').nth(1) == Some(&of.to_string())
    };
    pids.filter(is_child).collect()
}
