//! The HTTPS side: one TLS listener, HTTP/1.1 with keep-alive, routes to the resources.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderName, HeaderValue, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::clock::deadline;
use crate::faults::Endpoint;
use crate::post::{Post, Takes};
use crate::problem::{Kind, Problem};
use crate::reply::Reply;
use crate::state::random_text;
use crate::{Seen, Shared, accounts, orders};

/// The largest request of all, a finalize with a hundred long names, needs half of it.
const MAX_BODY: usize = 64 * 1024;

/// Connections open at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1_024;

/// How long a client may take for the TLS handshake, and for a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing is accepted after accepting has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const JOSE: &str = "application/jose+json";

/// A resource and what its path says.
enum Target {
    Directory,
    NewNonce,
    Terms,
    NewAccount,
    NewOrder,
    RevokeCert,
    KeyChange,
    Account(u64),
    AccountOrders(u64),
    Order(u64),
    Finalize(u64),
    Authorization(u64, usize),
    Challenge(u64, usize),
    Certificate(String),
}

/// The reply is not to arrive: the connection closes instead.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reply is lost on purpose")
    }
}

impl std::error::Error for Lost {}

/// Accepts connections until the task is dropped, and every connection with it.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, tls: TlsAcceptor) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                // Most likely out of file descriptors, which only time gives back.
                deadline(ACCEPT_PAUSE, std::future::pending::<()>()).await;
                continue;
            }
        };
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            connection(shared, stream, tls).await;
            drop(place);
        });
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, tls: TlsAcceptor) {
    // Small replies in both directions: waiting to fill a segment costs 40 ms each time.
    _ = stream.set_nodelay(true);
    if shared.state().faults.is_down {
        return;
    }
    let stream = match deadline(PATIENCE, tls.accept(stream)).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        None => return tracing::debug!("TLS handshake took too long"),
    };
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { answer(&shared, request).await }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).keep_alive(true);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::trace!(%error, "connection ended");
    }
}

async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Lost> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let target = Target::parse(&path);
    let endpoint = target.as_ref().map_or(Endpoint::Unknown, Target::endpoint);
    if let Some(fault) = before(shared, endpoint)? {
        return Ok(response(fault, shared.now()));
    }
    let result = match target {
        Some(target) => dispatch(shared, target, request).await,
        None => Err(Problem::malformed(format!("no resource at {path:?}")).status(404)),
    };
    let mut reply = result.unwrap_or_else(Reply::from);
    let now = shared.now();
    let lost = {
        let mut state = shared.state();
        if method == Method::POST || endpoint == Endpoint::NewNonce {
            let nonce = state.nonces.issue(now);
            reply = reply.with("replay-nonce", nonce);
        }
        state.faults.take_unanswered(endpoint)
    };
    if endpoint != Endpoint::Directory {
        let directory = shared.url("/directory");
        reply = reply.with("link", format!("<{directory}>;rel=\"index\""));
    }
    tracing::trace!(%method, path, status = reply.status, lost, "answered");
    if let Some(log) = &shared.settings.log {
        log(&Seen {
            endpoint,
            method: method.as_str(),
            path: &path,
            status: reply.status,
        });
    }
    if lost {
        Err(Lost)
    } else {
        Ok(response(reply, shared.now()))
    }
}

/// Counts the request, and takes the faults that come before it is looked at.
fn before(shared: &Shared, endpoint: Endpoint) -> Result<Option<Reply>, Lost> {
    let mut state = shared.state();
    *state.requests.entry(endpoint).or_default() += 1;
    if state.faults.is_down || state.faults.take_unread(endpoint) {
        return Err(Lost);
    }
    Ok(state.faults.take_http(endpoint).map(|fault| {
        let body = "<html><body><h1>Not now</h1></body></html>";
        Reply::text(fault.status, "text/html", body).retry_after(fault.retry_after)
    }))
}

async fn dispatch(
    shared: &Arc<Shared>,
    target: Target,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let path = request.uri().path().to_owned();
    let user_agent = request.headers().get(USER_AGENT);
    if user_agent.is_none_or(HeaderValue::is_empty) {
        return Err(Problem::malformed(
            "the request has no User-Agent, RFC 8555 section 6.1",
        ));
    }
    match *request.method() {
        Method::GET | Method::HEAD => plain(shared, &target, request.method()),
        Method::POST if target.takes().is_some() => {
            let takes = target.takes().unwrap_or(Takes::Account);
            let body = body(request).await?;
            let post = Post::verify(shared, &path, takes, &body)?;
            resource(shared, target, &post)
        }
        _ => Err(target.not_allowed()),
    }
}

/// GET and HEAD, which only three resources know (RFC 8555 section 6.3).
fn plain(shared: &Shared, target: &Target, method: &Method) -> Result<Reply, Problem> {
    match target {
        Target::Directory => Ok(Reply::json(200, &directory(shared)?)),
        Target::NewNonce => Ok(Reply::empty(if method == Method::HEAD { 200 } else { 204 })),
        Target::Terms => Ok(Reply::text(200, "text/plain", "For tests only.\n")),
        _ => Err(target.not_allowed()),
    }
}

fn resource(shared: &Arc<Shared>, target: Target, post: &Post) -> Result<Reply, Problem> {
    match target {
        Target::Directory => {
            post.must_be_get()?;
            Ok(Reply::json(200, &directory(shared)?))
        }
        Target::NewNonce => {
            post.must_be_get()?;
            Ok(Reply::empty(204))
        }
        Target::Terms => Err(target.not_allowed()),
        Target::NewAccount => accounts::new_account(shared, post),
        Target::KeyChange => accounts::key_change(shared, post),
        Target::Account(id) => accounts::account(shared, id, post),
        Target::AccountOrders(id) => {
            post.must_be_get()?;
            accounts::orders(shared, id, post)
        }
        Target::NewOrder => orders::new_order(shared, post),
        Target::Order(id) => orders::order(shared, id, post),
        Target::Finalize(id) => orders::finalize(shared, id, post),
        Target::Authorization(id, index) => orders::authorization(shared, id, index, post),
        Target::Challenge(id, index) => orders::challenge(shared, id, index, post),
        Target::Certificate(serial) => orders::certificate(shared, &serial, post),
        Target::RevokeCert => orders::revoke(shared, post),
    }
}

/// RFC 8555 section 7.1.1; the key that means nothing is there for clients to ignore.
fn directory(shared: &Shared) -> Result<Value, Problem> {
    let mut meta = json!({ "termsOfService": shared.url("/terms") });
    if !shared.settings.profiles.is_empty() {
        meta["profiles"] = json!(shared.settings.profiles);
    }
    let mut directory = json!({
        "newNonce": shared.url("/new-nonce"),
        "newAccount": shared.url("/new-account"),
        "newOrder": shared.url("/new-order"),
        "revokeCert": shared.url("/revoke-cert"),
        "keyChange": shared.url("/key-change"),
        "meta": meta,
    });
    directory[random_text()?] = json!("https://www.rfc-editor.org/rfc/rfc8555#section-7.1.1");
    Ok(directory)
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Problem> {
    let media_type = request
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    if media_type != Some(JOSE.as_bytes()) {
        let media_type = String::from_utf8_lossy(media_type.unwrap_or_default());
        let detail = format!("the Content-Type is {media_type:?}, not {JOSE:?}");
        return Err(Problem::malformed(detail).status(415));
    }
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    match deadline(PATIENCE, body).await {
        Some(Ok(body)) => Ok(body.to_bytes()),
        Some(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("the body is larger than {MAX_BODY} octets");
            Err(Problem::malformed(detail).status(413))
        }
        Some(Err(error)) => Err(Problem::malformed(format!("the body broke off: {error}"))),
        None => Err(Problem::malformed("the body took too long").status(408)),
    }
}

fn response(reply: Reply, now: Timestamp) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    // RFC 9110 section 5.6.7.
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        headers.insert(DATE, date);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(media_type) = reply.media_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    response
}

impl Target {
    fn parse(path: &str) -> Option<Target> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let target = match parts.next()? {
            "directory" => Target::Directory,
            "new-nonce" => Target::NewNonce,
            "terms" => Target::Terms,
            "new-account" => Target::NewAccount,
            "new-order" => Target::NewOrder,
            "revoke-cert" => Target::RevokeCert,
            "key-change" => Target::KeyChange,
            "account" => {
                let id = parts.next()?.parse().ok()?;
                match parts.next() {
                    None => Target::Account(id),
                    Some("orders") => Target::AccountOrders(id),
                    Some(_) => return None,
                }
            }
            "order" => {
                let id = parts.next()?.parse().ok()?;
                match parts.next() {
                    None => Target::Order(id),
                    Some("finalize") => Target::Finalize(id),
                    Some(_) => return None,
                }
            }
            "authorization" => {
                Target::Authorization(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)
            }
            "challenge" => {
                Target::Challenge(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)
            }
            "certificate" => Target::Certificate(parts.next()?.to_owned()),
            _ => return None,
        };
        parts.next().is_none().then_some(target)
    }

    fn endpoint(&self) -> Endpoint {
        match self {
            Target::Directory => Endpoint::Directory,
            Target::NewNonce => Endpoint::NewNonce,
            Target::Terms => Endpoint::Unknown,
            Target::NewAccount => Endpoint::NewAccount,
            Target::NewOrder => Endpoint::NewOrder,
            Target::RevokeCert => Endpoint::RevokeCert,
            Target::KeyChange => Endpoint::KeyChange,
            Target::Account(_) | Target::AccountOrders(_) => Endpoint::Account,
            Target::Order(_) => Endpoint::Order,
            Target::Finalize(_) => Endpoint::Finalize,
            Target::Authorization(..) => Endpoint::Authorization,
            Target::Challenge(..) => Endpoint::Challenge,
            Target::Certificate(_) => Endpoint::Certificate,
        }
    }

    /// Who may sign a POST to it; `None` where there is no POST.
    fn takes(&self) -> Option<Takes> {
        match self {
            Target::Terms => None,
            Target::NewAccount => Some(Takes::Key),
            Target::RevokeCert => Some(Takes::Either),
            _ => Some(Takes::Account),
        }
    }

    fn not_allowed(&self) -> Problem {
        let methods = match self {
            Target::Directory | Target::NewNonce => "GET, HEAD, POST",
            Target::Terms => "GET, HEAD",
            _ => "POST",
        };
        Problem::new(
            Kind::Malformed,
            format!("the resource knows only {methods}"),
        )
        .status(405)
        .header("allow", methods.to_owned())
    }
}
