//! Tests: whatever is sent to the server and however much there is to say, it answers or hangs up, and keeps nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::host::Names;
use super::routes;
use super::server::answer;
use super::testing::Site;
use crate::clock::Clock;

/// So many messages, and with `COUNTERSIGN_FULL`.
const FEW: u64 = 5_000;
const MANY: u64 = 1_000_000;
/// The process does not grow by more, other tests beside this one included: of each of a million messages not even
/// 300 bytes stay.
const GROWTH: u64 = 256 * 1024 * 1024;
/// What hangs by then hangs for good.
const ENDS: Duration = Duration::from_secs(60);

/// What messages are made of.
const PIECES: [&[u8]; 40] = [
    b"GET /metrics HTTP/1.1\r\n",
    b"GET /health HTTP/1.1\r\n",
    b"GET /health/ready HTTP/1.1\r\n",
    b"HEAD /metrics HTTP/1.1\r\n",
    b"POST /metrics HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\n",
    b"GET http://localhost/metrics HTTP/1.1\r\n",
    b"GET http://evil.test/metrics HTTP/1.1\r\n",
    b"GET //metrics/../../etc/passwd HTTP/1.1\r\n",
    b"GET /metrics?%00%ff=%zz HTTP/1.0\r\n",
    b"GET /metrics HTTP/9.9\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"Host: localhost\r\n",
    b"Host: localhost\r\n",
    b"Host: localhost\r\n",
    b"Host: [::1]:9180\r\n",
    b"Host: \r\n",
    b"Host: evil.test\r\n",
    b"Host: [::1\r\n",
    b"Host: \xff\xfe\r\n",
    b"host:localhost \r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n",
    b"Connection: keep-alive, upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Accept-Encoding: gzip\r\n",
    b"X: a\r\n b\r\n",
    b": \r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b"ffffffffffffffff\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"GET /metrics\r\n",
];

/// Numbers that come again with the same seed (xorshift).
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    /// A message: mostly pieces in a likely order, then octets changed, cut off or repeated.
    fn message(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        if self.next(4) == 0 {
            message.extend_from_slice(PIECES[0]);
            message.extend_from_slice(PIECES[13]);
        } else if self.next(8) != 0 {
            message.extend_from_slice(PIECES[self.next(13)]);
            message.extend_from_slice(PIECES[13 + self.next(9)]);
        }
        for _ in 0..self.next(6) {
            message.extend_from_slice(PIECES[self.next(PIECES.len())]);
        }
        match self.next(12) {
            0 => {
                let many = self.next(100);
                message.extend(b"X-Header: y\r\n".repeat(many));
            }
            1 => {
                let many = self.next(40_000);
                message.extend(std::iter::repeat_n(b'a', many));
            }
            2 => {
                let many = self.next(200);
                message.extend(std::iter::repeat_with(|| self.next(256) as u8).take(many));
            }
            _ => {}
        }
        message.extend_from_slice(b"\r\n");
        for _ in 0..self.next(4) {
            let at = self.next(message.len());
            message[at] = self.next(256) as u8;
        }
        if self.next(8) == 0 {
            message.truncate(self.next(message.len()));
        }
        message
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_is_answered_or_refused_and_nothing_is_kept() {
    let site = Site::with(3).await;
    let routes = routes(site.served.clone());
    let names = Arc::new(Names::new(&[]));
    let messages = if is_full_run() { MANY } else { FEW };
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    let (mut answered, mut served, mut before) = (0_u64, 0_u64, 0);
    for nth in 0..messages {
        if nth == messages / 10 {
            before = resident();
        }
        let message = draw.message();
        let (mut client, server) = tokio::io::duplex(16 * 1024);
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (routes, names) = (routes.clone(), Arc::clone(&names));
        let task = tokio::spawn(answer(server, local, routes, names, Clock::system()));
        let mut said = Vec::new();
        let talk = async {
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            let write = async {
                // It may hang up before it has read all of it.
                let _ = writer.write_all(&message).await;
                let _ = writer.shutdown().await;
            };
            // Whoever is cut off reads what came until then.
            let _ = tokio::join!(write, reader.read_to_end(&mut said)).1;
        };
        let talked = Clock::system().timeout(ENDS, talk).await;
        let shown = String::from_utf8_lossy(&message).into_owned();
        assert!(talked.is_some(), "{nth}: no end after {shown:?}");
        assert!(task.await.is_ok(), "{nth}: a panic after {shown:?}");
        let said = String::from_utf8_lossy(&said);
        assert!(said.is_empty() || said.starts_with("HTTP/1."), "{said}");
        answered += u64::from(!said.is_empty());
        served += u64::from(said.contains("\ncountersign_build_info"));
    }
    // Otherwise the messages are too wild to come anywhere.
    assert!(answered > messages / 2, "{answered} of {messages}");
    assert!(served > messages / 100, "{served} of {messages}");
    let grown = resident().saturating_sub(before);
    println!("{messages} messages, {answered} answered, {served} with metrics, {grown} bytes more");
    assert!(grown < GROWTH, "{grown} bytes");
}

/// Whoever scrapes them waits a few seconds at the most; how long it takes is shown.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_very_many_certificates_are_all_there() {
    let site = Site::with(if is_full_run() { 10_000 } else { 1_000 }).await;
    let wanted = site.served.shared().certificates.len();
    let clock = Clock::system();
    let started = clock.elapsed();
    let all = site.served.metrics().await.unwrap();
    let took = clock.elapsed() - started;
    let all = std::str::from_utf8(&all).unwrap();
    let name = "\ncountersign_certificate_not_after_timestamp_seconds{";
    assert_eq!(all.matches(name).count(), wanted);
    println!("{wanted} certificates: {} bytes in {took:?}", all.len());
}

#[allow(
    clippy::disallowed_methods,
    reason = "how tests/run asks for the long campaigns"
)]
fn is_full_run() -> bool {
    std::env::var_os("COUNTERSIGN_FULL").is_some()
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
