//! The XML of Route 53 (`https://route53.amazonaws.com/doc/2013-04-01/`): what is read of it and what is written.
//!
//! Fields that nobody here needs are not named, so that new ones do no harm.

use quick_xml::{de, se};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::http::said;

/// The namespace of every document.
const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

/// `ListHostedZonesByNameResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Zones {
    #[serde(default)]
    pub(super) hosted_zones: ZoneList,
    #[serde(default)]
    pub(super) is_truncated: bool,
    #[serde(rename = "NextDNSName")]
    pub(super) next_name: Option<String>,
    #[serde(rename = "NextHostedZoneId")]
    pub(super) next_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ZoneList {
    #[serde(rename = "HostedZone", default)]
    pub(super) all: Vec<HostedZone>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostedZone {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) config: ZoneConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ZoneConfig {
    #[serde(default)]
    pub(super) private_zone: bool,
}

/// `GetHostedZoneResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ZoneDetails {
    #[serde(default)]
    pub(super) delegation_set: DelegationSet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DelegationSet {
    #[serde(default)]
    pub(super) name_servers: NameServers,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct NameServers {
    #[serde(rename = "NameServer", default)]
    pub(super) all: Vec<String>,
}

/// `ListResourceRecordSetsResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sets {
    #[serde(default)]
    pub(super) resource_record_sets: SetList,
    #[serde(default)]
    pub(super) is_truncated: bool,
    pub(super) next_record_name: Option<String>,
    pub(super) next_record_type: Option<String>,
    pub(super) next_record_identifier: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct SetList {
    #[serde(rename = "ResourceRecordSet", default)]
    pub(super) all: Vec<RecordSet>,
}

/// `ResourceRecordSet`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RecordSet {
    pub(super) name: String,
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(default, skip_serializing)]
    pub(super) set_identifier: Option<String>,
    #[serde(rename = "TTL", default)]
    pub(super) ttl: Option<u32>,
    #[serde(default)]
    pub(super) resource_records: Records,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Records {
    #[serde(rename = "ResourceRecord", default)]
    pub(super) all: Vec<Record>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Record {
    pub(super) value: String,
}

/// `ChangeResourceRecordSetsResponse` and `GetChangeResponse`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Changed {
    pub(super) change_info: ChangeInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeInfo {
    pub(super) id: String,
    pub(super) status: String,
}

/// `AssumeRoleResponse` of the Security Token Service.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Assumed {
    pub(super) assume_role_result: AssumeRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AssumeRoleResult {
    pub(super) credentials: SessionCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SessionCredentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: String,
    pub(super) expiration: String,
}

/// A refusal: `ErrorResponse`, or `InvalidChangeBatch` with a message for each change that is refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Empty where there is none.
    pub(super) code: String,
    pub(super) messages: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRefusal {
    error: Option<RawError>,
    messages: Option<Messages>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawError {
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Messages {
    #[serde(rename = "Message", default)]
    all: Vec<String>,
}

/// Reads `body`; the error says what is wrong with it, and may repeat a bit of it.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|_| "not UTF-8".to_owned())?;
    de::from_str(text).map_err(|error| said(&error.to_string()))
}

/// What `body` says of a refusal; nothing when it is something else.
pub(super) fn refusal(body: &[u8]) -> Refusal {
    let Ok(raw) = read::<RawRefusal>(body) else {
        return Refusal::default();
    };
    match (raw.error, raw.messages) {
        (_, Some(messages)) => Refusal {
            code: "InvalidChangeBatch".to_owned(),
            messages: messages.all,
        },
        (Some(error), None) => Refusal {
            code: error.code,
            messages: vec![error.message],
        },
        (None, None) => Refusal::default(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    #[serde(rename = "@xmlns")]
    namespace: &'static str,
    change_batch: Batch<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<'a> {
    changes: Changes<'a>,
}

#[derive(Serialize)]
struct Changes<'a> {
    #[serde(rename = "Change")]
    all: &'a [Step],
}

/// `Change`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Step {
    pub(super) action: Action,
    pub(super) resource_record_set: RecordSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Action {
    Create,
    Delete,
}

/// `ChangeResourceRecordSetsRequest`.
pub(super) fn change_request(steps: &[Step]) -> Result<String, String> {
    let request = Request {
        namespace: NAMESPACE,
        change_batch: Batch {
            changes: Changes { all: steps },
        },
    };
    let body = se::to_string_with_root("ChangeResourceRecordSetsRequest", &request);
    let body = body.map_err(|error| said(&error.to_string()))?;
    Ok(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{body}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_refusal_are_read_and_anything_else_is_none() {
        let single = b"<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>NoSuchHostedZone</Code>\
            <Message>No hosted zone found with ID: Z1</Message></Error><RequestId>r</RequestId></ErrorResponse>";
        assert_eq!(refusal(single).code, "NoSuchHostedZone");
        let batch = b"<?xml version=\"1.0\"?><InvalidChangeBatch xmlns=\"x\"><Messages><Message>one</Message>\
            <Message>two &amp; &apos;three&apos;</Message></Messages><RequestId>r</RequestId></InvalidChangeBatch>";
        let batch = refusal(batch);
        assert_eq!(batch.code, "InvalidChangeBatch");
        assert_eq!(batch.messages, ["one", "two & 'three'"]);
        let other: [&[u8]; 5] = [b"", b"<html>", b"no", b"\xff\xfe", b"<a><Error/></a>"];
        for body in other {
            assert_eq!(refusal(body), Refusal::default(), "{body:?}");
        }
    }

    #[test]
    fn lists_are_read_with_fields_that_nobody_knows_and_without_those_that_may_miss() {
        let zones: Zones = read(
            b"<ListHostedZonesByNameResponse><HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>a.test.</Name>\
              <New><Deep/></New><Config><Comment>c</Comment><PrivateZone>true</PrivateZone></Config></HostedZone>\
              <HostedZone><Id>Z2</Id><Name>b.test.</Name></HostedZone></HostedZones></ListHostedZonesByNameResponse>",
        )
        .unwrap();
        let seen = zones.hosted_zones.all;
        assert_eq!(seen.len(), 2);
        assert!(seen[0].config.private_zone && !seen[1].config.private_zone);
        assert!(!zones.is_truncated && zones.next_name.is_none());
        let none: Zones = read(b"<R><HostedZones/><IsTruncated>false</IsTruncated></R>").unwrap();
        assert!(none.hosted_zones.all.is_empty());
        assert!(read::<Zones>(b"<R><IsTruncated>perhaps</IsTruncated></R>").is_err());
    }

    #[test]
    fn a_change_is_written_with_quotes_that_survive_the_xml() {
        let step = Step {
            action: Action::Create,
            resource_record_set: RecordSet {
                name: "a.test.".to_owned(),
                kind: "TXT".to_owned(),
                set_identifier: None,
                ttl: Some(60),
                resource_records: Records {
                    all: vec![Record {
                        value: "\"<a> & b\"".to_owned(),
                    }],
                },
            },
        };
        let body = change_request(&[step]).unwrap();
        assert_eq!(
            body,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ChangeResourceRecordSetsRequest \
             xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes><Change>\
             <Action>CREATE</Action><ResourceRecordSet><Name>a.test.</Name><Type>TXT</Type><TTL>60</TTL>\
             <ResourceRecords><ResourceRecord><Value>\"&lt;a&gt; &amp; b\"</Value></ResourceRecord></ResourceRecords>\
             </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
        );
    }
}
