//! moto, the stand-in for Amazon's services that nobody here wrote, and boto3, Amazon's own client.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};

use super::{KEY, SECRET};
use crate::support::ports::{self, Port};
use crate::support::process::{Process, guarded, server, servers_directory};

/// The running server.
pub struct Moto {
    port: Port,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl Moto {
    /// With nothing in it.
    pub fn start() -> Self {
        let (port, directory) = (ports::free(), tempfile::tempdir().unwrap());
        let mut command = server("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &port.number().to_string()]);
        let mut process = Process::start("moto", command, directory.path());
        let at = ("127.0.0.1", port.number());
        process.wait_until("taking connections", || {
            std::net::TcpStream::connect(at).is_ok()
        });
        Self {
            port,
            _process: process,
            _directory: directory,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Makes a zone, public or private.
    pub fn make_zone(&self, name: &str, is_private: bool) {
        let script = "
import sys, uuid, boto3
client = boto3.client('route53', endpoint_url=sys.argv[1])
name, is_private = sys.argv[2], sys.argv[3] == 'true'
extra = {'VPC': {'VPCRegion': 'us-east-1', 'VPCId': 'vpc-1'}} if is_private else {}
client.create_hosted_zone(Name=name, CallerReference=str(uuid.uuid4()),
                          HostedZoneConfig={'Comment': '', 'PrivateZone': is_private}, **extra)
";
        let output = python(&self.url(), script, &[name, &is_private.to_string()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

/// Runs a script with the packages that `tests/get-servers` got, and the fake's key.
pub fn python(endpoint: &str, script: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let nothing = |file: &str| Path::join(directory.path(), file);
    let mut command: Command = guarded(&servers_directory().join("venv/bin/python"));
    command
        .args(["-c", script, endpoint])
        .args(arguments)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_CONFIG_FILE", nothing("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", nothing("credentials"));
    command.output().unwrap()
}
