//! Access tokens of Microsoft Entra: for an application's secret, for a token of another issuer that Entra trusts, or from
//! the metadata server of the machine.

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};

use crate::http::{Ask, Http, Reply};
use crate::oauth::{Bearer, Kept, Refusal, post, read};
use crate::secret::{Secret, SecretSource};
use crate::{Context, ErrorKind, ProviderError};

use super::Settings;

/// What an assertion of another issuer is (RFC 7523 section 2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// What the metadata server wants to see, so that no browser can be made to ask it.
const METADATA: HeaderName = HeaderName::from_static("metadata");
/// The version of its API.
const VERSION: &str = "2018-02-01";

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// An application with a secret.
    Secret {
        /// The tenant that it is registered in.
        tenant: String,
        /// Its id.
        client: String,
        /// Its secret.
        secret: SecretSource,
    },
    /// An application that trusts another issuer, e.g. a cluster of Kubernetes.
    Federated {
        /// The tenant that it is registered in.
        tenant: String,
        /// Its id.
        client: String,
        /// The other issuer's token.
        token: SecretSource,
    },
    /// The identity of the machine.
    Machine {
        /// Which, where it has several.
        client: Option<String>,
    },
}

/// The tokens of one identity.
pub(super) struct Tokens {
    login: Login,
    service: Http,
    resource: &'static str,
    kept: Kept,
}

impl Tokens {
    /// Takes its part of the settings; nothing is read or asked yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let service = match settings.login {
            Login::Machine { .. } => Http::metadata(settings.metadata.clone()),
            Login::Secret { .. } | Login::Federated { .. } => {
                Http::new(settings.login_endpoint.clone())
            }
        };
        Self {
            login: settings.login.clone(),
            service,
            resource: settings.cloud.endpoint(),
            kept: Kept::default(),
        }
    }

    /// A token that is good for a while.
    pub(super) async fn current(&self, context: &Context) -> Result<Bearer, ProviderError> {
        // Boxed, since it is large and rarely runs.
        let fetch = Box::pin(self.fetch(context));
        self.kept.current(context, fetch).await
    }

    /// The token was refused, or may be good by now.
    pub(super) fn forget(&self) {
        self.kept.forget();
    }

    async fn fetch(&self, context: &Context) -> Result<Bearer, ProviderError> {
        match &self.login {
            Login::Secret {
                tenant,
                client,
                secret,
            } => {
                let proof = [("client_secret", secret, "client-secret")];
                self.by_entra(tenant, client, &[], proof, context).await
            }
            Login::Federated {
                tenant,
                client,
                token,
            } => {
                let more = [("client_assertion_type", ASSERTION)];
                let proof = [("client_assertion", token, "token")];
                self.by_entra(tenant, client, &more, proof, context).await
            }
            Login::Machine { client } => self.by_machine(client.as_deref(), context).await,
        }
    }

    async fn by_entra(
        &self,
        tenant: &str,
        client: &str,
        more: &[(&str, &str)],
        [(field, source, key)]: [(&str, &SecretSource, &str); 1],
        context: &Context,
    ) -> Result<Bearer, ProviderError> {
        let secret = read(source, key, context).await?;
        let text = secret.expose_text().map_err(|_| {
            let message = format!("`{key}` is not text");
            ProviderError::new(ErrorKind::Auth, message)
        })?;
        let scope = format!("{}/.default", self.resource);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("scope", &scope),
            (field, text),
        ];
        let form = [&form[..], more].concat();
        let path = [tenant, "oauth2", "v2.0", "token"];
        let reply = post(&self.service, &path, &form, context).await?;
        if !reply.status.is_success() {
            let whom = format!("the application {client}");
            return Err(self.refused(&whom, &reply, Some(&secret), context));
        }
        Bearer::read(&reply, &self.service.host(), context)
    }

    async fn by_machine(
        &self,
        client: Option<&str>,
        context: &Context,
    ) -> Result<Bearer, ProviderError> {
        let mut ask = Ask::new(Method::GET, &["metadata", "identity", "oauth2", "token"])
            .header(METADATA, HeaderValue::from_static("true"))
            .query("api-version", VERSION)
            .query("resource", &format!("{}/", self.resource));
        if let Some(client) = client {
            ask = ask.query("client_id", client);
        }
        let uncounted = Context::new(context.clock.clone(), context.deadline);
        let hint = "only a machine at Azure has a managed identity: elsewhere, write `tenant`, `client-id` and `client-secret`";
        let reply = (self.service.send(ask, &uncounted).await).map_err(|error| {
            ProviderError {
                hint: None,
                ..error
            }
            .hint(hint)
        })?;
        match reply.status.is_success() {
            true => Bearer::read(&reply, &self.service.host(), context),
            false => Err(self.refused("this machine", &reply, None, context)),
        }
    }

    /// What the token service has against `whom`.
    fn refused(
        &self,
        whom: &str,
        reply: &Reply,
        told: Option<&Secret>,
        context: &Context,
    ) -> ProviderError {
        let Refusal {
            error,
            error_description: words,
        } = Refusal::read(reply, told);
        let kind = match reply.kind(&context.clock) {
            kind @ (ErrorKind::Transient | ErrorKind::RateLimited { .. }) => kind,
            _ => ErrorKind::Auth,
        };
        let code = aadsts(&words).unwrap_or(&error);
        let (what, hint) = verdict(code, &words, self.resource);
        let said = match words.is_empty() {
            true => String::new(),
            false => format!(" ({words})"),
        };
        let host = self.service.host();
        let refused = ProviderError::new(
            kind,
            format!("{host} gives no token for {whom}: {what}{said}"),
        );
        let refused = match code.is_empty() {
            true => refused,
            false => refused.code(code),
        };
        refused.hint(hint)
    }
}

/// The number that Entra's words begin with.
fn aadsts(words: &str) -> Option<&str> {
    let code = words.split(':').next()?;
    code.starts_with("AADSTS").then_some(code)
}

fn verdict(code: &str, words: &str, resource: &str) -> (&'static str, &'static str) {
    match code {
        "AADSTS7000215" => (
            "the secret is not one of the application's",
            "write the secret's value, not its id, to where `client-secret` points",
        ),
        "AADSTS7000222" => (
            "the secret has expired",
            "make a new secret for the application, and write it to where `client-secret` points",
        ),
        "AADSTS700016" => (
            "the tenant has no such application",
            "compare `client-id` and `tenant` with the application's overview page",
        ),
        "AADSTS90002" | "AADSTS900023" | "AADSTS90013" => (
            "there is no such tenant",
            "compare `tenant` with the tenant's id, and `cloud` with the part of Azure that it is in",
        ),
        "AADSTS70021" | "AADSTS700211" | "AADSTS700212" | "AADSTS700213" => (
            "the application does not trust the issuer, the subject or the audience of the token",
            "compare them with the federated credentials of the application",
        ),
        "AADSTS700024" | "AADSTS50013" => (
            "the token of the other issuer is too old, or not signed by it",
            "see that whoever writes the file behind `token` still renews it, and that this machine's clock is right",
        ),
        "AADSTS7000112" | "AADSTS7000113" => (
            "the application is switched off",
            "switch it on in the tenant",
        ),
        "AADSTS53003" | "AADSTS530003" => (
            "a policy for access forbids it from here",
            "ask whoever manages the tenant",
        ),
        "AADSTS500011" => (
            "it does not know Azure Resource Manager there",
            match resource == super::Cloud::Public.endpoint() {
                true => "look whether the tenant is in another part of Azure, and set `cloud`",
                false => "look whether `cloud` is right",
            },
        ),
        "invalid_request" if words.contains("Identity not found") => (
            "it has no such identity",
            "attach a managed identity to the machine; where it has several, write `client-id`",
        ),
        "invalid_client" => (
            "it does not know the application or its proof",
            "compare `client-id`, `tenant` and the secret",
        ),
        _ => (
            "it gives a reason that is not known here",
            "look the code up at https://login.microsoftonline.com/error",
        ),
    }
}
