//! Where the credential comes from: the configured source or the usual chain, and the role that is taken with it.
//!
//! What has no end is read again at each use. A session is kept until shortly before its end, as its service asks for.

use std::time::Duration;

use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider,
    EnvCredentialProvider, IMDSv2CredentialProvider, ProcessCredentialProvider,
    ProfileCredentialProvider, SSOCredentialProvider,
};
use reqsign_core::{ErrorKind as Fault, ProvideCredential, StaticEnv};
use reqwest::{Method, Url};
use tokio::sync::Mutex;
use url::form_urlencoded::Serializer;

use crate::clock::between;
use crate::http::{Ask, said};
use crate::secret::SecretSource;
use crate::words::find;
use crate::{Context, ErrorKind, ProviderError};

use super::error::{Blame, Call};
use super::profile::{self, Base};
use super::sign::Service;
use super::surroundings::{Unsent, surroundings};
use super::xml::Assumed;
use super::{AssumeRole, Settings, Source};

/// A session is not used any more so shortly before its end: a verb may take as long.
const MARGIN: Duration = Duration::from_secs(180);
/// What logs call a session that nobody named.
const SESSION: &str = "countersign";
/// A role is taken with a role that is taken with a role … so often, and not in a circle.
const MOST_ROLES: usize = 5;
/// Why instances do not answer from within containers.
const HOPS: &str = "on an EC2 instance the reply to a container takes one hop more than is allowed at first: raise the limit with \
    `aws ec2 modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2`; anywhere else set `profile`, \
    or `access-key-id` and `secret-access-key`";
/// What is to be done about one that is there and gives no reply that says anything.
const OUT_OF_ORDER: &str =
    "it is asked again by itself; if it goes on, look at the instance metadata service";
/// What an instance that answers lacks.
const NO_ROLE: &str = "attach an instance profile with a role to the instance, or set `profile`, or `access-key-id` and \
    `secret-access-key`";

/// The credential of one plug-in.
pub(super) struct Credentials {
    source: Source,
    role: Option<AssumeRole>,
    region: String,
    sts: Service,
    sts_endpoint: Option<Url>,
    kept: Mutex<Option<Credential>>,
    environment: Option<StaticEnv>,
}

impl Credentials {
    /// Takes its part of the settings; nothing is read or asked yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let region = settings.region.clone();
        let endpoint = settings.sts_endpoint.clone();
        Self {
            source: settings.source.clone(),
            role: settings.assume_role.clone(),
            sts: Service::new("sts", &region, endpoint.unwrap_or_else(|| sts_url(&region))),
            sts_endpoint: settings.sts_endpoint.clone(),
            region,
            kept: Mutex::new(None),
            environment: None,
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn in_environment(
        mut self,
        envs: std::collections::HashMap<String, String>,
        home: std::path::PathBuf,
    ) -> Self {
        let home_dir = Some(home);
        self.environment = Some(StaticEnv { home_dir, envs });
        self
    }

    /// A credential that is good for a while. Who comes while it is fetched waits for it.
    pub(super) async fn current(&self, context: &Context) -> Result<Credential, ProviderError> {
        let patience = between(context.clock.now(), context.deadline);
        let fetched = context.clock.timeout(patience, self.fetch(context)).await;
        fetched.unwrap_or_else(|| {
            let message = "no AWS credential was there in time";
            Err(ProviderError::new(ErrorKind::Transient, message))
        })
    }

    /// The kept session was refused.
    pub(super) fn forget(&self) {
        // Whoever holds the lock fetches another one.
        if let Ok(mut kept) = self.kept.try_lock() {
            *kept = None;
        }
    }

    async fn fetch(&self, context: &Context) -> Result<Credential, ProviderError> {
        let mut kept = self.kept.lock().await;
        // The one who was waited for may have been refused, and nobody is asked the same once more.
        if let Some(error) = context.meter.overtaken() {
            return Err(error);
        }
        let needed_until = context.clock.now().as_second() + MARGIN.as_secs().cast_signed();
        let is_good = |credential: &&Credential| {
            let end = credential.expires_in.map(|end| end.as_second());
            end.is_some_and(|end| end > needed_until)
        };
        if let Some(credential) = kept.as_ref().filter(is_good) {
            return Ok(credential.clone());
        }
        let finder = Finder {
            all: self,
            context,
            library: surroundings(
                context,
                self.sts_endpoint.as_ref(),
                self.environment.as_ref(),
            ),
        };
        let mut credential = finder.find().await?;
        if let Some(role) = &self.role {
            credential = finder.assume(role, &credential).await?;
        }
        *kept = credential.expires_in.is_some().then(|| credential.clone());
        Ok(credential)
    }
}

/// Looks for the credential once.
struct Finder<'a> {
    all: &'a Credentials,
    context: &'a Context,
    library: reqsign_core::Context,
}

impl Finder<'_> {
    async fn find(&self) -> Result<Credential, ProviderError> {
        match &self.all.source {
            Source::Key { id, secret } => self.key(id, secret).await,
            Source::Profile(name) => self.profile(name).await?.ok_or_else(|| {
                let message = format!("the AWS profile `{name}` has no credential, or is not there");
                ProviderError::new(ErrorKind::Auth, message).hint(
                    "profiles are in ~/.aws/config and ~/.aws/credentials of the user that the daemon runs as, or where \
                     AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE point to",
                )
            }),
            Source::Chain => self.chain().await,
        }
    }

    async fn key(&self, id: &str, secret: &SecretSource) -> Result<Credential, ProviderError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            let message = format!("the secret access key of {id} cannot be read: {error}");
            ProviderError::new(ErrorKind::Auth, message)
                .hint("see that the secret is where `secret-access-key` says and can be read by the daemon's user")
        };
        let read = secret.read(&self.context.clock).await;
        let read = read.map_err(|error| unreadable(&error))?;
        let text = read.expose_text().map_err(|error| unreadable(&error))?;
        Ok(Credential {
            access_key_id: id.to_owned(),
            secret_access_key: text.to_owned(),
            session_token: None,
            expires_in: None,
        })
    }

    async fn chain(&self) -> Result<Credential, ProviderError> {
        let profile = self.library.env_var("AWS_PROFILE");
        let profile = profile.as_deref().unwrap_or("default");
        if let Some(found) = self
            .ask("the environment", &EnvCredentialProvider::new())
            .await?
        {
            return Ok(found);
        }
        if let Some(found) = self.profile(profile).await? {
            return Ok(found);
        }
        if let Some(found) = self.ask("the web identity", &self.web_identity()).await? {
            return Ok(found);
        }
        if let Some(found) = self.container().await? {
            return Ok(found);
        }
        if let Some(found) = self.instance(profile).await? {
            return Ok(found);
        }
        let message = format!(
            "there is no AWS credential: not in the environment, not in the profile `{profile}`, and neither a web \
             identity nor a container's"
        );
        Err(ProviderError::new(ErrorKind::Auth, message)
            .hint("set `profile`, or `access-key-id` and `secret-access-key`"))
    }

    fn web_identity(&self) -> AssumeRoleWithWebIdentityCredentialProvider {
        // A session has to have a name in the account's logs; what the environment says goes before.
        let name = self.library.env_var("AWS_ROLE_SESSION_NAME");
        AssumeRoleWithWebIdentityCredentialProvider::new()
            .with_region(self.all.region.clone())
            .with_regional_sts_endpoint()
            .with_role_session_name(name.unwrap_or_else(|| SESSION.to_owned()))
    }

    async fn container(&self) -> Result<Option<Credential>, ProviderError> {
        self.ask("the container", &ECSCredentialProvider::new())
            .await
    }

    async fn instance(&self, profile: &str) -> Result<Option<Credential>, ProviderError> {
        let asked = IMDSv2CredentialProvider::new();
        match asked.provide_credential(&self.library).await {
            Ok(found) => Ok(found),
            Err(error) => {
                let why = reason(&error);
                let message = format!(
                    "there is no AWS credential: not in the environment, not in the profile `{profile}`, neither a web \
                     identity nor a container's, and none from the instance: {why}"
                );
                let (kind, hint) = match find::<Unsent>(&error) {
                    Some(unsent) if unsent.is_passing => (ErrorKind::Transient, OUT_OF_ORDER),
                    Some(_) => (ErrorKind::Auth, HOPS),
                    None => (ErrorKind::Auth, NO_ROLE),
                };
                Err(ProviderError::new(kind, message).hint(hint))
            }
        }
    }

    /// What a profile leads to: its own credential, or the roles that it takes one with another.
    async fn profile(&self, name: &str) -> Result<Option<Credential>, ProviderError> {
        let mut roles = Vec::new();
        let mut name = name.to_owned();
        let base = loop {
            let what = format!("the profile `{name}`");
            let read = profile::read(&self.library, &name).await;
            let profile = read.map_err(|error| refused(&what, &error))?;
            let (role, sso) = profile.map_or((None, None), |it| (it.role, it.sso));
            let Some((role, base)) = role else {
                break self.own(&name, sso).await?;
            };
            roles.push(role);
            if roles.len() > MOST_ROLES {
                let message = format!(
                    "{what} takes more than {MOST_ROLES} roles one with another, or itself"
                );
                return Err(ProviderError::new(ErrorKind::Auth, message)
                    .hint("look at source_profile in ~/.aws/config"));
            }
            match base {
                Base::Profile(next) if next == name => break self.own(&name, sso).await?,
                Base::Profile(next) => name = next,
                Base::Environment => break self.ask(&what, &EnvCredentialProvider::new()).await?,
                Base::Container => break self.container().await?,
                Base::Instance => break self.instance(&name).await?,
                Base::WebIdentity(file) => {
                    let Some(role) = roles.pop() else { continue };
                    let session = role.session_name.unwrap_or_else(|| SESSION.to_owned());
                    let asked = self
                        .web_identity()
                        .with_role_arn(role.arn)
                        .with_web_identity_token_file(file)
                        .with_role_session_name(session);
                    break self.ask(&what, &asked).await?;
                }
            }
        };
        let Some(mut credential) = base else {
            return Ok(None);
        };
        for role in roles.iter().rev() {
            credential = self.assume(role, &credential).await?;
        }
        Ok(Some(credential))
    }

    /// What stands in the profile itself.
    async fn own(
        &self,
        name: &str,
        sso: Option<SSOCredentialProvider>,
    ) -> Result<Option<Credential>, ProviderError> {
        let what = format!("the profile `{name}`");
        let keys = ProfileCredentialProvider::new().with_profile(name);
        if let Some(found) = self.ask(&what, &keys).await? {
            return Ok(Some(found));
        }
        let sso = sso.unwrap_or_else(|| SSOCredentialProvider::new().with_profile(name));
        if let Some(found) = self.ask(&what, &sso).await? {
            return Ok(Some(found));
        }
        let process = ProcessCredentialProvider::new().with_profile(name);
        self.ask(&what, &process).await
    }

    async fn ask(
        &self,
        what: &str,
        source: &impl ProvideCredential<Credential = Credential>,
    ) -> Result<Option<Credential>, ProviderError> {
        let found = source.provide_credential(&self.library).await;
        found.map_err(|error| refused(what, &error))
    }

    /// Takes `role` with `credential`.
    async fn assume(
        &self,
        role: &AssumeRole,
        credential: &Credential,
    ) -> Result<Credential, ProviderError> {
        let kind = "application/x-www-form-urlencoded";
        let ask = Ask::new(Method::POST, &[""]).body(kind, assume_role_form(role).into_bytes());
        let sts = &self.all.sts;
        let context = Context::new(self.context.clock.clone(), self.context.deadline);
        let reply = sts.call(ask, credential, &context).await?;
        let blame = Blame {
            host: sts.host(),
            call: Call::AssumeRole,
            what: format!("the role {}", role.arn),
        };
        if !reply.status.is_success() {
            return Err(blame.refused(&reply, &self.context.clock));
        }
        let assumed: Assumed =
            super::xml::read(&reply.body).map_err(|_| blame.unreadable(&reply, ""))?;
        let session = assumed.assume_role_result.credentials;
        let end = session.expiration.parse();
        Ok(Credential {
            access_key_id: session.access_key_id,
            secret_access_key: session.secret_access_key,
            session_token: Some(session.session_token),
            expires_in: Some(end.map_err(|_| blame.unreadable(&reply, "an end that is no time"))?),
        })
    }
}

fn assume_role_form(role: &AssumeRole) -> String {
    let session = role.session_name.as_deref().unwrap_or(SESSION);
    let mut form = Serializer::new(String::new());
    form.append_pair("Action", "AssumeRole")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", &role.arn)
        .append_pair("RoleSessionName", session);
    if let Some(id) = &role.external_id {
        form.append_pair("ExternalId", id);
    }
    form.finish()
}

/// The regional endpoint.
fn sts_url(region: &str) -> Url {
    let suffix = match () {
        () if region.starts_with("cn-") => "amazonaws.com.cn",
        () if region.starts_with("eusc-") => "amazonaws.eu",
        () => "amazonaws.com",
    };
    Url::parse(&format!("https://sts.{region}.{suffix}/"))
        .expect("a region has letters, digits and dashes only: the settings say so")
}

/// What a source of credentials has against us.
fn refused(what: &str, error: &reqsign_core::Error) -> ProviderError {
    let kind = match error.kind() {
        Fault::PermissionDenied => ErrorKind::Permission,
        Fault::RateLimited => ErrorKind::RateLimited { after: None },
        _ if error.is_retryable() => ErrorKind::Transient,
        _ => ErrorKind::Auth,
    };
    let message = format!("{what} gives no AWS credential: {}", reason(error));
    ProviderError::new(kind, message).hint(
        "see what `aws sts get-caller-identity` says as the daemon's user and with its environment",
    )
}

/// What the library says, without the texts that it read: those may be secrets.
fn reason(error: &reqsign_core::Error) -> String {
    let message = error.to_string();
    let safe = match message.split_once(": ") {
        Some((before, _)) if before.starts_with("failed to parse") => before,
        _ => &message,
    };
    match find::<Unsent>(error) {
        Some(unsent) => format!("{} ({unsent})", said(safe)),
        None => said(safe),
    }
}
