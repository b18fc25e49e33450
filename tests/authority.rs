//! What an authority may do that Pebble does not: forget an account, ask for a pause, issue the wrong certificate.
//! The real program, BIND, and the test authority with one fault each.

use std::time::Duration;

use countersign_testca::{Authority, Endpoint, Settings};
use tokio::runtime::Runtime;

use crate::issuance::{Host, countersign, judge};
use crate::support::command::{Countersign, Finished};

const ONE: &str = "  example:
    names: [example.test, \"*.example.test\"]
    deliver: [{files: {directory: \"{dir}/out\"}}]
";

/// The servers, and the program set up for them.
pub(crate) struct Scene {
    pub(crate) program: Countersign,
    pub(crate) host: Host,
    pub(crate) authority: Authority,
    /// Serves the authority as long as this lives.
    _runtime: Runtime,
}

impl Scene {
    fn usual() -> Self {
        let host = Host::usual();
        let settings = Settings::asking(host.addr());
        Self::with(host, settings, ONE)
    }

    /// An authority of these settings; `certificates` are lines under that key.
    pub(crate) fn with(host: Host, settings: Settings, certificates: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let authority = runtime.block_on(Authority::start(settings)).unwrap();
        let root = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(root.path(), authority.https_root_pem()).unwrap();
        let program = countersign(&host, &authority.directory_url(), root.path(), certificates);
        let kept = program.path("authority.pem");
        std::fs::copy(root.path(), &kept).unwrap();
        let text = std::fs::read_to_string(program.config()).unwrap();
        let from = root.path().to_string_lossy().into_owned();
        program.configure(&text.replace(&from, &kept.to_string_lossy()));
        Self {
            program,
            host,
            authority,
            _runtime: runtime,
        }
    }

    fn asked(&self, endpoint: Endpoint) -> u64 {
        let requests = self.authority.requests();
        requests.get(&endpoint).copied().unwrap_or_default()
    }

    /// `renew` fails and says all of `told`; nothing is left in the zone.
    fn fails(&self, arguments: &[&str], told: &[&str]) -> Finished {
        let said = self.program.run(arguments).expect_code(1);
        for told in told {
            assert!(said.stderr.contains(told), "{told}\n{}", said.stderr);
        }
        self.host.expect_clean();
        said
    }

    fn obtains(&self, arguments: &[&str]) {
        self.program.run(arguments).expect_code(0);
        judge(
            &self.program.path("out"),
            self.authority.issuing_root_pem(),
            &["example.test", "*.example.test"],
        );
        self.host.expect_clean();
    }
}

#[test]
fn an_account_that_the_authority_forgot_is_registered_again() {
    let scene = Scene::usual();
    scene.obtains(&["renew"]);
    scene.authority.faults().forget_accounts();
    let told = [
        "accountDoesNotExist",
        "registered again with the next attempt",
    ];
    scene.fails(&["renew", "--force"], &told);
    assert_eq!(scene.asked(Endpoint::NewAccount), 1);
    scene.obtains(&["renew"]);
    assert_eq!(scene.asked(Endpoint::NewAccount), 2);
}

#[test]
fn a_pause_that_the_authority_asked_for_binds_the_next_run_too() {
    let scene = Scene::usual();
    let pause = Some(Duration::from_secs(3_600));
    scene
        .authority
        .faults()
        .fail_http(Endpoint::NewOrder, 503, pause, 1);
    scene.fails(&["renew"], &["authority pebble", "[the authority's move"]);
    scene.fails(&["renew", "--force"], &["[the authority's move"]);
    assert_eq!(scene.asked(Endpoint::NewOrder), 1);
}

/// Registering, too: nobody waits in silence, and nobody asks sooner.
#[test]
fn a_pause_for_the_account_binds_the_next_run_too() {
    let scene = Scene::usual();
    let pause = Some(Duration::from_secs(3_600));
    let faults = scene.authority.faults();
    faults.fail_http(Endpoint::NewAccount, 429, pause, 1);
    let told = [
        "authority pebble",
        "[the authority's move]",
        "and not sooner",
    ];
    scene.fails(&["renew"], &told);
    scene.fails(&["renew"], &told);
    scene.fails(&["renew", "--force", "example"], &told);
    assert_eq!(scene.asked(Endpoint::NewAccount), 1);
}

#[test]
fn a_certificate_that_is_not_ours_is_refused_and_another_one_ordered() {
    let faults: [fn(&Authority); 2] = [
        |authority| authority.faults().wrong_keys(1),
        |authority| authority.faults().wrong_names(1),
    ];
    for fault in faults {
        let scene = Scene::usual();
        fault(&scene.authority);
        scene.fails(&["renew"], &["authority pebble"]);
        assert!(!scene.program.path("out").exists());
        scene.obtains(&["renew"]);
    }
}

/// The certificate exists by then: it is fetched with the key that is kept, not ordered once more.
#[test]
fn a_download_that_failed_goes_on_with_the_same_order_and_key() {
    let scene = Scene::usual();
    scene
        .authority
        .faults()
        .drop_requests(Endpoint::Certificate, 100);
    scene.fails(&["renew"], &["authority pebble", "[the authority's move]"]);
    scene.authority.faults().clear();
    scene.obtains(&["renew"]);
    assert_eq!(scene.authority.orders().len(), 1);
    assert_eq!(scene.asked(Endpoint::Finalize), 1);
}
