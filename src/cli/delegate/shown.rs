//! What `delegate` prints: zone-file lines with remarks between, then the policies; or all of it as JSON.

use countersign_providers::record::DnsName;
use serde::Serialize;

use super::Subject;
use super::leads::Leads;
use super::privilege::Privilege;
use super::records::Section;
use crate::cli::print::{Screen, out};
use crate::cli::words::clean;

/// Rises when a field is changed or removed.
const SCHEMA: u32 = 1;
/// Remarks are broken here also where nothing limits a line: they are pasted with the records.
const WIDTH: usize = 80;
/// Begins a remark in a zone file, and one in the files of servers.
const ZONE_REMARK: &str = "; ";
const REMARK: &str = "# ";

/// For people, and for pasting.
pub(super) fn text(
    subject: &Subject<'_>,
    sections: &[Section],
    leads: &Leads,
    privileges: &[Privilege],
    screen: Screen,
) {
    for (certificate, names) in &subject.names {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        remark(
            ZONE_REMARK,
            &format!("{certificate}: {}", names.join(", ")),
            screen,
        );
    }
    for section in sections {
        out("");
        for note in &section.notes {
            remark(ZONE_REMARK, note, screen);
        }
        for record in &section.records {
            out(format!(
                "{}. {} {}",
                record.name, record.r#type, record.data
            ));
        }
        for sentence in &section.missing {
            remark(ZONE_REMARK, sentence, screen);
        }
    }
    out("");
    remark(REMARK, &rights(subject, leads, privileges), screen);
    for privilege in privileges {
        out("");
        let names: Vec<&str> = privilege.names.iter().map(DnsName::as_str).collect();
        let head = format!(
            "Provider {} ({}), for TXT records at {}.",
            privilege.provider,
            privilege.plugin,
            names.join(", ")
        );
        remark(REMARK, &head, screen);
        for note in &privilege.notes {
            remark(REMARK, note, screen);
        }
        for grant in &privilege.grants {
            out("");
            remark(REMARK, &grant.note, screen);
            out(&grant.text);
        }
    }
}

/// For which names a right is needed, and where.
fn rights(subject: &Subject<'_>, leads: &Leads, privileges: &[Privilege]) -> String {
    let own = subject.config.nameserver.is_some();
    let trouble = leads.trouble.as_ref().map(|trouble| {
        format!(
            " The DNS did not say where every challenge leads ({trouble}): one that is a CNAME needs the right at the name that it points to, and not here."
        )
    });
    let trouble = trouble.unwrap_or_default();
    match (&subject.to, own, privileges.is_empty()) {
        (Some(zone), ..) => format!(
            "Rights: once the CNAME records are there, nothing is written in the zones of the names any more. The right is needed in {zone} only."
        ),
        (None, true, true) => {
            "Rights: none. The built-in nameserver answers for every name whose CNAME is there."
                .to_owned()
        }
        (None, true, false) => format!(
            "Rights: none for a name whose CNAME is there, since the built-in nameserver answers for it.{trouble} For the names that are not delegated to it:"
        ),
        (None, false, true) => "Rights: none that could be granted.".to_owned(),
        (None, false, false) => format!(
            "Rights: the least that the DNS hosts must grant, each for the names whose zone it holds.{trouble}"
        ),
    }
}

/// Broken to the width, each line with `mark` before it.
fn remark(mark: &str, text: &str, screen: Screen) {
    let width = screen.width.unwrap_or(WIDTH).min(WIDTH) - mark.len();
    let narrow = Screen {
        width: Some(width),
        ..screen
    };
    for line in narrow.wrap(&clean(text), 0, 0).lines() {
        out(screen.faint(&format!("{mark}{line}")));
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    certificates: Vec<Certificate<'a>>,
    records: &'a [Section],
    rights: String,
    privileges: &'a [Privilege],
}

#[derive(Serialize)]
struct Certificate<'a> {
    name: &'a str,
    names: Vec<String>,
}

/// For programs.
pub(super) fn document(
    subject: &Subject<'_>,
    records: &[Section],
    leads: &Leads,
    privileges: &[Privilege],
) {
    let certificates = subject.names.iter().map(|(name, names)| Certificate {
        name: name.as_str(),
        names: names.iter().map(ToString::to_string).collect(),
    });
    let document = Document {
        schema: SCHEMA,
        certificates: certificates.collect(),
        records,
        rights: rights(subject, leads, privileges),
        privileges,
    };
    out(serde_json::to_string_pretty(&document).expect("text, numbers and lists make JSON"));
}
