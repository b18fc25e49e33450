//! aiosmtpd as a mail server: with STARTTLS and a login, or plain. What it takes is read by Python's own mail parser.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::ports::{self, Port};
use super::process::{Process, guarded, servers_directory};
use super::tls::Identity;

/// What it wants of a client that logs in.
pub const LOGIN: (&str, &str) = ("cs", "hunter2");

const SERVER: &str = r#"
import asyncio, json, ssl, sys
from email import policy
from email.parser import BytesParser
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

port, directory, kind = sys.argv[1:]
wanted = (b"cs", b"hunter2")

class Handler:
    async def handle_DATA(self, server, session, envelope):
        mail = BytesParser(policy=policy.default).parsebytes(envelope.content)
        taken = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "login": bool(session.authenticated),
            "defects": [repr(it) for it in mail.defects],
            "headers": [[name, str(value)] for name, value in mail.items()],
            "recipients": [it.addr_spec for it in mail["To"].addresses],
            "date": mail["Date"].datetime.isoformat(),
            "type": mail.get_content_type(),
            "text": mail.get_body(("plain",)).get_content(),
        }
        with open(directory + "/taken", "a") as file:
            file.write(json.dumps(taken) + "\n")
        return "250 taken"

def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == wanted
    return AuthResult(success=good)

def protocol():
    if kind == "plain":
        return SMTP(Handler())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory + "/certificate.pem", directory + "/key.pem")
    return SMTP(Handler(), tls_context=context, require_starttls=True, auth_required=True,
                authenticator=authenticate)

async def main():
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", int(port))
    await server.serve_forever()

asyncio.run(main())
"#;

/// A running mail server.
#[derive(Debug)]
pub struct MailServer {
    port: Port,
    directory: TempDir,
    _process: Process,
}

impl MailServer {
    /// One that talks in the clear.
    pub fn plain() -> Self {
        Self::start("plain")
    }

    /// One that wants STARTTLS and [`LOGIN`].
    pub fn with_starttls_and_login() -> Self {
        Self::start("starttls")
    }

    fn start(kind: &str) -> Self {
        let (port, directory) = (ports::free(), TempDir::new().expect("a directory"));
        Identity::loopback().write(directory.path());
        let script = directory.path().join("server.py");
        std::fs::write(&script, SERVER).expect("a file can be written");
        let mut command = guarded(&servers_directory().join("venv/bin/python"));
        command
            .arg(&script)
            .arg(port.number().to_string())
            .arg(directory.path())
            .arg(kind);
        let mut process = Process::start("aiosmtpd", command, directory.path());
        let at = ("127.0.0.1", port.number());
        process.wait_until("its port", || std::net::TcpStream::connect(at).is_ok());
        Self {
            port,
            directory,
            _process: process,
        }
    }

    /// `host:port`.
    pub fn server(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// The root of its TLS.
    pub fn root(&self) -> PathBuf {
        self.path("root.pem")
    }

    /// What it took, as Python's parser reads it.
    pub fn taken(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("taken")).unwrap_or_default();
        let lines = text.lines();
        let mails = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        mails.collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }
}
