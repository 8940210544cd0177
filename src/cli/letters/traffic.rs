//! What a daemon tells of itself: how much of its quotas live traffic leaves to replays now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value as Json;

use crate::app::App;
use crate::core::model::{AccountId, Path};
use crate::http::install_crypto;
use crate::letters::forecast::Parts;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The daemon of a config, which may be another process on this machine.
#[derive(Clone, Debug)]
pub struct Daemon {
    address: SocketAddr,
    token: SecretString,
}

impl Daemon {
    /// Where it is, if it runs.
    ///
    /// # Errors
    /// Why it cannot be asked, for people.
    pub fn of(app: &App) -> Result<Self, String> {
        let token = app.admin.token.clone();
        let token = token.ok_or("[admin] of the config has no token, so that the daemon cannot be asked")?;
        Ok(Self { address: reachable(app.admin.listen), token })
    }

    /// Its `/api/status`.
    ///
    /// # Errors
    /// Why it is not known, for people.
    pub async fn status(&self) -> Result<Json, String> {
        install_crypto();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let client = client.map_err(|error| error.to_string())?;
        let address = self.address;
        // Errors of the client name the address, not the token.
        let ask = client.get(format!("http://{address}/api/status")).bearer_auth(self.token.expose_secret());
        let failed = |_| format!("no daemon answers at {address}");
        let answer = ask.send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("the daemon at {address} answers with HTTP {}", answer.status().as_u16()));
        }
        serde_json::from_slice(&answer.bytes().await.map_err(failed)?)
            .map_err(|_| format!("what answers at {address} is no daemon"))
    }
}

/// The part of each quota that the daemon of this config gives to replays now.
///
/// # Errors
/// Why it is not known, for people.
pub async fn parts(app: &App) -> Result<Parts, String> {
    let status = Daemon::of(app)?.status().await?;
    let mut parts = Parts::new();
    for (account, id) in app.accounts.iter().zip(0..) {
        for path in Path::ALL {
            if let Some(part) = part(&status, &account.name, path) {
                parts.insert((AccountId(id), path), part);
            }
        }
    }
    Ok(parts)
}

fn part(status: &Json, account: &str, path: Path) -> Option<f64> {
    let accounts = status["accounts"].as_array()?;
    let account = accounts.iter().find(|known| known["name"] == account)?;
    account["paths"][path.word()]["background_part"].as_f64()
}

/// Where what listens on all addresses is reached.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_by_account_and_path() {
        let status = serde_json::json!({
            "accounts": [{ "name": "a" }, { "name": "b", "paths": { "room": { "background_part": 0.25 } } }]
        });
        assert_eq!(part(&status, "b", Path::Room), Some(0.25));
        assert_eq!((part(&status, "a", Path::Room), part(&status, "b", Path::Users)), (None, None));
        assert_eq!(part(&Json::Null, "a", Path::Room), None);
        let all: SocketAddr = "0.0.0.0:9600".parse().expect("an address");
        assert_eq!(reachable(all).to_string(), "127.0.0.1:9600");
    }
}
