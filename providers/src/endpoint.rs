//! Where an API is, as people write it down.

use url::Url;

use crate::http::judge_endpoint;

/// Reads the base address of an API; an error is a sentence. What an address could carry besides would be left out of
/// requests, or shown in messages.
pub fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(Url::has_host);
    let url = url.ok_or("this is not a URL with a host")?;
    let has_more = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some();
    if has_more {
        let why = "the address of an API has no user name, password, query or fragment";
        return Err(why.to_owned());
    }
    judge_endpoint(&url)?;
    Ok(url)
}
