//! `/api/v1/…`: what the page shows, as JSON.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::Site;
use super::filter::Filter;
use super::model::Example;

const JSON: &str = "application/json";

/// `/api/v1/overview`.
pub async fn overview(State(site): State<Arc<Site>>) -> Response {
    ([(CONTENT_TYPE, JSON)], site.rendered().to_string()).into_response()
}

/// Which endpoint.
#[derive(Debug, Deserialize)]
pub struct Name {
    name: String,
}

/// `/api/v1/endpoint?name=…`.
pub async fn endpoint(
    State(site): State<Arc<Site>>,
    name: Result<Query<Name>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(Name { name })) = name else {
        return missing(StatusCode::BAD_REQUEST, "give ?name=, as /api/v1/overview has it");
    };
    match site.board.endpoint(&name) {
        Some(detail) => json(&detail),
        None => missing(StatusCode::NOT_FOUND, "no such endpoint; see /api/v1/overview"),
    }
}

#[derive(Serialize)]
struct Examples {
    examples: Vec<Example>,
}

/// `/api/v1/examples?endpoint=…&production=…&shadow=…&verdict=…&field=…`.
pub async fn examples(
    State(site): State<Arc<Site>>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Response {
    match filter {
        Ok(Query(filter)) => json(&Examples { examples: site.board.examples(&filter) }),
        Err(_) => missing(
            StatusCode::BAD_REQUEST,
            "the filter is one of endpoint, production, shadow, verdict and field",
        ),
    }
}

/// `/api/v1/examples/{id}`.
pub async fn example(State(site): State<Arc<Site>>, id: Path<String>) -> Response {
    match site.board.example(&id) {
        Some(pair) => json(&pair),
        None => missing(
            StatusCode::NOT_FOUND,
            "this example is no longer kept: newer ones have taken its place",
        ),
    }
}

fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(CONTENT_TYPE, JSON)], text).into_response(),
        Err(error) => missing(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn missing(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}
