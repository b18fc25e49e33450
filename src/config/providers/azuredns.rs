//! Checks of `azuredns`.

use countersign_providers::azuredns::{Cloud, Login, METADATA, Settings, is_zone_id};
use url::Url;

use crate::config::checked::optional;
use crate::config::problems::Path;
use crate::config::raw;
use crate::config::scalars::Checker;

/// The parts of Azure.
const CLOUDS: [(&str, Cloud); 3] = [
    ("public", Cloud::Public),
    ("usgovernment", Cloud::UsGovernment),
    ("china", Cloud::China),
];
/// The ways to say who we are.
const LOGINS: &str = "write tenant: ID, client-id: ID and client-secret: {file: /path}, or workload-identity: {tenant: ID, \
    client-id: ID, token: {file: /path}}, or managed-identity: {}";
/// The longest name of a resource group.
const MAX_GROUP: usize = 90;

impl Checker {
    pub(super) fn azuredns(&mut self, at: &Path<'_>, settings: &raw::AzureDns) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::AzureDns>(at, &settings.unknown);
        let hint =
            "write the subscription's id, e.g. subscription: 00000000-0000-0000-0000-000000000000";
        let required = [("subscription", settings.subscription.is_some(), hint)];
        self.problems.required(at, &required);
        let login = self.azure_login(at, settings);
        let subscription = settings.subscription.as_ref();
        let subscription = subscription.and_then(|it| self.uuid(&at.key("subscription"), it));
        let group = settings.resource_group.as_ref();
        let group = group.map(|it| self.resource_group(&at.key("resource-group"), it));
        let zones = settings.zones.as_ref();
        let zones = zones.map(|it| self.zone_ids(&at.key("zones"), it, Self::resource_id));
        let cloud = settings.cloud.as_deref().unwrap_or("public");
        let cloud = self.word(&at.key("cloud"), cloud, &CLOUDS);
        let of_cloud = cloud.unwrap_or_default();
        let endpoint = settings.endpoint.as_deref();
        let endpoint = endpoint.unwrap_or_else(|| of_cloud.endpoint());
        let endpoint = self.endpoint(&at.key("endpoint"), endpoint);
        let login_endpoint = settings.login_endpoint.as_deref();
        let login_endpoint = login_endpoint.unwrap_or_else(|| of_cloud.login());
        let login_endpoint = self.endpoint(&at.key("login-endpoint"), login_endpoint);
        let metadata = match &settings.metadata_endpoint {
            Some(given) => self.endpoint(&at.key("metadata-endpoint"), given),
            None => Url::parse(METADATA).ok(),
        };
        Some(Settings {
            login: login?,
            subscription: subscription?,
            resource_group: optional(group)?,
            zones: optional(zones)?.unwrap_or_default(),
            cloud: cloud?,
            endpoint: endpoint?,
            login_endpoint: login_endpoint?,
            metadata: metadata?,
        })
    }

    fn azure_login(&mut self, at: &Path<'_>, settings: &raw::AzureDns) -> Option<Login> {
        let by_secret = settings.tenant.is_some()
            || settings.client_id.is_some()
            || settings.client_secret.is_some();
        let identities = (&settings.workload_identity, &settings.managed_identity);
        match (by_secret, identities) {
            (true, (None, None)) => self.azure_secret(at, settings),
            (false, (Some(workload), None)) => {
                self.azure_workload(&at.key("workload-identity"), workload)
            }
            (false, (None, Some(managed))) => {
                let at = at.key("managed-identity");
                self.problems
                    .unknown_keys::<raw::ManagedIdentity>(&at, &managed.unknown);
                let client = managed.client_id.as_ref();
                let client = client.map(|it| self.uuid(&at.key("client-id"), it));
                Some(Login::Machine {
                    client: optional(client)?,
                })
            }
            (false, (None, None)) => {
                let message = "nothing says who we are at Azure";
                self.problems.key(at, message, LOGINS);
                None
            }
            _ => {
                let message = "there is one way to say who we are at Azure, and not several";
                self.problems.key(at, message, LOGINS);
                None
            }
        }
    }

    fn azure_secret(&mut self, at: &Path<'_>, settings: &raw::AzureDns) -> Option<Login> {
        let required = [
            ("tenant", settings.tenant.is_some(), LOGINS),
            ("client-id", settings.client_id.is_some(), LOGINS),
            ("client-secret", settings.client_secret.is_some(), LOGINS),
        ];
        self.problems.required(at, &required);
        let tenant = settings.tenant.as_ref();
        let tenant = tenant.and_then(|it| self.tenant(&at.key("tenant"), it));
        let client = settings.client_id.as_ref();
        let client = client.and_then(|it| self.uuid(&at.key("client-id"), it));
        let secret = settings.client_secret.as_ref();
        let secret = secret.and_then(|it| self.secret(&at.key("client-secret"), it));
        Some(Login::Secret {
            tenant: tenant?,
            client: client?,
            secret: secret?,
        })
    }

    fn azure_workload(&mut self, at: &Path<'_>, given: &raw::WorkloadIdentity) -> Option<Login> {
        self.problems
            .unknown_keys::<raw::WorkloadIdentity>(at, &given.unknown);
        let hint = "in a cluster they are in AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE";
        let required = [
            ("tenant", given.tenant.is_some(), hint),
            ("client-id", given.client_id.is_some(), hint),
            ("token", given.token.is_some(), hint),
        ];
        self.problems.required(at, &required);
        let tenant = given.tenant.as_ref();
        let tenant = tenant.and_then(|it| self.tenant(&at.key("tenant"), it));
        let client = given.client_id.as_ref();
        let client = client.and_then(|it| self.uuid(&at.key("client-id"), it));
        let token = given.token.as_ref();
        let token = token.and_then(|it| self.secret(&at.key("token"), it));
        Some(Login::Federated {
            tenant: tenant?,
            client: client?,
            token: token?,
        })
    }

    /// 32 digits in five groups.
    fn uuid(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        let is_uuid =
            groups == [8, 4, 4, 4, 12] && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if !is_uuid {
            // It may be a secret.
            let message = "this is not an id: 32 digits and letters from a to f in five groups";
            self.problems
                .value(at, message, "copy it from the overview page in the portal");
        }
        is_uuid.then(|| text.to_ascii_lowercase())
    }

    /// An id, or one of the tenant's domains.
    fn tenant(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        match text.contains('.') {
            true => self.host(at, text).map(|name| name.to_string()),
            false => self.uuid(at, text),
        }
    }

    fn resource_group(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let is_name = (1..=MAX_GROUP).contains(&text.chars().count())
            && !text.ends_with('.')
            && (text.chars()).all(|c| c.is_alphanumeric() || "-_().".contains(c));
        if !is_name {
            let message = format!("`{text}` is not the name of a resource group");
            self.problems.value(at, message, "");
        }
        is_name.then(|| text.to_owned())
    }

    fn resource_id(&mut self, at: &Path<'_>, text: &str) -> Option<String> {
        let is_id = is_zone_id(text);
        if !is_id {
            self.problems.value(
                at,
                format!("`{text}` is not the resource id of a DNS zone"),
                "copy it from the zone's properties page: \
                 /subscriptions/…/resourceGroups/…/providers/Microsoft.Network/dnsZones/…",
            );
        }
        is_id.then(|| text.to_owned())
    }
}
