//! Access tokens: for the key of a service account (RFC 7523), or from the metadata server of the machine.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Url};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::http::{Ask, Http, Reply, judge_endpoint, said};
use crate::oauth::{Bearer, Kept, Refusal, post, read};
use crate::secret::{Secret, SecretSource};
use crate::{Context, ErrorKind, ProviderError};

/// What the token may do; which records, IAM decides.
const SCOPE: &str = "https://www.googleapis.com/auth/ndev.clouddns.readwrite";
/// How an assertion is exchanged for a token (RFC 7523 section 2.1).
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The longest that an assertion may live.
const ASSERTION_SECONDS: i64 = 3_600;
/// Where tokens come from unless the key says something else, and for whom every assertion is.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// What the metadata server wants to see, so that no browser can be made to ask it.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");

/// Whether `source`, which can be read, is the key of a service account. An error is a sentence.
pub(super) async fn judge(source: &SecretSource, clock: &Clock) -> Result<(), String> {
    let context = Context::new(clock.clone(), clock.now());
    let judged = async {
        let secret = read(source, "credentials", &context).await?;
        let key = Key::read(&secret, source)?;
        key.token_uri(source)?;
        key.assertion(source, &context)
    };
    let judged: Result<_, ProviderError> = judged.await;
    judged.map(drop).map_err(|error| error.message)
}

/// The tokens of one credential.
pub(super) struct Tokens {
    credentials: Option<SecretSource>,
    project: Option<String>,
    metadata: Url,
    kept: Kept,
}

/// The key of a service account as Google writes it.
#[derive(Deserialize)]
struct Key {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    project_id: Option<String>,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default, deserialize_with = "zeroizing")]
    private_key: Zeroizing<String>,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    token_uri: Option<String>,
}

fn zeroizing<'de, D: Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

impl Tokens {
    /// Takes its part of the settings; nothing is read or asked yet.
    pub(super) fn new(
        credentials: Option<SecretSource>,
        project: Option<String>,
        metadata: Url,
    ) -> Self {
        Self {
            credentials,
            project,
            metadata,
            kept: Kept::default(),
        }
    }

    /// A token that is good for a while, and the project.
    pub(super) async fn current(
        &self,
        context: &Context,
    ) -> Result<(Bearer, String), ProviderError> {
        // Boxed, since it is large and rarely runs.
        let fetch = Box::pin(self.fetch(context));
        let bearer = self.kept.current(context, fetch).await?;
        let project = self.project.as_ref().or(bearer.note.as_ref()).cloned();
        let project = project.ok_or_else(|| {
            // A person may have written another key meanwhile.
            self.forget();
            let message = "the key of the service account names no project";
            ProviderError::new(ErrorKind::Auth, message)
                .hint("write `project` in the configuration")
        })?;
        Ok((bearer, project))
    }

    /// The token was refused, or may be good by now.
    pub(super) fn forget(&self) {
        self.kept.forget();
    }

    async fn fetch(&self, context: &Context) -> Result<Bearer, ProviderError> {
        match &self.credentials {
            Some(source) => self.by_key(source, context).await,
            None => self.by_machine(context).await,
        }
    }

    async fn by_key(
        &self,
        source: &SecretSource,
        context: &Context,
    ) -> Result<Bearer, ProviderError> {
        let secret = read(source, "credentials", context).await?;
        let key = Key::read(&secret, source)?;
        let uri = key.token_uri(source)?;
        let assertion = key.assertion(source, context)?;
        let service = Http::new(uri);
        let form = [("grant_type", GRANT), ("assertion", &assertion)];
        let reply = post(&service, &[], &form, context).await?;
        if !reply.status.is_success() {
            let assertion = Secret::new(assertion.as_bytes().to_vec());
            let (host, account) = (service.host(), &key.client_email);
            return Err(refused(&host, account, &reply, &assertion, context));
        }
        let mut bearer = Bearer::read(&reply, &service.host(), context)?;
        bearer.note = key.project_id;
        Ok(bearer)
    }

    async fn by_machine(&self, context: &Context) -> Result<Bearer, ProviderError> {
        let service = Http::metadata(self.metadata.clone());
        let account = ["computeMetadata", "v1", "instance", "service-accounts"];
        let path = [&account[..], &["default", "token"]].concat();
        let reply = ask_metadata(&service, &path, context).await?;
        let mut bearer = Bearer::read(&reply, &service.host(), context)?;
        if self.project.is_none() {
            let path = ["computeMetadata", "v1", "project", "project-id"];
            let reply = ask_metadata(&service, &path, context).await?;
            bearer.note = Some(said(&String::from_utf8_lossy(&reply.body)));
        }
        Ok(bearer)
    }
}

impl Key {
    fn read(secret: &Secret, source: &SecretSource) -> Result<Self, ProviderError> {
        // What the parser says could repeat a part of the key.
        let key: Self = serde_json::from_slice(secret.expose())
            .map_err(|_| unusable(source, "is not the key of a service account in JSON"))?;
        match key.kind.as_str() {
            "service_account" if !key.client_email.is_empty() => Ok(key),
            "service_account" => Err(unusable(source, "names no client_email")),
            other => {
                let other = said(other);
                let what = format!("is of the type `{other}`, wanted is a service account");
                Err(unusable(source, &what))
            }
        }
    }

    fn token_uri(&self, source: &SecretSource) -> Result<Url, ProviderError> {
        let text = self.token_uri.as_deref().unwrap_or(TOKEN_URI);
        let wrong = |why: String| unusable(source, &format!("has a token_uri that is none: {why}"));
        let uri = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        judge_endpoint(&uri).map_err(wrong)?;
        Ok(uri)
    }

    /// A statement that this is the service account, signed with its key (RFC 7523 section 3).
    fn assertion(
        &self,
        source: &SecretSource,
        context: &Context,
    ) -> Result<Zeroizing<String>, ProviderError> {
        let bad = || unusable(source, "holds no private_key that can be used");
        let der = PrivatePkcs8KeyDer::from_pem_slice(self.private_key.as_bytes());
        let der = der.map_err(|_| bad())?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| bad())?;
        let now = context.clock.now().as_second();
        let head = json!({"alg": "RS256", "typ": "JWT", "kid": self.private_key_id});
        let claims = json!({
            "iss": self.client_email,
            "scope": SCOPE,
            "aud": TOKEN_URI,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            signed.as_bytes(),
            &mut signature,
        )
        .map_err(|_| bad())?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(Zeroizing::new(format!("{signed}.{signature}")))
    }
}

fn unusable(source: &SecretSource, what: &str) -> ProviderError {
    let message = format!("{} {what}", source.describe());
    ProviderError::new(ErrorKind::Auth, message).hint(
        "make a key for the service account with `gcloud iam service-accounts keys create`, and let `credentials` point to it",
    )
}

async fn ask_metadata(
    service: &Http,
    path: &[&str],
    context: &Context,
) -> Result<Reply, ProviderError> {
    let ask = Ask::new(Method::GET, path).header(FLAVOR, HeaderValue::from_static("Google"));
    let uncounted = Context::new(context.clock.clone(), context.deadline);
    let no_machine = "`credentials` is left out, and so the metadata server of a machine at Google is asked: elsewhere, let \
                      `credentials` point to the key of a service account";
    let reply = (service.send(ask, &uncounted).await).map_err(|error| {
        ProviderError {
            hint: None,
            ..error
        }
        .hint(no_machine)
    })?;
    match reply.status.as_u16() {
        200..=299 => Ok(reply),
        404 => {
            let message = format!(
                "the metadata server at {} knows no service account",
                service.host()
            );
            Err(ProviderError::new(ErrorKind::Auth, message)
                .hint("attach a service account to the machine, or write `credentials`"))
        }
        status => {
            let message = format!("the metadata server at {} answers {status}", service.host());
            let kind = match reply.kind(&context.clock) {
                kind @ (ErrorKind::Transient | ErrorKind::RateLimited { .. }) => kind,
                _ => ErrorKind::Auth,
            };
            Err(ProviderError::new(kind, message).hint(no_machine))
        }
    }
}

/// What the token service has against the key.
fn refused(
    host: &str,
    account: &str,
    reply: &Reply,
    told: &Secret,
    context: &Context,
) -> ProviderError {
    let Refusal {
        error: code,
        error_description: words,
    } = Refusal::read(reply, Some(told));
    let new_key =
        "make a new key for the service account, and write it to where `credentials` points";
    let kind = match reply.kind(&context.clock) {
        kind @ (ErrorKind::Transient | ErrorKind::RateLimited { .. }) => kind,
        _ => ErrorKind::Auth,
    };
    let (what, hint) = match code.as_str() {
        "invalid_grant" if words.contains("reasonable timeframe") => (
            "the clock here and the one there differ by too much",
            "set this machine's clock, best by NTP",
        ),
        "invalid_grant" if words.contains("account not found") => {
            ("there is no such service account any more", new_key)
        }
        "invalid_grant" => ("the key was deleted or switched off", new_key),
        "invalid_client" | "unauthorized_client" => {
            ("it does not know the service account", new_key)
        }
        "disabled_client" => (
            "the service account is switched off",
            "switch it on again in IAM, or use another one",
        ),
        "invalid_scope" => (
            "it does not let the service account change DNS",
            "look whether something between here and there rewrites requests",
        ),
        "access_denied" | "admin_policy_enforced" | "org_internal" => (
            "a policy of the organisation forbids it",
            "ask whoever manages the organisation at Google",
        ),
        _ => (
            "it gives a reason that is not known here",
            "look whether the token_uri in the key is Google's",
        ),
    };
    let said = match words.is_empty() {
        true => String::new(),
        false => format!(" ({words})"),
    };
    let message = format!(
        "{host} gives no token for {}: {what}{said}",
        crate::http::said(account)
    );
    let error = ProviderError::new(kind, message).hint(hint);
    match code.is_empty() {
        true => error,
        false => error.code(code),
    }
}
