//! The least privilege at each DNS host that is in use: what a credential must be allowed for exactly these names.

use std::collections::{BTreeMap, BTreeSet};

use countersign_providers::clock::Clock;
use countersign_providers::record::DnsName;
use countersign_providers::{cloudflare, rfc2136, route53};
use serde::Serialize;
use serde_json::json;

use super::Subject;
use super::leads::Leads;
use super::records::challenge;
use crate::cli::words::clean;
use crate::config::ProviderSettings;

/// The parts of Amazon's cloud by how their regions begin, as ARNs call them.
const PARTITIONS: [(&str, &str); 3] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
];
/// Stands for a key whose name could not be read.
const SOME_KEY: &str = "your-key";

/// What one provider's credential must be allowed.
#[derive(Debug, Serialize)]
pub(super) struct Privilege {
    /// Its name in the configuration.
    pub(super) provider: String,
    /// What kind of host it is.
    pub(super) plugin: String,
    /// The names at which TXT records come and go.
    pub(super) names: BTreeSet<DnsName>,
    /// The one zone that they are in, where that is known.
    #[serde(skip)]
    zone: Option<DnsName>,
    /// What it must be allowed: sentences.
    pub(super) notes: Vec<String>,
    /// The same in the words of the host, to be pasted.
    pub(super) grants: Vec<Grant>,
}

/// A policy in the words of a host.
#[derive(Debug, Serialize)]
pub(super) struct Grant {
    /// Whose words: `iam-policy`, `bind`, `knot` or `powerdns`.
    pub(super) form: &'static str,
    /// Where it goes: a sentence.
    pub(super) note: String,
    /// The policy.
    pub(super) text: String,
}

/// The privileges at every provider that may hold one of the names.
pub(super) async fn privileges(
    subject: &Subject<'_>,
    leads: &Leads,
    clock: &Clock,
) -> Vec<Privilege> {
    let mut privileges = Vec::new();
    for (provider, places) in places(subject, leads) {
        let settings = &subject.config.providers[provider];
        let zones: BTreeSet<_> = places.iter().map(|place| place.zone.clone()).collect();
        let zone = match zones.len() {
            1 => zones.into_iter().next().flatten(),
            _ => None,
        };
        let mut privilege = Privilege {
            provider: provider.to_owned(),
            plugin: plugin(settings).to_owned(),
            names: places.iter().map(|place| place.name.clone()).collect(),
            zone,
            notes: places.iter().filter_map(Place::note).collect(),
            grants: Vec::new(),
        };
        privilege.fill(settings, clock).await;
        privileges.push(privilege);
    }
    privileges
}

/// Where TXT records come and go for one challenge.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    name: DnsName,
    /// The zone of that, where the DNS was asked.
    zone: Option<DnsName>,
    /// The challenge name, where it is a CNAME to this one.
    alias: Option<DnsName>,
}

impl Place {
    /// What a reader who looks for the challenge name wonders about.
    fn note(&self) -> Option<String> {
        let (Some(alias), Some(zone)) = (&self.alias, &self.zone) else {
            return None;
        };
        Some(format!(
            "{alias} is a CNAME: its values are written at {}, in the zone {zone}.",
            self.name
        ))
    }
}

/// Where TXT records come and go, by provider: where `--to` leads the challenge names, else where they lead today. What
/// leads to the built-in nameserver needs no right.
fn places<'c>(subject: &Subject<'c>, leads: &Leads) -> BTreeMap<&'c str, BTreeSet<Place>> {
    let own = subject.config.nameserver.as_ref().map(|it| &it.zone);
    let place = |base: &DnsName| {
        let challenge = challenge(base);
        let plain = |name| Place {
            name,
            zone: None,
            alias: None,
        };
        let Some(zone) = &subject.to else {
            let challenge = challenge?;
            let Some(end) = leads.end(&challenge) else {
                return Some(plain(challenge));
            };
            let is_own = own.is_some_and(|own| end.owner.is_at_or_below(own));
            return (!is_own).then(|| Place {
                name: end.owner.clone(),
                zone: Some(end.zone.clone()),
                alias: (end.owner != challenge).then_some(challenge),
            });
        };
        let here = challenge.filter(|challenge| challenge.is_at_or_below(zone));
        here.or_else(|| subject.target(base, zone)).map(plain)
    };
    let mut all: BTreeMap<&str, BTreeSet<Place>> = BTreeMap::new();
    for (certificate, names) in &subject.names {
        let places: BTreeSet<Place> = names.iter().filter_map(|it| place(&it.base)).collect();
        for provider in subject.providers(certificate) {
            let settings = &subject.config.providers[provider];
            let held = places.iter().filter(|it| could_hold(settings, &it.name));
            let held: Vec<Place> = held.cloned().collect();
            if !held.is_empty() {
                all.entry(provider).or_default().extend(held);
            }
        }
    }
    all
}

/// Whether a zone of this provider could hold `name`, by its settings alone.
pub(super) fn could_hold(settings: &ProviderSettings, name: &DnsName) -> bool {
    let is_in =
        |zones: &[DnsName]| zones.is_empty() || zones.iter().any(|zone| name.is_at_or_below(zone));
    let has_id = |zones: &BTreeMap<DnsName, String>| {
        zones.is_empty() || zones.keys().any(|zone| name.is_at_or_below(zone))
    };
    match settings {
        ProviderSettings::Rfc2136(settings) => is_in(settings.zone.as_slice()),
        ProviderSettings::AcmeSh(settings) => is_in(&settings.zones),
        ProviderSettings::LegoExec(settings) => is_in(&settings.zones),
        ProviderSettings::LegoHttpreq(settings) => is_in(&settings.zones),
        ProviderSettings::CertbotHooks(settings) => is_in(&settings.zones),
        // It has names that it drew itself, and no zone in which one could choose.
        ProviderSettings::AcmeDns(_) => false,
        ProviderSettings::Ovh(settings) => is_in(&settings.zones),
        ProviderSettings::Route53(settings) => has_id(&settings.zones),
        ProviderSettings::GoogleCloud(settings) => has_id(&settings.zones),
        ProviderSettings::AzureDns(settings) => has_id(&settings.zones),
        // Its `zones` only spare it a look-up.
        ProviderSettings::Cloudflare(_)
        | ProviderSettings::Manual
        | ProviderSettings::Rest { .. }
        | ProviderSettings::Process(_) => true,
    }
}

fn plugin(settings: &ProviderSettings) -> &str {
    match settings {
        ProviderSettings::AcmeDns(_) => "acme-dns",
        ProviderSettings::AzureDns(_) => "azuredns",
        ProviderSettings::Cloudflare(_) => "cloudflare",
        ProviderSettings::GoogleCloud(_) => "googlecloud",
        ProviderSettings::Manual => "manual",
        ProviderSettings::Ovh(_) => "ovh",
        ProviderSettings::Rfc2136(_) => "rfc2136",
        ProviderSettings::Route53(_) => "route53",
        ProviderSettings::Rest { plugin, .. } => plugin,
        ProviderSettings::Process(_) => "process",
        ProviderSettings::AcmeSh(_) => "acme-sh",
        ProviderSettings::LegoExec(_) => "lego-exec",
        ProviderSettings::LegoHttpreq(_) => "lego-httpreq",
        ProviderSettings::CertbotHooks(_) => "certbot-hooks",
    }
}

impl Privilege {
    async fn fill(&mut self, settings: &ProviderSettings, clock: &Clock) {
        match settings {
            ProviderSettings::Cloudflare(settings) => self.cloudflare(settings),
            ProviderSettings::Route53(settings) => self.route53(settings),
            ProviderSettings::Rfc2136(settings) => self.rfc2136(settings, clock).await,
            ProviderSettings::Rest { plugin, .. } if plugin == "powerdns" => self.notes.push(
                "The API key of PowerDNS may change every zone of its server; nothing narrower can be granted. Delegate to a zone on a server of its own, or write by DNS UPDATE (`rfc2136`), for which PowerDNS allows single zones.".to_owned(),
            ),
            ProviderSettings::AcmeDns(_) => {}
            ProviderSettings::GoogleCloud(settings) => self.notes.push(format!(
                "A role with dns.changes.create, dns.changes.get and dns.resourceRecordSets.create, .update, .delete and .list, granted on the managed zones that hold these names alone{}. To grant less, delegate to a small zone.",
                to_list(!settings.zones.is_empty(), "dns.managedZones.list on the project")
            )),
            ProviderSettings::AzureDns(settings) => self.notes.push(format!(
                "A role with Microsoft.Network/dnsZones/TXT/read, /write and /delete, assigned on the zones that hold these names alone{}. To grant less, delegate to a small zone.",
                to_list(!settings.zones.is_empty(), "Microsoft.Network/dnsZones/read on the resource group")
            )),
            ProviderSettings::Ovh(settings) => self.notes.push(format!(
                "A consumer key with GET, POST and DELETE on /domain/zone/ZONE/record* and POST on /domain/zone/ZONE/refresh for each zone that holds these names{}.",
                to_list(!settings.zones.is_empty(), "GET on /domain/zone")
            )),
            ProviderSettings::Manual => self.notes.push(
                "No credential: a person adds the records by hand, at each renewal. Delegated by CNAME to a zone that Countersign may change, that is done once.".to_owned(),
            ),
            _ => self.notes.push(
                "A credential that may read and change TXT records of the zones that hold these names, and nothing else as far as the host can say so. If it can only grant whole zones, delegate to a small one.".to_owned(),
            ),
        }
    }

    fn cloudflare(&mut self, settings: &cloudflare::Settings) {
        let ids = |name: &DnsName| {
            let mut zones = settings.zones.keys();
            zones.any(|zone| name.is_at_or_below(zone))
        };
        let permissions = match self.names.iter().all(ids) {
            true => "the permission `Zone / DNS / Edit`, and no other (`zones` has the zones' ids)",
            false => {
                "the permissions `Zone / DNS / Edit` and `Zone / Zone / Read` (with the zones' ids in `zones`, only the first)"
            }
        };
        self.notes.push(format!(
            "An API token with {permissions}, for the zones that hold these names alone. Cloudflare grants zones and not single names: to grant less, delegate to a small zone."
        ));
    }

    fn route53(&mut self, settings: &route53::Settings) {
        let of = |name: &DnsName| {
            let mut above = name.and_above();
            above.find_map(|it| settings.zones.get(&it))
        };
        let mut ids: Option<BTreeSet<&String>> = self.names.iter().map(of).collect();
        ids = ids.filter(|ids| !ids.is_empty());
        let region = PARTITIONS.iter();
        let partition = region
            .clone()
            .find(|(start, _)| settings.region.starts_with(start));
        let partition = partition.map_or("aws", |(_, partition)| *partition);
        let arn = |rest: &str| format!("arn:{partition}:route53:::{rest}");
        let zones: Vec<String> = match &ids {
            Some(ids) => ids
                .iter()
                .map(|id| arn(&format!("hostedzone/{id}")))
                .collect(),
            None => vec![arn("hostedzone/*")],
        };
        let mut look = vec!["route53:ListResourceRecordSets"];
        let mut statements = Vec::new();
        if ids.is_none() {
            look.push("route53:GetHostedZone");
            statements.push(json!({
                "Effect": "Allow",
                "Action": "route53:ListHostedZonesByName",
                "Resource": "*",
            }));
        }
        statements.extend([
            json!({
                "Effect": "Allow",
                "Action": "route53:GetChange",
                "Resource": arn("change/*"),
            }),
            json!({ "Effect": "Allow", "Action": look, "Resource": zones }),
            json!({
                "Effect": "Allow",
                "Action": "route53:ChangeResourceRecordSets",
                "Resource": zones,
                "Condition": {
                    "ForAllValues:StringEquals": {
                        // In the form that Route 53 compares: lower case, no dot at the end. No challenge name has a
                        // character that it would escape.
                        "route53:ChangeResourceRecordSetsNormalizedRecordNames": self.names,
                        "route53:ChangeResourceRecordSetsRecordTypes": ["TXT"],
                        "route53:ChangeResourceRecordSetsActions": ["CREATE", "DELETE"],
                    },
                },
            }),
        ]);
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        let who = match &settings.assume_role {
            Some(role) => format!("The policy of the role {}", role.arn),
            None => "The policy of the user or role whose credential is used".to_owned(),
        };
        let ids = match ids {
            Some(_) => "",
            None => ". With the zones' ids in `zones` it becomes narrower",
        };
        self.grants.push(Grant {
            form: "iam-policy",
            note: format!("{who}, in IAM{ids}."),
            text: serde_json::to_string_pretty(&policy).expect("text and lists make JSON"),
        });
    }

    async fn rfc2136(&mut self, settings: &rfc2136::Settings, clock: &Clock) {
        let Some(tsig) = &settings.tsig else {
            self.notes.push("It signs nothing (`tsig` is missing), so the server can only allow this machine's address to change everything: make a key.".to_owned());
            return;
        };
        let key = tsig.name(clock).await.unwrap_or_else(|error| {
            self.notes.push(format!(
                "The name of the key could not be read, {SOME_KEY} stands for it: {}.",
                clean(&error)
            ));
            DnsName::parse(SOME_KEY).expect("a label is a name")
        });
        let zone = settings.zone.as_ref().or(self.zone.as_ref());
        let place = match zone {
            Some(zone) => format!("the zone {zone}"),
            None => "the zone that holds the names; divide them if they are in several".to_owned(),
        };
        let grant = |form, note, text| Grant { form, note, text };
        let note = format!("BIND, in the block of {place}:");
        (self.grants).push(grant("bind", note, bind(&key, &self.names)));
        let id = format!("countersign-{key}").replace('.', "-");
        let note = format!("Knot DNS, with `acl: {id}` in {place}:");
        (self.grants).push(grant("knot", note, knot(&id, &key, &self.names)));
        let note = "PowerDNS, which grants whole zones and not single names. Its configuration must have `dnsupdate=yes`, and this machine's address must be in its `allow-dnsupdate-from` or in the zone's ALLOW-DNSUPDATE-FROM:".to_owned();
        let zone = zone.map_or("ZONE", DnsName::as_str);
        // `set-meta` would take the right from every other key.
        let command = format!("pdnsutil add-meta {zone} TSIG-ALLOW-DNSUPDATE {key}");
        self.grants.push(grant("powerdns", note, command));
    }
}

/// The right to list zones, which whoever named them in the configuration need not grant.
fn to_list(names_zones: bool, right: &str) -> String {
    match names_zones {
        true => String::new(),
        false => format!(", and {right} (not needed with the zones in `zones`)"),
    }
}

fn bind(key: &DnsName, names: &BTreeSet<DnsName>) -> String {
    let grants = names
        .iter()
        .map(|name| format!("    grant {key} name {name}. TXT;\n"));
    format!("update-policy {{\n{}}};", grants.collect::<String>())
}

fn knot(id: &str, key: &DnsName, names: &BTreeSet<DnsName>) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name}.")).collect();
    // Knot takes no list over several lines.
    let names = names.join(", ");
    format!(
        "acl:\n- id: {id}\n  key: {key}\n  action: update\n  update-type: TXT\n  update-owner: name\n  update-owner-match: equal\n  update-owner-name: [{names}]"
    )
}
