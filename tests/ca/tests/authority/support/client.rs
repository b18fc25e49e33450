//! A tiny ACME client that can be made to lie. It knows no retries but those on badNonce, and
//! asserts nothing: the tests do.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testca::Authority;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use reqwest::header::HeaderMap;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::nameserver::Nameserver;

pub(crate) struct Client {
    pub(crate) directory: Value,
    pub(crate) key: KeyPair,
    pub(crate) kid: String,
    http: reqwest::Client,
    nonce: Mutex<Option<String>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// A signed request about to be sent, to be spoiled.
pub(crate) struct Draft {
    pub(crate) url: String,
    pub(crate) header: Value,
    pub(crate) payload: String,
    pub(crate) content_type: &'static str,
    pub(crate) spoil_signature: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The HTTP status and the last part of the problem's type.
    pub(crate) fn problem(&self) -> (u16, String) {
        let kind = self.json()["type"].as_str().unwrap_or("none").to_owned();
        if kind != "none" {
            assert_eq!(
                self.header("content-type"),
                Some("application/problem+json")
            );
        }
        (
            self.status,
            kind.trim_start_matches("urn:ietf:params:acme:error:")
                .to_owned(),
        )
    }

    pub(crate) fn status_text(&self) -> String {
        self.json()["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Client {
    pub(crate) async fn new(authority: &Authority) -> Client {
        // Another test may have been first.
        _ = rustls::crypto::ring::default_provider().install_default();
        let root = reqwest::Certificate::from_pem(authority.https_root_pem().as_bytes()).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([root])
            .user_agent("testca-tests")
            .no_proxy()
            .build()
            .unwrap();
        let directory = http.get(authority.directory_url()).send().await.unwrap();
        Client {
            directory: serde_json::from_str(&directory.text().await.unwrap()).unwrap(),
            key: KeyPair::generate().unwrap(),
            kid: String::new(),
            http,
            nonce: Mutex::new(None),
        }
    }

    /// Another client of the same authority, without an account.
    pub(crate) fn sibling(&self) -> Client {
        Client {
            directory: self.directory.clone(),
            key: KeyPair::generate().unwrap(),
            kid: String::new(),
            http: self.http.clone(),
            nonce: Mutex::new(None),
        }
    }

    pub(crate) fn url(&self, resource: &str) -> String {
        self.directory[resource].as_str().unwrap().to_owned()
    }

    pub(crate) async fn register(&mut self) -> Answer {
        let answer = self
            .new_account(&json!({"termsOfServiceAgreed": true}))
            .await;
        self.kid = answer.header("location").unwrap_or_default().to_owned();
        answer
    }

    /// The same with an account.
    pub(crate) async fn registered(mut self) -> Client {
        self.register().await;
        self
    }

    pub(crate) async fn new_account(&self, payload: &Value) -> Answer {
        let mut draft = self
            .draft(&self.url("newAccount"), &payload.to_string())
            .await;
        draft.by_key(&self.key);
        self.send(draft).await
    }

    pub(crate) async fn post(&self, url: &str, payload: &Value) -> Answer {
        self.send(self.draft(url, &payload.to_string()).await).await
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.send(self.draft(url, "").await).await
    }

    pub(crate) async fn plain(&self, method: reqwest::Method, url: &str) -> Answer {
        answer(self.http.request(method, url).send().await.unwrap()).await
    }

    /// A good request, by the account.
    pub(crate) async fn draft(&self, url: &str, payload: &str) -> Draft {
        let nonce = self.nonce().await;
        Draft {
            url: url.to_owned(),
            header: json!({"alg": "ES256", "kid": self.kid, "nonce": nonce, "url": url}),
            payload: payload.to_owned(),
            content_type: "application/jose+json",
            spoil_signature: false,
        }
    }

    /// Signs and sends what was drafted.
    pub(crate) async fn send(&self, draft: Draft) -> Answer {
        self.try_send(draft).await.unwrap()
    }

    pub(crate) async fn try_send(&self, draft: Draft) -> Result<Answer, reqwest::Error> {
        let mut jws = sign(&self.key, &draft.header, &draft.payload);
        if draft.spoil_signature {
            jws["signature"] = json!(URL_SAFE_NO_PAD.encode([7; 64]));
        }
        self.send_body(&draft.url, jws.to_string(), draft.content_type)
            .await
    }

    pub(crate) async fn send_body(
        &self,
        url: &str,
        body: String,
        content_type: &str,
    ) -> Result<Answer, reqwest::Error> {
        let request = self
            .http
            .post(url)
            .header("content-type", content_type)
            .body(body);
        let answer = answer(request.send().await?).await;
        *self.nonce.lock().unwrap() = answer.header("replay-nonce").map(str::to_owned);
        Ok(answer)
    }

    pub(crate) async fn nonce(&self) -> String {
        let kept = self.nonce.lock().unwrap().take();
        match kept {
            Some(nonce) => nonce,
            None => {
                let answer = self
                    .plain(reqwest::Method::HEAD, &self.url("newNonce"))
                    .await;
                assert_eq!(answer.status, 200);
                answer.header("replay-nonce").unwrap().to_owned()
            }
        }
    }

    pub(crate) async fn new_order(&self, names: &[&str]) -> Answer {
        self.post(&self.url("newOrder"), &order_payload(names))
            .await
    }

    /// The TXT value of a challenge.
    pub(crate) fn value(&self, authorization: &Value) -> String {
        let token = authorization["challenges"][0]["token"].as_str().unwrap();
        let jwk = jwk(&self.key);
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk["x"], jwk["y"]
        );
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        let key_authorization = format!("{token}.{thumbprint}");
        URL_SAFE_NO_PAD.encode(digest(&SHA256, key_authorization.as_bytes()))
    }

    /// Answers a challenge and looks until the authorization is decided.
    pub(crate) async fn validate(&self, url: &str) -> Value {
        let authorization = self.get(url).await.json();
        let challenge = authorization["challenges"][0]["url"]
            .as_str()
            .unwrap()
            .to_owned();
        let answer = self.post(&challenge, &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.until(url, |status| status != "pending").await
    }

    /// Looks until the status is as wanted. Every look is a round trip; that is wait enough.
    pub(crate) async fn until(&self, url: &str, wanted: impl Fn(&str) -> bool) -> Value {
        loop {
            let document = self.get(url).await.json();
            if wanted(document["status"].as_str().unwrap_or_default()) {
                return document;
            }
        }
    }

    /// An order with every authorization valid; its URL and document.
    pub(crate) async fn ready_order(
        &self,
        nameserver: &Nameserver,
        names: &[&str],
    ) -> (String, Value) {
        let order = self.new_order(names).await;
        assert_eq!(order.status, 201, "{}", order.text);
        let url = order.header("location").unwrap().to_owned();
        for authorization in order.json()["authorizations"].as_array().unwrap() {
            let authorization = authorization.as_str().unwrap();
            let document = self.get(authorization).await.json();
            let name = document["identifier"]["value"].as_str().unwrap();
            nameserver.txt(&format!("_acme-challenge.{name}"), &self.value(&document));
            let document = self.validate(authorization).await;
            assert_eq!(document["status"], "valid", "{document}");
        }
        let order = self.get(&url).await.json();
        assert_eq!(order["status"], "ready", "{order}");
        (url, order)
    }

    /// The whole way to a certificate: the chain, and the key of the leaf.
    pub(crate) async fn obtain(
        &self,
        nameserver: &Nameserver,
        names: &[&str],
    ) -> (String, KeyPair) {
        let (url, order) = self.ready_order(nameserver, names).await;
        let key = KeyPair::generate().unwrap();
        let answer = self.finalize(&order, &csr(&key, names)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let order = self.until(&url, |status| status == "valid").await;
        let chain = self.get(order["certificate"].as_str().unwrap()).await;
        assert_eq!(chain.status, 200, "{}", chain.text);
        (chain.text, key)
    }

    pub(crate) async fn finalize(&self, order: &Value, csr: &[u8]) -> Answer {
        let url = order["finalize"].as_str().unwrap();
        self.post(url, &json!({"csr": URL_SAFE_NO_PAD.encode(csr)}))
            .await
    }
}

impl Draft {
    /// Signed by a key in its own name instead of by an account.
    pub(crate) fn by_key(&mut self, key: &KeyPair) {
        let header = self.header.as_object_mut().unwrap();
        header.remove("kid");
        header.insert("jwk".to_owned(), jwk(key));
    }
}

pub(crate) fn order_payload(names: &[&str]) -> Value {
    let identifiers: Vec<_> = names
        .iter()
        .map(|name| json!({"type": "dns", "value": name}))
        .collect();
    json!({ "identifiers": identifiers })
}

pub(crate) fn jwk(key: &KeyPair) -> Value {
    let point = key.public_key_raw();
    json!({
        "kty": "EC",
        "crv": "P-256",
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
        "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
    })
}

pub(crate) fn sign(key: &KeyPair, header: &Value, payload: &str) -> Value {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        key.serialized_der(),
        &random,
    )
    .unwrap();
    assert_eq!(key.public_key().as_ref().len(), 65);
    let protected = URL_SAFE_NO_PAD.encode(header.to_string());
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let signature = key
        .sign(&random, format!("{protected}.{payload}").as_bytes())
        .unwrap();
    json!({
        "protected": protected,
        "payload": payload,
        "signature": URL_SAFE_NO_PAD.encode(signature),
    })
}

pub(crate) fn csr(key: &KeyPair, names: &[&str]) -> Vec<u8> {
    csr_named(key, names, None)
}

pub(crate) fn csr_named(key: &KeyPair, names: &[&str], common_name: Option<&str>) -> Vec<u8> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.serialize_request(key).unwrap().der().to_vec()
}

async fn answer(response: reqwest::Response) -> Answer {
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap_or_default(),
    }
}
