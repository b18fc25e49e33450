//! What the library of credentials sees of this machine: files, environment, programs and HTTP, each with our limits.

use bytes::Bytes;
use reqsign_core::{CommandExecute, CommandOutput, Error, FileRead, HttpSend, OsEnv, StaticEnv};
use reqwest::Url;
use tokio::io::AsyncReadExt;

use std::time::Duration;

use crate::http::{Ask, Http, Reply, judge_endpoint};
use crate::meter::Meter;
use crate::secret::SecretSource;
use crate::{Context, ErrorKind, ProviderError};

/// A file of profiles or a token is not larger.
const MAX_FILE: u64 = 1024 * 1024;
/// Services on the machine itself answer within this or are not there.
const NEAR_DEADLINE: Duration = Duration::from_secs(5);
/// The addresses at which instances and containers find their credentials over plain HTTP: they lead off no machine.
const NEAR: [&str; 5] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
];

/// Why a service of credentials gave no reply that says anything; holds nothing that it was sent.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Unsent {
    why: String,
    /// Somebody is there, who may well answer the next time.
    pub(super) is_passing: bool,
}

/// What the library gets for one verb.
pub(super) fn surroundings(
    context: &Context,
    sts: Option<&Url>,
    environment: Option<&StaticEnv>,
) -> reqsign_core::Context {
    let near = Near(context.clone());
    let context = Context {
        // The limit of Route 53 is not theirs.
        meter: Meter::default(),
        ..context.clone()
    };
    let bare = reqsign_core::Context::new()
        .with_file_read(Files)
        .with_command_execute(near)
        .with_http_send(Web {
            context,
            sts: sts.cloned(),
        });
    match environment {
        Some(environment) => bare.with_env(environment.clone()),
        None => bare.with_env(OsEnv),
    }
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let failed = |error: std::io::Error| {
            Error::config_invalid(format!("{path} cannot be read: {error}"))
        };
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes).await;
        read.map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE {
            let message = format!("{path} has more than {MAX_FILE} bytes");
            return Err(Error::config_invalid(message));
        }
        Ok(bytes)
    }
}

/// Runs `credential_process` as any other program that gives a secret.
struct Near(Context);

impl std::fmt::Debug for Near {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Near")
    }
}

impl CommandExecute for Near {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        args: &'a [&'a str],
    ) -> reqsign_core::Result<CommandOutput> {
        let argv = [&[program], args].concat();
        let source = SecretSource::Command(argv.into_iter().map(str::to_owned).collect());
        let secret = source.read(&self.0.clock).await;
        let secret = secret.map_err(|error| Error::config_invalid(error.to_string()))?;
        Ok(CommandOutput {
            status: 0,
            stdout: secret.expose().to_vec(),
            stderr: Vec::new(),
        })
    }
}

struct Web {
    context: Context,
    sts: Option<Url>,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Web")
    }
}

impl HttpSend for Web {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string());
        let mut url = url.map_err(|error| Unsent::never(error.to_string()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        if let (Some(sts), true) = (&self.sts, host.starts_with("sts.")) {
            url = sts.clone();
        }
        let is_near = NEAR.contains(&host.as_str());
        if !is_near && let Err(why) = judge_endpoint(&url) {
            let why = format!("{host} is not asked for a credential: {why}");
            return Err(Unsent::never(why).into());
        }
        let mut ask = Ask::new(head.method, &[]).headers(head.headers);
        if !body.is_empty() {
            ask = ask.raw_body(body.to_vec());
        }
        let context = &self.context;
        let reply = if is_near || url.scheme() == "http" {
            ask_near(&Http::metadata(url), ask, context).await
        } else {
            let reply = Http::new(url).send(ask, context).await;
            reply.map_err(|error| Unsent::of(&error))
        };
        let reply = reply.map_err(|unsent| Error::from(unsent).set_retryable(true))?;
        let mut response = http::Response::new(Bytes::from(reply.body));
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

/// The reply of a service on the machine itself, which has one at once or is not there.
async fn ask_near(service: &Http, ask: Ask, context: &Context) -> Result<Reply, Unsent> {
    let clock = &context.clock;
    let asked = clock.timeout(NEAR_DEADLINE, service.send(ask, context));
    let Some(reply) = asked.await else {
        let seconds = NEAR_DEADLINE.as_secs();
        let why = format!("{} did not answer within {seconds} s", service.host());
        return Err(Unsent::never(why));
    };
    let reply = reply.map_err(|error| Unsent::of(&error))?;
    match reply.kind(clock) {
        ErrorKind::Transient | ErrorKind::RateLimited { .. } => Err(Unsent {
            why: format!("{} answered {}", service.host(), reply.status.as_u16()),
            is_passing: true,
        }),
        _ => Ok(reply),
    }
}

impl Unsent {
    /// It will be the same the next time.
    fn never(why: String) -> Self {
        let is_passing = false;
        Self { why, is_passing }
    }

    fn of(error: &ProviderError) -> Self {
        Self {
            why: error.message.clone(),
            is_passing: error.kind == ErrorKind::Transient,
        }
    }
}

impl From<Unsent> for Error {
    fn from(unsent: Unsent) -> Self {
        Self::unexpected("no reply").with_source(unsent)
    }
}
