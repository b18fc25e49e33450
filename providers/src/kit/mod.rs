//! The conformance kit: what every plug-in must do, case by case, against a host that is there for it.
//!
//! A case never panics. It has passed, or failed with what was seen, or was skipped with the reason. What the cases
//! write is written down, so that it can be removed whatever happens to them.

mod batches;
mod bench;
mod ending;
mod foreign;
mod host;
mod live;
mod program;
mod protocol;
mod refusals;
mod talk;
mod together;
mod told;
mod trouble;
mod values;
mod virtual_zone;
mod world;
mod zones;

use futures_util::future::BoxFuture;

use crate::Provider;

use bench::{Bench, Stop};
pub use live::Live;
pub use program::Program;
#[cfg(any(test, feature = "testing"))]
pub(crate) use told::{absent, ensure};
pub use virtual_zone::VirtualZone;
pub use world::World;

/// The TTL of our own values, unlike [`FOREIGN_TTL`].
pub(crate) const TTL: u32 = 60;
/// The TTL of values that somebody else put there.
const FOREIGN_TTL: u32 = 7777;
/// How many names a large order has.
const MANY: usize = 100;

/// One thing that a plug-in must do.
pub struct Case {
    /// What it is called; also the first label of the names that it writes at.
    pub id: &'static str,
    /// What it belongs to.
    pub group: &'static str,
    /// What a pass proves, in a sentence.
    pub proves: &'static str,
    needs: Needs,
    run: Run,
}

type Verdict = Result<(), Stop>;
type Run = for<'b> fn(&'b Bench<'b>) -> BoxFuture<'b, Verdict>;

/// What a case cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// Nothing: it writes nothing.
    Nothing,
    /// A zone to write to.
    Zone,
    /// And that somebody can see what is there.
    View,
    /// And that one value can be taken away.
    Values,
}

impl Case {
    const fn new(
        group: &'static str,
        id: &'static str,
        needs: Needs,
        proves: &'static str,
        run: Run,
    ) -> Self {
        Self {
            id,
            group,
            proves,
            needs,
            run,
        }
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is so.
    Passed,
    /// It is not: what was wanted, and what was seen, on one line or more.
    Failed(String),
    /// It could not be tried: why.
    Skipped(String),
}

/// A case and how it ended.
#[derive(Clone)]
pub struct Finding {
    /// The case.
    pub case: &'static Case,
    /// How it ended.
    pub outcome: Outcome,
}

/// The kit over one plug-in and its host.
pub struct Kit<'a> {
    bench: Bench<'a>,
}

impl<'a> Kit<'a> {
    /// Nothing is asked or written before [`Kit::run`].
    pub fn new(provider: &'a dyn Provider, world: &'a dyn World) -> Self {
        let bench = Bench::new(provider, world);
        Self { bench }
    }

    /// The cases that are about this plug-in, in their order. The last one is [`Kit::clean`].
    pub fn cases(&self) -> Vec<&'static Case> {
        let world = self.bench.world;
        let mut groups: Vec<&[Case]> = vec![
            &zones::CASES,
            &values::CASES,
            &foreign::CASES,
            &batches::CASES,
            &together::CASES,
            &refusals::CASES,
        ];
        if world.mirror().is_some() {
            groups.push(&host::CASES);
        }
        if world.program().is_some() {
            groups.push(&protocol::CASES);
        }
        groups.push(&ending::CASES);
        groups.into_iter().flatten().collect()
    }

    /// Runs all cases, one after another, and tells of each when it ends.
    pub async fn run(&self, mut tell: impl FnMut(&Finding) + Send) -> Vec<Finding> {
        self.bench.look_around().await;
        let mut findings = Vec::new();
        for case in self.cases() {
            let outcome = match self.lacks(case.needs) {
                Some(why) => Outcome::Skipped(why),
                None => match (case.run)(&self.bench).await {
                    Ok(()) => Outcome::Passed,
                    Err(Stop::Failed(seen)) => Outcome::Failed(seen),
                    Err(Stop::Skipped(why)) => Outcome::Skipped(why),
                },
            };
            let finding = Finding { case, outcome };
            tell(&finding);
            findings.push(finding);
        }
        findings
    }

    /// Removes what the cases wrote and left, also when [`Kit::run`] was broken off; what could not be removed, in
    /// words.
    pub async fn clean(&self) -> Vec<String> {
        self.bench.clean().await
    }

    /// Why nothing of what the cases wrote can be removed, where that is so.
    pub fn stays(&self) -> Option<String> {
        self.bench.stays()
    }

    fn lacks(&self, needs: Needs) -> Option<String> {
        let bench = &self.bench;
        if let (true, Err(why)) = (needs >= Needs::Zone, bench.world.zone()) {
            return Some(why);
        }
        if needs >= Needs::View && !bench.has_view() {
            return Some("it can only be written to, and nobody sees what is there".to_owned());
        }
        bench.stays().filter(|_| needs >= Needs::Values)
    }
}

/// Every label that cases give to [`World::name`] where it puts them right in front of `zone`, for hosts whose rights are
/// listed name by name.
pub fn labels(zone: &str) -> Vec<String> {
    let groups: [&[Case]; 9] = [
        &zones::CASES,
        &values::CASES,
        &foreign::CASES,
        &batches::CASES,
        &together::CASES,
        &refusals::CASES,
        &host::CASES,
        &protocol::CASES,
        &ending::CASES,
    ];
    let cases = groups.into_iter().flatten();
    let labels = cases.flat_map(|case| {
        let several = (0..4).map(move |nth| format!("{}-{nth}", case.id));
        std::iter::once(case.id.to_owned()).chain(several)
    });
    let many = (0..MANY).map(|nth| format!("many-{nth}"));
    let own = [
        values::longest_label(),
        values::deep_label(&format!(".{zone}")),
    ];
    let named = [values::IDN, foreign::NAME];
    let named = named
        .into_iter()
        .chain(foreign::NEIGHBOURS)
        .map(str::to_owned);
    labels.chain(many).chain(own).chain(named).collect()
}
