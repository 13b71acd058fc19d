//! The page of `--listen`, and the same as JSON.

pub mod access;
mod api;
mod assets;
pub mod board;
pub mod connection;
mod events;
pub mod example;
pub mod filter;
pub mod model;
mod tally;
mod token;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use tokio::sync::Semaphore;

use access::Access;
use board::Board;

pub use token::Token;

/// Nothing but this page's own files, and nobody around it: should a server's text ever become
/// markup, the browser still runs nothing and sends nothing anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// How old an overview may be that is given to several readers.
const FRESH: Duration = Duration::from_millis(400);

/// What all requests share.
pub struct Site {
    board: Board,
    access: Access,
    streams: Arc<Semaphore>,
    rendered: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Site {
    /// A page about `board` for those whom `access` lets in.
    pub fn new(board: Board, access: Access) -> Arc<Self> {
        let streams = Arc::new(Semaphore::new(events::MOST));
        Arc::new(Self { board, access, streams, rendered: Mutex::default() })
    }

    /// The overview as JSON, rendered once for all that ask at about the same time.
    fn rendered(&self) -> Arc<str> {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = &*rendered
            && at.elapsed() < FRESH
        {
            return Arc::clone(text);
        }
        let text = serde_json::to_string(&self.board.overview()).unwrap_or_default();
        let text: Arc<str> = text.into();
        *rendered = Some((Instant::now(), Arc::clone(&text)));
        text
    }
}

/// The routes, each behind [`Access`].
pub fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(|| async { assets::content(assets::PAGE) }))
        .route("/assets/{name}", get(|Path(name): Path<String>| async move { assets::file(&name) }))
        .route("/api/v1/overview", get(api::overview))
        .route("/api/v1/endpoint", get(api::endpoint))
        .route("/api/v1/examples", get(api::examples))
        .route("/api/v1/examples/{id}", get(api::example))
        .route("/api/v1/events", get(events::events))
        .layer(from_fn_with_state(Arc::clone(&site), guarded))
        .with_state(site)
}

async fn guarded(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    // Asked for again each time: another version of the daemon may have another page.
    let is_file = request.uri().path() == "/" || request.uri().path().starts_with("/assets/");
    let mut response = match site.access.refuse(request.uri(), request.headers()) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let keep = if is_file && response.status().is_success() { "no-cache" } else { "no-store" };
    let headers = response.headers_mut();
    let fields = [
        (CACHE_CONTROL, keep),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fields {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
