//! The XML of the fake Route 53, as Amazon's API reference shows it.

use super::http::Request;
use super::store::{Set, Step, Zone, dotted, reversed, shown};

pub fn list_sets(zone: &Zone, request: &Request, page: usize) -> String {
    let text = |name: &str| request.query(name).unwrap_or_default().to_owned();
    let from = (
        reversed(&dotted(&text("name"))),
        text("type"),
        text("identifier"),
    );
    let sets: Vec<&Set> = (zone.sets.iter())
        .filter(|(key, _)| request.query("name").is_none() || **key >= from)
        .map(|(_, set)| set)
        .collect();
    let asked = request.query("maxitems").and_then(|it| it.parse().ok());
    let most = asked.unwrap_or(300).min(page);
    let next = sets.get(most).map_or(String::new(), |set| {
        let identifier = set
            .identifier
            .iter()
            .map(|it| format!("<NextRecordIdentifier>{it}</NextRecordIdentifier>"));
        format!(
            "<NextRecordName>{}</NextRecordName><NextRecordType>{}</NextRecordType>{}",
            shown(&set.name),
            set.kind,
            identifier.collect::<String>()
        )
    });
    let listed: String = sets.iter().take(most).map(|set| set_xml(set)).collect();
    document(
        "ListResourceRecordSetsResponse",
        &format!(
            "<ResourceRecordSets>{listed}</ResourceRecordSets><IsTruncated>{}</IsTruncated>{next}<MaxItems>{most}</MaxItems>",
            sets.len() > most
        ),
    )
}

fn set_xml(set: &Set) -> String {
    let identifier: String = (set.identifier.iter())
        .map(|it| {
            format!("<SetIdentifier>{it}</SetIdentifier><MultiValueAnswer>true</MultiValueAnswer>")
        })
        .collect();
    let values: String = (set.values.iter())
        .map(|value| {
            format!(
                "<ResourceRecord><Value>{}</Value></ResourceRecord>",
                escaped(value)
            )
        })
        .collect();
    let data = match set.ttl {
        Some(ttl) => format!("<TTL>{ttl}</TTL><ResourceRecords>{values}</ResourceRecords>"),
        None => "<AliasTarget><HostedZoneId>Z1</HostedZoneId><DNSName>elsewhere.test.</DNSName>\
                 <EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>"
            .to_owned(),
    };
    let (name, kind) = (shown(&set.name), &set.kind);
    format!(
        "<ResourceRecordSet><Name>{name}</Name><Type>{kind}</Type>{identifier}{data}</ResourceRecordSet>"
    )
}

pub fn zone_xml(zone: &Zone) -> String {
    format!(
        "<HostedZone><Id>/hostedzone/{}</Id><Name>{}</Name><CallerReference>ref</CallerReference><Config><PrivateZone>{}\
         </PrivateZone></Config><ResourceRecordSetCount>{}</ResourceRecordSetCount></HostedZone>",
        zone.id,
        shown(&zone.name),
        zone.private,
        zone.sets.len()
    )
}

pub fn change_info(id: &str, status: &str) -> String {
    format!(
        "<ChangeInfo><Id>/change/{id}</Id><Status>{status}</Status><SubmittedAt>2026-01-01T00:00:00.000Z</SubmittedAt>\
         </ChangeInfo>"
    )
}

pub fn refusal(code: &str, message: &str) -> String {
    let message = escaped(message);
    document(
        "ErrorResponse",
        &format!(
            "<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>r-1</RequestId>"
        ),
    )
}

pub fn document(root: &str, rest: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<{root} xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">{rest}</{root}>"
    )
}

pub fn escaped(text: &str) -> String {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&apos;")
}

fn unescaped(text: &str) -> String {
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    text.replace("&apos;", "'")
        .replace("&#34;", "\"")
        .replace("&amp;", "&")
}

/// The changes of a batch; `None` when it is something else.
pub fn steps(body: &str) -> Option<Vec<Step>> {
    let steps: Option<Vec<Step>> = (elements(body, "Change").into_iter())
        .map(|change| {
            let values = elements(change, "Value").into_iter().map(unescaped);
            Some(Step {
                action: element(change, "Action")?,
                set: Set {
                    name: dotted(&element(change, "Name")?.replace("\\052", "*")),
                    kind: element(change, "Type")?,
                    identifier: element(change, "SetIdentifier"),
                    ttl: element(change, "TTL").and_then(|ttl| ttl.parse().ok()),
                    values: values.collect(),
                },
            })
        })
        .collect();
    steps.filter(|steps| !steps.is_empty() && body.contains("ChangeResourceRecordSetsRequest"))
}

pub fn elements<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = text.split(open.as_str()).skip(1);
    parts
        .filter_map(|part| Some(part.split_once(close.as_str())?.0))
        .collect()
}

pub fn element(text: &str, name: &str) -> Option<String> {
    elements(text, name).first().map(|inner| unescaped(inner))
}
