//! A shop's exchanges, made by hand: what a page about a release that is nearly good shows.

use std::net::SocketAddr;
use std::time::Duration;

use shadow_engine::compare::{Comparer, Kind, Noise, Rules, Tallies, TallyBounds};
use shadow_engine::exchange::{
    Body, Exchange, Head, Protocol, Request, Response, Status, Unpaired,
};
use shadow_engine::time::Instant;
use shadow_user::compare::Compared;

/// One endpoint: how often it is asked, and how the shadow fares.
struct Endpoint {
    method: &'static str,
    /// `#` is a number.
    path: &'static str,
    weight: u64,
    millis: f64,
    /// The shadow's time beside production's.
    factor: f64,
    flaw: Flaw,
    /// Of so many requests one has the flaw.
    one_in: u64,
}

#[derive(Clone, Copy)]
enum Flaw {
    None,
    Status,
    Missing,
    Header,
    Price,
    Order,
}

const fn endpoint(method: &'static str, path: &'static str, weight: u64, millis: f64) -> Endpoint {
    Endpoint { method, path, weight, millis, factor: 1.04, flaw: Flaw::None, one_in: 1 }
}

const ENDPOINTS: [Endpoint; 12] = [
    Endpoint { flaw: Flaw::Price, one_in: 41, ..endpoint("GET", "/products/#", 2_400, 3.1) },
    Endpoint { flaw: Flaw::Header, one_in: 90, ..endpoint("GET", "/search", 1_500, 14.0) },
    Endpoint { factor: 38.0, ..endpoint("GET", "/products/#/reviews", 210, 6.4) },
    Endpoint { flaw: Flaw::Status, one_in: 25, ..endpoint("POST", "/checkout", 150, 24.0) },
    Endpoint { flaw: Flaw::Missing, one_in: 160, ..endpoint("POST", "/cart/items", 640, 8.0) },
    Endpoint { flaw: Flaw::Order, one_in: 70, ..endpoint("GET", "/users/#/orders", 560, 9.5) },
    endpoint("GET", "/cart", 800, 4.2),
    endpoint("GET", "/users/#", 620, 2.6),
    endpoint("PUT", "/users/#/address", 60, 11.0),
    endpoint("DELETE", "/cart/items/#", 90, 5.0),
    endpoint("GET", "/categories", 330, 1.9),
    endpoint("GET", "/status", 110, 0.4),
];

/// Everything that was asked, compared.
#[must_use]
pub fn compared() -> Compared {
    let mut run = Run::new();
    for endpoint in &ENDPOINTS {
        for number in 0..endpoint.weight {
            let exchange = run.exchange(endpoint, number);
            run.record(&exchange);
        }
    }
    run.compared()
}

/// Text that would script a page that took it for markup.
pub const HOSTILE: &str = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>\
                           </td></table><svg onload=window.hacked=1>\"'`${window.hacked=1}";

/// One exchange, hostile in its path, header, status reason and body.
#[must_use]
pub fn hostile() -> Compared {
    let mut run = Run::new();
    let target = format!("/{}", HOSTILE.replace(' ', "%20"));
    let production = run.response(200, "OK", &format!("X-Hostile: {HOSTILE}\r\n"), HOSTILE, 1.0);
    let body = format!("{{\"{HOSTILE}\": 1}}");
    let shadow = run.response(299, HOSTILE, &format!("X-{HOSTILE}: 1\r\n"), &body, 1.0);
    let exchange = run.pair("GET", &target, Ok(production), Ok(shadow));
    run.record(&exchange);
    // The same status, so that fields and values are looked at.
    let production = run.response(200, "OK", "X-A: 1\r\n", "{\"a\": 1}", 1.0);
    let json = serde_json::json!({ "a": HOSTILE, HOSTILE: [1] }).to_string();
    let shadow = run.response(200, HOSTILE, &format!("X-A: {HOSTILE}\r\n"), &json, 1.0);
    let exchange = run.pair("GET", "/fields", Ok(production), Ok(shadow));
    run.record(&exchange);
    run.compared()
}

struct Run {
    comparer: Comparer,
    noise: Noise,
    tallies: Tallies,
    /// Of a generator with known steps (Knuth's MMIX).
    state: u64,
    at: Instant,
    count: u64,
}

impl Run {
    fn new() -> Self {
        let mut noise = Noise::default();
        for path in ["body.request_id", "body.generated_at"] {
            noise.insert(&"GET /products/{id}".into(), &path.into(), Kind::Primitive);
        }
        let bounds = TallyBounds { bodies: true, ..TallyBounds::default() };
        Self {
            comparer: Comparer::new(Rules::default()).unwrap_or_else(|error| panic!("{error}")),
            noise,
            tallies: Tallies::new(bounds),
            state: 7,
            at: Instant::from_nanos(1 << 40),
            count: 0,
        }
    }

    fn record(&mut self, exchange: &Exchange) {
        let comparison = self.comparer.compare(exchange, &self.noise);
        self.tallies.record(exchange, &comparison);
    }

    fn compared(self) -> Compared {
        Compared { tallies: self.tallies, noise: self.noise, ..Compared::default() }
    }

    fn next(&mut self) -> u64 {
        let product = self.state.wrapping_mul(6_364_136_223_846_793_005);
        self.state = product.wrapping_add(1_442_695_040_888_963_407);
        self.state >> 33
    }

    /// About normal, around 0 with a deviation of 1: the sum of twelve equal chances less six.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next() as f64 / f64::from(1_u32 << 31)).sum::<f64>() - 6.0
    }

    fn exchange(&mut self, endpoint: &Endpoint, number: u64) -> Exchange {
        let id = 1_000 + self.next() % 9_000;
        let target = endpoint.path.replace('#', &id.to_string());
        let flaw = match number % endpoint.one_in {
            0 => endpoint.flaw,
            _ => Flaw::None,
        };
        let millis = endpoint.millis * (0.45 * self.normal()).exp();
        let slower = endpoint.factor * (0.25 * self.normal()).exp();
        let production = self.answer(endpoint, id, Flaw::None, millis);
        let shadow = match flaw {
            Flaw::Missing => Err(Unpaired::Closed),
            flaw => Ok(self.answer(endpoint, id, flaw, millis * slower)),
        };
        self.pair(endpoint.method, &target, Ok(production), shadow)
    }

    fn answer(&mut self, endpoint: &Endpoint, id: u64, flaw: Flaw, millis: f64) -> Response {
        let cache = if matches!(flaw, Flaw::Header) { "no-store" } else { "max-age=60" };
        let fields = format!("Content-Type: application/json\r\nCache-Control: {cache}\r\n");
        let body = match (endpoint.path, flaw) {
            (_, Flaw::Status) => {
                return self.response(
                    500,
                    "Internal Server Error",
                    &fields,
                    "{\"error\": \"no such column: vat_rate\"}",
                    millis,
                );
            }
            ("/products/#", flaw) => {
                let amount = id as f64 / 100.0;
                let price = match flaw {
                    Flaw::Price if id.is_multiple_of(3) => format!("{{\"amount\": {amount}}}"),
                    Flaw::Price => format!("{{\"amount\": \"{amount}\", \"currency\": \"EUR\"}}"),
                    _ => format!("{{\"amount\": {amount}, \"currency\": \"EUR\"}}"),
                };
                let request = self.next();
                format!(
                    "{{\n  \"id\": {id},\n  \"name\": \"Lamp\",\n  \"price\": {price},\n  \
                     \"tags\": [\"home\", \"light\"],\n  \"request_id\": \"{request:08x}\"\n}}"
                )
            }
            ("/users/#/orders", Flaw::Order) => "{\"orders\": [311, 298, 254]}".to_owned(),
            ("/users/#/orders", _) => "{\"orders\": [254, 298, 311]}".to_owned(),
            _ => format!("{{\"id\": {id}, \"ok\": true}}"),
        };
        self.response(200, "OK", &fields, &body, millis)
    }

    fn response(
        &mut self,
        status: u16,
        reason: &str,
        fields: &str,
        body: &str,
        millis: f64,
    ) -> Response {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nServer: nginx\r\n{fields}Content-Length: {length}\r\n\r\n"
        );
        let took = Duration::from_secs_f64(millis / 1e3);
        let hash =
            body.bytes().fold(5_381_u64, |hash, octet| hash.wrapping_mul(33) ^ u64::from(octet));
        Response {
            status: Status::Http(status),
            head: Head::Http1(head.into_bytes().into()),
            trailers: Head::default(),
            body: Body { len: length as u64, kept: body.as_bytes().to_vec(), hash: Some(hash) },
            asked_at: self.at,
            first_at: self.at + took / 2,
            ended_at: self.at + took,
        }
    }

    fn pair(
        &mut self,
        method: &str,
        target: &str,
        production: Result<Response, Unpaired>,
        shadow: Result<Response, Unpaired>,
    ) -> Exchange {
        self.count += 1;
        let at = self.at;
        self.at = at + Duration::from_micros(900);
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/8.5.0\r\n\
             Accept: application/json\r\nCookie: sid=6fd1\r\n\r\n"
        );
        Exchange {
            protocol: Protocol::Http1,
            client: SocketAddr::from(([10, 1, 7, (self.count % 250) as u8], 40_112)),
            server: SocketAddr::from(([10, 0, 0, 5], 80)),
            number: self.count % 12,
            request: Request {
                at,
                method: method.into(),
                target: target.into(),
                head: Head::Http1(head.into_bytes().into()),
                body: Body::default(),
            },
            production,
            shadow,
        }
    }
}
