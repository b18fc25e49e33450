//! One signed call of one service (Signature Version 4).

use http::HeaderValue;
use http::header::{HOST, HeaderName};
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::SignRequest;
use reqsign_core::hash::hex_sha256;
use reqwest::Url;

use crate::http::{Ask, Http, Reply};
use crate::{Context, ErrorKind, ProviderError};

/// The digest of the body, which is signed with it.
const DIGEST: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// A service of Amazon: where it is, and what its signatures name.
pub(super) struct Service {
    http: Http,
    signer: RequestSigner,
}

impl Service {
    /// The service `name` at `endpoint`; nothing is asked before the first call.
    pub(super) fn new(name: &str, region: &str, endpoint: Url) -> Self {
        Self {
            http: Http::new(endpoint),
            signer: RequestSigner::new(name, region),
        }
    }

    /// The host and port, for sentences.
    pub(super) fn host(&self) -> String {
        self.http.host()
    }

    /// The reply to `ask`, signed with `credential`, whatever its status.
    pub(super) async fn call(
        &self,
        ask: Ask,
        credential: &Credential,
        context: &Context,
    ) -> Result<Reply, ProviderError> {
        let (method, headers, body) = ask.parts();
        let digest = HeaderValue::from_str(&hex_sha256(body));
        let request = http::Request::builder()
            .method(method)
            .uri(self.http.url_of(&ask).as_str())
            .header(DIGEST, digest.map_err(|error| unsigned(&error))?)
            .body(());
        let (mut head, ()) = request.map_err(|error| unsigned(&error))?.into_parts();
        head.headers.extend(headers.clone());
        let nothing = reqsign_core::Context::new();
        let signed = (self.signer)
            .sign_request(&nothing, &mut head, Some(credential), None)
            .await;
        signed.map_err(|error| unsigned(&error))?;
        // The client sets the same.
        head.headers.remove(HOST);
        self.http.send(ask.headers(head.headers), context).await
    }
}

/// Only a credential can be the reason: an empty one, or one with a character that cannot stand in a header.
fn unsigned(error: &dyn std::error::Error) -> ProviderError {
    let message = format!("no request can be signed with this credential: {error}");
    ProviderError::new(ErrorKind::Auth, message)
        .hint("look whether the access key, its secret or the session token was cut or has a line end in it")
}
