//! The routes of the JSON API, and the OpenAPI file that describes them.
//!
//! One table: the router is made of it, and a test compares it with `docs/openapi.json` both ways.

use axum::Router;
use axum::extract::State;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use serde_json::Value;

use super::{View, ended, letters, status};

/// A route of the API.
pub(super) struct Route {
    /// The one that it answers.
    pub(super) method: Method,
    /// With parameters as OpenAPI and axum both write them.
    pub(super) path: &'static str,
    serve: fn(MethodFilter) -> MethodRouter<View>,
}

/// All routes under `/api/`.
pub(super) const ROUTES: &[Route] = &[
    Route { method: Method::GET, path: "/api/openapi.json", serve: |method| on(method, openapi) },
    Route { method: Method::GET, path: "/api/status", serve: |method| on(method, api_status) },
    Route { method: Method::GET, path: "/api/letters", serve: |method| on(method, letters::list) },
    Route { method: Method::GET, path: "/api/letters/stats", serve: |method| on(method, letters::stats) },
    Route { method: Method::GET, path: "/api/letters/{letter}", serve: |method| on(method, letters::show) },
    Route {
        method: Method::POST,
        path: "/api/letters/discard",
        serve: |method| on(method, letters::discard),
    },
    Route {
        method: Method::POST,
        path: "/api/letters/replay",
        serve: |method| on(method, letters::replay::replay),
    },
];

/// JSON on a line of its own, so that a terminal's next line begins where it should.
#[derive(Debug)]
pub(super) struct Answer(pub(super) Value);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], format!("{}\n", self.0)).into_response()
    }
}

/// The description of all routes.
pub(super) const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// The router of [`ROUTES`].
pub(super) fn routes() -> Router<View> {
    ROUTES.iter().fold(Router::new(), |router, route| {
        let method = MethodFilter::try_from(route.method.clone()).expect("methods here are those of HTTP");
        router.route(route.path, (route.serve)(method))
    })
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn api_status(State(view): State<View>) -> Response {
    match view.handle.detailed_report().await {
        Some(report) => Answer(status::json(&report, &view.names)).into_response(),
        None => ended(),
    }
}
