//! Server-sent events: the overview again and again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::time::{MissedTickBehavior, interval};

use super::Site;

/// Streams at once.
pub const MOST: usize = 16;
/// How often an overview is sent.
const EVERY: Duration = Duration::from_secs(1);

/// `/api/v1/events`. A stream whose reader is slow skips overviews: the next is made when it can be
/// written, and a connection that takes nothing is dropped (see [`super::connection`]).
pub async fn events(State(site): State<Arc<Site>>) -> Response {
    let Ok(place) = Arc::clone(&site.streams).try_acquire_owned() else {
        let text = format!("{MOST} pages are open, which is all there can be; close one\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let overviews = stream::unfold((site, ticks, place), |(site, mut ticks, place)| async move {
        ticks.tick().await;
        let event = Event::default().event("overview").data(&*site.rendered());
        Some((Ok::<_, Infallible>(event), (site, ticks, place)))
    });
    Sse::new(overviews).into_response()
}
