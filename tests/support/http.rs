//! Plain HTTP to what a test has started: probes, metrics, the simulator's own endpoints. No
//! retries, no proxy.

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::Client;

use super::block_on;

static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    // The client is built without a TLS provider of its own; another test may have installed one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client without TLS roots")
});

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: String,
}

/// GET; `None` when there was no answer.
pub fn get(url: &str) -> Option<Answer> {
    answer(CLIENT.get(url))
}

/// GET with the admin token; `None` when there was no answer.
pub fn get_with_token(url: &str, token: &str) -> Option<Answer> {
    answer(CLIENT.get(url).bearer_auth(token))
}

/// POST of a JSON text with the admin token; `None` when there was no answer.
pub fn post_with_token(url: &str, token: &str, json: String) -> Option<Answer> {
    answer(CLIENT.post(url).bearer_auth(token).header("content-type", "application/json").body(json))
}

/// POST of a JSON text with these headers alone; `None` when there was no answer.
pub fn post(url: &str, headers: &[(&str, &str)], json: String) -> Option<Answer> {
    let request = CLIENT.post(url).header("content-type", "application/json");
    answer(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(json))
}

/// POST of a form with more headers; `None` when there was no answer.
pub fn post_form(url: &str, headers: &[(&str, &str)], form: String) -> Option<Answer> {
    let request = CLIENT.post(url).header("content-type", "application/x-www-form-urlencoded;charset=utf-8");
    answer(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(form))
}

/// PUT of a JSON text; `None` when there was no answer.
pub fn put(url: &str, json: String) -> Option<Answer> {
    answer(CLIENT.put(url).header("content-type", "application/json").body(json))
}

fn answer(request: reqwest::RequestBuilder) -> Option<Answer> {
    block_on(async {
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some(Answer { status, body: response.text().await.ok()? })
    })
}
