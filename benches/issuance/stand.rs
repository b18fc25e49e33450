//! The servers that all peers share, and how time is taken.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::support::bind::{Bind, RunningBind, Zone};
use crate::support::pebble::{Pebble, RunningPebble, Version};
use crate::support::proxy::Proxy;
use crate::support::tsig::Key;
use crate::support::{dns, zone};

/// The zone that everybody gets a certificate for.
pub(crate) const ZONE: &str = "example.test";
/// Where its challenges are answered.
pub(crate) const CHALLENGE: &str = "_acme-challenge.example.test";
/// The names of the certificate.
pub(crate) const NAMES: [&str; 2] = [ZONE, "*.example.test"];

/// One Pebble, one BIND.
pub(crate) struct Stand {
    bind: RunningBind,
    pub key: Key,
    pebble: RunningPebble,
}

/// An authority as a peer is told of it.
pub(crate) struct Door {
    pub directory: String,
    /// The root of its HTTPS, a PEM file.
    pub root: PathBuf,
}

impl Stand {
    pub(crate) fn start() -> Self {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let key = Key::sha256("acme");
        let zone = Zone::primary(ZONE, zone::text(ZONE, &[here], ""))
            .update_policy(&format!("grant acme name {CHALLENGE} TXT;"));
        let bind = Bind::new().key(&key).zone(zone).start();
        let pebble = Pebble::new(Version::Newest, bind.addr()).start();
        Self { bind, key, pebble }
    }

    /// Where BIND listens.
    pub(crate) fn dns(&self) -> SocketAddr {
        self.bind.addr()
    }

    /// Pebble itself.
    pub(crate) fn door(&self) -> Door {
        Door {
            directory: self.pebble.directory_url(),
            root: self.pebble.https_root(),
        }
    }

    /// A proxy before Pebble, which counts.
    pub(crate) fn proxy(&self) -> (Proxy, Door) {
        let proxy = Proxy::start(self.pebble.addr(), self.pebble.https_root_pem(), "/dir");
        let door = Door {
            directory: proxy.directory_url(),
            root: proxy.https_root(),
        };
        (proxy, door)
    }

    /// Every peer leaves the zone as it found it.
    pub(crate) fn expect_clean(&self) {
        let left = dns::txt(self.dns(), CHALLENGE);
        assert!(left.is_empty(), "left in the zone: {left:?}");
    }
}

/// Since when, in wall time and in processor time of this process and its ended children.
pub(crate) struct Meter {
    wall: Instant,
    own: Duration,
    children: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            wall: Instant::now(),
            own: own_cpu(),
            children: children_cpu(),
        }
    }

    pub(crate) fn wall(&self) -> Duration {
        self.wall.elapsed()
    }

    /// What this process has used since.
    pub(crate) fn own(&self) -> Duration {
        own_cpu().saturating_sub(self.own)
    }

    /// What children that ended since have used.
    pub(crate) fn children(&self) -> Duration {
        children_cpu().saturating_sub(self.children)
    }
}

fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.cast_unsigned(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// User and system time of ended children: fields 16 and 17 of proc_pid_stat(5).
fn children_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    let fields = after_name.split_whitespace().skip(13).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
    let a_second = rustix::param::clock_ticks_per_second();
    Duration::from_secs_f64(ticks as f64 / a_second as f64)
}
