//! The vendors' own clients judge the stand-ins.

use std::process::Command;

use crate::support::clouds::azuredns::{self, Azure};
use crate::support::clouds::googlecloud::{Google, PROJECT, Zone};
use crate::support::clouds::ovh::{APPLICATION, CONSUMER, Ovh, SECRET};
use crate::support::process::{guarded, servers_directory};

use super::{Secrets, ZONE};

/// Does with Google's client what the plug-in does by itself, and what must be refused.
const GOOGLE: &str = r#"
import sys
from google.api_core import exceptions
from google.cloud import dns
from google.oauth2 import service_account

url, key, project = sys.argv[1:4]
credentials = service_account.Credentials.from_service_account_file(key)
client = dns.Client(project=project, credentials=credentials, client_options={"api_endpoint": url})
zones = {it.dns_name: it for it in client.list_zones()}
zone = zones["example.test."]
assert zone.name == "example-test" and zone.name_servers, zone.name_servers

name = "judged.example.test."

def change(add=(), delete=()):
    change = zone.changes()
    for ttl, values in add:
        change.add_record_set(zone.resource_record_set(name, "TXT", ttl, values))
    for ttl, values in delete:
        change.delete_record_set(zone.resource_record_set(name, "TXT", ttl, values))
    change.create()
    return change

def refused(kind, words, **steps):
    try:
        change(**steps)
    except kind as error:
        assert words in str(error), error
        return
    raise AssertionError(f"not refused: {steps}")

made = change(add=[(60, ['"one"', '"two"'])])
assert made.status == "pending" and made.name, made.status
made.reload()
assert made.status == "done", made.status
sets = {(it.name, it.record_type): it for it in zone.list_resource_record_sets()}
assert sets[(name, "TXT")].rrdatas == ['"one"', '"two"'] and sets[(name, "TXT")].ttl == 60
refused(exceptions.Conflict, "already exists", add=[(60, ['"one"'])])
refused(exceptions.PreconditionFailed, "Precondition not met", delete=[(61, ['"one"', '"two"'])])
refused(exceptions.PreconditionFailed, "Precondition not met", delete=[(60, ['"one"'])])
change(add=[(300, ['"three"'])], delete=[(60, ['"two"', '"one"'])])
change(delete=[(300, ['"three"'])])
refused(exceptions.NotFound, "does not exist", delete=[(300, ['"three"'])])
assert (name, "TXT") not in {(it.name, it.record_type) for it in zone.list_resource_record_sets()}
print("judged")
"#;

/// The same with OVHcloud's client.
const OVH: &str = r#"
import sys
import ovh
import ovh.client

url, application, secret, consumer = sys.argv[1:5]
ovh.client.ENDPOINTS["stand-in"] = url

def client(secret=secret, consumer=consumer):
    return ovh.Client(endpoint="stand-in", application_key=application, application_secret=secret, consumer_key=consumer)

api = client()
assert "example.test" in api.get("/domain/zone")
record = "/domain/zone/example.test/record"
made = api.post(record, fieldType="TXT", subDomain="judged", target='"one"', ttl=60)
assert made["target"] == '"one"' and made["ttl"] == 60, made
assert api.get(record, fieldType="TXT", subDomain="judged") == [made["id"]]
assert api.get(f"{record}/{made['id']}")["subDomain"] == "judged"
assert api.post("/domain/zone/example.test/refresh") is None
assert api.delete(f"{record}/{made['id']}") is None
assert api.get(record, fieldType="TXT", subDomain="judged") == []

def refused(kind, call):
    try:
        call()
    except kind:
        return
    raise AssertionError(f"not {kind}")

refused(ovh.ResourceNotFoundError, lambda: api.get(f"{record}/{made['id']}"))
refused(ovh.ResourceNotFoundError, lambda: api.get("/domain/zone/nobody.test/record"))
refused(ovh.BadParametersError, lambda: client(secret="wrong").get("/domain/zone"))
refused(ovh.InvalidCredential, lambda: client(consumer="wrong").get("/domain/zone"))
"#;

/// The same with Azure's client.
const AZURE: &str = r#"
import json, sys, time, urllib.parse, urllib.request
from azure.core import exceptions
from azure.core.credentials import AccessToken
from azure.mgmt.dns import DnsManagementClient
from azure.mgmt.dns.models import RecordSet, TxtRecord

url, subscription, tenant, application, secret = sys.argv[1:6]

class Login:
    def get_token(self, *scopes, **_):
        form = {"grant_type": "client_credentials", "client_id": application, "client_secret": secret, "scope": scopes[0]}
        body = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"{url}/{tenant}/oauth2/v2.0/token", body) as reply:
            given = json.load(reply)
        return AccessToken(given["access_token"], int(time.time()) + given["expires_in"])

plain = {"enforce_https": False}
client = DnsManagementClient(Login(), subscription, base_url=url, retry_total=0)
zones = {zone.name: zone for zone in client.zones.list(**plain)}
assert len(zones) == 3 and zones["example.test"].zone_type == "Public", zones
assert zones["example.test"].name_servers
sets = client.record_sets
at = ("dns", "example.test", "judged", "TXT")

def put(ttl, *values, **conditions):
    records = [TxtRecord(value=list(value)) for value in values]
    return sets.create_or_update(*at, RecordSet(ttl=ttl, txt_records=records), **conditions, **plain)

def refused(kind, call):
    try:
        call()
    except kind:
        return
    raise AssertionError(f"not {kind}")

made = put(60, ["one"], ["tw", "o"], if_none_match="*")
assert made.etag and made.ttl == 60, made
read = sets.get(*at, **plain)
assert [it.value for it in read.txt_records] == [["one"], ["tw", "o"]] and read.etag == made.etag
refused(exceptions.HttpResponseError, lambda: put(60, ["three"], if_none_match="*"))
changed = put(300, ["three"], if_match=made.etag)
assert changed.etag != made.etag
refused(exceptions.HttpResponseError, lambda: put(60, ["four"], if_match=made.etag))
refused(exceptions.HttpResponseError, lambda: put(60, ["x" * 256]))
for n in range(3):
    sets.create_or_update("dns", "example.test", f"n{n}", "TXT", RecordSet(ttl=60, txt_records=[TxtRecord(value=["v"])]), **plain)
assert len(list(sets.list_by_type("dns", "example.test", "TXT", **plain))) == 4
refused(exceptions.HttpResponseError, lambda: sets.delete(*at, if_match=made.etag, **plain))
sets.delete(*at, if_match=changed.etag, **plain)
refused(exceptions.ResourceNotFoundError, lambda: sets.get(*at, **plain))
sets.delete(*at, **plain)
refused(exceptions.ResourceNotFoundError, lambda: sets.get("dns", "nobody.test", "a", "TXT", **plain))
"#;

fn python(script: &str, arguments: &[&str]) {
    let mut command: Command = guarded(&servers_directory().join("venv/bin/python"));
    let output = command
        .args(["-c", script])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn googles_client_takes_the_stand_in_for_cloud_dns() {
    let zones = vec![
        Zone::new("example-test", ZONE),
        Zone::new("other", "other.test"),
    ];
    let (fake, secrets) = (Google::start(zones).await, Secrets::new());
    fake.with(|google| google.page = 2);
    secrets.put("key", &Google::key(fake.url()).to_string());
    let url = fake.url().to_owned();
    let key = secrets.path("key").display().to_string();
    let judged = tokio::task::spawn_blocking(move || python(GOOGLE, &[&url, &key, PROJECT]));
    judged.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ovhs_client_takes_the_stand_in_for_the_api() {
    let fake = Ovh::start(&[ZONE, "other.test"]).await;
    let url = fake.url().to_owned();
    let judged =
        tokio::task::spawn_blocking(move || python(OVH, &[&url, APPLICATION, SECRET, CONSUMER]));
    judged.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn azures_client_takes_the_stand_in_for_azure_dns() {
    let zones = ["other.test", ZONE, "third.test"];
    let zones = zones.map(|zone| azuredns::Zone::new("dns", zone));
    let fake = Azure::start(zones.to_vec()).await;
    fake.with(|azure| azure.page = 2);
    let url = fake.url().to_owned();
    let judged = tokio::task::spawn_blocking(move || {
        let (subscription, tenant) = (azuredns::SUBSCRIPTION, azuredns::TENANT);
        let arguments = [
            &*url,
            subscription,
            tenant,
            azuredns::CLIENT,
            azuredns::SECRET,
        ];
        python(AZURE, &arguments);
    });
    judged.await.unwrap();
}
