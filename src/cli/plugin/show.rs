//! What people and programs see of the cases.

use countersign_providers::kit::{Finding, Kit, Outcome, World};
use countersign_providers::{Provider, RecordModel};
use serde::Serialize;

use crate::cli::print::{Screen, out, pad};
use crate::cli::words::{clean, count};

/// Rises when a field is changed or removed.
const SCHEMA: u32 = 1;
/// How far the sentence of a failure is from the edge.
const INDENT: usize = 4;

/// The table, as it grows.
pub(super) struct Table {
    screen: Screen,
    is_quiet: bool,
    /// The width of what cases are called.
    width: usize,
    /// What the last case belongs to.
    group: &'static str,
    /// How the cases ended so far.
    findings: Vec<Finding>,
}

impl Table {
    /// Of the cases of `kit`; nothing is shown where it is for programs.
    pub(super) fn new(kit: &Kit<'_>, screen: Screen, is_quiet: bool) -> Self {
        let width = kit.cases().iter().map(|case| case.id.len()).max();
        Self {
            screen,
            is_quiet,
            width: width.unwrap_or(0),
            group: "",
            findings: Vec::new(),
        }
    }

    /// Shows a case that has ended.
    pub(super) fn tell(&mut self, finding: &Finding) {
        self.findings.push(finding.clone());
        if self.is_quiet {
            return;
        }
        let case = finding.case;
        if std::mem::replace(&mut self.group, case.group) != case.group {
            out(self.screen.strong(case.group));
        }
        let (mark, words) = match &finding.outcome {
            Outcome::Passed => (self.screen.good("✓"), case.proves.to_owned()),
            Outcome::Failed(_) => (self.screen.bad("✗"), case.proves.to_owned()),
            Outcome::Skipped(why) => (self.screen.faint("–"), clean(why)),
        };
        let used = 4 + self.width + 2;
        let words = self.screen.wrap(&words, used, used);
        out(format!("  {mark} {}  {words}", pad(case.id, self.width)));
        if let Outcome::Failed(seen) = &finding.outcome {
            for line in seen.lines() {
                let line = self.screen.wrap(&clean(line), INDENT, INDENT);
                out(format!("{}{}", " ".repeat(INDENT), self.screen.bad(&line)));
            }
        }
    }

    /// How the cases ended so far.
    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether one of them failed.
    pub(super) fn has_failed(&self) -> bool {
        let mut all = self.findings.iter();
        all.any(|it| matches!(it.outcome, Outcome::Failed(_)))
    }

    /// The cases that were not come to, for programs.
    pub(super) fn skip_rest(&mut self, kit: &Kit<'_>) {
        let rest = kit.cases().into_iter().skip(self.findings.len());
        self.findings.extend(rest.map(|case| Finding {
            case,
            outcome: Outcome::Skipped("stopped before its end".to_owned()),
        }));
    }

    /// How many cases ended how.
    pub(super) fn end(&self) {
        let findings = &self.findings;
        let [passed, failed, skipped] = tally(findings);
        let failed = match failed {
            0 => "0 failed".to_owned(),
            failed => self.screen.bad(&format!("{failed} failed")),
        };
        let cases = count(findings.len(), "case");
        out(format!(
            "{cases}: {passed} passed, {failed}, {skipped} skipped"
        ));
    }
}

fn tally(findings: &[Finding]) -> [usize; 3] {
    let mut tally = [0; 3];
    for finding in findings {
        tally[match finding.outcome {
            Outcome::Passed => 0,
            Outcome::Failed(_) => 1,
            Outcome::Skipped(_) => 2,
        }] += 1;
    }
    tally
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    plugin: &'a str,
    model: Option<&'static str>,
    zone: Option<String>,
    cases: Vec<Entry<'a>>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    group: &'a str,
    proves: &'a str,
    result: &'static str,
    seen: Option<&'a str>,
}

/// For programs: it could not be begun, for this reason.
pub(super) fn not_begun(title: &str, why: &str) -> String {
    let entry = Entry {
        id: "begin",
        group: "begin",
        proves: "the plug-in starts, answers, and holds the zone",
        result: "failed",
        seen: Some(why),
    };
    let document = Document {
        schema: SCHEMA,
        plugin: title,
        model: None,
        zone: None,
        cases: vec![entry],
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    json(&document)
}

/// The same as the table for programs.
pub(super) fn document(
    title: &str,
    provider: &dyn Provider,
    world: &dyn World,
    findings: &[Finding],
) -> String {
    let [passed, failed, skipped] = tally(findings);
    let cases = findings.iter().map(|finding| {
        let (result, seen) = match &finding.outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(seen) => ("failed", Some(seen.as_str())),
            Outcome::Skipped(why) => ("skipped", Some(why.as_str())),
        };
        Entry {
            id: finding.case.id,
            group: finding.case.group,
            proves: finding.case.proves,
            result,
            seen,
        }
    });
    let document = Document {
        schema: SCHEMA,
        plugin: title,
        model: Some(model(provider.traits().model)),
        zone: world.zone().ok().map(|zone| zone.name.to_string()),
        cases: cases.collect(),
        passed,
        failed,
        skipped,
    };
    json(&document)
}

fn json(document: &Document<'_>) -> String {
    // Strings and numbers always have a form in JSON.
    serde_json::to_string_pretty(document).unwrap_or_default()
}

fn model(model: RecordModel) -> &'static str {
    match model {
        RecordModel::Value => "value",
        RecordModel::SetWithProof => "set-with-proof",
        RecordModel::Set => "set",
        RecordModel::Zone => "zone",
        RecordModel::Slots(_) => "slots",
    }
}
