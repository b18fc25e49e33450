//! The parts of the demonstration in their places: a directory, the authority, a port for the nameserver, and a
//! configuration file like anybody's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_testca::{Authority, Settings, StartError};
use tempfile::TempDir;

use crate::config::{Config, ConfigErrors};

/// The delegated zone: the challenges of `demo.test` and `*.demo.test` stand at its apex.
pub(super) const ZONE: &str = "_acme-challenge.demo.test";
/// The configuration's file.
pub(super) const CONFIG: &str = "countersign.yaml";
/// Ports are tried until one is free by UDP and by TCP.
const TRIES: usize = 50;

/// Everything that the daemon needs around it.
pub(super) struct Stage {
    /// As read from the file in the directory.
    pub(super) config: Config,
    /// Where the authority begins.
    pub(super) directory_url: String,
    /// Where the nameserver answers.
    pub(super) nameserver: SocketAddr,
    place: Place,
    _authority: Authority,
}

/// Where the files are.
enum Place {
    Kept(PathBuf),
    Temporary(TempDir),
}

/// Why it could not be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    /// The directory that was asked for.
    #[error("{0}")]
    Directory(String),
    /// A file or a port.
    #[error("{what}: {error}")]
    Io {
        /// What was wanted.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// The authority.
    #[error(transparent)]
    Authority(#[from] StartError),
    /// Our own configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

impl Stage {
    /// Makes the directory, starts an authority whose certificates last for `lifetime`, and writes the configuration.
    pub(super) async fn build(
        directory: Option<&Path>,
        lifetime: Duration,
    ) -> Result<Self, StageError> {
        let place = place(directory)?;
        let nameserver = free_port()?;
        let authority = Authority::start(Settings {
            lifetime,
            ..Settings::asking(nameserver)
        })
        .await?;
        let directory_url = authority.directory_url();
        let root = place.path();
        write(
            &root.join("authority-https.pem"),
            authority.https_root_pem(),
        )?;
        write(
            &root.join("authority-root.pem"),
            authority.issuing_root_pem(),
        )?;
        let file = root.join(CONFIG);
        write(&file, &configuration(&directory_url, nameserver))?;
        Ok(Self {
            config: Config::load(&file)?,
            directory_url,
            nameserver,
            place,
            _authority: authority,
        })
    }

    /// The directory of everything.
    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Where the certificate is delivered.
    pub(super) fn certificates(&self) -> PathBuf {
        self.path().join("certificates")
    }

    /// Removes what is not to be kept.
    pub(super) fn clear(self) {
        if let Place::Temporary(directory) = self.place {
            // The system clears its own temporary directory sooner or later.
            let _ = directory.close();
        }
    }
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

fn place(directory: Option<&Path>) -> Result<Place, StageError> {
    let failed = |what: String| move |error| StageError::Io { what, error };
    let Some(directory) = directory else {
        let made = TempDir::with_prefix("countersign-demo-");
        let made = made.map_err(failed("a temporary directory cannot be made".to_owned()))?;
        return Ok(Place::Temporary(made));
    };
    let shown = directory.display();
    let refused = |error: io::Error| {
        StageError::Directory(format!("{shown} cannot be used for the demo: {error}"))
    };
    std::fs::create_dir_all(directory).map_err(refused)?;
    let directory = directory.canonicalize().map_err(refused)?;
    match std::fs::read_dir(&directory).map_err(refused)?.next() {
        None => Ok(Place::Kept(directory)),
        Some(_) => Err(StageError::Directory(format!(
            "{shown} is not empty; name an empty or a new directory for the demo"
        ))),
    }
}

fn write(path: &Path, text: &str) -> Result<(), StageError> {
    std::fs::write(path, text).map_err(|error| StageError::Io {
        what: format!("{} cannot be written", path.display()),
        error,
    })
}

/// A port of 127.0.0.1 that is free by UDP and TCP: the authority and the configuration name it before the nameserver
/// takes it.
fn free_port() -> Result<SocketAddr, StageError> {
    let failed = |error| StageError::Io {
        what: "no free port on 127.0.0.1".to_owned(),
        error,
    };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        match UdpSocket::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn configuration(directory_url: &str, nameserver: SocketAddr) -> String {
    let port = nameserver.port();
    format!(
        "\
# What `countersign demo` ran with. Paths begin at the directory of this file.
state: state
authorities:
  demo:
    directory: {directory_url}
    trust: authority-https.pem      # the root of the authority's own HTTPS
    agree-to-terms: true
nameserver:                         # the built-in one; a real one listens on port 53
  zone: {ZONE}
  listen: [\"{nameserver}\"]
  hosts: {{ns1.{ZONE}: [127.0.0.1]}}
dns:                                # the walk starts at our own nameserver instead of the real roots
  look: roots
  roots: [127.0.0.1]
  port: {port}
certificates:
  demo:
    names: [demo.test, \"*.demo.test\"]
    deliver:
      - files: {{directory: certificates}}
"
    )
}
