//! Ports that nobody else takes, by TCP and UDP, on every address.
//!
//! Port 0 would do for one program, but not for several test runs side by side: between finding the port and the
//! server's own bind another run may take it, and then answers in the server's place. So a port stays reserved by a
//! locked file while its [`Port`] lives, and comes from below the range that the kernel hands out by itself.

use std::fs::{File, TryLockError};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's ephemeral ports (32768) and above what services usually take.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// A port that is reserved as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// A port that is free by TCP and UDP on all IPv4 and IPv6 addresses.
pub fn free() -> Port {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs begin at different places, so that they rarely meet.
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let number = FIRST + (start + step) % COUNT;
        if let Some(lock) = reserve(number)
            && is_free(number)
        {
            return Port {
                number,
                _lock: lock,
            };
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// The lock on a port, unless another process holds it. It ends with the file, hence also with the process.
fn reserve(number: u16) -> Option<File> {
    let file =
        File::create(lock_directory().join(number.to_string())).expect("a lock file for a port");
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => panic!("locking port {number}: {error}"),
    }
}

/// One directory a user, since another user's files cannot be opened.
fn lock_directory() -> PathBuf {
    let user = std::fs::metadata("/proc/self")
        .expect("the own process")
        .uid();
    let directory = std::env::temp_dir().join(format!("countersign-test-ports-{user}"));
    std::fs::create_dir_all(&directory).expect("a directory for port locks");
    directory
}

fn is_free(number: u16) -> bool {
    ["0.0.0.0", "::"].iter().all(|&address| {
        let refused = |error: std::io::Error| {
            // A machine without IPv6 has no IPv6 port to be taken.
            !(address == "::" && error.kind() != std::io::ErrorKind::AddrInUse)
        };
        !TcpListener::bind((address, number))
            .map(drop)
            .is_err_and(refused)
            && !UdpSocket::bind((address, number))
                .map(drop)
                .is_err_and(refused)
    })
}
