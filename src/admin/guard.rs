//! Who may ask: the Host header, requests from other sites, the admin token.
//!
//! A page in the operator's browser must not be able to reach the admin port. Two ways are closed:
//! a name of the attacker's that resolves to our address (the Host header must be an IP address or
//! `localhost`, unless the token is shown, which such a page cannot know), and requests that a
//! browser marks as coming from elsewhere.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};

/// Paths that need no token wherever they are asked for.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// What shows payloads or changes something needs the token even where only this machine can ask.
const GUARDED: &str = "/api/letters";

/// What requests are measured against.
pub(super) struct Guard {
    token: SecretString,
    /// Whether only this machine can reach the port.
    loopback: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its Host is a name, and it shows no token.
    Host,
    /// A browser says that another site made it.
    CrossSite,
    /// It shows no token, or a wrong one.
    Token,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "the Host header is neither an IP address nor localhost; use one, or show the admin token\n",
            ),
            Self::CrossSite => (StatusCode::FORBIDDEN, "requests from other sites are refused\n"),
            Self::Token => {
                (StatusCode::UNAUTHORIZED, "this needs the admin token: `Authorization: Bearer TOKEN`\n")
            }
        };
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        match self {
            Self::Token => (status, challenge, text).into_response(),
            Self::Host | Self::CrossSite => (status, text).into_response(),
        }
    }
}

/// Lets a request through or refuses it.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.judge(request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

impl Guard {
    pub(super) fn new(token: SecretString, loopback: bool) -> Self {
        Self { token, loopback }
    }

    /// Whether a request for this path with these headers may pass.
    fn judge(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, header::HOST).and_then(|host| host.parse::<Authority>().ok());
        let known = self.knows(headers);
        if !known && !host.as_ref().is_some_and(is_literal) {
            return Err(Refusal::Host);
        }
        if is_cross_site(headers, host.as_ref()) {
            return Err(Refusal::CrossSite);
        }
        let guarded = path.strip_prefix(GUARDED).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !known && (guarded || !self.loopback && !OPEN.contains(&path)) {
            return Err(Refusal::Token);
        }
        Ok(())
    }

    /// Whether the request shows the token. The time it takes tells the token's length at most.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let shown = text(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let (shown, token) =
            (shown.unwrap_or_default().trim().as_bytes(), self.token.expose_secret().as_bytes());
        let different = shown.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
        !token.is_empty() && shown.len() == token.len() && different == 0
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a Host is an address, which no name server can point elsewhere.
fn is_literal(host: &Authority) -> bool {
    let name = host.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// Whether a browser says that a page of another site made the request. Other clients send neither
/// header.
fn is_cross_site(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let fetched = text(headers, header::HeaderName::from_static("sec-fetch-site"));
    if fetched.is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    headers.get(header::ORIGIN).is_some_and(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        !origin.is_some_and(|(_, of)| host.is_some_and(|host| host.as_str().eq_ignore_ascii_case(of)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(loopback: bool, path: &str, given: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(*name, value.parse().unwrap());
        }
        Guard::new("s3cret".into(), loopback).judge(path, &headers)
    }

    const STATUS: &str = "/api/status";

    #[test]
    fn a_host_is_an_address_or_localhost_unless_the_token_is_shown() {
        for host in ["127.0.0.1:9600", "localhost:9600", "LOCALHOST", "[::1]:9600", "10.1.2.3"] {
            assert_eq!(judge(true, STATUS, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:9600", "localhost.evil.example", ""] {
            assert_eq!(judge(true, STATUS, &[("host", host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(judge(true, STATUS, &[]), Err(Refusal::Host));
        let named = ("host", "roomcast.svc:9600");
        assert_eq!(judge(false, STATUS, &[named, ("authorization", "Bearer s3cret")]), Ok(()));
        assert_eq!(judge(false, "/metrics", &[named]), Err(Refusal::Host));
    }

    #[test]
    fn off_the_loopback_the_api_needs_the_token_and_the_probes_do_not() {
        let host = ("host", "10.1.2.3:9600");
        assert_eq!(judge(false, STATUS, &[host]), Err(Refusal::Token));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Basic s3cret", "s3cret"] {
            assert_eq!(
                judge(false, STATUS, &[host, ("authorization", wrong)]),
                Err(Refusal::Token),
                "{wrong}"
            );
        }
        assert_eq!(judge(false, STATUS, &[host, ("authorization", "Bearer s3cret")]), Ok(()));
        for path in OPEN {
            assert_eq!(judge(false, path, &[host]), Ok(()));
        }
    }

    #[test]
    fn letters_need_the_token_even_on_the_loopback() {
        let host = ("host", "127.0.0.1:9600");
        for path in ["/api/letters", "/api/letters/stats", "/api/letters/discard", "/api/letters/replay"] {
            assert_eq!(judge(true, path, &[host]), Err(Refusal::Token), "{path}");
            assert_eq!(judge(true, path, &[host, ("authorization", "Bearer s3cret")]), Ok(()), "{path}");
        }
        assert_eq!(judge(true, "/api/lettersquare", &[host]), Ok(()), "that is no letter");
    }

    #[test]
    fn requests_of_other_sites_are_refused_even_with_the_token() {
        let host = ("host", "127.0.0.1:9600");
        let token = ("authorization", "Bearer s3cret");
        for site in ["cross-site", "same-site"] {
            let refused = judge(true, STATUS, &[host, token, ("sec-fetch-site", site)]);
            assert_eq!(refused, Err(Refusal::CrossSite));
        }
        for origin in ["https://evil.example", "null", "http://127.0.0.1:9601"] {
            assert_eq!(judge(true, STATUS, &[host, ("origin", origin)]), Err(Refusal::CrossSite), "{origin}");
        }
        let own = [host, ("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:9600")];
        assert_eq!(judge(true, STATUS, &own), Ok(()));
    }
}
