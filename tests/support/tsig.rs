//! TSIG keys as the servers and their own clients take them, and signed updates by those clients.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::process::{server, spawn};

/// A TSIG key (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key's name, without a trailing dot.
    pub name: String,
    /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
    pub algorithm: String,
    /// The secret, base64.
    pub secret: String,
}

impl Key {
    /// A key whose secret follows from `seed`; 32 octets, or 64 for the longer algorithms.
    pub fn new(name: &str, algorithm: &str, seed: u8) -> Self {
        let length = if algorithm == "hmac-sha256" { 32 } else { 64 };
        let secret: Vec<u8> = (0..length)
            .map(|n: u8| n.wrapping_mul(7).wrapping_add(seed))
            .collect();
        Self {
            name: name.to_owned(),
            algorithm: algorithm.to_owned(),
            secret: STANDARD.encode(secret),
        }
    }

    /// A key with HMAC-SHA256.
    pub fn sha256(name: &str) -> Self {
        Self::new(name, "hmac-sha256", 1)
    }

    /// As `tsig-keygen` writes it and BIND reads it.
    pub fn keyfile(&self) -> String {
        format!(
            "key \"{}\" {{\n\talgorithm {};\n\tsecret \"{}\";\n}};\n",
            self.name, self.algorithm, self.secret
        )
    }

    /// Writes [`Key::keyfile`] into `directory`, readable by its owner only.
    pub fn write_keyfile(&self, directory: &Path) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = directory.join(format!("{}.key", self.name));
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(self.keyfile().as_bytes()))
            .expect("a key file can be written");
        path
    }
}

/// One update by BIND's `nsupdate` over TCP, e.g. `update add x.example.test. 60 TXT "v"`; lines of `update` and `prereq`
/// are sent as one message. `Err` is what it printed.
pub fn nsupdate(at: SocketAddr, zone: &str, key: Option<&Key>, lines: &str) -> Result<(), String> {
    let key = key.map(|key| format!("key {}:{} {}\n", key.algorithm, key.name, key.secret));
    update_with(
        "nsupdate",
        &["-v"],
        at,
        zone,
        key.unwrap_or_default(),
        lines,
    )
}

/// The same by Knot's `knsupdate`.
pub fn knsupdate(at: SocketAddr, zone: &str, key: Option<&Key>, lines: &str) -> Result<(), String> {
    let key = key.map(|key| format!("key {}:{} {}\n", key.algorithm, key.name, key.secret));
    update_with(
        "knsupdate",
        &["-v"],
        at,
        zone,
        key.unwrap_or_default(),
        lines,
    )
}

fn update_with(
    program: &str,
    arguments: &[&str],
    at: SocketAddr,
    zone: &str,
    key: String,
    lines: &str,
) -> Result<(), String> {
    let mut command = server(program);
    command.args(arguments);
    let zone = format!("{}.", zone.trim_end_matches('.'));
    let input = format!(
        "server {} {}\nzone {zone}\n{key}{lines}\nsend\n",
        at.ip(),
        at.port()
    );
    let output = run(command, &input);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // knsupdate ends with 0 also when the server refused.
    let refused = said.contains("failed") || said.contains("error");
    if output.status.success() && !refused {
        Ok(())
    } else {
        Err(said.into_owned())
    }
}

/// Runs a guarded command with `input` to its end.
pub fn run(mut command: Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command).expect("a program of the test's own can be started");
    let mut stdin = child.stdin.take().expect("piped above");
    stdin
        .write_all(input.as_bytes())
        .expect("the program reads its input");
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}
