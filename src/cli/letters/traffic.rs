//! How much of its quotas a daemon uses now, as its own `/api/status` tells.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::app::App;
use crate::core::model::{AccountId, Path};
use crate::http::install_crypto;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long its calls are counted.
const COUNTED: Duration = Duration::from_secs(2);

/// The part (0 to 1) of the calls a second that is used, by account and path.
pub type Used = BTreeMap<(AccountId, Path), f64>;

/// Asks the daemon of this config, which may be another process on this machine.
///
/// # Errors
/// Why it is not known, for people.
pub async fn used(app: &App) -> Result<Used, String> {
    let token = app.admin.token.as_ref();
    let token = token.ok_or("[admin] of the config has no token, so that the daemon cannot be asked")?;
    install_crypto();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
    let client = client.map_err(|error| error.to_string())?;
    let address = reachable(app.admin.listen);
    let ask = async || -> Result<Json, String> {
        // Errors of the client name the address, not the token.
        let asked = client.get(format!("http://{address}/api/status")).bearer_auth(token.expose_secret());
        let failed = |_| format!("no daemon answers at {address}");
        let answer = asked.send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("the daemon at {address} answers with HTTP {}", answer.status().as_u16()));
        }
        serde_json::from_slice(&answer.bytes().await.map_err(failed)?)
            .map_err(|_| format!("what answers at {address} is no daemon"))
    };
    let (before, began) = (ask().await?, Instant::now());
    tokio::time::sleep(COUNTED).await;
    let (after, seconds) = (ask().await?, began.elapsed().as_secs_f64());
    let mut used = Used::new();
    for (account, id) in app.accounts.iter().zip(0..) {
        for path in Path::ALL {
            let (Some(before), Some(after)) =
                (calls(&before, &account.name, path), calls(&after, &account.name, path))
            else {
                continue;
            };
            let quota = account.provider.limits().paths[path as usize].calls_per_second;
            #[expect(clippy::cast_precision_loss, reason = "calls of two seconds")]
            let rate = after.saturating_sub(before) as f64 / seconds;
            used.insert((AccountId(id), path), (rate / f64::from(quota)).clamp(0.0, 1.0));
        }
    }
    Ok(used)
}

/// Calls since the daemon's start.
fn calls(status: &Json, account: &str, path: Path) -> Option<u64> {
    let accounts = status["accounts"].as_array()?;
    let account = accounts.iter().find(|known| known["name"] == account)?;
    account["paths"][path.word()]["calls"].as_u64()
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
    fn calls_are_found_by_account_and_path() {
        let status = serde_json::json!({
            "accounts": [{ "name": "a" }, { "name": "b", "paths": { "room": { "calls": 7 } } }]
        });
        assert_eq!(calls(&status, "b", Path::Room), Some(7));
        assert_eq!((calls(&status, "a", Path::Room), calls(&status, "b", Path::Users)), (None, None));
        assert_eq!(calls(&Json::Null, "a", Path::Room), None);
        let all: SocketAddr = "0.0.0.0:9600".parse().expect("an address");
        assert_eq!(reachable(all).to_string(), "127.0.0.1:9600");
    }
}
