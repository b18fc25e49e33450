//! Programs that nobody here wrote: boto3 judges the fake, certbot is counted beside us, and moto plays the vendor.

use countersign_providers::Provider;
use countersign_providers::contract::{absent, ensure};
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::route53::{AssumeRole, Route53, Settings, Source};
use countersign_providers::secret::SecretSource;
use url::Url;

use crate::support::route53::moto::{Moto, python};
use crate::support::route53::{Fake, KEY, SECRET};

use super::{ID, ZONE, context, name, provider, put, served, start, value};

/// Does with boto3 what the plug-in does by itself, and everything that must be refused.
const JUDGE: &str = r#"
import sys
import boto3
from botocore.exceptions import ClientError

client = boto3.client("route53", endpoint_url=sys.argv[1])
zone, name = sys.argv[2], "judged.example.test."

def change(*steps):
    changes = [{"Action": action, "ResourceRecordSet": {"Name": at, "Type": "TXT", "TTL": ttl,
                "ResourceRecords": [{"Value": value} for value in values]}}
               for action, at, ttl, values in steps]
    return client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})

def refused(code, words, *steps):
    try:
        change(*steps)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        assert words in str(error), error
        return
    raise AssertionError(f"not refused: {steps}")

zones = client.list_hosted_zones_by_name(DNSName="example.test", MaxItems="1")
assert [it["Name"] for it in zones["HostedZones"]] == ["example.test."], zones
assert zones["HostedZones"][0]["Config"]["PrivateZone"] is False
assert client.get_hosted_zone(Id=zone)["DelegationSet"]["NameServers"]

info = change(("CREATE", name, 60, ['"one"', '"two"']))["ChangeInfo"]
assert info["Status"] == "PENDING" and info["Id"].startswith("/change/")
client.get_waiter("resource_record_sets_changed").wait(Id=info["Id"], WaiterConfig={"Delay": 0})
sets = client.list_resource_record_sets(HostedZoneId=zone, StartRecordName=name, StartRecordType="TXT")
first = sets["ResourceRecordSets"][0]
assert first["Name"] == name and first["TTL"] == 60, first
assert [it["Value"] for it in first["ResourceRecords"]] == ['"one"', '"two"'], first

batch = "InvalidChangeBatch"
exists, differs = "but it already exists", "but the values provided do not match the current values"
refused(batch, exists, ("CREATE", name, 60, ['"other"']))
refused(batch, differs, ("DELETE", name, 61, ['"one"', '"two"']))
refused(batch, differs, ("DELETE", name, 60, ['"one"']))
refused(batch, "but it was not found", ("DELETE", "none." + name, 60, ['"one"']))
refused(batch, "is not permitted in zone", ("CREATE", "a.notexample.test.", 60, ['"one"']))
refused(batch, "enclosed in quotation marks", ("CREATE", "a." + name, 60, ["bare"]))
refused(batch, "Duplicate Resource Record", ("CREATE", "a." + name, 60, ['"one"', '"one"']))
refused(batch, "CharacterStringTooLong", ("CREATE", "a." + name, 60, ['"' + "x" * 256 + '"']))
refused(batch, "limit of 1000 exceeded",
        ("UPSERT", "a." + name, 60, [f'"{i}"' for i in range(501)]))
refused(batch, "limit of 32000 exceeded",
        ("CREATE", "a." + name, 60, [f'"{i:0200}"' for i in range(200)]))
# All or nothing.
refused(batch, exists, ("CREATE", "a." + name, 60, ['"one"']), ("CREATE", name, 60, ['"one"']))
change(("CREATE", "a." + name, 60, ['"one"']), ("DELETE", name, 60, ['"two"', '"one"']),
       ("CREATE", name, 300, ['"three"']))
change(("CREATE", "*." + name, 60, ['"star"']))
listed = client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
assert "\\052." + name in [it["Name"] for it in listed], listed

bad = boto3.client("route53", endpoint_url=sys.argv[1], aws_access_key_id="AKIAFAKEFAKEFAKEFAKE",
                   aws_secret_access_key="wrong")
try:
    bad.list_hosted_zones()
    raise AssertionError("a wrong secret is taken")
except ClientError as error:
    assert error.response["Error"]["Code"] == "SignatureDoesNotMatch", error
sts = boto3.client("sts", endpoint_url=sys.argv[1])
role = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/dns", RoleSessionName="judge")
assert role["Credentials"]["SessionToken"]
print("judged")
"#;

/// certbot's own plug-in, as certbot calls it for some names.
const CERTBOT: &str = r#"
import sys
from unittest import mock
from certbot_dns_route53._internal import dns_route53

plugin = dns_route53.Authenticator(mock.MagicMock(), "dns-route53")
challenges = []
for label in sys.argv[2:]:
    challenge = mock.MagicMock()
    challenge.identifier.value = label + ".example.test"
    challenge.validation_domain_name.return_value = f"_acme-challenge.{label}.example.test"
    challenge.validation.return_value = "x" * 43
    challenges.append(challenge)
plugin.perform(challenges)
plugin.cleanup(challenges)
"#;

#[test]
fn boto3_takes_the_fake_for_route_53() {
    let fake = start();
    let output = python(&fake.url(), JUDGE, &[ID]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certbot_makes_fifty_calls_where_we_make_four_and_loses_what_we_keep() {
    let fake = start();
    let labels: Vec<String> = (0..10).map(|i| format!("n{i}")).collect();
    let names: Vec<DnsName> = (labels.iter())
        .map(|label| name(&format!("_acme-challenge.{label}")))
        .collect();
    put(&fake, &names[0], 777, &["\"theirs\""]);
    let arguments: Vec<&str> = labels.iter().map(String::as_str).collect();
    let output = python(&fake.url(), CERTBOT, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(fake.calls().len(), 50);
    assert_eq!(fake.state().zones[0].sets.len(), 0);

    let provider = provider(&fake);
    round_of(&provider, &fake, &names).await;
    assert_eq!(fake.calls().len(), 4);
    put(&fake, &names[0], 777, &["\"theirs\""]);
    round_of(&provider, &fake, &names).await;
    assert_eq!(served(&fake, &names[0]).values, ["theirs"]);
}

/// As the core presents all names, waits, and cleans.
async fn round_of(provider: &Route53, fake: &Fake, names: &[DnsName]) {
    let found = provider.zones(&names[0], &context()).await.unwrap();
    let zone = &found[0].zone;
    let all: Vec<Change> = names
        .iter()
        .map(|name| ensure(name, &value(name)))
        .collect();
    let receipt = provider.apply(zone, &all, &[], &context()).await.unwrap();
    let ticket = receipt.ticket.unwrap();
    provider.settle(&ticket, &context()).await.unwrap();
    let believed: Vec<RrSet> = names.iter().map(|name| served(fake, name)).collect();
    let all: Vec<Change> = names
        .iter()
        .map(|name| absent(name, &value(name)))
        .collect();
    provider
        .apply(zone, &all, &believed, &context())
        .await
        .unwrap();
}

/// Moto takes every key; that its replies can be read and our requests are taken is what it shows. It takes a DELETE with
/// stale values, so no set is changed by two here, and its metadata service leaves out what the real one always says.
#[tokio::test(flavor = "multi_thread")]
async fn moto_takes_our_requests_and_its_replies_are_read() {
    let moto = Moto::start();
    // Two zones of one name, and a private one.
    for is_private in [false, false, true] {
        moto.make_zone(ZONE, is_private);
    }
    let key = Settings {
        source: Source::Key {
            id: KEY.to_owned(),
            secret: SecretSource::Command(vec!["echo".into(), SECRET.into()]),
        },
        ..settings_of(&moto)
    };
    let role = AssumeRole {
        arn: "arn:aws:iam::123456789012:role/dns".to_owned(),
        external_id: Some("shared-with-us".to_owned()),
        session_name: Some("web1".to_owned()),
    };
    let with_role = Settings {
        assume_role: Some(role),
        ..key.clone()
    };
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("token"), "a-token-of-an-issuer").unwrap();
    let token = home.path().join("token").display().to_string();
    let web_identity = [
        (
            "AWS_ROLE_ARN",
            "arn:aws:iam::123456789012:role/dns".to_owned(),
        ),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
    ];
    let variables = web_identity.map(|(name, value)| (name.to_owned(), value));
    let chain = Route53::new(settings_of(&moto));
    let web_identity = chain.in_environment(variables.into(), home.path().to_owned());
    for provider in [Route53::new(key), Route53::new(with_role), web_identity] {
        round(&provider).await;
    }
}

/// Everything that the core asks of a host, once.
async fn round(provider: &Route53) {
    let at = name("_acme-challenge");
    let found = provider.zones(&at, &context()).await.unwrap();
    let apexes: Vec<&str> = found.iter().map(|held| held.zone.name.as_str()).collect();
    // It lists zones of exactly the name where Route 53 lists all from there on.
    assert_eq!(apexes, [ZONE, ZONE]);
    for held in &found {
        let servers = provider.nameservers(&held.zone, &context()).await;
        assert!(!servers.unwrap().is_empty(), "{held:?}");
    }
    let zone: &Zone = &found[0].zone;
    let present = [ensure(&at, "apex"), ensure(&at, "wildcard; \"quoted\" \\")];
    let receipt = provider
        .apply(zone, &present, &[], &context())
        .await
        .unwrap();
    let ticket = receipt.ticket.unwrap();
    provider.settle(&ticket, &context()).await.unwrap();
    let seen = provider
        .observe(zone, std::slice::from_ref(&at), &context())
        .await
        .unwrap();
    assert_eq!(seen[0].values, ["apex", "wildcard; \"quoted\" \\"]);
    assert_eq!(seen[0].ttl, Some(60));
    let clean = [absent(&at, "apex"), absent(&at, "wildcard; \"quoted\" \\")];
    provider
        .apply(zone, &clean, &seen, &context())
        .await
        .unwrap();
    let seen = provider.observe(zone, &[at], &context()).await.unwrap();
    assert_eq!(seen[0].values, [""; 0]);
}

fn settings_of(moto: &Moto) -> Settings {
    Settings {
        endpoint: Some(Url::parse(&moto.url()).unwrap()),
        sts_endpoint: Some(Url::parse(&moto.url()).unwrap()),
        ..Settings::default()
    }
}
