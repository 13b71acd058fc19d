//! Exchanges made by hand, for unit tests.

use std::time::Duration;

use shadow_engine::compare::{Comparison, Difference, Kind, Verdict};
use shadow_engine::exchange::{
    Body, Exchange, Head, Protocol, Request, Response, Status, Unpaired,
};
use shadow_engine::time::Instant;

/// When [`exchange`]'s request was captured.
pub const AT: Instant = Instant::from_nanos(2_000_000_000);

/// An answer that took so many milliseconds.
pub fn response(status: u16, body: &str, millis: u64) -> Response {
    let head = format!(
        "HTTP/1.1 {status} So\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Response {
        status: Status::Http(status),
        head: Head::Http1(head.into_bytes().into()),
        trailers: Head::default(),
        body: whole(body),
        asked_at: AT,
        first_at: AT + Duration::from_millis(millis) / 2,
        ended_at: AT + Duration::from_millis(millis),
    }
}

/// `GET target`, answered on both legs as given.
pub fn exchange(
    target: &str,
    production: Result<Response, Unpaired>,
    shadow: Result<Response, Unpaired>,
) -> Exchange {
    let head = format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    Exchange {
        protocol: Protocol::Http1,
        client: "[::ffff:10.0.0.7]:40000".parse().expect("address"),
        server: "10.0.0.5:80".parse().expect("address"),
        number: 3,
        request: Request {
            at: AT,
            method: "GET".into(),
            target: target.into(),
            head: Head::Http1(head.into_bytes().into()),
            body: Body::default(),
        },
        production,
        shadow,
    }
}

/// A body that was kept whole.
pub fn whole(text: &str) -> Body {
    Body { len: text.len() as u64, kept: text.as_bytes().to_vec(), hash: Some(1) }
}

/// A comparison with these differences: path, kind, whether it is noise.
pub fn comparison(verdict: Verdict, differences: &[(&str, Kind, bool)]) -> Comparison {
    let differences = differences.iter().map(|(path, kind, noise)| Difference {
        path: (*path).into(),
        kind: *kind,
        production: Some("1".into()),
        shadow: Some("<b>2</b>\n".into()),
        noise: *noise,
    });
    Comparison {
        endpoint: "GET /items/{id}".into(),
        verdict,
        differences: differences.collect(),
        more: 0,
        opaque: None,
    }
}
