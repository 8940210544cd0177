//! Admin: probes, metrics and the JSON API over HTTP.
//!
//! Everything is served on `[admin] listen`; the probes and metrics alone on `probes`, where neither
//! token nor Host is asked for. It reads through the driver's handle and decides nothing. Started by
//! `cli::run`.

mod api;
mod guard;
pub mod letters;
pub mod metrics;
mod status;
#[cfg(test)]
mod tests;
pub mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::core::letter::Names;
use crate::driver::Handle;

/// Where to listen and whom to let in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything.
    pub listen: SocketAddr,
    /// `/livez`, `/readyz` and `/metrics` alone, without a token.
    pub probes: Option<SocketAddr>,
    /// What opens the rest.
    pub token: SecretString,
}

/// What the pages show.
#[derive(Clone, Debug)]
pub struct View {
    /// Asks the loop.
    pub handle: Handle,
    /// Names of sources and accounts.
    pub names: Arc<Names>,
    /// The dead letters.
    pub letters: letters::Desk,
}

/// The listeners at work; dropping it ends them.
#[derive(Debug)]
pub struct Serving {
    /// Where everything is served: the port is the real one when 0 was asked for.
    pub listen: SocketAddr,
    /// Where the probes alone are served.
    pub probes: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Addresses that are listened on already, before there is anything to show.
#[derive(Debug)]
pub struct Bound {
    main: (TcpListener, SocketAddr),
    probes: Option<(TcpListener, SocketAddr)>,
    token: SecretString,
}

/// Takes the addresses, so that one in use is told before anything is started. Fails when an address
/// cannot be listened on.
pub async fn listen(settings: Settings) -> anyhow::Result<Bound> {
    let main = bind(settings.listen, "listen").await?;
    let probes = match settings.probes {
        Some(address) => Some(bind(address, "probes").await?),
        None => None,
    };
    Ok(Bound { main, probes, token: settings.token })
}

impl Bound {
    /// Begins to answer.
    pub fn serve(self, view: View) -> Serving {
        let (main, listen) = self.main;
        let guard = Arc::new(guard::Guard::new(self.token, listen.ip().is_loopback()));
        let everything = probe_routes()
            .merge(api::routes())
            .with_state(view.clone())
            .layer(middleware::from_fn_with_state(guard, guard::check));
        let mut serving = Serving { listen, probes: None, tasks: vec![spawn(main, everything)] };
        if let Some((listener, address)) = self.probes {
            serving.probes = Some(address);
            serving.tasks.push(spawn(listener, probe_routes().with_state(view)));
        }
        serving
    }
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("`admin.{key}` is {address}, where it is not possible to listen"))?;
    let real = listener.local_addr().context("a listener without an address")?;
    Ok((listener, real))
}

fn spawn(listener: TcpListener, router: Router) -> JoinHandle<()> {
    tokio::spawn(async move {
        // axum's accept loop outlives every error of a connection.
        let _ = axum::serve(listener, router).await;
    })
}

fn probe_routes() -> Router<View> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
}

/// 200 while the loops turn.
async fn livez(State(view): State<View>) -> (StatusCode, &'static str) {
    match view.handle.is_live() {
        true => (StatusCode::OK, "the loops turn\n"),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn, or a source has ended by itself\n")
        }
    }
}

/// 200 once every source has joined its broker.
async fn readyz(State(view): State<View>) -> (StatusCode, &'static str) {
    match view.handle.is_ready() {
        true => (StatusCode::OK, "every source has joined its broker\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "a source has not joined its broker yet\n"),
    }
}

async fn metrics_text(State(view): State<View>) -> Response {
    let Some(report) = view.handle.report().await else { return ended() };
    match metrics::encode(report, view.names) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn ended() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the loop has ended\n").into_response()
}
