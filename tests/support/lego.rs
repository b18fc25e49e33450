//! lego's own providers, driven as lego drives them (`tests/lego`).

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use super::process::{server, spawn};

/// lego between presenting and cleaning up.
pub struct Lego(Child);

impl Lego {
    /// Presents a value for each of `names`, in zones that it finds through `dns`.
    pub fn present(
        provider: &str,
        dns: SocketAddr,
        names: &[String],
        variables: &[(&str, String)],
    ) -> Self {
        let mut lego = server("lego-dns");
        lego.arg(provider).arg(dns.to_string()).args(names);
        lego.envs(variables.iter().map(|(name, value)| (name, value)))
            .env("LEGO_DISABLE_CNAME_SUPPORT", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut lego = spawn(lego).expect("lego can be started");
        let mut presented = String::new();
        let output = lego.stdout.as_mut().expect("piped");
        BufReader::new(output)
            .read_line(&mut presented)
            .expect("its own words");
        if presented != "presented\n" {
            panic!("{:?}", lego.wait_with_output());
        }
        Self(lego)
    }

    /// Cleans all of them up.
    pub fn clean(mut self) {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().expect("an own child");
        assert!(output.status.success(), "{output:?}");
    }
}
