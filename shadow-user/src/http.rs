//! `/metrics` and `/healthz`, and beside them the page.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::compare::Seen;
use crate::kernel;
use crate::report::{Exposition, Snapshot, metrics};
use crate::web::access::Access;
use crate::web::board::{Board, Run};
use crate::web::{self, Site};
use crate::worker::Published;

/// A worker that has not published for this long is stuck.
pub(crate) const STALE: Duration = Duration::from_secs(2);

/// A listener, and who may see its page.
#[derive(Debug)]
pub struct Listening {
    /// Bound, not blocking.
    pub listener: TcpListener,
    /// The rule.
    pub access: Access,
}

/// What is served.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The worker's moments.
    pub published: Published,
    /// The comparison's moments; none when nothing is compared.
    pub seen: Option<Seen>,
}

/// Answers until it is dropped; `run` is what the page tells of the run.
///
/// # Errors
/// When the listener is not one that tokio can drive.
pub async fn serve(listening: Listening, sources: Sources, run: Run) -> anyhow::Result<()> {
    let Listening { listener, access } = listening;
    let listener = tokio::net::TcpListener::from_std(listener).context("--listen is unusable")?;
    let listener = web::connection::Connections::new(listener);
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health_page))
        .with_state(sources.clone())
        .merge(web::router(Site::new(Board::new(run, sources), access)));
    axum::serve(listener, router).await.context("the metrics server ended")
}

async fn metrics_page(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = Exposition::accepted(accept);
    let compared = sources.seen.map(|seen| seen.load_full());
    match metrics::render(&sources.published.load(), compared, exposition) {
        Ok(text) => ([(CONTENT_TYPE, exposition.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn health_page(State(sources): State<Sources>) -> (StatusCode, String) {
    let snapshot = sources.published.load();
    health(&snapshot, kernel::now().since(snapshot.at))
}

fn health(snapshot: &Snapshot, age: Duration) -> (StatusCode, String) {
    if age > STALE {
        let text = format!("the worker has been silent for {:.1} s\n", age.as_secs_f64());
        return (StatusCode::SERVICE_UNAVAILABLE, text);
    }
    (StatusCode::OK, format!("{}\n", snapshot.phase.label()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_worker_is_unhealthy() {
        let snapshot = Snapshot::default();
        assert_eq!(
            health(&snapshot, Duration::from_millis(10)),
            (StatusCode::OK, "capturing\n".to_owned())
        );
        assert_eq!(health(&snapshot, Duration::from_secs(3)).0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
