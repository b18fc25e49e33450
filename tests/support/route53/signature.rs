//! Signature Version 4, verified as AWS documents it.

use ring::{digest, hmac};

use super::http::Request;

/// What a signature names and says.
pub struct Claim {
    pub key: String,
    pub scope: [String; 3],
    signed: Vec<String>,
    signature: String,
}

/// Reads the `Authorization` header.
pub fn claim(request: &Request) -> Option<Claim> {
    let header = request.header("authorization")?;
    let parts = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
    let part = |name: &str| {
        let mut parts = parts.split(',').map(str::trim);
        parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    };
    let credential: Vec<&str> = part("Credential")?.split('/').collect();
    let [key, date, region, service, "aws4_request"] = credential[..] else {
        return None;
    };
    Some(Claim {
        key: key.to_owned(),
        scope: [date, region, service].map(str::to_owned),
        signed: part("SignedHeaders")?
            .split(';')
            .map(str::to_owned)
            .collect(),
        signature: part("Signature")?.to_owned(),
    })
}

impl Claim {
    /// Whether the header was signed.
    pub fn covers(&self, header: &str) -> bool {
        self.signed.iter().any(|name| name == header)
    }

    /// Whether `secret` makes this signature of `request`.
    pub fn fits(&self, request: &Request, secret: &str) -> bool {
        let date = request.header("x-amz-date").unwrap_or_default();
        let body = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
        let stated = request.header("x-amz-content-sha256");
        if stated.is_some_and(|stated| stated != body) || !self.covers("host") {
            return false;
        }
        let mut query: Vec<String> = (request.query.iter())
            .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
            .collect();
        query.sort();
        let headers: String = (self.signed.iter())
            .map(|name| {
                format!(
                    "{name}:{}\n",
                    request.header(name).unwrap_or_default().trim()
                )
            })
            .collect();
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{}\n{body}",
            request.method,
            request.path,
            query.join("&"),
            self.signed.join(";")
        );
        let [day, region, service] = &self.scope;
        let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text =
            format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/{service}/aws4_request\n{digest}");
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [day.as_str(), region, service, "aws4_request"] {
            key = mac(&key, part.as_bytes());
        }
        date.starts_with(day.as_str()) && hex(&mac(&key, text.as_bytes())) == self.signature
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text).as_ref().to_vec()
}

fn encoded(text: &str) -> String {
    (text.bytes())
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
